"""Predictor and centre from logarithms are the derived ones. Reference: the steps of T2's law, lambdified for mpmath."""

import functools
from types import SimpleNamespace

import mpmath
import numpy as np
import pytest
import sympy as sp

import dln
from dln.network import difference_of_squares, evaluate_weights, evaluate_weights_at, exponential_difference, initialize
from theory._derivation import Derivation
from theory._steps import law


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(60 + 330):  # u^2 - v^2 loses as many digits as log(u/v) has zeros
        yield


@functools.cache
def derived():
    """Give beta(t), u(t), v(t) and alpha_eff from u0, v0, P = int p and Q = int q, out of the steps of the law."""
    d = Derivation("T0", "law")
    law(d)
    u0, v0 = sp.symbols("u0 v0", positive=True)
    P, Q = sp.symbols("P Q", real=True)
    steps = {step.title: step for step in d.steps}
    beta = d.write_out(steps["Predictor at time t"].rhs)
    u, v = (sp.sqrt(square) for square in d.write_out(steps["Weights from product and ratio"].rhs))
    scale = d.write_out(sp.Symbol("a", positive=True))
    return SimpleNamespace(**{name: sp.lambdify((u0, v0, P, Q), expression, "mpmath")
                              for name, expression in {"beta": beta, "u": u, "v": v, "scale": scale}.items()})


#: log u0 v0, log u0/v0, 4 P, 4 Q: rich and kernel regime, balanced or not, far within and at the edges of the floats.
STATES = [(product, ratio, 4 * p, 4 * q)
          for product in (-1400.0, -700.0, -90.0, -2.5, 0.0, 60.0)
          for ratio in (0.0, 0.4, -3.0)
          for p in (0.0, 1e-300, -1e-17, 1e-9, -0.02, 0.3, -7.0, 40.0, -170.0)
          for q in (0.0, -0.3, 2.0)
          if product - 4 * q + abs(ratio - 4 * p) < 590]


def logarithms(states):
    """Give log(u v) and log(u/v) as floats, and the derived beta and u^2 + v^2 for exactly these floats."""
    product = np.array([state[0] - state[3] for state in states])
    ratio = np.array([state[1] - state[2] for state in states])
    forms, betas, sizes = derived(), [], []
    for log_product, log_ratio in zip(product, ratio, strict=True):
        # All in P and Q, from u0 = v0 = 1: the floats are then exact arguments.
        arguments = (mpmath.mpf(1), mpmath.mpf(1), -mpmath.mpf(log_ratio) / 4, -mpmath.mpf(log_product) / 4)
        betas.append(forms.beta(*arguments))
        sizes.append(forms.u(*arguments) ** 2 + forms.v(*arguments) ** 2)
    return product, ratio, betas, sizes


def check(found, expected, tolerances):
    """Compare in relative terms; below the range of normal floats (with e^-708 for the last of them) it may be 0."""
    for value, exact, tolerance in zip(found, expected, np.broadcast_to(tolerances, len(expected)), strict=True):
        assert np.isfinite(value)
        assert abs(mpmath.mpf(float(value)) - exact) <= max(tolerance * abs(exact), mpmath.mpf("7e-308")), (value, exact)


def rounding(product, ratio):
    """An argument x of exp is a float, so exp(x) is known to |x| units; the rest is a few more."""
    return 1.2e-16 * (10 + np.abs(product) + np.abs(ratio))


def test_predictor_from_logarithms():
    product, ratio, betas, _ = logarithms(STATES)
    check(difference_of_squares(product, ratio), betas, rounding(product, ratio))
    check(exponential_difference(product + np.abs(ratio), ratio), betas, rounding(product, ratio))


def test_compiled_weights_from_logarithms():
    product, ratio, betas, sizes = logarithms(STATES)
    beta, size = np.empty_like(product), np.empty_like(product)
    assert evaluate_weights(product, ratio, beta, size)
    check(beta, betas, rounding(product, ratio))
    check(size, sizes, rounding(product, ratio))


def test_compiled_weights_from_the_scale_itself():
    states = [state for state in STATES if abs(state[0] - state[3]) <= 100 and abs(state[1] - state[2]) < 600]
    product, ratio, betas, sizes = logarithms(states)
    beta, size = np.empty_like(product), np.empty_like(product)
    assert evaluate_weights_at(np.exp(product), ratio, beta, size)
    check(beta, betas, rounding(product, ratio))
    check(size, sizes, rounding(product, ratio))


def test_one_state_too_large_is_refused_and_spoils_nothing_silently():
    """Reference: the derived size, which is above e^600 there."""
    product, ratio = np.array([0.0, -10.0]), np.array([601.0, 1.0])
    _, _, _, sizes = logarithms([(0.0, 601.0, 0.0, 0.0)])
    assert mpmath.log(sizes[0]) > 600
    out = np.empty((2, 2))
    assert not evaluate_weights(product, ratio, out[0], out[1])
    assert not evaluate_weights_at(np.exp(product), ratio, out[0], out[1])


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 40.0])
def test_results_of_a_run(shrinkage):
    """alpha_eff, centre and beta of a result. Reference: the law at the integrals that the result reports."""
    problem = dln.Problem(np.array([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0]]), np.array([1.0, -1.0]))
    u0, v0 = np.array([0.3, 1e-40, 2.0]), np.array([0.2, 1e-42, 2.0])
    start = initialize(3, initial_weights=(u0, v0))
    run = dln.flow(problem, dln.WeightDecay(shrinkage), initial_weights=(u0, v0), t_end=0.4, rtol=1e-10)
    assert run.success, run.message
    forms = derived()
    int_p, int_q = problem.X.T @ run.dual, run.shrinkage
    for j in range(3):
        exact = [mpmath.exp(mpmath.mpf(x)) for x in (start.log_u[j], start.log_v[j])]
        P, Q = mpmath.mpf(int_p[j]), mpmath.mpf(int_q[j])
        scale = forms.scale(*exact, P, Q)
        check([run.effective_alpha[j]], [scale], 2e-14)
        check([run.center[j]], [2 * scale**2 * mpmath.sinh(mpmath.log(exact[0] / exact[1]))], 5e-14)
        check([run.center[j]], [forms.beta(*exact, mpmath.mpf(0), Q)], 5e-14)  # beta that p = 0 would give
        check([np.exp(run.log_u[j]), np.exp(run.log_v[j])], [forms.u(*exact, P, Q), forms.v(*exact, P, Q)], 5e-14)
        check([run.beta[j]], [forms.beta(*exact, P, Q)], 1e-13)
