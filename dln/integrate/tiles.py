"""A tile of flows: many cells of one problem, each with its own rule parameters and initial scale, in one compiled call.

Each cell is what `dln.flow` returns for it, without Python between the steps of a run and between runs: to the last bit where
cells run one after another, to a part of the tolerance where eight run side by side in vector lanes (`tile_lanes`).
"""

from dataclasses import dataclass, fields

import numpy as np

from .._aligned import aligned_zeros
from .._jit import entry_point
from .._large import keeps_gram, kept_arrays
from .._shrinking import run_to_limit, small_below
from ..flow import _EPS, METHODS, checked_settings, largest_error
from ..network import initialize
from ..problem import Problem
from ..result import Status
from ..row_space import RowSpace
from ..rules import Flooding, GradientFlow, Rule
from ..rules.base import number
from . import planning, plateaus, rest, starting, stepping
from . import state as st
from . import tile_kernel as kernel
from .methods import (
    EXPLICIT,
    attempts_per_call,
    begins_stiff,
    inexactness,
    noise_of_single,
    relaxes,
    room_for_awake,
    rosenbrock_method,
    run_kernels,
)

#: What the codes in `TileResult.statuses` stand for.
STATUSES = tuple(Status)

_BUDGET = 2e8  # multiply-adds per call of the kernel: it lasts a fraction of a second, so that Ctrl-C is heard


@dataclass(frozen=True, repr=False, eq=False)
class TileResult:
    """The ends of C flows of one problem, as arrays over the cells; `dln.FlowResult` says what each means.

    Attributes
    ----------
    betas, log_effective_alphas, effective_log_ratios : ndarray (C, d)
        The last two are read-only views where all coordinates share one number that no rule changes.
    duals : ndarray (C, N)
        ``int p dt = X^T dual``.
    losses, residuals, times, error_estimates : ndarray (C,)
    n_steps, n_rejected, n_rhs, n_factorizations, n_jumps, n_newton : ndarray of int (C,)
        The last counts Newton steps of limits that were solved for.
    statuses : ndarray of int8 (C,)
        Codes: ``STATUSES[code]`` is the `Status`.
    success : ndarray of bool (C,)
    duality_gaps : ndarray (C,)
        Relative, of limits that were solved for; else NaN.
    problem : Problem
    """

    betas: np.ndarray
    log_effective_alphas: np.ndarray
    effective_log_ratios: np.ndarray
    duals: np.ndarray
    losses: np.ndarray
    residuals: np.ndarray
    times: np.ndarray
    error_estimates: np.ndarray
    n_steps: np.ndarray
    n_rejected: np.ndarray
    n_rhs: np.ndarray
    n_factorizations: np.ndarray
    n_jumps: np.ndarray
    n_newton: np.ndarray
    statuses: np.ndarray
    success: np.ndarray
    duality_gaps: np.ndarray
    problem: Problem

    def put(self, cells, other):
        """Replace some of the cells by those of another result."""
        for field in fields(self):
            if field.name != "problem" and (array := getattr(self, field.name)).flags.writeable:
                array[cells] = getattr(other, field.name)

    def put_run(self, cell, run):
        """Replace a cell by a `FlowResult`."""
        self.betas[cell], self.log_effective_alphas[cell], self.duals[cell] = run.beta, run.log_effective_alpha, run.dual
        self.losses[cell], self.residuals[cell], self.times[cell] = run.loss, run.residual, run.t
        self.error_estimates[cell], self.n_jumps[cell], self.n_newton[cell] = run.error_estimate, run.n_jumps, 0
        self.n_steps[cell], self.n_rejected[cell] = run.n_steps, run.n_rejected
        self.n_rhs[cell], self.n_factorizations[cell] = run.n_rhs, run.n_factorizations
        self.statuses[cell], self.success[cell] = STATUSES.index(run.status), run.success
        self.duality_gaps[cell] = np.nan

    def status(self, cell):
        """Return the `Status` of a cell."""
        return STATUSES[self.statuses[cell]]

    def __len__(self):
        return len(self.statuses)

    def __repr__(self):
        codes, counts = np.unique(self.statuses, return_counts=True)
        ends = ", ".join(f"{count} {STATUSES[code]}" for code, count in zip(codes, counts, strict=True))
        return f"TileResult({len(self)} cells: {ends}; {int(self.n_steps.sum())} steps)"


def tile_covers(rule, *, depth=2, save_at=None):
    """Return whether `flow_tile` covers a rule: depth 2, the same parameters at all times, no sliding motion, no trajectory.

    Parameters
    ----------
    rule : Rule
    depth : float
    save_at : array_like, optional

    Returns
    -------
    bool
    """
    return (isinstance(rule, Rule) and not isinstance(rule, Flooding) and not rule.time_dependent and not rule.breakpoints
            and depth == 2 and save_at is None)


def flow_tile(problem, rules=None, log_alphas=0.0, log_ratios=None, *, t_end=None, rtol=1e-8, residual_tol=1e-10,
              method="auto", max_steps=100_000, limits_only=False, limit_tol=1e-6):
    """Integrate C flows of one problem, each as `dln.flow` does, in compiled loops.

    Parameters
    ----------
    problem : Problem
    rules : Rule or sequence of Rule (C,), optional
        One for all cells, or one for each, of one class and kind; by default `GradientFlow`.  `tile_covers` says which.
    log_alphas : float, array_like (C,) or (C, d)
        Logarithms of the initial scales.
    log_ratios : float, array_like (C,) or (C, d), optional
        Initial shapes ``log(u0/v0)``, by default 0.
    t_end : float or array_like (C,), optional
        Final time, one for all cells or one for each.
    rtol, residual_tol, method, max_steps
        As in `dln.flow`, the same for all cells.
    limits_only : bool
        Only the limits are wanted.  Those of gradient flow are solved for, each to a certificate; for `GradientRegularization`
        (squared) and `SAM` (full batch, not normalised) flows are integrated until the relative residual is 1e-3, and closed,
        with `method` "auto" as loosely as beta at rtol allows; of six cells or more that differ in strength alone (the ascent
        step being the same, or proportional) only a few are, and the others are predicted from them.  Others, and cells that
        cannot be closed to `limit_tol`, are integrated to the end.  `times` is infinite where there was no end, and
        log_effective_alphas may be off by 1e-3 where beta does not feel it.
    limit_tol : float
        Largest relative error of beta that closing or predicting may add to that of integration at rtol, an estimate.

    Returns
    -------
    TileResult
        A cell that fails has its status; it stops no other.

    Raises
    ------
    ValueError, TypeError
        If an argument is bad: one line that names it, and the first bad cell.

    Notes
    -----
    One thread, with the GIL released: tiles run side by side in threads.  Ctrl-C is heard within a second.

    Six cells or more of gradient flow, `GradientRegularization` (squared) or `SAM` (full batch, not normalised) on small data
    (N up to 64), by the Rosenbrock method throughout (`method` "rosenbrock", or "auto" at rtol from 1e-5 on), run eight at a
    time in vector lanes.  Such a cell makes the steps of `dln.flow`, and agrees with it to rounding errors, amplified by the
    flow (1e-10 of beta at moderate scales), and to what holding small coordinates and taking the last step to a time at once
    cost there, which is less than rtol.  Its bits depend on nothing in its neighbours.  All other cells are those of
    `dln.flow` to the last bit.

    Examples
    --------
    >>> import dln, numpy as np
    >>> from dln.integrate.tiles import flow_tile
    >>> flow_tile(dln.sparse_regression(20, 50, 3, rng=0), log_alphas=np.log([0.1, 1e-3])).statuses
    array([0, 0], dtype=int8)
    """
    settings = {"rtol": rtol, "residual_tol": residual_tol, "method": method, "max_steps": max_steps}
    if limits_only:
        from .tile_lines import limit_tile  # it builds on this module

        if t_end is not None:
            raise ValueError(f"limits_only asks for limits, which know no t_end; got t_end={t_end}")
        limit_tol = number("limit_tol", limit_tol, minimum=0.0, strict=True)
        return limit_tile(Tile(problem, rules, log_alphas, log_ratios, **settings), limit_tol)
    return run_all(Tile(problem, rules, log_alphas, log_ratios, t_end=t_end, **settings), _run)


def _run(tile):
    tile.run()
    return tile.result()


def run_all(tile, run, below=np.inf):
    """Return the `TileResult` of all cells: `run` is given the tile of those that have no way of their own.

    Runs of rules that shrink from small scales, all log u0^2 and log v0^2 `below`, to their limit are decided one by one, and
    last for milliseconds each.
    """
    small = tile.small_cells(below)
    if not small.size:
        return run(tile)
    result = tile.result()
    others = np.setdiff1d(np.arange(tile.n_cells), small)
    if others.size:
        result.put(others, run(tile.part(others)))
    for i in small:
        result.put_run(i, run_to_limit(*tile.arguments(i)))
    return result


class Tile:
    """The arrays of a tile, and one state for all of its runs."""

    def __init__(self, problem, rules, log_alphas, log_ratios, *, rtol, residual_tol, method, max_steps, t_end=None):
        if not isinstance(problem, Problem):
            raise TypeError(f"problem must be a dln.Problem, got {type(problem).__name__}; build one with dln.Problem(X, y)")
        rules = [GradientFlow()] if rules is None else [rules] if isinstance(rules, Rule) else list(rules)
        rule = _checked_rules(rules)
        self.problem, self.rule, self.rules = problem, rule, rules
        common = t_end if np.ndim(t_end) == 0 else None
        common, self.rtol, self.residual_tol, self.method, self.max_steps = checked_settings(
            rule, common, rtol, residual_tol, method, max_steps)
        self.to_the_end = t_end is None
        self.t_ends = np.full((1, 1), np.inf) if t_end is None else _table("t_end", t_end if common is None else common, 1)
        bad = np.flatnonzero(~(self.t_ends > 0.0))
        if bad.size:
            raise ValueError(f"t_end[{bad[0]}] must be above 0, got {self.t_ends[bad[0], 0]:g}")
        d = problem.n_features
        self.log_alphas = _table("log_alphas", log_alphas, d)
        self.log_ratios = _table("log_ratios", 0.0 if log_ratios is None else log_ratios, d)
        params = np.array([rule.parameters(d) for rule in rules])
        sizes = {"log_alphas": len(self.log_alphas), "log_ratios": len(self.log_ratios), "rules": len(rules),
                 "t_end": len(self.t_ends)}
        self.n_cells = size = max(sizes.values())
        for name, length in sizes.items():
            if length not in (1, size):
                raise ValueError(f"{name} has {length} cells and another argument {size}: give one or one for each cell")
        self._check_tops()
        self.log_alphas, self.log_ratios = _shared(self.log_alphas), _shared(self.log_ratios)
        self.rows = RowSpace(problem.X, problem.y, None, 0.0, True) if rule.uses_samples else problem.row_space
        coupled = np.array([self._kind(rule) for rule in rules], dtype=float)
        self.cells = self.log_alphas, self.log_ratios, params, self.t_ends, coupled
        n = self.rows.X.shape[0]
        total = n + d if rule.shrinks else n
        keeps = keeps_gram(self.rows.X.shape)
        kept, known = kept_arrays(self.rows.X, 0.0) if keeps else (np.empty((0, 0)), np.empty(0))
        self.state = (aligned_zeros((st.ROWS, d)), np.empty((starting.START_ROWS, d)), np.empty((1, params.shape[1])),
                      np.zeros(total), np.zeros(total), np.zeros(n), np.zeros(total), np.zeros(planning.SETTINGS_SIZE),
                      np.zeros((rest.PLATEAU_ROWS, n)), np.zeros(rest.NOTES_SIZE), np.zeros(d), kept, known,
                      *self.rows.gram)
        self.betas, self.nus = np.empty((size, d)), np.zeros((size, n))
        self.scales, self.shrinkage_errors = np.zeros((2, size if rule.shrinks else 0, d))
        self.clocks, self.counts = np.zeros((size, st.CLOCK_SIZE)), np.zeros((size, st.COUNT_SIZE), dtype=np.int64)
        self.residual_scales = np.empty(size)
        self.tallies, self.ends = (np.zeros((size, k), dtype=np.int64) for k in (plateaus.TALLY_SIZE, kernel.ENDS_SIZE))
        self.cursor, self.order = np.zeros(kernel.CURSOR_SIZE, dtype=np.int64), np.arange(size)
        self.begun = False

    def small_cells(self, below):
        """Return the cells, of those `below`, whose way to their limit `flow` follows loosely."""
        tops = (2.0 * self.log_alphas + np.abs(self.log_ratios)).max(axis=1)
        below = min(below, small_below(self.problem, self.rule, self.rtol, self._t_end(0), None, self.method))
        return np.flatnonzero(np.broadcast_to(tops < below, self.n_cells))

    def _t_end(self, cell):
        return None if self.to_the_end else float(self.t_ends[cell if len(self.t_ends) > 1 else 0, 0])

    def arguments(self, cell):
        """Return the arguments of an `Integration` of one cell."""
        rule, scale, ratio = (given[cell if len(given) > 1 else 0] for given in (self.rules, self.log_alphas, self.log_ratios))
        start = initialize(self.problem.n_features, log_alpha=_widened(scale), log_ratio=_widened(ratio))
        return (self.problem, rule, start, self._t_end(cell), np.empty(0), self.rtol, self.residual_tol, self.method,
                self.max_steps)

    def part(self, cells, residual_tol=None, rtol=None):
        """Return a tile of some of the cells."""
        rules, scales, ratios = (given if len(given) == 1 else [given[i] for i in cells]
                                 for given in (self.rules, self.log_alphas, self.log_ratios))
        size = len(cells)
        return Tile(self.problem, rules, np.broadcast_to(scales, (size, len(scales[0]))),
                    np.broadcast_to(ratios, (size, len(ratios[0]))),
                    t_end=self._t_end(0) if len(self.t_ends) == 1 else self.t_ends[cells, 0],
                    rtol=self.rtol if rtol is None else rtol,
                    residual_tol=self.residual_tol if residual_tol is None else residual_tol, method=self.method,
                    max_steps=self.max_steps)

    def _check_tops(self):
        tops = 2.0 * self.log_alphas + np.abs(self.log_ratios) if self.log_ratios.any() else 2.0 * self.log_alphas
        bad = np.flatnonzero(~(tops.max(axis=1) < starting.LARGEST_TOP))
        if bad.size:
            largest = self.log_alphas[bad[0] if len(self.log_alphas) > 1 else 0].max()
            raise ValueError(f"log_alphas[{bad[0]}] = {largest:g}: the initial weights overflow, u0^2 or v0^2 is above 1e260; "
                             f"give a smaller scale")

    def run(self, budget=_BUDGET):
        """Run all cells; a call of the kernel spends about `budget` multiply-adds."""
        from .tile_lanes import lane_groups, run_in_lanes  # when first used: vectors are a type of their own

        rule, X = self.rule, self.rows.X
        explicit, stiff = EXPLICIT[0], rosenbrock_method(rule, self.rtol, keeps_gram(X.shape))[0]
        loose = self.method == "auto" and begins_stiff(self.rtol, len(X))
        shares = attempts_per_call(X.shape, len(explicit[2]), False), attempts_per_call(X.shape, len(stiff[2]), True)
        facts = np.array([METHODS.index(self.method), self.max_steps, *shares, loose, isinstance(rule, GradientFlow),
                          rule.shrinks, rule.settles], dtype=np.int64)
        options = np.array([self.rtol, self.residual_tol, inexactness(rule, self.rtol),
                            self.rows.squared_norm if keeps_gram(X.shape) else 0.0, room_for_awake(rule, X.shape),
                            float(rule.ignores_zero_columns)])
        run_tile, *of_rule, rare, advance, cross, set_scales = run_kernels(
            kernel.run_tile, rule.kernel, rule.curvature, keeps_gram(X.shape), *self._needs(),
            others=(stepping.advance, plateaus.cross, starting.set_scales))
        kernels = advance, cross, set_scales, *of_rule, *rare
        c = 0.5 / self.problem.n_samples
        ends = (self.betas, self.scales, self.shrinkage_errors, self.nus, self.clocks, self.residual_scales, self.counts,
                self.tallies, self.ends)
        if not self.begun:
            self.begun = True
            for group in lane_groups(self, loose):
                run_in_lanes(self, group, (kernels, c, options, facts, self.cells, self.state, ends), float(budget))
                self.order = np.setdiff1d(self.order, group.cells)
        while self.cursor[kernel.PLACE] < len(self.order):
            run_tile(kernels, X, self.rows.y, c, self.rows.facts, options, facts, explicit, stiff, self.cells, self.state, ends,
                     self.order, self.cursor, float(budget))

    def _kind(self, rule):
        """Return what the kernel has to know of a rule; see `tile_kernel.CELLS`."""
        c = 0.5 / self.problem.n_samples
        coupled = rule.coupled(c * self.rows.largest_product)
        return (coupled, *(rule.dormant_pair or (0.0, 0.0)), relaxes(rule, coupled),
                noise_of_single(rule, self.rows, c, self.rtol, coupled))

    def _needs(self):
        """Return what some cells do: a last step to a stop, steps in the coordinates awake alone, steps in single precision."""
        coupled, _, _, closes, noise = self.cells[4].T
        dozes = self.rule.shrinks and bool(((coupled == 0.0) & (noise == 0.0)).any()) and room_for_awake(
            self.rule, self.rows.X.shape) > 0
        stops = bool(np.isfinite(self.t_ends).any())
        return stops and bool(closes.any()), dozes, bool(noise.any())

    def result(self):
        """Return the ends as a `TileResult`."""
        shape = self.n_cells, self.problem.n_features
        norms, counts, basis = self.clocks[:, st.RESIDUAL], self.counts, self.rows.basis
        with np.errstate(over="ignore", invalid="ignore"):
            losses = 0.5 * (0.5 / self.problem.n_samples) * norms * norms + self.rows.unreachable_loss
            residuals = np.divide(norms, self.residual_scales, out=np.zeros(self.n_cells), where=self.residual_scales > 0.0)
        errors = self._errors()
        statuses, success = self._statuses(residuals, errors)
        return TileResult(
            betas=self.betas,
            log_effective_alphas=self.scales if self.rule.shrinks else np.broadcast_to(self.log_alphas, shape),
            effective_log_ratios=np.broadcast_to(self.log_ratios, shape),
            # One product each: all at once BLAS would add up in another order.
            duals=self.nus if basis is None else np.array([basis @ nu for nu in self.nus]),
            losses=losses, residuals=residuals, times=self.clocks[:, st.T].copy(), error_estimates=errors,
            n_steps=counts[:, st.ACCEPTED].copy(), n_rejected=counts[:, st.REJECTED].copy(), n_rhs=counts[:, st.RHS].copy(),
            n_factorizations=counts[:, st.FACTORIZATIONS].copy(), n_jumps=self.tallies[:, plateaus.JUMPS].copy(),
            n_newton=np.zeros(self.n_cells, dtype=np.int64), statuses=statuses, success=success,
            duality_gaps=np.full(self.n_cells, np.nan), problem=self.problem)

    def _errors(self):
        # As `Integration._error_estimate`, of all cells.
        errors = self.clocks[:, st.ERROR_OF_BETA]
        if self.rule.shrinks:
            errors = np.maximum(errors, 2.0 * np.abs(self.shrinkage_errors).max(axis=1))
        if not self.rule.exact_curvature:
            return np.maximum(errors, self.rtol)
        if not self.to_the_end:
            errors = np.maximum(errors, np.where(self.ends[:, kernel.LAST_METHOD] == kernel.PLATEAUS, self.rtol, 0.0))
        held = np.where(self.ends[:, kernel.WAS_HELD] != 0, starting.HELD_BELOW * self.rtol, 0.0)
        return np.maximum(np.maximum(errors, _EPS * (1.0 + self.clocks[:, st.REACH])), held)

    def _statuses(self, residuals, errors):
        # As `Integration._verdict`, of all cells.
        reason = self.ends[:, kernel.REASON]
        late = np.array([entry_point(starting.stalls)(count) for count in self.counts[reason == st.RUNNING]], dtype=bool)
        words = np.full(self.n_cells, STATUSES.index(Status.STEP_LIMIT), dtype=np.int8)
        words[reason == st.RUNNING] = np.where(late & self.to_the_end, STATUSES.index(Status.HOVERING),
                                               STATUSES.index(Status.STEP_LIMIT))
        for code, status in ((st.CONVERGED, Status.CONVERGED), (st.STATIONARY, Status.STATIONARY),
                             (st.AT_STOP, Status.REACHED_T_END), (st.DIVERGED, Status.DIVERGED),
                             (st.STEP_TOO_SMALL, Status.STEP_TOO_SMALL)):
            words[reason == code] = STATUSES.index(status)
        words[(reason == st.STEP_TOO_SMALL) & (residuals > 1e6)] = STATUSES.index(Status.DIVERGED)
        good = np.isin(reason, (st.CONVERGED, st.STATIONARY, st.AT_STOP))
        exact = errors <= largest_error(self.rtol, self.clocks[:, st.REACH])
        words[good & ~exact] = STATUSES.index(Status.INACCURATE)
        return words, good & exact


def _checked_rules(rules):
    if not rules:
        raise ValueError("rules is empty: give one rule, or one for each cell")
    first = rules[0]
    for k, rule in enumerate(rules):
        if not isinstance(rule, Rule):
            raise TypeError(f"rules[{k}] must be a training rule such as dln.GradientFlow(), got {rule!r}")
        if not tile_covers(rule):
            raise ValueError(f"rules[{k}] = {rule!r} is not covered by a tile: run it with dln.flow")
        if type(rule) is not type(first) or rule.kernel is not first.kernel or rule.settles != first.settles:
            raise ValueError(f"rules[{k}] = {rule!r} is of another kind than rules[0] = {first!r}: give each kind its own tile")
    return first


def _table(name, value, d):
    """Return cells' numbers as (C, 1) or (C, d), C being 1 for a number that all share."""
    try:
        array = np.array(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be a number or an array of numbers, got {type(value).__name__}") from error
    if array.ndim > 2 or array.size == 0 or (array.ndim == 2 and array.shape[1] not in (1, d)):
        raise ValueError(f"{name} must be a number or have shape (C,) or (C, {d}), got shape {array.shape}")
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        raise ValueError(f"{name}{list(map(int, bad[0])) if array.ndim else ''} must be finite, got {array[tuple(bad[0])]}")
    return np.ascontiguousarray(array.reshape(len(array) if array.ndim else 1, -1))


def _widened(row):
    return row[0] if row.size == 1 else row


def _shared(table):
    """Return the table with one column where all are alike, and with one row where all are alike."""
    table = table[:, :1] if np.all(table == table[:, :1]) else table
    return np.ascontiguousarray(table[:1] if np.all(table == table[:1]) else table)
