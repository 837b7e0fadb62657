"""Every formula of `dln.potential` is the derived one, at any scale. Reference: the derivation's expressions, lambdified
for mpmath, at 60 digits beyond what the textbook forms lose.
"""

import functools

import mpmath
import numpy as np
import pytest
import sympy as sp

from dln import potential
from theory._derivation import Derivation
from theory._duality import dual
from theory._steps import potential as derive_potential_steps

A = sp.Symbol("a", positive=True)
LOG_ALPHAS = (-1e6, -700.5, -690.0, -100.0, -3.0, 0.0, 2.5, 100.0)
#: beta / alpha^2, from deep in the kernel regime to deep in the rich one.
RATIOS = (1e-300, 1e-30, 1e-12, 1e-6, 1e-2, 0.3, 1.0, 7.0, 1e3, 1e8, 1e16, 1e50, 1e150, 1e300)


@functools.cache
def derived():
    """Give the derived functions: value and slope in (b, a); those in (a, w, h) of the dual problem."""
    phi, dual_forms = derive_potential_steps(Derivation("T0", "potential"), A), dual(Derivation("T0", "dual"), A)
    a, w, h = dual_forms.a, dual_forms.w, dual_forms.h
    functions = {name: sp.lambdify((phi.b, A), getattr(phi, name), "mpmath") for name in ("value", "slope")}
    names = ("beta", "size", "conjugate", "divergence")
    return functions | {name: sp.lambdify((a, w, h), getattr(dual_forms, name), "mpmath") for name in names}


@pytest.fixture(autouse=True)
def digits():
    # phi loses up to 24 digits at beta/alpha^2 = 1e-12, and cosh w - 1 and D more: twice the exponent of the ratio.
    with mpmath.workdps(60 + 700):
        yield


def scale(log_alpha):
    return mpmath.exp(mpmath.mpf(log_alpha))


def points(log_alpha):
    """Floats beta, of both signs, with beta/alpha^2 over all ratios that floats can reach."""
    exact = [mpmath.mpf(ratio) * scale(log_alpha) ** 2 for ratio in RATIOS]
    sizes = [float(x) for x in exact if mpmath.mpf("2.3e-308") < x < mpmath.mpf("1e300")]
    return [sign * size for size in sizes or [1e-300, 1.0, 1e300] for sign in (1.0, -1.0)]


def check(found, expected, tolerance):
    """Compare in relative terms; what is below the range of normal floats may be 0."""
    expected = mpmath.mpf(expected)
    assert abs(mpmath.mpf(float(found)) - expected) <= max(tolerance * abs(expected), mpmath.mpf("2.3e-308")), (found, expected)


@pytest.mark.parametrize("log_alpha", LOG_ALPHAS)
def test_value_and_gradient(log_alpha):
    value, slope = derived()["value"], derived()["slope"]
    a, betas = scale(log_alpha), points(log_alpha)
    gradients = potential.gradient(betas, log_alpha=log_alpha)
    images = potential.mirror(betas, log_alpha=log_alpha)
    terms = potential.terms(betas, log_alpha=log_alpha)
    for beta, gradient, image, term in zip(betas, gradients, images, terms, strict=True):
        check(gradient, slope(mpmath.mpf(beta), a), 1e-15)
        check(image, 4 * slope(mpmath.mpf(beta), a), 1e-15)
        check(term, value(mpmath.mpf(beta), a), 1e-14)
    check(potential.value(betas, log_alpha=log_alpha), mpmath.fsum(value(mpmath.mpf(beta), a) for beta in betas), 1e-14)


#: Mirror images: the derived functions of w and h are compared where they are floats.
IMAGES = (0.0, 1e-200, 1e-12, 1e-3, 0.4, -0.49, 0.51, 1.0, -5.0, 40.0, -200.0, 700.0)


def fits(log_alpha, *images):
    """Say whether the weights of these images are floats."""
    return 2 * log_alpha + max(map(abs, images)) < 600


@pytest.mark.parametrize("log_alpha", LOG_ALPHAS)
def test_inverse_gradient(log_alpha):
    # One unit in the last place of w or of log alpha is a factor 1 + |w| 2^-53: exp has no better argument.
    for w in (*IMAGES, 2e6 - 300.0 if log_alpha == -1e6 else 1.5):
        if fits(log_alpha, w):
            expected = derived()["beta"](scale(log_alpha), mpmath.mpf(w), 0)
            check(potential.inverse_gradient(w / 4, log_alpha=log_alpha), expected,
                  1e-15 * (2 + abs(w) + 2 * abs(log_alpha) if abs(w) > 1 else 3 + 2 * abs(log_alpha)))


@pytest.mark.parametrize("log_alpha", LOG_ALPHAS)
def test_conjugate_and_divergence_in_mirror_images(log_alpha):
    a = scale(log_alpha)
    conjugate, divergence = derived()["conjugate"], derived()["divergence"]
    for w in IMAGES:
        # From the same image, from near ones on either side, from the mirrored one and from 0.
        for h in {0.0, w, -w, w + 1e-9, 1.001 * w, 0.7 * w, w + 0.3, w - 0.6, 3.0}:
            if not fits(log_alpha, w, h):
                continue
            exact_w, exact_h = mpmath.mpf(w), mpmath.mpf(h)
            rounding = 1e-15 * (4 + 2 * abs(log_alpha) + max(abs(w), abs(h)))
            # Images are floats: their sum and difference, of which the conjugate is a product, are rounded once.
            gap = conjugate(a, exact_w, 0) - conjugate(a, exact_h, 0)
            check(potential.conjugate_difference(w, h, log_alpha=log_alpha), gap, rounding)
            # The branches meet at |w - h| = 1/2, where the far one has lost a digit.
            check(potential.divergence_terms(w, h, log_alpha=log_alpha), divergence(a, exact_w, exact_h), 20 * rounding)


@pytest.mark.parametrize("log_alpha", LOG_ALPHAS[:-1])
def test_bregman_divergence_between_points(log_alpha):
    a = scale(log_alpha)
    slope, divergence = derived()["slope"], derived()["divergence"]
    betas = points(log_alpha)
    for beta in betas[::3]:  # signs alternate
        for center in {0.0, beta, -beta, beta * (1 + 1e-9), 0.9 * beta, 3.0 * beta, betas[0]}:
            w, h = (4 * slope(mpmath.mpf(x), a) for x in (beta, center))
            found = potential.bregman_divergence([beta], [center], log_alpha=log_alpha)
            # Images that are far apart carry their own rounding and that of log alpha.
            check(found, divergence(a, w, h), 5e-15 * (4 + 2 * abs(log_alpha) + float(max(abs(w), abs(h)))))


def test_the_derived_forms_hang_together():
    """Reference: each derived form from another one by numerical differentiation; a slip in one would show here."""
    with mpmath.workdps(60):
        a, w, h = mpmath.mpf("0.7"), mpmath.mpf("1.3"), mpmath.mpf("-0.4")
        forms = derived()
        beta = forms["beta"](a, w, h)
        close = functools.partial(mpmath.almosteq, rel_eps=mpmath.mpf(10) ** -25)
        assert close(mpmath.diff(lambda b: forms["value"](b, a), beta), forms["slope"](beta, a))
        assert close(forms["slope"](beta, a), w / 4)
        assert close(mpmath.diff(lambda s: forms["conjugate"](a, 4 * s, h), w / 4), beta)
        assert close(mpmath.diff(lambda s: forms["conjugate"](a, 4 * s, h), w / 4, 2), 4 * forms["size"](a, w, h))
        assert forms["divergence"](a, w, h) > 0
        assert np.isclose(float(forms["divergence"](a, h, h)), 0.0, atol=1e-50)
