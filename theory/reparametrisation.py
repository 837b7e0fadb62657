"""Potentials of separable reparametrisations `beta = f(u) - f(v)`, derived for any increasing map f.

    print(theory.derive_potential("u**3").derivation)
    theory.derive_potential("log(1 + exp(u))").minimize(X, y, alpha=0.1)

Gradient flow in the weights moves F(u) by -int g and F(v) by +int g, where F' = 1/f'; so beta is a function of int g, the
mirror map, and minimises the potential whose gradient is its inverse, subject to `X b = X beta`. Sources: Woodworth et al.
(2020), Kernel and rich regimes in overparametrized models, for powers; Li et al. (2022), Implicit bias of gradient descent on
reparametrized models, for the general principle. What has no closed form is evaluated as numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import sympy as sp

from ._budget import STEPS, within
from ._closed_forms import ClosedForms, find, tidy
from ._derivation import Derivation, text
from ._dual_newton import ConstrainedMinimum, minimize
from ._network import Array
from ._numeric_potential import NumericPotential
from ._phi_limits import proved_limit
from ._potential_steps import (
    antiderivative_of,
    closed,
    conjugacy,
    convexity,
    kernel_limit,
    motion,
    positive_form,
    rich_limit,
)
from ._separable import read_map, separate

__all__ = ["Limit", "NoPotential", "Potential", "derive_potential"]

RULES = ("gf", "gr")


class NoPotential(ValueError):
    """There is no potential of this kind.

    Attributes
    ----------
    reason : str
    derivation : Derivation or None
        The proof, where there is one.
    """

    def __init__(self, reason: str, derivation: Derivation | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.derivation = derivation


@dataclass(frozen=True)
class Limit:
    """Leading behaviour of a potential: whether it is a limit, its leading term, the next one, and why not if not."""

    holds: bool
    leading: sp.Expr | None
    correction: sp.Expr | None = None
    reason: str = ""


@dataclass(frozen=True)
class Potential:
    """A potential with its proof, in closed form as far as one was found, and as numbers.

    Attributes
    ----------
    f : sympy.Expr
        The map, in `w`.
    w, alpha, s, beta : sympy.Symbol
        Weight, initial weight `u0 = v0`, `s = int g`, predictor.
    rate : sympy.Rational
        How fast the weights of the map move: 1, or 1/2 after a rotation, as for u*v.
    rule : str
    conserved : sympy.Expr
        F(u) + F(v), in the symbols u and v.
    mirror_map : sympy.Expr or None
        beta as a function of s.
    radius : sympy.Expr or None
        The mirror map is defined for `|s| < radius`.
    inverse_mirror_map : sympy.Expr or None
        `phi'(beta) = -s`.
    phi, conjugate : sympy.Expr or None
        The potential, 0 at 0; its Legendre dual, as a function of s.
    second_derivative : sympy.Expr
        `phi'' = 1/(rate (f'(u)^2 + f'(v)^2))`, positive.
    kernel, rich : Limit
        For large alpha, and for alpha towards the lower end of the weights.
    derivation : Derivation
    numeric : NumericPotential or None
        None if the map has parameters without a value.
    """

    f: sp.Expr
    w: sp.Symbol
    alpha: sp.Symbol
    s: sp.Symbol
    beta: sp.Symbol
    rate: sp.Rational
    rule: str
    conserved: sp.Expr
    mirror_map: sp.Expr | None
    radius: sp.Expr | None
    inverse_mirror_map: sp.Expr | None
    phi: sp.Expr | None
    conjugate: sp.Expr | None
    second_derivative: sp.Expr
    kernel: Limit
    rich: Limit
    derivation: Derivation = field(repr=False)
    numeric: NumericPotential | None = field(repr=False)

    def _numbers(self) -> NumericPotential:
        if self.numeric is None:
            names = ", ".join(sorted(map(str, self.f.free_symbols - {self.w})))
            raise ValueError(f"the map {text(self.f)} has parameters without a value ({names}): "
                             "derive it with numbers for them")
        return self.numeric

    def value(self, beta: Any, alpha: Any, precision: int | None = None) -> Any:
        """Evaluate the potential of each coordinate.

        Parameters
        ----------
        beta : float or array_like
        alpha : float or array_like
            Broadcast against beta.
        precision : int, optional
            Decimal digits; the answer is then an object array of `mpmath.mpf`.

        Returns
        -------
        ndarray

        Raises
        ------
        ValueError
            If beta is out of reach, or alpha not in the interval of the weights.
        """
        if precision is not None:
            return self._precise(precision).value(beta, alpha)
        return self._numbers().value(beta, alpha)

    def gradient(self, beta: Any, alpha: Any, precision: int | None = None) -> Any:
        """Evaluate `phi'`; arguments as in `value`."""
        if precision is not None:
            return self._precise(precision).gradient(beta, alpha)
        return self._numbers().gradient(beta, alpha)

    def curvature(self, beta: Any, alpha: Any) -> Array:
        """Evaluate `phi''`; arguments as in `value`."""
        return self._numbers().curvature(beta, alpha)

    def mirror(self, s: Any, alpha: Any, precision: int | None = None) -> Any:
        """Evaluate beta where `int g = s`, in the interior of `domain`; other arguments as in `value`."""
        if precision is not None:
            return self._precise(precision).mirror(s, alpha)
        return self._numbers().mirror(s, alpha)

    def dual(self, s: Any, alpha: Any) -> Array:
        """Evaluate the Legendre dual; arguments as in `mirror`."""
        return self._numbers().dual(s, alpha)

    def domain(self, alpha: Any) -> Array:
        """Give the radius of the domain of the mirror map."""
        return self._numbers().domain(alpha)

    def minimize(self, X: Any, y: Any, alpha: Any, tol: float = 1e-12) -> ConstrainedMinimum:
        """Minimise `sum_j phi(b_j)` subject to `X b = y`: where gradient flow from alpha ends if it interpolates.

        Parameters
        ----------
        X : array_like of shape (N, d)
        y : array_like of shape (N,)
        alpha : float or array_like of shape (d,)
        tol : float
            Relative residual to stop at.

        Returns
        -------
        ConstrainedMinimum
            With residual, duality gap, and `success`.
        """
        return minimize(self._numbers(), X, y, alpha, tol)

    def _precise(self, digits: int) -> Any:
        from ._precise_potential import PrecisePotential

        return PrecisePotential(self._numbers(), self.f, self.w, digits)

    def __str__(self) -> str:
        def show(expression: sp.Expr | None) -> str:
            return "no closed form found" if expression is None else text(expression)

        def limit(which: Limit) -> str:
            if not which.holds:
                return f"none: {which.reason}"
            return text(which.leading) + (f" + {text(which.correction)}" if which.correction is not None else "")

        rows = {"map": f"beta = f(u) - f(v), f(w) = {text(self.f)}, u0 = v0 = alpha",
                "conserved": show(self.conserved), "mirror map beta(s)": show(self.mirror_map),
                "its domain |s| <": show(self.radius), "phi'(beta) = -s": show(self.inverse_mirror_map),
                "phi(beta)": show(self.phi), "phi''": show(self.second_derivative), "dual phi*(s)": show(self.conjugate),
                "kernel limit": limit(self.kernel), "rich limit": limit(self.rich)}
        width = max(map(len, rows))
        return "\n".join(f"{name:{width}}  {words}" for name, words in rows.items())


def derive_potential(u_map: Any, *, weights: str | None = None, rule: str = "gf") -> Potential:
    """Derive the potential that gradient flow on `L(f(u) - f(v))` minimises.

    Parameters
    ----------
    u_map : sympy.Expr or str
        f in one symbol, such as `u**3`, `u**D` (a symbolic exponent is taken to exceed 2), `exp(u)`, `sinh(u)`,
        `log(1 + exp(u))`; or a function of u and v that is `f(u) - f(v)` in them or in `(u + v)/2` and `(u - v)/2`, such as
        `u*v`.
    weights : {"positive", "real"}, optional
        Interval of the weights. By default the real line if f increases on it, else the positive half.
    rule : {"gf", "gr"}
        Gradient flow, or the exact gradient of `L + (gamma/2) |grad L|^2`.

    Returns
    -------
    Potential

    Raises
    ------
    NoPotential
        If there is none; its `reason` says why, its `derivation` proves it.
    ValueError
        If the map cannot be read, or does not increase.
    """
    if rule not in RULES:
        raise ValueError(f"rule must be 'gf' or 'gr', got {rule!r}")
    if weights not in (None, "positive", "real"):
        raise ValueError(f"weights must be 'positive' or 'real', got {weights!r}")
    expression, names, names_back = read_map(u_map)
    rate = sp.S.One
    remark = ""
    if len(names) == 2:
        expression, name, rate, remark = separate(expression, *names)
    else:
        name = names[0]
    f, w = _on_interval(expression, name, weights)
    d = Derivation("potential", f"The potential of beta = f(u) - f(v) with f(w) = {text(f)}")
    d.assume(f"w ranges over the {'positive numbers' if w.is_positive else 'real numbers'}; u0 = v0 = alpha for the potential")
    if remark:
        d.assume(remark)
    for symbol, meaning in names_back.items():
        d.assume(f"{symbol} > 0, and {text(meaning[1])} = {text(meaning[0])}")
    if rule == "gr":
        _closes_under_gr(d, f, w)
    return _derive(d, f, w, rate, rule, names_back)


def _on_interval(expression: sp.Expr, name: sp.Symbol, weights: str | None) -> tuple[sp.Expr, sp.Symbol]:
    """Choose the interval of the weights, and prove that f increases on it."""
    for kind in ("real", "positive") if weights is None else (weights,):
        w = sp.Symbol("w", **{kind: True})
        f = expression.subs(name, w)
        slope = sp.diff(f, w)
        if slope.is_extended_real is not False and positive_form(slope, w).is_positive:
            return f, w
    where = {"real": "on the real line", "positive": "for positive weights", None: "for positive weights"}[weights]
    raise ValueError(f"the map {text(expression)} does not increase {where} as far as sympy can tell: f' must be positive "
                     "(for a decreasing map swap u and v)")


def _closes_under_gr(d: Derivation, f: sp.Expr, w: sp.Symbol) -> None:
    """Prove that gradient regularization has an effective initialisation for this map, or raise `NoPotential`."""
    second, third = tidy(sp.diff(f, w, 2)), tidy(sp.diff(f, w, 3))
    options = {"positive": True} if w.is_positive else {"real": True}
    u, v = (sp.Symbol(name, **options) for name in ("u", "v"))
    g = sp.Symbol("g", real=True)
    slope = sp.diff(f, w)
    norm = (slope.subs(w, u) ** 2 + slope.subs(w, v) ** 2) * g**2
    d.equal("The penalty R/2 at fixed g moves u and v by -f' f'' g^2 (its change with g is a part of p)", "differentiation",
            sp.Matrix([sp.Derivative(norm / 2, u), sp.Derivative(norm / 2, v)]),
            sp.Matrix([slope.subs(w, x) * second.subs(w, x) * g**2 for x in (u, v)]))
    total = second.subs(w, u) + second.subs(w, v)
    if third == 0:
        d.conclude(f"under gradient regularization d(F(u) + F(v))/dt = -gamma g^2 (f''(u) + f''(v)) = "
                   f"{text(-total)} gamma g^2: alpha is replaced by alpha_eff with F(alpha_eff) = F(alpha) - "
                   f"{text(second)} gamma int g^2")
        return
    z = sp.Symbol("z", real=True)
    functions = [sp.Function(name, **options)(z) for name in "UV"]
    for function, sign in zip(functions, (1, -1), strict=True):
        d.define(sp.Derivative(function, z), sign * slope.subs(w, function), "motion along p: F(U) + F(V) stays")
    change = third.subs(w, functions[0]) * slope.subs(w, functions[0]) - third.subs(w, functions[1]) * slope.subs(
        w, functions[1])
    d.equal("Along p, where F(u) + F(v) stays, the rate f''(u) + f''(v) changes", "the chain rule",
            sp.Derivative(second.subs(w, functions[0]) + second.subs(w, functions[1]), z), change)
    points = (sp.Integer(2), sp.Integer(1))
    values = [tidy((third * slope).subs(w, point)) for point in points]
    witness = {p: sp.Integer(3) for p in (values[0] - values[1]).free_symbols}
    gap = tidy((values[0] - values[1]).subs(witness))
    if gap == 0:
        raise NoPotential(f"gradient regularization with f(w) = {text(f)}: f'' is not constant, so F(u) - F(v) leaves the row "
                          "space of X; no potential is known", d)
    d.positive("and not by 0: a witness at u = 2, v = 1", "substitution", sp.Abs(gap))
    raise NoPotential(
        f"no potential under gradient regularization for f(w) = {text(f)}: d(F(u) + F(v))/dt = -gamma g^2 ({text(total)}) "
        "still contains u and v separately, and changes while F(u) + F(v) does not; so two paths with the same int g^2 end at "
        "different F(u) + F(v), and alpha_eff is no function of int g^2. Only a quadratic f, such as u^2 (depth 2), closes.", d)


def _derive(d: Derivation, f: sp.Expr, w: sp.Symbol, rate: sp.Rational, rule: str,
            names_back: dict[sp.Symbol, tuple[sp.Expr, sp.Symbol]]) -> Potential:
    options = {"positive": True} if w.is_positive else {"real": True}
    alpha, s, beta = sp.Symbol("alpha", **options), sp.Symbol("s", real=True), sp.Symbol("beta", real=True)
    z = sp.Symbol("z", real=True)
    forms = find(f, w)
    travel = antiderivative_of(d, f, w, forms, alpha)
    motion(d, f, w, travel, rate, sp.S.Zero)
    second = convexity(d, f, w, rate)
    conjugacy(d)
    found = closed(d, forms, f, w, alpha, z, beta, rate)
    holds, quadratic, why = kernel_limit(d, f, w, alpha, beta, rate)
    rich = Limit(*rich_limit(d, forms, f, w, alpha, beta, rate))
    ends = _ends(forms, w)
    radius = _radius(forms, ends, w, alpha, rate)
    for name, leading in (("kernel", quadratic if holds else None), ("rich", rich.leading if rich.holds else None)):
        if leading is not None and not proved_limit(d, name, found, leading, alpha, z, beta, radius):
            d.conclude(f"the {name} limit of phi itself follows from the proved limits of f and F; sympy proves it in no step")
    d.conclude("beta(t) minimises sum_j phi(b_j) subject to X b = X beta(t), for phi' = -s = -int p is in the row space of X "
               "and phi is strictly convex" + ("; p = g" if rule == "gf" else ", with alpha_eff in place of alpha"))
    u, v = (sp.Symbol(name, **options) for name in ("u", "v"))
    parameters = f.free_symbols - {w}

    def back(expression: sp.Expr | None) -> sp.Expr | None:
        if expression is None:
            return None
        return expression.subs({symbol: value for symbol, (value, _) in names_back.items()}).subs(z, -s)

    return Potential(
        f=back(f), w=w, alpha=alpha, s=s, beta=beta, rate=rate, rule=rule, conserved=back(travel(u) + travel(v)),
        mirror_map=back(found["mirror"]), radius=back(radius),
        inverse_mirror_map=back(found["inverse"]), phi=back(found["phi"]), conjugate=back(found["dual"]),
        second_derivative=back(second), kernel=Limit(holds, back(quadratic), None, why),
        rich=Limit(rich.holds, back(rich.leading), back(rich.correction), rich.reason), derivation=d,
        numeric=None if parameters else NumericPotential(f, w, float(rate), ends, forms.travel))


def _ends(forms: ClosedForms, w: sp.Symbol) -> tuple[sp.Expr | None, sp.Expr | None]:
    """Give F at the ends of the interval of weights."""
    if forms.travel is None:
        return None, None
    low = within(STEPS, sp.limit, forms.travel, w, 0 if w.is_positive else -sp.oo, "+" if w.is_positive else "-")
    high = within(STEPS, sp.limit, forms.travel, w, sp.oo)
    return tuple(x if x is not None and (x.is_number or x.is_infinite) else None for x in (low, high))  # type: ignore[return-value]


def _radius(forms: ClosedForms, ends: tuple[sp.Expr | None, sp.Expr | None], w: sp.Symbol, alpha: sp.Symbol,
            rate: sp.Rational) -> sp.Expr | None:
    if forms.travel is None or None in ends:
        return None
    here = forms.travel.subs(w, alpha)
    reaches = [tidy(abs_ / rate) for abs_ in (here - ends[0], ends[1] - here)]
    finite = [reach for reach in reaches if not reach.is_infinite]
    return sp.oo if not finite else finite[0] if len(finite) == 1 else sp.Min(*finite)

