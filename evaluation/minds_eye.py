"""The mind's eye: the room as an agent remembers it, beside the room as it is."""

import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from groundling.agents.agent import Agent
from groundling.agents.generators import named_generator
from groundling.envs.maps import THING, WALL, cells_around
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.render import draw_map, draw_room
from groundling.evaluation.controls import AGENT, UNTRAINED
from groundling.evaluation.figures import COLOURS, png
from groundling.evaluation.finding import Finding
from groundling.evaluation.mapping import (
    LONG_AGO,
    Drawing,
    MapDecoder,
    MapFit,
    MapSettings,
    Moments,
    Sizes,
    collect_moments,
    draw,
    prior_of,
    score_map,
    targets_of,
)
from groundling.evaluation.walks import Reader, by_agent, walk
from groundling.training.checkpoint import load_checkpoint, save_checkpoint
from groundling.training.config import TrainConfig
from groundling.training.environments import make_environment
from groundling.training.run import RunDirectory, load_agent, resolve_device
from groundling.training.seeds import Purpose, environment_seed

PRIOR = "prior"
"""The row of who knows no room, but what rooms are like."""
MOMENTS = 6
"""Columns of the strip."""
TILE = 26
"""Side of a cell in the strip, in pixels."""
SAYS = (
    "A decoder draws the whole room from the agent's frozen memory: what stands in every cell, "
    "where the agent is, where it looks. It is fitted on {rooms:,} rooms and scored on {test:,} "
    "others. Above: a room as it is (bright: what the agent sees now) and as it is drawn from the "
    "agent's memory; the fainter a thing, the less sure that anything is there. Beneath: told that "
    "something stands in a cell, how often its kind and colour are named right, and how much is "
    "known of any cell, by steps since the cell was seen; beside the same network before its first "
    "update, and beside what stands in a cell on average. Knowing that there is a red key is not "
    "enough here: it must be known where."
)


def inspect_map(
    run_dir: Path | str,
    settings: MapSettings | None = None,
    *,
    device: str = "cpu",
    show_progress: bool = True,
) -> Finding:
    """Fits the map probe to a run and to the same agent before its first update.

    The run's decoder is kept in the run (see `load_minds_eye`).

    Returns:
        Numbers are {"rows": {"agent", "untrained agent", "prior": see `score_map`}, "settings"}.
        There are pictures of rooms for our own worlds alone.

    Raises:
        ValueError: this is no run, or its world draws no maps or has no scripted explorer.
    """
    settings = settings or MapSettings()
    run, place = RunDirectory(run_dir), resolve_device(device)
    agent, config = load_agent(run.path, device=device)
    agents = {AGENT: agent, UNTRAINED: load_agent(run.path, device=device, untrained=True)[0]}
    train, validation, test = _walked(agents, config, settings, place, show_progress)
    fit = MapFit(
        targets_of(train.maps, place), targets_of(validation.maps, place), train.sizes, settings
    )
    decoders = {
        name: fit.run(train.beliefs[name], validation.beliefs[name], name, shown=show_progress)
        for name in agents
    }
    drawings = {name: draw(decoder, test.beliefs[name]) for name, decoder in decoders.items()}
    prior = prior_of(train.maps, train.sizes, place)
    rows = {
        name: score_map(drawing, prior, test.maps, test.room)
        for name, drawing in (drawings | {PRIOR: prior}).items()
    }
    run.make(run.inspection)
    _save_decoder(run, decoders[AGENT], train.sizes, settings)
    pictures = {"fading": _fading(rows)}
    if (eye := load_minds_eye(run, agent, config)) is not None:
        pictures = {"episode": _strip(eye, agent, config)} | pictures
    return Finding(
        title="What it remembers of the room",
        says=SAYS.format(rooms=settings.rooms, test=settings.test_rooms),
        table=_table(rows),
        pictures=pictures,
        numbers={"rows": rows, "settings": dataclasses.asdict(settings)},
    )


def _walked(
    agents: Mapping[str, Agent],
    config: TrainConfig,
    settings: MapSettings,
    device: torch.device,
    shown: bool,
) -> list[Moments]:
    """Moments for fitting, for stopping, and for scoring."""
    amounts: dict[Purpose, int] = {
        "probe-train": settings.rooms,
        "probe-validation": settings.validation_rooms,
        "probe-test": settings.test_rooms,
    }
    return [
        collect_moments(agents, config.env, purpose, rooms, settings, device=device, shown=shown)
        for purpose, rooms in amounts.items()
    ]


class MindsEye:
    """Draws a room of ours from a belief.

    Args:
        decoder: fitted.
        rooms: what rooms are like.
    """

    def __init__(self, decoder: MapDecoder, rooms: RoomsOptions) -> None:
        self.decoder, self.rooms = decoder, rooms

    def picture(self, belief: Tensor, tile: int) -> NDArray[np.uint8]:
        """The room that a belief [1, belief size] remembers, as `draw_map` draws it."""
        drawing = draw(self.decoder, belief)
        rows, columns = self.rooms.shape
        place, heading = (int(one[0].argmax()) for one in (drawing.place, drawing.heading))
        # From around the agent to where the room's cells are, if it is where it thinks.
        where = cells_around(np.array([place]), np.array([heading]), rows, columns)[0]
        kind, colour, sure = (one[where].reshape(rows, columns) for one in _likeliest(drawing))
        return draw_map(kind, colour, sure, place, heading, self.rooms, tile)


def _likeliest(drawing: Drawing) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Of the first map, [cells] each: wall where there probably is one, else the likeliest thing;
    its likeliest colour; and how probable it is that any thing is there."""
    kinds = drawing.kind[0].exp()
    thing = kinds[:, THING:].argmax(-1) + THING
    kind = torch.where(kinds[:, WALL] > 0.5, WALL, thing)
    colour = drawing.colour[0, :, 1:].argmax(-1) + 1
    there = kinds[:, THING:].sum(-1)
    return kind.cpu().numpy(), colour.cpu().numpy(), there.cpu().numpy()


def _file(run: RunDirectory) -> Path:
    return run.finding("map").with_suffix(".pt")


def _save_decoder(
    run: RunDirectory, decoder: MapDecoder, sizes: Sizes, settings: MapSettings
) -> None:
    about = {"cells": decoder.cells, "sizes": list(sizes), "size": settings.size}
    save_checkpoint(_file(run), {"decoder": decoder.state_dict(), "settings": about})


def load_minds_eye(run: RunDirectory, agent: Agent, config: TrainConfig) -> MindsEye | None:
    """The decoder that `inspect_map` fitted to this run; None if it was not, or if the world is
    not one of our rooms, which alone can be drawn."""
    if not (_file(run).exists() and config.env.is_rooms):
        return None
    state = load_checkpoint(_file(run))
    cells, sizes, size = (state["settings"][name] for name in ("cells", "sizes", "size"))
    decoder = MapDecoder(2 * agent.core.core_size, cells, Sizes(*sizes), size)
    decoder.load_state_dict(state["decoder"])
    device = next(agent.parameters()).device
    return MindsEye(decoder.to(device).eval(), config.env.rooms)


def _strip(eye: MindsEye, agent: Agent, config: TrainConfig) -> bytes:
    """An episode of the agent's: above the room, below what is remembered of it."""
    environment = make_environment(config.env, num_envs=1)
    world = cast(Any, environment.unwrapped).world
    reader = Reader(agent, 1)
    rows = walk(
        environment,
        seed=environment_seed("evaluation"),
        choose=by_agent(reader, named_generator(0, "strip", next(agent.parameters()).device)),
        readers=(reader,),
        device=next(agent.parameters()).device,
    )
    last = config.env.rooms.episode_length - 1
    chosen = np.unique(np.geomspace(1, last + 1, MOMENTS).round().astype(int) - 1).tolist()
    columns = []
    for step, _ in zip(range(last + 1), rows, strict=False):
        if step in chosen:
            true = draw_room(world, 0, config.env.rooms, TILE)
            remembered = eye.picture(reader.state.belief, TILE)
            columns.append((f"step {step}", Image.fromarray(true), Image.fromarray(remembered)))
    environment.close()
    return _pasted(columns)


def _pasted(columns: list[tuple[str, Image.Image, Image.Image]]) -> bytes:
    """Columns of a title and two pictures of one size, as one PNG."""
    gap, head, left = 12, 26, 92
    wide, tall = columns[0][1].size
    sheet = Image.new(
        "RGB", (left + len(columns) * (wide + gap), head + 2 * (tall + gap)), "#ffffff"
    )
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for row, title in enumerate(("the room", "its memory")):
        middle = head + row * (tall + gap) + tall // 2
        pen.text((left - gap, middle), title, "#22252e", font, anchor="rm")
    for index, (title, true, remembered) in enumerate(columns):
        across = left + index * (wide + gap)
        pen.text((across + wide // 2, head // 2), title, "#22252e", font, anchor="mm")
        sheet.paste(true, (across, head))
        sheet.paste(remembered, (across, head + tall + gap))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


def _table(rows: Mapping[str, Any]) -> list[list[str]]:
    """Shares of things drawn right by steps since seen, then place and heading."""

    def share(things: Any) -> str:
        if things is None:
            return "–"
        spread = things["interval"]
        return f"{things['named']:.2f}" + (
            " [{:.2f}, {:.2f}]".format(*spread) if spread is not None else ""
        )

    ages = rows[PRIOR]["things"]
    table = [["things named right, their cell last seen", *rows]]
    for age in ages:
        table.append([_steps(age), *(share(row["things"].get(age)) for row in rows.values())])
    for what in ("place", "heading"):
        table.append([f"its own {what}", *(f"{row[what]:.2f}" for row in rows.values())])
    return table


def _steps(age: str) -> str:
    return {"0": "in view", "never": "never", LONG_AGO: "5 or more steps ago"}.get(
        age, f"{age} steps ago"
    )


def _fading(rows: Mapping[str, Any]) -> bytes:
    """Things drawn right, and bits known of a cell, against steps since the cell was seen."""
    figure = Figure(figsize=(9.6, 3.2), dpi=144, layout="constrained")
    things, bits = figure.subplots(1, 2)
    for name, row in rows.items():
        style = {"marker": "o", "markersize": 3, "color": COLOURS.get(name, "#d39b3c")}
        ages = [age for age in row["things"] if age != LONG_AGO]
        shares = [row["things"][age]["named"] for age in ages]
        things.plot([_short(age) for age in ages], shares, label=name, **style)
        known = {age: value for age, value in row["bits"].items() if age != LONG_AGO}
        bits.plot([_short(age) for age in known], list(known.values()), label=name, **style)
    things.set_ylim(0, 1)
    things.set_ylabel("things named right")
    bits.set_ylabel("bits known of a cell beyond the prior")
    figure.supxlabel("steps since the cell was seen", fontsize=9)
    things.legend(frameon=False, fontsize=8)
    return png(figure)


def _short(age: str) -> str:
    return "in view" if age == "0" else age
