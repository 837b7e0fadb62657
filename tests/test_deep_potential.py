"""The potential at depth D > 2 against 60-digit arithmetic, from 1e-12 to 1e300 scales."""

import mpmath
import numpy as np
import pytest

import dln
from dln import deep_potential, potential

DEPTHS = [2.1, 2.5, 3.0, 3.7, 4.0, 6.0]
LOG_X = np.log(10.0) * np.array([-12.0, -6.0, -2.0, -0.5, 0.0, 0.3, 1.0, 2.9, 3.1, 8.0, 30.0, 100.0, 300.0])


def h(z, depth):
    s = depth / (depth - 2)
    return (1 - z) ** -s - (1 + z) ** -s


def exact_ell(x, depth):
    """log(u/v) of x = beta/alpha^D by bisection in high precision: 1 - z from 0 to 1 in its logarithm."""
    k, s = depth - 2, depth / (depth - 2)

    def size(ell):  # h(tanh(k ell/2))
        return ((1 + mpmath.exp(k * ell)) / 2) ** s - ((1 + mpmath.exp(-k * ell)) / 2) ** s

    return mpmath.findroot(lambda w: mpmath.log(size(mpmath.exp(w))) - mpmath.log(x), (mpmath.log(x / depth + 0) if x < 1
                           else mpmath.log(mpmath.log(2 + x) / depth + 1 / mpmath.mpf(10)), mpmath.mpf(1)), tol=1e-110)


def exact(x, depth):
    """Return (ell, z, q(x), H(z) - H(0)) at 120 digits."""
    with mpmath.workdps(120):
        depth, x = mpmath.mpf(depth), mpmath.mpf(x)
        k, s = depth - 2, depth / (depth - 2)
        ell = mpmath.exp(exact_ell(x, depth))
        near, far = (1 + mpmath.exp(-k * ell)) / 2, (1 + mpmath.exp(k * ell)) / 2  # (1 + z)^-1, (1 - z)^-1
        z = mpmath.tanh(k * ell / 2)
        conjugate = (far ** (s - 1) + near ** (s - 1) - 2) / (s - 1)
        return ell, z, x * z - conjugate, conjugate


def relative(found, expected):
    return float(abs(mpmath.mpf(float(found)) / expected - 1))


@pytest.mark.parametrize("depth", DEPTHS)
def test_against_sixty_digits(depth):
    # Reference: mpmath, root finding on the definition h(z) = x and the Legendre transform; alpha = 1, so beta = x.
    for log_x in LOG_X:
        x = float(np.exp(log_x))
        ell, z, q, conjugate = exact(x, depth)
        given = {"log_alpha": 0.0, "depth": depth}
        assert relative(deep_potential.mirror(x, **given), ell) <= 4e-15
        assert relative(potential.gradient(x, **given), z) <= 4e-15
        assert relative(potential.value(np.array([x]), **given), q) <= 2e-14
        # The input ell is rounded, and the conjugate grows like its exponential.
        assert relative(deep_potential.conjugate(float(ell), **given), conjugate) <= 2e-14 + 3e-16 * float(ell)
        bound = 3e-16 * (4 + depth * depth * float(ell))
        assert relative(deep_potential.predictor(float(ell), **given), mpmath.mpf(x)) <= bound


@pytest.mark.parametrize("log_alpha", [-1e5, -700.0, -30.0, -1.0, 3.0, 20.0])
@pytest.mark.parametrize("depth", [2.5, 3.0, 5.0])
def test_it_scales_with_alpha(depth, log_alpha):
    # Reference: phi_alpha(beta) = alpha^2 q(beta/alpha^D): ell depends on beta/alpha^D alone, in exact arithmetic.
    ell = np.array([-40.0, -3.0, -1e-3, 0.0, 1e-9, 0.2, 8.0])
    if abs(depth * log_alpha) < 600.0:
        beta = deep_potential.predictor(ell, log_alpha=log_alpha, depth=depth)
        np.testing.assert_allclose(deep_potential.mirror(beta, log_alpha=log_alpha, depth=depth), ell, rtol=2e-13)
    log_u, log_v = deep_potential.weights(ell, log_alpha=log_alpha, depth=depth)
    np.testing.assert_allclose(log_u - log_v, ell, rtol=0, atol=4e-16 * (abs(log_alpha) + 40.0))
    np.testing.assert_allclose(deep_potential.scale_of(log_u, log_v, depth=depth), log_alpha, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_inverse_gradient_inverts(depth):
    # Reference: the definition.
    beta = np.array([-3.0, -0.1, 0.0, 1e-9, 0.7, 12.0])
    log_alpha = np.log([0.5, 1.0, 2.0, 1.0, 1.5, 0.9])
    dual = potential.gradient(beta, log_alpha=log_alpha, depth=depth)
    np.testing.assert_allclose(potential.inverse_gradient(dual, log_alpha=log_alpha, depth=depth), beta, rtol=1e-11)


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_gradient_is_that_of_the_value(depth):
    # Reference: Gauss-Legendre quadrature of the gradient between two points.
    nodes, weights = np.polynomial.legendre.leggauss(40)
    a, b = 0.3, 2.1
    at = a + 0.5 * (nodes + 1.0) * (b - a)
    integral = 0.5 * (b - a) * weights @ potential.gradient(at, log_alpha=-0.4, depth=depth)
    difference = potential.terms(b, log_alpha=-0.4, depth=depth) - potential.terms(a, log_alpha=-0.4, depth=depth)
    assert integral == pytest.approx(float(difference), rel=1e-13)


def test_depth_2_is_its_limit():
    # Reference: phi/(2 k) tends to the potential of depth 2, and ell to asinh(beta/(2 alpha^2)), linearly in k.
    beta, log_alpha = np.array([-2.0, 0.01, 0.5, 30.0]), np.array([-1.0, 0.0, 0.3, -2.0])
    expected = potential.terms(beta, log_alpha=log_alpha)
    errors = []
    for k in (1e-3, 1e-4):
        near = potential.terms(beta, log_alpha=log_alpha, depth=2.0 + k) / (2.0 * k)
        errors.append(np.max(np.abs(near / expected - 1.0)))
    assert errors[0] < 1e-2 and errors[1] == pytest.approx(0.1 * errors[0], rel=0.1)


def test_large_scales_give_the_quadratic_form():
    # Reference: q(x) = x^2/(4 s) (1 + O(x^2)), so that phi is beta^2 alpha^(2-2D) (D-2)/(4 D).
    for depth in DEPTHS:
        value = potential.value(np.array([0.7]), log_alpha=9.0, depth=depth)
        assert value == pytest.approx(0.49 * np.exp(9.0 * (2.0 - 2.0 * depth)) * (depth - 2.0) / (4.0 * depth), rel=1e-11)


@pytest.mark.parametrize(("depth", "error", "words"), [
    (1.9, ValueError, "depth must be finite and at least 2, got 1.9"), (float("nan"), ValueError, "depth must be finite"),
    (float("inf"), ValueError, "depth must be finite"), ("3", TypeError, "depth must be a number, got '3'"),
    (True, TypeError, "depth must be a number")])
def test_bad_depths_are_named(depth, error, words):
    # Reference: the arguments.
    problem = dln.sparse_regression(3, 5, 1, rng=0)
    for call in (lambda: potential.value(np.ones(2), log_alpha=0.0, depth=depth),
                 lambda: dln.flow(problem, depth=depth, alpha=0.1),
                 lambda: dln.minimize_potential(problem, depth=depth, alpha=0.1)):
        with pytest.raises(error, match=words):
            call()


def test_slopes_outside_of_the_domain_are_named():
    # Reference: |alpha^(D-2) dual| < 1.
    with pytest.raises(ValueError, match=r"dual\[1\] is outside of the slopes of the potential of depth 3"):
        potential.inverse_gradient(np.array([0.5, -2.0]), log_alpha=np.log([1.0, 0.5]), depth=3)
