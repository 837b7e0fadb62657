"""Jumps over plateaus against plain integration, on many random problems: ``python tests/benchmarks/plateaus.py [N] [FIRST]``.

Each run is stopped at ten times, in transitions and on plateaus, and compared with the Rosenbrock method without jumps at a
hundredth of the tolerance: in beta, and in the logarithms of all weights.  Its limit is compared with the minimiser of the
potential.  Nothing may be silently wrong: the errors are printed in units of the tolerance, and every run beyond 30.
"""

import os
import sys

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # before NumPy reads them
    os.environ.setdefault(_variable, "1")

from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

import dln  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from hostile_data import hostile  # noqa: E402

TOLERANCES = (1e-8, 1e-5, 1e-3)


def errors(seed):
    """Return (kind, rtol, error of beta, of log weights, of the limit, run), the first two errors in units of rtol; or None.

    None where the integration without jumps does not come to its end: then there is nothing to compare with.
    """
    problem, kind, start = hostile(seed)
    rng = np.random.default_rng([18, seed])
    rtol = TOLERANCES[seed % len(TOLERANCES)]
    rough = dln.flow(problem, method="rosenbrock", rtol=1e-3, max_steps=5000, **start)
    times = np.sort(rng.uniform(0.0, 1.0, 9) ** 2 * 0.9 * rough.t + 1e-3 * rough.t)
    if not rough.success or rough.t == 0.0:
        return None
    ask = {"t_end": times[-1], "save_at": times, "max_steps": 100_000, **start}
    reference = dln.flow(problem, method="rosenbrock", rtol=min(1e-2 * rtol, 1e-7), **ask)
    if not reference.success:
        return None
    run, limit = dln.flow(problem, rtol=rtol, **ask), dln.flow(problem, **start)
    if not (run.success and limit.success):
        return kind, rtol, np.inf, np.inf, np.inf, run
    best = dln.predict(limit).beta
    # Logarithms as large as these are known to their rounding only.
    unit = rtol + 1e-14 * float(np.max(np.abs(start["log_alpha"])))
    beta = np.max(np.abs(run.betas - reference.betas)) / max(np.max(np.abs(reference.betas)), 1e-300)
    logs = max(np.max(np.abs(run.log_us - reference.log_us)), np.max(np.abs(run.log_vs - reference.log_vs)))
    return kind, rtol, beta / unit, logs / unit, np.max(np.abs(limit.beta - best)) / np.max(np.abs(best)), run


def main(count, first):
    rows, wrong, nothing, jumps = [], 0, 0, 0
    for seed in range(first, first + count):
        found = errors(seed)
        if found is None:
            nothing += 1
            continue
        kind, rtol, beta, logs, limit, run = found
        rows.append((rtol, beta, logs, limit))
        jumps += run.n_jumps
        if max(beta, logs) > 30.0 or limit > 1e-6:
            wrong += 1
            print(f"seed {seed} ({kind}, rtol {rtol:g}): beta {beta:.2g}, log weights {logs:.2g}, limit {limit:.1e}: {run}")
    table = np.array(rows)
    for rtol in TOLERANCES:
        here = table[table[:, 0] == rtol]
        print(f"rtol {rtol:g}: {len(here)} problems; median, 99 % and largest error in rtol: beta "
              + ", ".join(f"{q:.2g}" for q in np.quantile(here[:, 1], [0.5, 0.99, 1.0])) + "; log weights "
              + ", ".join(f"{q:.2g}" for q in np.quantile(here[:, 2], [0.5, 0.99, 1.0]))
              + f"; limits within {here[:, 3].max():.1e}")
    print(f"{wrong} of {len(rows)} wrong; {nothing} without a reference; {jumps} jumps")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
