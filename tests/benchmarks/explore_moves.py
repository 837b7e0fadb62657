"""How long a move of the window of `dln explore` takes, to compute and to draw, at N = 20, d = 100, under every rule.

    PYTHONPATH=. python tests/benchmarks/explore_moves.py [MOVES] [PASSES]

Each slider is thrown to a random place, then moved in small steps, as a user drags it; then the next rule is chosen.  Times are
processor times.  Other programs on the machine lengthen these, too, so the same moves are made in several processes, and the
least of the times of a move counts: each pass is as cold as a user's, but for compilation, and the first run of a rule, which
loads its kernels, is not a move.  With MPLBACKEND=tkagg the window is one of that toolkit, on a display; else it has none.
"""

import multiprocessing
import os
import sys
import time

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # before NumPy reads them
    os.environ.setdefault(_variable, "1")

import numpy as np  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

import dln  # noqa: E402
from figures import explore  # noqa: E402
from figures._exploration import RULES, Exploration, Settings  # noqa: E402

SCALES = -25.0, -10.0, -2.0, 2.0  # logarithms: each is run in another way, which has kernels of its own


def window():
    """Give an empty figure: in a window, if MPLBACKEND names a toolkit, or on a canvas of its own."""
    if os.environ.get("MPLBACKEND", "agg") == "agg":
        figure = Figure(figsize=explore.SIZE)
        FigureCanvasAgg(figure)
        return figure
    from matplotlib import pyplot

    return pyplot.figure(figsize=explore.SIZE)


def measure(n_moves):
    """Give (kind of move, status, milliseconds of all, of the model) of every move."""
    problem = dln.sparse_regression(20, 100, 3, rng=0)
    for rule in RULES:
        for scale in SCALES:
            Exploration(problem).compute(Settings(rule, scale))
    rng = np.random.default_rng(0)
    figure = window()
    explorer = explore.Explorer(problem, figure)
    explorer._used.update(RULES)
    compute, spent = explorer.model.compute, []

    def timed(settings):
        begin = time.process_time()
        scene = compute(settings)
        spent.append(time.process_time() - begin)
        return scene

    explorer.model.compute = timed
    figure.canvas.draw()
    figure.canvas.flush_events()
    rows = []

    def move(kind, change, value):
        begin = time.process_time()
        change(value)
        figure.canvas.flush_events()
        rows.append((kind, explorer.scene.status, 1e3 * (time.process_time() - begin), 1e3 * spent[-1]))

    for k in range(n_moves):
        if k % (n_moves // len(RULES)) == 0:
            move("rule", explorer.radio.set_active, (k // (n_moves // len(RULES)) + 2) % len(RULES))
        slider = tuple(explorer.sliders.values())[k // 5 % 3]
        low, high = slider.valmin, slider.valmax
        if k % 5 == 0:
            move("throw", slider.set_val, rng.uniform(low, high))
        else:
            move("drag", slider.set_val, np.clip(slider.val + 0.02 * (high - low) * rng.standard_normal(), low, high))
    return rows


def main(n_moves, passes):
    kinds, statuses, times = None, None, []
    for _ in range(passes):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            kinds, statuses, *columns = map(np.array, zip(*pool.apply(measure, (n_moves,)), strict=True))
        times.append(columns)
    whole, model = np.min(times, axis=0)
    print("milliseconds: all, of which the model; median, 90 %, largest")
    for name, chosen in [(str(kind), kinds == kind) for kind in np.unique(kinds)] + [
            (str(status), statuses == status) for status in np.unique(statuses)] + [("all", kinds != "")]:
        print(f"{name:12}{chosen.sum():5} moves  " + "   ".join(
            " ".join(f"{q:6.1f}" for q in np.quantile(part[chosen], (0.5, 0.9, 1.0))) for part in (whole, model)))


if __name__ == "__main__":
    main(*(int(word) for word in (sys.argv[1:] + ["400", "3"][len(sys.argv) - 1:])))
