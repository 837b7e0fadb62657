"""How sharp the checks are: how many wrong theorems and wrong engines they reject.

A mutant is killed if its check ran to the end and rejected every part that the mutant spoils. A crash kills nothing: a
check that stumbles over a wrong claim has not measured that it is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ._registry import Check, Theorem
from ._setting import default_data

__all__ = ["Verdict", "kill", "killed", "mutant_table", "standard_problem"]


def standard_problem() -> Any:
    """Give the small synthetic problem on which mutants are hunted: the true theorems pass on it."""
    return default_data(2)[1]


def killed(check: Check) -> bool:
    """Say whether the check of a mutant rejected every part that the mutant spoils, by its numbers."""
    parts = [found for data, of_data in check.details.items() if data != "errors" for found in of_data.values()]
    return bool(parts) and "errors" not in check.details and all(found["passed"] is not None and not found["passed"]
                                                                 for found in parts)


@dataclass(frozen=True)
class Verdict:
    """What became of the mutants of one theorem.

    Attributes
    ----------
    key, title : str
        The theorem.
    fates : mapping of str to bool
        By the name of the mutant: whether it was killed.
    """

    key: str
    title: str
    fates: Mapping[str, bool]

    @property
    def survivors(self) -> list[str]:
        """The mutants that passed, in part or in full, or whose check could not be run."""
        return [name for name, dead in self.fates.items() if not dead]


def kill(theorems: Iterable[Theorem], problem: Any = None,
         progress: Callable[[list[Any]], Iterable[Any]] | None = None) -> list[Verdict]:
    """Check every mutant of some theorems.

    Parameters
    ----------
    theorems : iterable of Theorem
    problem : object with `X` and `y`, optional
        The data, by default a small synthetic problem.
    progress : callable, optional
        Wraps the list of theorems while it is worked through, as `tqdm.tqdm` does.

    Returns
    -------
    list of Verdict
        One per theorem, those without mutants included.
    """
    data = standard_problem() if problem is None else problem
    chosen = list(theorems)
    return [Verdict(theorem.key, theorem.title, {name: killed(theorem.check(data, mutant=name)) for name in theorem.mutants})
            for theorem in (progress(chosen) if progress else chosen)]


def mutant_table(verdicts: Sequence[Verdict]) -> str:
    """Lay out, one line per theorem, how many mutants there are and how many were killed; survivors are named."""
    head = ("theorem", "title", "mutants", "killed")
    rows = [(one.key, one.title, str(len(one.fates)), str(len(one.fates) - len(one.survivors))) for one in verdicts]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(4)]

    def line(row: tuple[str, ...]) -> str:
        return "  ".join(f"{cell:{'<' if column < 2 else '>'}{widths[column]}}" for column, cell in enumerate(row)).rstrip()

    total = sum(len(one.fates) for one in verdicts)
    alive = [f"{one.key}: {name}" for one in verdicts for name in one.survivors]
    lines = [line(head), "  ".join("-" * width for width in widths), *map(line, rows)]
    lines.append(f"{total - len(alive)} of {total} mutants killed." + (f" Survivors: {'; '.join(alive)}." if alive else ""))
    return "\n".join(lines)
