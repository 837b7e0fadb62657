"""Checks as a table for people, as markdown for a paper, and as JSON with every number."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ._registry import Check

__all__ = ["table", "to_json"]

HEADER = ("theorem", "statement", "data", "discrepancy", "tolerance", "passed", "seconds")


VERDICTS = {True: "yes", False: "NO", None: "measured"}


def _row(check: Check) -> tuple[str, ...]:
    numbers = ("-", "-") if check.passed is None else (f"{check.discrepancy:.1e}", f"{check.tolerance:.1e}")
    return (check.key, check.statement, check.data, *numbers, VERDICTS[check.passed], f"{check.seconds:.1f}")


def table(checks: Sequence[Check], format: str = "text") -> str:
    """Lay checks out in a table, one line each: what is claimed, on which data, by how much the two routes differ.

    Of an empirical claim, which is measured and neither passes nor fails, the fractions follow in a table of their own.

    Parameters
    ----------
    checks : sequence of Check
    format : {"text", "markdown"}

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the format is neither.
    """
    if format not in ("text", "markdown"):
        raise ValueError(f"format must be 'text' or 'markdown', got {format!r}")
    lay_out = _markdown if format == "markdown" else _text
    lines = lay_out([HEADER, *map(_row, checks)])
    if format == "text":
        able = [check for check in checks if check.passed is not None]
        passed = sum(bool(check.passed) for check in able)
        others = f", {len(checks) - len(able)} measured" if len(able) < len(checks) else ""
        lines.append(f"{passed} of {len(able)} theorems passed{others}; {sum(check.seconds for check in checks):.1f} s of "
                     "computing.")
    for check in checks:
        if check.passed is None:
            lines += ["", f"{check.key}, in per cent of runs: the quantity {_comparisons(check)}", "",
                      *lay_out(_fractions(check))]
    return "\n".join(lines)


def _text(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return lines


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    header, *others = rows
    escaped = [[cell.replace("|", r"\|").replace("*", r"\*").replace("_", r"\_") for cell in row] for row in others]
    return ["| " + " | ".join(cells) + " |" for cells in (list(header), ["---"] * len(header), *escaped)]


def _comparisons(check: Check) -> str:
    """Name what the two numbers of a cell of the table of fractions compare."""
    first = next(iter(next(iter(check.details.values())).values()))["fractions"]
    return " / ".join(next(iter(first.values())))


def _fractions(check: Check) -> list[list[str]]:
    rows: list[list[str]] = []
    for population, parts in check.details.items():
        for place, (part, found) in enumerate(parts.items()):
            if not rows:
                rows.append(["problems", "runs of", "settled", *found["fractions"]])
            cells = [" / ".join("-" if held is None else f"{100 * held:.0f}" for held in each.values())
                     for each in found["fractions"].values()]
            rows.append(["" if place else population, part, f"{found['settled']} of {found['runs']}", *cells])
    return rows


def _plain(value: Any) -> Any:
    """Turn a value into what JSON can hold; numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, bool) or value is None or isinstance(value, (str, int)):
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def to_json(checks: Sequence[Check]) -> str:
    """Write checks as JSON, every measured number included.

    Parameters
    ----------
    checks : sequence of Check

    Returns
    -------
    str
        A list of objects with the fields of `Check`.
    """
    fields = ("key", "statement", "data", "discrepancy", "tolerance", "passed", "seconds", "message", "details")
    return json.dumps([{name: _plain(getattr(check, name)) for name in fields} for check in checks], indent=1,
                      allow_nan=False)
