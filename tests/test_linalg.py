"""Small dense kernels against NumPy and SciPy, and vector exponentials against 60 digits."""

import mpmath
import numpy as np
import pytest
from scipy.linalg import solve_triangular

import dln
from dln import _gram
from dln._aligned import aligned_zeros
from dln._exponentials import exp_expm1
from dln._gram import gram, symmetric_square_into, upper_matvec
from dln._inverse_factor import (
    FACTOR_ROOM,
    INVERT_FROM,
    INVERT_UP_TO,
    factorize,
    inverse_shape,
    invert_factor,
    solve_factorized,
    solve_with_inverse,
)
from dln._linalg import (
    cholesky,
    cholesky_solve,
    matvec,
    norm,
    residual,
    rmatvec,
)

EPS = 2.0**-53
# Four rows at a time, with every remainder; no rows; one column; no columns.
SHAPES = [(n, d) for n in (0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 13) for d in (1, 2, 5, 8)] + [(3, 0), (33, 70), (1, 129)]


def draw(*shape, seed=0):
    return np.random.default_rng([*shape, seed]).standard_normal(shape)


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.interpreted
@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_products_with_the_data(n, d):
    # Reference: numpy's matmul; the bound is the a priori one of a sum of d (or n) products.
    X, b, y, a = read_only(draw(n, d)), draw(d), read_only(draw(n, seed=1)), draw(n, seed=2)
    out = np.full(n, np.nan)
    bound = 4 * EPS * (d + 2) * (np.abs(X) @ np.abs(b) + np.abs(y))
    residual(X, b, y, out)
    assert np.all(np.abs(out - (X @ b - y)) <= bound)
    out[:] = np.nan
    matvec(X, b, out)
    assert np.all(np.abs(out - X @ b) <= bound)
    back = np.full(d, np.nan)
    rmatvec(X, a, 0.3, back)
    assert np.all(np.abs(back - 0.3 * (X.T @ a)) <= 4 * EPS * (n + 2) * (np.abs(X).T @ np.abs(a)))


@pytest.mark.interpreted
@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_gram(n, d):
    # Reference: X diag(w) X^T by numpy; symmetric to the last bit; weights span hundreds of decades.
    X, weight = read_only(draw(n, d)), 10.0 ** np.random.default_rng(d).uniform(-200, 2, d)
    for w in (weight, np.ones(d), np.zeros(d)):
        out = np.full((n, n), np.nan)
        gram(X, w, out)
        assert np.all(np.abs(out - (X * w) @ X.T) <= 4 * EPS * (d + 2) * (np.abs(X) * w) @ np.abs(X).T)
        assert np.array_equal(out, out.T)


@pytest.mark.interpreted
@pytest.mark.parametrize("n", [0, 1, 2, 5, 8])
def test_square_of_a_symmetric_matrix(n):
    # Reference: (r K)^2 by numpy, added to the lower triangle; the upper one is left alone.
    K = draw(n, n) + draw(n, n).T
    start = draw(n, n, seed=4)
    out = start.copy()
    symmetric_square_into(K, 0.25, out)
    expected = start + np.tril((0.25 * K) @ (0.25 * K))
    assert np.all(np.abs(out - expected) <= 8 * EPS * (n + 2) * (np.abs(start) + (0.25 * np.abs(K)) @ (0.25 * np.abs(K))))
    assert np.array_equal(np.triu(out, 1), np.triu(start, 1))


@pytest.mark.interpreted
@pytest.mark.parametrize("n", [0, 1, 2, 5, 8])
def test_a_matrix_kept_in_its_upper_triangle(n):
    # Reference: the symmetric matrix itself, and its product by numpy.
    K, b, out = draw(n, n) + draw(n, n).T, draw(n, seed=1), np.full(n, np.nan)
    M = np.where(np.tri(n, dtype=bool), np.nan, K)
    upper_matvec(M, np.diag(K).copy(), b, out)
    np.testing.assert_allclose(out, K @ b, rtol=1e-13, atol=1e-14)


@pytest.mark.interpreted
def test_the_square_does_not_overflow_before_it_is_scaled():
    # Reference: ((1e-200) 1e200 I)^2 = I, where the square of K alone is 1e400.
    out = np.zeros((3, 3))
    symmetric_square_into(1e200 * np.eye(3), 1e-200, out)
    np.testing.assert_allclose(out, np.eye(3), rtol=1e-15)


def test_large_products_are_handed_to_blas():
    # Reference: numpy; both sides of the threshold.
    rows = 130
    columns = _gram._BLAS_FROM // rows**2 + 1
    for d in (columns - 1, columns + 1):
        X, w = read_only(draw(rows, d)), np.exp(draw(d))
        out = np.empty((rows, rows))
        gram(X, w, out)
        for triangles in (out, out.T):
            assert np.max(np.abs(triangles - (X * w) @ X.T)) <= 1e-14 * np.max(np.abs(out))
    n = round(_gram._BLAS_FROM ** (1 / 3)) + 2
    K = draw(n, n)
    K = K + K.T
    out = np.zeros((n, n))
    symmetric_square_into(K, 0.5, out)
    assert np.max(np.abs(out - np.tril((0.5 * K) @ (0.5 * K)))) <= 1e-14 * np.max(np.abs(out))


@pytest.mark.interpreted
@pytest.mark.parametrize("n", [0, 1, 2, 3, 6, 11])
def test_cholesky_and_solve(n):
    # Reference: numpy.linalg.cholesky, its diagonal inverted, and SciPy's triangular solves.
    A = draw(n, n + 3)
    M = A @ A.T + 0.1 * np.eye(n)
    L = M.copy()
    L[np.triu_indices(n, 1)] = 77.0  # only the lower triangle is read
    assert cholesky(L)
    expected = np.linalg.cholesky(M) if n else M
    factor = np.tril(L)
    np.fill_diagonal(factor, 1.0 / np.diag(L))
    np.testing.assert_allclose(factor, expected, rtol=1e-12, atol=1e-13)
    b = draw(n, seed=3)
    x = b.copy()
    cholesky_solve(L, x)
    if n:
        reference = solve_triangular(expected.T, solve_triangular(expected, b, lower=True))
        np.testing.assert_allclose(x, reference, rtol=1e-10, atol=1e-12)
        assert np.linalg.norm(M @ x - b) <= 1e-14 * np.linalg.norm(M, 2) * np.linalg.norm(x)


@pytest.mark.interpreted
@pytest.mark.parametrize("matrix", [
    [[0.0]], [[-1.0]], [[np.nan]], [[np.inf]], [[1.0, 0.0], [2.0, 1.0]], [[1.0, 0.0], [np.nan, 2.0]], [[1.0, 0.0], [1.0, 1.0]],
])
def test_cholesky_refuses_what_is_not_positive_definite(matrix):
    # Reference: a pivot that is not a positive number.
    assert not cholesky(np.array(matrix))


def test_cholesky_refuses_a_pivot_that_overflows():
    # Reference: 1 - 1e400 is not positive.
    assert not cholesky(np.array([[1.0, 0.0], [1e200, 1.0]]))


def inverted(M):
    m = len(M) + -len(M) % 4
    W = np.full((m + 3, m), np.nan)  # nothing is read that was not filled
    fill_lower(W, M)
    assert invert_factor(W, len(M), np.full(FACTOR_ROOM, np.nan))
    return W


def fill_lower(W, M):
    rows, columns = np.tril_indices(len(M))
    W[rows, columns] = M[rows, columns]


@pytest.mark.interpreted
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 8, 11])
def test_inverse_of_the_factor(n):
    # Reference: numpy's inverse and solution; W has a unit diagonal, and D^-1 is below it.
    A = draw(n, n + 3)
    M = A @ A.T + 0.1 * np.eye(n)
    lower = M.copy()
    lower[np.triu_indices(n, 1)] = np.nan  # only the lower triangle is read
    W = inverted(lower)
    factor, pivots = np.tril(W[:n, :n]), W[W.shape[1], :n]
    assert np.array_equal(np.diag(factor), np.ones(n))
    np.testing.assert_allclose((factor.T * pivots) @ factor, np.linalg.inv(M), rtol=1e-10, atol=1e-11)
    b = draw(n, seed=3)
    x = b.copy()
    solve_with_inverse(W, x)
    np.testing.assert_allclose(x, np.linalg.solve(M, b), rtol=1e-10, atol=1e-11)


def test_inverse_of_the_factor_at_every_size():
    # Reference: the residual of a backward stable solution, for every remainder of blocks and of vector lanes.
    for n in range(1, INVERT_UP_TO + 1):
        A = draw(n, n + 3)
        M, b = A @ A.T + 0.1 * np.eye(n), draw(n, seed=3)
        W, x = inverted(M), b.copy()
        solve_with_inverse(W, x)
        assert np.linalg.norm(M @ x - b) <= 1e-14 * (np.linalg.norm(M, 2) * np.linalg.norm(x)), n


@pytest.mark.parametrize("condition", [1e2, 1e6, 1e10, 1e14])
@pytest.mark.parametrize("n", [7, 20, 33])
def test_the_inverse_is_as_accurate_as_substitution(n, condition):
    # Reference: mpmath, 60 digits.  The backward error measured is at most 5e-16; of substitution, 1e-16.
    rng = np.random.default_rng([n, round(np.log10(condition))])
    values = np.geomspace(1.0, condition**0.98, n)
    for graded in (False, True):
        errors, others = [], []  # the largest of several: with one matrix either may be lucky, by a factor of a hundred
        for _ in range(4):
            turn = np.linalg.qr(rng.standard_normal((n, n)))[0]
            scale, A = np.sqrt(rng.permutation(values)), rng.standard_normal((n, 2 * n))
            M = (scale[:, None] * (A @ A.T)) * scale if graded else (turn * values) @ turn.T
            M = (M + M.T) / 2
            W, L = inverted(M), M.copy()
            assert cholesky(L)
            exact = mpmath.matrix(M.tolist())
            for b in (rng.standard_normal(n), M @ rng.standard_normal(n)):
                found, substituted = b.copy(), b.copy()
                solve_with_inverse(W, found)
                cholesky_solve(L, substituted)
                with mpmath.workdps(60):
                    right = mpmath.matrix(b.tolist())
                    solution = np.array([float(v) for v in mpmath.cholesky_solve(exact, right)])
                    rest = float(mpmath.norm(exact * mpmath.matrix(found.tolist()) - right))
                assert rest <= 1e-15 * np.linalg.norm(M, 2) * np.linalg.norm(found)
                for x, into in ((found, errors), (substituted, others)):
                    into.append(np.linalg.norm(x - solution) / np.linalg.norm(solution))
        assert max(errors) <= 20 * max(others) + 1e-15


@pytest.mark.interpreted
@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_the_inverse_refuses_what_is_not_positive_definite(place, value):
    # Reference: a pivot that is not a positive number, wherever in a block of four it stands.
    M = np.eye(6)
    M[place, place] = value
    assert refused(M)
    M = np.eye(6)
    M[5, place] = M[place, 5] = 2.0 if place < 5 else np.nan
    assert refused(M)


def refused(M):
    W = np.empty((11, 8))
    fill_lower(W, M)
    return not invert_factor(W, len(M), np.empty(FACTOR_ROOM))


@pytest.mark.interpreted
@pytest.mark.parametrize("n", [0, 1, INVERT_FROM - 1, INVERT_FROM, INVERT_UP_TO, INVERT_UP_TO + 1])
def test_one_factorization_for_all_sizes(n):
    # Reference: numpy's solution, on both sides of each bound; the inverse is used between them, and M then left alone.
    A = draw(n, n + 3)
    M, b = A @ A.T + 0.1 * np.eye(n), draw(n, seed=3)
    W, factor, x = np.full(inverse_shape(n), np.nan), M.copy(), b.copy()
    if W.size:
        fill_lower(W, M)
    assert factorize(factor, W, np.empty(FACTOR_ROOM))
    assert np.array_equal(factor, M) == (W.size > 0 or n == 0)
    solve_factorized(factor, W, x)
    assert np.linalg.norm(M @ x - b) <= 1e-14 * (np.linalg.norm(M) * np.linalg.norm(x))
    if W.size:
        fill_lower(W, -M)
    assert not n or not factorize(-M, W, np.empty(FACTOR_ROOM))


@pytest.mark.interpreted
def test_norm_is_safe_at_both_ends():
    # Reference: |(3, 4)| = 5 at every scale; the empty and the zero vector; what is not finite is not hidden.
    for scale in (1e-320, 1e-300, 1e-160, 1e-140, 1e-139, 1.0, 1e149, 1e150, 1e160, 1e300):
        for copies in (1, 7):
            vector = scale * np.tile([3.0, -4.0], copies)
            with np.errstate(over="ignore", under="ignore"):  # the compiler switched off, NumPy tells of the squares
                found = norm(vector)
            assert found == pytest.approx(5.0 * scale * np.sqrt(copies), rel=1e-3 if scale < 1e-310 else 1e-15)
    assert norm(np.empty(0)) == 0.0 and norm(np.zeros(3)) == 0.0
    assert norm(np.array([1.0, -np.inf])) == np.inf


@pytest.mark.interpreted
def test_norm_does_not_hide_nan():
    # Reference: numpy.linalg.norm is NaN wherever the NaN stands.
    for k in range(3):
        vector = np.ones(3)
        vector[k] = np.nan
        assert np.isnan(norm(vector)), k


# Exponentials ---------------------------------------------------------------------------------------------------------


def both(x, y):
    x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    out = np.empty((2, x.size))
    exp_expm1(x.copy(), y.copy(), *out)
    return out[0], out[1]


def worst(values, arguments, function):
    with mpmath.workdps(60):
        return max(abs(float(mpmath.mpf(float(v)) / function(mpmath.mpf(float(x))) - 1))
                   for v, x in zip(values, arguments, strict=True))


def test_exponentials_over_the_whole_range():
    # Reference: mpmath, 60 digits.  Measured over 4e4 points: exp 1.5e-16 (0.95 units in the last place), expm1 2.4e-16 (1.73).
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-708, 709, 3000), rng.uniform(-1, 1, 500), np.log(2.0) * np.arange(-1021, 1023, 8),
                        np.log(2.0) * (np.arange(-1020, 1022, 8) + 0.5), [-708.0, 709.0]])
    assert worst(both(x, x)[0], x, mpmath.exp) <= 2.3e-16
    assert worst(both(x, x)[1], x, mpmath.expm1) <= 4e-16


def test_expm1_of_tiny_and_moderate_arguments():
    # Reference: mpmath, 60 digits.
    rng = np.random.default_rng(1)
    y = np.concatenate([10.0 ** rng.uniform(-300, 0, 1500) * rng.choice([-1.0, 1.0], 1500), rng.uniform(-1, 1, 1500),
                        rng.uniform(-40, 40, 500), [2.0**-1022, -1e-300]])
    assert worst(both(y, y)[1], y, mpmath.expm1) <= 4e-16


@pytest.mark.interpreted
def test_exponentials_at_special_points():
    # Reference: exp(0) = 1, expm1(0) = 0, subnormal arguments return themselves.
    x = np.array([0.0, 5e-324, -5e-324, 1e-310, -1e-300])
    exponential, less_one = both(x, x)
    assert exponential.tolist() == [1.0] * 5 and less_one.tolist() == x.tolist()
    assert both([], [])[0].size == 0


@pytest.mark.interpreted
def test_arguments_are_clipped():
    # Reference: the ends of the range, exp(-708) and exp(709).
    ends = both([-708.0, 709.0], [-708.0, 709.0])
    beyond = both([-1e300, 1e300], [-1e300, 1e300])
    assert np.array_equal(ends[0], beyond[0]) and np.array_equal(ends[1], beyond[1])
    assert ends[1][0] == -1.0 and 0.0 < ends[0][0] < 1e-307 and np.isfinite(ends[0][1])


@pytest.mark.interpreted
def test_x_and_y_do_not_mix():
    # Reference: math of the standard library, element by element, over every length of a vector loop's remainder.
    for n in range(1, 20):
        x, y = np.linspace(-5, 5, n), np.linspace(3, -2, n)
        exponential, less_one = both(x, y)
        np.testing.assert_allclose(exponential, np.exp(x), rtol=4e-16)
        np.testing.assert_allclose(less_one, np.expm1(y), rtol=5e-16)


# Where arrays start ----------------------------------------------------------------------------------------------------


@pytest.mark.interpreted
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (3, 5), (20, 100), (0, 4)])
def test_arrays_start_at_a_cache_line(shape):
    # Reference: an address that 64 bytes divide, at every call; zeros, of which each can be written.
    kept = [aligned_zeros(shape) for _ in range(20)]
    for k, array in enumerate(kept):
        assert array.shape == shape and array.flags.c_contiguous and not array.any()
        assert array.size == 0 or array.ctypes.data % 64 == 0
        array[...] = k
    assert all(np.all(array == k) for k, array in enumerate(kept))


def test_data_start_at_a_cache_line():
    # Reference: the same, for data as given, and for rows that are combined since their number exceeds the rank.
    for X in (draw(3, 7), np.vstack([draw(3, 7), draw(3, 7)])):
        problem = dln.Problem(X, np.ones(len(X)))
        assert problem.X.ctypes.data % 64 == 0 and problem.row_space.X.ctypes.data % 64 == 0
