"""Limits of many cells of one problem in one kernel: from scale to scale, or from where a flow has stopped."""

import math

import numpy as np
from numba import types

from .._dual_kernels import direction
from .._gram import gram
from .._jit import DATA_INTEGERS, DATA_MATRIX, DATA_VECTOR, INTEGERS, MATRIX, VECTOR, njit
from .._linalg import copy, matvec, norm, rmatvec
from .dual_path import MAX_NEWTON, PATH, POINT, RAISED, STEP, WORK, evaluate, follow, go_on, newton, reflect, room, scales_here

GOOD, OPEN = range(2)
_CAUTION = 3.0  # times the estimate of an error
_FARTHEST = 0.3  # a flow with a longer way to go, in the logarithms of the weights that make it, is far from linear,
_DOUBT = 100.0  # and what was estimated as if it were linear is believed to this factor only
MOST_UNKNOWN = 1e-3  # of log alpha_eff: a flow whose end is known less well is not closed

#: ``betas (C, d), nus (C, N), residuals, gaps, errors, errors of the way, norms of residuals (C,)``, and integers ``outcomes,
#: iterations (C,)``.
LIMITS = types.Tuple((MATRIX, MATRIX, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, INTEGERS, INTEGERS))
_CLOSE = types.Tuple((types.float64, types.int64, types.float64, types.float64))(
    PATH, POINT, WORK, types.float64, DATA_VECTOR, types.float64)


@njit(types.float64(PATH, POINT), allocates=False)
def divergence(path, place):
    """Return the Bregman divergence of b from the centre, at the end of the path, without cancellation."""
    total = 0.0
    for j in range(place.w.shape[0]):
        ratio, log_scale = path.ratio[j], 2.0 * path.log_alpha[j]
        turn = place.w[j] + place.correction[j] - ratio
        if abs(turn) < 0.5:
            # With s, c for sinh and cosh of the ratio: c (turn sinh - cosh + 1) + s (turn cosh - sinh), both by their series.
            t2 = turn * turn
            even = t2 * (0.5 + t2 * (0.125 + t2 * (1.0 / 144.0 + t2 / 5760.0)))
            odd = turn * t2 * (1.0 / 3.0 + t2 * (1.0 / 30.0 + t2 * (1.0 / 840.0 + t2 / 45360.0)))
            up, down = math.exp(log_scale + ratio), math.exp(log_scale - ratio)
            total += 0.25 * ((up + down) * even + (up - down) * odd)
        else:
            start = math.exp(log_scale + ratio) + math.exp(log_scale - ratio)
            total += 0.25 * (place.b[j] * turn - (place.sizes[j] - start))
    return total


@njit(types.void(DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, types.float64, types.float64, types.float64, VECTOR))
def tail(X, r, sizes, c, gamma, step, shrinkage):
    """Fill what a penalty will still shrink on the way to the limit, int q from here on (d,), to leading order in r.

    Close to the limit ``r' = -(K + gamma K^2) r`` with ``K = 4 c X diag(sizes) X^T``, so that ``P = int r r^T`` solves a
    Lyapunov equation, and ``q_j = 2 gamma c^2 (x_j.r)(x_j.(I + step K) r)``.
    """
    n, d = X.shape
    K = np.empty((n, n))
    gram(X, 4.0 * c * sizes, K)
    values, vectors = np.linalg.eigh(K)
    a = np.dot(r, vectors)
    Z = np.dot(vectors.T, X)
    for i in range(n):
        values[i] = max(values[i], 1e-16 * values[n - 1])
    for i in range(n):
        for k in range(n):
            rate = values[i] * (1.0 + gamma * values[i]) + values[k] * (1.0 + gamma * values[k])
            K[i, k] = 2.0 * gamma * c * c * a[i] * a[k] / rate * (1.0 + 0.5 * step * (values[i] + values[k]))
    W = np.dot(K, Z)
    for j in range(d):
        total = 0.0
        for i in range(n):
            total += Z[i, j] * W[i, j]
        shrinkage[j] = total


@njit(types.float64(PATH, POINT, WORK, DATA_VECTOR))
def _moves(path, place, work, shrinkage):
    """Return by how much the limit at `place` moves, relative to it, if int q (d,) changes by `shrinkage`, to first order.

    ``d beta = 2 beta d log alpha + sizes (4 X^T d nu)``, and ``X d beta = 0``.
    """
    X, first, moved = path.X, work.d[0], work.d[1]
    p = np.empty(place.r.shape[0])
    for j in range(first.shape[0]):
        first[j] = -4.0 * place.b[j] * shrinkage[j]
    matvec(X, first, work.n[0])
    if not direction(X, place.sizes, work.n[0], p):
        return np.inf
    rmatvec(X, p, 4.0, moved)
    for j in range(first.shape[0]):
        moved[j] = first[j] + place.sizes[j] * moved[j]
    length = norm(place.b)
    return norm(moved) / length if length > 0.0 else 0.0


@njit(_CLOSE)
def _close(path, place, work, c, penalty, tol):
    """From a point of the flow: shrink as it will, and go to the limit; return as `newton` does, and the error of beta.

    The error is an estimate: what shrinks from here on moves beta by so much, times how far from linear the rest of the way is.
    """
    X, d = path.X, place.w.shape[0]
    shrinkage, moved = np.empty(d), np.empty(d)
    path.position[RAISED] = 0.0
    reflect(path, place)
    scales_here(path, work.log_scale)
    fits = evaluate(path, place, work)
    p = np.empty(place.r.shape[0])
    if not fits or not direction(X, place.sizes, place.r, p):
        return np.inf, 0, np.inf, np.inf
    rmatvec(X, p, 4.0, moved)
    farthest = 0.0
    largest = 0.0
    for j in range(d):
        farthest = max(farthest, abs(moved[j]))
    tail(X, place.r, place.sizes, c, penalty[0], penalty[1], shrinkage)
    for j in range(d):
        path.log_alpha[j] -= 2.0 * shrinkage[j]
        farthest = max(farthest, 2.0 * abs(shrinkage[j]))
        largest = max(largest, 2.0 * abs(shrinkage[j]))
    doubt = min(1.0, _CAUTION * farthest)
    if not largest * doubt <= MOST_UNKNOWN:
        return np.inf, 1, np.inf, np.inf
    w, sizes = place.w.copy(), place.sizes.copy()
    residual, used, last = newton(path, place, work, tol, MAX_NEWTON)
    way = 0.0
    squares = 0.0
    for j in range(d):
        step = abs(place.w[j] + place.correction[j] - w[j])
        size = max(sizes[j], place.sizes[j])
        way += size * step
        squares += size * step * step
    if not squares <= _FARTHEST * way:
        doubt = _DOUBT
    return residual, used + 2, last, _moves(path, place, work, shrinkage) * doubt


PATHS = types.void(DATA_MATRIX, DATA_VECTOR, types.float64, types.float64, MATRIX, DATA_MATRIX, DATA_MATRIX, DATA_MATRIX,
                   DATA_MATRIX, types.float64, DATA_INTEGERS, LIMITS, VECTOR, INTEGERS,
                   types.int64)


@njit(PATHS)
def limits_of(X, y, c, top, log_alphas, log_ratios, starts, penalties, wrong, tol, order, limits, memory, cursor, share):
    """Solve for the limits of up to `share` cells, in the given order; the cursor says how many are done.

    `log_alphas` and `log_ratios` are (C or 1, d or 1), `top` is the log of the scale at which the problem is nearly quadratic.
    ``starts`` (C, N) are where Newton starts from, if that is known.  Where that is the nu of a flow that has come close,
    ``penalties`` (C or 1, 2) are its strength and ascent step, and `log_alphas` (C, d) its effective scales, which shrink to
    those of the limits; ``wrong`` (C, d) are the errors of its int q, by which beta is off by the error of the way.  Else they
    are empty.  Without starts each cell starts from the one before, if that has the same shape
    and no smaller scale; `memory` (n + 2d + 1,) keeps it between calls.
    """
    started = starts.shape[0] > 0
    betas, nus, residuals, gaps, errors, way_errors, norms, outcomes, iterations = limits
    n, d = X.shape
    path, place, work = room(X, y)
    here = np.empty(d)
    norm_of_y = norm(y)
    known = memory[n + 2 * d] > 0.0
    copy(memory[:n], place.nu)
    copy(memory[n:n + d], path.log_alpha)
    copy(memory[n + d:n + 2 * d], path.ratio)
    path.position[STEP] = 3.0
    for _ in range(min(share, order.shape[0] - cursor[0])):
        i = order[cursor[0]]
        cursor[0] += 1
        scale, ratio = log_alphas[i if log_alphas.shape[0] > 1 else 0], log_ratios[i if log_ratios.shape[0] > 1 else 0]
        same = known and not started
        highest = -np.inf
        for j in range(d):
            here[j] = scale[j if scale.shape[0] > 1 else 0]
            shape = ratio[j if ratio.shape[0] > 1 else 0]
            same = same and shape == path.ratio[j] and here[j] <= path.log_alpha[j]
            highest = max(highest, path.log_alpha[j])
            path.ratio[j] = shape
        same = same and highest <= top  # above, the problem is nearly quadratic, and nothing is gained
        path.scale[0] = norm_of_y
        for j in range(d):
            place.w[j] = path.ratio[j]
            place.correction[j] = 0.0
            work.log_scale[j] = 2.0 * here[j]
        if evaluate(path, place, work):
            path.scale[0] = max(norm_of_y, norm(place.r))
        error = 0.0
        if path.scale[0] == 0.0:  # it starts at its limit
            copy(here, path.log_alpha)
            path.position[RAISED] = 0.0
            place.nu[:] = 0.0
            reflect(path, place)
            residual, used, last = 0.0, 0, 0.0
        elif started:
            copy(here, path.log_alpha)
            copy(starts[i], place.nu)
            if penalties.shape[0] > 0:
                penalty = penalties[i if penalties.shape[0] > 1 else 0]
                residual, used, last, error = _close(path, place, work, c, penalty, tol)
                copy(path.log_alpha, log_alphas[i])
            else:
                path.position[RAISED] = 0.0
                reflect(path, place)
                residual, used, last = newton(path, place, work, tol, MAX_NEWTON)
        elif same:
            residual, used, last = go_on(path, place, work, here, tol, top)
        else:
            copy(here, path.log_alpha)
            residual, used, last = follow(path, place, work, tol, top)
        iterations[i] = used
        known = residual <= tol
        outcomes[i] = GOOD if known else OPEN
        residuals[i] = residual
        if known:
            path.position[RAISED] = 0.0
            scales_here(path, work.log_scale)
            evaluate(path, place, work)
            copy(place.b, betas[i])
            copy(place.nu, nus[i])
            norms[i] = norm(place.r)
            # b is the mirror image of nu: the gap is nu.(X b - y) exactly, and its terms do not cancel against each other.
            gap = 0.0
            for k in range(n):
                gap += place.nu[k] * place.r[k]
            whole = divergence(path, place)
            gaps[i] = abs(gap) / whole if whole > 0.0 else 0.0
            errors[i] = max(error, last * last)
            way_errors[i] = _moves(path, place, work, wrong[i]) if wrong.shape[0] > 0 else 0.0
    copy(place.nu, memory[:n])
    copy(path.log_alpha, memory[n:n + d])
    copy(path.ratio, memory[n + d:n + 2 * d])
    memory[n + 2 * d] = 1.0 if known else 0.0
