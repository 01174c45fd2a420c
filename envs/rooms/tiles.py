"""Cells as pictures: the ground, what stands on it, and the light it lies in."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from groundling.envs.rooms.glyphs import PALETTE, RGB, glyph, mixed
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.sprites import doorway_sprite
from groundling.envs.rooms.world import (
    COLOUR,
    DOORWAY,
    FIRST_SHAPE,
    FLOOR,
    HIDDEN,
    SIZE,
    WALL,
    WHAT,
)

FLOOR_COLOURS: tuple[RGB, RGB] = ((242, 234, 218), (234, 225, 207))
WALL_COLOUR: RGB = (86, 94, 116)
PAPER: RGB = (251, 250, 247)
"""Where there is nothing to draw."""
SHADE: RGB = (38, 42, 60)
EDGE_COLOUR: RGB = (255, 176, 32)
"""Of the line around what is seen now."""


def draw_ground(cells: NDArray[np.integer], options: RoomsOptions, tile: int) -> NDArray[np.uint8]:
    """Give floor and walls of cells [R, C, 3], uint8 [R · tile, C · tile, 3]."""
    walls = cells[..., WHAT] == WALL
    rows, columns = np.indices(walls.shape)
    colours: NDArray[np.uint8] = np.array(FLOOR_COLOURS, np.uint8)[(rows + columns) % 2]
    paints = [WALL_COLOUR]
    if options.wall_colours:  # else an imagined wall, too, is plain
        paints += [mixed(PALETTE[name], WALL_COLOUR, 0.25) for name in options.colour_names]
    painted = np.minimum(cells[walls, COLOUR], len(paints) - 1)
    colours[walls] = np.array(paints, np.uint8)[painted]
    colours[never_visible(cells[..., WHAT])] = PAPER
    return colours.repeat(tile, axis=0).repeat(tile, axis=1)


def never_visible(what: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Tell which cells [R, C] are wall with wall on all sides, corners counted.

    Sight passes from cell to neighbouring cell and ends at walls, so nobody ever sees these.
    """
    walls = np.pad(what == WALL, 1, constant_values=True)
    rows, columns = what.shape
    enclosed = np.ones_like(what, np.bool_)
    for down, across in np.ndindex(3, 3):
        enclosed &= walls[down : down + rows, across : across + columns]
    return enclosed


def dim(picture: Image.Image, darkness: NDArray[np.floating], tile: int) -> None:
    """Blend cells into the shade, each as far as [R, C] says in 0 … 1."""
    opacity = (255 * darkness).round().astype(np.uint8)
    mask = Image.fromarray(opacity.repeat(tile, axis=0).repeat(tile, axis=1))
    picture.paste(SHADE, (0, 0), mask)


def draw_edge(picture: Image.Image, inside: NDArray[np.bool_], tile: int) -> None:
    """Draw a line around some cells, on their side of the border."""
    pen, width = ImageDraw.Draw(picture), max(1, tile // 16)
    padded = np.pad(inside, 1)
    for row, column in np.argwhere(inside):
        left, top = int(column) * tile, int(row) * tile
        right, bottom, within = left + tile - 1, top + tile - 1, width - 1
        sides = {
            (0, 1): (left, top, right, top + within),
            (2, 1): (left, bottom - within, right, bottom),
            (1, 0): (left, top, left + within, bottom),
            (1, 2): (right - within, top, right, bottom),
        }
        for (down, across), box in sides.items():
            if not padded[row + down, column + across]:
                pen.rectangle(box, fill=EDGE_COLOUR)


def paste(picture: Image.Image, sprite: Image.Image, row: int, column: int, tile: int) -> None:
    """Put a sprite into the middle of a cell."""
    gap = (tile - sprite.width) // 2
    picture.paste(sprite, (column * tile + gap, row * tile + gap), sprite)


def _share_of_tile(size: int, sizes: int) -> float:
    """Give how much of a cell's side an object fills: in between if there is but one size."""
    return 0.84 if sizes == 1 else (0.56, 0.94)[size]


def place_doorways(
    picture: Image.Image, cells: NDArray[np.integer], options: RoomsOptions, tile: int
) -> None:
    """Draw what stands in the doorways of cells [R, C, 3]."""
    if not options.doorways:
        return
    what = np.pad(cells[..., WHAT], 1, constant_values=HIDDEN)
    doorways = (cells[..., WHAT] <= WALL) & (cells[..., SIZE] == DOORWAY)
    for row, column in np.argwhere(doorways):
        # One walks where there is floor on either side; an agent, too, stands on floor. In a view
        # one side may be hidden, in what is imagined both.
        beside = (what[row + 1, column], what[row + 1, column + 2])
        across = FLOOR not in beside
        is_open = bool(cells[row, column, WHAT] == FLOOR)
        sprite = doorway_sprite(options.doors, is_open, across, tile)
        paste(picture, sprite, int(row), int(column), tile)


def place_things(
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
        paste(picture, sprite, int(row), int(column), tile)


def _faint(sprite: Image.Image, opacity: float) -> Image.Image:
    """Give a sprite that lets the ground through."""
    fainter = sprite.copy()
    fainter.putalpha(sprite.getchannel("A").point(lambda alpha: round(alpha * opacity)))
    return fainter
