"""Empirical claims: measured on many seeded runs, reported as fractions, and never passed.

A claim that holds in some runs and not in others cannot pass or fail a check. What can be said is in how many runs it
held, and where. So a study has no tolerance, and the verdict of its check is neither yes nor no.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ._registry import Check, Finding, Measured, Theorem

__all__ = ["Population", "Study", "no_parts", "observation"]

NAN = float("nan")


class Population(Protocol):
    """Many problems of one kind."""

    @property
    def name(self) -> str:
        """Which kind, of which size, and how many."""

    @property
    def n_runs(self) -> int:
        """How many problems."""


def no_parts(setting: Any) -> list[Any]:
    """Give nothing: a study has no parts that could pass."""
    return []


def observation(details: Mapping[str, Any]) -> Finding:
    """Make a finding that neither passes nor fails."""
    return Finding(NAN, NAN, None, details)


@dataclass(frozen=True)
class Study(Theorem):
    """An empirical claim.

    Attributes
    ----------
    populations : callable
        `problem or None -> populations`: of a given problem, or seeded ones.
    observe : callable
        `population -> findings by part`; each has its "fractions" in its details: by quantity, by comparison, the
        fraction of runs in which the quantity moved as claimed (None where it cannot be told).
    summarise : callable
        Puts what was measured into one line.
    """

    populations: Callable[[Any], Sequence[Population]] = field(repr=False)
    observe: Callable[[Any], Mapping[str, Finding]] = field(repr=False)
    summarise: Callable[[Sequence[Measured]], str] = field(repr=False)

    def problems(self, problem: Any = None) -> list[Any]:
        """List the populations."""
        return list(self.populations(problem))

    def _findings(self, data: Any, mutant: str | None) -> Iterator[tuple[str, str, Finding]]:
        for part, finding in self.observe(data).items():
            yield data.name, part, finding

    def verdict(self, problems: Sequence[Any], measured: Sequence[Measured], unproved: str | None = None) -> Check:
        """Sum up: measured; failed only if it could not be measured, or the derivation is not proved."""
        errors = [one.error for one in measured if one.error] + ([unproved] if unproved else [])
        if errors:
            return super().verdict(problems, measured, unproved)
        details = {one.data: {part: dict(finding.details) for part, finding in one.findings.items()} for one in measured}
        data = f"{sum(population.n_runs for population in problems)} synthetic problems of {len(problems)} kinds"
        if len(problems) == 1:
            data = problems[0].name
        seconds = sum(one.seconds for one in measured)
        return Check(self.key, self.statement, data, NAN, NAN, None, seconds, details, self.summarise(measured))
