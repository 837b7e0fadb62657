"""`dln.sweep` in memory: cells against single runs, axes, failures, the door."""

import inspect
import sys

import numpy as np
import pytest
import sweep_functions

import dln
from dln.sweep.driver import make_plan
from dln.sweep.ends import WORDS
from dln.sweep.measures import BUILT_IN

GR = dln.GradientRegularization


@pytest.fixture(scope="module")
def problem():
    return dln.sparse_regression(4, 8, 2, rng=5)


@pytest.fixture(scope="module")
def grid(problem):
    return dln.sweep(problem, GR, gamma=[0.01, 0.1, 0.3], epsilon=0.2, alpha=[1e-2, 0.3], measures=list(BUILT_IN), tile=2)


def weights_hessian(problem, log_u, log_v, depth):
    """The gradient and the Hessian of the loss in the weights, from its definition, by the chain rule on dense matrices."""
    u, v, d, n = np.exp(log_u), np.exp(log_v), len(log_u), problem.n_samples
    slopes = np.hstack([np.diag(depth * u ** (depth - 1)), -np.diag(depth * v ** (depth - 1))])  # (d, 2d)
    g = problem.gradient(u**depth - v**depth)
    bends = depth * (depth - 1) * np.concatenate([u ** (depth - 2) * g, -(v ** (depth - 2)) * g])
    assert slopes.shape == (d, 2 * d)
    return slopes.T @ g, slopes.T @ (problem.X.T @ problem.X / (2 * n)) @ slopes + np.diag(bends)


def test_every_cell_is_the_run_of_its_parameters(problem, grid):
    """Reference: `dln.flow`, called for each cell, and the definitions of the measures."""
    l2, l1 = dln.minimum_norm(problem).beta, dln.basis_pursuit(problem).beta
    for i, gamma in enumerate(grid.gamma.values):
        for j, alpha in enumerate(grid.alpha.values):
            cell, run = grid.isel(gamma=i, alpha=j), dln.flow(problem, GR(gamma, 0.2), alpha=alpha)
            assert WORDS[int(cell.status)] == run.status
            assert (cell.steps, cell.t, cell.loss, cell.residual) == (run.n_steps, run.t, run.loss, run.residual)
            slope, hessian = weights_hessian(problem, run.log_u, run.log_v, 2)
            logs = run.log_effective_alpha
            expected = {
                "l1_norm": np.abs(run.beta).sum(), "l2_norm": np.sqrt(run.beta @ run.beta),
                "richness": 1 - np.linalg.norm(run.beta - l1) / np.linalg.norm(l2 - l1),
                "distance_to_truth": np.linalg.norm(run.beta - problem.truth),
                "mean_log_effective_alpha": np.mean(logs), "spread_log_effective_alpha": np.std(logs),
                "mean_log_shift": np.mean(logs) - np.log(alpha),
                "sharpness": np.linalg.eigvalsh(hessian)[-1], "hessian_trace": np.trace(hessian)}
            for name, value in expected.items():
                np.testing.assert_allclose(cell[name], value, rtol=1e-12, err_msg=name)
            np.testing.assert_allclose(cell.gradient_norm, np.linalg.norm(slope), rtol=1e-4)  # rounding, in a residual of 1e-11
            assert 0 <= cell.prediction_error <= 1e-8


@pytest.mark.parametrize("depth", [2.0, 3.0])
def test_curvature_away_from_an_interpolator(problem, depth):
    """Reference: the dense Hessian; here the curvature of the map counts, and the trace at depth 3, too."""
    grid = dln.sweep(problem, alpha=[0.2, 0.9], depth=depth, t_end=0.3,
                     measures=["sharpness", "hessian_trace", "gradient_norm"])
    for k, alpha in enumerate(grid.alpha.values):
        run = dln.flow(problem, alpha=alpha, depth=depth, t_end=0.3)
        slope, hessian = weights_hessian(problem, run.log_u, run.log_v, depth)
        np.testing.assert_allclose(grid.sharpness[k], np.linalg.eigvalsh(hessian)[-1], rtol=1e-11)
        np.testing.assert_allclose(grid.hessian_trace[k], np.trace(hessian), rtol=1e-11)
        np.testing.assert_allclose(grid.gradient_norm[k], np.linalg.norm(slope), rtol=1e-11)


def test_sharpness_of_many_weights_by_lanczos(problem, monkeypatch):
    """Reference: the dense eigenvalues of the same runs."""
    options = {"alpha": [0.2, 0.9], "t_end": 0.3, "measures": ["sharpness"]}
    dense = dln.sweep(problem, **options).sharpness
    monkeypatch.setattr(sys.modules["dln.sweep.measures"], "_DENSE", 0)
    np.testing.assert_allclose(dln.sweep(problem, **options).sharpness, dense, rtol=1e-10)


def test_shape_names_and_attributes(grid, problem):
    assert dict(grid.sizes) == {"gamma": 3, "alpha": 2}
    assert list(grid.data_vars) == ["status", *BUILT_IN]
    assert grid.attrs["n_cells"] == 6 and grid.attrs["n_failed"] == grid.attrs["n_not_computed"] == 0
    assert {"function", "rule", "parameters", "seed", "data_hash", "versions", "dln_sources"} <= set(grid.attrs)
    for name, variable in grid.data_vars.items():
        assert variable.attrs["long_name"] and variable.attrs["units"], name
    assert grid.status.dtype == np.int8 and grid.steps.dtype == np.int64
    meanings = dict(zip(grid.status.flag_values.tolist(), grid.status.flag_meanings.split(), strict=True))
    assert meanings == {code: word.replace(" ", "_") for code, word in WORDS.items()}
    other = dln.sweep(dln.sparse_regression(4, 8, 2, rng=6), GR, gamma=0.01, epsilon=0.2, alpha=1e-2)
    assert other.attrs["data_hash"] != grid.attrs["data_hash"]


@pytest.mark.parametrize("executor", ["serial", 1, 3, "threads"])
@pytest.mark.parametrize("tile", [1, 4, 100])
def test_the_same_bits_whatever_the_threads_and_tiles(problem, grid, executor, tile):
    """Reference: the grid computed otherwise, bit by bit."""
    again = dln.sweep(problem, GR, gamma=[0.01, 0.1, 0.3], epsilon=0.2, alpha=[1e-2, 0.3], measures=list(BUILT_IN), tile=tile,
                      executor=executor)
    assert again.identical(grid)


@pytest.mark.parametrize("rule", [dln.GradientFlow(), GR(0.05, 0.2), dln.SAM(0.05), dln.WeightDecay(0.001)],
                         ids=lambda rule: rule.name)
def test_a_tile_in_one_call_is_its_runs_one_by_one(problem, rule, monkeypatch):
    """Reference: `dln.flow` for each cell; the same bits but for what follows from weights, which are found from beta."""
    alphas = np.array([np.linspace(0.1, 0.3, 8), np.full(8, 1e-3), np.full(8, 2.0)])
    options = {"alpha": alphas, "log_ratio": [0.0, 0.5], "t_end": [5.0, 50.0], "max_steps": 20,
               "measures": [*BUILT_IN, sweep_functions.largest, sweep_functions.gap, sweep_functions.weight]}
    at_once = dln.sweep(problem, rule, **options)
    monkeypatch.setattr(sys.modules["dln.sweep.tile"], "covered", lambda rules, arguments: False)
    alone = dln.sweep(problem, rule, **options)
    assert 0 < alone.attrs["n_failed"] < 12  # of both kinds
    for name in alone.data_vars:
        if name in ("sharpness", "hessian_trace", "gradient_norm", "weight"):
            np.testing.assert_allclose(at_once[name], alone[name], rtol=1e-9, err_msg=name)
        else:
            np.testing.assert_array_equal(at_once[name], alone[name], err_msg=name)


def test_limits_alone(problem):
    """Reference: the flows, to their end, at a tight tolerance."""
    options = {"alpha": [1e-3, 0.1], "measures": ["l1_norm", "l2_norm"]}
    for rule in (dln.GradientFlow(), GR(0.05, 0.2)):
        limits = dln.sweep(problem, rule, limits_only=True, **options)
        flows = dln.sweep(problem, rule, rtol=1e-9, **options)
        np.testing.assert_allclose(limits.l1_norm, flows.l1_norm, rtol=3e-6)
        assert (limits.l1_norm != flows.l1_norm).any()
    with pytest.raises(ValueError, match="limits_only is not for Flooding"):
        dln.sweep(problem, dln.Flooding(0.1), alpha=0.1, limits_only=True)


def cell_runs(grid, make):
    """Compare the l1 norms of all cells with single runs, exactly."""
    for index in np.ndindex(*grid.sizes.values()):
        cell = grid.isel(dict(zip(grid.sizes, index, strict=True)))
        assert float(cell.l1_norm) == np.abs(make(cell).beta).sum(), cell


def test_zipped_axes(problem):
    grid = dln.sweep(problem, GR, dln.zipped(gamma=[0.01, 0.1], epsilon=[0.2, 0.3]), alpha=[0.1, 0.2, 0.3])
    assert dict(grid.sizes) == {"gamma_epsilon": 2, "alpha": 3}
    cell_runs(grid, lambda cell: dln.flow(problem, GR(float(cell.gamma), float(cell.epsilon)), alpha=float(cell.alpha)))


def test_an_instance_keeps_what_no_axis_changes(problem):
    grid = dln.sweep(problem, GR(0.5, 0.2, "backward"), gamma=[0.01, 0.1], alpha=0.1)
    assert dict(grid.sizes) == {"gamma": 2}
    cell_runs(grid, lambda cell: dln.flow(problem, GR(float(cell.gamma), 0.2, "backward"), alpha=0.1))


def test_schemes_scales_per_coordinate_and_shapes(problem):
    alphas = np.array([np.linspace(0.1, 0.3, 8), np.full(8, 0.2)])
    grid = dln.sweep(problem, GR, scheme=["forward", "centered"], gamma=0.05, epsilon=0.1, alpha=alphas, log_ratio=[0.0, 0.5])
    assert dict(grid.sizes) == {"scheme": 2, "alpha": 2, "log_ratio": 2, "feature": 8}
    np.testing.assert_array_equal(grid.alpha_values, alphas)
    cell_runs(grid.drop_vars("alpha_values"),
              lambda cell: dln.flow(problem, GR(0.05, 0.1, str(cell.scheme.values)), alpha=alphas[int(cell.alpha)],
                                    log_ratio=float(cell.log_ratio)))


@pytest.mark.parametrize("name, values, rule", [
    ("rho", [0.01, 0.1], dln.SAM), ("decay", [0.0, 0.01], dln.WeightDecay), ("level", [0.01, 0.02], dln.Flooding),
    ("depth", [2, 3], dln.GradientFlow), ("rtol", [1e-3, 1e-9], dln.GradientFlow)])
def test_other_parameters_of_rules_and_flows(problem, name, values, rule):
    grid = dln.sweep(problem, rule, **{name: values}, alpha=0.2, t_end=3.0)

    def make(cell):
        value = float(cell[name])
        if name in ("depth", "rtol"):
            return dln.flow(problem, alpha=0.2, t_end=3.0, **{name: value})
        return dln.flow(problem, rule(value), alpha=0.2, t_end=3.0)

    cell_runs(grid, make)
    assert grid.l1_norm[0] != grid.l1_norm[1]


def test_step_goes_to_the_clock_that_makes_steps_else_to_flooding(problem):
    grid = dln.sweep(problem, dln.Flooding(0.01), function=dln.descend, step=[0.01, 0.02], n_steps=[20, 40], alpha=0.3)
    cell_runs(grid, lambda cell: dln.descend(problem, dln.Flooding(0.01), step=float(cell.step), n_steps=int(cell.n_steps),
                                             alpha=0.3))
    grid = dln.sweep(problem, dln.Flooding(0.01), step=[0.01, 0.02], alpha=0.3, t_end=9.0)
    cell_runs(grid, lambda cell: dln.flow(problem, dln.Flooding(0.01, step=float(cell.step)), alpha=0.3, t_end=9.0))


def test_seeds_and_noise_of_training(problem):
    options = {"step": 0.05, "t_end": 2.0, "alpha": 0.3, "batch_size": 2}
    grid = dln.sweep(problem, function=dln.stochastic_flow, seed=[0, 1, 7], noise=[0.0, 0.5], **options)
    cell_runs(grid, lambda cell: dln.stochastic_flow(problem, rng=int(cell.seed), label_noise=float(cell.noise), **options))
    assert len(np.unique(grid.l1_norm)) == 6
    default = dln.sweep(problem, function=dln.stochastic_flow, noise=[0.0, 0.5], **options)
    np.testing.assert_array_equal(default.l1_norm, grid.l1_norm.sel(seed=0))
    assert default.attrs["seed"] == "0"


def test_data_of_a_function_and_a_sequence_of_data():
    grid = dln.sweep(sweep_functions.noisy, seed=[1, 2], noise=[0.0, 0.3], alpha=[0.1, 0.2])
    assert dict(grid.sizes) == {"seed": 2, "noise": 2, "alpha": 2}
    cell_runs(grid, lambda cell: dln.flow(sweep_functions.noisy(int(cell.seed), float(cell.noise)), alpha=float(cell.alpha)))
    problems = [sweep_functions.small(1), dln.datasets.diabetes(n_samples=5)]
    grid = dln.sweep(problems, alpha=[0.1, 0.2])
    assert list(grid.problem.values) == [problem.name for problem in problems]
    cell_runs(grid, lambda cell: dln.flow({problem.name: problem for problem in problems}[str(cell.problem.values)],
                                          alpha=float(cell.alpha)))


def test_noise_of_training_is_not_the_noise_of_the_data():
    """The same seed twice would draw the entries of X again, as the noise of the first steps."""
    plan = make_plan(sweep_functions.small, function=dln.descend,
                     parameters={"seed": [3], "step": 0.1, "n_steps": 5, "batch_size": 1, "alpha": 0.1})
    drawn = plan.clock_arguments((0,))["rng"].standard_normal(4)
    assert not np.isin(drawn, np.random.default_rng(3).standard_normal(1000)).any()
    np.testing.assert_array_equal(drawn, plan.clock_arguments((0,))["rng"].standard_normal(4))


def test_functions_of_the_user(problem):
    grid = dln.sweep(problem, alpha=[0.1, 0.3], measures=[sweep_functions.largest, sweep_functions.gap, "steps"])
    assert list(grid.data_vars) == ["status", "largest", "gap", "steps"]
    assert grid.largest.attrs["long_name"] == "Largest coefficient."
    for k, alpha in enumerate(grid.alpha.values):
        run = dln.flow(problem, alpha=alpha)
        assert grid.largest[k] == np.abs(run.beta).max()
        assert grid.gap[k] == np.linalg.norm(run.beta - dln.predict(run).beta)
    named = dln.sweep(problem, alpha=0.1, measures={"top": lambda run: run.beta.max()})
    assert list(named.data_vars) == ["status", "top"]


def test_predictions_only_where_they_are_wanted(problem, monkeypatch):
    calls = []
    monkeypatch.setattr(sys.modules["dln.sweep.ends"], "predict", lambda run: calls.append(run) or dln.predict(run))
    dln.sweep(problem, alpha=[0.1, 0.3], measures=["l1_norm", sweep_functions.largest])
    assert not calls
    dln.sweep(problem, alpha=[0.1, 0.3], measures=["prediction_error", sweep_functions.gap])
    assert len(calls) == 2  # one per cell, for both measures


def test_failed_cells_are_nan_and_keep_their_status(problem):
    grid = dln.sweep(problem, alpha=[1e-3, 1e-2], max_steps=[2, 10_000],
                     measures=["l1_norm", "steps", "t", sweep_functions.largest])
    assert (grid.status.sel(max_steps=2) == list(dln.Status).index(dln.Status.STEP_LIMIT)).all()
    failed = ~grid.status.isin(grid.status.success_values)
    assert failed.values.tolist() == [[True, False]] * 2
    for name in ("l1_norm", "largest"):
        assert (np.isnan(grid[name]) == failed).all()
    assert (grid.steps.sel(max_steps=2) <= 2).all() and np.isfinite(grid.t).all()
    assert grid.attrs["n_failed"] == 2


def test_a_grid_that_fails_everywhere_is_a_grid(problem):
    grid = dln.sweep(problem, alpha=[1e-3, 1e-2], max_steps=1, measures=list(BUILT_IN))
    assert grid.attrs["n_failed"] == 2 and np.isnan(grid.richness).all()


def test_a_run_that_raises_is_an_error_cell_and_told(problem):
    """At this corner only u0 overflows; the values of each axis are good."""
    with pytest.warns(RuntimeWarning, match=r"the first that raised: .*overflow.* at log_alpha=150.0, log_ratio=310.0"):
        grid = dln.sweep(problem, log_alpha=[0.0, 150.0], log_ratio=[0.0, 310.0], tile=4, max_steps=3)
    assert WORDS[int(grid.status[1, 1])] == "error" and np.isnan(grid.l1_norm[1, 1])
    assert (grid.status[:1] != 100).all()


def test_one_cell(problem):
    for parameters, sizes in (({"alpha": 0.1}, {}), ({"alpha": [0.1]}, {"alpha": 1}), ({"alpha": [0.1], "rtol": [1e-6]},
                                                                                        {"alpha": 1, "rtol": 1})):
        grid = dln.sweep(problem, **parameters)
        assert dict(grid.sizes) == sizes and grid.l1_norm.size == 1


def test_progress_is_told(problem):
    told = []
    dln.sweep(problem, alpha=[0.1, 0.2, 0.3], tile=1, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_bar_on_request_only(problem, capsys):
    dln.sweep(problem, alpha=[0.1, 0.2])
    assert capsys.readouterr().err == ""
    dln.sweep(problem, alpha=[0.1, 0.2], progress=True)
    assert "2/2 cells" in capsys.readouterr().err


@pytest.mark.parametrize("change, message", [
    ({"rule": dln.GradientFlow, "gamma": [0.1]}, "rule GradientFlow has no parameter 'gamma' (it has none), nor has dln.flow"),
    ({"rule": GR}, "rule GradientRegularization needs gamma"),
    ({"rule": GR, "gamma": [0.1, -1.0], "epsilon": 0.1}, "gamma must be finite and at least 0, got -1.0 (at gamma=-1.0)"),
    ({"rule": 3}, "rule must be a training rule"),
    ({"alpha": [0.1, float("nan")]}, "alpha[1] is nan"),
    ({"alpha": []}, "alpha is empty"),
    ({"alpha": [0.1, 0.0]}, "alpha must be positive and finite, got 0.0"),
    ({"log_alpha": [1.0]}, "alpha"),
    ({"alhpa": [1.0]}, "unknown parameter 'alhpa'; did you mean 'alpha'?"),
    ({"depth": [1.0]}, "depth"),
    ({"seed": [1]}, "seed: neither the data nor dln.flow draw anything"),
    ({"measures": ["l1-norm"]}, "unknown measure 'l1-norm'; did you mean 'l1_norm'?"),
    ({"measures": ["l1_norm", "l1_norm"]}, "given twice"),
    ({"measures": [lambda run: 1.0]}, "has no name"),
    ({"measures": [3]}, "a measure must be a name or a function"),
    ({"measures": {"f": lambda a, b, c: 1.0}}, "it needs 3 arguments"),
    ({"function": dln.descend, "step": 0.1}, "dln.descend needs n_steps"),
    ({"function": dln.descend, "step": 0.1, "n_steps": 5, "batch_size": 2, "seed": [1, -2]}, "seed[1] must be an integer"),
    ({"function": 3}, "function must be a clock"),
    ({"executor": "threds"}, "unknown executor 'threds'; did you mean 'threads'?"),
    ({"executor": 0}, "at least 1 worker"), ({"executor": "processes:x"}, "at least 1 worker"),
    ({"executor": 1.5}, "executor must be"),
    ({"tile": 0}, "tile must be a number of cells"), ({"shard": (0, 2)}, "shard needs store="),
    ({"shard": (2, 2), "store": "x.zarr"}, "i runs from 0 to N - 1"), ({"store": "grid"}, "must end in .zarr"),
    ({"store": "nowhere/grid.zarr"}, "the folder 'nowhere' does not exist"),
    ({"method": "euler"}, "unknown method 'euler'"), ({"rtol": [1e-3, 5.0]}, "rtol must be at most"),
    ({"problem": 3}, "problem must be"), ({"problem": []}, "problem is empty"), ({"problem": [3]}, "problem[0] must be"),
    ({"problem": lambda seed: 3, "seed": [1]}, "must return a dln.Problem"),
    ({"problem": sweep_functions.noisy, "seed": [1]}, "problem(noise) needs noise"),
])
def test_bad_input_is_refused_in_one_line(problem, change, message):
    options = {"problem": problem, "rule": None, "alpha": 0.1} | change
    with pytest.raises((ValueError, TypeError)) as refused:
        dln.sweep(options.pop("problem"), options.pop("rule"), **options)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_bad_axes_are_refused(problem):
    with pytest.raises(ValueError, match=r"must have one length: gamma has 1, epsilon has 2 values"):
        dln.zipped(gamma=[1.0], epsilon=[1.0, 2.0])
    with pytest.raises(ValueError, match="two parameters or more"):
        dln.zipped(gamma=[1.0])
    with pytest.raises(TypeError, match="epsilon must be a sequence"):
        dln.zipped(gamma=[1.0], epsilon=2.0)
    with pytest.raises(ValueError, match="gamma is given twice"):
        dln.sweep(problem, GR, dln.zipped(gamma=[1.0], epsilon=[1.0]), gamma=[2.0], alpha=0.1)
    with pytest.raises(TypeError, match="only zipped axes"):
        dln.sweep(problem, GR, [0.1], gamma=1.0, epsilon=1.0, alpha=0.1)
    with pytest.raises(ValueError, match="needs data with a known truth"):
        dln.sweep(dln.datasets.diabetes(n_samples=5), alpha=0.1, measures=["distance_to_truth"])


@pytest.mark.parametrize("measure, message", [
    (sweep_functions.fails, "measure 'fails' failed at alpha=0.3: KeyError: 'lost'"),
    (sweep_functions.words, "measure 'words' must give a number, got str at alpha=0.3")])
def test_a_measure_that_fails_stops_the_sweep_and_says_where(problem, measure, message):
    with pytest.raises(RuntimeError, match=r"measure .* alpha=") as stopped:
        dln.sweep(problem, alpha=[0.3], measures=[measure])
    assert message in str(stopped.value)


@pytest.mark.parametrize("shape, data_axes, tile", [
    ((100, 100), (), None), ((7,), (), None), ((3, 5, 11), (0,), 10), ((1, 1), (), 1), ((1000, 1000), (0,), None),
    ((), (), None)])
def test_tiles_cover_every_cell_once_and_shards_every_tile(problem, shape, data_axes, tile):
    """Reference: a count of the grid."""
    from dln.sweep.axes import CLOCK, DATA, Axis
    from dln.sweep.plan import Plan, tile_shape

    axes = tuple(Axis(f"a{k}", {f"a{k}": tuple(float(i) for i in range(size))}) for k, size in enumerate(shape))
    targets = {axis.name: ((DATA if k in data_axes else CLOCK, "x"),) for k, axis in enumerate(axes)}
    plan = Plan(problem, None, None, axes, {}, targets, (), tile_shape(axes, data_axes, 100, tile))
    seen = np.zeros(shape, dtype=int)
    for number in range(plan.n_tiles):
        seen[plan.region(number)] += 1
    assert (seen == 1).all()
    assert sorted(plan.order()) == list(range(plan.n_tiles))
    shards = np.concatenate([plan.order((i, 3)) for i in range(3)])
    assert sorted(shards) == list(range(plan.n_tiles))
    if tile:
        assert np.prod(plan.tile) <= tile


def test_a_tile_of_wide_data_is_small():
    """An array over the cells and coordinates of a tile stays below 34 MB."""
    from dln.sweep.axes import Axis
    from dln.sweep.plan import tile_shape

    axes = [Axis("a", {"a": tuple(range(10**6))})]
    assert tile_shape(axes, [], 100) == (977,)
    assert tile_shape(axes, [], 100_000)[0] * 100_000 <= 2**22


def test_small_scales_cost_more_and_are_begun_first(problem):
    plan = make_plan(problem, tile=2, parameters={"log_alpha": [0.0, -1.0, -20.0, -30.0, -3.0, -4.0]})
    assert plan.order().tolist() == [1, 2, 0]
    assert plan.cost(1) > plan.cost(2) > plan.cost(0)


def test_signature_of_the_design():
    names = list(inspect.signature(dln.sweep).parameters)
    assert names[:2] == ["problem", "rule"] and {"measures", "store", "executor", "progress"} <= set(names)
