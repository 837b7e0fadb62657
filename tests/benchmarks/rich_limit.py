"""Times and steps of flows against the initial scale, as Markdown tables: ``python tests/benchmarks/rich_limit.py [RTOL]``.

With a second argument, ``rules``: only those of the rules that shrink.

Ten seeded problems, N = 20, d = 100.  Scales take turns, each time is the best of several, ratios are of means to that at
alpha = 1e-3 of the same rule and tolerance.
"""

import os
import sys
import time

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # before NumPy reads them
    os.environ.setdefault(_variable, "1")

import numpy as np  # noqa: E402

import dln  # noqa: E402

SCALES = {"1e-3": np.log(1e-3), "1e-8": np.log(1e-8), "1e-50": np.log(1e-50), "1e-100": np.log(1e-100),
          "1e-300": np.log(1e-300), "exp(-1e4)": -1e4, "exp(-1e6)": -1e6}
PROBLEMS = [dln.sparse_regression(20, 100, 5, rng=seed) for seed in range(10)]
ROUNDS = 3


def measure(call):
    """Return the seconds and the run of every scale and problem, (S, 10) each."""
    seconds = np.full((len(SCALES), len(PROBLEMS)), np.inf)
    runs = np.empty(seconds.shape, dtype=object)
    for _ in range(ROUNDS):
        for j, problem in enumerate(PROBLEMS):
            for i, log_alpha in enumerate(SCALES.values()):
                start = time.process_time()
                runs[i, j] = call(problem, log_alpha)
                seconds[i, j] = min(seconds[i, j], time.process_time() - start)
    return seconds, runs


def table(title, call):
    seconds, runs = measure(call)
    ratios = seconds.mean(axis=1) / seconds[0].mean()
    worst = (seconds / seconds[0]).max(axis=1)
    print(f"\n{title}\n\n| alpha | steps | jumps | time / that at 1e-3 | worst problem | distance to minimiser | ended well |")
    print("|---|---|---|---|---|---|---|")
    for i, name in enumerate(SCALES):
        steps = np.mean([run.n_steps + run.n_rejected for run in runs[i]])
        distance = max(np.linalg.norm(run.beta - dln.predict(run).beta) / np.linalg.norm(run.beta) for run in runs[i])
        print(f"| {name} | {steps:.0f} | {np.mean([run.n_jumps for run in runs[i]]):.1f} | {ratios[i]:.2f} | {worst[i]:.2f} | "
              f"{distance:.0e} | {sum(run.success for run in runs[i])} of {len(PROBLEMS)} |", flush=True)


def plain(rtol):
    table(f"Gradient flow to its limit, rtol {rtol:g}", lambda p, a: dln.flow(p, log_alpha=a, rtol=rtol))
    table(f"Gradient flow, every time to rtol {rtol:g}", lambda p, a: dln.flow(
        p, log_alpha=a, rtol=rtol, t_end=1e3 * max(1.0, -a), max_steps=200_000))


def shrinking(rtol):
    for rule in (dln.GradientRegularization(0.02, 0.1), dln.SAM(0.05)):
        for tolerance in dict.fromkeys((rtol, 1e-3)):
            table(f"{rule.name} to its limit, rtol {tolerance:g}", lambda p, a, rule=rule, tolerance=tolerance: dln.flow(
                p, rule, log_alpha=a, rtol=tolerance))


if __name__ == "__main__":
    RTOL = float(sys.argv[1]) if len(sys.argv) > 1 else 1e-8
    if "rules" not in sys.argv[2:]:
        plain(RTOL)
    shrinking(RTOL)
