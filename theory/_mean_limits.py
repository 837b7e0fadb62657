"""The limit of time averages as alpha tends to 0: the process, the Lasso, and the order at which they are approached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.integrate import solve_ivp

from ._exact import TOLERANCE
from ._lasso import lasso, objective
from ._network import Array
from ._process_mean import SaddleProcess, saddle_process
from ._raw_route import RouteError
from ._registry import Finding
from ._setting import Data, Setting
from ._slopes import slope_finding

__all__ = ["Engine", "Means", "ProcessMean", "SmallScaleLimit", "in_units", "library_lasso", "library_means",
           "log_route", "plateaus",
           "with_one_that_leaves"]

#: Means over time and predictors at its ends, (K, d) each.
Means = tuple[Array, Array]

#: `(data, log_alpha, log_ratio, times, decay, rtol) -> means and predictors`.
Engine = Callable[[Data, Array, Array, Array, float, float], Means]


def library_means(data: Data, log_alpha: Array, log_ratio: Array, times: Array, decay: float, rtol: float) -> Means:
    """Take the library's time averages, and its predictors at those times."""
    import dln

    rule = dln.WeightDecay(decay) if decay else dln.GradientFlow()
    found = dln.time_average(dln.Problem(data.X, data.y), times, log_alpha=log_alpha, log_ratio=log_ratio, rule=rule, rtol=rtol)
    if not found.success:
        raise RouteError(f"the library's time average did not come to an end: {found.message}")
    return found.means, found.betas


def library_lasso(data: Data, penalty: float) -> Array:
    """Take the library's Lasso solution, from its path: it shares no code with `_lasso`."""
    import dln

    path = dln.lasso_path(dln.Problem(data.X, data.y))
    if not path.success:
        raise RouteError(f"the library's path of the Lasso was not certified: {path.message}")
    return path.at(penalty)


#: Values of log(1/alpha), in units of data in which the predictor is of size 1: alpha from 1e-139 down to 1e-2224.
SCALES = 320.0 * 2.0 ** np.arange(5)

#: Errors of both routes are far below this part of y.
NOISE = 1e-9

#: A plateau is long enough if it ends at this many times its start; a gap is a gap if the objective is off by such a part.
LONG, GAP, MOST_TARGETS = 1.5, 1e-3, 200


def log_route(data: Data, log_scale: float, times: Array) -> Means:
    """Give means and predictors by SciPy: the dual and the integral of beta, at scales where raw weights would underflow."""
    X, y = data.X, data.y
    n_samples, d = X.shape

    def branches(dual: Array) -> tuple[Array, Array]:
        ratio = -4 * (dual @ X)
        large = np.exp(np.minimum(np.abs(ratio) + 2 * log_scale, 300))
        small = np.expm1(-2 * np.abs(ratio))
        return -np.sign(ratio) * large * small, large * (2 + small)

    def field(t: float, state: Array) -> Array:
        beta, _ = branches(state[:n_samples])
        return np.concatenate([(X @ beta - y) / (2 * n_samples), beta])

    def jacobian(t: float, state: Array) -> Array:
        _, size = branches(state[:n_samples])
        rows = np.zeros((n_samples + d, n_samples + d))
        rows[n_samples:, :n_samples] = -4 * size[:, None] * X.T
        rows[:n_samples, :n_samples] = X @ rows[n_samples:, :n_samples] / (2 * n_samples)
        return rows

    state, begin, means, betas = np.zeros(n_samples + d), 0.0, [], []
    for end in times:
        run = solve_ivp(field, (begin, end), state, method="LSODA", rtol=1e-9, atol=1e-11, jac=jacobian)
        if not run.success:
            raise RouteError(f"LSODA stopped at t = {run.t[-1]:.6g}: {run.message}")
        state, begin = run.y[:, -1], end
        means.append(state[n_samples:] / end)
        betas.append(branches(state[:n_samples])[0])
    return np.array(means), np.array(betas)


def in_units(setting: Setting) -> Data:
    """Scale y so that the least-norm predictor has largest entry 1: then so has, about, what log(1/alpha) is compared with."""
    data = setting.data
    return replace(data, y=data.y / setting.predictor_unit)


def plateaus(process: SaddleProcess) -> list[float]:
    """Give the geometric mean of the times of each plateau after the first jump that is long enough."""
    ends = np.where(np.isinf(process.ends), 2 * process.times, process.ends)
    long = (process.times > 0) & (ends > LONG * process.times)
    return [float(tau) for tau in np.sqrt(process.times * ends)[long]]


def surplus(data: Data, process: SaddleProcess, tau: float, penalty: float) -> float:
    """Give how far the objective of the process's mean lies above its minimum, relative to that."""
    least = objective(data.X, data.y, penalty, lasso(data.X, data.y, penalty))
    return objective(data.X, data.y, penalty, process.mean(tau)) / least - 1


def with_one_that_leaves(data: Data) -> tuple[Data, float] | None:
    """Draw other targets for the same X until a coordinate leaves; give them, and the time where that shows the most."""
    rng = np.random.default_rng(0)
    for _ in range(MOST_TARGETS):
        y = data.X @ rng.standard_normal(data.X.shape[1])
        other = in_units(Setting(replace(data, y=y)))
        process = saddle_process(other.X, other.y)
        gaps = {tau: surplus(other, process, tau, 1 / (2 * tau)) for tau in plateaus(process) if process.left(tau)}
        if gaps and max(gaps.values()) > GAP:
            return other, max(gaps, key=lambda tau: gaps[tau])
    return None


def lasso_penalty(tau: float) -> float:
    """Give the claimed penalty, `log(1/alpha)/(2 t)`."""
    return 1 / (2 * tau)


@dataclass(frozen=True)
class ProcessMean:
    """The limit process: its mean solves the Lasso at the plateaus where no coordinate has left, and at no other.

    Attributes
    ----------
    name : str
    targets : tuple of Data
        One X, several y.
    process : callable
        `(X, y) -> SaddleProcess`.
    penalty : callable
        The claim: that of the Lasso at tau.
    """

    name: str
    targets: tuple[Data, ...]
    process: Callable[[Array, Array], SaddleProcess] = saddle_process
    penalty: Callable[[float], float] = lasso_penalty

    def measure(self, _: Setting) -> Finding:
        """Compare objectives in the middle of every plateau."""
        kept: list[float] = [0.0]
        left: list[float] = []
        for data in self.targets:
            process = self.process(data.X, data.y)
            ends = np.where(np.isinf(process.ends), 2 * process.times, process.ends)
            for tau in (process.times[1:] + ends[1:]) / 2:
                gap = surplus(data, process, float(tau), self.penalty(float(tau)))
                (left if process.left(float(tau)) else kept).append(gap)
        worst = float(np.max(np.abs(kept)))
        # Where one has left the gap must be told from rounding: that there is none would be as wrong.
        passed = worst <= TOLERANCE and all(gap > TOLERANCE for gap in left)
        return Finding(worst if passed or worst > TOLERANCE else float("inf"), TOLERANCE, passed,
                       {"gaps_with_all_kept": kept[1:], "gaps_with_some_left": left})


@dataclass(frozen=True)
class SmallScaleLimit:
    """The claim that the mean tends to that of the process, to the Lasso or to a stated gap, at order 1 in 1/log(1/alpha).

    Attributes
    ----------
    name : str
    data : Data
    tau : float
        `t/log(1/alpha)`.
    process : callable
        `(X, y) -> SaddleProcess`, the claimed limit.
    penalty : callable
        The claim: that of the Lasso at tau.
    gap : float, optional
        The claim: the objective stays above its minimum by this times what that of the process does; 1 but for mutants.
        Without it the claim is that the fit tends to that of the Lasso.
    order : float
        The claim.
    point : {"mean", "beta"}
        The claim: of which predictor.
    engine : Engine
    """

    name: str
    data: Data
    tau: float
    process: Callable[[Array, Array], SaddleProcess] = saddle_process
    penalty: Callable[[float], float] = lasso_penalty
    gap: float | None = None
    order: float = 1.0
    point: str = "mean"
    engine: Engine = library_means
    library: Callable[[Data, float], Array] = library_lasso

    def measure(self, _: Setting) -> Finding:
        """Fit the order of the distances by two routes."""
        data, penalty, zero = self.data, self.penalty(self.tau), np.zeros(self.data.X.shape[1])
        process, size = self.process(data.X, data.y), float(np.linalg.norm(data.y))
        mean = process.mean(self.tau)
        solutions = {"engine": self.library(data, penalty), "scipy": lasso(data.X, data.y, penalty)}
        leasts = {route: objective(data.X, data.y, penalty, solution) for route, solution in solutions.items()}
        # By one route for both: else a wrong solution would cancel.
        limit = 0.0 if self.gap is None else self.gap * surplus(data, process, self.tau, penalty)
        found: dict[str, list[float]] = {}
        for scale in SCALES:
            times = np.array([self.tau * scale])
            routes = {"engine": self.engine(data, zero - scale, zero, times, 0.0, 1e-8),
                      "scipy": log_route(data, -float(scale), times)}
            for route, predictors in routes.items():
                [point] = predictors[self.point != "mean"]
                distances = {"process": float(np.linalg.norm(data.X @ (point - mean))) / size}
                if self.gap is not None:
                    distances["gap"] = abs(objective(data.X, data.y, penalty, point) / leasts[route] - 1 - limit)
                else:
                    distances["Lasso"] = float(np.linalg.norm(data.X @ (point - solutions[route]))) / size
                for name, value in distances.items():
                    found.setdefault(f"{name}, {route}", []).append(value)
        return slope_finding(1 / SCALES, {name: np.array(values) for name, values in found.items()}, self.order, (1,), NOISE)
