"""Right-hand sides and Rosenbrock steps of eight runs side by side: the formulas of `state.evaluate` and `rosenbrock`.

Each lane has a run of its own: its start, strength of penalty, step size and tolerance are numbers of that lane.
"""

from collections import namedtuple

import numpy as np
from numba import types

from .._jit import DATA_MATRIX, MATRIX, njit
from .._lanes import load, store
from .._simd import fused, larger, modulus, splat_eight, square_root, where_less
from .lane_kernels import (
    PANELS,
    combine,
    combine_scaled,
    factorize,
    product,
    solve,
    square_of_symmetric,
    symmetric_product,
    weights,
    weights_at,
)
from .survey import LANDING

# Rows of `numbers`: what each lane has one number of.  Strength of the penalty and its ascent step.  For the next step: its
# size, and that times gamma; the scale of log(u/v); how strictly Q is held; the weight of K in the square that is its part of
# the matrix; 1 where it went wrong; the error in the logarithms of the weights; that of the residual; 1 where the step is
# accepted.
(STRENGTH, ASCENT, H, TAU, RATIO_SCALE, STRICT, ROOT, FAILED, ERROR, WRONG, ACCEPTED,
 # Of the settings, see `stepping`; SMALLEST is e^DORMANT.
 DORMANT, KERNEL_RATIO, STATIONARY_TOL, SMALLEST,
 # What `survey` finds: the norm of the residual, and the fields of `planning.Survey`.
 RESIDUAL, REACH, ACTIVE_REACH, LARGEST_RATE, LARGEST_Q, LARGEST_TOP, LARGEST_RATIO, GROWING, LANDS, LANDING_CAP, SETTLED,
 NUMBERS) = range(27)

#: Of the data: X, its transpose, and its pairs of rows, ``X_ij X_kj`` in row ``i (i + 1)/2 + k``, of which the Gram matrix is
#: made; y, and zeros.
Data = namedtuple("Data", "X transposed pairs y zeros")
DATA = types.NamedTuple((PANELS, PANELS, PANELS, MATRIX, MATRIX), Data)

#: What the runs are: their start, and their state.
Runs = namedtuple("Runs", "numbers log_product log_ratio scale z f r error beta size")
RUNS = types.NamedTuple((MATRIX,) * 10, Runs)

#: A step: the state at its end, `pull` being X^T nu there; the error; the stages; the matrix; room for work.
Step = namedtuple("Step", "z f r beta size pull local stages gram full matrix pivots panel g w change")
STEP = types.NamedTuple((MATRIX,) * 16, Step)

#: The rule: whether it shrinks (then it is a penalty), by a centred difference, and whether the Jacobian has its part in Q.
Kind = namedtuple("Kind", "shrinks centered coupled")
KIND = types.NamedTuple((types.boolean,) * 3, Kind)


@njit(types.void(KIND, DATA, types.float64, RUNS, STEP))
def evaluate(kind, data, c, runs, step):
    """Evaluate f = dz/dt with beta, size and r at ``step.z``; FAILED becomes 1 where the weights would overflow."""
    numbers, n, d = runs.numbers, runs.r.shape[0], runs.beta.shape[0]
    f, r = step.f, step.r
    failed = numbers[FAILED:FAILED + 1]
    product(data.transposed, step.z, step.pull)
    if kind.shrinks:
        weights(runs.log_product, runs.log_ratio, step.z[n:], step.pull, step.beta, step.size, failed)
    else:
        weights_at(runs.scale, runs.log_ratio, step.pull, step.beta, step.size, failed)
    product(data.X, step.beta, r)
    for i in range(n):
        residual = load(r, i) - load(data.y, i)
        store(r, i, residual)
        store(f, i, c * residual)
    if kind.shrinks:
        _add_penalty(kind, data, c, load(numbers, STRENGTH), load(numbers, ASCENT), n, d, step)


@njit()
def _add_penalty(kind, data, c, strength, ascent, n, d, step):
    """Make the pair of a penalty of the plain one, as `gradient_regularization.perturbed_pair`.

    Leaves g, and ``c X^T X w`` in ``step.change`` unless the difference is centred.
    """
    f, g, w, change = step.f, step.g, step.w, step.change
    product(data.transposed, step.r, g)
    curved = 0.0 * ascent if kind.centered else 4.0 * ascent
    for j in range(d):
        slope = c * load(g, j)
        store(g, j, slope)
        store(w, j, slope * fused(curved * slope, load(step.beta, j), 4.0 * load(step.size, j)))
    product(data.X, w, step.panel)
    for i in range(n):
        store(f, i, c * fused(strength, load(step.panel, i), load(step.r, i)))
    ahead = c * ascent
    if kind.centered:
        ahead = splat_eight(c)
        for j in range(d):
            moved = ascent * load(g, j)
            store(w, j, 4.0 * moved * moved * load(step.beta, j))
        product(data.X, w, step.panel)
    product(data.transposed, step.panel, change)
    twice = 2.0 * strength
    for j in range(d):
        slope = load(g, j)
        store(f, n + j, twice * slope * fused(ahead, load(change, j), slope))


@njit(types.void(KIND, DATA, types.float64, RUNS, STEP, DATA_MATRIX, DATA_MATRIX, DATA_MATRIX, types.float64, types.boolean))
def attempt(kind, data, c, runs, step, A, C, ends, gamma, filtered):
    """Attempt a step of each lane's size; the rows of `ends` are the weights of the new state and of the error.

    Fills the state at the end of the step, the factors of its matrix, and the rows FAILED and ERROR.
    """
    numbers, n, d = runs.numbers, runs.r.shape[0], runs.beta.shape[0]
    total, stages = runs.z.shape[0], A.shape[0]
    store(numbers, FAILED, 0.0)
    store(numbers, TAU, gamma * load(numbers, H))
    _factorize(kind, data, c, runs, step)
    for i in range(stages):
        k_i = step.stages[i * total:(i + 1) * total]
        if i == 0:
            tau = load(numbers, TAU)
            for k in range(total):
                store(k_i, k, tau * load(runs.f, k))
        else:
            combine(runs.z, i, A, i, step.stages, step.z)
            evaluate(kind, data, c, runs, step)
            combine_scaled(step.f, numbers[TAU:TAU + 1], i, C, i, gamma, step.stages, k_i)
        if kind.coupled:
            _follow(data, c, runs, step, k_i)
        solve(n, step.matrix, step.pivots, k_i)
    combine(runs.z, stages, ends, 0, step.stages, step.z)
    combine(data.zeros, stages, ends, 1, step.stages, step.local)
    evaluate(kind, data, c, runs, step)
    if filtered:
        solve(n, step.matrix, step.pivots, step.local)
    # The error in the logarithms of the weights, as `state.log_weight_error`.
    product(data.transposed, step.local, step.w)
    worst, unit, strict = splat_eight(0.0), 2.0 / load(numbers, RATIO_SCALE), 2.0 * load(numbers, STRICT)
    for j in range(d):
        e = unit * modulus(load(step.w, j))
        if kind.shrinks:
            e = fused(strict, modulus(load(step.local, n + j)), e)
        worst = where_less(e, worst, worst, e)  # a NaN is worse
    store(numbers, ERROR, worst)
    symmetric_product(n, step.gram, step.local, step.panel)
    store(numbers, WRONG, _norm(n, step.panel) / c)


@njit()
def _factorize(kind, data, c, runs, step):
    """Factor ``I + tau (K + kappa K^2)``; K stays in ``step.gram``."""
    numbers, n, d = runs.numbers, runs.r.shape[0], runs.beta.shape[0]
    for j in range(d):
        store(step.w, j, 4.0 * c * load(runs.size, j))
    product(data.pairs, step.w, step.gram)
    tau = load(numbers, TAU)
    if kind.shrinks:
        store(numbers, ROOT, square_root(tau) * square_root(load(numbers, STRENGTH)))
        square_of_symmetric(n, step.gram, numbers[ROOT:ROOT + 1], step.full, step.matrix)
        for k in range(n * (n + 1) // 2):
            store(step.matrix, k, fused(tau, load(step.gram, k), load(step.matrix, k)))
    else:
        for k in range(n * (n + 1) // 2):
            store(step.matrix, k, tau * load(step.gram, k))
    for i in range(n):
        diagonal = i * (i + 1) // 2 + i
        store(step.matrix, diagonal, load(step.matrix, diagonal) + 1.0)
    factorize(n, step.matrix, step.pivots, step.panel, numbers[FAILED:FAILED + 1])


@njit()
def _follow(data, c, runs, step, k_i):
    """Add the part of the Jacobian in Q: nu follows as Q drifts."""
    numbers, n, d = runs.numbers, runs.r.shape[0], runs.beta.shape[0]
    drift, kappa = -4.0 * c * load(numbers, TAU), load(numbers, STRENGTH)
    for j in range(d):
        store(step.w, j, drift * load(runs.beta, j) * load(k_i, n + j))
    moved, curved = step.panel[:n], step.panel[n:2 * n]
    product(data.X, step.w, moved)
    symmetric_product(n, step.gram, moved, curved)
    for k in range(n):
        store(k_i, k, load(k_i, k) + fused(kappa, load(curved, k), load(moved, k)))


@njit(types.void(KIND, types.int64, DATA, types.float64, RUNS, STEP))
def survey(kind, n_features, data, c, runs, step):
    """Find what the plan of the next step has to know of the end of this one, as `planning.plan`, of the first n_features."""
    numbers, n, d = runs.numbers, runs.r.shape[0], runs.beta.shape[0]
    f, p = step.f, step.w
    store(numbers, RESIDUAL, _norm(n, step.r))
    if kind.shrinks and not kind.centered:
        ahead = c * load(numbers, STRENGTH)
        for j in range(d):
            store(p, j, fused(ahead, load(step.change, j), load(step.g, j)))
    else:
        product(data.transposed, f, p)
    dormant = load(numbers, DORMANT)
    # Of the dormant weight that is first to arrive: how far it has to go, and how fast it grows.
    way, speed = splat_eight(1.0), splat_eight(0.0)
    reach, active_reach, largest_rate = splat_eight(0.0), splat_eight(0.0), splat_eight(0.0)
    largest_q, growing = splat_eight(0.0), splat_eight(0.0)
    largest_top, largest_ratio = splat_eight(-np.inf), load(numbers, KERNEL_RATIO)
    for j in range(n_features):
        log_product, q = load(runs.log_product, j), splat_eight(0.0)
        if kind.shrinks:
            log_product = fused(-4.0, load(step.z, n + j), log_product)
            q = load(f, n + j)
        log_ratio, push = fused(-4.0, load(step.pull, j), load(runs.log_ratio, j)), load(p, j)
        apart = modulus(log_ratio)
        far, top = modulus(log_product) + apart, log_product + apart
        reach = larger(far, reach)
        active_reach = where_less(dormant, top, larger(far, active_reach), active_reach)
        largest_ratio = larger(apart, largest_ratio)
        largest_top = larger(top, largest_top)
        largest_q = larger(modulus(q), largest_q)
        largest_rate = larger(4.0 * (modulus(q) + modulus(push)), largest_rate)
        ahead, rate = dormant - (log_product + log_ratio), -4.0 * (q + push)
        growing, way, speed = _land(ahead, rate, growing, way, speed)
        ahead, rate = dormant - (log_product - log_ratio), -4.0 * (q - push)
        growing, way, speed = _land(ahead, rate, growing, way, speed)
    store(numbers, REACH, reach)
    store(numbers, ACTIVE_REACH, active_reach)
    store(numbers, LARGEST_RATE, largest_rate)
    store(numbers, LARGEST_Q, largest_q)
    store(numbers, LARGEST_TOP, largest_top)
    store(numbers, LARGEST_RATIO, largest_ratio)
    store(numbers, GROWING, 0.25 * growing)
    store(numbers, LANDS, way / speed)
    store(numbers, LANDING_CAP, LANDING / speed)
    store(numbers, SETTLED, 0.0)
    if kind.shrinks:
        _find_settled(n_features, n, f, p, step, numbers)


@njit()
def _land(ahead, rate, growing, way, speed):
    """Take account of a weight `ahead` of its threshold, dormant unless that is negative, that grows at this rate."""
    rate = where_less(ahead, 0.0, 0.0, larger(0.0, rate))
    ahead = larger(0.0, ahead) + LANDING
    sooner, slower = ahead * speed, way * rate  # ahead / rate < way / speed
    return larger(rate, growing), where_less(sooner, slower, ahead, way), where_less(sooner, slower, rate, speed)


@njit()
def _norm(n, r):
    """Return the norm of the first n entries of r, NaN where one of them is no finite number."""
    greatest, total = splat_eight(0.0), splat_eight(0.0)
    for i in range(n):
        total = total + load(r, i)  # infinite or NaN if one of them is: `larger` would drop a NaN
        greatest = larger(modulus(load(r, i)), greatest)
    unit = where_less(0.0, greatest, greatest, 1.0)
    squares = splat_eight(0.0)
    for i in range(n):
        x = load(r, i) / unit
        squares = fused(x, x, squares)
    return where_less(modulus(total), np.inf, greatest * square_root(squares), np.nan)


@njit()
def _find_settled(n_features, n, f, p, step, numbers):
    biggest, moving = splat_eight(0.0), splat_eight(0.0)
    for j in range(n_features):
        q, push, beta, size = load(f, n + j), load(p, j), load(step.beta, j), load(step.size, j)
        biggest = larger(size, biggest)
        moving = larger(modulus(0.5 * (size + beta) * (q + push)) + modulus(0.5 * (size - beta) * (q - push)), moving)
    tol, largest_q = load(numbers, STATIONARY_TOL), load(numbers, LARGEST_Q)
    slowly = where_less(tol * largest_q, load(numbers, GROWING), 0.0, 1.0)
    floor = load(numbers, SMALLEST)
    settled = where_less(tol * largest_q * larger(floor, biggest), moving, 0.0, slowly)
    store(numbers, SETTLED, where_less(0.0, largest_q, settled, 0.0))


@njit(types.void(types.boolean, RUNS, STEP))
def accept(begun, runs, step):
    """Make the end of the step the state, in the lanes marked ACCEPTED; if they had `begun` before, carry their errors."""
    numbers = runs.numbers
    n = runs.r.shape[0]
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
