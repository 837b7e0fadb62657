"""T15: what its raw routes and its claims are, and that its check is not easy to please."""

import dataclasses

import numpy as np
import pytest
import sympy as sp
from scipy.integrate import quad

import theory
from theory import momentum
from theory._fields import gradient_flow
from theory._mutants import standard_problem
from theory._raw_momentum import flow_with_momentum, steps_with_momentum
from theory._raw_route import RouteError, integrate
from theory._setting import Data, Setting, default_data


@pytest.fixture(scope="module")
def setting():
    return Setting(standard_problem())


def pair_of(net):
    return lambda t, u, v: (net.beta_gradient(u, v), np.zeros_like(u))


def parts_of(setting, kind):
    return {part.name: part for part in momentum.parts(setting) if isinstance(part, kind)}


def test_every_claim_has_both_routes_in_agreement(setting):
    """Reference: the tolerances of the theorem; and runs named so do pass through 0."""
    found = {part.name: part.measure(setting) for part in momentum.parts(setting)}
    assert all(finding.passed for finding in found.values())
    assert {name for name, finding in found.items() if finding.details.get("sign_flips")} == {
        "heavy ball through 0", "Nesterov's steps through 0"}
    flow = found["flow"].details
    assert min(flow["mean_log_scale_change"]) < -1e-3  # inertia shrinks, and visibly
    assert found["flow"].tolerance == 1e-9
    assert found["heavy ball"].tolerance == 1e-10
    assert found["heavy ball through 0"].tolerance == 1e-8


def test_law_holds_on_data_of_any_units():
    """Reference: the same data, X times 1e3 and y times 1e-4."""
    data = default_data(1)[0]
    scaled = Setting(dataclasses.replace(data, X=1e3 * data.X, y=1e-4 * data.y))
    for part in (parts_of(scaled, momentum.FlowLaw)["flow"], parts_of(scaled, momentum.StepsLaw)["heavy ball"]):
        assert part.measure(scaled).passed


def test_quadrature_along_the_flow(setting):
    """Reference: a scalar equation solved by hand, u'' lam + u' = 0 apart from a force that is 0, and SciPy's quad."""
    times = np.array([0.5, 2.0])

    def still(t, u, v):
        return np.zeros_like(u), np.zeros_like(v)

    run = flow_with_momentum(still, lambda t, u, v: (u, v), np.ones(2), np.ones(2), times, 0.3)
    ones = np.ones_like(run.a)
    exact = [quad(lambda s, end=end: (end - s) * np.exp(-s), 0, end)[0] for end in times]
    found = run.integrals(ones * np.exp(-run.nodes)[:, None], lambda s, end: end - s)
    np.testing.assert_allclose(found[:, 0], exact, rtol=1e-9)
    np.testing.assert_array_equal(run.u, 1)


def test_raw_flow_with_little_inertia_is_gradient_flow(setting):
    """Reference: the first-order raw route; the distance is of order 1 in the inertia."""
    velocity, times = gradient_flow(setting.net), setting.times((0.5,))
    plain = integrate(velocity, *setting.weights(), times).betas[0]
    gaps = [np.linalg.norm(flow_with_momentum(velocity, pair_of(setting.net), *setting.weights(), times,
                                              part / setting.gradient_unit).betas[0] - plain) for part in (2e-3, 1e-3)]
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.02)


def test_nesterovs_flow_on_one_quadratic():
    """Reference: theta'' + (3/t) theta' + w^2 theta = 0 has the solution 2 theta0 J1(w t)/(w t)."""
    from scipy.special import j1

    def force(t, u, v):
        return -u, np.zeros_like(v)

    times = np.array([0.5, 1.5, 3.0])
    run = flow_with_momentum(force, lambda t, u, v: (u, v), np.ones(1), np.ones(1), times, None)
    np.testing.assert_allclose(run.u[:, 0], 2 * j1(times) / times, rtol=1e-10)


def test_a_weight_that_comes_to_0_ends_the_raw_flow():
    """Reference: cos(t) comes to 0 at pi/2."""
    def force(t, u, v):
        return -1e6 * u, np.zeros_like(v)

    with pytest.raises(RouteError, match="comes to 0"):
        flow_with_momentum(force, lambda t, u, v: (u, v), np.ones(1), np.ones(1), np.array([2.0]), 1e6)


def test_raw_steps_are_the_textbook_methods():
    """Reference: the linear recursions of heavy ball and of Nesterov's method on one quadratic, by companion matrices."""
    eta, m, count = 0.3, 0.6, 12

    def force(t, u, v):
        return -u, -2 * v

    for nesterov in (False, True):
        run = steps_with_momentum(force, lambda t, u, v: (u, v), np.ones(1), np.ones(1), eta, m, count, nesterov)
        for weights, curvature in ((run.u, 1.0), (run.v, 2.0)):
            shrink = 1 - eta * curvature
            companion = np.array([[shrink * (1 + m), -shrink * m] if nesterov else [1 - eta * curvature + m, -m], [1, 0]])
            exact = [(np.linalg.matrix_power(companion, k) @ np.ones(2))[0] for k in range(count + 1)]
            np.testing.assert_allclose(weights[:, 0], exact, rtol=1e-12)
        assert run.n_sign_flips > 0


def test_diverging_steps_are_named():
    with pytest.raises(RouteError, match="diverged"):
        steps_with_momentum(lambda t, u, v: (u**3, v**3), lambda t, u, v: (u, v), np.ones(1), np.ones(1), 10.0, 0.9, 40, False)


def test_relation_of_heavy_ball_to_the_flow():
    """Reference: inertia = eta/(1 - m)^2 and time per step = eta/(1 - m) (Papazov et al. 2024), solved for eta and m."""
    eta, m = momentum.heavy_ball_of(0.02, 0.5)
    assert eta / (1 - m) ** 2 == pytest.approx(0.5, rel=1e-13)
    assert eta / (1 - m) == pytest.approx(0.02, rel=1e-13)


def test_weights_of_the_laws():
    """Reference: both weights vanish at the end and solve w'' = (damping w)', with w' = -push there."""
    s, end, lam = sp.symbols("s T lam", positive=True)
    constant, nesterov = 1 - sp.exp(-(end - s) / lam), s / 2 * (1 - s**2 / end**2)
    # The adjoint of a' + damping a = f, integrated: -w' + damping w = 1 with w(T) = 0, here w times push.
    assert sp.simplify(-sp.diff(lam * constant, s) + constant - 1) == 0
    assert sp.simplify(-sp.diff(nesterov, s) + 3 / s * nesterov - 1) == 0
    for symbolic, numeric in ((constant, momentum.constant_weight(0.7)), (nesterov, momentum.nesterov_weight)):
        at = np.array([0.1, 0.5, 1.9])
        exact = [float(symbolic.subs({s: x, end: 2, lam: 0.7})) for x in at]
        np.testing.assert_allclose(numeric(at, 2.0), exact, rtol=1e-12)


def test_derivation_names_both_kinds_and_both_methods():
    titles = " ".join(step.title for step in theory.get("T15").derive().steps)
    for word in ("constant inertia", "Nesterov's flow", "heavy ball", "Nesterov,", "log|k|"):
        assert word in titles


def test_there_are_mutants_of_every_part(setting):
    spoilt = set()
    for mutant in theory.get("T15").mutants.values():
        spoilt |= {part.name for part in momentum.parts(setting) if mutant(part, setting) is not None}
    assert spoilt == {part.name for part in momentum.parts(setting)}
    assert len(theory.get("T15").mutants) >= 8


@pytest.mark.parametrize("kind", ["more samples than features", "duplicate rows", "zero column"])
def test_law_holds_on_degenerate_data(kind):
    """Reference: the tolerances; nothing in the law asks for data that can be interpolated."""
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((4, 6)), rng.standard_normal(4)
    if kind == "more samples than features":
        X, y = rng.standard_normal((7, 3)), rng.standard_normal(7)
    elif kind == "duplicate rows":
        X[1] = X[0]
    else:
        X[:, 2] = 0
    check = theory.get("T15").check(Data(X, y, kind))
    assert check.passed, check.message
