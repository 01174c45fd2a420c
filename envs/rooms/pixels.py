"""The view as an image: every cell a small tile, the same wherever it lies.

So an image tells what the cells' codes tell, no more: a door is drawn alike in every wall, as if
one walked up and down through it. What is hidden is black. The agent itself is not drawn, as it is
no part of the codes. All tiles differ, some of them little if they are small: of 24 shapes the two
that are most alike, of one colour, differ by 43 of 255 in the pixel that tells them apart if a cell
has 8 pixels and by 11 if it has 4; where there are two sizes, small ones by 23 and by 6.
"""

from functools import lru_cache
from itertools import product

import numba
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.tiles import draw_ground, place_doorways, place_things
from groundling.envs.rooms.world import (
    CHANNELS,
    COLOUR,
    DOORWAY,
    FIRST_SHAPE,
    FLOOR,
    SIZE,
    WALL,
    WHAT,
)

BRIGHTEST = 255
"""The largest value of a pixel."""


def as_observed(views: NDArray[np.uint8], options: RoomsOptions) -> NDArray[np.uint8]:
    """Give views [N, V, V, 3] in codes as the options want them observed: so, or as new images."""
    return draw_views(views, atlas_of(options)) if options.view_pixels else views


@numba.njit(cache=True)
def draw_views(views: NDArray[np.uint8], atlas: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Draw views [N, V, V, 3] in codes as images, uint8 [N, V · p, V · p, 3].

    `atlas` [what, colour, size, p, p, 3] holds every cell's tile: `atlas_of`.
    """
    N, V = views.shape[:2]
    p = atlas.shape[3]
    tiles = atlas.reshape(*atlas.shape[:4], 3 * p)  # The lines of a tile, each one run of bytes.
    images = np.empty((N, V, p, V, 3 * p), np.uint8)
    for view in range(N):
        for row in range(V):
            for column in range(V):
                what, colour, size = views[view, row, column]
                for line in range(p):
                    for byte in range(3 * p):
                        images[view, row, line, column, byte] = tiles[
                            what, colour, size, line, byte
                        ]
    return images.reshape(N, V * p, V * p, 3)


@lru_cache(maxsize=16)
def atlas_of(options: RoomsOptions) -> NDArray[np.uint8]:
    """Draw the tiles of all cells that views of these rooms may show, `options.view_pixels` wide.

    Gives uint8 [what, colour, size, p, p, 3], read-only; black where there is no such cell.
    """
    p, kinds = options.view_pixels, np.array(_kinds_of_cells(options))
    # One below the other, each between floor, so that a doorway leads up and down, and no wall
    # is enclosed by others.
    strip = np.zeros((2 * len(kinds) + 1, 1, CHANNELS), np.int64)
    strip[..., WHAT] = FLOOR
    strip[1::2, 0] = kinds
    picture = Image.fromarray(draw_ground(strip, options, p))
    place_doorways(picture, strip, options, p)
    sizes = np.maximum(strip[..., SIZE] - 1, 0)
    place_things(picture, strip[..., WHAT], strip[..., COLOUR], sizes, options, p)
    atlas = np.zeros((*kinds.max(axis=0) + 1, p, p, 3), np.uint8)
    atlas[tuple(kinds.T)] = np.array(picture).reshape(-1, p, p, 3)[1::2]
    atlas.flags.writeable = False
    return atlas


def _kinds_of_cells(options: RoomsOptions) -> list[tuple[int, int, int]]:
    """List the what, colour and size of all cells that there are, but of those hidden."""
    paints = range(1 + len(options.colour_names) * options.wall_colours)
    kinds = [(FLOOR, 0, 0), *((WALL, paint, 0) for paint in paints)]
    if options.doorways:
        kinds += [(FLOOR, 0, DOORWAY), (WALL, 0, DOORWAY)]
    shapes, colours, sizes = (
        range(first, first + len(names))
        for first, names in (
            (FIRST_SHAPE, options.shape_names),
            (1, options.colour_names),
            (1, options.size_names),
        )
    )
    return kinds + list(product(shapes, colours, sizes))
