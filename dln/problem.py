"""Data: the problem that a network is trained on, and its row space."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy  # its parts are loaded when first used
from numpy.typing import ArrayLike, NDArray

from ._aligned import aligned_zeros
from ._large import keeps_gram

__all__ = ["Problem", "RowSpace"]

Array = NDArray[np.float64]

_PANEL = 128  # columns
_ORDINARY = 1e6  # sums of products of four such numbers are in the range of single precision
_SINGLE_ROUNDING = 6e-8  # relative
_POWER_STEPS = 8  # of the power method

EPS = float(np.finfo(np.float64).eps)


_NO_GRAM = np.empty(0, dtype=np.float32), np.empty(0)


@dataclass(frozen=True, eq=False)
class RowSpace:
    """The part of a regression problem that a predictor can reach.

    If X has full row rank it is the problem itself. Otherwise ``basis`` is an orthonormal basis of the range of X (its
    left singular vectors) and the problem is rotated into it: ``X @ b = y`` has the same least-squares solutions as
    ``row_space.X @ b = row_space.y``, and the latter always has an exact solution.

    Attributes
    ----------
    X : ndarray of shape (rank, d)
        Rows that are linearly independent and span the row space of the original matrix.
    y : ndarray of shape (rank,)
        The reachable part of the targets.
    basis : ndarray of shape (N, rank) or None
        ``X_reduced = basis.T @ X_original``; None where nothing had to be reduced.
    unreachable_loss : float
        What remains of the loss at a least-squares solution; 0 where the data can be interpolated.
    interpolates : bool
        Whether some predictor fits every sample, up to rounding.
    gram : (ndarray, ndarray)
        For large data of full row rank ``X X^T`` in single precision: the upper triangle, row by row (its lower digits serve no
        one), of rows divided by the second array (rank,), powers of two; else empty.  By-product of the check of the rank.
    """

    X: Array
    y: Array
    basis: Array | None
    unreachable_loss: float
    interpolates: bool
    gram: tuple[NDArray[np.float32], Array] = _NO_GRAM

    @cached_property
    def coordinate_scale(self) -> float:
        """The size of a predictor: the largest ``|x_j.y| / |x_j|^2``, the best fit of one column alone; 0 if y is 0."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            single = np.abs(self.y @ self.X) / np.einsum("ij,ij->j", self.X, self.X)
        return float(np.max(single, initial=0.0, where=np.isfinite(single)))

    @cached_property
    def largest_column(self) -> float:
        """The largest Euclidean norm of a column."""
        return math.sqrt(np.einsum("ij,ij->j", self.X, self.X).max(initial=0.0))  # unlike a norm, without a copy of X

    @cached_property
    def squared_norm(self) -> float:
        """About the largest eigenvalue of ``X X^T``: not above it, as a rule less than 20 percent below."""
        v: Any = np.random.default_rng(0).standard_normal(self.X.shape[0])
        for _ in range(_POWER_STEPS):
            v = self.X @ ((v / np.linalg.norm(v)) @ self.X)
        return float(np.linalg.norm(v))

    @cached_property
    def target_norm(self) -> float:
        """The Euclidean norm of y."""
        return float(np.linalg.norm(self.y))

    @cached_property
    def largest_product(self) -> float:
        """The largest entry of ``|X^T y|``."""
        return float(np.abs(self.y @ self.X).max(initial=0.0))

    @cached_property
    def rounding(self) -> float:
        """What rounding errors of single precision in X beta do to the rate of log(u/v), times N over the size of beta.

        0 where sums and products might leave the range of single precision.
        """
        norm = math.sqrt(self.squared_norm)
        ordinary = all(1.0 / _ORDINARY < scale < _ORDINARY for scale in (*self.facts.tolist(), norm))
        return 4.0 * _SINGLE_ROUNDING * self.largest_column * norm if ordinary else 0.0

    @cached_property
    def facts(self) -> Array:
        """What the integrators must know of the data: (`coordinate_scale`, `largest_column`, `target_norm`)."""
        return np.array([self.coordinate_scale, self.largest_column, self.target_norm])

    @property
    def rank(self) -> int:
        """The rank of X, an integer from 0 to min(N, d)."""
        return self.X.shape[0]

    def __repr__(self) -> str:
        kind = "interpolates" if self.interpolates else f"least squares, unreachable loss {self.unreachable_loss:.3g}"
        return f"RowSpace(rank {self.rank}, {self.X.shape[1]} features, {kind})"


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Problem:
    """Least-squares regression data, checked once and never changed.

    The loss is ``L(beta) = |X beta - y|^2 / (4 N)``, the mean over samples of ``r_i^2 / 4``. Anything that is a real
    array is welcome (lists, integers, booleans, float32, read-only, strided or Fortran-ordered arrays): the problem
    keeps its own C-contiguous read-only float64 copies. Two problems are equal only if they are the same object.

    Parameters
    ----------
    X : array_like of shape (N, d)
        One row per sample, one column per feature; N and d at least 1, every entry finite.
    y : array_like of shape (N,) or (N, 1)
        One finite target per sample.
    name : str, optional
        What tables and pictures call the data.
    feature_names : sequence of str of length d, optional
        Names of the columns.
    truth : array_like of shape (d,), optional
        The predictor that generated the data, where it is known.

    Raises
    ------
    TypeError
        If an array is complex, holds text or objects, or is sparse.
    ValueError
        If shapes do not match, an array is empty, or an entry is NaN, infinite, masked or too large for float64.
    """

    X: Array
    y: Array
    name: str | None
    feature_names: tuple[str, ...] | None
    truth: Array | None

    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        name: str | None = None,
        feature_names: Sequence[str] | None = None,
        truth: ArrayLike | None = None,
    ) -> None:
        data, target = _matrix(X), _vector(y, "y")
        n_samples, n_features = data.shape
        if len(target) != n_samples:
            raise ValueError(
                f"y has {len(target)} values but X has shape {data.shape}: give one target per row of X"
            )
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a string or None, got {type(name).__name__}: {shown(name)}")
        if feature_names is not None:
            if isinstance(feature_names, str):
                raise TypeError(f"feature_names must be a sequence of strings, got one string: {shown(feature_names)}")
            feature_names = tuple(feature_names)
            for j, feature in enumerate(feature_names):
                if not isinstance(feature, str):
                    kind = type(feature).__name__
                    raise TypeError(f"feature_names[{j}] must be a string, got {kind}: {shown(feature)}")
            if len(feature_names) != n_features:
                raise ValueError(f"feature_names has {len(feature_names)} names but X has {n_features} columns")
        if truth is not None:
            truth = _vector(truth, "truth")
            if len(truth) != n_features:
                raise ValueError(f"truth has {len(truth)} values but X has {n_features} columns")
        fields = {"X": data, "y": target, "name": name, "feature_names": feature_names, "truth": truth}
        for field, value in fields.items():
            object.__setattr__(self, field, value)

    def __reduce__(self) -> tuple[Any, ...]:
        # Through the constructor: a plain copy of the state would come back with writable arrays.
        return _rebuild, (self.X, self.y, self.name, self.feature_names, self.truth)

    def __repr__(self) -> str:
        samples = f"{self.n_samples} sample{'s' * (self.n_samples != 1)}"
        features = f"{self.n_features} feature{'s' * (self.n_features != 1)}"
        return f"Problem({f'{self.name}: ' if self.name else ''}{samples}, {features})"

    @property
    def n_samples(self) -> int:
        """The number of rows of X, N."""
        return self.X.shape[0]

    @property
    def n_features(self) -> int:
        """The number of columns of X, d."""
        return self.X.shape[1]

    def loss(self, beta: ArrayLike) -> float:
        """Evaluate the loss of a predictor.

        Parameters
        ----------
        beta : array_like of shape (d,)
            The predictor.

        Returns
        -------
        float
            ``|X beta - y|^2 / (4 N)``.

        Raises
        ------
        ValueError
            If `beta` has another shape.
        """
        with np.errstate(over="ignore"):  # a loss beyond 1e308 is inf, which is the right answer in float64
            residual = self._residual(beta)
            return float(residual @ residual) / (4 * self.n_samples)

    def gradient(self, beta: ArrayLike) -> Array:
        """Evaluate the gradient of the loss with respect to the predictor.

        Parameters
        ----------
        beta : array_like of shape (d,)
            The predictor.

        Returns
        -------
        ndarray of shape (d,)
            ``X.T @ (X beta - y) / (2 N)``, a vector in the row space of X.

        Raises
        ------
        ValueError
            If `beta` has another shape.
        """
        with np.errstate(over="ignore"):
            return self.X.T @ (self._residual(beta) / (2 * self.n_samples))

    def _residual(self, beta: ArrayLike) -> Array:
        beta = np.asarray(beta, dtype=np.float64)
        if beta.shape != (self.n_features,):
            raise ValueError(f"beta has shape {beta.shape}: give one value per column of X, shape ({self.n_features},)")
        return self.X @ beta - self.y

    @cached_property
    def row_space(self) -> RowSpace:
        """The reachable part of the problem, a `RowSpace`; computed at the first use, then kept."""
        return _row_space(self.X, self.y)

    @property
    def interpolates(self) -> bool:
        """Whether some predictor fits every sample, up to rounding."""
        return self.row_space.interpolates


def _rebuild(
    X: Array, y: Array, name: str | None, feature_names: tuple[str, ...] | None, truth: Array | None
) -> Problem:
    return Problem(X, y, name=name, feature_names=feature_names, truth=truth)


# ---------------------------------------------------------------------------------------------------------------------
# Checks at the door


def _real_array(value: Any, name: str) -> Array:
    """Copy `value` to a C-contiguous float64 array, or say what is wrong with it and where."""
    sparse = sys.modules.get("scipy.sparse")  # whoever has a sparse array has loaded it; others need not wait for it
    if sparse is not None and sparse.issparse(value):
        raise TypeError(f"{name} is a sparse {type(value).__name__} of shape {value.shape}: pass {name}.toarray()")
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        place = _first(np.ma.getmaskarray(value), name)
        raise ValueError(f"{place} is masked: fill or drop masked entries before building the problem")
    try:
        raw = np.asarray(value)
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        raise ValueError(f"{name} is ragged{_ragged_place(value, name)}: rows must all have one length") from None
    except OverflowError:  # a Python integer beyond float64 in the company of floats
        raw = np.asarray(value, dtype=object)
    if raw.dtype.kind not in "biuf":
        raw = _numbers(raw, name)
        if isinstance(value, np.ndarray):
            raise TypeError(f"{name} is an array of objects, though all are numbers: pass {name}.astype(float)")
    with np.errstate(over="ignore", invalid="ignore"):  # both are looked for, with their place, just below
        array = aligned_zeros(raw.shape)
        array[...] = raw
    bad = ~np.isfinite(array)
    if bad.any():
        place, entry = _first(bad, name), raw[np.unravel_index(int(np.argmax(bad)), bad.shape)]
        if np.isfinite(entry):
            raise ValueError(f"{place} = {entry!s} is too large for float64 (about 1.8e308): rescale {name}")
        raise ValueError(f"{place} is {entry}: every entry must be finite; drop or impute it")
    array.flags.writeable = False
    return array


def _numbers(raw: NDArray[Any], name: str) -> NDArray[np.float64]:
    """Convert Python numbers that fit no common integer type; refuse what is not a real number, naming the first."""
    if raw.dtype.kind == "c":
        raise TypeError(f"{name} is complex ({raw.dtype}): every entry must be a real number, as in {name}.real")
    if raw.dtype.kind not in "USO":
        raise TypeError(f"{name} has dtype {raw.dtype}: every entry must be a real number")
    for index, entry in np.ndenumerate(raw):
        if not isinstance(entry, (int, float, np.integer, np.floating, np.bool_)):
            what = f"{_place(name, index)} = {shown(entry)} is of type {type(entry).__name__}"
            raise TypeError(f"{what}: every entry must be a real number")
        try:
            float(entry)
        except OverflowError:
            digits = int(int(entry).bit_length() * math.log10(2)) + 1
            what = f"{_place(name, index)} is an integer of {digits} digits"
            raise ValueError(f"{what}, too large for float64 (about 1.8e308): rescale {name}") from None
    return raw.astype(np.float64)


def shown(value: Any) -> str:
    """Show a value in a message: on one line, and not much of it."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else f"{text[:37]}..."


def _matrix(value: ArrayLike) -> Array:
    X = _real_array(value, "X")
    if X.ndim != 2:
        advice = "; use X.reshape(-1, 1) for one feature or X.reshape(1, -1) for one sample" if X.ndim == 1 else ""
        raise ValueError(f"X must be 2-D, (samples, features), got shape {X.shape}{advice}")
    if X.size == 0:
        raise ValueError(f"X is empty, shape {X.shape}: give at least one sample and one feature")
    return X


def _vector(value: ArrayLike, name: str) -> Array:
    vector = _real_array(value, name)
    if vector.ndim == 2 and vector.shape[1] == 1:
        vector = vector[:, 0]  # of one column: still contiguous and read-only
    if vector.ndim != 1:
        raise ValueError(f"{name} must be 1-D (or one column), got shape {vector.shape}: give one value each")
    if vector.size == 0:
        raise ValueError(f"{name} is empty, shape {vector.shape}: give at least one value")
    return vector


def _place(name: str, index: tuple[int, ...]) -> str:
    return f"{name}[{', '.join(map(str, index))}]" if index else name


def _first(bad: NDArray[np.bool_], name: str) -> str:
    """Name the first place where `bad` is true."""
    return _place(name, tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape)))


def _ragged_place(value: Any, name: str) -> str:
    lengths = [len(row) if hasattr(row, "__len__") else None for row in value]
    for i, length in enumerate(lengths):
        if length != lengths[0]:
            return f" ({name}[0] has length {lengths[0]}, {name}[{i}] has length {length})"
    return ""


# ---------------------------------------------------------------------------------------------------------------------
# Row space


def _exponent(array: Array, axis: int | None = None) -> Any:
    """Exponents e for which ``ldexp(array, -e)`` has largest modulus in [1/2, 1), or 0 for zeros.

    A power of two is the one scale that costs no digits, so data scaled by a power of two give the same bits.
    """
    # Not the largest of np.abs(array), which would be a copy.
    return np.frexp(np.maximum(array.max(axis=axis, initial=0.0), -array.min(axis=axis, initial=0.0)))[1]


def _row_space(X: Array, y: Array) -> RowSpace:
    full, gram = _has_full_row_rank(X)
    if full:
        return RowSpace(X, y, None, 0.0, True, gram)
    n_samples = len(y)
    x_exponent, y_exponent = _exponent(X), _exponent(y)
    scaled_X, scaled_y = np.ldexp(X, -x_exponent), np.ldexp(y, -y_exponent)
    basis, singular, _ = np.linalg.svd(scaled_X, full_matrices=False)
    noise = max(X.shape) * EPS
    rank = int(np.count_nonzero(singular > noise * singular[0]))
    if rank == n_samples:
        return RowSpace(X, y, None, 0.0, True)
    basis = np.ascontiguousarray(basis[:, :rank])
    # Not diag(singular) @ Vt: this product keeps zero columns exactly zero, so that their weights never move.
    reduced_X = basis.T @ scaled_X
    reduced_y = basis.T @ scaled_y
    rest = scaled_y - basis @ reduced_y
    rest -= basis @ (basis.T @ rest)  # once more: the first pass leaves rounding of the size of y
    # Singular vectors are only known up to rounding times the condition number.
    condition = singular[0] / singular[rank - 1] if rank else 1.0
    tolerance = min(10 * noise * condition, 1e-8)
    interpolates = bool(np.linalg.norm(rest) <= tolerance * np.linalg.norm(scaled_y))
    with np.errstate(over="ignore"):
        unreachable = 0.0 if interpolates else float(np.ldexp(rest @ rest / (4 * n_samples), 2 * y_exponent))
        reduced_X = np.ldexp(reduced_X, x_exponent, out=aligned_zeros(reduced_X.shape))
        reduced_y = np.ldexp(reduced_y, y_exponent)
    for name, array, original in (("X", reduced_X, X), ("y", reduced_y, y)):
        if not np.isfinite(array).all():
            largest = np.abs(original).max()
            raise ValueError(f"{name} has an entry of modulus {largest:.3g}, too large to combine rows: rescale {name}")
    for array in (basis, reduced_X, reduced_y):
        array.flags.writeable = False
    return RowSpace(reduced_X, reduced_y, basis, unreachable, interpolates)


def _has_full_row_rank(X: Array) -> tuple[bool, tuple[NDArray[np.float32], Array]]:
    """Whether the rows are linearly independent, each judged on its own scale; and `RowSpace.gram`."""
    n_samples, n_features = X.shape
    if n_samples > n_features or not X.any(axis=1).all():
        return False, _NO_GRAM
    exponents = -_exponent(X, axis=1)[:, None]
    # The Gram matrix is several times cheaper than the singular values. It squares them, so only a clear yes counts.
    gram, kept = _scaled_gram(X, exponents), _NO_GRAM
    if keeps_gram(X.shape):
        # Of rows divided by half as much, since twice the largest power of two is infinite.
        triangle = np.concatenate([4.0 * gram[i:, i] for i in range(n_samples)], dtype=np.float32, casting="same_kind")
        kept = triangle, np.ldexp(0.5, -exponents[:, 0])
        eigenvalues = scipy.linalg.eigvalsh(gram, overwrite_a=True, check_finite=False)  # in its place: no second matrix
    else:
        eigenvalues = np.linalg.eigvalsh(gram)
    if eigenvalues[0] > 1e-8 * eigenvalues[-1]:
        return True, kept
    singular = np.linalg.svd(np.ldexp(X, exponents), compute_uv=False)
    return bool(singular[-1] > n_features * EPS * singular[0]), kept


def _scaled_gram(X: Array, exponents: Any) -> Array:
    """Return the Gram matrix of the rows times 2 to these powers, its lower triangle, without a second X."""
    n_samples, n_features = X.shape
    gram = np.zeros((n_samples, n_samples), order="F")
    width = max(_PANEL, 65536 // n_samples)
    for first in range(0, n_features, width):
        panel = np.ldexp(X[:, first:first + width], exponents)
        if keeps_gram(X.shape):
            gram = scipy.linalg.blas.dsyrk(1.0, panel.T, beta=1.0, c=gram, trans=1, lower=1, overwrite_c=1)
        else:
            gram += panel @ panel.T  # to import scipy.linalg takes longer than all of a small run
    return gram
