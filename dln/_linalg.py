"""Small dense kernels: products with X, norms, Cholesky."""

import math

import numpy as np
from numba import types

from ._jit import DATA_MATRIX, DATA_VECTOR, MATRIX, REDUCTION, VECTOR, Blas, njit
from ._simd import (
    WIDTH,
    load,
    load_at,
    load_some,
    load_some_at,
    splat,
    store,
    store_some,
    total,
    totals,
)
from ._streams import IN_CACHE, RESIDUAL_AND_PRODUCT, stream_residual_and_rmatvec, stream_rmatvec

_PRODUCT = types.void(DATA_MATRIX, DATA_VECTOR, VECTOR)
_BY_ROWS_FROM = 1 << 17  # entries of X above which X^T a goes row by row: columns lie too far apart in memory
_LAPACK_FROM = 300  # rows above which LAPACK's blocked Cholesky factorisation beats the loop
_potrf = Blas("dpotrf", 5, "lapack")


@njit(types.void(DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, VECTOR), allocates=False)
def residual(X, b, y, out):
    """out = X b - y, eight rows at a time."""
    rows, columns = X.shape
    for i in range(0, rows - 7, 8):
        first, second = _eight_sums(X, b, i)
        store(first - load(y, i), out, i)
        store(second - load(y, i + 4), out, i + 4)
    i = rows - rows % 8
    if i + 4 <= rows:
        store(_four_sums(X, b, i) - load(y, i), out, i)
        i += 4
    while i < rows:
        out[i] = _one_sum(X, b, i) - y[i]
        i += 1
    for j in range(columns - columns % WIDTH, columns):
        for i in range(rows):
            out[i] += X[i, j] * b[j]


@njit(_PRODUCT, allocates=False)
def matvec(X, b, out):
    """out = X b, eight rows at a time."""
    rows, columns = X.shape
    for i in range(0, rows - 7, 8):
        first, second = _eight_sums(X, b, i)
        store(first, out, i)
        store(second, out, i + 4)
    i = rows - rows % 8
    if i + 4 <= rows:
        store(_four_sums(X, b, i), out, i)
        i += 4
    while i < rows:
        out[i] = _one_sum(X, b, i)
        i += 1
    for j in range(columns - columns % WIDTH, columns):
        for i in range(rows):
            out[i] += X[i, j] * b[j]


# The sums of whole fours of columns: eight sums at a time, since a sum waits four cycles for the one before it.


@njit()
def _eight_sums(X, b, i):
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = splat(0.0)
    for j in range(0, X.shape[1] - 3, WIDTH):
        x = load(b, j)
        s0 = s0 + x * load_at(X, i, j)
        s1 = s1 + x * load_at(X, i + 1, j)
        s2 = s2 + x * load_at(X, i + 2, j)
        s3 = s3 + x * load_at(X, i + 3, j)
        s4 = s4 + x * load_at(X, i + 4, j)
        s5 = s5 + x * load_at(X, i + 5, j)
        s6 = s6 + x * load_at(X, i + 6, j)
        s7 = s7 + x * load_at(X, i + 7, j)
    return totals(s0, s1, s2, s3), totals(s4, s5, s6, s7)


@njit()
def _four_sums(X, b, i):
    columns = X.shape[1]
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = splat(0.0)
    for j in range(0, columns - 7, 8):
        x = load(b, j)
        s0 = s0 + x * load_at(X, i, j)
        s1 = s1 + x * load_at(X, i + 1, j)
        s2 = s2 + x * load_at(X, i + 2, j)
        s3 = s3 + x * load_at(X, i + 3, j)
        x = load(b, j + 4)
        s4 = s4 + x * load_at(X, i, j + 4)
        s5 = s5 + x * load_at(X, i + 1, j + 4)
        s6 = s6 + x * load_at(X, i + 2, j + 4)
        s7 = s7 + x * load_at(X, i + 3, j + 4)
    if columns % 8 >= 4:
        j = columns - columns % 8
        x = load(b, j)
        s0 = s0 + x * load_at(X, i, j)
        s1 = s1 + x * load_at(X, i + 1, j)
        s2 = s2 + x * load_at(X, i + 2, j)
        s3 = s3 + x * load_at(X, i + 3, j)
    return totals(s0 + s4, s1 + s5, s2 + s6, s3 + s7)


@njit()
def _one_sum(X, b, i):
    s = splat(0.0)
    for j in range(0, X.shape[1] - 3, WIDTH):
        s = s + load(b, j) * load_at(X, i, j)
    return total(s)


@njit(types.void(DATA_MATRIX, DATA_VECTOR, types.float64, VECTOR), allocates=False)
def rmatvec(X, a, scale, out):
    """out = scale * X^T a, some columns at a time: sums stay in registers."""
    columns = X.shape[1]
    if X.size > _BY_ROWS_FROM:
        stream_rmatvec(X, a, scale, out)
        return
    factor = splat(scale)
    wide = columns - columns % 32
    for j in range(0, wide, 32):
        s0, s1, s2, s3, s4, s5, s6, s7 = _sums_of_32(X, a, j)
        store(factor * s0, out, j)
        store(factor * s1, out, j + 4)
        store(factor * s2, out, j + 8)
        store(factor * s3, out, j + 12)
        store(factor * s4, out, j + 16)
        store(factor * s5, out, j + 20)
        store(factor * s6, out, j + 24)
        store(factor * s7, out, j + 28)
    for j in range(wide, columns - 7, 8):
        s0, s1 = _sums_of_8(X, a, j)
        store(factor * s0, out, j)
        store(factor * s1, out, j + 4)
    j = columns - columns % 8
    if j + 4 <= columns:
        store(factor * _sums_of_4(X, a, j), out, j)
        j += 4
    if j < columns:
        store_some(factor * _sums_of_some(X, a, j), out, j, columns - j)


@njit(types.void(DATA_MATRIX, DATA_VECTOR, types.float64, DATA_VECTOR, VECTOR), allocates=False)
def add_rmatvec(X, a, scale, start, out):
    """out = start + scale * X^T a."""
    columns = X.shape[1]
    if X.size > _BY_ROWS_FROM:
        stream_rmatvec(X, a, scale, out)
        for j in range(columns):
            out[j] += start[j]
        return
    factor = splat(scale)
    wide = columns - columns % 32
    for j in range(0, wide, 32):
        s0, s1, s2, s3, s4, s5, s6, s7 = _sums_of_32(X, a, j)
        store(load(start, j) + factor * s0, out, j)
        store(load(start, j + 4) + factor * s1, out, j + 4)
        store(load(start, j + 8) + factor * s2, out, j + 8)
        store(load(start, j + 12) + factor * s3, out, j + 12)
        store(load(start, j + 16) + factor * s4, out, j + 16)
        store(load(start, j + 20) + factor * s5, out, j + 20)
        store(load(start, j + 24) + factor * s6, out, j + 24)
        store(load(start, j + 28) + factor * s7, out, j + 28)
    for j in range(wide, columns - 7, 8):
        s0, s1 = _sums_of_8(X, a, j)
        store(load(start, j) + factor * s0, out, j)
        store(load(start, j + 4) + factor * s1, out, j + 4)
    j = columns - columns % 8
    if j + 4 <= columns:
        store(load(start, j) + factor * _sums_of_4(X, a, j), out, j)
        j += 4
    if j < columns:
        left = columns - j
        store_some(load_some(start, j, left) + factor * _sums_of_some(X, a, j), out, j, left)


# The entries of X^T a from j on: 32, eight, four, or what is left.


@njit()
def _sums_of_32(X, a, j):
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = splat(0.0)
    for i in range(X.shape[0]):
        x = splat(a[i])
        s0 = s0 + x * load_at(X, i, j)
        s1 = s1 + x * load_at(X, i, j + 4)
        s2 = s2 + x * load_at(X, i, j + 8)
        s3 = s3 + x * load_at(X, i, j + 12)
        s4 = s4 + x * load_at(X, i, j + 16)
        s5 = s5 + x * load_at(X, i, j + 20)
        s6 = s6 + x * load_at(X, i, j + 24)
        s7 = s7 + x * load_at(X, i, j + 28)
    return s0, s1, s2, s3, s4, s5, s6, s7


@njit()
def _sums_of_8(X, a, j):
    rows = X.shape[0]
    s0 = s1 = s2 = s3 = splat(0.0)
    for i in range(0, rows - 1, 2):
        x = splat(a[i])
        s0 = s0 + x * load_at(X, i, j)
        s1 = s1 + x * load_at(X, i, j + 4)
        x = splat(a[i + 1])
        s2 = s2 + x * load_at(X, i + 1, j)
        s3 = s3 + x * load_at(X, i + 1, j + 4)
    if rows % 2:
        x = splat(a[rows - 1])
        s0 = s0 + x * load_at(X, rows - 1, j)
        s1 = s1 + x * load_at(X, rows - 1, j + 4)
    return s0 + s2, s1 + s3


@njit()
def _sums_of_4(X, a, j):
    rows = X.shape[0]
    s0 = s1 = s2 = s3 = splat(0.0)
    for i in range(0, rows - 3, 4):
        s0 = s0 + splat(a[i]) * load_at(X, i, j)
        s1 = s1 + splat(a[i + 1]) * load_at(X, i + 1, j)
        s2 = s2 + splat(a[i + 2]) * load_at(X, i + 2, j)
        s3 = s3 + splat(a[i + 3]) * load_at(X, i + 3, j)
    for i in range(rows - rows % 4, rows):
        s0 = s0 + splat(a[i]) * load_at(X, i, j)
    return (s0 + s1) + (s2 + s3)


@njit()
def _sums_of_some(X, a, j):
    s = splat(0.0)
    for i in range(X.shape[0]):
        s = s + splat(a[i]) * load_some_at(X, i, j, X.shape[1] - j)
    return s


@njit(RESIDUAL_AND_PRODUCT, allocates=False)
def residual_and_rmatvec(X, b, y, scale, r, out):
    """r = X b - y and ``out = scale * X^T r``, in one pass over data that no cache holds.  An empty y stands for 0."""
    if X.size > IN_CACHE:
        stream_residual_and_rmatvec(X, b, y, scale, r, out)
        return
    if y.shape[0] > 0:
        residual(X, b, y, r)
    else:
        matvec(X, b, r)
    rmatvec(X, r, scale, out)


@njit(types.void(DATA_VECTOR, VECTOR), allocates=False)
def copy(source, target):
    """Copy a vector: ``target[:] = source``, for which numba compiles seconds worth of a message about shapes."""
    size = target.shape[0]
    for i in range(0, size - 3, WIDTH):
        store(load(source, i), target, i)
    for i in range(size - size % WIDTH, size):
        target[i] = source[i]


@njit(types.void(DATA_MATRIX, MATRIX), allocates=False)
def copy_rows(source, target):
    """Copy a matrix."""
    for i in range(target.shape[0]):
        for j in range(target.shape[1]):
            target[i, j] = source[i, j]


@njit(types.float64(DATA_VECTOR), fastmath=REDUCTION, allocates=False)
def norm(a):
    """Euclidean norm, safe from overflow and underflow of the squares."""
    largest = 0.0
    for i in range(a.shape[0]):
        largest = max(largest, abs(a[i]))
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    total = 0.0
    for i in range(a.shape[0]):
        x = a[i] / largest
        total += x * x
    return largest * math.sqrt(total)


@njit(types.boolean(MATRIX))
def _cholesky_by_lapack(M):
    # The upper triangle of the transposed matrix, to LAPACK.
    n = M.shape[0]
    triangle = np.array([ord("U")], dtype=np.uint8)
    sizes = np.array([n, 0], dtype=np.int32)  # and the outcome
    _potrf(triangle.ctypes, sizes.ctypes, M.ctypes, sizes.ctypes, sizes[1:].ctypes)
    if sizes[1] != 0:
        return False
    for i in range(n):
        if not (M[i, i] > 0.0 and M[i, i] < np.inf):  # NaN included
            return False
        M[i, i] = 1.0 / M[i, i]
    return True


@njit(types.boolean(MATRIX), fastmath=REDUCTION, allocates=False)
def cholesky(M):
    """Factor the lower triangle of M in place; False if M is not positive definite (or not finite).

    The diagonal of the factor is kept as its reciprocal: `cholesky_solve` then divides by nothing.
    """
    n = M.shape[0]
    if n > _LAPACK_FROM:
        return _cholesky_by_lapack(M)
    for j in range(n):
        pivot = M[j, j]
        for k in range(j):
            pivot -= M[j, k] * M[j, k]
        if not (pivot > 0.0 and pivot < np.inf):
            return False
        inverse = 1.0 / math.sqrt(pivot)
        M[j, j] = inverse
        for i in range(j + 1, n):
            s = M[i, j]
            for k in range(j):
                s -= M[i, k] * M[j, k]
            M[i, j] = s * inverse
    return True


@njit(types.void(DATA_MATRIX, VECTOR), fastmath=REDUCTION, allocates=False)
def cholesky_solve(L, b):
    """Solve L L^T x = b in place; L as `cholesky` leaves it."""
    substitute(L, b)


@njit(fastmath=REDUCTION)
def substitute(L, b):
    """Do what `cholesky_solve` does, for L of any precision."""
    n = L.shape[0]
    for i in range(n):
        s = b[i]
        for k in range(i):
            s -= L[i, k] * b[k]
        b[i] = s * L[i, i]
    for i in range(n - 1, -1, -1):
        s = b[i] * L[i, i]
        b[i] = s
        for k in range(i):
            b[k] -= L[i, k] * s
