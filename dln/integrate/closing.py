"""The last step to a stop: all of the way at once, where the flow is nearly linear.

Near an interpolator the residual falls exponentially, and so do all velocities, at rates from the slowest to the fastest
eigenvalue of ``J = K + kappa K^2``.  A method of order 4 that holds the residual to a part of its value takes half a dozen
steps for the last six decades, with a Gram matrix and six evaluations each, though J hardly changes.  Linearised about its
end, the velocity ``f = dnu/dt`` of the way is that of an exponential,

    f(t + s) = e^(-J s) f~,    f~ = 2 (f_1 + J (nu_1 - nu)) - f,

with nu_1 close to the end: a step of the implicit Euler method, and two corrections, since an error of J counts times the
exponent.  The bracket is the velocity at the start as the end has it, off by a part of second order; f itself is off by twice
as much where the way has one rate.  What is left at the end of the difference of the two says how much of the velocity there
comes from curvature: the square of that part is an estimate of its error.  Then nu solves ``f(nu) = f(t + h)`` in the
directions that decay: a simplified Newton method.  In those with rates below 1/h, if there are any, nu moves on with the
velocity of the end.  What Q gains is found in `gain.py`.
"""

import math

import numpy as np
from numba import types

from .._jit import INTEGERS, MATRIX, VECTOR, caller, njit
from .._large import RARE
from .._linalg import copy, norm
from .gain import begin_gain, sum_gain
from .linearization import Linearization, apply, factorize, linearize, mix, part, solve
from .state import RATIO, RHS, SYSTEM, WORK, evaluate, log_weight_error

#: How far the logarithms of the weights may have to go, those of rules that shrink.
NEAR, NEAR_IF_SHRINKING = 0.7, 0.35
LEAST_STEPS = 1.9  # that an ordinary method would take
_CORRECTED = 2  # times, before J is that of the end
_BENT = 0.3  # part of the velocity at the end that curvature may make up
_SOLVED = 0.02  # of the velocity at the end
_MOST_CORRECTIONS = 12
_SLOW = 0.5  # a correction that leaves more than this has nothing to work with
_ROUNDING = 1e-15  # of c times the targets, for each unit of the logarithm of a weight
# What a kept matrix may be off by, in parts of K and of the slowest rate; for the first guess of the end more will do, and
# less is known of that rate.
_LARGEST_SHARE, _SHARE_AT_FIRST, _RATE_AT_FIRST = 0.02, 0.1, 10.0
# Ordinary steps near the end are that much more accurate than their tolerance: the flow has forgotten the errors before.
_STRICT, _STRICT_Q = 1e3, 3e3

# e^-z is about ``R(z/4)^4`` with ``R(x) = sum_j a_j (1 + g x)^-j``: to a percent for z up to 14, and below e^-14 beyond.  The
# best a, for R(0) = 1, by linear programming, and the best pole g of them.  A longer way takes twice as many parts, or more:
# what is left of velocities beyond has to be little next to the slowest, however small a part of them that is at the start.
_PARTS, _REACH = 4, 14.0
_MUCH = 30.0
_NOTHING = 38.0  # is left beyond
_POLE = 0.35
_SUM = np.array([0.564125942130182, -3.5418903393335235, 6.597007436111071, -2.61924303890773])


_CLOSE = types.float64(
    types.intp, types.intp, RARE, SYSTEM, types.float64, VECTOR, VECTOR, types.float64, types.float64, types.float64, MATRIX,
    types.float64, types.float64, VECTOR, VECTOR, VECTOR, VECTOR, MATRIX, MATRIX, MATRIX, VECTOR, VECTOR, VECTOR, types.float64,
    types.float64, VECTOR, MATRIX, VECTOR, INTEGERS,
)


@njit(_CLOSE, allocates=False)
def closing_attempt(rule, curvature, large, system, c, z, f, h, tolerance, ratio_scale, params, strength, ascent, z_new, f_new,
                    r, local, K, M, W, panel, diagonal, known, share, squared_norm, row_scale, work_n, room, count):
    """Attempt the last step, of size h, from (z, f); return its error over the tolerance, infinite where the way is not linear.

    The arguments are those of `rosenbrock_attempt`; the system has beta and size at z on entry, and the end on return.
    `strength` and `ascent` are the `dormant_pair` of a rule that shrinks.  Where K is kept, it is brought up to date to 2
    percent, if `share` allows more: an error of it is one of the velocity at the end, times the exponent.
    """
    n = r.shape[0]
    shrinks = z.shape[0] > n
    move, bent, end, flat, work = K[0, :n], K[1, :n], K[2, :n], K[3, :n], K[4, :n]
    m = K[K.shape[0] - 1, :n]  # of rules that shrink: their methods have more than four stages
    start, now, nu = f[:n], f_new[:n], z_new[:n]
    J = Linearization(
        curvature, large, system, c, params[0], row_scale, known, squared_norm, M, W, diagonal, panel, room)
    rates = local[n:]
    unlike = 0.0
    if shrinks:
        count[RHS] += 1
        unlike = begin_gain(rule, J, strength, ascent, f[n:], r, work_n, m, rates, move)
    # The end, nearly.
    kappa = linearize(J, r)
    if not factorize(J, min(share, _SHARE_AT_FIRST), h, kappa, _RATE_AT_FIRST / h):
        return np.inf
    mix(h, start, 0.0, start, move)
    solve(J, move)
    copy(z, z_new)
    mix(1.0, nu, 1.0, move, nu)
    exponent, slow = _slowest(J, move, work)
    rate = max(1.0, exponent) / h
    reach = exponent + math.log(_MUCH * h * part(start, move) / (exponent * slow)) if exponent > 0.0 else 0.0
    parts = 0 if exponent > _NOTHING else _PARTS * (1 + int(min(max(0.0, reach), 2.0 * _NOTHING) / _REACH))
    if shrinks:
        mix(0.5 * part(move, start), rates, 1.0, z_new[n:], z_new[n:])  # q falls twice as fast as the velocity
    for correction in range(_CORRECTED + 1):
        if correction > 0:
            copy(now, work)
            _correct(J, h, work, nu)
        count[RHS] += 1
        if not evaluate(rule, system, c, z_new, params[0], r, f_new, work_n):
            return np.inf
    # The velocity at the end of an exponential way.
    share = min(share, _LARGEST_SHARE)
    kappa = linearize(J, r)
    tau = h * _POLE / parts if parts > 0 else h / exponent
    if not factorize(J, share, tau, kappa, rate):
        return np.inf
    mix(1.0, nu, -1.0, z[:n], move)
    apply(J, kappa, move, flat, work)
    mix(1.0, now, -1.0, start, bent)
    mix(1.0, bent, 1.0, work, bent)
    mix(1.0, start, 2.0, bent, flat)
    copy(flat, end)
    _decay(J, parts, end, work)
    copy(bent, move)
    _decay(J, parts, move, work)
    bend = 2.0 * part(move, end)
    if not bend <= _BENT:
        return np.inf
    if shrinks:
        copy(z[n:], z_new[n:])
        unseen = unlike + math.exp(-2.0 * exponent)  # it is for a way without an end
        if not sum_gain(J, share, kappa, strength, tau, bent, flat, unseen, m, z_new[n:], local[n:], work, move):
            return np.inf
    # The weights with that velocity.
    if not factorize(J, share, h, kappa, rate):
        return np.inf
    for _ in range(3):
        solve(J, bent)
    mix(1.0, nu, h, bent, nu)
    goal = max(_SOLVED * norm(end), _ROUNDING * c * norm(system.y) * _reach(system))
    wrong, last = flat, np.inf
    for _ in range(_MOST_CORRECTIONS):
        mix(1.0, now, -1.0, end, work)
        _correct(J, h, work, nu)
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
    mix(h, wrong, h * (bend * bend + _SOLVED + off), end, local[:n])
    solve(J, local[:n])
    return _STRICT * log_weight_error(system.X, local, ratio_scale, _STRICT_Q / _STRICT, system.rows[WORK]) / tolerance


@njit()
def _slowest(J, move, work):
    """Return by how much the slowest part of `move` decays on the way, and which part of it that is.

    Solutions with ``I + h J`` leave it alone, at last.
    """
    copy(move, work)
    last = now = norm(work)
    for _ in range(3):
        solve(J, work)
        last, now = now, norm(work)
    exponent = last / now - 1.0 if now > 0.0 else 0.0
    return exponent, (1.0 + exponent) ** 3 * part(work, move)


@njit()
def _correct(J, h, velocity, nu):
    """Move nu to where this part of its velocity is gone, in directions that decay; `velocity` is work afterwards."""
    for power in range(3):
        solve(J, velocity)
        mix(1.0, nu, -2.0 * h if power == 2 else h, velocity, nu)


@njit()
def _decay(J, parts, velocity, work):
    """Let a velocity decay on the way: multiply by the exponential, in so many parts; with none nothing is left."""
    for _ in range(parts):
        copy(velocity, work)
        for j in range(_SUM.shape[0]):
            solve(J, work)
            mix(_SUM[j], work, 0.0 if j == 0 else 1.0, velocity, velocity)
    if parts == 0:
        mix(0.0, velocity, 0.0, velocity, velocity)


@njit()
def _reach(system):
    """Return about the largest logarithm of a weight that counts: it has grown by as much as it has been below 1."""
    ratio = system.rows[RATIO]
    largest = 0.0
    for j in range(ratio.shape[0]):
        largest = max(largest, abs(ratio[j]))
    return 1.0 + 2.0 * largest


call_closing = caller(_CLOSE)
