"""Steps of rules that shrink, with stages that see the coordinates that are awake alone.

Those that sleep count for nothing in the stages, but their ``Q_j = int q_j`` is wanted.  There q is a product of two linear
forms in vectors that all coordinates share (`Rule.dormant_pair`),

    q_j = 2 s (c x_j.r) (c x_j.(r + w k)),

so that a step of Q_j needs the r and k of its stages, and one product with X for all of them.  (`shrinking.py` adds them up
over many steps.)
"""

import numpy as np
from numba import types

from .._jit import DATA_MATRIX, DATA_VECTOR, INTEGERS, MATRIX, VECTOR, caller, njit
from .._large import NONE
from .._simd import WIDTH, load_some, load_some_at, splat, store_some
from .rosenbrock import contract, rosenbrock_stages
from .state import SYSTEM, WORK, evaluate, log_weight_error, strictness

# Rows of `parts` (PARTS, N + d): z and its velocity at the start of the step, z at its end, and its local error.
_Z, _F, _Z_NEW, _LOCAL, PARTS = range(5)


_AWAKE = types.UniTuple(types.float64, 2)(
    types.intp, types.intp, SYSTEM, SYSTEM, types.float64, VECTOR, VECTOR, types.float64, types.float64, types.float64, MATRIX,
    DATA_MATRIX, DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, types.float64, types.boolean, types.float64, types.float64, MATRIX,
    INTEGERS, MATRIX, VECTOR, VECTOR, VECTOR, VECTOR, MATRIX, MATRIX, MATRIX, VECTOR, VECTOR, VECTOR, MATRIX, VECTOR, MATRIX,
)


@njit(_AWAKE, allocates=False)
def awake_attempt(rule, curvature, awake, system, c, z, f, h, tolerance, ratio_scale, params, A, C, m, e, gamma, filtered,
                  strength, ascent, weights, chosen, parts, z_new, f_new, r, local, K, M, W, panel, diagonal, row_scale, work_n,
                  room, trace):
    """Attempt what `rosenbrock_attempt` does, with stages in the coordinates that are awake, those `chosen`.

    (`strength`, `ascent`) is the rule's `dormant_pair`, `weights` (2, stages) are those of `stage_weights`: of a step, and of
    its error.  Rows 0 and 1 of `trace` hold r and k at the start.
    """
    n, size = system.X.shape[0], chosen.shape[0]
    total = n + size
    z_part, f_part, z_part_new, wrong = parts[_Z, :total], parts[_F, :total], parts[_Z_NEW, :total], parts[_LOCAL, :total]
    for i in range(n):
        z_part[i], f_part[i] = z[i], f[i]
    for k in range(size):
        z_part[n + k], f_part[n + k] = z[n + chosen[k]], f[n + chosen[k]]
    stages = A.shape[0]
    stage_vectors = K.reshape(K.size)[:(stages + 1) * total].reshape((stages + 1, total))
    fits, stiffness = rosenbrock_stages(
        rule, curvature, NONE, awake, c, z_part, f_part, h, params, A, C, m, e, gamma, False, False, z_part_new, r, wrong,
        stage_vectors, M, W, panel, diagonal, diagonal[:0], 0.0, 0.0, row_scale, work_n, room, trace)
    if not fits:
        return np.inf, stiffness
    for i in range(n):
        z_new[i], local[i] = z_part_new[i], wrong[i]
    _shrink_sleepers(system.X, trace, 2.0 * strength * c * c * h, ascent, weights, z[n:], z_new[n:], local[n:])
    for k in range(size):
        z_new[n + chosen[k]], local[n + chosen[k]] = z_part_new[n + k], wrong[n + k]
    if not evaluate(rule, system, c, z_new, params[params.shape[0] - 1], r, f_new, work_n):
        return np.inf, stiffness
    if filtered:
        contract(NONE, M, W, diagonal, row_scale, local)
    return log_weight_error(system.X, local, ratio_scale, strictness(tolerance), system.rows[WORK]) / tolerance, stiffness


@njit(types.void(DATA_MATRIX, MATRIX, types.float64, types.float64, MATRIX, VECTOR, VECTOR, VECTOR), allocates=False)
def _shrink_sleepers(X, trace, scale, ascent, weights, Q, Q_new, wrong):
    """Fill Q at the end of a step, and its error, of all coordinates as if they slept; the stages are a multiple of three."""
    d = X.shape[1]
    for j in range(0, d, WIDTH):
        left = min(WIDTH, d - j)
        step = error = splat(0.0)
        for s in range(0, weights.shape[1], 3):
            # Six sums at a time: a sum waits four cycles for the one before it.
            a0 = b0 = a1 = b1 = a2 = b2 = splat(0.0)
            for i in range(X.shape[0]):
                x = load_some_at(X, i, j, left)
                a0 = a0 + trace[2 * s, i] * x
                b0 = b0 + trace[2 * s + 1, i] * x
                a1 = a1 + trace[2 * s + 2, i] * x
                b1 = b1 + trace[2 * s + 3, i] * x
                a2 = a2 + trace[2 * s + 4, i] * x
                b2 = b2 + trace[2 * s + 5, i] * x
            a0, a1, a2 = a0 * (a0 + ascent * b0), a1 * (a1 + ascent * b1), a2 * (a2 + ascent * b2)
            step = step + (weights[0, s] * a0 + weights[0, s + 1] * a1 + weights[0, s + 2] * a2)
            error = error + (weights[1, s] * a0 + weights[1, s + 1] * a1 + weights[1, s + 2] * a2)
        store_some(load_some(Q, j, left) + scale * step, Q_new, j, left)
        store_some(scale * error, wrong, j, left)


call_awake = caller(_AWAKE)
