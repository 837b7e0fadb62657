"""The plan of a sweep: which cells there are, how they are cut into tiles, what each tile will cost."""

import functools
import math
import threading
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from ..problem import Problem
from ..rules import Rule
from .axes import CLOCK, DATA, RULE, Axis
from .identity import describe, digest

#: A tile has at least LEAST cells, so that its overhead is shared; MANY tiles balance the load of many workers.
LEAST, MANY = 16, 64
#: From MOST cells on tiles only grow so that there are not more than FILES of them: each is a file.
MOST, FILES = 1024, 16384
#: Numbers in one array over the cells and coordinates of a tile: the memory of a worker is some ten times that.
NUMBERS = 2**22


@dataclass(frozen=True, eq=False)
class Plan:
    """All that a worker must know; it is pickled once for each of them.

    Attributes
    ----------
    problem : Problem, tuple of Problem, or callable
    rule : Rule or subclass of Rule
    clock : callable
        `dln.flow`, `dln.descend`, ...
    axes : tuple of Axis
    fixed : dict
        Parameters that do not vary.
    targets : dict
        For every parameter where it goes, see `Router.targets`.
    measures : tuple of Measure
    tile : tuple of int
        Cells of a tile along each axis.
    """

    problem: Any
    rule: Any
    clock: Any
    axes: tuple[Axis, ...]
    fixed: dict
    targets: dict
    measures: tuple
    tile: tuple[int, ...]

    @functools.cached_property
    def shape(self):
        """Number of cells along each axis."""
        return tuple(axis.size for axis in self.axes)

    @property
    def n_cells(self):
        """Number of cells."""
        return math.prod(self.shape)

    @functools.cached_property
    def tiles(self):
        """Number of tiles along each axis."""
        return tuple(-(-size // step) for size, step in zip(self.shape, self.tile, strict=True))

    @property
    def n_tiles(self):
        """Number of tiles."""
        return math.prod(self.tiles)

    def place(self, tile):
        """Return the position of tile number `tile` among the tiles, one index per axis."""
        return tuple(int(k) for k in np.unravel_index(tile, self.tiles)) if self.tiles else ()

    def region(self, tile):
        """Return the slices of the grid that tile number `tile` covers."""
        return tuple(slice(k * step, min((k + 1) * step, size))
                     for k, step, size in zip(self.place(tile), self.tile, self.shape, strict=True))

    def cells(self, tile):
        """Give the indices of the cells of a tile, the last axis fastest."""
        return product(*(range(part.start, part.stop) for part in self.region(tile)))

    def axes_of(self, target):
        """Return the numbers of the axes with a parameter that goes to `target`."""
        return tuple(k for k, axis in enumerate(self.axes)
                     if any(kind == target for name in axis.values for kind, _ in self.targets[name]))

    def arguments(self, target, cell):
        """Return what goes to `target` (DATA, RULE or CLOCK) in a cell, as keyword arguments."""
        found = {}
        for name, value in self.fixed.items():
            found.update({argument: value for kind, argument in self.targets[name] if kind == target})
        for axis, k in zip(self.axes, cell, strict=True):
            for name, values in axis.values.items():
                found.update({argument: values[k] for kind, argument in self.targets[name] if kind == target})
        return found

    def problem_of(self, cell):
        """Return the data of a cell, made once in each process for all the cells that share them."""
        if isinstance(self.problem, Problem):
            return self.problem
        if isinstance(self.problem, tuple):
            return self.problem[self.arguments(DATA, cell)["problem"]]
        key = id(self), tuple(cell[k] for k in self.axes_of(DATA))
        with _MADE_LOCK:
            if key not in _MADE:
                while len(_MADE) >= _KEPT:
                    del _MADE[next(iter(_MADE))]
                _MADE[key] = self, self._make_problem(cell)  # the plan is kept, too: its id must stay its own
            return _MADE[key][1]

    def _make_problem(self, cell):
        arguments = self.arguments(DATA, cell)
        problem = self.problem(**arguments)
        if not isinstance(problem, Problem):
            made = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
            raise TypeError(f"problem({made}) must return a dln.Problem, got {type(problem).__name__}")
        return problem

    def rule_of(self, cell):
        """Return the training rule of a cell."""
        arguments = self.arguments(RULE, cell)
        if isinstance(self.rule, Rule):
            return replace(self.rule, **arguments) if arguments else self.rule  # type: ignore[type-var]
        return self.rule(**arguments)

    def clock_arguments(self, cell):
        """Return the keyword arguments of the clock in a cell."""
        arguments = self.arguments(CLOCK, cell)
        if "rng" in arguments and any(kind == DATA for kind, _ in self.targets["seed"]):
            # The data are drawn with this seed already: the same numbers must not come again as the noise of training.
            arguments["rng"] = np.random.default_rng((arguments["rng"], 1))
        return arguments

    def words(self, cell):
        """Return a cell's parameters in words, such as ``alpha=0.1, gamma=0.5``."""
        return ", ".join(f"{name}={values[k]!r}" for axis, k in zip(self.axes, cell, strict=True)
                         for name, values in axis.values.items()) or "the only cell"

    # --- cost ---------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def _weights(self):
        """For each axis the predicted cost of its values, relative to one another."""
        return tuple(np.prod([_cost(name, values, self.problem) for name, values in axis.values.items()], axis=0)
                     for axis in self.axes)

    def cost(self, tile):
        """Predict the cost of a tile, in units of a cheap cell."""
        return math.prod(float(np.sum(weights[part]))
                         for weights, part in zip(self._weights, self.region(tile), strict=True))

    def order(self, shard=None):
        """Return the numbers of all tiles, or of one shard ``(i, N)``, the most expensive first.

        Dealt out in that order every shard gets its share of the expensive ones, and no worker begins the longest tile last.
        """
        costs = np.ones(())
        for weights, step in zip(self._weights, self.tile, strict=True):
            costs = np.multiply.outer(costs, np.add.reduceat(weights, np.arange(0, len(weights), step)))
        order = np.argsort(-costs.ravel(), kind="stable")
        return order if shard is None else order[shard[0]::shard[1]]

    # --- identity -----------------------------------------------------------------------------------------------------

    @functools.cached_property
    def identity(self):
        """What must be equal for two sweeps to be the same, as JSON."""
        from .. import __version__

        given = {name: describe(value) for name, value in self.fixed.items()}
        axes = {axis.name: {name: describe(values) for name, values in axis.values.items()} for axis in self.axes}
        return {"dln version": __version__, "function": describe(self.clock), "rule": describe(self.rule), "data": self.data,
                "dimensions": list(axes), "axis": axes, "parameter": given,
                "measures": [measure.identity for measure in self.measures], "tile": " x ".join(map(str, self.tile))}

    @functools.cached_property
    def data(self):
        """Digests of the data; for a function that makes them, the function and the data of the first cell."""
        if callable(self.problem):
            return {"function": describe(self.problem), "first": describe(self.problem_of((0,) * len(self.axes)))}
        return describe(self.problem)

    @functools.cached_property
    def data_hash(self):
        """One digest for all data."""
        return digest(str(self.data))


#: Data made by functions, by plan and cell; a few are kept, the oldest goes first.
_MADE: dict = {}
_MADE_LOCK = threading.Lock()
_KEPT = 16


def _cost(name, values, problem):
    """Predict how the cost of a run depends on one parameter: measured on flows of 20 x 100 data, good to a factor of 2."""
    if name in ("alpha", "log_alpha"):
        logs = np.array([float(np.min(value)) for value in values])
        if name == "alpha":
            logs = np.log(np.maximum(logs, 1e-300))
        return 1.0 + np.clip(-0.25 * (logs + 2.0), 0.0, 2.0)  # the smaller, the longer; flat once it goes by plateaus
    if name == "n_steps":
        return np.array(values, dtype=float)
    if name == "problem" and isinstance(problem, tuple):
        return np.array([float(problem[value].X.size) for value in values])
    return np.ones(len(values))


def tile_shape(axes, data_axes, n_features, wanted=None):
    """Return the cells of a tile along each axis: it depends on the grid alone, never on who will compute it.

    Axes that change the data are cut first, as a kernel runs cells of the same data; the longest is halved, so that tiles stay
    compact.
    """
    shape = [axis.size for axis in axes]
    n_cells = math.prod(shape)
    if wanted is None:
        wanted = min(max(n_cells // MANY, LEAST), max(MOST, -(-n_cells // FILES)), max(NUMBERS // n_features, 1))
    tile = list(shape)
    for group in (data_axes, [k for k in range(len(shape)) if k not in data_axes]):
        while math.prod(tile) > wanted and any(tile[k] > 1 for k in group):
            longest = max(group, key=lambda k: tile[k])
            tile[longest] = -(-tile[longest] // 2)
    return tuple(tile)
