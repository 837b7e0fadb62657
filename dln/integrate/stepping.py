"""The loop over steps: planning, acceptance, landings, and why it stops.  One compiled kernel for every rule and method."""

import math
from collections import namedtuple

import numpy as np
from numba import types

from .._jit import DATA_MATRIX, DATA_VECTOR, INTEGERS, MATRIX, VECTOR, njit
from .._large import KEPT_KERNELS, double_kept
from .._linalg import copy, copy_rows, norm, rmatvec
from .._simd import WIDTH
from .._streams import IN_CACHE
from .awake_steps import awake_attempt, stage_weights
from .closing import LEAST_STEPS, NEAR, NEAR_IF_SHRINKING, closing_attempt
from .explicit import explicit_attempt
from .rosenbrock import contract, largest_difference, multiply_gram, rosenbrock_attempt
from .sleep import gather, hold_others, rouse, startle, threshold
from .state import (
    ACCEPTED,
    AHEAD,
    AT_STOP,
    BEST_AT,
    BEST_RESIDUAL,
    BETA,
    CALM,
    CLOSES_BELOW,
    CONVERGED,
    DIVERGED,
    ERROR_OF_BETA,
    ERROR_OF_Q,
    ERROR_OLD,
    FACTORIZATIONS,
    FOUND_CALM,
    FOUND_STIFF,
    H_CONTROL,
    LANDING_CAP,
    LOG_U,
    LOG_V,
    PRODUCT,
    RATIO,
    RATIO_SCALE,
    REACH,
    REJECTED,
    RESIDUAL,
    RHS,
    ROWS,
    RUNNING,
    SIZE,
    STARTED,
    STATIONARY,
    STEEPNESS,
    STEP_TOO_SMALL,
    STIFF,
    STOP,
    SYSTEM,
    WANTS_DOUBLE,
    WORK,
    WORK_RULE,
    H,
    System,
    T,
    evaluate,
    fix_scale,
)
from .survey import next_landing, survey
from .work import WORK_ARRAYS, aligned, narrow_rows, widened, widened_data, widened_rows, work_of

# Settings: a float vector.
(RTOL, DORMANT, RESIDUAL_TOL, RESIDUAL_SCALE, LOG_CEILING, STATIONARY_TOL, SWITCHING, CALM_STRETCH,
 KERNEL_RATIO, ASLEEP, COUPLING, ERROR_GOAL, COUPLED, SHARE, SQUARED_NORM, ROOM, WIDENS, STRENGTH, ASCENT,
 CLOSES, SETTINGS_SIZE) = range(21)

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
_ERROR_OF_RESIDUAL = 0.3
_ERROR_ON_THE_WAY = 0.6  # where the last step, a long one, is still to come
_UNSEEN = 1e-9  # but not what is smaller than this in the logarithms of the weights
ROUNDING = 1e-14  # log weights as large as `reach` cannot be known better than this times reach
_RESIDUAL_ROUNDING = 2e-15  # and X beta no better than this times the logs of the weights that matter
# A memory of this says: the error of the next step is extrapolated.  Looser tolerances with more caution take the fewest steps.
PREDICTIVE = -1.0
_CAUTION, _LEAST_TREND, _MOST_TREND = 0.56, 0.4, 1.4
_NEARER = 0.6  # of the way left is to be left when the last step, refused, is tried again
_STABLE = 4.0  # h rho beyond which an explicit step of order 8 is close to its stability bound of 6
_EDGE = 5.0  # and where it stays

ADVANCE = types.int64(
    types.intp, types.intp, KEPT_KERNELS, types.boolean, DATA_MATRIX, DATA_VECTOR, types.float64,
    MATRIX, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, INTEGERS, VECTOR, MATRIX,
    MATRIX, VECTOR, DATA_MATRIX, DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, DATA_VECTOR, types.float64, types.int64, types.boolean,
    types.float64, types.int64,
)


@njit(ADVANCE)
def advance(rule, curvature, large, stiff_method, X, y, c, rows, z, f, r, error, clock, count, settings, params,
            kept, known, A, C, b, error_high, error_low, gamma, order, filtered, memory, attempts):
    """Advance the state in place by at most `attempts` attempted steps; return the reason for stopping.

    With no attempts, evaluate the first right-hand side if that is still to be done, and plan the next step.

    `rule` and `curvature` are addresses, `large` those of `_large.kept_kernels`.  The state is (rows, z, f, r, error); `error`
    is the propagated estimate of the global error of z.  On return the report (rows of log u and log v, the clock's residual
    and error of beta) is of that state.  `params` has one row, or one per stage (and one for the end of the step) for rules
    that depend on time: then `attempts` is 1 and the caller evaluates the rows for the planned step ``clock[H]``.  `kept`
    and `known`, unless they are empty, keep the Gram matrix, and what it knows, from call to call (`_large.kept_arrays`);
    WANTS_DOUBLE asks for larger ones.  `memory` is the weight of the last error in the choice of the next step, or PREDICTIVE.

    ``settings[ROOM]`` is how many numbers the data of the coordinates that are awake may have; where they have more, or with
    no room, all are.  STRENGTH and ASCENT are the rule's `dormant_pair`, if it shrinks.  ``settings[WIDENS]`` says that columns
    of zeros may be added, ``settings[CLOSES]`` that the last step to a stop may be that of `closing.py`.
    """
    n, d = X.shape
    more = -d % WIDTH
    may = settings[WIDENS] > 0.0 and known.shape[0] == 0 and not per_stage(params)
    if not may or more == 0 or d < WIDTH or X.size > IN_CACHE:
        return _in_work(rule, curvature, large, stiff_method, X, y, c, rows, z, f, r, error, clock, count, settings, params,
                        kept, known, A, C, b, error_high, error_low, gamma, order, filtered, memory, attempts)
    # Columns of zeros, whose weights never move, make whole vectors of the last ones, and let each row begin at one.
    wide_X, wide_rows = widened_data(X, more), widened_rows(rows, more)
    wide_z, wide_f, wide_error = z, f, error
    if z.shape[0] > n:
        wide_z, wide_f, wide_error = widened(z, more), widened(f, more), widened(error, more)
    reason = _in_work(
        rule, curvature, large, stiff_method, wide_X, y, c, wide_rows, wide_z, wide_f, r, wide_error, clock, count, settings,
        params, kept, known, A, C, b, error_high, error_low, gamma, order, filtered, memory, attempts)
    narrow_rows(wide_rows, rows)
    if z.shape[0] > n:
        copy(wide_z[:n + d], z)
        copy(wide_f[:n + d], f)
        copy(wide_error[:n + d], error)
    return reason


@njit(ADVANCE)
def _in_work(rule, curvature, large, stiff_method, X, y, c, rows, z, f, r, error, clock, count, settings, params,
             kept, known, A, C, b, error_high, error_low, gamma, order, filtered, memory, attempts):
    """Do what `advance` does, with the columns that there are."""
    fix_scale(rows, z.shape[0] > X.shape[0])  # before the rows are copied: the copy has to know it, too
    sleepers = stiff_method and settings[ROOM] > 0.0
    work = work_of(X, rows, z.shape[0], A.shape[0], stiff_method, sleepers, kept, known)
    buffer = aligned(int(settings[ROOM]) if sleepers else 0)
    return _advance(rule, curvature, large, stiff_method, X, y, c, rows, z, f, r, error, clock, count, settings, params, buffer,
                    buffer, known, A, C, b, error_high, error_low, gamma, order, filtered, memory, attempts, work)


@njit(types.int64(
    types.intp, types.intp, KEPT_KERNELS, types.boolean, DATA_MATRIX, DATA_VECTOR, types.float64,
    MATRIX, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, INTEGERS, VECTOR, MATRIX,
    VECTOR, DATA_VECTOR, VECTOR, DATA_MATRIX, DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, DATA_VECTOR, types.float64, types.int64,
    types.boolean, types.float64, types.int64, WORK_ARRAYS,
), allocates=False)
def _advance(rule, curvature, large, stiff_method, X, y, c, rows, z, f, r, error, clock, count, settings, params, buffer,
             buffer_read, known, A, C, b, error_high, error_low, gamma, order, filtered, memory, attempts, work):
    """Do what `advance` does, in arrays that are there: without any of its own it counts no references.

    `buffer` has room for the data of the coordinates that are awake; it comes twice, once to read only, as data do.
    """
    n, d = X.shape
    total = z.shape[0]
    stages = A.shape[0]
    z_new, f_new, local, r_new, K, M, W = work.z_new, work.f_new, work.local, work.r_new, work.K, work.M, work.W
    before, chosen, work_n = work.before, work.chosen, work.work_n
    keeps = known.shape[0] > 0
    sleepers = chosen.shape[0] > 0
    shrinks = total > n
    closes = stiff_method and settings[CLOSES] > 0.0 and clock[STOP] < np.inf and not keeps
    if closes and clock[CLOSES_BELOW] == 0.0:
        clock[CLOSES_BELOW] = NEAR_IF_SHRINKING if shrinks else NEAR
    trace = work.trace
    here = System(X, y, rows)
    trial = System(X, y, work.rows)
    awake = trial
    reason = RUNNING
    if clock[STARTED] == 0.0:
        count[RHS] += 1
        clock[STARTED] = 1.0
        if not evaluate(rule, here, c, z, params[0], r, f, work_n):
            reason = DIVERGED
    elif sleepers and shrinks:
        evaluate(rule, here, c, z, params[0], r, f, work_n)  # for the rule's vector of work
    if sleepers and shrinks:
        copy(work_n[0], trace[1])
        stage_weights(C, b, gamma, work.weights[0])
        stage_weights(C, error_high, gamma, work.weights[1])
    if reason == RUNNING:
        reason = plan(here, f, r, clock, count, settings, stiff_method, order)
    fresh, changed = True, False
    n_awake = -1  # not chosen yet
    asleep = -np.inf
    while reason == RUNNING and attempts > 0:
        attempts -= 1
        h = clock[H]
        if per_stage(params):
            # Parameters may have jumped since the last step ended here.
            evaluate(rule, here, c, z, params[0], r, f, work_n)
            count[RHS] += 1
        tolerance = settings[RTOL] + min(1e-6, ROUNDING * clock[REACH])
        ratio_scale = clock[RATIO_SCALE]
        copy(r, r_new)
        if not sleepers:
            copy_rows(rows[BETA:RATIO + 1], before)
        closing = closes and may_close(h, clock)
        if closing:
            h = clock[STOP] - clock[T]
            if sleepers:
                copy_rows(rows[BETA:PRODUCT + 1], trial.rows[BETA:PRODUCT + 1])
            scaled = closing_attempt(
                rule, curvature, trial, c, z, f, h, tolerance, ratio_scale, params, settings[STRENGTH], z_new, f_new, r_new,
                local, K, M, W, work.panel, work.diagonal, work.row_scale, work_n, work.room, count)
            count[FACTORIZATIONS] += 3
            if not scaled <= 1.0:
                clock[CLOSES_BELOW] = _NEARER * clock[AHEAD]
                count[REJECTED] += 1
                if not sleepers:
                    copy_rows(before, rows[BETA:RATIO + 1])
                continue
        elif stiff_method:
            if sleepers:
                if fresh:
                    asleep = threshold(h, settings[ASLEEP], settings[COUPLING], settings[RTOL])
                    found = rouse(here, h, asleep, work.marks, chosen, n_awake)
                    if found >= 0:
                        n_awake = found
                        if n * (n_awake + 1) > buffer.shape[0]:
                            n_awake = d
                        changed = True
                    fresh = False
                if changed:
                    changed = False
                    awake = trial
                    if n_awake < d:
                        awake = System(buffer_read[:n * n_awake].reshape((n, n_awake)), buffer_read[buffer.shape[0] - n:],
                                       work.space[:ROWS * n_awake].reshape((ROWS, n_awake)))
                        gather(here, chosen[:n_awake], buffer, awake.rows)
                if n_awake < d:
                    hold_others(awake, here, r, chosen[:n_awake], buffer)
            if n_awake == d:
                copy_rows(rows[BETA:SIZE + 1], trial.rows[BETA:SIZE + 1])
            if sleepers and shrinks and n_awake < d:
                copy(r, trace[0])
                scaled, stiffness = awake_attempt(
                    rule, curvature, awake, trial, c, z, f, h, tolerance, ratio_scale, params, A, C, b, error_high, gamma,
                    filtered, settings[STRENGTH], settings[ASCENT], work.weights, chosen[:n_awake], work.parts, z_new, f_new,
                    r_new, local, K, M, W, work.panel, work.diagonal, work.row_scale, work_n, work.room, trace)
            else:
                scaled, stiffness = rosenbrock_attempt(
                    rule, curvature, large, awake, trial, c, z, f, h, tolerance, ratio_scale, params, A, C, b, error_high,
                    gamma, filtered, settings[COUPLED] > 0.0, z_new, f_new, r_new, local, K, M, W, work.panel, work.diagonal,
                    known[:d], settings[SHARE], settings[SQUARED_NORM], work.row_scale, work_n, work.room, trace[:0])
            count[FACTORIZATIONS] += 1
            if keeps and math.isnan(stiffness):
                reason = go_on_in_double(M, known[:d], work.diagonal)
                continue
            if scaled <= 1.0 and clock[STOP] < np.inf:
                # The error of nu makes one of ``K e / c`` in the residual.
                multiply_gram(large, M, work.diagonal, local[:n], work_n[1])
                part = _ERROR_ON_THE_WAY if closes and h < clock[STOP] - clock[T] else _ERROR_OF_RESIDUAL
                scaled = with_loss(scaled, tolerance, norm(work_n[1]) / c, part * norm(r_new))
        else:
            scaled, stiffness = explicit_attempt(
                rule, trial, c, z, f, h, tolerance, ratio_scale, params, A, b, error_high, error_low,
                z_new, f_new, r_new, local, K, work_n)
        count[RHS] += 0 if closing else stages
        if not scaled <= 1.0:  # NaN included
            if not sleepers:
                copy_rows(before, rows[BETA:RATIO + 1])
            reason = reject(h, scaled, order, clock, count)
            continue
        if sleepers and n_awake < d and not closing:
            startled = startle(trial, asleep, work.marks, chosen, n_awake)
            if startled > n_awake:
                n_awake = startled if n * (startled + 1) <= buffer.shape[0] else d
                changed = True
                count[REJECTED] += 1
                continue
        at_stop = h >= clock[STOP] - clock[T]
        clock[T] = clock[STOP] if at_stop else clock[T] + h
        count[ACCEPTED] += 1
        if closes:
            look_ahead(trial.rows[RATIO], rows[RATIO] if sleepers else before[RATIO - BETA], norm(r_new), norm(r), clock)
        copy(z_new, z)
        copy(f_new, f)
        if sleepers:
            copy_rows(trial.rows[BETA:RATIO + 1], rows[BETA:RATIO + 1])
        copy(r_new, r)
        if sleepers and shrinks:
            copy(work_n[0], trace[1])
        if closing:  # the error of such a step is one of its end
            contract(large, M, W, work.diagonal, work.row_scale, error)
        for k in range(total):
            error[k] += local[k]
        if stiff_method and not closing:
            contract(large, M, W, work.diagonal, work.row_scale, error)
        if not closing:
            control(h, scaled, stiffness, stiff_method, order, memory, clock)
        reason = plan(here, f, r, clock, count, settings, stiff_method, order)
        fresh = True
        if reason == RUNNING and at_stop:
            reason = AT_STOP
        if reason == RUNNING and settings[SWITCHING] > 0.0:
            reason = notice_stiffness(stiff_method, stiffness, clock, count, settings)
    report(here, z, error, r, clock)
    return reason


@njit()
def may_close(h, clock):
    """Whether to try the last step to the stop: the flow has not far to go, and with steps of size h many would be left."""
    ahead = clock[AHEAD]
    return 0.0 < ahead <= clock[CLOSES_BELOW] and LEAST_STEPS * h < clock[STOP] - clock[T]


@njit()
def look_ahead(ratio, before, residual, last, clock):
    """Estimate how far the logarithms of the weights have to go, after a step: moves fall as fast as the residual does."""
    falls = residual / last if last > 0.0 else 1.0
    clock[AHEAD] = largest_difference(ratio, before) * falls / (1.0 - falls) if falls < 1.0 else 0.0


@njit()
def go_on_in_double(kept, known, marked):
    """Let the next attempt have its Gram matrix in double precision, if there is room for one; else WANTS_DOUBLE."""
    if kept.shape[1] < kept.shape[0]:
        return WANTS_DOUBLE
    double_kept(known, marked)
    return RUNNING


@njit()
def with_loss(scaled, tolerance, wrong, allowed):
    """Return the error of a step in tolerances, `scaled`, or that of its loss: the residual is `wrong` by that much."""
    by_loss = wrong / allowed if allowed > 0.0 else 0.0
    return max(scaled, min(scaled * tolerance / _UNSEEN, by_loss))


@njit()
def per_stage(params):
    """Whether the parameters depend on time: one row for each stage."""
    return params.shape[0] > 1


@njit(types.void(SYSTEM, VECTOR, VECTOR, VECTOR, VECTOR), allocates=False)
def report(here, z, error, r, clock):
    """Report the logarithms of the weights, the norm of the residual and the estimated errors: of beta, relative, and of Q."""
    n, d = here.X.shape
    rows, moved = here.rows, here.rows[WORK]
    rmatvec(here.X, error[:n], 4.0, moved)
    for j in range(d):
        rows[LOG_U, j] = 0.5 * (rows[PRODUCT, j] + rows[RATIO, j])
        rows[LOG_V, j] = 0.5 * (rows[PRODUCT, j] - rows[RATIO, j])
        moved[j] *= rows[SIZE, j]
        if error.shape[0] > n:
            moved[j] += 4.0 * rows[BETA, j] * error[n + j]
    clock[RESIDUAL] = norm(r)
    length = norm(rows[BETA])
    clock[ERROR_OF_BETA] = norm(moved) / length if length > 0.0 else 0.0
    largest = 0.0
    for k in range(n, error.shape[0]):
        if not abs(error[k]) <= largest:  # a NaN must win: `max` would drop it
            largest = abs(error[k])
        if largest != largest:
            break
    clock[ERROR_OF_Q] = largest


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
