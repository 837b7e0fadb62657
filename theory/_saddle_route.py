"""The limit of small initialisation as a process of its own: from saddle to saddle, by non-negative least squares.

In the time `tau = t/log(1/alpha)` each coordinate has a slope `s_j = -int g_j dtau` between -1/2 and 1/2. The predictor is the
least-squares fit of the coordinates at their bounds, each with the sign of its bound; the slopes move with its residual, until
another one reaches its bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from ._network import Array
from ._raw_route import RouteError

__all__ = ["BOUND", "SaddleProcess", "saddle_process"]

BOUND = 0.5

#: A slope this near to its bound has reached it; a force this small relative to the largest is rounding.
ROUNDING = 1e-9


@dataclass(frozen=True)
class SaddleProcess:
    """The process, from one jump to the next.

    Attributes
    ----------
    times : ndarray of shape (K,)
        When each saddle is reached; the first at 0. The last one is for ever.
    betas, slopes, speeds : ndarray of shape (K, d)
        The saddles, the slopes there and then, and how fast these move until the next jump.
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


def saddle_process(X: Array, y: Array, signed: bool = True, most: int = 1000) -> SaddleProcess:
    """Follow the process to its end.

    Parameters
    ----------
    X : ndarray of shape (N, d)
    y : ndarray of shape (N,)
    signed : bool
        False, for mutants: coordinates may pass through 0, so that none leaves.
    most : int
        Budget of jumps.

    Raises
    ------
    RouteError
        If the budget is spent.
    """
    slope = np.zeros(X.shape[1])
    rows: list[tuple[float, Array, Array, Array]] = []
    tau = 0.0
    noise = 1e-12 * float(np.max(np.abs(X.T @ y))) / (2 * len(y))
    for _ in range(most):
        at = np.flatnonzero(np.abs(slope) == BOUND)
        signs = np.sign(slope[at])
        beta = np.zeros_like(slope)
        if at.size:
            A = X[:, at] * signs
            beta[at] = signs * (nnls(A, y)[0] if signed else np.linalg.lstsq(A, y)[0])
        speed = X.T @ (y - X @ beta) / (2 * len(y))
        speed[(beta != 0) | (np.abs(speed) <= noise)] = 0
        rows.append((tau, beta, slope, speed))
        moving = np.flatnonzero(speed)
        waits = (BOUND - np.sign(speed[moving]) * slope[moving]) / np.abs(speed[moving])
        if waits.size == 0:
            return SaddleProcess(*(np.array(column) for column in zip(*rows, strict=True)))
        tau += float(np.min(waits))
        slope = slope + float(np.min(waits)) * speed
        reached = np.abs(np.abs(slope) - BOUND) <= ROUNDING
        slope = np.where(reached, BOUND * np.sign(slope), slope)
    raise RouteError(f"the saddle process made {most} jumps without coming to an end")
