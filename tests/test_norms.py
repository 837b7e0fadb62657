"""Interpolators of least l1 and l2 norm against dual programmes, pseudo-inverses and planted truths."""

import math

import numpy as np
import pytest
from random_data import KINDS, data
from scipy.optimize import linprog

from dln import Problem, basis_pursuit, minimum_norm


def test_degenerate_data_in_the_norms(degenerate):
    # Reference: the pseudo-inverse for l2; its l1 norm bounds that of basis pursuit, the normal equations hold for both.
    name, X, y = degenerate
    problem = Problem(X, y)
    pinv = np.linalg.pinv(X, rcond=1e-10) @ y
    scale = np.linalg.norm(X, 2) * np.linalg.norm(y)
    l2, l1 = minimum_norm(problem), basis_pursuit(problem)
    np.testing.assert_allclose(l2.beta, pinv, rtol=0, atol=1e-10 * np.max(np.abs(pinv)), err_msg=name)
    for best in (l1, l2):
        assert best.success and best.status == "optimal", (name, best)
        assert np.max(np.abs(X.T @ (X @ best.beta - y))) <= 1e-10 * scale, name
    assert l1.objective <= np.sum(np.abs(pinv)) * (1 + 1e-10)
    assert np.max(np.abs(X.T @ l1.dual)) <= 1.0 + 1e-10


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("weighted", [False, True])
def test_basis_pursuit_against_its_dual_programme(scale, weighted):
    # Reference: the *dual* programme max y.nu, |x_j.nu| <= w_j, solved on unscaled data by HiGHS' interior points.
    for kind in KINDS:
        problem = data(kind, 10, 25)
        w = np.exp(np.random.default_rng(4).uniform(-1, 1, 25)) if weighted else np.ones(25)
        dual = linprog(-problem.y, A_ub=np.vstack([problem.X.T, -problem.X.T]), b_ub=np.concatenate([w, w]),
                       bounds=(None, None), method="highs-ipm")
        best = basis_pursuit(Problem(scale * problem.X, scale * problem.y), weights=w if weighted else None)
        assert best.success and best.duality_gap <= 1e-10 and best.residual <= 1e-10
        assert best.objective == pytest.approx(-dual.fun, rel=1e-8)
        assert best.objective == pytest.approx(np.sum(w * np.abs(best.beta)), rel=1e-12)
        assert np.all(np.abs(scale * problem.X.T @ best.dual) <= w * (1 + 1e-12))
        # A vertex: at most N active coordinates, with full multipliers of their signs.
        active = best.beta != 0.0
        assert np.count_nonzero(active) <= 10
        np.testing.assert_allclose((scale * problem.X.T @ best.dual)[active], (w * np.sign(best.beta))[active], rtol=1e-9)


@pytest.mark.parametrize(("x", "y"), [(1e-12, 1.0), (1.0, 1e-12), (1e12, 1e-12), (1e-12, 1e12), (1e150, 1e-100)])
def test_basis_pursuit_finds_the_truth_at_any_scale(x, y):
    # Reference: a sparse truth; x scales X alone, so beta is scaled by y/x.
    rng = np.random.default_rng(21)
    X, truth = rng.standard_normal((15, 40)), np.zeros(40)
    truth[[1, 8, 30]] = -1.0, 3.0, 2.0
    best = basis_pursuit(Problem(x * X, y * (X @ truth)))
    assert best.success
    np.testing.assert_allclose(best.beta * (x / y), truth, atol=1e-11)


def test_basis_pursuit_with_ties_is_optimal():
    # Reference: X = [1, 1, -1], y = 2 has the value 2 and many minimisers: compare objectives, not coordinates.
    best = basis_pursuit(Problem([[1.0, 1.0, -1.0]], [2.0]))
    assert best.success and best.objective == pytest.approx(2.0, rel=1e-14)
    assert np.sum(np.abs(best.beta)) == pytest.approx(2.0) and best.beta @ [1.0, 1.0, -1.0] == pytest.approx(2.0)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_minimum_norm_is_the_pseudo_inverse(scale):
    # Reference: numpy.linalg.pinv, of X W^(-1/2) with weights.
    for kind in KINDS:
        problem = data(kind, 10, 25)
        scaled = Problem(scale * problem.X, scale * problem.y)
        best = minimum_norm(scaled)
        reference = np.linalg.pinv(problem.X) @ problem.y
        np.testing.assert_allclose(best.beta, reference, rtol=0, atol=1e-12 * np.max(np.abs(reference)))
        assert best.objective == pytest.approx(0.5 * best.beta @ best.beta, rel=1e-14)
        w = np.exp(np.random.default_rng(4).uniform(-2, 2, 25))
        best = minimum_norm(scaled, weights=w)
        reference = np.linalg.pinv(problem.X / np.sqrt(w)) @ problem.y / np.sqrt(w)
        np.testing.assert_allclose(best.beta, reference, rtol=0, atol=1e-12 * np.max(np.abs(reference)))
        np.testing.assert_allclose(w * best.beta, scaled.X.T @ best.dual, rtol=0, atol=1e-11 * np.max(np.abs(w * best.beta)))
        assert best.success and best.residual <= 1e-13 and best.duality_gap <= 1e-12


@pytest.mark.parametrize("solve", [minimum_norm, basis_pursuit])
def test_bad_weights_are_named(solve):
    problem = Problem([[1.0, 2.0]], [1.0])
    with pytest.raises(ValueError, match=r"^weights must have shape \(2,\), one entry per column of X; got \(1,\)$"):
        solve(problem, weights=[1.0])
    for bad in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=rf"^weights\[1\] must be positive and finite, got {bad}$"):
            solve(problem, weights=[1.0, bad])
