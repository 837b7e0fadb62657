"""Noise: numbers against ensembles and laws, pictures of failed runs."""

import math

import numpy as np
import pytest
from matplotlib.figure import Figure

import dln
from figures import noise

PROBLEM = dln.sparse_regression(5, 9, 2, rng=3)


@pytest.fixture(scope="module")
def data():
    return noise.compute(PROBLEM, alpha=0.3, step=0.02, label_noise=0.5, n_steps=2000, n_runs=40, n_times=12)


def test_the_rows_are_those_of_ensembles(data):
    steps = np.rint(data.times / 0.02).astype(int)
    runs = dln.ensemble(dln.descend, PROBLEM, n_runs=40, step=0.02, n_steps=2000, alpha=0.3, batch_size=1, label_noise=0.5,
                        save_at=steps, residual_tol=None)
    np.testing.assert_array_equal(data.losses[2], runs.saved_losses)
    np.testing.assert_allclose(data.logs[2], runs.saved_mean_log_effective_alphas - math.log(0.3), rtol=1e-12)
    assert data.logs.shape == (3, 40, len(steps)) and not data.n_failed.any()


def test_gradient_descent_follows_the_flow_to_first_order_of_the_step(data):
    """Reference: -2 eta int g^2, right to O(eta) relative to itself: a step 4 times smaller is nearer."""
    fine = noise.compute(PROBLEM, alpha=0.3, step=0.005, n_steps=8000, n_runs=2, n_times=12)
    errors = [abs(d.logs[0, 0, -1] / d.log_laws[0, -1] - 1) for d in (data, fine)]
    assert errors[1] < 0.4 * errors[0] < 0.02


@pytest.mark.parametrize("k", [1, 2])
def test_discrete_means_lie_at_the_laws(data, k):
    """Reference: the stochastic flow, within four standard errors of both means (and the O(eta) of the limit)."""
    mean, error = data.logs[k].mean(axis=0), data.logs[k].std(axis=0, ddof=1) / math.sqrt(40)
    allowed = 4 * np.hypot(error, data.log_law_halves[k] / 2) + 0.03 * abs(mean)
    late = data.times > 1
    assert np.all(abs(mean - data.log_laws[k])[late] <= allowed[late])


def test_noise_shrinks_more_than_none_and_label_noise_for_ever(data):
    fall = -data.logs.mean(axis=1)
    assert np.all(fall[0] < fall[1]) and np.all(fall[1] < fall[2])
    middle = np.searchsorted(data.times, 10.0)
    assert fall[2, -1] > 2 * fall[2, middle] and fall[1, -1] < 1.3 * fall[1, middle]


def test_the_picture_holds_what_was_computed(data):
    top, bottom = noise.draw(data)
    np.testing.assert_allclose(top.lines[0].get_ydata(), -data.logs[0].mean(axis=0))
    np.testing.assert_allclose(top.lines[5].get_ydata(), -data.log_laws[2])
    np.testing.assert_allclose(bottom.lines[2].get_ydata(), np.median(data.losses[2], axis=0))
    assert [text.get_text() for text in top.get_legend().get_texts()] == [*noise.METHODS, "theory"]
    assert top.get_yscale() == bottom.get_xscale() == "log"
    top.figure.draw_without_rendering()


def test_failed_runs_are_counted_in_the_legend():
    data = noise.compute(PROBLEM, alpha=0.3, step=0.5, label_noise=0.2, n_steps=200, n_runs=6, n_times=4)
    assert data.n_failed.any()
    figure = Figure(figsize=(3.3, 3.6))
    axes = noise.draw(data, figure.subplots(2, 1))
    assert "failed)" in " ".join(text.get_text() for text in axes[0].get_legend().get_texts())
    figure.draw_without_rendering()


@pytest.mark.parametrize("options, message", [
    ({"n_runs": 1}, "n_runs must be at least 2"),
    ({"n_times": 1}, "n_times and n_steps must be at least 2"),
    ({"step": -0.1}, "step"),
])
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        noise.compute(PROBLEM, **options)
