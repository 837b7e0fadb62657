"""Trajectories: numbers against single runs and closed forms, pictures of failed runs."""

import numpy as np
import pytest
from matplotlib.figure import Figure

import dln
from figures import trajectories


@pytest.fixture(scope="module")
def problem():
    return dln.sparse_regression(5, 9, 2, rng=3)


def test_one_coordinate_follows_its_closed_form():
    """Reference: the closed form for X = [[1]]; u v is conserved, so ``u^2 + v^2 = sqrt(beta^2 + 4 alpha^4)``.

    Hence ``beta' = 2 sqrt(beta^2 + 4 alpha^4) (y - beta)``, and the time to reach a value is an integral over beta.
    """
    from scipy.integrate import quad

    y, alpha = 2.0, 0.3
    data = trajectories.compute(dln.Problem([[1.0]], [y]), alphas=[alpha], n_times=7)
    for time, beta, loss in zip(data.times[0], data.betas[0, :, 0], data.losses[0], strict=True):
        if beta < y * (1 - 1e-4):
            needed, _ = quad(lambda w: 0.5 / (np.sqrt(w * w + 4 * alpha**4) * (y - w)), 0, beta, epsrel=1e-10)
            assert time == pytest.approx(needed, rel=1e-6)
        assert loss == pytest.approx((beta - y) ** 2 / 4, rel=1e-9, abs=1e-20)


def test_ends_agree_with_single_runs(problem):
    """Reference: `flow` without saved times, and the dual Newton minimiser."""
    rule = dln.GradientRegularization(0.05, 0.2)
    data = trajectories.compute(problem, rule, alphas=[1e-4, 1e-1], n_times=20)
    assert data.success.all() and list(data.status) == ["converged", "converged"]
    for k, alpha in enumerate([1e-4, 1e-1]):
        run = dln.flow(problem, rule, alpha=alpha, residual_tol=1e-6)
        assert data.times[k, -1] == run.t and np.all(np.diff(data.times[k]) > 0)
        np.testing.assert_allclose(data.betas[k, -1], run.beta, atol=1e-6)
        np.testing.assert_allclose(data.betas[k, -1], dln.predict(run).beta, atol=1e-5)
        losses = np.array([problem.loss(beta) for beta in data.betas[k]])
        # A residual is known to rounding times the data, however small it is: so much may be lost of the root of a loss.
        assert np.all(np.abs(np.sqrt(data.losses[k]) - np.sqrt(losses)) <= 1e-12 * np.sqrt(losses) + 1e-16)


def test_scales_below_the_smallest_float(problem):
    """Reference: in time over log(1/alpha) the small-scale limit does not depend on alpha (Pesme & Flammarion 2023)."""
    data = trajectories.compute(problem, log_alphas=[-5000, -2500], n_times=1000)
    assert data.success.all()
    half = [np.interp(-0.5 * losses[0], -losses, times / -log_alpha)
            for losses, times, log_alpha in zip(data.losses, data.times, data.log_alphas, strict=True)]
    assert half[0] == pytest.approx(half[1], rel=0.01)


def test_a_trajectory_ends_where_it_has_converged(problem):
    """Reference: the loss: from a small scale, too, it reaches the tolerance at the end of the picture and not long before."""
    data = trajectories.compute(problem, alphas=[1e-12, 1e-3], n_times=50)
    for losses in data.losses:
        # A residual of 1e-6 is a loss of 1e-12 of that of 0.
        assert np.count_nonzero(losses > 1e-11 * losses[0]) > 40


def test_a_failed_run_is_kept_and_marked(problem):
    data = trajectories.compute(problem, alphas=[1e-3, 1], max_steps=30)
    assert not data.success[0] and data.status[0] == "step limit"
    top, _ = trajectories.draw(data)
    labels = [text.get_text() for text in top.get_legend().get_texts()]
    assert "(step limit)" in labels[0]
    assert sum(line.get_marker() == "x" for line in top.lines) == np.sum(~data.success)
    top.figure.draw_without_rendering()


@pytest.mark.parametrize("X, y", [(np.zeros((2, 3)), [1, 0]), (np.eye(2, 3), [0, 0]), ([[1.0]], [1.0])],
                         ids=["X = 0", "y = 0", "1x1"])
def test_degenerate_data_are_drawn(X, y):
    data = trajectories.compute(dln.Problem(X, y), alphas=[0.1], n_times=5)
    top, bottom = trajectories.draw(data)
    top.figure.draw_without_rendering()
    assert np.isfinite(data.losses).all() and top.figure is bottom.figure


def test_time_is_rescaled_where_that_makes_sense(problem):
    """Reference: log(1/alpha) must be positive, and one curve has nothing to be compared with."""
    labels = [trajectories.draw(trajectories.compute(problem, alphas=alphas, n_times=5))[1].get_xlabel()
              for alphas in ([1e-3, 1e-1], [1e-3], [1e-3, 2])]
    assert ["log(1/" in label for label in labels] == [True, False, False]


def test_it_draws_on_the_axes_given(problem):
    data = trajectories.compute(problem, alphas=[0.1], n_times=5)
    axes = Figure().subplots(2, 1)
    drawn = trajectories.draw(data, axes)
    assert drawn[0] is axes[0] and drawn[1] is axes[1] and axes[1].lines
    with pytest.raises(ValueError, match="ax must hold 2 Axes, got 1"):
        trajectories.draw(data, axes[0])


def test_names_are_shown_as_they_are():
    """A dollar sign would start mathematics, a leading underscore hide the entry."""
    problem = dln.Problem([[1.0, 2.0]], [1.0], feature_names=["_a", "$b"])
    _, bottom = trajectories.draw(trajectories.compute(problem, alphas=[0.1], n_times=5))
    bottom.figure.draw_without_rendering()
    assert [text.get_text() for text in bottom.get_legend().get_texts()] == [r"\$b", " _a"]


def test_both_kinds_of_scale_are_refused(problem):
    with pytest.raises(ValueError, match="give one of alphas and log_alphas"):
        trajectories.compute(problem, alphas=[1], log_alphas=[0])
