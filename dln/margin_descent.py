"""Gradient descent on two classes: `margin_descent`, plain or normalised by the loss, and its exact discrete law."""

import math

import numpy as np

from ._jit import entry_point
from .classification import checked_classification, checked_loss, log_loss_of
from .integrate import margin_steps as kernel
from .margin_flow import checked_margin_end, refuse_overflow
from .margin_result import MarginResult, MarginStatus
from .network import initialize
from .rules.base import number

__all__ = ["margin_descent"]

_CHUNK = 5_000  # steps between two returns to Python, where Ctrl-C is heard


def margin_descent(problem, *, step, n_steps, loss="exponential", normalized=True, alpha=None, log_alpha=None, log_ratio=None,
                   initial_weights=None, margin_end=None, save_at=None):
    """Train on two classes by full-batch gradient descent.

    Parameters
    ----------
    problem : Classification
        The data.
    step : float or callable
        Step size eta, or ``k -> eta_k``; positive.
    n_steps : int
        Number of steps.
    loss : {"exponential", "logistic"}
        The mean of ``exp(-m)`` or ``log(1 + exp(-m))``.
    normalized : bool
        Divide each step by the loss, so that the margin grows at a steady pace instead of like the logarithm of time.
    alpha, log_alpha, log_ratio, initial_weights : optional
        Initial weights, as for `flow`.
    margin_end : float, optional
        Stop at this least margin, at most 1e12; by default make all the steps.
    save_at : array_like of int (K,), optional
        Increasing step numbers, from 0 to `n_steps`, at which the trajectory is kept.

    Returns
    -------
    MarginResult
        Its `log_effective_alpha` and `effective_log_ratio` are those of the discrete law,
        ``log alpha_+ = log|u| - 2 Z^T dual`` and ``log alpha_- = log|v| + 2 Z^T dual``, whatever the step sizes.

    Raises
    ------
    ValueError, TypeError
        If an argument is bad.

    References
    ----------
    The discrete law: Nacson et al. (2022), Even et al. (2023); normalised steps: Nacson et al. (2019), Convergence of gradient
    descent on separable data.
    """
    checked_classification(problem)
    checked_loss(loss)
    start = initialize(problem.n_features, alpha=alpha, log_alpha=log_alpha, log_ratio=log_ratio,
                       initial_weights=initial_weights)
    if isinstance(n_steps, bool) or not isinstance(n_steps, (int, np.integer)) or n_steps < 1:
        raise ValueError(f"n_steps must be a positive integer, got {n_steps!r}")
    if not callable(step):
        step = number("step", step, minimum=0.0, strict=True)
    if margin_end is not None:
        margin_end = checked_margin_end(margin_end)
    refuse_overflow(start)
    saves = _checked_saves(save_at, int(n_steps))
    return _descent(problem, step, int(n_steps), loss, bool(normalized), start,
                    math.inf if margin_end is None else margin_end, saves)


def _checked_saves(save_at, n_steps):
    if save_at is None:
        return []
    saves = np.atleast_1d(np.asarray(save_at))
    if saves.ndim != 1 or saves.dtype.kind not in "iu":
        raise TypeError(f"save_at must be a vector of step numbers (integers), got {saves.dtype} of shape {saves.shape}")
    for k, at in enumerate(saves):
        if not 0 <= at <= n_steps or (k and at <= saves[k - 1]):
            raise ValueError(f"save_at[{k}] = {at}: step numbers must increase, from 0 to n_steps = {n_steps}")
    return [int(at) for at in saves]


def _sizes(step, first, count):
    if not callable(step):
        return np.full(count, step)
    return np.array([number(f"step({k})", step(k), minimum=0.0, strict=True) for k in range(first, first + count)])


def _descent(problem, step, n_steps, loss, normalized, start, margin_end, saves):
    n, d = problem.Z.shape
    log_u, log_v = start.log_u.copy(), start.log_v.copy()
    sign_u, sign_v, dual = np.ones(d), np.ones(d), np.zeros(n)
    beta, margins, work = np.empty(d), np.empty(n), np.empty(n)
    made, total, outcome = 0, 0.0, kernel.DONE
    kept: list[tuple] = []

    def advance(sizes):
        return entry_point(kernel.descend)(problem.Z, log_u, log_v, sign_u, sign_v, dual, sizes, loss == "logistic", normalized,
                                           beta, margin_end, margins, work)

    advance(np.empty(0))  # the margins of the start
    for stop in [*saves, n_steps]:
        while made < stop and outcome == kernel.DONE:
            sizes = _sizes(step, made, min(stop - made, _CHUNK))
            outcome, count = advance(sizes)
            made += int(count)
            total += math.fsum(sizes[: int(count)])
        if made == stop and len(kept) < len(saves) and outcome in (kernel.DONE, kernel.AT_MARGIN):
            kept.append((margins.min(), beta.copy(), dual.copy(), math.log(total) if total else -math.inf,
                         log_loss_of(margins, loss)))
    turned = 2.0 * (dual @ problem.Z)
    least = float(margins.min())
    separable = problem.separation.separable
    status, message = {
        kernel.DONE: (MarginStatus.FINISHED, f"{made} steps, margin {least:.6g}"),
        kernel.AT_MARGIN: (MarginStatus.REACHED_MARGIN, f"margin {least:.6g} after {made} steps"),
        kernel.OVERFLOWING: (MarginStatus.OVERFLOW, f"step {made} would take a weight out of the range of floats; give "
                                                    "margin_end, fewer steps or smaller ones"),
        kernel.VANISHED: (MarginStatus.DIVERGED, f"step {made} would take a weight to 0 exactly; change the step size"),
    }[int(outcome)]
    if not separable:
        status, message = MarginStatus.NOT_SEPARABLE, f"{problem.separation.message}; {message}"
    columns = list(zip(*kept, strict=True)) if kept else [[], np.empty((0, d)), np.empty((0, n)), [], []]
    margins_saved, betas, duals, log_ts, log_losses = (np.array(column, dtype=float) for column in columns)
    return MarginResult(
        beta=beta, log_u=log_u, log_v=log_v, sign_u=sign_u, sign_v=sign_v, dual=dual,
        log_t=math.log(total) if total else -math.inf, log_effective_alpha=0.5 * (log_u + log_v),
        effective_log_ratio=(log_u - log_v) - 2.0 * turned, error_estimate=0.0,
        success=status in (MarginStatus.FINISHED, MarginStatus.REACHED_MARGIN), status=status, message=message, n_steps=made,
        n_rejected=0, margins_saved=margins_saved, betas=betas, duals=duals, log_ts=log_ts, log_losses=log_losses,
        problem=problem, loss=loss, separation=problem.separation)
