"""How far the flow of one initial scale can be from the process of saddles: the bounds of docs/saddles.md, as numbers."""

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
    """States carried along: `near` bound the distance from shifted processes, `far` that from the process itself.

    The second shift differs from the first where a coordinate rests at its bound without a force, the degenerate case: there
    the flow stays behind by about log(L).
    """

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
        far, near, shifts = 0.0, np.zeros(2), np.zeros((2, self.X.shape[0]))
        for k in range(K):
            new = self._shifts(k)
            near += np.linalg.norm(new - shifts, axis=1) / self.L
            shifts, sizes = new, np.linalg.norm(new, axis=1) / self.L
            near = np.minimum(near, far + sizes)
            end = times[k + 1] if k + 1 < K else np.inf
            for i in np.flatnonzero((tau >= times[k]) & (tau < end)):
                _, found[i] = self._carry(k, tau[i] - times[k], near, far, shifts, sizes)
            if k + 1 < K:
                near, far = self._carry(k, end - times[k], near, far, shifts, sizes)
        return found

    def _shifts(self, k):
        """Choose e such that the flow rests where the shift of the process by e/L rests."""
        signs, norms = self.path.signs[k], self.norms
        at = np.flatnonzero(signs)
        plain = _solved(self.X[:, at], -signs[at] * self.beyond[k, at])
        idle = np.flatnonzero((signs == 0) & (np.abs(self.s[k]) >= 0.5 * self.path.exponents * (1.0 - 1e-12))
                              & (np.abs(self.rates[k]) <= 1e-12 * self.c * norms * self.path.problem.row_space.target_norm))
        if not idle.size:
            return np.array([plain, plain])
        length = self.path.times[k + 1] - self.path.times[k] if k + 1 < len(self.path.times) else self.path.times[k]
        behind = 0.25 * np.log(np.maximum(1.0, 2.0 * self.c * norms[idle] ** 2 * self.L * length))
        both = np.concatenate([at, idle])
        target = np.concatenate([-signs[at] * self.beyond[k, at], np.sign(self.s[k, idle]) * behind])
        return np.array([plain, _solved(self.X[:, both], target)])

    def _carry(self, k, dt, near, far, shifts, sizes):
        """Return the states a time dt after the start of plateau k (or after the last known), each made better by the other."""
        if dt > 0.0:
            near = near + np.array([self._force_left(k, dt, shift) for shift in shifts])
            energy = self.energies[k] + _mean_cosh(self.s[k], self.s[k] + dt * self.rates[k], self.L, self.log_alpha)
            rise = self.c * dt / (2.0 * self.L) * float(np.sum(energy[self.norms > 0.0]))
            far = math.sqrt(far * far + max(0.0, rise))
        return np.minimum(near, far + sizes), min(far, float(np.min(near + sizes)))

    def _force_left(self, k, dt, shift):
        """Bound the integral of what the flow's velocity at the shifted process differs by from the velocity of that."""
        start = self.s[k] - (shift @ self.X) / self.L
        forces = _mean_cosh(start, start + dt * self.rates[k], self.L, self.log_alpha)
        at = np.flatnonzero(self.path.signs[k])
        signs, sizes = self.path.signs[k, at], np.abs(self.path.betas[k, at])
        # On the support the shift is chosen so that nothing is left, up to rounding; elsewhere by the triangle inequality.
        off = -4.0 * (signs * (shift @ self.X[:, at]) + self.beyond[k, at])
        with np.errstate(over="ignore"):
            # 2 alpha^2 sinh(w + off) - |beta|, where |beta| = 2 alpha^2 sinh(w)
            cosh = np.hypot(sizes, 2.0 * np.exp(2.0 * self.log_alpha[at]))
            left = 2.0 * sizes * np.sinh(0.5 * off) ** 2 + cosh * np.sinh(off)
        forces[at] = 0.0
        return self.c * dt * (float(np.linalg.norm(self.X[:, at] @ (signs * left))) + float(self.norms @ forces))


def _solved(X, target):
    return np.linalg.lstsq(X.T, target, rcond=1e-10)[0] if X.size else np.zeros(X.shape[0])


def _mean_cosh(a, b, L, log_alpha):
    """Return the mean of ``2 alpha^2 cosh(4 L s)`` over s from a to b, ``2 alpha^2 cosh(middle) sinh(half)/half``."""
    middle, half = np.abs(2.0 * L * (a + b)), np.abs(2.0 * L * (b - a))
    small = half < 1e-8
    safe = np.where(small, 1.0, half)
    log_sinhc = np.where(small, 0.0, safe + np.log(-np.expm1(-2.0 * safe) / (2.0 * safe)))
    with np.errstate(over="ignore", under="ignore"):
        return np.exp(2.0 * log_alpha + middle + np.log1p(np.exp(-2.0 * middle)) + log_sinhc)
