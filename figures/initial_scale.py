"""Initial scale: the minimiser of the potential from the kernel regime of large alpha to the rich regime, at several depths.

Above, the l1 norm over its minimum: at depth 2 the rest falls like ``alpha^(2 gap)``, which can be as slow as one likes, and
deeper like ``alpha^D``, sooner and faster.  Below, how many coordinates count, and the distance to the truth.
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
from figures._canvas import COLORS, LINES, drawing, increasing

__all__ = ["FULL", "InitialScale", "compute", "draw"]

Array = NDArray[np.float64]

#: The paper's size.
FULL = {"log_alphas": math.log(10) * np.linspace(-10, 3, 521)}

LOWEST = 1e-9  # of the excess, in the picture


@dataclass(frozen=True, eq=False)
class InitialScale:
    """Measures of the minimisers at A scales and P depths; NaN where one is not certified.

    Attributes
    ----------
    log_alphas : ndarray (A,)
        Increasing.
    depths : ndarray (P,)
    excess : ndarray (P, A)
        The l1 norm over its minimum, less 1.
    kernel_excess : float
        The same for the interpolator of least l2 norm.
    effective_number : ndarray (P, A)
        ``(sum |b|)^2 / sum b^2``.
    effective_limits : (float, float)
        The same for the interpolators of least l2 norm and of least l1 norm.
    distances : ndarray (P, A)
        To the truth, relative to its norm.
    distance_limits : (float, float)
    """

    log_alphas: Array
    depths: Array
    excess: Array
    kernel_excess: float
    effective_number: Array
    effective_limits: tuple[float, float]
    distances: Array
    distance_limits: tuple[float, float]

    @property
    def n_failed(self) -> int:
        """How many minimisers are not certified."""
        return int(np.sum(np.isnan(self.effective_number)))


def compute(problem: dln.Problem | None = None, *, depths: Sequence[float] = (2, 3, 4),
            log_alphas: Sequence[float] | Array | None = None) -> InitialScale:
    """Follow the minimisers over the scales.

    Parameters
    ----------
    problem : Problem
        With a truth; by default a sparse regression that the l1 norm solves.
    depths : sequence of float
        D, each at least 2.
    log_alphas : array_like (A,), optional
        Logarithms of the scales, increasing; by default from 1e-10 to 1e3.

    Returns
    -------
    InitialScale
    """
    problem = dln.sparse_regression(40, 100, 5, rng=0) if problem is None else problem
    if problem.truth is None:
        raise ValueError("the picture shows the distance to the truth: give dln.Problem(X, y, truth=...)")
    logs = math.log(10) * np.linspace(-10, 3, 131) if log_alphas is None else increasing("log_alphas", log_alphas,
                                                                                        positive=False)
    paths = [dln.scale_path(problem, log_alphas=logs, depth=depth) for depth in depths]
    if not paths:
        raise ValueError("depths must hold at least one depth")
    truth = float(np.linalg.norm(problem.truth)) or 1.0

    def kept(name: str, unit: float = 1.0) -> Array:
        return np.array([np.where(path.success, getattr(path, name) / unit, np.nan) for path in paths])

    ends = [paths[0].kernel_limit.beta, paths[0].rich_limit.beta]
    numbers = [float(np.sum(np.abs(beta)) ** 2 / np.sum(beta**2)) if beta.any() else 0.0 for beta in ends]
    distances = [float(np.linalg.norm(beta - problem.truth)) / truth for beta in ends]
    norms = [float(np.sum(np.abs(beta))) for beta in ends]
    return InitialScale(logs, np.array([path.depth for path in paths]), kept("excess_l1"),
                        norms[0] / norms[1] - 1 if norms[1] else math.nan, kept("effective_number"), (numbers[0], numbers[1]),
                        kept("distance_to_truth", truth), (distances[0], distances[1]))


def draw(data: InitialScale, ax: Any = None) -> NDArray[Any]:
    """Draw the excess of the l1 norm, the effective number of coordinates and the distance to the truth against alpha.

    Parameters
    ----------
    data : InitialScale
    ax : three matplotlib.axes.Axes, optional
        Where; by default a new figure.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (3,)
    """
    with drawing(ax, (5.2, 6.2), n_rows=3) as axes:
        alphas = np.exp(data.log_alphas)
        panels = ((data.excess, (data.kernel_excess, None), r"excess of the $\ell_1$ norm"),
                  (data.effective_number, data.effective_limits, "effective number\nof coordinates"),
                  (data.distances, data.distance_limits, "distance to the truth"))
        for panel, (values, limits, label) in zip(axes, panels, strict=True):
            _panel(panel, data, alphas, values, limits, label)
        positive = data.excess[data.excess > 0]
        if positive.size:
            axes[0].set_yscale("log")
            axes[0].set_ylim(max(LOWEST, 0.3 * float(positive.min())), 5 * float(max(positive.max(), LOWEST)))
        lines = axes[0].get_lines()[: len(data.depths)]
        names = [str(line.get_label()) for line in lines]
        failed = np.isnan(data.effective_number).any(axis=0)
        if failed.any():
            # On the lower rim, in axes coordinates: they have no value.
            crosses = axes[0].plot(alphas[failed], np.full(failed.sum(), 0.03), "x", color="black", clip_on=False,
                                   transform=axes[0].get_xaxis_transform())
            lines, names = [*lines, *crosses], [*names, f"not converged: {data.n_failed} of {data.excess.size}"]
        axes[0].legend(lines, names, loc="lower right", frameon=False, fontsize="small", labelspacing=0.25)
        axes[-1].set_xlabel(r"initial scale $\alpha$")
    return np.array(axes, dtype=object)


def _panel(axes: Axes, data: InitialScale, alphas: Array, values: Array, limits: tuple[float, float | None],
           label: str) -> None:
    for k, depth in enumerate(data.depths):
        axes.plot(alphas, values[k], color=COLORS[k % len(COLORS)], linestyle=LINES[k % len(LINES)], label=f"depth {depth:g}")
    for limit, name in zip(limits, (r"least $\ell_2$ norm", r"least $\ell_1$ norm"), strict=True):
        if limit is not None:
            axes.axhline(limit, color="0.6", linewidth=0.8, zorder=0)
            kernel = "2" in name
            axes.annotate(name, (0.01 if kernel else 0.99, limit), (0, -2 if kernel else 1), textcoords="offset points",
                          xycoords=axes.get_yaxis_transform(), fontsize="small", color="0.4",
                          ha="left" if kernel else "right", va="top" if kernel else "bottom")
    axes.set_xscale("log")
    axes.set_ylabel(label)
