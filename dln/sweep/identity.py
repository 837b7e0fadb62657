"""What a sweep is, as plain words and numbers: so that a store is resumed by the same sweep only."""

import functools
import hashlib
import inspect
import pickle
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from ..problem import Problem


def digest(*parts):
    """Return a short digest of bytes, arrays and words."""
    state = hashlib.blake2b(digest_size=10)
    for part in parts:
        if isinstance(part, np.ndarray):
            state.update(str((part.dtype.str, part.shape)).encode())
            part = np.ascontiguousarray(part).tobytes()
        state.update(part if isinstance(part, bytes) else str(part).encode())
        state.update(b"\0")
    return state.hexdigest()


def describe(value):
    """Return a value as something that JSON can hold and that is equal for equal values only."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else repr(value)
    if isinstance(value, np.ndarray):
        return f"array {value.shape} {digest(value)}"
    if isinstance(value, Problem):
        truth = b"" if value.truth is None else value.truth
        return f"data {value.X.shape} {digest(value.X, value.y, truth)}"
    if isinstance(value, (list, tuple)):
        return [describe(entry) for entry in value]
    if isinstance(value, dict):
        return {str(key): describe(entry) for key, entry in value.items()}
    if isinstance(value, functools.partial):
        return {"function": describe(value.func), "arguments": describe(value.args), "named": describe(value.keywords)}
    if is_dataclass(value) and not isinstance(value, type):
        return {"type": type(value).__name__} | {field.name: describe(getattr(value, field.name)) for field in fields(value)}
    if callable(value):
        return _describe_function(value)
    try:
        return f"{type(value).__name__} {digest(pickle.dumps(value))}"
    except Exception:  # it can be anything, and cannot be sent to other processes either
        return f"{type(value).__name__} {value!r}"


def _describe_function(function, seen=()):
    """Return a function's name, its source, and the values that it has closed over: the same source may mean another one."""
    kind = function if hasattr(function, "__qualname__") else type(function)
    name = f"{kind.__module__}.{kind.__qualname__}"
    told: dict[str, Any] = {"function": name}
    values: list[Any] = []
    if not name.startswith("dln."):  # of those the version says the rest
        code = getattr(kind, "__code__", None)
        try:
            told["source"] = digest(inspect.getsource(kind if code is None else code))  # of itself, not of what it wraps
        except (OSError, TypeError):  # typed at a prompt
            if code is not None:
                told["source"] = digest(code.co_code, code.co_consts, code.co_names)
        values += [getattr(function, "__defaults__", None), getattr(function, "__kwdefaults__", None)]
    for cell in getattr(function, "__closure__", None) or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:  # not yet filled
            values.append(None)
    if kind is not function:
        values.append(getattr(function, "__dict__", None))
    elif inspect.ismethod(function):
        values.append(function.__self__)
    seen = (*seen, id(function))
    inner = [_describe_function(value, seen) if inspect.isfunction(value) else describe(value)
             for value in values if _given(value) and id(value) not in seen]
    return told | {"values": inner} if inner else name if len(told) == 1 else told


def _given(value):
    return value is not None and not (isinstance(value, (tuple, dict)) and not value)


def difference(there, here, name=""):
    """Return the first thing that differs between two descriptions, in words, or None."""
    if type(there) is not type(here) and not (isinstance(there, (int, float)) and isinstance(here, (int, float))):
        return f"{name} is {_short(there)} there and {_short(here)} here"
    if isinstance(there, dict):
        for key in (*there, *(key for key in here if key not in there)):
            inner = f"{name} {key}".strip()
            if key not in here or key not in there:
                return f"{inner} is given only {'there' if key in there else 'here'}"
            found = difference(there[key], here[key], inner)
            if found:
                return found
        return None
    if isinstance(there, list):
        if len(there) != len(here):
            return f"{name} has {len(there)} values there and {len(here)} here"
        for k, (left, right) in enumerate(zip(there, here, strict=True)):
            found = difference(left, right, f"{name}[{k}]")
            if found:
                return found
        return None
    return None if there == here else f"{name} is {_short(there)} there and {_short(here)} here"


def _short(value):
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
