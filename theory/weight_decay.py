"""T16: weight decay, its strength constant, per coordinate, or a function of time."""

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
from ._fields import weight_decay
from ._network import Network, SymbolicNetwork
from ._registry import Theorem
from ._setting import Setting
from ._steps import PAST, TIME, argmin, effective_scale, law, pair, start

__all__ = ["THEOREMS"]


def derive_weight_decay() -> Derivation:
    """Derive T16: the pair of weight decay and its effective initialisation."""
    d, net = Derivation("T16", "Weight decay shrinks the initialisation"), SymbolicNetwork()
    d.assume("strengths lambda_j(t), one per coordinate, any functions of time with finite integrals")
    at = start(d, net)
    strengths = [sp.Function(f"lambda_{j + 1}", real=True)(TIME) for j in range(net.n_features)]
    penalty = d.define(sp.Function("W")(*net.weights),
                       sp.Add(*(lam * (u**2 + v**2) for lam, u, v in zip(strengths, net.u, net.v, strict=True))),
                       "penalty")
    velocity = -(at.of_weights + sp.Matrix([sp.Derivative(penalty, weight) for weight in net.weights]))
    pair(d, net, "Weight decay is the pair p = g, q = lambda", velocity, list(at.of_beta), strengths)
    law(d)
    alpha = sp.Symbol("alpha", positive=True)
    strength = sp.Function("lambda", real=True)(PAST)
    effective_scale(d, "Effective initialisation", strength,
                    alpha * sp.exp(-2 * sp.Integral(strength, (PAST, 0, TIME))), alpha)
    constant, end = sp.Symbol("lambda_0", real=True), sp.Symbol("T", positive=True)
    effective_scale(d, "Constant strength: the scale decays like an exponential", constant,
                    alpha * sp.exp(-2 * constant * TIME), alpha)
    d.by_differentiation("Strength lambda_0 exp(-s/T), for ever: a positive limit as its integral is finite",
                         "the same",
                         -2 * sp.Integral(constant * sp.exp(-PAST / end), (PAST, 0, TIME)),
                         -2 * constant * end * (1 - sp.exp(-TIME / end)), TIME, sp.S.Zero)
    argmin(d)
    return d


Strength = Callable[[float], Any]


def formula(net: Network, strength: Strength) -> Pair:
    """Give the pair of weight decay: p = g, q = lam."""
    return lambda t, u, v: (net.beta_gradient(u, v), np.full_like(u, strength(t)))


@dataclass(frozen=True)
class DecayLaw(ExactLaw):
    """An exact law that remembers its strength as a function of time, for mutants of it."""

    strength: Strength = lambda t: 0.0


def parts(setting: Setting) -> list[DecayLaw]:
    """Check T16 for constant, uneven, fading and jumping strengths, alone and together."""
    net, times = setting.net, setting.times(exact.LEVELS)
    end = float(times[-1])
    jump = 0.4 * float(times[1])
    size = 0.3 / end
    uneven = size * np.linspace(0.2, 2.0, setting.alpha.size)

    def decay(name: str, given: Any, strength: Strength, breakpoints: tuple[float, ...] = ()) -> DecayLaw:
        engine = library(lambda dln: dln.WeightDecay(given, breakpoints))
        return DecayLaw(name, engine, weight_decay(net, strength), formula(net, strength), setting.alpha,
                        setting.log_ratio, times, breakpoints, strength=strength)

    def fading(t: float) -> Any:
        return 3 * size / (1 + 10 * t / end)

    def jumping(t: float) -> Any:
        return uneven * (4.0 if t < jump else 0.5)

    return [decay("constant", size, lambda t: size), decay("per coordinate", uneven, lambda t: uneven),
            decay("function of time", fading, fading),
            decay("per coordinate, jumping in time", jumping, jumping, (jump,))]


def _mean_over_coordinates(part: DecayLaw, setting: Setting) -> DecayLaw | None:
    if "per coordinate" not in part.name:
        return None
    return replace(part, pair=formula(setting.net, lambda t: np.mean(part.strength(t))))


def _frozen_at_start(part: DecayLaw, setting: Setting) -> DecayLaw | None:
    if "time" not in part.name:
        return None
    return replace(part, pair=formula(setting.net, lambda t: part.strength(0.0)))


def _engine_with(change: Callable[[Strength], Strength]) -> Callable[[DecayLaw, Setting], DecayLaw]:
    return lambda part, setting: replace(part, engine=stand_in(formula(setting.net, change(part.strength))))


THEOREMS = (
    Theorem(
        key="T16",
        title="Weight decay",
        statement="alpha_eff = alpha exp(-2 int lam) for the penalty sum lam (u^2 + v^2), lam of time and coordinate",
        source='Jacobs & Burkholz 2024, "Mask in the mirror"',
        kind="exact",
        tolerance=exact.TOLERANCE,
        derive=derive_weight_decay,
        parts=parts,
        mutants=exact.mutants(**exact.SHRINKING_MUTANTS, **{
            "penalty lam/2 (u^2 + v^2)": lambda part, setting: replace(part, factor=1.0),
            "sign of lam swapped": lambda part, setting: replace(part, factor=-2.0),
            "mean of lam over coordinates": _mean_over_coordinates,
            "lam frozen at its start": _frozen_at_start,
            "engine: sign of lam swapped": _engine_with(lambda strength: lambda t: -strength(t)),
            "engine: penalty lam/2 (u^2 + v^2)": _engine_with(lambda strength: lambda t: strength(t) / 2),
        }),
    ),
)
