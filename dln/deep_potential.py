"""The implicit-bias potential at depth D > 2, free of cancellation, at any scale; depth 2 has `dln.potential`.

With ``k = D - 2``, ``s = D/k`` and ``h(z) = (1 - z)^(-s) - (1 + z)^(-s)`` on (-1, 1),

    phi(beta) = sum_j alpha_j^2 q(beta_j / alpha_j^D),    q(x) = int_0^|x| h^(-1),    d phi / d beta_j = z_j / alpha_j^k.

The weights of `beta` are those with ``u^D - v^D = beta`` and ``u^(-k) + v^(-k) = 2 alpha^(-k)``.  Their ``ell = log(u/v)`` is
the coordinate to compute in: ``z = tanh(k ell/2)`` loses ``1 - z = (alpha/u)^k`` to rounding, ell does not, and

    log u, log v = log alpha + c +- ell/2,    c = log cosh(k ell/2) / k,    x = beta/alpha^D = 2 e^(D c) sinh(D ell/2).

As D tends to 2, ell tends to ``asinh(beta/(2 alpha^2))``; grad phi tends to 0 like ``k ell/2``, so that ``phi/(2 k)``, not phi,
tends to the potential of depth 2.

Source: Woodworth et al. (2020), Kernel and rich regimes in overparametrized models, Theorem 3, with one scale per
coordinate, any real D > 2, and the loss ``|X beta - y|^2 / (4N)``.
"""

import math

import numpy as np

_LARGEST = 709.0
_DIRECT = 1e3  # below, beta/alpha^D itself is compared with the formula, above its logarithm
_ITERATIONS = 60


def checked_depth(depth):
    """Return `depth` as a float, at least 2; else a one-line error."""
    if type(depth) in (int, float) and 2.0 <= depth < math.inf:
        return float(depth)  # the common case, at once
    if isinstance(depth, (bool, np.bool_)) or not isinstance(depth, (int, float, np.integer, np.floating)):
        raise TypeError(f"depth must be a number, got {depth!r}; give 2 or any larger real number")
    value = float(depth)
    if not (math.isfinite(value) and value >= 2.0):
        raise ValueError(f"depth must be finite and at least 2, got {depth}")
    return value


def log_cosh(x):
    """Return ``log cosh x`` elementwise, to full relative accuracy."""
    size = np.abs(x)
    with np.errstate(under="ignore"):
        small = 0.5 * np.log1p(np.sinh(np.minimum(size, 1.0)) ** 2)
        return np.where(size < 1.0, small, size + np.log1p(np.exp(-2.0 * size)) - math.log(2.0))


def weights(ell, *, log_alpha, depth):
    """Return ``(log u, log v)`` of the point with ``log(u/v) = ell`` at scale `log_alpha`.

    Parameters
    ----------
    ell, log_alpha : array_like
        Logarithms of the ratio of the weights and of the scale, ``u^(2-D) + v^(2-D) = 2 alpha^(2-D)``.
    depth : float
        D > 2.
    """
    ell, log_alpha = np.broadcast_arrays(np.asarray(ell, dtype=float), np.asarray(log_alpha, dtype=float))
    k = depth - 2.0
    # (|ell| + 2 c)/2 and c - |ell|/2 = log((1 + e^(-k |ell|))/2)/k: neither is a difference of large numbers.
    size = np.abs(ell)
    with np.errstate(under="ignore"):
        far = (np.log1p(np.exp(-k * size)) - math.log(2.0)) / k
    low = log_alpha + np.where(k * size < 1.0, log_cosh(0.5 * k * size) / k - 0.5 * size, far)
    high = low + size
    return np.where(ell >= 0.0, high, low), np.where(ell >= 0.0, low, high)


def scale_of(log_u, log_v, *, depth):
    """Return ``log alpha`` of the weights: ``alpha^(2-D) = (u^(2-D) + v^(2-D))/2``, elementwise."""
    k = depth - 2.0
    return 0.5 * (log_u + log_v) - log_cosh(0.5 * k * (log_u - log_v)) / k


def mirror(beta, *, log_alpha, depth):
    """Return ``ell = log(u/v)`` of `beta`, elementwise: ``tanh(k ell/2) = h^(-1)(beta/alpha^D)``.

    The equation is solved by Newton's method in log ell: there its logarithm is convex with a slope of at least 1, so the
    method converges from every start, and no digit of beta is lost.

    Parameters
    ----------
    beta, log_alpha : array_like
        Predictor and logarithm of the scale, finite, broadcast against each other.
    depth : float
        D > 2.
    """
    beta, log_alpha = np.broadcast_arrays(np.asarray(beta, dtype=float), np.asarray(log_alpha, dtype=float))
    k, s = depth - 2.0, depth / (depth - 2.0)
    size = np.abs(beta)
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        x = _times_power(size, log_alpha, -depth)
        far = (size > 0.0) & ~(x < _DIRECT)
        power, rest = _product(-depth, log_alpha)
        log_x = np.where(np.isfinite(x), np.log(x), np.log(size) + power + rest)
        # The start: both ends of the curve, D ell = x and D ell = log(2^s x), lie above it where they apply.
        tail = (log_x + s * math.log(2.0)) / depth
        ell = np.where(far | (tail < x / depth) & (x > 1.0), tail, x / depth)
        solid = (size > 0.0) & (ell > 1e-300)
        ell = np.where(solid, ell, 0.0)
        moving = solid
        for _ in range(_ITERATIONS):
            if not moving.any():
                break
            at = np.where(moving, ell, 1.0)
            c = s * log_cosh(0.5 * k * at)
            half = 0.5 * depth * at
            near = 2.0 * np.sinh(np.minimum(half, 300.0)) * np.exp(np.minimum(c, 300.0))
            gap = np.where(far, half + np.log(-np.expm1(-2.0 * half)) + c - log_x, np.log(near / np.where(far, 1.0, x)))
            slope = half * (1.0 / np.tanh(half) + np.tanh(0.5 * k * at))
            change = gap / slope
            ell = np.where(moving, at * np.exp(-np.clip(change, -50.0, 50.0)), ell)
            moving = moving & ~(np.abs(change) < 1e-9)  # the next error is about its square
        ell = np.where(solid, ell, np.where(size > 0.0, x / depth, 0.0))
    return np.copysign(ell, beta)


def predictor(ell, *, log_alpha, depth):
    """Return beta of the point with ``log(u/v) = ell``: ``2 alpha^D e^(D c) sinh(D ell/2)``, elementwise.

    0 where it underflows and infinite where it overflows, without a warning.
    """
    ell, log_alpha = np.broadcast_arrays(np.asarray(ell, dtype=float), np.asarray(log_alpha, dtype=float))
    growth = depth * (log_cosh(0.5 * (depth - 2.0) * ell) / (depth - 2.0) + 0.5 * np.abs(ell))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        x = np.exp(np.minimum(growth, 700.0)) * -np.expm1(-depth * np.abs(ell))
        return np.sign(ell) * _times_power(x, log_alpha, depth, np.maximum(growth - 700.0, 0.0))


def slope(ell, *, log_alpha, depth):
    """Return ``d beta / d ell = (D/2) [u^D (1 + z) + v^D (1 - z)]``, elementwise, with ``z = tanh(k ell/2)``."""
    log_u, log_v = weights(ell, log_alpha=log_alpha, depth=depth)
    ell, k = np.asarray(ell, dtype=float), depth - 2.0
    with np.errstate(over="ignore", under="ignore"):
        return depth * (np.exp(depth * log_u) / (1.0 + np.exp(-k * ell)) + np.exp(depth * log_v) / (1.0 + np.exp(k * ell)))


def terms(beta, *, log_alpha, depth, log_unit=0.0):
    """Return ``alpha_j^2 q(beta_j/alpha_j^D)`` of each coordinate, in units of ``exp(log_unit)``.

    Parameters
    ----------
    beta, log_alpha : array_like
        Predictor and logarithm of the scale.
    depth : float
        D > 2.
    log_unit : float
        At small scales the potential is about ``alpha^(2-D) |beta|``, above all floats: then give about ``(2-D) log alpha``.
    """
    beta = np.asarray(beta, dtype=float)
    ell = np.abs(mirror(beta, log_alpha=log_alpha, depth=depth))
    log_alpha = np.asarray(log_alpha, dtype=float)
    z = np.tanh(0.5 * (depth - 2.0) * ell)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        first = _times_power(np.abs(beta) * z, log_alpha, 2.0 - depth, -log_unit)
        second = conjugate(ell, log_alpha=log_alpha, depth=depth, log_unit=log_unit)
        # h is convex, so second <= first/2: nothing cancels.
        return np.where(np.isfinite(first), np.maximum(first - second, 0.0), np.inf)


def conjugate(ell, *, log_alpha, depth, log_unit=0.0):
    """Return ``alpha^2 (H(z) - H(0)) = (k/2)(u^2 + v^2 - 2 alpha^2)`` at ``z = tanh(k ell/2)``, in units of ``exp(log_unit)``.

    It is the convex conjugate of the potential of one coordinate at the slope ``z/alpha^k``.
    """
    k, ell = depth - 2.0, np.abs(np.asarray(ell, dtype=float))
    twice_c = 2.0 * log_cosh(0.5 * k * ell) / k
    shift = 2.0 * np.asarray(log_alpha, dtype=float) - log_unit
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        near = np.exp(np.minimum(shift, _LARGEST)) * (
            np.exp(np.minimum(twice_c, 1.0)) * 2.0 * np.sinh(0.5 * np.minimum(ell, 1.0)) ** 2
            + np.expm1(np.minimum(twice_c, 1.0)))
        # Beyond, u^2 is more than twice alpha^2 and the difference is harmless.
        log_ratio = 0.5 * (twice_c + ell)  # log u/alpha
        rest = np.maximum(log_ratio - 700.0, 0.0) - 0.5 * log_unit
        u = _times_power(np.exp(np.minimum(log_ratio, 700.0)), log_alpha, 1.0, rest)
        far = 0.5 * u * u * (1.0 + np.exp(-2.0 * ell)) - np.exp(np.minimum(shift, 2.0 * _LARGEST))
        return k * np.where((ell < 1.0) & (twice_c < 1.0), near, far)


def gradient(beta, *, log_alpha, depth, log_unit=0.0):
    """Return ``grad phi = z/alpha^k``, elementwise, in units of ``exp(log_unit)``; infinite beyond the floats."""
    z = np.tanh(0.5 * (depth - 2.0) * mirror(beta, log_alpha=log_alpha, depth=depth))
    with np.errstate(over="ignore", under="ignore"):
        return _times_power(z, np.asarray(log_alpha, dtype=float), 2.0 - depth, -log_unit)


def inverse_mirror(dual, *, log_alpha, depth, log_unit=0.0):
    """Return ``ell = log(u/v)`` with ``grad phi = dual``: ``tanh(k ell/2) = alpha^k dual``; see `inverse_gradient`."""
    dual = np.asarray(dual, dtype=float)
    with np.errstate(over="ignore", under="ignore"):
        z = _times_power(dual, np.asarray(log_alpha, dtype=float), depth - 2.0, log_unit)
    outside = ~(np.abs(z) < 1.0)
    if outside.any():
        where = "" if z.ndim == 0 else f"[{', '.join(map(str, np.argwhere(outside)[0]))}]"
        raise ValueError(f"dual{where} is outside of the slopes of the potential of depth {depth:g}: |alpha^(D-2) dual| must "
                         f"be below 1, got {z[outside].flat[0]:.17g}")
    return 2.0 * np.arctanh(z) / (depth - 2.0)


def inverse_gradient(dual, *, log_alpha, depth, log_unit=0.0):
    """Return beta with ``grad phi = dual``, elementwise: ``alpha^D h(alpha^k dual)``.

    Parameters
    ----------
    dual : array_like
        Slopes, for instance ``X^T nu``, with ``|alpha^k dual| < 1``, in units of ``exp(log_unit)``.
    log_alpha : float or array_like
        Logarithm of the scale.
    depth : float
        D > 2.
    log_unit : float
        Logarithm of the unit of `dual`.

    Raises
    ------
    ValueError
        If a slope lies outside: no predictor has it.
    """
    ell = inverse_mirror(dual, log_alpha=log_alpha, depth=depth, log_unit=log_unit)
    return predictor(ell, log_alpha=log_alpha, depth=depth)


def _product(a, b):
    """Return the rounded product a b and its rounding error (Dekker's exact product, by Veltkamp's splitting)."""
    p = a * b
    a1 = 134217729.0 * a
    a1 = a1 - (a1 - a)
    b1 = 134217729.0 * b
    b1 = b1 - (b1 - b)
    return p, ((a1 * b1 - p) + a1 * (b - b1) + (a - a1) * b1) + (a - a1) * (b - b1)


def _times_power(value, log_base, exponent, log_factor=0.0):
    """Return ``value exp(exponent log_base + log_factor)``: digits are kept, and only the result may over- or underflow."""
    power, rest = _product(exponent, np.asarray(log_base, dtype=float))
    total = power + log_factor
    rest = rest + ((power - (total - (total - power))) + (log_factor - (total - power)))
    # exp(total) directly where it is an ordinary number, in three factors where only its product with the value may be one.
    ordinary = np.abs(total) < 690.0
    third = np.where(ordinary, 0.0, np.rint(np.clip(total / 3.0, -_LARGEST, _LARGEST)))  # an integer: the rest is exact
    factor = np.exp(third)
    last = np.exp(np.clip(total - 2.0 * third, -_LARGEST, _LARGEST))
    return np.where(value == 0.0, 0.0, ((value * factor) * factor) * last * (1.0 + rest))
