"""docs/classification.md: its example prints what it shows, and its table knows every status."""

import contextlib
import io
import re
from pathlib import Path

import dln

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "classification.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


def test_the_example_prints_what_the_page_shows():
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(blocks("python")[0], "docs/classification.md", "exec"), {"__name__": "page"})
    assert printed.getvalue() == blocks("text")[0]


def test_every_status_is_explained():
    rows = re.findall(r"^\| ([a-z_, ]+) \| (?:yes|no) \|", PAGE, re.M)
    assert sorted(word for row in rows for word in row.split(", ")) == sorted(map(str, dln.MarginStatus))


def test_names_that_the_page_mentions_exist():
    for name in re.findall(r"`dln\.(\w+)", PAGE):
        assert hasattr(dln, name), name
    for name in re.findall(r"`run\.(\w+)", PAGE):
        assert name in dln.MarginResult.__dataclass_fields__ or hasattr(dln.MarginResult, name), name
