"""What all figures share: the registry, files, and what they must leave alone."""

import inspect
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

import figures
from figures import _canvas

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "phase-diagram": {"alphas": [1e-2, 1], "gammas": [0.01, 0.1]},
    "phase-ascent": {"alphas": [1e-2, 1], "epsilons": [0.1, 1]},
    "phase-sam": {"epsilons": [0.01, 0.1], "gammas": [0.01, 0.1]},
    "phase-step": {"alphas": [0.1, 1], "steps": [0.1, 0.5], "n_steps": 5000},
    "recovery": {"n_features": 20, "n_samples": [6, 14], "n_nonzero": [1, 5], "n_draws": 2},
    "trajectories": {"alphas": [1e-2, 1e-1], "n_times": 20},
    "potentials": {"n_points": 20},
    "flooding": {"n_steps": 200, "n_times": 10},
    "step-size": {"steps": [0.02, 0.05], "n_steps": 5000},
    "initial-scale": {"log_alphas": [-5.0, -2.0, 0.0, 2.0]},
    "noise": {"n_steps": 200, "n_runs": 3, "n_times": 8},
    "saddles": {"log_alphas": [-10.0, -100.0], "n_times": 40},
    "margins": {"alphas": [0.1, 10.0], "margin_end": 1e3, "n_margins": 8, "n_mus": 8},
    "lasso-path": {"log_alphas": [-50.0, -10.0], "reach": 10.0, "n_penalties": 5},
    "regularization-richness": {"alphas": [1e-2, 1.0], "column_means": [0.0, 2.0], "n_seeds": 2, "steps": [-0.1, 0.1],
                                "shape": (10, 20, 3)},
}


def settings():
    """Give all global settings but the backend, which reading would choose."""
    return {key: mpl.rcParams[key] for key in mpl.rcParams if key != "backend"}


def drawn(name):
    module = figures.get(name)
    return np.ravel(module.draw(module.compute(**SMALL[name])))[0].figure


def test_every_figure_has_compute_and_draw():
    assert SMALL.keys() == figures.registry.keys()
    for name in figures.registry:
        module = figures.get(name)
        assert callable(module.compute) and callable(module.draw) and module.__doc__
        # The paper's size, --full, must be arguments that there are, and larger.
        assert module.FULL and module.FULL.keys() <= inspect.signature(module.compute).parameters.keys()


def test_unknown_figure_suggests_the_nearest():
    with pytest.raises(ValueError, match="unknown figure 'phase_diagram'; did you mean 'phase-diagram'"):
        figures.get("phase_diagram")


@pytest.mark.parametrize("name", figures.registry)
def test_files_are_written_and_global_settings_left_alone(name, tmp_path):
    """Reference: the first bytes and the end of each format; the settings before."""
    before = settings()
    figure = drawn(name)
    for suffix, first in ((".png", b"\x89PNG"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")):
        path = tmp_path / f"figure{suffix}"
        figures.save(figure, path)
        written = path.read_bytes()
        assert written.startswith(first) and len(written) > 2000
        assert written.rstrip().endswith(b"%%EOF") if suffix == ".pdf" else b"IEND" in written[-12:]
    assert settings() == before


def test_no_label_is_clipped(tmp_path):
    """Reference: all that is drawn lies inside the figure."""
    for name in figures.registry:
        figure = drawn(name)
        figure.draw_without_rendering()
        box, size = figure.get_tightbbox(), figure.get_size_inches()
        assert box.x0 >= -0.01 and box.y0 >= -0.01 and box.x1 <= size[0] + 0.01 and box.y1 <= size[1] + 0.01, name


def test_other_formats_and_missing_folders_are_refused(tmp_path):
    figure = drawn("potentials")
    with pytest.raises(ValueError, match=r"figure\.svg: the name must end in \.png or \.pdf"):
        figures.save(figure, tmp_path / "figure.svg")
    with pytest.raises(ValueError, match=r"the folder .*nowhere does not exist"):
        figures.save(figure, tmp_path / "nowhere" / "figure.png")
    assert not list(tmp_path.iterdir())


def test_neither_pyplot_nor_a_display_is_used(tmp_path):
    """Reference: the modules of a fresh interpreter, with a backend asked for that cannot work."""
    code = ("import sys, figures; m = figures.get('potentials'); "
            "figures.save(m.draw(m.compute()).figure, sys.argv[1]); print('matplotlib.pyplot' in sys.modules)")
    environment = {"MPLBACKEND": "tkagg", "DISPLAY": "", "PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code, tmp_path / "a.png"], capture_output=True,
                          text=True, cwd=ROOT, env=environment, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


@pytest.mark.parametrize("value, name", [
    (1e-3, "$10^{-3}$"), (0.1, "0.1"), (1, "1"), (10, "10"), (0.316, "0.316"), (2.5e-7, r"$2.5\times 10^{-7}$"),
])
def test_scales_are_named(value, name):
    assert _canvas.scale_name(np.log(value)) == name


def test_a_scale_below_the_smallest_float_is_named():
    assert _canvas.scale_name(-1e6) == "$e^{-1e+06}$"


def test_edges_of_cells():
    """Reference: powers of ten lie in the middle of their decades."""
    np.testing.assert_allclose(_canvas.cell_edges(np.array([1.0, 10.0, 100.0])), 10 ** np.array([-0.5, 0.5, 1.5, 2.5]))
    np.testing.assert_allclose(_canvas.cell_edges(np.array([1.0])), 10 ** np.array([-0.5, 0.5]))
