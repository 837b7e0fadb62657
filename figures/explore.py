"""The window of ``dln explore``: sliders for the initial scale and the rule, and the trajectory and its limit beside them.

On the left the loss and the coordinates of beta against time; on the right where the run ends, what theory predicts for it, and
the interpolator of least l1 norm.  A run that fails, and a combination that the library refuses, say so in words.

A whole draw costs several times as much as the run.  So what a move changes is drawn alone, on a kept picture of the rest; the
limits of the axes move in large steps, and only when they do are the axes drawn anew; all is drawn anew when the rule changes.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator
from matplotlib.widgets import RadioButtons, Slider

import dln
from figures._canvas import COLORS, plain, scale_name, style
from figures._exploration import RULES, Exploration, Scene, Settings

__all__ = ["SIZE", "Explorer", "Settings", "screenshot", "show"]

#: Width and height of the window, in inches.
SIZE = (10.0, 6.4)
#: How many coordinates have a colour: those largest where the run ends.
SHOWN = 6
#: Ends of the sliders, as powers of ten; a start beyond them moves the end.
ALPHA, GAMMA, EPSILON = (-12.0, 1.0), (-4.0, 1.0), (-4.0, 1.0)
_BAD, _GREY = "#D55E00", "0.72"


class Explorer:
    """The window's contents, on any figure: with or without a display.

    Parameters
    ----------
    problem : Problem
        The data.
    figure : matplotlib.figure.Figure
        What to draw on: empty, with a canvas.
    settings : Settings, optional
        Where the sliders begin.

    Attributes
    ----------
    scene : Scene
        What is drawn now.
    """

    scene: Scene

    def __init__(self, problem: dln.Problem, figure: Figure, settings: Settings | None = None) -> None:
        settings = Settings() if settings is None else settings
        self.figure, self.model = figure, Exploration(problem)
        self._used: set[str] = set()
        self._drawn: tuple[Any, ...] = (None, [], [])
        self._background: Any = None
        with style():
            self._panels(problem)
            self._controls(settings)
        panels, sliders = self._axes(), [slider.ax for slider in self.sliders.values()]
        self._moving: list[Any] = [artist for axes in (*panels, *sliders)
                                   for artist in (*axes.lines, *axes.collections, *axes.patches, *axes.texts)]
        self._moving += [self.title, self.words, self.detail, self.notice]
        # Blank paper for the panels and what is written beside their axes.
        self._papers = [Rectangle((left, 0.31), width, 0.59, transform=figure.transFigure, color=figure.get_facecolor(),
                                  linewidth=0) for left, width in ((0.0, 0.492), (0.492, 0.508))]
        if getattr(figure.canvas, "supports_blit", False):
            for artist in self._moving:
                artist.set_animated(True)
            figure.canvas.mpl_connect("draw_event", self._keep)
        self.update()

    # --- setting up ---------------------------------------------------------------------------------------------------

    def _panels(self, problem: dln.Problem) -> None:
        # Fixed places: to lay the figure out anew at every move would cost more than to draw it.
        add = self.figure.add_axes
        self.loss_axes = add((0.075, 0.685, 0.40, 0.205))
        self.beta_axes = add((0.075, 0.385, 0.40, 0.262), sharex=self.loss_axes)
        self.limit_axes = add((0.565, 0.385, 0.42, 0.505))
        self.title = self.figure.text(0.075, 0.96, "", fontsize=10, va="center")
        self.words = self.figure.text(0.075, 0.92, "", fontsize=9, va="center")
        self.detail = self.figure.text(0.075, 0.035, "", fontsize=8, va="center", color="0.3")
        self.notice = self.figure.text(0.275, 0.52, "", fontsize=10, color=_BAD, ha="center", va="center", zorder=5)
        top, bottom, right = self.loss_axes, self.beta_axes, self.limit_axes
        top.set(xscale="log", yscale="log", ylabel="loss")
        top.tick_params(labelbottom=False)
        bottom.set(ylabel=r"coordinates of $\beta$", xlabel=r"time $t$")
        right.set(ylabel=r"$\beta$ at the end", xlabel="coordinate", xlim=(-1, problem.n_features))
        for axis in (top.xaxis, bottom.xaxis, top.yaxis):
            # A log axis has some fifty small ticks, which take more time to draw than the curves.
            axis.set_major_locator(LogLocator(numticks=6))
            axis.set_minor_locator(NullLocator())
            axis.set_minor_formatter(NullFormatter())
        for panel in (top, bottom):
            panel.yaxis.set_label_coords(-0.135, 0.5)  # beside tick labels of any width
        for panel in (bottom, right):
            panel.ticklabel_format(axis="y", scilimits=(-3, 4))
        right.yaxis.set_label_coords(-0.12, 0.5)
        right.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        self.loss_line, = top.plot([], [], color="black")
        self.cross, = top.plot([], [], "x", color=_BAD, markersize=7, markeredgewidth=2)
        self.others = LineCollection([], colors=_GREY, linewidths=0.6)
        bottom.add_collection(self.others, autolim=False)
        self.beta_lines = [bottom.plot([], [], color=color)[0] for color in COLORS[:SHOWN]]
        self._limit_artists(problem)

    def _limit_artists(self, problem: dln.Problem) -> None:
        axes, places = self.limit_axes, np.arange(problem.n_features)
        axes.axhline(0, color="0.6", linewidth=0.8, zorder=0)
        handles: list[Any] = []
        if self.model.interpolators is not None:
            sparse = self.model.interpolators[0]
            kept = np.flatnonzero(np.abs(sparse) > 1e-9 * np.abs(sparse).max())
            handles += axes.plot(places[kept], sparse[kept], "_", color="black", markersize=11, markeredgewidth=1.6,
                                 label=r"least $\ell_1$ norm, $\beta_1$")
        self.plain_line, = axes.plot(places, np.full(len(places), np.nan), "x", color=COLORS[4], markersize=4.5,
                                     label=r"limit of gradient flow from $\alpha$")
        self.predicted_line, = axes.plot(places, np.full(len(places), np.nan), "o", color=COLORS[1], markersize=7,
                                         markerfacecolor="none", markeredgewidth=1.0,
                                         label=r"predicted from $\alpha_{\mathrm{eff}}$")
        self.end_line, = axes.plot(places, np.full(len(places), np.nan), ".", color=COLORS[0], markersize=5, label="the run")
        # Of the figure and not of the axes, so that it stays when these are drawn anew.
        self.figure.legend(handles=[self.end_line, self.predicted_line, self.plain_line, *handles], loc="lower left",
                           bbox_to_anchor=(0.56, 0.9), ncols=2, frameon=False, fontsize="small", borderaxespad=0,
                           columnspacing=1.2, handletextpad=0.3)

    def _controls(self, settings: Settings) -> None:
        places = {"alpha": (0.105, 0.24), "gamma": (0.105, 0.175), "epsilon": (0.105, 0.11)}
        starts = {"alpha": settings.log_alpha / math.log(10), "gamma": math.log10(settings.gamma),
                  "epsilon": math.log10(settings.epsilon)}
        ends = {"alpha": ALPHA, "gamma": GAMMA, "epsilon": EPSILON}
        self.sliders: dict[str, Slider] = {}
        for name, (left, bottom) in places.items():
            low, high = ends[name]
            start = starts[name]
            slider = Slider(self.figure.add_axes((left, bottom, 0.37, 0.04)), "", min(low, start), max(high, start),
                            valinit=start, color=COLORS[0], initcolor="none")
            slider.drawon = False  # else it would draw by itself, and everything twice
            slider.on_changed(lambda value: self.update())
            self.sliders[name] = slider
        self.keys = tuple(RULES)
        self.rule_axes = self.figure.add_axes((0.745, 0.02, 0.24, 0.255))
        self.rule_axes.set_title("training rule", fontsize=9, loc="left", pad=3)
        self.radio = RadioButtons(self.rule_axes, [RULES[key].label for key in self.keys], self.keys.index(settings.rule),
                                  activecolor=COLORS[0], useblit=False)
        self.radio.drawon = False
        self.radio.on_clicked(lambda label: self.update())

    # --- one move ---------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """What the sliders say now."""
        labels = [RULES[key].label for key in self.keys]
        return Settings(self.keys[labels.index(self.radio.value_selected)], float(self.sliders["alpha"].val) * math.log(10),
                        10.0 ** float(self.sliders["gamma"].val), 10.0 ** float(self.sliders["epsilon"].val))

    def update(self) -> None:
        """Compute and draw for where the sliders are."""
        settings = self.settings
        self._label(settings)
        if settings.rule not in self._used:
            # The first run of a rule may compile its kernels, which takes seconds: the window should say so.
            self._used.add(settings.rule)
            self.words.set(text=f"preparing {RULES[settings.rule].label} ...", color="black")
            self.figure.canvas.draw_idle()
            self.figure.canvas.flush_events()
            settings = self.settings  # a slider may have moved in the meantime
            self._label(settings)
        self.scene = self.model.compute(settings)
        self._show(self.scene)
        limits = [(*axes.get_xlim(), *axes.get_ylim()) for axes in self._axes()]
        frame = (settings.rule, limits[:2], limits[2:])  # the left column and the right one
        if self._background is None or frame[0] != self._drawn[0]:
            self.figure.canvas.draw_idle()
        else:
            self._redraw([new != old for new, old in zip(frame[1:], self._drawn[1:], strict=True)])
        self._drawn = frame

    def _axes(self) -> tuple[Axes, ...]:
        return self.loss_axes, self.beta_axes, self.limit_axes

    def _redraw(self, anew: Sequence[bool]) -> None:
        """Draw what has moved, on the kept picture; before that the axes of the columns whose limits have moved."""
        canvas: Any = self.figure.canvas
        canvas.restore_region(self._background)
        if any(anew):
            panels = self._axes()
            for paper, column, moved in zip(self._papers, (panels[:2], panels[2:]), anew, strict=True):
                for artist in (paper, *column) if moved else ():
                    self.figure.draw_artist(artist)
            self._background = canvas.copy_from_bbox(self.figure.bbox)
        self._draw_moving()
        canvas.blit(self.figure.bbox)

    def _keep(self, event: Any) -> None:
        """Keep the picture of what does not move, after a whole draw."""
        canvas: Any = self.figure.canvas
        self._background = canvas.copy_from_bbox(self.figure.bbox)
        self._draw_moving()

    def _draw_moving(self) -> None:
        for artist in sorted(self._moving, key=lambda artist: float(artist.get_zorder())):
            (artist.axes or self.figure).draw_artist(artist)

    def _label(self, settings: Settings) -> None:
        choice = RULES[settings.rule]
        names = {"alpha": r"$\alpha$", "gamma": choice.gamma, "epsilon": choice.epsilon}
        values = {"alpha": scale_name(settings.log_alpha), "gamma": f"{settings.gamma:.3g}",
                  "epsilon": f"{settings.epsilon:.3g}"}
        for key, slider in self.sliders.items():
            used = names[key] is not None
            slider.label.set(text=names[key] or rf"$\{key}$", color="black" if used else _GREY)
            slider.valtext.set(text=values[key] if used else "not used by this rule", color="black" if used else "0.45")
            slider.poly.set_color(COLORS[0] if used else _GREY)

    def _show(self, scene: Scene) -> None:
        self.title.set_text(f"{plain(self.model.problem.name or 'data')}: {RULES[scene.settings.rule].label}")
        self.words.set(text=_words(scene), color="black" if scene.success else _BAD)
        self.notice.set_text("" if len(scene.times) else "\n".join(textwrap.wrap(f"no run: {scene.message}", 44)))
        # Without its last clause for runs that failed: that one says which argument of `dln.flow` to change.
        why = "; ".join(scene.message.split("; ")[: 1 if not scene.success else None])
        if len(scene.times) and not np.isfinite(scene.predicted).any():
            why += "; what theory predicts for it could not be certified, and is not drawn"
        self.detail.set_text("" if not len(scene.times) else "\n".join(textwrap.wrap(plain(why), 100)[:2]))
        self._show_trajectory(scene)
        ends = ((self.end_line, scene.beta), (self.predicted_line, scene.predicted), (self.plain_line, scene.plain))
        for line, values in ends:
            line.set_ydata(values)
        known = (scene.beta, scene.plain, *(self.model.interpolators or ())[:1])
        size = max(np.abs(values[np.isfinite(values)]).max(initial=0.0) for values in known)
        top = _above(1.05 * size)
        self.limit_axes.set_ylim(-top, top)
        kept = np.isfinite(scene.losses)
        if kept.any():
            low, high = float(np.min(scene.betas[kept])), float(np.max(scene.betas[kept]))
            # Never narrower than a twentieth of the limit, so that what does not move looks as if it did not.
            self.beta_axes.set_ylim(-_above(max(-1.1 * low, 0.05 * size)), _above(max(1.1 * high, 0.05 * size)))

    def _show_trajectory(self, scene: Scene) -> None:
        times, losses, betas = scene.times, scene.losses, scene.betas
        self.loss_line.set_data(times, losses)
        kept = np.flatnonzero(np.isfinite(losses))
        last = kept[-1:] if not scene.success else kept[:0]
        self.cross.set_data(times[last], losses[last])
        if len(kept) == 0:
            for line in self.beta_lines:
                line.set_data([], [])
            self.others.set_segments([])
            return
        shown = np.argsort(-np.abs(betas[kept[-1]]), kind="stable")[:SHOWN]
        for line, j in zip(self.beta_lines, shown, strict=False):
            line.set_data(times, betas[:, j])
        # What never grows to a hundredth of the largest lies on the axis: to draw it would cost time and show nothing.
        size = np.abs(betas[kept]).max(axis=0)
        seen = np.setdiff1d(np.flatnonzero(size > 0.01 * size.max()), shown)
        self.others.set_segments([np.column_stack([times, betas[:, j]]) for j in seen])
        if times[-1] > times[0] > 0:
            self.loss_axes.set_xlim(_decade(times[0], math.floor), _decade(times[-1], math.ceil))
        positive = losses[kept][losses[kept] > 0]
        if positive.size:
            low = max(positive.min(), 1e-16 * positive.max())
            self.loss_axes.set_ylim(_decade(low, math.floor), _decade(1.5 * positive.max(), math.ceil))


def _decade(value: float, to: Callable[[float], int]) -> float:
    return 10.0 ** to(math.log10(value))


def _above(value: float) -> float:
    """Give the next of 1, 1.5, 2, 3, 5, 7 and 10, times a power of ten, so that limits change seldom; 1 for 0."""
    if not 1e-290 < value < 1e290:
        return 1.0 if value < 1 else 1e300
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0) if value <= step * power * (1 + 1e-12))


def _words(scene: Scene) -> str:
    if scene.status == "refused":
        return "refused: move a slider back"
    parts = [scene.status if scene.success else f"{scene.status}: as far as it went"]
    if math.isfinite(scene.richness):
        parts.append(f"richness {scene.richness:.3f}")
    if math.isfinite(scene.mean_log_shift):
        parts.append(r"mean $\log(\alpha_{\mathrm{eff}}/\alpha)$ " + f"{scene.mean_log_shift:.3g}")
    return ",  ".join(parts)


def screenshot(problem: dln.Problem, path: Any, settings: Settings | None = None) -> None:
    """Write the window as a picture, without a display.

    Parameters
    ----------
    problem : Problem
    path : str or path-like
        A name ending in .png or .pdf, in a folder that exists.
    settings : Settings, optional
        Where the sliders are.

    Raises
    ------
    ValueError
        If the file cannot be written.
    """
    import figures

    figure = Figure(figsize=SIZE)
    Explorer(problem, figure, settings)
    figures.save(figure, path, dpi=100)


def show(problem: dln.Problem, settings: Settings | None = None) -> None:
    """Open the window, and return when it is closed.

    Parameters
    ----------
    problem : Problem
    settings : Settings, optional
        Where the sliders begin.

    Raises
    ------
    ValueError
        If there is no display, or no toolkit to open a window with.
    """
    # Only here, where a window is wanted, is pyplot: it knows which toolkits there are, and runs their loop.
    from matplotlib import pyplot

    where = "dln explore needs a window, and there is none to be had"
    what = "run it where there is a display, or write a picture with --screenshot FILE"
    try:
        with style():
            figure = pyplot.figure(num="dln explore", figsize=SIZE)
    except (ImportError, RuntimeError) as error:
        raise ValueError(f"{where}: {error}; {what}") from None
    if pyplot.get_backend().lower() not in {name.lower() for name in mpl.backends.backend_registry.list_builtin(
            mpl.backends.BackendFilter.INTERACTIVE)}:
        pyplot.close(figure)
        raise ValueError(f"{where} (matplotlib chose {pyplot.get_backend()}, which only writes files); {what}")
    explorer = Explorer(problem, figure, settings)
    pyplot.show()
    del explorer  # until here: the widgets hold their callbacks by weak references
