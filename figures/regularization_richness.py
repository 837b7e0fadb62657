"""Where gradient regularization leads to the rich regime: for the scale everywhere, for the solution where its fall is even.

Forward differences lower the mean of ``log alpha_eff``.  If alpha_eff were its geometric mean for all coordinates, that would
lower the l1 norm and the distance to the planted vector.  But the fall is uneven, ``4 gamma int g_j g_e,j``, and largest on the
planted coordinates; where they fall by more than their fair share, the l1 norm grows.  A gradient that all columns have in
common, as from a mean of the columns, makes the fall even.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

import dln
from figures._canvas import COLORS, LINES, cell_edges, increasing, scale_name, style
from figures._regularization_effects import Baseline, Effects, mapped, planted, signed_rule

__all__ = ["SIGNS", "Example", "RegularizationRichness", "compute", "draw"]

Array = NDArray[np.float64]

#: Signs of the planted coefficients in the last panel: with sum 0, and all equal.
SIGNS = ((1, 1, -1, -1), (1, 1, 1, 1))

#: Axes and seeds of the figure that is drawn by default, and of the one for a paper.
SMALL: dict[str, Any] = {"alphas": (1e-3, 1e-2, 1e-1, 1.0), "column_means": (0.0, 0.5, 1.0, 1.5, 2.2, 3.0), "n_seeds": 6,
                         "gammas": (0.05,)}
FULL: dict[str, Any] = {"alphas": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0),
                        "column_means": (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0), "n_seeds": 20,
                        "gammas": (0.01, 0.05, 0.1)}

TITLES = ("scale: mean fall", "scale: unevenness", "the reason", r"solution: $\ell_1$ norm", "solution: distance",
          "the boundary", "rules, first column mean", "rules, second column mean", "a test of the reason")


@dataclass(frozen=True, eq=False)
class Example:
    """One run: the fall of every coordinate next to its fair share, both relative to the mean over the planted ones.

    Attributes
    ----------
    column_mean : float
    shares, falls : ndarray (d,)
    is_planted : ndarray of bool (d,)
    """

    column_mean: float
    shares: Array
    falls: Array
    is_planted: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class RegularizationRichness:
    """Effects of gradient regularization over K seeds of a sparse regression.

    Attributes
    ----------
    alphas, column_means, gammas, steps, radii : ndarray (A,), (C,), (G,), (E,), (R,)
        Initial scales; means of the columns in standard deviations; strengths; ascent steps, backward below 0, the exact
        Hessian at 0, forward above; radii of SAM.
    gamma, epsilon : float
        Of `grid` and `signs`.
    grid : Effects (A, C, K)
    alpha : float
        Initial scale of all that follows.
    two_means : ndarray (2,)
        Column means of `by_step`, `centered`, `sam` and `examples`.
    by_step : Effects (2, G, E, K)
    centered : Effects (2, G, K)
        Centred differences, at the largest ascent step.
    sam : Effects (2, R, K)
    signs : Effects (2, C, K)
        With the planted signs of `SIGNS`.
    examples : (Example, Example)
    noise : float
        Standard deviation of the noise on y.
    """

    alphas: Array
    column_means: Array
    gammas: Array
    steps: Array
    radii: Array
    gamma: float
    epsilon: float
    grid: Effects
    alpha: float
    two_means: Array
    by_step: Effects
    centered: Effects
    sam: Effects
    signs: Effects
    examples: tuple[Example, ...]
    noise: float

    @property
    def n_failed(self) -> int:
        """How many runs do not fit the data."""
        return sum(part.n_failed for part in self._parts)

    @property
    def n_runs(self) -> int:
        """How many regularized runs there are."""
        return sum(part.l1.size for part in self._parts)

    @property
    def _parts(self) -> tuple[Effects, ...]:
        return self.grid, self.by_step, self.centered, self.sam, self.signs


def compute(*, alphas: Sequence[float] | None = None, column_means: Sequence[float] | None = None, n_seeds: int | None = None,
            gammas: Sequence[float] | None = None, steps: Sequence[float] = (-0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2),
            radii: Sequence[float] = (0.05, 0.1), gamma: float = 0.05, epsilon: float = 0.1, alpha: float = 1e-2,
            two_means: tuple[float, float] = (0.0, 2.2), shape: tuple[int, int, int] = (40, 100, 5), noise: float = 0.0,
            full: bool = False, workers: int | None = None,
            progress: Callable[..., Any] | None = None) -> RegularizationRichness:
    """Train with and without regularization.

    Parameters
    ----------
    alphas, column_means, n_seeds, gammas
        See `RegularizationRichness`; by default those of `SMALL`, or of `FULL`.
    steps, radii, gamma, epsilon, alpha, two_means, noise
        See `RegularizationRichness`.
    shape : (int, int, int)
        Samples, features, nonzero coefficients of the sparse regressions.
    full : bool
        Whether to take the axes for a paper: minutes instead of seconds.
    workers : int, optional
        Threads; by default one per processor.
    progress : callable, optional
        Wraps an iterable, as tqdm does.

    Returns
    -------
    RegularizationRichness

    Raises
    ------
    ValueError
        If an axis is bad.
    """
    given = {"alphas": alphas, "column_means": column_means, "n_seeds": n_seeds, "gammas": gammas}
    chosen = {**(FULL if full else SMALL), **{name: value for name, value in given.items() if value is not None}}
    scales, strengths = increasing("alphas", chosen["alphas"]), increasing("gammas", chosen["gammas"])
    means = increasing("column_means", chosen["column_means"], positive=False)
    signed, rhos = increasing("steps", steps, positive=False), increasing("radii", radii)
    if not isinstance(chosen["n_seeds"], (int, np.integer)) or chosen["n_seeds"] < 1:
        raise ValueError(f"n_seeds must be an integer, at least 1, got {chosen['n_seeds']!r}")
    seeds = range(chosen["n_seeds"])
    if len(two_means) != 2:
        raise ValueError(f"two_means must hold 2 column means, got {len(two_means)}")
    largest = float(np.max(np.abs(signed)))
    main = [dln.GradientRegularization(gamma, epsilon)]
    many = [*(signed_rule(g, e) for g in strengths for e in signed),
            *(dln.GradientRegularization(g, largest, "centered") if largest else signed_rule(g, 0) for g in strengths),
            *(dln.SAM(rho) for rho in rhos)]

    def drawn(mean: float, seed: int) -> dln.Problem:
        return dln.sparse_regression(*shape, noise=noise, column_mean=float(mean), rng=seed)

    def work(job: tuple[dln.Problem, float, list[Any]]) -> list[list[float]]:
        problem, scale, rules = job
        baseline = Baseline(problem, float(scale))
        return [baseline.effects(rule) for rule in rules]

    parts: list[list[Any]] = [
        [(drawn(mean, seed), scale, main) for scale in scales for mean in means for seed in seeds],
        [(drawn(mean, seed), alpha, many) for mean in two_means for seed in seeds],
        [(planted(*shape[:2], signs, float(mean), seed), alpha, main) for signs in SIGNS for mean in means for seed in seeds]]
    done = mapped(work, [job for part in parts for job in part], workers, progress, "regularized runs")
    grid, rules, signs = (done[sum(map(len, parts[:k])): sum(map(len, parts[: k + 1]))] for k in range(3))
    # (2, K, rules, numbers) to (2, rules, K, numbers)
    by_rule = np.moveaxis(np.array(rules).reshape(2, len(seeds), len(many), -1), 1, 2)
    g, e = len(strengths), len(signed)
    return RegularizationRichness(
        scales, means, strengths, signed, rhos, gamma, epsilon,
        Effects.stacked(grid, (len(scales), len(means), len(seeds))), alpha, np.array(two_means),
        Effects.stacked(by_rule[:, : g * e], (2, g, e, len(seeds))),
        Effects.stacked(by_rule[:, g * e: g * e + g], (2, g, len(seeds))),
        Effects.stacked(by_rule[:, g * e + g:], (2, len(rhos), len(seeds))),
        Effects.stacked(signs, (2, len(means), len(seeds))),
        tuple(_example(drawn(mean, 0), mean, alpha, main[0]) for mean in two_means), noise)


def _example(problem: dln.Problem, mean: float, alpha: float, rule: dln.Rule) -> Example:
    baseline = Baseline(problem, alpha)
    run = dln.flow(problem, rule, alpha=alpha)
    falls, shares = math.log(alpha) - run.log_effective_alpha, baseline.response.fair_shares
    is_planted = baseline.truth != 0
    return Example(mean, shares / shares[is_planted].mean(), falls / falls[is_planted].mean(), is_planted)


def draw(data: RegularizationRichness, ax: Any = None) -> NDArray[Any]:
    """Draw nine panels: the scale and the reason; the solution and the boundary; the rules and a test of the reason.

    Lines are medians over the seeds, bands hold the central 80 % of them.

    Parameters
    ----------
    data : RegularizationRichness
    ax : nine matplotlib.axes.Axes, optional
        Where, in rows of three; by default a new figure, two columns of a paper wide.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (9,)
    """
    if ax is not None:
        axes = list(np.ravel(np.asarray(ax, dtype=object)))
        if len(axes) != 9:
            raise ValueError(f"ax must hold 9 Axes, got {len(axes)}")
        _panels(data, axes)
        return np.array(axes, dtype=object)
    with style(), mpl.rc_context({"font.size": 7.5, "axes.labelsize": 7.5, "xtick.labelsize": 7, "ytick.labelsize": 7,
                                  "axes.titlesize": 8, "lines.linewidth": 1.1, "lines.markersize": 3.5}):
        figure = Figure(figsize=(6.9, 7.3), layout="constrained")
        axes = list(np.ravel(figure.subplots(3, 3)))
        _panels(data, axes)
    return np.array(axes, dtype=object)


def _panels(data: RegularizationRichness, axes: list[Axes]) -> None:
    for panel, letter, title in zip(axes, "abcdefghi", TITLES, strict=True):
        panel.set_title(f"({letter}) {title}", loc="left")
    _scale(data, axes[0], "mean_shift", -1, r"mean of $\log(\alpha/\alpha_{\rm eff})$")
    _scale(data, axes[1], "spread", 1, r"deviation of $\log\alpha_{\rm eff}$ over columns")
    _reason(data, axes[2])
    _solution(data, axes[3], "l1", r"change of the $\ell_1$ norm, %")
    _solution(data, axes[4], "distance", "change of the distance, %")
    _boundary(data, axes[5])
    for k in range(2):
        _steps(data, axes[6 + k], k)
        axes[6 + k].set_title(f"({'gh'[k]}) rules, column mean {data.two_means[k]:g}", loc="left")
    _test(data, axes[8])
    for k in (0, 1, 3, 4, 5, 8):
        axes[k].xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))


def _band(axes: Axes, x: Array, bands: Array, color: str, label: str | None = None, line: Any = "-") -> None:
    axes.fill_between(x, bands[0], bands[2], color=color, alpha=0.2, linewidth=0)
    axes.plot(x, bands[1], color=color, linestyle=line, label=label, marker="." if len(x) < 12 else None)


def _scale(data: RegularizationRichness, axes: Axes, name: str, sign: int, label: str) -> None:
    bands = sign * data.grid.quantiles(name)
    for k in _shown(data):
        _band(axes, data.column_means, bands[:, k], COLORS[_shown(data).index(k)],
              rf"$\alpha=$ {scale_name(math.log(data.alphas[k]))}")
    if np.any(bands > 0):
        axes.set_yscale("log")
    axes.set(xlabel="column mean (std. deviations)", ylabel=label)
    if name == "mean_shift":
        axes.legend(loc="upper left", frameon=False, fontsize="small", labelspacing=0.2, borderpad=0.1)


def _shown(data: RegularizationRichness) -> list[int]:
    """Choose the scales that are drawn as lines: at most four, evenly spread."""
    return [int(k) for k in np.unique(np.rint(np.linspace(0, len(data.alphas) - 1, min(4, len(data.alphas)))).astype(int))]


def _reason(data: RegularizationRichness, axes: Axes) -> None:
    line = np.linspace(0, 1.25, 60)
    axes.plot(line, line, color="black", linewidth=0.9)
    axes.plot(line, line**2, color="0.5", linestyle=":", linewidth=0.9)
    for k, example in enumerate(data.examples):
        axes.plot(example.shares[~example.is_planted], example.falls[~example.is_planted], ".", color=COLORS[k], markersize=2.5,
                  label=f"column mean {example.column_mean:g}")
        axes.plot(example.shares[example.is_planted], example.falls[example.is_planted], "s", color=COLORS[k], markersize=3.5,
                  markerfacecolor="none")
    look: dict[str, Any] = {"xycoords": "axes fraction", "fontsize": "small", "color": "0.3"}
    axes.annotate("above the line:\nthese shrink", (0.03, 0.74), va="top", **look)
    axes.annotate("below it:\nthese grow", (0.97, 0.03), ha="right", **look)
    axes.annotate("squares", (0.7, 0.49), (3, -8), textcoords="offset points", color="0.5", fontsize="small")
    axes.legend(loc="upper left", frameon=False, fontsize="small", labelspacing=0.2, borderpad=0.1, handletextpad=0.2)
    axes.set(xlim=(0, 1.25), ylim=(0, 1.8), xlabel="fair share / that of planted", ylabel="fall / that of planted")


def _symlog(axes: Axes, values: Array, threshold: float) -> None:
    axes.axhline(0, color="black", linewidth=0.7, zorder=0)
    if np.nanmax(np.abs(values), initial=0.0) > threshold:
        axes.set_yscale("symlog", linthresh=threshold, linscale=0.7)


def _solution(data: RegularizationRichness, axes: Axes, name: str, label: str) -> None:
    bands, even = 100 * data.grid.quantiles(name), 100 * data.grid.quantiles(f"even_{name}")
    for place, k in enumerate(_shown(data)):
        _band(axes, data.column_means, bands[:, k], COLORS[place])
        axes.plot(data.column_means, even[1, k], color=COLORS[place], linestyle="--", linewidth=0.8)
    _symlog(axes, np.concatenate([bands, even]), 0.1)
    axes.set(xlabel="column mean (std. deviations)", ylabel=label)
    if name == "l1":
        entries = [Line2D([], [], color="0.2"), Line2D([], [], color="0.2", linestyle="--", linewidth=0.8)]
        axes.legend(entries, ["as trained", "geometric mean\nof the same scales"], loc="lower left", frameon=False,
                    fontsize="small", labelspacing=0.2, borderpad=0.1)


def _boundary(data: RegularizationRichness, axes: Axes) -> None:
    share = data.grid.lowered("l1")
    x = _linear_edges(data.column_means)
    y = cell_edges(data.alphas)
    mesh = axes.pcolormesh(x, y, np.ma.masked_invalid(100 * share), cmap="cividis", vmin=0, vmax=100, rasterized=True)
    failed = np.isnan(data.grid.l1).any(axis=-1)
    for i, j in np.argwhere(failed):
        axes.add_patch(Rectangle((x[j], y[i]), x[j + 1] - x[j], y[i + 1] - y[i], fill=False, hatch="////", linewidth=0,
                                 edgecolor="white"))
    axes.set(yscale="log", xlabel="column mean (std. deviations)", ylabel=r"initial scale $\alpha$")
    handles: list[Any] = []
    lines: Any = (("overcharge", "-", "of the run"), ("foreseen_overcharge", ":", "of gradient flow"))
    for name, line, text in lines:
        level = data.grid.quantiles(name)[1]
        if min(level.shape) >= 2 and np.isfinite(level).all() and level.min() < 1 < level.max():
            axes.contour(data.column_means, data.alphas, level, levels=[1.0], colors="white", linestyles=[line], linewidths=1.4)
            handles.append(Line2D([], [], color="white", linestyle=line, label=text))
    if data.n_failed:
        handles.append(Patch(facecolor="0.5", edgecolor="white", hatch="////", linewidth=0,
                             label=f"no fit: {data.n_failed} of {data.n_runs} runs"))
    if handles:
        legend = axes.legend(handles=handles, title="overcharge 1", loc="upper left", fontsize="small", title_fontsize="small",
                             facecolor="0.25", labelcolor="white", edgecolor="none", labelspacing=0.2, borderpad=0.3)
        legend.get_title().set_color("white")
    bar = axes.figure.colorbar(mesh, ax=axes, location="right", aspect=20, pad=0.02)
    bar.set_label(r"% of seeds with a lower $\ell_1$ norm")


def _linear_edges(centers: Array) -> Array:
    middle = 0.5 * (centers[1:] + centers[:-1])
    half = (middle[0] - centers[0], centers[-1] - middle[-1]) if len(middle) else (0.5, 0.5)
    return np.concatenate([[centers[0] - half[0]], middle, [centers[-1] + half[1]]])


def _steps(data: RegularizationRichness, axes: Axes, k: int) -> None:
    axes.axhline(0, color="black", linewidth=0.7, zorder=0)
    bands = 100 * data.by_step.quantiles("l1")[:, k] / data.gammas[:, None]
    largest, middle = float(np.max(np.abs(data.steps))), len(data.gammas) // 2
    for g, gamma in enumerate(data.gammas):
        line = "-" if g == middle else LINES[3 if g < middle else 1]
        axes.plot(data.steps, bands[1, g], color=COLORS[k], linestyle=line, marker=".", label=rf"$\gamma$ = {gamma:g}")
    axes.fill_between(data.steps, bands[0, middle], bands[2, middle], color=COLORS[k], alpha=0.2, linewidth=0)
    centered = 100 * data.centered.quantiles("l1")[1, k] / data.gammas
    axes.plot(np.full(len(data.gammas), largest), centered, "o", color=COLORS[k], markerfacecolor="white", zorder=3,
              label=r"centred, $\pm\epsilon$")
    sam = 100 * data.sam.quantiles("l1")[1, k] / data.radii
    axes.plot(data.radii, sam, "x", color="black", zorder=3, label=r"SAM, $\gamma=\epsilon=\rho$")
    known = bands[np.isfinite(bands)]
    if known.size and np.any(known):
        # The lines are far from 0 and nearly flat: room for the legend on the other side of them.
        low, high = min(0.0, known.min()), max(0.0, known.max())
        axes.set_ylim((1.1 * low, 0.1 * (high - low)) if -low > high else (-0.1 * (high - low), 1.1 * high))
    axes.legend(loc="best", frameon=False, fontsize="small", labelspacing=0.2, borderpad=0.1)
    axes.set(xlabel=r"ascent step $\epsilon$ (backward below 0)", ylabel=r"change of the $\ell_1$ norm / $\gamma$, %")


def _test(data: RegularizationRichness, axes: Axes) -> None:
    bands = 100 * data.signs.quantiles("l1")
    for k, label in enumerate(("planted signs sum to 0", "planted signs equal")):
        _band(axes, data.column_means, bands[:, k], COLORS[k], label)
    _symlog(axes, bands, 0.1)
    low = float(np.nanmin(bands, initial=0.0))
    if low < -0.1:
        axes.set_ylim(bottom=10 * low)  # room for the legend, on a symmetric log scale
    axes.legend(loc="lower left", frameon=False, fontsize="small", labelspacing=0.2, borderpad=0.1)
    axes.set(xlabel="column mean (std. deviations)", ylabel=r"change of the $\ell_1$ norm, %")
