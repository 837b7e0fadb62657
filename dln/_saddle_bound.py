"""How far the flow of one initial scale can be from the process of saddles: the numbers of the two bounds of docs/saddles.md."""

import math

import numpy as np

from . import potential

__all__ = ["bound"]


def bound(path, log_alpha, tau):
    """Return the bound at each time; see `dln.saddles.SaddlePath.bound`."""
    tau = np.asarray(tau, dtype=float)
    ordered = np.unique(tau)
    return _Bound(path, log_alpha).along(ordered)[np.searchsorted(ordered, tau)] if tau.size else np.zeros(tau.shape)


class _Bound:
    """Two states carried along: `near` bounds the distance from the shifted process, `far` that from the process itself."""

    def __init__(self, path, log_alpha):
        rows = path.problem.row_space
        self.path, self.L, self.c = path, -log_alpha, 0.5 / path.problem.n_samples
        self.X = rows.X
        self.norms = np.linalg.norm(rows.X, axis=0)
        self.log_alpha = log_alpha * path.exponents
        duals = path.duals if rows.basis is None else path.duals @ rows.basis
        self.s = -(duals @ rows.X)
        velocities = path._velocities()
        self.rates = -((velocities if rows.basis is None else velocities @ rows.basis) @ rows.X)
        sizes = np.abs(path.betas)
        # asinh(|beta|/(2 alpha^2))/4 - k L/2: by how much the flow goes beyond the bound where it rests at the saddle.
        self.beyond = 0.25 * potential.mirror(sizes, log_alpha=self.log_alpha) - 0.5 * path.exponents * self.L
        self.energies = (4.0 * potential.terms(sizes, log_alpha=self.log_alpha) - 2.0 * np.exp(2.0 * self.log_alpha)
                         - 2.0 * self.L * path.exponents * sizes)

    def along(self, tau):
        """Go from plateau to plateau, and on each to the times asked for, which increase."""
        times, K = self.path.times, len(self.path.times)
        found = np.empty(len(tau))
        near = far = 0.0
        shift = np.zeros(self.X.shape[0])
        for k in range(K):
            new = self._shift(k)
            near += float(np.linalg.norm(new - shift)) / self.L
            shift = new
            size = float(np.linalg.norm(shift)) / self.L
            near = min(near, far + size)
            end = times[k + 1] if k + 1 < K else np.inf
            last = k + 1 == K
            inside = np.flatnonzero((tau >= times[k]) & ((tau < end) | last))
            for i in inside:
                here = self._carry(k, tau[i] - times[k], near, far, shift)
                found[i] = min(here[1], here[0] + size)
            if not last:
                near, far = self._carry(k, end - times[k], near, far, shift)
                far, near = min(far, near + size), min(near, far + size)
        return found

    def _shift(self, k):
        """Choose e with ``s + e.x/L`` where the flow rests at the saddle: the process is compared with its shift by e/L."""
        at = np.flatnonzero(self.path.signs[k])
        target = self.path.signs[k, at] * self.beyond[k, at]
        return -np.linalg.lstsq(self.X[:, at].T, target, rcond=1e-10)[0] if at.size else np.zeros(self.X.shape[0])

    def _carry(self, k, dt, near, far, shift):
        """Return both states a time dt after the start of plateau k (or after the last known)."""
        if dt == 0.0:
            return near, far
        L = self.L
        a = self.s[k]
        b = a + dt * self.rates[k]
        moved = -(shift @ self.X) / L
        forces = _mean_cosh(a + moved, b + moved, L, self.log_alpha)
        at = np.flatnonzero(self.path.signs[k])
        signs = self.path.signs[k, at]
        # On the support the shift is chosen so that this vanishes, up to rounding; elsewhere by the triangle inequality.
        with np.errstate(over="ignore"):
            resting = _force(signs * (a + moved)[at], L, self.log_alpha[at]) - np.abs(self.path.betas[k, at])
        forces[at] = 0.0
        near += self.c * dt * (float(np.linalg.norm(self.X[:, at] @ (signs * resting))) + float(self.norms @ forces))
        energy = self.energies[k] + _mean_cosh(a, b, L, self.log_alpha)
        rise = self.c * dt / (2.0 * L) * max(0.0, float(np.sum(energy[self.norms > 0.0])))
        return near, math.sqrt(far * far + rise)


def _force(s, L, log_alpha):
    """Return ``2 alpha^2 sinh(4 L s)``."""
    return np.sign(s) * np.exp(4.0 * L * np.abs(s) + 2.0 * log_alpha) * -np.expm1(-8.0 * L * np.abs(s))


def _mean_cosh(a, b, L, log_alpha):
    """Return the mean of ``2 alpha^2 cosh(4 L s)`` over s from a to b, ``2 alpha^2 cosh(middle) sinh(half)/half``, by logarithms."""
    middle, half = np.abs(2.0 * L * (a + b)), np.abs(2.0 * L * (b - a))
    small = half < 1e-8
    safe = np.where(small, 1.0, half)
    log_sinhc = np.where(small, 0.0, safe + np.log(-np.expm1(-2.0 * safe) / (2.0 * safe)))
    with np.errstate(over="ignore", under="ignore"):
        return np.exp(2.0 * log_alpha + middle + np.log1p(np.exp(-2.0 * middle)) + log_sinhc)
