"""The page on theorems: its worked example runs, proves, passes and kills; its tables are those of the code."""

import contextlib
import importlib.util
import io
import re
import runpy
import sys
from pathlib import Path

import pytest

import dln._jit
import theory
from theory import _report
from theory._exact import DISCREPANCIES, TOLERANCE
from theory._mutants import standard_problem
from theory._slopes import CONFIDENCE, MAX_HALF_WIDTH

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "theorems.md").read_text(encoding="utf-8")


def block(page, language):
    return re.search(rf"^```{language}\n(.*?)^```$", page, re.M | re.S)[1]


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """Write the two files of the worked examples side by side and import the one with the theorem."""
    folder = tmp_path_factory.mktemp("example")
    rule = block((DOCS / "architecture.md").read_text(encoding="utf-8"), "python")
    (folder / "loss_decay.py").write_text(rule, encoding="utf-8")
    path = folder / "loss_theorem.py"
    path.write_text(block(PAGE, "python"), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        for name in ("loss_decay", "loss_theorem"):
            patch.delitem(sys.modules, name, raising=False)
        patch.setattr(dln._jit, "cache_folder", lambda: str(folder))  # not in the cache of the user
        spec = importlib.util.spec_from_file_location("loss_theorem", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
        sys.modules.pop("loss_decay", None)


def test_the_worked_example_prints_what_the_page_shows(example):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(example.__file__, run_name="__main__")
    assert printed.getvalue() == block(PAGE, "text")


def test_the_theorem_of_the_worked_example_holds_and_could_fail(example):
    """Reference: both routes; with the engine's k alone off by 1 part in 1e6 the check must fail."""
    [theorem] = example.THEOREMS
    problem = standard_problem()
    check = theorem.check(problem)
    assert check.passed, check.message
    found = check.details[problem.name]["loss decay"]
    assert max(found["law"]) < 1e-11
    assert min(abs(x) for x in found["mean_log_scale_change"]) > 0.05  # q is no trifle

    def slightly_off(part, setting):
        engine = example.library(lambda lib: example.LossDecay((1 + 1e-6) * example.strength(setting)))
        return example.replace(part, engine=engine)

    off = example.replace(theorem, mutants={"slightly off": slightly_off}).check(problem, mutant="slightly off")
    assert not off.passed
    assert "errors" not in off.details
    assert off.details[problem.name]["loss decay"]["law"] == found["law"]


def test_the_file_to_copy_is_the_shortest():
    sources = {path.name: path.read_text(encoding="utf-8") for path in (DOCS.parent / "theory").glob("[a-z]*.py")}
    lines = {name: len(source.splitlines()) for name, source in sources.items() if "THEOREMS = (" in source}
    assert f"`theory/{min(lines, key=lines.get)}`" in PAGE[PAGE.index("Copy the shortest file"):][:80]


def test_kinds_tolerances_and_columns_are_those_of_the_code():
    table = dict(re.findall(r"^\| (exact|limit|empirical) \| (.*) \|$", PAGE, re.M))
    assert set(table) >= {theorem.kind for theorem in theory.theorems.values()}
    assert f"at most {TOLERANCE:.0e}".replace("e-0", "e-") in table["exact"]
    assert f"{CONFIDENCE:.0%}".replace("%", " %") in table["limit"]
    assert f"wider than {MAX_HALF_WIDTH} " in table["limit"]
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.M) == list(DISCREPANCIES)
    reading = PAGE[PAGE.index("## Reading the table"):PAGE.index("## Add a theorem")]
    columns = [name for row in re.findall(r"^\| ([a-z, ]+) \|", reading, re.M) for name in row.split(", ")]
    assert columns[1:] == list(_report.HEADER)


def test_every_key_that_the_page_names_is_a_theorem():
    keys = set(re.findall(r"\bT\d+\b", PAGE))
    assert keys and keys <= set(theory.theorems)
