"""Pictures of a room, for people: in colours, and as a map in letters.

What the agent sees now is bright, the rest of the room dim. A green dot marks the objects that were
reached since the last refresh.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from groundling.envs.rooms.glyphs import PALETTE, RGB, SUPERSAMPLING, glyph
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.world import COLOUR, FIRST_SHAPE, FLOOR, HIDDEN, SIZE, WALL, WHAT, World

TILE = 40
"""Side of a cell in a picture, in pixels, unless told otherwise."""

FLOOR_COLOURS: tuple[RGB, RGB] = ((242, 234, 218), (234, 225, 207))
WALL_COLOUR: RGB = (86, 94, 116)
AGENT_COLOUR: RGB = (44, 46, 58)
REACHED_COLOUR: RGB = (40, 168, 92)
SHADE: RGB = (44, 48, 66)
DIMMED = 0.42
"""How far what the agent does not see is blended into the shade, in 0 … 1."""


class OtherAgent(NamedTuple):
    """A further agent in the same house, as it is drawn."""

    row: int
    column: int
    heading: int
    """Where it looks: 0 east, 1 south, 2 west, 3 north."""
    colour: RGB


def draw_room(
    world: World,
    room: int,
    options: RoomsOptions,
    tile: int = TILE,
    others: Sequence[OtherAgent] = (),
    colour: RGB = AGENT_COLOUR,
) -> NDArray[np.uint8]:
    """Draw one room with its outer walls, the agent in its colour, and others in the same house.

    Gives uint8 [rows · tile, columns · tile, 3] of the grid, red, green, blue.
    """
    walls = world.cells[room, :, :, WHAT] == WALL
    picture = Image.fromarray(_draw_ground(walls, tile))
    for number in range(world.object_count[room]):
        row, column, shape, kind, size = world.objects[room, number].tolist()
        sprite = glyph(
            options.shape_names[shape],
            options.colour_names[kind],
            round(tile * _share_of_tile(size, options.sizes)),
        )
        _paste(picture, sprite, row, column, tile)
    _dim(picture, world.seen_at[room] != world.elapsed[room], tile)
    for row, column in world.objects[room, world.reached[room], :2].tolist():
        _paste(picture, _reached_mark(tile), row, column, tile)
    row, column, heading = world.agent[room].tolist()
    for agent in (*others, OtherAgent(row, column, heading, colour)):
        sprite = _agent_sprite(agent.heading, tile, agent.colour)
        _paste(picture, sprite, agent.row, agent.column, tile)
    return np.array(picture)


def describe_room(
    world: World, room: int, options: RoomsOptions, others: Sequence[OtherAgent] = ()
) -> str:
    """Draw one room in letters, with ANSI escape sequences for colours: `#` wall, `.` floor that is
    seen now, `>v<^` the agent. Others in the same house look like it, in their colours.

    Objects are letters in their colours, explained below the map, each with a `*` if it has been
    reached.
    """
    walls = world.cells[room, :, :, WHAT] == WALL
    seen = world.seen_at[room] == world.elapsed[room]
    letters = np.where(walls, "#", np.where(seen, ".", " ")).astype(object)
    legend = []
    for number in range(world.object_count[room]):
        row, column, shape, colour, size = world.objects[room, number].tolist()
        words = (options.size_names[size], options.colour_names[colour], options.shape_names[shape])
        letter = _inked(chr(ord("a") + number), PALETTE[options.colour_names[colour]])
        letters[row, column] = letter
        legend.append(f"{letter} {' '.join(words)}{' *' if world.reached[room, number] else ''}")
    for agent in others:
        letters[agent.row, agent.column] = _inked(">v<^"[agent.heading], agent.colour)
    row, column, direction = world.agent[room].tolist()
    letters[row, column] = ">v<^"[direction]
    return "\n".join([" ".join(line) for line in letters] + legend)


def _inked(letter: str, colour: RGB) -> str:
    """A bold letter in a colour, on paper so that black can be read as well as white."""
    red, green, blue = colour
    paper = (70, 74, 86) if sum(colour) > 380 else (236, 236, 240)
    return f"\033[1;38;2;{red};{green};{blue};48;2;{';'.join(map(str, paper))}m{letter}\033[0m"


def _draw_ground(walls: NDArray[np.bool_], tile: int) -> NDArray[np.uint8]:
    """Give floor and walls, uint8 [rows · tile, columns · tile, 3]."""
    rows, columns = np.indices(walls.shape)
    colours: NDArray[np.uint8] = np.array(FLOOR_COLOURS, np.uint8)[(rows + columns) % 2]
    colours[walls] = WALL_COLOUR
    return colours.repeat(tile, axis=0).repeat(tile, axis=1)


def _dim(picture: Image.Image, hidden: NDArray[np.bool_], tile: int) -> None:
    """Blend the hidden cells into the shade."""
    opacity = np.where(hidden, round(255 * DIMMED), 0).astype(np.uint8)
    mask = Image.fromarray(opacity.repeat(tile, axis=0).repeat(tile, axis=1))
    picture.paste(SHADE, (0, 0), mask)


def _paste(picture: Image.Image, sprite: Image.Image, row: int, column: int, tile: int) -> None:
    """Put a sprite into the middle of a cell."""
    gap = (tile - sprite.width) // 2
    picture.paste(sprite, (column * tile + gap, row * tile + gap), sprite)


def _share_of_tile(size: int, sizes: int) -> float:
    """Give how much of a cell's side an object fills: in between if there is but one size."""
    return 0.84 if sizes == 1 else (0.56, 0.94)[size]


@lru_cache
def _agent_sprite(direction: int, tile: int, colour: RGB = AGENT_COLOUR) -> Image.Image:
    """Give the agent, an arrow head, RGBA."""
    side = tile * SUPERSAMPLING
    sprite = Image.new("RGBA", (side, side))
    pen = ImageDraw.Draw(sprite)
    arrow = [(0.84, 0.5), (0.2, 0.18), (0.34, 0.5), (0.2, 0.82)]
    points = [(x * side, y * side) for x, y in arrow]
    pen.polygon(points, fill=colour)
    pen.line(
        [*points, points[0], points[1]],
        fill=(255, 255, 255),
        width=round(0.06 * side),
        joint="curve",
    )
    turned = sprite.rotate(-90 * direction)
    return turned.resize((tile, tile), Image.Resampling.LANCZOS)


@lru_cache
def _reached_mark(tile: int) -> Image.Image:
    """Give the dot in a cell's corner that says its object has been reached, RGBA."""
    side = tile * SUPERSAMPLING
    sprite = Image.new("RGBA", (side, side))
    corners = [round(part * side) for part in (0.72, 0.06, 0.94, 0.28)]
    pen = ImageDraw.Draw(sprite)
    pen.ellipse(corners, fill=REACHED_COLOUR, outline=(255, 255, 255), width=round(0.035 * side))
    return sprite.resize((tile, tile), Image.Resampling.LANCZOS)


def draw_view(
    view: NDArray[np.integer], options: RoomsOptions, tile: int = TILE // 2
) -> NDArray[np.uint8]:
    """Draw what an agent sees, or imagines: itself at the bottom centre, looking up.

    Args:
        view: [V, V, 3] in the codes of the `view` observation. An imagined cell may be of a shape
            without a colour; it is drawn in grey.
        options: of the room, for the names of shapes and colours.
        tile: side of a cell in pixels.

    Gives uint8 [V · tile, V · tile, 3].
    """
    what = view[..., WHAT]
    picture = Image.fromarray(_draw_ground(what == WALL, tile))
    sizes = np.maximum(view[..., SIZE].astype(np.int64) - 1, 0)
    _place_things(picture, what, view[..., COLOUR], sizes, options, tile)
    _dim(picture, what == HIDDEN, tile)
    V = len(view)
    _paste(picture, _agent_sprite(3, tile), V - 1, V // 2, tile)
    return np.array(picture)


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
    picture = Image.fromarray(_draw_ground(what == WALL, tile))
    colours, opacity = (np.pad(one, 1) for one in (colour, sure))
    _place_things(picture, what, colours, np.ones_like(what), options, tile, opacity)
    row, column = divmod(place, kind.shape[1])
    _paste(picture, _agent_sprite(heading, tile), row + 1, column + 1, tile)
    return np.array(picture)


def _place_things(
    picture: Image.Image,
    what: NDArray[np.integer],
    colours: NDArray[np.integer],
    sizes: NDArray[np.integer],
    options: RoomsOptions,
    tile: int,
    opacity: NDArray[np.floating] | None = None,
) -> None:
    """Draw what stands in the cells, all [R, C]; colour 0 is grey."""
    for row, column in np.argwhere(what >= FIRST_SHAPE):
        colour = int(colours[row, column])
        sprite = glyph(
            options.shape_names[what[row, column] - FIRST_SHAPE],
            options.colour_names[colour - 1] if colour else None,
            round(tile * _share_of_tile(int(sizes[row, column]), options.sizes)),
        )
        if opacity is not None:
            sprite = _faint(sprite, float(opacity[row, column]))
        _paste(picture, sprite, int(row), int(column), tile)


def _faint(sprite: Image.Image, opacity: float) -> Image.Image:
    """Give a sprite that lets the ground through."""
    fainter = sprite.copy()
    fainter.putalpha(sprite.getchannel("A").point(lambda alpha: round(alpha * opacity)))
    return fainter
