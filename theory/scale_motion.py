"""T24: how the minimiser moves with the initial scale, towards or away from the interpolator of its own tangent kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import sympy as sp
from scipy.integrate import solve_ivp
from scipy.linalg import cho_factor, cho_solve, lstsq

from ._deep import K, S, h, inverse_h, potential_of
from ._depth_steps import DEPTH, exponents
from ._derivation import Derivation
from ._dual import row_space
from ._minimiser import minimise_divergence
from ._network import Array
from ._raw_route import RouteError
from ._registry import Finding, Theorem
from ._setting import Data, Setting

__all__ = ["THEOREMS"]

TOLERANCE = 1e-9
DEPTHS = (2.0, 2.5, 4.0)

#: Of log c at depth 2, falling: from nearly the kernel regime, where alpha^2 is of the size of the predictor, to the rich one.
LOG_SCALES = np.linspace(0.3, -2.0, 4)


def derive_scale_motion() -> Derivation:
    """Derive T24: differentiate the mirror map along the scale, and eliminate the multipliers."""
    d = Derivation("T24", "How the minimiser moves with the initial scale")
    exponents(d)
    d.assume("beta minimises the divergence of the potential from its centre subject to X b = y (T1 to T3), where "
             "alpha_j = w_j exp(t) and log(u0/v0) is the same for all t; xi stands for x_j.nu, nu the multipliers, smooth in t")
    t, w = sp.Symbol("t", real=True), sp.Symbol("w", positive=True)
    xi, rho, z0 = sp.Function("xi", real=True)(t), sp.Symbol("rho", real=True), sp.Symbol("z0", real=True)
    a = w * sp.exp(t)
    place = 4 * xi + rho
    d.equal("D = 2: weights and predictor", "u = a exp(l/2), v = a exp(-l/2) with l = log(u/v) = 4 xi + rho",
            sp.Matrix([(a * sp.exp(place / 2)) ** 2 - (a * sp.exp(-place / 2)) ** 2,
                       (a * sp.exp(place / 2)) ** 2 + (a * sp.exp(-place / 2)) ** 2]),
            sp.Matrix([2 * a**2 * sp.sinh(place), 2 * a**2 * sp.cosh(place)]))
    d.equal("D = 2: motion of a coordinate", "differentiation in t", sp.Derivative(2 * a**2 * sp.sinh(place), t),
            2 * (2 * a**2 * sp.sinh(place)) + 2 * a**2 * sp.cosh(place) * 4 * sp.Derivative(xi, t))
    d.assume("for D > 2: z = z0 + a^k xi in (-1, 1), u = a (1 - z)^(-1/k), v = a (1 + z)^(-1/k), beta = u^D - v^D")
    push = sp.Symbol("g", real=True)
    d.equal("D > 2: motion of z", "differentiation in t", sp.Derivative(z0 + a**K * xi, t),
            a**K * (K * xi + sp.Derivative(xi, t)))
    d.assume("g stands for k xi + d xi/dt")
    less, more = (sp.Function(name, positive=True)(t) for name in "AB")
    d.define(sp.Derivative(less, t), -(a**K) * push, "A(t) = 1 - z")
    d.define(sp.Derivative(more, t), a**K * push, "B(t) = 1 + z")
    p, q = sp.symbols("A B", positive=True)
    d.equal("D > 2: powers of the weights", "A = 1 - z and B = 1 + z are positive",
            sp.Matrix([(a * p ** (-1 / K)) ** DEPTH - (a * q ** (-1 / K)) ** DEPTH,
                       (a * p ** (-1 / K)) ** (2 * DEPTH - 2) + (a * q ** (-1 / K)) ** (2 * DEPTH - 2)]),
            sp.Matrix([a**DEPTH * (p**-S - q**-S), a ** (2 * DEPTH - 2) * (p ** (-S - 1) + q ** (-S - 1))]))
    beta = a**DEPTH * (less**-S - more**-S)
    sizes = a ** (2 * DEPTH - 2) * (less ** (-S - 1) + more ** (-S - 1))
    d.equal("D > 2: motion of a coordinate", "differentiation in t", sp.Derivative(beta, t),
            DEPTH * beta + sizes * S * push)
    d.conclude("in both cases d beta/dt is D beta + S X^T mu with S = diag(u^(2D-2) + v^(2D-2)) and some mu, since x_j.nu and "
               "its derivative are entries of X^T applied to vectors with one number per sample")
    _kernel(d)
    _elimination(d)
    d.conclude("d beta/d log c = D (beta - beta_T), beta_T = S X^T (X S X^T)^(-1) y: the minimiser rests where the trained "
               "network agrees with the interpolator of its own tangent kernel")
    return d


def _kernel(d: Derivation) -> None:
    """Recognise S in the tangent kernel."""
    u, v = sp.symbols("u v", positive=True)
    predictor = u**DEPTH - v**DEPTH
    d.equal("The tangent kernel", "the sum of the squares of the derivatives of beta_j in its two weights",
            sp.Derivative(predictor, u) ** 2 + sp.Derivative(predictor, v) ** 2,
            DEPTH**2 * (u ** (2 * DEPTH - 2) + v ** (2 * DEPTH - 2)))


def _elimination(d: Derivation) -> None:
    """Solve X (D beta + S X^T mu) = 0 for mu."""
    d.assume("mu is eliminated for two samples and three features, all data symbolic; rows of X independent")
    X = sp.Matrix(2, 3, sp.symbols("x_11:14 x_21:24", real=True))
    sizes = sp.diag(*sp.symbols("S_1:4", positive=True))
    beta = sp.Matrix(sp.symbols("b_1:4", real=True))
    y = X * beta
    gram = X * sizes * X.T
    det = sp.Symbol("q", positive=True)
    minors = [X.extract([0, 1], [i, j]).det() ** 2 * sizes[i, i] * sizes[j, j] for i, j in ((0, 1), (0, 2), (1, 2))]
    d.equal("det X S X^T is a sum of squares of minors, not 0 for independent rows", "the formula of Cauchy and Binet",
            sp.expand(gram.det()), sp.Add(*minors))
    d.define(det, gram.det(), "det X S X^T")
    inverse = sp.Matrix([[gram[1, 1], -gram[0, 1]], [-gram[1, 0], gram[0, 0]]]) / det
    depth = sp.Symbol("kappa", positive=True)
    d.assume("kappa stands for D")
    mu = -depth * inverse * y
    d.equal("With mu = -D (X S X^T)^(-1) y the move keeps X b = y", "substitution", X * (depth * beta + sizes * X.T * mu),
            sp.zeros(2, 1))
    tangent = sizes * X.T * inverse * y
    d.equal("beta_T interpolates", "substitution", X * tangent, y)
    d.equal("The move is D (beta - beta_T)", "factoring", depth * beta + sizes * X.T * mu, depth * (beta - tangent))


# --- the check -------------------------------------------------------------------------------------------------------


class Motion(NamedTuple):
    """What an engine claims along the scales: minimisers and velocities, both of shape (K, d)."""

    betas: Array
    velocities: Array


Engine = Callable[[Data, Array, Array, Array, float], Motion]


def library_path(data: Data, log_scales: Array, log_shape: Array, log_ratio: Array, depth: float) -> Motion:
    """Take the library's path over the scales."""
    import dln

    path = dln.scale_path(dln.Problem(data.X, data.y), log_alphas=log_scales, shape=np.exp(log_shape), log_ratio=log_ratio,
                          depth=depth)
    if not path.success.all():
        raise RouteError(f"the library did not come to an end at every scale: {path}")
    return Motion(path.betas, path.velocities)


def weights_at(beta: Array, alpha: Array, depth: float) -> tuple[Array, Array]:
    """Find the weights of a predictor at a scale, by SciPy's route: from log(u/v) or from z."""
    if depth == 2:
        ell = np.arcsinh(beta / (2 * alpha**2))
        return alpha * np.exp(ell / 2), alpha * np.exp(-ell / 2)
    # z = tanh(t): 1 - z = 2/(1 + e^(2t)).
    t, power = inverse_h(beta / alpha**depth, depth / (depth - 2)), 1 / (depth - 2)
    return alpha * ((1 + np.exp(2 * t)) / 2) ** power, alpha * ((1 + np.exp(-2 * t)) / 2) ** power


@dataclass(frozen=True)
class ScaleMotion:
    """The claim that minimisers at falling scales solve ``d beta/d log c = factor (beta - beta_T)``.

    Attributes
    ----------
    name : str
    data : Data
    depth : float
    log_scales : ndarray of shape (K,)
        Falling.
    log_shape, log_ratio : ndarray of shape (d,)
        Of `alpha = c * shape`, and of u0/v0, the same at every scale.
    factor, power : float
        The claim: D, and the exponent 2D - 2 of the weights in the kernel.
    sizes : callable
        `(u, v, alpha, power) -> S`.
    engine : callable
        By default the library's path.
    """

    name: str
    data: Data
    depth: float
    log_scales: Array
    log_shape: Array
    log_ratio: Array
    factor: float
    power: float
    sizes: Callable[[Array, Array, Array, float], Array] = lambda u, v, alpha, power: u**power + v**power
    engine: Engine = library_path

    def measure(self, _: Setting) -> Finding:
        """Integrate the motion from the first minimiser, by SciPy; compare with minimisers of SciPy and of the engine."""
        rows, target = row_space(self.data.X, self.data.y)
        minima = np.array([self._minimiser(log_c) for log_c in self.log_scales])
        run = solve_ivp(lambda t, beta: self._velocity(rows, target, t, beta), (self.log_scales[0], self.log_scales[-1]),
                        minima[0], method="DOP853", t_eval=self.log_scales, rtol=1e-11, atol=1e-13 * np.max(np.abs(minima[0])))
        if not run.success:
            raise RouteError(f"the motion could not be integrated beyond log c = {run.t[-1]:.4g}: {run.message}")
        velocities = np.array([self._velocity(rows, target, t, beta)
                               for t, beta in zip(self.log_scales, run.y.T, strict=True)])
        engine = self.engine(self.data, self.log_scales, self.log_shape, self.log_ratio, self.depth)
        size = np.max(np.abs(minima), axis=1)
        found = {name: np.max(np.abs(difference), axis=1) / size for name, difference in (
            ("minimiser", minima - run.y.T), ("engine", engine.betas - run.y.T),
            ("engine_velocity", engine.velocities - velocities))}
        details: dict[str, Any] = {"log_c": [float(c) for c in self.log_scales],
                                   **{name: [float(x) for x in values] for name, values in found.items()}}
        worst = max(float(np.max(values)) for values in found.values())
        return Finding(worst, TOLERANCE, worst <= TOLERANCE, details)

    def _minimiser(self, log_c: float) -> Array:
        logs = log_c + self.log_shape
        if self.depth == 2:
            center = 2 * np.exp(2 * logs) * np.sinh(self.log_ratio)
            return minimise_divergence(self.data.X, self.data.y, logs, center).beta
        k = self.depth - 2
        center = np.exp(self.depth * logs) * h(np.tanh(k * self.log_ratio / 2), self.depth / k)
        return minimise_divergence(self.data.X, self.data.y, logs, center, potential_of(self.depth)).beta

    def _velocity(self, rows: Array, target: Array, log_c: float, beta: Array) -> Array:
        alpha = np.exp(log_c + self.log_shape)
        sizes = self.sizes(*weights_at(beta, alpha, self.depth), alpha, self.power)
        gram = cho_factor((rows * sizes) @ rows.T)
        return self.factor * (beta - sizes * (rows.T @ cho_solve(gram, target)))


def parts(setting: Setting) -> list[ScaleMotion]:
    """Check T24 at several depths, from uneven scales and shaped starts; and from u0 = v0."""
    data = setting.data
    if np.linalg.matrix_rank(data.X) == data.X.shape[1]:
        raise RouteError("X b = y has one solution only: every scale leads to it, and there is nothing to check")
    data = Data(data.X, data.X @ lstsq(data.X, data.y)[0] / setting.predictor_unit, data.name)
    shape = np.log(setting.alpha) - np.mean(np.log(setting.alpha))
    motions = [ScaleMotion(f"D = {depth:g}", data, depth, 2 / depth * LOG_SCALES, 2 / depth * shape,
                           2 / depth * setting.log_ratio, depth, 2 * depth - 2) for depth in DEPTHS]
    return [*motions, replace(motions[0], name="D = 2, u0 = v0", log_ratio=0 * shape)]


# --- mutants ---------------------------------------------------------------------------------------------------------


def _all(**changes: Callable[[ScaleMotion], Any]) -> Callable[[ScaleMotion, Setting], ScaleMotion]:
    return lambda part, setting: replace(part, **{name: change(part) for name, change in changes.items()})


def _deep(**changes: Callable[[ScaleMotion], Any]) -> Callable[[ScaleMotion, Setting], ScaleMotion | None]:
    spoil = _all(**changes)
    return lambda part, setting: spoil(part, setting) if part.depth > 2 else None


def _with_sizes(sizes: Callable[[Array, Array, Array, float], Array]) -> Callable[[ScaleMotion, Setting], ScaleMotion]:
    return _all(sizes=lambda part: sizes)


def _without_shape(data: Data, log_scales: Array, log_shape: Array, log_ratio: Array, depth: float) -> Motion:
    return library_path(data, log_scales, 0 * log_shape, log_ratio, depth)


def _larger(data: Data, log_scales: Array, log_shape: Array, log_ratio: Array, depth: float) -> Motion:
    return library_path(data, log_scales + 0.01, log_shape, log_ratio, depth)


def _faster(data: Data, log_scales: Array, log_shape: Array, log_ratio: Array, depth: float) -> Motion:
    path = library_path(data, log_scales, log_shape, log_ratio, depth)
    return Motion(path.betas, 1.01 * path.velocities)


def _shapeless_start(part: ScaleMotion, setting: Setting) -> ScaleMotion | None:
    if not part.log_ratio.any():
        return None
    return replace(part, engine=lambda data, scales, shape, ratio, depth: library_path(data, scales, shape, 0 * ratio, depth))


THEOREMS = (
    Theorem(
        key="T24",
        title="Speed between kernel and rich",
        statement="alpha = c w: d beta_inf/d log c = D (beta_inf - beta_T), beta_T the interpolator of the tangent kernel "
                  "X diag(u^(2D-2) + v^(2D-2)) X^T of the trained network",
        source='after Woodworth et al. 2020, "Kernel and rich regimes in overparametrized models"',
        kind="exact",
        tolerance=TOLERANCE,
        derive=derive_scale_motion,
        parts=parts,
        mutants={
            "factor D off by 1 percent": _all(factor=lambda part: 1.01 * part.depth),
            "factor 2 at every depth": _deep(factor=lambda part: 2.0),
            "factor 2D - 2": _deep(factor=lambda part: 2 * part.depth - 2),
            "sign swapped": _all(factor=lambda part: -part.factor),
            "powers u^D + v^D in the kernel": _deep(power=lambda part: part.depth),
            "powers u^(2D-1) + v^(2D-1) in the kernel": _all(power=lambda part: 2 * part.depth - 1),
            "kernel at the start": _with_sizes(lambda u, v, alpha, power: 2 * alpha**power),
            "the larger weight alone in the kernel": _with_sizes(lambda u, v, alpha, power: np.maximum(u, v) ** power),
            "product of the weights in the kernel": _with_sizes(lambda u, v, alpha, power: (u * v) ** (power / 2)),
            "plain l2 norm for the kernel": _with_sizes(lambda u, v, alpha, power: np.ones_like(u)),
            "engine: scale larger by 1 percent": _all(engine=lambda part: _larger),
            "engine: the same scale for all coordinates": _all(engine=lambda part: _without_shape),
            "engine: centre dropped": _shapeless_start,
            "engine: velocity off by 1 percent": _all(engine=lambda part: _faster),
        },
    ),
)
