"""Exponentials in vector lanes: exp, expm1, and the parts of which other kernels make theirs.

With ``x = k ln 2 + f``, |f| <= ln(2)/2, Taylor to degree 13 leaves 5e-18.  The integer k is read off the low bits of
``x/ln 2 + 1.5 * 2^52``, and 2^k is those bits moved into the exponent: no branch, so the loops run in vector lanes.
"""

import numpy as np
from numba import types

from ._jit import DATA_VECTOR, VECTOR, njit

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
