"""The parts of T20 against scikit-learn, brute force over signs, a closed form of the process, and the library."""

from itertools import product

import numpy as np
import pytest
from sklearn.linear_model import lasso_path as sklearn_path

import dln
import theory
from theory import lasso_path
from theory._lasso import lasso, objective
from theory._mean_limits import SCALES, in_units, log_route, plateaus, surplus, with_one_that_leaves
from theory._mutants import standard_problem
from theory._process_mean import saddle_process
from theory._setting import Data, Setting, default_data

GENERIC = [in_units(Setting(data)) for data in default_data(7)]


def leaving():
    found = [with_one_that_leaves(data) for data in GENERIC]
    assert None not in found
    return found


@pytest.mark.parametrize("shape", [(8, 5), (5, 12)])
def test_lasso_is_that_of_scikit_learn_along_the_whole_path(shape):
    """Reference: scikit-learn's path; its objective is 1/(2N)|y - X b|^2 + a |b|_1, so that a is twice our penalty."""
    rng = np.random.default_rng(4)
    X, y = rng.standard_normal(shape), rng.standard_normal(shape[0])
    largest = np.abs(X.T @ y).max() / (2 * shape[0])
    penalties = largest * np.geomspace(0.999, 1e-2, 25)
    _, betas, _ = sklearn_path(X, y, alphas=2 * penalties, tol=1e-14, max_iter=1_000_000)
    for penalty, theirs in zip(penalties, betas.T, strict=True):
        ours = lasso(X, y, penalty)
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
        assert objective(X, y, penalty, ours) <= objective(X, y, penalty, theirs) * (1 + 1e-14)
    assert not lasso(X, y, 1.001 * largest).any()


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_lasso_of_scaled_data(scale):
    """Reference: the Lasso of the data as they are."""
    X, y = GENERIC[0].X, GENERIC[0].y
    np.testing.assert_allclose(lasso(scale * X, y, scale * 0.05) * scale, lasso(X, y, 0.05), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(lasso(X, scale * y, scale * 0.05) / scale, lasso(X, y, 0.05), rtol=1e-10, atol=1e-12)


def test_saddles_are_minima_under_their_signs():
    """Reference: least squares on every subset of the coordinates at their bounds, the best one with the right signs."""
    for data, _ in leaving():
        process = saddle_process(data.X, data.y)
        for slopes, beta in zip(process.slopes, process.betas, strict=True):
            at = np.flatnonzero(np.abs(slopes) == 0.5)
            best = np.inf
            for chosen in product([False, True], repeat=at.size):
                places = at[list(chosen)]
                fit = np.linalg.lstsq(data.X[:, places], data.y)[0]
                if np.all(fit * slopes[places] >= 0):
                    best = min(best, float(np.sum((data.X[:, places] @ fit - data.y) ** 2)))
            assert np.sum((data.X @ beta - data.y) ** 2) == pytest.approx(best, rel=1e-9, abs=1e-20)
            assert np.all(beta * slopes >= 0) and not beta[np.abs(slopes) < 0.5].any()


def test_slopes_are_integrals_along_the_process():
    """Reference: s = -int grad L dtau, so that -s/tau is the gradient of the loss at the mean; between its bounds."""
    for data, _ in leaving():
        process = saddle_process(data.X, data.y)
        problem = dln.Problem(data.X, data.y)
        for tau in np.geomspace(0.5 * process.times[1], 2 * process.times[-1], 25):
            np.testing.assert_allclose(problem.gradient(process.mean(tau)), -process.slope(tau) / tau, atol=1e-10)
            assert np.abs(process.slope(tau)).max() <= 0.5 + 1e-12


def test_process_of_orthogonal_columns_in_closed_form():
    """Reference: coordinates that do not interact jump to y_j at tau = N/|y_j| with columns of length 1, in any order."""
    y = np.array([0.5, -2.0, 1.0])
    process = saddle_process(np.eye(3), y)
    np.testing.assert_allclose(process.times, [0, 1.5, 3.0, 6.0])
    np.testing.assert_allclose(process.betas[1:], [[0, -2, 0], [0, -2, 1], [0.5, -2, 1]], atol=1e-14)
    np.testing.assert_allclose(process.mean(4.0), [0, -2 * 2.5 / 4, 0.25])
    assert process.left(100.0) == []


def test_the_gap_is_bounded_by_what_the_rescaled_dual_leaves():
    """Reference: the inequality of the derivation: 0 < F(mean) - min F <= lam sum (|mean_j| - 2 s_j mean_j), only if some left.

    That X beta need not be off, though: for a good part of the times it is that of the Lasso, and only the l1 norm is larger.
    """
    rng = np.random.default_rng(1)
    fits = []
    for _ in range(60):
        X, y = rng.standard_normal((3, 6)), rng.standard_normal(3)
        process = saddle_process(X, y)
        for tau in plateaus(process):
            penalty, mean, slope = 1 / (2 * tau), process.mean(tau), process.slope(tau)
            solution = lasso(X, y, penalty)
            above = objective(X, y, penalty, mean) - objective(X, y, penalty, solution)
            bound = penalty * float(np.sum(np.abs(mean) - 2 * slope * mean))
            assert (bound > 1e-9) == bool(process.left(tau)) == (above > 1e-10)
            assert above <= bound + 1e-12
            if process.left(tau):
                fits.append(float(np.linalg.norm(X @ (mean - solution))))
    assert len(fits) > 10
    assert min(fits) < 1e-10 and max(fits) > 1e-3


def test_the_libraries_of_both_routes_agree_at_small_scales():
    """Reference: `dln.time_average` and SciPy's LSODA, at alpha from e^-320 down to e^-5120."""
    for data, tau in leaving()[:2]:
        for scale in SCALES[[0, -1]]:
            means, betas = log_route(data, -scale, np.array([tau / 2 * scale, tau * scale]))
            found = dln.time_average(dln.Problem(data.X, data.y), np.array([tau / 2, tau]) * scale, log_alpha=-scale)
            np.testing.assert_allclose(found.means, means, atol=1e-7)
            np.testing.assert_allclose(found.betas, betas, atol=1e-6)


def test_gaps_that_remain_are_those_of_the_process():
    """Reference: the mean at alpha = e^-1e5, by the library; its objective is that of the process, above the least."""
    for data, tau in leaving()[:3]:
        found = dln.time_average(dln.Problem(data.X, data.y), 1e5 * tau, log_alpha=-1e5)
        penalty = float(found.penalties[0])
        least = objective(data.X, data.y, penalty, lasso(data.X, data.y, penalty))
        gap = objective(data.X, data.y, penalty, found.means[0]) / least - 1
        assert gap > 1e-3
        assert gap == pytest.approx(surplus(data, saddle_process(data.X, data.y), tau, penalty), rel=1e-2)


@pytest.mark.parametrize("kind", ["more samples than features", "duplicate rows", "zero column", "opposite columns"])
def test_the_identity_holds_on_degenerate_data(kind):
    """Reference: SciPy in raw weights, in the check itself; what is not generic is not asked for a limit."""
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((4, 6)), rng.standard_normal(4)
    if kind == "more samples than features":
        X, y = rng.standard_normal((7, 3)), rng.standard_normal(7)
    elif kind == "duplicate rows":
        X[1] = X[0]
    elif kind == "zero column":
        X[:, 2] = 0
    else:
        X[:, 3] = -X[:, 2]
    check = theory.get("T20").check(Data(X, y, kind))
    assert check.passed, check.message


@pytest.mark.parametrize(("of_x", "of_y"), [(1e-6, 1.0), (1e6, 1e12)])
def test_scaling_the_data_changes_no_verdict(of_x, of_y):
    data = standard_problem()
    check = theory.get("T20").check(Data(of_x * data.X, of_y * data.y, "scaled"))
    assert check.passed, check.message


def test_parts_are_those_that_the_page_names():
    setting = Setting(standard_problem())
    assert [part.name for part in lasso_path.parts(setting)] == [
        "u0 = v0 = alpha", "alpha per coordinate, u0 != v0", "weight decay", "from saddle to saddle",
        "limit, all coordinates kept", "limit, a coordinate has left"]
