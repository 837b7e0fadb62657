"""The ends of runs of the same data, as arrays over cells, and one cell of them as a run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..minimizer import predict
from ..problem import Problem
from ..result import EffectiveInitialization, Status
from ..rules import Rule

#: Codes of `Status` are its positions; beyond: no run at all, and a run that raised.
NOT_COMPUTED, ERROR = -1, 100
CODES = {status: code for code, status in enumerate(Status)}
WORDS = {NOT_COMPUTED: "not computed", **{code: str(status) for status, code in CODES.items()}, ERROR: "error"}
SUCCESS = tuple(CODES[status] for status in (Status.CONVERGED, Status.REACHED_T_END, Status.ALL_STEPS, Status.STATIONARY))


@dataclass(frozen=True, eq=False)
class CellRun(EffectiveInitialization):
    """One cell of a tile that was integrated in one piece: what a measure of the user, and `dln.predict`, may look at.

    Attributes
    ----------
    beta, log_u, log_v : ndarray (d,)
    log_effective_alpha, effective_log_ratio, effective_alpha, center : ndarray (d,)
        See `FlowResult`.
    log_alpha : ndarray (d,)
        Logarithm of the initial scale.
    loss, residual, t : float
    n_steps : int
    success : bool
    status : Status
    problem, rule, depth, exact_law
        What was integrated, and whether the law holds.
    """

    beta: np.ndarray
    log_u: np.ndarray
    log_v: np.ndarray
    log_effective_alphas: np.ndarray
    effective_log_ratios: np.ndarray
    log_alpha: np.ndarray
    loss: float
    residual: float
    t: float
    n_steps: int
    success: bool
    status: Status
    problem: Problem
    rule: Rule
    depth: float = field(default=2.0)
    exact_law: bool = field(default=True)

    @property
    def log_effective_alpha(self):
        """Logarithm of the effective initialisation, shape (d,)."""
        return self.log_effective_alphas

    @property
    def effective_log_ratio(self):
        """Logarithm of the ratio of u to v that the centre has, shape (d,)."""
        return self.effective_log_ratios


@dataclass(eq=False)
class Ends:
    """The ends of C runs of one problem.

    Attributes
    ----------
    problem : Problem
    depth : float
    log_alphas, betas, log_effective_alphas, effective_log_ratios, log_us, log_vs : ndarray (C, d)
        NaN where a run raised.
    losses, residuals, times, n_steps : ndarray (C,)
    codes : ndarray (C,)
        See `WORDS`.
    rules : list of Rule
    words : callable
        Gives the parameters of cell k in words.
    runs : list, optional
        The results of the runs, where they were made one by one.
    """

    problem: Problem
    depth: float
    log_alphas: np.ndarray
    betas: np.ndarray
    log_effective_alphas: np.ndarray
    effective_log_ratios: np.ndarray
    log_us: np.ndarray
    log_vs: np.ndarray
    losses: np.ndarray
    residuals: np.ndarray
    times: np.ndarray
    n_steps: np.ndarray
    codes: np.ndarray
    rules: list
    words: Callable[[int], str]
    runs: list | None = None
    _predictions: dict = field(default_factory=dict)

    def __len__(self):
        return len(self.codes)

    @cached_property
    def success(self):
        """Which runs did what was asked, shape (C,)."""
        return np.isin(self.codes, SUCCESS)

    @cached_property
    def gradients(self):
        """Gradients of the loss in beta, shape (C, d)."""
        X, y = self.problem.X, self.problem.y
        # Row by row, not as one product: a cell's digits must not depend on the size of its tile.
        return np.array([((X @ beta - y) @ X) / (2.0 * len(y)) for beta in self.betas]).reshape(self.betas.shape)

    def run(self, k):
        """Return the run of cell k."""
        if self.runs is not None:
            return self.runs[k]
        return CellRun(
            beta=self.betas[k], log_u=self.log_us[k], log_v=self.log_vs[k], log_effective_alphas=self.log_effective_alphas[k],
            effective_log_ratios=self.effective_log_ratios[k], log_alpha=self.log_alphas[k], loss=float(self.losses[k]),
            residual=float(self.residuals[k]), t=float(self.times[k]), n_steps=int(self.n_steps[k]),
            success=bool(self.success[k]), status=list(Status)[int(self.codes[k])], problem=self.problem, rule=self.rules[k],
            depth=self.depth)

    def prediction(self, k):
        """Return the minimiser that theory predicts for cell k, computed when first asked for; None where there is none."""
        if k not in self._predictions:
            try:
                self._predictions[k] = predict(self.run(k))
            except (ValueError, ArithmeticError, np.linalg.LinAlgError):  # no effective initialisation, or beyond the floats
                self._predictions[k] = None
        return self._predictions[k]
