"""The side under test: the library's engine, and a stand-in that a mutant can make wrong.

No other file of a check takes numbers from the library. (An empirical study, which is a study of the library's own runs,
takes its data from it, too.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from ._network import Array
from ._raw_route import RouteError
from ._setting import Data

__all__ = ["Engine", "EngineRun", "Pair", "library", "stand_in"]

RTOL = 1e-12


@dataclass(frozen=True)
class EngineRun:
    """What the engine claims at the times asked for: arrays of shape (K, d)."""

    betas: Array
    log_scales: Array


Engine = Callable[[Data, Array, Array, Array], EngineRun]
Pair = Callable[[float, Array, Array], tuple[Array, Array]]


def library(make_rule: Callable[[Any], Any], depth: float = 2) -> Engine:
    """Make an engine of the library's `flow` with a rule, at tolerance 1e-12.

    Parameters
    ----------
    make_rule : callable
        Given the library, returns its rule.
    depth : float
        D of the network.
    """

    def run(data: Data, alpha: Array, log_ratio: Array, times: Array) -> EngineRun:
        import dln

        result = dln.flow(dln.Problem(data.X, data.y), make_rule(dln), depth=depth, alpha=alpha, log_ratio=log_ratio,
                          t_end=float(times[-1]), save_at=times, rtol=RTOL)
        if len(result.times) != len(times) or not np.all(np.isfinite(result.betas)):
            raise RouteError(f"the engine stopped at t = {result.t:.6g}: {result.message}")
        return EngineRun(result.betas, log_scale_of(result.log_us, result.log_vs, depth))

    return run


def log_scale_of(log_u: Array, log_v: Array, depth: float) -> Array:
    """Give the logarithm of the effective initialisation: `sqrt(u v)`, or from the mean of `u^(2-D)` and `v^(2-D)`."""
    if depth == 2:
        return (log_u + log_v) / 2
    return (np.logaddexp((2 - depth) * log_u, (2 - depth) * log_v) - np.log(2)) / (2 - depth)


def library_limit(make_rule: Callable[[Any], Any], data: Data, alpha: Array, log_ratio: Array) -> Array:
    """Run the library's `flow` until it converges and return beta."""
    import dln

    result = dln.flow(dln.Problem(data.X, data.y), make_rule(dln), alpha=alpha, log_ratio=log_ratio, rtol=RTOL,
                      residual_tol=1e-12)
    if not result.success:
        raise RouteError(f"the engine did not converge: {result.message}")
    return np.asarray(result.beta)


def library_end(make_rule: Callable[[Any], Any], X: Array, y: Array, alpha: float) -> tuple[Array, Array] | None:
    """Run the library's `flow` until it converges; give beta and log alpha_eff, or None if it does not."""
    import dln

    result = dln.flow(dln.Problem(X, y), make_rule(dln), alpha=alpha, rtol=1e-8, residual_tol=1e-9)
    return (np.asarray(result.beta), np.asarray(result.log_effective_alpha)) if result.success else None


def library_minimisers(data: Data, log_alphas: Array, depth: float) -> Array:
    """Take the library's minimiser of the potential at several scales, (K, d)."""
    import dln

    problem = dln.Problem(data.X, data.y)
    return np.array([_demand(dln.minimize_potential(problem, depth=depth, log_alpha=log_alpha)) for log_alpha in log_alphas])


def library_limits(data: Data, log_alphas: Array, depth: float) -> Array:
    """Take the limits of the library's gradient flow at several scales, (K, d)."""
    import dln

    problem = dln.Problem(data.X, data.y)
    return np.array([_demand(dln.flow(problem, dln.GradientFlow(), depth=depth, log_alpha=log_alpha, rtol=RTOL,
                                      residual_tol=1e-12)) for log_alpha in log_alphas])


def library_interpolators(data: Data, weights: Array, power: int) -> tuple[Array, Array]:
    """Take the library's minimiser of a weighted l1 (`power` 1) or l2 norm (2), and its dual."""
    import dln

    solve = {1: dln.basis_pursuit, 2: dln.minimum_norm}[power]
    found = solve(dln.Problem(data.X, data.y), weights)
    return _demand(found), np.asarray(found.dual)


def _demand(found: Any) -> Array:
    if not found.success:
        raise RouteError(f"the library did not come to an end: {found.message}")
    return np.asarray(found.beta)


def stand_in(pair: Pair) -> Engine:
    """Make an engine of any pair (p, q), right or wrong, with SciPy in log coordinates.

    With the right pair it passes every check, with a wrong one it must fail: that is what it is for.
    """

    def run(data: Data, alpha: Array, log_ratio: Array, times: Array) -> EngineRun:
        size = alpha.size

        def field(t: float, state: Array) -> Array:
            p, q = pair(t, np.exp(state[:size]), np.exp(state[size:]))
            return np.concatenate([-2 * (p + q), 2 * (p - q)])

        start = np.concatenate([np.log(alpha) + log_ratio / 2, np.log(alpha) - log_ratio / 2])
        end = float(times[-1])
        result = solve_ivp(field, (0.0, end), start, method="DOP853", t_eval=times, rtol=1e-12, atol=1e-13)
        if not result.success:
            raise RouteError(f"the stand-in engine stopped at t = {result.t[-1]:.6g}: {result.message}")
        log_u, log_v = result.y[:size].T, result.y[size:].T
        return EngineRun(2 * np.exp(log_u + log_v) * np.sinh(log_u - log_v), (log_u + log_v) / 2)

    return run
