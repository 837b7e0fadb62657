"""The path of minimisers over initial scales: single solves, other solvers, both limits and their rates, its derivative."""

import contextlib
import io
import math
import re
from pathlib import Path

import mpmath
import numpy as np
import pytest
from random_data import KINDS, data

import dln
from theory._dual import follow_minimisers, row_space

DEPTHS = (2.0, 2.5, 3.0, 4.0)


def relative(a, b):
    return np.linalg.norm(np.asarray(a) - b) / np.linalg.norm(b)


@pytest.fixture(scope="module")
def noisy():
    return data("noisy", 8, 20)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_every_scale_is_that_of_a_single_solve(kind, depth):
    # Reference: `minimize_potential`, each scale by itself; certificates of 1e-12 from 1e10 to 1e-300.
    problem = data(kind, 12, 30)
    path = dln.scale_path(problem, depth=depth)
    assert path.success.all() and set(path.statuses) == {"optimal"}
    assert path.residuals.max() <= 1e-12 and path.duality_gaps.max() <= 1e-12
    assert np.ptp(path.log_alphas) == pytest.approx(310.0 * math.log(10.0), rel=1e-12)
    for k in range(0, len(path.log_alphas), 9):
        best = dln.minimize_potential(problem, log_alpha=path.log_alphas[k], depth=depth)
        assert relative(path.betas[k], best.beta) <= 1e-11
        assert path.objectives[k] == best.objective or path.objectives[k] == pytest.approx(best.objective, rel=1e-11)
        # A sparse truth leaves the multipliers to coordinates that fit the rounding of y.
        if np.isfinite(best.dual).all() and kind != "sparse":
            np.testing.assert_allclose(path.duals[k], best.dual, rtol=0, atol=1e-10 * np.max(np.abs(best.dual)))


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_solver_of_the_other_room_agrees(noisy, depth):
    # Reference: the SciPy route of theory/, Newton's method on the dual in orthonormal rows; no common code.
    logs = np.log(10.0) * np.array([2.0, 0.5, 0.0, -0.5, -1.0, -2.0])
    path = dln.scale_path(noisy, log_alphas=logs, depth=depth)
    betas = follow_minimisers(*row_space(noisy.X, noisy.y), [np.full(20, log) for log in logs], depth)
    for k in range(len(logs)):
        assert relative(path.betas[k], betas[k]) <= 1e-9


def test_one_sample_in_two_coordinates_has_a_closed_form():
    # Reference: mpmath root of 2 a^2 (sinh 4 nu + 2 sinh 8 nu) = y with X = [1, 2], in 400 digits.
    alphas = (1e3, 1.0, 1e-3, 1e-20, 1e-150)
    path = dln.scale_path(dln.Problem([[1.0, 2.0]], [3.0]), alphas)
    for alpha, beta in zip(alphas, path.betas, strict=True):
        with mpmath.workdps(400):
            square = 2 * mpmath.mpf(alpha) ** 2
            guess = mpmath.asinh(3 / (2 * square)) / 8 if alpha <= 1 else 3 / (square * 20)
            nu = mpmath.findroot(
                lambda nu, s=square: mpmath.log(s * (mpmath.sinh(4 * nu) + 2 * mpmath.sinh(8 * nu)) / 3), guess)
            exact = [float(square * mpmath.sinh(k * nu)) for k in (4, 8)]
        np.testing.assert_allclose(beta, exact, rtol=1e-12)


def test_scales_far_below_the_floats():
    # Reference: single solves to log alpha = -1e6, and the l1 minimiser, which HiGHS finds.
    problem = data("noisy", 12, 30)
    for depth, logs in ((2.0, [-1e6, -1e3, -1e4, -1e5, 5.0]), (3.0, [-1e4, 5.0, -1e3])):
        path = dln.scale_path(problem, log_alphas=logs, depth=depth)
        assert path.success.all() and path.alphas[0] == 0.0 and path.duality_gaps.max() <= 1e-13
        for log, beta in zip(logs, path.betas, strict=True):
            assert relative(beta, dln.minimize_potential(problem, log_alpha=log, depth=depth).beta) <= 1e-11
        assert relative(path.betas[0], dln.basis_pursuit(problem).beta) <= 1e-10


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_distance_to_the_kernel_limit_falls_as_alpha_to_minus_2_depth(noisy, depth):
    # Reference: theorem T17, the order -2D, with an uneven shape; slopes between half decades, where they are not rounding.
    shape = np.exp(np.random.default_rng(0).uniform(-0.5, 0.5, 20))
    path = dln.scale_path(noisy, np.geomspace(10.0, 10.0**1.75, 4), depth=depth, shape=shape)
    distances = np.array([relative(beta, path.kernel_limit.beta) for beta in path.betas])
    kept = distances > 1e-12
    assert kept.sum() >= 2
    slopes = np.diff(np.log(distances[kept])) / np.diff(path.log_alphas[kept])
    np.testing.assert_allclose(slopes, -2.0 * depth, atol=0.02)


@pytest.mark.parametrize("depth", [2.0, 3.0])
def test_the_rich_end_is_the_minimiser_of_the_l1_norm(depth):
    # Reference: theorem T18 and HiGHS: at alpha = 1e-100 the rest is 1e-200^gap, below rounding where the gap exceeds 0.1.
    tested = 0
    for seed in range(20):
        problem = data("noisy", 6, 12, seed)
        shape = np.exp(np.random.default_rng(seed).uniform(-0.5, 0.5, 12))
        path = dln.scale_path(problem, [1.0, 1e-100], depth=depth, shape=shape)
        limit = path.rich_limit
        reach = np.abs(problem.X.T @ limit.dual) * shape ** (depth - 2.0)
        reach = reach / np.max(reach)  # whatever the unit of the weights
        if 1.0 - np.max(reach[limit.beta == 0.0]) > 0.1:
            assert relative(path.betas[1], limit.beta) <= 1e-10
            assert path.excess_l1[1] < 1e-12 and path.richness[1] == pytest.approx(1.0, abs=1e-12)
            tested += 1
    assert tested >= 4


def test_the_excess_keeps_its_digits_far_below_rounding():
    # Reference: one sample x = (1, 1/2): b1 + b2/2 = 1, the excess is |b2|/2 exactly, with b2 from 200 digits.
    path = dln.scale_path(dln.Problem([[1.0, 0.5]], [1.0]), [1e-5, 1e-50, 1e-140])
    for k, alpha in enumerate(path.alphas):
        with mpmath.workdps(700):
            square = 2 * mpmath.mpf(alpha) ** 2
            nu = mpmath.findroot(lambda nu, s=square: mpmath.log(s * (mpmath.sinh(4 * nu) + mpmath.sinh(2 * nu) / 2)),
                                 mpmath.asinh(1 / square) / 4)
            exact = float(square * mpmath.sinh(2 * nu) / 2)
        assert path.excess_l1[k] == pytest.approx(exact, rel=1e-10, abs=0)
    assert path.excess_l1[2] < 1e-130


@pytest.mark.parametrize("depth", DEPTHS)
def test_measures_against_their_definitions(noisy, depth):
    # Reference: the definitions, with their cancellation, where it does no harm.
    shape = np.exp(np.random.default_rng(1).uniform(-0.5, 0.5, 20))
    problem = dln.Problem(noisy.X, noisy.y, truth=np.arange(20.0))
    path = dln.scale_path(problem, np.geomspace(1e6, 1e-6, 25), depth=depth, shape=shape)
    weights = shape ** (2.0 - depth)

    def excess(betas):
        return np.abs(betas) @ weights / (np.abs(dln.basis_pursuit(noisy, weights).beta) @ weights) - 1.0

    kernel = dln.minimum_norm(noisy, shape ** (2.0 - 2.0 * depth)).beta
    np.testing.assert_allclose(path.excess_l1, excess(path.betas), rtol=0, atol=1e-11)
    np.testing.assert_allclose(path.richness, 1.0 - excess(path.betas) / excess(kernel), rtol=0, atol=1e-11)
    np.testing.assert_allclose(path.l1_norms, np.abs(path.betas).sum(axis=1), rtol=1e-14)
    np.testing.assert_allclose(path.l2_norms, np.sqrt((path.betas**2).sum(axis=1)), rtol=1e-14)
    np.testing.assert_allclose(path.effective_number, path.l1_norms**2 / path.l2_norms**2, rtol=1e-13)
    np.testing.assert_allclose(path.distance_to_truth, [np.linalg.norm(beta - problem.truth) for beta in path.betas],
                               rtol=1e-13)
    assert path.richness[0] == pytest.approx(0.0, abs=1e-12) and path.richness[-1] > 0.9
    assert np.all(np.diff(path.richness) > -1e-12)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("ratio", [0.0, 0.4])
def test_the_velocity_is_the_difference_to_the_tangent_interpolator(noisy, depth, ratio):
    # Reference: central differences of order 4 of single solves in log alpha.
    rng = np.random.default_rng(2)
    shape, ratio = np.exp(rng.uniform(-0.5, 0.5, 20)), ratio * rng.standard_normal(20)
    logs = np.array([1.0, 0.0, -0.5, -1.0, -2.0])
    path = dln.scale_path(noisy, log_alphas=logs, depth=depth, shape=shape, log_ratio=ratio)
    h = 1e-2

    def beta(log):
        return dln.minimize_potential(noisy, log_alpha=log + np.log(shape), log_ratio=ratio, depth=depth).beta

    for k, log in enumerate(logs):
        found = (8.0 * (beta(log + h) - beta(log - h)) - beta(log + 2 * h) + beta(log - 2 * h)) / (12.0 * h)
        rounding = 1e-10 * np.max(np.abs(path.betas[k]))
        np.testing.assert_allclose(path.velocities[k], found, rtol=0, atol=1e-6 * np.max(np.abs(found)) + rounding)
    assert np.max(np.abs(path.tangent_interpolators @ noisy.X.T - noisy.y)) <= 1e-12 * np.max(np.abs(noisy.y))


@pytest.mark.parametrize("depth", [2.0, 3.0])
def test_a_shape_a_ratio_and_a_centre(noisy, depth):
    # Reference: single solves.
    rng = np.random.default_rng(3)
    shape, ratio, center = np.exp(rng.uniform(-2, 2, 20)), rng.uniform(-1, 1, 20), 0.2 * rng.standard_normal(20)
    alphas = np.array([1e2, 3.0, 1.0, 0.3, 0.1, 1e-2, 1e-4, 1e-8])
    for given in ({"log_ratio": ratio}, {"center": center}):
        path = dln.scale_path(noisy, alphas, depth=depth, shape=shape, **given)
        for k, alpha in enumerate(alphas):
            best = dln.minimize_potential(noisy, alpha=alpha * shape, depth=depth, **given)
            assert path.success[k] == (best.residual <= 1e-12 and best.duality_gap <= 1e-12)
            assert relative(path.betas[k], best.beta) <= 1e-10
        assert path.success.sum() >= 7


def test_limits_with_a_ratio_or_a_centre(noisy):
    # Reference: the optimality of the shifted l2 norm; large scales for the former, small ones for the latter.
    center = np.linspace(-1.0, 1.0, 20)
    path = dln.scale_path(noisy, [1e4, 1.0], center=center)
    assert relative(path.betas[0], path.kernel_limit.beta) <= 1e-11
    expected = center + np.linalg.pinv(noisy.X) @ (noisy.y - noisy.X @ center)
    assert relative(path.kernel_limit.beta, expected) <= 1e-11
    with pytest.raises(ValueError, match="keeps the path away"):
        _ = path.rich_limit
    with pytest.raises(ValueError, match="velocities"):
        _ = path.velocities
    path = dln.scale_path(noisy, [1.0, 1e-100], log_ratio=center)
    assert relative(path.betas[1], path.rich_limit.beta) <= 1e-8
    with pytest.raises(ValueError, match="no kernel limit"):
        _ = path.kernel_limit


@pytest.mark.parametrize("depth", [2.0, 3.0])
def test_the_order_of_the_scales_is_kept(noisy, depth):
    # Reference: the same scales in falling order; also repeated ones, and a single one.
    logs = np.array([-3.0, 1.0, -40.0, 4.0, -3.0, 0.0])
    path = dln.scale_path(noisy, log_alphas=logs, depth=depth)
    falling = dln.scale_path(noisy, log_alphas=np.sort(logs)[::-1], depth=depth)
    np.testing.assert_array_equal(path.log_alphas, logs)
    np.testing.assert_array_equal(path.betas[np.argsort(-logs, kind="stable")], falling.betas)
    assert relative(path.betas[4], path.betas[0]) <= 1e-12
    assert dln.scale_path(noisy, 0.5, depth=depth).betas.shape == (1, 20)


@pytest.mark.parametrize("depth", [2.0, 3.0])
def test_degenerate_data(degenerate, depth):
    # Reference: normal equations and the conditions of optimality, by single solves.
    name, X, y = degenerate
    problem = dln.Problem(X, y)
    path = dln.scale_path(problem, np.array([1e4, 1.0, 1e-2, 1e-10]) * problem.row_space.coordinate_scale ** (1.0 / depth),
                          depth=depth)
    assert path.success.all(), name
    assert np.isfinite(path.excess_l1).all() and np.all(path.effective_number >= 1.0 - 1e-12)
    for k, beta in enumerate(path.betas):
        gradient = X.T @ (X @ beta - y)
        assert np.max(np.abs(gradient)) <= 1e-11 * np.max(np.abs(X.T @ y) + 1e-300), name
        best = dln.minimize_potential(problem, log_alpha=path.log_alphas[k], depth=depth)
        assert relative(beta, best.beta) <= 1e-10
    assert relative(path.betas[0], path.kernel_limit.beta) <= 1e-11


@pytest.mark.parametrize("depth", [2.0, 3.0])
@pytest.mark.parametrize("factor", [1e-12, 1e12, 1e-140])
def test_scaled_targets_rescale_the_path(noisy, depth, factor):
    # Reference: phi_alpha(s b) with alpha^D = s c^D is a multiple of phi_c(b).
    base = dln.scale_path(noisy, [1e3, 1.0, 0.3, 1e-8], depth=depth)
    scaled = dln.scale_path(dln.Problem(noisy.X, factor * noisy.y), depth=depth,
                            log_alphas=base.log_alphas + math.log(factor) / depth)
    assert scaled.success.all()
    for one, other in zip(base.betas, scaled.betas, strict=True):
        assert relative(other / factor, one) <= 1e-11
    for name in ("excess_l1", "richness", "effective_number"):
        np.testing.assert_allclose(getattr(scaled, name), getattr(base, name), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(scaled.l2_norms / factor, base.l2_norms, rtol=1e-11)


def test_the_default_scales_go_with_the_data(noisy):
    # Reference: alpha^2 has the units of beta; powers of ten stay powers of ten.
    base, scaled = dln.scale_path(noisy), dln.scale_path(dln.Problem(noisy.X, 1e12 * noisy.y))
    np.testing.assert_allclose(scaled.log_alphas - base.log_alphas, math.log(1e6), rtol=1e-12)
    np.testing.assert_allclose(scaled.richness, base.richness, rtol=1e-9, atol=1e-11)


def test_nothing_to_fit_and_nothing_to_choose():
    # Reference: y = 0 has beta = 0; square data have one interpolator, and no way between the limits.
    path = dln.scale_path(dln.Problem([[1.0, 2.0]], [0.0]))
    assert path.success.all() and not path.betas.any() and not path.effective_number.any()
    assert np.isnan(path.excess_l1).all() and np.isnan(path.richness).all() and not path.velocities.any()
    problem = data("noisy", 6, 6)
    for depth in (2.0, 3.0):
        path = dln.scale_path(problem, [1e5, 1.0, 1e-5], depth=depth)
        only = np.linalg.solve(problem.X, problem.y)
        assert max(relative(beta, only) for beta in path.betas) <= 1e-10
        assert np.isnan(path.richness).all() and np.all(np.abs(path.excess_l1) < 1e-10)
        np.testing.assert_allclose(path.velocities, 0.0, atol=1e-9 * np.max(np.abs(only)))


def test_a_scale_that_is_not_certified_is_marked():
    # Reference: columns in the ratio 1e15 and nearly dependent rows leave residuals that no float beta removes.
    rng = np.random.default_rng(0)
    X = rng.standard_normal((6, 12))
    X[1] = X[0] + 1e-12 * rng.standard_normal(12)
    path = dln.scale_path(dln.Problem(X, rng.standard_normal(6)), [1.0, 1e-3])
    np.testing.assert_array_equal(path.success, (path.residuals <= 1e-12) & (path.duality_gaps <= 1e-12))
    assert list(path.statuses) == ["optimal" if good else "not converged" for good in path.success]
    assert not path.success.all() and f"{path.success.sum()} of 2 scales optimal" in repr(path)


@pytest.mark.parametrize(("given", "message"), [
    ({"alphas": [1.0, -1.0]}, r"alphas\[1\] must be positive, got -1.0; below the smallest float give log_alphas instead"),
    ({"alphas": [1.0, np.nan]}, r"alphas\[1\] must be finite, got nan"),
    ({"alphas": []}, r"alphas must be a vector of at least one scale, got shape \(0,\)"),
    ({"log_alphas": [[1.0]]}, r"log_alphas must be a vector of at least one scale, got shape \(1, 1\)"),
    ({"alphas": [1.0], "log_alphas": [1.0]}, "give alphas or log_alphas, not both"),
    ({"center": np.ones(20), "log_ratio": 1.0}, "give center or log_ratio, not both"),
    ({"shape": np.ones(3)}, r"shape must have shape \(20,\), one entry per column of X; got \(3,\)"),
    ({"shape": np.r_[np.ones(19), 0.0]}, r"shape\[19\] must be positive, got 0.0"),
    ({"center": np.inf}, "center must be finite, got inf"),
    ({"depth": 1.5}, "depth must be finite and at least 2, got 1.5"),
    ({"log_ratio": np.ones(3)}, "log_ratio must be a number or have shape"),
    ({"tol": 0.0}, "tol must be positive, got 0.0"),
])
def test_bad_input(noisy, given, message):
    with pytest.raises(ValueError, match=message):
        dln.scale_path(noisy, **given)


def test_a_truth_and_a_problem_are_needed(noisy):
    with pytest.raises(ValueError, match="distance_to_truth needs the predictor"):
        _ = dln.scale_path(noisy, [1.0]).distance_to_truth
    with pytest.raises(TypeError, match=r"problem must be a dln.Problem, got ndarray"):
        dln.scale_path(noisy.X)


def test_the_page_on_the_scale_prints_what_it_shows():
    # Reference: the page itself; its blocks run one after the other, as a reader would.
    page = (Path(__file__).resolve().parents[1] / "docs" / "scale.md").read_text(encoding="utf-8")
    code, shown = (re.findall(rf"^```{language}\n(.*?)^```$", page, re.M | re.S) for language in ("python", "text"))
    names = {"__name__": "page"}
    for block, text in zip(code, shown, strict=True):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(block, "scale.md", "exec"), names)
        assert printed.getvalue() == text
