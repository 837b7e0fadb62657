"""Small dense kernels: products with X, Gram products, Cholesky.

Below a few thousand entries a call into BLAS costs more than the product; above, BLAS wins and `gram` hands over to it.
"""

import math

import numpy as np
from numba import types

from ._jit import DATA_MATRIX, DATA_VECTOR, MATRIX, REDUCTION, VECTOR, Blas, njit
from ._streams import IN_CACHE, RESIDUAL_AND_PRODUCT, stream_residual_and_rmatvec, stream_rmatvec

#: Multiply-adds above which BLAS (threaded, cache-blocked) beats the register-blocked loop.
_BLAS_FROM = 4_000_000
PANEL = 128  # columns that are scaled at a time for BLAS: of all at once the memory would be that of X once more

_PRODUCT = types.void(DATA_MATRIX, DATA_VECTOR, VECTOR)
_syrk = Blas("dsyrk", 10)
_LAPACK_FROM = 300  # rows above which LAPACK's blocked Cholesky factorisation beats the loop
_potrf = Blas("dpotrf", 5, "lapack")


@njit(types.void(DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, VECTOR), fastmath=REDUCTION)
def residual(X, b, y, out):
    """out = X b - y, four rows at a time."""
    rows, columns = X.shape
    whole = rows - rows % 4
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
        out[i] = s0 - y[i]
        out[i + 1] = s1 - y[i + 1]
        out[i + 2] = s2 - y[i + 2]
        out[i + 3] = s3 - y[i + 3]
    for i in range(whole, rows):
        s0 = 0.0
        for j in range(columns):
            s0 += X[i, j] * b[j]
        out[i] = s0 - y[i]


@njit(_PRODUCT, fastmath=REDUCTION)
def matvec(X, b, out):
    """out = X b, four rows at a time."""
    rows, columns = X.shape
    whole = rows - rows % 4
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
        out[i] = s0
        out[i + 1] = s1
        out[i + 2] = s2
        out[i + 3] = s3
    for i in range(whole, rows):
        s0 = 0.0
        for j in range(columns):
            s0 += X[i, j] * b[j]
        out[i] = s0


@njit(types.void(DATA_MATRIX, DATA_VECTOR, types.float64, VECTOR), fastmath=REDUCTION)
def rmatvec(X, a, scale, out):
    """out = scale * X^T a, four rows at a time so that `out` is written rarely."""
    rows, columns = X.shape
    if rows * columns > IN_CACHE:
        stream_rmatvec(X, a, scale, out)
        return
    whole = rows - rows % 4
    if whole == 0:
        for j in range(columns):
            out[j] = 0.0
    for i in range(0, whole, 4):
        a0 = scale * a[i]
        a1 = scale * a[i + 1]
        a2 = scale * a[i + 2]
        a3 = scale * a[i + 3]
        if i == 0:
            for j in range(columns):
                out[j] = (a0 * X[0, j] + a1 * X[1, j]) + (a2 * X[2, j] + a3 * X[3, j])
        else:
            for j in range(columns):
                out[j] += (a0 * X[i, j] + a1 * X[i + 1, j]) + (a2 * X[i + 2, j] + a3 * X[i + 3, j])
    for i in range(whole, rows):
        a0 = scale * a[i]
        for j in range(columns):
            out[j] += a0 * X[i, j]


@njit(RESIDUAL_AND_PRODUCT)
def residual_and_rmatvec(X, b, y, scale, r, out):
    """r = X b - y and ``out = scale * X^T r``, in one pass over data that no cache holds.  An empty y stands for 0."""
    if X.shape[0] * X.shape[1] > IN_CACHE:
        stream_residual_and_rmatvec(X, b, y, scale, r, out)
        return
    if y.shape[0] > 0:
        residual(X, b, y, r)
    else:
        matvec(X, b, r)
    rmatvec(X, r, scale, out)


@njit(types.void(DATA_VECTOR, VECTOR))
def copy(source, target):
    """Copy a vector: ``target[:] = source``, for which numba compiles seconds worth of a message about shapes."""
    for i in range(target.shape[0]):
        target[i] = source[i]


@njit(types.void(DATA_MATRIX, MATRIX))
def copy_rows(source, target):
    """Copy a matrix."""
    for i in range(target.shape[0]):
        for j in range(target.shape[1]):
            target[i, j] = source[i, j]


@njit(types.float64(DATA_VECTOR), fastmath=REDUCTION)
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


@njit(types.void(DATA_MATRIX, DATA_VECTOR, MATRIX), fastmath=REDUCTION)
def _gram_blocked(X, weight, out):
    # 2 x 4 register blocks of the lower triangle: eight sums share six loads.
    rows, columns = X.shape
    scaled = np.empty((2, columns))
    even = rows - rows % 2
    for i in range(0, even, 2):
        for j in range(columns):
            scaled[0, j] = X[i, j] * weight[j]
            scaled[1, j] = X[i + 1, j] * weight[j]
        k = 0
        while k + 3 <= i + 1:
            s00 = 0.0
            s01 = 0.0
            s02 = 0.0
            s03 = 0.0
            s10 = 0.0
            s11 = 0.0
            s12 = 0.0
            s13 = 0.0
            for j in range(columns):
                a = scaled[0, j]
                b = scaled[1, j]
                x0 = X[k, j]
                x1 = X[k + 1, j]
                x2 = X[k + 2, j]
                x3 = X[k + 3, j]
                s00 += a * x0
                s01 += a * x1
                s02 += a * x2
                s03 += a * x3
                s10 += b * x0
                s11 += b * x1
                s12 += b * x2
                s13 += b * x3
            out[i, k] = s00
            out[i, k + 1] = s01
            out[i, k + 2] = s02
            out[i, k + 3] = s03
            out[i + 1, k] = s10
            out[i + 1, k + 1] = s11
            out[i + 1, k + 2] = s12
            out[i + 1, k + 3] = s13
            k += 4
        while k <= i + 1:
            s00 = 0.0
            s10 = 0.0
            for j in range(columns):
                s00 += scaled[0, j] * X[k, j]
                s10 += scaled[1, j] * X[k, j]
            out[i, k] = s00
            out[i + 1, k] = s10
            k += 1
    if even < rows:
        for j in range(columns):
            scaled[0, j] = X[even, j] * weight[j]
        for k in range(rows):
            s00 = 0.0
            for j in range(columns):
                s00 += scaled[0, j] * X[k, j]
            out[even, k] = s00


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
    rows, columns = X.shape
    if rows * rows * columns > _BLAS_FROM:
        _gram_by_blas(X, np.sqrt(weight), 0.0, out)
    else:
        _gram_blocked(X, weight, out)
    for i in range(rows):
        for k in range(i):
            out[k, i] = out[i, k]


@njit(types.void(DATA_MATRIX, types.float64, MATRIX))
def symmetric_square_into(K, root_weight, out):
    """Add ``(root_weight K)^2`` to the lower triangle of out, K symmetric; the square of K alone could overflow."""
    rows = K.shape[0]
    if rows * rows * rows > _BLAS_FROM:
        _gram_by_blas(K, np.full(rows, root_weight), 1.0, out)
        return
    square = np.empty((rows, rows))
    _gram_blocked(K * root_weight, np.ones(rows), square)
    for i in range(rows):
        for k in range(i + 1):
            out[i, k] += square[i, k]


@njit(types.void(MATRIX, DATA_VECTOR, types.float64))
def add_square_of_upper(M, diagonal, root_weight):
    """Add ``(root_weight K)^2`` to the lower triangle of M, diagonal included; K has its diagonal, and the upper triangle of M.

    One matrix holds both, and the square of K alone could overflow.
    """
    rows = M.shape[0]
    if rows * rows * rows <= _BLAS_FROM:
        scaled, square = np.empty((rows, rows)), np.empty((rows, rows))
        _columns_of_upper(M, diagonal, root_weight, 0, scaled)
        _gram_blocked(scaled, np.ones(rows), square)
        for i in range(rows):
            for k in range(i + 1):
                M[i, k] += square[i, k]
        return
    space = np.empty(rows * min(rows, PANEL))
    for first in range(0, rows, PANEL):
        width = min(PANEL, rows - first)
        panel = space[:rows * width].reshape((rows, width))
        _columns_of_upper(M, diagonal, root_weight, first, panel)
        add_product(panel, True, 1.0, 1.0, M)


@njit()
def _columns_of_upper(M, diagonal, factor, first, out):
    for j in range(out.shape[1]):
        column = first + j
        for i in range(column):
            out[i, j] = factor * M[i, column]
        out[column, j] = factor * diagonal[column]
        for i in range(column + 1, M.shape[0]):
            out[i, j] = factor * M[column, i]


@njit(types.void(DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, VECTOR))
def upper_matvec(M, diagonal, b, out):
    """out = K b; K has its diagonal, and the strict upper triangle of M."""
    rows = M.shape[0]
    for i in range(rows):
        out[i] = diagonal[i] * b[i]
    for i in range(rows):
        s = 0.0
        for k in range(i + 1, rows):
            s += M[i, k] * b[k]
            out[k] += M[i, k] * b[i]
        out[i] += s


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


@njit(types.boolean(MATRIX), fastmath=REDUCTION)
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


@njit(types.void(DATA_MATRIX, VECTOR), fastmath=REDUCTION)
def cholesky_solve(L, b):
    """Solve L L^T x = b in place; L as `cholesky` leaves it."""
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
