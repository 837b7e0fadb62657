"""Random problems of every kind that a flow near the rich limit may meet, degenerate ones included."""

import numpy as np

from dln import Problem

KINDS = ("plain", "common offset", "neighbours correlated", "equal and opposite columns", "integers", "duplicate rows",
         "nearly of rank 3", "signs", "uncentred")


def hostile(seed, largest=(24, 90)):
    """Return a problem, its kind, and an initialisation ``{"log_alpha": ..., "log_ratio": ...}`` from e^-20 to e^-1e5."""
    rng = np.random.default_rng([17, seed])
    n = int(rng.integers(3, largest[0] + 1))
    d = int(rng.integers(max(3, n // 2), largest[1] + 1))
    kind = KINDS[rng.integers(len(KINDS))]
    X = rng.standard_normal((n, d))
    match kind:
        case "common offset":
            X = 0.3 * X + rng.standard_normal((n, 1))
        case "neighbours correlated":
            X = X @ np.linalg.cholesky(0.95 ** np.abs(np.subtract.outer(np.arange(d), np.arange(d)))).T
        case "equal and opposite columns":
            X[:, 1], X[:, 2] = X[:, 0], -X[:, 0]
        case "integers":
            X = np.round(X)
        case "duplicate rows":
            X[1] = X[0]
        case "nearly of rank 3":
            X = rng.standard_normal((n, 3)) @ rng.standard_normal((3, d)) + 0.01 * X
        case "signs":
            X = np.sign(X)
        case "uncentred":
            X += 2.0
    truth = np.zeros(d)
    active = int(rng.integers(1, d + 1))
    truth[:active] = rng.standard_normal(active)
    y = X @ truth + (rng.random() < 0.5) * 0.3 * rng.standard_normal(n)
    log_alpha = -np.exp(rng.uniform(np.log(20.0), np.log(1e5)))
    start = {"log_alpha": log_alpha if rng.random() < 0.7 else log_alpha * rng.uniform(0.8, 1.2, d)}
    if rng.random() < 0.3:
        start["log_ratio"] = rng.standard_normal(d)
    return Problem(X, y), kind, start
