"""Trajectories: the loss and the coordinates of beta against time, for several initial scales.

From a small scale the coordinates wake one after the other, after a time proportional to ``log(1/alpha)``; so with
several small scales time is drawn in that unit, in which the curves tend to one another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

import dln
from figures._canvas import COLORS, LINES, drawing, increasing, plain, scale_name

__all__ = ["FULL", "Trajectories", "compute", "draw"]

Array = NDArray[np.float64]

#: The paper's size.
FULL = {"n_times": 2000}

ALPHAS = (1e-6, 1e-3, 1e-1)


@dataclass(frozen=True, eq=False)
class Trajectories:
    """One trajectory per initial scale, all with K times.

    Attributes
    ----------
    log_alphas : ndarray (A,)
        Logarithms of the initial scales, increasing.
    times : ndarray (A, K)
    losses : ndarray (A, K)
        NaN after the time at which a run broke off.
    betas : ndarray (A, K, d)
        Likewise.
    success : ndarray of bool (A,)
    status : ndarray of str (A,)
        Why each run stopped, in words.
    feature_names : tuple of str (d,)
    data, rule : str
        What was trained, and how.
    """

    log_alphas: Array
    times: Array
    losses: Array
    betas: Array
    success: NDArray[np.bool_]
    status: NDArray[np.str_]
    feature_names: tuple[str, ...]
    data: str
    rule: str


def compute(
    problem: dln.Problem | None = None,
    rule: dln.Rule | None = None,
    *,
    alphas: Sequence[float] | Array | None = None,
    log_alphas: Sequence[float] | Array | None = None,
    t_end: float | None = None,
    n_times: int = 300,
    residual_tol: float = 1e-6,
    rtol: float = 1e-8,
    progress: Callable[..., Any] | None = None,
    **options: Any,
) -> Trajectories:
    """Train one network per initial scale and keep its trajectory.

    Parameters
    ----------
    problem : Problem, optional
        By default `dln.datasets.diabetes`.
    rule : Rule, optional
        By default `dln.GradientFlow`.
    alphas, log_alphas : array_like (A,), optional
        Initial scales or their logarithms, increasing; at most one of the two. By default 1e-6, 1e-3 and 1e-1.
    t_end : float, optional
        Final time; by default each run goes on until it has converged.
    n_times : int
        How many times to keep, K; evenly spaced on a log scale, from the first in which weights move.
    residual_tol, rtol : float
        See `dln.flow`.
    progress : callable, optional
        Wraps an iterable, as tqdm does.
    **options
        Further arguments of `dln.flow`.

    Returns
    -------
    Trajectories
    """
    problem = dln.datasets.diabetes() if problem is None else problem
    rule = dln.GradientFlow() if rule is None else rule
    if alphas is not None and log_alphas is not None:
        raise ValueError("give one of alphas and log_alphas, not both")
    if log_alphas is None:
        logs = np.log(increasing("alphas", ALPHAS if alphas is None else alphas))
    else:
        logs = increasing("log_alphas", log_alphas, positive=False)
    if n_times < 2:
        raise ValueError(f"n_times must be at least 2, got {n_times}")
    options |= {"residual_tol": residual_tol, "rtol": rtol}
    every = [_one(problem, rule, log_alpha, t_end, n_times, options)
             for log_alpha in (logs if progress is None else progress(logs, desc="trajectories"))]
    times, losses, betas, success, status = (np.array(column) for column in zip(*every, strict=True))
    names = problem.feature_names or tuple(str(j) for j in range(problem.n_features))
    return Trajectories(logs, times, losses, betas, success, status, names, problem.name or "data", repr(rule))


def _one(problem: dln.Problem, rule: dln.Rule, log_alpha: float, t_end: float | None, n_times: int,
         options: dict[str, Any]) -> tuple[Array, Array, Array, bool, str]:
    # Twice: only the first run finds out how long it takes; with a time to save, since a run that is asked for its limit alone
    # may fly far past the time at which it has converged.
    first = dln.flow(problem, rule, log_alpha=log_alpha, t_end=t_end, save_at=[0.0], **options)
    end = first.t if first.t > 0 else 1.0
    slope = 4 * float(np.max(np.abs(problem.gradient(np.zeros(problem.n_features)))))
    begin = min(0.05 / slope, end / 10) if slope > 0 else end / 1000
    times = np.geomspace(begin, end, n_times)
    times[-1] = end  # exactly: rounding must not put it beyond the end
    run = dln.flow(problem, rule, log_alpha=log_alpha, t_end=end, save_at=times, **options)
    losses, betas = np.full(n_times, np.nan), np.full((n_times, problem.n_features), np.nan)
    kept = len(run.times)
    losses[:kept], betas[:kept] = run.losses, run.betas
    return times, losses, betas, first.success, str(first.status)


def draw(data: Trajectories, ax: Any = None, *, n_coordinates: int = 5, rescale: bool | None = None) -> NDArray[Any]:
    """Draw the loss above and coordinates of beta below.

    Parameters
    ----------
    data : Trajectories
    ax : two matplotlib.axes.Axes, optional
        Where; by default a new figure.
    n_coordinates : int
        How many coordinates to draw in colour: those largest at the end from the smallest scale. With a single scale
        the others are drawn in grey.
    rescale : bool, optional
        Whether to divide time by ``log(1/alpha)``; by default, if there are several scales and all are below 1/2.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (2,)
        What was drawn on.
    """
    if rescale is None:
        rescale = len(data.log_alphas) > 1 and bool(np.all(data.log_alphas < -math.log(2)))
    units = -data.log_alphas if rescale else np.ones(len(data.log_alphas))
    with drawing(ax, (5.2, 5.4), n_rows=2) as axes:
        top, bottom = axes
        _losses(data, units, top)
        _coordinates(data, units, bottom, n_coordinates)
        for panel in (top, bottom):
            panel.set_xscale("log")
        bottom.set_xlabel(r"time $t\,/\,\log(1/\alpha)$" if rescale else r"time $t$")
    return np.array(axes, dtype=object)


def _losses(data: Trajectories, units: Array, axes: Axes) -> None:
    for k, (times, losses) in enumerate(zip(data.times / units[:, None], data.losses, strict=True)):
        words = "" if data.success[k] else f" ({data.status[k]})"
        axes.plot(times, losses, color="black", linestyle=LINES[k % len(LINES)],
                  label=rf"$\alpha=$ {scale_name(data.log_alphas[k])}{words}")
        kept = np.flatnonzero(np.isfinite(losses))
        if not data.success[k] and kept.size:
            axes.plot(times[kept[-1]], losses[kept[-1]], "x", color="black")
    positive = data.losses[data.losses > 0]
    if positive.size:
        # Below rounding of the largest, a loss is noise.
        axes.set_yscale("log")
        axes.set_ylim(bottom=max(positive.min() / 2, 1e-16 * positive.max()))
    axes.set_ylabel("loss")
    axes.legend(loc="lower left", frameon=False, fontsize="small", labelspacing=0.25)


def _coordinates(data: Trajectories, units: Array, axes: Axes, n_coordinates: int) -> None:
    final = np.nan_to_num(np.abs(data.betas[0]).max(axis=0, initial=0.0, where=np.isfinite(data.betas[0])))
    last = np.flatnonzero(np.isfinite(data.losses[0]))
    if last.size:
        final = np.abs(data.betas[0, last[-1]])
    shown = np.argsort(-final, kind="stable")[: min(n_coordinates, len(COLORS))]
    if len(data.log_alphas) == 1:
        axes.plot(data.times[0] / units[0], np.delete(data.betas[0], shown, axis=1), color="0.75", linewidth=0.6)
    for color, j in zip(COLORS, shown, strict=False):
        for k, times in enumerate(data.times / units[:, None]):
            axes.plot(times, data.betas[k, :, j], color=color, linestyle=LINES[k % len(LINES)])
    axes.set_ylabel(r"coordinates of $\beta$")
    handles = [Line2D([], [], color=color, label=plain(data.feature_names[j]))
               for color, j in zip(COLORS, shown, strict=False)]
    axes.legend(handles=handles, loc="upper left", frameon=False, fontsize="small", labelspacing=0.25)
