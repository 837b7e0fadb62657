"""Potentials: what training minimises, in one coordinate, from the square at large scale to the modulus at small scale.

Each potential is divided by its value at 1, so that only the shapes are compared: ``beta^2`` as alpha grows, ``|beta|``
as alpha shrinks, which it approaches no faster than ``1/log(1/alpha)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

import dln
from figures._canvas import drawing, increasing, scale_name

__all__ = ["FULL", "Potentials", "compute", "draw"]

Array = NDArray[np.float64]

#: The paper's size.
FULL = {"n_points": 4001}

LOG_ALPHAS = tuple(exponent * math.log(10) for exponent in (-300, -8, -2, -1, -0.5, 1))


@dataclass(frozen=True, eq=False)
class Potentials:
    """The potential of one coordinate, per initial scale.

    Attributes
    ----------
    log_alphas : ndarray (A,)
        Logarithms of the initial scales, increasing.
    beta : ndarray (K,)
        The coordinate, from -1 to 1.
    shapes : ndarray (A, K)
        ``phi_alpha(beta) / phi_alpha(1)``.
    """

    log_alphas: Array
    beta: Array
    shapes: Array


def compute(log_alphas: Sequence[float] | Array = LOG_ALPHAS, n_points: int = 401) -> Potentials:
    """Evaluate the potential.

    Parameters
    ----------
    log_alphas : array_like (A,)
        Logarithms of the initial scales, increasing.
    n_points : int
        How many values of beta, K, at least 2.

    Returns
    -------
    Potentials
    """
    logs = increasing("log_alphas", log_alphas, positive=False)
    if n_points < 2:
        raise ValueError(f"n_points must be at least 2, got {n_points}")
    beta = np.linspace(-1, 1, n_points)
    shapes = np.array([dln.potential.terms(beta, log_alpha=log_alpha) / dln.potential.value(1.0, log_alpha=log_alpha)
                       for log_alpha in logs])
    return Potentials(logs, beta, shapes)


def draw(data: Potentials, ax: Axes | None = None) -> Axes:
    """Draw the potentials, with the two limits.

    Parameters
    ----------
    data : Potentials
    ax : matplotlib.axes.Axes, optional
        Where; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.
    """
    colors = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(data.log_alphas)))
    with drawing(ax, (5.2, 3.6)) as (axes,):
        axes.plot(data.beta, np.abs(data.beta), "--", color="black", linewidth=1.0, zorder=3, label=r"limit $|\beta|$")
        for color, log_alpha, shape in zip(colors, data.log_alphas, data.shapes, strict=True):
            axes.plot(data.beta, shape, color=color, label=rf"$\alpha=$ {scale_name(log_alpha)}")
        axes.plot(data.beta, data.beta**2, ":", color="black", linewidth=1.0, zorder=3, label=r"limit $\beta^2$")
        axes.set(xlabel=r"$\beta$", ylabel=r"$\phi_\alpha(\beta)\,/\,\phi_\alpha(1)$",
                 xticks=[-1, 0, 1])
        axes.legend(loc="upper center", frameon=False, fontsize="small", labelspacing=0.25,
                    handlelength=1.4)
    return axes
