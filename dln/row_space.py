"""The row space of a problem: the part of it that a predictor can reach, and the scales of its data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy  # its parts are loaded when first used
from numpy.typing import NDArray

from ._aligned import aligned_zeros
from ._large import keeps_gram

__all__ = ["RowSpace", "exponent", "row_space_of"]

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


def exponent(array: Array, axis: int | None = None) -> Any:
    """Exponents e for which ``ldexp(array, -e)`` has largest modulus in [1/2, 1), or 0 for zeros.

    A power of two is the one scale that costs no digits, so data scaled by a power of two give the same bits.
    """
    # Not the largest of np.abs(array), which would be a copy.
    return np.frexp(np.maximum(array.max(axis=axis, initial=0.0), -array.min(axis=axis, initial=0.0)))[1]


def row_space_of(X: Array, y: Array) -> RowSpace:
    """Return the `RowSpace` of data X (N, d) and targets y (N,)."""
    full, gram = _has_full_row_rank(X)
    if full:
        return RowSpace(X, y, None, 0.0, True, gram)
    n_samples = len(y)
    x_exponent, y_exponent = exponent(X), exponent(y)
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
    exponents = -exponent(X, axis=1)[:, None]
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
