"""The Lasso path and the time averages of gradient flow that follow it, with all coordinates kept and with one that leaves.

As alpha falls, the mean of beta over time tends to the Lasso solution with penalty ``log(1/alpha)/(2 t)``, as long as no
coordinate that has been part of the predictor has left it again; after that a gap remains (Berthier 2025).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

import dln
from figures._canvas import COLORS, drawing, increasing, scale_name

__all__ = ["FULL", "LassoPaths", "compute", "correlated", "draw"]

Array = NDArray[np.float64]

#: The paper's size.
FULL = {"n_penalties": 400}

LOG_ALPHAS = tuple(exponent * np.log(10) for exponent in (-100, -20, -5))
#: The smaller alpha is, the denser the line.
DASHES: tuple[Any, ...] = ((0, (6, 1.5)), (0, (3, 2)), (0, (1, 2)))
SEEDS = 22, 18
TITLES = "all coordinates kept", "coordinates leave"


@dataclass(frozen=True, eq=False)
class LassoPaths:
    """Lasso solutions and time averages of two problems.

    Attributes
    ----------
    falls : ndarray (K,)
        ``lam_max/lam``, increasing from 1, with lam_max the largest penalty that has a solution other than 0 below it.
    solutions : ndarray (2, K, d)
        Lasso solutions: they minimise ``L(b) + lam |b|_1``.
    log_alphas : ndarray (A,)
        Logarithms of the initial scales, increasing.
    means : ndarray (2, A, K, d)
        Time averages at ``t = log(1/alpha)/(2 lam)``; NaN where the run failed.
    success : ndarray of bool (2, A)
    """

    falls: Array
    solutions: Array
    log_alphas: Array
    means: Array
    success: NDArray[np.bool_]


def correlated(seed: int, n_samples: int = 20, n_features: int = 5) -> dln.Problem:
    """Draw more samples than features, with columns of unit size and strong correlations, and y without noise.

    Parameters
    ----------
    seed, n_samples, n_features : int

    Returns
    -------
    Problem
        Its largest coefficient has modulus 1.
    """
    rng = np.random.default_rng(seed)
    mixing = np.eye(n_features) + 0.7 * rng.standard_normal((n_features, n_features))
    X = rng.standard_normal((n_samples, n_features)) @ mixing
    X /= np.sqrt(np.mean(X**2, axis=0))
    truth = rng.standard_normal(n_features)
    truth /= np.abs(truth).max()
    return dln.Problem(X, X @ truth, truth=truth, name=f"correlated {seed}")


def compute(problems: Sequence[dln.Problem] | None = None, *, log_alphas: Sequence[float] | Array = LOG_ALPHAS,
            reach: float = 300.0, n_penalties: int = 80) -> LassoPaths:
    """Solve the Lasso and average flows over time.

    Parameters
    ----------
    problems : two Problems, optional
        By default one that keeps all coordinates and one in which coordinates leave.
    log_alphas : array_like (A,)
        Logarithms of the initial scales, negative, increasing.
    reach : float
        How far the penalty falls below the largest one with a solution other than 0.
    n_penalties : int
        How many penalties, K, at least 2.

    Returns
    -------
    LassoPaths
    """
    problems = [correlated(seed) for seed in SEEDS] if problems is None else list(problems)
    if len(problems) != 2:
        raise ValueError(f"problems must be two problems, got {len(problems)}")
    logs = increasing("log_alphas", log_alphas, positive=False)
    if not logs[-1] < 0:
        raise ValueError(f"log_alphas[{len(logs) - 1}] must be negative, got {logs[-1]:g}: the penalty is log(1/alpha)/(2t)")
    if n_penalties < 2:
        raise ValueError(f"n_penalties must be at least 2, got {n_penalties}")
    if not reach > 1:
        raise ValueError(f"reach must be above 1, got {reach:g}")
    falls = np.geomspace(1.0, reach, n_penalties)
    solutions, means, success = [], [], []
    for problem in problems:
        largest = float(np.abs(problem.gradient(np.zeros(problem.n_features))).max())
        averages = [dln.time_average(problem, -log_alpha / 2 / largest * falls, log_alpha=log_alpha) for log_alpha in logs]
        solutions.append(dln.lasso_path(problem).at(largest / falls))
        means.append([average.means for average in averages])
        success.append([average.success for average in averages])
    return LassoPaths(falls, np.array(solutions), logs, np.array(means), np.array(success))


def draw(data: LassoPaths, ax: Any = None) -> NDArray[Any]:
    """Draw every coordinate along the path: the Lasso as a line, time averages dashed.

    Parameters
    ----------
    data : LassoPaths
    ax : two matplotlib.axes.Axes, optional
        Where; by default a new figure.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (2,)
        What was drawn on.
    """
    with drawing(ax, (5.2, 5.6), n_rows=2) as axes:
        for panel, title, solutions, means in zip(axes, TITLES, data.solutions, data.means, strict=True):
            _panel(panel, data.falls, solutions, means)
            panel.set_title(title, fontsize="medium")
            panel.set_ylabel(r"$\beta_j$")
        axes[-1].set_xlabel(r"$\lambda_{\max}\,/\,\lambda\ \propto\ t\,/\,\log(1/\alpha)$")
        handles = [Line2D([], [], color="0.25")]
        words = ["Lasso"]
        for k, log_alpha in enumerate(data.log_alphas):
            failed = int(np.sum(~data.success[:, k]))
            handles.append(Line2D([], [], color="0.25", linestyle=DASHES[k % len(DASHES)], linewidth=1.0))
            words.append(rf"mean, $\alpha=$ {scale_name(log_alpha)}" + (f" ({failed} failed)" if failed else ""))
        axes[0].legend(handles, words, loc="best", frameon=False, fontsize="small", labelspacing=0.25, handlelength=2.2)
    return np.array(axes, dtype=object)


def _panel(axes: Axes, falls: Array, solutions: Array, means: Array) -> None:
    axes.axhline(0.0, color="0.8", linewidth=0.6, zorder=0)
    for j in range(solutions.shape[1]):
        color = COLORS[j % len(COLORS)]
        axes.plot(falls, solutions[:, j], color=color)
        for k, of_scale in enumerate(means):
            axes.plot(falls, of_scale[:, j], color=color, linestyle=DASHES[k % len(DASHES)], linewidth=1.0)
    axes.set_xscale("log")
