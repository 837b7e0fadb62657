"""p, q and the curvature of every rule are those that sympy derives from the loss.

Reference: the velocity in the weights, built from derivatives of `SymbolicNetwork`'s loss through the definitions of each
theorem's derivation, lambdified for mpmath: `-du/2u = p + q` and `dv/2v = p - q`. Differences of gradients at moved
weights are taken as they stand, with 60 digits and as many more as they cancel.
"""

import functools
import itertools

import mpmath
import numpy as np
import pytest
import sympy as sp

from dln import SAM, GradientFlow, GradientRegularization, WeightDecay
from dln._gram import gram
from dln.rules.gradient_regularization import gradient_norm
from theory._derivation import Derivation
from theory._duality import flow_curvature
from theory._network import SymbolicNetwork
from theory._steps import perturb, start
from theory.gradient_regularization import EPSILON, GAMMA, symbolic_velocity
from theory.sam import RHO

NET = SymbolicNetwork(2, 2)
DATA = (*NET.X, *NET.y, *NET.weights)
LAMBDAS = sp.symbols("lambda_1:3", real=True)


@functools.cache
def velocity(name):
    """Lambdify the velocity (du, dv) of a rule: a function of data, weights and parameters, evaluated by mpmath."""
    d = Derivation("T0", name)
    at = start(d, NET)
    norm = sp.sqrt(sp.Add(*(slope**2 for slope in at.of_weights)))
    parameters = (GAMMA, EPSILON)
    if name == "gradient flow":
        found, parameters = -at.of_weights, ()
    elif name == "weight decay":
        penalty = sp.Add(*(lam * (u**2 + v**2) for lam, u, v in zip(LAMBDAS, NET.u, NET.v, strict=True)))
        found, parameters = -(at.of_weights + NET.gradient(penalty)), LAMBDAS
    elif name == "exact":
        squared = sp.Add(*(slope**2 for slope in NET.gradient()))
        found = -(at.of_weights + GAMMA / 2 * NET.gradient(squared))
    elif name in ("forward", "backward", "centered"):
        up, down = perturb(d, NET, at, EPSILON, "up"), perturb(d, NET, at, -EPSILON, "down")
        found = symbolic_velocity(NET, name, at, up, down)
    elif name == "sam":
        found, parameters = -perturb(d, NET, at, RHO, "up").of_weights, (RHO,)
    elif name == "gradient norm":
        found, parameters = sp.Matrix([norm]), ()
    else:  # one sample at a time, with a radius for each
        radii = sp.symbols("c_1:3", positive=True)
        here = [start(d, NET, sample) for sample in range(2)]
        moved = [perturb(d, NET, here[i], radii[i], "up", i) for i in range(2)]
        found, parameters = -sum((m.of_weights for m in moved), sp.zeros(4, 1)) / 2, radii
        if name == "sample norms":
            found, parameters = sp.Matrix([sp.sqrt(sp.Add(*(x**2 for x in one.of_weights))) for one in here]), ()
    return sp.lambdify((*DATA, *parameters), list(d.write_out(found)), "mpmath", cse=True)


def exact(name, case, *parameters):
    return velocity(name)(*(mpmath.mpf(float(x)) for array in case for x in array.flat), *parameters)


def derived_pair(rule, case):
    """Give p + q and p - q of a rule, each (2,), by its definition in the weights."""
    if isinstance(rule, GradientFlow):
        moving = exact("gradient flow", case)
    elif isinstance(rule, WeightDecay):
        moving = exact("weight decay", case, *map(mpmath.mpf, rule.parameters(2).tolist()))
    elif isinstance(rule, SAM) and rule.per_sample:
        norms = exact("sample norms", case) if rule.normalized else (1, 1)
        moving = exact("1-sam", case, *(mpmath.mpf(rule.rho) / norm for norm in norms))
    elif isinstance(rule, SAM):
        moving = exact("sam", case, mpmath.mpf(rule.rho) / (exact("gradient norm", case)[0] if rule.normalized else 1))
    else:
        gamma = mpmath.mpf(rule.gamma) / (1 if rule.squared else exact("gradient norm", case)[0])
        moving = exact(rule.scheme, case, gamma, mpmath.mpf(rule.epsilon or 1))
    weights = [mpmath.mpf(float(x)) for array in case[2:] for x in array.flat]
    plus = [-speed / (2 * u) for speed, u in zip(moving[:2], weights[:2], strict=True)]
    return plus, [speed / (2 * v) for speed, v in zip(moving[2:], weights[2:], strict=True)]


def library_pair(rule, case):
    """Give p and q from the rule's kernel."""
    X, y, u, v = (np.array(array) for array in case)
    X.flags.writeable = y.flags.writeable = False
    r, coef, q = np.empty(2), np.empty(2), np.zeros(2)
    beta = (u - v) * (u + v)
    rule.kernel(X, y, 0.25, beta, u * u + v * v, rule.parameters(2), r, coef, q, np.empty((4, 2)), np.empty((2, 2)))
    return X.T @ coef, q


def cases():
    """Data of sizes 1e-8 to 1e8 and weights of sizes 1e-140 to 1e6, balanced, uneven and lopsided."""
    rng = np.random.default_rng(11)
    for of_x, of_y, of_w in ((1, 1, 1), (1e-8, 1, 1), (1e8, 1e-3, 1e-4), (1, 1, 1e-140), (1, 1e12, 1e6), (3, 0, 0.5)):
        for lopsided in (1.0, 1e-5):
            X, y = of_x * rng.standard_normal((2, 2)), of_y * rng.standard_normal(2)
            u, v = of_w * np.exp(rng.uniform(-1, 1, (2, 2)))
            v[0] *= lopsided
            u[1] *= np.sqrt(lopsided)
            yield X, y, u, v


CASES = list(cases())
STEPS = (1e-12, 1e-3, 0.2, 50.0)
RULES = [GradientFlow(), WeightDecay(0.7), WeightDecay([1e-9, -3e4]),
         *(GradientRegularization(gamma, step, scheme, squared) for scheme in ("forward", "backward", "centered")
           for gamma, step in itertools.product((1e-6, 0.4), STEPS) for squared in (True, False)),
         *(GradientRegularization(gamma, scheme="exact", squared=squared)
           for gamma in (1e-6, 0.4) for squared in (True, False)),
         *(SAM(rho, *kind) for rho in STEPS for kind in itertools.product((False, True), repeat=2))]  # fmt: skip


@pytest.mark.parametrize("kind", [GradientFlow, WeightDecay, GradientRegularization, SAM])
def test_the_pair_of_every_rule(kind):
    # A difference of gradients cancels where the step is small against the weights: digits to spare.
    with mpmath.workdps(60 + 360):
        for rule, case in itertools.product([rule for rule in RULES if isinstance(rule, kind)], CASES):
            plus, minus = derived_pair(rule, case)
            p, q = library_pair(rule, case)
            size = max(map(abs, (*plus, *minus)))
            for j in range(2):
                # p and q are sums of terms of this size; the residual and the predictor inside them are rounded, too.
                assert abs(mpmath.mpf(p[j] + q[j]) - plus[j]) <= 2e-14 * size, (rule, case)
                assert abs(mpmath.mpf(p[j] - q[j]) - minus[j]) <= 2e-14 * size, (rule, case)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.shrinks], ids=repr)
def test_q_on_its_own_keeps_its_digits(rule):
    """Reference: half the difference of p + q and p - q; q may be far below p, where no sum with p would show it."""
    with mpmath.workdps(60 + 700):
        for case in CASES:
            plus, minus = derived_pair(rule, case)
            _, q = library_pair(rule, case)
            exact_q = [(a - b) / 2 for a, b in zip(plus, minus, strict=True)]
            size = max(map(abs, exact_q))
            for j in range(2):
                assert abs(mpmath.mpf(q[j]) - exact_q[j]) <= max(5e-14 * size, mpmath.mpf("1e-300")), (case, q, exact_q)


def test_norm_of_the_gradient():
    """Reference: the root of the sum of squares of sympy's derivatives."""
    with mpmath.workdps(60):
        for case in CASES:
            X, y, u, v = case
            g = X.T @ (X @ ((u - v) * (u + v)) - y) / 4
            expected = exact("gradient norm", case)[0]
            assert abs(mpmath.mpf(gradient_norm(u * u + v * v, g)) - expected) <= 1e-14 * expected


def test_curvature_of_gradient_flow():
    """Reference: the derived Jacobian of nu'. The library's is `-S (K + kappa K^2)`, K from the compiled Gram product."""
    claimed = sp.lambdify(DATA, list(flow_curvature(Derivation("T0", "curvature"), NET)), "mpmath")
    with mpmath.workdps(60):
        for case in CASES:
            X, _, u, v = case
            size, K, row_scale = u * u + v * v, np.empty((2, 2)), np.empty(2)
            data = np.array(X)
            data.flags.writeable = False
            kappa = GradientFlow().curvature(data, 0.25, u * u - v * v, size, np.zeros(2), np.empty(0), row_scale,
                                             np.empty((4, 2)))
            gram(X, 4 * 0.25 * size, K)
            assert kappa == 0.0 and row_scale.tolist() == [1.0, 1.0]
            expected = claimed(*(mpmath.mpf(float(x)) for array in case for x in array.flat))
            largest = max(map(abs, expected))
            for found, value in zip((-K).flat, expected, strict=True):
                assert abs(mpmath.mpf(float(found)) - value) <= 1e-15 * largest


def test_the_derived_rules_differ_from_one_another():
    """Reference: none; a lambdified rule that ignored its parameters or its scheme would agree with another."""
    given = {scheme: (0.4, 0.2) for scheme in ("forward", "backward", "centered", "exact")}
    given |= {"sam": (0.2,), "1-sam": (0.2, 0.2), "gradient flow": (), "weight decay": (0.1, 0.2)}
    with mpmath.workdps(60):
        found = [exact(name, CASES[0], *map(mpmath.mpf, parameters)) for name, parameters in given.items()]
        for one, other in itertools.combinations(found, 2):
            assert max(abs(a - b) for a, b in zip(one, other, strict=True)) > 1e-6
