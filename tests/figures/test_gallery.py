"""The gallery: every figure is drawn, and one that fails is told and does not stop the others."""

import functools

import numpy as np
import pytest

import figures
from dln import cli
from figures import gallery, potentials, saddles


@pytest.fixture
def three(monkeypatch):
    """A registry of three figures, of which the second fails; cheap, and no less a registry."""
    def fail(**options):
        raise FloatingPointError("no\nluck")

    monkeypatch.setattr(figures, "registry", {name: figures.registry[name] for name in ("potentials", "margins", "saddles")})
    monkeypatch.setattr(figures.get("margins"), "compute", fail)
    monkeypatch.setattr(saddles, "compute", functools.partial(saddles.compute, log_alphas=[-100.0, -10.0], n_times=20))


def test_one_that_fails_does_not_stop_the_others(three, tmp_path):
    """Reference: the files, and what is told of each."""
    seen = []
    drawn = gallery.draw_all(tmp_path / "new" / "folder", report=seen.append)
    assert drawn == seen and [one.name for one in drawn] == ["potentials", "margins", "saddles"]
    assert [one.error for one in drawn] == ["", "failed: FloatingPointError: no luck", ""]
    assert [one.path.is_file() for one in drawn] == [True, False, True]
    assert all(one.seconds > 0 for one in drawn) and str(drawn[1]).endswith("s  failed: FloatingPointError: no luck")


def test_full_is_the_papers_size(three, monkeypatch, tmp_path):
    """Reference: the arguments that compute is called with."""
    calls = []
    compute = potentials.compute

    def counted(**options):
        calls.append(options)
        return compute(**options)

    monkeypatch.setattr(potentials, "compute", counted)
    for full in (False, True):
        gallery.draw_all(tmp_path, full=full, names=("potentials",))
    assert calls == [{}, potentials.FULL]
    assert cli.main(["figure", "potentials", "--full", "--out", str(tmp_path / "a.pdf")]) == 0
    assert calls[2] == potentials.FULL


def test_the_command_says_what_failed_and_how_long_each_took(three, tmp_path, capsys):
    assert cli.main(["figure", "--all", "--out-dir", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("potentials") and lines[0].endswith(str(tmp_path / "potentials.png")) and " s  " in lines[0]
    assert lines[-1].startswith("2 of 3 figures in ") and "margins" in err and "dln: 1 of 3 figures failed" in err


@pytest.mark.parametrize("words, message", [
    (("--all", "--out", "a.png"), "--out does not go with --all"),
    (("potentials", "--all"), "a figure's name does not go with --all"),
    (("--all", "--data", "diabetes"), "--data does not go with --all"),
    (("--all", "--seed", "3"), "--seed needs --data"),
    (("potentials", "--out-dir", "x"), "--out-dir goes with --all"),
])
def test_what_does_not_go_together_is_refused(words, message, capsys):
    assert cli.main(["figure", *words]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_unknown_names_are_refused_before_any_work(tmp_path):
    with pytest.raises(ValueError, match="unknown figure 'potential'"):
        gallery.draw_all(tmp_path / "x", names=("potentials", "potential"))
    assert not (tmp_path / "x").exists()


def test_every_figure_has_a_larger_size():
    """Reference: what compute takes by default: more of everything."""
    import inspect

    for name in figures.registry:
        module = figures.get(name)
        for key, value in module.FULL.items():
            usual = inspect.signature(module.compute).parameters[key].default
            if usual is not None:
                assert np.size(value) > np.size(usual) or value > usual, (name, key)
