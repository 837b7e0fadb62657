"""Two-class data for a check, and the raw route on them: weights in ordinary time, or in the growth of a margin.

Nothing of the library is used here. The loss of a margin is written once, in sympy, and differentiated; flows are integrated
in the raw weights with SciPy, and minimisers under inequalities are taken from SciPy, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp
from scipy.integrate import odeint, solve_ivp
from scipy.linalg import lstsq
from scipy.optimize import linprog, nnls

from ._minimiser import minimise_divergence
from ._network import Array
from ._raw_route import RouteError
from ._setting import Setting

__all__ = ["RATES", "RawMargins", "TwoClasses", "active_minimiser", "descend", "follow", "integrate", "two_classes"]

MARGIN = sp.Symbol("m", real=True)
SAMPLE_LOSSES = {"exponential": sp.exp(-MARGIN), "logistic": sp.log(1 + sp.exp(-MARGIN))}

#: By loss: `-l'(m)`, the pull of a sample.
RATES: dict[str, Callable[[Array], Array]] = {name: sp.lambdify(MARGIN, sp.simplify(-sp.diff(loss, MARGIN)), "numpy")
                                              for name, loss in SAMPLE_LOSSES.items()}


@dataclass(frozen=True)
class TwoClasses:
    """Separable data, and initialisation and times of natural size for them.

    Attributes
    ----------
    X : ndarray of shape (N, d)
    labels : ndarray of shape (N,)
    unit : float
        Largest entry of the least-norm predictor with all margins 1 (in the sense of least squares).
    alpha, log_ratio : ndarray of shape (d,)
    times : ndarray of shape (K,)
    """

    X: Array
    labels: Array
    unit: float
    alpha: Array
    log_ratio: Array
    times: Array

    @property
    def Z(self) -> Array:
        """Rows `label_i x_i`."""
        return self.labels[:, None] * self.X

    def weights(self) -> tuple[Array, Array]:
        """Give the initial weights."""
        return self.alpha * np.exp(self.log_ratio / 2), self.alpha * np.exp(-self.log_ratio / 2)


def two_classes(setting: Setting) -> TwoClasses:
    """Label the data of a setting: by the median of y, or by the least-squares predictor where that does not separate."""
    X, y = setting.data.X, setting.data.y
    for score in (y - np.median(y), X @ lstsq(X, y)[0]):
        labels = np.where(score > 0, 1.0, -1.0)
        if _separable(labels[:, None] * X):
            break
    else:
        raise RouteError("neither labelling of the data can be separated: there is nothing to check")
    Z = labels[:, None] * X
    unit = float(np.max(np.abs(lstsq(Z, np.ones(len(y)))[0])))
    shape = setting.alpha / np.exp(np.mean(np.log(setting.alpha)))
    alpha = np.sqrt(0.1 * unit) * shape
    # In this time a margin changes by 1, at first.
    fastest = len(y) / (8 * float(np.mean(alpha**2)) * np.linalg.norm(Z, 2) ** 2)
    return TwoClasses(X, labels, unit, alpha, setting.log_ratio, fastest * np.array([1.0, 10.0, 100.0, 1000.0]))


def _separable(Z: Array) -> bool:
    scaled = Z / max(float(np.max(np.abs(Z))), np.finfo(float).tiny)
    d = Z.shape[1]
    found = linprog(np.append(np.zeros(d), -1.0), A_ub=np.hstack([-scaled, np.ones((len(Z), 1))]), b_ub=np.zeros(len(Z)),
                    bounds=[(-1, 1)] * d + [(None, 1)], method="highs")
    return found.status == 0 and -found.fun > 1e-7


@dataclass(frozen=True)
class RawMargins:
    """Predictors and multipliers at the times (or steps) asked for: (K, d) and (K, N)."""

    betas: Array
    duals: Array
    log_moduli: tuple[Array, Array] | None = None


def integrate(case: TwoClasses, loss: str) -> RawMargins:
    """Integrate weights and multipliers in ordinary time, tightly."""
    d, n, rate = case.X.shape[1], case.X.shape[0], RATES[loss]
    Z = case.Z
    u0, v0 = case.weights()

    def field(t: float, state: Array) -> Array:
        u, v = state[:d], state[d : 2 * d]
        a = rate(Z @ (u * u - v * v)) / n
        g = -(a @ Z)
        return np.concatenate([-2 * u * g, 2 * v * g, a])

    weight = 1e-16 * float(min(u0.min(), v0.min()))
    atol = np.concatenate([np.full(2 * d, weight), np.full(n, 1e-16 / np.linalg.norm(Z, 2))])
    run = solve_ivp(field, (0.0, float(case.times[-1])), np.concatenate([u0, v0, np.zeros(n)]), method="DOP853",
                    t_eval=case.times, rtol=1e-13, atol=atol)
    if not run.success or not np.all(np.isfinite(run.y)):
        raise RouteError(f"the raw route stopped at t = {run.t[-1]:.6g}: {run.message}")
    u, v = run.y[:d].T, run.y[d : 2 * d].T
    return RawMargins((u - v) * (u + v), run.y[2 * d :].T, (np.log(u), np.log(v)))


def descend(case: TwoClasses, loss: str, step: float, steps: tuple[int, ...]) -> RawMargins:
    """Make steps of gradient descent in raw weights; keep beta, the sum of the pulls and the moduli at some of them."""
    Z, rate, n = case.Z, RATES[loss], case.X.shape[0]
    u, v = case.weights()
    dual, kept = np.zeros(n), []
    for k in range(max(steps) + 1):
        if k in steps:
            kept.append(((u - v) * (u + v), dual.copy(), np.log(np.abs(u)), np.log(np.abs(v))))
        a = step * rate(Z @ (u * u - v * v)) / n
        g = -(a @ Z)
        u, v, dual = u - 2 * u * g, v + 2 * v * g, dual + a
    betas, duals, log_u, log_v = (np.array(column) for column in zip(*kept, strict=True))
    return RawMargins(betas, duals, (log_u, log_v))


def follow(Z: Array, alpha: Array, margin: float) -> Array:
    """Follow the exponential loss from equal weights until the soft margin `-log(N L)` is as asked for; give beta.

    The soft margin serves as time: ordinary time grows like its exponential.
    """
    d = Z.shape[1]

    def field(state: Array, _: float) -> Array:
        u, v = state[:d], state[d:]
        m = Z @ ((u - v) * (u + v))
        pull = np.exp(m.min() - m)
        x = (pull / pull.sum()) @ Z
        growth = 4 * float(np.sum((u * u + v * v) * x * x))
        return np.concatenate([2 * u * x, -2 * v * x]) / growth

    start = -float(np.log(len(Z)))
    begin = np.concatenate([alpha, alpha])
    path, info = odeint(field, begin, [start, start + 1e-3 * (margin - start), margin], rtol=1e-10,
                        atol=1e-11 * float(alpha.min()), full_output=True, mxstep=20_000)
    if info["message"] != "Integration successful.":
        raise RouteError(f"the raw route did not reach the margin {margin:g}: {info['message']}")
    u, v = path[-1, :d], path[-1, d:]
    return np.asarray((u - v) * (u + v))


def active_minimiser(Z: Array, log_alpha: Array) -> tuple[Array, Array]:
    """Minimise the potential subject to `Z b >= 1` with SciPy; give the minimiser and the samples that are tight.

    The set of tight samples is found by exchange, starting from that of the least norm; each trial is an equality-constrained
    minimum of the derived potential, and the last one is certified.
    """
    center = np.zeros(Z.shape[1])
    active = least_norm_active(Z)
    for _ in range(10 * len(Z)):
        b = minimise_divergence(Z[active], np.ones(active.size), log_alpha, center).beta
        slope = np.arcsinh(b / 2 * np.exp(-2 * log_alpha)) / 4
        multipliers = lstsq(Z[active].T, slope)[0]
        margins = Z @ b
        if np.min(multipliers) < 0 and active.size > 1:
            active = np.delete(active, int(np.argmin(multipliers)))
        elif margins.min() < 1 - 1e-9:
            active = np.union1d(active, [int(np.argmin(margins))])
        else:
            return b, active
    raise RouteError("no set of tight samples was found for the margin of the potential")


def least_norm_active(Z: Array) -> Array:
    """Give the support vectors of the l2 margin, by nonnegative least squares (Lawson & Hanson 1974)."""
    unit = float(np.max(np.linalg.norm(Z, axis=1)))
    x, _ = nnls(np.vstack([Z.T / unit, np.ones(len(Z))]), np.append(np.zeros(Z.shape[1]), 1.0))
    return np.flatnonzero(x > 1e-12 * x.max())


def least_l1_active(Z: Array) -> Array:
    """Give the samples with positive multipliers of the l1 margin, by linear programming."""
    unit, d = float(np.max(np.abs(Z))), Z.shape[1]
    found: Any = linprog(np.ones(2 * d), A_ub=np.hstack([-Z, Z]) / unit, b_ub=-np.ones(len(Z)), bounds=(0, None),
                         method="highs-ds")
    if found.status != 0:
        raise RouteError(f"the linear programme of the l1 margin failed: {found.message}")
    return np.flatnonzero(-found.ineqlin.marginals > 1e-9 * np.max(-found.ineqlin.marginals))
