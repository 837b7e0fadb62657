"""The parts of T13 and T14 against means over all batches, exact paths, and what is known of the isotropic model."""

from itertools import product

import numpy as np
import pytest

import dln
from theory import noise
from theory._network import Network
from theory._sde_route import Model, in_logarithms, in_weights, rate_of, residual_of
from theory._setting import Setting, default_data


@pytest.fixture
def small():
    rng = np.random.default_rng(1)
    return Network(rng.standard_normal((3, 5)), rng.standard_normal(3)), *np.exp(rng.uniform(-1, 0, (2, 5)))


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_second_moment_is_the_mean_over_all_batches(small, batch):
    """Reference: all batches drawn with replacement, one by one."""
    net, u, v = small
    g = net.sample_beta_gradients(u[None], v[None])
    squares = [g[list(rows)].mean(axis=0) ** 2 for rows in product(range(3), repeat=batch)]
    ours = Model(batch=batch).second_moment(net, residual_of(net, u, v))
    np.testing.assert_allclose(ours, np.mean(squares, axis=0), rtol=1e-13)


def test_label_noise_is_added_to_every_square(small):
    """Reference: two labels y +- delta, equally likely, have second moment r^2 + delta^2."""
    net, u, v = small
    squares = [net.sample_beta_gradients(u[None], v[None]) for net in (
        Network(net.X, net.y + 0.4), Network(net.X, net.y - 0.4))]
    mean = np.mean([np.mean(one**2, axis=0) for one in squares], axis=0)
    np.testing.assert_allclose(rate_of(net, Model(delta=0.4), u, v), 2 * mean, rtol=1e-13)


def test_rate_is_that_of_the_statement(small):
    """Reference: (1/2N) sum_i x_ij^2 r_i^2."""
    net, u, v = small
    r = net.X @ (u * u - v * v) - net.y
    np.testing.assert_allclose(rate_of(net, Model(), u, v), (net.X**2).T @ r**2 / 6, rtol=1e-13)


def test_without_noise_both_routes_are_eulers_method(small):
    """Reference: explicit Euler steps in the weights and in their logarithms, written out."""
    net, u, v = small
    nothing = np.zeros((1, 3))
    g = net.X.T @ (net.X @ (u * u - v * v) - net.y) / 6
    np.testing.assert_allclose(in_weights(net, Model(), 0.1, 0.01, u, v, nothing),
                               [u - 0.02 * u * g, v + 0.02 * v * g], rtol=1e-13)
    log_u, log_v, _ = in_logarithms(net, Model(), 0.0, 0.01, np.log(u), np.log(v), nothing)
    np.testing.assert_allclose([log_u, log_v], [np.log(u) - 0.02 * g, np.log(v) + 0.02 * g], rtol=1e-13)


def test_noise_in_the_row_space_leaves_one_direction_alone():
    """Reference: a direction orthogonal to the rows of X sees no noise: log(u/v) stays there, on every path."""
    rng = np.random.default_rng(2)
    X = rng.standard_normal((2, 4))
    net, still = Network(X, rng.standard_normal(2)), np.linalg.svd(X)[2][3]
    start = np.log(0.3) + np.zeros(4)
    log_u, log_v, _ = in_logarithms(net, Model(), 0.1, 0.05, start, start, rng.standard_normal((50, 2)))
    assert abs(still @ (log_u - log_v)) < 1e-13
    assert np.max(np.abs(log_u - log_v)) > 0.01


def test_isotropic_model_is_off_by_much_and_stays_so():
    """Reference: SGD itself, 1000 seeds: single coordinates of the isotropic model are off by tens of per cent."""
    setting = Setting(default_data(1)[0])
    net, data = setting.net, setting.data
    end = 3 * noise.unit_of_time(setting)
    n_steps = 400
    runs = dln.ensemble(dln.descend, dln.Problem(data.X, data.y), n_runs=1000, step=end / n_steps, n_steps=n_steps,
                        alpha=setting.alpha, log_ratio=setting.log_ratio, batch_size=1, residual_tol=None)
    change = -(runs.mean("log_effective_alphas") - np.log(setting.alpha)) * n_steps / end
    flow = {model: noise.integrate(noise.gradient_flow(net), *setting.weights(), np.array([end]),
                                   lambda t, u, v, model=model: (rate_of(net, model, u, v),)).integrals[0, 0]
            for model in (Model(), Model(isotropic=True))}
    right, isotropic = (np.abs(change / flow[model] - 1) for model in flow)
    assert right.max() < 0.05
    assert isotropic.max() > 0.2
