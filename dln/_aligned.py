"""Arrays for the kernels' vector loads."""

import math

import numpy as np


def aligned_zeros(shape):
    """Return zeros that start at a cache line: a vector that lies on two of them takes twice as long to load.

    NumPy's own arrays start anywhere in it, those of some size always at its 16th byte: a run then takes a tenth longer.
    """
    size = math.prod(shape)
    room = np.zeros(size + 7)
    first = -room.__array_interface__["data"][0] // 8 % 8
    return room[first:first + size].reshape(shape)
