"""One thread against two on a sweep, in tiles as `dln.sweep` runs them: the kernels release the GIL."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from dln.integrate.tiles import flow_tile

from .protocol import Comparison, seconds

_TILES = 16  # in each round, of half the cells of a case


def compare_threads(task, rtol, rounds):
    """Return the ratio of the time of one thread to that of two, of the clock on the wall, in turns."""
    tiles = [(case, case.cells[k::2]) for case in task.cases for k in range(2)] * (_TILES // (2 * len(task.cases)) or 1)

    def one(tile):
        case, cells = tile
        return flow_tile(case.problem, [case.rule(cell) for cell in cells], np.log([cell.alpha for cell in cells]),
                         t_end=np.array([cell.t_end for cell in cells]), rtol=rtol, method="rosenbrock")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, tiles))
        ratios = [seconds(lambda: [one(tile) for tile in tiles], now=time.perf_counter)
                  / seconds(lambda: list(pool.map(one, tiles)), now=time.perf_counter) for _ in range(rounds)]
    return Comparison("one thread", statistics.median(ratios), min(ratios), max(ratios), rounds, 0.0, f"{len(tiles)} tiles")
