"""The picture of saddles: its numbers against single runs and the limit, its bands, failed runs counted."""

import numpy as np
import pytest

import dln
from figures import saddles


@pytest.fixture(scope="module")
def problem():
    """By hand: the first coordinate wakes at 1/2, sleeps at 3/4 and comes back with the other sign at 11/4."""
    return dln.Problem([[4.0, 1.0], [0.0, 1.0]], [1.0, 2.0], feature_names=["_a", "$b"])


@pytest.fixture(scope="module")
def data(problem):
    return saddles.compute(problem, log_alphas=[-10.0, -1000.0], n_times=301)


def test_limit_and_flows_are_those_of_the_library(problem, data):
    """Reference: hand calculation for the limit; one flow per scale."""
    np.testing.assert_allclose(data.jumps, [0.0, 0.5, 0.75, 2.75], rtol=1e-13)
    assert data.signs.tolist() == [[0, 0], [1, 0], [0, 1], [-1, 1]]
    np.testing.assert_allclose(data.levels, [1.0, 4.0 / 5.0, 0.1, 0.0], atol=1e-14)
    assert list(data.log_alphas) == [-1000.0, -10.0] and data.tau[-1] == pytest.approx(1.15 * 2.75)
    run = dln.flow(problem, log_alpha=-10.0, t_end=10.0 * data.tau[-1], save_at=10.0 * data.tau, rtol=1e-10)
    np.testing.assert_allclose(data.losses[1], run.losses / run.losses[0], atol=1e-5)
    np.testing.assert_array_equal(data.awake[0], np.abs(saddle_of(problem, data)) > 0)


def saddle_of(problem, data):
    """At log alpha = -1000 a coordinate is above 0.02 where the saddle is, but close to a jump: leave these times out."""
    betas = dln.saddles(problem).at(data.tau)
    near = np.min(np.abs(data.tau[:, None] - data.jumps), axis=1) < 0.01
    return np.where(near[:, None], np.where(data.awake[0], 1.0, 0.0), betas)


def test_the_smaller_scale_is_nearer_to_the_staircase(problem, data):
    """Reference: the limit's loss; the area between falls about as 1/log(1/alpha), here a hundredth."""
    levels = data.levels[np.searchsorted(data.jumps, data.tau, side="right") - 1]
    small, large = np.mean(np.abs(data.losses - levels), axis=1)
    assert small < large / 20


def test_bands_and_lines_of_time(data):
    """Reference: one band per plateau of every coordinate awake in the limit, one line per coordinate and scale."""
    top, bottom = saddles.draw(data)
    top.figure.draw_without_rendering()
    bands = sorted((round(bar.get_y() + 0.5 * bar.get_height()), bar.get_x(), bar.get_width()) for bar in bottom.patches)
    end = 1.15 * 2.75
    expected = [(0, 0.5, 0.25), (0, 2.75, end - 2.75), (1, 0.75, 2.0), (1, 2.75, end - 2.75)]
    np.testing.assert_allclose(bands, expected, atol=1e-12)
    assert len([line for line in bottom.lines if len(line.get_xdata()) == 301]) == 4
    assert [label.get_text() for label in bottom.get_yticklabels()] == [" _a", r"\$b"]
    words = [text.get_text() for text in top.get_legend().get_texts()]
    assert len(words) == 3 and "limit" in words[-1]


def test_runs_that_break_off_are_counted(problem, monkeypatch):
    flow = dln.flow
    monkeypatch.setattr(dln, "flow", lambda *args, **options: flow(*args, **options | {"max_steps": 5}))
    data = saddles.compute(problem, log_alphas=[-10.0, -1000.0], n_times=50)
    assert not data.success.any() and np.isnan(data.losses[:, -1]).all() and data.status[0] == "step limit"
    top, _ = saddles.draw(data)
    top.figure.draw_without_rendering()
    assert "broke off: 2 of 2 runs" in [text.get_text() for text in top.get_legend().get_texts()]


@pytest.mark.parametrize(("arguments", "match"), [
    ({"log_alphas": [-5.0, 0.0]}, "log_alphas must be below 0, got 0"),
    ({"log_alphas": [-1.0, -1.0]}, "log_alphas must increase"),
    ({"n_times": 1}, "n_times must be at least 2, got 1")])
def test_bad_arguments_are_refused(problem, arguments, match):
    with pytest.raises(ValueError, match=match):
        saddles.compute(problem, **arguments)


def test_data_that_do_not_move_are_refused():
    with pytest.raises(ValueError, match="y is orthogonal to every column of X: no flow moves"):
        saddles.compute(dln.Problem([[1.0], [0.0]], [0.0, 1.0]))
