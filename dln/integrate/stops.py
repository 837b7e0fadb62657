"""The times at which a trajectory is kept."""

import math

import numpy as np

_ROUNDING = 1e-14  # times nearer to each other than this, relative to them, cannot be told apart by a step
_NEVER = np.empty(0)


def checked_times(save_at, t_end):
    """Return `save_at` as a vector of increasing times from 0 to `t_end`, empty without any; else a one-line error."""
    if save_at is None:
        return _NEVER
    times = np.atleast_1d(np.asarray(save_at, dtype=float))
    if times.ndim != 1:
        raise ValueError(f"save_at must be a vector of times, got shape {times.shape}")
    times = times.copy()
    if t_end is not None:
        times[np.abs(times - t_end) <= _ROUNDING * t_end] = t_end
    for k, t in enumerate(times):
        if not (math.isfinite(t) and t >= 0.0):
            raise ValueError(f"save_at[{k}] must be finite and at least 0, got {t}")
        if k and t <= times[k - 1]:
            raise ValueError(f"save_at must increase, but save_at[{k}] = {t:g} follows {times[k - 1]:g}")
        if k and t - times[k - 1] <= _ROUNDING * t:
            raise ValueError(f"save_at[{k}] = {t:.17g} is save_at[{k - 1}] but for rounding; leave one of them out")
        if t_end is not None and t > t_end:
            raise ValueError(f"save_at[{k}] = {t:g} lies beyond t_end = {t_end:g}")
    return times
