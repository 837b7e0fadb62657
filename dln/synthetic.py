"""Problems with a known answer: sparse regression on Gaussian data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .problem import Problem, shown

__all__ = ["sparse_regression"]

Seed = int | Sequence[int] | np.random.SeedSequence | np.random.BitGenerator | np.random.Generator | None


def sparse_regression(
    n_samples: int,
    n_features: int,
    n_nonzero: int,
    *,
    noise: float = 0.0,
    correlation: float = 0.0,
    column_mean: float = 0.0,
    rng: Seed = None,
) -> Problem:
    """Draw Gaussian data from a sparse predictor of unit norm.

    Parameters
    ----------
    n_samples, n_features : int
        The shape of X, at least 1 each.
    n_nonzero : int
        How many coefficients of the truth are not zero, from 0 to `n_features`; each is ``+-1/sqrt(n_nonzero)``, at
        random places with random signs.
    noise : float, optional
        Standard deviation of the Gaussian noise on y.
    correlation : float, optional
        Correlation of neighbouring columns, inside (-1, 1); columns i and j have correlation ``correlation**|i - j|``.
    column_mean : float, optional
        Mean of every column; the variance is 1.
    rng : seed or numpy.random.Generator, optional
        Source of randomness; the same seed gives the same X and truth whatever the noise.

    Returns
    -------
    Problem
        With the generating predictor in its attribute ``truth``, shape (d,).

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or is out of its range.

    References
    ----------
    The setting is that of Woodworth et al., "Kernel and rich regimes in overparametrized models", COLT 2020; columns
    with a mean are from Nacson et al., "Implicit bias of the step size in linear diagonal neural networks", ICML 2022.
    """
    n_samples = integer(n_samples, "n_samples", 1)
    n_features = integer(n_features, "n_features", 1)
    n_nonzero = integer(n_nonzero, "n_nonzero", 0, n_features)
    noise = real(noise, "noise")
    correlation = real(correlation, "correlation")
    column_mean = real(column_mean, "column_mean")
    if noise < 0:
        raise ValueError(f"noise must be at least 0, got {noise}: it is a standard deviation")
    if not -1 < correlation < 1:
        raise ValueError(f"correlation must be inside (-1, 1), got {correlation}")
    rng = np.random.default_rng(rng)
    X = rng.standard_normal((n_samples, n_features))
    for j in range(1, n_features if correlation else 0):
        X[:, j] = correlation * X[:, j - 1] + math.sqrt(1 - correlation**2) * X[:, j]
    X += column_mean
    truth = np.zeros(n_features)
    support = rng.choice(n_features, n_nonzero, replace=False)
    truth[support] = rng.choice([-1.0, 1.0], n_nonzero) / math.sqrt(max(n_nonzero, 1))
    y = X @ truth + noise * rng.standard_normal(n_samples)
    return Problem(X, y, name=f"sparse regression {n_samples}x{n_features}", truth=truth)


def integer(value: Any, name: str, low: int, high: int | None = None) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}: {shown(value)}")
    if value < low or (high is not None and value > high):
        allowed = f"at least {low}" if high is None else f"between {low} and {high}"
        raise ValueError(f"{name} must be {allowed}, got {value}")
    return int(value)


def real(value: Any, name: str) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a real number, got {type(value).__name__}: {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{name} is an integer too large for float64 (about 1.8e308)") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {number}")
    return number
