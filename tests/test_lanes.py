"""Runs of a tile in vector lanes: each makes the steps of `dln.flow`, up to rounding, whatever runs beside it.

But for the last one to a stop, which `dln.flow` does at once (`closing.py`): here it does not, unless a test says so.
"""

import sys

import numpy as np
import pytest
from scipy.linalg import cho_factor, cho_solve

import dln
from dln._jit import entry_point
from dln._lanes import LANES
from dln.integrate import lane_kernels, tile_lanes
from dln.integrate.tableaus import W6
from dln.integrate.tiles import Tile, flow_tile

GR, SAM = dln.GradientRegularization, dln.SAM
RULES = [None, GR(0.05, 0.2), GR(0.05, 0.2, "backward"), GR(0.05, 0.2, "centered"), GR(0.05, scheme="exact"), SAM(0.05),
         GR(8.0, 0.1)]  # the last one strong: nu follows Q
ROUNDING = 1e-10  # relative, of beta at the end: rounding errors, amplified on the way


@pytest.fixture(autouse=True)
def any_number(monkeypatch):
    monkeypatch.setattr(tile_lanes, "FEWEST", 1)


@pytest.fixture(autouse=True)
def step_by_step(monkeypatch):
    monkeypatch.setattr(sys.modules["dln.flow"], "relaxes", lambda *_: False)


@pytest.fixture(scope="module")
def problem():
    return dln.sparse_regression(7, 23, 3, noise=0.1, rng=0)


def settings_of_tile(**changes):
    return {"rtol": 1e-3, "residual_tol": 1e-10, "method": "auto", "max_steps": 100_000, **changes}


def groups_of(problem, rules, scales, loose=True, **changes):
    return tile_lanes.lane_groups(Tile(problem, rules, scales, None, **settings_of_tile(**changes)), loose)


def relative_error(beta, reference):
    return np.linalg.norm(beta - reference) / np.linalg.norm(reference)


def assert_as_flow(problem, rules, scales, ratios=None, tol=ROUNDING, **settings):
    # Reference: dln.flow, cell by cell.
    tile = flow_tile(problem, rules, scales, ratios, **settings)
    for i, scale in enumerate(scales):
        rule = rules[i] if isinstance(rules, list) else rules
        run = dln.flow(problem, rule, log_alpha=scale, log_ratio=None if ratios is None else ratios[i], **settings)
        assert tile.status(i) == run.status and tile.success[i] == run.success
        assert relative_error(tile.betas[i], run.beta) <= tol, (i, scale)
        np.testing.assert_allclose(tile.log_effective_alphas[i], run.log_effective_alpha, rtol=0.0, atol=tol)
        np.testing.assert_allclose(tile.duals[i], run.dual, rtol=0.0, atol=1e3 * tol * np.abs(run.dual).max())
        assert abs(tile.n_steps[i] - run.n_steps) <= 1 and abs(tile.n_rejected[i] - run.n_rejected) <= 1
        np.testing.assert_allclose(tile.times[i], run.t, rtol=1e-3)
        assert abs(tile.residuals[i] - run.residual) <= tol
    return tile


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("settings", [{"rtol": 1e-8, "method": "rosenbrock"}, {"rtol": 1e-4}], ids=str)
def test_trajectories(problem, rule, settings):
    # Scales from which no coordinate sleeps: `flow` leaves those out.
    tile = assert_as_flow(problem, rule, np.log([10.0, 1.0, 0.1, 0.3, 0.05, 2.0, 0.2, 0.5, 0.02, 0.15]), t_end=20.0, **settings)
    assert np.all(tile.times == 20.0)


@pytest.mark.parametrize("rule", [None, GR(0.05, 0.2)], ids=str)
def test_small_scales(problem, rule):
    # What `flow` holds while it sleeps is at most a part of the tolerance.
    assert_as_flow(problem, rule, np.log([1e-8, 1e-3, 1e-5, 1e-6]), t_end=60.0, rtol=1e-3, tol=1e-5)


@pytest.mark.parametrize("rule", [None, GR(0.05, 0.2), SAM(0.05)], ids=str)
def test_runs_that_end_at_once_agree(problem, rule, monkeypatch):
    # Reference: the same run by ordinary steps; both are as accurate.
    monkeypatch.undo()
    monkeypatch.setattr(tile_lanes, "FEWEST", 1)
    scales = np.log([0.1, 0.03, 0.3])
    tile = flow_tile(problem, rule, scales, rtol=1e-2, t_end=800.0)
    for i, scale in enumerate(scales):
        run = dln.flow(problem, rule, log_alpha=scale, rtol=1e-2, t_end=800.0)
        assert run.n_steps < tile.n_steps[i]
        assert relative_error(tile.betas[i], run.beta) <= 1e-6


@pytest.mark.parametrize("rule", [None, GR(0.05, 0.2), SAM(0.05)], ids=str)
def test_limits(problem, rule):
    assert_as_flow(problem, rule, np.log([1.0, 0.1, 0.3]), rtol=1e-6, method="rosenbrock")


@pytest.mark.parametrize(("n", "d"), [(1, 1), (1, 3), (3, 5), (4, 4), (5, 9), (13, 50)])
def test_sizes_that_do_not_fill_blocks(n, d):
    rng = np.random.default_rng(n)
    problem = dln.Problem(rng.standard_normal((n, d)), rng.standard_normal(n))
    for rule in (None, GR(0.02, 0.1)):
        assert_as_flow(problem, rule, np.log([0.3, 1.0]), t_end=5.0, rtol=1e-5)


def test_cells_with_rules_scales_shapes_and_final_times_of_their_own(problem):
    rng = np.random.default_rng(3)
    rules = [GR(gamma, epsilon) for gamma, epsilon in rng.uniform(0.01, 0.1, (11, 2))]
    scales, ratios = rng.uniform(-2.0, 0.0, (11, 23)), rng.standard_normal((11, 23))
    assert_as_flow(problem, rules, scales, ratios, rtol=1e-4, t_end=7.0)
    assert_as_flow(problem, None, scales, ratios, rtol=1e-4, t_end=7.0)
    ends = rng.uniform(0.01, 30.0, 11)
    tile = flow_tile(problem, rules, scales, ratios, rtol=1e-4, t_end=ends)
    assert np.array_equal(tile.times, ends) and tile.success.all()
    for i in (0, 7):
        run = dln.flow(problem, rules[i], log_alpha=scales[i], log_ratio=ratios[i], rtol=1e-4, t_end=ends[i])
        assert relative_error(tile.betas[i], run.beta) <= ROUNDING and tile.n_steps[i] == run.n_steps


def test_kinds_of_differences_side_by_side(problem):
    rules = [GR(0.05, 0.2, "centered"), GR(0.05, 0.2), GR(9.0, 0.2), GR(0.05, 0.3, "centered"), GR(0.05, scheme="exact"),
             GR(0.05, 0.2, squared=False)]
    assert [len(group.cells) for group in groups_of(problem, rules, [-1.0] * 6)] == [2, 1, 2]
    assert_as_flow(problem, rules, [-1.0] * 6, rtol=1e-4, t_end=1.0)


@pytest.mark.parametrize("rule", [None, GR(0.05, 0.2)], ids=str)
def test_neighbours_do_not_matter(problem, rule):
    # Reference: the same cells in one tile, to the last bit: in another order, with others between them, alone.
    scales = np.linspace(-8.0, 1.0, 21)
    whole = flow_tile(problem, rule, scales, rtol=1e-3, t_end=9.0)
    order = np.random.default_rng(0).permutation(21)
    shuffled = flow_tile(problem, rule, scales[order], rtol=1e-3, t_end=9.0)
    part = flow_tile(problem, rule, scales[::4], rtol=1e-3, t_end=9.0)
    alone = flow_tile(problem, rule, scales[5:6], rtol=1e-3, t_end=9.0)
    for name in ("betas", "duals", "log_effective_alphas", "times", "residuals", "error_estimates", "n_steps", "n_rejected"):
        array = getattr(whole, name)
        assert np.array_equal(array[order], getattr(shuffled, name)), name
        assert np.array_equal(array[::4], getattr(part, name)), name
        assert np.array_equal(array[5:6], getattr(alone, name)), name


def test_a_run_that_goes_wrong_disturbs_no_other(problem):
    # Reference: the good cells by themselves.  From e^290 on steps overflow and matrices do not factor.
    scales, settings = [-0.5, 290.0] * 5, {"rtol": 1e-3, "t_end": 9.0, "max_steps": 100}
    tile = flow_tile(problem, GR(0.05, 0.2), scales, **settings)
    good = flow_tile(problem, GR(0.05, 0.2), scales[::2], **settings)
    assert np.array_equal(tile.betas[::2], good.betas) and tile.success[::2].all()
    run = dln.flow(problem, GR(0.05, 0.2), log_alpha=290.0, **settings)
    assert not run.success and run.n_rejected > 0 and not tile.success[1::2].any()
    assert {tile.status(i) for i in range(1, 10, 2)} == {run.status}


def test_the_loop_can_be_left_anywhere(problem):
    # Reference: the same tile in one call.  One multiply-add of budget: the kernel returns after each step.
    def result(budget):
        tile = Tile(problem, GR(0.05, 0.2), np.linspace(-3.0, 0.0, 11), None, **settings_of_tile())
        tile.run(budget)
        return tile.result()

    whole, pieces = result(1e9), result(1.0)
    assert np.array_equal(whole.betas, pieces.betas) and np.array_equal(whole.n_rhs, pieces.n_rhs)


def test_steps_are_counted_and_end(problem):
    # Where no final time is given, the end is as uncertain as the sizes of steps: the estimates of their errors cancel.
    tile = assert_as_flow(problem, GR(0.05, 0.2), np.linspace(-3.0, 0.0, 10), rtol=1e-5, max_steps=9, tol=1e-6)
    assert np.all(tile.n_steps + tile.n_rejected == 9) and {tile.status(i) for i in range(10)} == {"step limit"}


def test_starts_at_rest(problem):
    tile = flow_tile(dln.Problem(problem.X, np.zeros(7)), None, [-1.0] * 3, rtol=1e-3)
    assert tile.success.all() and np.all(tile.n_steps == 0) and not tile.betas.any()


def test_which_cells_run_in_lanes(problem):
    def cells(rules, scales, loose=True, data=problem, **changes):
        return [group.cells.tolist() for group in groups_of(data, rules, scales, loose, **changes)]

    scales = [0.0, -3.0, -100.0, 60.0]
    assert cells(None, scales, t_end=9.0) == [[0, 1]]
    assert cells(None, [0.0, -3.0, -20.0], rtol=1e-3) == [[0, 1]]  # the last goes from plateau to plateau
    assert cells(None, [0.0, -3.0, -20.0], rtol=1e-3, method="rosenbrock") == [[0, 1, 2]]
    assert cells(GR(0.1, 0.1), scales) == [[0, 1, 2, 3]]
    assert cells(GR(0.1, 0.1), scales, loose=False) == cells(GR(0.1, 0.1), scales, method="explicit") == []
    for rule in (GR(0.1, 0.1, squared=False), SAM(0.1, normalized=True), SAM(0.1, per_sample=True), dln.WeightDecay(0.1)):
        assert cells(rule, scales) == []
    assert cells(None, scales, data=dln.sparse_regression(80, 90, 3, rng=0), t_end=9.0) == []


def test_few_cells_run_one_after_another(problem, monkeypatch):
    # Reference: dln.flow, to the last bit.
    monkeypatch.undo()
    scales = np.linspace(-3.0, 0.0, tile_lanes.FEWEST - 1)
    tile = flow_tile(problem, GR(0.05, 0.2), scales, rtol=1e-4, t_end=5.0)
    for beta, scale in zip(tile.betas, scales, strict=True):
        assert np.array_equal(beta, dln.flow(problem, GR(0.05, 0.2), log_alpha=float(scale), rtol=1e-4, t_end=5.0).beta)


def test_a_wrong_tableau_or_strength_is_noticed(problem, monkeypatch):
    scales = np.log([1.0, 0.1])
    run = dln.flow(problem, GR(0.05, 0.2), alpha=1.0, rtol=1e-4, t_end=5.0)
    for rule in (GR(0.05 * (1 + 1e-5), 0.2), GR(0.05, 0.2 * (1 + 1e-4))):
        assert relative_error(flow_tile(problem, rule, scales, rtol=1e-4, t_end=5.0).betas[0], run.beta) > ROUNDING
    A, *others = tile_lanes._tableau(GR(0.05, 0.2), 1e-4)
    assert A is W6.A
    monkeypatch.setattr(tile_lanes, "_tableau", lambda rule, rtol: (A * (1 + 1e-5), *others))
    assert relative_error(flow_tile(problem, GR(0.05, 0.2), scales, rtol=1e-4, t_end=5.0).betas[0], run.beta) > ROUNDING


# ---------------------------------------------------------------------------------------------------------------------
# Kernels.


def test_products_and_systems():
    # Reference: NumPy, SciPy's Cholesky factorisation.
    rng = np.random.default_rng(0)
    A, b, out = rng.standard_normal((12, 8)), rng.standard_normal((8, LANES)), np.empty((12, LANES))
    entry_point(lane_kernels.product)(tile_lanes._panels(A), b, out)
    np.testing.assert_allclose(out, A @ b, rtol=1e-13, atol=1e-13)
    n = 12
    roots = rng.standard_normal((LANES, n, 20))
    M = roots @ roots.transpose(0, 2, 1)
    lower = np.tril_indices(n)
    packed, squared = np.ascontiguousarray(M[:, *lower].T), np.empty((n * (n + 1) // 2, LANES))
    root, b = rng.uniform(0.1, 1.0, (1, LANES)), rng.standard_normal((n, LANES))
    entry_point(lane_kernels.square_of_symmetric)(n, packed, root, np.empty((n * n, LANES)), squared)
    entry_point(lane_kernels.symmetric_product)(n, packed, b, out)
    for lane in range(LANES):
        np.testing.assert_allclose(squared[:, lane], (root[0, lane] ** 2 * M[lane] @ M[lane])[lower], rtol=1e-11, atol=1e-9)
        np.testing.assert_allclose(out[:, lane], M[lane] @ b[:, lane], rtol=1e-11, atol=1e-11)
    x, failed = b.copy(), np.zeros((1, LANES))
    packed[0, 3] = -1.0  # of this lane there is no factor
    pivots = np.empty((n, LANES))
    entry_point(lane_kernels.factorize)(n, packed, pivots, np.empty((4 * n, LANES)), failed)
    entry_point(lane_kernels.solve)(n, packed, pivots, x)
    assert failed[0].tolist() == [float(lane == 3) for lane in range(LANES)]
    for lane in np.flatnonzero(failed[0] == 0.0):
        np.testing.assert_allclose(x[:, lane], cho_solve(cho_factor(M[lane]), b[:, lane]), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("size", [1e-12, 1e-3, 1.0, 30.0])
def test_weights_to_rounding(size):
    # Reference: sinh and cosh in long double; arguments such that the errors of their own rounding are small.
    rng = np.random.default_rng(0)
    log_ratio, Q = size * rng.standard_normal((9, LANES)), rng.uniform(-0.5, 0.5, (9, LANES))
    zero, beta, expected_size, failed = np.zeros((9, LANES)), np.empty((9, LANES)), np.empty((9, LANES)), np.zeros((1, LANES))
    scale = rng.uniform(0.5, 2.0, (9, LANES))
    wide = log_ratio.astype(np.longdouble)
    tol = 1e-15 + 3e-16 * np.abs(log_ratio).max()
    entry_point(lane_kernels.weights_at)(scale, log_ratio, zero, beta, expected_size, failed)
    np.testing.assert_allclose(beta, (2 * scale * np.sinh(wide)).astype(float), rtol=tol)
    np.testing.assert_allclose(expected_size, (2 * scale * np.cosh(wide)).astype(float), rtol=tol)
    entry_point(lane_kernels.weights)(zero, log_ratio, Q, zero, beta, expected_size, failed)
    uv = np.exp(-4.0 * Q.astype(np.longdouble))
    np.testing.assert_allclose(beta, (2 * uv * np.sinh(wide)).astype(float), rtol=2 * tol)
    np.testing.assert_allclose(expected_size, (2 * uv * np.cosh(wide)).astype(float), rtol=2 * tol)
    assert not failed.any()


def test_weights_that_underflow_or_overflow():
    log_product, log_ratio, Q, pull, beta, size = np.zeros((6, 4, LANES))
    failed = np.zeros((1, LANES))
    log_product[:, 0], log_ratio[:, 1], log_product[:, 2], log_product[:, 4] = -1e4, 601.0, np.nan, -1e4
    log_ratio[:, 4] = 1e4 - 2.0  # v is nothing, u is ordinary
    entry_point(lane_kernels.weights)(log_product, log_ratio, Q, pull, beta, size, failed)
    assert failed[0].tolist() == [0, 1, 1, 0, 0, 0, 0, 0] and not beta[:, 0].any() and not size[:, 0].any()
    np.testing.assert_allclose(beta[:, 4], np.exp(-2.0), rtol=1e-14)
    np.testing.assert_allclose(size[:, 4], np.exp(-2.0), rtol=1e-14)


def test_small_losses_are_right_in_lanes_too(problem):
    """Reference: the same flows at rtol 1e-10; steps as long as the weights alone allow miss the loss by a factor of ten."""
    scales = np.log([0.3, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001])
    ends = np.array([dln.flow(problem, log_alpha=scale, residual_tol=1e-5).t for scale in scales])
    tile = flow_tile(problem, None, scales, rtol=0.1, t_end=ends, method="rosenbrock")
    fine = np.array([dln.flow(problem, log_alpha=scale, t_end=end, rtol=1e-10).loss
                     for scale, end in zip(scales, ends, strict=True)])
    assert np.all(fine < 1e-8 * problem.loss(np.zeros(problem.n_features)))
    assert np.abs(np.log(tile.losses / fine)).max() < 0.5
