"""Flows with inertia, ``theta'' + damping theta' + push grad = 0``: the loop over steps, and why it stops.

Given the pair (p, q) of the rule, the equation of a weight is *linear* in it, ``u'' + damping u' + 2 push (p + q) u = 0``.
So a weight is kept as ``u = U (1 + delta)`` with a scale U of its own, known by its logarithm and renewed after every step:
no scale underflows, none overflows, small changes of large weights are not lost, and u = 0 is a point like any other, whereas
``(log u)'`` has a pole there.  The state is ``z = (delta_u, delta_v, u'/U, v'/V, nu, nu')`` (4 d + 2 n,), where
``nu'' + damping nu' = push coef`` keeps the part that stays in the row space.

Constant inertia lam: damping = push = 1/lam.  Nesterov's flow: damping = 3/t, push = 1; at its start ``u'' = -grad/4``.
"""

import math

import numpy as np
from numba import types

from .._jit import DATA_MATRIX, DATA_VECTOR, INTEGERS, MATRIX, VECTOR, njit
from .._linalg import copy, copy_rows, matvec, norm
from ..network import evaluate_weights
from ..rules.base import call_curvature
from .deep_state import stiffest_rate
from .inertia_steps import (
    BETA,
    BETA_0,
    LOG_PRODUCT,
    LOG_RATIO,
    MOTION,
    MOVED_U,
    MOVED_V,
    SIGN_U,
    SIZE,
    U2,
    V2,
    WORK,
    Motion,
    attempt,
    coefficients,
    evaluate,
    reach_of,
)
from .planning import (
    DORMANT,
    KERNEL_RATIO,
    LOG_CEILING,
    RESIDUAL_SCALE,
    RESIDUAL_TOL,
    RTOL,
    SWITCHING,
    control,
    notice_stiffness,
)
from .state import (
    ACCEPTED,
    AT_STOP,
    BEST_AT,
    BEST_RESIDUAL,
    CLOCK_SIZE,
    CONVERGED,
    COUNT_SIZE,
    DIVERGED,
    ERROR_OLD,
    H_CONTROL,
    RATIO_SCALE,
    REACH,
    REJECTED,
    RESIDUAL,
    RHS,
    RUNNING,
    STARTED,
    STATIONARY,
    STEP_TOO_SMALL,
    STOP,
    H,
    T,
)

SIGN_CHANGE = 100  # what `advance` reports where a weight comes to 0
# Two slots more of `clock`, the time of that and h times the fastest rate of the planned step, and two of `count`: the sign
# changes, and which weight is the first (u, then v).
CROSSED_AT, STIFFNESS, INERTIAL_CLOCK_SIZE = CLOCK_SIZE, CLOCK_SIZE + 1, CLOCK_SIZE + 2
FLIPS, CROSSED, INERTIAL_COUNT_SIZE = COUNT_SIZE, COUNT_SIZE + 1, COUNT_SIZE + 2

_FIRST_MOVE = 0.01  # how far a log weight moves in the first step
_GROWTH = 1.0  # largest growth of log u in a step: beyond, poles at complex times come near
_EDGE = 5.0  # of h times the fastest rate: the method is stable up to 6, in every direction of the left half plane
_ROUNDING = 1e-14  # log weights as large as `reach` cannot be known better than this times reach
_RESIDUAL_ROUNDING = 2e-15  # and X beta no better than this times it
_NEAR_ZERO = 0.25  # a weight that moves as far in a step as it is from 0 keeps its scale until it is through

ADVANCE = types.int64(
    types.intp, types.intp, DATA_MATRIX, DATA_VECTOR, types.float64, types.float64, types.boolean, MATRIX, VECTOR, VECTOR,
    VECTOR, VECTOR, VECTOR, VECTOR, INTEGERS, VECTOR, MATRIX, DATA_MATRIX, DATA_MATRIX, DATA_VECTOR,
    DATA_VECTOR, DATA_VECTOR, DATA_VECTOR, types.float64, types.int64, types.float64, types.int64,
)
_PLAN = types.int64(
    MOTION, types.intp, MATRIX, DATA_VECTOR, DATA_VECTOR, VECTOR, VECTOR, VECTOR, INTEGERS, DATA_VECTOR, VECTOR, VECTOR, MATRIX)


@njit(types.boolean(MATRIX, VECTOR, VECTOR, types.float64), allocates=False)
def renew(rows, z, f, h):
    """Move the scales U and V to the weights themselves, except to those about to pass 0; False if they would overflow."""
    d = rows.shape[1]
    for j in range(2 * d):
        factor = 1.0 + z[j]
        if abs(z[2 * d + j]) * h * _NEAR_ZERO <= abs(factor) and factor != 0.0:
            row = MOVED_U + j // d
            rows[row, j % d] += math.log(abs(factor)) if abs(z[j]) > 0.5 else math.log1p(z[j])
            z[j] = 0.0
            z[2 * d + j] /= factor
            f[j] /= factor
            f[2 * d + j] /= factor
            if factor < 0.0:
                rows[SIGN_U + j // d, j % d] *= -1.0
    product, ratio = rows[WORK], rows[WORK + 1]
    for j in range(d):
        product[j] = rows[LOG_PRODUCT, j] + (rows[MOVED_U, j] + rows[MOVED_V, j])
        ratio[j] = rows[LOG_RATIO, j] + (rows[MOVED_U, j] - rows[MOVED_V, j])
    if not evaluate_weights(product, ratio, rows[BETA_0], rows[SIZE]):
        return False
    for j in range(d):
        rows[U2, j] = math.exp(product[j] + ratio[j])
        rows[V2, j] = math.exp(product[j] - ratio[j])
    return True


@njit()
def _root(z, z_new, j, half, h):
    # Where in the step, as a part of it, the cubic through the two ends is 0; it has opposite signs there.
    a, b = 1.0 + z[j], 1.0 + z_new[j]
    slope_a, slope_b = h * z[half + j], h * z_new[half + j]
    low, high = 0.0, 1.0
    for _ in range(60):
        s = 0.5 * (low + high)
        value = (a * (1.0 + 2.0 * s) + slope_a * s) * (1.0 - s) ** 2 + (b * (3.0 - 2.0 * s) - slope_b * (1.0 - s)) * s * s
        if (value > 0.0) == (a > 0.0):
            low = s
        else:
            high = s
    return 0.5 * (low + high)


@njit(ADVANCE)
def advance(rule, curvature, X, y, c, inertia, through_zero, rows, z, f, r, error, probe, clock, count, settings, params,
            A, C, b, nodes, error_high, error_low, gamma, order, memory, attempts):
    """Advance the state in place by at most `attempts` attempted steps; return the reason for stopping.

    With no attempts, evaluate the first right-hand side if that is still to be done, and plan the next step.  `error` (2 d,)
    is the sum of the local errors of log u and log v, `probe` (n,) the stiffest direction as known so far.  `params` has one
    row, or one per stage (and one for the end of the step) for rules that depend on time: then `attempts` is 1.
    """
    n, d = X.shape
    z_new, f_new, local, r_new = np.empty(z.shape[0]), np.empty(z.shape[0]), np.empty(z.shape[0]), np.empty(n)
    K = np.empty((A.shape[0] + 1, z.shape[0]))
    dual = n if gamma > 0.0 else 0
    M = np.empty((dual, dual))
    trial = rows.copy()
    work_n = np.empty((2, n))
    row_scale = np.ones(n)
    m = Motion(rule, X, y, c, inertia, A, C, b, nodes, error_high, error_low, gamma)
    if clock[STARTED] == 0.0:
        count[RHS] += 1
        clock[STARTED] = 1.0
        if not (renew(rows, z, f, 0.0) and evaluate(m, rows, z, 0.0, params[0], r, f, work_n)):
            return DIVERGED
    reason = plan(m, curvature, rows, z, f, r, probe, clock, count, settings, params[0], row_scale, work_n)
    copy_rows(rows, trial)
    while reason == RUNNING and attempts > 0:
        attempts -= 1
        h, t = clock[H], clock[T]
        if params.shape[0] > 1:
            # Parameters may have jumped since the last step ended here.
            evaluate(m, rows, z, t, params[0], r, f, work_n)
            count[RHS] += 1
        tolerance = settings[RTOL] + min(1e-6, _ROUNDING * clock[REACH])
        ratio_scale = clock[RATIO_SCALE]
        scaled = attempt(m, trial, z, f, t, h, tolerance, ratio_scale, params, z_new, f_new, r_new, local, K, M, work_n)
        count[RHS] += A.shape[0]
        if not scaled <= 1.0:  # NaN included
            count[REJECTED] += 1
            shrink = 0.15 if not math.isfinite(scaled) else max(0.15, 0.9 * scaled ** (-1.0 / order))
            clock[H_CONTROL] = h * shrink
            clock[ERROR_OLD] = 1.0
            if clock[H_CONTROL] <= 1e-14 * max(t, clock[H_CONTROL]) or clock[H_CONTROL] < 1e-300:
                return STEP_TOO_SMALL
            clock[H] = min(clock[H_CONTROL], clock[STOP] - t)
            continue
        first, where = -1, 1.0
        for j in range(2 * d):
            if (1.0 + z[j] > 0.0) != (1.0 + z_new[j] > 0.0):
                count[FLIPS] += 1
                at = _root(z, z_new, j, 2 * d, h)
                if first < 0 or at < where:
                    first, where = j, at
        if first >= 0 and count[CROSSED] < 0:
            # A second step that ends at the root of the cubic, and Newton's correction from there.
            attempt(m, trial, z, f, t, where * h, tolerance, ratio_scale, params, z_new, f_new, r_new, local, K, M, work_n)
            count[RHS] += A.shape[0]
            clock[CROSSED_AT] = t + where * h - (1.0 + z_new[first]) / z_new[2 * d + first]
            count[CROSSED] = first
            if not through_zero:
                return SIGN_CHANGE
            attempt(m, trial, z, f, t, h, tolerance, ratio_scale, params, z_new, f_new, r_new, local, K, M, work_n)
        at_stop = h >= clock[STOP] - t
        clock[T] = clock[STOP] if at_stop else t + h
        count[ACCEPTED] += 1
        for j in range(2 * d):
            error[j] += local[j] / reach_of(z, z_new, j, 2 * d, h)
        copy(z_new, z)
        copy(f_new, f)
        copy(r_new, r)
        copy_rows(trial[BETA:SIZE + 1], rows[BETA:SIZE + 1])
        size = rows[SIZE].copy()
        if not renew(rows, z, f, h):
            return DIVERGED
        copy(size, rows[SIZE])
        stiffness = clock[STIFFNESS]
        control(h, scaled, 0.0, False, order, memory, clock)
        at_end = params[params.shape[0] - 1]
        reason = plan(m, curvature, rows, z, f, r, probe, clock, count, settings, at_end, row_scale, work_n)
        copy_rows(rows, trial)
        if reason == RUNNING and at_stop:
            return AT_STOP
        if reason == RUNNING and settings[SWITCHING] > 0.0:
            reason = notice_stiffness(gamma > 0.0, stiffness, clock, count, settings)
    return reason


@njit(_PLAN, allocates=False)
def plan(m, curvature, rows, z, f, r, probe, clock, count, settings, params, row_scale, work_n):
    """Look at the accepted state: has it converged, come to rest or diverged?  If not, plan the next step in ``clock[H]``."""
    d = m.X.shape[1]
    t = clock[T]
    residual_norm = norm(r)
    clock[RESIDUAL] = residual_norm
    if not math.isfinite(residual_norm):
        return DIVERGED
    if residual_norm < 0.999 * clock[BEST_RESIDUAL]:
        clock[BEST_RESIDUAL] = residual_norm
        count[BEST_AT] = count[ACCEPTED]
    damping, push = coefficients(m.inertia, t)
    moving = rows[WORK]  # d beta/dt
    reach = growth = force = fastest = 0.0
    largest_ratio = settings[KERNEL_RATIO]
    top = -np.inf
    waking = False
    for j in range(d):
        moving[j] = 2.0 * (rows[U2, j] * (1.0 + z[j]) * z[2 * d + j] - rows[V2, j] * (1.0 + z[d + j]) * z[3 * d + j])
        product = rows[LOG_PRODUCT, j] + (rows[MOVED_U, j] + rows[MOVED_V, j])
        ratio = rows[LOG_RATIO, j] + (rows[MOVED_U, j] - rows[MOVED_V, j])
        largest_ratio = max(largest_ratio, abs(ratio))
        top = max(top, product + abs(ratio))
        reach = max(reach, abs(product) + abs(ratio))
        if z[j] == 0.0:  # not near 0: there growth is linear
            growth = max(growth, z[2 * d + j])
            fastest = max(fastest, abs(z[2 * d + j]))
        if z[d + j] == 0.0:
            growth = max(growth, z[3 * d + j])
            fastest = max(fastest, abs(z[3 * d + j]))
        force = max(force, abs(f[2 * d + j]), abs(f[3 * d + j]))
        waking |= (z[2 * d + j] > 0.0 and product + ratio < settings[DORMANT]) or (
            z[3 * d + j] > 0.0 and product - ratio < settings[DORMANT])
    if waking:
        count[BEST_AT] = count[ACCEPTED]  # however flat the loss, the flow is on its way
    clock[REACH] = reach
    clock[RATIO_SCALE] = min(1.0, largest_ratio)
    if residual_norm <= settings[RESIDUAL_SCALE] * max(settings[RESIDUAL_TOL], _RESIDUAL_ROUNDING * min(reach, 100.0)):
        # A weight without any force would still coast this long times its velocity.
        coast = m.inertia if m.inertia > 0.0 else 0.5 * t
        matvec(m.X, moving, work_n[0])
        if coast * max(norm(work_n[0]), norm(moving) / max(norm(rows[BETA]), 1e-300) * settings[RESIDUAL_SCALE]) <= (
                settings[RESIDUAL_SCALE] * max(10.0 * settings[RESIDUAL_TOL], _RESIDUAL_ROUNDING * min(reach, 100.0))):
            return CONVERGED
    if top > settings[LOG_CEILING]:
        return DIVERGED
    if clock[H_CONTROL] <= 0.0:
        # From rest a log weight moves by half its force times h^2.
        clock[H_CONTROL] = math.sqrt(2.0 * _FIRST_MOVE / force) if force > 0.0 else np.inf
        if damping > 0.0:
            clock[H_CONTROL] = min(clock[H_CONTROL], 0.1 / damping)
    h = clock[H_CONTROL]
    if h * growth > _GROWTH:
        h = _GROWTH / growth
    kappa = call_curvature(curvature, (m.X, m.c, rows[BETA], rows[SIZE], r, params, row_scale, rows[WORK + 3:WORK + 7]))
    weight = rows[WORK + 1]
    for j in range(d):
        weight[j] = 4.0 * m.c * rows[SIZE, j]
    stiffest = push * stiffest_rate(m.X, weight, kappa, row_scale, probe, rows[WORK + 2], work_n)
    # The faster root of s^2 + damping s + stiffest = 0.
    rate = 0.25 * damping * damping - stiffest
    rate = 0.5 * damping + math.sqrt(rate) if rate >= 0.0 else math.sqrt(stiffest)
    if m.gamma == 0.0 and h * rate > _EDGE:
        h = _EDGE / rate
    # Where weights move fast on their own the W-method, of lower order, would make no longer steps.
    worth = m.gamma > 0.0 or h * fastest < settings[RTOL] ** 0.2
    clock[STIFFNESS] = h * rate if worth else 0.0
    remaining = clock[STOP] - t
    if remaining <= 0.0:
        clock[H] = 0.0
        return RUNNING
    if 1.01 * h >= remaining:
        h = remaining
    elif 2.0 * h > remaining:
        h = 0.5 * remaining  # two equal steps rather than a long one and a scrap
    clock[H] = h
    if not h < np.inf:
        return STATIONARY  # no force and no motion, for ever
    if h <= 1e-15 * t:
        return STEP_TOO_SMALL
    return RUNNING
