"""The minimiser of a separable potential subject to `X b = y`, by Newton's method on its dual.

    max_nu  y.nu - sum_j phi_j*(x_j.nu),     b_j = M_j(x_j.nu),     M_j = (phi_j*)'.

The dual is concave and smooth in the domain of the mirror maps. Steps end where the slope along them vanishes, and never
leave that domain; the gradient of the dual is the residual `y - X b`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np
from scipy.linalg import lstsq
from scipy.optimize import brentq

from ._network import Array
from ._numeric_potential import NumericPotential, finite

__all__ = ["ConstrainedMinimum", "minimize"]

MAX_ITERATIONS = 200


@dataclass(frozen=True)
class ConstrainedMinimum:
    """A minimiser and its certificate.

    Attributes
    ----------
    beta : ndarray of shape (d,)
    nu : ndarray of shape (N,)
        Dual point: `grad phi(beta) = X^T nu`.
    value : float
        `sum_j phi_j(beta_j)`.
    residual : float
        `max |X beta - y| / max |y|`.
    duality_gap : float
        `(primal + sum phi*(X^T nu) - y.nu) / primal`, each evaluated by itself.
    stationarity : float
        `max |grad phi(beta) - X^T nu|` relative to its largest entry.
    n_iterations : int
    success : bool
    message : str
    """

    beta: Array = field(repr=False)
    nu: Array = field(repr=False)
    value: float
    residual: float
    duality_gap: float
    stationarity: float
    n_iterations: int
    success: bool
    message: str


def minimize(potential: NumericPotential, X: object, y: object, alpha: object, tol: float = 1e-12) -> ConstrainedMinimum:
    """Minimise `sum_j phi_j(b_j)` subject to `X b = y`.

    Parameters
    ----------
    potential : NumericPotential
    X : array_like of shape (N, d)
    y : array_like of shape (N,)
        In the range of X.
    alpha : float or array_like of shape (d,)
        Initial weights.
    tol : float
        Relative residual to stop at.

    Returns
    -------
    ConstrainedMinimum

    Raises
    ------
    ValueError
        If shapes do not fit, an entry is not finite, or `X b = y` has no solution.
    """
    matrix, target = finite("X", X), finite("y", y)
    if matrix.ndim != 2 or target.shape != matrix.shape[:1]:
        raise ValueError(f"X must have shape (N, d) and y shape (N,), got {matrix.shape} and {target.shape}")
    n_features = matrix.shape[1]
    scales = finite("alpha", alpha)
    if scales.ndim > 1 or (scales.ndim == 1 and scales.size not in (1, n_features)):
        raise ValueError(f"alpha must be a number or have shape ({n_features},), got shape {scales.shape}")
    scales = np.broadcast_to(scales, (n_features,))
    unit = float(np.max(np.abs(target), initial=0.0))
    if unit == 0.0:
        return ConstrainedMinimum(np.zeros(n_features), np.zeros(len(target)), 0.0, 0.0, 0.0, 0.0, 0, True, "y = 0")
    left, singular, rows = np.linalg.svd(matrix, full_matrices=False)
    rank = int(np.sum(singular > singular[0] * max(matrix.shape) * np.finfo(float).eps)) if singular.size else 0
    left, singular, rows = left[:, :rank], singular[:rank], rows[:rank]
    coordinates = left.T @ target
    if np.max(np.abs(left @ coordinates - target)) > 1e-9 * unit:
        raise ValueError("X b = y has no solution: y is not in the range of X")
    reduced = coordinates / singular

    radius, branch = potential.domain(scales), potential.branch(scales)

    def mirror(z: Array) -> tuple[Array, Array]:
        return potential.mirror_and_slope(z, branch)

    def residual(beta: Array) -> float:
        return float(np.max(np.abs(matrix @ beta - target)) / unit)

    mu = np.zeros(rank)
    beta, slope = mirror(rows.T @ mu)
    best, message = residual(beta), ""
    stalled = 0
    count = 0
    while count < MAX_ITERATIONS:
        count += 1
        ascent = reduced - rows @ beta
        # Where slopes differ by many orders, least squares on their roots keeps twice the digits of the normal equations.
        root = np.sqrt(slope)[:, None] * rows.T
        scale = np.sqrt(np.maximum(np.sum(root**2, axis=0), np.finfo(float).tiny))
        direction = lstsq((root / scale).T @ (root / scale), ascent / scale)[0] / scale
        length = _length(rows.T @ mu, rows.T @ direction, radius, lambda z: mirror(z)[0],
                         float(reduced @ direction))
        ahead = mirror(rows.T @ (mu + length * direction))
        if not np.isfinite(ahead[0]).all():  # at the very end of the domain
            break
        mu, (beta, slope) = mu + length * direction, ahead
        now = residual(beta)
        stalled = 0 if now < 0.5 * best else stalled + 1
        best = min(best, now)
        if now <= tol or not length > 0:
            break
        if stalled >= (3 if now < 1e-10 else 20):  # as far as rounding, or the end of the domain, lets it come
            break
    nu = left @ (mu / singular)
    found = _certify(potential, matrix, target, scales, beta, nu, rows.T @ mu)
    success = found["residual"] <= max(tol, 1e-10) and found["duality_gap"] <= 1e-8
    if not success:
        message = (f"stopped at relative residual {found['residual']:.1e}: either no b within reach of the mirror map solves "
                   "X b = y, or alpha is so small that doubles cannot resolve the dual point")
    return ConstrainedMinimum(beta, nu, n_iterations=count, success=bool(success), message=message or "converged", **found)


def _length(z: Array, step: Array, radius: Array, mirror: object, gain: float) -> float:
    """Find where the dual has its maximum along a step, roughly; 1 where that is as good."""
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(step != 0, (radius - np.sign(step) * z) / np.abs(step), np.inf)
    longest = float(np.min(room, initial=np.inf))

    @cache
    def slope(t: float) -> float:
        beta = np.clip(mirror(z + t * step), -1e150, 1e150)  # type: ignore[operator]
        return -np.inf if np.isnan(beta).any() else gain - float(beta @ step)

    start = slope(0.0)
    if not start > 0:
        return 1.0 if longest > 1.0 else 0.0
    t = 1.0 if longest > 1.0 else (1 - 1e-3) * longest
    at = slope(t)
    if at >= -0.1 * start:
        return t

    def balance(x: float) -> float:  # zero, which ends the search, where the slope is small; asinh, as slopes grow like exp
        return 0.0 if abs(slope(x)) <= 0.1 * start else float(np.arcsinh(max(slope(x) / start, -1e300)))

    return float(brentq(balance, 0.0, t, xtol=1e-300, rtol=1e-2))


def _certify(potential: NumericPotential, X: Array, y: Array, alpha: Array, beta: Array, nu: Array,
             z: Array) -> dict[str, float]:
    unit = float(np.max(np.abs(y)))
    residual = float(np.max(np.abs(X @ beta - y)) / unit)
    try:
        primal, slopes = float(np.sum(potential.value(beta, alpha))), potential.gradient(beta, alpha)
    except ValueError:  # on the rim of what the mirror map reaches
        return {"value": float("nan"), "residual": residual, "duality_gap": float("inf"), "stationarity": float("inf")}
    conjugate = float(np.sum(potential.dual(-z, alpha)))
    return {"value": primal, "residual": residual,
            "duality_gap": abs(primal + conjugate - float(y @ nu)) / primal,
            "stationarity": float(np.max(np.abs(slopes - z)) / np.max(np.abs(z)))}
