"""Tiles of flows: a cell that runs alone is what `dln.flow` returns for it, to the last bit; `test_lanes.py` has the others."""

import _thread
import threading

import numpy as np
import pytest

import dln
from dln.integrate import tile_kernel, tile_lanes
from dln.integrate.tiles import Tile, flow_tile, tile_covers

GR, SAM = dln.GradientRegularization, dln.SAM
SAME = {"betas": "beta", "log_effective_alphas": "log_effective_alpha", "effective_log_ratios": "effective_log_ratio",
        "duals": "dual", "losses": "loss", "residuals": "residual", "times": "t", "error_estimates": "error_estimate",
        "n_steps": "n_steps", "n_rejected": "n_rejected", "n_rhs": "n_rhs", "n_factorizations": "n_factorizations",
        "n_jumps": "n_jumps", "success": "success"}


@pytest.fixture(autouse=True)
def one_after_another(monkeypatch):
    monkeypatch.setattr(tile_lanes, "FEWEST", 10**9)


@pytest.fixture(scope="module")
def problem():
    return dln.sparse_regression(10, 24, 3, rng=0)


def assert_same_as_flow(problem, rules, log_alphas, log_ratios=None, **settings):
    # Reference: dln.flow, cell by cell.
    tile = flow_tile(problem, rules, log_alphas, log_ratios, **settings)
    assert len(tile) == len(log_alphas)
    for i, log_alpha in enumerate(log_alphas):
        rule = rules[i] if isinstance(rules, list) else rules
        run = dln.flow(problem, rule, log_alpha=log_alpha, log_ratio=None if log_ratios is None else log_ratios[i], **settings)
        assert tile.status(i) == run.status
        for name, attribute in SAME.items():
            assert np.array_equal(getattr(tile, name)[i], getattr(run, attribute)), (i, name)
    return tile


@pytest.mark.parametrize("settings", [{}, {"rtol": 1e-3}, {"rtol": 1e-3, "method": "explicit"}, {"method": "rosenbrock"},
                                      {"t_end": 30.0}, {"max_steps": 7}], ids=str)
def test_plain_flows_at_all_scales(problem, settings):
    tile = assert_same_as_flow(problem, None, [0.0, -2.3, -7.0, -18.0, -690.0, -1e4], **{"max_steps": 400, **settings})
    assert tile.success.all() or "method" in settings or "max_steps" in settings


@pytest.mark.parametrize("settings", [{"rtol": 1e-3}, {"max_steps": 2500}, {"t_end": 30.0}], ids=str)
@pytest.mark.parametrize("rule", [
    GR(0.05, 0.2), GR(0.05, 0.2, "backward"), GR(0.05, 0.2, "centered"), GR(0.05, scheme="exact"), GR(0.05, 0.2, squared=False),
    SAM(0.05), SAM(0.05, normalized=True), SAM(0.02, per_sample=True), dln.WeightDecay(0.01),
    dln.WeightDecay(np.linspace(0.0, 0.02, 24))], ids=lambda rule: type(rule).__name__)
def test_every_rule(problem, rule, settings):
    assert_same_as_flow(problem, rule, [0.0, -5.0, -8.5, -40.0], **{"max_steps": 400, **settings})


@pytest.mark.parametrize("rule", [None, GR(0.05, 0.2)], ids=["plain", "GR"])
def test_each_cell_may_have_its_own_final_time(problem, rule):
    log_alphas, ends = [-1.0, -6.0, -20.0, -3.0], [2.0, 40.0, 300.0, 0.5]
    tile = flow_tile(problem, rule, log_alphas, t_end=ends, rtol=1e-4)
    for i, (log_alpha, end) in enumerate(zip(log_alphas, ends, strict=True)):
        run = dln.flow(problem, rule, log_alpha=log_alpha, t_end=end, rtol=1e-4)
        assert tile.times[i] == end and np.array_equal(tile.betas[i], run.beta) and tile.n_steps[i] == run.n_steps


def test_a_bad_final_time_is_named(problem):
    with pytest.raises(ValueError, match=r"t_end\[1\] must be above 0, got -1"):
        flow_tile(problem, None, [-1.0, -2.0], t_end=[1.0, -1.0])
    with pytest.raises(ValueError, match="log_alphas has 2 cells and another argument 3"):
        flow_tile(problem, None, [-1.0, -2.0], t_end=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="t_end must be finite and above 0, got 0"):
        flow_tile(problem, None, [-1.0, -2.0], t_end=0.0)


def test_data_so_large_that_the_gram_matrix_is_kept():
    # Between cells it is forgotten: a second one must not begin with what the first one knew.
    problem = dln.sparse_regression(160, 240, 8, rng=0)
    for rule in (None, GR(0.02, 0.1)):
        for method in ("auto", "rosenbrock"):
            assert_same_as_flow(problem, rule, [-2.0, -5.0, -2.0], t_end=3.0, rtol=1e-3, method=method)


def test_rules_that_hover_or_diverge_have_the_same_status():
    # A normalised radius need not settle, decay of the wrong sign grows without bound.
    rng = np.random.default_rng(0)
    problem = dln.Problem(rng.normal(size=(5, 8)), rng.normal(size=5))
    tile = assert_same_as_flow(problem, SAM(0.1, normalized=True), [np.log(0.1)])
    assert tile.status(0) == "hovering" and not tile.success[0]
    tile = assert_same_as_flow(problem, dln.WeightDecay(-0.5), [np.log(0.1)])
    assert tile.status(0) == "diverged" and not tile.success[0]


def test_cells_with_rules_scales_and_shapes_of_their_own(problem):
    rng = np.random.default_rng(3)
    rules = [GR(gamma, epsilon) for gamma, epsilon in rng.uniform(0.01, 0.1, (6, 2))]
    scales, ratios = rng.uniform(-6.0, 0.0, (6, 24)), rng.standard_normal((6, 24))
    assert_same_as_flow(problem, rules, scales, ratios, rtol=1e-4)
    assert_same_as_flow(problem, None, scales, ratios)
    assert_same_as_flow(problem, None, scales - 60.0, ratios)
    assert_same_as_flow(problem, None, np.repeat(scales[:, :1], 24, axis=1), np.zeros((6, 24)))
    assert_same_as_flow(problem, GR(0.05, 0.2), np.tile(scales[0], (3, 1)), np.full((3, 24), 0.3), rtol=1e-4)
    assert_same_as_flow(problem, [dln.WeightDecay(0.01 * rng.random(24)) for _ in range(6)], scales[:, 0], rtol=1e-4)


def test_degenerate_data(degenerate):
    _, X, y = degenerate
    problem = dln.Problem(X, y)
    size = np.log(problem.row_space.coordinate_scale) / 2.0
    assert_same_as_flow(problem, None, [size - 1.0, size - 100.0], max_steps=300)
    rate = problem.n_samples / np.linalg.norm(X, 2) ** 2
    assert_same_as_flow(problem, GR(0.05 * rate, 0.1 * rate / np.exp(2.0 * size)), [size - 1.0], rtol=1e-3, max_steps=300)
    assert_same_as_flow(problem, SAM(0.02 * rate, per_sample=True), [size - 1.0], rtol=1e-3, max_steps=300)


def test_a_start_that_has_converged_already(problem):
    # y = 0 at u = v, and a start at an interpolator.
    assert_same_as_flow(dln.Problem(problem.X, np.zeros(10)), None, [-1.0, -50.0])
    ratio = np.random.default_rng(5).standard_normal(24)
    start = dln.Problem(problem.X, problem.X @ (2.0 * np.exp(-2.0) * np.sinh(ratio)))
    tile = assert_same_as_flow(start, GR(0.05, 0.1), [-1.0], [ratio])
    assert tile.n_steps[0] == 0 and tile.status(0) == "converged"


def test_the_loop_can_be_left_anywhere_and_goes_on_with_the_same_bits(problem):
    # Reference: the same tile in one call.  One multiply-add of budget: the kernel returns after every share of attempts.
    def tile():
        return Tile(problem, None, [-2.3, -7.0, -690.0], None, rtol=1e-8, residual_tol=1e-10, method="auto", max_steps=100_000)

    whole, pieces, again = tile(), tile(), tile()
    whole.run()
    pieces.run(budget=1.0)
    assert np.array_equal(whole.result().betas, pieces.result().betas)
    assert np.array_equal(whole.result().n_rhs, pieces.result().n_rhs)
    again.run()
    assert again.cursor[tile_kernel.PLACE] == 3
    again.run()  # nothing is left to do, and nothing changes
    assert np.array_equal(whole.result().betas, again.result().betas)


def test_interrupt_reaches_python():
    # Reference: an interrupt sent while the kernel runs is raised before the tile is over.
    problem = dln.sparse_regression(40, 4000, 10, noise=0.1, rng=0)
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            while True:
                flow_tile(problem, SAM(0.01, per_sample=True), np.full(1000, -7.0), t_end=1e9, method="explicit")
    finally:
        timer.cancel()


def test_what_a_tile_covers():
    assert tile_covers(dln.GradientFlow()) and tile_covers(SAM(0.1)) and tile_covers(dln.WeightDecay(0.1))
    assert not tile_covers(dln.Flooding(0.1)) and not tile_covers(dln.WeightDecay(lambda t: 1.0))
    assert not tile_covers(dln.WeightDecay(0.1, breakpoints=(1.0,)))
    assert not tile_covers(dln.GradientFlow(), depth=3) and not tile_covers(dln.GradientFlow(), save_at=[1.0])
    assert not tile_covers("plain")


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ((None, np.zeros((2, 7))), ValueError, r"log_alphas must be .* shape \(C,\) or \(C, 24\), got shape \(2, 7\)"),
    ((None, [0.0, np.nan]), ValueError, r"log_alphas\[1\] must be finite, got nan"),
    ((None, "a"), TypeError, "log_alphas must be a number or an array of numbers, got str"),
    ((None, []), ValueError, r"log_alphas .* got shape \(0,\)"),
    ((None, [0.0, 301.0]), ValueError, r"log_alphas\[1\] = 301: the initial weights overflow"),
    ((None, [0.0, 1.0], [0.0, 1.0, 2.0]), ValueError, "log_alphas has 2 cells and another argument 3"),
    (([], [0.0]), ValueError, "rules is empty"),
    ((["gr"], [0.0]), TypeError, r"rules\[0\] must be a training rule"),
    (([GR(0.1, 0.1), SAM(0.1)], [0.0]), ValueError, r"rules\[1\] = SAM.* is of another kind than rules\[0\]"),
    ((dln.Flooding(0.1), [0.0]), ValueError, r"rules\[0\] = Flooding.* is not covered by a tile"),
], ids=str)
def test_bad_arguments(problem, arguments, error, message):
    with pytest.raises(error, match=message):
        flow_tile(problem, *arguments)


def test_bad_settings_are_those_of_flow(problem):
    with pytest.raises(TypeError, match=r"problem must be a dln\.Problem, got ndarray"):
        flow_tile(problem.X)
    for settings, message in (({"rtol": 0.6}, "rtol must be at most 0.5"), ({"method": "euler"}, "method"),
                              ({"max_steps": 0}, "max_steps must be a positive integer"), ({"t_end": 0.0}, "t_end")):
        with pytest.raises(ValueError, match=message):
            flow_tile(problem, **settings)
    assert "1 cells: 1 converged" in repr(flow_tile(problem))
