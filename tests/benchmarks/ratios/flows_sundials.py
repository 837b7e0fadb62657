"""CVODE of SUNDIALS (by scikit-sundae) on flows: BDF with the Jacobian, right-hand side and Jacobian compiled."""

import numpy as np

from .fields import to_beta
from .flows_scipy import cells_of, coordinates, implicit_unfit
from .protocol import Solver, TooSlow, clock

try:
    from sksundae.cvode import CVODE
    MISSING = ""
except ImportError as problem:
    CVODE, MISSING = None, f"scikit-sundae is not installed: {problem}"


def _in_place(field, slope):
    """Return the two callbacks as CVODE wants them; it counts their arguments."""
    def rhs(t, x, out):
        out[:] = field(t, x)

    def jacobian(t, x, out, J):
        J[:] = slope(t, x)

    return rhs, jacobian


def _prepare(case, label, linear):
    prepared = []
    for cell, where, field, slope, x0 in cells_of(case, label, "compiled"):
        field(0.0, x0)
        slope(0.0, x0)
        prepared.append((cell, where, x0, *_in_place(field, slope)))

    def run(setting, deadline):
        rtol, atol = setting
        betas = []
        for cell, where, x0, rhs, jacobian in prepared:
            # An exception in a callback does not stop CVODE: limit the steps to what might fit.
            most = 10_000_000 if deadline is None else int(1000 + max(0.0, deadline - clock()) * 2e5)
            solver = CVODE(rhs, rtol=rtol, atol=atol, method="BDF", linsolver=linear, jacfn=jacobian, max_num_steps=most)
            found = solver.solve(np.array([0.0, cell.t_end]), x0)
            if deadline is not None and clock() > deadline:
                raise TooSlow
            if not found.success:
                return None
            betas.append(to_beta(where, found.y[-1]))
        return np.array(betas)

    return run


def _ladders(task):
    # SUNDIALS' own elimination for a few unknowns, LAPACK for more: both were measured, at 200 the second is the faster.
    linear = "dense" if task.shape[1] < 50 else "lapackdense"
    return [(f"{label}, {linear}", settings) for label, settings in coordinates(task)]


SOLVERS = [Solver("CVODE BDF, Jacobian", _ladders, lambda case, label: _prepare(case, label, label.split(", ")[-1]),
                  "scikit-sundae, compiled callbacks", implicit_unfit, MISSING)]
