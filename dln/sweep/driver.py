"""`sweep`: the door, the engine and the result."""

import inspect
import operator
import warnings
from dataclasses import replace

import numpy as np

from ..flow import flow
from ..problem import Problem, shown
from ..rules import GradientFlow, Rule
from .axes import DATA, RULE, Axis, Router, checked_value, checked_values, is_axis, tile_arguments
from .dataset import dataset, schema, typed
from .execute import checked_executor, execute
from .measures import DEFAULT, checked_measures
from .plan import Plan, tile_shape
from .progress import bar
from .store import Store
from .tile import covered


def sweep(problem, rule=None, *zips, function=flow, measures=DEFAULT, store=None, executor=None, progress=None, tile=None,
          shard=None, **parameters):
    """Run a grid of trainings and measure each.

    Every parameter that is given as a sequence becomes a dimension of the grid, in the order given; a single value is the
    same for all cells.

    Parameters
    ----------
    problem : Problem, sequence of Problem, or callable
        The data; a sequence is an axis; a function of ``seed`` (or ``rng``), and of any other names that are then
        parameters, makes the data of a cell.
    rule : Rule or class of rules, optional
        The training rule, or its class, whose parameters are then all given below; by default `GradientFlow`.
    *zips : Axis
        Axes of several parameters that change together, made by `dln.zipped`.
    function : callable
        The clock: `dln.flow`, `dln.descend`, `dln.stochastic_flow`, `dln.momentum_flow`.
    measures : sequence of str or callable, or mapping of names to callables
        What is kept of a run: names, see `docs/sweeps.md`, or functions of ``(run)`` or ``(run, prediction)`` that give a
        number.  A prediction is computed only where a measure wants it.  The status is always kept.
    store : path, optional
        A folder ``grid.zarr`` to which every tile is written when it is finished; the same call again resumes.
    executor : None, int, str or concurrent.futures.Executor, optional
        None or "threads": one thread per core; an integer: so many threads; "processes": one spawned process per core, or
        "processes:4"; "serial"; or any executor, such as ``distributed.Client().get_executor()`` or
        ``mpi4py.futures.MPIPoolExecutor()``.
    progress : bool or callable, optional
        By default a bar on standard error where that is a terminal.  A function is called as ``progress(done, n_cells)``.
    tile : int, optional
        About how many cells make a tile, the unit of work and of storage.
    shard : (int, int), optional
        ``(i, N)``: only every N-th tile, beginning with number i, from 0 to N - 1; needs `store`.
    **parameters
        Parameters of the data, of the rule and of the clock: ``alpha`` or ``log_alpha``, ``gamma``, ``epsilon``, ``rho``,
        ``step``, ``level``, ``decay``, ``depth``, ``noise``, ``seed``, ``rtol``, ``t_end``, ...  A scale per coordinate is an
        axis of shape (K, d).

    Returns
    -------
    xarray.Dataset
        One dimension per axis; one variable per measure, and ``status``.  Failed cells are NaN with their status.  With a
        store the values are read when they are looked at.

    Raises
    ------
    ValueError, TypeError
        If an argument is bad, or the store holds another sweep: one line.
    BlockingIOError
        If another process works on the store.
    OSError
        If the store cannot be written; what it holds stays valid.
    """
    plan = make_plan(problem, rule, zips, function, measures, tile, parameters)
    shard = _checked_shard(shard, store)
    checked_executor(executor)
    if store is None:
        values = np.full((len(plan.measures), *plan.shape), np.nan)

        def keep(report):
            region = plan.region(report.tile)
            values[(slice(None), *region)] = report.values.reshape(-1, *(part.stop - part.start for part in region))

        with bar(progress, plan, plan.order(), ()) as show:
            told = execute(plan, plan.order(), executor, None, lambda report: (keep(report), show(report)))
        _warn(told)
        variables = [typed(measure.kind, values[k]) for k, measure in enumerate(plan.measures)]
        return dataset(schema(plan), variables.__getitem__, (told.n_failed, 0))
    with Store.opened(store, plan, shard) as place:
        order = plan.order(shard)
        left = place.unfinished(order)
        with bar(progress, plan, order, np.setdiff1d(order, left)) as show:
            told = execute(plan, left, executor, place, show)
    _warn(told)
    return place.dataset()


def make_plan(problem, rule=None, zips=(), function=flow, measures=DEFAULT, tile=None, parameters=None):
    """Check all arguments and return the `Plan`."""
    rule = GradientFlow() if rule is None else rule
    rule_type = rule if isinstance(rule, type) else type(rule)
    if not issubclass(rule_type, Rule):
        raise TypeError(f"rule must be a training rule such as dln.GradientRegularization, or its class, got {shown(rule)}")
    if not callable(function):
        raise TypeError(f"function must be a clock such as dln.flow or dln.descend, got {shown(function)}")
    axes, problem = _problem_axis(problem)
    router = Router(function, rule_type, problem if callable(problem) else None)
    fixed, targets = {}, {axis.name: ((DATA, "problem"),) for axis in axes}
    for axis in zips:
        if not isinstance(axis, Axis):
            raise TypeError(f"after the rule only zipped axes can be given by position, as dln.zipped(...), got {shown(axis)}")
        axes.append(axis)
    for name, value in (parameters or {}).items():
        if is_axis(name, value):
            axes.append(Axis(name, {name: checked_values(name, value)}))
        elif value is not None:
            fixed[name] = checked_value(name, value)
    swept = [name for axis in axes for name in axis.values]
    for name in {*swept}:
        if swept.count(name) + (name in fixed) > 1:
            raise ValueError(f"{name} is given twice")
    if "rng" in router.of_clock and "seed" not in swept and "seed" not in fixed:
        fixed["seed"] = 0  # the same numbers in all cells, so that cells differ by their parameters alone
    for name in [*fixed, *swept]:
        if name not in targets:
            values = fixed[name] if name in fixed else next(axis.values[name] for axis in axes if name in axis.values)[0]
            targets[name] = router.targets(name, values)
    if "seed" in targets:
        _check_seeds(fixed.get("seed"), axes)
    data_axes = [k for k, axis in enumerate(axes) if any(kind == DATA for name in axis.values for kind, _ in targets[name])]
    if tile is not None and (isinstance(tile, bool) or not isinstance(tile, (int, np.integer)) or tile < 1):
        raise ValueError(f"tile must be a number of cells, at least 1, got {tile!r}")
    plan = Plan(problem, rule, function, tuple(axes), fixed, targets, checked_measures(measures), tuple(1 for _ in axes))
    _knock(plan, router)
    n_features = plan.problem_of((0,) * len(axes)).n_features
    return replace(plan, tile=tile_shape(axes, data_axes, n_features, tile))


def _problem_axis(problem):
    """Return the axis of a sequence of problems, if it is one, and the problems."""
    if isinstance(problem, Problem) or callable(problem):
        return [], problem
    try:
        problems = tuple(problem)
    except TypeError:
        raise TypeError(f"problem must be a dln.Problem, a sequence of them or a function of a seed, got "
                        f"{shown(problem)}") from None
    if not problems:
        raise ValueError("problem is empty: give at least one")
    for k, entry in enumerate(problems):
        if not isinstance(entry, Problem):
            raise TypeError(f"problem[{k}] must be a dln.Problem, got {type(entry).__name__}")
    return [Axis("problem", {"problem": tuple(range(len(problems)))})], problems


def _check_seeds(fixed, axes):
    seeds = next((axis.values["seed"] for axis in axes if "seed" in axis.values), (fixed,))
    for k, seed in enumerate(seeds):
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed{f'[{k}]' if len(seeds) > 1 else ''} must be an integer from 0 on, got {seed!r}")


def _knock(plan, router):
    """Try every value of every axis, the others at their first, without training: what is bad raises here, not in a worker."""
    first = (0,) * len(plan.axes)
    given = plan.clock_arguments(first)
    for name, parameter in inspect.signature(plan.clock).parameters.items():
        required = parameter.default is parameter.empty and parameter.kind is parameter.KEYWORD_ONLY
        if required and name not in given:
            raise ValueError(f"dln.{plan.clock.__name__} needs {name}: give it as one value or as an axis")
    needed = [name for name, parameter in inspect.signature(plan.rule).parameters.items()
              if parameter.default is parameter.empty] if isinstance(plan.rule, type) else []
    for name in needed:
        if name not in plan.arguments(RULE, first):
            raise ValueError(f"rule {plan.rule.__name__} needs {name}: give it as one value or as an axis")
    if router.factory is not None:
        for name, parameter in inspect.signature(router.factory).parameters.items():
            if parameter.default is parameter.empty and name not in plan.arguments(DATA, first):
                raise ValueError(f"problem({name}) needs {name}: give it as one value or as an axis")
    problem = plan.problem_of(first)
    if problem.truth is None and any(measure.name == "distance_to_truth" for measure in plan.measures):
        raise ValueError("measure 'distance_to_truth' needs data with a known truth, as dln.Problem(X, y, truth=...)")
    still = Problem(np.zeros(problem.X.shape), np.zeros(problem.n_samples))
    cells = [first]
    for axis, values in enumerate(plan.axes):
        if axis not in plan.axes_of(DATA):
            cells += [(*first[:axis], k, *first[axis + 1:]) for k in range(1, min(values.size, 10_000))]
    for cell in cells:
        try:
            training = plan.rule_of(cell)
            arguments = plan.clock_arguments(cell)
            limits = [name for name in tile_arguments() if name in arguments] if plan.clock is flow else []
            if limits and not covered([training], arguments):
                raise ValueError(f"{limits[0]} is not for {type(training).__name__} with these arguments: leave it out")
            arguments = {name: value for name, value in arguments.items() if name not in limits}
            if "n_steps" in arguments:
                arguments = {name: value for name, value in arguments.items() if name != "save_at"}
                arguments["n_steps"] = min(operator.index(arguments["n_steps"]), 1)
            if "rng" not in arguments or "n_steps" in arguments:  # a path of noise cannot be cut short
                plan.clock(still, training, **arguments)
        except (ValueError, TypeError) as error:
            raise type(error)(f"{error} (at {plan.words(cell)})" if plan.axes else str(error)) from None


def _checked_shard(shard, store):
    if shard is None:
        return None
    try:
        i, n = (operator.index(entry) for entry in shard)
    except (TypeError, ValueError):
        raise ValueError(f"shard must be two integers (i, N), got {shard!r}") from None
    if not 0 <= i < n:
        raise ValueError(f"shard ({i}, {n}): i runs from 0 to N - 1 and N is at least 1")
    if store is None:
        raise ValueError("shard needs store=: the shards meet there")
    return i, n


def _warn(told):
    if told.error:
        warnings.warn(f"{told.n_failed} cells failed; the first that raised: {told.error}", RuntimeWarning, stacklevel=3)


__all__ = ["make_plan", "sweep"]
