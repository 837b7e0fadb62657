"""diffrax on flows: Tsit5 and Kvaerno5, compiled by XLA in double precision; grids by vmap."""

import functools

import numpy as np

from .fields import CODES, GR, PLAIN, SAM
from .flows_scipy import coordinates, implicit_unfit
from .protocol import Solver, TooSlow, clock

try:
    import diffrax
    import jax
    import jax.numpy as jnp
    MISSING = ""
except ImportError as problem:
    diffrax = jax = jnp = None
    MISSING = f"diffrax is not installed: {problem}"

_STEPS = 30_000  # a run with more is over every patience


def _velocity(w, X, y, code, a, b):
    n, d = X.shape

    def gradient(w):
        g = (X @ (w[:d] ** 2 - w[d:] ** 2) - y) @ X / (2 * n)
        return jnp.concatenate((2 * w[:d] * g, -2 * w[d:] * g))

    if code == PLAIN:
        return -gradient(w)
    if code == GR:
        first = gradient(w)
        return -first - (a / b) * (gradient(w + b * first) - first)
    if code == SAM:
        return -gradient(w + a * gradient(w))
    G = 0.5 * (X @ (w[:d] ** 2 - w[d:] ** 2) - y)[:, None] * X
    U, V = w[:d] * (1 + 2 * a * G), w[d:] * (1 - 2 * a * G)
    G = 0.5 * ((X * (U * U - V * V)).sum(axis=1) - y)[:, None] * X
    return jnp.concatenate((-2 * (U * G).mean(axis=0), 2 * (V * G).mean(axis=0)))


@functools.cache
def _compiled(method, where, code):
    """Return the jitted ``(betas, success)`` of (X, y, alphas, a, b, t_ends, rtol, atol), one row per cell."""
    def field(t, x, args):
        X, y, a, b = args
        if where == "w":
            return _velocity(x, X, y, code, a, b)
        w = jnp.exp(x)
        return _velocity(w, X, y, code, a, b) / w

    def one(X, y, alpha, a, b, t_end, rtol, atol):
        d = X.shape[1]
        x0 = jnp.full(2 * d, alpha if where == "w" else jnp.log(alpha))
        found = diffrax.diffeqsolve(
            diffrax.ODETerm(field), getattr(diffrax, method)(), 0.0, t_end, None, x0, (X, y, a, b), max_steps=_STEPS,
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol), saveat=diffrax.SaveAt(t1=True), throw=False)
        w = found.ys[0] if where == "w" else jnp.exp(found.ys[0])
        return w[:d] ** 2 - w[d:] ** 2, found.result == diffrax.RESULTS.successful

    many = jax.vmap(one, (None, None, 0, 0, 0, 0, None, None))

    def single(X, y, alphas, a, b, t_ends, rtol, atol):  # without vmap, which turns branches into both of their sides
        beta, good = one(X, y, alphas[0], a[0], b[0], t_ends[0], rtol, atol)
        return beta[None], good

    return jax.jit(many), jax.jit(single)


def _prepare(case, label, method):
    where = "log" if label.startswith("log") else "w"
    columns = [jnp.array([getattr(cell, name) for cell in case.cells]) for name in ("alpha", "a", "b", "t_end")]
    X, y = jnp.array(case.problem.X), jnp.array(case.problem.y)
    single = len(case.cells) == 1

    def solve(setting, columns=columns):
        rtol, atol = setting
        alphas, a, b, t_ends = columns
        many, one = _compiled(method, where, CODES[case.kind])
        betas, good = (one if single else many)(X, y, alphas, a, b, t_ends, rtol, atol)
        return np.asarray(betas), bool(np.all(good))

    brief = [*columns[:3], jnp.full(len(case.cells), 1e-6)]
    solve((1e-3, 1e-3), brief)  # compile

    def run(setting, deadline):
        betas, good = solve(setting)
        if deadline is not None and (clock() > deadline or (not good and setting[0] < 1e-6)):
            raise TooSlow
        return betas if good else None

    return run


def _fewer(task):
    # Compiling for each takes seconds: log weights, and weights with the two extreme choices of atol.
    every = coordinates(task)
    return [every[-1], every[0], every[-2]] if len(every) > 2 else every


SOLVERS = [Solver(f"diffrax {method}", _fewer, lambda case, label, method=method: _prepare(case, label, method),
                  "jit, double precision; grids by vmap", implicit_unfit if method == "Kvaerno5" else lambda task: "", MISSING)
           for method in ("Tsit5", "Kvaerno5")]
