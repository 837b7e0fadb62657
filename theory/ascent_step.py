"""T6: does a larger ascent step of gradient regularization lead to a richer regime? Derived in part; measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp
from scipy.linalg import lstsq

from ._derivation import Derivation
from ._engine import library_end
from ._network import Array, SymbolicNetwork
from ._raw_route import RouteError
from ._registry import Finding, Measured
from ._setting import as_data
from ._steps import PAST, TIME, perturb, start
from ._study import Study, no_parts, observation
from .gradient_regularization import EPSILON, G_DOWN, G_UP, GAMMA, G, Q

__all__ = ["QUANTITIES", "THEOREMS", "Sparse", "Subsets", "compare", "measure", "populations", "summarise"]


# --- derivation ------------------------------------------------------------------------------------------------------


def derive_ascent_step() -> Derivation:
    """Derive T6: the first order of log alpha_eff in the ascent step, its sign, and what it leaves open."""
    net = SymbolicNetwork()
    d = Derivation("T6", "A larger ascent step: what follows for the scale, and what does not for the solution")
    at = start(d, net)
    up, down = perturb(d, net, at, EPSILON, "up"), perturb(d, net, at, -EPSILON, "down")
    sizes = [d.define(sp.Symbol(f"s_{j}", positive=True), u**2 + v**2, "size of a pair of weights")
             for j, (u, v) in enumerate(zip(net.u, net.v, strict=True), 1)]
    firsts = [4 * g * size for g, size in zip(at.of_beta, sizes, strict=True)]
    _first_order(d, net, at.of_beta, firsts, list(zip(up.of_beta, down.of_beta, strict=True)))
    _sign(d, net, at.of_beta, sizes)
    _log_scale(d)
    _unevenness(d)
    return d


def _first_order(d: Derivation, net: SymbolicNetwork, g: Sequence[sp.Expr], firsts: list[sp.Expr],
                 moved: list[tuple[sp.Expr, sp.Expr]]) -> None:
    hessian = net.X.T * net.X / (2 * net.n_samples)
    slopes = [d.define(sp.Symbol(f"a_{j + 1}", real=True), value, "growth of g per ascent step: Hess_beta [4 g (u^2 + v^2)]")
              for j, value in enumerate(hessian * sp.Matrix(firsts))]
    of_step = [(d.define(sp.Function(f"q_forward_{j + 1}")(EPSILON), Q["forward"].subs({G: g[j], G_UP: up}, simultaneous=True),
                         "q of the forward difference"),
                d.define(sp.Function(f"q_backward_{j + 1}")(EPSILON),
                         Q["backward"].subs({G: g[j], G_DOWN: down}, simultaneous=True), "q of the backward difference"))
               for j, (up, down) in enumerate(moved)]
    for name, sign, rates in (("forward", 1, [one for one, _ in of_step]), ("backward", -1, [two for _, two in of_step])):
        d.equal(f"q of the {name} difference at ascent step 0 is that of the exact Hessian", "substitution",
                sp.Matrix([sp.Subs(rate, EPSILON, 0) for rate in rates]),
                sp.Matrix([Q["exact"].subs(G, one) for one in g]))
        d.equal(f"First order of q in the ascent step, {name}", "Taylor's theorem for a polynomial in epsilon",
                sp.Matrix([sp.Subs(sp.Derivative(rate, EPSILON), EPSILON, 0) for rate in rates]),
                sp.Matrix([2 * GAMMA * sign * one * a for one, a in zip(g, slopes, strict=True)]))
    u, v, slope = sp.Symbol("u", positive=True), sp.Symbol("v", positive=True), sp.Symbol("g", real=True)
    change = ((u * (1 + 2 * EPSILON * slope)) ** 2 - (v * (1 - 2 * EPSILON * slope)) ** 2) - (u**2 - v**2)
    first = d.define(sp.Symbol("D_1", real=True), 4 * EPSILON * slope * (u**2 + v**2), "first order in epsilon g")
    second = d.define(sp.Symbol("D_2", real=True), 4 * (EPSILON * slope) ** 2 * (u**2 - v**2), "second order in epsilon g")
    d.equal("What the ascent step does to one coordinate of the predictor", "expansion; no term is left out", change,
            first + second)
    d.equal("The second order is smaller than epsilon |g| times the first", "a difference of squares that is itself a square",
            (EPSILON * slope * first) ** 2 - second**2, (8 * EPSILON**2 * slope**2 * u * v) ** 2)
    d.assume("the first order in epsilon is the leading one as long as epsilon max|g| << 1; the data at hand decide that")


def _sign(d: Derivation, net: SymbolicNetwork, g: Sequence[sp.Expr], sizes: list[sp.Expr]) -> None:
    hessian = net.X.T * net.X / (2 * net.n_samples)
    pushed = [size * one for size, one in zip(sizes, g, strict=True)]
    a = hessian * sp.Matrix([4 * value for value in pushed])
    d.equal("Weighted by u^2 + v^2, the first order is a sum of squares: at least 0",
            "sum_j s_j g_j a_j = (4/(2N)) |X (s g)|^2 with s = u^2 + v^2",
            sp.Add(*(push * slope for push, slope in zip(pushed, a, strict=True))),
            sp.Rational(4, 2 * net.n_samples) * sp.Add(*(output**2 for output in net.X * sp.Matrix(pushed))))
    alpha = sp.Symbol("alpha", positive=True)
    one_scale = [2 * alpha**2 * one for one in g]
    d.equal("At a start with one alpha for all, so is the plain sum over coordinates", "u^2 + v^2 = 2 alpha^2",
            sp.Add(*(one * slope for one, slope in zip(g, hessian * sp.Matrix([4 * x for x in one_scale]), strict=True))),
            sp.Rational(8, 2 * net.n_samples) * alpha**2 * sp.Add(*(output**2 for output in net.X * sp.Matrix(g))))
    example = dict(zip((*net.X, *net.y, *net.u, *net.v), (1, 1, 0, 1, 76, 12, 9, 1, 1, 1), strict=True))
    total = sp.Add(*(one * slope for one, slope in zip(g, a, strict=True)))
    value = d.define(sp.Symbol("S", real=True), d.write_out(total).subs(example),
                     "sum_j g_j a_j for X = ((1, 1), (0, 1)), y = (76, 12), u = (9, 1), v = (1, 1)")
    d.positive("Later the plain sum can be negative", "an example with uneven weights", -value)
    d.conclude("forward, a larger ascent step lowers the mean of log alpha_eff to first order (backward, it raises it) "
               "where the weights are even, and a weighted mean of its rate always; for the plain mean along a whole run it "
               "is the usual case, not a theorem: it is counted")


def _log_scale(d: Derivation) -> None:
    g, a, b = (sp.Function(name, real=True)(PAST) for name in ("g", "a", "b"))
    d.assume("along one and the same path of the weights; the path itself shifts by a term of order gamma^2 epsilon")
    d.assume("g_e = g + epsilon a + epsilon^2 b at each time, as proved for T5")
    log_scale = {sign: -2 * sp.Integral((2 * GAMMA * g * (g + sign * EPSILON * a + EPSILON**2 * b)), (PAST, 0, TIME))
                 for sign in (1, -1)}
    exact = -4 * GAMMA * sp.Integral(g**2, (PAST, 0, TIME))
    second = -4 * GAMMA * EPSILON**2 * sp.Integral(g * b, (PAST, 0, TIME))
    for name, sign in (("forward", 1), ("backward", -1)):
        d.by_differentiation(f"log(alpha_eff/alpha) in powers of the ascent step, {name}",
                             "the conservation law with the expansion of g_e", log_scale[sign],
                             exact - 4 * sign * GAMMA * EPSILON * sp.Integral(g * a, (PAST, 0, TIME)) + second, TIME, sp.S.Zero)


def _unevenness(d: Derivation) -> None:
    b, ell, delta, nu = sp.symbols("b ell delta nu", real=True)
    alpha, lead = sp.symbols("alpha b_plus", positive=True)
    slope = sp.asinh(b / (2 * sp.exp(2 * ell))) / 4
    d.assume("ell stands for log alpha_eff of one coordinate, b_plus for a coefficient b > 0")
    d.equal("How the gradient of the potential depends on the scale of its coordinate", "differentiation",
            sp.Derivative(slope, ell), -b / (2 * sp.sqrt(b**2 + 4 * sp.exp(4 * ell))))
    d.equal("In the rich limit the dependence is the same for every coefficient b > 0", "the limit of small alpha_eff",
            sp.Limit(-lead / (2 * sp.sqrt(lead**2 + 4 * alpha**4)), alpha, 0), -sp.Rational(1, 2))
    scales = [d.define(sp.Symbol(f"alpha_{j}", positive=True), alpha * sp.exp(sign * delta), "scale of a column")
              for j, sign in ((1, 1), (2, -1))]
    shares = [d.define(sp.Symbol(f"beta_{j}", real=True), 2 * scale**2 * sp.sinh(4 * nu), "coefficient of a column")
              for j, scale in enumerate(scales, 1)]
    d.equal("Two equal columns: the mean logarithm of their scales does not depend on delta", "logarithm of a product",
            (sp.log(scales[0]) + sp.log(scales[1])) / 2, sp.log(alpha))
    d.equal("Yet delta alone, at any alpha, decides how they share", "the same x.nu for both", shares[0] / shares[1],
            sp.exp(4 * delta))
    d.conclude("the solution is a matter of single scales: equal shifts of log alpha_eff make all coordinates richer "
               "together, uneven ones put unequal penalties on |b_j|, of first order in the shift, as in two equal columns, "
               "where the mean says nothing at all. So a lower mean of log alpha_eff promises neither a smaller l1 norm nor a "
               "smaller distance to the truth: these are counted, too")


# --- measurement -----------------------------------------------------------------------------------------------------

ALPHAS = (1e-3, 1e-1, 1.0)
GAMMA_VALUE = 0.05
EPSILONS = (0.05, 0.1, 0.2)

#: Sign with which a quantity is claimed to move as the ascent step grows: forward down, to the rich side; backward up.
CLAIMED = {"forward": -1.0, "backward": 1.0}

#: What is measured at the end of a run; for all three, smaller counts as richer.
QUANTITIES = ("mean log alpha_eff", "l1 norm", "distance to truth")

#: What is counted: runs in which a quantity ...
COMPARISONS = ("is below that of gradient flow", "moves with the ascent step as claimed")

#: Differences below this part of a quantity are within the error of two runs: not as claimed.
RESOLUTION = 1e-8

#: Mean of uncentred columns, in standard deviations.
COLUMN_MEAN = 2.2


@dataclass(frozen=True)
class Instance:
    """One problem, in units in which the parameters above are of natural size, and its truth, if there is one."""

    X: Array
    y: Array
    truth: Array | None


@dataclass(frozen=True)
class Sparse:
    """Seeded sparse regressions.

    Attributes
    ----------
    kind : str
    column_mean : float
    n_runs, n_samples, n_features, n_nonzero : int
        How many problems, and their size.
    """

    kind: str
    column_mean: float
    n_runs: int = 10
    n_samples: int = 20
    n_features: int = 50
    n_nonzero: int = 3

    @property
    def name(self) -> str:
        """Kind, size and number of the problems."""
        return f"{self.kind} columns, {self.n_runs} runs (N={self.n_samples}, d={self.n_features}, {self.n_nonzero} nonzero)"

    def instances(self) -> Iterator[Instance]:
        """Draw the problems one by one."""
        import dln

        for seed in range(self.n_runs):
            problem = dln.sparse_regression(self.n_samples, self.n_features, self.n_nonzero, column_mean=self.column_mean,
                                            rng=[6, seed])
            yield Instance(problem.X, problem.y, problem.truth)


@dataclass(frozen=True)
class Subsets:
    """Random halves of the rows of given data, which have no known truth."""

    X: Array
    y: Array
    source: str
    n_runs: int = 10

    @property
    def name(self) -> str:
        """Where the rows are from."""
        return f"random halves of {self.source}, {self.n_runs} runs"

    def instances(self) -> Iterator[Instance]:
        """Draw the halves one by one: columns scaled by one number to mean square 1, y so that least squares has norm 1."""
        if not np.any(self.X.T @ self.y):
            raise RouteError("y is orthogonal to every column of X: no flow moves, and there is nothing to check")
        for seed in range(self.n_runs):
            rows = np.random.default_rng([6, seed]).permutation(len(self.y))[: max(1, (len(self.y) + 1) // 2)]
            X, y = self.X[rows], self.y[rows]
            X = X / (np.sqrt(np.mean(X**2)) or 1.0)
            size = float(np.linalg.norm(lstsq(X, y)[0]))
            if size > 0:
                yield Instance(X, y / size, None)


def populations(problem: Any = None) -> list[Sparse | Subsets]:
    """Give seeded sparse regressions with centred and with uncentred columns, or halves of given data."""
    if problem is not None:
        data = as_data(problem)
        return [Subsets(data.X, data.y, data.name)]
    return [Sparse("centred", 0.0), Sparse("uncentred", COLUMN_MEAN)]


def measure(population: Any, alphas: Sequence[float] = ALPHAS, gamma: float = GAMMA_VALUE,
            epsilons: Sequence[float] = EPSILONS, schemes: Sequence[str] = tuple(CLAIMED)) -> dict[str, Finding]:
    """Measure a population.

    Parameters
    ----------
    population : object with `instances()`
    alphas, epsilons : sequence of float
        Initial scales; ascent steps, increasing.
    gamma : float
    schemes : sequence of {"forward", "backward"}

    Returns
    -------
    dict of str to Finding
        By scale and scheme, such as "alpha = 0.1, forward".
    """
    instances = list(population.instances())
    found = {}

    def rule(step: float, scheme: str) -> Callable[[Any], Any]:
        return lambda dln: dln.GradientRegularization(gamma, step, scheme)

    for alpha in alphas:
        flow = np.array([_end(one, alpha, lambda dln: dln.GradientFlow()) for one in instances])
        for scheme in schemes:
            runs = np.array([[_end(one, alpha, rule(step, scheme)) for step in epsilons] for one in instances])
            found[f"alpha = {alpha:g}, {scheme}"] = observation({
                "fractions": compare(flow, runs, CLAIMED[scheme]), "runs": len(instances),
                "settled": int(np.sum(np.all(np.isfinite(runs[..., 0]), axis=1) & np.isfinite(flow[:, 0]))),
                "gamma": gamma, "epsilons": list(epsilons), "quantities": list(QUANTITIES),
                "gradient flow": flow.tolist(), "regularized": runs.tolist()})
    return found


def _end(instance: Instance, alpha: float, make_rule: Callable[[Any], Any]) -> list[float]:
    """Give the quantities at the end of one run; NaN if it does not settle, or if there is no truth."""
    end = library_end(make_rule, instance.X, instance.y, alpha)
    if end is None:
        return [np.nan] * len(QUANTITIES)
    beta, log_scales = end
    distance = np.nan if instance.truth is None else float(np.linalg.norm(beta - instance.truth))
    return [float(np.mean(log_scales)) - float(np.log(alpha)), float(np.sum(np.abs(beta))), distance]


def compare(flow: Array, runs: Array, claimed: float) -> dict[str, dict[str, float | None]]:
    """Count in how many runs each quantity moved as claimed.

    Parameters
    ----------
    flow : ndarray of shape (n_runs, 3)
        The quantities at the end of gradient flow.
    runs : ndarray of shape (n_runs, n_steps, 3)
        At the end of regularized runs, the ascent step increasing.
    claimed : {-1, 1}
        The sign with which they are claimed to move with the ascent step.

    Returns
    -------
    dict
        By quantity: the fraction of runs in which it lies below that of gradient flow at every ascent step, and that in which
        it moves from the smallest to the largest ascent step as claimed. None where no run tells.
    """
    below = np.all(flow[:, None, :] - runs > RESOLUTION * np.maximum(np.abs(flow[:, None, :]), RESOLUTION), axis=1)
    first, last = runs[:, 0, :], runs[:, -1, :]
    moved = claimed * (last - first) > RESOLUTION * np.abs(first)
    known = np.isfinite(flow) & np.all(np.isfinite(runs), axis=1)
    return {quantity: {name: float(np.mean(held[known[:, k], k])) if np.any(known[:, k]) else None
                       for name, held in zip(COMPARISONS, (below, moved), strict=True)}
            for k, quantity in enumerate(QUANTITIES)}


def summarise(measured: Sequence[Measured]) -> str:
    """Say over all populations, scales and both schemes how often each quantity moved with the ascent step as claimed."""
    fractions = [finding.details["fractions"] for one in measured for finding in one.findings.values()]
    words = []
    for quantity in QUANTITIES:
        values = [held for each in fractions if (held := each[quantity][COMPARISONS[1]]) is not None]
        if values:
            words.append(f"{quantity} in {100 * np.mean(values):.0f} %")
    return "with a larger ascent step " + ", ".join(words) + " of runs moved as claimed"


THEOREMS = (
    Study(
        key="T6",
        title="A larger ascent step, a richer regime?",
        statement="with epsilon mean log alpha_eff falls forward and rises backward (epsilon max|g| << 1); l1 norm likewise?",
        source='Karakida et al. 2023, "Understanding gradient regularization in deep learning: efficient '
               'finite-difference computation and implicit bias"',
        kind="empirical",
        tolerance=float("nan"),
        derive=derive_ascent_step,
        parts=no_parts,
        mutants={},
        populations=populations,
        observe=measure,
        summarise=summarise,
    ),
)
