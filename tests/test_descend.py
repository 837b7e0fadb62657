"""Discrete steps against iterations of raw weights, and against minimisers."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from random_data import data
from weight_space import descent, grad, name

import dln
from dln import SAM, Flooding, GradientFlow, GradientRegularization, Status, WeightDecay
from dln.integrate.batches import Batches

REFERENCE = [case for case in json.loads((Path(__file__).parent / "reference" / "trajectories.json").read_text())
             if case["kind"] == "descent"]
RULES = [GradientFlow(), *(GradientRegularization(0.05, 0.2, scheme) for scheme in ("forward", "backward", "centered")),
         GradientRegularization(0.05, scheme="exact"), SAM(0.05), SAM(0.05, normalized=True), SAM(0.05, per_sample=True),
         WeightDecay(0.1), WeightDecay(lambda t: 0.3 / (1 + t)), Flooding(0.05), Flooding(0.05, per_sample=True)]


def relative(a, b):
    return np.max(np.abs(np.asarray(a) - b)) / np.max(np.abs(b))


def rule_of(case):
    p = case["params"]
    return {"gradient_flow": lambda: GradientFlow(), "flooding": lambda: Flooding(p["level"]), "sam": lambda: SAM(p["rho"]),
            "gr": lambda: GradientRegularization(p["gamma"], p["epsilon"], p["scheme"])}[case["rule"]]()


def raw(problem, rule, steps, alpha, momentum=0.0, nesterov=False, batches=None, dtype=np.float64):
    """Iterate theta -> theta - eta grad + m (theta - theta_before), grad by its definition in the weights; return (u, v)."""
    theta = np.full((2, problem.n_features), alpha, dtype=dtype)
    before, t = theta.copy(), 0.0
    for k, eta in enumerate(steps):
        look = theta + momentum * (theta - before) if nesterov else theta
        X, y = problem.X, problem.y
        if batches is not None:
            indices, noise = batches.draw(k, 1)
            X, y = (X[indices[0]], y[indices[0]]) if indices.size else (X, y)
            y = y + noise[0] if noise.size else y
        theta, before = theta - eta * descent(rule, X, y, *look, t=t) + momentum * (theta - before), theta
        t += eta
    return theta


def steps_of(run):
    return np.exp(run.log_u) * run.sign_u, np.exp(run.log_v) * run.sign_v


# --- the steps ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", REFERENCE, ids=lambda case: case["name"])
def test_reference_runs(case):
    """Reference: iterations by separate code (tests/reference)."""
    run = dln.descend(dln.Problem(case["X"], case["y"]), rule_of(case), step=case["step"], n_steps=case["n_steps"],
                      alpha=case["alpha"], residual_tol=None)
    assert run.status == Status.ALL_STEPS
    assert run.n_steps == case["n_steps"]
    for ours, theirs in zip((run.beta, *steps_of(run)), (case["beta"], case["u"], case["v"]), strict=True):
        assert relative(ours, np.array(theirs)) <= 1e-12
    assert run.loss == pytest.approx(case["loss"], rel=1e-10)
    if case["descents"] is not None:
        assert (run.n_descents, run.n_descents + run.n_ascents) == (case["descents"], case["n_steps"])


@pytest.mark.parametrize("momentum", [{}, {"momentum": 0.8}, {"momentum": 0.8, "nesterov": True}], ids=str)
@pytest.mark.parametrize("rule", RULES, ids=name)
def test_every_rule_with_and_without_momentum(rule, momentum):
    """Reference: the iteration in raw weights, by weight gradients alone."""
    for kind, n, d in (("noisy", 4, 9), ("sparse", 7, 3)):
        problem = data(kind, n, d)
        # Few steps: rules with kinks amplify rounding, whoever iterates them.
        run = dln.descend(problem, rule, step=0.02, n_steps=25, alpha=0.4, residual_tol=None, **momentum)
        for ours, theirs in zip(steps_of(run), raw(problem, rule, [0.02] * 25, 0.4, **momentum), strict=True):
            assert relative(ours, theirs) <= 1e-12


@pytest.mark.parametrize("sampling", ["replacement", "distinct", "epochs"])
@pytest.mark.parametrize("rule", [GradientFlow(), GradientRegularization(0.05, 0.2), SAM(0.1, per_sample=True),
                                  Flooding(0.02), WeightDecay(0.1)], ids=name)
def test_mini_batches_and_label_noise(rule, sampling):
    """Reference: the raw iteration on the same batches: the loss of a step is that of its batch."""
    problem = data("noisy", 6, 9)
    for size, noise in ((1, 0.0), (4, 0.5), (None, 0.5)):
        run = dln.descend(problem, rule, step=0.03, n_steps=50, alpha=0.4, batch_size=size, sampling=sampling,
                          label_noise=noise, rng=3, residual_tol=None)
        batches = Batches(6, size, sampling, noise, np.random.default_rng(3))
        for ours, theirs in zip(steps_of(run), raw(problem, rule, [0.03] * 50, 0.4, batches=batches), strict=True):
            assert relative(ours, theirs) <= 1e-12


SCHEDULES = {"cyclic": dln.schedules.cyclic(0.01, 0.1, 10), "decaying": dln.schedules.decaying(0.1, 0.7, 5.0),
             "function": lambda k: 0.1 if k % 2 else 0.02, "array": np.linspace(0.1, 0.01, 50)}


@pytest.mark.interpreted
@pytest.mark.parametrize("step", SCHEDULES.values(), ids=SCHEDULES)
def test_schedules(step):
    """Reference: the raw iteration with the step sizes one by one; t is their sum."""
    problem = data("noisy", 4, 9)
    sizes = step if isinstance(step, np.ndarray) else [float(step(k)) for k in range(50)]
    run = dln.descend(problem, step=step, n_steps=50, alpha=0.4, residual_tol=None)
    assert relative(steps_of(run)[0], raw(problem, GradientFlow(), sizes, 0.4)[0]) <= 1e-13
    assert run.t == pytest.approx(math.fsum(sizes), rel=1e-14)


@pytest.mark.interpreted
def test_trajectory_is_that_of_shorter_runs():
    """Reference: runs that end where the long one is saved, bit for bit; gradient norms against raw weight gradients."""
    problem = data("noisy", 4, 9)
    saved = [0, 1, 5, 64, 65, 100]
    options = {"step": 0.05, "alpha": 0.3, "batch_size": 2, "label_noise": 0.1, "rng": 5, "residual_tol": None}
    run = dln.descend(problem, n_steps=100, save_at=saved, **options)
    assert np.array_equal(run.saved_steps, saved)
    for k, n_steps in enumerate(saved):
        short = dln.descend(problem, n_steps=n_steps, **options)
        for one in ("beta", "log_u", "log_v", "loss", "t"):
            many = {"beta": "betas", "log_u": "log_us", "log_v": "log_vs", "loss": "losses", "t": "times"}[one]
            assert np.array_equal(getattr(run, many)[k], getattr(short, one))
        assert run.gradient_norms[k] == pytest.approx(np.linalg.norm(grad(problem.X, problem.y, *steps_of(short))), rel=1e-12)
    assert run.n_steps == 100
    assert np.array_equal(run.betas[-1], run.beta)


# --- what is conserved ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("rule", [GradientFlow(), GradientRegularization(0.02, 0.1), SAM(0.02, per_sample=True)], ids=name)
def test_effective_initialisation_is_the_product_of_the_factors(rule, step):
    """Reference: S+- of Nacson et al. (2022), summed along the raw iteration: log|1 -+ 2 eta (p +- q)| +- 2 eta p."""
    problem = data("noisy", 5, 12)
    theta, total, flips = np.full((2, 12), 0.5), np.zeros((2, 12)), 0
    for _ in range(200):
        down_u, down_v = descent(rule, problem.X, problem.y, *theta)
        factors = np.array([1 - step * down_u / theta[0], 1 - step * down_v / theta[1]])
        p = (down_u / theta[0] - down_v / theta[1]) / 4
        total += np.log(np.abs(factors)) + 2 * step * np.array([p, -p])
        flips += np.count_nonzero(factors < 0)
        theta = theta * factors
    run = dln.descend(problem, rule, step=step, n_steps=200, alpha=0.5, residual_tol=None)
    plus, minus = np.log(0.5) + total
    assert run.n_sign_flips == flips
    assert flips > 0 or step < 0.3
    np.testing.assert_allclose(run.log_effective_alpha, (plus + minus) / 2, rtol=0, atol=1e-11)
    np.testing.assert_allclose(run.effective_log_ratio, plus - minus, rtol=0, atol=1e-11)
    np.testing.assert_allclose(run.center, np.exp(2 * plus) - np.exp(2 * minus), rtol=0, atol=1e-11)
    assert relative(dln.predict(run, at_time=True).beta, run.beta) <= 1e-11


def test_law_over_a_million_steps():
    """Reference: the minimiser of the Bregman divergence given X beta, which knows nothing of the steps; 1e6 noisy ones."""
    problem = data("noisy", 6, 15)
    run = dln.descend(problem, step=0.05, n_steps=1_000_000, alpha=0.3, batch_size=1, label_noise=0.2, rng=0)
    assert run.status == Status.ALL_STEPS
    assert relative(dln.predict(run, at_time=True).beta, run.beta) <= 1e-10


def test_sums_over_many_steps_keep_their_digits():
    """Reference: the same iteration in extended precision, 2e4 steps of the steepest schedule."""
    problem = data("noisy", 3, 5)
    sizes = [0.1 / (1 + k / 50) for k in range(20_000)]
    theta, total = np.full((2, 5), 0.4, dtype=np.longdouble), np.zeros(5, dtype=np.longdouble)
    X, y = problem.X.astype(np.longdouble), problem.y.astype(np.longdouble)
    for eta in sizes:
        g = X.T @ (X @ (theta[0] ** 2 - theta[1] ** 2) - y) / 6
        theta = theta * np.array([1 - 2 * eta * g, 1 + 2 * eta * g])
        total += eta * g
    run = dln.descend(problem, step=np.array(sizes), n_steps=20_000, alpha=0.4, residual_tol=None)
    np.testing.assert_allclose(run.log_effective_alpha, np.log(theta[0] * theta[1]) / 2, rtol=0, atol=1e-13)
    assert relative(problem.X.T @ run.dual, total.astype(float)) <= 1e-13


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True},
                                     {"batch_size": 1, "rng": 0}, {"batch_size": 3, "sampling": "epochs", "rng": 0}], ids=str)
@pytest.mark.parametrize("kind", ["noisy", "correlated"])
def test_converged_runs_end_at_the_predicted_minimiser(kind, options):
    """Reference: the dual Newton minimiser, subject to X b = y."""
    problem = data(kind, 8, 30)
    run = dln.descend(problem, step=0.02, n_steps=500_000, alpha=0.1, **options)
    assert run.status == Status.CONVERGED
    assert run.residual <= 1e-10
    assert relative(dln.predict(run).beta, run.beta) <= 1e-8


@pytest.mark.parametrize("n_samples", [12, 40])
def test_more_samples_than_features_end_at_least_squares(n_samples):
    """Reference: NumPy's least squares."""
    problem = data("noisy", n_samples, 5)
    for rule in (GradientFlow(), SAM(0.01)):
        run = dln.descend(problem, rule, step=0.05, n_steps=200_000, alpha=0.3)
        assert run.status == Status.CONVERGED
        assert "least squares" in run.message
        assert relative(run.beta, np.linalg.lstsq(problem.X, problem.y, rcond=None)[0]) <= 1e-9


# --- extreme scales ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_alpha", [math.log(1e-200), -1e4, -1e6])
def test_weights_never_underflow(log_alpha):
    """Reference: closed form while beta is 0: log u = log alpha + sum log(1 - 2 eta g), g constant."""
    problem = data("sparse", 4, 7)
    g = problem.gradient(np.zeros(7))
    run = dln.descend(problem, step=0.05, n_steps=1500, log_alpha=log_alpha)
    assert not run.beta.any()
    for ours, sign in ((run.log_u, -1), (run.log_v, 1)):
        np.testing.assert_allclose(ours - log_alpha, 1500 * np.log1p(sign * 0.1 * g), rtol=1e-10, atol=1e-15 * abs(log_alpha))


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_from_far_below_the_floats_to_convergence(momentum):
    """Reference: the minimiser at alpha_eff; on the way u rises by 10^200 while v falls by as much."""
    problem = data("sparse", 4, 7)
    run = dln.descend(problem, step=0.2, n_steps=200_000, alpha=1e-200, momentum=momentum)
    assert run.status == Status.CONVERGED
    assert min(run.log_u.min(), run.log_v.min()) < -800
    assert relative(dln.predict(run).beta, run.beta) <= 1e-9


@pytest.mark.parametrize("scale", [1e-100, 1e100])
def test_scaled_data_scale_the_run(scale):
    """Reference: y -> s y, alpha^2 -> s alpha^2, eta -> eta/s leaves the run as it is, up to the factor."""
    problem = data("noisy", 4, 9)
    one = dln.descend(problem, step=0.05, n_steps=100_000, alpha=0.3)
    other = dln.descend(dln.Problem(problem.X, scale * problem.y), step=0.05 / scale, n_steps=100_000,
                        alpha=0.3 * math.sqrt(scale))
    assert (one.status, one.n_steps) == (other.status, pytest.approx(other.n_steps, abs=1))
    assert relative(other.beta / scale, one.beta) <= 1e-8


# --- how runs end --------------------------------------------------------------------------------------------------------


@pytest.mark.interpreted
def test_divergence_is_a_status():
    """Reference: a step of 50 on data of size 1 is beyond any stability bound."""
    run = dln.descend(data("noisy", 4, 9), step=50.0, n_steps=10_000, alpha=0.3)
    assert (run.success, run.status) == (False, Status.DIVERGED)
    assert "smaller step" in run.message
    assert run.n_steps < 1000


@pytest.mark.interpreted
def test_a_factor_of_exactly_0_is_said():
    """Reference: decay 1 with step 1/2 on zero targets multiplies every weight by 1 - 2/2 = 0."""
    run = dln.descend(dln.Problem(np.ones((1, 2)), [0.0]), WeightDecay(1.0), step=0.5, n_steps=3, alpha=0.3,
                      residual_tol=None)
    assert not run.exact_law
    assert "exactly 0" in run.message
    with pytest.raises(ValueError, match="exactly 0"):
        dln.predict(run)


@pytest.mark.interpreted
def test_targets_that_are_met_at_the_start():
    """Reference: beta = 0 fits y = 0."""
    run = dln.descend(dln.Problem(np.ones((2, 3)), [0.0, 0.0]), step=0.1, n_steps=5, alpha=0.3)
    assert (run.status, run.n_steps, run.loss) == (Status.CONVERGED, 0, 0.0)


@pytest.mark.interpreted
def test_flooding_at_the_level_itself_does_not_move():
    """Reference: the sign of 0 is 0.  At beta = 0 the loss of y = 2 is exactly 1."""
    problem = dln.Problem(np.ones((1, 2)), [2.0])
    run = dln.descend(problem, Flooding(1.0), step=0.1, n_steps=7, alpha=0.3)
    assert not run.beta.any()
    assert (run.n_descents, run.n_ascents, run.n_alternations) == (0, 0, 0)


def test_flooding_reports_both_losses():
    """Reference: their definitions."""
    problem = data("noisy", 4, 9)
    run = dln.descend(problem, Flooding(0.1), step=0.02, n_steps=2001, alpha=0.3)
    assert run.flooded_loss == pytest.approx(abs(problem.loss(run.beta) - 0.1) + 0.1, rel=1e-14)
    assert run.alternation_fraction == run.n_alternations / 2000 > 0.5
    per_sample = dln.descend(problem, Flooding(0.1, per_sample=True), step=0.02, n_steps=2001, alpha=0.3)
    losses = (problem.X @ per_sample.beta - problem.y) ** 2 / 4
    assert per_sample.flooded_loss == pytest.approx(np.mean(np.abs(losses - 0.1) + 0.1), rel=1e-14)
    assert abs(run.loss - per_sample.loss) > 1e-3 * run.loss
    assert dln.descend(problem, step=0.02, n_steps=10, alpha=0.3).flooded_loss > 0


BAD = [
    ({"step": 0.0}, ValueError, "step must be finite and above 0, got 0"),
    ({"step": [0.1, 0.2]}, ValueError, r"n_steps = 10 numbers or a function of k, got shape \(2,\)"),
    ({"step": lambda k: 0.1 - 0.02 * k}, ValueError, "step of step 5 must be positive and finite"),
    ({"step": lambda k: "x"}, TypeError, r"step\(0\) must be a number, got 'x'"),
    ({"n_steps": -1}, ValueError, "n_steps must be an integer, at least 0, got -1"),
    ({"n_steps": 2.5}, ValueError, "n_steps must be an integer"),
    ({"momentum": 1.0}, ValueError, "momentum must be below 1"),
    ({"batch_size": 0}, ValueError, "batch_size must be a positive integer or None, got 0"),
    ({"batch_size": 5, "sampling": "distinct"}, ValueError, "5 distinct samples cannot be drawn from 4"),
    ({"sampling": "epoch"}, ValueError, "epochs"),
    ({"label_noise": -0.1}, ValueError, "label_noise must be finite and at least 0"),
    ({"residual_tol": 0.0}, ValueError, "residual_tol must be finite and above 0"),
    ({"save_at": [0, 11]}, ValueError, r"save_at\[1\] must be from 0 to n_steps = 10, got 11"),
    ({"save_at": [3, 3]}, ValueError, "save_at must increase"),
    ({"save_at": [0.5]}, ValueError, "save_at must be a vector of step numbers"),
    ({"rule": "gr"}, TypeError, "rule must be a training rule"),
    ({"alpha": None}, ValueError, "give exactly one of alpha, log_alpha and initial_weights"),
]


@pytest.mark.interpreted
@pytest.mark.parametrize(("options", "error", "words"), BAD, ids=[words[:40] for _, _, words in BAD])
def test_bad_input(options, error, words):
    """Reference: one line that says what and what to do."""
    given = {"step": 0.1, "n_steps": 10, "alpha": 0.3} | options
    with pytest.raises(error, match=words) as caught:
        dln.descend(data("noisy", 4, 9), **given)
    assert "\n" not in str(caught.value)
