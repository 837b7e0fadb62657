"""Where a theorem is checked: the data, and initialisation and rule parameters of natural size for it.

Scaling X or y must change nothing of a verdict, so every parameter is a pure number times a unit of the data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp
from scipy.linalg import lstsq

from ._network import Array, Network
from ._raw_route import RouteError

__all__ = ["Data", "Setting", "default_data", "real_data"]


#: Problems of the default list that are not generic, by their seeds.
SPECIAL = {7: "duplicate columns", 8: "one sample", 9: "many features"}


@dataclass(frozen=True)
class Data:
    """Data of a check.

    Attributes
    ----------
    X : ndarray of shape (N, d)
    y : ndarray of shape (N,)
    name : str
    seeded : bool
        Whether it is one of the synthetic problems of `default_data`.
    """

    X: Array
    y: Array
    name: str
    seeded: bool = False


def default_data(count: int = 10) -> list[Data]:
    """Seeded synthetic problems: fewer samples than features, correlated columns of uneven size and mean, noisy y.

    The first seven are generic. The eighth has duplicate columns, two of them of opposite sign; the ninth has one sample;
    the tenth many features.
    """
    return [_draw(seed) for seed in range(count)]


def _draw(seed: int) -> Data:
    rng = np.random.default_rng([2024, seed])
    n_features = int(rng.integers(6, 13))
    n_samples = int(rng.integers(3, n_features - 2))
    kind = SPECIAL.get(seed, "synthetic")
    if kind == "one sample":
        n_samples = 1
    elif kind == "many features":
        n_samples, n_features = 8, 40
    mixing = np.eye(n_features) + 0.5 * rng.standard_normal((n_features, n_features)) / np.sqrt(n_features)
    X = (rng.standard_normal((n_samples, n_features)) + 0.3) @ mixing
    if kind == "duplicate columns":
        X[:, 1], X[:, 2] = X[:, 0], -X[:, 0]
        X[:, 4] = X[:, 3]
    truth = np.where(np.arange(n_features) < 2, rng.choice([-1.0, 1.0], n_features), 0.0)
    y = X @ truth + 0.2 * rng.standard_normal(n_samples)
    return Data(X, y, f"{kind} {seed} (N={n_samples}, d={n_features})", seeded=True)


def real_data() -> Data:
    """Give the data that come with the library: a sample of the diabetes study, centred columns with all their correlations."""
    import dln

    return as_data(dln.datasets.diabetes())


def as_data(problem: Any) -> Data:
    """Take whatever has X and y."""
    X, y = np.array(problem.X, dtype=float), np.array(problem.y, dtype=float)
    name = getattr(problem, "name", None) or "data"
    return Data(X, y, name if "N=" in name else f"{name} (N={X.shape[0]}, d={X.shape[1]})")


class Setting:
    """Data with units, a shaped initialisation and times at which the loss has fallen by stated factors.

    Parameters
    ----------
    problem : object with `X` and `y`
    seed : int
        Of the shape of the initialisation.

    Raises
    ------
    RouteError
        If no linear model sees anything of y: every flow then stays at 0 and there is nothing to check.
    """

    #: alpha^2 and the largest coefficient of the predictor are of one size: rich and kernel regime at once.
    SCALE = 0.1
    SPREAD = 0.3

    def __init__(self, problem: Any, seed: int = 0) -> None:
        self.data = as_data(problem)
        self.net = Network(self.data.X, self.data.y)
        X, y = self.data.X, self.data.y
        least_norm = lstsq(X, y)[0]
        self.predictor_unit = float(np.max(np.abs(least_norm)))
        self.unreachable_loss = float(np.mean((X @ least_norm - y) ** 2) / 4)
        if not np.any(X.T @ y) or not self.predictor_unit > 0:
            raise RouteError("y is orthogonal to every column of X: no flow moves, and there is nothing to check")
        #: Largest curvature of the loss in the predictor, times 2: the top eigenvalue of X^T X / N.
        self.curvature = float(np.linalg.norm(X, 2) ** 2 / X.shape[0])
        self.gradient_unit = max(float(np.max(np.abs(X.T @ y))) / (2 * X.shape[0]),
                                 self.curvature * self.predictor_unit)
        rng = np.random.default_rng(seed)
        shape = rng.uniform(-1, 1, (2, X.shape[1]))
        self.alpha = np.sqrt(self.SCALE * self.predictor_unit) * np.exp(self.SPREAD * shape[0])
        self.log_ratio = 2 * self.SPREAD * shape[1]

    @cached_property
    def sample_gradient_unit(self) -> float:
        """The same as `gradient_unit` for the gradient of the loss of one sample."""
        X, y = self.data.X, self.data.y
        curvature = float(np.max(np.sum(X * X, axis=1)))
        return max(float(np.max(np.abs(X * y[:, None]))) / 2, curvature * self.predictor_unit)

    @property
    def longest(self) -> float:
        """A time beyond which no run is followed."""
        return 1e4 / (self.curvature * self.predictor_unit)

    def weights(self) -> tuple[Array, Array]:
        """Give the initial weights, `alpha exp(+- log_ratio / 2)`."""
        return self.alpha * np.exp(self.log_ratio / 2), self.alpha * np.exp(-self.log_ratio / 2)

    @cached_property
    def initial_gradient_norm(self) -> float:
        """Norm of the gradient in the weights at the start."""
        return self._gradient_norm(*self.weights())

    @cached_property
    def _known_times(self) -> dict[tuple[str, float], float]:
        return {}

    def times(self, levels: tuple[float, ...], of: str = "loss") -> Array:
        """Find the times at which plain gradient flow has brought a quantity down to fractions of its start.

        Parameters
        ----------
        levels : tuple of float
            Decreasing, in (0, 1).
        of : {"loss", "gradient"}
            The reachable part of the loss, or the norm of the gradient in the weights.

        Returns
        -------
        ndarray of shape (len(levels),)
        """
        missing = tuple(level for level in levels if (of, level) not in self._known_times)
        if missing:
            found = self._find(missing, self._reachable_loss if of == "loss" else self._gradient_norm)
            self._known_times.update({(of, level): t for level, t in zip(missing, found, strict=True)})
        return np.array([self._known_times[of, level] for level in levels])

    def _reachable_loss(self, u: Array, v: Array) -> float:
        return float(self.net.loss(u, v)) - self.unreachable_loss

    def _gradient_norm(self, u: Array, v: Array) -> float:
        return float(np.linalg.norm(self.net.gradient(u, v)))

    def _find(self, levels: tuple[float, ...], quantity: Callable[[Array, Array], float]) -> list[float]:
        size = self.alpha.size
        u, v = self.weights()
        initial = quantity(u, v)

        def field(t: float, state: Array) -> Array:
            return -np.concatenate(self.net.gradient(state[:size], state[size:]))

        def crossing(level: float) -> Any:
            def event(t: float, state: Array) -> float:
                return quantity(state[:size], state[size:]) / initial - level

            event.terminal = level == min(levels)  # type: ignore[attr-defined]
            return event

        with np.errstate(over="ignore", invalid="ignore"):  # trial steps that are too long, and rejected
            run = solve_ivp(field, (0, self.longest), np.concatenate([u, v]), method="DOP853", rtol=1e-8,
                            atol=1e-10 * float(np.min(self.alpha)), events=[crossing(level) for level in levels])
        for level, hits in zip(levels, run.t_events, strict=True):
            if hits.size == 0:
                raise RouteError(f"gradient flow does not come down to {level:g} of its start in the time that the raw "
                                 "route can afford")
        return [float(hits[0]) for hits in run.t_events]
