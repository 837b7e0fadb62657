"""The parts of T22 against sums over all signs of the noise."""

from itertools import product

import numpy as np
import pytest

import theory
from theory import stochastic_sam
from theory._network import Network
from theory._setting import Setting, default_data


@pytest.fixture
def small():
    """A network with two features, whose noise of signs has 16 states, and weights."""
    rng = np.random.default_rng(1)
    return Network(rng.standard_normal((3, 2)), rng.standard_normal(3)), *np.exp(rng.uniform(-1, 1, (2, 2)))


def all_signs(net, u, v, size, function):
    """Average over all signs of the noise on four weights."""
    values = [function(u + size * np.array(signs[:2]), v + size * np.array(signs[2:])) for signs in product((-1, 1), repeat=4)]
    return np.mean(values, axis=0)


def noise_of(name):
    return next(noise for noise in stochastic_sam._noises() if noise.name == name)


def test_expected_velocity_is_the_mean_gradient(small):
    """Reference: the mean over all signs of the gradient at the disturbed weights."""
    net, u, v = small
    mean = all_signs(net, u, v, 0.3, lambda a, b: np.concatenate(net.gradient(a, b)))
    ours = stochastic_sam.expected_velocity(net, noise_of("signs"), lambda t: 0.3)(0.0, u, v)
    np.testing.assert_allclose(-np.concatenate(ours), mean, rtol=1e-12)


def test_expected_loss_is_the_mean_loss(small):
    """Reference: the mean over all signs; kurtosis 1, so that the term of s^4 vanishes."""
    net, u, v = small
    mean = all_signs(net, u, v, 0.3, net.loss)
    claimed = net.loss(u, v) + stochastic_sam.diagonal(net) @ (0.3**2 * (u**2 + v**2))
    assert claimed == pytest.approx(mean, rel=1e-13)


@pytest.mark.parametrize("noise", stochastic_sam._noises(), ids=lambda noise: noise.name)
def test_moments_of_the_noise(noise):
    """Reference: mean 0, variance 1, no skewness, and the kurtosis of the distribution."""
    moments = [float(noise.nodes**power @ noise.weights) for power in range(5)]
    np.testing.assert_allclose(moments, [1, 0, 1, 0, noise.kurtosis], atol=1e-14)


def test_kurtosis_changes_the_loss_but_not_the_motion(small):
    """Reference: T22; Gaussian noise and signs of one variance move the weights alike."""
    net, u, v = small
    one, other = (stochastic_sam.expected_velocity(net, noise_of(name), lambda t: 0.3)(0.0, u, v)
                  for name in ("signs", "Gaussian noise"))
    np.testing.assert_allclose(one, other, rtol=1e-12)


def test_the_decay_is_not_negligible():
    """Reference: alpha_eff/alpha = exp(-2 M_jj s^2 t), some ten per cent here: a check with no decay would show nothing."""
    setting = Setting(default_data(1)[0])
    part = next(part for part in theory.get("T22").parts(setting) if part.name == "Gaussian noise")
    assert part.measure(setting).details["mean_log_scale_change"][-1] < -0.3
