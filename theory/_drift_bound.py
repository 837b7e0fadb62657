"""A bound on what the coordinates outside of B can do while those in B come to their least squares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ._exact import TOLERANCE
from ._fields import gradient_flow
from ._network import Array
from ._passages import SCALES, Engine, choices, first_arrival, library, off, small, weights_at
from ._raw_route import RawRun, integrate
from ._registry import Finding
from ._setting import Setting

__all__ = ["Bound", "bounds"]

#: Its start and the times at which it is looked at, in units of the first arrival.
BEGIN, TIMES = 0.5, np.linspace(0.6, 4.0, 12)


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
        data, net = setting.data, setting.net
        then = weights_at(setting, self.alpha, self.log_ratio, np.array([self.begin]))[0]
        betas, ratios, _ = self.engine(data, self.alpha, self.log_ratio, np.array([self.begin, *self.times]))
        u0, v0 = then.u[0], then.v[0]
        first = float(np.sum((data.X @ net.predictor(u0, v0) - data.y) ** 2))
        projectors = [off(data.X[:, columns], np.eye(len(data.y))) for columns in self.choices]

        def integrands(t: float, u: Array, v: Array) -> tuple[Array, ...]:
            beta = net.predictor(u, v)
            residual = data.X @ beta - data.y
            return beta, *(self.room(first, np.sum((P @ residual) ** 2)) + np.zeros_like(u) for P in projectors)

        run = integrate(gradient_flow(net), u0, v0, self.times - self.begin, integrands)
        exceeded = [self._exceeded(setting, columns, P, first, run, room, u0 / v0, betas[1:], ratios)
                    for columns, P, room in zip(self.choices, projectors, run.integrals[1:], strict=True)]
        found: dict[str, Any] = {name: max(float(np.max(one[name])) for one in exceeded) for name in exceeded[0]}
        worst = max(found.values()) if np.all(np.isfinite(list(found.values()))) else float("inf")
        found["columns"] = [[int(j) for j in columns] for columns in self.choices]
        return Finding(max(worst, 0.0), TOLERANCE, worst <= TOLERANCE, found)

    def _exceeded(self, setting: Setting, columns: Array, P: Array, first: float, run: RawRun, room_passed: Array,
                  quotient: Array, betas: Array, ratios: Array) -> dict[str, Array]:
        """Compare both sides for one B, with the projector P off it, at each time."""
        data, net = setting.data, setting.net
        X, c = data.X, 1 / (2 * len(data.y))
        residuals = run.betas @ X.T - data.y
        rest = residuals @ P
        rooms = self.room(first, np.sum(rest**2, axis=1))[:, None]
        others = np.setdiff1d(np.arange(X.shape[1]), columns)
        across = c * X[:, others].T @ P @ X
        shadow = self.factor * c * self.shadow(X, columns)
        most = shadow * rooms + np.abs(run.betas[:, others] @ across)
        most_passed = shadow * room_passed + np.abs(run.integrals[0][:, others] @ across)
        line = -self.line * c * data.y @ P @ X
        passed = line * (self.times - self.begin)[:, None]
        moved = (np.log(quotient) - np.log(run.u / run.v)) / 4
        return {
            "residual": _excess(self.factor * rooms, np.linalg.norm(residuals - rest, axis=1, keepdims=True)),
            "slope": _excess(most, net.beta_gradient(run.u, run.v) - line),
            "drift": _excess(most_passed, moved - passed),
            "engine_slope": _excess(most, net.loss_slope(betas) - line),
            "engine_drift": _excess(most_passed, (ratios[0] - ratios[1:]) / 4 - passed),
        }


def _excess(bound: Array, values: Array) -> Array:
    """Give by how much values exceed their bounds at each time, in units of the largest bound then."""
    return np.max(np.abs(values) - bound, axis=1) / np.maximum(np.max(bound, axis=1), np.finfo(float).tiny)


def bounds(setting: Setting) -> list[Bound]:
    """Check the bound for one column and, where there are as many, for two."""
    alpha = small(setting, SCALES[0])
    unit, sets = first_arrival(setting, alpha), choices(setting.data.X, setting.data.y)
    return [Bound("bound on other coordinates", alpha, setting.log_ratio, sets[:2], BEGIN * unit, TIMES * unit)]
