"""Products with data that no cache holds: what they cost is the reading of X, so whole rows are read, in order, and few times.

Rows lie in one piece.  Blocks of columns, which would keep sums in registers, are short pieces far from each other: the
hardware does not see what is to be read next.
"""

from numba import types

from ._jit import DATA_MATRIX, DATA_VECTOR, REDUCTION, VECTOR, njit

IN_CACHE = 1 << 15  # entries of X, 256 kB, up to which it is read from a cache

#: ``(X, b, y, scale, r, out)``
RESIDUAL_AND_PRODUCT = types.void(DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, types.float64, VECTOR, VECTOR)


@njit(types.void(DATA_MATRIX, DATA_VECTOR, types.float64, VECTOR), fastmath=REDUCTION, allocates=False)
def stream_rmatvec(X, a, scale, out):
    """out = scale * X^T a, four rows at a time so that `out`, which a cache does hold, is written rarely."""
    rows, columns = X.shape
    whole = rows - rows % 4
    for j in range(columns):
        out[j] = 0.0
    for i in range(0, whole, 4):
        a0 = scale * a[i]
        a1 = scale * a[i + 1]
        a2 = scale * a[i + 2]
        a3 = scale * a[i + 3]
        for j in range(columns):
            out[j] += (a0 * X[i, j] + a1 * X[i + 1, j]) + (a2 * X[i + 2, j] + a3 * X[i + 3, j])
    for i in range(whole, rows):
        a0 = scale * a[i]
        for j in range(columns):
            out[j] += a0 * X[i, j]


@njit(RESIDUAL_AND_PRODUCT, fastmath=REDUCTION, allocates=False)
def stream_residual_and_rmatvec(X, b, y, scale, r, out):
    """r = X b - y and ``out = scale * X^T r``: four rows stay in a cache for both.  An empty y stands for 0."""
    rows, columns = X.shape
    whole = rows - rows % 4
    for j in range(columns):
        out[j] = 0.0
    for i in range(0, whole, 4):
        s0 = 0.0
        s1 = 0.0
        s2 = 0.0
        s3 = 0.0
        for j in range(columns):
            s0 += X[i, j] * b[j]
            s1 += X[i + 1, j] * b[j]
            s2 += X[i + 2, j] * b[j]
            s3 += X[i + 3, j] * b[j]
        if y.shape[0] > 0:
            s0 -= y[i]
            s1 -= y[i + 1]
            s2 -= y[i + 2]
            s3 -= y[i + 3]
        r[i] = s0
        r[i + 1] = s1
        r[i + 2] = s2
        r[i + 3] = s3
        a0 = scale * s0
        a1 = scale * s1
        a2 = scale * s2
        a3 = scale * s3
        for j in range(columns):
            out[j] += (a0 * X[i, j] + a1 * X[i + 1, j]) + (a2 * X[i + 2, j] + a3 * X[i + 3, j])
    for i in range(whole, rows):
        s0 = 0.0
        for j in range(columns):
            s0 += X[i, j] * b[j]
        r[i] = s0 - y[i] if y.shape[0] > 0 else s0
        a0 = scale * r[i]
        for j in range(columns):
            out[j] += a0 * X[i, j]
