"""Step sizes and batches: against their definitions and their statistics."""

import numpy as np
import pytest

from dln import schedules
from dln.integrate.batches import Batches
from dln.schedules import step_sizes

pytestmark = pytest.mark.interpreted


def test_cyclic_steps():
    """Reference: a triangle wave."""
    triangle = [0.1, 0.3, 0.5, 0.3]
    np.testing.assert_allclose(step_sizes(schedules.cyclic(0.1, 0.5, 4), 0, 8), triangle * 2, rtol=1e-15)
    np.testing.assert_allclose(step_sizes(schedules.cyclic(0.1, 0.5, 4), 3, 2), [0.3, 0.1], rtol=1e-15)


def test_decaying_steps():
    """Reference: the formula."""
    schedule = schedules.decaying(0.4, 0.5, 3.0)
    np.testing.assert_allclose(step_sizes(schedule, 0, 10), 0.4 / np.sqrt(1 + np.arange(10) / 3), rtol=1e-15)
    assert schedule(9) == pytest.approx(0.2, rel=1e-15)
    assert repr(schedule) == "decaying(0.4, power=0.5, time=3)"


@pytest.mark.parametrize(("make", "words"), [
    (lambda: schedules.cyclic(0.0, 0.5, 4), "low must be finite and above 0"),
    (lambda: schedules.cyclic(0.1, 0.5, 1), "period must be finite and at least 2"),
    (lambda: schedules.decaying(-0.1), "initial must be finite and above 0"),
    (lambda: schedules.decaying(0.1, time=0), "time must be finite and above 0")])
def test_bad_schedules(make, words):
    """Reference: one line that names the argument."""
    with pytest.raises(ValueError, match=words):
        make()


def drawn(sampling, size, n_steps=20_000, n_samples=7, noise=0.0, seed=0):
    batches = Batches(n_samples, size, sampling, noise, np.random.default_rng(seed))
    pieces = [batches.draw(k, min(batches.block - k % batches.block, n_steps - k)) for k in range(0, n_steps, batches.block)]
    return tuple(np.concatenate(part) for part in zip(*pieces, strict=True))


@pytest.mark.parametrize("sampling", ["replacement", "distinct", "epochs"])
def test_every_sample_comes_equally_often(sampling):
    """Reference: counts of the multinomial, six standard deviations; exact for epochs."""
    indices, _ = drawn(sampling, 3)
    assert indices.shape == (20_000, 3)
    counts = np.bincount(indices.ravel(), minlength=7)
    expected = 60_000 / 7
    assert np.all(np.abs(counts - expected) <= (1 if sampling == "epochs" else 6 * np.sqrt(expected)))
    repeated = np.any(np.diff(np.sort(indices, axis=1), axis=1) == 0, axis=1).mean()
    # Three independent of seven repeat with probability 1 - 6/7 5/7; epochs only where a batch spans two.
    bounds = {"replacement": (0.37, 0.41), "distinct": (0.0, 0.0), "epochs": (0.0, 0.2)}[sampling]
    assert bounds[0] <= repeated <= bounds[1]


def test_epochs_are_permutations():
    """Reference: any seven in a row, from a multiple of seven on, are all samples; two permutations differ."""
    stream = drawn("epochs", 3)[0].ravel()[: 7 * 8000].reshape(-1, 7)
    assert np.array_equal(np.sort(stream, axis=1), np.tile(np.arange(7), (8000, 1)))
    assert len(np.unique(stream, axis=0)) > 3000


def test_noise_is_fresh_and_of_its_size():
    """Reference: moments of the Gaussian, six standard errors, and no correlation between neighbours."""
    noise = drawn("replacement", 2, noise=0.5)[1]
    assert noise.shape == (20_000, 2)
    count = noise.size
    assert abs(noise.mean()) < 6 * 0.5 / np.sqrt(count)
    assert abs(noise.std() / 0.5 - 1) < 6 / np.sqrt(2 * count)
    assert abs(np.mean(noise[1:] * noise[:-1])) < 6 * 0.25 / np.sqrt(count)


def test_noise_does_not_change_the_batches():
    """Reference: the same run without it."""
    assert np.array_equal(drawn("replacement", 2)[0], drawn("replacement", 2, noise=0.5)[0])
    assert not np.array_equal(drawn("replacement", 2)[0], drawn("replacement", 2, seed=1)[0])
