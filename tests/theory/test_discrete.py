"""The raw route and the check of discrete laws: against hand-written steps, high precision, and planted errors."""

import dataclasses
import math

import mpmath
import numpy as np
import pytest

import theory
from theory import _discrete
from theory._discrete import DISCREPANCIES, DiscreteLaw, stand_in
from theory._fields import gradient_flow
from theory._network import Network
from theory._raw_descent import Move, constant, descend, each_step
from theory._raw_route import RouteError
from theory._setting import Data, Setting, default_data
from theory.descent import COUNTS, plain_pair, steps_of

SMALL = default_data(2)[1]
SETTING = Setting(SMALL)
LAWS = [part for key in ("T9", "T11") for part in theory.get(key).parts(SETTING) if isinstance(part, DiscreteLaw)]


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.6, False), (0.6, True)])
def test_steps_of_the_raw_route(momentum, nesterov):
    """Reference: the same steps written out for one weight pair, f(u, v) the gradient of (u^2 - v^2 - 1)^2/4."""
    net = Network(np.array([[1.0]]), np.array([1.0]))
    run = descend(each_step(gradient_flow(net)), np.array([0.5]), np.array([0.2]), [0, 1, 4], lambda k: 0.1 * (k + 1),
                  momentum=momentum, nesterov=nesterov)
    u, v, old_u, old_v = 0.5, 0.2, 0.5, 0.2
    kept = []
    for k in range(5):
        if k in (0, 1, 4):
            kept.append((u, v))
        a, b = (u + momentum * (u - old_u), v + momentum * (v - old_v)) if nesterov else (u, v)
        r, eta = a * a - b * b - 1, 0.1 * (k + 1)
        u, old_u = u + momentum * (u - old_u) - eta * a * r, u
        v, old_v = v + momentum * (v - old_v) + eta * b * r, v
    np.testing.assert_allclose(np.stack([run.u[:, 0], run.v[:, 0]], axis=1), kept, rtol=1e-14)
    np.testing.assert_allclose(run.betas[:, 0], [u * u - v * v for u, v in kept], rtol=1e-13)


def test_sums_lose_no_digits_and_times_add_up():
    """Reference: `math.fsum` of the same terms, of sizes 16 decades apart."""
    sizes = [10.0 ** ((7 * k) % 17) * (-1) ** k for k in range(400)]
    seen = []

    def terms(move: Move):
        seen.append(move.t)
        return (sizes[move.k] * np.ones(1) / 3,)

    net = Network(np.array([[1.0]]), np.array([1.0]))
    run = descend(each_step(gradient_flow(net)), np.array([0.5]), np.array([0.2]), [400], lambda k: 1e-3 * (1 + k % 2), terms)
    assert run.sums[0, 0, 0] == pytest.approx(math.fsum(x / 3 for x in sizes), rel=1e-15)
    assert seen[-1] == pytest.approx(sum(1e-3 * (1 + k % 2) for k in range(399)), rel=1e-13)


def test_a_weight_that_becomes_zero_or_infinite_ends_the_raw_route():
    net = Network(np.array([[1.0]]), np.array([1.0]))
    with pytest.raises(RouteError, match="left the range of numbers at step 0"):
        descend(lambda k, t, u, v: (-u, 0 * v), np.array([0.5]), np.array([0.5]), [1], constant(1.0))
    with pytest.raises(RouteError, match="left the range of numbers at step"), np.errstate(all="ignore"):
        descend(each_step(gradient_flow(net)), np.array([0.5]), np.array([0.5]), [50], constant(100.0))


@pytest.mark.parametrize("first", [0.05, 1.15])
def test_the_law_in_high_precision(first):
    """Reference: fifty digits by mpmath, one sample and one coordinate; a large first step turns a factor negative."""
    mpmath.mp.dps = 50
    u, v = mpmath.mpf("0.6"), mpmath.mpf("0.4")
    plus, minus, P, flips = mpmath.log(u), mpmath.log(v), mpmath.mpf(0), 0
    for k in range(40):
        g = (u * u - v * v - 2) / 2
        eta = mpmath.mpf(0.05 if k else first)
        up, down = 1 - 2 * eta * g, 1 + 2 * eta * g
        flips += (up < 0) + (down < 0)
        plus, minus, P = plus + mpmath.log(abs(up)) + 2 * eta * g, minus + mpmath.log(abs(down)) - 2 * eta * g, P + eta * g
        u, v = u * up, v * down
    assert abs((plus + minus) / 2 - mpmath.log(abs(u * v)) / 2) < 1e-40
    closed = mpmath.exp(2 * plus - 4 * P) - mpmath.exp(2 * minus + 4 * P)
    assert abs(closed - (u * u - v * v)) < 1e-40
    assert (flips > 0) == (first > 1)
    net = Network(np.array([[1.0]]), np.array([2.0]))
    run = descend(each_step(gradient_flow(net)), np.array([0.6]), np.array([0.4]), [40], lambda k: 0.05 if k else first)
    assert run.n_flips == flips
    assert run.betas[0, 0] == pytest.approx(float(u * u - v * v), rel=1e-14)
    assert run.log_scales[0, 0] == pytest.approx(float((plus + minus) / 2), rel=1e-13)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_the_stand_in_engine_passes_with_the_right_pair(law):
    """Else the mutants made with it would be rejected for the wrong reason."""
    finding = dataclasses.replace(law, engine=stand_in(law.pair)).measure(SETTING)
    assert finding.passed, finding.discrepancy


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_laws_are_met_far_below_their_tolerance(law):
    finding = law.measure(SETTING)
    assert finding.tolerance == 1e-10
    assert all(max(finding.details[name]) < 1e-12 for name in DISCREPANCIES)
    assert (finding.details["sign_flips"] > 0) == law.flips
    # Neither the shrinking nor the centre is a trifle.
    assert abs(finding.details["mean_log_scale_change"][-1]) > 1e-4
    assert finding.details["center_less_that_of_a_flow"][-1] > 1e-6


def test_even_from_equal_weights_there_is_a_center():
    [law] = [law for law in LAWS if law.name.endswith("u0 = v0")]
    assert not law.log_ratio.any()
    run = law.engine(SMALL, law.alpha, law.log_ratio, COUNTS, law.schedule)
    assert np.max(np.abs(run.centers[-1])) > 1e-4 * np.max(np.exp(2 * run.log_scales[-1]))
    dropped = dataclasses.replace(law, center=lambda plus, minus: 0 * plus).measure(SETTING)
    assert max(dropped.details["argmin"]) > 1e-6


def test_a_part_whose_signs_must_flip_and_do_not_is_no_check():
    law = dataclasses.replace(LAWS[0], flips=True)
    with pytest.raises(RouteError, match="no weight changes its sign"):
        law.measure(SETTING)


def test_nan_is_a_failure():
    def broken(*args):
        run = LAWS[0].engine(*args)
        run.centers[0, 0] = np.nan
        return run

    finding = dataclasses.replace(LAWS[0], engine=broken).measure(SETTING)
    assert not finding.passed and finding.discrepancy == math.inf


@pytest.mark.parametrize("kind", ["more samples than features", "duplicate rows", "zero column", "scaled"])
def test_the_law_holds_on_degenerate_data(kind):
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((4, 6)), rng.standard_normal(4)
    if kind == "more samples than features":
        X, y = rng.standard_normal((7, 3)), rng.standard_normal(7)
    elif kind == "duplicate rows":
        X[1] = X[0]
    elif kind == "zero column":
        X[:, 2] = 0
    else:
        X, y = 1e6 * X, 1e-9 * y
    check = theory.get("T11").check(Data(X, y, kind))
    assert check.passed, check.message


def test_the_engine_of_the_library_reports_a_run_that_breaks_off():
    engine = _discrete.library(lambda dln: dln.GradientFlow())
    with pytest.raises(RouteError, match="the engine stopped after"):
        engine(SMALL, SETTING.alpha, SETTING.log_ratio, (500,), constant(1e3))


def test_the_pair_of_gradient_descent_has_no_q():
    p, q = steps_of(plain_pair(SETTING))(0, 0.0, *SETTING.weights())
    np.testing.assert_allclose(p, SMALL.X.T @ (SMALL.X @ (SETTING.weights()[0] ** 2 - SETTING.weights()[1] ** 2) - SMALL.y)
                               / (2 * len(SMALL.y)), rtol=1e-13)
    assert not q.any()
