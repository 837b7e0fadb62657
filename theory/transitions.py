"""T23: what passes between two times of gradient flow, whatever happens in between, and transitions between plateaus.

With `nu' = c (X beta - y)`, `c = 1/(2N)`, gradient flow has `log(u/v) = log(u0/v0) - 4 X^T nu`. For any columns B of full rank the
part of nu off their span grows linearly but for what the other coordinates carry, and the part in their span is known from
beta_B at the end. Where the other coordinates are small and beta_B has come to its least squares, all weights follow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.linalg import lstsq, qr

from ._exact import TOLERANCE
from ._fields import gradient_flow
from ._network import Array
from ._plateaus import Transition, isolated_transition
from ._raw_route import ATOL_PER_WEIGHT, RawRun, RouteError, integrate
from ._registry import GENERIC, Finding, Mutant, Theorem
from ._setting import Data, Setting, default_data
from ._slopes import slope_finding
from ._transition_steps import derive_transitions

__all__ = ["THEOREMS"]

RTOL = 1e-12

#: Scales of the exact identities, in units of the data, and times, in units of the first arrival.
SCALES = (1e-3, 1e-6)
TIMES = (0.6, 1.1, 2.0, 4.0)

#: Most columns in B, but for one B that spans all of X.
MOST_COLUMNS = 3

#: The start of the bound and the times at which it is looked at, in units of the first arrival.
BOUND_BEGIN, BOUND_TIMES = 0.5, np.linspace(0.6, 4.0, 12)

#: In units of the data; the ladder of scales falls by FALL of the distance at each step.
LARGEST, FALL, RUNGS = 1e-3, 6.0, 8

#: Where the rate is measured: between so many units of 1/rate after the arrival, at an alpha so small that others matter only
#: that many units after the end of it.
WINDOW = (7.0, 21.0)

#: As other limits, that of transitions is measured on the first of the default problems only, and on small data.
_NOT_IN_LIMITS = {data.name for data in default_data()[GENERIC:]}
MOST_SAMPLES = 10


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


# --- engines -----------------------------------------------------------------------------------------------------------


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


# --- (a), (b): identities ----------------------------------------------------------------------------------------------


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
        size = float(np.max(np.abs(ratios[1] - ratios[0])))
        rest = X.T @ off(X[:, self.inside(columns)], nus[1] - nus[0] - drift)
        after = claim.dual_after(data, columns, nus[0], elapsed, carried, self.log_ratio, self.alpha,
                                 betas[self.late][columns])
        jump = self.log_ratio - claim.slope * X.T @ after - ratios[1]
        inner = claim.integral(data, columns, nus[1] - nus[0], elapsed, carried) - carried[columns]
        unit = max(float(np.max(np.abs(carried[columns]))), elapsed * float(np.max(np.abs(lstsq(X[:, columns], data.y)[0]))))
        return np.array([4 * np.max(np.abs(rest)) / size, np.max(np.abs(jump)) / np.max(np.abs(ratios - self.log_ratio)),
                         np.max(np.abs(inner)) / unit])


# --- (d): a bound on what others can do meanwhile ----------------------------------------------------------------------


@dataclass(frozen=True)
class Bound:
    """The claim that other coordinates stay near the line on which they will go once beta_B has come to its least squares.

    With r the residual, r1 = -P_perp y that of the least squares on B, g1 = c X^T r1 and o what the other coordinates add to
    X beta, at all times after t0, with room^2 = |r(t0)|^2 - |P_perp r(t)|^2 (which is |r(t0) - r1|^2 but for o):

        |P_B (r - r1)| <= room,    |g_j - g1_j| <= c |P_B x_j| room + c |x_j.P_perp o|,

    and the same between the integrals of both sides.

    Attributes
    ----------
    name : str
    alpha, log_ratio : ndarray of shape (d,)
    choices : list of ndarray of int
        The sets B.
    begin : float
        The time t0.
    times : ndarray of shape (K,)
        Later times.
    factor : float
        Of `c |P_B x_j|`; so for all below, a number or a callable that only mutants change.
    line : float
        Factor of g1.
    shadow : callable
        `(X, columns) -> |P_B x_j|`.
    room : callable
        `(|r(t0)|^2, |P_perp r(t)|^2) -> room`.
    engine : Engine
    """

    name: str
    alpha: Array
    log_ratio: Array
    choices: list[Array]
    begin: float
    times: Array
    factor: float = 1.0
    line: float = 1.0
    shadow: Callable[[Array, Array], Array] = lambda X, columns: np.linalg.norm(X - off(X[:, columns], X), axis=0)
    room: Callable[[Any, Any], Array] = lambda first, rest: np.sqrt(np.maximum(first - rest, 0.0))
    engine: Engine = field(default_factory=library)

    def measure(self, setting: Setting) -> Finding:
        """Measure by how much the bounds are exceeded, relative to themselves, at every time and by both routes."""
        then = weights_at(setting, self.alpha, self.log_ratio, np.array([self.begin]))[0]
        betas, ratios, _ = self.engine(setting.data, self.alpha, self.log_ratio, np.array([self.begin, *self.times]))
        exceeded = [self._exceeded(setting, columns, then.u[0], then.v[0], betas[1:], ratios) for columns in self.choices]
        found: dict[str, Any] = {name: max(float(np.max(one[name])) for one in exceeded) for name in exceeded[0]}
        worst = max(found.values()) if np.all(np.isfinite(list(found.values()))) else float("inf")
        found["columns"] = [[int(j) for j in columns] for columns in self.choices]
        return Finding(max(worst, 0.0), TOLERANCE, worst <= TOLERANCE, found)

    def _exceeded(self, setting: Setting, columns: Array, u0: Array, v0: Array, betas: Array, ratios: Array) -> dict[str, Array]:
        """Integrate on from t0, together with the bound; give the excesses at each time."""
        data, net = setting.data, setting.net
        X, c, part = data.X, 1 / (2 * len(data.y)), data.X[:, columns]
        others = np.setdiff1d(np.arange(X.shape[1]), columns)
        first = float(np.sum((X @ net.predictor(u0, v0) - data.y) ** 2))

        def rest_of(u: Array, v: Array) -> Array:
            """Project the residual off B."""
            return off(part, (net.predictor(u, v) @ X.T - data.y).T).T

        def integrands(t: float, u: Array, v: Array) -> tuple[Array, Array]:
            return net.predictor(u, v), self.room(first, np.sum(rest_of(u, v) ** 2)) + np.zeros_like(u)

        run = integrate(gradient_flow(net), u0, v0, self.times - self.begin, integrands)
        rest = rest_of(run.u, run.v)
        line = -self.line * c * off(part, data.y) @ X
        shadow = self.factor * c * self.shadow(X, columns)
        rooms = self.factor * self.room(first, np.sum(rest**2, axis=1))[:, None]
        across = c * off(part, X[:, others]).T @ X  # (others, d)
        most = shadow * rooms / self.factor + np.abs(run.betas[:, others] @ across)
        most_passed = shadow * run.integrals[1] + np.abs(run.integrals[0][:, others] @ across)
        passed = line * (self.times - self.begin)[:, None]
        moved = (np.log(u0 / v0) - np.log(run.u / run.v)) / 4
        inner = np.linalg.norm((run.betas @ X.T - data.y) - rest, axis=1, keepdims=True)
        return {
            "residual": _excess(rooms, inner),
            "slope": _excess(most, net.beta_gradient(run.u, run.v) - line),
            "drift": _excess(most_passed, moved - passed),
            "engine_slope": _excess(most, net.loss_slope(betas) - line),
            "engine_drift": _excess(most_passed, (ratios[0] - ratios[1:]) / 4 - passed),
        }


def _excess(bound: Array, values: Array) -> Array:
    """Give by how much values exceed their bounds at each time, in units of the largest bound then."""
    return np.max(np.abs(values) - bound, axis=1) / np.maximum(np.max(bound, axis=1), np.finfo(float).tiny)


# --- (c): limits -------------------------------------------------------------------------------------------------------


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
        """Give the largest error of X^T nu after times[0], and the excess of the loss on B, by both routes."""
        data = setting.data
        run, ratios, _ = weights_at(setting, alpha, self.log_ratio, times)
        betas, engine_ratios, _ = self.engine(data, alpha, self.log_ratio, times)
        far, excess = {}, {}
        for route, logs, beta in (("raw", ratios, run.betas), ("engine", engine_ratios, betas)):
            nu = self.claim.dual(data.X, self.log_ratio, logs[0])
            after = [self.claim.dual_after(data, self.columns, nu, float(time - times[0]), np.zeros_like(alpha), self.log_ratio,
                                           alpha, self.values) for time in times[1:]]
            claimed = self.log_ratio - self.claim.slope * np.array(after) @ data.X
            far[route] = np.max(np.abs(claimed - logs[1:]), axis=1) / 4
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
        weights, loss = slope_finding(steps, far, 1.0, corrections), slope_finding(steps, excess, self.of_loss, corrections)
        worst = max(weights, loss, key=lambda finding: (not finding.passed, finding.ratio))
        return replace(worst, passed=bool(weights.passed and loss.passed),
                       details={"log_weights": weights.details, "loss": loss.details})


@dataclass(frozen=True)
class Vanishing:
    """The claim that the error at the middle of the next plateau falls like a power of alpha.

    Attributes
    ----------
    name : str
    forecast : Forecast
    transition : Transition
    shape : ndarray of shape (d,)
        Of alpha, in units of the data.
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
        orders = self.transition.orders
        return slope_finding(np.exp(-self.logs), {route: np.array(far) for route, far in errors.items()}, self.order,
                             tuple(float(order - orders[0]) for order in orders[1:4]))


def forecasts(setting: Setting) -> list[Any]:
    """Check the limits at the clearest transition of the data."""
    data = setting.data
    transition = isolated_transition(data.X, data.y)
    if transition is None or len(data.y) > MOST_SAMPLES or data.name in _NOT_IN_LIMITS:
        return []
    forecast = Forecast(setting.log_ratio, transition.columns, transition.values)
    order = float(transition.orders[0])
    logs = np.log(1 / LARGEST) + np.arange(RUNGS) * np.log(FALL) / order
    _, power = transition.crossing
    log = sum(WINDOW) / power
    rate = float(transition.rates[0])
    times = log * transition.arrival + np.linspace(WINDOW[0], WINDOW[1], 10) / rate
    return [Settling("isolated transition, later end", forecast, small(setting, np.exp(-log)),
                     np.array([log * transition.begin, *times]), transition.rates, rate),
            Vanishing("isolated transition, smaller alpha", forecast, transition, logs, order)]


# --- the theorem -------------------------------------------------------------------------------------------------------


def parts(setting: Setting) -> list[Any]:
    """Check T23: the identities at two scales, the bound, and the limits where there is a transition to look at."""
    data = setting.data
    sets, found = choices(data.X, data.y), []
    for scale in SCALES:
        alpha = small(setting, scale)
        found.append(Passage(f"any two times, alpha = {scale:g}", alpha, setting.log_ratio,
                             first_arrival(setting, alpha) * np.array(TIMES), sets))
    alpha = small(setting, SCALES[0])
    unit = first_arrival(setting, alpha)
    bound = Bound("bound on other coordinates", alpha, setting.log_ratio, sets[:2], BOUND_BEGIN * unit, BOUND_TIMES * unit)
    return [*found, bound, *forecasts(setting)]


def _of(kind: type, **changes: Any) -> Mutant:
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
    return lambda part, setting: replace(part, engine=library(**wrong)) if isinstance(part, Passage) else None


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
