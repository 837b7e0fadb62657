"""Noise and the effective initialisation: gradient descent, SGD and label noise against their laws in continuous time.

Only the square of a step's gradient shrinks ``u v``: that of all samples under gradient descent, which is small; those of
single samples under SGD, until they are fitted; those of single noisy targets under label noise, for ever.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

import dln
from figures._canvas import COLORS, drawing

__all__ = ["FULL", "METHODS", "Noise", "compute", "draw"]

Array = NDArray[np.float64]

#: The paper's size.
FULL = {"n_steps": 50_000, "n_runs": 400, "n_times": 200}

#: The methods, in the order of the arrays.
METHODS = ("gradient descent", "SGD", "label noise")


@dataclass(frozen=True, eq=False)
class Noise:
    """Means over the coordinates of ``log(alpha_eff/alpha)``, and losses, against time, for the `METHODS`.

    Attributes
    ----------
    times : ndarray (K,)
    logs, losses : ndarray (3, R, K)
        Of each run by discrete steps; NaN in failed runs; the rows of gradient descent are all the same.
    log_laws, log_law_halves : ndarray (3, K)
        Theory: the implicit shrinkage ``-2 eta int g^2`` along gradient flow; the mean over stochastic flows, and half the
        width of Student's interval of that mean (0 for gradient descent).
    n_failed : ndarray of int (3,)
        How many runs failed.
    step, label_noise, alpha : float
    n_runs : int
    data : str
    """

    times: Array
    logs: Array
    losses: Array
    log_laws: Array
    log_law_halves: Array
    n_failed: NDArray[np.int_]
    step: float
    label_noise: float
    alpha: float
    n_runs: int
    data: str


def compute(
    problem: dln.Problem | None = None,
    *,
    alpha: float = 0.1,
    step: float = 0.05,
    label_noise: float = 0.3,
    n_steps: int = 20_000,
    n_runs: int = 50,
    n_times: int = 60,
    seed: int = 0,
    threads: int | None = None,
) -> Noise:
    """Train by the three methods, and integrate the flows that are their theory.

    Parameters
    ----------
    problem : Problem, optional
        By default ``dln.sparse_regression(20, 50, 3, rng=0)``.
    alpha, step, label_noise : float
        Initial scale, step size eta, standard deviation of the label noise.
    n_steps : int
        Steps of each run; the batch is one sample.
    n_runs : int
        Seeds R, at least 2, of each method and of each flow.
    n_times : int
        How many times to keep, at most; evenly spaced on a log scale.
    seed : int
    threads : int, optional
        See `dln.ensemble`.

    Returns
    -------
    Noise
    """
    problem = dln.sparse_regression(20, 50, 3, rng=0) if problem is None else problem
    if n_runs < 2:
        raise ValueError(f"n_runs must be at least 2, got {n_runs}")
    if n_times < 2 or n_steps < 2:
        raise ValueError(f"n_times and n_steps must be at least 2, got {n_times} and {n_steps}")
    steps = np.unique(np.rint(np.geomspace(1, n_steps, n_times)).astype(int))
    times = step * steps
    discrete: dict[str, Any] = {"step": step, "n_steps": n_steps, "alpha": alpha, "save_at": steps, "residual_tol": None}
    flowing: dict[str, Any] = {"step": step, "t_end": float(times[-1]), "alpha": alpha, "save_at": times}
    noisy = {"label_noise": label_noise}
    runs = [dln.ensemble(dln.descend, problem, n_runs=1, seed=seed, **discrete)]
    runs += [dln.ensemble(dln.descend, problem, n_runs=n_runs, seed=seed, threads=threads, batch_size=1, **discrete, **more)
             for more in ({}, noisy)]
    laws, halves = [_of_gradient_flow(problem, alpha, step, times)], [np.zeros(len(times))]
    for more in ({}, noisy):
        flows = dln.ensemble(dln.stochastic_flow, problem, n_runs=n_runs, seed=seed + 1, threads=threads, **flowing, **more)
        lower, upper = flows.confidence_interval("saved_mean_log_effective_alphas")
        laws.append(flows.mean("saved_mean_log_effective_alphas") - math.log(alpha))
        halves.append(0.5 * (upper - lower))
    logs, losses = (np.array([np.broadcast_to(getattr(run, name), (n_runs, len(times))) for run in runs])
                    for name in ("saved_mean_log_effective_alphas", "saved_losses"))
    return Noise(times, logs - math.log(alpha), losses, np.array(laws), np.array(halves),
                 np.array([run.n_failed for run in runs]), step, label_noise, alpha, n_runs, problem.name or "data")


def _of_gradient_flow(problem: dln.Problem, alpha: float, step: float, times: Array) -> Array:
    # On a grid much finer than the kept times, for the trapezoidal rule.
    fine = np.unique(np.concatenate([[0.0], np.geomspace(times[0] / 20, times[-1], 2000), times]))
    fine = fine[fine <= times[-1]]
    run = dln.flow(problem, alpha=alpha, t_end=float(times[-1]), save_at=fine)
    squares = np.mean(((run.betas @ problem.X.T - problem.y) @ problem.X / (2 * problem.n_samples)) ** 2, axis=1)
    sums = np.concatenate([[0.0], np.cumsum(np.diff(run.times) * (squares[1:] + squares[:-1]) / 2)])
    return np.interp(times, run.times, -2 * step * sums)


def draw(data: Noise, ax: Any = None, *, level: float = 0.9) -> NDArray[Any]:
    """Draw the fall ``log(alpha/alpha_eff)``, a mean over the coordinates, above and the loss below, against time.

    Parameters
    ----------
    data : Noise
    ax : two matplotlib.axes.Axes, optional
        Where; by default a new figure.
    level : float
        The shaded bands hold this fraction of the runs.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (2,)
        What was drawn on.
    """
    with drawing(ax, (5.2, 5.4), n_rows=2) as axes:
        top, bottom = axes
        for k, (name, color) in enumerate(zip(METHODS, COLORS, strict=False)):
            failed = f" ({data.n_failed[k]} failed)" if data.n_failed[k] else ""
            _band(top, data.times, -data.logs[k], color, level, -np.mean(_kept(data.logs[k]), axis=0), name + failed)
            top.plot(data.times, -data.log_laws[k], color="black", linestyle="--", linewidth=1,
                     label="theory" if k == len(METHODS) - 1 else None)
            _band(bottom, data.times, data.losses[k], color, level, np.median(_kept(data.losses[k]), axis=0), None)
        top.set_yscale("log")
        top.set_ylabel(r"$\log(\alpha\,/\,\alpha_{\mathrm{eff}})$")
        top.legend(loc="lower right", frameon=False, fontsize="small", labelspacing=0.25)
        bottom.set_yscale("log")
        positive = data.losses[data.losses > 0]
        if positive.size:
            bottom.set_ylim(bottom=max(positive.min() / 2, 1e-12 * positive.max()))
        bottom.set_ylabel("loss")
        bottom.set_xlabel(r"time $t = k\,\eta$")
        for panel in axes:
            panel.set_xscale("log")
    return np.array(axes, dtype=object)


def _kept(rows: Array) -> Array:
    kept = rows[np.isfinite(rows).all(axis=1)]
    return kept if len(kept) else np.full((1, rows.shape[1]), np.nan)


def _band(axes: Axes, times: Array, rows: Array, color: str, level: float, middle: Array, label: str | None) -> None:
    lower, upper = np.quantile(_kept(rows), [0.5 - level / 2, 0.5 + level / 2], axis=0)
    axes.fill_between(times, lower, upper, color=color, alpha=0.25, linewidth=0)
    axes.plot(times, middle, color=color, label=label)
