"""Vector fields of the training rules in raw weights (u, v), built from weight gradients alone.

A finite difference is what its paper says: the weight gradient evaluated at *perturbed weights*
`theta +- epsilon grad L(theta)`. Nothing here mentions the predictor, p, q or an effective initialisation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._network import Array, Network

__all__ = ["Velocity", "gradient_flow", "gradient_regularization", "sam", "weight_decay"]

Velocity = Callable[[float, Array, Array], tuple[Array, Array]]


def gradient_flow(net: Network) -> Velocity:
    """Descend the gradient of the loss."""

    def velocity(t: float, u: Array, v: Array) -> tuple[Array, Array]:
        gu, gv = net.gradient(u, v)
        return -gu, -gv

    return velocity


def weight_norm(gu: Array, gv: Array) -> Array:
    """Euclidean norm of a weight gradient, with a trailing axis kept for broadcasting."""
    return np.sqrt(np.sum(gu * gu + gv * gv, axis=-1, keepdims=True))


def over_norm(strength: Any, gu: Array, gv: Array) -> Array:
    """`strength / |grad|`, and 0 where the gradient is 0: there the rule is plain gradient flow, at rest."""
    norm = weight_norm(gu, gv)
    return np.where(norm > 0, strength, 0.0) / np.where(norm > 0, norm, 1.0)


def gradient_regularization(net: Network, gamma: Any, epsilon: Any = None, scheme: str = "forward",
                            squared: bool = True) -> Velocity:
    """Gradient regularization: `L + (gamma/2) |grad L|^2`, its gradient exact or by a finite difference.

    Parameters
    ----------
    net : Network
    gamma, epsilon : float or ndarray of shape (..., 1)
        Strength and ascent step.
    scheme : {"forward", "backward", "centered", "exact"}
    squared : bool
        False: the penalty is `gamma |grad L|`, that is gamma over the norm of the gradient in place of gamma.
    """

    def penalty(u: Array, v: Array, gu: Array, gv: Array) -> tuple[Array, Array]:
        """Hessian times gradient, or its finite difference."""
        if scheme == "exact":
            return net.hessian_product(u, v, gu, gv)
        above = (gu, gv) if scheme == "backward" else net.gradient(u + epsilon * gu, v + epsilon * gv)
        below = (gu, gv) if scheme == "forward" else net.gradient(u - epsilon * gu, v - epsilon * gv)
        width = 2 * epsilon if scheme == "centered" else epsilon
        return (above[0] - below[0]) / width, (above[1] - below[1]) / width

    def velocity(t: float, u: Array, v: Array) -> tuple[Array, Array]:
        gu, gv = net.gradient(u, v)
        strength = gamma if squared else over_norm(gamma, gu, gv)
        hu, hv = penalty(u, v, gu, gv)
        return -(gu + strength * hu), -(gv + strength * hv)

    return velocity


def sam(net: Network, rho: Any, normalized: bool = False, per_sample: bool = False) -> Velocity:
    """Sharpness-aware minimisation: the gradient at the weights moved up the gradient, of all samples or of each."""

    def full(t: float, u: Array, v: Array) -> tuple[Array, Array]:
        gu, gv = net.gradient(u, v)
        radius = over_norm(rho, gu, gv) if normalized else rho
        gu, gv = net.gradient(u + radius * gu, v + radius * gv)
        return -gu, -gv

    def one_by_one(t: float, u: Array, v: Array) -> tuple[Array, Array]:
        us, vs = u[..., None, :], v[..., None, :]
        gu, gv = net.sample_gradients(us, vs)
        radius = np.asarray(rho)[..., None] if np.ndim(rho) else rho
        if normalized:
            radius = over_norm(radius, gu, gv)
        gu, gv = net.sample_gradients(us + radius * gu, vs + radius * gv)
        return -np.mean(gu, axis=-2), -np.mean(gv, axis=-2)

    return one_by_one if per_sample else full


def weight_decay(net: Network, strength: Callable[[float], Any]) -> Velocity:
    """Penalty `sum strength (u^2 + v^2)`, the strength a function of time, a number or one per coordinate."""

    def velocity(t: float, u: Array, v: Array) -> tuple[Array, Array]:
        gu, gv = net.gradient(u, v)
        lam = strength(t)
        return -gu - 2 * lam * u, -gv - 2 * lam * v

    return velocity
