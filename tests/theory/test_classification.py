"""T21: its raw route, its solvers, its parts; and the data on which the limit of the direction is another one."""

import dataclasses

import numpy as np
import pytest
from scipy.integrate import quad_vec

import dln
import theory
from theory import _two_classes
from theory._margin_limits import DirectionLimit, _multipliers_grow
from theory._setting import Data, Setting, default_data
from theory._two_classes import RATES, active_minimiser, follow, least_l1_active, two_classes
from theory.classification import DISCREPANCIES, MarginLaw

SMALL = default_data(2)[1]
T21 = theory.get("T21")


def test_the_derivation_starts_from_both_losses_and_ends_at_inequalities():
    text = str(T21.derive())
    for words in ("exponential loss is the pair p = -Z^T a", "logistic loss is the pair p = -Z^T a", "asinh(beta/(2 a_t^2))",
                  "subject to z_i.b >= z_i.beta(t)", "multipliers never fall"):
        assert words in " ".join(text.split())


def test_laws_are_met_far_below_their_tolerance():
    check = T21.check(SMALL)
    assert check.passed and check.discrepancy < 1e-11
    for part in ("exponential loss", "logistic loss", "descent"):
        found = check.details[SMALL.name][part]
        assert all(max(found[name]) < 1e-11 for name in DISCREPANCIES)
        assert len(found["margins"]) == 4 and found["margins"][-1] > 1


def test_pulls_against_finite_differences_of_the_losses():
    """Reference: central differences of exp(-m) and log(1 + exp(-m))."""
    m, h = np.linspace(-3, 5, 9), 1e-6
    for name, loss in (("exponential", lambda m: np.exp(-m)), ("logistic", lambda m: np.log1p(np.exp(-m)))):
        np.testing.assert_allclose(RATES[name](m), -(loss(m + h) - loss(m - h)) / (2 * h), rtol=1e-8)


def test_the_soft_margin_as_time_against_the_path_in_multipliers():
    """Reference: one sample: beta = 2 alpha^2 sinh(4 z nu) at the nu where the margin is as asked for."""
    z, alpha = np.array([[1.0, -2.0]]), np.array([0.3, 0.5])
    beta = follow(z, alpha, 7.0)
    assert z[0] @ beta == pytest.approx(7.0, rel=1e-9)
    nu = np.arcsinh(beta / (2 * alpha**2)) / (4 * z[0])
    assert nu[0] == pytest.approx(nu[1], rel=1e-8)


def test_multipliers_against_quadrature_along_the_path():
    """Reference: nu = int -l'/N dt by adaptive quadrature over predictors that are integrated anew."""
    case = two_classes(Setting(SMALL))
    end = float(case.times[0])
    raw = _two_classes.integrate(case, "logistic")

    def pull(t):
        at = dataclasses.replace(case, times=np.array([max(t, 1e-9 * end)]))
        return RATES["logistic"](case.Z @ _two_classes.integrate(at, "logistic").betas[0]) / len(case.labels)

    np.testing.assert_allclose(raw.duals[0], quad_vec(pull, 0, end, epsrel=1e-7, limit=4)[0], rtol=1e-6)


@pytest.mark.parametrize("place", range(4))
def test_second_solver_of_the_potential_against_the_library(place):
    """Reference: the library's solver, which shares no code with it; and KKT."""
    case = two_classes(Setting(default_data()[place]))
    problem = dln.Classification(case.X, case.labels)
    for mu in (0.1, 1.0, 30.0):
        b, active = active_minimiser(case.Z, np.full(case.X.shape[1], np.log(mu * case.unit) / 2))
        best = dln.maximum_margin(problem, "potential", mu=mu * case.unit)
        np.testing.assert_allclose(b, best.beta, atol=1e-8 * np.abs(b).max())
        assert set(best.support) <= set(active)
    assert set(least_l1_active(case.Z)) == set(dln.maximum_margin(problem, "l1").support)


def test_where_a_multiplier_would_have_to_fall_the_direction_tends_elsewhere():
    """The limit needs its condition. Reference: on these data a multiplier of argmin Q_mu falls, and the gap stays at 0.17.

    Multipliers of training never fall, so a sample that has left the support keeps its pull for ever. The strong form of
    the theorem holds all the same.
    """
    case = two_classes(Setting(default_data()[2]))
    d = case.X.shape[1]
    problem = dln.Classification(case.X, case.labels)
    unit = float(np.abs(dln.maximum_margin(problem, "l2").beta).max())
    mu = np.full(d, 1e-2 * unit)
    assert not _multipliers_grow(case.Z, mu) and _multipliers_grow(case.Z, 100 * mu)
    finding = DirectionLimit("uneven", case, mu).measure(Setting(default_data()[2]))
    assert not finding.passed
    np.testing.assert_allclose(finding.details["distances"]["engine"][-2:], 0.17, atol=0.01)
    assert DirectionLimit("even", case, 100 * mu).measure(Setting(default_data()[2])).passed
    best, limit = dln.maximum_margin(problem, "potential", mu=mu), dln.margin_limit(problem, mu=mu)
    run = dln.margin_flow(problem, alpha=np.sqrt(mu * 1e6), margin_end=1e6)
    assert np.linalg.norm(run.beta / run.margin - limit.beta) < 1e-3 * np.linalg.norm(run.beta / run.margin - best.beta)
    loose = problem.margins(run.beta) > run.margin * (1 + 1e-3)
    assert np.any(run.dual[loose] > 1e-3 * run.dual.max()) and not np.any(best.dual[loose] > 1e-12)
    turned = 4 * run.dual @ problem.Z
    np.testing.assert_allclose(2 * np.exp(2 * run.log_effective_alpha) * np.sinh(turned), run.beta,
                               atol=1e-9 * np.abs(run.beta).max())


def test_labels_are_those_of_a_planted_predictor_where_the_median_does_not_separate():
    rng = np.random.default_rng(0)
    data = Data(rng.standard_normal((20, 3)), rng.standard_normal(20), "tall")
    case = two_classes(Setting(data))
    assert dln.Classification(case.X, case.labels).separation.separable
    assert not dln.Classification(data.X, np.where(data.y > np.median(data.y), 1, -1)).separation.separable
    assert T21.check(data).passed


@pytest.mark.parametrize(("of_x", "of_y"), [(1e-6, 1.0), (1e6, 1e12)])
def test_scaling_the_data_changes_no_verdict(of_x, of_y):
    check = T21.check(Data(of_x * SMALL.X, of_y * SMALL.y, "scaled"))
    assert check.passed, check.message


def test_an_engine_that_stops_early_is_a_failure(monkeypatch):
    run = dln.margin_flow

    def stopping(problem, **given):
        return run(problem, **(given | {"max_steps": 5}))

    monkeypatch.setattr(dln, "margin_flow", stopping)
    check = T21.check(SMALL)
    assert not check.passed and "the engine stopped: 5 attempted steps" in check.message


def test_every_kind_of_part_has_mutants():
    kinds = {type(part) for part in T21.parts(Setting(SMALL))}
    hit = set()
    for mutant in T21.mutants.values():
        hit |= {type(part) for part in T21.parts(Setting(SMALL)) if mutant(part, Setting(SMALL)) is not None}
    assert hit == kinds and MarginLaw in kinds and len(kinds) == 4
