"""Data: the problem that a network is trained on."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._aligned import aligned_zeros
from .row_space import Array, RowSpace, row_space_of

__all__ = ["Problem", "RowSpace"]


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
        return row_space_of(self.X, self.y)

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
