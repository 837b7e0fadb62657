"""What `dln explore` computes for one position of its sliders: a trajectory, its end, and the minimiser that theory predicts.

No window and no matplotlib: `figures.explore` draws what is computed here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

import dln
from dln._suggest import unknown
from dln.flow import Integration
from dln.integrate import state
from dln.network import initialize

__all__ = ["RULES", "Choice", "Exploration", "Scene", "Settings"]

Array = NDArray[np.float64]

#: A run that fits the data to this relative residual is compared with the minimiser among the interpolators.
FITTED = 1e-3
#: Tolerances of a run: of its steps and, relative, of the residual.
RTOL, RESIDUAL_TOL = 3e-5, 1e-5


@dataclass(frozen=True)
class Choice:
    """A training rule as the window offers it.

    Attributes
    ----------
    label : str
        Its name in the window.
    make : callable
        ``make(gamma, epsilon)`` returns the rule.
    gamma, epsilon : str or None
        What the two sliders mean to this rule, in mathtext; None: it does not look at that slider.
    """

    label: str
    make: Callable[[float, float], dln.Rule]
    gamma: str | None = None
    epsilon: str | None = None


def _difference(scheme: str) -> Choice:
    return Choice(f"GR, {scheme}", lambda gamma, epsilon: dln.GradientRegularization(gamma, epsilon, scheme), r"$\gamma$",
                  r"$\epsilon$")


#: By the name that each has on the command line.  No flooding: in continuous time it is gradient flow that stops at the level.
RULES = {
    "gradient-flow": Choice("gradient flow", lambda gamma, epsilon: dln.GradientFlow()),
    "gr": _difference("forward"),
    "gr-backward": _difference("backward"),
    "gr-centered": _difference("centered"),
    "gr-exact": Choice("GR, exact", lambda gamma, epsilon: dln.GradientRegularization(gamma, scheme="exact"), r"$\gamma$"),
    "sam": Choice("SAM", lambda gamma, epsilon: dln.SAM(gamma), r"$\rho$"),
    "sam-normalized": Choice("SAM, normalized", lambda gamma, epsilon: dln.SAM(gamma, normalized=True), r"$\rho$"),
    "weight-decay": Choice("weight decay", lambda gamma, epsilon: dln.WeightDecay(gamma), r"$\lambda$"),
}


@dataclass(frozen=True)
class Settings:
    """A position of the sliders.

    Attributes
    ----------
    rule : str
        A key of `RULES`.
    log_alpha : float
        Natural logarithm of the initial scale.
    gamma, epsilon : float
        Positive; what they mean depends on the rule.
    """

    rule: str = "gr"
    log_alpha: float = math.log(1e-2)
    gamma: float = 0.05
    epsilon: float = 0.2

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(unknown("rule", self.rule, RULES))
        if not math.isfinite(self.log_alpha):
            raise ValueError(f"log_alpha must be finite, got {self.log_alpha}")
        for name in ("gamma", "epsilon"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive and finite, got {value:g}: its slider is logarithmic")


@dataclass(frozen=True, eq=False)
class Scene:
    """What there is to draw for one position of the sliders.

    Attributes
    ----------
    settings : Settings
    times, losses : ndarray (K,)
        NaN from where the run broke off; K = 0 if there was no run.
    betas : ndarray (K, d)
        Likewise.
    beta : ndarray (d,)
        Where the run ended; NaN if there was none.
    predicted : ndarray (d,)
        The minimiser of the potential at the run's effective initialisation, among all that fit the data, or, if the run does
        not fit them, among all with the run's own ``X beta``; NaN where there is none.
    plain : ndarray (d,)
        The limit of gradient flow from the same initial scale, by the dual and not by a run; NaN where that failed.
    success : bool
    status, message : str
        Why the run ended, in a word and in a line; for a refused combination "refused" and the reason.
    richness : float
        ``1 - |beta - beta_1|/|beta_2 - beta_1|``; NaN if the data do not tell the two interpolators apart.
    mean_log_shift : float
        Mean over coordinates of ``log(alpha_eff/alpha)``.
    fits : bool
        Whether the run fits the data, to a relative residual of 1e-3.
    seconds : float
        How long all of this took.
    """

    settings: Settings
    times: Array
    losses: Array
    betas: Array
    beta: Array
    predicted: Array
    plain: Array
    success: bool
    status: str
    message: str
    richness: float
    mean_log_shift: float
    fits: bool
    seconds: float


class _Followed(Integration):
    """A run as `dln.flow` makes it, kept at its own steps: at each of sixty, at every other of the next sixty, and so on."""

    def _call(self, kernels, params, attempts):
        made = int(self.count[state.ACCEPTED] + self.count[state.REJECTED])
        reason = super()._call(kernels, params, min(attempts, 1 + made // 60))
        if self.clock[state.T] > self.kept[-1][0]:
            self._keep()
        return reason


class Exploration:
    """The data, and what is computed of them once.

    Parameters
    ----------
    problem : Problem
    n_times : int
        How many times of a trajectory there are at least.
    max_steps : int
        Largest number of steps of a run: what keeps a bad combination from holding the window up.
    """

    def __init__(self, problem: dln.Problem, n_times: int = 80, max_steps: int = 1400) -> None:
        self.problem, self.n_times, self.max_steps = problem, n_times, max_steps
        self._kept_plain: tuple[float, Array] | None = None

    @cached_property
    def interpolators(self) -> tuple[Array, Array] | None:
        """The interpolators of least l1 and of least l2 norm, or None where the data have not two different ones."""
        if not self.problem.interpolates:
            return None
        sparse, dense = dln.basis_pursuit(self.problem), dln.minimum_norm(self.problem)
        apart = float(np.linalg.norm(sparse.beta - dense.beta))
        if not (sparse.success and dense.success) or apart <= 1e-8 * float(np.linalg.norm(dense.beta)):
            return None
        return sparse.beta, dense.beta

    def compute(self, settings: Settings) -> Scene:
        """Train at one position of the sliders.

        Parameters
        ----------
        settings : Settings

        Returns
        -------
        Scene
            Whatever happens: a combination that the library refuses, and a run that failed, come with their reason.
        """
        begin = time.perf_counter()
        d = self.problem.n_features
        nothing = np.full(d, np.nan)
        try:
            rule = RULES[settings.rule].make(settings.gamma, settings.epsilon)
            start = initialize(d, log_alpha=settings.log_alpha)
            # With a time to save: asked for the limit alone, a run may fly far past the time at which it has converged.
            run = _Followed(self.problem, rule, start, None, np.zeros(1), RTOL, RESIDUAL_TOL, "auto", self.max_steps).run()
            times, losses, betas = self._trajectory(rule, run)
        except ValueError as refusal:
            return Scene(settings, np.empty(0), np.empty(0), np.empty((0, d)), nothing, nothing, nothing, False, "refused",
                         str(refusal), math.nan, math.nan, False, time.perf_counter() - begin)
        fits = run.residual <= FITTED
        shift = float(np.mean(run.log_effective_alpha - run.log_alpha))
        predicted, plain = self._predicted(run, fits), self._plain(settings.log_alpha)
        return Scene(settings, times, losses, betas, run.beta, predicted, plain, run.success, str(run.status), run.message,
                     self._richness(run.beta), shift, fits, time.perf_counter() - begin)

    def _trajectory(self, rule: dln.Rule, run: dln.FlowResult) -> tuple[Array, Array, Array]:
        """Return four decades of time before the end of a run: its own steps, or more times if these are few."""
        if not run.t > 0:
            return np.zeros(1), np.array([run.loss]), run.beta[None, :]
        start = 1e-4 * run.t
        first = int(np.searchsorted(run.times, start, "right")) - 1
        if len(run.times) - first >= self.n_times:
            times, losses, betas = run.times[first:], run.losses[first:], run.betas[first:]
            share = (start - times[0]) / (times[1] - times[0])
            for column, at_start in ((times, start), (losses, losses[0] + share * (losses[1] - losses[0])),
                                     (betas, betas[0] + share * (betas[1] - betas[0]))):
                column[0] = at_start
            return times, losses, betas
        # Few steps, far apart, are quickly made again.
        times = np.geomspace(start, run.t, self.n_times)
        times[-1] = run.t
        again = dln.flow(self.problem, rule, log_alpha=run.log_alpha, t_end=run.t, save_at=times, rtol=RTOL,
                         max_steps=self.max_steps + self.n_times)
        losses, betas = np.full(self.n_times, np.nan), np.full((self.n_times, self.problem.n_features), np.nan)
        kept = len(again.times)
        losses[:kept], betas[:kept] = again.losses, again.betas
        return times, losses, betas

    def _predicted(self, run: dln.FlowResult, fits: bool) -> Array:
        try:
            best = dln.predict(run, at_time=not fits)
        except ValueError:  # the run has no effective initialisation: it diverged
            return np.full(self.problem.n_features, np.nan)
        return best.beta if best.success else np.full(self.problem.n_features, np.nan)

    def _plain(self, log_alpha: float) -> Array:
        # Kept: it stays as it is while the other sliders move.
        if self._kept_plain is None or self._kept_plain[0] != log_alpha:
            best = dln.minimize_potential(self.problem, log_alpha=log_alpha)
            beta = best.beta if best.success else np.full(self.problem.n_features, np.nan)
            self._kept_plain = log_alpha, beta
        return self._kept_plain[1]

    def _richness(self, beta: Array) -> float:
        if self.interpolators is None or not np.isfinite(beta).all():
            return math.nan
        sparse, dense = self.interpolators
        return 1 - float(np.linalg.norm(beta - sparse) / np.linalg.norm(dense - sparse))
