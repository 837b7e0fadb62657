"""The README and the pages of docs/: what they show is what one gets."""

import contextlib
import importlib.util
import io
import re
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import dln
import dln._jit
from dln import cli

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted((ROOT / "docs").glob("*.md"))
#: Commands that take longer than a test should; tests of their own run them on smaller data.
SLOW = {"derive", "verify"}


def blocks(text, language):
    """Give the code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


COMMANDS = [shlex.split(line, comments=True) for block in blocks(README, "sh") for line in block.splitlines() if line.strip()]


def test_readme_leads_with_the_two_commands():
    assert re.findall(r"^    make (\w+)", README, re.M)[:2] == ["run", "test"]
    assert README.index("make test") < 200


def test_readme_example_prints_what_the_readme_shows():
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("".join(blocks(README, "python")), "README.md", "exec"), {"__name__": "readme"})
    assert printed.getvalue() == blocks(README, "text")[0]


def test_page_on_the_rich_limit_prints_what_it_shows():
    page = (ROOT / "docs" / "rich.md").read_text(encoding="utf-8")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(blocks(page, "python")[0], "rich.md", "exec"), {"__name__": "page"})
    assert printed.getvalue() == blocks(page, "text")[0]


def test_page_on_momentum_prints_what_it_shows():
    page = (ROOT / "docs" / "momentum.md").read_text(encoding="utf-8")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(blocks(page, "python")[0], "momentum.md", "exec"), {"__name__": "page"})
    assert printed.getvalue() == blocks(page, "text")[0]


def test_page_on_the_lasso_path_prints_what_it_shows():
    page = (ROOT / "docs" / "lasso_path.md").read_text(encoding="utf-8")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(blocks(page, "python")[0], "lasso_path.md", "exec"), {"__name__": "page"})
    assert printed.getvalue() == blocks(page, "text")[0]


def test_example_of_the_page_on_noise_prints_what_the_page_shows():
    page = (ROOT / "docs" / "noise.md").read_text(encoding="utf-8")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("".join(blocks(page, "python")), "noise.md", "exec"), {"__name__": "noise"})
    assert printed.getvalue() == blocks(page, "text")[0]


def test_readme_example_has_five_lines():
    assert len(blocks(README, "python")[0].splitlines()) == 5


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_command_lines_of_the_readme(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command[0] == "dln"
    if command[1] in SLOW:
        cli.parsers(cli.COMMANDS)[0].parse_args(command[1:])
        return
    assert cli.main(command[1:]) == 0
    assert capsys.readouterr().out


def test_every_command_has_its_example():
    with contextlib.redirect_stdout(io.StringIO()) as text:
        cli.main(["--help"])
    known = set(re.findall(r"^    ([a-z]+)  ", text.getvalue(), re.M))
    assert known
    assert {command[1] for command in COMMANDS} == known


def test_every_rule_is_in_the_table_of_the_readme():
    for rule in dln.Rule.__subclasses__():
        if rule.__module__.startswith("dln.") and not rule.__name__.startswith("_"):
            assert f"`{rule.__name__}(" in README, rule


def test_page_on_discrete_steps_prints_what_it_shows():
    """Reference: the page itself; its blocks run one after the other, as a reader would."""
    page, names = (ROOT / "docs" / "discrete.md").read_text(encoding="utf-8"), {"__name__": "page"}
    for code, shown in zip(blocks(page, "python"), blocks(page, "text"), strict=True):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, "discrete.md", "exec"), names)
        assert printed.getvalue() == shown


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_files_that_the_pages_name_exist(page):
    for path in re.findall(r"`((?:dln|theory|figures|tests|docs)/[\w./]*)`", page.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), path


def test_every_status_is_explained():
    table = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| ([a-z_ ]+) \| (?:yes|no) ", table, re.M)) == sorted(map(str, dln.Status))
    for status in dln.Status:
        assert f"| {status} |" in table
        assert re.search(rf"\*{status.replace(' ', chr(92) + 's')}\*", README), status


@pytest.fixture(scope="module")
def loss_decay(tmp_path_factory):
    """The rule of the worked example in docs/architecture.md, imported as the one file that it is."""
    folder = tmp_path_factory.mktemp("example")
    path = folder / "loss_decay.py"
    path.write_text(blocks((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), "python")[0], encoding="utf-8")
    spec = importlib.util.spec_from_file_location("loss_decay", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dln._jit, "cache_folder", lambda: str(folder))  # not in the cache of the user
        patch.setitem(sys.modules, "loss_decay", module)  # dataclasses look their module up
        spec.loader.exec_module(module)
        yield module


@pytest.mark.parametrize("method", ["explicit", "rosenbrock"])
@pytest.mark.parametrize("shape", [(4, 7), (7, 4)])
def test_worked_example_of_a_rule_against_raw_weights(loss_decay, shape, method):
    n, d = shape
    rng = np.random.default_rng(2)
    problem = dln.Problem(rng.standard_normal(shape), rng.standard_normal(n))
    k, alpha, t_end = 0.7, 0.3, 4.0

    def velocity(t, theta):
        u, v = theta[:d], theta[d:]
        r = problem.X @ (u * u - v * v) - problem.y
        g = problem.X.T @ r / (2 * n)
        return -np.concatenate([2 * u * g, -2 * v * g]) - 2 * k * (r @ r / (4 * n)) * theta

    theta = solve_ivp(velocity, (0, t_end), np.full(2 * d, alpha), method="DOP853", rtol=1e-12, atol=1e-14).y[:, -1]
    run = dln.flow(problem, loss_decay.LossDecay(k), alpha=alpha, t_end=t_end, rtol=1e-10, method=method)
    assert run.success
    assert np.ptp(run.effective_alpha) <= 1e-12 * alpha
    assert run.effective_alpha[0] < 0.9 * alpha
    np.testing.assert_allclose(np.exp(run.log_u), theta[:d], rtol=1e-8)
    np.testing.assert_allclose(np.exp(run.log_v), theta[d:], rtol=1e-8)


def test_worked_example_runs_as_a_script(loss_decay, capsys):
    runpy.run_path(loss_decay.__file__, run_name="__main__")
    assert capsys.readouterr().out == "converged True\n"
