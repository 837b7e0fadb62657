"""Exponentials in vector lanes: exp, expm1, and the parts of which other kernels make theirs.

With ``x = k ln 2 + f``, |f| <= ln(2)/2, Taylor to degree 13 leaves 5e-18.  The integer k is read off the low bits of
``x/ln 2 + 1.5 * 2^52``, and 2^k is those bits moved into the exponent: no branch.
"""

from numba import types

from ._jit import DATA_VECTOR, VECTOR, njit
from ._simd import WIDTH, larger, load, load_some, power_of_two, smaller, splat, store, store_some

_MAGIC = 6755399441055744.0
_LOG2E = 1.4426950408889634
_LN2_HIGH = 0.693147180369123816490
_LN2_LOW = 1.90821492927058770002e-10
LOWEST_EXPONENT = -708.0  # below, 2^k would be subnormal: exp is taken as exp(-708) = 3e-308
_HIGHEST_EXPONENT = 709.0


@njit(types.void(DATA_VECTOR, DATA_VECTOR, VECTOR, VECTOR), allocates=False)
def exp_expm1(x, y, exp_x, expm1_y):
    """exp_x = exp(x), expm1_y = expm1(y); x and y are clipped to [-708, 709]."""
    size = x.shape[0]
    for i in range(0, size - WIDTH + 1, WIDTH):
        store(_exp(load(x, i)), exp_x, i)
        store(_expm1(load(y, i)), expm1_y, i)
    i = size - size % WIDTH
    if i < size:
        store_some(_exp(load_some(x, i, size - i)), exp_x, i, size - i)
        store_some(_expm1(load_some(y, i, size - i)), expm1_y, i, size - i)


@njit()
def _clipped(x):
    return smaller(larger(x, splat(LOWEST_EXPONENT)), splat(_HIGHEST_EXPONENT))


@njit()
def _exp(x):
    k, f = reduce_exponent(_clipped(x))
    square, even, odd = expm1_series(f)
    power = power_of_two(k)
    return power + power * (f + square * (even + f * odd))


@njit()
def _expm1(x):
    k, f = reduce_exponent(_clipped(x))
    square, even, odd = expm1_series(f)
    power = power_of_two(k)
    return (power - splat(1.0)) + power * (f + square * (even + f * odd))


@njit()
def reduce_exponent(x):
    """Return vectors: ``k + 1.5 * 2^52``, of which `power_of_two` makes 2^k, and f, ``x = k ln 2 + f``, |f| <= ln(2)/2."""
    shifted = x * splat(_LOG2E) + splat(_MAGIC)
    k = shifted - splat(_MAGIC)
    return shifted, (x - k * splat(_LN2_HIGH)) - k * splat(_LN2_LOW)


@njit()
def expm1_series(f):
    """Return ``f^2`` and even functions E, O with ``e^f - 1 = f + f^2 (E + f O)``: and e^-f - 1 at nearly no price."""
    square = f * f
    fourth = square * square
    even = (splat(1.0 / 2.0) + splat(1.0 / 24.0) * square) + fourth * (
        (splat(1.0 / 720.0) + splat(1.0 / 40320.0) * square)
        + fourth * (splat(1.0 / 3628800.0) + splat(1.0 / 479001600.0) * square))
    odd = (splat(1.0 / 6.0) + splat(1.0 / 120.0) * square) + fourth * (
        (splat(1.0 / 5040.0) + splat(1.0 / 362880.0) * square)
        + fourth * (splat(1.0 / 39916800.0) + splat(1.0 / 6227020800.0) * square))
    return square, even, odd
