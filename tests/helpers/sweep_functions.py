"""Functions for tests of sweeps, here because worker processes must be able to import them."""

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


def slow(problem, rule, *, pause=0.05, **arguments):
    """A flow that takes its time, so that there is one to interrupt it."""
    time.sleep(pause)
    return dln.flow(problem, rule, **arguments)


slow.__signature__ = __import__("inspect").signature(dln.flow)


def largest(run):
    """Largest coefficient."""
    return np.abs(run.beta).max()


def gap(run, prediction):
    """Distance to the prediction."""
    return np.linalg.norm(run.beta - prediction.beta)


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
