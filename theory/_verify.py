"""Work through theorems in one process or in several: the same functions on the same data, so the same numbers.

The pieces are small: one derivation, or one theorem on one set of data. Processes are spawned, not forked, because a fork
of a process that has run parallel kernels may hang; each looks its theorem up by key, since a theorem, made of functions,
cannot be sent.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from typing import Any

from ._registry import Check, Measured, Theorem

__all__ = ["work_through"]


def work_through(chosen: Sequence[Theorem], problem: Any, progress: Callable[[Check], None] | None, jobs: int) -> list[Check]:
    """Check theorems; report each when it is finished; return the checks in the order asked for."""
    problems = {theorem.key: theorem.problems(problem) for theorem in chosen}
    finished = _here(chosen, problems) if jobs == 1 else _elsewhere(chosen, problems, jobs)
    checks = {}
    for key, check in finished:
        checks[key] = check
        if progress is not None:
            progress(check)
    return [checks[theorem.key] for theorem in chosen]


def _here(chosen: Sequence[Theorem], problems: dict[str, list[Any]]) -> Iterator[tuple[str, Check]]:
    for theorem in {theorem.key: theorem for theorem in chosen}.values():
        measured = [theorem.measure(data) for data in problems[theorem.key]]
        yield theorem.key, theorem.verdict(problems[theorem.key], measured, theorem.prove())


def _elsewhere(chosen: Sequence[Theorem], problems: dict[str, list[Any]], jobs: int) -> Iterator[tuple[str, Check]]:
    theorems = {theorem.key: theorem for theorem in chosen}
    others = set(active_children())
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_die_quietly) as pool:
        # Of a theorem the derivation, then the data; its verdict is due when the last piece is there.
        pieces: dict[Future[Any], tuple[str, int]] = {}
        with _one_thread_each():
            for key in theorems:
                pieces[pool.submit(_prove, key)] = (key, -1)
                # The largest data are at the end of the list: begun first, they are not waited for at the end.
                pieces.update({pool.submit(_measure, key, data): (key, place)
                               for place, data in reversed(list(enumerate(problems[key])))})
        results: dict[str, dict[int, Any]] = {key: {} for key in theorems}
        try:
            for piece in as_completed(pieces):
                key, place = pieces[piece]
                results[key][place] = piece.result()
                if len(results[key]) == 1 + len(problems[key]):
                    measured = [results[key][place] for place in range(len(problems[key]))]
                    yield key, theorems[key].verdict(problems[key], measured, results[key][-1])
        except BrokenProcessPool as error:
            raise ChildProcessError("a process of the check ended abruptly, perhaps for want of memory; try jobs=1") from error
        except BaseException:  # Ctrl-C, too: what is under way would be waited for
            for process in set(active_children()) - others:
                process.terminate()
            raise


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes that start meanwhile do linear algebra in one thread: several would fight over the cores."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    missing = [name for name in names if name not in os.environ]
    os.environ.update(dict.fromkeys(missing, "1"))
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]


def _die_quietly() -> None:
    """Let Ctrl-C, which a terminal sends to every process, end this one without a traceback; the first one reports."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _prove(key: str) -> str | None:
    import theory

    return theory.get(key).prove()


def _measure(key: str, data: Any) -> Measured:
    import theory

    return theory.get(key).measure(data)
