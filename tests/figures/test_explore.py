"""dln explore: its numbers against the library's other routes, its window by simulated events and on a virtual display."""

import dataclasses
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backend_bases import MouseEvent
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

import dln
from dln import cli
from figures import explore
from figures._exploration import RULES, Exploration, Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def problem():
    return dln.sparse_regression(10, 24, 2, rng=1)


@pytest.fixture
def window(problem):
    figure = Figure(figsize=explore.SIZE)
    canvas = FigureCanvasAgg(figure)
    explorer = explore.Explorer(problem, figure)
    canvas.draw()
    return explorer


def drag(explorer, name, fraction):
    """Press the mouse button on a slider, at a fraction of its length, and let go."""
    slider = explorer.sliders[name]
    x, y = slider.ax.transAxes.transform((fraction, 0.5))
    for kind in ("button_press_event", "button_release_event"):
        MouseEvent(kind, explorer.figure.canvas, x, y, button=1)._process()


def choose(explorer, label):
    """Press the mouse button on a rule's name."""
    place = next(text for text in explorer.radio.labels if text.get_text() == label)
    x, y = place.get_window_extent().get_points().mean(axis=0)
    for kind in ("button_press_event", "button_release_event"):
        MouseEvent(kind, explorer.figure.canvas, x, y, button=1)._process()


# ---------------------------------------------------------------------------------------------------------------------
# Numbers


@pytest.mark.parametrize("rule", RULES)
def test_a_scene_is_the_run_of_its_rule(problem, rule):
    """Reference: `dln.flow` at a tight tolerance, and at the times of the scene."""
    settings = Settings(rule, math.log(0.1), 0.1, 0.3)
    scene = Exploration(problem, n_times=20).compute(settings)
    made = RULES[rule].make(0.1, 0.3)
    # SAM of a constant radius hovers about its limit for as long as it is let, both here and in the reference.
    hovers = rule == "sam-normalized"
    assert scene.success or (hovers and scene.status == "step limit"), scene.message
    run = dln.flow(problem, made, alpha=0.1, t_end=float(scene.times[-1]), save_at=scene.times, rtol=1e-9)
    size = np.abs(run.beta).max()
    assert len(scene.times) >= 20 and run.t >= (0.99 if hovers else 1.0) * scene.times[-1]
    np.testing.assert_allclose(scene.betas[: len(run.times)], run.betas, atol=2e-3 * size)
    np.testing.assert_allclose(scene.beta, run.beta, atol=2e-3 * size)
    assert scene.mean_log_shift == pytest.approx(np.mean(np.log(run.effective_alpha / 0.1)), rel=5e-3, abs=1e-9)
    np.testing.assert_allclose(scene.predicted, dln.predict(run, at_time=not scene.fits).beta, atol=5e-3 * size)


def test_the_limit_of_gradient_flow_is_the_minimiser(problem):
    """Reference: two routes, integration and the dual; richness by its definition."""
    scene = Exploration(problem).compute(Settings("gradient-flow", math.log(0.05)))
    np.testing.assert_allclose(scene.beta, scene.plain, atol=1e-4)
    np.testing.assert_allclose(scene.predicted, scene.plain, atol=1e-10)
    sparse, dense = dln.basis_pursuit(problem).beta, dln.minimum_norm(problem).beta
    expected = 1 - np.linalg.norm(scene.plain - sparse) / np.linalg.norm(dense - sparse)
    assert scene.richness == pytest.approx(expected, abs=1e-4) and scene.mean_log_shift == 0


def test_a_trajectory_is_the_same_at_the_steps_of_the_run_and_at_times_of_its_own(problem):
    """Reference: the other of the two ways, interpolated in log t: a scene draws straight lines between its times."""
    for rule, log_alpha in (("gr", -12.0), ("sam", -2.0), ("gradient-flow", -8.0)):
        settings = Settings(rule, log_alpha, 0.3, 0.2)
        steps, times = (Exploration(problem, n_times=n_times).compute(settings) for n_times in (2, 2000))
        assert len(steps.times) < 300 and len(times.times) == 2000 and steps.times[-1] == times.times[-1]
        np.testing.assert_array_equal(steps.beta, times.beta)
        np.testing.assert_allclose(steps.betas[-1], steps.beta, atol=0)
        for j in np.argsort(-np.abs(steps.beta))[:6]:
            drawn = np.interp(np.log(times.times), np.log(steps.times), steps.betas[:, j])
            np.testing.assert_allclose(drawn, times.betas[:, j], atol=0.02 * np.ptp(times.betas))


def test_the_trajectory_ends_where_the_run_has_converged(problem):
    """Reference: the loss: it reaches the tolerance at the end of the picture, not long before, and moves in most of it."""
    for alpha in (1e-3, 1e-12, 1e-40):
        scene = Exploration(problem).compute(Settings("gradient-flow", math.log(alpha)))
        # A residual of 1e-5 is a loss of 1e-10 of that of 0.
        assert scene.success and np.count_nonzero(scene.losses > 1e-9 * scene.losses[0]) > 0.8 * len(scene.losses)


def test_a_failure_and_a_refusal_come_with_their_words(problem):
    """Reference: the words of `dln.flow`."""
    scene = Exploration(problem, max_steps=5).compute(Settings("gr"))
    assert (scene.success, scene.status) == (False, "step limit") and np.isfinite(scene.losses[0])
    scene = Exploration(problem).compute(Settings("gr", 800.0))
    assert scene.status == "refused" and "overflow" in scene.message and scene.times.size == 0


def test_data_without_interpolator_have_no_richness():
    """Reference: the least-squares fit, by NumPy."""
    rng = np.random.default_rng(0)
    problem = dln.Problem(rng.standard_normal((9, 3)), rng.standard_normal(9))
    scene = Exploration(problem).compute(Settings("gradient-flow", math.log(0.1)))
    np.testing.assert_allclose(scene.beta, np.linalg.lstsq(problem.X, problem.y)[0], atol=1e-4)
    assert math.isnan(scene.richness)
    explore.Explorer(problem, Figure(figsize=explore.SIZE))


@pytest.mark.parametrize("options, message", [
    ({"rule": "grr"}, "unknown rule 'grr'; did you mean 'gr'"), ({"gamma": 0.0}, "gamma must be positive and finite, got 0"),
    ({"epsilon": math.nan}, "epsilon must be positive and finite, got nan"),
    ({"log_alpha": math.inf}, "log_alpha must be finite"),
])
def test_bad_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Settings(**options)


# ---------------------------------------------------------------------------------------------------------------------
# The window, without a display


def test_dragging_a_slider_redraws_for_its_value(window):
    """Reference: the model, for the value at the pointer."""
    for name, fraction in (("alpha", 0.25), ("gamma", 0.7), ("epsilon", 0.5)):
        before = window.settings
        drag(window, name, fraction)
        slider = window.sliders[name]
        assert slider.val == pytest.approx(slider.valmin + fraction * (slider.valmax - slider.valmin), abs=0.1)
        assert window.settings != before and window.scene.settings == window.settings
    scene = window.model.compute(window.settings)
    np.testing.assert_array_equal(window.end_line.get_ydata(), scene.beta)
    np.testing.assert_array_equal(window.loss_line.get_ydata(), scene.losses)
    largest = np.argmax(np.abs(scene.beta))
    np.testing.assert_array_equal(window.beta_lines[0].get_ydata(), scene.betas[:, largest])
    assert f"richness {scene.richness:.3f}" in window.words.get_text()


def test_a_rule_says_which_sliders_it_looks_at(window):
    choose(window, "SAM")
    assert window.settings.rule == "sam" and window.sliders["gamma"].label.get_text() == r"$\rho$"
    assert window.sliders["epsilon"].valtext.get_text() == "not used by this rule"
    assert window.sliders["gamma"].valtext.get_text() == "0.05"
    beta = window.scene.beta
    drag(window, "epsilon", 0.9)
    np.testing.assert_array_equal(window.scene.beta, beta)
    choose(window, "gradient flow")
    assert window.sliders["gamma"].label.get_text() == r"$\gamma$"
    assert window.sliders["gamma"].valtext.get_text() == "not used by this rule"


def picture(explorer):
    return np.asarray(explorer.figure.canvas.buffer_rgba()).astype(int)


def contents(explorer):
    """Give all that the window shows: texts, colours, curves and limits."""
    texts = [(text.get_text(), text.get_color()) for text in explorer.figure.findobj(Text)]
    lines = [line.get_xydata() for axes in explorer._axes() for line in axes.lines]
    limits = [(*axes.get_xlim(), *axes.get_ylim()) for axes in explorer._axes()]
    return texts, [*lines, *explorer.others.get_segments()], limits


def test_a_moved_window_is_a_new_one(window, problem):
    """Reference: a window opened where the sliders are: the same pixels, texts, curves and limits, whatever moved before."""
    moves = [("gamma", 0.5), ("gamma", 0.53), ("epsilon", 0.9), "SAM", ("alpha", 0.1), ("gamma", 0.97), "weight decay",
             ("alpha", 0.9), ("epsilon", 0.2), ("gamma", 0.99), "SAM, normalized", ("gamma", 0.4), "gradient flow",
             ("alpha", 0.6), "GR, backward"]
    for move in moves:
        choose(window, move) if isinstance(move, str) else drag(window, *move)
        figure = Figure(figsize=explore.SIZE)
        FigureCanvasAgg(figure)
        fresh = explore.Explorer(problem, figure, window.settings)
        figure.canvas.draw()
        (texts, lines, limits), (new_texts, new_lines, new_limits) = contents(window), contents(fresh)
        assert texts == new_texts and limits == new_limits and len(lines) == len(new_lines), move
        for line, new in zip(lines, new_lines, strict=True):
            np.testing.assert_allclose(line, new, rtol=1e-6, atol=1e-9, err_msg=str(move))
        np.testing.assert_array_equal(picture(window), picture(fresh), err_msg=str(move))
    assert picture(window).std() > 10


def test_a_refused_window_keeps_nothing_of_the_move_before(window, problem, monkeypatch):
    """Reference: a window opened there."""
    monkeypatch.setitem(RULES, "gr", dataclasses.replace(RULES["gr"], make=lambda gamma, epsilon: dln.SAM(-1.0)))
    drag(window, "alpha", 0.2)
    figure = Figure(figsize=explore.SIZE)
    FigureCanvasAgg(figure)
    explore.Explorer(problem, figure, window.settings)
    figure.canvas.draw()
    np.testing.assert_array_equal(picture(window), np.asarray(figure.canvas.buffer_rgba()))
    assert "no run: rho must" in window.notice.get_text()


def test_the_layers_make_the_picture_that_drawing_everything_makes(window, tmp_path):
    """Reference: a file, for which matplotlib draws all in its own order: few pixels differ, where curves meet frames."""
    for name, fraction in (("gamma", 0.5), ("alpha", 0.1), ("alpha", 0.9)):
        drag(window, name, fraction)
    window.figure.savefig(tmp_path / "window.png", dpi=window.figure.dpi)
    whole = 255 * imread(tmp_path / "window.png")
    assert (np.abs(picture(window) - whole).max(axis=2) > 40).mean() < 1e-3


def test_moves_within_the_same_axes_draw_nothing_else(window, monkeypatch):
    """Reference: the draws, counted: a move is no whole draw, and an axis is drawn anew only when limits of its column move."""
    whole, drawn = [], []
    window.figure.canvas.mpl_connect("draw_event", whole.append)
    draw = window._draw_artists
    monkeypatch.setattr(window, "_draw_artists", lambda artists: drawn.append(artists) or draw(artists))
    left, right, *rule = [layer.artists for layer in window._layers]
    window.sliders["gamma"].set_val(window.sliders["gamma"].val + 0.01)
    assert drawn == [window._moving]
    window.sliders["alpha"].set_val(-9.0)
    assert drawn[1:] in ([left, window._moving], [left, right, window._moving])
    drawn.clear()
    choose(window, "weight decay")
    assert all(artists in drawn for artists in rule) and not whole


def test_a_failed_run_and_a_refused_one_say_so_in_the_window(window, monkeypatch):
    monkeypatch.setattr(window.model, "max_steps", 5)
    window.update()
    assert window.words.get_text().startswith("step limit: so far")
    assert len(window.cross.get_xdata()) == 1 and re.fullmatch(r"max_steps = 5 used up at t = \S+ after \d steps",
                                                               window.detail.get_text())
    monkeypatch.setitem(RULES, "gr", dataclasses.replace(RULES["gr"], make=lambda gamma, epsilon: dln.SAM(-1.0)))
    window.update()
    assert "no run: rho must" in window.notice.get_text() and window.words.get_text() == "refused: move a slider back"
    assert not len(window.loss_line.get_xdata()) and np.isnan(window.end_line.get_ydata()).all()


def test_a_prediction_that_is_missing_is_told(window, monkeypatch):
    assert "certified" not in window.detail.get_text()
    monkeypatch.setattr(dln, "predict", lambda run, at_time: dataclasses.replace(
        dln.minimize_potential(run.problem, alpha=0.1), success=False))
    window.update()
    assert "what theory predicts could not be certified" in window.detail.get_text().replace("\n", " ")
    assert np.isnan(window.predicted_line.get_ydata()).all()


@pytest.mark.parametrize("scale", [1e-9, 1e6])
def test_data_of_any_scale_fill_the_panels(problem, scale):
    """Reference: the limits are within a factor of 2 of what is drawn; and no tick label or axis label is off the window."""
    scaled = dln.Problem(problem.X, scale * problem.y)
    figure = Figure(figsize=explore.SIZE)
    FigureCanvasAgg(figure)
    explorer = explore.Explorer(scaled, figure, Settings("gradient-flow", 0.5 * math.log(scale) - 3))
    assert explorer.scene.success
    top = np.abs(explorer.scene.beta).max()
    assert top < explorer.limit_axes.get_ylim()[1] < 2.5 * top and explorer.beta_axes.get_ylim()[1] < 2.5 * top
    figure.canvas.draw()
    for axes in explorer._axes():
        assert axes.get_tightbbox().x0 >= 0


def test_no_words_lie_on_others_and_none_is_clipped(problem):
    """Reference: the boxes of all texts outside of the axes."""
    for settings in (Settings(), Settings("sam", math.log(1e-9), 10.0), Settings("weight-decay", 0.0, 1e-4)):
        figure = Figure(figsize=explore.SIZE)
        FigureCanvasAgg(figure)
        explorer = explore.Explorer(problem, figure, settings)
        figure.canvas.draw()
        texts = [explorer.title, explorer.words, explorer.detail, *figure.legends[0].get_texts(),
                 *(text for slider in explorer.sliders.values() for text in (slider.label, slider.valtext)),
                 *explorer.names]
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
        boxes.append(("the rules", explorer.rule_axes.get_tightbbox()))
        for k, (words, box) in enumerate(boxes):
            assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 and box.y1 <= figure.bbox.y1, words
            for other, taken in boxes[:k]:
                assert not box.padded(-1).overlaps(taken.padded(-1)), (words, other)


# ---------------------------------------------------------------------------------------------------------------------
# The command


def test_a_screenshot_needs_no_display(tmp_path, capsys):
    out = tmp_path / "a.png"
    settings = ["--rule", "sam", "--gamma", "0.3", "--alpha", "1e-40"]
    assert cli.main(["explore", "diabetes", *settings, "--screenshot", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG") and capsys.readouterr().out == f"wrote {out}\n"


@pytest.mark.parametrize("words, message", [
    (["--rule", "smm"], "unknown rule 'smm'; did you mean 'sam'"),
    (["--gamma", "-1"], "gamma must be positive and finite, got -1"),
    (["--alpha", "0"], "--alpha must be positive, got 0"),
    (["--screenshot", "a.gif"], "--screenshot a.gif must end in .png or .pdf"),
])
def test_bad_options_are_refused_in_one_line(words, message, capsys):
    assert cli.main(["explore", "diabetes", *words]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


CODE = """
import sys, dln
from matplotlib import pyplot
from figures import explore

problem = dln.sparse_regression(10, 24, 2, rng=1)

def show():
    figure = pyplot.gcf()
    canvas = figure.canvas
    canvas.draw()
    explorer = kept[0]
    before = bytes(canvas.buffer_rgba())
    explorer.sliders["alpha"].set_val(-4.0)
    canvas.flush_events()
    settings, changed = explorer.scene.settings, bytes(canvas.buffer_rgba()) != before
    print(pyplot.get_backend().lower(), settings.log_alpha, explorer.scene.status, changed)
    pyplot.close(figure)

kept = []
make = explore.Explorer
explore.Explorer = lambda *arguments: kept.append(make(*arguments)) or kept[0]
pyplot.show = show
explore.show(problem)
"""


@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="there is no Xvfb to make a virtual display: install Debian's xvfb")
def test_the_window_opens_on_a_virtual_display(tmp_path):
    """Reference: the slider's value reaches the model, in a window of a toolkit, on a display of its own."""
    pytest.importorskip("tkinter", reason="this Python has no Tk to open a window with")
    read, write = os.pipe()
    server = subprocess.Popen(["Xvfb", "-displayfd", str(write), "-screen", "0", "1200x800x24", "-nolisten", "tcp"],
                              pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        with os.fdopen(read) as pipe:
            display = pipe.readline().strip()  # Xvfb takes the first that is free, and says which when it is ready
        assert display.isdigit()
        environment = {**os.environ, "DISPLAY": f":{display}", "MPLBACKEND": "tkagg"}
        done = subprocess.run([sys.executable, "-W", "error", "-c", CODE], capture_output=True, text=True, cwd=ROOT,
                              env=environment, timeout=240, check=False)
    finally:
        server.terminate()
        server.wait(timeout=20)
    assert done.returncode == 0, done.stderr
    backend, log_alpha, status, changed = done.stdout.split()
    assert (backend, status, changed) == ("tkagg", "converged", "True") and float(log_alpha) == pytest.approx(-4 * math.log(10))


@pytest.mark.parametrize("backend", ["tkagg", "agg", None])
def test_without_a_display_there_is_one_line(backend, tmp_path):
    """Reference: what the command says and its exit status."""
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    if backend is not None:
        environment["MPLBACKEND"] = backend
    done = subprocess.run([sys.executable, "-m", "dln", "explore", "diabetes"], capture_output=True, text=True, cwd=ROOT,
                          env=environment, timeout=60, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert "dln explore needs a window" in done.stderr and "--screenshot FILE" in done.stderr
