"""A second minimiser: the derived potential, lambdified, and SciPy's optimisers in the null space of X.

It serves the checks only, at moderate initialisation scales, and shares nothing with the dual Newton method of the
library. It starts from the least-norm point of the constraint, never from the point it is compared with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import sympy as sp
from scipy.linalg import lstsq, null_space
from scipy.optimize import minimize, root

from ._derivation import Derivation
from ._network import Array
from ._steps import potential

__all__ = ["Minimum", "Potential", "minimise_divergence"]


class Potential(NamedTuple):
    """A potential of one coordinate: value, slope and curvature as functions of (b, a), and the depth D.

    Up to a factor it depends on `b/a^D` alone.
    """

    value: Callable[..., Array]
    slope: Callable[..., Array]
    curvature: Callable[..., Array]
    depth: float


@cache
def _entropy() -> Potential:
    """Give the potential of depth 2."""
    a = sp.Symbol("a", positive=True)
    phi = potential(Derivation("potential", "hyperbolic entropy"), a)
    value, first, second = (sp.lambdify((phi.b, a), part, "numpy") for part in (phi.value, phi.slope, phi.curvature))
    return Potential(value, first, second, 2.0)


@dataclass(frozen=True)
class Minimum:
    """A constrained minimiser and its certificate.

    Attributes
    ----------
    beta : ndarray of shape (d,)
    stationarity : float
        Largest entry of the gradient of the divergence along the null space of X: 0 at the minimiser.
    infeasibility : float
        `max |X beta - target| / max |target|`.
    """

    beta: Array
    stationarity: float
    infeasibility: float


def minimise_divergence(X: Array, target: Array, log_alpha: Array, center: Array,
                        phi: Potential | None = None) -> Minimum:
    """Minimise the Bregman divergence of a potential from a centre, subject to `X b = target`.

    Parameters
    ----------
    X : ndarray of shape (N, d)
    target : ndarray of shape (N,)
        In the range of X.
    log_alpha : ndarray of shape (d,)
        Logarithm of the effective initialisation.
    center : ndarray of shape (d,)
    phi : Potential
        By default the hyperbolic entropy, that of depth 2.

    Returns
    -------
    Minimum
    """
    value, first, second, depth = phi or _entropy()
    b0 = lstsq(X, target)[0]
    # phi is homogeneous: in units of the predictor the optimisers see numbers of order one.
    unit = max(np.max(np.abs(b0)), np.finfo(float).tiny)
    b0, a = b0 / unit, np.exp(log_alpha - np.log(unit) / depth)
    at_center = first(center / unit, a)
    Z = null_space(X)
    if Z.shape[1] == 0:
        return _certify(X, target, b0 * unit, 0.0)

    def objective(w: Array) -> float:
        b = b0 + Z @ w
        return float(np.sum(value(b, a) - at_center * b))

    def gradient(w: Array) -> Array:
        return Z.T @ (first(b0 + Z @ w, a) - at_center)

    def hessian(w: Array) -> Array:
        return Z.T @ (second(b0 + Z @ w, a)[:, None] * Z)

    w = minimize(objective, np.zeros(Z.shape[1]), jac=gradient, hess=hessian, method="trust-exact",
                 options={"gtol": 1e-9, "maxiter": 500}).x
    polished = root(gradient, w, jac=hessian, method="hybr", options={"xtol": 1e-15}).x
    w = min((w, polished), key=lambda x: np.max(np.abs(gradient(x))))
    return _certify(X, target, (b0 + Z @ w) * unit, float(np.max(np.abs(gradient(w)))))


def _certify(X: Array, target: Array, beta: Array, stationarity: float) -> Minimum:
    scale = max(np.max(np.abs(target)), np.finfo(float).tiny)
    return Minimum(beta, stationarity, float(np.max(np.abs(X @ beta - target)) / scale))
