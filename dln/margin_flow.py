"""Gradient flow on two classes: `margin_flow`, in normalised time, to margins at which the loss itself has long underflowed."""

import math

import numpy as np

from ._jit import entry_point
from .classification import checked_classification, checked_loss, log_loss_of
from .integrate import margins as kernel
from .integrate.tableaus import RODAS5P
from .margin_result import MarginResult, MarginStatus
from .network import difference_of_squares, initialize
from .rules.base import number

__all__ = ["margin_flow"]

_LARGEST_MARGIN = 1e12  # softmax needs the margins themselves to an absolute accuracy well below 1
_ATTEMPTS = 200  # steps between two returns to Python, where Ctrl-C is heard


def margin_flow(problem, *, loss="exponential", alpha=None, log_alpha=None, log_ratio=None, initial_weights=None,
                margin_end=None, log_t_end=None, save_margins=None, save_log_times=None, rtol=1e-8, max_steps=100_000):
    """Train on two classes by gradient flow, up to a margin or a time.

    Parameters
    ----------
    problem : Classification
        The data.
    loss : {"exponential", "logistic"}
        ``exp(-m)`` or ``log(1 + exp(-m))`` of the margins m; the loss is the mean.
    alpha, log_alpha, log_ratio, initial_weights : optional
        Initial weights, as for `flow`: the scale may be as low as ``log_alpha = -1e6``.
    margin_end : float, optional
        Stop at this least margin, at most 1e12, by default 1e6.
    log_t_end : float, optional
        Stop at this logarithm of time instead.
    save_margins, save_log_times : array_like (K,), optional
        Increasing least margins (or logarithms of times) at which the trajectory is kept; one of the two.
    rtol : float
        Tolerance of a step on the weights, relative, at most 1e-2.
    max_steps : int
        Largest number of attempted steps.

    Returns
    -------
    MarginResult
        Numerical failure does not raise, nor do data that are not separable: look at `success`, `status` and `message`.

    Raises
    ------
    ValueError, TypeError
        If an argument is bad.

    Notes
    -----
    State: ``nu`` with ``log(u/v) = log(u0/v0) + 4 Z^T nu``.  See `dln.integrate.margins` for the method.  A margin of 1e6 takes
    some hundreds of steps; beyond 1e8 their number grows like the square root of the margin.

    References
    ----------
    Moroshko et al. (2020), Implicit bias in deep linear classification: initialization scale vs training accuracy.

    Examples
    --------
    >>> import dln
    >>> run = dln.margin_flow(dln.Classification([[2.0, 1.0], [-1.0, -3.0]], [1, -1]), alpha=0.1, margin_end=100.0)
    >>> str(run.status), round(run.margin, 6)
    ('reached margin', 100.0)
    """
    checked_classification(problem)
    checked_loss(loss)
    start = initialize(problem.n_features, alpha=alpha, log_alpha=log_alpha, log_ratio=log_ratio,
                       initial_weights=initial_weights)
    rtol = number("rtol", rtol, minimum=0.0, strict=True)
    if rtol > 1e-2:
        raise ValueError(f"rtol must be at most 0.01, got {rtol:g}: looser, the answer can be silently wrong")
    if isinstance(max_steps, bool) or not isinstance(max_steps, (int, np.integer)) or max_steps < 1:
        raise ValueError(f"max_steps must be a positive integer, got {max_steps!r}")
    if margin_end is not None:
        margin_end = checked_margin_end(margin_end)
    if log_t_end is not None:
        log_t_end = number("log_t_end", log_t_end)
        if margin_end is not None:
            raise ValueError("give margin_end or log_t_end, not both")
    elif margin_end is None:
        margin_end = 1e6
    if save_margins is not None and save_log_times is not None:
        raise ValueError("give save_margins or save_log_times, not both")
    refuse_overflow(start)
    saved_margins = _increasing("save_margins", save_margins, "margin_end", margin_end)
    saved_times = _increasing("save_log_times", save_log_times, "log_t_end", log_t_end)
    run = _Run(problem, loss, start, max(rtol, 1e-14), int(max_steps))
    if not problem.separation.separable and log_t_end is None:
        return run.result(MarginStatus.NOT_SEPARABLE)
    return run.go(saved_margins, saved_times, margin_end, log_t_end)


def checked_margin_end(margin_end):
    """Return a margin to stop at, or say what is wrong with it."""
    margin_end = number("margin_end", margin_end)
    if margin_end > _LARGEST_MARGIN:
        raise ValueError(f"margin_end must be at most {_LARGEST_MARGIN:g}, got {margin_end:g}: beyond, float64 cannot tell "
                         "the margins of the support vectors apart; see dln.maximum_margin for the limit")
    return margin_end


def refuse_overflow(start):
    """Raise a one-line error if the initial weights are too large."""
    if float((2.0 * start.log_alpha + np.abs(start.log_ratio)).max()) > 590.0:
        raise ValueError("the initial weights overflow: u0^2 or v0^2 is above 1e256; give a smaller alpha")


def _increasing(name, values, end_name, end):
    if values is None:
        return np.empty(0)
    axis = np.atleast_1d(np.asarray(values, dtype=float))
    if axis.ndim != 1:
        raise ValueError(f"{name} must be a vector, got shape {axis.shape}")
    for k, value in enumerate(axis):
        if not math.isfinite(value):
            raise ValueError(f"{name}[{k}] must be finite, got {value}")
        if k and value <= axis[k - 1]:
            raise ValueError(f"{name} must increase, but {name}[{k}] = {value:g} follows {axis[k - 1]:g}")
        if end is not None and value > end:
            raise ValueError(f"{name}[{k}] = {value:g} lies beyond {end_name} = {end:g}")
    return axis


class _Run:
    """One run: the compiled kernel's arrays and the stops."""

    def __init__(self, problem, loss, start, rtol, max_steps):
        self.problem, self.loss, self.start, self.rtol, self.max_steps = problem, loss, start, rtol, max_steps
        n = problem.n_samples
        self.log_product, self.log_ratio = 2.0 * start.log_alpha, np.array(start.log_ratio)
        self.nu, self.beta, self.margins = np.zeros(n), difference_of_squares(self.log_product, self.log_ratio), np.zeros(n)
        self.margins[:] = problem.Z @ self.beta
        self.clock, self.count = np.zeros(kernel.CLOCK_SIZE), np.zeros(kernel.COUNT_SIZE, dtype=np.int64)
        # At this size of a coordinate some margin is of order 1.
        widest = float(np.abs(problem.Z).sum(axis=1).max())
        self.unit = 1.0 / widest if widest > 0.0 else 1.0
        self.error_nu = np.zeros(n)
        self.kept = []

    def go(self, saved_margins, saved_times, margin_end, log_t_end):
        """Advance from stop to stop and return the result."""
        by_time = log_t_end is not None
        ends = [(by_time, log_t_end if by_time else margin_end, True)]
        stops = [(False, float(m), False) for m in saved_margins] + [(True, float(t), False) for t in saved_times]
        for in_time, stop, last in stops + ends:
            outcome = self.advance(in_time, stop)
            if outcome is not MarginStatus.FINISHED:
                return self.result(outcome)
            if not last:
                self.kept.append((self.clock[kernel.MARGIN], self.beta.copy(), self.nu.copy(), self.log_t, self.log_loss))
        return self.result(MarginStatus.REACHED_TIME if by_time else MarginStatus.REACHED_MARGIN)

    def advance(self, in_time, stop):
        """Advance to one stop; FINISHED where it was met."""
        while True:
            left = self.max_steps - int(self.count[kernel.ACCEPTED] + self.count[kernel.REJECTED])
            if left <= 0:
                return MarginStatus.STEP_LIMIT
            reason = entry_point(kernel.advance)(
                self.problem.Z, self.log_product, self.log_ratio, self.loss == "logistic", self.unit, self.rtol, self.nu,
                self.error_nu, self.beta, self.margins, self.clock, self.count, in_time, stop, RODAS5P.A, RODAS5P.C,
                RODAS5P.m, RODAS5P.e, RODAS5P.gamma, min(left, _ATTEMPTS))
            if reason == kernel.AT_STOP:
                return MarginStatus.FINISHED
            if reason == kernel.STEP_TOO_SMALL:
                return MarginStatus.STEP_TOO_SMALL
            if reason == kernel.OVERFLOWING:
                return MarginStatus.OVERFLOW

    @property
    def log_t(self):
        """Logarithm of ordinary time, -inf at the start."""
        y = self.clock[kernel.Y]
        return math.log(y) - self.clock[kernel.LOG_A] if y > 0.0 else -math.inf

    @property
    def log_loss(self):
        """Logarithm of the mean loss."""
        return log_loss_of(self.margins, self.loss)

    def result(self, status):
        """Put the result together."""
        turned = 2.0 * (self.nu @ self.problem.Z)
        reach = float(np.max(np.abs(self.log_ratio + 2.0 * turned), initial=0.0))
        error = float(self.clock[kernel.ERROR]) + 1e-15 * reach
        good = status in (MarginStatus.REACHED_MARGIN, MarginStatus.REACHED_TIME)
        if good and not error <= 1e3 * self.rtol + 1e-13 * reach:
            good, status = False, MarginStatus.INACCURATE
        n_steps, n_rejected = int(self.count[kernel.ACCEPTED]), int(self.count[kernel.REJECTED])
        least = float(self.margins.min())
        words = {
            MarginStatus.REACHED_MARGIN: f"margin {least:.6g} after {n_steps} steps",
            MarginStatus.REACHED_TIME: f"log t = {self.log_t:.6g}, margin {least:.6g}, after {n_steps} steps",
            MarginStatus.NOT_SEPARABLE: f"{self.problem.separation.message}; no predictor has a positive margin, so give "
                                        f"log_t_end to follow the flow all the same",
            MarginStatus.STEP_LIMIT: f"{self.max_steps} attempted steps led to margin {least:.6g}; the last step was "
                                     f"{self.clock[kernel.H]:.1e} of normalised time; raise max_steps or rtol",
            MarginStatus.STEP_TOO_SMALL: f"at margin {least:.6g} the step fell to {self.clock[kernel.H]:.1e} of normalised "
                                         f"time; raise rtol",
            MarginStatus.OVERFLOW: f"the weights leave the range of floats at margin {least:.6g}; is the margin asked for "
                                   f"reachable with data of this scale?",
            MarginStatus.INACCURATE: f"margin {least:.6g} was reached, but the estimated error {error:.1e} is above 1000 rtol",
        }
        kept = list(zip(*self.kept, strict=True)) if self.kept else [[], np.empty((0, len(self.beta))),
                                                                      np.empty((0, len(self.nu))), [], []]
        margins_saved, betas, duals, log_ts, log_losses = (np.array(column, dtype=float) for column in kept)
        return MarginResult(
            beta=self.beta, log_u=self.start.log_u + turned, log_v=self.start.log_v - turned, sign_u=np.ones(len(self.beta)),
            sign_v=np.ones(len(self.beta)), dual=self.nu, log_t=self.log_t, log_effective_alpha=self.start.log_alpha,
            effective_log_ratio=self.start.log_ratio, error_estimate=error, success=good, status=status, message=words[status],
            n_steps=n_steps, n_rejected=n_rejected, margins_saved=margins_saved, betas=betas, duals=duals, log_ts=log_ts,
            log_losses=log_losses, problem=self.problem, loss=self.loss, separation=self.problem.separation)
