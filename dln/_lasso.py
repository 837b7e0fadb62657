"""The Lasso and its path: by the homotopy, in pairs of floats where floats lose the certificate."""

import math
from dataclasses import dataclass

import numpy as np

from . import _lasso_exact
from ._certificate import Minimizer, checked, in_samples, remark, weights_of
from ._l1 import MOST_KNOTS, Homotopy, Scaled, certify

GOOD = 1e-12
_LOWEST = 1e-20  # a penalty below this, relative to the largest, is as good as 0 where floats do not do
_NEARLY_DEPENDENT = 1e10  # how far combinations of rows may differ in size and still be told from rounding


def relative(r, y):
    """Return the norm of r relative to that of y, safe from overflow."""
    size = float(np.max(np.abs(y)))
    return float(np.linalg.norm(r / size) / np.linalg.norm(y / size))


def doubt(problem, rows):
    """Say where the rank itself was a matter of rounding."""
    if rows.basis is None:
        return ""
    sizes = np.linalg.norm(rows.X, axis=1)  # the singular values that were kept
    if not sizes.max(initial=0.0) > _NEARLY_DEPENDENT * sizes.min(initial=math.inf):
        return ""
    return (f"; X is numerically rank-deficient: its singular values fall to rounding without a gap, {rows.rank} of "
            f"{problem.n_samples} were kept, and a minimiser, certified for those, hangs on the last digits of X: drop samples "
            "or features that nearly repeat others, or use dln.lasso with a penalty above the noise")


def _penalty(problem, rows, scaled, lam):
    """Return the penalty on ``sum w_j |b_j|`` beside the loss, from lam beside ``|A x - y|^2/2``."""
    return np.ldexp(lam, scaled.x_exponent + scaled.y_exponent) / (2.0 * problem.n_samples)


def _lasso_gap(A, y, x, nu, lam):
    """Return the duality gap relative to the objective, for columns of unit weight, as a sum of terms that are not negative.

    With theta = lam nu, feasible after it has been shrunk: ``|r - theta|^2/2 + sum_j (lam |x_j| - x_j a_j.theta)``.
    """
    nu = nu / max(1.0, float(np.max(np.abs(nu @ A), initial=0.0)))
    r = y - A @ x
    gap = 0.5 * float(np.sum((r - lam * nu) ** 2)) + lam * float(np.sum(np.abs(x) - x * (nu @ A)))
    objective = 0.5 * float(r @ r) + lam * float(np.sum(np.abs(x)))
    return abs(gap) / objective if objective > 0.0 else 0.0


def lasso(problem, penalty, weights=None):
    """Return a minimiser of the Lasso, ``L(b) + penalty sum_j weights_j |b_j|`` with ``L = |X b - y|^2/(4 N)``.

    Parameters
    ----------
    problem : Problem
    penalty : float
        Positive; in the limit 0 it is `basis_pursuit`.  With losses ``|X b - y|^2/(2 N)`` it is half of theirs.
    weights : array_like (d,), optional
        Positive weights, by default 1.

    Returns
    -------
    Minimizer
        `dual` is ``(y - X beta)/(2 N penalty)``, or its reachable part, so that ``|x_j.dual| <= weights_j``; `residual` says
        how far beta is from interpolating.  Of columns that are equal or opposite only the first has an entry.

    Raises
    ------
    ValueError, TypeError
        If an argument is bad.

    References
    ----------
    Osborne, Presnell & Turlach (2000), A new approach to variable selection in least squares problems.
    """
    rows = checked(problem)
    w = weights_of(problem, weights)
    penalty = _positive("penalty", penalty)
    scaled = Scaled.of(rows.X, rows.y, w, by_rows=False)
    path = Homotopy(scaled.A, scaled.y)
    lam = float(np.ldexp(penalty * 2.0 * problem.n_samples, -scaled.x_exponent - scaled.y_exponent))
    path.follow(lam)
    active, entries, nu = path.here(lam)
    x = path.spread(active, entries)
    gap, solver = _lasso_gap(scaled.A, scaled.y, x, nu, lam), "homotopy"
    if not gap <= GOOD:
        columns = np.ascontiguousarray(scaled.A.T)
        found = _lasso_exact.minimum(columns, scaled.y, lam, path.kept[active], entries)
        if found is not None:
            active, entries, r = found
            gap, solver = _lasso_exact.gap(columns, scaled.y, lam, active, entries, r), "homotopy, refined in pairs of floats"
            x, nu = np.zeros(problem.n_features), r[0] / lam
            x[active] = entries[0]
    beta = scaled.original(x) / w
    good = gap <= GOOD
    residual = relative(rows.X @ beta - rows.y, rows.y) if rows.y.any() else 0.0
    message = (f"relative duality gap {gap:.1e} ({solver}, {path.ints[1]} knots), {len(active)} entries"
               f"{'' if good else doubt(problem, rows)}{remark(problem, None)}")
    return Minimizer(beta=beta, dual=in_samples(rows, scaled.multipliers(nu)),
                     objective=problem.loss(beta) + penalty * float(np.sum(w * np.abs(beta))), residual=residual,
                     duality_gap=gap, success=good, status="optimal" if good else "not certified", message=message,
                     n_iterations=int(path.ints[1]))


def _positive(name, value):
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {value!r}") from None
    if not (math.isfinite(number) and number > 0.0):
        raise ValueError(f"{name} must be positive and finite, got {value}; in the limit 0 use dln.basis_pursuit")
    return number


@dataclass(frozen=True, repr=False, eq=False)
class LassoPath:
    """All minimisers of the Lasso: piecewise linear in the penalty, between K knots.

    Attributes
    ----------
    penalties : ndarray (K,)
        Decreasing, from the largest penalty with an entry to 0.
    betas : ndarray (K, d)
        Minimisers; the last one, at penalty 0, has least l1 norm among the least-squares solutions.
    duals : ndarray (K, N)
        ``(y - X beta)/(2 N penalty)``, or its reachable part, and its limit at 0: ``|x_j.dual| <= weights_j``.
    active : tuple of K ndarrays of int
        Coordinates on the move below each knot, in the order in which they came; the last one is that above 0.
    signs : tuple of K ndarrays
        Their signs.
    duality_gap : float
        The largest of all knots, relative to the objective.
    success : bool
    status, message : str
        A word, and a line.
    """

    penalties: np.ndarray
    betas: np.ndarray
    duals: np.ndarray
    active: tuple
    signs: tuple
    duality_gap: float
    success: bool
    status: str
    message: str

    def __repr__(self):
        return (f"LassoPath({self.status}: {len(self.penalties)} knots, penalty from {self.penalties[0]:.6g} to "
                f"{self.penalties[-1]:.6g}, duality_gap={self.duality_gap:.1e})")

    def at(self, penalty):
        """Return the minimiser at a penalty, shape (d,), or those at M penalties, shape (M, d): exact between the knots.

        Raises
        ------
        ValueError
            If a penalty is negative, not finite, or below the end of a path that was caught.
        """
        asked = np.asarray(penalty, dtype=float)
        flat = np.atleast_1d(asked)
        bad = ~(np.isfinite(flat) & (flat >= self.penalties[-1]))
        if asked.ndim > 1 or bad.any():
            what = f"shape {asked.shape}" if asked.ndim > 1 else f"{flat[bad][0]}"
            raise ValueError(f"penalty must be a number or 1-D, finite and at least {self.penalties[-1]:g}; got {what}")
        if len(self.penalties) == 1:
            betas = np.repeat(self.betas, len(flat), axis=0)
            return betas[0] if asked.ndim == 0 else betas
        above = np.clip(np.searchsorted(-self.penalties, -flat, side="right") - 1, 0, len(self.penalties) - 2)
        high, low = self.penalties[above], self.penalties[above + 1]
        share = np.clip((high - flat) / np.where(high > low, high - low, 1.0), 0.0, 1.0)[:, None]
        betas = (1.0 - share) * self.betas[above] + share * self.betas[above + 1]
        return betas[0] if asked.ndim == 0 else betas


def lasso_path(problem, weights=None):
    """Return the whole path of the Lasso, ``min L(b) + penalty sum_j weights_j |b_j|`` with ``L = |X b - y|^2/(4 N)``.

    Parameters
    ----------
    problem : Problem
    weights : array_like (d,), optional
        Positive weights, by default 1.

    Returns
    -------
    LassoPath

    Raises
    ------
    ValueError, TypeError
        If an argument is bad.

    References
    ----------
    Osborne, Presnell & Turlach (2000); Efron, Hastie, Johnstone & Tibshirani (2004), Least angle regression.
    """
    rows = checked(problem)
    w = weights_of(problem, weights)
    scaled = Scaled.of(rows.X, rows.y, w, by_rows=False)
    path = Homotopy(scaled.A, scaled.y)
    knots: list[tuple] = []
    reached = path.follow(0.0, knots)
    if reached:
        active, entries, nu = path.here(0.0)
        knots.append((0.0, active.copy(), entries, nu))
    knots = [(lam, path.kept[active], entries, nu) for lam, active, entries, nu in knots]
    gaps = _gaps(scaled, knots)
    exact = not reached or bool(np.max(gaps, initial=0.0) > GOOD)
    if exact:
        first = int(np.argmax(gaps > GOOD)) if np.any(gaps > GOOD) else len(gaps)
        knots, gaps, reached = _continued(scaled, knots, gaps, max(first - 1, 0))
    gap = float(np.max(gaps, initial=0.0))
    good = reached and gap <= GOOD
    if good:
        status = "optimal"
    else:
        status = "not certified" if reached else "caught"
    lams, nus = np.array([knot[0] for knot in knots]), np.array([knot[3] for knot in knots])
    xs = np.zeros((len(knots), problem.n_features))
    for x, (_, active, entries, _) in zip(xs, knots, strict=True):
        x[active] = entries
    products = nus @ scaled.A
    active = tuple(knot[1] for knot in knots)
    message = f"{len(knots)} knots, relative duality gap {gap:.1e} at most{', in pairs of floats' if exact else ''}"
    if not good:
        sound = int(np.argmax(gaps > GOOD)) if np.any(gaps > GOOD) else len(gaps) - 1
        message += (f"; it is certified down to penalty {_penalty(problem, rows, scaled, lams[sound]):.6g}: below, columns are "
                    f"dependent to rounding{doubt(problem, rows)}")
    return LassoPath(
        penalties=_penalty(problem, rows, scaled, lams), betas=scaled.original(xs) / w,
        duals=np.array([in_samples(rows, scaled.multipliers(nu)) for nu in nus]), active=active,
        signs=tuple(np.sign(products[i, places]) for i, places in enumerate(active)), duality_gap=gap, success=good,
        status=status, message=message + remark(problem, None))


def _gaps(scaled, knots):
    """Return the duality gap from each knot to the next: the larger of those at the knot and in the middle of the two.

    In the middle it vanishes if and only if the minimisers between the knots are the line from one to the other.
    """
    A, y = scaled.A, scaled.y
    gaps = np.zeros(len(knots))
    for i, (lam, active, entries, nu) in enumerate(knots):
        if lam == 0.0:
            x = np.zeros(A.shape[1])
            x[active] = entries
            point = certify(A, y, x, nu, 0, "")
            gaps[i] = max(point.residual, point.gap)
        else:
            x = np.zeros(A.shape[1])
            x[active] = entries
            gaps[i] = _lasso_gap(A, y, x, nu, lam)
            if i + 1 < len(knots):
                below, places, others, multipliers = knots[i + 1]
                x[places] += others
                middle = 0.5 * (lam + below)
                slope = 0.5 * (lam * nu + below * multipliers) / middle
                gaps[i] = max(gaps[i], _lasso_gap(A, y, 0.5 * x, slope, middle))
    return np.where(np.isfinite(gaps), gaps, math.inf)


def _continued(scaled, knots, gaps, first):
    """Follow the path from a knot on in pairs of floats; return its knots, their gaps, and whether its end was reached."""
    columns, most = np.ascontiguousarray(scaled.A.T), MOST_KNOTS[0] + MOST_KNOTS[1] * len(scaled.y)
    rest, reached = _lasso_exact.path(scaled.A, columns, scaled.y, knots[first][:3], _LOWEST * knots[0][0], most)
    if not reached and (not rest or rest[-1][0] > knots[-1][0]):  # the homotopy came farther
        return knots, gaps, knots[-1][0] == 0.0
    return knots[:first] + [knot[:4] for knot in rest], np.concatenate([gaps[:first], [knot[4] for knot in rest]]), reached
