"""Phase diagram over ascent step and strength of gradient regularization, with the line gamma = epsilon, which is SAM.

Sharpness-aware minimisation of radius rho is the forward difference with ``gamma = epsilon = rho``: the line shows where it
runs through the regimes, and what the two parameters do when they are set apart.  Colour and contours are those of the phase
diagram.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dln
from figures import _stored
from figures._canvas import increasing
from figures._grids import Grid, flow_grid
from figures._map import draw_grid as draw

__all__ = ["FULL", "compute", "draw", "read"]

#: From a stored grid: see `figures._stored.read`.
read = functools.partial(_stored.read, x="epsilon", y="gamma")

EPSILONS = np.geomspace(1e-2, 100, 21)
GAMMAS = np.geomspace(1e-2, 100, 21)

#: The paper's size.
FULL = {"epsilons": np.geomspace(1e-2, 100, 61), "gammas": np.geomspace(1e-2, 100, 61)}


def compute(
    problem: dln.Problem | None = None,
    *,
    epsilons: Sequence[float] | NDArray[np.float64] = EPSILONS,
    gammas: Sequence[float] | NDArray[np.float64] = GAMMAS,
    alpha: float = 0.01,
    scheme: str = "forward",
    progress: Callable[..., Any] | None = None,
    **options: Any,
) -> Grid:
    """Train one network per cell of the grid.

    Parameters
    ----------
    problem : Problem, optional
        Data with more than one interpolator; by default `dln.datasets.diabetes`.
    epsilons, gammas : array_like (E,), (G,)
        Positive and increasing.
    alpha : float
        Initial scale.
    scheme : str
        See `dln.GradientRegularization`; not "exact", which takes no epsilon.
    progress : callable, optional
        Wraps an iterable, as tqdm does.
    **options
        ``rtol``, ``residual_tol``, ``max_steps`` and ``workers``: see `figures._grids.flow_grid`.

    Returns
    -------
    Grid
        Of ``richness``, with contours of ``mean_log_shift``.

    Raises
    ------
    ValueError
        If a parameter is bad, the data cannot be interpolated, or have only one interpolator.
    """
    x, y = ("epsilon", increasing("epsilons", epsilons)), ("gamma", increasing("gammas", gammas))
    return flow_grid(problem, x, y, {"alpha": alpha}, scheme=scheme, progress=progress, **options)
