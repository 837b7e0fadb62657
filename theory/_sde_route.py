"""Stochastic flows by raw routes: NumPy, many paths at once, in logarithms of the weights and in the weights themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._network import Array, Network

__all__ = ["Model", "in_logarithms", "in_weights", "rate_of"]


@dataclass(frozen=True)
class Model:
    """Noise of SGD: the batch size, the standard deviation of label noise, and whether it is of the isotropic model."""

    batch: int = 1
    delta: float = 0.0
    isotropic: bool = False

    def amplitudes(self, residual: Array) -> Array:
        """Give s_i of `dM = sum_i x_i s_i dB_i`, shape (..., N)."""
        if not self.isotropic and not self.delta:
            return residual / np.sqrt(4 * self.batch * residual.shape[-1])  # with its sign: which path it is depends on that
        squares = residual**2
        if self.isotropic:
            squares = np.mean(squares, axis=-1, keepdims=True) + np.zeros_like(squares)
        return np.sqrt((squares + self.delta**2) / (4 * self.batch * residual.shape[-1]))

    def second_moment(self, net: Network, residual: Array) -> Array:
        """Give the mean of the squared gradient of a batch, shape (..., d)."""
        return self.amplitudes(residual) ** 2 @ net.X**2 + self.square_of_mean(net, residual)

    def square_of_mean(self, net: Network, residual: Array) -> Array:
        """Give the part of that which is no noise: `(1 - 1/B) g^2`, by which steps of a batch shrink the weights, too."""
        if self.isotropic:
            return np.zeros(net.n_features)
        return (1 - 1 / self.batch) * (residual @ net.X / (2 * net.n_samples)) ** 2


def residual_of(net: Network, u: Array, v: Array) -> Array:
    """Twice the slope of a sample's loss in its output: `X beta - y`, shape (..., N)."""
    return 2 * net.sample_slope(net.predictor(u, v) @ net.X.T)


def rate_of(net: Network, model: Model, u: Array, v: Array) -> Array:
    """Give the rate `-d log alpha_eff / (eta dt)` that T13 claims, twice the second moment, at given weights."""
    return 2 * model.second_moment(net, residual_of(net, u, v))


def in_logarithms(net: Network, model: Model, eta: float, dt: float, log_u: Array, log_v: Array,
                  xi: Array) -> tuple[Array, Array, Array]:
    """Make steps of Euler and Maruyama in log u and log v; xi is (K, ..., N).

    Returns
    -------
    tuple of ndarray
        log u, log v, and the integral of what `rate_of` gives, along the path.
    """
    total = np.zeros_like(log_u)
    for numbers in xi:
        residual = residual_of(net, np.exp(log_u), np.exp(log_v))
        g = residual @ net.X / (2 * net.n_samples)
        moved = g * dt + np.sqrt(eta * dt) * ((model.amplitudes(residual) * numbers) @ net.X)
        shrunk = model.second_moment(net, residual) * dt
        log_u, log_v = log_u - 2 * moved - 2 * eta * shrunk, log_v + 2 * moved - 2 * eta * shrunk
        total = total + 2 * shrunk
    return log_u, log_v, total


def in_weights(net: Network, model: Model, eta: float, dt: float, u: Array, v: Array, xi: Array) -> tuple[Array, Array]:
    """Make steps of Euler and Maruyama in u and v: no logarithm and no correction of Ito's; xi is (K, ..., N)."""
    for numbers in xi:
        residual = residual_of(net, u, v)
        gu, gv = net.gradient(u, v)
        noise = np.sqrt(eta * dt) * ((model.amplitudes(residual) * numbers) @ net.X)
        shrunk = 2 * eta * dt * model.square_of_mean(net, residual)
        u, v = u - gu * dt - u * (2 * noise + shrunk), v - gv * dt + v * (2 * noise - shrunk)
    return u, v
