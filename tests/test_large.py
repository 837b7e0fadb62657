"""Large problems: the kept Gram matrix in both precisions, LAPACK's factorisation, and runs that use them."""

import numpy as np
import pytest

import dln
from dln._gram import add_product, add_square_of_upper, gram_room
from dln._large import (
    FACTORED,
    FAILED,
    MARKS,
    TOO_STIFF,
    UNIT,
    add_panel,
    choose_unit,
    factorize_kept,
    forget_gram,
    keeps_gram,
    kept_arrays,
    mirror,
    multiply_kept,
    smallest_eigenvalue,
    solve_kept,
    update_gram,
)
from dln._linalg import cholesky, cholesky_solve, residual_and_rmatvec

DOUBLE, SINGLE = np.float64, np.float32


def gram_of(M, diagonal):
    upper = np.triu(M, 1)
    return upper + upper.T + np.diag(diagonal)


@pytest.mark.parametrize(("kind", "digits"), [(DOUBLE, 1e-12), (SINGLE, 1e-5)])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (33, 301), (160, 129), (65, 40)])
def test_the_gram_matrix_is_exact_where_no_error_is_allowed(n, d, kind, digits):
    # Reference: NumPy's product; the weights grow, shrink and vanish.
    rng = np.random.default_rng(n)
    X = rng.standard_normal((n, d))
    known, M, diagonal, space = np.zeros(d), np.zeros((n, n), kind), np.zeros(n), np.empty(n * 128, kind)
    for _ in range(4):
        weight = rng.random(d) * (rng.random(d) < 0.7)
        M[np.tril_indices(n)] = np.nan  # where the factor of the step before is
        update_gram(X, weight, 0.0, 0.0, 0.25, known, M, diagonal, space)
        np.testing.assert_array_equal(known, weight)
        np.testing.assert_allclose(0.25 * gram_of(M, diagonal), (X * weight) @ X.T, rtol=0, atol=digits * d)
    sums = np.zeros(n)
    mirror(M, 2.0, sums)
    np.testing.assert_array_equal(np.tril(M, -1), 2.0 * np.triu(M, 1).T)
    np.testing.assert_allclose(sums, np.abs(gram_of(M, 0.0 * diagonal)).sum(axis=1), rtol=0, atol=digits * d)
    forget_gram(known, M, diagonal)
    assert not known.any() and not np.triu(M, 1).any() and not diagonal.any()


def test_the_error_of_the_gram_matrix_is_within_its_bound():
    # Reference: ``-B <= K - X W X^T <= B`` with ``B = share X W X^T + floor X X^T``, by eigenvalues.  Columns that are nearly
    # parallel are the worst case for a bound on each of them alone.
    rng = np.random.default_rng(3)
    X = rng.standard_normal((20, 1)) + 0.1 * rng.standard_normal((20, 300))
    known, M, diagonal, space = np.zeros(300), np.zeros((20, 20)), np.zeros(20), np.empty(20 * 128)
    share, floor, weight = 0.1, 1e-3, 10.0 ** rng.uniform(-5, 0, 300)
    skipped = 0
    for _ in range(6):
        before = known.copy()
        update_gram(X, weight, share, floor, 1.0, known, M, diagonal, space)
        skipped += np.count_nonzero(known == before)
        bound = share * (X * weight) @ X.T + floor * X @ X.T
        off = gram_of(M, diagonal) - (X * weight) @ X.T
        rounding = 1e-12 * np.trace(bound)
        assert np.linalg.eigvalsh(bound - off)[0] >= -rounding
        assert np.linalg.eigvalsh(bound + off)[0] >= -rounding
        weight = weight * np.exp(rng.normal(0.0, 0.2, 300))
    assert skipped > 300


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e120])
@pytest.mark.parametrize("kappa", [0.0, 0.3])
@pytest.mark.parametrize(("share", "digits"), [(1e-3, 2e-5), (1e-6, 1e-11)])
def test_systems_with_a_kept_matrix(share, digits, kappa, scale):
    # Reference: NumPy.  Single precision (share 1e-3) has few exponents: data of any scale, weights that grow a millionfold and
    # shrink again have to fit in.  The error allowed is 0 here, since every weight changes by more than its share.
    n, d, h, gamma = 170, 400, 0.7, 0.3
    rng = np.random.default_rng(8)
    X, row_scale, b = rng.standard_normal((n, d)) * scale, rng.uniform(0.5, 1.0, n), rng.standard_normal(n)
    squared_norm = np.linalg.norm(X / scale, 2) ** 2 * scale ** 2
    kept, known = kept_arrays(X, share)
    assert kept.size < 0.51 * n * n or share < 1e-4
    for size in (1e-7, 1e-5, 1e-1, 1e-6, 1e-2):
        weight = 10.0 * size * rng.uniform(0.1, 1.0, d) / squared_norm
        K = (X * weight) @ X.T
        found, largest = factorize_kept(
            X, weight, share, squared_norm, h, gamma, kappa, 0.0, row_scale, known[:d], kept, known[d:])
        assert found == FACTORED
        # A weight below the floor may be left out: off by share of I + h K.
        off = share * (1.0 + h * np.linalg.norm(K, 2))
        assert abs(largest - np.abs(K).sum(axis=1).max()) <= digits * largest + off * n ** 0.5
        x, product = b.copy(), np.empty(n)
        solve_kept(kept, known[d:], x)
        multiply_kept(kept, known[d:], b, product)
        np.testing.assert_allclose(product, K @ b, rtol=0, atol=(digits * np.linalg.norm(K, 2) + off / h) * np.linalg.norm(b))
        system = np.diag(row_scale) + h * gamma * (K + kappa * K @ K)
        assert np.linalg.norm(system @ x - b) <= (digits + 5.0 * off) * np.linalg.norm(b)


@pytest.mark.parametrize(("share", "digits"), [(1e-2, 2e-5), (1e-6, 1e-11)])
def test_a_multiple_in_place_of_the_square(share, digits):
    # Reference: NumPy, ``K + kappa K^2`` with the mean eigenvalue of K in the place of one K, where that was allowed.
    n, d, tau = 160, 400, 0.2
    rng = np.random.default_rng(8)
    X, b = rng.standard_normal((n, d)), rng.standard_normal(n)
    K = X @ X.T
    kappa = 0.2 / np.abs(K).sum(axis=1).max()
    for linear, square in ((0.19, K @ K), (0.21, np.trace(K) / n * K)):
        kept, known = kept_arrays(X, share)
        factorize_kept(X, np.ones(d), share, np.linalg.norm(X, 2) ** 2, tau, 1.0, kappa, linear, np.ones(n), known[:d], kept,
                       known[d:])
        x = b.copy()
        solve_kept(kept, known[d:], x)
        system = np.eye(n) + tau * (K + kappa * square)
        assert np.linalg.norm(system @ x - b) <= digits * np.linalg.norm(system, 2) * np.linalg.norm(x)


def test_single_precision_tells_where_it_does_not_do():
    # Half of the memory, from the steps on that allow a Jacobian inexact.  Stiff systems do not, but for those of which all
    # eigenvalues are large: with fewer weights than rows some are not.
    rng = np.random.default_rng(9)
    X = rng.standard_normal((160, 900))
    squared_norm = np.linalg.norm(X, 2) ** 2

    def outcome(share, h, weights, row_scale=1.0):
        weight = np.where(np.arange(900) < weights, 1.0 / squared_norm, 0.0)
        found, _ = factorize_kept(X, weight, share, squared_norm, h, 0.3, 0.0, 0.0, np.full(160, row_scale), known[:900], kept,
                                  known[900:])
        return found

    for share, h, weights, wanted in ((1e-3, 1e2, 100, FACTORED), (1e-3, 1e5, 100, TOO_STIFF), (1e-3, 1e5, 900, FACTORED),
                                      (1e-5, 1e5, 100, FACTORED)):
        kept, known = kept_arrays(X, share)
        assert outcome(share, h, weights) == wanted
    kept, known = kept_arrays(X, 1e-3)
    assert outcome(1e-3, 1.0, 100, -1.0) == FAILED and not known[:900].any()


@pytest.mark.parametrize("kind", [DOUBLE, SINGLE])
def test_the_smallest_eigenvalue(kind):
    # Reference: NumPy.  One of 120 is small: the hardest case.
    rng = np.random.default_rng(11)
    Q = np.linalg.qr(rng.standard_normal((120, 120)))[0]
    values = np.concatenate(([2.0], rng.uniform(100.0, 1e4, 119)))
    L = np.linalg.cholesky((Q * values) @ Q.T)
    L[np.diag_indices(120)] = 1.0 / np.diag(L)
    assert 2.0 * (1.0 - 1e-2) <= smallest_eigenvalue(L.astype(kind)) <= 2.2


def test_the_unit_follows_the_weights():
    # A power of two; where the weights grow numbers are scaled, where they shrink the matrix is forgotten.
    marked, known, M = np.zeros(5 + MARKS), np.ones(4), np.triu(np.ones((5, 5), SINGLE), 1)
    marked[:5] = 1.0
    marked[5 + UNIT] = 2.0
    choose_unit(np.full(4, 0.5), 5.0, known, M, marked)
    assert marked[5 + UNIT] == 2.0 and (marked[:5] == 1.0).all()
    choose_unit(np.full(4, 40.0), 5.0, known, M, marked)
    assert marked[5 + UNIT] == 128.0 and known.all() and (marked[:5] == 2.0 ** -6).all()
    np.testing.assert_array_equal(M, 2.0 ** -6 * np.triu(np.ones((5, 5)), 1))
    choose_unit(np.full(4, 0.05), 5.0, known, M, marked)
    assert marked[5 + UNIT] == 0.25 and not known.any() and not M.any() and not marked[:5].any()


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


@pytest.mark.parametrize(("n", "lent"), [(6, 6), (21, 40), (40, 21), (201, 201)])
def test_the_square_of_a_matrix_kept_in_its_upper_triangle(n, lent):
    # Reference: NumPy; 201 is a panel and a part of one.  Without enough room the work is done by BLAS.
    rng = np.random.default_rng(5)
    K = rng.standard_normal((n, n))
    K += K.T
    M = np.triu(K, 1) + np.tril(rng.standard_normal((n, n)))
    wanted = np.tril(M + 0.25 * K @ K)
    add_square_of_upper(M, np.diag(K).copy(), 0.5, np.full(gram_room(lent, lent), np.nan), M)
    np.testing.assert_allclose(np.tril(M), wanted, rtol=0, atol=1e-10)
    np.testing.assert_array_equal(np.triu(M, 1), np.triu(K, 1))


@pytest.mark.parametrize("kind", [DOUBLE, SINGLE])
@pytest.mark.parametrize("lower", [True, False])
def test_a_panel_is_added_to_one_triangle(lower, kind):
    A, out = np.random.default_rng(6).standard_normal((7, 3)).astype(kind), np.ones((7, 7), kind)
    add_panel(A, lower, -2.0, out)
    inside = np.tri(7, dtype=bool) if lower else np.tri(7, dtype=bool).T
    np.testing.assert_allclose(out, np.where(inside, 1.0 - 2.0 * A @ A.T, 1.0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 50_000), (6, 8_000), (7, 9_001), (50, 20)])
def test_two_products_in_one_pass(shape):
    # Reference: NumPy; on both sides of the size from which it is one pass, with rows left over.
    rng = np.random.default_rng(10)
    X, b, y = rng.standard_normal(shape), rng.standard_normal(shape[1]), rng.standard_normal(shape[0])
    r, out = np.empty(shape[0]), np.empty(shape[1])
    for target, wanted in ((y, X @ b - y), (y[:0], X @ b)):
        residual_and_rmatvec(X, b, target, 0.3, r, out)
        np.testing.assert_allclose(r, wanted, rtol=0, atol=1e-10)
        np.testing.assert_allclose(out, 0.3 * X.T @ wanted, rtol=0, atol=1e-10)


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
    assert keeps_gram(problem.row_space.X.shape)
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
