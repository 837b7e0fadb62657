"""T19: from saddle to saddle, the limit of the whole of gradient flow at small initialisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.linalg import lstsq

from ._network import Array
from ._raw_route import RouteError
from ._registry import Finding, Theorem
from ._saddle_route import CONTACT, Claim, Plateaus, decay_rates, flow_in_logarithms, process
from ._saddle_steps import derive_saddles
from ._setting import Data, Setting
from ._slopes import MAX_HALF_WIDTH, slope_finding

__all__ = ["THEOREMS"]

#: Log(1/alpha) of both ladders, in units of what makes the slowest plateau's distance fall by e; the second begins at
#: alpha = 1e-25 or below.
EARLY = np.array([9.0, 11.5, 14.0, 16.5])
LATE = 20.0 * 5.0 ** np.arange(4)
LEAST_LATE = 25 * np.log(10)

#: Plateaus whose distance falls more slowly than exp(-SLOWEST log(1/alpha)) cannot be resolved; it ends with the first of them.
SLOWEST = 0.01

#: From each early scale to the next the distance from the saddles is to fall by about exp(-2.5); by this at least.
LEAST_FALL = 0.3
ACCURACY = 1e-9

#: `(data, exponents) -> plateaus` and `(data, log_alpha, times) -> beta and log(u/v)/4`.
PathEngine = Callable[[Data, Array], tuple[Plateaus, Any]]
FlowEngine = Callable[[Data, Array, Array], tuple[Array, Array]]


def library_path(data: Data, exponents: Array) -> tuple[Plateaus, Any]:
    """Take the library's process, and the library's result itself."""
    import dln

    path = dln.saddles(dln.Problem(data.X, data.y), exponents=exponents)
    if not path.success:
        raise RouteError(f"the engine did not follow the process to its end: {path.message}")
    places = -path.duals @ data.X
    rates = np.diff(places, axis=0) / np.diff(path.times)[:, None]
    return Plateaus(path.times, path.betas, places, np.vstack([rates, np.zeros(data.X.shape[1])])), path


def library_flow(data: Data, log_alpha: Array, times: Array) -> tuple[Array, Array]:
    """Take the library's flow."""
    import dln

    run = dln.flow(dln.Problem(data.X, data.y), log_alpha=log_alpha, t_end=float(times[-1]), save_at=times, rtol=1e-8)
    if len(run.times) != len(times) or not np.all(np.isfinite(run.betas)):
        raise RouteError(f"the engine stopped at t = {run.t:.6g}: {run.message}")
    return run.betas, (run.log_us - run.log_vs) / 4


@dataclass(frozen=True, eq=False)
class Case:
    """Data, exponents, the scales at which flows are looked at, and the flows that have been integrated.

    Attributes
    ----------
    data : Data
    exponents : ndarray of shape (d,)
        `alpha_j = c^(k_j)`.
    count : int
        How many plateaus are long enough.
    early, late : ndarray of shape (K,)
        Values of `log(1/c)`.
    unique : bool
        Whether the saddles are; otherwise their fits `X beta` are compared.
    """

    data: Data
    exponents: Array
    count: int
    early: Array
    late: Array
    unique: bool
    runs: dict[Any, tuple[Array, Array]] = field(default_factory=dict)

    def run(self, flow: FlowEngine, scale: float, times: Array) -> tuple[Array, Array]:
        """Integrate, or remember."""
        key = flow, scale, times.tobytes()
        if key not in self.runs:
            self.runs[key] = flow(self.data, -scale * self.exponents, times)
        return self.runs[key]


def own_flow(data: Data, log_alpha: Array, times: Array) -> tuple[Array, Array]:
    """Integrate with SciPy."""
    return flow_in_logarithms(data.X, data.y, log_alpha, times)


def case_of(data: Data, exponents: Array) -> Case:
    """Choose the scales: those at which the plateaus are seen."""
    path = process(data.X, data.y, exponents, Claim())
    rates = decay_rates(data.X, path, exponents)
    seen = rates >= SLOWEST
    count = len(seen) if seen.all() else int(np.argmin(seen))
    if count < 2:
        raise RouteError(f"the first saddle is left too early (its rate is {float(np.min(rates)):.1e}) to be seen at any scale "
                         "that is tried: there is nothing to check")
    unit = 1 / float(np.min(rates[:count]))
    resting = (np.abs(path.places) >= exponents / 2 * (1 - CONTACT)) & (path.rates == 0)
    unique = all(np.linalg.matrix_rank(data.X[:, on]) == np.count_nonzero(on) for on in resting[1:count])
    return Case(data, exponents, count, EARLY * unit, LATE * max(unit, LEAST_LATE / LATE[0]), unique)


@dataclass(frozen=True)
class SaddleLimit:
    """The claim that the flow at `t = log(1/alpha) tau` tends to the process: one side of it, along one ladder of scales.

    Attributes
    ----------
    name : str
    case : Case
    claim : Claim
    path, flow : callable
        The library's.
    """

    name: str
    case: Case
    claim: Claim = field(default_factory=Claim)
    path: PathEngine = library_path
    flow: FlowEngine = library_flow

    def followed(self, scales: Array) -> dict[str, tuple[Plateaus, Any, list[tuple[Array, Array]]]]:
        """Give, by both routes, the process and the flows at the middles of its plateaus."""
        case = self.case
        own = process(case.data.X, case.data.y, case.exponents, self.claim)
        library, result = self.path(case.data, case.exponents)
        routes: dict[str, tuple[Plateaus, Any, list[tuple[Array, Array]]]] = {}
        for route, path, extra, flow, clock in (("scipy", own, None, own_flow, self.claim.clock),
                                                ("engine", library, result, self.flow, 1.0)):
            times = path.middles[: case.count]
            routes[route] = path, extra, [case.run(flow, scale, clock * scale * times) for scale in scales]
        return routes


@dataclass(frozen=True)
class Places(SaddleLimit):
    """`log(u/v)/(4 log(1/alpha))` tends to s, off by const/log(1/alpha), the claimed order: jumps come late by as much."""

    order: float = 1.0

    def measure(self, _: Setting) -> Finding:
        """Fit the order."""
        scales, distances = self.case.late, {}
        for route, (path, _result, runs) in self.followed(scales).items():
            s = path.at_middles()[: self.case.count]
            distances[route] = np.array([np.max(np.abs(S / scale - s)) for scale, (_beta, S) in zip(scales, runs, strict=True)])
        finding = slope_finding(1 / scales, distances, self.order, corrections=())
        details = {**finding.details, "log_c": [-float(x) for x in scales], "plateaus": self.case.count,
                   "constant": {route: float(values[-1] * scales[-1]) for route, values in distances.items()}}
        return replace(finding, details=details)


@dataclass(frozen=True)
class Saddles(SaddleLimit):
    """Beta at the middle of each plateau tends to the saddle."""

    def measure(self, _: Setting) -> Finding:
        """Follow the largest distance over four scales: it must fall at each."""
        scales, distances = self.case.early, {}
        for route, (path, _result, runs) in self.followed(scales).items():
            saddles = self._seen(path.betas[: self.case.count])
            size = float(np.max(np.linalg.norm(saddles, axis=1)))
            distances[route] = np.array([np.max(np.linalg.norm(self._seen(beta) - saddles, axis=1)) / size
                                         for beta, _S in runs])
        ratios = {route: np.where(np.maximum(values[1:], values[:-1]) <= ACCURACY, 0.0, values[1:] / values[:-1])
                  for route, values in distances.items()}
        worst = max(float(np.max(ratio)) if np.all(np.isfinite(ratio)) else np.inf for ratio in ratios.values())
        details: dict[str, Any] = {
            "log_c": [-float(x) for x in scales], "plateaus": self.case.count, "expected_ratio": float(np.exp(-2.5)),
            "claimed_fall": 1 / LEAST_FALL,
            "distances": {route: [float(x) for x in values] for route, values in distances.items()},
            "ratios": {route: [float(x) for x in values] for route, values in ratios.items()}}
        return Finding(worst, LEAST_FALL, worst <= LEAST_FALL, details)

    def _seen(self, betas: Array) -> Array:
        return betas if self.case.unique else betas @ self.case.data.X.T


@dataclass(frozen=True)
class Bound(SaddleLimit):
    """No flow is farther from the process than the stated bound; `power` of log(1/alpha) spoils it."""

    power: float = 0.0

    def measure(self, _: Setting) -> Finding:
        """Compare, over both ladders: the library with its sharp bound, SciPy with the simple one."""
        case, ratios = self.case, {}
        scales = np.concatenate([case.early, case.late])
        for route, (path, result, runs) in self.followed(scales).items():
            tau = path.middles[: case.count]
            place = path.at_middles()[: case.count]
            size = np.max(np.abs(place))
            values = []
            for scale, (_beta, S) in zip(scales, runs, strict=True):
                # The norm of the dual: s = -X^T m.
                far = np.linalg.norm(lstsq(case.data.X.T, (S / scale - place).T)[0], axis=0)
                most = result.bound(-scale, tau) if route == "engine" else self._simple(path, scale, tau)
                accuracy = 1e-9 * size / np.linalg.norm(case.data.X, 2)
                values.append(float(np.max(far[1:] / (most[1:] * scale**self.power + accuracy))))
            ratios[route] = values
        worst = max(max(values) for values in ratios.values())
        return Finding(worst, 1.0, worst <= 1.0, {"log_c": [-float(x) for x in scales], "ratios": ratios})

    def _simple(self, path: Plateaus, scale: float, tau: Array) -> Array:
        """Give sqrt(tau E/(4 N log(1/alpha))), E the largest energy of the saddles so far."""
        b, square = np.abs(path.betas[: len(tau)]), np.exp(-2 * scale * self.case.exponents)
        logs = np.log(np.where(b > 0, b, 1.0))
        energies = np.sum(np.where(b > 0, 1 + square**2 + b * (logs - 1), (1 - square) ** 2), axis=1)
        return np.sqrt(tau * np.maximum.accumulate(energies) / (4 * self.case.data.X.shape[0] * scale))


def _with_leaving(data: Data, seeds: int = 40) -> Data | None:
    """Find targets that the features fit and on whose way a coordinate leaves, at plateaus that are long enough."""
    for seed in range(seeds):
        b = np.random.default_rng(seed).standard_normal((1, data.X.shape[1]))[0]
        y = data.X @ b / np.max(np.abs(b))
        path = process(data.X, y, np.ones(b.size), Claim())
        on = path.betas != 0
        if np.any(on[:-1] & ~on[1:]) and np.min(decay_rates(data.X, path, np.ones(b.size))) >= 3 * SLOWEST:
            return Data(data.X, y, data.name)
    return None


def _uneven(data: Data, seeds: int = 40) -> Array | None:
    """Find exponents at which the plateaus are long enough."""
    for seed in range(seeds):
        k = np.random.default_rng(seed).uniform(0.6, 1.6, (1, data.X.shape[1]))[0]
        if np.min(decay_rates(data.X, process(data.X, data.y, k, Claim()), k)) >= 2 * SLOWEST:
            return k
    return None


def parts(setting: Setting) -> list[Places | Saddles | Bound]:
    """Check T19 from one scale, from c^(k_j), and on targets for which a coordinate leaves, where the data have such."""
    data = setting.data
    data = Data(data.X, data.y / setting.predictor_unit, data.name)
    even = np.ones(data.X.shape[1])
    cases = [("alpha = c", case_of(data, even))]
    powers, leaving = _uneven(data), _with_leaving(data)
    if powers is not None:
        cases.append(("alpha = c^k", case_of(data, powers)))
    if leaving is not None:
        cases.append(("alpha = c, a coordinate leaves", case_of(leaving, even)))
    found: list[Places | Saddles | Bound] = []
    for name, case in cases:
        found += [Places(f"{name}: s", case), Saddles(f"{name}: saddles", case)]
    return [*found, Bound("alpha = c: bound", cases[0][1])]


# --- mutants ---------------------------------------------------------------------------------------------------------


Mutant = Callable[[Any, Setting], Any]

#: Small errors of time and place leave the middles of plateaus on their plateaus: only s shows them.
_S, _BOTH, _LEAVING = ("alpha = c: s",), ("alpha = c: s", "alpha = c: saddles"), "alpha = c, a coordinate leaves: "


def _claiming(*names: str, **changes: Any) -> Mutant:
    """Spoil the claim of some parts."""
    return lambda part, setting: replace(part, claim=replace(part.claim, **changes)) if part.name in names else None


def _with(*names: str, **changes: Any) -> Mutant:
    """Spoil some parts."""
    return lambda part, setting: replace(part, **changes) if part.name in names else None


def _wider_path(data: Data, exponents: Array) -> tuple[Plateaus, Any]:
    return library_path(data, 1.02 * exponents)


def _even_path(data: Data, exponents: Array) -> tuple[Plateaus, Any]:
    return library_path(data, np.ones_like(exponents))


def _late_flow(data: Data, log_alpha: Array, times: Array) -> tuple[Array, Array]:
    return library_flow(data, log_alpha, 1.02 * times)


def _larger_flow(data: Data, log_alpha: Array, times: Array) -> tuple[Array, Array]:
    return library_flow(data, log_alpha / 2, times)


THEOREMS = (
    Theorem(
        key="T19",
        title="From saddle to saddle",
        statement="as alpha -> 0, at t = log(1/alpha) tau, log(u/v)/(4 log(1/alpha)) tends to s = -int g dtau, off by "
                  "const/log(1/alpha), and beta to argmin L s.t. sign(s_j) beta_j >= 0 where |s_j| = 1/2, beta_j = 0 elsewhere",
        source='Pesme & Flammarion 2023, "Saddle-to-saddle dynamics in diagonal linear networks"',
        kind="limit",
        tolerance=MAX_HALF_WIDTH,
        derive=derive_saddles,
        parts=parts,
        mutants={
            "bounds 1": _claiming(*_BOTH, bound=1.0),
            "bounds off by 1 percent": _claiming(*_S, bound=0.505),
            "bounds 1/2 whatever the exponent": _claiming("alpha = c^k: s", "alpha = c^k: saddles", powers=0.0),
            "bounds k^2/2": _claiming("alpha = c^k: s", "alpha = c^k: saddles", powers=2.0),
            "no signs": _claiming(f"{_LEAVING}s", f"{_LEAVING}saddles", rule="no signs"),
            "no coordinate leaves its bound": _claiming(f"{_LEAVING}s", rule="no leaving"),
            "one coordinate at a time": _claiming(*_BOTH, rule="one at a time"),
            "loss with 1/(2N)": _claiming(*_BOTH, speed=2.0),
            "t = 2 log(1/alpha) tau": _claiming(*_BOTH, clock=2.0),
            "bound of order 1/log(1/alpha)^2": _with("alpha = c: bound", power=-1.5),
            "order 1/log(1/alpha)^2": _with(*_S, order=2.0),
            "engine: bounds off by 2 percent": _with(*_S, "alpha = c: bound", path=_wider_path),
            "engine: exponents ignored": _with("alpha = c^k: s", "alpha = c^k: saddles", path=_even_path),
            "engine: flow late by 2 percent": _with(*_S, "alpha = c: bound", flow=_late_flow),
            "engine: flow from sqrt(alpha)": _with(*_BOTH, flow=_larger_flow),
        },
    ),
)
