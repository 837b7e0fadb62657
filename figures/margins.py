"""Margins: training on two classes from the largest l2 margin to the largest l1 margin, as ``alpha^2/margin`` falls.

Both margins of the direction of beta, relative to the largest there are, against ``mu = alpha^2/margin``. The line is the
predictor that maximises the margin of the potential of scale mu. Each run begins off it and comes to it as its own margin
grows, unless a multiplier of the line falls on the way: those of training never do, and a gap remains. Only a run from a
large scale ever shows the l2 end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

import dln
from figures._canvas import COLORS, drawing, increasing, scale_name

__all__ = ["FULL", "Margins", "compute", "draw", "two_classes"]

Array = NDArray[np.float64]

#: The paper's size.
FULL = {"n_margins": 200, "n_mus": 300}

ALPHAS = (1e-2, 1.0, 1e2)


@dataclass(frozen=True, eq=False)
class Margins:
    """Relative margins of the solver, per mu, and of each run, per margin.

    Attributes
    ----------
    mus : ndarray (M,)
        Scales of the potential, increasing.
    l1, l2 : ndarray (M,)
        ``margin/|b|_1`` and ``margin/|b|_2`` of its maximum-margin predictor, relative to their maxima; NaN where the
        solver failed.
    l1_end, l2_end : (float, float)
        The pair (l1, l2) of the largest l1 margin and of the largest l2 margin.
    alphas : ndarray (A,)
        Initial scales of the runs, increasing.
    run_mus, run_l1, run_l2 : ndarray (A, K)
        ``alpha^2/margin`` and relative margins along each run; NaN after the end of a run that broke off.
    status : ndarray of str (A,)
        Why each run stopped, in words.
    """

    mus: Array
    l1: Array
    l2: Array
    l1_end: tuple[float, float]
    l2_end: tuple[float, float]
    alphas: Array
    run_mus: Array
    run_l1: Array
    run_l2: Array
    status: NDArray[np.str_]


def two_classes(n_samples: int = 20, n_features: int = 40, seed: int = 0) -> dln.Classification:
    """Draw Gaussian data, labelled by the first three features, with a gap between the classes.

    Parameters
    ----------
    n_samples, n_features : int
    seed : int

    Returns
    -------
    Classification
    """
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((4 * n_samples, n_features))
    score = X[:, :3].sum(axis=1)
    kept = np.argsort(-np.abs(score), kind="stable")[:n_samples]
    return dln.Classification(X[kept], np.where(score[kept] > 0, 1, -1), name="two classes")


def compute(
    problem: dln.Classification | None = None,
    *,
    alphas: Sequence[float] | Array = ALPHAS,
    loss: str = "exponential",
    margin_end: float = 1e6,
    n_margins: int = 40,
    n_mus: int = 60,
) -> Margins:
    """Solve for the maximum margins and train from several initial scales.

    Parameters
    ----------
    problem : Classification, optional
        By default `two_classes`.
    alphas : array_like (A,)
        Initial scales, increasing.
    loss : {"exponential", "logistic"}
    margin_end : float
        Where runs end; they begin to be shown at margin 1.
    n_margins, n_mus : int
        How many points of each run and of the line, at least 2.

    Returns
    -------
    Margins

    Raises
    ------
    ValueError
        If the data are not separable, or an argument is bad.
    """
    problem = two_classes() if problem is None else problem
    scales = increasing("alphas", alphas)
    for name, count in (("n_margins", n_margins), ("n_mus", n_mus)):
        if count < 2:
            raise ValueError(f"{name} must be at least 2, got {count}")
    if not margin_end > 1:
        raise ValueError(f"margin_end must be above 1, where runs begin to be shown, got {margin_end:g}")
    if not problem.separation.separable:
        raise ValueError(f"there is no margin to draw: the data are {problem.separation.message}")
    sparse, short = dln.maximum_margin(problem, "l1"), dln.maximum_margin(problem, "l2")
    largest = 1 / np.abs(sparse.beta).sum(), 1 / np.linalg.norm(short.beta)

    def relative(betas: Array) -> tuple[Array, Array]:
        margins = np.min(betas @ problem.Z.T, axis=-1)
        return (margins / np.abs(betas).sum(axis=-1) / largest[0],
                margins / np.linalg.norm(betas, axis=-1) / largest[1])

    mus = np.geomspace(scales[0] ** 2 / margin_end, scales[-1] ** 2, n_mus)
    best = [dln.maximum_margin(problem, "potential", mu=mu) for mu in mus]
    l1, l2 = relative(np.array([found.beta if found.success else np.full(problem.n_features, np.nan) for found in best]))
    levels = np.geomspace(1, margin_end, n_margins)
    levels[-1] = margin_end
    run_mus, run_l1, run_l2 = (np.full((len(scales), n_margins), np.nan) for _ in range(3))
    status = []
    for k, alpha in enumerate(scales):
        run = dln.margin_flow(problem, loss=loss, alpha=alpha, margin_end=margin_end, save_margins=levels)
        kept = len(run.betas)
        run_mus[k, :kept] = alpha**2 / run.margins_saved
        run_l1[k, :kept], run_l2[k, :kept] = relative(run.betas)
        status.append(str(run.status))
    ends = [tuple(float(x[0]) for x in relative(found.beta[None])) for found in (sparse, short)]
    return Margins(mus, l1, l2, ends[0], ends[1], scales, run_mus, run_l1, run_l2, np.array(status))  # type: ignore[arg-type]


def draw(data: Margins, ax: Any = None) -> NDArray[Any]:
    """Draw the l1 margin above and the l2 margin below; mu falls to the right, as it does in training.

    Parameters
    ----------
    data : Margins
    ax : two matplotlib.axes.Axes, optional
        Where; by default a new figure.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (2,)
        What was drawn on.
    """
    with drawing(ax, (5.2, 4.8), n_rows=2) as axes:
        _panel(axes[0], data, data.l1, data.run_l1, data.l2_end[0], "largest l2 margin")
        _panel(axes[1], data, data.l2, data.run_l2, data.l1_end[1], "largest l1 margin")
        axes[0].set_ylabel("l1 margin")
        axes[1].set(ylabel="l2 margin", xlabel=r"$\mu=\alpha^2\,/\,$margin")
        axes[1].legend(loc="lower left", frameon=False, fontsize="small", labelspacing=0.25, handlelength=1.6)
        for panel in axes:
            panel.set_xscale("log")
            if not panel.xaxis_inverted():  # shared axes turn together
                panel.invert_xaxis()
    return np.array(axes, dtype=object)


def _panel(axes: Axes, data: Margins, line: Array, runs: Array, other: float, words: str) -> None:
    axes.axhline(1.0, color="0.6", linewidth=0.8, linestyle=":")
    axes.axhline(other, color="0.6", linewidth=0.8, linestyle="--")
    # Where nothing but early training is near this level: on the right of the upper panel, in the middle of the lower one.
    right = words.startswith("largest l2")
    axes.annotate(words, (0.985 if right else 0.34, other), xycoords=("axes fraction", "data"), xytext=(0, -3),
                  textcoords="offset points", ha="right" if right else "left", va="top", fontsize="small", color="0.35")
    axes.plot(data.mus, line, color="black", label="solver")
    for color, alpha, mus, values, status in zip(COLORS, data.alphas, data.run_mus, runs, data.status, strict=False):
        broken = "" if status == dln.MarginStatus.REACHED_MARGIN else f" ({status})"
        axes.plot(mus, values, color=color, linestyle="--", marker=".", markersize=3.5, linewidth=0.9,
                  label=rf"training, $\alpha=$ {scale_name(math.log(alpha))}{broken}")
