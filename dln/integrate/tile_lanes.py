"""Which cells of a tile run side by side in vector lanes, and the arrays for that."""

import functools
from collections import namedtuple

import numpy as np

from .._aligned import aligned_zeros
from .._jit import entry_point
from .._lanes import LANES
from ..rules import GradientFlow, GradientRegularization
from ..rules.gradient_regularization import _CENTERED
from ..rules.sam import SAM
from . import lane_steps as ls
from . import lanes, stepping
from . import tile_kernel as kernel
from .tableaus import RODAS5P, W6

FEWEST = 4  # cells that are run in lanes: with fewer most lanes would be idle
_MOST_ROWS, _MOST_NUMBERS = 64, 1 << 16  # of X; beyond, the state of eight runs leaves the cache

#: A part of the cells: what is the same for all of them, and (strength, ascent step) of each.
Group = namedtuple("Group", "cells kind penalties")


def lane_groups(tile, loose):
    """Return the groups of cells of a tile that are run in lanes; `loose` if the method is the stiff one throughout.

    Whether a cell may depends on that cell alone.
    """
    (n, d), rule, params = tile.rows.X.shape, tile.rule, tile.cells[2]
    stiff = loose if tile.method == "auto" else tile.method == "rosenbrock"
    if not stiff or not 0 < n <= _MOST_ROWS or not 0 < n * d <= _MOST_NUMBERS:
        return []
    chosen, centered, penalties = _known(tile, params)
    chosen, *marks = np.broadcast_arrays(chosen, centered, tile.cells[4][:, 0] != 0.0, np.zeros(tile.n_cells, dtype=bool))
    groups = []
    for centered, coupled in ((False, False), (False, True), (True, False), (True, True)):
        cells = np.flatnonzero(chosen & (marks[0] == centered) & (marks[1] == coupled))
        if cells.size >= FEWEST:
            groups.append(Group(cells, ls.Kind(bool(rule.shrinks), centered, coupled), penalties))
    return groups


def _known(tile, params):
    """Return which cells' rules lanes know, whether their difference is centred, and (strength, ascent step)."""
    if type(tile.rule) is GradientFlow:
        return _awake(tile), False, np.zeros((1, 2))
    if type(tile.rule) is GradientRegularization:
        return params[:, 3] != 0.0, params[:, 2] == _CENTERED, np.ascontiguousarray(params[:, :2])
    if type(tile.rule) is SAM and not tile.rule.per_sample:
        return params[:, 1] == 0.0, False, np.column_stack([params[:, 0], params[:, 0]])
    return False, False, np.zeros((1, 2))


def _awake(tile):
    """Return which cells of gradient flow keep so many coordinates awake that leaving the others out would not pay."""
    lowest = (2.0 * tile.log_alphas).min(axis=1)
    highest = (2.0 * tile.log_alphas).max(axis=1)
    return (lowest >= -50.0) & (highest <= 50.0)


def run_in_lanes(tile, group, arguments, budget):
    """Run the cells of a group to their ends."""
    kernels, c, options, facts, cells, state, ends = arguments
    rows, kind = tile.rows, group.kind
    data, runs, step = _arrays(rows.X, rows.y, kind.shrinks)
    # The longest first, so that no lane is left alone with one in the end.
    tops = np.broadcast_to(tile.log_alphas.max(axis=1), tile.n_cells)[group.cells]
    order = group.cells[np.argsort(tops, kind="stable")]
    cursor = np.zeros(kernel.CURSOR_SIZE, dtype=np.int64)
    cursor[kernel.METHOD] = kernel.ROSENBROCK
    places = np.zeros((lanes.PLACES_SIZE, LANES), dtype=np.int64)
    places[lanes.WHICH] = -1
    settings = np.zeros((LANES, stepping.SETTINGS_SIZE))
    run = entry_point(lanes.run_lanes)
    while cursor[kernel.PLACE] < len(order) or (places[lanes.WHICH] >= 0).any():
        run(kernels, rows.X, rows.y, c, rows.facts, options, facts, _tableau(kind.shrinks), group.penalties, kind,
            cells, state, ends, order, cursor, data, runs, step, places, settings, budget)


@functools.cache
def _tableau(shrinks):
    from ..flow import _EXACT, _INEXACT

    t, memory = (W6, _INEXACT[0][-1]) if shrinks else (RODAS5P, _EXACT[0][-1])
    return t.A, t.C, np.array([t.m, t.e]), t.gamma, t.order, not t.stiff_error, memory


def _arrays(X, y, shrinks):
    """Return the data, filled up with zeros, and room for eight runs and their step."""
    n, d = (size + -size % 4 for size in X.shape)
    filled = np.zeros((n, d))
    filled[:X.shape[0], :X.shape[1]] = X
    i, k = np.tril_indices(n)
    pairs = _panels(filled[i] * filled[k])
    total, packed = n + d if shrinks else n, 4 * len(pairs)
    stages = len((W6 if shrinks else RODAS5P).m)

    def room(*sizes):
        return (aligned_zeros((size, LANES)) for size in sizes)

    data = ls.Data(_panels(filled), _panels(filled.T), pairs, *room(n, total))
    data.y[:len(y)] = y[:, None]
    runs = ls.Runs(*room(ls.NUMBERS, d, d, d, total, total, n, total, d, d))
    step = ls.Step(*room(total, total, n, d, d, d, total, stages * total, packed, n * n, packed, n, 4 * n, d, d, d))
    return data, runs, step


def _panels(A):
    """Return a matrix, filled up with rows of zeros, as `lane_kernels.product` reads it."""
    rows, columns = A.shape
    panels = aligned_zeros((-(-rows // 4), columns, 4))
    for q in range(4):
        part = A[q::4]
        panels[:len(part), :, q] = part
    return panels
