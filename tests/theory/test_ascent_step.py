"""T6, an empirical claim: the measurement is alive, counts what it says, and never passes."""

import dataclasses
import functools
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import dln
import theory
from theory._fields import gradient_regularization
from theory._network import Network
from theory.ascent_step import CLAIMED, COMPARISONS, QUANTITIES, Sparse, Subsets, compare, measure

MOVES = COMPARISONS[1]
SMALL = {"n_runs": 4, "n_samples": 10, "n_features": 25, "n_nonzero": 2}


@functools.cache
def measured(kind, mean, swapped=False):
    with pytest.MonkeyPatch.context() as patch:
        if swapped:
            flow = dln.flow
            patch.setattr(dln, "flow", lambda problem, rule, **options: flow(
                problem, dataclasses.replace(rule, scheme=OTHER[rule.scheme]) if rule.name == "gr" else rule, **options))
        found = measure(Sparse(kind, mean, **SMALL), alphas=(1e-2, 1.0))
    return {part: finding.details for part, finding in found.items()}


@pytest.mark.parametrize(("kind", "mean"), [("centred", 0.0), ("uncentred", 2.2)])
def test_the_mean_scale_moves_as_claimed_in_every_run(kind, mean):
    for part, details in measured(kind, mean).items():
        assert details["settled"] == details["runs"] == 4, part
        assert details["fractions"]["mean log alpha_eff"][MOVES] == 1.0, part


def test_a_smaller_mean_scale_is_no_smaller_norm():
    """Centred columns at every scale: the mean of log alpha_eff falls, and yet norm and distance grow."""
    for part, details in measured("centred", 0.0).items():
        assert details["fractions"]["l1 norm"][MOVES] == 0.0, part
        assert details["fractions"]["distance to truth"][MOVES] == 0.0, part


OTHER = {"forward": "backward", "backward": "forward"}


@pytest.mark.parametrize(("kind", "mean"), [("centred", 0.0), ("uncentred", 2.2)])
def test_an_engine_with_forward_and_backward_swapped_turns_the_fractions_over(kind, mean):
    """The measurement is alive: a run of the wrong scheme moves as claimed exactly where one of its own scheme does not."""
    right, swapped = measured(kind, mean), measured(kind, mean, swapped=True)
    for part, details in swapped.items():
        alpha, scheme = part.split(", ")
        run_instead = right[f"{alpha}, {OTHER[scheme]}"]["fractions"]
        for quantity in QUANTITIES:
            assert details["fractions"][quantity][MOVES] == pytest.approx(1 - run_instead[quantity][MOVES]), (part, quantity)
        assert details["fractions"]["mean log alpha_eff"][MOVES] == 0.0


def test_fractions_are_counted_run_by_run():
    """Reference: by hand. Two ascent steps, four runs; the third runs away, the fourth moves within the error of a run."""
    flow = np.array([[0.0, 3.0, 1.0], [0.0, 3.0, 1.0], [0.0, 3.0, 1.0], [0.0, 3.0, 1.0]])
    runs = np.array([[[-1.0, 2.5, 1.1], [-2.0, 2.0, 1.2]],
                     [[-1.0, 2.9, 0.9], [-0.5, 3.1, 0.8]],
                     [[-1.0, 2.0, 0.5], [np.nan, np.nan, np.nan]],
                     [[-1.0, 2.0, 0.5], [-1.0 - 1e-12, 2.0, 0.5]]])
    below, moves = (np.array([[found[quantity][name] for quantity in QUANTITIES] for found in (
        compare(flow, runs, CLAIMED["forward"]), compare(flow, runs, CLAIMED["backward"]))]) for name in COMPARISONS)
    np.testing.assert_allclose(below, [[1, 2 / 3, 2 / 3]] * 2)
    np.testing.assert_allclose(moves, [[1 / 3, 1 / 3, 1 / 3], [1 / 3, 1 / 3, 1 / 3]])
    unknown = compare(np.full((2, 3), np.nan), np.full((2, 2, 3), np.nan), -1.0)
    assert unknown["l1 norm"] == {name: None for name in COMPARISONS}


def test_the_quantities_agree_with_an_independent_integration():
    """Reference: SciPy's LSODA in raw weights, on one problem, at every ascent step."""
    population = Sparse("uncentred", 2.2, **{**SMALL, "n_runs": 1})
    details = measure(population, alphas=(1.0,), schemes=("forward",))["alpha = 1, forward"].details
    (instance,) = population.instances()
    net = Network(instance.X, instance.y)
    expected = []
    for step in details["epsilons"]:
        velocity = gradient_regularization(net, details["gamma"], step)
        run = solve_ivp(lambda t, w, f=velocity: np.concatenate(f(t, w[:25], w[25:])), (0, 200.0), np.ones(50), "LSODA",
                        rtol=1e-11, atol=1e-13)
        u, v = run.y[:25, -1], run.y[25:, -1]
        expected.append([np.mean(np.log(u * v)) / 2, np.sum(np.abs(u**2 - v**2)), np.linalg.norm(u**2 - v**2 - instance.truth)])
    np.testing.assert_allclose(details["regularized"][0], expected, rtol=1e-7, atol=1e-8)


def test_given_data_are_halved_and_have_no_truth():
    """Scaling the data changes no fraction: halves are measured in units of their own."""
    problem = dln.sparse_regression(8, 14, 2, rng=0)
    fractions = []
    for of_x, of_y in ((1.0, 1.0), (1e-6, 1e6)):
        population = Subsets(of_x * problem.X, of_y * problem.y, "data", n_runs=3)
        assert [one.X.shape for one in population.instances()] == [(4, 14)] * 3
        details = measure(population, alphas=(0.1,))["alpha = 0.1, forward"].details
        assert details["fractions"]["distance to truth"][MOVES] is None
        fractions.append(details["fractions"])
    assert fractions[0] == fractions[1]


def test_a_study_is_measured_and_neither_passes_nor_fails():
    study = dataclasses.replace(theory.get("T6"), populations=lambda problem: [Sparse("centred", 0.0, **SMALL)],
                                observe=lambda population: measure(population, alphas=(1.0,)))
    check = study.check()
    assert check.passed is None
    assert math.isnan(check.discrepancy)
    assert "T6 measured on centred columns, 4 runs" in str(check)
    assert "mean log alpha_eff in 100 %, l1 norm in 0 %" in check.message
    for format, mark in (("text", "measured"), ("markdown", "| measured |")):
        text = theory.table([check], format)
        assert mark in text
        assert "100 / 100" in text
    (record,) = json.loads(theory.to_json([check]))
    assert record["passed"] is None
    assert len(record["details"][study.problems()[0].name]["alpha = 1, forward"]["regularized"]) == 4


def test_a_study_that_cannot_be_done_has_failed():
    def derive():
        raise theory.DerivationError("T6, step 'x': not proved")

    study = dataclasses.replace(theory.get("T6"), populations=lambda problem: [], derive=derive)
    assert study.check().passed is False
    nothing = SimpleNamespace(X=np.eye(2), y=np.zeros(2), name="nothing")
    assert theory.get("T6").check(nothing).passed is False
