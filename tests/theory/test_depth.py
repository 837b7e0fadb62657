"""Depth D > 2: the potential against high precision, the symbols against the numbers, and what uneven decay breaks."""

import dataclasses

import numpy as np
import pytest
import sympy as sp

import theory
from dln import deep_potential
from theory import _deep, _depth_steps, depth
from theory._derivation import Derivation, DerivationError
from theory._dual import follow_minimisers, row_space
from theory._minimiser import minimise_divergence
from theory._setting import Setting, default_data

SMALL = default_data(2)[1]
DEPTHS = [2.2, 2.5, 3.0, 3.7, 4.0, 7.0]


@pytest.mark.parametrize("d", DEPTHS)
@pytest.mark.parametrize("z", ["1e-12", "0.3", "-0.9", "0.999999999999"])
def test_the_mirror_map_and_its_inverse_agree_with_40_digits(d, z):
    """Reference: mpmath, of the powers themselves. An inverse is as good as its log(u/v) = 2 l/(D - 2)."""
    mpmath = pytest.importorskip("mpmath")
    s = d / (d - 2)
    with mpmath.workdps(40):
        exact, power = mpmath.mpf(z), mpmath.mpf(s)
        x = (1 - exact) ** -power - (1 + exact) ** -power
        where = float(mpmath.atanh(exact))
        value = _deep.number(_deep.H_OF_T)(where, s)
        assert float(abs(value / x - 1)) < 1e-12
        if abs(x) < 1e150:
            assert _deep.inverse_h(np.array([float(x)]), s)[0] == pytest.approx(where, rel=1e-13)


@pytest.mark.parametrize("d", DEPTHS)
def test_potential_slope_and_curvature_agree_with_quadrature(d):
    """Reference: mpmath: h is inverted by bisection, differentiated, and its inverse integrated as int z h'(z) dz."""
    mpmath = pytest.importorskip("mpmath")
    phi = _deep.potential_of(d)
    b, a = 0.7, 0.8
    with mpmath.workdps(30):
        s = mpmath.mpf(d) / (mpmath.mpf(d) - 2)
        x = mpmath.mpf(b) / mpmath.mpf(a) ** d

        def h(z):
            return (1 - z) ** -s - (1 + z) ** -s

        z = mpmath.findroot(lambda z: h(z) - x, (0, 1 - mpmath.mpf(10) ** -12), solver="bisect", maxsteps=200, verify=False)
        slope = mpmath.diff(h, z)
        value = mpmath.quad(lambda z: z * mpmath.diff(h, z), [0, z])
        assert float(mpmath.fabs(h(z) - x)) < 1e-20
        assert phi.value(b, a) == pytest.approx(float(mpmath.mpf(a) ** 2 * value), rel=1e-11)
        assert phi.slope(b, a) == pytest.approx(float(z * mpmath.mpf(a) ** (2 - d)), rel=1e-13)
        assert phi.curvature(b, a) == pytest.approx(float(mpmath.mpf(a) ** (2 - 2 * d) / slope), rel=1e-12)


@pytest.mark.parametrize("d", DEPTHS)
def test_the_library_has_the_same_potential(d):
    """Reference: `dln.deep_potential`, which shares no code with the potential of the checks."""
    b, a = np.array([-3.0, 1e-3, 0.2, 40.0]), np.array([0.3, 1.0, 2.0, 0.5])
    phi = _deep.potential_of(d)
    # The value is a difference, and serves as an objective only: its error is one of rounding beside alpha^2.
    expected = deep_potential.terms(b, log_alpha=np.log(a), depth=d)
    assert np.all(np.abs(phi.value(b, a) - expected) < 1e-12 * (expected + a**2))
    np.testing.assert_allclose(phi.slope(b, a), deep_potential.gradient(b, log_alpha=np.log(a), depth=d), rtol=1e-13)


def test_the_potential_tends_to_the_entropy_of_depth_2():
    """Reference: the derived potential of depth 2. Over 2 (D - 2), the difference is of first order in D - 2."""
    b, a = np.array([-2.0, 0.4, 3.0]), np.array([0.5, 0.7, 1.1])
    entropy = (b * np.arcsinh(b / (2 * a**2)) - np.sqrt(b**2 + 4 * a**4) + 2 * a**2) / 4
    errors = [np.max(np.abs(_deep.potential_of(2 + k).value(b, a) / (2 * k) - entropy)) for k in (0.02, 0.01)]
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize("d", [2.5, 3.0, 4.0])
def test_primal_and_dual_minimise_alike(d):
    """Reference: each other; one works in the null space of X, the other in one number per sample."""
    log_alpha = np.log(Setting(SMALL).alpha)
    dual = follow_minimisers(*row_space(SMALL.X, SMALL.y), [log_alpha], d)[0]
    primal = minimise_divergence(SMALL.X, SMALL.y, log_alpha, np.zeros_like(log_alpha), _deep.potential_of(d))
    assert primal.stationarity < 1e-12
    np.testing.assert_allclose(primal.beta, dual, rtol=0, atol=1e-12 * np.max(np.abs(dual)))


@pytest.mark.parametrize("d", [2.5, 3.7])
def test_numbers_and_symbols_are_one_network(d):
    """Reference: sympy's gradient of the symbolic loss of depth D."""
    symbolic = _deep.SymbolicDeepNetwork()
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((2, 2)), rng.standard_normal(2)
    u, v = rng.uniform(0.5, 1.5, (2, 2))
    symbols, values = (*symbolic.X, *symbolic.y, *symbolic.u, *symbolic.v, _deep.K), (*X.ravel(), *y, *u, *v, d - 2)
    place = dict(zip(symbols, values, strict=True))
    expected = [float(slope.subs(place)) for slope in symbolic.gradient()]
    np.testing.assert_allclose(np.concatenate(_deep.DeepNetwork(X, y, d).gradient(u, v)), expected, rtol=1e-12)


def test_uneven_decay_keeps_the_invariant_and_loses_the_minimiser():
    """The conservation law and the closed form hold coordinate by coordinate; the minimiser needs one strength for all."""
    found = theory.get("T3").check(SMALL, mutant="lam per coordinate").details[SMALL.name]
    assert len(found) == 3
    for part in found.values():
        for name in ("engine_beta", "engine_scale", "law", "closed_form"):
            assert max(part[name]) < 1e-11
        assert max(part["argmin"]) > 1e-3


def test_the_stand_in_engine_of_the_mutants_is_right():
    """Else they would be rejected for the wrong reason."""
    setting = Setting(SMALL)
    parts = depth.parts(setting)
    assert {part.setting.depth for part in parts} == {2.5, 3.0, 3.7, 4.0}
    for part in parts:
        if not part.trained.breakpoints:
            right = dataclasses.replace(part, engine=depth._stand_in(part, part.setting.depth))
            assert right.measure(setting).passed, part.name


@pytest.mark.parametrize("slip", ["rate D", "no decay", "sign of v"])
def test_a_wrong_law_is_not_proved(slip):
    """The law of u^(2-D), with slips."""
    d = Derivation("T0", "wrong")
    _depth_steps.exponents(d)
    _depth_steps.law(d)
    t, k, D = sp.Symbol("t", nonnegative=True), _deep.K, _depth_steps.DEPTH
    u, v = (sp.Function(name, positive=True)(t) for name in "uv")
    g, lam = sp.Function("g", real=True)(t), sp.Function("lambda", real=True)(t)
    d.equal("right", "differentiation", sp.Derivative(u**-k, t), k * D * g + 2 * k * lam * u**-k)
    wrong = {"rate D": (u, D * g + 2 * k * lam * u**-k), "no decay": (u, k * D * g),
             "sign of v": (v, k * D * g + 2 * k * lam * v**-k)}
    weight, rate = wrong[slip]
    with pytest.raises(DerivationError, match="'wrong'"):
        d.equal("wrong", "differentiation", sp.Derivative(weight**-k, t), rate)
