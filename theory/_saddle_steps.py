"""The derivation of T19: time and bounds of the process, what its saddles minimise, and how far a flow can be from it."""

from __future__ import annotations

from collections.abc import Callable

import sympy as sp

from ._derivation import Derivation
from ._network import SymbolicNetwork
from ._steps import PAST, law, pair, start

__all__ = ["derive_saddles"]

SCALE, MAGNITUDE = sp.Symbol("Lambda", positive=True), sp.Symbol("M", positive=True)
PLACE = sp.Symbol("s", real=True)


def derive_saddles() -> Derivation:
    """Derive T19."""
    d, net = Derivation("T19", "Small initialisation: gradient flow goes from saddle to saddle"), SymbolicNetwork()
    at = start(d, net)
    pair(d, net, "Gradient flow is the pair p = g, q = 0", -at.of_weights, list(at.of_beta), [sp.S.Zero] * 2)
    law(d, shaped=False, shrinking=False)
    _time(d)
    _bounds(d)
    _saddle(d, net)
    _end(d, net)
    _distance(d)
    return d


def _time(d: Derivation) -> None:
    """Rescale time: s moves with velocity -g."""
    g, tau = sp.Function("g", real=True), sp.Symbol("tau", nonnegative=True)
    d.assume("Lambda stands for log(1/alpha); t = Lambda tau, and s(tau) = -P(t)/Lambda in each coordinate")
    s = -sp.Integral(g(PAST), (PAST, 0, SCALE * tau)) / SCALE
    d.equal("Velocity of s", "the fundamental theorem of calculus and the chain rule", sp.Derivative(s, tau), -g(SCALE * tau))
    d.assume("so s = log(u/v)/(4 Lambda); below, it is a number")


def _bounds(d: Derivation) -> None:
    """Find the bounds: only at |s| = 1/2 is beta neither 0 nor infinite in the limit."""
    kappa, h = sp.symbols("kappa h", positive=True)
    alpha = sp.exp(-SCALE)
    beta = 2 * alpha**2 * sp.sinh(4 * SCALE * PLACE)
    powers = sp.exp(4 * SCALE * (PLACE - sp.Rational(1, 2))) - sp.exp(-4 * SCALE * (PLACE + sp.Rational(1, 2)))
    d.equal("The predictor in s, with alpha = exp(-Lambda)", "sinh in exponentials", beta, powers)
    half = sp.Rational(1, 2)
    d.assume("h stands for a distance from the bound 1/2")
    d.equal("Inside of the bounds the first of them vanishes; beyond, its inverse does", "limits Lambda -> infinity",
            sp.Matrix([sp.Limit(sp.exp(4 * SCALE * ((half - h) - half)), SCALE, sp.oo),
                       sp.Limit(1 / sp.exp(4 * SCALE * ((half + h) - half)), SCALE, sp.oo)]), sp.zeros(2, 1))
    d.equal("Inside and at the bounds the second vanishes for s > -1/2", "the limit Lambda -> infinity",
            sp.Limit(sp.exp(-4 * SCALE * h), SCALE, sp.oo), 0)
    place = sp.asinh(MAGNITUDE * sp.exp(2 * SCALE) / 2) / (4 * SCALE)
    split = half + sp.log(MAGNITUDE / 2 + sp.sqrt(MAGNITUDE**2 / 4 + sp.exp(-4 * SCALE))) / (4 * SCALE)
    d.equal("Where beta = M > 0 is", "the mirror map solved for s",
            2 * sp.exp(-2 * SCALE) * sp.sinh(4 * SCALE * place, evaluate=False), MAGNITUDE)
    d.by_differentiation("The same, split at the bound", "both sides vanish at M = 0 and have one derivative in M", place,
                         split, MAGNITUDE, sp.S.Zero)
    d.equal("It tends to the bound, from any M: asinh(beta/(2 alpha^2))/(4 log(1/alpha)) -> sign(beta)/2",
            "limits Lambda -> infinity of 1/Lambda and of the logarithm",
            sp.Matrix([sp.Limit(1 / (4 * SCALE), SCALE, sp.oo),
                       sp.Limit(sp.log(MAGNITUDE / 2 + sp.sqrt(MAGNITUDE**2 / 4 + sp.exp(-4 * SCALE))), SCALE, sp.oo)]),
            sp.Matrix([0, sp.log(MAGNITUDE)]))
    d.equal("alpha = c^kappa, Lambda for log(1/c): bounds kappa/2", "sinh in exponentials",
            2 * sp.exp(-2 * kappa * SCALE) * sp.sinh(4 * SCALE * PLACE),
            sp.exp(4 * SCALE * (PLACE - kappa / 2)) - sp.exp(-4 * SCALE * (PLACE + kappa / 2)))
    d.conclude("in the limit |s_j| <= 1/2; beta_j = 0 where |s_j| < 1/2, and where s_j = +-1/2 beta_j has its sign or is 0: "
               "while s moves with -g, which is bounded, beta is what keeps it inside")


def _saddle(d: Derivation, net: SymbolicNetwork) -> None:
    """Recognise the saddle: the conditions of optimality of sign-constrained least squares."""
    b, beta = net.b, sp.symbols("beta_1:3", real=True)
    loss, slope = _loss(net)
    steps = [one - two for one, two in zip(b, beta, strict=True)]
    moved = net.X * sp.Matrix(steps)
    d.equal("The loss, exactly, around any beta", "Taylor's theorem: it is quadratic",
            loss(b) - loss(beta),
            sp.Add(*(g * step for g, step in zip(slope(beta), steps, strict=True))) + moved.dot(moved) / 8)
    size, other, pull = sp.symbols("m_j n_j p_j", positive=True)
    sigma = sp.Symbol("sigma_j", real=True)
    d.assume("in one coordinate at a bound, s_j = sigma_j/2 with sigma_j^2 = 1: beta_j = sigma_j m_j and b_j = sigma_j n_j, "
             "m_j and n_j >= 0; s_j stays or turns inward: sigma_j g_j = p_j >= 0; and where it turns, beta_j = 0 at once: "
             "m_j p_j = 0")
    d.equal("Its term g_j (b_j - beta_j)", "g_j = sigma_j p_j, sigma_j^2 = 1 (written as a factor)",
            (sigma * pull) * (sigma * other - sigma * size), sigma**2 * (pull * other - pull * size))
    d.positive("p_j n_j is not negative", "the sign of a product", pull * other)
    d.conclude("under the signs, L(b) - L(beta) = sum p_j n_j + |X (b - beta)|^2/(4N) >= 0, as m_j p_j = 0: the saddle is a "
               "minimiser, and X beta is unique. By the same expansion, L falls at each jump: the saddle before keeps the "
               "signs, and is not optimal any more; coordinates are free to return to 0")


Point = tuple[sp.Expr, ...]


def _loss(net: SymbolicNetwork) -> tuple[Callable[[Point], sp.Expr], Callable[[Point], sp.Matrix]]:
    """Give the loss of the network's data as a function of beta, and its gradient."""
    def residual(point: Point) -> sp.Matrix:
        return net.X * sp.Matrix(point) - sp.Matrix(net.y)

    def loss(point: Point) -> sp.Expr:
        return residual(point).dot(residual(point)) / 8

    def slope(point: Point) -> sp.Matrix:
        return net.X.T * residual(point) / 4

    return loss, slope


def _end(d: Derivation, net: SymbolicNetwork) -> None:
    """Certify the end: an l1 minimiser."""
    m, b, beta = sp.symbols("m_1:3", real=True), net.b, sp.symbols("beta_1:3", real=True)
    steps = sp.Matrix([one - two for one, two in zip(b, beta, strict=True)])
    d.assume("at the end X beta = y; s = -X^T m, as g stays in the row space")
    d.equal("s.b is the same for all interpolators", "transposition: (X^T m).(b - beta) = m.(X b - X beta)",
            (net.X.T * sp.Matrix(m)).dot(steps), sp.Matrix(m).dot(net.X * steps))
    d.conclude("|b_j| >= 2 s_j b_j, with equality for beta: so sum |b_j| >= 2 s.b = 2 s.beta = sum |beta_j|, and beta "
               "minimises the l1 norm; with alpha_j = c^kappa_j that with weights kappa_j")


def _distance(d: Derivation) -> None:
    """Bound the distance of the flow from the process: one coordinate's share of the change of the square."""
    alpha = sp.exp(-SCALE)
    share = MAGNITUDE * PLACE - alpha**2 / (2 * SCALE) * sp.cosh(4 * SCALE * PLACE)
    where = sp.asinh(MAGNITUDE / (2 * alpha**2)) / (4 * SCALE)
    phi = (MAGNITUDE * sp.asinh(MAGNITUDE / (2 * alpha**2)) - sp.sqrt(MAGNITUDE**2 + 4 * alpha**4) + 2 * alpha**2) / 4
    d.assume("m' = c (X beta - y) per unit of tau, of the flow and of the process from one start; F(m) = c (y.m + sum_j "
             "alpha^2/(2 Lambda) cosh(4 Lambda x_j.m)) is convex, and the flow follows -grad F")
    d.equal("Slope of F: the flow's beta", "differentiation in s = -x_j.m, one coordinate",
            sp.Derivative(alpha**2 / (2 * SCALE) * sp.cosh(4 * SCALE * PLACE), PLACE),
            2 * alpha**2 * sp.sinh(4 * SCALE * PLACE))
    d.equal("The largest value of M s - alpha^2 cosh(4 Lambda s)/(2 Lambda): where it is stationary",
            "differentiation", sp.Subs(sp.Derivative(share, PLACE), PLACE, where), sp.S.Zero)
    d.positive("It is concave: minus its second derivative", "the sign",
               8 * SCALE * alpha**2 * sp.cosh(4 * SCALE * PLACE))
    d.equal("and what it is, with the potential phi", "cosh asinh z = sqrt(1 + z^2)",
            share.subs(PLACE, where), (phi - alpha**2 / 2) / SCALE)
    d.equal("At the bound, alpha^2 cosh(2 Lambda)", "cosh in exponentials", 4 * alpha**2 / 2 * sp.cosh(2 * SCALE), 1 + alpha**4)
    square = sp.Symbol("q", positive=True)
    d.assume("q stands for alpha^2")

    def entropy(square: sp.Expr) -> sp.Expr:
        root = sp.sqrt(MAGNITUDE**2 / 4 + square**2)
        return MAGNITUDE * sp.log(MAGNITUDE / 2 + root) - 2 * root + 2 * square

    log_ratio = 2 * SCALE + sp.log(MAGNITUDE / 2 + sp.sqrt(MAGNITUDE**2 / 4 + square**2))
    d.equal("Four times the potential less 2 Lambda M", "asinh(M/(2 q)) = 2 Lambda + log(M/2 + sqrt(M^2/4 + q^2)), as above",
            MAGNITUDE * log_ratio - sp.sqrt(MAGNITUDE**2 + 4 * square**2) + 2 * square - 2 * SCALE * MAGNITUDE,
            entropy(square))
    root = sp.sqrt(MAGNITUDE**2 / 4 + square**2)
    slope = 2 * (MAGNITUDE / 2 + MAGNITUDE**2 / 4 / (root + square)) / (MAGNITUDE / 2 + root)
    d.equal("Its slope in q", "differentiation; sqrt(M^2/4 + q^2) - q = M^2/4/(sqrt(M^2/4 + q^2) + q)",
            sp.Derivative(entropy(square), square), slope)
    d.positive("It grows with q", "the sign of the slope", slope)
    d.equal("by less than 2 q", "2 less the slope", 2 - sp.diff(entropy(square), square), 2 * square / (MAGNITUDE / 2 + root))
    d.positive("as its slope is below 2", "the sign of the difference", 2 * square / (MAGNITUDE / 2 + root))
    d.equal("and begins at", "the limit q -> 0", sp.Limit(entropy(square), square, 0, "+"), MAGNITUDE * (sp.log(MAGNITUDE) - 1))
    d.conclude("with delta = m_flow - m_process, convexity gives (|delta|^2/2)' <= F(m_process) - F(m_flow) + "
               "c y.(m_flow - m_process) + c sum |beta_j| (sign(beta_j) s_flow_j - 1/2), a sum over coordinates; the maxima "
               "above bound it by c E/(4 Lambda), E = sum_j [2 alpha^2 cosh(4 Lambda s_j) - 2 alpha^2 + 4 phi(beta_j) - "
               "2 Lambda |beta_j|] at the process. E is at most the sum of 1 + alpha^4 + |beta_j| (log|beta_j| - 1) over the "
               "support and of (1 - alpha^2)^2 elsewhere: |delta|^2 <= tau max E/(4 N Lambda), ties or not, so that the flow "
               "tends to the process")
