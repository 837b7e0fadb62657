"""The Lasso in arithmetic of pairs: one penalty by an active set, and the whole path, knot by knot.

``|A x - y|^2/2 + lam |x|_1``, with the columns of A in rows; entries and residuals are pairs, from `_l1_exact.least_squares`.
"""

import numpy as np

from . import _l1_exact
from ._l1_exact import least_squares
from ._pairs import pairs, product, total

_SLACK = 1e-27  # |a_j.r| may exceed lam by this, relative to it
_LAST_DIGITS = 1e-30  # of sums of pairs, relative to their terms
_SPANNED = 1e-14  # what is left of a column, relative to it, if the active ones span it
_NOISE = 1e-14  # an event this much below the last knot is a 0 that the rounding of the data has moved
_CLEAR = 1e-14  # relative duality gap of what is on the path
_FITTED = 1e-15  # a residual this small, relative to y, is the rounding of y
_BELOW = 1e-14  # a knot is left from this far below it, where its events have been decided


def minimum(columns, y, lam, active, entries):
    """Return (active, entries, residual) of the minimiser, the last two as pairs, from an approximate one; None if not found.

    Active sets with descent: an entry on its way to its value is stopped at 0, and leaves; when all are there, the column that
    is most beyond its bound joins; if the others span it, it takes an entry's place.
    """
    n = len(y)
    norms, size = np.linalg.norm(columns, axis=1), float(np.linalg.norm(y))
    active = np.asarray(active)[entries != 0.0]
    x = pairs(entries[entries != 0.0])
    signs, joined = np.sign(x[0]), -1
    for _ in range(100 + 20 * n):
        if len(active):
            found = least_squares(columns[active], pairs(y), lam * signs) if len(active) <= n else None
            if found is None and joined < 0 and len(active) > 1:  # those given are dependent: fewer are as good a start
                keep = np.sort(_l1_exact.independent(columns[active])[: len(active) - 1])
                active, x, signs = active[keep], x[:, keep], signs[keep]
                continue
            if found is None:
                return None
            goal, r = found
            wrong = np.flatnonzero(signs * goal[0] < 0.0)
            if wrong.size:
                ends = x[0, wrong] / (x[0, wrong] - goal[0, wrong])
                at = int(wrong[np.argmin(ends)])
                x = total(x, total(goal, x, -1.0), float(np.min(ends)))
                active, x, signs = np.delete(active, at), np.delete(x, at, axis=1), np.delete(signs, at)
                continue
            x = goal
        else:
            r = pairs(y)
        products = product(columns, r)[0]
        excess = np.abs(products) - lam
        excess[active] = 0.0
        joined = int(np.argmax(excess))
        rounding = _LAST_DIGITS * (size + float(norms[active] @ np.abs(x[0]))) * norms[joined]
        if not excess[joined] > _SLACK * lam + rounding:
            return active, x, r
        sign = 1.0 if products[joined] > 0.0 else -1.0
        a = columns[joined]
        spanned = least_squares(columns[active], pairs(a), np.zeros(len(active))) if len(active) else None
        if spanned is not None and np.linalg.norm(spanned[1][0]) <= _SPANNED * np.linalg.norm(a):
            w = sign * spanned[0][0]
            falling = np.flatnonzero(signs * w > 0.0)
            if falling.size == 0:
                return None
            ends = x[0, falling] / w[falling]
            at, length = int(falling[np.argmin(ends)]), float(np.min(ends))
            x = total(x, pairs(w), -length)
            active, x, signs = np.delete(active, at), np.delete(x, at, axis=1), np.delete(signs, at)
            start = sign * length
        else:
            start = 0.0
        active, x, signs = np.append(active, joined), np.hstack([x, [[start], [0.0]]]), np.append(signs, sign)
    return None


def gap(columns, y, lam, active, x, r):
    """Return the duality gap relative to the objective, as a sum of terms that are not negative: see `_lasso._lasso_gap`."""
    products = product(columns, r)
    shrink = min(1.0, lam / max(float(np.max(np.abs(products[0]), initial=0.0)), 1e-300))
    size = np.abs(x[0])
    # lam |x_j| - x_j a_j.theta: what is left of lam is a difference of pairs.
    rest = total(pairs(np.full(len(active), lam)), products[:, active] * np.sign(x[0]), -shrink)[0]
    value = 0.5 * (1.0 - shrink) ** 2 * float(r[0] @ r[0]) + float(np.sum(size * np.maximum(rest, 0.0)))
    objective = 0.5 * float(r[0] @ r[0]) + lam * float(np.sum(size))
    return value / objective if objective > 0.0 else 0.0


def path(A, columns, y, start, lowest, most):
    """Return the knots ``(lam, active, entries, nu, gap)`` from one of them down to 0, and whether the end was reached.

    Below each knot the active set is that of the minimiser a little below it, and its lines tell where the next event is.
    Below `lowest`, or where y is fitted to its rounding, the end is sought at once.
    """
    lam, active, entries = start
    size = float(np.linalg.norm(y))
    knots: list[tuple] = []
    here = minimum(columns, y, lam, active, entries)
    while here is not None and len(knots) < most:
        off = gap(columns, y, lam, *here)
        if not off <= _CLEAR:  # events too near to each other to be told apart have been passed
            here = minimum(columns, y, lam, here[0], here[1][0]) or here
            off = gap(columns, y, lam, *here)
        _, before, r = here
        found = minimum(columns, y, lam * (1.0 - _BELOW), here[0], before[0])
        if found is None:
            break
        active, x, _ = found
        signs = np.sign(x[0])
        at_zero = least_squares(columns[active], pairs(y), np.zeros(len(active)))
        turn = least_squares(columns[active], np.zeros((2, len(y))), -signs)
        if at_zero is None or turn is None:
            break
        (p, e), (d, u) = at_zero, (turn[0], -turn[1])  # x = p - lam d, r = e + lam u
        entries = np.zeros(A.shape[1])
        entries[here[0]] = before[0]
        knots.append((lam, active, entries[active], r[0] / lam, off))
        lam_next = _next_event(columns, lam * (1.0 - 2.0 * _BELOW), active, signs, p, e, d, u)
        if lam_next <= max(lowest, _NOISE * lam) or float(np.linalg.norm(r[0])) <= _FITTED * size:
            entries = np.zeros(A.shape[1])
            entries[active] = p[0]
            end = _l1_exact.least_l1(A, y, entries, u[0], most)
            if end is None:
                break
            places = np.flatnonzero(end.x[0])
            knots.append((0.0, places, end.x[0, places], end.nu[0], end.worst))
            return knots, True
        lam = lam_next
        here = active, total(p, d, -lam), total(e, u, lam)
    return knots, False


def _next_event(columns, below, active, signs, p, e, d, u):
    """Return the largest lam under `below` at which an entry comes to 0 or a column to its bound; 0 if there is none."""
    ce, cu, one = product(columns, e)[0], product(columns, u), pairs(np.ones(len(columns)))
    off = np.ones(len(columns), dtype=bool)
    off[active] = False
    events = [(p[0] / np.where(d[0] != 0.0, d[0], 1.0))[signs * d[0] < 0.0]]
    for sign in (1.0, -1.0):  # sign (ce + lam cu) = lam
        rate = total(one, cu, -sign)[0]
        events.append((sign * ce / np.where(rate > 1e-20, rate, 1.0))[off & (rate > 1e-20)])
    return max(float(np.max(at[(at > 0.0) & (at < below)], initial=0.0)) for at in events)
