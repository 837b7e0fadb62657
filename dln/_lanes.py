"""Eight runs side by side, each in one lane of vectors of eight (`_simd`): how arrays of lanes are read and written.

LLVM makes two AVX2 registers of a vector, or one of AVX-512.  No value moves from lane to lane: what a lane computes depends on
nothing in the others.  A kernel keeps lanes in arrays ``(..., LANES)`` of floats; `load` and `store` move a row.  Numbers that
all lanes share are ordinary floats.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._simd import EIGHT, Vector, spread

LANES = EIGHT.width

_intrinsic: Any = intrinsic  # it takes the first argument away
_VECTOR, _BYTES = ir.VectorType(ir.DoubleType(), LANES), 8


def _pointer(context, builder, kinds, array, row):
    data = context.make_array(kinds[0])(context, builder, array).data
    offset = builder.mul(context.cast(builder, row, kinds[1], types.int64), ir.IntType(64)(LANES))
    return builder.bitcast(builder.gep(data, [offset], inbounds=True), _VECTOR.as_pointer())


@_intrinsic
def load(typing_context, array, row):
    """Return row `row` of an array of lanes, as if that had two dimensions."""
    def generate(context, builder, given, values):
        place = _pointer(context, builder, given.args, values[0], values[1])
        return builder.load(place, align=_BYTES)
    return EIGHT(array, row), generate


@_intrinsic
def store(typing_context, array, row, value):
    """Put lanes, or a number, into row `row` of an array."""
    def generate(context, builder, given, values):
        place = _pointer(context, builder, given.args, values[0], values[1])
        vector, kind = values[2], given.args[2]
        if not isinstance(kind, Vector):
            vector = spread(builder, context.cast(builder, vector, kind, types.float64), LANES)
        builder.store(vector, place, align=_BYTES)
        return context.get_dummy_value()
    return types.void(array, row, value), generate


@_intrinsic
def entry(typing_context, array, place):
    """Return the number at a place of an array, as if that had one dimension; no place is counted from the end."""
    def generate(context, builder, given, values):
        data = context.make_array(given.args[0])(context, builder, values[0]).data
        return builder.load(builder.gep(data, [context.cast(builder, values[1], given.args[1], types.int64)], inbounds=True))
    return types.float64(array, place), generate
