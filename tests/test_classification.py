"""Two-class data and their separability, each verdict with a certificate that is checked here from the data alone."""

import copy
import math
import pickle

import numpy as np
import pytest
from scipy.optimize import linprog

import dln
from dln import Classification
from dln.classification import log_loss_of


def planted(n_samples, n_features, seed=0):
    """Data that a planted predictor separates."""
    rng = np.random.default_rng([n_samples, n_features, seed])
    X = rng.standard_normal((n_samples, n_features))
    labels = np.where(X @ rng.standard_normal(n_features) > 0, 1.0, -1.0)
    return Classification(X, labels)


def certify(problem):
    """Check the certificate of a verdict by arithmetic."""
    verdict = problem.separation
    assert verdict.decided
    if verdict.separable:
        assert problem.margin(verdict.beta) == pytest.approx(1, abs=1e-6) and verdict.weights is None
        return
    assert verdict.beta is None and np.all(verdict.weights >= 0) and verdict.weights.sum() == pytest.approx(1, abs=1e-12)
    combination, size = verdict.weights @ problem.Z, verdict.weights @ np.abs(problem.Z)
    assert np.max(np.abs(combination)) <= 1e-11 * np.max(size)


# Data -----------------------------------------------------------------------------------------------------------------


def test_what_is_kept():
    problem = Classification([[1, 2], [3, 4], [0, -1]], [1, -1, True], name="toy")
    np.testing.assert_array_equal(problem.Z, [[1, 2], [-3, -4], [0, -1]])
    assert (problem.n_samples, problem.n_features) == (3, 2)
    assert repr(problem) == "Classification(toy: 3 samples, 2 features)"
    for array in (problem.X, problem.labels, problem.Z):
        assert array.dtype == np.float64 and not array.flags.writeable
    np.testing.assert_array_equal(problem.margins([1, 0]), [1, -3, 0])
    assert problem.margin([1, 0]) == -3


def test_copies_and_pickles_stay_read_only():
    problem = planted(3, 4)
    for other in (copy.deepcopy(problem), pickle.loads(pickle.dumps(problem))):
        np.testing.assert_array_equal(other.Z, problem.Z)
        assert not other.Z.flags.writeable


@pytest.mark.parametrize(("X", "labels", "error", "words"), [
    ([[1.0], [2.0]], [1, 0], ValueError, r"labels\[1\] = 0: every label must be -1 or \+1; map two classes by np.where"),
    ([[1.0], [2.0]], [1, 2], ValueError, r"labels\[1\] = 2"),
    ([[1.0], [2.0]], [1, -1, 1], ValueError, r"labels has 3 values but X has shape \(2, 1\): give one label per row"),
    ([[1.0], [2.0]], ["a", "b"], TypeError, r"labels\[0\] = .*'a'.* is of type str_: every entry must be a real number"),
    ([[1.0], [np.nan]], [1, -1], ValueError, r"X\[1, 0\] is nan"),
    ([[1.0], [2.0]], [1, np.inf], ValueError, r"labels\[1\] is inf"),
    ([1.0, 2.0], [1, -1], ValueError, r"X must be 2-D"),
])
def test_bad_data_are_refused_in_one_line(X, labels, error, words):
    with pytest.raises(error, match=words) as caught:
        Classification(X, labels)
    assert "\n" not in str(caught.value)


def test_other_bad_arguments():
    with pytest.raises(TypeError, match="name must be a string or None, got int: 3"):
        Classification([[1.0]], [1], name=3)
    with pytest.raises(ValueError, match=r"beta has shape \(3,\): give one value per column of X, shape \(1,\)"):
        Classification([[1.0]], [1]).margins([1, 2, 3])
    with pytest.raises(ValueError, match="unknown loss 'logit'"):
        Classification([[1.0]], [1]).log_loss([1.0], "logit")


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
def test_log_loss_against_arithmetic_with_60_digits(loss):
    """Reference: mpmath, at margins where the loss underflows, is tiny, moderate and huge."""
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(60):
        for margins in ([1e6, 1e6 + 1], [800.0, 30.0], [41.0, 39.0], [0.3, -0.2, 1.0], [-900.0, 5.0]):
            terms = [mpmath.exp(-mpmath.mpf(m)) for m in margins]
            if loss == "logistic":
                terms = [mpmath.log1p(term) for term in terms]
            exact = float(mpmath.log(mpmath.fsum(terms) / len(margins)))
            assert log_loss_of(np.array(margins), loss) == pytest.approx(exact, rel=1e-14, abs=1e-15)


# Separability ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (3, 8), (20, 60), (30, 10), (60, 3)])
def test_planted_data_are_separable(shape):
    """Reference: the certificate, from the data alone."""
    problem = planted(*shape)
    assert problem.separation.separable
    certify(problem)


@pytest.mark.parametrize("seed", range(6))
def test_random_labels_against_a_plain_linear_programme(seed):
    """Reference: feasibility of Z b >= 1 as HiGHS decides it, unscaled; labels at random, N about 2 d, both verdicts occur."""
    rng = np.random.default_rng(seed)
    X, labels = rng.standard_normal((12, 6)), rng.choice([-1.0, 1.0], 12)
    problem = Classification(X, labels)
    plain = linprog(np.zeros(6), A_ub=-problem.Z, b_ub=-np.ones(12), bounds=(None, None), method="highs")
    assert problem.separation.separable == (plain.status == 0)
    certify(problem)


def test_both_verdicts_occur_among_those():
    verdicts = set()
    for seed in range(6):
        rng = np.random.default_rng(seed)
        verdicts.add(Classification(rng.standard_normal((12, 6)), rng.choice([-1.0, 1.0], 12)).separation.separable)
    assert verdicts == {True, False}


@pytest.mark.parametrize("name", ["contradiction", "zero row", "on a line", "zero data", "touching"])
def test_data_that_cannot_be_separated(name):
    """Reference: Farkas' certificate; among them data that a hyperplane touches (separable but for equality)."""
    X, labels = {
        "contradiction": ([[1.0, 2.0], [3.0, 1.0], [1.0, 2.0]], [1, 1, -1]),
        "zero row": ([[1.0, 2.0], [0.0, 0.0]], [1, 1]),
        "on a line": ([[1.0], [2.0], [3.0]], [1, -1, 1]),
        "zero data": (np.zeros((2, 3)), [1, -1]),
        "touching": ([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [1, -1, 1]),
    }[name]
    problem = Classification(X, labels)
    assert not problem.separation.separable
    certify(problem)
    assert problem.separation.message.startswith("not separable: a convex combination of the samples")
    assert repr(problem.separation).startswith("Separation(not separable")


@pytest.mark.parametrize("of_rows", [1.0, 1e-12, 1e12])
@pytest.mark.parametrize("of_columns", [1.0, 1e-12, 1e12])
def test_scaling_rows_and_columns_changes_no_verdict(of_rows, of_columns):
    """Reference: the unscaled data. An absolute tolerance would call tiny data touching."""
    rng = np.random.default_rng(1)
    rows, columns = of_rows ** rng.uniform(0, 1, 12), of_columns ** rng.uniform(0, 1, 6)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        X, labels = rng.standard_normal((12, 6)), rng.choice([-1.0, 1.0], 12)
        scaled = Classification(rows[:, None] * X * columns, labels)
        assert scaled.separation.separable == Classification(X, labels).separation.separable
        if scaled.separation.separable:
            assert scaled.margin(scaled.separation.beta) > 0


def test_a_narrow_gap_is_found():
    """Reference: the plane geometry of two points at 180 degrees less an angle: separable for every positive angle."""
    for angle in (1e-3, 1e-6, 1e-9):
        problem = Classification([[1.0, 0.0], [-math.cos(angle), math.sin(angle)]], [1, 1])
        assert problem.separation.separable, angle
        assert problem.margin(problem.separation.beta) > 0


def test_degenerate_data(degenerate):
    """Reference: the certificate, on every kind of degenerate data, labels by the sign of y."""
    _, X, y = degenerate
    problem = Classification(X, np.where(y > 0, 1, -1))
    certify(problem)


def test_the_verdict_is_computed_once():
    problem = planted(4, 6)
    assert problem.separation is problem.separation
    assert problem.separation.message == "separable: a predictor with all margins positive was found"


def test_runs_and_solvers_refuse_other_problems():
    regression = dln.Problem([[1.0]], [1.0])
    calls = (lambda: dln.margin_flow(regression, alpha=1.0), lambda: dln.maximum_margin(regression),
             lambda: dln.margin_descent(regression, step=0.1, n_steps=1, alpha=1.0))
    for call in calls:
        with pytest.raises(TypeError, match=r"problem must be a dln.Classification, got Problem; build one with"):
            call()
