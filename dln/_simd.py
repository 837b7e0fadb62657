"""Vectors for kernels: floats side by side, ``+ - * /`` on them, and loads from and stores to arrays.

LLVM turns loops into vector code by itself, at a price that short loops feel: checks that arrays do not overlap, and up to
fifteen last entries done one by one.  A kernel that is written in vectors pays neither, and keeps sums in registers over
several rows.

    a = load(x, i)           # x[i : i + WIDTH]; load_at(X, i, j) is X[i, j : j + WIDTH]
    store(2.0 * a, out, i)

There are vectors of four, of eight, and of `WIDTH`, which is one of the two: what a register of the machine holds.  `load`
makes the last; `load_four` and what ends in it make fours, for blocks of matrices.  A number beside a vector counts for each
of its lanes.  Where an array ends within a vector, `load_some` and `store_some` (and `_at`) are told how many entries are
left, one or more; the other lanes are 0.  Products and sums may be fused, as with ``contract``.  The functions below are what
runs with the compiler switched off, on arrays; what they are in machine code comes after them.
"""

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, ConcreteTemplate, infer_global
from numba.extending import lower_builtin, models, register_model

from ._jit import DATA_MATRIX, DATA_VECTOR, MATRIX, VECTOR
from ._machine import VECTOR_WIDTH as WIDTH


def splat(x):
    """Return x in each of `WIDTH` lanes."""
    return np.full(WIDTH, float(x))


def splat_four(x):
    """Return x in each of four lanes."""
    return np.full(4, float(x))


def splat_eight(x):
    """Return x in each of eight lanes."""
    return np.full(8, float(x))


def four(a, b, c, d):
    """Return four numbers side by side."""
    return np.array([a, b, c, d], dtype=float)


def load(x, i):
    """Return ``x[i : i + WIDTH]``."""
    return x[i:i + WIDTH].copy()


def load_at(X, i, j):
    """Return ``X[i, j : j + WIDTH]``."""
    return X[i, j:j + WIDTH].copy()


def load_some(x, i, left):
    """Return ``x[i : i + left]``, at least one number and at most `WIDTH`, then zeros."""
    return _padded(x[i:i + left], WIDTH, 0.0)


def load_some_at(X, i, j, left):
    """Return ``X[i, j : j + left]``, at least one number and at most `WIDTH`, then zeros."""
    return load_some(X[i], j, left)


def load_last(x, i, left):
    """Return ``x[i : i + left]``, one to `WIDTH` numbers, and then the last of them again."""
    return _padded(x[i:i + left], WIDTH, x[i + left - 1])


def load_last_at(X, i, j, left):
    """Return ``X[i, j : j + left]``, one to `WIDTH` numbers, and then the last of them again."""
    return load_last(X[i], j, left)


def load_four(x, i):
    """Return ``x[i : i + 4]``."""
    return x[i:i + 4].copy()


def load_four_at(X, i, j):
    """Return ``X[i, j : j + 4]``."""
    return X[i, j:j + 4].copy()


def load_some_four(x, i, left):
    """Return ``x[i : i + left]``, at least one number and at most four, then zeros."""
    return _padded(x[i:i + left], 4, 0.0)


def _padded(numbers, width, other):
    vector = np.full(width, other, dtype=float)
    vector[:len(numbers)] = numbers
    return vector


def store(vector, x, i):
    """Write ``x[i : i + width]``."""
    x[i:i + len(vector)] = vector


def store_at(vector, X, i, j):
    """Write ``X[i, j : j + width]``."""
    X[i, j:j + len(vector)] = vector


def store_some(vector, x, i, left):
    """Write ``x[i : i + left]``, at least one number and at most as many as the vector has."""
    x[i:i + left] = vector[:left]


def store_some_at(vector, X, i, j, left):
    """Write ``X[i, j : j + left]``, at least one number and at most as many as the vector has."""
    store_some(vector, X[i], j, left)


def fused(a, b, c):
    """Return ``a b + c``, rounded once (with the compiler switched off: twice)."""
    return a * b + c


def square_root(a):
    """Return the square root of a."""
    return np.sqrt(a)


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


def total(a):
    """Return the sum of the lanes."""
    return _halved(a, operator.add)


def largest_lane(a):
    """Return the largest of the lanes."""
    return a.max()


def smallest_lane(a):
    """Return the smallest of the lanes."""
    return a.min()


def totals(a, b, c, d):
    """Return the sums of the lanes of each, as four numbers side by side."""
    return np.array([total(a), total(b), total(c), total(d)])


def transposed(a, b, c, d):
    """Return the four columns of the matrix whose rows are a, b, c and d."""
    return tuple(np.array([a, b, c, d]).T.copy())


def power_of_two(a):
    """Return ``2^k`` from ``k + 1.5 * 2^52``: the integer is moved from the low bits into the exponent."""
    return ((a.view(np.int64) + 1023) << 52).view(np.float64)


def power_of_half(a):
    """Return ``2^-k`` from ``k + 1.5 * 2^52``."""
    return ((1023 - a.view(np.int64)) << 52).view(np.float64)


def _halved(a, combine):
    while len(a) > 1:
        a = combine(a[:len(a) // 2], a[len(a) // 2:])
    return a[0]


# ---------------------------------------------------------------------------------------------------------------------
# In machine code


class Vector(types.Type):
    """The type of `width` floats side by side."""

    def __init__(self, width):
        self.width = width
        super().__init__(f"vector of {width} float64")

    @property
    def key(self):
        """Return what tells one from another."""
        return self.width


FOUR, EIGHT = Vector(4), Vector(8)
_NUMBERS = (types.Float, types.Integer)
WIDE = {vector.width: vector for vector in (FOUR, EIGHT)}[WIDTH]


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    """A vector of LLVM: one register of the machine, or more."""

    def __init__(self, manager, kind):
        super().__init__(manager, kind, _lanes(kind.width))


def _lanes(width):
    return ir.VectorType(ir.DoubleType(), width)


def _bits(width):
    return ir.VectorType(ir.IntType(64), width)


def _constant(kind, *numbers):
    return ir.Constant(kind, list(numbers) if len(numbers) > 1 else [numbers[0]] * kind.count)


def _index(k):
    return ir.IntType(32)(k)


def _shuffle(builder, a, b, *lanes):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes)))


def spread(builder, number, width):
    """Return the code of a number in each lane."""
    none = ir.Constant(ir.VectorType(number.type, width), ir.Undefined)
    return _shuffle(builder, builder.insert_element(none, number, _index(0)), none, *[0] * width)


def _common(kinds):
    """Return the one kind of vector among types that are otherwise those of numbers; None if there is no such."""
    vectors = {kind for kind in kinds if isinstance(kind, Vector)}
    if len(vectors) == 1 and all(kind in vectors or isinstance(kind, _NUMBERS) for kind in kinds):
        return vectors.pop()
    return None


def _generator(generate):
    """Return how numba makes code of ``generate(builder, *vectors)``: numbers are spread over the lanes."""
    def lower(context, builder, given, values):
        width = _common(given.args).width

        def vector(kind, value):
            return value if isinstance(kind, Vector) else spread(
                builder, context.cast(builder, value, kind, types.float64), width)

        return generate(builder, *map(vector, given.args, values))
    return lower


def _lane_by_lane(function, count, generate):
    """Teach numba `function` of `count` vectors or numbers, which returns a vector."""
    class _Typing(AbstractTemplate):
        key = function

        def generic(self, kinds, _):
            found = _common(kinds) if len(kinds) == count else None
            return found and signature(found, *kinds)

    infer_global(function, types.Function(_Typing))
    lower_builtin(function, types.VarArg(types.Any))(_generator(generate))


def _operator(function, generate):
    class _Typing(AbstractTemplate):
        def generic(self, kinds, _):
            found = _common(kinds) if len(kinds) == 2 else None
            return found and signature(found, *kinds)

    infer_global(function)(_Typing)
    for kinds in ((Vector, Vector), *((Vector, number) for number in _NUMBERS), *((number, Vector) for number in _NUMBERS)):
        lower_builtin(function, *kinds)(_generator(generate))


def _exactly(function, generate, *choices):
    """Teach numba `function` for exactly the types of the signatures `choices`."""
    template: Any = type("_Template", (ConcreteTemplate,), {"key": function, "cases": list(choices)})
    infer_global(function, types.Function(template))
    for choice in choices:
        lower_builtin(function, *choice.args)(generate)


def _on_values(generate):
    return lambda context, builder, given, values: generate(builder, *values)


def _llvm(name):
    def generate(builder, *vectors):
        kind = vectors[0].type
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(kind, [kind] * len(vectors)), f"llvm.{name}.v{kind.count}f64")
        return builder.call(function, vectors)
    return generate


def _halves(builder, a):
    """Return a, of eight lanes, as two vectors of four."""
    return _shuffle(builder, a, a, 0, 1, 2, 3), _shuffle(builder, a, a, 4, 5, 6, 7)


def _to_four(combine):
    def generate(builder, a):
        return combine(builder, *_halves(builder, a)) if a.type.count == 8 else a
    return generate


def _over_lanes(combine):
    def generate(builder, a):
        a = _to_four(combine)(builder, a)
        lanes = [builder.extract_element(a, _index(k)) for k in range(4)]
        return combine(builder, combine(builder, lanes[0], lanes[1]), combine(builder, lanes[2], lanes[3]))
    return generate


def _totals(builder, a, b, c, d):
    def pairs(x, y):  # x0 + x1, y0 + y1, x2 + x3, y2 + y3: one instruction where there is a horizontal sum
        return builder.fadd(_shuffle(builder, x, y, 0, 4, 2, 6), _shuffle(builder, x, y, 1, 5, 3, 7))

    a, b, c, d = (_to_four(_add)(builder, x) for x in (a, b, c, d))
    first, second = pairs(a, b), pairs(c, d)
    return builder.fadd(_shuffle(builder, first, second, 0, 1, 4, 5), _shuffle(builder, first, second, 2, 3, 6, 7))


def _four(builder, *numbers):
    found = ir.Constant(_lanes(4), ir.Undefined)
    for k, x in enumerate(numbers):
        found = builder.insert_element(found, x, _index(k))
    return found


def _transposed(context, builder, given, rows):
    a, b, c, d = rows
    ab_even, ab_odd = _shuffle(builder, a, b, 0, 4, 2, 6), _shuffle(builder, a, b, 1, 5, 3, 7)
    cd_even, cd_odd = _shuffle(builder, c, d, 0, 4, 2, 6), _shuffle(builder, c, d, 1, 5, 3, 7)
    columns = [_shuffle(builder, ab_even, cd_even, 0, 1, 4, 5), _shuffle(builder, ab_odd, cd_odd, 0, 1, 4, 5),
               _shuffle(builder, ab_even, cd_even, 2, 3, 6, 7), _shuffle(builder, ab_odd, cd_odd, 2, 3, 6, 7)]
    return context.make_tuple(builder, given.return_type, columns)


def _compare(relation):
    return lambda builder, a, b: builder.select(builder.fcmp_ordered(relation, a, b), a, b)


def _where_less(builder, a, b, x, y):
    return builder.select(builder.fcmp_ordered("<", a, b), x, y)


def _power(sign):
    def generate(builder, a):
        kind = _bits(a.type.count)
        bits, bias = builder.bitcast(a, kind), _constant(kind, 1023)
        exponent = builder.add(bits, bias) if sign > 0 else builder.sub(bias, bits)
        return builder.bitcast(builder.shl(exponent, _constant(kind, 52)), a.type)
    return generate


def _add(builder, a, b):
    return builder.fadd(a, b, flags=_CONTRACT)


_CONTRACT = ("contract",)
_operator(operator.add, _add)
_operator(operator.sub, lambda builder, a, b: builder.fsub(a, b, flags=_CONTRACT))
_operator(operator.mul, lambda builder, a, b: builder.fmul(a, b, flags=_CONTRACT))
_operator(operator.truediv, lambda builder, a, b: builder.fdiv(a, b))
_lane_by_lane(fused, 3, _llvm("fma"))
_lane_by_lane(square_root, 1, _llvm("sqrt"))
_lane_by_lane(modulus, 1, _llvm("fabs"))
_lane_by_lane(larger, 2, _compare(">"))
_lane_by_lane(smaller, 2, _compare("<"))
_lane_by_lane(where_less, 4, _where_less)
_lane_by_lane(power_of_two, 1, _power(1))
_lane_by_lane(power_of_half, 1, _power(-1))
_number, _any = types.float64, (FOUR, EIGHT)
_exactly(splat, _on_values(lambda builder, x: spread(builder, x, WIDTH)), signature(WIDE, _number))
_exactly(splat_four, _on_values(lambda builder, x: spread(builder, x, 4)), signature(FOUR, _number))
_exactly(splat_eight, _on_values(lambda builder, x: spread(builder, x, 8)), signature(EIGHT, _number))
_exactly(four, _on_values(_four), signature(FOUR, *(_number,) * 4))
_exactly(transposed, _transposed, signature(types.UniTuple(FOUR, 4), *(FOUR,) * 4))
_exactly(total, _on_values(_over_lanes(_add)), *(signature(_number, kind) for kind in _any))
_exactly(largest_lane, _on_values(_over_lanes(_compare(">"))), *(signature(_number, kind) for kind in _any))
_exactly(smallest_lane, _on_values(_over_lanes(_compare("<"))), *(signature(_number, kind) for kind in _any))
_exactly(totals, _on_values(_totals), *(signature(FOUR, *(kind,) * 4) for kind in _any))


def _place(context, builder, kind, array, indices):
    """Return a pointer to the entry of an array at one or two indices."""
    view = context.make_array(kind)(context, builder, array)
    offset = indices[0]
    if len(indices) == 2:
        columns = builder.extract_value(view.shape, 1)
        offset = builder.add(builder.mul(offset, columns), indices[1])
    return builder.gep(view.data, [offset])


def _load(context, builder, given, values):
    place = _place(context, builder, given.args[0], values[0], values[1:])
    return builder.load(builder.bitcast(place, _lanes(given.return_type.width).as_pointer()), align=_ALIGN)


def _store(context, builder, given, values):
    place = _place(context, builder, given.args[1], values[1], values[2:])
    builder.store(values[0], builder.bitcast(place, values[0].type.as_pointer()), align=_ALIGN)
    return context.get_dummy_value()


def _inside(builder, left, width):
    """Return which lanes are among the first `left`."""
    return builder.icmp_signed("<", _constant(_bits(width), *range(width)), spread(builder, left, width))


def _load_masked(builder, place, left, others):
    # What is beyond the end is not touched.
    kind = others.type
    mask = _inside(builder, left, kind.count)
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind.as_pointer(), ir.IntType(32), mask.type, kind]),
        f"llvm.masked.load.v{kind.count}f64.p0")
    return builder.call(function, [builder.bitcast(place, kind.as_pointer()), _index(_ALIGN), mask, others])


def _load_some(context, builder, given, values):
    place = _place(context, builder, given.args[0], values[0], values[1:-1])
    return _load_masked(builder, place, values[-1], _constant(_lanes(given.return_type.width), 0.0))


def _load_last(context, builder, given, values):
    place, left, width = _place(context, builder, given.args[0], values[0], values[1:-1]), values[-1], given.return_type.width
    last = builder.load(builder.gep(place, [builder.sub(left, left.type(1))]))
    return _load_masked(builder, place, left, spread(builder, last, width))


def _store_some(context, builder, given, values):
    vector, left = values[0], values[-1]
    place, kind = _place(context, builder, given.args[1], values[1], values[2:-1]), vector.type
    mask = _inside(builder, left, kind.count)
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [kind, kind.as_pointer(), ir.IntType(32), mask.type]),
        f"llvm.masked.store.v{kind.count}f64.p0")
    builder.call(function, [vector, builder.bitcast(place, kind.as_pointer()), _index(_ALIGN), mask])
    return context.get_dummy_value()


_ALIGN = 8  # bytes: arrays may start anywhere
_vectors, _matrices = (VECTOR, DATA_VECTOR), (MATRIX, DATA_MATRIX)
_one, _two = (types.intp,), (types.intp, types.intp)


def _loads(function, generate, arrays, *indices, vector=WIDE):
    _exactly(function, generate, *(signature(vector, kind, *indices) for kind in arrays))


def _stores(function, generate, array, *indices):
    _exactly(function, generate, *(signature(types.void, kind, array, *indices) for kind in _any))


_loads(load, _load, _vectors, *_one)
_loads(load_at, _load, _matrices, *_two)
_loads(load_some, _load_some, _vectors, *_one, types.intp)
_loads(load_some_at, _load_some, _matrices, *_two, types.intp)
_loads(load_last, _load_last, _vectors, *_one, types.intp)
_loads(load_last_at, _load_last, _matrices, *_two, types.intp)
_loads(load_four, _load, _vectors, *_one, vector=FOUR)
_loads(load_four_at, _load, _matrices, *_two, vector=FOUR)
_loads(load_some_four, _load_some, _vectors, *_one, types.intp, vector=FOUR)
_stores(store, _store, VECTOR, *_one)
_stores(store_at, _store, MATRIX, *_two)
_stores(store_some, _store_some, VECTOR, *_one, types.intp)
_stores(store_some_at, _store_some, MATRIX, *_two, types.intp)
