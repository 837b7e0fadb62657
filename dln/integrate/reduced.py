"""Gradient flow restricted to the coordinates that are awake: as few equations as they have dimensions.

Let A be the coordinates that are awake, ``X_A = Q R`` with orthonormal columns Q (n, k) and R (k, m), k at most n and m.
Across span(X_A) nu moves in a straight line, since its velocity there is that of the residual ``X beta - y`` of the others,
which are held; inside, ``z = Q^T nu`` follows the flow of a smaller problem:

    z' = c (R beta_A - b),    log(u/v)_A = log(u0/v0)_A - 4 X_A^T nu.

Near the rich limit k is the number of features learnt so far, and a step costs k^3 instead of n^3.
"""

import math
from collections import namedtuple

import numpy as np
from numba import types

from .._gram import gram
from .._jit import DATA_MATRIX, DATA_VECTOR, INTEGERS, MATRIX, REDUCTION, VECTOR, njit
from .._linalg import cholesky, cholesky_solve, copy, matvec, residual, rmatvec
from ..network import evaluate_weights
from .state import BETA, PRODUCT, RATIO, SIZE, SYSTEM, WORK_RULE

_DEPENDENT = 1e-13  # what is left of a column after projection, relative to it, that counts as rounding

_ROOM = 1 << 17  # numbers of X_A, 1 MB, up to which more columns than rows are worth a basis of their own

#: Columns A (m,), ``Q^T`` (k, n), and R (k, m), all of them views of the `Space` they were built in; or ``Q = 1`` and all of X.
Basis = namedtuple("Basis", "columns rows R")
#: Room for a `Basis` and for a step: indices (d,), Q^T (n, n), R as it grows (n, most), R packed (n most,), a column (n,),
#: K (stages, n), M (n n,), coordinates (WORK_ROWS, d), the vector b (n,).
Space = namedtuple("Space", "columns rows grown packed column stages matrix work vector")
BASIS = types.NamedTuple((INTEGERS, MATRIX, DATA_MATRIX), Basis)
SPACE = types.NamedTuple((INTEGERS, MATRIX, MATRIX, VECTOR, VECTOR, MATRIX, VECTOR, MATRIX, VECTOR), Space)
MEMBERS = types.Array(types.boolean, 1, "C")  # whether a coordinate is one
_ATTEMPT = types.boolean(
    BASIS, SYSTEM, types.float64, VECTOR, types.float64, DATA_MATRIX, DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, types.float64,
    VECTOR, VECTOR, MATRIX, SPACE,
)

# Rows of the coordinates' work during a step.
(_RATIO, _PRODUCT, _STAGE_RATIO, _BETA, _SIZE, _WEIGHT, _WORK_ROWS) = range(7)


@njit(SPACE(types.int64, types.int64, types.int64))
def room(n, d, stages):
    """Return `Space` for bases of columns of an (n, d) matrix."""
    most = min(d, max(n, _ROOM // n)) if n > 0 else d
    return Space(np.empty(d, dtype=np.int64), np.empty((n, n)), np.empty((n, most)), np.empty(n * most), np.empty(n),
                 np.empty((stages, n)), np.empty(n * n), np.empty((_WORK_ROWS, d)), np.empty(n))


@njit(DATA_MATRIX(DATA_MATRIX))
def _read_only(matrix):
    return matrix


@njit(types.boolean(DATA_MATRIX, MEMBERS), allocates=False)
def _too_many(X, member):
    """Whether so many columns take part that a basis of them spans everything, and R would be a second X."""
    n = X.shape[0]
    count = 0
    for j in range(member.shape[0]):
        count += member[j]
    return count > n and n * count > _ROOM


@njit(BASIS(DATA_MATRIX, SPACE))
def _all_columns(X, space):
    n, d = X.shape
    for j in range(d):
        space.columns[j] = j
    for q in range(n):
        for i in range(n):
            space.rows[q, i] = 1.0 if q == i else 0.0
    return Basis(space.columns[:d], space.rows[:n], _read_only(X))


@njit(types.int64(DATA_MATRIX, SPACE, types.int64, types.int64, types.int64), fastmath=REDUCTION, allocates=False)
def _append(X, space, k, m, j):
    """Append column j of X to a basis of rank k and m columns; return the new rank.

    Gram-Schmidt, done twice: twice is enough (Giraud, Langou & Rozloznik 2005).
    """
    n = X.shape[0]
    rows, R, v = space.rows, space.grown, space.column
    space.columns[m] = j
    start = 0.0
    for i in range(n):
        v[i] = X[i, j]
        start += v[i] * v[i]
        R[i, m] = 0.0
    for _ in range(2):
        for q in range(k):
            s = 0.0
            for i in range(n):
                s += rows[q, i] * v[i]
            R[q, m] += s
            for i in range(n):
                v[i] -= s * rows[q, i]
    left = 0.0
    for i in range(n):
        left += v[i] * v[i]
    if k == n or left <= _DEPENDENT * _DEPENDENT * start:
        return k
    left = math.sqrt(left)
    for q in range(m):
        R[k, q] = 0.0
    R[k, m] = left
    for i in range(n):
        rows[k, i] = v[i] / left
    return k + 1


@njit(BASIS(SPACE, types.int64, types.int64))
def _packed(space, k, m):
    for q in range(k):
        for j in range(m):
            space.packed[q * m + j] = space.grown[q, j]
    return Basis(space.columns[:m], space.rows[:k], _read_only(space.packed[:k * m].reshape((k, m))))


@njit(BASIS(DATA_MATRIX, MEMBERS, SPACE))
def basis_of(X, member, space):
    """Return the `Basis` of the columns that are members (d,), or of all columns where there are too many members."""
    if _too_many(X, member):
        return _all_columns(X, space)
    k = m = 0
    for j in range(member.shape[0]):
        if member[j]:
            k = _append(X, space, k, m, j)
            m += 1
    return _packed(space, k, m)


@njit(BASIS(DATA_MATRIX, BASIS, MEMBERS, SPACE))
def extended(X, basis, member, space):
    """Return the basis (built in `space`) of all members, given that its own columns are among them."""
    if _too_many(X, member):
        return _all_columns(X, space)
    k, m = basis.R.shape
    known = m
    for j in range(member.shape[0]):
        if member[j]:
            new = True
            for q in range(known):
                if space.columns[q] == j:
                    new = False
                    break
            if new:
                k = _append(X, space, k, m, j)
                m += 1
    return _packed(space, k, m)


@njit(types.void(BASIS, DATA_VECTOR, VECTOR, VECTOR), allocates=False)
def split(basis, r, inside, across):
    """Split a vector (n,): ``inside = Q^T r`` (k,) and ``across = r - Q inside`` (n,)."""
    matvec(basis.rows, r, inside)
    rmatvec(basis.rows, inside, -1.0, across)
    for i in range(r.shape[0]):
        across[i] += r[i]


@njit(_ATTEMPT, allocates=False)
def reduced_attempt(basis, here, c, inside, h, A, C, m, e, gamma, z_new, local, M, space):
    """Attempt a step of size h of the flow of the columns of the basis with a Rosenbrock method; False if it overflows.

    `inside` is the part of the residual ``X beta - y`` in the basis.  Fills the step of z and the estimate of its local error,
    and leaves in M the Cholesky factor of ``I + h gamma K``.
    """
    R, columns = basis.R, basis.columns
    k, size = R.shape
    stages = A.shape[0]
    work = space.work.reshape(space.work.size)[:_WORK_ROWS * size].reshape((_WORK_ROWS, size))
    K = space.stages.reshape(space.stages.size)[:stages * k].reshape((stages, k))
    b = space.vector[:k]
    tau = h * gamma
    for j in range(size):
        work[_RATIO, j] = here.rows[RATIO, columns[j]]
        work[_PRODUCT, j] = here.rows[PRODUCT, columns[j]]
        work[_BETA, j] = here.rows[BETA, columns[j]]
        work[_WEIGHT, j] = 4.0 * c * tau * here.rows[SIZE, columns[j]]
    matvec(R, work[_BETA], b)
    for i in range(k):
        b[i] -= inside[i]  # the others, held, are in it
    gram(R, work[_WEIGHT], M)
    for i in range(k):
        M[i, i] += 1.0
    if not cholesky(M):
        return False
    for i in range(stages):
        k_i = K[i]
        if i == 0:
            copy(inside, k_i)
        else:
            z_new[:] = 0.0
            for j in range(i):
                weight = A[i, j]
                if weight != 0.0:
                    for q in range(k):
                        z_new[q] += weight * K[j, q]
            rmatvec(R, z_new, -4.0, work[_STAGE_RATIO])
            for j in range(size):
                work[_STAGE_RATIO, j] += work[_RATIO, j]
            if not evaluate_weights(work[_PRODUCT], work[_STAGE_RATIO], work[_BETA], work[_SIZE]):
                return False
            residual(R, work[_BETA], b, k_i)
        for q in range(k):
            k_i[q] *= c * tau
        for j in range(i):
            weight = C[i, j] * gamma
            if weight != 0.0:
                for q in range(k):
                    k_i[q] += weight * K[j, q]
        cholesky_solve(M, k_i)
    z_new[:] = 0.0
    local[:] = 0.0
    for i in range(stages):
        for q in range(k):
            z_new[q] += m[i] * K[i, q]
            local[q] += e[i] * K[i, q]
    return True


@njit(types.void(DATA_MATRIX, VECTOR), allocates=False)
def back_substitute(R, b):
    """Solve ``R x = b`` in place, R square and upper triangular."""
    for i in range(b.shape[0] - 1, -1, -1):
        s = b[i]
        for j in range(i + 1, b.shape[0]):
            s -= R[i, j] * b[j]
        b[i] = s / R[i, i]


@njit(types.void(DATA_MATRIX, VECTOR), allocates=False)
def forward_substitute(R, b):
    """Solve ``R^T x = b`` in place."""
    for i in range(b.shape[0]):
        s = b[i]
        for j in range(i):
            s -= R[j, i] * b[j]
        b[i] = s / R[i, i]


@njit(types.float64(DATA_MATRIX, VECTOR, types.float64))
def slowest_rate(R, beta, c):
    """Bound the slowest rate of ``4 c D^(1/2) R^T R D^(1/2)``, ``D = diag|beta|``, from below, by the norm of its inverse."""
    m = beta.shape[0]
    inverse = np.zeros((m, m))
    column = np.empty(m)
    for j in range(m):
        column[:] = 0.0
        column[j] = 1.0
        back_substitute(R, column)
        for i in range(j + 1):
            inverse[i, j] = column[i] / math.sqrt(abs(beta[i]))
    total = 0.0
    for i in range(m):
        for k in range(m):
            s = 0.0
            for j in range(max(i, k), m):
                s += inverse[i, j] * inverse[k, j]
            total += s * s
    return 4.0 * c / math.sqrt(total)


#: How the coordinates that take part have changed.
SAME, FEWER, MORE = range(3)

_MARGIN = 1.0  # they take part from this far below the threshold on, in log u^2,
_LINGER = 4.0  # and until this far below it, so that the basis is seldom built anew


@njit(types.int64(SYSTEM, DATA_VECTOR, types.float64, types.float64, MEMBERS), allocates=False)
def choose(here, q, h, asleep, member):
    """Mark the coordinates that take part in a step of size h; say how that differs from before: SAME, FEWER or MORE.

    `q` (d,) are their rates of shrinking, `asleep` is log u^2 below which a coordinate may sleep.
    """
    rows = here.rows
    change = SAME
    for j in range(member.shape[0]):
        top = rows[PRODUCT, j] + abs(rows[RATIO, j]) + max(0.0, 4.0 * h * (abs(rows[WORK_RULE, j]) - q[j]))
        if member[j]:
            if top <= asleep - _LINGER:
                member[j] = False
                change = FEWER
        elif top > asleep - _MARGIN:
            member[j] = True
            if change == SAME:
                change = MORE
    return change
