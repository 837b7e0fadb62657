"""Limits of rules that shrink against tighter runs, on random problems: ``python tests/benchmarks/shrinking.py [N] [FIRST]``.

What is compared is beta, from scales that `flow` calls small, with a run whose way is followed at a hundredth of the tolerance.
Nothing may be silently wrong: errors are printed in units of the tolerance, and every run beyond 1.
"""

import os
import sys

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # before NumPy reads them
    os.environ.setdefault(_variable, "1")

from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

import dln  # noqa: E402
from dln import _shrinking  # noqa: E402
from dln.network import initialize  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from hostile_data import hostile  # noqa: E402

TOLERANCES = (1e-7, 1e-5, 1e-3)


def main(count, first):
    errors, none = {rtol: [] for rtol in TOLERANCES}, 0
    for seed in range(first, first + count):
        problem, kind, start = hostile(seed)
        rng = np.random.default_rng([19, seed])
        rtol = TOLERANCES[seed % len(TOLERANCES)]
        gamma, epsilon = rng.uniform(0.01, 0.2, 2)
        rule = dln.SAM(0.1 * gamma) if seed % 4 == 3 else dln.GradientRegularization(gamma, epsilon)
        scale = initialize(problem.n_features, **start)
        if (2.0 * scale.log_alpha + abs(scale.log_ratio)).max() >= _shrinking.small_below(problem, rule, rtol):
            none += 1
            continue
        run = dln.flow(problem, rule, rtol=rtol, max_steps=20_000, **start)
        tight = _shrinking.LimitOfShrinking(problem, rule, scale, None, np.empty(0), 1e-2 * rtol, 1e-10, "auto", 50_000,
                                            way=min(1e-2 * rtol, 1e-6)).run()
        if not (run.success and tight.success):
            none += 1
            print(f"seed {seed} ({kind}, rtol {rtol:g}): {run.status}, tighter {tight.status}", flush=True)
            continue
        error = float(np.linalg.norm(run.beta - tight.beta) / max(np.linalg.norm(tight.beta), 1e-300))
        logs = float(np.abs(run.log_effective_alpha - tight.log_effective_alpha).max())
        errors[rtol].append((error / rtol, run.error_estimate / rtol, logs / run.log_alpha_error))
        if logs > run.log_alpha_error:
            print(f"seed {seed} ({kind}, rtol {rtol:g}): log alpha_eff off by {logs:.2g}, estimate {run.log_alpha_error:.2g}",
                  flush=True)
        if error > rtol and error > run.error_estimate:
            print("SILENTLY WRONG:", end=" ")
        if error > rtol:
            print(f"seed {seed} ({kind}, rtol {rtol:g}, {rule}): {error / rtol:.2g} of the tolerance, estimate "
                  f"{run.error_estimate / rtol:.2g}; {run}", flush=True)
    print(f"{none} without a small scale or a reference")
    for rtol, found in errors.items():
        table = np.array(found)
        print(f"rtol {rtol:g}: {len(found)} problems; error of beta in rtol: median, 99 %, largest "
              + ", ".join(f"{q:.2g}" for q in np.quantile(table[:, 0], [0.5, 0.99, 1.0]))
              + f"; of log alpha_eff over its estimate: largest {table[:, 2].max():.2g}")


if __name__ == "__main__":
    main(*(int(word) for word in (sys.argv[1:] + ["120", "0"][len(sys.argv) - 1:])))
