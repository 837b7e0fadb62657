"""The matrices of large problems: a Gram matrix that is kept from step to step, in single precision where steps are loose.

At N = 1000, d = 10000 a Gram product takes as long as seventy products with X.  But most weights change little in most steps:
they are still small, or they have settled.  And the matrix serves as a Jacobian only: where that need not be exact, half of
the digits do, for half of the time and half of the memory.

One square holds two triangles: the strict upper one that of ``K / unit``, the lower one the Cholesky factor of the step.  It
is an (n, n) array of doubles; in single precision it is the beginning of its memory.
"""

import math

import numpy as np
from numba import types

from ._gram import PANEL, multiply_upper
from ._jit import DATA_MATRIX, DATA_VECTOR, MATRIX, REDUCTION, VECTOR, Blas, caller, njit
from ._linalg import norm, substitute

_KEPT_FROM = 150  # rows above which the Gram matrix is kept
_BLOCK = 32  # rows and columns of a tile, for what takes one triangle to the other
_SINGLE_FROM = 1e-4  # `share` from which on single precision may do
_SINGLE_ROUNDING = 1e-6  # what it does to K, relative to the largest eigenvalue: measured, a third of it at N = 1000
_INVERSE_STEPS = 4
_GROWN, _SHRUNK = 2.0, 1.0 / 256.0  # bounds of |K| / unit

_syrk, _single_syrk = Blas("dsyrk", 10), Blas("ssyrk", 10)
_potrf, _single_potrf = Blas("dpotrf", 5, "lapack"), Blas("spotrf", 5, "lapack")

TRIANGLE = types.Array(types.float32, 1, "C")

# What `known` (d + n + MARKS,) holds beside the weights (d,) and the diagonal of K / unit (n,).
UNIT, DOUBLE, MARKS = range(3)
# What `factorize_kept` reports.
FACTORED, FAILED, TOO_STIFF = range(3)


def keeps_gram(shape):
    """Whether the data, of this shape, are so large that the Gram matrix is kept."""
    return shape[0] > _KEPT_FROM


def kept_arrays(X, share):
    """Return ``kept``, with room for as many digits as `share` may need, and ``known``, for a run that has not begun."""
    n, d = X.shape
    known = np.zeros(d + n + MARKS)
    known[d + n + DOUBLE] = float(share < _SINGLE_FROM)
    return np.zeros((n, n if share < _SINGLE_FROM else n // 2 + 1)), known


_BEGIN = types.void(
    TRIANGLE, DATA_VECTOR, VECTOR, VECTOR, types.float64, types.float64, types.float64, MATRIX, VECTOR)


@njit(_BEGIN)
def begin_kept(triangle, row_factors, log_product, log_ratio, c, squared_norm, share, kept, known):
    """Begin a run whose matrix may be off by `share`, from ``X X^T`` if all weights are equal (`RowSpace.gram`, or empty)."""
    d, n = log_product.shape[0], kept.shape[0]
    marked = known[d:]
    marked[n + UNIT] = 0.0  # none is known
    marked[n + DOUBLE] = 0.0 if share >= _SINGLE_FROM else 1.0
    if in_double(marked) or triangle.shape[0] == 0:
        return
    first = log_product[0], abs(log_ratio[0])
    for j in range(d):
        if log_product[j] != first[0] or abs(log_ratio[j]) != first[1]:
            return
    weight = 4.0 * c * math.exp(first[0] + first[1]) * (1.0 + math.exp(-2.0 * first[1]))
    if not 0.0 < weight * squared_norm < np.inf:
        return
    M = _single(kept)
    unit = marked[n + UNIT] = unit_of(weight * squared_norm)
    for j in range(d):
        known[j] = weight
    root = math.sqrt(weight / unit)
    at = 0
    for i in range(n):
        marked[i] = (root * row_factors[i]) ** 2 * triangle[at]
        for k in range(i + 1, n):
            M[i, k] = (root * row_factors[i]) * (root * row_factors[k]) * triangle[at + k - i]
        at += n - i


@njit()
def unit_of(top):
    """Return the power of two below `top`."""
    return 2.0 ** math.floor(math.log2(top))


@njit()
def in_double(marked):
    """Whether the matrix is one of doubles."""
    return marked[-MARKS + DOUBLE] > 0.0


@njit()
def double_kept(known, marked):
    """Go on with a matrix of doubles, of which nothing is known."""
    known[:] = 0.0
    marked[:] = 0.0
    marked[-MARKS + DOUBLE] = 1.0


@njit()
def _single(M):
    """Return the square of single precision at the beginning of the memory of M."""
    n = M.shape[0]
    return M.reshape(M.size).view(np.float32)[:n * n].reshape((n, n))


_FACTORIZE = types.UniTuple(types.float64, 2)(
    DATA_MATRIX, VECTOR, types.float64, types.float64, types.float64, types.float64, types.float64, types.float64, VECTOR,
    VECTOR, MATRIX, VECTOR)


@njit(_FACTORIZE)
def factorize_kept(X, weight, share, squared_norm, h, gamma, kappa, linear, row_scale, known, M, marked):
    """Factor ``S^-1 + h gamma (K + kappa K^2)`` with ``K = X diag(weight) X^T``, off by at most `share` of ``I + h K``.

    Where ``kappa |K|`` is at most `linear`, or `share`, ``K + kappa K^2`` is taken for a multiple of K: a product of matrices
    less.

    Returns (FACTORED, FAILED where it is not positive definite, or TOO_STIFF where single precision would be felt; the
    largest row sum of K).  `squared_norm` is about ``|X|^2``, ``S^-1 = diag(row_scale)``.
    """
    size = X.shape[0] * PANEL
    if in_double(marked):
        return _factorize(
            X, weight, share, squared_norm, h, gamma, kappa, linear, row_scale, known, M, marked, np.empty(size))
    return _factorize(X, weight, share, squared_norm, h, gamma, kappa, linear, row_scale, known, _single(M), marked,
                      np.empty(size, dtype=np.float32))


@njit()
def _factorize(X, weight, share, squared_norm, h, gamma, kappa, linear, row_scale, known, M, marked, space):
    n = M.shape[0]
    diagonal = marked[:n]
    if not in_double(marked):
        choose_unit(weight, squared_norm, known, M, marked)
    unit = 1.0 if in_double(marked) else marked[n + UNIT]
    update_gram(X, weight, share, share / (h * squared_norm), unit, known, M, diagonal, space)
    tau = h * gamma * unit
    rows = np.zeros(n)
    mirror(M, tau, rows)
    largest = trace = 0.0
    for i in range(n):
        largest = max(largest, unit * (rows[i] + abs(diagonal[i])))
        trace += unit * diagonal[i]
    squares = kappa * largest > max(share, linear)  # else a multiple of K will do
    if kappa > 0.0 and not squares:
        multiple = 1.0 + kappa * trace / n
        tau *= multiple
        for i in range(n):
            for k in range(i):
                M[i, k] *= multiple
    for i in range(n):
        M[i, i] = tau * diagonal[i] + row_scale[i]
    # To be felt, rounding errors of the largest eigenvalue have to be a part of the smallest one of the whole.
    rounding = 0.0 if in_double(marked) else h * largest * (1.0 + kappa * largest) * _SINGLE_ROUNDING / share
    if squares:
        _add_square(M, diagonal, math.sqrt(h * gamma) * math.sqrt(kappa) * unit, space)
    factored = _cholesky(M)
    if rounding > 1.0 and not (factored and rounding <= smallest_eigenvalue(M)):
        return TOO_STIFF, largest
    if not factored:
        forget_gram(known, M, marked)
        return FAILED, largest
    return FACTORED, largest


@njit()
def smallest_eigenvalue(L):
    """Estimate it, not too low, by inverse iteration; L as `_cholesky` leaves it."""
    x = np.empty(L.shape[0])
    for i in range(x.shape[0]):
        x[i] = math.cos(i * i)  # to no eigenvector orthogonal, as a rule
    value = 0.0
    for _ in range(_INVERSE_STEPS):
        scale = 1.0 / norm(x)
        for i in range(x.shape[0]):
            x[i] *= scale
        substitute(L, x)
        value = 1.0 / norm(x)
    return value


@njit()
def choose_unit(weight, squared_norm, known, M, marked):
    """Keep the bound ``max(weight) |X|^2`` of K near the unit, a power of two: numbers of single precision have few exponents.

    What is left of a matrix that has since shrunk is its rounding errors: it is summed up anew.
    """
    n = M.shape[0]
    top = 0.0
    for j in range(weight.shape[0]):
        top = max(top, weight[j])
    top *= squared_norm
    unit = marked[n + UNIT]
    if unit > 0.0 and _SHRUNK * unit <= top <= _GROWN * unit:
        return
    new = unit_of(top) if 0.0 < top < np.inf else 1.0
    if unit > 0.0 and new > unit:
        factor = unit / new
        for i in range(n):
            marked[i] *= factor
            for k in range(i + 1, n):
                M[i, k] *= factor
    else:
        forget_gram(known, M, marked)
    marked[n + UNIT] = new


@njit()
def update_gram(X, weight, share, floor, unit, known, M, diagonal, space):
    """Bring the Gram matrix ``K = X diag(known) X^T`` up to date: K / unit, its diagonal and the strict upper triangle of M.

    ``known_j`` becomes ``weight_j`` where they differ by more than `floor` and by more than `share` of ``weight_j``.  Then K is
    off by at most ``share X diag(weight) X^T + floor X X^T``, as a quadratic form, whatever the data.  `space` is work, of n
    times at most PANEL numbers.
    """
    n, d = X.shape
    for i in range(n):
        M[i, i] = diagonal[i]
    chosen = np.empty(min(d, space.shape[0] // n), dtype=np.int64)
    for sign in (1.0, -1.0):  # what has grown, what has shrunk
        width = 0
        for j in range(d):
            change = sign * (weight[j] - known[j])
            if change > floor and change > share * weight[j]:
                chosen[width] = j
                width += 1
            if width == chosen.shape[0] or (j == d - 1 and width > 0):
                _add_columns(X, chosen[:width], weight, known, sign, unit, space, M)
                width = 0
    for i in range(n):
        diagonal[i] = M[i, i]


@njit()
def forget_gram(known, M, marked):
    """Let no weight be known: the next update sums up the whole matrix anew, without the rounding errors of those before it."""
    n = M.shape[0]
    known[:] = 0.0
    marked[:n] = 0.0
    for i in range(n):
        for k in range(i + 1, n):
            M[i, k] = 0.0


@njit()
def _add_columns(X, chosen, weight, known, sign, unit, space, M):
    n, width = X.shape[0], chosen.shape[0]
    root = np.empty(width)
    for k in range(width):
        j = chosen[k]
        root[k] = math.sqrt(abs(weight[j] - known[j]) / unit)
        known[j] = weight[j]
    panel = space[:n * width].reshape((n, width))
    first, together = chosen[0], chosen[width - 1] - chosen[0] == width - 1
    for i in range(n):
        if together:  # in vector lanes
            for k in range(width):
                panel[i, k] = X[i, first + k] * root[k]
        else:
            for k in range(width):
                panel[i, k] = X[i, chosen[k]] * root[k]
    add_panel(panel, False, sign, M)


@njit()
def add_panel(A, lower, factor, out):
    """Add ``factor A A^T`` to one triangle of `out`, diagonal included, the `lower` one or the upper, in their precision."""
    # To BLAS matrices are transposed: the triangles change places.
    letters = np.array([ord("U") if lower else ord("L"), ord("T")], dtype=np.uint8)
    factors, short_factors = np.array([factor, 1.0]), np.array([factor, 1.0], dtype=np.float32)
    sizes = np.array(A.shape, dtype=np.int32)
    if A.itemsize == 8:
        _syrk(letters.ctypes, letters[1:].ctypes, sizes.ctypes, sizes[1:].ctypes, factors.ctypes, A.ctypes, sizes[1:].ctypes,
              factors[1:].ctypes, out.ctypes, sizes.ctypes)
    else:
        _single_syrk(letters.ctypes, letters[1:].ctypes, sizes.ctypes, sizes[1:].ctypes, short_factors.ctypes, A.ctypes,
                     sizes[1:].ctypes, short_factors[1:].ctypes, out.ctypes, sizes.ctypes)


@njit(fastmath=REDUCTION)
def mirror(M, factor, sums):
    """Fill the strict lower triangle with `factor` times the upper one; add the moduli of the rows of the latter to `sums`.

    Tile by tile: both triangles are read and written in whole cache lines.
    """
    n = M.shape[0]
    for top in range(0, n, _BLOCK):
        bottom = min(top + _BLOCK, n)
        for left in range(top, n, _BLOCK):
            right = min(left + _BLOCK, n)
            for i in range(top, bottom):
                row = 0.0
                for k in range(max(left, i + 1), right):
                    row += abs(M[i, k])
                    sums[k] += abs(M[i, k])
                sums[i] += row
            for k in range(left, right):
                for i in range(top, min(bottom, k)):
                    M[k, i] = factor * M[i, k]


@njit()
def _add_square(M, diagonal, root_weight, space):
    """Add ``(root_weight K)^2`` to the lower triangle of M; the square of K alone could overflow."""
    n = M.shape[0]
    width = min(n, space.shape[0] // n)
    for first in range(0, n, width):
        width = min(width, n - first)
        panel = space[:n * width].reshape((n, width))
        for j in range(width):
            column = first + j
            for k in range(column + 1, n):  # the row: rows are what lies in one piece
                panel[k, j] = root_weight * M[column, k]
            panel[column, j] = root_weight * diagonal[column]
        for i in range(first + width):
            for j in range(max(0, i + 1 - first), width):
                panel[i, j] = root_weight * M[i, first + j]
        add_panel(panel, True, 1.0, M)


@njit()
def _cholesky(M):
    """Factor the lower triangle in place, with reciprocals on the diagonal; False if M is not positive definite (or finite)."""
    n = M.shape[0]
    letter = np.array([ord("U")], dtype=np.uint8)  # the upper triangle of the transposed matrix
    sizes = np.array([n, 0], dtype=np.int32)  # and the outcome
    if M.itemsize == 8:
        _potrf(letter.ctypes, sizes.ctypes, M.ctypes, sizes.ctypes, sizes[1:].ctypes)
    else:
        _single_potrf(letter.ctypes, sizes.ctypes, M.ctypes, sizes.ctypes, sizes[1:].ctypes)
    if sizes[1] != 0:
        return False
    for i in range(n):
        if not (M[i, i] > 0.0 and M[i, i] < np.inf):  # NaN included
            return False
        M[i, i] = 1.0 / M[i, i]
    return True


_SOLVE = types.void(MATRIX, VECTOR, VECTOR)


@njit(_SOLVE)
def solve_kept(M, marked, b):
    """Solve with the factor that `factorize_kept` has left, in place; sums are of double precision."""
    if in_double(marked):
        substitute(M, b)
    else:
        substitute(_single(M), b)


_MULTIPLY = types.void(MATRIX, VECTOR, VECTOR, VECTOR)


@njit(_MULTIPLY)
def multiply_kept(M, marked, b, out):
    """Fill ``out = K b``."""
    if in_double(marked):
        multiply_upper(M, marked, b, out)
        return
    unit = marked[M.shape[0] + UNIT]
    multiply_upper(_single(M), marked, b, out)
    for i in range(M.shape[0]):
        out[i] *= unit


#: Addresses of kernels that few runs need, here and in `integrate.methods.run_kernels`: they are compiled for those alone.
RARE = types.UniTuple(types.intp, 7)
FACTORIZE, SOLVE, MULTIPLY, BEGIN, CLOSE, DOZE, SINGLE = range(7)
NONE = (0,) * 7

call_factorize_kept, call_solve_kept = caller(_FACTORIZE), caller(_SOLVE)
call_multiply_kept, call_begin_kept = caller(_MULTIPLY), caller(_BEGIN)
