"""Rules that the sources themselves must keep."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "dln").rglob("*.py"))
ABOVE = {"theory", "figures"}


def imported(tree):
    """Give the top-level names that a piece of source imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_dln_never_imports_theory_or_figures_except_in_bodies_of_the_command_line(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if path == ROOT / "dln" / "cli.py":
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                node.body = []
    assert not ABOVE & set(imported(tree))


def test_import_guard_sees_every_form_of_import():
    source = "import theory\ndef f():\n    from figures.x import y\n    import os, theory.z as t\n"
    assert ABOVE <= set(imported(ast.parse(source)))


def test_importing_dln_loads_neither_the_rooms_above_nor_what_is_slow_to_load_and_seldom_used():
    unwanted = ["theory", "figures", "sympy", "matplotlib", "xarray", "zarr", "tqdm", "argparse", "multiprocessing",
                *(f"scipy.{part}" for part in ("linalg", "optimize", "sparse", "special", "integrate", "stats"))]
    code = f"import sys, dln; print(*sorted(set({unwanted}) & set(sys.modules)))"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, ""), run.stderr


def test_no_kernel_is_compiled_with_all_of_fastmath():
    """It lets the compiler assume that there are no NaNs, and so removes the checks for them."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "fastmath":
                everything = isinstance(node.value, ast.Constant) and node.value.value is True
                assert not everything, f"{path.relative_to(ROOT)}, line {node.value.lineno}"


def test_declared_packages_and_data_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for pattern in project["tool"]["setuptools"]["package-data"]["dln"]:
        assert list((ROOT / "dln").glob(pattern))
    for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]:
        assert (ROOT / pattern.rstrip("*") / "__init__.py").is_file()
