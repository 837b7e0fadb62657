"""The loop over steps of a stochastic flow, and the Gaussian numbers that drive it.

The state is that of a flow in dual coordinates, ``z = (nu, Q)`` with ``log(u v) = log(u0 v0) - 4 Q`` and
``log(u/v) = log(u0/v0) - 4 X^T nu``: the noise moves nu, and Ito's correction moves Q.  Hence no step can break the law.
"""

import math

import numpy as np
from numba import types

from .._jit import DATA_MATRIX, DATA_VECTOR, MATRIX, VECTOR, njit
from .._linalg import copy, copy_rows, rmatvec
from .state import SYSTEM, System, evaluate

# What the kernel reports.
RUNNING, DIVERGED = range(2)
# Models of the noise, in the order of the words below.
SAMPLES, ISOTROPIC, LABELS = range(3)
NOISES = ("samples", "isotropic", "labels")
# Settings: a float vector.  C is 1/(2N), SIZE is 1/(N B), STEP is eta, DRIFT the factor of g^2 in Q', UNIT_OF_R as in descent.
C, STEP, DT, SIZE, DRIFT, KIND, CENTERED, LABEL_VARIANCE, HEUN, SHRINKS, UNIT_OF_R, DONE, STARTED, SETTINGS_SIZE = range(14)
# Rows of `sums_d` (3, d): int g^2, int q of the rule, and g now.
SQUARE_G, RULE_Q, G = range(3)

_LIMIT = 1e20
_BLOCK = 4096  # steps drawn at once, unless that are too many numbers
_NUMBERS = 2**19

STOCHASTIC = types.int64(
    types.intp, DATA_MATRIX, DATA_VECTOR, DATA_MATRIX, DATA_VECTOR,  # rule, X, y, X*X, its column sums
    MATRIX, VECTOR, VECTOR, VECTOR, VECTOR, MATRIX,  # rows, z, f, r, sums_n, sums_d
    VECTOR, MATRIX, DATA_MATRIX, types.int64)  # settings, params, xi, steps to make
_SHRINK = types.void(
    DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, DATA_MATRIX, DATA_VECTOR, types.float64, VECTOR, VECTOR)


class Increments:
    """A stream of independent standard normal numbers: row k is ``xi_k = dB_k / sqrt(dt)`` of step k.

    Give one to `dln.stochastic_flow` as `rng`, or draw the same numbers elsewhere: a second, independent integration of the
    same path.  The numbers depend on the seed and on k alone, however the run is cut into pieces.

    Parameters
    ----------
    width : int
        Brownian motions: N, or 2N for centred sampling noise together with label noise.
    rng : int, Generator or SeedSequence, optional
    coarsen : int
        Steps of a fine grid to one step: row k is the sum of rows ``m k, ..., m k + m - 1`` of the stream with
        ``coarsen=1``, over ``sqrt(m)``.  So runs with dt and ``coarsen=m``, and with ``dt/m`` and 1, see one Brownian path.

    Examples
    --------
    >>> from dln.integrate.stochastic import Increments
    >>> Increments(3, 0).draw(0, 5).shape
    (5, 3)
    """

    def __init__(self, width, rng=None, coarsen=1):
        self.width, self.coarsen = int(width), int(coarsen)
        if self.width < 0 or self.coarsen < 1:
            raise ValueError(f"Increments needs width >= 0 and coarsen >= 1, got {width} and {coarsen}")
        self.rng = np.random.default_rng(rng)
        self.block = max(1, min(_BLOCK, _NUMBERS // max(1, self.width)))
        self.drawn, self.numbers = -1, np.empty((0, self.width))

    def _block(self):
        if self.coarsen == 1:
            return self.rng.standard_normal((self.block, self.width))
        total = np.empty((self.block, self.width))
        for row in total:  # the fine numbers of a step at a time: memory for one of them
            row[:] = self.rng.standard_normal((self.coarsen, self.width)).sum(axis=0)
        return total / math.sqrt(self.coarsen)

    def draw(self, first, count):
        """Return the numbers (count, width) of steps from `first` on; go forward, and not across a multiple of `block`."""
        number, start = divmod(first, self.block)
        if number < self.drawn or start + count > self.block:
            raise ValueError(f"draw goes forward, within blocks of {self.block} steps; got steps {first} to {first + count}")
        while self.drawn < number:
            self.drawn += 1
            self.numbers = self._block()
            self.numbers.flags.writeable = False
        return self.numbers[start:start + count]


def increments(n_steps, width, rng=None, coarsen=1):
    """Return the numbers (n_steps, width) that a run with this seed sees, all at once; see `Increments`."""
    stream = Increments(width, rng, coarsen)
    pieces = [stream.draw(first, min(stream.block, n_steps - first)) for first in range(0, n_steps, stream.block)]
    return np.concatenate(pieces) if pieces else np.empty((0, stream.width))


@njit(_SHRINK, allocates=False)
def shrink(squares, column_sums, sums_n, sums_d, settings, t, work_n, Q):
    """Fill Q with ``int q`` of the rule and of the noise at time t, given ``int r^2`` and ``int g^2``."""
    kind, eta = settings[KIND], settings[STEP]
    labels = settings[LABEL_VARIANCE] * t
    factor = 0.25 * eta * settings[SIZE]
    n, d = squares.shape
    if kind == SAMPLES:
        for i in range(n):
            work_n[i] = sums_n[i] + labels
        rmatvec(squares, work_n, factor, Q)
    else:
        level = labels
        if kind == ISOTROPIC:
            for i in range(n):
                level += sums_n[i] / n
        for j in range(d):
            Q[j] = factor * level * column_sums[j]
    drift = eta * settings[DRIFT]
    for j in range(d):
        Q[j] += sums_d[RULE_Q, j] + drift * sums_d[SQUARE_G, j]


@njit(types.void(DATA_VECTOR, DATA_VECTOR, DATA_VECTOR, VECTOR), allocates=False)
def kick(r, xi, settings, move):
    """Fill `move` (N,) with what the noise adds to nu in a step."""
    n = r.shape[0]
    variance, kind = settings[LABEL_VARIANCE], settings[KIND]
    scale = 0.5 * math.sqrt(settings[STEP] * settings[DT] * settings[SIZE])
    if kind == SAMPLES and settings[CENTERED] != 0.0:
        mean = 0.0
        for i in range(n):
            mean += xi[i] / n
        delta = math.sqrt(variance)
        for i in range(n):
            move[i] = scale * r[i] * (xi[i] - mean)
            if variance > 0.0:
                move[i] += scale * delta * xi[n + i]
    elif kind == SAMPLES:
        for i in range(n):
            move[i] = scale * (math.sqrt(r[i] * r[i] + variance) if variance > 0.0 else r[i]) * xi[i]
    else:
        level = variance
        if kind == ISOTROPIC:
            for i in range(n):
                level += r[i] * r[i] / n
        for i in range(n):
            move[i] = scale * math.sqrt(level) * xi[i]


@njit(types.boolean(types.intp, SYSTEM, DATA_VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, MATRIX, MATRIX), allocates=False)
def _evaluate(rule, system, settings, z, params, r, f, sums_d, work_n):
    # The rule, r and g at z; False where the residual leaves the range of numbers.
    if not evaluate(rule, system, settings[C], z, params, r, f, work_n):
        return False
    rmatvec(system.X, r, settings[C], sums_d[G])
    total = 0.0
    for i in range(r.shape[0]):
        total += (settings[UNIT_OF_R] * r[i]) ** 2
    return total <= _LIMIT * _LIMIT


@njit(STOCHASTIC)
def stochastic_steps(rule, X, y, squares, column_sums, rows, z, f, r, sums_n, sums_d, settings, params, xi, n_steps):
    """Make `n_steps` steps in place; return why it stopped.

    ``z = (nu, Q)``; `sums_n` is ``int r^2``.  `params` has one row, or one per step and one more for the end of the last.
    Euler-Maruyama, or Heun's method for the drift with the noise of the left end, which is Ito's: for small eta the error
    of the drift rules, and that is then of second order (Milstein & Tretyakov 1997).
    """
    n, d = X.shape
    heun, shrinks, dt = settings[HEUN] != 0.0, settings[SHRINKS] != 0.0, settings[DT]
    system = System(X, y, rows)
    work_n = np.empty((2, n))
    nu, nu_old, f_old, move = z[:n], np.empty(n), np.empty(n + d), np.empty(n)
    r_old, S_old, sums_old = np.empty(n), np.empty(n), np.empty((3, d))
    moving = params.shape[0] > 1
    if settings[STARTED] == 0.0:
        settings[STARTED] = 1.0
        if not _evaluate(rule, system, settings, z, params[0], r, f, sums_d, work_n):
            return DIVERGED
    for k in range(n_steps):
        t = (settings[DONE] + 1.0) * dt
        kick(r, xi[k], settings, move)
        copy(nu, nu_old)
        copy(r, r_old)
        copy(f, f_old)
        copy(sums_n, S_old)
        copy_rows(sums_d, sums_old)
        for corrector in range(2 if heun else 1):
            old, new = (dt, 0.0) if corrector == 0 else (0.5 * dt, 0.5 * dt)
            for i in range(n):
                nu[i] = nu_old[i] + (old * f_old[i] + new * f[i]) + move[i]
                sums_n[i] = S_old[i] + (old * r_old[i] * r_old[i] + new * r[i] * r[i])
            for j in range(d):
                sums_d[SQUARE_G, j] = sums_old[SQUARE_G, j] + (old * sums_old[G, j] ** 2 + new * sums_d[G, j] ** 2)
            if shrinks:
                for j in range(d):
                    sums_d[RULE_Q, j] = sums_old[RULE_Q, j] + (old * f_old[n + j] + new * f[n + j])
            shrink(squares, column_sums, sums_n, sums_d, settings, t, work_n[0], z[n:])
            if not _evaluate(rule, system, settings, z, params[k + 1 if moving else 0], r, f, sums_d, work_n):
                return DIVERGED
        settings[DONE] += 1.0
    return RUNNING
