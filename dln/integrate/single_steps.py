"""A Rosenbrock step whose stages are in single precision, for loose tolerances: half of the price of double.

What a stage needs is how much it differs from the start of the step, where all is known in double: the weights change by
``u^2 (e^x - 1)``, the residual by X times the change of beta.  Such differences are made in single precision, from products
with X and exponentials of twice as many lanes.  Their rounding errors are parts of the differences themselves, so they shrink
as the flow converges.  The state, its sums, and weights and residual at the end of each step stay in double; what a penalty
adds to the rates there is proportional to the residual, and single.

That is for the gradient and its one-sided penalties (`Rule.one_sided`).  A step says so where single precision does not do:
where its rounding errors would be felt, or its range is left.  Then it has to be made in double.
"""

import math
from collections import namedtuple

import numpy as np
from numba import types

from .._gram import gram_in_blocks, largest_row_sum, mirror
from .._inverse_factor import solve_factorized
from .._jit import (
    DATA_MATRIX,
    DATA_VECTOR,
    INTEGERS,
    MATRIX,
    SINGLE_MATRIX,
    SINGLE_VECTOR,
    VECTOR,
    caller,
    njit,
)
from .._linalg import copy, residual, sums_of_four
from .._simd import WIDTH, load, load_some_at, narrow, store, store_at, zeros
from .rosenbrock import combine, factorize_step, stage_weights
from .single_parts import (
    CHANGE,
    GRADIENT,
    MOVED,
    RATIO,
    STAGE_BETA,
    STAGE_SIZE,
    STAGES,
    WORK,
    ascend,
    first_rates,
    gather_columns,
    grow,
    largest_error,
    multiply,
    multiply_transposed,
    settle,
    shrink,
    shrink_sleepers,
    start_weights,
)
from .state import BETA, SIZE, SYSTEM, place, strictness

#: Tolerances from which on steps may be single.
SINGLE_FROM = 2.5e-3
_UNFELT = 1e-3  # of the tolerance: rounding errors up to it are not felt
_MOST_STIFF = 1e5  # beyond, rounding errors of the Gram matrix would be felt beside 1
_NEARLY_LINEAR = 0.3  # kappa |K| up to which ``K + kappa K^2`` is near enough to a multiple of K for a W-method
_LARGEST_MOVE = 60.0  # of a log weight: its exponential has to be in range

#: X (N, side), and as much room for columns of it; per coordinate what `STAGES` says and then q at each stage, (rows, side);
#: vectors of N numbers in single and in double precision, the stages of nu, and the inverse of the matrix of a step, all filled
#: up with zeros; the weights of rates in stages, in the step and in its error, (stages + 2, stages).
Singles = namedtuple("Singles", "data part rows short vectors stages inverse weights")
SINGLES = types.NamedTuple((SINGLE_MATRIX, SINGLE_VECTOR, SINGLE_MATRIX, SINGLE_MATRIX, *(MATRIX,) * 4), Singles)
_ZEROS, _START, _MOVE, _OTHER, _R, _PENALTY, _VECTORS = range(7)
_NU, _SCALED, _FALLS, _SHORT = range(4)

_ALIGNED = 16  # numbers in a cache line


@njit()
def single_side(columns):
    """Return the length of rows of so many numbers, filled up to whole cache lines."""
    return columns + -columns % _ALIGNED


@njit(SINGLES(DATA_MATRIX, types.intp, types.boolean, types.intp, types.boolean))
def singles_of(X, stages, shrinks, room, wanted):
    """Return what `single_attempt` works in, with X; empty unless `wanted`.  `room` is what the data awake may take, or 0."""
    n, d = X.shape
    sleepers = room > 0
    side = single_side(d) if wanted else 0
    rows = n if wanted else 0
    data = _aligned(rows * side).reshape((rows, side))
    for i in range(rows):
        for j in range(d):
            data[i, j] = X[i, j]
        for j in range(d, side):
            data[i, j] = 0.0
    count = (STAGES + (stages if shrinks else 0)) if wanted else 0
    short = (_SHORT + (2 * stages if shrinks and sleepers else 0)) if wanted else 0
    length = max(n, stages)
    length += -length % (4 * WIDTH)
    singles = Singles(
        data, _aligned(rows * single_side(min(d, room // max(n, 1)))), _aligned(count * side).reshape((count, side)),
        _aligned(short * length).reshape((short, length)), np.zeros((_VECTORS if wanted else 0, length)),
        np.zeros((stages if wanted else 0, length)), np.zeros((n + -n % 4 if wanted else 0, length)),
        np.zeros((stages + 2 if wanted and shrinks else 0, stages)))
    singles.short[:] = 0.0
    return singles


@njit(SINGLE_VECTOR(types.intp))
def _aligned(size):
    room = np.empty(size + _ALIGNED - 1, dtype=np.float32)
    first = -(room.ctypes.data // 4) % _ALIGNED
    return room[first:first + size]


@njit(types.void(SINGLES, DATA_MATRIX, DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, types.float64), allocates=False)
def weigh_stages(singles, A, C, m, e, gamma):
    """Fill the weights of rates in stages, in the step and in its error, of variables whose Jacobian is 0."""
    stages = m.shape[0]
    for i in range(stages):
        stage_weights(C, A[i], gamma, singles.weights[i])
    stage_weights(C, m, gamma, singles.weights[stages])
    stage_weights(C, e, gamma, singles.weights[stages + 1])


_ATTEMPT = types.UniTuple(types.float64, 2)(
    SYSTEM, SYSTEM, SINGLES, types.float64, VECTOR, VECTOR, types.float64, types.float64, types.float64,
    DATA_MATRIX, DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, types.float64, types.boolean, types.float64, types.float64,
    types.float64, INTEGERS, types.boolean, VECTOR, VECTOR, VECTOR, VECTOR, MATRIX, MATRIX, VECTOR, VECTOR, VECTOR,
    VECTOR, MATRIX,
)


@njit(_ATTEMPT, allocates=False)
def single_attempt(here, system, singles, c, z, f, h, tolerance, ratio_scale, A, C, m, e, gamma, filtered, strength, ascent,
                   noise, chosen, anew, z_new, f_new, r, local, M, W, panel, diagonal, row_scale, room, trace):
    """Attempt what `rosenbrock_attempt` does, with stages in single precision; return (error / tolerance, stiffness h |K|).

    The state is that of `here`, and stays until `system`, which may be the same, becomes that of the end.  (`strength`,
    `ascent`) is `Rule.one_sided`; times h and a change of beta, `noise` is what rounding errors do to the logarithms of the
    weights.  Only the `chosen` coordinates move in the stages, all if there are none; `anew` says that they are others than in
    the call before.  Q of those that sleep is found as in `awake_steps.py`; rows 0 and 1 of `trace` hold r and k at the start,
    `keep_penalty` has k at the end.  NaN, twice, where single precision does not do: then nothing has changed but work.
    """
    n, d = here.X.shape
    stages = A.shape[0]
    shrinks = z.shape[0] > n
    rows, weights, vectors = singles.rows, singles.weights, singles.vectors
    start, move, other, at_stage, penalty = vectors[_START], vectors[_MOVE], vectors[_OTHER], vectors[_R], vectors[_PENALTY]
    nu, scaled, falls = singles.short[_NU], singles.short[_SCALED], singles.short[_FALLS]
    data = singles.data
    sleepers = chosen.shape[0] > 0
    if sleepers:
        side = single_side(chosen.shape[0])
        data = singles.part[:n * side].reshape((n, side))
        if anew:
            gather_columns(singles.data, chosen, data)
    side = data.shape[1]
    start_weights(here.rows, chosen, d, 4.0 * c, side, rows)
    gram_in_blocks(data, rows[WORK], rows[STAGE_BETA:STAGE_SIZE + 1], M)
    mirror(M, True)
    largest_row = largest_row_sum(M)
    for i in range(n):
        diagonal[i] = M[i, i]
        start[i] = r[i]
    stiffness = h * largest_row * (1.0 + strength * largest_row)
    tau, factor, kappa = h * gamma, h * gamma, strength
    if strength * largest_row <= _NEARLY_LINEAR:
        factor, kappa = tau * (1.0 + strength * _mean(diagonal[:n])), 0.0
    row_scale[:] = 1.0
    if not (stiffness <= _MOST_STIFF and factorize_step(M, diagonal, factor, kappa, row_scale, W, panel, room)):
        return np.nan, np.nan
    if W.shape[0] > 0:
        _invert(W, singles.inverse)
    furthest = most = 0.0
    for i in range(stages):
        k_i = singles.stages[i]
        if i == 0:
            for k in range(n):
                other[k] = tau * f[k]
            if shrinks:
                first_rates(f[n:], chosen, side, rows[STAGES])
        else:
            combine(vectors[_ZEROS], singles.stages, i, A[i], C[i], 1.0 / h, move, other)
            _in_single(-4.0, move, nu)
            for s in range(i if shrinks else 0):
                falls[s] = -4.0 * h * weights[i, s]
            multiply_transposed(data, nu, rows[RATIO])
            moved, squares = grow(falls, i, shrinks, side, rows)
            furthest, most = max(furthest, moved), max(most, squares)
            multiply(data, rows[CHANGE], at_stage)
            _add(at_stage, 1.0, start, at_stage)
            if shrinks:
                _penalize(data, c, ascent, 2.0 * strength, at_stage, scaled, penalty, rows, rows[STAGES + i])
                if sleepers:
                    copy(at_stage[:n], trace[2 * i])
                    copy(penalty[:n], trace[2 * i + 1])
                _add(at_stage, strength, penalty, at_stage)
            _add(other, c, at_stage, other)
            _add(vectors[_ZEROS], tau, other, other)
        _solve(M, W, singles.inverse, other, k_i)
    if not (furthest <= _LARGEST_MOVE and noise * h * math.sqrt(most) <= _UNFELT * tolerance):
        return np.nan, np.nan
    combine(vectors[_ZEROS], singles.stages, stages, m, e, 1.0, move, other)
    finite = 0.0
    for k in range(n):
        finite += abs(move[k])
        z_new[k] = z[k] + move[k]
        local[k] = other[k]
    if not finite < np.inf:
        return np.nan, np.nan
    if shrinks:
        if sleepers:
            shrink_sleepers(singles.data, trace, c, ascent, 2.0 * strength * h, weights[stages:], singles.short[_SHORT:],
                             rows, z[n:], z_new[n:], local[n:])
        settle(weights[stages:], h, side, chosen, rows, z[n:], z_new[n:], local[n:])
    if not place(system, z_new):
        return np.inf, stiffness
    _rates(system, singles, c, strength, ascent, r, f_new)
    if filtered:
        _solve(M, W, singles.inverse, other, move)
        copy(move[:n], local[:n])
        _in_single(2.0 / ratio_scale, move, nu)
    else:
        _in_single(2.0 / ratio_scale, other, nu)
    multiply_transposed(singles.data, nu, rows[RATIO])
    return largest_error(2.0 * strictness(tolerance), shrinks, rows) / tolerance, stiffness


@njit()
def keep_penalty(singles, out):
    """Fill `out` (n,) with k at the end of a step; see `Rule.dormant_pair`."""
    copy(singles.vectors[_PENALTY, :out.shape[0]], out)


@njit()
def _rates(system, singles, c, strength, ascent, r, f):
    """Fill the residual and the rates f at the state of the system."""
    rows, start, penalty = singles.rows, singles.vectors[_START], singles.vectors[_PENALTY]
    n, d = system.X.shape
    residual(system.X, system.rows[BETA], system.y, r)
    for k in range(n):
        start[k] = r[k]
        f[k] = c * r[k]
    if f.shape[0] == n:
        return
    for j in range(d):
        rows[STAGE_BETA, j] = system.rows[BETA, j]
        rows[STAGE_SIZE, j] = system.rows[SIZE, j]
    for j in range(d, rows.shape[1]):
        rows[STAGE_BETA, j] = rows[STAGE_SIZE, j] = 0.0
    _penalize(singles.data, c, ascent, 2.0 * strength, start, singles.short[_SCALED], penalty, rows, rows[WORK])
    for k in range(n):
        f[k] += c * strength * penalty[k]
    for j in range(d):
        f[n + j] = rows[WORK, j]


@njit()
def _penalize(data, c, ascent, factor, residual, scaled, penalty, rows, q):
    """Fill k and q of a one-sided penalty, given a residual."""
    _in_single(c, residual, scaled)
    multiply_transposed(data, scaled, rows[GRADIENT])
    ascend(ascent, data.shape[1], rows)
    multiply(data, rows[MOVED], penalty)
    if ascent != 0.0:
        _in_single(c * ascent, penalty, scaled)
        multiply_transposed(data, scaled, rows[RATIO])
    shrink(factor, ascent != 0.0, data.shape[1], rows, q)


# Vectors of N numbers, filled up with zeros.


@njit()
def _in_single(factor, a, out):
    """out = factor a, in single precision."""
    for k in range(0, a.shape[0], 2 * WIDTH):
        store(narrow(factor * load(a, k), factor * load(a, k + WIDTH)), out, k)


@njit()
def _add(a, factor, b, out):
    """out = a + factor b."""
    for k in range(0, a.shape[0], WIDTH):
        store(load(a, k) + factor * load(b, k), out, k)


@njit()
def _mean(a):
    total = 0.0
    for x in a:
        total += x
    return total / a.shape[0]


@njit(types.void(MATRIX, MATRIX), allocates=False)
def _invert(W, inverse):
    """Fill the inverse of a matrix, given W as `invert_factor` leaves it, with zeros above its diagonal: ``W^T D^-1 W``.

    It is applied seven times, at two thirds of the price of two triangular products.
    """
    m = W.shape[1]
    for j in range(0, m, WIDTH):
        left = min(WIDTH, m - j)
        for i in range(0, m, 4):
            s0 = s1 = s2 = s3 = zeros(W)
            for k in range(max(i, j), m):
                x = W[m, k] * load_some_at(W, k, j, left)
                s0 = s0 + W[k, i] * x
                s1 = s1 + W[k, i + 1] * x
                s2 = s2 + W[k, i + 2] * x
                s3 = s3 + W[k, i + 3] * x
            store_at(s0, inverse, i, j)
            store_at(s1, inverse, i + 1, j)
            store_at(s2, inverse, i + 2, j)
            store_at(s3, inverse, i + 3, j)


@njit()
def _solve(M, W, inverse, b, x):
    """Fill x with the solution, given what `factorize_step` and `_invert` leave."""
    if W.shape[0] == 0:
        copy(b, x)
        solve_factorized(M, W, x[:M.shape[0]])
        return
    for j in range(0, x.shape[0], 4 * WIDTH):
        s0, s1, s2, s3 = sums_of_four(inverse, b, j)
        store(s0, x, j)
        store(s1, x, j + WIDTH)
        store(s2, x, j + 2 * WIDTH)
        store(s3, x, j + 3 * WIDTH)


call_single = caller(_ATTEMPT)
