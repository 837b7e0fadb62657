"""The page on figures: its example, its commands, its tables."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import figures
from dln import cli
from figures._exploration import Exploration

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "figures.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


def test_its_example_prints_what_the_page_shows():
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(blocks("python")[0], "figures.md", "exec"), {"__name__": "page"})
    assert printed.getvalue() == blocks("text")[0]


def test_its_commands_are_commands():
    """Reference: the parser; the figures that they name are in the registry."""
    lines = [shlex.split(line, comments=True) for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) >= 8
    for line in lines:
        args = cli.parsers(cli.COMMANDS)[0].parse_args(line[1:])
        assert line[0] == "dln" and (args.command != "figure" or args.name is None or args.name in figures.registry)


def test_its_table_names_the_phase_diagrams():
    """Reference: the figures that can be drawn from a stored grid."""
    named = re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.M)
    assert named == [name for name in figures.registry if hasattr(figures.get(name), "read")]


def test_the_number_of_steps_is_that_of_the_window():
    steps = int(re.search(r"A run has (\d+) steps", PAGE).group(1))
    assert Exploration.__init__.__defaults__[-1] == steps
