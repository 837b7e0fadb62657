"""One attempted step of a flow with inertia: explicit of order 8, or a W-method of order 4 for stiff stretches.

The W-method keeps its order for any Jacobian.  Its Jacobian knows what can be stiff: the damping, and the force that the
residual's response to the weights makes.  With ``k_w = k_delta/(h gamma) - ...`` put in, what is left to solve is N x N:
``I + 4 c push X diag(u^2/D_u + v^2/D_v) X^T``, symmetric and positive, where ``D_u = g (g + damping) + 2 push p`` and
``g = 1/(h gamma)``.
"""

import math
from collections import namedtuple

import numpy as np
from numba import types

from .._gram import gram
from .._jit import DATA_MATRIX, DATA_VECTOR, MATRIX, VECTOR, njit
from .._linalg import cholesky, cholesky_solve, copy, matvec, rmatvec
from ..rules.base import call_rule
from .explicit import weighted

# Rows (ROWS, d): what never changes, log(u0 v0) and log(u0/v0); log|U/u0| and log|V/v0|; the signs of the weights; U^2, V^2 and
# U^2 - V^2; the state's beta and size = u^2 + v^2; D_u and D_v; seven rows of work, four of which are the rule's.
LOG_PRODUCT, LOG_RATIO, MOVED_U, MOVED_V, SIGN_U, SIGN_V, U2, V2, BETA_0, BETA, SIZE, D_U, D_V, WORK = range(14)
ROWS = WORK + 7

#: What an attempt does not change: the rule's address, the data, 1/(2N), the inertia (0: Nesterov's flow), and the tableau,
#: that of a W-method if gamma > 0.
Motion = namedtuple("Motion", "rule X y c inertia A C b nodes error_high error_low gamma")
MOTION = types.NamedTuple((types.intp, DATA_MATRIX, DATA_VECTOR, types.float64, types.float64, DATA_MATRIX, DATA_MATRIX,
                           *(DATA_VECTOR,) * 4, types.float64), Motion)
_ATTEMPT = types.float64(
    MOTION, MATRIX, DATA_VECTOR, DATA_VECTOR, types.float64, types.float64, types.float64, types.float64, MATRIX, VECTOR,
    VECTOR, VECTOR, VECTOR, MATRIX, MATRIX, MATRIX,
)
_SOLVE = types.void(
    MOTION, MATRIX, DATA_VECTOR, types.float64, types.float64, types.float64, DATA_MATRIX, VECTOR, MATRIX)
_SIZE_OF_ERROR = types.float64(
    DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, DATA_VECTOR, types.float64, types.float64, VECTOR)


@njit(types.UniTuple(types.float64, 2)(types.float64, types.float64), allocates=False)
def coefficients(inertia, t):
    """Return (damping, push) at time t."""
    if inertia > 0.0:
        return 1.0 / inertia, 1.0 / inertia
    return (3.0 / t, 1.0) if t > 0.0 else (0.0, 0.25)


@njit(types.boolean(MOTION, MATRIX, DATA_VECTOR, types.float64, VECTOR, VECTOR, VECTOR, MATRIX), allocates=False)
def evaluate(m, rows, z, t, params, r, f, work_n):
    """Evaluate ``f = dz/dt`` with beta, size and r at state z; False if the weights would overflow."""
    n, d = m.X.shape
    damping, push = coefficients(m.inertia, t)
    beta, size, q = rows[BETA], rows[SIZE], rows[WORK + 6]
    fits = True
    for j in range(d):
        high = rows[U2, j] * z[j] * (2.0 + z[j])
        low = rows[V2, j] * z[d + j] * (2.0 + z[d + j])
        beta[j] = rows[BETA_0, j] + (high - low)
        size[j] = (rows[U2, j] + rows[V2, j]) + (high + low)
        fits &= size[j] < 1e260
    if not fits:  # NaN included
        return False
    nu, coef = 4 * d, f[4 * d + n:]
    q[:] = 0.0
    call_rule(m.rule, (m.X, m.y, m.c, beta, size, params, r, coef, q, rows[WORK + 3:WORK + 7], work_n))
    p = rows[WORK]
    rmatvec(m.X, coef, 1.0, p)
    for j in range(d):
        f[j] = z[2 * d + j]
        f[d + j] = z[3 * d + j]
        f[2 * d + j] = -damping * z[2 * d + j] - (2.0 * push) * (p[j] + q[j]) * (1.0 + z[j])
        f[3 * d + j] = -damping * z[3 * d + j] + (2.0 * push) * (p[j] - q[j]) * (1.0 + z[d + j])
    for i in range(n):
        f[nu + i] = z[nu + n + i]
        f[nu + n + i] = push * coef[i] - damping * z[nu + n + i]
    return True


@njit(_ATTEMPT, allocates=False)
def attempt(m, rows, z, f, t, h, tolerance, ratio_scale, params, z_new, f_new, r, local, K, M, work_n):
    """Attempt a step of size h from (z, f); return its error over the tolerance, infinite if it overflows.

    M is (n, n) for a W-method, and not used otherwise.
    """
    if m.gamma > 0.0:
        return _implicit(m, rows, z, f, t, h, tolerance, ratio_scale, params, z_new, f_new, r, local, K, M, work_n)
    stages, last = m.A.shape[0], params.shape[0] - 1
    copy(f, K[0])
    for i in range(1, stages + 1):
        z_new[:] = 0.0
        for k in range(i):
            weight = m.A[i, k] if i < stages else m.b[k]
            if weight != 0.0:
                for j in range(z.shape[0]):
                    z_new[j] += weight * K[k, j]
        for j in range(z.shape[0]):
            z_new[j] = z[j] + h * z_new[j]
        if not evaluate(m, rows, z_new, t + m.nodes[i] * h, params[min(i, last)], r, K[i], work_n):
            return np.inf
    copy(K[stages], f_new)
    total = weighted(K, m.error_low, h, local)
    low = size_of_error(m.X, local, z, z_new, h, ratio_scale, rows[WORK])
    total += weighted(K, m.error_high, h, local)
    high = size_of_error(m.X, local, z, z_new, h, ratio_scale, rows[WORK])
    if not math.isfinite(total):
        return np.inf
    # The estimate of order 5 is corrected by that of order 3, as in DOP853; the vector is scaled alike.
    damping = high / math.hypot(high, 0.1 * low) if high > 0.0 else 0.0
    for j in range(z.shape[0]):
        local[j] *= damping
    return high * damping / tolerance


@njit(_ATTEMPT, allocates=False)
def _implicit(m, rows, z, f, t, h, tolerance, ratio_scale, params, z_new, f_new, r, local, K, M, work_n):
    n, d = m.X.shape
    stages, last = m.A.shape[0], params.shape[0] - 1
    damping, push = coefficients(m.inertia, t)
    g = 1.0 / (h * m.gamma)
    p, weight = rows[WORK], rows[WORK + 1]
    for i in range(n):
        work_n[0, i] = f[4 * d + n + i] + damping * z[4 * d + n + i]
    rmatvec(m.X, work_n[0], 2.0, p)
    plain = g * (g + damping)
    for j in range(d):
        # The method keeps its order for any Jacobian: where a weight grows too fast for this one, another.
        rows[D_U, j] = max(plain + p[j], 0.5 * plain)
        rows[D_V, j] = max(plain - p[j], 0.5 * plain)
        weight[j] = (4.0 * m.c * push) * (rows[U2, j] * (1.0 + z[j]) ** 2 / rows[D_U, j]
                                          + rows[V2, j] * (1.0 + z[d + j]) ** 2 / rows[D_V, j])
    gram(m.X, weight, M)
    for i in range(n):
        M[i, i] += 1.0
    if not cholesky(M):
        return np.inf
    for i in range(stages):
        if i == 0:
            copy(f, K[0])
        else:
            copy(z, z_new)
            for k in range(i):
                if m.A[i, k] != 0.0:
                    for j in range(z.shape[0]):
                        z_new[j] += m.A[i, k] * K[k, j]
            if not evaluate(m, rows, z_new, t + m.nodes[i] * h, params[min(i, last)], r, K[i], work_n):
                return np.inf
            for k in range(i):
                if m.C[i, k] != 0.0:
                    for j in range(z.shape[0]):
                        K[i, j] += m.C[i, k] / h * K[k, j]
        _solve(m, rows, z, g, damping, push, M, K[i], work_n)
    copy(z, z_new)
    local[:] = 0.0
    for i in range(stages):
        for j in range(z.shape[0]):
            z_new[j] += m.b[i] * K[i, j]
            local[j] += m.error_high[i] * K[i, j]
    if not evaluate(m, rows, z_new, t + h, params[last], r, f_new, work_n):
        return np.inf
    for j in range(z.shape[0]):
        local[j] *= g
    # The estimate does not vanish for infinitely stiff components; filtered through the matrix it does.
    _solve(m, rows, z, g, damping, push, M, local, work_n)
    total = 0.0
    for j in range(z.shape[0]):
        total += local[j]
    if not math.isfinite(total):
        return np.inf
    return size_of_error(m.X, local, z, z_new, h, ratio_scale, rows[WORK]) / tolerance


@njit(_SOLVE, allocates=False)
def _solve(m, rows, z, g, damping, push, M, x, work_n):
    # x = (g - J)^-1 x.  With k_w = g k_delta - x_delta only k_delta and xi = d coef/d delta k_delta are left, and xi is N x N.
    n, d = m.X.shape
    moved = rows[WORK + 1]
    for j in range(d):
        x[2 * d + j] += (g + damping) * x[j]
        x[3 * d + j] += (g + damping) * x[d + j]
        moved[j] = (2.0 * m.c) * (rows[U2, j] * (1.0 + z[j]) * x[2 * d + j] / rows[D_U, j]
                                  - rows[V2, j] * (1.0 + z[d + j]) * x[3 * d + j] / rows[D_V, j])
    xi = work_n[1]
    matvec(m.X, moved, xi)
    cholesky_solve(M, xi)
    rmatvec(m.X, xi, 2.0 * push, moved)
    for j in range(d):
        of_u = (x[2 * d + j] - (1.0 + z[j]) * moved[j]) / rows[D_U, j]
        of_v = (x[3 * d + j] + (1.0 + z[d + j]) * moved[j]) / rows[D_V, j]
        x[2 * d + j], x[3 * d + j] = g * of_u - x[j], g * of_v - x[d + j]
        x[j], x[d + j] = of_u, of_v
    for i in range(n):
        nu, mu = 4 * d + i, 4 * d + n + i
        x[mu] = (x[mu] + push * xi[i]) / (g + damping)
        x[nu] = (x[nu] + x[mu]) / g


@njit(_SIZE_OF_ERROR, allocates=False)
def size_of_error(X, error, z, z_new, h, ratio_scale, work):
    """Return the largest error of log weights, of h times their velocities, and of the part of log weights along p.

    Where all of log(u/v) is small (the kernel regime) beta is only as accurate as that is relative to itself: hence
    `ratio_scale`, at most 1.
    """
    n, d = X.shape
    largest = 0.0
    for shift, factor in ((0, 1.0), (2 * d, h)):
        for j in range(d):
            of_u = factor * error[shift + j] / reach_of(z, z_new, j, 2 * d, h)
            of_v = factor * error[shift + d + j] / reach_of(z, z_new, d + j, 2 * d, h)
            e = 0.5 * (abs(of_u - of_v) / ratio_scale + abs(of_u + of_v))
            # A NaN must win: `max` would drop it.
            if not e <= largest:
                largest = e
        rmatvec(X, error[4 * d + (n if shift else 0):4 * d + (2 * n if shift else n)], 2.0 * factor / ratio_scale, work)
        for j in range(d):
            if not abs(work[j]) <= largest:
                largest = abs(work[j])
    return largest


@njit()
def reach_of(z, z_new, j, half, h):
    """Return the size of weight j in a step, over its scale: near 0 what it moves in the step."""
    return max(abs(1.0 + z[j]), abs(1.0 + z_new[j]), h * abs(z[half + j]))
