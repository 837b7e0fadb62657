"""Our own times, by pytest-benchmark, to compare one commit with another on one machine.

``pytest tests/benchmarks/test_own_times.py --benchmark-autosave``, and later the same with ``--benchmark-compare``.  Against
other solvers: ``make bench``.
"""

import pytest

import dln

PROBLEM = dln.sparse_regression(20, 100, 5, rng=0)
WIDE = dln.sparse_regression(200, 2000, 50, rng=0)
RULES = {"plain": dln.GradientFlow(), "GR": dln.GradientRegularization(0.02, 0.1), "SAM": dln.SAM(0.05),
         "1-SAM": dln.SAM(0.05, per_sample=True)}


@pytest.mark.parametrize("alpha", [1e-1, 1e-3, 1e-6])
@pytest.mark.parametrize("kind", RULES)
def test_flow(benchmark, kind, alpha):
    run = benchmark(dln.flow, PROBLEM, RULES[kind], alpha=alpha, rtol=1e-5)
    assert run.success


def test_overhead_of_a_flow_of_one_step(benchmark):
    run = benchmark(dln.flow, PROBLEM, alpha=0.1, t_end=1e-9, method="rosenbrock")
    assert run.n_steps == 1


@pytest.mark.parametrize("problem", [PROBLEM, WIDE], ids=["N = 20", "N = 200"])
def test_minimiser(benchmark, problem):
    assert benchmark(dln.minimize_potential, problem, alpha=1e-2).success


def test_basis_pursuit(benchmark):
    assert benchmark(dln.basis_pursuit, WIDE).success
