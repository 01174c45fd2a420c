"""Pictures of a house, for people.

What the agent sees now is bright, and a line runs around it; what it saw earlier in the episode is
dimmer, what it never saw darkest. Wall that nobody can ever see, outside of the house, is left
blank. A green dot marks the objects that were reached since the last refresh, corners around a cell
the object that an instruction means.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from groundling.envs.rooms.caption import draw_caption
from groundling.envs.rooms.glyphs import RGB
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.sprites import AGENT_COLOUR, agent_sprite, reached_mark, target_mark
from groundling.envs.rooms.tiles import (
    dim,
    draw_edge,
    draw_ground,
    never_visible,
    paste,
    place_doorways,
    place_things,
)
from groundling.envs.rooms.world import COLOUR, FLOOR, HIDDEN, NEVER, NONE, SIZE, WALL, WHAT, World

TILE, SMALLEST_TILE = 40, 14
"""Side of a cell in a picture, in pixels: of a small house, and the least of a large one."""
LARGEST_PICTURE = 960
"""Pixels a picture's longer side has at most, if cells of the smallest size allow it."""
SEEN_EARLIER, NEVER_SEEN = 0.34, 0.62
"""How far what the agent does not see is blended into the shade, in 0 … 1."""


class OtherAgent(NamedTuple):
    """A further agent in the same house, as it is drawn."""

    row: int
    column: int
    heading: int
    """Where it looks: 0 east, 1 south, 2 west, 3 north."""
    colour: RGB


def tile_of(options: RoomsOptions) -> int:
    """Give the side of a cell, in pixels, at which a house of this kind makes a handy picture."""
    return max(SMALLEST_TILE, min(TILE, LARGEST_PICTURE // max(options.grid_shape)))


def draw_room(
    world: World,
    room: int,
    options: RoomsOptions,
    tile: int | None = None,
    others: Sequence[OtherAgent] = (),
    colour: RGB = AGENT_COLOUR,
) -> NDArray[np.uint8]:
    """Draw one house with its outer walls.

    Args:
        world: the batch.
        room: which of it.
        options: of the rooms.
        tile: side of a cell in pixels; `tile_of` unless given.
        others: further agents in the house.
        colour: of the agent whose house it is.

    Gives uint8 [rows · tile, columns · tile, 3] of the grid, red, green, blue.
    """
    tile = tile or tile_of(options)
    cells = world.cells[room]
    picture = Image.fromarray(draw_ground(cells, options, tile))
    place_doorways(picture, cells, options, tile)
    sizes = np.maximum(cells[..., SIZE].astype(np.int64) - 1, 0)
    place_things(picture, cells[..., WHAT], cells[..., COLOUR], sizes, options, tile)
    seen_now = world.seen_at[room] == world.elapsed[room]
    darkness = np.where(world.seen_at[room] == NEVER, NEVER_SEEN, SEEN_EARLIER)
    darkness[seen_now | never_visible(cells[..., WHAT])] = 0
    dim(picture, darkness, tile)
    draw_edge(picture, seen_now, tile)
    for row, column in world.objects[room, world.reached[room], :2].tolist():
        paste(picture, reached_mark(tile), row, column, tile)
    if world.target[room] != NONE:
        row, column = world.objects[room, world.target[room], :2].tolist()
        paste(picture, target_mark(tile), row, column, tile)
    row, column, heading = world.agent[room].tolist()
    for agent in (*others, OtherAgent(row, column, heading, colour)):
        sprite = agent_sprite(agent.heading, agent.colour, tile)
        paste(picture, sprite, agent.row, agent.column, tile)
    return np.array(picture)


def draw_scene(
    world: World,
    room: int,
    options: RoomsOptions,
    tile: int | None = None,
    others: Sequence[OtherAgent] = (),
) -> NDArray[np.uint8]:
    """Draw one house as `draw_room` does, with the instruction under it where there is one.

    Gives uint8 [height, width, 3], of one size for all houses of these options.
    """
    house = draw_room(world, room, options, tile, others)
    if options.task != "go_to":
        return house
    return np.concatenate([house, draw_caption(world, room, options, house.shape[1])])


def draw_view(
    view: NDArray[np.integer], options: RoomsOptions, tile: int = TILE // 2
) -> NDArray[np.uint8]:
    """Draw what an agent sees, or imagines: itself at the bottom centre, looking up.

    Args:
        view: as observed: [V, V, 3] in codes, or the image. An imagined cell may be of a shape
            without a colour; it is drawn in grey.
        options: of the room, for the names of shapes and colours.
        tile: side of a cell in pixels.

    Gives uint8 [V · tile, V · tile, 3].
    """
    V = options.view_size
    if options.view_pixels:
        image = Image.fromarray(view.astype(np.uint8))
        picture = image.resize((V * tile, V * tile), Image.Resampling.NEAREST)
    else:
        picture = _draw_codes(view, options, tile)
    paste(picture, agent_sprite(3, AGENT_COLOUR, tile), V - 1, V // 2, tile)
    return np.array(picture)


def _draw_codes(view: NDArray[np.integer], options: RoomsOptions, tile: int) -> Image.Image:
    """Draw a view in codes, without the agent."""
    what = view[..., WHAT]
    picture = Image.fromarray(draw_ground(view, options, tile))
    place_doorways(picture, view, options, tile)
    sizes = np.maximum(view[..., SIZE].astype(np.int64) - 1, 0)
    place_things(picture, what, view[..., COLOUR], sizes, options, tile)
    dim(picture, NEVER_SEEN * (what == HIDDEN), tile)
    return picture


def draw_map(
    kind: NDArray[np.integer],
    colour: NDArray[np.integer],
    sure: NDArray[np.floating],
    place: int,
    heading: int,
    options: RoomsOptions,
    tile: int = TILE,
) -> NDArray[np.uint8]:
    """Draw a room as somebody remembers it, laid out as by `draw_room`.

    Args:
        kind: [R, C] as in `envs.maps.Maps`.
        colour: [R, C], as there.
        sure: [R, C] in 0 … 1: the less, the fainter the thing in that cell.
        place: the agent's cell, counted row by row.
        heading: where it looks: 0 east, 1 south, 2 west, 3 north.
        options: of the room.
        tile: side of a cell in pixels.

    Gives uint8 [(R + 2) · tile, (C + 2) · tile, 3].
    """
    what = np.pad(kind + FLOOR, 1, constant_values=WALL)
    cells = np.stack([what, np.zeros_like(what), np.zeros_like(what)], axis=-1)
    picture = Image.fromarray(draw_ground(cells, options, tile))
    colours, opacity = (np.pad(one, 1) for one in (colour, sure))
    place_things(picture, what, colours, np.ones_like(what), options, tile, opacity)
    row, column = divmod(place, kind.shape[1])
    paste(picture, agent_sprite(heading, AGENT_COLOUR, tile), row + 1, column + 1, tile)
    return np.array(picture)
