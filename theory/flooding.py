"""T9: flooding is gradient regularization by finite differences, step for step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp

from . import _discrete as discrete
from ._derivation import Derivation
from ._discrete import DiscreteLaw, StepPair
from ._fields import Velocity, gradient_flow
from ._network import Array, Network, SymbolicNetwork
from ._raw_descent import constant, descend, each_step
from ._raw_route import RouteError
from ._registry import Finding, Mutant, Part, Theorem
from ._setting import Data, Setting
from ._steps import pair, perturb, start

__all__ = ["THEOREMS", "flooding", "level_of"]

ETA = sp.Symbol("eta", positive=True)

#: How far a claim about the weights after two steps may be off, relative to the largest weight.
TOLERANCE = 1e-13

#: Steps of a run, and which of them first crosses the level.
N_STEPS, DOWN = 300, 40
#: Step counts at which the law of T11 is checked; long before rounding can decide on which side of the level a step lands.
COUNTS = (10, 60, 120, 200)

DOWN_UP, UP_DOWN = "descent then ascent", "ascent then descent"


def derive_flooding() -> Derivation:
    """Derive T9: two opposite steps are one step along a finite difference, and u v shrinks at every step."""
    d, net = Derivation("T9", "Flooding is gradient regularization by finite differences"), SymbolicNetwork()
    d.assume("flooding descends above the level and ascends below it: a step is -eta s grad L with s = 1 or -1; around the "
             "level the signs alternate")
    at = start(d, net)
    down, up = perturb(d, net, at, -ETA, "down"), perturb(d, net, at, ETA, "up")
    weights = sp.Matrix(net.weights)
    d.equal("Descent then ascent: one step eta^2 along the backward difference with epsilon = eta",
            "the weights after the first step are those moved down the gradient by eta",
            (weights - ETA * at.of_weights) + ETA * down.of_weights,
            weights - ETA**2 * (at.of_weights - down.of_weights) / ETA)
    d.equal("Ascent then descent: the same along the forward difference",
            "the weights after the first step are those moved up the gradient by eta",
            (weights + ETA * at.of_weights) - ETA * up.of_weights,
            weights - ETA**2 * (up.of_weights - at.of_weights) / ETA)
    pair(d, net, "The backward difference alone, without the loss: its pair", -(at.of_weights - down.of_weights) / ETA,
         [(g - g_down) / ETA for g, g_down in zip(at.of_beta, down.of_beta, strict=True)],
         [2 * g * g_down for g, g_down in zip(at.of_beta, down.of_beta, strict=True)])
    pair(d, net, "The forward difference alone", -(up.of_weights - at.of_weights) / ETA,
         [(g_up - g) / ETA for g, g_up in zip(at.of_beta, up.of_beta, strict=True)],
         [2 * g * g_up for g, g_up in zip(at.of_beta, up.of_beta, strict=True)])
    for words, sign in (("down", 1), ("up", -1)):
        moved = weights - sign * ETA * at.of_weights
        n = net.n_features
        d.equal(f"A step {words} multiplies u v by 1 - 4 eta^2 g^2", "the weight gradients are 2 u g and -2 v g",
                sp.Matrix([moved[j] * moved[n + j] for j in range(n)]),
                sp.Matrix([u * v * (1 - 4 * ETA**2 * g**2) for u, v, g in zip(net.u, net.v, at.of_beta, strict=True)]))
    s = sp.Symbol("s", real=True)
    g = sp.Symbol("g", real=True)
    d.equal("whatever the sign", "s^2 = 1", ((1 - 2 * ETA * s * g) * (1 + 2 * ETA * s * g)).subs(s**2, 1),
            1 - 4 * ETA**2 * s**2 * g**2)
    d.conclude("so alpha_eff^2 = u0 v0 prod |1 - 4 eta^2 g^2| over all steps, up or down, and the law of T11 holds with "
               "p = s g, q = 0")
    d.conclude("where L equals the level the sign is 0 and nothing moves")
    return d


# --- the rule, by both routes ----------------------------------------------------------------------------------------


def level_of(setting: Setting) -> float:
    """Give a level that descent crosses in the middle of a step, at a known one: it is reached whatever the data."""
    run = descend(each_step(gradient_flow(setting.net)), *setting.weights(), [DOWN - 1, DOWN], constant(step_of(setting)))
    return float(np.mean(setting.net.loss(run.u, run.v)))


def step_of(setting: Setting) -> float:
    """Give a step size of natural size: the loss hovers around the level, a good part of it up and down."""
    return 0.04 / (setting.curvature * setting.predictor_unit)


def flooding(net: Network, level: float) -> Velocity:
    """Descend the gradient of the loss above the level, ascend it below."""

    def velocity(t: float, u: Array, v: Array) -> tuple[Array, Array]:
        gu, gv = net.gradient(u, v)
        sign = np.sign(net.loss(u, v) - level)[..., None]
        return -sign * gu, -sign * gv

    return velocity


def flooding_pair(net: Network, level: float) -> StepPair:
    """Give the pair of flooding: p = sign(L - level) g, q = 0."""
    return lambda k, t, u, v: (np.sign(net.loss(u, v) - level) * net.beta_gradient(u, v), np.zeros_like(u))


#: `(data, setting, level, step) -> the weights after every step`, two arrays of shape (K, d).
Route = Callable[[Data, Setting, float, float], tuple[Array, Array]]


def raw_steps(data: Data, setting: Setting, level: float, step: float) -> tuple[Array, Array]:
    """Make the steps in raw weights."""
    run = descend(each_step(flooding(setting.net, level)), *setting.weights(), range(N_STEPS + 1), constant(step))
    return run.u, run.v


def library_steps(data: Data, setting: Setting, level: float, step: float) -> tuple[Array, Array]:
    """Make the steps with the library's `descend`."""
    import dln

    run = dln.descend(dln.Problem(data.X, data.y), dln.Flooding(level), step=step, n_steps=N_STEPS, alpha=setting.alpha,
                      log_ratio=setting.log_ratio, save_at=range(N_STEPS + 1))
    if not run.success or len(run.saved_steps) != N_STEPS + 1 or run.n_sign_flips:
        raise RouteError(f"the engine stopped, or a weight changed its sign: {run.message}")
    return np.exp(run.log_us), np.exp(run.log_vs)


def by_pair(pair_of: StepPair) -> Route:
    """Make an engine of any pair, right or wrong, for mutants."""

    def route(data: Data, setting: Setting, level: float, step: float) -> tuple[Array, Array]:
        u, v = setting.weights()
        us, vs = [u], [v]
        for k in range(N_STEPS):
            p, q = pair_of(k, k * step, u, v)
            u, v = u * (1 - 2 * step * (p + q)), v * (1 + 2 * step * (p - q))
            us.append(u)
            vs.append(v)
        return np.array(us), np.array(vs)

    return route


# --- the check -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StepPairs:
    """The claim that two opposite steps are one step along a finite difference, at every such pair of a full run.

    Attributes
    ----------
    name : str
        Which step comes first.
    side : {1, -1}
        The claim: the difference is of the gradient at the weights moved by `side epsilon grad L`, and that here.
    epsilon, length : float
        The claims: epsilon and the length of the step are `epsilon eta` and `length eta^2`.
    moved : callable
        `(net, u, v, radius) -> weights` at which the second gradient is taken.
    engine : Route
    """

    name: str
    side: int
    epsilon: float = 1.0
    length: float = 1.0
    at_predictor: bool = False
    engine: Route = library_steps

    def measure(self, setting: Setting) -> Finding:
        """Find the largest discrepancy over all pairs of neighbouring steps of opposite sign, by both routes."""
        level, step = level_of(setting), step_of(setting)
        found: dict[str, Any] = {"level": level, "step": step}
        for name, route in (("raw", raw_steps), ("engine", self.engine)):
            u, v = route(setting.data, setting, level, step)
            above = setting.net.loss(u, v) > level
            first = above[:-2] if self.name == DOWN_UP else ~above[:-2]
            places = np.flatnonzero(first & (above[1:-1] != above[:-2]))
            if places.size < 10:
                raise RouteError(f"the {name} route has {places.size} pairs of opposite steps: too few to check")
            claimed = self._claimed(setting.net, u[places], v[places], step)
            truth = np.stack([u[places + 2], v[places + 2]])
            found[name] = float(np.max(np.abs(claimed - truth)) / np.max(np.abs(truth)))
            found[f"{name}_pairs"] = int(places.size)
        numbers = np.array([found["raw"], found["engine"]])
        worst = float(np.max(numbers)) if np.all(np.isfinite(numbers)) else float("inf")
        return Finding(worst, TOLERANCE, worst <= TOLERANCE, found)

    def _claimed(self, net: Network, u: Array, v: Array, step: float) -> Array:
        here, radius = net.gradient(u, v), self.side * self.epsilon * step
        if self.at_predictor:
            g = net.loss_slope(net.predictor(u, v) + radius * net.beta_gradient(u, v))
            there = 2 * u * g, -2 * v * g
        else:
            there = net.gradient(u + radius * here[0], v + radius * here[1])
        difference = (np.stack(there) - np.stack(here)) / radius
        return np.stack([u, v]) - self.length * step**2 * difference


@dataclass(frozen=True)
class Shrinking:
    """The claim that every step, up or down, multiplies u v by `1 - factor eta^2 g^2`."""

    name: str
    factor: float = 4.0
    power: float = 2.0
    after: int = 0
    signed: bool = False
    engine: Route = library_steps

    def measure(self, setting: Setting) -> Finding:
        """Find the largest relative discrepancy over all steps, by both routes."""
        level, step, net = level_of(setting), step_of(setting), setting.net
        found: dict[str, Any] = {"level": level, "step": step}
        for name, route in (("raw", raw_steps), ("engine", self.engine)):
            u, v = route(setting.data, setting, level, step)
            g = net.beta_gradient(u, v)[self.after : len(u) - 1 + self.after]
            sign = np.sign(net.loss(u, v) - level)[:-1, None] if self.signed else 1.0
            claimed = 1 - sign * self.factor * (step * np.abs(g)) ** self.power
            found[name] = float(np.max(np.abs(u[1:] * v[1:] / (u[:-1] * v[:-1] * claimed) - 1)))
        numbers = np.array([found["raw"], found["engine"]])
        worst = float(np.max(numbers)) if np.all(np.isfinite(numbers)) else float("inf")
        return Finding(worst, TOLERANCE, worst <= TOLERANCE, found)


LAW, PRODUCT = "law of discrete steps", "u v at every step"


def parts(setting: Setting) -> list[Part]:
    """Check T9 at every pair of steps and every step of a run around the level, and the law of T11 along it."""
    level = level_of(setting)
    law = DiscreteLaw(LAW, discrete.library(lambda dln: dln.Flooding(level)), each_step(flooding(setting.net, level)),
                      flooding_pair(setting.net, level), setting.alpha, setting.log_ratio, COUNTS, constant(step_of(setting)),
                      shrinks=False)
    return [StepPairs(DOWN_UP, -1), StepPairs(UP_DOWN, 1), Shrinking(PRODUCT), law]


# --- mutants ---------------------------------------------------------------------------------------------------------


def _of(kind: Any, **wrong: Any) -> Mutant:
    return lambda part, setting: replace(part, **wrong) if isinstance(part, kind) else None


def _swapped(part: Any, setting: Setting) -> StepPairs | None:
    return replace(part, side=-part.side) if isinstance(part, StepPairs) else None


def _wrong_engine(change: Callable[[StepPair, Setting], StepPair]) -> Mutant:
    """Give every part an engine with another pair."""

    def mutant(part: Any, setting: Setting) -> Any:
        wrong = change(flooding_pair(setting.net, level_of(setting)), setting)
        return replace(part, engine=discrete.stand_in(wrong) if isinstance(part, DiscreteLaw) else by_pair(wrong))

    return mutant


def _decaying(pair_of: StepPair, setting: Setting) -> StepPair:
    """Add weight decay: a small q."""
    small = 1e-4 / step_of(setting)

    def wrong(k: int, t: float, u: Array, v: Array) -> tuple[Array, Array]:
        p, q = pair_of(k, t, u, v)
        return p, q + small

    return wrong


THEOREMS = (
    Theorem(
        key="T9",
        title="Flooding is finite-difference GR",
        statement="descent then ascent = one step eta^2 along the backward difference, epsilon = eta; ascent then descent: "
                  "forward; u v times 1 - 4 eta^2 g^2 at every step",
        source='Karakida et al. 2023, "Understanding gradient regularization in deep learning: efficient '
               'finite-difference computation and implicit bias"',
        kind="exact",
        tolerance=TOLERANCE,
        derive=derive_flooding,
        parts=parts,
        mutants={
            "forward and backward confused": _swapped,
            "epsilon = 2 eta": _of(StepPairs, epsilon=2.0),
            "epsilon off by 1 percent": _of(StepPairs, epsilon=1.01),
            "step eta^2/2": _of(StepPairs, length=0.5),
            "step off by 1 in a million": _of(StepPairs, length=1 + 1e-6),
            "gradient at beta + epsilon g": _of(StepPairs, at_predictor=True),
            "1 - 2 eta^2 g^2": _of(Shrinking, factor=2.0),
            "1 + 4 eta^2 g^2": _of(Shrinking, factor=-4.0),
            "1 - 4 eta^2 g^2 down, 1 + 4 eta^2 g^2 up": _of(Shrinking, signed=True),
            "g after the step": _of(Shrinking, after=1),
            "engine: p off by 1 percent": _wrong_engine(lambda pair_of, setting: discrete.scaled(pair_of, of_p=1.01)),
            "engine: a little weight decay": _wrong_engine(_decaying),
        } | discrete.mutants(**{name: discrete.COMMON_MUTANTS[name] for name in (
            "centre dropped", "centre of a flow", "factor of eta p in S halved", "engine: steps off by 1 in a million")}, **{
            "engine: level off by 1 percent": lambda part, setting: replace(
                part, engine=discrete.library(lambda dln: dln.Flooding(1.01 * level_of(setting)))),
        }),
    ),
)
