"""Where regularization leads to the rich regime: numbers against runs of the library, signs of the effects, the picture."""

import contextlib
import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import dln
from figures import _richness_tables as tables
from figures import regularization_richness as module
from figures._regularization_effects import Baseline, Effects

SHAPE = (20, 50, 3)


@pytest.fixture(scope="module")
def data():
    return module.compute(alphas=[0.01, 1.0], column_means=[0.0, 2.2], n_seeds=4, gammas=[0.02, 0.05], steps=[-0.1, 0.0, 0.1],
                          radii=[0.05], shape=SHAPE)


def change(beta, plain):
    return np.sum(np.abs(beta)) / np.sum(np.abs(plain)) - 1


def test_a_cell_is_that_of_the_library(data):
    """Reference: the runs themselves, at tighter tolerances."""
    problem = dln.sparse_regression(*SHAPE, column_mean=2.2, rng=3)
    plain = dln.flow(problem, alpha=0.01).beta
    run = dln.flow(problem, dln.GradientRegularization(0.05, 0.1), alpha=0.01)
    even = dln.minimize_potential(problem, alpha=math.exp(run.log_effective_alpha.mean())).beta
    cell = [getattr(data.grid, name)[0, 1, 3] for name in ("mean_shift", "spread", "l1", "distance", "even_l1")]
    shift = run.log_effective_alpha - math.log(0.01)
    distances = [np.linalg.norm(beta - problem.truth) for beta in (run.beta, plain)]
    np.testing.assert_allclose(cell, [shift.mean(), shift.std(), change(run.beta, plain), distances[0] / distances[1] - 1,
                                      change(even, plain)], rtol=1e-3)


def test_the_rules_are_in_their_places(data):
    """Reference: the runs, for a backward difference, a centred one and SAM."""
    problem = dln.sparse_regression(*SHAPE, column_mean=2.2, rng=1)
    plain = dln.flow(problem, alpha=0.01).beta
    for value, rule in ((data.by_step.l1[1, 1, 0, 1], dln.GradientRegularization(0.05, 0.1, "backward")),
                        (data.by_step.l1[1, 0, 1, 1], dln.GradientRegularization(0.02, scheme="exact")),
                        (data.centered.l1[1, 0, 1], dln.GradientRegularization(0.02, 0.1, "centered")),
                        (data.sam.l1[1, 0, 1], dln.SAM(0.05))):
        assert value == pytest.approx(change(dln.flow(problem, rule, alpha=0.01).beta, plain), rel=1e-3)


def test_forward_regularization_at_gamma_equal_to_epsilon_is_sam():
    """Reference: the definitions."""
    baseline = Baseline(dln.sparse_regression(*SHAPE, rng=0), 0.1)
    np.testing.assert_allclose(baseline.effects(dln.SAM(0.05)), baseline.effects(dln.GradientRegularization(0.05, 0.05)),
                               rtol=1e-6, atol=1e-12)


def test_the_scale_falls_everywhere_the_solution_only_where_the_fall_is_even(data):
    """Reference: the sign of a first order that is orthogonal to the fair shares; the kernel limit, which forgets the scale."""
    grid = data.grid
    assert np.all(grid.mean_shift < 0) and np.all(grid.even_l1 < 0)
    assert np.all(grid.l1[0, 0] > 0) and np.all(grid.overcharge[0, 0] > 1)
    assert np.all(grid.lowered("l1")[0] == np.mean(grid.overcharge[0] < 1, axis=-1)) and grid.lowered("l1")[0, 1] >= 0.5
    assert np.all(grid.l1[1] > 0) and np.all(abs(grid.even_l1[1]) < 0.05 * grid.l1[1])
    assert np.all(np.sign(data.signs.l1[1, 1]) == -1) and np.all(data.signs.overcharge[0, 1] > data.signs.overcharge[1, 1])


def test_the_picture_holds_what_was_computed(data):
    axes = module.draw(data)
    np.testing.assert_allclose(axes[0].lines[1].get_ydata(), -np.median(data.grid.mean_shift[1], axis=-1))
    np.testing.assert_allclose(axes[3].lines[0].get_ydata(), 100 * np.median(data.grid.l1[0], axis=-1))
    np.testing.assert_allclose(axes[4].lines[1].get_ydata(), 100 * np.median(data.grid.even_distance[0], axis=-1))
    np.testing.assert_allclose(axes[5].collections[0].get_array().ravel(), 100 * np.mean(data.grid.l1 < 0, axis=-1).ravel())
    np.testing.assert_allclose(axes[7].lines[2].get_ydata(), 100 * np.median(data.by_step.l1[1, 1], axis=-1) / 0.05)
    np.testing.assert_allclose(axes[8].lines[1].get_ydata(), 100 * np.median(data.signs.l1[1], axis=-1))
    axes[0].figure.draw_without_rendering()


def test_failed_runs_are_hatched_and_counted(data):
    rows = np.stack([getattr(data.grid, name) for name in Effects.__dataclass_fields__], axis=-1)
    rows[0, 1, 2], rows[1, 0] = np.nan, np.nan
    broken = module.RegularizationRichness(**{**vars(data), "grid": Effects.stacked(rows, data.grid.l1.shape)})
    axes = module.draw(broken, Figure(figsize=(9, 9), layout="constrained").subplots(3, 3))
    assert len(axes[5].patches) == 2
    assert f"no fit: 5 of {data.n_runs} runs" in [text.get_text() for text in axes[5].get_legend().get_texts()]
    axes[0].figure.draw_without_rendering()


@pytest.mark.parametrize("options, message", [
    ({"n_seeds": 0}, "n_seeds must be an integer, at least 1, got 0"),
    ({"n_seeds": 2.5}, "n_seeds must be an integer, at least 1, got 2.5"),
    ({"two_means": (1.0,)}, "two_means must hold 2 column means, got 1"),
    ({"alphas": [0.1, -1.0]}, r"alphas\[1\] must be positive"),
    ({"column_means": [1.0, 0.0]}, "column_means must increase"),
])
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        module.compute(**options)


def test_axes_of_the_caller_must_be_nine(data):
    with pytest.raises(ValueError, match="ax must hold 9 Axes, got 1"):
        module.draw(data, Figure().subplots())


def test_boundaries_are_crossings():
    """Reference: a straight line, a curve that stays above, one that is below from the start."""
    means = np.array([0.0, 1.0, 3.0])
    assert tables.boundary(means, np.array([2.0, 1.5, 0.5]), 1.0) == pytest.approx(2.0)
    assert math.isnan(tables.boundary(means, np.array([2.0, 1.5, 1.2]), 1.0))
    assert tables.boundary(means, np.array([0.2, 1.5, 0.5]), 1.0) == 0.0


def test_the_split_adds_up():
    """Reference: the whole; a shift that is even, one that is the same within the groups."""
    rng = np.random.default_rng(0)
    weights, shift, is_planted = rng.standard_normal(9), rng.standard_normal(9), np.arange(9) < 3
    assert sum(tables.split(weights, shift, is_planted)) == pytest.approx(weights @ shift)
    np.testing.assert_allclose(tables.split(weights, np.full(9, 2.0), is_planted), [2 * weights.sum(), 0, 0], atol=1e-15)
    assert tables.split(weights, np.where(is_planted, 1.0, 4.0), is_planted)[2] == pytest.approx(0)


def test_tables_are_printed_for_small_grids(capsys):
    rules = [dln.GradientRegularization(0.05, 0.1)]
    effects = tables.run_all(0.1, [0.1], [0.0, 2.0], rules, range(2), (8, 15, 2))
    tables.boundary_table(effects, [0.1], [0.0, 2.0], rules)
    tables.agreement_table(effects, [0.1], rules)
    tables.rules_table(effects, ["forward"], [0.1], [0.0, 2.0])
    lines = capsys.readouterr().out.splitlines()
    assert len({line.count("|") for line in lines[:3]}) == 1 and len(lines) == 3 + 3 + 4
    assert sum(len(rules) for rules in tables.scheme_rules().values()) == 9 + 9 + 9 + 3 + 4


def test_the_example_of_the_page_prints_what_the_page_shows():
    page = (Path(__file__).resolve().parents[2] / "docs" / "open_question.md").read_text(encoding="utf-8")
    source, shown = (re.search(rf"^```{language}\n(.*?)^```$", page, re.M | re.S).group(1) for language in ("python", "text"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, "open_question.md", "exec"), {"__name__": "page"})
    assert printed.getvalue() == shown
