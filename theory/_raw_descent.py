"""Discrete steps in raw weights, with NumPy: the same vector fields as the flows, stepped instead of integrated.

A step adds `eta` times the velocity to the weights. That it multiplies them, by factors in p and q, is what a law says
and what is checked; nothing here knows of it. Velocities take the number of the step, too, for rules that draw samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ._fields import Velocity
from ._network import Array
from ._raw_route import RouteError

__all__ = ["Field", "Move", "RawDescent", "Schedule", "descend", "each_step"]

#: `(k, t, u, v) -> (du, dv)`: the velocity of step k, at t, the sum of the steps before it.
Field = Callable[[int, float, Array, Array], tuple[Array, Array]]

#: Step size of step k; an array of shape (..., 1) for independent runs.
Schedule = Callable[[int], float | Array]


@dataclass(frozen=True)
class Move:
    """One step: its number, the sum of the steps before it, its size, and the weights before and after."""

    k: int
    t: float
    step: float | Array
    u: Array
    v: Array
    next_u: Array
    next_v: Array


#: Quantities of the shape of u, to be summed over the steps.
Terms = Callable[[Move], tuple[Array, ...]]


@dataclass(frozen=True)
class RawDescent:
    """Weights and sums at the step counts asked for.

    Attributes
    ----------
    counts : ndarray of shape (K,)
    u, v : ndarray of shape (K, ..., d)
        With their signs.
    sums : ndarray of shape (n_terms, K, ..., d)
    n_flips : int
        How often a weight changed its sign.
    """

    counts: Array
    u: Array
    v: Array
    sums: Array
    n_flips: int

    @property
    def betas(self) -> Array:
        """Predictor at each count, `u^2 - v^2` as a product: the difference of squares would cancel."""
        return (self.u - self.v) * (self.u + self.v)

    @property
    def log_scales(self) -> Array:
        """`log sqrt|u v|` at each count."""
        return (np.log(np.abs(self.u)) + np.log(np.abs(self.v))) / 2


def each_step(velocity: Velocity) -> Field:
    """Take a velocity that does not ask for the number of the step."""
    return lambda k, t, u, v: velocity(t, u, v)


def constant(step: float | Array) -> Schedule:
    """Take the same step size every time."""
    return lambda k: step


def no_terms(move: Move) -> tuple[Array, ...]:
    """Sum nothing."""
    return ()


def descend(field: Field, u0: Array, v0: Array, counts: Sequence[int] | Array, schedule: Schedule, terms: Terms = no_terms,
            momentum: float = 0.0, nesterov: bool = False) -> RawDescent:
    """Make steps and keep weights and sums at some counts.

    Parameters
    ----------
    field : callable
        `(k, t, u, v) -> (du, dv)`.
    u0, v0 : ndarray of shape (..., d)
        Leading axes are independent runs.
    counts : sequence of int
        Increasing, from 0 on.
    schedule : callable
        `k -> step size`.
    terms : callable
        `Move -> tuple of arrays`, summed over the steps without loss of digits (Neumaier 1974).
    momentum : float
        Each step adds `momentum` times the last one; at rest at first.
    nesterov : bool
        Evaluate the velocity where momentum alone would lead.

    Returns
    -------
    RawDescent

    Raises
    ------
    RouteError
        If a weight becomes 0 or is not finite.
    """
    wanted = {int(count) for count in counts}
    end = max(wanted)
    weights = np.stack([u0, v0])
    last, t, n_flips = weights, 0.0, 0
    totals = lost = np.zeros((len(terms(Move(0, 0.0, schedule(0), u0, v0, u0, v0))), *u0.shape))
    kept = []
    for k in range(end + 1):
        if k in wanted:
            kept.append((weights, totals + lost))
        if k == end:
            break
        step = schedule(k)
        ahead = weights + momentum * (weights - last) if nesterov else weights
        moved = weights + momentum * (weights - last) + step * np.stack(field(k, t, *ahead))
        n_flips += int(np.sum((moved < 0) != (weights < 0)))
        if len(totals):
            new = np.stack(terms(Move(k, t, step, *ahead, *moved)))
            both = totals + new
            lost = lost + np.where(np.abs(totals) >= np.abs(new), (totals - both) + new, (new - both) + totals)
            totals = both
        last, weights = weights, moved
        t += float(np.max(step))
        if not np.all(np.isfinite(weights)) or not np.all(weights):
            raise RouteError(f"the raw route left the range of numbers at step {k}")
    return RawDescent(np.array(sorted(wanted)), np.array([w[0] for w, _ in kept]), np.array([w[1] for w, _ in kept]),
                      np.moveaxis(np.array([s for _, s in kept]), 1, 0), n_flips)
