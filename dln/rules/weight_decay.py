"""Weight decay: p = g, q = lam, with lam constant, per coordinate, or a function of time."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from .._jit import njit
from .._linalg import residual, rmatvec
from .base import BETA, DEEP_RULE, RULE, Rule, number
from .deep import descend


@njit(RULE, allocates=False)
def _kernel(X, y, c, beta, size, params, r, coef, q, work_d, work_n):
    residual(X, beta, y, r)
    for i in range(r.shape[0]):
        coef[i] = c * r[i]
    for j in range(q.shape[0]):
        q[j] = params[j]


@njit(DEEP_RULE)
def _deep_kernel(X, y, c, depth, powers, params, r, rate, work_d, work_n):
    residual(X, powers[BETA], y, r)
    rmatvec(X, r, c, work_d[0])
    descend(depth, powers, work_d[0], rate)
    d = X.shape[1]
    for j in range(d):
        rate[j] -= 2.0 * params[j]
        rate[d + j] -= 2.0 * params[j]
    return 0


@dataclass(frozen=True, eq=False)
class WeightDecay(Rule):
    """Weight decay: gradient flow of ``L + sum_j lam_j (u_j^2 + v_j^2)``, so ``p = g, q = lam``.

    At depth D > 2 the effective initialisation is ``alpha exp(-2 int lam)``, too, but the limit is known to minimise the
    potential only if lam is the same for all coordinates.

    Parameters
    ----------
    strength : float, array_like (d,) or callable
        lam: a number, one per coordinate, or a function of the time t that returns either.  Negative values are allowed.
    breakpoints : sequence of float
        Times at which a function `strength` jumps.  The integrator stops exactly there; an undeclared jump is found too,
        by rejected steps, at greater cost.

    References
    ----------
    Jacobs & Burkholz (2024), Mask in the mirror: implicit sparsification.
    """

    strength: float | np.ndarray | Callable
    breakpoints: tuple = ()

    name = "weight-decay"
    kernel = staticmethod(_kernel)
    deep_kernel = staticmethod(_deep_kernel)
    deep_law = True
    decays = True

    def __post_init__(self):
        if not callable(self.strength):
            try:
                value = np.array(self.strength, dtype=float)  # a copy: the rule must not change from outside
            except (TypeError, ValueError) as error:
                raise TypeError(f"strength must be a number, a vector or a function of t, got {self.strength!r}") from error
            if value.ndim > 1:
                raise ValueError(f"strength must be a number, a vector (d,) or a function of t, got shape {value.shape}")
            if value.ndim == 1:
                value.flags.writeable = False
            object.__setattr__(self, "strength", value if value.ndim else number("strength", float(value)))
        if not isinstance(self.breakpoints, Iterable):
            raise TypeError(f"breakpoints must be a sequence of times, got {self.breakpoints!r}")
        points = tuple(number(f"breakpoints[{k}]", b) for k, b in enumerate(self.breakpoints))
        if list(points) != sorted(set(points)):
            raise ValueError(f"breakpoints must increase, got {points}")
        object.__setattr__(self, "breakpoints", points)

    @property
    def time_dependent(self):
        """True if the strength is a function of time."""
        return callable(self.strength)

    def parameters(self, n_features, t=0.0):
        """Return lam at time t, shape (d,)."""
        value = np.asarray(self.strength(t) if callable(self.strength) else self.strength, dtype=float)
        if value.shape not in ((), (n_features,)):
            raise ValueError(f"strength must be a number or have shape ({n_features},), one entry per column of X; "
                             f"got shape {value.shape}")
        if not np.isfinite(value).all():
            at = f" at t = {t:g}" if callable(self.strength) else ""
            where = "" if value.ndim == 0 else f"[{np.flatnonzero(~np.isfinite(value))[0]}]"
            raise ValueError(f"strength{where} must be finite, got {value[~np.isfinite(value)].flat[0]}{at}")
        return np.array(np.broadcast_to(value, (n_features,)))
