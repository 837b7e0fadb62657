"""Potentials of reparametrisations: proved, and equal to closed forms, to quadrature and to flows integrated in the weights."""

import functools

import numpy as np
import pytest
import sympy as sp
from scipy.integrate import quad, solve_ivp
from scipy.optimize import brentq

import dln
import theory

MAPS = ["u**2", "u**3", "exp(u)", "sinh(u)", "log(1 + exp(u))", "u + u**3", "u*v"]


@functools.cache
def derived(u_map):
    return theory.derive_potential(u_map)


def at(potential, expression, **values):
    names = {symbol.name: symbol for symbol in expression.free_symbols}
    return float(expression.subs({names[key]: sp.Float(value, 40) for key, value in values.items() if key in names}))


@pytest.mark.parametrize("u_map", MAPS)
def test_every_step_is_proved_and_printed(u_map):
    potential = derived(u_map)
    words = str(potential.derivation)
    assert "Conserved quantity" in words and "strictly convex" in words
    assert len(potential.derivation.steps) >= 12
    assert all(step.proof for step in potential.derivation.steps)
    assert words.endswith(f"{len(potential.derivation.steps)} steps, all proved.")
    assert r"\begin{enumerate}" in potential.derivation.to_latex()
    assert "phi''" in str(potential)


def test_depth_2_is_the_hyperbolic_entropy():
    """Woodworth et al. 2020: asinh(beta/2alpha^2)/4, and the library's own evaluation of it."""
    p = derived("u**2")
    a, b, s = p.alpha, p.beta, p.s
    assert sp.simplify(p.inverse_mirror_map - sp.asinh(b / (2 * a**2)) / 4) == 0
    assert sp.simplify((p.mirror_map + 2 * a**2 * sp.sinh(4 * s)).rewrite(sp.exp)) == 0
    assert sp.simplify((p.conjugate - a**2 * (sp.cosh(4 * s) - 1) / 2).rewrite(sp.exp)) == 0
    assert sp.simplify(p.phi.subs(b, 0)) == 0
    assert p.radius == sp.oo
    for beta, alpha in ((0.3, 0.5), (-2.0, 0.1)):
        assert at(p, p.phi, beta=beta, alpha=alpha) == pytest.approx(dln.potential.value([beta], log_alpha=np.log(alpha)))


def test_depth_2_prints_in_the_textbook_form():
    """Woodworth et al. 2020, theorem 1: b asinh(b/2a^2)/4 - sqrt(b^2 + 4a^4)/4 + a^2/2, as it stands."""
    p = derived("u**2")
    a, b = p.alpha, p.beta
    assert p.phi == a**2 / 2 + b * sp.asinh(b / (2 * a**2)) / 4 - sp.sqrt(4 * a**4 + b**2) / 4


def test_sinh_has_its_inverse_in_closed_form():
    """Against quadrature and root finding, which use none of the closed forms; and sinh(alpha) = 0: phi' = atan(b/2)."""
    p = derived("sinh(u)")
    for alpha in (-2.0, 0.0, 0.3, 1.5):
        for beta in (-0.7, 1e-3, 1.5):
            inverse = at(p, p.inverse_mirror_map, beta=beta, alpha=alpha)
            assert inverse == pytest.approx(float(p.gradient(beta, alpha)), rel=1e-13)
            assert at(p, p.phi, beta=beta, alpha=alpha) == pytest.approx(float(p.value(beta, alpha)), rel=1e-13)
    assert sp.simplify(p.inverse_mirror_map.subs(p.alpha, 0) - sp.atan(p.beta / 2)) == 0


@pytest.mark.parametrize(("u_map", "count"), [("u**2", 2), ("u**3", 2), ("exp(u)", 2), ("sinh(u)", 1)])
def test_limits_of_the_potential_itself_are_steps(u_map, count):
    """The steps are proved when they are added; here they are steps, not a sentence, and of the value 1."""
    steps = [step for step in derived(u_map).derivation.steps if "over its leading term" in step.title]
    assert len(steps) == count and all(step.rhs == 1 and step.lhs.has(sp.Limit) for step in steps)


@pytest.mark.parametrize("log10_alpha", [-100, -8, -1, 0, 3])
def test_numbers_agree_with_the_hyperbolic_entropy_at_every_scale(log10_alpha):
    beta, alpha = np.array([1e-12, 0.5, -2.0, 1e3, 0.0]), 10.0**log10_alpha
    p, log_alpha = derived("u**2"), log10_alpha * np.log(10)
    assert p.value(beta, alpha) == pytest.approx(dln.potential.terms(beta, log_alpha=log_alpha), rel=1e-13, abs=0)
    assert p.gradient(beta, alpha) == pytest.approx(dln.potential.gradient(beta, log_alpha=log_alpha), rel=1e-14, abs=0)
    assert p.mirror(-p.gradient(beta, alpha), alpha) == pytest.approx(beta, rel=2e-13, abs=0)


def test_the_product_is_the_rotated_square():
    """theory of u*v: sinh(2 int g), potential (b asinh(b/a^2) - sqrt(b^2 + a^4) + a^2)/2 for u0 = sqrt(2) a, v0 = 0."""
    p = derived("u*v")
    a, b = 0.7, 1.3
    assert p.rate == sp.Rational(1, 2)
    expected = (b * np.arcsinh(b / a**2) - np.hypot(b, a**2) + a**2) / 2
    assert float(p.value(b, a / np.sqrt(2))) == pytest.approx(expected, rel=1e-14)
    assert at(p, p.phi, beta=b, alpha=a / np.sqrt(2)) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("depth", [3, 4, sp.Rational(5, 2)])
def test_symbolic_depth_is_the_potential_of_woodworth(depth):
    """h_D((1-z)^-s - (1+z)^-s), s = D/(D-2), alpha^2 q_D(beta/alpha^D), by quadrature and root finding."""
    p = derived("u**D")
    D, alpha = float(depth), 0.6
    power, scale = D / (D - 2), D * (D - 2) * alpha ** (D - 2)

    def h(z):
        return (1 - z) ** -power - (1 + z) ** -power

    assert at(p, p.radius, alpha=alpha, D=D) == pytest.approx(1 / scale, rel=1e-14)
    for z in (0.2, -0.7):
        s = -z / scale
        assert at(p, p.mirror_map, s=s, alpha=alpha, D=D) == pytest.approx(alpha**D * h(z), rel=1e-12)
        dual = alpha**2 * ((1 - z) ** (1 - power) + (1 + z) ** (1 - power) - 2) / (2 * D)
        assert at(p, p.conjugate, s=s, alpha=alpha, D=D) == pytest.approx(dual, rel=1e-12)
    numeric = theory.derive_potential(sp.Symbol("u") ** depth)
    beta = 0.9
    by_quad = quad(lambda b: brentq(lambda z: alpha**D * h(z) - b, 0, 1 - 1e-12, xtol=1e-15) / scale, 0, beta, epsabs=1e-12)[0]
    assert float(numeric.value(beta, alpha)) == pytest.approx(by_quad, rel=1e-10)
    with pytest.raises(ValueError, match=r"parameters without a value \(D\)"):
        p.value(0.1, 0.1)


def test_symbolic_limits_of_any_depth():
    """T17 and T18: weights alpha^(2-2D) of squares, alpha^(2-D) of the l1 norm, |b|^(2/D) among several."""
    p = derived("u**D")
    D, a, b = sp.Symbol("D"), p.alpha, p.beta
    values = {D: sp.Rational(7, 2), a: sp.Rational(1, 3), b: sp.Rational(-2)}
    free = {symbol.name: symbol for symbol in p.kernel.leading.free_symbols}
    values = {free[key.name]: value for key, value in values.items()}
    d, alpha, beta = (float(values[free[name]]) for name in ("D", "alpha", "beta"))
    assert p.kernel.holds and p.rich.holds
    assert float(p.kernel.leading.subs(values)) == pytest.approx(beta**2 * alpha ** (2 - 2 * d) / (4 * d**2))
    assert float(p.rich.leading.subs(values)) == pytest.approx(abs(beta) * alpha ** (2 - d) / (d * (d - 2)))
    assert float(p.rich.correction.subs(values)) == pytest.approx(-(abs(beta) ** (2 / d)) / (2 * (d - 2)))


@pytest.mark.parametrize(("u_map", "small", "large"), [("u**3", 1e-4, 1e3), ("exp(u)", -12.0, 12.0),
                                                       ("u**2", 1e-6, 1e4), ("log(1 + exp(u))", -12.0, 40.0)])
def test_limits_are_approached_by_the_numbers(u_map, small, large):
    p = derived(u_map)
    for alpha, limit, tolerance in ((large, p.kernel, 1e-6), (small, p.rich, 1e-2)):
        leading = limit.leading + (limit.correction or 0)
        assert float(p.value(0.8, alpha)) == pytest.approx(at(p, leading, beta=0.8, alpha=alpha), rel=tolerance)


@pytest.mark.parametrize(("u_map", "alphas"), [("u**3", (0.3, 1.0)), ("exp(u)", (-1.0, 0.5)), ("sinh(u)", (0.0, -2.0, 1.5)),
                                               ("log(1 + exp(u))", (-1.0, 2.0)), ("u + u**3", (0.0, 0.4))])
def test_fenchel_curvature_and_mirror_hang_together(u_map, alphas):
    """Equality of Fenchel and Young, and the slope of the gradient by central differences."""
    p = derived(u_map)
    for alpha in alphas:
        beta = np.array([-0.7, 1e-9, 0.2, 1.5])
        slope = p.gradient(beta, alpha)
        assert np.all(np.abs(slope) < p.domain(alpha))
        assert p.mirror(-slope, alpha) == pytest.approx(beta, rel=1e-13)
        assert p.value(beta, alpha) + p.dual(-slope, alpha) == pytest.approx(beta * slope, rel=1e-13)
        steps = 1e-5 * np.maximum(np.abs(beta), 1e-3)
        by_difference = (p.gradient(beta + steps, alpha) - p.gradient(beta - steps, alpha)) / (2 * steps)
        assert p.curvature(beta, alpha) == pytest.approx(by_difference, rel=1e-8)
        if p.mirror_map is not None:
            for one in slope[np.abs(beta) > 1e-3]:
                assert at(p, p.mirror_map, s=-one, alpha=alpha) == pytest.approx(float(p.mirror(-one, alpha)), rel=1e-12)


@pytest.mark.parametrize(("u_map", "alpha"), [("u**3", 0.4), ("exp(u)", -0.5), ("sinh(u)", 0.3), ("log(1 + exp(u))", -0.5),
                                              ("u + u**3", 0.2), ("u**2", 0.2)])
def test_flow_in_the_weights_ends_at_the_minimiser(u_map, alpha):
    """SciPy integrates u' = -f'(u) g, v' = f'(v) g and knows nothing of the potential."""
    p = derived(u_map)
    rng = np.random.default_rng(5)
    X = rng.standard_normal((2, 5))
    y = X @ np.array([0.8, -0.6, 0.0, 0.0, 0.0])
    f, slope = (sp.lambdify(p.w, e, "numpy") for e in (p.f, sp.diff(p.f, p.w)))

    def field(t, state):
        u, v = np.split(state, 2)
        g = X.T @ (X @ (f(u) - f(v)) - y) / 4
        return np.concatenate([-slope(u) * g, slope(v) * g])

    run = solve_ivp(field, (0, 3e3), np.full(10, alpha), method="LSODA", rtol=1e-11, atol=1e-13)
    u, v = np.split(run.y[:, -1], 2)
    best = p.minimize(X, y, alpha, tol=1e-13)
    assert best.success, best.message
    # A residual r leaves a gap of about 2 r.
    assert best.residual <= 1e-13 and best.duality_gap < 1e-12 and best.stationarity < 1e-12
    assert np.max(np.abs(f(u) - f(v) - best.beta)) < 1e-7


@pytest.mark.parametrize("alpha", [1e-3, 0.1, 30.0])
def test_minimiser_of_depth_2_is_that_of_the_library(alpha):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((4, 7))
    X = np.vstack([X, X[0]])
    y = X @ np.array([1.0, -1.0, 0.5, 0, 0, 0, 0])
    scales = alpha * np.linspace(0.8, 1.2, 7)
    best = derived("u**2").minimize(X, y, scales)
    assert best.success
    assert best.beta == pytest.approx(dln.minimize_potential(dln.Problem(X, y), alpha=scales).beta, rel=1e-11, abs=1e-12)


def test_where_the_mirror_map_ends_the_minimiser_says_so():
    """For w^(3/2) |beta| is less than (2 sqrt(alpha))^3: v would reach 0."""
    p = derived("u**(3/2)")
    assert not p.rich.holds and "converges" in p.rich.reason
    with pytest.raises(ValueError, match=r"beta\[1\] = 0.01 is out of reach for alpha = 0.01"):
        p.value([0.005, 0.01], 0.01)
    best = p.minimize([[1.0, 0.0]], [1.0], 0.01)
    assert not best.success and "within reach" in best.message


@pytest.mark.parametrize(("beta", "alpha"), [(1e-6, 1.0), (0.5, 0.1)])
def test_precision_on_request(beta, alpha):
    """50 digits against the closed form in 90."""
    import mpmath

    p = derived("u**2")
    with mpmath.workdps(90):
        b, a = mpmath.mpf(beta), mpmath.mpf(alpha)
        expected = (b * mpmath.asinh(b / (2 * a**2)) - mpmath.sqrt(b**2 + 4 * a**4) + 2 * a**2) / 4
        assert abs(p.value(-beta, alpha, precision=50)[()] / expected - 1) < mpmath.mpf(10) ** -49
        assert abs(p.gradient(beta, alpha, precision=50)[()] / (mpmath.asinh(b / (2 * a**2)) / 4) - 1) < mpmath.mpf(10) ** -49
        s = mpmath.mpf(0.3)
        assert abs(p.mirror(0.3, alpha, precision=50)[()] / (-2 * a**2 * mpmath.sinh(4 * s)) - 1) < mpmath.mpf(10) ** -49


@pytest.mark.parametrize("u_map", ["u**3", "u**D", "exp(u)"])
def test_gradient_regularization_beyond_depth_2_has_no_potential_and_says_why(u_map):
    with pytest.raises(theory.NoPotential, match="contains u and v separately") as caught:
        theory.derive_potential(u_map, rule="gr")
    assert "\n" not in caught.value.reason
    titles = [step.title for step in caught.value.derivation.steps]
    assert any("witness" in title for title in titles) and len(titles) == 3


def test_two_paths_of_equal_int_g2_end_at_different_invariants_at_depth_3_and_not_at_depth_2():
    """The claim of `NoPotential`, by integration: p first and q after it, or the other way round."""
    for depth, closes in ((2, True), (3, False)):
        ends = []
        for order in ((1, 0), (0, 1)):
            state = np.array([1.0, 1.0])
            for kind in order:
                def field(t, w, kind=kind, depth=depth):
                    slope, second = depth * w ** (depth - 1), depth * (depth - 1) * w ** (depth - 2)
                    return np.array([-slope[0], slope[1]]) * 0.1 if kind else -slope * second * 0.01

                state = solve_ivp(field, (0, 1), state, rtol=1e-11, atol=1e-13).y[:, -1]
            ends.append(np.sum(np.log(state)) / 2 if depth == 2 else np.sum(-1 / (3 * state)))
        apart = abs(ends[0] - ends[1])
        assert apart < 1e-9 if closes else apart > 1e-4


def test_gradient_regularization_at_depth_2_keeps_its_potential():
    p = theory.derive_potential("u**2", rule="gr")
    assert any("F(alpha_eff) = F(alpha) - 2 gamma int g^2" in words for words in p.derivation.conclusions)


@pytest.mark.parametrize(("u_map", "message"), [
    ("u**2*v**2", "does not reduce to a separable form"),
    ("-u", "does not increase"),
    ("u + (1", "cannot be read"),
    ("__import__('os')", "is not an expression"),
    ("3", "must be an expression of a weight"),
    ("a*x**2 + b", "call the weight u"),
])
def test_bad_maps_are_answered_in_one_line(u_map, message):
    with pytest.raises(ValueError, match=message) as caught:
        theory.derive_potential(u_map)
    assert "\n" not in str(caught.value)


def test_bad_arguments_are_answered_in_one_line():
    p = derived("u**2")
    for call, message in ((lambda: p.value([1.0, np.nan], 1.0), r"beta\[1\] must be finite"),
                          (lambda: p.value(1.0, -1.0), "alpha must be positive"),
                          (lambda: p.value(1.0, 1.0, precision=0), "precision must be"),
                          (lambda: p.minimize([[1.0, 2.0]], [1.0, 2.0], 1.0), "X must have shape"),
                          (lambda: p.minimize([[1.0], [1.0]], [1.0, 2.0], 1.0), "has no solution"),
                          (lambda: p.minimize([[1.0, 1.0]], [1.0], [1.0, 1.0, 1.0]), "alpha must be a number"),
                          (lambda: theory.derive_potential("u**2", rule="sam"), "rule must be"),
                          (lambda: theory.derive_potential("u**2", weights="all"), "weights must be"),
                          (lambda: derived("u**3").mirror(2.0, 1.0), "s = 2 is out of reach")):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_budget_ends_a_call_whose_algebra_does_not():
    from theory._budget import within

    def forever():
        while True:
            abs(sp.Integer(1))

    assert within(1000, forever) is None
    assert within(1000, lambda: 3) == 3
