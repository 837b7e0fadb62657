"""Coordinates so small that a step may leave them out: their beta is held at its value at the start of the step.

Near the rich limit most weights are asleep at any time, and the cost of a stage falls to that of the weights awake.  Only
rules without shrinkage: for the others q of every coordinate is wanted at every stage.
"""

import math

from numba import types

from .._jit import DATA_VECTOR, INTEGERS, VECTOR, njit
from .._linalg import matvec
from .state import BETA, LOG_PRODUCT, LOG_RATIO, PRODUCT, RATIO, ROWS, SCALE, SIZE, SYSTEM, WORK, WORK_RULE, System

_MARGIN = 1.0  # rates of growth may rise during a step: a coordinate is awake this far below the threshold in log u^2
STARTLED = 1.0  # one that was left out may end the step this far above it; else the step is done again


_UNNOTICED = 0.1  # a part of the tolerance


@njit()
def threshold(h, asleep, coupling, rtol):
    """Return log u^2 below which a coordinate may sleep in a step of size h.

    To hold a sleeper is to leave out what it changes in the logarithms of the others in this time: at most its own size, times
    h, times `coupling`, the largest ``4 c |x_j|^2``.
    """
    return min(asleep, math.log(_UNNOTICED * rtol / (h * coupling))) if h * coupling > 0.0 else asleep


@njit(types.int64(SYSTEM, types.float64, types.float64, INTEGERS, types.int64), allocates=False)
def rouse(here, h, asleep, chosen, n_chosen):
    """Fill `chosen` with the coordinates that count in a step of size h; return how many, or -1 if they are the same.

    Reads log(uv), log(u/v) and p as `plan` left them.
    """
    rows = here.rows
    count = 0
    same = True
    for j in range(rows.shape[1]):
        if rows[PRODUCT, j] + abs(rows[RATIO, j]) + 4.0 * h * abs(rows[WORK_RULE, j]) > asleep - _MARGIN:
            same = same and count < n_chosen and chosen[count] == j
            chosen[count] = j
            count += 1
    return -1 if same and count == n_chosen else count


@njit(types.int64(SYSTEM, types.float64, INTEGERS, types.int64), allocates=False)
def startle(end, asleep, chosen, n_chosen):
    """Add to `chosen` the coordinates that a step left out and that ended it too large; return how many there are now.

    `end` is the system at the end of the step.
    """
    rows = end.rows
    d = rows.shape[1]
    startled = False
    k = 0
    for j in range(d):
        if k < n_chosen and chosen[k] == j:
            k += 1
        elif rows[PRODUCT, j] + abs(rows[RATIO, j]) > asleep + STARTLED:
            startled = True
    if not startled:
        return n_chosen
    # From the end backwards, so that nothing is overwritten before it is moved.
    marked = rows[WORK]
    for j in range(d):
        marked[j] = 1.0 if rows[PRODUCT, j] + abs(rows[RATIO, j]) > asleep + STARTLED else 0.0
    for k in range(n_chosen):
        marked[chosen[k]] = 1.0
    count = 0
    for j in range(d):
        if marked[j] > 0.0:
            chosen[count] = j
            count += 1
    return count


@njit(SYSTEM(SYSTEM, INTEGERS, VECTOR, DATA_VECTOR, VECTOR))
def gather(here, chosen, buffer, buffer_read, space):
    """Return the system of the chosen coordinates; its data lie in `buffer`, its rows in `space` (ROWS d,)."""
    n = here.X.shape[0]
    size = chosen.shape[0]
    for i in range(n):
        for k in range(size):
            buffer[i * size + k] = here.X[i, chosen[k]]
    rows = space[:ROWS * size].reshape((ROWS, size))
    for k in range(size):
        rows[LOG_PRODUCT, k] = here.rows[LOG_PRODUCT, chosen[k]]
        rows[LOG_RATIO, k] = here.rows[LOG_RATIO, chosen[k]]
        rows[SCALE, k] = here.rows[SCALE, chosen[k]]
    return System(buffer_read[:n * size].reshape((n, size)), buffer_read[buffer.shape[0] - n:], rows)


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
