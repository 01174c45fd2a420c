"""Pictures of where an agent with attention looks: squares around its glimpse, and their trail."""

from collections import deque

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from groundling.agents.agent import Rows
from groundling.agents.attention import Attention
from groundling.agents.glimpse import OUTSIDE, Fovea
from groundling.agents.sensors import is_cells
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.render import TILE, draw_view
from groundling.envs.rooms.tiles import (
    EDGE_COLOUR,
    SHADE,
    dim,
    draw_ground,
    place_doorways,
    place_things,
)
from groundling.envs.rooms.world import COLOUR, HIDDEN, SIZE, WHAT

LARGEST = 400
"""Side of a picture, in pixels, at which its places are no longer enlarged to a tile."""
TRAIL = 8
"""Looks that the trail tells, the present one included."""
TRAIL_COLOUR = (224, 62, 122)
COARSE, UNSEEN = 0.22, 0.6
"""How far what is read coarsely, or not at all, is blended into the shade, in 0 … 1."""
FINER = 4
"""The trail is drawn so many times larger, so that its lines are smooth."""
INKS = (
    (242, 234, 218),
    (86, 94, 116),
    (42, 111, 187),
    (232, 145, 45),
    (61, 139, 95),
    (201, 48, 79),
)
"""Of categories that nobody knows how to draw, in turn."""


class Sight:
    """Draws what an agent looks at, in the first of the environments.

    Args:
        attention: the agent's.
        rooms: of our rooms, whose views can be drawn as rooms; None in any other world.
    """

    def __init__(self, attention: Attention, rooms: RoomsOptions | None) -> None:
        self.attention, self.rooms = attention, rooms
        longest = max(attention.fovea.height, attention.fovea.width)
        self.zoom = max(1, min(TILE, LARGEST // longest))
        """Side of a place, in pixels."""
        self.trail: deque[tuple[float, float]] = deque(maxlen=TRAIL)

    def follow(self, row: Rows) -> None:
        """Takes in a row [B, …] as the agent saw it."""
        assert row.location is not None
        if row.is_first[0]:
            self.trail.clear()
        down, across = row.location[0].tolist()
        self.trail.append((down, across))
        self.corners = self.attention.fovea.corners(row.location[:1].cpu())[0].tolist()
        self.glimpse = row.observation[self.attention.part][0].cpu().numpy()

    def looking(self, whole: NDArray[np.integer]) -> NDArray[np.uint8]:
        """All that there was to see, [H, W, C], with the glimpse's squares and the trail of the
        last looks: what is read sharply is bright, what is not read dark. Gives uint8 [H · zoom,
        W · zoom, 3]."""
        picture = Image.fromarray(self._drawn(whole))
        dim(picture, darkness(self.attention.fovea, self.corners), self.zoom)
        self._draw_trail(picture)
        self._draw_squares(picture)
        return np.asarray(picture)

    def received(self) -> NDArray[np.uint8] | None:
        """All that the agent got of an image, each patch where it lies; None of cells, of which
        averages cannot be drawn."""
        if is_cells(self.attention.space):
            return None
        fovea, channels = self.attention.fovea, self.attention.channels
        picture = Image.new("RGB", (fovea.width * self.zoom, fovea.height * self.zoom), SHADE)
        for scale in reversed(range(fovea.scales)):
            patch = self.glimpse[..., scale * channels : (scale + 1) * channels]
            large = enlarged(colourful(patch), 2**scale * self.zoom)
            row, column = self.corners[scale]
            picture.paste(Image.fromarray(large), (column * self.zoom, row * self.zoom))
        self._draw_squares(picture)
        return np.asarray(picture)

    def sharp_cells(self) -> NDArray[np.int64]:
        """The codes of the finest patch, [size, size, C]; what lies beyond the border is hidden."""
        size = self.attention.fovea.size
        codes = self.glimpse[: size**2].reshape(size, size, -1).astype(np.int64)
        return np.where(codes == OUTSIDE, HIDDEN, codes)

    def _drawn(self, whole: NDArray[np.integer]) -> NDArray[np.uint8]:
        if not is_cells(self.attention.space):
            return enlarged(colourful(whole), self.zoom)
        if self.rooms is not None:
            return draw_view(whole, self.rooms, self.zoom)
        return enlarged(np.array(INKS, np.uint8)[whole[..., 0] % len(INKS)], self.zoom)

    def _draw_squares(self, picture: Image.Image) -> None:
        """The finest one strongest; what of one lies beyond the border is left out."""
        pen = ImageDraw.Draw(picture)
        for scale, box in enumerate(boxes(self.attention.fovea, self.corners, self.zoom)):
            width = max(2, self.zoom // 10) if scale == 0 else max(1, self.zoom // 20)
            pen.rectangle(box, outline=EDGE_COLOUR, width=width)

    def _draw_trail(self, picture: Image.Image) -> None:
        """Dots where it looked, larger and stronger the later, with lines from one to the next."""
        layer = Image.new("RGBA", (picture.width * FINER, picture.height * FINER))
        pen = ImageDraw.Draw(layer)
        widest = FINER * max(5.0, min(self.zoom / 6, 6.0))
        # The centre of a tile that reaches beyond the border may lie there.
        places = [
            (
                min(max((across + 1) / 2 * layer.width, widest), layer.width - widest),
                min(max((down + 1) / 2 * layer.height, widest), layer.height - widest),
            )
            for down, across in self.trail
        ]
        strength = np.linspace(1, 0.3, TRAIL)[: len(places)][::-1]
        for start, end, strong in zip(places, places[1:], strength[1:], strict=False):
            ink = (*TRAIL_COLOUR, round(255 * float(strong)))
            pen.line((*start, *end), fill=ink, width=round(widest / 3))
        for (x, y), strong in zip(places, strength, strict=True):
            radius, opacity = widest * float(strong), round(255 * float(strong))
            box = (x - radius, y - radius, x + radius, y + radius)
            rim = (255, 255, 255, opacity)
            pen.ellipse(box, (*TRAIL_COLOUR, opacity), outline=rim, width=round(1.5 * FINER))
        small = layer.reduce(FINER)
        picture.paste(small, (0, 0), small)


def boxes(fovea: Fovea, corners: list[list[int]], zoom: int) -> list[tuple[int, int, int, int]]:
    """Left, top, right and bottom pixel, all included, of every patch, the finest first; cut off at
    the border."""
    cut = []
    for scale, (row, column) in enumerate(corners):
        side = fovea.size * 2**scale
        top, left = max(row, 0) * zoom, max(column, 0) * zoom
        bottom = min(row + side, fovea.height) * zoom - 1
        right = min(column + side, fovea.width) * zoom - 1
        cut.append((left, top, right, bottom))
    return cut


def darkness(fovea: Fovea, corners: list[list[int]]) -> NDArray[np.float64]:
    """How dark each place of the grid is to be, [H, W] in 0 … 1: what is read sharply not at all,
    the rest the more the coarser it is read."""
    dark = np.full((fovea.height, fovea.width), UNSEEN)
    for scale in reversed(range(fovea.scales)):
        left, top, right, bottom = boxes(fovea, corners, 1)[scale]
        between = scale / max(1, fovea.scales - 1)
        dark[top : bottom + 1, left : right + 1] = COARSE * (0 if scale == 0 else 1 + between)
    return dark


def draw_patch(codes: NDArray[np.integer], rooms: RoomsOptions, tile: int) -> NDArray[np.uint8]:
    """Cells of a room [R, C, 3] without the agent, uint8 [R · tile, C · tile, 3]."""
    picture = Image.fromarray(draw_ground(codes, rooms, tile))
    place_doorways(picture, codes, rooms, tile)
    sizes = np.maximum(codes[..., SIZE].astype(np.int64) - 1, 0)
    place_things(picture, codes[..., WHAT], codes[..., COLOUR], sizes, rooms, tile)
    dim(picture, UNSEEN * (codes[..., WHAT] == HIDDEN), tile)
    return np.asarray(picture)


def colourful(image: NDArray[np.integer]) -> NDArray[np.uint8]:
    """An image [H, W, C] as red, green, blue; of anything but three channels in grey."""
    if image.shape[-1] != 3:
        image = image.mean(-1, keepdims=True).round().repeat(3, axis=-1)
    return image.astype(np.uint8)


def enlarged(picture: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    """Every pixel as a square."""
    return picture.repeat(times, axis=0).repeat(times, axis=1)
