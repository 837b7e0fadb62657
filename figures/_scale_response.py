"""How the minimiser of the potential answers when every coordinate's scale is shifted by an amount of its own.

The minimiser is ``beta_j = 2 alpha_j^2 sinh(w_j)`` with ``w = 4 X^T nu``, the logarithms of u/v.  Let ``ell_j = log alpha_j``
move.  Differentiate, with ``S = diag(u^2 + v^2)``, and choose the motion of nu so that ``X beta`` stays:

    d beta = 2 (I - P) (beta d ell),    P = S X^T (X S X^T)^-1 X.

P leaves ``S X^T nu`` alone, and ``S w = beta (w coth w)``.  So shifts in proportion to ``w coth w`` move nothing; that holds
for finite shifts too (`neutral_shifts`), since a multiple of nu is as good a multiplier as nu.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

import dln

__all__ = ["Response", "neutral_shifts"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Response:
    """First order in the shifts of ``log alpha_j``, at a minimiser of the potential.

    Attributes
    ----------
    problem : Problem
    beta : ndarray (d,)
        The minimiser, ``dln.minimize_potential(problem, log_alpha=log_alpha).beta``.
    log_alpha : ndarray (d,)
        Above about -350, so that ``alpha^2`` is a float.
    """

    problem: dln.Problem
    beta: Array
    log_alpha: Array

    @cached_property
    def log_ratios(self) -> Array:
        """The logarithms ``w = log(u/v)`` of the trained network, shape (d,)."""
        return dln.potential.mirror(self.beta, log_alpha=self.log_alpha)

    @cached_property
    def fair_shares(self) -> Array:
        """The shifts that move nothing, ``w coth w``, shape (d,): 1 in the kernel regime, ``log(|beta|/alpha^2)`` when rich."""
        return _times_coth(self.log_ratios)

    @cached_property
    def _sizes(self) -> Array:
        return np.hypot(self.beta, 2 * np.exp(2 * self.log_alpha))

    def _off_tangent(self, slope: Array) -> Array:
        # (I - P)^T slope: what is left of it after its fit by rows of X, weighted by S.  Least squares rather than the normal
        # equations, whose condition number is the square.
        X, roots = self.problem.row_space.X, np.sqrt(self._sizes)
        return slope - np.linalg.lstsq((X * roots).T, roots * slope, rcond=None)[0] @ X

    def weights(self, slope: Array) -> Array:
        """Give ``h`` with ``d f = sum_j h_j d ell_j``, for a function f of beta whose gradient is `slope`.

        Parameters
        ----------
        slope : ndarray (d,)

        Returns
        -------
        ndarray (d,)
            Orthogonal to the fair shares.
        """
        return 2 * self.beta * self._off_tangent(slope)

    def motion(self, shifts: Array) -> Array:
        """Give ``d beta`` for the shifts ``d ell``, both of shape (d,)."""
        X, roots = self.problem.row_space.X, np.sqrt(self._sizes)
        pushed = 2 * self.beta * shifts
        # The shortest way back to X beta = y in the norm of the tangent kernel: minimise sum_j z_j^2/S_j with X z = X pushed.
        return pushed - roots * np.linalg.lstsq(X * roots, X @ pushed, rcond=None)[0]


def neutral_shifts(beta: Array, log_alpha: float | Array, stretch: float) -> Array:
    """Give shifts of ``log alpha_j`` after which the minimiser is the same, its multipliers being ``stretch`` times as large.

    Parameters
    ----------
    beta : ndarray (d,)
        The minimiser.
    log_alpha : float or ndarray (d,)
    stretch : float
        Positive.  Above 1 all scales fall, in the rich regime by ``(stretch - 1) w/2``.

    Returns
    -------
    ndarray (d,)
        ``log(sinh w/sinh(stretch w))/2``, exact for any stretch.
    """
    if not (math.isfinite(stretch) and stretch > 0):
        raise ValueError(f"stretch must be positive and finite, got {stretch}")
    w = np.abs(dln.potential.mirror(beta, log_alpha=log_alpha))
    return 0.5 * (_log_sinh_over(w) - _log_sinh_over(stretch * w) - math.log(stretch))


def _log_sinh_over(w: Array) -> Array:
    """Return ``log(sinh(w)/w)`` for w >= 0 without overflow; 0 at 0."""
    safe = np.where(w > 1e-4, w, 1.0)
    return np.where(w > 1e-4, safe + np.log(-np.expm1(-2 * safe) / (2 * safe)), w**2 / 6)


def _times_coth(w: Array) -> Array:
    safe = np.where(np.abs(w) > 1e-4, w, 1.0)
    return np.where(np.abs(w) > 1e-4, safe / np.tanh(safe), 1 + w**2 / 3)
