"""Every theorem passes on data of all kinds, by both routes, and says so; what cannot be checked has not passed."""

import dataclasses
import functools
import json
import math
import os

import numpy as np
import pytest

import theory
from theory._engine import stand_in
from theory._exact import DISCREPANCIES, ExactLaw
from theory._setting import Data, Setting, default_data

SMALL = default_data(2)[1]
EXACT = ["T1", "T2", "T3", "T4", "T8", "T16"]
#: What can pass: all but empirical claims, which have tests of their own.
CHECKED = [key for key, theorem in theory.theorems.items() if theorem.kind != "empirical"]


@functools.cache
def check_small(key):
    return theory.get(key).check(SMALL)


@pytest.mark.parametrize("key", CHECKED)
def test_theorem_passes_on_a_small_problem(key):
    check = check_small(key)
    assert check.passed, check.message
    assert check.discrepancy <= check.tolerance
    assert check.data == SMALL.name
    assert "errors" not in check.details


@pytest.mark.parametrize("place", [7, 8, 9])
@pytest.mark.parametrize("key", CHECKED)
def test_theorem_passes_on_the_special_problems(key, place):
    """Duplicate columns, one sample, many features; limits are not tried where they are slow (T5, duplicate columns)."""
    if theory.get(key).kind == "limit" and place == 7:
        return
    check = theory.get(key).check(default_data()[place])
    assert check.passed, check.message


def test_default_data_are_ten_problems_of_the_kinds_that_they_say():
    data = default_data()
    assert len(data) == len({one.name for one in data}) == 10
    assert all(one.X.shape[0] < one.X.shape[1] and one.y.shape == one.X.shape[:1] for one in data)
    assert all(np.max(np.abs(np.corrcoef(one.X.T) - np.eye(one.X.shape[1]))) > 0.3 for one in data if one.X.shape[0] > 1)
    duplicate, single, many = data[7:]
    np.testing.assert_array_equal(duplicate.X[:, [1, 4]], duplicate.X[:, [0, 3]])
    np.testing.assert_array_equal(duplicate.X[:, 2], -duplicate.X[:, 0])
    assert single.X.shape[0] == 1 and many.X.shape == (8, 40)
    # Longer lists begin with the shorter ones.
    np.testing.assert_array_equal(default_data(2)[1].X, data[1].X)


@pytest.mark.parametrize("key", CHECKED)
def test_every_rule_of_an_exact_theorem_is_checked_on_every_default_problem(key):
    theorem = theory.get(key)
    assert len(theorem.problems()) == (11 if theorem.kind == "exact" else 3 + theorem.on_real_data)
    names = [[part.name for part in theorem.parts(Setting(data))] for data in theorem.problems()]
    # Limits that come with an exact theorem are measured where ensembles are cheap and generic, its laws everywhere.
    limits = ("small steps", "stochastic flow in weights", "isolated transition", "limit, ")
    laws = [[name for name in one if not name.startswith(limits)] for one in names]
    assert all(one == laws[0] for one in laws)
    assert sorted(check_small(key).details[SMALL.name]) == sorted(names[0])


def test_exact_theorems_are_checked_on_the_real_data_of_the_library_too():
    """Reference: `dln.datasets.diabetes`."""
    import dln

    problems = theory.get("T8").problems()
    np.testing.assert_array_equal(problems[-1].X, dln.datasets.diabetes().X)
    np.testing.assert_array_equal(problems[-1].y, dln.datasets.diabetes().y)
    check = theory.get("T8").check()
    assert check.passed, check.message
    assert check.data == "10 synthetic problems, diabetes (N=30, d=64)"
    assert set(check.details) == {problem.name for problem in problems}


@pytest.mark.parametrize("key", EXACT)
def test_exact_laws_are_met_far_below_their_tolerance_at_four_times(key):
    check = check_small(key)
    assert check.tolerance == 1e-9
    for part in check.details[SMALL.name].values():
        for name in DISCREPANCIES:
            assert len(part[name]) == 4
            assert max(part[name]) < 1e-11
        assert max(part["argmin_stationarity"]) < 1e-12
        assert max(part["argmin_infeasibility"]) < 1e-12


@pytest.mark.parametrize("key", EXACT)
@pytest.mark.parametrize(("of_x", "of_y"), [(1e-6, 1.0), (1e6, 1e12)])
def test_scaling_the_data_changes_no_verdict(key, of_x, of_y):
    check = theory.get(key).check(Data(of_x * SMALL.X, of_y * SMALL.y, "scaled"))
    assert check.passed, check.message


@pytest.mark.parametrize("key", EXACT)
@pytest.mark.parametrize("kind", ["more samples than features", "duplicate rows", "zero column", "opposite columns"])
def test_exact_laws_hold_where_y_cannot_be_interpolated_and_where_columns_are_degenerate(key, kind):
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((4, 6)), rng.standard_normal(4)
    if kind == "more samples than features":
        X, y = rng.standard_normal((7, 3)), rng.standard_normal(7)
    elif kind == "duplicate rows":
        X[1] = X[0]
    elif kind == "zero column":
        X[:, 2] = 0
    else:
        X[:, 3] = -X[:, 2]
    check = theory.get(key).check(Data(X, y, kind))
    assert check.passed, check.message


def test_the_stand_in_engine_passes_with_the_right_pair():
    """Else the mutants made with it would be rejected for the wrong reason."""
    setting = Setting(SMALL)
    for key in theory.theorems:
        for part in theory.get(key).parts(setting):
            if isinstance(part, ExactLaw):
                finding = dataclasses.replace(part, engine=stand_in(part.pair)).measure(setting)
                assert finding.passed, (key, part.name, finding.discrepancy)


@pytest.mark.parametrize("key", theory.theorems)
@pytest.mark.parametrize("target", ["zero", "orthogonal to every column"])
def test_a_check_with_nothing_to_check_has_not_passed(key, target):
    X = np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    check = theory.get(key).check(Data(X, np.array([0.0, float(target != "zero")]), target))
    assert not check.passed
    assert check.discrepancy == math.inf
    assert "nothing to check" in check.message


def test_orders_need_a_choice_among_minimisers():
    """With more samples than features all schemes share one limit: T5 says nothing, and does not pass."""
    rng = np.random.default_rng(0)
    check = theory.get("T5").check(Data(rng.standard_normal((6, 2)), rng.standard_normal(6), "tall"))
    assert not check.passed


def test_a_failing_engine_is_a_failure(monkeypatch):
    import dln

    monkeypatch.setattr(dln, "flow", lambda *args, **kwargs: (_ for _ in ()).throw(ValueError("out of order")))
    check = theory.get("T1").check(SMALL)
    assert not check.passed
    assert "out of order" in check.message


def test_an_unproved_derivation_is_a_failure():
    def derive():
        raise theory.DerivationError("T1, step 'x': not proved")

    check = dataclasses.replace(theory.get("T1"), derive=derive).check(SMALL)
    assert not check.passed
    assert "not proved" in check.message


def test_nan_is_a_failure():
    setting = Setting(SMALL)
    part = theory.get("T1").parts(setting)[0]

    def broken(data, alpha, log_ratio, times):
        run = part.engine(data, alpha, log_ratio, times)
        run.betas[1, 0] = np.nan
        return run

    finding = dataclasses.replace(part, engine=broken).measure(setting)
    assert not finding.passed
    assert finding.discrepancy == math.inf


def test_all_theorems_of_the_slice_are_there_in_order():
    numbers = [*range(1, 25)]
    assert list(theory.theorems) == [f"T{number}" for number in numbers]
    for key, theorem in theory.theorems.items():
        assert theorem.key == key
        assert theorem.kind in ("exact", "limit", "empirical")
        assert "\n" not in theorem.statement
        assert len(theorem.mutants) >= (3 if theorem.kind != "empirical" else 0)


@pytest.mark.parametrize(("key", "hint"),
                         [("T44", "did you mean 'T4'"), ("T166", "did you mean 'T16'"), ("sam", "known: T1")])
def test_an_unknown_theorem_is_answered_with_the_nearest(key, hint):
    with pytest.raises(ValueError, match=f"unknown theorem '{key}'; {hint}"):
        theory.get(key)


def test_keys_may_be_lower_case():
    assert theory.get("t16") is theory.theorems["T16"]


def test_an_unknown_mutant_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'centre dropped'"):
        theory.get("T2").check(SMALL, mutant="center dropped")


def test_a_key_is_taken_once():
    with pytest.raises(ValueError, match="'T1' is already there"):
        theory.theorems.add(theory.get("T1"))


def test_verify_reports_each_theorem_and_keeps_the_order():
    seen = []
    checks = theory.verify(["T8", "T1"], SMALL, progress=seen.append)
    assert seen == checks
    assert [check.key for check in checks] == ["T8", "T1"]


def test_the_number_of_processes_changes_no_number():
    """Reference: the same checks in this process. Compared as JSON, with every number in it, but for the seconds."""
    def numbers(jobs):
        checks = theory.verify(["T8", "T1"], SMALL, progress=finished.append, jobs=jobs)
        return theory.to_json([dataclasses.replace(check, seconds=0.0) for check in checks])

    finished = []
    assert numbers(2) == numbers(1)
    assert sorted(check.key for check in finished[:2]) == ["T1", "T8"]


class Deadly:
    """Data that end the process that receives them."""

    X, y, name = SMALL.X, SMALL.y, "deadly"

    def __reduce__(self):
        return os._exit, (1,)


def test_a_process_that_dies_is_an_error_and_no_endless_wait():
    with pytest.raises(ChildProcessError, match=r"ended abruptly.*jobs=1"):
        theory.verify(["T1"], Deadly(), jobs=2)


def test_processes_are_counted_from_one():
    with pytest.raises(ValueError, match="jobs must be at least 1, got 0"):
        theory.verify(["T1"], SMALL, jobs=0)


def test_tables_and_json_hold_every_check():
    checks = theory.verify(["T1", "T8"], SMALL)
    broken = dataclasses.replace(checks[1], passed=False, discrepancy=math.inf)
    text = theory.table([checks[0], broken])
    assert " yes " in text.splitlines()[2]
    assert " NO " in text.splitlines()[3]
    assert "1 of 2 theorems passed; " in text and text.endswith(" s of computing.")
    markdown = theory.table(checks, format="markdown").splitlines()
    assert len(markdown) == 4
    assert all(line.startswith("| ") and line.endswith(" |") for line in markdown)
    read = json.loads(theory.to_json([checks[0], broken]))
    assert read[0]["passed"] is True
    assert read[1]["discrepancy"] is None
    assert len(read[0]["details"][SMALL.name]["u0 = v0 = alpha"]["law"]) == 4
    with pytest.raises(ValueError, match="'text' or 'markdown', got 'html'"):
        theory.table(checks, format="html")
    assert "T1 passed on" in str(checks[0])
