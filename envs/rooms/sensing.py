"""What an agent sensed of its view, where not all that is in sight counts.

An agent that attends reads only a part of its view. The kernels that look note whatever is in
sight; for such an agent they do so in an array that nobody reads, and what it sensed is noted here.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from groundling.envs.rooms.kernels import Arrays, Sight
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.world import HIDDEN, WHAT, World


def noting_elsewhere(world: World) -> Arrays:
    """Give the world's arrays for kernels that look, with another `seen_at` than the world's."""
    return tuple(world._replace(seen_at=np.empty_like(world.seen_at)))


def sensed_cells(
    sensed: NDArray[np.bool_], attended: bool, rows: int, options: RoomsOptions
) -> NDArray[np.bool_]:
    """Check what `attend` was given, and tell which cells of the views [B, V, V] that is.

    Args:
        sensed: [B, H, W] of the `view` as it is observed; of an image, a cell is sensed if all of
            its pixels are.
        attended: whether the source expects to be told.
        rows: B.
        options: of the rooms.

    Raises ValueError if it does not, or for anything but a bool array [B, H, W].
    """
    if not attended:
        raise ValueError("attend() needs attended = True, set before reset(): all in sight counts")
    V, pixels = options.view_size, max(options.view_pixels, 1)
    expected = (rows, V * pixels, V * pixels)
    given: Any = sensed
    if not isinstance(given, np.ndarray) or (given.dtype, given.shape) != (np.bool_, expected):
        told = f"{given.dtype} {given.shape}" if isinstance(given, np.ndarray) else repr(given)
        raise ValueError(f"sensed is {told}, expected bool {expected}: a mask of every view")
    cells = sensed.reshape(rows, V, pixels, V, pixels).all(axis=(2, 4))
    return np.ascontiguousarray(cells)


@numba.njit(cache=True)
def note_sensed(
    arrays: Arrays, tables: Arrays, views: NDArray[np.uint8], sensed: NDArray[np.bool_]
) -> None:
    """Note in `seen_at` the cells of the present views [B, V, V, 3] that were sensed [B, V, V].

    `arrays` and `tables` are the fields of a World and of Sight. What is hidden is not sensed.
    """
    world, sight = World(*arrays), Sight(*tables)
    B, width = len(views), world.cells.shape[2]
    order, offsets, agent, elapsed = sight.order, sight.offsets, world.agent, world.elapsed
    flat_views, flat_sensed = views.reshape(B, -1, views.shape[3]), sensed.reshape(B, -1)
    seen_at = world.seen_at.reshape(B, -1)
    for row in range(B):
        here = np.int64(agent[row, 0]) * width + agent[row, 1]
        for turn in range(len(order)):
            cell = order[turn, 0]
            if flat_sensed[row, cell] and flat_views[row, cell, WHAT] != HIDDEN:
                seen_at[row, here + offsets[agent[row, 2], turn]] = elapsed[row]
