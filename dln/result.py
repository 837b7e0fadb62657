"""What a run returns: `FlowResult`, `DescentResult`, and the words of their `Status`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from .network import difference_of_squares
from .problem import Problem
from .rules import Flooding, Rule


class Status(StrEnum):
    """Why a run stopped, in words."""

    CONVERGED = "converged"
    REACHED_T_END = "reached t_end"
    ALL_STEPS = "all steps made"
    STATIONARY = "stationary"
    HOVERING = "hovering"
    DIVERGED = "diverged"
    STEP_LIMIT = "step limit"
    STEP_TOO_SMALL = "step too small"
    INACCURATE = "inaccurate"
    SIGN_CHANGE = "sign change"


class EffectiveInitialization(ABC):
    """What every run ends in, and all that a prediction needs: an effective initialisation and a centre."""

    @property
    @abstractmethod
    def log_effective_alpha(self):
        """Logarithm of the effective initialisation, shape (d,)."""

    @property
    @abstractmethod
    def effective_log_ratio(self):
        """Logarithm of the ratio of u to v that the centre has, shape (d,)."""

    @property
    def effective_alpha(self):
        """Effective initialisation ``sqrt|u v|``, shape (d,); 0 where it underflows."""
        with np.errstate(under="ignore"):
            return np.exp(self.log_effective_alpha)

    @property
    def center(self):
        """Bregman centre ``2 alpha_eff^2 sinh(effective_log_ratio)``, shape (d,) (Azulay et al. 2021)."""
        return difference_of_squares(2.0 * self.log_effective_alpha, self.effective_log_ratio)


class FlowLaw(EffectiveInitialization):
    """The law of a flow, with noise or without: ``shrinkage = int q`` lowers the scale, and the shape of the start stays."""

    log_alpha: np.ndarray
    log_ratio: np.ndarray
    shrinkage: np.ndarray

    @property
    def log_effective_alpha(self):
        """Logarithm of the effective initialisation, ``log alpha - 2 int q``, shape (d,)."""
        return self.log_alpha - 2.0 * self.shrinkage

    @property
    def effective_log_ratio(self):
        """``log(u0/v0)``, shape (d,): a flow keeps the shape of its initialisation in the centre."""
        return self.log_ratio


@dataclass(frozen=True, repr=False, eq=False)
class FlowResult(FlowLaw):
    """A trajectory's end, what it conserved, and how it was computed.

    Attributes
    ----------
    beta : ndarray (d,)
        The predictor ``u*u - v*v`` at time `t`.
    t : float
        Final time.
    loss, residual : float
        ``|X beta - y|^2 / (4N)``, and the norm of the reachable part of ``X beta - y`` relative to that of y.
    log_u, log_v : ndarray (d,)
        Logarithms of the weights at time `t`.
    log_effective_alpha, effective_alpha : ndarray (d,)
        ``alpha_eff = sqrt(u v)``, the effective initialisation, and its logarithm (which does not underflow).
    center : ndarray (d,)
        Bregman centre ``2 alpha_eff^2 sinh(log(u0/v0))``; 0 when ``u0 = v0``.
    dual : ndarray (N,)
        ``int p dt = X^T dual``.
    shrinkage : ndarray (d,)
        ``int q dt``.
    success : bool
        The run did what was asked: it converged, or reached `t_end`, with finite numbers and an error estimate below
        1000 `rtol`.
    status, message : Status, str
        Why the run stopped: a word, and a line that says what to do if that was not the wish.
    error_estimate : float
        Estimated relative error of `beta` and `effective_alpha` at time `t`: local errors, carried along the flow; at least
        `rtol` for rules whose Jacobian is approximated, and 0.01 `rtol` for stiff steps of gradient flow, which hold the
        smallest coordinates.  Of a limit from a small scale (see `flow`) that of `beta` alone.
    log_alpha_error : float
        Estimated largest absolute error of `log_effective_alpha`; 0 for rules without q, NaN where it is not estimated.  A
        guide: it leaves out how late wakings add up, and was seen to be several times too small on uncentred data.
    n_steps, n_rejected, n_rhs, n_factorizations : int
        Accepted and rejected steps, evaluations of (p, q), Cholesky factorisations.
    n_jumps : int
        Plateaus on which the state was solved for instead of being integrated.
    rescaled_t, rescaled_times : float, ndarray (K,)
        `t` and `times` over ``log(1/alpha)``, the time scale of the rich limit; of the geometric mean of alpha, NaN where that
        is not below 1.
    method : str
        The methods used, in order.
    times, betas, log_us, log_vs, losses : ndarray
        The trajectory at `save_at`: (K,), (K, d), (K, d), (K, d), (K,); empty without `save_at`.
    problem, rule, log_alpha, log_ratio, rtol
        What was integrated: inputs, with `log_alpha` and ``log_ratio = log(u0/v0)`` broadcast to (d,).
    depth, exact_law : float, bool
        D of ``beta = u^D - v^D``, and whether `log_effective_alpha` and `center` determine the limit: at depth 2 for every
        rule; above for gradient flow and even weight decay, with ``alpha_eff^(2-D) = (u^(2-D) + v^(2-D))/2`` and dual
        ``int g(s) exp(2 (D-2) int_s^t lam) ds = X^T dual``.  Without the law `dual` and `shrinkage` are NaN.
    """

    beta: np.ndarray
    t: float
    loss: float
    residual: float
    log_u: np.ndarray
    log_v: np.ndarray
    dual: np.ndarray
    shrinkage: np.ndarray
    success: bool
    status: Status
    message: str
    error_estimate: float
    n_steps: int
    n_rejected: int
    n_rhs: int
    n_factorizations: int
    method: str
    times: np.ndarray
    betas: np.ndarray
    log_us: np.ndarray
    log_vs: np.ndarray
    losses: np.ndarray
    problem: Problem
    rule: Rule
    log_alpha: np.ndarray
    log_ratio: np.ndarray
    rtol: float
    depth: float = field(default=2)
    exact_law: bool = field(default=True)
    n_jumps: int = field(default=0)
    log_alpha_error: float = field(default=np.nan)

    @classmethod
    def _made_of(cls, fields):
        """Make a result of the dict of all its fields at once: the constructor of a frozen dataclass sets each by a call."""
        result = object.__new__(cls)
        object.__setattr__(result, "__dict__", fields)
        return result

    @property
    def _log_time_scale(self):
        scale = -float(np.mean(self.log_alpha))
        return scale if scale > 0.0 else np.nan

    @property
    def rescaled_t(self):
        """``t / log(1/alpha)``, in which the rich limit is seen (Pesme & Flammarion 2023)."""
        return self.t / self._log_time_scale

    @property
    def rescaled_times(self):
        """``times / log(1/alpha)``, shape (K,)."""
        return self.times / self._log_time_scale

    def __repr__(self):
        return (f"FlowResult({self.status}: t={self.t:.6g}, loss={self.loss:.3g}, residual={self.residual:.1e}, "
                f"error_estimate={self.error_estimate:.1e}, steps={self.n_steps}, method={self.method!r})")


@dataclass(frozen=True, repr=False, eq=False)
class DescentResult(EffectiveInitialization):
    """The end of a run of discrete steps, what it conserved exactly, and how it was made.

    Attributes
    ----------
    beta : ndarray (d,)
        The predictor ``u*u - v*v`` after the last step.
    n_steps : int
        Steps made; fewer than asked for where the run converged or diverged.
    t : float
        Sum of the step sizes.
    loss, residual : float
        ``|X beta - y|^2 / (4N)``, and the norm of the reachable part of ``X beta - y`` relative to that of y.
    log_u, log_v, sign_u, sign_v : ndarray (d,)
        Logarithms of ``|u|`` and ``|v|``, and the signs.
    n_sign_flips : int
        How often a weight changed its sign.
    log_effective_alpha, effective_log_ratio : ndarray (d,)
        ``log sqrt|u v|`` and ``log(alpha+ / alpha-)``, with ``alpha+ = |u| exp(2 P)``, ``alpha- = |v| exp(-2 P)`` and P the sum
        over all steps of ``eta p / (1 - momentum)``.  Exact for every step size; with
        ``center = alpha+^2 - alpha-^2`` they determine beta, given ``X beta``.
    dual : ndarray (N,)
        ``P = X^T dual``.
    n_descents, n_ascents, n_alternations : int
        With `Flooding`: steps downhill, steps uphill, and changes from one to the other between neighbouring steps.
    success : bool
        It converged, or made all its steps with finite numbers.
    status, message : Status, str
        Why the run stopped: a word, and a line.
    saved_steps, times, betas, log_us, log_vs, losses, gradient_norms : ndarray
        The trajectory at the steps `save_at`: (K,), (K,), (K, d), (K, d), (K, d), (K,), (K,); the last is the norm of the
        gradient of the loss in the weights.  Empty without `save_at`.
    problem, rule, log_alpha, log_ratio, momentum
        Inputs, with `log_alpha` and ``log_ratio = log(u0/v0)`` broadcast to (d,).
    exact_law : bool
        False where a weight has become exactly 0, so that no logarithm of it exists.
    depth : float
        2.
    """

    beta: np.ndarray
    n_steps: int
    t: float
    loss: float
    residual: float
    log_u: np.ndarray
    log_v: np.ndarray
    sign_u: np.ndarray
    sign_v: np.ndarray
    n_sign_flips: int
    dual: np.ndarray
    n_descents: int
    n_ascents: int
    n_alternations: int
    success: bool
    status: Status
    message: str
    saved_steps: np.ndarray
    times: np.ndarray
    betas: np.ndarray
    log_us: np.ndarray
    log_vs: np.ndarray
    losses: np.ndarray
    gradient_norms: np.ndarray
    problem: Problem
    rule: Rule
    log_alpha: np.ndarray
    log_ratio: np.ndarray
    momentum: float
    exact_law: bool = field(default=True)
    depth: float = field(default=2.0)

    @property
    def log_effective_alpha(self):
        """Logarithm of the effective initialisation, ``log sqrt|u v|``, shape (d,)."""
        return 0.5 * (self.log_u + self.log_v)

    @property
    def effective_log_ratio(self):
        """``log(alpha+ / alpha-) = log|u/v| + 4 P``, shape (d,)."""
        return self.log_u - self.log_v + 4.0 * (self.dual @ self.problem.X)

    @property
    def alternation_fraction(self):
        """With `Flooding`: how many of the pairs of neighbouring steps go one up and one down; else 0."""
        return self.n_alternations / max(1, self.n_descents + self.n_ascents - 1)

    @property
    def flooded_loss(self):
        """The loss that was trained: ``|loss - level| + level`` with `Flooding`, else the loss."""
        return self.rule.flooded_loss(self.problem, self.beta) if isinstance(self.rule, Flooding) else self.loss

    def __repr__(self):
        return (f"DescentResult({self.status}: steps={self.n_steps}, t={self.t:.6g}, loss={self.loss:.3g}, "
                f"residual={self.residual:.1e}, sign flips={self.n_sign_flips})")
