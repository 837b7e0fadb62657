"""Orders of convergence, with an honest confidence band.

A quantity `D(h) = C h^p (1 + c1 h^a + c2 h^b + ...)` has local slopes that approach p only as h -> 0. A straight line
through the logarithms is therefore biased by the largest steps. The corrections are fitted along with the slope:

    log D = log C + p log h + c1 h^a + c2 h^b,

linear in its unknowns; the band of p is Student's, from the residuals of this fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from ._network import Array
from ._registry import Finding

__all__ = ["MAX_HALF_WIDTH", "Slope", "fit_slope", "slope_finding"]

CONFIDENCE = 0.99

#: A wider band would contain too much to say anything.
MAX_HALF_WIDTH = 0.05

#: No fit is believed beyond this: the corrections that it leaves out are of this size.
MIN_HALF_WIDTH = 1e-4


@dataclass(frozen=True)
class Slope:
    """A fitted order: its value, the half-width of its band, and the local slopes between neighbouring steps."""

    value: float
    half_width: float
    local: tuple[float, ...]

    def contains(self, order: float) -> bool:
        """Say whether the band contains an order."""
        return abs(self.value - order) <= self.half_width


def fit_slope(steps: Array, distances: Array, corrections: tuple[float, ...] = (1, 2), noise: float = 0.0) -> Slope:
    """Fit the order at which distances vanish with the step.

    Parameters
    ----------
    steps, distances : ndarray of shape (K,)
        Positive; K at least `len(corrections) + 4`.
    corrections : tuple of float
        Powers of the step in the relative corrections: (1, 2), or (2, 4) where symmetry leaves only even powers.
    noise : float
        Absolute error of a distance, by which the band is widened.

    Returns
    -------
    Slope

    Raises
    ------
    ValueError
        If there are too few steps or a distance is not positive and finite: no slope can be told.
    """
    needed = len(corrections) + 4
    if len(steps) < needed:
        raise ValueError(f"a slope with {len(corrections)} corrections needs {needed} steps, got {len(steps)}")
    if not (np.all(np.isfinite(distances)) and np.all(distances > 0)):
        raise ValueError("a slope needs positive finite distances: the two sides may be equal, or a run has failed")
    relative = steps / np.max(steps)
    columns = [np.ones_like(steps), np.log(relative), *(relative**power for power in corrections)]
    design = np.stack(columns, axis=1)
    logs = np.log(distances)
    pseudo_inverse = np.linalg.pinv(design)
    coefficients = pseudo_inverse @ logs
    freedom = len(steps) - design.shape[1]
    spread = float(np.sqrt(np.sum((logs - design @ coefficients) ** 2) / freedom))
    width = float(student.ppf((1 + CONFIDENCE) / 2, freedom)) * spread * float(np.linalg.norm(pseudo_inverse[1]))
    width += float(np.abs(pseudo_inverse[1]) @ (noise / distances)) + MIN_HALF_WIDTH
    local = tuple(float(x) for x in np.diff(logs) / np.diff(np.log(steps)))
    return Slope(float(coefficients[1]), width, local)


def slope_finding(steps: Array, distances: Mapping[str, Array], order: float, corrections: tuple[float, ...] = (1, 2),
                  noise: float = 0.0) -> Finding:
    """Compare fitted orders of several routes with the claimed one.

    Parameters
    ----------
    steps : ndarray of shape (K,)
    distances : mapping of str to ndarray of shape (K,)
        By route.
    order : float
        The claim: it must lie in the confidence band of every route, and no band may be wider than `MAX_HALF_WIDTH`.
    corrections, noise
        See `fit_slope`.

    Returns
    -------
    Finding
        Its discrepancy is how far the worst slope is from the claim, its tolerance the half-width of that slope's band.
    """
    slopes = {route: fit_slope(steps, values, corrections, noise) for route, values in distances.items()}
    passed = all(slope.contains(order) and slope.half_width <= MAX_HALF_WIDTH for slope in slopes.values())
    worst = max(slopes.values(), key=lambda slope: abs(slope.value - order) / slope.half_width)
    details: dict[str, Any] = {"claimed_order": order, "steps": [float(step) for step in steps]}
    for route, slope in slopes.items():
        details[route] = {"slope": slope.value, "half_width": slope.half_width, "local_slopes": list(slope.local),
                          "distances": [float(x) for x in distances[route]]}
    return Finding(abs(worst.value - order), min(worst.half_width, MAX_HALF_WIDTH), passed, details)
