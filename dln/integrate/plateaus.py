"""Gradient flow at small scales, from plateau to plateau: transitions integrated, plateaus solved for exactly.

Near the rich limit the flow rests on plateaus, where beta is the least-squares solution on a set B of coordinates and all
others sleep, and goes from one to the next by fast transitions.  On a plateau nu is known without integration, however the
flow came there (theorem T23), if no coordinate has left on the way:

    P nu = P nu_0 - c P y (t - t_0),    X_B^T nu = (log(u0/v0)_B - asinh(beta_B / (2 alpha_B^2))) / 4,

with P the projector off span(X_B).  So where the flow has rested for long enough its state is replaced by that solution (a
*jump*), and nu goes on in a straight line until a coordinate wakes (a *flight*).  Transitions are integrated in the
coordinates that are awake, at first loosely: since ``nu' = -grad D(nu)`` with D convex, two solutions never part, and the loose
run stays as close to the true one as the sum of its local errors.  It shows truly which coordinates take part, and the jump
corrects the rest.  Where a coordinate has left, or where a jump would move the state by more than the loose run may have erred,
the transition is done again at the tolerance asked for.
"""

import math

import numpy as np
from numba import types

from .._jit import DATA_MATRIX, DATA_VECTOR, INTEGERS, MATRIX, VECTOR, njit
from .._linalg import cholesky_solve, copy, copy_rows, norm, rmatvec
from .planning import (
    ASLEEP,
    COUPLING,
    DORMANT,
    ERROR_GOAL,
    RESIDUAL_SCALE,
    RESIDUAL_TOL,
    ROUNDING,
    RTOL,
    STATIONARY_TOL,
    control,
    plan,
    reject,
)
from .reduced import (
    FEWER,
    MEMBERS,
    MORE,
    basis_of,
    choose,
    extended,
    reduced_attempt,
    room,
    split,
)
from .rest import (
    AT_REST,
    JOURNAL,
    JUMPED,
    LOOSE,
    NO_JUMP,
    NOTHING,
    ON_THE_WAY,
    PLATEAU_ERROR,
    PLATEAU_H,
    PLATEAU_NU,
    PLATEAU_RESIDUAL,
    PLATEAU_T,
    ROUGH_SINCE,
    STARTLED,
    WAIT,
    Journal,
    flight,
    relaxation,
    settle,
)
from .sleep import threshold
from .state import (
    ACCEPTED,
    AT_STOP,
    BETA,
    CONVERGED,
    DIVERGED,
    ERROR_OF_BETA,
    ERROR_OLD,
    FACTORIZATIONS,
    H_CONTROL,
    LANDING_CAP,
    PRODUCT,
    RATIO,
    REACH,
    REJECTED,
    RHS,
    RUNNING,
    STARTED,
    STATIONARY,
    STOP,
    SYSTEM,
    WORK,
    WORK_RULE,
    H,
    System,
    T,
    evaluate,
    fix_scale,
    log_weight_error,
)
from .stepping import report

LIMIT_TOL = 1e-2  # of transitions where only the limit is asked for
LOOSE_TOL = 3e-2  # of a transition that a jump will correct
_LOOSE_BELOW = 1e-4  # above, a transition twice would cost more than it saves

JUMPS, REPEATS, TALLY_SIZE = range(3)

_TO_SCALE = -math.log(1e-8)  # from where coordinates count as dormant to the scale of the predictor
_STILL = 0.5  # a log weight that moved by more than this in the last step is not at rest
_MOST_REST = 30  # steps that a converged run may go on, to forget its errors

CROSS = types.int64(
    types.intp, DATA_MATRIX, DATA_VECTOR, types.float64,
    MATRIX, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, INTEGERS, VECTOR, VECTOR,
    MATRIX, VECTOR, VECTOR, INTEGERS,
    DATA_MATRIX, DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, types.float64, types.int64, types.float64, types.int64,
)


@njit(CROSS)
def cross(rule, X, y, c, rows, z, f, r, error, clock, count, settings, params, plateau, notes, peak, tally,
          A, C, m, e, gamma, order, memory, attempts):
    """Advance the state in place by at most `attempts` attempted steps; return the reason for stopping.

    As `stepping.advance`, for gradient flow that starts with every coordinate asleep.  `plateau`, `notes` and `peak` make up
    the `Journal`, `tally` counts jumps and repeated transitions; all are 0 to begin with.
    """
    n, d = X.shape
    fix_scale(rows, False)  # before the rows are copied: the copy has to know it, too
    here = System(X, y, rows)
    trial = System(X, y, rows.copy())
    journal = Journal(plateau, notes, peak)
    work_n = np.empty((2, n))
    vectors = np.empty((3, n))
    across = np.empty(n)
    no_q = np.zeros(d)
    z_new = np.empty(n)
    r_new = np.empty(n)
    f_new = np.empty(n)
    local = np.empty(n)
    member = np.zeros(d, dtype=np.bool_)
    space = room(n, d, m.shape[0])
    other_space = room(n, d, 0)
    basis = basis_of(X, member, space)
    loosely = settings[RTOL] < _LOOSE_BELOW
    loose_settings = settings.copy()
    loose_settings[RTOL] = LOOSE_TOL
    loose_settings[RESIDUAL_SCALE] = -1.0  # on a plateau only
    loose_settings[STATIONARY_TOL] = -1.0
    asleep = settings[ASLEEP]
    reason = RUNNING
    rest = 0
    if clock[STARTED] == 0.0:
        count[RHS] += 1
        clock[STARTED] = 1.0
        if not evaluate(rule, here, c, z, params, r, f, work_n):
            reason = DIVERGED
        notes[LOOSE] = notes[AT_REST] = 1.0
        copy(r, plateau[PLATEAU_RESIDUAL])
        _remember(journal, here, z, error, clock)
    loose = loosely and notes[LOOSE] > 0.0
    if reason == RUNNING:
        reason = plan(here, f, r, clock, count, loose_settings if loose and not notes[AT_REST] else settings, True, order)
    while reason == RUNNING and attempts > 0:
        attempts -= 1
        if notes[AT_REST] > 0.0:
            rmatvec(X, plateau[PLATEAU_RESIDUAL], c, rows[WORK])
            h = flight(here, rows[WORK], asleep)
            at_stop = not clock[T] + h < clock[STOP]
            if clock[STOP] == np.inf and at_stop:
                reason = STATIONARY  # no coordinate will ever wake
                break
            if at_stop:
                h = clock[STOP] - clock[T]
            for i in range(n):
                z[i] += h * c * plateau[PLATEAU_RESIDUAL, i]
            clock[T] = clock[STOP] if at_stop else clock[T] + h
            count[ACCEPTED] += 1
            count[RHS] += 1
            if not evaluate(rule, here, c, z, params, r, f, work_n):
                reason = DIVERGED
                break
            clock[H_CONTROL] = 1e300  # as far as to the next landing
            reason = plan(here, f, r, clock, count, settings, True, order)
            clock[ERROR_OLD] = 1.0
            if at_stop:
                reason = AT_STOP if reason == RUNNING else reason
            else:
                notes[AT_REST] = 0.0
            _remember(journal, here, z, error, clock)
            continue
        loose = loosely and notes[LOOSE] > 0.0
        used = loose_settings if loose else settings
        h = clock[H]
        if notes[ROUGH_SINCE] > 0.0:
            left = notes[ROUGH_SINCE] + notes[WAIT] - clock[T]
            if 0.0 < left < h:
                h = left  # no further than to where the plateau counts as reached
        h, clock[LANDING_CAP] = _land(here, h, asleep, settings[DORMANT] + _TO_SCALE + math.log(used[RTOL]), clock[LANDING_CAP])
        held = threshold(h, asleep, settings[COUPLING], used[RTOL])
        change = choose(here, no_q, h, held, member)
        if change == FEWER:
            basis = basis_of(X, member, space)
        elif change == MORE:
            basis = extended(X, basis, member, space)
        k = basis.R.shape[0]
        inside, step, step_error = vectors[0, :k], vectors[1, :k], vectors[2, :k]
        M = space.matrix[:k * k].reshape((k, k))
        split(basis, r, inside, across)
        fits = reduced_attempt(basis, here, c, inside, h, A, C, m, e, gamma, step, step_error, M, space)
        count[RHS] += m.shape[0]
        count[FACTORIZATIONS] += 1
        scaled = np.inf
        if fits:
            rmatvec(basis.rows, step, 1.0, z_new)
            rmatvec(basis.rows, step_error, 1.0, local)
            for i in range(n):
                z_new[i] += z[i] + h * c * across[i]
            scaled = log_weight_error(X, local, 1.0, 1.0, trial.rows[WORK]) / (
                used[RTOL] + min(1e-6, ROUNDING * clock[REACH]))
            if scaled <= 1.0 and not evaluate(rule, trial, c, z_new, params, r_new, f_new, work_n):
                scaled = np.inf
        if not scaled <= 1.0:  # NaN included
            reason = reject(h, scaled, order, clock, count)
            continue
        if _startle(trial, held, member):
            basis = extended(X, basis, member, space)
            count[REJECTED] += 1
            continue
        at_stop = h >= clock[STOP] - clock[T]
        clock[T] = clock[STOP] if at_stop else clock[T] + h
        count[ACCEPTED] += 1
        for i in range(n):
            error[i] += local[i]
        split(basis, error, step, across)
        cholesky_solve(M, step)
        rmatvec(basis.rows, step, 1.0, error)
        for i in range(n):
            error[i] += across[i]
        moved = _moved(trial, here, asleep, peak)
        copy(z_new, z)
        copy(f_new, f)
        copy(r_new, r)
        copy_rows(trial.rows[BETA:RATIO + 1], rows[BETA:RATIO + 1])
        control(h, scaled, 0.0, True, order, memory, clock)
        reason = plan(here, f, r, clock, count, used, True, order)
        outcome = ON_THE_WAY
        if moved <= _STILL:
            outcome = settle(here, c, z, r, error, h, clock, settings, journal, loose, other_space)
        else:
            notes[ROUGH_SINCE] = 0.0
        if outcome == JUMPED:
            tally[JUMPS] += 1
            count[RHS] += 1
            if not evaluate(rule, here, c, z, params, r, f, work_n):
                reason = DIVERGED
                break
            goal = settings[RESIDUAL_SCALE] * settings[RESIDUAL_TOL]
            if settings[ERROR_GOAL] > 0.0 and norm(plateau[PLATEAU_RESIDUAL]) <= goal:
                # The end: the flow itself comes as near to it as was asked for only now.
                clock[T] -= math.log(settings[RESIDUAL_TOL]) * relaxation(here, c, asleep, other_space)
            reason = plan(here, f, r, clock, count, settings, True, order)
            # With nothing left across, what remains of the residual is left to integration.
            notes[LOOSE] = notes[AT_REST] = 1.0 if norm(plateau[PLATEAU_RESIDUAL]) > NOTHING * norm(y) else 0.0
            _remember(journal, here, z, error, clock)
        elif loose and (outcome == NO_JUMP or at_stop or reason != RUNNING
                        or norm(r) <= settings[RESIDUAL_SCALE] * settings[RESIDUAL_TOL]):
            # Once more, at the tolerance asked for.
            tally[REPEATS] += 1
            notes[LOOSE] = 0.0
            notes[ROUGH_SINCE] = 0.0
            copy(plateau[PLATEAU_NU], z)
            copy(plateau[PLATEAU_ERROR], error)
            clock[T] = notes[PLATEAU_T]
            clock[H_CONTROL] = notes[PLATEAU_H]
            clock[ERROR_OLD] = 1.0
            count[RHS] += 1
            evaluate(rule, here, c, z, params, r, f, work_n)
            reason = plan(here, f, r, clock, count, settings, True, order)
            at_stop = False
        elif reason == CONVERGED and settings[ERROR_GOAL] > 0.0 and rest < _MOST_REST:
            # Loosely: what the run may have erred by on its way dies out, if it is given the time.
            report(here, z, error, r, clock)
            if rest == 0 or clock[ERROR_OF_BETA] > settings[ERROR_GOAL]:
                # A long step damps faster than the flow itself does: at first, as much time as that would need.
                needs = -math.log(settings[RESIDUAL_TOL]) * relaxation(here, c, asleep, other_space) if rest == 0 else 0.0
                rest += 1
                clock[H] = clock[H_CONTROL] = max(10.0 * h, needs)
                reason = RUNNING
        if reason == RUNNING and at_stop:
            reason = AT_STOP
    report(here, z, error, r, clock)
    return reason


@njit(types.UniTuple(types.float64, 2)(SYSTEM, types.float64, types.float64, types.float64, types.float64), allocates=False)
def _land(here, h, asleep, visible, cap):
    """Shorten a step to where the first of the coordinates that grow begins to count; return it, and what comes after.

    Until log u^2 is `visible` the others do not notice, and nu goes straight on; then it grows on its own time scale.
    """
    rows = here.rows
    for j in range(rows.shape[1]):
        ratio, p = rows[RATIO, j], rows[WORK_RULE, j]
        top = rows[PRODUCT, j] + abs(ratio)
        rate = -4.0 * p if ratio >= 0.0 else 4.0 * p
        if asleep < top < visible - 1.0 and rate * h > visible - top:
            h = (visible - top) / rate
            cap = 1.0 / rate
    return h, cap


@njit(types.boolean(SYSTEM, types.float64, MEMBERS), allocates=False)
def _startle(end, asleep, member):
    """Mark the coordinates that a step left out and that ended it too large; return whether there are any."""
    rows = end.rows
    startled = False
    for j in range(member.shape[0]):
        if not member[j] and rows[PRODUCT, j] + abs(rows[RATIO, j]) > asleep + STARTLED:
            member[j] = startled = True
    return startled


@njit(types.float64(SYSTEM, SYSTEM, types.float64, VECTOR), allocates=False)
def _moved(end, start, asleep, peak):
    """Return by how much a log weight has moved in a step, of those awake at its end; note the largest log weights."""
    moved = 0.0
    for j in range(peak.shape[0]):
        top = end.rows[PRODUCT, j] + abs(end.rows[RATIO, j])
        peak[j] = max(peak[j], top)
        if top > asleep:
            moved = max(moved, abs(end.rows[RATIO, j] - start.rows[RATIO, j]))
    return moved


@njit(types.void(JOURNAL, SYSTEM, VECTOR, VECTOR, VECTOR), allocates=False)
def _remember(journal, here, z, error, clock):
    plateau, notes, peak = journal.plateau, journal.notes, journal.peak
    copy(z, plateau[PLATEAU_NU])
    copy(error, plateau[PLATEAU_ERROR])
    notes[PLATEAU_T] = clock[T]
    notes[PLATEAU_H] = clock[H_CONTROL]
    notes[ROUGH_SINCE] = 0.0
    for j in range(peak.shape[0]):
        peak[j] = here.rows[PRODUCT, j] + abs(here.rows[RATIO, j])
