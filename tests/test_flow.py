"""Flows against separate integrations in raw (u, v) coordinates, and against minimisers."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from weight_space import name

import dln
from dln import SAM, GradientFlow, GradientRegularization, Status, WeightDecay

REFERENCE = [
    case
    for case in json.loads((Path(__file__).parent / "reference" / "trajectories.json").read_text())
    if case["kind"] == "flow" and case["params"].get("depth", 2) == 2
]


def relative(a, b):
    return np.linalg.norm(np.asarray(a) - b) / np.linalg.norm(b)


def reference_rule(case):
    p = case["params"]
    match case["rule"]:
        case "gradient_flow":
            return GradientFlow()
        case "gr":
            return GradientRegularization(p["gamma"], p.get("epsilon"), p["scheme"])
        case "sam":
            return SAM(p["rho"], normalized=p.get("normalized", False))
        case "one_sam":
            return SAM(p["rho"], per_sample=True)
        case "weight_decay":
            return WeightDecay(lambda t: p["decay"] if t < p["until"] else 0.0, breakpoints=(p["until"],))


@pytest.mark.parametrize(("rtol", "bound"), [(1e-8, 1e-7), (1e-12, 1e-10)])
@pytest.mark.parametrize("method", ["auto", "explicit", "rosenbrock"])
@pytest.mark.parametrize("case", REFERENCE, ids=lambda case: case["name"])
def test_reference_trajectories(case, method, rtol, bound):
    """Reference: integrations in raw coordinates at rtol 1e-13 by separate code (tests/reference)."""
    problem = dln.Problem(case["X"], case["y"])
    run = dln.flow(problem, reference_rule(case), alpha=case["alpha"], t_end=case["t_end"], rtol=rtol, method=method)
    assert run.success
    assert run.t == case["t_end"]
    assert relative(run.beta, np.array(case["beta"])) <= bound
    np.testing.assert_allclose(run.effective_alpha, case["alpha_eff"], rtol=bound)


def raw_field(problem, rule):
    """The rule's vector field on (u, v), from weight gradients only."""
    X, y = problem.X, problem.y
    n, d = X.shape

    def gradient(theta):
        u, v = theta[:d], theta[d:]
        g = X.T @ (X @ (u * u - v * v) - y) / (2 * n)
        return np.concatenate([2 * u * g, -2 * v * g])

    def hessian_vector(theta, w):
        u, v = theta[:d], theta[d:]
        g = X.T @ (X @ (u * u - v * v) - y) / (2 * n)
        dg = X.T @ (X @ (2 * u * w[:d] - 2 * v * w[d:])) / (2 * n)
        return np.concatenate([2 * w[:d] * g + 2 * u * dg, -2 * w[d:] * g - 2 * v * dg])

    def sample_gradients(u, v):  # u, v may differ from sample to sample: (N, d)
        half = 0.5 * (np.sum(X * (u * u - v * v), axis=1) - y)[:, None] * X
        return 2 * u * half, -2 * v * half

    def regularized(t, theta):
        g = gradient(theta)
        gamma, e = rule.gamma, rule.epsilon
        if not rule.squared:
            gamma = gamma / np.linalg.norm(g)
        match rule.scheme:
            case "forward":
                return -(g + gamma / e * (gradient(theta + e * g) - g))
            case "backward":
                return -(g + gamma / e * (g - gradient(theta - e * g)))
            case "centered":
                return -(g + gamma / (2 * e) * (gradient(theta + e * g) - gradient(theta - e * g)))
            case "exact":
                return -(g + gamma * hessian_vector(theta, g))

    def sharpness_aware(t, theta):
        if not rule.per_sample:
            g = gradient(theta)
            return -gradient(theta + (rule.rho / np.linalg.norm(g) if rule.normalized else rule.rho) * g)
        u, v = np.tile(theta[:d], (n, 1)), np.tile(theta[d:], (n, 1))
        gu, gv = sample_gradients(u, v)
        gu, gv = sample_gradients(u + rule.rho * gu, v + rule.rho * gv)
        return -np.concatenate([gu.mean(axis=0), gv.mean(axis=0)])

    if isinstance(rule, GradientRegularization):
        return regularized
    if isinstance(rule, SAM):
        return sharpness_aware
    if isinstance(rule, WeightDecay):
        return lambda t, theta: -gradient(theta) - 2 * np.tile(rule.parameters(d, t), 2) * theta
    return lambda t, theta: -gradient(theta)


def random_run(seed, **options):
    """A seeded problem, rule and scale; returns (run, beta, log alpha_eff) with the last two from SciPy in raw coordinates."""
    rng = np.random.default_rng(seed)
    n, d = (int(k) for k in rng.integers(1, 61, size=2))
    X = rng.normal(size=(n, d))
    if seed % 3 == 1:
        X += rng.normal()
    if seed % 3 == 2:
        X = X @ np.linalg.cholesky(0.8 ** np.abs(np.subtract.outer(np.arange(d), np.arange(d)))).T
    X /= np.sqrt(np.mean(X**2))
    truth = np.where(rng.random(d) < 0.2, rng.normal(size=d), 0.0)
    problem = dln.Problem(X, X @ truth + 0.1 * rng.normal(size=n))
    gamma, epsilon = rng.uniform(0.005, 0.05), rng.uniform(0.02, 0.3)
    log_alpha = rng.uniform(np.log(1e-8), np.log(10.0))
    rules = [
        GradientFlow(),
        *(GradientRegularization(gamma, epsilon, scheme) for scheme in ("forward", "backward", "centered")),
        GradientRegularization(gamma, scheme="exact"),
        GradientRegularization(gamma, epsilon, squared=False),
        SAM(epsilon / 3),
        SAM(epsilon / 3, normalized=True),
        SAM(epsilon / 10, per_sample=True),
        WeightDecay(gamma),
        WeightDecay(rng.uniform(0.0, 0.05, d)),
        WeightDecay(lambda t: 0.05 * np.exp(-t)),
    ]
    rule = rules[seed % len(rules)]
    log_ratio = rng.normal(size=d) if seed % 5 == 0 else np.zeros(d)
    # A normalised gradient is not smooth at an interpolator: stay well away from it.
    rough = getattr(rule, "normalized", False) or not getattr(rule, "squared", True)
    probe = dln.flow(problem, rule, log_alpha=log_alpha, log_ratio=log_ratio, rtol=1e-4, max_steps=2000,
                     residual_tol=0.3 if rough else 1e-2)
    t_end = 2.0 * min(0.8 * probe.t, 10.0) if probe.t > 0.0 else 2.0
    shrunk = np.inf
    while shrunk > 5.0:  # raw coordinates cannot follow weights that shrink by hundreds of decades
        t_end *= 0.5
        run = dln.flow(problem, rule, log_alpha=log_alpha, log_ratio=log_ratio, t_end=t_end, **options)
        shrunk = np.max(np.abs(run.log_effective_alpha - log_alpha))
    start = np.exp(log_alpha + 0.5 * np.concatenate([log_ratio, -log_ratio]))
    # An absolute tolerance would lose the product u v: it shrinks by hundreds of decades while u grows.
    with np.errstate(over="ignore", invalid="ignore"):  # its trial steps
        raw = solve_ivp(raw_field(problem, rule), (0.0, t_end), start, method="DOP853", rtol=1e-13, atol=1e-280)
    assert raw.success and np.isfinite(raw.y).all()
    u, v = raw.y[:d, -1], raw.y[d:, -1]
    return run, (u - v) * (u + v), 0.5 * (np.log(u) + np.log(v))


@pytest.mark.parametrize("seed", range(100))
def test_random_problems_agree_with_raw_coordinates(seed):
    """Reference: SciPy's DOP853 in raw (u, v), from finite differences of weight gradients; N, d in 1..60, alpha 1e-8..10."""
    run, beta, log_alpha = random_run(seed)
    assert run.success
    error = max(relative(run.beta, beta), np.max(np.abs(run.log_effective_alpha - log_alpha)))
    assert error <= 1e-7
    assert error <= max(3.0 * run.error_estimate, 1e-10), "the error estimate is too small"


@pytest.mark.parametrize("seed", range(100, 124))
def test_stiff_method_alone_agrees_with_raw_coordinates(seed):
    """Reference: SciPy's DOP853 in raw (u, v), for the Rosenbrock methods where the default would not choose them."""
    run, beta, log_alpha = random_run(seed, method="rosenbrock")
    assert run.success
    error = max(relative(run.beta, beta), np.max(np.abs(run.log_effective_alpha - log_alpha)))
    assert error <= 30 * run.rtol
    assert error <= max(3.0 * run.error_estimate, 1e-10), "the error estimate is too small"


@pytest.mark.parametrize("seed", range(0, 24))
def test_tight_tolerance_agrees_with_raw_coordinates(seed):
    """Reference: SciPy's DOP853 in raw (u, v)."""
    run, beta, log_alpha = random_run(seed, rtol=1e-12)
    assert relative(run.beta, beta) <= 1e-10
    np.testing.assert_allclose(run.log_effective_alpha, log_alpha, rtol=0, atol=1e-10)


@pytest.mark.interpreted
@pytest.mark.parametrize("method", ["explicit", "rosenbrock"])
@pytest.mark.parametrize(
    "rule",
    [
        GradientFlow(),
        GradientRegularization(0.05, 0.2),
        GradientRegularization(0.05, 0.2, "backward"),
        GradientRegularization(0.05, 0.2, "centered"),
        GradientRegularization(0.05, scheme="exact", squared=False),
        SAM(0.1),
        SAM(0.1, normalized=True),
        SAM(0.05, per_sample=True),
        WeightDecay(lambda t: 0.1 * (t < 0.5), breakpoints=(0.5,)),
    ],
    ids=name,
)
def test_small_flow_agrees_with_raw_coordinates(rule, method):
    """Reference: SciPy's DOP853 in raw (u, v), stopped at the jump of the decay; also run with kernels as plain Python."""
    rng = np.random.default_rng(3)
    problem = dln.Problem(rng.normal(size=(3, 4)), rng.normal(size=3))
    run = dln.flow(problem, rule, alpha=0.3, t_end=1.0, rtol=1e-7, method=method)
    state = np.full(8, 0.3)
    for span in ((0.0, 0.5), (0.5, 1.0)):
        state = solve_ivp(raw_field(problem, rule), span, state, method="DOP853", rtol=1e-11, atol=1e-14,
                          max_step=0.1).y[:, -1]
    assert relative(run.beta, state[:4] ** 2 - state[4:] ** 2) <= 1e-6
    assert run.error_estimate <= 1e-4


def test_limit_is_the_predicted_minimiser(degenerate):
    """Reference: the dual Newton minimiser (T1), on every kind of degenerate data and scale."""
    _, X, y = degenerate
    problem = dln.Problem(X, y)
    size = float(np.max(np.abs(dln.minimum_norm(problem).beta), initial=0.0)) or 1.0
    run = dln.flow(problem, alpha=np.sqrt(0.1 * size))
    assert run.success and run.status == Status.CONVERGED
    predicted = dln.predict(run)
    assert predicted.success
    assert np.linalg.norm(run.beta - predicted.beta) <= 1e-6 * max(np.linalg.norm(predicted.beta), 1e-300)
    assert ("not an interpolator" in run.message) == (not problem.interpolates)
    zero = ~np.any(problem.X, axis=0)
    np.testing.assert_array_equal(run.log_u[zero], run.log_alpha[zero])
    np.testing.assert_array_equal(run.beta[zero], 0.0)


@pytest.mark.parametrize("log_alpha", [np.log(1e-300), -1e4, -1e6])
@pytest.mark.parametrize("rule", [None, GradientRegularization(0.02, 0.1), SAM(0.05), SAM(0.02, per_sample=True)], ids=repr)
def test_rich_limit_is_reached_at_scales_that_no_float_holds(rule, log_alpha):
    """Reference: the l1 minimiser by linear programming, which sparse data have as their rich limit."""
    problem = dln.sparse_regression(20, 40, 3, rng=0)
    run = dln.flow(problem, rule, log_alpha=log_alpha)
    assert run.status == Status.CONVERGED
    assert run.success
    assert relative(run.beta, dln.basis_pursuit(problem).beta) <= 1e-4
    assert relative(dln.predict(run).beta, run.beta) <= 1e-5


@pytest.mark.parametrize("alpha", [1e3, 1e10, 1e100])
def test_kernel_limit_is_reached_with_all_digits(alpha):
    """Reference: the least-norm interpolator by QR; beta = u^2 - v^2 would have no digit left from alpha = 1e8 on."""
    problem = dln.sparse_regression(20, 50, 5, noise=0.1, rng=0)
    run = dln.flow(problem, GradientRegularization(0.02 / alpha**2, 0.1 / alpha), alpha=alpha)
    assert run.success
    assert relative(run.beta, dln.minimum_norm(problem).beta) <= 1e-9


@pytest.mark.parametrize("alpha", [0.25, 0.6, 1.5, 5.0])
def test_loose_steps_are_tightened_where_no_error_is_forgotten(alpha):
    """Steps of 0.1 once gave 1e-4 to 1e-1 here, and 1e-7 in the rich regime; reference: order 8 at 1e-12."""
    for seed in range(3):
        problem = dln.sparse_regression(20, 100, 5, rng=seed)
        end = dln.flow(problem, alpha=alpha, residual_tol=1e-6).t
        exact = dln.flow(problem, alpha=alpha, t_end=end, rtol=1e-12, method="explicit")
        loose = dln.flow(problem, alpha=alpha, t_end=end, rtol=0.1, method="rosenbrock")
        assert relative(loose.beta, exact.beta) < 3e-6
        assert loose.n_steps < 30


@pytest.mark.parametrize("c", [1e-12, 1e12])
def test_scaling_the_data_rescales_the_answer_and_nothing_else(c):
    """Reference: the scaling laws of the flow: y -> c y with alpha -> sqrt(c) alpha gives beta -> c beta, t -> t/c."""
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(8, 20)), rng.normal(size=8)
    run = dln.flow(dln.Problem(X, y), GradientRegularization(0.02, 0.1), alpha=0.01)
    scaled = dln.flow(dln.Problem(X, c * y), GradientRegularization(0.02 / c, 0.1 / c), alpha=0.01 * np.sqrt(c))
    assert scaled.n_steps == pytest.approx(run.n_steps, abs=2)
    np.testing.assert_allclose(scaled.beta, c * run.beta, rtol=1e-6)
    scaled = dln.flow(dln.Problem(c * X, y), GradientRegularization(0.02 / c, 0.1 / c), alpha=0.01 / np.sqrt(c))
    assert scaled.n_steps == pytest.approx(run.n_steps, abs=2)
    np.testing.assert_allclose(scaled.beta, run.beta / c, rtol=1e-6)


def test_every_form_of_input_gives_the_same_bits():
    """Reference: the run on contiguous float64."""
    rng = np.random.default_rng(2)
    X, y = rng.integers(-3, 4, size=(6, 10)), rng.integers(-3, 4, size=6)
    expected = dln.flow(dln.Problem(X.astype(float), y.astype(float)), alpha=0.1)
    wide = np.zeros((12, 20))
    wide[::2, ::2] = X
    frozen = X.astype(float)
    frozen.flags.writeable = False
    for form in (X, X.tolist(), X.astype(np.float32), np.asfortranarray(X.astype(float)), wide[::2, ::2], frozen):
        run = dln.flow(dln.Problem(form, y), alpha=0.1)
        np.testing.assert_array_equal(run.beta, expected.beta)
        assert run.n_steps == expected.n_steps


def test_saved_times_are_exact_stops():
    """Reference: separate runs to each time."""
    problem = dln.datasets.diabetes(20)
    rule = GradientRegularization(0.02, 0.1)
    times = [0.0, 0.3, 1.0, 7.5]
    run = dln.flow(problem, rule, alpha=0.05, t_end=10.0, save_at=times, rtol=1e-10)
    np.testing.assert_array_equal(run.times, times)
    assert run.betas.shape == (4, problem.n_features)
    np.testing.assert_array_equal(run.betas[0], 0.0)
    for k, t in enumerate(times[1:], start=1):
        single = dln.flow(problem, rule, alpha=0.05, t_end=t, rtol=1e-10)
        np.testing.assert_allclose(run.betas[k], single.beta, rtol=1e-7, atol=1e-12)
        assert run.losses[k] == pytest.approx(problem.loss(single.beta), rel=1e-8)
        np.testing.assert_allclose(run.log_us[k] + run.log_vs[k], 2 * single.log_effective_alpha, rtol=1e-9)


def test_run_until_converged_passes_every_saved_time():
    """Reference: the definition of save_at."""
    run = dln.flow(dln.Problem([[1.0, 2.0]], [1.0]), alpha=0.5, save_at=[1.0, 200.0])
    assert run.status == Status.CONVERGED
    assert run.t >= 200.0
    assert run.times.tolist() == [1.0, 200.0]


def test_dual_and_weights_are_consistent():
    """Reference: log(u/v) = log(u0/v0) - 4 X^T dual and log(uv) = 2 log alpha - 4 int q, for reduced rows too."""
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(12, 5)), rng.normal(size=12)
    run = dln.flow(dln.Problem(X, y), GradientRegularization(0.02, 0.1), alpha=0.1, log_ratio=0.3)
    np.testing.assert_allclose(run.log_u - run.log_v, 0.3 - 4 * X.T @ run.dual, atol=1e-12)
    np.testing.assert_allclose(run.log_u + run.log_v, 2 * np.log(0.1) - 4 * run.shrinkage, atol=1e-12)
    np.testing.assert_allclose(run.beta, np.exp(2 * run.log_u) - np.exp(2 * run.log_v), rtol=1e-11)
    np.testing.assert_allclose(run.center, 2 * run.effective_alpha**2 * np.sinh(0.3), rtol=1e-12)


@pytest.mark.parametrize("log_ratio", [None, 0.7])
def test_initial_weights_are_the_same_as_scale_and_shape(log_ratio):
    """Reference: u0 = alpha exp(log_ratio/2), v0 = alpha exp(-log_ratio/2)."""
    problem = dln.sparse_regression(5, 8, 2, rng=0)
    shape = 0.0 if log_ratio is None else log_ratio
    one = dln.flow(problem, alpha=0.1, log_ratio=log_ratio)
    two = dln.flow(problem, initial_weights=(0.1 * np.exp(shape / 2), 0.1 * np.exp(-shape / 2)))
    np.testing.assert_allclose(one.beta, two.beta, rtol=1e-9)


@pytest.mark.parametrize("rtol", [0.1, 0.03, 1e-2, 1e-3])
@pytest.mark.parametrize("alpha", [0.3, 0.05, 1e-3, 1e-6])
def test_small_losses_are_right_however_loose_the_tolerance(alpha, rtol):
    """Reference: the same flow at rtol 1e-10, whose steps are short; the loss at times when it is small.

    Errors in the logarithms of the weights are far below rtol there; steps as long as those allow would miss how fast the
    residual falls, by a factor of ten in the loss.
    """
    problem = dln.sparse_regression(20, 100, 5, rng=3)
    end = dln.flow(problem, alpha=alpha, residual_tol=1e-6).t
    fine = dln.flow(problem, alpha=alpha, t_end=end, save_at=np.geomspace(0.01, 1.0, 60) * end, rtol=1e-10)
    falling = fine.losses / problem.loss(np.zeros(100))
    chosen = np.flatnonzero((falling < 1e-2) & (falling > 1e-13))[::3]
    assert chosen.size >= 3
    for k in chosen:
        run = dln.flow(problem, alpha=alpha, t_end=fine.times[k], rtol=rtol, method="rosenbrock")
        assert abs(math.log(run.loss / fine.losses[k])) < 0.5, (fine.times[k], run.loss, fine.losses[k])


@pytest.mark.parametrize("y", ["data", "zeros"])
def test_a_loss_of_nothing_but_rounding_does_not_stop_a_run(y):
    """Reference: steps grow with the time once the residual is rounding, so that their number is its logarithm."""
    problem = dln.sparse_regression(20, 100, 5, rng=3)
    problem = problem if y == "data" else dln.Problem(problem.X, np.zeros(20))
    run = dln.flow(problem, log_alpha=-1.0, log_ratio=0.5, t_end=1e6, rtol=0.1, method="rosenbrock")
    assert run.success and run.n_steps < 60 and run.residual < 1e-13


@pytest.mark.parametrize(("rule", "rtol"), [(GradientFlow(), 0.1), (GradientRegularization(0.02, 0.1), 1e-3)])
@pytest.mark.parametrize("alpha", [1e-3, 1e-6, 1e-8])
def test_one_step_leads_to_where_weights_begin_to_count(alpha, rule, rtol):
    """Reference: while beta is nearly 0 all rates are constant, and any stiff step is exact: one of them suffices."""
    problem = dln.sparse_regression(20, 100, 5, rng=1)
    run = dln.flow(problem, rule, alpha=alpha, t_end=-0.7 * math.log(alpha), rtol=rtol, method="rosenbrock")
    assert run.residual > 0.99 and run.n_steps == 1 and run.n_rejected == 0
    fine = dln.flow(problem, rule, alpha=alpha, t_end=run.t, rtol=1e-10)
    np.testing.assert_allclose(run.log_u, fine.log_u, rtol=0.0, atol=rtol)
