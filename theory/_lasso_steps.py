"""The derivation of T20: the mean of a flow and the conditions of optimality of the Lasso."""

from __future__ import annotations

import sympy as sp

from ._derivation import Derivation
from ._network import SymbolicNetwork
from ._steps import PAST, TIME, law, pair, potential, start

__all__ = ["derive_lasso_path"]


def derive_lasso_path() -> Derivation:
    """Derive T20: the gradient at the mean, the gap of the mean as a Lasso solution, and its limit."""
    d, net = Derivation("T20", "The time average of gradient flow and the Lasso path"), SymbolicNetwork()
    at = start(d, net)
    pair(d, net, "Gradient flow is the pair p = g, q = 0", -at.of_weights, list(at.of_beta), [sp.S.Zero] * 2)
    strengths = [sp.Symbol(f"w_{j + 1}", nonnegative=True) for j in range(net.n_features)]
    decay = sp.Matrix([2 * w * weight for w, weight in zip(2 * strengths, net.weights, strict=True)])
    pair(d, net, "With weight decay of strengths w_j it is the pair p = g, q = w", -(at.of_weights + decay), list(at.of_beta),
         strengths)
    law(d)
    _mean(d, net)
    _identity(d)
    _gap(d, net)
    _limit(d)
    return d


def _slope(net: SymbolicNetwork, point: list[sp.Expr], targets: sp.Matrix) -> sp.Matrix:
    return net.X.T * (net.X * sp.Matrix(point) - targets) / (2 * net.n_samples)


def _mean(d: Derivation, net: SymbolicNetwork) -> None:
    """Prove that the gradient at the mean is the mean of the gradients."""
    moving = [sp.Function(f"beta_{j + 1}", real=True) for j in range(net.n_features)]
    sums = [sp.Integral(beta(PAST), (PAST, 0, TIME)) for beta in moving]
    totals = [sp.Symbol(f"M_{j + 1}", real=True) for j in range(net.n_features)]
    t = sp.Symbol("t_p", positive=True)
    loss = sp.Add(*(r**2 for r in net.X * sp.Matrix(net.b) - net.y)) / (4 * net.n_samples)
    d.equal("The gradient of the loss is affine in the predictor", "differentiation",
            sp.Matrix([sp.Derivative(loss, b) for b in net.b]), _slope(net, list(net.b), net.y))
    d.assume("t_p > 0 stands for t, and M_j for the integral of beta_j up to t, so that the mean is M/t")
    d.equal("t times the gradient at the mean", "homogeneity", t * _slope(net, [total / t for total in totals], net.y),
            _slope(net, list(totals), t * net.y))
    d.by_differentiation("It is the integral of the gradients", "the fundamental theorem of calculus",
                         _slope(net, sums, TIME * net.y),
                         sp.Matrix([sp.Integral(entry, (PAST, 0, TIME))
                                    for entry in _slope(net, [beta(PAST) for beta in moving], net.y)]), TIME, sp.S.Zero)


def _identity(d: Derivation) -> None:
    """Prove that the integral of the gradients is a difference of slopes of the potential."""
    a = sp.Symbol("a_t", positive=True)
    d.assume("a_t stands for the effective initialisation a at time t, and h for log(u0/v0)")
    d.assume("below, P stands for the integral of one entry of the gradient up to t: t times that entry at the mean")
    h, P, t = sp.Symbol("h", real=True), sp.Symbol("P", real=True), sp.Symbol("t_p", positive=True)
    phi = potential(d, a)
    difference = phi.slope.subs(phi.b, 2 * a**2 * sp.sinh(h - 4 * P)) - phi.slope.subs(phi.b, 2 * a**2 * sp.sinh(h))
    d.by_differentiation("Slopes of the potential at beta(t) and at the centre 2 a_t^2 sinh(h)", "the closed form of beta(t)",
                         difference, -P, P, sp.S.Zero)
    d.by_differentiation("The identity: the gradient at the mean", "division by t", P / t, -difference / t, P, sp.S.Zero)
    d.conclude("grad L(mean) = -(grad phi(beta(t)) - grad phi(centre))/t at every time, phi the potential of alpha_eff(t); for "
               "gradient flow alpha_eff is alpha, the centre is beta(0), and for u0 = v0 the second term is 0")


def _gap(d: Derivation, net: SymbolicNetwork) -> None:
    """Prove how far a point is from solving the Lasso, and when it does."""
    lam = sp.Symbol("lambda", positive=True)
    others = [sp.Symbol(f"c_{j + 1}", real=True) for j in range(net.n_features)]
    points = list(net.b)

    def objective(at: list[sp.Symbol]) -> sp.Expr:
        return (sp.Add(*(r**2 for r in net.X * sp.Matrix(at) - net.y)) / (4 * net.n_samples)
                + lam * sp.Add(*(sp.Abs(b) for b in at)))

    z = [d.define(sp.Symbol(f"z_{j + 1}", real=True), -entry / lam, "the slope at b in units of the penalty")
         for j, entry in enumerate(_slope(net, points, net.y))]
    steps = sp.Matrix([c - b for c, b in zip(others, points, strict=True)])
    squares = sp.Add(*(r**2 for r in net.X * steps)) / (4 * net.n_samples)
    surplus = [lam * sp.Add(*(sp.Abs(x) - one * x for x, one in zip(at, z, strict=True))) for at in (others, points)]
    d.equal("Two points of the objective F(b) = L(b) + lambda |b|_1", "the loss is a square: its expansion ends",
            objective(others) - objective(points), squares + surplus[0] - surplus[1])
    d.conclude("if |z_j| <= 1 for all j, the first two terms are not negative, so that F(b) - min F is at most "
               "lambda sum (|b_j| - z_j b_j); b solves the Lasso if and only if z_j = sign(b_j) wherever b_j is not 0: else "
               "the derivative of F at b, along the move of b_j to 0, is lambda (z_j b_j - |b_j|) < 0")


def _limit(d: Derivation) -> None:
    """Prove what z becomes for the mean, and its limit as alpha tends to 0."""
    alpha, t, b, x, lam = (sp.Symbol(name, positive=True) for name in ("alpha", "t_p", "b_p", "x", "lambda"))
    P, s = sp.Symbol("P", real=True), sp.Symbol("s_j", real=True)
    penalty = sp.log(1 / alpha) / (2 * t)
    d.assume("s_j is -P/log(1/alpha), a coordinate of the rescaled dual")
    d.assume("as alpha -> 0 at fixed t/log(1/alpha), the mean and s tend to those of the saddle-to-saddle process (T19), where "
             "|s_j| <= 1/2, so that |z_j| <= 1")
    d.equal("z of the mean at the penalty log(1/alpha)/(2 t) is twice the rescaled dual", "the identity",
            sp.Subs(-P / t / lam, (lam, P), (penalty, -s * sp.log(1 / alpha))), 2 * s)
    slope = sp.asinh(b / (2 * alpha**2)) / 4
    d.equal("and for gradient flow with u0 = v0 = alpha it is read off beta(t), here b_p > 0", "the identity with h = 0",
            sp.Subs(slope / t / lam, lam, penalty), sp.asinh(b / (2 * alpha**2)) / (2 * sp.log(1 / alpha)))
    d.equal("For x = beta/(2 alpha^2) -> infinity", "asinh x = log(x + sqrt(x^2 + 1))",
            sp.Limit(sp.asinh(x) - sp.log(2 * x), x, sp.oo), sp.S.Zero)
    d.equal("so that z differs from 1 by log(beta)/(2 log(1/alpha)), and by what vanishes faster", "logarithm of a quotient",
            sp.Subs(sp.log(2 * x) / (2 * sp.log(1 / alpha)), x, b / (2 * alpha**2)), 1 + sp.log(b) / (2 * sp.log(1 / alpha)))
    d.conclude("the limit of the mean solves the Lasso with lambda = log(1/alpha)/(2 t) if and only if s_j = sign(mean_j)/2 "
               "for every j with mean_j not 0: no coordinate that has been part of the predictor has left. Otherwise the "
               "objective stays above its minimum; by lambda sum (|mean_j| - 2 s_j mean_j) at most")
