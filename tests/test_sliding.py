"""Flooding in continuous time against raw integrations: the way to the level, and the averaged motion on it."""

import numpy as np
import pytest
from random_data import data
from scipy.integrate import solve_ivp
from weight_space import grad, hessian_times

import dln
from dln import Flooding, Status

TIGHT = {"method": "DOP853", "rtol": 1e-12, "atol": 1e-13}


def plain(problem, sign=-1.0):
    return lambda t, theta: sign * grad(problem.X, problem.y, *theta.reshape(2, -1)).ravel()


def reach(problem, alpha, level, sign=-1.0):
    """Integrate the flow in raw weights to the level; return the time and the weights."""

    def event(t, theta):
        u, v = theta.reshape(2, -1)
        return problem.loss(u * u - v * v) - level

    event.terminal = True
    run = solve_ivp(plain(problem, sign), (0, 1e3), np.full(2 * problem.n_features, alpha), events=event, **TIGHT)
    return run.t_events[0][0], run.y_events[0][0]


def on_level(problem, step):
    """The averaged field in raw weights: -(eta/4) grad |grad L|^2, less its part along grad L."""

    def field(t, theta):
        u, v = theta.reshape(2, -1)
        G = grad(problem.X, problem.y, u, v)
        push = -(step / 2) * hessian_times(problem.X, problem.y, u, v, G)
        return (push - G * (np.sum(push * G) / np.sum(G * G))).ravel()

    return field


def relative(a, b):
    return np.max(np.abs(a - b)) / np.max(np.abs(b))


@pytest.mark.parametrize("kind", ["noisy", "sparse", "correlated"])
def test_both_phases(kind):
    """Reference: SciPy in raw weights, an event at the level, then the projected gradient of |grad L|^2."""
    problem = data(kind, 6, 15)
    level = 0.3 * problem.loss(np.zeros(15))
    arrival, theta = reach(problem, 0.3, level)
    times = arrival + np.array([0.0, 50.0, 200.0])
    raw = solve_ivp(on_level(problem, 0.05), (arrival, times[-1]), theta, t_eval=times, **TIGHT).y.T.reshape(3, 2, -1)
    run = dln.flow(problem, Flooding(level, step=0.05), alpha=0.3, t_end=times[-1], save_at=[0.5 * arrival, *times], rtol=1e-11)
    assert run.status == Status.REACHED_T_END
    assert relative(run.betas[1:], raw[:, 0] ** 2 - raw[:, 1] ** 2) <= 1e-9
    np.testing.assert_allclose(run.log_effective_alpha, np.log(raw[-1, 0] * raw[-1, 1]) / 2, rtol=0, atol=1e-8)
    np.testing.assert_allclose(run.losses[1:], level, rtol=1e-10)
    early = dln.flow(problem, alpha=0.3, t_end=0.5 * arrival, rtol=1e-11)
    assert relative(run.betas[0], early.beta) <= 1e-10
    assert relative(dln.predict(run, at_time=True).beta, run.beta) <= 1e-11


def test_discrete_flooding_follows_it():
    """Reference: `descend` with the same step, at the same slow time: the distance falls as the step does."""
    problem = data("noisy", 6, 15)
    level = 0.3 * problem.loss(np.zeros(15))
    distances = []
    for step in (0.02, 0.005, 0.00125):
        n_steps = round(2 / step**2)
        run = dln.flow(problem, Flooding(level, step=step), alpha=0.3, t_end=n_steps * step)
        steps = dln.descend(problem, Flooding(level), step=step, n_steps=n_steps, alpha=0.3)
        distances.append(np.max(np.abs(run.log_effective_alpha - steps.log_effective_alpha)))
    assert distances[0] > 2.5 * distances[1] > 6.25 * distances[2]
    assert distances[2] < 0.01


@pytest.mark.parametrize("t_end", [None, 40.0])
def test_without_a_step_it_rests_on_the_level(t_end):
    """Reference: Filippov's sliding motion of two opposite fields is rest; arrival by SciPy's event."""
    problem = data("noisy", 6, 15)
    level = 0.3 * problem.loss(np.zeros(15))
    arrival, theta = reach(problem, 0.3, level)
    save_at = [0.0, arrival + 20.0] if t_end else None
    run = dln.flow(problem, Flooding(level), alpha=0.3, t_end=t_end, save_at=save_at, rtol=1e-10)
    assert run.status == (Status.REACHED_T_END if t_end else Status.STATIONARY)
    assert run.t == pytest.approx(t_end or arrival, rel=1e-9)
    assert run.loss == pytest.approx(level, rel=1e-10)
    assert relative(run.beta, theta[:15] ** 2 - theta[15:] ** 2) <= 1e-9
    if t_end:
        assert np.array_equal(run.betas[1], run.beta)
        assert not run.betas[0].any()


def test_from_below_the_level_it_climbs():
    """Reference: SciPy, the ascent in raw weights up to the level."""
    problem = data("noisy", 6, 15)
    level = 3 * problem.loss(np.zeros(15))
    arrival, theta = reach(problem, 0.3, level, sign=1.0)
    run = dln.flow(problem, Flooding(level), alpha=0.3, rtol=1e-10)
    assert run.t == pytest.approx(arrival, rel=1e-8)
    assert relative(run.beta, theta[:15] ** 2 - theta[15:] ** 2) <= 1e-8


def test_before_the_level_it_is_gradient_flow():
    """Reference: gradient flow, bit for bit."""
    problem = data("noisy", 6, 15)
    run = dln.flow(problem, Flooding(0.01), alpha=0.3, t_end=0.1)
    assert np.array_equal(run.beta, dln.flow(problem, alpha=0.3, t_end=0.1).beta)


def test_a_level_that_is_never_reached():
    """Reference: the loss of least squares is above it."""
    problem = data("noisy", 12, 4)
    run = dln.flow(problem, Flooding(0.5 * problem.row_space.unreachable_loss), alpha=0.3)
    assert run.status == Status.CONVERGED
    assert "never comes to the level" in run.message
    at_start = dln.flow(dln.Problem(np.ones((1, 2)), [2.0]), Flooding(1.0), alpha=0.3)
    assert (at_start.t, at_start.loss) == (0.0, 1.0)


@pytest.mark.parametrize(("rule", "options", "words"), [
    (Flooding(0.1, per_sample=True), {}, "no sliding motion that is known"),
    (Flooding(0.1, step=0.01), {}, "t_end is needed with Flooding"),
    (Flooding(0.0, step=0.01), {"t_end": 1.0}, "level must be above 0"),
    (Flooding(0.1), {"depth": 3}, "depth")])
def test_bad_input(rule, options, words):
    """Reference: one line."""
    with pytest.raises(ValueError, match=words):
        dln.flow(data("noisy", 6, 15), rule, alpha=0.3, **options)


def test_descend_has_its_own_step():
    """Reference: one line that says which step counts."""
    with pytest.raises(ValueError, match="descend has its own step"):
        dln.descend(data("noisy", 6, 15), Flooding(0.1, step=0.01), step=0.01, n_steps=3, alpha=0.3)
    with pytest.raises(ValueError, match="step must be finite and above 0"):
        Flooding(0.1, step=0.0)
