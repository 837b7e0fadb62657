"""Damped Newton on the dual of ``min D_phi(b, center)  s.t.  X b = y`` at depth D > 2, inside of its domain.

With ``k = D - 2`` the dual is

    min_nu  sum_j phi*_j(x_j.nu + s_j) - y.nu,   b_j = u_j^D - v_j^D,
    u_j^-k = alpha_j^-k (1 - z_j),   v_j^-k = alpha_j^-k (1 + z_j),

with ``z_j = z0_j + alpha_j^k x_j.nu`` in (-1, 1).  In the rich regime ``1 - |z_j| = (alpha_j/u_j)^k`` of an active coordinate
is far below the rounding of z_j.  So a point is carried as ``ell_j = log(u_j/v_j)`` and the larger log weight, and a step moves

    u_j^-k  by  -x_j.p,    v_j^-k  by  +x_j.p        (p a step of nu):

a change of the smaller of the two powers relative to itself, which no scale can round away, and which no step may use up.  The
solution is followed from a scale at which the problem is nearly quadratic
down to the one asked for.
"""

import math

import numpy as np
import scipy  # its parts are loaded when first used

from . import deep_potential as deep
from ._dual import qr_apply
from .row_space import RowSpace

_MAX_NEWTON = 400
_MAX_TOTAL = 5_000
_ROUGH = 1e-2  # relative residual on the way
_LEAST_FALL = 0.3  # of log alpha, below which the solution is not predicted but searched for
_SOLVED = 0.1  # what may be left of Newton's equations, relative to their right side
_UNFELT = 1e-13  # of the square root of a weight, relative to the largest
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(16)


class DeepDual:
    """The dual problem at depth D > 2, at the scale whose largest entry is ``exp(here)``: Newton steps, and the path in scale.

    The path ends at ``exp(log_alpha)``, of largest entry ``exp(highest)``; the way left is not carried, since near the start,
    where it counts, the rounding of a long way would.  ``nu`` is in units of ``exp(-k here)``, in which ``z = z0 + fade x.nu``
    with ``fade <= 1``.
    """

    def __init__(self, rows, y, log_alpha, ratio, depth):
        self.X, self.y, self.depth = rows.X, y, depth
        self.k = depth - 2.0
        beta_scale = RowSpace(rows.X, y, None, 0.0, True).coordinate_scale
        self.top = math.log(beta_scale) / depth if beta_scale > 0.0 else -math.inf
        self.step = 1.0
        self.n_iterations = 0
        self.aim(log_alpha, ratio)

    def aim(self, log_alpha, ratio):
        """Set the scale, shape (d,), that the path ends at, and log(u0/v0) there; the present point becomes its end."""
        self.log_alpha, self.ratio = log_alpha, ratio
        self.here = self.highest = float(np.max(log_alpha))
        self.scale = max(float(np.linalg.norm(self.y)), float(np.linalg.norm(self.X @ self.predictor(self.point(ratio)))))

    def log_scale(self):
        """Return log alpha at this point of the path, shape (d,)."""
        return self.log_alpha if self.here == self.highest else (self.log_alpha - self.highest) + self.here

    def point(self, ell):
        """Return the point (ell, logarithm of the larger weight) at `ell` and the present scale."""
        return ell, np.maximum(*deep.weights(ell, log_alpha=self.log_scale(), depth=self.depth))

    def predictor(self, point):
        """Return b at a point, infinite where it overflows."""
        ell, top = point
        with np.errstate(over="ignore", under="ignore"):
            return np.sign(ell) * np.exp(self.depth * top) * -np.expm1(-self.depth * np.abs(ell))

    def residual(self, point):
        """Return X b - y at a point; not finite where b overflows."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self.X @ self.predictor(point) - self.y

    def loss_of_gap(self, point, change):
        """Return what the smaller of the two powers loses, relative to itself, where ``u^-k`` falls and ``v^-k`` grows."""
        ell, top = point
        with np.errstate(over="ignore"):
            return np.where(ell >= 0.0, change, -change) * np.exp(self.k * top)

    def moved(self, point, change):
        """Return the point after ``u^-k`` has fallen by `change` and ``v^-k`` grown by it; None if a power would vanish."""
        k = self.k
        ell, top = point
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            loss = self.loss_of_gap(point, change)
            other_loss = -loss * np.exp(-k * np.abs(ell))  # the larger power is e^(k |ell|) times the smaller one
            if not np.all((loss < 1.0) & (other_loss < 1.0)):
                return None
            # Near z = 0, z itself is the small number; elsewhere 1 - |z|, the smaller power in units of alpha^-k.
            z = np.tanh(0.5 * k * ell)
            step = change * np.exp(np.minimum(k * self.log_scale(), 700.0))
            near = (np.abs(z) < 0.5) & (np.abs(z + step) < 0.5)
            inner = (2.0 / k) * np.arctanh(np.where(near, z + step, 0.0))
            shrunk = np.log1p(-np.where(near, 0.0, loss))
            log_gap = math.log(2.0) - np.logaddexp(0.0, k * np.abs(ell)) + shrunk
            # Beyond z = 0 the other power is the smaller one.
            crossed = ~near & (log_gap > 0.0)
            other = math.log(2.0) - np.logaddexp(0.0, -k * np.abs(ell)) + np.log1p(-np.where(crossed, other_loss, 0.0))
            log_gap = np.where(crossed, other, log_gap)
            size = (math.log(2.0) - log_gap + np.log1p(-0.5 * np.exp(np.minimum(log_gap, 0.0)))) / k
        ell_new = np.where(near, inner, np.where(crossed, -1.0, 1.0) * np.where(ell >= 0.0, size, -size))
        # The larger weight keeps the digits that log alpha + ell would round away.
        return ell_new, np.where(near | crossed, self.point(ell_new)[1], top - shrunk / k)

    def direction(self, log_weight, right, way=0):
        """Return p with ``X diag(exp(log_weight)) X^T p = right``, and X^T p.

        By Cholesky, by QR of the rows, or in the large eigenvalues alone: the three lose different directions to rounding where
        the weights span many decades; Newton's method tries the next `way` when it stalls.
        """
        highest = float(np.max(log_weight))
        with np.errstate(under="ignore"):
            half = self.X * np.exp(0.5 * (log_weight - highest))
        unit = math.exp(max(min(-highest, 700.0), -700.0))
        if way == 1:
            # Accurate row by row (Cox & Higham 1998), the rows sorted by weight.
            order = np.argsort(-log_weight, kind="stable")
            Q, R, pivots = scipy.linalg.qr(half.T[order], mode="economic", pivoting=True, check_finite=False)
            rank = _felt(R)
            if rank:
                R, pivots = R[:rank, :rank], pivots[:rank]
                p = np.zeros_like(right)
                image = scipy.linalg.solve_triangular(R, right[pivots], trans="T", check_finite=False)
                p[pivots] = scipy.linalg.solve_triangular(R, image, check_finite=False)
                # Where small entries are to mend what large ones leave, p is large and its products with the columns of those
                # cancel: they are better known from the other factor.
                change = np.empty_like(log_weight)
                change[order] = (Q[:, :rank] @ image) * np.exp(np.minimum(0.5 * (highest - log_weight[order]), 700.0))
                return p * unit, change * unit
        K = half @ half.T
        root = np.sqrt(np.diag(K))
        root[root == 0.0] = 1.0
        K = K / root / root[:, None]
        right = right / root
        if way == 2:
            values, vectors = scipy.linalg.eigh(K, check_finite=False)
            keep = values > 1e-11 * values[-1]
            p = (vectors[:, keep] @ ((right @ vectors[:, keep]) / values[keep])) / root * unit
            return p, p @ self.X
        jitter = 1e-15
        for _ in range(12):
            try:
                factor = scipy.linalg.cho_factor(K + jitter * np.eye(len(K)), lower=True, check_finite=False)
                p = scipy.linalg.cho_solve(factor, right, check_finite=False) / root * unit
                return p, p @ self.X
            except np.linalg.LinAlgError:
                jitter *= 10.0
        raise np.linalg.LinAlgError("the Gram matrix of the dual problem does not factor")

    def best_direction(self, point, r, way):
        """Return the Newton step p and X^T p, by `way` if that solves its equations, else by the way that solves them best."""
        log_weight, best, least = self.log_weight(point), None, math.inf
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            for shift in range(3):
                p, change = self.direction(log_weight, -r, (way + shift) % 3)
                moved = np.sign(change) * np.exp(log_weight + np.log(np.abs(change)))
                off = float(np.linalg.norm(self.X @ moved + r) / np.linalg.norm(r))
                if off < least:
                    best, least = (p, change), off
                if off <= _SOLVED:
                    break
        return best

    def wall(self, point, change):
        """Return the largest multiple of `change` at which no power has vanished."""
        loss = self.loss_of_gap(point, change)
        with np.errstate(over="ignore", under="ignore"):
            return 1.0 / max(float(np.max(loss)), float(np.max(-loss * np.exp(-self.k * np.abs(point[0])))), 1e-300)

    def unit(self):
        """Return ``alpha^k`` at the largest alpha: what one unit of p is in units of nu."""
        return math.exp(max(min(self.k * self.here, 700.0), -700.0))

    def log_weight(self, point):
        """Return the logarithm of ``s (u^(2D-2) + v^(2D-2))``, which the Hessian of the dual weighs the columns with."""
        power = 2.0 * self.depth - 2.0
        with np.errstate(under="ignore"):
            return power * point[1] + np.log1p(np.exp(-power * np.abs(point[0]))) + math.log(self.depth / self.k)

    def search(self, point, change, start):
        """Return (step, point there): the full step near the solution, elsewhere close to the minimum of the dual along it.

        The slope of the dual along the step is ``sum_j b_j change_j - y.p``, increasing, and `start` here; beyond the wall
        it is infinite.
        """
        wall = self.wall(point, change)
        if wall > 10.0:
            return 1.0, self.moved(point, change)  # no power changes by a tenth
        before = self.predictor(point)

        def slope(t):
            there = self.moved(point, t * change)
            with np.errstate(over="ignore", invalid="ignore"):
                value = math.inf if there is None else float((self.predictor(there) - before) @ change) + start
            return (value if math.isfinite(value) else math.inf), there

        low, high, best = 0.0, wall, point
        t = 1.0 if wall > 1.0 else 0.9 * wall
        for _ in range(80):
            value, there = slope(t)
            if there is not None and abs(value) <= (0.25 if t == 1.0 else 0.05) * abs(start):
                return t, there
            if value < 0.0:
                low, best = t, there
            else:
                high = t
            if high - low <= 1e-3 * (wall - low) or wall - low <= 1e-10 * wall:
                break
            if high < wall:
                # What is left to the wall matters, not the way from the start.
                t = wall - math.sqrt((wall - low) * (wall - high)) if high > 0.5 * wall else 0.5 * (low + high)
            else:
                t = min(2.0 * low, wall - 0.1 * (wall - low)) if low > 0.0 else 0.5 * high
        return low, best

    def newton(self, nu, point, tol, limit):
        """Damped Newton from (nu, point); return the best such pair seen and its relative residual."""
        best, best_residual, stalled, way, reached = (nu, point), math.inf, 0, 0, False
        for iteration in range(limit + 1):
            r = self.residual(point)
            largest = float(np.max(np.abs(r)))
            residual = float(np.linalg.norm(r)) / self.scale if largest < 1e150 else math.inf
            if not math.isfinite(residual):
                break
            stalled = 0 if residual < 0.5 * best_residual else stalled + 1
            if stalled and best_residual < 1e-2:
                way = (way + 1) % 3
            if residual < best_residual:
                best, best_residual = (nu, point), residual
            polished, reached = reached, reached or residual <= tol
            # One step beyond the tolerance: Newton is quadratic there, and ill-conditioned data multiply what is left.
            if polished or (reached and tol > 1e-6) or (stalled >= 6 and best_residual < 1e-9) or iteration == limit:
                break
            found = self.best_direction(point, r, way)
            if found is None:
                break
            p, change = found
            step, point = self.search(point, change, float(r @ p))
            nu = nu + (step * self.unit()) * p
            self.n_iterations += 1
        return best, best_residual, iteration

    def lower(self, nu, point, fall):
        """Lower the scale by `fall`; return (nu, point) there, close to the solution if they were, or None: fall less.

        At fixed z the weights would all fall; of those that count, the larger power is to stay what it was.  That asks for
        a change of each gap, which a step of nu gives as far as the weighted least squares of the coordinates allow, and as
        far as no other coordinate meets its wall.
        """
        self.here = self.highest if fall >= self.here - self.highest else self.here - fall
        ell, top = point
        lowered = ell, top - fall
        log_weight = self.log_weight(lowered)
        order = np.argsort(-log_weight, kind="stable")
        half = 0.5 * (log_weight - float(np.max(log_weight)))
        # The wished change of u^-k is that part of it.
        part = np.where(ell >= 0.0, 1.0, -1.0) * -math.expm1(-self.k * fall)
        exponent = half - self.k * lowered[1]
        unit = float(np.max(exponent))
        with np.errstate(under="ignore"):
            rows, wish = (self.X * np.exp(half)).T[order], (part * np.exp(exponent - unit))[order]
        # Accurate row by row, the rows sorted by weight (Cox & Higham 1998).
        (right, R), pivots = qr_apply(rows, wish)
        rank = _felt(R)
        if rank == 0:
            return nu, lowered
        p = np.zeros(R.shape[1])
        p[pivots[:rank]] = scipy.linalg.solve_triangular(R[:rank, :rank], right[:rank], check_finite=False) * math.exp(unit)
        change = p @ self.X
        # What agrees with the wish up to the rounding of z is granted exactly: a far smaller gap could not be hit.
        with np.errstate(under="ignore"):
            gap = 2.0 / (1.0 + np.exp(np.minimum(self.k * np.abs(ell), 700.0)))
        off = np.abs(self.loss_of_gap(lowered, change) + math.expm1(-self.k * fall))
        granted = (off < 1e-2) & (off * gap < 1e-15)
        change = np.where(granted, 0.0, change)
        if self.wall(lowered, change) <= 1.001:
            return None
        ell_new, top_new = self.moved(lowered, change)
        with np.errstate(under="ignore"):
            log_gap = math.log(2.0) - np.logaddexp(0.0, self.k * np.abs(ell)) - self.k * fall
            kept = (math.log(2.0) - log_gap + np.log1p(-0.5 * np.exp(log_gap))) / self.k
        return nu + self.unit() * p, (np.where(granted, np.copysign(kept, ell), ell_new), np.where(granted, top, top_new))

    def follow(self, tol):
        """Return ((nu, point), relative residual) of the solution, followed down from a scale of nearly quadratic problems."""
        if self.X.shape[0] == self.X.shape[1]:
            return self.only_candidate()
        # A short way is found at once; a far centre at a larger scale would be farther still.
        at_once = self.top - self.highest < 1.0 or self.k * float(np.max(np.abs(self.ratio))) > 30.0
        self.here = self.highest if at_once else self.top
        self.step = 1.0
        start = np.zeros(len(self.y)), self.point(self.ratio)
        (nu, point), residual, _ = self.newton(*start, tol if at_once else _ROUGH, _MAX_NEWTON)
        return self.descend((nu, point), residual, tol)

    def go_on(self, solution, log_alpha, ratio, tol):
        """Follow the solution ``(nu, point)`` at the present scale down to another one with the same log(u0/v0)."""
        here = self.highest
        near = np.min(self.log_alpha) <= self.top and self.X.shape[0] < self.X.shape[1]
        self.aim(log_alpha, ratio)
        if not near:  # nearly quadratic, or one candidate: nothing is gained from the solution
            return self.follow(tol)
        self.here = max(here, self.highest)
        return self.descend(solution, math.inf, tol)

    def descend(self, solution, residual, tol):
        """Follow the solution from a point near it down to the end; return it there and its relative residual."""
        nu, point = solution
        rough = residual > tol
        budget = self.n_iterations + _MAX_TOTAL
        while self.here > self.highest and self.n_iterations < budget:
            before, left = self.here, self.here - self.highest
            fall = min(self.step, left, 300.0 / self.k)
            last = fall == left
            trial = self.lower(nu, point, fall)
            if trial is None and fall < _LEAST_FALL:
                trial = nu, (point[0], point[1] - fall)  # at fixed z: Newton's method finds the way
            residual, used = math.inf, 0
            if trial is not None:
                goal, limit = (tol, _MAX_NEWTON) if last else (_ROUGH, 30)
                trial, residual, used = self.newton(trial[0], trial[1], goal, limit)
            if not residual <= (1e-9 if last else _ROUGH):
                self.here, self.step = before, 0.3 * fall
                if self.step < 1e-4:
                    break
                if rough and trial is not None:  # a prediction is no better than the point that it starts from
                    (nu, point), _, _ = self.newton(nu, point, tol, 30)
                    rough = False
                continue
            nu, point = trial
            rough = True
            if not last:  # a step that the end has cut short says nothing of longer ones
                self.step = fall * (4.0 if used <= 3 else 2.0 if used <= 8 else 0.7)
        if self.here > self.highest:
            self.here = self.highest
            return (nu, self.point(point[0])), math.inf
        return (nu, point), residual

    def only_candidate(self):
        """Return the same where ``X b = y`` has one solution: no minimisation, which weights of many decades would spoil."""
        b = np.linalg.solve(self.X, self.y)
        ell = deep.mirror(b, log_alpha=self.log_alpha, depth=self.depth)
        with np.errstate(over="ignore"):
            slope = difference_of_tanh(0.5 * self.k * ell, 0.5 * self.k * self.ratio)
            nu = np.linalg.solve(self.X.T, slope * np.exp(self.k * (self.highest - self.log_alpha)))
        top = np.where(b != 0.0, (np.log(np.abs(np.where(b != 0.0, b, 1.0))) - np.log(
            np.where(b != 0.0, -np.expm1(-self.depth * np.abs(ell)), 1.0))) / self.depth, self.point(ell)[1])
        point = ell, np.where(np.isfinite(top), top, self.point(ell)[1])
        return (nu, point), float(np.linalg.norm(self.residual(point))) / self.scale

    def way_from_center(self, nu, apart):
        """Return ``ell - ell0``, from nu where it is so short that the rounding of ell counts."""
        half = 0.5 * self.k * self.ratio
        with np.errstate(under="ignore", over="ignore", invalid="ignore", divide="ignore"):
            step = (nu @ self.X) * np.exp(self.k * (self.log_alpha - self.highest))  # of z
            share = step / (1.0 / np.cosh(np.minimum(np.abs(half), 300.0)) ** 2 - np.tanh(half) * step)
            short = (np.abs(apart) < 1e-2) & (np.abs(half) < 10.0) & (np.abs(share) < 0.5)
            found = (2.0 / self.k) * np.arctanh(np.where(short, share, 0.0))
        return np.where(short & (np.abs(found - apart) <= 1e-14 * (1.0 + np.abs(self.ratio))), found, apart)

    def certificate(self, nu, point):
        """Return ``log alpha^-k`` at the largest alpha, the divergence, and y.nu less the difference of conjugates.

        The last two are in units of ``alpha^-k`` where that is beyond the floats, and plain numbers elsewhere.
        """
        unit = -self.k * self.highest
        given = {"log_alpha": self.log_alpha, "depth": self.depth}
        ell, b, ratio = point[0], self.predictor(point), self.ratio
        near = np.abs(ell - ratio) < 0.5
        with np.errstate(under="ignore", over="ignore"):
            fade = np.exp(self.k * (self.highest - self.log_alpha))  # 1/alpha^k in these units
            z_step = difference_of_tanh(0.5 * self.k * ell, 0.5 * self.k * ratio)
            conjugate = deep.conjugate(ell, log_unit=unit, **given) - deep.conjugate(ratio, log_unit=unit, **given)
            divergence = b * z_step * fade - conjugate
            # Integrals of b dz and of (z - z0) db from the centre: no cancellation however close the two are.
            apart = self.way_from_center(nu, ell - ratio)
            way = 0.5 * (_NODES[:, None] + 1.0) * apart
            at = ratio + way
            width = 0.5 * _NODE_WEIGHTS[:, None] * apart
            rate = 0.5 * self.k / np.cosh(np.minimum(0.5 * self.k * np.abs(at), 300.0)) ** 2
            b_at, start = deep.predictor(at, **given), deep.predictor(ratio, **given)
            passed = difference_of_tanh(0.5 * self.k * at, 0.5 * self.k * ratio, 0.5 * self.k * way)
            conjugate = np.where(near, np.sum((b_at - start) * rate * width, axis=0) * fade, conjugate)
            divergence = np.where(near, np.sum(passed * deep.slope(at, **given) * width, axis=0) * fade, divergence)
        # What the centre's own b gives to the conjugates is linear in nu: taken from y.
        left = self.y - self.X @ np.where(near, start, 0.0)
        values = float(np.sum(divergence)), float(left @ nu) - float(np.sum(conjugate))
        if abs(unit) > 600.0:
            return unit, *values
        factor = math.exp(unit)
        return unit, factor * values[0], factor * values[1]


def _felt(R):
    """Return how many directions the residual feels, from R of a pivoted QR of the weighted rows.

    Where fewer coordinates than samples fit y, the others are dormant, of size ``alpha^D``, and only they feel the other
    directions of nu: what a residual says of those is its rounding, and a step along them would end at a wall.  As alpha falls
    z stays as it is there.
    """
    diagonal = np.abs(np.diag(R))
    return int(np.count_nonzero(diagonal > _UNFELT * diagonal[0])) if diagonal.size and diagonal[0] > 0.0 else 0


def difference_of_tanh(a, b, apart=None):
    """Return ``tanh a - tanh b = sinh(a - b)/(cosh a cosh b)``, elementwise, to full relative accuracy.

    `apart` is a - b where that is known better than from the two.
    """
    apart = a - b if apart is None else apart
    with np.errstate(under="ignore"):
        # |a - b| - |a| - |b| in closed form: far from 0 the difference of the three would be their rounding.
        overlap = np.where(np.sign(a) * np.sign(b) > 0.0, np.exp(-2.0 * np.minimum(np.abs(a), np.abs(b))), 1.0)
        halves = (1.0 + np.exp(-2.0 * np.abs(a))) * (1.0 + np.exp(-2.0 * np.abs(b)))
        return np.sign(apart) * -2.0 * np.expm1(-2.0 * np.abs(apart)) * overlap / halves
