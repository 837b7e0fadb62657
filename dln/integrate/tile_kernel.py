"""The compiled loop over cells of a tile, one after another: what `flow.Integration` does for a run, without Python in between.

It calls the very machine code that single runs call, by address, with the same shares of attempts: compiled into this loop
once more it could be vectorised otherwise, and bits would differ.
"""

from collections import namedtuple

import numpy as np
from numba import types

from .._jit import DATA_MATRIX, DATA_VECTOR, INTEGERS, MATRIX, VECTOR, caller, njit
from .._large import BEGIN, TRIANGLE, call_begin_kept
from .._linalg import copy
from . import plateaus, starting, stepping
from .planning import (
    ASCENT,
    ASLEEP,
    CALM_STRETCH,
    CLOSES,
    COUPLED,
    DORMANT,
    ERROR_GOAL,
    NOISE,
    RESIDUAL_SCALE,
    ROOM,
    RTOL,
    SHARE,
    SQUARED_NORM,
    STATIONARY_TOL,
    STRENGTH,
    SWITCHING,
    WIDENS,
)
from .plateaus import LIMIT_TOL
from .state import (
    ACCEPTED,
    BEST_RESIDUAL,
    BETA,
    ERROR_OLD,
    FOUND_CALM,
    FOUND_STIFF,
    LOG_PRODUCT,
    LOG_RATIO,
    REJECTED,
    RUNNING,
    STOP,
)

call_advance = caller(stepping.ADVANCE)
call_cross = caller(plateaus.CROSS)
call_set_scales = caller(starting.SET_SCALES)

EXPLICIT, ROSENBROCK, PLATEAUS = range(3)  # methods
ANY, ONLY_EXPLICIT, ONLY_ROSENBROCK = range(3)  # those that were asked for

# What is the same for all cells: floats, and integers.
TILE_RTOL, TILE_RESIDUAL_TOL, TILE_SHARE, TILE_SQUARED_NORM, TILE_ROOM, TILE_WIDENS, OPTIONS_SIZE = range(7)
(WISH, MAX_STEPS, EXPLICIT_SHARE, STIFF_SHARE, LOOSE, PLAIN, SHRINKS, SETTLES, FACTS_SIZE) = range(9)
# Where the loop is: the place in the order of cells, the cell, whether its run has begun, its method, and whether coordinates
# may have been held.
PLACE, CELL, BEGUN, METHOD, HELD, CURSOR_SIZE = range(6)

#: Addresses: `advance`, `cross`, `set_scales`, the rule's kernel, its curvature, and those of `_large.RARE`.
KERNELS = types.UniTuple(types.intp, 12)
#: ``A, C, b, error, second error, gamma, order, filtered, memory``: the arguments of `advance`.
TABLEAU = types.Tuple((DATA_MATRIX, DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, DATA_VECTOR, types.float64, types.int64,
                       types.boolean, types.float64))
#: ``log_alphas, log_ratios, params, t_ends, coupled`` of the cells: (C or 1, d or 1), twice, (C or 1, k), (C or 1, 1), and
#: (C or 1, 5): `Rule.coupled`, `Rule.dormant_pair`, `methods.relaxes`, and `methods.noise_of_single`.
CELLS = types.UniTuple(DATA_MATRIX, 5)
#: The state of one run: ``rows, work_d, params; z, f, r, error, settings; plateau, notes, peak;
#: kept, known; triangle, row_factors``, the latter of `RowSpace.gram`.
STATE = types.Tuple((MATRIX, MATRIX, MATRIX, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, MATRIX, VECTOR, VECTOR, MATRIX, VECTOR,
                     TRIANGLE, DATA_VECTOR))
#: ``betas (C, d), log_effective_alphas, shrinkage_errors (C, d or 0), nus (C, N), clocks, scales (C,)``, and integers
#: ``counts, tallies, ends (C, 3)``: the reason, the last method, and whether coordinates may have been held.
ENDS = types.Tuple((MATRIX, MATRIX, MATRIX, MATRIX, MATRIX, VECTOR,
                    types.Array(types.int64, 2, "C"), types.Array(types.int64, 2, "C"), types.Array(types.int64, 2, "C")))
REASON, LAST_METHOD, WAS_HELD, ENDS_SIZE = range(4)

Cells = namedtuple("Cells", "log_alphas log_ratios params t_ends coupled")
State = namedtuple("State", "rows work_d params z f r error settings plateau notes peak kept known triangle row_factors")
Ends = namedtuple("Ends", "betas log_effective_alphas shrinkage_errors nus clocks scales counts tallies ends")

RUN_TILE = types.void(KERNELS, DATA_MATRIX, DATA_VECTOR, types.float64, DATA_VECTOR, DATA_VECTOR, INTEGERS, TABLEAU, TABLEAU,
                      CELLS, STATE, ENDS, INTEGERS, INTEGERS, types.float64)


@njit(RUN_TILE)
def run_tile(kernels, X, y, c, data, options, facts, explicit, stiff, cells_given, state_given, ends_given, order, cursor,
             budget):
    """Run the cells of `order`, from where the cursor stands, until all are done or `budget` multiply-adds have been spent."""
    cells, state, ends = Cells(*cells_given), State(*state_given), Ends(*ends_given)
    n, d = X.shape
    spent = 0.0
    while cursor[PLACE] < order.shape[0] and spent < budget:
        cursor[CELL] = order[cursor[PLACE]]
        i = cursor[CELL]
        count = ends.counts[i]
        free = t_end_of(cells, i) == np.inf
        if cursor[BEGUN] == 0:
            begin(kernels, X, y, c, data, options, facts, cells_given, state_given, ends_given, cursor)
            spent += 10.0 * n * d + 1e4
        reason = RUNNING
        while spent < budget:
            before = count[ACCEPTED] + count[REJECTED]
            left = facts[MAX_STEPS] - before
            if left <= 0 or (free and starting.stalls(count)):
                cursor[BEGUN] = 0
                break
            attempts = min(left, facts[EXPLICIT_SHARE] if cursor[METHOD] == EXPLICIT else facts[STIFF_SHARE])
            reason = _call(kernels, X, y, c, explicit, stiff, cells, state, ends, cursor, attempts)
            stages = explicit[0].shape[0] if cursor[METHOD] == EXPLICIT else stiff[0].shape[0] + n
            spent += (1.0 + count[ACCEPTED] + count[REJECTED] - before) * (4.0 * stages * n * d + 1e3)
            if reason == FOUND_STIFF or reason == FOUND_CALM:
                method = ROSENBROCK if reason == FOUND_STIFF else EXPLICIT
                _use(method, free, options, facts, state, cursor)
                if reason == FOUND_CALM:
                    state.settings[CALM_STRETCH] *= 2.0
            elif reason != RUNNING:
                cursor[BEGUN] = 0
                break
        if cursor[BEGUN] == 0:
            keep(reason, facts, cells_given, state_given, ends_given, cursor)
            cursor[PLACE] += 1


@njit()
def _row(table, i):
    return i if table.shape[0] > 1 else 0


@njit()
def t_end_of(cells, i):
    """Return the final time of a cell, infinite where it is to run to its limit."""
    return cells.t_ends[_row(cells.t_ends, i), 0]


@njit(types.void(KERNELS, DATA_MATRIX, DATA_VECTOR, types.float64, DATA_VECTOR, DATA_VECTOR, INTEGERS, CELLS, STATE, ENDS,
                 INTEGERS))
def begin(kernels, X, y, c, data, options, facts, cells_given, state_given, ends_given, cursor):
    """Put the state at the start of the cell at the cursor, and choose its method."""
    cells, state, ends = Cells(*cells_given), State(*state_given), Ends(*ends_given)
    rows, settings, i = state.rows, state.settings, cursor[CELL]
    clock = ends.clocks[i]
    rows[:] = 0.0
    state.z[:] = 0.0
    state.f[:] = 0.0
    state.r[:] = 0.0
    state.error[:] = 0.0
    settings[:] = 0.0
    clock[:] = 0.0
    clock[BEST_RESIDUAL] = np.inf
    clock[ERROR_OLD] = 1.0
    ends.counts[i] = 0
    ends.tallies[i] = 0
    scale, ratio = cells.log_alphas[_row(cells.log_alphas, i)], cells.log_ratios[_row(cells.log_ratios, i)]
    for j in range(rows.shape[1]):
        rows[LOG_PRODUCT, j] = 2.0 * scale[j if scale.shape[0] > 1 else 0]
        rows[LOG_RATIO, j] = ratio[j if ratio.shape[0] > 1 else 0]
    copy(cells.params[_row(cells.params, i)], state.params[0])
    ends.scales[i] = call_set_scales(
        kernels[2], (X, y, c, data, options[TILE_RTOL], options[TILE_RESIDUAL_TOL], facts[SHRINKS] != 0, rows[LOG_PRODUCT],
                     rows[LOG_RATIO], settings, state.work_d, state.r))
    t_end = t_end_of(cells, i)
    free = t_end == np.inf
    settings[RESIDUAL_SCALE] = ends.scales[i] if free and facts[SETTLES] != 0 else -1.0
    settings[STATIONARY_TOL] = 1e-6 if free else -1.0
    settings[COUPLED] = cells.coupled[_row(cells.coupled, i), 0]
    settings[STRENGTH] = cells.coupled[_row(cells.coupled, i), 1]
    settings[ASCENT] = cells.coupled[_row(cells.coupled, i), 2]
    settings[CLOSES] = cells.coupled[_row(cells.coupled, i), 3]
    settings[NOISE] = cells.coupled[_row(cells.coupled, i), 4]
    settings[SHARE] = options[TILE_SHARE]
    settings[SQUARED_NORM] = options[TILE_SQUARED_NORM]
    settings[ROOM] = 0.0 if settings[COUPLED] > 0.0 else options[TILE_ROOM]
    settings[WIDENS] = options[TILE_WIDENS]
    state.kept[:] = 0.0
    state.known[:] = 0.0
    if state.known.shape[0] > 0:
        call_begin_kept(kernels[5 + BEGIN], (
            state.triangle, state.row_factors, rows[LOG_PRODUCT], rows[LOG_RATIO], c, options[TILE_SQUARED_NORM],
            options[TILE_SHARE], state.kept, state.known))
    settings[SWITCHING] = 1.0 if facts[WISH] == ANY and facts[LOOSE] == 0 else 0.0
    clock[STOP] = t_end
    cursor[BEGUN] = 1
    cursor[HELD] = 0
    if facts[WISH] == ANY and facts[PLAIN] != 0 and starting.sleeps(
            rows[LOG_PRODUCT], rows[LOG_RATIO], settings, free):
        _use(PLATEAUS, free, options, facts, state, cursor)
    else:
        stiff = facts[WISH] == ONLY_ROSENBROCK or facts[LOOSE] != 0
        _use(ROSENBROCK if stiff else EXPLICIT, free, options, facts, state, cursor)


@njit()
def _use(method, free, options, facts, state, cursor):
    settings = state.settings
    cursor[METHOD] = method
    if method == PLATEAUS:
        cursor[HELD] = 1
        settings[ASLEEP] = min(settings[ASLEEP], settings[DORMANT])
        if free:
            # Only the limit is asked for: errors on the way die out, and whatever the way, the limit is the same.
            settings[RTOL] = max(options[TILE_RTOL], LIMIT_TOL)
            settings[ASLEEP] = settings[DORMANT]
            settings[ERROR_GOAL] = options[TILE_RTOL]
        state.plateau[:] = 0.0
        state.notes[:] = 0.0
        state.peak[:] = 0.0
    elif method == ROSENBROCK and settings[ROOM] > 0.0:
        cursor[HELD] = 1


@njit()
def _call(kernels, X, y, c, explicit, stiff, cells, state, ends, cursor, attempts):
    i = cursor[CELL]
    clock, count = ends.clocks[i], ends.counts[i]
    if cursor[METHOD] == PLATEAUS:
        A, C, m, e, _, gamma, order, _, memory = stiff
        return call_cross(kernels[1], (
            kernels[3], X, y, c, state.rows, state.z, state.f, state.r, state.error, clock, count, state.settings,
            state.params[0], state.plateau, state.notes, state.peak, ends.tallies[i], A, C, m, e, gamma, order, memory,
            attempts))
    is_stiff = cursor[METHOD] == ROSENBROCK
    A, C, b, high, low, gamma, order, filtered, memory = stiff if is_stiff else explicit
    return call_advance(kernels[0], (
        kernels[3], kernels[4], kernels[5:], is_stiff, X, y, c, state.rows, state.z, state.f, state.r, state.error, clock,
        count, state.settings, state.params, state.kept, state.known, A, C, b,
        high, low, gamma, order, filtered, memory, attempts))


@njit(types.void(types.int64, INTEGERS, CELLS, STATE, ENDS, INTEGERS))
def keep(reason, facts, cells_given, state_given, ends_given, cursor):
    """Keep the state as the end of the cell at the cursor."""
    cells, state, ends = Cells(*cells_given), State(*state_given), Ends(*ends_given)
    i = cursor[CELL]
    n, d = state.r.shape[0], state.rows.shape[1]
    copy(state.rows[BETA], ends.betas[i])
    copy(state.z, ends.nus[i])  # of the state the first part
    if facts[SHRINKS] != 0:
        scale = cells.log_alphas[_row(cells.log_alphas, i)]
        for j in range(d):
            ends.log_effective_alphas[i, j] = scale[j if scale.shape[0] > 1 else 0] - 2.0 * state.z[n + j]
        copy(state.error[n:], ends.shrinkage_errors[i])
    ends.ends[i, REASON] = reason
    ends.ends[i, LAST_METHOD] = cursor[METHOD]
    ends.ends[i, WAS_HELD] = cursor[HELD]
