"""Step sizes that change from step to step, for `dln.descend`.

A schedule is anything that gives the step size of step k = 0, 1, ...: a number, an array, or a function of k.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .rules.base import number

__all__ = ["cyclic", "decaying"]


@dataclass(frozen=True)
class Formula:
    """A step size by a formula that takes whole arrays of step numbers."""

    words: str
    formula: Callable[[np.ndarray], np.ndarray]

    def __call__(self, k):
        """Return the step size of step k, a number or an array."""
        return self.formula(np.asarray(k, dtype=float))

    def __repr__(self):
        return self.words


def cyclic(low, high, period):
    """Rise linearly from `low` to `high` and fall back, over and over (Smith 2017).

    Parameters
    ----------
    low, high : float
        Step sizes, positive.
    period : int
        Steps from `low` to `low`, at least 2.
    """
    low, high = number("low", low, minimum=0.0, strict=True), number("high", high, minimum=0.0, strict=True)
    period = number("period", period, minimum=2.0)
    return Formula(f"cyclic({low:g}, {high:g}, {period:g})",
                   lambda k: low + (high - low) * (1.0 - np.abs(2.0 * ((k / period) % 1.0) - 1.0)))


def decaying(initial, power=1.0, time=1.0):
    """Decay like ``initial / (1 + k/time)^power`` (Robbins & Monro 1951 ask for a power in (1/2, 1]).

    Parameters
    ----------
    initial : float
        The first step size, positive.
    power : float
        At least 0.
    time : float
        After how many steps the decay sets in, positive.
    """
    initial, time = number("initial", initial, minimum=0.0, strict=True), number("time", time, minimum=0.0, strict=True)
    power = number("power", power, minimum=0.0)
    return Formula(f"decaying({initial:g}, power={power:g}, time={time:g})", lambda k: initial / (1.0 + k / time) ** power)


def step_sizes(step, first, count):
    """Return the step sizes of `count` steps from `first` on, (count,); one line about a bad one."""
    if isinstance(step, float):
        return np.full(count, step)
    if isinstance(step, np.ndarray):
        sizes = step[first:first + count]
    elif isinstance(step, Formula):
        sizes = step(np.arange(first, first + count))
    else:
        sizes = np.array([number(f"step({k})", step(k)) for k in range(first, first + count)])
    bad = ~(np.isfinite(sizes) & (sizes > 0.0))
    if bad.any():
        k = int(np.flatnonzero(bad)[0])
        raise ValueError(f"step of step {first + k} must be positive and finite, got {sizes[k]}")
    return np.ascontiguousarray(sizes, dtype=float)


def checked_step(step, n_steps):
    """Return `step` as a float, an array (n_steps,) or a callable; else a one-line error."""
    if callable(step):
        return step
    if np.ndim(step) == 0:
        return number("step", step, minimum=0.0, strict=True)
    sizes = np.array(step, dtype=float)
    if sizes.shape != (n_steps,):
        raise ValueError(f"step must be a number, an array of n_steps = {n_steps} numbers or a function of k, "
                         f"got shape {sizes.shape}")
    return sizes
