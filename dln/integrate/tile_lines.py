"""Limits of a tile along lines of cells whose penalties differ in strength alone: a few are integrated, the others predicted.

Of its way a limit knows Q alone, and along such a line ``Q / strength`` is smooth, even where the limit itself turns sharply:
it is interpolated, as is nu, through the cells that have been integrated.  These are Leja points, each where the last
interpolant can be worst, so that what it predicts there tells how good it is.  Once that will do, Newton's method goes from
what is predicted to the limits of all the other cells.
"""

import numpy as np

from ..result import Status
from .dual_limits import GOOD, MOST_UNKNOWN
from .tile_limits import Limits, limits_of_each, penalties_of
from .tiles import STATUSES

_CAUTION = 3.0  # times by how much the last prediction was off
_SHORTEST = 6  # lines with fewer strengths are not worth it
_MOST = 16  # of a line's cells that are integrated, and at most half of them
_DIGITS = 10  # to which parameters are the same, or in proportion


def limit_tile(tile, limit_tol):
    """Return the `TileResult` of the limits of a `Tile`."""
    lines = [] if penalties_of(tile) is None else _lines(tile)
    if not lines:
        return limits_of_each(tile, limit_tol, loosely=True)
    return _Predictor(tile, limit_tol).run(lines)


class _Line:
    """Cells that differ in strength alone, and the order in which they are integrated."""

    def __init__(self, cells, strengths):
        self.cells, self.strengths = cells, strengths
        self.turns = _leja(strengths)
        self.n_known = 2
        self.off = np.inf  # by which the last prediction was

    @property
    def known(self):
        """Places in the line of the cells that are integrated."""
        return self.turns[:self.n_known]

    @property
    def others(self):
        """Places of the cells that are not."""
        return np.setdiff1d(np.arange(len(self.cells)), self.known)

    @property
    def used_up(self):
        """Whether to integrate more of the cells would save too little."""
        return self.n_known >= min(_MOST, len(self.turns) // 2)


class _Predictor:
    """The arrays of a tile of which a part is integrated, and the rest predicted."""

    def __init__(self, tile, limit_tol):
        self.tile, self.limit_tol = tile, limit_tol
        self.result, self.limits = tile.result(), Limits(tile)
        shape = tile.n_cells, tile.problem.n_features
        self.start = np.broadcast_to(tile.log_alphas, shape)
        self.log_alphas, self.nus = np.empty(shape), np.empty(self.limits.nus.shape)

    def run(self, lines):
        """Return the `TileResult`."""
        alone = np.setdiff1d(np.arange(self.tile.n_cells), np.concatenate([line.cells for line in lines]))
        self._integrate(alone, loosely=True)
        # The ways of a line are all followed alike: then even their errors are smooth.
        self._integrate(np.concatenate([line.cells[line.known] for line in lines]))
        good, left = [], []
        while lines:
            self._try(lines)
            good += [line for line in lines if self._will_do(line)]
            left += [line for line in lines if not self._will_do(line) and line.used_up]
            lines = [line for line in lines if not self._will_do(line) and not line.used_up]
        rest = np.concatenate([self._accept(good), *(line.cells[line.others] for line in left)])
        self._integrate(rest, loosely=True)
        return self.result

    def _will_do(self, line):
        return _CAUTION * line.off <= self.limit_tol

    def _integrate(self, cells, loosely=False):
        if cells.size:
            self.result.put(cells, limits_of_each(self.tile.part(cells), self.limit_tol, loosely))

    def _solve(self, lines, places):
        """Predict the cells at these places of each line, and solve for their limits; return the cells."""
        basis = self.tile.rows.basis
        for line, wanted in zip(lines, places, strict=True):
            cells, known, nodes = line.cells[wanted], line.cells[line.known], line.strengths[line.known]
            weights = _lagrange(line.strengths[wanted], nodes)
            duals = self.result.duals[known]
            shrunk = (self.result.log_effective_alphas[known] - self.start[known]) / nodes[:, None]
            self.log_alphas[cells] = self.start[cells] + line.strengths[wanted, None] * (weights @ shrunk)
            self.nus[cells] = -weights @ (duals if basis is None else duals @ basis)
        cells = np.concatenate([line.cells[wanted] for line, wanted in zip(lines, places, strict=True)])
        self.limits.solve(self.tile.rows.y, self.log_alphas, cells, self.nus)
        return cells

    def _try(self, lines):
        """Predict one more cell of each line, integrate it, and note by how much its limit was off."""
        cells = self._solve(lines, [line.turns[line.n_known:line.n_known + 1] for line in lines])
        self._integrate(cells)
        betas = self.result.betas[cells]
        moved, sizes = np.linalg.norm(self.limits.betas[cells] - betas, axis=1), np.linalg.norm(betas, axis=1)
        shrunk = np.abs(self.log_alphas[cells] - self.result.log_effective_alphas[cells]).max(axis=1)
        sound = (self.limits.outcomes[cells] == GOOD) & (shrunk <= MOST_UNKNOWN) & (sizes > 0.0)
        for k, line in enumerate(lines):
            line.n_known += 1
            line.off = moved[k] / sizes[k] if sound[k] and self.result.success[line.cells[line.known]].all() else np.inf

    def _accept(self, lines):
        """Put in the limits of cells that are predicted well; return the cells whose limits could not be had."""
        if not lines:
            return np.empty(0, dtype=np.int64)
        cells = self._solve(lines, [line.others for line in lines])
        errors = np.concatenate([np.full(len(line.others), max(
            self.result.error_estimates[line.cells[line.known]].max(), _CAUTION * line.off)) for line in lines])
        found = self.limits.outcomes[cells] == GOOD
        good = cells[found]
        self.result.error_estimates[good] = errors[found]
        self.result.statuses[good], self.result.success[good] = STATUSES.index(Status.CONVERGED), True
        self.limits.put(self.result, good, self.log_alphas)
        return cells[~found]


def _lines(tile):
    """Return the lines of a tile: those of the same start whose other parameters are the same, or proportional."""
    params = np.broadcast_to(tile.cells[2], (tile.n_cells, tile.cells[2].shape[1]))
    cells = np.flatnonzero(params[:, 0] > 0.0)
    strengths, others = params[cells, 0], params[cells, 1:]
    if len(np.unique(strengths)) < _SHORTEST:
        return []
    starts = [np.unique(np.broadcast_to(table, (tile.n_cells, table.shape[1]))[cells], axis=0, return_inverse=True)[1].ravel()
              for table in (tile.log_alphas, tile.log_ratios)]
    proportional = others.copy()
    proportional[:, 0] /= strengths
    choices = [_grouped(cells, strengths, starts, rest) for rest in (others, proportional)]
    return max(choices, key=lambda lines: sum(len(line.cells) - _SHORTEST // 2 for line in lines))


def _grouped(cells, strengths, starts, rest):
    """Return the lines on which all of these are the same."""
    rest = np.round(rest / np.maximum(np.abs(rest).max(axis=0), np.finfo(float).tiny), _DIGITS)
    _, group = np.unique(np.column_stack([*starts, rest]), axis=0, return_inverse=True)
    members = [np.flatnonzero(group.ravel() == k) for k in range(group.max() + 1)]
    return [_Line(cells[m], strengths[m]) for m in members if len(np.unique(strengths[m])) >= _SHORTEST]


def _leja(points):
    """Return indices of the distinct points, each as far from those before it as can be, by the product of distances."""
    turns = [int(np.argmax(points))]
    product = np.abs(points - points[turns[0]])
    while product.max() > 0.0:
        turns.append(int(np.argmax(product)))
        product = product * np.abs(points - points[turns[-1]]) / product.max()
    return np.array(turns)


def _lagrange(points, nodes):
    """Return the values at the points of the Lagrange polynomials of the nodes (points, nodes)."""
    apart = nodes[:, None] - nodes
    np.fill_diagonal(apart, 1.0)
    away = np.repeat((points[:, None] - nodes)[:, None, :], len(nodes), axis=1)
    away[:, np.arange(len(nodes)), np.arange(len(nodes))] = 1.0
    return np.prod(away / apart, axis=2)
