"""Time averages of the saddle process, and the coordinates that have left on the way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._network import Array
from ._saddle_route import Claim, process

__all__ = ["SaddleProcess", "saddle_process"]

BOUND = 0.5
ROUNDING = 1e-10


@dataclass(frozen=True)
class SaddleProcess:
    """The process, from one jump to the next.

    Attributes
    ----------
    times : ndarray of shape (K,)
        When each saddle is reached; the first at 0. The last one is for ever.
    betas, slopes, speeds : ndarray of shape (K, d)
        The saddles, `s = -int g dtau` there and then, and how fast these move until the next jump.
    """

    times: Array
    betas: Array
    slopes: Array
    speeds: Array

    @property
    def ends(self) -> Array:
        """When each saddle is left: for the last, infinity."""
        return np.append(self.times[1:], np.inf)

    def mean(self, tau: float) -> Array:
        """Give the mean of the predictor over [0, tau]."""
        return np.clip(np.minimum(self.ends, tau) - self.times, 0, None) @ self.betas / tau

    def slope(self, tau: float) -> Array:
        """Give the slopes at tau."""
        k = int(np.searchsorted(self.times, tau, side="right")) - 1
        return self.slopes[k] + (tau - self.times[k]) * self.speeds[k]

    def left(self, tau: float) -> list[int]:
        """List the coordinates that have been part of the predictor and are not at their bound at tau."""
        mean = self.mean(tau)
        off = np.abs(self.slope(tau) - BOUND * np.sign(mean)) > ROUNDING
        return np.flatnonzero(off & (np.abs(mean) > ROUNDING * np.max(np.abs(mean)))).tolist()


def saddle_process(X: Array, y: Array, signed: bool = True) -> SaddleProcess:
    """Follow the process to its end.

    Parameters
    ----------
    X : ndarray of shape (N, d)
    y : ndarray of shape (N,)
    signed : bool
        False, for mutants: coordinates may pass through 0, so that none leaves.

    Raises
    ------
    RouteError
        If it comes to none.
    """
    path = process(X, y, np.ones(X.shape[1]), Claim(bound=BOUND, rule="signs" if signed else "no signs"))
    return SaddleProcess(path.times, path.betas, path.places, path.rates)
