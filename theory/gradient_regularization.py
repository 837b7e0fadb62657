"""T4: gradient regularization in a diagonal linear network, by finite differences and with the exact Hessian."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import sympy as sp

from . import _exact as exact
from ._derivation import Derivation
from ._engine import Pair, library, stand_in
from ._exact import ExactLaw
from ._expansions import expand_in_ascent_step, moved_gradients
from ._fields import gradient_regularization, over_norm
from ._network import Array, Network, SymbolicNetwork
from ._registry import Theorem
from ._setting import Setting
from ._steps import PAST, TIME, Gradients, argmin, effective_scale, law, pair, perturb, start

__all__ = ["SCHEMES", "THEOREMS", "Q", "formula"]

SCHEMES = ("forward", "backward", "centered", "exact")

#: Gradient in the predictor at the weights, and at the weights moved up and down the gradient by epsilon.
G, G_UP, G_DOWN = sp.symbols("g g_up g_down", real=True)
#: Coefficients of epsilon and of its square in the gradient at the moved weights.
FIRST, SECOND = sp.symbols("a b", real=True)
GAMMA, EPSILON = sp.symbols("gamma epsilon", positive=True)

#: What the theorem says: q of each scheme, and the finite difference that p contains.
Q = {
    "forward": 2 * GAMMA * G * G_UP,
    "backward": 2 * GAMMA * G * G_DOWN,
    "centered": GAMMA * G * (G_UP + G_DOWN),
    "exact": 2 * GAMMA * G**2,
}
DIFFERENCE = {
    "forward": (G_UP - G) / EPSILON,
    "backward": (G - G_DOWN) / EPSILON,
    "centered": (G_UP - G_DOWN) / (2 * EPSILON),
}


def symbolic_velocity(net: SymbolicNetwork, scheme: str, at: Gradients, up: Gradients, down: Gradients) -> sp.Matrix:
    """Write a scheme's velocity in weight space with sympy's derivatives of the loss."""
    here, above, below = at.of_weights, up.of_weights, down.of_weights
    difference = {"forward": (above - here) / EPSILON, "backward": (here - below) / EPSILON,
                  "centered": (above - below) / (2 * EPSILON)}
    return -(here + GAMMA * difference[scheme])


def expanded_pairs() -> dict[str, tuple[sp.Expr, sp.Expr]]:
    """Give p and q of one coordinate of every scheme in g, a and b: the gradient at the moved weights is `g +- e a + e^2 b`."""
    place = {G_UP: G + EPSILON * FIRST + EPSILON**2 * SECOND, G_DOWN: G - EPSILON * FIRST + EPSILON**2 * SECOND}
    pairs = {scheme: (G + GAMMA * difference.subs(place, simultaneous=True), Q[scheme].subs(place, simultaneous=True))
             for scheme, difference in DIFFERENCE.items()}
    return pairs | {"exact": (G + GAMMA * FIRST, Q["exact"])}


def derive_schemes() -> Derivation:
    """Derive T4: the pair of every scheme, and the effective initialisation of each."""
    d, net = Derivation("T4", "Gradient regularization shrinks the initialisation"), SymbolicNetwork()
    at = start(d, net)
    up = perturb(d, net, at, EPSILON, "up")
    down = perturb(d, net, at, -EPSILON, "down")
    for scheme in DIFFERENCE:
        places = [dict(zip((G, G_UP, G_DOWN), values, strict=True))
                  for values in zip(at.of_beta, up.of_beta, down.of_beta, strict=True)]
        p = [G.subs(place) + GAMMA * DIFFERENCE[scheme].subs(place, simultaneous=True) for place in places]
        q = [Q[scheme].subs(place, simultaneous=True) for place in places]
        pair(d, net, f"The pair of the {scheme} difference", symbolic_velocity(net, scheme, at, up, down), p, q)
    _exact_hessian(d, net, at)
    moved_gradients(d, net, at, EPSILON, up, down)
    expand_in_ascent_step(d, EPSILON, GAMMA, expanded_pairs(), (G, FIRST, SECOND))
    _not_squared(d, net)
    law(d)
    _effective_scales(d)
    argmin(d)
    return d


def _exact_hessian(d: Derivation, net: SymbolicNetwork, at: Gradients) -> None:
    sizes = [u**2 + v**2 for u, v in zip(net.u, net.v, strict=True)]
    R = d.define(sp.Function("R")(*net.weights), sp.Add(*(slope**2 for slope in at.of_weights)),
                 "squared norm of the gradient of L in the weights")
    d.equal("The squared gradient in closed form", "the weight gradients just proved", R,
            4 * sp.Add(*(size * g**2 for size, g in zip(sizes, at.of_beta, strict=True))))
    velocity = -(at.of_weights + GAMMA / 2 * sp.Matrix([sp.Derivative(R, weight) for weight in net.weights]))
    hessian = net.X.T * net.X / (2 * net.n_samples)
    bent = hessian * sp.Matrix([4 * g * size for g, size in zip(at.of_beta, sizes, strict=True)])
    pair(d, net, "The pair of the exact Hessian: descent of L + (gamma/2) R", velocity,
         [g + GAMMA * h for g, h in zip(at.of_beta, bent, strict=True)], [Q["exact"].subs(G, g) for g in at.of_beta])


def _not_squared(d: Derivation, net: SymbolicNetwork) -> None:
    penalty = sp.Function("R", positive=True)(*net.weights)
    d.equal("The norm, not squared: gamma/|grad L| in place of gamma", "the chain rule through |grad L| = sqrt(R)",
            sp.Matrix([sp.Derivative(GAMMA * sp.sqrt(penalty), weight) for weight in net.weights]),
            sp.Matrix([GAMMA / sp.sqrt(penalty) * sp.Derivative(penalty, weight) / 2 for weight in net.weights]))
    d.assume("the penalty gamma |grad L|, not squared: gamma/|grad L| is a number at each time, so the pairs above hold "
             "with it for gamma; where the gradient is 0 the rule is at rest")


def _effective_scales(d: Derivation) -> None:
    g, up, down = (sp.Function(name, real=True)(PAST) for name in ("g", "g_up", "g_down"))
    alpha = sp.Symbol("alpha", positive=True)

    claims = {
        "forward": -4 * GAMMA * sp.Integral(g * up, (PAST, 0, TIME)),
        "backward": -4 * GAMMA * sp.Integral(g * down, (PAST, 0, TIME)),
        "centered": -2 * GAMMA * sp.Integral(g * (up + down), (PAST, 0, TIME)),
        "exact": -4 * GAMMA * sp.Integral(g**2, (PAST, 0, TIME)),
    }
    for scheme, exponent in claims.items():
        rate = Q[scheme].subs({G: g, G_UP: up, G_DOWN: down}, simultaneous=True)
        effective_scale(d, f"Effective initialisation, {scheme}", rate, alpha * sp.exp(exponent), alpha)


_LAMBDIFIED_Q = {scheme: sp.lambdify((G, G_UP, G_DOWN, GAMMA), q, "numpy") for scheme, q in Q.items()}
_LAMBDIFIED_DIFFERENCE = {scheme: sp.lambdify((G, G_UP, G_DOWN, EPSILON), difference, "numpy")
                          for scheme, difference in DIFFERENCE.items()}


def gradient_at_moved_weights(net: Network, u: Array, v: Array, radius: Any) -> Array:
    """Evaluate the gradient in the predictor at the weights moved along their gradient: `g_e` of the theorem."""
    gu, gv = net.gradient(u, v)
    return net.beta_gradient(u + radius * gu, v + radius * gv)


def gradient_at_moved_predictor(net: Network, u: Array, v: Array, radius: Any) -> Array:
    """Evaluate it at `beta + radius g`: the mistake that a mutant makes."""
    return net.loss_slope(net.predictor(u, v) + radius * net.beta_gradient(u, v))


def formula(net: Network, gamma: float, epsilon: float | None = None, scheme: str = "forward", squared: bool = True,
            moved: Callable[[Network, Array, Array, Any], Array] = gradient_at_moved_weights) -> Pair:
    """Give the pair (p, q) of gradient regularization by the theorem's formulas."""

    def pair_of(t: float, u: Array, v: Array) -> tuple[Array, Array]:
        g = net.beta_gradient(u, v)
        strength = gamma if squared else over_norm(gamma, *net.gradient(u, v))
        if scheme == "exact":
            bent = (4 * g * (u * u + v * v)) @ net.X.T @ net.X / (2 * net.n_samples)
            return g + strength * bent, _LAMBDIFIED_Q[scheme](g, g, g, strength)
        up, down = moved(net, u, v, epsilon), moved(net, u, v, -epsilon)  # type: ignore[operator]
        difference = _LAMBDIFIED_DIFFERENCE[scheme](g, up, down, epsilon)
        return g + strength * difference, _LAMBDIFIED_Q[scheme](g, up, down, strength)

    return pair_of


def strengths(setting: Setting) -> tuple[float, float]:
    """Give gamma and epsilon of natural size: both change the flow visibly and leave it stable."""
    return 0.5 / setting.gradient_unit, 0.3 / setting.gradient_unit


def _regularized(setting: Setting, scheme: str, squared: bool) -> ExactLaw:
    net = setting.net
    gamma, epsilon = strengths(setting)
    if not squared:
        gamma *= 0.5 * setting.initial_gradient_norm
    step = None if scheme == "exact" else epsilon
    return ExactLaw(
        name=scheme + ("" if squared else ", norm not squared"),
        engine=library(lambda dln: dln.GradientRegularization(gamma, step, scheme, squared)),
        velocity=gradient_regularization(net, gamma, step, scheme, squared),
        pair=formula(net, gamma, step, scheme, squared),
        alpha=setting.alpha, log_ratio=setting.log_ratio,
        times=setting.times(exact.LEVELS) if squared else setting.times(exact.GRADIENT_LEVELS, of="gradient"))


def parts(setting: Setting) -> list[ExactLaw]:
    """Check T4 for the four schemes, and two of them with the norm not squared."""
    rules = [(scheme, True) for scheme in SCHEMES] + [("forward", False), ("exact", False)]
    return [_regularized(setting, *rule) for rule in rules]


def _with_formula(change: Callable[[str], str], moved: Any = gradient_at_moved_weights,
                  only: tuple[str, ...] = SCHEMES, engine: bool = False) -> exact.Mutant:
    """Use the formulas of another scheme, or of another point of evaluation, in the claim or in the engine."""

    def mutant(part: ExactLaw, setting: Setting) -> ExactLaw | None:
        if part.name not in only:
            return None
        gamma, epsilon = strengths(setting)
        wrong = formula(setting.net, gamma, epsilon, change(part.name), moved=moved)
        return replace(part, engine=stand_in(wrong)) if engine else replace(part, pair=wrong)

    return mutant


def _swapped(scheme: str) -> str:
    return {"forward": "backward", "backward": "forward"}[scheme]


ONE_SIDED = ("forward", "backward")
DIFFERENCES = ("forward", "backward", "centered")

THEOREMS = (
    Theorem(
        key="T4",
        title="Gradient regularization",
        statement="alpha_eff = alpha exp(-4 gamma int g g_e); backward g g_{-e}, centred their mean, exact Hessian g^2",
        source='Karakida et al. 2023, "Understanding gradient regularization in deep learning: efficient '
               'finite-difference computation and implicit bias"',
        kind="exact",
        tolerance=exact.TOLERANCE,
        derive=derive_schemes,
        parts=parts,
        mutants=exact.mutants(**exact.SHRINKING_MUTANTS, **{
            "sign of epsilon swapped": _with_formula(_swapped, only=ONE_SIDED),
            "gradient at beta + epsilon g": _with_formula(str, gradient_at_moved_predictor, DIFFERENCES),
            "finite difference taken for the exact Hessian": _with_formula(lambda scheme: "exact", only=DIFFERENCES),
            "engine: sign of epsilon swapped": lambda part, setting: None if part.name not in ONE_SIDED else replace(
                part, engine=library(lambda dln: dln.GradientRegularization(*strengths(setting), _swapped(part.name)))),
            "engine: gradient at beta + epsilon g": _with_formula(str, gradient_at_moved_predictor, DIFFERENCES, True),
            "engine: gamma off by 1 percent": lambda part, setting: None if part.name != "exact" else replace(
                part, engine=library(lambda dln: dln.GradientRegularization(1.01 * strengths(setting)[0],
                                                                            scheme="exact"))),
            "engine: norm squared": lambda part, setting: None if "not squared" not in part.name else replace(
                part, engine=library(lambda dln: dln.GradientRegularization(strengths(setting)[0], scheme="exact"))),
        }),
    ),
)
