"""The loop over discrete steps.  One compiled kernel for every rule, full batch or mini-batch, with or without momentum.

A step multiplies the weights by ``1 - 2 eta (p + q)`` and ``1 + 2 eta (p - q)``; heavy ball adds ``m`` times the last move,
Nesterov's method multiplies the weights at which it looks ahead.  Weights are kept with their signs as
``mantissa * 2^(512 exponent)``, so that none can underflow: a weight far below the others costs nothing until it is seen.
"""

import math

import numpy as np
from numba import types

from .._jit import DATA_INTEGERS, DATA_MATRIX, DATA_VECTOR, INTEGERS, MATRIX, REDUCTION, VECTOR, njit
from .._linalg import copy, norm, residual, rmatvec
from ..rules.base import call_rule

# What the kernel reports.
RUNNING, CONVERGED, DIVERGED = range(3)
# Slots of the integer array `count`.
STEP, FLIPS, DESCENTS, ASCENTS, ALTERNATIONS, LAST_SIGN, COUNT_SIZE = range(7)
# Settings: a float vector.  C is 1/(2N) of the data, or 1/(2B) of a batch.  The norm of the residual times UNIT_OF_R is at
# most RESIDUAL_TOL at convergence (a tolerance below 0: never), and beyond _LIMIT the run has diverged.
C, MOMENTUM, NESTEROV, RESIDUAL_TOL, UNIT_OF_R, SHRINKS, FLOODS, EVERY_STEP, CHECK_EVERY, SETTINGS_SIZE = range(10)
# Rows of `work` (WORK_ROWS, d): the weights at which the rule is evaluated, beta, size, p, q, and four for the rule.
LOOK_U, LOOK_V, BETA, SIZE, P, Q, WORK_RULE = range(7)
WORK_ROWS = WORK_RULE + 4
# Rows of `samples` (SAMPLE_ROWS, n): residual and coef.
R, COEF, SAMPLE_ROWS = range(3)

#: One unit of an exponent, as a power of two, and its logarithm.  Mantissas stay within 2^-256 and 2^256 at every check.
UNIT = 2.0**512
LOG_UNIT = 512.0 * math.log(2.0)
_HIGH, _LOW = 2.0**256, 2.0**-256
_LIMIT = 1e20

WEIGHTS = types.Array(types.float64, 2, "C")
EXPONENTS = types.Array(types.int64, 2, "C")
INDICES = types.Array(types.int64, 2, "C", readonly=True)

#: The signature of `descend_steps`.
DESCEND = types.int64(
    types.int64, DATA_MATRIX, DATA_VECTOR, DATA_MATRIX, DATA_VECTOR,  # rule, X, y, and the row space
    WEIGHTS, WEIGHTS, EXPONENTS, WEIGHTS, VECTOR, VECTOR,  # mantissas, previous, exponents, visible, dual, lost
    INTEGERS, VECTOR, DATA_VECTOR, MATRIX, INDICES, DATA_MATRIX,  # count, settings, steps, params, indices, noise
    MATRIX, MATRIX, MATRIX, MATRIX, VECTOR, DATA_MATRIX, DATA_VECTOR,  # work, samples, work_n, a batch and its views
    types.int64)  # steps to make
_MOVE = types.int64(
    WEIGHTS, WEIGHTS, DATA_MATRIX, DATA_VECTOR, DATA_VECTOR, types.float64, types.float64, types.boolean, types.boolean)
_CONVERGED = types.boolean(
    DATA_MATRIX, DATA_VECTOR, DATA_MATRIX, DATA_MATRIX, DATA_MATRIX, types.boolean, DATA_VECTOR, MATRIX)


@njit(types.boolean(WEIGHTS, WEIGHTS, EXPONENTS, WEIGHTS), allocates=False)
def renormalize(mantissas, previous, exponents, visible):
    """Bring mantissas back into range; return whether some weight needs its exponent to be seen."""
    scaled = False
    for k in range(2):
        for j in range(mantissas.shape[1]):
            size = abs(mantissas[k, j])
            while size > _HIGH and size < np.inf:
                mantissas[k, j] /= UNIT
                previous[k, j] /= UNIT
                exponents[k, j] += 1
                size = abs(mantissas[k, j])
            while size < _LOW and size > 0.0:
                mantissas[k, j] *= UNIT
                previous[k, j] *= UNIT
                exponents[k, j] -= 1
                size = abs(mantissas[k, j])
            exponent = exponents[k, j]
            # u^2 of a weight below 2^-768 is 0, and above 2^768 infinite.
            visible[k, j] = 1.0 if exponent == 0 else 1.0 / UNIT if exponent == -1 else UNIT if exponent == 1 else (
                0.0 if exponent < 0 else np.inf)
            scaled |= exponent != 0
    return scaled


@njit(types.void(DATA_VECTOR, DATA_VECTOR, DATA_MATRIX, types.boolean, VECTOR, VECTOR), allocates=False)
def _predictor(u, v, visible, scaled, beta, size):
    # beta = u^2 - v^2 as a product, which does not cancel.
    if scaled:
        for j in range(beta.shape[0]):
            a = u[j] * visible[0, j] if visible[0, j] > 0.0 else 0.0
            b = v[j] * visible[1, j] if visible[1, j] > 0.0 else 0.0
            beta[j] = (a - b) * (a + b)
            size[j] = a * a + b * b
    else:
        for j in range(beta.shape[0]):
            beta[j] = (u[j] - v[j]) * (u[j] + v[j])
            size[j] = u[j] * u[j] + v[j] * v[j]


@njit(types.int64(VECTOR, VECTOR, DATA_VECTOR, DATA_VECTOR, types.float64, types.boolean), allocates=False)
def _multiply(u, v, p, q, eta, shrinks):
    # One step without momentum; return how many signs flip.
    flips = 0
    twice = 2.0 * eta
    if shrinks:
        for j in range(p.shape[0]):
            up = 1.0 - twice * (p[j] + q[j])
            down = 1.0 + twice * (p[j] - q[j])
            flips += (up < 0.0) + (down < 0.0)
            u[j] *= up
            v[j] *= down
    else:
        for j in range(p.shape[0]):
            up = 1.0 - twice * p[j]
            down = 1.0 + twice * p[j]
            flips += (up < 0.0) + (down < 0.0)
            u[j] *= up
            v[j] *= down
    return flips


@njit(_MOVE, allocates=False)
def _move(mantissas, previous, look, p, q, eta, momentum, nesterov, shrinks):
    # One step with momentum; return how many signs flip.
    flips = 0
    for k in range(2):
        sign = 1.0 if k == 0 else -1.0
        for j in range(p.shape[0]):
            now = mantissas[k, j]
            pull = 2.0 * eta * (sign * p[j] + (q[j] if shrinks else 0.0))
            if nesterov:
                new = look[k, j] * (1.0 - pull)
            else:
                new = now * (1.0 - pull) + momentum * (now - previous[k, j])
            flips += (new < 0.0) != (now < 0.0)
            previous[k, j] = now
            mantissas[k, j] = new
    return flips


@njit(types.boolean(DATA_MATRIX, DATA_MATRIX, types.float64, types.float64), allocates=False)
def _rests(mantissas, previous, momentum, tol):
    # Whether what momentum has still to carry is below the tolerance, relative to each weight.
    for k in range(2):
        for j in range(mantissas.shape[1]):
            if not momentum * abs(mantissas[k, j] - previous[k, j]) <= (1.0 - momentum) * tol * abs(mantissas[k, j]):
                return False
    return True


@njit()
def _note_sign(coef, r, count):
    # A step descends if it moves the residual against itself: coef is s(c r), with s = 1, -1, or one of them per sample.
    slope = 0.0
    for i in range(r.shape[0]):
        slope += coef[i] * r[i]
    sign = 1 if slope > 0.0 else -1 if slope < 0.0 else 0
    count[DESCENTS] += sign > 0
    count[ASCENTS] += sign < 0
    count[ALTERNATIONS] += sign * count[LAST_SIGN] < 0
    count[LAST_SIGN] = sign


@njit(fastmath=REDUCTION)
def _square(r, unit):
    # The squared norm of unit r.
    total = 0.0
    for i in range(r.shape[0]):
        total += (unit * r[i]) * (unit * r[i])
    return total


@njit()
def _add(total, lost, term):
    # A compensated sum: what the addition loses is kept (Knuth's two-sum, without a branch).
    new = total + term
    part = new - total
    return new, lost + ((total - (new - part)) + (term - part))


@njit(types.void(DATA_MATRIX, DATA_VECTOR, DATA_INTEGERS, MATRIX, VECTOR), allocates=False)
def _gather(X, y, indices, buffer, target):
    # The rows and targets of a batch.
    for i in range(indices.shape[0]):
        row = indices[i]
        for j in range(X.shape[1]):
            buffer[i, j] = X[row, j]
        target[i] = y[row]


@njit()
def _disturb(noise, target):
    for i in range(noise.shape[0]):
        target[i] += noise[i]


@njit(_CONVERGED)
def _converged(row_X, row_y, mantissas, previous, visible, scaled, settings, work):
    # Whether the full residual is below the tolerance and momentum at rest.
    _predictor(mantissas[0], mantissas[1], visible, scaled, work[BETA], work[SIZE])
    r = np.empty(row_X.shape[0])
    residual(row_X, work[BETA], row_y, r)
    tol = settings[RESIDUAL_TOL]
    return norm(r) * settings[UNIT_OF_R] <= tol and _rests(mantissas, previous, settings[MOMENTUM], tol)


@njit(DESCEND, allocates=False)
def descend_steps(rule, X, y, row_X, row_y, mantissas, previous, exponents, visible, dual, lost, count, settings, steps, params,
                  indices, noise, work, samples, work_n, batch_X, batch_y, batch_X_read, batch_y_read, n_steps):
    """Make at most `n_steps` steps in place; return why it stopped.

    `steps` (n_steps,) are the step sizes, `params` has one row, or one per step.  `indices` (n_steps, B) are the samples of
    each batch, (0, 0) for the full batch; `noise` (n_steps, B or N), is added to the targets, (0, 0) without.  Convergence is
    decided in the row space (row_X, row_y): at every step if (X, y) is the row space, else at every check.  `dual` (N,) sums
    ``eta coef``, and `lost` (N,) what its additions have lost.  `batch_X` (B, d), `batch_y` (B,) and their read-only views are
    for the data of a batch, or for noisy targets.
    """
    batch = indices.shape[1]
    n = batch if batch > 0 else X.shape[0]
    c, momentum, unit = settings[C], settings[MOMENTUM], settings[UNIT_OF_R]
    shrinks, floods, nesterov = settings[SHRINKS] != 0.0, settings[FLOODS] != 0.0, settings[NESTEROV] != 0.0
    tol = settings[RESIDUAL_TOL]
    check_every, every_step = int(settings[CHECK_EVERY]), settings[EVERY_STEP] != 0.0
    r, coef = samples[R, :n], samples[COEF, :n]
    look, beta, size, p, q, work_d = work[:BETA], work[BETA], work[SIZE], work[P], work[Q], work[WORK_RULE:]
    scaled = renormalize(mantissas, previous, exponents, visible)
    # Slices are taken here: each costs as much as a pass over the weights.
    u, v, look_u, look_v, param = mantissas[0], mantissas[1], look[0], look[1], params[0]
    varying, noisy = params.shape[0] > 1, noise.shape[0] > 0
    until_check = -count[STEP] % check_every
    for k in range(n_steps):
        if until_check == 0:
            until_check = check_every
            scaled = renormalize(mantissas, previous, exponents, visible)
            if tol >= 0.0 and not every_step and _converged(row_X, row_y, mantissas, previous, visible, scaled, settings,
                                                            work):
                return CONVERGED
        if nesterov:
            for i in range(2):
                for j in range(X.shape[1]):
                    look[i, j] = mantissas[i, j] + momentum * (mantissas[i, j] - previous[i, j])
            _predictor(look_u, look_v, visible, scaled, beta, size)
        else:
            _predictor(u, v, visible, scaled, beta, size)
        if varying:
            param = params[k]
        if batch > 0:
            _gather(X, y, indices[k], batch_X, batch_y)
            if noisy:
                _disturb(noise[k], batch_y)
            call_rule(rule, (batch_X_read, batch_y_read, c, beta, size, param, r, coef, q, work_d, work_n))
            rmatvec(batch_X_read, coef, 1.0, p)
        elif noisy:
            copy(y, batch_y)
            _disturb(noise[k], batch_y)
            call_rule(rule, (X, batch_y_read, c, beta, size, param, r, coef, q, work_d, work_n))
            rmatvec(X, coef, 1.0, p)
        else:
            call_rule(rule, (X, y, c, beta, size, param, r, coef, q, work_d, work_n))
            rmatvec(X, coef, 1.0, p)
        square = _square(r, unit)
        if not square <= _LIMIT * _LIMIT:
            return DIVERGED
        if every_step and square <= tol * abs(tol) and _rests(mantissas, previous, momentum, tol):
            return CONVERGED
        if floods:
            _note_sign(coef, r, count)
        eta = steps[k]
        if batch > 0:
            for i in range(n):
                at = indices[k, i]
                dual[at], lost[at] = _add(dual[at], lost[at], eta * coef[i])
        else:
            for i in range(n):
                dual[i], lost[i] = _add(dual[i], lost[i], eta * coef[i])
        if momentum == 0.0:
            count[FLIPS] += _multiply(u, v, p, q, eta, shrinks)
        else:
            count[FLIPS] += _move(mantissas, previous, look, p, q, eta, momentum, nesterov, shrinks)
        count[STEP] += 1
        until_check -= 1
    return RUNNING
