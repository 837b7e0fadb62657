"""Flows: `flow` integrates a training rule in continuous time, at any initial scale, and returns a `FlowResult`."""

import functools
import math

import numpy as np

from ._aligned import first_aligned
from ._jit import entry_point
from ._large import begin_kept, keeps_gram, kept_arrays
from ._suggest import unknown
from .deep_potential import checked_depth
from .integrate import planning, plateaus, rest, starting, stepping
from .integrate import state as st
from .integrate.methods import (
    EXPLICIT,
    attempts_per_call,
    begins_stiff,
    inexactness,
    noise_of_single,
    relaxes,
    room_for_awake,
    rosenbrock_method,
    run_kernels,
)
from .integrate.stops import checked_times
from .network import difference_of_squares, initialize
from .problem import Problem
from .result import FlowResult, Status
from .row_space import RowSpace
from .rules import Flooding, GradientFlow, Rule
from .rules.base import number

METHODS = ("auto", "explicit", "rosenbrock")


_NO_TIMES = np.empty(0)
_NO_MATRIX = np.empty((0, 0))
# Reasons of a kernel that are no end of a run.
_GOES_ON = (st.RUNNING, st.FOUND_STIFF, st.FOUND_CALM, st.WANTS_DOUBLE, st.NOT_STARTED)
_SUCCESSES = (Status.CONVERGED, Status.REACHED_T_END, Status.STATIONARY)
_EPS = float(np.finfo(float).eps)


def flow(problem, rule=None, *, depth=2, alpha=None, log_alpha=None, log_ratio=None, initial_weights=None, t_end=None,
         save_at=None, rtol=1e-8, residual_tol=1e-10, method="auto", max_steps=100_000):
    """Integrate a training rule in continuous time.

    Parameters
    ----------
    problem : Problem
        The data.
    rule : Rule, optional
        The training rule, by default `GradientFlow`.
    depth : float
        D of the network ``beta = u^D - v^D``, a real number, at least 2.
    alpha, log_alpha : float or array_like (d,), optional
        Initial scale ``sqrt(u0 v0)`` (at depth D > 2: ``alpha^(2-D) = (u0^(2-D) + v0^(2-D))/2``) or its logarithm, at
        depth 2 as low as -1e6; exactly one of these two and `initial_weights`.
    log_ratio : float or array_like (d,), optional
        Initial shape ``log(u0/v0)``, by default 0: ``u0 = v0 = alpha``.
    initial_weights : (array_like, array_like), optional
        The positive initial weights ``(u0, v0)``.
    t_end : float, optional
        Final time.  By default the run goes on until it has converged: until the reachable part of the residual
        ``X beta - y`` has norm at most `residual_tol` times that of y (or 2e-15 times the
        largest logarithm of a weight that counts, where that is more).
    save_at : array_like (K,), optional
        Times, from 0 on, increasing, at which the trajectory is kept; the integrator stops exactly there.
    rtol : float
        Tolerance of a step, on the logarithms of the weights: a relative tolerance on the weights.  At most 0.5 for gradient
        flow, 0.05 for squared gradient regularization and SAM of the full batch with a fixed radius, else 0.01; in the kernel
        regime, where no error is forgotten on the way, steps are held to 3e-5 or less, those of rules that shrink to 3e-6.
        Where it is above 1e-5, stiff steps of penalties that are not too strong hold ``int q``, which a flow remembers, to 1e-5
        or 0.005 of it, whichever is more.  From 2.5e-3 on the stages of stiff steps may be in single precision
        (`integrate/single_steps.py`); the state is in double.
        Stiff steps to a time (`t_end`, `save_at`) also hold the loss to a few tenths of its value, however small that is; at
        loose tolerances the last one goes all of the way there once the flow is nearly linear.
        Gradient flow from a small scale to its limit, without `t_end` and `save_at`, holds beta alone to it: transitions on
        the way, which the limit forgets, are followed to 1 percent, and so are `t` and the logarithms of weights that stay
        small.  Rules that shrink do the same with a way at 1e-3, and hold `log_effective_alpha` to
        `log_alpha_error`, a few 1e-3.
    residual_tol : float
        See `t_end`.
    method : {"auto", "explicit", "rosenbrock"}
        Explicit Runge-Kutta of order 8; Rosenbrock in dual coordinates; or the first until the flow turns stiff (at `rtol`
        from 1e-5 on and N up to 2000: the second throughout), and for gradient flow at small scales from plateau to plateau,
        each solved for exactly (`n_jumps`).
    max_steps : int
        Largest number of attempted steps.

    Returns
    -------
    FlowResult
        Numerical failure does not raise: look at `success`, `status` and `message`.

    Raises
    ------
    ValueError, TypeError
        If an argument is bad: one line that names it.

    References
    ----------
    The dual form of the flow: Woodworth et al. (2020); effective initialisation: Karakida et al. (2023); plateaus: Pesme &
    Flammarion (2023).

    Examples
    --------
    >>> import dln
    >>> problem = dln.sparse_regression(20, 50, 3, rng=0)
    >>> run = dln.flow(problem, alpha=1e-3)
    >>> str(run.status)
    'converged'
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be a dln.Problem, got {type(problem).__name__}; build one with dln.Problem(X, y)")
    rule = GradientFlow() if rule is None else rule
    if not isinstance(rule, Rule):
        raise TypeError(f"rule must be a training rule such as dln.GradientFlow(), got {rule!r}")
    scale = {"alpha": alpha, "log_alpha": log_alpha, "log_ratio": log_ratio, "initial_weights": initial_weights}
    depth = checked_depth(depth)
    t_end, *settings = checked_settings(rule, t_end, rtol, residual_tol, method, max_steps)
    settings = t_end, checked_times(save_at, t_end), *settings
    if isinstance(rule, Flooding) and depth == 2.0:
        from ._sliding import SlidingFlow  # it builds on this module

        return SlidingFlow(problem, rule, initialize(problem.n_features, **scale), *settings).run()
    if depth == 2.0:
        arguments = problem, rule, initialize(problem.n_features, **scale), *settings
        if rule.shrinks and t_end is None:
            from ._shrinking import run_to_limit, small_below  # it builds on this module

            start = arguments[2]
            if (2.0 * start.log_alpha + np.abs(start.log_ratio)).max() < small_below(
                    problem, rule, settings[2], t_end, save_at, method):
                return run_to_limit(*arguments)
        return Integration(*arguments).run()
    from ._deep import DeepIntegration, deep_initialize  # it builds on this module

    return DeepIntegration(depth, problem, rule, deep_initialize(problem.n_features, depth, **scale), *settings).run()


def checked_settings(rule, t_end, rtol, residual_tol, method, max_steps):
    """Return the settings of a run in the order in which `Integration` takes them, or raise an error that names the bad one."""
    if method not in METHODS:
        raise ValueError(unknown("method", method, METHODS))
    rtol = number("rtol", rtol, minimum=0.0, strict=True)
    loosest = 0.5 if rule.exact_curvature else 0.05 if rule.dormant_pair else 0.01
    if rtol > loosest:
        raise ValueError(f"rtol must be at most {loosest:g} for {type(rule).__name__}, got {rtol:g}: looser, the answer can be "
                         f"silently wrong")
    residual_tol = number("residual_tol", residual_tol, minimum=0.0, strict=True)
    if t_end is not None:
        t_end = number("t_end", t_end, minimum=0.0, strict=True)
    if isinstance(max_steps, bool) or not isinstance(max_steps, (int, np.integer)) or max_steps < 1:
        raise ValueError(f"max_steps must be a positive integer, got {max_steps!r}")
    return t_end, max(rtol, 1e-14), residual_tol, method, int(max_steps)


def largest_error(rtol, reach):
    """Return the error estimate above which a run counts as inaccurate; `reach` is the largest log of a weight."""
    return min(1e3 * rtol, max(rtol, 1e-2)) + 1e2 * _EPS * reach


@functools.lru_cache
def _nothing_kept(n_features):
    none = np.empty((0, n_features))
    return _NO_TIMES, none, none, none, _NO_TIMES


class Integration:
    """One run: the compiled kernel's arrays, the stops, and the choice of method."""

    def __init__(self, problem, rule, start, t_end, saved, rtol, residual_tol, method, max_steps):
        self.problem, self.rule, self.start, self.t_end, self.saved = problem, rule, start, t_end, saved
        self.rtol, self.method_asked, self.max_steps = rtol, method, max_steps
        self.way = rtol  # the tolerance of the way, if that is another one than that of the end
        # Single samples are lost in the row space; every other rule sees the data only through it.
        self.rows = RowSpace(problem.X, problem.y, None, 0.0, True) if rule.uses_samples else problem.row_space
        self.X, self.y = self.rows.X, self.rows.y
        self.c = 0.5 / problem.n_samples
        # One vector: a small run takes as long as a few dozen arrays.
        n, d = self.X.shape
        self.space = np.zeros(st.ROWS * d + 3 * (n + d if rule.shrinks else n) + n + 7)
        self.settings = np.zeros(planning.SETTINGS_SIZE)
        self.clock = np.zeros(st.CLOCK_SIZE)
        self.count = np.zeros(st.COUNT_SIZE, dtype=np.int64)
        self.clock[st.BEST_RESIDUAL] = np.inf
        self.clock[st.ERROR_OLD] = 1.0
        self.known = _NO_TIMES
        self.gram = _NO_MATRIX
        self.residual_tol = residual_tol
        self.methods: list[str] = []
        self.tableau: tuple
        self.nodes: np.ndarray
        self.kept: list[tuple] = []
        self.tally: np.ndarray | None = None  # of plateaus

    def _lay_out(self, first):
        """Cut up the memory of the state, which begins at this place of it, as `starting.start_and_advance` does.

        Plain attributes: for cached properties Python makes a dict for the instance, and finds all attributes more slowly then.
        """
        n, d = self.X.shape
        self.first = first
        z, size = first + st.ROWS * d, n + d if self.rule.shrinks else n
        self.state = self.space[first:z].reshape(st.ROWS, d)  # see `state.py`
        self.log_product, self.log_ratio = self.state[st.LOG_PRODUCT], self.state[st.LOG_RATIO]
        self.z, self.f, self.error = (self.space[z + k * size:z + (k + 1) * size] for k in range(3))
        self.r = self.space[z + 3 * size:z + 3 * size + n]

    # --- setting up ---------------------------------------------------------------------------------------------------

    def _scales(self):
        self._take(entry_point(starting.begin)(
            self.X, self.y, self.c, self.rows.facts, self.rtol, self.way, self.residual_tol, self.rule.shrinks,
            self.start.log_alpha, self.start.log_ratio, self.state, self.r, self.settings))
        self._describe_rule()

    def _take(self, scale):
        if math.isnan(scale):
            raise ValueError("the initial weights overflow: u0^2 or v0^2 is above 1e260; give a smaller alpha")
        self.scale = scale

    def _describe_rule(self):
        rule, settings = self.rule, self.settings
        settings[planning.WIDENS] = rule.ignores_zero_columns
        if rule.shrinks:
            settings[planning.COUPLED] = rule.coupled(self.c * self.rows.largest_product)
            settings[planning.STRENGTH], settings[planning.ASCENT] = rule.dormant_pair or (0.0, 0.0)
        stops = self.t_end is not None or self.saved.size > 0
        settings[planning.CLOSES] = stops and relaxes(rule, settings[planning.COUPLED])
        settings[planning.NOISE] = noise_of_single(rule, self.rows, self.c, self.way, settings[planning.COUPLED] > 0.0)

    def _sleeps_at_first(self):
        """Whether every weight of a gradient flow starts so small that it will go from plateau to plateau."""
        return isinstance(self.rule, GradientFlow) and entry_point(starting.sleeps)(
            self.log_product, self.log_ratio, self.settings, self.t_end is None and not self.saved.size)

    def _cross_plateaus(self):
        n, d = self.X.shape
        s = self.settings
        self.tally = np.zeros(plateaus.TALLY_SIZE, dtype=np.int64)
        s[planning.ASLEEP] = min(s[planning.ASLEEP], s[planning.DORMANT])
        if self.t_end is None and not self.saved.size:
            # Only the limit is asked for: errors on the way die out, and whatever the way, the limit is the same.
            s[planning.RTOL] = max(self.rtol, plateaus.LIMIT_TOL)
            s[planning.ASLEEP] = s[planning.DORMANT]
            s[planning.ERROR_GOAL] = self.rtol
        self.journal = (np.zeros((rest.PLATEAU_ROWS, n)), np.zeros(rest.NOTES_SIZE), np.zeros(d), self.tally)

    def _use(self, method):
        self.methods.append(method)
        if method == "plateaus":
            self._cross_plateaus()
        self.tableau, self.nodes, stages = (
            EXPLICIT if method == "explicit" else rosenbrock_method(self.rule, self.rtol, keeps_gram(self.X.shape)))
        if method == "rosenbrock" and keeps_gram(self.X.shape):
            if not self.known.size:
                self.settings[planning.SHARE] = inexactness(self.rule, self.way)
                self.gram, self.known = kept_arrays(self.X, self.settings[planning.SHARE])
                self.settings[planning.SQUARED_NORM] = self.rows.squared_norm
                if self.clock[st.STARTED] == 0.0:
                    entry_point(begin_kept)(
                        *self.rows.gram, self.log_product, self.log_ratio, self.c, self.rows.squared_norm,
                        float(self.settings[planning.SHARE]), self.gram, self.known)
        elif method == "rosenbrock" and not self.settings[planning.COUPLED]:
            self.settings[planning.ROOM] = room_for_awake(self.rule, self.X.shape)
        self.attempts = attempts_per_call(self.X.shape, stages, method != "explicit")

    def _kernels(self):
        return self._kernels_of(plateaus.cross if self.methods[-1] == "plateaus" else stepping.advance)

    def _kernels_of(self, run):
        rule, shape, settings = self.rule, self.X.shape, self.settings
        singly = bool(settings[planning.NOISE] > 0.0)
        dozes = rule.shrinks and not settings[planning.COUPLED] and not singly and room_for_awake(rule, shape) > 0
        return run_kernels(run, rule.kernel, rule.curvature, keeps_gram(shape), bool(settings[planning.CLOSES] > 0.0), dozes,
                           singly)

    def _parameters(self, break_before):
        """Return the rule's parameters: one row, or for rules that depend on time one per stage of the planned step."""
        d = self.problem.n_features
        if not self.rule.time_dependent:
            return self.rule.parameters(d)[None, :]
        t, h = self.clock[st.T], self.clock[st.H]
        # Inside a piece between two breakpoints, so that a jump belongs to one side only.
        low = np.nextafter(t, np.inf) if t == break_before or t == 0.0 else t
        high = np.nextafter(t + h, -np.inf)
        return np.array([self.rule.parameters(d, float(min(max(t + node * h, low), high))) for node in self.nodes])

    def _first_method(self):
        """Return the method to begin with, and whether to stay with it because the way is loose."""
        if self.method_asked != "auto":
            return self.method_asked, False
        loose = begins_stiff(self.way, len(self.X))
        if self._sleeps_at_first():
            return "plateaus", loose
        return "rosenbrock" if loose else "explicit", loose

    # --- running ------------------------------------------------------------------------------------------------------

    def run(self):
        """Integrate to the end and return the result."""
        if self._goes_at_once():
            return self._result(self._at_once())
        self._lay_out(first_aligned(self.space))
        self._scales()
        method, loose = self._first_method()
        self._use(method)
        self.settings[planning.SWITCHING] = float(self.method_asked == "auto" and not loose)
        kernels = self._kernels()
        end = math.inf if self.t_end is None else self.t_end
        saved: set[float] = set()
        last_mark, stops = 0.0, [end]
        if self.saved.size or self.rule.breakpoints:
            saved.update(self.saved.tolist())
            marks = saved.union(self.rule.breakpoints)
            last_mark = max(marks, default=0.0)
            stops = [*sorted(mark for mark in marks if 0.0 < mark < end), end]
        if 0.0 in saved:
            self._keep()
        reason, position = st.AT_STOP, -math.inf
        for stop in stops:
            # Convergence ends a run only where no wish is left open, and not before the parameters have settled.
            free = self.t_end is None and self.clock[st.T] >= last_mark
            self.settings[planning.RESIDUAL_SCALE] = self.scale if free and self.rule.settles else -1.0
            self.settings[planning.STATIONARY_TOL] = 1e-6 if free and not self.rule.time_dependent else -1.0
            self.clock[st.STOP] = stop
            reason = self._to_stop(kernels, position)
            if reason != st.AT_STOP:
                break
            position = stop
            if stop in saved:
                self._keep()
        return self._result(reason)

    def _goes_at_once(self):
        """Whether one call of a kernel may do all of the run: half of a short one would be calls."""
        rule = self.rule
        return type(self) is Integration and not (
            self.saved.size or rule.breakpoints or rule.time_dependent or keeps_gram(self.X.shape))

    def _at_once(self):
        rule, settings, free = self.rule, self.settings, self.t_end is None
        self._describe_rule()
        loose = begins_stiff(self.rtol, len(self.X))
        asks = self.method_asked == "auto"
        self._use(self.method_asked if not asks else "rosenbrock" if loose else "explicit")
        settings[planning.SWITCHING] = asks and not loose
        settings[planning.RESIDUAL_SCALE] = 0.0 if free and rule.settles else -1.0  # the kernel knows the scale
        settings[planning.STATIONARY_TOL] = 1e-6 if free else -1.0
        self.clock[st.STOP] = math.inf if free else self.t_end
        start_and_advance, *kernels = self._kernels_of(starting.start_and_advance)
        reason, scale, self.first = start_and_advance(
            *kernels, self.methods[0] == "rosenbrock", self.X,
            self.y, self.c, self.rows.facts, self.rtol, self.residual_tol, asks and isinstance(rule, GradientFlow), free,
            self.start.log_alpha, self.start.log_ratio, self.space, self.clock, self.count, settings,
            self._parameters(-math.inf), *self.tableau, min(self.attempts, self.max_steps))
        self._take(scale)
        if reason not in _GOES_ON:
            return reason
        self._lay_out(self.first)
        if reason == st.NOT_STARTED:
            self.methods.clear()
            self._use("plateaus")
            if free and rule.settles:
                settings[planning.RESIDUAL_SCALE] = scale
            reason = st.RUNNING
        return self._to_stop(None, -math.inf, reason)

    def _call(self, kernels, params, attempts):
        kernel, rule_kernel, curvature, large = kernels
        if self.methods[-1] == "plateaus":
            A, C, _, _, _, gamma, order, _, memory = self.tableau
            return kernel(rule_kernel, self.X, self.y, self.c, self.state, self.z, self.f, self.r, self.error, self.clock,
                          self.count, self.settings, params[0], *self.journal, A, C, *self.tableau[2:4], gamma, order, memory,
                          attempts)
        return kernel(rule_kernel, curvature, large, self.methods[-1] == "rosenbrock", self.X, self.y, self.c, self.state,
                      self.z, self.f, self.r, self.error, self.clock, self.count, self.settings, params, self.gram, self.known,
                      *self.tableau, attempts)

    def _to_stop(self, kernels, break_before, reason=st.RUNNING):
        """Integrate to ``clock[STOP]``; return the kernel's reason, or RUNNING if a limit of this run is used up."""
        while True:
            if reason in (st.FOUND_STIFF, st.FOUND_CALM):
                self._use("rosenbrock" if reason == st.FOUND_STIFF else "explicit")
                self.settings[planning.CALM_STRETCH] *= 2.0 if reason == st.FOUND_CALM else 1.0
            elif reason == st.WANTS_DOUBLE:
                self.gram, self.known = kept_arrays(self.X, 0.0)
            elif reason != st.RUNNING:
                return reason
            left = self.max_steps - int(self.count[st.ACCEPTED] + self.count[st.REJECTED])
            if left <= 0 or self._hovers():
                return st.RUNNING
            kernels = self._kernels() if kernels is None else kernels
            attempts = min(self.attempts, left)
            if self.rule.time_dependent:
                # The step is planned first, since its parameters are evaluated at its stages; then it is attempted once.
                attempts = 1
                reason = self._call(kernels, np.zeros((1, self.problem.n_features)), 0)
                if reason != st.RUNNING:
                    return reason
            reason = self._call(kernels, self._parameters(break_before), attempts)

    def _hovers(self):
        """Whether the residual has not fallen by a thousandth in the last half of a long run that is to converge."""
        return self.t_end is None and entry_point(starting.stalls)(self.count)

    def _weights(self):
        """Return (beta, log u, log v) of the state."""
        d = self.X.shape[1]
        rows = self.space[self.first + st.LOG_U * d:self.first + (st.BETA + 1) * d].copy()
        return rows[2 * d:], rows[:d], rows[d:2 * d]

    def _integrals(self):
        """Return (nu, Q) of the state."""
        n, d = self.X.shape
        Q = self.first + st.ROWS * d + n
        return self.space[Q - n:Q].copy(), self.space[Q:Q + d].copy() if self.rule.shrinks else np.zeros(d)

    def _residual_norm(self):
        return self.clock.item(st.RESIDUAL)

    def _loss(self):
        norm = self._residual_norm()
        return 0.5 * self.c * norm * norm + self.rows.unreachable_loss

    def _keep(self):
        if self.clock[st.STARTED] == 0.0:
            beta = difference_of_squares(self.log_product, self.log_ratio)
            self.kept.append((0.0, beta, self.start.log_u, self.start.log_v, self.problem.loss(beta)))
        else:
            self.kept.append((self.clock[st.T], *self._weights(), self._loss()))

    def _log_alpha_error(self):
        return max(2.0 * float(self.clock[st.ERROR_OF_Q]), self.rtol) if self.rule.shrinks else 0.0

    def _error_estimate(self):
        error = self.clock.item(st.ERROR_OF_BETA)
        if self.rule.shrinks:
            error = max(error, 2.0 * float(self.clock[st.ERROR_OF_Q]))
        if not self.rule.exact_curvature:
            # Carried errors are damped a little too much: claim no more than was asked for.
            return max(error, self.rtol)
        if self.methods[-1] == "plateaus" and self.t_end is not None:
            error = max(error, self.rtol)  # a jump leaves a part of the tolerance
        # What is held during a step shows in no estimate.
        held = self.settings[planning.ROOM] > 0.0 or self.methods[-1] == "plateaus"
        return max(error, _EPS * (1.0 + self.clock.item(st.REACH)), starting.HELD_BELOW * self.rtol if held else 0.0)

    def _result(self, reason, kind=FlowResult, **more):
        count, t = self.count.tolist(), self.clock.item(st.T)
        beta, log_u, log_v = self._weights()
        nu, shrinkage = self._integrals()
        error = self._error_estimate()
        residual = self._residual_norm() / self.scale if self.scale > 0.0 else 0.0
        status, message = self._verdict(reason, t, count[st.ACCEPTED], residual, error)
        times, betas, log_us, log_vs, losses = self._trajectory()
        fields = {
            "beta": beta, "t": t, "loss": self._loss(), "residual": residual, "log_u": log_u, "log_v": log_v,
            "dual": nu if self.rows.basis is None else self.rows.basis @ nu, "shrinkage": shrinkage,
            "success": status in _SUCCESSES, "status": status, "message": message, "error_estimate": error,
            "n_steps": count[st.ACCEPTED], "n_rejected": count[st.REJECTED], "n_rhs": count[st.RHS],
            "n_factorizations": count[st.FACTORIZATIONS], "method": self._methods(), "times": times, "betas": betas,
            "log_us": log_us, "log_vs": log_vs, "losses": losses, "problem": self.problem, "rule": self.rule,
            "log_alpha": self.start.log_alpha, "log_ratio": self.start.log_ratio, "rtol": self.rtol, "depth": 2,
            "exact_law": True, "n_jumps": 0 if self.tally is None else int(self.tally[plateaus.JUMPS]),
            "log_alpha_error": self._log_alpha_error() if kind is FlowResult else math.nan}
        fields.update(more)
        return kind._made_of(fields)

    def _trajectory(self):
        if not self.kept:
            return _nothing_kept(self.X.shape[1])
        return tuple(np.array(column) for column in zip(*self.kept, strict=True))

    def _methods(self):
        if len(self.methods) <= 3:
            return " -> ".join(self.methods)
        return f"{self.methods[0]} -> ... -> {self.methods[-1]} ({len(self.methods) - 1} switches)"

    def _verdict(self, reason, t, steps, residual, error):
        limit = largest_error(self.rtol, self.clock.item(st.REACH))
        if reason == st.AT_STOP and error <= limit:
            return Status.REACHED_T_END, f"reached t_end = {t:.6g} in {steps} steps; relative residual {residual:.1e}"
        at = f"at t = {t:.6g} after {steps} steps"
        if reason in (st.AT_STOP, st.CONVERGED, st.STATIONARY) and not error <= limit:
            return Status.INACCURATE, (f"finished {at}, but the estimated relative error {error:.1e} is above {limit:.0e}; "
                                       f"ask for a smaller rtol")
        if reason == st.CONVERGED:
            least = "" if self.rows.unreachable_loss <= 1e-24 * self.scale**2 else (
                f"; the data are not an interpolator: converged to least squares, loss {self.rows.unreachable_loss:.6g}")
            return Status.CONVERGED, f"relative residual {residual:.1e} {at}{least}"
        if reason == st.STATIONARY:
            return Status.STATIONARY, f"no weight moves any more {at}; relative residual {residual:.1e}, not an interpolator"
        h = float(self.clock[st.H])
        if reason == st.DIVERGED or (reason == st.STEP_TOO_SMALL and residual > 1e6):
            return Status.DIVERGED, (f"the weights grow without bound {at}; this flow has no limit (gamma or epsilon too "
                                     f"large for these data?)")
        if reason == st.STEP_TOO_SMALL:
            return Status.STEP_TOO_SMALL, (f"step {h:.1e} below the resolution of t {at}, relative residual {residual:.1e}; "
                                           f"the flow blows up or jumps here (gamma, epsilon or rho too large?)")
        best = self.clock[st.BEST_RESIDUAL] / self.scale if self.scale > 0.0 else 0.0
        if self._hovers():
            return Status.HOVERING, (f"the residual has stopped falling {at}: relative residual {residual:.2e} now, "
                                     f"{best:.2e} at best, in step {int(self.count[st.BEST_AT])}; this rule need not settle")
        return Status.STEP_LIMIT, (f"max_steps = {self.max_steps} used up {at}: last step {h:.1e} ({self.methods[-1]}), "
                                   f"relative residual {residual:.1e}; raise max_steps or give t_end")
