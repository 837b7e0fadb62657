"""Kernels compiled by several processes at once, ahead of the first run that needs them.

To compile a kernel takes the signatures of those that it calls, not their code: all that a run will need can be compiled at the
same time, each kernel by another process, which writes it to the cache.  A process that finds nothing there starts a few
that import the package, share the work and end, and then loads what they have left.  They only save time: whatever they do not
do, or where they are not wanted or not possible, is compiled as it is needed.
"""

import contextlib
import gc
import os
import re
import socket
import subprocess
import sys
import time
import types
import uuid
from pathlib import Path

from ._processes import has_ended

#: Fewer kernels than this are compiled at once by the process itself: the others would still be importing.
FEW = 10
_MOST = 4  # processes: with more, the largest kernel alone decides
_LONGEST = 120.0  # seconds that a claim can count: whoever made it has been interrupted
_PAUSE = 0.02
_TURNS = 4  # to wait for others, who may compile something else

_PROGRAM = """\
import sys
sys.path[:] = {path!r}
from dln._crew import work
work({names!r})
"""


def size():
    """Return how many processes compile: `DLN_COMPILERS`, else as many as there are processors for this one, at most 4."""
    asked = os.environ.get("DLN_COMPILERS", "")
    if asked.isdecimal():
        return int(asked)
    able = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(able, _MOST)


def compile_ahead(kernels, folder, is_kept):
    """Have these kernels, and those of this package that they call, compiled by other processes, and wait for them.

    Parameters
    ----------
    kernels : sequence of Kernel
    folder : str
        Where compiled kernels are kept.
    is_kept : callable
        ``is_kept(kernel)``: whether it is there.
    """
    program = Path(sys.executable or "")
    if size() < 2 or not program.name.lower().startswith("python"):  # other programs with a Python inside are no interpreters
        return
    claim = Claim(folder, "crew")
    with contextlib.suppress(OSError):
        for _ in range(_TURNS):
            if all(map(is_kept, kernels)):
                return
            missing = [kernel for kernel in called_by(kernels) if not is_kept(kernel)]
            if len(missing) < FEW:
                return
            if claim.take():
                # The longest first: what is left at the end should be short.
                missing.sort(key=lambda kernel: -len(kernel.py_func.__code__.co_code))
                try:
                    _lead([kernel.symbol for kernel in missing], folder)
                finally:
                    claim.leave()
                return
            while claim.counts() and not all(map(is_kept, kernels)):  # somebody else leads
                time.sleep(_PAUSE)


def _lead(names, folder):
    program = _PROGRAM.format(path=sys.path, names=names)
    environment = {**os.environ, "DLN_CACHE_DIR": str(Path(folder).parent), "DLN_COMPILERS": "1"}
    crew = []
    try:
        for _ in range(size()):
            crew.append(subprocess.Popen([sys.executable, "-c", program], env=environment, stdin=subprocess.DEVNULL,
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        for process in crew:
            process.wait()
    finally:
        for process in crew:
            process.kill()  # nothing, once it has ended
            process.wait()


def work(names):
    """Compile, as one of several, the kernels of these names, and keep them; run nothing."""
    from . import _jit

    gc.disable()  # it would look through all of numba again and again
    folder = _jit.cache_folder()
    for name in names:
        kernel = _jit.named(name)
        claim = Claim(folder, re.sub(r"\W+", "-", name))
        if not _jit.is_kept(kernel) and claim.take():
            try:
                if not _jit.is_kept(kernel):  # it may have been finished in between
                    _jit.compile_only(kernel)
            finally:
                claim.leave()


def called_by(kernels):
    """Return the kernels of this package that `kernels` call by name, they in turn, and so on; and themselves."""
    found, left = {}, list(kernels)
    while left:
        value = left.pop()
        function = getattr(value, "py_func", None)
        if isinstance(function, types.FunctionType) and function not in found:
            found[function] = value
            left += _seen(function, function.__code__)
    return [value for value in found.values() if hasattr(value, "symbol") and value.__module__.startswith(f"{__package__}.")]


def _seen(function, code):
    """Return what compiled code may call: the values of its names, and of those in modules that it names."""
    there = function.__globals__
    values = [there[name] for name in code.co_names if name in there]
    for module in [value for value in values if isinstance(value, types.ModuleType)]:
        values += [getattr(module, name) for name in code.co_names if hasattr(module, name)]
    return values


class Claim:
    """A file that says that somebody is at something: it holds the computer's name and the number of the process."""

    def __init__(self, folder, name):
        self.path = Path(folder) / f"{name}.claim"
        self.mine = f"{socket.gethostname()} {os.getpid()}"

    def take(self):
        """Return whether it is ours now; a claim that does not count is taken over."""
        if self.path.exists() and not self.counts():
            with contextlib.suppress(OSError):
                os.replace(self.path, gone := self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex}"))
                gone.unlink()
        try:
            with open(self.path, "x") as file:
                file.write(self.mine)
        except FileExistsError:
            return False
        return True

    def leave(self):
        """Give it up."""
        with contextlib.suppress(OSError):
            self.path.unlink()

    def counts(self):
        """Whether there is a claim, and not one that an interrupted process has left."""
        try:
            host, _, number = self.path.read_text().partition(" ")
            recent = abs(time.time() - self.path.stat().st_mtime) < _LONGEST
        except OSError:
            return False
        return recent and not (number.isdecimal() and has_ended(host, int(number)))
