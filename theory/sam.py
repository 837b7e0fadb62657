"""T7 and T8: sharpness-aware minimisation, full batch, one sample at a time, and with a normalised radius."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp

from . import _exact as exact
from ._derivation import Derivation
from ._engine import Engine, Pair, library, stand_in
from ._exact import ExactLaw
from ._expansions import expand_in_radius, relative_remainder
from ._fields import Velocity, over_norm, sam
from ._network import Array, Network, SymbolicNetwork
from ._raw_route import integrate
from ._registry import Finding, Part, Theorem
from ._setting import Setting
from ._slopes import slope_finding
from ._steps import PAST, TIME, argmin, effective_scale, law, pair, perturb, start
from .gradient_regularization import gradient_at_moved_predictor, gradient_at_moved_weights

__all__ = ["THEOREMS"]

#: Gradient in the predictor, of the loss or of one sample's, at the weights and at the weights moved by the radius.
G, G_UP = sp.symbols("g g_up", real=True)
RHO = sp.Symbol("rho", positive=True)

#: What the theorem says: q of the full batch; for single samples the mean of this over samples.
Q = 2 * RHO * G * G_UP


def _q(g: sp.Expr, g_up: sp.Expr, radius: sp.Expr) -> sp.Expr:
    return Q.subs({G: g, G_UP: g_up, RHO: radius}, simultaneous=True)


def derive_sam() -> Derivation:
    """Derive T7: both pairs, both effective initialisations, and their first order in the radius."""
    d, net = Derivation("T7", "Sharpness-aware minimisation shrinks the initialisation"), SymbolicNetwork()
    d.assume("one sample at a time: the flow of the mean over samples of each sample's own SAM gradient")
    at = start(d, net)
    up = perturb(d, net, at, RHO, "up")
    q = [_q(g, g_up, RHO) for g, g_up in zip(at.of_beta, up.of_beta, strict=True)]
    pair(d, net, "The pair of full-batch SAM", -up.of_weights, list(up.of_beta), q)
    N, samples = net.n_samples, range(net.n_samples)
    here = [start(d, net, sample) for sample in samples]
    moved = [perturb(d, net, here[sample], RHO, "up", sample) for sample in samples]
    of_samples = list(zip(here, moved, strict=True))
    q_one = [sp.Add(*(_q(a.of_beta[j], b.of_beta[j], RHO) for a, b in of_samples)) / N for j in range(net.n_features)]
    pair(d, net, "The pair of SAM one sample at a time", -sum((b.of_weights for b in moved), sp.zeros(4, 1)) / N,
         [sp.Add(*(b.of_beta[j] for b in moved)) / N for j in range(net.n_features)], q_one)
    residuals = [sp.Symbol(f"r_{i + 1}", real=True) for i in samples]
    squared_sums = [sp.Add(*(net.X[i, j] * residuals[i] for i in samples)) ** 2 for j in range(net.n_features)]
    sums_of_squares = [sp.Add(*((net.X[i, j] * residuals[i]) ** 2 for i in samples)) for j in range(net.n_features)]
    expand_in_radius(d, "full batch", RHO, q, [total / N**2 for total in squared_sums])
    expand_in_radius(d, "one sample at a time", RHO, q_one, [total / N for total in sums_of_squares])
    relative_remainder(d, RHO)
    d.conclude("to first order alpha_eff = alpha exp(-(rho/N^2) int (X^T r)^2), and one sample at a time "
               "alpha exp(-(rho/N) int sum_i x_i^2 r_i^2), with a relative error O(rho) of the exponent")
    law(d)
    alpha = sp.Symbol("alpha", positive=True)
    g, g_up = sp.Function("g", real=True)(PAST), sp.Function("g_up", real=True)(PAST)
    effective_scale(d, "Effective initialisation, full batch", _q(g, g_up, RHO),
                    alpha * sp.exp(-4 * RHO * sp.Integral(g * g_up, (PAST, 0, TIME))), alpha)
    g2, g2_up = sp.Function("g_2", real=True)(PAST), sp.Function("g_up_2", real=True)(PAST)
    effective_scale(d, "Effective initialisation, one of two samples at a time",
                    (_q(g, g_up, RHO) + _q(g2, g2_up, RHO)) / 2,
                    alpha * sp.exp(-4 * RHO / 2 * sp.Integral(g * g_up + g2 * g2_up, (PAST, 0, TIME))), alpha)
    argmin(d)
    return d


def derive_normalized() -> Derivation:
    """Derive T8: the algebra of SAM with any number c(t) as radius, and then rho/|grad L| for it."""
    d, net = Derivation("T8", "Normalised SAM keeps the law at every finite time"), SymbolicNetwork()
    c = sp.Symbol("c", positive=True)
    d.assume("c = rho/|grad L| at each time; where the gradient is 0 the rule is plain gradient flow, so at rest: "
             "p = q = 0")
    at = start(d, net)
    up = perturb(d, net, at, c, "up")
    pair(d, net, "The pair of SAM with radius c |grad L|", -up.of_weights, list(up.of_beta),
         [_q(g, g_up, c) for g, g_up in zip(at.of_beta, up.of_beta, strict=True)])
    sizes = [u**2 + v**2 for u, v in zip(net.u, net.v, strict=True)]
    d.equal("Norm of the gradient", "the weight gradients just proved", sp.Add(*(slope**2 for slope in at.of_weights)),
            4 * sp.Add(*(size * g**2 for size, g in zip(sizes, at.of_beta, strict=True))))
    residuals = [sp.Symbol(f"r_{i + 1}", real=True) for i in range(net.n_samples)]
    squares = [sp.Add(*(net.X[i, j] * r for i, r in enumerate(residuals))) ** 2 for j in range(net.n_features)]
    expand_in_radius(d, "full batch", c, [_q(g, g_up, c) for g, g_up in zip(at.of_beta, up.of_beta, strict=True)],
                     [total / net.n_samples**2 for total in squares])
    _one_sample_normalized(d, net, sizes)
    law(d)
    alpha = sp.Symbol("alpha", positive=True)
    g, g_up = sp.Function("g", real=True)(PAST), sp.Function("g_up", real=True)(PAST)
    norm = sp.Function("n", positive=True)(PAST)
    d.assume("n(t) stands for |grad L| in the weights")
    effective_scale(d, "Effective initialisation", _q(g, g_up, RHO / norm),
                    alpha * sp.exp(-4 * RHO * sp.Integral(g * g_up / norm, (PAST, 0, TIME))), alpha)
    argmin(d)
    d.conclude("to first order alpha_eff = alpha exp(-(rho/N^2) int (X^T r)^2/|grad L|)")
    d.conclude("nothing here needs convergence: the law holds at every finite time, also of a run that never settles")
    return d


def _one_sample_normalized(d: Derivation, net: SymbolicNetwork, sizes: list[sp.Expr]) -> None:
    """Add the pair of 1-SAM with a radius for each sample, `c_i = rho/|grad L_i|`, and the norm of that gradient."""
    N, samples = net.n_samples, range(net.n_samples)
    d.assume("one sample at a time, c_i = rho/|grad L_i|, or 0 where that gradient is 0")
    radii = [sp.Symbol(f"c_{i + 1}", positive=True) for i in samples]
    here = [start(d, net, sample) for sample in samples]
    moved = [perturb(d, net, here[sample], radii[sample], "up", sample) for sample in samples]
    pair(d, net, "The pair one sample at a time, with radius c_i |grad L_i|",
         -sum((b.of_weights for b in moved), sp.zeros(2 * net.n_features, 1)) / N,
         [sp.Add(*(b.of_beta[j] for b in moved)) / N for j in range(net.n_features)],
         [sp.Add(*(_q(a.of_beta[j], b.of_beta[j], c) for a, b, c in zip(here, moved, radii, strict=True))) / N
          for j in range(net.n_features)])
    d.equal("Norm of each sample's gradient", "the weight gradients just proved",
            sp.Matrix([sp.Add(*(slope**2 for slope in at.of_weights)) for at in here]),
            sp.Matrix([sp.Symbol(f"r_{i + 1}", real=True) ** 2
                       * sp.Add(*(net.X[i, j] ** 2 * size for j, size in enumerate(sizes))) for i in samples]))


_lambdified_q = sp.lambdify((G, G_UP, RHO), Q, "numpy")


def full_batch(net: Network, rho: float, normalized: bool = False,
               moved: Callable[[Network, Array, Array, Any], Array] = gradient_at_moved_weights) -> Pair:
    """Give the pair of full-batch SAM by the theorem's formulas."""

    def pair_of(t: float, u: Array, v: Array) -> tuple[Array, Array]:
        radius = over_norm(rho, *net.gradient(u, v)) if normalized else rho
        g_up = moved(net, u, v, radius)
        return g_up, _lambdified_q(net.beta_gradient(u, v), g_up, radius)

    return pair_of


def one_sample_at_a_time(net: Network, rho: float, at_predictor: bool = False) -> Pair:
    """Give the pair of 1-SAM by the theorem's formulas (or with the mistake of moving the predictor)."""

    def pair_of(t: float, u: Array, v: Array) -> tuple[Array, Array]:
        us, vs = u[None, :], v[None, :]
        g = net.sample_beta_gradients(us, vs)
        if at_predictor:
            outputs = np.sum((net.predictor(us, vs) + rho * g) * net.X, axis=-1)
            g_up = net.sample_slope(outputs)[:, None] * net.X
        else:
            gu, gv = net.sample_gradients(us, vs)
            g_up = net.sample_beta_gradients(us + rho * gu, vs + rho * gv)
        return np.mean(g_up, axis=0), np.mean(_lambdified_q(g, g_up, rho), axis=0)

    return pair_of


def radius_of(setting: Setting, per_sample: bool) -> float:
    """Give a radius of natural size: it changes the flow visibly and leaves it stable."""
    return 0.3 / (setting.sample_gradient_unit if per_sample else setting.gradient_unit)


def radius_normalized(setting: Setting) -> float:
    """Give a normalised radius that at the start moves the gradient by about a tenth."""
    return 0.05 * setting.initial_gradient_norm / setting.gradient_unit


FULL, ONE, NORMALIZED = "full batch", "one sample at a time", "normalised"


def _exact_laws(setting: Setting) -> list[ExactLaw]:
    net, times = setting.net, setting.times(exact.LEVELS)
    full, one = radius_of(setting, False), radius_of(setting, True)
    return [ExactLaw(FULL, library(lambda dln: dln.SAM(full)), sam(net, full), full_batch(net, full), setting.alpha,
                     setting.log_ratio, times),
            ExactLaw(ONE, library(lambda dln: dln.SAM(one, per_sample=True)), sam(net, one, per_sample=True),
                     one_sample_at_a_time(net, one), setting.alpha, setting.log_ratio, times)]


@dataclass(frozen=True)
class FirstOrder:
    """The formula of first order in the radius: its relative remainder must vanish in proportion to the radius.

    Attributes
    ----------
    name : str
    formula : callable
        `(u, v) -> rate`, the claim `log(alpha_eff/alpha) = -rho int rate + O(rho^2)`.
    velocity : callable
        `radii -> Velocity`, for all radii of the ladder at once.
    engine : callable
        `radius -> Engine`.
    radii : ndarray of shape (K,)
    order : float
        The claimed order of the relative remainder.
    """

    name: str
    formula: Callable[[Array, Array], Array]
    velocity: Callable[[Array], Velocity]
    engine: Callable[[float], Engine]
    radii: Array
    order: float = 1.0

    def measure(self, setting: Setting) -> Finding:
        """Fit the order of the remainder by both routes at one finite time."""
        times = setting.times((1e-2,))
        u0, v0 = (np.tile(weights, (len(self.radii), 1)) for weights in setting.weights())
        raw = integrate(self.velocity(self.radii[:, None]), u0, v0, times, lambda t, u, v: (self.formula(u, v),))
        predicted = -self.radii[:, None] * raw.integrals[0, 0]
        changes = {
            "raw": raw.log_scales[0] - np.log(setting.alpha),
            "engine": np.array([self.engine(float(rho))(setting.data, setting.alpha, setting.log_ratio, times)
                                .log_scales[0] for rho in self.radii]) - np.log(setting.alpha),
        }
        size = np.linalg.norm(predicted, axis=1)
        remainders = {route: np.linalg.norm(change - predicted, axis=1) / size for route, change in changes.items()}
        return slope_finding(self.radii, remainders, self.order, noise=1e-12 / float(np.min(size)))


def _first_orders(setting: Setting) -> list[FirstOrder]:
    net = setting.net
    N = net.n_samples
    ladder = 0.5 ** np.arange(6)

    def residual(u: Array, v: Array) -> Array:
        return net.predictor(u, v) @ net.X.T - net.y

    return [
        FirstOrder(f"{FULL}, first order", lambda u, v: (residual(u, v) @ net.X) ** 2 / N**2, lambda rho: sam(net, rho),
                   lambda rho: library(lambda dln: dln.SAM(rho)), radius_of(setting, False) * ladder),
        FirstOrder(f"{ONE}, first order", lambda u, v: residual(u, v) ** 2 @ net.X**2 / N,
                   lambda rho: sam(net, rho, per_sample=True),
                   lambda rho: library(lambda dln: dln.SAM(rho, per_sample=True)), radius_of(setting, True) * ladder),
    ]


def parts_sam(setting: Setting) -> list[Part]:
    """Check T7: the two exact laws, and the two formulas of first order."""
    return [*_exact_laws(setting), *_first_orders(setting)]


def parts_normalized(setting: Setting) -> list[Part]:
    """Check T8 while the gradient is a good part of its start, never in the limit."""
    rho, net = radius_normalized(setting), setting.net
    return [ExactLaw(NORMALIZED, library(lambda dln: dln.SAM(rho, normalized=True)), sam(net, rho, normalized=True),
                     full_batch(net, rho, normalized=True), setting.alpha, setting.log_ratio,
                     setting.times(exact.GRADIENT_LEVELS, of="gradient"))]


# --- mutants ---------------------------------------------------------------------------------------------------------


def _wrong_pair(setting: Setting, name: str, sign: float = 1.0, at_predictor: bool = False) -> Pair:
    """Build the formulas with the radius of the wrong sign, or with the gradient taken at a moved predictor."""
    moved = gradient_at_moved_predictor if at_predictor else gradient_at_moved_weights
    if name == ONE:
        return one_sample_at_a_time(setting.net, sign * radius_of(setting, True), at_predictor)
    if name == NORMALIZED:
        return full_batch(setting.net, sign * radius_normalized(setting), True, moved)
    return full_batch(setting.net, sign * radius_of(setting, False), moved=moved)


def _claim(**wrong: Any) -> Callable[[ExactLaw, Setting], ExactLaw]:
    return lambda part, setting: replace(part, pair=_wrong_pair(setting, part.name, **wrong))


def _engine(**wrong: Any) -> Callable[[ExactLaw, Setting], ExactLaw]:
    return lambda part, setting: replace(part, engine=stand_in(_wrong_pair(setting, part.name, **wrong)))


def _on_first_order(change: Callable[[FirstOrder, Setting], FirstOrder | None]) -> exact.Mutant:
    return lambda part, setting: change(part, setting) if isinstance(part, FirstOrder) else None


def _formula_scaled(factor: Callable[[Setting], float]) -> exact.Mutant:
    def change(part: FirstOrder, setting: Setting) -> FirstOrder:
        return replace(part, formula=lambda u, v: factor(setting) * part.formula(u, v))

    return _on_first_order(change)


def _formula_of_the_other(part: FirstOrder, setting: Setting) -> FirstOrder:
    full, one = _first_orders(setting)
    return replace(part, formula=(one if part.name == full.name else full).formula)


SAM_MUTANTS = exact.SHRINKING_MUTANTS | {
    "sign of rho swapped": _claim(sign=-1.0),
    "gradient at beta + rho g": _claim(at_predictor=True),
    "engine: sign of rho swapped": _engine(sign=-1.0),
    "engine: gradient at beta + rho g": _engine(at_predictor=True),
}


def _other_batch(part: ExactLaw, setting: Setting) -> ExactLaw:
    full, one = _exact_laws(setting)
    return replace(part, pair=(one if part.name == FULL else full).pair)


THEOREMS = (
    Theorem(
        key="T7",
        title="Sharpness-aware minimisation",
        statement="alpha_eff = alpha exp(-4 rho int g g_rho), one sample at a time (-4 rho/N) int sum_i g_i g_{i,rho}; "
                  "first orders",
        source='Andriushchenko & Flammarion 2022, "Towards understanding sharpness-aware minimization"',
        kind="exact",
        tolerance=exact.TOLERANCE,
        derive=derive_sam,
        parts=parts_sam,
        mutants=exact.mutants(**SAM_MUTANTS, **{
            "batches confused": _other_batch,
            "engine: batches confused": lambda part, setting: replace(part, engine=library(
                lambda dln: dln.SAM(radius_of(setting, part.name == ONE), per_sample=part.name == FULL))),
            "engine: rho off by 1 percent": lambda part, setting: replace(part, engine=library(
                lambda dln: dln.SAM(1.01 * radius_of(setting, part.name == ONE), per_sample=part.name == ONE))),
        }) | {
            "first order: off by 1 percent": _formula_scaled(lambda setting: 1.01),
            "first order: one factor 1/N missing": _formula_scaled(lambda setting: setting.net.n_samples),
            "first order: formulas of the two batches confused": _on_first_order(_formula_of_the_other),
            "first order: remainder claimed O(rho^2)": _on_first_order(lambda part, setting: replace(part, order=2.0)),
        },
    ),
    Theorem(
        key="T8",
        title="Normalised SAM",
        statement="alpha_eff = alpha exp(-4 rho int g g_rho/|grad L|) at every finite time, whether or not it settles",
        source='Andriushchenko & Flammarion 2022, "Towards understanding sharpness-aware minimization"',
        kind="exact",
        tolerance=exact.TOLERANCE,
        derive=derive_normalized,
        parts=parts_normalized,
        mutants=exact.mutants(**SAM_MUTANTS, **{
            "radius not normalised": lambda part, setting: replace(part, pair=full_batch(
                setting.net, radius_normalized(setting) / setting.initial_gradient_norm)),
            "engine: radius not normalised": lambda part, setting: replace(part, engine=library(
                lambda dln: dln.SAM(radius_normalized(setting) / setting.initial_gradient_norm))),
        }),
    ),
)
