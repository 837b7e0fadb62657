"""One attempted step of an explicit Runge-Kutta pair of order 8 in log coordinates."""

import math

import numpy as np
from numba import types

from .._jit import DATA_MATRIX, DATA_VECTOR, MATRIX, VECTOR, njit
from .._linalg import copy, norm
from .state import SYSTEM, WORK, evaluate, log_weight_error

_EXPLICIT = types.UniTuple(types.float64, 2)(
    types.intp, SYSTEM, types.float64, VECTOR, VECTOR, types.float64, types.float64, types.float64, MATRIX,
    DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, DATA_VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, MATRIX, MATRIX,
)


@njit(_EXPLICIT, allocates=False)
def explicit_attempt(rule, system, c, z, f, h, tolerance, ratio_scale, params, A, b, error_high, error_low,
                     z_new, f_new, r, local, K, work_n):
    """Attempt a step of size h from (z, f); return (error / tolerance, stiffness h rho).

    Fills z_new, f_new, r and the system at the new point, and `local`, the estimate of the local error of z.  An attempt
    that overflows returns an infinite error.
    """
    X, work_d = system.X, system.rows[WORK]
    stages = A.shape[0]
    n = z.shape[0]
    last = params.shape[0] - 1
    copy(f, K[0])
    for i in range(1, stages + 1):
        for k in range(n):
            z_new[k] = 0.0
        for j in range(i):
            weight = A[i, j] if i < stages else b[j]
            if weight != 0.0:
                for k in range(n):
                    z_new[k] += weight * K[j, k]
        for k in range(n):
            z_new[k] = z[k] + h * z_new[k]
        if i == stages - 1:
            copy(z_new, local)
        if not evaluate(rule, system, c, z_new, params[min(i, last)], r, K[i], work_n):
            return np.inf, 0.0
    copy(K[stages], f_new)
    # Stiffness, of nu alone: |f(z_new) - f(last stage)| / |z_new - last stage|, both at t + h (Hairer & Wanner, IV.2).
    for k in range(n):
        local[k] = z_new[k] - local[k]
    bottom = norm(local[: X.shape[0]])
    for k in range(n):
        local[k] = K[stages, k] - K[stages - 1, k]
    stiffness = h * (norm(local[: X.shape[0]]) / bottom) if bottom > 0.0 else 0.0
    low = weighted(K, error_low, h, local)
    low_size = log_weight_error(X, local, ratio_scale, 1.0, work_d)
    high_size = low_size
    if low_size > 0.0:
        weighted(K, error_high, h, local)
        high_size = log_weight_error(X, local, ratio_scale, 1.0, work_d)
        if not math.isfinite(low + high_size):
            return np.inf, stiffness
        # The estimate of order 5 is corrected by that of order 3, as in DOP853; the vector is scaled alike.
        damping = high_size / math.hypot(high_size, 0.1 * low_size) if high_size > 0.0 else 0.0
        for k in range(n):
            local[k] *= damping
        high_size *= damping
    return high_size / tolerance, stiffness


@njit(types.float64(DATA_MATRIX, DATA_VECTOR, types.float64, VECTOR), allocates=False)
def weighted(K, weights, h, out):
    """Fill ``out = h sum_i weights_i K_i``; return its sum, which is finite only if every entry is."""
    n = K.shape[1]
    for k in range(n):
        out[k] = 0.0
    for i in range(K.shape[0]):
        if weights[i] != 0.0:
            for k in range(n):
                out[k] += weights[i] * K[i, k]
    total = 0.0
    for k in range(n):
        out[k] *= h
        total += out[k]
    return total
