"""A minimiser of the potential through its dual, for any depth D >= 2 and down to very small scales, with SciPy.

The dual of `min sum a_j^2 q(b_j/a_j^D) s.t. X b = y` is unconstrained, smooth and has one number per sample; at depth 2
it is `sum a_j^2 cosh(4 x_j.nu)/2 - y.nu`. At small scales its minimiser is followed from a large scale downwards. The
library's own minimiser is not used here.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.linalg import LinAlgError, svd
from scipy.optimize import minimize, root

from ._deep import H_OF_T, INTEGRAL_OF_T, SLOPE_OF_T, number
from ._network import Array
from ._raw_route import RouteError

__all__ = ["follow_minimisers", "row_space"]

ACCURACY = 1e-11


def row_space(X: Array, y: Array) -> tuple[Array, Array]:
    """Replace `X b = y` by equations with orthonormal rows and the same least-squares solutions."""
    U, sizes, V = svd(X, full_matrices=False)
    kept = sizes > 1e-12 * sizes[0]
    return V[kept], (U.T @ y)[kept] / sizes[kept]


class _Dual:
    """The dual at one scale. For D > 2 the variable is `nu exp((D-2) shift)`, so that it stays of order one."""

    def __init__(self, X: Array, y: Array, log_alpha: Array, depth: float) -> None:
        self.X, self.y, self.log_alpha, self.depth = X, y, log_alpha, depth
        self.shift = float(np.mean(log_alpha))
        self.relative = np.exp(log_alpha - self.shift) if depth > 2 else np.ones_like(log_alpha)

    def _position(self, nu: Array) -> Array | None:
        """Give `log(u/v)` at depth 2, else t with `tanh t = alpha^(D-2) x.nu`; None outside of the domain."""
        w = nu @ self.X
        if self.depth == 2:
            return 4 * w
        z = self.relative ** (self.depth - 2) * w
        return np.arctanh(z) if np.all(np.abs(z) < 1) else None

    def objective(self, nu: Array) -> float:
        t = self._position(nu)
        if t is None:
            return np.inf
        if self.depth == 2:
            total = np.sum(np.exp(2 * self.log_alpha + np.abs(t)) * (1 + np.exp(-2 * np.abs(t)))) / 4
        else:
            s = self.depth / (self.depth - 2)
            total = np.sum(np.exp(self.depth * self.shift) * self.relative**2 * number(INTEGRAL_OF_T)(t, s))
        return float(total - self.y @ nu)

    def beta(self, nu: Array) -> Array:
        t = self._position(nu)
        if t is None:
            return np.full(self.X.shape[1], np.nan)
        if self.depth == 2:
            return np.sign(t) * np.exp(2 * self.log_alpha + np.abs(t)) * -np.expm1(-2 * np.abs(t))
        return np.exp(self.depth * self.log_alpha) * number(H_OF_T)(t, self.depth / (self.depth - 2))

    def gradient(self, nu: Array) -> Array:
        return self.X @ self.beta(nu) - self.y

    def hessian(self, nu: Array) -> Array:
        t, k = self._position(nu), self.depth - 2
        if t is None:
            return np.full((nu.size, nu.size), np.nan)
        if self.depth == 2:
            weight = 4 * np.exp(2 * self.log_alpha + np.abs(t)) * (1 + np.exp(-2 * np.abs(t)))
        else:
            weight = np.exp(self.depth * self.log_alpha) * self.relative**k * number(SLOPE_OF_T)(t, self.depth / k)
        return (self.X * weight) @ self.X.T

    def solve(self, guess: Array) -> Array | None:
        """Minimise from a guess; None if that does not come to an accurate end."""
        with np.errstate(over="ignore", invalid="ignore"):  # trial points may lie far out, and are rejected
            if not np.isfinite(self.objective(guess)):
                return None
            try:
                found = minimize(self.objective, guess, jac=self.gradient, hess=self.hessian, method="trust-exact",
                                 options={"gtol": 1e-7 * float(np.max(np.abs(self.y))), "maxiter": 100}).x
                polished = root(self.gradient, found, jac=self.hessian, method="hybr", options={"xtol": 1e-15}).x
            except (LinAlgError, ValueError):
                return None
            best = min((found, polished), key=self._residual)
            return best if self._residual(best) <= ACCURACY + self._rounding(best) else None

    def _rounding(self, nu: Array) -> float:
        """Estimate what rounding does to the residual: where |z| is near 1, s times that of 1 - |z|, relative to it."""
        t = self._position(nu)
        if self.depth == 2 or t is None:
            return 0.0
        return 10 * np.finfo(float).eps * self.depth / (self.depth - 2) * float(np.max(np.exp(2 * np.abs(t))))

    def _residual(self, nu: Array) -> float:
        residual = float(np.max(np.abs(self.gradient(nu)))) / float(np.max(np.abs(self.y)))
        return residual if np.isfinite(residual) else np.inf


def follow_minimisers(X: Array, y: Array, log_alphas: Iterable[Array], depth: float) -> Array:
    """Minimise the potential of depth D at several scales, each from the one before.

    Parameters
    ----------
    X, y : ndarray of shape (N, d), (N,)
        Of full row rank, best with orthonormal rows: see `row_space`.
    log_alphas : iterable of ndarray of shape (d,)
        Scales, best in falling order.
    depth : float
        D, 2 or more.

    Returns
    -------
    ndarray of shape (K, d)

    Raises
    ------
    RouteError
        If the path is lost.
    """
    unit = float(np.max(np.abs(X.T @ np.linalg.solve(X @ X.T, y))))
    targets = [np.asarray(target, dtype=float) for target in log_alphas]
    # Where alpha^D is far above beta the minimiser is that of a weighted l2 norm, and any start will do.
    at = np.maximum(targets[0], np.log(4 * unit) / depth)
    dual = _Dual(X, y, at, depth)
    nu = dual.solve(np.zeros(y.size))
    if nu is None:
        raise RouteError(f"the dual of depth {depth:g} could not be minimised at its largest scale")
    rows, before = [], None
    for target in targets:
        part, begin, width = 0.0, at, 1.0
        while part < 1.0:
            width = min(width, 1.0 - part)
            here = begin + (part + width) * (target - begin)
            dual = _Dual(X, y, here, depth)
            guess = nu
            if before is not None and depth == 2:
                # log(u/v) is linear in the logarithm of the scale, but for terms that vanish with it.
                guess = nu + (nu - before[0]) * float(np.mean(here - at)) / float(np.mean(at - before[1]))
            found = dual.solve(guess)
            if found is None:
                width /= 2
                if width < 1e-6:
                    raise RouteError(f"the minimisers of depth {depth:g} could not be followed beyond log alpha = "
                                     f"{float(np.mean(at)):.4g}")
                continue
            if np.any(here != at):
                before = (nu, at)
            nu, at, part, width = found, here, part + width, 2 * width
        rows.append(dual.beta(nu))
    return np.array(rows)
