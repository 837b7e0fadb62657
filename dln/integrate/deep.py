"""The loop over steps at depth D > 2: planning, acceptance, landings, and why it stops.

`dln.integrate.stepping` is its counterpart at depth 2, whose settings, clock and reports it shares.
"""

import math

import numpy as np
from numba import types

from .._jit import DATA_MATRIX, DATA_VECTOR, INTEGERS, MATRIX, VECTOR, njit
from .._linalg import copy, copy_rows, norm
from ..rules.base import BETA, UD, VD, call_deep_curvature
from .deep_state import CROSSING, FINE, STREAK, T_LOW, evaluate, gram_weight, relax, stiffest_rate
from .deep_steps import contract, explicit_attempt, rosenbrock_attempt
from .planning import (
    DORMANT,
    KERNEL_RATIO,
    LOG_CEILING,
    RESIDUAL_SCALE,
    RESIDUAL_TOL,
    RTOL,
    STATIONARY_TOL,
    SWITCHING,
    control,
    notice_stiffness,
)
from .state import (
    ACCEPTED,
    AT_STOP,
    BEST_AT,
    BEST_RESIDUAL,
    CONVERGED,
    DIVERGED,
    ERROR_OLD,
    FACTORIZATIONS,
    H_CONTROL,
    LANDING_CAP,
    RATIO_SCALE,
    REACH,
    REJECTED,
    RHS,
    RUNNING,
    STARTED,
    STATIONARY,
    STEP_TOO_SMALL,
    STOP,
    H,
    T,
)

CROSSED = 100  # what `advance` reports where an ascent step takes a weight through 0

_FIRST_MOVE = 0.01  # how far a log weight moves in the first step
_LANDING = 3.0  # log u^D of a dormant weight may end a step at most this far above the threshold at which it counts
_GROWTH = 1.5  # largest growth of log u^D in an explicit step, of weights
_AWAKE = math.log(1e4)  # this far above the threshold at which they count
_BLOW_UP = 0.5  # the part of the time 1/(k rate) until a weight would blow up, were g to stay, that a step may take
_ROUNDING = 1e-14  # log weights as large as `reach` cannot be known better than this times reach
_RESIDUAL_ROUNDING = 2e-15  # and X beta no better than this times the logs of the weights that matter
_STREAK = 40  # rejections in a row that mean that no step is small enough
_CAP = 10.0  # an error of a log weight beyond this says no more than that the weight is not known

ADVANCE = types.int64(
    types.intp, types.intp, types.boolean, DATA_MATRIX, DATA_VECTOR,
    types.float64, types.float64, VECTOR, VECTOR, VECTOR, MATRIX, VECTOR, VECTOR, VECTOR, VECTOR, INTEGERS, VECTOR, MATRIX,
    DATA_MATRIX, DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, DATA_VECTOR, types.float64, types.int64, types.boolean, types.float64,
    types.boolean, types.int64,
)
_PLAN = types.int64(types.float64, DATA_VECTOR, DATA_MATRIX, DATA_VECTOR, VECTOR, INTEGERS, DATA_VECTOR, types.boolean,
                    types.boolean, DATA_VECTOR)
_AT_REST = types.boolean(types.float64, DATA_VECTOR, DATA_MATRIX, types.float64, DATA_VECTOR, DATA_VECTOR)


@njit(ADVANCE)
def advance(rule, curvature, stiff_method, X, y, c, depth, origin, z, f, powers, r, error, probe, clock, count, settings,
            params, A, C, b, error_high, error_low, gamma, order, filtered, memory, autonomous, attempts):
    """Advance the state in place by at most `attempts` attempted steps; return the reason for stopping.

    With no attempts, evaluate the first right-hand side if that is still to be done, and plan the next step.

    The state is (z, f, powers, r, error); `error` is the propagated estimate of the global error of z, `probe` (N,) the
    stiffest direction as known so far.  `params` has one row, or one per stage (and one for the end of the step) for rules
    that depend on time: then `attempts` is 1 and the caller evaluates the rows for the planned step ``clock[H]``.
    """
    n, d = X.shape
    stages = A.shape[0]
    z_new = np.empty(2 * d)
    f_new = np.empty(2 * d)
    local = np.empty(2 * d)
    logs = np.empty(2 * d)
    powers_new = np.empty((5, d))
    r_new = np.empty(n)
    K = np.empty((stages + 1, 2 * d))
    dual = n if stiff_method else 0
    M = np.empty((dual, dual))
    gram_matrix = np.empty((dual, dual))
    weight = np.empty(d)
    shift = np.empty(2 * d)
    row_scale = np.ones(n)
    work_d = np.zeros((6, d))
    work_n = np.empty((2, n))
    if clock[STARTED] == 0.0:
        found = evaluate(rule, X, y, c, depth, origin, z, params[0], powers, r, f, logs, work_d, work_n)
        if found != FINE:
            return CROSSED if found == CROSSING else DIVERGED
        count[RHS] += 1
        clock[STARTED] = 1.0
    for j in range(2 * d):
        logs[j] = origin[j] + z[j]
    reason = plan(depth, f, powers, r, clock, count, settings, stiff_method, autonomous, logs)
    if reason != RUNNING:
        return reason
    for _ in range(attempts):
        h = clock[H]
        if params.shape[0] > 1:
            # Parameters may have jumped since the last step ended here.
            evaluate(rule, X, y, c, depth, origin, z, params[0], powers, r, f, logs, work_d, work_n)
            count[RHS] += 1
        tolerance = settings[RTOL] + min(1e-6, _ROUNDING * clock[REACH])
        kappa = call_deep_curvature(curvature, (X, c, depth, powers, r, params[0], row_scale, work_d))
        if stiff_method:
            scaled, found = rosenbrock_attempt(
                rule, X, y, c, depth, origin, z, f, h, tolerance, clock[RATIO_SCALE], params, A, C, b, error_high, gamma,
                filtered, kappa, row_scale, powers, r, shift, z_new, f_new, powers_new, r_new, local, K, M, gram_matrix, logs,
                work_d, work_n)
            count[FACTORIZATIONS] += 1
        else:
            scaled, found = explicit_attempt(
                rule, X, y, c, depth, origin, z, f, h, tolerance, clock[RATIO_SCALE], params, A, b, error_high, error_low,
                z_new, f_new, powers_new, r_new, local, K, logs, work_d, work_n)
        count[RHS] += stages
        if not scaled <= 1.0:  # NaN included
            count[REJECTED] += 1
            count[STREAK] += 1
            shrink = 0.15 if not math.isfinite(scaled) else max(0.15, 0.9 * scaled ** (-1.0 / order))
            clock[H_CONTROL] = h * shrink
            clock[ERROR_OLD] = 1.0
            if clock[H_CONTROL] < 1e-300 or count[STREAK] >= _STREAK or _unresolved(clock[H_CONTROL], clock, autonomous):
                return CROSSED if found == CROSSING else STEP_TOO_SMALL
            clock[H] = min(clock[H_CONTROL], (clock[STOP] - clock[T]) - clock[T_LOW])
            continue
        gram_weight(c, depth, powers, weight)
        rate = stiffest_rate(X, weight, kappa, row_scale, probe, work_d[0], work_n)
        stiffness = h * rate
        at_stop = h >= (clock[STOP] - clock[T]) - clock[T_LOW]
        _pass(h, at_stop, clock)
        count[ACCEPTED] += 1
        count[STREAK] = 0
        for j in range(2 * d):
            # The rate of a weight grows like its power k, and an error of its logarithm with it.
            grown = (error[j] * math.exp(min(50.0, (depth - 2.0) * (z_new[j] - z[j])))) + local[j]
            error[j] = min(_CAP, max(-_CAP, grown))
            z[j] = z_new[j]
            f[j] = f_new[j]
        if stiff_method:
            contract(X, c, depth, powers, h * gamma, kappa, shift, M, gram_matrix, error, work_d, work_n)
        elif rate > 0.0:
            relax(X, c, depth, powers, weight, kappa, row_scale, rate, h, error, work_d, work_n)
        copy_rows(powers_new, powers)
        copy(r_new, r)
        control(h, scaled, stiffness, stiff_method, order, memory, clock)
        reason = plan(depth, f, powers, r, clock, count, settings, stiff_method, autonomous, logs)
        if reason != RUNNING:
            return reason
        if at_stop:
            return AT_STOP
        if settings[SWITCHING] > 0.0:
            reason = notice_stiffness(stiff_method, stiffness, clock, count, settings)
            if reason != RUNNING:
                return reason
    return RUNNING


@njit(types.void(types.float64, types.boolean, VECTOR), allocates=False)
def _pass(h, at_stop, clock):
    # Small scales make t huge, alpha^(2-D), against the steps between: t is kept as a sum of two numbers.
    if at_stop:
        clock[T] = clock[STOP]
        clock[T_LOW] = 0.0
        return
    t = clock[T]
    total = t + h
    part = total - t
    low = clock[T_LOW] + ((t - (total - part)) + (h - part))
    clock[T] = total + low
    clock[T_LOW] = low - (clock[T] - total)


@njit()
def _unresolved(h, clock, autonomous):
    # Without a function of time nothing depends on t itself.
    return not autonomous and h <= 1e-15 * clock[T]


@njit(_PLAN, allocates=False)
def plan(depth, f, powers, r, clock, count, settings, stiff_method, autonomous, logs):
    """Look at the accepted state: has it converged, settled or diverged?  If not, plan the next step in ``clock[H]``.

    `logs` holds log u and log v of that state.
    """
    d = powers.shape[1]
    k = depth - 2.0
    residual_norm = norm(r)
    if not math.isfinite(residual_norm):
        return DIVERGED
    if residual_norm < 0.999 * clock[BEST_RESIDUAL]:
        clock[BEST_RESIDUAL] = residual_norm
        count[BEST_AT] = count[ACCEPTED]
    landing = np.inf
    clock[LANDING_CAP] = np.inf
    reach = 0.0
    active_reach = 0.0
    largest_rate = 0.0
    largest_top = -np.inf
    largest_ratio = settings[KERNEL_RATIO]
    growth = 0.0
    awake_growth = 0.0
    for i in range(2 * d):
        top, rate = depth * logs[i], f[i]
        reach = max(reach, abs(logs[i]))
        largest_top = max(largest_top, top)
        largest_rate = max(largest_rate, abs(rate))
        growth = max(growth, rate)
        if top > settings[DORMANT]:
            active_reach = max(active_reach, depth * abs(logs[i]))
            if top > settings[DORMANT] + _AWAKE:
                awake_growth = max(awake_growth, rate)
        elif rate > 0.0:
            # u^(-k) falls linearly while g stays: log u has `way` to go, and is exp(k way) times as fast on arrival.
            way = (settings[DORMANT] + _LANDING - top) / depth
            arrival = -math.expm1(-k * way) / (k * rate)
            if arrival < landing:
                landing = arrival
                clock[LANDING_CAP] = _LANDING / depth * math.exp(-k * way) / rate
    for j in range(d):
        largest_ratio = max(largest_ratio, abs(logs[j] - logs[d + j]))
    clock[REACH] = reach
    clock[RATIO_SCALE] = min(1.0, largest_ratio)
    if residual_norm <= settings[RESIDUAL_SCALE] * max(settings[RESIDUAL_TOL], _RESIDUAL_ROUNDING * active_reach):
        return CONVERGED
    if landing < np.inf:
        count[BEST_AT] = count[ACCEPTED]  # a dormant weight is growing: however flat the loss, the flow is on its way
    if largest_top > settings[LOG_CEILING]:
        return DIVERGED
    if settings[STATIONARY_TOL] > 0.0 and _at_rest(depth, f, powers, largest_rate, settings, logs):
        return STATIONARY
    if clock[H_CONTROL] <= 0.0:
        clock[H_CONTROL] = _FIRST_MOVE / largest_rate if largest_rate > 0.0 else np.inf
    h = min(clock[H_CONTROL], landing)
    if not stiff_method and h * awake_growth * depth > _GROWTH:
        h = _GROWTH / (awake_growth * depth)
    if h * growth * k > _BLOW_UP:
        h = _BLOW_UP / (growth * k)
    if landing > h:
        clock[LANDING_CAP] = np.inf
    remaining = (clock[STOP] - clock[T]) - clock[T_LOW]
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
    if _unresolved(h, clock, autonomous):
        return STEP_TOO_SMALL
    return RUNNING


@njit(_AT_REST, allocates=False)
def _at_rest(depth, f, powers, largest_rate, settings, logs):
    # No small weight grows, and the large ones have stopped moving, against the rate at which the others decay.
    d = powers.shape[1]
    tol = settings[STATIONARY_TOL]
    biggest = math.exp(settings[DORMANT])
    moving = 0.0
    for j in range(d):
        biggest = max(biggest, abs(powers[BETA, j]), powers[UD, j], powers[VD, j])
        moving = max(moving, powers[UD, j] * abs(f[j]) + powers[VD, j] * abs(f[d + j]))
    if moving > tol * largest_rate * biggest:
        return False
    bound = math.log(biggest) + math.log(1e-3)
    for i in range(2 * d):
        if depth * logs[i] < bound and f[i] > tol * largest_rate:
            return False
    return True
