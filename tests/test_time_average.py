"""Time averages against SciPy in raw weights, closed forms, scikit-learn's Lasso path, and the exact law of the mean."""

import sys
import warnings

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from sklearn.linear_model import lasso_path

import dln
from dln.network import initialize

#: The module, whose name in the package is that of its function.
module = sys.modules["dln.time_average"]

PROBLEM = dln.sparse_regression(10, 25, 3, rng=0)


def raw_means(problem, times, u0, v0, decay=0.0):
    """Integrate (u, v, int beta) with SciPy."""
    d = problem.n_features

    def field(t, state):
        u, v = state[:d], state[d:2 * d]
        g = problem.gradient(u * u - v * v)
        return np.concatenate([-2 * u * (g + decay), 2 * v * (g - decay), u * u - v * v])

    start = np.concatenate([np.broadcast_to(u0, d), np.broadcast_to(v0, d), np.zeros(d)])
    run = solve_ivp(field, (0, times[-1]), start, method="DOP853", t_eval=times, rtol=1e-13, atol=1e-15)
    return run.y[2 * d:].T / np.asarray(times)[:, None]


def test_quadrature_is_exact_for_polynomials():
    """Reference: the integrals 1/(k + 1) of x^k, up to the order of each of the two rules."""
    for k in range(17):
        assert module._WEIGHTS @ module._NODES**k == pytest.approx(1 / (k + 1), rel=1e-14)
        if k < 9:
            assert abs(module._DIFFERENCE @ module._NODES**k) < 1e-15
    assert abs(module._DIFFERENCE @ module._NODES**12) > 1e-8


@pytest.mark.parametrize("start", [{"alpha": 1.0}, {"alpha": 0.05}, {"alpha": 0.2, "log_ratio": 0.7}])
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_means_are_those_of_raw_weights(start, decay):
    """Reference: SciPy in (u, v, int beta) at 1e-13."""
    times = [0.3, 2.0, 20.0]
    half = start.get("log_ratio", 0.0) / 2
    raw = raw_means(PROBLEM, times, start["alpha"] * np.exp(half), start["alpha"] * np.exp(-half), decay)
    found = dln.time_average(PROBLEM, times, rule=dln.WeightDecay(decay) if decay else None, rtol=1e-11, **start)
    assert found.success and found.identity_error.max() < 1e-11
    assert np.abs(found.means - raw).max() < 1e-10 * np.abs(raw).max()


def test_tolerance_is_kept():
    """Reference: the run at 1e-12; each error is below the tolerance asked for, relative to the largest entry of the mean."""
    times = np.array([5.0, 30.0, 120.0, 2000.0])
    exact = dln.time_average(PROBLEM, times, alpha=1e-6, rtol=1e-12)
    sizes = np.abs(exact.means).max(axis=1)
    runs = []
    for rtol in (1e-3, 1e-5, 1e-7, 1e-9):
        found = dln.time_average(PROBLEM, times, alpha=1e-6, rtol=rtol)
        assert found.success
        assert np.all(np.abs(found.means - exact.means).max(axis=1) < 2 * rtol * sizes)
        assert np.max(np.abs(found.means - exact.means).max(axis=1) / sizes) < found.error_estimate
        runs.append(found.n_runs)
    assert exact.n_runs <= 8 and runs == sorted(runs)


@pytest.mark.parametrize("log_alpha", [-30.0, -1e4, -1e6])
def test_one_coordinate_in_closed_form(log_alpha):
    """Reference: beta = 1 at the end, so log(u/v) = asinh(1/(2 alpha^2)) = 2 log(1/alpha), and 1 - mean is that over 2 t."""
    times = -log_alpha * np.array([0.5, 0.9, 3.0, 50.0])
    found = dln.time_average(dln.Problem([[1.0]], [1.0]), times, log_alpha=log_alpha)
    assert found.success
    np.testing.assert_allclose(found.means[2:, 0], 1 + log_alpha / times[2:], rtol=1e-9)
    assert np.all(np.abs(found.means[:2, 0]) < 0.01)
    np.testing.assert_allclose(found.effective_penalties, np.where(times < -log_alpha, 0.5, found.penalties), rtol=1e-3)


def test_jumps_between_nodes_are_found(monkeypatch):
    """Reference: a run that begins with many panels. At alpha = e^-1e4 a jump takes a ten-thousandth of the time."""
    times = np.array([2e4, 9e4])
    coarse = dln.time_average(PROBLEM, times, log_alpha=-1e4)
    monkeypatch.setattr(module, "_FIRST_PANELS", 200)
    fine = dln.time_average(PROBLEM, times, log_alpha=-1e4)
    assert coarse.success and fine.success
    np.testing.assert_allclose(coarse.means, fine.means, atol=1e-8 * np.abs(fine.means).max())


def test_the_law_alone_finds_what_the_nodes_miss():
    """Reference: the law, by which panels are split although both rules of quadrature are made to agree on them."""
    start = initialize(PROBLEM.n_features, log_alpha=-50.0)
    work = module._Quadrature(PROBLEM, dln.GradientFlow(), start, np.array([300.0]), 1e-8)
    assert work._run(np.linspace(0, 300.0, 9))
    both = work._bad()
    work.errors = np.zeros_like(work.errors)
    alone = work._bad()
    assert alone.any() and both[alone].all()


def test_law_of_the_mean_certifies_the_means():
    """Reference: the law itself, recomputed here: X^T (X mean - y)/(2N) against asinh(beta/(2 alpha^2))/4."""
    found = dln.time_average(PROBLEM, [1.0, 10.0, 100.0], alpha=0.01, rtol=1e-11)
    for t, mean, beta in zip(found.times, found.means, found.betas, strict=True):
        np.testing.assert_allclose(PROBLEM.gradient(mean), -np.arcsinh(beta / 2e-4) / (4 * t), atol=1e-11)


def test_other_rules_have_means_but_no_law():
    """Reference: Gauss-Legendre quadrature of a run that is saved at its nodes."""
    rule = dln.GradientRegularization(0.02, scheme="exact")
    nodes, weights = np.polynomial.legendre.leggauss(200)
    run = dln.flow(PROBLEM, rule, alpha=0.1, save_at=5 * (nodes + 1), t_end=10.0, rtol=1e-11)
    found = dln.time_average(PROBLEM, 10.0, alpha=0.1, rule=rule, rtol=1e-9)
    np.testing.assert_allclose(found.means[0], weights @ run.betas / 2, atol=1e-9)
    assert found.success and np.isnan(found.identity_error).all()


def test_a_run_that_does_not_arrive_says_so():
    """Reference: the flow, which grows without bound under a negative decay; the means before are those of a shorter run."""
    rule = dln.WeightDecay(lambda t: -0.5 if t < 3 else -1e3)
    found = dln.time_average(PROBLEM, [0.5, 2.0, 1e3], alpha=0.1, rule=rule)
    assert not found.success and "1 of 3 times not reached" in found.message
    np.testing.assert_array_equal(np.isnan(found.means[:, 0]), [False, False, True])
    short = dln.time_average(PROBLEM, [0.5, 2.0], alpha=0.1, rule=rule)
    np.testing.assert_allclose(found.means[:2], short.means, rtol=1e-7)
    assert repr(found).startswith(f"TimeAverage({found.status}")


def _objective(problem, penalty, beta):
    return problem.loss(beta) + penalty * np.abs(beta).sum()


def _lasso_path(problem, penalties):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, betas, _ = lasso_path(problem.X, problem.y, alphas=2 * penalties, tol=1e-12, max_iter=100_000)
    return betas.T


def test_gaps_bound_the_objective():
    """Reference: scikit-learn's Lasso path at the effective penalties."""
    found = dln.time_average(PROBLEM, np.geomspace(3.0, 3e2, 8), alpha=1e-3)
    best = _lasso_path(PROBLEM, found.effective_penalties)
    for penalty, mean, beta, gap in zip(found.effective_penalties, found.means, best, found.lasso_gaps, strict=True):
        above = _objective(PROBLEM, penalty, mean) - _objective(PROBLEM, penalty, beta)
        assert -1e-12 < above <= gap
        assert gap < 0.2 * _objective(PROBLEM, penalty, mean)


def test_means_tend_to_the_whole_lasso_path():
    """Reference: scikit-learn's Lasso path on 30 penalties (its objective is twice ours); the distance falls like
    1/log(1/alpha)."""
    problem = dln.sparse_regression(30, 15, 4, noise=0.1, rng=2)
    taus = np.geomspace(0.3, 30.0, 30) / np.abs(problem.gradient(np.zeros(15))).max()
    best = _lasso_path(problem, 1 / (2 * taus))
    assert len({tuple(np.flatnonzero(beta)) for beta in best}) > 5
    distances = []
    for log_alpha in (-200.0, -800.0, -3200.0):
        found = dln.time_average(problem, -log_alpha * taus, log_alpha=log_alpha, rtol=1e-7)
        assert found.success
        np.testing.assert_allclose(found.penalties, 1 / (2 * taus), rtol=1e-14)
        distances.append(np.linalg.norm((found.means - best) @ problem.X.T, axis=1).max() / np.linalg.norm(problem.y))
    assert distances[-1] < 1e-3
    np.testing.assert_allclose(np.array(distances[:-1]) / distances[1:], 4, rtol=0.1)


def test_any_data_at_any_scale(degenerate):
    """Reference: the same data at scale 1: beta is the same, and time goes with the inverse square of the scale."""
    name, X, y = degenerate
    scale = float(name.split()[-1])
    times = np.array([3.0, 40.0])
    found = dln.time_average(dln.Problem(X, y), times / scale**2, alpha=1e-2)
    unit = dln.time_average(dln.Problem(X / scale, y / scale), times, alpha=1e-2)
    assert found.success and unit.success
    assert found.identity_error.max() < 1e-7
    np.testing.assert_allclose(found.means, unit.means, atol=1e-7 * np.abs(unit.means).max())


@pytest.mark.parametrize(("of_x", "of_y"), [(1e-12, 1.0), (1e12, 1.0), (1.0, 1e-12), (1.0, 1e12), (1e-80, 1e60)])
def test_scaling_the_data_rescales_the_means_and_changes_nothing_else(of_x, of_y):
    """Reference: the unscaled data; beta goes with y/X, time with 1/(X y), alpha with the root of beta."""
    unit = dln.time_average(PROBLEM, [2.0, 30.0], alpha=1e-3)
    size = of_y / of_x
    found = dln.time_average(dln.Problem(of_x * PROBLEM.X, of_y * PROBLEM.y), np.array([2.0, 30.0]) / (of_x * of_y),
                             alpha=1e-3 * np.sqrt(size))
    assert found.success
    np.testing.assert_allclose(found.means / size, unit.means, atol=1e-10)
    np.testing.assert_allclose(found.effective_penalties, of_x * of_y * unit.effective_penalties, rtol=1e-7)


def test_nothing_to_fit_stays_at_the_start():
    """Reference: y = 0 with u0 = v0: the predictor is 0 at all times."""
    found = dln.time_average(dln.Problem(PROBLEM.X, np.zeros(10)), [1.0, 5.0], alpha=0.1)
    assert found.success and not found.means.any() and not found.identity_error.any()


def test_penalties_and_initialisations():
    """Reference: their formulas; initial weights give the bits of their alpha."""
    found = dln.time_average(PROBLEM, [2.0, 4.0], alpha=0.5)
    np.testing.assert_allclose(found.penalties, np.log(2) / np.array([4.0, 8.0]), rtol=1e-14)
    uneven = np.linspace(0.1, 0.9, 25)
    several = dln.time_average(PROBLEM, [2.0, 4.0], alpha=uneven)
    np.testing.assert_allclose(several.penalties, -np.log(uneven) / np.array([[4.0], [8.0]]), rtol=1e-14)
    weights = dln.time_average(PROBLEM, [2.0, 4.0], initial_weights=(0.5, 0.5))
    np.testing.assert_array_equal(weights.means, found.means)
    np.testing.assert_array_equal(dln.time_average(PROBLEM, 4, alpha=0.5).times, [4.0])
    assert repr(found).startswith("TimeAverage(reached t_end: 2 times to t=4, error_estimate=")


@pytest.mark.parametrize(("times", "options", "kind", "match"), [
    ([1.0, 1.0], {}, ValueError, r"times must increase, but times\[1\] = 1 follows 1"),
    ([0.0, 1.0], {}, ValueError, r"times\[0\] must be positive and finite, got 0.0"),
    ([1.0, np.nan], {}, ValueError, r"times\[1\] must be positive and finite, got nan"),
    ([], {}, ValueError, r"times must be a vector of at least one time, got shape \(0,\)"),
    ("soon", {}, TypeError, "times must be a number or a vector of numbers, got 'soon'"),
    (1.0, {"rtol": 0.0}, ValueError, "rtol must be finite and above 0"),
    (1.0, {"rtol": 0.6}, ValueError, "rtol must be at most 0.5"),
    (1.0, {"rule": "sam"}, TypeError, "rule must be a training rule"),
    (1.0, {"log_alpha": 0.0}, ValueError, "give exactly one of alpha, log_alpha and initial_weights"),
])
def test_bad_arguments_are_named(times, options, kind, match):
    with pytest.raises(kind, match=match):
        dln.time_average(PROBLEM, times, alpha=0.1, **options)


def test_a_problem_is_needed():
    with pytest.raises(TypeError, match=r"problem must be a dln\.Problem, got ndarray"):
        dln.time_average(np.eye(2), 1.0, alpha=0.1)
