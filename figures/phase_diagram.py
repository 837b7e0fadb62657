"""Phase diagram: how rich is training with gradient regularization, over initial scale and strength.

Colour: where the limit beta of the flow lies between the two interpolators that mark the regimes: 0 at beta_2, of least
l2 norm, the kernel regime; 1 at beta_1, of least l1 norm, the rich regime. Strong regularization can lead to neither,
but farther from beta_1 than beta_2 is: that has a colour of its own. Contours: the mean over coordinates of
``log(alpha_eff/alpha)``, by which gradient regularization shrinks the effective initialisation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dln
from figures import _stored
from figures._canvas import increasing
from figures._grids import Grid, flow_grid
from figures._map import draw_grid as draw

__all__ = ["AXES", "FULL", "compute", "draw", "read"]

#: The two parameters.
AXES = ("alpha", "gamma")

ALPHAS = np.geomspace(1e-6, 10, 29)
GAMMAS = np.geomspace(1e-2, 10, 19)

#: The paper's size.
FULL = {"alphas": np.geomspace(1e-6, 10, 85), "gammas": np.geomspace(1e-2, 10, 55)}


def read(dataset: Any, **options: Any) -> Grid:
    """Take a grid that has been computed: over alpha and gamma if it has them, else over its own dimensions.

    Parameters
    ----------
    dataset : xarray.Dataset
    **options
        ``x``, ``y``, ``measure``, ``contour`` and ``at``: see `figures._stored.read`.

    Returns
    -------
    Grid
    """
    if not options.keys() & {"x", "y"} and set(AXES) <= set(dataset.dims) - set(options.get("at") or ()):
        options |= dict(zip(("x", "y"), AXES, strict=True))
    return _stored.read(dataset, **options)


def compute(
    problem: dln.Problem | None = None,
    *,
    alphas: Sequence[float] | NDArray[np.float64] = ALPHAS,
    gammas: Sequence[float] | NDArray[np.float64] = GAMMAS,
    epsilon: float | None = 0.2,
    scheme: str = "forward",
    progress: Callable[..., Any] | None = None,
    **options: Any,
) -> Grid:
    """Train one network per cell of the grid.

    Parameters
    ----------
    problem : Problem, optional
        Data with more than one interpolator; by default `dln.datasets.diabetes`.
    alphas, gammas : array_like (A,), (G,)
        Positive and increasing.
    epsilon, scheme : float, str
        See `dln.GradientRegularization`.
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
    x, y = ("alpha", increasing("alphas", alphas)), ("gamma", increasing("gammas", gammas))
    return flow_grid(problem, x, y, {"epsilon": epsilon}, scheme=scheme, progress=progress, **options)
