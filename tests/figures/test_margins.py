"""Margins: ends of the line against the solvers, the runs against the line, and what is drawn."""

import numpy as np
import pytest

import dln
from figures import margins

EASY = dln.Classification(np.random.default_rng(0).standard_normal((3, 8)) + 0.5, np.ones(3))


def test_the_line_goes_from_the_largest_l2_to_the_largest_l1_margin():
    """Reference: the two solvers, whose relative margins are 1 by definition; l1 with an excess of 1/log(1/mu)."""
    data = margins.compute(EASY, alphas=[1e-4, 1e3], n_margins=5, n_mus=12)
    assert data.l1_end[0] == pytest.approx(1) and data.l2_end[1] == pytest.approx(1)
    np.testing.assert_allclose([data.l1[-1], data.l2[-1]], data.l2_end, rtol=1e-9)
    assert data.l1[0] > 1 - 1 / np.log(1 / data.mus[0]) and np.all(data.l1 <= 1 + 1e-9) and np.all(data.l2 <= 1 + 1e-9)
    assert np.all(np.diff(data.l1) <= 1e-9) and np.all(np.diff(data.l2) >= -1e-9)


def test_runs_come_to_the_line_as_their_margin_grows():
    """Reference: the solver at the mu of each point; the distance is of order 1/margin."""
    data = margins.compute(EASY, alphas=[10.0, 100.0], margin_end=1e4, n_margins=5, n_mus=2)
    assert list(data.status) == ["reached margin"] * 2
    for k in range(2):
        at = [dln.maximum_margin(EASY, "potential", mu=mu).beta for mu in data.run_mus[k]]
        l1 = np.array([EASY.margin(b) / np.abs(b).sum() for b in at]) * np.abs(dln.maximum_margin(EASY, "l1").beta).sum()
        gap = np.abs(data.run_l1[k] - l1)
        assert gap[-1] < 1e-3 and gap[-1] < gap[1] / 100
    np.testing.assert_allclose(data.run_mus * np.geomspace(1, 1e4, 5), data.alphas[:, None] ** 2 + 0 * data.run_mus, rtol=1e-9)


def test_a_picture_has_the_line_both_ends_and_every_run():
    data = margins.compute(EASY, alphas=[0.1, 10.0], margin_end=100.0, n_margins=4, n_mus=6)
    axes = margins.draw(data)
    axes[0].figure.draw_without_rendering()
    labels = [text.get_text() for text in axes[1].get_legend().get_texts()]
    assert labels == ["solver", r"training, $\alpha=$ 0.1", r"training, $\alpha=$ 10"]
    for panel, line, end in ((axes[0], data.l1, data.l2_end[0]), (axes[1], data.l2, data.l1_end[1])):
        assert panel.xaxis_inverted()
        np.testing.assert_array_equal(panel.lines[1].get_ydata(), [end, end])
        np.testing.assert_array_equal(panel.lines[2].get_ydata(), line)
        assert len(panel.lines) == 5


def test_default_data_are_separable_and_seeded():
    problem = margins.two_classes()
    assert problem.separation.separable and problem.Z.shape == (20, 40)
    np.testing.assert_array_equal(problem.Z, margins.two_classes().Z)


@pytest.mark.parametrize(("given", "words"), [
    ({"alphas": [1.0, 0.1]}, "alphas must increase"),
    ({"n_mus": 1}, "n_mus must be at least 2, got 1"),
    ({"margin_end": 1.0}, "margin_end must be above 1"),
    ({"problem": dln.Classification([[1.0], [1.0]], [1, -1])}, "there is no margin to draw: the data are not separable"),
])
def test_bad_arguments_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        margins.compute(**given)
