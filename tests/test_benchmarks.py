"""The benchmark suite's own machinery: who is compared, at which setting, and what the report says about it.

No times are asserted: the clock is a fake that the runs move.
"""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from ratios import fields, references, report, tasks
from ratios import protocol as pr
from ratios.flows_dln import SOLVER
from ratios.flows_scipy import SOLVERS
from scipy.integrate import solve_ivp

import dln

SETTINGS = [1e-2, 1e-4, 1e-6, 1e-8]


@pytest.fixture
def now(monkeypatch):
    """Give a clock that stands still unless a run moves it."""
    time = SimpleNamespace(value=0.0, speed=1.0)
    monkeypatch.setattr(pr, "clock", lambda: time.value)
    return time


def task(factors=(1.0, 1.0)):
    """Return a task whose cases scale a solver's error, and have the reference (1, 1)."""
    cases = [SimpleNamespace(factor=factor, reference=np.ones((1, 2)), problem=SimpleNamespace(X=np.ones((1, 2))))
             for factor in factors]
    return tasks.Task("a task", "flow", lambda: cases)


def solver(name, now, cost=lambda setting: 1.0, floor=0.0, **more):
    """Return a solver whose relative error is its setting times the case's factor, but at least `floor`."""
    def prepare(case, label):
        def run(setting, deadline):
            check = pr.guarded(lambda: None, deadline)
            now.value += cost(setting) * now.speed
            check()
            return case.reference * (1.0 + max(setting * case.factor, floor))

        return run

    return pr.Solver(name, lambda task: [("only", SETTINGS)], prepare, **more)


def compared(now, *rivals, rounds=3, **more):
    options = {"patience": 1e6, "least": 1.0, "most": 1e9, "budget": 1e9} | more
    _, found = pr.compare(task(), [solver("dln", now), *rivals], rounds=rounds, **options)
    return {comparison.rival: comparison for comparison in found}


def test_the_loosest_setting_that_is_accurate_on_all_cases_is_taken(now):
    assert pr.choose(solver("s", now), task((1.0, 1.0)), 10.0).setting == 1e-6
    strict = pr.choose(solver("s", now), task((1.0, 5.0)), 10.0)
    assert (strict.setting, strict.error) == (1e-8, pytest.approx(5e-8))


def test_the_fastest_of_the_accurate_settings_of_all_ladders_is_taken(now):
    slow = solver("s", now)
    both = pr.Solver("s", lambda task: [("slow", [1e-7]), ("fast", [1e-9])],
                     solver("s", now, cost=lambda setting: 1e8 * setting).prepare)
    assert slow.ladders(None) and pr.choose(both, task(), 100.0).label == "fast"


def test_a_solver_that_is_not_accurate_enough_is_not_compared_but_keeps_its_row(now):
    found = compared(now, solver("coarse", now, floor=1e-5, cost=lambda setting: 0.01), solver("good", now))
    assert math.isnan(found["coarse"].ratio) and found["coarse"].reason == "error 1e-05 at best"
    entry = report.record(task(), "", list(found.values()))
    assert report.best_of(entry)["rival"] == "good"
    assert "| coarse | none |" in report.task_table(entry)


def test_a_solver_asked_for_at_its_best_is_compared_but_never_the_best(now):
    found = compared(now, solver("coarse", now, floor=1e-5, cost=lambda setting: 0.5, at_its_best=True), solver("good", now))
    assert found["coarse"].ratio == pytest.approx(0.5) and not found["coarse"].qualifies
    entry = report.record(task(), "", list(found.values()))
    assert report.best_of(entry)["rival"] == "good"
    assert "misses the goal" in report.task_table(entry)


def test_ratios_are_of_pairs_and_their_median_counts(now):
    """A spell of ten times slower machine touches both sides of its pairs."""
    three = solver("three", now, cost=lambda setting: 3.0)

    def prepare(case, label):
        run = three.prepare(case, label)

        def run_and_change_speed(setting, deadline):
            found = run(setting, deadline)
            if deadline is None:
                now.speed = 11.0 - now.speed
            return found

        return run_and_change_speed

    found = compared(now, pr.Solver("three", three.ladders, prepare))
    assert found["three"].ratio == found["three"].low == found["three"].high == pytest.approx(3.0)
    assert found["three"].pairs == 2 * 3
    summary = pr.summarize(pr.Choice(solver("s", now), error=0.0), [[1.0, 2.0, 90.0], [4.0, 5.0, 6.0]], 1.0)
    assert (summary.ratio, summary.low, summary.high, summary.pairs) == (4.5, 2.0, 5.0, 6)


def test_slow_solvers_get_fewer_rounds_and_slower_ones_none(now):
    found = compared(now, solver("slow", now, cost=lambda setting: 50.0), solver("endless", now, cost=lambda setting: 1e4),
                     patience=100.0, budget=250.0)
    assert (found["slow"].pairs, found["slow"].ratio) == (2 * 2, pytest.approx(50.0))
    assert found["endless"].pairs == 0 and found["endless"].reason == "over 100x, given up"


def test_a_solver_that_is_slow_where_it_is_sloppy_is_found_at_its_right_setting(now):
    found = compared(now, solver("sloppy", now, cost=lambda setting: 1e4 if setting > 1e-5 else 2.0), patience=100.0)
    assert (found["sloppy"].ratio, found["sloppy"].setting) == (pytest.approx(2.0), "only 1.0e-06")


def test_what_a_solver_raises_is_a_failure_that_the_report_shows(now):
    def prepare(case, label):
        def run(setting, deadline):
            raise FloatingPointError("boom")

        return run

    found = compared(now, pr.Solver("bad", lambda task: [("", SETTINGS)], prepare))
    assert found["bad"].reason == "error inf at best (FloatingPointError: boom)"


def test_a_timed_run_that_is_wrong_stops_the_suite(now):
    def prepare(case, label):
        return lambda setting, deadline: case.reference if deadline else 2 * case.reference

    with pytest.raises(RuntimeError, match="without a deadline"):
        pr.choose(pr.Solver("cheat", lambda task: [("", [None])], prepare), task(), 1.0)


@pytest.mark.parametrize("found", [None, np.full((1, 2), np.nan), np.ones(2), np.ones((2, 2))])
def test_no_result_and_results_of_another_shape_are_infinitely_wrong(found):
    assert pr.relative_error(found, np.ones((1, 2))) == math.inf


def test_error_is_the_worst_of_the_runs():
    assert pr.relative_error(np.array([[1.0, 1.0], [1.0, 2.0]]), np.ones((2, 2))) == pytest.approx(1 / math.sqrt(2))


def columns(table):
    return {line.replace("\\|", "").count("|") for line in table.splitlines()}


def test_report_has_every_target_and_parses(now):
    found = compared(now, solver(report.LSODA, now, cost=lambda setting: 41.0), solver("fast", now, cost=lambda setting: 4.0),
                     solver("gone", now, missing="it is not installed"))
    entry = {**report.record(task(), "auto", list(found.values())), "task": "plain 1e-01"}
    whole = report.document([entry], {"rounds": 3})
    assert json.loads(json.dumps(whole, allow_nan=False)) == whole
    rows = {(row[0].task, row[0].rival): row[1:] for row in report.reach(whole["tasks"])}
    assert rows["plain 1e-01", report.LSODA] == (report.LSODA, pytest.approx(41.0), True)
    assert rows["plain 1e-01", report.BEST] == ("fast", pytest.approx(4.0), False)
    assert rows["l1 N = 200", "HiGHS"] == ("", None, None)
    assert len(rows) == len(report.TARGETS)
    text = report.markdown(whole)
    assert "| gone | none |  | 0 |  | it is not installed |" in text
    for part in text.split("\n\n"):
        assert not part.startswith("|") or len(columns(part)) == 1


def test_every_target_names_a_task_of_the_complete_run():
    names = {task.name for task in tasks.all_tasks(True)} | {"two threads"}
    assert {target.task for target in report.TARGETS} <= names
    assert {task.name for task in tasks.all_tasks(False)} < names


def test_grids_have_different_cells_inside_their_ranges():
    for kind in ("plain", "GR"):
        cells = tasks.grid(kind, 32)
        assert len(set(cells)) == 32 and len({cell[0] for cell in cells}) == 32
        assert len(set(tasks.grid(kind, 1024))) == 1024


@pytest.mark.parametrize("kind", fields.CODES)
@pytest.mark.parametrize("where", ["w", "log"])
def test_rival_jacobians_are_the_derivatives_of_the_velocities(kind, where):
    """Reference: central differences, of order 2."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((4, 6)), rng.standard_normal(4)
    x = rng.uniform(-0.5, 0.5, 12) + (0.0 if where == "log" else 1.0)
    velocity, jacobian = fields.callbacks("NumPy", where, X, y, fields.CODES[kind], 0.3, 0.7)
    slopes = np.array([(velocity(0.0, x + e) - velocity(0.0, x - e)) / 2e-5 for e in 1e-5 * np.eye(12)]).T
    np.testing.assert_allclose(jacobian(0.0, x), slopes, atol=1e-8 * np.abs(slopes).max())


@pytest.mark.parametrize("kind", fields.CODES)
def test_rivals_solve_the_equation_that_the_package_solves(kind):
    """Reference: the package's own integration in dual coordinates, which shares no line with the rivals' velocities."""
    problem = dln.sparse_regression(4, 6, 2, rng=1)
    a, b = tasks.numbers(kind)
    run = dln.flow(problem, tasks.rule(kind, a, b), alpha=0.1, t_end=3.0, rtol=1e-10)
    velocity, _ = fields.callbacks("NumPy", "log", problem.X, problem.y, fields.CODES[kind], a, b)
    found = solve_ivp(velocity, (0.0, 3.0), fields.start("log", 0.1, 6), method="DOP853", rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(fields.to_beta("log", found.y[:, -1]), run.beta, rtol=1e-8, atol=1e-10)


def test_a_real_comparison_from_problem_to_table():
    """Reference of both solvers: a run at rtol 1e-12."""
    small = tasks.single("plain 1e-01", "plain", 0.1, lambda: [dln.sparse_regression(4, 9, 2, rng=seed) for seed in range(2)])
    lsoda = next(solver for solver in SOLVERS if solver.name == report.LSODA)
    ours, found = pr.compare(small, [SOLVER, lsoda], rounds=1, patience=1e3, least=5.0, most=60.0, budget=1.0)
    assert 0.0 < ours.error <= tasks.GOAL and 0.0 < found[0].error <= tasks.GOAL and found[0].ratio > 0.0
    losses = [case.problem.loss(case.reference[0]) for case in small.cases]
    np.testing.assert_allclose(losses, tasks.END_LOSS, rtol=0.5)


def test_references_are_kept_and_found_again(tmp_path, monkeypatch):
    """Reference: the same numbers from the file, others for other cells, and none where no folder is given."""
    problem = dln.sparse_regression(4, 9, 2, rng=0)
    cells = [(0.1, 0.01, 0.1), (0.01, 0.02, 0.1)]
    fresh = tasks.flow_case(problem, "GR", cells, rtol=1e-10)
    monkeypatch.setattr(references, "FOLDER", tmp_path / "kept")
    kept = tasks.flow_case(problem, "GR", cells, rtol=1e-10)
    monkeypatch.setattr(references, "_of_flow", None)  # what is not found in a file fails
    again = tasks.flow_case(problem, "GR", cells, rtol=1e-10)
    for case in (kept, again):
        assert case.cells == fresh.cells and np.array_equal(case.reference, fresh.reference)
    with pytest.raises(TypeError):
        tasks.flow_case(problem, "GR", cells[:1], rtol=1e-10)


def test_a_sweep_has_as_many_cells_as_asked_for():
    counts = {task.name: len(tasks.grid(task.name.split()[1], 24)) for task in tasks.all_tasks(False, 1, 24)
              if task.name.startswith("sweep")}
    assert set(counts.values()) == {24} and len(counts) == 4
    sweep = next(task for task in tasks.all_tasks(False, 1, 3) if task.name == "sweep plain, limits")
    assert len(sweep.cases[0].cells) == 3 and sweep.cases[0].reference.shape == (3, 100)
