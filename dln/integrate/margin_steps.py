"""Gradient descent on two classes, step by step: one compiled loop, in logarithms of the weights."""

import math

import numpy as np
from numba import types

from .._jit import DATA_MATRIX, DATA_VECTOR, VECTOR, njit
from .._linalg import copy

# Why the loop stopped.
DONE, AT_MARGIN, OVERFLOWING, VANISHED = range(4)

_LARGEST = 340.0  # of log beta: sums of squares of beta stay in the range of floats

DESCEND = types.UniTuple(types.int64, 2)(
    DATA_MATRIX, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, types.boolean, types.boolean, VECTOR, types.float64,
    VECTOR, VECTOR,
)


@njit(types.float64(DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, VECTOR, VECTOR), allocates=False)
def predictor(Z, log_u, log_v, beta, margins):
    """Fill ``beta = u^2 - v^2`` and the margins ``Z beta``; give the least margin, NaN where a weight overflows."""
    n, d = Z.shape
    fits = True
    for j in range(d):
        top = 2.0 * max(log_u[j], log_v[j])
        fits &= top < _LARGEST
        size = math.exp(top) * -math.expm1(-2.0 * abs(log_u[j] - log_v[j])) if fits else 0.0
        beta[j] = size if log_u[j] >= log_v[j] else -size
    least = math.inf
    for i in range(n):
        s = 0.0
        for j in range(d):
            s += Z[i, j] * beta[j]
        margins[i] = s
        least = min(least, s)
    return least if fits else math.nan


@njit(DESCEND)
def descend(Z, log_u, log_v, sign_u, sign_v, dual, steps, logistic, normalized, beta, margin_end, margins, a):
    """Make one step for each entry of `steps`, in place; return (why it stopped, how many were made).

    A step of size eta multiplies u by ``1 + 2 eta Z^T a`` and v by ``1 - 2 eta Z^T a``, ``a_i = -l'(m_i)/N``; normalised, a is
    divided by the mean loss, and nothing underflows.  A step that would overflow is not made.
    """
    n, d = Z.shape
    before = np.empty((4, d))
    least = predictor(Z, log_u, log_v, beta, margins)
    for k in range(len(steps)):
        if least >= margin_end:
            return AT_MARGIN, k
        loss, vanished = 0.0, False
        shift = least if normalized else 0.0  # a common factor exp(-least) of a and of the loss
        for i in range(n):
            m = margins[i]
            if logistic:
                e = math.exp(-abs(m))
                slope, value = (e if m > 0.0 else 1.0) / (1.0 + e), max(-m, 0.0) + math.log1p(e)
                if m > 0.0 and shift > 0.0:
                    one = math.exp(shift - m)
                    slope = one / (1.0 + e)
                    value = one * (math.log1p(e) / e if e > 0.0 else 1.0)
            else:
                slope = value = math.exp(shift - m)
            a[i] = slope
            loss += value
        for i in range(n):
            a[i] *= steps[k] / (loss if normalized else n)
        copy(log_u, before[0])
        copy(log_v, before[1])
        copy(sign_u, before[2])
        copy(sign_v, before[3])
        for j in range(d):
            turn = 0.0
            for i in range(n):
                turn += Z[i, j] * a[i]
            turn *= 2.0
            if turn <= -1.0:
                sign_u[j] = -sign_u[j]
            if turn >= 1.0:
                sign_v[j] = -sign_v[j]
            vanished |= abs(turn) == 1.0
            log_u[j] += math.log1p(turn) if turn > -1.0 else math.log(-1.0 - turn)
            log_v[j] += math.log1p(-turn) if turn < 1.0 else math.log(turn - 1.0)
        least = math.nan if vanished else predictor(Z, log_u, log_v, beta, margins)
        if math.isnan(least):
            copy(before[0], log_u)
            copy(before[1], log_v)
            copy(before[2], sign_u)
            copy(before[3], sign_v)
            predictor(Z, log_u, log_v, beta, margins)
            return VANISHED if vanished else OVERFLOWING, k
        for i in range(n):
            dual[i] += a[i]
    return (AT_MARGIN if least >= margin_end else DONE), len(steps)
