"""Maximum-margin predictors, which training on two classes tends to: of the l1 norm, the l2 norm, the potential in between.

Each comes with a certificate: by how much it violates ``Z b >= 1``, and its duality gap, both relative.
"""

import math
from dataclasses import dataclass

import numpy as np

from ._dual import DualProblem
from ._l1 import polish
from ._suggest import unknown
from .classification import checked_classification
from .minimizer import _divergence
from .network import difference_of_squares, initialize
from .row_space import RowSpace

__all__ = ["NORMS", "MarginMaximizer", "maximum_margin"]

NORMS = ("l1", "l2", "potential")

_GOOD = 1e-10


@dataclass(frozen=True, repr=False, eq=False)
class MarginMaximizer:
    """A maximum-margin predictor with its certificate.

    Attributes
    ----------
    beta : ndarray (d,)
        The minimiser of the norm (or potential) subject to ``Z b >= 1``.
    dual : ndarray (N,)
        Multipliers of the constraints, at least 0: ``Z^T dual`` is a subgradient of what was minimised, at beta.
    support : ndarray of int
        The samples whose multipliers are positive: the support vectors.
    objective : float
        Value of what was minimised: ``|b|_1``, ``|b|_2^2 / 2`` or the Bregman divergence.
    residual : float
        ``max(0, 1 - min_i z_i.b)``.
    duality_gap : float
        Primal minus dual objective, relative to the primal.
    norm : str
    success : bool
        Residual and gap are at most 1e-10.
    status, message : str
        A word, and a line.
    n_iterations : int
    """

    beta: np.ndarray
    dual: np.ndarray
    support: np.ndarray
    objective: float
    residual: float
    duality_gap: float
    norm: str
    success: bool
    status: str
    message: str
    n_iterations: int

    def __repr__(self):
        return (f"MarginMaximizer({self.norm}, {self.status}: objective={self.objective:.6g}, residual={self.residual:.1e}, "
                f"duality_gap={self.duality_gap:.1e}, support vectors={len(self.support)})")


def maximum_margin(problem, norm="l1", *, mu=None, log_mu=None, log_ratio=None):
    """Minimise a norm or the potential subject to ``z_i.b >= 1`` for every sample.

    Parameters
    ----------
    problem : Classification
        The data.
    norm : {"l1", "l2", "potential"}
        What is minimised.  "potential" is ``sum_j (mu_j/2) q(b_j/(2 mu_j))`` with ``q(x) = x asinh x - sqrt(1 + x^2) + 1``: the
        potential of initial scale alpha at ``b = beta/margin``, with ``mu = alpha^2/margin``.
    mu, log_mu : float or array_like (d,), optional
        For "potential", and exactly one: its scale or the logarithm of that, one number or one per coordinate.
    log_ratio : float or array_like (d,), optional
        For "potential": shape ``log(u0/v0)`` of the initial weights; the Bregman divergence from ``2 mu sinh(log_ratio)`` is
        minimised.

    Returns
    -------
    MarginMaximizer
        Data that are not separable do not raise: look at `success`, `status` and `message`.

    Raises
    ------
    ValueError, TypeError
        If an argument is bad.

    Notes
    -----
    l1: a linear programme, solved by HiGHS on scaled data, its vertex and multipliers then solved for directly.  l2: the dual
    is nonnegative least squares.  Potential: an active set for the multipliers, as in Lawson & Hanson's method; on each
    set the damped Newton method, with its path in the scale, that `minimize_potential` uses.

    References
    ----------
    Moroshko et al. (2020), Implicit bias in deep linear classification: initialization scale vs training accuracy.

    Examples
    --------
    >>> import dln
    >>> problem = dln.Classification([[2.0, 1.0], [-1.0, -3.0]], [1, -1])
    >>> dln.maximum_margin(problem, "l1").beta.round(6) + 0.0
    array([0.4, 0.2])
    """
    checked_classification(problem)
    if norm not in NORMS:
        raise ValueError(unknown("norm", norm, NORMS))
    if norm != "potential":
        for name, value in (("mu", mu), ("log_mu", log_mu), ("log_ratio", log_ratio)):
            if value is not None:
                raise ValueError(f"{name} goes with norm='potential', not with {norm!r}")
    else:
        scale = checked_scale(problem, mu, log_mu, log_ratio)
    if not problem.separation.separable:
        d, n = problem.n_features, problem.n_samples
        return MarginMaximizer(np.full(d, np.nan), np.full(n, np.nan), np.empty(0, dtype=int), math.inf, math.inf, math.nan,
                               norm, False, "not separable", problem.separation.message, 0)
    if norm == "l1":
        return _certified(problem, norm, *_l1(problem.Z))
    if norm == "l2":
        return _certified(problem, norm, *_l2(problem.Z))
    return _certified(problem, norm, *_ActiveSet(problem.Z, 0.5 * scale.log_alpha, scale.log_ratio).solve())


def checked_scale(problem, mu, log_mu, log_ratio):
    """Check and broadcast mu and the shape; the result's `log_alpha` is log mu."""
    if (mu is None) == (log_mu is None):
        raise ValueError(f"give exactly one of mu and log_mu, got {'none of them' if mu is None else 'both'}")
    try:
        return initialize(problem.n_features, alpha=mu, log_alpha=log_mu, log_ratio=log_ratio)
    except (TypeError, ValueError) as error:  # only the name in the message is another one
        raise type(error)(str(error).replace("alpha", "mu")) from None


def _certified(problem, norm, beta, nu, objective, dual_objective, n_iterations):
    residual = max(0.0, 1.0 - problem.margin(beta)) if np.isfinite(beta).all() else math.inf
    gap = math.nan if math.isnan(objective) else abs(objective - dual_objective) / objective if objective > 0.0 else 0.0
    good = residual <= _GOOD and gap <= _GOOD
    support = np.flatnonzero(nu > 1e-12 * np.max(nu, initial=0.0))
    message = (f"violation {residual:.1e}, relative duality gap {gap:.1e}, {len(support)} support vectors, after "
               f"{n_iterations} iterations")
    return MarginMaximizer(beta, nu, support, objective, residual, gap, norm, good, "optimal" if good else "not certified",
                           message, n_iterations)


# --- l1 --------------------------------------------------------------------------------------------------------------


def _l1(Z):
    """Return (beta, multipliers, objective, dual objective, iterations)."""
    from scipy.optimize import linprog

    n, d = Z.shape
    # Rows alone are scaled to 1, since the norm fixes the scale of the columns up to a common one.
    unit = int(np.max(np.frexp(np.abs(Z).max(axis=1))[1]))
    A = np.ldexp(Z, -unit)
    row = np.abs(A).max(axis=1)
    A, right = A / row[:, None], 1.0 / row
    size = float(right.max())  # of a predictor
    right = right / size
    programme = linprog(np.ones(2 * d), A_ub=np.hstack([-A, A]), b_ub=-right, bounds=(0, None), method="highs",
                        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10})
    if programme.x is None:
        return np.full(d, np.nan), np.full(n, np.nan), math.nan, math.nan, int(programme.nit)
    b, nu = programme.x[:d] - programme.x[d:], np.maximum(-np.asarray(programme.ineqlin.marginals), 0.0)
    b, nu = _polished_vertex(A, right, b, nu)
    # What rounding leaves of infeasibility is scaled away, on both sides, at its price in the gap.
    b = b * max(1.0, float(np.max(right / (A @ b)))) if np.all(A @ b > 0.0) else b
    nu = np.maximum(nu, 0.0) / max(1.0, float(np.max(np.abs(nu @ A))))
    objective, dual_objective = float(np.sum(np.abs(b))), float(right @ nu)
    factor = math.ldexp(size, -unit)
    return b * factor, np.ldexp(nu / row, -unit), objective * factor, dual_objective * factor, int(programme.nit)


def _polished_vertex(A, right, b, nu):
    tight = (A @ b - right <= 1e-8 * right) | (nu > 1e-9 * nu.max(initial=0.0))
    better, multipliers = polish(A[tight], right[tight], b, nu[tight])
    if np.all(A @ better >= right * (1.0 - 1e-9)):
        b = better
        if np.all(multipliers >= -1e-9 * np.max(multipliers, initial=0.0)):
            nu = np.zeros_like(nu)
            nu[tight] = np.maximum(multipliers, 0.0)
    return b, nu


# --- l2 --------------------------------------------------------------------------------------------------------------


def _l2(Z):
    """Return (beta, multipliers, objective, dual objective, iterations)."""
    unit = int(np.max(np.frexp(np.abs(Z).max(axis=1))[1]))
    A = np.ldexp(Z, -unit)
    row = np.linalg.norm(A, axis=1)
    nu = _least_distance(A / row[:, None], 1.0 / row) / row
    active = nu > 0.0
    b = A.T @ nu
    # On the active set the minimiser solves equations: QR keeps the conditioning of the rows, not its square.
    Q, R = np.linalg.qr(A[active].T)
    if R.shape[0] == R.shape[1] and np.all(np.abs(np.diag(R)) > 1e-12 * np.abs(R).max()):
        z = np.linalg.solve(R.T, np.ones(R.shape[0]))
        multipliers = np.linalg.solve(R, z)
        if np.all(multipliers >= 0.0):
            b, nu[active] = Q @ z, multipliers
    objective = 0.5 * float(b @ b)
    dual_objective = float(nu.sum()) - 0.5 * float(np.sum((nu @ A) ** 2))
    factor = math.ldexp(1.0, -unit)
    return b * factor, nu * factor * factor, objective * factor**2, dual_objective * factor**2, int(np.count_nonzero(active))


def _least_distance(A, right):
    """Return multipliers of ``min |b|^2/2 s.t. A b >= right`` (Lawson & Hanson 1974, Solving least squares problems, 23)."""
    from scipy.optimize import nnls

    # In units in which the solution has norm 1 or so: the residual is then not a small difference.
    size = 1.0
    for _ in range(3):
        E = np.vstack([A.T * size, right])
        target = np.append(np.zeros(A.shape[1]), 1.0)
        x, _ = nnls(E, target, maxiter=30 * max(E.shape))
        residual = target - E @ x
        if not residual[-1] > 0.0:
            break
        norm = float(np.linalg.norm(residual[:-1])) / residual[-1] * size
        if 0.1 < norm / size < 10.0:
            break
        size = norm
    return x / residual[-1] * size * size


# --- potential -------------------------------------------------------------------------------------------------------


class _ActiveSet:
    """Minimise the divergence from ``2 mu sinh(ratio)`` subject to ``Z b >= 1``: Lawson & Hanson's active set, on its dual.

    The dual ``F(nu) = sum conjugate(4 Z^T nu) - sum nu`` over ``nu >= 0`` is convex.  With the multipliers of all but a set of
    samples held at 0 its minimum solves ``z_i.b = 1`` on the set.  If some multiplier there is negative, go towards it only
    until the first one vanishes, and drop that; else add the sample that is violated most.  F falls every time, so no set
    returns.
    """

    def __init__(self, Z, log_scale, ratio):
        self.Z, self.log_alpha, self.ratio = Z, log_scale, ratio
        self.row = np.abs(Z).max(axis=1)
        self.n_iterations = 0

    def equality(self, active):
        """Return (b, multipliers, objective, dual objective) of ``z_i.b = 1`` on a set of independent rows."""
        ones = np.ones(len(active))
        rows = RowSpace(np.ascontiguousarray(self.Z[active]), ones, None, 0.0, True)
        dual = DualProblem(rows, ones, self.log_alpha, self.ratio)
        (nu, w, correction), _ = dual.follow(1e-13)
        log_sizes, b, _ = dual.evaluate(w, correction)
        self.n_iterations += dual.n_iterations
        objective, conjugate = _divergence(w + correction, self.ratio, b, log_sizes, self.log_alpha)
        return b.copy(), nu, objective, float(nu.sum()) - conjugate

    def solve(self):
        """Return (beta, multipliers, objective, dual objective, iterations)."""
        n = self.Z.shape[0]
        nu = np.zeros(n)
        center = difference_of_squares(2.0 * self.log_alpha, self.ratio)
        active = np.empty(0, dtype=int)
        b, objective, dual_objective = center, 0.0, 0.0
        for _ in range(20 * n + 100):
            if len(active):
                b, multipliers, objective, dual_objective = self.equality(active)
                if np.any(multipliers < 0.0):
                    old = nu[active]
                    falling = multipliers < 0.0
                    share = np.min(old[falling] / (old[falling] - multipliers[falling]))
                    moved = old + share * (multipliers - old)
                    kept = (moved > 0.0) & ~(falling & (old <= share * (old - multipliers) * (1.0 + 1e-12)))
                    nu[:] = 0.0
                    nu[active[kept]] = moved[kept]
                    active = active[kept]
                    continue
                nu[:] = 0.0
                nu[active] = multipliers
            violation = (1.0 - self.Z @ b) / np.maximum(1.0, self.row * np.max(np.abs(b), initial=0.0))
            violation[active] = -math.inf
            worst = int(np.argmax(violation))
            if violation[worst] <= 1e-13:
                break
            entered = self.enter(active, worst, nu)
            if entered is None:
                break
            active = entered
        return b, nu, objective, dual_objective, self.n_iterations

    def enter(self, active, new, nu):
        """Add a sample; where its row depends on those that are active, exchange it: F falls along ``nu_new - combination``."""
        rows = self.Z[active] / self.row[active, None]
        target = self.Z[new] / self.row[new]
        if len(active) == 0:
            return np.array([new])
        shares, *_ = np.linalg.lstsq(rows.T, target, rcond=None)
        if np.linalg.norm(shares @ rows - target) > 1e-11 * np.linalg.norm(target):
            return np.append(active, new)
        shares = shares * self.row[new] / self.row[active]  # z_new = shares @ Z[active]
        leaving = shares > 1e-13 * np.max(np.abs(shares))
        if not leaving.any():
            return None  # F would fall for ever: the data would not be separable
        ratio = np.where(leaving, nu[active] / np.where(leaving, shares, 1.0), math.inf)
        out = int(np.argmin(ratio))
        nu[active] -= ratio[out] * shares
        nu[new] += ratio[out]
        nu[active[out]] = 0.0
        np.maximum(nu, 0.0, out=nu)
        return np.append(np.delete(active, out), new)
