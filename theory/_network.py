"""The network in symbols, and the raw route: the same network in numbers, by the chain rule through its symbols.

Two expressions fix everything: the loss of one sample, `(z - y)^2 / 4`, and the map from weights to predictor,
`beta = f(u) - f(v)` with `f(w) = w^2`. sympy differentiates them. `SymbolicNetwork` puts them together for a small
network whose data and weights are all symbols; `Network` chains their lambdified derivatives with a given matrix X.
The raw route knows nothing of log coordinates, of pairs (p, q) or of potentials, and takes no line from the library
that it serves to check: a test proves `Network` equal to `SymbolicNetwork`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

__all__ = ["Network", "SymbolicNetwork"]

Array = NDArray[Any]

OUTPUT, TARGET = sp.symbols("z y", real=True)
SAMPLE_LOSS = (OUTPUT - TARGET) ** 2 / 4
WEIGHT = sp.Symbol("w", real=True)
BRANCH = WEIGHT**2


class SymbolicNetwork:
    """A diagonal linear network whose data and weights are symbols.

    Parameters
    ----------
    n_samples, n_features : int
        The shape of the data.

    Attributes
    ----------
    X : sympy.Matrix of shape (n_samples, n_features)
    y, residual : sympy.Matrix of shape (n_samples, 1)
    u, v, b : tuple of sympy.Symbol
        Weights, and the predictor as free symbols.
    sample_losses : list of sympy.Expr
        In the weights.
    loss : sympy.Expr
        Their mean.
    """

    def __init__(self, n_samples: int = 2, n_features: int = 2) -> None:
        rows, columns = range(1, n_samples + 1), range(1, n_features + 1)
        self.n_samples, self.n_features = n_samples, n_features
        self.X = sp.Matrix([[sp.Symbol(f"x_{i}{j}", real=True) for j in columns] for i in rows])
        self.y = sp.Matrix([sp.Symbol(f"y_{i}", real=True) for i in rows])
        self.u = tuple(sp.Symbol(f"u_{j}", positive=True) for j in columns)
        self.v = tuple(sp.Symbol(f"v_{j}", positive=True) for j in columns)
        self.b = tuple(sp.Symbol(f"b_{j}", real=True) for j in columns)
        self.sample_losses = [self._to_weights(loss) for loss in self._sample_losses_in_b]
        self.loss = sp.Add(*self.sample_losses) / n_samples

    @property
    def weights(self) -> tuple[sp.Symbol, ...]:
        """All weights: u, then v."""
        return self.u + self.v

    @cached_property
    def predictor(self) -> list[sp.Expr]:
        """The predictor in the weights: `beta_j = f(u_j) - f(v_j)`."""
        return [BRANCH.subs(WEIGHT, u) - BRANCH.subs(WEIGHT, v) for u, v in zip(self.u, self.v, strict=True)]

    @cached_property
    def _sample_losses_in_b(self) -> list[sp.Expr]:
        outputs = self.X * sp.Matrix(self.b)
        return [SAMPLE_LOSS.subs({OUTPUT: z, TARGET: y}, simultaneous=True)
                for z, y in zip(outputs, self.y, strict=True)]

    def _to_weights(self, expression: sp.Expr) -> sp.Expr:
        return expression.xreplace(dict(zip(self.b, self.predictor, strict=True)))

    def gradient(self, function: sp.Expr | None = None) -> sp.Matrix:
        """Differentiate a function of the weights (default: the loss) with respect to all weights."""
        function = self.loss if function is None else function
        return sp.Matrix([sp.diff(function, weight) for weight in self.weights])

    def beta_gradient(self, sample: int | None = None) -> list[sp.Expr]:
        """Differentiate the loss (or that of one sample) in the predictor, then put in the weights."""
        losses = self._sample_losses_in_b
        loss = sp.Add(*losses) / self.n_samples if sample is None else losses[sample]
        return [self._to_weights(sp.diff(loss, b)) for b in self.b]

    def at(self, expression: Any, weights: Iterable[sp.Expr]) -> Any:
        """Evaluate an expression in the weights at other weights."""
        return expression.xreplace(dict(zip(self.weights, weights, strict=True)))


def _number(variables: Any, expression: sp.Expr) -> Callable[..., Any]:
    return sp.lambdify(variables, expression, "numpy")


class Network:
    """The network in numbers: derivatives of the two symbolic maps, chained with the data.

    Parameters
    ----------
    X : ndarray of shape (N, d)
    y : ndarray of shape (N,)

    Notes
    -----
    Every method takes weights of shape (..., d): leading axes are independent runs, evaluated together.
    """

    _slope = staticmethod(_number((OUTPUT, TARGET), sp.diff(SAMPLE_LOSS, OUTPUT)))
    _bend = staticmethod(_number((OUTPUT, TARGET), sp.diff(SAMPLE_LOSS, OUTPUT, 2)))
    _loss = staticmethod(_number((OUTPUT, TARGET), SAMPLE_LOSS))
    _branch = staticmethod(_number(WEIGHT, BRANCH))
    _branch_slope = staticmethod(_number(WEIGHT, sp.diff(BRANCH, WEIGHT)))
    _branch_bend = staticmethod(_number(WEIGHT, sp.diff(BRANCH, WEIGHT, 2)))

    def __init__(self, X: Array, y: Array) -> None:
        self.X = np.array(X, dtype=float)
        self.y = np.array(y, dtype=float)
        self.n_samples, self.n_features = self.X.shape

    def predictor(self, u: Array, v: Array) -> Array:
        """Predictor beta, shape (..., d)."""
        return self._branch(u) - self._branch(v)

    def loss(self, u: Array, v: Array) -> Array:
        """Mean loss, shape (...)."""
        return np.mean(self._loss(self.predictor(u, v) @ self.X.T, self.y), axis=-1)

    def loss_slope(self, beta: Array) -> Array:
        """Gradient of the loss in the predictor, at a predictor, shape (..., d)."""
        return self._slope(beta @ self.X.T, self.y) @ self.X / self.n_samples

    def beta_gradient(self, u: Array, v: Array) -> Array:
        """Gradient of the loss in the predictor, at weights, shape (..., d)."""
        return self.loss_slope(self.predictor(u, v))

    def gradient(self, u: Array, v: Array) -> tuple[Array, Array]:
        """Gradient of the loss in the weights: one array (..., d) for u, one for v."""
        g = self.beta_gradient(u, v)
        return g * self._branch_slope(u), -g * self._branch_slope(v)

    def hessian_product(self, u: Array, v: Array, du: Array, dv: Array) -> tuple[Array, Array]:
        """Hessian of the loss in the weights, applied to a direction (du, dv)."""
        outputs = self.predictor(u, v) @ self.X.T
        change = (self._branch_slope(u) * du - self._branch_slope(v) * dv) @ self.X.T
        g = self._slope(outputs, self.y) @ self.X / self.n_samples
        dg = (self._bend(outputs, self.y) * change) @ self.X / self.n_samples
        return (dg * self._branch_slope(u) + g * self._branch_bend(u) * du,
                -dg * self._branch_slope(v) - g * self._branch_bend(v) * dv)

    def sample_slope(self, outputs: Array) -> Array:
        """Differentiate each sample's loss in its output, shape (..., N)."""
        return np.asarray(self._slope(outputs, self.y))

    def sample_beta_gradients(self, us: Array, vs: Array) -> Array:
        """Gradient of each sample's loss in the predictor at that sample's own weights.

        Takes weights of shape (..., N, d), one set per sample, or (..., 1, d), the same for all; returns (..., N, d).
        """
        return self.sample_slope(np.sum(self.predictor(us, vs) * self.X, axis=-1))[..., None] * self.X

    def sample_gradients(self, us: Array, vs: Array) -> tuple[Array, Array]:
        """Gradient of each sample's loss in the weights, at that sample's own weights: two arrays (..., N, d)."""
        g = self.sample_beta_gradients(us, vs)
        return g * self._branch_slope(us), -g * self._branch_slope(vs)
