"""Kernels compiled by several processes: they find what they need, leave nothing behind, and are never waited for in vain."""

import os
import pickle
import signal
import subprocess
import sys
import time

import pytest
from package_copies import copy_of_the_package, environment, run

import dln
from dln import _crew, _jit
from dln._kernel_cache import _DIGEST_SIZE
from dln.integrate import starting, stepping

COUNT = 12
HEAD = '''
from numba import types
from ._jit import DATA_VECTOR, njit
'''
PART = '''

@njit(types.float64(DATA_VECTOR))
def part_{k}(x):
    return {k} * x[0]
'''
CALLER = '''
import numpy as np
from . import _parts as parts
{imports}

@njit(types.float64(DATA_VECTOR))
def caller(x):
    return {sum}
'''
PROBE = '''
import numpy as np
from dln._jit import entry_point
from dln import _crew, _parts
from dln._caller import caller
value = entry_point(caller)(np.array([3.0]))
found = _crew.called_by([caller])
print(value, len(found), sum(bool(kernel.stats.cache_hits) for kernel in found))
'''
# The last of the parts is found as an attribute of its module, the others by name.  Reference: 3 (0 + 1 + ... + 11) = 198.
VALUE = 3.0 * sum(range(COUNT))


@pytest.fixture
def probe(tmp_path):
    package = copy_of_the_package(tmp_path)
    (package / "_parts.py").write_text(HEAD + "".join(PART.format(k=k) for k in range(COUNT)))
    names = [f"part_{k}" for k in range(COUNT - 1)]
    (package / "_caller.py").write_text(HEAD + CALLER.format(
        imports=f"from ._parts import {', '.join(names)}\n",
        sum=" + ".join([*(f"{name}(x)" for name in names), f"parts.part_{COUNT - 1}(x)"])))

    def start(code=PROBE, **variables):
        return run(tmp_path, code, **{"DLN_CACHE_DIR": str(tmp_path / "cache"), "DLN_COMPILERS": "2", **variables})

    return start


def left_behind(tmp_path):
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    return len(files), {path.suffix for path in files}


def test_what_others_have_compiled_is_only_loaded(probe, tmp_path):
    # Reference: the sum; every kernel comes from the disk.  The door is the process's own.
    assert probe() == f"{VALUE} {COUNT + 1} {COUNT + 1}"
    assert left_behind(tmp_path) == (COUNT + 2, {".kernel"})


def test_alone_a_process_compiles_all_itself(probe, tmp_path):
    # Reference: the sum; nothing comes from the disk.
    assert probe(DLN_COMPILERS="1") == f"{VALUE} {COUNT + 1} 0"
    assert left_behind(tmp_path) == (COUNT + 2, {".kernel"})


@pytest.mark.parametrize("before", [
    "import sys; sys.executable = '/bin/false'", "import sys; sys.executable = ''",
    "import sys; sys.executable = '/nowhere/python3'",
    # They end with an error before they have compiled anything.
    "import dln._crew as crew; crew._PROGRAM = 'raise SystemExit(1)  # {path!r} {names!r}'",
], ids=["other program", "no program", "no file", "an error"])
def test_helpers_that_do_not_help_do_not_harm(probe, before, tmp_path):
    # Reference: the sum, and all files.
    assert probe(f"{before}\n{PROBE}") == f"{VALUE} {COUNT + 1} 0"
    assert left_behind(tmp_path) == (COUNT + 2, {".kernel"})


def test_sources_that_have_changed_since_the_import_are_compiled_by_the_process_itself(probe, tmp_path):
    # Reference: the sum of the sources that the process has imported.  The others would look at another folder.
    edit = ("import pathlib, dln\npath = pathlib.Path(dln.__file__).parent / '_parts.py'\n"
            "import dln._caller\npath.write_text(path.read_text().replace('1 * x[0]', '2 * x[0]'))\n")
    assert probe(f"{edit}\n{PROBE}") == f"{VALUE} {COUNT + 1} 0"


def test_four_processes_share_the_work(probe, tmp_path):
    # Reference: the sum, four times; nothing but whole kernels is left.
    variables = environment(tmp_path, DLN_CACHE_DIR=str(tmp_path / "cache"), DLN_COMPILERS="2")
    processes = [subprocess.Popen([sys.executable, "-W", "error", "-c", PROBE], env=variables, cwd=tmp_path,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        out, err = process.communicate(timeout=200)
        assert process.returncode == 0 and out.startswith(f"{VALUE} {COUNT + 1} "), err
    assert left_behind(tmp_path) == (COUNT + 2, {".kernel"})


def test_a_killed_leader_is_not_waited_for(probe, tmp_path):
    # Reference: the sum.  What is left: its claim, with the number of a process that is no more; the next one takes it over.
    code = PROBE.replace("value =", "_crew._lead = lambda *_: __import__('os').kill(__import__('os').getpid(), 9)\nvalue =")
    with pytest.raises(AssertionError):
        probe(code)
    assert [path.name for path in (tmp_path / "cache").rglob("*.claim")] == ["crew.claim"]
    assert probe() == f"{VALUE} {COUNT + 1} {COUNT + 1}"
    assert left_behind(tmp_path) == (COUNT + 2, {".kernel"})


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_an_interrupt_ends_the_helpers_too(probe, tmp_path):
    # Reference: KeyboardInterrupt, at once, and no claim of the process is left.
    variables = environment(tmp_path, DLN_CACHE_DIR=str(tmp_path / "cache"), DLN_COMPILERS="2")
    slow = "import dln._crew as crew; crew._PROGRAM = 'import time; time.sleep(60)  # {path!r} {names!r}'\n"
    with subprocess.Popen([sys.executable, "-c", slow + PROBE], env=variables, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        end = time.monotonic() + 60.0
        while not list((tmp_path / "cache").rglob("crew.claim")) and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert b"KeyboardInterrupt" in err and not list((tmp_path / "cache").rglob("*.claim"))


@pytest.mark.interpreted
def test_a_claim_is_taken_once(tmp_path):
    # Reference: what it says of whom, and when; an old one, or one of a process that has ended, counts for nothing.
    mine, other = _crew.Claim(tmp_path, "a"), _crew.Claim(tmp_path, "a")
    assert not mine.counts()
    assert mine.take() and not other.take() and other.counts()
    assert other.path.read_text() == mine.mine
    host = mine.mine.split()[0]
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    for content, counts in ((f"{host} {os.getpid()}", True), (f"{host} {ended.pid}", os.name != "posix"), ("elsewhere 1", True),
                            ("", False if not host else True), (f"{host} x", True)):
        mine.path.write_text(content)
        assert mine.counts() is counts, content
        os.utime(mine.path, (time.time() - 1000.0,) * 2)
        assert not mine.counts()
    assert other.take() and mine.counts()
    other.leave()
    other.leave()
    assert not mine.counts() and not list(tmp_path.iterdir())


@pytest.mark.interpreted
def test_how_many_compile(monkeypatch):
    # Reference: what is asked for; else what the system allows, at most four.
    monkeypatch.delenv("DLN_COMPILERS", raising=False)
    assert 1 <= _crew.size() <= 4
    for asked, found in (("0", 0), ("1", 1), ("7", 7)):
        monkeypatch.setenv("DLN_COMPILERS", asked)
        assert _crew.size() == found
    monkeypatch.setenv("DLN_COMPILERS", "many")
    assert 1 <= _crew.size() <= 4


@pytest.mark.skipif(not isinstance(stepping.advance, _jit.Kernel), reason="nothing is compiled")
def test_the_kernels_of_a_run_are_found_by_their_names():
    # Reference: the symbols that machine code on the disk asks for: all are found ahead.
    assert dln.flow(dln.sparse_regression(5, 8, 2, rng=0), alpha=0.1).success
    found = {kernel.symbol for kernel in _crew.called_by([starting.start_and_advance])}
    needed, left = set(), [starting.start_and_advance.symbol]
    while left:
        kernel = _jit.named(left.pop())
        if isinstance(kernel, _jit.Kernel) and kernel.symbol not in needed:
            needed.add(kernel.symbol)
            cache = kernel.dispatcher._cache
            content = cache._path(kernel.signature, kernel.dispatcher.targetctx.codegen()).read_bytes()
            left += pickle.loads(content[_DIGEST_SIZE:])[0]
    assert len(needed) > 50 and needed <= found
