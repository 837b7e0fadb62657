"""The Lasso and its path, against scikit-learn, closed forms and conditions of optimality."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
from random_data import data
from sklearn import linear_model

import dln
from dln import LassoPath, Problem, basis_pursuit, lasso, lasso_path

FAMILIES = ("fewer samples", "more samples", "correlated", "integers", "signs", "repeated", "low rank", "noisy")


def draw(family, seed):
    """Return a random problem with generic or integer targets."""
    rng = np.random.default_rng([100 + FAMILIES.index(family), seed])
    n, d = sorted(rng.integers(2, 30, 2))
    if family in ("more samples", "noisy"):
        n, d = d + 1, n
    X = rng.standard_normal((n, d))
    if family == "correlated":
        X = 0.1 * X + np.sqrt(0.99) * rng.standard_normal((n, 1))
    elif family in ("integers", "signs"):
        X = rng.integers(-2, 3, (n, d)).astype(float) if family == "integers" else rng.choice([-1.0, 1.0], (n, d))
        return Problem(X, rng.integers(-3, 4, n))
    elif family == "repeated":
        X = X[rng.integers(0, n, n)][:, rng.integers(0, d, d)] * rng.choice([-1.0, 1.0], d)
    elif family == "low rank":
        X = X[:, : 1 + n // 2] @ rng.standard_normal((min(d, 1 + n // 2), d))
    return Problem(X, X @ (rng.standard_normal(d) * (rng.random(d) < 0.3)) + rng.standard_normal(n))


def objective(problem, beta, penalty, weights=1.0):
    return problem.loss(beta) + penalty * float(np.sum(weights * np.abs(beta)))


def demand_optimal(problem, beta, penalty, weights, tolerance=1e-11):
    """Demand that minus the gradient is in penalty times weights times the subdifferential, with room for rounding."""
    slope = problem.X.T @ (problem.y - problem.X @ beta) / (2 * problem.n_samples)
    bound = penalty * weights
    room = tolerance * (np.max(bound) + np.max(np.abs(problem.X)) * np.max(np.abs(problem.y)))
    assert np.all(np.abs(slope) <= bound + room)
    support = np.abs(beta) > 1e-13 * np.max(np.abs(beta))  # where ties end, an entry may be 0 but for rounding
    assert np.all(np.abs(slope - np.sign(beta) * bound)[support] <= room)


@pytest.mark.parametrize("family", FAMILIES)
def test_conditions_of_optimality_at_the_knots_and_between(family):
    # Reference: KKT of the convex problem; 200 random problems in all.
    for seed in range(25):
        problem = draw(family, seed)
        weights = np.exp(np.random.default_rng(seed).uniform(-1, 1, problem.n_features)) if seed % 3 == 0 else np.ones(
            problem.n_features)
        path = lasso_path(problem, weights)
        assert path.success and path.duality_gap <= 1e-12, (seed, path.message)
        assert np.all(np.diff(path.penalties) <= 0.0) and path.penalties[-1] == 0.0
        between = 0.5 * (path.penalties[:-1] + path.penalties[1:])
        for penalty, beta in zip(np.concatenate([path.penalties, between]), [*path.betas, *path.at(between)], strict=True):
            demand_optimal(problem, beta, penalty, weights)
        for beta, places, signs in zip(path.betas, path.active, path.signs, strict=True):
            assert np.all(beta[places] * signs >= -1e-13 * np.max(np.abs(path.betas)))
            assert not np.delete(beta, places).any()
        assert np.max(np.abs(path.duals @ problem.X) / weights) <= 1.0 + 1e-10
        np.testing.assert_array_equal(path.at(path.penalties[0] * 1.5), np.zeros(problem.n_features))


@pytest.mark.parametrize("family", FAMILIES)
def test_one_penalty_against_the_path(family):
    # Reference: the path; where columns are dependent, compare objectives and predictions.
    for seed in range(8):
        problem = draw(family, seed)
        path = lasso_path(problem)
        if len(path.penalties) == 1:
            continue
        for share in (0.9, 0.3, 1e-2, 1e-5):
            penalty = share * path.penalties[0]
            best = lasso(problem, penalty)
            assert best.success and best.duality_gap <= 1e-12, (seed, share, best.message)
            assert best.objective == pytest.approx(objective(problem, path.at(penalty), penalty), rel=1e-12)
            np.testing.assert_allclose(problem.X @ best.beta, problem.X @ path.at(penalty), rtol=0,
                                       atol=1e-11 * np.max(np.abs(problem.y)))
            demand_optimal(problem, best.beta, penalty, 1.0)
            assert np.max(np.abs(problem.X.T @ best.dual)) <= 1.0 + 1e-10


@pytest.mark.parametrize(("n", "d"), [(30, 12), (20, 40)])
def test_against_scikit_learn(n, d):
    # Reference: coordinate descent of scikit-learn; its objective is |y - X b|^2/(2 N) + a |b|_1, so a = 2 penalty.
    problem = data("noisy", n, d)
    path = lasso_path(problem)
    penalties = path.penalties[0] * np.array([0.8, 0.5, 0.2, 0.1])
    for penalty, beta in zip(penalties, path.at(penalties), strict=True):
        model = linear_model.Lasso(alpha=2.0 * penalty, fit_intercept=False, tol=1e-14, max_iter=10**6)
        outside = model.fit(problem.X, problem.y).coef_
        np.testing.assert_allclose(beta, outside, rtol=0, atol=1e-6 * np.max(np.abs(outside)))
        best = lasso(problem, penalty)
        assert best.objective <= objective(problem, outside, penalty) * (1.0 + 1e-14)
        np.testing.assert_allclose(best.beta, beta, rtol=0, atol=1e-12 * np.max(np.abs(beta)))
    _, outside, _ = linear_model.lasso_path(problem.X, problem.y, alphas=2.0 * penalties, tol=1e-14, max_iter=10**6)
    np.testing.assert_allclose(path.at(penalties), outside.T, rtol=0, atol=1e-6 * np.max(np.abs(outside)))


def test_knots_against_least_angle_regression():
    # Reference: scikit-learn's LARS with the Lasso modification; its alphas are |X^T r|/N, so 2 penalty.
    problem = data("noisy", 15, 30)
    path = lasso_path(problem)
    alphas, _, betas = linear_model.lars_path(problem.X, problem.y, method="lasso")
    assert np.count_nonzero(path.betas[-1]) == 15
    np.testing.assert_allclose(path.at(0.5 * alphas[:-1]), betas.T[:-1], rtol=0, atol=1e-9)
    knots = path.penalties[path.penalties > 1e-3 * path.penalties[0]]
    assert np.all(np.min(np.abs(2.0 * knots[:, None] - alphas), axis=1) <= 1e-10 * alphas[0])


@pytest.mark.parametrize("weighted", [False, True])
def test_orthonormal_columns_are_thresholded(weighted):
    # Reference: closed form: soft threshold of X^T y at 2 N penalty w.
    rng = np.random.default_rng(0)
    X, y = np.linalg.qr(rng.standard_normal((12, 7)))[0], rng.standard_normal(12)
    w = np.exp(rng.uniform(-1, 1, 7)) if weighted else np.ones(7)
    problem = Problem(X, y)
    path = lasso_path(problem, w)
    c = X.T @ y
    np.testing.assert_allclose(path.penalties, [*sorted(np.abs(c) / w / 24, reverse=True), 0.0], rtol=1e-13)
    for penalty in (0.03, 0.01, 0.001):
        exact = np.sign(c) * np.maximum(np.abs(c) - 24 * penalty * w, 0.0)
        np.testing.assert_allclose(path.at(penalty), exact, rtol=0, atol=1e-14)
        np.testing.assert_allclose(lasso(problem, penalty, w).beta, exact, rtol=0, atol=1e-14)


def test_orthogonal_columns_that_all_tie():
    # Reference: closed form: a Hadamard matrix, whose columns all reach their bound at once.
    X = np.array([[1.0]])
    for _ in range(4):
        X = np.block([[X, X], [X, -X]])
    signs = np.random.default_rng(1).choice([-1.0, 1.0], 16)
    path = lasso_path(Problem(X, X @ signs))
    np.testing.assert_allclose(path.penalties, [0.5, 0.0], rtol=1e-14)
    np.testing.assert_allclose(path.at([0.5, 0.25, 0.0]), np.outer([0.0, 0.5, 1.0], signs), rtol=0, atol=1e-14)


def test_a_coordinate_that_leaves_and_one_that_returns():
    # Reference: conditions of optimality at all knots; the signs of the path's own betas.
    problem = draw("correlated", 3)
    for seed in range(40):
        problem = draw("correlated", seed)
        path = lasso_path(problem)
        present = path.betas != 0.0
        left = present[:-1] & ~present[1:]
        flips = (path.betas[:-1] * path.betas[1:]) < 0.0
        assert not flips.any()  # a sign changes through 0 at a knot
        if left.any():
            return
    raise AssertionError("no coordinate left in forty paths")


def test_the_path_ends_at_the_least_l1_norm(degenerate):
    # Reference: basis_pursuit; the normal equations; a path of degenerate data is one as well.
    name, X, y = degenerate
    problem = Problem(X, y)
    path, best = lasso_path(problem), basis_pursuit(problem)
    assert path.success, (name, path.message)
    assert np.sum(np.abs(path.betas[-1])) == pytest.approx(best.objective, rel=1e-12)
    assert np.max(np.abs(X.T @ (X @ path.betas[-1] - y))) <= 1e-12 * np.linalg.norm(X, 2) * np.linalg.norm(y)
    middle = lasso(problem, 0.4 * path.penalties[0])
    assert middle.success and middle.duality_gap <= 1e-12
    assert ("least squares" in middle.message) == (not problem.interpolates)
    assert not path.betas[:, ~X.any(axis=0)].any()


@pytest.mark.parametrize(("x", "y"), [(1e-12, 1.0), (1.0, 1e12), (1e12, 1e12), (1e-100, 1e-60), (1e60, 1e90)])
def test_scales_of_the_data(x, y):
    # Reference: homogeneity: penalties scale by x y, betas by y/x.
    for problem in (draw("fewer samples", 1), draw("integers", 2), draw("noisy", 3)):
        one, other = lasso_path(problem), lasso_path(Problem(x * problem.X, y * problem.y))
        assert other.success and len(other.penalties) == len(one.penalties)
        np.testing.assert_allclose(other.penalties / x / y, one.penalties, rtol=1e-10, atol=1e-13 * one.penalties[0])
        np.testing.assert_allclose(other.betas * (x / y), one.betas, rtol=0, atol=1e-10 * np.max(np.abs(one.betas)))
        best = lasso(Problem(x * problem.X, y * problem.y), 0.1 * one.penalties[0] * x * y)
        np.testing.assert_allclose(best.beta * (x / y), one.at(0.1 * one.penalties[0]), rtol=0,
                                   atol=1e-10 * np.max(np.abs(one.betas)))
        assert best.success


def test_long_paths_go_on_after_each_pause():
    # Reference: the certificate at every knot; more knots than fit in one call of the compiled loop.
    rng = np.random.default_rng(2)
    path = lasso_path(Problem(rng.standard_normal((60, 200)), rng.standard_normal(60)))
    assert len(path.penalties) > 80 and path.success
    assert np.count_nonzero(path.betas[-1]) == 60


def test_a_path_that_is_caught_says_so(monkeypatch):
    # Reference: what is known of it: its first knots.
    monkeypatch.setattr("dln._l1.MOST_KNOTS", (0, 0))
    monkeypatch.setattr("dln._l1._KNOTS_AT_ONCE", 5)
    problem = draw("fewer samples", 1)
    assert lasso_path(problem).success  # pairs of floats go on where the homotopy is caught
    monkeypatch.setattr("dln._lasso_exact.least_squares", lambda *_: None)
    path = lasso_path(problem)
    assert not path.success and path.status == "caught" and path.penalties[-1] > 0.0
    assert "certified down to penalty" in path.message
    with pytest.raises(ValueError, match=r"^penalty must be a number or 1-D, finite and at least .*; got 0\.0$"):
        path.at(0.0)
    best = lasso(problem, 1e-9 * path.penalties[0])
    assert not best.success and best.status == "not certified"


def test_nothing_to_fit():
    # Reference: y = 0 or X = 0: the path is one point.
    for X, y in (([[1.0, 2.0]], [0.0]), ([[0.0, 0.0]], [1.0]), (np.zeros((3, 2)), np.zeros(3))):
        path = lasso_path(Problem(X, y))
        assert path.success and path.penalties.tolist() == [0.0] and not path.betas.any()
        assert path.at(0.3).tolist() == [0.0, 0.0] and path.at([0.0, 1.0]).shape == (2, 2)
        best = lasso(Problem(X, y), 0.5)
        assert best.success and not best.beta.any() and best.dual.shape == (len(y),)


def test_penalties_above_the_largest_leave_nothing():
    # Reference: |X^T y|_max/(2 N), from where on beta is 0.
    problem = data("noisy", 6, 9)
    largest = np.max(np.abs(problem.X.T @ problem.y)) / 12
    assert lasso_path(problem).penalties[0] == pytest.approx(largest, rel=1e-14)
    best = lasso(problem, 1.001 * largest)
    assert best.success and not best.beta.any() and best.objective == pytest.approx(problem.loss(np.zeros(9)), rel=1e-14)
    assert lasso(problem, 0.999 * largest).beta.any()


def test_bad_arguments_are_named():
    # Reference: the messages.
    problem = Problem([[1.0, 2.0]], [1.0])
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=rf"^penalty must be positive and finite, got {bad}; in the limit 0 use dln"):
            lasso(problem, bad)
    with pytest.raises(TypeError, match=r"^penalty must be a number, got 'much'$"):
        lasso(problem, "much")
    with pytest.raises(ValueError, match=r"^weights must have shape \(2,\)"):
        lasso(problem, 1.0, weights=[1.0])
    with pytest.raises(TypeError, match=r"^problem must be a dln\.Problem"):
        lasso_path(np.eye(2))
    path = lasso_path(problem)
    for bad in (-1.0, np.nan, [[1.0]]):
        with pytest.raises(ValueError, match=r"^penalty must be a number or 1-D, finite and at least 0; got"):
            path.at(bad)
    assert isinstance(path, LassoPath) and repr(path).startswith("LassoPath(optimal: 2 knots, penalty from 1 to 0")
    assert dln.lasso is lasso and dln.lasso_path is lasso_path


def test_page_prints_what_it_shows():
    # Reference: the page itself.
    page = (Path(__file__).resolve().parents[1] / "docs" / "sparse.md").read_text(encoding="utf-8")
    names = {"__name__": "page"}
    codes, shown = (re.findall(rf"^```{language}\n(.*?)^```$", page, re.M | re.S) for language in ("python", "text"))
    assert codes
    for code, text in zip(codes, shown, strict=True):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, "sparse.md", "exec"), names)
        assert printed.getvalue() == text
