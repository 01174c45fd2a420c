"""Small pictures of what is in a house besides its objects: agents, doors, marks.

Each is drawn larger than needed on a sheet of its own, scaled down, and kept: draw on a copy.
"""

from functools import lru_cache

from PIL import Image, ImageDraw

from groundling.envs.rooms.glyphs import RGB, SUPERSAMPLING

AGENT_COLOUR: RGB = (44, 46, 58)
WOOD: RGB = (168, 112, 62)
WOOD_EDGE: RGB = (92, 58, 32)
BRASS: RGB = (240, 196, 84)
SILL: RGB = (206, 190, 160)
REACHED_COLOUR: RGB = (40, 168, 92)
TARGET_COLOUR: RGB = (214, 60, 120)
WHITE: RGB = (255, 255, 255)


@lru_cache
def agent_sprite(heading: int, colour: RGB, tile: int) -> Image.Image:
    """Give an agent, an arrow head, RGBA [tile, tile].

    Args:
        heading: where it looks: 0 east, 1 south, 2 west, 3 north.
        colour: red, green, blue.
        tile: side in pixels.
    """
    sprite, pen, side = _sheet(tile)
    arrow = [(0.84, 0.5), (0.2, 0.18), (0.34, 0.5), (0.2, 0.82)]
    points = [(x * side, y * side) for x, y in arrow]
    pen.polygon(points, fill=colour)
    pen.line([*points, *points[:2]], fill=WHITE, width=round(0.06 * side), joint="curve")
    return _scaled(sprite.rotate(-90 * heading), tile)


@lru_cache
def doorway_sprite(has_door: bool, is_open: bool, across: bool, tile: int) -> Image.Image:
    """Give what stands in a doorway, RGBA [tile, tile]: a sill, and a door shut or swung aside.

    Args:
        has_door: whether there is a door at all.
        is_open: whether one can walk through.
        across: whether the wall runs from left to right, so that one walks up and down.
        tile: side in pixels.
    """
    sprite, pen, side = _sheet(tile)

    def box(corners: tuple[float, float, float, float], fill: RGB) -> None:
        edge = round(0.045 * side) if fill == WOOD else 0
        pen.rounded_rectangle(
            [round(part * side) for part in corners], 0.05 * side, fill, WOOD_EDGE, edge
        )

    if is_open:
        box((0, 0.24, 1, 0.76), SILL)
    if has_door and is_open:
        box((0.02, 0.02, 0.2, 0.98), WOOD)
    elif has_door:
        box((-0.05, 0.22, 1.05, 0.78), WOOD)
        box((0.1, 0.34, 0.44, 0.66), WOOD)
        box((0.56, 0.34, 0.9, 0.66), WOOD)
        knob = [round(part * side) for part in (0.435, 0.435, 0.565, 0.565)]
        pen.ellipse(knob, fill=BRASS, outline=WOOD_EDGE, width=round(0.025 * side))
    return _scaled(sprite if across else sprite.rotate(90), tile)


@lru_cache
def reached_mark(tile: int) -> Image.Image:
    """Give the dot in a cell's corner that says its object has been reached, RGBA [tile, tile]."""
    sprite, pen, side = _sheet(tile)
    corners = [round(part * side) for part in (0.72, 0.06, 0.94, 0.28)]
    pen.ellipse(corners, fill=REACHED_COLOUR, outline=WHITE, width=round(0.035 * side))
    return _scaled(sprite, tile)


@lru_cache
def target_mark(tile: int) -> Image.Image:
    """Give the corners around a cell that say its object is the one to go to, RGBA [tile, tile]."""
    sprite, pen, side = _sheet(tile)
    low, high, arm = 0.05 * side, 0.95 * side, 0.2 * side
    for x, inward in ((low, arm), (high, -arm)):
        for y, down in ((low, arm), (high, -arm)):
            points = [(x + inward, y), (x, y), (x, y + down)]
            pen.line(points, fill=TARGET_COLOUR, width=round(0.07 * side), joint="curve")
    return _scaled(sprite, tile)


def _sheet(tile: int) -> tuple[Image.Image, ImageDraw.ImageDraw, int]:
    """Give an empty sheet, a pen for it, and its side in pixels."""
    side = tile * SUPERSAMPLING
    sprite = Image.new("RGBA", (side, side))
    return sprite, ImageDraw.Draw(sprite), side


def _scaled(sprite: Image.Image, tile: int) -> Image.Image:
    return sprite.resize((tile, tile), Image.Resampling.LANCZOS)
