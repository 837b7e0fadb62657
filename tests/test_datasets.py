"""The bundled data, against the library that distributes them and against their own definition."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from dln.datasets import diabetes


def raw():
    bunch = load_diabetes(scaled=False)
    return bunch.data, bunch.target, bunch.feature_names


def standardise(columns):
    return (columns - columns.mean(axis=0)) / columns.std(axis=0)


def test_bundled_csv_equals_the_scikit_learn_copy():
    from importlib import resources

    text = (resources.files("dln") / "data" / "diabetes.csv").read_text()
    data, target, names = raw()
    header, *lines = text.splitlines()
    assert header.split(",") == [*names, "target"]
    table = np.array([[float(cell) for cell in line.split(",")] for line in lines])
    assert np.array_equal(table, np.column_stack([data, target]))


def test_features_against_their_definition_from_the_scikit_learn_copy():
    data, target, names = raw()
    problem = diabetes(442)
    base = dict(zip(names, standardise(data).T, strict=True))
    assert problem.X.shape == (442, 64)
    assert len(set(problem.feature_names)) == 64
    assert "sex^2" not in problem.feature_names
    columns = []
    for name in problem.feature_names:
        factors = [name[:-2]] * 2 if name.endswith("^2") else name.split("*")
        columns.append(np.prod([base[factor] for factor in factors], axis=0))
    # Patients are drawn, so in another order: recognise each by its rounded row.
    rows = np.round(standardise(np.array(columns).T), 9) + 0.0
    expected = {tuple(row): value for row, value in zip(rows, target, strict=True)}
    found = [expected[tuple(row)] for row in np.round(problem.X, 9) + 0.0]
    np.testing.assert_allclose(problem.y, (np.array(found) - target.mean()) / target.std(), rtol=1e-12)
    np.testing.assert_allclose(problem.X.mean(axis=0), 0, atol=1e-13)
    np.testing.assert_allclose(problem.X.std(axis=0), 1, rtol=1e-13)


def test_default_sample_interpolates_and_more_than_64_patients_do_not():
    default = diabetes()
    assert (default.n_samples, default.n_features, default.name) == (30, 64, "diabetes")
    assert default.interpolates and default.row_space.rank == 30
    assert not diabetes(65).interpolates


def test_same_seed_same_patients_and_a_generator_is_welcome():
    assert np.array_equal(diabetes(12, rng=3).X, diabetes(12, rng=np.random.default_rng(3)).X)
    assert not np.array_equal(diabetes(12, rng=3).X, diabetes(12, rng=4).X)


@pytest.mark.parametrize(
    ("n_samples", "error", "message"),
    [
        (0, ValueError, r"n_samples must be between 1 and 442, got 0"),
        (443, ValueError, r"n_samples must be between 1 and 442, got 443"),
        (-1, ValueError, r"n_samples must be between 1 and 442, got -1"),
        (3.0, TypeError, r"n_samples must be an integer, got float: 3.0"),
        (True, TypeError, r"n_samples must be an integer, got bool"),
    ],
)
def test_bad_number_of_patients(n_samples, error, message):
    with pytest.raises(error, match=message):
        diabetes(n_samples)


def test_smallest_and_largest_sample():
    assert diabetes(1).X.shape == (1, 64)
    assert diabetes(442).X.shape == (442, 64)
