"""Discrete steps: `descend` trains by gradient descent of any rule, and keeps the exact effective initialisation."""

import math

import numpy as np

from ._jit import address, entry_point
from ._suggest import unknown
from .integrate import descent as de
from .integrate.batches import SAMPLINGS, Batches
from .network import exponential_difference, initialize
from .problem import Problem
from .result import DescentResult, Status
from .rules import Flooding, GradientFlow, Rule
from .rules.base import number
from .schedules import checked_step, step_sizes

__all__ = ["descend"]

_CHECK_EVERY = 64  # steps between two looks at the range of the weights
_FLOPS_PER_CALL = 2e8  # a call to the kernel lasts a fraction of a second, so that Ctrl-C is heard


def descend(problem, rule=None, *, step, n_steps, alpha=None, log_alpha=None, log_ratio=None, initial_weights=None,
            momentum=0.0, nesterov=False, batch_size=None, sampling="replacement", label_noise=0.0, rng=None, save_at=None,
            residual_tol=1e-10):
    """Train by discrete steps of a training rule: gradient descent, SGD, label noise, momentum, flooding.

    A step of size eta multiplies u by ``1 - 2 eta (p + q)`` and v by ``1 + 2 eta (p - q)``, with the pair (p, q) of the rule at
    these weights.  Whatever the step sizes, the schedule and the order of the samples, the result carries the *exact* effective
    initialisation and centre, so that ``predict(run)`` is exact.

    Parameters
    ----------
    problem : Problem
        The data.
    rule : Rule, optional
        The training rule, by default `GradientFlow`, which is plain gradient descent here.
    step : float, array_like (n_steps,) or callable
        Step size eta, or one for each step, or a function of the step's number k = 0, 1, ... such as those of `dln.schedules`.
    n_steps : int
        Largest number of steps.
    alpha, log_alpha : float or array_like (d,), optional
        Initial scale ``sqrt(u0 v0)`` or its logarithm, however small; exactly one of these two and `initial_weights`.
    log_ratio : float or array_like (d,), optional
        Initial shape ``log(u0/v0)``, by default 0.
    initial_weights : (array_like, array_like), optional
        The positive initial weights ``(u0, v0)``.
    momentum : float
        m in [0, 1): each step adds m times the last move of the weights (heavy ball, Polyak 1964); at rest at first.
    nesterov : bool
        Evaluate the rule at the weights moved on by the momentum (Nesterov 1983).
    batch_size : int, optional
        Samples per step; by default all.
    sampling : {"replacement", "distinct", "epochs"}
        Batches of independent samples, of distinct samples, or cut from one random permutation of the data after another.
    label_noise : float
        Standard deviation of the Gaussian noise that is added, fresh at each step, to the targets of the batch.
    rng : int, Generator or SeedSequence, optional
        Source of batches and noise; the same seed gives the same bits, however often the run is saved.
    save_at : array_like (K,) of int, optional
        Step numbers, from 0 on, increasing, at which the trajectory is kept.
    residual_tol : float or None
        The run has converged once the reachable part of the residual has norm at most this times that of y (or that at the
        start, if more) and momentum has no more to carry: looked at each step with the full batch, else now and then.  With
        None, or where a rule or noise keeps the weights moving on an interpolator, all steps are made.

    Returns
    -------
    DescentResult
        Divergence does not raise: look at `success`, `status` and `message`.

    Raises
    ------
    ValueError, TypeError
        If an argument is bad: one line that names it.

    References
    ----------
    Effective initialisation of discrete steps: Nacson et al. (2022), Even et al. (2023); of momentum: Papazov et al. (2024).

    Examples
    --------
    >>> import dln
    >>> problem = dln.sparse_regression(20, 50, 3, rng=0)
    >>> run = dln.descend(problem, step=0.1, n_steps=10_000, alpha=0.1)
    >>> str(run.status), bool(abs(run.beta - dln.predict(run).beta).max() < 1e-9)
    ('converged', True)
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be a dln.Problem, got {type(problem).__name__}; build one with dln.Problem(X, y)")
    rule = GradientFlow() if rule is None else rule
    if not isinstance(rule, Rule):
        raise TypeError(f"rule must be a training rule such as dln.GradientFlow(), got {rule!r}")
    if isinstance(rule, Flooding) and rule.step is not None:
        raise ValueError("Flooding(step=...) is for dln.flow; descend has its own step: leave that of the rule out")
    if isinstance(n_steps, bool) or not isinstance(n_steps, (int, np.integer)) or n_steps < 0:
        raise ValueError(f"n_steps must be an integer, at least 0, got {n_steps!r}")
    momentum = number("momentum", momentum, minimum=0.0)
    if momentum >= 1.0:
        raise ValueError(f"momentum must be below 1, got {momentum:g}")
    if batch_size is not None and (isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer))
                                   or batch_size < 1):
        raise ValueError(f"batch_size must be a positive integer or None, got {batch_size!r}")
    if sampling not in SAMPLINGS:
        raise ValueError(unknown("sampling", sampling, SAMPLINGS))
    if batch_size is not None and sampling == "distinct" and batch_size > problem.n_samples:
        raise ValueError(f"batch_size = {batch_size} distinct samples cannot be drawn from {problem.n_samples}")
    label_noise = number("label_noise", label_noise, minimum=0.0)
    tol = -1.0 if residual_tol is None else number("residual_tol", residual_tol, minimum=0.0, strict=True)
    start = initialize(problem.n_features, alpha=alpha, log_alpha=log_alpha, log_ratio=log_ratio,
                       initial_weights=initial_weights)
    batches = Batches(problem.n_samples, None if batch_size is None else int(batch_size), sampling, label_noise,
                      np.random.default_rng(rng))
    return Descent(problem, rule, start, checked_step(step, n_steps), int(n_steps), momentum, bool(nesterov), batches,
                   _checked_steps(save_at, n_steps), tol).run()


def _checked_steps(save_at, n_steps):
    """Return `save_at` as increasing step numbers from 0 to `n_steps`; else a one-line error."""
    if save_at is None:
        return np.empty(0, dtype=np.int64)
    given = np.atleast_1d(np.asarray(save_at))
    if given.ndim != 1 or not (np.issubdtype(given.dtype, np.integer) or np.all(given == np.floor(given))):
        raise ValueError("save_at must be a vector of step numbers")
    steps = given.astype(np.int64)
    for k, number_of_step in enumerate(steps):
        if not 0 <= number_of_step <= n_steps:
            raise ValueError(f"save_at[{k}] must be from 0 to n_steps = {n_steps}, got {number_of_step}")
        if k and number_of_step <= steps[k - 1]:
            raise ValueError(f"save_at must increase, but save_at[{k}] = {number_of_step} follows {steps[k - 1]}")
    return steps


class Descent:
    """One run: the compiled kernel's arrays, its calls, and what is kept."""

    def __init__(self, problem, rule, start, step, n_steps, momentum, nesterov, batches, saved, residual_tol):
        self.problem, self.rule, self.start, self.step, self.n_steps = problem, rule, start, step, n_steps
        self.momentum, self.batches, self.saved, self.residual_tol = momentum, batches, saved, residual_tol
        n, d = problem.X.shape
        self.row_space = problem.row_space
        whole = batches.batch_size is None
        # Single samples are lost in the row space; else the full batch sees the data only through it.
        reduced = whole and not rule.uses_samples and not batches.label_noise and self.row_space.basis is not None
        self.basis = self.row_space.basis if reduced else None
        self.X, self.y = (self.row_space.X, self.row_space.y) if reduced else (problem.X, problem.y)
        rows = self.X.shape[0] if whole else batches.batch_size
        self.mantissas, self.exponents = _split(np.stack([start.log_u, start.log_v]))
        self.previous, self.visible = self.mantissas.copy(), np.ones((2, d))
        self.dual, self.lost = np.zeros(self.X.shape[0]), np.zeros(self.X.shape[0])
        self.count = np.zeros(de.COUNT_SIZE, dtype=np.int64)
        self.work, self.samples, self.work_n = (np.zeros(shape) for shape in (
            (de.WORK_ROWS, d), (de.SAMPLE_ROWS, rows), (2, rows)))
        self.batch = _with_views(np.empty((0 if whole else rows, d)), np.empty(rows))
        self.scale = self.row_space.target_norm
        if start.log_ratio.any():
            self.scale = max(self.scale, self._residual(self._weights()[0]))
        settings = np.zeros(de.SETTINGS_SIZE)
        settings[de.C] = 0.5 / (problem.n_samples if whole else rows)
        settings[de.MOMENTUM], settings[de.NESTEROV] = momentum, nesterov
        settles = rule.settles and not batches.label_noise
        settings[de.RESIDUAL_TOL] = residual_tol if settles else -1.0
        settings[de.UNIT_OF_R] = 1.0 / self.scale if self.scale > 0.0 else 1.0
        settings[de.SHRINKS], settings[de.FLOODS] = rule.shrinks, isinstance(rule, Flooding)
        settings[de.EVERY_STEP] = whole and self.X.shape == self.row_space.X.shape
        # A look at the full residual costs about N/B steps: at most a tenth of the time.
        settings[de.CHECK_EVERY] = _CHECK_EVERY if whole else max(_CHECK_EVERY, 10 * -(-n // rows))
        self.settings = settings
        flops = (4.0 * rows + 20.0) * d + 500.0
        self.per_call = int(max(1, min(batches.block, _FLOPS_PER_CALL // flops)))
        self.t = 0.0
        self.kept: list[tuple] = []

    def run(self):
        """Make the steps and return the result."""
        kernel, rule = entry_point(de.descend_steps), address(self.rule.kernel)
        reason, wanted = de.RUNNING, self.saved.tolist()
        if wanted and wanted[0] == 0:
            self._keep()
            wanted = wanted[1:]
        for stop in (*wanted, *(() if wanted and wanted[-1] == self.n_steps else (self.n_steps,))):
            while (done := int(self.count[de.STEP])) < stop and reason == de.RUNNING:
                reason = self._advance(kernel, rule, done, stop)
            if reason != de.RUNNING:
                break
            if stop in wanted:
                self._keep()
        if reason == de.RUNNING and self._finished():
            reason = de.CONVERGED
        return self._result(reason)

    def _advance(self, kernel, rule, first, stop):
        """Make steps from `first` on, to `stop` or the end of a block of batches."""
        count = min(stop - first, self.per_call, self.batches.block - first % self.batches.block)
        sizes = step_sizes(self.step, first, count)
        ends = self.t + np.cumsum(sizes)
        indices, noise = self.batches.draw(first, count)
        reason = kernel(rule, self.X, self.y, self.row_space.X, self.row_space.y, self.mantissas, self.previous, self.exponents,
                        self.visible, self.dual, self.lost, self.count, self.settings, sizes, self._parameters(ends - sizes),
                        indices, noise, self.work, self.samples, self.work_n, *self.batch, count)
        made = int(self.count[de.STEP]) - first
        if made:
            # Steps of one size are counted, not added up: a million additions would lose digits of t.
            self.t = self.step * (first + made) if isinstance(self.step, float) else float(ends[made - 1])
        return reason

    def _parameters(self, times):
        d = self.problem.n_features
        if not self.rule.time_dependent:
            return self.rule.parameters(d)[None, :]
        rows = np.array([self.rule.parameters(d, float(t)) for t in times])
        return rows if len(rows) > 1 else np.repeat(rows, 2, axis=0)

    def _finished(self):
        # The last step is looked at here: the kernel looks before each step.
        tol = self.settings[de.RESIDUAL_TOL]
        if self.momentum and tol >= 0.0:
            moved = np.abs(self.mantissas - self.previous)
            if not np.all(self.momentum * moved <= (1.0 - self.momentum) * tol * np.abs(self.mantissas)):
                return False
        return self._residual(self._weights()[0]) * self.settings[de.UNIT_OF_R] <= tol

    # --- what the arrays say -------------------------------------------------------------------------------------------

    def _weights(self):
        """Return (beta, log|u|, log|v|)."""
        with np.errstate(divide="ignore"):
            log_u, log_v = np.log(np.abs(self.mantissas)) + de.LOG_UNIT * self.exponents
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            # Powers of two are exact; a logarithm and its exponential are not.
            u, v = np.ldexp(self.mantissas, np.clip(512 * self.exponents, -10_000, 10_000).astype(np.intc))
            beta = (u - v) * (u + v)
            lost = np.isnan(beta)
            beta[lost] = exponential_difference(2.0 * np.maximum(log_u, log_v), 2.0 * (log_u - log_v))[lost]
        return beta, log_u, log_v

    def _residual(self, beta):
        return float(np.linalg.norm(self.row_space.X @ beta - self.row_space.y))

    def _gradient_norm(self, beta, log_u, log_v):
        # |grad L|^2 = 4 sum (u^2 + v^2) g^2
        with np.errstate(under="ignore"):
            size = np.exp(2.0 * log_u) + np.exp(2.0 * log_v)
        return 2.0 * float(np.linalg.norm(np.sqrt(size) * self.problem.gradient(beta)))

    def _keep(self):
        beta, log_u, log_v = self._weights()
        self.kept.append((int(self.count[de.STEP]), self.t, beta, log_u, log_v, self.problem.loss(beta),
                          self._gradient_norm(beta, log_u, log_v)))

    def _trajectory(self):
        if not self.kept:
            d = self.problem.n_features
            return (np.empty(0, dtype=np.int64), np.empty(0), *(np.empty((0, d)),) * 3, np.empty(0), np.empty(0))
        return tuple(np.array(column) for column in zip(*self.kept, strict=True))

    def _result(self, reason):
        with np.errstate(over="ignore", invalid="ignore"):
            beta, log_u, log_v = self._weights()
            residual = self._residual(beta) / self.scale if self.scale > 0.0 else 0.0
            loss = self.problem.loss(beta)
            dual = (self.dual + self.lost) / (1.0 - self.momentum)
        flips, descents, ascents, alternations = self.count[[de.FLIPS, de.DESCENTS, de.ASCENTS, de.ALTERNATIONS]].tolist()
        status, message, law = self._verdict(reason, beta, loss, residual, flips, ascents, descents)
        saved_steps, times, betas, log_us, log_vs, losses, norms = self._trajectory()
        return DescentResult(
            beta=beta, n_steps=int(self.count[de.STEP]), t=self.t, loss=loss, residual=residual, log_u=log_u, log_v=log_v,
            sign_u=np.sign(self.mantissas[0]), sign_v=np.sign(self.mantissas[1]), n_sign_flips=flips,
            dual=dual if self.basis is None else self.basis @ dual, n_descents=descents, n_ascents=ascents,
            n_alternations=alternations, success=status in (Status.CONVERGED, Status.ALL_STEPS), status=status,
            message=message, saved_steps=saved_steps, times=times, betas=betas, log_us=log_us, log_vs=log_vs, losses=losses,
            gradient_norms=norms, problem=self.problem, rule=self.rule, log_alpha=self.start.log_alpha,
            log_ratio=self.start.log_ratio, momentum=self.momentum, exact_law=law)

    def _verdict(self, reason, beta, loss, residual, flips, ascents, descents):
        steps = int(self.count[de.STEP])
        zeros = np.flatnonzero((self.mantissas == 0.0).any(axis=0))
        law = not zeros.size
        more = f"; {flips} sign flips" if flips else ""
        if not law:
            more += f"; a weight of coordinate {zeros[0]} has become exactly 0: there the law has no meaning"
        if reason == de.DIVERGED or not np.isfinite(beta).all() or not math.isfinite(loss):
            return Status.DIVERGED, (f"the residual left the range of numbers after {steps} steps: the step size is beyond the "
                                     f"edge of stability; give a smaller step"), law
        if reason == de.CONVERGED:
            least = "" if self.row_space.interpolates else (
                f"; the data are not an interpolator: converged to least squares, loss {loss:.6g}")
            return Status.CONVERGED, f"relative residual {residual:.1e} after {steps} steps{least}{more}", law
        flooded = f"; {descents} steps down, {ascents} up" if isinstance(self.rule, Flooding) else ""
        return Status.ALL_STEPS, f"made {steps} steps; relative residual {residual:.1e}{flooded}{more}", law


def _split(logs):
    """Return mantissas and exponents of positive numbers given by their logarithms, (2, d) each."""
    exponents = np.rint(logs / de.LOG_UNIT).astype(np.int64)
    return np.exp(logs - de.LOG_UNIT * exponents), exponents


def _with_views(*arrays):
    """Return the arrays, then read-only views of them: what kernels take for data."""
    views = [array.view() for array in arrays]
    for view in views:
        view.flags.writeable = False
    return *arrays, *views
