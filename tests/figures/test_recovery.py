"""Recovery: the transition against integration and its known values, the fractions against basis pursuit."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize_scalar

import dln
from figures import recovery


@pytest.mark.parametrize("s", [0.01, 0.1, 0.5, 0.9])
def test_the_transition_is_the_least_statistical_dimension(s):
    """Reference: the definition, with its expectation by quadrature and its minimum by Brent's search."""

    def dimension(tau):
        tail, _ = quad(lambda g: 2 * (g - tau) ** 2 * np.exp(-g * g / 2) / np.sqrt(2 * np.pi), tau, np.inf, epsabs=1e-13)
        return s * (1 + tau**2) + (1 - s) * tail

    best = minimize_scalar(dimension, bounds=(0, 6), method="bounded", options={"xatol": 1e-9})
    assert recovery.transition(s) == pytest.approx(best.fun, abs=1e-8)


def test_ends_and_published_values_of_the_transition():
    """Reference: no coordinate needs no sample, all need all; Donoho & Tanner's weak threshold, about k/N = 0.19 at N/d = 0.1
    and 0.39 at N/d = 0.5."""
    np.testing.assert_array_equal(recovery.transition(np.array([0.0, 1.0])), [0, 1])
    for delta, rho in ((0.1, 0.19), (0.5, 0.39)):
        assert recovery.transition(rho * delta) == pytest.approx(delta, rel=0.02)
    assert np.all(np.diff(recovery.transition(np.linspace(0, 1, 40))) > 0)


def test_sparsity_beyond_its_range_is_refused():
    with pytest.raises(ValueError, match=r"sparsity must be in \[0, 1\], got 1.5"):
        recovery.transition([0.5, 1.5])


def test_fractions_are_those_of_basis_pursuit():
    """Reference: the l1 minimiser, by the homotopy, on the same draws."""
    data = recovery.compute(n_features=30, n_samples=[8, 16, 26], n_nonzero=[2, 7], n_draws=5)
    for i, k in enumerate((2, 7)):
        for j, n in enumerate((8, 16, 26)):
            draws = [dln.sparse_regression(n, 30, k, rng=seed) for seed in range(5)]
            found = [np.linalg.norm(dln.basis_pursuit(draw).beta - draw.truth) < 0.01 for draw in draws]
            assert data.values[i, j] == np.mean(found)
    assert data.success.all() and data.values.min() == 0 and data.values.max() == 1
    np.testing.assert_allclose(data.xs, [8 / 30, 16 / 30, 26 / 30])


@pytest.mark.parametrize("options, message", [
    ({"n_draws": 0}, "n_draws must be at least 1, got 0"),
    ({"n_nonzero": [2, 61]}, "n_nonzero must be at most n_features = 60, got 61"),
    ({"n_samples": [5, 5]}, r"n_samples must increase, but n_samples\[1\] = 5 follows 5"),
])
def test_bad_sizes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        recovery.compute(**options)


def test_the_transition_is_drawn_where_the_axes_are_fractions():
    """Reference: `transition`."""
    data = recovery.compute(n_features=20, n_samples=[6, 14], n_nonzero=[1, 5], n_draws=1)
    (line,) = recovery.draw(data).get_lines()
    np.testing.assert_allclose(line.get_xdata(), recovery.transition(line.get_ydata()))
