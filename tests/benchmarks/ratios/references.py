"""What is right: final times and solutions at a tight tolerance, computed once and kept where a folder is given."""

import functools
import hashlib
import math
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

import dln

FOLDER: Path | None = None
_SEVERAL = 64  # runs from which on all processors take part


def of_flows(problem, rules, scales, loss, limit, rtol):
    """Return when the loss of each run first is below `loss` (C,), and beta then, or with `limit` in the end, (C, d)."""
    place = FOLDER and FOLDER / f"{_digest(problem, rules, scales, loss, limit, rtol)}.npz"
    if place and place.exists():
        with np.load(place) as kept:
            return kept["t_ends"].tolist(), kept["betas"]
    one = functools.partial(_of_flow, problem, loss, limit, rtol)
    if len(rules) < _SEVERAL:
        found = list(map(one, rules, scales))
    else:
        with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
            found = list(pool.map(one, rules, scales))
    t_ends, betas = [t for t, _ in found], np.array([beta for _, beta in found])
    if place:
        place.parent.mkdir(parents=True, exist_ok=True)
        np.savez(place, t_ends=t_ends, betas=betas)
    return t_ends, betas


def _digest(problem, rules, scales, loss, limit, rtol):
    words = repr([[repr(rule) for rule in rules], [float(scale).hex() for scale in scales], loss, limit, rtol])
    return hashlib.sha256(problem.X.tobytes() + problem.y.tobytes() + words.encode()).hexdigest()[:32]


def first_time_below(problem, rule, alpha, loss):
    """Return about the time at which the loss falls below `loss`."""
    # The default tolerance: at a looser one small residuals are noise of the steps.
    tol = 0.3 * math.sqrt(4.0 * problem.n_samples * loss) / float(np.linalg.norm(problem.y))
    end = dln.flow(problem, rule, alpha=alpha, residual_tol=tol).t
    times = np.linspace(0.0, end, 101)[1:]
    losses = np.log(np.maximum(dln.flow(problem, rule, alpha=alpha, t_end=end, save_at=times).losses, 1e-300))
    k = max(1, int(np.argmax(losses < math.log(loss))))
    return float(np.interp(math.log(loss), losses[k - 1: k + 1][::-1], times[k - 1: k + 1][::-1]))


def _of_flow(problem, loss, limit, rtol, rule, alpha):
    t_end = first_time_below(problem, rule, alpha, loss)
    if limit and isinstance(rule, dln.GradientFlow):
        run = dln.minimize_potential(problem, alpha=alpha)
    elif limit:
        run = dln.flow(problem, rule, alpha=alpha, rtol=rtol, residual_tol=1e-12)
    else:
        run = dln.flow(problem, rule, alpha=alpha, rtol=rtol, t_end=t_end)
    if not run.success:
        raise RuntimeError(f"no reference for {rule!r} at alpha = {alpha:g}: {run.message}")
    return t_end, run.beta
