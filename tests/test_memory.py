"""What a run holds in memory beyond its data: no second X, and no second N x N matrix.

Bounds are in vectors of length d, of which X is N: a copy of X anywhere would add N of them.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dln

ROOT = Path(dln.__file__).parent.parent
N, D = 250, 20_000

# Kernels allocate where tracemalloc does not see it, so the peak of the process counts; blocks from 64 kB on are given back at
# once, and the high-water mark is set back before each measurement (Linux).
MEASURE = f'''
import numpy as np
import dln

N, D = {N}, {D}


def peak(reset=False):
    if reset:
        open("/proc/self/clear_refs", "w").write("5")
    text = open("/proc/self/status").read()
    return 1024 * int(text.split("VmHWM:")[1].split()[0])


def problem():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, D))
    return dln.Problem(X, X[:, :5].sum(axis=1))


gr = dln.GradientRegularization(0.02, 0.1)
plain = dln.GradientFlow()
cases = [(plain, "explicit", 0.1), (plain, "rosenbrock", 0.1), (plain, "rosenbrock", 1e-4), (gr, "explicit", 0.1),
         (gr, "rosenbrock", 0.1), (plain, "auto", 1e-4)]
small = dln.sparse_regression(170, 180, 3, rng=0)
for rule, method, alpha in cases:  # code and the work space of BLAS are no part of a run
    dln.flow(small, rule, alpha=alpha / 100.0, method=method, rtol=1e-4, max_steps=3)
data = problem()
before = peak(True)
data.row_space
print((peak() - before) / (8 * D))
for rule, method, alpha in cases:
    before = peak(True)
    run = dln.flow(data, rule, alpha=alpha, method=method, rtol=1e-4, max_steps=4)
    print((peak() - before) / (8 * D), run.method)
'''


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs the high-water mark of Linux")
def test_no_run_holds_a_second_X():
    # Reference: the arrays by hand: 19 rows for the state and 19 for a trial, 8 or 14 stages and 6 states of rules that shrink,
    # 128 columns of N, N^2 (3 vectors here), and the result.  A second X would be 250.
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536",
                 "MALLOC_TRIM_THRESHOLD_": "65536"}
    result = subprocess.run([sys.executable, "-W", "error", "-c", MEASURE], env=variables, capture_output=True, text=True,
                            timeout=280, check=False)
    assert result.returncode == 0, result.stderr
    row_space, *flows = result.stdout.splitlines()
    assert float(row_space) < 30.0
    assert [line.split()[1] for line in flows] == ["explicit", "rosenbrock", "rosenbrock", "explicit", "rosenbrock", "plateaus"]
    assert max(float(line.split()[0]) for line in flows) < 100.0, flows
