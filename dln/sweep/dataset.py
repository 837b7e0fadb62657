"""The result of a sweep as an `xarray.Dataset`: one dimension per axis, one variable per measure."""

import json

import numpy as np

from ..problem import Problem
from .ends import NOT_COMPUTED, SUCCESS, WORDS

_INTEGER_TYPES = {"status": np.int8, "integer": np.int64}


def schema(plan):
    """Return all that makes the Dataset but the values, as JSON: dimensions, coordinates, variables, attributes."""
    from importlib.metadata import version

    from .. import __version__, _jit

    axes = []
    for axis in plan.axes:
        columns = {}
        for name, values in axis.values.items():
            if name == "problem":
                problems = [plan.problem[value] for value in values]
                words = [problem.name for problem in problems]
                values = words if len({*words} - {None}) == len(words) else list(range(len(words)))
            columns[name] = [value.tolist() if isinstance(value, np.ndarray) else value if _plain(value) else repr(value)
                             for value in values]
        axes.append({"name": axis.name, "size": axis.size, "values": columns})
    variables = [{"name": m.name, "long_name": m.long_name, "units": m.units, "kind": m.kind} for m in plan.measures]
    identity = plan.identity
    seeds = plan.fixed.get("seed", "an axis" if any("seed" in axis.values for axis in plan.axes) else "nothing drawn")
    packages = {name: version(name) for name in ("numpy", "scipy", "numba")}
    return {
        "axes": axes, "variables": variables,
        "attributes": {
            "title": f"sweep of dln.{getattr(plan.clock, '__name__', 'function')}",
            "function": str(identity["function"]), "rule": json.dumps(identity["rule"]),
            "parameters": json.dumps(identity["parameter"]), "seed": str(seeds), "data_hash": plan.data_hash,
            "data": plan.problem.name or "" if isinstance(plan.problem, Problem) else "",
            "versions": json.dumps({"dln": __version__, **packages}), "dln_sources": _jit.source_digest(),
            "conventions": "beta = u*u - v*v, loss = |X beta - y|^2 / (4N)",
        },
    }


def _plain(value):
    return value is None or isinstance(value, (bool, int, float, str))


def typed(kind, values):
    """Return the values of a variable, kept as floats, in its own type."""
    if kind == "float":
        return values
    return np.where(np.isnan(values), NOT_COMPUTED, values).astype(_INTEGER_TYPES[kind])


def dtype_of(kind):
    """Return the type of a variable."""
    return np.dtype(_INTEGER_TYPES.get(kind, np.float64))


def dataset(told, read, counts):
    """Make the Dataset.

    Parameters
    ----------
    told : dict
        See `schema`.
    read : callable
        Gives the values of variable number k, in its type: an array or something that xarray reads lazily.
    counts : tuple of int
        Failed cells, and cells not computed; None where they have not been counted.
    """
    import xarray

    dims = tuple(axis["name"] for axis in told["axes"])
    coords = {}
    for axis in told["axes"]:
        for name, values in axis["values"].items():
            coords.update(_coordinate(axis["name"], name, values))
    variables = {}
    for k, variable in enumerate(told["variables"]):
        attributes = {"long_name": variable["long_name"], "units": variable["units"]}
        if variable["kind"] == "status":
            attributes |= {"flag_values": np.array(list(WORDS), dtype=np.int8),
                           "flag_meanings": " ".join(word.replace(" ", "_") for word in WORDS.values()),
                           "success_values": np.array(SUCCESS, dtype=np.int8)}
        variables[variable["name"]] = xarray.Variable(dims, read(k), attributes)
    attributes = dict(told["attributes"])
    attributes |= {"n_cells": int(np.prod([axis["size"] for axis in told["axes"]], dtype=np.int64))}
    if counts is not None:
        attributes |= {"n_failed": int(counts[0]), "n_not_computed": int(counts[1])}
    return xarray.Dataset(variables, coords, attributes)


def _coordinate(dim, name, values):
    if values and isinstance(values[0], list):  # one scale per coordinate of beta
        rows = {f"{name}_values": ((dim, "feature"), np.array(values, dtype=float))}
        return rows | ({dim: (dim, np.arange(len(values)))} if name == dim else {})
    kinds = {type(value) for value in values}
    if kinds <= {int, float} or kinds == {bool}:
        column = np.array(values)
    else:
        column = np.array([str(value) for value in values])
    return {name: (dim, column)}


def count(status):
    """Return how many cells have failed, and how many have not been computed, from their codes."""
    missing = int(np.count_nonzero(status == NOT_COMPUTED))
    return int(np.count_nonzero(~np.isin(status, SUCCESS))) - missing, missing
