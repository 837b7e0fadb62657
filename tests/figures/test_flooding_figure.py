"""The picture of flooding: its numbers against single runs, and failed runs said to be so."""

import numpy as np
import pytest
from matplotlib.figure import Figure

import dln
from figures import flooding


@pytest.fixture(scope="module")
def data():
    return flooding.compute(n_steps=1500, n_times=40)


def test_the_loss_hovers_and_the_averaged_motion_stays(data):
    """Reference: a step changes the loss by about eta |grad L|^2."""
    late = data.times > 2
    assert np.max(np.abs(data.losses[late] - data.level)) < 1.5 * data.step * np.max(data.gradient_norms[late] ** 2)
    np.testing.assert_allclose(data.flow_losses[data.flow_times > 2], data.level, rtol=1e-8)
    assert data.success and data.n_descents + data.n_ascents == 1500


def test_both_gradient_norms_fall_together(data):
    """Reference: each the other; they differ by the hovering, of order eta."""
    both = np.interp(data.flow_times, data.times, data.gradient_norms)
    late = data.flow_times > 3
    np.testing.assert_allclose(both[late], data.flow_gradient_norms[late], rtol=0.06)
    assert data.flow_gradient_norms[-1] < 0.97 * data.flow_gradient_norms[late][0]
    gap = np.interp(data.flow_times, data.times, data.mean_log_shift) - data.flow_mean_log_shift
    # On the level both shrink alike: what is made on the way to it stays.
    np.testing.assert_allclose(gap[late], gap[-1], atol=0.05 * abs(data.mean_log_shift[-1]))


def test_norms_are_those_of_weight_gradients(data):
    """Reference: differentiation in the weights, by hand, at the start."""
    problem = dln.sparse_regression(20, 40, 3, rng=0)
    g = problem.gradient(np.zeros(40))
    assert data.gradient_norms[0] == pytest.approx(np.linalg.norm(np.concatenate([2 * 0.3 * g, -2 * 0.3 * g])), rel=1e-12)


def test_it_draws_both_motions_on_the_axes_given(data):
    axes = Figure(figsize=(3.3, 4.6), layout="constrained").subplots(3, 1)
    drawn = flooding.draw(data, axes)
    assert all(one is other for one, other in zip(drawn, axes, strict=True))
    assert [len(panel.lines) for panel in drawn] == [3, 2, 2]
    drawn[0].figure.draw_without_rendering()


def test_a_run_that_diverges_is_named():
    data = flooding.compute(step=30.0, n_steps=50, n_times=3)
    assert not data.success
    assert "diverged" in flooding.draw(data)[0].get_legend().get_texts()[0].get_text()


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="n_steps must be at least 1, got 0"):
        flooding.compute(n_steps=0)
    with pytest.raises(ValueError, match="n_times must be at least 2, got 1"):
        flooding.compute(n_times=1)
