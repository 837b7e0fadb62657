"""The compile cache cannot be stale, and says no to what would hide NaN."""

import re
import tempfile
import time
from pathlib import Path

import numba
import numpy as np
import pytest
from package_copies import PACKAGE, copy_of_the_package, run

from dln import _jit
from dln._jit import REDUCTION, cache_folder, njit, source_digest

# A kernel of one file that calls a kernel of another: numba's own cache is keyed by the file of the caller alone.
CALLER = '''
import numpy as np
from ._jit import VECTOR, njit
from ._probed import callee


@njit()
def caller(x):
    return callee(x) + 1.0
'''
CALLEE = '''
from ._jit import njit


@njit()
def callee(x):
    return 2.0 * x
'''
PROBE = '''
import sys, types, pathlib
package = types.ModuleType("dln")
package.__path__ = [str(pathlib.Path("dln").resolve())]
sys.modules["dln"] = package
from dln._probe import caller
value = caller(3.0)
stats = caller.stats
print(value, sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
'''


def test_a_changed_constant_in_another_file_is_seen(tmp_path):
    # Reference: 2 * 3 + 1 = 7 before the change, 5 * 3 + 1 = 16 after; the second run of each comes from the cache.
    package, cache = copy_of_the_package(tmp_path), str(tmp_path / "cache")
    (package / "_probe.py").write_text(CALLER)
    (package / "_probed.py").write_text(CALLEE)
    assert run(tmp_path, PROBE, DLN_CACHE_DIR=cache) == "7.0 0 1"
    assert run(tmp_path, PROBE, DLN_CACHE_DIR=cache) == "7.0 1 0"
    (package / "_probed.py").write_text(CALLEE.replace("2.0 * x", "5.0 * x"))
    assert run(tmp_path, PROBE, DLN_CACHE_DIR=cache) == "16.0 0 1"
    assert run(tmp_path, PROBE, DLN_CACHE_DIR=cache) == "16.0 1 0"
    assert len(list(Path(cache).glob("kernels-*"))) == 2


RULE = '''
import numpy as np
from dln import GradientFlow
X, y = np.array([[1.0, 2.0]]), np.array([1.0])
X.flags.writeable = y.flags.writeable = False
beta, size, q = np.array([1.0, 1.0]), np.ones(2), np.zeros(2)
r, coef = np.zeros(1), np.zeros(1)
GradientFlow.kernel(X, y, 0.5, beta, size, np.empty(0), r, coef, q, np.zeros((3, 2)), np.zeros((2, 1)))
print(r[0], coef[0])
'''


def test_a_changed_rule_kernel_is_seen(tmp_path):
    # Reference: r = 1 + 2 - 1 = 2, coef = r/2 = 1; the edited `residual` in the other file adds y: r = 4, coef = 2.
    package, cache = copy_of_the_package(tmp_path), str(tmp_path / "cache")
    assert run(tmp_path, RULE, DLN_CACHE_DIR=cache) == "2.0 1.0"
    linalg = package / "_linalg.py"
    source = linalg.read_text()
    edited = source.replace("one_sum(X, b, i) - y[i]\n", "one_sum(X, b, i) + y[i]\n")
    assert edited != source
    linalg.write_text(edited)
    assert run(tmp_path, RULE, DLN_CACHE_DIR=cache) == "4.0 2.0"
    assert run(tmp_path, RULE, DLN_CACHE_DIR=cache) == "4.0 2.0"


@pytest.mark.interpreted
def test_digest_sees_every_source(tmp_path):
    # Reference: any change of content, name or place of a Python source changes it; nothing else does.
    package = copy_of_the_package(tmp_path)
    start = source_digest(package)
    assert start == source_digest(package) == source_digest()
    (package / "notes.txt").write_text("not a source")
    assert source_digest(package) == start
    seen = {start}
    for path in ("_linalg.py", "rules/sam.py", "integrate/tableaus.py"):
        source = (package / path).read_bytes()
        (package / path).write_bytes(source.replace(b"0.5", b"0.25") if b"0.5" in source else source + b"\n")
        seen.add(source_digest(package))
    (package / "rules" / "sam.py").rename(package / "rules" / "sam2.py")
    seen.add(source_digest(package))
    assert len(seen) == 5


@pytest.mark.interpreted
def test_blanket_fastmath_is_refused():
    blanket = True
    with pytest.raises(ValueError, match=r"^fastmath must be REDUCTION or False: the blanket flag removes NaN checks$"):
        njit(fastmath=blanket)
    assert not REDUCTION & {"fast", "nnan", "ninf"}


@pytest.mark.interpreted
def test_no_kernel_of_the_package_drops_nan():
    # Reference: the sources; the only flags used are reassoc and contract.
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"fastmath *= *True", text) and "prange" not in text and "parallel=True" not in text, path


def test_kernels_keep_nan_and_inf():
    # Reference: IEEE 754: a NaN or an Inf in a sum stays.
    @njit(fastmath=REDUCTION)
    def total(x):
        s = 0.0
        for i in range(x.shape[0]):
            s += x[i]
        return s, s == s, s < 1e308

    values = np.ones(37)
    assert total(values) == (37.0, True, True)
    values[20] = np.inf
    assert total(values) == (np.inf, True, False)
    values[30] = np.nan
    result, is_number, small = total(values)
    assert np.isnan(result) and not is_number and not small


def test_other_packages_keep_their_cache_folder():
    # Reference: numba's setting before and after.
    before = numba.config.CACHE_DIR

    @njit()
    def one():
        return 1

    assert numba.config.CACHE_DIR == before != cache_folder()
    assert one() == 1


WHERE = '''
import sys, types, pathlib
package = types.ModuleType("dln")
package.__path__ = [str(pathlib.Path("dln").resolve())]
sys.modules["dln"] = package
from dln._jit import cache_folder
print(cache_folder())
'''


def test_the_folders_in_their_order(tmp_path):
    # Reference: DLN_CACHE_DIR, NUMBA_CACHE_DIR, XDG_CACHE_HOME, HOME, the temporary folder.
    copy_of_the_package(tmp_path)
    digest, temporary = f"kernels-{source_digest()}", tmp_path / "t"
    temporary.mkdir()
    common = {"TMPDIR": str(temporary), "HOME": str(tmp_path / "home")}
    expected = {"DLN_CACHE_DIR": tmp_path / "a", "NUMBA_CACHE_DIR": tmp_path / "b", "XDG_CACHE_HOME": tmp_path / "c"}
    env = {k: str(v) for k, v in expected.items()}
    assert run(tmp_path, WHERE, **common, **env) == str(tmp_path / "a" / digest)
    del env["DLN_CACHE_DIR"]
    assert run(tmp_path, WHERE, **common, **env) == str(tmp_path / "b" / digest)
    del env["NUMBA_CACHE_DIR"]
    assert run(tmp_path, WHERE, **common, **env) == str(tmp_path / "c" / "dln" / digest)
    assert run(tmp_path, WHERE, **common) == str(tmp_path / "home" / ".cache" / "dln" / digest)


@pytest.mark.parametrize("home", [None, "a file", "nowhere"])
def test_without_a_usable_home_a_temporary_folder_serves(tmp_path, home):
    # Reference: an absent HOME, a HOME that is a file, and one below a file (which no user, not even root, can write to).
    package = copy_of_the_package(tmp_path)
    (package / "_probe.py").write_text(CALLER)
    (package / "_probed.py").write_text(CALLEE)
    temporary = tmp_path / "t"
    temporary.mkdir()
    (tmp_path / "file").write_text("")
    value = {None: None, "a file": str(tmp_path / "file"), "nowhere": str(tmp_path / "file" / "home")}[home]
    where = run(tmp_path, WHERE, TMPDIR=str(temporary), HOME=value, USERPROFILE=None)
    assert Path(where).parent.parent == temporary and Path(where).name == f"kernels-{source_digest(package)}"
    assert run(tmp_path, PROBE, TMPDIR=str(temporary), HOME=value, USERPROFILE=None) == "7.0 0 1"
    assert list(Path(where).glob("*.kernel"))


def test_without_any_folder_kernels_are_compiled_without_a_cache(monkeypatch, tmp_path):
    # Reference: every candidate lies below a file.
    (tmp_path / "file").write_text("")
    below = str(tmp_path / "file" / "x")
    for name in ("DLN_CACHE_DIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, below)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: below)
    monkeypatch.setattr(_jit, "cache_folder", cache_folder.__wrapped__)
    assert _jit.cache_folder() is None

    @njit()
    def two():
        return 2

    assert two() == 2


def test_a_signature_is_compiled_at_the_first_use():
    # Reference: numba's own list of compiled signatures; function and address are looked up once.
    @njit(numba.float64(numba.float64))
    def double(x):
        return 2.0 * x

    assert double.signatures == []
    call = _jit.entry_point(double)
    assert call(1.5) == 3.0 and len(double.signatures) == 1
    assert _jit.address(double) == _jit.address(double)


@pytest.mark.interpreted
def test_kernels_call_functions_by_their_address():
    # Reference: the functions themselves; one compiled caller serves all functions of a signature.
    signature = numba.float64(numba.float64, _jit.VECTOR)
    call = _jit.caller(signature)

    @njit(signature)
    def add(x, a):
        return a[0] + x

    @njit(signature)
    def multiply(x, a):
        return a[0] * x

    @njit()
    def twice(function, x, a):
        return call(function, (x, a)) + call(function, (x, a))

    a = np.array([5.0])
    assert twice(_jit.address(add), 3.0, a) == 16.0
    assert twice(_jit.address(multiply), 3.0, a) == 30.0


def test_a_call_by_address_checks_its_types():
    # Reference: the signature.
    call = _jit.caller(numba.float64(numba.float64))

    @njit()
    def wrong(function, x):
        return call(function, (x, x))

    with pytest.raises(numba.TypingError, match="is called with"):
        wrong(1, 2.0)


def test_an_error_in_a_function_called_by_address_is_passed_on():
    # Reference: the function itself.
    signature = numba.float64(numba.float64)
    call = _jit.caller(signature)

    @njit(signature)
    def refuse(x):
        if x < 0.0:
            raise ValueError("negative")
        return x

    @njit()
    def forward(function, x):
        return call(function, (x,))

    assert forward(_jit.address(refuse), 2.0) == 2.0
    with pytest.raises(ValueError, match="negative"):
        forward(_jit.address(refuse), -2.0)


@pytest.fixture
def scaling(monkeypatch):
    """Give a kernel that calls a function of BLAS, if it is told to, and what is looked up meanwhile."""
    looked_up = []
    find = _jit.get_cython_function_address

    def noted(module, name):
        looked_up.append(name)
        return find(module, name)

    monkeypatch.setattr(_jit, "get_cython_function_address", noted)
    scale = _jit.Blas("dscal", 4)

    @njit(numba.void(_jit.VECTOR, numba.boolean))
    def scaled(x, really):
        if really:
            factor, sizes = np.array([3.0]), np.array([x.shape[0], 1], dtype=np.int32)
            scale(sizes.ctypes, factor.ctypes, x.ctypes, sizes[1:].ctypes)

    return scaled, looked_up


def test_a_function_of_blas_is_looked_up_when_it_is_called(scaling):
    # Reference: 3 x, then 9 x.
    scaled, looked_up = scaling
    x = np.arange(4.0)
    scaled(x, False)
    assert looked_up == [] and list(x) == [0.0, 1.0, 2.0, 3.0]
    scaled(x, True)
    scaled(x, True)
    assert looked_up == ["dscal"] and list(x) == [0.0, 9.0, 18.0, 27.0]


def test_an_interrupt_while_it_is_looked_up_is_only_put_off(scaling, monkeypatch):
    # Reference: 3 x, and the interrupt: a kernel can neither see an exception nor do without its result.
    scaled, looked_up = scaling
    find, interrupts = _jit.get_cython_function_address, [KeyboardInterrupt]

    def interrupted(module, name):
        if interrupts:
            raise interrupts.pop()
        return find(module, name)

    monkeypatch.setattr(_jit, "get_cython_function_address", interrupted)
    x = np.arange(4.0)
    with pytest.raises(KeyboardInterrupt):
        scaled(x, True)
        for _ in range(600):
            time.sleep(0.1)
    assert looked_up == ["dscal"] and list(x) == [0.0, 3.0, 6.0, 9.0]
