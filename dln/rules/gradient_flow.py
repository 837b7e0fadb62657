"""Gradient flow: p = g, q = 0."""

from dataclasses import dataclass

import numpy as np

from .._jit import njit
from .._linalg import residual
from .base import RULE, Rule


@njit(RULE)
def _kernel(X, y, c, beta, size, params, r, coef, q, work_d, work_n):
    residual(X, beta, y, r)
    for i in range(r.shape[0]):
        coef[i] = c * r[i]


@dataclass(frozen=True)
class GradientFlow(Rule):
    """The plain gradient: ``p = g = dL/dbeta``, ``q = 0``.

    References
    ----------
    Woodworth et al. (2020), Kernel and rich regimes in overparametrized models.
    """

    name = "gradient-flow"
    kernel = staticmethod(_kernel)
    exact_curvature = True
    shrinks = False

    def parameters(self, n_features, t=0.0):
        """Return no parameters."""
        return np.empty(0)
