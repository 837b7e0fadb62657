"""What tiles of flows cost: ``python tests/benchmarks/tiles.py [SIZE]``.

Processor seconds of tiles and of loops over `dln.flow`, which take turns; what vector lanes gain; the overhead of a cell; phase
diagrams of SIZE x SIZE cells (alpha from 10 to 1e-6, one problem for each seed) in one thread and in two.  Compiles first.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # before NumPy reads them
    os.environ.setdefault(_variable, "1")

import numpy as np  # noqa: E402

import dln  # noqa: E402
from dln.integrate import tile_lanes  # noqa: E402
from dln.integrate.tiles import flow_tile  # noqa: E402

GR = dln.GradientRegularization(0.02, 0.1)
RULES = {"gradient flow": None, "forward GR": GR, "SAM": dln.SAM(0.05)}
ROUNDS = 3


def processor_seconds(call):
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def against_a_loop():
    """Print the ratio of a loop over `dln.flow` to a tile."""
    print("\n| rule | rtol | steps per cell | us per cell, tile | flow / tile | limits only: us per cell | flow / limits |")
    print("|---|---|---|---|---|---|---|")
    problem = dln.sparse_regression(20, 100, 5, rng=0)
    scales = np.linspace(np.log(10.0), np.log(1e-6), 50)
    for name, rule in RULES.items():
        for rtol in (1e-8, 1e-5, 1e-3):
            best = np.full(3, np.inf)
            for _ in range(ROUNDS):
                of_tile, tile = processor_seconds(lambda: flow_tile(problem, rule, scales, rtol=rtol))  # noqa: B023
                of_loop, _ = processor_seconds(
                    lambda: [dln.flow(problem, rule, log_alpha=float(a), rtol=rtol) for a in scales])  # noqa: B023
                of_limits, _ = processor_seconds(
                    lambda: flow_tile(problem, rule, scales, rtol=rtol, limits_only=True))  # noqa: B023
                best = np.minimum(best, [of_tile, of_loop, of_limits])
            micro = 1e6 * best / len(scales)
            print(f"| {name} | {rtol:g} | {np.mean(tile.n_steps + tile.n_rejected):.0f} | {micro[0]:.0f} | "
                  f"{best[1] / best[0]:.2f} | {micro[2]:.0f} | {best[1] / best[2]:.1f} |", flush=True)


def in_lanes(n_cells=256):
    """Print what vector lanes gain over the same cells one after another, in turns, by rule and scale."""
    print("\n| rule | alpha | rtol | cells | steps per cell | us per step in lanes | gain |\n|---|---|---|---|---|---|---|")
    problem = dln.sparse_regression(20, 100, 5, rng=0)
    fewest = tile_lanes.FEWEST
    for name, rule in RULES.items():
        for alpha in (1.0, 0.1, 1e-2, 1e-3, 1e-6, 1e-8):
            for rtol, count in ((1e-1 if rule is None else 1e-2, n_cells), (1e-3, n_cells), (1e-3, 16)):
                scales = np.log(alpha) + np.linspace(0.0, 0.1, count)
                t_end = 0.5 * float(flow_tile(problem, rule, scales[:1], rtol=1e-4, residual_tol=1e-6).times[0])
                best = np.full(2, np.inf)
                for _ in range(ROUNDS):
                    for k in range(2):
                        tile_lanes.FEWEST = fewest if k else count + 1
                        seconds, tile = processor_seconds(
                            lambda: flow_tile(problem, rule, scales, t_end=t_end, rtol=rtol))  # noqa: B023
                        best[k] = min(best[k], seconds)
                tile_lanes.FEWEST = fewest
                steps = int(np.sum(tile.n_steps + tile.n_rejected))
                print(f"| {name} | {alpha:g} | {rtol:g} | {count} | {steps / count:.0f} | {1e6 * best[1] / steps:.1f} | "
                      f"{best[0] / best[1]:.2f} |", flush=True)


def overhead():
    """Print what a cell costs that has converged when it starts."""
    print("\n| N x d | cell at rest, rule | us per cell |\n|---|---|---|")
    for n, d in ((5, 10), (20, 100)):
        problem = dln.Problem(np.random.default_rng(0).standard_normal((n, d)), np.zeros(n))
        for name, rule in RULES.items():
            seconds = min(processor_seconds(lambda: flow_tile(problem, rule, np.full(5000, -2.0)))[0]  # noqa: B023
                          for _ in range(ROUNDS))
            print(f"| {n} x {d} | {name} | {1e6 * seconds / 5000:.1f} |")


def diagrams(size):
    """Print the seconds of whole diagrams, and how well two threads share them."""
    print(f"\n| {size} x {size} cells | rtol | one thread: s, processor s | two threads: s, processor s | speed-up | failed |")
    print("|---|---|---|---|---|---|")
    scales = np.linspace(np.log(10.0), np.log(1e-6), size)
    problems = [dln.sparse_regression(20, 100, 5, rng=seed) for seed in range(size)]

    def column(problem, rule, options):
        return int(np.count_nonzero(~flow_tile(problem, rule, scales, **options).success))

    for name, rule, options in (("gradient flow", None, {"rtol": 1e-5}), ("gradient flow, limits only", None,
                                {"rtol": 1e-5, "limits_only": True}), ("forward GR", GR, {"rtol": 1e-5}),
                                ("forward GR, limits only", GR, {"rtol": 1e-5, "limits_only": True})):
        column(problems[0], rule, options)
        seconds, processor = np.zeros(2), np.zeros(2)
        for k in range(2):
            with ThreadPoolExecutor(k + 1) as pool:
                start, start_processor = time.perf_counter(), time.process_time()
                failed = sum(pool.map(lambda problem: column(problem, rule, options), problems))  # noqa: B023
                seconds[k], processor[k] = time.perf_counter() - start, time.process_time() - start_processor
        print(f"| {name} | {options['rtol']:g} | {seconds[0]:.1f}, {processor[0]:.1f} | {seconds[1]:.1f}, {processor[1]:.1f} | "
              f"{seconds[0] / seconds[1]:.2f} | {failed} |", flush=True)


if __name__ == "__main__":
    for rule in RULES.values():  # compiles
        flow_tile(dln.sparse_regression(5, 9, 2, rng=0), rule, [-1.0, -50.0], rtol=1e-3, limits_only=True)
    overhead()
    in_lanes()
    against_a_loop()
    diagrams(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
