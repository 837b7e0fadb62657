"""What the next step is to be: whether to go on, how far, and by which method.  Single runs and lanes share it.

The settings of a run are here, too.
"""

import math
from collections import namedtuple

import numpy as np
from numba import types

from .._jit import INTEGERS, VECTOR, njit
from .._linalg import norm, rmatvec
from .closing import LEAST_STEPS
from .rosenbrock import largest_difference
from .state import (
    ACCEPTED,
    AHEAD,
    BEST_AT,
    BEST_RESIDUAL,
    BETA,
    CALM,
    CLOSES_BELOW,
    CONVERGED,
    DIVERGED,
    ERROR_OLD,
    FOUND_CALM,
    FOUND_STIFF,
    H_CONTROL,
    LANDING_CAP,
    RATIO_SCALE,
    REACH,
    REJECTED,
    RUNNING,
    SIZE,
    STATIONARY,
    STEEPNESS,
    STEP_TOO_SMALL,
    STIFF,
    STOP,
    SYSTEM,
    WORK_RULE,
    H,
    T,
)
from .survey import next_landing, survey

# Settings: a float vector.
(RTOL, DORMANT, RESIDUAL_TOL, RESIDUAL_SCALE, LOG_CEILING, STATIONARY_TOL, SWITCHING, CALM_STRETCH,
 KERNEL_RATIO, ASLEEP, COUPLING, ERROR_GOAL, COUPLED, SHARE, SQUARED_NORM, ROOM, WIDENS, STRENGTH, ASCENT,
 CLOSES, NOISE, SETTINGS_SIZE) = range(22)

# How far a log weight moves in the first step: a stiff one at rtol 0.1 (less by the order of the method), an explicit one.
# While all weights are small beta is 0 and every rate a constant: a stiff step is exact, up to a part of rtol times the scale
# of the data.
_FIRST_MOVE = 0.8
_FIRST_EXPLICIT_MOVE = 0.01
_UNNOTICED = math.exp(-1.0)

# A weight that saturates has poles at a distance of pi/rate in complex time: a longer step of order 8 leaves the range in
# which its error estimate means anything.
_GROWTH = 1.5  # largest growth of log u^2 in an explicit step, of weights that are awake (`survey`)
# Where the end of a run is a time, not the limit, its loss counts however small it is.  Estimates of the error are those of a
# method of lower order, and several times too large.
ERROR_OF_RESIDUAL = 0.3
ERROR_ON_THE_WAY = 0.6  # where the last step, a long one, is still to come
_UNSEEN = 1e-9  # but not what is smaller than this in the logarithms of the weights
ROUNDING = 1e-14  # log weights as large as `reach` cannot be known better than this times reach
_RESIDUAL_ROUNDING = 2e-15  # and X beta no better than this times the logs of the weights that matter
# A memory of this says: the error of the next step is extrapolated.  Looser tolerances with more caution take the fewest steps.
PREDICTIVE = -1.0
_CAUTION, _LEAST_TREND, _MOST_TREND = 0.56, 0.4, 1.2
# A last step that was refused is tried again where at most this part of the way is left; its error falls faster than the way.
_NEARER, _ITS_ORDER = 0.6, 2.5
_STABLE = 4.0  # h rho beyond which an explicit step of order 8 is close to its stability bound of 6
_EDGE = 5.0  # and where it stays


@njit()
def with_loss(scaled, tolerance, wrong, allowed):
    """Return the error of a step in tolerances, `scaled`, or that of its loss: the residual is `wrong` by that much."""
    by_loss = wrong / allowed if allowed > 0.0 else 0.0
    return max(scaled, min(scaled * tolerance / _UNSEEN, by_loss))


@njit()
def may_close(h, clock):
    """Whether to try the last step to the stop: the flow has not far to go, and with steps of size h many would be left."""
    ahead = clock[AHEAD]
    return 0.0 < ahead <= clock[CLOSES_BELOW] and LEAST_STEPS * h < clock[STOP] - clock[T]


@njit()
def refuse_closing(scaled, clock):
    """Say when to try the last step again, which had an error of `scaled` tolerances."""
    part = scaled ** (-1.0 / _ITS_ORDER) if math.isfinite(scaled) else 1.0
    clock[CLOSES_BELOW] = min(_NEARER, part) * clock[AHEAD]


@njit()
def look_ahead(ratio, before, residual, last, clock):
    """Estimate how far the logarithms of the weights have to go, after a step: moves fall as fast as the residual does."""
    falls = residual / last if last > 0.0 else 1.0
    clock[AHEAD] = largest_difference(ratio, before) * falls / (1.0 - falls) if falls < 1.0 else 0.0


@njit(types.int64(types.float64, types.float64, types.int64, VECTOR, INTEGERS), allocates=False)
def reject(h, scaled, order, clock, count):
    """Plan a shorter step after one of size h whose error was `scaled`; return RUNNING, or STEP_TOO_SMALL."""
    count[REJECTED] += 1
    shrink = 0.15 if not math.isfinite(scaled) else max(0.15, 0.9 * scaled ** (-1.0 / order))
    clock[H_CONTROL] = h * shrink
    clock[ERROR_OLD] = 1.0
    clock[H] = min(clock[H_CONTROL], clock[STOP] - clock[T])
    small = clock[H_CONTROL] <= 1e-14 * max(clock[T], clock[H_CONTROL]) or clock[H_CONTROL] < 1e-300
    return STEP_TOO_SMALL if small else RUNNING


@njit(types.void(types.float64, types.float64, types.float64, types.boolean, types.int64, types.float64, VECTOR),
      allocates=False)
def control(h, scaled, stiffness, stiff_method, order, memory, clock):
    """Set ``clock[H_CONTROL]`` after an accepted step of size h and error `scaled` (Gustafsson 1991; PREDICTIVE: 1994)."""
    scaled = max(scaled, 1e-10)
    if memory == PREDICTIVE:
        factor, clock[STEEPNESS] = predicted_growth(h, scaled, order, clock[STEEPNESS], _CAUTION, _MOST_TREND)
    else:
        factor = 0.9 * scaled ** (-0.7 / order) * clock[ERROR_OLD] ** (memory / order)
    clock[ERROR_OLD] = max(scaled, 1e-4)
    grown = h * min(10.0, max(0.2, factor))
    if not stiff_method and stiffness > 0.0:
        # At the very edge of stability errors no longer decay, and the residual would stall at the tolerance.
        grown = min(grown, h * max(0.5, _EDGE / stiffness))
    if h < 0.99 * clock[H_CONTROL]:
        # A step cut short by a stop or a landing says little about the next one: do not shrink because of it.
        # But a weight that has landed changes on its own time scale from now on.
        cap = clock[LANDING_CAP]
        clock[H_CONTROL] = max(min(grown, cap), min(clock[H_CONTROL], cap))
    else:
        clock[H_CONTROL] = grown


@njit()
def predicted_growth(h, scaled, order, last, caution, most):
    """Return by what factor to lengthen a step of size h and error `scaled`, and its steepness; `last` is that before it.

    Where a coordinate grows up the coefficient of ``h^order`` in the error grows exponentially, and where it settles it falls
    likewise: it is extrapolated, by at most the factor `most` of a step size.
    """
    scaled = max(scaled, 1e-8)
    steepness = scaled ** (1.0 / order) / h
    trend = last / steepness if last > 0.0 else 1.0
    return caution * scaled ** (-1.0 / order) * min(most, max(_LEAST_TREND, trend)), steepness


@njit(types.int64(types.boolean, types.float64, VECTOR, INTEGERS, VECTOR), allocates=False)
def notice_stiffness(stiff_method, stiffness, clock, count, settings):
    """Report that another method is due: a surplus of three stiff steps, or a stretch of calm ones, longer each time."""
    remaining = (clock[STOP] - clock[T]) / clock[H]
    if stiff_method:
        count[CALM] = count[CALM] + 1 if stiffness < 0.5 * _STABLE else 0
        if count[CALM] >= settings[CALM_STRETCH] and remaining > 3.0:
            count[CALM] = 0
            return FOUND_CALM
    else:
        count[STIFF] = count[STIFF] + 1 if stiffness > _STABLE else max(0, count[STIFF] - 1)
        if count[STIFF] >= 3 and remaining > 10.0:
            count[STIFF] = 0
            return FOUND_STIFF
    return RUNNING


#: What the plan of a step has to know of the coordinates of an accepted state: the largest logarithm of a weight, that of
#: coordinates that count, the largest rate of change, of growth where weights count, and of q; the largest logarithm of u^2 or
#: v^2, the largest |log(u/v)|, and how fast dormant weights grow; when the first of them arrives at the threshold at which it
#: counts, and in what time it then changes; whether no weight moves any more.
Survey = namedtuple("Survey", "reach active_reach largest_rate fastest_growth largest_q largest_top largest_ratio growing "
                              "landing landing_cap settled")


@njit(types.int64(SYSTEM, VECTOR, VECTOR, VECTOR, INTEGERS, VECTOR, types.boolean, types.int64), allocates=False)
def plan(here, f, r, clock, count, settings, stiff_method, order):
    """Look at the accepted state: has it converged, settled or diverged?  If not, plan the next step in ``clock[H]``.

    p is left in the row WORK_RULE.
    """
    residual_norm = norm(r)
    if not math.isfinite(residual_norm):
        return DIVERGED
    return decide(residual_norm, _look(here, f, settings), clock, count, settings, stiff_method, order)


@njit()
def _look(here, f, settings):
    rows = here.rows
    n, d = here.X.shape
    p = rows[WORK_RULE]
    rmatvec(here.X, f[:n], 1.0, p)
    dormant, q = settings[DORMANT], f[n:]
    reach, active_reach, largest_top, largest_rate, growing, fastest_growth, largest_q, largest_ratio = survey(
        rows, p, q, dormant)
    largest_ratio = max(largest_ratio, settings[KERNEL_RATIO])
    landing = landing_cap = np.inf
    if growing > 0.0:
        landing, landing_cap = next_landing(rows, p, q, dormant)
    settled = False
    tol = settings[STATIONARY_TOL]
    if largest_q > 0.0 and growing <= tol * largest_q:
        # No dormant weight grows: settled once the others have stopped moving too.
        biggest = math.exp(settings[DORMANT])
        moving = 0.0
        for j in range(d):
            q = f[n + j]
            u2 = 0.5 * (rows[SIZE, j] + rows[BETA, j])
            v2 = 0.5 * (rows[SIZE, j] - rows[BETA, j])
            biggest = max(biggest, rows[SIZE, j])
            moving = max(moving, abs(u2 * (q + p[j])) + abs(v2 * (q - p[j])))
        settled = moving <= tol * largest_q * biggest
    return Survey(reach, active_reach, largest_rate, fastest_growth, largest_q, largest_top, largest_ratio, growing, landing,
                  landing_cap, settled)


@njit()
def decide(residual_norm, seen, clock, count, settings, stiff_method, order):
    """Plan the next step of a state whose residual is finite, or say why there is none."""
    if residual_norm < 0.999 * clock[BEST_RESIDUAL]:
        clock[BEST_RESIDUAL] = residual_norm
        count[BEST_AT] = count[ACCEPTED]
    landing = seen.landing
    clock[LANDING_CAP] = seen.landing_cap
    clock[REACH] = seen.reach
    clock[RATIO_SCALE] = min(1.0, seen.largest_ratio)
    if residual_norm <= settings[RESIDUAL_SCALE] * max(settings[RESIDUAL_TOL], _RESIDUAL_ROUNDING * seen.active_reach):
        return CONVERGED
    if landing < np.inf:
        count[BEST_AT] = count[ACCEPTED]  # a dormant weight is growing: however flat the loss, the flow is on its way
    if seen.largest_top > settings[LOG_CEILING]:
        return DIVERGED
    if seen.settled:
        return STATIONARY
    if clock[H_CONTROL] <= 0.0:
        if stiff_method:
            first = _FIRST_MOVE * (10.0 * settings[RTOL]) ** (1.0 / order)
            first = max(first, settings[DORMANT] - math.log(1e-8) + math.log(_UNNOTICED * settings[RTOL]) - seen.largest_top)
        else:
            first = _FIRST_EXPLICIT_MOVE
        clock[H_CONTROL] = first / seen.largest_rate if seen.largest_rate > 0.0 else np.inf
    h = min(clock[H_CONTROL], landing)
    if not stiff_method and h * seen.fastest_growth > _GROWTH:
        h = _GROWTH / seen.fastest_growth
    if landing > h:
        clock[LANDING_CAP] = np.inf
    remaining = clock[STOP] - clock[T]
    if remaining <= 0.0:
        clock[H] = 0.0
        return RUNNING
    if 1.01 * h >= remaining:
        h = remaining
    elif 2.0 * h > remaining:
        h = 0.5 * remaining  # two equal steps rather than a long one and a scrap
    clock[H] = h
    if not h < np.inf:
        return STATIONARY  # every rate is 0, for ever
    if h <= 1e-15 * clock[T]:
        return STEP_TOO_SMALL
    return RUNNING
