"""Times of `dln.basis_pursuit` against SciPy's HiGHS, as a Markdown table: ``python tests/benchmarks/basis_pursuit.py [N D]``.

Five instances with generic targets, N = 200 and d = 2000 unless told otherwise.  All solvers take turns on each instance; the
ratio is of medians, to the best method of HiGHS on the linear programme in 2 d nonnegative variables.
"""

import os
import sys
import time

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # before NumPy reads them
    os.environ.setdefault(_variable, "1")

import numpy as np  # noqa: E402
from scipy.optimize import linprog  # noqa: E402

import dln  # noqa: E402

METHODS = ("highs", "highs-ds", "highs-ipm")
INSTANCES = 5


def instance(n, d, seed):
    rng = np.random.default_rng(seed)
    return dln.Problem(rng.standard_normal((n, d)), rng.standard_normal(n))


def by_highs(problem, method):
    d = problem.n_features
    found = linprog(np.ones(2 * d), A_eq=np.hstack([problem.X, -problem.X]), b_eq=problem.y, bounds=(0, None), method=method)
    return found.fun


def main(n, d):
    dln.basis_pursuit(instance(3, 6, 0))  # compile
    seconds = {name: [] for name in ("dln", *METHODS)}
    for seed in range(INSTANCES):
        problem = instance(n, d, seed)
        _ = problem.row_space  # what every solver is given: independent rows
        values = {}
        for name in seconds:
            start = time.perf_counter()
            best = dln.basis_pursuit(problem) if name == "dln" else None
            values[name] = by_highs(problem, name) if best is None else best.objective
            seconds[name].append(time.perf_counter() - start)
            if best is not None and not best.success:
                raise RuntimeError(best.message)
        print(f"instance {seed}: " + ", ".join(f"{name} {found[-1]:.3f} s" for name, found in seconds.items()), flush=True)
        for name, value in values.items():
            if abs(value - values["dln"]) > 1e-6 * values["dln"]:
                raise RuntimeError(f"{name} found {value}, dln {values['dln']}")
    medians = {name: float(np.median(found)) for name, found in seconds.items()}
    print("\n| solver | median, s | to dln |\n|---|---|---|")
    for name, median in medians.items():
        print(f"| {name} | {median:.4f} | {median / medians['dln']:.1f} |")
    print(f"\nbest of HiGHS to dln: {min(medians[name] for name in METHODS) / medians['dln']:.1f}")


if __name__ == "__main__":
    main(*(map(int, sys.argv[1:3]) if len(sys.argv) > 2 else (200, 2000)))
