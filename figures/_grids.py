"""What all phase diagrams share: a grid of runs over two parameters, and how one is made by training.

`figures._stored` reads one from a store instead, and `figures._map` draws it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dln
from figures._canvas import plain

__all__ = ["SYMBOLS", "Grid", "TheoryLine", "flow_grid", "interpolators", "named", "richness_of", "threaded"]

Array = NDArray[np.float64]

#: How parameters are written.
SYMBOLS = {"alpha": r"\alpha", "log_alpha": r"\log\alpha", "gamma": r"\gamma", "epsilon": r"\epsilon", "rho": r"\rho",
           "step": r"\eta"}


@dataclass(frozen=True, eq=False)
class TheoryLine:
    """A line that theory draws across a grid.

    Attributes
    ----------
    xs, ys : ndarray (K,)
    label : str
    """

    xs: Array
    ys: Array
    label: str


@dataclass(frozen=True, eq=False)
class Grid:
    """A grid of runs; the first index counts y, the second x.

    Attributes
    ----------
    x, y : str
        Names of the two parameters, such as "alpha" and "gamma".
    xs, ys : ndarray (A,), (G,)
        Their values, increasing.
    measure : str
        What `values` are, such as "richness".
    values : ndarray (G, A)
        Drawn in colour; NaN where the run failed.
    contour : str or None
        What `contours` are.
    contours : ndarray (G, A) or None
        Drawn as lines of equal height; NaN where the run failed.
    success : ndarray of bool (G, A)
    status : ndarray of str (G, A)
        Why each run stopped, in words.
    title : tuple of str
        The data, and the parameters that are the same in all cells; mathtext.
    lines : tuple of TheoryLine
    measure_label, contour_label : str
        What to write beside them where `figures` has no words of its own.
    """

    x: str
    y: str
    xs: Array
    ys: Array
    measure: str
    values: Array
    contour: str | None
    contours: Array | None
    success: NDArray[np.bool_]
    status: NDArray[np.str_]
    title: tuple[str, ...]
    lines: tuple[TheoryLine, ...] = ()
    measure_label: str = ""
    contour_label: str = ""

    @property
    def n_failed(self) -> int:
        """How many cells failed."""
        return int(np.count_nonzero(~self.success))

    def failures(self) -> dict[str, NDArray[np.bool_]]:
        """Give the cells that failed, by why, the most frequent first."""
        words, counts = np.unique(self.status[~self.success], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return {str(words[k]): ~self.success & (self.status == words[k]) for k in order}


def named(name: str, value: Any) -> str:
    """Write a parameter and its value, in mathtext where it has a symbol."""
    number = f"{value:g}" if isinstance(value, (int, float, np.number)) and not isinstance(value, bool) else str(value)
    return rf"${SYMBOLS[name]}=$ {number}" if name in SYMBOLS else f"{name.replace('_', ' ')} = {number}"


def flow_grid(
    problem: dln.Problem | None, x: tuple[str, Array], y: tuple[str, Array], fixed: Mapping[str, float | None], *,
    scheme: str = "forward", rtol: float = 1e-5, residual_tol: float = 1e-5, max_steps: int = 10_000,
    workers: int | None = None, progress: Callable[..., Any] | None = None,
) -> Grid:
    """Train one network with gradient regularization per cell, and measure its richness and its shift of alpha.

    Parameters
    ----------
    problem : Problem or None
        Data with more than one interpolator; None: `dln.datasets.diabetes`.
    x, y : (str, ndarray)
        Two of "alpha", "gamma" and "epsilon", and their values.
    fixed : mapping
        The value of the third.
    scheme : str
        See `dln.GradientRegularization`.
    rtol, residual_tol, max_steps
        See `dln.flow`; loose enough for a picture.
    workers : int, optional
        Threads; by default one per processor.
    progress : callable, optional
        Wraps an iterable, as tqdm does.

    Returns
    -------
    Grid
        Measure "richness", contours "mean_log_shift".

    Raises
    ------
    ValueError
        If a parameter is bad, the data cannot be interpolated, or have only one interpolator.
    """
    problem = dln.datasets.diabetes() if problem is None else problem
    ends = interpolators(problem)
    settings: list[dict[str, Any]] = [{**fixed, x[0]: float(a), y[0]: float(b)} for b in y[1] for a in x[1]]
    rules = [dln.GradientRegularization(s["gamma"], s["epsilon"], scheme) for s in settings]

    def cell(k: int) -> tuple[float, float, bool, str]:
        run = dln.flow(problem, rules[k], alpha=settings[k]["alpha"], rtol=rtol, residual_tol=residual_tol,
                       max_steps=max_steps)
        if not run.success:
            return np.nan, np.nan, False, str(run.status)
        return (richness_of(run.beta, ends), float(np.mean(run.log_effective_alpha - run.log_alpha)), True, str(run.status))

    cells = threaded(cell, list(range(len(settings))), workers, progress, "phase diagram")
    shape = (len(y[1]), len(x[1]))
    richness, shift, success, status = (np.array(column).reshape(shape) for column in zip(*cells, strict=True))
    kind = "exact Hessian" if scheme == "exact" else f"{scheme} difference"
    held = [named(name, value) for name, value in fixed.items() if value is not None]
    title = (plain(problem.name or "data"), kind, *held)
    return Grid(x[0], y[0], x[1], y[1], "richness", richness, "mean_log_shift", shift, success, status, title)


def interpolators(problem: dln.Problem) -> tuple[Array, Array]:
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


def richness_of(beta: Array, ends: tuple[Array, Array]) -> float:
    """Return ``1 - |beta - beta_1| / |beta_2 - beta_1|``, with (beta_1, beta_2) of `interpolators`."""
    sparse, dense = ends
    return 1 - float(np.linalg.norm(beta - sparse)) / float(np.linalg.norm(dense - sparse))


def threaded(
    function: Callable[[Any], Any], jobs: list[Any], workers: int | None, progress: Callable[..., Any] | None, words: str
) -> list[Any]:
    """Run the jobs in threads (the kernels release the GIL), in order."""
    first = function(jobs[0])  # compiles the kernels, once
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1)
    try:
        rest = pool.map(function, jobs[1:])
        wrapped = rest if progress is None else progress(rest, total=len(jobs), initial=1, desc=words)
        return [first, *wrapped]
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C only the runs at work are waited for
