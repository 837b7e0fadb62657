"""Small dense kernels: products with X, Gram products, Cholesky, and vector exponentials.

Below a few thousand entries a call into BLAS costs more than the product; above, BLAS wins and `gram` hands over to it.
"""

import math

import numpy as np
from numba import types

from ._jit import DATA_MATRIX, DATA_VECTOR, MATRIX, REDUCTION, VECTOR, Blas, njit

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


#: Sizes for which the inverse of the factor is worth its price; see `invert_factor`.
INVERT_FROM, INVERT_UP_TO = 8, 64
_STRIDE = 64  # of the rows of a panel, known to the compiler: it then needs no check that they do not overlap
FACTOR_ROOM = 4 * _STRIDE


@njit()
def inverse_shape(n):
    """Return the shape of W for `factorize` of an n x n matrix; (0, 0) where substitution is faster than the inverse."""
    m = n + -n % 4
    return (m + 3, m) if INVERT_FROM <= n <= INVERT_UP_TO else (0, 0)


@njit()
def factorize(M, W, panel):
    """Factor a positive definite matrix for `solve_factorized`: in W, of `inverse_shape`, or in M if W is empty.

    The lower triangle of M is read; False as `cholesky`.  `panel` is work, (FACTOR_ROOM,).
    """
    return invert_factor(M, W, panel) if W.shape[0] > 0 else cholesky(M)


@njit()
def solve_factorized(M, W, b):
    """Solve M x = b in place; M and W as `factorize` leaves them."""
    if W.shape[0] > 0:
        solve_with_inverse(W, b)
    else:
        cholesky_solve(M, b)


@njit(types.boolean(DATA_MATRIX, MATRIX, VECTOR), fastmath=REDUCTION)
def invert_factor(M, W, panel):
    """Invert the factor of ``M = L D L^T``, of which the lower triangle is read; False as `cholesky`.

    Substitution is a chain of n dependent sums, twice; with ``W = L^-1``, `solve_with_inverse` has none.  L itself is never
    stored: four pivots at a time, rows of (identity, M) are eliminated, which leaves W in place of the identity.  The sums are
    those of forward substitution with L for each column of the identity, and as accurate.

    W is (m + 3, m) with m, a multiple of four, at least n and at most 64; `panel` is (FACTOR_ROOM,).  Filled are the lower
    triangle of W (with the unit diagonal, and zeros above it as far as the blocks of four go) and the row below that, D^-1.
    """
    n, m = M.shape[0], W.shape[1]
    inverse_pivots = W[m]
    for i in range(n):
        for j in range(i + 1):
            W[i, j] = M[i, j]
    for i in range(n, m):  # rows of the identity, up to a multiple of four
        for j in range(i):
            W[i, j] = 0.0
        W[i, i] = 1.0
    for k in range(0, m, 4):
        d0 = W[k, k]
        if not 0.0 < d0 < np.inf:
            return False
        r0 = 1.0 / d0
        a1, a2, a3 = W[k + 1, k], W[k + 2, k], W[k + 3, k]
        l10, l20, l30 = a1 * r0, a2 * r0, a3 * r0
        d1 = W[k + 1, k + 1] - l10 * a1
        if not 0.0 < d1 < np.inf:
            return False
        r1 = 1.0 / d1
        b2, b3 = W[k + 2, k + 1] - l20 * a1, W[k + 3, k + 1] - l30 * a1
        l21, l31 = b2 * r1, b3 * r1
        d2 = W[k + 2, k + 2] - l20 * a2 - l21 * b2
        if not 0.0 < d2 < np.inf:
            return False
        r2 = 1.0 / d2
        c3 = W[k + 3, k + 2] - l30 * a2 - l31 * b2
        l32 = c3 * r2
        d3 = W[k + 3, k + 3] - l30 * a3 - l31 * b3 - l32 * c3
        if not 0.0 < d3 < np.inf:
            return False
        r3 = 1.0 / d3
        inverse_pivots[k] = r0
        inverse_pivots[k + 1] = r1
        inverse_pivots[k + 2] = r2
        inverse_pivots[k + 3] = r3
        # The four pivot rows of (W, Schur complement), the latter taken from its columns: only lower triangles are kept.
        for q in range(4):
            row = W[k + q]
            for j in range(k):
                panel[q * _STRIDE + j] = row[j]
            for j in range(k, k + 4):
                panel[q * _STRIDE + j] = 0.0
            panel[q * _STRIDE + k + q] = 1.0
        for j in range(k + 4, m):
            row = W[j]
            for q in range(4):
                panel[q * _STRIDE + j] = row[k + q]
                row[k + q] = 0.0
        for j in range(m):
            p0 = panel[j]
            p1 = panel[_STRIDE + j] - l10 * p0
            p2 = panel[2 * _STRIDE + j] - (l20 * p0 + l21 * p1)
            panel[_STRIDE + j] = p1
            panel[2 * _STRIDE + j] = p2
            panel[3 * _STRIDE + j] -= (l30 * p0 + l31 * p1) + l32 * p2
        for q in range(4):
            row = W[k + q]
            for j in range(k + 4):
                row[j] = panel[q * _STRIDE + j]
        for i in range(k + 4, m):
            f0, f1 = r0 * panel[i], r1 * panel[_STRIDE + i]
            f2, f3 = r2 * panel[2 * _STRIDE + i], r3 * panel[3 * _STRIDE + i]
            row = W[i]
            for j in range(i - i % 4 + 4):
                row[j] -= ((f0 * panel[j] + f1 * panel[_STRIDE + j])
                           + (f2 * panel[2 * _STRIDE + j] + f3 * panel[3 * _STRIDE + j]))
    return True


@njit(types.void(MATRIX, VECTOR), fastmath=REDUCTION)
def solve_with_inverse(W, b):
    """Solve M x = b in place, ``x = W^T D^-1 W b``; W as `invert_factor` leaves it."""
    n, m = b.shape[0], W.shape[1]
    inverse_pivots, given, x = W[m], W[m + 1], W[m + 2]
    for i in range(n):
        given[i] = b[i]
    for i in range(n, m):
        given[i] = 0.0
    for i in range(m):
        x[i] = 0.0
    for i in range(0, m, 4):
        s0 = 0.0
        s1 = 0.0
        s2 = 0.0
        s3 = 0.0
        for j in range(i + 4):
            s0 += W[i, j] * given[j]
            s1 += W[i + 1, j] * given[j]
            s2 += W[i + 2, j] * given[j]
            s3 += W[i + 3, j] * given[j]
        s0 *= inverse_pivots[i]
        s1 *= inverse_pivots[i + 1]
        s2 *= inverse_pivots[i + 2]
        s3 *= inverse_pivots[i + 3]
        for j in range(i + 4):
            x[j] += (s0 * W[i, j] + s1 * W[i + 1, j]) + (s2 * W[i + 2, j] + s3 * W[i + 3, j])
    for i in range(n):
        b[i] = x[i]


# --- exponentials ----------------------------------------------------------------------------------------------------
# x = k ln 2 + f with |f| <= ln(2)/2; Taylor to degree 13 leaves 5e-18.  The integer k is read off the low bits of
# x/ln 2 + 1.5 * 2^52, and 2^k is those bits moved into the exponent: no branch, so the loops run in vector lanes.
_MAGIC = 6755399441055744.0
_LOG2E = 1.4426950408889634
_LN2_HIGH = 0.693147180369123816490
_LN2_LOW = 1.90821492927058770002e-10
LOWEST_EXPONENT = -708.0  # below, 2^k would be subnormal: exp is taken as exp(-708) = 3e-308
_HIGHEST_EXPONENT = 709.0


@njit(types.void(DATA_VECTOR, DATA_VECTOR, VECTOR, VECTOR), fastmath={"contract"})
def exp_expm1(x, y, exp_x, expm1_y):
    """exp_x = exp(x), expm1_y = expm1(y); x and y are clipped to [-708, 709]."""
    for i in range(x.shape[0]):
        bits, f = reduce_exponent(min(max(x[i], LOWEST_EXPONENT), _HIGHEST_EXPONENT))
        even, odd = expm1_halves(f)
        power = power_of_two(bits)
        exp_x[i] = power + power * (f + (even + odd))
        bits, f = reduce_exponent(min(max(y[i], LOWEST_EXPONENT), _HIGHEST_EXPONENT))
        even, odd = expm1_halves(f)
        power = power_of_two(bits)
        expm1_y[i] = power * (f + (even + odd)) + (power - 1.0)


@njit(fastmath={"contract"})
def reduce_exponent(x):
    """Return integer bits, of which `power_of_two` makes 2^k, and f with ``x = k ln 2 + f``, |f| <= ln(2)/2."""
    shifted = x * _LOG2E + _MAGIC
    k = shifted - _MAGIC
    return np.float64(shifted).view(np.int64), (x - k * _LN2_HIGH) - k * _LN2_LOW


@njit()
def power_of_two(bits):
    """Return 2^k from the bits of k; from their negative, 2^-k."""
    return np.int64((bits + 1023) << 52).view(np.float64)


@njit(fastmath={"contract"})
def expm1_halves(f):
    """Return the even and the odd part of ``e^f - 1 - f``: of both e^f and e^-f, at the price of one."""
    square = f * f
    even = 1.0 / 479001600.0
    even = even * square + 1.0 / 3628800.0
    even = even * square + 1.0 / 40320.0
    even = even * square + 1.0 / 720.0
    even = even * square + 1.0 / 24.0
    even = even * square + 0.5
    odd = 1.0 / 6227020800.0
    odd = odd * square + 1.0 / 39916800.0
    odd = odd * square + 1.0 / 362880.0
    odd = odd * square + 1.0 / 5040.0
    odd = odd * square + 1.0 / 120.0
    odd = odd * square + 1.0 / 6.0
    return square * even, f * (square * odd)
