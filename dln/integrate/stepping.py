"""The loop over steps: planning, acceptance, landings, and why it stops.  One compiled kernel for every rule and method."""

import math

import numpy as np
from numba import types

from .._jit import DATA_MATRIX, DATA_VECTOR, INTEGERS, MATRIX, VECTOR, njit
from .._large import CLOSE, DOZE, RARE, SINGLE, double_kept
from .._linalg import copy, copy_rows, norm, rmatvec
from .._simd import WIDTH
from .._streams import IN_CACHE
from .awake_steps import call_awake
from .closing import NEAR, NEAR_IF_SHRINKING, call_closing
from .explicit import explicit_attempt
from .planning import (
    ASCENT,
    ASLEEP,
    CLOSES,
    COUPLED,
    COUPLING,
    ERROR_OF_RESIDUAL,
    ERROR_ON_THE_WAY,
    NOISE,
    ROOM,
    ROUNDING,
    RTOL,
    SHARE,
    SQUARED_NORM,
    STRENGTH,
    SWITCHING,
    WIDENS,
    control,
    look_ahead,
    may_close,
    notice_stiffness,
    plan,
    refuse_closing,
    reject,
    with_loss,
)
from .rosenbrock import contract, multiply_gram, rosenbrock_attempt, stage_weights
from .single_steps import SINGLE_FROM, call_single, keep_penalty, weigh_stages
from .sleep import gather, hold_others, rouse, startle, threshold
from .state import (
    ACCEPTED,
    AT_STOP,
    BETA,
    CLOSES_BELOW,
    DIVERGED,
    ERROR_OF_BETA,
    ERROR_OF_Q,
    FACTORIZATIONS,
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
    STOP,
    SYSTEM,
    WANTS_DOUBLE,
    WORK,
    H,
    System,
    T,
    evaluate,
    fix_scale,
)
from .work import WORK_ARRAYS, aligned, narrow_rows, widened, widened_data, widened_rows, work_of

_DOUBTS = 3  # attempts in single precision that did not do, one after another, after which none are made

ADVANCE = types.int64(
    types.intp, types.intp, RARE, types.boolean, DATA_MATRIX, DATA_VECTOR, types.float64,
    MATRIX, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, INTEGERS, VECTOR, MATRIX,
    MATRIX, VECTOR, DATA_MATRIX, DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, DATA_VECTOR, types.float64, types.int64, types.boolean,
    types.float64, types.int64,
)


@njit(ADVANCE)
def advance(rule, curvature, large, stiff_method, X, y, c, rows, z, f, r, error, clock, count, settings, params,
            kept, known, A, C, b, error_high, error_low, gamma, order, filtered, memory, attempts):
    """Advance the state in place by at most `attempts` attempted steps; return the reason for stopping.

    With no attempts, evaluate the first right-hand side if that is still to be done, and plan the next step.

    `rule` and `curvature` are addresses, `large` those of `_large.RARE`.  The state is (rows, z, f, r, error); `error`
    is the propagated estimate of the global error of z.  On return the report (rows of log u and log v, the clock's residual
    and error of beta) is of that state.  `params` has one row, or one per stage (and one for the end of the step) for rules
    that depend on time: then `attempts` is 1 and the caller evaluates the rows for the planned step ``clock[H]``.  `kept`
    and `known`, unless they are empty, keep the Gram matrix, and what it knows, from call to call (`_large.kept_arrays`);
    WANTS_DOUBLE asks for larger ones.  `memory` is the weight of the last error in the choice of the next step, or PREDICTIVE.

    ``settings[ROOM]`` is how many numbers the data of the coordinates that are awake may have; where they have more, or with
    no room, all are.  STRENGTH and ASCENT are the rule's `dormant_pair`, if it shrinks.  ``settings[WIDENS]`` says that columns
    of zeros may be added, ``settings[CLOSES]`` that the last step to a stop may be that of `closing.py`, and
    ``settings[NOISE]``, if it is not 0, that stages may be in single precision (`single_steps.py`).
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
    room = int(settings[ROOM]) if stiff_method else 0
    singly = stiff_method and settings[NOISE] > 0.0 and settings[RTOL] >= SINGLE_FROM
    work = work_of(X, rows, z.shape[0], A.shape[0], stiff_method, room, singly, kept, known)
    buffer = aligned(room)
    return _advance(rule, curvature, large, stiff_method, X, y, c, rows, z, f, r, error, clock, count, settings, params, buffer,
                    buffer, known, A, C, b, error_high, error_low, gamma, order, filtered, memory, attempts, work)


@njit(types.int64(
    types.intp, types.intp, RARE, types.boolean, DATA_MATRIX, DATA_VECTOR, types.float64,
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
    closes = stiff_method and settings[CLOSES] > 0.0 and clock[STOP] < np.inf
    if closes and clock[CLOSES_BELOW] == 0.0:
        clock[CLOSES_BELOW] = NEAR_IF_SHRINKING if shrinks else NEAR
    trace, singles = work.trace, work.singles
    singly = singles.rows.shape[0] > 0
    doubts = 0
    if singly and shrinks:
        weigh_stages(singles, A, C, b, error_high, gamma)
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
    fresh, changed, chosen_anew = True, False, False
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
        in_double = True
        if closing:
            h = clock[STOP] - clock[T]
            if sleepers:
                copy_rows(rows[BETA:PRODUCT + 1], trial.rows[BETA:PRODUCT + 1])
            scaled = call_closing(large[CLOSE], (
                rule, curvature, large, trial, c, z, f, h, tolerance, ratio_scale, params, settings[STRENGTH],
                settings[ASCENT], z_new, f_new, r_new, local, K, M, W, work.panel, work.diagonal, known[:d], settings[SHARE],
                settings[SQUARED_NORM], work.row_scale, work_n, work.room, count))
            count[FACTORIZATIONS] += 4 if shrinks else 3
            if not scaled <= 1.0:
                refuse_closing(scaled, clock)
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
                        changed = chosen_anew = True
                    fresh = False
            all_awake = not sleepers or n_awake == d
            if sleepers and shrinks:
                copy(r, trace[0])
            if singly:
                moving = chosen[:0] if all_awake else chosen[:n_awake]
                scaled, stiffness = call_single(large[SINGLE], (
                    here, trial, singles, c, z, f, h, tolerance, ratio_scale, A, C, b, error_high, gamma, filtered,
                    settings[STRENGTH], settings[ASCENT], settings[NOISE], moving, chosen_anew, z_new, f_new, r_new, local, M,
                    W, work.panel, work.diagonal, work.row_scale, work.room, trace))
                chosen_anew = False
                in_double = math.isnan(stiffness)
                doubts = doubts + 1 if in_double else 0
                singly = doubts < _DOUBTS
            all_awake |= shrinks and large[DOZE] == 0  # where steps in double are the exception
            if in_double and sleepers:
                if changed:
                    changed = False
                    if n_awake < d:
                        gather(here, chosen[:n_awake], buffer, work.space[:ROWS * n_awake].reshape((ROWS, n_awake)))
                awake = trial
                if all_awake:
                    copy_rows(rows[BETA:SIZE + 1], trial.rows[BETA:SIZE + 1])
                else:
                    awake = System(buffer_read[:n * n_awake].reshape((n, n_awake)), buffer_read[buffer.shape[0] - n:],
                                   work.space[:ROWS * n_awake].reshape((ROWS, n_awake)))
                    hold_others(awake, here, r, chosen[:n_awake], buffer)
            if in_double and shrinks and not all_awake:
                scaled, stiffness = call_awake(large[DOZE], (
                    rule, curvature, awake, trial, c, z, f, h, tolerance, ratio_scale, params, A, C, b, error_high, gamma,
                    filtered, settings[STRENGTH], settings[ASCENT], work.weights, chosen[:n_awake], work.parts, z_new, f_new,
                    r_new, local, K, M, W, work.panel, work.diagonal, work.row_scale, work_n, work.room, trace))
            elif in_double:
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
                multiply_gram(large, M, W, work.diagonal, local[:n], work_n[1])
                part = ERROR_ON_THE_WAY if closes and not shrinks and h < clock[STOP] - clock[T] else ERROR_OF_RESIDUAL
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
                changed = chosen_anew = True
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
            if in_double:
                copy(work_n[0], trace[1])
            else:
                keep_penalty(singles, trace[1])
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
def go_on_in_double(kept, known, marked):
    """Let the next attempt have its Gram matrix in double precision, if there is room for one; else WANTS_DOUBLE."""
    if kept.shape[1] < kept.shape[0]:
        return WANTS_DOUBLE
    double_kept(known, marked)
    return RUNNING


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
