"""What is measured of the runs: built-in measures on a whole tile at once, and functions of the user on one run."""

import inspect
import math
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from .._suggest import unknown
from ..minimizer import minimum_norm
from ..sparse import basis_pursuit
from .ends import Ends
from .identity import describe

STATUS = "status"


@dataclass(frozen=True)
class Measure:
    """Something measured of every cell.

    Attributes
    ----------
    name, long_name, units : str
    function : callable
        Of `Ends`, giving (C,); or the user's, of a run or of a run and its prediction.
    kind : {"float", "integer"}
        What the Dataset holds.  Integers are -1 where there is none.
    per_cell : bool
        A user's function.
    wants_prediction : bool
        A user's function of (run, prediction).
    always : bool
        Known of failed runs, too.
    """

    name: str
    long_name: str
    units: str
    function: Callable
    kind: str = "float"
    per_cell: bool = False
    wants_prediction: bool = False
    always: bool = False

    def __reduce__(self):
        # Built-in functions are known to the worker by name.
        if self.per_cell:
            return Measure, (self.name, self.long_name, self.units, self.function, self.kind, True, self.wants_prediction)
        return _by_name, (self.name,)

    @property
    def identity(self):
        """Name, and for a user's function what it is."""
        return [self.name, describe(self.function)] if self.per_cell else self.name


def _slopes(ends):
    """Return the slopes ``D u^(D-1)``, ``D v^(D-1)`` of u^D and v^D, and the gradient in beta, (C, d) each."""
    D = ends.depth
    with np.errstate(under="ignore", over="ignore"):
        return D * np.exp((D - 1.0) * ends.log_us), D * np.exp((D - 1.0) * ends.log_vs), ends.gradients


def _gradient_norm(ends):
    a, b, g = _slopes(ends)
    with np.errstate(under="ignore", over="ignore"):
        return np.sqrt(np.sum((a * a + b * b) * g * g, axis=1))


def _bends(ends):
    """Return the curvature that the map adds to the Hessian: ``D (D-1) u^(D-2) g`` for u, with - for v, (C, d) each."""
    D, g = ends.depth, ends.gradients
    with np.errstate(under="ignore", over="ignore"):
        return D * (D - 1.0) * np.exp((D - 2.0) * ends.log_us) * g, -D * (D - 1.0) * np.exp((D - 2.0) * ends.log_vs) * g


def _hessian_trace(ends):
    a, b, _ = _slopes(ends)
    squares = np.einsum("ij,ij->j", ends.problem.X, ends.problem.X) / (2.0 * ends.problem.n_samples)
    up, down = _bends(ends)
    with np.errstate(under="ignore", over="ignore"):
        return np.sum((a * a + b * b) * squares + (up + down), axis=1)


_DENSE = 600  # up to this many weights all eigenvalues are cheap; above, Lanczos for the largest


def _sharpness(ends):
    # The Hessian in the weights is W^T W + diag(bend), with W = X/sqrt(2N) times the slopes of the map.
    a, b, _ = _slopes(ends)
    up, down = _bends(ends)
    bends = np.concatenate([up, down], axis=1)
    Z = ends.problem.row_space.X / math.sqrt(2.0 * ends.problem.n_samples)
    values = np.full(len(ends), np.nan)
    for k in range(len(ends)):
        if not (np.isfinite(a[k]).all() and np.isfinite(b[k]).all() and np.isfinite(bends[k]).all()):
            continue
        W = np.concatenate([Z * a[k], Z * -b[k]], axis=1)
        small = W @ W.T if W.shape[0] <= W.shape[1] else W.T @ W
        top = float(np.linalg.eigvalsh(small)[-1]) if small.size else 0.0
        bend = float(np.max(np.abs(bends[k])))
        values[k] = top if bend <= 1e-14 * top else _largest_eigenvalue(W, bends[k])
    return values


def _largest_eigenvalue(W, bend):
    if bend.size <= _DENSE:
        return float(np.linalg.eigvalsh(W.T @ W + np.diag(bend))[-1])
    from scipy.sparse.linalg import LinearOperator, eigsh

    operator = LinearOperator((bend.size, bend.size), matvec=lambda x: W.T @ (W @ x) + bend * x, dtype=float)
    return float(eigsh(operator, k=1, which="LA", v0=np.abs(W).sum(axis=0) + 1e-300, tol=1e-12, return_eigenvectors=False)[0])


_REFERENCES: "weakref.WeakKeyDictionary" = weakref.WeakKeyDictionary()
_REFERENCES_LOCK = threading.Lock()


def references(problem):
    """Return the interpolators of least l2 and l1 norm, computed once per problem and process."""
    with _REFERENCES_LOCK:
        if problem not in _REFERENCES:
            _REFERENCES[problem] = minimum_norm(problem).beta, basis_pursuit(problem).beta
        return _REFERENCES[problem]


def _richness(ends):
    kernel, rich = references(ends.problem)
    span = float(np.linalg.norm(kernel - rich))
    if span <= 1e-10 * float(np.linalg.norm(kernel)):
        return np.full(len(ends), np.nan)  # one interpolator only: the regimes do not differ
    return 1.0 - np.linalg.norm(ends.betas - rich, axis=1) / span


def _distance_to_truth(ends):
    truth = ends.problem.truth
    return np.full(len(ends), np.nan) if truth is None else np.linalg.norm(ends.betas - truth, axis=1)


def _prediction_error(ends):
    values = np.full(len(ends), np.nan)
    for k in np.flatnonzero(ends.success):
        best = ends.prediction(k)
        if best is not None and best.success:
            size = float(np.linalg.norm(best.beta))
            distance = float(np.linalg.norm(ends.betas[k] - best.beta))
            values[k] = distance / size if size > 0.0 else distance
    return values


_BUILT_IN = (
    Measure("l1_norm", "l1 norm of beta", "units of beta", lambda ends: np.abs(ends.betas).sum(axis=1)),
    Measure("l2_norm", "l2 norm of beta", "units of beta", lambda ends: np.linalg.norm(ends.betas, axis=1)),
    Measure("richness", "1 - |beta - beta_1| / |beta_2 - beta_1|, of the interpolators of least l1 and l2 norm", "1",
            _richness),
    Measure("distance_to_truth", "l2 distance of beta to the truth", "units of beta", _distance_to_truth),
    Measure("mean_log_effective_alpha", "mean over coordinates of log alpha_eff", "1",
            lambda ends: ends.log_effective_alphas.mean(axis=1)),
    Measure("spread_log_effective_alpha", "standard deviation over coordinates of log alpha_eff", "1",
            lambda ends: ends.log_effective_alphas.std(axis=1)),
    Measure("mean_log_shift", "mean over coordinates of log(alpha_eff/alpha)", "1",
            lambda ends: (ends.log_effective_alphas - ends.log_alphas).mean(axis=1)),
    Measure("sharpness", "largest eigenvalue of the Hessian of the loss in the weights", "units of loss / weight^2",
            _sharpness),
    Measure("hessian_trace", "trace of the Hessian of the loss in the weights", "units of loss / weight^2",
            _hessian_trace),
    Measure("gradient_norm", "norm of the gradient of the loss in the weights", "units of loss / weight", _gradient_norm),
    Measure("loss", "loss |X beta - y|^2 / (4N)", "units of y^2", lambda ends: ends.losses),
    Measure("residual", "norm of the reachable part of X beta - y, relative to y", "1", lambda ends: ends.residuals),
    Measure("t", "time at the end of the run", "time of the flow", lambda ends: ends.times, always=True),
    Measure("steps", "accepted steps", "1", lambda ends: ends.n_steps, kind="integer", always=True),
    Measure("prediction_error", "relative l2 distance of beta to the minimiser that theory predicts for the run", "1",
            _prediction_error),
)
BUILT_IN = {measure.name: measure for measure in _BUILT_IN}
DEFAULT = ("l1_norm", "l2_norm", "mean_log_effective_alpha", "loss", "steps")

_STATUS = Measure(STATUS, "why the run stopped", "1", lambda ends: ends.codes, kind="status", always=True)


def _by_name(name):
    return _STATUS if name == STATUS else BUILT_IN[name]


def checked_measures(measures):
    """Return `Measure` objects for names, functions, or a mapping of names to either; the status comes first, always."""
    if isinstance(measures, str) or callable(measures):
        measures = (measures,)
    entries = measures.items() if isinstance(measures, Mapping) else [(None, entry) for entry in measures]
    chosen = [_STATUS]
    for name, entry in entries:
        if isinstance(entry, str):
            if entry == STATUS:
                continue
            if entry not in BUILT_IN:
                raise ValueError(unknown("measure", entry, BUILT_IN))
            found = BUILT_IN[entry]
            if name not in (None, entry):
                raise ValueError(f"measure {name!r}: a built-in one keeps its name, {entry!r}")
        elif callable(entry):
            found = _of_user(name, entry)
        else:
            raise TypeError(f"a measure must be a name or a function of (run) or (run, prediction), got {entry!r}")
        if found.name in [measure.name for measure in chosen]:
            raise ValueError(f"measure {found.name!r} is given twice")
        chosen.append(found)
    return tuple(chosen)


def _of_user(name, function):
    name = getattr(function, "__name__", None) if name is None else name
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"measure {name or function!r} has no name: define it with def, or give measures={{'name': function}}")
    required = [parameter for parameter in inspect.signature(function).parameters.values()
                if parameter.default is parameter.empty and parameter.kind in (parameter.POSITIONAL_ONLY,
                                                                               parameter.POSITIONAL_OR_KEYWORD)]
    if len(required) not in (1, 2):
        raise TypeError(f"measure {name!r} must take (run) or (run, prediction), but it needs {len(required)} arguments")
    words = " ".join((function.__doc__ or name).split("\n\n")[0].split())
    return Measure(name, words, "", function, per_cell=True, wants_prediction=len(required) == 2)


class MeasureError(RuntimeError):
    """A measure of the user has raised, or given something that is no number."""


def measured(measures, ends: Ends):
    """Return the values (M, C) of all measures; NaN where the run failed, except for what is known of failures, too."""
    values = np.full((len(measures), len(ends)), np.nan)
    good = ends.success
    for row, measure in zip(values, measures, strict=True):
        if measure.per_cell:
            for k in np.flatnonzero(good):
                row[k] = _call(measure, ends, k)
        else:
            found = np.asarray(measure.function(ends), dtype=float)
            row[:] = found if measure.always else np.where(good, found, np.nan)
    return values


def _call(measure, ends, k):
    arguments: tuple = (ends.run(k),)
    if measure.wants_prediction:
        best = ends.prediction(k)
        if best is None:
            return np.nan
        arguments += (best,)
    try:
        value = measure.function(*arguments)
    except Exception as error:
        raise MeasureError(f"measure {measure.name!r} failed at {ends.words(k)}: {type(error).__name__}: {error}") from error
    try:
        return float(value)
    except (TypeError, ValueError):
        raise MeasureError(f"measure {measure.name!r} must give a number, got {type(value).__name__} at "
                           f"{ends.words(k)}") from None
