"""What a theorem is, what a check returns, and the table of all theorems.

A theorem is one `Theorem` object in the file of its family. It names its statement and its source, builds its
derivation, and lists the *parts* that a check measures on given data. A mutant is a function that spoils a part: the
claim or the engine. A check that passes a mutant would prove nothing, so every mutant must be rejected.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

from dln._suggest import unknown

from ._derivation import Derivation, DerivationError
from ._raw_route import RouteError
from ._setting import Setting, default_data, real_data

__all__ = ["Check", "Finding", "Measured", "Part", "Registry", "Theorem"]

#: How many of the default problems are generic: no duplicate columns, no single sample.
GENERIC = 3


@dataclass(frozen=True)
class Finding:
    """What measuring one part gave: a discrepancy, what it may be at most, and every number behind it.

    A measurement that has nothing to pass, of an empirical claim, has `passed` None and no discrepancy.
    """

    discrepancy: float
    tolerance: float
    passed: bool | None
    details: Mapping[str, Any]

    @property
    def ratio(self) -> float:
        """Discrepancy in units of the tolerance: parts of unlike kinds are compared by it."""
        return self.discrepancy / self.tolerance if self.tolerance > 0 else float("inf")


@dataclass(frozen=True)
class Measured:
    """All findings on one set of data: by part; and, if it could not be measured to the end, why."""

    data: str
    findings: Mapping[str, Finding]
    error: str | None
    seconds: float


class Part(Protocol):
    """A piece of a check: one training rule and an exact law, or one ladder of steps and a slope."""

    @property
    def name(self) -> str:
        """Which rule or which slope."""

    def measure(self, setting: Setting) -> Finding:
        """Run both routes and compare."""


#: Spoils a part, or returns None for a part that it does not concern.
Mutant = Callable[[Any, Setting], Any]


@dataclass(frozen=True)
class Check:
    """The verdict on a theorem.

    Attributes
    ----------
    key, statement, data : str
        The theorem and the data it was checked on.
    discrepancy, tolerance : float
        Those of the worst part. For an exact law: the largest relative difference between the routes; for a limit: how
        far the slope is from the claimed one, and the half-width of its confidence band. Slopes that come with an exact
        theorem must pass too, but speak here only if they fail.
    passed : bool or None
        Whether every part on all the data kept its tolerance, and the derivation was proved. None for an empirical
        claim, which is measured and neither passes nor fails; its discrepancy and tolerance are NaN.
    seconds : float
        Time that the numeric check took, summed over the data.
    details : dict
        Every number measured: `details[data name][part name]`.
    message : str
        The worst part in words, or what went wrong.
    """

    key: str
    statement: str
    data: str
    discrepancy: float
    tolerance: float
    passed: bool | None
    seconds: float
    details: Mapping[str, Any] = field(repr=False)
    message: str = ""

    def __str__(self) -> str:
        if self.passed is None:
            return f"{self.key} measured on {self.data}, {self.seconds:.1f} s. {self.message}"
        verdict = "passed" if self.passed else "FAILED"
        return (f"{self.key} {verdict} on {self.data}: discrepancy {self.discrepancy:.1e}, "
                f"tolerance {self.tolerance:.1e}, {self.seconds:.1f} s. {self.message}")


@dataclass(frozen=True)
class Theorem:
    """A statement about the bias of a training rule, with its derivation and its check.

    Attributes
    ----------
    key, title : str
    statement : str
        In one line.
    source : str
        The paper it is from.
    kind : {"exact", "limit", "empirical"}
    tolerance : float
        For an exact law its largest relative discrepancy; for a limit the widest confidence band of a slope that still
        counts as a measurement.
    derive : callable
        Builds the derivation; raises `DerivationError` if sympy does not prove a step.
    parts : callable
        Given a `Setting`, lists what the check measures.
    mutants : mapping of str to callable
        Named wrong versions of the claim and of the engine.
    on_real_data : bool
        Whether a limit is checked on the real data of the library, too, where it does not cost too much.
    """

    key: str
    title: str
    statement: str
    source: str
    kind: str
    tolerance: float
    derive: Callable[[], Derivation] = field(repr=False)
    parts: Callable[[Setting], Sequence[Part]] = field(repr=False)
    mutants: Mapping[str, Mutant] = field(repr=False)
    on_real_data: bool = field(default=False, repr=False, kw_only=True)

    def check(self, problem: Any = None, *, mutant: str | None = None) -> Check:
        """Check the theorem, or a wrong version of it, on data.

        Parameters
        ----------
        problem : object with `X` and `y`, optional
            By default several seeded synthetic problems and the real data of the library (for a limit: if it is cheap).
        mutant : str, optional
            The name of a mutant; then only the parts that it spoils are measured.

        Returns
        -------
        Check
            A check that could not be run has not passed; its message says why.
        """
        if mutant is not None and mutant not in self.mutants:
            raise ValueError(unknown(f"mutant of {self.key}", mutant, self.mutants))
        problems = self.problems(problem)
        measured = [self.measure(data, mutant) for data in problems]
        return self.verdict(problems, measured, self.prove() if mutant is None else None)

    def problems(self, problem: Any = None) -> list[Any]:
        """List the data of a check: the given ones, or seeded synthetic problems and real data.

        An order of convergence needs a choice among minimisers and a leading term that does not vanish, so limits are
        fitted on the first problems of the list, which are generic; laws that are exact must hold on all of them.
        """
        if problem is not None:
            return [problem]
        if self.kind == "exact":
            return [*default_data(), real_data()]
        return [*default_data(GENERIC), *([real_data()] if self.on_real_data else [])]

    def measure(self, data: Any, mutant: str | None = None) -> Measured:
        """Measure every part (or those that a mutant spoils) on one set of data; an error ends it and is recorded."""
        begin = time.perf_counter()
        name, error = getattr(data, "name", None) or "the data", None
        findings: dict[str, Finding] = {}
        try:
            for where, part, finding in self._findings(data, mutant):
                name, findings[part] = where, finding
        except (RouteError, ValueError, ArithmeticError) as failure:
            error = f"{self.key} could not be checked on {name}: {failure}"
        return Measured(name, findings, error, time.perf_counter() - begin)

    def _findings(self, data: Any, mutant: str | None) -> Iterator[tuple[str, str, Finding]]:
        """Give the name of the data, that of a part, and what was found, part by part."""
        setting = Setting(data)
        for part in self.parts(setting):
            spoilt = part if mutant is None else self.mutants[mutant](part, setting)
            if spoilt is not None:
                yield setting.data.name, spoilt.name, spoilt.measure(setting)

    def prove(self) -> str | None:
        """Build the derivation, once per process; give the step that is not proved, if there is one."""
        try:
            _prove(self.derive)
        except DerivationError as error:
            return str(error)
        return None

    def verdict(self, problems: Sequence[Any], measured: Sequence[Measured], unproved: str | None = None) -> Check:
        """Sum up what was measured on every set of data: one failure anywhere is a failure."""
        errors = [one.error for one in measured if one.error] + ([unproved] if unproved else [])
        findings = [(one.data, part, finding) for one in measured for part, finding in one.findings.items()]
        seconds = sum(one.seconds for one in measured)
        names = list(dict.fromkeys(name for name, _, _ in findings))
        others = [problem for problem in problems if not getattr(problem, "seeded", False)]
        data = ", ".join([f"{len(problems) - len(others)} synthetic problems",
                          *(str(getattr(problem, "name", None) or "data") for problem in others)])
        if len(problems) == 1:
            data = names[0] if names else str(getattr(problems[0], "name", None) or "data")
        details: dict[str, Any] = {name: {} for name in names}
        for name, part, finding in findings:
            details[name][part] = {"discrepancy": finding.discrepancy, "tolerance": finding.tolerance,
                                   "passed": finding.passed, **finding.details}
        if errors:
            details["errors"] = errors
        if not findings:
            return Check(self.key, self.statement, data, float("inf"), self.tolerance, False, seconds, details,
                         "; ".join(errors) or "nothing was measured")
        # Failures first; then, of an exact theorem, its laws before the slopes that come with them.
        name, part, worst = max(findings, key=lambda entry: (not entry[2].passed, entry[2].tolerance == self.tolerance,
                                                             entry[2].ratio))
        passed = not errors and all(finding.passed for _, _, finding in findings)
        message = "; ".join(errors) or f"worst: {part}" + (f" on {name}" if len(names) > 1 else "")
        discrepancy = worst.discrepancy if not errors else float("inf")
        return Check(self.key, self.statement, data, discrepancy, worst.tolerance, passed, seconds, details, message)


@cache
def _prove(derive: Callable[[], Derivation]) -> None:
    """Build a derivation once per process; a failure is not remembered."""
    derive()


class Registry(dict[str, Theorem]):
    """Theorems by key, in order."""

    def add(self, *theorems: Theorem) -> None:
        """Add theorems; a key may be taken only once."""
        for theorem in theorems:
            if theorem.key in self:
                raise ValueError(f"theorem {theorem.key!r} is already there")
            self[theorem.key] = theorem

    def find(self, key: str) -> Theorem:
        """Look a theorem up; an unknown key raises `ValueError` and names the nearest."""
        for known, theorem in self.items():
            if known.lower() == str(key).lower():
                return theorem
        raise ValueError(unknown("theorem", key, self))
