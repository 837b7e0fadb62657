"""From saddle to saddle: the loss of gradient flow in the time t/log(1/alpha), which turns into a staircase as alpha shrinks.

Below, when each coordinate is awake: in the limit (Pesme & Flammarion 2023) and in the flows, which are late by about
1/log(1/alpha).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

import dln
from figures._canvas import drawing, increasing, plain, scale_name

__all__ = ["FULL", "Saddles", "compute", "draw"]

Array = NDArray[np.float64]

#: The paper's size.
FULL = {"n_times": 4000}

LOG_ALPHAS = (-1e4, -100 * math.log(10), -20 * math.log(10), -5 * math.log(10))

#: A coordinate of a flow counts as awake from this part of the largest entry of any saddle on.
AWAKE = 0.02


@dataclass(frozen=True, eq=False)
class Saddles:
    """The limit, with its K saddles, and one flow per initial scale at M common times.

    Attributes
    ----------
    jumps : ndarray (K,)
        When each saddle is reached, per log(1/alpha); 0 first.
    levels : ndarray (K,)
        The reachable part of the loss at each saddle, relative to its start.
    signs : ndarray of int (K, d)
        Signs of the saddles.
    log_alphas : ndarray (A,)
        Logarithms of the initial scales, increasing.
    tau : ndarray (M,)
        Times ``t/log(1/alpha)``.
    losses : ndarray (A, M)
        The reachable part of the loss, relative to its start; NaN after the time at which a run broke off.
    awake : ndarray of bool (A, M, d)
        Which coordinates of each flow are above `AWAKE` times the largest entry of any saddle.
    success : ndarray of bool (A,)
    status : ndarray of str (A,)
    feature_names : tuple of str (d,)
    """

    jumps: Array
    levels: Array
    signs: NDArray[np.int64]
    log_alphas: Array
    tau: Array
    losses: Array
    awake: NDArray[np.bool_]
    success: NDArray[np.bool_]
    status: NDArray[np.str_]
    feature_names: tuple[str, ...]


def compute(problem: dln.Problem | None = None, *, log_alphas: Sequence[float] | Array = LOG_ALPHAS, n_times: int = 600,
            stretch: float = 1.15, rtol: float = 1e-6) -> Saddles:
    """Follow the limit and train from each scale.

    Parameters
    ----------
    problem : Problem, optional
        By default a small sparse regression in which a coordinate wakes and goes back to sleep.
    log_alphas : array_like (A,)
        Logarithms of the initial scales, negative.
    n_times : int
        How many common times, M, at least 2.
    stretch : float
        Where time ends, in units of the last jump; above 1.
    rtol : float
        See `dln.flow`.

    Returns
    -------
    Saddles

    Raises
    ------
    ValueError
        If a scale is not below 1, or no flow of these data moves.
    """
    problem = dln.sparse_regression(8, 12, 4, rng=1687) if problem is None else problem
    logs = increasing("log_alphas", np.sort(np.asarray(log_alphas, dtype=float)), positive=False)
    if logs[-1] >= 0.0:
        raise ValueError(f"log_alphas must be below 0, got {logs[-1]:g}: time is in units of log(1/alpha)")
    if n_times < 2:
        raise ValueError(f"n_times must be at least 2, got {n_times}")
    path = dln.saddles(problem)
    if len(path.times) == 1:
        raise ValueError("y is orthogonal to every column of X: no flow moves, and there is no saddle but the first")
    rest = problem.row_space.unreachable_loss
    unit = path.losses[0] - rest
    tau = np.linspace(0.0, stretch * path.times[-1], n_times)
    d = problem.n_features
    losses, awake = np.full((len(logs), n_times), np.nan), np.zeros((len(logs), n_times, d), dtype=bool)
    success, status = np.zeros(len(logs), dtype=bool), np.full(len(logs), "", dtype="<U32")
    least = AWAKE * np.max(np.abs(path.betas))
    for i, log_alpha in enumerate(logs):
        run = dln.flow(problem, log_alpha=log_alpha, t_end=float(-log_alpha * tau[-1]), save_at=-log_alpha * tau, rtol=rtol)
        kept = len(run.times)
        losses[i, :kept] = np.maximum(run.losses - rest, 0.0) / unit
        awake[i, :kept] = np.abs(run.betas) >= least
        success[i], status[i] = run.success, str(run.status)
    names = problem.feature_names or tuple(str(j) for j in range(d))
    levels = np.maximum(path.losses - rest, 0.0) / unit
    return Saddles(path.times, levels, path.signs, logs, tau, losses, awake, success, status, names)


def draw(data: Saddles, ax: Any = None) -> NDArray[Any]:
    """Draw the losses above, and below when each coordinate is awake.

    Parameters
    ----------
    data : Saddles
    ax : two matplotlib.axes.Axes, optional
        Where; by default a new figure.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (2,)
    """
    colors = mpl.colormaps["viridis"](np.linspace(0.05, 0.85, len(data.log_alphas)))
    with drawing(ax, (5.2, 5.4), n_rows=2) as (top, bottom):
        _staircase(data, top, colors)
        _lines_of_time(data, bottom, colors)
        bottom.set_xlabel(r"time $t\,/\log(1/\alpha)$")
    return np.array([top, bottom], dtype=object)


def _staircase(data: Saddles, axes: Axes, colors: Any) -> None:
    for i in np.argsort(-data.log_alphas):  # the smallest scale, which hides the others, last
        axes.plot(data.tau, data.losses[i], color=colors[i])
    ends = np.append(data.jumps, data.tau[-1])
    axes.step(ends, np.append(data.levels, data.levels[-1]), where="post", color="black", linestyle="--", linewidth=1.0)
    entries: list[Any] = [Line2D([], [], color=colors[i], label=rf"$\alpha=$ {scale_name(data.log_alphas[i])}")
                          for i in np.argsort(-data.log_alphas)]
    entries.append(Line2D([], [], color="black", linestyle="--", linewidth=1.0, label=r"limit $\alpha\to 0$"))
    failed = int(np.sum(~data.success))
    if failed:
        entries.append(Line2D([], [], linestyle="none", label=f"broke off: {failed} of {len(data.success)} runs"))
    axes.set(ylabel="loss, relative to its start", ylim=(-0.03, 1.05))
    axes.legend(handles=entries, loc="upper right", frameon=False, fontsize="small", labelspacing=0.25)


def _lines_of_time(data: Saddles, axes: Axes, colors: Any) -> None:
    """Draw one row per coordinate that is ever awake: the limit as a band, every flow as a line on it."""
    rows = np.flatnonzero((data.signs != 0).any(axis=0) | data.awake.any(axis=(0, 1)))
    # In the order in which they wake.
    first = [int(np.argmax(data.signs[:, j] != 0)) if data.signs[:, j].any() else len(data.jumps) for j in rows]
    rows = rows[np.argsort(first, kind="stable")]
    ends = np.append(data.jumps[1:], data.tau[-1])
    band = {1: "0.82", -1: "0.93"}
    count = len(data.log_alphas)
    for row, j in enumerate(rows):
        for begin, end, sign in zip(data.jumps, ends, data.signs[:, j], strict=True):
            if sign:
                axes.barh(row, end - begin, left=begin, height=0.9, color=band[int(sign)], linewidth=0)
        for place, i in enumerate(np.argsort(-data.log_alphas)):
            level = row + 0.8 * ((place + 0.5) / count - 0.5)
            axes.plot(data.tau, np.where(data.awake[i, :, j], level, np.nan), color=colors[i], solid_capstyle="butt")
    for jump in data.jumps[1:]:
        axes.axvline(jump, color="black", linestyle="--", linewidth=0.5, zorder=0)
    axes.set(ylabel="coordinate", yticks=range(len(rows)), yticklabels=[plain(data.feature_names[j]) for j in rows],
             xlim=(0.0, data.tau[-1]), ylim=(len(rows) - 0.4, -0.6))
    axes.legend(handles=[Patch(color=band[sign], label=label) for sign, label in ((1, r"limit: $\beta_j>0$"),
                                                                                  (-1, r"limit: $\beta_j<0$"))],
                loc="lower left", frameon=False, fontsize="small", labelspacing=0.25)
