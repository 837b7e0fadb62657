"""Coefficients of the integrators: order conditions on all rooted trees, stability at infinity, observed orders."""

import functools
import itertools
import math

import numpy as np
import pytest
from scipy.integrate import DOP853 as SCIPY_DOP853
from scipy.special import ellipj

from dln.integrate.tableaus import DOP853, RODAS3, RODAS4, RODAS5P, W6

# Rooted trees ---------------------------------------------------------------------------------------------------------
# A tree is the sorted tuple of the trees that hang on its root; () is the single vertex.


@functools.cache
def trees(order):
    """All rooted trees with `order` vertices: 1, 1, 2, 4, 9, 20, 48, 115."""
    def forests(size, largest):
        if size == 0:
            yield ()
        for n in range(min(size, largest), 0, -1):
            for tree in trees(n):
                for rest in forests(size - n, n):
                    yield tuple(sorted((tree, *rest)))
    return tuple(sorted(set(forests(order - 1, order - 1))))


def size(tree):
    return 1 + sum(map(size, tree))


def density(tree):
    return size(tree) * math.prod(map(density, tree))


def weights(tree, branch, single):
    """Elementary weights of all stages: `single` acts on the only child of a vertex, `branch` on one of several."""
    result = np.ones(len(branch))
    for child in tree:
        result = result * ((single if len(tree) == 1 else branch) @ weights(child, branch, single))
    return result


def coloured(tree, alpha, gamma):
    """Elementary weights of a W-method: every only child hangs on f' or on the arbitrary J; yields (has a J, weights)."""
    if not tree:
        yield False, np.ones(len(alpha))
        return
    choices = [list(coloured(child, alpha, gamma)) for child in tree]
    for combination in itertools.product(*choices):
        impure = any(has for has, _ in combination)
        values = [value for _, value in combination]
        yield impure, math.prod(alpha @ value for value in values)
        if len(tree) == 1:
            yield True, gamma @ values[0]


def classical(method):
    """Return alpha, Gamma and b of a Rosenbrock method in its untransformed form (Hairer & Wanner IV.7)."""
    gamma = np.linalg.inv(np.eye(len(method.m)) / method.gamma - method.C)
    return method.A @ gamma, gamma, method.m @ gamma, method.e @ gamma


def test_the_trees_are_all_there():
    # Reference: the number of rooted trees, sequence A000081.
    assert [len(trees(n)) for n in range(1, 9)] == [1, 1, 2, 4, 9, 20, 48, 115]
    assert density(((),)) == 2 and density(((), ())) == 3 and density((((),),)) == 6


# Explicit -------------------------------------------------------------------------------------------------------------


def test_dop853_rows_sum_to_the_nodes():
    # Reference: consistency; explicit: A strictly lower triangular; error weights sum to 0.
    np.testing.assert_allclose(DOP853.A.sum(axis=1), DOP853.c, rtol=0, atol=5e-14)
    assert not np.triu(DOP853.A).any() and DOP853.A.shape == (12, 12)
    assert abs(DOP853.error_high.sum()) <= 1e-14 and abs(DOP853.error_low.sum()) <= 1e-14


def test_dop853_quadrature():
    # Reference: sum b c^k = 1/(k+1) for k <= 7.
    for k in range(8):
        assert DOP853.b @ DOP853.c**k == pytest.approx(1.0 / (k + 1), abs=2e-14)


@pytest.mark.parametrize("order", range(1, 9))
def test_dop853_satisfies_every_condition_of_order_8(order):
    # Reference: Butcher's conditions, b.Phi(t) = 1/density(t), for all 200 trees of up to 8 vertices.
    for tree in trees(order):
        phi = weights(tree, DOP853.A, DOP853.A)
        assert DOP853.b @ phi == pytest.approx(1.0 / density(tree), abs=1e-13), tree


def test_dop853_is_not_of_order_9():
    # Reference: 12 stages do not suffice for order 9, so that some condition must fail: the test above can fail.
    worst = max(abs(DOP853.b @ weights(t, DOP853.A, DOP853.A) - 1.0 / density(t)) for t in trees(9))
    assert worst > 1e-6


def test_dop853_error_weights_have_orders_5_and_3():
    # Reference: b - e is of order 5 (3), so e.Phi(t) = 0 up to there and not beyond; the new derivative has weight 0.
    for error, order in ((DOP853.error_high, 5), (DOP853.error_low, 3)):
        assert error[12] == 0.0
        for n in range(1, order + 1):
            for tree in trees(n):
                assert abs(error[:12] @ weights(tree, DOP853.A, DOP853.A)) <= 1e-13, tree
        assert max(abs(error[:12] @ weights(t, DOP853.A, DOP853.A)) for t in trees(order + 1)) > 1e-6


def test_dop853_is_scipys():
    # Reference: the coefficients that SciPy ships.
    assert np.array_equal(SCIPY_DOP853.A[:12, :12], DOP853.A)
    assert np.array_equal(SCIPY_DOP853.B, DOP853.b) and np.array_equal(SCIPY_DOP853.C[:12], DOP853.c)
    np.testing.assert_allclose(SCIPY_DOP853.E5, DOP853.error_high, rtol=0, atol=1e-15)
    np.testing.assert_allclose(SCIPY_DOP853.E3, DOP853.error_low, rtol=0, atol=1e-15)


# Rosenbrock -----------------------------------------------------------------------------------------------------------


# How well the published coefficients meet their conditions.
ROUNDING = {id(RODAS3): 1e-14, id(RODAS4): 2e-9, id(RODAS5P): 2e-12}
EXACT = pytest.mark.parametrize("method", [RODAS3, RODAS4, RODAS5P], ids=["RODAS3", "RODAS4", "RODAS5P"])


@EXACT
def test_methods_for_the_exact_jacobian_satisfy_every_condition_of_their_order(method):
    # Reference: Hairer & Wanner IV.7: beta = alpha + Gamma on the only child of a vertex, alpha on one of several.
    alpha, gamma, b, e = classical(method)
    for order in range(1, method.order + 1):
        for tree in trees(order):
            phi = weights(tree, alpha, alpha + gamma)
            assert b @ phi == pytest.approx(1.0 / density(tree), abs=ROUNDING[id(method)]), tree
            if order < method.order:
                assert (b - e) @ phi == pytest.approx(1.0 / density(tree), abs=ROUNDING[id(method)]), tree


@EXACT
def test_their_orders_are_the_exact_ones(method):
    # Reference: one order higher some condition fails, of the method and of its estimate.
    alpha, gamma, b, e = classical(method)
    for rest, order in ((b, method.order + 1), (b - e, method.order)):
        assert max(abs(rest @ weights(t, alpha, alpha + gamma) - 1.0 / density(t)) for t in trees(order)) > 1e-6


@pytest.mark.parametrize(("order", "conditions"), [(1, 1), (2, 2), (3, 5), (4, 13)])
def test_w6_satisfies_every_condition_of_order_4_for_any_jacobian(order, conditions):
    # Reference: W-methods: terms with the arbitrary J vanish, those without are Butcher's: 1 + 2 + 5 + 13 conditions.
    alpha, gamma, b, _ = classical(W6)
    count = 0
    for tree in trees(order):
        for impure, phi in coloured(tree, alpha, gamma):
            count += 1
            assert b @ phi == pytest.approx(0.0 if impure else 1.0 / density(tree), abs=2e-13), tree
    assert count == conditions


@pytest.mark.parametrize("theta", [-1.0, 0.3, 1.0])
def test_w6_embedded_weights_satisfy_order_3_for_any_jacobian(theta):
    # Reference: the eight conditions of order 3; e solves them with right-hand side 0, so any b + theta e does.
    alpha, gamma, b, e = classical(W6)
    for order in (1, 2, 3):
        for tree in trees(order):
            for impure, phi in coloured(tree, alpha, gamma):
                assert (b + theta * e) @ phi == pytest.approx(0.0 if impure else 1.0 / density(tree), abs=1e-12), tree
    worst = max(abs(e @ phi) for tree in trees(4) for _, phi in coloured(tree, alpha, gamma))
    assert worst > 1e-3  # an estimate of order 3, not of order 4


def test_w6_error_weights_have_the_stated_length_and_span_the_freedom():
    # Reference: eight conditions of rank 5 on six weights leave one direction; |e| = 5 among the weights b.
    alpha, gamma, _, e = classical(W6)
    rows = np.array([phi for n in (1, 2, 3) for t in trees(n) for _, phi in coloured(t, alpha, gamma)])
    singular = np.linalg.svd(rows, compute_uv=False)
    assert len(rows) == 8 and np.count_nonzero(singular > 1e-10 * singular[0]) == 5
    assert np.linalg.norm(e) == pytest.approx(5.0, rel=1e-12)
    assert np.max(np.abs(rows @ e)) <= 1e-12 * np.linalg.norm(e)


@pytest.mark.parametrize("method", [RODAS3, RODAS4, RODAS5P, W6], ids=["RODAS3", "RODAS4", "RODAS5P", "W6"])
def test_nodes_are_row_sums(method):
    # Reference: c = alpha 1, and both kinds of weight sum to 1; strictly lower A and C.
    alpha, gamma, b, e = classical(method)
    np.testing.assert_allclose(method.c, alpha.sum(axis=1), atol=1e-13)
    assert b.sum() == pytest.approx(1.0, abs=2e-9 if method is RODAS4 else 1e-13) and abs(e.sum()) <= 1e-12
    assert not np.triu(method.A).any() and not np.triu(method.C).any()
    np.testing.assert_allclose(np.diag(gamma), method.gamma, rtol=1e-14)


def stability(method, z):
    """Stability function and error function at z: one step of y' = z y, h = 1, y = 1."""
    n = len(method.m)
    stages = np.linalg.solve((1 / method.gamma - z) * np.eye(n) - z * method.A - method.C, np.full(n, z, dtype=complex))
    return 1.0 + method.m @ stages, method.e @ stages


@pytest.mark.parametrize(("method", "angle"), [(RODAS3, 90.0), (RODAS4, 90.0), (RODAS5P, 90.0), (W6, 89.0)],
                         ids=["RODAS3", "RODAS4", "RODAS5P", "W6"])
def test_stability_up_to_infinity(method, angle):
    # Reference: |R| <= 1 on rays up to `angle` from the negative axis (all poles lie on the right), R(infinity) = 0.
    # W6 misses A-stability by a hair: |R| reaches 1.0064 on the imaginary axis, near 3.5i.
    n = len(method.m)
    infinite = np.linalg.solve(np.eye(n) + method.A, -np.ones(n))
    assert abs(1.0 + method.m @ infinite) <= 1e-11
    for degrees in (0.0, 45.0, 80.0, angle):
        direction = -np.exp(-1j * np.deg2rad(degrees))
        ray = [abs(stability(method, w * direction)[0]) for w in 10.0 ** np.linspace(-3, 8, 400)]
        assert max(ray) <= 1.0 + 1e-11 and ray[-1] < 1e-6, degrees
    # What `stiff_error` says: whether the estimate of an infinitely stiff component tends to 0.
    assert (abs(method.e @ infinite) <= 1e-10) == method.stiff_error


@pytest.mark.parametrize("method", [RODAS3, RODAS4, RODAS5P, W6], ids=["RODAS3", "RODAS4", "RODAS5P", "W6"])
def test_the_stability_function_approximates_exp(method):
    # Reference: R(z) = exp(z) + O(z^(order + 1)).
    errors = [abs(stability(method, z)[0] - np.exp(z)) for z in (-0.4, -0.2)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(method.order + 1, abs=0.4)


# Observed orders ------------------------------------------------------------------------------------------------------
# Jacobi's elliptic functions: s' = c d, c' = -s d, d' = -m s c.
M = 0.7


def field(z):
    s, c, d = z
    return np.array([c * d, -s * d, -M * s * c])


def jacobian(z):
    s, c, d = z
    return np.array([[0.0, d, c], [-d, 0.0, -s], [-M * c, -M * s, 0.0]])


def solution(t):
    return np.array(ellipj(t, M)[:3])


def explicit(z, h):
    k = np.zeros((12, 3))
    for i in range(12):
        k[i] = field(z + h * (DOP853.A[i] @ k))
    return z + h * (DOP853.b @ k), h * (DOP853.error_high[:12] @ k)


def rosenbrock(method, J):
    def step(z, h):
        n = len(method.m)
        k = np.zeros((n, 3))
        matrix = np.eye(3) / (h * method.gamma) - J(z)
        for i in range(n):
            k[i] = np.linalg.solve(matrix, field(z + method.A[i] @ k) + (method.C[i] @ k) / h)
        return z + method.m @ k, method.e @ k
    return step


def global_error(step, n_steps, t_end=2.0):
    z = solution(0.0)
    for _ in range(n_steps):
        z, _ = step(z, t_end / n_steps)
    return np.linalg.norm(z - solution(t_end))


def slope(values, counts):
    return -np.polyfit(np.log(counts), np.log(values), 1)[0]


WRONG = np.array([[-1.0, 2.0, 0.3], [0.5, -2.0, 1.0], [0.0, -0.7, -1.5]])
METHODS = {
    "DOP853": (explicit, 8, (3, 4, 5, 6, 8)),
    "RODAS3": (rosenbrock(RODAS3, jacobian), 3, (32, 48, 64, 96, 128)),
    "RODAS4": (rosenbrock(RODAS4, jacobian), 4, (16, 24, 32, 48, 64)),
    "RODAS5P": (rosenbrock(RODAS5P, jacobian), 5, (16, 24, 32, 48, 64)),
    "W6": (rosenbrock(W6, jacobian), 4, (32, 48, 64, 96, 128)),
    "W6 with a wrong Jacobian": (rosenbrock(W6, lambda z: WRONG), 4, (128, 192, 256, 384, 512)),
    "W6 with half the Jacobian": (rosenbrock(W6, lambda z: 0.5 * jacobian(z)), 4, (32, 48, 64, 96, 128)),
    "W6 without a Jacobian": (rosenbrock(W6, lambda z: 0.0 * WRONG), 4, (64, 96, 128, 192, 256)),
}


@pytest.mark.parametrize("name", METHODS)
def test_observed_order(name):
    # Reference: the closed form; the slope of the global error against the number of steps.
    step, order, counts = METHODS[name]
    errors = [global_error(step, n) for n in counts]
    assert min(errors) > 1e-14
    assert order - 0.35 <= slope(errors, counts) <= order + 1.0, errors


@EXACT
def test_methods_for_the_exact_jacobian_need_it(method):
    # Reference: with a wrong Jacobian the conditions of order 3 fail and the observed order drops to 2 or less.
    counts = (64, 96, 128, 192)
    assert slope([global_error(rosenbrock(method, lambda z: WRONG), n) for n in counts], counts) < 2.5


def test_the_second_stage_of_rodas3_is_at_the_start():
    # Reference: its row of A; so the velocity there is known, and it takes three evaluations, not four.
    assert not RODAS3.A[1].any() and RODAS3.c[1] == 0.0 and all(method.A[1, 0] for method in (RODAS4, RODAS5P, W6))


@pytest.mark.parametrize(("step", "order"), [
    (explicit, 6), (rosenbrock(RODAS3, jacobian), 3), (rosenbrock(RODAS4, jacobian), 4), (rosenbrock(RODAS5P, jacobian), 5),
    (rosenbrock(W6, jacobian), 4), (rosenbrock(W6, lambda z: WRONG), 4),
], ids=["DOP853", "RODAS3", "RODAS4", "RODAS5P", "W6", "W6 with a wrong Jacobian"])
def test_observed_order_of_the_error_estimate(step, order):
    # Reference: an embedded method of order p - 1 leaves a local estimate of order p in the step.
    steps = np.array([0.2, 0.14, 0.1, 0.07]) if step is explicit else np.array([0.04, 0.028, 0.02, 0.014])
    estimates = [np.linalg.norm(step(solution(0.6), h)[1]) for h in steps]
    assert slope(estimates, 1.0 / steps) == pytest.approx(order, abs=0.4)
