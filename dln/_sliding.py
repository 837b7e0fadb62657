"""Flooding in continuous time: gradient flow to the level of the loss, and what small steps do on it, averaged.

As an ordinary differential equation flooding is a sliding mode: on the level both fields point at it.  So the run has two
phases, each with a smooth field.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import scipy  # its parts are loaded when first used

from ._jit import njit
from ._linalg import matvec, residual, rmatvec
from .flow import Integration
from .network import Initialization, difference_of_squares
from .result import Status
from .rules import GradientFlow, Rule
from .rules.base import RULE

_CLOSE = 1e-13  # the loss is at the level, relative to it
_PIECES = 200  # pieces in which the level is looked for


@njit(RULE)
def _level_kernel(X, y, c, beta, size, params, r, coef, q, work_d, work_n):
    # p = lambda g + h, h = (eta/2) H[4 g size] and q = eta g^2, with lambda such that dL/dt = -4 g.(size p + beta q) is 0, or
    # rather lambda L R (1 - level/L): what rounding adds to the loss decays.
    level, eta = params[0], params[1]
    residual(X, beta, y, r)
    g, push, h = work_d[0], work_d[1], work_d[2]
    rmatvec(X, r, c, g)
    for j in range(g.shape[0]):
        push[j] = 2.0 * eta * g[j] * size[j]
        q[j] = eta * g[j] * g[j]
    matvec(X, push, work_n[0])
    rmatvec(X, work_n[0], c, h)
    loss = 0.0
    for i in range(r.shape[0]):
        loss += 0.5 * c * r[i] * r[i]
    steepness = 0.0
    drift = 0.0
    for j in range(g.shape[0]):
        steepness += g[j] * g[j] * size[j]
        drift += g[j] * (size[j] * h[j] + beta[j] * q[j])
    balance = 0.0
    if steepness > 0.0:
        balance = -drift / steepness
        balance += abs(balance) * (loss / level - 1.0)
    for i in range(r.shape[0]):
        coef[i] = c * (balance * r[i] + work_n[0, i])


@dataclass(frozen=True)
class _OnLevel(Rule):
    """The averaged motion of flooding with small steps on the level set of the loss; see `Flooding`."""

    level: float
    step: float

    name = "flooding on its level"
    kernel = staticmethod(_level_kernel)
    settles = False
    uses_samples = True

    def parameters(self, n_features, t=0.0):
        """Return (level, step)."""
        return np.array([self.level, self.step])


@njit(RULE)
def _uphill_kernel(X, y, c, beta, size, params, r, coef, q, work_d, work_n):
    residual(X, beta, y, r)
    for i in range(r.shape[0]):
        coef[i] = -(c * r[i])


@dataclass(frozen=True)
class _Uphill(Rule):
    """Gradient ascent, ``p = -g``: flooding below its level."""

    name = "flooding below its level"
    kernel = staticmethod(_uphill_kernel)
    shrinks = False
    settles = False

    def parameters(self, n_features, t=0.0):
        """Return no parameters."""
        return np.empty(0)


class SlidingFlow:
    """One run of `flow` with `Flooding`; the arguments are those of `Integration`."""

    def __init__(self, problem, rule, start, t_end, saved, rtol, residual_tol, method, max_steps):
        if rule.per_sample:
            raise ValueError("Flooding(per_sample=True) has no sliding motion that is known; train it with dln.descend")
        if rule.step is not None and rule.level == 0.0:
            raise ValueError("level must be above 0 for the averaged motion on it, got 0")
        if rule.step is not None and t_end is None:
            raise ValueError("t_end is needed with Flooding(step=...): the motion on the level goes on for ever")
        self.problem, self.rule, self.start, self.saved, self.rtol = problem, rule, start, saved, rtol
        self.t_end, self.tail, self.max_steps = t_end, (residual_tol, method), max_steps
        loss = problem.loss(difference_of_squares(2.0 * start.log_alpha, start.log_ratio))
        self.field = GradientFlow() if loss >= rule.level else _Uphill()
        self.below = -1.0 if loss < rule.level else 1.0

    def _integrate(self, start, t_end, saved, field=None):
        return Integration(self.problem, self.field if field is None else field, start, t_end, saved, self.rtol, *self.tail,
                           self.max_steps).run()

    def run(self):
        """Integrate both phases and return one result."""
        arrival = self._arrival()
        if arrival is None or (self.t_end is not None and self.t_end <= arrival):
            run = self._integrate(self.start, self.t_end, self.saved)
            never = "" if self.t_end is not None else f"; the loss never comes to the level {self.rule.level:g}"
            return replace(run, rule=self.rule, message=run.message + never)
        early = self.saved[self.saved <= arrival]
        if arrival > 0.0:
            first = self._integrate(self.start, arrival, early)
            if not first.success:
                return replace(first, rule=self.rule)
        else:
            first = self._at_rest(early)
        late = self.saved[early.size:] - arrival
        return self._rest(first, late) if self.rule.step is None else self._slide(first, late)

    def _arrival(self):
        """Find the time at which the loss comes to the level, 0 if it starts there, or None: Newton's method, or a bracket."""
        level, at, t = self.rule.level, self.start, 0.0
        for _ in range(_PIECES):
            excess, fall = self._excess(at)
            if abs(excess) <= _CLOSE * level:
                return t
            if level <= self.problem.row_space.unreachable_loss * (1.0 + 1e-9) or not fall > 0.0:
                return None
            length = excess / fall
            if self.t_end is not None and t + length > self.t_end:
                length = self.t_end - t
                if length <= 0.0:
                    return math.inf
            if t + length == t:
                return t
            run = self._integrate(at, length, self.saved[:0])
            while not run.success and t + length > t:
                length *= 0.25  # uphill the weights blow up in finite time
                run = self._integrate(at, length, self.saved[:0])
            if self.below * (run.loss - level) < 0.0:  # as `_cross` has it: by the weights the sign may be another one
                return t + self._cross(at, length)
            at, t = Initialization(0.5 * (run.log_u + run.log_v), run.log_u - run.log_v), t + length
        return None

    def _excess(self, at):
        """Return how far the loss is from the level, and how fast it comes nearer, at given weights."""
        beta = difference_of_squares(2.0 * at.log_alpha, at.log_ratio)
        with np.errstate(under="ignore"):
            size = np.exp(2.0 * at.log_u) + np.exp(2.0 * at.log_v)
        fall = 4.0 * float(np.sum(size * self.problem.gradient(beta) ** 2))
        return self.below * (self.problem.loss(beta) - self.rule.level), fall

    def _cross(self, at, length):
        """Find the time within `length` at which the loss crosses the level."""

        def excess(t):
            if t == 0.0:
                return self._excess(at)[0]
            run = self._integrate(at, t, self.saved[:0])
            return self.below * (run.loss - self.rule.level)

        return scipy.optimize.brentq(excess, 0.0, length, xtol=1e-15 * length, rtol=1e-14)

    def _at_rest(self, early):
        # A flow of no length, as a result: the shortest time that there is.
        return replace(self._integrate(self.start, float(np.nextafter(0.0, 1.0)), early), t=0.0)

    def _rest(self, first, late):
        """Stay on the level."""
        times = np.concatenate([first.times, first.t + late])
        t = first.t if self.t_end is None else self.t_end
        kept = {"losses": np.concatenate([first.losses, np.full(late.size, first.loss)])}
        for name, row in (("betas", first.beta), ("log_us", first.log_u), ("log_vs", first.log_v)):
            kept[name] = np.concatenate([getattr(first, name), np.tile(row, (late.size, 1))])
        return replace(first, rule=self.rule, times=times, t=t, **kept,
                       status=Status.STATIONARY if self.t_end is None else Status.REACHED_T_END,
                       message=f"on the level {self.rule.level:g} from t = {first.t:.6g} on, where flooding in continuous time "
                               f"rests; give Flooding(step=...) to follow the averaged motion of small steps")

    def _slide(self, first, late):
        """Go on by the averaged motion."""
        start = Initialization(0.5 * (first.log_u + first.log_v), first.log_u - first.log_v)
        # Explicit steps: the field is no stiffer than gradient flow was, and the library's Jacobians are not its.
        second = Integration(self.problem, _OnLevel(self.rule.level, self.rule.step), start, self.t_end - first.t, late,
                             self.rtol, self.tail[0], "explicit", self.max_steps).run()
        joined = {name: np.concatenate([getattr(first, name), getattr(second, name)])
                  for name in ("betas", "log_us", "log_vs", "losses")}
        counts = {name: getattr(first, name) + getattr(second, name)
                  for name in ("n_steps", "n_rejected", "n_rhs", "n_factorizations", "dual")}
        times = np.concatenate([first.times, first.t + second.times])
        return replace(second, rule=self.rule, t=first.t + second.t, times=times, log_alpha=self.start.log_alpha,
                       log_ratio=self.start.log_ratio, error_estimate=first.error_estimate + second.error_estimate,
                       method=f"{first.method} -> level: {second.method}",
                       message=f"on the level from t = {first.t:.6g} on; {self._words(first, second)}", **joined, **counts)

    def _words(self, first, second):
        if second.status != Status.REACHED_T_END:
            return second.message  # its times are those on the level
        return f"reached t_end = {self.t_end:.6g} in {first.n_steps + second.n_steps} steps"
