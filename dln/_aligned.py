"""Arrays for the kernels' vector loads."""

import ctypes
import math
from typing import Any

import numpy as np


def aligned_zeros(shape):
    """Return zeros that start at a cache line: a vector that lies on two of them takes twice as long to load.

    NumPy's own arrays start anywhere in it, those of some size always at its 16th byte: a run then takes a tenth longer.
    """
    size = math.prod(shape)
    room = np.zeros(size + 7)
    first = first_aligned(room)
    return room[first:first + size].reshape(shape)


def first_aligned(room: Any):
    """Return the first place of a vector that lies at the start of a cache line."""
    # A buffer, which NumPy's types do not say; in a third of the time of room.ctypes.data.
    return -ctypes.addressof(ctypes.c_char.from_buffer(room)) // 8 % 8
