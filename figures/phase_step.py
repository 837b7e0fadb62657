"""Phase diagram of gradient descent over initial scale and step size: richness, and where training diverges.

Contours: the mean over coordinates of ``log(alpha_eff/alpha)``: a larger step shrinks the effective initialisation (Even et al.
2023).  The line is the edge of stability of the limit of gradient flow, 2 over the largest eigenvalue of the Hessian there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dln
from figures import _stored
from figures._canvas import increasing, plain
from figures._grids import Grid, TheoryLine, interpolators, richness_of, threaded
from figures._map import draw_grid as draw
from figures.step_size import curvature

__all__ = ["FULL", "compute", "draw", "read"]

Array = NDArray[np.float64]

#: From a stored grid: see `figures._stored.read`.
read = functools.partial(_stored.read, x="alpha", y="step")

ALPHAS = np.geomspace(1e-3, 3, 15)
STEPS = np.geomspace(0.02, 2, 15)

#: The paper's size.
FULL = {"alphas": np.geomspace(1e-3, 3, 57), "steps": np.geomspace(0.02, 2, 57), "n_steps": 2_000_000}


def compute(
    problem: dln.Problem | None = None,
    *,
    alphas: Sequence[float] | Array = ALPHAS,
    steps: Sequence[float] | Array = STEPS,
    n_steps: int = 200_000,
    residual_tol: float = 1e-4,
    workers: int | None = None,
    progress: Callable[..., Any] | None = None,
) -> Grid:
    """Train one network per cell of the grid by gradient descent on all samples.

    Parameters
    ----------
    problem : Problem, optional
        Data with more than one interpolator; by default a sparse regression of 20 samples and 40 features.
    alphas, steps : array_like (A,), (G,)
        Positive and increasing.
    n_steps : int
        Most steps of a run; one that has not converged by then has failed.
    residual_tol : float
        See `dln.descend`.
    workers : int, optional
        Threads; by default one per processor.
    progress : callable, optional
        Wraps an iterable, as tqdm does.

    Returns
    -------
    Grid
        Of ``richness``, with contours of ``mean_log_shift``.
    """
    problem = dln.sparse_regression(20, 40, 3, rng=0) if problem is None else problem
    alphas, steps = increasing("alphas", alphas), increasing("steps", steps)
    ends = interpolators(problem)

    def cell(job: tuple[float, float]) -> tuple[float, float, bool, str]:
        run = dln.descend(problem, step=job[1], n_steps=n_steps, alpha=job[0], residual_tol=residual_tol)
        if run.status != dln.Status.CONVERGED:
            return np.nan, np.nan, False, str(run.status)
        return (richness_of(run.beta, ends), float(np.mean(run.log_effective_alpha - run.log_alpha)), True, str(run.status))

    def edge(alpha: float) -> float:
        end = dln.flow(problem, alpha=alpha, rtol=1e-5, residual_tol=residual_tol)
        return 2 / curvature(problem, end.log_u, end.log_v) if end.success else np.nan

    cells = threaded(cell, [(float(a), float(s)) for s in steps for a in alphas], workers, progress, "steps and scales")
    shape = (len(steps), len(alphas))
    richness, shift, success, status = (np.array(column).reshape(shape) for column in zip(*cells, strict=True))
    line = TheoryLine(alphas, np.array([edge(float(alpha)) for alpha in alphas]), r"edge of stability, $2/\lambda_{\max}$")
    return Grid("alpha", "step", alphas, steps, "richness", richness, "mean_log_shift", shift, success, status,
                (plain(problem.name or "data"), "gradient descent"), lines=(line,))
