"""Plateaus of gradient flow near the rich limit: jumps and flights against integration without them, and against limits."""

from functools import cache

import numpy as np
import pytest
from hostile_data import hostile

import dln
from dln.integrate.rest import mirror

SCALES = [np.log(1e-8), np.log(1e-50), np.log(1e-300), -1e4, -1e6]


def largest(a, b):
    return float(np.max(np.abs(np.asarray(a) - b)))


@cache
def integrated(log_alpha):
    """Return a problem, what is asked of its flow, and the Rosenbrock method's answer: for every tolerance the same."""
    problem = dln.sparse_regression(10, 40, 3, noise=0.1, rng=1)
    end = dln.flow(problem, log_alpha=log_alpha).t
    ask = {"log_alpha": log_alpha, "t_end": end, "save_at": np.geomspace(1e-3 * end, end, 25)}
    return problem, ask, dln.flow(problem, rtol=1e-10, method="rosenbrock", **ask)


@pytest.mark.parametrize("log_alpha", [np.log(1e-50), np.log(1e-300), -1e5])
@pytest.mark.parametrize("rtol", [1e-8, 1e-5, 1e-3])
def test_trajectories_are_those_of_integration(log_alpha, rtol):
    """Reference: the Rosenbrock method without jumps at rtol 1e-10; times fall on plateaus and in transitions."""
    problem, ask, other = integrated(log_alpha)
    run = dln.flow(problem, rtol=rtol, **ask)
    assert run.method == "plateaus" and other.n_jumps == 0
    unit = rtol + 1e-14 * abs(log_alpha)
    assert largest(run.betas, other.betas) <= 10 * unit * np.abs(other.betas).max()
    assert largest(run.log_us, other.log_us) <= 10 * unit
    assert largest(run.log_vs, other.log_vs) <= 10 * unit
    assert largest(run.dual, other.dual) <= 10 * unit * max(1.0, np.abs(other.dual).max())


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_nothing_is_silently_wrong_on_hostile_data(first):
    """Reference: the Rosenbrock method without jumps at a hundredth of the tolerance, and the minimiser of the potential."""
    compared = 0
    for seed in range(first, first + 20):
        problem, kind, start = hostile(seed, largest=(10, 30))
        rng = np.random.default_rng([18, seed])
        rtol = (1e-6, 1e-3)[seed % 2]
        limit = dln.flow(problem, **start)
        if not limit.success or limit.t == 0.0:
            assert limit.success or limit.status != dln.Status.CONVERGED
            continue
        best = dln.predict(limit).beta
        assert largest(limit.beta, best) <= 1e-6 * np.abs(best).max(), (seed, kind)
        times = np.sort(rng.uniform(0.0, 1.0, 5) ** 2 * 0.9 * limit.t + 1e-3 * limit.t)
        ask = {"t_end": times[-1], "save_at": times, "max_steps": 20_000, **start}
        reference = dln.flow(problem, method="rosenbrock", rtol=1e-2 * rtol, **ask)
        if not reference.success:
            continue
        run = dln.flow(problem, rtol=rtol, **ask)
        assert run.success, (seed, kind, run)
        unit = rtol + 1e-14 * float(np.max(np.abs(start["log_alpha"])))
        assert largest(run.betas, reference.betas) <= 10 * unit * np.abs(reference.betas).max(), (seed, kind)
        assert largest(run.log_us, reference.log_us) <= 10 * unit, (seed, kind)
        compared += 1
    assert compared >= 12


@pytest.mark.parametrize("log_alpha", SCALES)
def test_limits_are_the_minimisers_of_the_potential(log_alpha):
    """Reference: the dual Newton method, certified by its duality gap."""
    for seed in range(3):
        problem = dln.sparse_regression(20, 100, 5, rng=seed)
        run = dln.flow(problem, log_alpha=log_alpha)
        best = dln.predict(run)
        assert run.success and best.duality_gap <= 1e-12
        assert np.linalg.norm(run.beta - best.beta) <= 1e-8 * np.linalg.norm(best.beta)
        assert run.error_estimate <= 1e-8


def test_steps_hardly_grow_as_alpha_falls():
    """Reference: the number of transitions, which does not grow; without jumps the steps grow like log(1/alpha)."""
    problems = [dln.sparse_regression(20, 100, 5, rng=seed) for seed in range(4)]
    steps = {a: sum(dln.flow(p, log_alpha=a).n_steps for p in problems) for a in (np.log(1e-50), np.log(1e-300), -1e6)}
    assert steps[-1e6] <= 2.5 * steps[np.log(1e-50)]
    assert steps[np.log(1e-300)] <= 2.0 * steps[np.log(1e-50)]


def test_isolated_transitions_are_jumped():
    """Reference: orthogonal columns, where coordinate j wakes at t = log(1/alpha)/|x_j.y| N and none leaves: one jump each."""
    y = np.array([3.0, -2.0, 1.0])
    problem = dln.Problem(np.eye(3), y)
    log_alpha = -1e5
    wakes = -log_alpha * 3.0 / np.abs(y)
    middle = 0.5 * (wakes[1] + wakes[2])
    run = dln.flow(problem, log_alpha=log_alpha, t_end=middle)
    assert run.n_jumps == 2
    np.testing.assert_allclose(run.beta, [3.0, -2.0, 0.0], rtol=1e-8, atol=1e-300)
    np.testing.assert_allclose(run.rescaled_t, middle / 1e5)
    assert dln.flow(problem, log_alpha=log_alpha).n_jumps == 3
    # Until then log|beta_j| = 2 log(alpha) + 4 |y_j| t / (2 N), far below.
    for time in 0.999 * wakes:
        before = dln.flow(problem, log_alpha=log_alpha, t_end=float(time))
        assert np.all(np.abs(before.beta[wakes > time]) < 1e-80)


def test_a_coordinate_that_leaves_is_integrated():
    """Reference: the Rosenbrock method at rtol 1e-10, on data where coordinates do leave."""
    problem = dln.sparse_regression(20, 100, 5, rng=5)
    times = np.linspace(0.02, 0.8, 60) * 1e5
    ask = {"log_alpha": -1e4, "t_end": times[-1], "save_at": times}
    run, other = dln.flow(problem, **ask), dln.flow(problem, method="rosenbrock", rtol=1e-10, **ask)
    awake = np.abs(other.betas) > 1e-6
    assert any(np.any(awake[k] & ~awake[k + 1]) for k in range(len(times) - 1))
    assert run.n_jumps > 5
    np.testing.assert_allclose(run.log_us, other.log_us, atol=1e-6)
    np.testing.assert_allclose(run.betas, other.betas, atol=1e-7)


def test_the_tolerance_is_kept_where_the_way_is_asked_for():
    """Reference: rtol 1e-12; a run to the limit follows the way to a percent, one with save_at to its tolerance."""
    problem = dln.sparse_regression(10, 30, 3, noise=0.1, rng=0)
    free = dln.flow(problem, log_alpha=-500.0)
    run = dln.flow(problem, log_alpha=-500.0, t_end=free.t)
    tight = dln.flow(problem, log_alpha=-500.0, t_end=free.t, rtol=1e-12)
    assert largest(run.log_u, tight.log_u) <= 1e-7
    assert largest(free.beta, tight.beta) <= 1e-8 * np.abs(tight.beta).max()
    assert largest(free.log_u, tight.log_u) <= 1.0
    assert free.n_steps < 0.5 * run.n_steps


def test_scaling_the_data_changes_nothing_else():
    problem = dln.sparse_regression(10, 40, 3, noise=0.1, rng=1)
    one = dln.flow(problem, log_alpha=-800.0)
    for scale in (1e-12, 1e12):
        X, y = np.array(problem.X), np.array(problem.y)
        other = dln.flow(dln.Problem(scale * X, scale * y), log_alpha=-800.0)
        np.testing.assert_allclose(other.beta, one.beta, rtol=1e-7, atol=1e-12)
        assert abs(other.n_steps - one.n_steps) <= 0.2 * one.n_steps


def test_degenerate_data_end_well(degenerate):
    """Reference: the minimiser of the potential."""
    name, X, y = degenerate
    problem = dln.Problem(X, y)
    run = dln.flow(problem, log_alpha=-2000.0)
    assert run.success, (name, run)
    best = dln.predict(run).beta
    assert largest(run.beta, best) <= 1e-7 * max(np.abs(best).max(), 1e-300)


def test_a_few_attempts_at_a_time_give_the_same_bits(monkeypatch):
    """Reference: the same run in one piece: what the kernel needs is kept between calls, but for its basis."""
    problem = dln.sparse_regression(10, 40, 3, noise=0.1, rng=1)
    times = np.linspace(0.1, 1.0, 7) * dln.flow(problem, log_alpha=-800.0).t
    whole = dln.flow(problem, log_alpha=-800.0, save_at=times, t_end=times[-1])
    from dln.flow import Integration

    use = Integration._use

    def seldom(self, method):
        use(self, method)
        self.attempts = 7

    monkeypatch.setattr(Integration, "_use", seldom)
    pieces = dln.flow(problem, log_alpha=-800.0, save_at=times, t_end=times[-1])
    np.testing.assert_allclose(pieces.betas, whole.betas, rtol=1e-8, atol=1e-12)


@pytest.mark.interpreted
@pytest.mark.parametrize("log_product", [-2e6, -700.0, -3.0])
def test_mirror_inverts_the_network(log_product):
    """Reference: asinh in NumPy where the scale is a float, and its two expansions where it is not."""
    for beta in (2.5, -1e-9, 1e-200):
        value = mirror(beta, log_product)
        if log_product > -600.0:
            assert value == pytest.approx(np.arcsinh(beta / (2.0 * np.exp(log_product))), rel=1e-13)
        else:
            assert value == pytest.approx(np.sign(beta) * (np.log(abs(beta)) - log_product), rel=1e-13)
