"""The raw route against symbols, and its vector fields against the definitions of the rules."""

import numpy as np
import pytest
import sympy as sp
from scipy.optimize import approx_fprime

from theory import _fields as fields
from theory._minimiser import minimise_divergence
from theory._network import Network, SymbolicNetwork
from theory._raw_route import RouteError, integrate, settle

N, D = 2, 3


@pytest.fixture(scope="module")
def numbers():
    rng = np.random.default_rng(5)
    return rng.standard_normal((N, D)), rng.standard_normal(N), *rng.uniform(0.3, 1.5, (4, D))


@pytest.fixture(scope="module")
def symbolic():
    return SymbolicNetwork(N, D)


def _evaluate(symbolic, matrix, X, y, u, v):
    names = [*symbolic.X, *symbolic.y, *symbolic.u, *symbolic.v]
    return np.array(sp.lambdify(names, list(matrix), "numpy")(*X.ravel(), *y, *u, *v), dtype=float)


def test_chained_gradient_is_the_derivative_of_the_whole_loss(symbolic, numbers):
    """Reference: sympy's derivative of the loss of a network with 2 samples, 3 features and all symbols free."""
    X, y, u, v, *_ = numbers
    expected = _evaluate(symbolic, symbolic.gradient(), X, y, u, v)
    np.testing.assert_allclose(np.concatenate(Network(X, y).gradient(u, v)), expected, rtol=1e-13)


def test_chained_hessian_product_is_the_second_derivative_of_the_whole_loss(symbolic, numbers):
    X, y, u, v, du, dv = numbers
    hessian = sp.hessian(symbolic.loss, symbolic.weights)
    expected = _evaluate(symbolic, hessian, X, y, u, v).reshape(2 * D, 2 * D) @ np.concatenate([du, dv])
    np.testing.assert_allclose(np.concatenate(Network(X, y).hessian_product(u, v, du, dv)), expected, rtol=1e-12)


def test_chained_sample_gradients_are_derivatives_of_the_sample_losses(symbolic, numbers):
    X, y, u, v, *_ = numbers
    gu, gv = Network(X, y).sample_gradients(u[None], v[None])
    for i, loss in enumerate(symbolic.sample_losses):
        expected = _evaluate(symbolic, symbolic.gradient(loss), X, y, u, v)
        np.testing.assert_allclose(np.concatenate([gu[i], gv[i]]), expected, rtol=1e-13)


def test_leading_axes_are_independent_runs(numbers):
    X, y, u, v, a, b = numbers
    net = Network(X, y)
    for one, other in zip(net.gradient(np.stack([u, a]), np.stack([v, b])), net.gradient(a, b), strict=True):
        np.testing.assert_allclose(one[1], other, rtol=1e-15)
    gu, _ = net.sample_gradients(np.stack([u, a])[:, None, :], np.stack([v, b])[:, None, :])
    assert gu.shape == (2, N, D)


def _numerical_descent(function, u, v):
    slope = approx_fprime(np.concatenate([u, v]), function, 1e-7)
    return -slope[: u.size], -slope[u.size :]


@pytest.mark.parametrize(("field", "penalty"), [
    (lambda net: fields.gradient_flow(net), lambda net, u, v, size: 0.0),
    (lambda net: fields.gradient_regularization(net, 0.3, scheme="exact"),
     lambda net, u, v, size: 0.15 * size**2),
    (lambda net: fields.gradient_regularization(net, 0.3, scheme="exact", squared=False),
     lambda net, u, v, size: 0.3 * size),
    (lambda net: fields.weight_decay(net, lambda t: np.array([0.1, 0.2, t])),
     lambda net, u, v, size: np.array([0.1, 0.2, 0.7]) @ (u**2 + v**2)),
], ids=["gradient flow", "exact Hessian", "norm not squared", "weight decay"])
def test_fields_descend_what_they_should(numbers, field, penalty):
    """Reference: finite differences of the objective that the rule is defined to descend."""
    X, y, u, v, *_ = numbers
    net = Network(X, y)

    def objective(weights):
        a, b = weights[:D], weights[D:]
        return float(net.loss(a, b) + penalty(net, a, b, np.linalg.norm(net.gradient(a, b))))

    for got, expected in zip(field(net)(0.7, u, v), _numerical_descent(objective, u, v), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("scheme", "order"), [("forward", 1), ("backward", 1), ("centered", 2)])
def test_finite_differences_tend_to_the_exact_hessian(numbers, scheme, order):
    X, y, u, v, *_ = numbers
    net = Network(X, y)
    exact = np.array(fields.gradient_regularization(net, 0.3, scheme="exact")(0.0, u, v))
    errors = [np.linalg.norm(np.array(fields.gradient_regularization(net, 0.3, step, scheme)(0.0, u, v)) - exact)
              for step in (1e-3, 5e-4)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.02)


def test_sam_is_forward_regularization_with_gamma_equal_to_epsilon(numbers):
    X, y, u, v, *_ = numbers
    net = Network(X, y)
    for one, other in zip(fields.sam(net, 0.1)(0.0, u, v), fields.gradient_regularization(net, 0.1, 0.1)(0.0, u, v),
                          strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("normalized", [False, True])
def test_with_one_sample_the_batch_is_the_sample(numbers, normalized):
    X, y, u, v, *_ = numbers
    net = Network(X[:1], y[:1])
    full, single = (fields.sam(net, 0.1, normalized, per_sample)(0.0, u, v) for per_sample in (False, True))
    for one, other in zip(full, single, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13)


@pytest.mark.parametrize("field", [
    lambda net: fields.gradient_regularization(net, 0.3, 0.1, squared=False),
    lambda net: fields.gradient_regularization(net, 0.3, scheme="exact", squared=False),
    lambda net: fields.sam(net, 0.1, normalized=True),
    lambda net: fields.sam(net, 0.1, normalized=True, per_sample=True),
])
def test_rules_that_divide_by_the_gradient_rest_where_it_vanishes(field):
    net = Network(np.eye(2), np.zeros(2))
    for part in field(net)(0.0, np.ones(2), np.ones(2)):
        np.testing.assert_array_equal(part, 0.0)


def test_the_route_meets_a_closed_form_and_stops_exactly():
    """Reference: one weight pair under weight decay alone, `u = u0 exp(-2 int lam)`, lam jumping at 1."""
    net = Network(np.zeros((1, 1)), np.zeros(1))
    jump = 1.0
    run = integrate(fields.weight_decay(net, lambda t: 0.5 if t < jump else 0.1), np.full(1, 2.0), np.full(1, 3.0),
                    np.array([0.5, 1.5]), lambda t, u, v: (u,), (jump,))
    np.testing.assert_allclose(run.u[:, 0], [2 * np.exp(-0.5), 2 * np.exp(-1.1)], rtol=1e-12)
    np.testing.assert_allclose(run.log_scales[:, 0], np.log(np.sqrt(6)) - [0.5, 1.1], rtol=1e-12)
    until_jump = 2 * (1 - np.exp(-1))
    expected = [2 * (1 - np.exp(-0.5)), until_jump + 10 * np.exp(-1) * (1 - np.exp(-0.1))]
    np.testing.assert_allclose(run.integrals[0, :, 0], expected, rtol=1e-12)


def test_a_spent_budget_is_an_error_and_not_an_answer():
    net = Network(np.eye(1), np.ones(1))
    with pytest.raises(RouteError, match="spent its 50 evaluations"):
        integrate(fields.gradient_flow(net), np.full(1, 0.1), np.full(1, 0.1), np.array([100.0]), max_rhs=50)


def test_a_diverging_field_is_an_error():
    def grow(t, u, v):
        return u**3, v

    with pytest.raises(RouteError, match="failed before"):
        integrate(grow, np.ones(1), np.ones(1), np.array([2.0]))


def test_settling_finds_the_time_of_rest_or_says_that_it_did_not():
    net = Network(np.eye(2), np.array([1.0, -2.0]))
    time, at_rest = settle(fields.gradient_flow(net), net, np.ones(2), np.ones(2))
    run = integrate(fields.gradient_flow(net), np.ones(2), np.ones(2), np.array([time]))
    assert at_rest
    np.testing.assert_allclose(run.betas[0], [1.0, -2.0], rtol=1e-7)
    assert settle(fields.gradient_flow(net), net, np.ones(2), np.ones(2), max_rhs=50)[1] is False


def test_the_minimiser_meets_a_closed_form():
    """Reference: with one row of ones and equal alpha, all coordinates of the minimiser are equal."""
    minimum = minimise_divergence(np.ones((1, 4)), np.array([2.0]), np.full(4, np.log(0.3)), np.zeros(4))
    np.testing.assert_allclose(minimum.beta, 0.5, rtol=1e-13)
    assert minimum.stationarity < 1e-13
    assert minimum.infeasibility < 1e-13


def test_the_minimiser_is_stationary_from_a_centre():
    """Reference: the optimality conditions, grad phi(b) - grad phi(c) in the row space of X."""
    rng = np.random.default_rng(1)
    X, log_alpha, center = rng.standard_normal((3, 7)), rng.uniform(-2, 0, 7), rng.standard_normal(7)
    minimum = minimise_divergence(X, X @ rng.standard_normal(7), log_alpha, center)
    scale = 2 * np.exp(2 * log_alpha)
    slope = (np.arcsinh(minimum.beta / scale) - np.arcsinh(center / scale)) / 4
    np.testing.assert_allclose(X.T @ np.linalg.lstsq(X.T, slope)[0], slope, atol=1e-12)


def test_a_full_column_rank_leaves_one_feasible_point():
    X = np.vstack([np.eye(2), np.ones(2)])
    np.testing.assert_allclose(minimise_divergence(X, X @ [1.0, 2.0], np.zeros(2), np.zeros(2)).beta, [1.0, 2.0])
