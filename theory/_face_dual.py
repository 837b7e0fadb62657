"""The minimiser of depth D > 2 at small scales, through a dual that is measured from that of the l1 norm.

At small scales `1 - |z_j|`, with `z_j = alpha_j^(D-2) x_j.nu`, is of order `alpha^(D-2)` wherever `b_j` does not vanish, and
`b_j` is a power of it: computed from z it would be lost. The limit of nu is the dual nu_1 of the l1 norm with weights
`alpha_j^(2-D)`, and there `1 - |z_j|` is known exactly: 0 on the face of l1 minimisers, the slack elsewhere. So the unknown is
`nu - nu_1`, and Newton's method on the convex dual keeps all digits of the gap. Nothing here depends on what is claimed of
the limit, and the library's own minimiser is not used.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.linalg import qr, solve_triangular

from ._dual import ACCURACY, row_space
from ._faces import least_l1
from ._network import Array
from ._raw_route import RouteError

__all__ = ["minimisers_near_l1"]

MAX_STEPS = 300


class _Gaps:
    """The dual at one scale as a function of `delta`, where `nu = nu_1 + delta`, in units in which nu_1 is of order one."""

    def __init__(self, X: Array, y: Array, log_alpha: Array, depth: float) -> None:
        k = depth - 2
        shift = float(np.mean(log_alpha))
        weights = np.exp(-k * (log_alpha - shift))
        face = least_l1(X, y, weights)
        self.X, self.y, self.signs, self.weights = X, y, face.signs, weights
        self.nu = X @ (face.signs * (weights - face.slack))  # the rows are orthonormal
        #: The gap is `slack - inward.delta`; slack and gap relative to the weights.
        self.inward = X / weights * face.signs
        self.slack = face.slack / weights
        self.slack[face.places] = 0.0
        self.s, self.m = depth / k, 2 / k
        self.predictor, self.size = np.exp(depth * log_alpha), np.exp(k * shift + 2 * log_alpha)

    def gap(self, delta: Array) -> Array:
        return self.slack - delta @ self.inward

    def objective(self, gap: Array, delta: Array) -> float:
        if not (np.all(gap > 0) and np.all(gap < 2)):
            return np.inf
        return float(np.sum(self.size * (gap**-self.m + (2 - gap) ** -self.m)) / self.m - self.y @ delta)

    def beta(self, gap: Array) -> Array:
        return self.signs * self.predictor * (gap**-self.s - (2 - gap) ** -self.s)

    def curvature(self, gap: Array) -> Array:
        return self.predictor * self.s * (gap ** (-self.s - 1) + (2 - gap) ** (-self.s - 1))

    def start(self) -> Array:
        """Shrink nu_1, until entries on the face are of the size of the least-norm interpolator."""
        least_norm = self.X.T @ np.linalg.solve(self.X @ self.X.T, self.y)
        room = np.min((self.predictor / np.max(np.abs(least_norm))) ** (1 / self.s))
        return -min(float(room), 0.5) * self.nu


def minimisers_near_l1(X: Array, y: Array, log_alphas: Iterable[Array], depth: float) -> Array:
    """Minimise the potential of depth D > 2 at several small scales.

    Parameters
    ----------
    X, y : ndarray of shape (N, d), (N,)
    log_alphas : iterable of ndarray of shape (d,)
    depth : float

    Returns
    -------
    ndarray of shape (K, d)

    Raises
    ------
    RouteError
        If a minimiser is not found to a relative residual of 1e-11.
    """
    rows, target = row_space(X, y)
    return np.array([_solve(_Gaps(rows, target, log_alpha, depth)) for log_alpha in log_alphas])


def _solve(dual: _Gaps) -> Array:
    delta, unit, before = dual.start(), float(np.max(np.abs(dual.y))), np.inf
    for _ in range(MAX_STEPS):
        gap = dual.gap(delta)
        beta = dual.beta(gap)
        gradient = dual.X @ beta - dual.y
        residual = float(np.max(np.abs(gradient))) / unit
        if residual <= 1e-14 or (residual <= ACCURACY and residual > before / 2):  # as far as rounding lets it come
            return beta
        before = residual
        # The Hessian is R^T R; formed, it would lose twice the digits where curvatures differ by many orders.
        R = qr((dual.X * np.sqrt(dual.curvature(gap) / dual.weights)).T, mode="r")[0][: gradient.size]
        step = -solve_triangular(R, solve_triangular(R, gradient, trans=1))
        closing = step @ dual.inward
        length = 1 / max(1.0, float(np.max(closing / gap)) / 0.9, float(np.max(-closing / (2 - gap))) / 0.9)
        slope, value = float(gradient @ step), dual.objective(gap, delta)
        while residual > 1e-4 and dual.objective(dual.gap(delta + length * step), delta + length * step) > (
                value + 0.1 * length * slope):
            length /= 2
            if length < 1e-12:
                raise RouteError("the search along a step of the dual came to no end")
        delta = delta + length * step
    raise RouteError(f"the dual stopped at a relative residual of {residual:.1e}")
