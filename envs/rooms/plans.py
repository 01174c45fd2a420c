"""Floor plans: rooms in rows and columns, the walls between them, doorways, painted outer walls.

All houses are one scheme. Rooms lie in a grid; each row of rooms has a height and each column a
width. The walls between neighbours are one cell thick and have one doorway each. A corridor is a
last row of one cell's height that is not divided: the rooms above open into it, not into each
other. Cells are flat here, [H * W, 3], so that a neighbour is a sum away.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from groundling.envs.rooms.options import MARGIN
from groundling.envs.rooms.rng import below
from groundling.envs.rooms.rules import Rules
from groundling.envs.rooms.world import COLOUR, DOORWAY, FLOOR, SIZE, WALL, WHAT


@numba.njit(cache=True)
def build_walls(cells: NDArray[np.uint8], width: int, rules: Rules, state: np.uint64) -> np.uint64:
    """Turn cells [H * W, 3] into an empty house with open doorways."""
    cells[:, WHAT] = WALL
    cells[:, COLOUR] = 0
    cells[:, SIZE] = 0
    tops, state = _draw_starts(rules.down, rules, state)
    if rules.corridor:  # one more row, a cell high
        tops = np.append(tops, tops[-1] + 2)
    lefts, state = _draw_starts(rules.across, rules, state)
    for down in range(len(tops) - 1):
        for across in range(len(lefts) - 1):
            _clear(cells, width, tops[down], lefts[across], tops[down + 1], lefts[across + 1])
    if rules.corridor:
        _clear(cells, width, tops[-2], lefts[0], tops[-1], lefts[-1])
    if rules.l_shape:
        state = _wall_up_a_quadrant(cells, width, tops, lefts, state)
    state = _cut_doorways(cells, width, tops, lefts, rules.corridor, state)
    if rules.wall_colours:
        _paint_outer_walls(cells, width, tops[-1] - 1, lefts[-1] - 1)
    return state


@numba.njit(cache=True)
def _draw_starts(rooms: int, rules: Rules, state: np.uint64) -> tuple[NDArray[np.int64], np.uint64]:
    """Give where each of some rooms in line begins, and where one more would: [rooms + 1]."""
    starts = np.empty(rooms + 1, np.int64)
    starts[0] = MARGIN
    for room in range(rooms):
        length = rules.smallest
        if rules.largest > rules.smallest:
            more, state = below(state, rules.largest - rules.smallest + 1)
            length += int(more)
        starts[room + 1] = starts[room] + length + 1
    return starts, state


@numba.njit(cache=True)
def _clear(
    cells: NDArray[np.uint8], width: int, top: int, left: int, next_top: int, next_left: int
) -> None:
    """Make a rectangle floor, up to the walls before the rooms that come next."""
    for row in range(top, next_top - 1):
        cells[row * width + left : row * width + next_left - 1, WHAT] = FLOOR


@numba.njit(cache=True)
def _wall_up_a_quadrant(
    cells: NDArray[np.uint8],
    width: int,
    tops: NDArray[np.int64],
    lefts: NDArray[np.int64],
    state: np.uint64,
) -> np.uint64:
    """Of a single room, take away a random quadrant: an L remains."""
    corner, state = below(state, 4)
    bottom, right = tops[1] - 1, lefts[1] - 1
    high, wide = (bottom - tops[0]) // 2, (right - lefts[0]) // 2
    top = tops[0] if corner < 2 else bottom - high
    left = lefts[0] if corner % 2 == 0 else right - wide
    for row in range(top, top + high):
        cells[row * width + left : row * width + left + wide, WHAT] = WALL
    return state


@numba.njit(cache=True)
def _cut_doorways(
    cells: NDArray[np.uint8],
    width: int,
    tops: NDArray[np.int64],
    lefts: NDArray[np.int64],
    corridor: int,
    state: np.uint64,
) -> np.uint64:
    """Open every wall between neighbours at a random place, the corridor's side included."""
    for down in range(len(tops) - 1):
        for across in range(len(lefts) - 1):
            high, wide = tops[down + 1] - 1 - tops[down], lefts[across + 1] - 1 - lefts[across]
            if across + 2 < len(lefts) and not corridor:
                at, state = below(state, high)
                _open(cells, (tops[down] + at) * width + lefts[across + 1] - 1)
            if down + 2 < len(tops):
                at, state = below(state, wide)
                _open(cells, (tops[down + 1] - 1) * width + lefts[across] + at)
    return state


@numba.njit(cache=True)
def _open(cells: NDArray[np.uint8], position: int) -> None:
    cells[position, WHAT] = FLOOR
    cells[position, SIZE] = DOORWAY


@numba.njit(cache=True)
def _paint_outer_walls(cells: NDArray[np.uint8], width: int, bottom: int, right: int) -> None:
    """Give the north, east, south and west wall the preset's first four colours, in this order.

    The walls lie in rows 0 and `bottom`, and in columns 0 and `right`.
    """
    for column in range(MARGIN, right):
        cells[column, COLOUR] = 1
        cells[bottom * width + column, COLOUR] = 3
    for row in range(MARGIN, bottom):
        cells[row * width + right, COLOUR] = 2
        cells[row * width, COLOUR] = 4


@numba.njit(cache=True, inline="always")
def is_doorway(what: int, size: int) -> bool:
    """Tell whether a cell of these codes is a doorway, open or closed. (An object's size is no
    mark.)"""
    return bool((what <= WALL) & (size == DOORWAY))


@numba.njit(cache=True)
def close_doors(cells: NDArray[np.uint8]) -> None:
    """Put a closed door into every doorway."""
    for position in range(len(cells)):
        if is_doorway(cells[position, WHAT], cells[position, SIZE]):
            cells[position, WHAT] = WALL


@numba.njit(cache=True, inline="always")
def may_hold_object(cells: NDArray[np.uint8], width: int, position: int) -> bool:
    """Tell whether an object may ever stand on a cell: it is no wall, no doorway, and not beside
    one, so that nothing is ever in the way of a door. The outer walls must not be asked about."""
    if cells[position, WHAT] == WALL or is_doorway(cells[position, WHAT], cells[position, SIZE]):
        return False
    doors = 0
    for step in (1, width, -1, -width):
        doors += is_doorway(cells[position + step, WHAT], cells[position + step, SIZE])
    return doors == 0
