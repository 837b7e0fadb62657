"""Derivation of T23: nu between two times, the limit at a plateau, and a bound on other coordinates meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from ._derivation import Derivation
from ._network import SymbolicNetwork
from ._steps import PAST, TIME, law, pair, start

__all__ = ["derive_transitions"]

C = sp.Symbol("c", positive=True)
SCALE = sp.Symbol("a", positive=True)


@dataclass(frozen=True)
class Case:
    """Three samples, of whose three columns two are in B: the matrices that the proof speaks of.

    So that all of them are polynomials, `inner`, `onto` and `off` are Gamma times (X_B^T X_B)^-1 and the projectors on and off
    span X_B.
    """

    X: sp.Matrix
    y: sp.Matrix
    inner: sp.Matrix
    onto: sp.Matrix
    off: sp.Matrix
    delta: sp.Expr

    @property
    def B(self) -> sp.Matrix:
        """The columns in B."""
        return self.X[:, :2]

    @property
    def other(self) -> sp.Matrix:
        """The column that is not."""
        return self.X[:, 2]


def derive_transitions() -> Derivation:
    """Derive T23."""
    d, net = Derivation("T23", "Between two times, and between two plateaus"), SymbolicNetwork()
    at = start(d, net)
    pair(d, net, "Gradient flow is the pair p = g, q = 0", -at.of_weights, list(at.of_beta), [sp.S.Zero] * 2)
    law(d, shrinking=False)
    case = _projectors(d)
    _off_the_span(d, case)
    _in_the_span(d, case)
    _plateau(d, case)
    _others(d)
    _bound(d, case)
    return d


def _named(d: Derivation, name: str, meaning: str, values: sp.Matrix) -> sp.Matrix:
    """Abbreviate the entries of a symmetric matrix or of a vector."""
    column = values.cols == 1

    def entry(i: int, j: int) -> sp.Expr:
        if i > j and not column:
            return entry(j, i)
        place = f"{i + 1}" if column else f"{i + 1}{j + 1}"
        return d.define(sp.Symbol(f"{name}_{place}", real=True), values[i, j], meaning)

    return sp.Matrix(values.rows, values.cols, entry)


def _projectors(d: Derivation) -> Case:
    """Invert the Gram matrix of B, and project."""
    d.assume("from here on: three samples, three features, columns 1 and 2 in B, column 3 outside; the matrices of more "
             "columns obey the same rules")
    net = SymbolicNetwork(3, 3)
    X, B = net.X, net.X[:, :2]
    gram = _named(d, "K", "entry of X_B^T X_B", B.T * B)
    normal = _named(d, "n", "entry of n = x_1 x x_2", X[:, 0].cross(X[:, 1]))
    inner = sp.Matrix([[gram[1, 1], -gram[0, 1]], [-gram[0, 1], gram[0, 0]]])
    delta = d.define(sp.Symbol("Gamma", positive=True), gram[0, 0] * gram[1, 1] - gram[0, 1] ** 2, "determinant of X_B^T X_B")
    d.equal("Gamma > 0 where X_B has full rank", "Lagrange's identity: it is |x_1 x x_2|^2", delta, normal.dot(normal))
    d.equal("The inverse of X_B^T X_B, times Gamma", "the adjugate", gram * inner, delta * sp.eye(2))
    onto = _named(d, "R", "entry of Gamma times X_B (X_B^T X_B)^-1 X_B^T, the projector P_B", B * inner * B.T)
    off = _named(d, "Q", "entry of Gamma times P_perp = 1 - P_B", delta * sp.eye(3) - onto)
    d.equal("P_B is idempotent, times Gamma^2", "multiplication", onto * onto, delta * onto)
    d.equal("P_perp is n n^T/|n|^2, times Gamma", "multiplication", off, normal * normal.T)
    d.equal("P_perp X_B = 0, times Gamma", "multiplication", off * B, sp.zeros(3, 2))
    return Case(X, net.y, inner, onto, off, delta)


def _motion(d: Derivation, case: Case) -> tuple[sp.Matrix, sp.Matrix, sp.Matrix]:
    """Define nu and its motion; give nu, its start and the integrals of beta."""
    nu = sp.Matrix([sp.Function(f"nu_{i}", real=True)(TIME) for i in range(1, 4)])
    begin = sp.Matrix(sp.symbols("nu0_1:4", real=True))
    betas = [sp.Function(f"beta_{j}", real=True) for j in range(1, 4)]
    beta = sp.Matrix([b(TIME) for b in betas])
    for one, at_begin, rate in zip(nu, begin, C * (case.X * beta - case.y), strict=True):
        d.define(sp.Derivative(one, TIME), rate, "c times the residual")
        d.define(one.subs(TIME, 0), at_begin, "nu at t0")
    d.equal("nu' = c (X beta - y) gives int g = X^T nu", "g = c X^T (X beta - y)", case.X.T * nu.diff(TIME),
            C * case.X.T * (case.X * beta - case.y))
    return nu, begin, sp.Matrix([sp.Integral(b(PAST), (PAST, 0, TIME)) for b in betas])


def _off_the_span(d: Derivation, case: Case) -> None:
    d.assume("c = 1/(2N), and times are counted from t0: t stands for t1 - t0")
    nu, begin, passed = _motion(d, case)
    d.by_differentiation("(a) Off the span of X_B: P_perp nu, times Gamma", "P_perp X_B = 0", case.off * nu,
                         case.off * begin - C * case.off * case.y * TIME + C * case.off * case.other * passed[2], TIME,
                         sp.S.Zero)
    d.by_differentiation("(b) The integrals of beta in B, times Gamma", "(X_B^T X_B)^-1 X_B^T X_B = 1",
                         case.inner * case.B.T * ((nu - begin) / C + case.y * TIME - case.other * passed[2]),
                         case.delta * passed[:2, :], TIME, sp.S.Zero)
    d.conclude("(a) P_perp (nu1 - nu0) = -c P_perp y (t1 - t0) + c P_perp X int beta off B, whatever the coordinates in B do, "
               "and int beta_B = (X_B^T X_B)^-1 X_B^T ((nu1 - nu0)/c + y (t1 - t0) - X int beta off B)")


def _in_the_span(d: Derivation, case: Case) -> None:
    b, h, P = sp.symbols("b h P", real=True)
    d.assume("h stands for log(u0/v0), b for beta_j(t1) and P for x_j.nu1")
    known = d.define(sp.Symbol("k", real=True), (h - sp.asinh(b / (2 * SCALE**2))) / 4, "what x_j.nu1 is claimed to be")
    d.equal("(b) In the span: P is known from b", "b = 2 a^2 sinh(h - 4 P) solved for P",
            2 * SCALE**2 * sp.sinh(h - 4 * known), b)
    d.equal("beta falls with P", "differentiation", sp.Derivative(2 * SCALE**2 * sp.sinh(h - 4 * P), P),
            -8 * SCALE**2 * sp.cosh(h - 4 * P))
    d.positive("so there is one such P only", "the sign of cosh", 8 * SCALE**2 * sp.cosh(h - 4 * P))
    star, given = sp.Matrix(sp.symbols("nus_1:4", real=True)), sp.Matrix(sp.symbols("k_1:3", real=True))
    d.assume("nus stands for nu* = nu0 - c y (t1 - t0) + c X int beta off B, and k_j for k of coordinate j in B")
    after = case.delta * star + case.B * case.inner * (given - case.B.T * star)
    d.equal("nu* + X_B (X_B^T X_B)^-1 (k - X_B^T nu*), times Gamma, has the right part in the span", "X_B^T X_B inverted",
            case.B.T * after, case.delta * given)
    d.equal("and the right part off it", "P_perp X_B = 0", case.off * after, case.delta * case.off * star)
    w = sp.Matrix(sp.symbols("w_1:4", real=True))
    d.equal("A vector without either part is 0", "the two projectors add up to 1",
            case.delta * w, case.off * w + case.B * case.inner * (case.B.T * w))
    d.conclude("(b) nu1 = nu* + X_B (X_B^T X_B)^-1 (k - X_B^T nu*), exactly: of what happened in B the end alone counts")


def _plateau(d: Derivation, case: Case) -> None:
    """Approach of beta_B to its least squares, and what an error of beta_B does to nu."""
    w, b = sp.symbols("w b", real=True)
    m = sp.Symbol("m", positive=True)
    d.equal("Least squares on B leave a residual orthogonal to B", "LS(B) = (X_B^T X_B)^-1 X_B^T y, times Gamma",
            case.B.T * (case.onto * case.y), case.delta * case.B.T * case.y)
    d.equal("The motion of beta_j is -4 g_j sqrt(beta_j^2 + 4 a^4), as (log(u/v))' = -4 g",
            "the square of the slope of 2 a^2 sinh w", sp.Derivative(2 * SCALE**2 * sp.sinh(w), w) ** 2,
            (2 * SCALE**2 * sp.sinh(w)) ** 2 + 4 * SCALE**4)
    root = sp.sqrt(m**2 + 4 * SCALE**4)
    d.equal("For small a the factor is m = |beta_j|", "x - y = (x^2 - y^2)/(x + y): the rest is below 2 a^4/m", root - m,
            4 * SCALE**4 / (root + m))
    roots, waves = sp.Matrix(sp.symbols("d_1:3", positive=True)), sp.Matrix(sp.symbols("w_1:3", real=True))
    d.assume("d_j^2 stands for |LS(B)_j|, D = diag(d_j^2), and beta_B = LS(B) + D^(1/2) w with w small; no coordinate of LS(B) "
             "vanishes or has another sign than that with which it came, so that beta_B can settle there")
    D, eps = sp.diag(*roots), sp.Symbol("epsilon", real=True)
    gram = sp.Matrix([[case.inner[1, 1], -case.inner[0, 1]], [-case.inner[0, 1], case.inner[0, 0]]])
    M = _named(d, "M", "entry of M = 4 c D^(1/2) X_B^T X_B D^(1/2)", 4 * C * D * gram * D)
    moving = sp.Matrix([-4 * (root**2 + eps * root * one) * slope for root, one, slope in
                        zip(roots, waves, C * gram * (eps * D * waves), strict=True)])
    d.equal("Near LS(B): w' = -M w, each row times d_j", "the motion -4 |beta_j| g_j at beta_B = LS(B) + epsilon D^(1/2) w "
            "with g_B = c X_B^T X_B (beta_B - LS(B)), LS(B) > 0, to first order in epsilon",
            sp.Matrix([sp.Subs(sp.Derivative(one, eps), eps, 0) for one in moving]), -D * M * waves)
    shifted = case.B * D * waves
    d.equal("M is positive definite", "w.M w is 4 c |X_B D^(1/2) w|^2, and X_B has full rank", (waves.T * M * waves)[0],
            4 * C * shifted.dot(shifted))
    d.equal("The excess of the loss, |X_B (beta_B - LS)|^2 c/2, in w", "c = 1/(2N)", C / 2 * shifted.dot(shifted),
            (waves.T * M * waves)[0] / 8)
    rate, amplitude = sp.symbols("lambda A", positive=True)
    wave = amplitude * sp.exp(-rate * TIME)
    d.equal("Along an eigenvector of M, w falls like exp(-lambda t), the excess of the loss like exp(-2 lambda t)",
            "M w = lambda w", sp.Matrix([sp.Derivative(wave, TIME), sp.Derivative(rate * wave**2 / 8, TIME)]),
            sp.Matrix([-rate * wave, -2 * rate * (rate * wave**2 / 8)]))
    d.equal("An error of beta_j moves x_j.nu1 by", "differentiation of k", sp.Derivative(-sp.asinh(b / (2 * SCALE**2)) / 4, b),
            -1 / (4 * sp.sqrt(b**2 + 4 * SCALE**4)))
    least, square, arrival = sp.symbols("l q T", positive=True)
    logistic = least / (1 + sp.exp(-4 * C * square * least * (TIME - arrival)))
    d.equal("One column, q = x.x: beta is a logistic function, with lambda = 4 c q l, l = LS > 0",
            "differentiation; a to 0", sp.Derivative(logistic, TIME), -4 * logistic * C * square * (logistic - least))
    d.conclude("(c) with LS(B) in place of beta_B(t1), nu1 is off by X_B (X_B^T X_B)^-1 (error of k), of order "
               "exp(-lambda (t1 - arrival)) with lambda the smallest eigenvalue of M, and the loss by its square")


def _others(d: Derivation) -> None:
    sigma, alpha = sp.Symbol("sigma", real=True), sp.Symbol("alpha", positive=True)
    d.assume("sigma stands for |int g dt|/log(1/alpha), which is below 1/2 for a coordinate that has not arrived")
    d.equal("A coordinate outside of B", "beta = 2 alpha^2 sinh(4 sigma log(1/alpha))",
            2 * alpha**2 * sp.sinh(4 * sigma * sp.log(1 / alpha)), alpha ** (2 - 4 * sigma) - alpha ** (2 + 4 * sigma))
    d.conclude("(c) the integrals that are dropped are of order alpha^(2 - 4 max sigma), up to a logarithm, the maximum over "
               "the coordinates outside of B and the times from t0 to t1")


def _bound(d: Derivation, case: Case) -> None:
    r, beta = sp.Matrix(sp.symbols("rho_1:4", real=True)), sp.Symbol("beta_3", real=True)
    inner_part = (case.B.T * r).T * case.inner * (case.B.T * r)
    d.assume("rho stands for the residual r, r1 for that of LS(B), -P_perp y; o for what the coordinates outside add to X beta")
    d.equal("(d) Pythagoras: |r|^2 = |P_perp r|^2 + |P_B r|^2, times Gamma", "the two projectors add up to 1",
            case.delta * r.dot(r), (r.T * case.off * r)[0] + inner_part[0])
    predictors = sp.Matrix([*sp.symbols("beta_1:3", real=True), beta])
    d.equal("Off the span: P_perp r = r1 + P_perp o, times Gamma", "P_perp X_B = 0", case.off * (case.X * predictors - case.y),
            -case.off * case.y + case.off * case.other * beta)
    arcs = [sp.Function(f"z_{j}", real=True) for j in range(1, 4)]
    moving = case.X * sp.Matrix([2 * SCALE**2 * sp.sinh(arc(TIME)) for arc in arcs]) - case.y
    residual = sp.Matrix([d.define(sp.Function(f"r_{i}", real=True)(TIME), value, "residual, with beta = 2 a^2 sinh z")
                          for i, value in enumerate(moving, 1)])
    slopes = [d.define(sp.Function(f"g_{j}", real=True)(TIME), C * case.X[:, j - 1].dot(residual), "slope c x_j.r")
              for j in range(1, 4)]
    for arc, slope in zip(arcs, slopes, strict=True):
        d.define(sp.Derivative(arc(TIME), TIME), -4 * slope, "motion of z = log(u/v)")
    d.equal("The loss c |r|^2/2 does not increase", "the chain rule", sp.Derivative(C / 2 * residual.dot(residual), TIME),
            sp.Add(*(-8 * SCALE**2 * sp.cosh(arc(TIME)) * slope**2 for arc, slope in zip(arcs, slopes, strict=True))))
    d.positive("as each of these terms is negative where g_j is not 0", "the sign of cosh",
               8 * SCALE**2 * sp.cosh(sp.Symbol("z", real=True)) * sp.Symbol("g", real=True, nonzero=True) ** 2)
    d.conclude("(d) |P_B (r(t) - r1)|^2 = |r(t)|^2 - |P_perp r(t)|^2 <= |r(t0)|^2 - |P_perp r(t)|^2, which is |r(t0) - r1|^2 "
               "but for terms of o")
    x = case.other
    now = _named(d, "e", "entry of X beta - y", case.X * predictors - case.y)
    d.equal("A slope outside: g_j - g1_j = c x_j.P_B r + c x_j.P_perp o, times Gamma", "r - r1 split by the projectors",
            C * case.delta * x.dot(now) + C * x.dot(case.off * case.y),
            C * x.dot(case.onto * now) + C * beta * x.dot(case.off * x))
    d.equal("x_j.P_B r = (P_B x_j).(P_B r), times Gamma^2", "symmetric and idempotent", case.delta * x.dot(case.onto * r),
            (case.onto * x).dot(case.onto * r))
    one, two = sp.Matrix(sp.symbols("a_1:4", real=True)), sp.Matrix(sp.symbols("b_1:4", real=True))
    d.equal("which is at most |P_B x_j| |P_B r|", "Lagrange's identity: the difference of the squares is a square",
            one.dot(one) * two.dot(two) - one.dot(two) ** 2, one.cross(two).dot(one.cross(two)))
    d.conclude("(d) |g_j(t) - g1_j| <= c |P_B x_j| |r(t0) - r1| for every j outside, up to terms of o, and, integrated, "
               "|x_j.(nu(t) - nu0) - g1_j (t - t0)| <= c |P_B x_j| |r(t0) - r1| (t - t0)")
