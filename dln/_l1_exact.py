"""Minimisers of an l1 norm and of the Lasso in arithmetic of pairs: for data on which floats lose the certificate.

Where columns are nearly dependent the entries, or the multipliers, are so large that sums of them cancel to their last digits,
and rounding alone makes ``A x`` miss y, or a_j.nu its bound, by more than a certificate allows.  With 31 digits it does not.
"""

from dataclasses import dataclass

import numpy as np
import scipy  # its parts are loaded when first used

from . import _pairs
from ._pairs import inner, pairs, product, total

_SLACK = 1e-14  # |a_j.nu| may exceed 1 by this: it is taken out of nu in the end
_SMALL = 1e-12  # entries below this, relative to the largest, are tried without
_SPANNED = 1e-14  # what is left of a column, relative to it, if others span it
_REFINEMENTS = 40
_DEGENERATE = 5  # steps of no length, after which Bland's rule excludes a cycle


@dataclass(frozen=True)
class Exact:
    """Entries and multipliers as pairs, with ``|a_j.nu| <= 1``, and what they are worth, relative.

    Attributes
    ----------
    x, nu : ndarray (2, d), (2, n)
    residual, gap : float
    n_steps : int
    """

    x: np.ndarray
    nu: np.ndarray
    residual: float
    gap: float
    n_steps: int

    @property
    def worst(self):
        """The larger of residual and gap; infinite if one is not a number."""
        worst = max(self.residual, self.gap)
        return worst if np.isfinite(worst) else np.inf


def judged(A, columns, y, x, nu, n_steps):
    """Judge a minimiser and multipliers, both pairs; the multipliers are shrunk until they are feasible."""
    most = float(np.max(np.abs(product(columns, nu)[0]), initial=0.0))
    if most > 1.0:
        nu = total(np.zeros_like(nu), nu, 1.0 / (most * (1.0 + 1e-15)))
    residual = float(np.linalg.norm(total(product(A, x), pairs(y), -1.0)[0])) / float(np.linalg.norm(y))
    size = inner(np.where(x[0] < 0.0, -1.0, 1.0), x)
    gap = total(size[:, None], inner(y, nu)[:, None], -1.0)[0, 0]
    return Exact(x, nu, residual, abs(float(gap)) / float(size[0]) if size[0] > 0.0 else np.inf, n_steps)


def on_support(A, columns, y, support, signs, nu):
    """Solve for the entries on a support and for the multipliers nearest to nu that fit its signs; None if it is dependent."""
    rows = columns[support]
    solution = least_squares(rows, pairs(y), np.zeros(len(support)))
    multipliers = least_squares(rows, pairs(nu), signs)
    if solution is None or multipliers is None:
        return None
    found = np.zeros((2, A.shape[1]))
    found[:, support] = solution[0]
    return found, multipliers[1]


def least_squares(rows, target, shift):
    """Return z and ``rest = target - rows^T z`` with ``rows rest = shift``, as pairs; None if rows are dependent.

    Refinement of a solution by QR in floats; where that does not converge, of one by the inverse of the Gram matrix in pairs.
    """
    units = np.ldexp(1.0, -np.frexp(np.linalg.norm(rows, axis=1))[1])
    rows, shift = np.ascontiguousarray(rows * units[:, None]), pairs(shift * units)
    back = np.ascontiguousarray(rows.T)
    R = scipy.linalg.qr(back, mode="r", check_finite=False)[0][: len(rows)]
    if R.shape[0] < R.shape[1]:
        return None
    if np.min(np.abs(np.diag(R))) > 1e-9:
        def in_floats(g):
            image = scipy.linalg.solve_triangular(R, g[0], trans="T", check_finite=False)
            return pairs(scipy.linalg.solve_triangular(R, image, check_finite=False))
        found = _refined(rows, back, target, shift, in_floats)
        if found is not None:
            return found[0] * units, found[1]
    inverse = _pairs.inverse(_pairs.gram(rows))
    found = None if inverse is None else _refined(rows, back, target, shift, lambda g: product(inverse, g))
    return None if found is None else (found[0] * units, found[1])


def _refined(rows, back, target, shift, solve):
    z, rest, before = np.zeros((2, len(rows))), target, np.inf
    noise = 1e-29 * float(np.max(np.abs(target[0])))
    for _ in range(_REFINEMENTS):
        step = solve(total(product(rows, rest), shift, -1.0))
        z = total(z, step)
        moved = product(back, step)
        rest = total(target, product(back, z), -1.0)
        size, most = float(np.max(np.abs(step[0]))), float(np.max(np.abs(z[0])))
        if size <= 1e-24 * most or float(np.max(np.abs(moved[0]))) <= noise:
            return z, rest
        if not size <= 0.5 * before:  # as far as pairs let it come: a residual costs the square of the condition
            return (z, rest) if size <= 1e-14 * most else None
        before = size
    return None


def independent(rows):
    """Return which rows span all of them, the clearest first."""
    norms = np.linalg.norm(rows, axis=1)
    norms[norms == 0.0] = 1.0
    R, order = scipy.linalg.qr((rows / norms[:, None]).T, mode="r", pivoting=True, check_finite=False)
    diagonal = np.abs(np.diag(R))
    return order[: np.count_nonzero(diagonal > _SPANNED * diagonal[0])]


def _basis(columns, support):
    """Return as many places as there are rows, those of `support` first, with columns that are independent."""
    n = columns.shape[1]
    norms = np.linalg.norm(columns, axis=1)
    norms[norms == 0.0] = 1.0
    unit = (columns / norms[:, None]).T
    chosen = np.empty(0, dtype=np.int64)
    if len(support):
        chosen = np.asarray(support)[independent(columns[support])]
        Q = scipy.linalg.qr(unit[:, chosen], mode="economic", check_finite=False)[0]
    if len(chosen) < n:
        rest = unit
        for _ in range(2 if len(chosen) else 0):
            rest = rest - Q @ (Q.T @ rest)
        rest[:, chosen] = 0.0
        order = scipy.linalg.qr(rest, mode="r", pivoting=True, check_finite=False)[1]
        chosen = np.concatenate([chosen, order[: n - len(chosen)]])
    return chosen


def descend(A, columns, y, support, nu, most):
    """Minimise ``|x|_1  s.t.  A x = y`` by the simplex method, from a basis with that support.

    Any basis is feasible, since each entry has the sign it wants.  A step goes to the exact minimum of the norm on its way:
    past entries that come to 0, as long as the norm falls (Barrodale & Roberts 1973, SIAM J. Numer. Anal. 10, 839).
    """
    basis = _basis(columns, support)
    inverse = _pairs.inverse(columns[basis].T.copy())
    if inverse is None:
        return None
    x = product(inverse, pairs(y))
    signs = np.where(x[0] != 0.0, np.sign(x[0]), np.where(columns[basis] @ nu < 0.0, -1.0, 1.0))
    steps = idle = 0
    while True:
        mu = product(np.ascontiguousarray(inverse.transpose(0, 2, 1)), pairs(signs))
        slopes = product(columns, mu)[0]
        excess = np.abs(slopes) - 1.0
        excess[basis] = 0.0
        new = int(np.argmax(excess > _SLACK) if idle > _DEGENERATE else np.argmax(excess))
        if not excess[new] > _SLACK or steps == most:
            break
        steps += 1
        sign = 1.0 if slopes[new] > 0.0 else -1.0
        w = product(inverse, pairs(sign * columns[new]))
        falling = np.flatnonzero(signs * w[0] > 1e-20 * np.max(np.abs(w[0])))
        if falling.size == 0:
            return None
        ends = signs[falling] * x[0, falling] / (signs[falling] * w[0, falling])
        order = np.argsort(ends, kind="stable")
        slope = -excess[new] + np.cumsum(2.0 * np.abs(w[0, falling[order]]))
        last = int(np.argmax(slope >= 0.0)) if slope[-1] >= 0.0 else len(order) - 1
        at = int(falling[order[last]])
        passed = falling[order[:last]]
        idle = idle + 1 if not ends[order[last]] > 0.0 else 0
        signs[passed] = -signs[passed]
        basis[at], signs[at] = new, sign
        if abs(w[0, at]) > 1e-6 * np.max(np.abs(w[0])):
            _pairs.replaced(inverse, sign * w, at)
        else:  # afresh: a small pivot costs digits
            inverse = _pairs.inverse(columns[basis].T.copy())
            if inverse is None:
                return None
        x = product(inverse, pairs(y))
        # An entry of 0 may have either sign.
        signs = np.where(x[0] != 0.0, np.sign(x[0]), signs)
    found = np.zeros((2, A.shape[1]))
    found[:, basis] = x
    return found, basis, signs, mu, steps


def least_l1(A, y, x, nu, most):
    """Minimise ``|x|_1  s.t.  A x = y`` from an approximate minimiser and multipliers; None if no basis is found."""
    A, columns = np.ascontiguousarray(A), np.ascontiguousarray(A.T)
    support, best = np.flatnonzero(x), None
    if 0 < len(support) <= len(y):
        best = _settled(A, columns, y, support, np.sign(x[support]), nu, 0)
        if best is not None and best.worst <= _SMALL:
            return best
    found = descend(A, columns, y, support, nu, most)
    if found is None:
        return best
    x, basis, signs, mu, steps = found
    large = np.abs(x[0, basis]) > _SMALL * np.max(np.abs(x[0]))
    sparse = _settled(A, columns, y, basis[large], signs[large], mu[0], steps) if not large.all() else None
    if sparse is not None and sparse.worst <= _SMALL:
        return sparse
    # The basis afresh: the way to it may have cost digits.
    inverse = _pairs.inverse(columns[basis].T.copy())
    if inverse is not None:
        x[:, basis] = product(inverse, pairs(y))
        mu = product(np.ascontiguousarray(inverse.transpose(0, 2, 1)), pairs(signs))
    full = judged(A, columns, y, x, mu, steps)
    return full if best is None or full.worst <= best.worst else best


def _settled(A, columns, y, support, signs, nu, n_steps):
    found = on_support(A, columns, y, support, signs, nu)
    if found is None or np.any(found[0][0, support] * signs < 0.0):
        return None
    return judged(A, columns, y, found[0], found[1], n_steps)
