"""T17 and T18: the kernel limit of large and the rich limit of small initialisation, at depth 2 and above."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from scipy.linalg import lstsq, null_space

from ._deep import potential_of
from ._dual import follow_minimisers, row_space
from ._engine import library_interpolators, library_limits, library_minimisers
from ._face_dual import minimisers_near_l1
from ._faces import Selection, entropy, face_of, fractional, least_l1, select
from ._limit_steps import derive_kernel_limit, derive_rich_limit
from ._minimiser import minimise_divergence
from ._network import Array
from ._raw_route import RouteError
from ._registry import Finding, Theorem
from ._setting import Data, Setting
from ._slopes import MAX_HALF_WIDTH, slope_finding

__all__ = ["THEOREMS"]

DEPTHS = (2.0, 2.5, 3.0, 4.0)

#: From here on distances are followed: beta/alpha^D in the kernel regime, its largest entry at the start of the ladder.
LARGEST_RATIO = 0.4
STEPS = 1.4 ** np.arange(8)

#: Each scale of the rich limit is chosen to bring the distance down by FALL, if the theorem is right; it must come down by
#: at least LEAST_FALL at every one of them. Where it would come down to NOISE, it falls less, but by SMALL_FALL.
FALL, SMALL_FALL, LEAST_FALL, SCALES = 30.0, 10.0, 6.0, 5
NOISE = 1e-9

#: A column that ties is a combination of at most so many others.
MOST_SHARES = 10


def in_units(setting: Setting) -> Data:
    """Scale y so that the least-norm interpolator has largest entry 1, and refuse data with one interpolator only."""
    data = setting.data
    if np.linalg.matrix_rank(data.X) == data.X.shape[1]:
        raise RouteError("X b = y has one solution only: every initialisation leads to it, and there is nothing to check")
    return Data(data.X, data.X @ lstsq(data.X, data.y)[0] / setting.predictor_unit, data.name)


# --- T17 -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KernelLimit:
    """The claim that the minimiser tends to one of a weighted l2 norm as alpha tends to infinity, at a stated order.

    Attributes
    ----------
    name : str
    data : Data
    depth : float
    shape : ndarray of shape (d,)
        `alpha = size * shape`.
    order : float
        The claim: distance of order `alpha^(-order)`.
    exponent : float
        The claim: weights `alpha_j^(-exponent)`.
    cubic : float, optional
        If given, the first correction is taken into account: the claim that the slope of the potential is proportional to
        `b/alpha^exponent - cubic b^3/alpha^(exponent + 2 D)`.
    """

    name: str
    data: Data
    depth: float
    shape: Array
    order: float
    exponent: float
    cubic: float | None = None

    def measure(self, _: Setting) -> Finding:
        """Fit the order by three routes: the library, SciPy's primal, SciPy's dual."""
        X, y = self.data.X, self.data.y
        sizes = (STEPS / LARGEST_RATIO) ** (1 / self.depth)
        alphas = sizes[:, None] * self.shape
        logs = np.log(alphas)
        center = np.zeros(X.shape[1])
        phi = potential_of(self.depth) if self.depth > 2 else None
        own = np.array([self._limit(alpha) for alpha in alphas])
        minima = {"primal": np.array([minimise_divergence(X, y, log, center, phi).beta for log in logs]),
                  "dual": follow_minimisers(*row_space(X, y), logs[::-1], self.depth)[::-1]}
        distances = {route: np.linalg.norm(found - own, axis=1) for route, found in minima.items()}
        engine = (library_limits if self.depth > 2 else library_minimisers)(self.data, logs, self.depth)
        libraries = np.array([self._corrected(library_interpolators(self.data, alpha**-self.exponent, power=2)[0], alpha)
                              for alpha in alphas])
        distances["engine"] = np.linalg.norm(engine - libraries, axis=1)
        size = float(np.linalg.norm(own[-1]))
        noise = (1e-14 if self.depth == 2 else 3e-12) * size  # two limits of one run differ by as much
        return slope_finding(1 / sizes, distances, self.order, (2 * self.depth, 4 * self.depth), noise)

    def _limit(self, alpha: Array) -> Array:
        """Minimise `sum alpha_j^(-exponent) b_j^2` by least squares in other coordinates."""
        root = alpha ** (self.exponent / 2)
        return self._corrected(root * lstsq(self.data.X * root, self.data.y)[0], alpha)

    def _corrected(self, beta: Array, alpha: Array) -> Array:
        if self.cubic is None:
            return beta
        Z, weight = null_space(self.data.X), alpha**-self.exponent
        push = self.cubic * weight * alpha ** (-2 * self.depth) * beta**3
        return beta + Z @ np.linalg.solve(Z.T @ (weight[:, None] * Z), Z.T @ push)


def cubic_of(depth: float) -> float:
    """Give the ratio of the cubic to the linear term of the slope of the potential, at alpha = 1."""
    if depth == 2:
        return 1 / 24
    s = depth / (depth - 2)
    return (s + 1) * (s + 2) / (24 * s**2)


def kernel_parts(setting: Setting) -> list[KernelLimit]:
    """Check T17 at several depths: the order, and the constant through the order that is left after the first correction."""
    data, shape = in_units(setting), setting.alpha / np.exp(np.mean(np.log(setting.alpha)))
    parts = [KernelLimit(f"D = {depth:g}", data, depth, shape ** (2 / depth), 2 * depth, 2 * depth - 2)
             for depth in DEPTHS]
    return parts + [replace(part, name=f"{part.name}, after the first correction", order=4 * part.depth,
                            cubic=cubic_of(part.depth)) for part in parts[:2]]


# --- T18 -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RichLimit:
    """The claim that the minimiser tends to one of a weighted l1 norm as the initialisation tends to 0.

    Attributes
    ----------
    name : str
    data : Data
    depth : float
    log_alpha : callable
        Gives the scales from `log c`.
    weights : ndarray of shape (d,)
        The claim: the l1 norm has these weights.
    selection : Selection
        The claim: among several l1 minimisers it is the one that minimises this.
    several : bool
        Whether there are several l1 minimisers.
    scales : ndarray of shape (K,)
        Values of `log c`, falling.
    engine : callable, optional
        `(data, log_alphas, depth) -> minimisers`, by default the library's.
    """

    name: str
    data: Data
    depth: float
    log_alpha: Callable[[float], Array]
    weights: Array
    selection: Selection
    several: bool
    scales: Array
    engine: Callable[[Data, Array, float], Array] = library_minimisers

    def measure(self, _: Setting) -> Finding:
        """Follow the distance over five scales by two routes; it must fall at each."""
        X, y = self.data.X, self.data.y
        logs = np.array([self.log_alpha(c) for c in self.scales])
        own = select(least_l1(X, y, self.weights), X, y, self.selection)
        beta, nu = library_interpolators(self.data, self.weights, power=1)
        library = select(face_of(X, beta, nu, self.weights), X, y, self.selection)
        size = float(np.linalg.norm(own))
        minima = (follow_minimisers(*row_space(X, y), logs, 2.0) if self.depth == 2
                  else minimisers_near_l1(X, y, logs, self.depth))
        engine = self.engine(self.data, logs, self.depth)
        distances = {"scipy": np.linalg.norm(minima - own, axis=1) / size,
                     "engine": np.linalg.norm(engine - library, axis=1) / size}
        falls = {route: values[1:] / values[:-1] for route, values in distances.items()}
        worst = max(float(np.max(ratio)) if np.all(np.isfinite(ratio)) else np.inf for ratio in falls.values())
        details: dict[str, Any] = {
            "log_c": [float(c) for c in self.scales], "expected_ratio": 1 / FALL,
            "distances": {route: [float(x) for x in values] for route, values in distances.items()},
            "ratios": {route: [float(x) for x in values] for route, values in falls.items()},
            "distance_between_limits": float(np.linalg.norm(own - library)) / size}
        return Finding(worst, 1 / LEAST_FALL, worst <= 1 / LEAST_FALL, details)


def _scales(data: Data, depth: float, log_shape: Array, weights: Array, selection: Selection) -> Array:
    """Choose scales such that the distance falls by FALL from one to the next, by the speed that theory predicts."""
    rows, target = row_space(data.X, data.y)
    face = least_l1(rows, target, weights)
    at = face.places
    magnitudes = np.abs(select(face, rows, target, selection)[at])
    away = np.setdiff1d(np.arange(weights.size), at)
    if depth > 2:
        # nu c^(D-2) is the dual of the l1 norm less c^(D-2) nu_2, which must not change the slacks by much.
        s = depth / (depth - 2)
        second = lstsq(rows[:, at].T, face.signs[at] * magnitudes ** (2 / depth - 1))[0]
        change = float(np.max(np.abs(second @ rows[:, away]) / face.slack[away]))
        start = np.log(0.25 / s / max(change, 1.0)) / (depth - 2)
        gap = face.slack[away] / weights[away]
        entries = np.exp(depth * (start + log_shape[away])) * (gap**-s - (2 - gap) ** -s)
        first = float(np.linalg.norm(entries) / np.linalg.norm(magnitudes))
        fall = np.clip((first / NOISE) ** (1 / (SCALES - 1)), SMALL_FALL, FALL)
        return start - np.log(fall) / depth * np.arange(SCALES)
    # At depth 2, 4 nu = 2 log(1/c) nu_1 + nu_2 but for what vanishes: nu_1 is the dual of the l1 norm, and nu_2 makes
    # the entries on the face right. So an entry elsewhere is w^2 c^(2 gap) exp(+- x.nu_2).
    second = lstsq(rows[:, at].T, face.signs[at] * selection.slope(magnitudes, at))[0]
    factor = 2 * log_shape[away] + face.signs[away] * (second @ rows[:, away])
    # It moves the entries on the face, which give way in the metric of the selecting function, whose curvature is 1/m:
    # the limit shows once none of them moves by more than a part of itself.
    give = rows[:, at] * magnitudes
    relative = rows[:, at].T @ lstsq(give @ rows[:, at].T, rows[:, away])[0]
    start = np.max((factor + np.log(FALL * np.max(np.abs(relative), axis=0))) / (2 * face.slack[away]))
    factor += np.log1p(np.sum((magnitudes[:, None] * relative) ** 2, axis=0)) / 2
    wanted = np.max(factor - 2 * face.slack[away] * start) - np.log(FALL) * np.arange(SCALES)
    return -np.max((factor - wanted[:, None]) / (2 * face.slack[away]), axis=1)


def _with_ties(data: Data, weights: Array, seed: int = 0) -> tuple[Data, Array, Array]:
    """Add two columns that make the l1 minimiser not unique: convex combinations of columns of the support, with signs.

    Returns
    -------
    tuple of Data, ndarray of shape (2, d) and ndarray of shape (d + 2,)
        The data, the combinations, and the weights, continued so that the new columns tie.
    """
    face = least_l1(data.X, data.y, weights)
    rng = np.random.default_rng(seed)
    # Of the largest entries only: against a small one, or by a small share, some entry would be as small as exp(-1/share).
    largest = np.sort(face.support[np.argsort(-np.abs(face.vertex[face.support]))[:MOST_SHARES]])
    shares = np.zeros((2, weights.size))
    shares[:, largest] = rng.dirichlet(np.full(largest.size, 2.0), 2)
    columns = (shares * face.signs) @ data.X.T
    return Data(np.hstack([data.X, columns.T]), data.y, data.name), shares, np.concatenate([weights, shares @ weights])


def rich_parts(setting: Setting) -> list[RichLimit]:
    """Check T18 at several depths, with one and with several l1 minimisers."""
    data = in_units(setting)
    d = int(data.X.shape[1])
    rng = np.random.default_rng(1)
    log_w, powers, plain = rng.uniform(-0.5, 0.5, d), rng.uniform(0.7, 1.3, d), np.ones(d)
    # Uneven so as to make weighted l1 norms prefer other supports than the plain one does, where there are others.
    support = least_l1(data.X, data.y, plain).support
    log_w[support] -= 0.5
    powers[support] += 0.7

    def rich(name: str, at: Data, depth: float, log_alpha: Callable[[float], Array], weights: Array, selection: Selection,
             several: bool) -> RichLimit:
        return RichLimit(f"D = {depth:g}, {name}", at, depth, log_alpha, weights, selection, several,
                         _scales(at, depth, log_alpha(0.0), weights, selection))

    tied, _, ones = _with_ties(data, plain)
    tied_powers = _with_ties(data, powers)
    more = np.concatenate([log_w, [0.5, -0.4]])
    parts = [
        rich("alpha = c w", data, 2.0, lambda c: c + log_w, plain, entropy(np.exp(log_w)), False),
        rich("alpha = c^k", data, 2.0, lambda c: c * powers, powers, entropy(plain), False),
        rich("alpha = c w, several minimisers", tied, 2.0, lambda c: c + more, ones, entropy(np.exp(more)), True),
        rich("alpha = c^k, several minimisers", tied_powers[0], 2.0, lambda c: c * tied_powers[2], tied_powers[2],
             entropy(ones), True),
    ]
    for depth in (3.0, 4.0):
        weights = np.exp(log_w * (2 - depth))
        several, _, tied_weights = _with_ties(data, weights)
        shape = np.log(tied_weights) / (2 - depth)
        parts += [rich("alpha = c w", data, depth, lambda c: c + log_w, weights, fractional(depth), False),
                  rich("alpha = c w, several minimisers", several, depth, partial(np.add, shape), tied_weights,
                       fractional(depth), True)]
    return parts


# --- mutants ---------------------------------------------------------------------------------------------------------


def _if(condition: Callable[[Any], bool], **changes: Callable[[Any], Any]) -> Callable[[Any, Setting], Any]:
    """Spoil fields of the parts that meet a condition."""
    return lambda part, setting: None if not condition(part) else replace(
        part, **{name: change(part) for name, change in changes.items()})


def _plain_order(part: KernelLimit) -> bool:
    return part.cubic is None


def _corrected(part: KernelLimit) -> bool:
    return part.cubic is not None


def _fixed_scale(data: Data, log_alphas: Array, depth: float) -> Array:
    return np.tile(library_minimisers(data, log_alphas[:1], depth), (len(log_alphas), 1))


THEOREMS = (
    Theorem(
        key="T17",
        title="Kernel limit",
        statement="as alpha -> inf beta_inf tends to the minimiser of sum b_j^2/alpha_j^(2D-2), off by const/alpha^(2D)",
        source='Woodworth et al. 2020, "Kernel and rich regimes in overparametrized models"',
        kind="limit",
        tolerance=MAX_HALF_WIDTH,
        derive=derive_kernel_limit,
        parts=kernel_parts,
        on_real_data=True,
        mutants={
            "all weights 1": _if(_plain_order, exponent=lambda part: 0.0),
            "weights 1/alpha^D": _if(lambda part: _plain_order(part) and part.depth != 2, exponent=lambda part: part.depth),
            "weights 1/alpha": _if(_plain_order, exponent=lambda part: 1.0),
            "order D": _if(_plain_order, order=lambda part: part.depth),
            "order 2D - 1": _if(_plain_order, order=lambda part: 2 * part.depth - 1),
            "constant off by 10 percent": _if(_corrected, cubic=lambda part: 1.1 * part.cubic),
            "sign of the constant swapped": _if(_corrected, cubic=lambda part: -part.cubic),
        },
    ),
    Theorem(
        key="T18",
        title="Rich limit",
        statement="as alpha = c w -> 0 beta_inf tends to the minimiser of sum |b_j| (D = 2) or sum w_j^(2-D) |b_j|, and among "
                  "several to that of most entropy or largest sum |b_j|^(2/D)",
        source='Woodworth et al. 2020, "Kernel and rich regimes in overparametrized models"',
        kind="limit",
        tolerance=1 / LEAST_FALL,
        derive=derive_rich_limit,
        parts=rich_parts,
        on_real_data=True,
        mutants={
            "D = 2: weights 1/w": _if(lambda part: part.name == "D = 2, alpha = c w", weights=lambda part: np.exp(
                -part.log_alpha(0.0))),
            "alpha = c^k: weights 1": _if(lambda part: "c^k" in part.name and not part.several,
                                          weights=lambda part: np.ones_like(part.weights)),
            "D > 2: weights 1": _if(lambda part: part.depth > 2 and not part.several,
                                    weights=lambda part: np.ones_like(part.weights)),
            "entropy without w": _if(lambda part: part.name == "D = 2, alpha = c w, several minimisers",
                                     selection=lambda part: entropy(np.ones_like(part.weights))),
            "D > 2: selected by entropy": _if(lambda part: part.depth > 2 and part.several,
                                              selection=lambda part: entropy(np.ones_like(part.weights))),
            "D = 2: selected by sum |b|^(2/3)": _if(lambda part: part.depth == 2 and part.several,
                                                    selection=lambda part: fractional(3.0)),
            "engine: scale does not fall": _if(lambda part: part.depth == 2, engine=lambda part: _fixed_scale),
        },
    ),
)
