"""The way of the dual solution from scale to scale, compiled: `dln._dual` says what is solved, and why the way works.

It takes no detour where rounding catches it; then it reports an infinite residual.
"""

import math
from collections import namedtuple

import numpy as np
from numba import types

from .._dual_kernels import direction, line_search, point
from .._jit import DATA_MATRIX, DATA_VECTOR, INTEGERS, MATRIX, REDUCTION, VECTOR, njit
from .._linalg import copy, matvec, norm, rmatvec

MAX_NEWTON = 100
_MAX_TOTAL = 2000
_ROUGH = 1e-3  # relative residual on the way
_SHORT = 10.0  # a way this short in log alpha needs no continuation
_SPREAD = 70.0  # of log(u^2 + v^2) over the coordinates, up to which tangents by the normal equations are as good as others
_TURN = 2e-3  # a cell this near to the one before needs no tangent

#: Of the path: log alpha at its end (d,), its speed (d,), log(u0/v0) (d,).
#: Of the point: nu (n,), w (d,), correction (d,): ``4 X^T nu + log(u0/v0) = w + correction``.
#: What a point yields: log sizes, sizes, b (d,), r (n,).
Path = namedtuple("Path", "X y scale log_alpha speed ratio position")
Point = namedtuple("Point", "nu w correction log_sizes sizes b r")
Work = namedtuple("Work", "d n log_scale best_nu best_w best_correction tangent rows right order")
PATH = types.NamedTuple((DATA_MATRIX, DATA_VECTOR, *(VECTOR,) * 5), Path)
POINT = types.NamedUniTuple(VECTOR, 7, Point)
WORK = types.NamedTuple((MATRIX, MATRIX, *(VECTOR,) * 5, MATRIX, VECTOR, INTEGERS), Work)

RAISED, STEP, POSITION_SIZE = range(3)

#: The relative residual, how many iterations, and the size of the last step.
_OUTCOME = types.Tuple((types.float64, types.int64, types.float64))


@njit(types.Tuple((PATH, POINT, WORK))(DATA_MATRIX, DATA_VECTOR))
def room(X, y):
    """Return an empty `Path`, `Point` and `Work` for a problem."""
    n, d = X.shape
    path = Path(X, y, np.zeros(1), np.zeros(d), np.zeros(d), np.zeros(d), np.zeros(POSITION_SIZE))
    place = Point(np.zeros(n), np.zeros(d), np.zeros(d), np.zeros(d), np.zeros(d), np.zeros(d), np.zeros(n))
    work = Work(np.empty((5, d)), np.empty((3, n)), np.empty(d), np.empty(n), np.empty(d), np.empty(d), np.empty(n),
                np.empty((n, d)), np.empty(d), np.empty(d, dtype=np.int64))
    return path, place, work


@njit(types.void(PATH, VECTOR), allocates=False)
def scales_here(path, log_scale):
    """Fill log alpha^2 at this position of the path."""
    for j in range(log_scale.shape[0]):
        log_scale[j] = 2.0 * (path.log_alpha[j] + path.position[RAISED] * path.speed[j])


@njit(types.void(PATH, POINT), allocates=False)
def reflect(path, place):
    """Set w to ``log(u0/v0) + 4 X^T nu``, without a correction."""
    rmatvec(path.X, place.nu, 4.0, place.w)
    for j in range(place.w.shape[0]):
        place.w[j] += path.ratio[j]
        place.correction[j] = 0.0


@njit(types.boolean(PATH, POINT, WORK), allocates=False)
def evaluate(path, place, work):
    """Fill what the point yields at the scale in ``work.log_scale``; False where weights overflow."""
    return point(path.X, path.y, work.log_scale, place.w, place.correction, place.log_sizes, place.sizes, place.b, place.r,
                 work.d)


@njit(_OUTCOME(PATH, POINT, WORK, types.float64, types.int64), allocates=False)
def newton(path, place, work, tol, limit):
    """Damped Newton from the point; leave it at the best point seen; return its relative residual, the steps, the last's size.

    The size is the largest change of a log weight in a full step; beyond it an error is of the order of its square.
    """
    X, y, d = path.X, path.y, place.w.shape[0]
    log_scale, p, change, moved = work.log_scale, work.n[0], work.right, work.rows[0]
    scales_here(path, log_scale)
    best = np.inf
    stalled = 0
    reached = False
    last = np.inf
    last_at_best = np.inf
    used = 0
    for iteration in range(limit + 1):
        if not evaluate(path, place, work):
            break
        residual = norm(place.r) / path.scale[0]
        if not residual < 1e150:
            break
        stalled = 0 if residual < 0.5 * best else stalled + 1
        if residual < best:
            best = residual
            last_at_best = last
            copy(place.nu, work.best_nu)
            copy(place.w, work.best_w)
            copy(place.correction, work.best_correction)
        polished = reached
        reached = reached or residual <= tol
        # One step beyond the tolerance: Newton is quadratic there, and ill-conditioned data multiply what is left.
        if polished or (reached and tol > 1e-6) or stalled >= 6 or iteration == limit:
            break
        if not direction(X, place.sizes, place.r, p):
            break
        rmatvec(X, p, 4.0, change)
        constant = 0.0
        for i in range(p.shape[0]):
            constant += y[i] * p[i]
        for j in range(d):
            moved[j] = place.w[j] + place.correction[j]
        damping = line_search(log_scale, moved, change, constant, work.d)
        last = 0.0
        largest = 0.0
        for j in range(d):
            place.correction[j] += damping * change[j]
            last = max(last, abs(change[j]))
            largest = max(largest, abs(place.correction[j]))
        for i in range(p.shape[0]):
            place.nu[i] += damping * p[i]
        if largest > 1.0:
            reflect(path, place)
        used += 1
    copy(work.best_nu, place.nu)
    copy(work.best_w, place.w)
    copy(work.best_correction, place.correction)
    return best, used, last_at_best


@njit(types.boolean(MATRIX, VECTOR, VECTOR, INTEGERS), fastmath=REDUCTION, allocates=False)
def _weighted_least_squares(rows, right, solution, pivots):
    """Minimise ``|rows^T solution - right|``, destroying rows (n, d) and right (d,); False where the rows are dependent.

    Householder QR with column pivoting, of the transpose, whose rows are sorted by falling weight: accurate row by row however
    far the weights spread (Cox & Higham 1998, Numer. Algorithms 19, 23).
    """
    n, d = rows.shape
    for k in range(n):
        pivots[k] = k
    for k in range(n):
        largest = -1.0
        which = k
        for i in range(k, n):
            total = 0.0
            for j in range(k, d):
                total += rows[i, j] * rows[i, j]
            if total > largest:
                largest = total
                which = i
        if which != k:
            pivots[k], pivots[which] = pivots[which], pivots[k]
            for j in range(d):
                rows[k, j], rows[which, j] = rows[which, j], rows[k, j]
        length = math.sqrt(largest)
        if not length > 0.0:
            return False
        head = rows[k, k]
        diagonal = -length if head > 0.0 else length
        rows[k, k] = head - diagonal  # rows[k, k:] is now the reflector v, with 2/|v|^2 = -1/(diagonal v_k)
        factor = -1.0 / (diagonal * rows[k, k])
        for i in range(k + 1, n):
            s = 0.0
            for j in range(k, d):
                s += rows[k, j] * rows[i, j]
            s *= factor
            for j in range(k, d):
                rows[i, j] -= s * rows[k, j]
        s = 0.0
        for j in range(k, d):
            s += rows[k, j] * right[j]
        s *= factor
        for j in range(k, d):
            right[j] -= s * rows[k, j]
        rows[k, k] = diagonal
    # rows[i, k], k <= i, is R[k, i] now.
    for k in range(n - 1, -1, -1):
        s = right[k]
        for i in range(k + 1, n):
            s -= rows[i, k] * solution[pivots[i]]
        solution[pivots[k]] = s / rows[k, k]
    return True


@njit(types.boolean(PATH, POINT, WORK))
def _tangent(path, place, work):
    """Fill ``work.tangent`` with d nu / d raised along ``X b = y``; False where it cannot be had.

    By the normal equations, those of a Newton step, where weights do not spread too far for them; else by least squares, which
    takes five times as long as all the rest of a step.
    """
    X, order, right = path.X, work.order, work.right
    n, d = X.shape
    if place.log_sizes.max() - place.log_sizes.min() < _SPREAD:
        for j in range(d):
            right[j] = 2.0 * path.speed[j] * place.b[j]
        matvec(X, right, work.n[1])
        if direction(X, place.sizes, work.n[1], work.tangent):
            return True
    falling = np.argsort(-place.log_sizes)
    for k in range(d):
        order[k] = falling[k]
    top, bottom = place.log_sizes[order[0]], place.log_sizes[order[d - 1]]
    # Where even the logarithms of the weights span too much they are compressed: nothing changes while gaps stay large.
    squeeze = min(1.0, 600.0 / max(top - bottom, 1e-300))
    for k in range(d):
        j = order[k]
        weight = math.exp(0.5 * squeeze * (place.log_sizes[j] - top))
        right[k] = -0.5 * path.speed[j] * math.tanh(place.w[j] + place.correction[j]) * weight
        for i in range(n):
            work.rows[i, k] = X[i, j] * weight
    return _weighted_least_squares(work.rows, right, work.tangent, np.empty(n, dtype=np.int64))


@njit(types.float64(PATH, POINT, WORK, types.float64), allocates=False)
def _landing(path, place, work, dormant):
    """Return how far the path may fall before a dormant coordinate wakes: it is not to overshoot by more than e^3."""
    turning = work.right
    rmatvec(path.X, work.tangent, 4.0, turning)
    first = np.inf
    for j in range(turning.shape[0]):
        sign = 1.0 if place.w[j] + place.correction[j] >= 0.0 else -1.0
        rate = -(2.0 * path.speed[j] + sign * turning[j])
        if place.log_sizes[j] < dormant and rate > 0.0:
            first = min(first, (dormant + 3.0 - place.log_sizes[j]) / rate)
    return first


@njit(_OUTCOME(PATH, POINT, WORK, types.float64, types.float64, types.float64))
def _descend(path, place, work, residual, tol, top):
    """Follow the solution from a point near it to the end of the path; return as `newton` does."""
    position = path.position
    dormant = 2.0 * top + math.log(1e-8)
    total = 0
    last = np.inf
    start_nu = np.empty(place.nu.shape[0])
    while position[RAISED] > 0.0 and total < _MAX_TOTAL:
        scales_here(path, work.log_scale)
        if not evaluate(path, place, work) or not _tangent(path, place, work):
            return np.inf, total, last
        before = position[RAISED]
        position[RAISED] = max(0.0, before - min(position[STEP], _landing(path, place, work, dormant)))
        at_end = position[RAISED] == 0.0
        copy(place.nu, start_nu)
        for i in range(start_nu.shape[0]):
            place.nu[i] += (position[RAISED] - before) * work.tangent[i]
        reflect(path, place)
        residual, used, last = newton(path, place, work, tol if at_end else _ROUGH, 30)
        total += used + 1
        if not residual <= _ROUGH:
            position[STEP] = 0.3 * (before - position[RAISED])
            position[RAISED] = before
            copy(start_nu, place.nu)
            reflect(path, place)
            if position[STEP] < 1e-3:
                return np.inf, total, last
        elif not at_end:  # a step that the end has cut short says nothing of longer ones
            longer = 4.0 if used <= 3 else 2.0 if used <= 8 else 0.7
            position[STEP] = max(position[STEP], before - position[RAISED]) * longer
    if position[RAISED] > 0.0:
        return np.inf, total, last
    if residual > tol:
        residual, used, last = newton(path, place, work, tol, MAX_NEWTON)
        total += used
    return residual, total, last


@njit(_OUTCOME(PATH, POINT, WORK, types.float64, types.float64), allocates=False)
def follow(path, place, work, tol, top):
    """Solve at the end of the path from nothing: from a scale at which the problem is nearly quadratic, down."""
    position = path.position
    position[RAISED] = 0.0
    for j in range(place.w.shape[0]):
        path.speed[j] = max(0.0, top - path.log_alpha[j])
        position[RAISED] = max(position[RAISED], path.speed[j])
    if position[RAISED] < _SHORT:
        position[RAISED] = 0.0  # a short way is found at once
    else:
        for j in range(place.w.shape[0]):
            path.speed[j] /= position[RAISED]
    position[STEP] = 3.0
    place.nu[:] = 0.0
    reflect(path, place)
    residual, used, last = newton(path, place, work, tol if position[RAISED] == 0.0 else _ROUGH, MAX_NEWTON)
    if position[RAISED] == 0.0:
        return residual, used, last
    if not residual <= _ROUGH:
        return np.inf, used, last
    residual, more, last = _descend(path, place, work, residual, tol, top)
    return residual, used + more, last


@njit(_OUTCOME(PATH, POINT, WORK, VECTOR, types.float64, types.float64), allocates=False)
def go_on(path, place, work, log_alpha, tol, top):
    """Solve at `log_alpha` (d,) from the solution at the end of the path."""
    position, d = path.position, log_alpha.shape[0]
    position[RAISED] = 0.0
    for j in range(d):
        path.speed[j] = path.log_alpha[j] - log_alpha[j]
        position[RAISED] = max(position[RAISED], path.speed[j])
        path.log_alpha[j] = log_alpha[j]
    if position[RAISED] > 0.0:
        for j in range(d):
            path.speed[j] /= position[RAISED]
    reflect(path, place)
    if position[RAISED] < _TURN:
        position[RAISED] = 0.0
        return newton(path, place, work, tol, 30)
    return _descend(path, place, work, np.inf, tol, top)
