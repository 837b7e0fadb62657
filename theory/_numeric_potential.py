"""A potential as numbers: of any increasing map, at any beta, without cancellation, and without its closed form.

With `u0 = v0 = alpha` and z = -int g the weights of one coordinate are given by

    T(u) = z,  T(v) = -z,  R(u) - R(v) = beta,    T(w) = int_alpha^w dx/f'(x),  R(w) = int_alpha^w f'(x) dx,

and `phi(beta) = int z dbeta = int_alpha^u T dR + int_v^alpha |T| dR`. Every integrand is positive, so nothing cancels, however
small beta is beside alpha; and the unknown is u, not z, so nothing is lost either where alpha is small and z presses
against the end of its domain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import sympy as sp
from scipy.integrate import quad

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
    """The weights of n coordinates, as functions of their distances from the start.

    Attributes
    ----------
    slope : callable
        `f'(w)`, positive, of arrays.
    alpha : ndarray of shape (n,)
        Starts.
    positive : bool
        Whether weights are positive; their distance is then measured in log w, otherwise in w.
    below, above : ndarray of shape (n,)
        `|T|` at the ends of the interval of weights; may be infinite.
    """

    slope: Callable[[Array], Array]
    alpha: Array
    positive: bool
    below: Array
    above: Array

    def __getitem__(self, which: Array | list[int]) -> Branch:
        return replace(self, alpha=self.alpha[which], below=self.below[which], above=self.above[which])

    def weight(self, d: Array) -> Array:
        """Give the weights at distances of shape (n, ...)."""
        alpha = self.alpha.reshape(-1, *(1,) * (d.ndim - 1))
        with np.errstate(over="ignore", under="ignore"):
            return alpha * np.exp(d) if self.positive else alpha + d

    def travel_rate(self, d: Array) -> Array:
        """Give dT/dd."""
        w = self.weight(d)
        with np.errstate(all="ignore"):
            return _bounded((w if self.positive else 1.0) / self.slope(w))

    def rise_rate(self, d: Array) -> Array:
        """Give dR/dd."""
        w = self.weight(d)
        with np.errstate(all="ignore"):
            return _bounded((w if self.positive else 1.0) * self.slope(w))

    def _integrate(self, rate: Rate, d: Array, start: Array | float = 0.0) -> Array:
        """Integrate over an interval of length d for each coordinate; the panels of all of them are one array."""
        counts = np.maximum(1, np.ceil(np.abs(d) / PANEL).astype(int))
        length, firsts = d / counts, np.cumsum(counts) - counts
        owner = np.repeat(np.arange(d.size), counts)
        panel = np.arange(owner.size) - firsts[owner]
        points = (start + np.zeros_like(d))[owner, None] + length[owner, None] * (panel[:, None] + NODES)
        return np.add.reduceat(rate(self[owner], points) @ WEIGHTS, firsts) * length

    def travel(self, d: Array) -> Array:
        """Give T."""
        return self._integrate(Branch.travel_rate, d)

    def rise(self, d: Array) -> Array:
        """Give R."""
        return self._integrate(Branch.rise_rate, d)

    def area(self, d: Array, dual: bool = False) -> Array:
        """Give `int T dR` up to a distance, or `int R dT`: positive on either side of the start."""
        return np.array([self[[j]]._area(float(one), dual) for j, one in enumerate(d)])

    def _area(self, d: float, dual: bool) -> float:
        outer, inner = (self.travel_rate, self.rise_rate) if dual else (self.rise_rate, self.travel_rate)
        count = max(1, int(np.ceil(abs(d) / PANEL)))
        length = d / count
        starts = length * np.arange(count)[:, None]
        nodes = (starts + length * NODES)[None]
        panels = length * (inner(nodes)[0] @ WEIGHTS)
        within = inner((starts[:, :, None] + length * NODES[:, None] * NODES)[None])[0] @ WEIGHTS
        reached = (np.cumsum(panels) - panels)[:, None] + length * NODES * within
        return float(np.sum((reached * outer(nodes)[0]) @ WEIGHTS) * length)

    def solve(self, rate: Rate, target: Array, ceiling: Array | None = None) -> Array:
        """Find the distances at which the integral of a rate has given values, or infinity where that is too far.

        `ceiling` is what the modulus of the integral tends to, if that is finite. Every integral is taken from the lower end
        of the bracket, so that none cancels.
        """
        found, moves = np.zeros_like(target), target != 0.0
        if not moves.any():
            return found
        branch, sign, goal = self[moves], np.sign(target[moves]), np.abs(target[moves])

        def total(d: Array, low: Array, at_low: Array, live: Array) -> tuple[Array, Array]:
            here, s = branch[live], sign[live]
            return at_low + np.abs(here._integrate(rate, s * (d - low), s * low)), rate(here, s * d)

        guess = np.clip(goal / rate(branch, np.zeros_like(goal)), 1e-290, 1.0)
        found[moves] = sign * _climb(total, goal, guess, EPS, None if ceiling is None else ceiling[moves])
        return found

    def at_travel(self, z: Array) -> Array:
        """Find the distances of the weights with `T = z`."""
        return self.solve(Branch.travel_rate, z, np.where(z > 0, self.above, self.below))

    def at_predictor(self, beta: Array) -> tuple[Array, Array]:
        """Find the distances of u and v where `R(u) - R(v) = beta > 0`; NaN where no weights give it."""
        def second(branch: Branch, d: Array) -> Array:
            z = branch.travel(d)
            inside = z < branch.below
            other = np.full_like(d, -np.inf)
            other[inside] = branch[inside].at_travel(-z[inside])
            return other

        def difference(branch: Branch, d: Array) -> tuple[Array, Array]:
            other = second(branch, d)
            ends = np.isinf(other)
            v = np.where(ends, 0.0, other)
            return np.where(ends, np.inf, branch.rise(d) - branch.rise(v)), v

        def total(d: Array, low: Array, at_low: Array, live: Array) -> tuple[Array, Array]:
            branch = reachable[live]
            value, v = difference(branch, d)
            return value, (branch.rise_rate(d)
                           + branch.rise_rate(v) * branch.travel_rate(d) / branch.travel_rate(v))

        highest = self.solve(Branch.rise_rate, beta)
        # A little farther than rounding: where v is negligible, this is the root itself.
        highest = np.where(np.isinf(highest), FARTHEST, highest * (1 + 1e-9))
        most = difference(self, highest)[0]
        ends = np.isinf(most)
        if ends.any():  # v would have left its interval: look no farther than where it does
            highest[ends] = self[ends].at_travel(self.below[ends] * (1 - 1e-15))
            most[ends] = difference(self[ends], highest[ends])[0]
        u, v = np.full((2, beta.size), np.nan)
        reached = most >= beta
        if reached.any():
            reachable = self[reached]
            u[reached] = _climb(total, beta[reached], highest[reached], 4 * EPS)
            v[reached] = second(reachable, u[reached])
        return u, v


Rate = Callable[[Branch, Array], Array]


def _climb(total: Callable[[Array, Array, Array, Array], tuple[Array, Array]], goal: Array, guess: Array, tol: float,
           ceiling: Array | None = None) -> Array:
    """Find the positive distances at which increasing functions reach their goals, or infinity where that is too far.

    Newton's method within a bracket, on the logarithm of `value/(1 - value/ceiling)`: close to a straight line near the start,
    in log d, and far out, in d, whether the function grows or levels off. `total(d, low, at_low, live)` gives values and
    slopes of the coordinates `live`.
    """
    ceiling = np.full_like(goal, np.inf) if ceiling is None else ceiling
    d, low, at_low, high = guess.copy(), np.zeros_like(goal), np.zeros_like(goal), np.full_like(goal, np.inf)
    live = np.arange(goal.size)
    for _ in range(300):
        here = d[live]
        with np.errstate(all="ignore"):
            value, rate = total(here, low[live], at_low[live], live)
            short = value < goal[live]
            low[live], at_low[live] = np.where(short, here, low[live]), np.where(short, value, at_low[live])
            high[live] = np.where(short, high[live], here)
            below, above = low[live], high[live]
            error = np.log(value / goal[live])
            room, wanted = 1 - value / ceiling[live], 1 - goal[live] / ceiling[live]
            step = (error - np.log(room / wanted)) * room * value / rate
            new = np.where((rate > 0) & (rate < HUGE), here - step, above)
            settled = (np.abs(error) <= tol) | ((np.abs(new - here) <= tol * here) & (np.abs(error) < 1e-6))
            new = np.minimum(new, np.minimum(2 * here + 1, FARTHEST))
            middle = np.where(np.isfinite(above), 0.5 * (below + above), np.minimum(2 * here, FARTHEST))
            new = np.where((below < new) & (new < above), new, middle)
            settled |= (new == here) | (above - below <= tol * below)
        gone = short & (here >= FARTHEST)
        d[live] = np.where(gone, np.inf, np.where(settled, here, new))
        live = live[~(settled | gone)]
        if not live.size:
            break
    return d


def _bounded(rate: Array) -> Array:
    """Keep a rate usable where its weight is beyond the range of floats: any root lies nearer."""
    return np.minimum(np.nan_to_num(rate, nan=HUGE, posinf=HUGE), HUGE)


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

    def branch(self, alpha: Array) -> Branch:
        """Prepare coordinates with starts of shape (n,).

        Raises
        ------
        ValueError
            If alpha is not in the interval of the weights.
        """
        if self.positive and not np.all(alpha > 0):
            raise ValueError(f"alpha must be positive for this map, got {np.min(alpha):g}")
        starts, which = np.unique(alpha, return_inverse=True)
        below, above = (np.array([self._reach(float(a), end) for a in starts])[which] for end in (0, 1))
        return Branch(self._slope, alpha, self.positive, below, above)

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
        return self._map(lambda _, branch: np.minimum(branch.below, branch.above) / self.rate, 0.0, alpha, "s")

    def _map(self, function: Callable[[Array, Branch], Array], x: object, alpha: object, name: str) -> Array:
        points, scales = np.broadcast_arrays(finite(name, x), finite("alpha", alpha))
        with np.errstate(over="ignore", under="ignore"):
            found = function(points.ravel(), self.branch(scales.ravel())).reshape(points.shape)
        if np.isnan(found).any():
            bad = tuple(np.argwhere(np.isnan(found))[0])
            where = f"[{', '.join(map(str, bad))}]" if found.ndim else ""
            raise ValueError(f"{name}{where} = {points[bad]:g} is out of reach for alpha = {scales[bad]:g}: {self._why(name)}")
        return found

    @staticmethod
    def _why(name: str) -> str:
        return ("a weight would reach the end of its interval first" if name == "beta"
                else "see `domain` for the largest |s|")

    @staticmethod
    def weights(beta: Array, branch: Branch) -> tuple[Array, Array]:
        """Find where u and v are, as distances on their branch, for `beta >= 0`, both of shape (n,)."""
        u, v = np.zeros((2, beta.size))
        moved = beta > 0
        if moved.any():
            u[moved], v[moved] = branch[moved].at_predictor(beta[moved])
        return u, v

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

    def _value(self, beta: Array, branch: Branch) -> Array:
        (u, v), found = self.weights(np.abs(beta), branch), np.full_like(beta, np.nan)
        known = ~np.isnan(u)
        found[known] = (branch[known].area(u[known]) + branch[known].area(v[known])) / self.rate
        return found

    def gradient(self, beta: object, alpha: object) -> Array:
        """Evaluate the slope of the potential, `-int g`; arguments as in `value`."""
        def slope(b: Array, branch: Branch) -> Array:
            (u, _), found = self.weights(np.abs(b), branch), np.full_like(b, np.nan)
            known = ~np.isnan(u)
            found[known] = np.copysign(branch[known].travel(u[known]), b[known]) / self.rate
            return found

        return self._map(slope, beta, alpha, "beta")

    def curvature(self, beta: object, alpha: object) -> Array:
        """Evaluate the second derivative of the potential, `1/(f'(u)^2 + f'(v)^2)`; arguments as in `value`."""
        def second(b: Array, branch: Branch) -> Array:
            u, v = (self._slope(branch.weight(d)) for d in self.weights(np.abs(b), branch))
            return 1.0 / (self.rate * (u**2 + v**2))

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
        return self._map(lambda x, branch: self.mirror_and_slope(-x, branch)[0], s, alpha, "s")

    def _at(self, z: Array, branch: Branch) -> tuple[Array, Array, Array]:
        """Find u and v at `z = -int g`, as distances, and where there are any."""
        z, (u, v) = z * self.rate, np.zeros((2, z.size))
        inside = np.abs(z) < np.minimum(branch.below, branch.above)
        within = np.flatnonzero(inside)
        if within.size:  # both signs in one pass
            both = np.concatenate([within, within])
            u[within], v[within] = np.split(branch[both].at_travel(np.concatenate([z[within], -z[within]])), 2)
        inside &= np.isfinite(u) & np.isfinite(v)
        return np.where(inside, u, 0.0), np.where(inside, v, 0.0), inside

    def mirror_and_slope(self, z: Array, branch: Branch) -> tuple[Array, Array]:
        """Give `beta` and `dbeta/dz` at `z = -int g` of shape (n,); NaN out of the domain."""
        u, v, inside = self._at(z, branch)
        squares = (np.minimum(self._slope(branch.weight(d)), HUGE**0.5) ** 2 for d in (u, v))
        return np.where(inside, branch.rise(u) - branch.rise(v), np.nan), np.where(inside, self.rate * sum(squares), np.nan)

    def dual(self, s: object, alpha: object) -> Array:
        """Evaluate the Legendre conjugate `max_b z b - phi(b)` at `z = -s`; arguments as in `mirror`."""
        def conjugate(x: Array, branch: Branch) -> Array:
            # int M dz along u and along v: positive both, and no use is made of phi.
            u, v, inside = self._at(np.abs(x), branch)
            return np.where(inside, branch.area(u, dual=True) + branch.area(v, dual=True), np.nan) / self.rate

        return self._map(conjugate, s, alpha, "s")

    @cached_property
    def slope_form(self) -> sp.Expr:
        """The form of `f'` that is evaluated."""
        return self._slope_form
