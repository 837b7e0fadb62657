"""Phase diagrams from stored grids: the numbers that were stored, no run, and what is refused."""

import json

import numpy as np
import pytest
import xarray
from matplotlib.collections import QuadMesh

import dln
from dln import cli
from figures import _stored, phase_ascent, phase_diagram, phase_sam, recovery

WORDS = ["not computed", *map(str, dln.Status), "error"]
FLAGS = {"flag_values": np.array([-1, *range(len(dln.Status)), 100], dtype=np.int8),
         "flag_meanings": " ".join(word.replace(" ", "_") for word in WORDS),
         "success_values": np.array([0, 1, 2, 3], dtype=np.int8)}
STEP_LIMIT = list(map(str, dln.Status)).index("step limit")


@pytest.fixture
def grid():
    """A grid as a sweep leaves it: alpha x gamma x epsilon, with one failure and one cell not computed."""
    axes = {"alpha": [1e-3, 1e-2, 1e-1, 1.0], "gamma": [0.01, 0.1, 1.0], "epsilon": [0.2, 2.0]}
    shape = tuple(map(len, axes.values()))
    richness = np.arange(24.0).reshape(shape) / 24
    status = np.zeros(shape, dtype=np.int8)
    status[0, 2, 0], status[3, 1, 0] = STEP_LIMIT, -1
    richness[status != 0] = np.nan
    names = tuple(axes)
    return xarray.Dataset(
        {"status": (names, status, FLAGS), "richness": (names, richness, {"long_name": "richness", "units": "1"}),
         "mean_log_shift": (names, -np.exp(5 * np.nan_to_num(richness)) / 10),
         "l1_norm": (names, 10 + np.nan_to_num(richness), {"long_name": "l1 norm"})},
        axes, {"data": "diabetes", "rule": '"dln.rules.gradient_regularization.GradientRegularization"', "parameters": "{}"})


@pytest.fixture
def no_runs(monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("something was computed")

    for name in ("flow", "descend", "minimize_potential", "basis_pursuit", "minimum_norm"):
        monkeypatch.setattr(dln, name, refuse)


def test_cells_are_those_of_the_dataset(grid, no_runs):
    """Reference: the Dataset, indexed by label."""
    data = phase_diagram.read(grid, at={"epsilon": 2.0})
    assert (data.x, data.y) == ("alpha", "gamma") and data.n_failed == 0
    for i, gamma in enumerate(data.ys):
        for j, alpha in enumerate(data.xs):
            cell = grid.sel(alpha=alpha, gamma=gamma, epsilon=2.0)
            assert data.values[i, j] == cell.richness and data.contours[i, j] == cell.mean_log_shift
    assert data.title == ("diabetes", "GradientRegularization", r"$\epsilon=$ 2")


def test_failures_keep_their_words_and_are_drawn(grid, no_runs):
    """Reference: the codes of the status."""
    data = phase_diagram.read(grid, at={"epsilon": 0.2})
    assert {word: int(cells.sum()) for word, cells in data.failures().items()} == {"step limit": 1, "not computed": 1}
    assert data.status[2, 0] == "step limit" and data.status[1, 3] == "not computed"
    words = [text.get_text() for text in phase_diagram.draw(data).get_legend().get_texts()]
    assert "step limit: 1 of 12 runs" in words and "not computed: 1 of 12 runs" in words


def test_any_two_axes_in_any_order(grid, no_runs):
    """Reference: transposing and reversing the Dataset changes nothing."""
    data = phase_ascent.read(grid, at={"gamma": 0.1})
    assert (data.x, data.y) == ("alpha", "epsilon") and data.values.shape == (2, 4)
    turned = phase_ascent.read(grid.transpose("epsilon", "gamma", "alpha").isel(alpha=slice(None, None, -1)), at={"gamma": 0.1})
    np.testing.assert_array_equal(turned.values, data.values)
    np.testing.assert_array_equal(turned.xs, data.xs)
    assert phase_sam.read(grid, at={"alpha": 0.01}).title[-1] == r"$\alpha=$ 0.01"
    other = phase_diagram.read(grid, x="gamma", y="epsilon", measure="l1_norm", at={"alpha": 1})
    assert (other.x, other.measure) == ("gamma", "l1_norm") and other.values[0, 0] == grid.l1_norm.sel(alpha=1)[0, 0]


def test_other_measures_have_a_scale_of_their_own(grid, no_runs):
    """Reference: the least and the largest value drawn; a log scale where they are far apart."""
    data = phase_diagram.read(grid, measure="l1_norm", at={"epsilon": 2.0})
    mesh = next(artist for artist in phase_diagram.draw(data).collections if isinstance(artist, QuadMesh))
    assert mesh.get_clim() == (data.values.min(), data.values.max())
    wide = grid.assign(l1_norm=10.0 ** (10 * grid.l1_norm - 100))
    axes = phase_diagram.draw(phase_diagram.read(wide, measure="l1_norm", at={"epsilon": 2.0}))
    mesh = next(artist for artist in axes.collections if isinstance(artist, QuadMesh))
    assert type(mesh.norm).__name__ == "LogNorm"


def test_a_dataset_without_codes(grid):
    """Reference: what is NaN has failed; a variable `success` decides, where there is one."""
    bare = grid.drop_vars(["status", "mean_log_shift"]).isel(epsilon=[0])
    data = phase_diagram.read(bare)
    assert data.n_failed == 2 and data.contours is None and data.title[-1] == r"$\epsilon=$ 0.2"
    data = phase_diagram.read(bare.assign(success=(bare.richness.dims, bare.richness.values > 0.3)))
    assert data.n_failed == int((~(bare.richness.values > 0.3)).sum())


@pytest.mark.parametrize("options, message", [
    ({}, r"the grid has 2 values of epsilon besides alpha and gamma: choose one, such as epsilon=0.2"),
    ({"measure": "richnes"}, "unknown measure 'richnes'; did you mean 'richness'"),
    ({"at": {"epsilon": 0.3}}, r"the grid has no epsilon = 0.3; it has 0.2, 2.0"),
    ({"at": {"epsilon": "two"}}, "epsilon must be a number, got 'two'"),
    ({"at": {"eta": 1.0}}, "unknown dimension 'eta'"),
    ({"x": "alpah"}, "unknown dimension 'alpah'; did you mean 'alpha'"),
    ({"x": "alpha", "y": "alpha"}, "x and y must be two dimensions, got alpha twice"),
    ({"at": {"epsilon": 0.2, "gamma": 0.1, "alpha": 1.0}}, "a phase diagram needs two dimensions, the grid has none"),
])
def test_what_cannot_be_drawn_is_refused(grid, options, message):
    with pytest.raises(ValueError, match=message):
        phase_diagram.read(grid, **options)


def test_words_on_an_axis_are_refused(grid):
    schemes = grid.isel(epsilon=0, drop=True).rename(gamma="scheme").assign_coords(scheme=["forward", "backward", "exact"])
    with pytest.raises(ValueError, match="the dimension scheme holds words, not numbers"):
        phase_diagram.read(schemes)
    with pytest.raises(ValueError, match="a phase diagram needs two dimensions"):
        phase_diagram.read(schemes, at={"scheme": "exact"})


def test_recovery_is_the_share_of_seeds_near_the_truth(no_runs):
    """Reference: counted by hand."""
    distance = np.array([[[0.001, 0.5, 0.002, 0.9], [0.001, 0.001, 0.002, 0.009]], [[1, 1, 1, 1], [0.5, 0.001, 0.001, 0.001]]])
    status = np.zeros((2, 2, 4), dtype=np.int8)
    status[1, 0, 2] = STEP_LIMIT
    names = ("n_nonzero", "n_samples", "seed")
    grid = xarray.Dataset({"status": (names, status, FLAGS), "distance_to_truth": (names, distance)},
                          {"n_nonzero": [2, 5], "n_samples": [10, 20], "seed": [0, 1, 2, 3]},
                          {"parameters": json.dumps({"n_features": 40, "log_alpha": -1000.0})})
    data = recovery.read(grid)
    np.testing.assert_array_equal(data.values, [[0.5, 1.0], [np.nan, 0.75]])
    np.testing.assert_array_equal(data.xs, [0.25, 0.5])
    np.testing.assert_array_equal(data.ys, [0.05, 0.125])
    assert data.status[1, 0] == "step limit" and data.n_failed == 1 and data.title[-1] == "4 draws per cell"
    assert len(recovery.draw(data).get_lines()) == 1  # the transition
    unknown = recovery.read(grid.assign_attrs(parameters="{}"))
    assert (unknown.x, unknown.y) == ("n_samples", "n_nonzero") and not recovery.draw(unknown).get_lines()
    given = recovery.read(grid.assign_attrs(parameters="{}"), at={"n_features": 80.0})
    np.testing.assert_array_equal(given.xs, [0.125, 0.25])
    with pytest.raises(ValueError, match="n_features must be a positive number, got 'many'"):
        recovery.read(grid, at={"n_features": "many"})


def test_the_command_draws_from_a_store(grid, no_runs, tmp_path, capsys):
    """Reference: nothing may run; the picture is there."""
    store, out = tmp_path / "grid.zarr", tmp_path / "a.png"
    grid.to_zarr(store, consolidated=False)
    words = ["figure", "phase-diagram", "--data", str(store), "--out", str(out), "--at", "epsilon=0.2"]
    assert cli.main(words) == 0 and out.read_bytes().startswith(b"\x89PNG")
    assert cli.main([*words[:6], "--at", "gamma=0.1", "--measure", "l1_norm", "--x", "epsilon", "--y", "alpha"]) == 0
    capsys.readouterr()
    for extra, message in ((words[:-2], "choose one, such as epsilon=0.2"), ([*words, "--full"], "--full does not go with"),
                           ([*words[:-1], "epsilon"], "--at must be NAME=VALUE, such as epsilon=0.2, got 'epsilon'"),
                           (["figure", "potentials", *words[2:]], "potentials is not drawn from a stored grid"),
                           (["figure", "phase-diagram", "--data", "no.zarr", *words[4:]], "there is no stored grid no.zarr"),
                           (["figure", "phase-diagram", "--data", str(tmp_path), *words[4:]], "is no stored grid"),
                           (["figure", "phase-diagram", "--out", str(out), "--x", "alpha"], "--x needs --data")):
        assert cli.main(extra) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1, err
    assert _stored.is_store(store) and not _stored.is_store("diabetes")
