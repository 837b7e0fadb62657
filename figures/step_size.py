"""Step sizes: the effective initialisation of every coordinate against the step, for gradient descent and for single samples.

A larger step shrinks ``alpha_eff``, unevenly across the coordinates (Even et al. 2023), up to the edge of stability, where the
step is 2 over the largest curvature at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

import dln
from figures._canvas import COLORS, drawing, increasing

__all__ = ["FULL", "StepSizes", "compute", "draw"]

Array = NDArray[np.float64]

#: The paper's size.
FULL = {"n_sizes": 120}

METHODS = ("gradient descent", "one sample at a time")


@dataclass(frozen=True, eq=False)
class StepSizes:
    """Runs of both methods at S step sizes.

    Attributes
    ----------
    steps : ndarray (S,)
        Increasing.
    log_shifts : ndarray (2, S, d)
        ``log(alpha_eff/alpha)`` where each run ended; NaN where it did not converge.
    success : ndarray of bool (2, S)
    status : ndarray of str (2, S)
    edge : float
        2 over the largest eigenvalue of the Hessian of the loss in the weights, where gradient descent with the smallest step
        ended.
    curvatures : ndarray (S,)
        That eigenvalue where gradient descent with each step ended; NaN where it did not converge.
    support : ndarray of int
        The coordinates that are largest where gradient descent with the smallest step ended.
    """

    steps: Array
    log_shifts: Array
    success: NDArray[np.bool_]
    status: NDArray[np.str_]
    edge: float
    curvatures: Array
    support: NDArray[np.int_]

    @property
    def n_failed(self) -> NDArray[np.int_]:
        """How many runs of each method did not converge, shape (2,)."""
        return np.sum(~self.success, axis=1)


def compute(problem: dln.Problem | None = None, *, alpha: float = 0.1, steps: Sequence[float] | Array | None = None,
            n_sizes: int = 20,            n_steps: int = 200_000, n_support: int = 3, residual_tol: float = 1e-6, rng: int = 0,
            progress: Callable[..., Any] | None = None) -> StepSizes:
    """Train with each step size by both methods.

    Parameters
    ----------
    problem : Problem, optional
        By default a sparse regression that can be interpolated.
    alpha : float
        Initial scale.
    steps : array_like (S,), optional
        Step sizes, increasing; by default `n_sizes` up to beyond the edge of stability.
    n_sizes : int
        How many.
    n_steps : int
        Most steps of a run.
    n_support : int
        Coordinates to be told apart, those largest at the end.
    residual_tol : float
        See `dln.descend`.
    rng : int
        Seed of the samples, the same for all step sizes.
    progress : callable, optional
        Wraps an iterable, as tqdm does.

    Returns
    -------
    StepSizes
    """
    problem = dln.sparse_regression(20, 40, 3, rng=0) if problem is None else problem
    end = dln.flow(problem, alpha=alpha, residual_tol=residual_tol)
    edge = 2 / curvature(problem, end.log_u, end.log_v)
    steps = edge * np.geomspace(0.02, 2.5, n_sizes) if steps is None else increasing("steps", steps)
    shifts = np.full((2, len(steps), problem.n_features), np.nan)
    curvatures = np.full(len(steps), np.nan)
    success, status = np.zeros((2, len(steps)), dtype=bool), np.full((2, len(steps)), "", dtype="<U32")
    beta = end.beta
    for k, step in enumerate(steps if progress is None else progress(steps, desc="step sizes")):
        for method, batch_size in enumerate((None, 1)):
            run = dln.descend(problem, step=float(step), n_steps=n_steps, alpha=alpha, batch_size=batch_size,
                              residual_tol=residual_tol, rng=rng)
            success[method, k], status[method, k] = run.status == dln.Status.CONVERGED, str(run.status)
            if not success[method, k]:
                continue
            shifts[method, k] = run.log_effective_alpha - math.log(alpha)
            if batch_size is None:
                curvatures[k] = curvature(problem, run.log_u, run.log_v)
                if k == 0:
                    edge, beta = 2 / curvatures[0], run.beta
    return StepSizes(steps, shifts, success, status, edge, curvatures, np.argsort(-np.abs(beta))[:n_support])


def curvature(problem: dln.Problem, log_u: Array, log_v: Array) -> float:
    """Give the largest eigenvalue of the Hessian in the weights on an interpolator, ``(2/N) X diag(u^2 + v^2) X^T``."""
    sizes = np.exp(2 * log_u) + np.exp(2 * log_v)
    return float(2 * np.linalg.norm(problem.X * np.sqrt(sizes), 2) ** 2 / problem.n_samples)


def draw(data: StepSizes, ax: Any = None) -> NDArray[Any]:
    """Draw ``alpha_eff/alpha`` of every coordinate against the step size: gradient descent above, single samples below.

    Parameters
    ----------
    data : StepSizes
    ax : two matplotlib.axes.Axes, optional
        Where; by default a new figure.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (2,)
    """
    with drawing(ax, (5.2, 5.4), n_rows=2) as axes:
        for method, panel in enumerate(axes):
            _panel(data, method, panel)
        axes[-1].set_xlabel(r"step size $\eta$")
    return np.array(axes, dtype=object)


def _panel(data: StepSizes, method: int, axes: Axes) -> None:
    others = np.setdiff1d(np.arange(data.log_shifts.shape[2]), data.support)
    with np.errstate(under="ignore"):
        ratios = np.exp(data.log_shifts[method])
    grey = axes.plot(data.steps, ratios[:, others], color="0.7", linewidth=0.6)
    marked = axes.plot(data.steps, ratios[:, data.support], color=COLORS[0], marker=".")
    edge = axes.axvline(data.edge, color=COLORS[1], linestyle="--")
    entries: list[tuple[Any, str]] = []
    if method == 0:  # once for both
        entries = [(marked[0], "largest coordinates")] if marked else []
        entries += [(grey[0], "others")] if grey else []
        entries.append((edge, "edge of stability"))
    failed = ~data.success[method]
    if failed.any():
        # On the lower rim, in axes coordinates: they have no value.
        crosses = axes.plot(data.steps[failed], np.full(failed.sum(), 0.03), "x", color="black", clip_on=False,
                            transform=axes.get_xaxis_transform())
        entries.append((crosses[0], f"did not converge: {failed.sum()} of {failed.size} runs"))
    axes.set_xscale("log")
    if np.isfinite(ratios).any():
        axes.set_yscale("log")
    else:
        axes.set_yticks([])
    axes.set_ylabel(r"$\alpha_{\rm eff}/\alpha$")
    axes.set_title(METHODS[method], fontsize="medium")
    if entries:
        axes.margins(y=0.15)
        axes.legend(*zip(*entries, strict=True), loc="lower left", frameon=False, fontsize="small", labelspacing=0.25)
