"""How far a flow is from the process of saddles: never farther than proved, ties or not, and a wrong process is farther."""

import dataclasses
import itertools

import numpy as np
import pytest
from random_data import data

import dln

TIED = {
    "many minimisers": ([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]], [2.0, 1.0]),
    "many minimisers, all at once": ([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]], [1.0, 1.0]),
    "equal and opposite columns": ([[1.0, 1.0, -1.0, 0.0], [0.0, 0.0, 0.0, 1.0]], [2.0, 1.0]),
    "all at once": (np.eye(3), [1.0, -1.0, 1.0]),
    # x_2 reaches its bound as x_1 does, and stays there at 0:
    "without force": ([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]], [1.0, 0.0]),
}
GENERIC = {"N<d": data("correlated", 4, 8), "N=d, one leaves": data("noisy", 6, 6), "N>d": data("noisy", 9, 5)}
PROBLEMS = GENERIC | {name: dln.Problem(*arrays) for name, arrays in TIED.items()}


def distances(problem, path, log_alpha, tau):
    """Integrate the flow; return how far its dual is from the process."""
    L = -log_alpha
    times = tau * L
    run = dln.flow(problem, log_alpha=log_alpha * path.exponents, t_end=float(times[-1]), save_at=times, rtol=1e-7)
    assert run.success, run
    duals = -(run.log_us - run.log_vs) / (4.0 * L) @ np.linalg.pinv(problem.X)
    return np.linalg.norm(duals - path.dual_at(tau), axis=1)


def grid(path):
    """Give 40 times and the jumps, at which the flow is late."""
    return np.union1d(np.linspace(0.02, 1.5, 40) * path.times[-1], path.times[1:])


@pytest.mark.parametrize("log_alpha", [-1.0, -30.0, -1e4])
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_flow_stays_within_the_bound(name, log_alpha):
    """Reference: `dln.flow`; the proof in docs/saddles.md."""
    problem = PROBLEMS[name]
    path = dln.saddles(problem)
    tau = grid(path)
    distance, bound = distances(problem, path, log_alpha, tau), path.bound(log_alpha, tau)
    assert np.all(distance <= bound * (1.0 + 1e-6) + 1e-9 * np.abs(path.duals).max())
    assert np.max(distance) >= 0.02 * np.max(bound)  # not an empty one


def test_the_bound_holds_with_exponents():
    problem, k = data("noisy", 5, 9), np.random.default_rng(1).uniform(0.5, 2.0, 9)
    path = dln.saddles(problem, exponents=k)
    tau = grid(path)
    for log_alpha in (-2.0, -300.0):
        assert np.all(distances(problem, path, log_alpha, tau) <= path.bound(log_alpha, tau) * (1.0 + 1e-6) + 1e-9)


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_wrong_process_is_farther_away_than_the_bound(name):
    """Reference: the flow at one small scale against processes 2 percent slow, of bounds 0.51, and without the last jump."""
    problem, log_alpha = PROBLEMS[name], -1e4
    path = dln.saddles(problem)
    tau, bound = grid(path), path.bound(log_alpha, grid(path))
    slow = dataclasses.replace(path, times=1.02 * path.times)
    wide = dataclasses.replace(path, times=1.02 * path.times, duals=1.02 * path.duals)
    short = dataclasses.replace(path, times=path.times[:-1], betas=path.betas[:-1], duals=path.duals[:-1], horizon=1e300)
    for wrong in (slow, wide, short):
        assert np.any(distances(problem, wrong, log_alpha, tau) > 2.0 * bound)


@pytest.mark.parametrize("name", PROBLEMS)
def test_how_the_bound_falls(name):
    """Reference: the theorem: as 1/L, and as log(L)/L where a coordinate rests without force."""
    path = dln.saddles(PROBLEMS[name])
    scales = np.array([1e4, 1e5, 1e6])
    bounds = [L * path.bound(-L, 1.5 * path.times[-1]) for L in scales]
    if name == "without force":
        first, second = np.diff(bounds)
        assert first > 0.0 and second == pytest.approx(first, rel=1e-3)
    else:
        assert np.log(bounds[0] / bounds[2]) / np.log(100.0) == pytest.approx(0.0, abs=0.01)


def test_without_force_the_flow_is_late_by_a_logarithm():
    """Reference: the flow: L times its distance grows by equal amounts as L grows by equal factors, so the order is right."""
    problem = PROBLEMS["without force"]
    path = dln.saddles(problem)
    late = [L * distances(problem, path, -L, np.array([2.0 * path.times[-1]]))[0] for L in (1e3, 1e4, 1e5)]
    assert np.diff(late)[0] > 0.3 and np.diff(late)[1] == pytest.approx(np.diff(late)[0], rel=0.01)


def test_the_bound_does_not_fall_in_time_and_is_that_of_each_time_alone():
    """Reference: its definition; times in any order and shape."""
    path = dln.saddles(GENERIC["N<d"])
    tau = grid(path)
    bound = path.bound(-50.0, tau)
    np.testing.assert_array_equal(path.bound(-50.0, tau[::-1].reshape(1, -1)), bound[::-1].reshape(1, -1))
    assert path.bound(-50.0, tau[7]) == bound[7]
    assert path.bound(-50.0, 0.0) == 0.0


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_simple_bound_is_no_better(name):
    """Reference: |distance|^2 <= tau max E/(4 N L), E = sum 1 + alpha^4 + |b| (log|b| - 1), or (1 - alpha^2)^2 where b = 0."""
    path = dln.saddles(PROBLEMS[name])
    b, tau = np.abs(path.betas), grid(path)
    for log_alpha in (-1.0, -30.0, -1e4):
        square = np.exp(2.0 * log_alpha)
        energies = np.where(b > 0.0, 1.0 + square**2 + b * (np.log(np.where(b > 0.0, b, 1.0)) - 1.0), (1.0 - square) ** 2)
        largest = np.max(np.sum(energies, axis=1))
        simple = np.sqrt(tau * largest / (4.0 * path.problem.n_samples * -log_alpha))
        assert np.all(path.bound(log_alpha, tau) <= simple * (1.0 + 1e-9))


def test_contraction_is_what_makes_it_true():
    """Reference: two flows from two starts: their duals come no farther apart than they began, per scale."""
    problem, log_alpha = GENERIC["N<d"], -40.0
    start = np.random.default_rng(0).standard_normal(problem.n_samples)
    times = np.linspace(0.05, 3.0, 30) * 40.0
    one, other = (dln.flow(problem, log_alpha=log_alpha, log_ratio=-4.0 * (problem.X.T @ (w * start)), t_end=float(times[-1]),
                           save_at=times, rtol=1e-9) for w in (0.0, 1.0))
    gaps = [np.linalg.norm((a - b) @ np.linalg.pinv(problem.X)) / 4.0
            for a, b in zip(one.log_us - one.log_vs, other.log_us - other.log_vs, strict=True)]
    gaps = [np.linalg.norm(start), *gaps]
    assert all(later <= earlier * (1.0 + 1e-6) for earlier, later in itertools.pairwise(gaps)) and gaps[-1] < 0.9 * gaps[0]
