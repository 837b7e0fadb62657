"""What was measured, as JSON and as Markdown: ratios, settings, errors and versions; no absolute times."""

import importlib.metadata
import json
import math
import os
import platform
from dataclasses import asdict, dataclass

from .protocol import Comparison

PACKAGES = ("numpy", "scipy", "numba", "numbalsoda", "scikit-sundae", "diffrax", "jax", "cvxpy", "clarabel")
LSODA, BEST = "SciPy LSODA, Jacobian", "best"


@dataclass(frozen=True)
class Target:
    """A ratio to reach on a task, against one rival or the best that qualifies."""

    task: str
    rival: str
    at_least: float


def _row(kinds, alphas, rival, values):
    return [Target(f"{kind} {alpha:.0e}", rival, value) for kind in kinds
            for alpha, value in zip(alphas, values, strict=True)]


_ALPHAS = (1e-1, 1e-3, 1e-6)
TARGETS = [
    *_row(["plain"], _ALPHAS, LSODA, (40, 60, 100)), *_row(["plain"], _ALPHAS, BEST, (5, 20, 70)),
    *_row(["GR", "SAM"], _ALPHAS, LSODA, (25, 40, 60)), *_row(["GR", "SAM"], _ALPHAS, BEST, (2, 8, 30)),
    Target("sweep plain, trajectories", BEST, 80), Target("sweep GR, trajectories", BEST, 30),
    Target("sweep plain, limits", BEST, 300), Target("sweep GR, limits", BEST, 40),
    Target("minimiser N = 20", "cvxpy with Clarabel", 40), Target("minimiser N = 200", "cvxpy with Clarabel", 200),
    Target("l1 N = 200", "HiGHS", 80),
    *(Target(f"{kind} {alpha:.0e}, N = 1000", BEST, value)
      for kind in ("plain", "GR") for alpha, value in ((1e-1, 4), (1e-3, 20))),
    Target("two threads", "one thread", 1.9),
]


def versions():
    """Return the versions of Python and of all packages that take part; "missing" where one is not installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def left_out(name, reason):
    """Return the `Comparison` of a solver that a run does without: a row all the same."""
    return Comparison(name, math.nan, math.nan, math.nan, 0, math.nan, "", reason, False)


def record(task, ours, comparisons):
    """Return the JSON entry of one task."""
    return {"task": task.name, "family": task.family, "goal": task.goal, "cases": len(task.cases), "shape": list(task.shape),
            "cells": len(getattr(task.cases[0], "cells", (0,))), "ours": ours, "rivals": [asdict(c) for c in comparisons]}


def document(records, settings):
    """Return everything as one JSON object; NaN and infinity, which JSON has not, become null."""
    whole = {"settings": settings, "versions": versions(), "processors": os.cpu_count(), "tasks": records}
    return json.loads(json.dumps(whole), parse_constant=lambda name: None)


def best_of(entry):
    """Return the rival with the smallest ratio on a task, or None if none qualified."""
    found = [rival for rival in entry["rivals"] if _measured(rival) and rival["qualifies"]]
    return min(found, key=lambda rival: rival["ratio"], default=None)


def _measured(rival):
    return rival["ratio"] is not None and math.isfinite(rival["ratio"])


def reach(records):
    """Return rows (target, rival's name, ratio or None, met or None) for the targets whose task was measured."""
    rows, by_name = [], {entry["task"]: entry for entry in records}
    for target in TARGETS:
        entry = by_name.get(target.task)
        if entry is None:
            rows.append((target, "", None, None))
            continue
        named = [rival for rival in entry["rivals"] if rival["rival"] == target.rival and _measured(rival)]
        rival = best_of(entry) if target.rival == BEST else (named[0] if named else None)
        if rival is None:
            rows.append((target, "none qualified", None, None))
        else:
            rows.append((target, rival["rival"], rival["ratio"], rival["ratio"] >= target.at_least))
    return rows


def number(ratio):
    """Return a ratio with two digits."""
    return f"{ratio:.2g}" if ratio < 100 else f"{ratio:.0f}"


def table(head, rows):
    """Return a Markdown table."""
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in (head, ["---"] * len(head), *rows))


def reach_table(records):
    """Return the table of targets."""
    rows = []
    for target, rival, ratio, met in reach(records):
        against = f"{target.rival}: {rival}" if target.rival == BEST and rival else target.rival
        rows.append((target.task, against, f"{target.at_least:g}", "not run" if not rival else "none" if ratio is None
                     else number(ratio), {True: "yes", False: "no", None: ""}[met]))
    return table(("task", "against", "at least", "measured", "met"), rows)


def task_table(entry):
    """Return the table of one task: every rival, also those that were not compared, with the reason."""
    rows = []
    for rival in sorted(entry["rivals"], key=lambda r: (not _measured(r), r["ratio"] if _measured(r) else 0.0)):
        if _measured(rival):
            error = f"{rival['error']:.0e}" + ("" if rival["qualifies"] else " (misses the goal)")
            rows.append((rival["rival"], number(rival["ratio"]), f"{number(rival['low'])} to {number(rival['high'])}",
                         rival["pairs"], error, rival["setting"]))
        else:
            rows.append((rival["rival"], "none", "", 0, "", rival["reason"]))
    return table(("solver", "time / dln", "cases", "pairs", "error", "setting, or why not"), rows)


def markdown(whole):
    """Return the whole report."""
    records = whole["tasks"]
    names = ", ".join(f"{name} {version}" for name, version in whole["versions"].items())
    parts = ["# Ratios of time", f"{names}; {whole['processors']} processors; {whole['settings']}.", "## Reach",
             reach_table(records)]
    for entry in records:
        shape = f"N = {entry['shape'][0]}, d = {entry['shape'][1]}, {entry['cases']} instances"
        cells = f", {entry['cells']} runs each" if entry["cells"] > 1 else ""
        parts += [f"## {entry['task']}", f"{shape}{cells}; error at most {entry['goal']:g}. dln: {entry['ours']}.",
                  task_table(entry)]
    return "\n\n".join(parts) + "\n"
