"""Maximum-margin predictors against their optimality conditions, other solvers, limits, and degenerate data."""

import math

import numpy as np
import pytest
from scipy.optimize import LinearConstraint, minimize
from sklearn.svm import LinearSVC

import dln
from dln import Classification, maximum_margin, minimize_potential, potential

SHAPES = ((1, 4), (5, 9), (20, 60), (40, 50), (30, 10), (60, 20))
MUS = (1e6, 1.0, 1e-3, 1e-6, 1e-12, 1e-300)


def planted(n_samples, n_features, seed=0):
    rng = np.random.default_rng([n_samples, n_features, seed])
    X = rng.standard_normal((n_samples, n_features)) + 0.3
    return Classification(X, np.where(X @ rng.standard_normal(n_features) > 0, 1.0, -1.0))


def subgradient(problem, best, log_mu=None):
    """Check that Z^T dual is a subgradient at beta, and complementary slackness; both recomputed."""
    pull = best.dual @ problem.Z
    assert np.all(best.dual >= 0)
    assert np.all(best.dual * (problem.margins(best.beta) - 1) <= 1e-9 * best.dual.max())
    if best.norm == "l1":
        assert np.max(np.abs(pull)) <= 1 + 1e-10
        inside = np.abs(best.beta) > 1e-9 * np.abs(best.beta).max()
        np.testing.assert_allclose(pull[inside], np.sign(best.beta[inside]), rtol=1e-9)
    elif best.norm == "l2":
        np.testing.assert_allclose(pull, best.beta, atol=1e-10 * np.abs(best.beta).max())
    else:
        kept = np.abs(best.beta) > 1e-290
        slope = potential.gradient(best.beta, log_alpha=log_mu / 2)
        np.testing.assert_allclose(pull[kept], slope[kept], atol=1e-11 * np.abs(pull).max())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_norms_reach_1e_12_with_certificates(norm, shape):
    """Reference: the certificate, recomputed; duality makes the gap a proof of optimality."""
    problem = planted(*shape)
    best = maximum_margin(problem, norm)
    assert best.success and best.status == "optimal" and best.residual <= 1e-12 and best.duality_gap <= 1e-12, best
    subgradient(problem, best)
    value = np.abs(best.beta).sum() if norm == "l1" else best.beta @ best.beta / 2
    assert best.objective == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(problem.margins(best.beta)[best.support], 1, rtol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mu", MUS)
def test_potential_reaches_1e_12_from_1e6_down_to_1e_300(mu, shape):
    """Reference: the certificate, recomputed from the public functions of the potential."""
    problem = planted(*shape)
    best = maximum_margin(problem, "potential", mu=mu)
    assert best.success and best.residual <= 1e-12 and best.duality_gap <= 1e-12, best
    subgradient(problem, best, math.log(mu))
    assert best.objective == pytest.approx(potential.value(best.beta, log_alpha=math.log(mu) / 2), rel=1e-11)


def test_potential_with_one_mu_per_coordinate_and_a_shape():
    """Reference: SLSQP on the textbook divergence, at scales where that has its digits."""
    problem = planted(5, 7)
    rng = np.random.default_rng(0)
    mu, ratio = np.exp(rng.uniform(-2, 1, 7)), rng.uniform(-1, 1, 7)
    center = 2 * mu * np.sinh(ratio)
    best = maximum_margin(problem, "potential", mu=mu, log_ratio=ratio)
    assert best.success

    def divergence(b):
        return np.sum(b * np.arcsinh(b / (2 * mu)) - np.sqrt(b**2 + 4 * mu**2) - b * np.arcsinh(center / (2 * mu)))

    other = minimize(divergence, best.beta + 0.1, jac=lambda b: np.arcsinh(b / (2 * mu)) - ratio, method="SLSQP",
                     constraints={"type": "ineq", "fun": lambda b: problem.Z @ b - 1, "jac": lambda b: problem.Z},
                     options={"ftol": 1e-15, "maxiter": 500})
    np.testing.assert_allclose(best.beta, other.x, atol=2e-7 * np.abs(best.beta).max())
    assert divergence(best.beta) <= divergence(other.x) + 1e-12


def test_a_center_that_has_the_margin_already_stays():
    """Reference: the divergence is 0 there and nowhere less; no sample supports it."""
    problem = Classification([[1.0, 0.0], [0.0, 1.0]], [1, 1])
    best = maximum_margin(problem, "potential", mu=1.0, log_ratio=2.0)
    np.testing.assert_allclose(best.beta, 2 * math.sinh(2.0), rtol=1e-15)
    assert len(best.support) == 0 and best.success and best.objective == 0, best


def test_l2_against_a_support_vector_machine():
    """Reference: scikit-learn's LinearSVC without intercept and with a large C."""
    problem = planted(20, 5)
    machine = LinearSVC(C=1e6, loss="hinge", fit_intercept=False, tol=1e-8, max_iter=2_000_000, random_state=0)
    machine.fit(problem.X, problem.labels)
    np.testing.assert_allclose(maximum_margin(problem, "l2").beta, machine.coef_[0], rtol=1e-4)


def test_l2_against_slsqp():
    """Reference: SciPy's sequential quadratic programming."""
    problem = planted(6, 9)
    other = minimize(lambda b: b @ b / 2, problem.separation.beta, jac=lambda b: b, method="SLSQP",
                     constraints=LinearConstraint(problem.Z, 1, np.inf), options={"ftol": 1e-15})
    np.testing.assert_allclose(maximum_margin(problem, "l2").beta, other.x, atol=1e-7)


def test_closed_forms_of_one_sample():
    """Reference: one constraint z.b >= 1: l2 z/|z|^2, l1 the largest entry, potential 2 mu sinh(4 z nu)."""
    problem = Classification([[3.0, -1.0, 2.0]], [-1])
    z = problem.Z[0]
    np.testing.assert_allclose(maximum_margin(problem, "l2").beta, z / (z @ z), rtol=1e-14)
    np.testing.assert_allclose(maximum_margin(problem, "l1").beta, [-1 / 3, 0, 0], atol=1e-15)
    best = maximum_margin(problem, "potential", mu=0.01)
    np.testing.assert_allclose(best.beta, 0.02 * np.sinh(4 * z * best.dual[0]), rtol=1e-12)
    assert z @ best.beta == pytest.approx(1, abs=1e-14)


def test_where_all_samples_support_it_is_the_minimiser_under_equality():
    """Reference: the library's minimiser of the potential with targets 1."""
    problem = planted(4, 30, seed=3)
    best = maximum_margin(problem, "potential", mu=1e3)
    assert len(best.support) == 4
    other = minimize_potential(dln.Problem(problem.Z, np.ones(4)), log_alpha=math.log(1e3) / 2)
    np.testing.assert_allclose(best.beta, other.beta, rtol=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_ends_of_the_potential(seed):
    """Reference: l2 with error 1/mu^2 as mu grows; the l1 norm of the l1 solution with excess of order 1/log(1/mu)."""
    problem = planted(8, 15, seed)
    l1, l2 = maximum_margin(problem, "l1"), maximum_margin(problem, "l2")
    far = [np.linalg.norm(maximum_margin(problem, "potential", mu=mu).beta - l2.beta) for mu in (10.0, 100.0, 1000.0)]
    assert far[1] == pytest.approx(far[0] / 100, rel=0.05) and far[2] == pytest.approx(far[1] / 100, rel=0.05)
    excess = np.array([np.abs(maximum_margin(problem, "potential", mu=mu).beta).sum() / l1.objective - 1
                       for mu in (1e-3, 1e-6, 1e-12, 1e-24)])
    assert np.all(np.diff(excess) <= 1e-12) and np.all(excess >= -1e-12)
    assert excess[-1] <= 2 / math.log(1e24)


@pytest.mark.parametrize("norm", ["l1", "l2", "potential"])
@pytest.mark.parametrize("scale", [1e-12, 1e12, 2.0**-500])
def test_scaling_the_data_scales_the_answer(norm, scale):
    """Reference: the unscaled problem: beta and mu scale like 1/X."""
    plain = planted(6, 9)
    scaled = Classification(scale * plain.X, plain.labels)
    given = [{}, {}] if norm != "potential" else [{"log_mu": 0.3}, {"log_mu": 0.3 - math.log(scale)}]
    one, other = maximum_margin(plain, norm, **given[0]), maximum_margin(scaled, norm, **given[1])
    assert other.success, other
    np.testing.assert_allclose(other.beta * scale, one.beta, atol=1e-11 * np.abs(one.beta).max())


@pytest.mark.parametrize("norm", ["l1", "l2", "potential"])
def test_degenerate_data(norm, degenerate):
    """Reference: the certificate; where no predictor separates, a status and no exception."""
    _, X, y = degenerate
    problem = Classification(X, np.where(y > 0, 1, -1))
    unit = 1 / np.abs(X).max()
    best = maximum_margin(problem, norm, **({"mu": 1e-3 * unit} if norm == "potential" else {}))
    assert best.success == problem.separation.separable, best
    assert best.status == ("optimal" if best.success else "not separable")


def test_duplicate_and_dependent_rows():
    """Reference: the same data without them: the predictor does not change, whichever copy carries the multiplier."""
    plain = planted(6, 9)
    Z = np.vstack([plain.Z, plain.Z[2], plain.Z[:3].sum(axis=0), 0.5 * (plain.Z[0] + plain.Z[1])])
    more = Classification(Z, np.ones(len(Z)))
    for norm, given in (("l1", {}), ("l2", {}), ("potential", {"mu": 1e-4}), ("potential", {"mu": 10.0})):
        one, other = maximum_margin(plain, norm, **given), maximum_margin(more, norm, **given)
        assert other.success, other
        np.testing.assert_allclose(other.beta, one.beta, atol=1e-10 * np.abs(one.beta).max())


def test_data_that_are_not_separable_are_a_status():
    problem = Classification([[1.0], [1.0]], [1, -1])
    best = maximum_margin(problem, "l1")
    assert not best.success and best.status == "not separable"
    assert best.message == problem.separation.message and np.isnan(best.beta).all() and best.residual == math.inf


@pytest.mark.parametrize(("given", "words"), [
    ({"norm": "l3"}, "unknown norm 'l3'; did you mean 'l"),
    ({"norm": "potential"}, "give exactly one of mu and log_mu, got none of them"),
    ({"norm": "potential", "mu": 1.0, "log_mu": 0.0}, "give exactly one of mu and log_mu, got both"),
    ({"norm": "potential", "mu": -1.0}, "mu must be positive and finite, got -1.0"),
    ({"norm": "potential", "mu": [1.0, 2.0]}, r"mu must be a number or have shape \(1,\)"),
    ({"norm": "l2", "mu": 1.0}, "mu goes with norm='potential', not with 'l2'"),
])
def test_bad_arguments_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        maximum_margin(Classification([[1.0]], [1]), **given)


def test_repr_says_what_it_is():
    text = repr(maximum_margin(planted(5, 9), "l2"))
    assert text.startswith("MarginMaximizer(l2, optimal: objective=") and "support vectors=" in text
