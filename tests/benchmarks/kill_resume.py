"""Kill a sweep at random moments, resume it, compare all bits: ``python tests/benchmarks/kill_resume.py [TIMES] [SEED]``.

A sweep of 60 tiles and more with a store, in two spawned processes or two threads by turns, is killed (SIGKILL) at a moment
drawn between its start and the time that a whole run takes; half of them are killed a second time while they resume.  The
reference is the sweep that was never killed.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # before NumPy reads them
    os.environ.setdefault(_variable, "1")

import numpy as np  # noqa: E402

import dln  # noqa: E402


def sweep(store, executor):
    """The sweep."""
    return dln.sweep(dln.sparse_regression(10, 30, 3, rng=1), dln.GradientRegularization, gamma=np.geomspace(0.01, 1, 12),
                     epsilon=0.2, alpha=np.geomspace(1e-6, 1, 20), tile=4, store=store,
                     executor=executor, measures=["l1_norm", "richness", "sharpness", "steps"])


def killed(store, executor, seconds):
    """Start the sweep in a process of its own and kill it; return whether it was still at work."""
    process = subprocess.Popen([sys.executable, __file__, "work", str(store), executor], stderr=subprocess.DEVNULL)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    return False


def main(times, seed):
    """Kill and resume; return how often the end was another than that of a whole run."""
    rng = np.random.default_rng(seed)
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        killed(Path(folder, "whole.zarr"), "2", 600.0)
        whole_time = time.perf_counter() - start
        whole = dln.open_sweep(Path(folder, "whole.zarr")).load()
        assert whole.attrs["n_not_computed"] == 0
        for k in range(times):
            store, executor = Path(folder, f"{k}.zarr"), ("2", "processes:2")[k % 2]
            moments = rng.uniform(0.2, 1.0, 1 + int(rng.integers(2))) * whole_time
            hits = [killed(store, executor, moment) for moment in moments]
            there = dln.open_sweep(store).attrs["n_not_computed"] if store.exists() else "all"
            same = sweep(store, 2).load().identical(whole)
            bad += not same
            print(f"{k + 1:3}: {executor:11} killed {sum(hits)} times, {there} of 240 cells missing then: "
                  f"{'the same bits' if same else 'ANOTHER END'}", flush=True)
            shutil.rmtree(store)
    print(f"{times - bad} of {times} resumed runs ended with the bits of the run that was never killed")
    return bad


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        sweep(sys.argv[2], int(sys.argv[3]) if sys.argv[3].isdecimal() else sys.argv[3])
    else:
        sys.exit(bool(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20, int(sys.argv[2]) if len(sys.argv) > 2 else 0)))
