"""What a flow returns: `FlowResult`, and the words of its `Status`."""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from .network import difference_of_squares
from .problem import Problem
from .rules import Rule


class Status(StrEnum):
    """Why a flow stopped, in words."""

    CONVERGED = "converged"
    REACHED_T_END = "reached t_end"
    STATIONARY = "stationary"
    HOVERING = "hovering"
    DIVERGED = "diverged"
    STEP_LIMIT = "step limit"
    STEP_TOO_SMALL = "step too small"
    INACCURATE = "inaccurate"


@dataclass(frozen=True, repr=False, eq=False)
class FlowResult:
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
        smallest coordinates.
    n_steps, n_rejected, n_rhs, n_factorizations : int
        Accepted and rejected steps, evaluations of (p, q), Cholesky factorisations.
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

    @property
    def log_effective_alpha(self):
        """Logarithm of the effective initialisation, ``log alpha - 2 int q``, shape (d,)."""
        return self.log_alpha - 2.0 * self.shrinkage

    @property
    def effective_alpha(self):
        """Effective initialisation ``sqrt(u v)``, shape (d,); 0 where it underflows."""
        with np.errstate(under="ignore"):
            return np.exp(self.log_effective_alpha)

    @property
    def center(self):
        """Bregman centre ``2 alpha_eff^2 sinh(log(u0/v0))``, shape (d,) (Azulay et al. 2021)."""
        return difference_of_squares(2.0 * self.log_effective_alpha, self.log_ratio)

    def __repr__(self):
        return (f"FlowResult({self.status}: t={self.t:.6g}, loss={self.loss:.3g}, residual={self.residual:.1e}, "
                f"error_estimate={self.error_estimate:.1e}, steps={self.n_steps}, method={self.method!r})")
