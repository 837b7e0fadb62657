"""The compiled parts of the dual Newton method: a point, a Newton direction, a line search.  Each is one call per iteration."""

import math

import numpy as np
from numba import types

from ._exponentials import LOWEST_EXPONENT, exp_expm1
from ._gram import gram
from ._jit import DATA_MATRIX, DATA_VECTOR, MATRIX, VECTOR, njit
from ._linalg import cholesky, cholesky_solve, residual

_OVERFLOW = 600.0  # logarithm of the largest u^2 + v^2 that is worked with


@njit(types.boolean(DATA_MATRIX, DATA_VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, MATRIX))
def point(X, y, log_scale, w, correction, log_sizes, sizes, b, r, work):
    """Fill log(u^2 + v^2), u^2 + v^2, b = u^2 - v^2 and r = X b - y at w + correction; False if the weights overflow.

    The correction is added to the logarithm of the larger weight, not to w: that keeps digits that w itself would round
    away.  Shapes (d,), r (N,); `work` is (4, d).
    """
    fits = True
    for j in range(w.shape[0]):
        moved = w[j] + correction[j]
        if moved * w[j] > 0.0:
            top = (log_scale[j] + abs(w[j])) + (correction[j] if w[j] > 0.0 else -correction[j])
        else:
            top = log_scale[j] + abs(moved)
        fits &= top < _OVERFLOW  # NaN does not fit either
        work[0, j] = top
        work[1, j] = -2.0 * abs(moved)
    if not fits:
        return False
    exp_expm1(work[0], work[1], work[2], work[3])
    for j in range(w.shape[0]):
        larger = work[2, j] if work[0, j] > LOWEST_EXPONENT else 0.0
        sizes[j] = larger * (2.0 + work[3, j])
        b[j] = math.copysign(-larger * work[3, j], w[j] + correction[j])
        log_sizes[j] = work[0, j] + math.log(2.0 + work[3, j])
    residual(X, b, y, r)
    return True


@njit(types.boolean(DATA_MATRIX, VECTOR, VECTOR, VECTOR))
def direction(X, sizes, r, p):
    """Solve ``4 X diag(sizes) X^T p = -r``, scaled to a unit diagonal; False if even a large jitter does not help.

    Directions that only dormant coordinates span have a curvature lost in rounding: they are held back by a jitter.
    """
    n = X.shape[0]
    K = np.empty((n, n))
    M = np.empty((n, n))
    root = np.empty(n)
    gram(X, 4.0 * sizes, K)
    for i in range(n):
        root[i] = math.sqrt(K[i, i]) if K[i, i] > 0.0 else 1.0
    jitter = 1e-15
    for _ in range(12):
        for i in range(n):
            for k in range(i):
                M[i, k] = K[i, k] / (root[i] * root[k])
            M[i, i] = (K[i, i] / root[i]) / root[i] + jitter
            p[i] = -r[i] / root[i]
        if cholesky(M):
            cholesky_solve(M, p)
            for i in range(n):
                p[i] /= root[i]
            return True
        jitter *= 10.0
    return False


@njit()
def _slope(log_scale, w, change, t, constant, work):
    # Derivative of the dual along the step: sum b change/4 - y.p; inf where the weights overflow.
    for j in range(w.shape[0]):
        moved = w[j] + t * change[j]
        work[0, j] = log_scale[j] + abs(moved)
        if not work[0, j] < _OVERFLOW:
            return np.inf
        work[1, j] = -2.0 * abs(moved)
    exp_expm1(work[0], work[1], work[2], work[3])
    total = 0.0
    for j in range(w.shape[0]):
        total += math.copysign(-work[2, j] * work[3, j], w[j] + t * change[j]) * change[j]
    return 0.25 * total - constant


@njit(types.float64(VECTOR, VECTOR, VECTOR, types.float64, MATRIX))
def line_search(log_scale, w, change, constant, work):
    """Return the step along p: 1 near the solution, elsewhere close to the minimum of the dual along p.

    ``change = 4 X^T p`` and ``constant = y.p``.  An exponential that is far too large loses one unit of its logarithm in a full
    Newton step, and all of it in an exact search; a trial costs O(d), where the step itself cost O(N^2 d).
    """
    reach = 0.0
    for j in range(change.shape[0]):
        reach = max(reach, abs(change[j]))
    if reach < 0.1:
        return 1.0
    start = _slope(log_scale, w, change, 0.0, constant, work)
    low, high = math.log1p(reach) / reach, math.inf  # the minimum along p is not before `low`
    t = 1.0
    for _ in range(40):
        value = _slope(log_scale, w, change, t, constant, work)
        if abs(value) <= (0.25 if t == 1.0 else 0.01) * abs(start):
            return t
        if value < 0.0:
            low = t
            t = 2.0 * t if high == math.inf else 0.5 * (low + high)
        else:  # NaN and overflow included
            high = t
            t = 0.5 * (low + high)
        if high - low <= 0.1 * low:
            break
    return low
