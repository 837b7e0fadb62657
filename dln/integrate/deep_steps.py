"""One attempted step at depth D > 2: the explicit pair of order 8, and the W-method of order 4.

The W-method solves with ``I + tau B S (I + kappa K) C``, of size 2d.  By Woodbury's identity that is one Gram product and one
Cholesky factorisation of N x N:

    (I + tau B S (I + kappa K) C)^-1 b = b - tau B (I + kappa K) M^-1 C b,    M = S^-1 + tau (K + kappa K^2),

with S = 1 or kappa = 0.  The Jacobian leaves out that rates grow with the weights: that is not stiff, and the method keeps its
order for any Jacobian.
"""

import math

import numpy as np

from .._jit import njit
from .._linalg import cholesky, cholesky_solve, gram, matvec, symmetric_square_into
from .deep_state import FINE, evaluate, gram_weight, read, size_of_error, spread


@njit()
def explicit_attempt(rule, X, y, c, depth, origin, z, f, h, tolerance, ratio_scale, params, A, b, error_high, error_low,
                     z_new, f_new, powers, r, local, K, logs, work_d, work_n):
    """Attempt a step of size h from (z, f); return (error / tolerance, what an evaluation reported).

    Fills z_new, f_new, powers, r at the new point, and `local`, the estimate of the local error of z.  An attempt that
    overflows returns an infinite error.
    """
    stages = A.shape[0]
    last = params.shape[0] - 1
    K[0, :] = f
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
    f_new[:] = K[stages]
    low = _weighted(K, error_low, h, local)
    low_size = size_of_error(local, depth, ratio_scale)
    high_size = low_size
    if low_size > 0.0:
        _weighted(K, error_high, h, local)
        high_size = size_of_error(local, depth, ratio_scale)
        if not math.isfinite(low + high_size):
            return np.inf, FINE
        # The estimate of order 5 is corrected by that of order 3, as in DOP853; the vector is scaled alike.
        damping = high_size / math.hypot(high_size, 0.1 * low_size) if high_size > 0.0 else 0.0
        for q in range(z.shape[0]):
            local[q] *= damping
        high_size *= damping
    return high_size / tolerance, FINE


@njit()
def _weighted(K, weights, h, out):
    # out = h sum_i weights_i K_i; returns its sum, which is finite only if every entry is.
    out[:] = 0.0
    for i in range(K.shape[0]):
        if weights[i] != 0.0:
            for q in range(out.shape[0]):
                out[q] += weights[i] * K[i, q]
    total = 0.0
    for q in range(out.shape[0]):
        out[q] *= h
        total += out[q]
    return total


@njit()
def factorize(X, c, depth, powers, tau, kappa, row_scale, M, gram_matrix, weight):
    """Fill M with the Cholesky factor of ``S^-1 + tau (K + kappa K^2)`` and `gram_matrix` with K; False if that fails."""
    n = X.shape[0]
    gram_weight(c, depth, powers, weight)
    gram(X, weight, gram_matrix)
    for i in range(n):
        for j in range(i + 1):
            M[i, j] = tau * gram_matrix[i, j]
        M[i, i] += row_scale[i]
    if kappa != 0.0:
        symmetric_square_into(gram_matrix, math.sqrt(tau) * math.sqrt(kappa), M)
    return cholesky(M)


@njit()
def contract(X, c, depth, powers, tau, kappa, M, gram_matrix, e, work_d, work_n):
    """Multiply e by ``(I + tau B S (I + kappa K) C)^-1``, the powers being those that M was made of."""
    read(X, c, depth, powers, e, work_n[0], work_d)
    cholesky_solve(M, work_n[0])
    if kappa != 0.0:
        matvec(gram_matrix, work_n[0], work_n[1])
        for i in range(X.shape[0]):
            work_n[0, i] += kappa * work_n[1, i]
    spread(X, depth, powers, work_n[0], tau, e, work_d)


@njit()
def rosenbrock_attempt(rule, X, y, c, depth, origin, z, f, h, tolerance, ratio_scale, params, A, C, m, e, gamma,
                       kappa, row_scale, powers, z_new, f_new, powers_new, r, local, K, M, gram_matrix, weight, logs, work_d,
                       work_n):
    """Attempt a step of size h from (z, f); return (error / tolerance, what an evaluation reported).

    `powers` holds those at z, which is where the Jacobian is taken.  The estimate of the local error is filtered through the
    matrix, since the method's own does not vanish for infinitely stiff components (Hairer & Wanner, IV.8).
    """
    stages = A.shape[0]
    last = params.shape[0] - 1
    tau = h * gamma
    if not factorize(X, c, depth, powers, tau, kappa, row_scale, M, gram_matrix, weight):
        return np.inf, FINE
    for i in range(stages):
        k_i = K[i]
        if i == 0:
            k_i[:] = f
        else:
            z_new[:] = z
            for j in range(i):
                if A[i, j] != 0.0:
                    for q in range(z.shape[0]):
                        z_new[q] += A[i, j] * K[j, q]
            found = evaluate(rule, X, y, c, depth, origin, z_new, params[min(i, last)], powers_new, r, k_i, logs, work_d, work_n)
            if found != FINE:
                return np.inf, found
            for j in range(i):
                if C[i, j] != 0.0:
                    share = C[i, j] / h
                    for q in range(z.shape[0]):
                        k_i[q] += share * K[j, q]
        for q in range(z.shape[0]):
            k_i[q] *= tau
        contract(X, c, depth, powers, tau, kappa, M, gram_matrix, k_i, work_d[0], work_n)
    z_new[:] = z
    local[:] = 0.0
    for i in range(stages):
        for q in range(z.shape[0]):
            z_new[q] += m[i] * K[i, q]
            local[q] += e[i] * K[i, q]
    found = evaluate(rule, X, y, c, depth, origin, z_new, params[last], powers_new, r, f_new, logs, work_d, work_n)
    if found != FINE:
        return np.inf, found
    contract(X, c, depth, powers, tau, kappa, M, gram_matrix, local, work_d[0], work_n)
    return size_of_error(local, depth, ratio_scale) / tolerance, FINE
