"""A tile of flows: many cells of one problem, each with its own rule parameters and initial scale, in one compiled call."""

from dataclasses import dataclass

import numpy as np

from ..flow import flow
from ..problem import Problem
from ..result import Status
from ..rules import Flooding, GradientFlow, Rule

#: What the codes in `TileResult.statuses` stand for.
STATUSES = tuple(Status)


@dataclass(frozen=True, repr=False, eq=False)
class TileResult:
    """The ends of C flows of one problem, as arrays over the cells; what they mean is said in `FlowResult`.

    Attributes
    ----------
    betas, log_effective_alphas, effective_log_ratios : ndarray (C, d)
    duals : ndarray (C, N)
        ``int p dt = X^T dual``.
    losses, residuals, times, error_estimates : ndarray (C,)
    n_steps, n_rejected, n_rhs, n_factorizations, n_jumps : ndarray of int (C,)
    statuses : ndarray of int8 (C,)
        Codes: ``STATUSES[code]`` is the `Status`.
    success : ndarray of bool (C,)
    duality_gaps : ndarray (C,)
        With `limits_only`, the relative duality gap of each limit; else NaN.
    """

    betas: np.ndarray
    log_effective_alphas: np.ndarray
    effective_log_ratios: np.ndarray
    duals: np.ndarray
    losses: np.ndarray
    residuals: np.ndarray
    times: np.ndarray
    error_estimates: np.ndarray
    n_steps: np.ndarray
    n_rejected: np.ndarray
    n_rhs: np.ndarray
    n_factorizations: np.ndarray
    n_jumps: np.ndarray
    statuses: np.ndarray
    success: np.ndarray
    duality_gaps: np.ndarray


def tile_covers(rule, *, depth=2, save_at=None):
    """Return whether `flow_tile` covers a rule: depth 2, parameters that do not depend on time, no sliding motion.

    Parameters
    ----------
    rule : Rule
    depth : float
    save_at : array_like, optional

    Returns
    -------
    bool
    """
    return (isinstance(rule, Rule) and not isinstance(rule, Flooding) and not rule.time_dependent and depth == 2
            and save_at is None)


def flow_tile(problem, rules=None, log_alphas=0.0, log_ratios=None, *, t_end=None, rtol=1e-8, residual_tol=1e-10,
              method="auto", max_steps=100_000, limits_only=False, limit_tol=1e-6):
    """Integrate C flows of one problem.

    Parameters
    ----------
    problem : Problem
    rules : Rule or sequence of Rule (C,), optional
        One for all cells, or one for each, all of one kind; by default `GradientFlow`.
    log_alphas : float, array_like (C,) or (C, d)
        Logarithms of the initial scales.
    log_ratios : float, array_like (C,) or (C, d), optional
        Initial shapes ``log(u0/v0)``, by default 0.
    t_end, rtol, residual_tol, method, max_steps
        As in `dln.flow`, the same for all cells.
    limits_only : bool
        Only the limits are wanted, not the way: betas, scales and duals to `limit_tol`.
    limit_tol : float
        Largest relative error of a limit.

    Returns
    -------
    TileResult
    """
    assert isinstance(problem, Problem)
    rules = GradientFlow() if rules is None else rules
    size = max(np.ndim(log_alphas) and len(log_alphas), np.ndim(log_ratios) and len(log_ratios),
               0 if isinstance(rules, Rule) else len(rules), 1)
    one = isinstance(rules, Rule)
    runs = [flow(problem, rules if one else rules[k], log_alpha=np.broadcast_to(log_alphas, size)[k] if np.ndim(log_alphas) < 2
                 else log_alphas[k],
                 log_ratio=None if log_ratios is None else np.broadcast_to(log_ratios, size)[k] if np.ndim(log_ratios) < 2
                 else log_ratios[k],
                 t_end=t_end, rtol=rtol, residual_tol=residual_tol, method=method, max_steps=max_steps) for k in range(size)]

    def column(name):
        return np.array([getattr(run, name) for run in runs])

    return TileResult(
        betas=column("beta"), log_effective_alphas=column("log_effective_alpha"),
        effective_log_ratios=column("effective_log_ratio"), duals=column("dual"), losses=column("loss"),
        residuals=column("residual"), times=column("t"), error_estimates=column("error_estimate"), n_steps=column("n_steps"),
        n_rejected=column("n_rejected"), n_rhs=column("n_rhs"), n_factorizations=column("n_factorizations"),
        n_jumps=column("n_jumps"), statuses=np.array([STATUSES.index(run.status) for run in runs], dtype=np.int8),
        success=column("success"), duality_gaps=np.full(size, np.nan))
