"""Data that every room of the tests shares."""

import numpy as np
import pytest

SHAPES = {"N<d": (5, 9), "N=d": (6, 6), "N>d": (9, 5)}
DEFECTS = ("full rank", "duplicate rows", "equal and opposite columns", "zero column", "zero row", "rank 1")
SCALES = (1e-12, 1.0, 1e12)


def _degenerate(shape, defect):
    if defect == "1x1":
        return np.array([[2.0]]), np.array([-3.0])
    n_samples, n_features = SHAPES[shape]
    rng = np.random.default_rng([n_samples, n_features])
    X, y = rng.standard_normal((n_samples, n_features)), rng.standard_normal(n_samples)
    if defect == "duplicate rows":  # one pair agrees about y, the other does not
        X[1], y[1] = X[0], y[0]
        X[3] = X[2]
    elif defect == "equal and opposite columns":
        X[:, 1], X[:, 2] = X[:, 0], -X[:, 0]
    elif defect == "zero column":
        X[:, 1] = 0
    elif defect == "zero row":
        X[1] = 0
    elif defect == "rank 1":
        X = np.outer(X[:, 0], X[0])
    return X, y


DEGENERATE = [(shape, defect, scale) for scale in SCALES for shape in SHAPES for defect in DEFECTS]
DEGENERATE += [("N=d", "1x1", scale) for scale in SCALES]


@pytest.fixture(params=DEGENERATE, ids=lambda case: f"{case[0]}, {case[1]}, scale {case[2]:g}")
def degenerate(request):
    """Give ``(name, X, y)``, the same at every call: X and y both carry the scale, and y is generic.

    So duplicate rows, zero rows, rank 1 and N > d come with targets that no predictor fits.
    """
    shape, defect, scale = request.param
    X, y = _degenerate(shape, defect)
    return f"{shape}, {defect}, scale {scale:g}", scale * X, scale * y
