"""The gallery: every figure, one after the other; one that fails does not stop the others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import figures

__all__ = ["Drawn", "draw_all", "options_of"]


@dataclass(frozen=True)
class Drawn:
    """One picture of the gallery.

    Attributes
    ----------
    name : str
        A key of `figures.registry`.
    path : Path
        The file, which is there unless the figure failed.
    seconds : float
        To compute, draw and write it.
    error : str
        Why it failed; empty if it did not.
    """

    name: str
    path: Path
    seconds: float
    error: str = ""

    def __str__(self) -> str:
        width = max(map(len, figures.registry))
        return f"{self.name:{width}}  {self.seconds:6.1f} s  {self.error or self.path}"


def options_of(module: Any, full: bool) -> dict[str, Any]:
    """Give the arguments of a figure's ``compute``: none for a small picture, those of its ``FULL`` for the paper's size."""
    return dict(module.FULL) if full else {}


def draw_all(
    folder: str | os.PathLike[str], *, full: bool = False, report: Callable[[Drawn], Any] | None = None,
    names: tuple[str, ...] | None = None,
) -> list[Drawn]:
    """Draw all figures, as PNG.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    full : bool
        The paper's size: takes minutes.
    report : callable, optional
        Called with each `Drawn` as soon as it is finished.
    names : tuple of str, optional
        Keys of `figures.registry`; by default all.

    Returns
    -------
    list of Drawn

    Raises
    ------
    OSError
        If the folder cannot be made.
    ValueError
        If a name is unknown.
    """
    names = tuple(figures.registry) if names is None else names
    modules = {name: figures.get(name) for name in names}
    Path(folder).mkdir(parents=True, exist_ok=True)
    gallery = []
    for name, module in modules.items():
        path, begin, error = Path(folder) / f"{name}.png", time.perf_counter(), ""
        try:
            data = module.compute(**options_of(module, full))
            figures.save(np.ravel(module.draw(data))[0].figure, path)
        except Exception as failure:  # whatever it is: the others should be drawn, and this one is told
            error = f"failed: {type(failure).__name__}: {' '.join(str(failure).split())}"
        drawn = Drawn(name, path, time.perf_counter() - begin, error)
        gallery.append(drawn)
        if report is not None:
            report(drawn)
    return gallery
