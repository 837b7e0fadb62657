"""Minimisers of the l1 norm under ``X beta = y``: this package and HiGHS."""

import numpy as np
from scipy.optimize import linprog

import dln

from .protocol import Solver

TOLERANCES = (1e-7, 1e-9)


def _prepare_ours(case, label):
    return lambda setting, deadline: dln.basis_pursuit(case.problem).beta[None, :]


def _prepare_highs(case, label):
    X = case.problem.X
    d = X.shape[1]
    both, cost = np.hstack((X, -X)), np.ones(2 * d)

    def run(tol, deadline):
        found = linprog(cost, A_eq=both, b_eq=case.problem.y, method=label,
                        options={"primal_feasibility_tolerance": tol, "dual_feasibility_tolerance": tol})
        return (found.x[:d] - found.x[d:])[None, :] if found.success else None

    return run


def _ladders(task):
    return [("highs-ds", list(TOLERANCES)), ("highs-ipm", list(TOLERANCES))]


SOLVERS = [Solver("dln", lambda task: [("", [None])], _prepare_ours, "dln.basis_pursuit"),
           Solver("HiGHS", _ladders, _prepare_highs, "scipy.optimize.linprog on two halves: dual simplex or interior point")]
