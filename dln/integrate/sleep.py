"""Coordinates so small that a step may leave them out: their beta is held at its value at the start of the step.

Near the rich limit most weights are asleep at any time, and the cost of a stage falls to that of the weights awake.  Only
rules without shrinkage: for the others q of every coordinate is wanted at every stage.
"""

import math

from numba import types

from .._jit import INTEGERS, MATRIX, VECTOR, njit
from .._linalg import matvec
from .._simd import WIDTH, larger, largest_lane, load, load_at, modulus, splat, total, where_less
from .state import BETA, LOG_PRODUCT, LOG_RATIO, PRODUCT, RATIO, SCALE, SIZE, SYSTEM, WORK_RULE

_MARGIN = 1.0  # rates of growth may rise during a step: a coordinate is awake this far below the threshold in log u^2
_TOO_MANY = 2  # vectors of coordinates that are chosen and count no more
STARTLED = 1.0  # one that was left out may end the step this far above it; else the step is done again


_UNNOTICED = 0.1  # a part of the tolerance


@njit()
def threshold(h, asleep, coupling, rtol):
    """Return log u^2 below which a coordinate may sleep in a step of size h.

    To hold a sleeper is to leave out what it changes in the logarithms of the others in this time: at most its own size, times
    h, times `coupling`, the largest ``4 c |x_j|^2``.
    """
    return min(asleep, math.log(_UNNOTICED * rtol / (h * coupling))) if h * coupling > 0.0 else asleep


@njit(types.int64(SYSTEM, types.float64, types.float64, VECTOR, INTEGERS, types.int64), allocates=False)
def rouse(here, h, asleep, marks, chosen, n_chosen):
    """Choose the coordinates that count in a step of size h, and a few others; return how many, or -1 to keep the old ones.

    Where those have all that count, and not many more, to keep them costs less than to gather others.  A new choice is filled
    up to whole vectors.  `marks` (d,) is 1 for those that are chosen, else 0; n_chosen is -1 before the first choice.  Reads
    log(uv), log(u/v) and p as `plan` left them.
    """
    rows = here.rows
    d = rows.shape[1]
    level = asleep - _MARGIN
    counts = missing = splat(0.0)
    for j in range(0, d - WIDTH + 1, WIDTH):
        highest = load_at(rows, PRODUCT, j) + modulus(load_at(rows, RATIO, j)) + 4.0 * h * modulus(load_at(rows, WORK_RULE, j))
        here_counts = where_less(level, highest, 1.0, 0.0)
        counts = counts + here_counts
        missing = larger(here_counts - load(marks, j), missing)
    count, fits = int(total(counts)), largest_lane(missing) == 0.0
    for j in range(d - d % WIDTH, d):
        if _highest(rows, h, j) > level:
            count += 1
            fits &= marks[j] > 0.0
    if fits and 0 <= n_chosen < count + _TOO_MANY * WIDTH:
        return -1
    others = min(-count % WIDTH, d - count)
    k = 0
    for j in range(d):
        marks[j] = 0.0
        asks = _highest(rows, h, j) > level
        if asks or others > 0:
            others -= 0 if asks else 1
            marks[j] = 1.0
            chosen[k] = j
            k += 1
    return k


@njit()
def _highest(rows, h, j):
    return rows[PRODUCT, j] + abs(rows[RATIO, j]) + 4.0 * h * abs(rows[WORK_RULE, j])


@njit(types.int64(SYSTEM, types.float64, VECTOR, INTEGERS, types.int64), allocates=False)
def startle(end, asleep, marks, chosen, n_chosen):
    """Add to `chosen` the coordinates that a step left out and that ended it too large; return how many there are now.

    `end` is the system at the end of the step.
    """
    rows = end.rows
    d = rows.shape[1]
    level = asleep + STARTLED
    missing = splat(0.0)
    for j in range(0, d - WIDTH + 1, WIDTH):
        top = load_at(rows, PRODUCT, j) + modulus(load_at(rows, RATIO, j))
        missing = larger(where_less(level, top, 1.0, 0.0) - load(marks, j), missing)
    fits = largest_lane(missing) == 0.0
    for j in range(d - d % WIDTH, d):
        fits &= marks[j] > 0.0 or not rows[PRODUCT, j] + abs(rows[RATIO, j]) > level
    if fits:
        return n_chosen
    k = 0
    for j in range(d):
        if marks[j] > 0.0 or rows[PRODUCT, j] + abs(rows[RATIO, j]) > level:
            marks[j] = 1.0
            chosen[k] = j
            k += 1
    return k


@njit(types.void(SYSTEM, INTEGERS, VECTOR, MATRIX), allocates=False)
def gather(here, chosen, data, rows):
    """Fill `data`, (n size,), and `rows`, (ROWS, size), with what the system of the `size` chosen coordinates is made of."""
    size = chosen.shape[0]
    for i in range(here.X.shape[0]):
        for k in range(size):
            data[i * size + k] = here.X[i, chosen[k]]
    for k in range(size):
        rows[LOG_PRODUCT, k] = here.rows[LOG_PRODUCT, chosen[k]]
        rows[LOG_RATIO, k] = here.rows[LOG_RATIO, chosen[k]]
        rows[SCALE, k] = here.rows[SCALE, chosen[k]]


@njit(types.void(SYSTEM, SYSTEM, VECTOR, INTEGERS, VECTOR), allocates=False)
def hold_others(awake, here, r, chosen, buffer):
    """Give the awake coordinates their values at the start of a step, and a target that accounts for the others."""
    n = here.X.shape[0]
    for k in range(chosen.shape[0]):
        awake.rows[BETA, k] = here.rows[BETA, chosen[k]]
        awake.rows[SIZE, k] = here.rows[SIZE, chosen[k]]
    target = buffer[buffer.shape[0] - n:]
    matvec(awake.X, awake.rows[BETA], target)
    for i in range(n):
        target[i] -= r[i]
