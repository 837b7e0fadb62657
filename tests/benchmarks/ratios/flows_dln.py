"""This package on flows: one run after another, or a grid at once."""

import numpy as np

import dln

from .protocol import STEP, Solver

try:
    from dln.integrate.tiles import flow_tile
except ImportError:  # a version of the package without tiles: so that old and new are measured by the same suite
    flow_tile = None

LADDER = (10.0 ** -np.arange(1.375, 11.1, STEP)).tolist()
LOOSER = (10.0 ** -np.arange(0.375, 1.6, STEP)).tolist()


def _ladders(task):
    plain = task.cases[0].kind == "plain"  # other rules refuse looser tolerances than 0.05
    ways = ["auto", "explicit", "rosenbrock"]
    if flow_tile and len(task.cases[0].cells) > 1:
        ways += [f"tile {way}" for way in ways]
    return [(way, [*LOOSER, *LADDER] if plain else LADDER) for way in ways]


def _tile_arguments(case):
    return (case.problem, [case.rule(cell) for cell in case.cells], np.log([cell.alpha for cell in case.cells]))


def _prepare(case, method):
    if method.startswith("tile"):
        t_ends = np.array([cell.t_end for cell in case.cells])

        def tile(rtol, deadline):
            found = flow_tile(*_tile_arguments(case), t_end=t_ends, rtol=rtol, method=method.split()[1])
            return found.betas if found.success.all() else None

        return tile

    def run(rtol, deadline):
        runs = [dln.flow(case.problem, case.rule(cell), alpha=cell.alpha, t_end=cell.t_end, rtol=rtol, method=method)
                for cell in case.cells]
        return np.array([run.beta for run in runs]) if all(run.success for run in runs) else None

    return run


# Residuals at which the flow of a rule that shrinks is left to the minimiser that its law predicts.
_CLOSE_AT = 1e-3


def _limit_ladders(task):
    plain = task.cases[0].kind == "plain"
    ways = ["minimiser", "scale path"] if plain else ["flow, then minimiser", "flow"]
    return [(way, [None] if plain else LADDER) for way in ways] + ([("tile", LADDER)] if flow_tile else [])


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

    def tile(rtol, deadline):
        found = flow_tile(*_tile_arguments(case), rtol=rtol, limits_only=True)
        return found.betas if found.success.all() else None

    return {"minimiser": minimisers, "scale path": path, "tile": tile}.get(way, flows)


SOLVER = Solver("dln", _ladders, _prepare, "dln.flow; for a grid one after another, or a tile")
LIMIT_SOLVER = Solver("dln", _limit_ladders, _prepare_limit, "the minimiser that theory predicts")
