"""Pictures of what decisions hang on: maps of the view, and curves of the past."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.render import draw_view
from groundling.envs.rooms.world import FIRST_SHAPE, WHAT
from groundling.evaluation.attention_measures import Array, unlike
from groundling.evaluation.controls import AGENT, UNTRAINED
from groundling.evaluation.figures import COLOURS, png

DRAWN = 4
"""Moments that are drawn."""
DARK = "#22252e"
LABEL: dict[str, Any] = {"rotation": 0, "ha": "right", "va": "center", "fontsize": 9, "labelpad": 6}
INKS = {"value": COLOURS["agent"], "policy": "#c1553b", "answer": COLOURS["oracle"]}


def draw_maps(
    maps: Mapping[str, Array], views: NDArray[Any], options: RoomsOptions | None
) -> bytes:
    """Some views with what value and policy hang on there, and the means of all moments.

    Args:
        maps: [S, V, W] by decision.
        views: [S, V, W, C].
        options: of the rooms; None: only means are drawn.
    """
    some = [] if options is None else _telling(maps, views)
    lines = len(maps) + (options is not None)
    figure = Figure(figsize=(1.35 * len(some) + 2.1, 1.42 * lines + 0.3), dpi=144)
    grid: Any = figure.subplots(lines, len(some) + 1, squeeze=False)
    figure.subplots_adjust(0.11 if some else 0.4, 0.03, 0.99, 0.92, wspace=0.08, hspace=0.08)
    if options is not None:
        for axes, at in zip(grid[0], some, strict=False):
            axes.imshow(draw_view(views[at], options, 48))
        grid[0, 0].set_ylabel("in view", **LABEL)
        held = (views[..., WHAT] >= FIRST_SHAPE).mean(0)
        heat(grid[0, -1], held, "#5b6472", float(held.max()))
    grid[0, -1].set_title(f"mean of {len(views):,}", fontsize=9)
    for line, (name, one) in zip(grid[-len(maps) :], maps.items(), strict=True):
        line[0].set_ylabel(f"the {name}\nhangs on", **LABEL)
        drawn = [*(one[at] for at in some), one.mean(0)]
        for axes, shares in zip(line, drawn, strict=True):
            heat(axes, shares, INKS[name], float(np.max(drawn)))
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return png(figure)


def _telling(maps: Mapping[str, Array], views: NDArray[Any]) -> list[int]:
    """Moments with most things in view (three are plenty), and of these those in which value and
    policy differ most; no view twice."""
    things = np.minimum((views[..., WHAT] >= FIRST_SHAPE).sum((-2, -1)), 3)
    different: dict[bytes, int] = {}
    for at in np.lexsort((-unlike(*maps.values()), -things)):
        different.setdefault(views[at].tobytes(), int(at))
    return list(different.values())[:DRAWN]


def heat(axes: Axes, shares: Array, ink: str, highest: float) -> None:
    """Places in shades of one ink, full at `highest`; lines between them and shares in per cent if
    they fit."""
    shades = LinearSegmentedColormap.from_list("", ["#f4f5f8", ink])
    axes.imshow(shares, cmap=shades, vmin=0, vmax=max(highest, 1e-12))
    rows, columns = shares.shape
    if shares.size > 150:
        return
    for row in range(1, rows):
        axes.axhline(row - 0.5, color="white", linewidth=1.5)
    for column in range(1, columns):
        axes.axvline(column - 0.5, color="white", linewidth=1.5)
    if shares.size > 25:
        return
    for (row, column), share in np.ndenumerate(shares):
        shade = "white" if share > 0.6 * highest else DARK
        axes.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=7, color=shade)


def draw_steps(numbers: Mapping[str, Any]) -> bytes:
    """Shares of the sensitivity by steps back; of answers, also around the last sight of what they
    are about. `numbers`: see `attention.inspect_attention`."""
    found: Any = numbers.get("answer")
    figure = Figure(figsize=(6.95, 3.1), dpi=144, layout="constrained")
    left, *right = figure.subplots(1, 1 if found is None else 2, squeeze=False)[0]
    for name, style in ((AGENT, "-"), (UNTRAINED, ":")):
        for decided, shares in numbers["steps"][name].items():
            left.plot(shares, style, color=INKS[decided], label=f"{decided}, {name}")
    if found is not None:
        left.plot(found["steps"], color=INKS["answer"], label="answer, agent")
        _draw_around(right[0], found["around"])
    left.set(yscale="log", xlabel="steps back", ylabel="share of the sensitivity")
    left.legend(frameon=False, fontsize=7)
    return png(figure)


def _draw_around(axes: Axes, around: Mapping[str, Mapping[str, float]]) -> None:
    for name, ink, words in (
        ("asked", INKS["answer"], "asked about it"),
        ("other", COLOURS[UNTRAINED], "asked about another thing"),
    ):
        steps, shares = map(int, around[name]), around[name].values()
        axes.plot(list(steps), list(shares), color=ink, label=words)
    axes.axvline(0, color=DARK, linewidth=0.7, linestyle=":")
    axes.set_ylim(0, 1.25 * max(max(curve.values()) for curve in around.values()))
    axes.set_xlabel("steps after the thing was last in view")
    axes.set_ylabel("share of the answer's sensitivity")
    axes.legend(frameon=False, fontsize=7, loc="upper left")
