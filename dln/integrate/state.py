"""The right-hand side in dual coordinates, and what every method of integration shares.

A flow of depth 2 is a trajectory of ``nu`` (N,) with ``int p = X^T nu`` and, for rules that shrink, of ``Q = int q`` (d,):

    log(u v) = log(u0 v0) - 4 Q,     log(u/v) = log(u0/v0) - 4 X^T nu.

The state is ``z = (nu, Q)``, or ``nu`` alone.  Errors are measured in the logarithms of the weights.
"""

from .._jit import njit
from .._linalg import rmatvec
from ..network import evaluate_weights

# Slots of the float array `clock`.
T, H, H_CONTROL, STOP, ERROR_OLD, BEST_RESIDUAL, REACH, LANDING_CAP, STARTED, RATIO_SCALE, CLOCK_SIZE = range(11)
# Slots of the integer array `count`.
ACCEPTED, REJECTED, RHS, FACTORIZATIONS, BEST_AT, STIFF, CALM, COUNT_SIZE = range(8)
# What `advance` reports.
RUNNING, AT_STOP, CONVERGED, STATIONARY, DIVERGED, STEP_TOO_SMALL, FOUND_STIFF, FOUND_CALM = range(8)


@njit()
def logarithms(X, log_product, log_ratio, z, weights):
    """Fill rows 0 and 1 of `weights` with log(uv) and log(u/v) at state z."""
    n, d = X.shape
    rmatvec(X, z[:n], 4.0, weights[1])
    for j in range(d):
        weights[1, j] = log_ratio[j] - weights[1, j]
        weights[0, j] = log_product[j]
    if z.shape[0] > n:
        for j in range(d):
            weights[0, j] -= 4.0 * z[n + j]


@njit()
def evaluate(rule, X, y, c, log_product, log_ratio, z, params, beta, size, r, f, work_d, work_n, weights):
    """Evaluate ``f = dz/dt`` with beta, size, r at state z.

    `weights` is (8, d): the two logarithms, work, and (row 7) space of the caller's own.  False if the weights would overflow.
    """
    n = X.shape[0]
    shrinks = z.shape[0] > n
    logarithms(X, log_product, log_ratio, z, weights)
    if not evaluate_weights(weights[0], weights[1], beta, size, weights[2:]):
        return False
    rule(X, y, c, beta, size, params, r, f[:n], f[n:] if shrinks else work_d[3], work_d, work_n)
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
