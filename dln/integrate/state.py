"""The right-hand side in dual coordinates, and what every method of integration shares.

A flow of depth 2 is a trajectory of ``nu`` (N,) with ``int p = X^T nu`` and, for rules that shrink, of ``Q = int q`` (d,):

    log(u v) = log(u0 v0) - 4 Q,     log(u/v) = log(u0/v0) - 4 X^T nu.

The state is ``z = (nu, Q)``, or ``nu`` alone.  Errors are measured in the logarithms of the weights.
"""

from collections import namedtuple

from .._jit import njit
from .._linalg import rmatvec
from ..network import evaluate_weights

# Slots of the float array `clock`.
(T, H, H_CONTROL, STOP, ERROR_OLD, BEST_RESIDUAL, REACH, LANDING_CAP, STARTED, RATIO_SCALE, RESIDUAL, ERROR_OF_BETA,
 CLOCK_SIZE) = range(13)
# Slots of the integer array `count`.
ACCEPTED, REJECTED, RHS, FACTORIZATIONS, BEST_AT, STIFF, CALM, COUNT_SIZE = range(8)
# What `advance` reports.
RUNNING, AT_STOP, CONVERGED, STATIONARY, DIVERGED, STEP_TOO_SMALL, FOUND_STIFF, FOUND_CALM = range(8)

#: Data, initial logarithms and the arrays that an evaluation fills: of all d coordinates, or of those awake in a step.
#: X (n, d), y (n,), log(u0 v0) and log(u0/v0) (d,), beta and size = u^2 + v^2 (d,), work_d (4, d); weights (8, d): the two
#: logarithms, work, and (row 7) space of the caller's own.
System = namedtuple("System", "X y log_product log_ratio beta size work_d weights")


@njit()
def logarithms(system, z):
    """Fill rows 0 and 1 of ``system.weights`` with log(uv) and log(u/v) at state z."""
    n, d = system.X.shape
    log_product, log_ratio, weights = system.log_product, system.log_ratio, system.weights
    rmatvec(system.X, z[:n], 4.0, weights[1])
    for j in range(d):
        weights[1, j] = log_ratio[j] - weights[1, j]
        weights[0, j] = log_product[j]
    if z.shape[0] > n:
        for j in range(d):
            weights[0, j] -= 4.0 * z[n + j]


@njit()
def evaluate(rule, system, c, z, params, r, f, work_n):
    """Evaluate ``f = dz/dt`` with beta, size (of the system) and r at state z; False if the weights would overflow."""
    n = system.X.shape[0]
    weights = system.weights
    logarithms(system, z)
    if not evaluate_weights(weights[0], weights[1], system.beta, system.size, weights[2:]):
        return False
    rule(system.X, system.y, c, system.beta, system.size, params, r, f[:n], f[n:] if z.shape[0] > n else system.work_d[3],
         system.work_d, work_n)
    return True


@njit()
def log_weight_error(X, error, ratio_scale, work):
    """Return the largest ``2 |X^T e_nu|_j / ratio_scale + 2 |e_Q|_j``, an error of log weights; `work` is (d,).

    Where all of ``log(u/v)`` is small (the kernel regime), ``beta = 2 u v sinh(log(u/v))`` is only as accurate as that is
    relative to itself: hence `ratio_scale`, at most 1.
    """
    n, d = X.shape
    rmatvec(X, error[:n], 2.0 / ratio_scale, work)
    largest = 0.0
    shrinks = error.shape[0] > n
    for j in range(d):
        e = abs(work[j])
        if shrinks:
            e += 2.0 * abs(error[n + j])
        # A NaN must win: `max` would drop it.
        if not e <= largest:
            largest = e
    return largest
