"""Threads that need the same kernel for the first time at the same moment."""

import threading
from concurrent.futures import ThreadPoolExecutor

from numba import types

import dln._jit


def test_a_kernel_is_compiled_once_and_the_other_threads_wait(monkeypatch, tmp_path):
    """Reference: the sum itself; without the wait all threads but one find compiling disabled."""
    monkeypatch.setattr(dln._jit, "cache_folder", lambda: str(tmp_path))

    @dln._jit.njit(types.float64(types.float64, types.float64))
    def add(a, b):
        return a + b

    barrier = threading.Barrier(4)

    def use(k):
        barrier.wait()
        return dln._jit.entry_point(add)(float(k), 1.0)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(use, range(4))) == [1.0, 2.0, 3.0, 4.0]
