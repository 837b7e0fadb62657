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

from . import (
    ascent_step,
    classification,
    depth,
    descent,
    finite_differences,
    flooding,
    gradient_flow,
    gradient_regularization,
    implicit_regularization,
    lasso_path,
    limits,
    momentum,
    noise,
    saddles,
    sam,
    scale_motion,
    sliding_mode,
    stochastic_sam,
    transitions,
    weight_decay,
)
from ._derivation import Derivation, DerivationError, Step
from ._mutants import kill as kill_mutants
from ._mutants import mutant_table
from ._registry import Check, Registry, Theorem
from ._report import table, to_json
from ._verify import work_through
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
    "kill_mutants",
    "mutant_table",
    "table",
    "theorems",
    "to_json",
    "verify",
]

#: All theorems by key, in the order of their numbers.
theorems = Registry()
_FAMILIES = (
    ascent_step,
    classification,
    depth,
    descent,
    finite_differences,
    flooding,
    gradient_flow,
    gradient_regularization,
    implicit_regularization,
    lasso_path,
    limits,
    momentum,
    noise,
    saddles,
    sam,
    scale_motion,
    sliding_mode,
    stochastic_sam,
    transitions,
    weight_decay,
)
_all = [theorem for family in _FAMILIES for theorem in family.THEOREMS]
theorems.add(*sorted(_all, key=lambda theorem: int(theorem.key[1:])))


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


def verify(keys: Iterable[str] | None = None, problem: Any = None, progress: Callable[[Check], None] | None = None,
           jobs: int = 1) -> list[Check]:
    """Derive and check theorems.

    Parameters
    ----------
    keys : iterable of str, optional
        By default all theorems.
    problem : object with `X` and `y`, optional
        The data, by default several seeded synthetic problems and the real data of the library.
    progress : callable, optional
        Called with each check when it is finished.
    jobs : int, optional
        Number of processes; the results do not depend on it. More than one needs a script to be protected by
        ``if __name__ == "__main__"``, and knows the theorems of the package only.

    Returns
    -------
    list of Check
        One per theorem, in the order of `keys`. A check that could not be run has not passed; an empirical claim has
        `passed` None.

    Raises
    ------
    ValueError
        If a key is unknown, or `jobs` is less than 1.
    ChildProcessError
        If one of several processes ends abruptly.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}")
    chosen = [get(key) for key in keys] if keys is not None else list(theorems.values())
    return work_through(chosen, problem, progress, jobs)
