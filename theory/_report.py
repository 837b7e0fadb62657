"""Checks as a table for people, as markdown for a paper, and as JSON with every number."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ._registry import Check

__all__ = ["table", "to_json"]

HEADER = ("theorem", "statement", "data", "discrepancy", "tolerance", "passed", "seconds")


def _row(check: Check) -> tuple[str, ...]:
    return (check.key, check.statement, check.data, f"{check.discrepancy:.1e}", f"{check.tolerance:.1e}",
            "yes" if check.passed else "NO", f"{check.seconds:.1f}")


def table(checks: Sequence[Check], format: str = "text") -> str:
    """Lay checks out in a table, one line each: what is claimed, on which data, by how much the two routes differ.

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
    rows = [_row(check) for check in checks]
    if format == "markdown":
        escaped = [[cell.replace("|", r"\|").replace("*", r"\*").replace("_", r"\_") for cell in row] for row in rows]
        return "\n".join("| " + " | ".join(cells) + " |" for cells in ([*HEADER], ["---"] * len(HEADER), *escaped))
    if format != "text":
        raise ValueError(f"format must be 'text' or 'markdown', got {format!r}")
    widths = [max(len(row[column]) for row in (HEADER, *rows)) for column in range(len(HEADER))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
             for row in (HEADER, *rows)]
    passed = sum(check.passed for check in checks)
    lines.insert(1, "  ".join("-" * width for width in widths))
    lines.append(f"{passed} of {len(checks)} theorems passed in {sum(check.seconds for check in checks):.1f} s.")
    return "\n".join(lines)


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
