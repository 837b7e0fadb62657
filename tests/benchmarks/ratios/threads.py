"""One thread against two on the runs of a sweep: the kernels release the GIL."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import dln

from .protocol import Comparison, seconds


def compare_threads(task, rtol, rounds):
    """Return the ratio of the time of one thread to that of two, of the clock on the wall, in turns."""
    runs = [(case, cell) for case in task.cases for cell in case.cells]

    def one(run):
        case, cell = run
        return dln.flow(case.problem, case.rule(cell), alpha=cell.alpha, t_end=cell.t_end, rtol=rtol)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, runs))
        ratios = [seconds(lambda: [one(run) for run in runs], now=time.perf_counter)
                  / seconds(lambda: list(pool.map(one, runs)), now=time.perf_counter) for _ in range(rounds)]
    return Comparison("one thread", statistics.median(ratios), min(ratios), max(ratios), rounds, 0.0, f"{len(runs)} runs")
