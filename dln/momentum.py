"""Flows with momentum: `momentum_flow` integrates ``inertia theta'' + theta' + grad = 0``, or Nesterov's flow."""

from dataclasses import dataclass, field

import numpy as np

from ._jit import address, entry_point
from ._suggest import unknown
from .flow import METHODS, Integration
from .integrate import inertia as im
from .integrate import inertia_steps as steps
from .integrate import state as st
from .integrate.stops import checked_times
from .integrate.tableaus import DOP853, W6
from .network import difference_of_squares, exponential_difference, initialize
from .problem import Problem
from .result import FlowResult, Status
from .rules import Flooding, GradientFlow, Rule
from .rules.base import number

__all__ = ["MomentumResult", "momentum_flow"]

KINDS = ("constant", "nesterov")
_LOOSEST = 1e-2
_MEMORY = 0.3


def _with_nodes(A, C, b, c, error_high, error_low, gamma, order):
    nodes = np.append(c, 1.0)
    return (A, C, b, nodes, error_high, error_low, gamma, order, _MEMORY), nodes


# The kernel's arguments, and the nodes of the stages and of the end of the step.
_EXPLICIT = _with_nodes(DOP853.A, np.empty((0, 0)), DOP853.b, DOP853.c, DOP853.error_high, DOP853.error_low, 0.0, DOP853.order)
_STIFF = _with_nodes(W6.A, W6.C, W6.m, W6.c, W6.e, np.empty(0), W6.gamma, W6.order)


@dataclass(frozen=True, repr=False, eq=False)
class MomentumResult(FlowResult):
    """The end of a trajectory with momentum: all that a `FlowResult` has, and the velocities.

    Attributes
    ----------
    log_velocity_u, log_velocity_v : ndarray (d,)
        ``u'/u`` and ``v'/v`` at time `t`.
    sign_u, sign_v : ndarray (d,)
        Signs of the weights, which differ from 1 only with `through_zero`; `log_u` and `log_v` are of the moduli.
    n_sign_flips : int
        How often a weight came to 0.
    zero_time, zero_weight : float, tuple
        When a weight first came to 0, and which: ``("u", j)`` or ``("v", j)``; NaN and () if none did.
    inertia : float or None
        lam; None for Nesterov's flow.
    dual : ndarray (N,)
        ``int w p ds = X^T dual`` with the weight ``w = 1 - exp(-(t - s)/inertia)``; for Nesterov's flow
        ``w = (s/2)(1 - s^2/t^2)``.
    shrinkage : ndarray (d,)
        ``log_effective_alpha = log alpha - 2 shrinkage``: what q and what inertia has taken from u v,
        ``int w [q + inertia (a^2 + b^2)/4] ds`` with ``a = u'/u``, ``b = v'/v`` (Nesterov's flow: 1 for inertia).
    exact_law : bool
        False if a weight has passed through 0: there the integral of ``a^2`` is infinite.
    """

    log_velocity_u: np.ndarray = field(kw_only=True)
    log_velocity_v: np.ndarray = field(kw_only=True)
    sign_u: np.ndarray = field(kw_only=True)
    sign_v: np.ndarray = field(kw_only=True)
    n_sign_flips: int = field(kw_only=True)
    zero_time: float = field(kw_only=True)
    zero_weight: tuple = field(kw_only=True)
    inertia: float | None = field(kw_only=True)

    @property
    def effective_log_ratio(self):
        """``log(u0/v0) - int w inertia (a^2 - b^2) ds``, shape (d,): inertia shifts the centre, too."""
        return self.log_u - self.log_v + 4.0 * (self.dual @ self.problem.X)

    def __repr__(self):
        law = "" if self.exact_law else f", {self.n_sign_flips} sign flips"
        kind = "Nesterov" if self.inertia is None else f"inertia={self.inertia:g}"
        return (f"MomentumResult({self.status}: t={self.t:.6g}, loss={self.loss:.3g}, residual={self.residual:.1e}, "
                f"error_estimate={self.error_estimate:.1e}, steps={self.n_steps}, {kind}{law})")

    @property
    def kind(self):
        """Which flow: "constant" or "nesterov"."""
        return "nesterov" if self.inertia is None else "constant"


def momentum_flow(problem, rule=None, *, inertia=None, kind="constant", alpha=None, log_alpha=None, log_ratio=None,
                  initial_weights=None, t_end=None, save_at=None, rtol=1e-8, residual_tol=1e-10, through_zero=False,
                  method="auto", max_steps=100_000):
    """Integrate a training rule with momentum in continuous time, from zero velocity.

    The flow is ``inertia theta'' + theta' + grad = 0``, which heavy ball with step eta and momentum m follows for
    ``inertia = eta/(1 - m)^2`` at time ``eta k/(1 - m)``; or Nesterov's, ``theta'' + (3/t) theta' + grad = 0``, at time
    ``sqrt(eta) k``.  "grad" of a rule is ``(2 u (p + q), -2 v (p - q))``.

    Parameters
    ----------
    problem : Problem
        The data.
    rule : Rule, optional
        The training rule, by default `GradientFlow`; not `Flooding`, whose force jumps for ever.
    inertia : float
        lam, above 0, in units of time; not for Nesterov's flow.
    kind : {"constant", "nesterov"}
        Which flow.
    alpha, log_alpha, log_ratio, initial_weights
        Initialisation, as for `dln.flow`; as small as ``log_alpha = -1e4``.
    t_end : float, optional
        Final time.  By default the run goes on until it has converged: until the residual is below `residual_tol` times that of
        y and what is left of the motion would change it by no more than ten times that.  Nesterov's flow comes to rest like
        ``t^(-3/2)`` only: give `t_end` or a larger `residual_tol`.
    save_at : array_like (K,), optional
        Times, from 0 on, increasing, at which the trajectory is kept.
    rtol : float
        Tolerance of a step, on the weights relative to each of them; at most 1e-2.
    residual_tol : float
        See `t_end`.
    through_zero : bool
        What to do when a weight comes to 0, where the effective initialisation ends to exist: stop, with the status "sign
        change", or go on, with `exact_law` False.
    method : {"auto", "explicit", "rosenbrock"}
        Explicit Runge-Kutta of order 8; a W-method of order 4 for stiff flows; or the first until the flow turns stiff.
    max_steps : int
        Largest number of attempted steps.

    Returns
    -------
    MomentumResult
        Numerical failure does not raise: look at `success`, `status` and `message`.

    Raises
    ------
    ValueError, TypeError
        If an argument is bad: one line that names it.

    Notes
    -----
    Each weight is kept as its ratio to a scale that is known by its logarithm and renewed after every step, so that no scale
    underflows and 0 is a point like any other.  Explicit steps are at most about ``6 inertia`` long; beyond, the W-method
    takes over, whose Jacobian knows the damping and the response of the residual.

    References
    ----------
    Papazov, Pesme & Flammarion (2024), Leveraging continuous time to understand momentum when training diagonal linear
    networks; Su, Boyd & Candes (2016), A differential equation for modeling Nesterov's accelerated gradient method.

    Examples
    --------
    >>> import dln
    >>> problem = dln.sparse_regression(20, 50, 3, rng=0)
    >>> run = dln.momentum_flow(problem, inertia=0.02, alpha=0.1)
    >>> str(run.status), bool(abs(run.beta - dln.predict(run).beta).max() < 1e-8)
    ('converged', True)
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be a dln.Problem, got {type(problem).__name__}; build one with dln.Problem(X, y)")
    rule = GradientFlow() if rule is None else rule
    if not isinstance(rule, Rule):
        raise TypeError(f"rule must be a training rule such as dln.GradientFlow(), got {rule!r}")
    if isinstance(rule, Flooding):
        raise ValueError("Flooding has no flow with momentum, since its force jumps at the level; use dln.descend")
    if method not in METHODS:
        raise ValueError(unknown("method", method, METHODS))
    if kind not in KINDS:
        raise ValueError(unknown("kind", kind, KINDS))
    if kind == "nesterov":
        if inertia is not None:
            raise ValueError(f"inertia goes with kind='constant' only, got {inertia} for Nesterov's flow")
    elif inertia is None:
        raise ValueError("give inertia, above 0 in units of time: eta/(1 - m)^2 for heavy ball with step eta and momentum m")
    else:
        inertia = number("inertia", inertia, minimum=0.0, strict=True)
    rtol = number("rtol", rtol, minimum=0.0, strict=True)
    if rtol > _LOOSEST:
        raise ValueError(f"rtol must be at most {_LOOSEST:g}, got {rtol:g}: looser, the answer can be silently wrong")
    residual_tol = number("residual_tol", residual_tol, minimum=0.0, strict=True)
    if t_end is not None:
        t_end = number("t_end", t_end, minimum=0.0, strict=True)
    if isinstance(max_steps, bool) or not isinstance(max_steps, (int, np.integer)) or max_steps < 1:
        raise ValueError(f"max_steps must be a positive integer, got {max_steps!r}")
    start = initialize(problem.n_features, alpha=alpha, log_alpha=log_alpha, log_ratio=log_ratio,
                       initial_weights=initial_weights)
    return InertialIntegration(inertia, bool(through_zero), problem, rule, start, t_end, checked_times(save_at, t_end),
                               max(rtol, 1e-14), residual_tol, method, int(max_steps)).run()


class InertialIntegration(Integration):
    """One run with momentum, in scaled weights and their velocities."""

    def __init__(self, inertia, through_zero, problem, rule, start, *rest):
        super().__init__(problem, rule, start, *rest)
        self.inertia, self.through_zero = inertia, through_zero
        self.probe = np.ones(self.X.shape[0])
        self.clock = np.append(self.clock, [np.nan, 0.0])
        self.count = np.append(self.count, [0, -1])

    def _lay_out(self, _):
        n, d = self.X.shape
        self.state = np.zeros((steps.ROWS, d))
        self.state[[steps.SIGN_U, steps.SIGN_V]] = 1.0
        self.log_product, self.log_ratio = self.state[steps.LOG_PRODUCT], self.state[steps.LOG_RATIO]
        self.z, self.f = np.zeros((2, 4 * d + 2 * n))
        self.error = np.zeros(2 * d)
        self.r = np.zeros(n)

    def _first_method(self):
        method, loose = super()._first_method()
        return "rosenbrock" if method == "plateaus" else method, loose  # those are known without inertia only

    def _use(self, method):
        self.methods.append(method)
        self.tableau, self.nodes = _EXPLICIT if method == "explicit" else _STIFF
        flops = (100.0 + (0 if method == "explicit" else self.X.shape[0])) * self.X.size
        # A call to the kernel lasts a fraction of a second, so that Ctrl-C is heard.
        self.attempts = int(min(2000, max(1, 1e8 // (flops + 1000))))

    def _kernels(self):
        return entry_point(im.advance), address(self.rule.kernel), address(self.rule.curvature)

    def _call(self, kernels, params, attempts):
        kernel, rule_kernel, curvature = kernels
        return kernel(rule_kernel, curvature, self.X, self.y, self.c, self.inertia or 0.0, self.through_zero, self.state,
                      self.z, self.f, self.r, self.error, self.probe, self.clock, self.count, self.settings, params,
                      *self.tableau, attempts)

    def _moved(self):
        """Return log|u/u0| and log|v/v0|, shape (2, d)."""
        d = self.problem.n_features
        with np.errstate(divide="ignore"):
            return self.state[[steps.MOVED_U, steps.MOVED_V]] + np.log(np.abs(1.0 + self.z[:2 * d])).reshape(2, d)

    def _weights(self):
        moved_u, moved_v = self._moved()
        log_u, log_v = self.start.log_u + moved_u, self.start.log_v + moved_v
        with np.errstate(under="ignore"):
            beta = exponential_difference(2.0 * np.maximum(log_u, log_v), self.start.log_ratio + (moved_u - moved_v))
        return beta, log_u, log_v

    def _integrals(self):
        n, d = self.X.shape
        moved_u, moved_v = self._moved()
        return self.z[4 * d:4 * d + n].copy(), -0.25 * (moved_u + moved_v)

    def _keep(self):
        if self.clock[st.STARTED] == 0.0:
            beta = difference_of_squares(self.log_product, self.log_ratio)
            self.kept.append((0.0, beta, self.start.log_u, self.start.log_v, self.problem.loss(beta)))
        else:
            self.kept.append((self.clock[st.T], *self._weights(), self._loss()))

    def _error_estimate(self):
        d = self.problem.n_features
        e_u, e_v = self.error[:d], self.error[d:]
        beta, log_u, log_v = self._weights()
        with np.errstate(under="ignore"):
            moved = 2.0 * (np.exp(2.0 * log_u) * e_u - np.exp(2.0 * log_v) * e_v)
        length = float(np.linalg.norm(beta))
        of_beta = float(np.linalg.norm(moved)) / length if length > 0.0 else 0.0
        return max(of_beta, 0.5 * float(np.max(np.abs(e_u + e_v))), self.rtol)

    def _verdict(self, reason, t, steps, residual, error):
        flips, which, d = int(self.count[im.FLIPS]), int(self.count[im.CROSSED]), self.problem.n_features
        if which >= 0:
            first = f"weight {'uv'[which // d]}[{which % d}] comes to 0 at t = {self.clock[im.CROSSED_AT]:.8g}"
        if reason == im.SIGN_CHANGE:
            return Status.SIGN_CHANGE, (f"sign change: {first}, where its effective initialisation is 0; stopped before it, at "
                                        f"t = {t:.6g}; give less inertia, or through_zero=True to go on")
        status, message = super()._verdict(reason, t, steps, residual, error)
        return status, message if not flips else f"{message}; {flips} sign flips, the first where {first}"

    def _result(self, reason, kind=MomentumResult, **more):
        d = self.problem.n_features
        factor, velocity = 1.0 + self.z[:2 * d], self.z[2 * d:4 * d]
        with np.errstate(divide="ignore", invalid="ignore"):
            rate_u, rate_v = (velocity / factor).reshape(2, d)
        sign_u, sign_v = self.state[[steps.SIGN_U, steps.SIGN_V]] * np.sign(factor).reshape(2, d)
        flips = 0 if reason == im.SIGN_CHANGE else int(self.count[im.FLIPS])
        which = int(self.count[im.CROSSED])
        return super()._result(
            reason, kind, log_velocity_u=rate_u, log_velocity_v=rate_v, sign_u=sign_u, sign_v=sign_v, n_sign_flips=flips,
            zero_time=float(self.clock[im.CROSSED_AT]), zero_weight=() if which < 0 else ("uv"[which // d], which % d),
            inertia=self.inertia, exact_law=flips == 0, **more)

