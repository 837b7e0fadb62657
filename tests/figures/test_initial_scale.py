"""The picture of initial scales: its numbers against single solves, its two orders, limits, and what failed."""

import numpy as np
import pytest

import dln
from figures import initial_scale


@pytest.fixture(scope="module")
def problem():
    return dln.sparse_regression(10, 25, 3, noise=0.1, rng=9)


@pytest.fixture(scope="module")
def data(problem):
    return initial_scale.compute(problem, log_alphas=np.log(10.0) * np.linspace(-12, 3, 31))


def test_measures_are_those_of_single_minimisers(problem, data):
    """Reference: `minimize_potential` and the definitions; the l1 minimum from HiGHS."""
    least = np.sum(np.abs(dln.basis_pursuit(problem).beta))
    for k, depth in enumerate(data.depths):
        for a in (8, 22, 30):
            beta = dln.minimize_potential(problem, log_alpha=data.log_alphas[a], depth=depth).beta
            norm = np.sum(np.abs(beta))
            assert data.excess[k, a] == pytest.approx(norm / least - 1, rel=1e-7, abs=1e-12)
            assert data.effective_number[k, a] == pytest.approx(norm**2 / np.sum(beta**2), rel=1e-9)
            distance = np.linalg.norm(beta - problem.truth) / np.linalg.norm(problem.truth)
            assert data.distances[k, a] == pytest.approx(distance, rel=1e-9)


def test_the_excess_vanishes_like_alpha_to_twice_the_gap_and_to_the_depth(problem):
    """Reference: only dormant coordinates exceed the l1 norm, 2 alpha^2 sinh(4 x.nu) and alpha^D h(x.nu) each."""
    best = dln.basis_pursuit(problem)
    gap = 1.0 - np.max(np.abs(problem.X.T @ best.dual)[best.beta == 0.0])
    data = initial_scale.compute(problem, log_alphas=np.log(10.0) * np.array([-40.5, -40.0]))
    slopes = np.diff(np.log(data.excess), axis=1)[:, 0] / np.diff(data.log_alphas)
    np.testing.assert_allclose(slopes, [2.0 * gap, 3.0, 4.0], rtol=1e-5)


def test_deeper_networks_are_rich_at_larger_scales(data):
    """Reference: the excess at one scale, below the scale of the data."""
    below = data.log_alphas < np.log(0.3)
    assert np.all(np.diff(data.excess[:, below], axis=0) < 0)


def test_ends_are_the_two_norms(problem, data):
    """Reference: `minimum_norm` (QR) and `basis_pursuit` (HiGHS)."""
    ends = dln.minimum_norm(problem).beta, dln.basis_pursuit(problem).beta
    for beta, number, distance, column in zip(ends, data.effective_limits, data.distance_limits, (-1, 0), strict=True):
        assert number == pytest.approx(np.sum(np.abs(beta)) ** 2 / np.sum(beta**2), rel=1e-12)
        np.testing.assert_allclose(data.effective_number[1:, column], number, rtol=1e-6)
        np.testing.assert_allclose(data.distances[1:, column], distance, rtol=1e-6)
    np.testing.assert_allclose(data.excess[:, -1], data.kernel_excess, rtol=1e-6)


def test_picture_shows_every_depth_and_both_limits(data):
    axes = initial_scale.draw(data)
    axes[0].figure.draw_without_rendering()
    assert [text.get_text() for text in axes[0].get_legend().get_texts()] == ["depth 2", "depth 3", "depth 4"]
    for panel, values in zip(axes, (data.excess, data.effective_number, data.distances), strict=True):
        for k in range(3):
            np.testing.assert_array_equal(panel.lines[k].get_ydata(), values[k])
    assert axes[0].get_yscale() == "log" and axes[2].get_xlabel() == r"initial scale $\alpha$"


def test_what_is_not_certified_is_counted_and_drawn():
    """Reference: rows that agree to 1e-12 leave residuals that no float predictor removes."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((6, 12))
    X[1] = X[0] + 1e-12 * rng.standard_normal(12)
    data = initial_scale.compute(dln.Problem(X, rng.standard_normal(6), truth=np.ones(12)), log_alphas=[-5.0, 0.0], depths=[2])
    assert data.n_failed > 0
    panel = initial_scale.draw(data)[0]
    panel.figure.draw_without_rendering()
    assert panel.get_legend().get_texts()[-1].get_text() == f"not converged: {data.n_failed} of 2"


def test_bad_arguments_are_refused(problem):
    with pytest.raises(ValueError, match="log_alphas must increase"):
        initial_scale.compute(problem, log_alphas=[0.0, -1.0])
    with pytest.raises(ValueError, match="the picture shows the distance to the truth"):
        initial_scale.compute(dln.Problem(problem.X, problem.y))
    with pytest.raises(ValueError, match="depths must hold at least one depth"):
        initial_scale.compute(problem, depths=[])
