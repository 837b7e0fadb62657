"""The limits of large and small initialisation: faces of l1 minimisers, small scales, and where there is nothing to check."""

import mpmath
import numpy as np
import pytest
import sympy as sp

import dln
import theory
from theory import _limit_steps, limits
from theory._derivation import Derivation, DerivationError
from theory._dual import follow_minimisers, row_space
from theory._face_dual import minimisers_near_l1
from theory._faces import entropy, fractional, least_l1, select
from theory._setting import Data, Setting, default_data

SMALL = default_data(2)[1]
LIMITS = ["T17", "T18"]


@pytest.mark.parametrize("data", default_data(), ids=lambda data: data.name)
def test_the_dual_path_agrees_with_the_library_down_to_tiny_scales(data):
    """Reference: `dln.minimize_potential`, certified by its duality gap, at scales from 1 to 1e-200."""
    logs = np.log(Setting(data).alpha) - np.array([0.0, 3.0, 30.0, 200.0, 460.0])[:, None]
    betas = follow_minimisers(*row_space(data.X, data.y), logs, 2.0)
    for beta, log_alpha in zip(betas, logs, strict=True):
        found = dln.minimize_potential(dln.Problem(data.X, data.y), log_alpha=log_alpha)
        assert found.success
        np.testing.assert_allclose(beta, found.beta, rtol=0, atol=1e-11 * np.max(np.abs(beta)))


@pytest.mark.parametrize("d", [3.0, 4.0])
def test_the_dual_path_ends_where_the_flow_does(d):
    """Reference: the limit of `dln.flow` at depth D from a small start."""
    log_alpha = np.log(Setting(SMALL).alpha) - 2.0
    run = dln.flow(dln.Problem(SMALL.X, SMALL.y), depth=d, log_alpha=log_alpha, rtol=1e-12, residual_tol=1e-12)
    beta = follow_minimisers(*row_space(SMALL.X, SMALL.y), [log_alpha], d)[0]
    assert run.success
    np.testing.assert_allclose(run.beta, beta, rtol=0, atol=1e-9 * np.max(np.abs(beta)))


def test_copies_of_a_column_share_by_the_selecting_function():
    """Reference: closed forms. x b = 1 with equal columns: m_j in proportion to w_j^2 (entropy), equal (powers)."""
    X, y, w = np.ones((1, 3)), np.array([2.0]), np.array([1.0, 2.0, 0.5])
    X = np.hstack([X, [[0.3]]])
    face = least_l1(X, y, np.ones(4))
    assert list(face.places) == [0, 1, 2]
    assert face.gap == pytest.approx(0.7)
    np.testing.assert_allclose(select(face, X, y, entropy(np.append(w, 1.0)))[:3], 2 * w**2 / np.sum(w**2), rtol=1e-12)
    for d in (3.0, 4.0):
        np.testing.assert_allclose(select(face, X, y, fractional(d)), [2 / 3, 2 / 3, 2 / 3, 0], rtol=1e-12)


def test_a_magnitude_far_below_rounding_is_selected_too():
    """Reference: mpmath. m_1 = t_1 - a m_3, m_2 = t_2 - (1 - a) m_3, log m_3 = a log m_1 + (1 - a) log m_2: m_1 is 2e-16."""
    a, t = 0.05, np.array([0.025, 10.0])
    X = np.array([[1.0, 0.0, a, 0.3], [0.0, 1.0, 1 - a, 0.2]])
    face = least_l1(X, t, np.ones(4))
    assert list(face.places) == [0, 1, 2]
    w = np.array([1.0, 1.0, 0.6, 1.0])
    with mpmath.workdps(60):
        def slopes(log_first):
            third = (t[0] - mpmath.exp(log_first)) / a
            second = t[1] - (1 - a) * third
            return mpmath.log(third / mpmath.mpf(0.6) ** 2) - a * log_first - (1 - a) * mpmath.log(second)

        log_first = mpmath.findroot(slopes, (-200, -5), solver="anderson")
        third = (t[0] - mpmath.exp(log_first)) / a
    selected = select(face, X, t, entropy(w))
    assert np.log(selected[0]) == pytest.approx(float(log_first), rel=1e-11)
    assert log_first < -35
    assert selected[2] == pytest.approx(float(third), rel=1e-13)


@pytest.mark.parametrize("depth", [2.5, 3.0, 4.0])
@pytest.mark.parametrize("log10_alpha", [-1, -5, -30])
def test_the_dual_near_that_of_the_l1_norm_keeps_its_digits(depth, log10_alpha):
    """Reference: one equation in 150 digits. x = (1, 1/2), y = 1: z_1 = 2 z_2 and b_1 + b_2/2 = 1."""
    beta = minimisers_near_l1(np.array([[1.0, 0.5]]), np.array([1.0]), [np.full(2, log10_alpha * np.log(10))], depth)[0]
    with mpmath.workdps(150):
        alpha, s = mpmath.exp(log10_alpha * mpmath.log(10)), mpmath.mpf(depth) / (depth - 2)

        def weight(gap):
            return alpha**depth * (gap**-s - (2 - gap) ** -s)

        def excess(log_gap):
            gap = mpmath.exp(log_gap)
            return weight(gap) + weight((1 + gap) / 2) / 2 - 1

        at = (depth - 2) * mpmath.log(alpha)
        gap = mpmath.exp(mpmath.findroot(excess, (at - 1, min(at + 1, -0.01)), solver="anderson"))
        exact = np.array([float(weight(gap)), float(weight((1 + gap) / 2))])
    np.testing.assert_allclose(beta, exact, rtol=1e-11)


@pytest.mark.parametrize("depth", [3.0, 4.0])
def test_both_duals_agree_at_moderate_scales(depth):
    """Reference: the dual in the multipliers themselves."""
    rows, target = row_space(SMALL.X, SMALL.y)
    logs = np.log(Setting(SMALL).alpha) - np.array([0.0, 2.0])[:, None]
    beta = follow_minimisers(rows, target, logs, depth)
    np.testing.assert_allclose(minimisers_near_l1(rows, target, logs, depth), beta, rtol=0, atol=1e-9 * np.max(np.abs(beta)))


@pytest.mark.parametrize("key", LIMITS)
def test_limits_hold_on_real_data(key):
    """Thirty patients: at every depth, with one and with several l1 minimisers."""
    check = theory.get(key).check(dln.datasets.diabetes())
    assert check.passed, check.message
    assert len(check.details["diabetes (N=30, d=64)"]) == (6 if key == "T17" else 8)


@pytest.mark.parametrize("data", default_data(), ids=lambda data: data.name)
def test_least_l1_agrees_with_basis_pursuit(data):
    """Reference: `dln.basis_pursuit`, certified by its dual."""
    weights = np.random.default_rng(0).uniform(0.5, 2.0, data.X.shape[1])
    found = dln.basis_pursuit(dln.Problem(data.X, data.y), weights)
    np.testing.assert_allclose(least_l1(data.X, data.y, weights).vertex, found.beta, atol=1e-12)


def test_a_column_that_ties_without_room_is_not_on_the_face():
    """A planted vector with fewer entries than samples: its dual is not unique, and a vertex of duals touches more columns."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20, 50))
    truth = np.zeros(50)
    truth[:3] = 1, -1, 2
    face = least_l1(X, X @ truth, np.ones(50))
    np.testing.assert_allclose(face.vertex, truth, atol=1e-12)
    assert list(face.places) == [0, 1, 2]
    assert face.gap > 0.1


def test_kernel_limit_of_one_sample_in_closed_form():
    """Reference: hand calculation, x = (1, 2), y = 1, alpha = C: beta_0 = (1, 2)/5, C^4 (beta - beta_0) -> beta_1."""
    X, y, scale = np.array([[1.0, 2.0]]), np.array([1.0]), 30.0
    # n = (2, -1), n.W n = 5, n.V beta_0^3 = (2/125 - 8/125)/24.
    expected = np.array([2.0, -1.0]) * (-6 / 125 / 24) / 5
    beta = dln.minimize_potential(dln.Problem(X, y), alpha=scale).beta
    np.testing.assert_allclose((beta - np.array([0.2, 0.4])) * scale**4, expected, rtol=1e-5)


@pytest.mark.parametrize("key", LIMITS)
def test_one_interpolator_leaves_nothing_to_check(key):
    rng = np.random.default_rng(0)
    check = theory.get(key).check(Data(rng.standard_normal((6, 3)), rng.standard_normal(6), "tall"))
    assert not check.passed
    assert "nothing to check" in check.message


@pytest.mark.parametrize("key", LIMITS)
@pytest.mark.parametrize("kind", ["scaled", "duplicate rows", "zero column", "opposite columns"])
def test_limits_hold_at_any_scale_and_where_columns_are_degenerate(key, kind):
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((4, 6)), rng.standard_normal(4)
    if kind == "scaled":
        X, y = 1e6 * X, 1e-12 * y
    elif kind == "duplicate rows":
        X[1] = X[0]
    elif kind == "zero column":
        X[:, 2] = 0
    else:
        X[:, 3] = -X[:, 2]
    check = theory.get(key).check(Data(X, y, kind))
    assert check.passed, check.message


def test_parts_cover_one_and_several_minimisers_at_depths_2_and_above():
    parts = limits.rich_parts(Setting(SMALL))
    assert {(part.depth, part.several) for part in parts} == {(d, many) for d in (2.0, 3.0, 4.0) for many in (True, False)}
    for part in parts:
        face = least_l1(part.data.X, part.data.y, part.weights)
        room = face.places.size - np.linalg.matrix_rank(part.data.X[:, face.places])
        assert room == (2 if part.several else 0)
        assert len(part.scales) >= 5 and np.all(np.diff(part.scales) < 0)


@pytest.mark.parametrize(("values", "proved"), [([0, 2, 0], True), ([0, 3, 0], False), ([1, 2, 0], False)])
def test_wrong_taylor_coefficients_are_not_proved(values, proved):
    """Reference: sinh(2 x)."""
    d, x = Derivation("T0", "a series"), sp.Symbol("x", real=True)
    if proved:
        _limit_steps._taylor(d, "series", "of sinh(2 x)", sp.sinh(2 * x), x, values)
        assert len(d.steps) == 1
    else:
        with pytest.raises(DerivationError, match="'series'"):
            _limit_steps._taylor(d, "series", "of sinh(2 x)", sp.sinh(2 * x), x, values)
