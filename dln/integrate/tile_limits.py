"""The limits of a tile of flows, without their trajectories where theory knows them.

The limit of gradient flow minimises the potential at its initial scale, whatever the way: the dual solution is followed along
the scales of the tile, cell after cell.  A penalty shrinks the scale on the way, so that way is integrated, but not to its end:
close to the limit the rest of what shrinks is known to leading order (see `dual_limits.tail`), and Newton's method makes the
rest of the way in a step or two.  A cell where that is not certain is integrated to the end.

Of the way the limit knows Q alone, and hardly feels even that where the support decides: the way is tried at a looser
tolerance, its estimated error is carried to beta, and where that is more than was asked for the cell is done again.
"""

import math

import numpy as np

from .._jit import entry_point
from ..minimizer import minimize_potential
from ..result import Status
from ..rules import GradientFlow, GradientRegularization
from ..rules.sam import SAM
from ..scale_path import scale_path
from . import dual_limits
from .tiles import STATUSES, TileResult, run_all

_LONG_PLATEAUS = -100.0  # log u0^2 from which on it is quicker to go from plateau to plateau
_STOP = 1e-3  # relative residual at which an integration is closed
_TOL = 1e-9  # relative residual of a limit, from which one more step is made
_LOOSEST = 0.04  # tolerance of a way
_STRICT = 20.0
_RICH = 0.05  # u0^2 relative to the size of beta, up to which the regime is rich enough for loose ways
_TRIES = 2  # of looser ways
_TIGHTEN = 0.5  # of the tolerance that would do by the estimate
_LARGEST = 4e6  # N^2 d above which a cell, in one thread and not to be interrupted, lasts too long: then BLAS and Python do it
_BUDGET = 2e8
_EPS = float(np.finfo(float).eps)


def limits_of_each(tile, limit_tol, loosely):
    """Return the `TileResult` of the limits of a `Tile`, each cell by itself; `loosely` if ways may be followed loosely."""
    return run_all(tile, lambda part: _limits(part, limit_tol, loosely), _LONG_PLATEAUS)


def _limits(tile, limit_tol, loosely):
    if isinstance(tile.rule, GradientFlow):
        result = _plain(tile)
        rest = np.flatnonzero(~result.success)
    elif (penalties := penalties_of(tile)) is not None:
        result, rest = tile.result(), np.arange(tile.n_cells)
        if loosely:
            ways = _ways(tile, penalties[:, 0])
            for _ in range(_TRIES):
                for way in np.unique(ways[rest])[::-1]:
                    if way > tile.rtol:
                        cells = rest[ways[rest] == way]
                        done, _, ways[cells] = _closed(tile, cells, way, result, penalties, limit_tol)
                        rest = np.setdiff1d(rest, done)
        if rest.size:
            rest = _closed(tile, rest, tile.rtol, result, penalties, limit_tol)[1]
    else:
        tile.run()
        return tile.result()
    if rest.size:
        again = tile.part(rest)
        again.run()
        result.put(rest, again.result())
    return result


def _ways(tile, strengths):
    """Return the tolerance at which the way of each cell is first tried: one at which beta, which knows Q alone, is at rtol.

    The error of Q on a way at a tolerance is about that times ``strength |g|``, g the gradient in beta at the start, and at
    most a twentieth of it where stiff steps hold Q strictly (`state.strictness`); beta feels a part of that.  In the kernel
    regime it feels more, and ways are short.
    """
    ways = np.full(tile.n_cells, tile.rtol)
    if tile.method != "auto" or _too_large(tile):
        return ways
    steepest = tile.rows.largest_product * 0.5 / tile.problem.n_samples
    tops = np.broadcast_to((2.0 * tile.log_alphas + np.abs(tile.log_ratios)).max(axis=1), tile.n_cells)
    with np.errstate(divide="ignore"):
        loose = np.minimum(_LOOSEST, np.broadcast_to(_STRICT * tile.rtol / (strengths * steepest), tile.n_cells))
        small = tops <= np.log(_RICH * tile.rows.coordinate_scale)
    return np.where(small, _one_of_few(loose, tile.rtol), ways)


def _one_of_few(ways, rtol):
    """Round tolerances down, so that cells share them; return those that are not much looser than rtol as rtol."""
    ways = 10.0 ** (0.5 * np.floor(2.0 * np.log10(ways) + 1e-9))
    return np.where(ways > 2.0 * rtol, ways, rtol)


def penalties_of(tile):
    """Return (strength, ascent step) of the rules, (C or 1, 2), or None where ways are not to be closed, or cannot."""
    params = tile.cells[2]
    if not tile.residual_tol < _STOP:
        return None
    if isinstance(tile.rule, GradientRegularization) and np.all(params[:, 3] == 1.0):
        return np.column_stack([params[:, 0], np.where(params[:, 2] == 0.0, params[:, 1], 0.0)])
    if isinstance(tile.rule, SAM) and not tile.rule.per_sample and not tile.rule.normalized:
        return np.column_stack([params[:, 0], params[:, 0]])
    return None


def _too_large(tile):
    n, d = tile.rows.X.shape
    return n * n * d > _LARGEST


class Limits:
    """The arrays of limits, and the loop over calls of the kernel."""

    def __init__(self, tile):
        self.tile = tile
        size, (n, d) = tile.n_cells, tile.rows.X.shape
        self.betas, self.nus = np.zeros((size, d)), np.zeros((size, n))
        self.residuals, self.gaps, self.errors, self.way_errors, self.norms = np.full((5, size), np.nan)
        self.outcomes, self.iterations = np.full(size, dual_limits.OPEN, dtype=np.int64), np.zeros(size, dtype=np.int64)

    def solve(self, y, log_alphas, order, starts=None, penalties=None, wrong=None):
        """Solve the cells of `order`, as far as the kernel can; see `dual_limits.limits_of`."""
        tile, X = self.tile, self.tile.rows.X
        n, d = X.shape
        scale, work = tile.rows.coordinate_scale, n * n * d
        if _too_large(tile) or n == 0:
            return
        top = 0.5 * math.log(scale) if scale > 0.0 else -math.inf
        limits = (self.betas, self.nus, self.residuals, self.gaps, self.errors, self.way_errors, self.norms, self.outcomes,
                  self.iterations)
        memory, cursor = np.zeros(n + 2 * d + 1), np.zeros(1, dtype=np.int64)
        share = max(1, int(_BUDGET // (20 * work + 100_000)))
        limits_of = entry_point(dual_limits.limits_of)
        while cursor[0] < len(order):
            limits_of(X, y, 0.5 / tile.problem.n_samples, top, log_alphas, tile.log_ratios,
                      np.empty((0, n)) if starts is None else starts, np.empty((0, 2)) if penalties is None else penalties,
                      np.empty((0, d)) if wrong is None else wrong, _TOL, order, limits, memory, cursor, share)

    def duals(self, cells):
        """Return the duals as a flow has them: ``int p = X^T dual``, the multipliers with the other sign."""
        basis = self.tile.rows.basis
        return -self.nus[cells] if basis is None else -self.nus[cells] @ basis.T

    def put(self, result, cells, log_alphas):
        """Put limits of a penalty, at these effective scales, into a `TileResult` that knows how they were come to."""
        result.betas[cells], result.log_effective_alphas[cells] = self.betas[cells], log_alphas[cells]
        result.duals[cells] = self.duals(cells)
        result.losses[cells] = 0.25 / self.tile.problem.n_samples * self.norms[cells] ** 2 + self.tile.rows.unreachable_loss
        result.residuals[cells], result.duality_gaps[cells] = self.residuals[cells], self.gaps[cells]
        result.error_estimates[cells] = np.maximum(result.error_estimates[cells], self.errors[cells])
        result.times[cells] = np.inf
        result.n_newton[cells] = self.iterations[cells]


def _plain(tile):
    limits = Limits(tile)
    largest = float(np.max(np.abs(tile.rows.y), initial=0.0))
    # Squares would leave the floats: phi of (s b, s alpha^2) is s phi, so bring the targets to 1 and back.
    shift = 0 if largest == 0.0 or 1e-120 < largest < 1e120 else int(np.frexp(largest)[1])
    log_alphas = tile.log_alphas - 0.5 * math.log(2.0) * shift
    if shift == 0:
        # Falling scales, for one shape after the other.
        keys = -log_alphas.max(axis=1), tile.log_ratios[:, 0]
        order = np.lexsort([np.broadcast_to(key, tile.n_cells) for key in keys])
        limits.solve(tile.rows.y, log_alphas, order)
    duals = limits.duals(slice(None))
    left = np.flatnonzero(limits.outcomes != dual_limits.GOOD)
    if left.size > 1 and tile.log_alphas.shape == (tile.n_cells, 1) and len(tile.log_ratios) == 1:
        ratio = np.broadcast_to(tile.log_ratios[0], tile.problem.n_features)
        path = scale_path(tile.problem, log_alphas=tile.log_alphas[left, 0], log_ratio=ratio)
        good = left[path.success]
        for array, found in ((limits.betas, path.betas), (duals, -path.duals), (limits.residuals, path.residuals),
                             (limits.gaps, path.duality_gaps)):
            array[good] = found[path.success]
        limits.norms[good] = limits.residuals[good] * tile.rows.target_norm
        limits.errors[good] = np.maximum(limits.residuals[good], limits.gaps[good])
        limits.iterations[left[0]] += path.n_iterations  # one walk, of all cells together
        limits.outcomes[good] = dual_limits.GOOD
    for i in np.flatnonzero(limits.outcomes != dual_limits.GOOD):
        scale, ratio = (table[i if len(table) > 1 else 0] for table in (tile.log_alphas, tile.log_ratios))
        d = tile.problem.n_features
        best = minimize_potential(tile.problem, log_alpha=np.broadcast_to(scale, d), log_ratio=np.broadcast_to(ratio, d))
        limits.betas[i], duals[i], limits.residuals[i], limits.gaps[i] = best.beta, -best.dual, best.residual, best.duality_gap
        limits.norms[i] = best.residual * tile.rows.target_norm
        limits.errors[i], limits.iterations[i] = max(best.residual, best.duality_gap), best.n_iterations
        limits.outcomes[i] = dual_limits.GOOD if best.success else dual_limits.OPEN
    good = limits.outcomes == dual_limits.GOOD
    zeros = np.zeros((5, tile.n_cells), dtype=np.int64)
    shape = tile.n_cells, tile.problem.n_features
    with np.errstate(over="ignore"):
        losses = 0.25 / tile.problem.n_samples * limits.norms**2 + tile.rows.unreachable_loss
    codes = [STATUSES.index(status) for status in (Status.CONVERGED, Status.STEP_LIMIT)]
    return TileResult(
        betas=limits.betas, log_effective_alphas=np.broadcast_to(tile.log_alphas, shape),
        effective_log_ratios=np.broadcast_to(tile.log_ratios, shape), duals=duals, losses=losses, residuals=limits.residuals,
        times=np.full(tile.n_cells, np.inf),
        error_estimates=np.maximum(limits.errors, np.maximum(limits.residuals, _EPS)), n_steps=zeros[0],
        n_rejected=zeros[1], n_rhs=zeros[2], n_factorizations=zeros[3], n_jumps=zeros[4], n_newton=limits.iterations,
        statuses=np.where(good, *codes).astype(np.int8), success=good, duality_gaps=limits.gaps, problem=tile.problem)


def _closed(tile, cells, way, result, penalties, limit_tol):
    """Follow the ways of these cells at the tolerance `way`, close them, and put their limits, or their ends, in the result.

    Returns the cells that are done, those that are to be integrated to the end, and for all of them ways that would do.
    """
    early = tile.part(cells, residual_tol=_STOP, rtol=way)
    early.run()
    found = early.result()
    converged = np.flatnonzero(found.statuses == STATUSES.index(Status.CONVERGED))
    limits = Limits(early)
    scales = found.log_effective_alphas.copy()
    limits.solve(tile.rows.y, scales, converged, -early.nus, penalties[cells] if len(penalties) > 1 else penalties,
                 early.shrinkage_errors if way > tile.rtol else None)
    good = converged[(limits.outcomes[converged] == dual_limits.GOOD) & (limits.errors[converged] <= limit_tol)
                     & (limits.way_errors[converged] <= tile.rtol)]
    if way > tile.rtol:
        found.error_estimates[good] = np.maximum(tile.rtol, limits.way_errors[good])
    limits.put(found, good, scales)
    result.put(cells, found)
    inaccurate = np.flatnonzero(found.statuses == STATUSES.index(Status.INACCURATE))
    open_ = np.setdiff1d(np.concatenate([converged, inaccurate]), good)
    tighter = np.full(len(cells), tile.rtol)
    known = limits.way_errors > tile.rtol
    tighter[known] = _one_of_few(_TIGHTEN * way * tile.rtol / limits.way_errors[known], tile.rtol)
    return cells[good], cells[open_], tighter
