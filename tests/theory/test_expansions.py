"""Steps by series prove what is true and nothing else; the expansions of T4, T7 and T8 against numbers of their own."""

import numpy as np
import pytest
import sympy as sp
from scipy.integrate import solve_ivp

from theory._derivation import Derivation, DerivationError
from theory._expansions import expand_in_ascent_step, expand_in_radius
from theory.gradient_regularization import EPSILON, FIRST, GAMMA, SECOND, G, expanded_pairs

x = sp.Symbol("x", positive=True)
z = sp.Symbol("z", real=True)


@pytest.mark.parametrize(("function", "series", "order"), [
    (sp.exp(x * z), 1 + x * z + x**2 * z**2 / 2, 3),
    (1 / (1 - x), 1 + x + x**2, 3),
    (sp.Function("f")(x) * x**2, 0, 2),
    (sp.log(1 + x), x - x**2 / 2, 3),
])
def test_a_series_is_proved_and_printed_with_its_order(function, series, order):
    """Reference: the textbook series."""
    d = Derivation("T0", "series")
    d.by_series("right", "Taylor", function, series, x, order)
    assert f"O(x^{order})" in str(d)
    assert rf"O\left(x^{{{order}}}\right)" in d.to_latex()
    for wrong in (series + x, series + sp.Rational(1, 1000), 2 * series + 1):
        with pytest.raises(DerivationError, match="'wrong'"):
            d.by_series("wrong", "Taylor", function, wrong, x, order)


def test_a_series_may_not_claim_terms_that_its_order_swallows():
    d = Derivation("T0", "series")
    with pytest.raises(DerivationError, match=r"beyond O\(x\^2\)"):
        d.by_series("too much", "Taylor", sp.exp(x), 1 + x + x**2 / 2, x, 2)


def test_a_series_sees_through_abbreviations_and_goes_entry_by_entry():
    d = Derivation("T0", "series")
    a = d.define(sp.Symbol("a"), sp.sin(x), "a sine")
    d.by_series("right", "Taylor", sp.Matrix([a, a**2]), sp.Matrix([x, x**2]), x, 3)
    with pytest.raises(DerivationError, match="second"):
        d.by_series("second", "Taylor", sp.Matrix([a, a**2]), sp.Matrix([x, x]), x, 3)


@pytest.mark.parametrize("slip", ["forward", "backward", "centered", "exact"])
def test_the_expansion_in_the_ascent_step_refuses_a_pair_that_is_off(slip):
    """Reference: the true pairs pass; with q of one scheme off by a term, a step fails."""
    pairs = expanded_pairs()
    expand_in_ascent_step(Derivation("T0", "right"), EPSILON, GAMMA, pairs, (G, FIRST, SECOND))
    p, q = pairs[slip]
    with pytest.raises(DerivationError):
        expand_in_ascent_step(Derivation("T0", "wrong"), EPSILON, GAMMA, pairs | {slip: (p, q + GAMMA * EPSILON * G)},
                              (G, FIRST, SECOND))


def test_the_expansion_in_the_radius_refuses_a_wrong_constant():
    rho = sp.Symbol("rho", positive=True)
    g, a = sp.symbols("g a", real=True)
    q = 2 * rho * g * (g + rho * a)
    expand_in_radius(Derivation("T0", "right"), "SAM", rho, [q], [4 * g**2])
    for wrong in (2 * g**2, 4 * g * a):
        with pytest.raises(DerivationError, match="SAM"):
            expand_in_radius(Derivation("T0", "wrong"), "SAM", rho, [q], [wrong])


def flow_of_one_weight_pair(scheme, epsilon, gamma=0.3, t_end=1.5):
    """Give log(alpha_eff/alpha) of one sample and one feature, u0 = v0 = 1, from weight gradients alone."""

    def gradient(theta):
        u, v = theta
        return np.array([2 * u, -2 * v]) * (u * u - v * v - 2) / 2

    def velocity(t, theta):
        here = gradient(theta)
        up, down = (gradient(theta + sign * epsilon * here) for sign in (1, -1))
        change = {"forward": up - here, "backward": here - down, "centered": (up - down) / 2}[scheme] / epsilon
        return -here - gamma * change

    theta = solve_ivp(velocity, (0, t_end), [1.0, 1.0], method="DOP853", rtol=1e-13, atol=1e-15).y[:, -1]
    return np.mean(np.log(theta))


def test_log_alpha_eff_differs_at_first_order_forward_and_backward_and_at_second_centred():
    """Reference: the flow of one weight pair, integrated with SciPy; local orders from halved steps."""
    steps = (1 / 20, 1 / 40, 1 / 80)
    runs = {scheme: [flow_of_one_weight_pair(scheme, h) for h in steps] for scheme in ("forward", "backward", "centered")}
    one_sided = [f - b for f, b in zip(runs["forward"], runs["backward"], strict=True)]
    mean_less_centred = [(f + b) / 2 - c for f, b, c in zip(*runs.values(), strict=True)]
    centred = [runs["centered"][k] - runs["centered"][k + 1] for k in (0, 1)]

    def order(differences):
        return np.log2(abs(differences[0] / differences[1]))

    assert order(one_sided[1:]) == pytest.approx(1, abs=5e-3)  # 2 A1 eps + O(eps^3): an odd function
    assert order(centred) == pytest.approx(2, abs=5e-2)
    assert order(mean_less_centred[1:]) == pytest.approx(2, abs=5e-2)
    assert abs(one_sided[-1]) > 1e-4
    # O(eps^3), no eps^2: twice the next halving cancels the first order and leaves an eighth of the cube.
    cubes = [one_sided[k] - 2 * one_sided[k + 1] for k in (0, 1)]
    assert order(cubes) == pytest.approx(3, abs=0.1)
