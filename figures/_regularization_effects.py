"""What a regularized run does to the scale and what it does to the solution, next to gradient flow on the same data.

A rule lets ``log alpha_eff,j`` fall by ``4 gamma int g_j g_e,j``.  `Response` says what that does to the l1 norm: it adds
``sum_j h_j d ell_j``, where the weights h are negative on the largest coefficients, positive on the others, and orthogonal to
the fair shares.  So one number decides, `overcharge`: the fall on the negative weights over that on the positive ones.  Above 1
the large coefficients have lost more than their fair share, and the l1 norm grows although every scale falls.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dln
from figures._scale_response import Response

__all__ = ["ACCURACY", "Baseline", "Effects", "mapped", "overcharge", "planted", "signed_rule"]

Array = NDArray[np.float64]

#: Of all runs; changes of 1e-6 are told apart.
ACCURACY = {"rtol": 1e-6, "residual_tol": 1e-8}

#: Times at which gradient flow is kept for its integrals, evenly spaced on a log scale over so many decades.
N_TIMES, N_DECADES = 500, 6


@dataclass(frozen=True, eq=False)
class Effects:
    """Effects of regularized runs; arrays of one shape, whose last axis counts seeds; NaN where a run does not fit the data.

    Runs do not fit where the rule makes 0 attractive, ``2 gamma max|g(0)| > 1``: near 0 a weight grows at the rate
    ``2 |g| (1 - 2 gamma |g|)``.

    Attributes
    ----------
    mean_shift, spread : ndarray
        Mean over the coordinates of ``log(alpha_eff/alpha)``, and its standard deviation.
    l1, distance : ndarray
        Change of the l1 norm, and of the distance to the planted vector, relative to gradient flow.
    even_l1, even_distance : ndarray
        The same for the minimiser whose scale is, for all coordinates, the geometric mean of alpha_eff.
    first_l1, first_distance : ndarray
        The changes to first order in the shift that the run came to.
    foreseen_l1, foreseen_distance : ndarray
        The changes to first order in gamma: from gradient flow alone, without a regularized run.
    overcharge, foreseen_overcharge : ndarray
        Of the large coefficients, in the fall that the run came to, and in that of the integrals along gradient flow.
    """

    mean_shift: Array
    spread: Array
    l1: Array
    distance: Array
    even_l1: Array
    even_distance: Array
    first_l1: Array
    first_distance: Array
    foreseen_l1: Array
    foreseen_distance: Array
    overcharge: Array
    foreseen_overcharge: Array

    @classmethod
    def stacked(cls, rows: Any, shape: Sequence[int]) -> Effects:
        """Make one of rows of numbers, one row per run, in the order of `shape`."""
        width = len(fields(cls))
        return cls(*np.moveaxis(np.asarray(rows, dtype=float).reshape(*shape, width), -1, 0))

    @property
    def n_failed(self) -> int:
        """How many runs do not fit the data."""
        return int(np.sum(np.isnan(self.l1)))

    def quantiles(self, name: str, levels: Sequence[float] = (0.1, 0.5, 0.9)) -> Array:
        """Quantiles over the seeds that fit, the levels first; NaN where all failed."""
        values = getattr(self, name)
        result = np.full((len(levels), *values.shape[:-1]), np.nan)
        for place in np.ndindex(values.shape[:-1]):
            kept = values[place][np.isfinite(values[place])]
            if kept.size:
                result[(slice(None), *place)] = np.quantile(kept, levels)
        return result

    def lowered(self, name: str) -> Array:
        """Share of the seeds that fit in which the change `name` is negative; NaN where all failed."""
        values = getattr(self, name)
        known = np.isfinite(values).sum(axis=-1)
        return np.where(known > 0, (values < 0).sum(axis=-1) / np.maximum(known, 1), np.nan)

    def agreement(self, name: str, predictor: str) -> float:
        """Share of the runs in which two changes have the same sign."""
        one, two = getattr(self, name), getattr(self, predictor)
        known = np.isfinite(one) & np.isfinite(two)
        return float(np.mean(np.sign(one[known]) == np.sign(two[known]))) if known.any() else math.nan


class Baseline:
    """Gradient flow on a problem: its limit, how that answers to shifts, and its integrals.

    Parameters
    ----------
    problem : Problem
        With a truth.
    alpha : float
    """

    def __init__(self, problem: dln.Problem, alpha: float) -> None:
        if problem.truth is None:
            raise ValueError("effects are measured against a planted vector: give dln.Problem(X, y, truth=...)")
        self.problem, self.alpha, self.truth = problem, alpha, problem.truth
        limit = dln.minimize_potential(problem, alpha=alpha)
        if not limit.success:
            raise ValueError(f"no minimiser at alpha = {alpha:g}: {limit.message}")
        self.beta = limit.beta
        self.response = Response(problem, self.beta, np.full(problem.n_features, math.log(alpha)))
        self.l1_norm, self.distance = self._sizes(self.beta)
        if self.l1_norm == 0 or self.distance == 0:
            raise ValueError("the limit of gradient flow is 0, or the planted vector itself: there is nothing to compare with")
        #: Weights of the relative change of the l1 norm, and of the distance.
        self.l1_weights = self.response.weights(np.sign(self.beta)) / self.l1_norm
        self.distance_weights = self.response.weights((self.beta - self.truth) / self.distance**2)

    def _sizes(self, beta: Array) -> tuple[float, float]:
        return float(np.sum(np.abs(beta))), float(np.linalg.norm(beta - self.truth))

    def changes(self, beta: Array) -> tuple[float, float]:
        """Relative changes of the l1 norm and of the distance."""
        l1_norm, distance = self._sizes(beta)
        return l1_norm / self.l1_norm - 1, distance / self.distance - 1

    @cached_property
    def _path(self) -> tuple[Array, Array, Array]:
        """Times, predictors and gradients along gradient flow, (K,), (K, d), (K, d)."""
        end = dln.flow(self.problem, alpha=self.alpha, **ACCURACY)
        if end.status != dln.Status.CONVERGED:
            raise ValueError(f"gradient flow at alpha = {self.alpha:g}: {end.message}")
        times = np.concatenate([[0.0], end.t * np.geomspace(10.0**-N_DECADES, 1.0, N_TIMES)])
        run = dln.flow(self.problem, alpha=self.alpha, rtol=ACCURACY["rtol"], t_end=float(times[-1]), save_at=times)
        return times, run.betas, self._gradients(run.betas)

    def _gradients(self, betas: Array) -> Array:
        return (betas @ self.problem.X.T - self.problem.y) @ self.problem.X / (2 * self.problem.n_samples)

    def integral(self, step: float) -> Array:
        """Integrate ``g g_e`` along gradient flow for the ascent step `step`, of either sign; by the trapezoidal rule."""
        times, betas, g = self._path
        move = step * g
        # (u (1 + 2 e g))^2 - (v (1 - 2 e g))^2, with u^2 + v^2 from beta and u v = alpha^2.
        moved = betas * (1 + 4 * move**2) + 4 * move * np.hypot(betas, 2 * self.alpha**2)
        return np.asarray(np.trapezoid(g * (self._gradients(moved) if step else g), times, axis=0))

    def foreseen_shift(self, rule: dln.Rule) -> Array:
        """Shift of ``log alpha_eff`` by `rule` to first order in its strength: its integrals along gradient flow."""
        strength, steps = _ascents(rule)
        return -4 * strength * np.mean([self.integral(step) for step in steps], axis=0)

    def effects(self, rule: dln.Rule) -> list[float]:
        """Train with `rule`; give the fields of `Effects` in order."""
        foreseen = self.foreseen_shift(rule)
        run = dln.flow(self.problem, rule, alpha=self.alpha, **ACCURACY)
        # A stationary run is no failure of `dln.flow`, but a network that has collapsed to 0 has the least norm of all.
        if run.status != dln.Status.CONVERGED:
            return [math.nan] * len(fields(Effects))
        shift = run.log_effective_alpha - math.log(self.alpha)
        mean = float(np.mean(shift))
        even = dln.minimize_potential(self.problem, log_alpha=math.log(self.alpha) + mean)
        even_changes = self.changes(even.beta) if even.success else (math.nan, math.nan)
        return [mean, float(np.std(shift)), *self.changes(run.beta), *even_changes,
                float(self.l1_weights @ shift), float(self.distance_weights @ shift),
                float(self.l1_weights @ foreseen), float(self.distance_weights @ foreseen),
                overcharge(self.l1_weights, shift), overcharge(self.l1_weights, foreseen)]


def overcharge(weights: Array, shift: Array) -> float:
    """Give how much more than their fair share the coordinates of negative weight have fallen.

    ``-sum_(h<0) h_j f_j / sum_(h>0) h_j f_j`` for the fall f: 1 if the fall is in fair shares, less if the quantity that the
    weights belong to is lowered.  NaN where the others, weighted, did not fall.
    """
    large = weights < 0
    others = -float(weights[~large] @ shift[~large])
    return float(weights[large] @ shift[large]) / others if others > 0 else math.nan


def _ascents(rule: dln.Rule) -> tuple[float, tuple[float, ...]]:
    """Return the strength of a rule, and the ascent steps whose mean of ``g g_e`` it integrates."""
    if isinstance(rule, dln.SAM) and not rule.normalized and not rule.per_sample:
        return rule.rho, (rule.rho,)
    if isinstance(rule, dln.GradientRegularization) and rule.squared:
        step = 0.0 if rule.epsilon is None else rule.epsilon
        return rule.gamma, {"forward": (step,), "backward": (-step,), "centered": (step, -step), "exact": (0.0,)}[rule.scheme]
    raise ValueError(f"rule must be a squared GradientRegularization or a full-batch SAM, got {rule!r}")


def signed_rule(gamma: float, step: float) -> dln.GradientRegularization:
    """Gradient regularization by the ascent step: forward above 0, backward below, the exact Hessian at 0."""
    if step == 0:
        return dln.GradientRegularization(gamma, scheme="exact")
    return dln.GradientRegularization(gamma, abs(step), "forward" if step > 0 else "backward")


def planted(n_samples: int, n_features: int, signs: Sequence[float], column_mean: float, seed: int) -> dln.Problem:
    """Draw a sparse regression as `dln.sparse_regression` does, but with given signs of the planted coefficients."""
    drawn = dln.sparse_regression(n_samples, n_features, len(signs), column_mean=column_mean, rng=seed)
    assert drawn.truth is not None
    truth = np.zeros(n_features)
    truth[np.flatnonzero(drawn.truth)] = np.asarray(signs, dtype=float) / math.sqrt(len(signs))
    return dln.Problem(drawn.X, drawn.X @ truth, truth=truth)


def mapped(function: Callable[[Any], Any], jobs: Sequence[Any], workers: int | None, progress: Callable[..., Any] | None,
           desc: str) -> list[Any]:
    """Run the jobs in threads (the kernels release the GIL), in order; the first alone, which compiles the kernels."""
    if not jobs:
        return []
    first = function(jobs[0])
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1)
    try:
        rest = pool.map(function, jobs[1:])
        return [first, *(rest if progress is None else progress(rest, total=len(jobs), initial=1, desc=desc))]
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C only the runs at work are waited for
