"""Minimisers of an l1 norm and of the Lasso: the homotopy on scaled data, a linear programme where it is caught."""

import math
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are loaded when first used

from . import _homotopy as kernels
from . import _l1_exact
from ._jit import entry_point
from ._pairs import product

_KNOTS_AT_ONCE = 64  # then Ctrl-C is heard
_LINES = 16  # of the residual, on which columns were last measured
_NEAR = 16  # sizes within a factor of 2^16 are left as they are
MOST_KNOTS = (1000, 100)  # and so many per sample
_GOOD = 1e-12
_CLEAR = 1e-13  # a certificate in floats that is better than this is no luck of rounding: else pairs decide
_EQUAL = 1e-14  # columns that differ by less, relative to their norm, are one


@dataclass(frozen=True)
class L1Point:
    """A minimiser of ``|x|_1  s.t.  A x = y``, multipliers with ``|a_j.nu| <= 1``, and what both are worth, relative."""

    x: np.ndarray
    nu: np.ndarray
    residual: float
    gap: float
    n_iterations: int
    solver: str
    products: np.ndarray | None = None  # the a_j.nu, where they were computed in pairs of floats

    @property
    def good(self):
        """Whether the certificate holds to 1e-12."""
        return max(self.residual, self.gap) <= _GOOD  # NaN included


@dataclass(frozen=True)
class Scaled:
    """``A x = y`` with entries of size 1, from ``X b = y`` and weights w: ``w_j b_j = x_j 2^(y_exponent - x_exponent)``."""

    A: np.ndarray
    y: np.ndarray
    rows: np.ndarray
    x_exponent: int
    y_exponent: int

    @classmethod
    def of(cls, X, y, weights, *, by_rows):
        """Scale by powers of two, which cost no digits; also row by row, where only interpolators matter."""
        A = X if np.all(weights == 1.0) else X / weights
        sizes = np.frexp(np.maximum(A.max(axis=1, initial=0.0), -A.min(axis=1, initial=0.0)))[1]
        rows, x_exponent = np.zeros_like(sizes), int(sizes.max()) if len(sizes) else 0
        if by_rows and np.any(sizes < x_exponent - _NEAR):
            rows, x_exponent = -sizes, 0
        if abs(x_exponent) <= _NEAR:
            x_exponent = 0
        if x_exponent or rows.any():
            A = np.ldexp(A, (rows - x_exponent)[:, None])
        target = np.ldexp(y, rows)
        y_exponent = exponent(target)
        return cls(np.ascontiguousarray(A), np.ldexp(target, -y_exponent), rows, x_exponent, y_exponent)

    def original(self, x):
        """Return ``w_j b_j``."""
        return np.ldexp(x, self.y_exponent - self.x_exponent)

    def multipliers(self, nu):
        """Return nu such that ``|x_j.nu| <= w_j``."""
        return np.ldexp(nu, self.rows - self.x_exponent)


class Homotopy:
    """The path of ``|A x - y|^2/2 + lam |x|_1`` from the largest useful lam down.

    Of columns that are equal or opposite only the first takes part, and none that is 0.
    """

    def __init__(self, A, y):
        n, d = A.shape
        columns = np.empty((d, n))
        entry_point(kernels.transposed)(np.ascontiguousarray(A), columns)
        self.y = np.ascontiguousarray(y)
        norms = np.sqrt(np.einsum("ij,ij->i", columns, columns))
        self.kept, self.n_features = _distinct(columns, norms), d
        if len(self.kept) < d:
            columns, norms = columns[self.kept], norms[self.kept]
        self.columns, self.norms = columns, norms
        d = len(norms)
        self.ints, self.floats = np.array([-1, 0, 0, 0, 0]), np.zeros(2)
        self.active = np.zeros(n + 1, dtype=np.int64)
        self.by_column, self.by_sample, self.by_active = np.zeros((7, d)), np.zeros((2, n)), np.zeros((4, n + 1))
        self.by_column[0] = norms
        self.Q, self.L = np.zeros((n + 1, n)), np.zeros((n + 1, n + 1))
        self.lines = (np.zeros(d, dtype=np.int64), np.zeros(_LINES, dtype=np.int64), np.zeros((2, _LINES, n)), np.zeros(_LINES))
        self.work = (np.zeros(d, dtype=np.int64), np.zeros(d, dtype=np.int64), np.zeros(2 * n + 2))

    def advance(self, stop, log):
        """Make some knots; return whether lam is down at `stop`."""
        tied, near, work = self.work
        return kernels.DONE == entry_point(kernels.advance)(
            self.columns, self.y, stop, _KNOTS_AT_ONCE, self.ints, self.floats, self.active, tied, near, self.by_column,
            self.by_sample, self.by_active, self.Q, self.L, work, *self.lines, *log)

    def follow(self, stop, knots=None):
        """Go down to `stop`, a penalty in units of the scaled data; append knots ``(lam, active, entries, nu)`` to the list.

        Return False if the path was caught.
        """
        if not self.columns.size or not self.y.any() or (stop > 0.0 and np.max(np.abs(self.columns @ self.y)) <= stop):
            return True
        n, room = len(self.y), 0 if knots is None else _KNOTS_AT_ONCE
        log = (np.empty(room), np.zeros(room, dtype=np.int64), np.zeros((room, n), dtype=np.int64), np.empty((room, n)),
               np.empty((room, n)))
        before, limit = math.inf, MOST_KNOTS[0] + MOST_KNOTS[1] * n
        while True:
            done = self.advance(stop, log)
            lam = self.floats[0]
            if knots is not None:
                for i in range(self.ints[4]):
                    at, k, active, entries, nu = (part[i] for part in log)
                    knots.append((float(at), active[:k].copy(), entries[:k].copy(), nu.copy()))
            if done:
                return True
            if not lam < before or self.ints[1] > limit:
                return False
            before = lam

    def here(self, lam):
        """Return active columns, their entries and the residual over lam, where the path is; at 0 refined and by its limit."""
        k = max(0, int(self.ints[0]))
        _, _, p, d = self.by_active[:, :k]
        active, Q, L = self.active[:k], self.Q[:k], self.L[:k, :k]
        e, u = self.by_sample
        if k == 0:
            return active, np.zeros(0), self.y / lam if lam > 0.0 else np.zeros_like(self.y)
        if lam > 0.0:
            return active, p - lam * d, (e - (Q @ e) @ Q) / lam + u
        A, signs = self.columns[active], self.by_column[1][active]
        x = p + scipy.linalg.solve_triangular(L, Q @ (self.y - p @ A), lower=True, trans="T", check_finite=False)
        nu = u + scipy.linalg.solve_triangular(L, signs - A @ u, lower=True, check_finite=False) @ Q
        # Columns that touch their bound without an entry come to 0 in the limit only.
        size = np.abs(x) * self.norms[active]
        x[(x * signs < 0.0) | (size <= 1e-12 * np.max(size))] = 0.0
        return active, x, nu

    def spread(self, active, entries):
        """Return all entries, shape (d,), from those of active columns."""
        x = np.zeros(self.n_features)
        x[self.kept[active]] = entries
        return x


def exponent(values):
    """Return e such that ``ldexp(values, -e)`` has its largest modulus in [1/2, 1): a scale that costs no digits."""
    return int(np.frexp(np.max(np.abs(values), initial=0.0))[1])


def _distinct(columns, norms):
    """Return which columns, the rows here, are not 0 and not plus or minus an earlier one."""
    return np.flatnonzero((first_alike(columns, norms) == np.arange(len(norms))) & (norms > 0.0))


def first_alike(columns, norms):
    """Return for each column, a row here, the first that is equal or opposite to it, or itself."""
    alike = np.arange(len(norms))
    present = np.flatnonzero(norms)
    # Equal columns have equal products with anything.
    probe = np.cos(np.arange(1.0, columns.shape[1] + 1.0) ** 2)
    keys = np.abs(np.einsum("ij,j->i", columns, probe))[present]
    order = np.argsort(keys, kind="stable")
    slack = 4.0 * _EQUAL * math.sqrt(columns.shape[1]) * norms[present[order]]
    near = np.diff(keys[order]) <= slack[1:]
    if not near.any():
        return alike
    for group in np.split(present[order], 1 + np.flatnonzero(~near)):
        first = np.empty(0, dtype=np.int64)
        for j in np.sort(group) if len(group) > 1 else ():
            a, others = columns[j], columns[first]
            apart = np.minimum(np.max(np.abs(others - a), axis=1), np.max(np.abs(others + a), axis=1))
            same = np.flatnonzero(apart <= _EQUAL * norms[j])
            if same.size:
                alike[j] = first[same[0]]
            else:
                first = np.append(first, j)
    return alike


def least_l1(A, y):
    """Minimise ``|x|_1  s.t.  A x = y`` for rows that are independent and of size 1."""
    path = Homotopy(A, y)
    path.follow(0.0)
    active, entries, nu = path.here(0.0)
    point = certify(A, y, path.spread(active, entries), nu, int(path.ints[1]), "homotopy")
    if max(point.residual, point.gap) <= _CLEAR:
        return point
    better = refined(A, y, point)
    if better is not None:
        return better
    if point.good:
        return point
    other = _programme(A, y)
    return point if max(point.residual, point.gap) <= max(other.residual, other.gap) else other


def refined(A, y, point):
    """Return the minimiser near an approximate one, in pairs of floats; None if its certificate fails as well."""
    found = _l1_exact.least_l1(A, y, point.x, point.nu, MOST_KNOTS[0] + MOST_KNOTS[1] * len(y))
    if found is None or not found.worst <= _GOOD:
        return None
    return L1Point(found.x[0], found.nu[0], found.residual, found.gap, point.n_iterations + found.n_steps, "pairs",
                   product(np.ascontiguousarray(A.T), found.nu)[0])


def certify(A, y, x, nu, n_iterations, solver):
    """Judge a minimiser and multipliers, which are shrunk until they are feasible."""
    nu = nu / max(1.0, float(np.max(np.abs(nu @ A), initial=0.0)))
    objective, scale = float(np.sum(np.abs(x))), float(np.linalg.norm(y))
    residual = float(np.linalg.norm(A @ x - y)) / scale if scale > 0.0 else 0.0
    gap = abs(objective - float(y @ nu)) / objective if objective > 0.0 else 0.0
    return L1Point(x, nu, residual, gap, n_iterations, solver)


def _programme(A, right):
    """Solve the linear programme by HiGHS, then for its vertex and multipliers directly.

    Every row and the target are scaled to 1: the programme's "optimal" is absolute.
    """
    from scipy.optimize import linprog

    n, d = A.shape
    row_scale = np.max(np.abs(A), axis=1)
    scaled, target = A / row_scale[:, None], right / row_scale
    size = float(np.max(np.abs(target)))
    found = linprog(np.ones(2 * d), A_eq=np.hstack([scaled, -scaled]), b_eq=target / size, bounds=(0, None), method="highs",
                    options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10})
    if found.x is None:
        return L1Point(np.full(d, math.nan), np.full(n, math.nan), math.nan, math.nan, int(found.nit), "HiGHS")
    x, nu = polish(scaled, target / size, found.x[:d] - found.x[d:], np.asarray(found.eqlin.marginals))
    return certify(A, right, x * size, nu / row_scale, int(found.nit), "HiGHS")


def polish(A, right, c, nu):
    """Solve for the vertex and for the multipliers that fit its signs exactly, if that does not spoil them."""
    support = np.abs(c) > 1e-9 * np.max(np.abs(c))
    active = A[:, support]
    if np.count_nonzero(support) <= A.shape[0] and np.linalg.matrix_rank(active) == active.shape[1]:
        exact = np.zeros_like(c)
        exact[support] = np.linalg.lstsq(active, right, rcond=None)[0]
        if np.all(np.sign(exact[support]) == np.sign(c[support])) and (
                np.linalg.norm(A @ exact - right) <= np.linalg.norm(A @ c - right) + 1e-14):
            c = exact
        correction = np.linalg.lstsq(active.T, np.sign(c[support]) - nu @ active, rcond=None)[0]
        if np.max(np.abs(correction)) <= 1e-5 * (1.0 + np.max(np.abs(nu))):
            nu = nu + correction
    return c, nu
