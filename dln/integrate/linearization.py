"""The flow linearised at a state: ``df/dnu = -J`` with ``J = K + kappa K^2``, for the last step to a stop (`closing.py`)."""

from collections import namedtuple

from .._gram import gram_in, mirror
from .._jit import njit
from .._large import FACTORED, FACTORIZE, call_factorize_kept
from .._linalg import norm
from ..rules.base import call_curvature
from .rosenbrock import factorize_step, multiply_gram, solve_step
from .state import BETA, ROWS, SIZE, WORK, WORK_RULE

#: Where J is summed up and factored, in the memory of `rosenbrock_attempt`, and with its kernels.
Linearization = namedtuple(
    "Linearization", "curvature large system c params row_scale known squared_norm M W diagonal panel room")


@njit()
def mix(a, x, b, y, out):
    """Fill ``out = a x + b y``; it may be one of the two."""
    for i in range(out.shape[0]):
        out[i] = a * x[i] + b * y[i]


@njit()
def linearize(J, r):
    """Leave the weights of K at the state of the system, with residual r, in the row WORK; return kappa.

    Unless it is kept, K is summed up, too.
    """
    rows, weight = J.system.rows, J.system.rows[WORK]
    kappa = call_curvature(J.curvature, (
        J.system.X, J.c, rows[BETA], rows[SIZE], r, J.params, J.row_scale, rows[WORK_RULE:ROWS]))
    for j in range(weight.shape[0]):
        weight[j] = 4.0 * J.c * rows[SIZE, j]
    if not _is_kept(J):
        gram_in(J.system.X, weight, J.room, J.M)
        for i in range(J.M.shape[0]):
            J.diagonal[i] = J.M[i, i]
    return kappa


@njit()
def factorize(J, share, tau, kappa, rate):
    """Factor ``S^-1 + tau J``; where K is kept, with the weights in WORK, off by at most `share` of ``K + rate``."""
    if _is_kept(J):
        step = 1.0 / rate
        outcome, _ = call_factorize_kept(J.large[FACTORIZE], (
            J.system.X, J.system.rows[WORK], share, J.squared_norm, step, tau / step, kappa, 0.0, J.row_scale, J.known, J.M,
            J.diagonal))
        return outcome == FACTORED
    if J.W.shape[0] == 0:
        mirror(J.M, False)  # a factor may have taken the place of its lower triangle
    return factorize_step(J.M, J.diagonal, tau, kappa, J.row_scale, J.W, J.panel, J.room)


@njit()
def _is_kept(J):
    return J.known.shape[0] > 0


@njit()
def solve(J, b):
    """Solve with the matrix that has been factored, in place."""
    solve_step(J.large, J.M, J.W, J.diagonal, b)


@njit()
def apply(J, kappa, x, work, out):
    """Fill ``out = (K + kappa K^2) x``."""
    multiply_gram(J.large, J.M, J.W, J.diagonal, x, out)
    if kappa != 0.0:
        multiply_gram(J.large, J.M, J.W, J.diagonal, out, work)
        mix(1.0, out, kappa, work, out)


@njit()
def mean_rate(J, kappa, x, work, other):
    """Return the Rayleigh quotient ``x.J x / x.x``, 1 if x is 0."""
    apply(J, kappa, x, work, other)
    above = below = 0.0
    for i in range(x.shape[0]):
        above += x[i] * other[i]
        below += x[i] * x[i]
    return above / below if below > 0.0 else 1.0


@njit()
def part(a, whole):
    """Return the norm of one vector over that of another, 0 if that is 0."""
    above, below = norm(a), norm(whole)
    return above / below if below > 0.0 else 0.0
