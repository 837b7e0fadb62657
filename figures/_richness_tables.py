"""The tables of docs/open_question.md: ``python -m figures._richness_tables [grid] [noise] [mechanism] [rules]`` computes them.

All together take about ten minutes of a CPU.  Sparse regressions as in `regularization_richness`, seeds 0 to 19, with and
without noise on y.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dln
from figures._regularization_effects import ACCURACY, Baseline, Effects, mapped, overcharge, planted, signed_rule
from figures.regularization_richness import SIGNS

__all__ = ["ALPHAS", "MEANS", "SECTIONS", "boundary", "main", "scheme_rules", "split"]

Array = NDArray[np.float64]

ALPHAS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
MEANS = (0.0, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.25, 3.0)
GAMMAS = (0.01, 0.05, 0.1)
STEPS = (0.05, 0.1, 0.2)
RADII = (0.01, 0.05, 0.1, 0.2)
NOISE = 0.3  # standard deviation, where there is noise on y; the planted vector has norm 1
SHAPE = (40, 100, 5)
SEEDS = range(20)

Progress = Callable[..., Any] | None


def scheme_rules() -> dict[str, list[dln.Rule]]:
    """Give the rules by name: every scheme at all strengths and ascent steps, and SAM."""
    grid = [(gamma, step) for gamma in GAMMAS for step in STEPS]
    return {"forward": [signed_rule(gamma, step) for gamma, step in grid],
            "backward": [signed_rule(gamma, -step) for gamma, step in grid],
            "centred": [dln.GradientRegularization(gamma, step, "centered") for gamma, step in grid],
            "exact Hessian": [signed_rule(gamma, 0.0) for gamma in GAMMAS],
            "SAM": [dln.SAM(rho) for rho in RADII]}


def run_all(noise: float, alphas: Sequence[float], means: Sequence[float], rules: Sequence[dln.Rule], seeds: Sequence[int],
            shape: tuple[int, int, int] = SHAPE, progress: Progress = None) -> Effects:
    """Measure all rules on all problems: Effects of shape (rules, alphas, means, seeds)."""
    def work(job: tuple[float, float, int]) -> list[list[float]]:
        alpha, mean, seed = job
        baseline = Baseline(dln.sparse_regression(*shape, noise=noise, column_mean=mean, rng=seed), alpha)
        return [baseline.effects(rule) for rule in rules]

    jobs = [(alpha, mean, seed) for alpha in alphas for mean in means for seed in seeds]
    rows = np.array(mapped(work, jobs, None, progress, f"noise {noise:g}"))
    return Effects.stacked(np.moveaxis(rows, 1, 0), (len(rules), len(alphas), len(means), len(seeds)))


def boundary(means: Sequence[float] | Array, falling: Array, level: float) -> float:
    """Find where a curve first falls below `level`, by linear interpolation; NaN if it never does."""
    below = np.flatnonzero(falling < level)
    if below.size == 0:
        return math.nan
    k = int(below[0])
    if k == 0:
        return float(means[0])
    part = (falling[k - 1] - level) / (falling[k - 1] - falling[k])
    return float(means[k - 1] + part * (means[k] - means[k - 1]))


def split(weights: Array, shift: Array, is_planted: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Split ``weights @ shift``: of the mean of the shift; of planted against others; of what differs within the two groups."""
    even = float(np.mean(shift))
    groups = np.where(is_planted, np.mean(shift[is_planted]), np.mean(shift[~is_planted]))
    return even * float(np.sum(weights)), float(weights @ (groups - even)), float(weights @ (shift - groups))


def row(*cells: Any) -> None:
    """Print a row of a table."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |")


def head(*cells: str) -> None:
    """Print the head of a table."""
    row(*cells)
    print("|" + "---|" * len(cells))


def percent(values: Array, digits: int = 2) -> str:
    """Write quantiles 0.1, 0.5, 0.9 of a relative change in percent: the median and, in brackets, the others."""
    low, middle, high = 100 * values
    return f"{middle:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def changes_table(effects: Effects, alphas: Sequence[float], means: Sequence[float], shown: Sequence[float]) -> None:
    """Print scale and solution of one rule; `effects` of shape (alphas, means, seeds)."""
    head("alpha", "column mean", "fit", "mean log(alpha_eff/alpha)", "spread", "l1, % ", "lower in", "geometric mean: l1, %",
         "distance, %", "lower in", "geometric mean: distance, %", "overcharge")
    quantiles = {name: effects.quantiles(name) for name in ("mean_shift", "spread", "l1", "distance", "even_l1",
                                                            "even_distance", "overcharge")}
    for i, alpha in enumerate(alphas):
        for j, mean in enumerate(means):
            if mean not in shown or alpha not in (1e-3, 1e-2, 1e-1, 1.0):
                continue
            at = {name: values[:, i, j] for name, values in quantiles.items()}
            row(f"{alpha:g}", f"{mean:g}", np.sum(np.isfinite(effects.l1[i, j])),
                f"{at['mean_shift'][1]:.2g}", f"{at['spread'][1]:.2g}", percent(at["l1"]),
                f"{100 * effects.lowered('l1')[i, j]:.0f} %", f"{100 * at['even_l1'][1]:+.3f}", percent(at["distance"]),
                f"{100 * effects.lowered('distance')[i, j]:.0f} %", f"{100 * at['even_distance'][1]:+.3f}",
                f"{at['overcharge'][1]:.2f}")


def boundary_table(effects: Effects, alphas: Sequence[float], means: Sequence[float], rules: Sequence[Any]) -> None:
    """Print where half of the seeds have a lower l1 norm and distance, and where the median overcharge is 1."""
    head("gamma", "alpha", "l1 lower in half", "distance lower in half", "overcharge 1", "foreseen overcharge 1")
    lowered = {name: effects.lowered(name) for name in ("l1", "distance")}
    middle = {name: effects.quantiles(name, [0.5])[0] for name in ("overcharge", "foreseen_overcharge")}
    for r, rule in enumerate(rules):
        for i, alpha in enumerate(alphas):
            places = [boundary(means, 1 - lowered[name][r, i], 0.5) for name in ("l1", "distance")]
            places += [boundary(means, middle[name][r, i], 1.0) for name in ("overcharge", "foreseen_overcharge")]
            row(f"{rule.gamma:g}", f"{alpha:g}", *("none" if math.isnan(place) else f"{place:.2f}" for place in places))


def agreement_table(effects: Effects, alphas: Sequence[float], rules: Sequence[Any]) -> None:
    """Print in what share of all column means and seeds the signs of the changes were predicted."""
    head("gamma", "alpha", "l1, own shift", "distance, own shift", "l1, gradient flow alone", "distance, gradient flow alone")
    for r, rule in enumerate(rules):
        for i, alpha in enumerate(alphas):
            part = Effects(*(getattr(effects, name)[r, i] for name in effects.__dataclass_fields__))
            row(f"{rule.gamma:g}", f"{alpha:g}", *(f"{100 * part.agreement(name, f'{kind}_{name}'):.1f} %"
                                                   for kind in ("first", "foreseen") for name in ("l1", "distance")))


def mechanism_table(alphas: Sequence[float], means: Sequence[float], seeds: Sequence[int], progress: Progress) -> None:
    """Print what made the change of the l1 norm, and what falls like powers of the fair share would have made."""
    rule = dln.GradientRegularization(0.05, 0.1)

    def work(job: tuple[float, float, int]) -> list[float]:
        alpha, mean, seed = job
        problem = dln.sparse_regression(*SHAPE, column_mean=mean, rng=seed)
        baseline = Baseline(problem, alpha)
        run = dln.flow(problem, rule, alpha=alpha, **ACCURACY)
        if run.status != dln.Status.CONVERGED:
            return [math.nan] * 11
        shift = run.log_effective_alpha - math.log(alpha)
        is_planted, shares = baseline.truth != 0, baseline.response.fair_shares
        changes = []
        for power in (0, 1, 2):
            other = float(np.mean(shift)) * shares**power / np.mean(shares**power)
            changes.append(baseline.changes(dln.minimize_potential(problem, log_alpha=math.log(alpha) + other).beta)[0])
        start = problem.gradient(np.zeros(problem.n_features))
        at_start = overcharge(baseline.l1_weights, -(start**2))
        weights, others = baseline.l1_weights, ~is_planted
        return [*split(weights, shift, is_planted), *changes, np.mean(weights[is_planted] < 0), np.mean(weights[others] < 0),
                np.mean(shift[is_planted]) / np.mean(shift[others]), np.mean(shares[is_planted]) / np.mean(shares[others]),
                float((at_start < 1) == (weights @ shift < 0))]

    jobs = [(alpha, mean, seed) for alpha in alphas for mean in means for seed in seeds]
    rows = np.array(mapped(work, jobs, None, progress, "mechanism")).reshape(len(alphas), len(means), len(seeds), -1)
    head("alpha", "column mean", "fit", "even fall", "planted against others", "within", "power 0", "power 1", "power 2",
         "negative weight: planted", "others", "fall: planted/others", "fair share: planted/others", "sign from the start")
    for i, alpha in enumerate(alphas):
        for j, mean in enumerate(means):
            kept = rows[i, j][np.isfinite(rows[i, j, :, 0])]
            median, average = np.median(kept, axis=0), np.mean(kept, axis=0)
            row(f"{alpha:g}", f"{mean:g}", len(kept), *(f"{100 * value:+.3f}" for value in median[:6]),
                *(f"{100 * value:.0f} %" for value in average[6:8]), *(f"{value:.1f}" for value in median[8:10]),
                f"{100 * average[10]:.0f} %")


def rules_table(effects: Effects, names: Sequence[str], alphas: Sequence[float], means: Sequence[float]) -> None:
    """Print for each family of rules in what share of its runs l1 norm and distance were lower."""
    head("alpha", "column mean", *dict.fromkeys(names))
    for i, alpha in enumerate(alphas):
        for j, mean in enumerate(means):
            cells = []
            for name in dict.fromkeys(names):
                kept = np.array([other == name for other in names])
                l1, distance, even = (getattr(effects, key)[kept, i, j] for key in ("l1", "distance", "even_l1"))
                known = np.isfinite(l1)
                mean_falls = np.mean(effects.mean_shift[kept, i, j][known] < 0)
                cells.append(f"{100 * np.mean(l1[known] < 0):.0f}, {100 * np.mean(distance[known] < 0):.0f} %"
                             + ("" if known.all() else f" ({np.sum(~known)} no fit)")
                             + ("" if mean_falls == 1 else f" (scale fell in {100 * mean_falls:.0f} %)")
                             + ("" if np.all(even[known] < 0) else f" (even: {100 * np.mean(even[known] < 0):.0f} %)"))
            row(f"{alpha:g}", f"{mean:g}", *cells)


def steps_table(effects: Effects, rules: Sequence[Any], alphas: Sequence[float], means: Sequence[float]) -> None:
    """Print how the change of the l1 norm grows with gamma and the ascent step: medians in percent."""
    head("rule", *(f"alpha {alpha:g}, mean {mean:g}" for alpha in alphas for mean in means))
    middle = effects.quantiles("l1", [0.5])[0]
    for r, rule in enumerate(rules):
        row(repr(rule), *(f"{100 * middle[r, i, j]:+.3f}" for i in range(len(alphas)) for j in range(len(means))))


def signs_table(alphas: Sequence[float], means: Sequence[float], seeds: Sequence[int], progress: Progress) -> None:
    """Print the test by signs, and the seeds of five nonzeros by the modulus of the sum of their signs."""
    rule = dln.GradientRegularization(0.05, 0.1)

    def work(job: tuple[Sequence[int], float, float, int]) -> list[float]:
        signs, alpha, mean, seed = job
        return Baseline(planted(*SHAPE[:2], signs, mean, seed), alpha).effects(rule)

    patterns = [*SIGNS, (1, 1, 1, -1, -1), (1, 1, 1, 1, -1), (1, 1, 1, 1, 1)]
    jobs = [(signs, alpha, mean, seed) for signs in patterns for alpha in alphas for mean in means for seed in seeds]
    effects = Effects.stacked(mapped(work, jobs, None, progress, "signs"), (len(patterns), len(alphas), len(means), len(seeds)))
    lowered, middle = effects.lowered("l1"), effects.quantiles("l1", [0.5])[0]
    head("signs", "alpha", *(f"mean {mean:g}" for mean in means), "boundary")
    for p, signs in enumerate(patterns):
        for i, alpha in enumerate(alphas):
            place = boundary(means, 1 - lowered[p, i], 0.5)
            row(" ".join("+" if sign > 0 else "-" for sign in signs), f"{alpha:g}",
                *(f"{100 * lowered[p, i, j]:.0f} % ({100 * middle[p, i, j]:+.2f})" for j in range(len(means))),
                "none" if math.isnan(place) else f"{place:.2f}")


def grid_section(progress: Progress) -> None:
    """Print the grid over scale and column mean, its boundaries, and how often signs were foreseen."""
    _grid(0.0, ALPHAS, MEANS, GAMMAS, progress)


def noise_section(progress: Progress) -> None:
    """Print the same with noise on y, on a smaller grid."""
    _grid(NOISE, (1e-3, 1e-2, 1e-1, 1.0), (0.0, 0.5, 1.0, 1.5, 2.25, 3.0), (0.05,), progress)


def _grid(noise: float, alphas: Sequence[float], means: Sequence[float], gammas: Sequence[float], progress: Progress) -> None:
    rules = [dln.GradientRegularization(gamma, 0.1) for gamma in gammas]
    effects = run_all(noise, alphas, means, rules, SEEDS, progress=progress)
    print(f"\n## noise {noise:g}: forward, epsilon = 0.1; {effects.n_failed} of {effects.l1.size} runs do not fit")
    print("\ngamma = 0.05\n")
    middle = Effects(*(getattr(effects, name)[gammas.index(0.05)] for name in effects.__dataclass_fields__))
    changes_table(middle, alphas, means, (0.0, 0.5, 1.0, 1.5, 2.25, 3.0))
    for name in ("even_l1", "even_distance", "mean_shift"):
        print(f"\n{name}: negative in {np.sum(getattr(effects, name) < 0)} of {effects.l1.size - effects.n_failed}", end="")
    print("\n\nboundary in the column mean\n")
    boundary_table(effects, alphas, means, rules)
    print("\nsigns foreseen\n")
    agreement_table(effects, alphas, rules)
    sys.stdout.flush()


def mechanism_section(progress: Progress) -> None:
    """Print what makes the changes, and the test by signs."""
    print("\n## mechanism, noise 0, gamma = 0.05, epsilon = 0.1; changes of the l1 norm in percent\n")
    mechanism_table((1e-3, 1e-2, 1e-1, 1.0), (0.0, 1.0, 2.25, 3.0), SEEDS, progress)
    print("\n## signs, noise 0; share of seeds with a lower l1 norm (median change, %)\n")
    signs_table((1e-3, 1e-2, 1e-1), (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.25, 3.0), SEEDS, progress)
    sys.stdout.flush()


def rules_section(progress: Progress) -> None:
    """Print what the other rules do."""
    families = scheme_rules()
    rules = [rule for family in families.values() for rule in family]
    names = [name for name, family in families.items() for _ in family]
    alphas, means = (1e-3, 1e-2, 1e-1, 1.0), (0.0, 2.25)
    effects = run_all(0.0, alphas, means, rules, SEEDS, progress=progress)
    print(f"\n## rules, noise 0: share of runs with lower l1 norm, distance; {effects.n_failed} do not fit\n")
    rules_table(effects, names, alphas, means)
    print("\nmedian change of the l1 norm, %\n")
    steps_table(effects, rules, alphas, means)
    sys.stdout.flush()


SECTIONS = {"grid": grid_section, "noise": noise_section, "mechanism": mechanism_section, "rules": rules_section}


def main(names: Sequence[str]) -> None:
    """Compute and print the sections named, or all."""
    from tqdm import tqdm

    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        raise SystemExit(f"no section {unknown[0]!r}: name some of {', '.join(SECTIONS)}, or none for all")
    for name in names or SECTIONS:
        SECTIONS[name](tqdm if sys.stderr.isatty() else None)


if __name__ == "__main__":
    main(sys.argv[1:])
