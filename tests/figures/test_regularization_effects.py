"""Effects of regularization on scale and solution: first orders against runs, signs in closed cases, counted failures."""

import math

import numpy as np
import pytest

import dln
from figures._regularization_effects import Baseline, Effects, mapped, overcharge, planted, signed_rule

PROBLEM = dln.sparse_regression(8, 15, 3, column_mean=1.0, rng=3)


@pytest.fixture(scope="module")
def baseline():
    return Baseline(PROBLEM, 0.1)


def named(row):
    return Effects.stacked([row], (1,))


@pytest.mark.parametrize("rule", [
    dln.GradientRegularization(1e-4, 0.1), dln.GradientRegularization(1e-4, 0.1, "backward"),
    dln.GradientRegularization(1e-4, 0.3, "centered"), dln.GradientRegularization(1e-4, scheme="exact"), dln.SAM(1e-4),
], ids=["forward", "backward", "centered", "exact", "SAM"])
def test_integrals_along_gradient_flow_are_the_first_order_in_gamma(baseline, rule):
    """Reference: a run with gamma = 1e-4 whose tolerance resolves its shift; what is left is O(gamma), and the quadrature."""
    run = dln.flow(PROBLEM, rule, alpha=0.1, rtol=1e-11)
    shift = run.log_effective_alpha - math.log(0.1)
    np.testing.assert_allclose(baseline.foreseen_shift(rule), shift, rtol=5e-3, atol=2e-3 * np.abs(shift).max())


def test_the_error_of_the_first_order_is_of_second_order(baseline):
    """Reference: relative errors in proportion to gamma, for the change of the l1 norm and of the distance."""
    rows = [named(baseline.effects(dln.GradientRegularization(gamma, 0.1))) for gamma in (0.02, 0.04)]
    for name in ("l1", "distance"):
        errors = [float(abs(getattr(row, f"first_{name}") - getattr(row, name))[0]) for row in rows]
        assert errors[1] / errors[0] == pytest.approx(4, rel=0.25), name
        assert errors[0] < 0.1 * abs(float(getattr(rows[0], name)[0])), name


def test_a_change_is_negative_exactly_where_the_overcharge_is_below_1():
    """Reference: sum_j h_j d ell_j = (overcharge - 1) times the fall on the positive weights, whatever the fall."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        weights, shift = rng.standard_normal(9), -rng.random(9)
        gain = -weights[weights > 0] @ shift[weights > 0]
        assert weights @ shift == pytest.approx((overcharge(weights, shift) - 1) * gain, rel=1e-9, abs=1e-12)


def test_falls_in_fair_shares_overcharge_nobody(baseline):
    """Reference: the weights are orthogonal to the fair shares."""
    shares = baseline.response.fair_shares
    assert overcharge(baseline.l1_weights, -shares) == pytest.approx(1, rel=1e-10)
    assert overcharge(baseline.l1_weights, -np.ones(15)) < 1 < overcharge(baseline.l1_weights, -(shares**2))


def test_a_single_interpolator_stays_where_it_is_while_its_scales_fall():
    """Reference: orthonormal columns, N = d: one interpolator, whatever the scales; only they fall."""
    X = np.linalg.qr(np.random.default_rng(2).standard_normal((6, 6)))[0]
    truth = np.array([1.0, -0.5, 0.3, 0.2, 0.1, 0.4])
    noisy = dln.Problem(X, X @ (truth + 0.1), truth=truth)
    row = named(Baseline(noisy, 0.1).effects(dln.GradientRegularization(0.1, 0.1)))
    assert row.mean_shift[0] < -1e-4 and row.spread[0] > 1e-5
    for name in ("l1", "distance", "even_l1", "even_distance", "first_l1", "foreseen_distance"):
        assert abs(getattr(row, name)[0]) < 1e-7, name


def test_opposite_signs_take_the_common_gradient_away():
    """Reference: y = column_mean * sum(truth) + ..., so that signs that sum to 0 leave the column mean no say in y."""
    even, odd = (planted(30, 60, signs, 2.5, seed=1) for signs in ((1, -1, 1, -1), (1, 1, 1, 1)))
    np.testing.assert_array_equal(even.X, odd.X)
    np.testing.assert_allclose(even.y, (even.X - 2.5) @ even.truth, atol=1e-12)
    rule = dln.GradientRegularization(0.05, 0.1)
    balanced, equal = (named(Baseline(problem, 0.05).effects(rule)) for problem in (even, odd))
    assert balanced.mean_shift[0] < 0 < balanced.l1[0] and balanced.overcharge[0] > 1
    assert equal.l1[0] < 0 and equal.overcharge[0] < 1
    assert balanced.even_l1[0] < 0 and equal.even_l1[0] < 0


def test_signed_steps_are_rules():
    assert signed_rule(0.1, 0.2) == dln.GradientRegularization(0.1, 0.2, "forward")
    assert signed_rule(0.1, -0.2) == dln.GradientRegularization(0.1, 0.2, "backward")
    assert signed_rule(0.1, 0) == dln.GradientRegularization(0.1, scheme="exact")


def test_failed_runs_are_left_out_and_counted():
    rows = np.arange(36.0).reshape(3, 12) - 14
    rows[1] = np.nan
    effects = Effects.stacked(rows, (1, 3))
    assert effects.n_failed == 1
    np.testing.assert_array_equal(effects.quantiles("l1", [0.5]), [[(rows[0, 2] + rows[2, 2]) / 2]])
    assert effects.lowered("l1") == [0.5] and effects.agreement("l1", "distance") == 1.0
    empty = Effects.stacked(np.full((2, 12), np.nan), (1, 2))
    assert np.isnan(empty.quantiles("l1")).all() and np.isnan(empty.lowered("l1")).all()
    assert math.isnan(empty.agreement("l1", "even_l1"))


@pytest.mark.parametrize("strength, fits", [(0.97, True), (1.03, False)])
def test_a_network_that_collapses_to_0_does_not_count_as_rich(strength, fits):
    """Reference: the rate 2 |g| (1 - 2 gamma |g|) at which a weight near 0 grows, of both signs of 1 - 2 gamma |g(0)|.

    Of a single coordinate: with others, those whose gradient is smaller would fit the data in its place.
    """
    problem = dln.Problem(np.array([[1.0]]), np.array([2.0]), truth=np.array([2.5]))
    gamma = strength / (2 * float(np.max(np.abs(problem.gradient(np.zeros(1))))))
    row = named(Baseline(problem, 1e-4).effects(dln.GradientRegularization(gamma, gamma)))
    assert row.n_failed == (0 if fits else 1) and np.isfinite(row.l1[0]) == fits


def test_a_coordinate_whose_gradient_is_too_large_loses_its_place_to_another():
    """Reference: the same rate, positive for the second coordinate only; it alone must then fit the sample, with b = y/x."""
    problem = dln.Problem(np.array([[1.0, 1e-3]]), np.array([2.0]))
    g = np.abs(problem.gradient(np.zeros(2)))
    run = dln.flow(problem, dln.GradientRegularization(1.2 / (2 * g[0]), 0.1), alpha=1e-4)
    assert run.status == dln.Status.CONVERGED and g[0] > 100 * g[1]
    np.testing.assert_allclose(run.beta, [0.0, 2.0 / 1e-3], atol=1e-6)


def test_jobs_keep_their_order():
    assert mapped(lambda job: job**2, range(20), 4, None, "") == [k**2 for k in range(20)]
    assert mapped(abs, [], 2, None, "") == []


def test_bad_problems_and_rules_are_named(baseline):
    with pytest.raises(ValueError, match="planted vector"):
        Baseline(dln.Problem(PROBLEM.X, PROBLEM.y), 0.1)
    with pytest.raises(ValueError, match="nothing to compare"):
        Baseline(dln.Problem(np.eye(2), np.zeros(2), truth=np.zeros(2)), 0.1)
    with pytest.raises(ValueError, match="rule must be a squared GradientRegularization or a full-batch SAM, got WeightDecay"):
        baseline.effects(dln.WeightDecay(0.1))
