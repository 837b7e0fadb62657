"""Ensembles: single runs, SciPy's intervals, NumPy's moments, and expectations in closed form."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

import dln
from dln.ensemble import Moments

PROBLEM = dln.sparse_regression(8, 14, 2, rng=3)
DESCEND = {"step": 0.05, "n_steps": 200, "alpha": 0.3, "batch_size": 1}
FLOW = {"step": 0.05, "t_end": 10.0, "alpha": 0.3}
SAVED = {"descend": {"save_at": [0, 50, 200]}, "stochastic_flow": {"save_at": [0.0, 2.5, 10.0]}}
CASES = {"descend": (dln.descend, DESCEND), "stochastic_flow": (dln.stochastic_flow, FLOW)}


def same(one, other):
    for name in ("betas", "log_effective_alphas", "effective_log_ratios", "losses", "residuals", "saved_losses", "times",
                 "saved_mean_log_effective_alphas"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for name in ("saved_betas", "saved_log_effective_alphas"):
        np.testing.assert_array_equal(getattr(one, name).mean, getattr(other, name).mean)
        np.testing.assert_array_equal(getattr(one, name).variance, getattr(other, name).variance)


@pytest.mark.parametrize("name", CASES)
def test_the_bits_do_not_depend_on_threads(name):
    function, options = CASES[name]
    runs = [dln.ensemble(function, PROBLEM, n_runs=12, threads=k, seed=4, **options, **SAVED[name]) for k in (1, 2, 3)]
    same(runs[0], runs[1])
    same(runs[0], runs[2])
    assert len(np.unique(runs[0].losses)) == 12


@pytest.mark.parametrize("name", CASES)
def test_rows_are_the_runs_of_the_children_of_the_seed(name):
    function, options = CASES[name]
    runs = dln.ensemble(function, PROBLEM, dln.WeightDecay(0.001), n_runs=5, seed=9, **options, **SAVED[name])
    singles = [function(PROBLEM, dln.WeightDecay(0.001), rng=child, **options, **SAVED[name])
               for child in np.random.SeedSequence(9).spawn(5)]
    np.testing.assert_array_equal(runs.betas, [run.beta for run in singles])
    np.testing.assert_array_equal(runs.log_effective_alphas, [run.log_effective_alpha for run in singles])
    np.testing.assert_array_equal(runs.saved_losses, [run.losses for run in singles])
    assert runs.statuses == tuple(run.status for run in singles)
    alphas = np.array([(run.log_us + run.log_vs) / 2 for run in singles])
    np.testing.assert_allclose(runs.mean("saved_log_effective_alphas"), alphas.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(runs.saved_mean_log_effective_alphas, alphas.mean(axis=2), rtol=1e-13)
    # Where nothing has moved yet, the variance is that of rounding.
    np.testing.assert_allclose(runs.standard_deviation("saved_betas"),
                               np.std([run.betas for run in singles], axis=0, ddof=1), rtol=1e-9, atol=1e-16)
    np.testing.assert_allclose(runs.times, singles[0].times, rtol=1e-14)


def test_more_runs_begin_with_the_same():
    few, many = (dln.ensemble(dln.descend, PROBLEM, n_runs=k, **DESCEND) for k in (3, 7))
    np.testing.assert_array_equal(many.betas[:3], few.betas)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_confidence_interval_is_that_of_scipy(level):
    runs = dln.ensemble(dln.descend, PROBLEM, n_runs=6, **DESCEND, save_at=[100, 200])
    for name in ("betas", "losses", "saved_losses"):
        values = getattr(runs, name)
        lower, upper = runs.confidence_interval(name, level)
        wanted = stats.t.interval(level, 5, loc=values.mean(axis=0), scale=stats.sem(values, axis=0))
        np.testing.assert_allclose([lower, upper], wanted, rtol=1e-10)


def test_interval_of_running_moments_is_that_of_the_rows():
    runs = dln.ensemble(dln.descend, PROBLEM, n_runs=6, **DESCEND, save_at=[200])
    np.testing.assert_allclose(runs.confidence_interval("saved_betas"),
                               np.array(runs.confidence_interval("betas"))[:, None], rtol=1e-10)


def test_moments_far_from_zero():
    # The textbook sum of squares would lose all digits here; the reference is NumPy's two passes.
    values = 1e9 + np.random.default_rng(0).standard_normal((50, 3))
    moments = Moments((3,))
    for value in values:
        moments.add(value)
    np.testing.assert_allclose(moments.variance, values.var(axis=0, ddof=1), rtol=1e-6)
    np.testing.assert_allclose(moments.mean, values.mean(axis=0), rtol=1e-15)


def test_coverage_of_the_interval_on_a_known_mean():
    # One weight pair, label noise alone, tiny alpha: log u = log alpha - 2 sqrt(eta) delta B/2 - 2 Q is normal, and its
    # mean is log alpha - eta delta^2 t/2.
    problem, eta, delta = dln.Problem([[1.0]], [0.0]), 0.1, 1.0

    def log_u(problem, rule=None, *, rng=None, **options):
        run = dln.stochastic_flow(problem, rule, rng=rng, **options)
        return SimpleNamespace(**{name: getattr(run, name) for name in (
            "log_effective_alpha", "effective_log_ratio", "loss", "residual", "status", "message", "success")}, beta=run.log_u)

    exact = math.log(1e-20) - eta * delta**2 * 1.0 / 2
    inside = 0
    for seed in range(60):
        runs = dln.ensemble(log_u, problem, n_runs=8, seed=seed, threads=1, step=eta, t_end=1.0, alpha=1e-20, noise="labels",
                            label_noise=delta)
        lower, upper = runs.confidence_interval("betas", 0.8)
        inside += bool(lower[0] <= exact <= upper[0])
    # Binomial: 48 +- 3.1; outside of these limits with probability 1e-3.
    assert 38 <= inside <= 57


def test_mean_of_sgd_tends_to_that_of_the_flow():
    # Theorem of the stochastic flow of SGD, as a limit: the distance of mean log effective alpha falls with eta.
    distances = []
    for eta in (0.2, 0.05):
        discrete = dln.ensemble(dln.descend, PROBLEM, n_runs=150, step=eta, n_steps=round(20 / eta), alpha=0.3, batch_size=1,
                                residual_tol=None)
        flow = dln.ensemble(dln.stochastic_flow, PROBLEM, n_runs=150, seed=1, step=eta, t_end=20.0, alpha=0.3, dt=eta / 4)
        fallen = discrete.mean("log_effective_alphas") - math.log(0.3)
        distances.append(np.linalg.norm(discrete.mean("log_effective_alphas") - flow.mean("log_effective_alphas"))
                         / np.linalg.norm(fallen))
    assert distances[1] < 0.5 * distances[0]
    assert distances[1] < 0.1


def test_failed_runs_are_counted_and_left_out():
    # A step near the edge of stability: some seeds diverge.
    runs = dln.ensemble(dln.descend, PROBLEM, n_runs=12, step=0.2, n_steps=100, alpha=0.5, batch_size=2, save_at=[100])
    assert 0 < runs.n_failed < 12
    assert runs.n_failed == sum(status == dln.Status.DIVERGED for status in runs.statuses)
    np.testing.assert_array_equal(np.isnan(runs.losses), ~runs.success)
    np.testing.assert_array_equal(np.isnan(runs.betas).all(axis=1), ~runs.success)
    np.testing.assert_allclose(runs.mean("losses"), np.nanmean(runs.losses), rtol=1e-12)
    assert runs.saved_betas.count == 12 - runs.n_failed
    assert "diverged" in repr(runs)


def test_without_a_single_success_means_are_nan():
    runs = dln.ensemble(dln.descend, PROBLEM, n_runs=3, step=50.0, n_steps=100, alpha=1.0)
    assert runs.n_failed == 3
    assert np.isnan(runs.mean("betas")).all()
    assert np.isnan(runs.confidence_interval("losses")).all()


def test_converged_runs_stay_where_they_are():
    runs = dln.ensemble(dln.descend, PROBLEM, n_runs=2, step=0.2, n_steps=50_000, alpha=0.5, save_at=[10, 40_000])
    assert set(runs.statuses) == {dln.Status.CONVERGED}
    np.testing.assert_array_equal(runs.saved_losses[:, 1], runs.losses)
    np.testing.assert_allclose(runs.saved_betas.mean[1], runs.betas[0], rtol=1e-12)
    np.testing.assert_allclose(runs.times, [2.0, 8000.0], rtol=1e-12)


def test_errors_of_a_run_are_errors_of_the_ensemble():
    with pytest.raises(ValueError, match="alpha"):
        dln.ensemble(dln.descend, PROBLEM, n_runs=3, step=0.1, n_steps=10, alpha=-1.0)


@pytest.mark.parametrize("options, error, message", [
    ({"n_runs": 0}, ValueError, "n_runs must be a positive integer"),
    ({"n_runs": 2, "threads": 0}, ValueError, "threads must be a positive integer"),
    ({"n_runs": 2, "seed": -1}, ValueError, "seed must be an integer"),
    ({"n_runs": 2, "rng": 3}, ValueError, "give seed instead"),
    ({"n_runs": 2, "function": dln.flow}, TypeError, "another that takes rng="),
    ({"n_runs": 2, "problem": 3}, TypeError, r"build one with dln.Problem\(X, y\)"),
])
def test_bad_arguments_are_named(options, error, message):
    given = {"function": dln.descend, "problem": PROBLEM, **DESCEND} | options
    with pytest.raises(error, match=message):
        dln.ensemble(**given)


@pytest.mark.parametrize("name", ["times", "beta", 3])
def test_unknown_names_are_answered_with_the_known(name):
    runs = dln.ensemble(dln.descend, PROBLEM, n_runs=2, **DESCEND)
    with pytest.raises(ValueError, match="one of betas, log_effective_alphas"):
        runs.mean(name)


def test_level_of_an_interval():
    runs = dln.ensemble(dln.descend, PROBLEM, n_runs=2, **DESCEND)
    with pytest.raises(ValueError, match="level must be below 1"):
        runs.confidence_interval("betas", 95)
