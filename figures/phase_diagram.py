"""Phase diagram: how rich is training with gradient regularization, over initial scale and strength.

Colour: where the limit beta of the flow lies between the two interpolators that mark the regimes: 0 at beta_2, of least
l2 norm, the kernel regime; 1 at beta_1, of least l1 norm, the rich regime. Strong regularization can lead to neither,
but farther from beta_1 than beta_2 is: that has a colour of its own. Contours: the mean over coordinates of
``log(alpha_eff/alpha)``, by which gradient regularization shrinks the effective initialisation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

import dln
from figures._canvas import cell_edges, drawing, increasing, plain

__all__ = ["PhaseDiagram", "compute", "draw"]

Array = NDArray[np.float64]

ALPHAS = np.geomspace(1e-6, 10, 29)
GAMMAS = np.geomspace(1e-2, 10, 19)

#: The colour of limits farther from beta_1 than beta_2 is, and how much farther is still drawn as "at beta_2".
FARTHER = "#C8769B"
TOUCHING = 0.02


@dataclass(frozen=True, eq=False)
class PhaseDiagram:
    """A grid of runs; the first index counts gammas, the second alphas.

    Attributes
    ----------
    alphas : ndarray (A,)
        Initial scales.
    gammas : ndarray (G,)
        Strengths of the regularization.
    richness : ndarray (G, A)
        ``1 - |beta - beta_1| / |beta_2 - beta_1|``, with beta_1 and beta_2 the interpolators of least l1 and l2 norm;
        NaN where the run failed.
    mean_log_shift : ndarray (G, A)
        Mean over coordinates of ``log(alpha_eff/alpha)``; NaN where the run failed.
    success : ndarray of bool (G, A)
    status : ndarray of str (G, A)
        Why each run stopped, in words.
    epsilon : float or None
        Ascent step of the finite difference.
    scheme : str
        Which finite difference.
    data : str
        Name of the data.
    """

    alphas: Array
    gammas: Array
    richness: Array
    mean_log_shift: Array
    success: NDArray[np.bool_]
    status: NDArray[np.str_]
    epsilon: float | None
    scheme: str
    data: str

    @property
    def n_failed(self) -> int:
        """How many runs failed."""
        return int(np.count_nonzero(~self.success))


def compute(
    problem: dln.Problem | None = None,
    *,
    alphas: Sequence[float] | Array = ALPHAS,
    gammas: Sequence[float] | Array = GAMMAS,
    epsilon: float | None = 0.2,
    scheme: str = "forward",
    rtol: float = 1e-5,
    residual_tol: float = 1e-5,
    max_steps: int = 10_000,
    workers: int | None = None,
    progress: Callable[..., Any] | None = None,
) -> PhaseDiagram:
    """Train one network per cell of the grid.

    Parameters
    ----------
    problem : Problem, optional
        Data with more than one interpolator; by default `dln.datasets.diabetes`.
    alphas, gammas : array_like (A,), (G,)
        Positive and increasing.
    epsilon, scheme : float, str
        See `dln.GradientRegularization`.
    rtol, residual_tol, max_steps
        See `dln.flow`; loose enough for a picture.
    workers : int, optional
        Threads; by default one per processor.
    progress : callable, optional
        Wraps an iterable, as tqdm does.

    Returns
    -------
    PhaseDiagram

    Raises
    ------
    ValueError
        If a parameter is bad, the data cannot be interpolated, or have only one interpolator.
    """
    problem = dln.datasets.diabetes() if problem is None else problem
    alphas, gammas = increasing("alphas", alphas), increasing("gammas", gammas)
    rules = [dln.GradientRegularization(gamma, epsilon, scheme) for gamma in gammas]
    sparse, dense = _interpolators(problem)
    distance = float(np.linalg.norm(dense - sparse))

    def cell(job: tuple[int, int]) -> tuple[float, float, bool, str]:
        i, j = job
        run = dln.flow(problem, rules[i], alpha=alphas[j], rtol=rtol, residual_tol=residual_tol, max_steps=max_steps)
        if not run.success:
            return np.nan, np.nan, False, str(run.status)
        shift = run.log_effective_alpha - run.log_alpha
        return 1 - float(np.linalg.norm(run.beta - sparse)) / distance, float(np.mean(shift)), True, str(run.status)

    jobs = [(i, j) for i in range(len(gammas)) for j in range(len(alphas))]
    cells = _map(cell, jobs, workers or os.cpu_count() or 1, progress)
    shape = (len(gammas), len(alphas))
    richness, shift, success, status = (np.array(column).reshape(shape) for column in zip(*cells, strict=True))
    return PhaseDiagram(alphas, gammas, richness, shift, success, status, epsilon, scheme, problem.name or "data")


def _interpolators(problem: dln.Problem) -> tuple[Array, Array]:
    """Return the interpolators of least l1 and of least l2 norm, which must exist and differ."""
    name = problem.name or "the data"
    if not problem.interpolates:
        raise ValueError(f"{name}: no predictor fits all samples, so there are no regimes to tell apart; take fewer "
                         "samples than features")
    sparse, dense = dln.basis_pursuit(problem), dln.minimum_norm(problem)
    for best in (sparse, dense):
        if not best.success:
            raise ValueError(f"{name}: no reference interpolator: {best.message}")
    if np.linalg.norm(dense.beta - sparse.beta) <= 1e-8 * np.linalg.norm(dense.beta):
        raise ValueError(f"{name}: the interpolators of least l1 and l2 norm coincide, so there are no regimes to tell "
                         "apart; take more features than samples")
    return sparse.beta, dense.beta


def _map(
    function: Callable[[Any], Any], jobs: list[Any], workers: int, progress: Callable[..., Any] | None
) -> list[Any]:
    """Run the jobs in threads (the kernels release the GIL), in order."""
    first = function(jobs[0])  # compiles the kernels, once
    pool = ThreadPoolExecutor(workers)
    try:
        rest = pool.map(function, jobs[1:])
        wrapped = rest if progress is None else progress(rest, total=len(jobs), initial=1, desc="phase diagram")
        return [first, *wrapped]
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C only the runs at work are waited for


def draw(data: PhaseDiagram, ax: Axes | None = None) -> Axes:
    """Draw the diagram.

    Parameters
    ----------
    data : PhaseDiagram
        Grids of any size, down to one cell.
    ax : matplotlib.axes.Axes, optional
        Where; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on; its figure also holds the colour bar.
    """
    with drawing(ax, (5.2, 5.0)) as (axes,):
        # The scales first: contour labels are placed along the lines as they look now.
        axes.set(xscale="log", yscale="log", xlabel=r"initial scale $\alpha$",
                 ylabel=r"regularization strength $\gamma$")
        handles = [*_contours(data, axes), *_cells(data, axes), *_failures(data, axes)]
        step = "exact Hessian" if data.epsilon is None else rf"{data.scheme} difference, $\epsilon=$ {data.epsilon:g}"
        axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, frameon=False,
                    fontsize="small", labelspacing=0.25, title=f"{plain(data.data)}, {step}", title_fontsize="small",
                    alignment="left")
    return axes


def _cells(data: PhaseDiagram, axes: Axes) -> list[Any]:
    x, y = cell_edges(data.alphas), cell_edges(data.gammas)
    values = np.ma.masked_invalid(np.where(data.success, data.richness, np.nan))
    # The scale is fixed, so that pictures compare, and so that constant and empty grids have one.
    colors = mpl.colormaps["cividis"].with_extremes(under=FARTHER)
    values = np.ma.where((values < 0) & (values > -TOUCHING), 0.0, values)
    mesh = axes.pcolormesh(x, y, values, cmap=colors, vmin=0, vmax=1, rasterized=True)
    farther = bool(values.count() and values.min() < 0)
    bar = axes.figure.colorbar(mesh, ax=axes, extend="min" if farther else "neither", location="bottom", aspect=30)
    bar.set_label(r"richness $1-\|\beta-\beta_1\|\,/\,\|\beta_2-\beta_1\|$")
    bar.set_ticks([0, 0.25, 0.5, 0.75, 1], labels=[r"0 ($\ell_2$)", "0.25", "0.5", "0.75", r"1 ($\ell_1$)"])
    return [Patch(color=FARTHER, label=r"below 0: farther from $\beta_1$ than $\beta_2$ is")] if farther else []


def _contours(data: PhaseDiagram, axes: Axes) -> list[Any]:
    shift = np.ma.masked_invalid(np.where(data.success, data.mean_log_shift, np.nan))
    if min(shift.shape) < 2 or shift.count() == 0 or not shift.min() < shift.max():
        return []
    levels = _levels(shift)
    lines = axes.contour(data.alphas, data.gammas, shift, levels=levels, colors="white", linewidths=1.0,
                         linestyles="solid")
    # A dark rim: white alone would vanish on the bright end of the colours.
    rim: list[Any] = [patheffects.withStroke(linewidth=1.8, foreground="black")]
    lines.set_path_effects(rim)
    for label in axes.clabel(lines, fmt=lambda level: f"{level:.3g}", fontsize="x-small"):
        label.set_path_effects(rim)
    return [Line2D([], [], color="white", linewidth=1.0, path_effects=rim,
                   label=r"mean $\log(\alpha_{\mathrm{eff}}/\alpha)$")]


def _levels(shift: Any) -> list[float]:
    """One per decade, since the shift grows like a power of gamma; more where the grid spans little."""
    for digits in ((1,), (1, 2, 5)):
        steps = [sign * digit * 10.0**exponent for sign in (-1, 1) for exponent in range(-2, 4) for digit in digits]
        inside = sorted(level for level in steps if shift.min() < level < shift.max())
        if len(inside) >= 3:
            return inside
    return [float(level) for level in np.linspace(shift.min(), shift.max(), 5)[1:-1]]


def _failures(data: PhaseDiagram, axes: Axes) -> list[Any]:
    if not data.n_failed:
        return []
    x, y = cell_edges(data.alphas), cell_edges(data.gammas)
    look: dict[str, Any] = {"facecolor": "0.92", "edgecolor": "0.35", "linewidth": 0.0, "hatch": "////"}
    boxes = [Rectangle((x[j], y[i]), x[j + 1] - x[j], y[i + 1] - y[i]) for i, j in np.argwhere(~data.success)]
    axes.add_collection(PatchCollection(boxes, **look), autolim=False)
    return [Patch(**look, label=f"did not converge: {data.n_failed} of {data.success.size} runs")]
