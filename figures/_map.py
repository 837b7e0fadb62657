"""How a grid of runs is drawn: cells in colour, lines of equal height, failed cells hatched and counted, lines of theory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from figures._canvas import cell_edges, drawing, plain
from figures._grids import Grid, TheoryLine

__all__ = ["Look", "draw_grid"]

Array = NDArray[np.float64]

#: Values below the scale, and how much below is still drawn as its lower end: rounding puts the kernel regime a hair below 0.
BELOW = "#C8769B"
TOUCHING = 0.02
#: The first for the most frequent way to fail.
HATCHES = ("////", "....", "xxxx")
#: Least distance between the labels of two contours, in inches.
APART = 0.5
#: Parameters that are drawn on a log scale even where few values or little range would not ask for it.
LOGARITHMIC = frozenset({"alpha", "gamma", "epsilon", "rho", "step", "decay", "level"})

LABELS = {
    "alpha": r"initial scale $\alpha$", "log_alpha": r"initial scale $\log\alpha$",
    "gamma": r"regularization strength $\gamma$", "epsilon": r"ascent step $\epsilon$", "rho": r"radius of SAM $\rho$",
    "step": r"step size $\eta$", "decay": "weight decay", "samples_per_feature": r"samples per feature $N/d$",
    "sparsity": r"sparsity $k/d$", "n_samples": r"samples $N$", "n_nonzero": r"coefficients of the truth that are not 0, $k$",
}


@dataclass(frozen=True)
class Look:
    """How a measure is drawn.

    Attributes
    ----------
    label : str
    ends : (float, float) or None
        The fixed scale of the colours, so that pictures compare; None: that of the values.
    ticks : dict of float to str
        Of the colour bar; empty: those that matplotlib chooses.
    below : str
        What it means to be below the scale; empty: nothing is.
    """

    label: str
    ends: tuple[float, float] | None = None
    ticks: dict[float, str] = field(default_factory=dict)
    below: str = ""


LOOKS = {
    "richness": Look(r"richness $1-\|\beta-\beta_1\|\,/\,\|\beta_2-\beta_1\|$", (0, 1),
                     {0: r"0 ($\ell_2$)", 0.25: "0.25", 0.5: "0.5", 0.75: "0.75", 1: r"1 ($\ell_1$)"},
                     r"below 0: farther from $\beta_1$ than $\beta_2$ is"),
    "recovered": Look("fraction of draws recovered", (0, 1)),
    "mean_log_shift": Look(r"mean $\log(\alpha_{\mathrm{eff}}/\alpha)$"),
    "mean_log_effective_alpha": Look(r"mean $\log\alpha_{\mathrm{eff}}$"),
    "l1_norm": Look(r"$\|\beta\|_1$"),
    "l2_norm": Look(r"$\|\beta\|_2$"),
}


def draw_grid(data: Grid, ax: Axes | None = None) -> Axes:
    """Draw a grid, with the line gamma = epsilon of SAM where these are the axes.

    Parameters
    ----------
    data : Grid
        Of any size, down to one cell.
    ax : matplotlib.axes.Axes, optional
        Where; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on; its figure also holds the colour bar.
    """
    lines = list(data.lines)
    if {data.x, data.y} == {"gamma", "epsilon"}:
        ends = np.array([max(data.xs[0], data.ys[0]), min(data.xs[-1], data.ys[-1])])
        lines += [TheoryLine(ends, ends, r"$\gamma=\epsilon$: SAM")] if ends[0] < ends[1] else []
    with drawing(ax, (5.2, 5.0)) as (axes,):
        # The scales first: contour labels are placed along the lines as they look now.
        axes.set(xscale=_scale(data.x, data.xs), yscale=_scale(data.y, data.ys), xlabel=_label(data.x), ylabel=_label(data.y))
        handles = [*_contours(data, axes), *_cells(data, axes), *_failures(data, axes)]
        handles += [_line(line, axes) for line in lines]
        axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, frameon=False,
                    fontsize="small", labelspacing=0.25, title=_title(data.title), title_fontsize="small",
                    alignment="left")
    return axes


def _title(parts: Sequence[str]) -> str:
    """Join the parts, with new lines between them where one line would be wider than the map."""
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]}, {part}" if lines[-1] else part
        if lines[-1] and len(longer.replace("$", "").replace("\\", "")) > 54:
            lines[-1] += ","
            lines.append(part)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def _label(name: str) -> str:
    return LABELS.get(name, plain(name.replace("_", " ")))


def _scale(name: str, values: Array) -> str:
    if values[0] <= 0:
        return "linear"
    return "log" if name in LOGARITHMIC or values[-1] >= 30 * values[0] else "linear"


def _edges(name: str, values: Array) -> Array:
    if _scale(name, values) == "log":
        return cell_edges(values)
    half = np.diff(values) / 2 if len(values) > 1 else np.array([abs(values[0]) / 2 or 0.5])
    return np.concatenate([[values[0] - half[0]], values[:-1] + half[: len(values) - 1], [values[-1] + half[-1]]])


def _cells(data: Grid, axes: Axes) -> list[Any]:
    x, y = _edges(data.x, data.xs), _edges(data.y, data.ys)
    look = LOOKS.get(data.measure, Look(plain(data.measure_label or data.measure.replace("_", " "))))
    values = np.ma.masked_invalid(np.where(data.success, data.values, np.nan))
    norm = _norm(look, values)
    if look.below:
        values = np.ma.where((values < 0) & (values > -TOUCHING), 0.0, values)
    colors = mpl.colormaps["cividis"].with_extremes(under=BELOW)
    mesh = axes.pcolormesh(x, y, values, cmap=colors, norm=norm, rasterized=True)
    axes.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    below = bool(look.below and values.count() and values.min() < 0)
    bar = axes.figure.colorbar(mesh, ax=axes, extend="min" if below else "neither", location="bottom", aspect=30)
    bar.set_label(look.label)
    if look.ticks:
        bar.set_ticks(list(look.ticks), labels=list(look.ticks.values()))
    handles: list[Any] = [Patch(color=BELOW, label=look.below)] if below else []
    undefined = data.success & ~np.isfinite(data.values)
    if undefined.any():
        handles.append(Patch(facecolor="white", edgecolor="0.6", linewidth=0.6,
                             label=f"not defined: {np.count_nonzero(undefined)} of {undefined.size} runs"))
    return handles


def _norm(look: Look, values: Any) -> Normalize:
    if look.ends is not None:
        return Normalize(*look.ends)
    if values.count() == 0:
        return Normalize(0, 1)
    low, high = float(values.min()), float(values.max())
    if low == high:  # a constant grid still needs a scale
        return Normalize(low - 0.5, high + 0.5)
    return LogNorm(low, high) if low > 0 and high > 100 * low else Normalize(low, high)


def _contours(data: Grid, axes: Axes) -> list[Any]:
    if data.contours is None:
        return []
    heights = np.ma.masked_invalid(np.where(data.success, data.contours, np.nan))
    if min(heights.shape) < 2 or heights.count() == 0 or not heights.min() < heights.max():
        return []
    lines = axes.contour(data.xs, data.ys, heights, levels=_levels(heights), colors="white", linewidths=1.0,
                         linestyles="solid")
    # A dark rim: white alone would vanish on the bright end of the colours.
    rim: list[Any] = [patheffects.withStroke(linewidth=1.8, foreground="black")]
    lines.set_path_effects(rim)
    places: list[Array] = []
    for label in axes.clabel(lines, fmt=lambda level: f"{level:.3g}", fontsize="x-small"):
        label.set_path_effects(rim)
        place = axes.transData.transform(label.get_position()) / axes.figure.dpi
        # Where lines crowd, as at an edge, their labels would lie on one another.
        label.set_visible(all(np.hypot(*(place - other)) > APART for other in places))
        places += [place] if label.get_visible() else []
    known = LOOKS.get(str(data.contour))
    words = known.label if known else plain(data.contour_label or str(data.contour).replace("_", " "))
    return [Line2D([], [], color="white", linewidth=1.0, path_effects=rim, label=words)]


def _levels(heights: Any) -> list[float]:
    """One per decade, since shifts grow like a power of gamma; more where the grid spans little."""
    for digits in ((1,), (1, 2, 5)):
        steps = [sign * digit * 10.0**exponent for sign in (-1, 1) for exponent in range(-2, 4) for digit in digits]
        inside = sorted(level for level in steps if heights.min() < level < heights.max())
        if len(inside) >= 3:
            return inside
    return [float(level) for level in np.linspace(heights.min(), heights.max(), 5)[1:-1]]


def _failures(data: Grid, axes: Axes) -> list[Any]:
    x, y = _edges(data.x, data.xs), _edges(data.y, data.ys)
    groups = list(data.failures().items())
    if len(groups) > len(HATCHES):  # the rest together: more kinds of hatching could not be told apart
        last = len(HATCHES) - 1
        groups[last:] = [("other failures", np.any([cells for _, cells in groups[last:]], axis=0))]
    handles = []
    for hatch, (words, cells) in zip(HATCHES, groups, strict=False):
        look: dict[str, Any] = {"facecolor": "0.92", "edgecolor": "0.35", "linewidth": 0.0, "hatch": hatch}
        boxes = [Rectangle((x[j], y[i]), x[j + 1] - x[j], y[i + 1] - y[i]) for i, j in np.argwhere(cells)]
        axes.add_collection(PatchCollection(boxes, **look), autolim=False)
        handles.append(Patch(**look, label=f"{words}: {np.count_nonzero(cells)} of {cells.size} runs"))
    return handles


def _line(line: TheoryLine, axes: Axes) -> Line2D:
    rim: list[Any] = [patheffects.withStroke(linewidth=3.4, foreground="white")]
    drawn, = axes.plot(line.xs, line.ys, color="#D55E00", linestyle=(0, (5, 1.5)), linewidth=1.8, path_effects=rim,
                       label=line.label, scalex=False, scaley=False)
    return drawn
