"""T20: the time average of gradient flow, and the Lasso path that it follows as long as no coordinate has left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ._exact import LEVELS, TOLERANCE, center_of, distance
from ._fields import Velocity, gradient_flow, weight_decay
from ._lasso_steps import derive_lasso_path
from ._mean_limits import (
    Engine,
    Means,
    ProcessMean,
    SmallScaleLimit,
    in_units,
    library_lasso,
    library_means,
    plateaus,
    with_one_that_leaves,
)
from ._network import Array
from ._process_mean import SaddleProcess, saddle_process
from ._raw_route import integrate
from ._registry import GENERIC, Finding, Mutant, Theorem
from ._setting import Data, Setting, default_data

__all__ = ["THEOREMS"]

# --- the identity ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MeanIdentity:
    """The claim `grad L(mean) = -(grad phi(beta(t)) - grad phi(centre))/t`, phi the potential of alpha_eff(t).

    Attributes
    ----------
    name : str
    velocity : Velocity
        The rule in raw weights.
    alpha, log_ratio : ndarray of shape (d,)
    times : ndarray of shape (K,)
    decay : float
        Strength of the weight decay that the engine is given.
    engine : Engine
    factor : float
        The claim: slopes of the potential are `asinh(b/(2 a^2))` times this.
    shift : ndarray of shape (d,) or float
        Added to log alpha_eff where the potential takes it; 0 but for mutants.
    exponent : float
        The claim: divided by this power of t.
    center : callable
        The claim `(log alpha_eff, log_ratio) -> centre`.
    point : callable
        The claim: the gradient is that at this point, of the mean and of beta(t).
    scale_at_end : bool
        The claim: the potential is that of alpha_eff(t), not of alpha.
    """

    name: str
    velocity: Velocity
    alpha: Array
    log_ratio: Array
    times: Array
    decay: float = 0.0
    engine: Engine = library_means
    factor: float = 0.25
    shift: Array | float = 0.0
    exponent: float = 1.0
    center: Callable[[Array, Array], Array] = center_of
    point: Callable[[Array, Array], Array] = lambda mean, beta: mean
    scale_at_end: bool = True

    def measure(self, setting: Setting) -> Finding:
        """Compare the engine's means with the raw route's, and the two sides of the identity on both routes."""
        net, half = setting.net, self.log_ratio / 2
        raw = integrate(self.velocity, self.alpha * np.exp(half), self.alpha * np.exp(-half), self.times,
                        lambda t, u, v: (net.predictor(u, v),))
        means = raw.integrals[0] / self.times[:, None]
        engine_means, engine_betas = self.engine(setting.data, np.log(self.alpha), self.log_ratio, self.times, self.decay,
                                                 1e-12)
        scales = raw.log_scales if self.scale_at_end else np.log(self.alpha)
        found: dict[str, Any] = {
            "engine_mean": distance(engine_means, means),
            "engine_beta": distance(engine_betas, raw.betas),
            "identity": self._misses(setting, means, raw.betas, scales),
            "engine_identity": self._misses(setting, engine_means, engine_betas, scales),
        }
        numbers = np.array(list(found.values()))
        worst = float(np.max(numbers)) if np.all(np.isfinite(numbers)) else float("inf")
        found["times"] = [float(t) for t in self.times]
        found["raw_evaluations"] = raw.n_rhs
        return Finding(worst, TOLERANCE, worst <= TOLERANCE, found)

    def _misses(self, setting: Setting, means: Array, betas: Array, log_scales: Array) -> list[float]:
        left = setting.net.loss_slope(self.point(means, betas))
        scales = log_scales + 0 * betas
        potential = 2 * np.exp(2 * (scales + self.shift))
        centers = np.array([self.center(scale, self.log_ratio) for scale in scales])
        slopes = self.factor * (np.arcsinh(betas / potential) - np.arcsinh(centers / potential))
        return distance(-slopes / self.times[:, None] ** self.exponent, left)


def identities(setting: Setting) -> list[MeanIdentity]:
    """Check the identity for gradient flow from an even and from a shaped initialisation, and with weight decay."""
    net, times = setting.net, setting.times(LEVELS)
    even = np.full_like(setting.alpha, np.exp(np.mean(np.log(setting.alpha))))
    decay = 0.3 / float(times[-1])
    return [MeanIdentity("u0 = v0 = alpha", gradient_flow(net), even, np.zeros_like(even), times),
            MeanIdentity("alpha per coordinate, u0 != v0", gradient_flow(net), setting.alpha, setting.log_ratio, times),
            MeanIdentity("weight decay", weight_decay(net, lambda t: decay), setting.alpha, setting.log_ratio, times, decay)]


# --- the parts of the check -------------------------------------------------------------------------------------------

#: Larger data take part in the identity and the process only.
MOST_FEATURES = 20

#: As other limits, these are measured on the first of the default problems only.
_NOT_IN_LIMITS = {data.name for data in default_data()[GENERIC:]}


def parts(setting: Setting) -> list[Any]:
    """Check the identity, the process, and on small generic data the limit."""
    data = in_units(setting)
    other = with_one_that_leaves(data) if data.X.shape[0] > 1 and data.X.shape[1] <= MOST_FEATURES else None
    targets = (data,) if other is None else (data, other[0])
    found: list[Any] = [*identities(setting), ProcessMean("from saddle to saddle", targets)]
    if data.name in _NOT_IN_LIMITS or data.X.shape[1] > MOST_FEATURES:
        return found
    process = saddle_process(data.X, data.y)
    kept = [tau for tau in plateaus(process) if not process.left(tau)]
    if kept:
        found.append(SmallScaleLimit("limit, all coordinates kept", data, kept[0]))
    if other is not None:
        found.append(SmallScaleLimit("limit, a coordinate has left", *other, gap=1.0))
    return found


# --- wrong versions ----------------------------------------------------------------------------------------------------


def _identity(**options: Any) -> Mutant:
    return lambda part, setting: replace(part, **options) if isinstance(part, MeanIdentity) else None


def _shaped(**options: Any) -> Mutant:
    def spoil(part: Any, setting: Setting) -> Any:
        return replace(part, **options) if isinstance(part, MeanIdentity) and np.any(part.log_ratio) else None

    return spoil


def _decaying(**options: Any) -> Mutant:
    return lambda part, setting: replace(part, **options) if isinstance(part, MeanIdentity) and part.decay else None


def _alpha_for_its_square(part: Any, setting: Setting) -> Any:
    return replace(part, shift=-np.log(part.alpha) / 2) if isinstance(part, MeanIdentity) else None


def _penalty(penalty: Callable[[float], float]) -> Mutant:
    """Claim another penalty, wherever the mean is to solve the Lasso."""

    def spoil(part: Any, setting: Setting) -> Any:
        solves = isinstance(part, ProcessMean) or (isinstance(part, SmallScaleLimit) and part.gap is None)
        return replace(part, penalty=penalty) if solves else None

    return spoil


def _limit(**options: Any) -> Mutant:
    return lambda part, setting: replace(part, **options) if isinstance(part, SmallScaleLimit) else None


def _limit_with_gap(**options: Any) -> Mutant:
    def spoil(part: Any, setting: Setting) -> Any:
        return replace(part, **options) if isinstance(part, SmallScaleLimit) and part.gap is not None else None

    return spoil


def _never_left(X: Array, y: Array) -> SaddleProcess:
    """Let coordinates pass through 0: they fit y without regard to their signs, and stay."""
    return saddle_process(X, y, signed=False)


def _engine(engine: Engine, *, at_small_scales: bool = False) -> Mutant:
    def spoil(part: Any, setting: Setting) -> Any:
        chosen = isinstance(part, MeanIdentity) or (at_small_scales and isinstance(part, SmallScaleLimit))
        return replace(part, engine=engine) if chosen else None

    return spoil


def _other_times(factor: float) -> Engine:
    """Make an engine whose gradient is too large by a factor: of a loss with another constant."""
    return lambda data, log_alpha, log_ratio, times, decay, rtol: library_means(
        data, log_alpha, log_ratio, factor * times, decay / factor, rtol)


def _trapezoid(data: Data, log_alpha: Array, log_ratio: Array, times: Array, decay: float, rtol: float) -> Means:
    """Take the mean of both ends for the mean over time."""
    _, betas = library_means(data, log_alpha, log_ratio, times, decay, rtol)
    return (betas + center_of(log_alpha, log_ratio)) / 2, betas


def _other_scale(data: Data, log_alpha: Array, log_ratio: Array, times: Array, decay: float, rtol: float) -> Means:
    """Start from an alpha that is off by 1 percent."""
    return library_means(data, log_alpha + 0.01, log_ratio, times, decay, rtol)


def _cut_short(data: Data, log_alpha: Array, log_ratio: Array, times: Array, decay: float, rtol: float) -> Means:
    """Leave the last tenth of the time out."""
    means, _ = library_means(data, log_alpha, log_ratio, 0.9 * times, decay, rtol)
    return 0.9 * means, library_means(data, log_alpha, log_ratio, times, decay, rtol)[1]


THEOREMS = (
    Theorem(
        key="T20",
        title="The Lasso path",
        statement="grad L(mean_t beta) = -(grad phi(beta_t) - grad phi(centre))/t at every time; as alpha -> 0 the mean over "
                  "time solves the Lasso with lam = log(1/alpha)/(2t) iff no coordinate has left, at order 1 in 1/log(1/alpha)",
        source='Berthier 2025, "Diagonal linear networks and the Lasso regularization path"',
        kind="exact",
        tolerance=TOLERANCE,
        derive=derive_lasso_path,
        parts=parts,
        mutants={
            "factor 1/2 for 1/4": _identity(factor=0.5),
            "sign of the slopes swapped": _identity(factor=-0.25),
            "potential without its 2": _identity(shift=-np.log(2) / 2),
            "alpha in place of alpha^2": _alpha_for_its_square,
            "beta(t) for its mean": _identity(point=lambda mean, beta: beta),
            "not divided by t": _identity(exponent=0.0),
            "centre dropped": _shaped(center=lambda log_scale, log_ratio: np.zeros_like(log_scale)),
            "sign of the centre swapped": _shaped(center=lambda log_scale, log_ratio: center_of(log_scale, -log_ratio)),
            "alpha for alpha_eff": _decaying(scale_at_end=False),
            "penalty log(1/alpha)/t": _penalty(lambda tau: 1 / tau),
            "penalty log(1/alpha)/(4 t)": _penalty(lambda tau: 1 / (4 * tau)),
            "penalty off by 1 percent": _penalty(lambda tau: 1.01 / (2 * tau)),
            "coordinates never leave": _limit_with_gap(process=_never_left),
            "no gap where one has left": _limit_with_gap(gap=0.0),
            "gap off by 10 percent": _limit_with_gap(gap=1.1),
            "beta(t) tends to the Lasso": _limit(point="beta"),
            "order 2": _limit(order=2.0),
            "engine: p off by 1 percent": _engine(_other_times(1.01), at_small_scales=True),
            "engine: loss with 1/(2N)": _engine(_other_times(2.0)),
            "engine: mean of both ends": _engine(_trapezoid, at_small_scales=True),
            "engine: last tenth left out": _engine(_cut_short),
            "engine: alpha off by 1 percent": _engine(_other_scale),
            "engine: Lasso with 1/(2N)": _limit(library=lambda data, penalty: library_lasso(data, penalty / 2)),
        },
    ),
)
