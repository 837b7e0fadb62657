"""The check of an exact law of discrete steps, at several step counts, by two routes that share no code.

For every rule of a theorem and every step count it measures six relative discrepancies:

    engine_beta    the engine's beta against the raw route's;
    engine_scale   the engine's alpha_eff against sqrt|u v| of the raw route;
    engine_center  the engine's centre against alpha+^2 - alpha-^2 by the law, along the raw route;
    law            sqrt(alpha+ alpha-) by the theorem's sums along the raw route, against its sqrt|u v|;
    closed_form    alpha+^2 exp(-4 P) - alpha-^2 exp(4 P), P the theorem's sum of p, against beta of the raw route;
    argmin         the minimiser of the Bregman divergence for the law's alpha_eff and centre, subject to
                   X b = X beta_k, against beta_k of the raw route.

The first three catch an engine that makes wrong steps, or reports them wrongly; the others a wrong theorem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ._exact import distance, largest
from ._minimiser import minimise_divergence
from ._network import Array
from ._raw_descent import Field, Move, RawDescent, Schedule, descend
from ._raw_route import RouteError
from ._registry import Finding
from ._setting import Data, Setting

__all__ = ["COMMON_MUTANTS", "TOLERANCE", "DiscreteLaw", "DiscreteRun", "StepPair", "library", "mutants", "stand_in"]

TOLERANCE = 1e-10

DISCREPANCIES = ("engine_beta", "engine_scale", "engine_center", "law", "closed_form", "argmin")

#: `(k, t, u, v) -> (p, q)` of step k.
StepPair = Callable[[int, float, Array, Array], tuple[Array, Array]]


@dataclass(frozen=True)
class DiscreteRun:
    """What the engine claims at the step counts asked for: arrays of shape (K, d)."""

    betas: Array
    log_scales: Array
    centers: Array


#: `(data, alpha, log_ratio, counts, schedule) -> what the engine claims`.
StepEngine = Callable[[Data, Array, Array, Sequence[int], Schedule], DiscreteRun]


def library(make_rule: Callable[[Any], Any], stretch: float = 1.0, **options: Any) -> StepEngine:
    """Make an engine of the library's `descend` with a rule; one run per step count, as each ends in one centre.

    Parameters
    ----------
    make_rule : callable
        Given the library, returns its rule.
    stretch : float
        Factor of the step sizes: 1 but for mutants.
    **options
        Further arguments of `dln.descend`.
    """

    def run(data: Data, alpha: Array, log_ratio: Array, counts: Sequence[int], schedule: Schedule) -> DiscreteRun:
        import dln

        problem, rows = dln.Problem(data.X, data.y), []
        for count in counts:
            found = dln.descend(problem, make_rule(dln), step=[stretch * float(schedule(k)) for k in range(count)],
                                n_steps=count, alpha=alpha, log_ratio=log_ratio, residual_tol=None, **options)
            if found.n_steps != count or not found.success:
                raise RouteError(f"the engine stopped after {found.n_steps} steps of {count}: {found.message}")
            rows.append((found.beta, found.log_effective_alpha, found.center))
        return _stacked(rows)

    return run


def _stacked(rows: list[tuple[Array, Array, Array]]) -> DiscreteRun:
    betas, log_scales, centers = (np.array(column) for column in zip(*rows, strict=True))
    return DiscreteRun(betas, log_scales, centers)


def factors(pair: StepPair) -> Callable[[int, float, Array, Array, float | Array], tuple[Array, Array, Array]]:
    """Give what a step multiplies the weights by, and p."""

    def at(k: int, t: float, u: Array, v: Array, step: float | Array) -> tuple[Array, Array, Array]:
        p, q = pair(k, t, u, v)
        return 1 - 2 * step * (p + q), 1 + 2 * step * (p - q), p

    return at


def stand_in(pair: StepPair, stretch: float = 1.0) -> StepEngine:
    """Make an engine of any pair (p, q), right or wrong: logarithms of moduli, and signs, one factor per step.

    With the right pair it passes every check, with a wrong one it must fail: that is what it is for.
    """
    multipliers = factors(pair)

    def run(data: Data, alpha: Array, log_ratio: Array, counts: Sequence[int], schedule: Schedule) -> DiscreteRun:
        logs = np.stack([np.log(alpha) + log_ratio / 2, np.log(alpha) - log_ratio / 2])
        signs, P, t, rows = np.ones_like(logs), np.zeros_like(alpha), 0.0, []
        for k in range(counts[-1] + 1):
            if k in counts:
                rows.append((2 * np.exp(logs[0] + logs[1]) * np.sinh(logs[0] - logs[1]), (logs[0] + logs[1]) / 2,
                             np.exp(2 * logs[0] + 4 * P) - np.exp(2 * logs[1] - 4 * P)))
            step = stretch * schedule(k)
            u, v = signs * np.exp(logs)
            up, down, p = multipliers(k, t, u, v, step)
            both = np.stack([up, down])
            logs, signs = logs + np.log(np.abs(both)), signs * np.sign(both)
            P, t = P + step * p, t + float(step)
        return _stacked(rows)

    return run


def log_of(factor: Array) -> Array:
    """Take the logarithm of the modulus: factors turn negative at large steps."""
    return np.log(np.abs(factor))


def center_of(log_plus: Array, log_minus: Array) -> Array:
    """Give the centre, `alpha+^2 - alpha-^2`."""
    return 2 * np.exp(log_plus + log_minus) * np.sinh(log_plus - log_minus)


@dataclass(frozen=True)
class DiscreteLaw:
    """A training rule in discrete steps, and what the theorem claims of it.

    Attributes
    ----------
    name : str
    engine : StepEngine
        The library's engine with the rule.
    motion : Field
        The rule in raw weights.
    pair : StepPair
        The theorem's formulas of p and q.
    alpha, log_ratio : ndarray of shape (d,)
        Initialisation: `u0, v0 = alpha exp(+- log_ratio / 2)`.
    counts : tuple of int
        Step counts at which the law is checked.
    schedule : callable
        Step size of step k.
    of_p, of_sum : float
        The claims: `S+ = sum [log|1 - 2 eta (p + q)| + of_p eta p]`, S- with the other sign; P is `of_sum` times the sum of
        eta p.
    log_of : callable
        The claim: the logarithm of the modulus of a factor.
    center : callable
        The claim `(log alpha+, log alpha-) -> centre`.
    flips : bool
        Whether some weight must change its sign on the way, for the claim to be tested there.
    shrinks : bool
        Whether q can differ from 0.
    tolerance : float
    """

    name: str
    engine: StepEngine
    motion: Field
    pair: StepPair
    alpha: Array
    log_ratio: Array
    counts: tuple[int, ...]
    schedule: Schedule
    of_p: float = 2.0
    of_sum: float = 1.0
    log_of: Callable[[Array], Array] = field(default=log_of)
    center: Callable[[Array, Array], Array] = field(default=center_of)
    flips: bool = False
    shrinks: bool = True
    tolerance: float = TOLERANCE

    def measure(self, setting: Setting) -> Finding:
        """Measure the six discrepancies at every step count; the worst decides."""
        half, multipliers = self.log_ratio / 2, factors(self.pair)

        def terms(move: Move) -> tuple[Array, ...]:
            up, down, p = multipliers(move.k, move.t, move.u, move.v, move.step)
            return (self.log_of(up) + self.of_p * move.step * p, self.log_of(down) - self.of_p * move.step * p,
                    self.of_sum * move.step * p)

        raw = descend(self.motion, self.alpha * np.exp(half), self.alpha * np.exp(-half), self.counts, self.schedule, terms)
        if self.flips and not raw.n_flips:
            raise RouteError("no weight changes its sign: the steps are too small for what is to be checked")
        engine = self.engine(setting.data, self.alpha, self.log_ratio, self.counts, self.schedule)
        s_plus, s_minus, sum_p = raw.sums
        log_plus, log_minus = np.log(self.alpha) + half + s_plus, np.log(self.alpha) - half + s_minus
        log_scales, centers = (log_plus + log_minus) / 2, self.center(log_plus, log_minus)
        closed_form = 2 * np.exp(2 * log_scales) * np.sinh(log_plus - log_minus - 4 * sum_p)
        minima = [minimise_divergence(setting.data.X, setting.data.X @ beta, scale, center)
                  for beta, scale, center in zip(raw.betas, log_scales, centers, strict=True)]
        found: dict[str, Any] = {
            "engine_beta": distance(engine.betas, raw.betas),
            # A difference of logarithms is a relative error of alpha_eff.
            "engine_scale": largest(engine.log_scales - raw.log_scales),
            # Relative to what a centre can be: near 0 its own digits are those of a difference.
            "engine_center": largest((engine.centers - centers) / np.max(np.exp(2 * log_scales), axis=-1, keepdims=True)),
            "law": largest(log_scales - raw.log_scales),
            "closed_form": distance(closed_form, raw.betas),
            "argmin": distance(np.array([m.beta for m in minima]), raw.betas),
        }
        numbers = np.array([found[key] for key in DISCREPANCIES])
        # NaN is a failure, and a maximum could lose it.
        worst = float(np.max(numbers)) if np.all(np.isfinite(numbers)) else float("inf")
        return Finding(worst, self.tolerance, worst <= self.tolerance, found | self._more(setting, raw, centers))

    def _more(self, setting: Setting, raw: RawDescent, centers: Array) -> dict[str, Any]:
        start = float(setting.net.loss(*setting.weights()))
        unshaped = 2 * np.exp(2 * raw.log_scales) * np.sinh(self.log_ratio)
        return {"step_counts": list(self.counts), "sign_flips": raw.n_flips,
                "relative_loss": [float(loss) / start for loss in setting.net.loss(raw.u, raw.v)],
                "mean_log_scale_change": [float(x) for x in np.mean(raw.log_scales - np.log(self.alpha), axis=-1)],
                "center_less_that_of_a_flow": largest(
                    (centers - unshaped) / np.max(np.exp(2 * raw.log_scales), axis=-1, keepdims=True))}


Mutant = Callable[[Any, Setting], Any]


def mutants(**spoil: Mutant) -> dict[str, Mutant]:
    """Give names to mutants of discrete laws; parts of other kinds are not their concern."""

    def only_laws(mutant: Mutant) -> Mutant:
        return lambda part, setting: mutant(part, setting) if isinstance(part, DiscreteLaw) else None

    return {name: only_laws(mutant) for name, mutant in spoil.items()}


def scaled(pair: StepPair, of_p: float = 1.0, of_q: float = 1.0) -> StepPair:
    """Multiply p and q of a pair."""

    def wrong(k: int, t: float, u: Array, v: Array) -> tuple[Array, Array]:
        p, q = pair(k, t, u, v)
        return of_p * p, of_q * q

    return wrong


# The wrong versions that any law of steps has. Each takes a part and the setting and returns the spoilt part.


def _moduli_dropped(law: DiscreteLaw, setting: Setting) -> DiscreteLaw | None:
    """Expand the logarithm of a negative factor, which has none, as if the step were small."""
    return replace(law, log_of=lambda x: np.where(x > 0, log_of(x), x - 1)) if law.flips else None


def _factors_expanded(law: DiscreteLaw, setting: Setting) -> DiscreteLaw:
    return replace(law, log_of=lambda x: (x - 1) - (x - 1) ** 2 / 2)


def _q_off(law: DiscreteLaw, setting: Setting) -> DiscreteLaw | None:
    wrong = replace(law, pair=scaled(law.pair, of_q=1.01))
    return wrong if law.shrinks else None


def _center_of_a_flow(law: DiscreteLaw, setting: Setting) -> DiscreteLaw:
    """Claim `2 alpha_eff^2 sinh(log(u0/v0))`."""
    return replace(law, center=lambda plus, minus: 2 * np.exp(plus + minus) * np.sinh(law.log_ratio))


COMMON_MUTANTS: dict[str, Mutant] = {
    "centre dropped": lambda law, setting: replace(law, center=lambda plus, minus: np.zeros_like(plus)),
    "centre of a flow": _center_of_a_flow,
    "centre of opposite sign": lambda law, setting: replace(law, center=lambda plus, minus: center_of(minus, plus)),
    "moduli dropped": _moduli_dropped,
    "logarithm of second order": _factors_expanded,
    "factor of eta p in S halved": lambda law, setting: replace(law, of_p=1.0),
    "sign of eta p in S swapped": lambda law, setting: replace(law, of_p=-2.0),
    "sum of p halved": lambda law, setting: replace(law, of_sum=0.5),
    "p off by 1 percent": lambda law, setting: replace(law, pair=scaled(law.pair, of_p=1.01)),
    "q off by 1 percent": _q_off,
    "engine: q off by 1 percent": lambda law, setting: (
        replace(law, engine=stand_in(scaled(law.pair, of_q=1.01))) if law.shrinks else None),
    "engine: p off by 1 percent": lambda law, setting: replace(law, engine=stand_in(scaled(law.pair, of_p=1.01))),
    "engine: steps off by 1 in a million": lambda law, setting: replace(law, engine=stand_in(law.pair, 1 + 1e-6)),
}
