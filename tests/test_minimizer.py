"""Minimisers against their optimality conditions, other solvers, limits, and degenerate data."""

import math

import mpmath
import numpy as np
import pytest
from hostile_data import hostile
from random_data import KINDS, data
from scipy.linalg import null_space
from scipy.optimize import minimize

import dln
from dln import Problem, basis_pursuit, minimize_potential, minimum_norm, potential

ALPHAS = (1e-300, 1e-100, 1e-20, 1e-8, 1e-3, 1.0, 1e3, 1e10)
SHAPES = ((1, 1), (1, 7), (5, 9), (12, 12), (20, 60), (40, 80), (40, 41))


def residual(problem, beta, target=None):
    """Of the constraint, recomputed: relative to the target, or to what X has to cancel where that is larger."""
    target = problem.y if target is None else target
    return np.linalg.norm(problem.X @ beta - target) / np.linalg.norm(target)


def kkt(problem, best, log_alpha):
    """Check grad phi(beta) = X^T dual, where beta has not underflowed; where it has, that X^T dual makes it so."""
    dual = problem.X.T @ best.dual
    slope, kept = potential.gradient(best.beta, log_alpha=log_alpha), np.abs(best.beta) > 1e-300
    assert np.max(np.abs(slope - dual)[kept], initial=0.0) <= 1e-11 * np.max(np.abs(dual), initial=0.0)
    assert np.all((2.0 * log_alpha + 4.0 * np.abs(dual))[~kept] < math.log(1.1e-300)) or not dual[~kept].any()


# Certificates ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_residual_and_duality_gap_reach_1e_12(kind, alpha):
    # Reference: the certificate itself, and the residual recomputed; Fenchel duality makes the gap a proof of optimality.
    for n_samples, n_features in SHAPES:
        for seed in range(2):
            problem = data(kind, n_samples, n_features, seed)
            best = minimize_potential(problem, alpha=alpha)
            assert best.success and best.status == "optimal", best
            assert best.residual <= 1e-12 and residual(problem, best.beta) <= 1e-12
            assert best.duality_gap <= 1e-12, (n_samples, n_features, seed, best)
            # The gap again, from the public functions: phi(beta) + phi*(X^T dual) - y.dual = 0.
            value = potential.value(best.beta, log_alpha=math.log(alpha))
            assert best.objective == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_one_scale_per_coordinate(alpha):
    # Reference: the certificate, and KKT.
    for n_samples, n_features in ((1, 3), (5, 9), (20, 60), (40, 80)):
        problem = data("noisy", n_samples, n_features)
        spread = np.exp(np.random.default_rng(n_features).uniform(-3, 3, n_features))
        best = minimize_potential(problem, alpha=alpha * spread)
        assert best.success and best.residual <= 1e-12 and best.duality_gap <= 1e-12, best
        kkt(problem, best, np.log(alpha * spread))


@pytest.mark.parametrize("alpha", [1e-300, 1e-5, 1e10])
def test_two_hundred_samples_and_two_thousand_features(alpha):
    # Reference: the certificate, recomputed.
    rng = np.random.default_rng(7)
    problem = Problem(rng.standard_normal((200, 2000)), rng.standard_normal(200))
    best = minimize_potential(problem, alpha=alpha)
    assert best.success and best.duality_gap <= 1e-12 and residual(problem, best.beta) <= 1e-12, best


@pytest.mark.parametrize("alpha", [1e-20, 1.0, 1e3, 1e10])
def test_nearly_square_data(alpha):
    # Reference: the certificate.  Condition numbers of 1e2 to 1e4 multiply what a residual leaves in the gap.
    for seed in range(12):
        rng = np.random.default_rng([seed, 40, 41])
        X, truth, noise = rng.standard_normal((40, 41)), rng.standard_normal(41), rng.standard_normal(40)
        best = minimize_potential(Problem(X, X @ truth + 0.3 * noise), alpha=alpha)
        assert best.success and best.residual <= 1e-12 and best.duality_gap <= 1e-12, (seed, best)


@pytest.mark.parametrize("alpha", [1e-3, 1e-1, 1.0, 1e3])
def test_a_shaped_centre(alpha):
    # Reference: the certificate; and the centre given as such or as log(u0/v0) is one centre.
    for n_samples, n_features in ((1, 7), (5, 9), (20, 60), (40, 80)):
        problem = data("noisy", n_samples, n_features)
        rng = np.random.default_rng(n_samples)
        center = rng.standard_normal(n_features)
        best = minimize_potential(problem, alpha=alpha, center=center)
        assert best.success and best.duality_gap <= 1e-12, best
        assert np.linalg.norm(problem.X @ best.beta - problem.y) <= 1e-12 * (
            np.linalg.norm(problem.y) + np.linalg.norm(problem.X @ center))
        ratio = np.arcsinh(center / (2.0 * alpha**2))
        other = minimize_potential(problem, alpha=alpha, log_ratio=ratio)
        np.testing.assert_allclose(other.beta, best.beta, rtol=0, atol=1e-11 * np.max(np.abs(best.beta)))
        value = potential.bregman_divergence(best.beta, center, log_alpha=math.log(alpha))
        assert value == pytest.approx(best.objective, rel=1e-9)


@pytest.mark.parametrize("alpha", [1e-300, 1e-100, 1e-20, 1e-8])
def test_a_centre_of_order_one_at_small_scales(alpha):
    # Reference: the certificate.  Weights such as u0 = 1, v0 = 1e-16 have alpha_eff = 1e-8 and the centre 1.
    for n_samples, n_features in ((1, 2), (5, 9), (20, 60)):
        problem = data("noisy", n_samples, n_features)
        center = np.random.default_rng(n_samples).standard_normal(n_features)
        best = minimize_potential(problem, alpha=alpha, center=center)
        assert best.success and best.duality_gap <= 1e-12, best
        assert np.linalg.norm(problem.X @ best.beta - problem.y) <= 1e-12 * (
            np.linalg.norm(problem.y) + np.linalg.norm(problem.X @ center))


def test_a_moderate_log_ratio_at_every_scale():
    # Reference: the certificate, relative to X center where that exceeds y: no float beta does better.
    for alpha in ALPHAS:
        for kind in KINDS:
            problem = data(kind, 20, 60)
            ratio = np.random.default_rng(1).uniform(-3, 3, 60)
            best = minimize_potential(problem, alpha=alpha, log_ratio=ratio)
            assert best.success and best.duality_gap <= 1e-12, (alpha, best)
            scale = np.linalg.norm(problem.y) + np.linalg.norm(problem.X @ (2.0 * alpha**2 * np.sinh(ratio)))
            assert np.linalg.norm(problem.X @ best.beta - problem.y) <= 1e-12 * scale


def test_square_data_have_one_interpolator_at_every_scale():
    # Reference: numpy.linalg.solve.
    problem = data("noisy", 12, 12)
    only = np.linalg.solve(problem.X, problem.y)
    for alpha in ALPHAS:
        beta = minimize_potential(problem, alpha=alpha).beta
        np.testing.assert_allclose(beta, only, rtol=0, atol=1e-10 * np.max(np.abs(only)))
    for best in (minimum_norm(problem), basis_pursuit(problem)):
        np.testing.assert_allclose(best.beta, only, rtol=0, atol=1e-10 * np.max(np.abs(only)))


# Optimality, independently --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1e-100, 1e-20, 1e-3, 1.0, 1e3, 1e10])
def test_the_gradient_lies_in_the_row_space(alpha):
    # Reference: KKT, grad phi(beta) - grad phi(center) is orthogonal to the null space of X (SciPy's basis of it).
    for kind in KINDS:
        problem = data(kind, 12, 30)
        kernel = null_space(problem.X)
        best = minimize_potential(problem, alpha=alpha)
        slope = potential.gradient(best.beta, log_alpha=math.log(alpha))
        # Coordinates far below the rounding of X beta obey it too.
        assert np.max(np.abs(kernel.T @ slope)) <= 1e-11 * np.max(np.abs(slope))
        kkt(problem, best, math.log(alpha))


@pytest.mark.parametrize("alpha", [0.03, 0.3, 1.0, 10.0])
@pytest.mark.parametrize("shaped", [False, True])
def test_a_general_minimiser_in_the_null_space_agrees(alpha, shaped):
    # Reference: scipy.optimize trust-exact over b = b0 + null_space(X) c, with sqrt(b^2 + m^2) - m freed of cancellation.
    problem = data("noisy", 4, 9)
    rng = np.random.default_rng(9)
    scales = alpha * np.exp(rng.uniform(-0.5, 0.5, 9)) if shaped else np.full(9, alpha)
    center = rng.standard_normal(9) if shaped else np.zeros(9)
    b0, kernel = np.linalg.pinv(problem.X) @ problem.y, null_space(problem.X)
    unit = 2.0 * scales**2
    start = np.arcsinh(center / unit)
    level = float(np.mean(unit))  # SciPy's tolerance on the gradient is absolute

    def fun(c):
        b = b0 + kernel @ c
        return level * float(np.sum(b * (np.arcsinh(b / unit) - start) - b**2 / (np.hypot(b, unit) + unit)))

    def jac(c):
        return level * (kernel.T @ (np.arcsinh((b0 + kernel @ c) / unit) - start))

    def hess(c):
        return level * (kernel.T @ (kernel / np.hypot(b0 + kernel @ c, unit)[:, None]))

    outside = minimize(fun, np.zeros(5), jac=jac, hess=hess, method="trust-exact", options={"gtol": 1e-12, "maxiter": 1000})
    reference = b0 + kernel @ outside.x
    best = minimize_potential(problem, alpha=scales, center=center)
    np.testing.assert_allclose(best.beta, reference, rtol=0, atol=1e-8 * np.max(np.abs(reference)))


def test_one_sample_in_two_coordinates_has_a_closed_form():
    # Reference: mpmath root of 2 a^2 (sinh 4 nu + 2 sinh 8 nu) = y, for X = [1, 2].
    for alpha, y in ((1.0, 3.0), (1e-3, 3.0), (1e-8, -3.0), (1e3, 1e-3), (1e-150, 1.0)):
        with mpmath.workdps(400):
            square = 2 * mpmath.mpf(alpha) ** 2

            def excess(nu, square=square, y=y):
                return mpmath.log(square * (mpmath.sinh(4 * nu) + 2 * mpmath.sinh(8 * nu)) / abs(y))
            guess = mpmath.asinh(abs(y) / (2 * square)) / 8 if y > alpha**2 or y < 0 else abs(y) / (square * 20)
            nu = mpmath.findroot(excess, guess) * (1 if y > 0 else -1)
            exact = [float(square * mpmath.sinh(4 * nu)), float(square * mpmath.sinh(8 * nu))]
        best = minimize_potential(Problem([[1.0, 2.0]], [y]), alpha=alpha)
        np.testing.assert_allclose(best.beta, exact, rtol=1e-12)
        np.testing.assert_allclose(best.dual, [float(nu)], rtol=1e-13)


# Limits ---------------------------------------------------------------------------------------------------------------


def test_large_scales_tend_to_the_weighted_minimum_norm():
    # Reference: phi_alpha(b) = sum b_j^2/(16 alpha_j^2) (1 + O(b^2/alpha^4)); the distance falls as alpha^-4.
    problem = data("noisy", 5, 12)
    shape = np.exp(np.random.default_rng(2).uniform(-0.7, 0.7, 12))
    limit = minimum_norm(problem, weights=1.0 / shape**2).beta
    distances = [np.linalg.norm(minimize_potential(problem, alpha=a * shape).beta - limit) for a in (4.0, 8.0, 16.0, 32.0)]
    slopes = np.diff(np.log(distances)) / math.log(2.0)
    np.testing.assert_allclose(slopes[1:], -4.0, atol=0.05)
    far = minimize_potential(problem, alpha=1e10 * shape).beta
    np.testing.assert_allclose(far, limit, rtol=0, atol=1e-13 * np.max(np.abs(limit)))


def test_small_scales_tend_to_basis_pursuit_and_recover_a_sparse_truth():
    # Reference: the truth (l1 recovery), at a rate that is a power of alpha.
    rng = np.random.default_rng(12)
    X, truth = rng.standard_normal((20, 60)), np.zeros(60)
    truth[[3, 17, 40]] = 1.0, -2.0, 0.5
    problem = Problem(X, X @ truth)
    np.testing.assert_allclose(basis_pursuit(problem).beta, truth, atol=1e-12)
    distances = [np.linalg.norm(minimize_potential(problem, alpha=a).beta - truth) for a in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)]
    assert all(np.diff(distances) < 0) and distances[-1] < 1e-3 * distances[0]
    np.testing.assert_allclose(minimize_potential(problem, alpha=1e-100).beta, truth, atol=1e-12)


def test_the_l1_norm_falls_with_the_scale():
    # Reference: monotone over the scales, down to basis pursuit (whose minimiser is unique for generic data).
    problem = data("noisy", 10, 30)
    logs = (3.0, 0.0, -1.0, -3.0, -10.0, -20.0, -690.0, -1e4)
    norms = [np.sum(np.abs(minimize_potential(problem, log_alpha=a).beta)) for a in logs]
    least = basis_pursuit(problem)
    assert np.all(np.diff(norms) <= 1e-12 * norms[0])
    # The distance is of order alpha^(2 margin), with the margin 1 - max |x_j.dual| of the inactive coordinates.
    assert norms[-2] == pytest.approx(least.objective, rel=1e-6)
    assert norms[-1] == pytest.approx(least.objective, rel=1e-12)


# Equivariance ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1e-100, 1e-3, 1.0, 1e4])
@pytest.mark.parametrize("factor", [1e-12, 1e-3, 7.0, 1e12])
def test_scaling_the_data(alpha, factor):
    # Reference: (X, y) -> (c X, c y) changes nothing; y -> c y with alpha -> sqrt(c) alpha scales beta by c.
    problem = data("noisy", 8, 20)
    best = minimize_potential(problem, alpha=alpha)
    scale = np.max(np.abs(best.beta))
    both = minimize_potential(Problem(factor * problem.X, factor * problem.y), alpha=alpha)
    np.testing.assert_allclose(both.beta, best.beta, rtol=0, atol=1e-11 * scale)
    np.testing.assert_allclose(factor * both.dual, best.dual, rtol=0, atol=1e-10 * np.max(np.abs(best.dual)))
    target = minimize_potential(Problem(problem.X, factor * problem.y), alpha=math.sqrt(factor) * alpha)
    np.testing.assert_allclose(target.beta / factor, best.beta, rtol=0, atol=1e-11 * scale)
    assert target.objective == pytest.approx(factor * best.objective, rel=1e-10)
    assert both.success and target.success


def test_signs_and_order_of_coordinates():
    # Reference: symmetry of the potential.
    problem = data("correlated", 6, 15)
    rng = np.random.default_rng(0)
    sign, order = rng.choice([-1.0, 1.0], 15), rng.permutation(15)
    best = minimize_potential(problem, alpha=1e-2)
    moved = minimize_potential(Problem((problem.X * sign)[:, order], problem.y), alpha=1e-2)
    np.testing.assert_allclose(moved.beta, (best.beta * sign)[order], rtol=0, atol=1e-11 * np.max(np.abs(best.beta)))


# Degenerate data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1e-300, 1e-8, 1.0, 1e10])
def test_degenerate_data_are_solved(degenerate, alpha):
    # Reference: the normal equations X^T (X beta - y) = 0, zero columns stay 0, KKT on the row space.
    name, X, y = degenerate
    problem = Problem(X, y)
    best = minimize_potential(problem, alpha=alpha)
    assert best.success and best.residual <= 1e-12 and best.duality_gap <= 1e-12, (name, best)
    normal = X.T @ (X @ best.beta - y)
    assert np.max(np.abs(normal)) <= 1e-12 * np.linalg.norm(X, 2) * np.linalg.norm(y), name
    assert np.all(best.beta[~X.any(axis=0)] == 0.0)
    kkt(problem, best, math.log(alpha))
    assert ("least squares" in best.message) == (not problem.interpolates)


def test_equal_and_opposite_columns_share_their_weight():
    # Reference: symmetry; the potential is strictly convex, so equal columns get equal beta, opposite ones opposite.
    rng = np.random.default_rng(5)
    X = rng.standard_normal((4, 8))
    X[:, 1], X[:, 2] = X[:, 0], -X[:, 0]
    for alpha in (1e-300, 1e-8, 1.0, 1e5):
        beta = minimize_potential(Problem(X, rng.standard_normal(4)), alpha=alpha).beta
        np.testing.assert_allclose(beta[1:3], [beta[0], -beta[0]], rtol=1e-12, atol=0)


@pytest.mark.parametrize("solve", [lambda p: minimize_potential(p, alpha=0.1), minimum_norm, basis_pursuit])
def test_nothing_to_fit(solve):
    # Reference: beta = 0 where y = 0 or X = 0.
    for X, y in (([[1.0, 2.0]], [0.0]), ([[0.0, 0.0]], [1.0]), (np.zeros((3, 2)), np.zeros(3))):
        best = solve(Problem(X, y))
        assert best.success and best.beta.tolist() == [0.0, 0.0] and best.objective == 0.0
        assert best.dual.shape == (len(y),)


def test_inconsistent_data_are_said_to_be_so():
    # Reference: numpy.linalg.lstsq; the message names least squares.
    problem = Problem([[1.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 2.0, 1.0]], [1.0, 3.0, 1.0])
    for best in (minimize_potential(problem, alpha=0.1), minimum_norm(problem), basis_pursuit(problem)):
        assert best.success
        assert best.message.endswith("no predictor fits every sample, so the constraint is that of least squares")
        np.testing.assert_allclose(problem.X @ best.beta, [2.0, 2.0, 1.0], rtol=1e-12)
    assert "least squares" not in minimize_potential(Problem([[1.0]], [1.0]), alpha=1.0).message


# Basis pursuit and minimum norm ---------------------------------------------------------------------------------------


# Targets, predictions, refusals ---------------------------------------------------------------------------------------


def test_another_target():
    # Reference: the problem that has this target as its y; on inconsistent rows, the reachable part of the target.
    problem = data("noisy", 5, 12)
    target = np.arange(5.0)
    best = minimize_potential(problem, alpha=0.01, target=target)
    same = minimize_potential(Problem(problem.X, target), alpha=0.01)
    assert np.array_equal(best.beta, same.beta)
    X = np.array([[1.0, 2.0, 0.0], [1.0, 2.0, 0.0], [0.0, 1.0, 1.0]])
    best = minimize_potential(Problem(X, [0.0, 1.0, 0.0]), alpha=1.0, target=[1.0, 3.0, 1.0])
    np.testing.assert_allclose(X @ best.beta, [2.0, 2.0, 1.0], rtol=1e-13)
    zero = minimize_potential(problem, alpha=0.01, target=np.zeros(5))
    assert zero.success and not zero.beta.any()


def test_a_target_of_zero_with_a_centre_is_not_trivial():
    # Reference: the certificate and KKT: min D(b, c) over the null space of X.
    problem = Problem([[1.0, 2.0, -1.0]], [0.0])
    best = minimize_potential(problem, alpha=0.5, center=[1.0, 0.0, 0.0])
    assert best.success and abs(best.beta @ problem.X[0]) <= 1e-12 and np.all(best.beta != 0.0)
    slope, start = (potential.gradient(b, log_alpha=math.log(0.5)) for b in (best.beta, [1.0, 0.0, 0.0]))
    np.testing.assert_allclose(slope - start, problem.X.T @ best.dual, rtol=1e-11)


def test_repr_is_one_line():
    text = repr(minimize_potential(data("noisy", 3, 5), alpha=1.0))
    assert text.startswith("Minimizer(optimal: objective=") and "\n" not in text


BAD = {
    r"alpha\[1\] must be positive and finite, got 0": dict(alpha=[1.0, 0.0, 1.0]),
    r"alpha must be positive and finite, got -1": dict(alpha=-1.0),
    r"alpha must be positive and finite, got nan": dict(alpha=math.nan),
    r"below the smallest float give log_alpha": dict(alpha=0.0),
    r"alpha must be a number or have shape \(3,\).*got shape \(2,\)": dict(alpha=[1.0, 2.0]),
    r"log_alpha must be finite, got -inf": dict(log_alpha=-math.inf),
    r"exactly one of alpha, log_alpha and initial_weights, got alpha and log_alpha": dict(alpha=1.0, log_alpha=0.0),
    r"exactly one of alpha, log_alpha and initial_weights, got none of them": {},
    r"center or log_ratio .*not both": dict(alpha=1.0, center=[0.0] * 3, log_ratio=0.0),
    r"center must have shape \(3,\), got \(2,\)": dict(alpha=1.0, center=[0.0, 1.0]),
    r"(center|beta)\[2\] must be finite, got nan": dict(alpha=1.0, center=[0.0, 1.0, math.nan]),
    r"log_ratio\[0\] must be finite, got inf": dict(alpha=1.0, log_ratio=[math.inf, 0.0, 0.0]),
    r"target must have shape \(2,\), one entry per row of X; got \(3,\)": dict(alpha=1.0, target=[1.0, 2.0, 3.0]),
    r"target\[1\] must be finite, got inf": dict(alpha=1.0, target=[1.0, math.inf]),
}


@pytest.mark.parametrize(("message", "arguments"), BAD.items(), ids=[", ".join(a) or "none" for a in BAD.values()])
def test_bad_arguments_are_named(message, arguments):
    problem = Problem([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]], [1.0, 2.0])
    with pytest.raises(ValueError, match=message):
        minimize_potential(problem, **arguments)


def test_the_centre_is_named_as_the_centre():
    with pytest.raises(ValueError, match=r"^center\[2\] must be finite, got nan$"):
        minimize_potential(Problem([[1.0, 2.0, 3.0]], [1.0]), alpha=1.0, center=[0.0, 1.0, math.nan])


@pytest.mark.parametrize("solve", [lambda p: minimize_potential(p, alpha=1.0), minimum_norm, basis_pursuit])
def test_raw_arrays_are_not_a_problem(solve):
    with pytest.raises(TypeError, match=r"^problem must be a dln\.Problem, got ndarray; build one with dln\.Problem\(X, y\)$"):
        solve(np.eye(2))


def test_what_is_exported():
    assert dln.minimize_potential is minimize_potential and dln.predict is dln.minimizer.predict


@pytest.mark.parametrize("exponent", [-200, -150, 150, 250])
def test_targets_whose_squares_leave_the_floats(exponent):
    """Reference: homogeneity: targets times s and alpha^2 times s scale the minimiser by s and nothing else."""
    problem = data("noisy", 5, 12)
    log_scale = exponent * math.log(10.0)
    one = dln.minimize_potential(problem, log_alpha=-2.0, log_ratio=0.3)
    other = dln.minimize_potential(problem, log_alpha=-2.0 + 0.5 * log_scale, log_ratio=0.3, target=problem.y * 10.0**exponent)
    assert other.success
    np.testing.assert_allclose(other.beta / 10.0**exponent, one.beta, rtol=1e-11)
    np.testing.assert_allclose(other.dual, one.dual, rtol=1e-11)
    assert other.objective / 10.0**exponent == pytest.approx(one.objective, rel=1e-11)


def test_ways_past_columns_that_are_dependent_but_for_rounding():
    # Reference: the constraint, and the duality gap.  Columns of signs have ties, and where the scales have them, too, the
    # tangent by least squares may point to nowhere: the way then ended there, for one in eight of these scales.
    problem, _, _ = hostile(12, largest=(8, 24))
    kinds = np.array([-35430.4532905, -39882.36989348, -38467.1945915, -35931.28280709, -35355.65120287, -36635.50124703,
                      -36732.03935037, -36732.04061976, -35355.6512153, -36021.08377015])
    scales = kinds[[0, 1, 2, 3, 4, 2, 5, 5, 3, 4, 6, 4, 4, 2, 7, 8, 0, 6, 9, 3]]
    for seed in range(60):
        shift = 1e-9 * np.random.default_rng(seed).standard_normal(20)
        found = dln.minimize_potential(problem, log_alpha=scales * (1.0 + shift))
        assert found.success, (seed, found.message)
