"""The interpolators that theory predicts: minimisers of the potential, of the l1 norm, of weighted l2 norms.

Each comes with a certificate: its residual and its duality gap, both relative.
"""

import math

import numpy as np

from . import potential
from ._certificate import Minimizer, certified, checked, in_samples, remark, target_of, weights_of
from ._deep_dual import DeepDual
from ._dual import DualProblem
from .network import initialize
from .sparse import basis_pursuit

__all__ = ["Minimizer", "basis_pursuit", "minimize_potential", "minimum_norm", "predict"]


def minimize_potential(problem, *, depth=2, alpha=None, log_alpha=None, center=None, log_ratio=None, target=None, tol=1e-13):
    """Minimise the implicit-bias potential over the interpolators: ``min D_phi(b, center)  s.t.  X b = y``.

    Parameters
    ----------
    problem : Problem
        The data.  Where no predictor fits every sample, ``X b = y`` means the least-squares solutions.
    depth : float
        D of the network ``beta = u^D - v^D``, at least 2.
    alpha, log_alpha : float or array_like (d,)
        Scale of the potential, or its logarithm; exactly one.
    center : array_like (d,), optional
        Bregman centre; by default 0, and the divergence is the potential itself.
    log_ratio : float or array_like (d,), optional
        The centre as ``log(u/v)`` of its weights, at depth 2 ``2 alpha^2 sinh(log_ratio)``, which does not underflow; instead
        of `center`.
    target : array_like (N,), optional
        Constrain ``X b = target`` instead of y; only its reachable part counts.
    tol : float
        Tolerance on the relative residual.

    Returns
    -------
    Minimizer

    Raises
    ------
    ValueError, TypeError
        If an argument is bad.

    References
    ----------
    Woodworth et al. (2020), Theorems 1 and 3; Azulay et al. (2021) for the centre.
    """
    depth = potential.checked_depth(depth)
    rows = checked(problem)
    if center is not None and log_ratio is not None:
        raise ValueError("give center or log_ratio = asinh(center/(2 alpha^2)), not both")
    start = initialize(problem.n_features, alpha=alpha, log_alpha=log_alpha, log_ratio=log_ratio)
    shift = start.log_ratio
    if center is not None:
        center = np.asarray(center, dtype=float)
        if center.shape not in ((), (problem.n_features,)):
            raise ValueError(f"center must have shape ({problem.n_features},), got {center.shape}")
        shift = potential.mirror(np.broadcast_to(center, (problem.n_features,)), log_alpha=start.log_alpha, depth=depth,
                                 name="center")
    return _dual_newton(problem, rows, target_of(problem, rows, target), start.log_alpha, shift, tol, remark(problem, target),
                        depth)


def predict(run, *, at_time=False):
    """Return the minimiser that theory predicts for a run: its effective initialisation, its centre, its data.

    Parameters
    ----------
    run : FlowResult, DescentResult or another result of this package
        Any run, converged or not.
    at_time : bool
        If False, the predicted limit: the constraint is ``X b = y``.  If True, the strong form of the theorem, which holds
        at every time: the constraint is ``X b = X beta(t)`` and the minimiser is ``beta(t)`` itself.

    Returns
    -------
    Minimizer
    """
    problem = run.problem
    rows = checked(problem)
    if not np.isfinite(run.log_effective_alpha).all():
        j = np.flatnonzero(~np.isfinite(run.log_effective_alpha))[0]
        raise ValueError(f"a weight of coordinate {j} is exactly 0 or not finite: this run has no effective initialisation")
    if not np.isfinite(run.center).all():
        j = np.flatnonzero(~np.isfinite(run.center))[0]
        raise ValueError(f"the centre of coordinate {j} is beyond the floats, log(alpha+/alpha-) = "
                         f"{run.effective_log_ratio[j]:.3g}: the steps were far beyond the edge of stability")
    target = problem.X @ run.beta if at_time else None
    return _dual_newton(problem, rows, target_of(problem, rows, target), run.log_effective_alpha, run.effective_log_ratio,
                        1e-13, remark(problem, target) + _without_law(run), run.depth)


def _without_law(run):
    if run.exact_law:
        return ""
    why = f"this rule keeps no exact law at depth {run.depth:g}" if run.depth > 2 else "a weight has passed through 0"
    return f"; a comparison: {why}"


def _dual_newton(problem, rows, y, log_alpha, ratio, tol, remark, depth=2.0):
    solve = _solve if depth == 2.0 else _solve_deep
    beta, nu, objective, dual_objective, residual, n_iterations = solve(rows, y, log_alpha, ratio, tol, depth)
    gap = abs(objective - dual_objective) / abs(objective) if objective != 0.0 else 0.0
    good = math.isfinite(residual) and residual <= max(tol, 1e-12) and gap <= 1e-12
    message = f"relative residual {residual:.1e}, relative duality gap {gap:.1e} after {n_iterations} Newton steps{remark}"
    if not good:
        message = f"stopped at {message}; are the rows of X nearly dependent?"
    return Minimizer(beta=beta, dual=in_samples(rows, nu), objective=objective, residual=residual, duality_gap=gap,
                     success=good, status="optimal" if good else "not converged", message=message,
                     n_iterations=n_iterations)


def _solve(rows, y, log_alpha, ratio, tol, depth):
    """Return (beta, multipliers, objective, dual objective, relative residual, iterations) at depth 2."""
    largest = float(np.max(np.abs(y), initial=0.0))
    if largest > 0.0 and not 1e-120 < largest < 1e120:
        # Squares would leave the floats: phi of (s b, s alpha^2) is s phi, so bring the targets to 1 and back.
        shift = int(np.frexp(largest)[1])
        beta, nu, *objectives, residual, n_iterations = _solve(
            rows, np.ldexp(y, -shift), log_alpha - 0.5 * math.log(2.0) * shift, ratio, tol, depth)
        with np.errstate(over="ignore", under="ignore"):
            return (np.ldexp(beta, shift), nu, *(float(np.ldexp(value, shift)) for value in objectives), residual,
                    n_iterations)
    dual = DualProblem(rows, y, log_alpha, ratio)
    if dual.scale == 0.0 or rows.X.shape[0] == 0:
        point, residual = (np.zeros(rows.X.shape[0]), ratio, np.zeros_like(ratio)), 0.0
    else:
        point, residual = dual.follow(tol)
    return *read(dual, point), residual, dual.n_iterations


def read(dual, point):
    """Return (beta, multipliers, objective, dual objective) at a point of the path where it ends."""
    nu, w, correction = point
    log_sizes, beta, _ = dual.evaluate(w, correction)
    objective, conjugate = _divergence(w + correction, dual.ratio, beta, log_sizes, dual.log_alpha)
    return beta, nu, objective, float(dual.y @ nu) - conjugate


def _solve_deep(rows, y, log_alpha, ratio, tol, depth):
    """Return the same at depth D > 2; objectives and multipliers may be beyond the floats, their ratio is not."""
    dual = DeepDual(rows, y, log_alpha, ratio, depth)
    if dual.scale == 0.0 or rows.X.shape[0] == 0:
        (nu, point), residual = (np.zeros(rows.X.shape[0]), dual.point(ratio)), 0.0
    else:
        (nu, point), residual = dual.follow(tol)
    return *read_deep(dual, (nu, point)), residual, dual.n_iterations


def read_deep(dual, solution):
    """Return the same as `read` at depth D > 2."""
    nu, point = solution
    log_unit, objective, dual_objective = dual.certificate(nu, point)
    with np.errstate(over="ignore"):
        multipliers = np.where(nu == 0.0, 0.0, np.where(nu == 0.0, 1.0, nu) * np.exp(log_unit))  # the unit may be infinite
    return dual.predictor(point), multipliers, objective, dual_objective


def _divergence(w, ratio, beta, log_sizes, log_alpha):
    """Return the Bregman divergence and the conjugate's difference, from beta and sizes that are more accurate than w."""
    near = np.abs(w - ratio) < 0.5
    with np.errstate(under="ignore"):
        size = np.exp(log_sizes)
        start = np.exp(2.0 * log_alpha + np.logaddexp(ratio, -ratio))
    conjugate = np.where(near, potential.conjugate_difference(w, ratio, log_alpha=log_alpha), 0.25 * (size - start))
    terms = np.where(near, potential.divergence_terms(w, ratio, log_alpha=log_alpha), 0.25 * beta * (w - ratio) - conjugate)
    return float(np.sum(terms)), float(np.sum(conjugate))


def minimum_norm(problem, weights=None):
    """Return the interpolator of least weighted l2 norm, ``min sum_j weights_j b_j^2 / 2  s.t.  X b = y``.

    Parameters
    ----------
    problem : Problem
    weights : array_like (d,), optional
        Positive weights, by default 1; ``1/alpha_j^2`` is the kernel limit of the potential.

    Returns
    -------
    Minimizer
    """
    rows = checked(problem)
    w = weights_of(problem, weights)
    root = np.sqrt(w)
    y_norm = float(np.linalg.norm(rows.y))
    if y_norm == 0.0:
        beta, nu, residual = np.zeros(problem.n_features), np.zeros(rows.X.shape[0]), 0.0
    else:
        # X W^-1/2 = R^T Q^T: b = W^-1/2 Q z with R^T z = y.  QR keeps the conditioning of X, not its square.
        Q, R = np.linalg.qr((rows.X / root).T)
        z = np.linalg.solve(R.T, rows.y)
        beta, nu = (Q @ z) / root, np.linalg.solve(R, z)
        residual = float(np.linalg.norm(rows.X @ beta - rows.y)) / y_norm
    objective = 0.5 * float(np.sum(w * beta**2))
    dual_objective = float(rows.y @ nu) - 0.5 * float(np.sum((nu @ rows.X) ** 2 / w))
    return certified(problem, rows, beta, nu, objective, dual_objective, residual, 1, "QR")
