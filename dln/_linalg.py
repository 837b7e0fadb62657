"""Small dense kernels: products with X, norms, Cholesky."""

import math

import numpy as np
from numba import types

from ._jit import DATA_MATRIX, DATA_VECTOR, MATRIX, REDUCTION, VECTOR, Blas, njit
from ._simd import (
    WIDTH,
    lanes,
    load,
    load_at,
    load_four,
    load_four_at,
    load_some,
    load_some_at,
    load_some_four,
    splat_four,
    store,
    store_some,
    total,
    totals,
    zeros,
)
from ._streams import IN_CACHE, RESIDUAL_AND_PRODUCT, stream_residual_and_rmatvec, stream_rmatvec

_PRODUCT = types.void(DATA_MATRIX, DATA_VECTOR, VECTOR)
_BY_ROWS_FROM = 1 << 17  # entries of X above which X^T a goes row by row: columns lie too far apart in memory
# Squares of norms that are neither too large nor, where terms underflow, wrong in their last digit.
_LEAST_SQUARE, _LARGEST_SQUARE = 1e-280, 1e300
_LAPACK_FROM = 300  # rows above which LAPACK's blocked Cholesky factorisation beats the loop
_potrf = Blas("dpotrf", 5, "lapack")


@njit(types.void(DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, VECTOR), allocates=False)
def residual(X, b, y, out):
    """out = X b - y, eight rows at a time."""
    rows = X.shape[0]
    for i in range(0, rows - 7, 8):
        first, second = eight_sums(X, b, i)
        store(first - load_four(y, i), out, i)
        store(second - load_four(y, i + 4), out, i + 4)
    i = rows - rows % 8
    if i + 4 <= rows:
        store(four_sums(X, b, i) - load_four(y, i), out, i)
        i += 4
    while i < rows:
        out[i] = one_sum(X, b, i) - y[i]
        i += 1


@njit(_PRODUCT, allocates=False)
def matvec(X, b, out):
    """out = X b, eight rows at a time."""
    rows = X.shape[0]
    for i in range(0, rows - 7, 8):
        first, second = eight_sums(X, b, i)
        store(first, out, i)
        store(second, out, i + 4)
    i = rows - rows % 8
    if i + 4 <= rows:
        store(four_sums(X, b, i), out, i)
        i += 4
    while i < rows:
        out[i] = one_sum(X, b, i)
        i += 1


# Sums over the columns, in X's precision: eight at a time, since a sum waits four cycles for the one before it.


@njit(inline=True)
def eight_sums(X, b, i):
    columns, width = X.shape[1], lanes(X)
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = zeros(X)
    for j in range(0, columns - width + 1, width):
        x = load(b, j)
        s0 = s0 + x * load_at(X, i, j)
        s1 = s1 + x * load_at(X, i + 1, j)
        s2 = s2 + x * load_at(X, i + 2, j)
        s3 = s3 + x * load_at(X, i + 3, j)
        s4 = s4 + x * load_at(X, i + 4, j)
        s5 = s5 + x * load_at(X, i + 5, j)
        s6 = s6 + x * load_at(X, i + 6, j)
        s7 = s7 + x * load_at(X, i + 7, j)
    j = columns - columns % width
    if j < columns:
        left = columns - j
        x = load_some(b, j, left)
        s0 = s0 + x * load_some_at(X, i, j, left)
        s1 = s1 + x * load_some_at(X, i + 1, j, left)
        s2 = s2 + x * load_some_at(X, i + 2, j, left)
        s3 = s3 + x * load_some_at(X, i + 3, j, left)
        s4 = s4 + x * load_some_at(X, i + 4, j, left)
        s5 = s5 + x * load_some_at(X, i + 5, j, left)
        s6 = s6 + x * load_some_at(X, i + 6, j, left)
        s7 = s7 + x * load_some_at(X, i + 7, j, left)
    return totals(s0, s1, s2, s3), totals(s4, s5, s6, s7)


@njit(inline=True)
def four_sums(X, b, i):
    columns, width = X.shape[1], lanes(X)
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = zeros(X)
    for j in range(0, columns - 2 * width + 1, 2 * width):
        x = load(b, j)
        s0 = s0 + x * load_at(X, i, j)
        s1 = s1 + x * load_at(X, i + 1, j)
        s2 = s2 + x * load_at(X, i + 2, j)
        s3 = s3 + x * load_at(X, i + 3, j)
        x = load(b, j + width)
        s4 = s4 + x * load_at(X, i, j + width)
        s5 = s5 + x * load_at(X, i + 1, j + width)
        s6 = s6 + x * load_at(X, i + 2, j + width)
        s7 = s7 + x * load_at(X, i + 3, j + width)
    for j in range(columns - columns % (2 * width), columns, width):
        left = min(width, columns - j)
        x = load_some(b, j, left)
        s0 = s0 + x * load_some_at(X, i, j, left)
        s1 = s1 + x * load_some_at(X, i + 1, j, left)
        s2 = s2 + x * load_some_at(X, i + 2, j, left)
        s3 = s3 + x * load_some_at(X, i + 3, j, left)
    return totals(s0 + s4, s1 + s5, s2 + s6, s3 + s7)


@njit(inline=True)
def one_sum(X, b, i):
    columns, width = X.shape[1], lanes(X)
    s = zeros(X)
    for j in range(0, columns - width + 1, width):
        s = s + load(b, j) * load_at(X, i, j)
    j = columns - columns % width
    if j < columns:
        s = s + load_some(b, j, columns - j) * load_some_at(X, i, j, columns - j)
    return total(s)


@njit(types.void(DATA_MATRIX, DATA_VECTOR, types.float64, VECTOR), allocates=False)
def rmatvec(X, a, scale, out):
    """out = scale * X^T a, some columns at a time: sums stay in registers."""
    columns = X.shape[1]
    if X.size > _BY_ROWS_FROM:
        stream_rmatvec(X, a, scale, out)
        return
    j = 0
    while j + 8 * WIDTH <= columns:
        s0, s1, s2, s3, s4, s5, s6, s7 = sums_of_eight(X, a, j)
        store(scale * s0, out, j)
        store(scale * s1, out, j + WIDTH)
        store(scale * s2, out, j + 2 * WIDTH)
        store(scale * s3, out, j + 3 * WIDTH)
        store(scale * s4, out, j + 4 * WIDTH)
        store(scale * s5, out, j + 5 * WIDTH)
        store(scale * s6, out, j + 6 * WIDTH)
        store(scale * s7, out, j + 7 * WIDTH)
        j += 8 * WIDTH
    if j + 4 * WIDTH <= columns:
        s0, s1, s2, s3 = sums_of_four(X, a, j)
        store(scale * s0, out, j)
        store(scale * s1, out, j + WIDTH)
        store(scale * s2, out, j + 2 * WIDTH)
        store(scale * s3, out, j + 3 * WIDTH)
        j += 4 * WIDTH
    while j + WIDTH <= columns:
        store(scale * sums_of_one(X, a, j), out, j)
        j += WIDTH
    if j < columns:
        store_some(scale * sums_of_some(X, a, j), out, j, columns - j)


@njit(types.void(DATA_MATRIX, DATA_VECTOR, types.float64, DATA_VECTOR, VECTOR), allocates=False)
def add_rmatvec(X, a, scale, start, out):
    """out = start + scale * X^T a."""
    columns = X.shape[1]
    if X.size > _BY_ROWS_FROM:
        stream_rmatvec(X, a, scale, out)
        for j in range(columns):
            out[j] += start[j]
        return
    j = 0
    while j + 8 * WIDTH <= columns:
        s0, s1, s2, s3, s4, s5, s6, s7 = sums_of_eight(X, a, j)
        store(load(start, j) + scale * s0, out, j)
        store(load(start, j + WIDTH) + scale * s1, out, j + WIDTH)
        store(load(start, j + 2 * WIDTH) + scale * s2, out, j + 2 * WIDTH)
        store(load(start, j + 3 * WIDTH) + scale * s3, out, j + 3 * WIDTH)
        store(load(start, j + 4 * WIDTH) + scale * s4, out, j + 4 * WIDTH)
        store(load(start, j + 5 * WIDTH) + scale * s5, out, j + 5 * WIDTH)
        store(load(start, j + 6 * WIDTH) + scale * s6, out, j + 6 * WIDTH)
        store(load(start, j + 7 * WIDTH) + scale * s7, out, j + 7 * WIDTH)
        j += 8 * WIDTH
    if j + 4 * WIDTH <= columns:
        s0, s1, s2, s3 = sums_of_four(X, a, j)
        store(load(start, j) + scale * s0, out, j)
        store(load(start, j + WIDTH) + scale * s1, out, j + WIDTH)
        store(load(start, j + 2 * WIDTH) + scale * s2, out, j + 2 * WIDTH)
        store(load(start, j + 3 * WIDTH) + scale * s3, out, j + 3 * WIDTH)
        j += 4 * WIDTH
    while j + WIDTH <= columns:
        store(load(start, j) + scale * sums_of_one(X, a, j), out, j)
        j += WIDTH
    if j < columns:
        left = columns - j
        store_some(load_some(start, j, left) + scale * sums_of_some(X, a, j), out, j, left)


# The entries of X^T a from j on, in X's precision: eight vectors of them, four, two, one, or what is left.


@njit(inline=True)
def sums_of_eight(X, a, j):
    width = lanes(X)
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = zeros(X)
    for i in range(X.shape[0]):
        x = a[i]
        s0 = s0 + x * load_at(X, i, j)
        s1 = s1 + x * load_at(X, i, j + width)
        s2 = s2 + x * load_at(X, i, j + 2 * width)
        s3 = s3 + x * load_at(X, i, j + 3 * width)
        s4 = s4 + x * load_at(X, i, j + 4 * width)
        s5 = s5 + x * load_at(X, i, j + 5 * width)
        s6 = s6 + x * load_at(X, i, j + 6 * width)
        s7 = s7 + x * load_at(X, i, j + 7 * width)
    return s0, s1, s2, s3, s4, s5, s6, s7


@njit(inline=True)
def sums_of_four(X, a, j):
    width = lanes(X)
    rows = X.shape[0]
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = zeros(X)
    for i in range(0, rows - 1, 2):
        x = a[i]
        s0 = s0 + x * load_at(X, i, j)
        s1 = s1 + x * load_at(X, i, j + width)
        s2 = s2 + x * load_at(X, i, j + 2 * width)
        s3 = s3 + x * load_at(X, i, j + 3 * width)
        x = a[i + 1]
        s4 = s4 + x * load_at(X, i + 1, j)
        s5 = s5 + x * load_at(X, i + 1, j + width)
        s6 = s6 + x * load_at(X, i + 1, j + 2 * width)
        s7 = s7 + x * load_at(X, i + 1, j + 3 * width)
    if rows % 2:
        x = a[rows - 1]
        s0 = s0 + x * load_at(X, rows - 1, j)
        s1 = s1 + x * load_at(X, rows - 1, j + width)
        s2 = s2 + x * load_at(X, rows - 1, j + 2 * width)
        s3 = s3 + x * load_at(X, rows - 1, j + 3 * width)
    return s0 + s4, s1 + s5, s2 + s6, s3 + s7


@njit(inline=True)
def sums_of_two(X, a, j):
    width = lanes(X)
    rows = X.shape[0]
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = zeros(X)
    for i in range(0, rows - 3, 4):
        s0 = s0 + a[i] * load_at(X, i, j)
        s1 = s1 + a[i] * load_at(X, i, j + width)
        s2 = s2 + a[i + 1] * load_at(X, i + 1, j)
        s3 = s3 + a[i + 1] * load_at(X, i + 1, j + width)
        s4 = s4 + a[i + 2] * load_at(X, i + 2, j)
        s5 = s5 + a[i + 2] * load_at(X, i + 2, j + width)
        s6 = s6 + a[i + 3] * load_at(X, i + 3, j)
        s7 = s7 + a[i + 3] * load_at(X, i + 3, j + width)
    for i in range(rows - rows % 4, rows):
        s0 = s0 + a[i] * load_at(X, i, j)
        s1 = s1 + a[i] * load_at(X, i, j + width)
    return (s0 + s2) + (s4 + s6), (s1 + s3) + (s5 + s7)


@njit(inline=True)
def sums_of_one(X, a, j):
    rows = X.shape[0]
    s0 = s1 = s2 = s3 = zeros(X)
    for i in range(0, rows - 3, 4):
        s0 = s0 + a[i] * load_at(X, i, j)
        s1 = s1 + a[i + 1] * load_at(X, i + 1, j)
        s2 = s2 + a[i + 2] * load_at(X, i + 2, j)
        s3 = s3 + a[i + 3] * load_at(X, i + 3, j)
    for i in range(rows - rows % 4, rows):
        s0 = s0 + a[i] * load_at(X, i, j)
    return (s0 + s1) + (s2 + s3)


@njit(inline=True)
def sums_of_some(X, a, j):
    rows, left = X.shape[0], X.shape[1] - j
    s0 = s1 = s2 = s3 = zeros(X)
    for i in range(0, rows - 3, 4):
        s0 = s0 + a[i] * load_some_at(X, i, j, left)
        s1 = s1 + a[i + 1] * load_some_at(X, i + 1, j, left)
        s2 = s2 + a[i + 2] * load_some_at(X, i + 2, j, left)
        s3 = s3 + a[i + 3] * load_some_at(X, i + 3, j, left)
    for i in range(rows - rows % 4, rows):
        s0 = s0 + a[i] * load_some_at(X, i, j, left)
    return (s0 + s1) + (s2 + s3)


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


@njit()
def four_rows(M, i, j):
    """Return four rows of the block of four by four whose first entry is M[i, j]."""
    return load_four_at(M, i, j), load_four_at(M, i + 1, j), load_four_at(M, i + 2, j), load_four_at(M, i + 3, j)


@njit(types.void(DATA_VECTOR, VECTOR), allocates=False)
def copy(source, target):
    """Copy a vector: ``target[:] = source``, for which numba compiles seconds worth of a message about shapes."""
    size = target.shape[0]
    for i in range(0, size - WIDTH + 1, WIDTH):
        store(load(source, i), target, i)
    i = size - size % WIDTH
    if i < size:
        store_some(load_some(source, i, size - i), target, i, size - i)


@njit(types.void(DATA_MATRIX, MATRIX), allocates=False)
def copy_rows(source, target):
    """Copy a matrix."""
    for i in range(target.shape[0]):
        for j in range(target.shape[1]):
            target[i, j] = source[i, j]


@njit(types.float64(DATA_VECTOR), fastmath=REDUCTION, allocates=False)
def norm(a):
    """Euclidean norm, safe from overflow and underflow of the squares."""
    size = a.shape[0]
    s0 = s1 = splat_four(0.0)  # not wider: short vectors were written in fours just now, and wider loads would wait for that
    for i in range(0, size - 7, 8):
        x, y = load_four(a, i), load_four(a, i + 4)
        s0, s1 = s0 + x * x, s1 + y * y
    for i in range(size - size % 8, size, 4):
        x = load_some_four(a, i, min(4, size - i))
        s0 = s0 + x * x
    square = total(s0 + s1)
    if _LEAST_SQUARE < square < _LARGEST_SQUARE:
        return math.sqrt(square)
    largest = 0.0
    for i in range(a.shape[0]):
        largest = max(largest, abs(a[i]))
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    square = 0.0
    for i in range(size):
        x = a[i] / largest
        square += x * x
    return largest * math.sqrt(square)


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
