"""Who computes: tiles are handed to an executor, a few at a time, and come back in any order."""

import functools
import hashlib
import os
import pickle
import queue
import signal
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from .._suggest import unknown
from .tile import TileReport, run_tile

WORDS = ("threads", "processes", "serial")
#: Tiles in hand for every worker of ours; for an executor that does not say how many workers it has, so many in all.
AHEAD, UNKNOWN = 3, 4096
#: A pool that breaks so often without finishing a tile in between is given up.
BREAKS = 3


@dataclass
class Told:
    """What came of a sweep: tiles done, cells failed, the first message of a cell that raised."""

    n_tiles: int = 0
    n_failed: int = 0
    error: str = ""


class _Serial(Executor):
    """Computes in this thread, when asked."""

    def submit(self, function, /, *args, **kwargs):
        future: Future = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def execute(plan, tiles, executor, store, done):
    """Compute tiles.

    Parameters
    ----------
    plan : Plan
    tiles : sequence of int
        In the order in which they are begun.
    executor
        See `dln.sweep`.
    store : Store or None
        Where the workers write; without, the values come back.
    done : callable
        Called here with every `TileReport`.

    Returns
    -------
    Told
    """
    told = Told()
    tiles = [int(tile) for tile in tiles]
    if not tiles:
        return told
    writer = None if store is None else store.writer
    waiting, n_all, breaks = list(reversed(tiles)), len(tiles), 0
    while waiting:
        before = told.n_tiles
        with _pool(executor, plan, writer, len(waiting)) as (submit, window, ours):
            lost = _drain(plan, waiting, submit, window, done, told,
                          functools.partial(_hint, store, told, n_all), ours)
        breaks = 0 if told.n_tiles > before else breaks + 1
        if lost and breaks >= BREAKS:
            raise RuntimeError(f"worker processes died {BREAKS} times without finishing a tile: out of memory (give a smaller "
                               f"tile=), or is the script without `if __name__ == '__main__':`? {_hint(store, told, n_all)}")
        waiting = list(reversed(lost)) + waiting if lost else waiting
    if told.n_tiles != n_all:
        raise RuntimeError(f"the executor has lost {n_all - told.n_tiles} of {n_all} tiles: it must give each a future of its "
                           f"own")
    return told


def _hint(store, told, n_all):
    if store is None:
        return "nothing was stored: give store= to be able to resume."
    return f"{told.n_tiles} of {n_all} tiles are in {store.path}, which is valid: call again with the same arguments to resume."


def _drain(plan, waiting, submit, window, done, told, hint, ours):
    """Hand out tiles and take reports until none is left; return the tiles that a broken pool of ours has lost."""
    reports: queue.SimpleQueue = queue.SimpleQueue()
    running: dict = {}
    lost: list = []
    try:
        while waiting or running:
            while waiting and len(running) < window and not lost:
                tile = waiting.pop()
                try:
                    future = submit(tile)
                except BrokenExecutor:
                    lost.append(tile)
                    break
                running[future] = tile
                future.add_done_callback(reports.put)
            if not running:
                break
            future = reports.get()
            tile = running.pop(future)
            try:
                report = future.result()
            except BrokenExecutor as error:
                if not ours:
                    error.add_note(f"the executor is broken. {hint()}")
                    raise
                lost.append(tile)
                continue
            told.n_tiles += 1
            told.n_failed += report.n_failed
            told.error = told.error or report.error
            done(report)
    except KeyboardInterrupt:
        _cancel(running)
        raise KeyboardInterrupt(f"interrupted: {hint()}") from None
    except MemoryError as error:
        _cancel(running)
        raise MemoryError(f"a tile of {plan.tile} cells does not fit into the memory of a worker: give a smaller tile=, or "
                          f"fewer workers; {hint()}") from error
    except OSError as error:
        _cancel(running)
        if error.errno is None:
            raise
        raise OSError(error.errno, f"{error.strerror}: {hint()}", error.filename) from error
    except BaseException as error:
        _cancel(running)
        error.add_note(hint())
        raise
    return lost


def _cancel(running):
    for future in running:
        future.cancel()


# ---------------------------------------------------------------------------------------------------------------------
# Pools


def checked_executor(executor):
    """Return ``(kind, number of workers)`` of a pool of ours, the kind None for an executor; refuse what is neither."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    kind, count = "threads", cores
    if isinstance(executor, str):
        kind, _, number = executor.partition(":")
        if kind not in WORDS:
            raise ValueError(unknown("executor", executor, WORDS))
        count = int(number) if number.isdecimal() else 0 if number else cores
    elif isinstance(executor, int):
        count = 0 if isinstance(executor, bool) else executor
    elif executor is not None:
        if not callable(getattr(executor, "submit", None)):
            raise TypeError(f"executor must be a number of threads, one of {', '.join(WORDS)}, or an executor of "
                            f"concurrent.futures, got {executor!r}")
        return None, 0
    if count < 1:
        raise ValueError(f"executor {executor!r}: there must be at least 1 worker, as in executor=2 or 'processes:2'")
    return kind, count


@contextmanager
def _pool(executor, plan, writer, n_tiles):
    """Give ``(submit(tile), tiles in hand, whether the pool is ours)``."""
    kind, count = checked_executor(executor)
    n_workers = min(count, n_tiles)
    job = functools.partial(_compute, plan, writer)
    if kind == "serial":
        yield lambda tile: _Serial().submit(job, tile), 1, True
    elif kind == "threads":
        with _closing(ThreadPoolExecutor(n_workers, "dln-sweep")) as pool:
            yield lambda tile: pool.submit(job, tile), AHEAD * n_workers, True
    elif kind == "processes":
        import multiprocessing  # slow to load, and most sweeps use threads
        from concurrent.futures import ProcessPoolExecutor

        made = ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn"), _install, (_pickled(plan, writer),))
        with _closing(made) as pool:
            yield lambda tile: pool.submit(_compute_installed, tile), AHEAD * n_workers, True
    elif isinstance(executor, ThreadPoolExecutor):
        yield lambda tile: executor.submit(job, tile), AHEAD * executor._max_workers, False
    else:
        blob, token = _pickled(plan, writer, executor), uuid.uuid4().hex
        # The token makes every sweep's tasks new ones: Dask would take the result of an equal task that it remembers.
        has = getattr(executor, "_max_workers", None)
        window = AHEAD * has if isinstance(has, int) else UNKNOWN
        yield lambda tile: executor.submit(_compute_elsewhere, blob, token, tile), window, False


@contextmanager
def _closing(pool):
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _compute(plan, writer, tile):
    report = run_tile(plan, tile)
    if writer is None:
        return report
    writer.write(plan, report)
    return TileReport(report.tile, report.n_cells, report.n_failed, report.error, None)


def _pickled(plan, writer, executor=None):
    """Pickle what a worker needs, or say which part cannot be."""
    dumps: Callable[..., bytes] = pickle.dumps
    if type(executor).__module__.partition(".")[0] == "distributed":
        import cloudpickle  # Dask's own: it takes functions of the user's script, too

        dumps = cloudpickle.dumps
    try:
        return dumps((plan, writer))
    except Exception as error:
        for measure in plan.measures:
            if measure.per_cell and not _picklable(measure.function, dumps):
                raise TypeError(f"measure {measure.name!r} cannot be sent to other processes: define it with def at the top "
                                f"level of a module, or use threads") from error
        for name, value in {"problem": plan.problem, "rule": plan.rule, "function": plan.clock, **plan.fixed}.items():
            if not _picklable(value, dumps):
                raise TypeError(f"{name} cannot be sent to other processes ({error}): define functions with def at the top "
                                f"level of a module, or use threads") from error
        raise


def _picklable(value, dumps):
    try:
        dumps(value)
    except Exception:
        return False
    return True


_INSTALLED: dict = {}
_INSTALLED_LOCK = threading.Lock()


def _install(blob):
    """Prepare a worker process: the plan, no Ctrl-C (the parent decides), and an end when the parent ends."""
    import multiprocessing  # in a worker process it is there

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    _INSTALLED["plan"] = pickle.loads(blob)


def _end_with(parent):
    parent.join()
    os._exit(1)  # killed, it could not tell its workers: they would wait for ever


def _compute_installed(tile):
    plan, writer = _INSTALLED["plan"]
    return _compute(plan, writer, tile)


def _compute_elsewhere(blob, token, tile):
    key = hashlib.blake2b(blob, digest_size=16).digest()
    with _INSTALLED_LOCK:
        if key not in _INSTALLED:
            _INSTALLED.clear()  # one sweep at a time: a long-lived worker does not fill up
            _INSTALLED[key] = pickle.loads(blob)
        plan, writer = _INSTALLED[key]
    return _compute(plan, writer, tile)
