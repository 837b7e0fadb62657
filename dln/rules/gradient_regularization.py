"""Gradient regularization (GR): the gradient of ``L + (gamma/2) |grad L|^2``, exact or by finite differences.

With ``g_e`` the gradient at the perturbed *weights* ``theta + e grad L(theta)``, ``beta_e = beta + 4 e g size +
4 e^2 g^2 beta``, so ``(g_e - g)/e = H (4 g size + 4 e g^2 beta)`` with ``H = X^T X/(2N)``: no difference of nearby
numbers is ever taken, and any ascent step, however small, keeps all digits.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np

from .._jit import njit
from .._linalg import matvec, residual, residual_and_rmatvec, rmatvec
from .._simd import WIDTH, load, load_some, store, store_some
from .._suggest import unknown
from .base import BETA, CURVATURE, DEEP_CURVATURE, DEEP_RULE, RULE, Rule, number
from .deep import add_penalty, descend
from .deep import gradient_norm as deep_gradient_norm

_ONE_SIDED, _CENTERED, _EXACT = 0.0, 1.0, 2.0
_KINDS = {"forward": _ONE_SIDED, "backward": _ONE_SIDED, "centered": _CENTERED, "exact": _EXACT}
SCHEMES = tuple(_KINDS)


@njit()
def gradient_norm(size, g):
    """Return |grad L| in the weights: ``|grad L|^2 = 4 sum (u^2 + v^2) g^2``."""
    largest = 0.0
    for j in range(g.shape[0]):
        largest = max(largest, abs(g[j]))
    if not largest > 0.0:
        return largest
    total = 0.0
    for j in range(g.shape[0]):
        total += size[j] * (g[j] / largest) ** 2
    return 2.0 * largest * math.sqrt(total)


@njit()
def perturbed_pair(X, c, beta, size, strength, step, centered, r, g, coef, q, work_d, work_n):
    """Add the pair of GR to the plain one, given the residual r and g = c X^T r.

    coef = c (r + strength X w) with ``w = 4 g size + 4 step g^2 beta``; ``q = 2 strength g g_step``, where
    ``g_step = g + step H w``, or (`centered`) the mean of the gradients at both perturbed points,
    ``g + H (4 step^2 g^2 beta)``.  `step` is signed: negative for a backward difference, 0 for the exact Hessian.
    """
    w = work_d[1]
    change = work_d[2]
    _move(g, size, beta, 0.0 if centered else step, w)
    if centered:
        matvec(X, w, work_n[0])
    else:
        residual_and_rmatvec(X, w, w[:0], c * step, work_n[0], change)
    for i in range(r.shape[0]):
        coef[i] = c * (r[i] + strength * work_n[0, i])
    if centered:
        for j in range(g.shape[0]):
            w[j] = 4.0 * (step * g[j]) * (step * g[j]) * beta[j]
        residual_and_rmatvec(X, w, w[:0], c, work_n[0], change)
    _shrinkage(g, change, 2.0 * strength, q)


@njit()
def _move(g, size, beta, step, w):
    # w = 4 g (size + step g beta)
    d = g.shape[0]
    for j in range(0, d - WIDTH + 1, WIDTH):
        x = load(g, j)
        store((4.0 * x) * (load(size, j) + (step * x) * load(beta, j)), w, j)
    j = d - d % WIDTH
    if j < d:
        x = load_some(g, j, d - j)
        store_some((4.0 * x) * (load_some(size, j, d - j) + (step * x) * load_some(beta, j, d - j)), w, j, d - j)


@njit()
def _shrinkage(g, change, factor, q):
    # q = factor g (g + change)
    d = g.shape[0]
    for j in range(0, d - WIDTH + 1, WIDTH):
        x = load(g, j)
        store((factor * x) * (x + load(change, j)), q, j)
    j = d - d % WIDTH
    if j < d:
        x = load_some(g, j, d - j)
        store_some((factor * x) * (x + load_some(change, j, d - j)), q, j, d - j)


@njit(RULE, allocates=False)
def _kernel(X, y, c, beta, size, params, r, coef, q, work_d, work_n):
    gamma, epsilon, scheme, squared = params[0], params[1], params[2], params[3]
    g = work_d[0]
    residual_and_rmatvec(X, beta, y, c, r, g)
    if squared == 0.0:
        size_of_gradient = gradient_norm(size, g)
        gamma = gamma / size_of_gradient if size_of_gradient > 0.0 else 0.0
    perturbed_pair(X, c, beta, size, gamma, epsilon, scheme == _CENTERED, r, g, coef, q, work_d, work_n)


@njit(CURVATURE, allocates=False)
def _curvature(X, c, beta, size, r, params, row_scale, work_d):
    # d coef/d nu -> -(I + gamma K) K as g -> 0; the terms in g are not stiff.
    gamma, squared = params[0], params[3]
    for i in range(row_scale.shape[0]):
        row_scale[i] = 1.0
    if squared == 0.0:
        rmatvec(X, r, c, work_d[0])
        size_of_gradient = gradient_norm(size, work_d[0])
        gamma = gamma / size_of_gradient if size_of_gradient > 0.0 else 0.0
    return gamma


@njit(DEEP_RULE)
def _deep_kernel(X, y, c, depth, powers, params, r, rate, work_d, work_n):
    gamma, epsilon, scheme, squared = params[0], params[1], params[2], params[3]
    residual(X, powers[BETA], y, r)
    g = work_d[0]
    rmatvec(X, r, c, g)
    descend(depth, powers, g, rate)
    if squared == 0.0:
        size_of_gradient = deep_gradient_norm(depth, powers, g)
        gamma = gamma / size_of_gradient if size_of_gradient > 0.0 else 0.0
    if scheme == _CENTERED:
        defined = add_penalty(X, c, depth, powers, 0.5 * gamma, epsilon, g, rate, work_d, work_n)
        defined &= add_penalty(X, c, depth, powers, 0.5 * gamma, -epsilon, g, rate, work_d, work_n)
    else:
        defined = add_penalty(X, c, depth, powers, gamma, epsilon, g, rate, work_d, work_n)
    return 0 if defined else 2


@njit(DEEP_CURVATURE)
def _deep_curvature(X, c, depth, powers, r, params, row_scale, work_d):
    gamma, squared = params[0], params[3]
    for i in range(row_scale.shape[0]):
        row_scale[i] = 1.0
    if squared == 0.0:
        rmatvec(X, r, c, work_d[0])
        size_of_gradient = deep_gradient_norm(depth, powers, work_d[0])
        gamma = gamma / size_of_gradient if size_of_gradient > 0.0 else 0.0
    return gamma


@dataclass(frozen=True)
class GradientRegularization(Rule):
    """Gradient regularization by finite differences of the weight gradient, or with the exact Hessian.

    The pair, with ``g_e`` the gradient at ``theta + epsilon grad L(theta)``:

    ========= ======================================= ==========================
    scheme    p                                       q
    ========= ======================================= ==========================
    forward   g + (gamma/epsilon) (g_e - g)           2 gamma g g_e
    backward  g + (gamma/epsilon) (g - g_{-e})        2 gamma g g_{-e}
    centered  g + (gamma/2 epsilon) (g_e - g_{-e})    gamma g (g_e + g_{-e})
    exact     g + gamma Hess_beta (4 g (u^2 + v^2))   2 gamma g^2
    ========= ======================================= ==========================

    Parameters
    ----------
    gamma : float
        Strength, at least 0: the rule descends ``L + (gamma/2) |grad L|^2``.
    epsilon : float
        Ascent step, above 0; required by the three finite differences, refused by ``"exact"``.
    scheme : {"forward", "backward", "centered", "exact"}
    squared : bool
        If False, the penalty is ``gamma |grad L|``: gamma is divided by the norm of the gradient (0 where that is 0).

    Raises
    ------
    ValueError, TypeError
        If gamma is negative, epsilon missing or not positive, or the scheme unknown.

    References
    ----------
    Karakida et al. (2023), Understanding gradient regularization in deep learning: efficient finite-difference
    computation and implicit bias.
    """

    gamma: float
    epsilon: float | None = None
    scheme: str = "forward"
    squared: bool = True

    name = "gr"
    ignores_zero_columns = True
    kernel = staticmethod(_kernel)
    curvature = staticmethod(_curvature)
    deep_kernel = staticmethod(_deep_kernel)
    deep_curvature = staticmethod(_deep_curvature)

    def __post_init__(self):
        object.__setattr__(self, "gamma", number("gamma", self.gamma, minimum=0.0))
        if self.scheme not in SCHEMES:
            raise ValueError(unknown("scheme", self.scheme, SCHEMES))
        if self.scheme == "exact":
            if self.epsilon is not None:
                raise ValueError(f"scheme 'exact' takes no epsilon, got epsilon={self.epsilon}; leave it out")
        elif self.epsilon is None:
            raise ValueError(f"scheme {self.scheme!r} needs an ascent step: give epsilon > 0, or use scheme='exact'")
        else:
            object.__setattr__(self, "epsilon", number("epsilon", self.epsilon, minimum=0.0, strict=True))

    @functools.cached_property
    def dormant_pair(self):
        """(gamma, signed ascent step), or (gamma, 1) for the centred difference; None if the norm is not squared."""
        return (self.gamma, 1.0 if self.scheme == "centered" else self._signed_step) if self.squared else None

    @property
    def one_sided(self):
        """(gamma, signed ascent step); None for the centred difference, and if the norm is not squared."""
        return self.dormant_pair if self.scheme != "centered" else None

    @property
    def _signed_step(self):
        step = 0.0 if self.epsilon is None else self.epsilon
        return -step if self.scheme == "backward" else step

    def parameters(self, n_features, t=0.0):
        """Return (gamma, signed ascent step, kind of scheme, squared)."""
        return np.array([self.gamma, self._signed_step, _KINDS[self.scheme], float(self.squared)])
