"""Four numbers side by side: a type for kernels, ``+ - * /`` on it, and loads from and stores to arrays.

LLVM turns loops into vector code by itself, at a price that short loops feel: checks that arrays do not overlap, and up to
fifteen last entries done one by one.  A kernel that is written in fours pays neither, and keeps sums in registers over
several rows.

    a = load(x, i)           # x[i : i + 4]; load_at(X, i, j) is X[i, j : j + 4]
    store(a * a, out, i)

Where an array ends within a four, `load_some` and `store_some` (and `_at`) are told how many entries are left, one or more; the
other lanes are 0.  Products and sums may be fused, as with ``contract``.  The functions below are what runs with the compiler
switched off, on arrays of four; what they are in machine code comes after them.
"""

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.typing import signature
from numba.core.typing.templates import ConcreteTemplate, infer_global
from numba.extending import lower_builtin, models, register_model

from ._jit import DATA_MATRIX, DATA_VECTOR, MATRIX, VECTOR

WIDTH = 4


def splat(x):
    """Return x in each lane."""
    return np.full(WIDTH, float(x))


def four(a, b, c, d):
    """Return four numbers side by side."""
    return np.array([a, b, c, d], dtype=float)


def load(x, i):
    """Return ``x[i : i + 4]``."""
    return x[i:i + WIDTH].copy()


def load_at(X, i, j):
    """Return ``X[i, j : j + 4]``."""
    return X[i, j:j + WIDTH].copy()


def load_some(x, i, left):
    """Return ``x[i : i + left]``, at least one number and at most four, then zeros."""
    four = np.zeros(WIDTH)
    four[:left] = x[i:i + min(left, WIDTH)]
    return four


def load_some_at(X, i, j, left):
    """Return ``X[i, j : j + left]``, at least one number and at most four, then zeros."""
    return load_some(X[i], j, left)


def load_last(x, i, left):
    """Return ``x[i : i + left]``, one to four numbers, and then the last of them again."""
    four = np.full(WIDTH, x[i + min(left, WIDTH) - 1], dtype=float)
    four[:left] = x[i:i + min(left, WIDTH)]
    return four


def load_last_at(X, i, j, left):
    """Return ``X[i, j : j + left]``, one to four numbers, and then the last of them again."""
    return load_last(X[i], j, left)


def store(four, x, i):
    """Write ``x[i : i + 4]``."""
    x[i:i + WIDTH] = four


def store_at(four, X, i, j):
    """Write ``X[i, j : j + 4]``."""
    X[i, j:j + WIDTH] = four


def store_some(four, x, i, left):
    """Write ``x[i : i + left]``, at least one number and at most four."""
    x[i:i + min(left, WIDTH)] = four[:left]


def store_some_at(four, X, i, j, left):
    """Write ``X[i, j : j + left]``, at least one number and at most four."""
    store_some(four, X[i], j, left)


def modulus(a):
    """Return |a|."""
    return np.abs(a)


def larger(a, b):
    """Return a where it is larger than b, else b (NaN included)."""
    return np.where(a > b, a, b)


def smaller(a, b):
    """Return a where it is smaller than b, else b (NaN included)."""
    return np.where(a < b, a, b)


def where_less(a, b, x, y):
    """Return x where a < b, else y (NaN included)."""
    return np.where(a < b, x, y)


def lane(a, k):
    """Return the number in lane k, a constant."""
    return a[k]


def total(a):
    """Return the sum of the lanes."""
    return (a[0] + a[1]) + (a[2] + a[3])


def totals(a, b, c, d):
    """Return the sums of the lanes of each, as four numbers side by side."""
    return np.array([a.sum(), b.sum(), c.sum(), d.sum()])


def largest_lane(a):
    """Return the largest of the lanes."""
    return a.max()


def transposed(a, b, c, d):
    """Return the four columns of the matrix whose rows are a, b, c and d."""
    return tuple(np.array([a, b, c, d]).T.copy())


def power_of_two(a):
    """Return ``2^k`` from ``k + 1.5 * 2^52``: the integer is moved from the low bits into the exponent."""
    return ((a.view(np.int64) + 1023) << 52).view(np.float64)


def power_of_half(a):
    """Return ``2^-k`` from ``k + 1.5 * 2^52``."""
    return ((1023 - a.view(np.int64)) << 52).view(np.float64)


# ---------------------------------------------------------------------------------------------------------------------
# In machine code


class _Four(types.Type):
    """The type of four numbers side by side."""

    def __init__(self):
        super().__init__("four float64")


FOUR = _Four()
_LANES = ir.VectorType(ir.DoubleType(), WIDTH)
_BITS = ir.VectorType(ir.IntType(64), WIDTH)
_CHOICE = ir.VectorType(ir.IntType(32), WIDTH)
_CONTRACT = ("contract",)


@register_model(_Four)
class _FourModel(models.PrimitiveModel):
    """A vector of LLVM: one register of the machine, or two."""

    def __init__(self, manager, kind):
        super().__init__(manager, kind, _LANES)


def _lower(function, result, choices, generate):
    """Teach numba what `function` is in machine code, for each of the tuples of types in `choices`."""
    template: Any = type("_Template", (ConcreteTemplate,), {
        "key": function, "cases": [signature(result, *kinds) for kinds in choices]})
    infer_global(function)(template) if function in _OPERATORS else infer_global(function, types.Function(template))
    for kinds in choices:
        @lower_builtin(function, *kinds)
        def lower(context, builder, given, values):
            return generate(context, builder, given.args, values)


def _lower_on_values(function, generate, *kinds, result=FOUR):
    _lower(function, result, [kinds], lambda context, builder, _, values: generate(builder, *values))


def _constant(kind, *numbers):
    return ir.Constant(kind, list(numbers) if len(numbers) > 1 else [numbers[0]] * WIDTH)


def _splat(builder, x):
    none = ir.Constant(_LANES, ir.Undefined)
    return builder.shuffle_vector(builder.insert_element(none, x, ir.IntType(32)(0)), none, _constant(_CHOICE, 0))


def _shuffle(builder, a, b, *lanes):
    return builder.shuffle_vector(a, b, _constant(_CHOICE, *lanes))


def _totals(builder, a, b, c, d):
    def pairs(x, y):  # x0 + x1, y0 + y1, x2 + x3, y2 + y3: one instruction where there is a horizontal sum
        return builder.fadd(_shuffle(builder, x, y, 0, 4, 2, 6), _shuffle(builder, x, y, 1, 5, 3, 7))

    first, second = pairs(a, b), pairs(c, d)
    return builder.fadd(_shuffle(builder, first, second, 0, 1, 4, 5), _shuffle(builder, first, second, 2, 3, 6, 7))


def _total(builder, a):
    lanes = [builder.extract_element(a, ir.IntType(32)(k)) for k in range(WIDTH)]
    return builder.fadd(builder.fadd(lanes[0], lanes[1]), builder.fadd(lanes[2], lanes[3]))


def _largest_lane(builder, a):
    lanes = [builder.extract_element(a, ir.IntType(32)(k)) for k in range(WIDTH)]
    larger_of = _compare(">")
    return larger_of(builder, larger_of(builder, lanes[0], lanes[1]), larger_of(builder, lanes[2], lanes[3]))


def _four(builder, *numbers):
    found = ir.Constant(_LANES, ir.Undefined)
    for k, x in enumerate(numbers):
        found = builder.insert_element(found, x, ir.IntType(32)(k))
    return found


def _transposed(context, builder, kinds, rows):
    a, b, c, d = rows
    ab_even, ab_odd = _shuffle(builder, a, b, 0, 4, 2, 6), _shuffle(builder, a, b, 1, 5, 3, 7)
    cd_even, cd_odd = _shuffle(builder, c, d, 0, 4, 2, 6), _shuffle(builder, c, d, 1, 5, 3, 7)
    columns = [_shuffle(builder, ab_even, cd_even, 0, 1, 4, 5), _shuffle(builder, ab_odd, cd_odd, 0, 1, 4, 5),
               _shuffle(builder, ab_even, cd_even, 2, 3, 6, 7), _shuffle(builder, ab_odd, cd_odd, 2, 3, 6, 7)]
    return context.make_tuple(builder, types.UniTuple(FOUR, 4), columns)


def _modulus(builder, a):
    signs = _constant(_BITS, (1 << 63) - 1)
    return builder.bitcast(builder.and_(builder.bitcast(a, _BITS), signs), _LANES)


def _compare(relation):
    return lambda builder, a, b: builder.select(builder.fcmp_ordered(relation, a, b), a, b)


def _where_less(builder, a, b, x, y):
    return builder.select(builder.fcmp_ordered("<", a, b), x, y)


def _power(builder, a, sign):
    bits, bias = builder.bitcast(a, _BITS), _constant(_BITS, 1023)
    exponent = builder.add(bits, bias) if sign > 0 else builder.sub(bias, bits)
    return builder.bitcast(builder.shl(exponent, _constant(_BITS, 52)), _LANES)


_OPERATORS = {
    operator.add: lambda builder, a, b: builder.fadd(a, b, flags=_CONTRACT),
    operator.sub: lambda builder, a, b: builder.fsub(a, b, flags=_CONTRACT),
    operator.mul: lambda builder, a, b: builder.fmul(a, b, flags=_CONTRACT),
    operator.truediv: lambda builder, a, b: builder.fdiv(a, b),
}
for _function, _code in _OPERATORS.items():
    _lower_on_values(_function, _code, FOUR, FOUR)
_lower_on_values(splat, _splat, types.float64)
_lower_on_values(modulus, _modulus, FOUR)
_lower_on_values(larger, _compare(">"), FOUR, FOUR)
_lower_on_values(smaller, _compare("<"), FOUR, FOUR)
_lower_on_values(where_less, _where_less, FOUR, FOUR, FOUR, FOUR)
_lower_on_values(four, _four, *(types.float64,) * 4)
_lower_on_values(largest_lane, _largest_lane, FOUR, result=types.float64)
_lower(transposed, types.UniTuple(FOUR, 4), [(FOUR,) * 4], _transposed)
_lower_on_values(total, _total, FOUR, result=types.float64)
_lower_on_values(totals, _totals, FOUR, FOUR, FOUR, FOUR)
_lower_on_values(lane, lambda builder, a, k: builder.extract_element(a, k), FOUR, types.intp, result=types.float64)
_lower_on_values(power_of_two, lambda builder, a: _power(builder, a, 1), FOUR)
_lower_on_values(power_of_half, lambda builder, a: _power(builder, a, -1), FOUR)


def _place(context, builder, kind, array, indices):
    """Return a pointer to the entry of an array at one or two indices."""
    view = context.make_array(kind)(context, builder, array)
    offset = indices[0]
    if len(indices) == 2:
        columns = builder.extract_value(view.shape, 1)
        offset = builder.add(builder.mul(offset, columns), indices[1])
    return builder.gep(view.data, [offset])


def _load(context, builder, kinds, values):
    place = _place(context, builder, kinds[0], values[0], values[1:])
    return builder.load(builder.bitcast(place, _LANES.as_pointer()), align=8)


def _store(context, builder, kinds, values):
    place = _place(context, builder, kinds[1], values[1], values[2:])
    builder.store(values[0], builder.bitcast(place, _LANES.as_pointer()), align=8)
    return context.get_dummy_value()


def _last(builder, left, k):
    """Return min(k, left - 1): an entry that is there, without a branch."""
    inside = builder.icmp_signed("<", left.type(k), left)
    return inside, builder.select(inside, left.type(k), builder.sub(left, left.type(1)))


def _load_some(context, builder, kinds, values):
    place, left = _place(context, builder, kinds[0], values[0], values[1:-1]), values[-1]
    four = _constant(_LANES, 0.0)
    for k in range(WIDTH):
        inside, at = _last(builder, left, k)
        number = builder.select(inside, builder.load(builder.gep(place, [at])), ir.DoubleType()(0.0))
        four = builder.insert_element(four, number, ir.IntType(32)(k))
    return four


def _load_last(context, builder, kinds, values):
    place, left = _place(context, builder, kinds[0], values[0], values[1:-1]), values[-1]
    return _four(builder, *(builder.load(builder.gep(place, [_last(builder, left, k)[1]])) for k in range(WIDTH)))


def _store_some(context, builder, kinds, values):
    place, left = _place(context, builder, kinds[1], values[1], values[2:-1]), values[-1]
    for k in reversed(range(WIDTH)):  # a lane too many is written over by the last that counts
        at = _last(builder, left, k)[1]
        builder.store(builder.extract_element(values[0], ir.IntType(32)(k)), builder.gep(place, [at]))
    return context.get_dummy_value()


_one, _two = (types.intp,), (types.intp, types.intp)
_lower(load, FOUR, [(kind, *_one) for kind in (VECTOR, DATA_VECTOR)], _load)
_lower(load_at, FOUR, [(kind, *_two) for kind in (MATRIX, DATA_MATRIX)], _load)
_lower(load_some, FOUR, [(kind, *_one, types.intp) for kind in (VECTOR, DATA_VECTOR)], _load_some)
_lower(load_some_at, FOUR, [(kind, *_two, types.intp) for kind in (MATRIX, DATA_MATRIX)], _load_some)
_lower(load_last, FOUR, [(kind, *_one, types.intp) for kind in (VECTOR, DATA_VECTOR)], _load_last)
_lower(load_last_at, FOUR, [(kind, *_two, types.intp) for kind in (MATRIX, DATA_MATRIX)], _load_last)
_lower(store, types.void, [(FOUR, VECTOR, *_one)], _store)
_lower(store_at, types.void, [(FOUR, MATRIX, *_two)], _store)
_lower(store_some, types.void, [(FOUR, VECTOR, *_one, types.intp)], _store_some)
_lower(store_some_at, types.void, [(FOUR, MATRIX, *_two, types.intp)], _store_some)
