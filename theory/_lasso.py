"""The Lasso by the projection of y, and its objective.

The residual of a Lasso solution is the point nearest to 0 that a polytope allows for what is left of y: a problem of least
distance, which Lawson and Hanson (1974) turn into one of non-negative least squares. It is finite and knows of no path.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from ._network import Array
from ._raw_route import RouteError

__all__ = ["lasso", "objective"]


def objective(X: Array, y: Array, penalty: float, beta: Array) -> float:
    """Evaluate `|X b - y|^2/(4N) + penalty |b|_1`."""
    return float(np.sum((X @ beta - y) ** 2)) / (4 * len(y)) + penalty * float(np.sum(np.abs(beta)))


def lasso(X: Array, y: Array, penalty: float) -> Array:
    """Minimise `|X b - y|^2/(4N) + penalty |b|_1`, penalty > 0.

    The fit x = X b is the shortest vector such that `|X^T (y - x)| <= 2 N penalty`; its multipliers are b.

    Raises
    ------
    RouteError
        If the conditions of optimality are not met to 1e-9.
    """
    n_samples, d = X.shape
    bound = 2 * n_samples * penalty
    # Each in its own units, so that the one row of bounds and the others are of one size.
    x_unit, y_unit = float(np.linalg.norm(X, 2)), max(float(np.linalg.norm(y)), np.finfo(float).tiny)
    both = np.hstack([X, -X]) / x_unit
    needed = (y / y_unit) @ both - bound / (x_unit * y_unit)
    rows = np.vstack([both, needed])
    multipliers, _ = nnls(rows, np.append(np.zeros(n_samples), 1.0), maxiter=100 * d)
    rest = float(1.0 - needed @ multipliers)
    beta = (multipliers[:d] - multipliers[d:]) / rest * (y_unit / x_unit)
    force = X.T @ (y - X @ beta) / bound
    excess = max(float(np.max(np.abs(force))) - 1.0, float(np.max(np.abs(np.abs(beta) - force * beta))) * x_unit / y_unit)
    if not excess <= 1e-9 * max(1.0, x_unit * y_unit / bound):
        raise RouteError(f"the Lasso at penalty {penalty:.6g} misses its conditions of optimality by {excess:.1e}")
    return beta
