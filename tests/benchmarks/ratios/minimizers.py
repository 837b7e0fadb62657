"""Minimisers of the potential under ``X beta = y``: this package, cvxpy with Clarabel, and SciPy on both sides of the duality.

The potential is ``(1/4) sum [beta asinh(beta/(2 s)) - sqrt(beta^2 + 4 s^2) + 2 s]`` with ``s = alpha^2``; its dual maximises
``nu.y - (s/2) sum [cosh(4 x_j.nu) - 1]``, and ``beta = 2 s sinh(4 X^T nu)``.
"""

import warnings

import numpy as np
from scipy.optimize import minimize

import dln

from .protocol import Solver, guarded

try:
    import cvxpy
    MISSING = "" if "CLARABEL" in cvxpy.installed_solvers() else "cvxpy is installed without Clarabel"
except ImportError as problem:
    cvxpy, MISSING = None, f"cvxpy is not installed: {problem}"

TOLERANCES = (10.0 ** -np.arange(5.0, 15.1)).tolist()


def _prepare_ours(case, label):
    return lambda setting, deadline: dln.minimize_potential(case.problem, alpha=case.alpha).beta[None, :]


def _prepare_clarabel(case, label):
    """Two halves a, b >= 0, beta = a - b: phi(beta) = min (1/4) sum [kl(a, s) + kl(b, s)], kl(a, s) = a log(a/s) - a + s."""
    X, y = case.problem.X, case.problem.y
    d = X.shape[1]
    s = np.full(d, case.alpha**2)

    def run(tol, deadline):
        a, b = cvxpy.Variable(d), cvxpy.Variable(d)
        task = cvxpy.Problem(cvxpy.Minimize(0.25 * cvxpy.sum(cvxpy.kl_div(a, s) + cvxpy.kl_div(b, s))), [X @ (a - b) == y])
        more = {} if tol is None else {f"tol_{name}": tol for name in ("gap_abs", "gap_rel", "feas", "ktratio")}
        task.solve(solver="CLARABEL", **more)
        return None if a.value is None else (a.value - b.value)[None, :]

    return run


def _dual(case):
    X, y, s = case.problem.X, case.problem.y, case.alpha**2

    def value(nu):
        with np.errstate(over="ignore", invalid="ignore"):
            z = 4 * (nu @ X)
            return 0.5 * s * np.sum(np.cosh(z) - 1) - nu @ y, 2 * s * (X @ np.sinh(z)) - y

    def hessian(nu):
        return (X * (8 * s * np.cosh(4 * (nu @ X)))) @ X.T

    return value, hessian, lambda nu: 2 * s * np.sinh(4 * (nu @ X))


def _prepare_dual(case, method):
    value, hessian, beta = _dual(case)

    def run(tol, deadline):
        if method == "L-BFGS-B":
            more = {"options": {"maxiter": 100_000, "maxfun": 100_000, "ftol": tol**2, "gtol": tol, "maxcor": 30}}
        else:
            more = {"hess": hessian, "options": {"gtol": tol, "maxiter": 10_000}}
        found = minimize(guarded(value, deadline), np.zeros(len(case.problem.y)), jac=True, method=method, **more)
        return beta(found.x)[None, :]

    return run


def _prepare_primal(case, label):
    X, y, s = case.problem.X, case.problem.y, case.alpha**2

    def value(b):
        return 0.25 * np.sum(b * np.arcsinh(b / (2 * s)) - np.sqrt(b * b + 4 * s * s) + 2 * s)

    def slope(b):
        return 0.25 * np.arcsinh(b / (2 * s))

    def hessian(b):
        return np.diag(0.25 / np.sqrt(b * b + 4 * s * s))

    first = np.linalg.lstsq(X, y, rcond=None)[0]

    def run(tol, deadline):
        found = minimize(guarded(value, deadline), first, jac=slope, hess=hessian, method="trust-constr",
                         constraints={"type": "eq", "fun": lambda b: X @ b - y, "jac": lambda b: X},
                         options={"gtol": tol, "xtol": 1e-15, "maxiter": 10_000})
        return found.x[None, :]

    return run


def _quiet(prepare):
    def prepared(case, label):
        run = prepare(case, label)

        def quiet(setting, deadline):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return run(setting, deadline)

        return quiet

    return prepared


def _tolerances(label):
    return lambda task: [(label, TOLERANCES)]


def _clarabel_ladders(task):
    return [("all tolerances", [None, 1e-10, 1e-12])]


CLARABEL = "cvxpy with Clarabel"
SOLVERS = [
    Solver("dln", lambda task: [("", [None])], _prepare_ours, "dln.minimize_potential"),
    Solver(CLARABEL, _clarabel_ladders, _quiet(_prepare_clarabel), "exponential cones, by relative entropy; modelling included",
           missing=MISSING, at_its_best=True),
    Solver("SciPy trust-constr", _tolerances(""), _quiet(_prepare_primal), "on beta, gradient and Hessian given",
           lambda task: "" if task.shape[1] <= 500 else "dense Hessian of all of beta: not tried"),
    Solver("SciPy L-BFGS-B on the dual", _tolerances("L-BFGS-B"), _quiet(_prepare_dual), "NumPy value and gradient"),
    Solver("SciPy trust-exact on the dual", _tolerances("trust-exact"), _quiet(_prepare_dual), "with the Hessian, in NumPy"),
]
