"""What training on two classes returns: `MarginResult`, and the words of its `MarginStatus`."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from .classification import Classification, Separation, log_loss_of
from .network import difference_of_squares


class MarginStatus(StrEnum):
    """Why training on two classes stopped, in words."""

    REACHED_MARGIN = "reached margin"
    REACHED_TIME = "reached time"
    FINISHED = "finished"
    NOT_SEPARABLE = "not separable"
    STEP_LIMIT = "step limit"
    STEP_TOO_SMALL = "step too small"
    OVERFLOW = "overflow"
    DIVERGED = "diverged"
    INACCURATE = "inaccurate"


@dataclass(frozen=True, repr=False, eq=False)
class MarginResult:
    """A run on two classes: its end, what it conserved, and how it was computed.

    The law, at every time and every step size: with ``alpha_eff`` and ``effective_log_ratio``

        beta = 2 alpha_eff^2 sinh(effective_log_ratio + 4 Z^T dual),    dual >= 0,

    so that beta minimises the Bregman divergence of the potential of ``alpha_eff`` from `center` subject to
    ``Z b >= Z beta``, with multipliers `dual`.  The flow leaves ``alpha_eff`` and ``effective_log_ratio`` as they were.

    Attributes
    ----------
    beta : ndarray (d,)
        The predictor ``u*u - v*v``.
    log_u, log_v : ndarray (d,)
        Logarithms of the moduli of the weights.
    sign_u, sign_v : ndarray (d,)
        Their signs: +1 in a flow; a step that is too large may change them.
    dual : ndarray (N,)
        ``int a dt`` or ``sum_k eta_k a``, with ``a_i = -l'(z_i.beta)/N >= 0``.
    log_t : float
        Logarithm of ordinary time, or of the sum of the steps (which are divided by the loss if normalised).
    log_effective_alpha, effective_log_ratio : ndarray (d,)
        The law's scale and shape.
    error_estimate : float
        Bound on the relative error of the weights (of beta, where that is larger): the sum of the local errors; of a
        descent, 0: it is what it is.
    success, status, message : bool, MarginStatus, str
    n_steps, n_rejected : int
    margins_saved, betas, duals, log_ts, log_losses : ndarray
        The trajectory: (K,), (K, d), (K, N), (K,), (K,).
    problem, loss, separation
        What was trained on, the name of the loss, and the certificate of (non-)separability.
    """

    beta: np.ndarray
    log_u: np.ndarray
    log_v: np.ndarray
    sign_u: np.ndarray
    sign_v: np.ndarray
    dual: np.ndarray
    log_t: float
    log_effective_alpha: np.ndarray
    effective_log_ratio: np.ndarray
    error_estimate: float
    success: bool
    status: MarginStatus
    message: str
    n_steps: int
    n_rejected: int
    margins_saved: np.ndarray
    betas: np.ndarray
    duals: np.ndarray
    log_ts: np.ndarray
    log_losses: np.ndarray
    problem: Classification
    loss: str
    separation: Separation

    @property
    def margin(self):
        """The least margin, ``min_i z_i.beta``."""
        return self.problem.margin(self.beta)

    @property
    def l1_margin(self):
        """``margin / |beta|_1``; NaN at beta = 0."""
        return _over(self.margin, np.sum(np.abs(self.beta)))

    @property
    def l2_margin(self):
        """``margin / |beta|_2``; NaN at beta = 0."""
        return _over(self.margin, np.linalg.norm(self.beta))

    @property
    def log_loss(self):
        """Logarithm of the mean loss."""
        return log_loss_of(self.problem.margins(self.beta), self.loss)

    @property
    def log_mu(self):
        """Logarithm of ``mu = alpha_eff^2 / margin``, shape (d,); NaN while the margin is not positive."""
        return 2.0 * self.log_effective_alpha - np.log(self.margin) if self.margin > 0.0 else np.full(self.beta.shape, np.nan)

    @property
    def mu(self):
        """``alpha_eff^2 / margin``, shape (d,): which margin is maximised, l2 where large, l1 where small."""
        with np.errstate(under="ignore", over="ignore"):
            return np.exp(self.log_mu)

    @property
    def center(self):
        """Bregman centre ``2 alpha_eff^2 sinh(effective_log_ratio)``, shape (d,)."""
        return difference_of_squares(2.0 * self.log_effective_alpha, self.effective_log_ratio)

    def __repr__(self):
        return (f"MarginResult({self.status}: margin={self.margin:.6g}, l1_margin={self.l1_margin:.6g}, "
                f"l2_margin={self.l2_margin:.6g}, log_t={self.log_t:.6g}, error_estimate={self.error_estimate:.1e}, "
                f"steps={self.n_steps})")


def _over(margin, norm):
    return float(margin / norm) if norm > 0.0 else float("nan")
