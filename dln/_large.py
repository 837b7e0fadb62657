"""Gram matrices of large problems: kept from step to step, and brought up to date where the weights have changed.

At N = 1000, d = 10000 a Gram product takes as long as seventy products with X.  But most weights change little in most steps:
they are still small, or they have settled.
"""

import math

import numpy as np
from numba import types

from ._gram import PANEL, add_product
from ._jit import DATA_MATRIX, DATA_VECTOR, MATRIX, VECTOR, njit

_KEPT_FROM = 150  # rows above which the Gram matrix is kept
_BLOCK = 32  # rows and columns of a tile, for the copy of one triangle into the other


def keeps_gram(X):
    """Whether the data are so large that the Gram matrix is kept."""
    return X.shape[0] > _KEPT_FROM


@njit(types.void(DATA_MATRIX, DATA_VECTOR, types.float64, types.float64, VECTOR, MATRIX, VECTOR))
def update_gram(X, weight, share, floor, known, M, diagonal):
    """Bring the Gram matrix ``K = X diag(known) X^T``, its diagonal and the strict upper triangle of M, up to date.

    ``known_j`` becomes ``weight_j`` where they differ by more than `floor` and by more than `share` of ``weight_j``.  Then K is
    off by at most ``share X diag(weight) X^T + floor X X^T``, as a quadratic form, whatever the data.
    """
    n, d = X.shape
    for i in range(n):
        M[i, i] = diagonal[i]
    space = np.empty(n * min(d, PANEL))
    chosen = np.empty(min(d, PANEL), dtype=np.int64)
    for sign in (1.0, -1.0):  # what has grown, what has shrunk
        width = 0
        for j in range(d):
            change = sign * (weight[j] - known[j])
            if change > floor and change > share * weight[j]:
                chosen[width] = j
                width += 1
            if width == chosen.shape[0] or (j == d - 1 and width > 0):
                _add_columns(X, chosen[:width], weight, known, sign, space, M)
                width = 0
    for i in range(n):
        diagonal[i] = M[i, i]


@njit(types.void(VECTOR, MATRIX, VECTOR))
def forget_gram(known, M, diagonal):
    """Let no weight be known: the next update sums up the whole matrix anew, without the rounding errors of those before it."""
    known[:] = 0.0
    diagonal[:] = 0.0
    for i in range(M.shape[0]):
        for k in range(i + 1, M.shape[0]):
            M[i, k] = 0.0


@njit()
def _add_columns(X, chosen, weight, known, sign, space, M):
    n, width = X.shape[0], chosen.shape[0]
    root = np.empty(width)
    for k in range(width):
        j = chosen[k]
        root[k] = math.sqrt(abs(weight[j] - known[j]))
        known[j] = weight[j]
    panel = space[:n * width].reshape((n, width))
    for i in range(n):
        for k in range(width):
            panel[i, k] = X[i, chosen[k]] * root[k]
    add_product(panel, False, sign, 1.0, M)


@njit(types.void(MATRIX))
def mirror(M):
    """Copy the strict upper triangle of M into the lower one, tile by tile: both are read and written in whole cache lines."""
    n = M.shape[0]
    for top in range(0, n, _BLOCK):
        for left in range(0, top + 1, _BLOCK):
            for i in range(top, min(top + _BLOCK, n)):
                for k in range(left, min(left + _BLOCK, i)):
                    M[i, k] = M[k, i]
