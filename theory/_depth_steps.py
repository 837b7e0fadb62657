"""The parts of the derivations at depth D > 2, D a symbol: motion, law, mirror map, potential, dual, minimiser."""

from __future__ import annotations

import sympy as sp

from ._deep import H_OF_T, INTEGRAL_OF_T, LESS, MORE, SLOPE_OF_T, K, S, SymbolicDeepNetwork, T
from ._derivation import Derivation
from ._steps import TIME, minimality

__all__ = ["exponents", "gradients", "law", "mirror_map"]

#: D and s = D/(D - 2), m = s - 1, all of them written in k = D - 2 > 0.
DEPTH, ORDER = sp.symbols("D m", positive=True)
Z, Z0 = sp.symbols("z z0", real=True)
SCALE = sp.Symbol("a_t", positive=True)


def exponents(d: Derivation) -> None:
    """Introduce the depth and the exponents that it gives."""
    d.assume("the depth D is any real number above 2; proofs are written in k = D - 2 > 0")
    d.define(DEPTH, K + 2, "depth")
    d.define(S, (K + 2) / K, "D/(D - 2)")
    d.define(ORDER, 2 / K, "2/(D - 2) = s - 1")


def gradients(d: Derivation, net: SymbolicDeepNetwork) -> list[sp.Symbol]:
    """Differentiate the loss in predictor and weights; return the gradient in the predictor."""
    d.assume("loss: the mean over samples of (x.beta - y)^2/4; network: beta = u^D - v^D with u, v > 0")
    d.assume("the gradients are proved on a network with two samples, two features and all data symbolic: "
             "the formulas act coordinate by coordinate and are linear in the samples")
    n, rows, columns = net.n_samples, range(net.n_samples), range(net.n_features)
    residuals = [d.define(sp.Symbol(f"r_{i + 1}", real=True),
                          sp.Add(*(net.X[i, j] * net.predictor[j] for j in columns)) - net.y[i],
                          f"residual of sample {i + 1}") for i in rows]
    g = [d.define(sp.Symbol(f"g_{j + 1}", real=True), sp.Add(*(net.X[i, j] * residuals[i] for i in rows)) / (2 * n),
                  "x^T r/(2N): a combination of rows of X") for j in columns]
    d.equal("Gradient in the predictor", "differentiation of the loss in beta", sp.Matrix(net.beta_gradient()), sp.Matrix(g))
    d.equal("Gradient in the weights", "the chain rule through beta = u^D - v^D", net.gradient(),
            sp.Matrix([DEPTH * u ** (DEPTH - 1) * slope for u, slope in zip(net.u, g, strict=True)]
                      + [-DEPTH * v ** (DEPTH - 1) * slope for v, slope in zip(net.v, g, strict=True)]))
    return g


def law(d: Derivation) -> None:
    """Integrate one coordinate under gradient flow with weight decay of a strength that depends on time."""
    d.assume("penalty lambda(t) sum (u^2 + v^2), lambda a function of time alone with a finite integral, or 0; "
             "the flow exists on [0, t]")
    u0, v0 = sp.symbols("u0 v0", positive=True)
    u, v = (sp.Function(name, positive=True) for name in "uv")
    g, lam = sp.Function("g", real=True), sp.Function("lambda", real=True)
    penalty = lam(TIME) * (u(TIME) ** 2 + v(TIME) ** 2)
    slopes = [2 * lam(TIME) * w(TIME) for w in (u, v)]
    d.equal("Gradient of the penalty", "differentiation in the weights",
            sp.Matrix([sp.diff(penalty, w(TIME)) for w in (u, v)]), sp.Matrix(slopes))
    for w, sign, start in ((u, -1, u0), (v, 1, v0)):
        d.define(sp.Derivative(w(TIME), TIME),
                 sign * DEPTH * w(TIME) ** (DEPTH - 1) * g(TIME) - 2 * lam(TIME) * w(TIME), "motion of one coordinate")
        d.define(w(0), start, "start")
    for w, sign in ((u, 1), (v, -1)):
        d.equal(f"Growth of {w}^(2-D)", "differentiation along the motion; the powers of the weight cancel",
                sp.Derivative(w(TIME) ** -K, TIME), sign * K * DEPTH * g(TIME) + 2 * K * lam(TIME) * w(TIME) ** -K)
    total_decay = sp.Function("Lambda", real=True)
    d.define(sp.Derivative(total_decay(TIME), TIME), lam(TIME), "Lambda is the integral of lambda")
    d.define(total_decay(0), sp.S.Zero, "from 0 on")
    past = sp.Symbol("r", nonnegative=True)
    decay = sp.exp(-2 * K * total_decay(TIME))
    weighted = sp.Integral(sp.exp(-2 * K * total_decay(past)) * g(past), (past, 0, TIME))
    for w, sign, start in ((u, 1, u0), (v, -1, v0)):
        d.by_differentiation(f"The law of {w}^(2-D)", "the fundamental theorem of calculus, with the integrating factor",
                             decay * w(TIME) ** -K, start**-K + sign * K * DEPTH * weighted, TIME, sp.S.Zero)
    d.by_differentiation("Conservation law", "the sum of the two laws", decay * (u(TIME) ** -K + v(TIME) ** -K),
                         u0**-K + v0**-K, TIME, sp.S.Zero)
    plain = sp.Symbol("alpha", positive=True)
    decayed = sp.Symbol("Lambda", real=True)
    d.assume("Lambda stands for the integral of lambda up to t, G for that of exp(-2 k Lambda) g, alpha for the start: "
             "alpha^(2-D) = (u0^(2-D) + v0^(2-D))/2, u0^(2-D) = alpha^(2-D) (1 - z0), v0^(2-D) = alpha^(2-D) (1 + z0)")
    a = d.define(sp.Symbol("a", positive=True), plain * sp.exp(-2 * decayed), "the effective initialisation")
    total = sp.Symbol("G", real=True)
    z = d.define(sp.Symbol("z_t", real=True), Z0 - K * DEPTH * plain**K * total, "position of beta(t) on the mirror map")
    growth = sp.exp(2 * K * decayed)
    d.equal("Weights from their law", "a^(2-D) = alpha^(2-D) exp(2 k Lambda)",
            sp.Matrix([growth * (plain**-K * (1 - Z0) + K * DEPTH * total),
                       growth * (plain**-K * (1 + Z0) - K * DEPTH * total)]),
            sp.Matrix([a**-K * (1 - z), a**-K * (1 + z)]))
    d.equal("Move of the gradient of the potential", "one number for all coordinates times the integral of g",
            a**-K * z - a**-K * Z0, -K * DEPTH * growth * total)
    d.conclude("|z_t| < 1, since u^(2-D) and v^(2-D) are positive")
    d.conclude("where lambda is the same for all coordinates, (z_t - z0)/a^(D-2) is the vector X^T nu for some nu, because g "
               "is in the row space of X at every time; with one lambda per coordinate each is weighted differently: "
               "the conservation law still holds, but the vector leaves the row space")


def mirror_map(d: Derivation) -> None:
    """Express beta by z, and integrate the inverse: the potential, its slope, its convexity."""
    weights = {LESS: 1 - Z, MORE: 1 + Z}
    d.assume("A and B stand for 1 - z and 1 + z, both positive")
    for letter, part in (("u", LESS), ("v", MORE)):
        d.equal(f"The power of {letter} in the predictor", f"{letter}^D = ({letter}^(2-D))^(-s), logarithms of both sides",
                sp.log((SCALE**-K * part) ** -S), DEPTH * sp.log(SCALE) - S * sp.log(part))
    h_of, primitive = LESS**-S - MORE**-S, (LESS**-ORDER + MORE**-ORDER) / ORDER
    h_z, primitive_z = h_of.xreplace(weights), primitive.xreplace(weights)
    d.equal("H is a primitive of h(z) = (1 - z)^(-s) - (1 + z)^(-s)", "differentiation; s = m + 1",
            _along(primitive_z), _back(h_z))
    slope_of_h = S * (LESS ** (-S - 1) + MORE ** (-S - 1))
    d.equal("Slope of the mirror map", "differentiation", _along(h_z), slope_of_h)
    d.positive("It is increasing, onto the whole line from (-1, 1)", "the sign of its slope", slope_of_h)
    legendre = Z * h_z - primitive_z
    d.equal("Potential q(h(z)) = z h(z) - H(z) + H(0)", "Legendre's transform: its derivative in z is z h'(z), so q' is the "
            "inverse of h", _along(legendre), _back(Z * S * ((1 - Z) ** (-S - 1) + (1 + Z) ** (-S - 1))))
    d.equal("It starts at q(0) = 0", "substitution: H(0) = 2/m", sp.Subs(legendre, Z, 0), -2 / ORDER)
    d.assume("the potential is the sum of a^2 q(b/a^D); along its argument, b = a^D h(z)")
    slope = sp.Symbol("h1", positive=True)
    d.assume("h1 stands for h'(z)")
    d.equal("Slope of the potential", "the chain rule: derivative in z of a^2 q(h(z)) over that of b = a^D h(z)",
            SCALE**2 * (Z * slope) / (SCALE**DEPTH * slope), Z / SCALE**K)
    curvature = SCALE ** (2 - 2 * DEPTH) / slope
    d.equal("Its second derivative", "the chain rule once more", sp.diff(Z / SCALE**K, Z) / (SCALE**DEPTH * slope), curvature)
    d.positive("It is strictly convex", "the sign of the second derivative", curvature)
    less, more = sp.exp(-T) / sp.cosh(T), sp.exp(T) / sp.cosh(T)
    d.assume("with z = tanh(l): 1 - z = exp(-l)/cosh(l), 1 + z = exp(l)/cosh(l)")
    d.equal("The substitution", "the definition of tanh", sp.Matrix([sp.cosh(T) - sp.sinh(T), sp.cosh(T) + sp.sinh(T)]),
            sp.Matrix([sp.exp(-T), sp.exp(T)]))
    for name, powers, product in (
        ("h", less**-S - more**-S, H_OF_T),
        ("H", (less ** (1 - S) + more ** (1 - S)) / (S - 1), INTEGRAL_OF_T),
        ("the slope of h", S * (less ** (-S - 1) + more ** (-S - 1)), SLOPE_OF_T),
    ):
        _product(d, name, powers, product)


def _product(d: Derivation, name: str, powers: sp.Expr, product: sp.Expr) -> None:
    d.equal(f"{name} as a product", "z = tanh(l): no digit is lost, neither at small l nor at large",
            sp.powsimp(sp.expand_power_base(powers)), product)


def _along(expression: sp.Expr) -> sp.Expr:
    return _back(sp.diff(expression, Z))


def _back(expression: sp.Expr) -> sp.Expr:
    return expression.xreplace({1 - Z: LESS, 1 + Z: MORE})


def dual(d: Derivation) -> None:
    """Find the convex dual of `min sum a_j^2 q(b_j/a_j^D) s.t. X b = y`: unconstrained, in one number per sample."""
    primitive = ((1 - Z) ** -ORDER + (1 + Z) ** -ORDER) / ORDER
    h_z = (1 - Z) ** -S - (1 + Z) ** -S
    slope = Z / SCALE**K
    value = SCALE**2 * (Z * h_z - primitive + 2 / ORDER)
    d.equal("Convex conjugate of the potential at the slope z/a^(D-2)", "b = a^D h(z) is where b times the slope less the "
            "potential is largest: there the derivative vanishes", slope * SCALE**DEPTH * h_z - value,
            SCALE**2 * (primitive - 2 / ORDER))
    net = SymbolicDeepNetwork(2, 2)
    nus, scales = sp.symbols("nu_1:3", real=True), sp.symbols("a_1:3", positive=True)
    slopes = net.X.T * sp.Matrix(nus)
    positions = [a**K * w for a, w in zip(scales, slopes, strict=True)]
    H = sp.Function("H")
    objective = sp.Add(*(a**2 * H(z) for a, z in zip(scales, positions, strict=True))) - net.y.dot(sp.Matrix(nus))
    beta = sp.Matrix([a**DEPTH * sp.diff(H(Z), Z).subs(Z, z) for a, z in zip(scales, positions, strict=True)])
    d.equal("Slope of the dual sum a_j^2 H(a_j^(D-2) x_j.nu) - y.nu", "differentiation; H' = h, D = 2 + (D - 2)",
            sp.Matrix([sp.diff(objective, nu) for nu in nus]), net.X * beta - net.y)
    d.conclude("the minimiser is beta_j = a_j^D h(a_j^(D-2) x_j.nu), with nu the minimiser of the dual: it exists inside of "
               "|a_j^(D-2) x_j.nu| < 1, because H is convex and infinite at the ends")


def argmin(d: Derivation) -> None:
    """Recognise beta(t) as the minimiser of the Bregman divergence from `a^D h(z0)`."""
    d.assume("a_t stands for the effective initialisation at time t: the statement holds for every positive value")
    move = sp.Symbol("P", real=True)
    moved = Z0 + SCALE**K * move
    d.by_differentiation("Stationarity", "the gradient of the potential at beta(t) = a^D h(z_t) less that at the centre "
                         "a^D h(z0) is P = X^T nu", moved / SCALE**K - Z0 / SCALE**K, move, move, sp.S.Zero)
    minimality(d)
