"""Gram matrices of large problems: kept from step to step, and brought up to date where the weights have changed.

At N = 1000, d = 10000 a Gram product takes as long as seventy products with X.  But most weights change little in most steps:
they are still small, or they have settled.
"""

import math

import numpy as np
from numba import types

from ._jit import DATA_MATRIX, DATA_VECTOR, MATRIX, VECTOR, njit
from ._linalg import _PANEL, _syrk

_KEPT_FROM = 5_000_000  # multiply-adds of a Gram product from which it is worth to keep it
_BLOCK = 32  # rows and columns of a tile, for the copy of one triangle into the other


def keeps_gram(X):
    """Whether the data are so large that the Gram matrix is kept."""
    n, d = X.shape
    return n * n * d > _KEPT_FROM


@njit(types.int64(DATA_MATRIX, DATA_VECTOR, types.float64, types.float64, VECTOR, MATRIX, VECTOR))
def update_gram(X, weight, share, floor, known, M, diagonal):
    """Bring the Gram matrix ``X diag(known) X^T`` up to date; return how many columns of X that took.

    It has its diagonal, and the strict upper triangle of M.  ``known_j`` becomes ``weight_j`` where they differ by more than
    `floor` and by more than `share` of ``weight_j``: the matrix is then within that share of the wanted one, as a quadratic form,
    but for the columns below the floor.
    """
    n, d = X.shape
    for i in range(n):
        M[i, i] = diagonal[i]
    space = np.empty(n * min(d, _PANEL))
    chosen = np.empty(min(d, _PANEL), dtype=np.int64)
    count = 0
    for sign in (1.0, -1.0):  # what has grown, what has shrunk
        width = 0
        for j in range(d):
            change = sign * (weight[j] - known[j])
            if change > floor and change > share * weight[j]:
                chosen[width] = j
                width += 1
            if width == chosen.shape[0] or (j == d - 1 and width > 0):
                _add_columns(X, chosen[:width], weight, known, sign, space, M)
                count += width
                width = 0
    for i in range(n):
        diagonal[i] = M[i, i]
    return count


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
    triangle_and_transposed = np.array([ord("L"), ord("T")], dtype=np.uint8)  # of the transposed matrices, to BLAS
    factors = np.array([sign, 1.0])
    sizes = np.array([n, width], dtype=np.int32)
    _syrk(triangle_and_transposed.ctypes, triangle_and_transposed[1:].ctypes, sizes.ctypes, sizes[1:].ctypes,
          factors.ctypes, panel.ctypes, sizes[1:].ctypes, factors[1:].ctypes, M.ctypes, sizes.ctypes)


@njit(types.void(MATRIX))
def mirror(M):
    """Copy the strict upper triangle of M into the lower one, tile by tile: both are read and written in whole cache lines."""
    n = M.shape[0]
    for top in range(0, n, _BLOCK):
        for left in range(0, top + 1, _BLOCK):
            for i in range(top, min(top + _BLOCK, n)):
                for k in range(left, min(left + _BLOCK, i)):
                    M[i, k] = M[k, i]
