"""Compiled kernels on disk: where they are kept, how they are found again, and when they are thrown away.

Numba keys its own cache by the file of the function alone, so a kernel is served stale when a kernel that it calls, in
another file, has changed.  Here the cache folder carries a digest of *all* sources of the package: any change of any
of them opens a new, empty folder.  A kernel is one file with a digest ahead, replaced as a whole: processes that start
together cannot garble it, and what is truncated or damaged is compiled again.
"""

import functools
import hashlib
import os
import pickle
import re
import shutil
import sys
import tempfile
import time
import types as python_types
import uuid
from pathlib import Path

import numba
import numpy as np
from numba.core.compiler import CompileResult
from numba.core.dispatcher import Dispatcher
from numba.core.environment import Environment, lookup_environment
from numba.core.runtime import rtsys
from numba.core.serialize import dumps
from numba.core.typing import Signature

from ._machine import VECTOR_WIDTH

_PACKAGE = Path(__file__).resolve().parent
_FOLDER_NAME = re.compile(r"kernels-[0-9a-f]{16}(-old-[0-9a-f]{32})?")
_DAY = 86400.0
_KEPT = 30.0 * _DAY  # folders of other sources, after their last use
_DIGEST_SIZE = 16


def source_digest(folder=None):
    """Return a short digest of every Python source below `folder` (default: this package)."""
    folder = _PACKAGE if folder is None else Path(folder)
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


# ---------------------------------------------------------------------------------------------------------------------
# Folders


def find_folder():
    """Return the folder for compiled kernels: `DLN_CACHE_DIR`, else the user's cache, else a temporary folder, else None."""
    candidates = [os.environ.get("DLN_CACHE_DIR"), os.environ.get("NUMBA_CACHE_DIR")]
    base = os.environ.get("XDG_CACHE_HOME")
    if base is None and (home := os.environ.get("HOME") or os.environ.get("USERPROFILE")):
        base = os.path.join(home, ".cache")
    if base is not None:
        candidates.append(os.path.join(base, "dln"))
    name = f"kernels-{source_digest()}"
    for candidate in filter(None, candidates):
        if _usable(Path(candidate) / name):
            return str(Path(candidate) / name)
    # Anybody may write to the temporary folder, and kernels are code: one that belongs to somebody else is not trusted.
    temporary = Path(tempfile.gettempdir()) / f"dln-{getattr(os, 'getuid', lambda: 0)()}"
    return str(temporary / name) if _is_private(temporary) and _usable(temporary / name) else None


def _is_private(folder):
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    return not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022 and folder.is_dir()
                                         and not folder.is_symlink())


def _usable(folder):
    """Whether kernels can be kept in `folder`, which is made if need be; note that it is in use."""
    try:
        new = not folder.is_dir()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        os.utime(folder)
    except OSError:
        return False
    if new:
        prune(folder)
    return True


def prune(folder, now=None):
    """Remove the folders beside `folder` that belong to other sources and have not been used for 30 days.

    Every process notes its use when it starts.  One that has run for longer than that loses nothing but time: its kernels are
    compiled again.
    """
    oldest = (time.time() if now is None else now) - _KEPT
    try:
        others = [entry for entry in os.scandir(folder.parent) if _FOLDER_NAME.fullmatch(entry.name)]
    except OSError:
        return
    for entry in others:
        try:
            if entry.name == folder.name or not entry.is_dir(follow_symlinks=False) or entry.stat().st_mtime > oldest:
                continue
            # Under another name nobody begins to use it while it is being removed.
            doomed = folder.parent / f"{entry.name.split('-old-')[0]}-old-{uuid.uuid4().hex}"
            os.rename(entry.path, doomed)
        except OSError:
            continue  # another process is at it
        shutil.rmtree(doomed, ignore_errors=True)


# ---------------------------------------------------------------------------------------------------------------------
# Kernels


class KernelCache:
    """The compiled versions of one function, one file each; takes the place of numba's own cache in a dispatcher.

    Parameters
    ----------
    function : Python function
    folder : str
    needed : callable
        ``needed(compiled) -> names``: the kernels that machine code finds by name.
    provide : callable
        ``provide(name)`` compiles or loads such a kernel; raises KeyError if there is none of this name.
    """

    def __init__(self, function, folder, needed, provide):
        self._function, self._folder, self._needed, self._provide = function, Path(folder), needed, provide
        self.cache_path = folder

    def enable(self):
        """Do nothing: the cache is always on."""

    disable = flush = enable

    def _path(self, signature, codegen):
        code = self._function.__code__
        key = repr((numba.__version__, np.__version__, self._function.__module__, self._function.__qualname__,
                    code.co_firstlineno, signature, codegen.magic_tuple(), VECTOR_WIDTH, fingerprint(self._function)))
        name = re.sub(r"\W+", "-", self._function.__name__)
        return self._folder / f"{name}-{hashlib.blake2b(key.encode(), digest_size=12).hexdigest()}.kernel"

    def has(self, signature, target_context):
        """Whether what was compiled for `signature` is there."""
        try:
            return self._path(signature, target_context.codegen()).exists()
        except (OSError, Unknown):
            return False

    def load_overload(self, signature, target_context):
        """Return what was compiled for `signature`, or None: if there is nothing, or nothing whole."""
        # Not all of `target_context.refresh()`: to run what is compiled takes no more, and what compiles does it anyhow.
        rtsys.initialize(target_context)
        try:
            content = self._path(signature, target_context.codegen()).read_bytes()
            digest, body = content[:_DIGEST_SIZE], content[_DIGEST_SIZE:]
            if digest != _digest(body):
                return None
            needed, environments, (library, descriptor, own, *others) = pickle.loads(body)
            for name in needed:  # before the machine code that looks for them
                self._provide(name)
            environments = {name: _environment(name, *found) for name, found in environments.items()}
            arguments = library, descriptor, environments[own], *others, tuple(environments.values())
            return CompileResult._rebuild(target_context, *arguments)
        except (OSError, KeyError, AttributeError, ImportError, Unknown):
            return None

    def save_overload(self, signature, compiled):
        """Keep what was compiled for `signature`; where that is impossible (no room, no right), do without."""
        temporary = None
        try:
            path = self._path(signature, compiled.codegen)
            if compiled.library.has_dynamic_globals:
                return
            library, descriptor, own, *others, referenced = compiled._reduce()
            environments = {found.env_name: (found.globals.get("__name__"), found.consts) for found in (own, *referenced)}
            body = dumps((self._needed(compiled), environments, (library, descriptor, own.env_name, *others)))
            temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
            temporary.write_bytes(_digest(body) + body)
            os.replace(temporary, path)
        except (OSError, Unknown):
            if temporary is not None:
                try:
                    temporary.unlink()
                except OSError:
                    pass


def _environment(name, module, constants):
    """Return what machine code of a function of this module knows of Python, without importing the module.

    Numba's own way imports it, and many functions of numba's are part of a kernel: a tenth of the time of a short run.  No
    kernel looks at the globals.
    """
    found = lookup_environment(name)
    if found is None:
        found = Environment(vars(sys.modules[module]) if module in sys.modules else {"__name__": module})
        found.consts[:] = constants
        found.env_name = name
        Environment._memo[name] = found
    return found


def _digest(body):
    return hashlib.blake2b(body, digest_size=_DIGEST_SIZE).digest()


class Unknown(Exception):
    """What a function depends on cannot be told."""


def fingerprint(function):
    """Return a digest of all that the machine code of `function` depends on, outside of this package; or raise `Unknown`.

    The folder's name stands for the sources of the package.  Of a function elsewhere, such as a rule in a user's script: its
    code, that of all compiled functions that it calls, and the values of the constants that they see.
    """
    if _in_package(function):
        return ""
    digest = hashlib.blake2b(digest_size=16)
    _look_at(function, digest, set())
    return digest.hexdigest()


@functools.cache
def _resolved(filename):
    return Path(filename).resolve()


def _in_package(function):
    return _PACKAGE in _resolved(function.__code__.co_filename).parents


def _look_at(value, digest, seen):
    """Add `value`, of a name that compiled code sees, to the digest."""
    if isinstance(value, Dispatcher) or hasattr(value, "dispatcher"):
        value = value.py_func
    if isinstance(value, python_types.FunctionType):
        digest.update(f"{value.__module__}.{value.__qualname__}".encode())
        if value not in seen and not _in_package(value):
            seen.add(value)
            _look_at(value.__code__, digest, seen)
            closure = [cell.cell_contents for cell in value.__closure__ or ()]
            for name, inside in [*zip(value.__code__.co_freevars, closure, strict=True), *_globals(value, value.__code__)]:
                digest.update(name.encode())
                _look_at(inside, digest, seen)
    elif isinstance(value, python_types.CodeType):
        digest.update(value.co_code + repr((value.co_names, value.co_varnames, value.co_freevars)).encode())
        for constant in value.co_consts:
            _look_at(constant, digest, seen)
    elif isinstance(value, (tuple, frozenset)):
        digest.update(f"{type(value).__qualname__} {len(value)}".encode())
        for entry in value if isinstance(value, tuple) else sorted(value, key=repr):
            _look_at(entry, digest, seen)
    elif isinstance(value, (bool, int, float, complex, str, bytes, type(None), np.generic, numba.types.Type, Signature)):
        digest.update(f"{type(value).__qualname__} {value!r}".encode())
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        digest.update(f"{value.dtype} {value.shape}".encode() + value.tobytes())
    elif isinstance(value, python_types.ModuleType) and _is_stable(value.__name__):
        digest.update(value.__name__.encode())
    elif isinstance(value, type) and (_is_stable(value.__module__) or issubclass(value, tuple)):
        digest.update(f"{value.__module__}.{value.__qualname__} {getattr(value, '_fields', '')}".encode())
    elif isinstance(value, (python_types.BuiltinFunctionType, np.ufunc)) or _is_stable(getattr(value, "__module__", "") or ""):
        digest.update(f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value)}".encode())
    else:
        raise Unknown(f"{value!r}")


def _is_stable(module):
    return module.split(".")[0] in ("builtins", "cmath", "dln", "math", "numba", "numpy", "operator")


def _globals(function, code):
    for name in code.co_names:
        if name in function.__globals__:
            yield name, function.__globals__[name]
    for constant in code.co_consts:
        if isinstance(constant, python_types.CodeType):
            yield from _globals(function, constant)
