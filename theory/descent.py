"""T11: gradient descent with a finite step, of the loss and of every training rule, at constant and varying step sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp

from . import _discrete as discrete
from ._derivation import Derivation
from ._discrete import DiscreteLaw, StepPair
from ._engine import Pair
from ._fields import Velocity, gradient_flow, gradient_regularization, sam, weight_decay
from ._network import Array, SymbolicNetwork
from ._raw_descent import Schedule, constant, descend, each_step
from ._raw_route import RouteError
from ._registry import Theorem
from ._setting import Setting
from ._steps import minimality, pair, potential, start
from .gradient_regularization import SCHEMES, strengths
from .gradient_regularization import formula as regularized_pair
from .sam import full_batch, one_sample_at_a_time, radius_normalized, radius_of

__all__ = ["THEOREMS", "derive_discrete_law"]

#: Step counts at which the laws are checked.
COUNTS = (1, 8, 30, 80)

#: For SAM with a normalised radius: before it hovers. Then rounding grows at every step and two right routes part.
EARLY_COUNTS = (1, 4, 8, 16)


def derive_discrete_law() -> Derivation:
    """Derive T11: a step multiplies the weights; logarithms of the factors add up to the law."""
    d, net = Derivation("T11", "Gradient descent with a finite step"), SymbolicNetwork()
    at = start(d, net)
    pair(d, net, "Gradient descent is the pair p = g, q = 0", -at.of_weights, list(at.of_beta), [sp.S.Zero] * net.n_features)
    d.assume("any other rule: a step adds eta times its velocity, -2 u (p + q) and 2 v (p - q), with the pair of its theorem")
    _one_step(d)
    _telescope(d)
    _predictor(d)
    return d


def _one_step(d: Derivation) -> None:
    eta = sp.Symbol("eta", positive=True)
    u, v, p, q = sp.symbols("u v p q", real=True)
    d.equal("A step multiplies the weights", "the weights are a factor of their velocity",
            sp.Matrix([u + eta * (-2 * u * (p + q)), v + eta * (2 * v * (p - q))]),
            sp.Matrix([u * (1 - 2 * eta * (p + q)), v * (1 + 2 * eta * (p - q))]))
    d.equal("and their product", "multiplication", (1 - 2 * eta * (p + q)) * (1 + 2 * eta * (p - q)),
            (1 - 2 * eta * q) ** 2 - 4 * eta**2 * p**2)
    d.by_series("For small steps the logarithm of that is the law of the flow, -4 q per unit of time, less 4 eta p^2 per unit",
                "series in the step", sp.log(1 - 2 * eta * (p + q)) + sp.log(1 + 2 * eta * (p - q)),
                -4 * eta * q - 4 * eta**2 * (p**2 + q**2), eta, 3)
    d.by_series("and S+ and S- of one step differ by the third order", "series in the step", sp.Matrix([
        sp.log(1 - 2 * eta * (p + q)) + 2 * eta * p, sp.log(1 + 2 * eta * (p - q)) - 2 * eta * p]),
        sp.Matrix([-2 * eta * q - 2 * eta**2 * (p + q) ** 2, -2 * eta * q - 2 * eta**2 * (p - q) ** 2]), eta, 3)


def _telescope(d: Derivation) -> None:
    """Add up the logarithms of the moduli of the factors: induction over the number of steps."""
    eta = sp.Symbol("eta", positive=True)
    p, S, P = (sp.Symbol(name, real=True) for name in ("p", "S_n", "P_n"))
    w, f, w0 = sp.Symbol("w", real=True, nonzero=True), sp.Symbol("f", real=True, nonzero=True), sp.Symbol("w0", positive=True)
    d.assume("f is the factor 1 - 2 eta (p + q) or 1 + 2 eta (p - q) of step n, of either sign but not 0; eta and the pair may "
             "be others at every step")
    d.equal("The modulus of a product", "log|w f| = log|w| + log|f|, whatever the signs",
            sp.log(sp.Abs(w * f)), sp.log(sp.Abs(w)) + sp.log(sp.Abs(f)))
    d.assume("S_n is the sum over the first n steps of log|f| + 2 eta p (for u; for v of log|f| - 2 eta p), P_n that of eta p")
    d.equal("Before the first step", "empty sums", sp.Matrix([w0 * sp.exp(S), w0 * sp.exp(S)]).subs({S: 0, P: 0}),
            sp.Matrix([w0, w0]))
    for name, sign in (("u", 1), ("v", -1)):
        before = w0 * sp.exp(S - sign * 2 * P)
        after = S + sp.log(sp.Abs(f)) + sign * 2 * eta * p - sign * 2 * (P + eta * p)
        d.equal(f"From n steps to n + 1: |{name}| = {name}0 exp(S_n {'-' if sign > 0 else '+'} 2 P_n)",
                "induction; 2 eta p is added to S and taken off with P", before * sp.Abs(f), w0 * sp.exp(after))
        d.equal(f"Only the running sum of p is needed: S of {name}", "the same, solved for S",
                sp.log(before / w0) + sign * 2 * P, S)


def _predictor(d: Derivation) -> None:
    """From S+ and S- to beta, centre and minimiser."""
    plus, minus = sp.symbols("alpha_plus alpha_minus", positive=True)
    P = sp.Symbol("P", real=True)
    d.assume("alpha_plus = u0 exp(S+) = |u_n| exp(2 P), alpha_minus = v0 exp(S-) = |v_n| exp(-2 P), P the sum of eta p")
    modulus_u, modulus_v = plus * sp.exp(-2 * P), minus * sp.exp(2 * P)
    d.equal("Product of the moduli", "exponentials cancel", modulus_u * modulus_v, plus * minus)
    a = d.define(sp.Symbol("a_n", positive=True), sp.sqrt(plus * minus), "the effective initialisation, sqrt|u v|")
    h = sp.log(plus / minus)
    d.equal("Predictor after n steps", "beta = u^2 - v^2; the signs are squared away", modulus_u**2 - modulus_v**2,
            2 * a**2 * sp.sinh(h - 4 * P))
    center = d.define(sp.Symbol("centre", real=True), plus**2 - minus**2, "centre of the divergence")
    d.equal("The centre is the predictor at P = 0", "the same with P = 0", center, 2 * a**2 * sp.sinh(h))
    d.assume("p stays in the row space of X, so P = X^T nu for some nu")
    at = sp.Symbol("a_t", positive=True)
    phi = potential(d, at)
    H = sp.Symbol("h", real=True)
    d.assume("h stands for log(alpha_plus/alpha_minus), a_t for a_n")
    d.by_differentiation(
        "Stationarity", "the gradient of the potential at beta less that at the centre is -P = -X^T nu",
        phi.slope.subs(phi.b, 2 * at**2 * sp.sinh(H - 4 * P)) - phi.slope.subs(phi.b, 2 * at**2 * sp.sinh(H)), -P, P, sp.S.Zero)
    minimality(d)
    d.conclude("after every step, converged or not, beta = argmin D(b, alpha_plus^2 - alpha_minus^2) subject to "
               "X b = X beta, with alpha_eff^2 = alpha_plus alpha_minus; even with u0 = v0 the centre is not 0, since "
               "S+ and S- differ")


# --- the rules -------------------------------------------------------------------------------------------------------


def steps_of(pair_of: Pair) -> StepPair:
    """Take a pair that does not ask for the number of the step."""
    return lambda k, t, u, v: pair_of(t, u, v)


def stable_step(setting: Setting) -> float:
    """Give a step size of natural size: a good part of the edge of stability."""
    return 0.12 / (setting.curvature * setting.predictor_unit)


def varying(setting: Setting, name: str) -> Schedule:
    """Give a schedule by name: stable ones, and two with steps that turn factors negative."""
    if name == "large":
        return flipping_schedule(setting)
    eta = stable_step(setting)
    slope = float(np.max(np.abs(setting.net.beta_gradient(*setting.weights()))))
    return {"constant": constant(eta), "decaying": lambda k: 2 * eta / (1 + k / 20) ** 0.6,
            "cyclic": lambda k: eta * (1.1 + np.sin(2 * np.pi * k / 17)),
            "large at first": lambda k: 0.8 / slope if k == 0 else eta}[name]


def flipping_schedule(setting: Setting) -> Schedule:
    """Find a constant step size at which weights change their signs and the run stays finite; else make the first step large.

    A factor `1 - 2 eta g` is negative from `eta = 1/(2 max|g|)` on, near the edge of stability, which depends on the data.
    """
    net, (u0, v0) = setting.net, setting.weights()
    slope, start_at = float(np.max(np.abs(net.beta_gradient(u0, v0)))), float(net.loss(u0, v0))
    for size in (0.6, 0.56, 0.52):
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                run = descend(each_step(gradient_flow(net)), u0, v0, COUNTS, constant(size / slope))
        except RouteError:
            continue
        if run.n_flips and float(net.loss(run.u[-1], run.v[-1])) < start_at:
            return constant(size / slope)
    return varying(setting, "large at first")


def plain_pair(setting: Setting) -> Pair:
    """Give the pair of gradient descent."""
    net = setting.net
    return lambda t, u, v: (net.beta_gradient(u, v), np.zeros_like(u))


def parts(setting: Setting) -> list[DiscreteLaw]:
    """Check T11 for gradient descent with several schedules, and for all rules with a constant step."""
    net = setting.net
    gamma, epsilon = strengths(setting)
    full, one, normalized = radius_of(setting, False), radius_of(setting, True), radius_normalized(setting)
    horizon = COUNTS[-1] * stable_step(setting)
    strength = 0.3 / horizon * np.linspace(0.2, 2.0, setting.alpha.size)

    def fading(t: float) -> Array:
        return strength * 3 / (1 + 4 * t / horizon)

    def law(name: str, rule: Callable[[Any], Any], velocity: Velocity, pair_of: Pair, schedule: str = "constant",
            shaped: bool = True, counts: tuple[int, ...] = COUNTS, **more: Any) -> DiscreteLaw:
        return DiscreteLaw(name, discrete.library(rule), each_step(velocity), steps_of(pair_of), setting.alpha,
                           setting.log_ratio if shaped else np.zeros_like(setting.log_ratio), counts,
                           varying(setting, schedule), **more)

    def descent(name: str, schedule: str, **more: Any) -> DiscreteLaw:
        return law(name, lambda dln: dln.GradientFlow(), gradient_flow(net), plain_pair(setting), schedule, shrinks=False,
                   **more)

    def regularized(scheme: str) -> DiscreteLaw:
        step = None if scheme == "exact" else epsilon
        return law(f"gradient regularization, {scheme}", lambda dln: dln.GradientRegularization(gamma, step, scheme),
                   gradient_regularization(net, gamma, step, scheme), regularized_pair(net, gamma, step, scheme))

    return [
        descent("gradient descent", "constant"), descent("gradient descent, u0 = v0", "constant", shaped=False),
        descent("gradient descent, decaying steps", "decaying"), descent("gradient descent, cyclic steps", "cyclic"),
        descent("gradient descent, signs flip", "large", flips=True),
        descent("gradient descent, signs flip at first", "large at first", flips=True),
        *map(regularized, SCHEMES),
        law("SAM", lambda dln: dln.SAM(full), sam(net, full), full_batch(net, full)),
        law("SAM, normalised", lambda dln: dln.SAM(normalized, normalized=True), sam(net, normalized, normalized=True),
            full_batch(net, normalized, normalized=True), counts=EARLY_COUNTS),
        law("SAM, one sample at a time", lambda dln: dln.SAM(one, per_sample=True), sam(net, one, per_sample=True),
            one_sample_at_a_time(net, one)),
        law("weight decay, fading", lambda dln: dln.WeightDecay(fading), weight_decay(net, fading),
            lambda t, u, v: (net.beta_gradient(u, v), fading(t))),
        law("SAM, signs flip", lambda dln: dln.SAM(full), sam(net, full), full_batch(net, full), "large at first",
            flips=True),
    ]


# --- mutants ---------------------------------------------------------------------------------------------------------


def _only(fits: Callable[[str], bool], spoil: discrete.Mutant) -> discrete.Mutant:
    return lambda part, setting: spoil(part, setting) if fits(part.name) else None


def _with_rule(rule: Callable[[Any, Setting], Any], **options: Any) -> discrete.Mutant:
    return lambda part, setting: replace(part, engine=discrete.library(lambda dln: rule(dln, setting), **options))


THEOREMS = (
    Theorem(
        key="T11",
        title="Gradient descent with a finite step",
        statement="alpha+- = |w0| e^{S+-}, S+- = sum [log|1 -+ 2 eta (p +- q)| +- 2 eta p]; alpha_eff^2 = alpha+ alpha-, "
                  "centre alpha+^2 - alpha-^2",
        source='Nacson et al. 2022, "Implicit bias of the step size in linear diagonal neural networks"; Even et al. 2023, '
               '"(S)GD over diagonal linear networks"',
        kind="exact",
        tolerance=discrete.TOLERANCE,
        derive=derive_discrete_law,
        parts=parts,
        mutants=discrete.mutants(**discrete.COMMON_MUTANTS, **{
            "law of the flow": lambda part, setting: replace(part, log_of=lambda x: x - 1),
            "finite difference taken for the exact Hessian": _only(
                lambda name: "ward" in name or "centered" in name,
                lambda part, setting: replace(part, pair=steps_of(regularized_pair(
                    setting.net, strengths(setting)[0], None, "exact")))),
            "engine: constant step": _only(
                lambda name: "decaying" in name or "cyclic" in name,
                lambda part, setting: replace(part, engine=lambda data, alpha, ratio, counts, schedule: part.engine(
                    data, alpha, ratio, counts, constant(stable_step(setting))))),
            "engine: a little momentum": _only(
                lambda name: name == "gradient descent", _with_rule(lambda dln, setting: dln.GradientFlow(), momentum=1e-6)),
            "engine: rho off by 1 percent": _only(
                lambda name: name == "SAM", _with_rule(lambda dln, setting: dln.SAM(1.01 * radius_of(setting, False)))),
        }),
    ),
)
