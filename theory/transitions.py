"""T23: what passes between two times of gradient flow, whatever happens in between, and transitions between plateaus.

With `nu' = c (X beta - y)`, `c = 1/(2N)`, gradient flow has `log(u/v) = log(u0/v0) - 4 X^T nu`. For any columns B of full rank
the part of nu off their span grows linearly but for what the other coordinates carry, and the part in their span is known
from beta_B at the end. Where the other coordinates are small and beta_B has come to its least squares, all weights follow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.linalg import lstsq

from ._drift_bound import Bound, bounds
from ._exact import TOLERANCE
from ._network import Array
from ._passages import Claim, Engine, Passage, library, off, passages, small, weights_at
from ._plateaus import Transition, isolated_transition
from ._registry import GENERIC, Finding, Mutant, Theorem
from ._setting import Setting, default_data
from ._slopes import slope_finding
from ._transition_steps import derive_transitions

__all__ = ["THEOREMS"]

#: After this alpha, in units of the data, log(1/alpha) grows so that the error falls by FALL at each of the RUNGS.
LARGEST, FALL, RUNGS = 1e-3, 6.0, 8

#: Of log weights, from integration.
NOISE = 1e-12

#: Where the rate is measured: between so many units of 1/rate after the arrival, at an alpha so small that others matter only
#: MARGIN such units later.
WINDOW, MARGIN = (7.0, 19.0), 11.0

#: As other limits, that of transitions is measured on the first of the default problems only: on other data powers of alpha
#: may be too near to one another to be told apart.
_IN_LIMITS = {data.name for data in default_data(GENERIC)}


@dataclass(frozen=True)
class Forecast:
    """How well log(u/v) after a transition is known from before, if beta_B is put at its least squares and the rest dropped.

    Attributes
    ----------
    log_ratio : ndarray of shape (d,)
    columns : ndarray of int
    values : ndarray
        What is taken for beta_B.
    claim : Claim
    engine : Engine
    """

    log_ratio: Array
    columns: Array
    values: Array
    claim: Claim = field(default_factory=lambda: Claim(outside=0.0))
    engine: Engine = field(default_factory=library)

    def errors(self, setting: Setting, alpha: Array, times: Array) -> tuple[dict[str, Array], dict[str, Array]]:
        """Give the norm of the error of X^T nu after times[0], and the excess of the loss on B, by both routes."""
        data = setting.data
        run, ratios, _ = weights_at(setting, alpha, self.log_ratio, times)
        betas, engine_ratios, _ = self.engine(data, alpha, self.log_ratio, times)
        far, excess = {}, {}
        for route, logs, beta in (("raw", ratios, run.betas), ("engine", engine_ratios, betas)):
            nu = self.claim.dual(data.X, self.log_ratio, logs[0])
            after = [self.claim.dual_after(data, self.columns, nu, float(time - times[0]), np.zeros_like(alpha), self.log_ratio,
                                           alpha, self.values) for time in times[1:]]
            claimed = self.log_ratio - self.claim.slope * np.array(after) @ data.X
            far[route] = np.linalg.norm(claimed - logs[1:], axis=1) / 4
            misses = (beta[1:, self.columns] - self.values) @ data.X[:, self.columns].T
            excess[route] = np.sum(misses**2, axis=1) / (4 * len(data.y))
        return far, excess


@dataclass(frozen=True)
class Settling:
    """The claim that the error falls like `exp(-rate t)` in the time t at the end, and the loss twice as fast.

    Attributes
    ----------
    name : str
    forecast : Forecast
    alpha : ndarray of shape (d,)
    times : ndarray of shape (K + 1,)
        The time t0, then those t1.
    rates : ndarray
        All rates, ascending: the first is the claim, the others come with the first corrections.
    rate : float
    of_loss : float
        How much faster the loss falls.
    """

    name: str
    forecast: Forecast
    alpha: Array
    times: Array
    rates: Array
    rate: float
    of_loss: float = 2.0

    def measure(self, setting: Setting) -> Finding:
        """Fit both rates by both routes."""
        far, excess = self.forecast.errors(setting, self.alpha, self.times)
        steps = np.exp(-self.rate * (self.times[1:] - self.times[1]))
        corrections = (1.0, *(min(float(rate / self.rates[0]) - 1, 2.0) for rate in self.rates[1:2]))
        weights = slope_finding(steps, far, 1.0, corrections, NOISE)
        loss = slope_finding(steps, excess, self.of_loss, corrections)
        worst = max(weights, loss, key=lambda finding: (not finding.passed, finding.ratio))
        return Finding(worst.discrepancy, worst.tolerance, bool(weights.passed and loss.passed),
                       {"log_weights": weights.details, "loss": loss.details})


@dataclass(frozen=True)
class Vanishing:
    """The claim that the error at the middle of the next plateau falls like a power of alpha.

    Attributes
    ----------
    name : str
    forecast : Forecast
    transition : Transition
    logs : ndarray of shape (K,)
        Values of log(1/alpha), in units of the data: the unit of time.
    order : float
    """

    name: str
    forecast: Forecast
    transition: Transition
    logs: Array
    order: float

    def measure(self, setting: Setting) -> Finding:
        """Fit the power by both routes."""
        errors: dict[str, list[float]] = {}
        for log in self.logs:
            times = log * np.array([self.transition.begin, self.transition.end])
            for route, far in self.forecast.errors(setting, small(setting, np.exp(-log)), times)[0].items():
                errors.setdefault(route, []).append(float(far[0]))
        return slope_finding(np.exp(-self.logs), {route: np.array(far) for route, far in errors.items()}, self.order,
                             self.transition.corrections, NOISE)


def forecasts(setting: Setting) -> list[Any]:
    """Check the limits at the clearest transition of the data."""
    data = setting.data
    transition = isolated_transition(data.X, data.y)
    if transition is None:
        return []
    forecast = Forecast(setting.log_ratio, transition.columns, transition.values)
    order = float(transition.orders[0])
    logs = np.log(1 / LARGEST) + np.arange(1, RUNGS + 1) * np.log(FALL) / order
    _, power = transition.crossing
    log = (WINDOW[1] + MARGIN) / power
    rate = float(transition.rates[0])
    times = log * transition.arrival + np.linspace(WINDOW[0], WINDOW[1], 10) / rate
    return [Settling("isolated transition, later end", forecast, small(setting, np.exp(-log)),
                     np.array([log * transition.begin, *times]), transition.rates, rate),
            Vanishing("isolated transition, smaller alpha", forecast, transition, logs, order)]


# --- the theorem -------------------------------------------------------------------------------------------------------


def parts(setting: Setting) -> list[Any]:
    """Check T23: the identities, the bound, and the limits where there is a transition to look at."""
    limits = forecasts(setting) if setting.data.name in _IN_LIMITS else []
    return [*passages(setting), *bounds(setting), *limits]


def _of(kind: type[Passage] | type[Bound] | type[Settling], **changes: Any) -> Mutant:
    return lambda part, setting: replace(part, **changes) if isinstance(part, kind) else None


def _claim(**constants: float) -> Mutant:
    """Spoil a constant of the identities and of the limit in alpha that follows from them."""
    return lambda part, setting: (
        replace(part, claim=replace(part.claim, **constants)) if isinstance(part, Passage) else
        replace(part, forecast=replace(part.forecast, claim=replace(part.forecast.claim, **constants)))
        if isinstance(part, Settling) else None)


def _rate(change: Callable[[Settling, Setting], float | None]) -> Mutant:
    def spoil(part: Any, setting: Setting) -> Settling | None:
        rate = change(part, setting) if isinstance(part, Settling) else None
        return None if rate is None else replace(part, rate=rate)

    return spoil


def _rate_without_values(part: Settling, setting: Setting) -> float:
    part_of_X = setting.data.X[:, part.forecast.columns]
    return float(np.linalg.eigvalsh(part_of_X.T @ part_of_X)[0]) * 2 / len(setting.data.y)


def _order(change: Callable[[Transition], float]) -> Mutant:
    return lambda part, setting: replace(part, order=change(part.transition)) if isinstance(part, Vanishing) else None


def _values(change: Callable[[Array, Array, Array], tuple[Array, Array]]) -> Mutant:
    """Take other columns or values than those of least squares, where the data have several columns in B."""
    def spoil(part: Any, setting: Setting) -> Any:
        if not isinstance(part, (Settling, Vanishing)) or len(part.forecast.columns) < 2:
            return None
        columns, values = change(setting.data.X, setting.data.y, part.forecast.columns)
        return replace(part, forecast=replace(part.forecast, columns=columns, values=values))

    return spoil


def _one_by_one(X: Array, y: Array, columns: Array) -> tuple[Array, Array]:
    return columns, X[:, columns].T @ y / np.sum(X[:, columns] ** 2, axis=0)


def _without_the_last(X: Array, y: Array, columns: Array) -> tuple[Array, Array]:
    return columns[:-1], lstsq(X[:, columns[:-1]], y)[0]


def _engine(**wrong: float) -> Mutant:
    return lambda part, setting: (
        replace(part, engine=library(**wrong)) if isinstance(part, Passage) else
        replace(part, forecast=replace(part.forecast, engine=library(**wrong))) if isinstance(part, Settling) else None)


THEOREMS = (
    Theorem(
        key="T23",
        title="Transitions between plateaus",
        statement="for columns B of full rank P_perp (nu1 - nu0) = -c P_perp (y (t1 - t0) - X int beta off B), X_B^T nu1 = "
                  "(log(u0/v0) - asinh(beta_B(t1)/(2 alpha^2)))/4; beta_B -> its least squares like exp(-lambda t)",
        source='Pesme & Flammarion 2023, "Saddle-to-saddle dynamics in diagonal linear networks"; docs/transitions.md',
        kind="exact",
        tolerance=TOLERANCE,
        derive=derive_transitions,
        parts=parts,
        mutants={
            "c = 1/N": _claim(rate=1.0),
            "sign of y swapped": _claim(target=-1.0),
            "2 X^T nu": _claim(slope=2.0),
            "beta = alpha^2 sinh": _claim(half=1.0),
            "log(u0/v0) dropped": _claim(shape=0.0),
            "other coordinates dropped": _of(Passage, claim=Claim(outside=0.0)),
            "beta_B of the first time": _of(Passage, late=0),
            "nothing projected off": _of(Passage, inside=lambda columns: columns[:0]),
            "engine: time off by 1 percent": _engine(of_time=1.01),
            "engine: alpha off by 1 percent": _engine(of_alpha=1.01),
            "engine: y off by 1 percent": _engine(of_y=1.01),
            "|P_B x_j| halved": _of(Bound, factor=0.5),
            "P_perp x_j for P_B x_j": _of(Bound, shadow=lambda X, columns: np.linalg.norm(off(X[:, columns], X), axis=0)),
            "sign of g1 swapped": _of(Bound, line=-1.0),
            "loss with 1/(2N)": _of(Bound, room=lambda first, rest: np.sqrt(np.maximum(first - rest, 0.0) / 2)),
            "rate doubled": _rate(lambda part, setting: 2 * part.rate),
            "largest eigenvalue": _rate(lambda part, setting: float(part.rates[-1]) if part.rates.size > 1 else None),
            "rate without |LS(B)|": _rate(_rate_without_values),
            "loss as fast as the weights": _of(Settling, of_loss=1.0),
            "next power of alpha": _order(lambda transition: float(transition.orders[1])),
            "power of alpha halved": _order(lambda transition: float(transition.orders[0]) / 2),
            "least squares one by one": _values(_one_by_one),
            "least squares without the new coordinate": _values(_without_the_last),
        },
    ),
)
