"""The homotopy of the Lasso, knot by knot: compiled.

With columns a_j, the minimiser of ``|A x - y|^2/2 + lam |x|_1`` is piecewise linear in lam.  Between knots, with active columns
``A_S = Q L^T`` and signs s, both x and the residual are known in closed form,

    x_S = p - lam d,   r = e + lam u,     L^T p = Q^T y,  L^T d = z,  L z = s,  e = y - Q Q^T y,  u = Q z,

so that no error is carried from knot to knot.  A column more is one orthogonalisation, a column less a few rotations.
"""

import math

from numba import types

from ._active_columns import back, back_both, dot, dots, drop, extend, renew
from ._jit import DATA_MATRIX, DATA_VECTOR, INTEGERS, MATRIX, REDUCTION, TENSOR, VECTOR, njit
from ._linalg import copy, matvec, norm, rmatvec

_PARALLEL = 1e-11   # 1 - s_j a_j.u below this: the column runs along its bound
_TIE = 1e-12        # events this near in lam, relative to it, are one
_NOISE = 1e-11      # an event this much below the last knot is a 0 that rounding has moved
_RENEW = 32         # knots between computations of the residual from scratch

DONE, PAUSED = 0, 1

_INTEGER_MATRIX = types.Array(types.int64, 2, "C")
_RESOLVE = types.int64(
    MATRIX, types.int64, INTEGERS, VECTOR, types.int64, VECTOR, INTEGERS, VECTOR, MATRIX, MATRIX, VECTOR, VECTOR, VECTOR,
    VECTOR, VECTOR, types.float64, VECTOR,
)
_MARGINS = types.void(
    DATA_VECTOR, DATA_VECTOR, DATA_VECTOR, INTEGERS, DATA_VECTOR, types.float64, types.float64, VECTOR)
_DISTANCE = types.float64(DATA_VECTOR, DATA_VECTOR, DATA_VECTOR, DATA_VECTOR, types.float64, types.float64)
_BEGIN_LINE = types.UniTuple(types.int64, 2)(
    MATRIX, VECTOR, VECTOR, INTEGERS, INTEGERS, TENSOR, DATA_VECTOR, DATA_VECTOR)


@njit(_RESOLVE, allocates=False)
def _resolve(A, k, tied, tied_signs, n_tied, change, active, signs, Q, L, z, t, e, u, d, y_norm, work):
    """Decide which of the columns at their bound, with entry 0, become active.

    Nonnegative least squares (Lawson & Hanson 1974): the path leaves a knot along the d for which each of them either moves
    off 0 with its sign or stays within its bound.
    """
    for i in range(n_tied):
        change[tied[i]] = 0.0  # of the entry, with its sign, as lam falls; negative: not to be tried again
    for _ in range(3 * n_tied + 3):
        best = -1
        most = _PARALLEL
        for i in range(n_tied):
            j = tied[i]
            if signs[j] == 0.0 and change[j] == 0.0:
                w = 1.0 - tied_signs[i] * dot(A[j], u)
                if w > most:
                    most = w
                    best = i
        if best < 0:
            break
        j = tied[best]
        if not extend(A[j], tied_signs[best], k, Q, L, z, t, e, u, y_norm, work):
            change[j] = -1.0
            continue
        active[k] = j
        signs[j] = tied_signs[best]
        k += 1
        while True:
            back(L, z, k, d)
            theta = 1.0
            limiting = -1
            for i in range(k):
                at = active[i]
                if change[at] >= 0.0 or at == j:
                    new = signs[at] * d[i]
                    old = change[at]
                    if new <= 0.0 and old - new >= 0.0:
                        share = old / (old - new) if old > 0.0 else 0.0
                        if share < theta or limiting < 0:
                            theta = share
                            limiting = i
            for i in range(k):
                at = active[i]
                if change[at] >= 0.0:
                    change[at] = max(0.0, change[at] + theta * (signs[at] * d[i] - change[at]))
            if limiting < 0:
                break
            at = active[limiting]
            k = drop(limiting, k, active, signs, Q, L, z, t, e, u, y_norm, work)
            change[at] = -1.0 if at == j else 0.0
    return k


@njit(types.void(DATA_VECTOR, DATA_VECTOR, VECTOR), allocates=False)
def _predict(ce, cu, out):
    """Where a column that correlates as ce + lam cu with the residual reaches its bound; 0 if nowhere."""
    for j in range(out.shape[0]):
        rate = 1.0 - math.copysign(cu[j], ce[j] * cu[j])
        at = abs(ce[j]) / rate
        out[j] = at if rate > _PARALLEL else 0.0


@njit()
def _arrival(c, g):
    rate = 1.0 - math.copysign(g, c * g)
    return abs(c) / rate if rate > _PARALLEL else 0.0


@njit(_MARGINS, allocates=False)
def _margins(ce, cu, norms, line, off, lam, low, out):
    """By how much a column can be beyond its bound between lam and low, at most: it is convex in lam."""
    for j in range(out.shape[0]):
        out[j] = max(abs(ce[j] + lam * cu[j]) - lam, abs(ce[j] + low * cu[j]) - low) + norms[j] * off[line[j]]


@njit(_DISTANCE, fastmath=REDUCTION, allocates=False)
def _distance(e, u, e0, u0, lam, low):
    """How far the residual is from another line, at most, between lam and low."""
    here = 0.0
    there = 0.0
    for i in range(e.shape[0]):
        v = e[i] - e0[i]
        w = u[i] - u0[i]
        here += (v + lam * w) * (v + lam * w)
        there += (v + low * w) * (v + low * w)
    return math.sqrt(max(here, there)) * 1.0000001


@njit(_BEGIN_LINE, allocates=False)
def _begin_line(A, ce, cu, line, members, lines, e, u):
    """Keep the line of this knot, in place of one on which few columns were measured: those are measured on this one."""
    new = 0
    for r in range(members.shape[0]):
        if members[r] < members[new]:
            new = r
    copy(e, lines[0, new])
    copy(u, lines[1, new])
    again = members[new]
    if again > 0:
        for j in range(line.shape[0]):
            if line[j] == new:
                ce[j], cu[j] = dots(A[j], e, u)
    return new, again


@njit(types.int64(MATRIX, VECTOR, types.float64, types.int64, INTEGERS, VECTOR, INTEGERS, INTEGERS, INTEGERS, MATRIX,
                  MATRIX, MATRIX, MATRIX, MATRIX, VECTOR, INTEGERS, INTEGERS, TENSOR, VECTOR, VECTOR, INTEGERS,
                  _INTEGER_MATRIX, MATRIX, MATRIX), allocates=False)
def advance(A, y, stop, most, ints, floats, active, tied, near, by_column, by_sample, by_active, Q, L, work, line, members,
            lines, off, log_lam, log_k, log_active, log_x, log_nu):
    """Follow the path down to lam = `stop`, over `most` knots at most; the next call goes on from there.

    Parameters
    ----------
    A : (d, n)
        One column of the data per row.
    y : (n,)
    stop, most : float, int
    ints : (5,)
        Number of active columns (-1: the start), of knots, of columns at their bound, of columns measured, of knots in the
        log.
    floats : (2,)
        lam, and its largest value.
    active, tied, near : (n + 1,), (d,), (d,)
    by_column : (7, d)
        Norms (given), signs, and work.
    by_sample, by_active, work : (2, n), (4, n + 1), (2 n + 2,)
        e and u; z, t, p, d.
    line, members, lines, off : (d,), (R,), (2, R, n), (R,)
        On which of R earlier lines e + lam u a column was last measured, how many were on each, the lines, distances.
    Q, L : (n + 1, n), (n + 1, n + 1)
    log_lam, log_k, log_active, log_x, log_nu : (m,), (m,), (m, n), (m, n), (m, n)
        Of each knot, if m > 0: lam, the number of active columns, which, their entries, the residual over lam.

    Returns
    -------
    int
        `DONE` or `PAUSED`.
    """
    norms, signs, change, ce = by_column[0], by_column[1], by_column[2], by_column[3]
    cu, margin, tied_signs = by_column[4], by_column[5], by_column[6]
    e, u = by_sample[0], by_sample[1]
    z, t, p, d = by_active[0], by_active[1], by_active[2], by_active[3]
    count, n = A.shape
    y_norm = norm(y)
    recorded = 0
    capacity = log_lam.shape[0]
    if ints[0] < 0:  # the start
        ints[0] = 0
        copy(y, e)
        copy(y, lines[0, 0])
        for i in range(n):
            u[i] = 0.0
            lines[1, 0, i] = 0.0
        top = 0.0
        for j in range(count):
            ce[j] = dot(A[j], y)
            cu[j] = 0.0
            top = max(top, abs(ce[j]))
            signs[j] = 0.0
            change[j] = -2.0
            line[j] = 0
        for r in range(members.shape[0]):
            members[r] = 0
        members[0] = count
        floats[0] = top
        floats[1] = top
        m = 0
        for j in range(count):
            if abs(ce[j]) >= top * (1.0 - _TIE):
                tied[m] = j
                tied_signs[m] = 1.0 if ce[j] > 0.0 else -1.0
                m += 1
        ints[2] = m
    for _ in range(most):
        k = ints[0]
        lam = floats[0]
        k = _resolve(A, k, tied, tied_signs, ints[2], change, active, signs, Q, L, z, t, e, u, d, y_norm, work)
        ints[0] = k
        if ints[1] % _RENEW == 0:
            renew(Q[:k], z, t, y, e, u, y_norm, work)
        back_both(L, t, z, k, p, d)
        if recorded < capacity:
            if k > 0:  # where e is small beside y, what rounding leaves of the active columns in it would count
                matvec(Q[:k], e, work[:k])
                rmatvec(Q[:k], work[:k], -1.0, work[n:])
                for i in range(n):
                    e[i] += work[n + i]
            log_lam[recorded] = lam
            log_k[recorded] = k
            for i in range(k):
                log_active[recorded, i] = active[i]
                log_x[recorded, i] = p[i] - lam * d[i] if change[active[i]] < 0.0 else 0.0  # it comes in here
            for i in range(n):
                log_nu[recorded, i] = e[i] / lam + u[i]
            recorded += 1
            ints[4] = recorded
        for i in range(ints[2]):
            change[tied[i]] = -2.0
        ints[1] += 1
        slack = _TIE * lam + 1e-15 * floats[1]
        # An entry that comes to 0.
        low = stop
        for i in range(k):
            if signs[active[i]] * d[i] < 0.0:
                at = p[i] / d[i]
                if at > low:
                    low = min(at, lam)
        # A column that comes to its bound: the likeliest first.
        new, again = _begin_line(A, ce, cu, line, members, lines, e, u)
        _predict(ce, cu, margin)
        guess = -1
        likeliest = 0.0
        for j in range(count):
            if likeliest < margin[j] <= lam and signs[j] == 0.0:
                likeliest = margin[j]
                guess = j
        if guess >= 0:
            c, g = dots(A[guess], e, u)
            low = max(low, min(_arrival(c, g), lam))
        # No other does as long as the residual stays near the line that it was last measured on.
        for r in range(members.shape[0]):
            off[r] = _distance(e, u, lines[0, r], lines[1, r], lam, low) if members[r] > 0 else 0.0
        _margins(ce, cu, norms, line, off, lam, low, margin)
        m = 0
        for j in range(count):
            if margin[j] >= -slack and signs[j] == 0.0:
                c, g = dots(A[j], e, u)
                members[line[j]] -= 1
                members[new] += 1
                line[j] = new
                ce[j] = c
                cu[j] = g
                near[m] = j
                m += 1
                low = max(low, min(_arrival(c, g), lam))
        ints[3] += m + again
        if not low > max(stop, _NOISE * lam):
            floats[0] = stop
            return DONE
        # All that happens there.
        n_tied = 0
        for i in range(m):
            v = ce[near[i]] + low * cu[near[i]]
            if abs(v) >= low - slack:
                tied[n_tied] = near[i]
                tied_signs[n_tied] = 1.0 if v > 0.0 else -1.0
                n_tied += 1
        for i in range(k - 1, -1, -1):
            j = active[i]
            if signs[j] * d[i] < 0.0 and p[i] / d[i] >= low - slack:
                tied[n_tied] = j
                tied_signs[n_tied] = signs[j]
                n_tied += 1
                k = drop(i, k, active, signs, Q, L, z, t, e, u, y_norm, work)
        ints[0] = k
        ints[2] = n_tied
        floats[0] = low
    return PAUSED


@njit(types.void(DATA_MATRIX, MATRIX), allocates=False)
def transposed(X, out):
    """out = X^T, block by block."""
    rows, columns = X.shape
    for start in range(0, columns, 64):
        for i in range(rows):
            for j in range(start, min(start + 64, columns)):
                out[j, i] = X[i, j]
