"""What planning a step has to know of all weights, in one pass over them."""

import math

import numpy as np
from numba import types

from .._jit import MATRIX, VECTOR, njit
from .._simd import (
    WIDTH,
    larger,
    largest_lane,
    load,
    load_at,
    load_last,
    load_last_at,
    modulus,
    smaller,
    smallest_lane,
    splat,
    where_less,
)
from .state import PRODUCT, RATIO

LANDING = 3.0  # a dormant weight may end a step at most e^3 above the threshold at which it counts
AWAKE = math.log(1e4)  # a weight this far above the threshold is awake


@njit()
def _coordinates(rows, p, q, j):
    """Return log(uv), log(u/v), p and q (0 for rules without) of `WIDTH` coordinates from j on.

    Where there are not as many the last one comes more than once, which changes no extreme.
    """
    left = p.shape[0] - j
    if left >= WIDTH:
        return (load_at(rows, PRODUCT, j), load_at(rows, RATIO, j), load(p, j),
                load(q, j) if q.shape[0] > 0 else splat(0.0))
    return (load_last_at(rows, PRODUCT, j, left), load_last_at(rows, RATIO, j, left), load_last(p, j, left),
            load_last(q, j, left) if q.shape[0] > 0 else splat(0.0))


@njit(types.UniTuple(types.float64, 8)(MATRIX, VECTOR, VECTOR, types.float64), allocates=False)
def survey(rows, p, q, dormant):
    """Return extremes over all weights: eight numbers.

    The largest modulus of log u^2 and log v^2, that of ``|log(uv)| + |log(u/v)|`` where one of them counts, and the largest
    of log u^2 and log v^2; the largest modulus of a rate of theirs, a quarter of the largest rate of those that are dormant,
    and the largest of those that are awake; the largest |q|, and |log(u/v)|.  Rates count from 0 on.
    """
    reach = active_reach = fastest = growing = growth = largest_q = largest_ratio = splat(0.0)
    top, awake = splat(-np.inf), dormant + AWAKE
    for j in range(0, p.shape[0], WIDTH):
        product, ratio, slope, shrinkage = _coordinates(rows, p, q, j)
        size = modulus(ratio)
        higher = product + size
        largest_ratio = larger(size, largest_ratio)
        largest_q = larger(modulus(shrinkage), largest_q)
        reach = larger(modulus(product) + size, reach)
        active_reach = larger(where_less(dormant, higher, modulus(product) + size, 0.0), active_reach)
        top = larger(higher, top)
        fastest = larger(modulus(shrinkage) + modulus(slope), fastest)
        up, down = product + ratio, product - ratio
        rate_up, rate_down = 0.0 - (shrinkage + slope), slope - shrinkage
        growing = larger(where_less(dormant, up, 0.0, rate_up), growing)
        growing = larger(where_less(dormant, down, 0.0, rate_down), growing)
        growth = larger(where_less(awake, up, rate_up, 0.0), growth)
        growth = larger(where_less(awake, down, rate_down, 0.0), growth)
    return (largest_lane(reach), largest_lane(active_reach), largest_lane(top), 4.0 * largest_lane(fastest),
            largest_lane(growing), 4.0 * largest_lane(growth), largest_lane(largest_q), largest_lane(largest_ratio))


@njit(types.UniTuple(types.float64, 2)(MATRIX, VECTOR, VECTOR, types.float64), allocates=False)
def next_landing(rows, p, q, dormant):
    """Return how long it takes until a dormant weight is `LANDING` above the threshold, and `LANDING` over its rate."""
    landing, its_rate = splat(np.inf), splat(0.0)
    for j in range(0, p.shape[0], WIDTH):
        product, ratio, slope, shrinkage = _coordinates(rows, p, q, j)
        for sign in (1.0, -1.0):
            top, rate = product + sign * ratio, -4.0 * (shrinkage + sign * slope)
            arrival = where_less(0.0, rate, (dormant + LANDING - top) / rate, np.inf)
            arrival = where_less(dormant, top, np.inf, arrival)
            its_rate = where_less(arrival, landing, rate, its_rate)
            landing = smaller(arrival, landing)
    first = smallest_lane(landing)
    if not first < np.inf:
        return first, np.inf
    # Of those that arrive first, should there be several, the fastest.
    return first, LANDING / largest_lane(where_less(first, landing, 0.0, its_rate))
