"""The command line, in-process: exit statuses, messages, and results against the library's own."""

import functools
import json
import math
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dln
from dln import cli

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def problem():
    return dln.sparse_regression(5, 9, 2, rng=3)


@pytest.fixture
def data(problem, tmp_path):
    """A file with the problem in full precision."""
    path = tmp_path / "data.npz"
    np.savez(path, X=problem.X, y=problem.y)
    return str(path)


@pytest.fixture
def run(capsys):
    """Run a command; give its exit status, output and errors."""

    def call(*words):
        status = cli.main([str(word) for word in words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


RULES = {
    "gradient-flow": ((), dln.GradientFlow()),
    "gr, forward": (("--rule", "gr", "--gamma", ".05", "--epsilon", ".2"), dln.GradientRegularization(0.05, 0.2)),
    "gr, exact": (("--rule", "gr", "--gamma", ".05", "--scheme", "exact"),
                  dln.GradientRegularization(0.05, scheme="exact")),
    "gr, centered, unsquared": (
        ("--rule", "gr", "--gamma", ".01", "--epsilon", ".1", "--scheme", "centered", "--unsquared", "--t-end", "3"),
        dln.GradientRegularization(0.01, 0.1, "centered", squared=False)),
    "sam": (("--rule", "sam", "--rho", ".05"), dln.SAM(0.05)),
    "sam, normalized, per sample": (("--rule", "sam", "--rho", ".01", "--normalized", "--per-sample", "--t-end", "3"),
                                    dln.SAM(0.01, normalized=True, per_sample=True)),
    "flooding": (("--rule", "flooding", "--level", ".05", "--flood-step", ".01", "--t-end", "30"),
                 dln.Flooding(0.05, step=0.01)),
    "weight decay": (("--rule", "weight-decay", "--decay", ".01", "--t-end", "10"), dln.WeightDecay(0.01)),
}


class TestFlow:
    @pytest.mark.parametrize("name", RULES)
    def test_json_agrees_with_the_library(self, run, data, problem, name):
        """Reference: `dln.flow` called directly, to the last bit."""
        words, rule = RULES[name]
        status, out, err = run("flow", data, "--alpha", "1e-2", *words, "--json")
        assert (status, err) == (0, "")
        t_end = float(words[words.index("--t-end") + 1]) if "--t-end" in words else None
        reference = dln.flow(problem, rule, alpha=1e-2, t_end=t_end)
        record = json.loads(out)
        for field in ("beta", "log_effective_alpha", "log_u", "dual"):
            np.testing.assert_array_equal(record[field], getattr(reference, field))
        assert record["t"] == reference.t and record["loss"] == reference.loss and record["success"] is True
        assert record["status"] == str(reference.status) and record["rule"] == repr(rule)

    def test_summary_shows_what_the_library_says(self, run, data, problem):
        """Reference: `dln.flow` called directly."""
        status, out, err = run("flow", data, "--alpha", "1e-2", "--rule", "gr", "--gamma", ".05", "--epsilon", ".2")
        reference = dln.flow(problem, dln.GradientRegularization(0.05, 0.2), alpha=1e-2)
        rows = dict(line.split("  ", 1) for line in out.splitlines()[1:])
        assert (status, err) == (0, "")
        assert rows["status"].strip() == f"{reference.status}: {reference.message}"
        assert float(rows["t"]) == pytest.approx(reference.t, rel=1e-7)
        assert float(rows["|beta|_1"]) == pytest.approx(np.abs(reference.beta).sum(), rel=1e-7)
        size = np.abs(reference.beta)
        assert rows["support"].split()[:3] == [str(np.sum(size > 1e-3 * size.max())), "of", "9"]
        assert f"mean {reference.log_effective_alpha.mean():.6g}" in rows["log alpha_eff"]

    def test_negative_number_with_an_exponent_is_a_value(self, run, data, problem):
        """Reference: at log alpha = -1e5 the limit is the l1 minimiser (Woodworth et al. 2020)."""
        status, out, _ = run("flow", data, "--log-alpha", "-1e5", "--json")
        assert status == 0
        np.testing.assert_allclose(json.loads(out)["beta"], dln.basis_pursuit(problem).beta, atol=1e-4)

    def test_bundled_data_by_name_and_sample(self, run):
        """Reference: `datasets.diabetes`."""
        status, out, _ = run("flow", "diabetes", "--n-samples", "4", "--seed", "5", "--alpha", "1", "--json")
        reference = dln.flow(dln.datasets.diabetes(4, rng=5), alpha=1.0)
        record = json.loads(out)
        assert status == 0
        np.testing.assert_array_equal(record["beta"], reference.beta)
        assert record["feature_names"][:3] == ["age", "sex", "bmi"]

    def test_csv_with_a_named_target(self, run, tmp_path):
        """Reference: the same numbers given to `dln.flow`."""
        (tmp_path / "table.csv").write_text("a,price,b\n1,2,0\n0,-1,1\n")
        status, out, _ = run("flow", tmp_path / "table.csv", "--target", "price", "--alpha", ".1", "--json")
        reference = dln.flow(dln.Problem(np.eye(2), [2, -1]), alpha=0.1)
        assert status == 0
        np.testing.assert_array_equal(json.loads(out)["beta"], reference.beta)

    def test_out_holds_the_run_and_is_itself_data(self, run, data, problem, tmp_path):
        """Reference: the JSON of the same run."""
        out = tmp_path / "run.npz"
        words = ("--rule", "gr", "--gamma", ".05", "--epsilon", ".2", "--alpha", ".1")
        status, text, _ = run("flow", data, *words, "--out", out, "--json")
        assert status == 0 and sorted(os.listdir(tmp_path)) == ["data.npz", "run.npz"]
        record = json.loads(text)
        with np.load(out, allow_pickle=False) as saved:
            np.testing.assert_array_equal(saved["beta"], record["beta"])
            np.testing.assert_array_equal(saved["X"], problem.X)
            assert str(saved["status"]) == "converged" and str(saved["rule"]) == record["rule"]
        assert json.loads(run("flow", out, *words, "--json")[1])["beta"] == record["beta"]

    @pytest.mark.parametrize("suffix", [".png", ".pdf"])
    def test_plot_is_written(self, run, data, tmp_path, suffix):
        """Reference: the first bytes of each format."""
        status, _, err = run("flow", data, "--alpha", ".1", "--plot", tmp_path / f"run{suffix}")
        start = (tmp_path / f"run{suffix}").read_bytes()[:8]
        assert (status, err) == (0, "")
        assert start.startswith(b"%PDF" if suffix == ".pdf" else b"\x89PNG")

    def test_a_run_that_does_not_converge_exits_1_with_its_message(self, run, data, problem):
        """Reference: the message of `dln.flow`."""
        status, out, err = run("flow", data, "--alpha", ".1", "--max-steps", "3", "--json")
        reference = dln.flow(problem, alpha=0.1, max_steps=3)
        record = json.loads(out)
        assert status == 1 and record["success"] is False and not reference.success
        assert err == f"dln: {reference.status}: {reference.message}\n" and record["message"] == reference.message


class TestDescend:
    WORDS = ("--alpha", ".2", "--step", ".05", "--n-steps", "300", "--batch-size", "2", "--sampling", "distinct",
             "--label-noise", ".1", "--momentum", ".5", "--nesterov", "--run-seed", "4")

    def test_json_and_file_agree_with_the_library(self, run, data, problem, tmp_path):
        """Reference: `dln.descend` called directly."""
        status, out, _ = run("descend", data, *self.WORDS, "--json", "--out", tmp_path / "run.npz")
        reference = dln.descend(problem, step=0.05, n_steps=300, alpha=0.2, batch_size=2, sampling="distinct", label_noise=0.1,
                                momentum=0.5, nesterov=True, rng=4)
        assert status == 0
        record = json.loads(out)
        assert np.array_equal(record["beta"], reference.beta)
        assert (record["n_steps"], record["status"], record["batch_size"]) == (300, "all steps made", 2)
        with np.load(tmp_path / "run.npz") as file:
            assert np.array_equal(file["log_u"], reference.log_u) and np.array_equal(file["X"], problem.X)

    def test_summary_of_flooding(self, run, data, problem):
        """Reference: `dln.descend` called directly."""
        words = ("--alpha", ".2", "--step", ".05", "--n-steps", "999", "--rule", "flooding", "--level", ".05")
        status, out, _ = run("descend", data, *words)
        reference = dln.descend(problem, dln.Flooding(0.05), step=0.05, n_steps=999, alpha=0.2)
        assert status == 0
        assert f"{reference.n_descents} steps down, {reference.n_ascents} up" in out

    def test_divergence_exits_1(self, run, data):
        """Reference: a step of 50 is beyond any stability bound."""
        status, _, err = run("descend", data, "--alpha", ".2", "--step", "50", "--n-steps", "99999")
        assert status == 1
        assert err.startswith("dln: diverged: ") and err.count("\n") == 1


class TestPredict:
    def test_json_and_file_agree_with_the_library(self, run, data, problem, tmp_path):
        """Reference: `dln.minimize_potential` called directly."""
        status, out, err = run("predict", data, "--alpha", "1e-3", "--json", "--out", tmp_path / "best.npz")
        reference = dln.minimize_potential(problem, alpha=1e-3)
        record = json.loads(out)
        assert (status, err) == (0, "")
        np.testing.assert_array_equal(record["beta"], reference.beta)
        assert record["duality_gap"] == reference.duality_gap and record["success"] is True
        with np.load(tmp_path / "best.npz") as saved:
            np.testing.assert_array_equal(saved["beta"], reference.beta)

    def test_it_predicts_where_the_flow_goes(self, run, data):
        """Reference: `dln flow`, which integrates and minimises nothing (Woodworth et al. 2020)."""
        predicted, reached = (json.loads(run(command, data, "--alpha", "1e-2", "--json")[1])["beta"]
                              for command in ("predict", "flow"))
        np.testing.assert_allclose(predicted, reached, atol=1e-7)

    def test_summary(self, run, data, problem):
        """Reference: `dln.minimize_potential` called directly."""
        status, out, _ = run("predict", data, "--log-alpha", "-500")
        reference = dln.minimize_potential(problem, log_alpha=-500)
        assert status == 0
        assert f"|beta|_2     {np.linalg.norm(reference.beta):.8g}" in out and "log alpha = -500" in out


BAD = {
    "no such command": (("flw", "diabetes"), "unknown command 'flw'; did you mean 'flow'?"),
    "no such rule": (("flow", "diabetes", "--alpha", "1", "--rule", "sma"), "unknown rule 'sma'; did you mean 'sam'?"),
    "no such scheme": (("flow", "diabetes", "--alpha", "1", "--rule", "gr", "--gamma", "1", "--epsilon", "1",
                        "--scheme", "foward"), "unknown scheme 'foward'; did you mean 'forward'?"),
    "no such method": (("flow", "diabetes", "--alpha", "1", "--method", "rosenbrok"), "did you mean 'rosenbrock'?"),
    "no such option": (("flow", "diabetes", "--alpha", "1", "--gama=1"),
                       "unknown option of dln flow '--gama'; did you mean '--gamma'?"),
    "no such option of all": (("--vresion",), "did you mean '--version'?"),
    "no such bundled data": (("flow", "diabets", "--alpha", "1"), "unknown data 'diabets'; did you mean 'diabetes'?"),
    "no such theorem": (("verify", "X4"), "unknown theorem 'X4'; did you mean 'T4'?"),
    "no such theorem to derive": (("derive", "T44"), "unknown theorem 'T44'; did you mean 'T4'?"),
    "no such figure": (("figure", "phase-digram", "--out", "x.pdf"), "did you mean 'phase-diagram'?"),
    "no such file": (("flow", "nowhere/data.csv", "--alpha", "1"), "nowhere/data.csv does not exist"),
    "a folder": (("predict", ".", "--alpha", "1"), "is a directory"),
    "no data": (("flow", "--alpha", "1"), "required: DATA"),
    "too much data": (("flow", "diabetes", "diabetes", "--alpha", "1"), "no further argument 'diabetes'"),
    "no scale": (("flow", "diabetes"), "--alpha --log-alpha is required"),
    "two scales": (("predict", "diabetes", "--alpha", "1", "--log-alpha", "0"), "not allowed with argument --alpha"),
    "alpha 0": (("flow", "diabetes", "--alpha", "0"), "alpha must be positive and finite, got 0.0"),
    "negative alpha": (("predict", "diabetes", "--alpha", "-1e-3"), "alpha must be positive and finite, got -0.001"),
    "NaN": (("flow", "diabetes", "--log-alpha", "nan"), "log_alpha must be finite, got nan"),
    "not a number": (("flow", "diabetes", "--alpha", "1o"), "--alpha: invalid float value: '1o'"),
    "negative gamma": (("flow", "diabetes", "--alpha", "1", "--rule", "gr", "--gamma", "-1", "--epsilon", "1"),
                       "gamma must be finite and at least 0, got -1"),
    "epsilon 0": (("flow", "diabetes", "--alpha", "1", "--rule", "gr", "--gamma", "1", "--epsilon", "0"),
                  "epsilon must be finite and above 0, got 0"),
    "epsilon missing": (("flow", "diabetes", "--alpha", "1", "--rule", "gr", "--gamma", "1"), "give epsilon > 0"),
    "epsilon with exact": (("flow", "diabetes", "--alpha", "1", "--rule", "gr", "--gamma", "1", "--epsilon", "1",
                            "--scheme", "exact"), "scheme 'exact' takes no epsilon"),
    "negative rho": (("flow", "diabetes", "--alpha", "1", "--rule", "sam", "--rho", "-2"), "rho must be finite"),
    "t_end 0": (("flow", "diabetes", "--alpha", "1", "--t-end", "0"), "t_end must be finite and above 0, got 0"),
    "rtol too large": (("flow", "diabetes", "--alpha", "1", "--rtol", "1"), "rtol must be at most"),
    "no steps": (("flow", "diabetes", "--alpha", "1", "--max-steps", "0"), "max_steps must be a positive integer"),
    "gamma missing": (("flow", "diabetes", "--alpha", "1", "--rule", "gr"), "rule 'gr' needs --gamma"),
    "decay missing": (("flow", "diabetes", "--alpha", "1", "--rule", "weight-decay"), "needs --decay"),
    "gamma without a rule": (("flow", "diabetes", "--alpha", "1", "--gamma", "0"),
                             "--gamma does not belong to rule 'gradient-flow': it goes with --rule gr"),
    "level missing": (("flow", "diabetes", "--alpha", "1", "--rule", "flooding"), "rule 'flooding' needs --level"),
    "step missing": (("descend", "diabetes", "--alpha", "1", "--n-steps", "9"), "required: --step"),
    "momentum 1": (("descend", "diabetes", "--alpha", "1", "--n-steps", "9", "--step", "1", "--momentum", "1"),
                   "momentum must be below 1"),
    "rho with gr": (("flow", "diabetes", "--alpha", "1", "--rule", "gr", "--gamma", "1", "--rho", "1"),
                    "--rho does not belong to rule 'gr'"),
    "per sample with gr": (("flow", "diabetes", "--alpha", "1", "--rule", "gr", "--gamma", "1", "--per-sample"),
                           "--per-sample does not belong to rule 'gr'"),
    "unsquared with sam": (("flow", "diabetes", "--alpha", "1", "--rule", "sam", "--rho", "1", "--unsquared"),
                           "--unsquared does not belong to rule 'sam'"),
    "target of bundled data": (("flow", "diabetes", "--alpha", "1", "--target", "bmi"), "--target is for a file"),
    "samples of a file": (("flow", "a.csv", "--alpha", "1", "--n-samples", "3"), "--n-samples is for bundled data"),
    "too many samples": (("flow", "diabetes", "--alpha", "1", "--n-samples", "443"), "n_samples must be between 1 and"),
    "negative seed": (("flow", "diabetes", "--alpha", "1", "--seed", "-1"), "--seed must be at least 0, got -1"),
    "target without data": (("verify", "--target", "y"), "--target needs --data"),
    "out without .npz": (("flow", "diabetes", "--alpha", "1", "--out", "run"), "--out run must end in .npz"),
    "out in no folder": (("flow", "diabetes", "--alpha", "1", "--out", "no/where/run.npz"),
                         "the folder no/where does not exist"),
    "plot of no format": (("flow", "diabetes", "--alpha", "1", "--plot", "run.jpg"), "must end in .png or .pdf"),
    "figure in no folder": (("figure", "potentials", "--out", "no/where.pdf"), "the folder no does not exist"),
    "figure without out": (("figure", "potentials"), "needs --out FILE, ending in .png or .pdf"),
    "figure without a name": (("figure", "--out", "x.pdf"), "name a figure: phase-diagram, "),
    "figure that takes no data": (("figure", "potentials", "--out", "x.pdf", "--data", "diabetes"), "needs no data"),
    "two formats": (("verify", "--json", "--markdown"), "not allowed with argument --json"),
    "a theorem taken for the file": (("verify", "--json", "T1"), "--json T1 must end in .json"),
    "no folder for the file": (("verify", "T1", "--json", "no/such.json"), "the folder no does not exist"),
    "no processes": (("verify", "--jobs", "0"), "--jobs must be at least 1, got 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_usage_and_input_give_one_line_and_status_2(run, name):
    words, message = BAD[name]
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert err.startswith("dln: ") and err.count("\n") == 1 and message in err


@pytest.mark.parametrize("text, message", [
    ("a,y\n1,2\nx,3\n", "line 3, column 'a': 'x' is not a number"),
    ("a,y\n1,nan\n", "line 2, column 'y': nan is not finite"),
    ("a,b\n1,2\n", "no column called 'y' or 'target'"),
    ("", "is empty"),
])
def test_bad_tables_are_named_with_line_and_column(run, tmp_path, text, message):
    (tmp_path / "table.csv").write_text(text)
    status, out, err = run("flow", tmp_path / "table.csv", "--alpha", "1")
    assert (status, out) == (2, "") and message in err and err.count("\n") == 1


class TestTheorems:
    def test_theorems_lists_every_one_with_its_statement(self, run):
        """Reference: the registry."""
        import theory

        status, out, _ = run("theorems")
        assert status == 0
        for key, theorem in theory.theorems.items():
            assert f"{key} " in out and theorem.statement in out and theorem.source in out

    @pytest.mark.parametrize("latex", [False, True])
    def test_derive_prints_the_derivation(self, run, latex):
        """Reference: the derivation itself."""
        import theory

        status, out, _ = run("derive", "T1", *(["--latex"] if latex else []))
        derivation = theory.get("T1").derive()
        assert status == 0 and out.strip() == (derivation.to_latex() if latex else str(derivation)).strip()

    def test_derive_takes_a_map(self, run):
        """Reference: `theory.derive_potential`; a map that is none is one line on standard error."""
        import theory

        status, out, _ = run("derive", "--map", "u**3")
        assert status == 0 and str(theory.derive_potential("u**3").derivation).strip() in out
        status, out, err = run("derive", "--map", "u**")
        assert status == 2 and out == "" and err.startswith("dln: ") and err.count("\n") == 1 and "u**" in err

    def test_a_derivation_that_is_not_proved_exits_1(self, run, monkeypatch):
        import theory

        def derive(self):
            raise theory.DerivationError("T1, step 'one': no proof")

        broken = type("Broken", (), {"derive": derive})()
        monkeypatch.setattr(theory, "get", lambda key: broken)
        assert run("derive", "T1") == (1, "", "dln: T1, step 'one': no proof\n")

    def test_verify_passes_on_data_and_gives_json(self, run, data):
        """Reference: what the checks of the registry return."""
        status, out, err = run("verify", "T1", "--data", data, "--json")
        assert (status, err) == (0, "")
        record = json.loads(out)
        (check,) = record if isinstance(record, list) else record["checks"]
        assert check["key"] == "T1" and check["passed"] is True and check["discrepancy"] <= check["tolerance"]

    @pytest.mark.parametrize("form", [(), ("--markdown",), ("--json",)])
    def test_a_failed_check_exits_1_and_says_so(self, run, monkeypatch, form):
        import theory

        good, bad = (theory.Check(key, "a law", "data", size, 1e-9, size < 1e-9, 0.1, {}, "worst: a part")
                     for key, size in (("T1", 1e-12), ("T4", 1.0)))
        monkeypatch.setattr(theory, "verify", lambda keys, problem, progress, jobs: [good, bad])
        status, out, err = run("verify", "T1", "T4", *form)
        assert status == 1 and "T4" in out and err == "dln: T4 failed: worst: a part\n"


    def test_an_empirical_claim_is_measured_and_fails_nothing(self, run, monkeypatch):
        import theory

        measured = theory.Check("T6", "a claim", "runs", math.nan, math.nan, None, 0.1, {"all": {"a part": {
            "fractions": {"a norm": {"is small": 0.5, "moves": None}}, "runs": 4, "settled": 3}}}, "half")
        monkeypatch.setattr(theory, "verify", lambda keys, problem, progress, jobs: [measured])
        status, out, err = run("verify", "T6")
        assert (status, err) == (0, "") and "measured" in out and "0 of 0 theorems passed, 1 measured" in out
        assert "50 / -" in out and "3 of 4" in out and "is small / moves" in out

    def test_json_goes_to_a_file_beside_the_table(self, run, data, tmp_path):
        """Reference: the same numbers, printed."""
        file = tmp_path / "checks.json"
        status, out, err = run("verify", "T1", "--data", data, "--json", file, "--markdown")
        assert (status, err) == (0, "") and out.startswith("| theorem | statement |")
        printed = json.loads(run("verify", "T1", "--data", data, "--json")[1])
        (check,), (again,) = json.loads(file.read_text()), printed
        assert check["passed"] is True and check["details"] == again["details"]

    def test_progress_is_one_line_on_standard_error_if_asked(self, run, data):
        status, out, err = run("verify", "T1", "--data", data, "--progress")
        assert status == 0 and err.count("\n") == 1 and err.startswith("T1 passed on data") and "T1 passed on" not in out


class TestFigure:
    def test_list_names_every_figure(self, run):
        """Reference: the registry."""
        import figures

        status, out, _ = run("figure", "--list")
        assert status == 0 and [line.split()[0] for line in out.splitlines()] == list(figures.registry)

    def test_one_picture_in_two_formats(self, run, tmp_path):
        outs = tmp_path / "a.png", tmp_path / "b.pdf"
        status, out, err = run("figure", "potentials", "--out", outs[0], "--out", outs[1])
        assert (status, err) == (0, "")
        assert out == f"wrote {outs[0]}\nwrote {outs[1]}\n" and all(path.stat().st_size > 1000 for path in outs)

    def test_phase_diagram_of_given_data(self, run, data, problem, tmp_path, monkeypatch):
        from figures import phase_diagram

        drawn = []
        small = functools.partial(phase_diagram.compute, alphas=[0.01, 1], gammas=[0.01])
        monkeypatch.setattr(phase_diagram, "compute", small)
        draw = phase_diagram.draw
        monkeypatch.setattr(phase_diagram, "draw", lambda data: drawn.append(data) or draw(data))
        status, _, err = run("figure", "phase-diagram", "--data", data, "--out", tmp_path / "a.png")
        assert (status, err) == (0, "") and (tmp_path / "a.png").stat().st_size > 1000
        assert drawn[0].title[0] == "data" and drawn[0].values.shape == (1, 2)

    def test_progress_on_a_terminal_only(self, run, data, tmp_path, monkeypatch):
        words = ("figure", "trajectories", "--data", data, "--out", tmp_path / "a.png")
        assert run(*words)[2] == ""
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        assert "trajectories" in run(*words)[2]


class TestEnds:
    def test_help_and_version(self, run):
        assert run("--version")[:2] == (0, f"dln {dln.__version__}\n")
        for words in ((), ("--help",), ("flow", "--help")):
            status, out, err = run(*words)
            assert (status, err) == (0, "") and "usage: dln" in out

    def test_ctrl_c_ends_quietly(self, run, monkeypatch):
        def interrupted(*args, **options):
            raise KeyboardInterrupt

        monkeypatch.setattr(dln, "flow", interrupted)
        assert run("flow", "diabetes", "--alpha", "1") == (130, "", "")

    def test_numbers_that_json_lacks_become_null(self, capsys):
        """Reference: the JSON grammar, which has no NaN (`parse_constant` sees what the grammar does not know)."""
        record = {"a": np.array([1.0, np.nan, -np.inf]), "b": np.float64(np.nan), "c": np.bool_(True), "d": (2, None)}
        cli._print_json(record)

        def refuse(word):
            raise AssertionError(word)

        read = json.loads(capsys.readouterr().out, parse_constant=refuse)
        assert read == {"a": [1.0, None, None], "b": None, "c": True, "d": [2, None]}

    def test_python_m_dln(self, monkeypatch, capsys):
        monkeypatch.setattr(sys, "argv", ["dln", "flw"])
        with pytest.raises(SystemExit) as stop:
            runpy.run_module("dln", run_name="__main__")
        assert stop.value.code == 2 and "did you mean 'flow'?" in capsys.readouterr().err

    def test_closed_pipe_ends_quietly(self):
        reader, writer = os.pipe()
        os.close(reader)
        try:
            done = subprocess.run([sys.executable, "-m", "dln", "figure", "--list"], stdout=writer,
                                  stderr=subprocess.PIPE, cwd=ROOT, timeout=60, check=False)
        finally:
            os.close(writer)
        assert (done.returncode, done.stderr) == (141, b"")

    def test_flow_imports_neither_sympy_nor_matplotlib(self, data):
        code = ("import sys; from dln.cli import main; status = main(['flow', sys.argv[1], '--alpha', '1']); "
                "print(status, *sorted({'sympy', 'matplotlib', 'theory', 'figures'} & set(sys.modules)))")
        done = subprocess.run([sys.executable, "-c", code, data], capture_output=True, text=True, cwd=ROOT, timeout=60,
                              check=True)
        assert done.stdout.splitlines()[-1] == "0"
