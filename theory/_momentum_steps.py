"""The steps of the derivation of T15: a weight's logarithm under momentum, in continuous time and in discrete steps."""

from __future__ import annotations

import sympy as sp

from ._derivation import Derivation
from ._steps import PAST, TIME

__all__ = ["discrete_law", "flow_law", "predictor_of"]

LAM = sp.Symbol("lambda", positive=True)
END = sp.Symbol("T", positive=True)


def flow_law(d: Derivation, kind: str) -> None:
    """Integrate the motion of one coordinate of a flow with momentum, in the strong form at a time T."""
    constant = kind == "constant"
    tag = "" if constant else "_n"
    name = "constant inertia" if constant else "Nesterov's flow"
    damping, push = (1 / LAM, 1 / LAM) if constant else (3 / TIME, sp.S.One)
    inertia = LAM if constant else sp.S.One

    def weight(s: sp.Expr) -> sp.Expr:
        return 1 - sp.exp(-(END - s) / LAM) if constant else s / 2 * (1 - s**2 / END**2)

    p, q, a, b = (sp.Function(letter + tag, real=True) for letter in "pqab")
    u, v = (sp.Function(letter + tag, positive=True) for letter in "uv")
    u0, v0 = sp.symbols("u0 v0", positive=True)
    for letter, sign in (("u", 1), ("v", -1)):
        x = sp.Function(f"x_{letter}{tag}", positive=True)(TIME)
        force = 2 * push * (sign * p(TIME) + q(TIME))
        d.define(sp.Derivative(x, (TIME, 2)), -damping * sp.Derivative(x, TIME) - force * x,
                 f"{name}: the motion of a weight, here of {letter}")
        d.equal(f"The logarithmic velocity of {letter}, {name}", "differentiation of x'/x along the motion",
                sp.Derivative(sp.Derivative(x, TIME) / x, TIME),
                -(sp.Derivative(x, TIME) / x) ** 2 - damping * sp.Derivative(x, TIME) / x - force)
    losses = {}
    for w, start, rate, sign in ((u, u0, a, 1), (v, v0, b, -1)):
        force = 2 * (sign * p(TIME) + q(TIME))
        d.define(sp.Derivative(rate(TIME), TIME), -(rate(TIME) ** 2) - damping * rate(TIME) - push * force,
                 f"the same, with a name for the logarithmic velocity of {w.__name__}")
        d.define(sp.Derivative(w(TIME), TIME), w(TIME) * rate(TIME), "what it is")
        d.define(w(0), start, "start")
        d.define(rate(0), sp.S.Zero, "start at rest")
        losses[w] = (2 * (sign * p(PAST) + q(PAST)) + inertia * rate(PAST) ** 2) * weight(PAST)
        d.by_differentiation(f"Logarithm of {w.__name__[0]} and what inertia still holds, {name}",
                             "the weight makes the terms in the velocity cancel, for every fixed T",
                             sp.log(w(TIME)) + inertia * rate(TIME) * weight(TIME),
                             sp.log(start) - sp.Integral(losses[w], (PAST, 0, TIME)), TIME, sp.S.Zero)
        d.equal(f"At t = T inertia holds nothing, {name}", "the weight is 0 at its end",
                sp.Subs(inertia * rate(TIME) * weight(TIME), TIME, END), sp.S.Zero)
    by_product = (4 * q(PAST) + inertia * (a(PAST) ** 2 + b(PAST) ** 2)) * weight(PAST)
    by_ratio = (4 * p(PAST) + inertia * (a(PAST) ** 2 - b(PAST) ** 2)) * weight(PAST)
    d.equal(f"Product and ratio, {name}", "sum and difference of the integrands of log u and log v",
            sp.Matrix([losses[u] + losses[v], losses[u] - losses[v]]), sp.Matrix([by_product, by_ratio]))
    d.equal(f"The weight as T -> infinity, {name}", "a limit: the published form", sp.Limit(weight(PAST), END, sp.oo),
            sp.S.One if constant else PAST / 2)


def predictor_of(d: Derivation) -> None:
    """Recognise the predictor from the three integrals; h is the effective ratio."""
    S, h, P = sp.symbols("S h P", real=True)
    d.assume("below, P stands for the weighted integral (or sum) of p, h and 2 log a for log(u/v) + 4 P and log|u v|")
    log_u, log_v = (S + h - 4 * P) / 2, (S - h + 4 * P) / 2
    d.equal("Predictor", "beta = u^2 - v^2 with log|u| and log|v| from the product and the ratio",
            sp.exp(2 * log_u) - sp.exp(2 * log_v), 2 * sp.exp(S) * sp.sinh(h - 4 * P))


def discrete_law(d: Derivation, nesterov: bool) -> None:
    """Prove the law of heavy ball, or of Nesterov's steps, by induction over the steps, through changes of sign."""
    m, eta = sp.symbols("m eta", positive=True)
    u, previous, before, now = sp.symbols("u_k u_prev k_prev k", real=True, nonzero=True)
    p, q = sp.symbols("p_k q_k", real=True)
    name = "Nesterov" if nesterov else "heavy ball"
    for letter, force in (("u", 2 * eta * (p + q)), ("v", -2 * eta * (p - q))):
        ahead = 1 + m * (1 - 1 / before)
        moved_on = u + m * (u - previous)
        stepped = moved_on - force * (moved_on if nesterov else u)
        grown = ahead * (1 - force) if nesterov else ahead - force
        d.equal(f"A step as a ratio, {name}, {letter}", "u_prev = u_k / k_prev",
                (stepped / u).subs(previous, u / before), grown)
        # The claim: log|u_K/u_0| is the sum of `term` over the steps plus `boundary` of the last ratio.
        extra = (ahead - 1) * force if nesterov else sp.S.Zero
        term = (-force - extra) / (1 - m) + sp.log(sp.Abs(now)) - (now - 1) - m / (1 - m) * (now - 1) ** 2 / now

        def boundary(ratio: sp.Expr) -> sp.Expr:
            return -m / (1 - m) * (1 - 1 / ratio)

        increment = term + boundary(now) - boundary(before)
        d.equal(f"What a step adds to the claim, {name}, {letter}: log|k|", "induction: the sum telescopes",
                sp.together((increment - sp.log(sp.Abs(now))).subs(now, grown)), sp.S.Zero)
        d.equal(f"At the start the claim is 0, {name}, {letter}", "start at rest: the ratio before the first step is 1",
                sp.Subs(boundary(before), before, 1), sp.S.Zero)
    d.equal(f"Once at rest the boundary term is gone, {name}", "the last ratio tends to 1",
            sp.Limit(-m / (1 - m) * (1 - 1 / now), now, 1), sp.S.Zero)
