"""Answers of the minimiser to uneven shifts of its scales: finite differences, an exact symmetry, a closed form."""

import math

import numpy as np
import pytest

import dln
from figures._scale_response import Response, neutral_shifts

PROBLEM = dln.sparse_regression(8, 15, 3, column_mean=0.7, noise=0.1, rng=4)


def at(problem, log_alpha):
    log_alpha = np.broadcast_to(log_alpha, (problem.n_features,))
    return Response(problem, dln.minimize_potential(problem, log_alpha=log_alpha).beta, np.array(log_alpha, dtype=float))


@pytest.mark.parametrize("alpha", [1e-3, 0.1, 3.0])
def test_the_motion_is_the_derivative_of_the_minimiser(alpha):
    """Reference: central differences of `dln.minimize_potential`, whose error is of second order."""
    shifts = np.random.default_rng(0).standard_normal(15)
    response = at(PROBLEM, math.log(alpha))
    h = 1e-4
    ends = [dln.minimize_potential(PROBLEM, log_alpha=math.log(alpha) + sign * h * shifts).beta for sign in (1, -1)]
    scale = np.abs(response.motion(shifts)).max()
    np.testing.assert_allclose(response.motion(shifts), (ends[0] - ends[1]) / (2 * h), atol=3e-6 * scale)
    np.testing.assert_allclose(PROBLEM.X @ response.motion(shifts), 0, atol=1e-12)


def test_weights_are_the_transpose_of_the_motion():
    """Reference: the chain rule, for a slope and shifts drawn at random."""
    slope, shifts = np.random.default_rng(1).standard_normal((2, 15))
    response = at(PROBLEM, math.log(0.05))
    assert response.weights(slope) @ shifts == pytest.approx(slope @ response.motion(shifts), rel=1e-11)


@pytest.mark.parametrize("log_alpha", [-20.0, -3.0, 0.0, 2.0])
def test_shifts_in_fair_shares_move_nothing(log_alpha):
    """Reference: S w = beta w coth w and w is in the row space of X, so that P (beta w coth w) = beta w coth w."""
    response = at(PROBLEM, log_alpha)
    size = np.abs(response.beta * response.fair_shares).max()
    np.testing.assert_allclose(response.motion(response.fair_shares), 0, atol=1e-10 * size)
    weights = response.weights(np.sign(response.beta))
    assert abs(weights @ response.fair_shares) < 1e-10 * (np.abs(weights) @ response.fair_shares)


@pytest.mark.parametrize("log_alpha", [-60.0, -4.0, -0.5])
@pytest.mark.parametrize("stretch", [0.5, 1.01, 3.0])
def test_neutral_shifts_keep_the_minimiser(log_alpha, stretch):
    """Reference: the minimiser at the shifted scales, solved for anew; its multipliers are `stretch` times the old ones."""
    first = dln.minimize_potential(PROBLEM, log_alpha=log_alpha)
    shifts = neutral_shifts(first.beta, log_alpha, stretch)
    second = dln.minimize_potential(PROBLEM, log_alpha=log_alpha + shifts)
    assert second.success and np.ptp(shifts) > 1e-3 * abs(stretch - 1)
    np.testing.assert_allclose(second.beta, first.beta, atol=1e-9 * np.abs(first.beta).max())
    np.testing.assert_allclose(second.dual, stretch * first.dual, rtol=1e-7, atol=1e-9 * np.abs(first.dual).max())


def test_neutral_shifts_begin_as_fair_shares():
    """Reference: the derivative of log(sinh w/sinh(k w))/2 in k at k = 1 is -w coth(w)/2; w = 0 among them."""
    beta = np.array([0.0, 1e-9, -0.3, 2.0])
    response = Response(dln.Problem(np.eye(4), beta), beta, np.full(4, -1.0))
    slope = (neutral_shifts(beta, -1.0, 1 + 1e-5) - neutral_shifts(beta, -1.0, 1 - 1e-5)) / 2e-5
    np.testing.assert_allclose(slope, -0.5 * response.fair_shares, rtol=1e-8)


def test_two_coordinates_with_one_sample_in_closed_form():
    """Reference: X = (1, k), in the rich limit: b_2 = a_2^2 (b_1/a_1^2)^k, so d log b_2 = 2 d ell_2 - 2 k d ell_1.

    The planted first coordinate has 1/k times the fair share of the second: a fall of the first by more than 1/k times that of
    the second lets b_2 grow, and with it the l1 norm.
    """
    k, log_alpha = 0.5, -12.0
    response = at(dln.Problem(np.array([[1.0, k]]), np.array([1.0])), log_alpha)
    weights = response.weights(np.sign(response.beta))
    assert weights[0] < 0 < weights[1]
    np.testing.assert_allclose(-weights[1] / weights[0], 1 / k, rtol=1e-4)
    np.testing.assert_allclose(response.fair_shares[0] / response.fair_shares[1], 1 / k, rtol=1e-4)
    moved = response.motion(np.array([-0.3, -0.1]))[1] / response.beta[1]
    assert moved == pytest.approx(2 * (-0.1 + k * 0.3), rel=1e-4)


def test_even_shifts_move_nothing_in_the_kernel_regime():
    """Reference: the kernel limit does not depend on alpha; the error is of order alpha^-4 (T17)."""
    sizes = [np.abs(at(PROBLEM, math.log(alpha)).motion(np.ones(15))).max() for alpha in (10.0, 20.0)]
    assert sizes[1] / sizes[0] == pytest.approx(2**-4, rel=1e-2)


def test_a_bad_stretch_is_named():
    with pytest.raises(ValueError, match="stretch must be positive and finite, got -1"):
        neutral_shifts(np.ones(2), 0.0, -1)
