"""Vectors of eight floats, one lane for each of eight runs: a type of its own for kernels.

LLVM makes two AVX2 registers of one, or one of AVX-512.  Operations are those of IEEE, lane by lane, and a product and a sum
are fused where the kernel says so and nowhere else: what a lane computes depends on nothing in the others.

A kernel keeps lanes in arrays ``(..., LANES)`` of floats; `load` and `store` move a row.  Numbers that all lanes share are
ordinary floats: where one meets lanes it is broadcast.
"""

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

LANES = 8

_intrinsic: Any = intrinsic  # it takes the first argument away

_DOUBLE = ir.DoubleType()
_INTEGER = ir.IntType(64)
_VECTOR = ir.VectorType(_DOUBLE, LANES)
_INTEGERS = ir.VectorType(_INTEGER, LANES)
_BYTES = 8


class Lanes(types.Type):
    """The numba type of a vector of `LANES` floats."""

    def __init__(self):
        super().__init__(name="Lanes")


lanes = Lanes()


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _VECTOR)


def _splat(builder, value):
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined),
                                  ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _is_number(kind):
    return isinstance(kind, (types.Float, types.Integer))


def _wide(context, builder, kind, value):
    """Return an argument as lanes."""
    return value if kind is lanes else _splat(builder, context.cast(builder, value, kind, types.float64))


def _operator(function, build):
    @infer_global(function)
    class _Typing(AbstractTemplate):
        def generic(self, args, kws):
            if len(args) == 2 and lanes in args and all(kind is lanes or _is_number(kind) for kind in args):
                return signature(lanes, *args)
            return None

    def lower(context, builder, sig, args):
        return build(builder, *(_wide(context, builder, kind, arg) for kind, arg in zip(sig.args, args, strict=True)))

    for kinds in ((lanes, lanes), (lanes, types.Float), (types.Float, lanes), (lanes, types.Integer), (types.Integer, lanes)):
        lower_builtin(function, *(Lanes if kind is lanes else kind for kind in kinds))(lower)


_operator(operator.add, lambda builder, a, b: builder.fadd(a, b))
_operator(operator.sub, lambda builder, a, b: builder.fsub(a, b))
_operator(operator.mul, lambda builder, a, b: builder.fmul(a, b))
_operator(operator.truediv, lambda builder, a, b: builder.fdiv(a, b))


def _function(build, count):
    """Return the intrinsic of `count` arguments, lanes or numbers, of which `build` makes lanes."""

    def generate(context, builder, sig, args):
        return build(builder, *(_wide(context, builder, kind, arg) for kind, arg in zip(sig.args, args, strict=True)))

    def one(typing_context, a):
        return lanes(a), generate

    def two(typing_context, a, b):
        return lanes(a, b), generate

    def three(typing_context, a, b, c):
        return lanes(a, b, c), generate

    def four(typing_context, a, b, c, d):
        return lanes(a, b, c, d), generate

    typed: Any = (one, two, three, four)[count - 1]  # numba counts the arguments
    return _intrinsic(typed)


def _llvm(name, count):
    def build(builder, *args):
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * count)
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f64")
        return builder.call(function, args)
    return _function(build, count)


#: a b + c, rounded once.
fused = _llvm("fma", 3)
magnitude = _llvm("fabs", 1)
square_root = _llvm("sqrt", 1)
splat = _function(lambda builder, a: a, 1)
#: ``where_less(a, b, x, y)``: x where a < b, else y, also where a or b is NaN.
where_less = _function(lambda builder, a, b, x, y: builder.select(builder.fcmp_ordered("<", a, b), x, y), 4)
#: As Python's max: the first one unless the second is above it.
larger = _function(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", b, a), b, a), 2)


def _power(builder, a):
    bits = builder.bitcast(a, _INTEGERS)
    biased = builder.add(bits, ir.Constant(_INTEGERS, [1023] * LANES))
    return builder.bitcast(builder.shl(biased, ir.Constant(_INTEGERS, [52] * LANES)), _VECTOR)


def _inverse_power(builder, a):
    bits = builder.sub(ir.Constant(_INTEGERS, [0] * LANES), builder.bitcast(a, _INTEGERS))
    biased = builder.add(bits, ir.Constant(_INTEGERS, [1023] * LANES))
    return builder.bitcast(builder.shl(biased, ir.Constant(_INTEGERS, [52] * LANES)), _VECTOR)


#: 2^k, or 2^-k, where the low bits of the argument are k.
power_of_low_bits = _function(_power, 1)
inverse_power_of_low_bits = _function(_inverse_power, 1)


def _pointer(context, builder, kind, array, row):
    data = context.make_array(kind)(context, builder, array).data
    offset = builder.mul(row, ir.Constant(_INTEGER, LANES))
    return builder.bitcast(builder.gep(data, [offset], inbounds=True), _VECTOR.as_pointer())


@_intrinsic
def load(typing_context, array, row):
    """Return row `row` of an array of lanes, as if that had two dimensions."""
    def generate(context, builder, sig, args):
        place = _pointer(context, builder, sig.args[0], args[0], context.cast(builder, args[1], sig.args[1], types.int64))
        return builder.load(place, align=_BYTES)
    return lanes(array, row), generate


@_intrinsic
def store(typing_context, array, row, value):
    """Put lanes, or a number, into row `row` of an array."""
    def generate(context, builder, sig, args):
        place = _pointer(context, builder, sig.args[0], args[0], context.cast(builder, args[1], sig.args[1], types.int64))
        builder.store(_wide(context, builder, sig.args[2], args[2]), place, align=_BYTES)
        return context.get_dummy_value()
    return types.void(array, row, value), generate


@_intrinsic
def entry(typing_context, array, place):
    """Return the number at a place of an array, as if that had one dimension; no place is counted from the end."""
    def generate(context, builder, sig, args):
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        return builder.load(builder.gep(data, [context.cast(builder, args[1], sig.args[1], types.int64)], inbounds=True))
    return types.float64(array, place), generate
