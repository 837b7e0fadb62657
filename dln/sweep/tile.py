"""One tile of a sweep: its cells are run, by one compiled call where there is one, and measured."""

from typing import Any, NamedTuple

import numpy as np

from ..flow import flow
from ..integrate.tiles import flow_tile, tile_covers
from ..network import initialize
from .axes import CLOCK, DATA, tile_arguments
from .ends import CODES, ERROR, SUCCESS, Ends
from .measures import measured

#: What a cell's run may raise: the cell is then an error, the others go on.
_RAISED = (ValueError, ArithmeticError, np.linalg.LinAlgError)


class TileReport(NamedTuple):
    """What comes back from the worker.

    `values` are (M, C), or None where the worker has stored them; `error` is the first error's message, or "".
    """

    tile: int
    n_cells: int
    n_failed: int
    error: str
    values: np.ndarray | None


def run_tile(plan, tile):
    """Run and measure the cells of a tile.

    Parameters
    ----------
    plan : Plan
    tile : int

    Returns
    -------
    TileReport
    """
    cells = list(plan.cells(tile))
    values = np.full((len(plan.measures), len(cells)), np.nan)
    error = ""
    for group in _groups(plan, cells):
        ends, message = _ends(plan, [cells[k] for k in group])
        values[:, group] = measured(plan.measures, ends)
        error = error or message
    n_failed = int(np.count_nonzero(~np.isin(values[0], SUCCESS)))
    return TileReport(tile, len(cells), n_failed, error, values)


def _groups(plan, cells):
    """Cut cells into those that one kernel call can run: the same data, the same clock but for the scale."""
    apart = set(plan.axes_of(DATA))
    for k in plan.axes_of(CLOCK):
        arguments = {argument for name in plan.axes[k].values for kind, argument in plan.targets[name] if kind == CLOCK}
        if arguments - _SCALES:
            apart.add(k)
    if not apart:
        return [list(range(len(cells)))]
    found: dict = {}
    for place, cell in enumerate(cells):
        found.setdefault(tuple(cell[k] for k in apart), []).append(place)
    return list(found.values())


_SCALES = {"alpha", "log_alpha", "log_ratio"}


def _ends(plan, cells):
    """Run cells that share their data; return their `Ends` and the first error's message."""
    problem = plan.problem_of(cells[0])
    rules, message = _rules(plan, cells)
    arguments = plan.clock_arguments(cells[0])
    if plan.clock is flow and not message and covered(rules, arguments):
        try:
            return _in_one_piece(plan, problem, rules, cells, arguments), ""
        except _RAISED:
            pass  # one cell's scale is refused: cell by cell the others go on
    return _one_by_one(plan, problem, rules, cells, message)


def _rules(plan, cells):
    """Return the rule of each cell, None where it refuses its parameters, and the first refusal."""
    made: dict = {}
    axes, rules, first = plan.axes_of("rule"), [], ""
    for cell in cells:
        key = tuple(cell[k] for k in axes)
        if key not in made:
            try:
                made[key] = plan.rule_of(cell)
            except (ValueError, TypeError) as error:
                made[key], first = None, first or f"{error} at {plan.words(cell)}"
        rules.append(made[key])
    return rules, first


def covered(rules, arguments):
    """Whether one compiled call integrates flows of these rules with these arguments."""
    if "initial_weights" in arguments:
        return False
    way = {name: arguments[name] for name in ("depth", "save_at") if name in arguments}
    return all(tile_covers(rule, **way) for rule in {id(rule): rule for rule in rules}.values())


def _in_one_piece(plan, problem, rules, cells, arguments):
    """Run cells by one call of the kernel."""
    log_alphas, log_ratios = _starts(plan, problem.n_features, cells, arguments)
    options = {name: value for name, value in arguments.items() if name not in _SCALES and name != "depth"}
    result = flow_tile(problem, rules, log_alphas, log_ratios if log_ratios.any() else None, **options)
    logs, betas = result.log_effective_alphas, result.betas
    log_us, log_vs = _weights(betas, logs)
    return Ends(
        problem=problem, depth=2.0, log_alphas=log_alphas, betas=betas, log_effective_alphas=logs,
        effective_log_ratios=result.effective_log_ratios, log_us=log_us, log_vs=log_vs, losses=result.losses,
        residuals=result.residuals, times=result.times, n_steps=result.n_steps,
        codes=np.where(result.success | ~np.isin(result.statuses, SUCCESS), result.statuses, ERROR), rules=rules,
        words=lambda k: plan.words(cells[k]))


def _starts(plan, d, cells, arguments):
    """Return the logarithms of the initial scales and ratios, (C, d) each, as `initialize` gives them for each value alone."""
    fixed = initialize(d, **{name: value for name, value in arguments.items() if name in _SCALES})
    index = np.array(cells, dtype=np.int64).reshape(len(cells), len(plan.axes))
    tables = {"log_alpha": np.broadcast_to(fixed.log_alpha, (len(cells), d)),
              "log_ratio": np.broadcast_to(fixed.log_ratio, (len(cells), d))}
    for k, axis in enumerate(plan.axes):
        for name, values in axis.values.items():
            if name in _SCALES:
                used, rows = np.unique(index[:, k], return_inverse=True)
                kept, needed = ("log_ratio", {"log_alpha": 0.0}) if name == "log_ratio" else ("log_alpha", {})
                starts = [initialize(d, **needed, **{name: values[i]}) for i in used]
                tables[kept] = np.array([getattr(start, kept) for start in starts])[rows]
    return tables["log_alpha"], tables["log_ratio"]


def _weights(betas, logs):
    """Return (log u, log v) from ``u v = alpha_eff^2`` and ``beta = u^2 - v^2``."""
    with np.errstate(under="ignore", divide="ignore"):
        # log(u/v) = asinh(|beta| / (2 alpha^2)); for large arguments log(|beta| / alpha^2), which does not overflow.
        exponent = np.log(np.abs(betas)) - 2.0 * logs
        ratio = np.where(exponent > 300.0, exponent, np.arcsinh(0.5 * np.exp(np.minimum(exponent, 300.0))))
    half = 0.5 * np.copysign(ratio, betas)
    return logs + half, logs - half


def _one_by_one(plan, problem, rules, cells, message):
    """Run cells one after the other: any clock, any rule."""
    by_kernel = set(tile_arguments()) & set(plan.clock_arguments(cells[0]))  # only the limits: not known to `flow`
    runs: list[Any] = []
    for cell, rule in zip(cells, rules, strict=True):
        run = None
        if rule is not None:
            try:
                arguments = plan.clock_arguments(cell)
                run = (_in_one_piece(plan, problem, [rule], [cell], arguments).run(0) if by_kernel
                       else plan.clock(problem, rule, **arguments))
            except _RAISED as error:
                message = message or f"{error} at {plan.words(cell)}"
        runs.append(run)
    d = problem.n_features

    def vectors(name):
        return np.array([np.full(d, np.nan) if run is None else getattr(run, name) for run in runs])

    def numbers(name, default=np.nan):
        return np.array([default if run is None else getattr(run, name) for run in runs])

    codes = [ERROR if run is None or (not run.success and CODES[run.status] in SUCCESS) else CODES[run.status] for run in runs]
    depths = [getattr(run, "depth", 2.0) for run in runs if run is not None]
    return Ends(
        problem=problem, depth=float(depths[0]) if depths else 2.0, log_alphas=vectors("log_alpha"), betas=vectors("beta"),
        log_effective_alphas=vectors("log_effective_alpha"), effective_log_ratios=vectors("effective_log_ratio"),
        log_us=vectors("log_u"), log_vs=vectors("log_v"), losses=numbers("loss"), residuals=numbers("residual"),
        times=numbers("t"), n_steps=numbers("n_steps", -1), codes=np.array(codes), rules=rules,
        words=lambda k: plan.words(cells[k]), runs=runs), message
