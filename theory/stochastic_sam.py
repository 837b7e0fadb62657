"""T22: noise on the weights (stochastic SAM) is weight decay, in expectation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp

from . import _exact as exact
from ._derivation import Derivation
from ._engine import Pair, library, stand_in
from ._exact import ExactLaw
from ._fields import Velocity
from ._network import Array, Network, SymbolicNetwork
from ._registry import Finding, Theorem
from ._setting import Setting
from ._steps import PAST, TIME, argmin, effective_scale, law, pair, start

__all__ = ["THEOREMS"]

#: Of the value of the expected loss, by quadrature and by its formula.
VALUE_TOLERANCE = 1e-12


# --- derivation ------------------------------------------------------------------------------------------------------


def _expectation(polynomial: sp.Expr, noise: tuple[sp.Symbol, ...], moments: dict[int, sp.Expr]) -> sp.Expr:
    """Take the expectation of a polynomial in independent noise, given its moments."""
    terms = sp.Poly(sp.expand(polynomial), *noise).terms()
    return sp.Add(*(coefficient * sp.Mul(*(moments[power] for power in powers)) for powers, coefficient in terms))


def derive_noise_on_weights() -> Derivation:
    """Derive T22: the expected loss, by moments; its gradient is that of weight decay."""
    d, net = Derivation("T22", "Noise on the weights is weight decay in expectation"), SymbolicNetwork()
    at = start(d, net)
    s, kappa = sp.symbols("s kappa", positive=True)
    d.assume("xi: noise on every weight, independent, symmetric, of variance s^2 and kurtosis kappa: E xi = E xi^3 = 0, "
             "E xi^2 = s^2, E xi^4 = kappa s^4")
    x = sp.Symbol("x", real=True)
    density = sp.exp(-x**2 / (2 * s**2)) / (sp.sqrt(2 * sp.pi) * s)
    d.equal("A Gaussian has kurtosis 3", "integration of its density",
            sp.Matrix([sp.Integral(x**power * density, (x, -sp.oo, sp.oo)) for power in (1, 2, 3, 4)]),
            sp.Matrix([0, s**2, 0, 3 * s**4]))
    moments = {0: sp.S.One, 1: sp.S.Zero, 2: s**2, 3: sp.S.Zero, 4: kappa * s**4}
    noise = tuple(sp.Symbol(f"xi_{k + 1}", real=True) for k in range(len(net.weights)))
    moved = net.at(net.loss, tuple(w + xi for w, xi in zip(net.weights, noise, strict=True)))
    n = net.n_samples
    M = [sp.Add(*(net.X[i, j] ** 2 for i in range(n))) / n for j in range(net.n_features)]
    decay = sp.Add(*(M[j] * (s**2 * (net.u[j] ** 2 + net.v[j] ** 2) + (kappa - 1) / 2 * s**4) for j in range(net.n_features)))
    expected = _expectation(moved, noise, moments)
    d.equal("Expected loss at the disturbed weights: L + sum_j M_jj (s^2 (u_j^2 + v_j^2) + (kappa - 1)/2 s^4), M = X^T X/N",
            "the loss is a polynomial of order 4 in the noise; its moments", expected, net.loss + decay)
    gradient = sp.Matrix([sp.diff(moved, weight) for weight in net.weights])
    d.equal("The expected gradient is the gradient of the expected loss", "expectation and derivative of a polynomial commute",
            sp.Matrix([_expectation(entry, noise, moments) for entry in gradient]),
            sp.Matrix([sp.diff(net.loss + decay, weight) for weight in net.weights]))
    extra = sp.Matrix([sp.diff(decay, weight) for weight in net.weights])
    pair(d, net, "So it is the pair of weight decay, p = g, q = lambda with lambda_j = s^2 M_jj, whatever kappa is",
         -(at.of_weights + extra), list(at.of_beta), [s**2 * M_j for M_j in M])
    law(d)
    alpha, M_jj = sp.symbols("alpha M_jj", positive=True)
    effective_scale(d, "Effective initialisation", s**2 * M_jj, alpha * sp.exp(-2 * s**2 * M_jj * TIME), alpha)
    size = sp.Function("s", positive=True)(PAST)
    effective_scale(d, "Noise that changes in time", size**2 * M_jj,
                    alpha * sp.exp(-2 * M_jj * sp.Integral(size**2, (PAST, 0, TIME))), alpha)
    argmin(d)
    return d


# --- noise -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Noise:
    """Symmetric noise of unit variance as a quadrature rule that is exact for polynomials of order 4."""

    name: str
    kurtosis: float
    nodes: Array
    weights: Array


def _noises() -> list[Noise]:
    hermite, by_hermite = np.polynomial.hermite_e.hermegauss(5)
    legendre, by_legendre = np.polynomial.legendre.leggauss(5)
    return [Noise("Gaussian noise", 3.0, hermite, by_hermite / np.sqrt(2 * np.pi)),
            Noise("signs", 1.0, np.array([-1.0, 1.0]), np.array([0.5, 0.5])),
            Noise("uniform noise", 1.8, np.sqrt(3) * legendre, by_legendre / 2)]


def _moment(noise: Noise, size: float, w: Array, power: int) -> Array:
    """Give the expectation of a power of a disturbed weight, by quadrature."""
    return np.asarray(((w[..., None] + size * noise.nodes) ** power) @ noise.weights)


Size = Callable[[float], float]


def expected_velocity(net: Network, noise: Noise, size: Size) -> Velocity:
    """Descend the expected gradient, by quadrature weight by weight: no variance, no decay.

    A disturbed residual is a sum over weights, so that its product with the disturbed weight itself needs three moments.
    """

    def velocity(t: float, u: Array, v: Array) -> tuple[Array, Array]:
        disturbed = np.stack([u, v])[..., None] + size(t) * noise.nodes
        squares = disturbed * disturbed
        (u1, v1), (u2, v2), (u3, v3) = (powers @ noise.weights for powers in (disturbed, squares, squares * disturbed))
        mean_slope = net.sample_slope((u2 - v2) @ net.X.T)  # linear in the residual, as the loss is quadratic in it
        g = mean_slope @ net.X / net.n_samples
        own = np.mean(net.X**2, axis=0) / 2
        return -2 * (u1 * g + own * (u3 - u1 * u2)), 2 * (v1 * g - own * (v3 - v1 * v2))

    return velocity


def diagonal(net: Network) -> Array:
    """Give the diagonal of `M = X^T X / N`."""
    return np.mean(net.X**2, axis=0)


def formula(net: Network, size: Size, factor: Any = 1.0, power: int = 2) -> Pair:
    """Give the pair of T22: p = g, q = s^2 M_jj."""
    return lambda t, u, v: (net.beta_gradient(u, v), np.zeros_like(u) + factor * size(t) ** power * diagonal(net))


# --- check -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NoisyLaw(ExactLaw):
    """An exact law that remembers its noise, for mutants of it."""

    size: Size = lambda t: 0.0


@dataclass(frozen=True)
class ExpectedLoss:
    """The value of the expected loss, by quadrature over all weights, at random weights and sizes of the noise.

    Attributes
    ----------
    name : str
    noise : Noise
    second, fourth : float
        The claims: `L + sum_j M_jj (second s^2 (u^2 + v^2) + fourth s^4)`.
    """

    name: str
    noise: Noise
    second: float
    fourth: float

    def measure(self, setting: Setting) -> Finding:
        """Compare at some weights around the start and sizes up to that of the weights."""
        net, rng = setting.net, np.random.default_rng(3)
        scale = float(np.max(setting.alpha))
        worst, found = 0.0, []
        for size in scale * np.array([0.1, 0.5, 1.0]):
            u, v = (w * np.exp(rng.uniform(-0.5, 0.5, w.size)) for w in setting.weights())
            squares = [_moment(self.noise, size, w, 2) for w in (u, v)]
            spread = sum(_moment(self.noise, size, w, 4) - square**2 for w, square in zip((u, v), squares, strict=True))
            # The mean of a square is the square of the mean and the variance, which adds up over independent weights.
            residual = (squares[0] - squares[1]) @ net.X.T - net.y
            truth = float(np.mean(residual**2 + net.X**2 @ spread)) / 4
            added = diagonal(net) @ (self.second * size**2 * (u**2 + v**2) + self.fourth * size**4)
            claimed = float(net.loss(u, v) + added)
            worst = max(worst, abs(claimed - truth) / truth)
            found.append({"size": float(size), "quadrature": truth, "formula": claimed})
        return Finding(worst, VALUE_TOLERANCE, worst <= VALUE_TOLERANCE, {"values": found})


def parts(setting: Setting) -> list[NoisyLaw | ExpectedLoss]:
    """Check T22 for Gaussian noise, for signs, and for noise that fades; the expected loss for uniform noise, too."""
    net, times = setting.net, setting.times(exact.LEVELS)
    size = float(np.sqrt(0.3 / times[-1] / np.mean(diagonal(net))))

    def constant(t: float) -> float:
        return size

    def fading(t: float) -> float:
        return 2 * size / (1 + 3 * t / float(times[-1]))

    def decay(strength: Size) -> Any:
        return lambda dln: dln.WeightDecay(size**2 * diagonal(net) if strength is constant
                                           else lambda t: strength(t) ** 2 * diagonal(net))

    def trained(name: str, noise: Noise, strength: Size) -> NoisyLaw:
        return NoisyLaw(name, library(decay(strength)), expected_velocity(net, noise, strength), formula(net, strength),
                        setting.alpha, setting.log_ratio, times, size=strength)

    noises = _noises()
    return [*(trained(noise.name, noise, constant) for noise in noises[:2]),
            trained("fading Gaussian noise", noises[0], fading),
            *(ExpectedLoss(f"expected loss, {noise.name}", noise, 1.0, (noise.kurtosis - 1) / 2) for noise in noises)]


# --- mutants ---------------------------------------------------------------------------------------------------------


def _claim(**options: Any) -> exact.Mutant:
    return lambda part, setting: replace(part, pair=formula(setting.net, part.size, **options))


def _mean_of_diagonal(part: NoisyLaw, setting: Setting) -> NoisyLaw | None:
    M = diagonal(setting.net)
    return None if np.ptp(M) < 1e-3 * np.max(M) else replace(part, pair=formula(setting.net, part.size, np.mean(M) / M))


def _engine_of_constant_noise(part: NoisyLaw, setting: Setting) -> NoisyLaw | None:
    if "fading" not in part.name:
        return None
    return replace(part, engine=stand_in(formula(setting.net, lambda t: part.size(0.0))))


def _value(**options: Any) -> Callable[[Any, Setting], Any]:
    return lambda part, setting: replace(part, **options) if isinstance(part, ExpectedLoss) else None


def _no_fourth(part: Any, setting: Setting) -> Any:
    return replace(part, fourth=0.0) if isinstance(part, ExpectedLoss) and part.fourth else None


def _fourth_of_gaussian(part: Any, setting: Setting) -> Any:
    return replace(part, fourth=1.0) if isinstance(part, ExpectedLoss) and "Gaussian" not in part.name else None


THEOREMS = (
    Theorem(
        key="T22",
        title="Noise on the weights (stochastic SAM)",
        statement="E L(theta + noise) = L + sum_j M_jj (s^2 (u^2 + v^2) + s^4), M = X^T X/N: weight decay s^2 M_jj, so "
                  "alpha_eff = alpha exp(-2 M_jj int s^2)",
        source='Clara et al. 2025, "Training diagonal linear networks with stochastic sharpness-aware minimization"',
        kind="exact",
        tolerance=exact.TOLERANCE,
        derive=derive_noise_on_weights,
        parts=parts,
        mutants=exact.mutants(**exact.SHRINKING_MUTANTS, **{
            "M = X^T X/(2N)": _claim(factor=0.5),
            "sign of the decay swapped": _claim(factor=-1.0),
            "s for s^2": _claim(power=1),
            "mean of M_jj over coordinates": _mean_of_diagonal,
            "engine: noise that does not fade": _engine_of_constant_noise,
            "engine: no decay": lambda part, setting: replace(part, engine=stand_in(formula(setting.net, lambda t: 0.0))),
        }) | {
            "value: half of the decay": _value(second=0.5),
            "value: no s^4": _no_fourth,
            "value: kurtosis of a Gaussian": _fourth_of_gaussian,
        },
    ),
)
