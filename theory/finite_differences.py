"""T5: how fast the limits of finite-difference gradient regularization tend to that of the exact Hessian."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import sympy as sp
from scipy.linalg import lstsq

from ._derivation import Derivation
from ._engine import library_limit
from ._exact import center_of
from ._expansions import expand_in_ascent_step, moved_gradients
from ._fields import Velocity, gradient_regularization
from ._minimiser import minimise_divergence
from ._network import Array, Network, SymbolicNetwork
from ._raw_route import integrate, settle
from ._registry import Finding, Mutant, Theorem
from ._scale_orders import SCALE_MUTANTS, ScaleOrder, scale_orders
from ._setting import Setting
from ._slopes import MAX_HALF_WIDTH, slope_finding
from ._steps import perturb, start
from .gradient_regularization import DIFFERENCE, EPSILON, FIRST, G_DOWN, G_UP, GAMMA, SECOND, G, Q, expanded_pairs, strengths

__all__ = ["THEOREMS"]

ORDERS = {"forward": 1.0, "backward": 1.0, "centered": 2.0}

#: What remains after the leading term: all powers of epsilon, or by symmetry only the even ones.
CORRECTIONS = {"forward": (1, 2), "backward": (1, 2), "centered": (2, 4)}


def derive_orders() -> Derivation:
    """Derive T5: the distance of each scheme's (p, q) from that of the exact Hessian, in full, in powers of epsilon."""
    d, net = Derivation("T5", "Orders of the finite differences of gradient regularization"), SymbolicNetwork()
    at = start(d, net)
    up, down = perturb(d, net, at, EPSILON, "up"), perturb(d, net, at, -EPSILON, "down")
    coordinates = moved_gradients(d, net, at, EPSILON, up, down)
    a, b = [a_j for _, a_j, _ in coordinates], [b_j for _, _, b_j in coordinates]
    places = [dict(zip((G, G_UP, G_DOWN), values, strict=True))
              for values in zip(at.of_beta, up.of_beta, down.of_beta, strict=True)]
    sign = {"forward": 1, "backward": -1}
    for scheme in ORDERS:
        p = [GAMMA * DIFFERENCE[scheme].subs(place, simultaneous=True) for place in places]
        q = [Q[scheme].subs(place, simultaneous=True) for place in places]
        error_p = [GAMMA * sign.get(scheme, 0) * EPSILON * b_j for _, _, b_j in coordinates]
        error_q = [2 * GAMMA * g * (sign.get(scheme, 0) * EPSILON * a_j + EPSILON**2 * b_j)
                   for g, a_j, b_j in coordinates]
        d.equal(f"p and q of the {scheme} difference, less those of the exact Hessian", "the polynomial just proved",
                sp.Matrix([one - GAMMA * a_j for one, a_j in zip(p, a, strict=True)]
                          + [one - Q["exact"].subs(G, g) for one, g in zip(q, at.of_beta, strict=True)]),
                sp.Matrix(error_p + error_q))
    example = dict(zip((*net.X, *net.y, *net.u, *net.v), (1, 2, -1, 1, 1, 2, 2, 1, 1, 3), strict=True))
    for name, term in (("order 1", at.of_beta[0] * a[0]), ("order 2", at.of_beta[0] * b[0])):
        value = d.write_out(term).subs(example)
        d.positive(f"The term of {name} does not vanish identically",
                   "an example: its square for one choice of data and weights", value**2)
    expand_in_ascent_step(d, EPSILON, GAMMA, expanded_pairs(), (G, FIRST, SECOND))
    d.conclude("the velocity of the forward and of the backward difference is off by epsilon, that of the centred one "
               "by epsilon^2; at any time beta depends smoothly on the velocity, and so does its limit where the flow "
               "contracts to it: the distance of the limits has order 1, 1 and 2, unless its leading term vanishes")
    return d


@dataclass(frozen=True)
class Rest:
    """Where the raw route stops: the time, and whether the reference run has come to rest by then."""

    time: float
    at_rest: bool


def raw_limits(setting: Setting, velocity: Velocity, count: int, rest: Rest) -> Array:
    """Take the limits of several runs by the raw route, shape (count, d).

    Where the data are so ill-conditioned that an explicit method in raw weights cannot come to rest, the rule is
    switched to plain gradient flow where it stops, and the limit of that (T2) is taken from the SciPy minimiser.
    """
    u0, v0 = (np.tile(weights, (count, 1)) for weights in setting.weights())
    run = integrate(velocity, u0, v0, np.array([rest.time]))
    if rest.at_rest:
        return run.betas[0]
    X, y = setting.data.X, setting.data.y
    reachable = X @ lstsq(X, y)[0]
    now = np.log(run.u[0]) - np.log(run.v[0])
    return np.array([minimise_divergence(X, reachable, scale, center_of(scale, ratio)).beta
                     for scale, ratio in zip(run.log_scales[0], now, strict=True)])


@dataclass(frozen=True)
class DifferenceOrder:
    """The claimed order of a finite difference, and the two routes to the limits that it speaks of.

    Attributes
    ----------
    name : str
        The scheme.
    order : float
        The claim.
    ladder : ndarray of shape (K,)
        Ascent steps.
    velocity : callable
        `steps -> Velocity`, all steps of the ladder at once.
    rule : callable
        `(dln, step=...) -> the library's rule`.
    raw_reference, engine_reference : callable
        Give the limit with the exact Hessian by each route; the first also where it was taken.
    """

    name: str
    order: float
    ladder: Array
    velocity: Callable[[Array], Velocity]
    rule: Callable[..., Any]
    raw_reference: Callable[[], tuple[Array, Rest]]
    engine_reference: Callable[[], Array]

    def measure(self, setting: Setting) -> Finding:
        """Fit the order of the distance by both routes."""
        reference, rest = self.raw_reference()
        raw = raw_limits(setting, self.velocity(self.ladder[:, None]), len(self.ladder), rest)
        engine_reference = self.engine_reference()
        engine = np.array([library_limit(partial(self.rule, step=float(step)), setting.data, setting.alpha,
                                         setting.log_ratio) for step in self.ladder])
        distances = {"raw": np.linalg.norm(raw - reference, axis=1),
                     "engine": np.linalg.norm(engine - engine_reference, axis=1)}
        size = float(np.linalg.norm(reference))
        apart = float(np.linalg.norm(reference - engine_reference)) / size
        # The noise is what two limits of one and the same run differ by: accuracy of the integrators, measured.
        finding = slope_finding(self.ladder, distances, self.order, CORRECTIONS[self.name], noise=3e-13 * size)
        return replace(finding, details={**finding.details, "distance_between_references": apart, "raw_time": rest.time,
                                         "raw_at_rest": rest.at_rest})


def _reference(setting: Setting, gamma: float) -> tuple[Callable[[], tuple[Array, Rest]], Callable[[], Array]]:
    """Give the limit with the exact Hessian, by both routes, computed once and only if asked for."""

    def raw() -> tuple[Array, Rest]:
        velocity = gradient_regularization(setting.net, gamma, scheme="exact")
        rest = Rest(*settle(velocity, setting.net, *setting.weights()))
        return raw_limits(setting, velocity, 1, rest)[0], rest

    def engine() -> Array:
        return library_limit(lambda dln: dln.GradientRegularization(gamma, scheme="exact"), setting.data, setting.alpha,
                             setting.log_ratio)

    return cache(raw), cache(engine)


def parts(setting: Setting) -> list[DifferenceOrder | ScaleOrder]:
    """Check T5 for the three differences on a ladder of ascent steps: their limits, and alpha_eff at a finite time."""
    gamma, epsilon = strengths(setting)
    ladder = epsilon * 0.5 ** np.arange(6)
    raw, engine = _reference(setting, gamma)

    def difference(scheme: str) -> DifferenceOrder:
        return DifferenceOrder(scheme, ORDERS[scheme], ladder,
                               lambda steps: gradient_regularization(setting.net, gamma, steps, scheme),
                               lambda dln, step: dln.GradientRegularization(gamma, step, scheme), raw, engine)

    return [*map(difference, ORDERS), *scale_orders(setting, gamma, ladder)]


# --- mutants ---------------------------------------------------------------------------------------------------------


def _moved_predictor(net: Network, gamma: float, epsilon: Array) -> Velocity:
    """Take the forward difference of gradients at `beta + epsilon g`, weights unmoved: the mistake of a mutant."""

    def velocity(t: float, u: Array, v: Array) -> tuple[Array, Array]:
        g = net.beta_gradient(u, v)
        g_up = net.loss_slope(net.predictor(u, v) + epsilon * g)
        p, q = g + gamma / epsilon * (g_up - g), 2 * gamma * g * g_up
        return -2 * u * (p + q), 2 * v * (p - q)

    return velocity


def _claim(**orders: float) -> Callable[[DifferenceOrder, Setting], DifferenceOrder | None]:
    return lambda part, setting: replace(part, order=orders[part.name]) if part.name in orders else None


def _engine_scheme(scheme: str, **others: str) -> Callable[[DifferenceOrder, Setting], DifferenceOrder | None]:
    def mutant(part: DifferenceOrder, setting: Setting) -> DifferenceOrder | None:
        gamma = strengths(setting)[0]
        return None if part.name != scheme else replace(
            part, rule=lambda dln, step: dln.GradientRegularization(gamma, step, others["runs"]))

    return mutant


def _reference_off(part: DifferenceOrder, setting: Setting) -> DifferenceOrder:
    raw, engine = _reference(setting, 1.01 * strengths(setting)[0])
    return replace(part, raw_reference=raw, engine_reference=engine)


def _at_moved_predictor(part: DifferenceOrder, setting: Setting) -> DifferenceOrder | None:
    gamma = strengths(setting)[0]
    return None if part.name != "forward" else replace(
        part, velocity=lambda steps: _moved_predictor(setting.net, gamma, steps))


def _mutants(**of_limits: Callable[[DifferenceOrder, Setting], DifferenceOrder | None]) -> dict[str, Mutant]:
    """Give each mutant the parts of its own kind: limits, or alpha_eff at a finite time."""

    def of_limit(mutant: Any) -> Mutant:
        return lambda part, setting: mutant(part, setting) if isinstance(part, DifferenceOrder) else None

    def of_scale(mutant: Any) -> Mutant:
        return lambda part, setting: (mutant(part, setting, strengths(setting)[0]) if isinstance(part, ScaleOrder)
                                      else None)

    return ({name: of_limit(mutant) for name, mutant in of_limits.items()}
            | {name: of_scale(mutant) for name, mutant in SCALE_MUTANTS.items()})


THEOREMS = (
    Theorem(
        key="T5",
        title="Order of the finite differences",
        statement="|beta_inf - that of the exact Hessian| is of order 1, 1, 2 in epsilon (forward, backward, centred); "
                  "so is log alpha_eff",
        source='Karakida et al. 2023, "Understanding gradient regularization in deep learning: efficient '
               'finite-difference computation and implicit bias"',
        kind="limit",
        tolerance=MAX_HALF_WIDTH,
        derive=derive_orders,
        parts=parts,
        mutants=_mutants(**{
            "all orders 1": _claim(centered=1.0),
            "all orders 2": _claim(forward=2.0, backward=2.0),
            "centred order 3": _claim(centered=3.0),
            "one-sided order 3/2": _claim(forward=1.5, backward=1.5),
            "exact Hessian with gamma off by 1 percent": _reference_off,
            "gradient at beta + epsilon g": _at_moved_predictor,
            "engine: centred run as forward": _engine_scheme("centered", runs="forward"),
            "engine: forward run as centred": _engine_scheme("forward", runs="centered"),
        }),
    ),
)
