"""Training with momentum in raw weights: flows by SciPy in (u, v, u', v'), discrete steps by plain iteration.

A flow keeps the nodes and weights of a quadrature along itself, so that a law may weigh its integrands by any function of the
time s and of the end T.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.integrate import solve_ivp

from ._engine import Pair
from ._fields import Velocity
from ._network import Array
from ._raw_route import ATOL_PER_WEIGHT, RouteError

__all__ = ["FlowWithMomentum", "Steps", "flow_with_momentum", "steps_with_momentum"]

#: Gauss-Legendre nodes in each step of the integrator.
NODES = 8
MAX_RHS = 60_000
RTOL = 1e-12


@dataclass(frozen=True)
class FlowWithMomentum:
    """Weights at the times asked for, and everything that a law integrates at the nodes of a quadrature.

    Attributes
    ----------
    times : ndarray of shape (K,)
    u, v : ndarray of shape (K, d)
    nodes, quadrature : ndarray of shape (S,)
        Times in between, and their weights.
    p, q, a, b : ndarray of shape (S, d)
        The pair of the rule, and `u'/u`, `v'/v`, at the nodes.
    """

    times: Array
    u: Array
    v: Array
    nodes: Array
    quadrature: Array
    p: Array
    q: Array
    a: Array
    b: Array

    @property
    def betas(self) -> Array:
        """Predictor at each time."""
        return (self.u - self.v) * (self.u + self.v)

    def integrals(self, integrand: Array, weight: Callable[[Array, float], Array]) -> Array:
        """Integrate `integrand` times `weight(s, T)` from 0 to each time T, shape (K, d)."""
        rows = []
        for end in self.times:
            before = self.nodes < end
            factor = self.quadrature[before] * weight(self.nodes[before], float(end))
            rows.append(factor @ integrand[before])
        return np.array(rows)


def flow_with_momentum(velocity: Velocity, pair: Pair, u0: Array, v0: Array, times: Array,
                       inertia: float | None) -> FlowWithMomentum:
    """Integrate `inertia theta'' + theta' = velocity` from rest, or `theta'' + (3/t) theta' = velocity` without an inertia.

    Raises
    ------
    RouteError
        If the solver fails or a weight comes to 0, where the law ends.
    """
    size = u0.size
    count = 0

    def field(t: float, state: Array) -> Array:
        nonlocal count
        count += 1
        if count > MAX_RHS:
            raise RouteError(f"the raw route spent its {MAX_RHS} evaluations at t = {t:.6g} of {times[-1]:.6g}")
        force = np.concatenate(velocity(t, state[:size], state[size : 2 * size]))
        speed = state[2 * size :]
        if inertia is not None:
            return np.concatenate([speed, (force - speed) / inertia])
        # theta' = theta''(0) t at first, so that theta'' + 3 theta'' = force there.
        return np.concatenate([speed, force - 3 * speed / t if t > 0 else force / 4])

    state = np.concatenate([u0, v0, np.zeros(2 * size)])
    atol = np.tile(ATOL_PER_WEIGHT * np.minimum(u0, v0), 4)
    points, gauss = np.polynomial.legendre.leggauss(NODES)
    ends, nodes, quadrature, states, begin = [], [], [], [], 0.0
    for end in times:
        with np.errstate(over="ignore", invalid="ignore"):
            piece = solve_ivp(field, (begin, end), state, method="DOP853", rtol=RTOL, atol=atol, dense_output=True)
        state = piece.y[:, -1]
        middle, half = (piece.t[1:] + piece.t[:-1]) / 2, np.diff(piece.t) / 2
        at = (middle[:, None] + half[:, None] * points).ravel()
        along = piece.sol(at).T
        if not piece.success or not np.all(np.isfinite(along)) or np.any(along[:, : 2 * size] <= 0) or np.any(
                state[: 2 * size] <= 0):
            raise RouteError(f"a weight comes to 0, or the raw route failed, before t = {end:.6g}: {piece.message}")
        ends.append(state)
        nodes.append(at)
        quadrature.append((half[:, None] * gauss).ravel())
        states.append(along)
        begin = float(end)
    rows, along = np.array(ends), np.concatenate(states)
    s, u, v = np.concatenate(nodes), along[:, :size], along[:, size : 2 * size]
    p, q = pair(0.0, u, v)
    return FlowWithMomentum(np.array(times), rows[:, :size], rows[:, size : 2 * size], s, np.concatenate(quadrature), p, q,
                            along[:, 2 * size : 3 * size] / u, along[:, 3 * size :] / v)


@dataclass(frozen=True)
class Steps:
    """Discrete training with momentum: weights before the first step and after every step, and the pair at every step.

    Attributes
    ----------
    u, v : ndarray of shape (K + 1, d)
    p, q : ndarray of shape (K, d)
        Where the gradient is taken: at the weights, or at those moved on (Nesterov).
    """

    u: Array
    v: Array
    p: Array
    q: Array

    @property
    def betas(self) -> Array:
        """Predictor after every step, (K + 1, d)."""
        return (self.u - self.v) * (self.u + self.v)

    @property
    def log_scales(self) -> Array:
        """`log sqrt|u v|` after every step, (K + 1, d)."""
        return (np.log(np.abs(self.u)) + np.log(np.abs(self.v))) / 2

    @property
    def n_sign_flips(self) -> int:
        """How often a weight changed its sign."""
        return int(sum(np.sum(w[1:] * w[:-1] < 0) for w in (self.u, self.v)))


def steps_with_momentum(velocity: Velocity, pair: Pair, u0: Array, v0: Array, step: float, momentum: float, n_steps: int,
                        nesterov: bool) -> Steps:
    """Iterate heavy ball or Nesterov's method from rest.

    Raises
    ------
    RouteError
        If the run diverges, or a weight is exactly 0.
    """
    now, before = np.stack([u0, v0]), np.stack([u0, v0])
    weights, pairs = [now], []
    for _ in range(n_steps):
        moved_on = now + momentum * (now - before)
        at = moved_on if nesterov else now
        with np.errstate(over="ignore", invalid="ignore"):
            before, now = now, moved_on + step * np.stack(velocity(0.0, *at))
            pairs.append(np.stack(pair(0.0, *at)))
        weights.append(now)
        if not np.all(np.isfinite(now)) or np.any(now == 0):
            raise RouteError(f"discrete steps with momentum diverged, or a weight is exactly 0, after {len(pairs)} steps")
    rows, of_rule = np.array(weights), np.array(pairs)
    return Steps(rows[:, 0], rows[:, 1], of_rule[:, 0], of_rule[:, 1])
