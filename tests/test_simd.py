"""Vectors in kernels: every operation against NumPy, at both widths, and kernels that count no references."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from numba import types
from numba.core.caching import NullCache

from dln import _simd as simd
from dln._jit import DATA_MATRIX, DATA_VECTOR, MATRIX, VECTOR, njit

WIDTH = simd.WIDTH
A = np.array([1.5, -2.0, np.inf, 3.0, 0.0, -1.0, 2.0, 4.0])[:WIDTH]
B = np.array([-4.0, -2.0, 1.0, np.nan, 5.0, 0.5, 2.5, -8.0])[:WIDTH]
C = np.array([0.25, 7.0, -1e300, 5e-324, 3.0, -3.0, 1.0, 0.0])[:WIDTH]


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


@pytest.mark.interpreted
def test_lane_by_lane():
    # Reference: NumPy; comparisons with NaN are false.
    out = np.zeros((9, WIDTH))
    with np.errstate(invalid="ignore"):
        _arithmetic(np.array([A, B, C]), out)
        expected = [A + B, A - B, A * C, A / B, np.abs(B), np.where(A > B, A, B), np.where(A < B, A, B), np.where(B < A, B, C),
                    np.full(WIDTH, -2.0)]
    np.testing.assert_array_equal(out, expected)


@njit(types.void(DATA_VECTOR, types.float64, MATRIX), allocates=False)
def _beside_numbers(given, x, out):
    a = simd.load(given, 0)
    simd.store_at(x + a, out, 0, 0)
    simd.store_at(a - x, out, 1, 0)
    simd.store_at(x * a, out, 2, 0)
    simd.store_at(a / x, out, 3, 0)
    simd.store_at(2 - a, out, 4, 0)
    simd.store_at(simd.larger(x, a), out, 5, 0)
    simd.store_at(simd.where_less(a, x, 0.0, a), out, 6, 0)


@pytest.mark.interpreted
def test_a_number_counts_for_every_lane():
    # Reference: NumPy.
    out = np.zeros((7, WIDTH))
    _beside_numbers(C, 1.5, out)
    expected = [1.5 + C, C - 1.5, 1.5 * C, C / 1.5, 2 - C, np.maximum(1.5, C), np.where(C < 1.5, 0.0, C)]
    np.testing.assert_array_equal(out, expected)


@njit(types.void(DATA_MATRIX, DATA_MATRIX, MATRIX, VECTOR), allocates=False)
def _across(given, fours, out, numbers):
    a, b, c, d = simd.load_at(given, 0, 0), simd.load_at(given, 1, 0), simd.load_at(given, 2, 0), simd.load_at(given, 3, 0)
    simd.store_at(simd.totals(a, b, c, d), out, 0, 0)
    a, e = simd.load_four_at(fours, 0, 0), simd.load_four_at(fours, 1, 0)
    f, g = simd.load_four_at(fours, 2, 0), simd.load_four_at(fours, 3, 0)
    columns = simd.transposed(a, e, f, g)
    simd.store_at(columns[0], out, 1, 0)
    simd.store_at(columns[1], out, 2, 0)
    simd.store_at(columns[2], out, 3, 0)
    simd.store_at(columns[3], out, 4, 0)
    simd.store_at(simd.totals(a, e, f, g), out, 5, 0)
    simd.store_at(simd.four(numbers[0], 2.0, 3.0, numbers[1]), out, 6, 0)
    simd.store_at(simd.splat_four(numbers[1]), out, 7, 0)
    numbers[0], numbers[1] = simd.total(b), simd.largest_lane(c)
    numbers[2], numbers[3] = simd.smallest_lane(d), simd.total(g)


@pytest.mark.interpreted
def test_across_the_lanes():
    # Reference: NumPy, on integers, whose sums are exact in any order.
    given = np.arange(4.0 * WIDTH).reshape(4, WIDTH)[::-1].copy() ** 2 - 30.0
    fours = given[:, -4:].copy()
    out, numbers = np.zeros((8, 4)), np.array([7.0, 9.0, 0.0, 0.0])
    _across(given, fours, out, numbers)
    np.testing.assert_array_equal(
        out, [given.sum(axis=1), *fours.T, fours.sum(axis=1), [7.0, 2.0, 3.0, 9.0], np.full(4, 9.0)])
    np.testing.assert_array_equal(numbers, [given[1].sum(), given[2].max(), given[3].min(), fours[3].sum()])


@njit(types.void(DATA_VECTOR, DATA_MATRIX, types.intp, types.intp, MATRIX, VECTOR), allocates=False)
def _ends(x, X, i, left, out, y):
    simd.store_at(simd.load_some(x, i, left), out, 0, 0)
    simd.store_at(simd.load_last(x, i, left), out, 1, 0)
    simd.store_at(simd.load_some_at(X, 1, i, left), out, 2, 0)
    simd.store_at(simd.load_last_at(X, 1, i, left), out, 3, 0)
    simd.store_some(simd.load_some(x, i, left), y, i, left)
    simd.store_some_at(simd.load_some(x, i, left), out, 4, 0, left)


@pytest.mark.interpreted
@pytest.mark.parametrize("left", range(1, WIDTH + 1))
def test_where_an_array_ends_within_a_vector(left):
    # Reference: what the functions say; nothing beyond the end is read or written.
    size = 6 + left
    x, y, out = np.arange(1.0, size + 1), np.full(size + 3, -1.0), np.full((5, WIDTH), -1.0)
    X = np.array([np.zeros(size), x, np.full(size, np.nan)])
    _ends(x, X, 6, left, out, y)
    padded = np.concatenate([x[6:], np.zeros(WIDTH - left)])
    repeated = np.concatenate([x[6:], np.full(WIDTH - left, x[-1])])
    np.testing.assert_array_equal(out[:4], [padded, repeated, padded, repeated])
    np.testing.assert_array_equal(out[4], np.concatenate([x[6:], np.full(WIDTH - left, -1.0)]))
    np.testing.assert_array_equal(y, np.concatenate([np.full(6, -1.0), x[6:], np.full(3, -1.0)]))


@njit(types.void(DATA_VECTOR, types.intp, VECTOR, MATRIX), allocates=False)
def _some_four(x, left, y, out):
    simd.store_some(simd.load_some_four(x, 2, left), y, 1, left)
    simd.store_at(simd.load_four(x, 1), out, 0, 0)
    simd.store_some_at(simd.load_four(x, 0), out, 1, 0, left)


@pytest.mark.interpreted
@pytest.mark.parametrize("left", [1, 2, 3, 4])
def test_some_of_four(left):
    # Reference: slices.
    x, y, out = np.arange(1.0, 3.0 + max(left, 3)), np.full(6, -1.0), np.full((2, 4), -1.0)
    _some_four(x, left, y, out)
    np.testing.assert_array_equal(y, [-1.0, *x[2:2 + left], *[-1.0] * (5 - left)])
    np.testing.assert_array_equal(out, [x[1:5], [*x[:left], *[-1.0] * (4 - left)]])


@njit(types.void(DATA_VECTOR, VECTOR, VECTOR), allocates=False)
def _powers(x, up, down):
    shifted = simd.load(x, 0) + 6755399441055744.0
    simd.store(simd.power_of_two(shifted), up, 0)
    simd.store(simd.power_of_half(shifted), down, 0)


@pytest.mark.interpreted
@pytest.mark.parametrize("exponents", [(0, 1, -1, 52), (1023, -1022, 600, -600)])
def test_powers_of_two(exponents):
    # Reference: ldexp.  2^-1023 has no normal number: it is not asked for.
    exponents = np.resize(exponents, WIDTH)
    up, down = np.zeros(WIDTH), np.zeros(WIDTH)
    _powers(exponents.astype(float), up, down)
    np.testing.assert_array_equal(up, np.ldexp(1.0, exponents))
    fine = exponents < 1023
    np.testing.assert_array_equal(down[fine], np.ldexp(1.0, -exponents)[fine])


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_vectors_of_two_widths_do_not_mix():
    @njit(types.void(VECTOR), allocates=False)
    def mixed(x):
        simd.store(simd.load(x, 0) + simd.load_four(x, 0), x, 0)

    @njit(types.void(VECTOR), allocates=False)
    def unmixed(x):
        simd.store(simd.load_four(x, 0) + simd.load_four(x, 0), x, 0)

    x = np.ones(8)
    unmixed(x)
    assert x.tolist() == [2.0] * 4 + [1.0] * 4
    if WIDTH == 8:
        with pytest.raises(numba.core.errors.TypingError):
            mixed(x)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
@pytest.mark.skipif("DLN_VECTOR_WIDTH" in os.environ, reason="this is the process in which the other width is tested")
def test_the_other_width(tmp_path):
    """What this machine would not choose is right, too: these tests and those of the kernels made of vectors, once more."""
    other = 12 - WIDTH
    folder = os.path.dirname(__file__)
    files = [os.path.join(folder, name) for name in ("test_simd.py", "test_linalg.py", "test_network.py")]
    environment = {**os.environ, "DLN_VECTOR_WIDTH": str(other), "DLN_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *files],
                          env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize("asked", ["5", "", "eight"])
def test_a_width_that_there_is_not(asked):
    done = subprocess.run([sys.executable, "-c", "import dln"], env={**os.environ, "DLN_VECTOR_WIDTH": asked},
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"ValueError: DLN_VECTOR_WIDTH must be 4 or 8, got {asked!r}; without it the machine decides")


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

    quiet.dispatcher._cache = NullCache()  # what comes from the disk cannot be looked into
    out = np.zeros(2)
    quiet(np.array([[1.0, 2.0], [3.0, 4.0]]), out)
    assert out.tolist() == [3.0, 4.0]
    code = quiet.dispatcher.inspect_llvm(quiet.dispatcher.signatures[0])
    body = code[code.index("define"):].split("\n}")[0]  # the kernel itself, without its wrapper for Python
    assert "NRT_incref" not in body and "NRT_decref" not in body
    with pytest.raises(numba.core.errors.TypingError):
        loud(np.zeros((2, 2)), out)
