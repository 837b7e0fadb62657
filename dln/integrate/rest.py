"""Rest on a plateau: when the flow has come to it, what its state is there, and how long it lasts."""

import math
from collections import namedtuple

import numpy as np
from numba import types

from .._jit import MATRIX, VECTOR, njit
from .._linalg import copy, norm, rmatvec
from .planning import (
    ASLEEP,
    COUPLING,
    RTOL,
)
from .reduced import SPACE, back_substitute, basis_of, forward_substitute, slowest_rate, split
from .state import BETA, LOG_PRODUCT, PRODUCT, RATIO, SYSTEM, WORK, WORK_RULE, T

#: The state to which a transition may have to go back (PLATEAU_ROWS, n), what has happened since (NOTES_SIZE,), and the
#: largest log weights since (d,).
Journal = namedtuple("Journal", "plateau notes peak")
JOURNAL = types.NamedTuple((MATRIX, VECTOR, VECTOR), Journal)
_SETTLE = types.int64(SYSTEM, types.float64, VECTOR, VECTOR, VECTOR, types.float64, VECTOR, VECTOR, JOURNAL, types.boolean,
                      SPACE)
PLATEAU_NU, PLATEAU_ERROR, PLATEAU_RESIDUAL, PLATEAU_ROWS = range(4)
(LOOSE, PLATEAU_T, PLATEAU_H, AT_REST, ROUGH_SINCE, WAIT, WHO, SPEED, NOTES_SIZE) = range(9)

ON_THE_WAY, JUMPED, NO_JUMP = range(3)  # what `settle` finds

STARTLED = 1.0  # a coordinate counts as awake from this far above the threshold on, in log u^2
_ROUGH = 0.1  # from here on, relative to the plateau, the approach is exponential
_MOST_MOVED = 0.5  # a jump that moves a log weight by more is not believed
NOTHING = 1e-14  # a residual this small beside the targets is rounding


@njit(types.float64(SYSTEM, VECTOR, types.float64), allocates=False)
def flight(here, p, asleep):
    """Return for how long nu can go on in a straight line, until a coordinate that sleeps wakes."""
    rows = here.rows
    first = np.inf
    for j in range(rows.shape[1]):
        product, ratio = rows[PRODUCT, j], rows[RATIO, j]
        # Those of the plateau are far above, and p is 0 for them; one on its way up may be past the threshold at a stop.
        if product + abs(ratio) >= asleep + STARTLED or p[j] == 0.0:
            continue
        # log(u/v) moves by -4 p in a unit of time: away from 0, or through 0 and then away.
        toward = asleep + STARTLED - product
        first = min(first, (toward + (ratio if p[j] > 0.0 else -ratio)) / (4.0 * abs(p[j])))
    return first


@njit(types.float64(SYSTEM, types.float64, types.float64, SPACE))
def relaxation(here, c, asleep, space):
    """Return the longest time in which the coordinates that are awake relax by a factor of e; 0 if it cannot be had."""
    rows = here.rows
    n, d = here.X.shape
    awake = np.empty(d, dtype=np.bool_)
    count = 0
    for j in range(d):
        awake[j] = rows[PRODUCT, j] + abs(rows[RATIO, j]) > asleep
        count += awake[j]
    if count == 0 or count > n:
        return 0.0
    basis = basis_of(here.X, awake, space)
    if basis.R.shape[0] < count:
        return 0.0
    beta = np.empty(count)
    for k in range(count):
        beta[k] = rows[BETA, basis.columns[k]]
    return 1.0 / slowest_rate(basis.R, beta, c)


@njit(_SETTLE)
def settle(here, c, z, r, error, h, clock, settings, journal, loose, space):
    """If the flow has rested on a plateau for long enough, replace nu and its error by those of the exact state.

    Returns ON_THE_WAY, JUMPED, or NO_JUMP where it rests, but a coordinate has left or the exact state cannot be had.
    Reads p as `plan` left it; h is the last step.
    """
    X, y, rows = here.X, here.y, here.rows
    n, d = X.shape
    notes = journal.notes
    asleep = settings[ASLEEP]
    count = 0
    who = 0.0  # tells sets of coordinates apart
    speed = 0.0
    awake = np.empty(d, dtype=np.bool_)
    for j in range(d):
        awake[j] = rows[PRODUCT, j] + abs(rows[RATIO, j]) > asleep
        if awake[j]:
            count += 1
            who += (j + 1.0) * (j + 1.0)
            speed = max(speed, 4.0 * abs(rows[WORK_RULE, j]))
    before, notes[SPEED] = notes[SPEED], speed
    same = who == notes[WHO]
    notes[WHO] = who
    if not same:
        notes[ROUGH_SINCE] = 0.0
    if count == 0:
        return ON_THE_WAY
    if notes[ROUGH_SINCE] > 0.0:
        if clock[T] < (notes[ROUGH_SINCE] + notes[WAIT]) * (1.0 - 1e-15):
            return ON_THE_WAY
    # By the fall of the speed: how far is there still to go?
    elif not same or speed >= before or speed * h > 2.0 * _ROUGH * math.log(before / speed):
        return ON_THE_WAY
    if count > n:
        return NO_JUMP
    basis = basis_of(X, awake, space)
    R, columns = basis.R, basis.columns
    if R.shape[0] < count:
        return NO_JUMP
    # Least squares on these columns, the others held, and how far from it we are.
    inside, beta, move, across, others = np.empty(count), np.empty(count), np.empty(count), np.empty(n), np.empty(n)
    split(basis, r, inside, across)
    copy(inside, beta)
    back_substitute(R, beta)
    distance = 0.0
    for k in range(count):
        ratio = 1.0 - beta[k] / rows[BETA, columns[k]]
        beta[k] = rows[BETA, columns[k]] - beta[k]
        if not ratio > 0.0:
            notes[ROUGH_SINCE] = 0.0
            return ON_THE_WAY
        distance = max(distance, abs(math.log(ratio)))
    if distance > _ROUGH:
        notes[ROUGH_SINCE] = 0.0
        return ON_THE_WAY
    if notes[ROUGH_SINCE] == 0.0:
        notes[ROUGH_SINCE] = clock[T]
        notes[WAIT] = (math.log(_ROUGH / min(settings[RTOL], _ROUGH)) + 1.0) / slowest_rate(R, beta, c)
        return ON_THE_WAY
    # From here on only what is across moves nu, if those that sleep do not count: not for as long as they will sleep.
    # Projected twice: over a long plateau even rounding that is left along the columns would be felt.
    split(basis, y, inside, others)
    split(basis, others, inside, across)
    for i in range(n):
        across[i] = -across[i]
    if count < n and norm(across) > NOTHING * norm(y):
        p = rows[WORK]
        rmatvec(X, across, c, p)
        length = flight(here, p, asleep)  # not only to the next stop: the flight goes on after it
        disturbance = 0.0
        for j in range(d):
            if not awake[j]:
                rate = 4.0 * abs(p[j])
                lasts = length if rate * length <= 1.0 else 1.0 / rate
                disturbance += math.exp(rows[PRODUCT, j] + abs(rows[RATIO, j])) * lasts
        if not disturbance * settings[COUPLING] <= settings[RTOL]:
            return ON_THE_WAY
    else:
        across[:] = 0.0
    notes[ROUGH_SINCE] = 0.0
    if loose:
        for j in range(d):
            if journal.peak[j] > asleep + STARTLED and not awake[j]:
                return NO_JUMP
    # log(u/v) that belongs to it, and the move of nu inside of the span that brings it there.
    for k in range(count):
        j = columns[k]
        move[k] = 0.25 * (rows[RATIO, j] - mirror(beta[k], rows[LOG_PRODUCT, j]))
    forward_substitute(R, move)
    rmatvec(basis.rows, move, 1.0, others)
    rmatvec(X, others, 4.0, rows[WORK])
    farthest = 0.0
    for j in range(d):
        farthest = max(farthest, abs(rows[WORK, j]))
    if not farthest <= _MOST_MOVED:
        return NO_JUMP
    for i in range(n):
        z[i] += others[i]
    copy(across, journal.plateau[PLATEAU_RESIDUAL])
    split(basis, error, inside, others)
    copy(others, error)
    return JUMPED


@njit(types.float64(types.float64, types.float64), allocates=False)
def mirror(beta, log_product):
    """Return ``asinh(beta / (2 exp(log_product)))``, whatever the scale."""
    size = abs(beta)
    excess = math.log(size) - log_product
    if excess < -30.0:
        value = 0.5 * math.exp(excess)
    else:
        small = math.exp(-2.0 * excess) if excess < 300.0 else 0.0
        value = excess + math.log(0.5 * (1.0 + math.sqrt(1.0 + 4.0 * small)))
    return value if beta >= 0.0 else -value
