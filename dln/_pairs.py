"""Arithmetic in pairs of floats, high + low, of some 31 digits: products with data, Gram matrices, inverses.  Compiled.

A pair is the unevaluated sum of two floats (Dekker 1971, Numer. Math. 18, 224; Knuth, TAOCP 2, 4.2.2).  Arrays of pairs
have one axis more, of length 2, in front.
"""

import numpy as np
from numba import types

from ._jit import MATRIX, TENSOR, VECTOR, entry_point, njit

_SPLIT = 134217729.0  # 2^27 + 1


@njit()
def _two_sum(a, b):
    s = a + b
    v = s - a
    return s, (a - (s - v)) + (b - v)


@njit()
def _two_product(a, b):
    p = a * b
    t = _SPLIT * a
    a1 = t - (t - a)
    t = _SPLIT * b
    b1 = t - (t - b)
    return p, (((a1 * b1 - p) + a1 * (b - b1)) + (a - a1) * b1) + (a - a1) * (b - b1)


@njit()
def _add(a, a_low, b, b_low):
    s, e = _two_sum(a, b)
    t, f = _two_sum(a_low, b_low)
    s, e = _two_sum(s, e + t)
    return _two_sum(s, e + f)


@njit()
def _multiply(a, a_low, b, b_low):
    p, e = _two_product(a, b)
    return _two_sum(p, e + (a * b_low + a_low * b))


@njit()
def _divide(a, a_low, b, b_low):
    q = a / b
    p, e = _multiply(b, b_low, q, 0.0)
    r, f = _add(a, a_low, -p, -e)
    r = (r + f) / b
    return _two_sum(q, r)


@njit(types.void(MATRIX, MATRIX, MATRIX))
def apply_data(A, x, out):
    """out = A x, for a matrix of floats and a vector of pairs."""
    for i in range(A.shape[0]):
        s = 0.0
        e = 0.0
        for j in range(A.shape[1]):
            p, f = _two_product(A[i, j], x[0, j])
            s, g = _two_sum(s, p)
            e += g + (f + A[i, j] * x[1, j])
        out[0, i], out[1, i] = _two_sum(s, e)


@njit(types.void(TENSOR, MATRIX, MATRIX))
def apply_pairs(M, x, out):
    """out = M x, for a matrix and a vector of pairs."""
    for i in range(M.shape[1]):
        s = 0.0
        e = 0.0
        for j in range(M.shape[2]):
            p, f = _multiply(M[0, i, j], M[1, i, j], x[0, j], x[1, j])
            s, e = _add(s, e, p, f)
        out[0, i], out[1, i] = s, e


@njit(types.void(MATRIX, TENSOR))
def gram_of_rows(A, out):
    """out = A A^T."""
    for i in range(A.shape[0]):
        for k in range(i + 1):
            s = 0.0
            e = 0.0
            for j in range(A.shape[1]):
                p, f = _two_product(A[i, j], A[k, j])
                s, e = _add(s, e, p, f)
            out[0, i, k], out[1, i, k] = s, e
            out[0, k, i], out[1, k, i] = s, e


@njit(types.boolean(TENSOR))
def invert(M):
    """Invert a square matrix in place, by Gauss and Jordan with row pivoting; False if it is singular to 28 digits."""
    n = M.shape[1]
    places = np.empty(n, np.int64)
    largest = 0.0
    for i in range(n):
        for j in range(n):
            largest = max(largest, abs(M[0, i, j]))
    for k in range(n):
        best = k
        for i in range(k + 1, n):
            if abs(M[0, i, k]) > abs(M[0, best, k]):
                best = i
        places[k] = best
        if not abs(M[0, best, k]) > 1e-28 * largest:
            return False
        for half in range(2):
            for j in range(n if best != k else 0):
                M[half, k, j], M[half, best, j] = M[half, best, j], M[half, k, j]
        pivot, pivot_low = M[0, k, k], M[1, k, k]
        M[0, k, k], M[1, k, k] = 1.0, 0.0
        for j in range(n):
            M[0, k, j], M[1, k, j] = _divide(M[0, k, j], M[1, k, j], pivot, pivot_low)
        for i in range(n):
            if i != k:
                f, g = -M[0, i, k], -M[1, i, k]
                M[0, i, k], M[1, i, k] = 0.0, 0.0
                if f != 0.0:
                    for j in range(n):
                        p, q = _multiply(f, g, M[0, k, j], M[1, k, j])
                        M[0, i, j], M[1, i, j] = _add(M[0, i, j], M[1, i, j], p, q)
    for k in range(n - 1, -1, -1):  # rows were exchanged before: so are columns after
        best = places[k]
        for half in range(2):
            for i in range(n if best != k else 0):
                M[half, i, k], M[half, i, best] = M[half, i, best], M[half, i, k]
    return True


@njit(types.void(TENSOR, MATRIX, types.int64))
def exchange(M, w, at):
    """Update the inverse of a matrix when its column `at` gives way to another, with ``w = M column``."""
    n = M.shape[1]
    for j in range(n):
        M[0, at, j], M[1, at, j] = _divide(M[0, at, j], M[1, at, j], w[0, at], w[1, at])
    for i in range(n):
        if i != at and w[0, i] != 0.0:
            for j in range(n):
                p, q = _multiply(-w[0, i], -w[1, i], M[0, at, j], M[1, at, j])
                M[0, i, j], M[1, i, j] = _add(M[0, i, j], M[1, i, j], p, q)


@njit(types.void(VECTOR, MATRIX, MATRIX, MATRIX))
def add_multiple(factor, a, b, out):
    """out = a + factor b, vectors of pairs; `factor` is one pair."""
    for i in range(a.shape[1]):
        p, q = _multiply(factor[0], factor[1], b[0, i], b[1, i])
        out[0, i], out[1, i] = _add(a[0, i], a[1, i], p, q)


def pairs(values):
    """Return floats as pairs."""
    values = np.asarray(values, dtype=float)
    return np.ascontiguousarray(np.stack([values, np.zeros_like(values)]))


def product(A, x):
    """Return A x as pairs: A of floats, or of pairs."""
    out = np.empty((2, A.shape[-2]))
    entry_point(apply_data if A.ndim == 2 else apply_pairs)(np.ascontiguousarray(A), np.ascontiguousarray(x), out)
    return out


def total(a, b, factor=1.0):
    """Return ``a + factor b`` of pairs; `factor` is a float."""
    out = np.empty_like(a)
    entry_point(add_multiple)(np.array([factor, 0.0]), np.ascontiguousarray(a), np.ascontiguousarray(b), out)
    return out


def inner(a, b):
    """Return the inner product of floats `a` and pairs `b`, a pair of shape (2,)."""
    return product(np.asarray(a, dtype=float)[None, :], b)[:, 0]


def inverse(M):
    """Return the inverse of a square matrix of floats or pairs, as pairs; None if it is singular to 28 digits."""
    M = pairs(M) if M.ndim == 2 else np.array(M)
    return M if entry_point(invert)(M) else None


def gram(A):
    """Return A A^T as pairs, for A of floats."""
    out = np.empty((2, A.shape[0], A.shape[0]))
    entry_point(gram_of_rows)(np.ascontiguousarray(A), out)
    return out


def replaced(M, w, at):
    """Update the inverse M, pairs, in place: column `at` of what it inverts gives way to one with ``M column = w``."""
    entry_point(exchange)(M, np.ascontiguousarray(w), at)
