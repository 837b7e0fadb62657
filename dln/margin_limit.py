"""The direction that training on two classes tends to: maximum margins of the potential, with multipliers that never fall.

Divided by the margin, training is rate-independent: as the margin grows, a multiplier grows while its constraint is tight and
otherwise stays. So from one margin to the next, a little larger, beta is projected: it minimises the Bregman divergence
from where it was. Where no multiplier has to fall, all these projections lead to one minimiser, that of the potential.
"""

import math
from itertools import pairwise

import numpy as np

from .classification import checked_classification
from .maximum_margin import MarginMaximizer, _ActiveSet, checked_scale, maximum_margin
from .network import difference_of_squares
from .potential import bregman_divergence

__all__ = ["margin_limit"]

_BEGIN = 100.0  # mu in units of the predictor: above, the potential is a square and all multipliers grow in proportion
_DEEPEST = 24  # halvings of a step in which a sample leaves the support


def margin_limit(problem, *, mu=None, log_mu=None, log_ratio=None, n_points=40):
    """Return the limit of ``beta/margin`` in training, as alpha and the margin grow at fixed ``mu = alpha^2/margin``.

    Parameters
    ----------
    problem : Classification
        The data.
    mu, log_mu : float or array_like (d,), optional
        ``alpha^2/margin`` or its logarithm; exactly one.
    log_ratio : float or array_like (d,), optional
        Shape ``log(u0/v0)`` of the initial weights.
    n_points : int
        Projections on the way from large mu, at least 1; a step in which a sample leaves the support is halved until that is
        located.  A sample that leaves and returns within one step is not seen: more points tell.

    Returns
    -------
    MarginMaximizer
        With the multipliers of training as `dual`.  Its `duality_gap`, ``dual.(Z b - 1)`` relative to the divergence, is 0
        where the limit is ``maximum_margin(problem, "potential", ...)``, and says how far it is from that elsewhere;
        `success` refers to the projections.

    Raises
    ------
    ValueError, TypeError
        If an argument is bad.

    References
    ----------
    Moroshko et al. (2020) for the case in which no multiplier has to fall.
    """
    checked_classification(problem)
    scale = checked_scale(problem, mu, log_mu, log_ratio)
    if isinstance(n_points, bool) or not isinstance(n_points, (int, np.integer)) or n_points < 1:
        raise ValueError(f"n_points must be a positive integer, got {n_points!r}")
    wide = maximum_margin(problem, "l2")
    if wide.status == "not separable":
        return maximum_margin(problem, "potential", log_mu=scale.log_alpha, log_ratio=scale.log_ratio)
    start = math.log(_BEGIN) + math.log(float(np.max(np.abs(wide.beta))))
    fall = max(0.0, start - float(np.min(scale.log_alpha)))
    path = _Path(problem.Z, scale, n_points)
    return path.follow(problem, fall)


class _Path:
    """Projections at growing margins: the state is nu, and the support of the last growth."""

    def __init__(self, Z, scale, n_points):
        self.Z, self.log_mu, self.log_ratio, self.n_points = Z, scale.log_alpha, scale.log_ratio, n_points
        self.nu, self.support = np.zeros(Z.shape[0]), np.zeros(Z.shape[0], dtype=bool)
        self.n_iterations, self.residual, self.gap = 0, 0.0, 0.0

    def project(self, raised):
        """Return (b, growth of the multipliers) at ``log mu + raised``."""
        b, growth, objective, dual_objective, count = _ActiveSet(
            self.Z, 0.5 * (self.log_mu + raised), self.log_ratio + 4.0 * (self.nu @ self.Z)).solve()
        self.n_iterations += count
        return b, growth, abs(objective - dual_objective)

    def advance(self, high, low, depth):
        """Go from ``raised = high`` to `low`, halving the step while a sample leaves the support within it."""
        b, growth, gap = self.project(low)
        grown = growth > 1e-10 * np.max(growth, initial=0.0)
        if depth < _DEEPEST and np.any(self.support & ~grown):
            middle = 0.5 * (high + low)
            self.advance(high, middle, depth + 1)
            return self.advance(middle, low, depth + 1)
        self.nu += growth
        self.support = grown
        self.residual = max(self.residual, 1.0 - float(np.min(self.Z @ b)))
        self.gap += gap
        return b

    def follow(self, problem, fall):
        """Go all the way and return the result."""
        points = np.linspace(fall, 0.0, self.n_points + 1) if fall > 0.0 else np.zeros(1)
        b = self.advance(points[0], points[0], _DEEPEST)
        for high, low in pairwise(points):
            b = self.advance(high, low, 0)
        log_alpha = 0.5 * self.log_mu
        center = difference_of_squares(self.log_mu, self.log_ratio)
        objective = bregman_divergence(b, center, log_alpha=log_alpha)
        excess = float(self.nu @ (self.Z @ b - 1.0))
        gap = abs(excess) / objective if objective > 0.0 else 0.0
        # Of a short projection the divergence is small: its gap counts beside the whole.
        good = self.residual <= 1e-10 and self.gap <= 1e-9 * objective
        same = gap <= 1e-9
        message = (f"violation {self.residual:.1e} after {self.n_iterations} Newton steps; "
                   + ("it is the maximum margin of the potential" if same else
                      f"it is not the maximum margin of the potential (gap {gap:.1e}): a multiplier would have to fall"))
        support = np.flatnonzero(self.nu > 1e-12 * np.max(self.nu, initial=0.0))
        return MarginMaximizer(b, self.nu, support, objective, max(0.0, self.residual), gap, "path", good,
                               "followed" if good else "not certified", message, self.n_iterations)
