"""The plateaus of gradient flow from a small initialisation, to leading order in log(1/alpha), and one isolated transition.

With `tau = t / log(1/alpha)` and `s = -int g dtau` the weights of coordinate j are of order `alpha^(1 - 2 |s_j|)`: it has
arrived when `|s_j|` reaches 1/2, and then takes the value that least squares give it (Pesme & Flammarion 2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import lstsq

from ._network import Array

__all__ = ["Transition", "isolated_transition"]

#: More plateaus are not followed; and a plateau without an end is looked at for as long as it took to come.
MOST_PLATEAUS = 4

#: A transition counts as isolated if what is left of it, and of other coordinates, falls at least like alpha to this power.
#: Where it falls faster than that, it is soon lost in rounding.
LEAST_POWER, MOST_POWER = 0.2, 1.2

#: An order is not told from the next power of alpha if that is nearer.
LEAST_GAP = 0.05

#: So many corrections are fitted; of those that are nearer to one another, the first.
MOST_CORRECTIONS, NEAR = 3, 0.02

#: The raw route makes steps of order 1/(largest rate), for a time of some tens of `end` over the order.
MOST_STIFF = 400.0


@dataclass(frozen=True)
class Transition:
    """The passage to a plateau: from the time `begin`, when its last coordinate is still small, to its middle, `end`.

    Attributes
    ----------
    columns : ndarray of int
        The coordinates that are not small on the plateau.
    values : ndarray of shape (len(columns),)
        Their least-squares solution, which has the signs with which they came.
    begin, arrival, end : float
        Times, in units of log(1/alpha).
    rates : ndarray of shape (len(columns),)
        Eigenvalues of `4 c D^(1/2) X_B^T X_B D^(1/2)`, `D = diag |values|`, ascending: the flow approaches the plateau at these
        rates per unit of time t.
    settling : float
        Power of alpha that the distance of the coordinates in B to the plateau has at `end`.
    times : ndarray of shape (K,)
        From `begin` to `end`, with all arrivals in between.
    powers : ndarray of shape (K, d - len(columns))
        Powers of alpha that the other coordinates have then: `2 - 4 |s_j|`, linear in between.
    """

    columns: Array
    values: Array
    begin: float
    arrival: float
    end: float
    rates: Array
    settling: float
    times: Array
    powers: Array

    @property
    def orders(self) -> Array:
        """List the powers of alpha in the error of a forecast, ascending and without repetition; the first is its order."""
        modes = self.settling * self.rates / self.rates[0]
        powers = np.sort([*modes, *self.powers.ravel()])
        powers = np.sort([*powers, 2 * powers[0]])
        return powers[np.concatenate([[True], np.diff(powers) > 1e-6])]

    @property
    def corrections(self) -> tuple[float, ...]:
        """List the first relative powers of alpha in the logarithm of the error: distances of orders, their sums, the order."""
        first, gaps = float(self.orders[0]), self.orders[1:] - self.orders[0]
        sums = [one + other for one in gaps[:2] for other in gaps[:2]]
        found: list[float] = []
        for power in sorted(map(float, [*gaps, *sums, first, 2 * first])):
            if power > 1e-3 and (not found or power - found[-1] > NEAR):
                found.append(power)
        return tuple(found[:MOST_CORRECTIONS])

    @property
    def crossing(self) -> tuple[float, float]:
        """Give the time at which other coordinates begin to matter more than the distance to the plateau, and its power."""
        times = np.linspace(self.arrival, self.end, 1000)
        others = np.interp(times, self.times, np.min(self.powers, axis=1, initial=2.0))
        own = self.rates[0] * (times - self.arrival)
        at = int(np.argmax(np.minimum(own, np.minimum.accumulate(others))))
        return float(times[at]), float(min(own[at], others[at]))


def isolated_transition(X: Array, y: Array) -> Transition | None:
    """Find the clearest passage between plateaus, or None if there is none: if coordinates tie, or leave at once."""
    found = [one for one in _transitions(X, y)
             if LEAST_POWER <= one.orders[0] <= MOST_POWER and np.all(np.diff(one.orders[:2]) >= LEAST_GAP) and
             one.rates[-1] * one.end / one.orders[0] <= MOST_STIFF]
    return max(found, key=lambda one: one.orders[0], default=None)


def _transitions(X: Array, y: Array) -> list[Transition]:
    n, d = X.shape
    c = 1 / (2 * n)
    tau, s, columns, beta = 0.0, np.zeros(d), np.empty(0, dtype=int), np.zeros(d)
    size = c * float(np.max(np.abs(X.T @ y)))
    knots, found = [(0.0, s)], []
    for _ in range(MOST_PLATEAUS):
        slope = c * X.T @ (X @ beta - y)
        tau, s, new = _arrival(tau, s, slope, columns, size)
        if new is None:
            break
        knots.append((tau, s))
        columns = np.append(columns, new)
        values, _, rank, _ = lstsq(X[:, columns], y)
        if rank < columns.size or np.any(values * s[columns] <= 0):
            break  # duplicate columns, or a coordinate that leaves
        beta = np.zeros(d)
        beta[columns] = values
        found.append(_transition(X, y, knots, columns, values, size))
    return found


def _arrival(tau: float, s: Array, slope: Array, columns: Array, size: float) -> tuple[float, Array, int | None]:
    """Follow s along a plateau to the next arrival."""
    moving = np.abs(slope) > 1e-10 * size
    moving[columns] = False
    wait = np.full(s.size, np.inf)
    wait[moving] = (-0.5 * np.sign(slope[moving]) - s[moving]) / -slope[moving]
    new = int(np.argmin(wait))
    if not np.isfinite(wait[new]):
        return tau, s, None
    s = s - slope * wait[new]
    s[new] = -0.5 * np.sign(slope[new])
    return tau + wait[new], s, new


def _transition(X: Array, y: Array, knots: list[tuple[float, Array]], columns: Array, values: Array, size: float) -> Transition:
    arrival, s = knots[-1]
    c = 1 / (2 * X.shape[0])
    part = X[:, columns]
    slope = c * X.T @ (part @ values - y)
    next_one, _, new = _arrival(arrival, s, slope, columns, size)
    end = (arrival + next_one) / 2 if new is not None else 2 * arrival
    begin = arrival / 2
    times = np.array([time for time, _ in knots])
    states = np.array([state for _, state in knots])
    first = np.array([np.interp(begin, times, column) for column in states.T])
    others = np.setdiff1d(np.arange(X.shape[1]), columns)
    inside = times > begin
    times = np.array([begin, *times[inside], end])
    states = np.array([first, *states[inside], s - slope * (end - arrival)])
    if columns.size == np.linalg.matrix_rank(X):
        times, states = times[-1:], states[-1:]  # what others carry stays in the span of X_B
    scaled = part * np.sqrt(np.abs(values))
    rates = np.linalg.eigvalsh(4 * c * scaled.T @ scaled)
    return Transition(columns, values, begin, arrival, end, rates, float(rates[0] * (end - arrival)), times,
                      2 - 4 * np.abs(states[:, others]))
