"""The picture of step sizes: its numbers against single runs, the edge against the Hessian, failed runs counted."""

import numpy as np
import pytest

import dln
from figures import step_size


@pytest.fixture(scope="module")
def problem():
    return dln.sparse_regression(6, 10, 2, rng=1)


@pytest.fixture(scope="module")
def data(problem):
    edge = step_size.compute(problem, steps=[0.01]).edge
    return step_size.compute(problem, steps=edge * np.array([0.05, 0.3, 0.8, 8.0]), n_steps=20_000)


def test_shifts_are_those_of_single_runs(problem, data):
    """Reference: `descend`; one run per cell."""
    run = dln.descend(problem, step=float(data.steps[1]), n_steps=20_000, alpha=0.1, residual_tol=1e-6)
    np.testing.assert_array_equal(data.log_shifts[0, 1], run.log_effective_alpha - np.log(0.1))
    run = dln.descend(problem, step=float(data.steps[0]), n_steps=20_000, alpha=0.1, residual_tol=1e-6, batch_size=1, rng=0)
    np.testing.assert_array_equal(data.log_shifts[1, 0], run.log_effective_alpha - np.log(0.1))


def test_larger_steps_shrink_more(data):
    """Reference: log|1 - 4 eta^2 g^2| summed over a time in proportion to 1/eta is about linear in eta."""
    means = np.mean(data.log_shifts[0, :3], axis=1)
    assert np.all(np.diff(means) < 0) and np.all(means < 0)
    assert means[1] / means[0] == pytest.approx(6, rel=0.4)


def test_the_edge_is_that_of_the_hessian_in_the_weights(problem):
    """Reference: second differences of the gradient in the weights, at the end of gradient flow."""
    run = dln.flow(problem, alpha=0.1, residual_tol=1e-10)
    weights = np.concatenate([np.exp(run.log_u), np.exp(run.log_v)])

    def gradient(w):
        u, v = w[:10], w[10:]
        g = problem.gradient(u * u - v * v)
        return np.concatenate([2 * u * g, -2 * v * g])

    h = 1e-6
    hessian = np.array([(gradient(weights + h * e) - gradient(weights - h * e)) / (2 * h) for e in np.eye(20)])
    largest = np.linalg.eigvalsh((hessian + hessian.T) / 2)[-1]
    assert step_size.curvature(problem, run.log_u, run.log_v) == pytest.approx(largest, rel=1e-6)


def test_a_step_that_converges_ends_where_it_is_stable(data):
    """Reference: linear stability of gradient descent, step times curvature at most 2."""
    kept = data.success[0]
    assert kept.sum() >= 3 and np.all(data.steps[kept] * data.curvatures[kept] < 2)


def test_failed_runs_are_counted_and_drawn(data):
    assert not data.success[:, -1].any() and np.isnan(data.log_shifts[:, -1]).all()
    top, bottom = step_size.draw(data)
    top.figure.draw_without_rendering()
    for count, panel in zip(data.n_failed, (top, bottom), strict=True):
        words = [text.get_text() for text in panel.get_legend().get_texts()]
        assert f"did not converge: {count} of 4 runs" in words
        assert sum(line.get_marker() == "x" for line in panel.lines) == 1


def test_nothing_but_failures_can_be_drawn(problem):
    data = step_size.compute(problem, steps=[50.0, 80.0], n_steps=100)
    assert list(data.n_failed) == [2, 2] and data.status[0, 0] == "diverged"
    step_size.draw(data)[0].figure.draw_without_rendering()


def test_bad_steps_are_refused(problem):
    with pytest.raises(ValueError, match="steps must increase"):
        step_size.compute(problem, steps=[0.1, 0.1])
