"""Problems from files: CSV with a named target column, NPZ with X and y."""

from __future__ import annotations

import csv
import itertools
import math
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ._suggest import nearest
from .problem import Problem, shown

__all__ = ["load"]


def load(path: str | os.PathLike[str], target: str | None = None) -> Problem:
    """Read a problem from a CSV file with a header, or from an NPZ file with arrays X and y.

    Parameters
    ----------
    path : str or path-like
        The file; what it holds decides its format, not its extension.
    target : str, optional
        CSV: the column to predict; all others are features. By default the column called "y" or "target".
        NPZ: the array to predict, by default "y".

    Returns
    -------
    Problem
        Named after the file, with the header as feature names.

    Raises
    ------
    OSError
        If the file is missing or cannot be read.
    ValueError
        If its content is not a table of finite numbers; the message has the file, the line and the column.
    TypeError
        If an argument or an array has the wrong type.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a string or a path, got {type(path).__name__}: {shown(path)}")
    if target is not None and not isinstance(target, str):
        raise TypeError(f"target must be the name of a column, a string, got {type(target).__name__}: {shown(target)}")
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory: give a CSV or NPZ file")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: give a CSV file with a header or an NPZ file with X and y")
    with path.open("rb") as file:
        magic = file.read(6)
    if magic == b"\x93NUMPY":
        raise ValueError(f"{path} is an NPY file with one array: save both with numpy.savez(path, X=X, y=y)")
    return _load_npz(path, target) if magic.startswith(b"PK") else _load_csv(path, target)


def _load_npz(path: Path, target: str | None) -> Problem:
    arrays = []
    try:
        # Opened here: NumPy leaves a file open whose archive it cannot read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            for name in ("X", target or "y"):
                if name not in archive.files:
                    hint = f"{_nearest(name, archive.files)}: {_listing(archive.files)}"
                    raise ValueError(f"{path} has no array {name!r}{hint}")
                try:
                    arrays.append(archive[name])
                except ValueError as error:
                    if "pickle" not in str(error):
                        raise ValueError(f"{path}: {name} cannot be read ({shown(str(error))})") from None
                    raise TypeError(f"{path}: {name} holds Python objects, which are refused: save numbers") from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{path} is not a readable NPZ file ({error}): save it again with numpy.savez") from None
    try:
        return Problem(*arrays, name=path.stem)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {error}") from None


def _load_csv(path: Path, target: str | None) -> Problem:
    try:
        # utf-8-sig: spreadsheets put a byte-order mark in front of the first name
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True)
            lines = ((reader.line_num, [cell.strip() for cell in cells]) for cells in reader)
            filled = ((number, cells) for number, cells in lines if cells and cells != [""])
            names = _header(path, next(filled, None))
            column = _target_column(path, names, target)
            numbers, rows = [], []
            for number, cells in filled:
                rows.append(_row(path, number, cells, names))
                numbers.append(number)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8 ({error}): save it as comma-separated text") from None
    if not rows:
        raise ValueError(f"{path} has a header but no rows below it: give at least one sample")
    table = np.array(rows)
    features = [j for j in range(len(names)) if j != column]
    return Problem(table[:, features], table[:, column], name=path.stem, feature_names=[names[j] for j in features])


def _header(path: Path, first: tuple[int, list[str]] | None) -> list[str]:
    if first is None:
        raise ValueError(f"{path} is empty: give a header line and at least one row")
    number, names = first
    if all(_is_number(name) for name in names):
        raise ValueError(f"{path}, line {number} holds numbers, not names: put a header with column names first")
    for j, name in enumerate(names):
        if not name:
            raise ValueError(f"{path}, line {number}: column {j + 1} has no name; name it, or drop an index")
        if name in names[:j]:
            both = f"columns {names.index(name) + 1} and {j + 1}"
            raise ValueError(f"{path}, line {number}: {both} are both called {name!r}; rename one")
    if len(names) == 1:
        raise ValueError(f"{path} has only one column, {names[0]!r}: give features and a target, with commas between")
    return names


def _target_column(path: Path, names: list[str], target: str | None) -> int:
    if target is not None:
        if target not in names:
            raise ValueError(f"{path} has no target column {target!r}{_nearest(target, names)}: {_listing(names)}")
        return names.index(target)
    usual = [name for name in ("y", "target") if name in names]
    if len(usual) != 1:
        problem = "has both a column 'y' and a column 'target'" if usual else "has no column called 'y' or 'target'"
        raise ValueError(f"{path} {problem}; name the target: {_listing(names)}")
    return names.index(usual[0])


def _row(path: Path, number: int, cells: list[str], names: list[str]) -> list[float]:
    if len(cells) != len(names):
        raise ValueError(f"{path}, line {number} has {len(cells)} cells but the header names {len(names)} columns")
    try:
        row = [float(cell) for cell in cells]
    except ValueError:
        row = []
    # float() reads 1_000 as Python source does; in a table it is more likely a slip. The sum is not finite
    # whenever an entry is not, and only then (or with giants) is it worth looking at each.
    if row and math.isfinite(sum(row)) and "_" not in "".join(cells):
        return row
    for cell, name in zip(cells, names, strict=True):
        place = f"{path}, line {number}, column {name!r}"
        if not cell:
            raise ValueError(f"{place} is empty: fill it, or drop the row")
        if not _is_number(cell):
            raise ValueError(f"{place}: {shown(cell)} is not a number; encode or drop it")
        if not math.isfinite(float(cell)):
            what = "is too large for float64" if any(c.isdigit() for c in cell) else "is not finite"
            raise ValueError(f"{place}: {cell} {what}; correct it, or drop the row")
    return row


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _listing(names: Sequence[str], limit: int = 20) -> str:
    shown = ", ".join(itertools.islice(names, limit))
    return f"it has {shown}" + (f", ... ({len(names)} in all)" if len(names) > limit else "")


def _nearest(name: str, names: Sequence[str]) -> str:
    close = nearest(name, names)
    return f" (did you mean {close!r}?)" if close else ""
