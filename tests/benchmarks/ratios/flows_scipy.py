"""SciPy on flows: solve_ivp, odeint and the Fortran DOP853, and the plain Euler loop of papers, in NumPy."""

import warnings

import numpy as np
from scipy.integrate import ode, odeint, solve_ivp

from .fields import CODES, callbacks, start, to_beta, velocity
from .protocol import STEP, Solver, TooSlow, clock, guarded

LADDER = (10.0 ** -np.arange(2.0, 12.1, STEP)).tolist()
STEPS = 10_000_000
LARGE = 1_000_000  # entries of X above which a run takes seconds: fewer ladders, of whole decades, from 1e-5 on
LARGEST_JACOBIAN = 1000  # rows; above, a factorisation alone takes longer than a whole run of the explicit methods


def coordinates(task):
    """Return the ladders of solvers with rtol and atol: weights with three choices of atol, and log weights.

    Settings are (rtol, atol).  In log weights it is atol that means something: a relative tolerance on the weights.
    """
    scale = min(cell.alpha for cell in task.cases[0].cells)
    if np.prod(task.shape) > LARGE:
        return [(f"w, atol = {scale:.0e} rtol", [(tol, tol * scale) for tol in LADDER[24::8]]),
                ("log w", [(tol, tol) for tol in LADDER[24::8]])]
    factors = sorted({1.0, scale, scale**2}, reverse=True)
    return [*((f"w, atol = {factor:.0e} rtol", [(tol, tol * factor) for tol in LADDER]) for factor in factors),
            ("log w", [(tol, tol) for tol in LADDER])]


def implicit_unfit(task):
    """Say whether dense Jacobians are hopeless."""
    size = 2 * task.shape[1]
    return "" if size <= LARGEST_JACOBIAN else f"dense Jacobian of {size} x {size}, {8e-9 * size**2:.2g} GB: not tried"


def cells_of(case, label, language):
    """Give (cell, coordinates, velocity, Jacobian, initial state) of every run of a case."""
    X, y = np.array(case.problem.X, order="C"), np.array(case.problem.y)
    where = "log" if label.startswith("log") else "w"
    for cell in case.cells:
        field, slope = callbacks(language, where, X, y, CODES[case.kind], cell.a, cell.b)
        yield cell, where, field, slope, start(where, cell.alpha, X.shape[1])


def _all_cells(case, label, language, integrate, implicit):
    prepared = list(cells_of(case, label, language))
    _, _, field, slope, x0 = prepared[0]
    field(0.0, x0)  # compiling is not timed
    if implicit:
        slope(0.0, x0)

    def run(setting, deadline):
        betas = []
        for cell, where, field, slope, x0 in prepared:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                most = STEPS if deadline is None else int(1000 + max(0.0, deadline - clock()) * 1e5)
                state = integrate(guarded(field, deadline), slope, x0, cell.t_end, most, *setting)
                if deadline is not None and clock() > deadline:
                    raise TooSlow
                if state is None:
                    return None
                betas.append(to_beta(where, state))
        return np.array(betas)

    return run


def _solve_ivp(method):
    def integrate(field, slope, x0, t_end, most, rtol, atol):
        more = {"jac": slope} if method in ("LSODA", "Radau") else {}
        found = solve_ivp(field, (0.0, t_end), x0, method=method, rtol=rtol, atol=atol, t_eval=[t_end], **more)
        return found.y[:, -1] if found.success else None

    return integrate


def _odeint(field, slope, x0, t_end, most, rtol, atol):
    states, info = odeint(field, x0, [0.0, t_end], Dfun=slope, tfirst=True, rtol=rtol, atol=atol, mxstep=most,
                          full_output=True)
    return states[1] if info["message"] == "Integration successful." else None


def _fortran_dop853(field, slope, x0, t_end, most, rtol, atol):
    # It goes on after an exception in the right-hand side, with what it finds in memory: only the number of steps stops it.
    solver = ode(field).set_integrator("dop853", rtol=rtol, atol=atol, nsteps=most)
    solver.set_initial_value(x0, 0.0)
    state = solver.integrate(t_end)
    return state if solver.successful() else None


def _solver(name, language, integrate, implicit, note):
    return Solver(name, coordinates, lambda case, label: _all_cells(case, label, language, integrate, implicit), note,
                  implicit_unfit if implicit else lambda task: "")


def _euler_ladders(task):
    return [("step", (10.0 ** -np.arange(1.0, 7.1, STEP)).tolist())]


def _prepare_euler(case, label):
    X, y = np.array(case.problem.X, order="C"), np.array(case.problem.y)
    code = CODES[case.kind]

    def run(step, deadline):
        check = guarded(lambda: None, deadline)
        betas = []
        for cell in case.cells:
            steps = int(np.ceil(cell.t_end / step))
            h = cell.t_end / steps
            if deadline is not None and steps > 2e7:
                raise TooSlow
            w = start("w", cell.alpha, X.shape[1])
            with np.errstate(all="ignore"):
                for k in range(steps):
                    w = w + h * velocity(w, X, y, code, cell.a, cell.b)
                    if k % 100 == 0:
                        check()
                        if not np.isfinite(w[0]):
                            return None
            betas.append(to_beta("w", w))
        return np.array(betas)

    return run


SOLVERS = [
    _solver("SciPy RK45", "NumPy", _solve_ivp("RK45"), False, "solve_ivp"),
    _solver("SciPy DOP853", "NumPy", _solve_ivp("DOP853"), False, "solve_ivp"),
    _solver("SciPy LSODA, Jacobian", "NumPy", _solve_ivp("LSODA"), True, "solve_ivp with the analytic Jacobian"),
    _solver("SciPy Radau, Jacobian", "NumPy", _solve_ivp("Radau"), True, "solve_ivp with the analytic Jacobian"),
    _solver("SciPy DOP853, compiled", "compiled", _solve_ivp("DOP853"), False, "solve_ivp, right-hand side compiled"),
    _solver("SciPy LSODA, Jacobian, compiled", "compiled", _solve_ivp("LSODA"), True, "solve_ivp, both callbacks compiled"),
    _solver("SciPy odeint, Jacobian, compiled", "compiled", _odeint, True, "LSODA without Python steps, callbacks compiled"),
    _solver("SciPy ode dop853, compiled", "compiled", _fortran_dop853, False, "DOP853 without Python steps, compiled callback"),
    Solver("Euler, NumPy", _euler_ladders, _prepare_euler, "explicit Euler in a Python loop, as papers do it"),
]
