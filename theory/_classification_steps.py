"""The derivation of T21: from a loss of margins to multipliers, and to what the predictor minimises."""

from __future__ import annotations

import sympy as sp

from ._derivation import Derivation
from ._steps import PAST, TIME, law, limits, potential

__all__ = ["derive_classification"]


def derive_classification() -> Derivation:
    """Derive T21: the identity, that beta(t) is a constrained minimiser, and the potential of the limit."""
    d = Derivation("T21", "Training on two classes maximises a margin in the geometry of the potential")
    d.assume("network: beta = u^2 - v^2 with u, v > 0; z_i = label_i x_i; loss: the mean over samples of l(z_i.beta), with "
             "l(m) = exp(-m) or log(1 + exp(-m))")
    d.assume("the algebra is proved on a network with two samples, two features and all data symbolic: its formulas act "
             "coordinate by coordinate and are linear in the samples")
    Z = sp.Matrix(2, 2, lambda i, j: sp.Symbol(f"z_{i + 1}{j + 1}", real=True))
    _pair(d, Z)
    law(d, shrinking=False)
    nus = _multipliers(d, Z)
    _minimality(d, Z, nus)
    _descent(d)
    limits(d)
    d.conclude("as the margin grows, margins of samples with growing multipliers differ by O(1) while all margins grow: "
               "divided by the margin, a multiplier grows only while its constraint is tight. Where no multiplier has ever "
               "to fall along the minimisers of Q_mu, from mu = infinity down to alpha^2/margin, these are followed and the "
               "direction tends to argmin Q_mu; multipliers never fall, so elsewhere a gap remains")
    return d


def _pair(d: Derivation, Z: sp.Matrix) -> None:
    """Differentiate both losses in the weights: p = -Z^T a with a > 0."""
    u, v = sp.symbols("u_1:3", positive=True), sp.symbols("v_1:3", positive=True)
    beta = sp.Matrix([a**2 - b**2 for a, b in zip(u, v, strict=True)])
    margins = [d.define(sp.Symbol(f"m_{i + 1}", real=True), (Z * beta)[i], f"margin of sample {i + 1}") for i in range(2)]
    written = [d.write_out(m) for m in margins]
    for name, loss, rate in (("exponential", lambda m: sp.exp(-m), lambda m: sp.exp(-m)),
                             ("logistic", lambda m: sp.log(1 + sp.exp(-m)), lambda m: 1 / (1 + sp.exp(m)))):
        total = sp.Add(*map(loss, written)) / 2
        tag = name[:3]
        a = [d.define(sp.Symbol(f"a_{tag}_{i + 1}", real=True), rate(m) / 2, f"-l'(m)/N of sample {i + 1}, {name} loss")
             for i, m in enumerate(margins)]
        p = [-sp.Add(*(Z[i, j] * a[i] for i in range(2))) for j in range(2)]
        # The loss is differentiated in each margin, and the margin in each weight: the chain rule, checked as a whole.
        velocity = sp.Matrix([-sp.diff(total, w) for w in (*u, *v)])
        claimed = sp.Matrix([-2 * w * p_j for w, p_j in zip(u, p, strict=True)]
                            + [2 * w * p_j for w, p_j in zip(v, p, strict=True)])
        d.equal(f"Gradient flow of the {name} loss is the pair p = -Z^T a, q = 0",
                "differentiation of the loss in the weights", velocity, claimed)
        for i in range(2):
            d.positive(f"Sample {i + 1} is only ever pulled to its own side ({name})", "the sign of an exponential", a[i])


def _multipliers(d: Derivation, Z: sp.Matrix) -> tuple[sp.Symbol, ...]:
    """Integrate p: the multipliers nu, which grow."""
    d.assume("below, a_i(t) is positive, as just proved")
    rates = [sp.Function(f"a_{i + 1}", positive=True) for i in range(2)]
    nu_t = [d.define(sp.Function(f"nu_{i + 1}")(TIME), sp.Integral(a(PAST), (PAST, 0, TIME)), f"multiplier of sample {i + 1}")
            for i, a in enumerate(rates)]
    for j in range(2):
        d.by_differentiation(f"int p in coordinate {j + 1} is -Z^T nu", "the fundamental theorem of calculus",
                             sp.Integral(-sp.Add(*(Z[i, j] * rates[i](PAST) for i in range(2))), (PAST, 0, TIME)),
                             -sp.Add(*(Z[i, j] * nu_t[i] for i in range(2))), TIME, sp.S.Zero)
    d.conclude("nu_i = int a_i starts at 0 and increases: nu >= 0")
    return sp.symbols("n_1:3", nonnegative=True)


def _minimality(d: Derivation, Z: sp.Matrix, nus: tuple[sp.Symbol, ...]) -> None:
    """Recognise beta(t) as a minimiser under inequalities, and scale it to margin 1."""
    a, h, N = sp.Symbol("a_t", positive=True), sp.Symbol("h", real=True), sp.Symbol("n", real=True)
    d.assume("a_t stands for alpha, h for log(u0/v0), n for one entry of Z^T nu, n_i for nu_i at time t")
    phi = potential(d, a)
    b, slope = phi.b, phi.slope
    beta, center = 2 * a**2 * sp.sinh(h + 4 * N), 2 * a**2 * sp.sinh(h)
    d.by_differentiation("The identity: asinh(beta/(2 a_t^2)) = log(u0/v0) + 4 Z^T nu", "beta = 2 a_t^2 sinh(h - 4 int p)",
                         sp.asinh(beta / (2 * a**2)), h + 4 * N, N, -h / 4)
    d.by_differentiation("Stationarity", "the gradient of the potential at beta(t) less that at the centre is Z^T nu",
                         slope.subs(b, beta) - slope.subs(b, center), N, N, sp.S.Zero)
    F = sp.Function("phi")
    x, c, y = sp.symbols("b c beta", real=True)

    def divergence(one: sp.Symbol, other: sp.Symbol) -> sp.Expr:
        return F(one) - F(other) - sp.diff(F(other), other) * (one - other)

    d.equal("Three points", "the definition of the Bregman divergence D(b, c) = phi(b) - phi(c) - phi'(c)(b - c)",
            divergence(x, c) - divergence(y, c),
            divergence(x, y) + (sp.diff(F(y), y) - sp.diff(F(c), c)) * (x - y))
    steps = sp.Matrix(sp.symbols("b_1:3", real=True)) - sp.Matrix(sp.symbols("beta_1:3", real=True))
    d.equal("The last term is a sum over samples", "transposition", (Z.T * sp.Matrix(nus)).dot(steps),
            sp.Add(*(nu * (Z.row(i) * steps)[0] for i, nu in enumerate(nus))))
    d.conclude("beta(t) = argmin D(b, centre) subject to z_i.b >= z_i.beta(t) for every i, with multipliers nu(t): "
               "D(b, centre) - D(beta(t), centre) = D(b, beta(t)) + sum nu_i (z_i.b - z_i.beta(t)), and both terms are at "
               "least 0; without a constraint, beta(t) = argmin D(b, centre) - nu(t).(Z b)")
    g, mu = sp.symbols("gamma mu", positive=True)
    d.equal("Divided by the margin gamma: the potential of scale mu = a_t^2/gamma", "homogeneity",
            phi.value.subs(b, g * b), g * phi.value.subs(a, a / sp.sqrt(g)))
    d.equal("One function q of b/mu", "a_t^2 = mu in the potential",
            phi.value.subs(a, sp.sqrt(mu)),
            mu / 2 * (b / (2 * mu) * sp.asinh(b / (2 * mu)) - (b / (2 * mu)) ** 2 / (sp.sqrt((b / (2 * mu)) ** 2 + 1) + 1)))


def _descent(d: Derivation) -> None:
    """Prove the same for gradient descent with steps of any size: moduli absorb what a step adds."""
    u, v = sp.symbols("u v", positive=True)
    n = sp.Symbol("n", real=True)
    up = d.define(sp.Symbol("alpha_p", positive=True), u * sp.exp(-2 * n), "alpha_+ of the discrete law, u a modulus")
    down = d.define(sp.Symbol("alpha_m", positive=True), v * sp.exp(2 * n), "alpha_- of the discrete law, v a modulus")
    d.equal("Descent: beta in the discrete law's scale and centre", "u^2 = alpha_+^2 exp(4 n), v^2 = alpha_-^2 exp(-4 n)",
            u**2 - v**2, 2 * up * down * sp.sinh(sp.log(up / down) + 4 * n))
