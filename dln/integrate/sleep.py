"""Coordinates so small that a step may leave them out: their beta is held at its value at the start of the step.

Near the rich limit most weights are asleep at any time, and the cost of a stage falls to that of the weights awake.  Only
rules without shrinkage: for the others q of every coordinate is wanted at every stage.
"""

import math

from .._jit import njit
from .._linalg import matvec
from .state import System

_MARGIN = 1.0  # rates of growth may rise during a step: a coordinate is awake this far below the threshold in log u^2
STARTLED = 1.0  # one that was left out may end the step this far above it; else the step is done again


_WEAK = 1e-2  # what a sleeper may contribute to h times the Jacobian


@njit()
def threshold(h, asleep, coupling):
    """Return log u^2 below which a coordinate may sleep in a step of size h.

    To hold sleepers is to treat them explicitly: `coupling`, the largest ``4 c |x_j|^2``, bounds what they add to the
    Jacobian in units of u^2.
    """
    return min(asleep, math.log(_WEAK / (h * coupling))) if h * coupling > 0.0 else asleep


@njit()
def rouse(here, h, asleep, chosen, n_chosen):
    """Fill `chosen` with the coordinates that count in a step of size h; return how many, or -1 if they are the same.

    Reads log(uv), log(u/v) and p as `plan` left them.
    """
    weights, p = here.weights, here.work_d[0]
    count = 0
    same = True
    for j in range(p.shape[0]):
        if weights[0, j] + abs(weights[1, j]) + 4.0 * h * abs(p[j]) > asleep - _MARGIN:
            same = same and count < n_chosen and chosen[count] == j
            chosen[count] = j
            count += 1
    return -1 if same and count == n_chosen else count


@njit()
def startle(here, asleep, chosen, n_chosen):
    """Add to `chosen` the coordinates that a step left out and that ended it too large; return how many there are now.

    Reads log(uv) and log(u/v) at the end of the step.
    """
    weights = here.weights
    d = weights.shape[1]
    startled = False
    k = 0
    for j in range(d):
        if k < n_chosen and chosen[k] == j:
            k += 1
        elif weights[0, j] + abs(weights[1, j]) > asleep + STARTLED:
            startled = True
    if not startled:
        return n_chosen
    # From the end backwards, so that nothing is overwritten before it is moved.
    marked = here.work_d[1]
    for j in range(d):
        marked[j] = 1.0 if weights[0, j] + abs(weights[1, j]) > asleep + STARTLED else 0.0
    for k in range(n_chosen):
        marked[chosen[k]] = 1.0
    count = 0
    for j in range(d):
        if marked[j] > 0.0:
            chosen[count] = j
            count += 1
    return count


@njit()
def gather(here, chosen, buffer, buffer_read, work):
    """Return the system of the chosen coordinates; its data lie in `buffer`, its arrays in `work` (16 d,)."""
    n, d = here.X.shape
    size = chosen.shape[0]
    for i in range(n):
        for k in range(size):
            buffer[i * size + k] = here.X[i, chosen[k]]
    for k in range(size):
        work[k] = here.log_product[chosen[k]]
        work[size + k] = here.log_ratio[chosen[k]]
    return System(buffer_read[:n * size].reshape((n, size)), buffer_read[n * d:], work[:size], work[size:2 * size],
                  work[2 * size:3 * size], work[3 * size:4 * size], work[4 * size:8 * size].reshape((4, size)),
                  work[8 * size:16 * size].reshape((8, size)))


@njit()
def hold_others(awake, here, r, chosen, buffer):
    """Give the awake coordinates their values at the start of a step, and a target that accounts for the others."""
    n, d = here.X.shape
    for k in range(chosen.shape[0]):
        awake.beta[k] = here.beta[chosen[k]]
        awake.size[k] = here.size[chosen[k]]
    target = buffer[n * d:]
    matvec(awake.X, awake.beta, target)
    for i in range(n):
        target[i] -= r[i]
