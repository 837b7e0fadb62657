"""Step sizes and scales: each cell against the library's other routes."""

import numpy as np
import pytest

import dln
from figures import phase_step


@pytest.fixture(scope="module")
def problem():
    return dln.sparse_regression(8, 16, 2, rng=1)


def test_small_steps_are_gradient_flow_and_large_ones_diverge(problem):
    """Reference: the minimiser of the potential, by the dual; and the edge of stability, by the Hessian at that minimiser."""
    data = phase_step.compute(problem, alphas=[0.1, 0.5], steps=[0.01, 50.0], residual_tol=1e-8)
    sparse, dense = dln.basis_pursuit(problem).beta, dln.minimum_norm(problem).beta
    (line,) = data.lines
    for j, alpha in enumerate((0.1, 0.5)):
        beta = dln.minimize_potential(problem, alpha=alpha).beta
        richness = 1 - np.linalg.norm(beta - sparse) / np.linalg.norm(dense - sparse)
        assert data.values[0, j] == pytest.approx(richness, abs=0.02) and data.contours[0, j] < 0
        size = np.sqrt(beta**2 + 4 * alpha**4)  # u^2 + v^2 at u v = alpha^2
        hessian = 2 / 8 * problem.X @ np.diag(size) @ problem.X.T
        assert line.ys[j] == pytest.approx(2 / np.linalg.eigvalsh(hessian)[-1], rel=1e-3)
    assert data.status[1].tolist() == ["diverged", "diverged"] and np.isnan(data.values[1]).all()


def test_a_run_that_is_not_finished_is_no_result(problem):
    """Reference: the words of `dln.descend`."""
    data = phase_step.compute(problem, alphas=[0.1], steps=[1e-4], n_steps=10)
    assert data.status[0, 0] == str(dln.descend(problem, step=1e-4, n_steps=10, alpha=0.1).status)
    assert data.n_failed == 1 and np.isnan(data.values).all()
    axes = phase_step.draw(data)
    assert next(text.get_text() for text in axes.get_legend().get_texts()) == "all steps made: 1 of 1 runs"
