"""What a minimiser is, with its certificate: shared by all that find one."""

from dataclasses import dataclass

import numpy as np

from .problem import Problem


@dataclass(frozen=True, repr=False, eq=False)
class Minimizer:
    """A minimiser with its certificate.

    Attributes
    ----------
    beta : ndarray (d,)
        The minimiser.
    dual : ndarray (N,)
        Multipliers of ``X b = target``: for a potential, ``grad phi(beta) - grad phi(center) = X^T dual``.  At depth D > 2
        they are of size ``alpha^(2-D)``, infinite where that is beyond the floats.
    objective : float
        Value of what was minimised.
    residual : float
        Norm of the reachable part of ``X beta - target``, relative to that of the target, or of ``X center`` if that is more.
    duality_gap : float
        Primal minus dual objective, relative to the primal.
    success : bool
    status, message : str
        A word, and a line.
    n_iterations : int
    """

    beta: np.ndarray
    dual: np.ndarray
    objective: float
    residual: float
    duality_gap: float
    success: bool
    status: str
    message: str
    n_iterations: int

    def __repr__(self):
        return (f"Minimizer({self.status}: objective={self.objective:.6g}, residual={self.residual:.1e}, "
                f"duality_gap={self.duality_gap:.1e}, iterations={self.n_iterations})")


def checked(problem):
    """Return the row space of what must be a Problem."""
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be a dln.Problem, got {type(problem).__name__}; build one with dln.Problem(X, y)")
    return problem.row_space


def target_of(problem, rows, target):
    """Return the target in the coordinates of `rows`; y if none is given."""
    if target is None:
        return rows.y
    vector = np.asarray(target, dtype=float)
    if vector.shape != (problem.n_samples,):
        raise ValueError(f"target must have shape ({problem.n_samples},), one entry per row of X; got {vector.shape}")
    if not np.isfinite(vector).all():
        k = np.flatnonzero(~np.isfinite(vector))[0]
        raise ValueError(f"target[{k}] must be finite, got {vector[k]}")
    return vector if rows.basis is None else rows.basis.T @ vector


def in_samples(rows, nu):
    """Return multipliers with one entry per sample of the original data."""
    if rows.basis is None:
        return nu
    with np.errstate(invalid="ignore"):  # multipliers beyond the floats are combined into NaN
        return rows.basis @ nu


def remark(problem, target):
    """Say what the constraint is where the data cannot be interpolated."""
    if target is not None or problem.interpolates:
        return ""
    return "; no predictor fits every sample, so the constraint is that of least squares"


def weights_of(problem, weights):
    """Check the weights of the coordinates, shape (d,); by default 1."""
    d = problem.n_features
    w = np.ones(d) if weights is None else np.asarray(weights, dtype=float)
    if w.shape != (d,):
        raise ValueError(f"weights must have shape ({d},), one entry per column of X; got {w.shape}")
    bad = ~(np.isfinite(w) & (w > 0.0))
    if bad.any():
        k = np.flatnonzero(bad)[0]
        raise ValueError(f"weights[{k}] must be positive and finite, got {w[k]}")
    return w


def certified(problem, rows, beta, nu, objective, dual_objective, residual, n_iterations, solver):
    """Judge a minimiser by its residual and its duality gap."""
    gap = abs(objective - dual_objective) / objective if objective > 0.0 else 0.0
    good = residual <= 1e-9 and gap <= 1e-9
    message = (f"relative residual {residual:.1e}, relative duality gap {gap:.1e} ({solver}, {n_iterations} iterations)"
               f"{remark(problem, None)}")
    return Minimizer(beta=beta, dual=in_samples(rows, nu), objective=objective, residual=residual, duality_gap=gap,
                     success=good, status="optimal" if good else "not certified", message=message, n_iterations=n_iterations)
