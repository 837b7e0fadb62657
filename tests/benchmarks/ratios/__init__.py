"""Ratios of time: this package and other solvers on the same tasks, at equal accuracy, in one run.

``make bench``, or ``PYTHONPATH=.:tests/benchmarks python -m ratios --help``.  `tasks` says what is solved, `flows_*`,
`minimizers` and `l1` hold the solvers, `protocol` compares them and `report` writes the tables.
"""

import os

# One thread for everybody, before NumPy, SciPy or JAX read it.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
