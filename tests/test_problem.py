"""Data at the door: what is accepted, what is refused and in which words, and the row space."""

import csv
import dataclasses
import math
import pickle
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from dln import Problem, load, sparse_regression

X = np.array([[1.0, 2.0, -1.0], [0.0, 3.0, 4.0]])
Y = np.array([1.0, -2.0])


def refused(error, message, call, *args, **kwargs):
    """Check the type of an error and that its message is the one clear line that is expected."""
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 300
    assert re.search(message, text), text


# Accepted ------------------------------------------------------------------------------------------------------------


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def strided(array):
    wide = np.zeros(tuple(2 * n for n in array.shape))
    view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


FORMS = {
    "list": lambda a: a.tolist(),
    "tuple of rows": lambda a: tuple(a.tolist()),
    "float32": lambda a: a.astype(np.float32),
    "float16": lambda a: a.astype(np.float16),
    "longdouble": lambda a: a.astype(np.longdouble),
    "int8": lambda a: a.astype(np.int8),
    "int64": lambda a: a.astype(np.int64),
    "big endian": lambda a: a.astype(">f8"),
    "read-only": read_only,
    "strided": strided,
    "reversed": lambda a: a[::-1].copy()[::-1],
    "Fortran order": np.asfortranarray,
    "masked without a mask": lambda a: np.ma.array(a),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_the_same_numbers_gives_the_same_bits(form):
    problem = Problem(form(X), form(Y))
    for array, reference in ((problem.X, X), (problem.y, Y)):
        assert array.dtype == np.float64 and array.flags.c_contiguous and not array.flags.writeable
        assert array.tobytes() == reference.tobytes()


def test_booleans_unsigned_and_integers_beyond_64_bits_are_numbers():
    assert Problem([[True, False]], [True]).X.tolist() == [[1.0, 0.0]]
    assert Problem(np.array([[3]], dtype=np.uint8), [2**200]).y.tolist() == [2.0**200]


def test_y_of_one_column_is_flattened():
    assert Problem(X, Y[:, None]).y.tolist() == Y.tolist()


def test_the_problem_keeps_its_own_copy():
    mine = X.copy()
    problem = Problem(mine, Y)
    mine[:] = 7
    assert np.array_equal(problem.X, X)
    with pytest.raises(ValueError, match="read-only"):
        problem.X[0, 0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.name = "other"


def test_equality_is_identity():
    a, b = Problem(X, Y), Problem(X, Y)
    assert a == a and a != b and len({a, b}) == 2


def test_pickle_keeps_bits_names_and_read_only_arrays():
    problem = Problem(X, Y, name="mine", feature_names=["a", "b", "c"], truth=[1, 2, 3])
    copy = pickle.loads(pickle.dumps(problem))
    assert np.array_equal(copy.X, X) and np.array_equal(copy.y, Y) and copy.truth.tolist() == [1, 2, 3]
    assert (copy.name, copy.feature_names) == ("mine", ("a", "b", "c"))
    assert not copy.X.flags.writeable and not copy.truth.flags.writeable


def test_repr_is_short():
    assert repr(Problem(X, Y)) == "Problem(2 samples, 3 features)"
    assert repr(Problem([[1]], [1], name="tiny")) == "Problem(tiny: 1 sample, 1 feature)"
    assert repr(Problem(X, Y).row_space) == "RowSpace(rank 2, 3 features, interpolates)"
    assert "least squares, unreachable loss 0.25" in repr(Problem([[1], [1]], [1, -1]).row_space)


def test_loss_and_gradient_against_rational_arithmetic():
    beta = [0.5, -0.25, 2.0]
    rows = [[Fraction(v) for v in row] for row in X]
    fitted = [sum(x * Fraction(b) for x, b in zip(row, beta, strict=True)) for row in rows]
    residual = [f - Fraction(v) for f, v in zip(fitted, Y, strict=True)]
    problem = Problem(X, Y)
    assert problem.loss(beta) == float(sum(r * r for r in residual) / 8)
    assert problem.gradient(beta).tolist() == [
        float(sum(row[j] * r for row, r in zip(rows, residual, strict=True)) / 4) for j in range(3)
    ]


def test_a_loss_beyond_float64_is_infinite_without_a_warning():
    assert Problem([[1e200]], [0]).loss([1e100]) == math.inf


# Refused -------------------------------------------------------------------------------------------------------------

HOLES = np.array([[1, 2, 3], [4, 5, np.nan], [np.nan, 1, 1]])

REFUSED = {
    "NaN in X": (HOLES, np.ones(3), ValueError, r"^X\[1, 2\] is nan: every entry must be finite; drop or impute it$"),
    "Inf in X": ([[1, -np.inf]], [1], ValueError, r"^X\[0, 1\] is -inf"),
    "NaN in y": (np.eye(3), [0, np.nan, np.nan], ValueError, r"^y\[1\] is nan"),
    "NaN in a column y": (np.eye(2), [[0], [np.inf]], ValueError, r"^y\[1, 0\] is inf"),
    "masked": (np.ma.array(np.eye(2), mask=[[0, 0], [1, 0]]), [1, 1], ValueError, r"^X\[1, 0\] is masked"),
    "fewer targets": (np.eye(3), [1, 2], ValueError, r"^y has 2 values but X has shape \(3, 3\): give one target per"),
    "1-D X": ([1.0, 2.0], [1], ValueError, r"^X must be 2-D, .*got shape \(2,\); use X.reshape\(-1, 1\)"),
    "0-D X": (3.0, [1], ValueError, r"^X must be 2-D, .*got shape \(\)"),
    "3-D X": (np.zeros((2, 2, 2)), [1], ValueError, r"^X must be 2-D, .*got shape \(2, 2, 2\)"),
    "no rows": (np.zeros((0, 3)), [], ValueError, r"^X is empty, shape \(0, 3\)"),
    "no columns": (np.zeros((3, 0)), np.ones(3), ValueError, r"^X is empty, shape \(3, 0\)"),
    "empty list": ([], [], ValueError, r"^X must be 2-D, .*got shape \(0,\)"),
    "empty y": (np.eye(2), [], ValueError, r"^y is empty, shape \(0,\)"),
    "0-D y": ([[1.0]], 1.0, ValueError, r"^y must be 1-D \(or one column\), got shape \(\)"),
    "y of two columns": (np.eye(2), np.eye(2), ValueError, r"^y must be 1-D \(or one column\), got shape \(2, 2\)"),
    "y as a row": (np.eye(2), [[1, 2]], ValueError, r"^y must be 1-D \(or one column\), got shape \(1, 2\)"),
    "complex X": (np.eye(2) * 1j, [1, 1], TypeError, r"^X is complex \(complex128\)"),
    "complex y": (np.eye(2), [1, 1j], TypeError, r"^y is complex"),
    "text": ([["1", "2"]], [1], TypeError, r"^X\[0, 0\] = .*'1'.* is of type str_?: every entry must be a real number"),
    "bytes": ([[b"1"]], [1], TypeError, r"^X\[0, 0\] = .*b'1'"),
    "None": ([[1.5, 2], [3, None]], [1, 1], TypeError, r"^X\[1, 1\] = None is of type NoneType: every entry must be"),
    "numbers as objects": (np.array([[1, 2.5]], dtype=object), [1], TypeError, r"^X is an array of objects.*astype"),
    "objects": (np.array([[1, "x"]], dtype=object), [1], TypeError, r"^X\[0, 1\] = 'x' is of type str"),
    "a dictionary": ({"a": 1}, [1], TypeError, r"^X = {'a': 1} is of type dict"),
    "dates": (np.array([["2026-01-01"]], dtype="M8[D]"), [1], TypeError, r"^X has dtype datetime64\[D\]"),
    "records": (np.zeros((1, 1), dtype=[("a", float)]), [1], TypeError, r"^X has dtype "),
    "sparse matrix": (sparse.csr_matrix(np.eye(2)), [1, 1], TypeError, r"csr_matrix of shape \(2, 2\): pass X.toarray"),
    "sparse array": (sparse.coo_array(np.eye(2)), [1, 1], TypeError, r"^X is a sparse coo_array"),
    "ragged": ([[1, 2], [3]], [1, 1], ValueError, r"^X is ragged \(X\[0\] has length 2, X\[1\] has length 1\)"),
    "ragged with a number": ([[1, 2], 3], [1, 1], ValueError, r"^X is ragged"),
    "huge integer": ([[1, 10**400]], [1], ValueError, r"^X\[0, 1\] is an integer of 401 digits, too large for float64"),
    "huge integer among floats": ([[1.5, 10**400]], [1], ValueError, r"^X\[0, 1\] is an integer of 401 digits"),
    "huge integer in y": ([[1]], [-(10**400)], ValueError, r"^y\[0\] is an integer of 401 digits"),
}


@pytest.mark.parametrize(("bad_X", "bad_y", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_bad_arrays_are_refused_in_one_line(bad_X, bad_y, error, message):
    refused(error, message, Problem, bad_X, bad_y)


def test_a_long_double_beyond_float64_is_named():
    big = np.array([[1.0, 2.0]], dtype=np.longdouble)
    with np.errstate(over="ignore"):
        big[0, 1] = np.longdouble("1e400")
    # Where long double is double, the number is infinite before it comes to the door.
    refused(ValueError, r"^X\[0, 1\] (= 1e\+400 is too large for float64|is inf)", Problem, big, [1])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": 3}, TypeError, r"^name must be a string or None, got int: 3"),
        ({"feature_names": "abc"}, TypeError, r"^feature_names must be a sequence of strings, got one string: 'abc'"),
        ({"feature_names": ["a", 2, "c"]}, TypeError, r"^feature_names\[1\] must be a string, got int: 2"),
        ({"feature_names": ["a"]}, ValueError, r"^feature_names has 1 names but X has 3 columns"),
        ({"truth": [1, 2]}, ValueError, r"^truth has 2 values but X has 3 columns"),
        ({"truth": [1, 2, np.nan]}, ValueError, r"^truth\[2\] is nan"),
    ],
)
def test_bad_labels_are_refused_in_one_line(arguments, error, message):
    refused(error, message, Problem, X, Y, **arguments)


def test_beta_of_another_shape_is_refused():
    for method in (Problem(X, Y).loss, Problem(X, Y).gradient):
        refused(ValueError, r"^beta has shape \(2,\): .* shape \(3,\)", method, [1, 2])


# Row space -----------------------------------------------------------------------------------------------------------


def test_row_space_of_degenerate_data_against_least_squares(degenerate):
    _, data, target = degenerate
    problem = Problem(data, target)
    space = problem.row_space
    scale = np.abs(data).max()
    assert space.rank == np.linalg.matrix_rank(data)
    assert space.X.shape == (space.rank, problem.n_features) and space.y.shape == (space.rank,)
    least_squares = np.linalg.lstsq(data, target, rcond=None)[0]
    np.testing.assert_allclose(np.linalg.lstsq(space.X, space.y, rcond=None)[0], least_squares, atol=1e-12)
    np.testing.assert_allclose(space.X @ least_squares, space.y, atol=1e-12 * scale)
    np.testing.assert_allclose(space.unreachable_loss, problem.loss(least_squares), atol=1e-13 * scale**2)
    assert space.interpolates is problem.interpolates is (space.rank == problem.n_samples)
    if space.interpolates:
        assert space.X is problem.X and space.y is problem.y and space.basis is None and space.unreachable_loss == 0
    else:
        np.testing.assert_allclose(space.basis.T @ space.basis, np.eye(space.rank), atol=1e-14)
        np.testing.assert_allclose(space.basis @ space.X, data, atol=1e-13 * scale)
        assert space.unreachable_loss > 0
        assert not (space.basis.flags.writeable or space.X.flags.writeable or space.y.flags.writeable)
    assert problem.row_space is space


def test_zero_columns_stay_exactly_zero(degenerate):
    _, data, target = degenerate
    zero = ~data.any(axis=0)
    assert not Problem(data, target).row_space.X[:, zero].any()


def test_consistent_targets_are_interpolated_whatever_the_rank(degenerate):
    _, data, _ = degenerate
    truth = np.arange(1.0, data.shape[1] + 1)
    space = Problem(data, data @ truth).row_space
    assert space.interpolates and space.unreachable_loss == 0


@pytest.mark.parametrize("exponents", [(0, 100), (100, 0), (-500, 300), (660, 660), (-1000, -1000)])
def test_scaling_by_powers_of_two_changes_no_bit(exponents):
    rng = np.random.default_rng(0)
    data, target = rng.standard_normal((7, 4)), rng.standard_normal(7)
    plain = Problem(data, target).row_space
    scaled = Problem(np.ldexp(data, exponents[0]), np.ldexp(target, exponents[1])).row_space
    assert np.array_equal(scaled.basis, plain.basis) and scaled.rank == plain.rank
    assert np.array_equal(scaled.X, np.ldexp(plain.X, exponents[0]))
    assert np.array_equal(scaled.y, np.ldexp(plain.y, exponents[1]))
    with np.errstate(over="ignore"):
        assert scaled.unreachable_loss == np.ldexp(plain.unreachable_loss, 2 * exponents[1])


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (5, 2)])
def test_row_space_of_zeros_is_empty(shape):
    problem = Problem(np.zeros(shape), np.zeros(shape[0]))
    space = problem.row_space
    assert space.rank == 0 and space.X.shape == (0, shape[1]) and space.y.shape == (0,)
    assert space.basis.shape == (shape[0], 0) and space.interpolates and space.unreachable_loss == 0
    unreachable = Problem(np.zeros(shape), np.ones(shape[0])).row_space
    assert not unreachable.interpolates and unreachable.unreachable_loss == pytest.approx(0.25)


def test_entries_of_modulus_1e200_do_not_overflow():
    data = np.array([[1e200, 2e200], [1e200, 2e200], [3e200, 1e200]])
    space = Problem(data, data[:, 0]).row_space
    assert space.rank == 2 and space.interpolates and np.isfinite(space.X).all()
    np.testing.assert_allclose(np.linalg.solve(space.X / 1e200, space.y / 1e200), [1, 0], atol=1e-14)


def test_rows_of_very_different_scales_are_independent():
    data = np.array([[1.0, 2.0], [1e-30, -3e-30]])
    problem = Problem(data, [1.0, 1e-30])
    assert problem.row_space.X is problem.X


def test_rows_too_large_to_combine_are_refused():
    data = np.full((4, 2), 1.7e308)
    message = r"^X has an entry of modulus 1.7e\+308, too large to combine rows: rescale X$"
    refused(ValueError, message, lambda: Problem(data, np.ones(4)).row_space)


@pytest.mark.parametrize("gap", [1e-9, 1e-12])
def test_nearly_equal_rows_still_have_full_rank(gap):
    """The Gram matrix cannot tell: its eigenvalue gap**2 is below rounding, so singular values must decide."""
    data = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, gap]])
    assert Problem(data, [1, 2]).row_space.rank == 2


# Files ---------------------------------------------------------------------------------------------------------------


def write(folder, text, name="data.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


GOOD_CSV = {
    "plain": "a,b,y\n1,2,3\n4,5,6\n",
    "named target": "a,y,b\n1,3,2\n4,6,5\n",
    "called target": "target,a,b\n3,1,2\n6,4,5\n",
    "blank lines": "\n  \na,b,y\n\n1,2,3\n\n\n4,5,6\n\n",
    "byte-order mark": b"\xef\xbb\xbfa,b,y\n1,2,3\n4,5,6\n",
    "Windows line ends": "a,b,y\r\n1,2,3\r\n4,5,6\r\n",
    "no last newline": "a,b,y\n1,2,3\n4,5,6",
    "spaces and quotes": 'a , "b",y\n 1, "2", +3.0\n4e0,5., 6\n',
}


@pytest.mark.parametrize("text", GOOD_CSV.values(), ids=GOOD_CSV)
def test_csv_variants_give_the_same_problem(tmp_path, text):
    problem = load(write(tmp_path, text))
    assert problem.X.tolist() == [[1, 2], [4, 5]] and problem.y.tolist() == [3, 6]
    assert (problem.name, problem.feature_names) == ("data", ("a", "b"))


def test_csv_target_by_name_and_path_as_text(tmp_path):
    problem = load(str(write(tmp_path, "a,b,y\n1,2,3\n", "mine.txt")), target="a")
    assert problem.X.tolist() == [[2, 3]] and problem.y.tolist() == [1]
    assert (problem.name, problem.feature_names) == ("mine", ("b", "y"))


BAD_CSV = {
    "text in a cell": ("a,b,y\n1,2,3\n1,red,3\n", None, r"data.csv, line 3, column 'b': 'red' is not a number"),
    "line counts blanks": ("a,y\n\n1,2\n\n1,x\n", None, r"line 5, column 'y': 'x' is not a number"),
    "empty cell": ("a,b,y\n1,,3\n", None, r"data.csv, line 2, column 'b' is empty"),
    "nan": ("a,y\n1,2\nnan,3\n", None, r"data.csv, line 3, column 'a': nan is not finite"),
    "inf": ("a,y\n1,-inf\n", None, r"line 2, column 'y': -inf is not finite"),
    "inf and -inf": ("a,b,y\n1,inf,-inf\n", None, r"line 2, column 'b': inf is not finite"),
    "overflow": ("a,y\n1,1e999\n", None, r"line 2, column 'y': 1e999 is too large for float64"),
    "underscore": ("a,y\n1_000,2\n", None, r"line 2, column 'a': '1_000' is not a number"),
    "short row": ("a,b,y\n1,2,3\n1,2\n", None, r"data.csv, line 3 has 2 cells but the header names 3 columns"),
    "long row": ("a,b,y\n1,2,3,4\n", None, r"data.csv, line 2 has 4 cells"),
    "no target": ("a,b,c\n1,2,3\n", None, r"no column called 'y' or 'target'; name the target: it has a, b, c$"),
    "two targets": ("y,a,target\n1,2,3\n", None, r"has both a column 'y' and a column 'target'; name the target"),
    "unknown target": ("age,price\n1,2\n", "prize", r"'prize' \(did you mean 'price'\?\): it has age, price$"),
    "wrong case": ("age,Price\n1,2\n", "PRICE", r"did you mean 'Price'\?"),
    "nothing near": ("age,price\n1,2\n", "zzz", r"no target column 'zzz': it has age, price$"),
    "many columns": (",".join(f"c{i}" for i in range(30)) + "\n", None, r"c19, \.\.\. \(30 in all\)$"),
    "duplicate names": ("a,b,a,y\n1,2,3,4\n", None, r"line 1: columns 1 and 3 are both called 'a'"),
    "unnamed column": (",a,y\n0,1,2\n", None, r"line 1: column 1 has no name"),
    "no header": ("1,2,3\n4,5,6\n", None, r"data.csv, line 1 holds numbers, not names"),
    "empty file": ("", None, r"data.csv is empty"),
    "only blank lines": ("\n \n", None, r"data.csv is empty"),
    "only a header": ("a,y\n", None, r"data.csv has a header but no rows"),
    "one column": ("y\n1\n", None, r"data.csv has only one column, 'y'"),
    "semicolons": ("a;b;y\n1;2;3\n", None, r"data.csv has only one column, 'a;b;y': .*commas"),
    "not text": (b"a,y\n\xff\xfe,1\n", None, r"data.csv is not a CSV file in UTF-8"),
}


@pytest.mark.parametrize(("text", "target", "message"), BAD_CSV.values(), ids=BAD_CSV)
def test_bad_csv_is_refused_in_one_line(tmp_path, text, target, message):
    refused(ValueError, message, load, write(tmp_path, text), target)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 3), min_size=1, max_size=5))
def test_csv_round_trip_keeps_every_bit(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("csv") / "data.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["a", "y", "b"], *table])
    problem = load(path)
    assert np.column_stack([problem.X[:, 0], problem.y, problem.X[:, 1]]).tobytes() == np.array(table).tobytes()


def test_npz_round_trip(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, X=X, y=Y[:, None], other=Y + 1)
    assert np.array_equal(load(path).X, X) and np.array_equal(load(path).y, Y) and load(path).name == "data"
    assert np.array_equal(load(path, target="other").y, Y + 1)


@pytest.mark.parametrize(
    ("arrays", "target", "error", "message"),
    [
        ({"x": X, "y": Y}, None, ValueError, r"data.npz has no array 'X' \(did you mean 'x'\?\): it has x, y$"),
        ({"X": X, "z": Y}, None, ValueError, r"data.npz has no array 'y'.*: it has X, z$"),
        ({"X": X, "y": Y}, "label", ValueError, r"data.npz has no array 'label': it has X, y$"),
        ({"X": X, "y": np.array([1, None])}, None, TypeError, r"data.npz: y holds Python objects, which are refused"),
        ({"X": X, "y": [np.nan, 1]}, None, ValueError, r"data.npz: y\[0\] is nan"),
        ({"X": X, "y": ["a", "b"]}, None, TypeError, r"data.npz: y\[0\] = .*'a'"),
    ],
)
def test_bad_npz_is_refused_in_one_line(tmp_path, arrays, target, error, message):
    np.savez(tmp_path / "data.npz", **arrays)
    refused(error, message, load, tmp_path / "data.npz", target)


def test_files_that_are_not_data(tmp_path):
    np.save(tmp_path / "one.npy", X)
    np.savez(tmp_path / "whole.npz", X=X, y=Y)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:100])
    refused(ValueError, r"one.npy is an NPY file with one array: save both with", load, tmp_path / "one.npy")
    refused(ValueError, r"cut.npz is not a readable NPZ file", load, tmp_path / "cut.npz")
    refused(FileNotFoundError, r"missing.csv does not exist: give a CSV file", load, tmp_path / "missing.csv")
    refused(IsADirectoryError, r" is a directory: give a CSV or NPZ file", load, tmp_path)
    refused(TypeError, r"^path must be a string or a path, got int: 3", load, 3)
    refused(TypeError, r"^target must be the name of a column, a string, got int: 2", load, tmp_path / "whole.npz", 2)


# Synthetic data ------------------------------------------------------------------------------------------------------


def test_sparse_regression_interpolates_its_truth_without_noise():
    problem = sparse_regression(8, 20, 3, rng=1)
    assert np.count_nonzero(problem.truth) == 3 and np.linalg.norm(problem.truth) == pytest.approx(1, rel=1e-15)
    np.testing.assert_allclose(problem.X @ problem.truth, problem.y, atol=1e-15)
    assert not sparse_regression(3, 4, 0, rng=1).truth.any()


def test_same_seed_same_data_and_noise_changes_only_y():
    one = sparse_regression(8, 20, 3, noise=0.5, rng=7)
    two = sparse_regression(8, 20, 3, noise=0.5, rng=np.random.default_rng(7))
    clean = sparse_regression(8, 20, 3, rng=7)
    assert np.array_equal(one.X, two.X) and np.array_equal(one.y, two.y)
    assert np.array_equal(one.X, clean.X) and np.array_equal(one.truth, clean.truth)
    assert not np.array_equal(one.y, clean.y)


def test_moments_of_the_columns_against_their_definition():
    n_samples = 40_000
    problem = sparse_regression(n_samples, 6, 2, noise=0.3, correlation=-0.7, column_mean=2.0, rng=0)
    band = 5 / math.sqrt(n_samples)
    lag = np.abs(np.subtract.outer(np.arange(6), np.arange(6)))
    np.testing.assert_allclose(np.cov(problem.X.T), (-0.7) ** lag, atol=2 * band)
    np.testing.assert_allclose(problem.X.mean(axis=0), 2.0, atol=band)
    assert np.std(problem.y - problem.X @ problem.truth) == pytest.approx(0.3, abs=band)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_samples": 0}, ValueError, r"^n_samples must be at least 1, got 0"),
        ({"n_features": 2.5}, TypeError, r"^n_features must be an integer, got float: 2.5"),
        ({"n_nonzero": 5}, ValueError, r"^n_nonzero must be between 0 and 4, got 5"),
        ({"noise": -1}, ValueError, r"^noise must be at least 0, got -1"),
        ({"noise": "a"}, TypeError, r"^noise must be a real number, got str: 'a'"),
        ({"noise": math.nan}, ValueError, r"^noise must be finite, got nan"),
        ({"correlation": 1}, ValueError, r"^correlation must be inside \(-1, 1\), got 1"),
        ({"column_mean": 10**400}, ValueError, r"^column_mean is an integer too large for float64"),
    ],
)
def test_bad_arguments_of_sparse_regression(arguments, error, message):
    refused(error, message, sparse_regression, **{"n_samples": 3, "n_features": 4, "n_nonzero": 2} | arguments)
