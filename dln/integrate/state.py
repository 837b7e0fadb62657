"""The right-hand side in dual coordinates, and what every method of integration shares.

A flow of depth 2 is a trajectory of ``nu`` (N,) with ``int p = X^T nu`` and, for rules that shrink, of ``Q = int q`` (d,):

    log(u v) = log(u0 v0) - 4 Q,     log(u/v) = log(u0/v0) - 4 X^T nu.

The state is ``z = (nu, Q)``, or ``nu`` alone.  Errors are measured in the logarithms of the weights.
"""

import math
from collections import namedtuple

import numpy as np
from numba import types

from .._jit import DATA_MATRIX, DATA_VECTOR, MATRIX, VECTOR, njit
from .._linalg import add_rmatvec, copy, rmatvec
from .._simd import WIDTH, larger, largest_lane, load, load_some, modulus, splat, store, store_some, total
from ..network import evaluate_weights, evaluate_weights_at
from ..rules.base import call_rule

# Slots of the float array `clock`.
(T, H, H_CONTROL, STOP, ERROR_OLD, BEST_RESIDUAL, REACH, LANDING_CAP, STARTED, RATIO_SCALE, RESIDUAL, ERROR_OF_BETA,
 ERROR_OF_Q, STEEPNESS, AHEAD, CLOSES_BELOW, CLOCK_SIZE) = range(17)
# Slots of the integer array `count`.
ACCEPTED, REJECTED, RHS, FACTORIZATIONS, BEST_AT, STIFF, CALM, COUNT_SIZE = range(8)
# What `advance` reports.
(RUNNING, AT_STOP, CONVERGED, STATIONARY, DIVERGED, STEP_TOO_SMALL, FOUND_STIFF, FOUND_CALM, WANTS_DOUBLE,
 NOT_STARTED) = range(10)

#: X (n, d), y (n,) and the rows (ROWS, d) below: of all coordinates, or of those awake in a step.  One array, since a
#: kernel that is handed a dozen spends more on that than on the exponentials.
System = namedtuple("System", "X y rows")
SYSTEM = types.NamedTuple((DATA_MATRIX, DATA_VECTOR, MATRIX), System)
# What never changes: log(u0 v0), log(u0/v0), and u0 v0 itself where u v stays that and is no extreme number, else 0.
# The report: log u, log v.  The state, as `evaluate` fills it: beta, size = u^2 + v^2, log(uv), log(u/v).
# A row that an attempt keeps for itself, five rows of work, and four of work for the rule.
LOG_PRODUCT, LOG_RATIO, SCALE, LOG_U, LOG_V, BETA, SIZE, PRODUCT, RATIO, HELD, WORK = range(11)
WORK_RULE = WORK + 5
ROWS = WORK_RULE + 4

_STRICT, _STRICTEST = 1e-5, 5e-3

# Products u0 v0 within e^-100 and e^100 are no extreme numbers: times e^600 they do not overflow.
_LARGEST_LOG = 100.0


@njit(types.void(MATRIX, types.boolean), allocates=False)
def fix_scale(rows, shrinks):
    """Fill the row SCALE with u0 v0 if that never changes and no coordinate's is extreme, else with 0.

    Where it never changes, the row PRODUCT is filled once for all.
    """
    d = rows.shape[1]
    ordinary = not shrinks
    for j in range(d):
        ordinary &= abs(rows[LOG_PRODUCT, j]) <= _LARGEST_LOG
    last, scale = np.nan, 0.0
    for j in range(d):
        if ordinary and rows[LOG_PRODUCT, j] != last:  # as a rule they are all the same
            last = rows[LOG_PRODUCT, j]
            scale = math.exp(last)
        rows[SCALE, j] = scale
    if ordinary:
        copy(rows[LOG_PRODUCT], rows[PRODUCT])


@njit(types.boolean(types.intp, SYSTEM, types.float64, VECTOR, VECTOR, VECTOR, VECTOR, MATRIX), allocates=False)
def evaluate(rule, system, c, z, params, r, f, work_n):
    """Evaluate ``f = dz/dt`` with the state of the system and r at z; False if the weights would overflow."""
    rows = system.rows
    n = system.X.shape[0]
    shrinks = z.shape[0] > n
    if not place(system, z):
        return False
    call_rule(rule, (system.X, system.y, c, rows[BETA], rows[SIZE], params, r, f[:n], f[n:] if shrinks else rows[WORK],
                     rows[WORK_RULE:ROWS], work_n))
    return True


@njit()
def place(system, z):
    """Fill the state of the system at z; False if the weights would overflow."""
    X, rows = system.X, system.rows
    n, d = X.shape
    shrinks = z.shape[0] > n
    ratio, beta, size = rows[RATIO], rows[BETA], rows[SIZE]
    add_rmatvec(X, z[:n], -4.0, rows[LOG_RATIO], ratio)
    if d > 0 and rows[SCALE, 0] > 0.0:  # PRODUCT is as `fix_scale` left it
        return evaluate_weights_at(rows[SCALE], ratio, beta, size)
    product = rows[PRODUCT]
    if shrinks:
        _shrink(rows[LOG_PRODUCT], z, n, product)
    else:
        copy(rows[LOG_PRODUCT], product)
    return evaluate_weights(product, ratio, beta, size)


@njit()
def _shrink(log_product, z, n, product):
    d = product.shape[0]
    for j in range(0, d - WIDTH + 1, WIDTH):
        store(load(log_product, j) - 4.0 * load(z, n + j), product, j)
    j = d - d % WIDTH
    if j < d:
        store_some(load_some(log_product, j, d - j) - 4.0 * load_some(z, n + j, d - j), product, j, d - j)


@njit()
def strictness(tolerance):
    """Return how many times more strictly than nu a stiff step holds Q: to 0.005 of a loose tolerance, or to 1e-5.

    A flow forgets errors of nu as it converges, and remembers those of Q.  Not where Q drifts as fast as nu (`Rule.coupled`),
    by hundreds perhaps: there it would take too many steps.  Measured, with what one costs in steps and the other
    saves: `docs/performance.md`.
    """
    return tolerance / max(min(tolerance, _STRICT), _STRICTEST * tolerance)


@njit(types.float64(DATA_MATRIX, VECTOR, types.float64, types.float64, VECTOR), allocates=False)
def log_weight_error(X, error, ratio_scale, strict, work):
    """Return the largest ``2 |X^T e_nu|_j / ratio_scale + 2 strict |e_Q|_j``, an error of log weights; `work` is (d,).

    Where all of ``log(u/v)`` is small (the kernel regime), ``beta = 2 u v sinh(log(u/v))`` is only as accurate as that is
    relative to itself: hence `ratio_scale`, at most 1.
    """
    n, d = X.shape
    rmatvec(X, error[:n], 2.0 / ratio_scale, work)
    shrinks = error.shape[0] > n
    largest = sums = splat(0.0)
    for j in range(0, d - WIDTH + 1, WIDTH):
        e = modulus(load(work, j))
        if shrinks:
            e = e + 2.0 * strict * modulus(load(error, n + j))
        largest = larger(e, largest)
        sums = sums + e
    j = d - d % WIDTH
    if j < d:
        e = modulus(load_some(work, j, d - j))
        if shrinks:
            e = e + 2.0 * strict * modulus(load_some(error, n + j, d - j))
        largest = larger(e, largest)
        sums = sums + e
    # A NaN must win: `larger` drops it.
    return largest_lane(largest) if total(sums) >= 0.0 else np.nan
