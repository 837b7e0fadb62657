"""Which cells of a tile run side by side in vector lanes, and the arrays for that."""

import weakref
from collections import namedtuple

import numpy as np

from .._aligned import aligned_zeros
from .._jit import _numba_settings, entry_point
from .._lanes import LANES
from ..rules import GradientFlow, GradientRegularization
from ..rules.gradient_regularization import _CENTERED
from ..rules.sam import SAM
from . import lane_steps as ls
from . import lanes, planning, starting
from . import tile_kernel as kernel
from .methods import rosenbrock_method

FEWEST = 6  # cells that are run in lanes: with fewer too many lanes would be idle
_MOST_ROWS, _MOST_NUMBERS = 64, 1 << 20  # of X, and in its pairs of rows; beyond, the state of eight runs leaves the cache
_ROUNDING = 1e-6  # of logarithms
_KEPT = 1 << 17  # numbers: 1 MB
_panels_of: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # of the data of problems, up to that size

#: A part of the cells: what is the same for all of them, and (strength, ascent step) of each.
Group = namedtuple("Group", "cells kind penalties")


def lane_groups(tile, loose):
    """Return the groups of cells of a tile that are run in lanes; `loose` if the method is the stiff one throughout.

    Whether a cell may depends on that cell alone.
    """
    (n, d), rule, params = tile.rows.X.shape, tile.rule, tile.cells[2]
    stiff = loose if tile.method == "auto" else tile.method == "rosenbrock"
    if _numba_settings.DISABLE_JIT or not stiff or not 0 < n <= _MOST_ROWS or not 0 < _packed(n) * d <= _MOST_NUMBERS:
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
    """Return which cells of gradient flow go step by step, not from plateau to plateau, and from scales that are no extremes.

    Those step by step are faster in lanes than with their sleeping coordinates left out, at any scale.
    """
    tops = (2.0 * tile.log_alphas + np.abs(tile.log_ratios)).max(axis=1)
    ordinary = np.abs(tile.log_alphas).max(axis=1) <= 0.5 * lanes.ORDINARY
    if tile.method != "auto":
        return ordinary
    return ordinary & (tops > starting.sleeping_level(tile.rows.coordinate_scale, tile.rtol, tile.to_the_end) + _ROUNDING)


def run_in_lanes(tile, group, arguments, budget):
    """Run the cells of a group to their ends."""
    kernels, c, options, facts, cells, state, ends = arguments
    rows, kind = tile.rows, group.kind
    tableau = _tableau(tile.rule, tile.rtol)
    data, runs, step = _arrays(rows, kind.shrinks, len(tableau[0]))
    # The longest first, so that no lane is left alone with one in the end.
    tops = np.broadcast_to(tile.log_alphas.max(axis=1), tile.n_cells)[group.cells]
    order = group.cells[np.argsort(tops, kind="stable")]
    cursor = np.zeros(kernel.CURSOR_SIZE, dtype=np.int64)
    cursor[kernel.METHOD] = kernel.ROSENBROCK
    places = np.zeros((lanes.PLACES_SIZE, LANES), dtype=np.int64)
    places[lanes.WHICH] = -1
    settings = np.zeros((LANES, planning.SETTINGS_SIZE))
    run = entry_point(lanes.run_lanes)
    while cursor[kernel.PLACE] < len(order) or (places[lanes.WHICH] >= 0).any():
        run(kernels, rows.X, rows.y, c, rows.facts, options, facts, tableau, group.penalties, kind,
            cells, state, ends, order, cursor, data, runs, step, places, settings, budget)


def _tableau(rule, rtol):
    A, C, m, e, _, gamma, order, filtered, memory = rosenbrock_method(rule, rtol, False)[0]
    return A, C, np.array([m, e]), gamma, order, filtered, memory


def _packed(n):
    return n * (n + 1) // 2


def _data(rows):
    """Return X, its transpose and its pairs of rows in panels."""
    found = _panels_of.get(rows)
    if found is None:
        filled = np.zeros([size + -size % 4 for size in rows.X.shape])
        filled[:rows.X.shape[0], :rows.X.shape[1]] = rows.X
        i, k = np.tril_indices(len(filled))
        found = tuple(_panels(A) for A in (filled, filled.T, filled[i] * filled[k]))
        if found[-1].size <= _KEPT:
            _panels_of[rows] = found
    return found


def _arrays(rows, shrinks, stages):
    """Return the data, and room for eight runs and their step."""
    X, transposed, pairs = _data(rows)
    n, d = 4 * len(X), 4 * len(transposed)
    total, packed = n + d if shrinks else n, 4 * len(pairs)

    def room(*sizes):
        return (aligned_zeros((size, LANES)) for size in sizes)

    data = ls.Data(X, transposed, pairs, *room(n, total))
    data.y[:len(rows.y)] = rows.y[:, None]
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
