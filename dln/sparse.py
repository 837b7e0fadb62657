"""Sparse predictors: l1 minimisers, the one of them that a flow selects, and the path of the Lasso.

All are found by the homotopy of the Lasso (Osborne, Presnell & Turlach 2000; Efron et al. 2004), each with a certificate.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np

from . import _l1_face
from ._certificate import Minimizer, checked, in_samples, remark, weights_of
from ._l1 import Homotopy, Scaled, least_l1
from .network import _vector
from .potential import checked_depth

__all__ = ["LassoPath", "SparseMinimizer", "basis_pursuit", "lasso", "lasso_path"]

_GOOD = 1e-12


@dataclass(frozen=True, repr=False, eq=False)
class SparseMinimizer(Minimizer):
    """A minimiser of a weighted l1 norm, and what is known of all of them.

    Attributes
    ----------
    vertex : ndarray (d,)
        A minimiser with as few entries as a vertex has; `beta` itself where the minimiser is unique.
    face : ndarray of int
        Where some minimiser is not 0.
    face_signs : ndarray of float
        The sign of every minimiser there, +1 or -1.
    unique : bool
        Whether there is one minimiser only.
    gap : float
        The smallest slack ``1 - |x_j.nu|/weights_j`` off the face, for the multipliers nu with most of it: what is off the face
        decays as ``alpha^(2 gap)`` at depth 2.  Infinite where nothing is off the face; computed when first asked for.
    """

    vertex: np.ndarray
    face: np.ndarray
    face_signs: np.ndarray
    unique: bool
    _slack: Callable[[], float] = field(repr=False)

    @cached_property
    def gap(self):
        """The smallest slack off the face, for the multipliers with most of it."""
        return self._slack()

    def __repr__(self):
        return (f"SparseMinimizer({self.status}: objective={self.objective:.6g}, {np.count_nonzero(self.vertex)} entries, "
                f"{'unique' if self.unique else f'face of {len(self.face)}'}, residual={self.residual:.1e}, "
                f"duality_gap={self.duality_gap:.1e})")


def basis_pursuit(problem, weights=None, *, depth=2, shape=None):
    """Return the interpolator of least weighted l1 norm that the flow selects: ``min sum_j weights_j |b_j|  s.t.  X b = y``.

    Where there are several, it is the limit of the minimisers of the potential as alpha tends to 0: at depth 2 the one of
    largest entropy, ``max sum_j -|b_j| log(|b_j|/shape_j^2)``, at depth D > 2 that of ``max sum_j |b_j|^(2/D)``.

    Parameters
    ----------
    problem : Problem
        The data.  Where no predictor fits every sample, ``X b = y`` means the least-squares solutions.
    weights : array_like (d,), optional
        Positive weights.  By default 1 at depth 2, the limit for ``alpha_j = c shape_j`` as c -> 0; weights k are the limit for
        ``alpha_j = shape_j c^(k_j)``.  At depth D > 2 by default ``shape_j^(2-D)``.
    depth : float
        D of the network ``beta = u^D - v^D``, at least 2.
    shape : float or array_like (d,), optional
        Positive proportions of alpha, by default 1.

    Returns
    -------
    SparseMinimizer
        With a dual certificate: ``|x_j.dual| <= weights_j``.

    Raises
    ------
    ValueError, TypeError
        If an argument is bad, or both weights and a shape are given at depth D > 2, where one decides the other.

    Notes
    -----
    The homotopy of the Lasso, down to penalty 0.  Where its certificate fails, the linear programme is solved by HiGHS in
    SciPy, after rows and target have been scaled to 1; its vertex and its multipliers are then solved for directly.

    References
    ----------
    Chen, Donoho & Saunders (1998), Atomic decomposition by basis pursuit; Osborne, Presnell & Turlach (2000), A new approach
    to variable selection in least squares problems; Woodworth et al. (2020) for the limit.

    Examples
    --------
    >>> import dln
    >>> best = dln.basis_pursuit(dln.Problem([[1.0, 1.0, 0.5]], [2.0]), shape=[1.0, 3.0, 1.0])
    >>> best.beta.round(6), best.face.tolist(), float(best.gap)
    (array([0.2, 1.8, 0. ]), [0, 1], 0.5)
    """
    depth = checked_depth(depth)
    rows = checked(problem)
    d = problem.n_features
    log_shape = np.zeros(d) if shape is None else np.log(_vector("shape", shape, d, positive=True))
    if depth > 2.0 and shape is not None:
        if weights is not None:
            raise ValueError(f"give weights or shape, not both: at depth {depth:g} the weights are shape^(2 - depth)")
        weights = np.exp((2.0 - depth) * log_shape)
    w = weights_of(problem, weights)
    with np.errstate(under="ignore"):
        scaled = Scaled.of(rows.X, rows.y, w, by_rows=True)
        point = least_l1(scaled.A, scaled.y) if rows.y.any() else None
    if point is None:
        return _nothing(problem, rows)
    face = _l1_face.face_of(scaled.A, point.x, point.nu)
    vertex, x, selected = scaled.original(point.x) / w, point.x, True
    if not face.unique:
        unit = scaled.original(np.ones(d)) / w
        kind = _l1_face.entropy(unit, log_shape) if depth == 2.0 else _l1_face.fractional(unit, depth)
        x, selected = _l1_face.select(scaled.A, scaled.y, face, kind)
    beta = scaled.original(x) / w
    objective = float(np.sum(w * np.abs(beta)))
    residual = _relative(rows.X @ beta - rows.y, rows.y)
    size = float(np.sum(np.abs(x)))
    duality_gap = abs(size - float(scaled.y @ point.nu)) / size if size > 0.0 else 0.0
    good = residual <= _GOOD and duality_gap <= _GOOD
    steps = f"{point.n_iterations} {'knots' if point.solver == 'homotopy' else 'iterations'}"
    message = f"relative residual {residual:.1e}, relative duality gap {duality_gap:.1e} ({point.solver}, {steps})"
    if not face.unique:
        message += f"; many minimisers, on a face of {len(face.places)} coordinates"
    if not selected:
        message += "; the one that a flow selects was not found"
    return SparseMinimizer(
        beta=beta, dual=in_samples(rows, scaled.multipliers(point.nu)), objective=objective, residual=residual,
        duality_gap=duality_gap, success=good and selected,
        status="not certified" if not good else "optimal" if selected else "not selected",
        message=message + remark(problem, None), n_iterations=point.n_iterations, vertex=vertex, face=face.places,
        face_signs=face.signs[face.places], unique=face.unique,
        _slack=partial(_l1_face.most_slack, scaled.A, face, point.nu))


def _nothing(problem, rows):
    d, none = problem.n_features, np.empty(0)
    return SparseMinimizer(beta=np.zeros(d), dual=np.zeros(problem.n_samples), objective=0.0, residual=0.0, duality_gap=0.0,
                           success=True, status="optimal", message="there is nothing to fit" + remark(problem, None),
                           n_iterations=0, vertex=np.zeros(d), face=none.astype(np.int64), face_signs=none, unique=True,
                           _slack=partial(float, 1.0))


def _relative(r, y):
    size = float(np.max(np.abs(y)))
    return float(np.linalg.norm(r / size) / np.linalg.norm(y / size))


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
    gap = _lasso_gap(scaled.A, scaled.y, x, nu, lam)
    beta = scaled.original(x) / w
    good = gap <= _GOOD
    residual = _relative(rows.X @ beta - rows.y, rows.y) if rows.y.any() else 0.0
    message = (f"relative duality gap {gap:.1e} (homotopy, {path.ints[1]} knots), {len(active)} entries"
               f"{remark(problem, None)}")
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
    xs = np.array([path.spread(active, entries) for _, active, entries, _ in knots])
    lams, nus = np.array([knot[0] for knot in knots]), np.array([knot[3] for knot in knots])
    gaps = [_lasso_gap(scaled.A, scaled.y, x, nu, lam) for x, nu, lam in zip(xs, nus, lams, strict=True) if lam > 0.0]
    gap = float(np.max(gaps, initial=0.0))
    good = reached and gap <= _GOOD
    if good:
        status = "optimal"
    else:
        status = "not certified" if reached else "caught"
    products = nus @ scaled.A
    active = tuple(path.kept[knot[1]] for knot in knots)
    return LassoPath(
        penalties=_penalty(problem, rows, scaled, lams), betas=scaled.original(xs) / w,
        duals=np.array([in_samples(rows, scaled.multipliers(nu)) for nu in nus]), active=active,
        signs=tuple(np.sign(products[i, places]) for i, places in enumerate(active)), duality_gap=gap, success=good,
        status=status, message=f"{len(knots)} knots, relative duality gap {gap:.1e} at most{remark(problem, None)}")
