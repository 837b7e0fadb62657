"""T15: momentum, in continuous time (constant inertia, Nesterov's flow) and in discrete steps, through changes of sign."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp

from ._derivation import Derivation
from ._engine import Pair
from ._exact import DISCREPANCIES, TOLERANCE, center_of, distance, largest
from ._fields import Velocity, gradient_flow, weight_decay
from ._minimiser import minimise_divergence
from ._momentum_steps import discrete_law, flow_law, predictor_of
from ._network import Array, Network, SymbolicNetwork
from ._raw_momentum import flow_with_momentum, steps_with_momentum
from ._raw_route import RouteError
from ._registry import Finding, Mutant, Theorem
from ._setting import Setting
from ._slopes import slope_finding
from ._steps import argmin, pair, start

__all__ = ["THEOREMS"]


def derive_momentum() -> Derivation:
    """Derive T15: the logarithm of a weight under momentum, at every time and after every step."""
    d, net = Derivation("T15", "Momentum shrinks the initialisation and shifts the centre"), SymbolicNetwork()
    at = start(d, net)
    pair(d, net, "Plain gradients are the pair p = g, q = 0", -at.of_weights, list(at.of_beta), [sp.S.Zero] * net.n_features)
    d.assume("the flow exists on [0, T], no weight comes to 0 there, and p and q are continuous in time")
    flow_law(d, "constant")
    flow_law(d, "nesterov")
    d.assume("no weight of a discrete run is ever exactly 0; signs may change")
    discrete_law(d, nesterov=False)
    discrete_law(d, nesterov=True)
    predictor_of(d)
    argmin(d, shift="the effective log ratio")
    return d


# --- what is measured ------------------------------------------------------------------------------------------------

Decay = float | None


def _field(net: Network, decay: Decay) -> tuple[Velocity, Pair]:
    """Give plain gradients, or those with weight decay: in raw weights, and as a pair."""
    if decay is None:
        return gradient_flow(net), lambda t, u, v: (net.beta_gradient(u, v), np.zeros_like(u))
    return weight_decay(net, lambda t: decay), lambda t, u, v: (net.beta_gradient(u, v), np.full_like(u, decay))


def _rule(dln: Any, decay: Decay) -> Any:
    return dln.GradientFlow() if decay is None else dln.WeightDecay(decay)


def _scaled_log_start(setting: Setting) -> dict[str, Array]:
    return {"alpha": setting.alpha, "log_ratio": setting.log_ratio}


@dataclass(frozen=True)
class EngineEnd:
    """What the engine claims at several times or steps, (K, d) each."""

    betas: Array
    log_scales: Array
    log_ratios: Array


@dataclass(frozen=True)
class Claim:
    """What the theorem says at several times or steps, (K, d) each: log alpha_eff, the centre's log ratio, 4 int p."""

    log_scales: Array
    log_ratios: Array
    moved: Array


def _compare(X: Array, claim: Claim, engine: EngineEnd, betas: Array, log_scales: Array, tolerance: float,
             **details: Any) -> Finding:
    closed_form = 2 * np.exp(2 * claim.log_scales) * np.sinh(claim.log_ratios - claim.moved)
    minima = np.array([minimise_divergence(X, X @ beta, scale, center_of(scale, ratio)).beta
                       for beta, scale, ratio in zip(betas, claim.log_scales, claim.log_ratios, strict=True)])
    found: dict[str, Any] = {
        "engine_beta": distance(engine.betas, betas), "engine_scale": largest(engine.log_scales - log_scales),
        "law": largest(claim.log_scales - log_scales), "closed_form": distance(closed_form, betas),
        "argmin": distance(minima, betas)}
    numbers = np.array([*(found[key] for key in DISCREPANCIES), largest(engine.log_ratios - claim.log_ratios)])
    found["engine_ratio"] = [float(x) for x in numbers[-1]]
    worst = float(np.max(numbers)) if np.all(np.isfinite(numbers)) else float("inf")
    return Finding(worst, tolerance, worst <= tolerance, found | details)


def library_flow(decay: Decay, inertia: float | None) -> Callable[[Setting, Array], EngineEnd]:
    """Make an engine of the library's `momentum_flow`."""

    def run(setting: Setting, times: Array) -> EngineEnd:
        import dln

        problem, rows = dln.Problem(setting.data.X, setting.data.y), []
        for end in times:
            found = dln.momentum_flow(problem, _rule(dln, decay), inertia=inertia, t_end=float(end), rtol=1e-13,
                                      kind="nesterov" if inertia is None else "constant", **_scaled_log_start(setting))
            if not found.success:
                raise RouteError(f"the engine stopped at t = {found.t:.6g}: {found.message}")
            rows.append((found.beta, found.log_effective_alpha, found.effective_log_ratio))
        return EngineEnd(*(np.array(column) for column in zip(*rows, strict=True)))

    return run


@dataclass(frozen=True)
class FlowLaw:
    """The law of a flow with momentum, and what is claimed of it.

    Attributes
    ----------
    name : str
    inertia : float or None
        None for Nesterov's flow.
    decay : float or None
        Of the weights.
    times : ndarray of shape (K,)
    weight : callable
        The claim: integrands at time s count `weight(s, T)` at the end T.
    factor : float
        The claim: `log(u v)` loses `factor` times the weighted integral of `(u'/u)^2 + (v'/v)^2`.
    shift : float
        The claim: the centre's log ratio loses `shift` times that of `(u'/u)^2 - (v'/v)^2`.
    of_q : float
        The claim: `log(u v)` loses `of_q` times the weighted integral of q.
    engine : callable
    """

    name: str
    inertia: float | None
    decay: Decay
    times: Array
    weight: Callable[[Array, float], Array]
    factor: float
    shift: float
    engine: Callable[[Setting, Array], EngineEnd]
    of_q: float = 4.0

    def measure(self, setting: Setting) -> Finding:
        """Measure the discrepancies at every time; the worst decides."""
        velocity, rule_pair = _field(setting.net, self.decay)
        raw = flow_with_momentum(velocity, rule_pair, *setting.weights(), self.times, self.inertia)
        squares = raw.a**2, raw.b**2
        product = raw.integrals(self.of_q * raw.q + self.factor * (squares[0] + squares[1]), self.weight)
        claim = Claim(np.log(setting.alpha) - product / 2,
                      setting.log_ratio - self.shift * raw.integrals(squares[0] - squares[1], self.weight),
                      4 * raw.integrals(raw.p, self.weight))
        return _compare(setting.data.X, claim, self.engine(setting, self.times), raw.betas,
                        (np.log(raw.u) + np.log(raw.v)) / 2, TOLERANCE, times=[float(t) for t in self.times],
                        inertia=self.inertia,
                        mean_log_scale_change=[float(x) for x in np.mean(claim.log_scales - np.log(setting.alpha), axis=-1)])


def library_steps(decay: Decay, step: float, momentum: float, nesterov: bool) -> Callable[[Setting, Array], EngineEnd]:
    """Make an engine of the library's `descend`."""

    def run(setting: Setting, at: Array) -> EngineEnd:
        import dln

        problem, rows = dln.Problem(setting.data.X, setting.data.y), []
        for n_steps in at:
            found = dln.descend(problem, _rule(dln, decay), step=step, n_steps=int(n_steps), momentum=momentum,
                                nesterov=nesterov, residual_tol=None, **_scaled_log_start(setting))
            if not found.success:
                raise RouteError(f"the engine stopped after {found.n_steps} steps: {found.message}")
            rows.append((found.beta, found.log_effective_alpha, found.effective_log_ratio))
        return EngineEnd(*(np.array(column) for column in zip(*rows, strict=True)))

    return run


@dataclass(frozen=True)
class StepsLaw:
    """The law of discrete steps with momentum, and what is claimed of it.

    Attributes
    ----------
    name : str
    step, momentum : float
    nesterov : bool
    decay : float or None
    at : ndarray of int of shape (K,)
        After which steps.
    tolerance : float
    term : callable
        The claim: `(k, m) -> ` what each ratio k of successive weights adds to `log|u|` beside the gradients.
    ahead : float
        The claim: with Nesterov, minus `ahead/(1 - m)` times (look-ahead ratio - 1) times the force.
    of_p : float
        The claim: the gradients count `2 step/(1 - of_p m)`.
    boundary : float
        The claim: minus `boundary m/(1 - m) (1 - 1/k)` of the last ratio.
    swapped : bool
        Whether v takes the ratios of u.
    engine : callable
    """

    name: str
    step: float
    momentum: float
    nesterov: bool
    decay: Decay
    at: Array
    tolerance: float
    term: Callable[[Array, float], Array]
    engine: Callable[[Setting, Array], EngineEnd]
    ahead: float = 1.0
    of_p: float = 1.0
    boundary: float = 1.0
    swapped: bool = False

    def measure(self, setting: Setting) -> Finding:
        """Measure the discrepancies after every chosen step; the worst decides."""
        velocity, rule_pair = _field(setting.net, self.decay)
        raw = steps_with_momentum(velocity, rule_pair, *setting.weights(), self.step, self.momentum, int(self.at[-1]),
                                  self.nesterov)
        gain = 1 / (1 - self.of_p * self.momentum)
        own_u = self._sums(raw.u, 2 * self.step * raw.p, 2 * self.step * raw.q, gain)
        own_v = own_u if self.swapped else self._sums(raw.v, -2 * self.step * raw.p, 2 * self.step * raw.q, gain)
        moved = 4 * self.step * gain * np.cumsum(raw.p, axis=0)
        last = self.at - 1
        claim = Claim(np.log(setting.alpha) + (own_u + own_v)[last] / 2, setting.log_ratio + (own_u - own_v)[last], moved[last])
        return _compare(setting.data.X, claim, self.engine(setting, self.at), raw.betas[self.at], raw.log_scales[self.at],
                        self.tolerance, n_steps=[int(k) for k in self.at], sign_flips=raw.n_sign_flips)

    def _sums(self, weights: Array, of_p: Array, of_q: Array, gain: float) -> Array:
        """Claim what log|weight| gains beside the part along p, after every step, (K, d)."""
        m = self.momentum
        ratio = weights[1:] / weights[:-1]
        terms = self.term(ratio, m) - gain * of_q
        if self.nesterov:
            before = np.concatenate([np.ones_like(ratio[:1]), ratio[:-1]])
            terms = terms - self.ahead * gain * m * (1 - 1 / before) * (of_p + of_q)
        return np.cumsum(terms, axis=0) - self.boundary * m / (1 - m) * (1 - 1 / ratio)


@dataclass(frozen=True)
class FlowOfHeavyBall:
    """The claim that heavy ball with step eta and momentum m follows the flow with `inertia` at time `rate k`, to order 1.

    Attributes
    ----------
    name : str
    time, inertia : float
    steps : ndarray of int of shape (K,)
        Numbers of steps up to the time.
    relation : callable
        The claim: `(time per step, inertia) -> (eta, m)`.
    order : float
    """

    name: str
    time: float
    inertia: float
    steps: Array
    relation: Callable[[float, float], tuple[float, float]]
    order: float = 1.0

    def measure(self, setting: Setting) -> Finding:
        """Fit the order of the distance by both routes."""
        import dln

        problem, given = dln.Problem(setting.data.X, setting.data.y), _scaled_log_start(setting)
        velocity, rule_pair = _field(setting.net, None)
        exact = flow_with_momentum(velocity, rule_pair, *setting.weights(), np.array([self.time]), self.inertia).betas[0]
        flow = dln.momentum_flow(problem, inertia=self.inertia, t_end=self.time, rtol=1e-12, **given).beta
        raw, engine = [], []
        for count in self.steps:
            eta, m = self.relation(self.time / count, self.inertia)
            raw.append(steps_with_momentum(velocity, rule_pair, *setting.weights(), eta, m, int(count), False).betas[-1])
            engine.append(dln.descend(problem, step=eta, n_steps=int(count), momentum=m, residual_tol=None, **given).beta)
        distances = {"raw": np.linalg.norm(np.array(raw) - exact, axis=1),
                     "engine": np.linalg.norm(np.array(engine) - flow, axis=1)}
        return slope_finding(self.time / self.steps, distances, self.order, noise=1e-11 * float(np.linalg.norm(exact)))


def ratio_term(k: Array, m: float) -> Array:
    """Give what a ratio of successive weights adds to log|u| beside the gradients."""
    return np.log(np.abs(k)) - (k - 1) - m / (1 - m) * (k - 1) ** 2 / k


def constant_weight(inertia: float) -> Callable[[Array, float], Array]:
    """Weigh an integrand by how much of it inertia has let through by the end."""
    return lambda s, end: -np.expm1(-(end - s) / inertia)


def nesterov_weight(s: Array, end: float) -> Array:
    """Weigh an integrand of Nesterov's flow."""
    return s / 2 * (1 - (s / end) ** 2)


def heavy_ball_of(time_per_step: float, inertia: float) -> tuple[float, float]:
    """Give step and momentum: `inertia = eta/(1 - m)^2` and `time per step = eta/(1 - m)`."""
    rest = time_per_step / inertia
    return inertia * rest**2, 1 - rest


#: Of discrete laws, and of those through 0, where the ratio of successive weights may be anything.
STEPS_TOLERANCE, THROUGH_ZERO = 1e-10, 1e-8

#: Where the laws of the flows are checked: when plain gradient flow has brought the loss down to these fractions.
LEVELS = (0.5, 0.1)


def parts(setting: Setting) -> list[FlowLaw | StepsLaw | FlowOfHeavyBall]:
    """Check flows, discrete steps with and without changes of sign, and that the ones follow the others."""
    times = setting.times(LEVELS)
    inertia = 0.1 / setting.gradient_unit
    decay = 0.05 / float(times[-1])
    nesterov_times = 1.6 * np.sqrt(times[:2])
    flows = [
        FlowLaw("flow", inertia, None, times, constant_weight(inertia), inertia, inertia, library_flow(None, inertia)),
        FlowLaw("flow with weight decay", inertia, decay, times[:1], constant_weight(inertia), inertia, inertia,
                library_flow(decay, inertia)),
        FlowLaw("Nesterov's flow", None, None, nesterov_times, nesterov_weight, 1.0, 1.0, library_flow(None, None)),
        FlowLaw("Nesterov's flow with weight decay", None, decay, nesterov_times[:1], nesterov_weight, 1.0, 1.0,
                library_flow(decay, None)),
    ]
    small, large = 0.02 / setting.gradient_unit, 0.12 / setting.gradient_unit

    def discrete(name: str, step: float, momentum: float, nesterov: bool, given: Decay, at: list[int],
                 tolerance: float) -> StepsLaw:
        return StepsLaw(name, step, momentum, nesterov, given, np.array(at), tolerance, ratio_term,
                        library_steps(given, step, momentum, nesterov))

    steps = [
        discrete("heavy ball", small, 0.7, False, None, [1, 10, 60], STEPS_TOLERANCE),
        discrete("heavy ball with weight decay", small, 0.7, False, decay, [2, 40], STEPS_TOLERANCE),
        discrete("Nesterov's steps", small, 0.7, True, None, [1, 10, 60], STEPS_TOLERANCE),
        discrete("heavy ball through 0", large, 0.9, False, None, [5, 40], THROUGH_ZERO),
        discrete("Nesterov's steps through 0", large, 0.9, True, None, [5, 40], THROUGH_ZERO),
    ]
    # At least two steps per inertia, so that the momentum is positive.
    counts = max(20, int(np.ceil(2 * times[0] / inertia))) * 2 ** np.arange(6)
    return [*flows, *steps, FlowOfHeavyBall("heavy ball follows the flow", float(times[0]), inertia, counts, heavy_ball_of)]


# --- mutants ---------------------------------------------------------------------------------------------------------


def _of(kind: type, **changes: Callable[[Any], Any]) -> Mutant:
    """Spoil fields of the parts of one kind."""

    def mutant(part: Any, setting: Setting) -> Any:
        if not isinstance(part, kind):
            return None
        spoilt: Any = part
        return replace(spoilt, **{name: change(part) for name, change in changes.items()})

    return mutant


def _if(condition: Callable[[Any], bool], mutant: Mutant) -> Mutant:
    return lambda part, setting: mutant(part, setting) if condition(part) else None


def _flow(part: Any) -> bool:
    return isinstance(part, FlowLaw)


THEOREMS = (
    Theorem(
        key="T15",
        title="Momentum",
        statement="alpha_eff^2 = u0 v0 exp(-lam int [(u'/u)^2 + (v'/v)^2]) for lam theta'' + theta' + grad = 0; Nesterov's "
                  "flow and discrete steps have laws of their own, through changes of sign",
        source='Papazov, Pesme & Flammarion 2024, "Leveraging continuous time to understand momentum when training diagonal '
               'linear networks"',
        kind="exact",
        tolerance=TOLERANCE,
        derive=derive_momentum,
        parts=parts,
        mutants={
            "flow: constant halved": _of(FlowLaw, factor=lambda part: part.factor / 2),
            "flow: constant off by 1 percent": _of(FlowLaw, factor=lambda part: 1.01 * part.factor),
            "flow: centre not shifted": _of(FlowLaw, shift=lambda part: 0.0),
            "flow: sign of the shift swapped": _of(FlowLaw, shift=lambda part: -part.shift),
            "flow: inertia forgotten": _of(FlowLaw, factor=lambda part: 0.0, shift=lambda part: 0.0),
            "flow: weight of the limit at every time": _of(FlowLaw, weight=lambda part: (
                (lambda s, end: s / 2) if part.inertia is None else lambda s, end: np.ones_like(s))),
            "flow: weight with 1.01 lam": _if(lambda part: _flow(part) and part.inertia is not None, _of(
                FlowLaw, weight=lambda part: constant_weight(1.01 * part.inertia))),
            "Nesterov's flow: s - s^2/T for s^2/T^2": _if(lambda part: _flow(part) and part.inertia is None, _of(
                FlowLaw, weight=lambda part: lambda s, end: s / 2 * (1 - s / end))),
            "flow: q off by 1 percent": _if(lambda part: _flow(part) and part.decay is not None, _of(
                FlowLaw, of_q=lambda part: 1.01 * part.of_q)),
            "engine: inertia off by 1 percent": _if(lambda part: _flow(part) and part.inertia is not None, _of(
                FlowLaw, engine=lambda part: library_flow(part.decay, 1.01 * part.inertia))),
            "engine: constant inertia for Nesterov's flow": _if(lambda part: _flow(part) and part.inertia is None, _of(
                FlowLaw, engine=lambda part: library_flow(part.decay, float(part.times[-1])))),
            "steps: term without momentum": _of(StepsLaw, term=lambda part: lambda k, m: ratio_term(k, 0.0)),
            "steps: sign of (k - 1)^2/k swapped": _of(StepsLaw, term=lambda part: lambda k, m: (
                2 * ratio_term(k, 0.0) - ratio_term(k, m))),
            "steps: (k - 1)^2 for (k - 1)^2/k": _if(lambda part: getattr(part, "tolerance", 1.0) == STEPS_TOLERANCE, _of(
                StepsLaw, term=lambda part: lambda k, m: ratio_term(k, 0.0) - m / (1 - m) * (k - 1) ** 2)),
            "steps: boundary term forgotten": _of(StepsLaw, boundary=lambda part: 0.0),
            "steps: gradients without 1/(1 - m)": _of(StepsLaw, of_p=lambda part: 0.0),
            "steps: v with the ratios of u": _of(StepsLaw, swapped=lambda part: True),
            "steps: Nesterov by the law of heavy ball": _if(lambda part: getattr(part, "nesterov", False), _of(
                StepsLaw, ahead=lambda part: 0.0)),
            "engine: momentum off by 1 percent": _of(StepsLaw, engine=lambda part: library_steps(
                part.decay, part.step, 1.01 * part.momentum, part.nesterov)),
            "engine: Nesterov and heavy ball swapped": _of(StepsLaw, engine=lambda part: library_steps(
                part.decay, part.step, part.momentum, not part.nesterov)),
            "heavy ball follows: inertia eta/(1 - m)": _of(FlowOfHeavyBall, relation=lambda part: lambda h, lam: (
                h * (1 - 1 / (1 + h / lam)), 1 / (1 + h / lam) / 2)),
            "heavy ball follows: time eta k": _of(FlowOfHeavyBall, relation=lambda part: lambda h, lam: (
                h, 1 - np.sqrt(h / lam))),
            "heavy ball follows to order 2": _of(FlowOfHeavyBall, order=lambda part: 2.0),
        },
    ),
)
