"""Flows with momentum: against SciPy in raw weights, at any scale, through 0, and by their law."""

import math
import re

import numpy as np
import pytest
from scipy.integrate import simpson, solve_ivp
from weight_space import descent, name

import dln
from dln import Status

RULES = [
    dln.GradientFlow(), dln.GradientRegularization(0.1, 0.2), dln.GradientRegularization(0.1, 0.2, scheme="backward"),
    dln.GradientRegularization(0.1, 0.2, scheme="centered"), dln.GradientRegularization(0.1, scheme="exact"),
    dln.GradientRegularization(0.05, 0.2, squared=False), dln.SAM(0.1), dln.SAM(0.1, normalized=True),
    dln.SAM(0.1, per_sample=True), dln.SAM(0.05, normalized=True, per_sample=True), dln.WeightDecay(0.03),
    dln.WeightDecay(np.linspace(0.01, 0.1, 7)), dln.WeightDecay(lambda t: 0.1 / (1 + t)),
    dln.WeightDecay(lambda t: 0.1 if t < 1.0 else 0.02, breakpoints=(1.0,)),
]
FLOWS = {"constant": 0.3, "nesterov": None}


def problem(n=4, d=7, seed=1):
    rng = np.random.default_rng(seed)
    return dln.Problem(rng.standard_normal((n, d)), rng.standard_normal(n))


def reference(data, rule, start, inertia, t_end, breakpoints=(), event=None):
    """SciPy's DOP853 in (u, v, u', v'), with the rule by its definition in the weights."""
    d = data.n_features

    def field(t, state):
        u, v, *speed = state.reshape(4, d)
        force, speed = -descent(rule, data.X, data.y, u, v, t).ravel(), np.concatenate(speed)
        if inertia is not None:
            return np.concatenate([speed, (force - speed) / inertia])
        return np.concatenate([speed, force - 3 * speed / t if t > 0 else force / 4])

    state, run = np.concatenate([*start, np.zeros(2 * d)]), None
    for begin, end in zip((0.0, *breakpoints), (*breakpoints, t_end), strict=True):
        low, high = (np.nextafter(begin, end), np.nextafter(end, begin)) if breakpoints else (begin, end)
        run = solve_ivp(lambda t, x, low=low, high=high: field(min(max(t, low), high), x), (begin, end), state,
                        method="DOP853", rtol=1e-12, atol=1e-15, events=event)
        state = run.y[:, -1]
    return run


def weights(run):
    return np.concatenate([run.sign_u * np.exp(run.log_u), run.sign_v * np.exp(run.log_v)])


@pytest.mark.parametrize("kind", FLOWS)
@pytest.mark.parametrize("rule", RULES, ids=name)
def test_every_rule_against_raw_weights(rule, kind):
    """Reference: SciPy in raw weights; the law is not linear there."""
    data, t_end = problem(), 2.0
    d = data.n_features
    start = 0.5 * np.linspace(0.7, 1.3, d), 0.5 * np.linspace(1.2, 0.8, d)
    theirs = reference(data, rule, start, FLOWS[kind], t_end, rule.breakpoints).y[:, -1]
    run = dln.momentum_flow(data, rule, inertia=FLOWS[kind], kind=kind, initial_weights=start, t_end=t_end, rtol=1e-10)
    assert run.success and run.exact_law, run.message
    np.testing.assert_allclose(weights(run), theirs[: 2 * d], rtol=2e-8)
    speeds = np.concatenate([run.log_velocity_u, run.log_velocity_v]) * weights(run)
    np.testing.assert_allclose(speeds, theirs[2 * d:], rtol=1e-7, atol=1e-8)
    best = dln.predict(run, at_time=True)
    np.testing.assert_allclose(best.beta, run.beta, rtol=0, atol=1e-11 * np.abs(run.beta).max())


@pytest.mark.parametrize("kind", FLOWS)
def test_error_falls_with_the_tolerance(kind):
    """Reference: SciPy at 1e-12; the error stays below the estimate or the tolerance, and falls with it."""
    data, d = problem(), 7
    start = np.full(d, 0.4), np.full(d, 0.4)
    theirs = reference(data, dln.GradientFlow(), start, FLOWS[kind], 3.0).y[: 2 * d, -1]
    errors = []
    for rtol in (1e-4, 1e-6, 1e-8, 1e-10):
        run = dln.momentum_flow(data, inertia=FLOWS[kind], kind=kind, alpha=0.4, t_end=3.0, rtol=rtol, through_zero=True)
        errors.append(np.abs(weights(run) - theirs).max() / np.abs(theirs).max())
        assert errors[-1] <= 3 * run.error_estimate
    assert errors[-1] <= 1e-10
    assert errors[0] / errors[-1] > 1e3


@pytest.mark.parametrize("kind", FLOWS)
@pytest.mark.parametrize("rule", RULES, ids=name)
def test_stiff_method_agrees_with_the_explicit_one(rule, kind):
    """Reference: the explicit method, which SciPy has confirmed; the stiff one keeps its order for any Jacobian."""
    data, given = problem(), {"inertia": FLOWS[kind], "kind": kind, "alpha": 0.4, "log_ratio": 0.3, "t_end": 2.0}
    exact = dln.momentum_flow(data, rule, rtol=1e-12, method="explicit", **given)
    errors = []
    for rtol in (1e-5, 1e-8):
        run = dln.momentum_flow(data, rule, rtol=rtol, method="rosenbrock", **given)
        assert run.success, run.message
        assert run.method == "rosenbrock"
        errors.append(np.abs(run.beta - exact.beta).max() / np.abs(exact.beta).max())
        assert errors[-1] <= 3 * run.error_estimate
    assert errors[1] <= 1e-6
    assert errors[1] <= errors[0] / 10
    np.testing.assert_allclose(run.log_effective_alpha, exact.log_effective_alpha, rtol=0, atol=1e-6)
    np.testing.assert_allclose(run.effective_log_ratio, exact.effective_log_ratio, rtol=0, atol=1e-6)


def test_order_of_the_stiff_method():
    """Reference: order 4, seen in the error at the end against the number of steps."""
    data, given = problem(), {"inertia": 0.3, "alpha": 0.4, "t_end": 2.0}
    exact = dln.momentum_flow(data, rtol=1e-13, method="explicit", **given).beta
    runs = [dln.momentum_flow(data, rtol=rtol, method="rosenbrock", **given) for rtol in (1e-5, 1e-7, 1e-9, 1e-11)]
    errors = [np.linalg.norm(run.beta - exact) for run in runs]
    order = -np.polyfit(np.log([run.n_steps for run in runs]), np.log(errors), 1)[0]
    assert 3.5 < order < 4.7


@pytest.mark.parametrize("alpha", [1e-1, 1e-3, 1e-6])
def test_small_scales_take_few_steps(alpha):
    """Reference: a budget. Explicit steps alone, at most 6 inertia long, would be 1e7 at alpha = 1e-6; and the exact law."""
    data = dln.sparse_regression(20, 50, 3, rng=0)
    run = dln.momentum_flow(data, inertia=0.1, alpha=alpha)
    assert run.status == Status.CONVERGED, run.message
    assert run.exact_law
    assert "plateaus" not in run.method
    assert run.n_steps + run.n_rejected < 6000
    np.testing.assert_allclose(run.beta, dln.predict(run).beta, rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", FLOWS)
def test_the_law_by_integrals_along_the_run(kind):
    """Reference: the strong form, alpha_eff and centre from Simpson's rule over the saved trajectory's velocities."""
    data, t_end, inertia = problem(), 2.5, FLOWS[kind]
    times = np.linspace(0, t_end, 2001)
    run = dln.momentum_flow(data, inertia=inertia, kind=kind, alpha=0.4, log_ratio=0.5, save_at=times, t_end=t_end, rtol=1e-12)
    assert run.success
    rates = [np.gradient(logs, times, axis=0, edge_order=2) for logs in (run.log_us, run.log_vs)]
    weight = 1 - np.exp(-(t_end - times) / inertia) if inertia else times / 2 * (1 - (times / t_end) ** 2)
    lost, shift = (simpson((inertia or 1) * weight[:, None] * (rates[0] ** 2 + sign * rates[1] ** 2), x=times, axis=0)
                   for sign in (1, -1))
    np.testing.assert_allclose(2 * run.log_effective_alpha, 2 * math.log(0.4) - lost, atol=1e-5 * lost.max())
    np.testing.assert_allclose(run.effective_log_ratio, 0.5 - shift, atol=1e-5 * np.abs(shift).max())
    assert lost.max() > 1e-3
    assert np.abs(shift).max() > 1e-4


def test_converged_run_is_the_predicted_minimiser():
    data = problem()
    run = dln.momentum_flow(data, inertia=0.1, alpha=0.1, residual_tol=1e-12)
    assert run.status == Status.CONVERGED, run.message
    np.testing.assert_allclose(run.beta, dln.predict(run).beta, rtol=0, atol=1e-10 * np.abs(run.beta).max())
    assert np.all(run.log_effective_alpha < math.log(0.1))
    assert np.abs(run.center).max() > 0


def test_little_inertia_is_gradient_flow():
    """Reference: dln.flow; the distance is of order 1 in the inertia."""
    data = problem()
    flow = dln.flow(data, alpha=0.3, t_end=3.0, rtol=1e-12).beta
    gaps = [np.linalg.norm(dln.momentum_flow(data, inertia=lam, alpha=0.3, t_end=3.0, rtol=1e-12).beta - flow)
            for lam in (4e-3, 2e-3, 1e-3)]
    assert np.allclose(np.divide(gaps[:-1], gaps[1:]), 2.0, rtol=0.02)


@pytest.mark.parametrize("inertia", [3.0, None])
def test_sign_change_is_found_at_the_right_time(inertia):
    """Reference: SciPy's event location in raw weights."""
    data, d, alpha = problem(), 7, 0.3
    kind = "constant" if inertia else "nesterov"

    def first(t, state):
        return state[: 2 * d].min()

    first.terminal = True
    run = reference(data, dln.GradientFlow(), (np.full(d, alpha),) * 2, inertia, 40.0, event=first)
    [when], which = run.t_events[0], int(np.argmin(run.y[: 2 * d, -1]))
    ours = dln.momentum_flow(data, inertia=inertia, kind=kind, alpha=alpha)
    assert not ours.success
    assert ours.status == Status.SIGN_CHANGE
    assert ours.zero_time == pytest.approx(when, rel=1e-8)
    assert ours.zero_weight == ("uv"[which // d], which % d)
    name = f"{'uv'[which // d]}[{which % d}]"
    assert re.match(rf"sign change: weight {re.escape(name)} comes to 0 at t = {ours.zero_time:.8g}", ours.message)
    assert ours.t < when
    assert ours.exact_law and np.isfinite(ours.log_effective_alpha).all()


@pytest.mark.parametrize("inertia", [3.0, None])
def test_through_zero_against_raw_weights(inertia):
    """Reference: SciPy in raw weights, where 0 is a point like any other."""
    data, d, alpha, t_end = problem(), 7, 0.3, 25.0
    kind = "constant" if inertia else "nesterov"
    theirs = reference(data, dln.GradientFlow(), (np.full(d, alpha),) * 2, inertia, t_end).y[: 2 * d, -1]
    run = dln.momentum_flow(data, inertia=inertia, kind=kind, alpha=alpha, t_end=t_end, rtol=1e-11, through_zero=True)
    assert run.success and not run.exact_law
    assert run.n_sign_flips >= 2
    assert (theirs < 0).any()
    np.testing.assert_allclose(weights(run), theirs, rtol=0, atol=1e-7)
    assert "passed through 0" in dln.predict(run, at_time=True).message


@pytest.mark.parametrize("log_alpha", [-1e2, -1e3, -1e4])
def test_any_scale(log_alpha):
    """Reference: gradient flow at the same scale goes to nearly the same place: inertia is short against its times."""
    data = problem(2, 3, 5)
    run = dln.momentum_flow(data, inertia=0.5, log_alpha=log_alpha, residual_tol=1e-8, rtol=1e-9, max_steps=200_000)
    assert run.status == Status.CONVERGED, run.message
    assert np.all(run.log_effective_alpha < log_alpha)
    np.testing.assert_allclose(run.beta, dln.predict(run).beta, atol=1e-7 * np.abs(run.beta).max())
    np.testing.assert_allclose(run.beta, dln.basis_pursuit(data).beta, atol=0.05)


def test_large_scale_keeps_its_digits():
    """Reference: minimum norm, to which the kernel regime tends; u^2 - v^2 of weights of 1e5 would lose ten digits."""
    data = problem()
    run = dln.momentum_flow(data, inertia=1e-12, alpha=1e5, residual_tol=1e-9)
    assert run.status == Status.CONVERGED, run.message
    np.testing.assert_allclose(run.beta, dln.minimum_norm(data).beta, atol=1e-7)


def test_scaling_of_data_rescales_the_answer():
    """X by a and y by b: beta by b/a, alpha by sqrt(b/a), times by 1/(a b)."""
    data, a, b = problem(), 1e3, 1e-5
    scaled = dln.Problem(a * data.X, b * data.y)
    one = dln.momentum_flow(data, inertia=0.2, alpha=0.1)
    other = dln.momentum_flow(scaled, inertia=0.2 / (a * b), alpha=0.1 * math.sqrt(b / a))
    assert other.status == one.status == Status.CONVERGED
    np.testing.assert_allclose(other.beta * a / b, one.beta, rtol=1e-8)


def test_degenerate_data_end_with_words(degenerate):
    _, X, y = degenerate
    data = dln.Problem(X, y)
    unit = np.abs(X).max() * np.abs(y).max()
    run = dln.momentum_flow(data, inertia=0.05 / unit, alpha=0.5, t_end=3 / unit)
    assert run.status in (Status.REACHED_T_END, Status.SIGN_CHANGE), run.message
    assert np.isfinite(run.beta).all()
    assert np.isfinite(run.log_effective_alpha).all()


def test_nothing_to_learn():
    """Reference: y = 0 and u = v is an interpolator at rest."""
    run = dln.momentum_flow(dln.Problem(np.eye(3), np.zeros(3)), inertia=1.0, alpha=0.5)
    assert run.status == Status.CONVERGED
    assert not run.beta.any()
    assert np.array_equal(run.log_effective_alpha, run.log_alpha)


def test_trajectory_and_repr():
    data = problem()
    run = dln.momentum_flow(data, inertia=0.1, alpha=0.2, save_at=[0.0, 1.0, 2.0], t_end=2.0)
    assert run.times.tolist() == [0.0, 1.0, 2.0]
    again = dln.momentum_flow(data, inertia=0.1, alpha=0.2, t_end=1.0)
    np.testing.assert_allclose(run.betas[1], again.beta, rtol=1e-7)
    assert np.array_equal(run.betas[2], run.beta)
    assert repr(run).startswith("MomentumResult(reached t_end: t=2, ")
    assert "inertia=0.1" in repr(run)


@pytest.mark.parametrize(("arguments", "error", "words"), [
    ({"alpha": 1.0}, ValueError, "give inertia"),
    ({"alpha": 1.0, "inertia": 0.0}, ValueError, "inertia must be finite and above 0, got 0"),
    ({"alpha": 1.0, "inertia": "1"}, TypeError, "inertia must be a number"),
    ({"alpha": 1.0, "inertia": 1.0, "kind": "nesterov"}, ValueError, "inertia goes with kind='constant' only"),
    ({"alpha": 1.0, "kind": "nestrov"}, ValueError, "nesterov"),
    ({"alpha": 1.0, "inertia": 1.0, "rtol": 0.1}, ValueError, "rtol must be at most 0.01"),
    ({"alpha": 1.0, "inertia": 1.0, "max_steps": 0}, ValueError, "max_steps"),
    ({"alpha": 1.0, "inertia": 1.0, "t_end": -1.0}, ValueError, "t_end"),
    ({"alpha": 1.0, "inertia": 1.0, "rule": dln.Flooding(0.1)}, ValueError, "Flooding"),
    ({"alpha": 1.0, "inertia": 1.0, "rule": "sam"}, TypeError, "rule must be a training rule"),
    ({"inertia": 1.0}, ValueError, "give exactly one of alpha"),
    ({"alpha": 1.0, "inertia": 1.0, "method": "euler"}, ValueError, "method"),
])
def test_bad_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        dln.momentum_flow(problem(), **arguments)
    with pytest.raises(TypeError, match="problem must be"):
        dln.momentum_flow(np.eye(2), inertia=1.0, alpha=1.0)


def test_step_limit_names_its_cause():
    run = dln.momentum_flow(problem(), inertia=1e-3, alpha=1e-3, max_steps=50)
    assert run.status == Status.STEP_LIMIT
    assert not run.success
    assert "max_steps = 50" in run.message
