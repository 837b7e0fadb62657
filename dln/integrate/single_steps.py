"""A Rosenbrock step whose stages are in single precision, for loose tolerances: half of the price of double.

What a stage needs is how much it differs from the start of the step, where all is known in double: the weights change by
``u^2 (e^x - 1)``, the residual by X times the change of beta.  Such differences are made in single precision, from products
with X and exponentials of twice as many lanes.  Their rounding errors are parts of the differences themselves, so they shrink
as the flow converges.  The state, its sums and the evaluation at the end of each step stay in double.

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
from .._large import NO_KERNELS
from .._linalg import copy, eight_sums, four_sums, one_sum, sums_of_four, sums_of_one
from .._simd import (
    WIDTH,
    joined,
    lanes,
    larger,
    largest_lane,
    load,
    load_at,
    load_some_at,
    modulus,
    narrow,
    power_of_half,
    power_of_two,
    splat_four,
    store,
    store_at,
    total,
    zeros,
)
from .rosenbrock import combine, contract, factorize_step, stage_weights
from .state import BETA, SIZE, SYSTEM, evaluate, strictness

#: Tolerances from which on steps may be single.
SINGLE_FROM = 2.5e-3
_UNFELT = 1e-3  # of the tolerance: rounding errors up to it are not felt
_MOST_STIFF = 1e5  # beyond, rounding errors of the Gram matrix would be felt beside 1
_NEARLY_LINEAR = 0.3  # kappa |K| up to which ``K + kappa K^2`` is near enough to a multiple of K for a W-method
_LARGEST_MOVE = 60.0  # of a log weight: its exponential has to be in range

#: X (N, side), and as much room for columns of it; per coordinate what `_ROWS` says and then q at each stage, (rows, side);
#: vectors of N numbers in single and in double precision, the stages of nu, and the inverse of the matrix of a step, all filled
#: up with zeros; the weights of rates in stages, in the step and in its error, (stages + 2, stages).
Singles = namedtuple("Singles", "data part rows short vectors stages inverse weights")
SINGLES = types.NamedTuple((SINGLE_MATRIX, SINGLE_VECTOR, SINGLE_MATRIX, SINGLE_MATRIX, *(MATRIX,) * 4), Singles)
# u^2 and v^2 at the start; the change of beta; beta, u^2 + v^2, the gradient and what the penalty moves at a stage; the error
# of Q, of all coordinates; two rows of work; q at each stage.
_U, _V, _CHANGE, _BETA, _SIZE, _G, _MOVED, _WRONG, _WORK, _MORE_WORK, _ROWS = range(11)
_ZEROS, _START, _MOVE, _OTHER, _R, _PENALTY, _VECTORS = range(7)
_NU, _SCALED, _FALLS, _SHORT = range(4)

_ALIGNED = 16  # numbers in a cache line


@njit()
def single_side(columns):
    """Return the length of rows of so many numbers, filled up to whole cache lines."""
    return columns + -columns % _ALIGNED


@njit(SINGLES(DATA_MATRIX, types.intp, types.boolean, types.boolean, types.boolean))
def singles_of(X, stages, shrinks, sleepers, wanted):
    """Return what `single_attempt` works in, with X; empty unless `wanted`."""
    n, d = X.shape
    side = single_side(d) if wanted else 0
    rows = n if wanted else 0
    data = _aligned(rows * side).reshape((rows, side))
    for i in range(rows):
        for j in range(d):
            data[i, j] = X[i, j]
        for j in range(d, side):
            data[i, j] = 0.0
    count = (_ROWS + (stages if shrinks else 0)) if wanted else 0
    short = (_SHORT + (2 * stages if shrinks and sleepers else 0)) if wanted else 0
    length = max(n, stages)
    length += -length % (4 * WIDTH)
    singles = Singles(
        data, _aligned(rows * side if sleepers else 0), _aligned(count * side).reshape((count, side)),
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
    types.intp, SYSTEM, SYSTEM, SINGLES, types.float64, VECTOR, VECTOR, types.float64, types.float64, types.float64, MATRIX,
    DATA_MATRIX, DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, types.float64, types.boolean, types.float64, types.float64,
    types.float64, INTEGERS, types.boolean, VECTOR, VECTOR, VECTOR, VECTOR, MATRIX, MATRIX, VECTOR, VECTOR, VECTOR,
    MATRIX, VECTOR, MATRIX,
)


@njit(_ATTEMPT, allocates=False)
def single_attempt(rule, here, system, singles, c, z, f, h, tolerance, ratio_scale, params, A, C, m, e, gamma, filtered,
                   strength, ascent, noise, chosen, anew, z_new, f_new, r, local, M, W, panel, diagonal, row_scale, work_n,
                   room, trace):
    """Attempt what `rosenbrock_attempt` does, with stages in single precision; return (error / tolerance, stiffness h |K|).

    The state is that of `here`, and stays until `system`, which may be the same, becomes that of the end.  (`strength`,
    `ascent`) is `Rule.one_sided`; times h and a change of beta, `noise` is what rounding errors do to the logarithms of the
    weights.  Only the `chosen` coordinates move in the stages, all if there are none; `anew` says that they are others than in
    the call before.  Q of those that sleep is found as in `awake_steps.py`; rows 0 and 1 of `trace` hold r and k at the start.
    NaN, twice, where single precision does not do: then nothing has changed but work.
    """
    n, d = here.X.shape
    stages = A.shape[0]
    shrinks = z.shape[0] > n
    rows, weights, vectors = singles.rows, singles.weights, singles.vectors
    start, move, other, residual, penalty = vectors[_START], vectors[_MOVE], vectors[_OTHER], vectors[_R], vectors[_PENALTY]
    nu, scaled, falls = singles.short[_NU], singles.short[_SCALED], singles.short[_FALLS]
    data = singles.data
    sleepers = chosen.shape[0] > 0
    if sleepers:
        side = single_side(chosen.shape[0])
        data = singles.part[:n * side].reshape((n, side))
        if anew:
            _gather(singles.data, chosen, data)
    side = data.shape[1]
    _start(here.rows, chosen, d, 4.0 * c, side, rows)
    gram_in_blocks(data, rows[_WORK], rows[_BETA:_SIZE + 1], M)
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
                _first_rates(f[n:], chosen, side, rows[_ROWS])
        else:
            combine(vectors[_ZEROS], singles.stages, i, A[i], C[i], 1.0 / h, move, other)
            _in_single(-4.0, move, nu)
            for s in range(i if shrinks else 0):
                falls[s] = -4.0 * h * weights[i, s]
            moved, squares = _grow(data, nu, falls, i, shrinks, rows)
            furthest, most = max(furthest, moved), max(most, squares)
            _multiply(data, rows[_CHANGE], residual)
            _add(residual, 1.0, start, residual)
            if shrinks:
                _in_single(c, residual, scaled)
                _ascend(data, scaled, ascent, rows)
                _multiply(data, rows[_MOVED], penalty)
                _in_single(c * ascent, penalty, scaled)
                _shrink(data, scaled, 2.0 * strength, rows, rows[_ROWS + i])
                if sleepers:
                    copy(residual[:n], trace[2 * i])
                    copy(penalty[:n], trace[2 * i + 1])
                _add(residual, strength, penalty, residual)
            _add(other, c, residual, other)
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
            _shrink_sleepers(singles.data, trace, c, ascent, 2.0 * strength * h, weights[stages:], singles.short[_SHORT:],
                             rows, z[n:], z_new[n:], local[n:])
        _settle(weights[stages:], h, side, chosen, rows, z[n:], z_new[n:], local[n:])
    if not evaluate(rule, system, c, z_new, params[0], r, f_new, work_n):
        return np.inf, stiffness
    if filtered:
        contract(NO_KERNELS, M, W, diagonal, row_scale, local)
        for k in range(n):
            other[k] = local[k]
    _in_single(2.0 / ratio_scale, other, nu)
    return _largest_error(singles.data, nu, 2.0 * strictness(tolerance), shrinks, rows) / tolerance, stiffness


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


@njit(types.float64(SINGLE_MATRIX, SINGLE_VECTOR, types.float64, types.boolean, SINGLE_MATRIX), allocates=False)
def _largest_error(X, a, strict, shrinks, rows):
    """Return the largest entry of ``|X^T a|`` and `strict` times the error of Q; NaN if one is, as `log_weight_error`."""
    columns, width = X.shape[1], lanes(X)
    largest = sums = zeros(X)
    j = 0
    while j + 4 * width <= columns:
        s0, s1, s2, s3 = sums_of_four(X, a, j)
        largest, sums = _larger_error(s0, strict, shrinks, j, rows, largest, sums)
        largest, sums = _larger_error(s1, strict, shrinks, j + width, rows, largest, sums)
        largest, sums = _larger_error(s2, strict, shrinks, j + 2 * width, rows, largest, sums)
        largest, sums = _larger_error(s3, strict, shrinks, j + 3 * width, rows, largest, sums)
        j += 4 * width
    while j < columns:
        largest, sums = _larger_error(sums_of_one(X, a, j), strict, shrinks, j, rows, largest, sums)
        j += width
    return largest_lane(largest) if total(sums) >= 0.0 else np.nan


@njit()
def _larger_error(error, strict, shrinks, j, rows, largest, sums):
    error = modulus(error)
    if shrinks:
        error = error + strict * modulus(load_at(rows, _WRONG, j))
    return larger(error, largest), sums + error


@njit()
def _mean(a):
    total = 0.0
    for x in a:
        total += x
    return total / a.shape[0]


@njit(types.void(SINGLE_MATRIX, INTEGERS, SINGLE_MATRIX), allocates=False)
def _gather(data, chosen, part):
    """Fill `part` with the chosen columns of the data, and zeros."""
    size = chosen.shape[0]
    for i in range(part.shape[0]):
        for k in range(size):
            part[i, k] = data[i, chosen[k]]
        for k in range(size, part.shape[1]):
            part[i, k] = 0.0


@njit()
def _start(start, chosen, d, coupling, side, rows):
    """Fill u^2, v^2 and, in the first row of work, the weights of the Gram matrix."""
    size = chosen.shape[0]
    if size == 0:
        size = d
        for j in range(d):
            rows[_U, j] = 0.5 * (start[SIZE, j] + start[BETA, j])
            rows[_V, j] = 0.5 * (start[SIZE, j] - start[BETA, j])
            rows[_WORK, j] = coupling * start[SIZE, j]
    else:
        for k in range(size):
            beta, size_k = start[BETA, chosen[k]], start[SIZE, chosen[k]]
            rows[_U, k] = 0.5 * (size_k + beta)
            rows[_V, k] = 0.5 * (size_k - beta)
            rows[_WORK, k] = coupling * size_k
    for j in range(size, side):
        rows[_U, j] = rows[_V, j] = rows[_WORK, j] = 0.0


@njit(types.void(SINGLE_MATRIX, SINGLE_VECTOR, VECTOR), allocates=False)
def _multiply(X, b, out):
    """out = X b, filled up with zeros."""
    # Eight at a time, as it will be read: a load that finds two stores under way waits for both.
    rows = X.shape[0]
    for i in range(0, rows - 7, 8):
        first, second = eight_sums(X, b, i)
        store(joined(first, second), out, i)
    i = rows - rows % 8
    if i + 4 <= rows:
        store(joined(four_sums(X, b, i), splat_four(0.0)), out, i)
        i += 4
    while i < rows:
        out[i] = one_sum(X, b, i)
        i += 1


@njit(types.void(MATRIX, MATRIX), allocates=False)
def _invert(W, inverse):
    """Fill the inverse of a matrix, given W as `invert_factor` leaves it, with zeros above its diagonal: ``W^T D^-1 W``.

    It is applied seven times, at a third of the price of two triangular products.
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


# What is done to each vector of the sums X^T a: four at a time, then one by one.


@njit(types.UniTuple(types.float64, 2)(SINGLE_MATRIX, SINGLE_VECTOR, SINGLE_VECTOR, types.intp, types.boolean, SINGLE_MATRIX),
      allocates=False)
def _grow(X, nu, falls, stage, shrinks, rows):
    """Fill what the weights are at a stage, log(u/v) being larger by ``X^T nu`` and log(uv) by sums of q times `falls`.

    Return how far the logarithm of a weight is from that at the start, and the largest square of the change of beta.
    """
    columns, width = X.shape[1], lanes(X)
    furthest = squares = zeros(X)
    j = 0
    while j + 4 * width <= columns:
        s0, s1, s2, s3 = sums_of_four(X, nu, j)
        furthest, squares = _grow_one(s0, falls, stage, shrinks, j, rows, furthest, squares)
        furthest, squares = _grow_one(s1, falls, stage, shrinks, j + width, rows, furthest, squares)
        furthest, squares = _grow_one(s2, falls, stage, shrinks, j + 2 * width, rows, furthest, squares)
        furthest, squares = _grow_one(s3, falls, stage, shrinks, j + 3 * width, rows, furthest, squares)
        j += 4 * width
    while j < columns:
        furthest, squares = _grow_one(sums_of_one(X, nu, j), falls, stage, shrinks, j, rows, furthest, squares)
        j += width
    return largest_lane(furthest), total(squares)


@njit()
def _grow_one(ratio, falls, stage, shrinks, j, rows, furthest, squares):
    u2, v2 = load_at(rows, _U, j), load_at(rows, _V, j)
    if shrinks:
        product = zeros(falls)
        for s in range(stage):
            product = product + falls[s] * load_at(rows, _ROWS + s, j)
        up, down = u2 * _expm1(product + ratio), v2 * _expm1(product - ratio)
        furthest = larger(furthest, modulus(product) + modulus(ratio))
    else:
        up, down = _expm1_of_both_signs(ratio)
        up, down = u2 * up, v2 * down
        furthest = larger(furthest, modulus(ratio))
    change = up - down
    store_at(change, rows, _CHANGE, j)
    if shrinks:
        store_at((u2 - v2) + change, rows, _BETA, j)
        store_at((u2 + v2) + (up + down), rows, _SIZE, j)
    return furthest, squares + change * change


@njit(types.void(SINGLE_MATRIX, SINGLE_VECTOR, types.float64, SINGLE_MATRIX), allocates=False)
def _ascend(X, a, ascent, rows):
    """Fill the gradient ``g = X^T a``, and what the penalty moves, ``4 g (size + ascent g beta)``."""
    columns, width = X.shape[1], lanes(X)
    j = 0
    while j + 4 * width <= columns:
        s0, s1, s2, s3 = sums_of_four(X, a, j)
        _ascend_one(s0, ascent, j, rows)
        _ascend_one(s1, ascent, j + width, rows)
        _ascend_one(s2, ascent, j + 2 * width, rows)
        _ascend_one(s3, ascent, j + 3 * width, rows)
        j += 4 * width
    while j < columns:
        _ascend_one(sums_of_one(X, a, j), ascent, j, rows)
        j += width


@njit()
def _ascend_one(g, ascent, j, rows):
    store_at(g, rows, _G, j)
    store_at((4.0 * g) * (load_at(rows, _SIZE, j) + (ascent * g) * load_at(rows, _BETA, j)), rows, _MOVED, j)


@njit(types.void(SINGLE_MATRIX, SINGLE_VECTOR, types.float64, SINGLE_MATRIX, SINGLE_VECTOR), allocates=False)
def _shrink(X, a, factor, rows, q):
    """Fill ``q = factor g (g + X^T a)``."""
    columns, width = X.shape[1], lanes(X)
    j = 0
    while j + 4 * width <= columns:
        s0, s1, s2, s3 = sums_of_four(X, a, j)
        _shrink_one(s0, factor, j, rows, q)
        _shrink_one(s1, factor, j + width, rows, q)
        _shrink_one(s2, factor, j + 2 * width, rows, q)
        _shrink_one(s3, factor, j + 3 * width, rows, q)
        j += 4 * width
    while j < columns:
        _shrink_one(sums_of_one(X, a, j), factor, j, rows, q)
        j += width


@njit()
def _shrink_one(change, factor, j, rows, q):
    g = load_at(rows, _G, j)
    store((factor * g) * (g + change), q, j)


@njit(types.void(MATRIX, types.float64, types.intp, INTEGERS, SINGLE_MATRIX, VECTOR, VECTOR, VECTOR), allocates=False)
def _settle(weights, h, side, chosen, rows, Q, Q_new, wrong):
    """Fill Q at the end of a step, and its error, of the chosen coordinates; of all if there are none."""
    width = lanes(rows)
    for j in range(0, side, width):
        gain = error = zeros(rows)
        for s in range(weights.shape[1]):
            q = load_at(rows, _ROWS + s, j)
            gain = gain + weights[0, s] * q
            error = error + weights[1, s] * q
        store_at(h * gain, rows, _WORK, j)
        store_at(h * error, rows, _MORE_WORK if chosen.shape[0] > 0 else _WRONG, j)
    for k in range(chosen.shape[0]):
        rows[_WRONG, chosen[k]] = rows[_MORE_WORK, k]
        Q_new[chosen[k]] = Q[chosen[k]] + rows[_WORK, k]
        wrong[chosen[k]] = rows[_MORE_WORK, k]
    if chosen.shape[0] == 0:
        for j in range(Q.shape[0]):
            Q_new[j] = Q[j] + rows[_WORK, j]
            wrong[j] = rows[_WRONG, j]


@njit(types.void(SINGLE_MATRIX, MATRIX, types.float64, types.float64, types.float64, MATRIX, SINGLE_MATRIX, SINGLE_MATRIX,
                 VECTOR, VECTOR, VECTOR), allocates=False)
def _shrink_sleepers(X, trace, c, ascent, scale, weights, short, rows, Q, Q_new, wrong):
    """Fill Q at the end of a step, and its error, of all coordinates as if they slept; the stages are a multiple of three."""
    n, width, stages = X.shape[0], lanes(X), weights.shape[1]
    for s in range(stages):
        for i in range(n):
            short[2 * s, i] = c * trace[2 * s, i]
            short[2 * s + 1, i] = c * ascent * trace[2 * s + 1, i]
    for j in range(0, X.shape[1], width):
        step = error = zeros(X)
        for s in range(0, stages, 3):
            # Six sums at a time: a sum waits four cycles for the one before it.
            a0 = b0 = a1 = b1 = a2 = b2 = zeros(X)
            for i in range(n):
                x = load_at(X, i, j)
                a0 = a0 + short[2 * s, i] * x
                b0 = b0 + short[2 * s + 1, i] * x
                a1 = a1 + short[2 * s + 2, i] * x
                b1 = b1 + short[2 * s + 3, i] * x
                a2 = a2 + short[2 * s + 4, i] * x
                b2 = b2 + short[2 * s + 5, i] * x
            a0, a1, a2 = a0 * (a0 + b0), a1 * (a1 + b1), a2 * (a2 + b2)
            step = step + (weights[0, s] * a0 + weights[0, s + 1] * a1 + weights[0, s + 2] * a2)
            error = error + (weights[1, s] * a0 + weights[1, s + 1] * a1 + weights[1, s + 2] * a2)
        store_at(scale * step, rows, _WORK, j)
        store_at(scale * error, rows, _WRONG, j)
    for j in range(Q.shape[0]):
        Q_new[j] = Q[j] + rows[_WORK, j]
        wrong[j] = rows[_WRONG, j]


@njit()
def _first_rates(q, chosen, side, rates):
    """Fill the rates of Q at the start of a step, of the chosen coordinates or of all."""
    size = chosen.shape[0]
    for k in range(size):
        rates[k] = q[chosen[k]]
    if size == 0:
        size = q.shape[0]
        for j in range(size):
            rates[j] = q[j]
    for j in range(size, side):
        rates[j] = 0.0


# e^x - 1 as in `_exponentials`, to single precision.

_MAGIC = 12582912.0  # 1.5 * 2^23
_LOG2E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440054690583e-4  # the first has so few digits that products with k are exact
_E0, _E1, _E2 = 0.5, 1.0 / 24.0, 1.0 / 720.0
_O0, _O1, _O2 = 1.0 / 6.0, 1.0 / 120.0, 1.0 / 5040.0


@njit()
def _series(x):
    """Return what `power_of_two` takes, f with ``x = k ln 2 + f``, and the even and odd parts of ``(e^f - 1 - f)/f^2``."""
    shifted = x * _LOG2E + _MAGIC
    k = shifted - _MAGIC
    f = (x - k * _LN2_HIGH) - k * _LN2_LOW
    square = f * f
    return shifted, f, square * (_E0 + square * (_E1 + square * _E2)), square * (f * (_O0 + square * (_O1 + square * _O2)))


@njit()
def _expm1(x):
    shifted, f, even, odd = _series(x)
    power = power_of_two(shifted)
    return (power - 1.0) + power * (f + (even + odd))


@njit()
def _expm1_of_both_signs(x):
    """Return e^x - 1 and e^-x - 1."""
    shifted, f, even, odd = _series(x)
    up, down = power_of_two(shifted), power_of_half(shifted)
    return (up - 1.0) + up * (f + (even + odd)), (down - 1.0) + down * (even - (f + odd))


call_single = caller(_ATTEMPT)
