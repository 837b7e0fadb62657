"""Expansions in the ascent step: gradients at moved weights, pairs, and the logarithm of the effective initialisation.

A gradient at weights moved by `e grad L` is a polynomial of degree 2 in e, `g + e a + e^2 b`, nothing left out. So p and
q are polynomials; only the trajectory depends on e in a way that has no closed form, and Taylor's theorem covers that.
"""

from __future__ import annotations

from collections.abc import Mapping

import sympy as sp

from ._derivation import Derivation
from ._network import SymbolicNetwork
from ._steps import Gradients

__all__ = ["GradientTerms", "expand_in_ascent_step", "expand_in_radius", "moved_gradients",
           "relative_remainder"]

#: Per coordinate: the gradient in the predictor, and the coefficients of the step and of its square.
GradientTerms = tuple[sp.Expr, sp.Expr, sp.Expr]


def moved_gradients(d: Derivation, net: SymbolicNetwork, at: Gradients, step: sp.Symbol, up: Gradients,
                    down: Gradients | None = None) -> list[GradientTerms]:
    """Prove that the gradient at the moved weights is `g +- step a + step^2 b` and name a and b, coordinate by coordinate."""
    hessian = net.X.T * net.X / (2 * net.n_samples)
    squares = [(u**2, v**2) for u, v in zip(net.u, net.v, strict=True)]
    first = hessian * sp.Matrix([4 * g * (u2 + v2) for g, (u2, v2) in zip(at.of_beta, squares, strict=True)])
    second = hessian * sp.Matrix([4 * g**2 * (u2 - v2) for g, (u2, v2) in zip(at.of_beta, squares, strict=True)])
    a = [d.define(sp.Symbol(f"a_{j + 1}", real=True), value, "Hess_beta [4 g (u^2 + v^2)]")
         for j, value in enumerate(first)]
    b = [d.define(sp.Symbol(f"b_{j + 1}", real=True), value, "Hess_beta [4 g^2 (u^2 - v^2)]")
         for j, value in enumerate(second)]
    terms = list(zip(at.of_beta, a, b, strict=True))
    points = [(up, step)] if down is None else [(up, step), (down, -step)]
    d.equal(f"The gradient at the moved weights is a polynomial in {step}", "expansion; no term is left out",
            sp.Matrix([g for point, _ in points for g in point.of_beta]),
            sp.Matrix([g + e * a_j + e**2 * b_j for _, e in points for g, a_j, b_j in terms]))
    return terms


def _path(name: str, step: sp.Expr, even: bool = False) -> sp.Expr:
    """Write a quantity at a fixed time of a run by Taylor's theorem in the step that the run was made with."""
    zeroth, first, second = sp.symbols(f"{name}0:3", real=True)
    rest = sp.Function(f"R_{name}", real=True)(step)
    return zeroth + second * step**2 + rest * step**4 if even else zeroth + first * step + rest * step**2


def expand_in_ascent_step(d: Derivation, step: sp.Symbol, gamma: sp.Symbol, pairs: Mapping[str, tuple[sp.Expr, sp.Expr]],
                          gradient: GradientTerms) -> None:
    """Expand p, q and log alpha_eff of the finite differences in the ascent step.

    Parameters
    ----------
    d : Derivation
    step, gamma : sympy.Symbol
        Ascent step and strength.
    pairs : mapping of str to (sympy.Expr, sympy.Expr)
        p and q of one coordinate in `gradient` and `step`, for "forward", "backward", "centered" and "exact".
    gradient : (sympy.Symbol, sympy.Symbol, sympy.Symbol)
        g, a and b of that coordinate: the gradient at the moved weights is `g +- step a + step^2 b`.
    """
    g, a, b = gradient
    (p, q), (p_back, q_back), (p_mean, q_mean) = (pairs[scheme] for scheme in ("forward", "backward", "centered"))
    flip = {step: -step}
    d.equal("The backward difference is the forward one with -epsilon for epsilon", "p and q as functions of epsilon",
            sp.Matrix([p_back, q_back]), sp.Matrix([p.xreplace(flip), q.xreplace(flip)]))
    d.equal("The centred difference is the mean of both, so it does not change with the sign of epsilon", "the same",
            sp.Matrix([p_mean, q_mean]), sp.Matrix([(p + p_back) / 2, (q + q_back) / 2]))
    p_exact, q_exact = pairs["exact"]
    d.equal("All differences tend to the exact Hessian", "epsilon -> 0",
            sp.Matrix([sp.Limit(one, step, 0) for one in (p, p_back, p_mean, q, q_back, q_mean)]),
            sp.Matrix([p_exact] * 3 + [q_exact] * 3))
    for scheme, sign in (("forward", 1), ("backward", -1)):
        d.by_series(f"First order of p and q, {scheme}", "series in epsilon at fixed weights", sp.Matrix(pairs[scheme]),
                    sp.Matrix([p_exact + sign * gamma * step * b, q_exact + sign * 2 * gamma * step * g * a]), step, 2)
    d.by_series("The centred difference has no first order", "series in epsilon at fixed weights",
                sp.Matrix(pairs["centered"]), sp.Matrix([p_exact, q_exact + 2 * gamma * step**2 * g * b]), step, 3)

    d.assume("at a fixed time the weights depend smoothly on epsilon near 0, since the velocity is a polynomial in it; "
             "g = g0 + epsilon g1 + ... and a, b likewise are Taylor expansions at that time, "
             "for the centred difference, whose velocity is even in epsilon, in epsilon^2")
    odd = {symbol: _path(symbol.name[0], step) for symbol in gradient}
    even = {symbol: _path(symbol.name[0], step, even=True) for symbol in gradient}
    g0, g1, g2, a0, b0 = sp.symbols("g0 g1 g2 a0 b0", real=True)
    d.by_series("q along the path of the forward difference: the path moves, too", "series in epsilon",
                q.xreplace(odd), 2 * gamma * g0**2 + 2 * gamma * step * g0 * (a0 + 2 * g1), step, 2)
    d.by_series("q along the path of the centred difference", "series in epsilon",
                q_mean.xreplace(even), 2 * gamma * g0**2 + 2 * gamma * step**2 * g0 * (b0 + 2 * g2), step, 4)

    A0, A1, A2, C2 = sp.symbols("A0 A1 A2 C2", real=True)
    rest = sp.Function("R", real=True)
    forward = A0 + A1 * step + A2 * step**2 + rest(step) * step**3
    d.assume("A0 + A1 epsilon + A2 epsilon^2 + ... is log(alpha_eff/alpha) of the forward difference at a fixed time, "
             "R its remainder; A1 = -4 gamma int g0 (a0 + 2 g1) by the series of q")
    d.by_series("log alpha_eff, forward less backward: first order", "series in epsilon; backward is forward at -epsilon",
                forward - forward.xreplace(flip), 2 * A1 * step, step, 3)
    centered = A0 + C2 * step**2 + sp.Function("R_C", real=True)(step) * step**4
    d.by_series("log alpha_eff, centred less exact Hessian: second order", "series in epsilon; the centred one is even",
                centered - A0, C2 * step**2, step, 4)
    d.conclude("log alpha_eff of the forward and of the backward difference are off that of the exact Hessian by "
               "+A1 epsilon and -A1 epsilon, so they differ from each other by 2 A1 epsilon + O(epsilon^3), while that "
               "of the centred difference is off by O(epsilon^2) only")


def expand_in_radius(d: Derivation, title: str, radius: sp.Symbol, q: list[sp.Expr], first: list[sp.Expr]) -> None:
    """Expand the rate of log alpha_eff in the radius: `-2 q = -radius first + O(radius^2)`, coordinate by coordinate."""
    d.by_series(f"First order of the rate of log alpha_eff, {title}", "series in the radius; the rate is -2 q",
                sp.Matrix([-2 * rate for rate in q]), sp.Matrix([-radius * rate for rate in first]), radius, 2)


def relative_remainder(d: Derivation, radius: sp.Symbol) -> None:
    """Prove that the formula of first order has a relative remainder O(radius), on the path with or without radius."""
    S, T = sp.symbols("S T", positive=True)
    rest = sp.Function("R_S", real=True)
    d.assume("S is the integral of the rate of first order along the path, positive unless the gradient is 0 throughout; "
             "T and R_S are those of the higher powers of the radius")
    d.by_series("The remainder of log alpha_eff is O(radius) in relation to it", "series of the quotient",
                (-radius * S + radius**2 * T + radius**3 * rest(radius)) / (-radius * S), 1 - radius * T / S, radius, 2)
    r0, r1 = sp.symbols("r0 r1", real=True)
    moved = r0 + r1 * radius + sp.Function("R_r", real=True)(radius) * radius**2
    d.by_series("The residuals may be those of the path with the radius or of plain gradient flow",
                "series; the two paths differ by O(radius) at a fixed time", radius * moved**2, radius * r0**2, radius, 2)
