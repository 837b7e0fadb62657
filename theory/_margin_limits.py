"""The limits of T21: the direction at large margin, and the margins of Q_mu as mu tends to 0 and to infinity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.linalg import lstsq

from ._dual import follow_minimisers, row_space
from ._faces import entropy, least_l1, select
from ._minimiser import minimise_divergence
from ._network import Array
from ._raw_route import RouteError
from ._registry import Finding, Mutant
from ._setting import Data, Setting
from ._slopes import slope_finding
from ._two_classes import TwoClasses, active_minimiser, follow, least_l1_active, least_norm_active

__all__ = ["MARGIN_MUTANTS", "margin_limits"]

#: From each margin to the next the distance is to fall by about the ratio of the margins; it must come down to this part.
ENGINE_MARGINS = 10.0 * 30.0 ** np.arange(5)
RAW_MARGINS = 10.0 * 10.0 ** np.arange(4)
LEAST_RATIO = 0.15

#: Distances below these are the accuracy of a route (with one sample they all are): they need not fall any further.
ACCURACY = {"engine": 1e-12, "scipy": 1e-12, "raw": 1e-8}

#: mu of the way to l2, in units of the predictor.
LARGE = 2.0 * 1.4 ** np.arange(8)


def _ratios(distances: Array, accuracy: float) -> Array:
    """Give how the distances fall; what has come down to the accuracy of the route has fallen."""
    both = np.maximum(distances[1:], distances[:-1]) <= accuracy
    return np.where(both, 0.0, distances[1:] / np.maximum(distances[:-1], np.finfo(float).tiny))


def _falling(distances: dict[str, Array], tolerance: float, details: dict[str, Any]) -> Finding:
    ratios = {route: _ratios(values, ACCURACY[route]) for route, values in distances.items()}
    worst = max(float(np.max(r)) if np.all(np.isfinite(r)) else np.inf for r in ratios.values())
    details = {**details, "distances": {route: [float(x) for x in values] for route, values in distances.items()},
               "ratios": {route: [float(x) for x in values] for route, values in ratios.items()}}
    return Finding(worst, tolerance, worst <= tolerance, details)


@dataclass(frozen=True)
class DirectionLimit:
    """The claim that `beta/margin` tends to argmin Q_mu as alpha and the margin grow at fixed `mu = alpha^2/margin`.

    Attributes
    ----------
    name : str
    case : TwoClasses
    mu : ndarray of shape (d,)
    claim : callable
        `mu -> mu` of the potential that is claimed to be minimised.
    engine_norm : str
        What the library is asked for.
    """

    name: str
    case: TwoClasses
    mu: Array
    claim: Callable[[Array], Array] = lambda mu: mu

    def measure(self, _: Setting) -> Finding:
        """Follow the distance over five scales by the library, over four by SciPy."""
        import dln

        Z, mu = self.case.Z, self.claim(self.mu)
        problem = dln.Classification(self.case.X, self.case.labels)
        best = dln.maximum_margin(problem, "potential", mu=mu)
        if not best.success:
            raise RouteError(f"the library did not maximise the margin: {best.message}")
        own, active = active_minimiser(Z, np.log(mu) / 2)
        engine, raw = [], []
        for m in ENGINE_MARGINS:
            run = dln.margin_flow(problem, log_alpha=(np.log(self.mu) + np.log(m)) / 2, margin_end=m, rtol=1e-9)
            if not run.success:
                raise RouteError(f"the engine stopped: {run.message}")
            engine.append(np.linalg.norm(run.beta / m - best.beta))
        for m in RAW_MARGINS:
            raw.append(np.linalg.norm(follow(Z, np.sqrt(self.mu * m), m) / m - own))
        size = float(np.linalg.norm(own))
        return _falling({"engine": np.array(engine) / size, "raw": np.array(raw) / size}, LEAST_RATIO,
                        {"margins": {"engine": [float(m) for m in ENGINE_MARGINS], "raw": [float(m) for m in RAW_MARGINS]},
                         "support_vectors": [int(i) for i in active],
                         "distance_between_limits": float(np.linalg.norm(own - best.beta)) / size})


@dataclass(frozen=True)
class KernelEnd:
    """The claim that argmin Q_mu is that of the l2 norm, with weights 1/shape, up to const/mu^2 as mu grows."""

    name: str
    case: TwoClasses
    shape: Array
    order: float = 2.0
    power: float = 1.0

    def measure(self, _: Setting) -> Finding:
        """Fit the order by two routes."""
        import dln

        Z = self.case.Z
        root = self.shape ** (self.power / 2)
        problem = dln.Classification(self.case.X * root, self.case.labels)
        library = root * dln.maximum_margin(problem, "l2").beta
        active = least_norm_active(Z * root)
        own = root * lstsq((Z * root)[active], np.ones(active.size))[0]
        mus = self.case.unit * LARGE[:, None] * self.shape
        plain = dln.Classification(self.case.X, self.case.labels)
        engine = np.array([dln.maximum_margin(plain, "potential", mu=mu).beta for mu in mus])
        scipy = np.array([minimise_divergence(Z[active], np.ones(active.size), np.log(mu) / 2, np.zeros(mu.size)).beta
                          for mu in mus])
        distances = {"engine": np.linalg.norm(engine - library, axis=1), "scipy": np.linalg.norm(scipy - own, axis=1)}
        return slope_finding(1 / LARGE, distances, self.order, (2, 4), 1e-14 * float(np.linalg.norm(own)))


@dataclass(frozen=True)
class RichEnd:
    """The claim that argmin Q_mu tends to that of the l1 norm as mu tends to 0."""

    name: str
    case: TwoClasses
    log_mus: Array
    weights: Array

    def measure(self, _: Setting) -> Finding:
        """Follow the distance over five scales by two routes."""
        import dln

        from .limits import LEAST_FALL

        Z = self.case.Z
        problem = dln.Classification(self.case.X / self.weights, self.case.labels)
        library = dln.maximum_margin(problem, "l1").beta / self.weights
        active = least_l1_active(Z / self.weights)
        rows, ones = Z[active], np.ones(active.size)
        own = select(least_l1(rows, ones, self.weights), rows, ones, entropy(np.ones(Z.shape[1])))
        plain = dln.Classification(self.case.X, self.case.labels)
        engine = np.array([dln.maximum_margin(plain, "potential", log_mu=x).beta for x in self.log_mus])
        logs = np.tile(self.log_mus[:, None] / 2, Z.shape[1])
        scipy = follow_minimisers(*row_space(rows, ones), logs, 2.0)
        size = float(np.linalg.norm(own))
        return _falling({"engine": np.linalg.norm(engine - library, axis=1) / size,
                         "scipy": np.linalg.norm(scipy - own, axis=1) / size}, 1 / LEAST_FALL,
                        {"log_mu": [float(x) for x in self.log_mus],
                         "distance_between_limits": float(np.linalg.norm(own - library)) / size})


def _multipliers_grow(Z: Array, mu: Array) -> bool:
    """Say whether the multipliers of argmin Q grow all the way from a large scale down to mu, as those of training do."""
    before = np.zeros(len(Z))
    for factor in 10.0 ** np.linspace(3, 0, 7):
        b, active = active_minimiser(Z, np.log(factor * mu) / 2)
        nu = np.zeros(len(Z))
        nu[active] = lstsq(Z[active].T, np.arcsinh(b / (2 * factor * mu)) / 4)[0]
        if np.any(nu < before * (1 - 1e-9)):
            return False
        before = nu
    return True


def margin_limits(case: TwoClasses) -> list[Any]:
    """Check the limits: of the direction at two scales of mu, and of Q_mu towards both ends."""
    from .limits import _scales

    d = case.X.shape[1]
    # Columns of other sizes: equal and opposite ones would all take part in the l1 minimiser, or all potentials agree on them.
    stretched = replace(case, X=case.X * np.exp(np.random.default_rng(1).uniform(-0.5, 0.5, d)))
    shape = case.alpha**2 / np.exp(np.mean(2 * np.log(case.alpha)))
    mu = case.unit * shape
    while not _multipliers_grow(case.Z, mu):
        mu = 4 * mu
    parts: list[Any] = [DirectionLimit("direction at fixed mu", case, mu)]
    # Where the tight samples leave no choice of b, both ways have no length and no order.
    columns = np.count_nonzero(np.any(case.X != 0, axis=0))
    if least_norm_active(stretched.Z * np.sqrt(shape)).size < columns:
        parts.append(KernelEnd("mu to infinity", stretched, shape))
    active = least_l1_active(stretched.Z)
    if active.size < columns:
        rows, ones = stretched.Z[active], np.ones(active.size)
        log_c = _scales(Data(rows, ones, "tight samples"), 2.0, np.zeros(d), np.ones(d), entropy(np.ones(d)))
        parts.append(RichEnd("mu to 0", stretched, 2 * log_c, np.ones(d)))
    return parts


def _of(kind: Any, **changes: Callable[[Any], Any]) -> Mutant:
    return lambda part, setting: replace(part, **{name: change(part) for name, change in changes.items()}) if isinstance(
        part, kind) else None


def _uneven(part: RichEnd) -> Array:
    """Give weights that make another vertex optimal, where there is one."""
    weights = np.ones(part.case.X.shape[1])
    active = least_l1_active(part.case.Z)
    weights[least_l1(part.case.Z[active], np.ones(active.size), weights).support] = 3.0
    return weights


MARGIN_MUTANTS: dict[str, Mutant] = {
    "mu = 2 alpha^2/margin": _of(DirectionLimit, claim=lambda part: lambda mu: 2 * mu),
    "mu = alpha/margin, in units of the data": _of(
        DirectionLimit, claim=lambda part: lambda mu: np.sqrt(mu * part.case.unit)),
    "one mu for all coordinates": _of(DirectionLimit, claim=lambda part: lambda mu: np.full_like(mu, np.mean(mu))),
    "order 1 towards l2": _of(KernelEnd, order=lambda part: 1.0),
    "order 4 towards l2": _of(KernelEnd, order=lambda part: 4.0),
    "plain l2 norm": _of(KernelEnd, power=lambda part: 0.0),
    "weights 1/alpha^4 of the l2 norm": _of(KernelEnd, power=lambda part: 2.0),
    "weighted l1 norm": _of(RichEnd, weights=_uneven),
}
