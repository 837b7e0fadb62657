"""The dual problem of the minimiser is the derived one: point, gradient, Hessian, slope along a step, path, certificate.

Reference: the conjugate and the divergence of `theory._duality`, put together with symbolic data, differentiated by sympy and
lambdified for mpmath.
"""

import functools
from types import SimpleNamespace

import mpmath
import numpy as np
import pytest
import sympy as sp

import dln
from dln import _dual_kernels as kernels
from dln._dual import DualProblem
from dln._linalg import residual
from theory._derivation import Derivation
from theory._duality import dual
from theory._network import SymbolicNetwork

NET = SymbolicNetwork(2, 2)


@functools.cache
def derived():
    """Give the dual objective, its derivatives and the path in the scale, as functions of data, log a, h and nu."""
    forms = dual(Derivation("T0", "dual"), sp.Symbol("a", positive=True))
    nus, logs, images = sp.symbols("nu_1:3", real=True), sp.symbols("l_1:3", real=True), sp.symbols("h_1:3", real=True)
    speeds, raised, t = sp.symbols("s_1:3", real=True), sp.Symbol("raised", real=True), sp.Symbol("t", real=True)
    steps = sp.symbols("p_1:3", real=True)

    def at(expression, j, w, h, scale=None):
        place = {forms.a: sp.exp(logs[j]) if scale is None else scale, forms.w: w, forms.h: h}
        return expression.subs(place, simultaneous=True)

    turned = 4 * NET.X.T * sp.Matrix(nus)
    mirrors = [h + x for h, x in zip(images, turned, strict=True)]
    y = sp.Matrix(NET.y)
    objective = sp.Add(*(at(forms.conjugate, j, mirrors[j], images[j]) - at(forms.conjugate, j, images[j], images[j])
                         for j in range(2))) - y.dot(sp.Matrix(nus))
    betas = [at(forms.beta, j, mirrors[j], images[j]) for j in range(2)]
    along = objective.subs({nu: nu + t * p for nu, p in zip(nus, steps, strict=True)}, simultaneous=True)
    # The path: the centre stays where it is while log a falls from log a + raised * speed; h is its mirror image.
    scales = [sp.exp(log + raised * speed) for log, speed in zip(logs, speeds, strict=True)]
    centers = [at(forms.beta, j, images[j], images[j]) for j in range(2)]
    stays = [sp.asinh(center / (2 * scale**2)) for center, scale in zip(centers, scales, strict=True)]
    moved = [at(forms.beta, j, stays[j] + turned[j], images[j], scales[j]) for j in range(2)]
    constraint = NET.X * sp.Matrix(moved) - y
    arguments = (*NET.X, *NET.y, *logs, *images, *nus)
    path = (*arguments, *speeds, raised)

    def number(expression, *more):
        return sp.lambdify((*arguments, *more), expression, "mpmath", cse=True)

    return SimpleNamespace(
        betas=number(betas), sizes=number([at(forms.size, j, mirrors[j], images[j]) for j in range(2)]),
        gradient=number([sp.diff(objective, nu) for nu in nus]),
        hessian=number([sp.diff(objective, one, other) for one in nus for other in nus]),
        slope=number(sp.diff(along, t), *steps, t),
        divergence=number(sp.Add(*(at(forms.divergence, j, mirrors[j], images[j]) for j in range(2)))),
        objective=number(objective), images=sp.lambdify(path, stays, "mpmath"),
        constraint=sp.lambdify(path, list(constraint.jacobian(nus)) + list(constraint.diff(raised)), "mpmath", cse=True))


def draws():
    """Scales from deep in the rich to the kernel regime, with and without a centre; images up to a few hundred."""
    rng = np.random.default_rng(5)
    for log_alpha in (-300.0, -30.0, -1.0, 0.5, 8.0):
        for spread in (0.0, 0.7):
            X, nu = rng.standard_normal((2, 2)), rng.standard_normal(2)
            # |beta| about 1: where 2 log alpha + |w| is 0, or the images are small.
            reach = max(-2 * log_alpha, np.exp(-2 * log_alpha) if log_alpha > 0 else 1.0)
            nu = np.linalg.solve(4 * X.T, reach * np.array([0.98, -0.95]))
            logs = log_alpha + spread * rng.uniform(-1, 1, 2)
            yield X, rng.standard_normal(2), logs, spread * rng.uniform(-1, 1, 2) * min(1.0, reach), nu


CASES = list(draws())


def lift(*arrays):
    return [mpmath.mpf(float(x)) for array in arrays for x in np.ravel(array)]


def relative(found, expected, size=None):
    """Largest error relative to the largest of what is expected, or to `size`."""
    size = max(map(abs, expected)) if size is None else size
    return float(max(abs(mpmath.mpf(float(one)) - other) for one, other in zip(np.ravel(found), expected, strict=True)) / size)


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(120):
        yield


def evaluate(X, y, logs, h, nu):
    """Run the compiled point at nu; the images are rounded once, the second part of them goes in as a correction."""
    d = 2
    w, correction = h + 3 * X.T @ nu, X.T @ nu
    out = SimpleNamespace(log_sizes=np.empty(d), sizes=np.empty(d), b=np.empty(d), r=np.empty(2))
    assert kernels.point(X, y, 2 * logs, w, correction, out.log_sizes, out.sizes, out.b, out.r, np.empty((5, d)))
    return out


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_point_and_gradient(case):
    X, y, logs, h, nu = case
    forms, at = derived(), lift(X, y, logs, h, nu)
    found = evaluate(*case)
    # Images and logarithms of the scale are floats, and exp multiplies their rounding.
    rounding = 3e-16 * (8 + 2 * float(np.max(np.abs(logs))) + float(np.max(np.abs(h + 4 * X.T @ nu))))
    if np.max(logs) > 0:  # small images: relative to themselves they are sums of larger terms
        rounding *= 4 * float(np.max(np.abs(X.T) @ np.abs(nu)) / np.min(np.abs(h + 4 * X.T @ nu))) + 1
    betas, sizes = forms.betas(*at), forms.sizes(*at)
    for j in range(2):
        assert relative(found.b[j], [betas[j]]) <= rounding
        assert relative(found.sizes[j], [sizes[j]]) <= rounding
        assert abs(found.log_sizes[j] - float(mpmath.log(sizes[j]))) <= rounding
    gradient = forms.gradient(*at)  # X b - y
    assert relative(found.r, gradient, size=max(map(abs, betas)) + 1) <= 8 * rounding
    again = np.empty(2)
    residual(X, found.b, y, again)
    assert np.array_equal(again, found.r)


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_newton_direction(case):
    X, _, logs, h, nu = case
    forms, at = derived(), lift(*case)
    found, p = evaluate(*case), np.empty(2)
    assert kernels.direction(X, found.sizes, found.r, p)
    hessian = mpmath.matrix(2, 2)
    for place, value in enumerate(forms.hessian(*at)):
        hessian[place // 2, place % 2] = value
    expected = mpmath.lu_solve(hessian, mpmath.matrix([-x for x in lift(found.r)]))
    root = [mpmath.sqrt(hessian[i, i]) for i in range(2)]
    cosine = hessian[0, 1] / (root[0] * root[1])
    condition = float((1 + abs(cosine)) / (1 - abs(cosine)))
    rounding = 1e-15 * (10 + 2 * float(np.max(np.abs(logs))) + float(np.max(np.abs(h + 4 * X.T @ nu))))
    scaled = [expected[i] * root[i] for i in range(2)]
    assert relative(p * np.array(root, dtype=float), scaled) <= 10 * condition * rounding


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_slope_along_a_step(case):
    X, y, logs, h, nu = case
    forms = derived()
    p = np.linalg.solve(4 * X.T, np.array([0.3, -0.2]))
    change, w = 4 * X.T @ p, h + 4 * X.T @ nu
    for t in (0.0, 0.25, 1.0):
        expected = forms.slope(*lift(*case, p, t))
        found = kernels._slope(2 * logs, w, change, t, float(y @ p), np.empty((5, 2)))
        betas = forms.betas(*lift(X, y, logs, h, nu + t * p))
        size = sum(abs(b * c) for b, c in zip(betas, lift(change), strict=True)) / 4 + abs(float(y @ p))
        rounding = 1e-15 * (10 + 2 * float(np.max(np.abs(logs))) + float(np.max(np.abs(w))))
        if np.max(logs) > 0:
            rounding *= 4 * float(np.max(np.abs(X.T) @ np.abs(nu)) / np.min(np.abs(w))) + 1
        assert relative(found, [expected], size) <= rounding


@pytest.mark.parametrize("raised", [0.0, 0.4, 3.0])
@pytest.mark.parametrize("ratio", [(0.0, 0.0), (0.8, -0.3), (15.0, -40.0)])
def test_path_in_the_scale(raised, ratio):
    """The image of a centre that stays, and the tangent. Reference: implicit differentiation of X b = y by sympy."""
    X, y = np.array([[1.0, -0.4], [0.3, 0.8]]), np.array([1.0, -0.5])
    logs, h, speed = np.array([-6.0, -4.0]), np.array(ratio), np.array([1.0, 0.6])
    problem = DualProblem(SimpleNamespace(X=X), y, logs, h)
    problem.raised, problem.speed = raised, speed
    nu = np.array([0.7, -0.9])
    forms, at = derived(), lift(X, y, logs, h, nu, speed, raised)
    images = forms.images(*at)
    for found, expected in zip(problem.ratio_here(), images, strict=True):
        assert abs(mpmath.mpf(float(found)) - expected) <= 1e-14 * max(abs(expected), mpmath.mpf("1e-300"))
    w = problem.mirror_image(nu)
    assert relative(w, [image + 4 * x for image, x in zip(images, lift(X.T @ nu), strict=True)]) <= 1e-14
    log_sizes, _, _ = problem.evaluate(w, np.zeros(2))
    slope = -0.5 * speed * (np.tanh(w) - np.tanh(problem.ratio_here()))
    jacobian = mpmath.matrix(2, 2)
    *entries, first, second = forms.constraint(*at)
    for place, value in enumerate(entries):
        jacobian[place // 2, place % 2] = value
    expected = mpmath.lu_solve(jacobian, mpmath.matrix([-first, -second]))
    # The slope is a difference of two tanh, which cancel where both are saturated: relative to either of them.
    assert relative(problem.tangent(slope, log_sizes), list(expected), size=max(map(abs, expected)) + 0.5) <= 1e-13


@pytest.mark.parametrize("log_alpha", [-300.0, -30.0, -3.0, 0.0, 3.0])
@pytest.mark.parametrize("shaped", [False, True])
def test_the_certificate_of_a_minimiser(log_alpha, shaped):
    """Reference: at the multipliers reported, the derived gradient of the dual vanishes and the derived objectives meet."""
    X, y = np.array([[1.0, -0.4], [0.3, 0.8]]), np.array([1.0, -0.5])
    logs = np.array([log_alpha, log_alpha + 0.3])
    h = np.array([0.5, -0.2]) if shaped else np.zeros(2)
    best = dln.minimize_potential(dln.Problem(X, y), log_alpha=logs, log_ratio=h)
    assert best.success, best.message
    forms, at = derived(), lift(X, y, logs, h, best.dual)
    # An image of 600 is known to 1e-13, and so is the beta that it gives.
    rounding = 1e-15 * (20 + 8 * abs(log_alpha))
    assert relative(best.beta, forms.betas(*at)) <= 4 * rounding
    assert relative(np.zeros(2), forms.gradient(*at), size=1) <= 8 * rounding
    divergence, dual_value = forms.divergence(*at), -forms.objective(*at)
    assert relative(best.objective, [divergence]) <= 8 * rounding
    assert relative(best.objective, [dual_value]) <= 8 * rounding
    assert relative(float(dual_value), [divergence]) <= 8 * rounding
    assert best.duality_gap <= 1e-11
