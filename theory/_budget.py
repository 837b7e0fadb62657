"""A budget for computer algebra: a call that has used up its steps is given up, and does not hang.

A step is one call or return of a Python function, counted by the interpreter's profiling hook. Unlike seconds, steps do not
depend on the machine or on its load.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

__all__ = ["STEPS", "within"]

T = TypeVar("T")

#: A second or two; every closed form of the maps in the tests takes less.
STEPS = 5_000_000


class _Spent(BaseException):
    """Not an `Exception`: algebra code that guards itself with `except Exception` must not swallow it."""


def within(steps: int, function: Callable[..., T], *args: Any, **options: Any) -> T | None:
    """Call a function of sympy and return its value, or None if the budget is spent or sympy does not know.

    Parameters
    ----------
    steps : int
        Budget in calls and returns of Python functions.
    function, *args, **options
        What to call.

    Returns
    -------
    object or None
    """
    left = steps

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise _Spent

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        return function(*args, **options)
    except (_Spent, NotImplementedError, ValueError, TypeError, AttributeError, RecursionError, ArithmeticError):
        return None
    finally:
        sys.setprofile(before)
