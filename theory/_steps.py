"""The parts that all derivations share: weight gradients, a rule's pair (p, q), the law, the potential, the argmin.

A rule moves the weights by `du = -2 u (p + q)`, `dv = 2 v (p - q)`, products elementwise. Everything a theorem of this
folder claims follows from its p and its q; so a derivation is: find them from the loss (`start`, `perturb`, `pair`),
then integrate (`law`), then recognise the integral as a minimiser (`argmin`).
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from ._derivation import Derivation
from ._network import SymbolicNetwork

__all__ = ["Gradients", "argmin", "effective_scale", "law", "limits", "minimality", "pair", "perturb", "potential", "start"]

TIME, PAST = sp.symbols("t s", nonnegative=True)


@dataclass(frozen=True)
class Gradients:
    """Symbols of the gradients of one loss at one point of weight space.

    Attributes
    ----------
    weights : tuple of sympy.Expr
        The point: u, then v.
    of_weights : sympy.Matrix
        Gradient in the weights: its symbols stand for sympy's derivatives of the loss.
    of_beta : tuple of sympy.Symbol
        Gradient in the predictor, in closed form.
    """

    weights: tuple[sp.Expr, ...]
    of_weights: sp.Matrix
    of_beta: tuple[sp.Symbol, ...]

    @property
    def chained(self) -> sp.Matrix:
        """What the weight gradient is claimed to be: `2 u g`, then `-2 v g`."""
        d = len(self.of_beta)
        u, v = self.weights[:d], self.weights[d:]
        return sp.Matrix([2 * a * g for a, g in zip(u, self.of_beta, strict=True)]
                         + [-2 * a * g for a, g in zip(v, self.of_beta, strict=True)])


def _gradients(d: Derivation, net: SymbolicNetwork, weights: tuple[sp.Expr, ...], tag: str, where: str,
               sample: int | None = None) -> Gradients:
    """Name the gradients of the loss (or of one sample's) at some weights and prove how they hang together."""
    rows = range(net.n_samples) if sample is None else [sample]
    loss = net.loss if sample is None else net.sample_losses[sample]
    name = "L" if sample is None else f"L_{sample + 1}"
    suffix = f"{tag}_" if sample is None else f"{tag}_{sample + 1}"
    of_weights = sp.Matrix([
        d.define(sp.Symbol(f"G{suffix}{w}", real=True), net.at(slope, weights), f"derivative of {name} in {w}, {where}")
        for w, slope in zip(net.weights, net.gradient(loss), strict=True)])
    n = net.n_features
    residual = f"r{tag}_own_" if tag and sample is not None else f"r{tag}_"
    residuals = [d.define(sp.Symbol(f"{residual}{i + 1}", real=True),
                          sp.Add(*(net.X[i, j] * (weights[j] ** 2 - weights[n + j] ** 2) for j in range(n))) - net.y[i],
                          f"residual of sample {i + 1}, {where}") for i in rows]
    of_beta = tuple(
        d.define(sp.Symbol(f"g{suffix}{j + 1}", real=True),
                 sp.Add(*(net.X[i, j] * r for i, r in zip(rows, residuals, strict=True))) / (2 * len(residuals)),
                 f"x^T r/(2N) of {name}, {where}: a combination of rows of X") for j in range(n))
    found = Gradients(weights, of_weights, of_beta)
    d.equal(f"Gradient of {name} in the predictor, {where}", "differentiation of the loss in beta",
            sp.Matrix([net.at(slope, weights) for slope in net.beta_gradient(sample)]), sp.Matrix(of_beta))
    d.equal(f"Gradient of {name} in the weights, {where}", "the chain rule through beta = u^2 - v^2",
            of_weights, found.chained)
    return found


def start(d: Derivation, net: SymbolicNetwork, sample: int | None = None) -> Gradients:
    """Differentiate the loss (or one sample's) at the weights themselves."""
    d.assume("loss: the mean over samples of (x.beta - y)^2/4; network: beta = u^2 - v^2 with u, v > 0")
    d.assume("the algebra of a rule is proved on a network with two samples, two features and all data symbolic: "
             "its formulas act coordinate by coordinate and are linear in the samples")
    return _gradients(d, net, net.weights, "", "at the weights", sample)


def perturb(d: Derivation, net: SymbolicNetwork, at: Gradients, radius: sp.Expr, tag: str,
            sample: int | None = None) -> Gradients:
    """Differentiate the loss at the weights moved by `radius` times the gradient of the loss."""
    suffix = f"{tag}_" if sample is None else f"{tag}_{sample + 1}"
    moved = tuple(d.define(sp.Symbol(f"{w.name[0]}{suffix}{w.name.split('_')[1]}", real=True), w + radius * slope,
                           f"weight moved {tag} the gradient")
                  for w, slope in zip(net.weights, at.of_weights, strict=True))
    return _gradients(d, net, moved, tag, f"at the weights moved {tag}", sample)


def pair(d: Derivation, net: SymbolicNetwork, title: str, velocity: sp.Matrix, p: list[sp.Expr],
         q: list[sp.Expr]) -> None:
    """Prove that a rule's velocity in weight space has the pair (p, q)."""
    claimed = [-2 * u * (a + b) for u, a, b in zip(net.u, p, q, strict=True)]
    claimed += [2 * v * (a - b) for v, a, b in zip(net.v, p, q, strict=True)]
    d.equal(title, "the velocity as -2 u (p + q) and 2 v (p - q)", velocity, sp.Matrix(claimed))


def law(d: Derivation, shaped: bool = True, shrinking: bool = True) -> None:
    """Integrate the motion of one coordinate: conservation law and closed form of beta.

    Parameters
    ----------
    d : Derivation
    shaped : bool
        Whether u0 and v0 may differ; otherwise both are alpha.
    shrinking : bool
        Whether the rule has a q.
    """
    d.assume("the flow exists on [0, t]; p and q are continuous in time (or piecewise so: integrate piece by piece)")
    if shaped:
        u0, v0 = sp.symbols("u0 v0", positive=True)
    else:
        u0 = v0 = sp.Symbol("alpha", positive=True)
    u, v = (sp.Function(name, positive=True) for name in "uv")
    p, q = sp.Function("p", real=True), (sp.Function("q", real=True) if shrinking else sp.Lambda(PAST, 0))
    d.define(sp.Derivative(u(TIME), TIME), -2 * u(TIME) * (p(TIME) + q(TIME)), "motion of one coordinate")
    d.define(sp.Derivative(v(TIME), TIME), 2 * v(TIME) * (p(TIME) - q(TIME)), "motion of one coordinate")
    d.define(u(0), u0, "start")
    d.define(v(0), v0, "start")
    d.equal("Growth of the product", "differentiation along the motion",
            sp.Derivative(sp.log(u(TIME) * v(TIME)), TIME), -4 * q(TIME))
    d.equal("Growth of the ratio", "differentiation along the motion",
            sp.Derivative(sp.log(u(TIME) / v(TIME)), TIME), -4 * p(TIME))
    int_p = sp.Integral(p(PAST), (PAST, 0, TIME))
    int_q = sp.Integral(q(PAST), (PAST, 0, TIME)) if shrinking else sp.S.Zero
    d.by_differentiation("Conservation law", "the fundamental theorem of calculus",
                         sp.log(u(TIME) * v(TIME)), sp.log(u0 * v0) - 4 * int_q, TIME, sp.S.Zero)
    d.by_differentiation("Logarithm of the ratio", "the fundamental theorem of calculus",
                         sp.log(u(TIME) / v(TIME)), sp.log(u0 / v0) - 4 * int_p, TIME, sp.S.Zero)
    P, Q = sp.Symbol("P", real=True), sp.Symbol("Q", real=True) if shrinking else sp.S.Zero
    d.assume("below, P and Q stand for the integrals of p and q up to t" if shrinking
             else "below, P stands for the integral of p up to t")
    d.equal("Weights from product and ratio", "u^2 = (u v)(u/v), v^2 = (u v)/(u/v)",
            sp.Matrix([u0 * v0 * sp.exp(-4 * Q) * (u0 / v0) * sp.exp(-4 * P),
                       u0 * v0 * sp.exp(-4 * Q) / ((u0 / v0) * sp.exp(-4 * P))]),
            sp.Matrix([(u0 * sp.exp(-2 * (P + Q))) ** 2, (v0 * sp.exp(2 * (P - Q))) ** 2]))
    a = d.define(sp.Symbol("a", positive=True), sp.sqrt(u0 * v0) * sp.exp(-2 * Q), "the effective initialisation")
    d.equal("Predictor at time t", "beta = u^2 - v^2",
            (u0 * sp.exp(-2 * (P + Q))) ** 2 - (v0 * sp.exp(2 * (P - Q))) ** 2,
            2 * a**2 * sp.sinh(sp.log(u0 / v0) - 4 * P))


def effective_scale(d: Derivation, title: str, rate: sp.Expr, claimed: sp.Expr, initial: sp.Expr) -> None:
    """Prove the closed form of `alpha_eff = sqrt(u0 v0) exp(-2 int q)` for a rule's q."""
    count = sum(str(known.symbol).startswith("alpha_eff") for known in d.definitions)
    scale = d.define(sp.Symbol("alpha_eff" + (f"_{count + 1}" if count else ""), positive=True),
                     initial * sp.exp(-2 * sp.Integral(rate, (PAST, 0, TIME))), "sqrt(u v) by the conservation law")
    d.by_differentiation(title, "the q of the rule, logarithms of both sides", sp.log(scale), sp.log(claimed), TIME, sp.S.Zero)


@dataclass(frozen=True)
class Potential:
    """Value, slope and curvature of the potential of one coordinate, as proved expressions in b and a."""

    value: sp.Expr
    slope: sp.Expr
    curvature: sp.Expr
    b: sp.Symbol


def potential(d: Derivation, a: sp.Symbol) -> Potential:
    """Integrate the inverse of the mirror map: the hyperbolic entropy and its convexity."""
    b, s = sp.symbols("b s", real=True)
    slope = sp.asinh(b / (2 * a**2)) / 4
    d.equal("Inverse of the mirror map", "beta = 2 a^2 sinh(4 s) solved for s",
            2 * a**2 * sp.sinh(4 * slope, evaluate=False), b)
    phi = (b * sp.asinh(b / (2 * a**2)) - sp.sqrt(b**2 + 4 * a**4) + 2 * a**2) / 4
    d.equal("The potential: hyperbolic entropy", "integration of the inverse mirror map",
            sp.Integral(slope.subs(b, s), (s, 0, b)), phi)
    stable = (b * sp.asinh(b / (2 * a**2)) - b**2 / (sp.sqrt(b**2 + 4 * a**4) + 2 * a**2)) / 4
    d.equal("The potential without cancellation", "sqrt(x) - c = (x - c^2)/(sqrt(x) + c)", phi, stable)
    curvature = 1 / (4 * sp.sqrt(b**2 + 4 * a**4))
    d.equal("Its second derivative", "differentiation", sp.Derivative(phi, (b, 2)), curvature)
    d.positive("It is strictly convex", "the sign of the second derivative", curvature)
    return Potential(stable, slope, curvature, b)


def limits(d: Derivation) -> None:
    """Prove the kernel and the rich limit of the hyperbolic entropy."""
    a, b, x = sp.Symbol("a_t", positive=True), sp.Symbol("b", real=True), sp.Symbol("x", positive=True)
    phi = (b * sp.asinh(b / (2 * a**2)) - sp.sqrt(b**2 + 4 * a**4) + 2 * a**2) / 4
    unit = x * sp.asinh(x) - sp.sqrt(x**2 + 1) + 1
    d.equal("One function of one ratio", "homogeneity: b = 2 a_t^2 x", phi.subs(b, 2 * a**2 * x), a**2 / 2 * unit)
    d.equal("Kernel limit, x -> 0 (large alpha): phi -> b^2/(16 a_t^2)", "l'Hopital's rule",
            sp.Limit(unit / (x**2 / 2), x, 0, "+"), sp.S.One)
    d.equal("Its leading term", "substitution of x = b/(2 a_t^2)",
            sp.Subs(a**2 / 2 * (x**2 / 2), x, b / (2 * a**2)), b**2 / (16 * a**2))
    d.equal("Rich limit, x -> infinity (small alpha): what x (log(2 x) - 1) leaves", "asinh x = log(x + sqrt(x^2 + 1))",
            sp.Limit(unit - x * (sp.log(2 * x) - 1), x, sp.oo), sp.S.One)
    c = sp.Symbol("c", positive=True)
    d.equal("Its leading terms: |b| log(1/a_t)/2 and |b| (log|b| - 1)/4, an l1 norm",
            "substitution of x = c/(2 a_t^2), c = |b|",
            sp.Subs(a**2 / 2 * x * (sp.log(2 * x) - 1), x, c / (2 * a**2)), c * sp.log(1 / a) / 2 + c * (sp.log(c) - 1) / 4)


def argmin(d: Derivation, shaped: bool = True, shift: str = "log(u0/v0)") -> None:
    """Recognise beta(t) as the minimiser of the Bregman divergence subject to `X b = X beta(t)`; `shift` is the centre's."""
    d.assume("p stays in the row space of X, so P = X^T nu for some nu")
    # The effective initialisation is a symbol of its own from here on: the statement holds for every positive value.
    a = sp.Symbol("a_t", positive=True)
    d.assume("a_t stands for the effective initialisation a at time t")
    phi_a = potential(d, a)
    b, slope = phi_a.b, phi_a.slope
    h, P = (sp.Symbol("h", real=True) if shaped else sp.S.Zero), sp.Symbol("P", real=True)
    if shaped:
        d.assume(f"h stands for {shift}, and the centre for 2 a_t^2 sinh(h)")
    d.by_differentiation(
        "Stationarity", "the gradient of the potential at beta(t) less that at the centre is -P = -X^T nu",
        slope.subs(b, 2 * a**2 * sp.sinh(h - 4 * P)) - slope.subs(b, 2 * a**2 * sp.sinh(h)), -P, P, sp.S.Zero)
    minimality(d)


def minimality(d: Derivation) -> None:
    """Prove that a point whose gradient of phi differs from that at the centre by a vector of the row space is minimal."""
    phi = sp.Function("phi")
    b, c, x = sp.symbols("b c beta", real=True)

    def slope_at(point: sp.Symbol) -> sp.Expr:
        return sp.diff(phi(point), point)

    def divergence(point: sp.Symbol, center: sp.Symbol) -> sp.Expr:
        return phi(point) - phi(center) - slope_at(center) * (point - center)

    d.equal("Three points", "the definition of the Bregman divergence D(b, c) = phi(b) - phi(c) - phi'(c)(b - c)",
            divergence(b, c) - divergence(x, c), divergence(b, x) + (slope_at(x) - slope_at(c)) * (b - x))
    net = SymbolicNetwork(2, 2)
    nus, points, targets = sp.symbols("nu_1:3", real=True), net.b, sp.symbols("beta_1:3", real=True)
    steps = sp.Matrix([one - two for one, two in zip(points, targets, strict=True)])
    d.equal("The last term vanishes under X b = X beta(t)", "transposition: (X^T nu).(b - beta) = nu.(X b - X beta)",
            (net.X.T * sp.Matrix(nus)).dot(steps), sp.Matrix(nus).dot(net.X * steps))
    d.equal("Curvature of the divergence in its first argument", "differentiation",
            sp.Derivative(divergence(b, x), (b, 2)), sp.diff(phi(b), b, 2))
    d.equal("The divergence and its slope vanish at b = beta(t)", "substitution",
            sp.Matrix([sp.Subs(divergence(b, x), b, x), sp.Subs(sp.diff(divergence(b, x), b), b, x)]), sp.zeros(2, 1))
    d.conclude("beta(t) = argmin D(b, centre) subject to X b = X beta(t), with the potential of the effective "
               "initialisation: D(b, centre) - D(beta(t), centre) = D(b, beta(t)) > 0 for every other b with "
               "X b = X beta(t), because a strictly convex function with zero value and slope at beta(t) is positive "
               "elsewhere")
    d.conclude("where the rule settles on X beta = y, this is the theorem for the limit")
