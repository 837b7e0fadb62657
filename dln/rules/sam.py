"""Sharpness-aware minimisation (SAM): the gradient at the weights after an ascent step of radius rho."""

import functools
import math
from dataclasses import dataclass

import numpy as np

from .._jit import njit
from .._linalg import residual, residual_and_rmatvec, rmatvec
from .base import BETA, CURVATURE, DEEP_CURVATURE, DEEP_RULE, RULE, UD, UK, VD, VK, Rule, number
from .deep import add_penalty, descend, power_change
from .deep import gradient_norm as deep_gradient_norm
from .gradient_regularization import gradient_norm, perturbed_pair


@njit(RULE, allocates=False)
def _full_batch(X, y, c, beta, size, params, r, coef, q, work_d, work_n):
    # SAM is the forward difference of GR with gamma = epsilon = rho.
    rho, normalized = params[0], params[1]
    g = work_d[0]
    residual_and_rmatvec(X, beta, y, c, r, g)
    if normalized != 0.0:
        size_of_gradient = gradient_norm(size, g)
        rho = rho / size_of_gradient if size_of_gradient > 0.0 else 0.0
    perturbed_pair(X, c, beta, size, rho, rho, False, r, g, coef, q, work_d, work_n)


@njit(CURVATURE, allocates=False)
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


@njit(RULE, allocates=False)
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


@njit(CURVATURE, allocates=False)
def _per_sample_curvature(X, c, beta, size, r, params, row_scale, work_d):
    rho, normalized = params[0], params[1]
    for i in range(X.shape[0]):
        quadratic = 0.0
        for j in range(X.shape[1]):
            quadratic += (X[i, j] * X[i, j]) * size[j]
        row_scale[i] = 1.0 / (1.0 + 2.0 * _sample_radius(rho, normalized, r[i], quadratic) * quadratic)
    return 0.0


@njit(DEEP_RULE)
def _deep_full_batch(X, y, c, depth, powers, params, r, rate, work_d, work_n):
    rho, normalized = params[0], params[1]
    residual(X, powers[BETA], y, r)
    g = work_d[0]
    rmatvec(X, r, c, g)
    descend(depth, powers, g, rate)
    if normalized != 0.0:
        size_of_gradient = deep_gradient_norm(depth, powers, g)
        rho = rho / size_of_gradient if size_of_gradient > 0.0 else 0.0
    return 0 if add_penalty(X, c, depth, powers, rho, rho, g, rate, work_d, work_n) else 2


@njit(DEEP_CURVATURE)
def _deep_full_batch_curvature(X, c, depth, powers, r, params, row_scale, work_d):
    rho, normalized = params[0], params[1]
    for i in range(row_scale.shape[0]):
        row_scale[i] = 1.0
    if normalized != 0.0:
        rmatvec(X, r, c, work_d[0])
        size_of_gradient = deep_gradient_norm(depth, powers, work_d[0])
        rho = rho / size_of_gradient if size_of_gradient > 0.0 else 0.0
    return rho


@njit()
def _deep_radius(X, i, depth, powers, rho, normalized, residual_i):
    # The radius of sample i, and sum_j x_ij^2 D^2 (u^(2D-2) + v^(2D-2))/4: |grad L_i|^2 is r_i^2 times that.
    total = 0.0
    for j in range(X.shape[1]):
        total += (X[i, j] * X[i, j]) * (powers[UD, j] * powers[UK, j] + powers[VD, j] * powers[VK, j])
    total *= 0.25 * depth * depth
    return _sample_radius(rho, normalized, residual_i, total), total


@njit(DEEP_RULE)
def _deep_per_sample(X, y, c, depth, powers, params, r, rate, work_d, work_n):
    # Sample i takes u to u (1 + rho D u^k g_ij) with g_i = x_i r_i/2; the power D - 1 of the factor is its power D over it.
    n, d = X.shape
    residual(X, powers[BETA], y, r)
    rate[:] = 0.0
    for i in range(n):
        radius = _deep_radius(X, i, depth, powers, params[0], params[1], r[i])[0]
        change = 0.0
        for j in range(d):
            x = 0.5 * depth * (X[i, j] * r[i])
            work_d[0, j] = power_change(radius, powers[UK, j] * x, depth)
            work_d[1, j] = power_change(radius, -powers[VK, j] * x, depth)
            change += X[i, j] * (powers[UD, j] * work_d[0, j] - powers[VD, j] * work_d[1, j])
        if not math.isfinite(change):
            return 2
        weight = c * depth * (r[i] + radius * change)
        for j in range(d):
            x = 0.5 * depth * (X[i, j] * r[i])
            up, down = 1.0 + radius * powers[UK, j] * x, 1.0 - radius * powers[VK, j] * x
            up = (1.0 + radius * work_d[0, j]) / up if up != 0.0 else 0.0
            down = (1.0 + radius * work_d[1, j]) / down if down != 0.0 else 0.0
            rate[j] -= powers[UK, j] * (weight * X[i, j]) * up
            rate[d + j] += powers[VK, j] * (weight * X[i, j]) * down
    return 0


@njit(DEEP_CURVATURE)
def _deep_per_sample_curvature(X, c, depth, powers, r, params, row_scale, work_d):
    for i in range(X.shape[0]):
        radius, total = _deep_radius(X, i, depth, powers, params[0], params[1], r[i])
        row_scale[i] = 1.0 / (1.0 + 2.0 * radius * total)
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
    ignores_zero_columns = True

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
    def deep_kernel(self):
        """The kernel of the chosen kind at depth D > 2."""
        return _deep_per_sample if self.per_sample else _deep_full_batch

    @property
    def deep_curvature(self):
        """Its curvature."""
        return _deep_per_sample_curvature if self.per_sample else _deep_full_batch_curvature

    @property
    def uses_samples(self):  # type: ignore[override]
        """True for one sample at a time."""
        return self.per_sample

    @property
    def settles(self):  # type: ignore[override]
        """False with a normalised radius: the ascent step keeps its length at an interpolator."""
        return not self.normalized

    @functools.cached_property
    def dormant_pair(self):
        """(rho, rho); None for one sample at a time and for a normalised radius."""
        return None if self.per_sample or self.normalized else (self.rho, self.rho)

    @property
    def one_sided(self):
        """The same."""
        return self.dormant_pair

    def parameters(self, n_features, t=0.0):
        """Return (rho, normalized)."""
        return np.array([self.rho, float(self.normalized)])
