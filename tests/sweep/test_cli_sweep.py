"""``dln sweep``: the same grid as `dln.sweep`, exit statuses, messages."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import dln
from dln import cli
from dln.cli_sweep import values

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys):
    def call(words):
        status = cli.main(["sweep", "diabetes", "--n-samples", "5", *words.split()])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def problem():
    return dln.datasets.diabetes(n_samples=5)


def test_the_grid_of_the_command_is_that_of_the_function(run, problem):
    """Reference: `dln.sweep`, bit by bit."""
    status, out, err = run("--rule gr --gamma 0.01,0.1 --epsilon .2 --scheme backward --log-alpha -3:-1:3 --rtol 1e-5 "
                           "--measures richness,steps --out grid.zarr --workers 1")
    assert (status, err) == (0, "")
    assert "gamma (2)" in out and "6 cells" in out and "converged: 6" in out and "wrote grid.zarr" in out
    expected = dln.sweep(problem, dln.GradientRegularization, gamma=[0.01, 0.1], epsilon=0.2, scheme="backward",
                         log_alpha=[-3.0, -2.0, -1.0], rtol=1e-5, measures=["richness", "steps"])
    grid = dln.open_sweep("grid.zarr").load()
    assert dict(grid.sizes) == {"log_alpha": 3, "gamma": 2}
    for name in expected.data_vars:
        np.testing.assert_array_equal(grid[name].transpose(*expected[name].dims), expected[name])


def test_zipped_axes_and_descent(run, problem):
    status, _, err = run("--function descend --rule sam --rho .01,.02 --step .01,.02 --zip rho,step --n-steps 5 --alpha .1 "
                         "--run-seed 3 --batch-size 2 --out grid.zarr")
    assert (status, err) == (0, "")
    grid = dln.open_sweep("grid.zarr")
    assert dict(grid.sizes) == {"rho_step": 2}
    for k, value in enumerate((0.01, 0.02)):
        run_k = dln.descend(problem, dln.SAM(value), step=value, n_steps=5, alpha=0.1, rng=3, batch_size=2)
        assert float(grid.l1_norm[k]) == np.abs(run_k.beta).sum()


def test_failed_cells_are_counted_and_the_status_says_so(run):
    status, out, err = run("--alpha 1e-3,1e-2 --max-steps 1,9999 --out grid.zarr")
    assert status == 1
    assert "step limit: 2" in out and "converged: 2" in out and "2 of 4 cells failed" in err


def test_shards_and_resume(run):
    words = "--alpha log:1e-2:1:4 --tile 1 --out grid.zarr"
    assert run(f"{words} --shard 0/2")[0] == 0
    assert dln.open_sweep("grid.zarr").attrs["n_not_computed"] == 2
    status, _, err = run(words)
    assert status == 2 and "grid.zarr exists: add --resume" in err
    assert run(f"{words} --resume")[0] == 0
    assert dln.open_sweep("grid.zarr").attrs["n_not_computed"] == 0
    status, _, err = run("--alpha log:1e-2:1:5 --tile 1 --out grid.zarr --resume")
    assert status == 2 and "holds another sweep: axis alpha alpha has 4 values there and 5 here" in err


@pytest.mark.parametrize("words, message", [
    ("--alpha .1 --out grid.nc", "must end in .zarr"), ("--alpha .1", "--out"), ("--out grid.zarr", "exactly one of"),
    ("--alpha 1,x --out grid.zarr", "--alpha 1,x: give numbers"), ("--alpha 1:2 --out grid.zarr", "--alpha 1:2: give numbers"),
    ("--alpha log:0:1:3 --out grid.zarr", "both ends positive"), ("--alpha 1:2:0 --out grid.zarr", "at least 1"),
    ("--alpha .1 --run-seed 1.5 --out grid.zarr", "give integers"),
    ("--alpha .1 --rule grr --out grid.zarr", "unknown rule 'grr'; did you mean 'gr'?"),
    ("--alpha .1 --function flows --out grid.zarr", "unknown function 'flows'; did you mean 'flow'?"),
    ("--alpha .1 --gamma .1 --out grid.zarr", "rule GradientFlow has no parameter 'gamma'"),
    ("--alpha .1 --zip gamma,epsilon --out grid.zarr", "--gamma is not given"),
    ("--alpha .1 --shard 2/2 --out grid.zarr", "i runs from 0 to N - 1"),
    ("--alpha .1 --shard 2 --out grid.zarr", "--shard 2: give i/N"),
    ("--alpha .1 --workers 0 --out grid.zarr", "at least 1 worker"),
    ("--alpha .1 --measures l1 --out grid.zarr", "unknown measure 'l1'"),
    ("--alpha .1 --max-step 3 --out grid.zarr", "--max-steps"),
])
def test_bad_usage_is_one_line(run, words, message):
    status, out, err = run(words)
    assert (status, out) == (2, "")
    assert message in err and err.count("\n") == 1
    assert not Path("grid.zarr").exists()


def test_values():
    assert values("--x", "0.5") == 0.5
    assert values("--x", "0.5,2") == [0.5, 2.0]
    assert values("--x", "0:1:3") == [0.0, 0.5, 1.0]
    assert values("--x", "log:1e-2:1:3") == pytest.approx([0.01, 0.1, 1.0], rel=1e-14)
    assert values("--x", "3:5:3", whole=True) == [3, 4, 5]


def test_a_bar_on_request_and_silence_elsewhere(run):
    assert run("--alpha .1,.2 --out a.zarr")[2] == ""
    assert "2/2 cells" in run("--alpha .1,.2 --out b.zarr --progress")[2]


def test_the_keyboard_says_how_to_resume():
    script = ("import sys, time; import dln.cli_sweep as c, dln.cli; flow = c.FUNCTIONS['flow']\n"
              f"sys.path.insert(0, {str(ROOT / 'tests' / 'helpers')!r}); import sweep_functions\n"
              "c.FUNCTIONS['flow'] = sweep_functions.slow\n"
              "words = 'sweep diabetes --n-samples 5 --alpha log:1e-2:1:30 --tile 1 --workers 1 --out grid.zarr'\n"
              "sys.exit(dln.cli.main(words.split()))")
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True,
                               env=os.environ | {"PYTHONPATH": str(ROOT), "DLN_TEST_PAUSE": "0.05"})
    until = time.monotonic() + 60
    while not (Path("grid.zarr", "values", "c").is_dir() and process.poll() is None):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert err.startswith("dln: interrupted: ") and "of 30 tiles are in grid.zarr" in err and err.endswith("(with --resume)\n")


def test_importing_dln_loads_neither_xarray_nor_zarr_nor_dask():
    heavy = {"xarray", "zarr", "distributed", "dask", "tqdm", "mpi4py"}
    code = f"import sys, dln, dln.cli; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
