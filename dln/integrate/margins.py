"""The flow of an exponential or logistic loss in dual coordinates and normalised time: stiff, so by Rodas5P.

With ``log(u/v) = log(u0/v0) + 4 Z^T nu`` the flow is ``nu_i' = a_i``, ``a_i = -l'(z_i.beta)/N``.  In the time s with
``ds = A dt``, ``A = sum a_i``, it is ``d nu/ds = pi``, a point of the simplex, whatever the size of the loss.  Ordinary
time grows like the exponential of the margin; the number ``y = A t`` does not, and its equation is linear:

    dy/ds = 1 - y G,    G = -d(log A)/ds = sum_i pi_i g_i (K pi)_i,    K = 4 Z diag(u^2 + v^2) Z^T,

where ``g_i = -d(log a_i)/d m_i``.  The Jacobian of pi is ``-(diag(q) - pi q^T) K``, ``q = pi g``; it grows with the margin,
and its slow directions are those in which the margins of the support vectors grow alike.
"""

import math

import numpy as np
from numba import types

from .._gram import gram
from .._jit import DATA_MATRIX, DATA_VECTOR, INTEGERS, MATRIX, VECTOR, njit
from .._linalg import cholesky, cholesky_solve, copy, matvec, rmatvec
from ..network import evaluate_weights

# Why the loop stopped.
RUNNING, AT_STOP, STEP_TOO_SMALL, OVERFLOWING = range(4)

# The clock: a float vector.
S, Y, LOG_A, MARGIN, H, ERROR, CLOCK_SIZE = range(7)

# Counters.
ACCEPTED, REJECTED, EVALUATIONS, COUNT_SIZE = range(4)

_GROWTH = 3.0  # largest growth, in one step, of the logarithm of a weight squared that counts at its end
_COUNTS = 1e-8  # relative to the size at which a coordinate matters
_LARGEST_FACTOR, _SMALLEST_FACTOR, _SAFETY = 6.0, 0.2, 0.85
_ROUNDING = 2e-15
_NEGLIGIBLE = 1e-120  # of pi g: as good as 0, and its square root has an inverse
_LANDING = 1e-13  # a stop is met to this relative accuracy, or as well as rounding allows
_EPS = 2.220446049250313e-16

_RATES = types.Tuple((types.boolean, types.float64, types.float64))(
    DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, types.boolean, DATA_VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR,
    VECTOR, VECTOR, MATRIX,
)
_FACTOR = types.boolean(DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, types.float64, MATRIX, VECTOR, VECTOR)
_CURVATURE = types.void(
    DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, DATA_VECTOR, DATA_VECTOR, DATA_VECTOR, DATA_VECTOR, DATA_VECTOR, MATRIX, VECTOR,
    MATRIX, MATRIX,
)


@njit(_RATES, allocates=False)
def rates(Z, log_product, log_ratio, logistic, nu, w, beta, size, m, pi, q, bend, turned, drift, work):
    """Evaluate the flow at nu: fill its arrays and return (fits, log A, G).

    Filled: ``w = log(u/v)``, beta, ``u^2 + v^2`` (d,); margins, pi, ``q = pi g``, ``bend = pi dg/dm`` (N,), ``Z^T pi``
    (d,), and the drift of the margins ``K pi`` (N,).
    """
    n, d = Z.shape
    rmatvec(Z, nu, 4.0, w)
    for j in range(d):
        w[j] += log_ratio[j]
    if not evaluate_weights(log_product, w, beta, size):
        return False, 0.0, 0.0
    matvec(Z, beta, m)
    top = -np.inf
    for i in range(n):
        if logistic:  # log a = -log(1 + e^m), log 1/N left for the end
            pi[i] = -(max(m[i], 0.0) + math.log1p(math.exp(-abs(m[i]))))
        else:
            pi[i] = -m[i]
        top = max(top, pi[i])
    if not math.isfinite(top):
        return False, 0.0, 0.0
    total = 0.0
    for i in range(n):
        pi[i] = math.exp(pi[i] - top)
        total += pi[i]
    for i in range(n):
        pi[i] /= total
        g, bent = 1.0, 0.0
        if logistic:
            e = math.exp(-abs(m[i]))
            g = (1.0 if m[i] > 0.0 else e) / (1.0 + e)
            bent = e / (1.0 + e) ** 2
        q[i] = pi[i] * g
        bend[i] = pi[i] * bent
    rmatvec(Z, pi, 1.0, turned)
    for j in range(d):
        work[0, j] = 4.0 * size[j] * turned[j]
    matvec(Z, work[0], drift)
    fall = 0.0
    for i in range(n):
        fall += q[i] * drift[i]
    return math.isfinite(fall), top + math.log(total / n), fall


@njit(_FACTOR, allocates=False)
def factor(K, q, pi, tau, W, root, slow):
    """Factor ``M = I + tau (diag(q) - pi q^T) K``; False if it does not factor.

    With ``S = sqrt(diag(q))`` and ``B = I + tau diag(q) K = S (I + tau S K S) S^-1``, M is B less a matrix of rank one, and its
    columns sum to 1.  So ``M^-1 r = B^-1 r + c B^-1 pi`` with c such that the sum of r is kept.  That sum, the slow direction,
    would be lost in the rounding of M itself once tau K is above 1e8.  W keeps the Cholesky factor, `slow` ``B^-1 pi``.
    """
    n = K.shape[0]
    for i in range(n):
        root[i] = math.sqrt(max(q[i], _NEGLIGIBLE))
        for k in range(i + 1):
            W[i, k] = tau * root[i] * root[k] * K[i, k]
        W[i, i] += 1.0
    if not cholesky(W):
        return False
    for i in range(n):
        slow[i] = pi[i] / root[i]
    cholesky_solve(W, slow)
    total = 0.0
    for i in range(n):
        slow[i] *= root[i]
        total += slow[i]
    for i in range(n):
        slow[i] /= total
    return total != 0.0


@njit(types.void(DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, VECTOR), allocates=False)
def solve(W, root, slow, b):
    """Solve with what `factor` leaves, in place."""
    rest = 0.0
    for i in range(b.shape[0]):
        rest += b[i]
        b[i] /= root[i]
    cholesky_solve(W, b)
    for i in range(b.shape[0]):
        b[i] *= root[i]
        rest -= b[i]
    for i in range(b.shape[0]):
        b[i] += rest * slow[i]


@njit(_CURVATURE, allocates=False)
def curvature(Z, beta, size, pi, q, bend, turned, drift, K, slope, work, work_n):
    """Fill K and the gradient of G with respect to nu, (N,)."""
    n, d = Z.shape
    for j in range(d):
        work[0, j] = 4.0 * size[j]
    gram(Z, work[0], K)
    matvec(K, q, work_n[0])
    mean = 0.0
    for i in range(n):
        # e = g (K pi) + K q, of which only pi e and q e are needed: where pi underflows, so do they.
        work_n[1, i] = q[i] / pi[i] * drift[i] + work_n[0, i] if pi[i] > 0.0 else work_n[0, i]
        mean += work_n[1, i] * pi[i]
    for i in range(n):
        work_n[1, i] = q[i] * (mean - work_n[1, i]) + bend[i] * drift[i]
    matvec(K, work_n[1], slope)
    rmatvec(Z, q, 16.0, work[0])
    for j in range(d):
        work[0, j] *= turned[j] * beta[j]
    matvec(Z, work[0], work_n[0])
    for i in range(n):
        slope[i] += work_n[0, i]


@njit(types.float64(DATA_VECTOR, DATA_VECTOR, DATA_VECTOR, types.float64, VECTOR), allocates=False)
def tolerated(log_product, size, beta, unit, scale):
    """Fill the weight of an error of log(u/v), (d,): 1, or more where beta itself would be off by more."""
    largest = unit
    for j in range(beta.shape[0]):
        largest = max(largest, abs(beta[j]))
    for j in range(beta.shape[0]):
        scale[j] = max(1.0, size[j] / largest)
    return largest


@njit(types.float64(DATA_VECTOR), allocates=False)
def least(margins):
    """Return the least of the margins."""
    found = np.inf
    for i in range(margins.shape[0]):
        if not margins[i] >= found:  # a NaN must win: `min` would drop it
            found = margins[i]
        if found != found:
            break
    return found


ADVANCE = types.int64(
    DATA_MATRIX, VECTOR, VECTOR, types.boolean, types.float64, types.float64, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR,
    INTEGERS, types.boolean, types.float64, DATA_MATRIX, DATA_MATRIX, VECTOR, VECTOR, types.float64, types.int64,
)


@njit(ADVANCE)
def advance(Z, log_product, log_ratio, logistic, unit, rtol, nu, error_nu, beta, margins, clock, count, by_time, stop,
            A, C, m_out, e_out, gamma, attempts):
    """Advance (nu, error_nu, clock) in place to the stop, by at most `attempts` attempted steps; return why it stopped.

    The stop is the margin `stop`, or, `by_time`, the logarithm of ordinary time.  On return beta (d,), margins (N,) and
    the clock are those of nu; `error_nu` is the propagated estimate of its error.  `unit` is the size of beta at which
    margins are of order 1.
    """
    n, d = Z.shape
    stages = A.shape[0]
    w, size, turned, scale = np.empty(d), np.empty(d), np.empty(d), np.empty(d)
    pi, q, bend, drift, slope, scale1 = np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(d)
    work, work_n = np.empty((5, d)), np.empty((2, n))
    K, W, root, slow = np.empty((n, n)), np.empty((n, n)), np.empty(n), np.empty(n)
    k_nu, k_y = np.empty((stages, n)), np.empty(stages)
    at, local = np.empty(n), np.empty(n)
    # The trial's own arrays: those of the start of the step must survive a rejection.
    w1, size1, turned1, beta1, m1 = np.empty(d), np.empty(d), np.empty(d), np.empty(d), np.empty(n)
    pi1, q1, bend1, drift1 = np.empty(n), np.empty(n), np.empty(n), np.empty(n)

    fits, log_a, fall = rates(Z, log_product, log_ratio, logistic, nu, w, beta, size, margins, pi, q, bend, turned, drift, work)
    count[EVALUATIONS] += 1
    if not fits:
        return OVERFLOWING
    tolerated(log_product, size, beta, unit, scale)
    clock[LOG_A], clock[MARGIN] = log_a, least(margins)
    y = clock[Y]
    reached = (math.log(y) - log_a if y > 0.0 else -np.inf) if by_time else clock[MARGIN]
    if reached >= stop:
        return AT_STOP
    if clock[H] == 0.0:
        fastest = 0.0
        for j in range(d):
            fastest = max(fastest, scale[j] * abs(4.0 * turned[j]))
        clock[H] = 0.01 / fastest if fastest > 0.0 else 1.0
    curvature(Z, beta, size, pi, q, bend, turned, drift, K, slope, work, work_n)

    landing, low, high, low_value, high_value, side = False, 0.0, 0.0, 0.0, 0.0, 0
    after = clock[H]  # the step to go on with once a stop is met
    h = clock[H]
    growth = _LARGEST_FACTOR
    for _ in range(attempts):
        tau = gamma * h
        good = factor(K, q, pi, tau, W, root, slow)
        overflow = False
        if good:
            for stage in range(stages):
                copy(nu, at)
                at_y = y
                for p in range(stage):
                    if A[stage, p] != 0.0:
                        at_y += A[stage, p] * k_y[p]
                        for i in range(n):
                            at[i] += A[stage, p] * k_nu[p, i]
                if stage == 0:
                    copy(pi, k_nu[0])
                    k_y[0] = 1.0 - y * fall
                else:
                    fits, _, fall1 = rates(Z, log_product, log_ratio, logistic, at, w1, beta1, size1, m1, pi1, q1, bend1,
                                           turned1, drift1, work)
                    count[EVALUATIONS] += 1
                    if not fits:
                        good, overflow = False, True
                        break
                    copy(pi1, k_nu[stage])
                    k_y[stage] = 1.0 - at_y * fall1
                    for p in range(stage):
                        if C[stage, p] != 0.0:
                            k_y[stage] += C[stage, p] / h * k_y[p]
                            for i in range(n):
                                k_nu[stage, i] += C[stage, p] / h * k_nu[p, i]
                for i in range(n):
                    k_nu[stage, i] *= tau
                solve(W, root, slow, k_nu[stage])
                coupling = 0.0
                for i in range(n):
                    coupling += slope[i] * k_nu[stage, i]
                k_y[stage] = tau * (k_y[stage] - y * coupling) / (1.0 + tau * fall)
        error, error_y, y1, log_a1, fall1 = np.inf, 0.0, y, 0.0, 0.0
        if good:
            copy(nu, at)
            local[:] = 0.0
            y1 = y
            for p in range(stages):
                y1 += m_out[p] * k_y[p]
                error_y += e_out[p] * k_y[p]
                for i in range(n):
                    at[i] += m_out[p] * k_nu[p, i]
                    local[i] += e_out[p] * k_nu[p, i]
            fits, log_a1, fall1 = rates(Z, log_product, log_ratio, logistic, at, w1, beta1, size1, m1, pi1, q1, bend1, turned1,
                                        drift1, work)
            count[EVALUATIONS] += 1
            overflow = not fits
            if fits and y1 > 0.0:
                largest = tolerated(log_product, size1, beta1, unit, scale1)
                rmatvec(Z, local, 4.0, work[0])
                error, reach = 0.0, 0.0
                for j in range(d):
                    error = max(error, max(scale[j], scale1[j]) * abs(work[0, j]))
                    reach = max(reach, abs(w1[j]))
                    # A weight that wakes up within one step is not seen by its stages.
                    if size1[j] > _COUNTS * largest and abs(abs(w1[j]) - abs(w[j])) > _GROWTH and size1[j] > size[j]:
                        error = np.inf
                # The softmax is linear only while margins are off by less than 1: that many digits are needed.
                tolerance = min(rtol, unit / largest) + _ROUNDING * reach
                # Time is asked for by its logarithm, most of which is -log A.
                error = max(error / tolerance, abs(error_y) / (y1 * tolerance * max(1.0, abs(log_a1))))
                if not math.isfinite(error):
                    error = np.inf
        factor_h = _SAFETY * error ** -0.2 if error > 0.0 and error < np.inf else (_LARGEST_FACTOR if error == 0.0 else 0.0)
        factor_h = min(_LARGEST_FACTOR, max(_SMALLEST_FACTOR, factor_h))
        if not error <= 1.0:
            count[REJECTED] += 1
            landing, growth = False, 1.0
            h *= min(factor_h, 0.9)
            after = h
            if h <= 1e-15 * max(clock[S], 1e-300):
                clock[H] = h
                return OVERFLOWING if overflow else STEP_TOO_SMALL
            continue
        margin = least(m1)
        value = (math.log(y1) - log_a1 if by_time else margin) - stop
        arrived = False
        if value >= 0.0 or landing:
            near = _LANDING * max(1.0 if by_time else 0.0, abs(stop))
            arrived = abs(value) <= near
            if not arrived:
                # Illinois on the length of the step: a fresh step each time, as accurate as any other.
                if not landing:
                    landing, low, high, side = True, 0.0, h, 0
                    low_value = (math.log(y) - clock[LOG_A] if y > 0.0 else -np.inf) - stop if by_time else clock[MARGIN] - stop
                    high_value = value
                    after = max(h, 1e-300)
                elif value >= 0.0:
                    if side == 1:
                        low_value *= 0.5
                    high, high_value, side = h, value, 1
                else:
                    if side == -1:
                        high_value *= 0.5
                    low, low_value, side = h, value, -1
                if high - low > 2.0 * _EPS * (clock[S] + high):
                    if math.isfinite(low_value):
                        h = (low * high_value - high * low_value) / (high_value - low_value)
                        if not (h > low and h < high):
                            h = 0.5 * (low + high)
                    else:
                        h = 0.5 * (low + high)
                    continue
                arrived = value >= 0.0
                if not arrived:
                    h = high
                    continue
        count[ACCEPTED] += 1
        copy(at, nu)
        y = y1
        clock[S] += h
        clock[Y], clock[LOG_A], clock[MARGIN] = y1, log_a1, margin
        # The error of nu so far, carried over the step (by less than the flow contracts it), and that of the step.
        solve(W, root, slow, error_nu)
        for i in range(n):
            error_nu[i] += local[i]
        rmatvec(Z, error_nu, 4.0, work[0])
        clock[ERROR] = 0.0
        for j in range(d):
            clock[ERROR] = max(clock[ERROR], scale1[j] * abs(work[0, j]))
        copy(beta1, beta)
        copy(m1, margins)
        if arrived:
            clock[H] = max(after, h)
            return AT_STOP
        copy(w1, w)
        copy(size1, size)
        copy(turned1, turned)
        copy(pi1, pi)
        copy(q1, q)
        copy(bend1, bend)
        copy(drift1, drift)
        fall = fall1
        tolerated(log_product, size, beta, unit, scale)
        curvature(Z, beta, size, pi, q, bend, turned, drift, K, slope, work, work_n)
        # Margins far from the straight line by 1 within a step are a wall, not a slope: after a rejection, come back slowly.
        h *= min(factor_h, growth)
        growth = min(1.3 * growth, _LARGEST_FACTOR)
        clock[H] = h
        after = h
    clock[H] = h if not landing else after
    return RUNNING
