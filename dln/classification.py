"""Two-class data, checked once: margins, losses, and whether a hyperplane through 0 separates them, with a certificate."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ._suggest import unknown
from .problem import _matrix, _vector
from .row_space import EPS, exponent

__all__ = ["LOSSES", "Classification", "Separation", "log_loss_of"]

LOSSES = ("exponential", "logistic")

#: A combination of samples counts as 0 where it is this small, relative to its terms.
_FARKAS_TOL = 1e-12


@dataclass(frozen=True, eq=False, repr=False)
class Separation:
    """Whether data are separable, and what proves it.

    Attributes
    ----------
    separable : bool
        Whether some beta has ``z_i.beta > 0`` for every sample, beyond rounding.
    beta : ndarray (d,) or None
        Such a beta, scaled to margin 1; None without one.
    weights : ndarray (N,) or None
        Otherwise Farkas' certificate: ``w >= 0``, ``sum w = 1`` and ``Z^T w = 0``, which no separating beta allows.
    residual : float
        Largest entry of ``Z^T w`` relative to that of ``|Z|^T w``; 0 where a beta is the certificate.
    decided : bool
        Whether the certificate is good to rounding (the residual at most 1e-12).
    """

    separable: bool
    beta: np.ndarray | None
    weights: np.ndarray | None
    residual: float
    decided: bool

    @property
    def message(self):
        """One line."""
        if self.separable:
            return "separable: a predictor with all margins positive was found"
        proof = f"a convex combination of the samples z_i vanishes (relative residual {self.residual:.1e})"
        if self.decided:
            return f"not separable: {proof}"
        return f"not separable as far as floating point can tell: no predictor separates beyond rounding, and {proof}"

    def __repr__(self):
        return f"Separation({self.message})"


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Classification:
    """Two-class data, checked once and never changed.

    The loss of a predictor is the mean over samples of ``l(z_i.beta)``, ``z_i = label_i x_i``, with ``l(m) = exp(-m)`` or
    ``log(1 + exp(-m))``; ``z_i.beta`` is the margin of a sample.

    Parameters
    ----------
    X : array_like of shape (N, d)
        One row per sample, every entry finite.
    labels : array_like of shape (N,) or (N, 1)
        -1 or +1 each.
    name : str, optional
        What tables and pictures call the data.

    Attributes
    ----------
    X, labels : ndarray
        Read-only float64 copies.
    Z : ndarray of shape (N, d)
        ``labels * X``, row by row.

    Raises
    ------
    TypeError, ValueError
        As `Problem`, and if a label is neither -1 nor +1.
    """

    X: np.ndarray
    labels: np.ndarray
    Z: np.ndarray
    name: str | None

    def __init__(self, X, labels, *, name=None):
        data, signs = _matrix(X), _vector(labels, "labels")
        if len(signs) != len(data):
            raise ValueError(f"labels has {len(signs)} values but X has shape {data.shape}: give one label per row of X")
        bad = np.flatnonzero(np.abs(signs) != 1.0)
        if bad.size:
            raise ValueError(f"labels[{bad[0]}] = {signs[bad[0]]:g}: every label must be -1 or +1; "
                             f"map two classes by np.where(labels == one_of_them, 1, -1)")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a string or None, got {type(name).__name__}: {name!r}")
        Z = signs[:, None] * data
        Z.flags.writeable = False
        for field, value in {"X": data, "labels": signs, "Z": Z, "name": name}.items():
            object.__setattr__(self, field, value)

    def __reduce__(self):
        return _rebuild, (self.X, self.labels, self.name)

    def __repr__(self):
        return f"Classification({f'{self.name}: ' if self.name else ''}{self.n_samples} samples, {self.n_features} features)"

    @property
    def n_samples(self):
        """The number of rows of X, N."""
        return self.X.shape[0]

    @property
    def n_features(self):
        """The number of columns of X, d."""
        return self.X.shape[1]

    def margins(self, beta):
        """Return ``z_i.beta`` of every sample, shape (N,).

        Parameters
        ----------
        beta : array_like of shape (d,)
        """
        beta = np.asarray(beta, dtype=float)
        if beta.shape != (self.n_features,):
            raise ValueError(f"beta has shape {beta.shape}: give one value per column of X, shape ({self.n_features},)")
        return self.Z @ beta

    def margin(self, beta):
        """Return the least margin, ``min_i z_i.beta``."""
        return float(self.margins(beta).min())

    def log_loss(self, beta, loss="exponential"):
        """Return the logarithm of the mean loss, which does not underflow.

        Parameters
        ----------
        beta : array_like of shape (d,)
        loss : {"exponential", "logistic"}
        """
        return log_loss_of(self.margins(beta), loss)

    @cached_property
    def separation(self):
        """Whether the data are separable, with a certificate either way; computed at the first use, then kept."""
        return _separation(self.Z)


def _rebuild(X, labels, name):
    return Classification(X, labels, name=name)


def checked_classification(problem):
    """Return `problem` if it is a `Classification`; else a one-line error."""
    if not isinstance(problem, Classification):
        raise TypeError(f"problem must be a dln.Classification, got {type(problem).__name__}; "
                        f"build one with dln.Classification(X, labels)")
    return problem


def checked_loss(loss):
    """Return `loss` if it is known; else a one-line error."""
    if loss not in LOSSES:
        raise ValueError(unknown("loss", loss, LOSSES))
    return loss


def log_loss_of(margins, loss):
    """Return ``log((1/N) sum l(m_i))`` from the margins."""
    logs = -margins
    if checked_loss(loss) == "logistic":
        # log(log(1 + e^-m)): beyond 40 the inner logarithm is e^-m itself, to rounding.
        logs = np.where(margins > 40.0, -margins, np.log(np.logaddexp(0.0, -np.minimum(margins, 40.0))))
    return float(np.logaddexp.reduce(logs)) - math.log(len(margins))


def scaled(Z):
    """Return (rows, columns) of exponents and ``ldexp(Z, rows + columns)`` with entries of modulus at most 1.

    A linear programme's "optimal" is absolute, so its data are brought to size 1 first, by powers of two.
    """
    columns = -exponent(Z, axis=0)
    one = np.ldexp(Z, columns)
    rows = -exponent(one, axis=1)
    return rows, columns, np.ldexp(one, rows[:, None])


def _separation(Z):
    from scipy.optimize import linprog

    n, d = Z.shape
    rows, columns, A = scaled(Z)
    if not A.any(axis=1).all():
        weights = np.zeros(n)
        weights[np.flatnonzero(~A.any(axis=1))[0]] = 1.0
        return Separation(False, None, weights, 0.0, True)
    # max gamma  s.t.  A b >= gamma, |b| <= 1: its dual is min |A^T w|_1 over the simplex.
    programme = linprog(np.append(np.zeros(d), -1.0), A_ub=np.hstack([-A, np.ones((n, 1))]), b_ub=np.zeros(n),
                        bounds=[(-1, 1)] * d + [(None, None)], method="highs",
                        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10})
    if programme.x is not None:
        b = programme.x[:d]
        margins = A @ b
        if np.all(margins > (d + 2) * EPS * (np.abs(A) @ np.abs(b))):
            beta = np.ldexp(b, columns - np.max(columns))  # in two steps, or data of size 1e300 would underflow
            least = np.min(Z @ beta) if np.max(columns) < 1000 else math.nan
            return Separation(True, beta / least if least > 0.0 else np.ldexp(b / margins.min(), columns), None, 0.0, True)
        w = np.maximum(-np.asarray(programme.ineqlin.marginals), 0.0)
    else:
        w = np.ones(n)
    w = _polished(A, w)
    residual = float(np.max(np.abs(w @ A)) / np.max(w @ np.abs(A)))
    weights = np.ldexp(w, rows - np.max(rows))
    return Separation(False, None, weights / weights.sum(), residual, residual <= _FARKAS_TOL)


def _polished(A, w):
    """Find nonnegative weights with ``A^T w = 0`` more exactly: nonnegative least squares on their support."""
    from scipy.optimize import nnls

    w = w / max(w.sum(), np.finfo(float).tiny)
    for support in (w > 1e-9 * w.max(initial=0.0), np.ones(len(w), dtype=bool)):
        target = np.append(np.zeros(A.shape[1]), 1.0)
        try:
            found, _ = nnls(np.vstack([A[support].T, np.ones(np.count_nonzero(support))]), target)
        except RuntimeError:
            continue
        if found.sum() > 0.5:
            better = np.zeros_like(w)
            better[support] = found / found.sum()
            if not w.any() or np.max(np.abs(better @ A)) <= np.max(np.abs(w @ A)):
                w = better
            if np.max(np.abs(w @ A)) <= _FARKAS_TOL * np.max(w @ np.abs(A)):
                break
    return w if w.any() else np.full(len(w), 1.0 / len(w))
