"""Pictures of where an agent with attention looks: maps of the view, and curves over an episode."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from groundling.evaluation.attention_pictures import DARK, heat
from groundling.evaluation.controls import AGENT, UNTRAINED
from groundling.evaluation.drawings import NOTE_COLOUR
from groundling.evaluation.figures import COLOURS, png
from groundling.evaluation.gaze_measures import Array

SHARP_INK, SCENE_INK, UNTRAINED_INK = "#c1553b", "#3f4757", "#5f6b80"


def draw_gaze(numbers: Mapping[str, Any], scene: Array | None, *, is_room: bool) -> bytes:
    """What there is to see on average, and where the agent and its control look.

    Args:
        numbers: see `gaze.inspect_gaze`.
        scene: [H, W], as `gaze.Gazes` has it.
        is_room: whether it is shares of cells with things in our rooms; else an image's brightness.
    """
    looks = {name: np.array(numbers[name]["looks"]) for name in (AGENT, UNTRAINED)}
    highest = max(float(shares.max()) for shares in looks.values())
    sharp = np.array(numbers[AGENT]["sharp"])
    panels = [
        (looks[AGENT], "it looks here", COLOURS[AGENT], highest),
        (sharp, "it sees this sharply", SHARP_INK, float(sharp.max())),
        (looks[UNTRAINED], "untrained, it looks here", UNTRAINED_INK, highest),
    ]
    if is_room and scene is not None:
        panels.insert(0, (scene, "there are things here", SCENE_INK, float(scene.max())))
    pictured = int(scene is not None and not is_room)
    figure = Figure(figsize=(2.4 * (len(panels) + pictured), 2.95), dpi=144, layout="constrained")
    grid = figure.subplots(1, len(panels) + pictured, squeeze=False)[0]
    if scene is not None and not is_room:
        grid[0].imshow(scene, cmap="gray", vmin=0)
        _label(grid[0], "the mean picture", f"brightest: {np.max(scene):.0f} of 255")
    for axes, (shares, title, ink, most) in zip(grid[pictured:], panels, strict=True):
        heat(axes, shares, ink, most)
        _label(axes, title, f"darkest: {most:.1%}")
        if is_room:
            _mark_agent(axes, shares.shape)
    return png(figure)


def _label(axes: Axes, title: str, note: str) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(note, fontsize=8, color=NOTE_COLOUR, labelpad=4)


def _mark_agent(axes: Axes, shape: tuple[int, ...]) -> None:
    """Where the agent stands in its view: at the bottom centre, whatever the bins."""
    rows, columns = shape
    # Half a cell of an odd view above its lower edge.
    axes.plot(columns / 2 - 0.5, rows - 0.8, "^", color=DARK, markersize=6, mec="white", mew=0.8)


def draw_gaze_steps(numbers: Mapping[str, Any]) -> bytes:
    """Entropy and movement by step of the episode; `numbers`: see `gaze.inspect_gaze`."""
    figure = Figure(figsize=(9.6, 2.9), dpi=144, layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, style in ((AGENT, "-"), (UNTRAINED, ":")):
        found = numbers[name]["by step"]
        for axes, key in ((left, "entropy"), (right, "movement")):
            dots = "." if len(found["step"]) < 20 else ""
            axes.plot(found["step"], found[key], style + dots, color=COLOURS[name], label=name)
    left.axhline(numbers["most"], color=NOTE_COLOUR, linewidth=0.8, linestyle="--")
    left.text(
        1.0,
        numbers["most"],
        "everywhere alike ",
        transform=left.get_yaxis_transform(),
        ha="right",
        va="bottom",
        fontsize=7,
        color=NOTE_COLOUR,
    )
    left.set_ylim(0, 1.12 * numbers["most"])
    right.set_ylim(bottom=0)
    left.set(xlabel="step of the episode", ylabel="entropy over episodes, bits")
    right.set(xlabel="step of the episode", ylabel="the look moves, places")
    right.legend(frameon=False, fontsize=8)
    return png(figure)
