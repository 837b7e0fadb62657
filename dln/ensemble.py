"""Ensembles: many runs of a random training method, one seed each, in threads, with means and confidence intervals."""

import inspect
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np

from .descend import descend
from .problem import Problem
from .result import Status
from .rules.base import number

__all__ = ["Ensemble", "ensemble"]

_AHEAD = 4  # runs in hand per thread: enough to keep all busy, few enough to need no memory


@dataclass(frozen=True, repr=False, eq=False)
class Ensemble:
    """The ends of R runs that differ in their seed alone.

    Rows of failed runs are NaN; means and intervals leave them out, and `n_failed` counts them.

    Attributes
    ----------
    betas, log_effective_alphas, effective_log_ratios : ndarray (R, d)
    losses, residuals : ndarray (R,)
    success : ndarray of bool (R,)
    statuses, messages : tuple of str (R,)
        Those of each run.
    times : ndarray (K,)
        Times of `save_at`; empty without.  NaN where step sizes vary and no run came that far.
    saved_losses, saved_mean_log_effective_alphas : ndarray (R, K)
        The loss, and the mean over coordinates of ``log sqrt|u v|``, of each run at these times.  A run of `descend` that has
        converged before stays where it is.
    saved_betas, saved_log_effective_alphas : Moments
        Running means and variances over the runs, (K, d), of what would be too much to keep.
    seed, n_runs : int
    """

    betas: np.ndarray
    log_effective_alphas: np.ndarray
    effective_log_ratios: np.ndarray
    losses: np.ndarray
    residuals: np.ndarray
    success: np.ndarray
    statuses: tuple
    messages: tuple
    times: np.ndarray
    saved_losses: np.ndarray
    saved_mean_log_effective_alphas: np.ndarray
    saved_betas: "Moments"
    saved_log_effective_alphas: "Moments"
    seed: int
    n_runs: int

    @property
    def n_failed(self):
        """How many runs failed."""
        return int(self.n_runs - self.success.sum())

    def mean(self, name):
        """Return the mean of an attribute over the runs that succeeded; NaN if none did.

        Parameters
        ----------
        name : str
            Such as "betas", "losses" or "saved_log_effective_alphas".
        """
        return self._moments(name).mean

    def standard_deviation(self, name):
        """Return the standard deviation (with R - 1) over the runs that succeeded; NaN with fewer than two."""
        return np.sqrt(self._moments(name).variance)

    def confidence_interval(self, name, level=0.95):
        """Return (lower, upper) of the mean: Student's interval, for each entry by itself.

        It holds for means that are nearly normal: many runs, or numbers without long tails; take logarithms first.
        """
        level = number("level", level, minimum=0.0, strict=True)
        if level >= 1.0:
            raise ValueError(f"level must be below 1, got {level:g}")
        moments = self._moments(name)
        from scipy import special  # a tenth of the time that importing the package would take with it

        degrees = max(moments.count - 1, 1)
        half = special.stdtrit(degrees, 0.5 * (1.0 + level)) * np.sqrt(moments.variance / max(moments.count, 1))
        return moments.mean - half, moments.mean + half

    def _moments(self, name):
        value = getattr(self, name, None) if isinstance(name, str) else None
        if isinstance(value, Moments):
            return value
        if isinstance(value, np.ndarray) and name not in ("times", "success"):
            moments = Moments(value.shape[1:])
            for row in value[self.success]:
                moments.add(row)
            return moments
        known = [f.name for f in fields(self) if f.name not in ("times", "success")
                 and isinstance(getattr(self, f.name), (np.ndarray, Moments))]
        raise ValueError(f"name must be one of {', '.join(known)}, got {name!r}")

    def __repr__(self):
        counts = ", ".join(f"{count} {status}" for status, count in Counter(self.statuses).most_common())
        return f"Ensemble({self.n_runs} runs: {counts}; seed={self.seed})"


class Moments:
    """Running mean and variance of arrays, without keeping them (Welford 1962).

    Attributes
    ----------
    count : int
    mean, variance : ndarray
        NaN before the first array, and before the second.
    """

    def __init__(self, shape):
        self.count = 0
        self._mean, self._sum = np.zeros(shape), np.zeros(shape)

    def add(self, value):
        """Take one array in."""
        self.count += 1
        change = value - self._mean
        self._mean += change / self.count
        self._sum += change * (value - self._mean)

    @property
    def mean(self):
        """Mean so far."""
        return self._mean.copy() if self.count else np.full_like(self._mean, np.nan)

    @property
    def variance(self):
        """Variance so far, with ``count - 1``."""
        return self._sum / (self.count - 1) if self.count > 1 else np.full_like(self._sum, np.nan)


def ensemble(function, problem, rule=None, *, n_runs, seed=0, threads=None, **options):
    """Run a random training method many times.

    Parameters
    ----------
    function : callable
        `descend`, `stochastic_flow`, or another that takes ``(problem, rule, *, rng, ...)``.
    problem : Problem
        The data.
    rule : Rule, optional
        See `function`.
    n_runs : int
        How many runs, R.
    seed : int
        Run k gets child k of ``numpy.random.SeedSequence(seed)``: ``SeedSequence(seed).spawn(R)[k]``, whatever R is.
    threads : int, optional
        How many; by default one per core.  The bits do not depend on it.
    **options
        Further arguments of `function`; `rng` is not one of them.

    Returns
    -------
    Ensemble
        Memory grows with R and with the number of saved times, not with the number of steps.

    Raises
    ------
    ValueError, TypeError
        If an argument is bad, here or in `function`: one line that names it.

    Examples
    --------
    >>> import dln
    >>> problem = dln.sparse_regression(20, 50, 3, rng=0)
    >>> runs = dln.ensemble(dln.descend, problem, n_runs=8, step=0.05, n_steps=2000, alpha=0.1, batch_size=1)
    >>> runs.n_failed, runs.betas.shape
    (0, (8, 50))
    """
    if not callable(function) or not _takes_rng(function):
        raise TypeError(f"function must be dln.descend, dln.stochastic_flow or another that takes rng=, got {function!r}")
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be a dln.Problem, got {type(problem).__name__}; build one with dln.Problem(X, y)")
    n_runs = _count("n_runs", n_runs)
    threads = _count("threads", os.cpu_count() or 1 if threads is None else threads)
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed must be an integer, at least 0, got {seed!r}")
    if "rng" in options:
        raise ValueError("rng is made from seed, one for each run; give seed instead")
    saved = options.get("save_at")
    table = _Table(n_runs, problem.n_features, 0 if saved is None else np.size(saved))

    def run(child):
        return function(problem, rule, rng=child, **options)

    step = options.get("step")
    if function is descend and table.n_times and isinstance(step, (int, float)):
        table.times[:] = step * np.asarray(saved, dtype=float)  # also where every run converges before

    children = np.random.SeedSequence(int(seed)).spawn(n_runs)
    # The first run alone: bad arguments are found, and kernels compiled, once.
    table.enter(0, run(children[0]))
    if threads == 1:
        for k in range(1, n_runs):
            table.enter(k, run(children[k]))
    else:
        with ThreadPoolExecutor(min(threads, n_runs)) as pool:
            # Taken in the order of the seeds, so that running sums do not depend on which thread is first.
            waiting = [pool.submit(run, child) for child in children[1:1 + _AHEAD * threads]]
            try:
                for k in range(1, n_runs):
                    result = waiting.pop(0).result()
                    if (ahead := k + _AHEAD * threads) < n_runs:
                        waiting.append(pool.submit(run, children[ahead]))
                    table.enter(k, result)
            finally:
                for future in waiting:
                    future.cancel()
    return table.ensemble(int(seed))


def _takes_rng(function):
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(p.name == "rng" or p.kind == p.VAR_KEYWORD for p in parameters)


def _count(name, value):
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return int(value)


class _Table:
    """The rows of an ensemble, as they come in."""

    def __init__(self, n_runs, d, n_times):
        self.n_runs, self.n_times = n_runs, n_times
        self.vectors = {name: np.full((n_runs, d), np.nan) for name in ("beta", "log_effective_alpha", "effective_log_ratio")}
        self.numbers = {name: np.full(n_runs, np.nan) for name in ("loss", "residual")}
        self.success = np.zeros(n_runs, dtype=bool)
        self.statuses, self.messages = [Status.DIVERGED] * n_runs, [""] * n_runs
        self.times = np.full(n_times, np.nan)
        self.saved_losses, self.saved_scales = np.full((2, n_runs, n_times), np.nan)
        self.saved_betas, self.saved_alphas = Moments((n_times, d)), Moments((n_times, d))

    def enter(self, k, run):
        """Take in run k."""
        self.statuses[k], self.messages[k], self.success[k] = run.status, run.message, run.success
        if not run.success:
            return
        for columns in (self.vectors, self.numbers):
            for name, rows in columns.items():
                rows[k] = getattr(run, name)
        if not self.n_times:
            return
        betas, losses = run.betas, run.losses
        alphas = 0.5 * (run.log_us + run.log_vs)
        if (missing := self.n_times - len(run.times)) > 0:
            betas = np.concatenate([betas, np.repeat(run.beta[None], missing, axis=0)])
            losses = np.concatenate([losses, np.full(missing, run.loss)])
            alphas = np.concatenate([alphas, np.repeat(run.log_effective_alpha[None], missing, axis=0)])
        known = np.isnan(self.times[:len(run.times)])
        self.times[:len(run.times)][known] = run.times[known]
        self.saved_losses[k], self.saved_scales[k] = losses, alphas.mean(axis=1)
        self.saved_betas.add(betas)
        self.saved_alphas.add(alphas)

    def ensemble(self, seed):
        """Return what has come in."""
        return Ensemble(
            betas=self.vectors["beta"], log_effective_alphas=self.vectors["log_effective_alpha"],
            effective_log_ratios=self.vectors["effective_log_ratio"], losses=self.numbers["loss"],
            residuals=self.numbers["residual"], success=self.success, statuses=tuple(self.statuses),
            messages=tuple(self.messages), times=self.times, saved_losses=self.saved_losses,
            saved_mean_log_effective_alphas=self.saved_scales, saved_betas=self.saved_betas,
            saved_log_effective_alphas=self.saved_alphas, seed=seed, n_runs=self.n_runs)
