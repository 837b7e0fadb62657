"""One attempted step of a Rosenbrock method in dual coordinates: one Gram product and one N x N Cholesky.

The Jacobian of nu' is close to ``-S (K + kappa K^2)`` in nu, with ``K = (2/N) X diag(u^2+v^2) X^T`` (see
`dln.rules.base`), and to ``-4 c S (I + kappa K) X diag(beta)`` in Q: as Q drifts, active weights must follow.  That of Q' is
taken as 0, so Q is found first.  Where q is quadratic in the residual and not too strong (`Rule.coupled`), Q drifts only
while nu moves faster, and that part of the Jacobian is left out: it saves a few percent of the steps, and costs a tenth of
each.  (With strong penalties there would be 2.6 times, with weight decay, which goes on for ever, 150 times as many steps.)
With gradient flow the Jacobian is exact and Rodas5P applies; otherwise the W-method keeps its order.
"""

import math

import numpy as np
from numba import types

from .._gram import add_square_of_upper, gram_in, largest_row_sum, upper_matvec
from .._inverse_factor import factorize, solve_factorized
from .._jit import DATA_MATRIX, DATA_VECTOR, MATRIX, VECTOR, njit
from .._large import (
    FACTORED,
    FACTORIZE,
    MULTIPLY,
    RARE,
    SOLVE,
    TOO_STIFF,
    call_factorize_kept,
    call_multiply_kept,
    call_solve_kept,
)
from .._linalg import copy, matvec
from .._simd import WIDTH, load, load_at, load_four_at, load_some, load_some_at, splat, store, store_at, store_some
from ..rules.base import call_curvature
from .state import BETA, HELD, RATIO, ROWS, SIZE, SYSTEM, WORK, WORK_RULE, evaluate, log_weight_error, strictness

# kappa |K|, in shares of K, up to which ``K + kappa K^2`` is near enough to a multiple of K for a W-method.
_NEARLY_LINEAR = 5.0

_STAGES = types.Tuple((types.boolean, types.float64))(
    types.intp, types.intp, RARE, SYSTEM, types.float64, VECTOR, VECTOR, types.float64, MATRIX,
    DATA_MATRIX, DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, types.float64, types.boolean, types.boolean,
    VECTOR, VECTOR, VECTOR, MATRIX, MATRIX, MATRIX, VECTOR, VECTOR, VECTOR, types.float64, types.float64,
    VECTOR, MATRIX, VECTOR, MATRIX,
)
_ROSENBROCK = types.UniTuple(types.float64, 2)(
    types.intp, types.intp, RARE, SYSTEM, SYSTEM, types.float64, VECTOR, VECTOR,
    types.float64, types.float64, types.float64, MATRIX,
    DATA_MATRIX, DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, types.float64, types.boolean, types.boolean,
    VECTOR, VECTOR, VECTOR, VECTOR, MATRIX, MATRIX, MATRIX, VECTOR, VECTOR, VECTOR, types.float64, types.float64,
    VECTOR, MATRIX, VECTOR, MATRIX,
)


@njit(_ROSENBROCK, allocates=False)
def rosenbrock_attempt(rule, curvature, large, awake, system, c, z, f, h, tolerance, ratio_scale, params, A, C, m, e, gamma,
                       filtered, coupled, z_new, f_new, r, local, K, M, W, panel, diagonal, known, share, squared_norm,
                       row_scale, work_n, room, trace):
    """Attempt a step of size h from (z, f); return (error / tolerance, stiffness h |K|).

    The stages, `rosenbrock_stages`, see the coordinates that are `awake`, the end of the step all of `system`; r holds the
    residual at z on entry and that at the new point on return.  The estimate of the local error of nu is `filtered` through
    the matrix of the step where the method's own does not vanish for infinitely stiff components (Hairer & Wanner, IV.8).
    An attempt that overflows, or whose matrix does not factor, returns an infinite error; NaN, twice, where single precision
    does not do any more.
    """
    # Where the last stage is the solution of lower order, the error of log(u/v) is what they differ by: no product with X.
    embedded = z.shape[0] == r.shape[0] and awake.rows.shape[1] == system.rows.shape[1] and ends_in_error(A, m, e)
    fits, stiffness = rosenbrock_stages(
        rule, curvature, large, awake, c, z, f, h, params, A, C, m, e, gamma, coupled, embedded, z_new, r, local, K, M, W,
        panel, diagonal, known, share, squared_norm, row_scale, work_n, room, trace)
    if math.isnan(stiffness):
        return np.nan, np.nan
    if not fits or not evaluate(rule, system, c, z_new, params[params.shape[0] - 1], r, f_new, work_n):
        return np.inf, stiffness
    if embedded:
        return 0.5 * largest_difference(system.rows[RATIO], awake.rows[HELD]) / (ratio_scale * tolerance), stiffness
    if filtered:
        contract(large, M, W, diagonal, row_scale, local)
    strict = 1.0 if coupled else strictness(tolerance)
    return log_weight_error(system.X, local, ratio_scale, strict, system.rows[WORK]) / tolerance, stiffness


@njit(_STAGES, allocates=False)
def rosenbrock_stages(rule, curvature, large, awake, c, z, f, h, params, A, C, m, e, gamma, coupled, embedded, z_new, r, local,
                      K, M, W, panel, diagonal, known, share, squared_norm, row_scale, work_n, room, trace):
    """Fill `z_new` with the end of a step of size h from (z, f), and `local` with its error; return (whether, h |K|).

    The coordinates that are `awake` have beta and size at z on entry; r is the residual there on entry, and work afterwards.
    M and W keep the factors of ``S^-1 + h gamma (K + kappa K^2)``, see `factorize`; `coupled` says whether the Jacobian has
    its part in Q.  False where a stage overflows or the matrix does not factor.  If `embedded`, log(u/v) of the last stage
    is left in the row HELD.

    Unless `known` is empty, K is kept from step to step, off by at most `share` of ``I + h K``, and M and `diagonal` are what
    `dln._large` says, `large` its kernels.  `squared_norm` is about ``|X|^2``.  Where single precision does not do any more
    the stiffness is NaN.  `room` is work, of `gram_room` numbers.

    Rows 2 i and 2 i + 1 of `trace` (2 stages, n), unless it is empty, are filled with r and the rule's first vector of work at
    stage i; those of stage 0 are the caller's.
    """
    X, rows = awake.X, awake.rows
    beta, size, work_d, beta_start = rows[BETA], rows[SIZE], rows[WORK], rows[HELD]
    stages = A.shape[0]
    n, d = X.shape
    total = z.shape[0]
    last = params.shape[0] - 1
    tau = h * gamma
    kappa = call_curvature(curvature, (X, c, beta, size, r, params[0], row_scale, rows[WORK_RULE:ROWS]))
    for j in range(d):
        work_d[j] = 4.0 * c * size[j]
    if known.shape[0] > 0:
        outcome, largest_row = call_factorize_kept(
            large[FACTORIZE], (
                X, work_d, share, squared_norm, h, gamma, kappa, _NEARLY_LINEAR * share, row_scale, known, M, diagonal))
        factored = outcome == FACTORED
        if outcome == TOO_STIFF:
            return False, np.nan
    else:
        gram_in(X, work_d, room, M)
        largest_row = largest_row_sum(M)
        for i in range(n):
            diagonal[i] = M[i, i]
        factored = factorize_step(M, diagonal, tau, kappa, row_scale, W, panel, room)
    stiffness = h * largest_row * (1.0 + kappa * largest_row)
    if not factored:
        return False, stiffness
    copy(beta, beta_start)
    for i in range(stages):
        k_i = K[i]
        if i == 0:
            copy(f, k_i)
            local[:] = 0.0
        elif i == 1 and A[1, 0] == 0.0:  # at the start, too
            combine(z, K, i, A[i], C[i], 1.0 / h, z_new, local)
            copy(f, k_i)
        else:
            combine(z, K, i, A[i], C[i], 1.0 / h, z_new, local)
            if not evaluate(rule, awake, c, z_new, params[min(i, last)], r, k_i, work_n):
                return False, stiffness
            if embedded and i == stages - 1:
                copy(rows[RATIO], rows[HELD])
            if trace.shape[0] > 0:
                copy(r, trace[2 * i])
                copy(work_n[0], trace[2 * i + 1])
        add_scaled(local, tau, k_i)
        for k in range(n):
            k_i[k] *= row_scale[k]
        if coupled and total > n:
            for k in range(d):
                work_d[k] = (-4.0 * c * tau) * beta_start[k] * k_i[n + k]
            matvec(X, work_d, work_n[0])
            for k in range(n):
                k_i[k] += work_n[0, k]
            if kappa != 0.0:
                multiply_gram(large, M, W, diagonal, work_n[0], work_n[1])
                for k in range(n):
                    k_i[k] += kappa * work_n[1, k]
        solve_step(large, M, W, diagonal, k_i[:n])
    combine(z, K, stages, m, e, 1.0, z_new, local)
    return True, stiffness


@njit(types.boolean(MATRIX, DATA_VECTOR, types.float64, types.float64, DATA_VECTOR, MATRIX, VECTOR, VECTOR), allocates=False)
def factorize_step(M, diagonal, tau, kappa, row_scale, W, panel, room):
    """Factor ``S^-1 + tau (K + kappa K^2)`` for `solve_factorized`; M is K, and stays so unless W is empty.

    Then its upper triangle and `diagonal` stay K.
    """
    n = M.shape[0]
    out = W if W.shape[0] > 0 else M
    for i in range(n):
        for k in range(0, i - 3, 4):
            store_at(tau * load_four_at(M, i, k), out, i, k)
        for k in range(i - i % 4, i):
            out[i, k] = tau * M[i, k]
        out[i, i] = tau * diagonal[i] + row_scale[i]
    if kappa != 0.0:
        add_square_of_upper(M, diagonal, math.sqrt(tau) * math.sqrt(kappa), room, out)
    return factorize(M, W, panel)


@njit(types.void(DATA_VECTOR, MATRIX, types.intp, DATA_VECTOR, DATA_VECTOR, types.float64, VECTOR, VECTOR), allocates=False)
def combine(z, K, count, a, e, scale, z_new, other):
    """Fill ``z_new = z + sum a_i K_i`` and ``other = scale sum e_i K_i``, sums over the first `count` rows, in one pass."""
    size = z.shape[0]
    block = 3 * WIDTH
    for k in range(0, size - block + 1, block):
        s0, s1, s2 = load(z, k), load(z, k + WIDTH), load(z, k + 2 * WIDTH)
        t0 = t1 = t2 = splat(0.0)
        for i in range(count):
            x = load_at(K, i, k)
            s0 = s0 + a[i] * x
            t0 = t0 + e[i] * x
            x = load_at(K, i, k + WIDTH)
            s1 = s1 + a[i] * x
            t1 = t1 + e[i] * x
            x = load_at(K, i, k + 2 * WIDTH)
            s2 = s2 + a[i] * x
            t2 = t2 + e[i] * x
        store(s0, z_new, k)
        store(s1, z_new, k + WIDTH)
        store(s2, z_new, k + 2 * WIDTH)
        store(scale * t0, other, k)
        store(scale * t1, other, k + WIDTH)
        store(scale * t2, other, k + 2 * WIDTH)
    for k in range(size - size % block, size - WIDTH + 1, WIDTH):
        s0, t0 = load(z, k), splat(0.0)
        for i in range(count):
            x = load_at(K, i, k)
            s0 = s0 + a[i] * x
            t0 = t0 + e[i] * x
        store(s0, z_new, k)
        store(scale * t0, other, k)
    k = size - size % WIDTH
    if k < size:
        s0, t0 = load_some(z, k, size - k), splat(0.0)
        for i in range(count):
            x = load_some_at(K, i, k, size - k)
            s0 = s0 + a[i] * x
            t0 = t0 + e[i] * x
        store_some(s0, z_new, k, size - k)
        store_some(scale * t0, other, k, size - k)


@njit()
def add_scaled(other, tau, k_i):
    """Let ``k_i = tau (k_i + other)``."""
    size = k_i.shape[0]
    for k in range(0, size - WIDTH + 1, WIDTH):
        store(tau * (load(k_i, k) + load(other, k)), k_i, k)
    k = size - size % WIDTH
    if k < size:
        store_some(tau * (load_some(k_i, k, size - k) + load_some(other, k, size - k)), k_i, k, size - k)


@njit(types.void(DATA_MATRIX, DATA_VECTOR, types.float64, VECTOR), allocates=False)
def stage_weights(C, b, gamma, out):
    """Fill `out` with the weights of the rates at the stages in ``sum_i b_i k_i / h``, of variables whose Jacobian is 0.

    Theirs are ``k_i = gamma (h f_i + sum_j C_ij k_j)``.
    """
    for i in range(b.shape[0] - 1, -1, -1):
        out[i] = b[i]
        for k in range(i + 1, b.shape[0]):
            out[i] += C[k, i] * out[k]
        out[i] *= gamma


@njit()
def ends_in_error(A, m, e):
    """Whether the new point is that of the last stage and its vector, which is the error: so it is for Rodas methods."""
    last = A.shape[0] - 1
    for j in range(last):
        if e[j] != 0.0 or m[j] != A[last, j]:
            return False
    return e[last] == 1.0 and m[last] == 1.0


@njit()
def largest_difference(a, b):
    """Return the largest ``|a_j - b_j|``, NaN if there is one."""
    largest = 0.0
    for j in range(a.shape[0]):
        difference = abs(a[j] - b[j])
        if not difference <= largest:  # a NaN must win: `max` would drop it
            largest = difference
        if largest != largest:
            break
    return largest


@njit()
def solve_step(large, M, W, diagonal, b):
    """Solve with the matrix of a step, in place; M, W and `diagonal` as its factorization has left them."""
    if diagonal.shape[0] > M.shape[0]:  # with the marks of a kept matrix
        call_solve_kept(large[SOLVE], (M, diagonal, b))
    else:
        solve_factorized(M, W, b)


@njit()
def multiply_gram(large, M, W, diagonal, b, out):
    """Fill ``out = K b``; M, W and `diagonal` as `rosenbrock_attempt` leaves them."""
    if diagonal.shape[0] > M.shape[0]:
        call_multiply_kept(large[MULTIPLY], (M, diagonal, b, out))
    elif W.shape[0] > 0:
        matvec(M, b, out)
    else:
        upper_matvec(M, diagonal, b, out)


@njit(types.void(RARE, MATRIX, MATRIX, VECTOR, VECTOR, VECTOR), allocates=False)
def contract(large, M, W, diagonal, row_scale, error):
    """Carry an error of nu over the step: multiply by ``(I + h gamma S (K + kappa K^2))^-1``, slower than the flow itself."""
    n = M.shape[0]
    for i in range(n):
        error[i] *= row_scale[i]
    solve_step(large, M, W, diagonal, error[:n])
