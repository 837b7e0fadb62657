"""The project's one way to compile: `njit`, with an on-disk cache that cannot be stale (`_kernel_cache`).

A function with a declared signature is compiled once, by itself; other kernels call it by its name, as they would a
function of a C library.  Numba alone would compile it anew, inside of each of them: that made the first run of all
four times as long.
"""

import _thread
import ctypes
import functools
import importlib
import inspect
import os
import re
import threading
import traceback
from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.compiler_lock import global_compiler_lock
from numba.core.errors import TypingError
from numba.extending import get_cython_function_address, intrinsic, lower_builtin, type_callable

from ._crew import compile_ahead
from ._kernel_cache import KernelCache, find_folder, source_digest

__all__ = ["DATA_INTEGERS", "DATA_MATRIX", "DATA_VECTOR", "INTEGERS", "MATRIX", "REDUCTION", "SINGLE_DATA_MATRIX",
           "SINGLE_DATA_VECTOR", "SINGLE_MATRIX", "SINGLE_VECTOR", "TENSOR", "VECTOR", "Blas", "Kernel", "address",
           "cache_folder", "caller", "compile_only", "compile_together", "entry_point", "is_kept", "named", "njit",
           "source_digest"]

_numba_settings: Any = numba.config

#: Flags for reductions only: sums may be reordered into vector lanes and fused.  NaN and Inf keep their meaning.
REDUCTION = {"reassoc", "contract"}

VECTOR = types.Array(types.float64, 1, "C")
MATRIX = types.Array(types.float64, 2, "C")
INTEGERS = types.Array(types.int64, 1, "C")
TENSOR = types.Array(types.float64, 3, "C")
#: Data are passed as read-only: a kernel that writes to them does not compile.
DATA_VECTOR = types.Array(types.float64, 1, "C", readonly=True)
DATA_MATRIX = types.Array(types.float64, 2, "C", readonly=True)
DATA_INTEGERS = types.Array(types.int64, 1, "C", readonly=True)

# The same in single precision.
SINGLE_VECTOR = types.Array(types.float32, 1, "C")
SINGLE_MATRIX = types.Array(types.float32, 2, "C")
SINGLE_DATA_VECTOR = types.Array(types.float32, 1, "C", readonly=True)
SINGLE_DATA_MATRIX = types.Array(types.float32, 2, "C", readonly=True)

cache_folder = functools.cache(find_folder)


def njit(signature=None, *, fastmath=False, allocates=True, inline=False):
    """Compile a function in nopython mode, releasing the GIL, cached on disk.

    Parameters
    ----------
    signature : numba signature, optional
        Compile for these types, once, when the function is first *used*, not when it is defined: a `Kernel`.  Without, the
        function becomes a part of each kernel that calls it.
    fastmath : set of str or False
        `REDUCTION` for kernels made of sums; never the blanket ``True``, which removes NaN checks.
    allocates : bool
        False for a kernel that makes no arrays and calls no function without signature that returns one: it then counts no
        references.  Otherwise each argument and each slice costs two calls, a tenth of the time of a run.
    inline : bool
        Make it a part of its callers wherever it is called, for functions without signature: LLVM leaves alone those that are
        large or called twice, and a call that hands over vectors costs some ten nanoseconds.
    """
    if fastmath is True:
        raise ValueError("fastmath must be REDUCTION or False: the blanket flag removes NaN checks")

    def decorate(function):
        if signature is None or _numba_settings.DISABLE_JIT:
            return _dispatcher(function, fastmath=fastmath, forceinline=inline)
        # Said to each kernel: one that does not say it inherits it from the caller for which it is compiled.
        return Kernel(_dispatcher(function, fastmath=fastmath, forceinline=inline, _nrt=allocates,
                                  no_cpython_wrapper=_has_name(function)), signature)

    return decorate


def _dispatcher(function, **options):
    # What C functions would call is never used, and costs a compilation.
    compiling: Any = numba.njit  # some of its options are not in its types
    made = compiling(nogil=True, error_model="numpy", no_cfunc_wrapper=True, **options)(function)
    if not _numba_settings.DISABLE_JIT and (folder := cache_folder()) is not None:
        made._cache = KernelCache(function, folder, _names_in, _provide)
    return made


def _has_name(function):
    """Whether another process would find the function by its name: one made by a function has none."""
    return "<locals>" not in function.__qualname__ and not function.__closure__


class Kernel:
    """A compiled function of one declared signature.

    From Python it is called as any function; see also `entry_point`.  In other kernels its name is enough, too: they call the
    one compiled copy.  Arguments must be of the types declared, or arrays that may be written to where read-only ones are.
    """

    def __init__(self, dispatcher, signature):
        functools.update_wrapper(self, dispatcher.py_func)
        self.dispatcher, self.signature = dispatcher, signature
        function = dispatcher.py_func
        if _has_name(function):
            self.symbol = f"{_PREFIX}{function.__module__}.{function.__qualname__}"
            _NAMED[self.symbol] = self
            self._declare(inspect.signature(function))
        else:  # it becomes a part of its callers
            self._numba_type_ = numba.typeof(dispatcher)

    @functools.cached_property
    def door(self):
        """The dispatcher by which Python comes in: a function of its own, which most kernels never need.

        To take some twenty arrays out of Python's objects is as much to compile as many a kernel.
        """
        if not hasattr(self, "symbol"):
            return self.dispatcher
        function = self.dispatcher.py_func
        names = ", ".join(inspect.signature(function).parameters)
        there = {"kernel": self, "__name__": function.__module__}
        exec(compile(f"def door({names}): return kernel({names})", function.__code__.co_filename, "exec"), there)
        door = there["door"]
        door.__name__, door.__qualname__ = f"{function.__name__}_door", f"{function.__qualname__}.door"
        return _dispatcher(door, _nrt=_holds_arrays(self.signature.return_type))

    def __call__(self, *arguments):
        """Call the function from Python."""
        entry_point(self)
        return self.door(*arguments)

    def __getattr__(self, name):
        if name in ("dispatcher", "_numba_type_", "symbol"):
            raise AttributeError(name)
        return getattr(self.dispatcher, name)

    def __repr__(self):
        return f"<kernel {self.__module__}.{self.__qualname__}>"

    def __reduce__(self):
        return self.__qualname__  # by its name, as functions are

    def __deepcopy__(self, _):
        return self  # numba copies statements, and what they name

    def _declare(self, parameters):
        """Teach numba to call the function by its symbol."""
        signature = self.signature
        _declare(self, parameters)

        @lower_builtin(self, *signature.args)
        def generate(context, builder, _, given):
            kind = context.call_conv.get_function_type(signature.return_type, signature.args)
            function = cgutils.get_or_insert_function(builder.module, kind, self.symbol)
            return _call(context, builder, function, signature, given)


class Blas:
    """A function of SciPy's BLAS or LAPACK for use in kernels: it takes pointers, such as ``array.ctypes``, returns nothing.

    Given `name`, such as "dsyrk", the number of its arguments, and "blas" or "lapack".  SciPy is imported at the first call:
    small problems make none, and that would be an eighth of the time of the command line.
    """

    def __init__(self, name, count, library="blas"):
        self.module = f"scipy.linalg.cython_{library}"
        self.__name__, self.symbol, self.signature = name, f"{_PREFIX}{name}", types.void(*(types.voidptr,) * count)
        self._kind = ctypes.CFUNCTYPE(None, *(ctypes.c_void_p,) * count)
        self._first = self._kind(self._find)  # kept: the pointer may be in use
        self.place = ctypes.c_void_p(ctypes.cast(self._first, ctypes.c_void_p).value)  # kernels find it by the symbol
        _NAMED[self.symbol] = self
        parameters = [inspect.Parameter(f"a{k}", inspect.Parameter.POSITIONAL_ONLY) for k in range(count)]
        _declare(self, inspect.Signature(parameters))

        @lower_builtin(self, *self.signature.args)
        def generate(context, builder, signature, given):
            kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t] * count).as_pointer()
            builder.call(builder.load(context.get_c_value(builder, kind, self.symbol)), given)
            return context.get_dummy_value()

    def __deepcopy__(self, _):
        return self

    def _find(self, *pointers):
        """Stand in for the function until it is called: find it, and call it."""
        # The kernel that called sees no exception, and would go on without a result.
        interrupted = found = False
        while not found:
            try:
                self.place.value = get_cython_function_address(self.module, self.__name__)
                found = True
            except KeyboardInterrupt:
                interrupted = True
            except BaseException:
                traceback.print_exc()
                os.abort()
        if interrupted:
            threading.Timer(_AFTER_A_CALL, _thread.interrupt_main).start()
        self(*pointers)

    def __call__(self, *pointers):
        """Call the function from Python."""
        ctypes.cast(self.place, self._kind)(*pointers)


_PREFIX = "dln:"  # of symbols
_AFTER_A_CALL = 0.05  # seconds: an interrupt is put off by so much
_NAMED: dict[str, Kernel | Blas] = {}
_NOWHERE = ctypes.c_char()  # for the linker of a process that runs nothing
_runs_nothing = False


def _declare(function, parameters):
    def typer(*_):
        address(function)  # there before any code that calls it
        return function.signature

    typer.__signature__ = parameters  # type: ignore[attr-defined]
    type_callable(function)(lambda _: typer)


def _names_in(compiled):
    """Return the symbols of the kernels that machine code calls."""
    return sorted(set(re.findall(rf'"({_PREFIX}[^"]+)"', compiled.library.get_llvm_str())))


def _provide(symbol):
    address(_NAMED[symbol])


def _holds_arrays(kind: Any) -> bool:
    parts: Any = kind if isinstance(kind, types.BaseTuple) else ()
    return isinstance(kind, types.Array) or any(_holds_arrays(part) for part in parts)


def _borrowed(builder, kind, value):
    """Return an argument, array or tuple of arrays, without its claim on the memory: what is cut from it needs no count."""
    if isinstance(kind, types.Array):
        for place in range(2):  # the memory's counter, and the Python object
            nothing = ir.Constant(value.type.elements[place], None)
            value = builder.insert_value(value, nothing, place)
    elif _holds_arrays(kind):
        for place, part in enumerate(kind):
            item = _borrowed(builder, part, builder.extract_value(value, place))
            value = builder.insert_value(value, item, place)
    return value


def _call(context, builder, function, signature, given):
    # The caller keeps what it lends until the call is over.  Atomic counters took a tenth of the time of a run.
    if not _holds_arrays(signature.return_type):
        given = [_borrowed(builder, kind, value) for kind, value in zip(signature.args, given, strict=True)]
    convention = context.call_conv
    status, result = convention.call_function(builder, function, signature.return_type, signature.args, given)
    with cgutils.if_unlikely(builder, status.is_error):
        convention.return_status_propagate(builder, status)
    return context.get_dummy_value() if signature.return_type == types.none else result


def _compiled(dispatcher, signature):
    with global_compiler_lock:
        if not dispatcher.overloads:
            dispatcher.compile(signature)
            dispatcher.disable_compile()
        return dispatcher.get_compile_result(signature)


@functools.cache
def _entry_point(kernel):
    compile_together(kernel)
    return _compiled(kernel.door, kernel.signature).entry_point


def compile_together(*kernels):
    """Compile all that these kernels need and that is not on disk, by several processes at once if it is much."""
    folder = None if _numba_settings.DISABLE_JIT else cache_folder()
    if folder is not None:
        with global_compiler_lock:
            compile_ahead(kernels, folder, is_kept)


def named(symbol):
    """Return the kernel of a symbol."""
    if symbol not in _NAMED:
        importlib.import_module(symbol.removeprefix(_PREFIX).rpartition(".")[0])
    return _NAMED[symbol]


def is_kept(kernel):
    """Whether the compiled kernel is on disk."""
    cache = kernel.dispatcher._cache
    return isinstance(cache, KernelCache) and cache.has(kernel.signature, kernel.dispatcher.targetctx)


def compile_only(kernel):
    """Compile a kernel and keep it on disk, without those that it calls: this process cannot run kernels any more."""
    global _runs_nothing
    _runs_nothing = True
    _compiled(kernel.dispatcher, kernel.signature)


def entry_point(kernel):
    """Compile `kernel` for its declared signature, once, and return it for calls without any check of types.

    Numba's own dispatch spends 0.1 ms on recognising a function among the arguments: as long as a short run takes.
    """
    return kernel if _numba_settings.DISABLE_JIT else _entry_point(kernel)


@functools.cache
def address(kernel):
    """Compile `kernel` for its declared signature, once, and return the number by which a kernel finds it."""
    if _numba_settings.DISABLE_JIT:
        return kernel
    if _runs_nothing:
        found = ctypes.addressof(_NOWHERE)
    elif isinstance(kernel, Blas):
        found = ctypes.addressof(kernel.place)
    else:
        compiled = _compiled(kernel.dispatcher, kernel.signature)
        found = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    if hasattr(kernel, "symbol"):
        llvm.add_symbol(kernel.symbol, found)
    return found


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
            function = builder.inttoptr(
                given[0], context.call_conv.get_function_type(signature.return_type, signature.args).as_pointer())
            return _call(context, builder, function, signature,
                         cgutils.unpack_tuple(builder, given[1], len(signature.args)))

        return signature.return_type(at, arguments), generate

    return call
