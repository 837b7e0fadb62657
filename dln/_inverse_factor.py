"""Positive definite systems that are solved several times: by the inverse of the factor where that is faster.

Substitution is a chain of 2 N dependent sums, at N = 20 twice as slow as two triangular products.
"""

import numpy as np
from numba import types

from ._jit import MATRIX, REDUCTION, VECTOR, njit
from ._linalg import cholesky, cholesky_solve, four_rows
from ._simd import (
    four,
    load_four,
    load_four_at,
    load_some_four,
    splat_four,
    store,
    store_at,
    store_some,
    totals,
    transposed,
)

#: Sizes for which the inverse of the factor is worth its price; see `invert_factor`.
INVERT_FROM, INVERT_UP_TO = 8, 64
_STRIDE = INVERT_UP_TO  # of the rows of a panel
FACTOR_ROOM = 4 * _STRIDE


@njit()
def inverse_shape(n):
    """Return the shape of W for `factorize` of an n x n matrix; (0, 0) where substitution is faster than the inverse."""
    m = n + -n % 4
    return (m + 3, m) if INVERT_FROM <= n <= INVERT_UP_TO else (0, 0)


@njit()
def factorize(M, W, panel):
    """Factor a positive definite matrix for `solve_factorized`, in place: in W, of `inverse_shape`, or in M if W is empty.

    Its lower triangle is there already; the size is that of M.  False as `cholesky`.  `panel` is work, (FACTOR_ROOM,).
    """
    return invert_factor(W, M.shape[0], panel) if W.shape[0] > 0 else cholesky(M)


@njit()
def solve_factorized(M, W, b):
    """Solve M x = b in place; M and W as `factorize` leaves them."""
    if W.shape[0] > 0:
        solve_with_inverse(W, b)
    else:
        cholesky_solve(M, b)


@njit(types.boolean(MATRIX, types.intp, VECTOR), fastmath=REDUCTION, allocates=False)
def invert_factor(W, n, panel):
    """Invert the factor of ``M = L D L^T``, n x n, whose lower triangle is in W, in place; False as `cholesky`.

    Substitution is a chain of n dependent sums, twice; with ``W = L^-1``, `solve_with_inverse` has none.  L itself is never
    stored: four pivots at a time, rows of (identity, M) are eliminated, which leaves W in place of the identity.  The sums are
    those of forward substitution with L for each column of the identity, and as accurate.

    W is (m + 3, m) with m, a multiple of four, at least n and at most 64; `panel` is (FACTOR_ROOM,).  Filled are the lower
    triangle of W (with the unit diagonal, and zeros above it as far as the blocks of four go) and the row below that, D^-1.
    """
    m = W.shape[1]
    for i in range(n, m):  # rows of the identity, up to a multiple of four
        for j in range(i):
            W[i, j] = 0.0
        W[i, i] = 1.0
    for k in range(0, m, 4):
        d0 = W[k, k]
        if not 0.0 < d0 < np.inf:
            return False
        r0 = 1.0 / d0
        a1, a2, a3 = W[k + 1, k], W[k + 2, k], W[k + 3, k]
        l10, l20, l30 = a1 * r0, a2 * r0, a3 * r0
        d1 = W[k + 1, k + 1] - l10 * a1
        if not 0.0 < d1 < np.inf:
            return False
        r1 = 1.0 / d1
        b2, b3 = W[k + 2, k + 1] - l20 * a1, W[k + 3, k + 1] - l30 * a1
        l21, l31 = b2 * r1, b3 * r1
        d2 = W[k + 2, k + 2] - l20 * a2 - l21 * b2
        if not 0.0 < d2 < np.inf:
            return False
        r2 = 1.0 / d2
        c3 = W[k + 3, k + 2] - l30 * a2 - l31 * b2
        l32 = c3 * r2
        d3 = W[k + 3, k + 3] - l30 * a3 - l31 * b3 - l32 * c3
        if not 0.0 < d3 < np.inf:
            return False
        r3 = 1.0 / d3
        store_at(four(r0, r1, r2, r3), W, m, k)
        # The four pivot rows of (W, Schur complement), the latter taken from its columns: only lower triangles are kept.
        for j in range(0, m, 4):
            if j < k:
                p0, p1, p2, p3 = four_rows(W, k, j)
            elif j == k:
                p0, p1 = four(1.0, 0.0, 0.0, 0.0), four(0.0, 1.0, 0.0, 0.0)
                p2, p3 = four(0.0, 0.0, 1.0, 0.0), four(0.0, 0.0, 0.0, 1.0)
            else:
                p0, p1, p2, p3 = four_rows(W, j, k)
                p0, p1, p2, p3 = transposed(p0, p1, p2, p3)
            p1 = p1 - l10 * p0
            p2 = p2 - (l20 * p0 + l21 * p1)
            p3 = p3 - ((l30 * p0 + l31 * p1) + l32 * p2)
            store(p0, panel, j)
            store(p1, panel, _STRIDE + j)
            store(p2, panel, 2 * _STRIDE + j)
            store(p3, panel, 3 * _STRIDE + j)
            if j <= k:
                store_at(p0, W, k, j)
                store_at(p1, W, k + 1, j)
                store_at(p2, W, k + 2, j)
                store_at(p3, W, k + 3, j)
            else:
                for q in range(4):
                    store_at(splat_four(0.0), W, j + q, k)
        for i in range(k + 4, m, 2):  # two rows at a time
            f0, f1 = r0 * panel[i], r1 * panel[_STRIDE + i]
            f2, f3 = r2 * panel[2 * _STRIDE + i], r3 * panel[3 * _STRIDE + i]
            g0, g1 = r0 * panel[i + 1], r1 * panel[_STRIDE + i + 1]
            g2, g3 = r2 * panel[2 * _STRIDE + i + 1], r3 * panel[3 * _STRIDE + i + 1]
            for j in range(0, i - i % 4 + 4, 4):
                p0, p1 = load_four(panel, j), load_four(panel, _STRIDE + j)
                p2, p3 = load_four(panel, 2 * _STRIDE + j), load_four(panel, 3 * _STRIDE + j)
                store_at(load_four_at(W, i, j) - ((f0 * p0 + f1 * p1) + (f2 * p2 + f3 * p3)), W, i, j)
                store_at(load_four_at(W, i + 1, j) - ((g0 * p0 + g1 * p1) + (g2 * p2 + g3 * p3)), W, i + 1, j)
    return True


@njit(types.void(MATRIX, VECTOR), allocates=False)
def solve_with_inverse(W, b):
    """Solve M x = b in place, ``x = W^T D^-1 W b``; W as `invert_factor` leaves it."""
    n, m = b.shape[0], W.shape[1]
    pivots, given, scaled = m, m + 1, m + 2  # rows of W
    for j in range(0, n - 3, 4):
        store_at(load_four(b, j), W, given, j)
    if n < m:
        store_at(load_some_four(b, m - 4, n - m + 4), W, given, m - 4)
    for i in range(0, m, 4):
        s0 = s1 = s2 = s3 = splat_four(0.0)
        for j in range(0, i + 4, 4):
            x = load_four_at(W, given, j)
            p0, p1, p2, p3 = four_rows(W, i, j)
            s0, s1, s2, s3 = s0 + x * p0, s1 + x * p1, s2 + x * p2, s3 + x * p3
        store_at(load_four_at(W, pivots, i) * totals(s0, s1, s2, s3), W, scaled, i)
    for j in range(0, m, 4):
        s0 = s1 = s2 = s3 = splat_four(0.0)
        for i in range(j, m, 4):
            p0, p1, p2, p3 = four_rows(W, i, j)
            s0, s1 = s0 + W[scaled, i] * p0, s1 + W[scaled, i + 1] * p1
            s2, s3 = s2 + W[scaled, i + 2] * p2, s3 + W[scaled, i + 3] * p3
        x = (s0 + s1) + (s2 + s3)
        if j + 4 <= n:
            store(x, b, j)
        else:
            store_some(x, b, j, n - j)
