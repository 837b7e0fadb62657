"""What a run holds in memory beyond its data: no second X, and at loose tolerances half an N x N matrix.

Bounds are in vectors of length d, of which X is N: a copy of X anywhere would add N of them.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dln

ROOT = Path(dln.__file__).parent.parent

# Kernels allocate where tracemalloc does not see it, so the peak of the process counts; blocks from 64 kB on are given back at
# once, and the high-water mark is set back before each measurement (Linux).
BEGIN = """
import numpy as np
import dln

gr, plain, sam = dln.GradientRegularization(0.02, 0.1), dln.GradientFlow(), dln.SAM(0.05)


def peak(reset=False):
    if reset:
        open("/proc/self/clear_refs", "w").write("5")
    text = open("/proc/self/status").read()
    return 1024 * int(text.split("VmHWM:")[1].split()[0])


def measure(n, d, cases, **settings):
    small = dln.sparse_regression(170, 180, 3, rng=0)
    for rule, method, alpha, rtol in cases:  # code and the work space of BLAS are no part of a run
        dln.flow(small, rule, alpha=alpha / 100.0, method=method, rtol=rtol, max_steps=3, **settings)
    X = np.random.default_rng(0).standard_normal((n, d))
    data = dln.Problem(X, X[:, :5].sum(axis=1))
    before = peak(True)
    data.row_space
    print((peak() - before) / (8 * d))
    for rule, method, alpha, rtol in cases:
        before = peak(True)
        run = dln.flow(data, rule, alpha=alpha, method=method, rtol=rtol, max_steps=4, **settings)
        print((peak() - before) / (8 * d), run.method)


"""


def measured(call):
    """Return the peaks of the row space and of the runs, and the methods of these."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536",
                 "MALLOC_TRIM_THRESHOLD_": "65536"}
    result = subprocess.run([sys.executable, "-W", "error", "-c", BEGIN + call], env=variables, capture_output=True, text=True,
                            timeout=280, check=False)
    assert result.returncode == 0, result.stderr
    row_space, *flows = result.stdout.splitlines()
    return float(row_space), [float(line.split()[0]) for line in flows], [line.split()[1] for line in flows]


linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs the high-water mark of Linux")


@linux
def test_no_run_holds_a_second_X():
    # Reference: the arrays by hand: 23 rows for the state, 8 or 14 stages and 6 states of rules that shrink, 128 columns of N,
    # N^2 (3 vectors here), and the result; from plateau to plateau a second state.  A second X would be 250.
    row_space, flows, methods = measured("""
measure(250, 20_000, [(plain, "explicit", 0.1, 1e-4), (plain, "rosenbrock", 0.1, 1e-4), (plain, "rosenbrock", 1e-4, 1e-4),
                      (gr, "explicit", 0.1, 1e-4), (gr, "rosenbrock", 0.1, 1e-4), (plain, "auto", 1e-4, 1e-4)])
""")
    assert row_space < 30.0
    assert methods == ["explicit", "rosenbrock", "rosenbrock", "explicit", "rosenbrock", "plateaus"]
    assert max(flows) < 60.0, flows


@linux
def test_loose_runs_hold_less_than_a_square_and_ten_vectors():
    # Reference: N^2 numbers are 100 vectors here.  In double precision the square would be all of them.
    _, flows, methods = measured("""
measure(500, 2500, [(rule, "rosenbrock", alpha, rtol) for rule, rtol in ((plain, 0.1), (gr, 1e-3), (sam, 1e-3))
                    for alpha in (0.1, 1e-3)], t_end=20.0)
""")
    assert set(methods) == {"rosenbrock"}
    assert max(flows) < 110.0, flows
