"""The project's one way to compile: `njit`, with an on-disk cache that cannot be stale (`_kernel_cache`).

A function with a declared signature is compiled once, by itself; other kernels call it by its name, as they would a
function of a C library.  Numba alone would compile it anew, inside of each of them: that made the first run of all
four times as long.
"""

import ctypes
import functools
import inspect
import re
from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.compiler_lock import global_compiler_lock
from numba.core.errors import TypingError
from numba.extending import get_cython_function_address, intrinsic, lower_builtin, type_callable

from ._kernel_cache import KernelCache, find_folder, source_digest

__all__ = ["DATA_MATRIX", "DATA_VECTOR", "INTEGERS", "MATRIX", "REDUCTION", "SINGLE_DATA_MATRIX", "SINGLE_DATA_VECTOR",
           "SINGLE_MATRIX", "SINGLE_VECTOR", "VECTOR", "Blas", "Kernel", "address",
           "cache_folder", "caller", "entry_point", "njit", "source_digest"]

_numba_settings: Any = numba.config

#: Flags for reductions only: sums may be reordered into vector lanes and fused.  NaN and Inf keep their meaning.
REDUCTION = {"reassoc", "contract"}

VECTOR = types.Array(types.float64, 1, "C")
MATRIX = types.Array(types.float64, 2, "C")
INTEGERS = types.Array(types.int64, 1, "C")
#: Data are passed as read-only: a kernel that writes to them does not compile.
DATA_VECTOR = types.Array(types.float64, 1, "C", readonly=True)
DATA_MATRIX = types.Array(types.float64, 2, "C", readonly=True)

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
        # Said to each kernel: one that does not say it inherits it from the caller for which it is compiled.
        counting = {} if signature is None else {"_nrt": allocates, "no_cfunc_wrapper": True}
        compiled: Any = numba.njit(nogil=True, error_model="numpy", fastmath=fastmath, forceinline=inline, **counting)(function)
        if _numba_settings.DISABLE_JIT:
            return compiled
        folder = cache_folder()
        if folder is not None:
            compiled._cache = KernelCache(function, folder, _names_in, _provide)
        return compiled if signature is None else Kernel(compiled, signature)

    return decorate


class Kernel:
    """A compiled function of one declared signature.

    From Python it is called as any function; see also `entry_point`.  In other kernels its name is enough, too: they call the
    one compiled copy.  Arguments must be of the types declared, or arrays that may be written to where read-only ones are.
    """

    def __init__(self, dispatcher, signature):
        functools.update_wrapper(self, dispatcher.py_func)
        self.dispatcher, self.signature = dispatcher, signature
        function = dispatcher.py_func
        # Functions made by functions have no name by which another process would find them: they become parts of their callers.
        if "<locals>" in function.__qualname__ or function.__closure__:
            self._numba_type_ = numba.typeof(dispatcher)
        else:
            self.symbol = f"{_PREFIX}{function.__module__}.{function.__qualname__}"
            _NAMED[self.symbol] = self
            self._declare(inspect.signature(function))

    def __call__(self, *arguments):
        """Call the function from Python."""
        _compiled(self)
        return self.dispatcher(*arguments)

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

    Given `name`, such as "dsyrk", the number of its arguments, and "blas" or "lapack".
    """

    def __init__(self, name, count, library="blas"):
        self.module = f"scipy.linalg.cython_{library}"
        self.__name__, self.symbol, self.signature = name, f"{_PREFIX}{name}", types.void(*(types.voidptr,) * count)
        _NAMED[self.symbol] = self
        parameters = [inspect.Parameter(f"a{k}", inspect.Parameter.POSITIONAL_ONLY) for k in range(count)]
        _declare(self, inspect.Signature(parameters))

        @lower_builtin(self, *self.signature.args)
        def generate(context, builder, signature, given):
            kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t] * count)
            builder.call(cgutils.get_or_insert_function(builder.module, kind, self.symbol), given)
            return context.get_dummy_value()

    def __deepcopy__(self, _):
        return self

    @functools.cached_property
    def address(self):
        """Where the function is."""
        return get_cython_function_address(self.module, self.__name__)

    def __call__(self, *pointers):
        """Call the function from Python."""
        ctypes.CFUNCTYPE(None, *(ctypes.c_void_p,) * len(pointers))(self.address)(*pointers)


_PREFIX = "dln:"  # of symbols
_NAMED: dict[str, Kernel | Blas] = {}


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


@functools.cache
def _compiled(kernel):
    with global_compiler_lock:
        if not kernel.dispatcher.overloads:
            kernel.dispatcher.compile(kernel.signature)
            kernel.dispatcher.disable_compile()
        return kernel.dispatcher.get_compile_result(kernel.signature)


def entry_point(kernel):
    """Compile `kernel` for its declared signature, once, and return it for calls without any check of types.

    Numba's own dispatch spends 0.1 ms on recognising a function among the arguments: as long as a short run takes.
    """
    return kernel if _numba_settings.DISABLE_JIT else _compiled(kernel).entry_point


@functools.cache
def address(kernel):
    """Compile `kernel` for its declared signature, once, and return the number by which a kernel finds it."""
    if _numba_settings.DISABLE_JIT:
        return kernel
    if isinstance(kernel, Blas):
        found = kernel.address
    else:
        compiled = _compiled(kernel)
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
