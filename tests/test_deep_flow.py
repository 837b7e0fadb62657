"""Flows of depth D > 2 against integrations in raw (u, v) coordinates, and what they conserve."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import dln
from dln import SAM, GradientFlow, GradientRegularization, WeightDecay, deep_potential

REFERENCE = [
    case
    for case in json.loads((Path(__file__).parent / "reference" / "trajectories.json").read_text())
    if case["kind"] == "flow" and case["params"].get("depth", 2) != 2
]


def relative(a, b):
    return np.linalg.norm(np.asarray(a) - b) / np.linalg.norm(b)


@pytest.mark.parametrize(("rtol", "bound"), [(1e-8, 1e-7), (1e-12, 1e-10)])
@pytest.mark.parametrize("method", ["auto", "explicit", "rosenbrock"])
@pytest.mark.parametrize("case", REFERENCE, ids=lambda case: case["name"])
def test_reference_trajectories(case, method, rtol, bound):
    """Reference: integrations in raw coordinates at rtol 1e-13 by separate code (tests/reference).  Measured: 6e-10, 3e-13."""
    run = dln.flow(dln.Problem(case["X"], case["y"]), depth=case["params"]["depth"], alpha=case["alpha"],
                   t_end=case["t_end"], rtol=rtol, method=method)
    assert run.success and run.t == case["t_end"] and run.depth == case["params"]["depth"]
    assert relative(run.beta, np.array(case["beta"])) <= bound
    np.testing.assert_allclose(np.exp(run.log_u), case["u"], rtol=bound)
    np.testing.assert_allclose(np.exp(run.log_v), case["v"], rtol=bound)
    np.testing.assert_allclose(np.exp(0.5 * (run.log_u + run.log_v)), case["alpha_eff"], rtol=bound)
    np.testing.assert_allclose(run.effective_alpha, case["alpha"], rtol=bound)


def raw_field(problem, rule, depth):
    """The rule's vector field on (u, v), from weight gradients only."""
    X, y = problem.X, problem.y
    n, d = X.shape

    def gradient(theta, X=X, y=y):
        u, v = theta[:d], theta[d:]
        g = X.T @ (X @ (u**depth - v**depth) - y) / (2 * len(y))
        return depth * np.concatenate([u ** (depth - 1) * g, -(v ** (depth - 1)) * g])

    def hessian_vector(theta, w):
        u, v = theta[:d], theta[d:]
        g = X.T @ (X @ (u**depth - v**depth) - y) / (2 * n)
        dg = X.T @ (X @ (depth * u ** (depth - 1) * w[:d] - depth * v ** (depth - 1) * w[d:])) / (2 * n)
        bend = depth * (depth - 1) * theta ** (depth - 2) * w
        slope = depth * theta ** (depth - 1)
        return np.concatenate([bend[:d] * g + slope[:d] * dg, -bend[d:] * g - slope[d:] * dg])

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
        return -(g + gamma * hessian_vector(theta, g))

    def sharpness_aware(t, theta):
        if not rule.per_sample:
            g = gradient(theta)
            rho = rule.rho / np.linalg.norm(g) if rule.normalized else rule.rho
            return -gradient(theta + rho * g)
        total = np.zeros_like(theta)
        for i in range(n):
            g = gradient(theta, X[i : i + 1], y[i : i + 1])
            rho = rule.rho / np.linalg.norm(g) if rule.normalized else rule.rho
            total -= gradient(theta + rho * g, X[i : i + 1], y[i : i + 1]) / n
        return total

    def decayed(t, theta):
        lam = np.broadcast_to(rule.strength(t) if callable(rule.strength) else rule.strength, (d,))
        return -gradient(theta) - 2 * np.tile(lam, 2) * theta

    return {GradientFlow: lambda t, theta: -gradient(theta), GradientRegularization: regularized, SAM: sharpness_aware,
            WeightDecay: decayed}[type(rule)]


def raw_weights(problem, rule, depth, u0, v0, t_end):
    ends = [0.0, *(b for b in rule.breakpoints if b < t_end), t_end]
    theta, field = np.concatenate([u0, v0]), raw_field(problem, rule, depth)
    for start, end in itertools.pairwise(ends):
        shrunk = start + 1e-12 * (end - start), end - 1e-12 * (end - start)
        with np.errstate(over="ignore", invalid="ignore"):  # a step that the solver tries and rejects may overflow
            # Inside of a piece only, since a strength may jump at its ends.
            solution = solve_ivp(lambda t, x, low=shrunk[0], high=shrunk[1]: field(min(max(t, low), high), x), (start, end),
                                 theta, method="DOP853", rtol=1e-13, atol=1e-16)
        assert solution.success
        theta = solution.y[:, -1]
    return np.split(theta, 2)


RULES = {
    "gradient flow": GradientFlow(),
    "decay": WeightDecay(0.02),
    "decay in time": WeightDecay(lambda t: 0.05 * (1.0 + np.cos(t)) * (t < 2.0), breakpoints=(2.0,)),
    "forward": GradientRegularization(0.05, 0.1),
    "backward": GradientRegularization(0.05, 0.1, "backward"),
    "centered": GradientRegularization(0.05, 0.1, "centered"),
    "exact": GradientRegularization(0.05, scheme="exact"),
    "tiny step": GradientRegularization(0.05, 1e-14),
    "norm": GradientRegularization(0.02, 0.05, squared=False),
    "sam": SAM(0.05),
    "normalized": SAM(0.02, normalized=True),
    "1-sam": SAM(0.05, per_sample=True),
    "normalized 1-sam": SAM(0.02, normalized=True, per_sample=True),
}


KINKED = ("norm", "normalized", "normalized 1-sam")


def random_case(seed, name):
    rng = np.random.default_rng(seed)
    n, d = rng.integers(1, 31, size=2)
    X, depth = rng.normal(size=(n, d)), float(rng.choice([2.3, 2.7, 3.0, 3.5, 4.0, 5.0, 6.0]))
    beta = np.where(rng.random(d) < 0.3, rng.normal(size=d), 0.0)
    problem = dln.Problem(X, X @ beta + 0.1 * rng.normal(size=n))
    # At depth 6 a scale of 1e-3 would take a time of 1e12, and one of 3 is too stiff for the explicit reference.
    lowest, highest = max(1e-3, 30.0 ** (-1.0 / (depth - 2.0))), min(3.0, 5.0 ** (1.0 / depth) * 0.7)
    log_alpha = rng.uniform(np.log(lowest), np.log(highest))
    log_ratio = 0.3 * (seed % 2) * rng.normal(size=d)
    t_end = rng.uniform(0.3, 3.0) * max(1.0, np.exp((2.0 - depth) * log_alpha) / 10.0)
    if name in KINKED:
        # Their fields jump where the gradient (of a sample) vanishes, and no solver is a reference beyond: stop before, and
        # keep the weights above the ascent step.
        log_alpha = max(log_alpha, np.log(0.2))
        weight = np.exp(log_alpha)
        growth = depth * weight ** (depth - 2) * np.abs(X.T @ problem.y).max() / (2 * n)
        contraction = depth**2 * weight ** (2 * depth - 2) * np.linalg.norm(X, 2) ** 2 / n
        t_end = 0.1 / max(growth, contraction)
    return problem, depth, log_alpha, log_ratio, t_end


@pytest.mark.parametrize("seed", range(60))
def test_random_problems_against_raw_coordinates(seed):
    """Reference: SciPy's DOP853 at rtol 1e-13 in (u, v), each rule from weight gradients.  Measured: 1e-9."""
    name = list(RULES)[seed % len(RULES)]
    problem, depth, log_alpha, log_ratio, t_end = random_case(seed, name)
    rule = RULES[name]
    log_u, log_v = deep_potential.weights(log_ratio, log_alpha=log_alpha, depth=depth)
    # The differences of the reference lose all digits at a tiny ascent step: its limit is the exact Hessian.
    reference = GradientRegularization(0.05, scheme="exact") if name == "tiny step" else rule
    u, v = raw_weights(problem, reference, depth, np.exp(log_u), np.exp(log_v), t_end)
    for method in ("auto", "rosenbrock"):
        run = dln.flow(problem, rule, depth=depth, log_alpha=log_alpha, log_ratio=log_ratio, t_end=t_end, rtol=1e-9,
                       method=method)
        assert run.success, run.message
        assert relative(run.beta, u**depth - v**depth) <= 1e-8
        np.testing.assert_allclose(run.log_u, np.log(u), rtol=0, atol=1e-8)
        np.testing.assert_allclose(run.log_v, np.log(v), rtol=0, atol=1e-8)
        assert relative(run.beta, u**depth - v**depth) <= 10 * run.error_estimate
