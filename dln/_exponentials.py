"""Exponentials in vector lanes: exp, expm1, and the parts of which other kernels make theirs.

With ``x = k ln 2 + f``, |f| <= ln(2)/2, a polynomial of degree 11 is as good as Taylor's of degree 13.  The integer k is read
off the low bits of ``x/ln 2 + 1.5 * 2^52``, and 2^k is those bits moved into the exponent: no branch.
"""

import math

import numpy as np
from numba import types

from ._jit import DATA_VECTOR, VECTOR, njit
from ._simd import WIDTH, larger, load, load_some, power_of_two, smaller, store, store_some

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
    return smaller(larger(LOWEST_EXPONENT, x), _HIGHEST_EXPONENT)


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
    return (power - 1.0) + power * (f + square * (even + f * odd))


@njit()
def reduce_exponent(x):
    """Return vectors: ``k + 1.5 * 2^52``, of which `power_of_two` makes 2^k, and f, ``x = k ln 2 + f``, |f| <= ln(2)/2."""
    shifted = x * _LOG2E + _MAGIC
    k = shifted - _MAGIC
    return shifted, (x - k * _LN2_HIGH) - k * _LN2_LOW


def _economised(coefficients):
    """Return a polynomial in s = f^2 of one degree less that is as near as can be where |f| <= ln(2)/2 (Lanczos 1938).

    A multiple of the Chebyshev polynomial of that degree is taken away.
    """
    domain = [0.0, (0.5001 * math.log(2.0)) ** 2]
    chebyshev = np.polynomial.Chebyshev.basis(len(coefficients) - 1, domain=domain).convert(kind=np.polynomial.Polynomial).coef
    return [float(x) for x in (coefficients - coefficients[-1] / chebyshev[-1] * chebyshev)[:-1]]


# (cosh f - 1)/f^2 and (sinh f - f)/f^3, to 3e-18.
_E0, _E1, _E2, _E3, _E4 = _economised([1.0 / math.factorial(2 * k + 2) for k in range(6)])
_O0, _O1, _O2, _O3, _O4 = _economised([1.0 / math.factorial(2 * k + 3) for k in range(6)])


@njit()
def expm1_series(f):
    """Return ``f^2`` and even functions E, O with ``e^f - 1 = f + f^2 (E + f O)``: and e^-f - 1 at nearly no price."""
    square = f * f
    fourth = square * square
    even = (_E0 + _E1 * square) + fourth * ((_E2 + _E3 * square) + _E4 * fourth)
    odd = (_O0 + _O1 * square) + fourth * ((_O2 + _O3 * square) + _O4 * fourth)
    return square, even, odd
