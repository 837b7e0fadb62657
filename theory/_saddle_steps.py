"""The derivation of T19: the time and the bounds of the process, what its saddles minimise, and how far a flow can be from it."""

from __future__ import annotations

import sympy as sp

from ._derivation import Derivation
from ._network import SymbolicNetwork
from ._steps import PAST, TIME, law, pair, start

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
    d.equal("s is the logarithm of the ratio per 4 log(1/alpha)", "log(u/v) = -4 P, u0 = v0",
            -4 * sp.Integral(g(PAST), (PAST, 0, SCALE * tau)) / (4 * SCALE), s)
    d.assume("below, s is a number")


def _bounds(d: Derivation) -> None:
    """Find the bounds: only at |s| = 1/2 is beta neither 0 nor infinite in the limit."""
    kappa, h, w = sp.symbols("kappa h w", positive=True)
    alpha = sp.exp(-SCALE)
    beta = 2 * alpha**2 * sp.sinh(4 * SCALE * PLACE)
    powers = sp.exp(4 * SCALE * (PLACE - sp.Rational(1, 2))) - sp.exp(-4 * SCALE * (PLACE + sp.Rational(1, 2)))
    d.equal("The predictor in s, with alpha = exp(-Lambda)", "sinh in exponentials", beta, powers)
    half = sp.Rational(1, 2)
    d.assume("h stands for a distance from the bound 1/2, w for a logarithm of beta")
    d.equal("Inside of the bounds it vanishes; at 1/2 + log(M)/(4 Lambda) it is M; beyond it has no bound",
            "limits Lambda -> infinity of the exponential, and of the inverse of the last",
            sp.Matrix([sp.Limit(sp.exp(-4 * SCALE * h), SCALE, sp.oo),
                       sp.exp(4 * SCALE * (half + sp.log(MAGNITUDE) / (4 * SCALE) - half)),
                       sp.Limit(1 / sp.exp(4 * SCALE * h), SCALE, sp.oo)]),
            sp.Matrix([0, MAGNITUDE, 0]))
    place = sp.asinh(MAGNITUDE * sp.exp(2 * SCALE) / 2) / (4 * SCALE)
    split = half + sp.log(MAGNITUDE / 2 + sp.sqrt(MAGNITUDE**2 / 4 + sp.exp(-4 * SCALE))) / (4 * SCALE)
    d.equal("Where beta = M > 0 is, exactly", "asinh z = log(z + sqrt(z^2 + 1)), and exp(2 Lambda) taken out of the logarithm",
            sp.log(sp.exp(2 * SCALE) * (MAGNITUDE / 2 + sp.sqrt(MAGNITUDE**2 / 4 + sp.exp(-4 * SCALE)))) / (4 * SCALE), split)
    d.equal("and that is where beta = M", "sinh of the logarithm", 2 * sp.exp(-2 * SCALE) * sp.sinh(4 * SCALE * place), MAGNITUDE)
    d.equal("It tends to the bound, from any M: asinh(beta/(2 alpha^2))/(4 log(1/alpha)) -> sign(beta)/2",
            "limits Lambda -> infinity of 1/Lambda and of the logarithm",
            sp.Matrix([sp.Limit(1 / (4 * SCALE), SCALE, sp.oo),
                       sp.Limit(sp.log(MAGNITUDE / 2 + sp.sqrt(MAGNITUDE**2 / 4 + sp.exp(-4 * SCALE))), SCALE, sp.oo)]),
            sp.Matrix([0, sp.log(MAGNITUDE)]))
    d.equal("alpha = c^kappa, Lambda for log(1/c): bounds kappa/2", "sinh in exponentials",
            2 * sp.exp(-2 * kappa * SCALE) * sp.sinh(4 * SCALE * PLACE),
            sp.exp(4 * SCALE * (PLACE - kappa / 2)) - sp.exp(-4 * SCALE * (PLACE + kappa / 2)))
    d.conclude("in the limit |s_j| <= 1/2; beta_j = 0 where |s_j| < 1/2, and where s_j = +-1/2 beta_j has its sign or is 0: while "
               "s moves with -g, which is bounded, beta is what keeps it inside")


def _saddle(d: Derivation, net: SymbolicNetwork) -> None:
    """Recognise the saddle: the conditions of optimality of sign-constrained least squares."""
    b, beta = net.b, sp.symbols("beta_1:3", real=True)
    loss, slope = _loss(net)

    def g(point: tuple[sp.Expr, ...], j: int) -> sp.Expr:
        return slope(point)[j]

    steps = [one - two for one, two in zip(b, beta, strict=True)]
    moved = net.X * sp.Matrix(steps)
    d.equal("The loss, exactly, around any beta", "Taylor's theorem: it is quadratic",
            loss(b) - loss(beta), sp.Add(*(g(beta, j) * step for j, step in enumerate(steps))) + moved.dot(moved) / 8)
    size, other, pull, sigma = *sp.symbols("m_j n_j p_j", positive=True), sp.Symbol("sigma_j", real=True)
    d.assume("in one coordinate at a bound, s_j = sigma_j/2 with sigma_j^2 = 1: beta_j = sigma_j m_j and b_j = sigma_j n_j, m_j and "
             "n_j >= 0; s_j stays or turns inward: sigma_j g_j = p_j >= 0; and where it turns, beta_j = 0 at once: m_j p_j = 0")
    d.equal("Its term g_j (b_j - beta_j)", "g_j = sigma_j p_j, sigma_j^2 = 1 (written as a factor)",
            (sigma * pull) * (sigma * other - sigma * size), sigma**2 * (pull * other - pull * size))
    d.positive("p_j n_j is not negative", "the sign of a product", pull * other)
    d.conclude("under the signs, L(b) - L(beta) = sum p_j n_j + |X (b - beta)|^2/(4N) >= 0, as m_j p_j = 0: the saddle is the "
               "minimiser, and so X beta is unique. By the same expansion, L falls at each jump: the minimiser before keeps the "
               "signs, unless it is the new one; coordinates are free to return to 0")


def _loss(net: SymbolicNetwork):  # type: ignore[no-untyped-def]
    """Give the loss of the network's data as a function of beta, and its gradient."""
    def residual(point: tuple[sp.Expr, ...]) -> sp.Matrix:
        return net.X * sp.Matrix(point) - sp.Matrix(net.y)

    def loss(point: tuple[sp.Expr, ...]) -> sp.Expr:
        return residual(point).dot(residual(point)) / 8

    def slope(point: tuple[sp.Expr, ...]) -> sp.Matrix:
        return net.X.T * residual(point) / 4

    return loss, slope


def _end(d: Derivation, net: SymbolicNetwork) -> None:
    """Certify the end: an l1 minimiser."""
    m, b, beta = sp.symbols("m_1:3", real=True), net.b, sp.symbols("beta_1:3", real=True)
    steps = sp.Matrix([one - two for one, two in zip(b, beta, strict=True)])
    d.assume("at the end X beta = y; s = -X^T m, as g stays in the row space")
    d.equal("s.b is the same for all interpolators", "transposition: (X^T m).(b - beta) = m.(X b - X beta)",
            (net.X.T * sp.Matrix(m)).dot(steps), sp.Matrix(m).dot(net.X * steps))
    d.conclude("|b_j| >= 2 s_j b_j, with equality for beta: so sum |b_j| >= 2 s.b = 2 s.beta = sum |beta_j|, and beta minimises the "
               "l1 norm; with alpha_j = c^kappa_j that with weights kappa_j")


def _distance(d: Derivation) -> None:
    """Bound the distance of the flow from the process: one coordinate's share of the change of the square."""
    alpha = sp.exp(-SCALE)
    share = MAGNITUDE * PLACE - alpha**2 / (2 * SCALE) * sp.cosh(4 * SCALE * PLACE)
    where = sp.asinh(MAGNITUDE / (2 * alpha**2)) / (4 * SCALE)
    phi = (MAGNITUDE * sp.asinh(MAGNITUDE / (2 * alpha**2)) - sp.sqrt(MAGNITUDE**2 + 4 * alpha**4) + 2 * alpha**2) / 4
    d.assume("m' = c (X beta - y) per unit of tau, of the flow and of the process from one start; F(m) = c (y.m + sum_j "
             "alpha^2/(2 Lambda) cosh(4 Lambda x_j.m)) is convex, and the flow follows -grad F")
    d.equal("Slope of F: the flow's beta", "differentiation in s = -x_j.m, one coordinate",
            sp.Derivative(alpha**2 / (2 * SCALE) * sp.cosh(4 * SCALE * PLACE), PLACE), 2 * alpha**2 * sp.sinh(4 * SCALE * PLACE))
    d.equal("The largest value of M s - alpha^2 cosh(4 Lambda s)/(2 Lambda): where it is stationary",
            "differentiation", sp.Subs(sp.Derivative(share, PLACE), PLACE, where), sp.S.Zero)
    d.positive("It is concave: minus its second derivative", "the sign",
               8 * SCALE * alpha**2 * sp.cosh(4 * SCALE * PLACE))
    d.equal("and what it is, with the potential phi", "cosh asinh z = sqrt(1 + z^2)",
            share.subs(PLACE, where), (phi - alpha**2 / 2) / SCALE)
    d.equal("At the bound, alpha^2 cosh(2 Lambda)", "cosh in exponentials", 4 * alpha**2 / 2 * sp.cosh(2 * SCALE), 1 + alpha**4)
    excess = 4 * phi - 2 * SCALE * MAGNITUDE
    entropy = MAGNITUDE * (sp.log(MAGNITUDE / 2 + sp.sqrt(MAGNITUDE**2 / 4 + alpha**4)) - 1)
    d.equal("Four times the potential less 2 Lambda M", "the logarithm of the inverse, as above",
            excess - MAGNITUDE * (sp.asinh(MAGNITUDE / (2 * alpha**2)) - 2 * SCALE)
            + MAGNITUDE * sp.log(MAGNITUDE / 2 + sp.sqrt(MAGNITUDE**2 / 4 + alpha**4)),
            entropy + MAGNITUDE - sp.sqrt(MAGNITUDE**2 + 4 * alpha**4) + 2 * alpha**2)
    d.conclude("with delta = m_flow - m_process, convexity gives (|delta|^2/2)' <= F(m_process) - F(m_flow) + c y.(m_flow - m_process) "
               "+ c sum |beta_j| (sign(beta_j) s_flow_j - 1/2), a sum over coordinates; the maxima above bound it by c E/(4 Lambda), "
               "E = sum_j [2 alpha^2 cosh(4 Lambda s_j) - 2 alpha^2 + 4 phi(beta_j) - 2 Lambda |beta_j|] at the process, which is "
               "at most the sum of 1 + alpha^4 + |beta_j| (log|beta_j| - 1) over the support and of (1 - alpha^2)^2 elsewhere: "
               "|delta|^2 <= tau max E/(4 N Lambda), ties or not, so that the flow tends to the process")
