"""The proof of a potential for any map, in steps: chain rule, motion, conservation, mirror map, convexity, limits.

Steps that every map has must be proved, or there is no derivation; steps about closed forms are tried within a budget of
algebra, and a closed form without its proof is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy as sp

from ._budget import STEPS, within
from ._closed_forms import ClosedForms, shortest, solve_mirror, tidy
from ._derivation import Derivation
from ._steps import PAST, TIME
from ._tangent_mirror import tangent_forms

__all__ = ["antiderivative_of", "closed", "conjugacy", "convexity", "kernel_limit", "motion", "rich_limit", "tried"]


def tried(d: Derivation, method: Callable[..., None], *arguments: Any, steps: int = 4 * STEPS) -> bool:
    """Try to add a step within a budget, and say whether it was proved."""
    before = len(d.steps)
    within(steps, method, *arguments)
    return len(d.steps) > before


def antiderivative_of(d: Derivation, f: sp.Expr, w: sp.Symbol, forms: ClosedForms, alpha: sp.Symbol) -> Callable[..., sp.Expr]:
    """Give F with `F' = 1/f'`: a closed form if there is one, else the integral from alpha."""
    x = sp.Symbol("x", real=True)

    def travel(weight: sp.Expr) -> sp.Expr:
        if forms.travel is not None:
            return forms.travel.subs(w, weight)
        return sp.Integral((1 / sp.diff(f, w)).subs(w, x), (x, alpha, weight))

    d.equal("F is an antiderivative of 1/f'", "differentiation" if forms.travel is not None
            else "the fundamental theorem of calculus (no closed form of F was found)",
            sp.Derivative(travel(w), w), 1 / sp.diff(f, w))
    return travel


def motion(d: Derivation, f: sp.Expr, w: sp.Symbol, travel: Callable[..., sp.Expr], rate: sp.Rational, shrink: sp.Expr) -> None:
    """Prove what a weight obeys: chain rule, motion of F, conserved quantity.

    Parameters
    ----------
    shrink : sympy.Expr
        The part of the velocity of `w` that is not `-+ f'(w) p`, per unit of the rule's q: 0 for gradient flow.
    """
    slope = sp.diff(f, w)
    names = sp.symbols("u_1 u_2 v_1 v_2", positive=True) if w.is_positive else sp.symbols("u_1 u_2 v_1 v_2", real=True)
    rows, y = sp.symbols("x_1 x_2", real=True), sp.Symbol("y", real=True)
    r = sp.Add(*(x * (f.subs(w, u) - f.subs(w, v)) for x, u, v in zip(rows, names[:2], names[2:], strict=True))) - y
    loss = d.define(sp.Function("L")(*names), r**2 / 4, "loss of one sample; it is linear in the samples")
    g = [x * r / 2 for x in rows]
    d.equal("Gradient of the loss in the weights", "the chain rule through beta = f(u) - f(v), with g the gradient in beta",
            sp.Matrix([sp.Derivative(loss, name) for name in names]),
            sp.Matrix([slope.subs(w, n) * a for n, a in zip(names[:2], g, strict=True)]
                      + [-slope.subs(w, n) * a for n, a in zip(names[2:], g, strict=True)]))
    options = {"positive": True} if w.is_positive else {"real": True}
    u, v = (sp.Function(name, **options)(TIME) for name in "uv")
    p, q = sp.Function("p", real=True), sp.Function("q", real=True)
    for one, sign in ((u, -1), (v, 1)):
        d.define(sp.Derivative(one, TIME), sign * rate * slope.subs(w, one) * p(TIME) - shrink.subs(w, one) * q(TIME),
                 "motion of one coordinate")
    if shrink == 0:
        d.assume("p = g, the gradient of the loss in beta; it is in the row space of X")
    for one, sign, name in ((u, -1, "u"), (v, 1, "v")):
        d.equal(f"Motion of F({name})", "differentiation along the motion", sp.Derivative(travel(one), TIME),
                sign * rate * p(TIME) - tidy((shrink / slope).subs(w, one)) * q(TIME))
    if shrink == 0:
        u0, v0 = (sp.Symbol(name, **options) for name in ("u0", "v0"))
        d.define(u.subs(TIME, 0), u0, "start")
        d.define(v.subs(TIME, 0), v0, "start")
        integral = sp.Integral(p(PAST), (PAST, 0, TIME))
        d.by_differentiation("Conserved quantity", "the sum of the two", travel(u) + travel(v), travel(u0) + travel(v0),
                             TIME, sp.S.Zero)
        d.by_differentiation("F(u) at time t", "the fundamental theorem of calculus", travel(u),
                             travel(u0) - rate * integral, TIME, sp.S.Zero)
        d.by_differentiation("F(v) at time t", "the fundamental theorem of calculus", travel(v),
                             travel(v0) + rate * integral, TIME, sp.S.Zero)


def convexity(d: Derivation, f: sp.Expr, w: sp.Symbol, rate: sp.Rational) -> sp.Expr:
    """Prove the slope of the mirror map and with it the curvature of the potential; return the latter in u and v."""
    z = sp.Symbol("z", real=True)
    options = {"positive": True} if w.is_positive else {"real": True}
    u, v = (sp.Function(name, **options)(z) for name in "UV")
    slope = sp.diff(f, w)
    d.assume("z = -int p; along the motion from u0 = v0 = alpha, U and V are the weights as functions of z")
    d.define(sp.Derivative(u, z), rate * slope.subs(w, u), "inverse of F(U) = F(alpha) + rate z")
    d.define(sp.Derivative(v, z), -rate * slope.subs(w, v), "inverse of F(V) = F(alpha) - rate z")
    mirror_slope = rate * (slope.subs(w, u) ** 2 + slope.subs(w, v) ** 2)
    d.equal("Slope of the mirror map beta(z) = f(U) - f(V)", "the chain rule", sp.Derivative(f.subs(w, u) - f.subs(w, v), z),
            mirror_slope)
    a, b = (sp.Symbol(name, **options) for name in ("u", "v"))
    squares = {name: positive_form(slope, w).subs(w, name) ** 2 for name in (a, b)}
    d.positive("It is positive, so the mirror map has an inverse, phi', with the slope 1/beta'(z)",
               "the sign of f'", rate * sp.Add(*squares.values()))
    curvature = 1 / (rate * sp.Add(*squares.values()))
    d.positive("phi'' > 0: phi is strictly convex", "the sign of its second derivative", curvature)
    return curvature


def positive_form(slope: sp.Expr, w: sp.Symbol) -> sp.Expr:
    """Find a form of f' that sympy knows to be positive, if there is one."""
    for change in (lambda e: e, sp.factor, sp.simplify, sp.together, lambda e: sp.simplify(e.rewrite(sp.cosh))):
        form = within(STEPS, change, slope)
        if form is not None and form.is_positive:
            return form
    return slope


def closed(d: Derivation, forms: ClosedForms, f: sp.Expr, w: sp.Symbol, alpha: sp.Symbol, z: sp.Symbol, beta: sp.Symbol,
           rate: sp.Rational) -> dict[str, sp.Expr | None]:
    """Find and prove mirror map, its inverse, the potential and its dual in closed form."""
    found: dict[str, sp.Expr | None] = dict.fromkeys(("mirror", "inverse", "phi", "dual"))
    if forms.value is None or forms.travel is None:
        return found
    at, V = forms.travel.subs(w, alpha), forms.value
    first, second = V.subs(forms.x, at + rate * z), V.subs(forms.x, at - rate * z)
    mirror = shortest(first - second)
    if not tried(d, d.equal, "Mirror map in closed form", "f(w) as a function of F(w), at F(alpha) + rate z and - rate z",
                 mirror, first - second):
        mirror = first - second
        d.equal("Mirror map in closed form", "f(w) as a function of F(w)", mirror, first - second)
    found["mirror"] = mirror
    d.equal("It vanishes at z = 0", "substitution", sp.Subs(mirror, z, 0), sp.S.Zero)
    d.equal("Its inverse vanishes too: u = v = alpha gives beta = 0", "substitution",
            f.subs(w, alpha) - V.subs(forms.x, at), sp.S.Zero)
    by_tangent = tangent_forms(d, V, forms.x, at, z, beta, rate)
    if by_tangent is not None:
        return found | by_tangent
    if forms.value_integral is not None:
        W = forms.value_integral
        dual = W.subs(forms.x, at + rate * z) + W.subs(forms.x, at - rate * z) - 2 * W.subs(forms.x, at)
        dual = shortest(dual / rate)
        if tried(d, d.equal, "Legendre dual phi*", "its slope is the mirror map", sp.Derivative(dual, z), mirror):
            d.equal("phi* vanishes at 0", "substitution", sp.Subs(dual, z, 0), sp.S.Zero)
            found["dual"] = dual

    def leads_back(candidate: sp.Expr) -> bool:
        values = {alpha: sp.Rational(13, 10), **{p: sp.Rational(4, 3) for p in candidate.free_symbols - {alpha, beta}}}
        for point in (sp.Rational(1, 10), sp.Rational(-1, 10)):
            near = values | {z: point / 10}
            number = sp.N(candidate.subs(beta, mirror.subs(near)).subs(near) - near[z], 25)
            if not (number.is_number and abs(number) < 1e-18):
                return False
        return True

    inverse = solve_mirror(mirror, z, beta, leads_back)
    if inverse is None:
        return found
    inverse = tidy(inverse)
    if not _proves_inverse(d, mirror, inverse, z, beta):
        return found
    found["inverse"] = inverse
    if found["dual"] is None:
        return found
    phi = shortest(beta * inverse - found["dual"].subs(z, inverse))
    if tried(d, d.equal, "The potential phi(beta) = z beta - phi*(z)", "its slope is the inverse mirror map",
             sp.Derivative(phi, beta), inverse):
        d.equal("phi(0) = 0", "substitution", sp.limit(phi, beta, 0), sp.S.Zero)
        found["phi"] = phi
    return found


def _proves_inverse(d: Derivation, mirror: sp.Expr, inverse: sp.Expr, z: sp.Symbol, beta: sp.Symbol) -> bool:
    title = "Inverse of the mirror map: phi'"
    if tried(d, d.equal, title, "substitution into the mirror map", mirror.subs(z, inverse), beta, steps=STEPS):
        return True
    return tried(d, d.by_differentiation, title, "equal slopes and equal values at 0", mirror.subs(z, inverse), beta, beta,
                 sp.S.Zero, steps=STEPS)


def conjugacy(d: Derivation) -> None:
    """Prove for any mirror map that `z beta - phi*` has the slope z in beta: phi is the Legendre dual of phi*."""
    z = sp.Symbol("z", real=True)
    M, N = sp.Function("beta", real=True)(z), sp.Function("phi*", real=True)(z)
    d.define(sp.Derivative(N, z), M, "phi* is the integral of the mirror map from 0")
    d.equal("Legendre dual: phi(beta(z)) = z beta(z) - phi*(z) has dphi/dz = z dbeta/dz, so phi' = z", "the product rule",
            sp.Derivative(z * M - N, z), z * sp.Derivative(M, z))


def kernel_limit(d: Derivation, f: sp.Expr, w: sp.Symbol, alpha: sp.Symbol, beta: sp.Symbol,
                 rate: sp.Rational) -> tuple[bool, sp.Expr, str]:
    """Prove the kernel limit: phi becomes a square where `f''/f'^2 -> 0`."""
    slope = sp.diff(f, w).subs(w, alpha)
    leading = tidy(beta**2 / (4 * rate * slope**2))
    # phi''(0) = 1/(2 rate f'(alpha)^2), from the curvature at u = v = alpha.
    d.equal("phi to second order at 0", "phi(0) = phi'(0) = 0 and phi''(0) = 1/(2 rate f'(alpha)^2)",
            sp.Derivative(leading, (beta, 2)), 1 / (rate * (slope**2 + slope**2)))
    ratio = tidy(sp.diff(f, w, 2) / sp.diff(f, w) ** 2)
    end = within(STEPS, sp.limit, ratio, w, sp.oo)
    far = within(STEPS, sp.limit, f, w, sp.oo)
    if end == 0 and far == sp.oo:
        d.equal("Along beta, log f'^2 changes at the rate 2 f''/f'^2, which vanishes for large weights", "limit of f''/f'^2",
                sp.Limit(ratio, w, sp.oo), sp.S.Zero)
        d.conclude(f"for alpha -> infinity phi tends to its quadratic term, uniformly on bounded sets: kernel regime, "
                   f"phi ~ {sp.sstr(leading)}")
        return True, leading, ""
    if end is None or far is None:
        return False, leading, "sympy did not find the limit of f''/f'^2; the quadratic term holds for small beta"
    return False, leading, ("f''/f'^2 does not vanish where f grows without bound: the quadratic term holds for small beta only"
                            if far == sp.oo else "f is bounded above: large alpha is no kernel regime")


def rich_limit(d: Derivation, forms: ClosedForms, f: sp.Expr, w: sp.Symbol, alpha: sp.Symbol, beta: sp.Symbol,
               rate: sp.Rational) -> tuple[bool, sp.Expr | None, sp.Expr | None, str]:
    """Prove the rich limit: phi becomes `-F(alpha) |beta|` where F falls without bound towards the lower end."""
    low = sp.S.Zero if w.is_positive else -sp.oo
    if forms.travel is None:
        return False, None, None, "no closed form of F: sympy cannot tell whether int dw/f' diverges at the lower end"
    fall = within(STEPS, sp.limit, forms.travel, w, low, "+" if w.is_positive else "-")
    floor = within(STEPS, sp.limit, f, w, low, "+" if w.is_positive else "-")
    if fall != -sp.oo or floor is None or not floor.is_finite:
        why = ("int dw/f' converges at the lower end of the weights" if fall is not None and fall.is_finite
               else "f falls without bound" if floor == -sp.oo else "sympy did not find the limit of F at the lower end")
        return False, None, None, f"{why}: small alpha does not make phi proportional to |beta|"
    size = sp.Symbol("b", positive=True)
    side = "+" if w.is_positive else "-"
    if not tried(d, d.equal, "F falls without bound towards the lower end", "limit of exp(F)",
                 sp.Limit(sp.exp(forms.travel), w, low, side), sp.S.Zero):
        d.equal("F grows without bound in size towards the lower end", "limit of 1/F",
                sp.Limit(1 / forms.travel, w, low, side), sp.S.Zero)
    leading = tidy(-forms.travel.subs(w, alpha) / rate) * sp.Abs(beta)
    correction = None
    if forms.travel_of_value is not None and floor == 0:
        G = forms.travel_of_value.subs(forms.b, size)
        area = within(STEPS, sp.integrate, G, (size, 0, size))
        if area is not None and not area.has(sp.Integral) and area.is_finite is not False:
            correction = tidy(area / rate).subs(size, sp.Abs(beta))
    d.conclude("for alpha towards the lower end phi'(beta) = (F(u) - F(alpha))/rate with f(u) -> |beta| + f(lower end) and "
               f"F(alpha) -> -infinity: rich regime, phi ~ {sp.sstr(leading)}, an l1 norm")
    return True, leading, correction, ""
