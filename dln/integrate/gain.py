"""What Q gains on the last way to a stop, where the flow relaxes linearly: a quadratic form, by a Lyapunov equation.

With (s, w) the rule's `dormant_pair`, ``q_j = 2 s (c x_j.r) (c x_j.(r + w k))`` is ``2 s (x_j.m)^2``, but for the square of
what w adds, with ``m = c (r + w k/2)``.  On a linear way ``m(t) = e^(-J t) m``, so that

    int q_j dt = 2 s x_j^T P x_j,    J P + P J = m m^T.

An alternating direction iteration of low rank (Li & White 2002) takes one solution with J a step: ``v = (J + sigma)^-1 m`` adds
``2 sigma v v^T`` to P, and ``m - 2 sigma v`` is left.  Two steps, with sigma about the slowest rate and the mean rate of m,
leave a few thousandths, of which what is left of m is an estimate.  (`dual_limits.tail` solves the equation by eigenvectors:
exact, and dearer.)
"""

from .._jit import njit
from .._linalg import copy, rmatvec
from ..rules.base import call_rule
from .linearization import factorize, mean_rate, mix, part, solve
from .state import BETA, ROWS, SIZE, WORK, WORK_RULE

# What curvature adds to velocities, b, falls twice as fast as they do if there is one rate: ``m + 2/3 b`` in the place of m
# counts for both.  Then the square of the bend, the part that b is of them, is what is off; half of it is more than was seen.
_CURVED, _DOUBT = 2.0 / 3.0, 0.5


@njit()
def begin_gain(rule, J, strength, ascent, q, r, work_n, m, rates, coef):
    """Fill m and ``rates = 2 s (x_j.m)^2`` at the start, with residual r; return by how much they differ from q, relatively."""
    X, y, rows = J.system.X, J.system.y, J.system.rows
    p = rows[WORK_RULE]
    call_rule(rule, (X, y, J.c, rows[BETA], rows[SIZE], J.params, r, coef, rows[WORK], rows[WORK_RULE:ROWS], work_n))
    mix(J.c, r, 0.5 * J.c * ascent, work_n[0], m)
    rmatvec(X, m, 1.0, p)
    off = largest = 0.0
    for j in range(p.shape[0]):
        rates[j] = 2.0 * strength * p[j] * p[j]
        off = max(off, abs(rates[j] - q[j]))
        largest = max(largest, rates[j])
    return off / largest if off > 0.0 else 0.0


@njit()
def sum_gain(J, share, kappa, strength, tau, bent, flat, unseen, m, Q, error, work, other):
    """Add to Q what it gains from m at the start, and fill `error` with that of it; False if a matrix does not factor.

    The matrix ``I + tau J`` is factored, tau about the inverse of the slowest rate.  Of velocities `flat` the change by
    curvature is `bent`; of the gain the part `unseen` is not what the equation says.
    """
    before = error
    copy(Q, before)
    mix(1.0, m, _CURVED, bent, m)
    rate = mean_rate(J, kappa, m, work, other)
    _add_step(J, strength, tau, m, Q, work)
    if not factorize(J, share, 1.0 / rate, kappa, rate):
        return False
    _add_step(J, strength, 1.0 / rate, m, Q, work)
    rate = mean_rate(J, kappa, m, work, other)
    bend = 2.0 * part(bent, flat)
    doubt = _DOUBT * bend * bend + unseen
    p = J.system.rows[WORK_RULE]
    rmatvec(J.system.X, m, 1.0, p)
    for j in range(p.shape[0]):
        rest = strength * p[j] * p[j] / rate  # as if it fell at that rate
        Q[j] += rest
        error[j] = rest + doubt * (Q[j] - before[j])
    return True


@njit()
def _add_step(J, strength, tau, m, Q, work):
    copy(m, work)
    solve(J, work)  # sigma v, sigma = 1/tau
    mix(1.0, m, -2.0, work, m)
    p = J.system.rows[WORK_RULE]
    rmatvec(J.system.X, work, 1.0, p)
    for j in range(p.shape[0]):
        Q[j] += 4.0 * strength * tau * p[j] * p[j]
