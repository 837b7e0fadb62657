"""How solvers are compared: each at the loosest setting that is accurate enough, then in turns, and ratios in pairs.

1. `choose` walks each of a solver's ladders of settings from loose to tight, up to the first at which the error is at most the
   goal on *all* cases of the task, and takes the fastest of these.  A solver that reaches the goal nowhere is not compared.
2. `duel` times ours and a rival in turns, case by case and round by round.  A slow spell of the machine touches both sides of a
   pair; what is reported are medians of the ratios of pairs.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: What other processes take from the processor does not count: neither in ratios nor against a deadline.
clock = time.process_time
STEP = 0.125  # of a ladder of tolerances, in decades


class TooSlow(Exception):
    """Raised by a run that notices that it is over its deadline."""


@dataclass(frozen=True)
class Solver:
    """One way to solve a family of tasks.

    Attributes
    ----------
    name, note : str
        What the tables call it, and how it is used.
    ladders : callable
        ``ladders(task)`` gives pairs (label, settings from loose to tight).
    prepare : callable
        ``prepare(case, label)`` does what is not timed, such as compiling for the shapes of the case, and returns
        ``run(setting, deadline)``, which returns an array to compare with ``case.reference``, or None for a failure.
        `deadline` is a time of `clock`, or None in timed runs.
    unfit : callable
        ``unfit(task)`` says why the solver cannot do a task, or "" if it can.
    missing : str
        Why it cannot run on this machine, or "".
    at_its_best : bool
        If it reaches the goal nowhere, compare it at its most accurate setting, marked as missing the goal; and wait for it.
    """

    name: str
    ladders: Callable[[Any], list]
    prepare: Callable[[Any, str], Callable]
    note: str = ""
    unfit: Callable[[Any], str] = lambda task: ""
    missing: str = ""
    at_its_best: bool = False


@dataclass
class Choice:
    """A solver at the setting it is timed with; or, where `runs` is empty, `reason` says why there is none."""

    solver: Solver
    label: str = ""
    setting: Any = None
    error: float = math.inf
    seconds: list = field(default_factory=list)
    runs: list = field(default_factory=list)
    reason: str = ""


def guarded(function, deadline):
    """Return `function`, which raises `TooSlow` after the deadline; unchanged, and so at no cost, where there is none."""
    if deadline is None:
        return function

    def watched(*arguments):
        if clock() > deadline:
            raise TooSlow
        return function(*arguments)

    return watched


def relative_error(found, reference):
    """Return the largest relative error in the 2-norm over the rows of (C, d); infinite for None, NaN and other shapes."""
    if found is None or np.shape(found) != np.shape(reference) or not np.isfinite(found).all():
        return math.inf
    return float(np.max(np.linalg.norm(found - reference, axis=-1) / np.linalg.norm(reference, axis=-1)))


def seconds(call, repeats=1, now=None):
    """Return the seconds of one call, the mean of `repeats` in a row, by default on `clock`."""
    now = now or clock
    start = now()
    for _ in range(repeats):
        call()
    return (now() - start) / repeats


def choose(solver, task, patience):
    """Return the fastest of the solver's settings whose error is at most ``task.goal`` on all cases, as a `Choice`.

    A run longer than `patience` seconds is given up, and after five of them in a row the rest of its ladder: not after
    one, since a setting that is far too loose can be slower than the right one.
    """
    reason = solver.missing or solver.unfit(task)
    if reason:
        return Choice(solver, reason=reason)
    best = Choice(solver)
    closest, slow, trouble = Choice(solver), False, ""
    patience = math.inf if solver.at_its_best else patience
    for label, settings in solver.ladders(task):
        runs = [solver.prepare(case, label) for case in task.cases]
        # What takes much longer than another ladder of the same solver need not be known exactly.
        limit = min(patience, 3.0 * max(best.seconds) + 0.05) if best.runs else patience
        given_up = 0
        for setting in settings:
            error, over, raised = _worst(runs, setting, task, limit, solver.at_its_best)
            slow, trouble = slow or over, raised or trouble
            if error < closest.error:
                closest = Choice(solver, label, setting, error, [], runs)
            given_up = given_up + 1 if over else 0
            if given_up == 5:
                break
            if error <= task.goal and not over:
                _confirm(runs, setting, task)
                taken = [_fastest(lambda run=run, setting=setting: run(setting, None)) for run in runs]
                if not best.runs or sum(taken) < sum(best.seconds):
                    best = Choice(solver, label, setting, error, taken, runs)
                break
    if not best.runs and solver.at_its_best and closest.runs:
        closest.seconds = [_fastest(lambda run=run: run(closest.setting, None)) for run in closest.runs]
        return closest
    if not best.runs:
        best.error = closest.error
        best.reason = f"slower than {patience:.2g} s a run" if slow else f"error {closest.error:.0e} at best"
        best.reason += f" ({trouble})" if trouble else ""
    return best


def _worst(runs, setting, task, limit, to_the_end):
    """Return the largest error over the cases, up to the first that misses the goal; whether time ran out; what was raised."""
    worst = 0.0
    for run, case in zip(runs, task.cases, strict=True):
        try:
            begin = clock()
            found = run(setting, begin + limit)
            over = clock() - begin > limit
        except TooSlow:
            return math.inf, True, ""
        except Exception as problem:  # solvers raise what they like at settings too loose for them: one more way to fail
            # Some solvers turn our own `TooSlow` into errors of theirs.
            over = clock() - begin > limit
            return math.inf, over, "" if over else f"{type(problem).__name__}: {problem}"
        worst = max(worst, relative_error(found, case.reference))
        if (worst > task.goal and not to_the_end) or over:
            return worst, over, ""
    return worst, False, ""


def _confirm(runs, setting, task):
    """Raise if the runs that are timed, without a deadline, are less accurate than those that were looked at."""
    for run, case in zip(runs, task.cases, strict=True):
        error = relative_error(run(setting, None), case.reference)
        if not error <= task.goal:
            raise RuntimeError(f"{task.name}: a run at {shown(setting)} has error {error:.1e} without a deadline")


def _fastest(call):
    """Return the least seconds of some calls: enough for noise not to choose the setting, few if they are long."""
    first = seconds(call)
    return min(first, *(seconds(call) for _ in range(2 + int(min(8, 0.01 / max(first, 1e-6)))))) if first < 0.5 else first


def duel(ours, rivals, rounds, budget):
    """Return for each rival the ratios of its time to ours, one list of rounds per case.

    `budget` is the time in seconds for one rival; a slow one gets fewer rounds, but at least one.
    """
    ratios = [[[] for _ in ours.runs] for _ in rivals]
    turns = [max(1, min(rounds, int(budget / max(sum(rival.seconds) + sum(ours.seconds), 1e-9)))) for rival in rivals]
    for k in range(rounds):
        for case in range(len(ours.runs)):
            for i in [*range(k % max(len(rivals), 1), len(rivals)), *range(k % max(len(rivals), 1))]:
                if k < turns[i]:
                    ratios[i][case].append(_pair(ours, rivals[i], case))
    return ratios


def _pair(ours, rival, case):
    """Return the ratio of one pair of blocks, about as long as each other where that is not long: both run warm."""
    block = min(max(ours.seconds[case], rival.seconds[case], 5e-3), 2e-2)
    own, other = (seconds(lambda side=side: side.runs[case](side.setting, None), max(1, round(block / side.seconds[case])))
                  for side in (ours, rival))
    return other / own


@dataclass(frozen=True)
class Comparison:
    """The ratios of one rival on one task: the median of all pairs, and the smallest and largest median of a case."""

    rival: str
    ratio: float
    low: float
    high: float
    pairs: int
    error: float
    setting: str
    reason: str = ""
    qualifies: bool = True


def summarize(choice, ratios, goal):
    """Return the `Comparison` of a rival's choice and its ratios, one list per case; ratios may be empty if it has a reason."""
    name, setting = choice.solver.name, f"{choice.label} {shown(choice.setting)}".strip()
    if choice.reason:
        return Comparison(name, math.nan, math.nan, math.nan, 0, choice.error, "", choice.reason, False)
    medians = [statistics.median(case) for case in ratios]
    pairs = [ratio for case in ratios for ratio in case]
    return Comparison(name, statistics.median(pairs), min(medians), max(medians), len(pairs), choice.error, setting,
                      qualifies=choice.error <= goal)


def shown(setting):
    """Return a setting as a short text."""
    if isinstance(setting, float):
        return f"{setting:.1e}"
    if isinstance(setting, (tuple, list)):
        return " ".join(shown(part) for part in setting)
    return "" if setting is None else str(setting)


def compare(task, solvers, *, rounds, patience, least, most, budget, tell=lambda text: None):
    """Compare the first of the solvers with the others on one task; return (our choice, list of `Comparison`).

    Rivals get up to `patience` times our own time for one run, between `least` and `most` seconds, before they are given up.
    """
    ours = choose(solvers[0], task, math.inf)
    if not ours.runs:
        tell(f"  {solvers[0].name}: {ours.reason}")
        return ours, []
    limit = min(most, max(least, patience * max(ours.seconds)))
    choices = []
    for solver in solvers[1:]:
        choice = choose(solver, task, limit)
        if choice.reason.startswith("slower"):
            choice.reason = f"over {limit / statistics.median(ours.seconds):.0f}x, given up"
        choices.append(choice)
        tell(f"  {solver.name}: {choice.reason or f'{choice.label} {shown(choice.setting)}, error {choice.error:.0e}'}")
    rivals = [choice for choice in choices if not choice.reason]
    found = iter(duel(ours, rivals, rounds, budget))
    return ours, [summarize(choice, [] if choice.reason else next(found), task.goal) for choice in choices]
