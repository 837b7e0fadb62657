"""The tasks: which problems, from which scale, for how long, and what is right."""

import functools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.integrate import ode

import dln

from . import fields, references

GOAL = 1e-6
GAMMA, EPSILON, RADIUS = 0.02, 0.1, 0.05
END_LOSS = 1e-12
LIMIT_LOSS = 1e-16  # where the limit is what counts: here beta(t) is within a few 1e-7 of it


@dataclass(frozen=True)
class Cell:
    """One run of a grid: the scale, the rule's two numbers, and the final time."""

    alpha: float
    a: float
    b: float
    t_end: float


@dataclass(frozen=True)
class FlowCase:
    """Runs on one problem, a single one or a grid, and beta at the end of each, (C, d)."""

    problem: Any
    kind: str
    cells: tuple
    reference: np.ndarray

    def rule(self, cell):
        """Return the rule of a cell as the package has it."""
        return rule(self.kind, cell.a, cell.b)


@dataclass(frozen=True)
class MinimizerCase:
    """A minimiser of the potential, or with ``alpha = 0`` of the l1 norm, (1, d)."""

    problem: Any
    alpha: float
    reference: np.ndarray


@dataclass(frozen=True)
class Task:
    """Cases that are reported together; `family` names the solvers, `build` makes the cases when they are first needed."""

    name: str
    family: str
    build: Any = field(repr=False)
    quick: bool = True
    goal: float = GOAL

    @functools.cached_property
    def cases(self):
        return self.build()

    @property
    def shape(self):
        """Shape of X."""
        return self.cases[0].problem.X.shape


def rule(kind, a, b):
    """Return a rule of the package."""
    if kind == "GR":
        return dln.GradientRegularization(a, b)
    return dln.GradientFlow() if kind == "plain" else dln.SAM(a, per_sample=kind == "1-SAM")


def numbers(kind):
    """Return the rule's two numbers, of single runs."""
    return (GAMMA, EPSILON) if kind == "GR" else (0.0, 0.0) if kind == "plain" else (RADIUS, 0.0)


def flow_case(problem, kind, settings, *, limit=False, rtol=1e-12):
    """Return the case of cells ``(alpha, a, b)``, with references at `rtol`: of beta(t_end), or of the limit."""
    loss = LIMIT_LOSS if limit else END_LOSS
    rules = [rule(kind, a, b) for _, a, b in settings]
    scales = [alpha for alpha, _, _ in settings]
    t_ends, betas = references.of_flows(problem, rules, scales, loss, limit, rtol)
    cells = tuple(Cell(*setting, t_end) for setting, t_end in zip(settings, t_ends, strict=True))
    return FlowCase(problem, kind, cells, betas)


def independent_beta(case, cell, rtol=1e-13):
    """Return beta(t_end) of a cell by DOP853 in the logarithms of the weights: no line of the package has a part in it."""
    X, y = np.ascontiguousarray(case.problem.X), np.ascontiguousarray(case.problem.y)
    velocity, _ = fields.callbacks("compiled", "log", X, y, fields.CODES[case.kind], cell.a, cell.b)
    solver = ode(velocity).set_integrator("dop853", rtol=rtol, atol=rtol, nsteps=10_000_000)
    solver.set_initial_value(fields.start("log", cell.alpha, X.shape[1]), 0.0)
    state = solver.integrate(cell.t_end)
    if not solver.successful():
        raise RuntimeError("DOP853 failed on a reference")
    return fields.to_beta("log", state)


def instances(n, d, count, **options):
    """Return seeded sparse regressions, with N/4 coefficients that are not 0."""
    return [dln.sparse_regression(n, d, n // 4, rng=seed, **options) for seed in range(count)]


def grid(kind, count):
    """Return cells of a sweep, an even choice of `count` out of 1024.

    Plain flow: 1024 scales from 1e-8 to 1.  With regularization: 32 of these scales by 32 pairs, ``gamma`` from 1e-3 to 0.05
    and ``epsilon = 5 gamma``.
    """
    if kind == "plain":
        return [(alpha, 0.0, 0.0) for alpha in np.logspace(-8, 0, 1024)[np.arange(count) * 1023 // max(count - 1, 1)].tolist()]
    pairs = [(alpha, gamma, 5.0 * gamma) for alpha in np.logspace(-8, 0, 32).tolist()
             for gamma in np.logspace(-3, math.log10(0.05), 32).tolist()]
    return [pairs[(k * 1024) // count + (k * 7) % (1024 // count)] for k in range(count)]


def single(name, kind, alpha, problems, quick=True, rtol=1e-12):
    def build():
        return [flow_case(problem, kind, [(alpha, *numbers(kind))], rtol=rtol) for problem in problems()]

    return Task(name, "flow", build, quick)


def minimizer(name, n, d, alpha, count, quick=True):
    def build():
        cases = []
        for problem in instances(n, d, count):
            best = dln.minimize_potential(problem, alpha=alpha) if alpha else dln.basis_pursuit(problem)
            if not best.success:
                raise RuntimeError(f"no reference: {best.message}")
            cases.append(MinimizerCase(problem, alpha, best.beta[None, :]))
        return cases

    return Task(name, "minimizer" if alpha else "l1", build, quick)


def all_tasks(full, most=5, cells=None):
    """Return the tasks, in the order of the report; with ``full`` false a smaller choice, with fewer instances and cells.

    At most `most` instances each, and `cells` runs in a sweep.
    """
    small = functools.partial(instances, 20, 100, most)
    tasks = [single(f"{kind} {alpha:.0e}", kind, alpha, small, quick=alpha > 1e-7 and kind != "1-SAM")
             for kind in ("plain", "GR", "SAM", "1-SAM") for alpha in (1e-1, 1e-3, 1e-6, 1e-8)]
    for title, options in (("correlated", {"correlation": 0.9}), ("noisy", {"noise": 0.1})):
        hard = functools.partial(instances, 20, 100, most, **options)
        tasks += [single(f"{kind} 1e-03, {title}", kind, 1e-3, hard, quick=False) for kind in ("plain", "GR")]
    count, grids = (1024, most) if full else (16, 1)
    count = cells or count
    for limit in (False, True):
        for kind in ("plain", "GR"):
            def build(kind=kind, limit=limit):
                return [flow_case(problem, kind, grid(kind, count), limit=limit) for problem in instances(20, 100, grids)]

            tasks.append(Task(f"sweep {kind}, {'limits' if limit else 'trajectories'}", "limit" if limit else "sweep", build))
    tasks += [minimizer("minimiser N = 20", 20, 100, 1e-2, most),
              minimizer("minimiser N = 200", 200, 2000, 1e-2, most if full else 1),
              minimizer("l1 N = 200", 200, 2000, 0.0, most if full else min(2, most))]
    medium, large = functools.partial(instances, 200, 2000, most), functools.partial(instances, 1000, 10_000, min(2, most))
    for kind in ("plain", "GR"):
        tasks += [single(f"{kind} {alpha:.0e}, N = 200", kind, alpha, medium, False, 1e-11) for alpha in (1e-1, 1e-3)]
        tasks += [single(f"{kind} {alpha:.0e}, N = 1000", kind, alpha, large, False, 1e-9) for alpha in (1e-1, 1e-3)]
    return tasks if full else [task for task in tasks if task.quick]
