"""Training rules by their definitions in the weights: grad L(u, v) is written once, and each rule built from it alone."""

import math
import re

import numpy as np

from dln import SAM, Flooding, GradientFlow, WeightDecay


def grad(X, y, u, v):
    g = X.T @ (X @ (u * u - v * v) - y) / (2 * len(y))
    return np.array([2 * u * g, -2 * v * g])


def length(weights):
    return math.sqrt(sum(float(x) ** 2 for x in weights.flat))


def hessian_times(X, y, u, v, direction):
    """Hessian of L in the weights times a direction, by differentiating grad along it."""
    du, dv = direction
    g = X.T @ (X @ (u * u - v * v) - y) / (2 * len(y))
    dg = X.T @ (X @ (2 * u * du - 2 * v * dv)) / (2 * len(y))
    return np.array([2 * du * g + 2 * u * dg, -2 * dv * g - 2 * v * dg])


def descent(rule, X, y, u, v, t=0.0):
    """The vector -d theta/dt of the rule, by its definition in the weights."""
    theta, G = np.array([u, v]), grad(X, y, u, v)

    def at(step):
        return grad(X, y, *(theta + step))

    if isinstance(rule, GradientFlow):
        return G
    if isinstance(rule, WeightDecay):
        lam = rule.strength(t) if callable(rule.strength) else np.asarray(rule.strength)
        return G + 2 * lam * theta
    if isinstance(rule, Flooding):
        losses = (X @ (u * u - v * v) - y) ** 2 / 4
        if not rule.per_sample:
            return np.sign(losses.mean() - rule.level) * G
        return sum(np.sign(losses[i] - rule.level) * grad(X[i : i + 1], y[i : i + 1], u, v) for i in range(len(y))) / len(y)
    if isinstance(rule, SAM):
        if not rule.per_sample:
            return at(rule.rho * (G / length(G) if rule.normalized else G))
        total = 0 * theta
        for i in range(len(y)):
            Xi, yi = X[i : i + 1], y[i : i + 1]
            Gi = grad(Xi, yi, u, v)
            total = total + grad(Xi, yi, *(theta + rule.rho * (Gi / length(Gi) if rule.normalized else Gi)))
        return total / len(y)
    gamma, e = (rule.gamma if rule.squared else rule.gamma / length(G)), rule.epsilon
    if rule.scheme == "forward":
        return G + (gamma / e) * (at(e * G) - G)
    if rule.scheme == "backward":
        return G + (gamma / e) * (G - at(-e * G))
    if rule.scheme == "centered":
        return G + (gamma / (2 * e)) * (at(e * G) - at(-e * G))
    return G + gamma * hessian_times(X, y, u, v, G)


def name(rule):
    """Name a rule without the addresses of its functions, which differ from process to process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(rule))
