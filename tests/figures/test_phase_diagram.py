"""The phase diagram: numbers against the library's other routes, pictures of degenerate grids."""

import dataclasses

import numpy as np
import pytest
from matplotlib.collections import PatchCollection
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure

import dln
from figures import phase_ascent, phase_diagram, phase_sam
from figures._grids import Grid, TheoryLine

TIGHT = {"rtol": 1e-8, "residual_tol": 1e-10}


@pytest.fixture(scope="module")
def problem():
    return dln.sparse_regression(8, 16, 2, rng=1)


@pytest.fixture(scope="module")
def references(problem):
    return dln.basis_pursuit(problem).beta, dln.minimum_norm(problem).beta


def grid(richness, shift=None, success=None):
    """A diagram of made-up numbers."""
    richness = np.atleast_2d(np.asarray(richness, dtype=float))
    success = np.isfinite(richness) if success is None else np.asarray(success)
    shift = np.where(success, -0.1, np.nan) if shift is None else np.asarray(shift, dtype=float)
    n_gammas, n_alphas = richness.shape
    return Grid("alpha", "gamma", 10.0 ** np.arange(n_alphas), 10.0 ** np.arange(n_gammas), "richness", richness,
                "mean_log_shift", shift, success, np.where(success, "converged", "step limit"), ("data",))


def words(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_ends_of_the_scale(problem):
    """Reference: alpha -> 0 leads to the l1 and alpha -> infinity to the l2 minimiser (Woodworth et al. 2020)."""
    data = phase_diagram.compute(problem, alphas=[1e-40, 30], gammas=[1e-6], **TIGHT)
    assert data.success.all()
    assert data.values[0, 0] > 0.999 and abs(data.values[0, 1]) < 1e-3


def test_a_weak_rule_is_plain_gradient_flow(problem, references):
    """Reference: the minimiser of the potential, by Newton's method on the dual, no flow."""
    alphas = [1e-3, 1e-1, 1]
    data = phase_diagram.compute(problem, alphas=alphas, gammas=[1e-9], **TIGHT)
    sparse, dense = references
    for alpha, richness in zip(alphas, data.values[0], strict=True):
        beta = dln.minimize_potential(problem, alpha=alpha).beta
        assert richness == pytest.approx(1 - np.linalg.norm(beta - sparse) / np.linalg.norm(dense - sparse), abs=1e-6)


def test_cells_of_gradient_regularization(problem, references):
    """Reference: one `flow` per cell at tight tolerance, closed by the dual Newton minimiser."""
    alphas, gammas = [1e-2, 0.3], [0.02, 0.2, 1]
    loose = phase_diagram.compute(problem, alphas=alphas, gammas=gammas, epsilon=0.1)
    sparse, dense = references
    assert loose.values.shape == (3, 2) and loose.success.all() and loose.n_failed == 0
    for i, gamma in enumerate(gammas):
        for j, alpha in enumerate(alphas):
            run = dln.flow(problem, dln.GradientRegularization(gamma, 0.1), alpha=alpha, rtol=1e-10)
            expected = 1 - np.linalg.norm(dln.predict(run).beta - sparse) / np.linalg.norm(dense - sparse)
            assert loose.values[i, j] == pytest.approx(expected, abs=2e-3)
            shift = np.mean(np.log(run.effective_alpha / alpha))
            assert loose.contours[i, j] == pytest.approx(shift, rel=2e-3, abs=1e-6)


def test_threads_change_no_bit(problem):
    """Reference: the same grid in one thread."""
    one, three = (phase_diagram.compute(problem, alphas=[1e-3, 1e-1, 1], gammas=[0.01, 0.1], workers=workers)
                  for workers in (1, 3))
    np.testing.assert_array_equal(one.values, three.values)
    np.testing.assert_array_equal(one.status, three.status)


def test_failed_cells_are_kept_with_their_status(problem):
    """Reference: `flow` with the same step limit."""
    data = phase_diagram.compute(problem, alphas=[1e-3, 1], gammas=[0.01, 0.1], max_steps=10)
    assert data.n_failed == 4 and np.isnan(data.values).all() and np.isnan(data.contours).all()
    rule = dln.GradientRegularization(0.01, 0.2)
    assert data.status[0, 0] == str(dln.flow(problem, rule, alpha=1e-3, rtol=1e-5, max_steps=10).status)


def test_progress_sees_every_cell(problem):
    seen = []

    def progress(iterable, total, initial, desc):
        seen.append((total, initial))
        yield from (seen.append(1) or entry for entry in iterable)

    phase_diagram.compute(problem, alphas=[0.1, 1], gammas=[0.01, 0.1], progress=progress)
    assert seen == [(4, 1), 1, 1, 1]


@pytest.mark.parametrize("options, message", [
    ({"alphas": [1, 0.1]}, r"alphas must increase, but alphas\[1\] = 0.1 follows 1"),
    ({"alphas": [0, 1]}, r"alphas\[0\] must be positive and finite, got 0"),
    ({"gammas": [1, np.nan]}, r"gammas\[1\] must be positive and finite, got nan"),
    ({"gammas": []}, r"gammas must be a vector of at least one number, got shape \(0,\)"),
    ({"scheme": "exact"}, "scheme 'exact' takes no epsilon"),
])
def test_bad_axes_are_refused(problem, options, message):
    with pytest.raises(ValueError, match=message):
        phase_diagram.compute(problem, **options)


def test_data_without_regimes_are_refused():
    with pytest.raises(ValueError, match="no predictor fits all samples"):
        phase_diagram.compute(dln.Problem(np.ones((2, 3)), [1, 2]))
    with pytest.raises(ValueError, match="coincide"):
        phase_diagram.compute(dln.Problem(np.eye(2), [1, 2]))


@pytest.mark.parametrize("data", [
    grid(0.5), grid([0.1, 0.2, 0.3]), grid([[0.1], [0.2]]), grid(np.full((3, 4), 0.5)), grid(np.zeros((3, 4))),
    grid(np.nan), grid(np.full((3, 4), np.nan)),
], ids=["1x1", "one row", "one column", "constant", "zero", "1x1 failed", "all failed"])
def test_degenerate_grids_are_drawn(data):
    """Reference: the number of cells that failed; no contours where nothing varies."""
    axes = phase_diagram.draw(data)
    axes.figure.draw_without_rendering()
    assert not [artist for artist in axes.get_children() if isinstance(artist, ContourSet)]
    failed = [artist for artist in axes.collections if isinstance(artist, PatchCollection)]
    assert sum(len(artist.get_paths()) for artist in failed) == data.n_failed
    expected = [f"step limit: {data.n_failed} of {data.values.size} runs"] if data.n_failed else []
    assert words(axes) == expected and all(artist.get_hatch() for artist in failed)
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_failures_contours_and_the_far_side_are_all_in_the_legend():
    richness = [[0.9, 0.5, 0.0], [0.5, -2.0, np.nan]]
    axes = phase_diagram.draw(grid(richness, shift=[[-0.001, -0.01, -0.1], [-1, -20, np.nan]]))
    shift, farther, failed = words(axes)
    assert "mean" in shift and "farther" in farther and failed == "step limit: 1 of 6 runs"
    (lines,) = (artist for artist in axes.get_children() if isinstance(artist, ContourSet))
    np.testing.assert_allclose(lines.levels, [-10, -1, -0.1, -0.01])


def test_a_limit_at_the_l2_end_is_not_called_farther():
    """Rounding puts the kernel regime a hair below 0."""
    assert words(phase_diagram.draw(grid([[0.5, -0.001]]))) == []


def test_each_way_to_fail_has_a_hatching_of_its_own_and_a_count():
    """Reference: the counts of the statuses; beyond three the rest is put together."""
    data = grid(np.full((2, 4), np.nan))
    data.status[:] = [["diverged"] * 3 + ["step limit"] * 1, ["step limit", "inaccurate", "hovering", "error"]]
    axes = phase_diagram.draw(data)
    assert words(axes) == ["diverged: 3 of 8 runs", "step limit: 2 of 8 runs", "other failures: 3 of 8 runs"]
    assert len({artist.get_hatch() for artist in axes.collections if isinstance(artist, PatchCollection)}) == 3


def test_what_succeeded_but_is_not_defined_is_told_apart():
    axes = phase_diagram.draw(grid([[0.5, np.nan], [0.1, 0.2]], success=np.ones((2, 2), bool), shift=np.full((2, 2), np.nan)))
    assert words(axes) == ["not defined: 1 of 4 runs"]


@pytest.mark.parametrize("x, y, ends", [("epsilon", "gamma", (2.0, 20.0)), ("gamma", "epsilon", (2.0, 20.0))])
def test_the_line_of_sam(x, y, ends):
    """Reference: gamma = epsilon over what both axes hold."""
    data = dataclasses.replace(grid(np.full((3, 3), 0.5)), x=x, y=y, xs=np.array([0.5, 5, 50]), ys=np.array([2.0, 8, 20]))
    axes = phase_sam.draw(data)
    (line,) = axes.get_lines()
    np.testing.assert_array_equal(line.get_xdata(), ends)
    np.testing.assert_array_equal(line.get_ydata(), ends)
    assert words(axes) == [r"$\gamma=\epsilon$: SAM"] and axes.get_xlim()[0] < 0.5


def test_no_line_of_sam_where_the_axes_do_not_meet():
    data = dataclasses.replace(grid(np.full((2, 2), 0.5)), x="epsilon", ys=np.array([100.0, 200.0]))
    assert not phase_sam.draw(data).get_lines()


def test_the_diagonal_is_sam(problem, references):
    """Reference: `dln.SAM`, another rule of the library, at tight tolerance."""
    data = phase_sam.compute(problem, epsilons=[0.05, 0.5], gammas=[0.05, 0.5], alpha=0.1, **TIGHT)
    sparse, dense = references
    for k, rho in enumerate((0.05, 0.5)):
        beta = dln.flow(problem, dln.SAM(rho), alpha=0.1, rtol=1e-9).beta
        expected = 1 - np.linalg.norm(beta - sparse) / np.linalg.norm(dense - sparse)
        assert data.values[k, k] == pytest.approx(expected, abs=1e-6)
    assert abs(data.values[0, 1] - data.values[1, 0]) > 1e-3  # and off the diagonal the two parameters differ


def test_a_small_ascent_step_is_the_exact_hessian(problem):
    """Reference: the scheme without epsilon."""
    forward = phase_ascent.compute(problem, alphas=[0.1], epsilons=[1e-7], gamma=0.3, **TIGHT)
    exact = phase_diagram.compute(problem, alphas=[0.1], gammas=[0.3], epsilon=None, scheme="exact", **TIGHT)
    np.testing.assert_allclose(forward.values, exact.values, rtol=1e-5)
    np.testing.assert_allclose(forward.contours, exact.contours, rtol=1e-5)
    assert forward.title[1] == "forward difference" and exact.title[1:] == ("exact Hessian",)


def test_lines_of_theory_do_not_move_the_axes():
    data = dataclasses.replace(grid([[0.1, 0.2]]), lines=(TheoryLine(np.array([1e-9, 1e9]), np.array([1e-9, 1e9]), "far"),))
    axes = phase_diagram.draw(data)
    assert axes.get_xlim() == pytest.approx((10**-0.5, 10**1.5)) and words(axes) == ["far"]


def test_crowded_contours_have_labels_that_can_be_read():
    """Reference: no two labels that are shown are within half an inch."""
    edge = -(10.0 ** np.linspace(-3, 3, 12)) * np.ones((9, 1))
    edge[:, 4:] = -1000
    axes = phase_diagram.draw(grid(np.full((9, 12), 0.5), shift=edge))
    shown = [axes.transData.transform(text.get_position()) / axes.figure.dpi for text in axes.texts if text.get_visible()]
    assert len(shown) >= 2
    assert all(np.hypot(*(a - b)) > 0.4 for k, a in enumerate(shown) for b in shown[:k])


def test_it_draws_on_the_axes_given():
    figure = Figure(figsize=(3.3, 3.3), layout="constrained")
    axes = figure.subplots()
    assert phase_diagram.draw(grid([[0.1, np.nan], [0.2, 0.3]]), axes) is axes
    figure.draw_without_rendering()
    box = axes.get_position()
    assert box.width > 0.5 and box.height > 0.35  # at one column's width the map still has most of the room
