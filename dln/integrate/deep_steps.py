"""One attempted step at depth D > 2: the explicit pair of order 8, and the stiff methods.

These solve with ``P + tau B S (I + kappa K) C``, of size 2d, where the diagonal ``P = 1 - tau G`` holds the growth of the
weights, ``G = (D-2) (log w)'`` under gradient flow.  By Woodbury's identity that is one Gram product and one Cholesky
factorisation of N x N:

    (P + tau B S (I + kappa K') C)^-1 b = P^-1 [b - tau B (I + kappa K') M^-1 C P^-1 b],    M = S^-1 + tau (K' + kappa K'^2),

with ``K' = C P^-1 B`` and S = 1 or kappa = 0.  For gradient flow that is the exact Jacobian; for other rules it is not, and the
W-method keeps its order.
"""

import math

import numpy as np
from numba import types

from .._gram import gram, symmetric_square_into
from .._jit import DATA_MATRIX, DATA_VECTOR, MATRIX, VECTOR, njit
from .._linalg import cholesky, cholesky_solve, copy, matvec, rmatvec
from ..rules.base import UD, UK, VD, VK
from .deep_state import FINE, evaluate, read, size_of_error
from .explicit import weighted

_EXPLICIT = types.Tuple((types.float64, types.int64))(
    types.intp, DATA_MATRIX, DATA_VECTOR, types.float64, types.float64, DATA_VECTOR, DATA_VECTOR, DATA_VECTOR,
    types.float64, types.float64, types.float64, MATRIX, DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, DATA_VECTOR,
    VECTOR, VECTOR, MATRIX, VECTOR, VECTOR, MATRIX, VECTOR, MATRIX, MATRIX,
)
_FACTORIZE = types.boolean(
    DATA_MATRIX, types.float64, types.float64, DATA_MATRIX, DATA_VECTOR, types.float64, types.float64, DATA_VECTOR, VECTOR,
    MATRIX, MATRIX, MATRIX,
)
_SOLVE = types.void(
    DATA_MATRIX, types.float64, types.float64, DATA_MATRIX, types.float64, types.float64, DATA_VECTOR, DATA_MATRIX, DATA_MATRIX,
    VECTOR, MATRIX, MATRIX,
)
_ROSENBROCK = types.Tuple((types.float64, types.int64))(
    types.intp, DATA_MATRIX, DATA_VECTOR, types.float64, types.float64, DATA_VECTOR, DATA_VECTOR, DATA_VECTOR,
    types.float64, types.float64, types.float64, MATRIX, DATA_MATRIX, DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, types.float64,
    types.boolean, types.float64, DATA_VECTOR, DATA_MATRIX, DATA_VECTOR, VECTOR, VECTOR, VECTOR, MATRIX, VECTOR, VECTOR, MATRIX,
    MATRIX, MATRIX, VECTOR, MATRIX, MATRIX,
)


@njit(_EXPLICIT, allocates=False)
def explicit_attempt(rule, X, y, c, depth, origin, z, f, h, tolerance, ratio_scale, params, A, b, error_high, error_low,
                     z_new, f_new, powers, r, local, K, logs, work_d, work_n):
    """Attempt a step of size h from (z, f); return (error / tolerance, what an evaluation reported).

    Fills z_new, f_new, powers, r at the new point, and `local`, the estimate of the local error of z.  An attempt that
    overflows returns an infinite error.
    """
    stages = A.shape[0]
    last = params.shape[0] - 1
    copy(f, K[0])
    for i in range(1, stages + 1):
        z_new[:] = 0.0
        for j in range(i):
            weight = A[i, j] if i < stages else b[j]
            if weight != 0.0:
                for q in range(z.shape[0]):
                    z_new[q] += weight * K[j, q]
        for q in range(z.shape[0]):
            z_new[q] = z[q] + h * z_new[q]
        found = evaluate(rule, X, y, c, depth, origin, z_new, params[min(i, last)], powers, r, K[i], logs, work_d, work_n)
        if found != FINE:
            return np.inf, found
    copy(K[stages], f_new)
    low = weighted(K, error_low, h, local)
    low_size = size_of_error(local, depth, ratio_scale)
    high_size = low_size
    if low_size > 0.0:
        weighted(K, error_high, h, local)
        high_size = size_of_error(local, depth, ratio_scale)
        if not math.isfinite(low + high_size):
            return np.inf, FINE
        # The estimate of order 5 is corrected by that of order 3, as in DOP853; the vector is scaled alike.
        damping = high_size / math.hypot(high_size, 0.1 * low_size) if high_size > 0.0 else 0.0
        for q in range(z.shape[0]):
            local[q] *= damping
        high_size *= damping
    return high_size / tolerance, FINE


@njit(_FACTORIZE, allocates=False)
def factorize(X, c, depth, powers, r, tau, kappa, row_scale, shift, M, gram_matrix, work_d):
    """Fill `shift` (2d,) with P, M with the Cholesky factor of ``S^-1 + tau (K' + kappa K'^2)`` and `gram_matrix` with K'.

    False if M does not factor.  Three rows of `work_d` are used.
    """
    n, d = X.shape
    g, weight = work_d[0], work_d[1]
    rmatvec(X, r, c * (depth - 2.0) * depth, g)
    for j in range(d):
        # The loop over steps keeps P near 1; the bound is for rules whose growth is not that of gradient flow.
        shift[j] = max(0.5, 1.0 + tau * powers[UK, j] * g[j])
        shift[d + j] = max(0.5, 1.0 - tau * powers[VK, j] * g[j])
        weight[j] = powers[UD, j] * powers[UK, j] / shift[j] + powers[VD, j] * powers[VK, j] / shift[d + j]
        weight[j] *= c * depth * depth
    gram(X, weight, gram_matrix)
    for i in range(n):
        for j in range(i + 1):
            M[i, j] = tau * gram_matrix[i, j]
        M[i, i] += row_scale[i]
    if kappa != 0.0:
        symmetric_square_into(gram_matrix, math.sqrt(tau) * math.sqrt(kappa), M)
    return cholesky(M)


@njit(_SOLVE, allocates=False)
def solve(X, c, depth, powers, tau, kappa, shift, M, gram_matrix, e, work_d, work_n):
    """Replace e by ``(P + tau B S (I + kappa K') C)^-1 e``, the powers being those that M was made of."""
    for j in range(e.shape[0]):
        e[j] /= shift[j]
    read(X, c, depth, powers, e, work_n[0], work_d[0])
    cholesky_solve(M, work_n[0])
    if kappa != 0.0:
        matvec(gram_matrix, work_n[0], work_n[1])
        for i in range(X.shape[0]):
            work_n[0, i] += kappa * work_n[1, i]
    d = X.shape[1]
    rmatvec(X, work_n[0], depth * tau, work_d[0])
    for j in range(d):
        e[j] -= powers[UK, j] * work_d[0, j] / shift[j]
        e[d + j] += powers[VK, j] * work_d[0, j] / shift[d + j]


@njit(_SOLVE, allocates=False)
def contract(X, c, depth, powers, tau, kappa, shift, M, gram_matrix, error, work_d, work_n):
    """Carry an error, its growth apart, over a step: ``(I + tau P^-1 B S (I + kappa K') C)^-4``, slower than the flow."""
    for _ in range(4):
        for j in range(error.shape[0]):
            error[j] *= shift[j]
        solve(X, c, depth, powers, tau, kappa, shift, M, gram_matrix, error, work_d, work_n)


@njit(_ROSENBROCK, allocates=False)
def rosenbrock_attempt(rule, X, y, c, depth, origin, z, f, h, tolerance, ratio_scale, params, A, C, m, e, gamma, filtered,
                       kappa, row_scale, powers, r, shift, z_new, f_new, powers_new, r_new, local, K, M, gram_matrix, logs,
                       work_d, work_n):
    """Attempt a step of size h from (z, f); return (error / tolerance, what an evaluation reported).

    `powers` and r hold the values at z, where the Jacobian is taken.  The estimate of the local error is `filtered` through the
    matrix where the method's own does not vanish for infinitely stiff components (Hairer & Wanner, IV.8).
    """
    stages = A.shape[0]
    last = params.shape[0] - 1
    tau = h * gamma
    if not factorize(X, c, depth, powers, r, tau, kappa, row_scale, shift, M, gram_matrix, work_d):
        return np.inf, FINE
    for i in range(stages):
        k_i = K[i]
        if i == 0:
            copy(f, k_i)
        else:
            copy(z, z_new)
            for j in range(i):
                if A[i, j] != 0.0:
                    for q in range(z.shape[0]):
                        z_new[q] += A[i, j] * K[j, q]
            found = evaluate(rule, X, y, c, depth, origin, z_new, params[min(i, last)], powers_new, r_new, k_i, logs, work_d,
                             work_n)
            if found != FINE:
                return np.inf, found
            for j in range(i):
                if C[i, j] != 0.0:
                    share = C[i, j] / h
                    for q in range(z.shape[0]):
                        k_i[q] += share * K[j, q]
        for q in range(z.shape[0]):
            k_i[q] *= tau
        solve(X, c, depth, powers, tau, kappa, shift, M, gram_matrix, k_i, work_d, work_n)
    copy(z, z_new)
    local[:] = 0.0
    for i in range(stages):
        for q in range(z.shape[0]):
            z_new[q] += m[i] * K[i, q]
            local[q] += e[i] * K[i, q]
    found = evaluate(rule, X, y, c, depth, origin, z_new, params[last], powers_new, r_new, f_new, logs, work_d, work_n)
    if found != FINE:
        return np.inf, found
    if filtered:
        solve(X, c, depth, powers, tau, kappa, shift, M, gram_matrix, local, work_d, work_n)
    return size_of_error(local, depth, ratio_scale) / tolerance, FINE
