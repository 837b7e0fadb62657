"""What the figures share: a canvas without a display, a style without global settings, names for numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

__all__ = ["COLORS", "LINES", "cell_edges", "drawing", "increasing", "plain", "scale_name", "style"]

#: Okabe and Ito's colours, which all kinds of colour vision tell apart; yellow, too faint for a line, left out.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")

LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (1, 3)), (0, (8, 2)))

_STYLE: Any = {
    "font.size": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.4,
    "hatch.linewidth": 0.7,
    "pdf.fonttype": 42,  # text stays text, in fonts that publishers accept
    "text.usetex": False,
}


@contextmanager
def style() -> Iterator[None]:
    """Set the style of the figures inside a ``with`` block, and put everything back after it."""
    with mpl.rc_context(_STYLE):
        yield


@contextmanager
def drawing(ax: Any, size: tuple[float, float], n_rows: int = 1) -> Iterator[list[Axes]]:
    """Give the axes to draw on: the caller's, in the caller's style, or those of a new figure, in ours.

    Parameters
    ----------
    ax : matplotlib.axes.Axes, array of them, or None
        What the caller gave to ``draw``.
    size : (float, float)
        Width and height of a new figure in inches.
    n_rows : int
        How many axes are needed; in a new figure one below the other, with one x axis.

    Raises
    ------
    ValueError
        If the caller gave another number of axes.
    """
    if ax is not None:
        axes = list(np.ravel(np.asarray(ax, dtype=object)))
        if len(axes) != n_rows:
            raise ValueError(f"ax must hold {n_rows} Axes, got {len(axes)}")
        yield axes
        return
    with style():
        # Not through pyplot, which would pick a backend, open a display and keep the figure alive.
        figure = Figure(figsize=size, layout="constrained")
        yield list(np.ravel(figure.subplots(n_rows, 1, sharex=True, squeeze=False)))


def cell_edges(centers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Find the edges of cells around positive increasing centres: midpoints on a log scale.

    Parameters
    ----------
    centers : ndarray of shape (n,)

    Returns
    -------
    ndarray of shape (n + 1,)
        A single centre gets a cell half a decade wide to each side.
    """
    logs = np.log(centers)
    half = np.diff(logs) / 2
    if half.size == 0:
        half = np.array([math.log(10) / 2])
    return np.exp(np.concatenate([[logs[0] - half[0]], logs[:-1] + half[: len(logs) - 1], [logs[-1] + half[-1]]]))


def scale_name(log_alpha: float) -> str:
    """Write an initial scale, given by its logarithm, in mathtext: a power of ten where it is one."""
    exponent = log_alpha / math.log(10)
    if abs(exponent - round(exponent)) < 1e-9 and not -2 < exponent < 2:
        return rf"$10^{{{round(exponent)}}}$"
    if -4 < exponent < 4:
        return f"{math.exp(log_alpha):.3g}"
    if abs(exponent) < 300:
        mantissa = 10 ** (exponent - math.floor(exponent))
        return rf"${mantissa:.2g}\times 10^{{{math.floor(exponent)}}}$"
    return rf"$e^{{{log_alpha:.6g}}}$"


def plain(name: str) -> str:
    """Make a name safe as a label: no mathtext in it, and no leading underscore, which would hide it from legends."""
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")


def increasing(
    name: str, values: Sequence[float] | NDArray[np.float64], *, positive: bool = True
) -> NDArray[np.float64]:
    """Check an axis: a vector of at least one finite, increasing and (unless told) positive number."""
    axis = np.atleast_1d(np.asarray(values, dtype=float))
    if axis.ndim != 1 or axis.size == 0:
        raise ValueError(f"{name} must be a vector of at least one number, got shape {axis.shape}")
    for k, value in enumerate(axis):
        if not math.isfinite(value) or (positive and value <= 0):
            raise ValueError(f"{name}[{k}] must be {'positive and ' if positive else ''}finite, got {value:g}")
        if k and value <= axis[k - 1]:
            raise ValueError(f"{name} must increase, but {name}[{k}] = {value:g} follows {axis[k - 1]:g}")
    return axis
