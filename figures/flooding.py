"""Flooding: the loss hovers around its level while the norm of the gradient falls, as the averaged motion on the level has it.

Two opposite steps of size eta amount to a small step down the squared norm of the gradient (Karakida et al. 2023): along the
level flooding is gradient regularization without its loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

import dln
from figures._canvas import COLORS, drawing

__all__ = ["FULL", "FloodingCourse", "compute", "draw"]

Array = NDArray[np.float64]

#: The paper's size.
FULL = {"n_steps": 20_000, "n_times": 1000}


@dataclass(frozen=True, eq=False)
class FloodingCourse:
    """A run of flooding in discrete steps, and the averaged motion at the same times.

    Attributes
    ----------
    level, step : float
        Flood level and step size.
    times, losses, gradient_norms, mean_log_shift : ndarray (K,)
        Of the steps: ``t = eta k``, the loss, the norm of its gradient in the weights, and the mean over coordinates of
        ``log(alpha_eff/alpha)``.
    flow_times, flow_losses, flow_gradient_norms, flow_mean_log_shift : ndarray (M,)
        Of the averaged motion; fewer if it broke off.
    n_descents, n_ascents : int
    success : bool
        Whether both runs went to the end.
    status : str
    """

    level: float
    step: float
    times: Array
    losses: Array
    gradient_norms: Array
    mean_log_shift: Array
    flow_times: Array
    flow_losses: Array
    flow_gradient_norms: Array
    flow_mean_log_shift: Array
    n_descents: int
    n_ascents: int
    success: bool
    status: str


def compute(problem: dln.Problem | None = None, *, level: float | None = None, step: float = 0.02, n_steps: int = 4000,
            alpha: float = 0.3, n_times: int = 200) -> FloodingCourse:
    """Train by flooding and follow the averaged motion.

    Parameters
    ----------
    problem : Problem, optional
        By default a sparse regression that can be interpolated.
    level : float, optional
        Flood level, by default a tenth of the loss at beta = 0.
    step : float
        Step size eta.
    n_steps : int
        Steps of the discrete run, at least 1.
    alpha : float
        Initial scale.
    n_times : int
        Times at which the averaged motion is kept, at least 2.

    Returns
    -------
    FloodingCourse
    """
    if n_steps < 1:
        raise ValueError(f"n_steps must be at least 1, got {n_steps}")
    if n_times < 2:
        raise ValueError(f"n_times must be at least 2, got {n_times}")
    problem = dln.sparse_regression(20, 40, 3, rng=0) if problem is None else problem
    level = 0.1 * problem.loss(np.zeros(problem.n_features)) if level is None else level
    run = dln.descend(problem, dln.Flooding(level), step=step, n_steps=n_steps, alpha=alpha, save_at=range(n_steps + 1))
    rule, times = dln.Flooding(level, step=step), np.linspace(0, step * n_steps, n_times)[1:]
    flow = dln.flow(problem, rule, alpha=alpha, t_end=float(times[-1]), save_at=times)
    gradients = np.array([problem.gradient(beta) for beta in flow.betas]).reshape(flow.betas.shape)
    norms = 2 * np.sqrt(np.sum((np.exp(2 * flow.log_us) + np.exp(2 * flow.log_vs)) * gradients**2, axis=1))
    shift, flow_shift = (np.mean(one.log_us + one.log_vs, axis=1) / 2 - np.log(alpha) for one in (run, flow))
    whole = run.success and len(flow.times) == len(times)
    return FloodingCourse(level, step, run.times, run.losses, run.gradient_norms, shift, flow.times, flow.losses, norms,
                          flow_shift, run.n_descents, run.n_ascents, whole, str(run.status if not run.success else flow.status))


def draw(data: FloodingCourse, ax: Any = None) -> NDArray[Any]:
    """Draw the loss, the norm of the gradient and the effective initialisation against time.

    On the way to the level the averaged motion is plain gradient flow, which leaves ``alpha_eff`` alone, while steps shrink it:
    hence the gap between the two in the last panel, which stays as it is on the level.

    Parameters
    ----------
    data : FloodingCourse
    ax : three matplotlib.axes.Axes, optional
        Where; by default a new figure.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (3,)
    """
    with drawing(ax, (5.2, 6.4), n_rows=3) as axes:
        top, middle, bottom = axes
        _pair(top, data.times, data.losses, data.flow_times, data.flow_losses)
        top.axhline(data.level, color="black", linestyle=":", linewidth=1, label="level")
        top.set_ylabel("loss")
        # The way down to the level is not the point.
        top.set_ylim(0, 3 * data.level)
        _pair(middle, data.times, data.gradient_norms, data.flow_times, data.flow_gradient_norms)
        middle.set_ylabel(r"$\|\nabla L\|$")
        middle.set_ylim(bottom=0)
        _pair(bottom, data.times, data.mean_log_shift, data.flow_times, data.flow_mean_log_shift)
        bottom.set_ylabel(r"mean $\log(\alpha_{\rm eff}/\alpha)$")
        bottom.set_xlabel(r"time $t=\eta k$")
        handles, names = top.get_legend_handles_labels()
        if not data.success:
            names[0] += f" ({data.status})"
        top.legend(handles, names, loc="upper right", frameon=False, fontsize="small", labelspacing=0.25)
    return np.array(axes, dtype=object)


def _pair(axes: Axes, times: Array, values: Array, flow_times: Array, flow_values: Array) -> None:
    axes.plot(times, values, color=COLORS[4], linewidth=0.7, label=r"steps of size $\eta$")
    axes.plot(flow_times, flow_values, color=COLORS[1], linestyle="--", label="averaged motion")
