"""Velocities and Jacobians of the training rules in the 2d weights, as a user of a general solver writes them.

Written from the definitions of the rules, without the package, in ``w = (u, v)`` or in ``log w``; in NumPy, and compiled with
loops and with all the liberties of fastmath but one: numbers may still be infinite or NaN.  ``a`` and ``b`` are gamma and
epsilon, or the radius of SAM (and nothing).
"""

import types

import numpy as np
from numba import njit

PLAIN, GR, SAM, SAMPLES = range(4)
_CAREFUL = njit(nogil=True, cache=True, error_model="numpy")
_FAST = njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "arcp", "afn", "nsz"})
CODES = {"plain": PLAIN, "GR": GR, "SAM": SAM, "1-SAM": SAMPLES}


# --- velocities in NumPy ----------------------------------------------------------------------------------------------


def gradient(w, X, y):
    """Return the gradient of the loss in the weights, (2d,)."""
    n, d = X.shape
    u, v = w[:d], w[d:]
    g = (X @ (u * u - v * v) - y) @ X / (2 * n)
    return np.concatenate((2 * u * g, -2 * v * g))


def velocity(w, X, y, code, a, b):
    """Return dw/dt, (2d,)."""
    if code == SAMPLES:
        return _samples_velocity(w, X, y, a)
    first = gradient(w, X, y)
    if code == GR:
        return -first - (a / b) * (gradient(w + b * first, X, y) - first)
    return -gradient(w + a * first, X, y) if code == SAM else -first


def _samples_velocity(w, X, y, rho):
    d = X.shape[1]
    u, v = w[:d], w[d:]
    G = 0.5 * (X @ (u * u - v * v) - y)[:, None] * X
    U, V = u * (1 + 2 * rho * G), v * (1 - 2 * rho * G)
    G = 0.5 * ((X * (U * U - V * V)).sum(axis=1) - y)[:, None] * X
    return np.concatenate((-2 * (U * G).mean(axis=0), 2 * (V * G).mean(axis=0)))


def log_velocity(x, X, y, code, a, b):
    """Return d(log w)/dt at ``x = log w``, (2d,)."""
    w = np.exp(x)
    return velocity(w, X, y, code, a, b) / w


# --- Jacobians: the same source in NumPy and compiled -------------------------------------------------------------------


def _parts(w, X, y):
    # The Hessian of the loss is A^T A + diag(D).
    n, d = X.shape
    u, v = w[:d], w[d:]
    g = np.dot(np.dot(X, u * u - v * v) - y, X) / (2.0 * n)
    A = np.empty((n, 2 * d))
    A[:, :d] = X * (2.0 * u / np.sqrt(2.0 * n))
    A[:, d:] = X * (-2.0 * v / np.sqrt(2.0 * n))
    return A, np.concatenate((2.0 * g, -2.0 * g))



def _jacobian(w, X, y, code, a, b):
    d = X.shape[1]
    if code == SAMPLES:
        return _samples_jacobian(w, X, y, a)
    A, D = _parts(w, X, y)
    if code == PLAIN:
        J = np.dot(-A.T, A)
        for j in range(2 * d):
            J[j, j] -= D[j]
        return J
    step = b if code == GR else a
    B, E = _parts(w + step * w * D, X, y)
    # (B^T B + E)(1 + step (A^T A + D)), with products of N rows only.
    right = B + step * (np.dot(np.dot(B, A.T), A) + B * D)
    J = np.dot(B.T, right) + np.dot((step * E * A).T, A)
    for j in range(2 * d):
        J[j, j] += E[j] * (1.0 + step * D[j])
    if code == SAM:
        return -J
    J = (-a / b) * J - (1.0 - a / b) * np.dot(A.T, A)
    for j in range(2 * d):
        J[j, j] -= (1.0 - a / b) * D[j]
    return J


def _samples_jacobian(w, X, y, rho):
    n, d = X.shape
    u, v = w[:d], w[d:]
    r = np.dot(X, u * u - v * v) - y
    D = np.empty((n, 2 * d))
    D[:, :d] = r.reshape(-1, 1) * X
    D[:, d:] = -D[:, :d]
    W = w * (1.0 + rho * D)
    A, B = np.empty((n, 2 * d)), np.empty((n, 2 * d))
    A[:, :d], A[:, d:] = 2.0 * u * X, -2.0 * v * X
    B[:, :d], B[:, d:] = 2.0 * W[:, :d] * X, -2.0 * W[:, d:] * X
    s = np.sum(X * (W[:, :d] * W[:, :d] - W[:, d:] * W[:, d:]), axis=1) - y
    E = np.empty((n, 2 * d))
    E[:, :d] = s.reshape(-1, 1) * X
    E[:, d:] = -E[:, :d]
    # Of each sample: (b b^T/2 + E)(1 + rho (a a^T/2 + D)).
    right = 0.5 * (B + rho * D * B + 0.5 * rho * np.sum(B * A, axis=1).reshape(-1, 1) * A)
    J = np.dot(B.T, right) + np.dot((0.5 * rho * E * A).T, A)
    for j in range(2 * d):
        J[j, j] += np.sum(E[:, j] * (1.0 + rho * D[:, j]))
    return J / -n


def jacobian(w, X, y, code, a, b):
    """Return the Jacobian of `velocity`, (2d, 2d)."""
    return _jacobian(w, X, y, code, a, b)


def log_jacobian(x, X, y, code, a, b):
    """Return the Jacobian of `log_velocity`, (2d, 2d)."""
    w = np.exp(x)
    J = jacobian(w, X, y, code, a, b) * w / w[:, None]
    J[np.diag_indices_from(J)] -= velocity(w, X, y, code, a, b) / w
    return J


# --- compiled -----------------------------------------------------------------------------------------------------------


@_FAST
def fill_gradient(w, X, y, out, r):
    """Write the gradient of the loss into `out`, (2d,)."""
    n, d = X.shape
    for j in range(d):
        out[j] = w[j] * w[j] - w[d + j] * w[d + j]
        out[d + j] = 0.0
    for i in range(n):
        s = 0.0
        for j in range(d):
            s += X[i, j] * out[j]
        r[i] = (s - y[i]) / n
    for i in range(n):
        for j in range(d):
            out[d + j] += X[i, j] * r[i]
    for j in range(d):
        g = out[d + j]
        out[j] = w[j] * g
        out[d + j] = -w[d + j] * g


@_FAST
def fill_velocity(w, X, y, code, a, b, out, work, r):
    """Write dw/dt into `out`, (2d,); `work` (2, 2d) and `r` (N,) are scratch."""
    n, d = X.shape
    if code == SAMPLES:
        for k in range(2 * d):
            out[k] = 0.0
        for j in range(d):
            work[0, j] = w[j] * w[j] - w[d + j] * w[d + j]
        for i in range(n):
            s = 0.0
            for j in range(d):
                s += X[i, j] * work[0, j]
            half = 0.5 * (s - y[i])
            s = 0.0
            for j in range(d):
                change = 2.0 * a * half * X[i, j]
                work[1, j] = w[j] * (1.0 + change)
                work[1, d + j] = w[d + j] * (1.0 - change)
                s += X[i, j] * (work[1, j] * work[1, j] - work[1, d + j] * work[1, d + j])
            factor = (s - y[i]) / n
            for j in range(d):
                out[j] -= factor * X[i, j] * work[1, j]
                out[d + j] += factor * X[i, j] * work[1, d + j]
        return
    fill_gradient(w, X, y, out, r)
    if code == PLAIN:
        for k in range(2 * d):
            out[k] = -out[k]
        return
    step = b if code == GR else a
    for k in range(2 * d):
        work[0, k] = w[k] + step * out[k]
    fill_gradient(work[0], X, y, work[1], r)
    share = a / b if code == GR else 1.0
    for k in range(2 * d):
        out[k] = -(1.0 - share) * out[k] - share * work[1, k]


@_FAST
def fill_log_velocity(x, X, y, code, a, b, out, work, r):
    """Write d(log w)/dt into `out`; `work` is (3, 2d)."""
    for k in range(x.shape[0]):
        work[2, k] = np.exp(x[k])
    fill_velocity(work[2], X, y, code, a, b, out, work, r)
    for k in range(x.shape[0]):
        out[k] /= work[2, k]


_jit_parts = _CAREFUL(_parts)
_jit_samples_jacobian = _CAREFUL(_samples_jacobian)


def _compiled_jacobian():
    """Compile `_jacobian` with its helpers compiled too: the one source, twice."""
    names = {**globals(), "_parts": _jit_parts, "_samples_jacobian": _jit_samples_jacobian}
    return _CAREFUL(types.FunctionType(_jacobian.__code__, names))


compiled_jacobian = _compiled_jacobian()


@_CAREFUL
def compiled_log_jacobian(x, X, y, code, a, b):
    """Return the Jacobian of `log_velocity`, (2d, 2d)."""
    n, d = X.shape
    w = np.exp(x)
    J = compiled_jacobian(w, X, y, code, a, b)
    F = np.empty(2 * d)
    fill_velocity(w, X, y, code, a, b, F, np.empty((2, 2 * d)), np.empty(n))
    for i in range(2 * d):
        for j in range(2 * d):
            J[i, j] *= w[j] / w[i]
        J[i, i] -= F[i] / w[i]
    return J


def callbacks(language, coordinates, X, y, code, a, b):
    """Return (velocity(t, x), Jacobian(t, x)) as Python callables: language "NumPy" or "compiled", coordinates "w" or "log"."""
    if language == "NumPy":
        field, slope = (velocity, jacobian) if coordinates == "w" else (log_velocity, log_jacobian)
        return lambda t, x: field(x, X, y, code, a, b), lambda t, x: slope(x, X, y, code, a, b)
    n, d = X.shape
    fill, slope = (fill_velocity, compiled_jacobian) if coordinates == "w" else (fill_log_velocity, compiled_log_jacobian)
    work, r = np.empty((3, 2 * d)), np.empty(n)

    def compiled_velocity(t, x):
        out = np.empty(2 * d)  # solvers keep what they get
        fill(x, X, y, code, a, b, out, work, r)
        return out

    return compiled_velocity, lambda t, x: slope(x, X, y, code, a, b)


def start(coordinates, alpha, d):
    """Return the initial state, (2d,)."""
    return np.full(2 * d, alpha if coordinates == "w" else np.log(alpha))


def to_beta(coordinates, x):
    """Return ``beta = u*u - v*v`` of a state, (d,)."""
    w = x if coordinates == "w" else np.exp(x)
    d = len(w) // 2
    return w[:d] ** 2 - w[d:] ** 2
