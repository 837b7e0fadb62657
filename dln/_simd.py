"""Vectors for kernels, `_vectors`, in machine code: import them from here.

LLVM has vectors of its own; numba is told of each function which of them it takes, and what it does to them.
"""

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, ConcreteTemplate, infer_global
from numba.extending import lower_builtin, models, register_model

from ._jit import DATA_MATRIX, DATA_VECTOR, MATRIX, SINGLE_DATA_MATRIX, SINGLE_DATA_VECTOR, SINGLE_MATRIX, SINGLE_VECTOR, VECTOR
from ._vectors import (
    WIDTH,
    four,
    fused,
    joined,
    lanes,
    larger,
    largest_lane,
    load,
    load_at,
    load_four,
    load_four_at,
    load_last,
    load_last_at,
    load_some,
    load_some_at,
    load_some_four,
    modulus,
    narrow,
    power_of_half,
    power_of_two,
    smaller,
    smallest_lane,
    splat,
    splat_eight,
    splat_four,
    square_root,
    store,
    store_at,
    store_some,
    store_some_at,
    total,
    totals,
    transposed,
    where_less,
    zeros,
)

__all__ = [
    "WIDTH",
    "four",
    "fused",
    "joined",
    "lanes",
    "larger",
    "largest_lane",
    "load",
    "load_at",
    "load_four",
    "load_four_at",
    "load_last",
    "load_last_at",
    "load_some",
    "load_some_at",
    "load_some_four",
    "modulus",
    "narrow",
    "power_of_half",
    "power_of_two",
    "smaller",
    "smallest_lane",
    "splat",
    "splat_eight",
    "splat_four",
    "spread",
    "square_root",
    "store",
    "store_at",
    "store_some",
    "store_some_at",
    "total",
    "totals",
    "transposed",
    "where_less",
    "zeros",
]


class Vector(types.Type):
    """The type of `width` floats of one `kind` side by side."""

    def __init__(self, width, kind=types.float64):
        self.width, self.kind = width, kind
        super().__init__(f"vector of {width} {kind}")

    @property
    def key(self):
        """Return what tells one from another."""
        return self.width, self.kind


FOUR, EIGHT = Vector(4), Vector(8)
_NUMBERS = (types.Float, types.Integer)
WIDE = {vector.width: vector for vector in (FOUR, EIGHT)}[WIDTH]
WIDE_SINGLE = Vector(2 * WIDTH, types.float32)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    """A vector of LLVM: one register of the machine, or more."""

    def __init__(self, manager, kind):
        super().__init__(manager, kind, _lanes(kind))


def _lanes(kind):
    return ir.VectorType(_FLOATS[kind.kind], kind.width)


_FLOATS = {types.float64: ir.DoubleType(), types.float32: ir.FloatType()}


def _is_single(kind):
    return kind.element == ir.FloatType()


def _name(kind):
    """Return the name by which LLVM knows a kind of vector."""
    return f"v{kind.count}{'f32' if _is_single(kind) else 'f64'}"


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
        common = _common(given.args)

        def vector(kind, value):
            return value if isinstance(kind, Vector) else spread(
                builder, context.cast(builder, value, kind, common.kind), common.width)

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
            builder.module, ir.FunctionType(kind, [kind] * len(vectors)), f"llvm.{name}.{_name(kind)}")
        return builder.call(function, vectors)
    return generate


def _halves(builder, a):
    """Return a as two vectors of half as many lanes."""
    half = a.type.count // 2
    return _shuffle(builder, a, a, *range(half)), _shuffle(builder, a, a, *range(half, 2 * half))


def _to_four(combine):
    def generate(builder, a):
        while a.type.count > 4:
            a = combine(builder, *_halves(builder, a))
        return a
    return generate


def _over_lanes(combine):
    def generate(builder, a):
        a = _to_four(combine)(builder, a)
        ends = [builder.extract_element(a, _index(k)) for k in range(4)]
        found = combine(builder, combine(builder, ends[0], ends[1]), combine(builder, ends[2], ends[3]))
        return builder.fpext(found, ir.DoubleType()) if found.type == ir.FloatType() else found
    return generate


def _totals(builder, a, b, c, d):
    def pairs(x, y):  # x0 + x1, y0 + y1, x2 + x3, y2 + y3: one instruction where there is a horizontal sum
        return builder.fadd(_shuffle(builder, x, y, 0, 4, 2, 6), _shuffle(builder, x, y, 1, 5, 3, 7))

    a, b, c, d = (_to_four(_add)(builder, x) for x in (a, b, c, d))
    first, second = pairs(a, b), pairs(c, d)
    found = builder.fadd(_shuffle(builder, first, second, 0, 1, 4, 5), _shuffle(builder, first, second, 2, 3, 6, 7))
    return builder.fpext(found, _lanes(FOUR)) if _is_single(found.type) else found


def _four(builder, *numbers):
    found = ir.Constant(_lanes(FOUR), ir.Undefined)
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


def _narrow(builder, a, b):
    return builder.fptrunc(_shuffle(builder, a, b, *range(2 * WIDTH)), _lanes(WIDE_SINGLE))


def _compare(relation):
    return lambda builder, a, b: builder.select(builder.fcmp_ordered(relation, a, b), a, b)


def _where_less(builder, a, b, x, y):
    return builder.select(builder.fcmp_ordered("<", a, b), x, y)


def _power(sign):
    def generate(builder, a):
        size, bias, place = (32, 127, 23) if _is_single(a.type) else (64, 1023, 52)
        kind = ir.VectorType(ir.IntType(size), a.type.count)
        bits, zero = builder.bitcast(a, kind), _constant(kind, bias)
        exponent = builder.add(bits, zero) if sign > 0 else builder.sub(zero, bits)
        return builder.bitcast(builder.shl(exponent, _constant(kind, place)), a.type)
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
_number, _any = types.float64, (FOUR, EIGHT, WIDE_SINGLE)
_exactly(splat, _on_values(lambda builder, x: spread(builder, x, WIDTH)), signature(WIDE, _number))
_exactly(splat_four, _on_values(lambda builder, x: spread(builder, x, 4)), signature(FOUR, _number))
_exactly(splat_eight, _on_values(lambda builder, x: spread(builder, x, 8)), signature(EIGHT, _number))
_exactly(four, _on_values(_four), signature(FOUR, *(_number,) * 4))
_exactly(joined, _on_values(lambda builder, a, b: _shuffle(builder, a, b, *range(8))), signature(EIGHT, FOUR, FOUR))
_exactly(narrow, _on_values(_narrow), signature(WIDE_SINGLE, WIDE, WIDE))
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


def _align(kind):
    return 4 if _is_single(kind) else 8  # bytes: arrays may start anywhere


def _load(context, builder, given, values):
    place, kind = _place(context, builder, given.args[0], values[0], values[1:]), _lanes(given.return_type)
    return builder.load(builder.bitcast(place, kind.as_pointer()), align=_align(kind))


def _store(context, builder, given, values):
    place, kind = _place(context, builder, given.args[1], values[1], values[2:]), values[0].type
    builder.store(values[0], builder.bitcast(place, kind.as_pointer()), align=_align(kind))
    return context.get_dummy_value()


def _inside(builder, left, width):
    """Return which lanes are among the first `left`."""
    places = _constant(ir.VectorType(ir.IntType(64), width), *range(width))
    return builder.icmp_signed("<", places, spread(builder, left, width))


def _load_masked(builder, place, left, others):
    # What is beyond the end is not touched.
    kind = others.type
    mask = _inside(builder, left, kind.count)
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind.as_pointer(), ir.IntType(32), mask.type, kind]),
        f"llvm.masked.load.{_name(kind)}.p0")
    return builder.call(function, [builder.bitcast(place, kind.as_pointer()), _index(_align(kind)), mask, others])


def _load_some(context, builder, given, values):
    place = _place(context, builder, given.args[0], values[0], values[1:-1])
    return _load_masked(builder, place, values[-1], _constant(_lanes(given.return_type), 0.0))


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
        f"llvm.masked.store.{_name(kind)}.p0")
    builder.call(function, [vector, builder.bitcast(place, kind.as_pointer()), _index(_align(kind)), mask])
    return context.get_dummy_value()


_vectors, _matrices = (VECTOR, DATA_VECTOR), (MATRIX, DATA_MATRIX)
_single_vectors, _single_matrices = (SINGLE_VECTOR, SINGLE_DATA_VECTOR), (SINGLE_MATRIX, SINGLE_DATA_MATRIX)
_one, _two = (types.intp,), (types.intp, types.intp)


def _loads(function, generate, arrays, *indices, vector=WIDE, singles=()):
    _exactly(function, generate, *(signature(vector, kind, *indices) for kind in arrays),
             *(signature(WIDE_SINGLE, kind, *indices) for kind in singles))


def _stores(function, generate, array, single, *indices):
    _exactly(function, generate, *(signature(types.void, kind, array, *indices) for kind in (FOUR, EIGHT)),
             signature(types.void, WIDE_SINGLE, single, *indices))


def _lane_count(context, builder, given, values):
    return context.get_constant(types.intp, 2 * WIDTH if given.args[0].dtype == types.float32 else WIDTH)


def _zeros(context, builder, given, values):
    return _constant(_lanes(given.return_type), 0.0)


_exactly(lanes, _lane_count, *(signature(types.intp, kind) for kind in (
    *_vectors, *_matrices, *_single_vectors, *_single_matrices)))
_exactly(zeros, _zeros, *(signature(WIDE, kind) for kind in (*_vectors, *_matrices)),
         *(signature(WIDE_SINGLE, kind) for kind in (*_single_vectors, *_single_matrices)))
_loads(load, _load, _vectors, *_one, singles=_single_vectors)
_loads(load_at, _load, _matrices, *_two, singles=_single_matrices)
_loads(load_some, _load_some, _vectors, *_one, types.intp, singles=_single_vectors)
_loads(load_some_at, _load_some, _matrices, *_two, types.intp, singles=_single_matrices)
_loads(load_last, _load_last, _vectors, *_one, types.intp)
_loads(load_last_at, _load_last, _matrices, *_two, types.intp)
_loads(load_four, _load, _vectors, *_one, vector=FOUR)
_loads(load_four_at, _load, _matrices, *_two, vector=FOUR)
_loads(load_some_four, _load_some, _vectors, *_one, types.intp, vector=FOUR)
_stores(store, _store, VECTOR, SINGLE_VECTOR, *_one)
_stores(store_at, _store, MATRIX, SINGLE_MATRIX, *_two)
_stores(store_some, _store_some, VECTOR, SINGLE_VECTOR, *_one, types.intp)
_stores(store_some_at, _store_some, MATRIX, SINGLE_MATRIX, *_two, types.intp)
