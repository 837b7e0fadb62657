"""Derivations of the limits of large and of small initialisation: expansions of the potential, and what they select."""

from __future__ import annotations

import sympy as sp

from ._deep import LESS, MORE, K, S
from ._depth_steps import DEPTH, ORDER, exponents
from ._derivation import Derivation

__all__ = ["derive_kernel_limit", "derive_rich_limit"]

B = sp.Symbol("b", real=True)
MAGNITUDE, SCALE, SHAPE, SIZE = sp.symbols("M a w C", positive=True)


def derive_kernel_limit() -> Derivation:
    """Derive T17: the slope of the potential to the third order, and the move of the minimiser that it causes."""
    d = Derivation("T17", "Large initialisation: a weighted l2 norm, and the first correction")
    exponents(d)
    d.assume("beta_inf minimises the potential subject to X b = y (T1 at depth 2, T3 above)")
    d.assume("alpha_j = C w_j with C to infinity and b fixed")
    slope = sp.asinh(B / (2 * SCALE**2)) / 4
    _taylor(d, "D = 2: slope of the potential", "of asinh(b/(2 a^2))/4 at b = 0", slope, B,
            [0, 1 / (8 * SCALE**2), 0, -6 / (192 * SCALE**6), 0])
    z, x = sp.symbols("z x", real=True)
    h = (1 - z) ** -S - (1 + z) ** -S
    _taylor(d, "D > 2: the mirror map", "of h(z) = (1 - z)^(-s) - (1 + z)^(-s) at z = 0", h, z,
            [0, 2 * S, 0, 2 * S * (S + 1) * (S + 2), 0])
    third = (S + 1) * (S + 2) / (48 * S**3)
    inverse = x / (2 * S) - third * x**3
    cubic = 2 * S * z + S * (S + 1) * (S + 2) / 3 * z**3
    _taylor(d, "D > 2: its inverse, x/(2 s) - (s + 1)(s + 2) x^3/(48 s^3), to the fourth order",
            "at x = 0 of the cubic of h, at that inverse, less x", cubic.subs(z, inverse) - x, x, [0] * 5)
    a = SIZE * SHAPE
    d.equal("D = 2: in powers of C", "substitution of a = C w",
            sp.Matrix([B / (8 * a**2), B**3 / (192 * a**6)]),
            sp.Matrix([SIZE**-2 * B / (8 * SHAPE**2), SIZE**-2 * SIZE**-4 * B**3 / (192 * SHAPE**6)]))
    m = MAGNITUDE
    d.equal("D > 2: the same for the slope a^(2-D) zeta(b/a^D), for b = M > 0 (it is odd)", "substitution of a = C w",
            sp.Matrix([a**-K * (m / a ** (K + 2)) / (2 * S), a**-K * third * (m / a ** (K + 2)) ** 3]),
            sp.Matrix([SIZE ** (2 - 2 * DEPTH) * m / (2 * S * SHAPE ** (2 * DEPTH - 2)),
                       SIZE ** (2 - 2 * DEPTH) * SIZE ** (-2 * DEPTH) * third * m**3 / SHAPE ** (4 * DEPTH - 2)]))
    d.conclude("up to a factor that is the same for all coordinates, the slope is W_j b - e V_j b^3 + O(e^2) with "
               "e = C^(-2D), W_j = w_j^(2-2D) (D = 2: w_j^-2), V_j = W_j w_j^(-2D) (s + 1)(s + 2)/(24 s^2) "
               "(D = 2: W_j w_j^-4/24)")
    d.equal("Ratios of the cubic to the linear term", "division, at w = 1: D = 2, then D > 2",
            sp.Matrix([sp.Rational(1, 192) / sp.Rational(1, 8), third * 2 * S]),
            sp.Matrix([sp.Rational(1, 24), (S + 1) * (S + 2) / (24 * S**2)]))
    _move(d)
    d.conclude("the minimiser is beta_0 + e beta_1 + O(e^2), where beta_0 minimises sum W_j b_j^2 subject to X b = y and "
               "beta_1 = n (n.V beta_0^3)/(n.W n), n spanning the null space of X (a matrix of such columns if it has more "
               "dimensions): by the implicit function theorem, as n.W n > 0. The relative error of the kernel limit is "
               "|beta_1|/|beta_0| C^(-2D) + O(C^(-4D)): C^-4 at depth 2")
    return d


def _taylor(d: Derivation, what: str, of: str, expression: sp.Expr, variable: sp.Symbol, values: list[sp.Expr]) -> None:
    orders = range(len(values))
    derivatives = [sp.Derivative(expression, (variable, order)) if order else expression for order in orders]
    d.equal(what, f"Taylor's theorem: derivatives of order 0 to {len(values) - 1} {of}",
            sp.Matrix([sp.Subs(one, variable, 0) for one in derivatives]), sp.Matrix(values))


def _move(d: Derivation) -> None:
    """Move the minimiser to first order in e, for one sample and two features."""
    x1, x2, y, e = sp.symbols("x_1 x_2 y e", real=True)
    W, V = sp.symbols("W_1 W_2", positive=True), sp.symbols("V_1 V_2", positive=True)
    d.assume("the move is derived for one sample and two features, x = (x_1, x_2), null space n = (x_2, -x_1); "
             "x_1 and x_2 are not 0")
    x, n = (x1, x2), (x2, -x1)
    gram = d.define(sp.Symbol("q", positive=True), sp.Add(*(one**2 / weight for one, weight in zip(x, W, strict=True))),
                    "x.W^-1 x")
    zero = [d.define(sp.Symbol(f"beta_0{j + 1}", real=True), one * y / weight / gram, "W^-1 x y/(x.W^-1 x)")
            for j, (one, weight) in enumerate(zip(x, W, strict=True))]
    d.equal("beta_0 interpolates, and its slope W beta_0 is in the row space", "substitution",
            sp.Matrix([sp.Add(*(one * b for one, b in zip(x, zero, strict=True))),
                       sp.Add(*(one * weight * b for one, weight, b in zip(n, W, zero, strict=True)))]), sp.Matrix([y, 0]))
    push = d.define(sp.Symbol("f", real=True), sp.Add(*(one * v * b**3 for one, v, b in zip(n, V, zero, strict=True))),
                    "n.V beta_0^3")
    stiffness = d.define(sp.Symbol("g", positive=True), sp.Add(*(weight * one**2 for one, weight in zip(n, W, strict=True))),
                         "n.W n")
    moved = [b + e * one * push / stiffness for one, b in zip(n, zero, strict=True)]
    d.equal("beta_0 + e beta_1 interpolates", "X n = 0", sp.Add(*(one * b for one, b in zip(x, moved, strict=True))), y)
    along = sp.Add(*(one * (weight * b - e * v * b**3) for one, weight, v, b in zip(n, W, V, moved, strict=True)))
    d.equal("The slope along n vanishes to first order in e", "differentiation in e at e = 0",
            sp.Matrix([sp.Subs(along, e, 0), sp.Subs(sp.Derivative(along, e), e, 0)]), sp.zeros(2, 1))
    p1, p2 = sp.symbols("p_1 p_2", positive=True)
    d.positive("The slope along n changes with the place along n", "n.W n for n = (p_1, -p_2) is a sum of positive terms",
               W[0] * p1**2 + W[1] * (-p2) ** 2)


def derive_rich_limit() -> Derivation:
    """Derive T18: the potential at small scales, uniformly, and the minimisers that two leading terms select."""
    d = Derivation("T18", "Small initialisation: an l1 norm, and the one of its minimisers that is selected")
    exponents(d)
    d.assume("beta_inf minimises the potential subject to X b = y (T1 at depth 2, T3 above); M = |b|, the potential is even")
    _entropy(d)
    _powers(d)
    _selection(d)
    _speed(d)
    return d


def _entropy(d: Derivation) -> None:
    """Expand the potential of depth 2, with a remainder bounded for all b at once."""
    m, a = MAGNITUDE, SCALE
    phi = m * sp.asinh(m / (2 * a**2)) - sp.sqrt(m**2 + 4 * a**4) + 2 * a**2
    leading = m * sp.log(m / a**2) - m
    root = sp.sqrt(1 + 4 * a**4 / m**2)
    d.equal("D = 2: what four times the potential adds to M log(M/a^2) - M grows with M", "differentiation",
            sp.Derivative(phi - leading, m), sp.log((1 + sp.sqrt(m**2 + 4 * a**4) / m) / 2))
    d.equal("Its slope is positive", "sqrt(1 + p) = 1 + p/(1 + sqrt(1 + p)), with p = 4 a^4/M^2",
            (1 + sp.sqrt(m**2 + 4 * a**4) / m) / 2, 1 + (4 * a**4 / m**2) / (1 + root) / 2)
    d.positive("as the logarithm of a number above 1", "the sign of the logarithm",
               sp.log(1 + (4 * a**4 / m**2) / (1 + root) / 2))
    d.equal("It runs from 0 to 2 a^2", "limits M -> 0 and M -> infinity; a is 1 for the latter, by homogeneity",
            sp.Matrix([sp.Limit(phi - leading, m, 0, "+"),
                       sp.Limit(m * (sp.asinh(m / 2) - sp.log(m)), m, sp.oo), sp.Limit(m - sp.sqrt(m**2 + 4), m, sp.oo)]),
            sp.zeros(3, 1))
    c, power = SIZE, sp.Symbol("kappa", positive=True)
    d.equal("D = 2, alpha = c w (c is written C): one large factor times M, the same for all coordinates, and an entropy",
            "substitution of a = C w", leading.subs(a, c * SHAPE), 2 * sp.log(1 / c) * m + m * (sp.log(m / SHAPE**2) - 1))
    d.equal("D = 2, alpha = c^kappa: the factor is kappa times as large", "substitution of a = C^kappa",
            leading.subs(a, c**power), 2 * sp.log(1 / c) * power * m + m * (sp.log(m) - 1))
    d.conclude("at depth 2 four times the potential is 2 log(1/c) sum |b_j| + sum |b_j| (log(|b_j|/w_j^2) - 1) with an error "
               "in [0, 2 sum alpha_j^2], for all b; with alpha_j = c^kappa_j the l1 norm has weights kappa_j and w is 1")


def _powers(d: Derivation) -> None:
    """Expand the potential of depth D > 2, with a bounded remainder."""
    A, more = LESS, MORE
    d.assume("for D > 2: x = h(z) >= 0, A = 1 - z in (0, 1], B = 1 + z = 2 - A in [1, 2)")
    x, primitive = A**-S - more**-S, (A**-ORDER + more**-ORDER) / ORDER
    q = (1 - A) * x - primitive + 2 / ORDER
    rest = A * more**-S - more**-ORDER / ORDER + 2 / ORDER
    d.equal("D > 2: q(x) = z h(z) - H(z) + H(0)", "A^(1-s) = A^(-m), 1 + 1/m = D/2; the rest is bounded", q,
            x - DEPTH / 2 * A**-ORDER + rest)
    d.equal("The power in x", "A^(-s) = x + B^(-s) and m/s = 2/D", A**-ORDER, _power(x + more**-S))
    d.conclude("x^(2/D) <= A^(-m) <= x^(2/D) + 1, as (x + t)^p <= x^p + t^p for p <= 1, so that q(x) is "
               "x - (D/2) x^(2/D) with a bounded error, for all x")
    m, a = MAGNITUDE, SCALE
    d.equal("D > 2: the two leading terms of a^2 q(M/a^D)", "substitution",
            sp.Matrix([a**2 * m / a**DEPTH, a**2 * DEPTH / 2 * m ** (2 / DEPTH) * (a**-DEPTH) ** (2 / DEPTH)]),
            sp.Matrix([a**-K * m, DEPTH / 2 * m ** (2 / DEPTH)]))
    d.equal("D > 2, alpha = c w (c is written C)", "substitution of a = C w", (SIZE * SHAPE) ** -K * m,
            SIZE**-K * SHAPE ** (2 - DEPTH) * m)
    d.conclude("at depth D the potential is c^(2-D) sum w_j^(2-D) |b_j| - (D/2) sum |b_j|^(2/D) with an error of order c^2, "
               "for all b")


def _power(base: sp.Expr) -> sp.Expr:
    """Raise a sum in which two terms cancel to the power 2/D."""
    return sp.expand(base) ** (2 / DEPTH)


def _selection(d: Derivation) -> None:
    """Two terms, one with a large factor: the first decides, then the second."""
    factor = sp.Symbol("Lambda", positive=True)
    first, first_best, second, second_best = sp.symbols("l l0 r r0", real=True)
    d.assume("l and r are the values of the l1 norm and of the second term at the minimiser of their sum, l0 and r0 those at "
             "the l1 minimiser with the least second term; Lambda is the large factor")
    excess = (factor * first + second) - (factor * first_best + second_best)
    d.equal("Excess of the l1 norm", "division of the difference of the two values by the large factor",
            first - first_best, excess / factor + (second_best - second) / factor)
    d.equal("Excess of the second term", "the same difference", second - second_best, excess - factor * (first - first_best))
    d.conclude("excess <= error of the expansion and l >= l0: so l - l0 <= (r0 - r + error)/Lambda tends to 0, and "
               "r - r0 <= error at every scale; a limit point of the minimisers is an l1 minimiser with the least second "
               "term, and there is one such only, because the second term is strictly convex in the magnitudes, and all "
               "l1 minimisers share their signs")
    m = MAGNITUDE
    d.equal("Curvature of the second term at D = 2", "differentiation", sp.Derivative(m * (sp.log(m / SHAPE**2) - 1), (m, 2)),
            1 / m)
    d.positive("It is strictly convex", "the sign", 1 / m)
    curvature = K / DEPTH * m ** (2 / DEPTH - 2)
    d.equal("Curvature of the second term at D > 2", "differentiation", sp.Derivative(-DEPTH / 2 * m ** (2 / DEPTH), (m, 2)),
            curvature)
    d.positive("It is strictly convex too", "the sign; D - 2 = k > 0", curvature)


def _speed(d: Derivation) -> None:
    """Size of an entry off the support."""
    xi, c = sp.Symbol("xi", real=True), SIZE
    d.assume("xi stands for x_j.nu with nu the dual of the l1 norm, |xi| < 1 off the support, where at depth 2 the slope "
             "asinh(beta_j/(2 a^2)) is 2 log(1/c) xi to leading order")
    d.equal("An entry off the support at D = 2", "the mirror map of a = c (written C)",
            2 * c**2 * sp.sinh(2 * xi * sp.log(1 / c)), c ** (2 - 2 * xi) - c ** (2 + 2 * xi))
    d.conclude("at depth 2 the distance falls like c^(2 gap), gap = 1 - max |x_j.nu| off the support, at depth D like c^D")
