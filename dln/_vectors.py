"""Vectors for kernels: floats side by side, ``+ - * /`` on them, and loads from and stores to arrays.

Import them from `_simd`: here is what runs with the compiler switched off, on arrays of NumPy, there what they are in machine
code.

LLVM turns loops into vector code by itself, at a price that short loops feel: checks that arrays do not overlap, and up to
fifteen last entries done one by one.  A kernel that is written in vectors pays neither, and keeps sums in registers over
several rows.

    a = load(x, i)           # x[i : i + WIDTH]; load_at(X, i, j) is X[i, j : j + WIDTH]
    store(2.0 * a, out, i)

There are vectors of four, of eight, and of `WIDTH`, which is one of the two: what a register of the machine holds.  `load`
makes the last; `load_four` and what ends in it make fours, for blocks of matrices.  A number beside a vector counts for each
of its lanes.  Where an array ends within a vector, `load_some` and `store_some` (and `_at`) are told how many entries are
left, one or more; the other lanes are 0.  Products and sums may be fused, as with ``contract``.

From arrays of float32 the same functions make vectors of twice as many lanes, in single precision: `lanes` says how many, and
`zeros` makes the vector with which sums begin, so that one loop serves both precisions.
"""

import operator

import numpy as np

from ._machine import VECTOR_WIDTH as WIDTH


def splat(x):
    """Return x in each of `WIDTH` lanes."""
    return np.full(WIDTH, float(x))


def splat_four(x):
    """Return x in each of four lanes."""
    return np.full(4, float(x))


def splat_eight(x):
    """Return x in each of eight lanes."""
    return np.full(8, float(x))


def four(a, b, c, d):
    """Return four numbers side by side."""
    return np.array([a, b, c, d], dtype=float)


def lanes(x):
    """Return how many numbers of an array fill a vector: `WIDTH`, or twice as many in single precision."""
    return WIDTH * (8 // x.itemsize)


def zeros(x):
    """Return a vector of zeros, of the kind that `load` makes from the array."""
    return np.zeros(lanes(x), dtype=x.dtype)


def load(x, i):
    """Return ``x[i : i + WIDTH]``."""
    return x[i:i + lanes(x)].copy()


def load_at(X, i, j):
    """Return ``X[i, j : j + WIDTH]``."""
    return X[i, j:j + lanes(X)].copy()


def load_some(x, i, left):
    """Return ``x[i : i + left]``, at least one number and at most `WIDTH`, then zeros."""
    return _padded(x[i:i + left], lanes(x), 0.0)


def load_some_at(X, i, j, left):
    """Return ``X[i, j : j + left]``, at least one number and at most `WIDTH`, then zeros."""
    return load_some(X[i], j, left)


def load_last(x, i, left):
    """Return ``x[i : i + left]``, one to `WIDTH` numbers, and then the last of them again."""
    return _padded(x[i:i + left], WIDTH, x[i + left - 1])


def load_last_at(X, i, j, left):
    """Return ``X[i, j : j + left]``, one to `WIDTH` numbers, and then the last of them again."""
    return load_last(X[i], j, left)


def joined(a, b):
    """Return two fours side by side."""
    return np.concatenate([a, b])


def narrow(a, b):
    """Return the numbers of a and then of b, two vectors of `WIDTH`, in one vector of single precision."""
    return np.concatenate([a, b]).astype(np.float32)


def load_four(x, i):
    """Return ``x[i : i + 4]``."""
    return x[i:i + 4].copy()


def load_four_at(X, i, j):
    """Return ``X[i, j : j + 4]``."""
    return X[i, j:j + 4].copy()


def load_some_four(x, i, left):
    """Return ``x[i : i + left]``, at least one number and at most four, then zeros."""
    return _padded(x[i:i + left], 4, 0.0)


def _padded(numbers, width, other):
    vector = np.full(width, other, dtype=numbers.dtype)
    vector[:len(numbers)] = numbers
    return vector


def store(vector, x, i):
    """Write ``x[i : i + width]``."""
    x[i:i + len(vector)] = vector


def store_at(vector, X, i, j):
    """Write ``X[i, j : j + width]``."""
    X[i, j:j + len(vector)] = vector


def store_some(vector, x, i, left):
    """Write ``x[i : i + left]``, at least one number and at most as many as the vector has."""
    x[i:i + left] = vector[:left]


def store_some_at(vector, X, i, j, left):
    """Write ``X[i, j : j + left]``, at least one number and at most as many as the vector has."""
    store_some(vector, X[i], j, left)


def fused(a, b, c):
    """Return ``a b + c``, rounded once (with the compiler switched off: twice)."""
    return a * b + c


def square_root(a):
    """Return the square root of a."""
    return np.sqrt(a)


def modulus(a):
    """Return |a|."""
    return np.abs(a)


def larger(a, b):
    """Return a where it is larger than b, else b (NaN included)."""
    return np.where(a > b, a, b)


def smaller(a, b):
    """Return a where it is smaller than b, else b (NaN included)."""
    return np.where(a < b, a, b)


def where_less(a, b, x, y):
    """Return x where a < b, else y (NaN included)."""
    return np.where(a < b, x, y)


def total(a):
    """Return the sum of the lanes."""
    return _halved(a, operator.add)


def largest_lane(a):
    """Return the largest of the lanes."""
    return a.max()


def smallest_lane(a):
    """Return the smallest of the lanes."""
    return a.min()


def totals(a, b, c, d):
    """Return the sums of the lanes of each, as four numbers side by side, in double precision."""
    return np.array([total(a), total(b), total(c), total(d)], dtype=float)


def transposed(a, b, c, d):
    """Return the four columns of the matrix whose rows are a, b, c and d."""
    return tuple(np.array([a, b, c, d]).T.copy())


def power_of_two(a):
    """Return ``2^k`` from ``k + 1.5 * 2^52``: the integer is moved from the low bits into the exponent.

    In single precision from ``k + 1.5 * 2^23``.
    """
    integers, bias, place = _exponents(a)
    return ((a.view(integers) + bias) << place).view(a.dtype)


def power_of_half(a):
    """Return ``2^-k`` from what `power_of_two` takes."""
    integers, bias, place = _exponents(a)
    return ((bias - a.view(integers)) << place).view(a.dtype)


def _exponents(a):
    # The integers of that size, the bias of an exponent, and its place in the bits.
    return (np.int64, np.int64(1023), 52) if a.itemsize == 8 else (np.int32, np.int32(127), 23)


def _halved(a, combine):
    while len(a) > 1:
        a = combine(a[:len(a) // 2], a[len(a) // 2:])
    return a[0]
