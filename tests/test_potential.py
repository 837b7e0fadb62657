"""The potential and its gradient against arithmetic with 120 digits or more, and the identities that define them."""

import math

import mpmath
import numpy as np
import pytest

from dln import potential

# The floats next to log(1e-300) .. log(1e10): log_alpha is taken exactly as it is given.
LOG_ALPHAS = [*np.linspace(math.log(1e-300), math.log(1e10), 25).tolist(), -1e6, -1e3, -700.5, -700.0, -699.5, 300.0]
EXPONENTS = [*np.linspace(-12.0, 2.0, 15).tolist(), *np.linspace(4.0, 300.0, 38).tolist()]


@pytest.fixture(autouse=True)
def digits():
    # The textbook form loses up to 24 digits at beta/alpha^2 = 1e-12, hence twice the 60 that are wanted.
    with mpmath.workdps(120):
        yield


def exact(beta, log_alpha):
    """Gradient and potential of one coordinate from the textbook form."""
    beta, square = mpmath.mpf(float(beta)), mpmath.exp(2 * mpmath.mpf(float(log_alpha)))
    w = mpmath.asinh(beta / (2 * square))
    return w / 4, (beta * w - mpmath.sqrt(beta**2 + 4 * square**2) + 2 * square) / 4


def error(value, reference):
    """Relative error, or the value itself where the reference is 0."""
    difference = abs(mpmath.mpf(float(value)) - reference)
    return float(difference / abs(reference)) if reference else float(difference)


@pytest.mark.parametrize("log_alpha", LOG_ALPHAS)
def test_potential_and_gradient_keep_14_digits(log_alpha):
    # Reference: mpmath, 120 digits.  Measured: gradient 2.8e-16, potential 4e-16.
    scale, betas = mpmath.exp(2 * mpmath.mpf(log_alpha)), []
    for exponent in EXPONENTS:
        beta = float(mpmath.mpf(10) ** mpmath.mpf(exponent) * scale)
        betas += [beta, -beta] if 2.3e-308 < beta < 1e304 else []
    if log_alpha == -1e6:  # beta/alpha^2 is beyond 1e300 for every float: the far branch alone
        betas = [1e-300, -1.0, 1e300]
    if not betas:
        betas = [1.0]
    gradients, terms = potential.gradient(betas, log_alpha=log_alpha), potential.terms(betas, log_alpha=log_alpha)
    for beta, gradient, term in zip(betas, gradients, terms, strict=True):
        slope, height = exact(beta, log_alpha)
        assert error(gradient, slope) <= 1e-14, beta
        if height > 1e-290:
            assert error(term, height) <= 1e-14, beta
        assert term >= 0.0
    total = mpmath.fsum(exact(beta, log_alpha)[1] for beta in betas)
    assert error(potential.value(betas, log_alpha=log_alpha), total) <= 1e-14 or total < 1e-290


@pytest.mark.parametrize(("log_alpha", "beta"), [(1e6, 1.0), (1e6, 1e300), (720.0, 1e300), (701.0, 1.0), (353.0, 1e-308)])
def test_scales_above_the_range_of_floats_flatten_the_potential(log_alpha, beta):
    # Reference: mpmath; what underflows there is 0 here, to within the smallest normal float.
    slope, height = exact(beta, log_alpha)
    assert abs(float(potential.gradient(beta, log_alpha=log_alpha)) - float(slope)) <= 1e-307
    assert abs(float(potential.terms(beta, log_alpha=log_alpha)) - float(height)) <= max(1e-307, 1e-14 * float(height))


def test_the_branches_join_without_a_jump():
    # Reference: the gradient increases in beta and decreases in log_alpha, also where the far branch takes over.
    around = np.nextafter(-700.0, [-800.0, -700.0, 0.0])
    assert np.all(np.diff(potential.gradient(1.0, log_alpha=around)) <= 0.0)
    log_alpha = -350.0
    edge = math.exp(math.log(1.7976931348623157e308) - 700.0 + math.log(2.0))  # where beta/(2 alpha^2) overflows
    betas = edge * (1.0 + np.arange(-50, 51) * 1e-14)
    assert np.all(np.diff(potential.gradient(betas, log_alpha=log_alpha)) >= 0.0)


def test_zero_and_the_sign_of_beta():
    # Reference: phi is even, its gradient odd, and both vanish at 0.
    for log_alpha in (-1e6, -690.0, 0.0, 23.0, 1e6):
        assert potential.value([0.0, -0.0], log_alpha=log_alpha) == 0.0
        assert potential.gradient([0.0], log_alpha=log_alpha).tolist() == [0.0]
    beta = np.array([1e-200, 3.0, 1e200])
    assert np.array_equal(potential.gradient(-beta, log_alpha=-2.0), -potential.gradient(beta, log_alpha=-2.0))
    assert np.array_equal(potential.terms(-beta, log_alpha=-2.0), potential.terms(beta, log_alpha=-2.0))


def test_one_scale_per_coordinate_is_broadcast():
    # Reference: the coordinates one by one.
    beta, log_alpha = np.array([[0.3, -2.0, 5.0]]), np.array([-3.0, 0.0, 2.0])
    single = [potential.terms(b, log_alpha=a) for b, a in zip(beta[0], log_alpha, strict=True)]
    assert potential.terms(beta, log_alpha=log_alpha).tolist() == [single]
    assert potential.value(beta, log_alpha=log_alpha) == pytest.approx(sum(single), rel=1e-15)
    assert isinstance(potential.value(beta, log_alpha=log_alpha), float)


def test_gradient_is_the_derivative_of_the_potential():
    # Reference: numerical differentiation of the exact potential with 120 digits.
    for beta, log_alpha in ((0.7, -1.0), (-3.0, 0.5), (1e-6, -4.0)):
        slope = mpmath.diff(lambda b, a=log_alpha: (
            b * mpmath.asinh(b / (2 * mpmath.exp(2 * mpmath.mpf(a))))
            - mpmath.sqrt(b**2 + 4 * mpmath.exp(4 * mpmath.mpf(a)))) / 4, mpmath.mpf(beta))
        assert error(potential.gradient(beta, log_alpha=log_alpha), slope) <= 1e-15


def test_inverse_gradient_undoes_gradient():
    # Reference: identity.  One unit in the last place of w = 4 grad phi is a factor 1 + |w| 2^-53 of beta.
    for log_alpha in (-690.0, -100.0, -3.0, 0.0, 5.0, 23.0):
        beta = np.concatenate([10.0 ** np.linspace(-200, 250, 181) * s for s in (1.0, -1.0)])
        dual = potential.gradient(beta, log_alpha=log_alpha)
        keep = np.abs(dual) > 1e-290
        back = potential.inverse_gradient(dual, log_alpha=log_alpha)
        size = 1.0 + np.abs(4.0 * dual) + 2.0 * abs(log_alpha)
        assert np.all((np.abs(back - beta) <= 2e-15 * np.abs(beta) + 2.3e-16 * size * np.abs(beta))[keep])
    assert potential.inverse_gradient([0.0, -0.0], log_alpha=3.0).tolist() == [0.0, 0.0]


def test_inverse_gradient_at_its_definition():
    # Reference: 2 alpha^2 sinh(4 s), mpmath.
    for dual in (1e-300, 1e-12, 0.1, -0.3, 2.0, -40.0, 170.0):
        for log_alpha in (-5.0, 0.0, 3.0):
            reference = 2 * mpmath.exp(2 * mpmath.mpf(log_alpha)) * mpmath.sinh(4 * mpmath.mpf(dual))
            assert error(potential.inverse_gradient(dual, log_alpha=log_alpha), reference) <= 2e-15 + 3e-16 * 4 * abs(dual)


def exact_divergence(beta, center, log_alpha):
    with mpmath.workdps(240):
        slope, start = exact(center, log_alpha)
        return exact(beta, log_alpha)[1] - start - slope * (mpmath.mpf(float(beta)) - mpmath.mpf(float(center)))


CENTERS = (0.0, 1.0, 1e-3, -2.0, 1e-40)
FAR = (1.3, 2.0, 1e5, -2.5, 0.0, 1e-30, -1.0)


@pytest.mark.parametrize("log_alpha", [-690.0, -100.0, -10.0, -1.0, 0.0, 3.0, 23.0])
def test_bregman_divergence_between_distant_points(log_alpha):
    # Reference: the definition, mpmath with 240 digits.  The mirror images are rounded, hence the factor 1 + |w|.
    for center in CENTERS:
        for beta in FAR:
            value = potential.bregman_divergence([beta], [center], log_alpha=log_alpha)
            reference = exact_divergence(beta, center, log_alpha)
            size = 1.0 + 2.0 * abs(log_alpha)
            assert value >= 0.0
            assert error(value, reference) <= 4e-15 * size, (center, beta)


@pytest.mark.parametrize("log_alpha", [-690.0, -100.0, -10.0, -1.0, 0.0, 3.0, 23.0])
def test_bregman_divergence_between_near_points(log_alpha):
    # Reference: as above.  beta - center is known to all digits, so the divergence of near points is, too.
    for center in (1.0, 1e-3, -2.0, 1e-40):
        for relative in (1e-2, -1e-4, 1e-6, -1e-9, 1e-12):
            beta = center * (1.0 + relative)
            value = potential.bregman_divergence([beta], [center], log_alpha=log_alpha)
            reference = exact_divergence(beta, center, log_alpha)
            assert value >= 0.0
            if reference > 1e-290:
                assert error(value, reference) <= 1e-13, (center, relative)


def test_bregman_divergence_is_a_divergence():
    # Reference: D(b, b) = 0, D(b, 0) = phi(b), D is additive over coordinates, three-point identity.
    rng = np.random.default_rng(3)
    for log_alpha in (-20.0, -1.0, 2.0):
        a, b, c = rng.standard_normal((3, 6))
        assert potential.bregman_divergence(a, a, log_alpha=log_alpha) == 0.0
        assert potential.bregman_divergence(a, 0 * a, log_alpha=log_alpha) == pytest.approx(
            potential.value(a, log_alpha=log_alpha), rel=1e-13)
        each = [potential.bregman_divergence(a[j : j + 1], b[j : j + 1], log_alpha=log_alpha) for j in range(6)]
        assert potential.bregman_divergence(a, b, log_alpha=log_alpha) == pytest.approx(math.fsum(each), rel=1e-13)
        left = potential.bregman_divergence(a, c, log_alpha=log_alpha)
        right = (potential.bregman_divergence(a, b, log_alpha=log_alpha)
                 + potential.bregman_divergence(b, c, log_alpha=log_alpha)
                 + (potential.gradient(b, log_alpha=log_alpha) - potential.gradient(c, log_alpha=log_alpha)) @ (a - b))
        assert left == pytest.approx(right, rel=1e-12, abs=1e-12 * left)


def test_conjugate_difference_is_that_of_the_conjugate():
    # Reference: phi*(s) = (alpha^2/2)(cosh 4s - 1), mpmath; and Fenchel's identity phi(b) + phi*(s) = b s at s = grad phi(b).
    for w, v in ((0.0, 0.0), (1.0, 1.0 + 2**-40), (-3.0, 3.0), (1e-9, 0.0), (30.0, -29.0), (5.0, 4.9)):
        reference = mpmath.exp(1) / 2 * (mpmath.cosh(mpmath.mpf(w)) - mpmath.cosh(mpmath.mpf(v)))
        value = potential.conjugate_difference(w, v, log_alpha=0.5)
        assert error(value, reference) <= 1e-14 or (reference == 0 and value == 0.0)
    beta = np.array([0.2, -3.0, 1e4])
    dual = potential.gradient(beta, log_alpha=-1.5)
    conjugate = potential.conjugate_difference(4.0 * dual, 0.0, log_alpha=-1.5)
    np.testing.assert_allclose(potential.terms(beta, log_alpha=-1.5) + conjugate, beta * dual, rtol=1e-14)


def test_the_other_convention_beta_is_u_times_v():
    # Reference: with w+- = (u +- v)/2 the product u v is w+^2 - w-^2; started at u0 = sqrt(2) a, v0 = 0 its published potential
    # is (1/2) sum [b asinh(b/a^2) - sqrt(b^2 + a^4) + a^2], which is twice ours at the scale alpha = a/sqrt(2).
    for b in (1e-6, 0.3, -2.0, 1e5):
        for a in (1e-8, 0.4, 3.0):
            log_alpha = math.log(a) - 0.5 * math.log(2.0)
            beta, square = mpmath.mpf(b), mpmath.mpf(a) ** 2
            published = (beta * mpmath.asinh(beta / square) - mpmath.sqrt(beta**2 + square**2) + square) / 2
            # log_alpha is rounded: its derivative is tanh(w/2) |b|/2, its rounding |log_alpha| 2^-53.
            assert error(2 * potential.value([b], log_alpha=log_alpha), published) <= 1e-14
            plus, minus = a / math.sqrt(2.0), a / math.sqrt(2.0)
            assert plus * minus == pytest.approx(math.exp(2.0 * log_alpha), rel=1e-14)


def test_limits_of_the_potential():
    # Reference: l1 at small scales, phi = (|b|/2) log(1/alpha) + O(1); l2 at large scales, phi = b^2/(16 alpha^2) + ...
    b = np.array([3.0, -4.0])
    errors = [potential.value(b, log_alpha=-s) / (0.5 * s * 7.0) - 1.0 for s in (1e1, 1e2, 1e3, 1e4, 1e5, 1e6)]
    ratios = np.array(errors[1:]) / np.array(errors[:-1])
    np.testing.assert_allclose(ratios, 0.1, rtol=1e-3)
    errors = [1.0 - potential.value(b, log_alpha=math.log(a)) * 16.0 * a**2 / 25.0 for a in (3.0, 10.0, 30.0, 100.0)]
    assert all(np.array(errors[1:]) < 0.05 * np.array(errors[:-1])) and min(errors) > 0.0


@pytest.mark.parametrize("function", [potential.value, potential.terms, potential.gradient, potential.mirror])
def test_what_is_not_finite_is_named(function):
    with pytest.raises(ValueError, match=r"^beta\[1\] must be finite, got nan$"):
        function([0.0, np.nan], log_alpha=0.0)
    with pytest.raises(ValueError, match=r"^beta must be finite, got inf$"):
        function(np.inf, log_alpha=0.0)
    with pytest.raises(ValueError, match=r"^beta\[1, 0\] must be finite, got -inf$"):
        function([[1.0], [-np.inf]], log_alpha=0.0)
    with pytest.raises(ValueError, match=r"^log_alpha\[0\] must be finite, got -inf$"):
        function([1.0, 2.0], log_alpha=[-np.inf, 0.0])


def test_bregman_divergence_names_its_centre():
    with pytest.raises(ValueError, match=r"^center\[0\] must be finite, got nan$"):
        potential.bregman_divergence([1.0], [np.nan], log_alpha=0.0)


def test_a_potential_beyond_the_floats_is_infinite_without_a_warning():
    # Reference: 0.25 * 1e307 * (about 1400) > 1.8e308.  Warnings are errors here.
    assert potential.value([1e307], log_alpha=-700.0) == math.inf


@pytest.mark.parametrize("size", [1e-200, 1e297])
def test_bregman_divergence_of_points_whose_product_is_no_float(size):
    # Reference: the definition, mpmath; D scales with beta and alpha^2 alike, and the product beta * center must not matter.
    log_alpha = 0.5 * math.log(size) - 3.0
    value = potential.bregman_divergence([size], [size * (1 - 1e-6)], log_alpha=log_alpha)
    reference = exact_divergence(size, size * (1 - 1e-6), log_alpha)
    assert abs(value / float(reference) - 1.0) <= 1e-13
