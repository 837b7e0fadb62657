"""Linear algebra and weights of eight runs side by side, one in each lane: see `dln._lanes`.

Sizes are filled up with zeros to multiples of four, so that all loops go in whole blocks.  A symmetric matrix of lanes is its
lower triangle, packed by rows: entry (i, k) is in row ``i (i + 1)/2 + k``.
"""

import numpy as np
from numba import types

from .._jit import DATA_MATRIX, MATRIX, njit
from .._lanes import entry, load, store
from .._simd import fused, modulus, splat_eight, where_less
from ..network import LARGEST_TOP, vector_weights, vector_weights_at

_LARGEST = np.finfo(float).max

#: A matrix that all lanes share, (rows/4, columns, 4): four rows at a time, column by column, as `product` reads them.
PANELS = types.Array(types.float64, 3, "C", readonly=True)


@njit(types.void(PANELS, MATRIX, MATRIX))
def product(A, b, out):
    """out = A b."""
    at = 0
    for i in range(0, 4 * A.shape[0], 4):
        s0, s1, s2, s3 = splat_eight(0.0), splat_eight(0.0), splat_eight(0.0), splat_eight(0.0)
        for k in range(A.shape[1]):
            v = load(b, k)
            s0 = fused(entry(A, at), v, s0)
            s1 = fused(entry(A, at + 1), v, s1)
            s2 = fused(entry(A, at + 2), v, s2)
            s3 = fused(entry(A, at + 3), v, s3)
            at += 4
        store(out, i, s0)
        store(out, i + 1, s1)
        store(out, i + 2, s2)
        store(out, i + 3, s3)


# ---------------------------------------------------------------------------------------------------------------------
# Weights.


@njit(types.void(MATRIX, MATRIX, MATRIX, MATRIX, MATRIX, MATRIX))
def weights_at(scale, log_ratio, pull, beta, size, failed):
    """Fill beta and size as `network.evaluate_weights_at`, at log(u/v) = log_ratio - 4 pull.

    `failed` (1, LANES) becomes 1 where weights would overflow.
    """
    bad = load(failed, 0)
    for j in range(beta.shape[0]):
        ratio = fused(-4.0, load(pull, j), load(log_ratio, j))
        bad = where_less(modulus(ratio), LARGEST_TOP, bad, 1.0)  # also where it is NaN
        sizes, differences = vector_weights_at(load(scale, j), ratio)
        store(size, j, sizes)
        store(beta, j, differences)
    store(failed, 0, bad)


@njit(types.void(MATRIX, MATRIX, MATRIX, MATRIX, MATRIX, MATRIX, MATRIX))
def weights(log_product, log_ratio, Q, pull, beta, size, failed):
    """Fill beta and size as `network.evaluate_weights`, at log(uv) = log_product - 4 Q and log(u/v) = log_ratio - 4 pull."""
    bad = load(failed, 0)
    for j in range(beta.shape[0]):
        ratio = fused(-4.0, load(pull, j), load(log_ratio, j))
        top, sizes, differences = vector_weights(fused(-4.0, load(Q, j), load(log_product, j)), ratio)
        bad = where_less(top, LARGEST_TOP, bad, 1.0)
        store(size, j, sizes)
        store(beta, j, differences)
    store(failed, 0, bad)


# ---------------------------------------------------------------------------------------------------------------------
# Positive definite systems.


@njit()
def _unsound(pivot, bad):
    return where_less(0.0, pivot, where_less(_LARGEST, pivot, 1.0, bad), 1.0)


@njit(types.void(types.int64, MATRIX, MATRIX, MATRIX, MATRIX))
def factorize(n, M, inverse_pivots, panel, failed):
    """Factor M = L D L^T in place, n a multiple of four; `failed` becomes 1 where a pivot is not sound.

    L has a unit diagonal, which is not stored; `panel` (4 n, LANES) is work.
    """
    bad = load(failed, 0)
    for k in range(0, n, 4):
        # The block of four pivots.
        p0, p1 = k * (k + 1) // 2 + k, (k + 1) * (k + 2) // 2 + k
        p2, p3 = (k + 2) * (k + 3) // 2 + k, (k + 3) * (k + 4) // 2 + k
        d0 = load(M, p0)
        r0 = 1.0 / d0
        a1, a2, a3 = load(M, p1), load(M, p2), load(M, p3)
        l10, l20, l30 = a1 * r0, a2 * r0, a3 * r0
        d1 = load(M, p1 + 1) - l10 * a1
        r1 = 1.0 / d1
        b2, b3 = load(M, p2 + 1) - l20 * a1, load(M, p3 + 1) - l30 * a1
        l21, l31 = b2 * r1, b3 * r1
        d2 = load(M, p2 + 2) - l20 * a2 - l21 * b2
        r2 = 1.0 / d2
        c3 = load(M, p3 + 2) - l30 * a2 - l31 * b2
        l32 = c3 * r2
        d3 = load(M, p3 + 3) - l30 * a3 - l31 * b3 - l32 * c3
        r3 = 1.0 / d3
        bad = _unsound(d3, _unsound(d2, _unsound(d1, _unsound(d0, bad))))
        store(inverse_pivots, k, r0)
        store(inverse_pivots, k + 1, r1)
        store(inverse_pivots, k + 2, r2)
        store(inverse_pivots, k + 3, r3)
        store(M, p1, l10)
        store(M, p2, l20)
        store(M, p2 + 1, l21)
        store(M, p3, l30)
        store(M, p3 + 1, l31)
        store(M, p3 + 2, l32)
        for i in range(k + 4, n):
            at = i * (i + 1) // 2 + k
            u0 = load(M, at)
            u1 = load(M, at + 1) - l10 * u0
            u2 = load(M, at + 2) - l20 * u0 - l21 * u1
            u3 = load(M, at + 3) - l30 * u0 - l31 * u1 - l32 * u2
            store(panel, 4 * i, u0)
            store(panel, 4 * i + 1, u1)
            store(panel, 4 * i + 2, u2)
            store(panel, 4 * i + 3, u3)
            f0, f1, f2, f3 = r0 * u0, r1 * u1, r2 * u2, r3 * u3
            store(M, at, f0)
            store(M, at + 1, f1)
            store(M, at + 2, f2)
            store(M, at + 3, f3)
            for j in range(k + 4, i + 1):
                s = load(M, at + j - k)
                s = fused(0.0 - f0, load(panel, 4 * j), s)
                s = fused(0.0 - f1, load(panel, 4 * j + 1), s)
                s = fused(0.0 - f2, load(panel, 4 * j + 2), s)
                store(M, at + j - k, fused(0.0 - f3, load(panel, 4 * j + 3), s))
    store(failed, 0, bad)


@njit(types.void(types.int64, MATRIX, MATRIX, MATRIX))
def solve(n, L, inverse_pivots, b):
    """Solve L D L^T x = b in place; L as `factorize` leaves it."""
    for k in range(0, n, 4):
        p1, p2, p3 = (k + 1) * (k + 2) // 2 + k, (k + 2) * (k + 3) // 2 + k, (k + 3) * (k + 4) // 2 + k
        x0 = load(b, k)
        x1 = load(b, k + 1) - load(L, p1) * x0
        x2 = load(b, k + 2) - load(L, p2) * x0 - load(L, p2 + 1) * x1
        x3 = load(b, k + 3) - load(L, p3) * x0 - load(L, p3 + 1) * x1 - load(L, p3 + 2) * x2
        store(b, k + 1, x1)
        store(b, k + 2, x2)
        store(b, k + 3, x3)
        x0, x1, x2, x3 = 0.0 - x0, 0.0 - x1, 0.0 - x2, 0.0 - x3
        for i in range(k + 4, n):
            at = i * (i + 1) // 2 + k
            s = fused(load(L, at), x0, load(b, i))
            s = fused(load(L, at + 1), x1, s)
            s = fused(load(L, at + 2), x2, s)
            store(b, i, fused(load(L, at + 3), x3, s))
    for k in range(n):
        store(b, k, load(b, k) * load(inverse_pivots, k))
    for k in range(n - 4, -1, -4):
        p0, p1 = k * (k + 1) // 2, (k + 1) * (k + 2) // 2
        p2, p3 = (k + 2) * (k + 3) // 2, (k + 3) * (k + 4) // 2
        x3 = load(b, k + 3)
        x2 = load(b, k + 2) - load(L, p3 + k + 2) * x3
        x1 = load(b, k + 1) - load(L, p2 + k + 1) * x2 - load(L, p3 + k + 1) * x3
        x0 = load(b, k) - load(L, p1 + k) * x1 - load(L, p2 + k) * x2 - load(L, p3 + k) * x3
        store(b, k, x0)
        store(b, k + 1, x1)
        store(b, k + 2, x2)
        x0, x1, x2, x3 = 0.0 - x0, 0.0 - x1, 0.0 - x2, 0.0 - x3
        for i in range(k):
            s = fused(load(L, p0 + i), x0, load(b, i))
            s = fused(load(L, p1 + i), x1, s)
            s = fused(load(L, p2 + i), x2, s)
            store(b, i, fused(load(L, p3 + i), x3, s))


@njit(types.void(types.int64, MATRIX, MATRIX, MATRIX, MATRIX))
def square_of_symmetric(n, K, root, full, out):
    """out = (root K)^2, both triangles packed; `root` is one number for each lane, `full` (n n, LANES) work."""
    factor = load(root, 0)
    for i in range(n):
        row = i * (i + 1) // 2
        for k in range(i + 1):
            entry = factor * load(K, row + k)
            store(full, i * n + k, entry)
            store(full, k * n + i, entry)
    for i in range(0, n, 2):
        row, below = i * (i + 1) // 2, (i + 1) * (i + 2) // 2
        for k in range(0, i + 2, 2):
            s00, s01, s10, s11 = splat_eight(0.0), splat_eight(0.0), splat_eight(0.0), splat_eight(0.0)
            for j in range(n):
                a, b = load(full, i * n + j), load(full, (i + 1) * n + j)
                x, y = load(full, k * n + j), load(full, (k + 1) * n + j)
                s00 = fused(a, x, s00)
                s01 = fused(a, y, s01)
                s10 = fused(b, x, s10)
                s11 = fused(b, y, s11)
            store(out, row + k, s00)
            if k < i:
                store(out, row + k + 1, s01)
            store(out, below + k, s10)
            store(out, below + k + 1, s11)


@njit(types.void(types.int64, MATRIX, MATRIX, MATRIX))
def symmetric_product(n, K, b, out):
    """out = K b, K packed."""
    for i in range(n):
        row = i * (i + 1) // 2
        x = load(b, i)
        s = load(K, row + i) * x
        for k in range(i):
            entry = load(K, row + k)
            s = fused(entry, load(b, k), s)
            store(out, k, fused(entry, x, load(out, k)))
        store(out, i, s)


# ---------------------------------------------------------------------------------------------------------------------
# Sums of stages.


@njit()
def _sums(count, coefficients, row, stages, total, k):
    s0, s1, s2, s3 = splat_eight(0.0), splat_eight(0.0), splat_eight(0.0), splat_eight(0.0)
    for j in range(count):
        a = coefficients[row, j]
        at = j * total + k
        s0 = fused(a, load(stages, at), s0)
        s1 = fused(a, load(stages, at + 1), s1)
        s2 = fused(a, load(stages, at + 2), s2)
        s3 = fused(a, load(stages, at + 3), s3)
    return s0, s1, s2, s3


_COMBINE = types.void(MATRIX, types.int64, DATA_MATRIX, types.int64, MATRIX, MATRIX)


@njit(_COMBINE)
def combine(base, count, coefficients, row, stages, out):
    """out = base + sum over the first `count` stages of coefficients[row] times them; all have a multiple of four rows."""
    total = out.shape[0]
    for k in range(0, total, 4):
        s0, s1, s2, s3 = _sums(count, coefficients, row, stages, total, k)
        store(out, k, load(base, k) + s0)
        store(out, k + 1, load(base, k + 1) + s1)
        store(out, k + 2, load(base, k + 2) + s2)
        store(out, k + 3, load(base, k + 3) + s3)


@njit(types.void(MATRIX, MATRIX, types.int64, DATA_MATRIX, types.int64, types.float64, MATRIX, MATRIX))
def combine_scaled(base, factor, count, coefficients, row, weight, stages, out):
    """out = factor base + weight times that sum; `factor` is one number for each lane."""
    total = out.shape[0]
    scale = load(factor, 0)
    for k in range(0, total, 4):
        s0, s1, s2, s3 = _sums(count, coefficients, row, stages, total, k)
        store(out, k, fused(scale, load(base, k), weight * s0))
        store(out, k + 1, fused(scale, load(base, k + 1), weight * s1))
        store(out, k + 2, fused(scale, load(base, k + 2), weight * s2))
        store(out, k + 3, fused(scale, load(base, k + 3), weight * s3))
