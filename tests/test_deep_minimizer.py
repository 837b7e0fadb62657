"""Minimisers of the potential of depth D > 2: certificates, and solvers and flows that share no code with them."""

import numpy as np
import pytest
from scipy.optimize import minimize

import dln
from dln import deep_potential, potential


def relative(a, b):
    return np.linalg.norm(np.asarray(a) - b) / np.linalg.norm(b)


@pytest.mark.parametrize("log_alpha", [-690.0, -100.0, -20.0, -7.0, -3.0, -1.0, 0.0, 2.0, 23.0])
@pytest.mark.parametrize("depth", [2.1, 3.0, 4.5])
def test_certificates_at_every_scale(depth, log_alpha):
    # Reference: weak duality, from 1e-300 to 1e10.  Measured: residual 7e-16, gap 5e-14.
    problem = dln.sparse_regression(20, 100, 5, rng=0)
    best = dln.minimize_potential(problem, depth=depth, log_alpha=log_alpha)
    assert best.success, best.message
    assert best.residual <= 1e-13 and best.duality_gap <= 1e-12
    assert np.linalg.norm(problem.X @ best.beta - problem.y) <= 1e-12 * np.linalg.norm(problem.y)


@pytest.mark.parametrize("depth", [2.4, 3.0, 5.0])
@pytest.mark.parametrize("shape", [False, True])
def test_the_conditions_of_optimality_hold(depth, shape):
    # Reference: grad phi(beta) - grad phi(center) = X^T dual, with the gradient of `dln.potential`, and X beta = y.
    rng = np.random.default_rng(3)
    problem = dln.sparse_regression(12, 30, 3, rng=1)
    log_alpha, ratio = rng.uniform(-1.5, 0.5, 30), 0.4 * rng.standard_normal(30) if shape else np.zeros(30)
    best = dln.minimize_potential(problem, depth=depth, log_alpha=log_alpha, log_ratio=ratio)
    center = deep_potential.predictor(ratio, log_alpha=log_alpha, depth=depth)
    slope = (potential.gradient(best.beta, log_alpha=log_alpha, depth=depth)
             - potential.gradient(center, log_alpha=log_alpha, depth=depth))
    np.testing.assert_allclose(problem.X.T @ best.dual, slope, rtol=0, atol=1e-12 * np.abs(slope).max())
    by_center = dln.minimize_potential(problem, depth=depth, log_alpha=log_alpha, center=center)
    np.testing.assert_allclose(by_center.beta, best.beta, rtol=0, atol=1e-11 * np.abs(best.beta).max())


@pytest.mark.parametrize("depth", [2.5, 3.0, 4.0])
def test_a_general_solver_agrees(depth):
    # Reference: SciPy's trust-constr on the potential itself.
    problem = dln.sparse_regression(4, 8, 2, rng=5)
    log_alpha = np.log(0.6)
    best = dln.minimize_potential(problem, depth=depth, log_alpha=log_alpha)
    found = minimize(lambda b: potential.value(b, log_alpha=log_alpha, depth=depth), np.linalg.pinv(problem.X) @ problem.y,
                     jac=lambda b: potential.gradient(b, log_alpha=log_alpha, depth=depth), method="SLSQP",
                     constraints={"type": "eq", "fun": lambda b: problem.X @ b - problem.y, "jac": lambda b: problem.X},
                     options={"ftol": 1e-15, "maxiter": 500})
    assert relative(best.beta, found.x) <= 1e-6
    assert best.objective == pytest.approx(found.fun, rel=1e-11)


RUNS = [(dln.GradientFlow(), 3.0, 0.0), (dln.GradientFlow(), 2.6, 0.4), (dln.GradientFlow(), 4.0, 0.3),
        (dln.WeightDecay(lambda t: 0.3 * np.exp(-t)), 3.0, 0.2), (dln.WeightDecay(0.01), 3.5, 0.0)]


@pytest.mark.parametrize(("rule", "depth", "shape"), RUNS)
def test_flows_minimise_it_at_every_time(rule, depth, shape):
    # Reference: the engine, whose weights know no potential.  Strong form: X b = X beta(t).
    rng = np.random.default_rng(0)
    problem = dln.sparse_regression(8, 20, 3, rng=2)
    log_alpha, ratio = rng.uniform(-1.2, -0.4, 20), shape * rng.standard_normal(20)
    for t_end in (0.5, 4.0, 30.0):
        run = dln.flow(problem, rule, depth=depth, log_alpha=log_alpha, log_ratio=ratio, t_end=t_end, rtol=1e-11)
        assert run.exact_law
        best = dln.predict(run, at_time=True)
        assert best.success, best.message
        assert relative(best.beta, run.beta) <= 1e-8


def test_rules_without_a_law_are_compared_and_said_to_be():
    # Reference: GR moves the scales of single weights differently at depth 3; the distance is real, and small with gamma.
    problem = dln.sparse_regression(8, 20, 3, rng=2)
    distances = []
    for gamma in (0.1, 0.05):
        run = dln.flow(problem, dln.GradientRegularization(gamma, 0.01), depth=3, alpha=0.3)
        best = dln.predict(run)
        assert not run.exact_law and "no exact law at depth 3" in run.message and "no exact law at depth 3" in best.message
        distances.append(relative(run.beta, best.beta))
    assert 1e-6 < distances[1] < distances[0] < 0.1


@pytest.mark.parametrize("depth", [2.5, 3.0])
def test_the_limits_are_the_two_norms(depth):
    # Reference: weighted minimum norm (QR) at large scale with weights alpha^(2-2D); basis pursuit (HiGHS) at small scale.
    rng = np.random.default_rng(1)
    problem = dln.sparse_regression(10, 30, 3, rng=4)
    shape = rng.uniform(-0.3, 0.3, 30)
    large = dln.minimize_potential(problem, depth=depth, log_alpha=8.0 + shape)
    assert relative(large.beta, dln.minimum_norm(problem, np.exp((2.0 - 2.0 * depth) * shape)).beta) <= 1e-12
    small = dln.minimize_potential(problem, depth=depth, log_alpha=-60.0 + shape)
    assert relative(small.beta, dln.basis_pursuit(problem, np.exp((2.0 - depth) * shape)).beta) <= 1e-9


def test_among_several_l1_minimisers_the_one_of_least_power_is_selected():
    # Reference: theory, sum |b|^(2/D) is maximal: equal shares of duplicate columns; opposite columns share with opposite sign.
    X = np.array([[1.0, 1.0, -1.0, 0.2]])
    for depth in (2.5, 3.0, 4.0):
        best = dln.minimize_potential(dln.Problem(X, [3.0]), depth=depth, log_alpha=-6.0)
        np.testing.assert_allclose(best.beta[:3], [1.0, 1.0, -1.0], rtol=1e-3)
        assert best.success


@pytest.mark.parametrize("problem", [
    dln.Problem([[1.0, 2.0], [0.0, 1.0]], [3.0, 1.0]), dln.Problem([[1.0], [1.0]], [1.0, 2.0]),
    dln.Problem([[1.0, 0.0, 2.0]], [1.0]), dln.Problem(np.zeros((2, 3)), [0.0, 0.0]), dln.Problem([[1.0, 2.0]], [0.0]),
    dln.Problem([[1e-12, 2e-12, 0.5e-12]], [1e-12]), dln.Problem([[1e12, 2e12, -1e12]], [1.0])])
def test_degenerate_data(problem):
    # Reference: normal equations; zero columns keep beta = 0.
    for log_alpha in (-8.0, 0.0):
        best = dln.minimize_potential(problem, depth=3, log_alpha=log_alpha)
        assert best.success, best.message
        gradient = problem.X.T @ (problem.X @ best.beta - problem.y)
        assert np.linalg.norm(gradient) <= 1e-12 * max(np.linalg.norm(problem.X.T @ problem.y), 1e-300)
        assert np.all(best.beta[~problem.X.any(axis=0)] == 0.0)


@pytest.mark.parametrize(("depth", "log_alpha"), [(2.5, -690.0), (6.0, -690.0), (6.0, -100.0), (8.0, -300.0)])
def test_fewer_entries_than_samples_at_small_scales(depth, log_alpha):
    # Reference: certificates; the l1 minimiser. Most directions of nu are felt by dormant coordinates only.
    for seed in range(6):
        problem = dln.sparse_regression(20, 100, 5, rng=seed)
        best = dln.minimize_potential(problem, depth=depth, log_alpha=log_alpha)
        assert best.success and best.residual <= 1e-12 and best.duality_gap <= 1e-12, (seed, best.message)
        assert relative(best.beta, dln.basis_pursuit(problem).beta) <= 1e-9 and best.n_iterations <= 200


def test_multipliers_of_0_stay_0_where_their_unit_is_infinite():
    # Reference: there is nothing to fit; alpha^(2-D) is exp(4140).
    best = dln.minimize_potential(dln.Problem([[1.0, 2.0]], [0.0]), depth=8, log_alpha=-690.0)
    assert best.success and best.dual.tolist() == [0.0] and not best.beta.any()


@pytest.mark.parametrize("distance", [1e-1, 1e-3])
def test_minimisers_next_to_their_centre(distance):
    # Reference: certificates: the gap is relative to a divergence of size distance^2, of which rounded weights know little.
    rng = np.random.default_rng(0)
    X, ratio = rng.standard_normal((2, 9)), 0.4 * rng.standard_normal(9)
    for depth in (3.0, 8.0):
        center = deep_potential.predictor(ratio, log_alpha=0.0, depth=depth)
        problem = dln.Problem(X, X @ center + distance * np.linalg.norm(X @ center) * rng.standard_normal(2))
        best = dln.minimize_potential(problem, depth=depth, log_alpha=0.0, log_ratio=ratio)
        assert best.success and best.duality_gap <= 1e-12, best.message


@pytest.mark.parametrize("seed", [90, 166])
def test_small_entries_that_mend_what_large_ones_leave(seed):
    # Reference: certificates; with hardly more columns than samples entries of 1e-12 decide about the last digits of X beta.
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(1, 30)), int(rng.integers(1, 60))
    X = rng.standard_normal((n, d)) + rng.uniform(-1, 1)
    if seed % 5 == 0:
        X[:, 1], X[:, 2] = X[:, 0], -X[:, 0]
    truth = rng.standard_normal(d) * (rng.random(d) < 0.4)
    problem = dln.Problem(X, X @ truth + 0.1 * rng.standard_normal(n) * (seed % 2))
    depth, log_alpha = {90: (8.0, -690.0), 166: (6.0, -30.0)}[seed]
    for scale in (log_alpha, log_alpha + rng.uniform(-1.0, 1.0, d)):
        best = dln.minimize_potential(problem, depth=depth, log_alpha=scale)
        assert best.success and best.residual <= 1e-12 and best.duality_gap <= 1e-12, best.message
        assert not np.isnan(best.dual).any()


@pytest.mark.parametrize("seed", range(60))
def test_random_problems(seed):
    # Reference: certificates; correlated, duplicate and opposite columns, uneven scales, centres, all depths to 6.
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(1, 30)), int(rng.integers(1, 60))
    X = rng.standard_normal((n, d)) + rng.uniform(-1, 1)
    if seed % 5 == 0 and d > 3:
        X[:, 1], X[:, 2] = X[:, 0], -X[:, 0]
    problem = dln.Problem(X, X @ (rng.standard_normal(d) * (rng.random(d) < 0.4)) + 0.1 * rng.standard_normal(n) * (seed % 2))
    depth, log_alpha = float(rng.choice([2.05, 2.5, 3, 3.7, 4, 5, 6])), rng.uniform(-15, 2)
    log_alpha = log_alpha + (rng.uniform(-1, 1, d) if seed % 3 == 0 else 0.0)
    ratio = 0.3 * rng.standard_normal(d) if seed % 4 == 0 else None
    best = dln.minimize_potential(problem, depth=depth, log_alpha=log_alpha, log_ratio=ratio)
    assert best.success, best.message
    assert best.residual <= 1e-12 and best.duality_gap <= 1e-12
