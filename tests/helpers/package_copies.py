"""Copies of the package, and processes that import them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import dln

PACKAGE = Path(dln.__file__).parent


def copy_of_the_package(folder):
    """Copy the package into `folder`; return where it is."""
    return Path(shutil.copytree(PACKAGE, folder / "dln", ignore=shutil.ignore_patterns("__pycache__")))


def environment(folder, **variables):
    """Return the environment of a process that imports the copy of the package in `folder`; None removes a variable."""
    unwanted = ("DLN_CACHE_DIR", "NUMBA_CACHE_DIR", "NUMBA_DISABLE_JIT", "XDG_CACHE_HOME", "PYTHONPATH")
    env = {k: v for k, v in os.environ.items() if k not in unwanted}
    env.update(PYTHONPATH=str(folder), PYTHONDONTWRITEBYTECODE="1", **variables)
    return {k: v for k, v in env.items() if v is not None}


def run(folder, code, **variables):
    """Run `code` in a new process that imports the copy of the package in `folder`, and return what it prints."""
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], env=environment(folder, **variables), cwd=folder,
                            capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()
