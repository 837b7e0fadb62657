"""Stochastic flows: SGD and label noise in continuous time, with the exact effective initialisation on every path."""

import math
from dataclasses import dataclass, field

import numpy as np

from ._jit import address, entry_point
from ._suggest import unknown
from .integrate import state as st
from .integrate import stochastic as sde
from .integrate.stops import checked_times
from .network import difference_of_squares, initialize
from .problem import Problem
from .result import FlowLaw, Status
from .rules import Flooding, GradientFlow, Rule
from .rules.base import number

__all__ = ["StochasticResult", "stochastic_flow"]

METHODS = ("euler", "heun")

_FLOPS_PER_CALL = 2e8  # a call to the kernel lasts a fraction of a second, so that Ctrl-C is heard


@dataclass(frozen=True, repr=False, eq=False)
class StochasticResult(FlowLaw):
    """One path of a stochastic flow: its end, what holds exactly on it, and what the laws of its noise are made of.

    Attributes
    ----------
    beta : ndarray (d,)
        The predictor ``u*u - v*v`` at time `t`.
    t : float
        Final time.
    loss, residual : float
        ``|X beta - y|^2 / (4N)``, and the norm of the reachable part of ``X beta - y`` relative to that of y.
    log_u, log_v : ndarray (d,)
        Logarithms of the weights at time `t`.
    log_effective_alpha, effective_alpha, center : ndarray (d,)
        ``log alpha - 2 shrinkage``, and the Bregman centre of that scale and of the initial shape.
    dual : ndarray (N,)
        ``int p dt + sqrt(step) M = X^T dual``, drift and noise.
    shrinkage, noise_shrinkage : ndarray (d,)
        ``int q dt`` of rule and noise together, and of the noise alone.
    square_residuals, square_gradients : ndarray (N,), (d,)
        ``int r^2 dt`` and ``int g^2 dt`` on this path.  Sampling noise of batch size B has ``noise_shrinkage = step
        [(X^2)^T (square_residuals + delta^2 t) / (4 B N) + (1 - 1/B) square_gradients]``.
    success : bool
        It reached `t_end` with finite numbers, within the bound of stability.
    status, message : Status, str
        Why the run stopped: a word, and a line.
    n_steps : int
        Steps made, each of length `dt`.
    stability : float
        Largest ``dt * curvature`` of the loss, or move of a log weight by the noise of a step, seen now and then: beyond 2
        the steps, not the flow, decide.
    times, betas, log_us, log_vs, losses : ndarray
        The trajectory: (K,), (K, d), (K, d), (K, d), (K,), at the steps nearest to `save_at`; empty without.
    problem, rule, log_alpha, log_ratio, step, dt, noise, batch_size, label_noise
        What was integrated.
    depth, exact_law : float, bool
        2 and True.
    """

    beta: np.ndarray
    t: float
    loss: float
    residual: float
    log_u: np.ndarray
    log_v: np.ndarray
    dual: np.ndarray
    shrinkage: np.ndarray
    noise_shrinkage: np.ndarray
    square_residuals: np.ndarray
    square_gradients: np.ndarray
    success: bool
    status: Status
    message: str
    n_steps: int
    stability: float
    times: np.ndarray
    betas: np.ndarray
    log_us: np.ndarray
    log_vs: np.ndarray
    losses: np.ndarray
    problem: Problem
    rule: Rule
    log_alpha: np.ndarray
    log_ratio: np.ndarray
    step: float
    dt: float
    noise: str
    batch_size: int
    label_noise: float
    depth: float = field(default=2.0)
    exact_law: bool = field(default=True)

    def __repr__(self):
        return (f"StochasticResult({self.status}: t={self.t:.6g}, loss={self.loss:.3g}, residual={self.residual:.1e}, "
                f"steps={self.n_steps}, noise={self.noise!r})")


def stochastic_flow(problem, rule=None, *, step, noise="samples", batch_size=1, label_noise=0.0, alpha=None, log_alpha=None,
                    log_ratio=None, initial_weights=None, t_end, dt=None, save_at=None, rng=None, centered=False,
                    method="heun"):
    """Integrate one path of SGD in continuous time: ``du = -2 u ((p + q) dt + sqrt(step) dM)``, and so v with ``p - q``.

    M is in the row space of X, so that noise moves the predictor and Ito's correction ``step d[M]_j/dt``, which joins q,
    shrinks the effective initialisation.  Both are exact on every path and at every dt: ``predict(run, at_time=True)`` is beta.

    Parameters
    ----------
    problem : Problem
        The data.
    rule : Rule, optional
        The drift (p, q), by default `GradientFlow`.  Its noise is that of plain gradients of single samples, for every rule.
    step : float
        Step size eta of the SGD that the flow is a model of: the strength of the noise.
    noise : {"samples", "isotropic", "labels"}
        With B the batch size, delta the label noise and ``dB`` (N,) Brownian,
        "samples": ``dM = X^T (s dB) / sqrt(B N)``, ``s_i = r_i/2``, or ``sqrt(r_i^2 + delta^2)/2`` with label noise: drawn with
        replacement.  For B > 1 the square of the mean gradient, by which a step of SGD shrinks ``u v``, too, joins the drift:
        ``q + step (1 - 1/B) g^2``.
        "isotropic": the model of Pesme et al. (2021), ``s_i^2 = L + delta^2/4`` for all samples.
        "labels": label noise alone, ``s_i = delta/2``, the gradient being that of all samples.
    batch_size : int
        B.
    label_noise : float
        Standard deviation delta of the noise on the targets.
    alpha, log_alpha, log_ratio, initial_weights
        Initial weights, see `flow`; `log_alpha` may be as low as -1e6.
    t_end : float
        Final time: after k steps of SGD it is ``k * step``.
    dt : float, optional
        Length of a step, at most; by default `step`: as costly, and about as stable, as SGD itself.  It is stable up to
        2 over the largest eigenvalue of ``(2/N) X diag(u^2 + v^2) X^T``.
    save_at : array_like (K,), optional
        Times, from 0 to `t_end`, increasing: kept at the nearest steps, which are not changed by it.
    rng : int, Generator, SeedSequence or dln.integrate.stochastic.Increments, optional
        Source of the noise; the same seed gives the same bits, whatever `save_at` is.
    centered : bool
        With noise="samples": the covariance of a batch's gradient, ``(mean g_i^2 - g^2)/B`` on the diagonal, instead of the
        second moment ``mean g_i^2 / B``: dB less its mean over the samples (and label noise of its own, from columns N to
        2N of the increments).  The drift of `q` gets the difference, so that the law of the effective initialisation is the
        same.
    method : {"heun", "euler"}
        Of the drift.  The noise is taken at the left end of a step: strong order 1/2, with an error of order
        ``step * sqrt(dt)``, beside ``dt^2`` of Heun's method or ``dt`` of Euler's (Milstein & Tretyakov 1997).

    Returns
    -------
    StochasticResult
        Divergence does not raise: look at `success`, `status` and `message`.

    Raises
    ------
    ValueError, TypeError
        If an argument is bad: one line that names it.

    References
    ----------
    Pesme et al. (2021), Implicit bias of SGD for diagonal linear networks: a provable benefit of stochasticity.

    Examples
    --------
    >>> import dln
    >>> problem = dln.sparse_regression(20, 50, 3, rng=0)
    >>> run = dln.stochastic_flow(problem, step=0.02, alpha=0.1, t_end=200.0, rng=0)
    >>> str(run.status), bool(abs(run.beta - dln.predict(run, at_time=True).beta).max() < 1e-10)
    ('reached t_end', True)
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be a dln.Problem, got {type(problem).__name__}; build one with dln.Problem(X, y)")
    rule = GradientFlow() if rule is None else rule
    if not isinstance(rule, Rule):
        raise TypeError(f"rule must be a training rule such as dln.GradientFlow(), got {rule!r}")
    if isinstance(rule, Flooding):
        raise ValueError("rule Flooding jumps at its level and has no stochastic flow; use dln.descend")
    step = number("step", step, minimum=0.0)
    t_end = number("t_end", t_end, minimum=0.0)
    label_noise = number("label_noise", label_noise, minimum=0.0)
    if noise not in sde.NOISES:
        raise ValueError(unknown("noise", noise, sde.NOISES))
    if method not in METHODS:
        raise ValueError(unknown("method", method, METHODS))
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise ValueError(f"batch_size must be a positive integer, got {batch_size!r}")
    if noise == "labels" and not label_noise:
        raise ValueError("noise='labels' needs label_noise, a standard deviation above 0")
    if centered and noise != "samples":
        raise ValueError(f"centered belongs to noise='samples', got noise={noise!r}")
    if dt is None:
        if step == 0.0 and t_end > 0.0:
            raise ValueError("dt must be given where step is 0")
        dt = step
    elif t_end > 0.0 or dt != 0.0:
        dt = number("dt", dt, minimum=0.0, strict=True)
    start = initialize(problem.n_features, alpha=alpha, log_alpha=log_alpha, log_ratio=log_ratio,
                       initial_weights=initial_weights)
    n_steps = 0 if t_end == 0.0 else _step_count(t_end, dt)
    width = (2 if centered and label_noise else 1) * problem.n_samples
    if isinstance(rng, sde.Increments):
        if rng.width != width:
            raise ValueError(f"rng must be Increments of width {width}, got width {rng.width}")
        stream = rng
    else:
        stream = sde.Increments(width, rng)
    times = checked_times(save_at, t_end)
    return _Path(problem, rule, start, step, noise, int(batch_size), label_noise, t_end, n_steps, times, stream, bool(centered),
                 method).run()


def _step_count(t_end, dt):
    n_steps = t_end / dt
    if not n_steps < 2.0**52:
        raise ValueError(f"dt = {dt:g} would take {n_steps:.1e} steps to t_end = {t_end:g}; give a larger dt")
    return max(1, math.ceil(n_steps * (1.0 - 1e-12)))  # 0.3/0.1 is 3 steps


class _Path:
    """One run: the compiled kernel's arrays, its calls, and what is kept."""

    def __init__(self, problem, rule, start, step, noise, batch_size, label_noise, t_end, n_steps, save_at, stream, centered,
                 method):
        self.problem, self.rule, self.start, self.stream = problem, rule, start, stream
        self.step, self.noise, self.batch_size, self.label_noise = step, noise, batch_size, label_noise
        self.t_end, self.n_steps = t_end, n_steps
        self.dt = t_end / n_steps if n_steps else 0.0
        n, d = problem.X.shape
        self.X, self.y = problem.X, problem.y
        self.squares = self.X * self.X
        self.column_sums = self.squares.sum(axis=0)
        for array in (self.squares, self.column_sums):
            array.flags.writeable = False
        self.rows = np.zeros((st.ROWS, d))
        self.rows[st.LOG_PRODUCT], self.rows[st.LOG_RATIO] = 2.0 * start.log_alpha, start.log_ratio
        self.z, self.f, self.r = np.zeros(n + d), np.zeros(n + d), np.zeros(n)
        self.sums_n, self.sums_d = np.zeros(n), np.zeros((3, d))
        scale = problem.row_space.target_norm
        if start.log_ratio.any():
            scale = max(scale, self._residual(self._weights()[0]))
        self.scale = scale
        settings = np.zeros(sde.SETTINGS_SIZE)
        settings[sde.C], settings[sde.STEP], settings[sde.DT] = 0.5 / n, step, self.dt
        settings[sde.SIZE] = 1.0 / (n * batch_size)
        settings[sde.DRIFT] = 1.0 - 1.0 / batch_size if noise == "samples" else 0.0
        settings[sde.KIND], settings[sde.CENTERED] = sde.NOISES.index(noise), centered
        settings[sde.LABEL_VARIANCE] = label_noise**2
        settings[sde.HEUN], settings[sde.SHRINKS] = method == "heun", rule.shrinks
        # Noise on the labels is a scale, too: without targets it is the only one.
        unit = max(scale, float(np.linalg.norm(self.y)), label_noise * math.sqrt(n))
        settings[sde.UNIT_OF_R] = 1.0 / unit if unit > 0.0 else 1.0
        self.settings = settings
        flops = (10.0 * n + 40.0) * d + 20.0 * n + 500.0
        self.per_call = int(max(1, min(stream.block, _FLOPS_PER_CALL // flops)))
        self.saved = np.rint(save_at / self.dt).astype(np.int64) if n_steps else np.zeros(len(save_at), dtype=np.int64)
        self.kept: list[tuple] = []
        self.stability = 0.0

    def run(self):
        """Make the steps and return the result."""
        kernel, rule = entry_point(sde.stochastic_steps), address(self.rule.kernel)
        reason = sde.RUNNING
        for stop in (*self.saved.tolist(), None):
            target = self.n_steps if stop is None else stop
            while (done := int(self.settings[sde.DONE])) < target and reason == sde.RUNNING:
                reason = self._advance(kernel, rule, done, target)
            if reason != sde.RUNNING:
                break
            if stop is not None:
                beta, log_u, log_v = self._weights()
                self.kept.append((stop * self.dt if stop < self.n_steps else self.t_end, beta, log_u, log_v,
                                  self.problem.loss(beta)))
        self._look()
        return self._result(reason)

    def _advance(self, kernel, rule, first, stop):
        """Make steps from `first` on, to `stop` or the end of a block of increments."""
        count = min(stop - first, self.per_call, self.stream.block - first % self.stream.block)
        d = self.problem.n_features
        if self.rule.time_dependent:
            params = np.array([self.rule.parameters(d, k * self.dt) for k in range(first, first + count + 1)])
        else:
            params = self.rule.parameters(d)[None, :]
        if first % self.stream.block == 0:
            self._look()
        return kernel(rule, self.X, self.y, self.squares, self.column_sums, self.rows, self.z, self.f, self.r, self.sums_n,
                      self.sums_d, self.settings, params, self.stream.draw(first, count), count)

    # --- what the arrays say -------------------------------------------------------------------------------------------

    def _weights(self):
        """Return (beta, log u, log v)."""
        n = self.problem.n_samples
        log_product = self.rows[st.LOG_PRODUCT] - 4.0 * self.z[n:]
        log_ratio = self.rows[st.LOG_RATIO] - 4.0 * (self.z[:n] @ self.X)
        return (difference_of_squares(log_product, log_ratio), 0.5 * (log_product + log_ratio),
                0.5 * (log_product - log_ratio))

    def _residual(self, beta):
        rows = self.problem.row_space
        return float(np.linalg.norm(rows.X @ beta - rows.y))

    def _look(self):
        # At both ends and once a block: the drift is stiffest where the weights are large, the noise where r is.
        squares = self.problem.X @ self._weights()[0] - self.y
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            squares = squares * squares + self.label_noise**2 if self.noise != "labels" else np.full_like(
                squares, self.label_noise**2)
            rate = float((squares @ self.squares).max(initial=0.0)) * self.settings[sde.SIZE] / 4.0
            self.stability = max(self.stability, self._curvature() * self.dt, 2.0 * math.sqrt(self.step * self.dt * rate))

    def _curvature(self):
        """Return about the largest eigenvalue of ``(2/N) X diag(u^2 + v^2) X^T``, from below, by power iteration."""
        _, log_u, log_v = self._weights()
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            size = np.exp(2.0 * log_u) + np.exp(2.0 * log_v)
            largest = float(size.max(initial=0.0))
            if largest == 0.0 or not math.isfinite(largest) or not self.X.any():
                return 0.0
            vector, value = np.sqrt(size / largest) * np.sqrt(self.column_sums), 0.0
            root = np.sqrt(size / largest)
            for _ in range(10):
                length = float(np.linalg.norm(vector))
                if not length > 0.0:
                    break
                vector = root * (self.X.T @ (self.X @ (root * vector))) / length
                value = float(np.linalg.norm(vector))
            return 2.0 / self.problem.n_samples * largest * value

    def _result(self, reason):
        settings, n = self.settings, self.problem.n_samples
        steps = int(settings[sde.DONE])
        with np.errstate(over="ignore", invalid="ignore"):
            beta, log_u, log_v = self._weights()
            residual = self._residual(beta) / self.scale if self.scale > 0.0 else 0.0
            loss = self.problem.loss(beta)
        diverged = reason != sde.RUNNING or not np.isfinite(beta).all() or not math.isfinite(loss)
        t = self.t_end if steps == self.n_steps and not diverged else steps * self.dt
        status, message = self._verdict(diverged, t, steps, residual)
        if self.kept:
            times, betas, log_us, log_vs, losses = (np.array(column) for column in zip(*self.kept, strict=True))
        else:
            times, losses = np.empty((2, 0))
            betas, log_us, log_vs = np.empty((3, 0, self.problem.n_features))
        return StochasticResult(
            beta=beta, t=t, loss=loss, residual=residual, log_u=log_u, log_v=log_v, dual=self.z[:n].copy(),
            shrinkage=self.z[n:].copy(), noise_shrinkage=self.z[n:] - self.sums_d[sde.RULE_Q],
            square_residuals=self.sums_n, square_gradients=self.sums_d[sde.SQUARE_G].copy(),
            success=status == Status.REACHED_T_END, status=status, message=message, n_steps=steps, stability=self.stability,
            times=times, betas=betas, log_us=log_us, log_vs=log_vs, losses=losses, problem=self.problem, rule=self.rule,
            log_alpha=self.start.log_alpha, log_ratio=self.start.log_ratio, step=self.step, dt=self.dt, noise=self.noise,
            batch_size=self.batch_size, label_noise=self.label_noise)

    def _verdict(self, diverged, t, steps, residual):
        at = f"at t = {t:.6g} after {steps} steps"
        if diverged:
            return Status.DIVERGED, f"the residual left the range of numbers {at} of {self.dt:.3g}; give a smaller dt or step"
        if self.stability > 2.0:
            return Status.INACCURATE, (f"finished {at}, but dt times the curvature of the loss, or a step of the noise, came "
                                       f"to {self.stability:.2g}, and steps are stable up to 2; give a smaller dt than "
                                       f"{self.dt:.3g}")
        return Status.REACHED_T_END, f"reached t_end = {t:.6g} in {steps} steps; relative residual {residual:.1e}"
