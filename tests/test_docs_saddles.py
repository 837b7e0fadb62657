"""docs/saddles.md: its examples print what it shows, and the names that it mentions exist."""

import contextlib
import io
import re
from pathlib import Path

import dln

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "saddles.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


def test_the_examples_print_what_the_page_shows():
    names = {"__name__": "page"}
    for code, shown in zip(blocks("python"), blocks("text"), strict=True):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, "docs/saddles.md", "exec"), names)
        assert printed.getvalue() == shown


def test_names_that_the_page_mentions_exist():
    path = dln.saddles(dln.Problem([[1.0]], [1.0]))
    for name in re.findall(r"`(?:path\.)?(\w+)\(tau\)`|`path\.(\w+)", PAGE):
        assert hasattr(path, "".join(name)), name
