"""docs/sweeps.md: what it shows is what one gets, and what it lists is what there is."""

import contextlib
import io
import re
from pathlib import Path

import dln
from dln.sweep.measures import BUILT_IN

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "sweeps.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


def test_page_prints_what_it_shows():
    """Reference: the page itself; its blocks run one after the other, as a reader would."""
    names = {"__name__": "page"}
    for code, shown in zip(blocks("python"), blocks("text"), strict=True):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, "sweeps.md", "exec"), names)
        assert printed.getvalue() == shown


def test_every_measure_and_status_is_listed():
    table = PAGE[PAGE.index("| measure | |"):]
    for name in BUILT_IN:
        assert f"`{name}`" in table, name
    assert f"0 to {len(dln.Status) - 1} the members of `dln.Status`" in PAGE
