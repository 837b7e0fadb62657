"""What Q gains on the last way to a stop (`gain.py`), against the same integral in closed form."""

import numpy as np
import pytest

import dln
from dln._gram import gram_room
from dln._inverse_factor import FACTOR_ROOM, inverse_shape
from dln._jit import address
from dln._large import NONE
from dln.integrate import gain
from dln.integrate import state as st
from dln.integrate.linearization import Linearization, apply, factorize, mean_rate, solve


def linearization(X, weight):
    """Return the Jacobian of these weights of K, summed up."""
    n, d = X.shape
    K = (X * weight) @ X.T
    rows = np.zeros((st.ROWS, d))
    rows[st.WORK] = weight
    y = np.zeros(n)
    X.flags.writeable = y.flags.writeable = False
    return Linearization(0, NONE, st.System(X, y, rows), 0.5 / n, np.zeros(1), np.ones(n), np.empty(0), 1.0, K.copy(),
                         np.zeros(inverse_shape(n)), K.diagonal().copy(), np.empty(FACTOR_ROOM), np.empty(gram_room(n, d)))


@pytest.mark.interpreted
@pytest.mark.parametrize("kappa", [0.0, 0.05])
@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_the_integral_of_a_quadratic_form(kappa, spread):
    # Reference: ``int (x.e^(-J t) m)^2 dt`` in eigenvectors of J, a sum over pairs of rates.
    n, d, strength = 12, 40, 0.02
    rng = np.random.default_rng(5)
    X, m, zero = rng.standard_normal((n, d)), rng.standard_normal(n), np.zeros(n)
    weight = np.exp(rng.uniform(-spread, spread, d)) / d
    J, work, other = linearization(X, weight), np.empty(n), np.empty(n)
    K = J.M.copy()
    rates, vectors = np.linalg.eigh(K + kappa * K @ K)
    pairs = (vectors.T @ m)[:, None] * (vectors.T @ m) / (rates[:, None] + rates)
    exact = 2.0 * strength * np.einsum("ij,ik,kl,ml,mj->j", X, vectors, pairs, vectors, X)
    before = rng.random(d)
    Q, error, tau = before.copy(), np.empty(d), 1.0 / rates[0]
    assert factorize(J, 0.0, tau, kappa, rates[0])
    assert gain.sum_gain(J, 0.0, kappa, strength, tau, zero, m, 0.0, m.copy(), Q, error, work, other)
    off = np.abs(Q - before - exact)
    assert off.max() <= 0.02 * exact.max()
    assert off.max() <= 2.0 * error.max()
    # Curvature and what the equation does not see count as errors.
    Q[:] = before
    assert factorize(J, 0.0, tau, kappa, rates[0])
    assert gain.sum_gain(J, 0.0, kappa, strength, tau, 0.1 * m, m, 0.3, m.copy(), Q, error, work, other)
    assert np.all(error >= 0.32 * (Q - before))


@pytest.mark.interpreted
@pytest.mark.parametrize("scheme", ["forward", "backward"])
def test_the_form_that_q_has(scheme):
    # Reference: ``2 gamma g g_e`` with both gradients by NumPy, in the weights.  What is left out is the square of half of what
    # the ascent step adds.
    n, d, gamma = 6, 15, 0.02
    step = 0.1 if scheme == "forward" else -0.1
    rule = dln.GradientRegularization(gamma, 0.1, scheme)
    rng = np.random.default_rng(7)
    X, u, v = rng.standard_normal((n, d)), rng.uniform(0.2, 0.5, d), rng.uniform(0.2, 0.5, d)
    J = linearization(X, np.zeros(d))._replace(params=rule.parameters(d))
    r = X @ (u * u - v * v)
    g = J.c * X.T @ r
    ascended = (u + step * 2.0 * u * g) ** 2 - (v - step * 2.0 * v * g) ** 2
    q = 2.0 * gamma * g * (J.c * X.T @ (X @ ascended))
    J.system.rows[st.BETA], J.system.rows[st.SIZE] = u * u - v * v, u * u + v * v
    m, rates = np.empty(n), np.empty(d)
    unlike = gain.begin_gain(address(rule.kernel), J, gamma, step, q, r.copy(), np.empty((2, n)), m, rates, np.empty(n))
    assert unlike <= 0.25 * np.abs(q - 2.0 * gamma * g * g).max() / q.max()
    np.testing.assert_allclose(rates, 2.0 * gamma * (X.T @ m) ** 2, rtol=1e-12)


@pytest.mark.interpreted
def test_what_a_linearization_does():
    # Reference: NumPy.
    n, d, kappa, tau = 10, 30, 0.1, 0.7
    rng = np.random.default_rng(6)
    X, x = rng.standard_normal((n, d)), rng.standard_normal(n)
    J, work, out = linearization(X, rng.random(d)), np.empty(n), np.empty(n)
    exact = J.M + kappa * J.M @ J.M
    apply(J, kappa, x, work, out)
    np.testing.assert_allclose(out, exact @ x, rtol=1e-12)
    assert mean_rate(J, kappa, x, work, out) == pytest.approx(x @ exact @ x / (x @ x), rel=1e-12)
    assert mean_rate(J, kappa, np.zeros(n), work, out) == 1.0
    for scale in (1.0, 3.0):  # a factor leaves K as it was
        b = x.copy()
        assert factorize(J, 0.0, scale * tau, kappa, 1.0)
        solve(J, b)
        np.testing.assert_allclose(b + scale * tau * exact @ b, x, rtol=0, atol=1e-12)
