"""T1 and T2: gradient flow from a uniform, an uneven and a shaped initialisation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import sympy as sp

from . import _exact as exact
from ._derivation import Derivation
from ._duality import dual, flow_curvature
from ._engine import Pair, library, stand_in
from ._exact import ExactLaw
from ._fields import gradient_flow
from ._network import Array, Network, SymbolicNetwork
from ._registry import Theorem
from ._setting import Setting
from ._steps import argmin, law, limits, pair, start

__all__ = ["THEOREMS"]


def _derive(key: str, title: str, shaped: bool) -> Derivation:
    d, net = Derivation(key, title), SymbolicNetwork()
    at = start(d, net)
    pair(d, net, "Gradient flow is the pair p = g, q = 0", -at.of_weights, list(at.of_beta), [sp.S.Zero] * 2)
    law(d, shaped=shaped, shrinking=False)
    argmin(d, shaped=shaped)
    dual(d, sp.Symbol("a_t", positive=True))
    flow_curvature(d, net)
    if not shaped:
        limits(d)
    return d


def derive_uniform() -> Derivation:
    """Derive T1: `u0 = v0 = alpha`."""
    return _derive("T1", "Gradient flow minimises the hyperbolic entropy", shaped=False)


def derive_shaped() -> Derivation:
    """Derive T2: any positive u0 and v0."""
    return _derive("T2", "Gradient flow from unequal weights minimises a Bregman divergence", shaped=True)


def formula(net: Network) -> Pair:
    """Give the pair of gradient flow: p = g, q = 0."""
    return lambda t, u, v: (net.beta_gradient(u, v), np.zeros_like(u))


def _law(name: str, setting: Setting, alpha: Array, log_ratio: Array) -> ExactLaw:
    net = setting.net
    return ExactLaw(name, library(lambda dln: dln.GradientFlow()), gradient_flow(net), formula(net), alpha, log_ratio,
                    setting.times(exact.LEVELS))


def parts_uniform(setting: Setting) -> list[ExactLaw]:
    """Check T1 from one alpha for all coordinates."""
    alpha = np.full_like(setting.alpha, np.exp(np.mean(np.log(setting.alpha))))
    return [_law("u0 = v0 = alpha", setting, alpha, np.zeros_like(alpha))]


def parts_shaped(setting: Setting) -> list[ExactLaw]:
    """Check T2 from one alpha per coordinate, with equal and with unequal weights."""
    return [_law("alpha per coordinate", setting, setting.alpha, np.zeros_like(setting.alpha)),
            _law("alpha per coordinate, u0 != v0", setting, setting.alpha, setting.log_ratio)]


def _twice_as_fast(part: ExactLaw, setting: Setting) -> ExactLaw:
    return replace(part, engine=stand_in(exact.scaled(part.pair, of_p=2.0)))


def _leaking(part: ExactLaw, setting: Setting) -> ExactLaw:
    def pair_with_decay(t: float, u: Array, v: Array) -> tuple[Array, Array]:
        p, _ = part.pair(t, u, v)
        return p, np.full_like(p, 1e-6 * setting.gradient_unit)

    return replace(part, engine=stand_in(pair_with_decay))


def _uniform_alpha(part: ExactLaw, setting: Setting) -> ExactLaw:
    one = np.full_like(part.alpha, np.mean(np.log(part.alpha)))
    return replace(part, center=lambda log_scale, log_ratio: exact.center_of(one, log_ratio),
                   potential_shift=one - np.log(part.alpha))


def _only_if_shaped(mutant: exact.Mutant) -> exact.Mutant:
    return lambda part, setting: mutant(part, setting) if np.any(part.log_ratio) else None


COMMON_MUTANTS = exact.mutants(**{
    "potential without its 2": exact.potential_without_2,
    "p off by 1 percent": lambda part, setting: replace(part, pair=exact.scaled(part.pair, of_p=1.01)),
    "engine: p off by 1 percent": exact.engine_p_off_by_1_percent,
    "engine: loss with 1/(2N)": _twice_as_fast,
    "engine: leaks alpha": _leaking,
})

THEOREMS = (
    Theorem(
        key="T1",
        title="Gradient flow",
        statement="beta(t) = -2 alpha^2 sinh(4 int g) minimises the hyperbolic entropy of alpha given X beta(t)",
        source='Woodworth et al. 2020, "Kernel and rich regimes in overparametrized models"',
        kind="exact",
        tolerance=exact.TOLERANCE,
        derive=derive_uniform,
        parts=parts_uniform,
        mutants=COMMON_MUTANTS | exact.mutants(**{
            "alpha in place of alpha^2": lambda part, setting: replace(part, potential_shift=-np.log(part.alpha) / 2),
        }),
    ),
    Theorem(
        key="T2",
        title="Unequal, shaped initialisation",
        statement="beta(t) minimises the Bregman divergence from 2 alpha^2 sinh(log(u0/v0)) given X beta(t)",
        source='Azulay et al. 2021, "On the implicit bias of initialization shape"',
        kind="exact",
        tolerance=exact.TOLERANCE,
        derive=derive_shaped,
        parts=parts_shaped,
        mutants=COMMON_MUTANTS | exact.mutants(**{
            "centre dropped": _only_if_shaped(exact.center_dropped),
            "sign of the centre swapped": _only_if_shaped(lambda part, setting: replace(
                part, center=lambda log_scale, log_ratio: exact.center_of(log_scale, -log_ratio))),
            "centre with log(u0/v0)/2": _only_if_shaped(lambda part, setting: replace(
                part, center=lambda log_scale, log_ratio: exact.center_of(log_scale, log_ratio / 2))),
            "one alpha for all coordinates": _uniform_alpha,
        }),
    ),
)
