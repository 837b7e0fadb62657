"""T10: flooding descends the gradient norm, and slides along the level as gradient regularization without its loss does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import sympy as sp

from ._derivation import Derivation
from ._engine import RTOL, Pair, stand_in
from ._expansions import moved_gradients
from ._fields import Velocity, gradient_flow
from ._network import Array, Network, SymbolicNetwork
from ._raw_descent import constant, descend, each_step
from ._raw_route import RouteError, integrate
from ._registry import Finding, Mutant, Part, Theorem
from ._setting import Data, Setting
from ._slopes import MAX_HALF_WIDTH, fit_slope, slope_finding
from ._steps import PAST, TIME, effective_scale, pair, perturb, start
from .flooding import DOWN_UP, UP_DOWN, flooding
from .implicit_regularization import ETA, backward_error, squared_gradient

__all__ = ["THEOREMS", "averaged", "on_the_level"]

#: Step sizes of the double step, in units of the data.
LADDER = 0.08 * 0.5 ** np.arange(6)

#: The reachable part of the loss at the level, as a fraction of its start; and how much of it the largest step must change.
LEVEL, LEAST_CHANGE = 0.2, 0.01

#: The sliding motion: steps of the coarsest run, how many runs there are, each with twice the steps, and the largest step
#: in units of the data.
COARSEST, RUNS, LARGEST = 96, 6, 0.12
#: At so many counts, in so many phases of hovering: the distance of a single point depends on its phase.
N_COUNTS, N_PHASES = 16, 16

#: The widest band of the order of the sliding motion. It comes from the scatter between phases that is left; corrections of
#: the order are smaller and cannot be fitted along.
WIDEST = 0.1


def derive_sliding() -> Derivation:
    """Derive T10: two opposite steps, the flow that each step follows, and their average along the level."""
    d, net = Derivation("T10", "Flooding descends the gradient norm"), SymbolicNetwork()
    at = start(d, net)
    slopes, bent = squared_gradient(d, net, at)
    moved_gradients(d, net, at, ETA, perturb(d, net, at, ETA, "up"), perturb(d, net, at, -ETA, "down"))
    _double_steps(d)
    backward_error(d, 1)
    backward_error(d, -1)
    d.assume("around the level the steps have a mean sign s, small like eta; up or down, each adds the same (eta/4) R, so that "
             "the mean motion is that of s L + (eta/4) R, up to higher orders of eta")
    s = sp.Symbol("s", real=True)
    p = [s * g + ETA / 2 * h for g, h in zip(at.of_beta, bent, strict=True)]
    q = [ETA * g**2 for g in at.of_beta]
    pair(d, net, "Its pair: gradient regularization with gamma = eta/2, but for the loss",
         -(s * at.of_weights + ETA / 4 * slopes), p, q)
    d.equal("Motion of the predictor", "the chain rule through beta = u^2 - v^2",
            sp.Matrix([2 * u * (-2 * u * (a + b)) - 2 * v * (2 * v * (a - b))
                       for u, v, a, b in zip(net.u, net.v, p, q, strict=True)]),
            sp.Matrix([-4 * (u**2 + v**2) * a - 4 * (u**2 - v**2) * b
                       for u, v, a, b in zip(net.u, net.v, p, q, strict=True)]))
    _along_the_level(d)
    alpha = sp.Symbol("alpha", positive=True)
    g = sp.Function("g", real=True)(PAST)
    effective_scale(d, "Effective initialisation: in slow time eta t no step size is left", ETA * g**2,
                    alpha * sp.exp(-2 * ETA * sp.Integral(g**2, (PAST, 0, TIME))), alpha)
    d.conclude("the loss stays at the level and R falls, until its gradient is along that of the loss; in slow time eta t the "
               "motion does not depend on eta, and flooding keeps within O(eta) of it")
    return d


def _double_steps(d: Derivation) -> None:
    """Expand two opposite steps of one coordinate; the gradient after the first is `g -+ eta a + eta^2 b`, as just proved."""
    u, v, g, a, b = sp.symbols("u v g a b", real=True)
    d.assume("u, v, g, a, b are those of one coordinate; half of the gradient of R is 2 u (a + 2 g^2) and -2 v (a - 2 g^2) "
             "there, by its pair")
    for words, sign in ((DOWN_UP, 1), (UP_DOWN, -1)):
        then = g - sign * ETA * a + ETA**2 * b
        d.by_series(f"A double step, {words}: -(eta^2/2) grad R", "series in eta of the change of u and of v",
                    sp.Matrix([u * (1 - sign * 2 * ETA * g) * (1 + sign * 2 * ETA * then) - u,
                               v * (1 + sign * 2 * ETA * g) * (1 - sign * 2 * ETA * then) - v]),
                    -(ETA**2) * sp.Matrix([2 * u * (a + 2 * g**2), -2 * v * (a - 2 * g**2)]), ETA, 3)


def _along_the_level(d: Derivation) -> None:
    """Find the mean sign that keeps the loss, and prove that R falls with it."""
    a, b = sp.Matrix(sp.symbols("m_1:5", real=True)), sp.Matrix(sp.symbols("n_1:5", real=True))
    d.assume("m and n stand for the gradients of L and R in the weights, m not 0")
    s = d.define(sp.Symbol("s_level", real=True), -ETA / 4 * a.dot(b) / a.dot(a), "the mean sign")
    velocity = -(s * a + ETA / 4 * b)
    d.equal("With this mean sign the loss stays", "dL/dt = m . velocity", a.dot(velocity), sp.S.Zero)
    places = [(i, j) for i in range(4) for j in range(i)]
    squares = sp.Add(*((a[i] * b[j] - a[j] * b[i]) ** 2 for i, j in places))
    d.equal("and the gradient norm falls: dR/dt is minus a sum of squares", "Lagrange's identity for |m|^2 |n|^2 - (m.n)^2",
            b.dot(velocity), -ETA / 4 * squares / a.dot(a))
    positive = sp.Matrix(sp.symbols("c_1:3", positive=True))
    d.positive("It falls, unless m and n are parallel", "an example of two coordinates: one square, over |m|^2",
               ETA / 4 * (positive[0] * positive[1]) ** 2 / positive.dot(positive))


# --- a double step ---------------------------------------------------------------------------------------------------


def regularizer_gradient(net: Network, u: Array, v: Array) -> Array:
    """Give the gradient of R in the weights, twice the Hessian times the gradient, shape (2, ..., d)."""
    return 2 * np.stack(net.hessian_product(u, v, *net.gradient(u, v)))


def library_double_step(data: Data, setting: Setting, step: float, level: float, first: int) -> Array:
    """Make two steps of the library's flooding and return the weights, (2, d)."""
    import dln

    run = dln.descend(dln.Problem(data.X, data.y), dln.Flooding(level), step=step, n_steps=2, alpha=setting.alpha,
                      log_ratio=setting.log_ratio)
    if run.n_steps != 2 or run.n_alternations != 1 or run.n_sign_flips:
        raise RouteError(f"the engine does not make two opposite steps: {run.message}")
    return np.exp(np.stack([run.log_u, run.log_v]))


@dataclass(frozen=True)
class DoubleStep:
    """The claim that two opposite steps move the weights by `-share eta^2 grad R`, up to a power of eta.

    Attributes
    ----------
    name : str
        Which step comes first.
    first : {1, -1}
        Descent or ascent.
    share, order : float
        The claims.
    stretch : float
        Factor of the engine's step: 1 but for mutants.
    """

    name: str
    first: int
    share: float = 0.5
    order: float = 3.0
    stretch: float = 1.0

    def measure(self, setting: Setting) -> Finding:
        """Fit the order of what the claim leaves, by both routes."""
        net, (u, v) = setting.net, setting.weights()
        steps = LADDER / (setting.curvature * setting.predictor_unit)
        here = np.stack([u, v])
        claimed = -self.share * steps[:, None, None] ** 2 * regularizer_gradient(net, u, v)
        raw, engine = [], []
        for step in steps:
            moved = here - self.first * step * np.stack(net.gradient(u, v))
            raw.append(moved + self.first * step * np.stack(net.gradient(*moved)) - here)
            level = float(net.loss(u, v) + net.loss(*moved)) / 2
            engine.append(library_double_step(setting.data, setting, self.stretch * float(step), level, self.first) - here)
        distances = {name: np.linalg.norm((np.array(found) - claimed).reshape(len(steps), -1), axis=1)
                     for name, found in (("raw", raw), ("engine", engine))}
        return slope_finding(steps, distances, self.order, noise=4e-16 * float(np.linalg.norm(here)))


# --- the sliding motion ----------------------------------------------------------------------------------------------


def averaged(net: Network, regularizer: float = 0.25, keeps_level: bool = True) -> Velocity:
    """Give the averaged motion in slow time eta t: `-(s grad L + (1/4) grad R)` with s such that the loss stays."""

    def velocity(t: float, u: Array, v: Array) -> tuple[Array, Array]:
        a, b = np.stack(net.gradient(u, v)), regularizer * regularizer_gradient(net, u, v)
        s = -np.sum(a * b) / np.sum(a * a) if keeps_level else 0.0
        du, dv = -(s * a + b)
        return du, dv

    return velocity


def averaged_pair(net: Network) -> Pair:
    """Give its pair per unit of slow time: `p = s g + (1/2) Hess_beta [4 g (u^2 + v^2)]`, `q = g^2`."""

    def pair_of(t: float, u: Array, v: Array) -> tuple[Array, Array]:
        a, b = np.stack(net.gradient(u, v)), regularizer_gradient(net, u, v) / 4
        g = net.beta_gradient(u, v)
        bent = (4 * g * (u * u + v * v)) @ net.X.T @ net.X / (2 * net.n_samples)
        return -np.sum(a * b) / np.sum(a * a) * g + bent / 2, g * g

    return pair_of


def on_the_level(setting: Setting) -> tuple[Array, Array]:
    """Give weights on the level, where gradient flow meets it."""
    run = integrate(gradient_flow(setting.net), *setting.weights(), setting.times((LEVEL,)))
    return run.u[0], run.v[0]


@dataclass(frozen=True)
class Slides:
    """Runs around the level, in K step sizes: beta and log alpha_eff, (K, C, P, d), at C counts, for P phases of hovering.

    The averaged motion has P = 1.
    """

    betas: Array
    log_scales: Array


@dataclass(frozen=True)
class Course:
    """The runs to be compared: where they start, and their steps.

    Attributes
    ----------
    u0, v0 : ndarray of shape (d,)
        On the level.
    steps : ndarray of shape (K,)
    counts : ndarray of int, shape (K, C)
    starts : ndarray of shape (K, 2, P, d)
        Weights of the runs: fractions of a step off the level, so that they hover in all phases.
    levels : ndarray of shape (K, P)
        Of the runs: apart by fractions of what one step changes the loss by, for on one and the same level alpha_eff would be
        off by O(eta^2) only, with a constant that depends on chance.
    """

    u0: Array
    v0: Array
    steps: Array
    counts: Array
    starts: Array
    levels: Array

    @property
    def slow_times(self) -> Array:
        """Slow time at each count, `eta^2 k`, shape (K, C); those equal but for rounding are made equal."""
        return np.round(self.counts / self.counts[:, -1:], 12) * self.steps[0] ** 2 * self.counts[0, -1]


def course_of(setting: Setting) -> Course:
    """Lay out the runs: all over the same slow time, with steps in geometric progression."""
    net, (u0, v0) = setting.net, on_the_level(setting)
    totals = COARSEST * 2 ** np.arange(RUNS)
    steps = LARGEST / (setting.curvature * setting.predictor_unit) * np.sqrt(COARSEST / totals)
    ends = totals[:, None] * np.arange(1, N_COUNTS // 2 + 1) // (N_COUNTS // 2)
    # Neighbours in pairs: from one to the next a run is on the other side of the level.
    counts = np.stack([ends - 1, ends], axis=-1).reshape(RUNS, -1)
    phases = (np.arange(N_PHASES) + 0.5) / N_PHASES - 0.5
    gu, gv = net.gradient(u0, v0)
    moves = steps[:, None, None] * phases[:, None]
    starts = np.stack([u0 - moves * gu, v0 - moves * gv], axis=1)
    of_one_step = steps[:, None] * float(np.sum(gu * gu + gv * gv))
    shuffled = phases[np.arange(N_PHASES) * 7 % N_PHASES]
    return Course(u0, v0, steps, counts, starts, float(net.loss(u0, v0)) + of_one_step * shuffled)


def raw_runs(setting: Setting, course: Course) -> Slides:
    """Make the steps in raw weights, all phases at once."""
    runs = [descend(each_step(flooding(setting.net, levels)), us, vs, counts, constant(float(step)))
            for (us, vs), levels, step, counts in zip(course.starts, course.levels, course.steps, course.counts, strict=True)]
    return Slides(np.array([run.betas for run in runs]), np.array([run.log_scales for run in runs]))


def library_runs(setting: Setting, course: Course, stretch: float = 1.0) -> Slides:
    """Make them with the library's `descend`."""
    import dln

    problem = dln.Problem(setting.data.X, setting.data.y)
    every = []
    for step, counts, weights, levels in zip(course.steps, course.counts, course.starts, course.levels, strict=True):
        runs = [dln.descend(problem, dln.Flooding(level), step=stretch * step, n_steps=int(counts[-1]),
                            initial_weights=(u, v), save_at=counts) for u, v, level in zip(*weights, levels, strict=True)]
        for run in runs:
            if not run.success or len(run.saved_steps) != len(counts) or run.n_sign_flips:
                raise RouteError(f"the engine stopped, or a weight changed its sign: {run.message}")
        every.append([[run.betas for run in runs], [(run.log_us + run.log_vs) / 2 for run in runs]])
    betas, log_scales = (np.swapaxes(np.array([one[k] for one in every]), 1, 2) for k in (0, 1))
    return Slides(betas, log_scales)


def raw_average(setting: Setting, course: Course, velocity: Velocity) -> Slides:
    """Integrate the averaged motion in raw weights, once, and stop at all slow times."""
    times, place = np.unique(course.slow_times, return_inverse=True)
    run = integrate(velocity, course.u0, course.v0, times)
    shape = (*course.counts.shape, 1, course.u0.size)
    return Slides(run.betas[place].reshape(shape), run.log_scales[place].reshape(shape))


def library_average(setting: Setting, course: Course) -> Slides:
    """Follow the library's flow of flooding on its level, with eta = 1: then time is slow time."""
    import dln

    times, place = np.unique(course.slow_times, return_inverse=True)
    rule = dln.Flooding(float(setting.net.loss(course.u0, course.v0)), step=1.0)
    run = dln.flow(dln.Problem(setting.data.X, setting.data.y), rule, initial_weights=(course.u0, course.v0),
                   t_end=float(times[-1]), save_at=times, rtol=RTOL)
    if len(run.times) != len(times):
        raise RouteError(f"the engine stopped at t = {run.t:.6g}: {run.message}")
    shape = (*course.counts.shape, 1, course.u0.size)
    return Slides(run.betas[place].reshape(shape), ((run.log_us + run.log_vs) / 2)[place].reshape(shape))


def stand_in_average(pair_of: Pair) -> Callable[[Setting, Course], Slides]:
    """Integrate any pair in slow time, in logarithms of the weights."""

    def average(setting: Setting, course: Course) -> Slides:
        times, place = np.unique(course.slow_times, return_inverse=True)
        logs = (np.log(course.u0), np.log(course.v0))
        run = stand_in(pair_of)(setting.data, np.exp((logs[0] + logs[1]) / 2), logs[0] - logs[1], times)
        shape = (*course.counts.shape, 1, course.u0.size)
        return Slides(run.betas[place].reshape(shape), run.log_scales[place].reshape(shape))

    return average


@dataclass(frozen=True)
class Sliding:
    """The claim that flooding keeps, at the same slow time, within O(eta) of the averaged motion.

    Distances are root mean squares over the phases of hovering and over slow time.

    Attributes
    ----------
    name : str
        "beta" or "alpha_eff": what is compared.
    course : Course
    raw, engine : callable
        Give the runs by each route.
    velocity : Velocity
        The claim, in raw weights and slow time.
    average : callable
        The engine's averaged motion.
    order : float
    """

    name: str
    course: Course
    raw: Callable[[], Slides]
    engine: Callable[[], Slides]
    velocity: Velocity
    average: Callable[[Setting, Course], Slides]
    order: float = 1.0

    def measure(self, setting: Setting) -> Finding:
        """Fit the order by both routes; the distance must also fall from each step size to the next."""
        pairs = {"raw": (self.raw(), raw_average(setting, self.course, self.velocity)),
                 "engine": (self.engine(), self.average(setting, self.course))}
        distances = {route: self._distances(*both) for route, both in pairs.items()}
        slopes = {route: fit_slope(self.course.steps, found, ()) for route, found in distances.items()}
        falling = all(np.all(np.diff(found) < 0) for found in distances.values())
        passed = falling and all(slope.contains(self.order) and slope.half_width <= WIDEST for slope in slopes.values())
        worst = max(slopes.values(), key=lambda slope: abs(slope.value - self.order) / slope.half_width)
        details: dict[str, Any] = {"steps": [float(step) for step in self.course.steps]}
        for route, slope in slopes.items():
            details[route] = {"slope": slope.value, "half_width": slope.half_width, "local_slopes": list(slope.local),
                              "distances": [float(x) for x in distances[route]]}
        return Finding(abs(worst.value - self.order), min(worst.half_width, WIDEST), passed, details)

    def _distances(self, run: Slides, average: Slides) -> Array:
        difference = run.betas - average.betas if self.name == BETA else run.log_scales - average.log_scales
        return np.sqrt(np.mean(np.sum(difference**2, axis=-1), axis=(1, 2)))


BETA, SCALE = "sliding: beta", "sliding: alpha_eff"


def parts(setting: Setting) -> list[Part]:
    """Check T10: both double steps, and, where steps are long enough to see it, the sliding motion in beta and in alpha_eff.

    On ill-conditioned data a step that is stable hardly changes the loss; then the runs are too short to slide anywhere.
    """
    steps: list[Part] = [DoubleStep(DOWN_UP, 1), DoubleStep(UP_DOWN, -1)]
    course = course_of(setting)
    fall = float(np.sum(np.square(setting.net.gradient(course.u0, course.v0))))  # of the loss, per unit of time
    rest = float(setting.net.loss(course.u0, course.v0)) - setting.unreachable_loss
    if not course.steps[0] * fall >= LEAST_CHANGE * rest:
        return steps
    raw, engine = cache(lambda: raw_runs(setting, course)), cache(lambda: library_runs(setting, course))
    return [*steps, *(Sliding(name, course, raw, engine, averaged(setting.net), library_average) for name in (BETA, SCALE))]


# --- mutants ---------------------------------------------------------------------------------------------------------


def _double(**wrong: Any) -> Mutant:
    return lambda part, setting: replace(part, **wrong) if isinstance(part, DoubleStep) else None


def _sliding(change: Callable[[Sliding, Setting], dict[str, Any]], only: str | None = None) -> Mutant:
    def mutant(part: Any, setting: Setting) -> Sliding | None:
        if not isinstance(part, Sliding) or (only and part.name != only):
            return None
        return replace(part, **change(part, setting))

    return mutant


def _claimed(**wrong: Any) -> Mutant:
    return _sliding(lambda part, setting: {"velocity": averaged(setting.net, **wrong)})


def _average(of_p: float, of_q: float) -> Mutant:
    def change(part: Sliding, setting: Setting) -> dict[str, Any]:
        pair_of = averaged_pair(setting.net)

        def wrong(t: float, u: Array, v: Array) -> tuple[Array, Array]:
            p, q = pair_of(t, u, v)
            return of_p * p, of_q * q

        return {"average": stand_in_average(wrong)}

    return _sliding(change, SCALE if of_p == 1 else BETA)


THEOREMS = (
    Theorem(
        key="T10",
        title="Flooding descends the gradient norm",
        statement="two opposite steps move by -(eta^2/2) grad R + O(eta^3); around the level flooding is within O(eta) of the "
                  "flow of (eta/4) R along the level",
        source='Karakida et al. 2023, "Understanding gradient regularization in deep learning: efficient '
               'finite-difference computation and implicit bias"',
        kind="limit",
        tolerance=MAX_HALF_WIDTH,
        derive=derive_sliding,
        parts=parts,
        mutants={
            "-eta^2 grad R": _double(share=1.0),
            "-(eta^2/4) grad R": _double(share=0.25),
            "+(eta^2/2) grad R": _double(share=-0.5),
            "-(eta^2/2) grad R off by 1 percent": _double(share=0.505),
            "remainder claimed O(eta^2)": _double(order=2.0),
            "remainder claimed O(eta^4)": _double(order=4.0),
            "engine: double step off by 1 percent": _double(stretch=1.01),
            "sliding: (eta/2) R": _claimed(regularizer=0.5),
            "sliding: (eta/8) R": _claimed(regularizer=0.125),
            "sliding: -(eta/4) R": _claimed(regularizer=-0.25),
            "sliding: level not kept": _claimed(keeps_level=False),
            "sliding: claimed O(eta^2)": _sliding(lambda part, setting: {"order": 2.0}),
            "engine: slides twice as fast": _sliding(lambda part, setting: {
                "engine": lambda: library_runs(setting, part.course, 2**0.5)}),
            "engine: averaged motion without q": _average(1.0, 0.0),
            "engine: averaged motion with 2 q": _average(1.0, 2.0),
            "engine: averaged motion with half of p": _average(0.5, 1.0),
        },
    ),
)
