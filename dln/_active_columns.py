"""The active columns of a homotopy, factored: ``A_S = Q L^T``, with a column more or less at a time.  Compiled."""

import math

from numba import types

from ._jit import DATA_MATRIX, DATA_VECTOR, INTEGERS, MATRIX, REDUCTION, VECTOR, njit
from ._linalg import copy, matvec, norm, rmatvec

_DEPENDENT = 1e-10  # what is left of a column, relative to it, if the active ones span it

_EXTEND = types.boolean(
    DATA_VECTOR, types.float64, types.int64, MATRIX, MATRIX, VECTOR, VECTOR, VECTOR, VECTOR, types.float64, VECTOR)
_REMOVE = types.void(
    types.int64, types.int64, MATRIX, MATRIX, VECTOR, VECTOR, VECTOR, VECTOR, types.float64, VECTOR)
_RENEW = types.void(DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, DATA_VECTOR, VECTOR, VECTOR, types.float64, VECTOR)
_DROP = types.int64(
    types.int64, types.int64, INTEGERS, VECTOR, MATRIX, MATRIX, VECTOR, VECTOR, VECTOR, VECTOR, types.float64, VECTOR)


@njit(fastmath=REDUCTION)
def dot(a, b):
    s = 0.0
    for i in range(a.shape[0]):
        s += a[i] * b[i]
    return s


@njit(fastmath=REDUCTION)
def dots(a, e, u):
    s = 0.0
    w = 0.0
    for i in range(a.shape[0]):
        s += a[i] * e[i]
        w += a[i] * u[i]
    return s, w


@njit(types.void(DATA_MATRIX, DATA_VECTOR, types.int64, VECTOR), allocates=False)
def back(L, right, k, out):
    """Solve L^T out = right for the leading k."""
    for i in range(k):
        out[i] = right[i]
    for i in range(k - 1, -1, -1):
        v = out[i] / L[i, i]
        out[i] = v
        for m in range(i):
            out[m] -= v * L[i, m]


@njit(types.void(DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, types.int64, VECTOR, VECTOR), fastmath=REDUCTION, allocates=False)
def back_both(L, t, z, k, p, d):
    """Solve L^T p = t and L^T d = z together: L is read once."""
    for i in range(k):
        p[i] = t[i]
        d[i] = z[i]
    for i in range(k - 1, -1, -1):
        row = L[i]
        v = p[i] / row[i]
        w = d[i] / row[i]
        p[i] = v
        d[i] = w
        for m in range(i):
            p[m] -= v * row[m]
            d[m] -= w * row[m]


@njit(types.void(VECTOR, types.float64, types.int64), allocates=False)
def _clean(e, y_norm, k):
    if k == e.shape[0] or norm(e) <= 1e-14 * y_norm:
        for i in range(e.shape[0]):
            e[i] = 0.0


@njit(_EXTEND, allocates=False)
def extend(a, sign, k, Q, L, z, t, e, u, y_norm, work):
    """Append a column; False if the active ones span it."""
    n = a.shape[0]
    if k == n:
        return False
    q = Q[k]
    h = L[k]
    for i in range(k):
        h[i] = 0.0
    copy(a, q)
    size = norm(a)
    before = size
    left = size
    for _ in range(3):
        if k > 0:
            matvec(Q[:k], q, work[:k])
            for i in range(k):
                h[i] += work[i]
            rmatvec(Q[:k], work[:k], 1.0, work[n:])
            for i in range(n):
                q[i] -= work[n + i]
        left = norm(q)
        if not left > _DEPENDENT * size:
            return False
        if left > 0.1 * before:  # else once more: what is left has lost digits
            break
        before = left
    for i in range(n):
        q[i] /= left
    h[k] = left
    z[k] = (sign - dot(h[:k], z[:k])) / left
    t[k] = dot(q, e)
    for i in range(n):
        e[i] -= t[k] * q[i]
        u[i] += z[k] * q[i]
    _clean(e, y_norm, k + 1)
    return True


@njit(fastmath=REDUCTION)
def _rotate(a, b, c, s):
    for j in range(a.shape[0]):
        v = a[j]
        w = b[j]
        a[j] = c * v + s * w
        b[j] = c * w - s * v


@njit(_REMOVE, allocates=False)
def _remove(m, k, Q, L, z, t, e, u, y_norm, work):
    """Take out column m of k: rotations keep L triangular."""
    n = e.shape[0]
    cosines = work[:k]
    sines = work[k : 2 * k]
    for i in range(m, k - 1):  # row by row of L: all earlier rotations, then its own
        row = L[i]
        copy(L[i + 1], row[: i + 2])
        a = row[m]
        for r in range(m, i):
            b = row[r + 1]
            row[r] = cosines[r] * a + sines[r] * b
            a = cosines[r] * b - sines[r] * a
        b = row[i + 1]
        h = math.hypot(a, b)
        row[i] = h
        row[i + 1] = 0.0
        cosines[i] = a / h
        sines[i] = b / h
    for i in range(m, k - 1):
        c = cosines[i]
        s = sines[i]
        _rotate(Q[i], Q[i + 1], c, s)
        v = z[i]
        w = z[i + 1]
        z[i] = c * v + s * w
        z[i + 1] = c * w - s * v
        v = t[i]
        w = t[i + 1]
        t[i] = c * v + s * w
        t[i + 1] = c * w - s * v
    # What the column alone spanned is in the last row of Q now.
    for j in range(n):
        u[j] -= z[k - 1] * Q[k - 1, j]
        e[j] += t[k - 1] * Q[k - 1, j]
    _clean(e, y_norm, k - 1)


@njit(_RENEW, allocates=False)
def renew(Q, z, t, y, e, u, y_norm, work):
    """Compute e and u from scratch: knots have changed them one direction at a time."""
    k, n = Q.shape
    if k > 0:
        rmatvec(Q, z[:k], 1.0, u)
        rmatvec(Q, t[:k], 1.0, work[:n])
        for i in range(n):
            e[i] = y[i] - work[i]
        _clean(e, y_norm, k)


@njit(_DROP, allocates=False)
def drop(m, k, active, signs, Q, L, z, t, e, u, y_norm, work):
    _remove(m, k, Q, L, z, t, e, u, y_norm, work)
    signs[active[m]] = 0.0
    for i in range(m, k - 1):
        active[i] = active[i + 1]
    return k - 1
