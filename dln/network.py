"""The diagonal linear network `beta = u*u - v*v`: initial weights in logarithms, and the way back to `beta`.

Weights are kept as `log_product = log(u v)` and `log_ratio = log(u/v)`, in which every conservation law is linear and
a scale such as exp(-1e6) is an ordinary number.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import types

from ._exponentials import LOWEST_EXPONENT, expm1_series, reduce_exponent
from ._jit import DATA_VECTOR, VECTOR, njit
from ._simd import (
    WIDTH,
    larger,
    load,
    load_some,
    modulus,
    power_of_half,
    power_of_two,
    smaller,
    splat,
    store,
    store_some,
    total,
    where_less,
)

_LARGEST_EXPONENT = 709.0
LARGEST_TOP = 600.0  # of log u^2 and log v^2: beyond, sums of weights may overflow


@dataclass(frozen=True)
class Initialization:
    """Initial weights of a network with `d` coordinates.

    Attributes
    ----------
    log_alpha : ndarray (d,)
        Logarithm of the initial scale, `alpha^2 = u0 v0`.
    log_ratio : ndarray (d,)
        Initial shape `log(u0/v0)`; zero when `u0 = v0 = alpha`.
    """

    log_alpha: np.ndarray
    log_ratio: np.ndarray

    @property
    def log_u(self):
        """Logarithm of u0, shape (d,)."""
        return self.log_alpha + 0.5 * self.log_ratio

    @property
    def log_v(self):
        """Logarithm of v0, shape (d,)."""
        return self.log_alpha - 0.5 * self.log_ratio


def _vector(name, value, n_features, *, positive=False):
    """Return `value`, a number or (d,), as a finite float64 vector (d,)."""
    if type(value) is float and math.isfinite(value) and (value > 0.0 or not positive):  # the common case, at once
        return _filled(value, n_features)
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be a number or an array of {n_features} numbers, got {value!r}") from error
    if array.shape not in ((), (n_features,)):
        raise ValueError(f"{name} must be a number or have shape ({n_features},), one entry per column of X; "
                         f"got shape {array.shape}")
    bad = ~np.isfinite(array) | ((array <= 0) if positive else False)
    if bad.any():
        where = "" if array.ndim == 0 else f"[{np.flatnonzero(bad)[0]}]"
        wanted = "positive and finite" if positive else "finite"
        hint = "; below the smallest float give log_alpha instead" if positive and name == "alpha" else ""
        raise ValueError(f"{name}{where} must be {wanted}, got {float(array[bad][0] if array.ndim else array)}{hint}")
    return np.array(np.broadcast_to(array, (n_features,)))


def _filled(value, n_features):
    array = np.empty(n_features)
    array.fill(value)  # np.full takes three times as long, as much as a step of a small run
    return array


def _logarithms(name, value, n_features):
    """Return the logarithms of `value`, a positive number or (d,), as a vector (d,)."""
    if type(value) is float and 0.0 < value < math.inf:  # the common case: one logarithm
        return _filled(math.log(value), n_features)
    return np.log(_vector(name, value, n_features, positive=True))


def initialize(n_features, *, alpha=None, log_alpha=None, log_ratio=None, initial_weights=None):
    """Check and broadcast an initialisation.

    Parameters
    ----------
    n_features : int
        Number of coordinates d.
    alpha, log_alpha : float or array_like (d,), optional
        Initial scale, or its logarithm: exactly one of these two and `initial_weights`.
    log_ratio : float or array_like (d,), optional
        Initial shape `log(u0/v0)`, so that `u0 = alpha exp(log_ratio/2)`, `v0 = alpha exp(-log_ratio/2)`.
    initial_weights : (array_like, array_like), optional
        The positive weights `(u0, v0)` themselves, each a number or (d,).

    Returns
    -------
    Initialization

    Raises
    ------
    ValueError, TypeError
        If none or several scales are given, or one is not positive, not finite or of the wrong length.
    """
    if (alpha is None) + (log_alpha is None) + (initial_weights is None) != 2:
        given = [name for name, value in (("alpha", alpha), ("log_alpha", log_alpha), ("initial_weights", initial_weights))
                 if value is not None]
        found = "none of them" if not given else " and ".join(given)
        raise ValueError(f"give exactly one of alpha, log_alpha and initial_weights, got {found}")
    if initial_weights is not None:
        if log_ratio is not None:
            raise ValueError("log_ratio goes with alpha or log_alpha; initial_weights=(u0, v0) already fix the shape")
        if not isinstance(initial_weights, (tuple, list)) or len(initial_weights) != 2:
            raise ValueError("initial_weights must be a pair (u0, v0)")
        log_u, log_v = (_logarithms(f"initial_weights[{k}]", w, n_features) for k, w in enumerate(initial_weights))
        return Initialization(0.5 * (log_u + log_v), log_u - log_v)
    if alpha is not None:
        scale = _logarithms("alpha", alpha, n_features)
    else:
        scale = _vector("log_alpha", log_alpha, n_features)
    return Initialization(scale, _vector("log_ratio", 0.0 if log_ratio is None else log_ratio, n_features))


def difference_of_squares(log_product, log_ratio):
    """Return `beta = u^2 - v^2 = 2 u v sinh(log(u/v))`, shape of the inputs, without cancellation or overflow of factors.

    Parameters
    ----------
    log_product, log_ratio : ndarray
        `log(u v)` and `log(u/v)`.
    """
    return exponential_difference(log_product + np.abs(log_ratio), log_ratio)


def exponential_difference(top, log_ratio):
    """Return ``sign(log_ratio) e^top (1 - e^(-2 |log_ratio|))``: u^2 - v^2, `top` being the larger of log u^2 and log v^2."""
    with np.errstate(over="ignore", under="ignore"):
        # Half of the exponential before the small factor and half after: it may overflow where their product does not.
        half = np.exp(0.5 * np.minimum(top, 2.0 * _LARGEST_EXPONENT))
        return np.sign(log_ratio) * (half * -np.expm1(-2.0 * np.abs(log_ratio))) * half


_EVALUATE_WEIGHTS = types.boolean(DATA_VECTOR, DATA_VECTOR, VECTOR, VECTOR)


@njit(_EVALUATE_WEIGHTS, allocates=False)
def evaluate_weights(log_product, log_ratio, beta, size):
    """beta = u^2 - v^2 and size = u^2 + v^2 from log(uv) and log(u/v), each (d,).

    With m = log(uv) and s = |log(u/v)|: size = e^(m+s) (1 + e^(-2s)), |beta| = e^(m+s) (1 - e^(-2s)), the last factor by
    expm1: neither loses digits at large scale, where u^2 - v^2 would cancel.  What underflows is 0.  False if e^(m+s) would
    overflow.
    """
    d = beta.shape[0]
    overflows = splat(0.0)  # counted, not left at the first: no branch
    for j in range(0, d - WIDTH + 1, WIDTH):
        ratio = load(log_ratio, j)
        larger_log, sizes, differences = vector_weights(load(log_product, j), ratio)
        overflows = overflows + where_less(larger_log, LARGEST_TOP, 0.0, 1.0)
        store(sizes, size, j)
        store(differences, beta, j)
    j = d - d % WIDTH
    if j < d:
        left = d - j
        larger_log, sizes, differences = vector_weights(load_some(log_product, j, left), load_some(log_ratio, j, left))
        overflows = overflows + where_less(larger_log, LARGEST_TOP, 0.0, 1.0)
        store_some(sizes, size, j, left)
        store_some(differences, beta, j, left)
    return total(overflows) == 0.0


@njit()
def vector_weights(log_product, ratio):
    """Return log max(u^2, v^2), u^2 + v^2 and u^2 - v^2 from vectors log(uv) and log(u/v)."""
    s = modulus(ratio)
    top = log_product + s
    k, f = reduce_exponent(smaller(larger(LOWEST_EXPONENT, top), LARGEST_TOP))
    square, even, odd = expm1_series(f)
    power = power_of_two(k)
    most = where_less(LOWEST_EXPONENT, top, power + power * (f + square * (even + f * odd)), 0.0)
    k, f = reduce_exponent(larger(LOWEST_EXPONENT, -2.0 * s))
    square, even, odd = expm1_series(f)
    power = power_of_two(k)
    less = (power - 1.0) + power * (f + square * (even + f * odd))
    difference = most * less
    return top, most * (2.0 + less), where_less(ratio, 0.0, difference, 0.0 - difference)


@njit(_EVALUATE_WEIGHTS, allocates=False)
def evaluate_weights_at(scale, log_ratio, beta, size):
    """Evaluate the same from ``scale = u v`` itself, where that is an ordinary number: one exponential instead of two.

    With s = |log(u/v)|: size = scale (e^s + e^-s), |beta| = scale ((e^s - 1) - (e^-s - 1)), where the terms of the last factor
    have one sign.  False if e^s would overflow.
    """
    d = beta.shape[0]
    overflows = splat(0.0)
    for j in range(0, d - WIDTH + 1, WIDTH):
        ratio = load(log_ratio, j)
        sizes, differences = vector_weights_at(load(scale, j), ratio)
        overflows = overflows + where_less(modulus(ratio), LARGEST_TOP, 0.0, 1.0)
        store(sizes, size, j)
        store(differences, beta, j)
    j = d - d % WIDTH
    if j < d:
        left = d - j
        ratio = load_some(log_ratio, j, left)
        sizes, differences = vector_weights_at(load_some(scale, j, left), ratio)
        overflows = overflows + where_less(modulus(ratio), LARGEST_TOP, 0.0, 1.0)
        store_some(sizes, size, j, left)
        store_some(differences, beta, j, left)
    return total(overflows) == 0.0


@njit()
def vector_weights_at(scale, ratio):
    """Return u^2 + v^2 and u^2 - v^2 from vectors u v and log(u/v)."""
    k, f = reduce_exponent(smaller(modulus(ratio), LARGEST_TOP))
    square, even, odd = expm1_series(f)
    power, inverse = power_of_two(k), power_of_half(k)
    rise = f + square * (even + f * odd)  # e^f - 1
    fall = square * (even - f * odd) - f  # e^-f - 1
    size = scale * ((power + power * rise) + (inverse + inverse * fall))
    difference = scale * (((power - 1.0) + power * rise) - ((inverse - 1.0) + inverse * fall))
    return size, where_less(ratio, 0.0, 0.0 - difference, difference)
