"""Minimisers on data that floats can hardly solve, against the same support and signs in rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest

from dln import Problem, _pairs, basis_pursuit, lasso, lasso_path

CASES = ("column scales", "near copies", "near copies, sparse", "Hilbert", "Hilbert, fitted", "kernel", "powers", "row scales")


def draw(name):
    """Return data whose columns, or rows, are of 16 decades, or dependent but for their last digits."""
    rng = np.random.default_rng(CASES.index(name))
    X = rng.standard_normal((12, 30))
    y = rng.standard_normal(12)
    i, j = np.arange(8)[:, None], np.arange(20)[None, :]
    if name == "column scales":
        X = X * 10.0 ** rng.permutation(np.linspace(-8, 8, 30))
    elif name.startswith("near copies"):
        X[:, 15:] = X[:, :15] + 1e-9 * rng.standard_normal((12, 15))
        y = X[:, 1] + 2.0 * X[:, 16] - X[:, 5] if "sparse" in name else y
    elif name.startswith("Hilbert"):
        X = 1.0 / (1 + i + j)
        y = X @ np.ones(20) if "fitted" in name else y[:8]
    elif name == "kernel":
        X = np.exp(-0.5 * ((np.linspace(0, 1, 12)[:, None] - np.linspace(0, 1, 40)) / 0.15) ** 2)
    elif name == "powers":
        X, y = np.linspace(0.1, 1, 30) ** np.arange(10)[:, None], y[:10]
    elif name == "row scales":
        X = 10.0 ** np.linspace(-8, 8, 12)[:, None] * X
    return Problem(X, y)


def exact(matrix):
    return [[Fraction(float(v)) for v in row] for row in np.asarray(matrix)]


def solve(matrix, right):
    """Solve a square system of fractions by elimination."""
    rows = [[*row, b] for row, b in zip(matrix, right, strict=True)]
    for k in range(len(rows)):
        at = max(range(k, len(rows)), key=lambda i: abs(rows[i][k]))
        rows[k], rows[at] = rows[at], rows[k]
        for i in range(len(rows)):
            if i != k and rows[i][k]:
                factor = rows[i][k] / rows[k][k]
                rows[i] = [a - factor * b for a, b in zip(rows[i], rows[k], strict=True)]
    return [row[-1] / row[k] for k, row in enumerate(rows)]


def optimum(problem, support, signs, penalty=None):
    """Return entries on the support, and excess over its bound of the products off it, in rationals.

    With a penalty those of the Lasso: ``X_S^T (y - X_S b) = penalty signs``; without, of ``X_S b = y``, ``X_S^T nu = signs``.
    """
    X, y, s = exact(problem.X), exact([problem.y])[0], [Fraction(int(v)) for v in signs]
    chosen = [[row[j] for j in support] for row in X]
    transposed = [list(column) for column in zip(*chosen, strict=True)]
    if penalty is None:
        b, nu = solve(chosen, y), solve(transposed, s)
    else:
        lam = Fraction(float(penalty)) * 2 * len(y)
        gram = [[sum(p * q for p, q in zip(u, v, strict=True)) for v in transposed] for u in transposed]
        b = solve(gram, [sum(p * q for p, q in zip(u, y, strict=True)) - lam * v for u, v in zip(transposed, s, strict=True)])
        nu = [(yi - sum(p * q for p, q in zip(row, b, strict=True))) / lam for row, yi in zip(chosen, y, strict=True)]
    products = [sum(row[j] * v for row, v in zip(X, nu, strict=True)) for j in range(problem.n_features)]
    return b, max(abs(v) for v in products) - 1


def least_gap(problem, best):
    """Return by how much the l1 norm is above ``y.nu``, relative to it, nu being the dual made feasible, in rationals."""
    X, (y, nu, beta) = exact(problem.X), (exact([vector])[0] for vector in (problem.y, best.dual, best.beta))
    products = [sum(row[j] * v for row, v in zip(X, nu, strict=True)) for j in range(problem.n_features)]
    bound = sum(a * b for a, b in zip(y, nu, strict=True)) / max(1, *(abs(v) for v in products))
    norm = sum(abs(b) for b in beta)
    return (norm - bound) / norm


@pytest.mark.parametrize("name", CASES)
def test_least_l1_norm_to_the_last_digit(name):
    # Reference: rational arithmetic: a basis that is dual feasible to 1e-12 and whose signs are right is optimal.
    problem = draw(name)
    best = basis_pursuit(problem)
    assert best.success and best.duality_gap <= 1e-12, best.message
    assert best.residual <= 1e-12 or best.backward_error <= 1e-15
    support = np.flatnonzero(best.beta)
    if name == "near copies, sparse" and len(support) < problem.n_samples:
        # The truth fits y to rounding; in arithmetic without any, more entries of 1e-16 would account for that as well.
        assert least_gap(problem, best) <= Fraction(1, 10**12)
        return
    assert len(support) == problem.n_samples
    entries, excess = optimum(problem, support, np.sign(best.beta[support]))
    assert excess <= Fraction(1, 10**12)
    assert all(b * int(s) > 0 for b, s in zip(entries, np.sign(best.beta[support]), strict=True))
    np.testing.assert_allclose(best.beta[support], [float(b) for b in entries], rtol=4e-16,
                               atol=1e-25 * np.abs(best.beta).max())
    assert best.unique


def test_a_residual_that_no_floats_avoid_is_explained():
    # Reference: sizes: entries of 1e8, rounded, miss y by about 1e-8; those of fitted data do not.
    best = basis_pursuit(draw("Hilbert"))
    assert best.success and best.residual > 1e-12 and "before its entries were rounded" in best.message
    fitted = basis_pursuit(draw("Hilbert, fitted"))
    assert fitted.residual <= 1e-15 and "rounded" not in fitted.message


@pytest.mark.parametrize("name", CASES)
def test_the_lasso_at_small_penalties(name):
    # Reference: conditions of optimality in rational arithmetic.
    problem = draw(name)
    top = np.max(np.abs(problem.X.T @ problem.y)) / (2 * problem.n_samples)
    for share in (1e-1, 1e-5, 1e-9):
        best = lasso(problem, share * top)
        assert best.success and best.duality_gap <= 1e-12, best.message
        support = np.flatnonzero(best.beta)
        entries, excess = optimum(problem, support, np.sign(best.beta[support]), share * top)
        assert excess <= Fraction(1, 10**6)  # of that penalty; what it weighs is small as the gap says
        # Copies that differ by 1e-9 share an entry in nearly any way: an error of 1e-15 moves 1e-6 from one to the other.
        shared = 1e-6 * np.abs(best.beta).max() if name == "near copies, sparse" else 0.0
        np.testing.assert_allclose(best.beta[support], [float(b) for b in entries], rtol=1e-6,
                                   atol=max(1e-9 * np.abs(best.beta).max(), shared))


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("row scales", "kernel")])
def test_whole_paths_are_certified_between_their_knots(name):
    # Reference: `lasso` at penalties between the knots; objectives, since near copies share an entry in any way.
    problem = draw(name)
    path = lasso_path(problem)
    assert path.success and path.duality_gap <= 1e-12 and path.penalties[-1] == 0.0, path.message
    assert np.all(np.diff(path.penalties) < 0.0)
    ends = path.penalties[path.penalties > 1e-6 * path.penalties[0]]
    for penalty in (0.3 * ends[:-1] + 0.7 * ends[1:])[::5]:
        def objective(beta, penalty=penalty):
            return problem.loss(beta) + penalty * np.sum(np.abs(beta))
        best = lasso(problem, penalty)
        assert objective(path.at(penalty)) == pytest.approx(objective(best.beta), rel=1e-10)


def test_a_path_among_many_near_copies():
    # Reference: the certificate between knots; entries turn 1e9 times as fast as those of the columns alone.
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 300))
    X[:, 150:] = X[:, :150] + 1e-9 * rng.standard_normal((100, 150))
    path = lasso_path(Problem(X, rng.standard_normal(100)))
    assert path.success and path.penalties[-1] == 0.0, path.message


def test_numerically_rank_deficient_data_are_said_to_be():
    # Reference: the singular values of a Gaussian kernel, which fall to rounding without a gap.
    s = np.linspace(0, 1, 40)
    X = np.exp(-0.5 * ((s[:, None] - np.linspace(0, 1, 60)) / 0.15) ** 2)
    problem = Problem(X, np.random.default_rng(0).standard_normal(40))
    best = basis_pursuit(problem)
    assert problem.row_space.rank < 40
    rank = problem.row_space.rank
    assert f"rank-deficient: its singular values fall to rounding without a gap, {rank} of 40 were kept" in best.message
    assert "drop samples or features that nearly repeat others, or use dln.lasso" in best.message
    clear = np.random.default_rng(1).standard_normal((5, 9))
    assert "rank-deficient" not in basis_pursuit(Problem(np.vstack([clear, clear]), np.ones(10))).message
    path = lasso_path(problem)
    assert path.success or ("certified down to penalty" in path.message and "rank-deficient" in path.message)


def test_pairs_of_floats_carry_31_digits():
    # Reference: rational arithmetic.
    rng = np.random.default_rng(0)
    A = rng.standard_normal((7, 7)) * 10.0 ** rng.uniform(-6, 6, (7, 7))
    x = np.stack([rng.standard_normal(7), 1e-17 * rng.standard_normal(7)])
    exact_x = [Fraction(a) + Fraction(b) for a, b in x.T.tolist()]

    def value(pair):
        return Fraction(float(pair[0])) + Fraction(float(pair[1]))

    def worst(found, rows, vector):
        for k, row in enumerate(rows):
            terms = [a * b for a, b in zip(row, vector, strict=True)]
            assert abs(value(found[:, k]) - sum(terms)) <= Fraction(1, 10**30) * sum(abs(t) for t in terms)

    rows = exact(A)
    worst(_pairs.product(A, x), rows, exact_x)
    worst(_pairs.product(_pairs.pairs(A), x), rows, exact_x)
    gram = _pairs.gram(A)
    for i in range(7):
        worst(np.ascontiguousarray(gram[:, i]), [rows[k] for k in range(7)], rows[i])
    inverse = _pairs.inverse(A)
    columns = [solve(rows, [Fraction(int(i == k)) for i in range(7)]) for k in range(7)]
    for i in range(7):
        for k in range(7):
            assert abs(value(inverse[:, i, k]) - columns[k][i]) <= Fraction(1, 10**20) * max(abs(v) for v in columns[k])
    changed = A.copy()
    changed[:, 2] = rng.standard_normal(7)
    _pairs.replaced(inverse, _pairs.product(inverse, _pairs.pairs(changed[:, 2])), 2)
    for k in range(7):
        np.testing.assert_allclose(_pairs.product(inverse, _pairs.pairs(changed[:, k]))[0], np.eye(7)[k], rtol=0, atol=1e-18)
    assert _pairs.inverse(np.ones((3, 3))) is None
