"""What passes between two times of gradient flow, whatever happens in between: identities for any columns B of full rank."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.linalg import lstsq, qr

from ._exact import TOLERANCE
from ._fields import gradient_flow
from ._network import Array
from ._raw_route import ATOL_PER_WEIGHT, RawRun, RouteError, integrate
from ._registry import Finding
from ._setting import Data, Setting

__all__ = ["Claim", "Engine", "Passage", "choices", "first_arrival", "library", "off", "passages", "small", "weights_at"]

RTOL = 1e-12

#: Scales of alpha, in units of the data, and times, in units of the first arrival.
SCALES = (1e-3, 1e-6)
TIMES = (0.6, 1.1, 2.0, 4.0)

#: Most columns in B, but for one B that spans all of X.
MOST_COLUMNS = 3


@dataclass(frozen=True)
class Claim:
    """The constants of the theorem.

    Attributes
    ----------
    rate : float
        `nu' = (rate/N) (X beta - y)`.
    slope : float
        `log(u/v) = log(u0/v0) - slope X^T nu`.
    half : float
        `beta = half alpha^2 sinh(log(u/v))`.
    shape, target, outside : float
        Factors of log(u0/v0), of y, and of the integrals of the coordinates outside of B.
    """

    rate: float = 0.5
    slope: float = 4.0
    half: float = 2.0
    shape: float = 1.0
    target: float = 1.0
    outside: float = 1.0

    def dual(self, X: Array, log_ratio: Array, ratios: Array) -> Array:
        """Give nu from log(u/v) at one time."""
        return np.asarray(lstsq(X.T, (log_ratio - ratios) / self.slope, cond=1e-12)[0])

    def drift(self, data: Data, columns: Array, elapsed: float, carried: Array) -> Array:
        """Give nu(t1) - nu(t0) for the case that beta_B is 0."""
        others = np.setdiff1d(np.arange(data.X.shape[1]), columns)
        passed = self.outside * data.X[:, others] @ carried[others]
        return self.rate / len(data.y) * (passed - self.target * elapsed * data.y)

    def dual_after(self, data: Data, columns: Array, nu: Array, elapsed: float, carried: Array, log_ratio: Array,
                   alpha: Array, values: Array) -> Array:
        """Give nu(t1) from nu(t0), beta_B(t1) and the integrals of the other coordinates."""
        arc = np.arcsinh(values / (self.half * alpha[columns] ** 2))
        given = (self.shape * log_ratio[columns] - arc) / self.slope
        moved = nu + self.drift(data, columns, elapsed, carried)
        # The least-norm solution: X_B (X_B^T X_B)^-1 of the misfit.
        return moved + np.asarray(lstsq(data.X[:, columns].T, given - data.X[:, columns].T @ moved)[0])

    def integral(self, data: Data, columns: Array, change: Array, elapsed: float, carried: Array) -> Array:
        """Give the integral of beta_B from the change of nu."""
        rest = change - self.drift(data, columns, elapsed, carried)
        return np.asarray(lstsq(data.X[:, columns], rest * len(data.y) / self.rate)[0])


def off(columns: Array, vectors: Array) -> Array:
    """Project off the span of some columns."""
    if not columns.size:
        return vectors
    basis = qr(columns, mode="economic")[0]
    return vectors - basis @ (basis.T @ vectors)


def first_arrival(setting: Setting, alpha: Array) -> float:
    """Give the time at which the first coordinate arrives, to leading order."""
    largest = float(np.max(np.abs(setting.data.X.T @ setting.data.y))) / (2 * len(setting.data.y))
    return float(np.log(np.sqrt(setting.predictor_unit) / np.max(alpha))) / (2 * largest)


def small(setting: Setting, scale: float) -> Array:
    """Give an uneven initialisation of a size, in units of the data."""
    return scale * np.sqrt(setting.predictor_unit) * setting.alpha / np.exp(np.mean(np.log(setting.alpha)))


def choices(X: Array, y: Array) -> list[Array]:
    """List sets B: the column that fits y best, independent columns, and as many of them as span all."""
    order = qr(X, mode="r", pivoting=True)[1]
    rank = int(np.linalg.matrix_rank(X))
    sets = [np.array([int(np.argmax(np.abs(X.T @ y)))]), *(np.sort(order[:k]) for k in range(2, min(rank, MOST_COLUMNS) + 1)),
            np.sort(order[:rank])]
    return [one for k, one in enumerate(sets) if not any(np.array_equal(one, other) for other in sets[:k])]


#: `(data, alpha, log_ratio, times) -> betas and log(u/v) at the times, (K, d) each, and nu at the last, (N,)`.
Engine = Callable[[Data, Array, Array, Array], tuple[Array, Array, Array]]


def library(of_time: float = 1.0, of_alpha: float = 1.0, of_y: float = 1.0) -> Engine:
    """Make an engine of the library's `flow`; the arguments make it wrong."""

    def run(data: Data, alpha: Array, log_ratio: Array, times: Array) -> tuple[Array, Array, Array]:
        import dln

        found = dln.flow(dln.Problem(data.X, of_y * data.y), log_alpha=np.log(of_alpha * alpha), log_ratio=log_ratio,
                         t_end=of_time * float(times[-1]), save_at=of_time * times, rtol=RTOL)
        if len(found.times) != len(times) or not np.all(np.isfinite(found.betas)):
            raise RouteError(f"the engine stopped at t = {found.t:.6g}: {found.message}")
        return found.betas, found.log_us - found.log_vs, found.dual

    return run


def weights_at(setting: Setting, alpha: Array, log_ratio: Array, times: Array) -> tuple[RawRun, Array, Array]:
    """Integrate raw weights and the integral of beta; give the run, log(u/v) and the integrals, (K, d) each."""
    half = log_ratio / 2
    # Weights fall to alpha^2, and their logarithms count.
    atol = ATOL_PER_WEIGHT * float(np.min(alpha)) / np.sqrt(setting.predictor_unit)
    run = integrate(gradient_flow(setting.net), alpha * np.exp(half), alpha * np.exp(-half), times,
                    lambda t, u, v: (setting.net.predictor(u, v),), atol_per_weight=atol)
    return run, np.log(run.u) - np.log(run.v), run.integrals[0]


@dataclass(frozen=True)
class Passage:
    """What the theorem says exactly of any two times and any columns of full rank.

    Attributes
    ----------
    name : str
    alpha, log_ratio : ndarray of shape (d,)
    times : ndarray of shape (K,)
    choices : list of ndarray of int
        The sets B.
    claim : Claim
    engine : Engine
    late : int
        The index, of the two times, of the one at which beta_B is taken: 1 but for mutants.
    inside : callable
        Gives the columns off whose span nu is claimed to be known: B but for mutants.
    """

    name: str
    alpha: Array
    log_ratio: Array
    times: Array
    choices: list[Array]
    claim: Claim = field(default_factory=Claim)
    engine: Engine = field(default_factory=library)
    late: int = 1
    inside: Callable[[Array], Array] = lambda columns: columns

    def measure(self, setting: Setting) -> Finding:
        """Compare, for every B and every two times, what is claimed with both routes; the worst decides."""
        data = setting.data
        run, ratios, integrals = weights_at(setting, self.alpha, self.log_ratio, self.times)
        betas, engine_ratios, engine_dual = self.engine(data, self.alpha, self.log_ratio, self.times)
        size = float(np.max(np.abs(ratios - self.log_ratio)))
        dual_ratios = self.log_ratio - 4 * data.X.T @ engine_dual
        found: dict[str, Any] = {
            "engine_beta": float(np.max(np.abs(betas - run.betas)) / np.max(np.abs(run.betas))),
            "engine_ratio": float(np.max(np.abs(engine_ratios - ratios))) / size,
            "engine_dual": float(np.max(np.abs(dual_ratios - ratios[-1]))) / size,
        }
        start = np.zeros((1, self.alpha.size))
        rows = [np.concatenate([start + first, rest]) for first, rest in
                ((self.log_ratio, ratios), (0.0, integrals), (run.betas[0] * np.nan, run.betas))]
        rows_of_engine = [np.concatenate([self.log_ratio[None], engine_ratios]), rows[1],
                          np.concatenate([start * np.nan, betas])]
        clock = np.concatenate([[0.0], self.times])
        last = len(self.times)
        pairs = [(k, k + 1) for k in range(last)] + [(0, last)]
        for name, route in (("", rows), ("engine_", rows_of_engine)):
            worst = np.max([self._misfits(data, columns, *(row[list(two)] for row in (clock[:, None], *route)))
                            for columns in self.choices for two in pairs if self.late or two[0]], axis=0)
            found |= dict(zip((f"{name}off the span", f"{name}jump", f"{name}integral"), map(float, worst), strict=True))
        numbers = np.array(list(found.values()))
        worst_of_all = float(np.max(numbers)) if np.all(np.isfinite(numbers)) else float("inf")
        found["columns"] = [[int(j) for j in columns] for columns in self.choices]
        return Finding(worst_of_all, TOLERANCE, worst_of_all <= TOLERANCE, found)

    def _misfits(self, data: Data, columns: Array, clock: Array, ratios: Array, integrals: Array, betas: Array) -> Array:
        """Measure the three identities between two times, relative to what they speak of."""
        X, claim = data.X, self.claim
        elapsed, carried = float(clock[1, 0] - clock[0, 0]), integrals[1] - integrals[0]
        nus = [claim.dual(X, self.log_ratio, one) for one in ratios]
        drift = claim.drift(data, columns, elapsed, carried)
        size = float(np.max(np.abs(ratios - self.log_ratio)))
        rest = X.T @ off(X[:, self.inside(columns)], nus[1] - nus[0] - drift)
        after = claim.dual_after(data, columns, nus[0], elapsed, carried, self.log_ratio, self.alpha,
                                 betas[self.late][columns])
        jump = self.log_ratio - claim.slope * X.T @ after - ratios[1]
        inner = claim.integral(data, columns, nus[1] - nus[0], elapsed, carried) - carried[columns]
        unit = max(float(np.max(np.abs(carried[columns]))), elapsed * float(np.max(np.abs(lstsq(X[:, columns], data.y)[0]))))
        return np.array([4 * np.max(np.abs(rest)) / size, np.max(np.abs(jump)) / size, np.max(np.abs(inner)) / unit])


def passages(setting: Setting) -> list[Passage]:
    """List the identities at several scales."""
    sets, found = choices(setting.data.X, setting.data.y), []
    for scale in SCALES:
        alpha = small(setting, scale)
        times = first_arrival(setting, alpha) * np.array(TIMES)
        found.append(Passage(f"any two times, alpha = {scale:g}", alpha, setting.log_ratio, times, sets))
    return found
