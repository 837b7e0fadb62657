"""Least l1 norm, the face of all its minimisers, and the one that a flow selects."""

import math
import pickle

import mpmath
import numpy as np
import pytest
from random_data import data
from scipy.optimize import linprog

import dln
from dln import Problem, SparseMinimizer, basis_pursuit, minimize_potential
from dln._l1 import Scaled, _programme, least_l1
from theory import _faces

FAMILIES = ("fewer samples", "more samples", "correlated", "integers", "signs", "repeated", "low rank")


def draw(family, seed):
    """Return a random problem: half of the targets are interpolated by a sparse vector, half are generic."""
    rng = np.random.default_rng([FAMILIES.index(family), seed])
    n, d = sorted(rng.integers(2, 40, 2))
    if family == "more samples":
        n, d = d + 1, n
    X = rng.standard_normal((n, d))
    if family == "correlated":
        X = 0.1 * X + math.sqrt(0.99) * rng.standard_normal((n, 1))
    elif family in ("integers", "signs"):  # many columns reach their bound together
        X = rng.integers(-2, 3, (n, d)).astype(float) if family == "integers" else rng.choice([-1.0, 1.0], (n, d))
    elif family == "repeated":
        X = X[rng.integers(0, n, n)][:, rng.integers(0, d, d)] * rng.choice([-1.0, 1.0], d)
    elif family == "low rank":
        X = X[:, : 1 + n // 2] @ rng.standard_normal((min(d, 1 + n // 2), d))
    truth = np.round(3.0 * rng.standard_normal(d)) * (rng.random(d) < 0.2)
    y = X @ truth
    if seed % 2:
        y = y + (rng.integers(-2, 3, n) if family in ("integers", "signs") else rng.standard_normal(n))
    return Problem(X, y)


def relative(a, b):
    return float(np.max(np.abs(a - b)) / np.max(np.abs(b)))


# Optimal ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_homotopy_alone_certifies_itself(family):
    # Reference: optimality: normal equations, |x_j.dual| <= 1, on the support the sign of beta, strong duality.
    for seed in range(30):
        problem = draw(family, seed)
        best = basis_pursuit(problem)
        assert best.success and max(best.residual, best.duality_gap) <= 1e-12, (seed, best.message)
        assert "homotopy" in best.message or not best.objective
        X, y = problem.X, problem.y
        scale = np.linalg.norm(X, 2) * np.linalg.norm(y)
        assert np.max(np.abs(X.T @ (X @ best.beta - y))) <= 1e-12 * scale, seed
        products = X.T @ best.dual
        assert np.max(np.abs(products)) <= 1.0 + 1e-11
        support = best.beta != 0.0
        np.testing.assert_allclose(products[support], np.sign(best.beta[support]), rtol=0, atol=1e-10)
        assert best.objective == pytest.approx(y @ best.dual, rel=1e-11)
        for b in (best.beta, best.vertex):
            assert np.sum(np.abs(b)) == pytest.approx(best.objective, rel=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_value_against_a_linear_programme(family):
    # Reference: HiGHS on the least-squares constraint X^T X b = X^T y as it stands, in 2 d nonnegative variables.
    for seed in range(12):
        problem = draw(family, seed)
        rows = problem.row_space
        d = problem.n_features
        found = linprog(np.ones(2 * d), A_eq=np.hstack([rows.X, -rows.X]), b_eq=rows.y, bounds=(0, None), method="highs")
        assert basis_pursuit(problem).objective == pytest.approx(found.fun, rel=1e-7, abs=1e-9), seed


def test_large_data_with_and_without_a_sparse_truth():
    # Reference: the truth; the dual certificate.
    rng = np.random.default_rng(0)
    X, truth = rng.standard_normal((80, 600)), np.zeros(600)
    truth[:12] = rng.standard_normal(12)
    np.testing.assert_allclose(basis_pursuit(Problem(X, X @ truth)).beta, truth, rtol=0, atol=1e-14)
    best = basis_pursuit(Problem(X, rng.standard_normal(80)))
    assert best.success and np.count_nonzero(best.beta) == 80 and best.n_iterations > 80 and "homotopy" in best.message


def test_the_linear_programme_stands_in_and_agrees(monkeypatch):
    # Reference: the homotopy.
    problem = draw("fewer samples", 1)
    scaled = Scaled.of(problem.X, problem.y, np.ones(problem.n_features), by_rows=True)
    one, other = least_l1(scaled.A, scaled.y), _programme(scaled.A, scaled.y)
    assert other.good and other.solver == "HiGHS"
    np.testing.assert_allclose(other.x, one.x, atol=1e-13)
    monkeypatch.setattr("dln._l1.Homotopy.follow", lambda *_: False)  # caught at once
    best = basis_pursuit(problem)
    assert best.success and "pairs of floats" in best.message  # the simplex method, from no support at all
    np.testing.assert_allclose(best.beta, scaled.original(one.x), rtol=0, atol=1e-13)
    monkeypatch.setattr("dln._l1_exact.least_l1", lambda *_: None)
    best = basis_pursuit(problem)
    assert best.success and "HiGHS" in best.message
    np.testing.assert_allclose(best.beta, scaled.original(one.x), rtol=0, atol=1e-13)


def test_what_no_solver_solves_is_said_to_be_so(monkeypatch):
    # Reference: the certificate of a zero vector: a residual of 1.
    monkeypatch.setattr("dln._l1.Homotopy.follow", lambda *_: False)
    monkeypatch.setattr("dln._l1_exact.least_l1", lambda *_: None)
    monkeypatch.setattr("dln._l1._programme", lambda A, y: least_nothing(A, y))
    best = basis_pursuit(draw("fewer samples", 1))
    assert not best.success and best.status == "not certified" and best.residual == 1.0


def least_nothing(A, y):
    from dln._l1 import certify

    return certify(A, y, np.zeros(A.shape[1]), np.zeros(len(y)), 0, "HiGHS")


@pytest.mark.parametrize(("x", "y"), [(1e-12, 1.0), (1e12, 1e-12), (1e-12, 1e12), (1e150, 1e-100), (1e-200, 1e-200)])
def test_scales_of_the_data_change_nothing(x, y):
    # Reference: homogeneity, of the minimiser, of the dual, of the face and the gap; on data with many minimisers as well.
    for problem in (draw("fewer samples", 3), draw("repeated", 4), draw("signs", 8)):
        one, other = basis_pursuit(problem), basis_pursuit(Problem(x * problem.X, y * problem.y))
        assert other.success and relative(other.beta * (x / y), one.beta) <= 1e-12
        assert other.face.tolist() == one.face.tolist() and other.unique == one.unique
        assert other.gap == pytest.approx(one.gap, rel=1e-9)
        np.testing.assert_allclose(x * (problem.X.T @ other.dual), problem.X.T @ one.dual, rtol=0, atol=1e-11)


def test_rows_of_very_different_sizes():
    # Reference: X b = y does not change when its rows are scaled.
    problem = data("noisy", 8, 20)
    factor = 10.0 ** np.arange(-24, 24, 6)
    best = basis_pursuit(Problem(factor[:, None] * problem.X, factor * problem.y))
    assert best.success
    np.testing.assert_allclose(best.beta, basis_pursuit(problem).beta, rtol=0, atol=1e-13)


def test_degenerate_data_have_a_face(degenerate):
    # Reference: minimisers of the potential at ever smaller scales, while they are certified; the face supports them all.
    name, X, y = degenerate
    problem = Problem(X, y)
    best = basis_pursuit(problem)
    assert isinstance(best, SparseMinimizer) and best.success and best.residual <= 1e-12, (name, best.message)
    assert best.gap > 0.0
    off = np.delete(np.arange(X.shape[1]), best.face)
    assert not best.beta[off].any() and not best.vertex[off].any()
    assert np.all(best.beta[best.face] * best.face_signs > 0.0)
    unit = 0.5 * math.log(np.max(np.abs(best.beta)))
    near = minimize_potential(problem, log_alpha=unit - 2000.0)
    assert near.success and relative(near.beta, best.beta) <= 1e-10, name


# Many minimisers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["repeated", "signs", "integers"])
@pytest.mark.parametrize("depth", [2, 3, 2.5])
def test_selected_minimisers_against_another_solver(family, depth):
    # Reference: theory's least_l1 and select: SciPy's linear programmes and Newton's method in the null space.
    compared = 0
    selection = _faces.fractional(depth)
    for seed in range(30):
        problem = draw(family, seed)
        if not problem.y.any():
            continue
        rng = np.random.default_rng(seed)
        shape = np.exp(rng.uniform(-1.0, 1.0, problem.n_features)) if depth == 2 else np.ones(problem.n_features)
        try:
            face = _faces.least_l1(problem.X, problem.y, np.ones(problem.n_features))
            chosen = _faces.select(face, problem.X, problem.y, _faces.entropy(shape) if depth == 2 else selection)
        except _faces.RouteError:  # a face with all columns, or no end of its search
            continue
        best = basis_pursuit(problem, depth=depth, shape=shape)
        assert best.success and best.face.tolist() == face.places.tolist()
        assert relative(best.beta, chosen) <= 1e-9, seed
        assert best.gap >= face.gap - 1e-9  # its dual is the one with most slack, or any
        compared += not best.unique
    assert compared >= 2


@pytest.mark.parametrize("family", ["repeated", "signs", "fewer samples"])
def test_small_scales_tend_to_the_selected_minimiser(family):
    # Reference: the potential's minimisers at ever smaller scales: T18; their distance falls as alpha^(2 gap).
    compared = 0
    for seed in range(10):
        problem = draw(family, seed)
        shape = np.exp(np.random.default_rng(seed).uniform(-1.0, 1.0, problem.n_features))
        best = basis_pursuit(problem, shape=shape)
        if best.gap > 0.1 or problem.n_samples > problem.n_features:
            continue
        distances = []
        for log_alpha in (-50.0, -200.0, -800.0, -3200.0):
            near = minimize_potential(problem, log_alpha=log_alpha + np.log(shape))
            if near.success:
                distances.append(max(relative(near.beta, best.beta), 1e-11))
        assert all(np.diff(distances) <= 0.0) and distances[-1] == 1e-11, (seed, distances)
        compared += distances[0] > 1e-9
    assert compared >= 1


@pytest.mark.parametrize("family", ["repeated", "signs", "fewer samples", "integers"])
def test_the_minimiser_at_alpha_1e_100(family):
    # Reference: the potential's minimiser at alpha = 1e-100, where the gap exceeds 0.1: alpha^(2 gap) < 1e-20.
    compared = 0
    for seed in range(30):
        problem = draw(family, seed)
        best = basis_pursuit(problem)
        if not best.gap > 0.1 or not problem.y.any():
            continue
        near = minimize_potential(problem, alpha=1e-100)
        if near.success:
            compared += 1
            assert relative(near.beta, best.beta) <= 1e-10, seed
    assert compared >= 3


@pytest.mark.parametrize("seed", range(4))
def test_flows_from_alpha_1e_100_reach_it(seed):
    # Reference: the flow itself; the gap is above 0.1, columns are equal and opposite.
    rng = np.random.default_rng(seed)
    X, truth = rng.standard_normal((16, 30)), np.zeros(30)
    X[:, 20], X[:, 21] = X[:, 0], -X[:, 1]
    truth[[0, 1, 2]] = 1.0, -2.0, 0.5
    problem = Problem(X, X @ truth)
    best = basis_pursuit(problem)
    assert best.gap > 0.1 and not best.unique and len(best.face) == 5
    run = dln.flow(problem, alpha=1e-100, residual_tol=1e-13)
    assert run.success and relative(run.beta, best.beta) <= 1e-10


def test_equal_and_opposite_columns_share_by_shape():
    # Reference: closed forms: m_j in proportion to shape_j^2 at depth 2, equal at depth 4 with weights that are equal.
    X = [[1.0, 1.0, -1.0, 0.5]]
    best = basis_pursuit(Problem(X, [2.0]), shape=[1.0, 2.0, 3.0, 1.0])
    np.testing.assert_allclose(best.beta, [2 / 14, 8 / 14, -18 / 14, 0.0], rtol=1e-13)
    assert best.face.tolist() == [0, 1, 2] and best.face_signs.tolist() == [1.0, 1.0, -1.0] and not best.unique
    assert best.gap == pytest.approx(0.5, rel=1e-14) and np.count_nonzero(best.vertex) == 1
    np.testing.assert_allclose(basis_pursuit(Problem(X, [2.0]), depth=4).beta, [2 / 3, 2 / 3, -2 / 3, 0.0], rtol=1e-13)


def test_many_equal_columns_need_no_programme(monkeypatch):
    # Reference: closed forms: 300 columns, equal or opposite, share the one entry; of the others none can take part.
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], 300)
    a = rng.standard_normal(20)
    X = np.hstack([np.outer(a, signs), rng.standard_normal((20, 30))])
    monkeypatch.setattr("dln._l1_face._room", lambda *_: pytest.fail("a linear programme for columns that are equal"))
    best = basis_pursuit(Problem(X, 2.0 * a))
    assert best.success and best.face.tolist() == list(range(300)) and not best.unique
    np.testing.assert_allclose(best.beta, np.append(signs * 2.0 / 300.0, np.zeros(30)), rtol=1e-12)


def test_weights_of_powers_of_a_scale():
    # Reference: alpha_j = c^(k_j) with c = e^-2000: weights k, and among columns of equal weight the larger entropy.
    k = np.array([1.0, 1.5, 1.5, 1.0, 2.0, 1.2])
    X = np.random.default_rng(3).standard_normal((2, 6))
    X[:, 1] = 1.5 * X[:, 0]  # costs as much per unit of X b
    problem = Problem(X, [1.0, 2.0])
    best = basis_pursuit(problem, k)
    near = minimize_potential(problem, log_alpha=-2000.0 * k)
    assert near.success and relative(near.beta, best.beta) <= 1e-9


@pytest.mark.parametrize("depth", [2.5, 3, 6])
def test_shapes_weigh_at_depth_above_2(depth):
    # Reference: the potential of depth D at a small scale with this shape; on equal columns the selection too.
    X = np.random.default_rng(5).standard_normal((3, 8))
    X[:, 7] = X[:, 0]
    problem, shape = Problem(X, [1.0, -1.0, 2.0]), np.exp(np.random.default_rng(6).uniform(-0.5, 0.5, 8))
    shape[7] = shape[0]
    best = basis_pursuit(problem, depth=depth, shape=shape)
    near = minimize_potential(problem, depth=depth, log_alpha=-60.0 / (depth - 2.0) + np.log(shape))
    assert best.success and near.success and relative(near.beta, best.beta) <= 1e-9
    assert best.objective == pytest.approx(np.sum(shape ** (2.0 - depth) * np.abs(best.beta)), rel=1e-13)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.03, 0.01])
def test_an_entry_of_exponentially_small_size(share):
    # Reference: stationarity along the face, (1, -1, share): log(m_1) - log(m_2) + share log(m_3) = 0, in 60 digits.
    A = np.array([[1.0, 1.0 + share, 1.0], [0.0, share, 1.0]])  # the first row is the weights: all interpolators cost the same
    best = basis_pursuit(Problem(A, A @ [0.9, 0.1, 0.0]), A[0])
    with mpmath.workdps(60):
        start = mpmath.matrix([mpmath.mpf(0.9), mpmath.mpf(0.1)])

        def entries(m):
            return start[0] + m / share, start[1] - m / share, m

        log_m = mpmath.findroot(lambda t: mpmath.log(entries(mpmath.exp(t))[0] / entries(mpmath.exp(t))[1]) + share * t,
                                -mpmath.log(9) / share - mpmath.mpf("0.5"))
        exact = [float(v) for v in entries(mpmath.exp(log_m))]
    assert best.success and not best.unique and best.face.tolist() == [0, 1, 2]
    np.testing.assert_allclose(best.beta, exact, rtol=0, atol=1e-13)


def test_the_gap_is_that_of_the_best_multipliers():
    # Reference: the linear programme max t s.t. x_j.nu = sign on the face, |x_j.nu| <= 1 - t off it, by HiGHS.
    compared = 0
    for family in ("fewer samples", "signs", "repeated", "more samples"):
        for seed in range(0, 16, 2):  # sparse truths: many multipliers
            best, rows = basis_pursuit(draw(family, seed)), draw(family, seed).row_space
            off = np.delete(np.arange(rows.X.shape[1]), best.face)
            if off.size == 0 or best.face.size == 0:
                continue
            n, on_face = rows.rank, rows.X[:, best.face].T
            found = linprog(np.append(np.zeros(n), -1.0), A_eq=np.column_stack([on_face, np.zeros(best.face.size)]),
                            b_eq=best.face_signs, bounds=(None, None), b_ub=np.ones(2 * off.size),
                            A_ub=np.column_stack([np.vstack([rows.X[:, off].T, -rows.X[:, off].T]), np.ones(2 * off.size)]))
            assert best.gap == pytest.approx(-found.fun, rel=1e-6, abs=1e-7), (family, seed)
            compared += n > np.count_nonzero(best.vertex)
    assert compared >= 10


# Refusals --------------------------------------------------------------------------------------------------------------


def test_bad_arguments_are_named():
    # Reference: the messages.
    problem = Problem([[1.0, 2.0]], [1.0])
    for message, arguments in {
        r"^shape\[1\] must be positive and finite, got 0\.0$": {"shape": [1.0, 0.0]},
        r"^shape must be a number or have shape \(2,\)": {"shape": [1.0, 1.0, 1.0]},
        r"^give weights or shape, not both: at depth 3 the weights": {"shape": 2.0, "weights": [1.0, 1.0], "depth": 3},
        r"^weights must have shape \(2,\)": {"weights": [1.0]},
        r"depth": {"depth": 1.5},
    }.items():
        with pytest.raises(ValueError, match=message):
            basis_pursuit(problem, **arguments)


def test_nothing_to_fit_has_an_empty_face():
    # Reference: y = 0 or X = 0: beta = 0 is the one minimiser.
    for X, y in (([[1.0, 2.0]], [0.0]), ([[0.0, 0.0]], [1.0])):
        best = basis_pursuit(Problem(X, y))
        assert best.success and best.unique and best.face.size == 0 and best.gap == 1.0 and not best.beta.any()


def test_repr_and_pickle():
    # Reference: one line that says how many; a copy has the same gap.
    best = basis_pursuit(Problem([[1.0, 1.0, 0.25]], [2.0]))
    assert repr(best).startswith("SparseMinimizer(optimal: objective=2, 1 entries, face of 2, ") and "\n" not in repr(best)
    assert pickle.loads(pickle.dumps(best)).gap == best.gap == 0.75
    assert "many minimisers, on a face of 2 coordinates" in best.message
