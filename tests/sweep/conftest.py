"""A sweep in a process of its own, to be interrupted."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stores import tiles

HELPERS = Path(__file__).resolve().parents[1] / "helpers"
ROOT = HELPERS.parents[1]

SCRIPT = """
import sys
sys.path.insert(0, {helpers!r})
import dln, sweep_functions

def go(store, executor=None, **options):
    problem = dln.sparse_regression(4, 8, 2, rng=5)
    return dln.sweep(problem, function=sweep_functions.slow, alpha=[0.1 + 0.01 * k for k in range(6)], rtol=[1e-5, 1e-6],
                     store=store, executor=executor, tile=1, **options)

if __name__ == "__main__":
    go(**{options!r})
"""


@pytest.fixture
def start():
    """Start a sweep of 12 tiles of 0.05 s in another process; give the process."""
    started = []

    def call(store, pause=0.05, **options):
        script = SCRIPT.format(helpers=str(HELPERS), options={"store": str(store), **options})
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "DLN_TEST_PAUSE": str(pause)}
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env=environment)
        started.append(process)
        return process

    yield call
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def wait_for_tiles():
    """Wait until a store has some tiles."""

    def call(store, count, process):
        until = time.monotonic() + 60
        while len(tiles(store)) < count:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.005)

    return call
