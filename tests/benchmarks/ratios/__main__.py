"""``python -m ratios``: measure, and write build/benchmarks.json and build/benchmarks.md."""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from . import (
    flows_compiled,
    flows_diffrax,
    flows_dln,
    flows_scipy,
    flows_sundials,
    l1,
    minimizers,
    references,
    report,
    tasks,
    threads,
)
from .protocol import compare, shown

RIVALS = [*flows_scipy.SOLVERS, *flows_compiled.SOLVERS, *flows_sundials.SOLVERS, *flows_diffrax.SOLVERS]
FAMILIES = {"flow": [flows_dln.SOLVER, *RIVALS], "sweep": [flows_dln.SOLVER, *RIVALS],
            "limit": [flows_dln.LIMIT_SOLVER, *RIVALS], "minimizer": minimizers.SOLVERS, "l1": l1.SOLVERS}
#: Far from the best on every task of the complete run: the quick one does without.
SLOW = {"Euler, NumPy", "diffrax Kvaerno5", "SciPy Radau, Jacobian", "SciPy RK45", "SciPy trust-constr"}


def check_reference(task, tell):
    """Compare the first references of a task with an independent integration; raise if one is wrong."""
    if task.family not in ("flow", "sweep") or np.prod(task.shape) > 10_000:
        return
    case = task.cases[0]
    for k in sorted({len(case.cells) // 2, 2 * len(case.cells) // 3, len(case.cells) - 1}):
        cell, beta = case.cells[k], case.reference[k]
        found = tasks.independent_beta(case, cell)
        error = float(np.linalg.norm(found - beta) / np.linalg.norm(beta))
        if not error < 1e-9:
            raise RuntimeError(f"{task.name}: the reference at alpha = {cell.alpha:g} and DOP853 differ by {error:.1e}")
        tell(f"  reference and DOP853 at rtol 1e-13 differ by {error:.0e}")


def main(arguments=None):
    """Measure what was asked for; results are written after every task."""
    parser = argparse.ArgumentParser(prog="ratios", description=__doc__)
    parser.add_argument("--full", action="store_true", help="all tasks, sizes and solvers: several hours")
    parser.add_argument("--only", nargs="+", metavar="TEXT", default=[""], help="tasks whose name contains one of these")
    parser.add_argument("--exclude", nargs="+", metavar="TEXT", default=[], help="but none of these")
    parser.add_argument("--solvers", nargs="+", metavar="TEXT", default=[""], help="rivals whose name contains one of these")
    parser.add_argument("--instances", type=int, default=5, help="at most so many problems per task (default 5)")
    parser.add_argument("--rounds", type=int, default=None, help="rounds of timing (default 5, with --full 9)")
    parser.add_argument("--cells", type=int, default=None, help="runs of a sweep (default 16, with --full 1024)")
    parser.add_argument("--patience", type=float, default=None, metavar="RATIO",
                        help="give a rival up that takes so many times our time (default 250, with --full 1000)")
    parser.add_argument("--references", type=Path, default=None, metavar="FOLDER", help="keep reference solutions here")
    parser.add_argument("--list", action="store_true", help="list the tasks")
    parser.add_argument("--out", type=Path, default=Path("build"), help="folder for benchmarks.json and benchmarks.md")
    asked = parser.parse_args(arguments)
    references.FOLDER = asked.references
    rounds = asked.rounds or (9 if asked.full else 5)
    every = [task for task in tasks.all_tasks(asked.full, asked.instances, asked.cells)
             if any(text in task.name for text in asked.only) and not any(text in task.name for text in asked.exclude)]
    if asked.list:
        print(*(f"{task.name} ({task.family})" for task in every), sep="\n")
        return 0
    settings = {"set": "full" if asked.full else "quick", "rounds": rounds, "goal": tasks.GOAL, "clock": "processor time"}
    records, begin = [], time.monotonic()
    asked.out.mkdir(parents=True, exist_ok=True)

    def tell(text):
        print(f"{time.monotonic() - begin:6.0f} s  {text}", flush=True)

    def save():
        whole = report.document(records, settings)
        (asked.out / "benchmarks.json").write_text(json.dumps(whole, indent=1), encoding="utf-8")
        (asked.out / "benchmarks.md").write_text(report.markdown(whole), encoding="utf-8")
        return whole

    for task in every:
        tell(task.name)
        check_reference(task, tell)
        ours_and_theirs = FAMILIES[task.family]
        left_out = {solver.name: "in the complete run only" for solver in ours_and_theirs[1:]
                    if not asked.full and solver.name in SLOW}
        left_out |= {solver.name: "not among --solvers" for solver in ours_and_theirs[1:]
                     if not any(text in solver.name for text in asked.solvers)}
        solvers = [solver for solver in ours_and_theirs if solver.name not in left_out]
        ours, found = compare(task, solvers, rounds=rounds, patience=asked.patience or (1000.0 if asked.full else 250.0),
                              least=2.0 if asked.full else 0.2, most=120.0, budget=60.0 if asked.full else 4.0, tell=tell)
        found += [report.left_out(name, reason) for name, reason in left_out.items()]
        records.append(report.record(task, f"{ours.label} {shown(ours.setting)}, error {ours.error:.0e}".strip(), found))
        save()
        if task.name == "sweep plain, trajectories" and ours.runs:
            pair = threads.compare_threads(task, ours.setting, rounds)
            entry = report.record(task, "as above, on the clock of the wall", [pair])
            records.append({**entry, "task": "two threads"})
            save()
    print("\n" + report.reach_table(save()["tasks"]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
