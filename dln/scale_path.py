"""The way between the kernel and the rich regime: the minimiser of the potential at every initial scale, by continuation.

The minimiser of ``phi_alpha`` among the interpolators, with ``alpha_j = c shape_j``, is followed as c falls: a tangent in log c
predicts it, Newton's method on the dual corrects it, at every asked-for scale up to a certificate.  Along the path

    d beta / d log c = D (beta - beta_T),    beta_T = S X^T (X S X^T)^-1 y,    S = diag(u^(2D-2) + v^(2D-2)) up to a factor:

beta_T is the interpolator of the tangent kernel of the trained network itself (T24).  The path rests where the two agree.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy  # its parts are loaded when first used

from . import deep_potential, potential
from ._deep_dual import DeepDual
from ._dual import DualProblem
from .minimizer import basis_pursuit, checked, in_samples, minimize_potential, minimum_norm, read, read_deep
from .network import initialize
from .problem import Problem

__all__ = ["ScalePath", "scale_path"]

_CERTIFIED = 1e-12
_DECADES = np.concatenate([np.arange(10.0, 3.0, -1.0), np.arange(3.0, -6.0, -0.1), np.arange(-6.0, -20.0, -1.0),
                           np.arange(-20.0, -100.0, -10.0), np.arange(-100.0, -301.0, -50.0)])


@dataclass(frozen=True, repr=False, eq=False)
class ScalePath:
    """Minimisers of the potential at K scales, in the order in which the scales were given.

    Attributes
    ----------
    problem : Problem
    depth : float
    log_alphas : ndarray (K,)
        Logarithms of c, where ``alpha_j = c shape_j``.
    shape : ndarray (d,)
    log_ratio : ndarray (d,)
        log(u0/v0) at every scale; zeros where a centre was given.
    center : ndarray (d,)
        The centre at every scale; zeros where none was given.
    betas : ndarray (K, d)
    duals : ndarray (K, N)
        Multipliers, as in `Minimizer`.
    objectives : ndarray (K,)
    residuals, duality_gaps : ndarray (K,)
        The certificate, both relative; see `Minimizer`.
    success : ndarray of bool (K,)
        Whether both are at most 1e-12.
    statuses : ndarray of str (K,)
        "optimal" or "not converged".
    n_iterations : int
        Newton steps, of all scales together.
    """

    problem: Problem
    depth: float
    log_alphas: np.ndarray
    shape: np.ndarray
    log_ratio: np.ndarray
    center: np.ndarray
    betas: np.ndarray
    duals: np.ndarray
    objectives: np.ndarray
    residuals: np.ndarray
    duality_gaps: np.ndarray
    success: np.ndarray
    statuses: np.ndarray
    n_iterations: int

    def __repr__(self):
        low, high = np.min(self.log_alphas) / math.log(10.0), np.max(self.log_alphas) / math.log(10.0)
        return (f"ScalePath({np.count_nonzero(self.success)} of {len(self.success)} scales optimal, alpha from 1e{low:.4g} to "
                f"1e{high:.4g}, depth={self.depth:g}, iterations={self.n_iterations})")

    @property
    def alphas(self):
        """The scales c, shape (K,); 0 or infinite beyond the floats."""
        with np.errstate(under="ignore", over="ignore"):
            return np.exp(self.log_alphas)

    @cached_property
    def l1_norms(self):
        """The l1 norms, shape (K,)."""
        return np.sum(np.abs(self.betas), axis=1)

    @cached_property
    def l2_norms(self):
        """The l2 norms, shape (K,)."""
        return _norms(self.betas)

    @cached_property
    def effective_number(self):
        """The effective number of coordinates ``(sum |b|)^2 / sum b^2``, from 1 to d, shape (K,); 0 for b = 0."""
        largest = np.max(np.abs(self.betas), axis=1, keepdims=True)
        with np.errstate(under="ignore"):
            sizes = np.abs(self.betas) / np.where(largest > 0.0, largest, 1.0)
            return np.sum(sizes, axis=1) ** 2 / np.maximum(np.sum(sizes**2, axis=1), 1.0)

    @cached_property
    def distance_to_truth(self):
        """The distances ``|beta - truth|_2``, shape (K,); a ValueError where ``problem.truth`` is not known."""
        if self.problem.truth is None:
            raise ValueError("distance_to_truth needs the predictor that made the data: give dln.Problem(X, y, truth=...)")
        return _norms(self.betas - self.problem.truth)

    @cached_property
    def kernel_limit(self):
        """The `Minimizer` that the path tends to as alpha grows: that of the l2 norm with weights ``shape^(2-2D)``.

        Of ``beta - center`` where a centre was given.  A log_ratio makes the centre grow with alpha: then a ValueError.
        """
        if self.log_ratio.any():
            raise ValueError("with a log_ratio the centre grows with alpha, and the path has no kernel limit")
        with np.errstate(over="ignore", under="ignore"):
            logs = (2.0 - 2.0 * self.depth) * np.log(self.shape)
            weights = np.exp(logs - 0.5 * (logs.max() + logs.min()))
        shifted = Problem(self.problem.X, self.problem.y - self.problem.X @ self.center) if self.center.any() else self.problem
        best = minimum_norm(shifted, weights)
        return replace(best, beta=best.beta + self.center)

    @cached_property
    def rich_limit(self):
        """The `Minimizer` that the path tends to as alpha falls: of the l1 norm, weighted by ``shape^(2-D)`` at depth D > 2.

        Where there are several it is one of them.  A centre that stays is not small any more: then a ValueError.
        """
        if self.center.any():
            raise ValueError("a centre that stays keeps the path away from the least l1 norm; give log_ratio instead")
        return basis_pursuit(self.problem, self._l1_weights)

    @property
    def _l1_weights(self):
        logs = (2.0 - self.depth) * np.log(self.shape)
        return np.exp(logs - 0.5 * (logs.max() + logs.min()))

    @cached_property
    def excess_l1(self):
        """The l1 norm, weighted as in `rich_limit`, over its minimum, less 1; shape (K,), NaN where the minimum is 0.

        With multipliers nu of the minimiser it is ``sum_j |b_j| (w_j - sign(b_j) x_j.nu)``, a sum of nonnegative terms in which
        nothing cancels: the excess keeps its digits down to the smallest floats.
        """
        return self._excess(self.betas)

    def _excess(self, betas):
        weights, limit = self._l1_weights, self.rich_limit
        slope = limit.dual @ self.problem.X / weights
        # Complementary slackness, exactly: what was left there is rounding.
        slope = np.where(limit.beta != 0.0, np.sign(limit.beta), np.clip(slope, -1.0, 1.0))
        missing = 1.0 - np.sign(betas) * slope
        missing[missing < 1e-12] = 0.0
        minimum = limit.objective
        if minimum == 0.0:
            return np.full(len(betas), np.nan)
        unit = np.max(np.abs(limit.beta))
        with np.errstate(under="ignore"):
            return np.sum(np.abs(betas) / unit * weights * missing, axis=1) / (minimum / unit)

    @cached_property
    def richness(self):
        """How far the l1 norm has come on its way from the kernel limit (0) to the rich limit (1), shape (K,).

        ``1 - excess_l1/excess_l1(kernel limit)``; NaN where both limits agree.
        """
        whole = self._excess(self.kernel_limit.beta[None])[0]
        return 1.0 - self.excess_l1 / whole if whole > 1e-12 else np.full(len(self.betas), np.nan)

    @cached_property
    def tangent_interpolators(self):
        """The interpolators beta_T of the tangent kernels ``X S X^T`` of the trained networks, shape (K, d).

        The least norm ``sum_j b_j^2/s_j`` at ``s = u^(2D-2) + v^(2D-2)``, the weights being those of `betas`.
        """
        rows = self.problem.row_space
        result = np.zeros_like(self.betas)
        for k, beta in enumerate(self.betas):
            log_alpha = self.log_alphas[k] + np.log(self.shape)
            result[k] = _least_norm(rows.X, rows.y, _log_tangent_sizes(beta, log_alpha, self.depth))
        return result

    @cached_property
    def velocities(self):
        """The derivatives ``d beta / d log alpha = D (beta - beta_T)``, shape (K, d); a ValueError with a centre that stays."""
        if self.center.any():
            raise ValueError("velocities are those of a path with a log_ratio that stays, not with a centre that stays")
        return self.depth * (self.betas - self.tangent_interpolators)


def _norms(rows):
    largest = np.max(np.abs(rows), axis=1, keepdims=True)
    scale = np.where(largest > 0.0, largest, 1.0)
    with np.errstate(under="ignore"):
        return np.linalg.norm(rows / scale, axis=1) * scale[:, 0]


def _log_tangent_sizes(beta, log_alpha, depth):
    """Return ``log(u^(2D-2) + v^(2D-2))`` of the minimiser's weights, shape (d,)."""
    ell = potential.mirror(beta, log_alpha=log_alpha, depth=depth)
    if depth == 2.0:
        return 2.0 * log_alpha + np.logaddexp(ell, -ell)
    log_u, log_v = deep_potential.weights(ell, log_alpha=log_alpha, depth=depth)
    return np.logaddexp((2.0 * depth - 2.0) * log_u, (2.0 * depth - 2.0) * log_v)


def _least_norm(X, y, log_sizes):
    """Return the interpolator of least ``sum b_j^2/s_j``: sorted rows and column pivoting keep QR accurate row by row."""
    if X.shape[0] == 0:
        return np.zeros(X.shape[1])
    order = np.argsort(-log_sizes, kind="stable")
    levels = log_sizes[order] - log_sizes[order[0]]
    # Where even their logarithms span too much they are compressed, which changes nothing while gaps stay large.
    weight = np.exp(0.5 * levels * min(1.0, 600.0 / max(-levels[-1], 1e-300)))
    Q, R, pivots = scipy.linalg.qr(X.T[order] * weight[:, None], mode="economic", pivoting=True, check_finite=False)
    result = np.empty(X.shape[1])
    with np.errstate(under="ignore"):
        result[order] = weight * (Q @ scipy.linalg.solve_triangular(R, y[pivots], trans="T", check_finite=False))
    return result


def scale_path(problem, alphas=None, *, log_alphas=None, depth=2, shape=None, log_ratio=None, center=None, tol=1e-13):
    """Minimise the potential over the interpolators at many initial scales, following the minimiser from the largest down.

    Parameters
    ----------
    problem : Problem
        The data.  Where no predictor fits every sample, the interpolators are the least-squares solutions.
    alphas, log_alphas : array_like (K,), optional
        Scales, or their logarithms, in any order; at most one of the two.  By default from 1e10 to 1e-300 of the scale at which
        ``alpha^D`` is the size of the solution, to a power of ten, ten per decade around it.
    depth : float
        D of the network ``beta = u^D - v^D``, at least 2.
    shape : array_like (d,), optional
        Positive factors of the scale: ``alpha_j = c shape_j``, c being one of `alphas`; by default 1.
    log_ratio : float or array_like (d,), optional
        log(u0/v0), the same at every scale; by default 0.
    center : array_like (d,), optional
        A Bregman centre that is the same at every scale, instead of `log_ratio`.
    tol : float
        Tolerance on the relative residual.

    Returns
    -------
    ScalePath
        A scale whose certificate is not reached is marked in `success` and `statuses`.

    Raises
    ------
    ValueError, TypeError
        If an argument is bad.

    Notes
    -----
    One path visits all scales; next to a Newton step or three, each costs a QR of X.  At depth D > 2 with a centre that stays,
    and where continuation stops short of a certificate, a scale is solved for by itself, as by `minimize_potential`.

    References
    ----------
    Woodworth et al. (2020), Kernel and rich regimes in overparametrized models, Theorems 1 to 3.

    Examples
    --------
    >>> import dln
    >>> path = dln.scale_path(dln.Problem([[1.0, 2.0]], [3.0]), [1e3, 1.0, 1e-3, 1e-30])
    >>> path.richness.round(3)
    array([0.   , 0.121, 0.994, 1.   ])
    """
    depth = potential.checked_depth(depth)
    rows = checked(problem)
    d = problem.n_features
    logs = _log_alphas(rows, alphas, log_alphas, depth)
    if center is not None and log_ratio is not None:
        raise ValueError("give center or log_ratio, not both")
    if not tol > 0.0:
        raise ValueError(f"tol must be positive, got {tol}")
    start = initialize(d, log_alpha=0.0, log_ratio=log_ratio)
    log_shape = np.zeros(d) if shape is None else np.log(_positive("shape", shape, d))
    middle = np.zeros(d) if center is None else _vector("center", center, d)
    fields = {name: np.empty((len(logs), size)) for name, size in (("betas", d), ("duals", problem.n_samples))}
    fields |= {name: np.empty(len(logs)) for name in ("objectives", "residuals", "duality_gaps")}
    n_iterations = 0
    walk = _Walk(problem, rows, depth, log_shape, start.log_ratio, middle, tol)
    for k in np.argsort(-logs, kind="stable"):
        fields["betas"][k], fields["duals"][k], *values, used = walk.visit(logs[k])
        for name, value in zip(("objectives", "residuals", "duality_gaps"), values, strict=True):
            fields[name][k] = value
        n_iterations += used
    success = (fields["residuals"] <= max(tol, _CERTIFIED)) & (fields["duality_gaps"] <= _CERTIFIED)
    return ScalePath(problem=problem, depth=depth, log_alphas=logs, shape=np.exp(log_shape), log_ratio=start.log_ratio,
                     center=middle, success=success, statuses=np.where(success, "optimal", "not converged"),
                     n_iterations=n_iterations, **fields)


class _Walk:
    """The continuation: scales are visited in falling order, each from the one before."""

    def __init__(self, problem, rows, depth, log_shape, log_ratio, center, tol):
        self.problem, self.rows, self.depth, self.log_shape, self.tol = problem, rows, depth, log_shape, tol
        self.log_ratio, self.center = log_ratio, center
        largest = float(np.max(np.abs(rows.y), initial=0.0))
        # Squares would leave the floats: phi of (s b, s alpha^2) is s phi, so bring the targets to 1 and back.
        self.shift = int(np.frexp(largest)[1]) if largest > 0.0 and depth == 2.0 and not 1e-120 < largest < 1e120 else 0
        self.y = np.ldexp(rows.y, -self.shift)
        self.dual = self.solution = None
        self.warm = bool(largest > 0.0 and rows.X.shape[0]) and not (depth != 2.0 and center.any())

    def visit(self, log_alpha):
        """Return (beta, multipliers, objective, relative residual, relative gap, Newton steps) at a scale."""
        target = log_alpha + self.log_shape
        found, used = None, 0
        if self.warm:
            found, used = self.follow(target - math.log(2.0) * self.shift / 2.0)
            if found[3] <= max(self.tol, _CERTIFIED) and found[4] <= _CERTIFIED:
                return *found, used
        best = minimize_potential(self.problem, depth=self.depth, log_alpha=target, tol=self.tol,
                                  **({"center": self.center} if self.center.any() else {"log_ratio": self.log_ratio}))
        used += best.n_iterations
        if found is not None:
            self.dual = None  # the next scale starts afresh
            if max(found[3:]) <= max(best.residual, best.duality_gap):
                return *found, used
        return best.beta, best.dual, best.objective, best.residual, best.duality_gap, used

    def follow(self, target):
        ratio = self.log_ratio
        if self.center.any():
            ratio = potential.mirror(np.ldexp(self.center, -self.shift), log_alpha=target, name="center")
        if self.dual is None:
            if self.depth == 2.0:
                self.dual = DualProblem(self.rows, self.y, target, ratio, center_stays=bool(self.center.any()))
            else:
                self.dual = DeepDual(self.rows, self.y, target, ratio, self.depth)
            before = 0
            self.solution, residual = self.dual.follow(self.tol)
        else:
            before = self.dual.n_iterations
            self.solution, residual = self.dual.go_on(self.solution, target, ratio, self.tol)
        beta, nu, objective, dual_objective = (read if self.depth == 2.0 else read_deep)(self.dual, self.solution)
        gap = abs(objective - dual_objective) / abs(objective) if objective != 0.0 else 0.0
        with np.errstate(over="ignore", under="ignore"):
            beta, objective = np.ldexp(beta, self.shift), float(np.ldexp(objective, self.shift))
        return (beta, in_samples(self.rows, nu), objective, residual, gap), self.dual.n_iterations - before


def _log_alphas(rows, alphas, log_alphas, depth):
    if alphas is not None and log_alphas is not None:
        raise ValueError("give alphas or log_alphas, not both")
    if alphas is None and log_alphas is None:
        size = rows.coordinate_scale
        return math.log(10.0) * (_DECADES + (round(math.log10(size) / depth) if size > 0.0 else 0.0))
    name, value = ("alphas", alphas) if log_alphas is None else ("log_alphas", log_alphas)
    array = np.atleast_1d(np.asarray(value, dtype=float))
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must be a vector of at least one scale, got shape {array.shape}")
    return np.log(_positive(name, array, array.size)) if log_alphas is None else _vector(name, array, array.size)


def _vector(name, value, size):
    array = np.asarray(value, dtype=float)
    if array.shape not in ((), (size,)):
        raise ValueError(f"{name} must have shape ({size},), one entry per column of X; got {array.shape}")
    bad = ~np.isfinite(array)
    if bad.any():
        where = f"[{np.flatnonzero(bad)[0]}]" if array.ndim else ""
        raise ValueError(f"{name}{where} must be finite, got {array[bad].flat[0]}")
    return np.array(np.broadcast_to(array, (size,)))


def _positive(name, value, size):
    array = _vector(name, value, size)
    if np.any(array <= 0.0):
        k = np.flatnonzero(array <= 0.0)[0]
        hint = "; below the smallest float give log_alphas instead" if name == "alphas" else ""
        raise ValueError(f"{name}[{k}] must be positive, got {array[k]}{hint}")
    return array
