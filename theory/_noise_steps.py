"""Derivations of T13 and T14: Ito's formula for a weight, the second moments of batches, and the law."""

from __future__ import annotations

from itertools import product

import sympy as sp

from ._derivation import Derivation
from ._network import SymbolicNetwork
from ._steps import PAST, TIME, argmin, effective_scale, law, start

__all__ = ["derive_label_noise", "derive_sgd"]

ETA = sp.Symbol("eta", positive=True)


def _ito(d: Derivation) -> None:
    """Expand the logarithm of a weight over a short time: the noise moves the ratio, its square shrinks the product."""
    root, e = sp.symbols("h e", positive=True)
    p, m = sp.symbols("p m", real=True)
    d.assume("du = -2 u (p dt + sqrt(eta) dM), dv = 2 v (p dt + sqrt(eta) dM), dM in the row space, dM_j^2 = Sigma_jj dt "
             "(Ito); over a time dt = e^2 write dM = m e, and h for sqrt(eta)")
    step = p * e**2 + root * m * e
    for name, sign in (("u", -1), ("v", 1)):
        d.by_series(f"Logarithm of {name}", "series of the logarithm to the order dt = e^2", sp.log(1 + sign * 2 * step),
                    sign * 2 * step - 2 * root**2 * m**2 * e**2, e, 3)
    d.by_series("so of the product u v only the square of the noise is left", "addition",
                sp.log(1 - 2 * step) + sp.log(1 + 2 * step), -4 * root**2 * m**2 * e**2, e, 3)
    d.conclude("with m^2 e^2 = Sigma_jj dt: d log(u v) = -4 eta Sigma_jj dt, exactly as for a flow with q = eta Sigma_jj, and "
               "log(u/v) moves by -4 (p dt + sqrt(eta) dM), which stays in the row space")


def _second_moments(d: Derivation, net: SymbolicNetwork) -> list[sp.Expr]:
    """Average over all batches: what Sigma is."""
    rows = range(net.n_samples)
    residual = [sp.Symbol(f"r_{i + 1}", real=True) for i in rows]
    g = [[net.X[i, j] * residual[i] / 2 for j in range(net.n_features)] for i in rows]
    d.assume("a batch is drawn uniformly with replacement; r_i is the residual of sample i and g_ij = x_ij r_i/2 its gradient")
    one = [sp.Add(*(g[i][j] ** 2 for i in rows)) / net.n_samples for j in range(net.n_features)]
    d.equal("One sample: the mean of g_ij^2", "the gradient of a sample", sp.Matrix(one), sp.Matrix(
        [sp.Add(*(net.X[i, j] ** 2 * residual[i] ** 2 for i in rows)) / (4 * net.n_samples) for j in range(net.n_features)]))
    for size in (2, 3):
        batches = list(product(rows, repeat=size))
        mean = [sp.Add(*(sp.Add(*(g[i][j] for i in batch)) ** 2 / size**2 for batch in batches)) / len(batches)
                for j in range(net.n_features)]
        full = [sp.Add(*(g[i][j] for i in rows)) / net.n_samples for j in range(net.n_features)]
        d.equal(f"A batch of {size}: mean_i g_ij^2 / B + (1 - 1/B) g_j^2", f"the mean over all {len(batches)} batches",
                sp.Matrix(mean),
                sp.Matrix([a / size + (1 - sp.Rational(1, size)) * b**2 for a, b in zip(one, full, strict=True)]))
    loss = sp.Add(*(r**2 for r in residual)) / (4 * net.n_samples)
    isotropic = [loss * sp.Add(*(net.X[i, j] ** 2 for i in rows)) / net.n_samples for j in range(net.n_features)]
    example = dict(zip((*net.X, *residual), (1, 2, 3, 4, 1, 5), strict=True))
    d.positive("The isotropic model, L (X^T X/N)_jj, is another one", "an example: the square of the difference",
               ((isotropic[0] - one[0]) ** 2).subs(example))
    return one


def derive_sgd() -> Derivation:
    """Derive T13: the stochastic flow keeps a law on every path; its q is the second moment of the gradient of a batch."""
    d, net = Derivation("T13", "Stochastic gradient descent"), SymbolicNetwork()
    start(d, net, sample=0)
    _ito(d)
    _second_moments(d, net)
    p = sp.Symbol("p", real=True)
    d.by_series("A discrete step with gradient p does the same: log(u v) falls by 4 eta^2 p^2", "series in the step",
                sp.log(1 - 2 * ETA * p) + sp.log(1 + 2 * ETA * p), -4 * ETA**2 * p**2, ETA, 4)
    law(d)
    alpha, n = sp.symbols("alpha N", positive=True)
    rate = sp.Function("R_j", nonnegative=True)(PAST)
    d.assume("R_j stands for sum_i x_ij^2 r_i^2, so that q = eta R_j/(4 N)")
    effective_scale(d, "Effective initialisation, one sample at a time", ETA * rate / (4 * n),
                    alpha * sp.exp(-ETA / (2 * n) * sp.Integral(rate, (PAST, 0, TIME))), alpha)
    argmin(d)
    d.conclude("the law holds on every path and at every time; for discrete steps it is that of T11 with the sampled "
               "gradients, exactly, and as eta -> 0 the mean of log alpha_eff, divided by eta, tends to the integral along "
               "gradient flow")
    return d


def derive_label_noise() -> Derivation:
    """Derive T14: noise on the labels adds delta^2 to every squared residual."""
    d, net = Derivation("T14", "Noise on the labels"), SymbolicNetwork()
    start(d, net, sample=0)
    _ito(d)
    _second_moments(d, net)
    delta, r, xi = sp.Symbol("delta", positive=True), sp.Symbol("r", real=True), sp.Symbol("xi", real=True)
    density = sp.exp(-xi**2 / 2) / sp.sqrt(2 * sp.pi)
    d.equal("Second moment of a residual with noise on its label", "integration over a standard Gaussian xi",
            sp.Integral((r - delta * xi) ** 2 * density, (xi, -sp.oo, sp.oo)), r**2 + delta**2)
    d.equal("So the mean of r_i^2/4, the loss, becomes L + delta^2/4", "the loss is the mean of r_i^2/4",
            sp.Integral((r - delta * xi) ** 2 / 4 * density, (xi, -sp.oo, sp.oo)), r**2 / 4 + delta**2 / 4)
    law(d)
    alpha, n, square = sp.symbols("alpha N m_j", positive=True)
    rate = sp.Function("R_j", nonnegative=True)(PAST)
    d.assume("R_j stands for sum_i x_ij^2 r_i^2, m_j for sum_i x_ij^2")
    effective_scale(d, "Effective initialisation: it falls for ever", ETA * (rate + square * delta**2) / (4 * n),
                    alpha * sp.exp(-ETA / (2 * n) * (sp.Integral(rate, (PAST, 0, TIME)) + square * delta**2 * TIME)), alpha)
    argmin(d)
    d.conclude("at constant delta no limit exists: alpha_eff(t) is what can be compared")
    return d
