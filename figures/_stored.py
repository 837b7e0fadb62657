"""Phase diagrams from grids that have been computed before: nothing is run."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dln
from dln._suggest import unknown
from figures._canvas import plain
from figures._grids import SYMBOLS, Grid, named

__all__ = ["is_store", "open_store", "places", "read"]

Array = NDArray[np.float64]

#: What goes on the x axis rather than on the y axis, if nothing else is asked for.
ACROSS = ("alpha", "log_alpha", "epsilon", "n_samples")


def is_store(path: str | os.PathLike[str]) -> bool:
    """Whether a path is meant as a stored grid: it ends in .zarr, or is a folder."""
    return Path(path).suffix.lower() == ".zarr" or Path(path).is_dir()


def open_store(path: str | os.PathLike[str]) -> Any:
    """Open a stored grid: the store of a sweep, or any `xarray.Dataset` written as Zarr.

    Parameters
    ----------
    path : path
        The folder.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    ValueError
        If there is no such folder, or it holds no grid.
    """
    if not Path(path).is_dir():
        raise ValueError(f"there is no stored grid {path}")
    import xarray
    import zarr

    try:
        attributes = zarr.open_group(str(path), mode="r").attrs
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is no stored grid: {error}") from None
    if "schema" in attributes:
        return dln.open_sweep(path)  # it lays out its arrays in a way of its own
    return xarray.open_zarr(path, consolidated=False)  # which reads consolidated stores, too, and warns of none


def places(words: Sequence[str]) -> dict[str, float | str]:
    """Read words such as "epsilon=0.2" into names and values, numbers where they are numbers."""
    read: dict[str, float | str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            raise ValueError(f"--at must be NAME=VALUE, such as epsilon=0.2, got {word!r}")
        try:
            read[name] = float(value)
        except ValueError:
            read[name] = value
    return read


def read(
    dataset: Any, *, x: str | None = None, y: str | None = None, measure: str = "richness",
    contour: str | None = "mean_log_shift", at: Mapping[str, float | str] | None = None,
) -> Grid:
    """Take two dimensions of a grid that has been computed; nothing is run.

    Parameters
    ----------
    dataset : xarray.Dataset
        As `dln.sweep` returns it: one dimension per parameter, its values as a coordinate; the variable `status` (codes, with
        ``flag_values``, ``flag_meanings`` and ``success_values``), or `success`, or neither: then what is NaN has failed.
    x, y : str, optional
        The two dimensions; by default the first two that have more than one value, scales before strengths.
    measure, contour : str
        Variables; contours are left out where the Dataset has no such variable.
    at : mapping, optional
        The values of the other dimensions. The nearest value of the grid must be within a relative 1e-6.

    Returns
    -------
    Grid

    Raises
    ------
    ValueError
        If the Dataset lacks what is asked for, or a dimension is left over: one line that names it.
    """
    if measure not in dataset:
        raise ValueError(f"{unknown('measure', measure, dataset.data_vars)}; the grid has {', '.join(dataset.data_vars)}")
    chosen = {}
    for name, value in (at or {}).items():
        if name not in dataset.dims:
            raise ValueError(f"{unknown('dimension', name, dataset.dims)}; the grid has {', '.join(map(str, dataset.dims))}")
        chosen[name] = _place(dataset, name, value)
    title = [plain(str(dataset.attrs.get("data") or "data")), *_fixed(dataset)]
    title += [named(name, _item(dataset[name].values[k])) for name, k in chosen.items()]
    dataset = dataset.isel(chosen)
    for name in dataset.dims:
        if dataset.sizes[name] == 1 and name not in (x, y):
            title.append(named(str(name), _item(dataset[name].values[0])))
            dataset = dataset.isel({name: 0})
    free = [str(name) for name in dataset[measure].dims]
    x, y = _two(x, y, free, dataset)
    for name in free:
        if name not in (x, y):
            raise ValueError(f"the grid has {dataset.sizes[name]} values of {name} besides {x} and {y}: choose one, such as "
                             f"{name}={_item(dataset[name].values[0])}")
    table = dataset.sortby([x, y])
    xs, ys = (_numbers(table, name) for name in (x, y))
    values = np.asarray(table[measure].transpose(y, x).values, dtype=float)
    success, status = _outcomes(table, values, x, y)
    contours = None
    if contour is not None and contour in table and contour != measure and set(table[contour].dims) == {x, y}:
        contours = np.where(success, np.asarray(table[contour].transpose(y, x).values, dtype=float), np.nan)
    # A measure that a run succeeded in but that does not exist (no truth, one interpolator only) is not 0 and not a failure.
    grid = Grid(x, y, xs, ys, measure, np.where(success, values, np.nan), contour if contours is not None else None, contours,
                success, status, tuple(title), (), str(table[measure].attrs.get("long_name", measure.replace("_", " "))))
    return grid if contours is None else replace(
        grid, contour_label=str(table[contour].attrs.get("long_name", str(contour).replace("_", " "))))


def _two(x: str | None, y: str | None, free: list[str], dataset: Any) -> tuple[str, str]:
    for name in (x, y):
        if name is not None and name not in free:
            raise ValueError(f"{unknown('dimension', name, free)}; the grid has {', '.join(free) or 'none'}")
    if x is not None and x == y:
        raise ValueError(f"x and y must be two dimensions, got {x} twice")
    rest = [name for name in (*(name for name in ACROSS if name in free), *(name for name in free if name not in ACROSS))
            if name not in (x, y)]
    if x is None and rest:
        x = rest.pop(0)
    if y is None and rest:
        y = rest.pop(0)
    if x is None or y is None:
        raise ValueError(f"a phase diagram needs two dimensions, the grid has {', '.join(free) or 'none'} "
                         f"({', '.join(f'{name}: {size}' for name, size in dataset.sizes.items())})")
    return x, y


def _item(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _place(dataset: Any, name: str, value: float | str) -> int:
    values = dataset[name].values
    if values.dtype.kind in "OUS":
        places = np.flatnonzero(values.astype(str) == str(value))
    else:
        if isinstance(value, str):
            raise ValueError(f"{name} must be a number, got {value!r}")
        number = float(value)
        places = np.flatnonzero(np.abs(values - number) <= 1e-6 * max(abs(number), 1e-300))
    if not places.size:
        raise ValueError(f"the grid has no {name} = {value}; it has {', '.join(str(_item(v)) for v in values[:12])}"
                         f"{', ...' if len(values) > 12 else ''}")
    return int(places[0])


def _numbers(dataset: Any, name: str) -> Array:
    values = dataset[name].values
    if values.dtype.kind not in "iuf":
        raise ValueError(f"the dimension {name} holds words, not numbers: choose one of them and draw two other dimensions")
    values = values.astype(float)
    if not np.isfinite(values).all() or np.any(np.diff(values) == 0):
        raise ValueError(f"the values of {name} must be finite and differ, got {values[:12].tolist()}")
    return values


def _outcomes(dataset: Any, values: Array, x: str, y: str) -> tuple[NDArray[np.bool_], NDArray[np.str_]]:
    if "status" in dataset:
        status = dataset["status"].transpose(y, x)
        codes, attributes = status.values, status.attrs
        if "flag_values" in attributes:
            meanings = str(attributes["flag_meanings"]).split()
            words = {int(code): word.replace("_", " ") for code, word in
                     zip(np.atleast_1d(attributes["flag_values"]), meanings, strict=True)}
            known = np.isin(codes, np.atleast_1d(attributes["success_values"]))
            return known, np.vectorize(lambda code: words.get(int(code), f"status {code}"), otypes=[str])(codes)
        text = codes.astype(str)
        good = dataset["success"].transpose(y, x).values.astype(bool) if "success" in dataset else np.isfinite(values)
        return good, text
    good = dataset["success"].transpose(y, x).values.astype(bool) if "success" in dataset else np.isfinite(values)
    return good, np.where(good, "converged", "failed")


def _fixed(dataset: Any) -> list[str]:
    """Write the rule and the parameters that one value holds for, as far as the Dataset knows them."""
    try:
        parameters = json.loads(dataset.attrs.get("parameters", "{}"))
        rule = json.loads(dataset.attrs.get("rule", '""'))
    except (TypeError, ValueError):
        return []
    rule = rule.get("type", "") if isinstance(rule, dict) else rule
    words = [rule.rsplit(".")[-1].split(" ")[0]] if isinstance(rule, str) and rule else []
    if isinstance(parameters, dict):
        words += [named(name, value) for name, value in parameters.items()
                  if name in SYMBOLS and isinstance(value, (int, float)) and math.isfinite(value) and name not in dataset.dims]
    return words
