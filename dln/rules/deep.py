"""What the rules share at depth D > 2, where ``dL/du = D u^(D-1) g`` and ``dL/dv = -D v^(D-1) g``."""

import math

from .._jit import njit
from .._linalg import matvec, rmatvec
from .base import UD, UK, VD, VK


@njit()
def descend(depth, powers, g, rate):
    """rate = ((log u)', (log v)') of gradient flow: ``-+D u^(D-2) g``."""
    d = g.shape[0]
    for j in range(d):
        rate[j] = -depth * powers[UK, j] * g[j]
        rate[d + j] = depth * powers[VK, j] * g[j]


@njit()
def gradient_norm(depth, powers, g):
    """Return |grad L| in the weights: ``|grad L|^2 = D^2 sum (u^(2D-2) + v^(2D-2)) g^2``."""
    largest = 0.0
    for j in range(g.shape[0]):
        largest = max(largest, abs(g[j]))
    if not largest > 0.0:
        return largest
    total = 0.0
    for j in range(g.shape[0]):
        total += (powers[UD, j] * powers[UK, j] + powers[VD, j] * powers[VK, j]) * (g[j] / largest) ** 2
    return depth * largest * math.sqrt(total)


@njit()
def power_change(step, x, power):
    """Return ``((1 + step x)^power - 1)/step``, which is ``power x`` at step 0, to full relative accuracy.

    NaN where a weight would be taken through 0 and its power is not an integer.
    """
    e = step * x
    if abs(e) < 1e-9:
        return power * x * (1.0 + 0.5 * (power - 1.0) * e)
    if e > -1.0:
        return math.expm1(power * math.log1p(e)) / step
    if power != math.floor(power):
        return math.nan
    return ((1.0 + e) ** power - 1.0) / step


@njit()
def add_penalty(X, c, depth, powers, strength, step, g, rate, work_d, work_n):
    """Add ``-(strength/step) (grad L(theta + step grad L) - grad L)`` to the rates, its limit at step 0; False at a crossing.

    With x = D u^k g (for v: -D v^k g) a weight goes to u (1 + step x), its power D - 1 changes by `power_change`, and g by
    step times delta = H (beta_step - beta)/step.  Rows 1 and 2 of `work_d` are used; g may be row 0.
    """
    d = g.shape[0]
    w = work_d[1]
    delta = work_d[2]
    for j in range(d):
        up = power_change(step, depth * powers[UK, j] * g[j], depth)
        down = power_change(step, -depth * powers[VK, j] * g[j], depth)
        if not (math.isfinite(up) and math.isfinite(down)):
            return False
        w[j] = powers[UD, j] * up - powers[VD, j] * down
    matvec(X, w, work_n[0])
    rmatvec(X, work_n[0], c, delta)
    for j in range(d):
        ahead = g[j] + step * delta[j]
        up = power_change(step, depth * powers[UK, j] * g[j], depth - 1.0)
        down = power_change(step, -depth * powers[VK, j] * g[j], depth - 1.0)
        rate[j] -= strength * depth * powers[UK, j] * (up * ahead + delta[j])
        rate[d + j] += strength * depth * powers[VK, j] * (down * ahead + delta[j])
    return True
