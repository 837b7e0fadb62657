"""The conversion tables of docs/conventions.md, each row against SciPy in the other convention's own weights."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import dln

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "conventions.md").read_text(encoding="utf-8")
N, D = 4, 6
ALPHA = 0.4

#: In the other convention the loss is `coefficient` |X beta - y|^2.
LOSSES = {"1/2": 1 / 2, "1/(2N)": 1 / (2 * N), "1/(4N)": 1 / (4 * N), "1/N": 1 / N, "1": 1.0}
NETWORKS = {"u*u - v*v": 1.0, "u*v": 0.5}


def factor(network, loss):
    """Give s = kappa tau, by which times and ascent steps are multiplied on the way to this toolkit."""
    return 4 * N * LOSSES[loss] * NETWORKS[network]


@pytest.fixture
def problem():
    rng = np.random.default_rng(5)
    return dln.Problem(rng.standard_normal((N, D)), rng.standard_normal(N))


class Other:
    """A network and a loss in another convention, with its gradient in its own weights."""

    def __init__(self, problem, network, loss):
        self.X, self.y, self.network, self.coefficient = problem.X, problem.y, network, LOSSES[loss]

    def start(self):
        """Weights with u0 = v0 = ALPHA after conversion: (a, b) = (2 ALPHA, 0) for the product."""
        first, second = (ALPHA, ALPHA) if self.network == "u*u - v*v" else (2 * ALPHA, 0.0)
        return np.concatenate([np.full(D, first), np.full(D, second)])

    def beta(self, w):
        a, b = w[:D], w[D:]
        return a * a - b * b if self.network == "u*u - v*v" else a * b

    def scale(self, w):
        """Effective initialisation, squared: u v, or (a^2 - b^2)/4."""
        a, b = w[:D], w[D:]
        return a * b if self.network == "u*u - v*v" else (a * a - b * b) / 4

    def gradient(self, w, rows=slice(None)):
        a, b = w[:D], w[D:]
        residual = self.X[rows] @ self.beta(w) - self.y[rows]
        g = 2 * self.coefficient * (residual @ self.X[rows])
        return np.concatenate([2 * a * g, -2 * b * g] if self.network == "u*u - v*v" else [b * g, a * g])

    def run(self, velocity, t_end):
        solution = solve_ivp(lambda t, w: velocity(w), (0, t_end), self.start(), method="DOP853", rtol=1e-12, atol=1e-14)
        assert solution.success
        return solution.y[:, -1]


def rules(other, s, tau):
    """Give, by name, (the velocity in the other convention, the rule here after conversion)."""
    gradient = other.gradient
    gamma, epsilon, rho, decay = 0.03 / s, 0.2 / s, 0.2 / s, 0.05 * s
    short = 0.02

    def forward(w):
        g = gradient(w)
        return -g - gamma / epsilon * (gradient(w + epsilon * g) - g)

    def unsquared(w):
        g = gradient(w)
        return -g - short / np.linalg.norm(g) / epsilon * (gradient(w + epsilon * g) - g)

    def normalized_sam(w):
        g = gradient(w)
        return -gradient(w + short * g / np.linalg.norm(g))

    def per_sample(w):
        # A loss is the mean of N terms, one per sample: the ascent is along a whole term, not its share in the mean.
        total = np.zeros_like(w)
        for i in range(N):
            total += gradient(w + rho * N * gradient(w, [i]), [i])
        return -total

    root = np.sqrt(tau)
    return {
        "gradient flow": (lambda w: -gradient(w), dln.GradientFlow()),
        "(gamma/2) |grad|^2": (forward, dln.GradientRegularization(s * gamma, s * epsilon)),
        "gamma |grad|": (unsquared, dln.GradientRegularization(root * short, s * epsilon, squared=False)),
        "SAM": (lambda w: -gradient(w + rho * gradient(w)), dln.SAM(s * rho)),
        "normalised SAM": (normalized_sam, dln.SAM(root * short, normalized=True)),
        "1-SAM": (per_sample, dln.SAM(s * rho, per_sample=True)),
        "decay": (lambda w: -gradient(w) - 2 * decay * w, dln.WeightDecay(decay / s)),
    }


RULES = ("gradient flow", "(gamma/2) |grad|^2", "gamma |grad|", "SAM", "normalised SAM", "1-SAM", "decay")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_run_in_another_convention_is_the_converted_run(problem, network, loss, rule):
    other, s = Other(problem, network, loss), factor(network, loss)
    velocity, here = rules(other, s, NETWORKS[network])[rule]
    t_end = 3.0  # here
    w = other.run(velocity, t_end / s)
    run = dln.flow(problem, here, alpha=ALPHA, t_end=t_end, rtol=1e-11)
    assert run.success
    assert np.linalg.norm(run.beta - other.beta(w)) <= 1e-9 * np.linalg.norm(run.beta)
    np.testing.assert_allclose(run.effective_alpha**2, other.scale(w), rtol=1e-9)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("loss", LOSSES)
def test_step_of_gradient_descent(problem, network, loss):
    other, here = Other(problem, network, loss), Other(problem, "u*u - v*v", "1/(4N)")
    step = 0.05
    w, mine = other.start(), here.start()
    for _ in range(5):
        w = w - step * other.gradient(w)
        mine = mine - factor(network, loss) * step * here.gradient(mine)
    np.testing.assert_allclose(other.beta(w), here.beta(mine), rtol=1e-13)


def test_product_weights_at_general_position():
    """w = (a + b)/2, (a - b)/2 turns a*b into w+^2 - w-^2 with w+ w- = (a^2 - b^2)/4."""
    a, b = np.random.default_rng(1).standard_normal((2, 50))
    plus, minus = (a + b) / 2, (a - b) / 2
    np.testing.assert_allclose(plus**2 - minus**2, a * b, rtol=0, atol=1e-14)
    np.testing.assert_allclose(plus * minus, (a**2 - b**2) / 4, rtol=0, atol=1e-14)


def test_potential_of_the_product_network():
    """For a(0) = sqrt(2) s, b(0) = 0: twice the potential here at alpha = s/sqrt(2), up to the same factor everywhere."""
    s, beta = 0.3, np.linspace(-3, 3, 13)
    theirs = 0.5 * (beta * np.arcsinh(beta / s**2) - np.sqrt(beta**2 + s**4) + s**2)
    ours = dln.potential.terms(beta, log_alpha=np.full(13, np.log(s / np.sqrt(2))))
    np.testing.assert_allclose(2 * ours, theirs, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("penalty", "gamma"), [("gamma |grad|^2", 2.0), ("(gamma/4) |grad|^2", 0.5)])
def test_strength_of_the_squared_penalty(problem, penalty, gamma):
    """The exact rule is the gradient of L + (gamma/2) |grad L|^2, by central differences of the loss alone."""
    weight = {"gamma |grad|^2": 1.0, "(gamma/4) |grad|^2": 0.25}[penalty]
    here, theirs = Other(problem, "u*u - v*v", "1/(4N)"), 0.05

    def velocity(w):
        g = here.gradient(w)
        h = 1e-5 / np.linalg.norm(g)
        return -g - weight * theirs * (here.gradient(w + h * g) - here.gradient(w - h * g)) / h  # grad |g|^2 = 2 Hess g

    solution = solve_ivp(lambda t, w: velocity(w), (0, 3), here.start(), method="DOP853", rtol=1e-9, atol=1e-12)
    run = dln.flow(problem, dln.GradientRegularization(gamma * theirs, scheme="exact"), alpha=ALPHA, t_end=3, rtol=1e-10)
    np.testing.assert_allclose(run.beta, here.beta(solution.y[:, -1]), atol=1e-7)


@pytest.mark.parametrize(("their_rule", "factor_here"), [("(lam/2) |theta|^2", 0.5), ("lam |theta|^2", 1.0),
                                                        ("theta' = -grad - lam theta", 0.5)])
def test_strength_of_weight_decay(problem, their_rule, factor_here):
    here, theirs = Other(problem, "u*u - v*v", "1/(4N)"), 0.1
    pull = {"(lam/2) |theta|^2": 1.0, "lam |theta|^2": 2.0, "theta' = -grad - lam theta": 1.0}[their_rule]
    w = here.run(lambda w: -here.gradient(w) - pull * theirs * w, 3.0)
    run = dln.flow(problem, dln.WeightDecay(factor_here * theirs), alpha=ALPHA, t_end=3.0, rtol=1e-11)
    np.testing.assert_allclose(run.beta, here.beta(w), rtol=1e-9, atol=1e-11)


def test_who_divides_rho_by_n(problem):
    """Ascent along the sample's share L_i/N of the loss, with radius rho', is `per_sample` with rho = rho'/N."""
    here, theirs = Other(problem, "u*u - v*v", "1/(4N)"), 0.6

    def velocity(w):  # `gradient(w, [i])` is that of L_i/N
        return -sum(here.gradient(w + theirs * here.gradient(w, [i]), [i]) for i in range(N))

    w = here.run(velocity, 3.0)
    run = dln.flow(problem, dln.SAM(theirs / N, per_sample=True), alpha=ALPHA, t_end=3.0, rtol=1e-11)
    np.testing.assert_allclose(run.beta, here.beta(w), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("per_sample", [False, True])
def test_first_order_laws_written_with_residuals(problem, per_sample):
    """log(alpha_eff/alpha) = -(rho/N^2) int (X^T r)^2, one sample at a time -(rho/N) int sum_i x_i^2 r_i^2, to O(rho)."""
    here = Other(problem, "u*u - v*v", "1/(4N)")

    def velocity(t, z):
        w = z[:2 * D]
        r = here.X @ here.beta(w) - here.y
        rate = (here.X**2).T @ r**2 / N if per_sample else (here.X.T @ r) ** 2 / N**2
        return np.concatenate([-here.gradient(w), rate])

    start = np.concatenate([here.start(), np.zeros(D)])
    integral = solve_ivp(velocity, (0, 3), start, method="DOP853", rtol=1e-12, atol=1e-14).y[2 * D:, -1]
    gaps = []
    for rho in (1e-2, 1e-3, 1e-4):
        run = dln.flow(problem, dln.SAM(rho, per_sample=per_sample), alpha=ALPHA, t_end=3.0, rtol=1e-12)
        gaps.append(np.abs((run.log_effective_alpha - np.log(ALPHA)) / (-rho * integral) - 1).max())
    assert gaps[0] < 0.2
    for larger, smaller in itertools.pairwise(gaps):
        assert 8 < larger / smaller < 12.5  # first order


def test_symbols_of_the_page(problem):
    """alpha_eff^2 = u v, center = 2 alpha_eff^2 sinh(log(u0/v0)), loss and gradient as the page states them."""
    beta = np.arange(D) / 3.0
    r = problem.X @ beta - problem.y
    np.testing.assert_allclose(problem.loss(beta), r @ r / (4 * N), rtol=1e-14)
    np.testing.assert_allclose(problem.gradient(beta), problem.X.T @ r / (2 * N), rtol=1e-13)
    run = dln.flow(problem, dln.WeightDecay(0.1), alpha=ALPHA, log_ratio=0.5, t_end=2.0)
    np.testing.assert_allclose(np.exp(2 * run.log_u) - np.exp(2 * run.log_v), run.beta, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(np.exp(run.log_u + run.log_v), run.effective_alpha**2, rtol=1e-12)
    np.testing.assert_allclose(run.center, 2 * run.effective_alpha**2 * np.sinh(0.5), rtol=1e-12)


def test_the_factors_in_the_page_are_the_ones_tested():
    """Rows `| beta | loss | factor |`, as fractions of N."""
    rows = re.findall(r"^\| `beta = (.+?)` \| `(.+?) \|r\|\^2` \| `(.+?)` \|$", PAGE.replace(r"\|", "|"), re.M)
    assert {(network, loss) for network, loss, _ in rows} == {(n, c) for n in NETWORKS for c in LOSSES}
    for network, loss, text in rows:
        value = float(text.removesuffix("N") or 1) * (N if text.endswith("N") else 1)
        assert value == pytest.approx(factor(network, loss))
