"""Every formula of `dln` at depth D > 2 is the derived one. Reference: the products that the derivation of T3 proves equal to
its powers, and the gradient of its symbolic network, lambdified for mpmath at high precision.
"""

import functools

import mpmath
import numpy as np
import pytest
import sympy as sp

import dln
from dln import deep_potential
from dln._jit import address
from dln.integrate.deep_state import evaluate
from dln.rules.base import BETA, UD, UK, VD, VK
from theory._deep import H_OF_T, INTEGRAL_OF_T, SLOPE_OF_T, K, S, SymbolicDeepNetwork, T

DEPTHS = (2.05, 2.5, 3.0, 3.7, 6.0)
LOG_ALPHAS = (-60.0, -3.0, 0.0, 4.0)
ELLS = (1e-200, 1e-9, 1e-3, 0.3, -1.0, 4.0, -30.0, 100.0)


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(500):  # at small arguments H(z) - H(0) cancels twice as many digits as the argument has
        yield


def derived(expression):
    return sp.lambdify((T, S), expression, "mpmath")


def check(found, expected, tolerance):
    if abs(expected) < mpmath.mpf("1e300") and abs(expected) > mpmath.mpf("1e-300"):
        assert abs(mpmath.mpf(float(found)) / expected - 1) <= tolerance, (found, mpmath.nstr(expected, 20))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("log_alpha", LOG_ALPHAS)
def test_predictor_potential_and_dual(depth, log_alpha):
    D, a = mpmath.mpf(depth), mpmath.exp(mpmath.mpf(log_alpha))
    k = D - 2
    s = D / k
    h, primitive, slope = derived(H_OF_T), derived(INTEGRAL_OF_T), derived(SLOPE_OF_T)
    given = {"log_alpha": log_alpha, "depth": depth}
    for ell in ELLS:
        t = k * mpmath.mpf(ell) / 2
        z, beta = mpmath.tanh(t), a**D * h(t, s)
        # ell and log alpha are exact inputs; what is large in an exponent is rounded once.
        loose = 1e-14 + 5e-16 * depth * (abs(ell) + abs(log_alpha))
        check(deep_potential.predictor(ell, **given), beta, loose)
        check(deep_potential.slope(ell, **given), a**D * slope(t, s) * (1 - z**2) * k / 2, loose)
        check(deep_potential.conjugate(ell, **given), a**2 * (primitive(t, s) - primitive(mpmath.mpf(0), s)), loose)
        if not mpmath.mpf("1e-300") < abs(beta) < mpmath.mpf("1e300"):
            continue
        b = float(beta)
        exact = mpmath.findroot(lambda x, b=b: mpmath.log(a**D * h(k * mpmath.exp(x) / 2, s) / abs(mpmath.mpf(b))),
                                mpmath.log(abs(ell)), tol=mpmath.mpf(10) ** -900)
        t = k * mpmath.exp(exact) / 2
        check(abs(deep_potential.mirror(b, **given)), mpmath.exp(exact), 1e-14)
        check(abs(deep_potential.gradient(b, **given)), mpmath.tanh(t) / a**k, 1e-14)
        potential = a**2 * (mpmath.tanh(t) * abs(mpmath.mpf(b)) / a**D - primitive(t, s) + primitive(mpmath.mpf(0), s))
        check(deep_potential.terms(b, **given), potential, 5e-14)


@pytest.mark.parametrize("depth", DEPTHS)
def test_weights_and_their_scale(depth):
    # The law itself: u^(2-D) = alpha^(2-D) (1 - z), v^(2-D) = alpha^(2-D) (1 + z).
    k = mpmath.mpf(depth) - 2
    for log_alpha in (-1e5, -3.0, 50.0):
        for ell in ELLS:
            z = mpmath.tanh(k * mpmath.mpf(ell) / 2)
            log_u, log_v = deep_potential.weights(ell, log_alpha=log_alpha, depth=depth)
            for found, part in ((log_u, 1 - z), (log_v, 1 + z)):
                exact = mpmath.mpf(log_alpha) - mpmath.log(part) / k
                assert abs(mpmath.mpf(float(found)) - exact) <= 4e-16 * (abs(log_alpha) + abs(ell) + 1)
            assert float(deep_potential.scale_of(log_u, log_v, depth=depth)) == pytest.approx(log_alpha, rel=4e-15)


@functools.cache
def symbolic(n_samples):
    """Give the gradient of the symbolic network's loss in (u, v), and its Hessian times itself, for mpmath."""
    net = SymbolicDeepNetwork(n_samples, 3)
    gradient, weights = net.gradient(), [*net.u, *net.v]
    bent = sp.Matrix([sp.Add(*(sp.diff(g, w) * h for w, h in zip(weights, gradient, strict=True))) for g in gradient])
    symbols = [*net.X, *net.y, *weights, K]
    return sp.lambdify(symbols, list(gradient), "mpmath"), sp.lambdify(symbols, list(bent), "mpmath")


def norm(vector):
    return mpmath.sqrt(mpmath.fsum(g**2 for g in vector))


def ascended(at, weights, step):
    """The gradient at the weights moved by `step` times the gradient there."""
    here = at(weights)
    return at([w + step * g for w, g in zip(weights, here, strict=True)])


def descent(rule, X, y, weights, k):
    """What each rule descends along, from the symbolic gradient alone."""
    n = len(y)

    def whole(w):
        return symbolic(n)[0](*X.ravel(), *y, *w, k)

    def sample(i):
        return lambda w: symbolic(1)[0](*X[i], y[i], *w, k)

    here = whole(weights)
    if isinstance(rule, dln.SAM):
        parts = [sample(i) for i in range(n)] if rule.per_sample else [whole]
        found = [ascended(at, weights, rule.rho / norm(at(weights)) if rule.normalized else rule.rho) for at in parts]
        return [mpmath.fsum(column) / len(parts) for column in zip(*found, strict=True)]
    if isinstance(rule, dln.WeightDecay):
        return [g + 2 * rule.strength * w for g, w in zip(here, weights, strict=True)]
    if isinstance(rule, dln.GradientFlow):
        return here
    gamma = rule.gamma if rule.squared else rule.gamma / norm(here)
    if rule.scheme == "exact":
        change = symbolic(n)[1](*X.ravel(), *y, *weights, k)
    else:
        e = mpmath.mpf(rule.epsilon)
        above, below = ascended(whole, weights, e), ascended(whole, weights, -e)
        first, last, width = {"forward": (here, above, e), "backward": (below, here, e),
                              "centered": (below, above, 2 * e)}[rule.scheme]
        change = [(b - a) / width for a, b in zip(first, last, strict=True)]
    return [g + gamma * c for g, c in zip(here, change, strict=True)]


RULES = [dln.GradientFlow(), dln.WeightDecay(0.3), dln.SAM(0.05), dln.SAM(0.02, normalized=True),
         dln.SAM(0.05, per_sample=True), dln.SAM(0.02, normalized=True, per_sample=True),
         *(dln.GradientRegularization(0.2, e, scheme) for scheme in ("forward", "backward", "centered") for e in (0.05, 1e-9)),
         dln.GradientRegularization(0.2, scheme="exact"), dln.GradientRegularization(0.2, 0.05, squared=False),
         dln.GradientRegularization(0.2, scheme="exact", squared=False)]


@pytest.mark.parametrize("depth", [2.5, 3.0, 5.0])
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_the_velocity_of_every_rule(rule, depth):
    # The gradient of the symbolic network's loss, by sympy.
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((2, 3)), rng.standard_normal(2)
    log_u, log_v = rng.uniform(-0.7, 0.3, (2, 3))
    u, v = ([mpmath.exp(mpmath.mpf(w)) for w in logs] for logs in (log_u, log_v))
    expected = [-g / w for g, w in zip(descent(rule, X, y, u + v, mpmath.mpf(depth) - 2), u + v, strict=True)]
    X.flags.writeable = y.flags.writeable = False
    powers, r, f = np.empty((5, 3)), np.empty(2), np.empty(6)
    outcome = evaluate(address(rule.deep_kernel), X, y, 0.25, depth, np.concatenate([log_u, log_v]), np.zeros(6),
                       rule.parameters(3), powers, r, f, np.empty(6), np.empty((6, 3)), np.empty((2, 2)))
    assert outcome == 0
    size = max(abs(e) for e in expected)
    for found, exact in zip(f, expected, strict=True):
        assert abs(found - exact) <= 1e-13 * size
    for row, weights in ((UK, u), (VK, v)):
        for found, w in zip(powers[row], weights, strict=True):
            check(found, w ** mpmath.mpf(depth - 2), 1e-14)
    # Of u^D and v^D the smaller is only as accurate as the larger needs it; beta is their difference, without cancellation.
    for j in range(3):
        u_power, v_power = u[j] ** mpmath.mpf(depth), v[j] ** mpmath.mpf(depth)
        for found, exact in ((powers[UD, j], u_power), (powers[VD, j], v_power)):
            assert abs(found - exact) <= 1e-14 * max(u_power, v_power)
        check(powers[BETA, j], u_power - v_power, 1e-14)
