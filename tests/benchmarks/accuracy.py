"""The error estimate of a flow against its true error, over random problems; the numbers quoted in docs/accuracy.md.

``python tests/benchmarks/accuracy.py [PROBLEMS]``.  The true error is that of beta (relative, 2-norm) or of alpha_eff
(relative, largest), whichever is more, against a run at rtol 1e-12.
"""

import sys

import numpy as np

import dln

RTOLS = (1e-4, 1e-6, 1e-8)
LOOSE = {"gradient-flow": (0.1, 0.5), "gr": (0.01, 0.05), "sam": (0.01, 0.05)}  # and the loosest that there are
METHODS = ("auto", "explicit", "rosenbrock")


def draw(rng):
    """Return (problem, rule, keywords) of one random run."""
    n, d = int(rng.integers(1, 31)), int(rng.integers(1, 61))
    X = rng.standard_normal((n, d)) + rng.uniform(-1, 1)
    problem = dln.Problem(X, X @ (rng.standard_normal(d) * (rng.random(d) < 0.3)) + 0.1 * rng.standard_normal(n))
    gamma, epsilon = rng.uniform(0.001, 0.02), rng.uniform(0.01, 0.1)
    rule = [
        dln.GradientFlow(),
        dln.GradientRegularization(gamma, epsilon),
        dln.GradientRegularization(gamma, epsilon, scheme="centered"),
        dln.GradientRegularization(gamma, scheme="exact"),
        dln.SAM(epsilon),
        dln.WeightDecay(gamma),
    ][rng.integers(6)]
    return problem, rule, {"alpha": 10.0 ** rng.uniform(-6, 0), "t_end": 10.0 ** rng.uniform(0, 3)}


def true_error(run, reference):
    norm = np.linalg.norm(reference.beta)
    of_beta = np.linalg.norm(run.beta - reference.beta) / norm if norm > 0 else 0.0
    return max(of_beta, np.abs(np.expm1(run.log_effective_alpha - reference.log_effective_alpha)).max())


def measure(n_problems=300, seed=1):
    """Return rows (method, rtol, true error, estimate, rule) of runs that ended well."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n_problems):
        problem, rule, keywords = draw(rng)
        reference = dln.flow(problem, rule, rtol=1e-12, **keywords)
        if not reference.success:
            continue
        for method in METHODS:
            for rtol in RTOLS:
                run = dln.flow(problem, rule, rtol=rtol, method=method, max_steps=20_000, **keywords)
                if run.success:
                    rows.append((method, rtol, true_error(run, reference), run.error_estimate, rule.name))
    return rows


def measure_loose(n_problems=300, seed=1):
    """Return a dict from (rule, rtol) to the pairs (true error, estimate) of runs that ended well, of `LOOSE`.

    Penalties are up to ten times stronger here.
    """
    rng = np.random.default_rng(seed)
    pairs = {(name, rtol): [] for name, rtols in LOOSE.items() for rtol in rtols}
    for k in range(n_problems):
        problem, _, keywords = draw(rng)
        strength, step = 10.0 ** rng.uniform(-3, np.log10(0.5), 2)
        for rule in (dln.GradientFlow(), dln.GradientRegularization(strength, step, ("forward", "backward")[k % 2]),
                     dln.SAM(strength)):
            reference = dln.flow(problem, rule, rtol=1e-11, max_steps=20_000, **keywords)
            for rtol in LOOSE[rule.name] if reference.success else ():
                run = dln.flow(problem, rule, rtol=rtol, max_steps=20_000, **keywords)
                if run.success:
                    pairs[rule.name, rtol].append((true_error(run, reference), run.error_estimate))
    return pairs


def loose_table(pairs):
    lines = ["| rule | rtol | runs | true error / rtol: median | 95 % | max | estimate below the true error |",
             "|---|---|---|---|---|---|---|"]
    for (name, rtol), group in pairs.items():
        true, estimate = np.array(group).T
        parts = true / rtol
        lines.append(f"| {name} | {rtol:g} | {len(true)} | {np.median(parts):.1g} | {np.quantile(parts, 0.95):.2g} | "
                     f"{parts.max():.2g} | {np.count_nonzero(estimate < true)} |")
    return "\n".join(lines)


def table(rows):
    lines = ["| method | rtol | runs | true error / rtol: median | max | above 3 | estimate / true: median | 5 % | min | "
             "below 1 |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    for method in METHODS:
        for rtol in RTOLS:
            group = [(true, estimate) for m, tol, true, estimate, _ in rows if (m, tol) == (method, rtol)]
            true, estimate = np.array(group).T
            known = true > 1e-12  # below, the reference is no better
            ratio = estimate[known] / true[known]
            lines.append(f"| {method} | {rtol:.0e} | {len(true)} | {np.median(true) / rtol:.2g} | {true.max() / rtol:.2g} | "
                         f"{np.count_nonzero(true > 3 * rtol)} | {np.median(ratio):.2g} | {np.quantile(ratio, 0.05):.2g} | "
                         f"{ratio.min():.2g} | {np.count_nonzero(ratio < 1)} of {known.sum()} |")
    return "\n".join(lines)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    print(table(measure(count)))
    print(loose_table(measure_loose(count)))
