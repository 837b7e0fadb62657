"""Random problems that several test files share."""

import numpy as np

from dln import Problem

KINDS = ("noisy", "sparse", "correlated")


def data(kind, n_samples, n_features, seed=0):
    """Return a reproducible random problem of one of the KINDS."""
    rng = np.random.default_rng([KINDS.index(kind), n_samples, n_features, seed])
    X = rng.standard_normal((n_samples, n_features))
    if kind == "correlated":
        X = 0.3 * X + rng.standard_normal((n_samples, 1))
    truth = np.zeros(n_features)
    active = n_features if kind == "noisy" else max(1, n_samples // 5)
    truth[:active] = rng.standard_normal(active)
    y = X @ truth
    if kind != "sparse":
        y += 0.3 * rng.standard_normal(n_samples)
    return Problem(X, y)
