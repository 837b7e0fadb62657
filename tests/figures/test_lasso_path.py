"""The picture of the Lasso path: its lines against scikit-learn, its means against single runs, and where a gap remains."""

import numpy as np
import pytest
from sklearn.linear_model import lasso_path as sklearn_path

import dln
from figures import lasso_path


@pytest.fixture(scope="module")
def data():
    return lasso_path.compute(log_alphas=[-400.0, -50.0, -12.0], reach=60.0, n_penalties=24)


def test_lines_are_lasso_solutions(data):
    """Reference: scikit-learn's path, whose penalty is twice ours."""
    for seed, found in zip(lasso_path.SEEDS, data.solutions, strict=True):
        problem = lasso_path.correlated(seed)
        largest = np.abs(problem.gradient(np.zeros(5))).max()
        _, betas, _ = sklearn_path(problem.X, problem.y, alphas=2 * largest / data.falls, tol=1e-13, max_iter=1_000_000)
        np.testing.assert_allclose(found, betas.T, atol=1e-6)


def test_means_are_those_of_single_runs(data):
    """Reference: `time_average` at one time, ``t = log(1/alpha)/(2 lam)``."""
    problem = lasso_path.correlated(lasso_path.SEEDS[1])
    largest = np.abs(problem.gradient(np.zeros(5))).max()
    single = dln.time_average(problem, 25.0 * data.falls[7] / largest, log_alpha=-50.0)
    np.testing.assert_allclose(single.penalties, largest / data.falls[7], rtol=1e-13)
    np.testing.assert_allclose(data.means[1, 1, 7], single.means[0], atol=1e-9)


def test_means_tend_to_the_path_only_where_no_coordinate_leaves(data):
    """Reference: T20: the distance falls like 1/log(1/alpha) in the one case, and not at all in the other."""
    assert data.success.all()
    kept, left = np.abs(data.means - data.solutions[:, None]).max(axis=(2, 3))
    assert np.all(kept[:-1] < 0.4 * kept[1:])
    assert np.all(left > 0.15) and left[0] > 0.9 * left[1]


def test_every_coordinate_has_its_line_and_its_means(data):
    panels = lasso_path.draw(data)
    panels[0].figure.draw_without_rendering()
    for panel, title in zip(panels, ("all coordinates kept", "coordinates leave"), strict=True):
        assert panel.get_title() == title and panel.get_xscale() == "log"
        assert len(panel.lines) == 1 + 5 * (1 + 3)
    words = [text.get_text() for text in panels[0].get_legend().get_texts()]
    assert words[0] == "Lasso" and len(words) == 4 and not any("failed" in word for word in words)


def test_failed_runs_are_counted(data):
    broken = lasso_path.LassoPaths(data.falls, data.solutions, data.log_alphas, np.full_like(data.means, np.nan),
                                   np.zeros_like(data.success))
    panels = lasso_path.draw(broken)
    assert sum("(2 failed)" in text.get_text() for text in panels[0].get_legend().get_texts()) == 3


@pytest.mark.parametrize(("options", "match"), [
    ({"log_alphas": [-3.0, 0.0]}, r"log_alphas\[1\] must be negative, got 0"),
    ({"log_alphas": [-3.0, -3.0]}, "log_alphas must increase"),
    ({"n_penalties": 1}, "n_penalties must be at least 2, got 1"),
    ({"reach": 1.0}, "reach must be above 1, got 1"),
    ({"problems": [lasso_path.correlated(0)]}, "problems must be two problems, got 1"),
])
def test_bad_arguments_are_named(options, match):
    with pytest.raises(ValueError, match=match):
        lasso_path.compute(**options)
