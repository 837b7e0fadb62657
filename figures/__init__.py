"""Pictures: one module per figure, with ``compute(...) -> data`` and ``draw(data, ax=None) -> Axes``.

The numbers and the picture are separate: `compute` returns labelled arrays that can be kept, tested or drawn in another
way; `draw` does no arithmetic worth testing. No figure calls ``show``, changes global settings or needs a display.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from dln._suggest import unknown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SUFFIXES", "get", "registry", "save"]

#: Figures by the name they have on the command line, each with its module. A new figure is one line here.
registry = {
    "phase-diagram": "figures.phase_diagram",
    "phase-ascent": "figures.phase_ascent",
    "phase-sam": "figures.phase_sam",
    "phase-step": "figures.phase_step",
    "recovery": "figures.recovery",
    "noise": "figures.noise",
    "trajectories": "figures.trajectories",
    "potentials": "figures.potentials",
    "flooding": "figures.flooding",
    "step-size": "figures.step_size",
    "initial-scale": "figures.initial_scale",
    "margins": "figures.margins",
    "saddles": "figures.saddles",
    "lasso-path": "figures.lasso_path",
    "regularization-richness": "figures.regularization_richness",
}

#: File formats, by the end of the name.
SUFFIXES = (".png", ".pdf")


def get(name: str) -> ModuleType:
    """Import the module of a figure.

    Parameters
    ----------
    name : str
        A key of `registry`, such as "phase-diagram".

    Returns
    -------
    module
        With functions ``compute`` and ``draw``.

    Raises
    ------
    ValueError
        If there is no such figure.
    """
    if name not in registry:
        raise ValueError(unknown("figure", name, registry))
    return import_module(registry[name])


def save(figure: Figure, path: str | os.PathLike[str], dpi: float = 200) -> None:
    """Write a figure as PNG or PDF.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure that the drawn axes belong to: ``axes.figure``.
    path : str or path-like
        A file name ending in .png or .pdf, in a folder that exists.
    dpi : float
        Dots per inch of a PNG.

    Raises
    ------
    ValueError
        If the name has another ending, or the folder does not exist.
    """
    from figures._canvas import style

    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"cannot write {path}: the name must end in {' or '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise ValueError(f"cannot write {path}: the folder {path.parent} does not exist; make it first")
    # Matplotlib reads some settings only now: how a PDF embeds fonts, how thick hatching is.
    with style():
        figure.savefig(path, format=path.suffix.lower()[1:], dpi=dpi)
