"""How fast log alpha_eff of the finite differences tends to that of the exact Hessian, and to one another, at one finite time.

Part of T5. Nothing needs to converge here, so the orders can also be measured where the limits do not depend on the scheme.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from ._engine import library
from ._fields import gradient_regularization
from ._network import Array
from ._raw_route import integrate
from ._registry import Finding
from ._setting import Setting
from ._slopes import slope_finding

__all__ = ["SCALE_MUTANTS", "ScaleOrder", "scale_orders"]

#: Plain gradient flow has brought the loss down to this fraction of its start.
LEVEL = 1e-2

#: By part: the two schemes that are compared, the order of their difference, and the powers of its corrections.
CLAIMS = {
    "alpha_eff, forward": ("forward", "exact", 1.0, (1, 2)),
    "alpha_eff, backward": ("backward", "exact", 1.0, (1, 2)),
    "alpha_eff, centered": ("centered", "exact", 2.0, (2, 4)),
    # An odd function of epsilon: forward is backward with the other sign.
    "alpha_eff, forward less backward": ("forward", "backward", 1.0, (2, 4)),
}

#: `scheme -> log alpha_eff for every ascent step`, shape (K, d), by route.
Scales = Callable[[str], Mapping[str, Array]]


@dataclass(frozen=True)
class ScaleOrder:
    """The claimed order in the ascent step of a difference of two schemes' log alpha_eff.

    Attributes
    ----------
    name : str
        One of `CLAIMS`.
    order : float
    ladder : ndarray of shape (K,)
        Ascent steps.
    one, other : callable
        Give log alpha_eff of the two schemes for all steps, by route.
    """

    name: str
    order: float
    ladder: Array
    one: Callable[[], Mapping[str, Array]]
    other: Callable[[], Mapping[str, Array]]

    def measure(self, setting: Setting) -> Finding:
        """Fit the order by both routes."""
        one, other = self.one(), self.other()
        distances = {route: np.linalg.norm(one[route] - other[route], axis=1) for route in one}
        # Both runs of a difference carry the rounding of their integrators, some units of 1e-13 in log alpha_eff.
        return slope_finding(self.ladder, distances, self.order, CLAIMS[self.name][3], noise=5e-13)


def _scales(setting: Setting, gamma: float, ladder: Array) -> Scales:
    """Run a scheme for all steps by both routes, once and only if asked for."""
    times = setting.times((LEVEL,))

    @cache
    def scales(scheme: str) -> Mapping[str, Array]:
        steps = ladder[:1] if scheme == "exact" else ladder  # the exact Hessian has no step
        u0, v0 = (np.tile(weights, (len(steps), 1)) for weights in setting.weights())
        raw = integrate(gradient_regularization(setting.net, gamma, steps[:, None], scheme), u0, v0, times).log_scales[0]

        def engine(step: float | None) -> Array:
            run = library(lambda dln: dln.GradientRegularization(gamma, step, scheme))
            return run(setting.data, setting.alpha, setting.log_ratio, times).log_scales[0]

        return {"raw": raw, "engine": np.array([engine(None if scheme == "exact" else float(step)) for step in steps])}

    return scales


def scale_orders(setting: Setting, gamma: float, ladder: Array) -> list[ScaleOrder]:
    """List the parts: each scheme against the exact Hessian, and forward against backward."""
    scales = _scales(setting, gamma, ladder)

    def part(name: str) -> ScaleOrder:
        one, other, order, _ = CLAIMS[name]
        return ScaleOrder(name, order, ladder, lambda: scales(one), lambda: scales(other))

    return [part(name) for name in CLAIMS]


# The wrong versions: each takes a part, the setting and gamma.


def _claim(**orders: float) -> Callable[[ScaleOrder, Setting, float], ScaleOrder | None]:
    return lambda part, setting, gamma: (replace(part, order=orders[part.name.split()[-1]])
                                         if part.name.split()[-1] in orders and "less" not in part.name else None)


def _difference_of_order_two(part: ScaleOrder, setting: Setting, gamma: float) -> ScaleOrder | None:
    return replace(part, order=2.0) if "less" in part.name else None


def _other_strength(part: ScaleOrder, setting: Setting, gamma: float) -> ScaleOrder | None:
    if part.name != "alpha_eff, centered":
        return None
    scales = _scales(setting, 1.01 * gamma, part.ladder)
    return replace(part, other=lambda: scales(CLAIMS[part.name][1]))


def _engine_runs(scheme: str, instead: str) -> Callable[[ScaleOrder, Setting, float], ScaleOrder | None]:
    def mutant(part: ScaleOrder, setting: Setting, gamma: float) -> ScaleOrder | None:
        if part.name != f"alpha_eff, {scheme}":
            return None
        scales = _scales(setting, gamma, part.ladder)
        return replace(part, one=lambda: {"raw": scales(scheme)["raw"], "engine": scales(instead)["engine"]})

    return mutant


SCALE_MUTANTS = {
    "alpha_eff: forward order 2": _claim(forward=2.0),
    "alpha_eff: centred order 1": _claim(centered=1.0),
    "alpha_eff: forward less backward of order 2": _difference_of_order_two,
    "alpha_eff: compared with gamma off by 1 percent": _other_strength,
    "alpha_eff, engine: centred run as backward": _engine_runs("centered", "backward"),
}
