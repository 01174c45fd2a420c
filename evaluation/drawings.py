"""Scatter plots of one landscape, coloured in several ways."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap, to_rgba
from matplotlib.figure import Figure
from numpy.typing import NDArray

from groundling.evaluation.figures import png

CATEGORIES = (
    "#2a6fbb",
    "#e8912d",
    "#3d8b5f",
    "#c9304f",
    "#8f4fa8",
    "#2fb5c4",
    "#7a5230",
    "#ec7fb6",
    "#b3ad1c",
)
"""Of classes without an order, told apart at the size of a dot."""

NOTHING, NOTHING_COLOUR = "nothing", "#cfd4de"
OTHERS, OTHERS_COLOUR = "others", "#6d7380"

ORDERED: Colormap = ListedColormap(colormaps["viridis"](np.linspace(0.0, 0.94, 256)))
"""Of numbers; without the brightest yellow, which is lost on white."""

COLUMNS = 3
NOTE_COLOUR = "#555555"


@dataclass(frozen=True)
class Panel:
    """One way to colour S dots."""

    title: str
    note: str
    """A line beneath the dots, unless an axis is named there."""
    values: NDArray[Any]
    """[S]: the number of a class, or an ordered number."""
    labels: tuple[str, ...] = ()
    """Of the classes; none where the values are ordered."""
    few: bool = True
    """Whether every value gets a line in the legend; else there is a bar of colours."""


def scatter_panels(
    places: NDArray[Any], panels: Sequence[Panel], axes_labels: Sequence[str] = ()
) -> bytes:
    """The same dots once for each panel, as a PNG.

    Args:
        places: [S, 2], where the dots are.
        panels: how they are coloured.
        axes_labels: what runs along both axes; none if that means nothing.
    """
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(9.6, 0.3 + 3.7 * rows), dpi=144, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in grid[len(panels) :]:
        axes.remove()
    for axes, panel in zip(grid, panels, strict=False):
        beneath = axes_labels[0] if axes_labels else panel.note
        axes.set_xlabel(beneath, fontsize=8, color=NOTE_COLOUR, labelpad=3)
        _draw(figure, axes, places, panel)
    if axes_labels:
        for axes in grid[: len(panels) : columns]:
            axes.set_ylabel(axes_labels[1], fontsize=8, color=NOTE_COLOUR, labelpad=3)
    return png(figure)


def _draw(figure: Figure, axes: Axes, places: NDArray[Any], panel: Panel) -> None:
    axes.set_title(panel.title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_color("#c9ced8")
    dots: dict[str, Any] = {"s": 5, "linewidths": 0, "alpha": 0.8}
    if not panel.few:
        drawn = axes.scatter(places[:, 0], places[:, 1], c=panel.values, cmap=ORDERED, **dots)
        bar = figure.colorbar(drawn, ax=axes, location="bottom", aspect=28, shrink=0.8, pad=0.01)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8, length=2)
        return
    classes = classes_of(panel)
    shades = np.zeros((len(places), 4))
    for name, colour, mask in classes:
        shades[mask] = to_rgba(colour)
        axes.scatter([], [], color=colour, label=name, **dots)
    # All at once: class by class, the last would lie on top of the others.
    axes.scatter(places[:, 0], places[:, 1], c=shades, **dots)
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.08),
        ncols=34 // (max(len(name) for name, *_ in classes) + 3) or 1,
        markerscale=2,
        fontsize=8,
        frameon=False,
        handletextpad=0.1,
        columnspacing=1.0,
        borderpad=0,
    )


def classes_of(panel: Panel) -> list[tuple[str, Any, NDArray[np.bool_]]]:
    """Name, colour and dots (a mask [S]) of every class that occurs.

    The most frequent ones have colours of their own, as many as there are; the rest are "others".
    """
    if not panel.labels:
        values = np.unique(panel.values)
        shades = ORDERED(np.linspace(0.0, 1.0, len(values)))
        return [
            (f"{value:g}", shade, panel.values == value)
            for value, shade in zip(values, shades, strict=True)
        ]
    counts = np.bincount(panel.values, minlength=len(panel.labels))
    named = [one for one in np.argsort(-counts, kind="stable") if panel.labels[one] != NOTHING]
    shown = sorted(one for one in named[: len(CATEGORIES)] if counts[one])
    classes: list[tuple[str, Any, NDArray[np.bool_]]] = [
        (panel.labels[one], colour, panel.values == one)
        for one, colour in zip(shown, CATEGORIES, strict=False)
    ]
    rest = [(OTHERS, OTHERS_COLOUR, named[len(CATEGORIES) :])]
    if NOTHING in panel.labels:
        rest.append((NOTHING, NOTHING_COLOUR, [panel.labels.index(NOTHING)]))
    for name, colour, members in rest:
        if (mask := np.isin(panel.values, members)).any():
            classes.append((name, colour, mask))
    return classes
