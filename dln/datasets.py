"""Real data that come with the package.

``data/diabetes.csv`` is the diabetes study of Efron, Hastie, Johnstone and Tibshirani, "Least Angle Regression", Annals
of Statistics 32 (2004), 407-499: ten baseline measurements of 442 patients (age, sex, body mass index, blood pressure
and six serum measurements s1 to s6) and the progression of the disease one year later. The file is the one that
scikit-learn distributes: raw measurements, not scaled.
"""

from __future__ import annotations

from importlib import resources
from itertools import combinations

import numpy as np

from .loading import load
from .problem import Array, Problem
from .synthetic import Seed, integer

__all__ = ["diabetes"]

N_PATIENTS = 442


def diabetes(n_samples: int = 30, rng: Seed = 0) -> Problem:
    """Load a sample of the diabetes study with quadratic features: 64 columns, more than the default rows.

    The ten measurements are standardised over all patients (mean 0, standard deviation 1); their 45 products and the 9
    squares (not of sex, which takes two values) are added, as by Efron et al. (2004); all 64 columns and the target are
    standardised again; then patients are drawn without replacement.

    Parameters
    ----------
    n_samples : int, optional
        How many patients, from 1 to 442; up to 64 of them can be interpolated.
    rng : seed or numpy.random.Generator, optional
        Chooses the patients.

    Returns
    -------
    Problem
        X of shape (n_samples, 64), y of shape (n_samples,), feature names such as "bmi", "bmi^2" and "age*sex".

    Raises
    ------
    TypeError, ValueError
        If `n_samples` is not an integer from 1 to 442.

    References
    ----------
    B. Efron, T. Hastie, I. Johnstone and R. Tibshirani, "Least Angle Regression", Annals of Statistics 32 (2004),
    407-499.
    """
    n_samples = integer(n_samples, "n_samples", 1, N_PATIENTS)
    with resources.as_file(resources.files("dln") / "data" / "diabetes.csv") as path:
        raw = load(path, target="target")
    names = list(raw.feature_names or ())
    base = _standardise(raw.X)
    squares = [j for j, name in enumerate(names) if name != "sex"]
    pairs = list(combinations(range(len(names)), 2))
    columns = [base, base[:, squares] ** 2, *(base[:, [i]] * base[:, [j]] for i, j in pairs)]
    names += [f"{names[j]}^2" for j in squares] + [f"{names[i]}*{names[j]}" for i, j in pairs]
    X, y = _standardise(np.hstack(columns)), _standardise(raw.y)
    patients = np.random.default_rng(rng).choice(N_PATIENTS, n_samples, replace=False)
    return Problem(X[patients], y[patients], name="diabetes", feature_names=names)


def _standardise(columns: Array) -> Array:
    return (columns - columns.mean(axis=0)) / columns.std(axis=0)
