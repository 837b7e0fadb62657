"""Right-hand sides and Rosenbrock steps of eight runs side by side: the formulas of `state.evaluate` and `rosenbrock`.

Each lane has a run of its own: its start, strength of penalty, step size and tolerance are numbers of that lane.
"""

from collections import namedtuple

import numpy as np
from numba import types

from .._jit import DATA_MATRIX, DATA_VECTOR, MATRIX, njit
from .._lanes import fused, larger, load, magnitude, smaller, splat, square_root, store, where_less
from .lane_kernels import (
    combine,
    combine_scaled,
    factorize,
    matvec,
    rmatvec,
    solve,
    square_of_symmetric,
    symmetric_matvec,
    weights,
    weights_at,
)
from .stepping import LANDING

# Rows of `numbers`: what each lane has one number of.  Strength of the penalty and its ascent step.  For the next step: its size,
# and that times gamma; the scale of log(u/v); the weight of K in the square that is its part of the matrix; 1 where it went wrong;
# the error in the logarithms of the weights; 1 where the step is accepted.
(STRENGTH, ASCENT, H, TAU, RATIO_SCALE, ROOT, FAILED, ERROR, ACCEPTED,
 # Of the settings, see `stepping`; SMALLEST is e^DORMANT.
 DORMANT, KERNEL_RATIO, STATIONARY_TOL, SMALLEST,
 # What `survey` finds: the norm of the residual, and the fields of `stepping.Survey`.
 RESIDUAL, REACH, ACTIVE_REACH, LARGEST_RATE, LARGEST_Q, LARGEST_TOP, LARGEST_RATIO, GROWING, LANDS, LANDING_CAP, SETTLED,
 NUMBERS) = range(25)

#: Of the data: X, filled up with zeros; its pairs of rows, ``X_ij X_kj`` in row ``i (i + 1)/2 + k``; y and zeros, in lanes.
Data = namedtuple("Data", "X pairs y zeros")
DATA = types.NamedTuple((DATA_MATRIX, DATA_MATRIX, MATRIX, MATRIX), Data)

#: What the runs are: their start, and their state.
Runs = namedtuple("Runs", "numbers log_product log_ratio scale z f r error beta size")
RUNS = types.NamedTuple((MATRIX,) * 10, Runs)

#: A step: the state at its end, its stages, the matrix, and room for work.
Step = namedtuple("Step", "z f r beta size local ratio stages gram full matrix pivots panel g w change moved")
STEP = types.NamedTuple((MATRIX,) * 17, Step)

#: The rule: whether it shrinks (then it is a penalty), by a centred difference, and whether the Jacobian has its part in Q.
Kind = namedtuple("Kind", "shrinks centered coupled")
KIND = types.NamedTuple((types.boolean,) * 3, Kind)


@njit(types.void(KIND, DATA, types.float64, RUNS, STEP))
def evaluate(kind, data, c, runs, step):
    """Evaluate f = dz/dt with beta, size, r and log(u/v) at ``step.z``; FAILED becomes 1 where the weights would overflow."""
    X, numbers = data.X, runs.numbers
    z, f, r, beta, size = step.z, step.f, step.r, step.beta, step.size
    n, d = X.shape
    failed = numbers[FAILED:FAILED + 1]
    rmatvec(X, z[:n], -4.0, runs.log_ratio, step.ratio)
    if not kind.shrinks:
        weights_at(runs.scale, step.ratio, beta, size, failed)
        matvec(X, beta, r)
        for i in range(n):
            residual = load(r, i) - load(data.y, i)
            store(r, i, residual)
            store(f, i, c * residual)
        return
    weights(runs.log_product, z[n:], step.ratio, beta, size, failed)
    matvec(X, beta, r)
    for i in range(n):
        store(r, i, load(r, i) - load(data.y, i))
    g, w, change = step.g, step.w, step.change
    rmatvec(X, r, c, data.zeros, g)
    strength, ascent = load(numbers, STRENGTH), load(numbers, ASCENT)
    for j in range(d):
        slope = load(g, j)
        direction = 4.0 * slope * load(size, j)
        if not kind.centered:
            direction = fused(4.0 * ascent * slope * slope, load(beta, j), direction)
        store(w, j, direction)
    matvec(X, w, f[:n])
    if kind.centered:
        for i in range(n):
            store(f, i, c * fused(strength, load(f, i), load(r, i)))
        for j in range(d):
            moved = ascent * load(g, j)
            store(w, j, 4.0 * moved * moved * load(beta, j))
        matvec(X, w, step.panel)
        rmatvec(X, step.panel, c, data.zeros, change)
        ascent = splat(1.0)
    else:
        rmatvec(X, f[:n], c, data.zeros, change)
        for i in range(n):
            store(f, i, c * fused(strength, load(f, i), load(r, i)))
    for j in range(d):
        slope = load(g, j)
        store(f, n + j, 2.0 * strength * slope * fused(ascent, load(change, j), slope))


@njit(types.void(KIND, DATA, types.float64, RUNS, STEP, DATA_MATRIX, DATA_MATRIX, DATA_MATRIX, types.float64, types.boolean))
def attempt(kind, data, c, runs, step, A, C, ends, gamma, filtered):
    """Attempt a step of each lane's size; the rows of `ends` are the weights of the new state and of the error.

    Fills the state at the end of the step, the factors of its matrix, and the rows FAILED and ERROR.
    """
    X, numbers = data.X, runs.numbers
    n, d = X.shape
    total = runs.z.shape[0]
    stages = A.shape[0]
    store(numbers, FAILED, 0.0)
    tau = gamma * load(numbers, H)
    store(numbers, TAU, tau)
    strength = load(numbers, STRENGTH)
    for j in range(d):
        store(step.w, j, 4.0 * c * load(runs.size, j))
    matvec(data.pairs, step.w, step.gram)
    if kind.shrinks:
        store(numbers, ROOT, square_root(tau) * square_root(strength))
        square_of_symmetric(n, step.gram, numbers[ROOT:ROOT + 1], step.full, step.matrix)
    for i in range(n):
        row = i * (i + 1) // 2
        for k in range(i + 1):
            entry = tau * load(step.gram, row + k)
            if kind.shrinks:
                entry = entry + load(step.matrix, row + k)
            if k == i:
                entry = entry + 1.0
            store(step.matrix, row + k, entry)
    failed = numbers[FAILED:FAILED + 1]
    factorize(n, step.matrix, step.pivots, step.panel, failed)
    for i in range(stages):
        k_i = step.stages[i * total:(i + 1) * total]
        if i == 0:
            for k in range(total):
                store(k_i, k, tau * load(runs.f, k))
        else:
            combine(runs.z, i, A, i, step.stages, step.z)
            evaluate(kind, data, c, runs, step)
            combine_scaled(step.f, numbers[TAU:TAU + 1], i, C, i, gamma, step.stages, k_i)
        if kind.coupled:
            for j in range(d):
                store(step.w, j, (-4.0 * c * tau) * load(runs.beta, j) * load(k_i, n + j))
            matvec(X, step.w, step.moved)
            symmetric_matvec(n, step.gram, step.moved, step.panel)
            for k in range(n):
                store(k_i, k, load(k_i, k) + fused(strength, load(step.panel, k), load(step.moved, k)))
        solve(n, step.matrix, step.pivots, k_i)
    combine(runs.z, stages, ends, 0, step.stages, step.z)
    combine(data.zeros, stages, ends, 1, step.stages, step.local)
    evaluate(kind, data, c, runs, step)
    if filtered:
        solve(n, step.matrix, step.pivots, step.local)
    # The error in the logarithms of the weights, as `state.log_weight_error`.
    rmatvec(X, step.local[:n], 2.0, data.zeros, step.w)
    worst = splat(0.0)
    ratio_scale = load(numbers, RATIO_SCALE)
    for j in range(d):
        e = magnitude(load(step.w, j)) / ratio_scale
        if kind.shrinks:
            e = e + 2.0 * magnitude(load(step.local, n + j))
        worst = where_less(e, worst, worst, e)
    store(numbers, ERROR, worst)


@njit(types.void(KIND, types.int64, DATA, RUNS, STEP))
def survey(kind, n_features, data, runs, step):
    """Find what the plan of the next step has to know of the end of this one, as `stepping.plan`, of the first n_features."""
    X, numbers = data.X, runs.numbers
    n = X.shape[0]
    f, p = step.f, step.w
    _residual_norm(step.r, numbers)
    rmatvec(X, f[:n], 1.0, data.zeros, p)
    dormant = load(numbers, DORMANT)
    at_rest = dormant + LANDING
    landing, landing_cap = splat(np.inf), splat(np.inf)
    reach, active_reach, largest_rate = splat(0.0), splat(0.0), splat(0.0)
    largest_q, growing = splat(0.0), splat(0.0)
    largest_top, largest_ratio = splat(-np.inf), load(numbers, KERNEL_RATIO)
    for j in range(n_features):
        product, q = load(runs.log_product, j), splat(0.0)
        if kind.shrinks:
            product = fused(-4.0, load(step.z, n + j), product)
            q = load(f, n + j)
        ratio, push = load(step.ratio, j), load(p, j)
        far = magnitude(product) + magnitude(ratio)
        largest_ratio = larger(largest_ratio, magnitude(ratio))
        largest_q = larger(largest_q, magnitude(q))
        for sign in (1.0, -1.0):
            top = fused(sign, ratio, product)
            rate = -4.0 * fused(sign, push, q)
            reach = larger(reach, magnitude(top))
            largest_top = larger(largest_top, top)
            largest_rate = larger(largest_rate, magnitude(rate))
            active_reach = where_less(dormant, top, larger(active_reach, far), active_reach)
            growth = where_less(dormant, top, 0.0, larger(rate, 0.0))  # of a dormant weight
            growing = larger(growing, 0.25 * growth)
            arrival = where_less(0.0, growth, (at_rest - top) / growth, np.inf)
            landing_cap = where_less(arrival, landing, LANDING / growth, landing_cap)
            landing = smaller(landing, arrival)
    store(numbers, REACH, reach)
    store(numbers, ACTIVE_REACH, active_reach)
    store(numbers, LARGEST_RATE, largest_rate)
    store(numbers, LARGEST_Q, largest_q)
    store(numbers, LARGEST_TOP, largest_top)
    store(numbers, LARGEST_RATIO, largest_ratio)
    store(numbers, GROWING, growing)
    store(numbers, LANDS, landing)
    store(numbers, LANDING_CAP, landing_cap)
    store(numbers, SETTLED, 0.0)
    if kind.shrinks:
        _find_settled(n_features, n, f, p, step, numbers)


@njit()
def _residual_norm(r, numbers):
    greatest, total = splat(0.0), splat(0.0)
    for i in range(r.shape[0]):
        total = total + load(r, i)  # infinite or NaN if one of them is: `larger` would drop a NaN
        greatest = larger(greatest, magnitude(load(r, i)))
    unit = where_less(0.0, greatest, greatest, 1.0)
    squares = splat(0.0)
    for i in range(r.shape[0]):
        x = load(r, i) / unit
        squares = fused(x, x, squares)
    store(numbers, RESIDUAL, where_less(magnitude(total), np.inf, greatest * square_root(squares), np.nan))


@njit()
def _find_settled(n_features, n, f, p, step, numbers):
    biggest, moving = splat(0.0), splat(0.0)
    for j in range(n_features):
        q, push, beta, size = load(f, n + j), load(p, j), load(step.beta, j), load(step.size, j)
        biggest = larger(biggest, size)
        moving = larger(moving, magnitude(0.5 * (size + beta) * (q + push)) + magnitude(0.5 * (size - beta) * (q - push)))
    tol, largest_q = load(numbers, STATIONARY_TOL), load(numbers, LARGEST_Q)
    slowly = where_less(tol * largest_q, load(numbers, GROWING), 0.0, 1.0)
    floor = load(numbers, SMALLEST)
    settled = where_less(tol * largest_q * larger(biggest, floor), moving, 0.0, slowly)
    store(numbers, SETTLED, where_less(0.0, largest_q, settled, 0.0))


@njit(types.void(KIND, types.boolean, DATA, RUNS, STEP))
def accept(kind, begun, data, runs, step):
    """Make the end of the step the state, in the lanes marked ACCEPTED; if they had `begun` before, carry their errors."""
    numbers = runs.numbers
    n = data.X.shape[0]
    accepted = load(numbers, ACCEPTED)
    if begun:
        for k in range(runs.error.shape[0]):
            store(step.local, k, load(step.local, k) + load(runs.error, k))
        solve(n, step.matrix, step.pivots, step.local)
        _replace(accepted, step.local, runs.error)
    _replace(accepted, step.z, runs.z)
    _replace(accepted, step.f, runs.f)
    _replace(accepted, step.r, runs.r)
    _replace(accepted, step.beta, runs.beta)
    _replace(accepted, step.size, runs.size)


@njit()
def _replace(accepted, source, target):
    for k in range(target.shape[0]):
        store(target, k, where_less(0.5, accepted, load(source, k), load(target, k)))
