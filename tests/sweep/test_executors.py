"""Who computes a sweep: processes, Dask, MPI; workers that die; all the same bits."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import warnings
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import sweep_functions
from stores import tiles

import dln

HELPERS = Path(__file__).resolve().parents[1] / "helpers"
ROOT = HELPERS.parents[1]
OPTIONS = {"gamma": [0.01, 0.1], "epsilon": 0.2, "alpha": [0.05, 0.1, 0.3], "tile": 1,
           "measures": ["l1_norm", "richness", "steps", sweep_functions.gap]}


def sweep(**change):
    return dln.sweep(dln.sparse_regression(4, 8, 2, rng=5), dln.GradientRegularization, **(OPTIONS | change))


@pytest.fixture(scope="module")
def expected():
    return sweep(executor="serial")


def test_spawned_processes(expected):
    assert sweep(executor="processes:2").identical(expected)


def test_an_executor_of_the_user_is_left_open(expected):
    with ThreadPoolExecutor(2) as pool:
        assert sweep(executor=pool).identical(expected)
        assert pool.submit(int, "1").result() == 1


def test_order_does_not_matter(expected):
    """Reference: the tiles computed in another order, by an executor that takes the last first."""

    class Backwards(Executor):
        _max_workers = 2  # so that all six are handed out before the first comes back

        def __init__(self):
            self.jobs = []

        def submit(self, function, /, *args):
            self.jobs.append((Future(), function, args))
            if len(self.jobs) == 6:
                for future, function, args in reversed(self.jobs):
                    future.set_result(function(*args))
            return self.jobs[-1][0]

    assert sweep(executor=Backwards()).identical(expected)


def test_an_executor_that_loses_tiles_is_found_out():
    class Forgetful(Executor):
        _max_workers = 2

        def submit(self, function, /, *args):
            self.future = getattr(self, "future", None) or Future()
            if not self.future.done():
                self.future.set_result(function(*args))
            return self.future

    with pytest.raises(RuntimeError, match="the executor has lost 5 of 6 tiles"):
        sweep(executor=Forgetful())


def test_a_worker_that_dies_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("DLN_TEST_FOLDER", str(tmp_path))
    grid = dln.sweep(dln.sparse_regression(4, 8, 2, rng=5), alpha=[0.1, 0.2, 0.3], tile=1, executor="processes:1",
                     measures=[sweep_functions.dies_once], store=tmp_path / "grid.zarr")
    assert (tmp_path / "died").exists()
    assert grid.dies_once.values.tolist() == [1.0] * 3


def test_workers_that_always_die_are_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["dln.sweep.execute"], "BREAKS", 1)
    store = tmp_path / "grid.zarr"
    with pytest.raises(RuntimeError, match=r"worker processes died .*out of memory.*0 of 1 tiles are in .*to resume"):
        dln.sweep(dln.sparse_regression(4, 8, 2, rng=5), alpha=0.1, executor="processes:1", measures=[sweep_functions.dies],
                  store=store)
    assert dln.open_sweep(store).attrs["n_not_computed"] == 1


@pytest.mark.parametrize("measure, kind, message", [
    (sweep_functions.greedy, RuntimeError, "MemoryError"), (sweep_functions.full, RuntimeError, "No space left")])
def test_errors_of_workers_say_how_to_resume(tmp_path, measure, kind, message):
    with pytest.raises(kind, match=message) as stopped:
        dln.sweep(dln.sparse_regression(4, 8, 2, rng=5), alpha=0.1, measures=[measure], store=tmp_path / "grid.zarr")
    assert "to resume" in "".join(stopped.value.__notes__)


def test_a_tile_that_does_not_fit_into_memory(tmp_path, monkeypatch):
    def greedy(plan, tile):
        raise MemoryError

    monkeypatch.setattr(sys.modules["dln.sweep.execute"], "run_tile", greedy)
    with pytest.raises(MemoryError, match=r"does not fit into the memory of a worker: give a smaller tile=, .* to resume"):
        sweep(store=tmp_path / "grid.zarr")


def test_what_cannot_be_sent_is_named(tmp_path):
    def local(run):
        return 1.0

    with pytest.raises(TypeError, match="measure 'local' cannot be sent to other processes: define it with def at the top"):
        dln.sweep(dln.sparse_regression(4, 8, 2, rng=5), alpha=0.1, measures=[local], executor="processes:1")
    with pytest.raises(TypeError, match="problem cannot be sent to other processes"):
        dln.sweep(lambda seed: sweep_functions.small(seed), seed=[1], alpha=0.1, executor="processes:1")


WORKER = [sys.executable, "-m", "distributed.cli.dask_worker"]


@pytest.fixture
def cluster():
    """A real scheduler and two real worker processes on loopback."""
    from distributed import Client

    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HELPERS}", "OPENBLAS_NUM_THREADS": "1",
                                "DLN_TEST_PAUSE": "0.2"}
    quiet = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [subprocess.Popen([sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port",
                                   str(port), "--no-dashboard"], **quiet)]
    address = f"tcp://127.0.0.1:{port}"
    processes += [subprocess.Popen([*WORKER, address, "--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard", "--no-nanny",
                                    "--name", str(k)], **quiet) for k in range(2)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Dask's own, of versions and ports
            with Client(address, timeout=60) as client:
                client.wait_for_workers(2, timeout=60)
                yield client, processes[1:], address
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_dask_with_a_worker_killed_on_the_way(cluster, tmp_path):
    """Reference: the same sweep in this process; the scheduler gives the dead worker's tiles to the other one."""
    client, workers, address = cluster
    problem, options = dln.sparse_regression(4, 8, 2, rng=5), {
        "function": sweep_functions.slow, "alpha": [0.1 + 0.02 * k for k in range(12)], "tile": 1,
        "measures": ["l1_norm", "steps", sweep_functions.largest]}
    expected = dln.sweep(problem, executor="serial", **options)
    assert dln.sweep(problem, executor=client.get_executor(), **(options | {"alpha": options["alpha"][:2]})).identical(
        dln.sweep(problem, executor="serial", **(options | {"alpha": options["alpha"][:2]})))

    def kill(done, total):
        if done == 3:
            workers[0].kill()

    grid = dln.sweep(problem, executor=client.get_executor(), store=tmp_path / "grid.zarr", progress=kill, **options)
    assert workers[0].wait(10) and len(client.scheduler_info()["workers"]) == 1
    assert grid.load().identical(expected)
    assert len(tiles(tmp_path / "grid.zarr")) == 12

    from dln import cli

    # The same engine from the command line.
    assert cli.main(["sweep", "diabetes", "--n-samples", "5", "--alpha", "0.1,0.2", "--out", str(tmp_path / "cli.zarr"),
                     "--dask", address]) == 0


MPI = """
import sys
sys.path[:0] = [{root!r}, {helpers!r}]
import dln, sweep_functions
from mpi4py.futures import MPIPoolExecutor

if __name__ == "__main__":
    with MPIPoolExecutor() as pool:
        dln.sweep(dln.sparse_regression(4, 8, 2, rng=5), dln.GradientRegularization, gamma=[0.01, 0.1], epsilon=0.2,
                  alpha=[0.05, 0.1, 0.3], tile=1, measures=["l1_norm", "richness", "steps", sweep_functions.gap],
                  store={store!r}, executor=pool)
"""


@pytest.mark.skipif(shutil.which("mpiexec") is None or importlib.util.find_spec("mpi4py") is None,
                    reason="needs mpiexec (Debian: openmpi-bin) and the package mpi4py")
def test_mpi(tmp_path, expected):
    script = tmp_path / "script.py"
    script.write_text(MPI.format(root=str(ROOT), helpers=str(HELPERS), store=str(tmp_path / "grid.zarr")))
    command = ["mpiexec", "--oversubscribe", "--allow-run-as-root", "-n", "3", sys.executable, "-m", "mpi4py.futures",
               str(script)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False,
                         env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})
    assert run.returncode == 0, run.stderr
    assert dln.open_sweep(tmp_path / "grid.zarr").load().identical(expected)
