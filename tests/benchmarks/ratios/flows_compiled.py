"""numbalsoda on flows: LSODA and DOP853 without any Python, right-hand sides compiled."""

import numpy as np
from numba import carray, cfunc, types

from .fields import CODES, fill_log_velocity, fill_velocity, start, to_beta
from .flows_scipy import coordinates
from .protocol import Solver, TooSlow, clock

try:
    import numbalsoda
    MISSING = ""
except Exception as problem:  # a missing Fortran compiler shows only when the shared library is loaded
    numbalsoda, MISSING = None, f"numbalsoda does not load here: {problem}"

_SIGNATURE = types.void(types.double, types.CPointer(types.double), types.CPointer(types.double), types.CPointer(types.double))
_HEAD = 5  # n, d, code, a, b; then X, y, and scratch


def _make(fill):
    @cfunc(_SIGNATURE)
    def field(t, x, out, data):
        head = carray(data, _HEAD)
        n, d = int(head[0]), int(head[1])
        size = _HEAD + n * d + n
        everything = carray(data, size + 6 * d + n)
        X = everything[_HEAD: _HEAD + n * d].reshape((n, d))
        fill(carray(x, 2 * d), X, everything[_HEAD + n * d: size], int(head[2]), head[3], head[4], carray(out, 2 * d),
             everything[size: size + 6 * d].reshape((3, 2 * d)), everything[size + 6 * d:])

    return field


_FIELDS: dict = {}


def _prepare(case, label, method):
    where = "log" if label.startswith("log") else "w"
    if where not in _FIELDS:
        _FIELDS[where] = _make(fill_log_velocity if where == "log" else fill_velocity)
    solve = getattr(numbalsoda, method)
    pointer = _FIELDS[where].address
    X, y = np.array(case.problem.X, order="C"), np.array(case.problem.y)
    n, d = X.shape
    runs = [(np.concatenate(((n, d, CODES[case.kind], cell.a, cell.b), X.ravel(), y, np.zeros(6 * d + n))),
             start(where, cell.alpha, d), np.array([0.0, cell.t_end])) for cell in case.cells]
    solve(pointer, runs[0][1], np.array([0.0, 1e-9]), runs[0][0])  # compile

    def run(setting, deadline):
        rtol, atol = setting
        betas = []
        for data, x0, times in runs:
            if deadline is None:
                most = 100_000_000
            else:  # the solver cannot be interrupted: limit its steps to what might fit (a step of 1 us per 1000 products)
                most = int(min(1e8, 1000 + (deadline - clock()) / (1e-7 + 2e-10 * n * d)))
                if deadline < clock():
                    raise TooSlow
            states, success = solve(pointer, x0, times, data, rtol, atol, most)
            if not success:
                if deadline is not None and clock() > deadline:
                    raise TooSlow
                return None
            betas.append(to_beta(where, states[1]))
        return np.array(betas)

    return run


SOLVERS = [
    Solver(name, coordinates, lambda case, label, method=method: _prepare(case, label, method), note, missing=MISSING)
    for name, method, note in (("numbalsoda DOP853", "dop853", "compiled right-hand side"),
                               ("numbalsoda LSODA", "lsoda", "compiled right-hand side; it takes no Jacobian"))
]
