"""The process of T19 and the rates at which flows approach it, against closed forms; the derivation refuses wrong bounds."""

import numpy as np
import pytest

import dln
import theory
from theory import _saddle_route, saddles
from theory._raw_route import RouteError
from theory._saddle_route import Claim, decay_rates, flow_in_logarithms, process
from theory._setting import Data, Setting, default_data

DATA = default_data()


def findings(check, data):
    return check.details[data.name]


@pytest.mark.parametrize("data", DATA, ids=lambda data: data.name)
def test_both_processes_are_one(data):
    """Reference: `dln.saddles`, which shares no code: jump times, places and fits."""
    k = np.random.default_rng(0).uniform(0.5, 2.0, data.X.shape[1])
    for exponents in (np.ones_like(k), k):
        own, path = process(data.X, data.y, exponents, Claim()), dln.saddles(dln.Problem(data.X, data.y), exponents=exponents)
        np.testing.assert_allclose(own.times, path.times, rtol=1e-10)
        np.testing.assert_allclose(own.places, -path.duals @ data.X, atol=1e-10)
        np.testing.assert_allclose(own.betas @ data.X.T, path.betas @ data.X.T, atol=1e-10 * np.abs(data.y).max())


def test_process_of_two_features_in_closed_form():
    """Reference: by hand, x_1 = (4, 0), x_2 = (1, 1), y = (1, 2): the first leaves, and comes back with the other sign."""
    path = process(np.array([[4.0, 1.0], [0.0, 1.0]]), np.array([1.0, 2.0]), np.ones(2), Claim())
    np.testing.assert_allclose(path.times, [0.0, 0.5, 0.75, 2.75], rtol=1e-13)
    np.testing.assert_allclose(path.betas, [[0, 0], [0.25, 0], [0, 1.5], [-0.25, 2]], atol=1e-14)
    np.testing.assert_allclose(path.places, [[0, 0], [0.5, 0.375], [0.5, 0.5], [-0.5, 0.5]], atol=1e-14)


@pytest.mark.parametrize(("claim", "times"), [
    (Claim(), [0.0, 1.0, 2.0]), (Claim(bound=1.0), [0.0, 2.0, 4.0]), (Claim(speed=2.0), [0.0, 0.5, 1.0])])
def test_claims_change_what_they_say(claim, times):
    """Reference: orthogonal columns by hand, c = 1/4, y = (2, 1)."""
    np.testing.assert_allclose(process(np.eye(2), np.array([2.0, 1.0]), np.ones(2), claim).times, times, rtol=1e-14)


def test_flow_in_logarithms_of_one_number_in_closed_form():
    """Reference: 1x1, x = 1, y = 1, c = 1/2: beta' = sqrt(beta^2 + 4 a^4) 2 (1 - beta), logistic once beta >> a^2.

    From beta = 1/2 on beta/(1 - beta) grows as exp(2 t); before, as long as beta << 1, as 2 a^2 sinh(2 t).
    """
    a = -200.0
    jump = 200.0  # 2 a^2 exp(2 t)/2 = 1 at t = -log a
    times = np.array([100.0, jump, jump + 3.0])
    beta, S = flow_in_logarithms(np.ones((1, 1)), np.ones(1), np.array([a]), times)
    assert S[0, 0] == pytest.approx(50.0, rel=1e-9)
    np.testing.assert_allclose(beta[1:, 0], [0.5, 1 / (1 + np.exp(-6.0))], rtol=1e-6)


def test_rates_in_closed_form():
    """Reference: orthogonal columns, y = (2, 1), c = 1/4: slack 4 (1/2 - |s|), relaxation 4 c |beta| |x|^2 tau."""
    X, y = np.eye(2), np.array([2.0, 1.0])
    path = process(X, y, np.ones(2), Claim())
    # Middles 0.5, 1.5, 3: s = (1/4, 1/8), then (1/2, 3/8), then both at their bounds.
    np.testing.assert_allclose(path.at_middles(), [[0.25, 0.125], [0.5, 0.375], [0.5, 0.5]], rtol=1e-14)
    np.testing.assert_allclose(decay_rates(X, path, np.ones(2)), [1.0, min(0.5, 2.0 * 0.5), 1.0 * 1.0], rtol=1e-14)


@pytest.mark.parametrize("data", DATA[:3], ids=lambda data: data.name)
def test_the_flow_is_late_by_a_constant_that_two_routes_agree_on(data):
    """Reference: the other route; the order is far closer to 1 than its band is wide."""
    check = theory.get("T19").check(data)
    assert check.passed, check.message
    for name, part in findings(check, data).items():
        if name.endswith(": s"):
            assert part["constant"]["scipy"] == pytest.approx(part["constant"]["engine"], rel=1e-4)
            assert part["discrepancy"] < 1e-5 < part["tolerance"] < 2e-4
            assert min(part["log_c"]) < -5e3 and len(part["log_c"]) == 4


def test_distances_fall_at_the_predicted_rate():
    """Reference: the linearised flow and the slack: by exp(-2.5) at each scale."""
    part = findings(theory.get("T19").check(DATA[1]), DATA[1])["alpha = c: saddles"]
    for ratios in part["ratios"].values():
        np.testing.assert_allclose(ratios, np.exp(-2.5), rtol=0.02)


def test_parts_cover_exponents_and_a_coordinate_that_leaves():
    parts = saddles.parts(Setting(DATA[0]))
    assert [part.name for part in parts] == [
        "alpha = c: s", "alpha = c: saddles", "alpha = c^k: s", "alpha = c^k: saddles", "alpha = c, a coordinate leaves: s",
        "alpha = c, a coordinate leaves: saddles", "alpha = c: bound"]
    assert np.ptp(parts[2].case.exponents) > 0.5
    path = dln.saddles(dln.Problem(parts[4].case.data.X, parts[4].case.data.y))
    assert any(path.left) and parts[4].case.count == len(path.times)


@pytest.mark.parametrize("kind", ["scaled", "duplicate rows", "zero column", "opposite columns", "more samples than features"])
def test_theorem_holds_at_any_scale_and_on_degenerate_data(kind):
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((4, 6)), rng.standard_normal(4)
    if kind == "scaled":
        X, y = 1e6 * X, 1e-12 * y
    elif kind == "duplicate rows":
        X[1] = X[0]
    elif kind == "zero column":
        X[:, 2] = 0
    elif kind == "opposite columns":
        X[:, 3] = -X[:, 2]
    else:
        X, y = rng.standard_normal((7, 3)), rng.standard_normal(7)
    check = theory.get("T19").check(Data(X, y, kind))
    assert check.passed, check.message


def test_saddles_that_cannot_be_seen_are_not_passed():
    """Two features that tie but for 1e-4: the first saddle is left at once, at any scale of floats."""
    check = theory.get("T19").check(Data(np.eye(2), np.array([1.0, 1.0 - 1e-4]), "near tie"))
    assert not check.passed and "nothing to check" in check.message


def test_what_comes_to_no_end_is_said(monkeypatch):
    monkeypatch.setattr(_saddle_route, "MOST_JUMPS", 2)
    with pytest.raises(RouteError, match="more than 2 jumps"):
        process(np.eye(3), np.array([3.0, 2.0, 1.0]), np.ones(3), Claim())
    monkeypatch.setattr(_saddle_route, "MOST_STEPS", 3)
    with pytest.raises(RouteError, match="the flow in logarithms stopped: Excess work"):
        flow_in_logarithms(np.ones((1, 1)), np.ones(1), np.array([-100.0]), np.array([300.0]))
