"""The implicit-bias potential of depth 2 (hyperbolic entropy), free of cancellation, at any scale.

    phi(beta) = (1/4) sum_j [ beta asinh(beta/(2 a^2)) - sqrt(beta^2 + 4 a^4) + 2 a^2 ],   a = alpha,
    grad phi(beta) = asinh(beta/(2 a^2))/4.

With ``w = asinh(beta/(2 a^2))`` the bracket is ``beta (w - tanh(w/2))``: both terms have one sign and the first is at least
twice the second, so nothing cancels.  The scale is taken as ``log_alpha``, since ``a^2`` underflows from 1e-154 on.

At depth D > 2, ``beta = u^D - v^D``, `terms`, `value`, `gradient` and their inverses are those of `dln.deep_potential`.

Source: Woodworth et al. (2020), Kernel and rich regimes in overparametrized models, Theorem 1, in the convention
``beta = u*u - v*v`` and loss ``|X beta - y|^2 / (4N)``.
"""

import numpy as np

from . import deep_potential
from .deep_potential import checked_depth
from .network import difference_of_squares

__all__ = [
    "bregman_divergence",
    "conjugate_difference",
    "divergence_terms",
    "gradient",
    "inverse_gradient",
    "mirror",
    "terms",
    "value",
]

_SAFE = 700.0  # exp(+-700) is finite and normal


def _finite_vector(name, value):
    array = np.asarray(value, dtype=float)
    if not np.isfinite(array).all():
        where = "" if array.ndim == 0 else f"[{', '.join(map(str, np.argwhere(~np.isfinite(array))[0]))}]"
        raise ValueError(f"{name}{where} must be finite, got {array[~np.isfinite(array)].flat[0]}")
    return array


def mirror(beta, *, log_alpha, depth=2, name="beta"):
    """Return ``w = asinh(beta/(2 alpha^2))``, or ``log(u/v)`` at any depth, elementwise.

    Parameters
    ----------
    beta : array_like
        Predictor.
    log_alpha : float or array_like
        Logarithm of the scale, broadcast against `beta`.
    depth : float
        D, at least 2.
    name : str
        What an error message calls `beta`.

    Returns
    -------
    ndarray
        Accurate to a few units in the last place while beta/alpha^2 is in the range of floats; beyond it,
        ``asinh(z) = log(2 z)`` and logarithms are subtracted.
    """
    beta, log_alpha = np.broadcast_arrays(_finite_vector(name, beta), _finite_vector("log_alpha", log_alpha))
    if (depth := checked_depth(depth)) != 2.0:
        return deep_potential.mirror(beta, log_alpha=log_alpha, depth=depth)
    size = np.abs(beta)
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        # exp(-2 log_alpha) in two factors: neither overflows while log_alpha is above -700, and beyond 700 both vanish.
        factor = np.exp(-np.maximum(log_alpha, -_SAFE))
        ratio = np.where(size < 1.0, size * factor * (0.5 * factor), size * (0.5 * factor) * factor)
        far = ~np.isfinite(ratio) | (log_alpha < -_SAFE)
        result = np.arcsinh(np.where(far, 0.0, ratio))
        if far.any():
            logs = np.log(size) - 2.0 * log_alpha  # log(2 z)
            # asinh(z) = log(2z) + log((1 + sqrt(1 + 1/z^2))/2); for z > 1e8 the second term is below 1e-17.
            result = np.where(far & (size > 0.0), logs, result)
    return np.copysign(result, beta)


def terms(beta, *, log_alpha, depth=2):
    """Return the potential of each coordinate, shape of the broadcast inputs.

    Parameters
    ----------
    beta : array_like
        Predictor.
    log_alpha : float or array_like
        Logarithm of the scale, one or one per coordinate.
    depth : float
        D, at least 2; above, ``alpha_j^2 q_D(beta_j/alpha_j^D)`` is returned.
    """
    if (depth := checked_depth(depth)) != 2.0:
        beta, log_alpha = _finite_vector("beta", beta), _finite_vector("log_alpha", log_alpha)
        return deep_potential.terms(beta, log_alpha=log_alpha, depth=depth)
    w = np.abs(mirror(beta, log_alpha=log_alpha))
    with np.errstate(over="ignore", under="ignore"):
        return 0.25 * np.abs(beta) * (w - np.tanh(0.5 * w))


def value(beta, *, log_alpha, depth=2):
    """Return the potential ``phi_alpha(beta)``, a float.

    Parameters
    ----------
    beta : array_like (d,)
        Predictor.
    log_alpha : float or array_like (d,)
        Logarithm of the scale.
    depth : float
        D, at least 2.

    Examples
    --------
    >>> round(value([3.0, -4.0], log_alpha=-1e6) / 1e6, 3)  # small alpha: 0.5 log(1/alpha) times the l1 norm
    3.5
    """
    return float(np.sum(terms(beta, log_alpha=log_alpha, depth=depth)))


def gradient(beta, *, log_alpha, depth=2):
    """Return ``grad phi_alpha(beta)``, at depth 2 ``asinh(beta/(2 alpha^2))/4``, elementwise; arguments as in `value`."""
    if (depth := checked_depth(depth)) != 2.0:
        beta, log_alpha = _finite_vector("beta", beta), _finite_vector("log_alpha", log_alpha)
        return deep_potential.gradient(beta, log_alpha=log_alpha, depth=depth)
    return 0.25 * mirror(beta, log_alpha=log_alpha)


def inverse_gradient(dual, *, log_alpha, depth=2):
    """Return beta with ``grad phi_alpha(beta) = dual``, elementwise: at depth 2, ``beta = 2 alpha^2 sinh(4 dual)``.

    Parameters
    ----------
    dual : array_like
        Points of the dual space, for instance ``X^T nu``.
    log_alpha : float or array_like
        Logarithm of the scale.
    depth : float
        D, at least 2; above, ``|alpha^(D-2) dual|`` must be below 1, or a ValueError names the entry.
    """
    if (depth := checked_depth(depth)) != 2.0:
        return deep_potential.inverse_gradient(dual, log_alpha=log_alpha, depth=depth)
    return difference_of_squares(2.0 * np.asarray(log_alpha, dtype=float), 4.0 * np.asarray(dual, dtype=float))


def bregman_divergence(beta, center, *, log_alpha):
    """Return ``phi(beta) - phi(center) - <grad phi(center), beta - center>``, a float, at least 0.

    Parameters
    ----------
    beta, center : array_like (d,)
        Predictor and Bregman centre.
    log_alpha : float or array_like (d,)
        Logarithm of the scale.

    References
    ----------
    Azulay et al. (2021), On the implicit bias of initialization shape.
    """
    w, v = mirror(beta, log_alpha=log_alpha), mirror(center, log_alpha=log_alpha, name="center")
    terms = np.atleast_1d(divergence_terms(w, v, log_alpha=log_alpha))
    b, c, w, v, scale = (np.atleast_1d(a) for a in np.broadcast_arrays(beta, center, w, v, 2.0 * np.asarray(log_alpha)))
    near = (np.abs(w - v) < 0.5) & (np.sign(b) * np.sign(c) > 0.0)  # the product itself may leave the range of floats
    if near.any():
        terms[near] = _near_terms(b[near], c[near], scale[near])
    return float(np.sum(terms))


def _near_terms(b, c, log_scale):
    # w - v has lost the digits that b - c keeps: sinh(w - v) = (b^2 - c^2)/(b size_c + c size_b), all over the larger scale.
    unit = np.exp(np.minimum(log_scale + np.log(2.0), _SAFE))
    top = np.maximum(np.abs(b), unit)
    difference = (b - c) / top
    b, c, unit = b / top, c / top, unit / top
    size_b, size_c = np.hypot(b, unit), np.hypot(c, unit)
    step = np.arcsinh(difference * ((b + c) / (b * size_c + c * size_b)))
    return 0.25 * top * (b * _less_sinh(step) + size_b * 2.0 * np.sinh(0.5 * step) ** 2)


def _less_sinh(d):
    """Return d - sinh d for |d| < 0.5, by its series: the difference of the two would lose all digits."""
    tail = 1.0
    for k in (156.0, 110.0, 72.0, 42.0, 20.0):
        tail = 1.0 + d**2 / k * tail
    return -(d**3) / 6.0 * tail


def divergence_terms(w, v, *, log_alpha):
    """Return the Bregman divergence of each coordinate between the points with mirror images w and v.

    With ``beta = 2 a^2 sinh w``, ``size = 2 a^2 cosh w`` and ``D = w - v`` it is ``[beta D - (size_w - size_v)]/4``, and
    also ``[beta (D - sinh D) + size_w (cosh D - 1)]/4``, which is evaluated, with a series for D - sinh D, where D is small.
    """
    w, v, log_alpha = np.broadcast_arrays(w, v, log_alpha)
    step = w - v
    small = np.abs(step) < 0.5
    d = np.where(small, step, 0.0)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        beta = inverse_gradient(0.25 * w, log_alpha=log_alpha)
        top = np.exp(np.minimum(2.0 * log_alpha + np.abs(w), 709.0))
        near = beta * _less_sinh(d) + top * (1.0 + np.exp(-2.0 * np.abs(w))) * 2.0 * np.sinh(0.5 * d) ** 2
        far = beta * step - 4.0 * conjugate_difference(w, v, log_alpha=log_alpha)
    return 0.25 * np.where(small, near, far)


def conjugate_difference(w, v, *, log_alpha):
    """Return ``phi*(w/4) - phi*(v/4) = (a^2/2)(cosh w - cosh v)`` of each coordinate, as a product of two sinh."""
    w, v = np.asarray(w, dtype=float), np.asarray(v, dtype=float)
    half_sum, half_difference = 0.5 * (w + v), 0.5 * (w - v)
    size = np.abs(half_sum) + np.abs(half_difference)
    with np.errstate(over="ignore", under="ignore"):
        return (np.sign(half_sum) * np.sign(half_difference) * 0.25 * np.exp(2.0 * np.asarray(log_alpha) + size)
                * np.expm1(-2.0 * np.abs(half_sum)) * np.expm1(-2.0 * np.abs(half_difference)))
