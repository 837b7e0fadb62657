"""Least squares with signs prescribed: `solve`, an active-set method with a warm start, and what it chooses among several."""

import numpy as np

__all__ = ["noise_of", "solve"]

_EPS = float(np.finfo(float).eps)


def noise_of(y):
    """Return how far the correlation of a residual with a unit column may be from 0 by rounding."""
    return 4.0 * _EPS * np.sqrt(len(y) + 16.0) * float(np.linalg.norm(y))


def solve(A, y, start, norms, log_unit):
    """Minimise ``|A z - y|`` subject to z >= 0.

    Parameters
    ----------
    A : ndarray (n, m)
        Unit columns.
    y : ndarray (n,)
    start : ndarray of bool (m,)
        Columns of a first guess, linearly independent, for instance the support of a neighbouring problem.
    norms : ndarray (m,)
        What the columns were divided by: ``z/norms`` are the magnitudes of the predictor.
    log_unit : float
        Logarithm of the magnitude to which these are compared where they are not unique.

    Returns
    -------
    z : ndarray (m,)
        The minimiser; where there are several, the one of most entropy: its magnitudes b minimise
        ``sum b (log b - log_unit - 1)``.
    residual : ndarray (n,)
        ``y - A z``, unique; from a projection, so that where columns nearly depend, and z is large, it does not cancel.
    support : ndarray of bool (m,)
        Linearly independent columns that reach this residual: a start for the next problem.

    References
    ----------
    Lawson & Hanson (1974), Solving Least Squares Problems, chapter 23.
    """
    m = A.shape[1]
    noise = noise_of(y)
    z, support, residual = _from(A, y, start.copy())
    banned = np.zeros(m, dtype=bool)
    for _ in range(10 * m + 10):
        slack = residual @ A
        candidates = ~support & ~banned & (slack > noise)
        if not candidates.any():
            break
        j = int(np.argmax(np.where(candidates, slack, -np.inf)))
        support[j] = True
        inside, projected = _least_squares(A, y, support)
        if inside[j] <= 0.0:  # its slack was rounding
            support[j], banned[j] = False, True
            continue
        banned[:] = False
        z, support, residual = _walk(A, y, z, support, inside, projected)
    tied = support | (np.abs(residual @ A) <= noise)
    if np.count_nonzero(tied) > np.count_nonzero(support) and support.any():
        z = _most_entropy(A, z, tied, norms, log_unit)
    return z, residual, support


def _least_squares(A, y, support):
    """Return the solution on a support, and its residual, projected twice: orthogonal up to rounding of itself."""
    z, residual = np.zeros(A.shape[1]), y
    if support.any():
        Q, R = np.linalg.qr(A[:, support])
        for _ in range(2):
            along = Q.T @ residual
            z[support] += np.linalg.solve(R, along)
            residual = residual - Q @ along
    return z, residual


def _from(A, y, support):
    """Begin with the columns of a guess that are positive without the others."""
    z, residual = _least_squares(A, y, support)
    while np.any(z[support] <= 0.0):
        support &= z > 0.0
        z, residual = _least_squares(A, y, support)
    return z, support, residual


def _walk(A, y, z, support, inside, residual):
    """Go from z towards the least squares of its support; a column that reaches 0 on the way leaves."""
    while np.any(inside[support] <= 0.0):
        falling = support & (inside <= 0.0)
        steps = np.full(z.shape, np.inf)
        steps[falling] = z[falling] / (z[falling] - inside[falling])
        step = float(np.min(steps))
        z = np.where(support, z + step * (inside - z), 0.0)
        support = support & ~(falling & (steps <= step)) & (z > 0.0)
        z = np.where(support, z, 0.0)
        inside, residual = _least_squares(A, y, support)
    return inside, support, residual


def _most_entropy(A, z, tied, norms, log_unit):
    """Choose, among z >= 0 of the same A z, supported on the columns that tie, the one of most entropy."""
    columns = A[:, tied]
    sizes = np.linalg.svd(columns, compute_uv=False)
    if columns.shape[1] <= columns.shape[0] and sizes[-1] > 1e-10 * sizes[0]:
        return z  # independent: there is no choice
    unit = float(np.max(z))
    room, inner = _room(columns, z[tied] / unit)
    if not room.any():
        return z
    places = np.flatnonzero(tied)[room]
    chosen = _exponential_family(A[:, places], A @ z / unit, norms[places], log_unit - np.log(unit), inner[room])
    if chosen is None:
        return z
    result = np.zeros_like(z)
    result[places] = unit * chosen
    return result


def _room(columns, z):
    """Find which columns can have a positive share, and a point at which all of them do."""
    from scipy.optimize import linprog

    n, m = columns.shape
    # Unknowns: lambda z' for such a z' and lambda >= 1, and t <= min(lambda z', 1), whose sum is to be largest.
    found = linprog(np.concatenate([np.zeros(m), -np.ones(m), [0.0]]),
                    A_ub=np.hstack([-np.eye(m), np.eye(m), np.zeros((m, 1))]), b_ub=np.zeros(m),
                    A_eq=np.hstack([columns, np.zeros((n, m)), -(columns @ z)[:, None]]), b_eq=np.zeros(n),
                    bounds=[(0, None)] * m + [(0, 1)] * m + [(1, None)], method="highs-ds")
    if found.x is None:
        return z > 0.0, z
    return found.x[m : 2 * m] > 0.5, found.x[:m] / found.x[-1]


def _exponential_family(columns, target, norms, log_unit, inner):
    """Return ``z = norms b``, ``log b = log_unit + norms (columns.T @ e)``, with ``columns @ z = target``; None if it fails.

    The moments of an exponential family determine it: e minimises ``sum b - target.e``, by Newton's method.
    """
    Q, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    Q = Q[:, sizes > 1e-10 * sizes[0]]
    rows, right = (Q.T @ columns) * norms, Q.T @ target
    e = np.linalg.lstsq(rows.T, np.log(inner / norms) - log_unit, rcond=None)[0]
    smallest, found = np.inf, None

    def objective(e):
        with np.errstate(over="ignore"):
            return float(np.sum(np.exp(log_unit + e @ rows)) - right @ e)

    for _ in range(200):
        with np.errstate(over="ignore", under="ignore"):
            b = np.exp(log_unit + e @ rows)
        miss = right - rows @ b
        error = float(np.linalg.norm(miss)) / float(np.linalg.norm(right) + np.sum(norms * b))
        if error < smallest:
            smallest, found = error, norms * b
        if error <= 4.0 * _EPS:
            break
        hessian = (rows * b) @ rows.T
        try:
            direction = np.linalg.solve(hessian, miss)
        except np.linalg.LinAlgError:
            direction = np.linalg.lstsq(hessian, miss, rcond=None)[0]
        length, here, slope = 1.0, objective(e), float(miss @ direction)
        while slope > 1e-10 * abs(here) and not objective(e + length * direction) < here - 0.1 * length * slope:
            length *= 0.5
            if length < 1e-12:
                break
        e = e + length * direction
    return found if smallest <= 1e-13 else None
