"""Sharpness-aware minimisation (SAM): the gradient at the weights after an ascent step of radius rho."""

import math
from dataclasses import dataclass

import numpy as np

from .._jit import njit
from .._linalg import residual, rmatvec
from .base import CURVATURE, RULE, Rule, number
from .gradient_regularization import gradient_norm, perturbed_pair


@njit(RULE)
def _full_batch(X, y, c, beta, size, params, r, coef, q, work_d, work_n):
    # SAM is the forward difference of GR with gamma = epsilon = rho.
    rho, normalized = params[0], params[1]
    residual(X, beta, y, r)
    g = work_d[0]
    rmatvec(X, r, c, g)
    if normalized != 0.0:
        size_of_gradient = gradient_norm(size, g)
        rho = rho / size_of_gradient if size_of_gradient > 0.0 else 0.0
    perturbed_pair(X, c, beta, size, rho, rho, False, r, g, coef, q, work_d, work_n)


@njit(CURVATURE)
def _full_batch_curvature(X, c, beta, size, r, params, row_scale, work_d):
    rho, normalized = params[0], params[1]
    for i in range(row_scale.shape[0]):
        row_scale[i] = 1.0
    if normalized != 0.0:
        rmatvec(X, r, c, work_d[0])
        size_of_gradient = gradient_norm(size, work_d[0])
        rho = rho / size_of_gradient if size_of_gradient > 0.0 else 0.0
    return rho


@njit()
def _sample_radius(rho, normalized, residual_i, gram_i):
    # |grad L_i|^2 = r_i^2 sum_j x_ij^2 (u_j^2 + v_j^2)
    if normalized == 0.0:
        return rho
    norm = abs(residual_i) * math.sqrt(gram_i)
    return rho / norm if norm > 0.0 else 0.0


@njit(RULE)
def _per_sample(X, y, c, beta, size, params, r, coef, q, work_d, work_n):
    # The residual of sample i at theta + rho grad L_i: r_i + 2 rho r_i sum_j x_ij^2 size_j + rho^2 r_i^2 sum_j x_ij^3 beta_j.
    rho, normalized = params[0], params[1]
    n, d = X.shape
    residual(X, beta, y, r)
    for j in range(d):
        q[j] = 0.0
    for i in range(n):
        quadratic = 0.0
        cubic = 0.0
        for j in range(d):
            square = X[i, j] * X[i, j]
            quadratic += square * size[j]
            cubic += square * (X[i, j] * beta[j])
        radius = _sample_radius(rho, normalized, r[i], quadratic)
        step = radius * r[i]
        perturbed = r[i] + 2.0 * step * quadratic + step * step * cubic
        coef[i] = c * perturbed
        weight = c * step * perturbed
        for j in range(d):
            q[j] += weight * (X[i, j] * X[i, j])


@njit(CURVATURE)
def _per_sample_curvature(X, c, beta, size, r, params, row_scale, work_d):
    rho, normalized = params[0], params[1]
    for i in range(X.shape[0]):
        quadratic = 0.0
        for j in range(X.shape[1]):
            quadratic += (X[i, j] * X[i, j]) * size[j]
        row_scale[i] = 1.0 / (1.0 + 2.0 * _sample_radius(rho, normalized, r[i], quadratic) * quadratic)
    return 0.0


@dataclass(frozen=True)
class SAM(Rule):
    """Sharpness-aware minimisation, with the full batch or one sample at a time.

    The pair is ``p = g_rho, q = 2 rho g g_rho`` (full batch), or ``p = mean_i g_{i,rho}, q = (2 rho/N) sum_i g_i g_{i,rho}``
    (`per_sample`, "1-SAM"), with ``g_{i,rho}`` the gradient of the loss of sample i at ``theta + rho grad L_i(theta)``.

    Parameters
    ----------
    rho : float
        Radius, at least 0.
    normalized : bool
        Divide rho by the norm of the weight gradient (of each sample's, if `per_sample`); where that is 0 the rule is
        defined as the plain gradient.  Such a flow need not settle on an interpolator.
    per_sample : bool
        One sample at a time.

    References
    ----------
    Andriushchenko & Flammarion (2022), Towards understanding sharpness-aware minimization.
    """

    rho: float
    normalized: bool = False
    per_sample: bool = False

    name = "sam"

    def __post_init__(self):
        object.__setattr__(self, "rho", number("rho", self.rho, minimum=0.0))

    @property
    def kernel(self):
        """The kernel of the chosen kind."""
        return _per_sample if self.per_sample else _full_batch

    @property
    def curvature(self):
        """The curvature of the chosen kind."""
        return _per_sample_curvature if self.per_sample else _full_batch_curvature

    @property
    def uses_samples(self):  # type: ignore[override]
        """True for one sample at a time."""
        return self.per_sample

    @property
    def settles(self):  # type: ignore[override]
        """False with a normalised radius: the ascent step keeps its length at an interpolator."""
        return not self.normalized

    def parameters(self, n_features, t=0.0):
        """Return (rho, normalized)."""
        return np.array([self.rho, float(self.normalized)])
