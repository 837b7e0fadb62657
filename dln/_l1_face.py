"""The set of all minimisers of an l1 norm, and the one of them that a strictly convex function of magnitudes selects.

With multipliers nu, a minimiser of ``|x|_1  s.t.  A x = y`` is 0 where ``|a_j.nu| < 1`` and elsewhere has the sign of
``a_j.nu`` (complementary slackness): all of them together are a polytope of magnitudes, a face of the ball.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are loaded when first used

from ._l1 import Scaled, first_alike, least_l1
from .row_space import EPS, row_space_of

#: |a_j.nu| this near to 1 counts as 1.
TIE = 1e-9

_CLEAR_TIE = 1e-13
_RANK = 1e-10
_STEPS = 300
#: Magnitudes below this, relative to the largest, need not settle: they are lost in the rounding of the others.
_FLOOR = 1e-18


@dataclass(frozen=True)
class Face:
    """Where some minimiser is not 0, the signs there, and a point inside.

    Attributes
    ----------
    places : ndarray of int
    signs : ndarray (d,)
        Of a_j.nu on the face, elsewhere 0.
    inner : ndarray (d,)
        Magnitudes of a minimiser that is not 0 on all of the face.
    unique : bool
    """

    places: np.ndarray
    signs: np.ndarray
    inner: np.ndarray
    unique: bool


def unclear(A, x, nu):
    """Whether a column off the support is so near to its bound that floats may not tell on which side it is."""
    slack = 1.0 - np.abs(nu @ A)[x == 0.0]
    return bool(np.any((slack < TIE) & (slack > _CLEAR_TIE)))


def face_of(A, x, nu, products=None, *, exact=True):
    """Give the face from one vertex of it and its multipliers.

    With the `products` a_j.nu in all their digits, ties are those of A as it is, and, unless A is `exact`, of its rounding.
    """
    tie = TIE
    if products is None:
        products = nu @ A
    else:
        tie = _CLEAR_TIE + (0.0 if exact else 4.0 * EPS * np.linalg.norm(nu) * np.linalg.norm(A, axis=0))
    tied = np.flatnonzero((np.abs(products) >= 1.0 - tie) | (x != 0.0))
    signs = np.where(x != 0.0, np.sign(x), np.sign(products))
    magnitudes = np.abs(x)
    if tied.size > np.count_nonzero(x):
        # Columns may tie by chance of the multipliers, without room for an entry.  Equal ones have it together.
        columns = np.ascontiguousarray((A[:, tied] * signs[tied]).T)
        alike = first_alike(columns, np.linalg.norm(columns, axis=1))
        total = np.bincount(alike, magnitudes[tied], len(tied))
        several = np.flatnonzero(alike == np.arange(len(tied)))
        if several.size > np.count_nonzero(total):
            total[several] += _room(columns[several].T, total[several])
        magnitudes[tied] = (total / np.bincount(alike, minlength=len(tied)).clip(1))[alike]
    places = np.flatnonzero(magnitudes)
    return Face(places, np.where(magnitudes > 0.0, signs, 0.0), magnitudes, places.size == np.count_nonzero(x))


def _null_space(A):
    """Return an orthonormal basis of the null space, for columns of norm 1."""
    _, singular, rows = np.linalg.svd(A, full_matrices=True)
    rank = int(np.count_nonzero(singular > _RANK * singular[0])) if singular.size else 0
    return rows[rank:].T


def _room(A, magnitudes):
    """Return a way from a vertex into its face: 0 for columns that are 0 all over the face, else positive or short.

    The magnitudes can grow along v if ``A v = 0`` and ``v >= 0`` where they are 0: as many of those as possible at once.
    """
    from scipy.optimize import linprog

    norms = np.linalg.norm(A, axis=0)
    N = _null_space(A / norms)
    zero = np.flatnonzero(magnitudes == 0.0)
    zero = zero[np.max(np.abs(N[zero]), axis=1, initial=0.0) > _RANK]
    if zero.size == 0:
        return np.zeros_like(magnitudes)
    q, n = N.shape[1], zero.size
    # v = N c; t <= min(v, 1); the sum of t is largest.  A cone: each t comes out as 0 or 1.
    found = linprog(np.concatenate([np.zeros(q), -np.ones(n)]), A_ub=np.hstack([-N[zero], np.eye(n)]), b_ub=np.zeros(n),
                    bounds=[(None, None)] * q + [(0, 1)] * n, method="highs")
    if found.x is None:
        return np.zeros_like(magnitudes)
    some = zero[found.x[q:] > 0.5]
    v = N @ found.x[:q] / norms
    v[np.setdiff1d(np.flatnonzero(magnitudes == 0.0), some)] = 0.0
    falling = v < 0.0
    return v * 0.5 * float(np.min(-magnitudes[falling] / v[falling], initial=np.inf)) if some.size else np.zeros_like(v)


def select(A, y, face, kind):
    """Minimise a function of magnitudes over the face; return all entries, and whether the minimiser was found.

    The function is given by `kind(places)`: three functions of the magnitudes, their values, slopes and curvatures.  Its slope
    is infinite where a magnitude is 0, so the minimiser is inside.
    """
    places, x = face.places, np.zeros(A.shape[1])
    m = face.inner[places]
    Q, R, _ = scipy.linalg.qr(A[:, places] * face.signs[places], mode="economic", pivoting=True)
    diagonal = np.abs(np.diag(R))
    rank = int(np.count_nonzero(diagonal > _RANK * diagonal[0]))
    C, h = Q[:, :rank].T @ (A[:, places] * face.signs[places]), Q[:, :rank].T @ y
    m, found = _newton(C, h, m, *kind(places))
    x[places] = face.signs[places] * m
    return x, found


def _newton(C, h, m, value, slope, curvature):
    """Minimise the sum of `value` subject to ``C m = h``, ``m > 0``, from a point inside.

    Steps are relative to the magnitudes: one may be as small as exp(-1/share), where differences of coordinates lose it.
    """
    before = math.inf
    for _ in range(_STEPS):
        g, give = slope(m), 1.0 / curvature(m)
        root = np.sqrt(give)
        # Rows by decreasing weight: Householder's QR is then accurate row by row.
        order = np.argsort(-root, kind="stable")
        Q, R = scipy.linalg.qr((C[:, order] * root[order]).T, mode="economic", check_finite=False)
        step = (root * g)[order]
        for _ in range(2):
            step = step - Q @ (Q.T @ step)
        try:
            correction = Q @ scipy.linalg.solve_triangular(R, h - C @ m, trans="T", check_finite=False)
        except np.linalg.LinAlgError:
            correction = 0.0
        step = root * (correction - step)[np.argsort(order, kind="stable")]
        relative = float(np.max(np.abs(step) / (m + _FLOOR * np.max(m))))
        if relative <= 1e-13 or (relative <= 1e-8 and relative > 0.5 * before):  # as far as rounding lets it come
            return m, True
        if not math.isfinite(relative):
            return m, False
        before = relative
        length = 1.0 / max(1.0, float(np.max(-step / m)) / 0.9)
        decrement, start = float(np.sum(step**2 / give)), float(np.sum(value(m)))
        while (decrement > 1e-12 * abs(start) and length > 1e-12  # smaller changes of the value are lost in rounding
               and np.sum(value(m + length * step)) > start - 0.1 * length * decrement):
            length *= 0.5
        m = m + length * step
    return m, False


def entropy(unit, log_shape):
    """Return `kind` for ``b (log(b/shape^2) - 1)``, less of which is more entropy, at ``b = unit m``."""
    def kind(at):
        q, offset = unit[at] / np.max(unit[at]), np.log(unit[at]) - 2.0 * log_shape[at]
        return (lambda m: q * m * (np.log(m) + offset - 1.0), lambda m: q * (np.log(m) + offset), lambda m: q / m)
    return kind


def fractional(unit, depth):
    """Return `kind` for ``-b^(2/D)`` at ``b = unit m``."""
    p = 2.0 / depth

    def kind(at):
        q = (unit[at] / np.max(unit[at])) ** p
        return (lambda m: -q * m**p, lambda m: -p * q * m ** (p - 1.0), lambda m: p * (1.0 - p) * q * m ** (p - 2.0))
    return kind


def most_slack(A, face, nu):
    """Return the smallest ``1 - |a_j.nu|`` off the face, for the multipliers with most of it.

    The least ``max |a_j.nu|`` is the value of a linear programme in nu.  Its dual is again least l1, in the directions that the
    face leaves free: ``min |b|_1`` over the other columns, with ``sum_j b_j (a_j, 0)`` equal to (0, 1) up to the span of the
    ``(a_i, s_i)`` of the face.
    """
    others = np.delete(np.arange(A.shape[1]), face.places)
    if others.size == 0:
        return math.inf
    on_face = A[:, face.places] * face.signs[face.places]
    norms = np.linalg.norm(on_face, axis=0)
    unit = float(np.min(norms))
    basis, singular, _ = np.linalg.svd(np.vstack([on_face / norms, unit / norms]), full_matrices=True)
    rank = int(np.count_nonzero(singular > _RANK * singular[0])) if singular.size else 0
    free = basis[:, rank:]
    if free.shape[1] == 1:  # one nu only
        return float(np.min(1.0 - np.abs(nu @ A[:, others])))
    reduced = row_space_of(free[:-1].T @ A[:, others], unit * free[-1])
    if not reduced.interpolates:  # some nu is orthogonal to all others
        return 1.0
    problem = Scaled.of(reduced.X, reduced.y, np.ones(others.size), by_rows=True)
    return 1.0 - 1.0 / float(np.sum(np.abs(problem.original(least_l1(problem.A, problem.y).x))))
