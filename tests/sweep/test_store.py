"""The store of a sweep: killed, damaged, full, locked, shared - and always the same bits in the end."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import sweep_functions
import xarray
import zarr
from stores import tiles

import dln
from dln.sweep.identity import describe
from dln.sweep.store import Writer

ALPHAS = [0.1 + 0.01 * k for k in range(6)]
OPTIONS = {"function": sweep_functions.slow, "alpha": ALPHAS, "rtol": [1e-5, 1e-6], "tile": 1}


def sweep(store, **change):
    return dln.sweep(dln.sparse_regression(4, 8, 2, rng=5), **(OPTIONS | {"store": store} | change))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The grid that was never interrupted, in memory."""
    return sweep(None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished store; tests copy it."""
    store = tmp_path_factory.mktemp("store") / "grid.zarr"
    sweep(store)
    return store


@pytest.fixture
def store(finished, tmp_path):
    subprocess.run(["cp", "-r", finished, tmp_path / "grid.zarr"], check=True)
    return tmp_path / "grid.zarr"


def computed(store, **change):
    """Resume and return the grid and how many tiles were computed."""
    told = []
    grid = sweep(store, progress=lambda done, total: told.append(done), **change)
    return grid, len(told)


def test_a_store_holds_the_grid_in_memory(finished, whole):
    """Reference: the same sweep without a store, bit by bit, attributes and all."""
    grid = dln.open_sweep(finished)
    assert grid.load().identical(whole)
    assert len(tiles(finished)) == 12  # one chunk per tile
    assert not list(finished.parent.glob("*.lock")) and not list(finished.rglob("*.part"))


def test_any_reader_of_zarr_can_read_it(finished, whole):
    """Reference: xarray's own reader, which knows nothing of sweeps; Zarr checks the sums."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = xarray.open_zarr(finished, chunks=None, consolidated=False)
    assert plain["values"].dims == ("measure", "alpha", "rtol")
    row = plain["values"].attrs["measures"].index("l1_norm")
    np.testing.assert_array_equal(plain["values"][row], whole.l1_norm)
    np.testing.assert_array_equal(plain.alpha, ALPHAS)


def test_a_finished_store_computes_nothing(store, whole):
    grid, count = computed(store)
    assert count == 0 and grid.identical(whole)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_killed_and_resumed(tmp_path, start, wait_for_tiles, whole, count):
    """Reference: the grid that was never interrupted."""
    store = tmp_path / "grid.zarr"
    process = start(store, executor="processes:2" if count == 1 else 1)
    wait_for_tiles(store, count, process)
    process.kill()
    process.wait()
    before = len(tiles(store))
    assert before < 12
    if store.exists():
        grid = dln.open_sweep(store)
        missing = grid.status == -1
        assert grid.attrs["n_not_computed"] == int(missing.sum())
        assert (np.isnan(grid.l1_norm) == missing).all() and (grid.steps.where(missing, -1) == -1).all()
    grid, count = computed(store)
    assert grid.load().identical(whole)
    assert count == 12 - before


def spoil_flip(file):
    data = bytearray(file.read_bytes())
    data[3] ^= 1
    file.write_bytes(data)


def spoil_cut(file):
    file.write_bytes(file.read_bytes()[:-9])


def spoil_empty(file):
    file.write_bytes(b"")


def spoil_zeros(file):  # what some file systems leave of a file that was not flushed
    file.write_bytes(bytes(len(file.read_bytes())))


@pytest.mark.parametrize("spoil", [spoil_flip, spoil_cut, spoil_empty, spoil_zeros, Path.unlink])
def test_a_damaged_tile_is_found_and_computed_again(store, whole, spoil):
    spoil(tiles(store)[5])
    if spoil is not Path.unlink:
        with pytest.raises(ValueError, match=r"damaged .* run the sweep again"):
            dln.open_sweep(store).l1_norm.load()
    grid, count = computed(store)
    assert count == 1
    assert grid.load().identical(whole)


def test_what_a_killed_writer_leaves_is_swept_up(store, whole):
    tiles(store)[0].unlink()
    (tiles(store)[0].parent / ".0.123456789abc.part").write_bytes(b"half")
    assert computed(store)[0].load().identical(whole)
    assert not list(store.rglob("*.part"))


@pytest.mark.parametrize("change, words", [
    ({"alpha": [*ALPHAS[:-1], 0.5]}, r"axis alpha alpha\[5\] is 0.15\d* there and 0.5 here"),
    ({"alpha": ALPHAS[:-1]}, "axis alpha alpha has 6 values there and 5 here"),
    ({"rtol": 1e-5}, r"dimensions has 2 values there and 1 here"),
    ({"residual_tol": 1e-9}, "parameter residual_tol is given only here"),
    ({"tile": 3}, r"tile is '1 x 1' there and '2 x 1' here|tile is '1 x 1' there and '1 x 2' here"),
    ({"measures": ["l2_norm"]}, "measures has 6 values there and 2 here"),
    ({"rule": dln.WeightDecay(0.0)}, "rule is|rule type is 'GradientFlow' there and 'WeightDecay' here"),
    ({"function": dln.flow}, "function is"),
])
def test_a_store_of_another_sweep_is_refused(store, change, words):
    options = OPTIONS | {"store": store} | change
    before = [file.read_bytes() for file in tiles(store)]
    with pytest.raises(ValueError, match=f"holds another sweep: .*{words}") as refused:
        dln.sweep(dln.sparse_regression(4, 8, 2, rng=5), options.pop("rule", None), **options)
    assert "\n" not in str(refused.value)
    assert [file.read_bytes() for file in tiles(store)] == before


def test_a_store_of_other_data_is_refused(store):
    with pytest.raises(ValueError, match=r"holds another sweep: data is 'data \(4, 8\) \w+' there"):
        dln.sweep(dln.sparse_regression(4, 8, 2, rng=6), **(OPTIONS | {"store": store}))


def test_a_changed_measure_of_the_user_is_another_sweep(tmp_path):
    problem = dln.sparse_regression(4, 8, 2, rng=5)

    def measure(run):
        return run.beta[0]

    dln.sweep(problem, alpha=[0.1], measures=[measure], store=tmp_path / "grid.zarr")

    def measure(run):
        return run.beta[1]

    with pytest.raises(ValueError, match="holds another sweep: measures"):
        dln.sweep(problem, alpha=[0.1], measures=[measure], store=tmp_path / "grid.zarr")


def test_functions_that_differ_in_what_they_have_closed_over_differ():
    """The source of both is the same."""

    def pick(k):
        return lambda run: run.beta[k]

    def chosen(run, k=0):
        return run.beta[k]

    assert describe(pick(0)) == describe(pick(0)) != describe(pick(1))
    before = describe(chosen)
    chosen.__defaults__ = (1,)
    assert describe(chosen) != before
    decay = [describe(dln.WeightDecay(pick(k))) for k in (0, 1)]
    assert decay[0] != decay[1]
    assert describe(dln.schedules.decaying(1.0)) != describe(dln.schedules.decaying(2.0))
    assert describe(np.random.default_rng(0).normal) != describe(np.random.default_rng(1).normal)
    assert describe(dln.flow) == "dln.flow.flow"


def test_other_software_is_told(store):
    file = store / "zarr.json"
    record = json.loads(file.read_text())
    record["attributes"]["schema"]["attributes"]["dln_sources"] = "older"
    file.write_text(json.dumps(record))
    with pytest.warns(RuntimeWarning, match="begun with other software"):
        sweep(store)


@pytest.mark.parametrize("content", [None, "{", '{"attributes": {}}'])
def test_what_is_no_store_is_not_touched(tmp_path, content):
    folder = tmp_path / "grid.zarr"
    folder.mkdir()
    (folder / "precious").write_text("mine")
    if content is not None:
        (folder / "zarr.json").write_text(content)
    for call in (lambda: sweep(folder), lambda: dln.open_sweep(folder)):
        with pytest.raises(ValueError, match=r"is not a store of dln.sweep"):
            call()
    assert (folder / "precious").read_text() == "mine"
    with pytest.raises(FileNotFoundError, match="no such store"):
        dln.open_sweep(tmp_path / "missing.zarr")


def test_a_second_process_is_refused_and_a_dead_one_forgotten(tmp_path, start, wait_for_tiles, whole):
    store = tmp_path / "grid.zarr"
    process = start(store, pause=1.0, executor=1)
    wait_for_tiles(store, 1, process)
    with pytest.raises(BlockingIOError, match=f"process {process.pid} on .* works on this store"):
        sweep(store)
    with pytest.raises(BlockingIOError, match="works on this store"):
        sweep(store, shard=(0, 2))
    process.kill()
    process.wait()
    assert list(tmp_path.glob("*.lock"))  # left behind, and yet no lock
    assert sweep(store).load().identical(whole)
    assert not list(tmp_path.glob("*.lock"))


def test_locks_where_the_file_system_has_none(store, monkeypatch):
    """Reference: the process numbers; that of a process that has ended, and our own."""
    import fcntl

    def unsupported(*args):
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    lock = store.with_name("grid.zarr.lock")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = os.uname().nodename
    for holder, refused in (({"pid": os.getpid(), "host": host}, True), ({"pid": ended.pid, "host": host}, False),
                            ({"pid": ended.pid, "host": "elsewhere"}, True)):
        lock.write_text(json.dumps(holder))
        if refused:
            with pytest.raises(BlockingIOError, match=f"process {holder['pid']} on {holder['host']}"):
                sweep(store)
        else:
            sweep(store)
            assert not lock.exists()


def test_shards_at_the_same_time(tmp_path, start, whole):
    store = tmp_path / "grid.zarr"
    processes = [start(store, executor=1, shard=(i, 2)) for i in range(2)]
    for process in processes:
        assert process.wait(60) == 0, process.communicate()
    assert dln.open_sweep(store).load().identical(whole)
    assert computed(store)[1] == 0
    assert not list(tmp_path.glob("*.lock"))


def test_one_shard_leaves_the_rest_not_computed(tmp_path, whole):
    grid = sweep(tmp_path / "grid.zarr", shard=(1, 4))
    assert grid.attrs["n_not_computed"] == 9
    there = grid.status != -1
    np.testing.assert_array_equal(grid.l1_norm.values[there], whole.l1_norm.values[there])


def test_interrupted_by_the_keyboard(tmp_path, start, wait_for_tiles, whole):
    store = tmp_path / "grid.zarr"
    process = start(store)
    wait_for_tiles(store, 2, process)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=30)[1]
    last = errors.strip().splitlines()[-1]
    assert last.startswith("KeyboardInterrupt: interrupted: ") and "of 12 tiles are in" in last and "to resume" in last
    assert 2 <= len(tiles(store)) < 12
    assert computed(store)[0].load().identical(whole)


def test_a_disk_that_takes_a_part_of_a_tile(tmp_path, whole):
    """The system cuts files at 40 bytes, a tile of one cell has 52: what is half written must not stay, what is whole must."""
    store = tmp_path / "grid.zarr"
    sweep(store, shard=(0, 12))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, hard))
    try:
        with pytest.raises(OSError, match=r"File too large: 0 of 11 tiles are in .* to resume"):
            sweep(store, executor="serial")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(tiles(store)) == 1 and not list(store.rglob("*.part"))
    assert computed(store)[0].load().identical(whole)


def test_no_space_is_said_with_the_file(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    store = tmp_path / "grid.zarr"
    sweep(store, shard=(0, 12))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: 0 of 11 tiles are in .* call again .* to resume") as stopped:
        sweep(store)
    assert stopped.value.errno == errno.ENOSPC and str(store) in stopped.value.filename
    monkeypatch.undo()
    assert computed(store)[1] == 11


def test_no_space_to_begin_a_store_is_said_with_its_name(tmp_path, monkeypatch):
    def full(self, name, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    store = tmp_path / "grid.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(zarr.Group, "create_array", full)
        with pytest.raises(OSError, match="No space left on device") as stopped:
            sweep(store)
    assert stopped.value.filename == str(store) and not list(tmp_path.iterdir())
    assert computed(store)[1] == 12


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into every folder; the next test shows the message to root, too")
def test_a_folder_that_may_only_be_read(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match=r"grid\.zarr"):
        sweep(tmp_path / "grid.zarr")


def test_a_lock_that_may_not_be_written(tmp_path, monkeypatch):
    def refuse(path, *args):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError, match=r"Permission denied.*grid\.zarr"):
        sweep(tmp_path / "grid.zarr")


def test_reading_needs_memory_for_what_is_looked_at(tmp_path, monkeypatch):
    """Reference: the chunks that are opened; one cell needs one."""
    store = tmp_path / "grid.zarr"
    sweep(store)
    grid = dln.open_sweep(store, count_failed=False)
    assert "n_failed" not in grid.attrs
    opened = []
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: opened.append(self) or read(self))
    assert np.isfinite(float(grid.l1_norm[3, 1]))
    assert [path.parts[-4:] for path in opened] == [("c", "0", "3", "1")]
    whole = grid.load()
    for part in ({"alpha": slice(None, None, -2)}, {"rtol": [1, 0], "alpha": [5, 0]}, {"alpha": 2, "rtol": slice(1, None)}):
        assert dln.open_sweep(store, count_failed=False).isel(part).load().identical(whole.isel(part))


def test_values_go_to_the_store_and_not_through_the_caller(tmp_path, monkeypatch):
    """A sweep with a store keeps no tile: the reports come back without values."""
    reports = []
    write = Writer.write
    monkeypatch.setattr(Writer, "write", lambda self, plan, report: write(self, plan, report))
    execute = sys.modules["dln.sweep.driver"].execute
    monkeypatch.setattr(sys.modules["dln.sweep.driver"], "execute",
                        lambda plan, order, executor, place, done: execute(plan, order, executor, place,
                                                                           lambda report: reports.append(report)))
    sweep(tmp_path / "grid.zarr")
    assert len(reports) == 12 and all(report.values is None for report in reports)
