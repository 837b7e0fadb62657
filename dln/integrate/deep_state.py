"""The right-hand side at depth D > 2 in the logarithms of the weights, and what both methods of integration share.

There is no dual form at this depth for every rule, so the state is ``z = (log u/u0, log v/v0)`` (2d,): no scale underflows, and
the conservation laws are not built in, so that finding them kept means something.  Counted from the start, because in the
kernel regime ``log u - log v`` would cancel.  ``k = D - 2`` throughout.

The stiff part of the Jacobian is ``-B S (I + kappa K) C`` with ``B = D [diag(u^k); -diag(v^k)] X^T`` (2d, N),
``C = c X [diag(D u^D), -diag(D v^D)]`` (N, 2d) and ``K = C B = c X diag(D^2 (u^(2D-2) + v^(2D-2))) X^T``, symmetric.
"""

import math

from numba import types

from .._exponentials import exp_expm1
from .._jit import DATA_MATRIX, DATA_VECTOR, MATRIX, VECTOR, njit
from .._linalg import matvec, norm, rmatvec
from ..rules.base import BETA, UD, UK, VD, VK, call_deep_rule
from .state import CLOCK_SIZE, COUNT_SIZE

# One slot more of `clock`, what the time has lost to rounding, and of `count`, the rejections in a row.
T_LOW, DEEP_CLOCK_SIZE = CLOCK_SIZE, CLOCK_SIZE + 1
STREAK, DEEP_COUNT_SIZE = COUNT_SIZE, COUNT_SIZE + 1
# What an evaluation reports: fine, too large, or an ascent step through 0, where u^D is not defined.
FINE, OVERFLOW, CROSSING = range(3)

LARGEST_LOG = 300.0  # of u^D: u^(2D-2) must be finite, too

_EVALUATE = types.int64(
    types.intp, DATA_MATRIX, DATA_VECTOR, types.float64, types.float64, DATA_VECTOR, DATA_VECTOR, VECTOR, MATRIX, VECTOR,
    VECTOR, VECTOR, MATRIX, MATRIX,
)
_RELAX = types.void(
    DATA_MATRIX, types.float64, types.float64, DATA_MATRIX, DATA_VECTOR, types.float64, DATA_VECTOR, types.float64,
    types.float64, VECTOR, MATRIX, MATRIX,
)


@njit(_EVALUATE, allocates=False)
def evaluate(rule, X, y, c, depth, origin, z, params, powers, r, f, logs, work_d, work_n):
    """Evaluate ``f = dz/dt`` with the residual r and the `powers` of the weights at state z; return FINE or what went wrong."""
    d = X.shape[1]
    fits = True
    for j in range(d):
        logs[j] = origin[j] + z[j]
        logs[d + j] = origin[d + j] + z[d + j]
        top = depth * max(logs[j], logs[d + j])
        fits &= top < LARGEST_LOG  # a NaN does not
        work_d[0, j] = (depth - 2.0) * logs[j]
        work_d[1, j] = -depth * abs((origin[j] - origin[d + j]) + (z[j] - z[d + j]))
    if not fits:
        return OVERFLOW
    exp_expm1(work_d[0], work_d[1], powers[UK], powers[VD])
    for j in range(d):
        work_d[0, j] = (depth - 2.0) * logs[d + j]
    exp_expm1(work_d[0], work_d[1], powers[VK], work_d[3])
    for j in range(d):
        work_d[0, j] = depth * max(logs[j], logs[d + j])
    exp_expm1(work_d[0], work_d[1], powers[UD], work_d[3])
    for j in range(d):
        high, less = powers[UD, j], powers[VD, j]  # the larger power, and the smaller one over it, less 1
        if (origin[j] - origin[d + j]) + (z[j] - z[d + j]) >= 0.0:
            powers[BETA, j] = -high * less
            powers[VD, j] = high * (1.0 + less)
        else:
            powers[BETA, j] = high * less
            powers[UD, j] = high * (1.0 + less)
            powers[VD, j] = high
    return call_deep_rule(rule, (X, y, c, depth, powers, params, r, f, work_d, work_n))


@njit(types.float64(DATA_VECTOR, types.float64, types.float64), allocates=False)
def size_of_error(error, depth, ratio_scale):
    """Return the largest error of half log u^D and half log v^D, that of log u/v counted against `ratio_scale`, at most 1.

    Where all of log u/v is small (the kernel regime), beta is only as accurate as that is relative to itself.
    """
    d = error.shape[0] // 2
    largest = 0.0
    for j in range(d):
        e = abs(error[j] - error[d + j]) / ratio_scale + abs(error[j] + error[d + j])
        # A NaN must win: `max` would drop it.
        if not e <= largest:
            largest = e
    return 0.25 * depth * largest


@njit(types.void(types.float64, types.float64, DATA_MATRIX, VECTOR), allocates=False)
def gram_weight(c, depth, powers, out):
    """out = c D^2 (u^(2D-2) + v^(2D-2)), so that ``K = X diag(out) X^T``."""
    for j in range(out.shape[0]):
        out[j] = (c * depth * depth) * (powers[UD, j] * powers[UK, j] + powers[VD, j] * powers[VK, j])


@njit(types.void(DATA_MATRIX, types.float64, types.float64, DATA_MATRIX, DATA_VECTOR, VECTOR, VECTOR), allocates=False)
def read(X, c, depth, powers, e, out, work):
    """out = C e; `work` is (d,)."""
    d = X.shape[1]
    for j in range(d):
        work[j] = (c * depth) * (powers[UD, j] * e[j] - powers[VD, j] * e[d + j])
    matvec(X, work, out)


@njit(types.void(DATA_MATRIX, types.float64, DATA_MATRIX, DATA_VECTOR, types.float64, VECTOR, VECTOR), allocates=False)
def spread(X, depth, powers, a, scale, e, work):
    """E -= scale B a; `work` is (d,)."""
    d = X.shape[1]
    rmatvec(X, a, depth * scale, work)
    for j in range(d):
        e[j] -= powers[UK, j] * work[j]
        e[d + j] += powers[VK, j] * work[j]


@njit(types.void(DATA_MATRIX, DATA_VECTOR, types.float64, DATA_VECTOR, DATA_VECTOR, VECTOR, VECTOR, VECTOR), allocates=False)
def _times_stiff(X, weight, kappa, row_scale, a, out, work_d, work_n):
    # out = S (K + kappa K^2) a
    rmatvec(X, a, 1.0, work_d)
    for j in range(work_d.shape[0]):
        work_d[j] *= weight[j]
    matvec(X, work_d, out)
    if kappa != 0.0:
        rmatvec(X, out, kappa, work_d)
        for j in range(work_d.shape[0]):
            work_d[j] *= weight[j]
        matvec(X, work_d, work_n)
        for i in range(out.shape[0]):
            out[i] += work_n[i]
    for i in range(out.shape[0]):
        out[i] /= row_scale[i]


@njit(types.float64(DATA_MATRIX, DATA_VECTOR, types.float64, DATA_VECTOR, VECTOR, VECTOR, MATRIX), allocates=False)
def stiffest_rate(X, weight, kappa, row_scale, probe, work_d, work_n):
    """Return the largest rate of decay, by one step of the power method, which improves `probe` (N,) from step to step."""
    _times_stiff(X, weight, kappa, row_scale, probe, work_n[0], work_d, work_n[1])
    rate = norm(work_n[0])
    if not (rate > 0.0 and math.isfinite(rate)):
        return 0.0
    for i in range(probe.shape[0]):
        probe[i] = work_n[0, i] / rate
    return rate


@njit(_RELAX, allocates=False)
def relax(X, c, depth, powers, weight, kappa, row_scale, rate, h, error, work_d, work_n):
    """Carry an error over an explicit step: a few factors ``I - (h/m) B S (I + kappa K) C``, slower than the flow itself."""
    m = min(3, 1 + int(0.5 * h * rate))
    step = h / m
    if rate * step > 0.9:
        step = 0.9 / rate
    for _ in range(m):
        read(X, c, depth, powers, error, work_n[0], work_d[0])
        if kappa != 0.0:
            for j in range(weight.shape[0]):
                work_d[1, j] = 0.0
            rmatvec(X, work_n[0], kappa, work_d[1])
            for j in range(weight.shape[0]):
                work_d[1, j] *= weight[j]
            matvec(X, work_d[1], work_n[1])
            for i in range(work_n.shape[1]):
                work_n[0, i] += work_n[1, i]
        for i in range(work_n.shape[1]):
            work_n[0, i] /= row_scale[i]
        spread(X, depth, powers, work_n[0], step, error, work_d[0])
