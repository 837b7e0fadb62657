"""T23: its parts against closed forms, its transitions against the flow, what it refuses, and its page."""

import contextlib
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import lstsq

import dln
import theory
from theory import transitions
from theory._drift_bound import bounds
from theory._passages import Claim, choices, first_arrival, library, off, passages, small, weights_at
from theory._plateaus import isolated_transition
from theory._setting import Data, Setting, default_data

T23 = theory.get("T23")
SMALL = default_data(2)[1]
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "transitions.md").read_text(encoding="utf-8")


def test_check_measures_all_four_claims_by_both_routes():
    """Reference: the orders that theory gives, in their bands, and identities at the level of rounding."""
    found = T23.check(SMALL).details[SMALL.name]
    for name in ("any two times, alpha = 0.001", "any two times, alpha = 1e-06"):
        assert found[name]["discrepancy"] < 1e-11
        assert {"jump", "off the span", "integral", "engine_jump", "engine_dual"} <= set(found[name])
        assert sorted(map(len, found[name]["columns"])) == [1, 2, 3]
    settling, vanishing = found["isolated transition, later end"], found["isolated transition, smaller alpha"]
    for route in ("raw", "engine"):
        assert settling["log_weights"][route]["slope"] == pytest.approx(1, abs=1e-3)
        assert settling["loss"][route]["slope"] == pytest.approx(2, abs=1e-3)
        assert settling["log_weights"][route]["distances"][-1] < 1e-8
        assert vanishing[route]["slope"] == pytest.approx(vanishing["claimed_order"], abs=vanishing[route]["half_width"])
        assert vanishing[route]["half_width"] < 5e-3


def test_bound_is_nearly_tight():
    """Reference: for one column Cauchy and Schwarz give an equality as long as beta_B has not moved."""
    [part] = bounds(Setting(SMALL))
    one = replace(part, choices=part.choices[:1])
    excess = one.measure(Setting(SMALL)).details
    assert all(-1e-2 < excess[name] <= 1e-12 for name in ("residual", "slope", "drift", "engine_slope", "engine_drift"))
    assert replace(one, factor=0.99).measure(Setting(SMALL)).discrepancy > 1e-3


def test_projection_of_columns():
    """Reference: normal equations."""
    rng = np.random.default_rng(0)
    B, vectors = rng.standard_normal((5, 2)), rng.standard_normal((5, 3))
    np.testing.assert_allclose(off(B, vectors), vectors - B @ np.linalg.solve(B.T @ B, B.T @ vectors), atol=1e-14)
    np.testing.assert_array_equal(off(B[:, :0], vectors), vectors)


def test_one_sample_one_feature_in_closed_form():
    """Reference: tanh.

    The flow of x = y = N = 1, d = 1 is `beta' = -2 (beta - 1) sqrt(beta^2 + 4 a^4)`, whose z = asinh(beta/(2 a^2)) is known.
    """
    a, t = 0.05, 4.0
    z_end = np.arcsinh(1 / (2 * a**2))
    # z' = -2 (2 a^2 sinh z - 1): with w = tanh(z/2) this is a linear fractional equation with constant coefficients.
    root = np.sqrt(1 + 4 * a**4)
    high, low = np.tanh(z_end / 2), -1 / np.tanh(z_end / 2)
    ratio = (high / low) * np.exp(-2 * root * t)
    z = 2 * np.arctanh((high - low * ratio) / (1 - ratio))
    beta = 2 * a**2 * np.sinh(z)
    setting = Setting(Data(np.ones((1, 1)), np.ones(1), "scalar"))
    _, ratios, integrals = weights_at(setting, np.array([a]), np.zeros(1), np.array([t]))
    assert ratios[0, 0] == pytest.approx(z, rel=1e-11)
    claim = Claim()
    B, zero = np.array([0]), np.zeros(1)
    nu = claim.dual_after(setting.data, B, zero, t, integrals[0], zero, np.array([a]), np.array([beta]))
    assert nu[0] == pytest.approx(-z / 4, rel=1e-12)
    inside = claim.integral(setting.data, B, nu, t, integrals[0])
    assert inside[0] == pytest.approx(t - z / 2, rel=1e-12)
    assert integrals[0, 0] == pytest.approx(inside[0], rel=1e-11)


@pytest.mark.parametrize("seed", range(2))
def test_orders_of_random_data(seed):
    """Reference: the powers of alpha and the rates predicted from the data, on data that no constant was chosen for."""
    rng = np.random.default_rng([7, seed])
    X = rng.standard_normal((4, 9))
    data = Data(X, X[:, :2] @ rng.choice([-1.0, 1.0], 2) + 0.1 * rng.standard_normal(4), "random")
    parts = transitions.forecasts(Setting(data))
    assert parts
    for part in parts:
        finding = part.measure(Setting(data))
        assert finding.passed, (part.name, finding.discrepancy, finding.tolerance)


def test_transition_against_the_flow():
    """Reference: the library's flow at alpha = 1e-60, which is at the least squares of the transition's columns at its end."""
    found = isolated_transition(SMALL.X, SMALL.y)
    log = 60 * np.log(10)
    run = dln.flow(dln.Problem(SMALL.X, SMALL.y), log_alpha=-log, t_end=log * found.end, rtol=1e-10)
    np.testing.assert_allclose(run.beta[found.columns], found.values, rtol=1e-8)
    np.testing.assert_allclose(found.values, lstsq(SMALL.X[:, found.columns], SMALL.y)[0], rtol=1e-12)
    others = np.setdiff1d(np.arange(SMALL.X.shape[1]), found.columns)
    powers = 2 - np.abs(run.log_u - run.log_v)[others] / log
    np.testing.assert_allclose(powers, found.powers[-1], atol=0.02)  # what is left is of order 1/log(1/alpha)
    before = dln.flow(dln.Problem(SMALL.X, SMALL.y), log_alpha=-log, t_end=0.9 * log * found.arrival, rtol=1e-10)
    assert abs(before.beta[found.columns[-1]]) < 1e-3 * abs(found.values[-1])


def test_data_without_an_isolated_transition_have_no_limits():
    """Reference: two equal columns come together; two opposite ones likewise. The identities are measured all the same."""
    rng = np.random.default_rng(1)
    column = rng.standard_normal((4, 1))
    for sign in (1, -1):
        X = np.hstack([column, sign * column, 0.1 * rng.standard_normal((4, 2))])
        data = Data(X, 2 * column[:, 0], "ties")
        assert isolated_transition(data.X, data.y) is None
        check = T23.check(data)
        assert check.passed, check.message
        assert not any(name.startswith("isolated") for name in check.details[check.data])


@pytest.mark.parametrize("kind", ["zero row", "zero column", "duplicate rows", "rank 1", "more samples than features", "1x1"])
def test_degenerate_data(kind):
    """Reference: both routes."""
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((4, 6)), rng.standard_normal(4)
    if kind == "zero row":
        X[2] = 0
    elif kind == "zero column":
        X[:, 2] = 0
    elif kind == "duplicate rows":
        X[1], y[1] = X[0], y[0]
    elif kind == "rank 1":
        X = np.outer(rng.standard_normal(4), rng.standard_normal(6))
    elif kind == "more samples than features":
        X, y = rng.standard_normal((7, 3)), rng.standard_normal(7)
    else:
        X, y = X[:1, :1], y[:1]
    setting = Setting(Data(X, y, kind))
    for part in (*passages(setting), *bounds(setting)):
        finding = part.measure(setting)
        assert finding.passed, (part.name, finding.details)


@pytest.mark.parametrize(("of_x", "of_y"), [(1e-12, 1.0), (1e12, 1e-12), (1.0, 1e12)])
def test_units_of_the_data_change_nothing(of_x, of_y):
    setting, scaled = Setting(SMALL), Setting(Data(of_x * SMALL.X, of_y * SMALL.y, SMALL.name))
    for part, same in zip((*passages(setting)[:1], *bounds(setting)), (*passages(scaled)[:1], *bounds(scaled)), strict=True):
        assert part.measure(setting).passed
        finding = same.measure(scaled)
        assert finding.passed, (same.name, finding.details)
    one, two = isolated_transition(SMALL.X, SMALL.y), isolated_transition(scaled.data.X, scaled.data.y)
    np.testing.assert_array_equal(one.columns, two.columns)
    np.testing.assert_allclose(one.orders, two.orders, rtol=1e-9)


def test_sets_of_columns_have_full_rank():
    """Reference: numpy's rank, on data with equal and opposite columns."""
    for data in default_data()[6:]:
        sets = choices(data.X, data.y)
        assert all(np.linalg.matrix_rank(data.X[:, one]) == len(one) for one in sets)
        assert max(map(len, sets)) == np.linalg.matrix_rank(data.X)


def test_engine_in_other_units_of_time_is_caught_at_once():
    """Reference: an engine whose time is off by 1 part in 1e6."""
    setting = Setting(SMALL)
    part = passages(setting)[0]
    assert replace(part, engine=library(of_time=1 + 1e-6)).measure(setting).discrepancy > 1e-7
    assert small(setting, 1e-3).max() < 1e-2 * np.sqrt(setting.predictor_unit)
    assert first_arrival(setting, small(setting, 1e-6)) > first_arrival(setting, small(setting, 1e-3))


def test_derivation_says_what_it_proves():
    derivation = T23.derive()
    text = str(derivation)
    assert text.count("Hence (") == len(derivation.conclusions) == 6
    for word in ("P_perp X_B = 0", "is idempotent", "Pythagoras", "logistic", "alpha^(2 - 4*sigma)"):
        assert word in text
    symbols = [known.symbol.name for known in derivation.definitions if known.symbol.is_Symbol]
    assert len(symbols) == len(set(symbols))


def test_page_prints_what_it_shows():
    [code], [shown] = (re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S) for language in ("python", "text"))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "transitions.md", "exec"), {"__name__": "page"})
    assert printed.getvalue() == shown
