"""Pictures of what was measured, as PNG bytes."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, FigureBase

from groundling.training.metrics import Row

COLOURS = {
    "agent": "#2a6fbb",
    "agent's encoder": "#7fb2e5",
    "untrained agent": "#9aa5b8",
    "question only": "#d39b3c",
    "oracle": "#3d8b5f",
}
"""Of rows that are in many pictures. Others take turns among `MORE`."""

MORE = ("#8f4fa8", "#c1553b", "#4f9d9d", "#7d8b2f", "#5b5f97")

MEMORY_TYPES = ("attribute_colour", "attribute_shape", "near_colour")
"""Question types that show how memory fades, where the world has them."""


def learning_curve(metrics: Sequence[Row], returns: Any) -> bytes:
    """Episode return against frames, between chance and the explorer."""
    figure = Figure(figsize=(7.2, 3.2), dpi=144, layout="constrained")
    axes = figure.subplots()
    axes.plot(*_earned(metrics), color=COLOURS["agent"], label="agent, training")
    if returns:
        for name, style in (("explorer", "--"), ("random", ":")):
            if name in returns["returns"]:
                level = returns["returns"][name]["mean"]
                axes.axhline(level, color="#555555", linestyle=style, linewidth=1, label=name)
    axes.set_xlabel("million frames")
    axes.set_ylabel("episode return")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return png(figure)


def learning_curves(groups: Mapping[str, Sequence[Sequence[Row]]]) -> bytes:
    """Episode return against frames, every run a line, every group a colour.

    Args:
        groups: the metrics of each group's runs.
    """
    figure = Figure(figsize=(7.2, 3.6), dpi=144, layout="constrained")
    axes = figure.subplots()
    for place, (name, group) in enumerate(groups.items()):
        for index, metrics in enumerate(group):
            points = _earned(metrics)
            label = name if index == 0 else None
            axes.plot(*points, color=f"C{place}", linewidth=1, alpha=0.8, label=label)
    axes.set_xlabel("million frames")
    axes.set_ylabel("episode return")
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return png(figure)


def _earned(metrics: Sequence[Row]) -> tuple[list[float], list[float]]:
    """Million frames, and the return of the episodes that had ended since the row before."""
    points = [
        (row["frames"] / 1e6, row["episode_return"])
        for row in metrics
        if row["frames"] is not None and row["episode_return"] is not None
    ]
    return [frames for frames, _ in points], [earned for _, earned in points]


def probe_overview(probe: Any) -> bytes:
    """What probing found on one picture: by question type, and by steps since seen."""
    figure = Figure(figsize=(9.6, 6.6), dpi=144, layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(3.6, 3.0))
    _draw_bars(halves[0], probe)
    _draw_steps(halves[1], probe["steps_since_seen"], "steps since it was seen")
    return png(figure)


def accuracy_bars(probe: Any) -> bytes:
    """Accuracy on answerable questions, a group of bars for each question type."""
    figure = Figure(figsize=(9.6, 3.6), dpi=144, layout="constrained")
    _draw_bars(figure, probe)
    return png(figure)


def _draw_bars(figure: FigureBase, probe: Any) -> None:
    rows = {name: scores for name, scores in probe["rows"].items() if _is_main(name)}
    types = list(rows["agent"])
    axes = figure.subplots()
    width = 0.8 / len(rows)
    for index, (name, scores) in enumerate(rows.items()):
        shift = (index - (len(rows) - 1) / 2) * width
        places = [place + shift for place in range(len(types))]
        heights = [scores[kind]["answerable"] for kind in types]
        axes.bar(
            places,
            heights,
            width,
            yerr=_whiskers(scores, types, heights),
            error_kw={"linewidth": 0.7},
            label=name,
            color=_colour(name, list(rows)),
        )
    axes.set_xticks(range(len(types)), [kind.replace("_", "\n") for kind in types])
    axes.set_ylim(0, 1)
    axes.set_ylabel("accuracy, answerable")
    figure.legend(loc="outside upper center", frameon=False, ncols=5, fontsize=8)


def _whiskers(
    scores: Any, types: Sequence[str], heights: Sequence[float]
) -> list[list[float]] | None:
    intervals = [scores[kind]["interval"] for kind in types]
    if any(interval is None for interval in intervals):
        return None
    pairs = list(zip(heights, intervals, strict=True))
    return [[high - low for high, (low, _) in pairs], [top - high for high, (_, top) in pairs]]


def accuracy_against_steps(table: Any, axis: str) -> bytes | None:
    """Accuracy against steps, a panel for each of some question types, a line for each row.

    Args:
        table: {row: {type: {group of steps: accuracy}}}, as "steps_since_seen" of probe results.
        axis: what the steps are.

    Returns:
        None if no such question was asked.
    """
    if not _panels(table):
        return None
    figure = Figure(figsize=(9.6, 3.0), dpi=144, layout="constrained")
    _draw_steps(figure, table, axis)
    return png(figure)


def _panels(table: Any) -> list[str]:
    return [kind for kind in MEMORY_TYPES if kind in table["agent"]]


def _draw_steps(figure: FigureBase, table: Any, axis: str) -> None:
    if not (panels := _panels(table)):
        return
    rows = [name for name in table if _is_main(name) and panels[0] in table[name]]
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, kind in zip(grid, panels, strict=True):
        for name in rows:
            groups = table[name].get(kind, {})
            axes.plot(
                list(groups),
                list(groups.values()),
                "o-",
                markersize=3,
                color=_colour(name, rows),
                label=name,
            )
        axes.set_title(kind.replace("_", " "), fontsize=10)
        axes.set_ylim(0, 1)
    figure.supxlabel(axis, fontsize=9)
    figure.legend(
        *grid[0].get_legend_handles_labels(),
        loc="outside right center",
        fontsize=8,
        frameon=False,
    )


def comparison_dots(comparison: Any) -> bytes:
    """Every run a dot, every group's mean a bar, by question type."""
    groups: Mapping[str, Any] = comparison["groups"]
    types = list(next(iter(groups.values()))["mean"])
    figure = Figure(figsize=(9.6, 3.6), dpi=144, layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(groups)
    for index, (name, group) in enumerate(groups.items()):
        shift = (index - (len(groups) - 1) / 2) * width
        places = [place + shift for place in range(len(types))]
        means = [group["mean"][kind] for kind in types]
        axes.bar(places, means, width, label=name, color=f"C{index}", alpha=0.6)
        for place, kind in zip(places, types, strict=True):
            dots = group["scores"][kind]
            axes.plot([place] * len(dots), dots, ".", color="#22252e", markersize=3)
    axes.set_xticks(range(len(types)), [kind.replace("_", "\n") for kind in types])
    axes.set_ylim(0, 1)
    axes.set_ylabel("accuracy, answerable")
    figure.legend(loc="outside upper center", frameon=False, ncols=6, fontsize=8)
    return png(figure)


def _is_main(name: str) -> bool:
    """A row of the first decoder; "agent, linear" is another one's."""
    return ", " not in name and name not in ("majority", "shuffled belief")


def _colour(name: str, among: Sequence[str]) -> str:
    if name in COLOURS:
        return COLOURS[name]
    others = [one for one in among if one not in COLOURS]
    return MORE[others.index(name) % len(MORE)]


def png(figure: Figure) -> bytes:
    """The figure as a PNG, its axes without a frame."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
