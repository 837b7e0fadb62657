"""A potential in arithmetic of any precision, with mpmath: for reference values, and where doubles do not reach.

The equations are those of `_numeric_potential`, in their plain form: what cancels is paid for with more digits. The weights
come from doubles and are polished by Newton's method on both equations at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import sympy as sp

from ._network import Array
from ._numeric_potential import NumericPotential, finite

__all__ = ["PrecisePotential"]

#: Digits beyond those asked for.
GUARD = 20


class PrecisePotential:
    """Value, slope and mirror map of a potential to a number of decimal digits.

    Parameters
    ----------
    numeric : NumericPotential
        The same in doubles.
    f : sympy.Expr
    w : sympy.Symbol
    digits : int
        At least 1.
    """

    def __init__(self, numeric: NumericPotential, f: sp.Expr, w: sp.Symbol, digits: int) -> None:
        if isinstance(digits, bool) or not isinstance(digits, (int, np.integer)) or digits < 1:
            raise ValueError(f"precision must be a positive number of decimal digits, got {digits!r}")
        self._numeric, self._digits = numeric, int(digits)
        self._f = sp.lambdify(w, f, "mpmath")
        self._slope = sp.lambdify(w, numeric.slope_form, "mpmath")
        #: u - alpha and f(u) - f(alpha) lose as many digits as beta is small beside alpha.
        self._work = 2 * self._digits + GUARD

    def _map(self, function: Callable[[float, float], Any], x: Any, alpha: Any, name: str) -> Array:
        points, scales = np.broadcast_arrays(finite(name, x), finite("alpha", alpha))
        found = np.empty(points.shape, dtype=object)
        with mpmath.workdps(self._work):
            for index in np.ndindex(points.shape):
                value = function(float(points[index]), float(scales[index]))
                with mpmath.workdps(self._digits):
                    found[index] = +value
        return found

    def _travel(self, low: Any, high: Any) -> Any:
        return self._integral(lambda x: 1 / self._slope(x), low, high)

    def _integral(self, function: Callable[[Any], Any], low: Any, high: Any) -> Any:
        """Integrate over panels short enough for the accuracy of mpmath's quadrature, in log w for positive weights."""
        if not self._numeric.positive:
            count = max(1, int(mpmath.ceil(abs(high - low))))
            return mpmath.quad(function, mpmath.linspace(low, high, count + 1))
        start, end = mpmath.log(low), mpmath.log(high)
        count = max(1, int(mpmath.ceil(abs(end - start))))
        return mpmath.quad(lambda c: function(mpmath.exp(c)) * mpmath.exp(c), mpmath.linspace(start, end, count + 1))

    def _polish(self, weight: Any, travel: Any, alpha: Any) -> Any:
        """Newton's method for `T(w) = travel`."""
        reached = self._travel(alpha, weight)
        for _ in range(60):
            step = (travel - reached) * self._slope(weight)
            reached += self._travel(weight, weight + step)
            weight += step
            if abs(step) <= abs(weight - alpha) * mpmath.mpf(10) ** (-self._work + 5) or step == 0:
                break
        return weight

    def _weights(self, beta: float, alpha: float) -> tuple[Any, Any, Any]:
        branch = self._numeric.branch(np.array([alpha]))
        u, v = (float(d[0]) for d in self._numeric.weights(np.array([abs(beta)]), branch))
        if np.isnan(u):
            raise ValueError(f"beta = {beta:g} is out of reach for alpha = {alpha:g}: a weight would reach the end of its "
                             "interval first")
        start = mpmath.mpf(alpha)

        def at(distance: float) -> Any:
            return start * mpmath.exp(mpmath.mpf(distance)) if branch.positive else start + mpmath.mpf(distance)

        one, other, target = at(u), at(v), abs(mpmath.mpf(beta))
        if target == 0:
            return start, start, start
        there, back = self._travel(start, one), self._travel(start, other)
        for _ in range(60):
            # Two equations, f(u) - f(v) = beta and T(u) + T(v) = 0, with slopes f'(u), -f'(v) and 1/f'(u), 1/f'(v).
            first, second = self._slope(one), self._slope(other)
            excess, drift = target - (self._f(one) - self._f(other)), -(there + back)
            z = (excess + second**2 * drift) / (first**2 + second**2)
            du, dv = first * z, second * (drift - z)
            there, back = there + self._travel(one, one + du), back + self._travel(other, other + dv)
            one, other = one + du, other + dv
            if abs(du) + abs(dv) <= abs(one - other) * mpmath.mpf(10) ** (-self._work // 2 - 8):
                break
        return start, one, other

    def value(self, beta: Any, alpha: Any) -> Array:
        """Evaluate the potential; an object array of `mpmath.mpf`."""
        def value(b: float, a: float) -> Any:
            start, u, v = self._weights(b, a)
            if u == v:
                return mpmath.mpf(0)
            # int T dR by parts: one integral instead of two.
            rise = self._integral(lambda x: (self._f(u) - self._f(x)) / self._slope(x), start, u)
            fall = self._integral(lambda x: (self._f(x) - self._f(v)) / self._slope(x), v, start)
            return (rise + fall) / mpmath.mpf(self._numeric.rate)

        return self._map(value, beta, alpha, "beta")

    def gradient(self, beta: Any, alpha: Any) -> Array:
        """Evaluate the slope of the potential."""
        def slope(b: float, a: float) -> Any:
            start, u, _ = self._weights(b, a)
            return mpmath.sign(b) * self._travel(start, u) / mpmath.mpf(self._numeric.rate)

        return self._map(slope, beta, alpha, "beta")

    def mirror(self, s: Any, alpha: Any) -> Array:
        """Evaluate beta where `int g = s`."""
        def beta(x: float, a: float) -> Any:
            branch = self._numeric.branch(np.array([a]))
            if np.isnan(self._numeric.mirror_and_slope(np.array([-x]), branch)[0][0]):
                raise ValueError(f"s = {x:g} is out of reach for alpha = {a:g}: see `domain` for the largest |s|")
            start, z = mpmath.mpf(a), -mpmath.mpf(x) * mpmath.mpf(self._numeric.rate)
            u, v = (self._polish(mpmath.mpf(float(branch.weight(branch.at_travel(np.array([float(t)])))[0])), t, start)
                    for t in (z, -z))
            return self._f(u) - self._f(v)

        return self._map(beta, s, alpha, "s")
