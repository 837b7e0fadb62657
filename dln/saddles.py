"""From saddle to saddle: `saddles`, the process that gradient flow follows as its initial scale tends to 0.

In the time ``tau = t/log(1/alpha)`` the dual, per log(1/alpha), moves with constant velocity ``-c y`` inside of the polytope
``|x_j.m| <= 1/2``; where it meets the boundary it is held back: a sweeping process, whose velocity is the projection of a
constant on tangent cones.  The forces that hold it back are the predictor.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from ._saddle_bound import bound
from ._sign_constrained import noise_of, solve
from .problem import Problem

__all__ = ["SaddlePath", "saddles"]

_TIE = 1e-12  # |s_j| this near its bound, relative to it, has reached it: the process moves by no more for it (it contracts)


@dataclass(frozen=True, repr=False, eq=False)
class SaddlePath:
    """The saddles that gradient flow visits as alpha tends to 0, with K - 1 jumps between them.

    Time is ``tau = t/log(1/alpha)``, and duals are divided by log(1/alpha).

    Attributes
    ----------
    times : ndarray (K,)
        When each saddle is reached: 0 first.
    betas : ndarray (K, d)
        The saddles.  Where several predictors minimise the loss under the signs prescribed, the one of most entropy
        ``-sum |b_j| log|b_j|``, to which the flow tends, too.
    losses : ndarray (K,)
        Their losses, strictly decreasing.
    duals : ndarray (K, N)
        ``int g dt = X^T dual`` at these times; ``s = -X^T dual``.
    signs : ndarray of int (K, d)
        Signs of `betas`.
    entered, left : tuple of K tuples of int
        Coordinates that become different from 0 and that return to 0 at each jump.
    horizon : float
        Until when the last saddle is known to last: infinity where the process has ended.
    exponents : ndarray (d,)
        k of ``alpha_j = c^(k_j)``; the scale that times and duals refer to is c.
    kkt : ndarray (K,)
        Largest violation of the conditions of optimality at each saddle, relative to ``|x_j| |y|``.
    duality_gap : float
        Of the last saddle as a minimiser of ``sum k_j |b_j|`` subject to ``X b = y``, relative; its dual is ``-2 duals[-1]``.
    success : bool
        The process has ended, and is certified.
    status, message : str
        A word, and a line.
    problem : Problem
    """

    times: np.ndarray
    betas: np.ndarray
    losses: np.ndarray
    duals: np.ndarray
    signs: np.ndarray
    entered: tuple
    left: tuple
    horizon: float
    exponents: np.ndarray
    kkt: np.ndarray
    duality_gap: float
    success: bool
    status: str
    message: str
    problem: Problem = field(repr=False)

    def __repr__(self):
        return (f"SaddlePath({self.status}: {len(self.times) - 1} jumps until tau={self.times[-1]:.6g}, "
                f"loss={self.losses[-1]:.3g}, duality_gap={self.duality_gap:.1e})")

    @property
    def supports(self):
        """The coordinates that differ from 0 at each saddle: a tuple of K tuples of int."""
        return tuple(tuple(np.flatnonzero(row).tolist()) for row in self.signs)

    def at(self, tau):
        """Return the saddle at each time, shape (*tau.shape, d): constant in between, at a jump the new one.

        Parameters
        ----------
        tau : float or array_like
            Times ``t/log(1/alpha)``, from 0 to `horizon`.
        """
        return self.betas[self._place(self._checked(tau))]

    def dual_at(self, tau):
        """Return the dual per log(1/alpha) at each time, shape (*tau.shape, N): linear in between."""
        tau = self._checked(tau)
        k = self._place(tau)
        return self.duals[k] + (tau - self.times[k])[..., None] * self._velocities()[k]

    def mean(self, tau):
        """Return the time average ``(1/tau) int_0^tau beta``, shape (*tau.shape, d); at 0 its limit, 0.

        Where no coordinate has left, it is the Lasso solution with ``lam = 1/(2 tau)``: it minimises
        ``L(b) + lam sum k_j |b_j|`` (Berthier 2025).
        """
        tau = self._checked(tau)
        k = self._place(tau)
        sums = np.concatenate([np.zeros((1, self.betas.shape[1])),
                               np.cumsum(np.diff(self.times)[:, None] * self.betas[:-1], axis=0)])
        total = sums[k] + (tau - self.times[k])[..., None] * self.betas[k]
        return total / np.where(tau > 0.0, tau, 1.0)[..., None]

    def bound(self, log_alpha, tau):
        """Bound the distance of the flow of one initial scale from this process, for every scale and time.

        Parameters
        ----------
        log_alpha : float
            Negative; with `exponents`, log c.
        tau : float or array_like
            Times ``t/log(1/alpha)``.

        Returns
        -------
        ndarray, shape of tau
            A number that the Euclidean norm of ``dual(t)/log(1/alpha) - dual_at(tau)`` does not exceed.

        Notes
        -----
        Proved in docs/saddles.md: the flow and the process both follow gradients of convex functions and contract.
        """
        if not math.isfinite(log_alpha) or log_alpha >= 0.0:
            raise ValueError(f"log_alpha must be finite and below 0, got {log_alpha}: the process is a limit of small scales")
        return bound(self, float(log_alpha), self._checked(tau))

    def _velocities(self):
        rows, c = self.problem.row_space, 0.5 / self.problem.n_samples
        reduced = c * (self.betas @ rows.X.T - rows.y)
        if math.isinf(self.horizon):
            reduced[-1] = 0.0
        return reduced if rows.basis is None else reduced @ rows.basis.T

    def _place(self, tau):
        return np.searchsorted(self.times, tau, side="right") - 1

    def _checked(self, tau):
        tau = np.asarray(tau, dtype=float)
        bad = ~((tau >= 0.0) & np.isfinite(tau))
        if bad.any():
            raise ValueError(f"tau must be finite and at least 0, got {tau[bad].flat[0]}")
        if np.any(tau > self.horizon):
            raise ValueError(f"tau = {float(np.max(tau)):g} is beyond {self.horizon:g}, where the path ends: raise max_jumps")
        return tau


def saddles(problem, *, exponents=None, max_jumps=10_000):
    """Follow gradient flow of depth 2 from saddle to saddle, in the limit of small initialisation ``u0 = v0 = alpha -> 0``.

    Parameters
    ----------
    problem : Problem
        The data.
    exponents : array_like (d,), optional
        Positive k of an uneven initialisation ``alpha_j = c^(k_j)``, by default 1.  (A constant shape, ``alpha_j = c w_j``,
        changes nothing in the limit, but for the choice among several minimisers.)
    max_jumps : int
        Largest number of jumps.

    Returns
    -------
    SaddlePath

    Raises
    ------
    ValueError, TypeError
        If an argument is bad.

    Notes
    -----
    With ``s = -int g dtau``, at the next time at which some ``|s_j|`` reaches ``k_j/2`` the predictor jumps to the minimiser of
    the loss subject to ``beta_j >= 0`` where ``s_j = k_j/2``, ``<= 0`` where ``s_j = -k_j/2``, and ``= 0`` elsewhere.

    References
    ----------
    Pesme & Flammarion (2023), Saddle-to-saddle dynamics in diagonal linear networks.

    Examples
    --------
    >>> import dln
    >>> path = dln.saddles(dln.Problem([[1.0, 0.0], [0.0, 1.0]], [2.0, 1.0]))
    >>> path.times
    array([0., 1., 2.])
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be a dln.Problem, got {type(problem).__name__}; build one with dln.Problem(X, y)")
    if isinstance(max_jumps, bool) or not isinstance(max_jumps, (int, np.integer)) or max_jumps < 0:
        raise ValueError(f"max_jumps must be an integer, at least 0, got {max_jumps!r}")
    return _Process(problem, _exponents(problem.n_features, exponents)).run(int(max_jumps))


def _exponents(d, exponents):
    k = np.ones(d) if exponents is None else np.array(exponents, dtype=float)
    if k.shape != (d,):
        raise ValueError(f"exponents must have shape ({d},), one entry per column of X; got {k.shape}")
    bad = ~(np.isfinite(k) & (k > 0.0))
    if bad.any():
        j = int(np.argmax(bad))
        raise ValueError(f"exponents[{j}] must be positive and finite, got {k[j]}")
    return k


class _Process:
    """The process, on rows scaled by powers of 2, which cost no digits: its state is m and the bounds it has reached."""

    def __init__(self, problem, exponents):
        self.problem, self.k = problem, exponents
        rows = problem.row_space
        self.x_exponent, self.y_exponent = (int(np.frexp(np.max(np.abs(a), initial=0.0))[1]) for a in (rows.X, rows.y))
        self.X, self.y = np.ldexp(rows.X, -self.x_exponent), np.ldexp(rows.y, -self.y_exponent)
        self.c = 0.5 / problem.n_samples
        self.norms = np.linalg.norm(self.X, axis=0)
        self.m, self.s = np.zeros(len(self.y)), np.zeros(problem.n_features)  # s = -X^T m, but for what would cancel in that
        self.tau = 0.0
        self.bounds = np.zeros(problem.n_features, dtype=np.int64)  # +-1 where s_j is at +-k_j/2
        self.beta = np.zeros(problem.n_features)
        self.support = np.zeros(problem.n_features, dtype=bool)  # independent columns that reach the saddle's residual
        self.residual, self.rate = self.y.copy(), np.zeros(problem.n_features)

    def settle(self):
        """Find the saddle: least squares with the signs of the bounds reached; and the velocity of s there."""
        at = np.flatnonzero(self.bounds)
        signs, norms = self.bounds[at], self.norms[at]
        A = self.X[:, at] / norms * signs
        # The scale of the flow, and so the entropy of magnitudes, refers to 1 in the units of the data given.
        log_unit = (self.x_exponent - self.y_exponent) * math.log(2.0)
        z, self.residual, self.support[at] = solve(A, self.y, self.support[at], norms, log_unit)
        self.beta = np.zeros(len(self.beta))
        self.beta[at] = signs * z / norms
        correlation = self.residual @ self.X
        held = (self.beta != 0.0) | self.support | (np.abs(correlation) <= noise_of(self.y) * self.norms)
        excess = np.where(self.beta != 0.0, np.abs(correlation), np.maximum(self.bounds * correlation, 0.0))
        sizes = self.norms * float(np.linalg.norm(self.y))
        self.violation = float(np.max(excess / np.where(sizes > 0.0, sizes, 1.0), initial=0.0))
        self.rate = np.where(held, 0.0, self.c * correlation)
        self.bounds[~held] = 0  # s_j turns inward: a later return is a new contact

    def wait(self):
        """Return the time until the next bound is reached, infinite where nothing moves."""
        moving = self.rate != 0.0
        way = 0.5 * self.k - np.sign(self.rate) * self.s
        with np.errstate(divide="ignore", over="ignore"):
            times = np.where(moving, np.maximum(way, 0.0) / np.where(moving, np.abs(self.rate), 1.0), np.inf)
        return float(np.min(times, initial=np.inf))

    def advance(self, dt):
        """Move to the next contact; what reaches a bound up to rounding is there."""
        self.m -= dt * self.c * self.residual
        self.s += dt * self.rate
        self.tau += dt
        reached = (np.sign(self.rate) * self.s >= 0.5 * self.k * (1.0 - _TIE)) & (self.rate != 0.0)
        self.bounds[reached] = np.sign(self.rate[reached]).astype(np.int64)
        self.s = np.where(self.bounds != 0, 0.5 * self.k * self.bounds, self.s)

    def run(self, max_jumps):
        """Jump until nothing moves any more."""
        kept = []
        while True:
            self.settle()
            dt = self.wait()
            loss = 0.5 * self.c * float(self.residual @ self.residual)
            kept.append((self.tau, self.beta, self.m.copy(), self.violation, loss))
            if math.isinf(dt) or len(kept) > max_jumps:
                return self.result(kept, self.tau + dt)
            self.advance(dt)

    def result(self, kept, horizon):
        """Bring everything back to the units of the data, with certificates."""
        problem, rows, ended = self.problem, self.problem.row_space, math.isinf(horizon)
        taus, betas, duals, kkt, losses = (np.array(column) for column in zip(*kept, strict=True))
        with np.errstate(over="ignore", under="ignore"):
            unit = -self.x_exponent - self.y_exponent
            taus, horizon = np.ldexp(taus, unit), float(np.ldexp(horizon, unit))
            real = np.ldexp(betas, self.y_exponent - self.x_exponent)
            duals = np.ldexp(duals, -self.x_exponent)
            losses = np.ldexp(losses, 2 * self.y_exponent) + rows.unreachable_loss
        signs = np.sign(betas).astype(np.int64)
        previous = np.vstack([np.zeros((1, signs.shape[1]), dtype=np.int64), signs[:-1]])
        entered = tuple(tuple(np.flatnonzero(row).tolist()) for row in (signs != 0) & (previous == 0))
        left = tuple(tuple(np.flatnonzero(row).tolist()) for row in (signs == 0) & (previous != 0))
        misfit, gap, unit = self.certify(betas[-1])
        good = ended and misfit <= 1e-12 and gap <= 1e-12 * unit and float(np.max(kkt)) <= 1e-12
        status = "ended" if good else "not certified" if ended else "jump limit"
        message = (f"{len(taus) - 1} jumps; last saddle: relative residual {misfit:.1e}, relative duality gap {gap:.1e}; "
                   f"optimality of all saddles within {float(np.max(kkt)):.1e}")
        if not ended:
            message = f"max_jumps={len(taus) - 1} jumps made, and the process goes on at tau={horizon:.6g}; raise max_jumps"
        duals = duals if rows.basis is None else duals @ rows.basis.T
        return SaddlePath(taus, real, losses, duals, signs, entered, left, horizon, self.k, kkt, gap, good, status, message,
                          problem)

    def certify(self, beta):
        """Return the last saddle's relative misfit, the relative duality gap of ``min sum k_j |b_j|``, and the unit of that.

        The dual is ``-2 m``, made feasible.  The misfit is relative to the terms of ``X beta``, and the gap's unit to those of
        ``x_j.m``: where columns nearly depend, or differ by orders of magnitude, they are larger than their sums.
        """
        primal = float(np.sum(self.k * np.abs(beta)))
        sizes = max(float(np.sum(self.norms * np.abs(beta))), float(np.linalg.norm(self.y)))
        misfit = float(np.linalg.norm(self.X @ beta - self.y)) / sizes if sizes > 0.0 else 0.0
        if primal == 0.0:
            return misfit, 0.0, 1.0
        feasible = max(1.0, float(np.max(2.0 * np.abs(self.m @ self.X) / self.k)))
        gap = abs(primal + 2.0 * float(self.m @ self.y) / feasible) / primal
        return misfit, gap, max(1.0, float(np.linalg.norm(self.m)) * float(np.max(self.norms / self.k)))
