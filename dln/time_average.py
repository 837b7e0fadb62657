"""Time averages of a flow: `time_average`, the means that follow the Lasso path as the initial scale tends to 0."""

import math
from dataclasses import dataclass

import numpy as np

from .flow import flow
from .network import initialize
from .problem import Problem
from .result import Status
from .rules import GradientFlow, Rule, WeightDecay
from .rules.base import number

__all__ = ["TimeAverage", "time_average"]

_EPS = float(np.finfo(float).eps)
_CELLS = 16  # of a panel: 17 nodes, every other of which makes the rule of lower order
_FIRST_PANELS = 24  # before any is split, but at least one between neighbouring times
_PIECES_OF_JUMP, _PIECES = 8, 2  # a jump has to be found; an error of high order falls at once
_JUMP = 1e-3  # relative difference of the two rules
_MAX_RUNS, _MAX_NUMBERS = 20, 40_000_000


@dataclass(frozen=True, repr=False, eq=False)
class TimeAverage:
    """Means of the predictor over time, with their certificate.

    Attributes
    ----------
    times : ndarray (K,)
        The ends t of the intervals.
    means : ndarray (K, d)
        ``(1/t) int_0^t beta(s) ds``; NaN at times that the run did not reach.
    betas : ndarray (K, d)
        ``beta(t)``.
    penalties : ndarray (K,)
        ``log(1/alpha)/(2t)``, the penalty of the Lasso solution that the mean is near to as alpha tends to 0; shape (K, d), one
        per coordinate, if alpha is not one number.  In units of data in which the predictor is of size 1.
    identity_error : ndarray (K,)
        How far the means miss the law ``grad L(mean) = (log(u/v) at the start - log(u/v) at t)/(4t)``: the largest error of a
        coordinate that it shows, relative to the size of predictors, that is ``|x_j.y|/|x_j|^2`` at its largest.  NaN for rules
        that have no such law.
    error_estimate : float
        Estimated relative error of the means, the largest over the times: of quadrature, of the flow, and by the law; at
        least the tolerance asked for.
    success : bool
        The flow did what was asked, and the quadrature met the tolerance.
    status, message : Status, str
        A word, and a line.
    n_runs, n_panels : int
        Runs of the flow, and panels of quadrature in the last.
    problem : Problem
        The data.
    """

    times: np.ndarray
    means: np.ndarray
    betas: np.ndarray
    penalties: np.ndarray
    identity_error: np.ndarray
    error_estimate: float
    success: bool
    status: Status
    message: str
    n_runs: int
    n_panels: int
    problem: Problem

    def __repr__(self):
        return (f"TimeAverage({self.status}: {len(self.times)} times to t={self.times[-1]:.6g}, "
                f"error_estimate={self.error_estimate:.1e}, identity_error={np.max(self.identity_error):.1e}, "
                f"runs={self.n_runs})")

    @property
    def effective_penalties(self):
        """The penalty each mean itself asks for, ``max_j |grad L(mean)|_j``, shape (K,): it needs no units of alpha."""
        return np.abs(self._slopes()).max(axis=1)

    @property
    def lasso_gaps(self):
        """Duality gap of each mean as a Lasso solution with its effective penalty, shape (K,).

        With F the objective ``L(b) + lam |b|_1``, ``F(mean) - min F`` is at most
        ``lam |mean|_1 + mean.grad L(mean)``, which is 0 only for a solution.
        """
        slopes = self._slopes()
        return np.sum(np.abs(slopes).max(axis=1, keepdims=True) * np.abs(self.means) + self.means * slopes, axis=1)

    def _slopes(self):
        return np.array([self.problem.gradient(mean) for mean in self.means])


def time_average(problem, times, *, alpha=None, log_alpha=None, log_ratio=None, initial_weights=None, rule=None, rtol=1e-8):
    """Average the predictor of a flow over time, ``(1/t) int_0^t beta(s) ds``, at depth 2.

    Parameters
    ----------
    problem : Problem
        The data.
    times : float or array_like (K,)
        The ends t of the intervals: positive, increasing.
    alpha, log_alpha, log_ratio, initial_weights
        The initialisation: see `dln.flow`.
    rule : Rule, optional
        The training rule, by default `GradientFlow`.
    rtol : float
        Relative tolerance of the means, and of the flow.

    Returns
    -------
    TimeAverage
        Numerical failure does not raise: look at `success`, `status` and `message`.

    Raises
    ------
    ValueError, TypeError
        If an argument is bad: one line that names it.

    Notes
    -----
    Quadrature by Clenshaw and Curtis on panels.  The flow stops exactly at the nodes; panels whose rules of two orders disagree
    are split, and the flow is run again.  For gradient flow and weight decay ``int grad L(beta)`` is known from the weights
    without quadrature, and a panel that contradicts it is split, too: no jump slips through between the nodes.

    References
    ----------
    Berthier (2025), Diagonal linear networks and the Lasso regularization path.

    Examples
    --------
    >>> import dln
    >>> problem = dln.sparse_regression(20, 50, 3, rng=0)
    >>> average = dln.time_average(problem, [20.0, 200.0], alpha=1e-3)
    >>> str(average.status), average.means.shape
    ('reached t_end', (2, 50))
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be a dln.Problem, got {type(problem).__name__}; build one with dln.Problem(X, y)")
    rule = GradientFlow() if rule is None else rule
    if not isinstance(rule, Rule):
        raise TypeError(f"rule must be a training rule such as dln.GradientFlow(), got {rule!r}")
    rtol = max(number("rtol", rtol, minimum=0.0, strict=True), 1e-14)
    times = _checked(times)
    start = initialize(problem.n_features, alpha=alpha, log_alpha=log_alpha, log_ratio=log_ratio,
                       initial_weights=initial_weights)
    quadrature = _Quadrature(problem, rule, start, times, rtol)
    quadrature.refine()
    return quadrature.result()


def _checked(times):
    try:
        checked = np.array(times, dtype=float)
    except (TypeError, ValueError) as error:
        raise TypeError(f"times must be a number or a vector of numbers, got {times!r}") from error
    checked = np.atleast_1d(checked)
    if checked.ndim != 1 or checked.size == 0:
        raise ValueError(f"times must be a vector of at least one time, got shape {checked.shape}")
    for k, t in enumerate(checked):
        if not (math.isfinite(t) and t > 0.0):
            raise ValueError(f"times[{k}] must be positive and finite, got {t}")
        if k and t <= checked[k - 1]:
            raise ValueError(f"times must increase, but times[{k}] = {t:g} follows {checked[k - 1]:g}")
    return checked


# --- quadrature -------------------------------------------------------------------------------------------------------


def _clenshaw_curtis(n):
    """Return the weights of n + 1 Chebyshev points on [0, 1], n even: the integral of the interpolating polynomial."""
    k, j = np.arange(n + 1), np.arange(1, n // 2 + 1)
    terms = np.where(2 * j == n, 1.0, 2.0) / (4.0 * j**2 - 1.0)
    weights = (1.0 - np.cos(2.0 * np.pi / n * np.outer(k, j)) @ terms) / n
    weights[[0, -1]] *= 0.5
    return weights


_NODES = 0.5 - 0.5 * np.cos(np.pi / _CELLS * np.arange(_CELLS + 1))
_WEIGHTS = _clenshaw_curtis(_CELLS)
_DIFFERENCE = _WEIGHTS.copy()  # less the rule of every other node
_DIFFERENCE[::2] -= _clenshaw_curtis(_CELLS // 2)


class _Quadrature:
    """Runs of the flow on finer and finer panels, and the means that the last one gives."""

    def __init__(self, problem, rule, start, times, rtol):
        self.problem, self.rule, self.start, self.asked, self.rtol = problem, rule, start, times, rtol
        # Rules with p = g: only there does the integral of p speak of the mean.
        self.lawful = isinstance(rule, (GradientFlow, WeightDecay))
        self.times = times  # those that a run has reached
        self.failure = None
        self.n_runs = 0
        self.edges = np.empty(0)
        squares = np.einsum("ij,ij->j", problem.X, problem.X)
        self.unit = problem.row_space.coordinate_scale
        self.seen = (squares > 0.0) & (self.unit > 0.0)
        #: What turns a slope into the coordinate, in units of the data, that would change it so.
        self.per_slope = np.zeros(squares.size)
        self.per_slope[self.seen] = 1.0 / squares[self.seen] / (self.unit or 1.0)

    def refine(self):
        """Split panels that are not good enough and run again, until all are or there are too many."""
        edges, pieces = self._first()
        while self.n_runs < _MAX_RUNS and np.sum(pieces) * (_CELLS + 1) * self.problem.n_features <= _MAX_NUMBERS:
            edges = _divide(edges, pieces)
            if not self._run(edges):
                if self.times.size == 0:
                    return
                edges, pieces = self._first()
                continue
            bad = self._bad()
            if not bad.any():
                return
            pieces = np.where(bad, np.where(self.differences > _JUMP * self.sizes, _PIECES_OF_JUMP, _PIECES), 1)

    def _first(self):
        return np.concatenate([[0.0], self.times]), np.full(self.times.size, -(-_FIRST_PANELS // self.times.size))

    def _run(self, edges):
        """Run the flow through all nodes of the panels; False if it stopped before, with fewer times left to try."""
        nodes = edges[:-1, None] + np.diff(edges)[:, None] * _NODES
        nodes[:, -1] = edges[1:]
        stops = np.unique(nodes)
        run = flow(self.problem, self.rule, log_alpha=self.start.log_alpha, log_ratio=self.start.log_ratio, save_at=stops,
                   t_end=edges[-1], rtol=self.rtol, max_steps=100_000 + 4 * stops.size)
        self.n_runs += 1
        if len(run.times) < stops.size:
            self.failure = run
            reached = run.times[-1] if len(run.times) else 0.0
            self.times = self.times[self.times <= reached]
            return False
        self.run, self.edges, self.lengths = run, edges, np.diff(edges)
        self.ends = np.searchsorted(edges, self.times)  # panels up to each time
        betas = run.betas[np.searchsorted(stops, nodes)]
        self.at_edges = np.searchsorted(stops, edges)
        self.panel_means = np.einsum("i,pid->pd", _WEIGHTS, betas)
        self.differences = np.abs(np.einsum("i,pid->pd", _DIFFERENCE, betas)).max(axis=1)
        magnitudes = np.abs(betas)
        self.sizes = magnitudes.max(axis=(1, 2))
        with np.errstate(under="ignore"):
            self.magnitude = self._average(np.einsum("i,pid->pd", _WEIGHTS, magnitudes)).max(axis=1)
            relative = self.differences / np.where(self.sizes > 0.0, self.sizes, 1.0)
            # That is the error of the lower order; that of the higher is nearly its square, once it is small: with some safety.
            self.errors = self.differences * np.sqrt(np.minimum(1.0, 1e4 * relative))
        self.means = self._average(self.panel_means)
        return True

    def _average(self, panels):
        """Return the means up to each time of what has one mean per panel."""
        return np.array([np.tensordot(self.lengths[:end] / t, panels[:end], axes=1)
                         for end, t in zip(self.ends, self.times, strict=True)])

    def _bad(self):
        """Say which panels have more than their share of an error that is too large at some time."""
        bad = np.zeros(self.lengths.size, dtype=bool)
        self.quadrature_error = self._average(self.errors)
        kinds = [(self.quadrature_error, self.errors, self.rtol * self.magnitude)]
        if self.lawful:
            misses = np.abs(self._misses(np.diff(self._ratios(), axis=0), self.panel_means, self.lengths)).max(axis=1)
            self.allowed = 10.0 * self.rtol + self._rounding()
            kinds.append((self._average(misses), misses, self.allowed))
        for totals, errors, limits in kinds:
            for end, t, total, limit in zip(self.ends, self.times, totals, limits, strict=True):
                if total > limit:
                    bad[:end] |= self.lengths[:end] / t * errors[:end] > 0.5 * limit / end
        return bad

    def _ratios(self):
        return (self.run.log_us - self.run.log_vs)[self.at_edges]

    def _misses(self, growth, means, lengths):
        """Return how far means over intervals are from what the growth of log(u/v) says, in units of the data, (M, d)."""
        slopes = np.array([(self.problem.X @ mean - self.problem.y) @ self.problem.X for mean in means])
        return (slopes + 0.5 * self.problem.n_samples * growth / lengths[:, None]) * self.per_slope

    def _rounding(self):
        """Return what rounding of log u and log v can do to `_misses` from 0 to each time, (K,)."""
        reach = np.maximum(np.abs(self.run.log_us), np.abs(self.run.log_vs)).max(axis=0)
        return 8.0 * _EPS * np.max(0.5 * self.problem.n_samples * self.per_slope * reach / self.times[:, None], axis=1)

    # --- the result ---------------------------------------------------------------------------------------------------

    def result(self):
        """Return the result of the last run; NaN at times that no run has reached."""
        n_times, d = self.asked.size, self.problem.n_features
        means, betas, identity = np.full((n_times, d), np.nan), np.full((n_times, d), np.nan), np.full(n_times, np.nan)
        k = self.times.size
        error, good, status, message = math.inf, False, Status.INACCURATE, ""
        if k:
            means[:k], betas[:k] = self.means, self.run.betas[self.at_edges[self.ends]]
            relative = self.quadrature_error / np.where(self.magnitude > 0.0, self.magnitude, 1.0)
            # The run's estimate is that of its end, which has forgotten earlier jumps: claim no more than was asked for.
            error, good = max(float(relative.max()), self.run.error_estimate, self.rtol), self.run.success
            good &= bool((relative <= self.rtol).all())
            status = self.run.status
            message = f"{self.edges.size - 1} panels in {self.n_runs} runs; the last: {self.run.message}"
            if self.lawful:
                ratios = self._ratios()
                identity[:k] = np.abs(self._misses(ratios[self.ends] - ratios[0], self.means, self.times)).max(axis=1)
                good &= bool((identity[:k] <= 1e2 * self.allowed).all())
                error = max(error, float(np.max(identity[:k] - self._rounding())))
            if not good and self.run.success:
                status = Status.INACCURATE
                message = f"relative error of quadrature {relative.max():.1e}, asked for {self.rtol:.1e}; {message}"
        if self.failure is not None:
            good, status = False, self.failure.status
            message = f"{n_times - k} of {n_times} times not reached: {self.failure.message}"
        return TimeAverage(
            times=self.asked, means=means, betas=betas, penalties=self._penalties(), identity_error=identity,
            error_estimate=error, success=good, status=status, message=message, n_runs=self.n_runs,
            n_panels=max(self.edges.size - 1, 0), problem=self.problem)

    def _penalties(self):
        log_alpha = self.start.log_alpha
        if log_alpha.min() == log_alpha.max():
            return 0.0 - log_alpha[0] / (2.0 * self.asked)
        return 0.0 - log_alpha / (2.0 * self.asked[:, None])


def _divide(edges, pieces):
    parts = [np.linspace(a, b, n + 1)[:-1] for a, b, n in zip(edges[:-1], edges[1:], pieces, strict=True)]
    return np.append(np.concatenate(parts), edges[-1])
