"""The project's one way to compile: `njit` with an on-disk cache that cannot be stale.

Numba keys its own cache by the file of the function alone, so a kernel is served stale when a kernel that it calls, in
another file, has changed.  Here the cache folder carries a digest of *all* sources of the package: any change of any
of them opens a new, empty folder.
"""

import functools
import hashlib
import os
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

_numba_settings: Any = numba.config

#: Flags for reductions only: sums may be reordered into vector lanes and fused.  NaN and Inf keep their meaning.
REDUCTION = {"reassoc", "contract"}

VECTOR = types.Array(types.float64, 1, "C")
MATRIX = types.Array(types.float64, 2, "C")
INTEGERS = types.Array(types.int64, 1, "C")
#: Data are passed as read-only: a kernel that writes to them does not compile.
DATA_VECTOR = types.Array(types.float64, 1, "C", readonly=True)
DATA_MATRIX = types.Array(types.float64, 2, "C", readonly=True)


def source_digest(folder=None):
    """Return a short digest of every Python source below `folder` (default: this package)."""
    folder = Path(__file__).parent if folder is None else Path(folder)
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


@functools.cache
def cache_folder():
    """Return the folder for compiled kernels: `DLN_CACHE_DIR`, else the user's cache, else a temporary folder."""
    candidates = [os.environ.get("DLN_CACHE_DIR"), os.environ.get("NUMBA_CACHE_DIR")]
    base = os.environ.get("XDG_CACHE_HOME")
    if base is None and (home := os.environ.get("HOME") or os.environ.get("USERPROFILE")):
        base = os.path.join(home, ".cache")
    if base is not None:
        candidates.append(os.path.join(base, "dln"))
    candidates.append(os.path.join(tempfile.gettempdir(), f"dln-{getattr(os, 'getuid', lambda: 0)()}"))
    for candidate in filter(None, candidates):
        folder = Path(candidate) / f"kernels-{source_digest()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return str(folder)
        except OSError:
            continue
    return None


@contextmanager
def _cache_at(folder):
    # Numba reads the folder once, when a function is decorated; other packages' kernels must not see ours.
    previous = _numba_settings.CACHE_DIR
    _numba_settings.CACHE_DIR = folder
    try:
        yield
    finally:
        _numba_settings.CACHE_DIR = previous


def njit(signature=None, *, fastmath=False):
    """Compile a function in nopython mode, releasing the GIL, cached on disk.

    Parameters
    ----------
    signature : numba signature, optional
        Compile for these types when the function is first *used*, not when it is defined.
    fastmath : set of str or False
        `REDUCTION` for kernels made of sums; never the blanket ``True``, which removes NaN checks.
    """
    if fastmath is True:
        raise ValueError("fastmath must be REDUCTION or False: the blanket flag removes NaN checks")

    def decorate(function):
        folder = cache_folder()
        with _cache_at(folder or ""):
            compiled = numba.njit(cache=folder is not None, nogil=True, error_model="numpy", fastmath=fastmath)(function)
        if signature is None or _numba_settings.DISABLE_JIT:
            return compiled
        _SIGNATURES[compiled] = signature
        return compiled

    return decorate


_SIGNATURES: dict = {}


_COMPILED: dict = {}
_COMPILING = threading.RLock()


def _compiled(function):
    found = _COMPILED.get(function)
    if found is None:
        with _COMPILING:  # of two threads that need it at once one compiles, which the other then finds disabled
            found = _COMPILED.get(function)
            if found is None:
                signature = _SIGNATURES[function]
                function.compile(signature)
                function.disable_compile()
                found = _COMPILED[function] = function.get_compile_result(signature)
    return found


def entry_point(function):
    """Compile `function` for its declared signature, once, and return it for calls without any check of types.

    Numba's own dispatch spends 0.1 ms on recognising a function among the arguments: as long as a short run takes.
    """
    return function if _numba_settings.DISABLE_JIT else _compiled(function).entry_point


@functools.cache
def address(function):
    """Compile `function` for its declared signature, once, and return the number by which a kernel finds it."""
    if _numba_settings.DISABLE_JIT:
        return function
    compiled = _compiled(function)
    return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)


def caller(signature):
    """Return ``call(address, arguments)``, for use in kernels: it calls the function of this signature at `address`.

    A kernel that takes functions as numbers is compiled once for all of them.  Numba's first-class functions do the same,
    but every call from Python then looks their addresses up anew, which takes as long as a step of a small run.
    """
    if _numba_settings.DISABLE_JIT:
        return lambda function, arguments: function(*arguments)

    @intrinsic
    def call(typing_context, at, arguments):
        if not isinstance(at, types.Integer) or tuple(arguments) != tuple(signature.args):
            raise TypingError(f"a function of signature {signature} is called with {arguments} at {at}")

        def generate(context, builder, _, given):
            convention = context.call_conv
            function = builder.inttoptr(
                given[0], convention.get_function_type(signature.return_type, signature.args).as_pointer())
            status, result = convention.call_function(
                builder, function, signature.return_type, signature.args,
                cgutils.unpack_tuple(builder, given[1], len(signature.args)))
            with cgutils.if_unlikely(builder, status.is_error):
                convention.return_status_propagate(builder, status)
            return context.get_dummy_value() if signature.return_type == types.none else result

        return signature.return_type(at, arguments), generate

    return call
