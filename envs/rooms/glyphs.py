"""Small pictures of the vocabulary's shapes, drawn once and kept.

Every shape is a short list of strokes on a 24 × 24 sheet, back to front, each in one tone of the
object's colour. They are drawn larger than needed and scaled down, which smooths their edges, and
get an outline that keeps a white cup visible on a light floor and a black one on a dark wall.
"""

from functools import lru_cache
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFilter

SHEET = 24
SUPERSAMPLING = 4

PALETTE = {
    "red": (220, 62, 62),
    "green": (62, 160, 78),
    "blue": (52, 114, 226),
    "yellow": (246, 202, 50),
    "purple": (128, 56, 166),
    "orange": (240, 138, 36),
    "white": (250, 250, 250),
    "brown": (134, 86, 48),
    "pink": (248, 160, 188),
    "cyan": (74, 200, 214),
    "black": (58, 60, 68),
    "magenta": (208, 44, 148),
}
"""Colours of the vocabulary as red, green, blue in 0 … 255."""

COLOURLESS = (150, 150, 150)
"""Of an object without a colour, as an agent may imagine one."""

INK = (44, 46, 58)

RGB = tuple[int, int, int]
BODY, DARK, LIGHT, PAPER = "body", "dark", "light", "paper"


class Stroke(NamedTuple):
    """One stroke: what is drawn, in which tone, through which points of the sheet."""

    kind: str
    """ellipse, box (rounded), polygon, line or ring."""
    tone: str
    """body (the object's colour), dark, light, or paper (white, whatever the colour)."""
    points: tuple[float, ...]
    """x and y in turn; of ellipse, box and ring two corners."""
    width: float = 2.0
    """Of line and ring; of box the radius of its corners."""


GLYPHS: dict[str, tuple[Stroke, ...]] = {
    "key": (
        Stroke("line", BODY, (11, 12, 22, 12), 3),
        Stroke("line", BODY, (17, 12, 17, 17), 2.5),
        Stroke("line", BODY, (21, 12, 21, 18), 2.5),
        Stroke("ring", BODY, (1.5, 6, 13.5, 18), 3),
    ),
    "ball": (
        Stroke("ellipse", BODY, (3, 3, 21, 21)),
        Stroke("line", DARK, (4, 9, 12, 12, 20, 9), 1.6),
        Stroke("line", DARK, (12, 12, 12, 21), 1.6),
        Stroke("ellipse", LIGHT, (7, 5, 12, 9)),
    ),
    "box": (
        Stroke("polygon", LIGHT, (12, 2, 21, 7, 12, 12, 3, 7)),
        Stroke("polygon", BODY, (3, 7, 12, 12, 12, 22, 3, 17)),
        Stroke("polygon", DARK, (21, 7, 12, 12, 12, 22, 21, 17)),
    ),
    "lamp": (
        Stroke("line", DARK, (12, 12, 12, 20), 2),
        Stroke("box", DARK, (6, 19, 18, 22), 1.2),
        Stroke("polygon", BODY, (8, 2, 16, 2, 21, 13, 3, 13)),
        Stroke("polygon", LIGHT, (9, 3.5, 11.5, 3.5, 9, 11.5, 5.5, 11.5)),
    ),
    "chair": (
        Stroke("line", DARK, (7, 14, 7, 22), 2.4),
        Stroke("line", DARK, (18, 14, 18, 22), 2.4),
        Stroke("box", BODY, (5, 2, 8.5, 14), 1.4),
        Stroke("box", BODY, (5, 12, 20, 16), 1.4),
    ),
    "book": (
        Stroke("polygon", DARK, (1, 6, 12, 8, 23, 6, 23, 20, 12, 22, 1, 20)),
        Stroke("polygon", PAPER, (3, 4, 12, 7, 12, 20, 3, 18)),
        Stroke("polygon", BODY, (21, 4, 12, 7, 12, 20, 21, 18)),
        Stroke("line", DARK, (5, 9, 10, 10), 1.2),
        Stroke("line", DARK, (5, 13, 10, 14), 1.2),
    ),
    "cup": (
        Stroke("ring", BODY, (13, 7, 23, 17), 2.6),
        Stroke("box", BODY, (3, 5, 18, 21), 4),
        Stroke("ellipse", DARK, (3.5, 3, 17.5, 8)),
    ),
    "clock": (
        Stroke("ellipse", BODY, (2, 2, 22, 22)),
        Stroke("ellipse", PAPER, (5, 5, 19, 19)),
        Stroke("line", DARK, (12, 7, 12, 12, 16, 14), 1.8),
    ),
    "table": (
        Stroke("line", DARK, (5, 10, 5, 21), 2.6),
        Stroke("line", DARK, (19, 10, 19, 21), 2.6),
        Stroke("box", BODY, (1, 7, 23, 12), 1.5),
    ),
    "hat": (
        Stroke("box", BODY, (6, 3, 18, 18), 2),
        Stroke("box", DARK, (6, 12, 18, 16), 0),
        Stroke("box", BODY, (1, 16, 23, 20), 2),
    ),
    "boat": (
        Stroke("line", DARK, (11, 2, 11, 16), 1.8),
        Stroke("polygon", PAPER, (12.5, 3, 20, 13, 12.5, 13)),
        Stroke("polygon", LIGHT, (9.5, 5, 9.5, 13, 4, 13)),
        Stroke("polygon", BODY, (1, 15, 23, 15, 18, 22, 6, 22)),
    ),
    "bed": (
        Stroke("box", DARK, (1, 5, 4, 21), 1),
        Stroke("box", DARK, (20, 11, 23, 21), 1),
        Stroke("box", BODY, (3, 12, 21, 18), 1.5),
        Stroke("box", PAPER, (4, 9, 10, 13), 1.5),
    ),
    "bottle": (
        Stroke("box", DARK, (9.5, 1, 14.5, 5), 1),
        Stroke("box", BODY, (10, 4, 14, 12), 1),
        Stroke("box", BODY, (6.5, 9, 17.5, 23), 3.5),
        Stroke("box", PAPER, (8.5, 13, 15.5, 18), 0.8),
    ),
    "guitar": (
        Stroke("line", DARK, (13, 11, 21, 3), 2.4),
        Stroke("ellipse", BODY, (8.5, 7, 17, 15.5)),
        Stroke("ellipse", BODY, (2, 10, 14, 22)),
        Stroke("ellipse", DARK, (7.5, 12, 12.5, 17)),
        Stroke("box", DARK, (19, 1, 23, 5), 1),
    ),
    "teddy": (
        Stroke("ellipse", BODY, (3, 2, 10, 9)),
        Stroke("ellipse", BODY, (14, 2, 21, 9)),
        Stroke("ellipse", BODY, (3.5, 4, 20.5, 21)),
        Stroke("ellipse", LIGHT, (8, 12, 16, 19)),
        Stroke("ellipse", DARK, (10.5, 12.5, 13.5, 15)),
        Stroke("ellipse", DARK, (7.5, 8.5, 9.8, 10.8)),
        Stroke("ellipse", DARK, (14.2, 8.5, 16.5, 10.8)),
    ),
    "basket": (
        Stroke("ring", DARK, (5, 2, 19, 20), 2),
        Stroke("polygon", BODY, (2, 11, 22, 11, 19, 22, 5, 22)),
        Stroke("line", DARK, (4, 15, 20, 15), 1.2),
        Stroke("line", DARK, (5, 18.5, 19, 18.5), 1.2),
        Stroke("line", LIGHT, (9, 11.5, 10, 21.5), 1.2),
        Stroke("line", LIGHT, (15, 11.5, 14, 21.5), 1.2),
    ),
    "candle": (
        Stroke("polygon", PAPER, (12, 1, 15, 6, 12, 9, 9, 6)),
        Stroke("box", BODY, (9, 9, 15, 20), 1),
        Stroke("box", LIGHT, (9, 9, 11, 17), 1),
        Stroke("box", DARK, (5, 19, 19, 22.5), 1.5),
    ),
    "plant": (
        Stroke("ellipse", BODY, (2, 4, 11, 11)),
        Stroke("ellipse", BODY, (13, 4, 22, 11)),
        Stroke("ellipse", LIGHT, (8.5, 1, 15.5, 11)),
        Stroke("line", BODY, (12, 8, 12, 15), 2),
        Stroke("polygon", DARK, (5, 13, 19, 13, 17, 23, 7, 23)),
    ),
    "rocket": (
        Stroke("polygon", DARK, (8, 13, 3, 21, 9, 19)),
        Stroke("polygon", DARK, (16, 13, 21, 21, 15, 19)),
        Stroke("polygon", BODY, (12, 1, 17, 8, 16.5, 20, 7.5, 20, 7, 8)),
        Stroke("ellipse", PAPER, (9.3, 7.5, 14.7, 12.9)),
        Stroke("polygon", LIGHT, (9.5, 20, 14.5, 20, 12, 23.5)),
    ),
    "shoe": (
        Stroke("polygon", BODY, (3, 5, 10, 5, 12, 11, 20, 14, 22, 18, 3, 18)),
        Stroke("box", DARK, (2, 17, 23, 21), 1.2),
        Stroke("line", PAPER, (10, 9, 13.5, 7.5), 1.3),
        Stroke("line", PAPER, (12, 12, 15.5, 10), 1.3),
    ),
    "train": (
        Stroke("box", DARK, (4, 3, 8, 9), 0.8),
        Stroke("box", BODY, (2, 8, 14, 18), 1.5),
        Stroke("box", BODY, (13, 3, 22, 18), 1.5),
        Stroke("box", PAPER, (15.5, 5.5, 20, 10), 0.8),
        Stroke("ellipse", DARK, (3, 15, 9, 21)),
        Stroke("ellipse", DARK, (14, 15, 20, 21)),
    ),
    "wardrobe": (
        Stroke("box", DARK, (4, 1, 20, 22), 1.2),
        Stroke("box", BODY, (5.5, 3, 11.5, 20), 0.5),
        Stroke("box", BODY, (12.5, 3, 18.5, 20), 0.5),
        Stroke("ellipse", PAPER, (9, 10.5, 11, 12.5)),
        Stroke("ellipse", PAPER, (13, 10.5, 15, 12.5)),
    ),
    "mirror": (
        Stroke("line", BODY, (3, 11, 3, 17, 21, 17, 21, 11), 1.8),
        Stroke("line", BODY, (12, 17, 12, 22), 2.4),
        Stroke("box", BODY, (5.5, 20.5, 18.5, 23), 1.2),
        Stroke("ellipse", BODY, (4.5, 0.5, 19.5, 18.5)),
        Stroke("ellipse", PAPER, (7, 3, 17, 16)),
        Stroke("line", DARK, (8.6, 11, 13.6, 4.4), 1.2),
        Stroke("line", DARK, (10.4, 13.6, 15.8, 6.6), 1.2),
    ),
    "vase": (
        Stroke("ring", DARK, (3.5, 5.5, 11.5, 13.5), 1.8),
        Stroke("ring", DARK, (12.5, 5.5, 20.5, 13.5), 1.8),
        Stroke("box", DARK, (8, 20, 16, 23), 1),
        Stroke("ellipse", BODY, (4.5, 8.5, 19.5, 22)),
        Stroke("box", BODY, (9, 3, 15, 12), 0.5),
        Stroke("box", BODY, (6.8, 1.2, 17.2, 4), 1.2),
        Stroke("line", DARK, (5.5, 14, 9, 16.4, 12, 14, 15, 16.4, 18.5, 14), 1.6),
    ),
}


@lru_cache(maxsize=4096)
def glyph(shape: str, colour: str | None, pixels: int) -> Image.Image:
    """Give the picture of a shape in a colour, RGBA, `pixels` square. It is kept: draw on a copy.

    Raises KeyError for a shape or colour that is not in the vocabulary.
    """
    scale = pixels * SUPERSAMPLING / SHEET
    sheet = Image.new("RGBA", (pixels * SUPERSAMPLING,) * 2)
    pen = ImageDraw.Draw(sheet)
    body = COLOURLESS if colour is None else PALETTE[colour]
    for stroke in GLYPHS[shape]:
        _draw(pen, stroke, _tone(body, stroke.tone), scale)
    outlined = _outline(sheet, round(0.9 * scale), _outline_colour(body))
    return outlined.resize((pixels, pixels), Image.Resampling.LANCZOS)


def _draw(pen: ImageDraw.ImageDraw, stroke: Stroke, colour: RGB, scale: float) -> None:
    # Half a sheet unit of border on every side leaves the outline room.
    points = [1.2 * scale + x * scale * (SHEET - 2.4) / SHEET for x in stroke.points]
    width = max(1, round(stroke.width * scale))
    if stroke.kind == "ellipse":
        pen.ellipse(points, fill=colour)
    elif stroke.kind == "ring":
        pen.ellipse(points, outline=colour, width=width)
    elif stroke.kind == "box":
        pen.rounded_rectangle(points, radius=stroke.width * scale, fill=colour)
    elif stroke.kind == "polygon":
        pen.polygon(points, fill=colour)
    else:
        pen.line(points, fill=colour, width=width, joint="curve")


def _tone(colour: RGB, tone: str) -> RGB:
    """Give a tone of a colour."""
    if tone == PAPER:
        return (255, 255, 255)
    if tone == DARK:
        return mixed(colour, (20, 20, 30), 0.38)
    return mixed(colour, (255, 255, 255), 0.4) if tone == LIGHT else colour


def mixed(colour: RGB, other: RGB, share: float) -> RGB:
    """Give a colour with a share, in 0 … 1, of another one."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def _outline_colour(body: RGB) -> RGB:
    """Give a colour in which the outline stands out against the object and the floor."""
    return (232, 232, 236) if body == PALETTE["black"] else mixed(body, INK, 0.75)


def _outline(sheet: Image.Image, pixels: int, colour: RGB) -> Image.Image:
    """Put a drawing on its own silhouette, grown by so many pixels and filled with a colour."""
    mask = sheet.getchannel("A")
    grown = mask.filter(ImageFilter.MaxFilter(2 * pixels + 1))
    outlined = Image.new("RGBA", sheet.size)
    outlined.paste(colour, mask=grown)
    outlined.alpha_composite(sheet)
    return outlined
