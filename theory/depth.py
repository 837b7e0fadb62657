"""T3: networks of any real depth D > 2, also with weight decay that depends on time alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from . import _depth_steps as steps
from ._deep import DeepNetwork, DeepSetting, SymbolicDeepNetwork, h, potential_of, weights_of
from ._derivation import Derivation
from ._engine import Engine, EngineRun, library, log_scale_of
from ._exact import LEVELS, TOLERANCE, distance, largest
from ._fields import weight_decay
from ._minimiser import minimise_divergence
from ._network import Array
from ._raw_route import RouteError, integrate
from ._registry import Finding, Theorem
from ._setting import Data, Setting

__all__ = ["THEOREMS"]

DEPTHS = (2.5, 3.0, 3.7, 4.0)

DISCREPANCIES = ("engine_beta", "engine_scale", "law", "closed_form", "argmin")


def derive_depth() -> Derivation:
    """Derive T3 with the depth a symbol."""
    d = Derivation("T3", "Gradient flow and weight decay in networks of any depth above 2")
    steps.exponents(d)
    steps.gradients(d, SymbolicDeepNetwork())
    steps.law(d)
    steps.mirror_map(d)
    steps.dual(d)
    steps.argmin(d)
    return d


@dataclass(frozen=True)
class Decay:
    """A strength of weight decay as a function of time, its integral from 0, and where it jumps."""

    strength: Callable[[float], Any]
    integral: Callable[[float], Any]
    breakpoints: tuple[float, ...] = ()


NO_DECAY = Decay(lambda t: 0.0, lambda t: 0.0)


@dataclass(frozen=True)
class DeepLaw:
    """A run at depth D, and what the theorem claims of it.

    Attributes
    ----------
    name : str
    setting : DeepSetting
        Data and initialisation at this depth.
    engine : Engine
        The library's engine with the rule.
    trained, claimed : Decay
        The decay of the raw route, and that of the theorem's formulas.
    log_ratio : ndarray of shape (d,)
        `log(u0/v0)`.
    factor : float
        The claim `alpha_eff = alpha exp(-factor int lam)`.
    rate, exponent : float
        The claims `D (D - 2)`, the rate of u^(2-D), and `s = D/(D - 2)`.
    power : float
        The claim that the potential is the sum of `alpha^power q(b/alpha^D)`.
    center : callable
        The claim `(alpha_eff, alpha, z0, law) -> centre`.
    scale : callable
        What is conserved: `(log u, log v, D) -> log alpha_eff`.
    """

    name: str
    setting: DeepSetting
    engine: Engine
    trained: Decay
    claimed: Decay
    log_ratio: Array
    factor: float
    rate: float
    exponent: float
    power: float
    center: Callable[[Array, Array, Array, Any], Array]
    scale: Callable[[Array, Array, float], Array] = log_scale_of

    def measure(self, _: Setting) -> Finding:
        """Measure five discrepancies at every time, as `ExactLaw` does; the worst decides."""
        setting, depth, k = self.setting, self.setting.depth, self.setting.depth - 2
        net, alpha, times = setting.net, setting.alpha, setting.times(LEVELS)
        ratio = np.tanh(k * self.log_ratio / 2)
        u0, v0 = weights_of(alpha, ratio, depth)

        def weighted_gradient(t: float, u: Array, v: Array) -> tuple[Array]:
            return (np.exp(-2 * k * self.claimed.integral(t)) * net.beta_gradient(u, v),)

        raw = integrate(weight_decay(net, self.trained.strength), u0, v0, times, weighted_gradient, self.trained.breakpoints)
        betas = net.predictor(raw.u, raw.v)
        kept = self.scale(np.log(raw.u), np.log(raw.v), depth)
        engine = self.engine(setting.data, alpha, self.log_ratio, times)
        log_scales = np.log(alpha) - self.factor * np.array([self.claimed.integral(t) + 0 * alpha for t in times])
        positions = ratio - self.rate * alpha**k * raw.integrals[0]
        phi = potential_of(depth, self.exponent, self.power)
        minima = [minimise_divergence(setting.data.X, setting.data.X @ beta, scale,
                                      self.center(np.exp(scale), alpha, ratio, self), phi)
                  for beta, scale in zip(betas, log_scales, strict=True)]
        inside = np.clip(positions, -1 + 1e-15, 1 - 1e-15)  # a wrong law may leave the domain
        found: dict[str, Any] = {
            "engine_beta": distance(engine.betas, betas),
            "engine_scale": largest(engine.log_scales - log_scale_of(np.log(raw.u), np.log(raw.v), depth)),
            "law": largest(log_scales - kept),
            "closed_form": distance(np.exp(depth * log_scales) * h(inside, self.exponent), betas),
            "argmin": distance(np.array([m.beta for m in minima]), betas),
        }
        numbers = np.array([found[key] for key in DISCREPANCIES])
        # NaN is a failure, and a maximum could lose it.
        worst = float(np.max(numbers)) if np.all(np.isfinite(numbers)) else float("inf")
        found |= {"argmin_stationarity": [m.stationarity for m in minima],
                  "argmin_infeasibility": [m.infeasibility for m in minima],
                  "times": [float(t) for t in times], "largest_position": float(np.max(np.abs(positions))),
                  "mean_log_scale_change": [float(x) for x in np.mean(kept - np.log(alpha), axis=-1)],
                  "raw_evaluations": raw.n_rhs}
        return Finding(worst, TOLERANCE, worst <= TOLERANCE, found)


def _center(scale: Array, alpha: Array, ratio: Array, law: DeepLaw) -> Array:
    return scale**law.setting.depth * h(ratio, law.exponent)


def _law(name: str, setting: DeepSetting, decay: Decay = NO_DECAY, shaped: bool = True) -> DeepLaw:
    depth = setting.depth

    def rule(dln: Any) -> Any:
        return dln.GradientFlow() if decay is NO_DECAY else dln.WeightDecay(decay.strength, decay.breakpoints)

    return DeepLaw(f"D = {depth:g}, {name}", setting, library(rule, depth), decay, decay,
                   setting.log_ratio if shaped else 0 * setting.log_ratio, 2.0, depth * (depth - 2), depth / (depth - 2), 2.0,
                   _center)


def decays(setting: DeepSetting) -> dict[str, Decay]:
    """Give decays of natural size for the data: constant, fading, and jumping in time."""
    times = setting.times(LEVELS)
    end, jump = float(times[-1]), 0.4 * float(times[1])
    size = 0.3 / end
    return {
        "constant decay": Decay(lambda t: size, lambda t: size * t),
        "fading decay": Decay(lambda t: 3 * size / (1 + 10 * t / end), lambda t: 0.3 * size * end * np.log1p(10 * t / end)),
        "decay that jumps": Decay(lambda t: size * (4.0 if t < jump else 0.5),
                                  lambda t: size * (4.0 * min(t, jump) + 0.5 * max(t - jump, 0.0)), (jump,)),
    }


def parts(setting: Setting) -> list[DeepLaw]:
    """Check T3 at four depths, from equal and unequal weights, with and without decay, alpha per coordinate throughout."""
    at = {depth: DeepSetting(setting.data, depth) for depth in DEPTHS}
    three, real, four = decays(at[3.0]), decays(at[3.7]), decays(at[4.0])
    return [_law("u0 != v0", at[2.5]),
            _law("u0 = v0", at[3.0], shaped=False), _law("constant decay", at[3.0], three["constant decay"]),
            _law("fading decay", at[3.7], real["fading decay"]),
            _law("u0 != v0", at[4.0]), _law("decay that jumps", at[4.0], four["decay that jumps"])]


# --- mutants ---------------------------------------------------------------------------------------------------------


def _stand_in(law: DeepLaw, depth: float, of_gradient: float = 1.0, of_decay: float = 1.0) -> Engine:
    """Make an engine with SciPy in log coordinates, right if all is 1."""
    net = DeepNetwork(law.setting.data.X, law.setting.data.y, depth)

    def run(data: Data, alpha: Array, log_ratio: Array, times: Array) -> EngineRun:
        size, k = alpha.size, depth - 2
        start = np.concatenate(weights_of(alpha, np.tanh(k * log_ratio / 2), depth))

        def field(t: float, logs: Array) -> Array:
            u, v = np.exp(logs[:size]), np.exp(logs[size:])
            p, q = of_gradient * depth * net.beta_gradient(u, v), of_decay * 2 * law.trained.strength(t)
            return np.concatenate([-(u**k) * p - q, v**k * p - q])

        result = solve_ivp(field, (0.0, float(times[-1])), np.log(start), method="DOP853", t_eval=times, rtol=1e-12,
                           atol=1e-13)
        if not result.success:
            raise RouteError(f"the stand-in engine stopped at t = {result.t[-1]:.6g}: {result.message}")
        log_u, log_v = result.y[:size].T, result.y[size:].T
        return EngineRun(net.predictor(np.exp(log_u), np.exp(log_v)), log_scale_of(log_u, log_v, depth))

    return run


def _if(condition: Callable[[DeepLaw], Any], mutant: Callable[[DeepLaw], DeepLaw]) -> Callable[[Any, Setting], Any]:
    return lambda law, setting: mutant(law) if condition(law) else None


def _always(law: DeepLaw) -> bool:
    return True


def _decaying(law: DeepLaw) -> bool:
    return law.trained is not NO_DECAY


def _shaped(law: DeepLaw) -> bool:
    return bool(np.any(law.log_ratio))


def _smooth(law: DeepLaw) -> bool:
    return not law.trained.breakpoints


def _uneven(law: DeepLaw) -> DeepLaw:
    """Let the strength differ between coordinates, in the run and in the claim: all but the minimiser still agrees."""
    weight = np.linspace(0.2, 2.0, law.setting.alpha.size)
    uneven = Decay(lambda t: weight * law.trained.strength(t), lambda t: weight * law.trained.integral(t),
                   law.trained.breakpoints)
    return replace(law, trained=uneven, claimed=uneven, engine=library(
        lambda dln: dln.WeightDecay(uneven.strength, uneven.breakpoints), law.setting.depth))


def _undecayed_gradient(law: DeepLaw) -> DeepLaw:
    return replace(law, claimed=replace(law.claimed, integral=lambda t: 0.0), factor=0.0)


THEOREMS = (
    Theorem(
        key="T3",
        title="Depth D > 2",
        statement="beta(t) minimises sum alpha_j^2 q_D(b_j/alpha_j^D) given X beta(t), D real; with decay lam(t) "
                  "alpha_eff = alpha exp(-2 int lam)",
        source='Woodworth et al. 2020, "Kernel and rich regimes in overparametrized models", Theorem 3; decay: Jacobs & '
               'Burkholz 2024, "Mask in the mirror"',
        kind="exact",
        tolerance=TOLERANCE,
        derive=derive_depth,
        parts=parts,
        mutants={
            "weights alpha^D in place of alpha^2": _if(_always, lambda law: replace(law, power=law.setting.depth)),
            "exponent (D - 1)/(D - 2) in place of D/(D - 2)": _if(_always, lambda law: replace(
                law, exponent=law.exponent - 1 / (law.setting.depth - 2))),
            "exponent of depth 2 percent larger": _if(_always, lambda law: replace(
                law, exponent=1.02 * law.setting.depth / (1.02 * law.setting.depth - 2))),
            "rate D in place of D (D - 2)": _if(lambda law: law.setting.depth != 3, lambda law: replace(
                law, rate=law.setting.depth)),
            "sqrt(u v) is conserved": _if(_always, lambda law: replace(law, scale=lambda u, v, depth: (u + v) / 2)),
            "centre dropped": _if(_shaped, lambda law: replace(law, center=lambda scale, *_: 0 * scale)),
            "centre not rescaled by alpha_eff": _if(lambda law: _shaped(law) and _decaying(law), lambda law: replace(
                law, center=lambda scale, alpha, ratio, law: _center(alpha, alpha, ratio, law))),
            "sign of lam swapped": _if(_decaying, lambda law: replace(law, factor=-law.factor)),
            "penalty lam/2 (u^2 + v^2)": _if(_decaying, lambda law: replace(law, factor=law.factor / 2)),
            "alpha_eff is alpha": _if(_decaying, _undecayed_gradient),
            "lam per coordinate": _if(_decaying, _uneven),
            "engine: depth 1 percent larger": _if(_smooth, lambda law: replace(
                law, engine=_stand_in(law, 1.01 * law.setting.depth))),
            "engine: loss with 1/(2N)": _if(_smooth, lambda law: replace(
                law, engine=_stand_in(law, law.setting.depth, of_gradient=2.0))),
            "engine: sign of lam swapped": _if(lambda law: _decaying(law) and _smooth(law), lambda law: replace(
                law, engine=_stand_in(law, law.setting.depth, of_decay=-1.0))),
        },
    ),
)
