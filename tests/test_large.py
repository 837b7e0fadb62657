"""Large problems: the kept Gram matrix, LAPACK's factorisation, and runs that use them."""

import numpy as np
import pytest

import dln
from dln._gram import add_product, add_square_of_upper
from dln._large import forget_gram, keeps_gram, mirror, update_gram
from dln._linalg import cholesky, cholesky_solve


def gram_of(M, diagonal):
    upper = np.triu(M, 1)
    return upper + upper.T + np.diag(diagonal)


@pytest.mark.parametrize(("n", "d"), [(1, 1), (33, 301), (160, 129), (65, 40)])
def test_the_gram_matrix_is_exact_where_no_error_is_allowed(n, d):
    # Reference: NumPy's product; the weights grow, shrink and vanish.
    rng = np.random.default_rng(n)
    X = rng.standard_normal((n, d))
    known, M, diagonal = np.zeros(d), np.zeros((n, n)), np.zeros(n)
    for _ in range(4):
        weight = rng.random(d) * (rng.random(d) < 0.7)
        M[np.tril_indices(n)] = np.nan  # where the factor of the step before is
        update_gram(X, weight, 0.0, 0.0, known, M, diagonal)
        np.testing.assert_array_equal(known, weight)
        np.testing.assert_allclose(gram_of(M, diagonal), (X * weight) @ X.T, rtol=0, atol=1e-12 * d)
    mirror(M)
    np.testing.assert_array_equal(np.tril(M, -1), np.triu(M, 1).T)
    forget_gram(known, M, diagonal)
    assert not known.any() and not np.triu(M, 1).any() and not diagonal.any()


def test_the_error_of_the_gram_matrix_is_within_its_bound():
    # Reference: ``-B <= K - X W X^T <= B`` with ``B = share X W X^T + floor X X^T``, by eigenvalues.  Columns that are nearly
    # parallel are the worst case for a bound on each of them alone.
    rng = np.random.default_rng(3)
    X = rng.standard_normal((20, 1)) + 0.1 * rng.standard_normal((20, 300))
    known, M, diagonal = np.zeros(300), np.zeros((20, 20)), np.zeros(20)
    share, floor, weight = 0.1, 1e-3, 10.0 ** rng.uniform(-5, 0, 300)
    skipped = 0
    for _ in range(6):
        before = known.copy()
        update_gram(X, weight, share, floor, known, M, diagonal)
        skipped += np.count_nonzero(known == before)
        bound = share * (X * weight) @ X.T + floor * X @ X.T
        off = gram_of(M, diagonal) - (X * weight) @ X.T
        rounding = 1e-12 * np.trace(bound)
        assert np.linalg.eigvalsh(bound - off)[0] >= -rounding
        assert np.linalg.eigvalsh(bound + off)[0] >= -rounding
        weight = weight * np.exp(rng.normal(0.0, 0.2, 300))
    assert skipped > 300


@pytest.mark.parametrize("n", [299, 301, 333])
def test_cholesky_on_both_sides_of_lapack(n):
    # Reference: NumPy.  The upper triangle keeps what it holds.
    rng = np.random.default_rng(n)
    A = rng.standard_normal((n, n + 5))
    S = A @ A.T
    M = np.where(np.tri(n, dtype=bool), S, 7.0)
    assert cholesky(M)
    L = np.linalg.cholesky(S)
    factor = np.tril(M, -1) + np.diag(1.0 / np.diag(M))
    np.testing.assert_allclose(factor, L, rtol=0, atol=1e-9 * np.abs(L).max())
    assert (M[np.triu_indices(n, 1)] == 7.0).all()
    b = rng.standard_normal(n)
    x = b.copy()
    cholesky_solve(M, x)
    assert np.linalg.norm(S @ x - b) <= 1e-9 * np.linalg.norm(b) * np.linalg.cond(S) ** 0.5


@pytest.mark.parametrize("place", [0, 150, 319])
@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_large_matrices_that_do_not_factor_are_told(place, bad):
    M = np.eye(320)
    M[place, place] = bad
    assert not cholesky(M)
    M = np.eye(320)
    M[319, place] = np.nan
    assert not cholesky(M)


def test_the_square_of_a_large_matrix():
    # Reference: NumPy; 201 is a panel and a part of one.
    rng = np.random.default_rng(5)
    K = rng.standard_normal((201, 201))
    K += K.T
    M = np.triu(K, 1) + np.tril(rng.standard_normal((201, 201)))
    wanted = np.tril(M + 0.25 * K @ K)
    add_square_of_upper(M, np.diag(K).copy(), 0.5)
    np.testing.assert_allclose(np.tril(M), wanted, rtol=0, atol=1e-10)
    np.testing.assert_array_equal(np.triu(M, 1), np.triu(K, 1))


@pytest.mark.parametrize("lower", [True, False])
def test_the_product_of_a_panel_fills_one_triangle(lower):
    A, out = np.random.default_rng(6).standard_normal((7, 3)), np.ones((7, 7))
    add_product(A, lower, -2.0, 0.5, out)
    inside = np.tri(7, dtype=bool) if lower else np.tri(7, dtype=bool).T
    np.testing.assert_allclose(out, np.where(inside, 0.5 - 2.0 * A @ A.T, 1.0), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("rule", "alpha", "rtol"), [
    (None, 0.1, 0.1), (None, 1e-3, 1e-3), (None, 1e-3, 1e-7), (dln.GradientRegularization(0.02, 0.1), 0.1, 1e-3),
    (dln.SAM(0.05), 1e-2, 1e-4),
])
def test_runs_with_a_kept_gram_matrix_agree_with_explicit_ones(rule, alpha, rtol):
    # Reference: the explicit method at rtol 1e-10, which has no matrices.  Correlated columns, few more than rows.
    problem = dln.sparse_regression(155, 201, 12, rng=1, correlation=0.5)
    assert keeps_gram(problem.row_space.X)
    settings = {"alpha": alpha, "t_end": 30.0}
    exact = dln.flow(problem, rule, method="explicit", rtol=1e-10, **settings)
    run = dln.flow(problem, rule, method="rosenbrock", rtol=rtol, **settings)
    assert exact.success and run.success and run.n_factorizations > 0
    assert np.linalg.norm(run.beta - exact.beta) <= 5.0 * rtol * np.linalg.norm(exact.beta)


def test_the_norm_of_the_data():
    # Reference: NumPy's singular values.  Centred columns: a vector of ones would see nothing.
    X = np.random.default_rng(7).standard_normal((40, 90))
    X -= X.mean(axis=0)
    rows = dln.Problem(X, X[:, 0]).row_space
    largest = np.linalg.norm(X, 2) ** 2
    assert 0.7 * largest <= rows.squared_norm <= (1.0 + 1e-12) * largest
