"""Integrate a rule in raw weights with SciPy, tightly, together with the integrals that a law speaks of.

The conserved quantities of these flows are *not* linear in (u, v), so a method that keeps them there is a method that
integrates well. In log coordinates they are linear and any method at any tolerance would keep them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.integrate import DOP853, solve_ivp

from ._fields import Velocity
from ._network import Array, Network

__all__ = ["Integrands", "RawRun", "RouteError", "integrate", "settle"]

#: `(t, u, v) -> quantities of the shape of u`, to be integrated along the run.
Integrands = Callable[[float, Array, Array], tuple[Array, ...]]

RTOL = 1e-13
ATOL_PER_WEIGHT = 1e-16
ATOL_INTEGRAL = 1e-15


class RouteError(RuntimeError):
    """A route of a check that could not be run to its end."""


@dataclass(frozen=True)
class RawRun:
    """Weights and integrals at the times asked for.

    Attributes
    ----------
    times : ndarray of shape (K,)
    u, v : ndarray of shape (K, ..., d)
    integrals : ndarray of shape (n_integrands, K, ..., d)
    n_rhs : int
        Evaluations of the vector field.
    """

    times: Array
    u: Array
    v: Array
    integrals: Array
    n_rhs: int

    @property
    def betas(self) -> Array:
        """Predictor at each time, `u^2 - v^2` as a product: the difference of squares would cancel."""
        return (self.u - self.v) * (self.u + self.v)

    @property
    def log_scales(self) -> Array:
        """`log sqrt(u v)` at each time."""
        return (np.log(self.u) + np.log(self.v)) / 2


def no_integrands(t: float, u: Array, v: Array) -> tuple[Array, ...]:
    """Integrate the weights alone."""
    return ()


def integrate(velocity: Velocity, u0: Array, v0: Array, times: Array, integrands: Integrands = no_integrands,
              breakpoints: tuple[float, ...] = (), rtol: float = RTOL, max_rhs: int = 200_000,
              atol_per_weight: float = ATOL_PER_WEIGHT) -> RawRun:
    """Integrate weights and integrals, stopping exactly at every time and at every jump of the field.

    Parameters
    ----------
    velocity : callable
        `(t, u, v) -> (du, dv)`.
    u0, v0 : ndarray of shape (..., d)
        Positive; leading axes are independent runs.
    times : ndarray of shape (K,)
        Increasing, positive.
    integrands : callable
        `(t, u, v) -> tuple of arrays`.
    breakpoints : tuple of float
        Times where the field jumps.
    rtol : float
        Relative tolerance per weight; the absolute one is far below the initial weights.
    max_rhs : int
        Budget.
    atol_per_weight : float
        Absolute tolerance, in units of the smallest initial weight: of weights that shrink to `alpha^2`, their logarithms are
        right only if it is far below alpha.

    Returns
    -------
    RawRun

    Raises
    ------
    RouteError
        If the solver fails, leaves the positive weights, or the budget is spent.
    """
    shape, size = u0.shape, u0.size
    n_integrals = len(integrands(0.0, u0, v0))
    count = 0

    def field(t: float, state: Array) -> Array:
        nonlocal count
        count += 1
        if count > max_rhs:
            raise RouteError(f"the raw route spent its {max_rhs} evaluations at t = {t:.6g} of {times[-1]:.6g}")
        u, v = state[:size].reshape(shape), state[size : 2 * size].reshape(shape)
        slope = np.empty((2 + n_integrals, *shape))
        for row, part in zip(slope, (*velocity(t, u, v), *integrands(t, u, v)), strict=True):
            row[...] = part
        return slope.ravel()

    state = np.concatenate([u0.ravel(), v0.ravel(), np.zeros(n_integrals * size)])
    atol = np.concatenate([_weight_atol(u0, v0, atol_per_weight), np.full(n_integrals * size, ATOL_INTEGRAL)])
    saved, begin = [], 0.0
    for end in np.unique([*times, *(b for b in breakpoints if 0 < b < times[-1])]):
        # A field that jumps is evaluated on one side only: just inside the piece.
        low, high = (begin, end) if not breakpoints else (np.nextafter(begin, end), np.nextafter(end, begin))
        with np.errstate(over="ignore", invalid="ignore"):
            piece = solve_ivp(lambda t, x, low=low, high=high: field(min(max(t, low), high), x), (begin, end), state,
                              method="DOP853", rtol=rtol, atol=atol)
        state = piece.y[:, -1]
        _demand_positive(piece, state[: 2 * size], end)
        begin = end
        if end in times:
            saved.append(state)
    rows = np.array(saved).reshape(len(times), 2 + n_integrals, *shape)
    return RawRun(np.array(times), rows[:, 0], rows[:, 1], np.moveaxis(rows[:, 2:], 1, 0), count)


def settle(velocity: Velocity, net: Network, u0: Array, v0: Array, fraction: float = 1e-9,
           max_rhs: int = 10_000) -> tuple[float, bool]:
    """Find the time at which the gradient of the loss in the predictor has fallen to a fraction of its start.

    Returns
    -------
    tuple of float and bool
        That time and True; or, if the budget of evaluations is spent before, the time reached and False.
    """
    size = u0.size
    target = fraction * float(np.max(np.abs(net.beta_gradient(u0, v0))))
    solver = DOP853(lambda t, x: np.concatenate(velocity(t, x[:size], x[size:])), 0.0, np.concatenate([u0, v0]), np.inf,
                    rtol=1e-10, atol=1e3 * _weight_atol(u0, v0))
    while solver.nfev < max_rhs:
        with np.errstate(over="ignore", invalid="ignore"):
            message = solver.step()
        if solver.status == "failed" or not np.all(np.isfinite(solver.y)):
            raise RouteError(f"the raw route failed at t = {solver.t:.6g}: {message}")
        if float(np.max(np.abs(net.beta_gradient(solver.y[:size], solver.y[size:])))) <= target:
            return float(solver.t), True
    return float(solver.t), False


def _weight_atol(u0: Array, v0: Array, per_weight: float = ATOL_PER_WEIGHT) -> Array:
    return np.tile(per_weight * np.minimum(u0, v0).ravel(), 2)


def _demand_positive(run: Any, weights: Array, end: float) -> None:
    if not run.success or not np.all(np.isfinite(weights)) or np.any(weights <= 0):
        raise RouteError(f"the raw route failed before t = {end:.6g}: {run.message}")
