"""Limits of tiles without trajectories: solved for, or closed from where a flow has come close."""

import math

import numpy as np
import pytest
from scipy.linalg import solve_continuous_lyapunov

import dln
from dln.integrate import dual_limits, dual_path, tile_lanes, tile_limits, tile_lines
from dln.integrate.tiles import Tile, flow_tile

GR, SAM = dln.GradientRegularization, dln.SAM


@pytest.fixture(scope="module")
def problem():
    return dln.sparse_regression(10, 24, 3, noise=0.1, rng=0)


def relative_errors(betas, references):
    return np.linalg.norm(betas - references, axis=1) / np.linalg.norm(references, axis=1)


def assert_limits(problem, log_alphas, log_ratios=None, tol=1e-9):
    # Reference: the minimiser of the potential, solved for by itself, with another certificate.
    tile = flow_tile(problem, None, log_alphas, log_ratios, limits_only=True)
    assert tile.success.all() and np.all(tile.residuals <= 1e-12) and np.all(tile.duality_gaps <= 1e-11)
    best = [dln.minimize_potential(problem, log_alpha=scale, log_ratio=None if log_ratios is None else log_ratios[i])
            for i, scale in enumerate(log_alphas)]
    assert np.all(relative_errors(tile.betas, [b.beta for b in best]) <= tol)
    assert np.all(tile.error_estimates <= 1e-11) and np.all(tile.n_steps == 0)
    return tile


def test_gradient_flow_at_all_scales_in_any_order(problem):
    scales = np.array([-7.0, 3.0, 0.0, -1e6, -2.3, -18.0, -690.0, -7.05, -7.0, -1e4])
    tile = assert_limits(problem, scales)
    again = assert_limits(problem, np.sort(scales))
    assert np.all(relative_errors(tile.betas[np.argsort(scales, kind="stable")], again.betas) <= 1e-12)


def test_scales_and_shapes_of_their_own(problem):
    rng = np.random.default_rng(1)
    assert_limits(problem, rng.uniform(-6.0, 0.0, (5, 24)))
    assert_limits(problem, rng.uniform(-6.0, 0.0, (5, 24)), rng.standard_normal((5, 24)))
    assert_limits(problem, rng.uniform(-60.0, -50.0, 5), np.tile(rng.standard_normal(24), (5, 1)))
    assert_limits(problem, rng.uniform(-6.0, 0.0, 5)[:, None] + rng.standard_normal(24), rng.integers(2, size=5) - 0.5)


def test_degenerate_data(degenerate):
    _, X, y = degenerate
    problem = dln.Problem(X, y)
    size = 0.5 * np.log(problem.row_space.coordinate_scale)
    assert_limits(problem, size + np.array([2.0, -1.0, -3.0, -40.0]), tol=1e-8)


@pytest.mark.parametrize("size", [1e-150, 1e140])
def test_targets_beyond_the_squares_of_floats(problem, size):
    # Reference: phi of (s b, s alpha^2) is s phi.
    scaled = dln.Problem(problem.X, size * problem.y)
    tile = flow_tile(scaled, None, [-3.0 + 0.5 * np.log(size)], limits_only=True)
    assert tile.success.all()
    assert relative_errors(tile.betas / size, flow_tile(problem, None, [-3.0], limits_only=True).betas) <= 1e-9


def test_problems_too_large_for_one_call(problem, monkeypatch):
    # Reference: the same limits from the compiled way.
    scales = np.array([1.0, -3.0, -20.0])
    tile = flow_tile(problem, None, scales, limits_only=True)
    monkeypatch.setattr(tile_limits, "_LARGEST", 1.0)
    for ratios in (None, [0.1], np.full((3, 24), 0.1), np.tile(np.linspace(0.1, 0.1 + 1e-13, 24), (3, 1))):
        compiled = tile if ratios is None else assert_limits(problem, scales, np.full((3, 24), 0.1))
        again = flow_tile(problem, None, scales, ratios, limits_only=True)
        assert again.success.all() and np.all(relative_errors(again.betas, compiled.betas) <= 1e-9)
        np.testing.assert_allclose(again.duals, compiled.duals, rtol=1e-7, atol=1e-9)
    closed = flow_tile(problem, GR(0.05, 0.2), scales[:2], limits_only=True, rtol=1e-3)
    assert closed.success.all() and not closed.n_newton.any()


def test_no_targets(problem):
    # Reference: u = v is at rest.
    tile = flow_tile(dln.Problem(problem.X, np.zeros(10)), None, [0.0, -3.0], limits_only=True)
    assert tile.success.all() and not tile.betas.any() and not tile.losses.any()


def test_the_dual_is_that_of_a_flow(problem):
    # Reference: a flow integrated to the end.
    tile = flow_tile(problem, None, [-3.0], limits_only=True)
    run = dln.flow(problem, log_alpha=-3.0, residual_tol=1e-13)
    np.testing.assert_allclose(tile.duals[0], run.dual, rtol=1e-7)
    assert relative_errors(tile.betas, run.beta[None]) <= 1e-8
    assert np.isinf(tile.times[0]) and tile.losses[0] < 1e-25


@pytest.mark.parametrize("rule", [GR(0.05, 0.2), GR(0.05, 0.2, "backward"), GR(0.05, 0.2, "centered"), GR(0.05, scheme="exact"),
                                  SAM(0.05)], ids=str)
def test_penalties_are_closed_to_what_the_estimate_says(problem, rule):
    # Reference: the same steps, carried on to a residual of 1e-12: what differs is the closing alone.
    scales = np.array([0.0, -2.3, -6.0, -8.5])  # from smaller ones the whole way is followed otherwise
    tile = flow_tile(problem, rule, scales, limits_only=True, rtol=1e-4, method="rosenbrock")
    whole = flow_tile(problem, rule, scales, rtol=1e-4, residual_tol=1e-12, method="rosenbrock")
    assert np.all(tile.n_newton > 0) and np.all(tile.n_steps < whole.n_steps) and tile.success.all()
    assert np.all(tile.residuals <= 1e-12) and np.all(tile.duality_gaps <= 1e-11)
    assert np.all(relative_errors(tile.betas, whole.betas) <= 1e-6)
    np.testing.assert_allclose(tile.log_effective_alphas, whole.log_effective_alphas, atol=3e-4)
    np.testing.assert_allclose(tile.duals, whole.duals, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("step", [0.0, 0.3, -0.3])
def test_the_tail_of_the_linearised_flow(problem, step):
    # Reference: SciPy's solution of the Lyapunov equation M P + P M = r r^T, P = int r r^T.
    rng = np.random.default_rng(7)
    X, c, gamma = problem.X, 0.05, 0.2
    r, sizes, shrinkage = rng.standard_normal(10), rng.random(24), np.empty(24)
    dual_limits.tail(X, r, sizes, c, gamma, step, shrinkage)
    K = 4.0 * c * (X * sizes) @ X.T
    P = solve_continuous_lyapunov(K + gamma * K @ K, np.outer(r, r))
    q = 2.0 * gamma * c * c * np.einsum("ij,ik,kj->j", X, P @ (np.eye(10) + step * K), X)
    np.testing.assert_allclose(shrinkage, q, rtol=1e-9)


@pytest.mark.parametrize("rule", [GR(0.05, 0.5), GR(0.05, scheme="exact"), SAM(0.1)], ids=str)
def test_the_rest_of_the_shrinkage_is_known_to_leading_order(problem, rule, monkeypatch):
    # Reference: runs to the end.  What closing gets wrong is of higher order in the residual than what it adds.
    monkeypatch.setattr(tile_limits, "_LOOSEST", 1e-6)  # the same steps
    whole = flow_tile(problem, rule, [-1.0, -5.0], rtol=1e-6, residual_tol=1e-13)
    for stop, part in ((3e-3, 0.5), (3e-5, 0.02)):
        monkeypatch.setattr(tile_limits, "_STOP", stop)
        early = flow_tile(problem, rule, [-1.0, -5.0], rtol=1e-6, residual_tol=stop)
        tile = flow_tile(problem, rule, [-1.0, -5.0], rtol=1e-6, limits_only=True, limit_tol=1.0)
        left = np.abs(early.log_effective_alphas - whole.log_effective_alphas).max(axis=1)
        unknown = np.abs(tile.log_effective_alphas - whole.log_effective_alphas).max(axis=1)
        assert np.all(unknown < part * left)


def test_cells_that_cannot_be_closed_are_integrated_to_the_end(problem):
    # Reference: flow_tile, to the last bit.
    scales = np.array([-1.0, -6.0])
    for rule, limit_tol in ((GR(0.05, 0.2), 1e-300), (GR(0.05, 0.2, squared=False), 1e-6), (SAM(0.05, per_sample=True), 1e-6),
                            (dln.WeightDecay(0.01), 1e-6)):
        tile = flow_tile(problem, rule, scales, limits_only=True, limit_tol=limit_tol, rtol=1e-4, max_steps=1000)
        whole = flow_tile(problem, rule, scales, rtol=1e-4, max_steps=1000)
        assert np.array_equal(tile.betas, whole.betas) and np.array_equal(tile.statuses, whole.statuses)
        assert np.array_equal(tile.n_rhs, whole.n_rhs) and np.array_equal(tile.times, whole.times)


@pytest.mark.parametrize("correlation", [0.0, 0.9])
@pytest.mark.parametrize("rule", [GR(0.05, 0.25), GR(0.3, 1.0, "centered"), GR(2e-3, scheme="exact"), SAM(0.05)], ids=str)
def test_loose_ways_to_limits_at_the_tolerance_asked_for(rule, correlation, monkeypatch):
    # Reference: each cell integrated to a residual of 1e-12, at a tolerance at which ways are known to 1e-10.
    problem = dln.sparse_regression(10, 24, 3, correlation=correlation, rng=4)
    scales = np.linspace(-1.0, 1.0, 24) + np.linspace(-12.0, -2.0, 6)[:, None]
    whole = flow_tile(problem, rule, scales, rtol=1e-10, residual_tol=1e-12, method="explicit")
    for rtol in (1e-4, 1e-6):
        tile = flow_tile(problem, rule, scales, limits_only=True, rtol=rtol)
        assert tile.success.all() and np.all(relative_errors(tile.betas, whole.betas) <= tile.error_estimates)
        with monkeypatch.context() as patch:
            patch.setattr(tile_limits, "_LOOSEST", rtol)
            strict = flow_tile(problem, rule, scales, limits_only=True, rtol=rtol)
        shorter = tile.n_steps < strict.n_steps
        assert np.all(tile.n_steps <= strict.n_steps) and np.count_nonzero(shorter) >= 2
        assert np.all(tile.error_estimates[shorter] <= rtol + 1e-6)


def test_ways_that_were_too_loose_are_done_again(problem, monkeypatch):
    # Reference: the same cells with ways at the tolerance itself, to the last bit.
    scales = np.array([-9.0, -5.0])
    strict = flow_tile(problem, GR(0.05, 0.2), scales, limits_only=True, rtol=1e-8, method="explicit")
    first = flow_tile(problem, GR(0.05, 0.2), scales, limits_only=True, rtol=1e-8)
    monkeypatch.setattr(tile_limits, "_ways", lambda tile, strengths: np.full(tile.n_cells, 1e-2))
    tile = flow_tile(problem, GR(0.05, 0.2), scales, limits_only=True, rtol=1e-8, method="explicit")
    assert np.array_equal(tile.betas, strict.betas) and np.array_equal(tile.n_rhs, strict.n_rhs)
    again = flow_tile(problem, GR(0.05, 0.2), scales, limits_only=True, rtol=1e-8)
    assert np.all(relative_errors(again.betas, strict.betas) <= 1e-8)
    assert np.all(relative_errors(first.betas, strict.betas) <= 1e-8)


def test_what_an_error_of_the_way_does_to_beta(problem):
    # Reference: minimisers of the potential at scales that are off by so much.
    rng = np.random.default_rng(5)
    scales = np.full((1, 24), -4.0)
    wrong = 1e-6 * rng.standard_normal((1, 24))
    tile = Tile(problem, None, scales[0, 0], None, rtol=1e-8, residual_tol=1e-10, method="auto", max_steps=10)
    limits = tile_limits.Limits(tile)
    limits.solve(tile.rows.y, scales, np.array([0]), wrong=wrong)
    best = [dln.minimize_potential(problem, log_alpha=scales[0] + sign * 2.0 * wrong[0]).beta for sign in (1.0, -1.0)]
    moved = 0.5 * np.linalg.norm(best[0] - best[1]) / np.linalg.norm(limits.betas[0])
    np.testing.assert_allclose(limits.way_errors[0], moved, rtol=1e-4)


def line_of(strength, ascent, **options):
    return [GR(gamma, epsilon, **options) for gamma, epsilon in zip(strength, ascent, strict=True)]


STRENGTHS = np.geomspace(1e-3, 0.05, 16)
LINES = {
    "proportional": line_of(STRENGTHS, 5.0 * STRENGTHS), "same step": line_of(STRENGTHS, np.full(16, 0.2)),
    "backward": line_of(STRENGTHS, np.full(16, 0.2), scheme="backward"),
    "centered": line_of(STRENGTHS, np.full(16, 0.2), scheme="centered"),
    "exact": line_of(STRENGTHS, [None] * 16, scheme="exact"), "SAM": [SAM(strength) for strength in STRENGTHS],
}


@pytest.mark.parametrize("rules", LINES.values(), ids=LINES.keys())
def test_lines_of_strengths_are_predicted_to_what_the_estimate_says(problem, rules):
    # Reference: each cell integrated to a residual of 1e-12, at a tolerance at which ways are known to 1e-9.
    scales = np.linspace(-1.0, 1.0, 24) + np.repeat([-1.0, -9.0], 16)[:, None]
    ratios = np.linspace(-0.5, 0.5, 24)[None]
    tile = flow_tile(problem, 2 * rules, scales, ratios, limits_only=True, rtol=1e-9)
    whole = flow_tile(problem, 2 * rules, scales, ratios, rtol=1e-9, residual_tol=1e-12)
    predicted = tile.n_steps == 0
    assert tile.success.all() and np.count_nonzero(predicted) >= 16
    errors = relative_errors(tile.betas, whole.betas)
    assert np.all(errors <= tile.error_estimates + 1e-9) and np.all(errors[predicted] <= 1e-6)
    np.testing.assert_allclose(tile.log_effective_alphas, whole.log_effective_alphas, atol=1e-5)
    np.testing.assert_allclose(tile.duals, whole.duals, rtol=1e-4, atol=1e-5)
    assert np.all(tile.residuals <= 1e-12) and np.all(tile.duality_gaps[predicted] <= 1e-11)
    assert np.isinf(tile.times[predicted]).all() and np.all(tile.n_newton[predicted] > 0)


def test_lines_are_found_among_other_cells(problem):
    # Reference: the tile of each line by itself, and cells that are integrated as they are without lines.
    rng = np.random.default_rng(2)
    rules = 2 * LINES["proportional"] + [GR(0.0, 0.1), GR(0.03, 0.4), LINES["proportional"][3]]
    scales = np.array([-2.0] * 16 + [-6.0] * 16 + [-2.0, -2.0, -2.0])
    order = rng.permutation(len(rules))
    tile = flow_tile(problem, [rules[k] for k in order], scales[order], limits_only=True, rtol=1e-6)
    place = np.argsort(order)
    for first, scale in ((0, -2.0), (16, -6.0)):
        line = flow_tile(problem, LINES["proportional"], scale, limits_only=True, rtol=1e-6)
        assert np.all(relative_errors(tile.betas[place[first:first + 16]], line.betas) <= 1e-12)
    single = flow_tile(problem, rules[32:34], -2.0, limits_only=True, rtol=1e-6)
    assert np.array_equal(tile.betas[place[32:34]], single.betas)
    assert relative_errors(tile.betas[place[[34]]], tile.betas[place[[3]]]) <= 1e-12


def test_lines_that_cannot_be_predicted_are_integrated(problem, monkeypatch):
    # Reference: flow_tile, to the last bit, since no cell runs in lanes; and cells closed one by one.
    monkeypatch.setattr(tile_lanes, "FEWEST", 10**9)
    rules = LINES["same step"]
    whole = flow_tile(problem, rules, -3.0, rtol=1e-4)
    tile = flow_tile(problem, rules, -3.0, limits_only=True, rtol=1e-4, limit_tol=1e-300)
    assert np.array_equal(tile.betas, whole.betas) and np.array_equal(tile.times, whole.times)
    with monkeypatch.context() as patch:
        patch.setattr(tile_limits, "_LARGEST", 1.0)
        tile = flow_tile(problem, rules, -3.0, limits_only=True, rtol=1e-4)
    assert np.array_equal(tile.betas, whole.betas) and np.array_equal(tile.n_rhs, whole.n_rhs)
    tile = flow_tile(problem, rules, -3.0, limits_only=True, rtol=1e-4, max_steps=5)
    assert not tile.success.any() and {tile.status(i) for i in range(16)} == {"step limit"}
    at_rest = flow_tile(dln.Problem(problem.X, np.zeros(10)), rules, -3.0, limits_only=True)
    assert at_rest.success.all() and not at_rest.betas.any()


def test_leja_points_and_their_polynomials():
    # Reference: NumPy's polynomials, which interpolation reproduces; the greedy choice written out.
    rng = np.random.default_rng(3)
    points = np.append(rng.random(9), 0.25)
    points[4] = points[7]  # the same strength twice
    turns = tile_lines._leja(points)
    assert len(turns) == 9 and points[turns[0]] == points.max()
    for k in range(1, 9):
        distances = np.abs(points[:, None] - points[turns[:k]]).prod(axis=1)
        assert distances[turns[k]] >= (1.0 - 1e-12) * distances.max()
    polynomial = np.polynomial.Polynomial(rng.standard_normal(5))
    nodes = points[turns[:5]]
    np.testing.assert_allclose(tile_lines._lagrange(points, nodes) @ polynomial(nodes), polynomial(points), rtol=1e-10)


def test_a_limit_that_was_not_reached_says_so(problem):
    # Reference: the status of the integration.
    tile = flow_tile(problem, GR(0.05, 0.2), [-1.0, -6.0], limits_only=True, max_steps=3, rtol=1e-3)
    assert [tile.status(i) for i in range(2)] == ["step limit"] * 2 and not tile.success.any()


def test_bad_arguments(problem):
    with pytest.raises(ValueError, match=r"limits_only asks for limits, which know no t_end; got t_end=1\.0"):
        flow_tile(problem, limits_only=True, t_end=1.0)
    with pytest.raises(ValueError, match="limit_tol must be finite and above 0, got 0"):
        flow_tile(problem, limits_only=True, limit_tol=0.0)


@pytest.mark.parametrize(("log_alpha", "spread"), [(-1.0, "small"), (-8.0, "small"), (-60.0, "large"), (-300.0, "large")])
def test_tangents_of_the_way_by_both_methods(log_alpha, spread):
    """Reference: central differences of duals at neighbouring scales, by the minimiser (another code)."""
    problem = dln.sparse_regression(8, 30, 3, rng=4, noise=0.3)
    path, place, work = dual_path.room(problem.X, problem.y)
    path.scale[0] = np.linalg.norm(problem.y)
    path.log_alpha[:] = log_alpha
    residual, _, _ = dual_path.follow(path, place, work, 1e-12, 0.5 * math.log(problem.row_space.coordinate_scale))
    path.speed[:] = 1.0
    assert residual <= 1e-12
    assert (np.ptp(place.log_sizes) < dual_path._SPREAD) == (spread == "small")
    assert dual_path._tangent(path, place, work)
    step = 1e-3
    up, down = (dln.minimize_potential(problem, log_alpha=log_alpha + sign * step).dual for sign in (1.0, -1.0))
    np.testing.assert_allclose(work.tangent, (up - down) / (2.0 * step), rtol=1e-4, atol=1e-6 * np.abs(work.tangent).max())
