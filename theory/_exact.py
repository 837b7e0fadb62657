"""The check of an exact law, in its strong form, at several times, by two routes that share no code.

For every rule of a theorem and every time it measures five relative discrepancies:

    engine_beta    the engine's beta(t) against the raw route's;
    engine_scale   the engine's alpha_eff against sqrt(u v) of the raw route;
    law            alpha exp(-2 int q), q by the theorem's formula along the raw route, against its sqrt(u v);
    closed_form    2 alpha_eff^2 sinh(log(u0/v0) - 4 int p), likewise, against beta(t) of the raw route;
    argmin         the minimiser of the Bregman divergence for the law's alpha_eff and the theorem's centre, subject to
                   X b = X beta(t), against beta(t) of the raw route.

The first two catch an engine that integrates a wrong rule, or a right one badly; the others a wrong theorem.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ._engine import Engine, Pair, stand_in
from ._fields import Velocity
from ._minimiser import minimise_divergence
from ._network import Array
from ._raw_route import RawRun, integrate
from ._registry import Finding
from ._setting import Setting

__all__ = ["LEVELS", "TOLERANCE", "ExactLaw", "center_of", "distance", "largest", "mutants"]

TOLERANCE = 1e-9

#: Where the laws are checked: when plain gradient flow has brought the loss down to these fractions of its start.
LEVELS = (0.5, 0.1, 1e-2, 1e-4)

#: For rules that divide by the norm of the gradient: while it is still a good part of its start. Later they turn into
#: sliding motion, where no smooth law of motion exists and every integrator crawls.
GRADIENT_LEVELS = (0.8, 0.6, 0.45, 0.3)

DISCREPANCIES = ("engine_beta", "engine_scale", "law", "closed_form", "argmin")


def center_of(log_scale: Array, log_ratio: Array) -> Array:
    """Give the centre, `2 alpha_eff^2 sinh(log(u0/v0))` (Azulay et al. 2021, with alpha_eff for alpha)."""
    return 2 * np.exp(2 * log_scale) * np.sinh(log_ratio)


@dataclass(frozen=True)
class ExactLaw:
    """A training rule that an exact theorem speaks about, and what the theorem claims of it.

    Attributes
    ----------
    name : str
    engine : Engine
        The library's engine with the rule.
    velocity : Velocity
        The rule in raw weights.
    pair : Pair
        The theorem's formulas of p and q.
    alpha, log_ratio : ndarray of shape (d,)
        Initialisation: `u0, v0 = alpha exp(+- log_ratio / 2)`.
    times : ndarray of shape (K,)
    breakpoints : tuple of float
        Times where the rule jumps.
    factor : float
        The claim `log alpha_eff = log alpha - factor * int q`.
    center : callable
        The claim `(log alpha_eff, log_ratio) -> centre`.
    potential_shift : float
        Added to log alpha_eff where the potential takes it; 0 but for mutants.
    tolerance : float
    """

    name: str
    engine: Engine
    velocity: Velocity
    pair: Pair
    alpha: Array
    log_ratio: Array
    times: Array
    breakpoints: tuple[float, ...] = ()
    factor: float = 2.0
    center: Callable[[Array, Array], Array] = field(default=center_of)
    potential_shift: Array | float = 0.0
    tolerance: float = TOLERANCE

    def measure(self, setting: Setting) -> Finding:
        """Measure the five discrepancies at every time; the worst decides."""
        half = self.log_ratio / 2
        raw = integrate(self.velocity, self.alpha * np.exp(half), self.alpha * np.exp(-half), self.times, self.pair,
                        self.breakpoints)
        engine = self.engine(setting.data, self.alpha, self.log_ratio, self.times)
        int_p, int_q = raw.integrals
        log_scales = np.log(self.alpha) - self.factor * int_q
        closed_form = 2 * np.exp(2 * log_scales) * np.sinh(self.log_ratio - 4 * int_p)
        minima, certificates = self._minimise(setting.data.X, raw, log_scales)
        found: dict[str, Any] = {
            "engine_beta": distance(engine.betas, raw.betas),
            # A difference of logarithms is a relative error of alpha_eff.
            "engine_scale": largest(engine.log_scales - raw.log_scales),
            "law": largest(log_scales - raw.log_scales),
            "closed_form": distance(closed_form, raw.betas),
            "argmin": distance(minima, raw.betas),
        }
        numbers = np.array([found[key] for key in DISCREPANCIES])
        # NaN is a failure, and a maximum could lose it.
        worst = float(np.max(numbers)) if np.all(np.isfinite(numbers)) else float("inf")
        found |= certificates
        found["times"] = [float(t) for t in self.times]
        start = float(setting.net.loss(self.alpha * np.exp(half), self.alpha * np.exp(-half)))
        found["relative_loss"] = [float(loss) / start for loss in setting.net.loss(raw.u, raw.v)]
        found["mean_log_scale_change"] = [float(x) for x in np.mean(raw.log_scales - np.log(self.alpha), axis=-1)]
        found["raw_evaluations"] = raw.n_rhs
        return Finding(worst, self.tolerance, worst <= self.tolerance, found)

    def _minimise(self, X: Array, raw: RawRun, log_scales: Array) -> tuple[Array, dict[str, list[float]]]:
        minima = [minimise_divergence(X, X @ beta, scale + self.potential_shift, self.center(scale, self.log_ratio))
                  for beta, scale in zip(raw.betas, log_scales, strict=True)]
        return np.array([m.beta for m in minima]), {"argmin_stationarity": [m.stationarity for m in minima],
                                                    "argmin_infeasibility": [m.infeasibility for m in minima]}


def largest(differences: Array) -> list[float]:
    """Largest difference at each time."""
    return [float(x) for x in np.max(np.abs(differences), axis=-1)]


def distance(one: Array, other: Array) -> list[float]:
    """Largest difference at each time relative to the largest entry of `other`."""
    scale = np.maximum(np.max(np.abs(other), axis=-1), np.finfo(float).tiny)
    return [float(x) for x in np.max(np.abs(one - other), axis=-1) / scale]


Mutant = Callable[[Any, Setting], Any]


def mutants(**spoil: Mutant) -> dict[str, Mutant]:
    """Give names to mutants of exact laws; parts of other kinds are not their concern."""

    def only_laws(mutant: Mutant) -> Mutant:
        return lambda part, setting: mutant(part, setting) if isinstance(part, ExactLaw) else None

    return {name: only_laws(mutant) for name, mutant in spoil.items()}


def scaled(pair: Pair, of_p: float = 1.0, of_q: float = 1.0) -> Pair:
    """Multiply p and q of a pair."""

    def wrong(t: float, u: Array, v: Array) -> tuple[Array, Array]:
        p, q = pair(t, u, v)
        return of_p * p, of_q * q

    return wrong


# The wrong versions that any law with a q has. Each takes a part and the setting and returns the spoilt part.


def q_off_by_1_percent(law: ExactLaw, setting: Setting) -> ExactLaw:
    """Claim 1.01 q."""
    return replace(law, pair=scaled(law.pair, of_q=1.01))


def engine_q_off_by_1_percent(law: ExactLaw, setting: Setting) -> ExactLaw:
    """Let the engine integrate (p, 1.01 q)."""
    return replace(law, engine=stand_in(scaled(law.pair, of_q=1.01)))


def engine_p_off_by_1_percent(law: ExactLaw, setting: Setting) -> ExactLaw:
    """Let the engine integrate (1.01 p, q)."""
    return replace(law, engine=stand_in(scaled(law.pair, of_p=1.01)))


def center_dropped(law: ExactLaw, setting: Setting) -> ExactLaw:
    """Claim that the centre is 0 whatever the shape of the initialisation."""
    return replace(law, center=lambda log_scale, log_ratio: np.zeros_like(log_scale))


def center_not_rescaled(law: ExactLaw, setting: Setting) -> ExactLaw:
    """Claim that the centre is beta(0): alpha in it, not alpha_eff."""
    return replace(law, center=lambda log_scale, log_ratio: center_of(np.log(law.alpha), log_ratio))


def constant_doubled(law: ExactLaw, setting: Setting) -> ExactLaw:
    """Claim alpha exp(-4 int q)."""
    return replace(law, factor=2 * law.factor)


def scale_of_start(law: ExactLaw, setting: Setting) -> ExactLaw:
    """Claim that alpha_eff is alpha."""
    return replace(law, factor=0.0)


def potential_without_2(law: ExactLaw, setting: Setting) -> ExactLaw:
    """Claim asinh(beta / alpha^2), not asinh(beta / (2 alpha^2))."""
    return replace(law, potential_shift=-np.log(2) / 2)


SHRINKING_MUTANTS = {
    "q off by 1 percent": q_off_by_1_percent,
    "engine: q off by 1 percent": engine_q_off_by_1_percent,
    "engine: p off by 1 percent": engine_p_off_by_1_percent,
    "centre dropped": center_dropped,
    "centre not rescaled by alpha_eff": center_not_rescaled,
    "constant doubled": constant_doubled,
    "alpha_eff is alpha": scale_of_start,
    "potential without its 2": potential_without_2,
}
