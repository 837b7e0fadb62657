"""The cache of compiled kernels: never stale, never fatal, whatever has become of its files."""

import ast
import copy
import os
import pickle
import subprocess
import sys
import time
import types
from pathlib import Path

import numba
import numpy as np
import pytest
from package_copies import PACKAGE, copy_of_the_package, environment, run

import dln
from dln import _jit, _kernel_cache
from dln._jit import DATA_VECTOR, VECTOR, njit

# Two kernels, in two files, the one calling the other by its name; and the package without its own imports, for speed.
CALLER = '''
from numba import types
from ._jit import DATA_VECTOR, njit
from ._probed import callee


@njit(types.float64(DATA_VECTOR))
def caller(x):
    return callee(x, 2.0) + 1.0
'''
CALLEE = '''
from numba import types
from ._jit import DATA_VECTOR, njit


@njit(types.float64(DATA_VECTOR, types.float64))
def callee(x, factor):
    if factor < 0.0:
        raise ValueError("negative")
    return factor * x[0]
'''
ALLOCATING = '''
import numpy as np
from numba import types
from ._jit import DATA_VECTOR, njit


@njit(types.float64(DATA_VECTOR, types.float64))
def callee(x, factor):
    return factor * np.full(int(factor), x[0])[0]
'''
PROBE = '''
import sys, types, pathlib
package = types.ModuleType("dln")
package.__path__ = [str(pathlib.Path("dln").resolve())]
sys.modules["dln"] = package
{before}
import numpy as np
from dln._probe import caller
from dln._probed import callee
from dln._jit import address
value = caller(np.array([3.0]))
print(value, *(sum(getattr(k.stats, kind).values()) for k in (caller, callee) for kind in ("cache_hits", "cache_misses")))
'''
COLD, WARM = "7.0 0 1 0 1", "7.0 1 0 1 0"


@pytest.fixture
def probe(tmp_path):
    package = copy_of_the_package(tmp_path)
    (package / "_probe.py").write_text(CALLER)
    (package / "_probed.py").write_text(CALLEE)

    def start(before="", **variables):
        return run(tmp_path, PROBE.format(before=before), **{"DLN_CACHE_DIR": str(tmp_path / "cache"), **variables})

    return start


def files(tmp_path):
    return sorted((tmp_path / "cache").rglob("*.kernel"))


def test_a_kernel_called_by_name_is_found_in_the_cache_and_never_stale(probe, tmp_path):
    # Reference: 2 * 3 + 1 = 7; with the callee's formula edited, 2 * 3 + 3 + 1 = 10.  The second run loads both from disk.
    assert probe() == COLD
    assert probe() == WARM
    callee = tmp_path / "dln" / "_probed.py"
    callee.write_text(CALLEE.replace("factor * x[0]", "factor * x[0] + 3.0"))
    assert probe() == COLD.replace("7.0", "10.0")


def test_what_is_loaded_imports_nothing_that_compiles(probe, tmp_path):
    # Reference: sys.modules; a kernel with code of numba's own in it, which still raises numba's own error.
    (tmp_path / "dln" / "_probed.py").write_text(ALLOCATING)
    assert probe() == COLD
    last = "import atexit\natexit.register(lambda: print('numba.np.arrayobj' in sys.modules, 'scipy.linalg' in sys.modules))"
    assert probe(last).split("\n") == [WARM, "False False"]
    code = PROBE.format(before=last) + "try:\n    callee(np.array([3.0]), -1.0)\nexcept ValueError as error:\n    print(error)"
    lines = run(tmp_path, code, DLN_CACHE_DIR=str(tmp_path / "cache")).split("\n")
    assert lines[:2] == [WARM, "negative dimensions not allowed"]


def test_eight_processes_start_cold_at_once(probe, tmp_path):
    # Reference: 2 * 3 + 1 = 7, eight times; nothing but whole kernels is left, two and a door, and a ninth process finds them.
    variables = environment(tmp_path, DLN_CACHE_DIR=str(tmp_path / "cache"))
    processes = [subprocess.Popen([sys.executable, "-W", "error", "-c", PROBE.format(before="")], env=variables, cwd=tmp_path,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(8)]
    for process in processes:
        out, err = process.communicate(timeout=200)
        assert process.returncode == 0 and out.startswith("7.0 "), err
    assert len(files(tmp_path)) == 3 and {p.suffix for p in (tmp_path / "cache").rglob("*.*")} == {".kernel"}
    assert probe() == WARM


def test_no_room_on_the_disk_means_no_cache(probe, tmp_path):
    # Reference: a limit of 1000 bytes on every file that the process writes; a kernel has more.
    before = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    assert probe(before) == COLD
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_nothing_is_written_into_the_package(probe, tmp_path):
    # Reference: the names in the folder before and after.  It is read-only, too, for all but root.
    package = tmp_path / "dln"
    before = sorted(package.rglob("*"))
    folders = [package, *(p for p in package.rglob("*") if p.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert probe() == COLD
        assert probe() == WARM
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert sorted(package.rglob("*")) == before


# --- one function, in this process -----------------------------------------------------------------------------------


def double(x):
    """Return twice x."""
    return 2.0 * x


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(_jit, "cache_folder", lambda: str(tmp_path))
    monkeypatch.setitem(sys.modules, "script", types.ModuleType("script"))
    return tmp_path


def hits_and_misses(function=double, argument=1.5):
    compiled = njit()(function)
    value = compiled(argument)
    return value, sum(compiled.stats.cache_hits.values()), sum(compiled.stats.cache_misses.values())


def damaged(content):
    """Yield what can have become of a file."""
    yield b""
    yield content[:10]
    yield content[: len(content) // 2]
    yield content[:-1]
    yield b"garbage"
    yield bytes(len(content))
    flipped = bytearray(content)
    flipped[2 * len(content) // 3] ^= 1  # in the machine code: it would be loaded, and run
    yield bytes(flipped)


def test_a_damaged_file_is_compiled_again(cache):
    # Reference: 2 * 1.5 = 3, without a word; the file is whole again afterwards.
    assert hits_and_misses() == (3.0, 0, 1)
    [path] = cache.glob("*.kernel")
    content = path.read_bytes()
    for bad in damaged(content):
        path.write_bytes(bad)
        assert hits_and_misses() == (3.0, 0, 1)
        assert hits_and_misses() == (3.0, 1, 0)
    path.unlink()
    path.mkdir()  # neither to be read nor to be replaced
    assert hits_and_misses() == (3.0, 0, 1)


def test_a_folder_that_has_gone_is_no_matter(cache, monkeypatch):
    # Reference: 2 * 1.5 = 3.
    monkeypatch.setattr(_jit, "cache_folder", lambda: str(cache / "gone"))
    assert hits_and_misses() == hits_and_misses() == (3.0, 0, 1)


def test_each_signature_has_its_own_file(cache):
    # Reference: 2 * 3 = 6 in integers' and in floats' arithmetic.
    assert hits_and_misses(argument=3) == (6.0, 0, 1)
    assert hits_and_misses(argument=3.0) == (6.0, 0, 1)
    assert hits_and_misses(argument=3) == hits_and_misses(argument=3.0) == (6.0, 1, 0)


SCRIPT = '''
from collections import namedtuple
import math
import numpy as np
from dln._jit import VECTOR, njit
from dln._linalg import norm

FACTOR = 2.0
TABLE = np.array([1.0, 2.0])
Pair = namedtuple("Pair", "a b")


@njit()
def callee(x):
    return FACTOR * x + TABLE[1]


def caller(x):
    pair = Pair(callee(x), math.sqrt(4.0))
    return pair.a + pair.b + norm(np.zeros(2))
'''


def script(source):
    module = sys.modules["script"] = types.ModuleType("script")
    exec(compile(source, "/nowhere/script.py", "exec"), module.__dict__)
    return module.caller


@pytest.mark.parametrize("old, new, value", [
    ("FACTOR = 2.0", "FACTOR = 3.0", 8.5), ("[1.0, 2.0]", "[1.0, 4.0]", 9.0), ("math.sqrt(4.0)", "math.sqrt(9.0)", 8.0),
    ("FACTOR * x +", "FACTOR * x -", 3.0), ("pair.a + pair.b", "pair.a * pair.b", 10.0),
])
def test_a_kernel_of_a_script_sees_its_constants_and_its_callees(cache, old, new, value):
    # Reference: 2 * 1.5 + 2 + 2 = 7; each change by hand.  All of it lies outside of the package, and its digest.
    assert hits_and_misses(script(SCRIPT)) == (7.0, 0, 1)
    assert hits_and_misses(script(SCRIPT)) == (7.0, 1, 0)
    assert old in SCRIPT
    assert hits_and_misses(script(SCRIPT.replace(old, new))) == (value, 0, 1)
    assert hits_and_misses(script(SCRIPT)) == (7.0, 1, 0)


def test_what_a_kernel_depends_on_must_be_known(cache, monkeypatch):
    # Reference: a constant in a module of which nothing is known: such a kernel is not kept.
    settings = types.ModuleType("script_settings")
    settings.FACTOR = 2.0
    monkeypatch.setitem(sys.modules, "script_settings", settings)
    source = SCRIPT.replace("import math\n", "import math\nimport script_settings\n")
    source = source.replace("FACTOR *", "script_settings.FACTOR *").replace("@njit()", "@numba.njit").replace(
        "import numpy", "import numba\nimport numpy")
    assert hits_and_misses(script(source)) == (7.0, 0, 1)
    settings.FACTOR = 3.0
    assert hits_and_misses(script(source)) == (8.5, 0, 1)
    assert not list(cache.glob("*.kernel"))


# --- kernels that are called by name ---------------------------------------------------------------------------------


@njit(numba.float64(DATA_VECTOR))
def first(a):
    """Return the first entry, unless it is negative."""
    if a[0] < 0.0:
        raise ValueError("negative")
    return a[0]


@njit(numba.void(VECTOR, numba.float64))
def fill(a, value):
    """Fill a vector."""
    for i in range(a.shape[0]):
        a[i] = value


def test_a_kernel_is_called_by_its_name():
    # Reference: the functions themselves.  An array that may be written to is taken for a read-only one, never the reverse.
    @njit()
    def both(a, value):
        fill(a, value)
        return first(a)

    a = np.zeros(3)
    assert both(a, 4.0) == 4.0 and a.tolist() == [4.0] * 3
    a.flags.writeable = False
    assert first(a) == 4.0
    with pytest.raises(numba.TypingError):
        both(a, 4.0)
    with pytest.raises(TypeError, match="No matching definition"):
        first(np.zeros((2, 2)))


def test_a_kernel_is_pickled_by_its_name():
    # Reference: the kernel itself, as for a function; as a class attribute of rules it goes to other processes.
    rule = dln.GradientFlow.kernel
    assert pickle.loads(pickle.dumps(rule)) is rule and copy.deepcopy(rule) is rule
    assert repr(rule) == "<kernel dln.rules.gradient_flow._kernel>"


def test_a_kernel_called_by_name_passes_its_errors_on():
    # Reference: the function itself.
    @njit()
    def forward(a):
        return first(a)

    with pytest.raises(ValueError, match="negative"):
        forward(np.array([-1.0]))
    with pytest.raises(numba.TypingError, match="too many"):
        njit()(lambda a: first(a, a))(np.zeros(1))


def test_a_kernel_is_compiled_once_however_many_call_it(monkeypatch):
    # Reference: numba's own list of compiled signatures, and the machine code: its name is a symbol that is not defined there.
    monkeypatch.setattr(_jit, "cache_folder", lambda: None)  # numba shows the code of what it has just compiled
    before = fill.signatures or [tuple(fill.signature.args)]

    def call(a):
        fill(a, 1.0)

    callers = [njit()(call) for _ in range(2)]
    for compiled in callers:
        compiled(np.zeros(2))
        [code] = compiled.inspect_llvm().values()
        assert f'declare i32 @"{fill.symbol}"' in code
    assert fill.signatures == before


# --- folders ---------------------------------------------------------------------------------------------------------


@pytest.mark.interpreted
def test_folders_that_are_no_longer_used_are_removed(tmp_path):
    # Reference: the dates, set by hand: 29 days are kept, 31 are not; what is not a folder of kernels is left alone.
    day, now = 86400.0, time.time()
    own = tmp_path / f"kernels-{'0' * 16}"
    ages = {own: 100, tmp_path / f"kernels-{'1' * 16}": 29, tmp_path / f"kernels-{'2' * 16}": 31,
            tmp_path / f"kernels-{'3' * 16}-old-{'4' * 32}": 31, tmp_path / "kernels-of-mine": 99, tmp_path / "else": 99}
    target = tmp_path / "elsewhere"
    for folder, age in [*ages.items(), (target, 99)]:
        folder.mkdir()
        (folder / "a.kernel").write_bytes(b"x")
        os.utime(folder, (now - age * day,) * 2)
    link = tmp_path / f"kernels-{'5' * 16}"
    link.symlink_to(target)
    _kernel_cache.prune(own, now)
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {own.name, f"kernels-{'1' * 16}", "kernels-of-mine", "else", "elsewhere", link.name}
    assert (target / "a.kernel").exists()


@pytest.mark.interpreted
def test_a_new_folder_clears_away_the_old_ones_and_use_is_noted(monkeypatch, tmp_path):
    # Reference: the dates.  A folder in use is as young as its last process.
    old = tmp_path / f"kernels-{'1' * 16}"
    old.mkdir()
    os.utime(old, (0, 0))
    monkeypatch.setenv("DLN_CACHE_DIR", str(tmp_path))
    folder = Path(_kernel_cache.find_folder())
    assert folder.is_dir() and not old.exists()
    os.utime(folder, (0, 0))
    assert Path(_kernel_cache.find_folder()) == folder and folder.stat().st_mtime > time.time() - 60.0


@pytest.mark.interpreted
@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners and modes of files on this system")
def test_a_temporary_folder_that_others_can_write_to_is_not_trusted(monkeypatch, tmp_path):
    # Reference: the mode of the folder; kernels are code that will be run.
    for name in ("DLN_CACHE_DIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME", "USERPROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_kernel_cache.tempfile, "gettempdir", lambda: str(tmp_path))
    mine = tmp_path / f"dln-{os.getuid()}"
    assert Path(_kernel_cache.find_folder()).parent == mine and mine.stat().st_mode & 0o777 == 0o700
    mine.chmod(0o777)
    assert _kernel_cache.find_folder() is None
    mine.rename(tmp_path / "other")
    mine.symlink_to(tmp_path / "other")
    assert _kernel_cache.find_folder() is None


# --- what makes compiling slow ---------------------------------------------------------------------------------------


@pytest.mark.interpreted
def test_kernels_copy_vectors_by_loops():
    # Reference: the sources.  For ``a[:] = b`` of two arrays numba compiles three seconds worth of an error message.
    found = 0
    for path in PACKAGE.rglob("*.py"):
        kernels = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)
                   and any("njit" in ast.unparse(decorator) for decorator in node.decorator_list)]
        found += len(kernels)
        for node in [node for kernel in kernels for node in ast.walk(kernel) if isinstance(node, ast.Assign)]:
            targets = [inner for target in node.targets for inner in getattr(target, "elts", [target])]
            slices = any(isinstance(part, ast.Slice) for target in targets if isinstance(target, ast.Subscript)
                         for part in ast.walk(target.slice))
            assert not slices or isinstance(node.value, ast.Constant), f"{path.name}, line {node.lineno}: use copy"
    assert found > 300


def test_a_first_run_compiles_each_kernel_once():
    # Reference: the kernels by name: whatever the runs so far have needed has been compiled for one signature.
    problem = dln.sparse_regression(5, 8, 2, rng=0)
    assert dln.flow(problem, alpha=0.1).success
    used = [kernel for kernel in _jit._NAMED.values() if isinstance(kernel, _jit.Kernel) and kernel.signatures]
    assert len(used) > 10 and all(len(kernel.signatures) == 1 for kernel in used)
