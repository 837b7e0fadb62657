"""Flooding: gradient descent above a level of the loss, gradient ascent below it."""

from dataclasses import dataclass

import numpy as np

from .._jit import njit
from .._linalg import residual
from .base import RULE, Rule, number


@njit(RULE, allocates=False)
def _kernel(X, y, c, beta, size, params, r, coef, q, work_d, work_n):
    level, per_sample = params[0], params[1]
    residual(X, beta, y, r)
    loss = 0.0
    for i in range(r.shape[0]):
        loss += 0.5 * c * r[i] * r[i]
    for i in range(r.shape[0]):
        excess = (0.25 * r[i] * r[i] if per_sample != 0.0 else loss) - level
        coef[i] = c * r[i] if excess > 0.0 else -(c * r[i]) if excess < 0.0 else 0.0


@dataclass(frozen=True)
class Flooding(Rule):
    """Flooding: train ``|L - level| + level`` instead of the loss, so ``p = sign(L - level) g, q = 0``.

    With mini-batches L is the loss of the batch.  Where L equals the level exactly the sign is 0 and nothing moves.  In
    discrete steps the loss hovers around the level and ``u v`` is multiplied by ``1 - 4 eta^2 g^2`` at every step, uphill and
    downhill alike: gradient regularization by finite differences (Karakida et al. 2023).

    Parameters
    ----------
    level : float
        The flood level b, at least 0.
    per_sample : bool
        Flood the loss ``r_i^2/4`` of every sample by itself: ``p = mean_i sign(L_i - level) g_i``.
    step : float, optional
        For `dln.flow` only, which does not chatter across the level: it follows gradient flow to the level and rests there (the
        sliding motion of Filippov 1988) or, given the step size eta of the discrete method, goes on by its averaged motion on
        the level set: ``p = lambda g + (eta/2) H[4 g (u^2 + v^2)], q = eta g^2``, lambda such that the loss stays.

    References
    ----------
    Ishida et al. (2020), Do we need zero training loss after achieving zero training error?
    """

    level: float
    per_sample: bool = False
    step: float | None = None

    name = "flooding"
    kernel = staticmethod(_kernel)
    shrinks = False
    settles = False
    uses_samples = True  # the loss includes the part that no weights can reach

    def __post_init__(self):
        object.__setattr__(self, "level", number("level", self.level, minimum=0.0))
        if self.step is not None:
            object.__setattr__(self, "step", number("step", self.step, minimum=0.0, strict=True))

    def parameters(self, n_features, t=0.0):
        """Return (level, per_sample)."""
        return np.array([self.level, float(self.per_sample)])

    def flooded_loss(self, problem, beta):
        """Return the loss that is trained, ``|L - level| + level``, or its mean over samples."""
        losses = (problem.X @ beta - problem.y) ** 2 / 4 if self.per_sample else problem.loss(beta)
        return float(np.mean(np.abs(losses - self.level) + self.level))
