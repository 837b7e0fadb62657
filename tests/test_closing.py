"""The last step to a stop (`closing.py`): what it returns, when it is tried, and what it does not touch."""

import sys

import numpy as np
import pytest

import dln
from dln.integrate import closing
from dln.integrate import state as st
from dln.integrate.methods import relaxes

GR, SAM = dln.GradientRegularization, dln.SAM
RULES = [dln.GradientFlow(), GR(0.02, 0.1), GR(0.02, 0.1, "backward"), GR(0.02, 0.1, "centered"), GR(0.02, scheme="exact"),
         SAM(0.05)]
flows = sys.modules["dln.flow"]


def distance(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.fixture
def step_by_step(monkeypatch):
    """Return a flow without it."""
    def run(*args, **kwargs):
        with monkeypatch.context() as patch:
            patch.setattr(flows, "relaxes", lambda *_: False)
            return dln.flow(*args, **kwargs)
    return run


def time_of_loss(problem, rule, alpha, loss):
    """Return when the loss has fallen to about that, on the exponential way down."""
    run = dln.flow(problem, rule, alpha=alpha, rtol=1e-5)
    times = run.t * np.linspace(0.2, 1.0, 41)
    losses = dln.flow(problem, rule, alpha=alpha, rtol=1e-5, t_end=times[-1], save_at=times).losses
    return times[np.argmax(losses < loss)]


@pytest.mark.interpreted
def test_the_exponential():
    # Reference: the exponential itself.
    def of(z):
        w = 1.0 / (1.0 + closing._POLE * z / closing._PARTS)
        return sum(a * w ** (j + 1) for j, a in enumerate(closing._SUM)) ** closing._PARTS

    assert abs(closing._SUM.sum() - 1.0) <= 1e-12
    slow = np.linspace(0.0, 14.0, 500)
    assert np.abs(of(slow) * np.exp(slow) - 1.0).max() <= 0.01
    fast = np.geomspace(14.0, 1e6, 500)
    assert np.abs(of(fast)).max() <= 1.001 * np.exp(-14.0)


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("alpha", [0.3, 0.03, 1e-3])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_end_and_its_loss(rule, alpha, noise, step_by_step):
    # Reference: the same flow at rtol 1e-10, by ordinary steps.
    problem = dln.sparse_regression(8, 30, 3, noise=noise, rng=1)
    t_end = time_of_loss(problem, rule, alpha, 1e-12)
    exact = step_by_step(problem, rule, alpha=alpha, t_end=t_end, rtol=1e-10)
    for rtol in (1e-1, 1e-2, 1e-4) if isinstance(rule, dln.GradientFlow) else (1e-2, 1e-4):
        run = dln.flow(problem, rule, alpha=alpha, t_end=t_end, rtol=rtol)
        slow = step_by_step(problem, rule, alpha=alpha, t_end=t_end, rtol=rtol)
        assert run.success and run.t == t_end
        assert run.n_steps < slow.n_steps or rtol < 1e-2 or alpha < 0.03
        assert distance(run.beta, exact.beta) <= 3.0 * distance(slow.beta, exact.beta) + 5e-7
        scales = [np.abs(found.log_effective_alpha - exact.log_effective_alpha).max() for found in (run, slow)]
        assert scales[0] <= 3.0 * scales[1] + 5e-7
        assert abs(np.log(run.loss / exact.loss)) <= 0.3
        # What the run reports is the state that it returns.
        assert distance(run.beta, np.exp(2.0 * run.log_u) - np.exp(2.0 * run.log_v)) <= 1e-12
        np.testing.assert_allclose(run.loss, problem.loss(run.beta), rtol=1e-6)


def test_the_law_of_the_limit_holds_at_the_end():
    # Reference: the minimiser of the potential at the effective initialisation, which is exact at every time for its residual.
    problem = dln.sparse_regression(10, 40, 3, rng=2)
    for rule in RULES:
        t_end = time_of_loss(problem, rule, 0.05, 1e-20)
        run = dln.flow(problem, rule, alpha=0.05, t_end=t_end, rtol=1e-2)
        assert distance(run.beta, dln.predict(run).beta) <= 1e-8


def test_far_beyond_convergence(step_by_step):
    # Reference: the limit; nothing is left to be solved but rounding errors.
    problem = dln.sparse_regression(8, 30, 3, rng=1)
    limit = dln.minimize_potential(problem, alpha=0.1).beta
    run = dln.flow(problem, alpha=0.1, t_end=1e5, rtol=0.1)
    assert run.success and run.t == 1e5
    assert distance(run.beta, limit) <= 2.0 * distance(step_by_step(problem, alpha=0.1, t_end=1e5, rtol=0.1).beta, limit) + 1e-7


@pytest.mark.parametrize("alpha", [1e-3, 1e-6, 1e-12])
@pytest.mark.parametrize("rule", [dln.GradientFlow(), GR(0.02, 0.1), SAM(0.05)], ids=str)
def test_far_beyond_convergence_from_small_scales(rule, alpha, step_by_step):
    # Reference: the state at convergence.  Rounding errors of the residual grow with the logarithms of the weights: a way that
    # goes on for as long as it took to get there is not refused for them.
    problem = dln.sparse_regression(20, 100, 5, rng=1)
    exact = dln.flow(problem, rule, alpha=alpha, rtol=1e-8)
    run = dln.flow(problem, rule, alpha=alpha, t_end=5.0 * exact.t, rtol=1e-2)
    slow = step_by_step(problem, rule, alpha=alpha, t_end=5.0 * exact.t, rtol=1e-2)
    assert run.success and run.n_rejected <= slow.n_rejected + 2
    assert distance(run.beta, exact.beta) <= 2.0 * distance(slow.beta, exact.beta) + 1e-6


@pytest.mark.parametrize(("shape", "correlation", "rule", "alpha", "rtol", "t_end"), [
    ((29, 32), 0.9, GR(0.02, 0.1), 3.6e-6, 0.04, 6e5), ((16, 45), 0.0, SAM(0.05), 0.84, 1e-4, 5e6),
], ids=["ill-conditioned data", "a strict tolerance"])
def test_what_was_refused_is_not_tried_at_every_step(shape, correlation, rule, alpha, rtol, t_end, step_by_step):
    # Reference: the same run by ordinary steps.  Corrections stop at the rounding errors that the data allow, and an error of
    # so many tolerances says how much nearer the end has to be.  (16 and 9 were refused.)
    problem = dln.sparse_regression(*shape, shape[0] // 4, noise=0.1, correlation=correlation, rng=1)
    settings = {"alpha": alpha, "t_end": t_end, "rtol": rtol, "method": "rosenbrock"}
    run, slow = dln.flow(problem, rule, **settings), step_by_step(problem, rule, **settings)
    assert run.success and run.n_steps < slow.n_steps
    assert run.n_rejected <= slow.n_rejected + 2
    assert distance(run.beta, slow.beta) <= 0.1 * rtol


@pytest.mark.parametrize("seed", [1, 4, 6])
def test_a_slowest_part_that_is_a_small_one(seed, step_by_step):
    # Reference: the same flow at rtol 1e-10, by ordinary steps.  At the end nothing but the slowest part counts: what the
    # exponential leaves of the others has to be less.  (Losses were 2.5 to 3.5 times what they are.)
    problem = dln.sparse_regression(8, 30, 3, noise=0.2, rng=seed)
    t_end = 1.5 * time_of_loss(problem, dln.GradientFlow(), 0.3, 1e-10)
    exact = step_by_step(problem, alpha=0.3, t_end=t_end, rtol=1e-10)
    for rtol in (0.4, 1e-3):
        run = dln.flow(problem, alpha=0.3, t_end=t_end, rtol=rtol)
        assert run.success and run.n_steps <= 5
        assert abs(np.log(run.loss / exact.loss)) <= 0.3


def test_a_jacobian_that_counts_many_times(step_by_step):
    # Reference: as above.  An error of J counts times the exponent, here about 20: it is taken at an end that has been
    # corrected.  (Losses were three quarters of what they are.)
    problem = dln.sparse_regression(20, 100, 5, rng=3)
    t_end = dln.flow(problem, alpha=1e-6, rtol=1e-6, residual_tol=1e-6, method="rosenbrock").t
    exact = step_by_step(problem, alpha=1e-6, t_end=t_end, rtol=1e-10)
    for rtol in (0.1, 0.2, 0.3):
        run = dln.flow(problem, alpha=1e-6, t_end=t_end, rtol=rtol)
        assert run.success and abs(np.log(run.loss / exact.loss)) <= 0.1


@pytest.mark.parametrize("rule", RULES[1:], ids=str)
def test_what_penalties_gain_on_the_last_step(rule, step_by_step):
    # Reference: ``int q`` at rtol 1e-10, and that of the same run by ordinary steps from where the last one began.
    problem = dln.sparse_regression(20, 100, 5, rng=0)
    t_end = time_of_loss(problem, rule, 0.1, 1e-12)
    exact = step_by_step(problem, rule, alpha=0.1, t_end=t_end, rtol=1e-10).shrinkage
    run = dln.flow(problem, rule, alpha=0.1, t_end=t_end, rtol=1e-2)
    slow = step_by_step(problem, rule, alpha=0.1, t_end=t_end, rtol=1e-2)
    assert run.n_steps <= slow.n_steps - 5
    # About 3e-5 is gained on a way from 0.35 in log u^2.
    assert np.abs(run.shrinkage - exact).max() <= np.abs(slow.shrinkage - exact).max() + 3e-7


def test_a_way_that_is_not_linear_is_refused(monkeypatch):
    # Reference: the same run by ordinary steps, tried at every step: nothing of a refused one stays.
    problem = dln.sparse_regression(8, 30, 3, rng=1)
    plain = dln.flow(problem, alpha=1e-3, t_end=60.0, rtol=1e-3)
    integration = flows.Integration(
        problem, dln.GradientFlow(), dln.network.initialize(30, alpha=1e-3), 60.0, np.empty(0), 1e-3, 1e-10, "auto", 1000)
    integration._goes_at_once = lambda: False
    call = integration._call

    def eager(kernels, params, attempts):
        integration.clock[st.AHEAD] = 1e-3
        integration.clock[st.CLOSES_BELOW] = 1.0
        return call(kernels, params, 2)

    integration._call = eager
    run = integration.run()
    assert run.n_rejected > plain.n_rejected
    assert distance(run.beta, plain.beta) <= 1e-6


def test_stops_on_the_way_are_exact():
    # Reference: a run to each of the times.
    problem = dln.sparse_regression(8, 30, 3, rng=1)
    times = np.array([5.0, 40.0, 80.0, 120.0, 160.0])
    run = dln.flow(problem, alpha=0.1, t_end=times[-1], save_at=times, rtol=1e-2)
    assert np.array_equal(run.times, times)
    for t, beta, loss in zip(times, run.betas, run.losses, strict=True):
        exact = dln.flow(problem, alpha=0.1, t_end=t, rtol=1e-10)
        assert distance(beta, exact.beta) <= 2e-3
        assert abs(np.log(loss / exact.loss)) <= 1.0


@pytest.mark.interpreted
def test_which_rules_relax():
    assert all(relaxes(rule, False) for rule in RULES)
    for rule in (SAM(0.05, normalized=True), SAM(0.05, per_sample=True), dln.WeightDecay(0.1), GR(0.1, 0.1, squared=False)):
        assert not relaxes(rule, False)
    assert not relaxes(GR(50.0, 0.1), True)


@pytest.mark.parametrize("rtol", [0.1, 1e-3, 1e-6])
@pytest.mark.parametrize("factor", [1.5, 2.0, 2.5, 4.0])
def test_losses_far_down_and_what_the_estimate_says(factor, rtol, step_by_step):
    # Reference: the same flow at rtol 1e-10, by ordinary steps; below 1e-26 losses are rounding errors.
    problem = dln.sparse_regression(8, 30, 3, noise=0.2, rng=3)
    t_end = factor * time_of_loss(problem, dln.GradientFlow(), 0.3, 1e-10)
    run = dln.flow(problem, alpha=0.3, t_end=t_end, rtol=rtol)
    exact = step_by_step(problem, alpha=0.3, t_end=t_end, rtol=1e-10)
    assert distance(run.beta, exact.beta) <= max(run.error_estimate, 1e-14)
    if exact.loss > 1e-24:
        assert abs(np.log(run.loss / exact.loss)) <= 0.5
    else:
        assert run.loss <= 1e-23


@pytest.mark.parametrize(("rule", "alpha"), [*((rule, 0.3) for rule in RULES), (RULES[0], 0.02)], ids=str)
def test_with_a_gram_matrix_that_is_kept(rule, alpha, step_by_step):
    # Reference: the same flow at rtol 1e-9, by ordinary steps.  K is off by up to half of itself elsewhere, and in single
    # precision, but at the last of these tolerances.
    problem = dln.sparse_regression(155, 300, 12, noise=0.1, correlation=0.3, rng=4)
    t_end = time_of_loss(problem, rule, alpha, 1e-12)
    exact = step_by_step(problem, rule, alpha=alpha, t_end=t_end, rtol=1e-9)
    for rtol in (0.4, 1e-2, 1e-6) if isinstance(rule, dln.GradientFlow) else (0.04, 1e-3, 1e-7):
        run = dln.flow(problem, rule, alpha=alpha, t_end=t_end, rtol=rtol, method="rosenbrock")
        slow = step_by_step(problem, rule, alpha=alpha, t_end=t_end, rtol=rtol, method="rosenbrock")
        assert run.success and run.t == t_end
        assert run.n_steps < slow.n_steps or rtol < 1e-2 or alpha < 0.1
        assert distance(run.beta, exact.beta) <= 3.0 * distance(slow.beta, exact.beta) + 5e-7
        assert abs(np.log(run.loss / exact.loss)) <= 0.5
        assert distance(run.beta, np.exp(2.0 * run.log_u) - np.exp(2.0 * run.log_v)) <= 1e-12
