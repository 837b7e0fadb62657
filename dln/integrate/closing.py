"""The last step to a stop: all of the way at once, where the flow is nearly linear.

Near an interpolator the residual falls exponentially, and so do all velocities, at rates from the slowest to the fastest
eigenvalue of ``J = K + kappa K^2``.  A method of order 4 that holds the residual to a part of its value takes half a dozen
steps for the last six decades, with a Gram matrix and six evaluations each, though J hardly changes.  Linearised about its
end, the velocity ``f = dnu/dt`` of the way is that of an exponential,

    f(t + s) = e^(-J s) f~,    f~ = 2 (f_1 + J (nu_1 - nu)) - f,

with nu_1 close to the end: a step of the implicit Euler method.  The bracket is the velocity at the start as the end has it,
off by a part of second order; f itself is off by twice as much where the way has one rate.  So the difference of the two is
an estimate of the error.  Then nu solves ``f(nu) = f(t + h)`` in the directions that decay: a simplified Newton method.
In those with rates below 1/h, if there are any, nu moves on with the velocity of the end.
"""

import numpy as np
from numba import types

from .._gram import gram_in, mirror
from .._jit import DATA_VECTOR, INTEGERS, MATRIX, VECTOR, caller, njit
from .._large import FACTORED, FACTORIZE, RARE, call_factorize_kept
from .._linalg import copy, norm, rmatvec
from ..rules.base import call_curvature
from .rosenbrock import factorize_step, multiply_gram, solve_step
from .state import BETA, RATIO, RHS, ROWS, SIZE, SYSTEM, WORK, WORK_RULE, evaluate, log_weight_error

#: How far the logarithms of the weights may have to go, those of rules that shrink.
NEAR, NEAR_IF_SHRINKING = 0.25, 0.1
LEAST_STEPS = 1.9  # that an ordinary method would take
_BENT = 0.05  # change of the velocity by curvature, in the directions that are left at the end
_SOLVED = 0.02  # of the velocity at the end
_MOST_CORRECTIONS = 12
_SLOW = 0.5  # a correction that leaves more than this has nothing to work with
_ROUNDING = 1e-15  # of c times the targets, for each unit of the logarithm of a weight
_DOUBT = 0.5  # of what Q gains
_LARGEST_SHARE = 0.02  # of K that a kept matrix may be off by
# Ordinary steps near the end are that much more accurate than their tolerance: the flow has forgotten the errors before.
_STRICT, _STRICT_Q = 1e3, 3e3

# e^-z is about ``R(z/4)^4`` with ``R(x) = sum_j a_j (1 + g x)^-j``: to a percent for z up to 14, and below e^-14 beyond.  The
# best a, for R(0) = 1, by linear programming, and the best pole g of them.  A longer way takes twice as many parts, or more.
_PARTS, _REACH = 4, 14.0
_NOTHING = 38.0
_POLE = 0.35
_SUM = np.array([0.564125942130182, -3.5418903393335235, 6.597007436111071, -2.61924303890773])


_CLOSE = types.float64(
    types.intp, types.intp, RARE, SYSTEM, types.float64, VECTOR, VECTOR, types.float64, types.float64, types.float64, MATRIX,
    types.float64, VECTOR, VECTOR, VECTOR, VECTOR, MATRIX, MATRIX, MATRIX, VECTOR, VECTOR, VECTOR, types.float64, types.float64,
    VECTOR, MATRIX, VECTOR, INTEGERS,
)


@njit(_CLOSE, allocates=False)
def closing_attempt(rule, curvature, large, system, c, z, f, h, tolerance, ratio_scale, params, strength, z_new, f_new, r,
                    local, K, M, W, panel, diagonal, known, share, squared_norm, row_scale, work_n, room, count):
    """Attempt the last step, of size h, from (z, f); return its error over the tolerance, infinite where the way is not linear.

    The arguments are those of `rosenbrock_attempt`; the system has beta and size at z on entry, and the end on return.  Rules
    that shrink have q quadratic in the residual, about ``2 strength p^2``.  Where K is kept, it is brought up to date to
    2 percent, if `share` allows more: an error of it is one of the velocity at the end, times the exponent.
    """
    share = min(share, _LARGEST_SHARE)
    n = r.shape[0]
    move, bent, end, flat, work = K[0, :n], K[1, :n], K[2, :n], K[3, :n], K[4, :n]
    start = f[:n]
    now = f_new[:n]
    # The end, nearly.
    kappa = _linearize(curvature, system, c, r, params, row_scale)
    _sum_up(system, room, M, diagonal)
    if not _factorize(large, system, share, squared_norm, h, kappa, row_scale, known, M, W, diagonal, panel, room):
        return np.inf
    mix(h, start, 0.0, start, move)
    solve_step(large, M, W, diagonal, move)
    copy(z, z_new)
    nu = z_new[:n]
    mix(1.0, nu, 1.0, move, nu)
    exponent = _exponent(large, M, W, diagonal, move, work)
    parts = 0 if exponent > _NOTHING else _PARTS * (1 + int(exponent / _REACH))
    if z.shape[0] > n:
        _shrink(system, start, move, strength, z_new[n:], local[n:])
    count[RHS] += 1
    if not evaluate(rule, system, c, z_new, params[0], r, f_new, work_n):
        return np.inf
    # The velocity at the end of an exponential way.
    kappa = _linearize(curvature, system, c, r, params, row_scale)
    _sum_up(system, room, M, diagonal)
    if known.shape[0] > 0 and not _factorize(
            large, system, share, squared_norm, h, kappa, row_scale, known, M, W, diagonal, panel, room):
        return np.inf  # it brings K up to date
    multiply_gram(large, M, W, diagonal, move, work)
    mix(1.0, now, -1.0, start, bent)
    mix(1.0, bent, 1.0, work, bent)
    if kappa != 0.0:
        multiply_gram(large, M, W, diagonal, work, flat)
        mix(1.0, bent, kappa, flat, bent)
    mix(1.0, start, 2.0, bent, flat)
    tau = h * _POLE / max(parts, 1)
    if not _factorize(large, system, share, squared_norm, tau, kappa, row_scale, known, M, W, diagonal, panel, room):
        return np.inf
    copy(flat, end)
    for _ in range(parts):
        copy(end, work)
        for j in range(_SUM.shape[0]):
            solve_step(large, M, W, diagonal, work)
            mix(_SUM[j], work, 0.0 if j == 0 else 1.0, end, end)
    if parts == 0:
        mix(0.0, start, 0.0, start, end)
    if W.shape[0] == 0 and known.shape[0] == 0:
        mirror(M, False)
    if not _factorize(large, system, share, squared_norm, h, kappa, row_scale, known, M, W, diagonal, panel, room):
        return np.inf
    for _ in range(3):
        solve_step(large, M, W, diagonal, bent)
        solve_step(large, M, W, diagonal, flat)
    left = norm(flat)
    bend = 2.0 * norm(bent) / left if left > 0.0 else 0.0
    if not bend <= _BENT:
        return np.inf
    # The weights with that velocity.
    mix(1.0, nu, h, bent, nu)
    goal = max(_SOLVED * norm(end), _ROUNDING * c * norm(system.y) * _reach(system))
    wrong, last = flat, np.inf
    for _ in range(_MOST_CORRECTIONS):
        mix(1.0, now, -1.0, end, work)
        for power in range(3):
            solve_step(large, M, W, diagonal, work)
            mix(1.0, nu, -2.0 * h if power == 2 else h, work, nu)
        count[RHS] += 1
        if not evaluate(rule, system, c, z_new, params[0], r, f_new, work_n):
            return np.inf
        mix(1.0, now, -1.0, end, wrong)
        if norm(wrong) <= goal:
            break
        if not norm(wrong) <= _SLOW * last:
            if parts > 0:
                return np.inf
            break  # rounding errors of ill-conditioned data: the error says whether they matter
        last = norm(wrong)
    else:
        return np.inf
    off = share * exponent if known.shape[0] > 0 and parts > 0 else 0.0
    mix(h, wrong, h * (bend + _SOLVED + off), end, local[:n])
    solve_step(large, M, W, diagonal, local[:n])
    return _STRICT * log_weight_error(system.X, local, ratio_scale, _STRICT_Q / _STRICT, system.rows[WORK]) / tolerance


@njit()
def _exponent(large, M, W, diagonal, move, work):
    """Return by how much the slowest part of `move` decays on the way: solutions with ``I + h J`` leave it alone, at last."""
    copy(move, work)
    last = now = norm(work)
    for _ in range(3):
        solve_step(large, M, W, diagonal, work)
        last, now = now, norm(work)
    return last / now - 1.0 if now > 0.0 else 0.0


@njit(types.void(types.float64, DATA_VECTOR, types.float64, DATA_VECTOR, VECTOR), allocates=False)
def mix(a, x, b, y, out):
    """Fill ``out = a x + b y``; it may be one of the two."""
    for i in range(out.shape[0]):
        out[i] = a * x[i] + b * y[i]


@njit(types.float64(types.intp, SYSTEM, types.float64, VECTOR, MATRIX, VECTOR), allocates=False)
def _linearize(curvature, system, c, r, params, row_scale):
    """Leave the weights of K at the state of the system in WORK; return kappa."""
    rows, weight = system.rows, system.rows[WORK]
    kappa = call_curvature(
        curvature, (system.X, c, rows[BETA], rows[SIZE], r, params[0], row_scale, rows[WORK_RULE:ROWS]))
    for j in range(weight.shape[0]):
        weight[j] = 4.0 * c * rows[SIZE, j]
    return kappa


@njit()
def _sum_up(system, room, M, diagonal):
    """Fill M with K of the weights in WORK, and its diagonal, unless it is kept."""
    if diagonal.shape[0] == M.shape[0]:
        gram_in(system.X, system.rows[WORK], room, M)
        for i in range(M.shape[0]):
            diagonal[i] = M[i, i]


@njit()
def _factorize(large, system, share, squared_norm, tau, kappa, row_scale, known, M, W, diagonal, panel, room):
    """Factor ``S^-1 + tau (K + kappa K^2)``; where K is kept, with the weights in WORK."""
    if known.shape[0] > 0:
        outcome, _ = call_factorize_kept(large[FACTORIZE], (
            system.X, system.rows[WORK], share, squared_norm, tau, 1.0, kappa, row_scale, known, M, diagonal))
        return outcome == FACTORED
    return factorize_step(M, diagonal, tau, kappa, row_scale, W, panel, room)


@njit()
def _reach(system):
    """Return about the largest logarithm of a weight that counts: it has grown by as much as it has been below 1."""
    ratio = system.rows[RATIO]
    largest = 0.0
    for j in range(ratio.shape[0]):
        largest = max(largest, abs(ratio[j]))
    return 1.0 + 2.0 * largest


@njit()
def _shrink(system, velocity, move, strength, Q, error):
    """Add to Q what q gains on the way: ``strength p int p``, exact for a single rate."""
    p, moved = system.rows[WORK], system.rows[WORK + 1]
    rmatvec(system.X, velocity, strength, p)
    rmatvec(system.X, move, 1.0, moved)
    for j in range(Q.shape[0]):
        gain = p[j] * moved[j]
        Q[j] += gain
        error[j] = _DOUBT * gain


call_closing = caller(_CLOSE)
