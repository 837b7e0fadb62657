"""Theorems of implicit bias in diagonal linear networks: stated, derived in sympy, and checked by two routes.

    theory.theorems                     all theorems by key, in order
    theory.get("T4").derive()           a derivation that runs: print it, or take its `to_latex()`
    theory.get("T4").check(problem)     one check
    theory.verify(problem=problem)      all checks; `theory.table` and `theory.to_json` lay them out
    theory.derive_potential("u**3")     the potential of a reparametrisation: proved, and as numbers

To add a theorem, copy `theory/weight_decay.py`, the shortest file, and add its `THEOREMS` to the list below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from . import finite_differences, gradient_flow, gradient_regularization, sam, weight_decay
from ._derivation import Derivation, DerivationError, Step
from ._registry import Check, Registry, Theorem
from ._report import table, to_json
from .reparametrisation import NoPotential, Potential, derive_potential

__all__ = [
    "Check",
    "Derivation",
    "DerivationError",
    "NoPotential",
    "Potential",
    "Step",
    "Theorem",
    "derive_potential",
    "get",
    "table",
    "theorems",
    "to_json",
    "verify",
]

#: All theorems by key, in the order of their numbers.
theorems = Registry()
for _family in (gradient_flow, gradient_regularization, finite_differences, sam, weight_decay):
    theorems.add(*_family.THEOREMS)


def get(key: str) -> Theorem:
    """Look up a theorem by its key, upper or lower case.

    Parameters
    ----------
    key : str
        For instance "T4".

    Returns
    -------
    Theorem

    Raises
    ------
    ValueError
        If there is none; the message suggests the nearest.
    """
    return theorems.find(key)


def verify(keys: Iterable[str] | None = None, problem: Any = None,
           progress: Callable[[list[Theorem]], Iterable[Theorem]] | None = None) -> list[Check]:
    """Derive and check theorems.

    Parameters
    ----------
    keys : iterable of str, optional
        By default all theorems.
    problem : object with `X` and `y`, optional
        The data, by default several seeded synthetic problems.
    progress : callable, optional
        Wraps the list of theorems while it is worked through, as `tqdm.tqdm` does.

    Returns
    -------
    list of Check
        One per theorem. A check that could not be run has not passed.
    """
    chosen = [get(key) for key in keys] if keys is not None else list(theorems.values())
    return [theorem.check(problem) for theorem in (progress(chosen) if progress else chosen)]
