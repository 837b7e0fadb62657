"""Potentials: shapes against the textbook formula and the two limits."""

import numpy as np
import pytest

from figures import potentials


def test_shapes_agree_with_the_textbook_formula():
    """Reference: the formula of Woodworth et al. (2020), which is accurate enough at moderate scale."""
    data = potentials.compute(np.log([0.1, 0.5, 1]), n_points=21)
    for log_alpha, shape in zip(data.log_alphas, data.shapes, strict=True):
        square = np.exp(2 * log_alpha)

        def textbook(b, square=square):
            return b * np.arcsinh(b / (2 * square)) - np.sqrt(b * b + 4 * square**2) + 2 * square

        np.testing.assert_allclose(shape, textbook(data.beta) / textbook(1.0), rtol=1e-10, atol=1e-12)


def test_limits():
    """Reference: the square with error O(1/alpha^4), the modulus with error O(1/log(1/alpha))."""
    rich, kernel = potentials.compute([-1e6, 10], n_points=101).shapes
    beta = np.linspace(-1, 1, 101)
    np.testing.assert_allclose(kernel, beta**2, atol=1e-14)
    np.testing.assert_allclose(rich, np.abs(beta), atol=1e-6)


def test_picture_shows_every_shape_and_both_limits():
    data = potentials.compute()
    axes = potentials.draw(data)
    axes.figure.draw_without_rendering()
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert len(labels) == len(data.log_alphas) + 2 and labels[1] == r"$\alpha=$ $10^{-300}$"
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), np.abs(data.beta))
    np.testing.assert_array_equal(axes.lines[-1].get_ydata(), data.beta**2)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="log_alphas must increase"):
        potentials.compute([0, -1])
    with pytest.raises(ValueError, match="n_points must be at least 2, got 1"):
        potentials.compute(n_points=1)
