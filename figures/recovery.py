"""Recovery: how often gradient flow from a small scale finds the sparse truth, over samples per feature and sparsity.

The limit at small scale is the interpolator of least l1 norm. For Gaussian data that one is the truth or is not, depending on
which side of a line N/d and k/d are: the transition of Donoho & Tanner (2009), here by the statistical dimension of Amelunxen,
Lotz, McCoy & Tropp (2014), around which it has a width of order ``1/sqrt(d)``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

import dln
from figures import _stored
from figures._canvas import increasing
from figures._grids import Grid, TheoryLine, named, threaded
from figures._map import draw_grid

__all__ = ["AXES", "FULL", "compute", "draw", "read", "transition"]

Array = NDArray[np.float64]

#: The two parameters of a stored grid.
AXES = ("n_samples", "n_nonzero")

N_FEATURES = 60
#: A draw counts as recovered if beta is within this distance of the truth, relative to the truth.
RECOVERED = 0.01

#: The paper's size.
FULL = {"n_features": 150, "n_samples": tuple(range(10, 150, 5)), "n_nonzero": tuple(range(3, 105, 4)), "n_draws": 30}


def transition(sparsity: float | Array) -> Array:
    """Return the number of samples per feature at which l1 minimisation begins to recover vectors of a sparsity.

    Parameters
    ----------
    sparsity : float or ndarray
        k/d, from 0 to 1.

    Returns
    -------
    ndarray
        The statistical dimension of the descent cone of the l1 norm, over d: the minimum over tau of
        ``s (1 + tau^2) + (1 - s) E[(|g| - tau)_+^2]`` with g standard normal.

    Raises
    ------
    ValueError
        If a sparsity is not in [0, 1].

    References
    ----------
    Amelunxen, Lotz, McCoy & Tropp (2014), Living on the edge: phase transitions in convex programs with random data.
    """
    values = np.asarray(sparsity, dtype=float)
    if not np.all((values >= 0) & (values <= 1)):
        raise ValueError(f"sparsity must be in [0, 1], got {values[~((values >= 0) & (values <= 1))][0]:g}")
    return np.array([_statistical_dimension(float(s)) for s in values.ravel()]).reshape(values.shape)


def _statistical_dimension(s: float) -> float:
    if s in (0.0, 1.0):
        return s
    # E[(|g| - tau)_+^2] = 2 ((1 + tau^2) Phi(-tau) - tau phi(tau)), and half its slope is -2 (phi(tau) - tau Phi(-tau)).

    def density(tau: float) -> float:
        return math.exp(-0.5 * tau * tau) / math.sqrt(2 * math.pi)

    def slope(tau: float) -> float:
        return s * tau - 2 * (1 - s) * (density(tau) - tau * float(ndtr(-tau)))

    tau = brentq(slope, 0.0, 40.0, xtol=1e-13)
    tail = 2 * ((1 + tau * tau) * float(ndtr(-tau)) - tau * density(tau))
    return s * (1 + tau * tau) + (1 - s) * tail


def compute(
    *,
    n_features: int = N_FEATURES,
    n_samples: Sequence[int] = tuple(range(6, 60, 4)),
    n_nonzero: Sequence[int] = tuple(range(2, 44, 3)),
    n_draws: int = 8,
    log_alpha: float = -1000.0,
    workers: int | None = None,
    progress: Callable[..., Any] | None = None,
) -> Grid:
    """Train one network per draw of the data, from a scale so small that its limit is the interpolator of least l1 norm.

    Parameters
    ----------
    n_features : int
        d.
    n_samples, n_nonzero : sequence of int (A,), (G,)
        N and k, increasing; k at most d.
    n_draws : int
        Data sets per cell, by `dln.sparse_regression` with the seeds 0, 1, ...
    log_alpha : float
        Logarithm of the initial scale.
    workers : int, optional
        Threads; by default one per processor.
    progress : callable, optional
        Wraps an iterable, as tqdm does.

    Returns
    -------
    Grid
        Over N/d and k/d; the measure ``recovered`` is the fraction of the draws in which beta came within 1 percent of the
        truth.
        A cell in which any run did not converge has failed.
    """
    samples, nonzero = increasing("n_samples", n_samples), increasing("n_nonzero", n_nonzero)
    if n_draws < 1:
        raise ValueError(f"n_draws must be at least 1, got {n_draws}")
    if nonzero[-1] > n_features:
        raise ValueError(f"n_nonzero must be at most n_features = {n_features}, got {nonzero[-1]:g}")

    def cell(job: tuple[int, int]) -> tuple[float, bool, str]:
        found = 0
        for seed in range(n_draws):
            problem = dln.sparse_regression(job[0], n_features, job[1], rng=seed)
            run = dln.flow(problem, log_alpha=log_alpha, rtol=1e-5, residual_tol=1e-6)
            if not run.success:
                return np.nan, False, str(run.status)
            truth = np.asarray(problem.truth)
            found += int(np.linalg.norm(run.beta - truth) <= RECOVERED * np.linalg.norm(truth))
        return found / n_draws, True, str(run.status)

    jobs = [(int(n), int(k)) for k in nonzero for n in samples]
    cells = threaded(cell, jobs, workers, progress, "recovery")
    shape = (len(nonzero), len(samples))
    recovered, success, status = (np.array(column).reshape(shape) for column in zip(*cells, strict=True))
    title = ("gradient flow", named("log_alpha", log_alpha), f"$d=$ {n_features}", f"{n_draws} draws per cell")
    return Grid("samples_per_feature", "sparsity", samples / n_features, nonzero / n_features, "recovered", recovered, None,
                None, success, status, title)


def read(dataset: Any, *, x: str | None = None, y: str | None = None, measure: str = "distance_to_truth",
         at: Mapping[str, float | str] | None = None, **options: Any) -> Grid:
    """Take the fraction recovered from a grid that has been computed, with truths of norm 1.

    Parameters
    ----------
    dataset : xarray.Dataset
        As `dln.sweep` returns it for data that are a function of ``n_samples``, ``n_nonzero`` and a ``seed``, over which the
        mean is taken; with the measure "distance_to_truth".
    x, y : str, optional
        Names of the first two; they become N/d and k/d where d is known: a parameter ``n_features`` of the Dataset, or in `at`.
    measure : str
        The distance.
    at : mapping, optional
        Values of further dimensions.
    **options
        Not used: a recovery diagram has no contours.

    Returns
    -------
    Grid
    """
    x, y = x or AXES[0], y or AXES[1]
    at = dict(at or {})
    n_features = _n_features(dataset, at)
    draws = dataset.sizes.get("seed", 1)
    one = [_stored.read(dataset, x=x, y=y, measure=measure, contour=None,
                        at={**at, **({"seed": float(seed)} if draws > 1 else {})})
           for seed in (dataset["seed"].values if draws > 1 else (0,))]
    success = np.all([grid.success for grid in one], axis=0)
    status = one[0].status.astype(object)
    for grid in one[1:]:
        status = np.where(~grid.success & one[0].success, grid.status, status)
    recovered = np.where(success, np.mean([grid.values <= RECOVERED for grid in one], axis=0), np.nan)
    title = (*(part for part in one[0].title if not part.startswith("seed")), f"{draws} draws per cell")
    grid = replace(one[0], measure="recovered", values=recovered, success=success, status=status.astype(str), title=title)
    if n_features is None or (x, y) != AXES:
        return grid
    return replace(grid, x="samples_per_feature", y="sparsity", xs=grid.xs / n_features, ys=grid.ys / n_features)


def _n_features(dataset: Any, at: dict[str, float | str]) -> float | None:
    """Give d if it is known, taken out of `at` where it is no dimension; what is given goes before what is stored."""
    given = at.get("n_features")
    if "n_features" not in dataset.dims:
        at.pop("n_features", None)
    if given is None:
        try:
            given = json.loads(dataset.attrs.get("parameters", "{}"))["n_features"]
        except (KeyError, TypeError, ValueError):
            return None
    if isinstance(given, str) or not given > 0:
        raise ValueError(f"n_features must be a positive number, got {given!r}")
    return float(given)


def draw(data: Grid, ax: Axes | None = None) -> Axes:
    """Draw the fraction recovered, with the transition of l1 minimisation.

    Parameters
    ----------
    data : Grid
    ax : matplotlib.axes.Axes, optional
        Where; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    if (data.x, data.y) == ("samples_per_feature", "sparsity"):
        sparsity = np.linspace(0, 1, 201)
        line = TheoryLine(transition(sparsity), sparsity, r"transition of $\ell_1$ minimisation, $d\to\infty$")
        data = replace(data, lines=(*data.lines, line))
    return draw_grid(data, ax)
