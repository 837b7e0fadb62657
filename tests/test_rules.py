"""Every rule is its pair (p, q): against raw weight gradients, which know nothing of the closed forms in the kernels."""

import math

import mpmath
import numpy as np
import pytest
from weight_space import descent, grad, length

import dln
from dln import SAM, Flooding, GradientFlow, GradientRegularization, Rule, WeightDecay
from dln.rules.gradient_regularization import gradient_norm

interpreted = pytest.mark.interpreted
SHAPES = [(1, 1), (1, 4), (3, 5), (4, 4), (5, 3)]
SCHEMES = ("forward", "backward", "centered", "exact")
GR = [GradientRegularization(0.3, None if scheme == "exact" else epsilon, scheme, squared)
      for scheme in SCHEMES for epsilon in (0.05, 2.0) for squared in (True, False)
      if (scheme, epsilon) != ("exact", 2.0)]  # fmt: skip
SAMS = [SAM(0.1, normalized, per_sample) for normalized in (False, True) for per_sample in (False, True)]
DECAYS = [WeightDecay(0.7), WeightDecay(-0.1), WeightDecay(lambda t: 1.0 / (1.0 + t))]
FLOODS = [Flooding(level, per_sample) for level in (0.0, 0.5, 1e6) for per_sample in (False, True)]
RULES = [GradientFlow(), *GR, *SAMS, *DECAYS, *FLOODS]


def name(rule):
    return repr(rule) if not isinstance(rule, WeightDecay) else f"WeightDecay({type(rule.strength).__name__})"


def draw(n, d, seed=0, scale=1.0):
    rng = np.random.default_rng([n, d, seed])
    X, y = rng.standard_normal((n, d)), rng.standard_normal(n)
    u, v = scale * np.exp(rng.uniform(-1, 1, (2, d)))
    return X, y, u, v


def pair(rule, X, y, u, v, t=0.0):
    """Return (p, q, r) from the rule's kernel."""
    n, d = X.shape
    X, y = np.array(X), np.array(y)
    X.flags.writeable = y.flags.writeable = False
    r, coef, q = np.full(n, np.nan), np.full(n, np.nan), np.zeros(d)
    rule.kernel(X, y, 1.0 / (2 * n), u * u - v * v, u * u + v * v, rule.parameters(d, t), r, coef, q,
                np.full((3, d), np.nan), np.full((2, n), np.nan))
    np.testing.assert_allclose(r, X @ (u * u - v * v) - y, rtol=1e-12, atol=1e-12)
    return X.T @ coef, q, r


def close(a, b, tolerance=1e-12):
    scale = float(np.max(np.abs(b)))
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


@interpreted
@pytest.mark.parametrize("rule", RULES, ids=name)
def test_the_pair_is_that_of_the_weight_gradients(rule):
    # Reference: the definition in the weights: -du/(2u) = p + q and dv/(2v) = p - q.
    for n, d in SHAPES:
        for seed, scale in ((0, 1.0), (1, 0.1), (2, 3.0)):
            X, y, u, v = draw(n, d, seed, scale)
            p, q, _ = pair(rule, X, y, u, v, t=0.4)
            down_u, down_v = descent(rule, X, y, u, v, t=0.4)
            plus, minus = down_u / (2 * u), -down_v / (2 * v)
            size = np.max(np.abs([plus, minus]))
            np.testing.assert_allclose(p + q, plus, rtol=0, atol=1e-12 * size)
            np.testing.assert_allclose(p - q, minus, rtol=0, atol=1e-12 * size)


@interpreted
def test_decay_with_one_strength_per_coordinate():
    # Reference: q is the strength itself, p is that of gradient flow to the last bit.
    X, y, u, v = draw(3, 5)
    strength = np.array([0.0, 1.0, -0.5, 1e-300, 1e5])
    p, q, _ = pair(WeightDecay(strength), X, y, u, v)
    assert np.array_equal(q, strength)
    assert np.array_equal(p, pair(GradientFlow(), X, y, u, v)[0])
    p, q, _ = pair(WeightDecay(lambda t: strength * t), X, y, u, v, t=3.0)
    assert np.array_equal(q, 3.0 * strength)


@interpreted
def test_sam_is_the_forward_difference_with_equal_steps():
    # Reference: identity, SAM(rho) = GR forward with gamma = epsilon = rho; one sample: 1-SAM = SAM.
    X, y, u, v = draw(4, 6)
    for a, b in zip(pair(SAM(0.2), X, y, u, v), pair(GradientRegularization(0.2, 0.2), X, y, u, v), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-15)
    X, y, u, v = draw(1, 6)
    for normalized in (False, True):
        for a, b in zip(pair(SAM(0.2, normalized), X, y, u, v), pair(SAM(0.2, normalized, True), X, y, u, v), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@interpreted
def test_without_strength_every_rule_is_gradient_flow():
    # Reference: gamma = 0, rho = 0, lam = 0.
    X, y, u, v = draw(3, 5)
    p0, q0, _ = pair(GradientFlow(), X, y, u, v)
    assert not q0.any()
    nothing = [WeightDecay(0.0), *(SAM(0.0, a, b) for a in (False, True) for b in (False, True)),
               *(GradientRegularization(0.0, None if s == "exact" else 0.1, s, sq) for s in SCHEMES for sq in (False, True))]
    for rule in nothing:
        p, q, _ = pair(rule, X, y, u, v)
        np.testing.assert_allclose(p, p0, rtol=1e-14, err_msg=name(rule))
        assert not q.any(), name(rule)


@interpreted
@pytest.mark.parametrize("rule", [*GR, *SAMS, GradientFlow()], ids=name)
def test_a_zero_gradient_is_defined(rule):
    # Reference: at an interpolator, with X = 0, and at u = v = 0 with y = 0 there is nothing to ascend: p = q = 0.
    X, _, u, v = draw(3, 5)
    u, v = np.round(4 * u) / 4, np.round(4 * v) / 4
    X = np.round(4 * X) / 4
    for data, target, a, b in ((X, X @ (u * u - v * v), u, v), (0 * X, np.zeros(3), u, v), (X, np.zeros(3), 0 * u, 0 * v),
                               (0 * X, np.ones(3), u, v)):
        p, q, _ = pair(rule, data, target, a, b)
        assert not p.any() and not q.any()


@interpreted
@pytest.mark.parametrize("rule", [*SAMS[2:], GradientRegularization(0.3, 0.1, squared=False)], ids=name)
def test_dead_weights_have_no_direction_to_ascend(rule):
    # Reference: at u = v = 0 the weight gradient is 0 whatever y is; then the rule is the plain gradient.
    X, y, u, _ = draw(3, 5)
    p, q, _ = pair(rule, X, y, 0 * u, 0 * u)
    close(p, X.T @ (-y) / 6)
    assert not q.any()


# Ascent steps from 1e-12 to 1e6 ---------------------------------------------------------------------------------------


def exact_descent(rule, X, y, u, v):
    """`descent` of a full-batch GR with 80 digits, as (p + q, p - q)."""
    with mpmath.workdps(80):
        lift = np.vectorize(lambda x: mpmath.mpf(float(x)), otypes=[object])
        X, y, u, v = (lift(a) for a in (X, y, u, v))
        theta, G = np.array([u, v]), grad(X, y, u, v)
        gamma, e = mpmath.mpf(rule.gamma), mpmath.mpf(rule.epsilon)
        if not rule.squared:
            gamma = gamma / mpmath.sqrt(sum(x**2 for x in G.flat))
        up, down = (grad(X, y, *(theta + s * e * G)) for s in (1, -1))
        change = {"forward": (up - G) / e, "backward": (G - down) / e, "centered": (up - down) / (2 * e)}[rule.scheme]
        down_u, down_v = G + gamma * change
        return (down_u / (2 * u)).astype(float), (-down_v / (2 * v)).astype(float)


@interpreted
@pytest.mark.parametrize("scheme", SCHEMES[:3])
@pytest.mark.parametrize("epsilon", [1e-300, 1e-30, 1e-12, 1e-6, 1e-2, 1e2, 1e6])
def test_any_ascent_step_keeps_all_digits(scheme, epsilon):
    # Reference: the difference quotient itself with 80 digits; from 1e-12 down doubles would keep none of it.
    X, y, u, v = draw(3, 5)
    if epsilon < 1e-60:  # the quotient is that of the exact Hessian to all digits
        expected = descent(GradientRegularization(0.3, scheme="exact"), X, y, u, v)
        expected = expected[0] / (2 * u), -expected[1] / (2 * v)
    else:
        expected = exact_descent(GradientRegularization(0.3, epsilon, scheme), X, y, u, v)
    p, q, _ = pair(GradientRegularization(0.3, epsilon, scheme), X, y, u, v)
    size = np.max(np.abs(expected))
    np.testing.assert_allclose(p + q, expected[0], rtol=0, atol=2e-14 * size)
    np.testing.assert_allclose(p - q, expected[1], rtol=0, atol=2e-14 * size)


@interpreted
@pytest.mark.parametrize("scheme", SCHEMES[:3])
def test_the_differences_tend_to_the_hessian(scheme):
    # Reference: the exact scheme, at slope 1, 1, 2 in epsilon.
    X, y, u, v = draw(3, 5)
    limit = np.concatenate(pair(GradientRegularization(0.3, scheme="exact"), X, y, u, v)[:2])
    steps = (1e-2, 1e-3, 1e-4)
    near = [np.concatenate(pair(GradientRegularization(0.3, e, scheme), X, y, u, v)[:2]) for e in steps]
    errors = np.linalg.norm(np.array(near) - limit, axis=1)
    slopes = np.diff(np.log(errors)) / np.diff(np.log(steps))
    np.testing.assert_allclose(slopes, 2.0 if scheme == "centered" else 1.0, atol=0.05)


@interpreted
@pytest.mark.parametrize("scale", [1e-150, 1e-40, 1e40])
@pytest.mark.parametrize("rule", [SAM(0.1, True), GradientRegularization(0.3, 1e-3, squared=False)], ids=name)
def test_the_length_of_the_gradient_neither_overflows_nor_underflows(rule, scale):
    # Reference: |grad L| is homogeneous, of degree 1/2 in size and 1 in g; the squares of g are beyond the floats.
    X, y, u, v = draw(3, 5)
    norm = gradient_norm((u * u + v * v) * scale, scale * np.arange(1.0, 6.0))
    reference = 2 * math.sqrt(float(np.sum((u * u + v * v) * np.arange(1.0, 6.0) ** 2)))
    assert norm == pytest.approx(scale * math.sqrt(scale) * reference, rel=1e-14)
    p, q, _ = pair(rule, X, y, 1e-60 * u, 1e-60 * v)
    assert np.isfinite(p).all() and np.isfinite(q).all()


@interpreted
def test_normalised_sam_at_tiny_residuals():
    # Reference: p = g + (rho/|G|) H(4 g size) + O(rho^2): the direction does not depend on the size of the residual.
    X, y, u, v = draw(3, 5)
    beta = u * u - v * v
    y = np.round(2**20 * (X @ beta)) / 2**20
    for per_sample in (False, True):
        p, q, r = pair(SAM(1e-3, True, per_sample), X, y, u, v)
        assert np.max(np.abs(r)) < 1e-6 and np.isfinite(p).all() and np.isfinite(q).all()
        down_u, down_v = descent(SAM(1e-3, True, per_sample), X, y, u, v)
        np.testing.assert_allclose(p + q, down_u / (2 * u), rtol=0, atol=1e-8 * np.max(np.abs(p)))
        np.testing.assert_allclose(p - q, -down_v / (2 * v), rtol=0, atol=1e-8 * np.max(np.abs(p)))


# Curvature ------------------------------------------------------------------------------------------------------------


CURVED = [GradientFlow(), WeightDecay(0.4), SAM(0.1), SAM(0.1, per_sample=True),
          *(GradientRegularization(0.3, None if s == "exact" else 0.2, s) for s in SCHEMES)]


@interpreted
@pytest.mark.parametrize("rule", CURVED, ids=name)
def test_curvature_is_the_jacobian_at_small_gradients(rule):
    # Reference: central differences of coef along the dual variable nu, log(u/v) = log(u0/v0) + 4 X^T nu with u v fixed, at an
    # interpolator (g = 0): d coef/d nu = S (K + kappa K^2) with K = 4 c X diag(size) X^T.
    n, d = 3, 6
    X, _, u, v = draw(n, d)
    c, log_product, log_ratio = 1 / (2 * n), np.log(u * v), np.log(u / v)
    y = X @ (u * u - v * v)

    def coefficients(nu):
        ratio = log_ratio + 4 * X.T @ nu
        a, b = np.exp(0.5 * (log_product + ratio)), np.exp(0.5 * (log_product - ratio))
        p, _, _ = pair(rule, X, y, a, b)
        return np.linalg.lstsq(X.T, p, rcond=None)[0]

    h = 1e-5
    numeric = np.array([(coefficients(h * e) - coefficients(-h * e)) / (2 * h) for e in np.eye(n)]).T
    size = u * u + v * v
    row_scale, data = np.full(n, np.nan), np.array(X)
    data.flags.writeable = False
    kappa = rule.curvature(data, c, u * u - v * v, size, np.zeros(n), rule.parameters(d), row_scale, np.empty((3, d)))
    K = 4 * c * (X * size) @ X.T
    close((K + kappa * K @ K) / row_scale[:, None], numeric, 1e-7)


@interpreted
def test_normalised_curvature_divides_by_the_gradient():
    # Reference: kappa = rho/|grad L| (gamma/|grad L|), row_scale = 1/(1 + 2 rho_i sum x^2 size); 0 where the gradient is.
    n, d = 3, 6
    X, y, u, v = draw(n, d)
    c, size, beta = 1 / (2 * n), u * u + v * v, u * u - v * v
    r = X @ beta - y
    X.flags.writeable = False
    total = length(grad(X, y, u, v))
    for rule, strength in ((SAM(0.1, True), 0.1), (GradientRegularization(0.3, 0.2, squared=False), 0.3)):
        scale, work = np.empty(n), np.empty((3, d))
        kappa = rule.curvature(X, c, beta, size, r, rule.parameters(d), scale, work)
        assert kappa == pytest.approx(strength / total, rel=1e-13) and scale.tolist() == [1.0] * n
        assert rule.curvature(X, c, beta, size, 0 * r, rule.parameters(d), scale, work) == 0.0
    scale, rule = np.empty(n), SAM(0.1, True, True)
    assert rule.curvature(X, c, beta, size, r, rule.parameters(d), scale, np.empty((3, d))) == 0.0
    square = (X * X) @ size
    np.testing.assert_allclose(scale, 1 / (1 + 2 * 0.1 / (np.abs(r) * np.sqrt(square)) * square), rtol=1e-13)
    rule.curvature(X, c, beta, size, 0 * r, rule.parameters(d), scale, np.empty((3, d)))
    assert scale.tolist() == [1.0] * n


# Facts and refusals ---------------------------------------------------------------------------------------------------


@interpreted
def test_what_each_rule_says_of_itself():
    # Reference: the table of pairs.
    assert not GradientFlow().shrinks and GradientFlow().exact_curvature and not GradientFlow().time_dependent
    assert SAM(0.1).shrinks and SAM(0.1).settles and not SAM(0.1, True).settles
    assert SAM(0.1, per_sample=True).uses_samples and not SAM(0.1).uses_samples
    assert WeightDecay(lambda t: t).time_dependent and not WeightDecay(1.0).time_dependent
    assert WeightDecay(lambda t: t, breakpoints=[1, 2.5]).breakpoints == (1.0, 2.5)
    assert all(isinstance(rule, Rule) and rule.breakpoints == () for rule in RULES)
    assert {r.name for r in RULES} == {"flooding", "gradient-flow", "gr", "sam", "weight-decay"}


@interpreted
def test_rules_are_frozen_values():
    # Reference: equality by value, no assignment; numbers of any kind become floats.
    assert SAM(np.float32(0.5)) == SAM(0.5) and hash(SAM(0.5)) == hash(SAM(0.5)) and SAM(1) != SAM(2)
    assert isinstance(GradientRegularization(1, 2).gamma, float) and isinstance(GradientRegularization(1, 2).epsilon, float)
    with pytest.raises(AttributeError):
        SAM(0.1).rho = 1.0
    assert repr(GradientFlow()) == "GradientFlow()"


NAN, INF = math.nan, math.inf
BAD = [
    (ValueError, r"^gamma must be finite and at least 0, got -1", lambda: GradientRegularization(-1.0, 0.1)),
    (ValueError, r"^gamma must be finite and at least 0, got nan", lambda: GradientRegularization(NAN, 0.1)),
    (ValueError, r"^gamma must be finite and at least 0, got inf", lambda: GradientRegularization(INF, 0.1)),
    (TypeError, r"^gamma must be a number, got 'a lot'", lambda: GradientRegularization("a lot", 0.1)),
    (TypeError, r"^gamma must be a number, got True", lambda: GradientRegularization(True, 0.1)),
    (TypeError, r"^gamma must be a number, got 1j", lambda: GradientRegularization(1j, 0.1)),
    (TypeError, r"^gamma must be a number, got None", lambda: GradientRegularization(None, 0.1)),
    (ValueError, r"^epsilon must be finite and above 0, got 0", lambda: GradientRegularization(1.0, 0.0)),
    (ValueError, r"^epsilon must be finite and above 0, got -0.1", lambda: GradientRegularization(1.0, -0.1, "backward")),
    (ValueError, r"^epsilon must be finite and above 0, got nan", lambda: GradientRegularization(1.0, NAN, "centered")),
    (ValueError, r"^scheme 'forward' needs an ascent step: give epsilon > 0", lambda: GradientRegularization(1.0)),
    (ValueError, r"^scheme 'centered' needs an ascent step", lambda: GradientRegularization(1.0, scheme="centered")),
    (ValueError, r"^scheme 'exact' takes no epsilon, got epsilon=0.1; leave it out",
     lambda: GradientRegularization(1.0, 0.1, "exact")),
    (ValueError, r"^unknown scheme 'centred'; did you mean 'centered'\?", lambda: GradientRegularization(1.0, 0.1, "centred")),
    (ValueError, r"^unknown scheme 'Forward'; did you mean 'forward'\?", lambda: GradientRegularization(1.0, 0.1, "Forward")),
    (ValueError, r"^unknown scheme 'xyz'; known: forward, backward, centered, exact",
     lambda: GradientRegularization(1.0, 0.1, "xyz")),
    (ValueError, r"^unknown scheme 3; known: ", lambda: GradientRegularization(1.0, 0.1, 3)),
    (ValueError, r"^rho must be finite and at least 0, got -0.5", lambda: SAM(-0.5)),
    (ValueError, r"^rho must be finite and at least 0, got inf", lambda: SAM(INF, True)),
    (TypeError, r"^rho must be a number, got \[0.1\]", lambda: SAM([0.1])),
    (ValueError, r"^strength must be finite, got nan", lambda: WeightDecay(NAN)),
    (TypeError, r"^strength must be a number, a vector or a function of t, got 'x'", lambda: WeightDecay("x")),
    (ValueError, r"^strength must be a number, a vector \(d,\) or a function of t, got shape \(1, 2\)",
     lambda: WeightDecay([[1.0, 2.0]])),
    (ValueError, r"^strength must be a number or have shape \(3,\), .*; got shape \(2,\)",
     lambda: WeightDecay([1.0, 2.0]).parameters(3)),
    (ValueError, r"^strength\[1\] must be finite, got nan", lambda: WeightDecay([1.0, NAN]).parameters(2)),
    (ValueError, r"^strength must be finite, got inf at t = 2", lambda: WeightDecay(lambda t: INF).parameters(2, 2.0)),
    (ValueError, r"^strength\[0\] must be finite, got -inf at t = 0.5",
     lambda: WeightDecay(lambda t: [-INF, 0.0]).parameters(2, 0.5)),
    (ValueError, r"^strength must be a number or have shape \(2,\)", lambda: WeightDecay(lambda t: [1.0]).parameters(2)),
    (ValueError, r"^breakpoints must increase, got \(2.0, 1.0\)", lambda: WeightDecay(1.0, (2.0, 1.0))),
    (ValueError, r"^breakpoints must increase, got \(1.0, 1.0\)", lambda: WeightDecay(1.0, (1.0, 1.0))),
    (ValueError, r"^breakpoints\[1\] must be finite, got nan", lambda: WeightDecay(1.0, (0.0, NAN))),
    (TypeError, r"^breakpoints\[0\] must be a number, got 'a'", lambda: WeightDecay(1.0, ("a",))),
]


@interpreted
@pytest.mark.parametrize(("error", "message", "make"), BAD, ids=[m for _, m, _ in BAD])
def test_bad_parameters_are_named(error, message, make):
    with pytest.raises(error, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@interpreted
def test_strengths_and_breakpoints_of_other_types_are_refused_in_words():
    with pytest.raises((TypeError, ValueError), match="strength"):
        WeightDecay(["a", "b"]).parameters(2)
    with pytest.raises((TypeError, ValueError), match="breakpoints"):
        WeightDecay(1.0, 3.0)


@interpreted
def test_a_strength_is_not_changed_from_outside():
    # Reference: a rule is a frozen value; the array that made it is the caller's.
    strength = np.array([1.0, 2.0])
    rule = WeightDecay(strength)
    strength[0] = 77.0
    assert rule.parameters(2).tolist() == [1.0, 2.0]


def test_a_new_rule_is_one_new_class():
    # Reference: what the base class asks for: a kernel and parameters; the rest has defaults.
    class Half(Rule):
        name = "half"
        kernel = staticmethod(GradientFlow.kernel)

        def parameters(self, n_features, t=0.0):
            return np.empty(0)

    assert Half().curvature is dln.rules.base.plain_curvature and Half().settles and Half().shrinks
    with pytest.raises(TypeError, match="abstract"):
        Rule()


@pytest.mark.parametrize("gamma", [0.01, 0.3, 1.5, 3.0, 8.0])
def test_the_part_of_the_jacobian_that_is_left_out_saves_few_steps(monkeypatch, gamma):
    # Reference: the same run with the whole Jacobian.  Left out always, the last one would take 2.6 times as many steps.
    # At rtol 1e-5 and below Q is held alike by both.
    problem = dln.sparse_regression(20, 100, 5, rng=0)
    rule = GradientRegularization(gamma, 0.2)
    run = dln.flow(problem, rule, alpha=1e-3, rtol=1e-5)
    monkeypatch.setattr(GradientRegularization, "coupled", lambda self, steepest: True)
    whole = dln.flow(problem, rule, alpha=1e-3, rtol=1e-5)
    assert run.success and whole.success
    assert run.n_steps <= 1.15 * whole.n_steps
    np.testing.assert_allclose(run.beta, whole.beta, rtol=0.0, atol=3e-5 * np.abs(whole.beta).max())
