"""Rules that shrink, from small scales to their limit: integrated in the coordinates that are awake, and in nothing else.

Near the rich limit the flow rests on plateaus and goes from one to the next by transitions, as gradient flow does
(`plateaus.py`).  Two things are the same.  Across the span of the columns that are awake nu moves in a straight line, so the
stages of a step see a problem of as few rows and columns as there are coordinates awake.  And at rest nu is known *given Q*:

    X_B^T nu = (log(u0/v0)_B - asinh(beta_B / (2 alpha_eff,B^2))) / 4,    beta_B least squares on B.

One is not: Q over a transition is not fixed by its ends.  For a coordinate that sleeps q is a product of two linear forms in
vectors that all coordinates share (`Rule.dormant_pair`), so its integral is a quadratic form of one small matrix,

    int q_j = 2 s c^2 x_j^T (int a b^T) x_j,    a = r,  b = r + w k,

which the stages add up; it is evaluated where a stretch on the same coordinates ends.  On a plateau q is constant.
"""

import math

import numpy as np
from numba import types

from .._gram import gram_room
from .._inverse_factor import FACTOR_ROOM, INVERT_UP_TO, inverse_shape
from .._jit import DATA_MATRIX, DATA_VECTOR, INTEGERS, MATRIX, VECTOR, njit
from .._large import NONE
from .._linalg import copy, copy_rows, norm, rmatvec
from .planning import (
    ASLEEP,
    COUPLED,
    COUPLING,
    DORMANT,
    RESIDUAL_TOL,
    ROUNDING,
    RTOL,
    plan,
    predicted_growth,
    reject,
)
from .reduced import (
    FEWER,
    MEMBERS,
    MORE,
    SAME,
    SPACE,
    back_substitute,
    basis_of,
    choose,
    extended,
    forward_substitute,
    room,
    split,
)
from .rest import NOTHING, STARTLED, mirror, relaxation
from .rosenbrock import rosenbrock_attempt
from .state import (
    ACCEPTED,
    BEST_AT,
    BETA,
    CONVERGED,
    DIVERGED,
    ERROR_OLD,
    FACTORIZATIONS,
    H_CONTROL,
    LANDING_CAP,
    PRODUCT,
    RATIO,
    REACH,
    REJECTED,
    RHS,
    ROWS,
    RUNNING,
    SIZE,
    STARTED,
    STATIONARY,
    SYSTEM,
    WORK,
    WORK_RULE,
    H,
    System,
    T,
    evaluate,
    fix_scale,
)
from .stepping import report
from .stretch import add_step, add_up, carry, drifts, gather, largest, settle_up, spread
from .survey import LANDING

AT_REST, MOVED, STEEPNESS, REFUSED, NOTES_SIZE = range(5)
_JUMPS = 0

_REST = types.Tuple((types.boolean, types.float64))(
    SYSTEM, types.float64, VECTOR, VECTOR, types.float64, VECTOR, types.float64, VECTOR, VECTOR, SPACE)

_STILL = 0.7  # a log weight that moved by more than this in the last step is not at rest
_CLOSE = 0.25  # nor is one further than this from the plateau, in the logarithm of beta
_AFTER_FLIGHT = 2.5  # growth of who has become visible in the next step, in log u^2
_SAFETY = 0.9
_AFTER_LANDING = 0.75  # of the cap, since coordinates land where they are seen
_MOST_TREND = 1.7  # of the step size, that the controller believes in
_ALMOST = 1e-6  # a residual this small beside the targets, that wakes nobody, does not end a run
_PART = 0.3  # of the tolerance, which a jump may leave in Q

FOLLOW = types.int64(
    types.intp, types.intp, DATA_VECTOR, DATA_MATRIX, DATA_VECTOR, types.float64,
    MATRIX, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, INTEGERS, VECTOR, MATRIX,
    VECTOR, VECTOR, INTEGERS, VECTOR, DATA_VECTOR,
    DATA_MATRIX, DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, types.float64, types.int64, types.boolean, types.float64,
    DATA_MATRIX, types.int64,
)


@njit(FOLLOW)
def follow(rule, curvature, pair, X, y, c, rows, z, f, r, error, clock, count, settings, params, plateau, notes, tally,
           buffer, buffer_read, A, C, m, e, gamma, order, filtered, memory, weights, attempts):
    """Advance the state in place by at most `attempts` attempted steps; return the reason for stopping.

    As `stepping.advance`, for rules with a `dormant_pair`, without stops, from a state in which every coordinate sleeps.
    `plateau` (n,) is the velocity of nu at rest, `notes` (NOTES_SIZE,) what has happened; `weights` (2, stages) are those of
    the stages in a step of Q and in the estimate of its error.
    """
    n, d = X.shape
    stages = A.shape[0]
    here = System(X, y, rows)
    work_n = np.empty((2, n))
    member = np.zeros(d, dtype=np.bool_)
    space, other_space = room(n, d, 0), room(n, d, 0)
    basis = basis_of(X, member, space)
    data = np.empty((n + 1, d))  # of all columns: in the basis, and along the residual across it
    across, velocity, inside, origin, onward = np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    drift, start = np.empty(d), np.empty((5, d))
    flat_rows, now = np.empty(ROWS * d), np.empty(2 * d)
    states = np.empty((5, n + d))
    vectors = np.empty((5, n))
    flat_K, flat_M, flat_diagonal = np.empty((stages + 1) * (n + d)), np.empty(n * n), np.empty(n)
    part_room = np.empty(gram_room(n, d))
    most, panel, no_weights = inverse_shape(min(n, INVERT_UP_TO)), np.empty(FACTOR_ROOM), np.empty(0)
    flat_W = np.empty(most[0] * most[1])
    flat_trace = np.empty(2 * stages * n)
    flat_work = np.empty(2 * n)
    flat_sums = np.empty(4 * (n + 1) * (n + 1))
    sums, whole_data = flat_sums[:4].reshape((4, 1, 1)), data[:1]
    asleep = settings[ASLEEP]
    visible = settings[DORMANT] + LANDING
    widest = settings[COUPLING] / (4.0 * c)
    built = grown = stale = False
    elapsed = 0.0
    reason = RUNNING
    if clock[STARTED] == 0.0:
        count[RHS] += 1
        clock[STARTED] = 1.0
        fix_scale(rows, True)
        if not evaluate(rule, here, c, z, params[0], r, f, work_n):
            reason = DIVERGED
        notes[AT_REST] = 1.0
        copy(f[:n], plateau)
    if reason == RUNNING:
        reason = plan(here, f, r, clock, count, settings, True, order)
    while reason == RUNNING and attempts > 0:
        attempts -= 1
        if notes[AT_REST] > 0.0:
            h, rate = _flight(here, plateau, f[n:], asleep, visible)
            if h == np.inf:
                reason = STATIONARY  # no coordinate will ever wake
                break
            for i in range(n):
                z[i] += h * plateau[i]
            for j in range(d):
                if rows[PRODUCT, j] + abs(rows[RATIO, j]) < asleep + STARTLED:
                    z[n + j] += h * f[n + j]
            clock[T] += h
            count[ACCEPTED] += 1
            count[RHS] += 1
            if not evaluate(rule, here, c, z, params[0], r, f, work_n):
                reason = DIVERGED
                break
            clock[H_CONTROL] = _AFTER_FLIGHT / rate
            notes[STEEPNESS] = notes[MOVED] = 0.0
            clock[ERROR_OLD] = 1.0
            notes[AT_REST] = 0.0
            count[BEST_AT] = count[ACCEPTED]
            reason = plan(here, f, r, clock, count, settings, True, order)
            continue
        h = clock[H]
        change = choose(here, f[n:], h, asleep, member)
        if grown and change == SAME:
            change = MORE
        grown = False
        if change != SAME or not built or stale:
            if built:
                settle_up(here, whole_data, sums, basis.columns, z[n:], error[n:])
                count[RHS] += 1
                if not evaluate(rule, here, c, z, params[0], r, f, work_n):
                    reason = DIVERGED
                    break
            known = basis.R.shape[0] if built and change != FEWER else 0
            if not built or change == FEWER:
                basis = basis_of(X, member, space)
            elif change == MORE:
                basis = extended(X, basis, member, space)
            built = True
            stale = False
        else:
            known = -1
        if known >= 0:
            # A new stretch: the small problem, at the present state.
            k, size = basis.R.shape
            total = k + size
            sums = flat_sums[:4 * (k + 1) * (k + 1)].reshape((4, k + 1, k + 1))
            part_rows = flat_rows[:ROWS * size].reshape((ROWS, size))
            part = System(buffer_read[:k * size].reshape((k, size)), buffer_read[n * d:n * d + k], part_rows)
            z_part, f_part, z_new = states[0, :total], states[1, :total], states[2, :total]
            f_new, local = states[3, :total], states[4, :total]
            r_part, pushed, r_new, row_scale = vectors[0, :k], vectors[1, :k], vectors[2, :k], vectors[3, :k]
            K = flat_K[:(stages + 1) * total].reshape((stages + 1, total))
            M, diagonal = flat_M[:k * k].reshape((k, k)), flat_diagonal[:k]
            shape = inverse_shape(k)
            W = flat_W[:shape[0] * shape[1]].reshape(shape)
            trace = flat_trace[:2 * stages * k].reshape((2 * stages, k))
            part_work = flat_work[:2 * k].reshape((2, k))
            part_data, whole_data = data[:k], data[:k + 1]
            part_now = now[:2 * size].reshape((2, size))
            elapsed = 0.0
            split(basis, f[:n], inside[:k], velocity)
            split(basis, r, inside[:k], across)
            gather(here, basis, inside[:k], buffer, n, part_rows)
            for q in range(known, k):
                rmatvec(X, basis.rows[q], 1.0, data[q])
            length = norm(across)
            rmatvec(X, across, 1.0 / length if length > 0.0 else 0.0, data[k])
            rmatvec(X, velocity, 1.0, drift)
            copy(rows[RATIO], start[0])
            copy(rows[PRODUCT], start[1])
            copy(z[n:], start[2])
            copy(f[n:], start[3])
            rmatvec(X, f[:n], 1.0, start[4])
            copy(z[:n], origin)
            sums[:] = 0.0
            z_part[:] = 0.0
            if not evaluate(rule, part, c, z_part, params[0], r_part, f_part, part_work):
                reason = DIVERGED
                break
            copy(part_work[0], pushed)
            copy_rows(part_rows[BETA:SIZE + 1], part_now)
        copy(r_part, trace[0])
        copy(pushed, trace[1])
        copy_rows(part_now, part_rows[BETA:SIZE + 1])
        copy(r_part, r_new)
        tolerance = settings[RTOL] + min(1e-6, ROUNDING * clock[REACH])
        scaled, _ = rosenbrock_attempt(
            rule, curvature, NONE, part, part, c, z_part, f_part, h, tolerance, 1.0, params, A, C, m, e, gamma, filtered,
            settings[COUPLED] > 0.0, z_new, f_new, r_new, local, K, M, W, panel, diagonal, no_weights, 0.0, 0.0, row_scale,
            part_work, part_room, trace)
        count[RHS] += stages
        count[FACTORIZATIONS] += 1
        if scaled <= 1.0:
            # And those that sleep: by nu, and by their own integrals of q.
            length = norm(across)
            add_up(trace, length, 2.0 * pair[0] * c * c * h, pair[1], weights, sums)
            rmatvec(part_data, local[:k], 2.0, rows[WORK])
            scaled = max(scaled, largest(here, whole_data, sums[3], widest, tolerance) / tolerance)
        if not scaled <= 1.0:  # NaN included
            reason = reject(h, scaled, order, clock, count)
            notes[REFUSED] = 1.0
            continue
        ratio = rows[WORK]
        rmatvec(part_data, z_new[:k], -4.0, ratio)
        for j in range(d):
            ratio[j] += start[0, j] - 4.0 * (elapsed + h) * drift[j]
        if _startle(ratio, start, elapsed + h, asleep, member):
            grown = True
            count[REJECTED] += 1
            continue
        clock[T] += h
        elapsed += h
        count[ACCEPTED] += 1
        copy(z_new, z_part)
        copy(f_new, f_part)
        copy(r_new, r_part)
        copy(part_work[0], pushed)
        copy_rows(part_rows[BETA:SIZE + 1], part_now)
        add_step(sums)
        carry(basis, M, W, row_scale, local, error)
        moved = spread(here, part, ratio, start, elapsed, asleep, z_part, f_part, z[n:], f[n:], basis.columns)
        rmatvec(basis.rows, z_part[:k], 1.0, z[:n])
        rmatvec(basis.rows, f_part[:k], 1.0, f[:n])
        rmatvec(basis.rows, r_part, 1.0, r)
        for i in range(n):
            z[i] += origin[i] + elapsed * velocity[i]
            f[i] += velocity[i]
            r[i] += across[i]
        _control(h, scaled, order, clock, notes)
        reason = plan(here, f, r, clock, count, settings, True, order)
        stale = drifts(rows[WORK_RULE], start, elapsed)
        # Moves that fall by the same factor again and again: how far is there still to go?
        falls = min(0.95, moved / notes[MOVED]) if notes[MOVED] > 0.0 else 0.95
        notes[MOVED] = moved
        if reason != DIVERGED and moved <= _STILL and moved * falls <= 2.0 * _CLOSE * (1.0 - falls):
            rests, leaves = _rest(here, c, f, r, pair[0], settings, tolerance, inside, onward, other_space)
            if rests:
                # Q as far as it is known, what the rest of the way adds to it, and nu for that.
                settle_up(here, whole_data, sums, basis.columns, z[n:], error[n:])
                built = False
                tally[_JUMPS] += 1
                rmatvec(X, inside, 1.0, rows[WORK])
                rmatvec(X, onward, 4.0 * pair[0], rows[WORK + 1])
                for j in range(d):
                    if rows[PRODUCT, j] + abs(rows[RATIO, j]) <= asleep:
                        z[n + j] += rows[WORK + 1, j] * rows[WORK, j]
                        error[n + j] += leaves * rows[WORK + 1, j] * rows[WORK, j]
                for i in range(n):
                    z[i] += inside[i]
                copy(onward, plateau)
                count[RHS] += 1
                if not evaluate(rule, here, c, z, params[0], r, f, work_n):
                    reason = DIVERGED
                    break
                reason = plan(here, f, r, clock, count, settings, True, order)
                # With next to nothing left, what those that sleep still miss is left to integration.
                lasts, _ = _flight(here, plateau, f[n:], asleep, visible)
                least = NOTHING if lasts < np.inf else _ALMOST
                notes[AT_REST] = 1.0 if norm(plateau) > c * least * norm(y) else 0.0
                if reason == CONVERGED:
                    # The flow itself comes as near to it as was asked for only now.
                    clock[T] -= math.log(settings[RESIDUAL_TOL]) * relaxation(here, c, asleep, other_space)
    if built:
        settle_up(here, whole_data, sums, basis.columns, z[n:], error[n:])
        evaluate(rule, here, c, z, params[0], r, f, work_n)
        if reason == RUNNING:
            reason = plan(here, f, r, clock, count, settings, True, order)
    report(here, z, error, r, clock)
    return reason


@njit(types.void(types.float64, types.float64, types.int64, VECTOR, VECTOR), allocates=False)
def _control(h, scaled, order, clock, notes):
    """Set ``clock[H_CONTROL]`` after an accepted step of size h and error `scaled`; see `predicted_growth`."""
    factor, notes[STEEPNESS] = predicted_growth(h, scaled, order, notes[STEEPNESS], _SAFETY, _MOST_TREND)
    grown = h * min(10.0, max(0.2, factor))
    if notes[REFUSED] > 0.0:
        notes[REFUSED] = 0.0
        grown = min(grown, h)
    if h < 0.99 * clock[H_CONTROL]:
        # Cut short by a landing: the weight that has landed changes on its own time scale from now on.
        cap = _AFTER_LANDING * clock[LANDING_CAP]
        clock[H_CONTROL] = max(min(grown, cap), min(clock[H_CONTROL], cap))
    else:
        clock[H_CONTROL] = grown


@njit(types.UniTuple(types.float64, 2)(SYSTEM, VECTOR, VECTOR, types.float64, types.float64), allocates=False)
def _flight(here, velocity, q, asleep, visible):
    """Return for how long nu goes on in a straight line, and Q at a constant rate, and how fast who ends that grows.

    That is until a coordinate that sleeps becomes visible: until then the others do not notice it.
    """
    rows, p = here.rows, here.rows[WORK]
    rmatvec(here.X, velocity, 1.0, p)
    first = np.inf
    fastest = 1.0
    for j in range(p.shape[0]):
        if rows[PRODUCT, j] + abs(rows[RATIO, j]) >= asleep + STARTLED:
            continue
        for sign in (1.0, -1.0):
            rate = -4.0 * (q[j] + sign * p[j])
            arrival = (visible - rows[PRODUCT, j] - sign * rows[RATIO, j]) / rate if rate > 0.0 else np.inf
            if arrival < first:
                first, fastest = arrival, rate
    return first, fastest


@njit(types.boolean(VECTOR, MATRIX, types.float64, types.float64, MEMBERS), allocates=False)
def _startle(ratio, start, elapsed, asleep, member):
    """Mark the coordinates that a step left out and that ended it too large; return whether there are any."""
    startled = False
    for j in range(member.shape[0]):
        if not member[j] and start[1, j] - 4.0 * elapsed * start[3, j] + abs(ratio[j]) > asleep + STARTLED:
            member[j] = startled = True
    return startled


@njit(_REST)
def _rest(here, c, f, r, strength, settings, tolerance, move, onward, space):
    """Whether what is left of the way to the plateau can be left out; if so, fill in how.

    `move` (n,) is what is left of the way of nu, and `onward` its velocity on the plateau.  Of a coordinate that sleeps

        int (q - q on the plateau) = 4 s p x_j.move,    p = x_j.onward,

    up to terms of second order, and to a share of it by which p differs from the plain gradient: that share is returned too.
    """
    X, rows = here.X, here.rows
    n, d = X.shape
    asleep = settings[ASLEEP]
    awake = np.empty(d, dtype=np.bool_)
    count = 0
    for j in range(d):
        awake[j] = rows[PRODUCT, j] + abs(rows[RATIO, j]) > asleep
        count += awake[j]
    if count == 0 or count > n:
        return False, 0.0
    basis = basis_of(X, awake, space)
    R, columns = basis.R, basis.columns
    if R.shape[0] < count:
        return False, 0.0
    inside, beta, wanted = np.empty(count), np.empty(count), np.empty(count)
    split(basis, r, inside, move)
    copy(inside, beta)
    back_substitute(R, beta)
    for k in range(count):
        now = rows[BETA, columns[k]]
        change = 1.0 - beta[k] / now
        if not (change > 0.0 and abs(math.log(change)) <= _CLOSE):
            return False, 0.0
        beta[k] = now - beta[k]
    # Projected twice: over a long plateau even rounding that is left along the columns would be felt.
    split(basis, f[:n], wanted, move)
    difference = total = 0.0
    for k in range(count):
        difference += (wanted[k] - c * inside[k]) ** 2
        total += wanted[k] ** 2
    split(basis, move, inside, onward)
    share = math.sqrt(difference / total) if total > 0.0 else 0.0
    for k in range(count):
        wanted[k] = 0.25 * (rows[RATIO, columns[k]] - mirror(beta[k], rows[PRODUCT, columns[k]]))
    forward_substitute(R, wanted)
    rmatvec(basis.rows, wanted, 1.0, move)
    left, p = rows[WORK], rows[WORK + 1]
    rmatvec(X, move, 1.0, left)
    rmatvec(X, onward, 1.0, p)
    length, _ = _flight(here, onward, f[n:], asleep, settings[DORMANT] + LANDING)
    rmatvec(X, move, 1.0, left)
    disturbance = 0.0
    for j in range(d):
        if awake[j]:
            speed = abs(rows[WORK_RULE, j])
            brings = abs(f[n + j] * left[j]) / speed if speed > 0.0 else 0.0
        else:
            brings = share * abs(4.0 * strength * p[j] * left[j])
            rate = 4.0 * (abs(p[j]) + abs(f[n + j]))
            lasts = length if rate * length <= 1.0 else 1.0 / rate
            disturbance += math.exp(rows[PRODUCT, j] + abs(rows[RATIO, j])) * lasts
        if not 2.0 * brings <= _PART * tolerance or 4.0 * abs(left[j]) > 2.0 * _CLOSE:
            return False, 0.0
    # Those that sleep must not count on the plateau either, for as long as they will.
    return disturbance * settings[COUPLING] <= settings[RTOL], share
