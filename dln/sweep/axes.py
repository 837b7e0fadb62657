"""What is swept: axes with one parameter or several zipped ones, and where each parameter goes: data, rule or clock."""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from .._suggest import unknown
from ..flow import flow
from ..integrate.tiles import flow_tile
from ..problem import Problem, shown

#: Parameters that are real numbers: whole ones are converted, so that 1 and 1.0 make the same grid.
REAL = frozenset({"alpha", "log_alpha", "log_ratio", "gamma", "epsilon", "rho", "step", "level", "decay", "strength", "depth",
                  "noise", "label_noise", "momentum", "inertia", "t_end", "dt", "rtol", "residual_tol"})
#: Arguments that are sequences by nature, and so never an axis.
WHOLE = frozenset({"save_at", "initial_weights", "breakpoints"})
#: Scales may be given per coordinate: an axis of K of them is an array (K, d).
VECTORS = frozenset({"alpha", "log_alpha", "log_ratio", "decay", "strength"})

DATA, RULE, CLOCK = "problem", "rule", "clock"


@dataclass(frozen=True, eq=False)
class Axis:
    """One dimension of the grid.

    Attributes
    ----------
    name : str
        The dimension's name: the parameter, or those that are zipped, joined by underscores.
    values : dict of str to tuple
        The values of each parameter, all of one length.
    """

    name: str
    values: dict

    @property
    def size(self):
        """Number of values."""
        return len(next(iter(self.values.values())))


def zipped(**parameters):
    """Make one axis along which several parameters change together.

    Parameters
    ----------
    **parameters : sequence
        Two or more, all of one length, such as ``gamma=[0.1, 0.2], epsilon=[0.1, 0.2]``.

    Returns
    -------
    Axis
        To be passed to `dln.sweep` by position; the dimension is called ``gamma_epsilon``.

    Raises
    ------
    ValueError, TypeError
        If the lengths differ, or something is no sequence.
    """
    if len(parameters) < 2:
        raise ValueError(f"zipped needs two parameters or more, got {', '.join(parameters) or 'none'}")
    for name, value in parameters.items():
        if not is_axis(name, value):
            raise TypeError(f"{name} must be a sequence of values to be zipped, got {shown(value)}")
    values = {name: checked_values(name, value) for name, value in parameters.items()}
    lengths = {name: len(column) for name, column in values.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"zipped parameters must have one length: {told} values")
    return Axis("_".join(parameters), values)


def is_axis(name, value):
    """Whether a value is a sequence to sweep over, and not one value."""
    if name in WHOLE or value is None or isinstance(value, (str, bytes, Problem, Mapping)) or callable(value):
        return False
    return np.ndim(value) > 0 if isinstance(value, np.ndarray) else isinstance(value, Iterable)


def checked_values(name, value):
    """Return the values of an axis as a tuple; else a one-line error that names the first bad one."""
    values = list(value)
    if not values:
        raise ValueError(f"{name} is empty: give at least one value, or leave it out")
    return tuple(checked_value(name, entry, f"{name}[{k}]") for k, entry in enumerate(values))


def checked_value(name, value, place=None):
    """Return one value of a parameter as a plain number, word, vector or object."""
    place = place or name
    if isinstance(value, (np.generic, np.ndarray)) and np.ndim(value) == 0:
        value = value.item()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not np.isfinite(value):
            raise ValueError(f"{place} is {value}: every value must be finite")
        return float(value) if name in REAL else value
    if isinstance(value, (list, tuple, np.ndarray)):
        if name in WHOLE:
            return value
        if name not in VECTORS:
            raise TypeError(f"{place} must be one value, got {shown(value)}")
        try:
            vector = np.array(value, dtype=float)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{place} must be a number or a vector of numbers, got {shown(value)}") from error
        if vector.ndim != 1 or not np.isfinite(vector).all():
            raise ValueError(f"{place} must be a number or a vector of finite numbers, got {shown(value)}")
        vector.flags.writeable = False
        return vector
    return value


@dataclass(frozen=True)
class Router:
    """Says where a parameter goes: to the function that makes the data, to the rule, to the clock (`flow`, `descend`, ...)."""

    clock: Any
    rule_type: Any
    factory: Any = None

    def _arguments(self, function):
        return [name for name, parameter in inspect.signature(function).parameters.items()
                if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)]

    @property
    def of_clock(self):
        """Arguments of the clock; for `flow` also those of the kernel for whole tiles."""
        more = tile_arguments() if self.clock is flow else []
        return [name for name in self._arguments(self.clock) if name not in ("problem", "rule")] + more

    @property
    def of_rule(self):
        """Parameters of the rule."""
        return [field.name for field in fields(self.rule_type) if field.init]

    @property
    def of_factory(self):
        """Arguments of the function that makes the data."""
        return [] if self.factory is None else self._arguments(self.factory)

    def targets(self, name, value):
        """Return the ``(DATA | RULE | CLOCK, argument)`` that a parameter goes to, at least one; else a one-line error."""
        data, rule, clock = self.of_factory, self.of_rule, self.of_clock
        if name == "seed":
            found = [(DATA, word) for word in ("seed", "rng") if word in data][:1]
            found += [(CLOCK, "rng")] if "rng" in clock else []
            if not found:
                raise ValueError(f"seed: neither the data nor dln.{self.clock.__name__} draw anything; leave it out, or give a "
                                 f"function of a seed as the problem")
            return tuple(found)
        if name in data:
            return ((DATA, name),)
        if name == "noise" and not isinstance(value, str) and "label_noise" in clock:
            return ((CLOCK, "label_noise"),)
        if name == "rng":
            raise ValueError("rng: give seed=, a number or several: a generator would give other numbers at every call")
        if name in clock:
            return ((CLOCK, name),)
        field = {"decay": "strength"}.get(name, name)
        if field in rule:
            return ((RULE, field),)
        raise ValueError(self._nowhere(name, data, rule, clock))

    def _nowhere(self, name, data, rule, clock):
        if name in ("gamma", "epsilon", "rho", "level", "decay", "step", "noise"):
            has = f"it has {', '.join(rule)}" if rule else "it has none"
            return f"rule {self.rule_type.__name__} has no parameter {name!r} ({has}), nor has dln.{self.clock.__name__}"
        return unknown("parameter", name, [*rule, *clock, *data, "seed"])


def tile_arguments():
    """Return the arguments that `flow` does not have, but the kernel for whole tiles: `limits_only` and its tolerance."""
    known = {*inspect.signature(flow).parameters, "rules", "log_alphas", "log_ratios"}
    return [name for name in inspect.signature(flow_tile).parameters if name not in known]
