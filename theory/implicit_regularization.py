"""T12: gradient descent follows the gradient flow of a regularized loss more closely than that of the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp

from ._derivation import Derivation
from ._engine import RTOL
from ._fields import Velocity, gradient_flow, gradient_regularization
from ._network import Array, SymbolicNetwork
from ._raw_descent import constant, descend, each_step
from ._raw_route import RouteError, integrate
from ._registry import Finding, Mutant, Theorem
from ._setting import Data, Setting
from ._slopes import MAX_HALF_WIDTH, slope_finding
from ._steps import Gradients, pair, start

__all__ = ["THEOREMS", "backward_error", "squared_gradient"]

ETA = sp.Symbol("eta", positive=True)

#: The runs end when plain gradient flow has brought the loss down to this; step counts to get there.
LEVEL = 0.1
STEP_COUNTS = 24 * 2 ** np.arange(6)


def squared_gradient(d: Derivation, net: SymbolicNetwork, at: Gradients) -> tuple[sp.Matrix, list[sp.Expr]]:
    """Name `R = |grad L|^2`; prove that half of its gradient has the pair p = a, q = 2 g^2, a = Hess_beta [4 g (u^2 + v^2)].

    Returns
    -------
    tuple of sympy.Matrix and list of sympy.Expr
        The gradient of R in the weights, and a.
    """
    R = d.define(sp.Function("R")(*net.weights), sp.Add(*(slope**2 for slope in at.of_weights)),
                 "squared norm of the gradient of L in the weights")
    slopes = sp.Matrix([sp.Derivative(R, weight) for weight in net.weights])
    hessian = net.X.T * net.X / (2 * net.n_samples)
    a = list(hessian * sp.Matrix([4 * g * (u**2 + v**2) for u, v, g in zip(net.u, net.v, at.of_beta, strict=True)]))
    pair(d, net, "Descent of R/2: its pair, p = Hess_beta [4 g (u^2 + v^2)], q = 2 g^2", -slopes / 2, a,
         [2 * g**2 for g in at.of_beta])
    return slopes, a


def _step_and_flow(sign: int, share: sp.Expr) -> tuple[sp.Matrix, sp.Matrix, sp.Matrix]:
    """Write a step of descent of `sign L` and, to second order, the flow of `sign L + share eta R` for a time eta.

    Returns both, and the gradient of R, for any loss of two weights.
    """
    weights = sp.Matrix(sp.symbols("w_1:3", real=True))
    loss = sp.Function("L", real=True)(*weights)
    gradient = sp.Matrix([sp.diff(loss, weight) for weight in weights])
    slopes = sp.Matrix([sp.diff(gradient.dot(gradient), weight) for weight in weights])
    velocity = -(sign * gradient + share * ETA * slopes)
    flow = weights + ETA * velocity + ETA**2 / 2 * velocity.jacobian(weights) * velocity
    return weights - sign * ETA * gradient, flow, slopes


def backward_error(d: Derivation, sign: int) -> None:
    """Prove that a step of size eta along `-sign grad L` is the flow of `sign L + (eta/4) R` up to the third order of eta."""
    d.assume("backward error analysis holds for any smooth loss L; it is written out for two weights w_1, w_2, as all sums "
             "over weights are alike")
    step, flow, _ = _step_and_flow(sign, sp.Rational(1, 4))
    words, loss = ("descent", "L") if sign > 0 else ("ascent", "-L")
    d.by_series(f"One step of {words} against the flow of {loss} + (eta/4) R over a time eta",
                "Taylor's theorem for the flow: w + eta w' + (eta^2/2) w'', with w'' = (dw'/dw) w'; its rest is of order eta^3",
                flow, step, ETA, 3)


def derive_implicit_regularization() -> Derivation:
    """Derive T12 by backward error analysis of one step."""
    d, net = Derivation("T12", "Gradient descent is implicitly regularized"), SymbolicNetwork()
    backward_error(d, 1)
    step, flow, slopes = _step_and_flow(1, sp.S.Zero)
    d.by_series("The plain flow is off a step of descent by the second order", "the same for the flow of L",
                flow - step, ETA**2 / 4 * slopes, ETA, 3)
    at = start(d, net)
    regularizer, bent = squared_gradient(d, net, at)
    pair(d, net, "The modified flow is gradient regularization with gamma = eta/2: its pair",
         -(at.of_weights + ETA / 4 * regularizer), [g + ETA / 2 * h for g, h in zip(at.of_beta, bent, strict=True)],
         [ETA * g**2 for g in at.of_beta])
    g = sp.Symbol("g", real=True)
    d.by_series("It shrinks the initialisation as the steps do: -4 q per unit of time", "series in eta",
                (sp.log(1 - 2 * ETA * g) + sp.log(1 + 2 * ETA * g)) / ETA, -4 * (ETA * g**2), ETA, 3)
    _accumulate(d)
    d.conclude("over a fixed time gradient descent is off the flow of L + (eta/4) R by O(eta^2), off the flow of L by O(eta), "
               "unless the leading term vanishes")
    return d


def _accumulate(d: Derivation) -> None:
    """Add up the errors of T/eta steps, each magnified by at most `exp(l eta)` per step: a geometric sum."""
    lip, time, c = sp.symbols("l T c", positive=True)
    d.assume("the weights stay in a bounded set up to time T, on which the velocity has Lipschitz constant l; an error of one "
             "step, at most c eta^(m+1), grows by a factor exp(l eta) per step at most (Gronwall)")
    n, x = sp.Symbol("n", positive=True, integer=True), sp.Symbol("x", positive=True)
    d.equal("Sum of the magnified errors: from n steps to n + 1", "the geometric sum (x^n - 1)/(x - 1), by induction",
            (x * (x**n - 1) + (x - 1)), x ** (n + 1) - 1)
    for m, words in ((2, "modified"), (1, "plain")):
        total = c * ETA ** (m + 1) * (sp.exp(lip * time) - 1) / (sp.exp(lip * ETA) - 1)
        d.equal(f"Errors of the {words} flow at time T, over eta^{m}: finite, so the order is {m}", "eta -> 0 with n eta = T",
                sp.Limit(total / ETA**m, ETA, 0, "+"), c * (sp.exp(lip * time) - 1) / lip)


# --- the check -------------------------------------------------------------------------------------------------------


def library_descent(data: Data, setting: Setting, step: float, count: int) -> Array:
    """Make steps of the library's `descend` and return beta."""
    import dln

    run = dln.descend(dln.Problem(data.X, data.y), step=step, n_steps=count, alpha=setting.alpha,
                      log_ratio=setting.log_ratio, residual_tol=None)
    if run.n_steps != count or not run.success:
        raise RouteError(f"the engine stopped after {run.n_steps} steps of {count}: {run.message}")
    return np.asarray(run.beta)


def library_flow(data: Data, setting: Setting, gamma: float, time: float) -> Array:
    """Follow the library's flow with the exact Hessian for a time and return beta."""
    import dln

    rule = dln.GradientRegularization(gamma, scheme="exact") if gamma else dln.GradientFlow()
    run = dln.flow(dln.Problem(data.X, data.y), rule, alpha=setting.alpha, log_ratio=setting.log_ratio, t_end=time, rtol=RTOL,
                   save_at=[time])
    if len(run.times) != 1:
        raise RouteError(f"the engine stopped at t = {run.t:.6g}: {run.message}")
    return np.asarray(run.betas[0])


@dataclass(frozen=True)
class Tracking:
    """The claim that gradient descent is off a flow, at a fixed time, by a power of its step size.

    Attributes
    ----------
    name : str
    order : float
        The claim.
    share : float
        The claim: the flow is that of `L + share eta R`.
    velocity : callable
        `steps -> Velocity` of the raw route, all steps of the ladder at once.
    stretch, gamma_off : float
        Factors of the engine's step size and of its gamma: 1 but for mutants.
    """

    name: str
    order: float
    share: float
    velocity: Callable[[Setting, Array, float], Velocity]
    stretch: float = 1.0
    gamma_off: float = 1.0

    def measure(self, setting: Setting) -> Finding:
        """Fit the order by both routes."""
        [time] = setting.times((LEVEL,))
        steps = time / STEP_COUNTS
        u0, v0 = setting.weights()
        many = (len(steps), 1)
        flows = integrate(self.velocity(setting, steps[:, None], self.share), np.tile(u0, many), np.tile(v0, many),
                          np.array([time])).betas[0]
        field = each_step(gradient_flow(setting.net))
        ends = np.array([descend(field, u0, v0, [int(count)], constant(float(step))).betas[0]
                         for step, count in zip(steps, STEP_COUNTS, strict=True)])
        engine = np.array([library_descent(setting.data, setting, self.stretch * step, int(count))
                           - library_flow(setting.data, setting, self.gamma_off * 2 * self.share * step, time)
                           for step, count in zip(steps, STEP_COUNTS, strict=True)])
        distances = {"raw": np.linalg.norm(ends - flows, axis=1), "engine": np.linalg.norm(engine, axis=1)}
        # The noise is what two right runs differ by: accuracy of the flows.
        return slope_finding(steps, distances, self.order, noise=1e-12 * float(np.linalg.norm(ends[-1])))


def modified(setting: Setting, steps: Array, share: float) -> Velocity:
    """Give the velocity of the flow of `L + share eta R`, `(gamma/2) R` with `gamma = 2 share eta`."""
    return gradient_regularization(setting.net, 2 * share * steps, scheme="exact")


MODIFIED, PLAIN = "flow of L + (eta/4) R", "flow of L"


def parts(setting: Setting) -> list[Tracking]:
    """Check T12 for the modified and the plain flow."""
    return [Tracking(MODIFIED, 2.0, 0.25, modified), Tracking(PLAIN, 1.0, 0.0, modified)]


def _claim(only: str, **wrong: Any) -> Mutant:
    return lambda part, setting: replace(part, **wrong) if part.name == only else None


THEOREMS = (
    Theorem(
        key="T12",
        title="Implicit regularization of gradient descent",
        statement="at fixed time gradient descent is off the flow of L + (eta/4) |grad L|^2 by O(eta^2), off that of L by "
                  "O(eta)",
        source='Barrett & Dherin 2021, "Implicit gradient regularization"',
        kind="limit",
        tolerance=MAX_HALF_WIDTH,
        derive=derive_implicit_regularization,
        parts=parts,
        mutants={
            "L + (eta/2) R": _claim(MODIFIED, share=0.5),
            "L + (eta/8) R": _claim(MODIFIED, share=0.125),
            "L - (eta/4) R": _claim(MODIFIED, share=-0.25, gamma_off=-1.0),  # the library takes no gamma below 0
            "L + (eta/4) R off by 1 percent": _claim(MODIFIED, share=0.2525),
            "modified flow of order 1": _claim(MODIFIED, order=1.0),
            "modified flow of order 3": _claim(MODIFIED, order=3.0),
            "plain flow of order 2": _claim(PLAIN, order=2.0),
            "engine: gamma = eta": _claim(MODIFIED, gamma_off=2.0),
            "engine: not regularized": _claim(MODIFIED, gamma_off=0.0),
            "engine: step off by 1 percent": _claim(MODIFIED, stretch=1.01),
            "engine: step off by 1 percent, against the plain flow": _claim(PLAIN, stretch=1.01),
        },
    ),
)
