"""Gram products ``X diag(weight) X^T`` and their squares.

Below a few thousand entries a call into BLAS costs more than the product; above, BLAS wins and `gram` hands over to it.
"""

import math

import numpy as np
from numba import types

from ._jit import DATA_MATRIX, DATA_VECTOR, MATRIX, VECTOR, Blas, njit
from ._linalg import four_rows
from ._simd import (
    WIDTH,
    lanes,
    load,
    load_at,
    load_some,
    load_some_at,
    modulus,
    splat,
    store,
    store_at,
    store_some,
    store_some_at,
    total,
    totals,
    transposed,
    zeros,
)

#: Multiply-adds above which BLAS (threaded, cache-blocked) beats the register-blocked loop.
_BLAS_FROM = 4_000_000
PANEL = 128  # columns that are scaled at a time for BLAS: of all at once the memory would be that of X once more
_syrk = Blas("dsyrk", 10)


@njit()
def _stride(columns):
    return columns + -columns % 8  # whole vectors, and rows that begin at cache lines if the first does


@njit()
def gram_room(rows, columns):
    """Return how many numbers `gram_in` and `add_square_of_upper` have to be lent for X of this shape, or of fewer rows."""
    rows = min(rows, int(math.sqrt(_BLAS_FROM / max(1, columns))) + 1)  # of more, BLAS has room of its own
    return _room(rows, max(rows, columns))


@njit()
def _room(rows, columns):
    return 7 + max(2 * _stride(columns), _stride(rows) * _stride(rows))


@njit(types.void(DATA_MATRIX, DATA_VECTOR, VECTOR, MATRIX), allocates=False)
def _gram_blocked(X, weight, room, out):
    # `room` is work, of `_room` numbers.
    columns = X.shape[1]
    first = -(room.ctypes.data // 8) % 8
    gram_in_blocks(X, weight, room[first:first + 2 * _stride(columns)].reshape((2, _stride(columns))), out)


@njit()
def gram_in_blocks(X, weight, scaled, out):
    """Fill the lower triangle of ``out = X diag(weight) X^T``, and what is near it, in the precision of X.

    In blocks of 2 x 4 entries: eight sums share six loads.  `scaled` is work, two rows as long as those of X or longer.
    """
    rows, columns = X.shape
    width = lanes(X)
    whole = columns - columns % width
    left = columns - whole
    for i in range(0, rows, 2):
        last = min(i + 1, rows - 1)  # the same row twice, if only one is left
        for j in range(0, whole, width):
            w = load(weight, j)
            store_at(w * load_at(X, i, j), scaled, 0, j)
            store_at(w * load_at(X, last, j), scaled, 1, j)
        if left:
            w = load_some(weight, whole, left)
            store_at(w * load_some_at(X, i, whole, left), scaled, 0, whole)
            store_at(w * load_some_at(X, last, whole, left), scaled, 1, whole)
        for k in range(0, last + 1, 4):
            k1, k2, k3 = min(k + 1, last), min(k + 2, last), min(k + 3, last)
            s00 = s01 = s02 = s03 = s10 = s11 = s12 = s13 = zeros(X)
            for j in range(0, whole, width):
                a, b = load_at(scaled, 0, j), load_at(scaled, 1, j)
                x = load_at(X, k, j)
                s00 = s00 + a * x
                s10 = s10 + b * x
                x = load_at(X, k1, j)
                s01 = s01 + a * x
                s11 = s11 + b * x
                x = load_at(X, k2, j)
                s02 = s02 + a * x
                s12 = s12 + b * x
                x = load_at(X, k3, j)
                s03 = s03 + a * x
                s13 = s13 + b * x
            if left:
                a, b = load_at(scaled, 0, whole), load_at(scaled, 1, whole)
                x0, x1 = load_some_at(X, k, whole, left), load_some_at(X, k1, whole, left)
                x2, x3 = load_some_at(X, k2, whole, left), load_some_at(X, k3, whole, left)
                s00, s01, s02, s03 = s00 + a * x0, s01 + a * x1, s02 + a * x2, s03 + a * x3
                s10, s11, s12, s13 = s10 + b * x0, s11 + b * x1, s12 + b * x2, s13 + b * x3
            first, second = totals(s00, s01, s02, s03), totals(s10, s11, s12, s13)
            if k + 4 <= rows:
                store_at(first, out, i, k)
                store_at(second, out, last, k)
            else:
                store_some_at(first, out, i, k, rows - k)
                store_some_at(second, out, last, k, rows - k)


@njit(types.float64(DATA_MATRIX), allocates=False)
def largest_row_sum(M):
    """Return the largest sum of the moduli of a row."""
    rows, columns = M.shape
    found = 0.0
    for i in range(rows):
        s = splat(0.0)
        for j in range(0, columns - WIDTH + 1, WIDTH):
            s = s + modulus(load_at(M, i, j))
        j = columns - columns % WIDTH
        if j < columns:
            s = s + modulus(load_some_at(M, i, j, columns - j))
        found = max(found, total(s))
    return found


@njit(types.void(DATA_MATRIX, types.boolean, types.float64, types.float64, MATRIX))
def add_product(A, lower, factor, kept, out):
    """One triangle, diagonal included, the `lower` one or the upper: ``out = kept out + factor A A^T``, by BLAS."""
    # To BLAS matrices are transposed: the triangles change places.
    triangle_and_transposed = np.array([ord("U") if lower else ord("L"), ord("T")], dtype=np.uint8)
    factors = np.array([factor, kept])
    sizes = np.array(A.shape, dtype=np.int32)
    _syrk(triangle_and_transposed.ctypes, triangle_and_transposed[1:].ctypes, sizes.ctypes, sizes[1:].ctypes,
          factors.ctypes, A.ctypes, sizes[1:].ctypes, factors[1:].ctypes, out.ctypes, sizes.ctypes)


@njit(types.void(DATA_MATRIX, DATA_VECTOR, types.float64, MATRIX))
def _gram_by_blas(X, root, kept, out):
    """Lower triangle: ``out = kept out + X diag(root)^2 X^T``, some columns at a time."""
    rows, columns = X.shape
    space = np.empty(rows * min(columns, PANEL))
    for first in range(0, columns, PANEL):
        width = min(PANEL, columns - first)
        panel = space[:rows * width].reshape((rows, width))
        for i in range(rows):
            for j in range(width):
                panel[i, j] = X[i, first + j] * root[first + j]
        add_product(panel, True, 1.0, kept if first == 0 else 1.0, out)


@njit(types.void(DATA_MATRIX, DATA_VECTOR, MATRIX))
def gram(X, weight, out):
    """out = X diag(weight) X^T (weight >= 0), both triangles."""
    gram_in(X, weight, np.empty(gram_room(X.shape[0], X.shape[1])), out)


@njit(types.void(DATA_MATRIX, DATA_VECTOR, VECTOR, MATRIX), allocates=False)
def gram_in(X, weight, room, out):
    """Do what `gram` does, in `room`, of `gram_room` numbers: steps of a small run need not wait for memory."""
    rows, columns = X.shape
    if rows * rows * columns > _BLAS_FROM:
        _weighted_gram_by_blas(X, weight, out)
    else:
        _gram_blocked(X, weight, room, out)
    mirror(out, True)


@njit(types.void(DATA_MATRIX, DATA_VECTOR, MATRIX))
def _weighted_gram_by_blas(X, weight, out):
    _gram_by_blas(X, np.sqrt(weight), 0.0, out)


@njit(types.void(MATRIX, types.boolean), allocates=False)
def mirror(M, lower):
    """Copy the `lower` triangle of M, or the upper one, into the other."""
    rows = M.shape[0]
    whole = rows - rows % 4
    for i in range(0, whole, 4):
        for k in range(0, i, 4):
            row, column = (i, k) if lower else (k, i)
            a, b, c, e = four_rows(M, row, column)
            a, b, c, e = transposed(a, b, c, e)
            store_at(a, M, column, row)
            store_at(b, M, column + 1, row)
            store_at(c, M, column + 2, row)
            store_at(e, M, column + 3, row)
        for q in range(i + 1, i + 4):
            for k in range(i, q):
                if lower:
                    M[k, q] = M[q, k]
                else:
                    M[q, k] = M[k, q]
    for i in range(whole, rows):
        for k in range(i):
            if lower:
                M[k, i] = M[i, k]
            else:
                M[i, k] = M[k, i]


@njit(types.void(DATA_MATRIX, types.float64, MATRIX))
def symmetric_square_into(K, root_weight, out):
    """Add ``(root_weight K)^2`` to the lower triangle of out, K symmetric; the square of K alone could overflow."""
    rows = K.shape[0]
    if rows * rows * rows > _BLAS_FROM:
        _gram_by_blas(K, np.full(rows, root_weight), 1.0, out)
        return
    square = np.empty((rows, rows))
    _gram_blocked(K * root_weight, np.ones(rows), np.empty(_room(rows, rows)), square)
    for i in range(rows):
        for k in range(i + 1):
            out[i, k] += square[i, k]


@njit(types.void(DATA_MATRIX, DATA_VECTOR, types.float64, VECTOR, MATRIX), allocates=False)
def add_square_of_upper(M, diagonal, root_weight, room, out):
    """Add ``(root_weight K)^2`` to the lower triangle of `out`, diagonal included.

    K has its diagonal, and the upper triangle of M, so that one matrix may hold both; the square of K alone could overflow.
    `out` may be larger than M, up to a size of 64.  `room` is that of `gram_in`.
    """
    rows = M.shape[0]
    if rows * rows * rows > _BLAS_FROM or room.shape[0] < _room(rows, rows):
        _add_square_by_blas(M, diagonal, root_weight, out)
        return
    side = rows + -rows % 8  # filled up with zeros: every row begins at a cache line, and ends with a whole vector
    first = -(room.ctypes.data // 8) % 8
    K = room[first:first + side * side].reshape((side, side))
    for i in range(rows, side):
        for k in range(0, side, WIDTH):
            store_at(splat(0.0), K, i, k)
    for i in range(rows):
        for k in range(i - i % WIDTH, side, WIDTH):
            left = rows - k
            x = load_at(M, i, k) if left >= WIDTH else load_some_at(M, i, k, max(1, left))
            store_at(root_weight * x, K, i, k)
        for k in range(rows, side):
            K[i, k] = 0.0
        K[i, i] = root_weight * diagonal[i]
    mirror(K, False)
    # Four rows at a time; each vector of their entries is a sum of rows of K, four sums at once.
    for i in range(0, rows, 4):
        for k in range(0, i + 4, WIDTH):
            s0 = s1 = s2 = s3 = splat(0.0)
            for j in range(rows):
                x = load_at(K, j, k)
                s0 = s0 + K[i, j] * x
                s1 = s1 + K[i + 1, j] * x
                s2 = s2 + K[i + 2, j] * x
                s3 = s3 + K[i + 3, j] * x
            _add_lower(s0, i, k, rows, out)
            _add_lower(s1, i + 1, k, rows, out)
            _add_lower(s2, i + 2, k, rows, out)
            _add_lower(s3, i + 3, k, rows, out)


@njit()
def _add_lower(entries, i, k, rows, out):
    # To out[i, k] and what follows it, up to the diagonal.
    left = min(WIDTH, i + 1 - k)
    if i < rows and left > 0:
        store_some_at(load_some_at(out, i, k, left) + entries, out, i, k, left)


@njit(types.void(DATA_MATRIX, DATA_VECTOR, types.float64, MATRIX))
def _add_square_by_blas(M, diagonal, root_weight, out):
    rows = M.shape[0]
    space = np.empty(rows * min(rows, PANEL))
    for first in range(0, rows, PANEL):
        width = min(PANEL, rows - first)
        panel = space[:rows * width].reshape((rows, width))
        _columns_of_upper(M, diagonal, root_weight, first, panel)
        add_product(panel, True, 1.0, 1.0, out)


@njit()
def _columns_of_upper(M, diagonal, factor, first, out):
    # Columns of `factor` K from `first` on.
    for j in range(out.shape[1]):
        column = first + j
        for i in range(column):
            out[i, j] = factor * M[i, column]
        out[column, j] = factor * diagonal[column]
        for i in range(column + 1, M.shape[0]):
            out[i, j] = factor * M[column, i]


@njit(types.void(DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, VECTOR), allocates=False)
def upper_matvec(M, diagonal, b, out):
    """out = K b; K has its diagonal, and the strict upper triangle of M."""
    rows = M.shape[0]
    for i in range(rows):
        out[i] = diagonal[i] * b[i]
    for i in range(rows):
        s = splat(0.0)
        k = i + 1
        while k + WIDTH <= rows:
            x = load_at(M, i, k)
            s = s + x * load(b, k)
            store(load(out, k) + b[i] * x, out, k)
            k += WIDTH
        if k < rows:
            x = load_some_at(M, i, k, rows - k)
            s = s + x * load_some(b, k, rows - k)
            store_some(load_some(out, k, rows - k) + b[i] * x, out, k, rows - k)
        out[i] += total(s)


@njit()
def multiply_upper(M, diagonal, b, out):
    """Do what `upper_matvec` does, for M of any precision."""
    rows = M.shape[0]
    for i in range(rows):
        out[i] = diagonal[i] * b[i]
    for i in range(rows):
        s = 0.0
        for k in range(i + 1, rows):
            s += M[i, k] * b[k]
            out[k] += M[i, k] * b[i]
        out[i] += s
