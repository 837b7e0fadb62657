"""Functions for tests of sweeps, here because worker processes must be able to import them."""

import functools
import os
import time
from pathlib import Path

import numpy as np

import dln


def small(seed):
    """Data of one seed."""
    return dln.sparse_regression(4, 8, 2, rng=seed)


def noisy(seed, noise):
    """Data with noise on the targets."""
    return dln.sparse_regression(4, 8, 2, noise=noise, rng=seed)


@functools.wraps(dln.flow)
def slow(problem, rule, **arguments):
    """A flow that takes its time where the environment says so: time to interrupt it."""
    time.sleep(float(os.environ.get("DLN_TEST_PAUSE", "0")))
    return dln.flow(problem, rule, **arguments)


def largest(run):
    """Largest coefficient."""
    return np.abs(run.beta).max()


def gap(run, prediction):
    """Distance to the prediction."""
    return np.linalg.norm(run.beta - prediction.beta)


def weight(run):
    """Geometric mean of a weight."""
    return np.exp(run.log_u.mean())


def fails(run):
    """Raises."""
    raise KeyError("lost")


def words(run):
    """Gives no number."""
    return "many"


def greedy(run):
    """Asks for more memory than there is."""
    raise MemoryError


def full(run):
    """Meets a full disk."""
    raise OSError(28, "No space left on device")


def dies_once(run):
    """Ends its process, the first time in the folder that the environment names."""
    mark = Path(os.environ["DLN_TEST_FOLDER"], "died")
    try:
        mark.open("x").close()
    except FileExistsError:
        return 1.0
    os._exit(9)


def dies(run):
    """Ends its process."""
    os._exit(9)


slow.__module__, slow.__qualname__, slow.__name__ = __name__, "slow", "slow"  # not those of flow, by which it would be found
