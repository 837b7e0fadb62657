"""The compiled loop over the cells of a tile that runs eight of them side by side, by a Rosenbrock method.

One step of eight runs is made of vector operations alone, see `dln._lanes`.  Each lane has a run of its own, with its own step
sizes and acceptance, decided by the very code of single runs; when it has ended, the next cell takes its place.  Lanes never
look at each other, so a cell's result does not depend on its neighbours.  Next to `dln.flow` sums are added up in another
order, and no coordinate is left out of a step: results agree to rounding, and to what leaving coordinates out costs there.
"""

import math

import numpy as np
from numba import types

from .._jit import DATA_MATRIX, DATA_VECTOR, INTEGERS, MATRIX, VECTOR, njit
from .._lanes import LANES
from . import lane_steps as ls
from . import planning, starting, stepping
from . import state as st
from .state import ACCEPTED, AT_STOP, BETA, DIVERGED, FACTORIZATIONS, REJECTED, RHS, RUNNING, SIZE, System, T
from .tile_kernel import (
    CELL,
    CELLS,
    ENDS,
    KERNELS,
    MAX_STEPS,
    PLACE,
    STATE,
    STIFF_SHARE,
    Ends,
    State,
    begin,
    keep,
)

# What each lane has integers of: its cell, -1 if it has none; whether it has just begun.
WHICH, NEW, PLACES_SIZE = range(3)
PLACES = types.Array(types.int64, 2, "C")

#: ``A, C; m and e; gamma, order, filtered, memory``.
TABLEAU = types.Tuple((DATA_MATRIX, DATA_MATRIX, DATA_MATRIX, types.float64, types.int64, types.boolean, types.float64))

RUN_LANES = types.void(
    KERNELS, DATA_MATRIX, DATA_VECTOR, types.float64, DATA_VECTOR, DATA_VECTOR, INTEGERS, TABLEAU, DATA_MATRIX, ls.KIND,
    CELLS, STATE, ENDS, INTEGERS, INTEGERS, ls.DATA, ls.RUNS, ls.STEP, PLACES, MATRIX,
    types.float64)


@njit(RUN_LANES)
def run_lanes(kernels, X, y, c, facts_of_data, options, facts, tableau, penalties, kind, cells, state, ends, order, cursor,
              data, runs, step, places, settings, budget):
    """Run the cells of `order`, from where the cursor stands, until all are done or `budget` multiply-adds have been spent.

    `penalties` are strength and ascent step, (C or 1, 2); `places` (PLACES_SIZE, LANES) and `settings` (LANES, ...) are those
    of the lanes.
    """
    clocks, counts, t_ends = ends[4], ends[6], cells[3]
    A, C, weights, gamma, rank, filtered, memory = tableau
    n, d = X.shape
    stages = A.shape[0]
    numbers = runs.numbers
    cost = LANES * (4.0 * (stages + n) * n * d + 1e3)
    spent = 0.0
    while spent < budget:
        while cursor[PLACE] < order.shape[0] and places[WHICH].min() < 0:
            for lane in range(LANES):
                if places[WHICH, lane] < 0 and cursor[PLACE] < order.shape[0]:
                    cursor[CELL] = order[cursor[PLACE]]
                    cursor[PLACE] += 1
                    begin(kernels, X, y, c, facts_of_data, options, facts, cells, state, ends, cursor)
                    places[WHICH, lane], places[NEW, lane] = cursor[CELL], 1
                    _place(lane, cursor[CELL], penalties, state, runs, settings, numbers)
            # The first right-hand sides of those that are new; what the others have there is not looked at.
            for k in range(runs.z.shape[0]):
                for lane in range(LANES):
                    step.z[k, lane] = runs.z[k, lane]
            for lane in range(LANES):
                numbers[ls.FAILED, lane] = 0.0
                numbers[ls.ACCEPTED, lane] = places[NEW, lane]
            ls.evaluate(kind, data, c, runs, step)
            ls.survey(kind, d, data, c, runs, step)
            ls.accept(False, runs, step)
            spent += cost
            for lane in range(LANES):
                if places[NEW, lane] != 0:
                    places[NEW, lane] = 0
                    i = places[WHICH, lane]
                    counts[i, RHS] += 1
                    clocks[i, st.STARTED] = 1.0
                    reason = DIVERGED
                    if not numbers[ls.FAILED, lane] > 0.0:
                        reason = _plan(numbers, lane, clocks[i], counts[i], settings[lane], rank)
                    if reason != RUNNING:
                        _finish(reason, lane, X, y, facts, cells, state, ends, cursor, runs, places)
        busy = False
        for lane in range(LANES):
            i = places[WHICH, lane]
            busy |= i >= 0
            numbers[ls.H, lane] = clocks[i, st.H] if i >= 0 else 0.0
            numbers[ls.RATIO_SCALE, lane] = clocks[i, st.RATIO_SCALE] if i >= 0 else 1.0
            numbers[ls.STRICT, lane] = 1.0
            if i >= 0 and not kind.coupled:
                numbers[ls.STRICT, lane] = st.strictness(_tolerance(settings[lane], clocks[i]))
        if not busy:
            return
        ls.attempt(kind, data, c, runs, step, A, C, weights, gamma, filtered)
        ls.survey(kind, d, data, c, runs, step)
        spent += cost
        for lane in range(LANES):
            i = places[WHICH, lane]
            numbers[ls.ACCEPTED, lane] = 0.0
            if i >= 0:
                clock, count = clocks[i], counts[i]
                count[FACTORIZATIONS] += 1
                count[RHS] += stages
                tolerance = _tolerance(settings[lane], clock)
                # Until its fate is decided the row has the error, in tolerances.
                numbers[ls.ERROR, lane] = np.inf if numbers[ls.FAILED, lane] > 0.0 else numbers[ls.ERROR, lane] / tolerance
                if numbers[ls.ERROR, lane] <= 1.0 and clock[st.STOP] < np.inf:
                    numbers[ls.ERROR, lane] = planning.with_loss(
                        numbers[ls.ERROR, lane], tolerance, numbers[ls.WRONG, lane],
                        planning.ERROR_OF_RESIDUAL * numbers[ls.RESIDUAL, lane])
                if numbers[ls.ERROR, lane] <= 1.0:
                    numbers[ls.ACCEPTED, lane] = 1.0
        ls.accept(True, runs, step)
        for lane in range(LANES):
            i = places[WHICH, lane]
            if i >= 0:
                free = t_ends[i if t_ends.shape[0] > 1 else 0, 0] == np.inf
                reason = _next(numbers, lane, clocks[i], counts[i], settings[lane], rank, memory, facts[STIFF_SHARE],
                               facts[MAX_STEPS], free)
                if reason != RUNNING:
                    _finish(max(reason, RUNNING), lane, X, y, facts, cells, state, ends, cursor, runs, places)


@njit()
def _tolerance(settings, clock):
    return settings[planning.RTOL] + min(1e-6, planning.ROUNDING * clock[st.REACH])


ORDINARY = 100.0  # of log(u v); beyond, gradient flow is not run in lanes
_USED_UP = -1  # a limit of the run is: the reason is then RUNNING


@njit(types.int64(MATRIX, types.int64, VECTOR, INTEGERS, VECTOR, types.int64, types.float64, types.int64, types.int64,
                  types.boolean))
def _next(numbers, lane, clock, count, settings, rank, memory, share, max_steps, free):
    """Accept or reject the step of a lane, and plan the next one; return the reason to stop, or RUNNING."""
    h, scaled = clock[st.H], numbers[ls.ERROR, lane]
    if numbers[ls.ACCEPTED, lane] > 0.0:
        at_stop = h >= clock[st.STOP] - clock[T]
        clock[T] = clock[st.STOP] if at_stop else clock[T] + h
        count[ACCEPTED] += 1
        planning.control(h, scaled, 0.0, True, rank, memory, clock)
        reason = _plan(numbers, lane, clock, count, settings, rank)
        if reason == RUNNING and at_stop:
            reason = AT_STOP
    else:
        reason = planning.reject(h, scaled, rank, clock, count)
    if reason != RUNNING:
        return reason
    attempts = count[ACCEPTED] + count[REJECTED]
    if attempts >= max_steps or (free and attempts % share == 0 and starting.stalls(count)):
        return _USED_UP
    return RUNNING


@njit(types.int64(MATRIX, types.int64, VECTOR, INTEGERS, VECTOR, types.int64))
def _plan(numbers, lane, clock, count, settings, rank):
    residual = numbers[ls.RESIDUAL, lane]
    if not math.isfinite(residual):
        return DIVERGED
    found = planning.Survey(
        numbers[ls.REACH, lane], numbers[ls.ACTIVE_REACH, lane], numbers[ls.LARGEST_RATE, lane], 0.0,
        numbers[ls.LARGEST_Q, lane], numbers[ls.LARGEST_TOP, lane], numbers[ls.LARGEST_RATIO, lane], numbers[ls.GROWING, lane],
        numbers[ls.LANDS, lane], numbers[ls.LANDING_CAP, lane], numbers[ls.SETTLED, lane] > 0.0)
    return planning.decide(residual, found, clock, count, settings, True, rank)


@njit(types.void(types.int64, types.int64, DATA_MATRIX, STATE, ls.RUNS, MATRIX, MATRIX))
def _place(lane, i, penalties, state_given, runs, settings, numbers):
    """Put the start of cell i, which `begin` left in the state, into a lane."""
    state = State(*state_given)
    for k in range(settings.shape[1]):
        settings[lane, k] = state.settings[k]
    for j in range(state.rows.shape[1]):
        runs.log_product[j, lane] = state.rows[st.LOG_PRODUCT, j]
        runs.log_ratio[j, lane] = state.rows[st.LOG_RATIO, j]
        runs.scale[j, lane] = math.exp(min(ORDINARY, state.rows[st.LOG_PRODUCT, j]))  # of gradient flow alone
    for k in range(runs.z.shape[0]):
        runs.z[k, lane] = 0.0
        runs.error[k, lane] = 0.0
    row = i if penalties.shape[0] > 1 else 0
    numbers[ls.STRENGTH, lane], numbers[ls.ASCENT, lane] = penalties[row, 0], penalties[row, 1]
    numbers[ls.DORMANT, lane] = state.settings[planning.DORMANT]
    numbers[ls.SMALLEST, lane] = math.exp(state.settings[planning.DORMANT])
    numbers[ls.KERNEL_RATIO, lane] = state.settings[planning.KERNEL_RATIO]
    numbers[ls.STATIONARY_TOL, lane] = state.settings[planning.STATIONARY_TOL]


@njit(types.void(types.int64, types.int64, DATA_MATRIX, DATA_VECTOR, INTEGERS, CELLS, STATE, ENDS, INTEGERS, ls.RUNS, PLACES))
def _finish(reason, lane, X, y, facts, cells, state_given, ends_given, cursor, runs, places):
    """Keep the state of a lane as the end of its cell; the lane is idle then."""
    n, d = X.shape
    m = runs.r.shape[0]
    i = places[WHICH, lane]
    cursor[CELL] = i
    state, ends = State(*state_given), Ends(*ends_given)
    rows = state.rows
    for j in range(d):
        rows[BETA, j] = runs.beta[j, lane]
        rows[SIZE, j] = runs.size[j, lane]
        rows[st.PRODUCT, j] = 0.0  # the report of log u and log v is not asked for
        rows[st.RATIO, j] = 0.0
    for k in range(n):
        state.z[k] = runs.z[k, lane]
        state.error[k] = runs.error[k, lane]
        state.r[k] = runs.r[k, lane]
    for k in range(state.z.shape[0] - n):
        state.z[n + k] = runs.z[m + k, lane]
        state.error[n + k] = runs.error[m + k, lane]
    stepping.report(System(X, y, rows), state.z, state.error, state.r, ends.clocks[i])
    keep(reason, facts, cells, state_given, ends_given, cursor)
    places[WHICH, lane] = -1
