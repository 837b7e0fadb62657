"""The memory in which steps are made: lent to them once a call, so that they make no arrays and count no references."""

from collections import namedtuple

import numpy as np
from numba import types

from .._gram import gram_room
from .._inverse_factor import FACTOR_ROOM, inverse_shape
from .._jit import DATA_MATRIX, INTEGERS, MATRIX, VECTOR, njit
from .._linalg import copy
from .awake_steps import PARTS
from .single_steps import SINGLES, singles_of
from .state import BETA, LOG_PRODUCT, LOG_RATIO, LOG_U, PRODUCT, RATIO, ROWS, SCALE

#: The end of an attempt, its local error and its stages; the matrices of a stiff step, as `rosenbrock_attempt` has them; the
#: rows of an attempt, and those of the state before it; the coordinates that are awake, by their numbers and by marks, and
#: room for their rows; what steps in single precision work in.
Work = namedtuple("Work", "z_new f_new local r_new K M W panel diagonal row_scale work_n room trace weights parts rows before "
                          "chosen marks space singles")
WORK_ARRAYS = types.NamedTuple((
    *(VECTOR,) * 4, *(MATRIX,) * 3, *(VECTOR,) * 3, MATRIX, VECTOR, *(MATRIX,) * 5, INTEGERS, *(VECTOR,) * 2, SINGLES), Work)


@njit()
def work_of(X, rows, total, stages, stiff_method, room, singly, kept, known):
    """Return what the steps of a run work in.

    `total` is the size of z; `room` is what the data of the coordinates that are awake may take, if others may be left out, or
    0.  A kept Gram matrix, and the marks in what is `known` of it, are part of it (`_large.kept_arrays`).  With `singly` steps
    may be in single precision.
    """
    n, d = X.shape
    keeps, sleepers = known.shape[0] > 0, room > 0
    dual = n if stiff_method and not keeps else 0
    part = sleepers and total > n  # a state of its own for the coordinates that are awake
    # An attempt takes the place of the state, of which four rows are kept; where some coordinates sleep it has its own.
    factor_rows, factor_columns = inverse_shape(dual)
    row_scale, marks = vector(n), vector(d if sleepers else 0)
    W = matrix(factor_rows, factor_columns)
    W[:] = 0.0  # what lies above its diagonal stays that
    row_scale[:] = 1.0
    marks[:] = 0.0
    return Work(
        vector(total), vector(total), vector(total), vector(n), matrix(stages + 1, total),
        kept if keeps else matrix(dual, dual), W, vector(FACTOR_ROOM),
        known[d:] if keeps else vector(dual), row_scale, matrix(2, n), vector(gram_room(dual, d)),
        matrix(2 * stages if part else 0, n), matrix(2, stages if part else 0), matrix(PARTS if part else 0, total),
        _rows_like(rows) if sleepers else rows, matrix(0 if sleepers else RATIO + 1 - BETA, d),
        np.empty(d if sleepers else 0, dtype=np.int64), marks, aligned(ROWS * d if sleepers else 0),
        singles_of(X, stages, total > n, room, singly))


# Kernels of their own: numba would compile each array that is made once more.


@njit(VECTOR(types.intp))
def vector(size):
    """Return a new vector."""
    return np.empty(size)


@njit(MATRIX(types.intp, types.intp))
def matrix(rows, columns):
    """Return a new matrix."""
    return np.empty((rows, columns))


@njit(MATRIX(MATRIX))
def _rows_like(rows):
    """Return rows for another state from the same start."""
    new = aligned(ROWS * rows.shape[1]).reshape(rows.shape)
    for i in (LOG_PRODUCT, LOG_RATIO, SCALE, PRODUCT):
        copy(rows[i], new[i])
    return new


@njit(VECTOR(types.intp))
def aligned(size):
    """Return a new vector that starts at a cache line."""
    room = np.empty(size + 7)
    first = -(room.ctypes.data // 8) % 8
    return room[first:first + size]


# With more columns, of zeros.  Their weights are those of the smallest coordinate, with u = v, and never move.


@njit(MATRIX(DATA_MATRIX, types.intp))
def widened_data(X, more):
    """Return X with so many columns of zeros more."""
    n, d = X.shape
    wide = aligned(n * (d + more)).reshape((n, d + more))
    _widen(X, wide)
    return wide


@njit(MATRIX(MATRIX, types.intp))
def widened_rows(rows, more):
    """Return the rows of a state with so many coordinates more."""
    d = rows.shape[1]
    wide = aligned(ROWS * (d + more)).reshape((ROWS, d + more))
    _widen(rows, wide)
    lowest = np.inf
    for j in range(d):
        lowest = min(lowest, rows[LOG_PRODUCT, j])
    for j in range(d, d + more):
        wide[LOG_PRODUCT, j] = lowest
        wide[PRODUCT, j] = lowest
    return wide


@njit(types.void(DATA_MATRIX, MATRIX), allocates=False)
def _widen(narrow, wide):
    d = narrow.shape[1]
    for i in range(narrow.shape[0]):
        copy(narrow[i], wide[i, :d])
        for j in range(d, wide.shape[1]):
            wide[i, j] = 0.0


@njit(types.void(DATA_MATRIX, MATRIX), allocates=False)
def narrow_rows(wide, rows):
    """Put what changes in the rows of a state back where they came from."""
    for i in range(LOG_U, ROWS):
        copy(wide[i, :rows.shape[1]], rows[i])


@njit(VECTOR(VECTOR, types.intp))
def widened(narrow, more):
    """Return z, or a vector like it, with so many coordinates more."""
    size = narrow.shape[0]
    wide = np.empty(size + more)
    for k in range(size):
        wide[k] = narrow[k]
    for k in range(size, size + more):
        wide[k] = 0.0
    return wide
