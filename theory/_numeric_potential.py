"""A potential as numbers: of any increasing map, at any beta, without cancellation, and without its closed form.

With `u0 = v0 = alpha` and z = -int g the weights of one coordinate are given by

    T(u) = z,  T(v) = -z,  R(u) - R(v) = beta,    T(w) = int_alpha^w dx/f'(x),  R(w) = int_alpha^w f'(x) dx,

and `phi(beta) = int z dbeta = int_alpha^u T dR + int_v^alpha |T| dR`. Every integrand is positive, so nothing cancels, however
small beta is beside alpha; and the unknown is u, not z, so nothing is lost either where alpha is small and z presses
against the end of its domain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import sympy as sp
from scipy.integrate import quad
from scipy.optimize import brentq

from ._network import Array

__all__ = ["Branch", "NumericPotential", "finite"]

#: Gauss-Legendre on panels of this length in the coordinate: the integrands have no singularity nearer than pi/2 to the
#: real axis for the usual maps, so 20 nodes leave an error far below rounding.
PANEL = 0.5
NODES, WEIGHTS = (array / 2 for array in np.polynomial.legendre.leggauss(20))
NODES = NODES + 0.5

#: No coordinate is followed farther than this from its start: exp of it is out of the range of floats.
FARTHEST = 1400.0
HUGE = 1e250
EPS = float(np.finfo(float).eps)


def finite(name: str, value: object) -> Array:
    """Take a number or an array, and refuse what is not finite."""
    array = np.asarray(value, dtype=float)
    if not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))[0]
        where = f"[{', '.join(map(str, bad))}]" if array.ndim else ""
        raise ValueError(f"{name}{where} must be finite, got {array[tuple(bad)]}")
    return array


@dataclass(frozen=True)
class Branch:
    """The weight of one coordinate, as a function of its distance from the start.

    Attributes
    ----------
    slope : callable
        `f'(w)`, positive, of arrays.
    alpha : float
        Start.
    positive : bool
        Whether weights are positive; their distance is then measured in log w, otherwise in w.
    below, above : float
        `|T|` at the ends of the interval of weights; may be infinite.
    """

    slope: Callable[[Array], Array]
    alpha: float
    positive: bool
    below: float
    above: float

    def weight(self, d: Array) -> Array:
        """Give the weight at a distance."""
        with np.errstate(over="ignore", under="ignore"):
            return self.alpha * np.exp(d) if self.positive else self.alpha + d

    def _rate(self, d: Array) -> Array:
        return self.weight(d) if self.positive else np.ones_like(d)

    def travel_rate(self, d: Array) -> Array:
        """Give dT/dd."""
        with np.errstate(all="ignore"):
            return _bounded(self._rate(d) / self.slope(self.weight(d)))

    def rise_rate(self, d: Array) -> Array:
        """Give dR/dd."""
        with np.errstate(all="ignore"):
            return _bounded(self._rate(d) * self.slope(self.weight(d)))

    @staticmethod
    def _integrate(rate: Callable[[Array], Array], d: float, start: float = 0.0) -> float:
        count = max(1, int(np.ceil(abs(d) / PANEL)))
        length = d / count
        return float(np.sum(rate(start + length * (np.arange(count)[:, None] + NODES)) @ WEIGHTS) * length)

    def travel(self, d: float) -> float:
        """Give T."""
        return self._integrate(self.travel_rate, d)

    def rise(self, d: float) -> float:
        """Give R."""
        return self._integrate(self.rise_rate, d)

    def area(self, d: float, dual: bool = False) -> float:
        """Give `int T dR` up to a distance, or `int R dT`: positive on either side of the start."""
        outer, inner = (self.travel_rate, self.rise_rate) if dual else (self.rise_rate, self.travel_rate)
        count = max(1, int(np.ceil(abs(d) / PANEL)))
        length = d / count
        starts = length * np.arange(count)[:, None]
        panels = length * (inner(starts + length * NODES) @ WEIGHTS)
        within = inner(starts[:, :, None] + length * NODES[:, None] * NODES) @ WEIGHTS
        reached = (np.cumsum(panels) - panels)[:, None] + length * NODES * within
        return float(np.sum((reached * outer(starts + length * NODES)) @ WEIGHTS) * length)

    def solve(self, rate: Callable[[Array], Array], target: float) -> float:
        """Find the distance at which the integral of a rate has a value, or infinity if it is too far.

        Newton's method on the logarithm of the integral, which is close to a straight line both near the start, in log d,
        and far out, in d; within a bracket, from whose lower end every integral is taken, so that none cancels.
        """
        if target == 0.0:
            return 0.0
        sign, goal = float(np.sign(target)), abs(target)
        low, at_low, high = 0.0, 0.0, np.inf
        d = min(max(goal / float(rate(np.zeros(1))[0]), 1e-290), 1.0)
        for _ in range(300):
            total = at_low + abs(self._integrate(rate, sign * (d - low), sign * low))
            error = np.log(total / goal)
            if total < goal:
                if d >= FARTHEST:
                    return sign * np.inf
                low, at_low = d, total
            else:
                high = d
            there = float(rate(np.array([sign * d]))[0])
            new = d - error * total / there if 0 < there < HUGE else high
            settled = abs(error) <= EPS or (abs(new - d) <= EPS * d and abs(error) < 1e-6)
            if settled:
                break
            new = min(new, 2 * d + 1, FARTHEST)
            if not low < new < high:
                new = 0.5 * (low + high) if np.isfinite(high) else min(2 * d, FARTHEST)
            if new == d or high - low <= EPS * low:
                break
            d = new
        return sign * d

    def at_travel(self, z: float) -> float:
        """Find the distance of the weight with `T = z`."""
        return self.solve(self.travel_rate, z)

    def at_predictor(self, beta: float) -> tuple[float, float]:
        """Find the distances of u and v where `R(u) - R(v) = beta > 0`; NaN where no weights give it."""
        highest = self.solve(self.rise_rate, beta)

        def second(d: float) -> float:
            z = self.travel(d)
            return -np.inf if z >= self.below else self.at_travel(-z)

        def excess(d: float) -> float:
            other = second(d)
            return np.inf if np.isinf(other) else (self.rise(d) - self.rise(other)) / beta - 1

        # A little farther than rounding: where v is negligible, this is the root itself.
        highest = FARTHEST if np.isinf(highest) else highest * (1 + 1e-9)
        if np.isinf(excess(highest)):  # v would have left its interval: look no farther than where it does
            highest = self.at_travel(self.below * (1 - 1e-15))
            if not excess(highest) >= 0:
                return np.nan, np.nan
        if excess(highest) < 0:
            return np.nan, np.nan
        d = _root(excess, 0.0, highest)
        return d, second(d)


def _bounded(rate: Array) -> Array:
    """Keep a rate usable where its weight is beyond the range of floats: any root lies nearer."""
    return np.minimum(np.nan_to_num(rate, nan=HUGE, posinf=HUGE), HUGE)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Brent's method to the last digit of the root, also of a root that is tiny."""
    return float(brentq(function, low, high, xtol=1e-300, rtol=4 * EPS, maxiter=500))


class NumericPotential:
    """Value, slope, curvature and dual of a potential, coordinate by coordinate.

    Parameters
    ----------
    f : sympy.Expr
        Increasing map, in w alone.
    w : sympy.Symbol
        Positive or real.
    rate : float
        How fast the weights of the map move in the flow: 1, or 1/2 after a rotation of the weights.
    ends : tuple of sympy.Expr or None
        F at the lower and at the upper end, if known.
    travel : sympy.Expr or None
        F, if known.
    """

    def __init__(self, f: sp.Expr, w: sp.Symbol, rate: float = 1.0,
                 ends: tuple[sp.Expr | None, sp.Expr | None] = (None, None), travel: sp.Expr | None = None) -> None:
        self.positive = w.is_positive is True
        self.rate = rate
        slope = sp.diff(f, w)
        # Of two forms the one that stays finite far out: exp(w)/(1 + exp(w)) is inf/inf where 1/(1 + exp(-w)) is 1.
        self._slope_form = 1 / sp.expand(1 / slope) if slope.has(sp.exp) else slope
        self._evaluate = sp.lambdify(w, self._slope_form, ["scipy", "numpy"])
        self._travel = None if travel is None else sp.lambdify(w, travel, ["scipy", "numpy"])
        self._ends = ends

    def _slope(self, w: Array) -> Array:
        with np.errstate(over="ignore", under="ignore", divide="ignore"):
            return np.asarray(self._evaluate(w), dtype=float) + np.zeros_like(w)

    def branch(self, alpha: float) -> Branch:
        """Prepare one coordinate.

        Raises
        ------
        ValueError
            If alpha is not in the interval of the weights.
        """
        if self.positive and not alpha > 0:
            raise ValueError(f"alpha must be positive for this map, got {alpha:g}")
        return Branch(self._slope, alpha, self.positive, self._reach(alpha, 0), self._reach(alpha, 1))

    def _reach(self, alpha: float, end: int) -> float:
        """Give `|T|` at an end: from the closed form where it does not cancel, by quadrature otherwise."""
        limit = self._ends[end]
        if limit is not None and limit.is_infinite:
            return float("inf")
        if limit is not None and self._travel is not None:
            here = float(self._travel(alpha))
            reach = abs(float(limit) - here)
            if reach > 1e-3 * max(abs(here), abs(float(limit))):
                return reach
        sign, far = (-1.0 if end == 0 else 1.0), np.array([1e40, 1e80])
        far = far**sign if self.positive else sign * far
        with np.errstate(all="ignore"):
            weight = np.nan_to_num(np.abs(far) / self._slope(far), posinf=1e300)
        if limit is None and weight[1] > 1e-3 * weight[0]:  # int dw/f' grows by as much in every decade
            return float("inf")
        edge = (-np.inf, np.inf)[end] if not self.positive else (0.0, np.inf)[end]
        with np.errstate(all="ignore"):
            try:
                reach, error = quad(lambda w: 1.0 / float(self._slope(np.array(w))), alpha, edge, limit=200,
                                    epsabs=0.0, epsrel=1e-12, full_output=True)[:2]
            except ZeroDivisionError:
                return float("inf")
        return abs(reach) if error < 1e-6 * abs(reach) else float("inf")

    def domain(self, alpha: object) -> Array:
        """Give the radius of the domain of the mirror map: it is defined where `|s|` is less.

        Parameters
        ----------
        alpha : float or array_like

        Returns
        -------
        ndarray
            Shape of alpha.
        """
        return self._map(lambda _, a: min((b := self.branch(a)).below, b.above) / self.rate, 0.0, alpha, "s")

    def _map(self, function: Callable[[float, float], float], x: object, alpha: object, name: str) -> Array:
        points, scales = np.broadcast_arrays(finite(name, x), finite("alpha", alpha))
        with np.errstate(over="ignore", under="ignore"):
            values = [function(float(p), float(a)) for p, a in zip(points.flat, scales.flat, strict=True)]
        found = np.array(values, dtype=float).reshape(points.shape)
        if np.isnan(found).any():
            bad = tuple(np.argwhere(np.isnan(found))[0])
            where = f"[{', '.join(map(str, bad))}]" if found.ndim else ""
            raise ValueError(f"{name}{where} = {points[bad]:g} is out of reach for alpha = {scales[bad]:g}: {self._why(name)}")
        return found

    @staticmethod
    def _why(name: str) -> str:
        return ("a weight would reach the end of its interval first" if name == "beta"
                else "see `domain` for the largest |s|")

    def weights(self, beta: float, alpha: float) -> tuple[Branch, float, float]:
        """Find where u and v are, as distances on their branch, for one coordinate and `beta >= 0`."""
        branch = self.branch(alpha)
        return (branch, 0.0, 0.0) if beta == 0 else (branch, *branch.at_predictor(beta))

    def value(self, beta: object, alpha: object) -> Array:
        """Evaluate the potential of each coordinate.

        Parameters
        ----------
        beta : float or array_like
        alpha : float or array_like
            Initial weight, broadcast against beta.

        Returns
        -------
        ndarray
        """
        return self._map(self._value, beta, alpha, "beta")

    def _value(self, beta: float, alpha: float) -> float:
        branch, u, v = self.weights(abs(beta), alpha)
        if np.isnan(u):
            return np.nan

        total = branch.area(u) + branch.area(v)
        return total / self.rate

    def gradient(self, beta: object, alpha: object) -> Array:
        """Evaluate the slope of the potential, `-int g`; arguments as in `value`."""
        def slope(b: float, a: float) -> float:
            branch, u, _ = self.weights(abs(b), a)
            return np.copysign(branch.travel(u), b) / self.rate if not np.isnan(u) else np.nan

        return self._map(slope, beta, alpha, "beta")

    def curvature(self, beta: object, alpha: object) -> Array:
        """Evaluate the second derivative of the potential, `1/(f'(u)^2 + f'(v)^2)`; arguments as in `value`."""
        def second(b: float, a: float) -> float:
            branch, u, v = self.weights(abs(b), a)
            return 1.0 / (self.rate * float(np.sum(self._slope(branch.weight(np.array([u, v]))) ** 2)))

        return self._map(second, beta, alpha, "beta")

    def mirror(self, s: object, alpha: object) -> Array:
        """Evaluate beta where `int g = s`.

        Parameters
        ----------
        s : float or array_like
            In the interior of `domain`.
        alpha : float or array_like

        Returns
        -------
        ndarray
        """
        return self._map(lambda x, a: self.mirror_and_slope(-x, a)[0], s, alpha, "s")

    def mirror_and_slope(self, z: float, alpha: float) -> tuple[float, float]:
        """Give `beta` and `dbeta/dz` of one coordinate at `z = -int g`; NaN out of the domain."""
        branch = self.branch(alpha)
        z = z * self.rate
        if not abs(z) < min(branch.below, branch.above):
            return np.nan, np.nan
        u, v = branch.at_travel(z), branch.at_travel(-z)
        if np.isinf(u) or np.isinf(v):
            return np.nan, np.nan
        slopes = np.minimum(self._slope(branch.weight(np.array([u, v]))), HUGE**0.5)
        return branch.rise(u) - branch.rise(v), self.rate * float(np.sum(slopes**2))

    def dual(self, s: object, alpha: object) -> Array:
        """Evaluate the Legendre conjugate `max_b z b - phi(b)` at `z = -s`; arguments as in `mirror`."""
        def conjugate(x: float, a: float) -> float:
            branch, z = self.branch(a), abs(x) * self.rate
            if not z < min(branch.below, branch.above):
                return np.nan
            # int M dz along u and along v: positive both, and no use is made of phi.
            u, v = branch.at_travel(z), branch.at_travel(-z)
            return (branch.area(u, dual=True) + branch.area(v, dual=True)) / self.rate

        return self._map(conjugate, s, alpha, "s")

    @cached_property
    def slope_form(self) -> sp.Expr:
        """The form of `f'` that is evaluated."""
        return self._slope_form
