"""Initial weights in all their forms, and beta from logarithms at every scale."""

import math

import mpmath
import numpy as np
import pytest

from dln.integrate import state
from dln.network import Initialization, difference_of_squares, evaluate_weights, evaluate_weights_at, initialize

interpreted = pytest.mark.interpreted


# Initialisation -------------------------------------------------------------------------------------------------------


@interpreted
@pytest.mark.parametrize("form", [
    lambda: initialize(3, alpha=0.5), lambda: initialize(3, alpha=[0.5] * 3), lambda: initialize(3, alpha=np.float32(0.5)),
    lambda: initialize(3, log_alpha=math.log(0.5)), lambda: initialize(3, log_alpha=np.full(3, math.log(0.5)), log_ratio=0),
    lambda: initialize(3, initial_weights=(0.5, 0.5)), lambda: initialize(3, initial_weights=[[0.5] * 3, 0.5]),
])
def test_the_same_start_in_every_form(form):
    # Reference: u0 = v0 = alpha = 1/2.
    start = form()
    assert isinstance(start, Initialization)
    for array, value in ((start.log_alpha, math.log(0.5)), (start.log_ratio, 0.0), (start.log_u, math.log(0.5)),
                         (start.log_v, math.log(0.5))):
        assert array.shape == (3,) and array.dtype == np.float64
        np.testing.assert_allclose(array, value, rtol=1e-15)


@interpreted
def test_unequal_weights():
    # Reference: u0 = alpha exp(log_ratio/2), v0 = alpha exp(-log_ratio/2); alpha^2 = u0 v0.
    u, v = np.array([1.0, 2.0, 1e-300]), np.array([4.0, 2.0, 1e300])
    start = initialize(3, initial_weights=(u, v))
    np.testing.assert_allclose(start.log_alpha, [math.log(2.0), math.log(2.0), 0.0], rtol=1e-15, atol=1e-13)
    np.testing.assert_allclose(start.log_ratio, np.log(u) - np.log(v), rtol=1e-15)
    np.testing.assert_allclose(start.log_u, np.log(u), rtol=1e-14)
    np.testing.assert_allclose(start.log_v, np.log(v), rtol=1e-14, atol=1e-15)
    again = initialize(3, log_alpha=start.log_alpha, log_ratio=start.log_ratio)
    assert np.array_equal(again.log_u, start.log_u) and np.array_equal(again.log_v, start.log_v)


@interpreted
def test_scales_below_the_floats():
    # Reference: logarithms are ordinary numbers.
    start = initialize(2, log_alpha=[-1e6, 1e6], log_ratio=[3.0, -3.0])
    assert start.log_u.tolist() == [-1e6 + 1.5, 1e6 - 1.5] and start.log_v.tolist() == [-1e6 - 1.5, 1e6 + 1.5]
    assert initialize(1, alpha=5e-324).log_alpha[0] == pytest.approx(-1074 * math.log(2.0), rel=1e-15)


@interpreted
def test_arrays_are_copies():
    # Reference: what the caller changes afterwards does not matter; nor is his read-only array written to.
    given = np.zeros(3)
    start = initialize(3, log_alpha=given, log_ratio=given)
    given[:] = 9.0
    assert not start.log_alpha.any() and not start.log_ratio.any()
    start.log_alpha[0] = 1.0
    assert start.log_alpha.tolist() == [1.0, 0.0, 0.0] and not start.log_ratio.any()


BAD = [
    (ValueError, r"^give exactly one of alpha, log_alpha and initial_weights, got none of them$", {}),
    (ValueError, r"got alpha and log_alpha$", dict(alpha=1.0, log_alpha=0.0)),
    (ValueError, r"got alpha and log_alpha and initial_weights$", dict(alpha=1.0, log_alpha=0.0, initial_weights=(1, 1))),
    (ValueError, r"got log_alpha and initial_weights$", dict(log_alpha=0.0, initial_weights=(1, 1))),
    (ValueError, r"^log_ratio goes with alpha or log_alpha; .*already fix the shape$",
     dict(initial_weights=(1, 1), log_ratio=0.0)),
    (ValueError, r"^initial_weights must be a pair \(u0, v0\)$", dict(initial_weights=(1.0,))),
    (ValueError, r"^initial_weights must be a pair \(u0, v0\)$", dict(initial_weights=1.0)),
    (ValueError, r"^initial_weights\[1\]\[2\] must be positive and finite, got 0.0$",
     dict(initial_weights=(1.0, [1.0, 1.0, 0.0]))),
    (ValueError, r"^initial_weights\[0\] must be positive and finite, got -2.0$", dict(initial_weights=(-2.0, 1.0))),
    (ValueError, r"^initial_weights\[0\] must be a number or have shape \(3,\), one entry per column of X; got shape \(2,\)$",
     dict(initial_weights=([1.0, 1.0], 1.0))),
    (ValueError, r"^alpha must be positive and finite, got 0.0; below the smallest float give log_alpha instead$",
     dict(alpha=0.0)),
    (ValueError, r"^alpha\[1\] must be positive and finite, got -1.0;", dict(alpha=[1.0, -1.0, 0.0])),
    (ValueError, r"^alpha must be positive and finite, got nan", dict(alpha=math.nan)),
    (ValueError, r"^alpha must be positive and finite, got inf", dict(alpha=math.inf)),
    (ValueError, r"^alpha must be a number or have shape \(3,\), .*got shape \(3, 1\)$", dict(alpha=np.ones((3, 1)))),
    (ValueError, r"^alpha must be a number or have shape \(3,\), .*got shape \(0,\)$", dict(alpha=[])),
    (TypeError, r"^alpha must be a number or an array of 3 numbers, got 'small'$", dict(alpha="small")),
    (TypeError, r"^log_alpha must be a number or an array of 3 numbers, got \[1, 'x'\]$", dict(log_alpha=[1, "x"])),
    (TypeError, r"^alpha must be a number or an array of 3 numbers, got 1j$", dict(alpha=1j)),
    (ValueError, r"^log_alpha\[2\] must be finite, got nan$", dict(log_alpha=[0.0, 0.0, math.nan])),
    (ValueError, r"^log_alpha must be finite, got -inf$", dict(log_alpha=-math.inf)),
    (ValueError, r"^log_ratio\[0\] must be finite, got inf$", dict(alpha=1.0, log_ratio=[math.inf, 0.0, 0.0])),
    (ValueError, r"^log_ratio must be a number or have shape \(3,\), .*got shape \(1,\)$", dict(alpha=1.0, log_ratio=[1.0])),
]


@interpreted
@pytest.mark.parametrize(("error", "message", "arguments"), BAD, ids=[m for _, m, _ in BAD])
def test_bad_starts_are_named(error, message, arguments):
    with pytest.raises(error, match=message) as caught:
        initialize(3, **arguments)
    assert "\n" not in str(caught.value)


# beta from logarithms -------------------------------------------------------------------------------------------------


def exact(m, s):
    """u^2 - v^2 and u^2 + v^2 with 100 digits and more where they cancel."""
    m, s = mpmath.mpf(float(m)), mpmath.mpf(float(s))
    return 2 * mpmath.exp(m) * mpmath.sinh(s), 2 * mpmath.exp(m) * mpmath.cosh(s)


def points():
    rng = np.random.default_rng(0)
    product = np.concatenate([rng.uniform(-1400, 1400, 1500), rng.uniform(-2, 2, 500), np.full(8, -1e6)])
    target = rng.uniform(-300, 300, 1500)  # log |beta|
    ratio = np.concatenate([np.where(target > product[:1500], target - product[:1500], 10.0 ** rng.uniform(-300, 0, 1500)),
                            10.0 ** rng.uniform(-300, 2, 500), 1e6 + rng.uniform(-600, 600, 8)])
    return product, ratio * rng.choice([-1.0, 1.0], len(ratio))


def relative(value, reference):
    return float(abs(mpmath.mpf(float(value)) / reference - 1))


@interpreted
@pytest.mark.parametrize("beyond", [False, True], ids=["u v below 1e304", "u v above 1e304"])
def test_beta_keeps_its_digits_at_every_scale(beyond):
    # Reference: mpmath, 150 digits.  The sum of logarithms m + |s| is rounded, hence the factor; nothing else is lost.
    # Above 1e304 u v may overflow where beta does not.
    product, ratio = points()
    product, ratio = (a[(product > 700.0) == beyond] for a in (product, ratio))
    values = difference_of_squares(product, ratio)
    with mpmath.workdps(150):
        for m, s, value in zip(product, ratio, values, strict=True):
            beta, _ = exact(m, s)
            if 1e-300 < abs(beta) < 1e300:
                assert relative(value, beta) <= 1e-15 + 1.2e-16 * abs(m + abs(s)), (m, s)
            elif abs(beta) >= 1e309:
                assert value == math.copysign(math.inf, s)
            elif abs(beta) < 1e-330:
                assert value == 0.0


@interpreted
def test_beta_is_odd_and_zero_at_equal_weights():
    # Reference: symmetry in u and v; warnings are errors, also where beta overflows.
    m, s = np.array([-1e6, -3.0, 0.0, 700.0, 1e6]), np.array([1.0, 1e-300, 5.0, 1000.0, 50.0])
    assert np.array_equal(difference_of_squares(m, -s), -difference_of_squares(m, s))
    assert difference_of_squares(np.array([-1e6, 0.0, 700.0]), np.zeros(3)).tolist() == [0.0] * 3
    assert difference_of_squares(0.0, 0.0) == 0.0


@interpreted
def test_equal_weights_give_zero_however_large():
    # Reference: 2 u v sinh(0) = 0, where u v is beyond the floats.
    assert difference_of_squares(np.array([710.0, 1e6]), np.zeros(2)).tolist() == [0.0, 0.0]


def evaluate(product, ratio):
    d = len(product)
    beta, size = np.full((2, d), np.nan)
    fits = evaluate_weights(np.array(product, dtype=float), np.array(ratio, dtype=float), beta, size)
    return fits, beta, size


@interpreted
def test_the_kernel_agrees_with_the_formula():
    # Reference: difference_of_squares, and mpmath for u^2 + v^2; beta below exp(-708) may be any number as small.
    product, ratio = points()
    keep = product + np.abs(ratio) < 600.0
    product, ratio = product[keep], ratio[keep]
    fits, beta, size = evaluate(product, ratio)
    assert fits
    expected = difference_of_squares(product, ratio)
    top = product + np.abs(ratio)
    normal = top > -700.0
    np.testing.assert_allclose(beta[normal], expected[normal], rtol=2e-15, atol=1e-307)
    assert np.all(np.abs(beta[~normal]) <= 1e-303) and np.all(size[~normal] <= 1e-303)
    with mpmath.workdps(150):
        for m, s, value in list(zip(product[normal], ratio[normal], size[normal], strict=True))[::4]:
            assert relative(value, exact(m, s)[1]) <= 1e-15 + 1.2e-16 * abs(m + abs(s)), (m, s)


@interpreted
def test_the_kernel_refuses_to_overflow():
    # Reference: e^(m + |s|) with m + |s| >= 600 is refused, whichever coordinate it is in; NaN, too.
    assert evaluate([0.0, -1e6], [1.0, 1e6 + 599.0])[0]
    for bad in (([0.0, 600.0], [1.0, 0.0]), ([0.0, 0.0], [-601.0, 1.0]), ([math.inf, 0.0], [0.0, 0.0]),
                ([math.nan, 0.0], [0.0, 0.0]), ([0.0, 0.0], [0.0, math.nan])):
        assert not evaluate(*bad)[0]


@interpreted
def test_size_and_beta_are_those_of_the_weights():
    # Reference: u^2 - v^2 and u^2 + v^2 themselves, and the identity size^2 - beta^2 = 4 (u v)^2.
    rng = np.random.default_rng(5)
    u, v = np.exp(rng.uniform(-3, 3, (2, 50)))
    fits, beta, size = evaluate(np.log(u * v), np.log(u / v))
    assert fits
    np.testing.assert_allclose(size, u * u + v * v, rtol=2e-15)
    np.testing.assert_allclose(beta, (u - v) * (u + v), rtol=1e-13, atol=2e-15 * np.max(u * v))
    np.testing.assert_allclose((size - beta) * (size + beta), 4 * (u * v) ** 2, rtol=1e-10)
    assert np.array_equal(evaluate(np.log(u * v), np.zeros(50))[1], np.zeros(50))


@interpreted
def test_no_coordinates():
    fits, beta, size = evaluate([], [])
    assert fits and beta.size == size.size == 0


@interpreted
def test_one_exponential_suffices_at_an_ordinary_scale():
    # Reference: mpmath, over the scales and ratios for which the engine uses it; odd and even in the ratio.
    scale, ratio = (a.ravel() for a in np.meshgrid(np.exp([-100.0, -7.0, 0.0, 3.0, 100.0]),
                                                  [1e-180, 1e-9, -1e-3, 0.4, -1.0, 3.0, 37.0, -200.0, 599.0]))
    beta, size = np.full((2, scale.size), np.nan)
    assert evaluate_weights_at(scale, ratio, beta, size)
    with mpmath.workdps(400):
        for p, s, found, found_size in zip(scale, ratio, beta, size, strict=True):
            assert relative(found, 2 * mpmath.mpf(p) * mpmath.sinh(mpmath.mpf(s))) <= 1e-15 + 1.2e-16 * abs(s), (p, s)
            assert relative(found_size, 2 * mpmath.mpf(p) * mpmath.cosh(mpmath.mpf(s))) <= 1e-15 + 1.2e-16 * abs(s), (p, s)
    assert evaluate_weights_at(np.ones(1), np.zeros(1), beta[:1], size[:1])
    assert beta[0] == 0.0 and size[0] == 2.0
    assert not evaluate_weights_at(np.ones(1), np.array([-601.0]), np.empty(1), np.empty(1))


@interpreted
@pytest.mark.parametrize(("log_product", "shrinks", "ordinary"), [
    ([-99.0, 99.0], False, True), ([-99.0, 101.0], False, False), ([-1e6, 0.0], False, False), ([0.0, 0.0], True, False)])
def test_only_fixed_and_ordinary_products_are_kept_as_numbers(log_product, shrinks, ordinary):
    # Reference: the definition.
    rows = np.zeros((state.ROWS, 2))
    rows[state.LOG_PRODUCT] = log_product
    state.fix_scale(rows, shrinks)
    np.testing.assert_allclose(rows[state.SCALE], np.exp(log_product) if ordinary else 0.0, rtol=1e-15)
