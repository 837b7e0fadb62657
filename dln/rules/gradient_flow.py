"""Gradient flow: p = g, q = 0."""

from dataclasses import dataclass

import numpy as np

from .._jit import njit
from .._linalg import residual, rmatvec
from .base import BETA, DEEP_RULE, RULE, Rule
from .deep import descend


@njit(RULE, allocates=False)
def _kernel(X, y, c, beta, size, params, r, coef, q, work_d, work_n):
    residual(X, beta, y, r)
    for i in range(r.shape[0]):
        coef[i] = c * r[i]


@njit(DEEP_RULE)
def _deep_kernel(X, y, c, depth, powers, params, r, rate, work_d, work_n):
    residual(X, powers[BETA], y, r)
    rmatvec(X, r, c, work_d[0])
    descend(depth, powers, work_d[0], rate)
    return 0


@dataclass(frozen=True)
class GradientFlow(Rule):
    """The plain gradient: ``p = g = dL/dbeta``, ``q = 0``.

    References
    ----------
    Woodworth et al. (2020), Kernel and rich regimes in overparametrized models.
    """

    name = "gradient-flow"
    kernel = staticmethod(_kernel)
    deep_kernel = staticmethod(_deep_kernel)
    deep_law = True
    exact_curvature = True
    ignores_zero_columns = True
    shrinks = False
    one_sided = (0.0, 0.0)

    def parameters(self, n_features, t=0.0):
        """Return no parameters."""
        return np.empty(0)
