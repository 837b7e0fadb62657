"""Grids of runs: `sweep`, `zipped` axes, and `open_sweep` for what is stored."""

from .axes import zipped
from .driver import sweep
from .ends import CellRun
from .measures import MeasureError
from .store import open_sweep

__all__ = ["CellRun", "MeasureError", "open_sweep", "sweep", "zipped"]
