"""How a run starts, and when it has gone on for too long: what single runs and tiles of runs decide by the same code."""

import math

import numpy as np
from numba import types

from .._jit import DATA_MATRIX, DATA_VECTOR, INTEGERS, MATRIX, VECTOR, njit
from .._large import RARE
from .._linalg import norm, residual
from ..network import evaluate_weights
from .planning import (
    ASLEEP,
    CALM_STRETCH,
    COUPLING,
    DORMANT,
    KERNEL_RATIO,
    LOG_CEILING,
    RESIDUAL_SCALE,
    RESIDUAL_TOL,
    RTOL,
)
from .state import ACCEPTED, BEST_AT, LOG_PRODUCT, LOG_RATIO, NOT_STARTED, ROWS, WORK
from .stepping import advance

#: `RowSpace.facts`: the size of a predictor, the largest norm of a column, the norm of y.
COORDINATE_SCALE, LARGEST_COLUMN, TARGET_NORM = range(3)

HELD_BELOW = 1e-2  # coordinates below this times rtol, relative to the data's scale, may be held during a stiff step
# Largest tolerance of a step where weights do not grow; otherwise times their growth squared.  For rules that shrink a tenth:
# they remember errors of int q as well.
_UNFORGOTTEN, _LESS_IF_SHRINKING = 3e-5, 0.1
_FAR = 80.0  # in log u^2: for alpha = 1e-22 instead of 1e-4; measured, as late as ordinary steps are the faster ones
LARGEST_TOP = 600.0  # of log u0^2 and log v0^2
START_ROWS = 2  # of the work of `set_scales`

SET_SCALES = types.float64(DATA_MATRIX, DATA_VECTOR, types.float64, DATA_VECTOR, types.float64, types.float64, types.boolean,
                           VECTOR, VECTOR, VECTOR, MATRIX, VECTOR)


@njit(SET_SCALES)
def set_scales(X, y, c, facts, rtol, residual_tol, shrinks, log_product, log_ratio, settings, work_d, r):
    """Fill the settings that depend on tolerances, data and start; return the scale of residuals, NaN where weights overflow.

    Everything is relative to the data's own scales, so that scaling X or y rescales the answer and nothing else.
    `shrinks` says whether the rule does; `work_d` is (START_ROWS, d), r (N,).
    """
    beta_scale, scale = facts[COORDINATE_SCALE], facts[TARGET_NORM]
    top = -np.inf
    shaped = False
    for j in range(log_product.shape[0]):
        top = max(top, log_product[j] + abs(log_ratio[j]))
        shaped |= log_ratio[j] != 0.0
    if not top < LARGEST_TOP:
        return np.nan
    if shaped:
        evaluate_weights(log_product, log_ratio, work_d[0], work_d[1])
        residual(X, work_d[0], y, r)
        scale = max(scale, norm(r))
    log_scale = math.log(beta_scale) if beta_scale > 0.0 else -np.inf
    # While weights grow by orders of magnitude a flow forgets the errors it made before.  In the kernel regime nothing is
    # forgotten, and so few steps lead to the end that accurate ones cost little.
    growth = math.exp(min(100.0, max(0.0, log_scale - top)))
    settings[RTOL] = min(rtol, (_LESS_IF_SHRINKING if shrinks else 1.0) * _UNFORGOTTEN * growth * growth)
    settings[RESIDUAL_TOL] = residual_tol
    settings[DORMANT] = log_scale + math.log(1e-8)
    settings[ASLEEP] = log_scale + math.log(HELD_BELOW * rtol)
    # How large log(u/v) becomes at least, if beta is to reach its scale: small in the kernel regime.
    settings[KERNEL_RATIO] = math.exp(min(0.0, log_scale - top)) if beta_scale > 0.0 else 1.0
    settings[LOG_CEILING] = max(log_scale, top) + 100.0
    settings[COUPLING] = 4.0 * c * facts[LARGEST_COLUMN] ** 2
    settings[CALM_STRETCH] = 10.0
    return scale


@njit()
def _cut(space, n, d):
    """Return the state's rows, z, f, error and r, which lie in this order in `space`, and where they begin."""
    first = -(space.ctypes.data // 8) % 8
    total = (space.shape[0] - 7 - ROWS * d - n) // 3
    z = first + ROWS * d
    f, error, r = z + total, z + 2 * total, z + 3 * total
    return (space[first:z].reshape((ROWS, d)), space[z:f], space[f:error], space[error:r], space[r:r + n]), first


@njit(types.float64(DATA_MATRIX, DATA_VECTOR, types.float64, DATA_VECTOR, types.float64, types.float64, types.float64,
                    types.boolean, DATA_VECTOR, DATA_VECTOR, MATRIX, VECTOR, VECTOR))
def begin(X, y, c, facts, rtol, way, residual_tol, shrinks, log_alpha, log_ratio, rows, r, settings):
    """Put the state at its start, and do what `set_scales` does for a run on a `way` with a tolerance of its own."""
    for j in range(rows.shape[1]):
        rows[LOG_PRODUCT, j] = log_alpha[j] + log_alpha[j]
        rows[LOG_RATIO, j] = log_ratio[j]
    scale = set_scales(X, y, c, facts, rtol, residual_tol, shrinks, rows[LOG_PRODUCT], rows[LOG_RATIO], settings,
                       rows[WORK:WORK + START_ROWS], r)
    if way != rtol:
        settings[RTOL] = way
    return scale


@njit(types.Tuple((types.int64, types.float64, types.int64))(
    types.intp, types.intp, RARE, types.boolean, DATA_MATRIX, DATA_VECTOR, types.float64, DATA_VECTOR, types.float64,
    types.float64, types.boolean, types.boolean, DATA_VECTOR, DATA_VECTOR, VECTOR, VECTOR, INTEGERS, VECTOR, MATRIX,
    DATA_MATRIX, DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, DATA_VECTOR, types.float64, types.int64, types.boolean, types.float64,
    types.int64,
))
def start_and_advance(rule, curvature, large, stiff_method, X, y, c, facts, rtol, residual_tol, may_sleep, to_limit, log_alpha,
                      log_ratio, space, clock, count, settings, params, A, C, b, error_high, error_low, gamma, order, filtered,
                      memory, attempts):
    """Start a run and advance it, in one call; return the reason for stopping, the scale of residuals, and where it is.

    That is the place in `space`, zeros, from which on the state lies there, as `_cut` has it.  NOT_STARTED where all weights
    sleep, if they `may_sleep`, or where they overflow: then the scale is NaN.  ``settings[RESIDUAL_SCALE]``, if it is not
    negative, becomes the scale.
    """
    n, d = X.shape
    (rows, z, f, error, r), first = _cut(space, n, d)
    scale = begin(X, y, c, facts, rtol, rtol, residual_tol, z.shape[0] > n, log_alpha, log_ratio, rows, r, settings)
    if math.isnan(scale) or (may_sleep and sleeps(rows[LOG_PRODUCT], rows[LOG_RATIO], settings, to_limit)):
        return NOT_STARTED, scale, first
    if settings[RESIDUAL_SCALE] >= 0.0:
        settings[RESIDUAL_SCALE] = scale
    kept, known = np.empty((0, 0)), np.empty(0)
    reason = advance(rule, curvature, large, stiff_method, X, y, c, rows, z, f, r, error, clock, count, settings, params, kept,
                     known, A, C, b, error_high, error_low, gamma, order, filtered, memory, attempts)
    return reason, scale, first


@njit(types.boolean(VECTOR, VECTOR, VECTOR, types.boolean))
def sleeps(log_product, log_ratio, settings, to_limit):
    """Whether every weight starts so small that a gradient flow should go from plateau to plateau.

    If not only the limit is wanted, transitions have to be followed closely, and that pays at smaller scales only.
    """
    level = min(settings[ASLEEP], settings[DORMANT]) - (0.0 if to_limit else _FAR)  # `sleeping_level`
    for j in range(log_product.shape[0]):
        if not log_product[j] + abs(log_ratio[j]) < level:
            return False
    return log_product.shape[0] > 0


def sleeping_level(scale, rtol, to_limit):
    """Return the level of log u0^2 and log v0^2 below which `sleeps` is true, for data of this coordinate scale."""
    log_scale = math.log(scale) if scale > 0.0 else -math.inf
    return log_scale + math.log(min(HELD_BELOW * rtol, 1e-8)) - (0.0 if to_limit else _FAR)


@njit(types.boolean(INTEGERS))
def stalls(count):
    """Whether the residual has not fallen by a thousandth in the last half of a long run."""
    return count[ACCEPTED] - count[BEST_AT] > max(2000, count[ACCEPTED] // 2)
