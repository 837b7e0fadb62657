"""Damped Newton on the dual of ``min D_phi(b, center)  s.t.  X b = y``, and its path in log alpha.

The dual is smooth, unconstrained and of dimension N:

    min_nu  sum_j phi*_j(x_j.nu + s_j) - y.nu,   b_j = 2 alpha_j^2 sinh(4 x_j.nu + w_j),   w_j = 4 s_j = log(u0/v0)_j.

Along a step p its third derivative is at most ``D = max_j |4 x_j.p|`` times its second, so that the damped Newton step
``log(1 + D)/D`` always descends (generalised self-concordance: Sun & Tran-Dinh 2019, Math. Programming 178, 145); a line
search starts there.  At small scales the solution is followed from a large scale down: in the rich regime the path is
linear in log alpha between the coordinates that wake, and a few tangents reach alpha = 1e-300.  All coordinates start from
the scale of the solution, at which the problem is nearly quadratic, and fall at their own speeds; the centre stays.
"""

import math

import numpy as np
import scipy  # its parts are loaded when first used

from . import _dual_kernels as kernels
from ._jit import entry_point
from .network import difference_of_squares
from .row_space import RowSpace

_MAX_NEWTON = 200
_MAX_TOTAL = 5000
_COMPILED_UP_TO = 4_000_000  # N^2 d
_ROUGH = 1e-3  # relative residual on the way
_DOUBTS_TANGENT_FROM = 3  # failures in a row


class DualProblem:
    """The dual problem at scale ``exp(log_alpha + raised * speed)``: Newton steps, tangents, and the path between scales.

    A point is ``(nu, w, correction)`` with ``4 X^T nu + log(u0/v0) = w + correction``.  At small scales |w| is large and an
    active ``log|b| = 2 log alpha + |w|`` is not: Newton's late corrections are added to the latter, which keeps the
    digits that w itself would round away.
    """

    def __init__(self, rows, y, log_alpha, ratio, *, center_stays=True):
        self.X, self.y = rows.X, np.ascontiguousarray(y)  # compiled code takes layout on trust
        self.beta_scale = RowSpace(rows.X, y, None, 0.0, True).coordinate_scale
        self.top = 0.5 * math.log(self.beta_scale) if self.beta_scale > 0.0 else -math.inf
        self.center_stays = center_stays
        self.step = 3.0
        self.n_iterations = 0
        d = self.X.shape[1]
        self.log_sizes, self.sizes, self.b, self.work = np.empty(d), np.empty(d), np.empty(d), np.empty((4, d))
        self.r = np.empty(self.X.shape[0])
        self.aim(log_alpha, ratio)

    def aim(self, log_alpha, ratio):
        """Set the scale, shape (d,), that the path ends at, and log(u0/v0) there; the present point becomes its end."""
        self.log_alpha, self.ratio = log_alpha, ratio
        self.raised = 0.0
        self.speed = np.zeros_like(log_alpha)
        self.scale = float(np.linalg.norm(self.y))
        if ratio.any():
            self.scale = max(self.scale, float(np.linalg.norm(self.X @ difference_of_squares(2.0 * log_alpha, ratio))))

    def ratio_here(self):
        """Return log(u0/v0) at this point of the path, shape (d,): if the centre stays, ``asinh(center / (2 alpha^2))``."""
        if self.raised == 0.0 or not self.center_stays or not self.ratio.any():
            return self.ratio
        size = np.abs(self.ratio)
        with np.errstate(divide="ignore"):
            log_sinh = size + np.log(-0.5 * np.expm1(-2.0 * size)) - 2.0 * self.raised * self.speed
        far = log_sinh > 20.0  # there asinh(x) = log(2 x)
        return np.sign(self.ratio) * np.where(far, log_sinh + math.log(2.0), np.arcsinh(np.exp(np.minimum(log_sinh, 20.0))))

    def shift(self):
        """Return the derivative of `ratio_here` along the path, in units of ``-2 speed``."""
        return np.tanh(self.ratio_here()) if self.center_stays else np.zeros_like(self.ratio)

    def log_scale(self):
        """Return log alpha^2 at this point of the path, shape (d,)."""
        return 2.0 * (self.log_alpha + self.raised * self.speed)

    def mirror_image(self, nu):
        return self.ratio_here() + 4.0 * (nu @ self.X)

    def evaluate(self, w, correction):
        """Return log(u^2 + v^2), b and X b - y, in arrays that the next call overwrites; not finite where they overflow."""
        if not entry_point(kernels.point)(self.X, self.y, self.log_scale(), np.ascontiguousarray(w), correction,
                                          self.log_sizes, self.sizes, self.b, self.r, self.work):
            self.r[:] = np.nan
        return self.log_sizes, self.b, self.r

    def direction(self, log_sizes, sizes, r, truncated):
        """Return the Newton direction: compiled where BLAS would cost more than the work."""
        n, d = self.X.shape
        if not truncated and n * n * d <= _COMPILED_UP_TO:
            p = np.empty(n)
            if entry_point(kernels.direction)(self.X, sizes, r, p):
                return p
        return self.solve(log_sizes, -r, truncated)

    def solve(self, log_sizes, right, truncated=False):
        """Solve ``4 X diag(sizes) X^T p = right``.

        Directions that only dormant coordinates span have a curvature lost in rounding: they are held back by a jitter, or,
        `truncated`, left out.
        """
        with np.errstate(under="ignore"):
            half = self.X * np.exp(0.5 * log_sizes + math.log(2.0))
        K = half @ half.T
        diagonal = np.einsum("ii->i", K)
        root = np.sqrt(diagonal)
        root[root == 0.0] = 1.0
        K /= root
        K /= root[:, None]
        right = right / root
        if truncated:
            values, vectors = scipy.linalg.eigh(K, check_finite=False)
            keep = values > 1e-11 * values[-1]
            return (vectors[:, keep] @ ((right @ vectors[:, keep]) / values[keep])) / root
        jitter = 1e-15
        for _ in range(12):
            diagonal += jitter
            try:
                factor = scipy.linalg.cho_factor(K, lower=True, check_finite=False)
                return scipy.linalg.cho_solve(factor, right, check_finite=False) / root
            except np.linalg.LinAlgError:
                jitter *= 10.0
        raise np.linalg.LinAlgError("the Gram matrix of the dual problem does not factor")

    def tangent(self, slope, log_sizes):
        """Return d nu / d raised along ``X b = y``: least squares, weighted by sizes, of ``4 X^T nu' = 4 slope``.

        From ``b = 2 alpha^2 sinh(w)``, ``4 slope = -2 speed (tanh(w) - shift)``.
        The weights span hundreds of decades.  Householder QR with column pivoting on rows sorted by weight is accurate row
        by row (Cox & Higham 1998, Numer. Algorithms 19, 23); where even their logarithms span too much, they are compressed,
        which changes nothing while gaps stay large.
        """
        order = np.argsort(-log_sizes, kind="stable")
        levels = log_sizes[order] - log_sizes[order[0]]
        levels = levels * min(1.0, 600.0 / max(-levels[-1], 1e-300))
        weight = np.exp(0.5 * levels)
        rows = self.X.T[order] * weight[:, None]
        # Only as many rows count as columns can be spanned, but which ones is what the pivoting decides.
        (right, R), pivots = qr_apply(rows, slope[order] * weight)
        diagonal = np.abs(np.diag(R))
        if diagonal.size == 0 or diagonal[-1] == 0.0:
            return None
        nu = np.empty(R.shape[0])
        nu[pivots] = scipy.linalg.solve_triangular(R, right, check_finite=False)
        return nu

    def landing(self, w, log_sizes, tangent, dormant):
        """Return how far `raised` may fall before a dormant coordinate wakes: it is not to overshoot by more than e^3."""
        turning = 4.0 * (tangent @ self.X) - 2.0 * self.speed * self.shift()
        rate = -(2.0 * self.speed + np.sign(w) * turning)
        rising = (log_sizes < dormant) & (rate > 0.0)
        return float(np.min((dormant + 3.0 - log_sizes[rising]) / rate[rising], initial=math.inf))

    def newton(self, nu, tol, limit):
        """Damped Newton from nu; return the best point seen, its relative residual, and the iterations used."""
        w, correction = self.mirror_image(nu), np.zeros(self.X.shape[1])
        best, best_residual, stalled, truncated = (nu, w, correction), math.inf, 0, False
        reached = False
        for iteration in range(limit + 1):
            log_sizes, _, r = self.evaluate(w, correction)
            largest = float(np.max(np.abs(r)))
            residual = float(np.linalg.norm(r)) / self.scale if largest < 1e150 else math.inf  # NaN included
            if not math.isfinite(residual):
                break
            stalled = 0 if residual < 0.5 * best_residual else stalled + 1
            if stalled and best_residual < 1e-2:
                truncated = not truncated  # each way of solving makes progress where the other is caught in rounding
            if residual < best_residual:
                best, best_residual = (nu, w, correction), residual
            polished, reached = reached, reached or residual <= tol
            # One step beyond the tolerance: Newton is quadratic there, and ill-conditioned data multiply what is left.
            if polished or (reached and tol > 1e-6) or (stalled >= 6 and best_residual < 1e-9) or iteration == limit:
                break
            p = self.direction(log_sizes, self.sizes, r, truncated)
            change = 4.0 * (p @ self.X)
            damping = entry_point(kernels.line_search)(self.log_scale(), w + correction, change, float(self.y @ p), self.work)
            nu = nu + damping * p
            correction = correction + damping * change
            if np.max(np.abs(correction), initial=0.0) > 1.0:
                w, correction = self.mirror_image(nu), np.zeros_like(w)
            self.n_iterations += 1
        return best, best_residual, iteration

    def follow(self, tol):
        """Follow the solution from a scale at which the problem is nearly quadratic down to the one asked for."""
        fall = np.maximum(0.0, self.top - self.log_alpha)
        self.raised = float(np.max(fall))
        if self.raised < 10.0:
            self.raised = 0.0  # a short way is found at once
        else:
            self.speed = fall / self.raised
        self.step = 3.0
        point, residual, _ = self.newton(np.zeros(len(self.y)), tol if self.raised == 0.0 else _ROUGH, _MAX_NEWTON)
        return self.descend(point, residual, tol)

    def go_on(self, point, log_alpha, ratio, tol):
        """Follow the solution from `point`, at the present scale, down to another one."""
        if np.min(self.log_alpha) > self.top:  # nearly quadratic: nothing is gained from the point
            self.aim(log_alpha, ratio)
            return self.follow(tol)
        fall = self.log_alpha - log_alpha
        self.aim(log_alpha, ratio)
        self.raised = float(np.max(fall))
        if self.raised > 0.0:
            self.speed = fall / self.raised
        return self.descend((point[0], self.mirror_image(point[0]), np.zeros_like(ratio)), math.inf, tol)

    def descend(self, point, residual, tol):
        """Follow the solution from a point near it down to ``raised = 0``; return it there and its relative residual."""
        dormant = 2.0 * self.top + math.log(1e-8)
        budget = self.n_iterations + _MAX_TOTAL
        failures, doubted = 0, False
        while self.raised > 0.0 and self.n_iterations < budget:
            nu, w, correction = point
            log_sizes, _, _ = self.evaluate(w, correction)
            slope = -0.5 * self.speed * (np.tanh(w + correction) - self.shift())
            # Columns that are dependent but for rounding can make it a tangent to nothing: then no step is short enough.
            if failures == _DOUBTS_TANGENT_FROM:
                failures, doubted = 0, not doubted
            tangent = None if doubted else self.tangent(slope, log_sizes)
            if tangent is None:
                tangent = self.solve(log_sizes, 4.0 * (self.X @ (np.exp(log_sizes) * slope)))
            before = self.raised
            self.raised = max(0.0, before - min(self.step, self.landing(w + correction, log_sizes, tangent, dormant)))
            goal = _ROUGH if self.raised > 0.0 else tol
            trial, residual, used = self.newton(nu + (self.raised - before) * tangent, goal, 30)
            if not residual <= _ROUGH:
                self.raised, self.step = before, 0.3 * (before - self.raised)
                failures += 1
                if self.step < 1e-3:
                    break
                continue
            failures = 0
            point = trial
            if self.raised > 0.0:  # a step that the end has cut short says nothing of longer ones
                self.step = max(self.step, before - self.raised) * (4.0 if used <= 3 else 2.0 if used <= 8 else 0.7)
        if self.raised > 0.0:
            self.raised = 0.0
            return point, math.inf
        if residual > tol:
            point, residual, _ = self.newton(point[0], tol, _MAX_NEWTON)
        return point, residual


def qr_apply(rows, right):
    # Q^T right and R of a column-pivoted QR, without forming Q.
    (packed, tau), R, pivots = scipy.linalg.qr(rows, mode="raw", pivoting=True, check_finite=False)
    work = max(1, 64 * rows.shape[1])
    product, _, info = scipy.linalg.lapack.dormqr("L", "T", packed, tau, right[:, None], work)
    if info != 0:
        raise np.linalg.LinAlgError("QR of the weighted rows failed")
    n = rows.shape[1]
    return (product[:n, 0], R[:n]), pivots
