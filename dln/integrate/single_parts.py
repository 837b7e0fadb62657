"""Parts of steps in single precision: products with X, exponentials, and what is done to each coordinate."""

import numpy as np
from numba import types

from .._jit import INTEGERS, MATRIX, SINGLE_MATRIX, SINGLE_VECTOR, VECTOR, njit
from .._linalg import eight_sums, four_sums, one_sum, sums_of_four, sums_of_one, sums_of_two
from .._simd import (
    joined,
    lanes,
    larger,
    largest_lane,
    load_at,
    modulus,
    power_of_half,
    power_of_two,
    splat_four,
    store,
    store_at,
    total,
    zeros,
)
from .state import BETA, SIZE

#: Rows of what is known of the coordinates.  At the start: u^2 and v^2.  At a stage: the change of beta; beta, u^2 + v^2, the
#: gradient, and what the penalty moves.  The latest product with X^T, the error of Q (both of all coordinates at the end of a
#: step), two rows of work, and from STAGES on q at each stage.
U, V, CHANGE, STAGE_BETA, STAGE_SIZE, GRADIENT, MOVED, RATIO, WRONG, WORK, MORE_WORK, STAGES = range(12)


@njit(types.void(SINGLE_MATRIX, INTEGERS, SINGLE_MATRIX), allocates=False)
def gather_columns(data, chosen, part):
    """Fill `part` with the chosen columns of the data, and zeros."""
    size = chosen.shape[0]
    for i in range(part.shape[0]):
        for k in range(size):
            part[i, k] = data[i, chosen[k]]
        for k in range(size, part.shape[1]):
            part[i, k] = 0.0


@njit()
def start_weights(start, chosen, d, coupling, side, rows):
    """Fill u^2, v^2 and, in the first row of work, the weights of the Gram matrix."""
    size = chosen.shape[0]
    if size == 0:
        size = d
        for j in range(d):
            rows[U, j] = 0.5 * (start[SIZE, j] + start[BETA, j])
            rows[V, j] = 0.5 * (start[SIZE, j] - start[BETA, j])
            rows[WORK, j] = coupling * start[SIZE, j]
    else:
        for k in range(size):
            beta, size_k = start[BETA, chosen[k]], start[SIZE, chosen[k]]
            rows[U, k] = 0.5 * (size_k + beta)
            rows[V, k] = 0.5 * (size_k - beta)
            rows[WORK, k] = coupling * size_k
    for j in range(size, side):
        rows[U, j] = rows[V, j] = rows[WORK, j] = 0.0


@njit(types.void(SINGLE_MATRIX, SINGLE_VECTOR, VECTOR), allocates=False)
def multiply(X, b, out):
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


@njit(types.void(SINGLE_MATRIX, SINGLE_VECTOR, SINGLE_VECTOR), allocates=False)
def multiply_transposed(X, a, out):
    """out = X^T a, in whole vectors."""
    columns, width = X.shape[1], lanes(X)
    j = 0
    while j + 4 * width <= columns:
        s0, s1, s2, s3 = sums_of_four(X, a, j)
        store(s0, out, j)
        store(s1, out, j + width)
        store(s2, out, j + 2 * width)
        store(s3, out, j + 3 * width)
        j += 4 * width
    if j + 2 * width <= columns:
        s0, s1 = sums_of_two(X, a, j)
        store(s0, out, j)
        store(s1, out, j + width)
        j += 2 * width
    if j < columns:
        store(sums_of_one(X, a, j), out, j)


@njit(types.UniTuple(types.float64, 2)(SINGLE_VECTOR, types.intp, types.boolean, types.intp, SINGLE_MATRIX), allocates=False)
def grow(falls, stage, shrinks, side, rows):
    """Fill what the weights are at a stage, given how log(u/v) changes; log(uv) does by sums of q times `falls`.

    Return how far the logarithm of a weight is from that at the start, and the square of the change of beta.
    """
    furthest = squares = zeros(rows)
    for j in range(0, side, lanes(rows)):
        u2, v2, ratio = load_at(rows, U, j), load_at(rows, V, j), load_at(rows, RATIO, j)
        if shrinks:
            product = zeros(rows)
            for s in range(stage):
                product = product + falls[s] * load_at(rows, STAGES + s, j)
            up, down = u2 * _expm1(product + ratio), v2 * _expm1(product - ratio)
            furthest = larger(furthest, modulus(product) + modulus(ratio))
            store_at((u2 - v2) + (up - down), rows, STAGE_BETA, j)
            store_at((u2 + v2) + (up + down), rows, STAGE_SIZE, j)
        else:
            up, down = _expm1_of_both_signs(ratio)
            up, down = u2 * up, v2 * down
            furthest = larger(furthest, modulus(ratio))
        change = up - down
        store_at(change, rows, CHANGE, j)
        squares = squares + change * change
    return largest_lane(furthest), total(squares)


@njit()
def ascend(ascent, side, rows):
    """Fill what the penalty moves, ``4 g (size + ascent g beta)``."""
    for j in range(0, side, lanes(rows)):
        g = load_at(rows, GRADIENT, j)
        store_at((4.0 * g) * (load_at(rows, STAGE_SIZE, j) + (ascent * g) * load_at(rows, STAGE_BETA, j)), rows, MOVED, j)


@njit()
def shrink(factor, changes, side, rows, q):
    """Fill ``q = factor g (g + change)``, or without the change."""
    for j in range(0, side, lanes(rows)):
        g = load_at(rows, GRADIENT, j)
        store((factor * g) * (g + load_at(rows, RATIO, j) if changes else g), q, j)


@njit()
def largest_error(strict, shrinks, rows):
    """Return the largest ``|e|`` (row RATIO) plus `strict` times the error of Q; NaN if one is, as `log_weight_error`."""
    largest = sums = zeros(rows)
    for j in range(0, rows.shape[1], lanes(rows)):
        error = modulus(load_at(rows, RATIO, j))
        if shrinks:
            error = error + strict * modulus(load_at(rows, WRONG, j))
        largest, sums = larger(error, largest), sums + error
    return largest_lane(largest) if total(sums) >= 0.0 else np.nan


@njit(types.void(MATRIX, types.float64, types.intp, INTEGERS, SINGLE_MATRIX, VECTOR, VECTOR, VECTOR), allocates=False)
def settle(weights, h, side, chosen, rows, Q, Q_new, wrong):
    """Fill Q at the end of a step, and its error, of the chosen coordinates; of all if there are none."""
    width = lanes(rows)
    for j in range(0, side, width):
        gain = error = zeros(rows)
        for s in range(weights.shape[1]):
            q = load_at(rows, STAGES + s, j)
            gain = gain + weights[0, s] * q
            error = error + weights[1, s] * q
        store_at(h * gain, rows, WORK, j)
        store_at(h * error, rows, MORE_WORK if chosen.shape[0] > 0 else WRONG, j)
    for k in range(chosen.shape[0]):
        rows[WRONG, chosen[k]] = rows[MORE_WORK, k]
        Q_new[chosen[k]] = Q[chosen[k]] + rows[WORK, k]
        wrong[chosen[k]] = rows[MORE_WORK, k]
    if chosen.shape[0] == 0:
        for j in range(Q.shape[0]):
            Q_new[j] = Q[j] + rows[WORK, j]
            wrong[j] = rows[WRONG, j]


@njit(types.void(SINGLE_MATRIX, MATRIX, types.float64, types.float64, types.float64, MATRIX, SINGLE_MATRIX, SINGLE_MATRIX,
                 VECTOR, VECTOR, VECTOR), allocates=False)
def shrink_sleepers(X, trace, c, ascent, scale, weights, short, rows, Q, Q_new, wrong):
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
        store_at(scale * step, rows, WORK, j)
        store_at(scale * error, rows, WRONG, j)
    for j in range(Q.shape[0]):
        Q_new[j] = Q[j] + rows[WORK, j]
        wrong[j] = rows[WRONG, j]


@njit()
def first_rates(q, chosen, side, rates):
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


@njit(inline=True)
def _expm1(x):
    shifted = x * _LOG2E + _MAGIC
    k = shifted - _MAGIC
    f = (x - k * _LN2_HIGH) - k * _LN2_LOW
    square = f * f
    even, odd = _E0 + square * (_E1 + square * _E2), _O0 + square * (_O1 + square * _O2)
    power = power_of_two(shifted)
    return (power - 1.0) + power * (f + square * (even + f * odd))


@njit()
def _expm1_of_both_signs(x):
    """Return e^x - 1 and e^-x - 1."""
    shifted = x * _LOG2E + _MAGIC
    k = shifted - _MAGIC
    f = (x - k * _LN2_HIGH) - k * _LN2_LOW
    square = f * f
    even = square * (_E0 + square * (_E1 + square * _E2))
    odd = f + (square * f) * (_O0 + square * (_O1 + square * _O2))
    up, down = power_of_two(shifted), power_of_half(shifted)
    return (up - 1.0) + up * (even + odd), (down - 1.0) + down * (even - odd)
