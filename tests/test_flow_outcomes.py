"""How flows end: at rest, hovering, diverging, interrupted, or refused at the door; each in words."""

import _thread
import pickle
import threading
from dataclasses import fields, replace

import numpy as np
import pytest
from random_data import data

import dln
from dln import SAM, GradientRegularization, Status, WeightDecay


def relative(a, b):
    return np.linalg.norm(np.asarray(a) - b) / np.linalg.norm(b)


@pytest.mark.parametrize("c", [1.0, 1e-12, 1e12])
def test_nothing_to_learn(c):
    """Reference: with X = 0, or y = 0 and u0 = v0, no weight moves under any rule without decay."""
    rng = np.random.default_rng(0)
    rules = [None, GradientRegularization(0.1, 0.1, squared=False), SAM(0.1, normalized=True), SAM(0.1, per_sample=True)]
    for rule in rules:
        for X, y in ((np.zeros((3, 4)), np.ones(3)), (c * rng.normal(size=(3, 4)), np.zeros(3))):
            for t_end in (None, 2.0):
                run = dln.flow(dln.Problem(X, c * y), rule, alpha=0.1, t_end=t_end)
                assert run.success
                np.testing.assert_array_equal(run.beta, 0.0)
                np.testing.assert_array_equal(run.log_u, np.log(0.1))


@pytest.fixture(scope="module")
def ordinary():
    rng = np.random.default_rng(0)
    return dln.Problem(rng.normal(size=(5, 8)), rng.normal(size=5))


def test_normalized_sam_hovers(ordinary):
    """Reference: SAM of constant radius need not settle (Andriushchenko & Flammarion 2022)."""
    run = dln.flow(ordinary, SAM(0.1, normalized=True), alpha=0.1)
    assert run.status == Status.HOVERING
    assert not run.success
    assert "stopped falling" in run.message
    assert run.residual < 1e-3


@pytest.mark.parametrize(("gamma", "epsilon"), [(5.0, 1000.0), (0.5, 1e5), (50.0, 1e8)])
def test_backward_differences_with_a_large_step_end_with_a_word(ordinary, gamma, epsilon):
    """Reference: such a flow may have no limit; every run ends, finite, and says how."""
    run = dln.flow(ordinary, GradientRegularization(gamma, epsilon, "backward"), alpha=0.1, max_steps=20_000)
    assert run.status in set(Status)
    assert np.isfinite(run.beta).all()
    assert run.success == (run.status in (Status.CONVERGED, Status.STATIONARY))


def test_strong_regularisation_kills_every_weight(ordinary):
    """Reference: where q > |p| everywhere at beta = 0, both weights decay for ever."""
    run = dln.flow(ordinary, GradientRegularization(100.0, scheme="exact"), alpha=0.1)
    assert run.status == Status.STATIONARY
    assert "not an interpolator" in run.message
    assert np.linalg.norm(run.beta) < 1e-9


def test_constant_weight_decay_ends_at_the_lasso(ordinary):
    """Reference: at rest |g_j| <= lam, with equality and sign where beta_j != 0: the Lasso's optimality conditions."""
    run = dln.flow(ordinary, WeightDecay(0.01), alpha=1e-3)
    assert run.status == Status.STATIONARY
    g = ordinary.gradient(run.beta)
    active = np.abs(run.beta) > 1e-4
    np.testing.assert_allclose(g[active], -0.01 * np.sign(run.beta[active]), rtol=1e-4)
    assert np.max(np.abs(g)) <= 0.01 * (1 + 1e-4)


def test_negative_decay_diverges(ordinary):
    """Reference: u v grows like exp(4 * 0.5 t) and nothing can stop it."""
    run = dln.flow(ordinary, WeightDecay(-0.5), alpha=0.1)
    assert run.status == Status.DIVERGED
    assert not run.success
    assert "without bound" in run.message


def test_step_limit_names_the_last_step_and_what_stalled(ordinary):
    """Reference: the documented message."""
    run = dln.flow(ordinary, alpha=0.1, max_steps=7)
    assert run.status == Status.STEP_LIMIT
    assert not run.success
    assert "max_steps = 7" in run.message and "last step" in run.message and "relative residual" in run.message


def test_an_undeclared_jump_in_time_is_found(ordinary):
    """Reference: the same decay with its jump declared."""
    def strength(t):
        return 0.1 if t < 3 else 0.0

    declared = dln.flow(ordinary, WeightDecay(strength, breakpoints=(3.0,)), alpha=0.1)
    found = dln.flow(ordinary, WeightDecay(strength), alpha=0.1)
    assert relative(found.beta, declared.beta) <= 1e-6
    assert declared.shrinkage == pytest.approx(0.3, rel=1e-12)


@pytest.mark.parametrize("until", [(lambda t: t < 3.0), (lambda t: t <= 3.0)], ids=["right", "left"])
def test_both_conventions_at_a_breakpoint_give_the_same_integral(ordinary, until):
    """Reference: int lam = 0.1 * 3, whichever value the function takes at the jump itself."""
    run = dln.flow(ordinary, WeightDecay(lambda t: 0.1 * until(t), breakpoints=(3.0,)), alpha=0.1, t_end=5.0)
    np.testing.assert_allclose(run.shrinkage, 0.3, rtol=1e-12)


def test_interrupt_reaches_python():
    """Reference: an interrupt sent while the kernel runs is raised before the run is over."""
    problem = dln.sparse_regression(40, 4000, 10, noise=0.1, rng=0)
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            while True:
                dln.flow(problem, SAM(0.01, per_sample=True), alpha=1e-3, t_end=1e9, method="explicit")
    finally:
        timer.cancel()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of alpha, log_alpha and initial_weights, got none"),
        ({"alpha": 0.1, "log_alpha": -1.0}, "got alpha and log_alpha"),
        ({"alpha": 0.0}, "alpha must be positive and finite, got 0.0"),
        ({"alpha": [0.1] * 7 + [-1.0]}, r"alpha\[7\] must be positive and finite, got -1.0"),
        ({"alpha": np.nan}, "alpha must be positive and finite, got nan"),
        ({"alpha": [0.1, 0.2]}, r"alpha must be a number or have shape \(8,\).*got shape \(2,\)"),
        ({"log_alpha": np.inf}, "log_alpha must be finite, got inf"),
        ({"alpha": 1e140}, "initial weights overflow"),
        ({"alpha": 0.1, "log_ratio": [np.nan] * 8}, r"log_ratio\[0\] must be finite"),
        ({"initial_weights": (0.1, 0.0)}, r"initial_weights\[1\] must be positive"),
        ({"initial_weights": 0.1}, "pair"),
        ({"alpha": 0.1, "t_end": 0.0}, "t_end must be finite and above 0, got 0.0"),
        ({"alpha": 0.1, "t_end": -1}, "t_end must be finite and above 0, got -1"),
        ({"alpha": 0.1, "save_at": [1.0, 0.5]}, r"save_at must increase, but save_at\[1\] = 0.5"),
        ({"alpha": 0.1, "save_at": [-1.0]}, r"save_at\[0\] must be finite and at least 0"),
        ({"alpha": 0.1, "save_at": [2.0], "t_end": 1.0}, r"save_at\[0\] = 2 lies beyond t_end = 1"),
        ({"alpha": 0.1, "rtol": 0.6}, r"rtol must be at most 0.5 for GradientFlow, got 0.6"),
        ({"alpha": 0.1, "rtol": 0.1, "rule": SAM(0.1)}, r"rtol must be at most 0.05 for SAM, got 0.1"),
        ({"alpha": 0.1, "method": "rosenbrok"}, "unknown method 'rosenbrok'; did you mean 'rosenbrock'"),
        ({"alpha": 0.1, "max_steps": 0}, "max_steps must be a positive integer"),
        ({"alpha": 0.1, "rule": "gr"}, "rule must be a training rule"),
        ({"alpha": 0.1, "rule": WeightDecay([0.1, 0.2])}, r"strength must be a number or have shape \(8,\)"),
        ({"alpha": 0.1, "rule": WeightDecay(lambda t: np.nan)}, "strength must be finite, got nan at t"),
    ],
)
def test_bad_input_is_one_clear_line(ordinary, arguments, message):
    """Reference: the documented messages."""
    with pytest.raises((ValueError, TypeError), match=message) as error:
        dln.flow(ordinary, **arguments)
    assert "\n" not in str(error.value)


def test_problem_must_be_a_problem():
    """Reference: the documented message."""
    with pytest.raises(TypeError, match=r"problem must be a dln\.Problem, got ndarray"):
        dln.flow(np.eye(2), alpha=0.1)


def test_repr_is_short(ordinary):
    """Reference: a line that a person can read."""
    text = repr(dln.flow(ordinary, alpha=0.1))
    assert text.startswith("FlowResult(converged: t=") and len(text) < 200


@pytest.mark.parametrize("run", [
    lambda problem: dln.flow(problem, alpha=0.1),
    lambda problem: dln.flow(problem, alpha=0.1, depth=3, t_end=1.0),
    lambda problem: dln.momentum_flow(problem, inertia=1.0, alpha=0.1, t_end=1.0),
], ids=["flow", "depth 3", "momentum"])
def test_results_have_every_field_and_can_be_copied(ordinary, run):
    """Reference: the fields of the class, and the constructor that makes a result of them."""
    result = run(ordinary)
    names = [field.name for field in fields(result)]
    assert sorted(vars(result)) == sorted(names)
    for copy in (replace(result), pickle.loads(pickle.dumps(result))):
        assert type(copy) is type(result)
        for name in set(names) - {"problem"}:
            np.testing.assert_equal(getattr(copy, name), getattr(result, name))
    with pytest.raises(AttributeError):
        result.t = 0.0


def test_times_that_differ_by_rounding():
    """Reference: the final time itself, and one line about a time that comes twice."""
    problem = data("noisy", 4, 9)
    run = dln.flow(problem, alpha=0.3, t_end=0.3, save_at=[0.1, 0.1 + 0.2])  # 0.30000000000000004
    assert run.success
    assert run.times[-1] == run.t == 0.3
    with pytest.raises(ValueError, match=r"save_at\[1\] = .* is save_at\[0\] but for rounding"):
        dln.flow(problem, alpha=0.3, t_end=1.0, save_at=[0.3, 0.1 + 0.2])
