"""Discrete steps against the least work that a step can be: two products with X and two passes over the weights.

``python tests/benchmarks/test_descent_speed.py [ROUNDS]`` or `make bench`.  The bare loop does nothing else: no law, no
convergence, no sign flips, no check for divergence.  Its products are those of `dln` or of BLAS.  Interleaved, medians.
"""

import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # before NumPy reads them
    os.environ.setdefault(_variable, "1")

import numpy as np  # noqa: E402
from numba import njit  # noqa: E402

import dln  # noqa: E402
from dln._linalg import residual, rmatvec  # noqa: E402

STEP, ALPHA, N_STEPS = 0.02, 0.1, 200_000


@njit(nogil=True)
def bare_loop(X, y, alpha, step, n_steps):
    n, d = X.shape
    u, v, beta, p, r = np.full(d, alpha), np.full(d, alpha), np.empty(d), np.empty(d), np.empty(n)
    for _ in range(n_steps):
        for j in range(d):
            beta[j] = (u[j] - v[j]) * (u[j] + v[j])
        residual(X, beta, y, r)
        rmatvec(X, r, step / n, p)
        for j in range(d):
            u[j] *= 1.0 - p[j]
            v[j] *= 1.0 + p[j]
    return beta


@njit(nogil=True)
def blas_loop(X, Xt, y, alpha, step, n_steps):
    n, d = X.shape
    u, v, beta, p, r = np.full(d, alpha), np.full(d, alpha), np.empty(d), np.empty(d), np.empty(n)
    for _ in range(n_steps):
        for j in range(d):
            beta[j] = (u[j] - v[j]) * (u[j] + v[j])
        np.dot(X, beta, r)
        for i in range(n):
            r[i] = (r[i] - y[i]) * (step / n)
        np.dot(Xt, r, p)
        for j in range(d):
            u[j] *= 1.0 - p[j]
            v[j] *= 1.0 + p[j]
    return beta


def numpy_loop(X, y, alpha, step, n_steps):
    """Train as papers do it, in NumPy."""
    u, v = np.full(X.shape[1], alpha), np.full(X.shape[1], alpha)
    for _ in range(n_steps):
        g = X.T @ (X @ (u * u - v * v) - y) / (2 * len(y))
        u, v = u - step * 2 * u * g, v + step * 2 * v * g
    return u * u - v * v


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def test_full_batch(rounds=7, n=20, d=100):
    problem = dln.sparse_regression(n, d, 5, rng=0)
    X, y = np.ascontiguousarray(problem.X), problem.y
    Xt = np.ascontiguousarray(X.T)

    def ours(n_steps=N_STEPS):
        return dln.descend(problem, step=STEP, n_steps=n_steps, alpha=ALPHA, residual_tol=None)

    ways = {"dln": ours, "bare loop": lambda: bare_loop(X, y, ALPHA, STEP, N_STEPS),
            "bare loop, BLAS": lambda: blas_loop(X, Xt, y, ALPHA, STEP, N_STEPS),
            "NumPy / 20": lambda: numpy_loop(X, y, ALPHA, STEP, N_STEPS // 20)}
    for way in ways.values():
        way()
    np.testing.assert_allclose(ours().beta, bare_loop(X, y, ALPHA, STEP, N_STEPS), rtol=1e-9, atol=1e-12)
    times = {name: [] for name in ways}
    for k in range(rounds):
        for name in (*list(ways)[k % 4:], *list(ways)[:k % 4]):
            times[name].append(seconds(ways[name]))
    ratio = {name: statistics.median(a / b for a, b in zip(times["dln"], times[name], strict=True)) for name in ways}
    print(f"\n\nFull batch, N = {n}, d = {d}, {N_STEPS} steps: time of dln.descend over\n\n"
          f"| the bare loop | the same with BLAS | NumPy |\n|---|---|---|\n"
          f"| {ratio['bare loop']:.2f} | {ratio['bare loop, BLAS']:.2f} | 1/{20 / ratio['NumPy / 20']:.0f} |")
    return ratio


def test_ensemble(n_runs=20, n_steps=100_000, n=20, d=100):
    """Time one run after another and two at once: kernels release the GIL."""
    problem = dln.sparse_regression(n, d, 5, rng=0)

    def run(seed):
        return dln.descend(problem, step=STEP, n_steps=n_steps, alpha=ALPHA, batch_size=1, rng=seed, residual_tol=None)

    run(0)
    one = seconds(lambda: [run(seed) for seed in range(n_runs)])
    with ThreadPoolExecutor(2) as pool:
        two = seconds(lambda: list(pool.map(run, range(n_runs))))
    print(f"\n\nSGD, batch 1, {n_runs} seeds x {n_steps} steps: {1e6 * one / n_runs / n_steps:.2f} us a step on one thread; "
          f"two threads {one / two:.2f} times as fast: 1000 seeds in {1000 / n_runs * two:.0f} s")


if __name__ == "__main__":
    test_full_batch(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
    test_ensemble()
