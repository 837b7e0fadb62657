"""What sweeps cost, on two threads: ``python tests/benchmarks/sweeps.py [PART ...]``; the parts are below.

overhead: the machinery per cell, beyond the kernel, with runs that have converged before they begin and nothing measured.
store:    what writing a tile takes.
diagrams: 100 x 100 runs, N = 20, d = 100, of gradient flow (scales x seeds) and of gradient regularization (scales x gamma).
scaling:  one worker against two, in turns; the ratio of the best times.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # before NumPy reads them
    os.environ.setdefault(_variable, "1")

import numpy as np  # noqa: E402

import dln  # noqa: E402
from dln.integrate.tiles import flow_tile  # noqa: E402

PROBLEM = dln.sparse_regression(20, 100, 5, rng=0)
GR = dln.GradientRegularization


def data(seed):
    """Data of a seed."""
    return dln.sparse_regression(20, 100, 5, rng=seed)


def timed(call):
    """Return wall-clock and processor seconds, and the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def overhead():
    """Print microseconds per cell."""
    still = dln.Problem(PROBLEM.X, np.zeros(20))
    alphas, epsilons = np.geomspace(1e-3, 1, 200), np.linspace(0.1, 0.2, 50)
    logs = np.repeat(np.log(alphas), 50)
    for rule, axes in (("gradient flow", {"residual_tol": 1e-10}), ("GR", {})):
        plain = rule == "gradient flow"
        options = {"alpha": alphas, **({"log_ratio": np.zeros(50)} if plain else {"epsilon": epsilons, "gamma": 0.1}), **axes}
        what = dln.GradientFlow if plain else GR
        rules = None if plain else [GR(0.1, epsilon) for _ in alphas for epsilon in epsilons]

        def all_in_kernel(rules=rules):
            for first in range(0, 10_000, 100):
                flow_tile(still, None if rules is None else rules[first:first + 100], logs[first:first + 100])

        best = [np.inf] * 3
        for _ in range(5):
            calls = [lambda what=what, options=options: dln.sweep(still, what, measures=[], executor="serial", **options)]
            calls.append(all_in_kernel)
            best[:len(calls)] = [min(old, timed(call)[1]) for old, call in zip(best, calls, strict=False)]
        print(f"overhead, {rule}: {best[0] * 100:.1f} us a cell in all, {(best[0] - best[1]) * 100:.1f} us beyond the kernel's "
              f"{best[1] * 100:.1f} us")


def store():
    """Print the time a tile takes to be written."""
    options = {"alpha": np.geomspace(1e-3, 1, 100), "log_ratio": np.zeros(10), "executor": "serial", "tile": 10}
    still = dln.Problem(PROBLEM.X, np.zeros(20))
    best = [np.inf] * 2
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            times = [timed(lambda: dln.sweep(still, **options))[0],
                     timed(lambda folder=folder: dln.sweep(still, store=Path(folder, "grid.zarr"), **options))[0]]
            best = [min(pair) for pair in zip(best, times, strict=True)]
            size = max(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    print(f"store: {(best[1] - best[0]) * 10:.2f} ms for each of 100 tiles, flushed to the disk (largest file {size} bytes)")


def diagrams():
    """Print the time of two phase diagrams."""
    scales = np.geomspace(1e-6, 10, 100)
    for name, call in {
            "gradient flow, 100 scales x 100 data": lambda **more: dln.sweep(
                data, seed=range(100), alpha=scales, rtol=1e-5, **more),
            "gradient regularization, 100 scales x 100 gammas": lambda **more: dln.sweep(
                PROBLEM, GR, gamma=np.geomspace(1e-2, 10, 100), epsilon=0.2, alpha=scales, rtol=1e-5, **more)}.items():
        with tempfile.TemporaryDirectory() as folder:
            wall, cpu, grid = timed(lambda call=call, folder=folder: call(measures=["richness", "mean_log_shift", "steps"],
                                                                          store=Path(folder, "grid.zarr")))
            print(f"{name}: {wall:.1f} s ({cpu:.1f} s of processors), {grid.attrs['n_failed']} failed")


def scaling():
    """Print how much faster two workers are than one."""
    options = {"gamma": np.geomspace(1e-2, 1, 20), "epsilon": 0.2, "alpha": np.geomspace(1e-6, 1, 40), "rtol": 1e-5, "tile": 10}
    best = {}
    for _ in range(4):
        for workers in (1, 2):
            wall, cpu, _grid = timed(lambda workers=workers: dln.sweep(PROBLEM, GR, executor=workers, **options))
            best[workers] = min(best.get(workers, (np.inf, np.inf)), (wall, cpu))
    ratio = best[1][0] / best[2][0]
    print(f"scaling: {best[1][0]:.2f} s with one thread ({best[1][1]:.2f} s of processors), {best[2][0]:.2f} s with two "
          f"({best[2][1]:.2f} s): {ratio:.2f} times as fast")


def dask():
    """Print what a tile costs the process in which Dask's scheduler and the client run together."""
    from distributed import Client, LocalCluster

    still = dln.Problem(PROBLEM.X, np.zeros(20))
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        options = {"executor": client.get_executor(), "log_ratio": np.zeros(10), "tile": 10}
        dln.sweep(still, alpha=np.geomspace(1e-3, 1, 20), **options)
        wall, cpu, _grid = timed(lambda: dln.sweep(still, alpha=np.geomspace(1e-3, 1, 500), **options))
        print(f"dask: {cpu * 2:.2f} ms of the scheduler's and the client's processor for a tile, {wall * 2:.2f} ms of time")


PARTS = {"overhead": overhead, "store": store, "diagrams": diagrams, "scaling": scaling, "dask": dask}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
