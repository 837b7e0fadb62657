"""Stretches of a rule that shrinks on the same coordinates: the small problem, and Q of those that sleep meanwhile."""

import numpy as np
from numba import types

from .._inverse_factor import solve_factorized
from .._jit import DATA_MATRIX, INTEGERS, MATRIX, TENSOR, VECTOR, njit
from .._linalg import norm, rmatvec
from .reduced import BASIS, split
from .state import BETA, LOG_PRODUCT, LOG_RATIO, PRODUCT, RATIO, SCALE, SIZE, SYSTEM, WORK

_SPREAD = types.float64(SYSTEM, SYSTEM, VECTOR, MATRIX, types.float64, types.float64, VECTOR, VECTOR, VECTOR, VECTOR, INTEGERS)

_SEEMING = 0.5  # error of the log weights of those that sleep, for the time being


@njit(types.boolean(VECTOR, MATRIX, types.float64), allocates=False)
def drifts(p, start, elapsed):
    """Whether q, nearly proportional to p^2, may have changed so much in a stretch that sleepers are not where they seem."""
    farthest = 0.0
    for j in range(p.shape[0]):
        was = start[4, j] * start[4, j]
        farthest = max(farthest, abs(start[3, j] * (p[j] * p[j] - was)) / (was + 1e-300))
    return not 4.0 * elapsed * farthest <= _SEEMING


@njit(types.void(SYSTEM, BASIS, VECTOR, VECTOR, types.int64, MATRIX), allocates=False)
def gather(here, basis, inside, buffer, n, part_rows):
    """Fill the rows of the small problem, and `buffer` with its data: R, and a target that accounts for the others."""
    R, columns = basis.R, basis.columns
    k, size = R.shape
    d = here.X.shape[1]
    for q in range(size):
        j = columns[q]
        part_rows[LOG_PRODUCT, q], part_rows[LOG_RATIO, q] = here.rows[PRODUCT, j], here.rows[RATIO, j]
        part_rows[SCALE, q] = 0.0
        part_rows[BETA, q], part_rows[SIZE, q] = here.rows[BETA, j], here.rows[SIZE, j]
    for i in range(k):
        fitted = 0.0
        for q in range(size):
            buffer[i * size + q] = R[i, q]
            fitted += R[i, q] * part_rows[BETA, q]
        buffer[n * d + i] = fitted - inside[i]


@njit(types.void(MATRIX, types.float64, types.float64, types.float64, DATA_MATRIX, TENSOR), allocates=False)
def add_up(trace, length, scale, w, weights, sums):
    """Fill sums[2:] (k + 1, k + 1) with the integral of ``a b^T`` over a step, and the estimate of its error."""
    k = trace.shape[1]
    step, wrong = sums[2], sums[3]
    step[:] = 0.0
    wrong[:] = 0.0
    for s in range(weights.shape[1]):
        of_step, of_error = scale * weights[0, s], scale * weights[1, s]
        left, pushed = trace[2 * s], trace[2 * s + 1]
        for i in range(k + 1):
            a = left[i] if i < k else length
            a_step, a_error = of_step * a, of_error * a
            for j in range(k):
                b = left[j] + w * pushed[j]
                step[i, j] += a_step * b
                wrong[i, j] += a_error * b
            step[i, k] += a_step * length
            wrong[i, k] += a_error * length


@njit(types.void(TENSOR), allocates=False)
def add_step(sums):
    """Add to the integrals of a stretch (sums[:2]) those of a step."""
    for k in range(2):
        for i in range(sums.shape[1]):
            for j in range(sums.shape[2]):
                sums[k, i, j] += sums[k + 2, i, j]


@njit(types.void(MATRIX, DATA_MATRIX, VECTOR, VECTOR), allocates=False)
def quadratic(form, data, out, work):
    """Fill out (d,) with ``x_j^T form x_j``, x_j the columns of the data (k + 1, d)."""
    out[:] = 0.0
    for i in range(form.shape[0]):
        rmatvec(data, form[i], 1.0, work)
        for j in range(out.shape[0]):
            out[j] += data[i, j] * work[j]


@njit(types.float64(SYSTEM, DATA_MATRIX, MATRIX, types.float64, types.float64))
def largest(here, data, form, widest, tolerance):
    """Return the largest error of a log weight in a step: that by nu is in the row WORK, that of q's integral is `form`."""
    rows = here.rows
    bound = 2.0 * norm(form.ravel()) * widest
    if not bound <= 0.1 * tolerance:
        bound = 0.0
        quadratic(form, data, rows[WORK + 1], rows[WORK + 2])
    else:
        rows[WORK + 1] = 0.0
    largest = 0.0
    for j in range(rows.shape[1]):
        found = abs(rows[WORK, j]) + 2.0 * abs(rows[WORK + 1, j])
        if not found <= largest:  # NaN included
            largest = found
    return largest + bound


@njit(types.void(SYSTEM, DATA_MATRIX, TENSOR, INTEGERS, VECTOR, VECTOR), allocates=False)
def settle_up(here, data, sums, columns, Q, error):
    """Add to Q, and to its error, what the stretch has brought to the coordinates that slept; forget it."""
    gain, wrong, work = here.rows[WORK], here.rows[WORK + 1], here.rows[WORK + 2]
    quadratic(sums[0], data, gain, work)
    quadratic(sums[1], data, wrong, work)
    for q in range(columns.shape[0]):
        gain[columns[q]] = wrong[columns[q]] = 0.0  # theirs are known
    for j in range(gain.shape[0]):
        Q[j] += gain[j]
        error[j] += wrong[j]
    sums[:] = 0.0


@njit(types.void(BASIS, MATRIX, MATRIX, VECTOR, VECTOR, VECTOR))
def carry(basis, M, W, row_scale, local, error):
    """Add a step's estimated error, and carry the sum over the step, slower than the flow itself does."""
    k, size = basis.R.shape
    n = basis.rows.shape[1]
    inside, across = np.empty(k), np.empty(n)
    split(basis, error[:n], inside, across)
    for i in range(k):
        inside[i] = (inside[i] + local[i]) * row_scale[i]
    solve_factorized(M, W, inside)
    rmatvec(basis.rows, inside, 1.0, error[:n])
    for i in range(n):
        error[i] += across[i]
    for q in range(size):
        error[n + basis.columns[q]] += local[k + q]


@njit(_SPREAD, allocates=False)
def spread(here, part, ratio, start, elapsed, asleep, z_part, f_part, Q, q, columns):
    """Bring all coordinates to the end of a step; return by how much a log weight of those awake has moved.

    Q of those that sleep moves on at its last rate, for the time being.
    """
    rows = here.rows
    size = columns.shape[0]
    k = z_part.shape[0] - size
    moved = 0.0
    for i in range(size):
        j = columns[i]
        if part.rows[PRODUCT, i] + abs(part.rows[RATIO, i]) > asleep:
            moved = max(moved, abs(part.rows[RATIO, i] - rows[RATIO, j]))
    for j in range(rows.shape[1]):
        rows[RATIO, j] = ratio[j]
        rows[PRODUCT, j] = start[1, j] - 4.0 * elapsed * start[3, j]
    for i in range(size):
        j = columns[i]
        for row in (BETA, SIZE, PRODUCT, RATIO):
            rows[row, j] = part.rows[row, i]
        Q[j] = start[2, j] + z_part[k + i]
        q[j] = f_part[k + i]
    return moved
