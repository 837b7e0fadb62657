"""The network of depth D > 2 and its potential: in symbols for the derivations, lambdified for the checks.

All is written in `k = D - 2 > 0`; with `s = D/k` and `m = 2/k = s - 1`,

    h(z) = (1 - z)^(-s) - (1 + z)^(-s),    H(z) = [(1 - z)^(-m) + (1 + z)^(-m)]/m,    q' = h^(-1).

The numbers take `z = tanh(l)`: there h is a product, `2 cosh(l)^s sinh(s l)`, and neither z near 1 nor a small h costs a
digit. A derivation proves the products equal to the powers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property
from typing import Any

import numpy as np
import sympy as sp

from ._minimiser import Potential
from ._network import Array, Network, SymbolicNetwork
from ._setting import Setting

__all__ = ["DeepNetwork", "DeepSetting", "SymbolicDeepNetwork", "h", "inverse_h", "number", "potential_of"]

#: D - 2, positive.
K = sp.Symbol("k", positive=True)
#: 1 - z and 1 + z, positive.
LESS, MORE = sp.symbols("A B", positive=True)
T = sp.Symbol("l", real=True)
S = sp.Symbol("s", positive=True)
WEIGHT = sp.Symbol("w", positive=True)

#: h, H and h' at z = tanh(l), as products.
H_OF_T = 2 * sp.cosh(T) ** S * sp.sinh(S * T)
INTEGRAL_OF_T = 2 * sp.cosh(T) ** (S - 1) * sp.cosh((S - 1) * T) / (S - 1)
SLOPE_OF_T = 2 * S * sp.cosh(T) ** (S + 1) * sp.cosh((S + 1) * T)


class SymbolicDeepNetwork(SymbolicNetwork):
    """A network `beta = u^D - v^D` whose data, weights and depth `D = k + 2` are symbols."""

    @cached_property
    def predictor(self) -> list[sp.Expr]:
        """The predictor in the weights."""
        return [u ** (K + 2) - v ** (K + 2) for u, v in zip(self.u, self.v, strict=True)]


@cache
def _branch(order: int) -> Callable[..., Array]:
    depth = sp.Symbol("D", positive=True)
    return sp.lambdify((WEIGHT, depth), sp.powsimp(sp.diff(WEIGHT**depth, WEIGHT, order)), "numpy")


class DeepNetwork(Network):
    """The network `beta = u^D - v^D` in numbers; see `Network`."""

    def __init__(self, X: Array, y: Array, depth: float) -> None:
        super().__init__(X, y)
        self.depth = depth

    def _branch(self, w: Array) -> Array:
        return _branch(0)(w, self.depth)

    def _branch_slope(self, w: Array) -> Array:
        return _branch(1)(w, self.depth)

    def _branch_bend(self, w: Array) -> Array:
        return _branch(2)(w, self.depth)


class DeepSetting(Setting):
    """A `Setting` for depth D: `alpha^(2-D)` is the mean of `u0^(2-D)` and `v0^(2-D)`, of natural size for the data."""

    def __init__(self, problem: Any, depth: float) -> None:
        super().__init__(problem)
        self.depth = depth
        self.net = DeepNetwork(self.data.X, self.data.y, depth)
        # alpha^D and (u0/v0)^D are what alpha^2 and (u0/v0)^2 are at depth 2.
        self.alpha = self.alpha ** (2 / depth)
        self.log_ratio = self.log_ratio * (2 / depth)

    @property
    def ratio(self) -> Array:
        """z0, the shape of the initialisation: `u0^(2-D) = alpha^(2-D) (1 - z0)`, v0 with +."""
        return np.tanh((self.depth - 2) * self.log_ratio / 2)

    def weights(self) -> tuple[Array, Array]:
        """Give the initial weights."""
        return weights_of(self.alpha, self.ratio, self.depth)

    @property
    def longest(self) -> float:
        """A time beyond which no run is followed."""
        return 1e4 / (self.curvature * self.predictor_unit ** (2 - 2 / self.depth))


def weights_of(alpha: Array, ratio: Array, depth: float) -> tuple[Array, Array]:
    """Give `alpha (1 - z)^(-1/k)` and `alpha (1 + z)^(-1/k)`."""
    power = -1 / (depth - 2)
    return alpha * (1 - ratio) ** power, alpha * (1 + ratio) ** power


@cache
def number(expression: sp.Expr) -> Callable[..., Array]:
    """Make a function of (l, s) of an expression."""
    return sp.lambdify((T, S), expression, "numpy")


def h(ratio: Array, s: float) -> Array:
    """Give `h(z)`."""
    return number(H_OF_T)(np.arctanh(ratio), s)


def inverse_h(x: Array, s: float) -> Array:
    """Solve `h(tanh t) = x` for t, elementwise.

    In log t, log h is convex and increasing, so Newton's method descends to the root from any point above it; such a
    point is where `2 sinh(s t) = |x|`.
    """
    size = np.abs(np.asarray(x, dtype=float))
    moving = size > 0
    safe = np.where(moving, size, 1.0)
    t = np.arcsinh(safe / 2) / s
    for _ in range(100):
        value = np.log(2) + s * np.log(np.cosh(t)) + np.log(np.sinh(s * t))
        step = (value - np.log(safe)) / (s * t * (np.tanh(t) + 1 / np.tanh(s * t)))
        t = t * np.exp(-step)
        if np.all(np.abs(step) < 1e-15):
            break
    return np.sign(x) * np.where(moving, t, 0.0)


def potential_of(depth: float, s: float | None = None, power: float = 2.0) -> Potential:
    """Give the potential `alpha^2 q(b/alpha^D)` of one coordinate, as functions of (b, alpha).

    Parameters
    ----------
    depth : float
    s, power : float
        Exponents of h and of the leading alpha; other values than `D/(D-2)` and 2 are for mutants.
    """
    exponent = depth / (depth - 2) if s is None else s

    def value(b: Array, a: Array) -> Array:
        t = inverse_h(b / a**depth, exponent)
        primitive = number(INTEGRAL_OF_T)(t, exponent) - number(INTEGRAL_OF_T)(0.0, exponent)
        return a**power * (np.tanh(t) * b / a**depth - primitive)

    def slope(b: Array, a: Array) -> Array:
        return a ** (power - depth) * np.tanh(inverse_h(b / a**depth, exponent))

    def curvature(b: Array, a: Array) -> Array:
        return a ** (power - 2 * depth) / number(SLOPE_OF_T)(inverse_h(b / a**depth, exponent), exponent)

    return Potential(value, slope, curvature, depth)
