"""Which method, with which arguments of the kernel, and what it is given: decided alike for single runs and for tiles."""

import functools
import math

import numpy as np

from .._jit import address, compile_together, entry_point
from .._large import begin_kept, factorize_kept, keeps_gram, multiply_kept, solve_kept
from .awake_steps import awake_attempt
from .closing import closing_attempt
from .planning import PREDICTIVE
from .single_steps import SINGLE_FROM, single_attempt
from .tableaus import DOP853, RODAS3, RODAS4, RODAS5P, W6


def _rosenbrock_arguments(t, memory):
    return (t.A, t.C, t.m, t.e, np.empty(0), t.gamma, t.order, not t.stiff_error, memory), np.append(t.c, 1.0), len(t.m)


# Less memory: longer steps.  That pays where the estimate of the error is good, as with the exact Jacobian.
_MEMORY, _LITTLE_MEMORY, _LEAST_MEMORY = 0.3, 0.2, 0.05

# The kernel's arguments, the nodes of the stages and of the end of the step, and the number of stages.
EXPLICIT = ((DOP853.A, np.empty((0, 0)), DOP853.b, DOP853.error_high, DOP853.error_low, 0.0, DOP853.order, False,
             _MEMORY),
            np.append(DOP853.c, 1.0), len(DOP853.b))
_EXACT = _rosenbrock_arguments(RODAS5P, _LITTLE_MEMORY)
_EXACT_LOOSE = _rosenbrock_arguments(RODAS4, _LEAST_MEMORY)
_EXACT_LARGE = _rosenbrock_arguments(RODAS3, _LEAST_MEMORY)
_INEXACT = _rosenbrock_arguments(W6, _MEMORY)
_INEXACT_LOOSE = _rosenbrock_arguments(W6, PREDICTIVE)

# From here on order 5 saves hardly any steps, and its two more stages cost.
_LOOSE = 0.02
# From here on steps with a prediction of their error are the more accurate ones for what they cost.
_LOOSE_INEXACT = 2.5e-3
_ROOM = 1 << 17  # numbers: 1 MB
_LARGEST_SINGLE = 1 << 20  # numbers of X, of which steps in single precision keep a copy


def inexactness(rule, rtol):
    """Return how inexact a kept Gram matrix may be: a W-method keeps its order, the other one must not notice."""
    return 1.5 * rtol if rule.exact_curvature else 0.5 * math.sqrt(rtol)


def rosenbrock_method(rule, rtol, keeps):
    """Return the Rosenbrock method for a rule at a tolerance: the kernel's arguments, the nodes, and the number of stages.

    A large problem, whose Gram matrix is kept, pays for evaluations more than for steps: it takes half as many for a step.
    """
    if not rule.exact_curvature:
        return _INEXACT_LOOSE if rtol >= _LOOSE_INEXACT else _INEXACT
    if rtol < _LOOSE:
        return _EXACT
    return _EXACT_LARGE if keeps else _EXACT_LOOSE


@functools.lru_cache
def attempts_per_call(shape, stages, stiff_method):
    """Return how many steps a call to the kernel may attempt, for X of this shape.

    It lasts a fraction of a second, so that Ctrl-C is heard.
    """
    anew = 0.125 if keeps_gram(shape) else 1.0  # the part of a Gram matrix that a step sums up
    products = anew * shape[0] if stiff_method else 0.0
    return min(2000, max(1, int(6e9 // ((4.0 * stages + products) * math.prod(shape) + 1000.0))))


def begins_stiff(rtol, n_rows):
    """Whether to begin with the stiff method, and to stay with it: at loose tolerances order 8 is wasted.

    Unless a factorisation of order N^3 is what costs.
    """
    return rtol >= 1e-5 and n_rows <= 2000


def room_for_awake(rule, shape):
    """Return how many numbers of X the coordinates that are awake may have: of more, leaving the others out saves little."""
    if rule.shrinks and (rule.dormant_pair is None or rule.time_dependent):
        return 0  # then they are wanted, too
    return _room_for_awake(rule.shrinks, shape)


@functools.lru_cache
def _room_for_awake(shrinks, shape):
    if keeps_gram(shape):
        return 0
    n, d = shape
    most = min(d, max(_ROOM // max(n, 1), d // 16))
    return n * ((most // 2 if shrinks else most) + 1)  # Q of those that sleep costs, too


def relaxes(rule, coupled):
    """Whether the flow of a rule ends in an exponential relaxation of nu, q quadratic in the residual: see `closing.py`."""
    return not rule.time_dependent and (rule.exact_curvature or (rule.dormant_pair is not None and not coupled))


def noise_of_single(rule, rows, c, rtol, coupled):
    """Return what rounding errors do to log weights in a step in single precision (`RowSpace.rounding`), times c.

    0 if there should be no such steps: for other rules, strict tolerances, large data, and those of an extraordinary scale.
    """
    if rule.one_sided is None or coupled or rtol < SINGLE_FROM or rule.time_dependent:
        return 0.0
    if keeps_gram(rows.X.shape) or rows.X.size > _LARGEST_SINGLE:
        return 0.0
    return c * rows.rounding


@functools.cache
def run_kernels(run, rule, curvature, keeps, closes, dozes, singly, others=()):
    """Return what runs need: the entry point of the kernel `run`, and addresses, all compiled together.

    The addresses are those of a rule's kernels, then, in a tuple, of kernels that few runs need and that are compiled for
    those alone, 0 for the rest (`_large.RARE`), then of `others`.  The few handle a Gram matrix that a run `keeps`, make the
    last step to a stop, if it `closes`, steps of a rule that shrinks in the coordinates that are awake, if it `dozes`, and
    those in single precision, if it has some.
    """
    kept = factorize_kept, solve_kept, multiply_kept, begin_kept
    wanted = (*(keeps,) * len(kept), closes, dozes, singly)
    rare = [kernel if wants else None for kernel, wants in zip(
        (*kept, closing_attempt, awake_attempt, single_attempt), wanted, strict=True)]
    compile_together(run, rule, curvature, *filter(None, rare), *others)
    places = tuple(0 if kernel is None else address(kernel) for kernel in rare)
    return entry_point(run), address(rule), address(curvature), places, *map(address, others)
