"""Coordinates left out of a stiff step: which, how they are held, and that nothing is lost by it."""

import sys

import numpy as np
import pytest

import dln
from dln._simd import WIDTH
from dln.integrate import state
from dln.integrate.awake_steps import _shrink_sleepers
from dln.integrate.rosenbrock import stage_weights
from dln.integrate.sleep import STARTLED, gather, hold_others, rouse, startle, threshold
from dln.integrate.tableaus import RODAS5P, W6

N, D = 3, 7


def system(log_size, p):
    """Return a system whose log u^2 are `log_size` (v^2 far smaller) and whose p is given."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, D))
    X.flags.writeable = False
    y = rng.standard_normal(N)
    y.flags.writeable = False
    weights = np.zeros((8, D))
    weights[0], weights[1] = log_size - 5.0, 5.0
    beta = rng.standard_normal(D)
    rows = np.zeros((state.ROWS, D))
    rows[state.PRODUCT], rows[state.RATIO], rows[state.WORK_RULE] = log_size - 5.0, 5.0, p
    rows[state.LOG_PRODUCT], rows[state.LOG_RATIO], rows[state.SCALE] = log_size - 4.0, 7.0, np.exp(log_size - 4.0)
    rows[state.BETA], rows[state.SIZE] = beta, np.abs(beta) + 1.0
    return state.System(X, y, rows)


@pytest.mark.interpreted
def test_awake_are_the_large_and_those_that_will_be():
    # Reference: log u^2 grows at a rate of at most 4 |p|.
    here = system(np.array([-1.0, -30.0, -30.0, -30.0, 2.0, -30.0, -12.0]), np.array([0.0, 1.0, -4.0, 4.0, 0.0, 0.0, 0.0]))
    chosen, marks = np.zeros(D, dtype=np.int64), np.zeros(D)
    count = rouse(here, 1.5, -10.0, marks, chosen, -1)
    assert {0, 2, 3, 4} <= set(chosen[:count].tolist()) and count in (4, D)  # whole vectors of four, or all
    np.testing.assert_array_equal(np.flatnonzero(marks), chosen[:count])
    assert rouse(here, 1.5, -10.0, marks, chosen, count) == -1  # the same again
    assert rouse(here, 0.1, -10.0, marks, chosen, count) == -1  # fewer, but not many fewer
    assert rouse(system(np.full(D, -50.0), np.zeros(D)), 1.0, -10.0, marks, chosen, -1) == 0
    assert not marks.any()


@pytest.mark.interpreted
@pytest.mark.parametrize("d", [8, 37, 100])
def test_a_choice_is_kept_while_it_holds_all_that_count_and_few_others(d):
    # Reference: the sets themselves.
    def chosen_of(n_large):
        rows = np.zeros((state.ROWS, d))
        rows[state.PRODUCT], rows[state.PRODUCT, :n_large] = -50.0, 0.0
        X, y = np.zeros((1, d)), np.zeros(1)
        for data in (X, y):
            data.flags.writeable = False
        found = rouse(state.System(X, y, rows[:, ::-1].copy()), 1.0, -10.0, marks, chosen, count)
        return found if found < 0 else set(chosen[:found].tolist())

    marks, chosen, count, before = np.zeros(d), np.zeros(d, dtype=np.int64), -1, set()
    kept = 0
    for n_large in (5, 5, 6, d, d, d - 3, d // 2, d // 2 - 1, 1, 0):
        found, wanted = chosen_of(n_large), set(range(d - n_large, d))
        if count >= 0 and wanted <= before and count < n_large + 2 * WIDTH:
            assert found == -1
            kept += 1
        else:
            assert wanted <= found and len(found) == min(d, n_large + -n_large % WIDTH)
            before, count = found, len(found)
        assert set(np.flatnonzero(marks).tolist()) == before
    assert kept >= 3


@pytest.mark.interpreted
def test_who_ends_a_step_too_large_was_left_out_wrongly():
    # Reference: the union of the chosen and of those above the threshold.
    sizes = np.array([-30.0, -10.0 + 1.1 * STARTLED, -30.0, -10.0 + 0.9 * STARTLED, -30.0, 0.0, -30.0])
    here = system(sizes, np.zeros(D))
    chosen = np.array([0, 5, 0, 0, 0, 0, 0])
    marks = np.zeros(D)
    marks[[0, 5]] = 1.0
    assert startle(here, -10.0, marks, chosen, 2) == 3
    assert list(chosen[:3]) == [0, 1, 5]
    assert list(np.flatnonzero(marks)) == [0, 1, 5]
    assert startle(here, -10.0, marks, chosen, 3) == 3


@pytest.mark.interpreted
def test_sleepers_are_held_at_their_value():
    # Reference: X beta - y of all coordinates equals X_A beta_A - y_A of those awake.
    here = system(np.zeros(D), np.zeros(D))
    chosen = np.array([1, 2, 6])
    buffer = np.empty(N * 4)
    read = buffer.view()
    read.flags.writeable = False
    awake = state.System(read[:-N].reshape(N, 3), read[-N:], np.empty((state.ROWS, 3)))
    r = here.X @ here.rows[state.BETA] - here.y
    gather(here, chosen, buffer, awake.rows)
    hold_others(awake, here, r, chosen, buffer)
    np.testing.assert_array_equal(awake.X, here.X[:, chosen])
    for row in (state.LOG_PRODUCT, state.LOG_RATIO, state.SCALE, state.BETA, state.SIZE):
        np.testing.assert_array_equal(awake.rows[row], here.rows[row, chosen])
    np.testing.assert_allclose(awake.X @ awake.rows[state.BETA] - awake.y, r, rtol=1e-14)


@pytest.mark.interpreted
def test_sleepers_change_the_others_by_less_than_the_tolerance():
    # Reference: h 4 c |x_j|^2 u^2 = rtol/10 at the threshold, where that binds.
    assert threshold(1e6, -3.0, 2.0, 0.1) == pytest.approx(np.log(0.01 / 2e6))
    assert threshold(1e-9, -3.0, 2.0, 0.1) == -3.0
    assert threshold(0.0, -3.0, 2.0, 0.1) == -3.0


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("rtol", [1e-1, 1e-2, 1e-4])
def test_nothing_is_lost(seed, rtol):
    """The whole path, with most coordinates asleep most of the time, against the explicit method at rtol 1e-11."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(4, 16)), int(rng.integers(20, 60))
    problem = dln.sparse_regression(n, d, 3, noise=0.1, correlation=0.5, rng=seed)
    log_alpha = np.log(10.0 ** rng.uniform(-12.0, -3.0)) + rng.uniform(-2.0, 2.0, problem.n_features)
    end = dln.flow(problem, log_alpha=log_alpha, rtol=1e-6, residual_tol=1e-7).t
    times = np.linspace(0.0, end, 8)[1:]
    loose = dln.flow(problem, log_alpha=log_alpha, rtol=rtol, t_end=end, save_at=times, method="rosenbrock")
    tight = dln.flow(problem, log_alpha=log_alpha, rtol=1e-11, t_end=end, save_at=times)
    error = np.linalg.norm(loose.betas - tight.betas, axis=1) / np.linalg.norm(tight.betas, axis=1)
    assert np.max(error) <= 0.3 * rtol


def test_what_is_held_shows_in_the_error_estimate():
    # Reference: a run at rtol 1e-12.  All coordinates sleep at first, so that no stage sees the residual change.
    problem = dln.sparse_regression(25, 58, 5, rng=3)
    keywords = {"alpha": 2.7e-5, "t_end": 1.6}
    reference = dln.flow(problem, rtol=1e-12, **keywords)
    run = dln.flow(problem, rtol=1e-4, method="rosenbrock", **keywords)
    error = np.linalg.norm(run.beta - reference.beta) / np.linalg.norm(reference.beta)
    assert 0.0 < error <= run.error_estimate <= 1e-4


@pytest.mark.interpreted
@pytest.mark.parametrize("method", [W6, RODAS5P], ids=["W6", "Rodas5P"])
def test_weights_of_stages(method):
    # Reference: b^T (I/gamma - C)^-1, as a linear system.
    out = np.empty(len(method.m))
    stage_weights(method.C, method.m, method.gamma, out)
    wanted = np.linalg.solve((np.eye(len(out)) / method.gamma - method.C).T, method.m)
    np.testing.assert_allclose(out, wanted, rtol=1e-13, atol=1e-13)
    assert abs(out.sum() - 1.0) <= 1e-9


@pytest.mark.interpreted
@pytest.mark.parametrize("d", [1, 4, 7, 16, 21])
def test_what_sleepers_lose(d):
    # Reference: the sum over stages, in NumPy.
    rng = np.random.default_rng(d)
    X, trace, weights, Q = (rng.standard_normal(shape) for shape in ((3, d), (12, 3), (2, 6), d))
    new, wrong = np.empty((2, d))
    _shrink_sleepers(X, trace, 0.7, 0.3, weights, Q, new, wrong)
    rates = (trace[::2] @ X) * ((trace[::2] + 0.3 * trace[1::2]) @ X)
    np.testing.assert_allclose(new, Q + 0.7 * weights[0] @ rates, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(wrong, 0.7 * weights[1] @ rates, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rule", [dln.GradientRegularization(0.02, 0.1), dln.GradientRegularization(0.02, 0.1, "backward"),
                                  dln.GradientRegularization(0.02, 0.1, "centered"),
                                  dln.GradientRegularization(0.02, scheme="exact"), dln.SAM(0.05)], ids=str)
@pytest.mark.parametrize("rtol", [1e-2, 1e-4])
def test_penalties_with_sleepers_agree_with_runs_in_all_coordinates(rule, rtol, monkeypatch):
    # Reference: the same run with every coordinate awake; what is held is a small part of the tolerance.
    problem = dln.sparse_regression(12, 60, 3, rng=3)
    settings = {"alpha": 1e-6, "t_end": 3000.0, "save_at": [20.0, 60.0], "rtol": rtol}
    partly = dln.flow(problem, rule, **settings)
    monkeypatch.setattr(sys.modules["dln.flow"], "room_for_awake", lambda *_: 0)
    wholly = dln.flow(problem, rule, **settings)
    assert partly.success and wholly.success and abs(partly.n_steps - wholly.n_steps) <= 2 + wholly.n_steps // 20
    np.testing.assert_allclose(partly.beta, wholly.beta, rtol=0, atol=2e-2 * rtol * np.abs(wholly.beta).max())
    np.testing.assert_allclose(partly.log_effective_alpha, wholly.log_effective_alpha, rtol=0, atol=1e-3 * rtol)
    np.testing.assert_allclose(partly.betas, wholly.betas, rtol=0, atol=0.2 * rtol * np.abs(wholly.beta).max())


def test_no_coordinate_sleeps_where_penalties_are_coupled():
    # Reference: a run with every coordinate awake, at a tight tolerance.
    problem = dln.sparse_regression(8, 30, 3, rng=1)
    rule = dln.GradientRegularization(8.0, 0.1)
    run = dln.flow(problem, rule, alpha=1e-4, t_end=40.0, rtol=1e-3)
    exact = dln.flow(problem, rule, alpha=1e-4, t_end=40.0, rtol=1e-9, method="explicit")
    np.testing.assert_allclose(run.beta, exact.beta, rtol=0, atol=1e-2 * np.abs(exact.beta).max())
