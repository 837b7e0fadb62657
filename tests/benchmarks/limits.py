"""What limits of a grid of penalties cost: ``python tests/benchmarks/limits.py [PROBLEMS]``.

Cells: 32 scales from 1e-8 to 1 by 32 pairs, ``gamma`` from 1e-3 to 0.05 and ``epsilon = 5 gamma``, N = 20, d = 100.  Processor
milliseconds per cell, and the largest error against flows at rtol 1e-12 of every 16th cell: of the whole grid, where most cells
are predicted along lines of gamma, and of every 16th cell alone, where each is integrated by itself.  Compiles first.
"""

import os
import sys
import time

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # before NumPy reads them
    os.environ.setdefault(_variable, "1")

import numpy as np  # noqa: E402

import dln  # noqa: E402
from dln.integrate.tiles import flow_tile  # noqa: E402

SCALES = np.repeat(np.linspace(np.log(1e-8), 0.0, 32), 32)
RULES = [dln.GradientRegularization(gamma, 5.0 * gamma) for gamma in np.geomspace(1e-3, 0.05, 32)] * 32
SOME = np.arange(64) * 16 + np.arange(64) * 7 % 16  # of all strengths


def measure(problem, references, rtol, cells, compared):
    """Return milliseconds per cell, the largest error, the part of the cells that was predicted, and how many failed."""
    start = time.process_time()
    tile = flow_tile(problem, [RULES[k] for k in cells], SCALES[cells], rtol=rtol, limits_only=True)
    spent = 1e3 * (time.process_time() - start) / len(cells)
    betas = tile.betas[np.searchsorted(cells, compared)]
    errors = np.linalg.norm(betas - references, axis=1) / np.linalg.norm(references, axis=1)
    return spent, errors.max(), np.mean(tile.n_steps == 0), np.count_nonzero(~tile.success)


if __name__ == "__main__":
    measure(dln.sparse_regression(20, 100, 5, rng=0), np.ones((1, 100)), 1e-4, SOME[:8], SOME[:1])
    print("| problem | rtol | cells | ms per cell | largest error | predicted | failed |\n|---|---|---|---|---|---|---|")
    for seed in range(int(sys.argv[1]) if len(sys.argv) > 1 else 5):
        problem = dln.sparse_regression(20, 100, 5, rng=seed)
        references = flow_tile(problem, [RULES[k] for k in SOME], SCALES[SOME], rtol=1e-12, residual_tol=1e-13).betas
        for cells in (np.arange(1024), SOME):
            for rtol in (1e-4, 10**-4.5, 1e-5):
                spent, error, predicted, failed = measure(problem, references, rtol, cells, SOME)
                print(f"| {seed} | {rtol:.1e} | {len(cells)} | {spent:.2f} | {error:.1e} | {predicted:.2f} | {failed} |",
                      flush=True)
