"""The band of a fitted order holds the truth, and only the truth. Reference: functions whose order is known."""

import numpy as np
import pytest

from theory._slopes import fit_slope, slope_finding

STEPS = 0.2 * 0.5 ** np.arange(6)

KNOWN = [
    (lambda h: 3 * h, 1, (1, 2)),
    (lambda h: h * (1 + h + h**2 + h**3), 1, (1, 2)),
    (lambda h: h / (1 - 2 * h), 1, (1, 2)),
    (lambda h: np.sin(3 * h), 1, (1, 2)),
    (lambda h: np.expm1(h) ** 2, 2, (1, 2)),
    (lambda h: h**2 * (1 + h**2 + h**4 + h**6), 2, (2, 4)),
    (lambda h: 1 - np.cos(h), 2, (2, 4)),
]


@pytest.mark.parametrize(("function", "order", "corrections"), KNOWN)
def test_the_band_holds_the_order_and_no_other(function, order, corrections):
    slope = fit_slope(STEPS, function(STEPS), corrections)
    assert slope.contains(order)
    assert slope.half_width < 0.05
    assert not any(slope.contains(other) for other in (order - 1, order - 0.5, order + 0.5, order + 1))


def test_a_straight_line_alone_would_be_biased():
    h = STEPS
    naive = np.polyfit(np.log(h), np.log(h * (1 + 3 * h)), 1)[0]
    assert abs(naive - 1) > 0.05
    assert fit_slope(h, h * (1 + 3 * h)).contains(1)


@pytest.mark.parametrize("seed", range(5))
def test_noise_widens_the_band(seed):
    rng = np.random.default_rng(seed)
    noise = 1e-7
    slope = fit_slope(STEPS, STEPS**2 + noise * rng.uniform(-1, 1, STEPS.size), (2, 4), noise)
    assert slope.contains(2)


def test_a_band_that_is_too_wide_does_not_pass():
    rng = np.random.default_rng(0)
    finding = slope_finding(STEPS, {"raw": STEPS * np.exp(0.3 * rng.standard_normal(6))}, 1.0)
    assert finding.details["raw"]["half_width"] > 0.05
    assert not finding.passed


def test_every_route_must_agree():
    finding = slope_finding(STEPS, {"raw": STEPS, "engine": STEPS**2}, 1.0)
    assert not finding.passed
    assert finding.discrepancy == pytest.approx(1.0)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_distances_that_tell_no_slope_are_refused(bad):
    distances = STEPS.copy()
    distances[2] = bad
    with pytest.raises(ValueError, match="positive finite distances"):
        fit_slope(STEPS, distances)


def test_too_few_steps_are_refused():
    with pytest.raises(ValueError, match="needs 6 steps, got 5"):
        fit_slope(STEPS[:5], STEPS[:5])
