"""Fours of numbers in kernels: every operation against NumPy, and kernels that count no references."""

import numba
import numpy as np
import pytest
from numba import types

from dln import _simd as simd
from dln._jit import DATA_MATRIX, DATA_VECTOR, MATRIX, VECTOR, njit

A = np.array([1.5, -2.0, np.inf, 3.0])
B = np.array([-4.0, -2.0, 1.0, np.nan])
C = np.array([0.25, 7.0, -1e300, 5e-324])


@njit(types.void(DATA_MATRIX, MATRIX), allocates=False)
def _arithmetic(given, out):
    a, b, c = simd.load_at(given, 0, 0), simd.load_at(given, 1, 0), simd.load_at(given, 2, 0)
    simd.store_at(a + b, out, 0, 0)
    simd.store_at(a - b, out, 1, 0)
    simd.store_at(a * c, out, 2, 0)
    simd.store_at(a / b, out, 3, 0)
    simd.store_at(simd.modulus(b), out, 4, 0)
    simd.store_at(simd.larger(a, b), out, 5, 0)
    simd.store_at(simd.smaller(a, b), out, 6, 0)
    simd.store_at(simd.where_less(b, a, b, c), out, 7, 0)
    simd.store_at(simd.splat(given[0, 1]), out, 8, 0)
    simd.store_at(simd.four(given[0, 3], given[0, 2], given[0, 1], given[0, 0]), out, 9, 0)


@pytest.mark.interpreted
def test_lane_by_lane():
    # Reference: NumPy; comparisons with NaN are false.
    out = np.zeros((10, 4))
    with np.errstate(invalid="ignore"):
        _arithmetic(np.array([A, B, C]), out)
        expected = [A + B, A - B, A * C, A / B, np.abs(B), np.where(A > B, A, B), np.where(A < B, A, B), np.where(B < A, B, C),
                    np.full(4, -2.0), A[::-1]]
    np.testing.assert_array_equal(out, expected)


@njit(types.void(DATA_MATRIX, MATRIX, VECTOR), allocates=False)
def _across(given, out, numbers):
    a, b, c, d = simd.load_at(given, 0, 0), simd.load_at(given, 1, 0), simd.load_at(given, 2, 0), simd.load_at(given, 3, 0)
    simd.store_at(simd.totals(a, b, c, d), out, 0, 0)
    columns = simd.transposed(a, b, c, d)
    simd.store_at(columns[0], out, 1, 0)
    simd.store_at(columns[1], out, 2, 0)
    simd.store_at(columns[2], out, 3, 0)
    simd.store_at(columns[3], out, 4, 0)
    numbers[0], numbers[1] = simd.total(b), simd.largest_lane(c)
    numbers[2], numbers[3] = simd.lane(d, 0), simd.lane(d, 3)


@pytest.mark.interpreted
def test_across_the_lanes():
    # Reference: NumPy, on integers, whose sums are exact in any order.
    given = np.arange(16.0).reshape(4, 4)[::-1].copy() ** 2 - 30.0
    out, numbers = np.zeros((5, 4)), np.zeros(4)
    _across(given, out, numbers)
    np.testing.assert_array_equal(out, [given.sum(axis=1), *given.T])
    np.testing.assert_array_equal(numbers, [given[1].sum(), given[2].max(), given[3, 0], given[3, 3]])


@njit(types.void(DATA_VECTOR, DATA_MATRIX, types.intp, types.intp, MATRIX, VECTOR), allocates=False)
def _ends(x, X, i, left, out, y):
    simd.store_at(simd.load_some(x, i, left), out, 0, 0)
    simd.store_at(simd.load_last(x, i, left), out, 1, 0)
    simd.store_at(simd.load_some_at(X, 1, i, left), out, 2, 0)
    simd.store_at(simd.load_last_at(X, 1, i, left), out, 3, 0)
    simd.store_some(simd.load_some(x, i, left), y, i, left)
    simd.store_some_at(simd.load_some(x, i, left), out, 4, 0, left)


@pytest.mark.interpreted
@pytest.mark.parametrize("left", [1, 2, 3, 4])
def test_where_an_array_ends_within_a_four(left):
    # Reference: what the functions say; nothing beyond the end is read or written.
    size = 6 + left
    x, y, out = np.arange(1.0, size + 1), np.full(size + 3, -1.0), np.full((5, 4), -1.0)
    X = np.array([np.zeros(size), x, np.full(size, np.nan)])
    _ends(x, X, 6, left, out, y)
    padded = np.concatenate([x[6:], np.zeros(4 - left)])
    repeated = np.concatenate([x[6:], np.full(4 - left, x[-1])])
    np.testing.assert_array_equal(out[:4], [padded, repeated, padded, repeated])
    np.testing.assert_array_equal(out[4], np.concatenate([x[6:], np.full(4 - left, -1.0)]))
    np.testing.assert_array_equal(y, np.concatenate([np.full(6, -1.0), x[6:], np.full(3, -1.0)]))


@njit(types.void(DATA_VECTOR, VECTOR, VECTOR), allocates=False)
def _powers(x, up, down):
    shifted = simd.load(x, 0) + simd.splat(6755399441055744.0)
    simd.store(simd.power_of_two(shifted), up, 0)
    simd.store(simd.power_of_half(shifted), down, 0)


@pytest.mark.interpreted
@pytest.mark.parametrize("exponents", [(0, 1, -1, 52), (1023, -1022, 600, -600)])
def test_powers_of_two(exponents):
    # Reference: ldexp.  2^-1023 has no normal number: it is not asked for.
    k = np.array(exponents, dtype=float)
    up, down = np.zeros(4), np.zeros(4)
    _powers(k, up, down)
    np.testing.assert_array_equal(up, np.ldexp(1.0, exponents))
    fine = np.array(exponents) < 1023
    np.testing.assert_array_equal(down[fine], np.ldexp(1.0, -np.array(exponents))[fine])


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_kernels_without_arrays_of_their_own_count_no_references():
    @njit(types.void(MATRIX, VECTOR), allocates=False)
    def quiet(X, out):
        row = X[1]
        for j in range(out.shape[0]):
            out[j] = row[j]

    @njit(types.void(MATRIX, VECTOR), allocates=False)
    def loud(X, out):
        room = np.empty(3)
        out[0] = room[0]

    out = np.zeros(2)
    quiet(np.array([[1.0, 2.0], [3.0, 4.0]]), out)
    assert out.tolist() == [3.0, 4.0]
    code = quiet.dispatcher.inspect_llvm(quiet.dispatcher.signatures[0])
    body = code[code.index("define"):].split("\n}")[0]  # the kernel itself, without its wrapper for Python
    assert "NRT_incref" not in body and "NRT_decref" not in body
    with pytest.raises(numba.core.errors.TypingError):
        loud(np.zeros((2, 2)), out)
