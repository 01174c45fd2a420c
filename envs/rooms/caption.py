"""The instruction, to be read under the picture of a house."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.tiles import PAPER
from groundling.envs.rooms.world import World
from groundling.envs.vocabulary import VOCABULARY

INK = (34, 37, 46)
FONT_SIZE, LINE_HEIGHT, MARGIN = 15, 21, 10
"""In pixels."""


def draw_caption(world: World, room: int, options: RoomsOptions, width: int) -> NDArray[np.uint8]:
    """Give a house's instruction, uint8 [height, width, 3].

    The height depends on options and width alone: it leaves room for the longest instruction.
    """
    font, wide = ImageFont.load_default(FONT_SIZE), width - 2 * MARGIN
    lines = len(wrapped(_longest_instruction(options), font, wide))
    strip = Image.new("RGB", (width, LINE_HEIGHT * lines + MARGIN), PAPER)
    pen = ImageDraw.Draw(strip)
    text = VOCABULARY.decode(world.instruction[room].tolist())
    for number, line in enumerate(wrapped(text, font, wide)):
        pen.text((MARGIN, MARGIN // 2 + LINE_HEIGHT * number), line, INK, font)
    return np.array(strip)


@lru_cache
def _longest_instruction(options: RoomsOptions) -> str:
    """Give a sentence from which any instruction comes by leaving words out and shortening some.

    So none takes more lines, however wide they are.
    """
    font = ImageFont.load_default(FONT_SIZE)
    names = (options.size_names, options.colour_names, (*options.shape_names, "object"))
    noun = " ".join(["the", *(max(words, key=font.getlength) for words in names)])
    return f"go to {noun} near {noun}"


def wrapped(text: str, font: Any, width: int) -> list[str]:
    """Give a text in lines no wider than `width` pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
