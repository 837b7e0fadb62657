"""This package on flows: one run after another, or a grid at once."""

import numpy as np

import dln

from .protocol import Solver

LADDER = (10.0 ** -np.arange(2.0, 11.1, 0.5)).tolist()
LOOSER = [10.0**-1, 10.0**-1.5]


def _ladders(task):
    plain = task.cases[0].kind == "plain"  # other rules refuse looser tolerances than 1e-2
    return [(method, [*LOOSER, *LADDER] if plain else LADDER) for method in ("auto", "explicit", "rosenbrock")]


def _prepare(case, method):
    def run(rtol, deadline):
        runs = [dln.flow(case.problem, case.rule(cell), alpha=cell.alpha, t_end=cell.t_end, rtol=rtol, method=method)
                for cell in case.cells]
        return np.array([run.beta for run in runs]) if all(run.success for run in runs) else None

    return run


# Residuals at which the flow of a rule that shrinks is left to the minimiser that its law predicts.
_CLOSE_AT = 1e-3


def _limit_ladders(task):
    if task.cases[0].kind == "plain":
        return [("minimiser", [None]), ("scale path", [None])]
    return [("flow, then minimiser", LADDER), ("flow", LADDER)]


def _prepare_limit(case, way):
    alphas = np.array([cell.alpha for cell in case.cells])
    order = np.argsort(-alphas)

    def minimisers(setting, deadline):
        return np.array([dln.minimize_potential(case.problem, alpha=alpha).beta for alpha in alphas])

    def path(setting, deadline):
        betas = np.empty((len(alphas), case.problem.n_features))
        betas[order] = dln.scale_path(case.problem, alphas[order]).betas
        return betas

    def flows(rtol, deadline):
        tol = _CLOSE_AT if way == "flow, then minimiser" else 1e-7
        runs = [dln.flow(case.problem, case.rule(cell), alpha=cell.alpha, rtol=rtol, residual_tol=tol) for cell in case.cells]
        if way == "flow, then minimiser":
            return np.array([dln.predict(run).beta for run in runs])
        return np.array([run.beta for run in runs])

    return {"minimiser": minimisers, "scale path": path}.get(way, flows)


SOLVER = Solver("dln", _ladders, _prepare, "dln.flow, for a grid one after another")
LIMIT_SOLVER = Solver("dln", _limit_ladders, _prepare_limit, "the minimiser that theory predicts")
