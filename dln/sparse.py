"""Sparse predictors: l1 minimisers, the one of them that a flow selects, and the path of the Lasso.

All are found by the homotopy of the Lasso (Osborne, Presnell & Turlach 2000; Efron et al. 2004), each with a certificate.
The Lasso itself is in `_lasso`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np

from . import _l1_face
from ._certificate import Minimizer, checked, in_samples, remark, weights_of
from ._l1 import Scaled, least_l1, refined
from ._lasso import LassoPath, doubt, lasso, lasso_path, relative
from ._pairs import pairs, product, total
from .network import _logarithms
from .potential import checked_depth

__all__ = ["LassoPath", "SparseMinimizer", "basis_pursuit", "lasso", "lasso_path"]

_GOOD = 1e-12
_ROUNDED = 1e-15  # what rounding the entries can do to a sum of them, relative to its terms


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
    backward_error : float
        The largest over samples of ``|x_i.beta - y_i|/(sum_j |x_ij beta_j| + |y_i|)``: by so much, relative to themselves,
        entries of X and y need to change for beta to fit (Oettli & Prager 1964).  Where entries are large and cancel, rounding
        them leaves a `residual` above 1e-12; with a backward error of 1e-16 no better floats are to be had.
    """

    vertex: np.ndarray
    face: np.ndarray
    face_signs: np.ndarray
    unique: bool
    backward_error: float
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
    log_shape = np.zeros(d) if shape is None else _logarithms("shape", shape, d)
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
    if point.solver == "homotopy" and (relative(rows.X @ (scaled.original(point.x) / w) - rows.y, rows.y) > _GOOD
                                       or _l1_face.unclear(scaled.A, point.x, point.nu)):
        point = refined(scaled.A, scaled.y, point) or point
    face = _l1_face.face_of(scaled.A, point.x, point.nu, point.products, exact=rows.basis is None)
    vertex, x, selected = scaled.original(point.x) / w, point.x, True
    if not face.unique:
        unit = scaled.original(np.ones(d)) / w
        kind = _l1_face.entropy(unit, log_shape) if depth == 2.0 else _l1_face.fractional(unit, depth)
        x, selected = _l1_face.select(scaled.A, scaled.y, face, kind)
    beta = scaled.original(x) / w
    objective = float(np.sum(w * np.abs(beta)))
    size = float(np.sum(np.abs(x)))
    if point.solver == "pairs":
        r = total(product(rows.X, pairs(beta)), pairs(rows.y), -1.0)[0]
        duality_gap = point.gap
    else:
        r = rows.X @ beta - rows.y
        duality_gap = abs(size - float(scaled.y @ point.nu)) / size if size > 0.0 else 0.0
    residual, backward_error = relative(r, rows.y), _backward_error(r, rows, beta)
    rounded = point.good and point.solver == "pairs" and backward_error <= _ROUNDED
    good = (residual <= _GOOD or rounded) and duality_gap <= _GOOD
    steps = f"{point.n_iterations} {'iterations' if point.solver == 'HiGHS' else 'knots'}"
    solver = "homotopy, refined in pairs of floats" if point.solver == "pairs" else point.solver
    message = f"relative residual {residual:.1e}, relative duality gap {duality_gap:.1e} ({solver}, {steps})"
    if rounded and residual > _GOOD:
        message += (f"; before its entries were rounded to floats the residual was {point.residual:.1e}: they are large and "
                    "cancel, and no floats fit better")
    if not face.unique:
        message += f"; many minimisers, on a face of {len(face.places)} coordinates"
    if not selected:
        message += "; the one that a flow selects was not found"
    return SparseMinimizer(
        beta=beta, dual=in_samples(rows, scaled.multipliers(point.nu)), objective=objective, residual=residual,
        duality_gap=duality_gap, success=good and selected,
        status="not certified" if not good else "optimal" if selected else "not selected",
        message=message + doubt(problem, rows) + remark(problem, None), n_iterations=point.n_iterations, vertex=vertex,
        face=face.places, face_signs=face.signs[face.places], unique=face.unique, backward_error=backward_error,
        _slack=partial(_l1_face.most_slack, scaled.A, face, point.nu))


def _nothing(problem, rows):
    d, none = problem.n_features, np.empty(0)
    return SparseMinimizer(beta=np.zeros(d), dual=np.zeros(problem.n_samples), objective=0.0, residual=0.0, duality_gap=0.0,
                           success=True, status="optimal", message="there is nothing to fit" + remark(problem, None),
                           n_iterations=0, vertex=np.zeros(d), face=none.astype(np.int64), face_signs=none, unique=True,
                           backward_error=0.0, _slack=partial(float, 1.0))


def _backward_error(r, rows, beta):
    terms = np.abs(rows.X) @ np.abs(beta) + np.abs(rows.y)
    return float(np.max(np.abs(r) / np.where(terms > 0.0, terms, 1.0), initial=0.0))
