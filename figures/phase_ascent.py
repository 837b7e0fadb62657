"""Phase diagram over initial scale and ascent step: how far gradients are looked ahead, at one strength of regularization.

As epsilon tends to 0 the finite difference tends to the exact Hessian and no longer matters; from a size on it decides how much
the effective initialisation shrinks.  Colour and contours are those of the phase diagram.
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
read = functools.partial(_stored.read, x="alpha", y="epsilon")

ALPHAS = np.geomspace(1e-4, 10, 21)
EPSILONS = np.geomspace(1e-1, 1e3, 15)

#: The paper's size.
FULL = {"alphas": np.geomspace(1e-4, 10, 85), "epsilons": np.geomspace(1e-1, 1e3, 55)}


def compute(
    problem: dln.Problem | None = None,
    *,
    alphas: Sequence[float] | NDArray[np.float64] = ALPHAS,
    epsilons: Sequence[float] | NDArray[np.float64] = EPSILONS,
    gamma: float = 0.2,
    scheme: str = "forward",
    progress: Callable[..., Any] | None = None,
    **options: Any,
) -> Grid:
    """Train one network per cell of the grid.

    Parameters
    ----------
    problem : Problem, optional
        Data with more than one interpolator; by default `dln.datasets.diabetes`.
    alphas, epsilons : array_like (A,), (E,)
        Positive and increasing.
    gamma : float
        Strength of the regularization.
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
    x, y = ("alpha", increasing("alphas", alphas)), ("epsilon", increasing("epsilons", epsilons))
    return flow_grid(problem, x, y, {"gamma": gamma}, scheme=scheme, progress=progress, **options)
