"""The window of ``dln explore``: sliders for the initial scale and the rule, and the trajectory and its limit beside them.

On the left the loss and the coordinates of beta against time; on the right where the run ends, what theory predicts for it, and
the interpolator of least l1 norm.  A run that fails, and a combination that the library refuses, say so in words.

A whole draw costs several times as much as the run.  So the window is kept in three layers: what never changes; what changes
seldom, in places of its own, as the axes of a column, whose limits move in large steps, or what names the rule; and on these,
drawn at every move, the curves and the words.  Text that changes at every move has no mathtext, which takes long to parse.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator
from matplotlib.transforms import Bbox, TransformedBbox
from matplotlib.widgets import RadioButtons, Slider

import dln
from figures._canvas import COLORS, plain, style
from figures._exploration import RULES, Exploration, Scene, Settings

__all__ = ["SIZE", "Explorer", "Settings", "screenshot", "show"]

#: Width and height of the window, in inches.
SIZE = (10.0, 6.4)
#: How many coordinates have a colour: those largest where the run ends.
SHOWN = 6
#: Ends of the sliders, as powers of ten; a start beyond them moves the end.
ALPHA, GAMMA, EPSILON = (-12.0, 1.0), (-4.0, 1.0), (-4.0, 1.0)
_BAD, _GREY = "#D55E00", "0.72"


@dataclass(frozen=True, eq=False)
class _Layer:
    """What is drawn anew, in a place of its own, only when what `state` tells has changed."""

    place: Any
    artists: list[Any]
    state: Callable[[], Any]


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
        self._pictures: list[Any] = []  # of the layers' places, with nothing that ever changes on them
        self._states: list[Any] = []  # of the layers, as drawn on the background
        self._background: Any = None
        with style():
            self._panels(problem)
            self._controls(settings)
        self._layers = self._seldom()
        self._moving = self._always()
        if getattr(figure.canvas, "supports_blit", False):
            for artist in (*self._moving, *(artist for layer in self._layers for artist in layer.artists)):
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
        top.set(xscale="log", yscale="log")
        top.tick_params(labelbottom=False)
        right.set(xlim=(-1, problem.n_features))
        # No part of their axes: these are drawn anew when their limits move, the names are not.
        self.names = [self.figure.text(x, y, words, rotation="vertical", ha="right", va="center") for x, y, words in (
            (0.022, 0.7875, "loss"), (0.022, 0.516, r"coordinates of $\beta$"), (0.515, 0.6375, r"$\beta$ at the end"))]
        self.names += [self.figure.text(x, 0.325, words, ha="center", va="center") for x, words in (
            (0.275, r"time $t$"), (0.775, "coordinate"))]
        for axis in (top.xaxis, bottom.xaxis, top.yaxis):
            # A log axis has some fifty small ticks, which take more time to draw than the curves.
            axis.set_major_locator(LogLocator(numticks=6))
            axis.set_minor_locator(NullLocator())
            axis.set_minor_formatter(NullFormatter())
        for panel, most in ((bottom, 5), (right, 8)):
            panel.yaxis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))
            panel.ticklabel_format(axis="y", scilimits=(-3, 4))
        for axis in (top.xaxis, bottom.xaxis, top.yaxis, bottom.yaxis, right.yaxis):
            axis.set_label_coords(0, 0)  # else all tick labels are laid out twice, to find a place for names there are none of
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

    def _seldom(self) -> list[_Layer]:
        top, bottom, right = self._axes()

        def place(left: float, low: float, to_right: float, high: float) -> TransformedBbox:
            return TransformedBbox(Bbox.from_extents(left, low, to_right, high), self.figure.transFigure)

        labels = [slider.label for slider in self.sliders.values()]
        return [
            _Layer(place(0.0, 0.34, 0.492, 0.94), [top.xaxis, top.yaxis, bottom.xaxis, bottom.yaxis],
                   lambda: (top.get_xlim(), top.get_ylim(), bottom.get_ylim())),
            _Layer(place(0.516, 0.34, 1.0, 0.94), [right.yaxis], right.get_ylim),
            _Layer(place(0.0, 0.94, 1.0, 1.0), [self.title], self.title.get_text),
            _Layer(place(0.0, 0.0, 1.0, 0.31), [*labels, *self.rule_axes.collections], self.title.get_text),
        ]

    def _always(self) -> list[Any]:
        artists = [artist for axes in self._axes() for artist in (*axes.lines, *axes.collections)]
        for slider in self.sliders.values():
            artists += [slider.poly, *slider.ax.lines, slider.valtext]
        artists += [self.words, self.detail, self.notice]
        return sorted(artists, key=lambda artist: float(artist.get_zorder()))

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
            self._draw()
            self.figure.canvas.flush_events()
            settings = self.settings  # a slider may have moved in the meantime
            self._label(settings)
        self.scene = self.model.compute(settings)
        self._show(self.scene)
        self._draw()

    def _axes(self) -> tuple[Axes, ...]:
        return self.loss_axes, self.beta_axes, self.limit_axes

    def _draw(self) -> None:
        """Draw what has changed, on what has not; all of it before there is a picture of that."""
        canvas: Any = self.figure.canvas
        if self._background is None:
            canvas.draw_idle()
            return
        canvas.restore_region(self._background)
        self._draw_layers()
        canvas.blit(self.figure.bbox)

    def _keep(self, event: Any) -> None:
        """After a whole draw, which leaves out what ever changes, keep its picture and draw the rest."""
        canvas: Any = self.figure.canvas
        self._pictures = [canvas.copy_from_bbox(layer.place) for layer in self._layers]
        self._states = [None] * len(self._layers)
        self._draw_layers()

    def _draw_layers(self) -> None:
        canvas: Any = self.figure.canvas
        states = [layer.state() for layer in self._layers]
        if states != self._states:
            for layer, picture, new, old in zip(self._layers, self._pictures, states, self._states, strict=True):
                if new != old:
                    canvas.restore_region(picture)
                    self._draw_artists(layer.artists)
            self._states, self._background = states, canvas.copy_from_bbox(self.figure.bbox)
        self._draw_artists(self._moving)

    def _draw_artists(self, artists: list[Any]) -> None:
        for artist in artists:
            self.figure.draw_artist(artist)

    def _label(self, settings: Settings) -> None:
        choice = RULES[settings.rule]
        self.title.set_text(f"{plain(self.model.problem.name or 'data')}: {choice.label}")
        names = {"alpha": r"$\alpha$", "gamma": choice.gamma, "epsilon": choice.epsilon}
        values = {"alpha": _scale_words(settings.log_alpha), "gamma": f"{settings.gamma:.3g}",
                  "epsilon": f"{settings.epsilon:.3g}"}
        for key, slider in self.sliders.items():
            used = names[key] is not None
            slider.label.set(text=names[key] or rf"$\{key}$", color="black" if used else _GREY)
            slider.valtext.set(text=values[key] if used else "not used by this rule", color="black" if used else "0.45")
            slider.poly.set_color(COLORS[0] if used else _GREY)

    def _show(self, scene: Scene) -> None:
        self.words.set(text=_words(scene), color="black" if scene.success else _BAD)
        self.notice.set_text("" if len(scene.times) else "\n".join(textwrap.wrap(f"no run: {scene.message}", 44)))
        # For runs that failed what ended them, and when, not which argument of `dln.flow` to change: letters take time to draw.
        why = scene.message if scene.success else scene.message.split("; ")[0].split(": ")[0]
        if len(scene.times) and not np.isfinite(scene.predicted).any():
            why += "; what theory predicts could not be certified"
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
        low, high = float(scene.betas[kept].min(initial=0.0)), float(scene.betas[kept].max(initial=0.0))
        # Never narrower than a twentieth of the limit, so that what does not move looks as if it did not.
        self.beta_axes.set_ylim(-_above(max(-1.1 * low, 0.05 * size)), _above(max(1.1 * high, 0.05 * size)))

    def _show_trajectory(self, scene: Scene) -> None:
        times, losses, betas = scene.times, scene.losses, scene.betas
        self.loss_line.set_data(times, losses)
        kept = np.flatnonzero(np.isfinite(losses))
        last = kept[-1:] if not scene.success else kept[:0]
        self.cross.set_data(times[last], losses[last])
        # Where there is nothing to see the limits are always the same, and not those of the move before.
        self.loss_axes.set(xlim=(0.1, 1.0), ylim=(0.1, 1.0))
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


def _scale_words(log_alpha: float) -> str:
    return f"{math.exp(log_alpha):.3g}" if abs(log_alpha) < 690 else f"exp({log_alpha:.6g})"


def _words(scene: Scene) -> str:
    if scene.status == "refused":
        return "refused: move a slider back"
    parts = [scene.status if scene.success else f"{scene.status}: so far"]
    if math.isfinite(scene.richness):
        parts.append(f"richness {scene.richness:.3f}")
    if math.isfinite(scene.mean_log_shift):
        parts.append(f"mean log(alpha_eff/alpha) {scene.mean_log_shift:.3g}")
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
