"""The set of minimisers of a weighted l1 norm, and the one among them that a second, strictly convex function selects.

By complementary slackness with dual nu, all minimisers are supported where `|x_j.nu|` equals its weight, with the sign of
`x_j.nu`: a polytope of magnitudes. Everything here is SciPy's: linear programming, then Newton inside of the polytope.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import lstsq, null_space
from scipy.optimize import linprog

from ._dual import row_space
from ._network import Array
from ._raw_route import RouteError

__all__ = ["Face", "Selection", "entropy", "face_of", "fractional", "least_l1", "select"]

#: |x_j.nu| this near its weight, relative to it, counts as equal.
TIE = 1e-7

MAX_STEPS = 200
FLOOR = 1e-18


class Selection(NamedTuple):
    """A strictly convex function of magnitudes: terms, slopes and curvatures, elementwise, given magnitudes and places."""

    value: Callable[[Array, Array], Array]
    slope: Callable[[Array, Array], Array]
    curvature: Callable[[Array, Array], Array]


def entropy(shape: Array) -> Selection:
    """Give `m (log(m/w^2) - 1)`, less of which is more entropy."""
    log_shape = 2 * np.log(shape)
    return Selection(lambda m, at: m * (np.log(m) - log_shape[at] - 1), lambda m, at: np.log(m) - log_shape[at],
                     lambda m, at: 1 / m)


def fractional(depth: float) -> Selection:
    """Give `-m^(2/D)`."""
    p = 2 / depth
    return Selection(lambda m, at: -(m**p), lambda m, at: -p * m ** (p - 1), lambda m, at: p * (1 - p) * m ** (p - 2))


@dataclass(frozen=True)
class Face:
    """The l1 minimisers.

    Attributes
    ----------
    vertex : ndarray of shape (d,)
        One of them.
    signs : ndarray of shape (d,)
        Of `x_j.nu`.
    places : ndarray of int
        Where a minimiser can differ from 0.
    slack : ndarray of shape (d,)
        Weight less `|x_j.nu|`.
    """

    vertex: Array
    signs: Array
    places: Array
    slack: Array

    @property
    def gap(self) -> float:
        """Smallest slack outside of the face."""
        return float(np.min(np.delete(self.slack, self.places)))

    @property
    def support(self) -> Array:
        """Where the vertex is not 0."""
        return np.flatnonzero(np.abs(self.vertex) > 1e-9 * np.max(np.abs(self.vertex)))


def face_of(X: Array, vertex: Array, nu: Array, weights: Array) -> Face:
    """Give the face from one minimiser and its dual."""
    tied = weights - np.abs(nu @ X) <= TIE * weights
    support = np.abs(vertex) > 1e-9 * np.max(np.abs(vertex))
    places = np.flatnonzero(tied | support)
    if places.size > np.count_nonzero(support):
        # Columns may tie by chance of the dual, without room for their entries.
        signs = np.sign(nu @ X)
        places = _with_room(X, vertex, places, signs)
        _demand_others(places, weights)
        nu = _farthest_dual(X, places, signs, weights)
    slack = weights - np.abs(nu @ X)
    _demand_others(places, weights)
    return Face(vertex, np.sign(nu @ X), places, slack)


def _demand_others(places: Array, weights: Array) -> None:
    if places.size == weights.size:
        raise RouteError("every column takes part in some l1 minimiser: nothing vanishes in the limit, and there is nothing to "
                         "check")


def _with_room(X: Array, vertex: Array, places: Array, signs: Array) -> Array:
    """Find the tied columns that have an entry in some minimiser: as many as possible at once, of a multiple of it."""
    A, n = X[:, places] * signs[places], places.size
    # Unknowns: magnitudes m of a minimiser times lambda, t <= min(m, 1), lambda >= 1; the sum of t is largest.
    found = linprog(np.concatenate([np.zeros(n), -np.ones(n), [0.0]]),
                    A_ub=np.hstack([-np.eye(n), np.eye(n), np.zeros((n, 1))]), b_ub=np.zeros(n),
                    A_eq=np.hstack([A, np.zeros(A.shape), -(X @ vertex)[:, None]]), b_eq=np.zeros(A.shape[0]),
                    bounds=[(0, None)] * n + [(0, 1)] * n + [(1, None)], method="highs-ds")
    if found.status != 0:
        raise RouteError(f"the l1 minimisers could not be described: {found.message}")
    return places[found.x[n : 2 * n] > 0.5]


def _farthest_dual(X: Array, places: Array, signs: Array, weights: Array) -> Array:
    """Among the duals, take the one that leaves the most slack outside of the face: it is seen in the limit."""
    away = np.setdiff1d(np.arange(weights.size), places)
    n = X.shape[0]
    ones = np.ones((away.size, 1))
    found = linprog(np.concatenate([np.zeros(n), [-1.0]]), A_ub=np.vstack([np.hstack([X[:, away].T, ones]),
                                                                           np.hstack([-X[:, away].T, ones])]),
                    b_ub=np.tile(weights[away], 2), A_eq=np.hstack([X[:, places].T, np.zeros((places.size, 1))]),
                    b_eq=signs[places] * weights[places], bounds=(None, None), method="highs-ds")
    if found.status != 0 or not found.x[-1] > 0:
        raise RouteError(f"the l1 norm has no strict dual: {found.message}")
    nu = found.x[:-1]
    return nu + lstsq(X[:, places].T, signs[places] * weights[places] - nu @ X[:, places])[0]


def least_l1(X: Array, y: Array, weights: Array) -> Face:
    """Minimise `sum w_j |b_j|` subject to `X b = y` by linear programming, and polish vertex and dual."""
    rows, target = row_space(X, y)
    d = weights.size
    found = linprog(np.concatenate([weights, weights]), A_eq=np.hstack([rows, -rows]), b_eq=target, bounds=(0, None),
                    method="highs-ds")
    if found.status != 0:
        raise RouteError(f"the linear programme was not solved: {found.message}")
    vertex = found.x[:d] - found.x[d:]
    support = np.flatnonzero(np.abs(vertex) > 1e-9 * np.max(np.abs(vertex)))
    exact = np.zeros(d)
    exact[support] = lstsq(rows[:, support], target)[0]
    nu = found.eqlin.marginals
    nu = nu + lstsq(rows[:, support].T, weights[support] * np.sign(vertex[support]) - nu @ rows[:, support])[0]
    return face_of(rows, exact, nu, weights)


def select(face: Face, X: Array, y: Array, selection: Selection) -> Array:
    """Minimise the selecting function over the face.

    It has infinite slope where a magnitude is 0, so its minimiser is inside: an inner point and Newton's method find it.
    """
    rows, target = row_space(X, y)
    places, signs = face.places, face.signs[face.places]
    A = rows[:, places] * signs
    beta = np.zeros(X.shape[1])
    Z = null_space(A)
    magnitudes = np.abs(face.vertex[places])
    if Z.shape[1]:
        # The point farthest from the walls: max t with m >= t, A m = target.
        n = places.size
        inner = linprog(np.concatenate([np.zeros(n), [-1.0]]), A_ub=np.hstack([-np.eye(n), np.ones((n, 1))]), b_ub=np.zeros(n),
                        A_eq=np.hstack([A, np.zeros((len(target), 1))]), b_eq=target, bounds=(0, None), method="highs-ds")
        if inner.status != 0 or not inner.x[-1] > 0:
            raise RouteError("the face of l1 minimisers has no inner point")
        magnitudes = _inside(A, target, inner.x[:-1], places, selection)
    beta[places] = signs * magnitudes
    return beta


def _inside(A: Array, target: Array, m: Array, places: Array, selection: Selection) -> Array:
    """Minimise by Newton's method from an inner point of `A m = target, m > 0`.

    Every step is relative to the magnitudes: near a wall a magnitude can be as small as `exp(-1/share)`, and what is left
    of it would be lost in differences of coordinates along the null space.
    """
    before = np.inf
    for _ in range(MAX_STEPS):
        slope, give = selection.slope(m, places), 1 / selection.curvature(m, places)
        root = np.sqrt(give)
        mu = lstsq((A * root).T, root * slope)[0]
        step = give * (mu @ A - slope) + root * lstsq(A * root, target - A @ m)[0]
        # What is below rounding beside the largest need not settle.
        relative = float(np.max(np.abs(step) / (m + FLOOR * np.max(m))))
        if relative <= 1e-13 or (relative <= 1e-8 and relative > before / 2):  # as far as rounding lets it come
            return m
        before = relative
        length = 1 / max(1.0, float(np.max(-step / m)) / 0.9)
        decrement, value = float(np.sum(step**2 / give)), float(np.sum(selection.value(m, places)))
        resolved = decrement > 1e-12 * abs(value)  # smaller changes of the value are lost in rounding
        while resolved and np.sum(selection.value(m + length * step, places)) > value - 0.1 * length * decrement:
            length /= 2
            if length < 1e-12:
                raise RouteError("the search along a step inside of the face of l1 minimisers came to no end")
        m = m + length * step
    raise RouteError("the minimiser of the selecting function over the face of l1 minimisers was not found")
