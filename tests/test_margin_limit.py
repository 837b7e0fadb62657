"""The limit of the direction against training itself, the maximum margin where no multiplier falls, and bad input."""

import math

import numpy as np
import pytest

import dln
from dln import Classification, margin_flow, margin_limit, maximum_margin


def planted(n_samples, n_features, seed=0):
    rng = np.random.default_rng([n_samples, n_features, seed])
    X = rng.standard_normal((n_samples, n_features)) + 0.3
    return Classification(X, np.where(X @ rng.standard_normal(n_features) > 0, 1.0, -1.0))


def unit(problem):
    return float(np.abs(maximum_margin(problem, "l2").beta).max())


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
@pytest.mark.parametrize(("shape", "relative"), [((8, 15), 1e-2), ((30, 10), 1e-2)])
def test_training_comes_to_it_where_the_maximum_margin_is_another(shape, relative, loss):
    """Reference: the flow at three margins: distances fall, far below that of the maximum margin, which stays."""
    problem = planted(*shape)
    mu = relative * unit(problem)
    limit, best = margin_limit(problem, mu=mu, n_points=100), maximum_margin(problem, "potential", mu=mu)
    assert limit.success and limit.status == "followed", limit
    assert limit.duality_gap > 1e-5 and "a multiplier would have to fall" in limit.message
    margins = (1e3, 1e5, 1e7)
    runs = [margin_flow(problem, loss=loss, alpha=math.sqrt(mu * m), margin_end=m).beta / m for m in margins]
    near = [np.linalg.norm(run - limit.beta) for run in runs]
    far = [np.linalg.norm(run - best.beta) for run in runs]
    assert near[1] < near[0] / 10 and near[2] < near[1] / 1.5
    assert far[2] == pytest.approx(far[1], rel=0.05) and near[2] < far[2] / 30


@pytest.mark.parametrize("mu", [1.0, 100.0])
def test_it_is_the_maximum_margin_where_no_multiplier_falls(mu):
    """Reference: the solver, from one projection and from many; and its certificate, whose gap vanishes."""
    problem = planted(6, 12)
    best = maximum_margin(problem, "potential", mu=mu)
    for n_points in (1, 30):
        limit = margin_limit(problem, mu=mu, n_points=n_points)
        assert limit.success and limit.duality_gap <= 1e-12 and limit.message.endswith("maximum margin of the potential")
        np.testing.assert_allclose(limit.beta, best.beta, atol=1e-11 * np.abs(best.beta).max())
        np.testing.assert_allclose(limit.dual, best.dual, atol=1e-10 * best.dual.max())
        assert limit.objective == pytest.approx(best.objective, rel=1e-10)


def test_it_obeys_the_identity_with_multipliers_that_are_not_complementary():
    """Reference: b = 2 mu sinh(log ratio + 4 Z^T nu); some loose sample keeps a multiplier."""
    problem = planted(8, 15)
    mu, ratio = 1e-2 * unit(problem), 0.2 * np.random.default_rng(0).standard_normal(15)
    limit = margin_limit(problem, mu=mu, log_ratio=ratio)
    assert limit.success and np.all(limit.dual >= 0)
    np.testing.assert_allclose(2 * mu * np.sinh(ratio + 4 * limit.dual @ problem.Z), limit.beta,
                               atol=1e-10 * np.abs(limit.beta).max())
    loose = problem.margins(limit.beta) > 1 + 1e-6
    assert np.any(limit.dual[loose] > 1e-3 * limit.dual.max())


def test_data_that_are_not_separable_are_a_status():
    limit = margin_limit(Classification([[1.0], [1.0]], [1, -1]), mu=1.0)
    assert not limit.success and limit.status == "not separable"


@pytest.mark.parametrize(("given", "words"), [
    ({}, "give exactly one of mu and log_mu, got none of them"),
    ({"mu": 0.0}, "mu must be positive and finite"),
    ({"mu": 1.0, "n_points": 0}, "n_points must be a positive integer, got 0"),
])
def test_bad_arguments_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        margin_limit(planted(3, 5), **given)


def test_it_is_public():
    assert "margin_limit" in dln.__all__
