"""Flooding: step pairs, the averaged motion on the level, and what it conserves."""

import dataclasses

import numpy as np
import pytest
import sympy as sp

import dln
import theory
from theory._derivation import Derivation, DerivationError
from theory._raw_descent import constant, descend, each_step
from theory._raw_route import RouteError, integrate
from theory._setting import Setting, default_data, real_data
from theory.flooding import StepPairs, flooding, level_of, step_of
from theory.sliding_mode import Sliding, averaged, averaged_pair, course_of, on_the_level

SMALL = default_data(2)[1]
SETTING = Setting(SMALL)


def test_every_step_pair_of_a_run_is_checked():
    """Reference: nearly all of 300 steps are in such a pair, and the discrepancy is that of rounding."""
    details = theory.get("T9").check(SMALL).details[SMALL.name]
    pairs = [details[name] for name in ("descent then ascent", "ascent then descent")]
    assert sum(one["raw_pairs"] for one in pairs) > 200
    assert [one["raw_pairs"] for one in pairs] == [one["engine_pairs"] for one in pairs]
    for one in (*pairs, details["u v at every step"]):
        assert one["tolerance"] == 1e-13 and max(one["raw"], one["engine"]) < 1e-14


def test_a_level_that_is_never_reached_is_no_check(monkeypatch):
    import theory.flooding as module

    monkeypatch.setattr(module, "level_of", lambda setting: 0.0)
    with pytest.raises(RouteError, match="pairs of opposite steps: too few"):
        StepPairs("descent then ascent", -1).measure(SETTING)


def test_on_the_level_itself_nothing_moves():
    """Reference: sign(0) = 0, by both routes."""
    u, v = SETTING.weights()
    level = float(SETTING.net.loss(u, v))
    run = descend(each_step(flooding(SETTING.net, level)), u, v, [7], constant(step_of(SETTING)))
    np.testing.assert_array_equal(run.u[0], u)
    problem = dln.Problem(np.eye(2), np.array([2.0, 2.0]))  # loss 1 exactly
    still = dln.descend(problem, dln.Flooding(1.0), step=0.1, n_steps=5, alpha=0.3)
    assert not still.beta.any() and still.n_descents == still.n_ascents == 0


def test_product_shrinks_by_the_same_factor_up_and_down():
    """Reference: two steps by hand, one above and one below the level."""
    net, (u, v), eta = SETTING.net, SETTING.weights(), step_of(SETTING)
    for level in (0.0, 1e3):
        run = descend(each_step(flooding(net, level)), u, v, [1], constant(eta))
        np.testing.assert_allclose(run.u[0] * run.v[0], u * v * (1 - 4 * eta**2 * net.beta_gradient(u, v) ** 2), rtol=1e-14)
    assert 0 < level_of(SETTING) < float(net.loss(u, v))


def test_the_averaged_motion_keeps_the_loss_and_lowers_the_gradient_norm():
    """Reference: Lagrange's identity: R falls strictly unless grad R is along grad L."""
    net, (u, v) = SETTING.net, on_the_level(SETTING)
    times = np.linspace(0, 4, 9)[1:] * course_of(SETTING).slow_times[0, -1]
    run = integrate(averaged(net), u, v, times)
    np.testing.assert_allclose(net.loss(run.u, run.v), float(net.loss(u, v)), rtol=1e-12)
    norms = np.sum(np.stack(net.gradient(run.u, run.v)) ** 2, axis=(0, -1))
    assert np.all(np.diff(norms) < 0) and norms[-1] < 0.9 * norms[0]


def test_alpha_eff_of_the_averaged_motion_follows_its_law():
    """Reference: exp(-2 int g^2) in slow time, integrated along."""
    net, (u, v) = SETTING.net, on_the_level(SETTING)
    times = course_of(SETTING).slow_times[0, -1:]
    run = integrate(averaged(net), u, v, times, lambda t, u, v: (net.beta_gradient(u, v) ** 2,))
    np.testing.assert_allclose(run.log_scales[0], (np.log(u) + np.log(v)) / 2 - 2 * run.integrals[0, 0], rtol=1e-11)


def test_the_pair_of_the_averaged_motion():
    """Reference: its velocity in raw weights, with the Hessian in the weights."""
    u, v = SETTING.weights()
    p, q = averaged_pair(SETTING.net)(0.0, u, v)
    du, dv = averaged(SETTING.net)(0.0, u, v)
    np.testing.assert_allclose(-2 * u * (p + q), du, rtol=1e-11, atol=1e-14 * np.max(np.abs(du)))
    np.testing.assert_allclose(2 * v * (p - q), dv, rtol=1e-11, atol=1e-14 * np.max(np.abs(dv)))


def test_both_routes_measure_the_same_distances_to_the_averaged_motion():
    """Two codes, one number: the runs of hovering agree step for step, so their distances do to many digits."""
    for part in theory.get("T10").parts(SETTING):
        if isinstance(part, Sliding):
            details = part.measure(SETTING).details
            np.testing.assert_allclose(details["raw"]["distances"], details["engine"]["distances"], rtol=1e-7)
            assert details["raw"]["slope"] == pytest.approx(1, abs=0.05)


def test_a_distance_that_rises_on_the_way_is_no_passing_fit():
    *_, part = theory.get("T10").parts(SETTING)
    run = part.raw()
    spoilt = dataclasses.replace(run, log_scales=run.log_scales.copy())
    spoilt.log_scales[3] += 0.01
    assert not dataclasses.replace(part, raw=lambda: spoilt).measure(SETTING).passed


@pytest.mark.parametrize("share", [sp.Rational(1, 2), sp.Rational(1, 8), -sp.Rational(1, 4)])
@pytest.mark.parametrize("sign", [1, -1])
def test_backward_error_analysis_refuses_a_wrong_share(monkeypatch, share, sign):
    """Reference: the derivation passes with 1/4 and no other constant."""
    import theory.implicit_regularization as module

    right = module._step_and_flow
    module.backward_error(Derivation("T0", "right"), sign)
    monkeypatch.setattr(module, "_step_and_flow", lambda sign, _: right(sign, share))
    with pytest.raises(DerivationError, match="One step of"):
        module.backward_error(Derivation("T0", "wrong"), sign)


def test_sliding_is_measured_where_steps_are_long_enough():
    """Reference: a stable step changes the loss by 0.4 per cent on the whole diabetes data, by 6 to 27 on the default ones."""
    counts = [len(theory.get("T10").parts(Setting(data))) for data in [*default_data(), real_data()]]
    assert counts == [4] * 10 + [2]
    assert theory.get("T10").check(real_data()).passed
