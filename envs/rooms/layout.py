"""Generation of rooms: walls, objects, the agent's start.

Everything is drawn from (seed, episode) alone. Objects are placed one at a time, on cells taken in
random order; a cell may hold an object if the free cells stay connected and every object keeps a
free neighbour. Random order can, rarely, leave a crowded room short of objects. Then the room is
emptied and its cells are taken row by row, which always finds room for an object in a third of
them: a test places them in every room the options allow. So generation always ends, and ends well.
Where held-out combinations are absent, kinds are drawn until one is not of them: at least half of
all kinds are not, so more than 64 draws happen once in 2**64 objects.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from groundling.envs.rooms.combinations import held_out
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.rng import below, mix
from groundling.envs.rooms.world import (
    CHANNELS,
    COLOUR,
    COLUMN,
    FIRST_SHAPE,
    FLOOR,
    NEVER,
    OBJECT_COLOUR,
    OBJECT_SHAPE,
    OBJECT_SIZE,
    ROW,
    SIZE,
    WALL,
    WHAT,
    World,
)


class Rules(NamedTuple):
    """`RoomsOptions` as the kernels read them: integers only. Kinds are told by `absent_kinds`.

    They are arguments because numba's cache does not notice a global that changed.
    """

    l_shape: int
    size: int
    margin: int
    objects: int
    sizes: int
    episode_length: int
    stagger: int


def rules_of(options: RoomsOptions) -> Rules:
    """Give the options in the form the kernels read."""
    return Rules(
        l_shape=int(options.layout == "l_shape"),
        size=options.size,
        margin=options.margin,
        objects=options.objects,
        sizes=options.sizes,
        episode_length=options.episode_length,
        stagger=int(options.stagger),
    )


def absent_kinds(options: RoomsOptions) -> NDArray[np.bool_]:
    """Give [shapes, colours]: no object of these rooms has this combination."""
    table = held_out(len(options.shape_names), len(options.colour_names))
    return table & (options.combinations == "familiar")


def empty_world(num_rooms: int, options: RoomsOptions) -> World:
    """Give the arrays of `num_rooms` rooms, all wall: `generate` has yet to build each."""
    side = options.grid_size
    cells = np.zeros((num_rooms, side, side, CHANNELS), np.uint8)
    cells[..., WHAT] = WALL
    return World(
        cells=cells,
        seen_at=np.full((num_rooms, side, side), NEVER, np.int16),
        objects=np.zeros((num_rooms, options.objects, 5), np.uint8),
        object_count=np.zeros(num_rooms, np.uint8),
        reached=np.zeros((num_rooms, options.objects), np.bool_),
        agent=np.zeros((num_rooms, 3), np.int16),
        elapsed=np.zeros(num_rooms, np.int16),
        episode=np.zeros(num_rooms, np.int64),
        seed=np.zeros(num_rooms, np.int64),
    )


@numba.njit(cache=True)
def generate(world: World, room: int, rules: Rules, absent: NDArray[np.bool_]) -> None:
    """Build room number `room` of the world as its seed and episode say, in place.

    `absent` is what `absent_kinds` gives.
    """
    state = mix(world.seed[room], world.episode[room])
    width = world.cells.shape[2]
    cells = world.cells[room].reshape(-1, CHANNELS)
    state = _build_walls(cells, width, rules, state)
    places, state = _choose_places(cells, width, rules.objects, state)
    state = _fill_places(world, room, cells, width, places, rules.sizes, absent, state)
    state = _place_agent(world, room, cells, width, state)
    world.seen_at[room] = NEVER
    world.reached[room] = False
    world.elapsed[room] = 0
    if rules.stagger and world.episode[room] == 0:
        phase, state = below(state, rules.episode_length)
        world.elapsed[room] = phase


@numba.njit(cache=True)
def _build_walls(cells: NDArray[np.uint8], width: int, rules: Rules, state: np.uint64) -> np.uint64:
    """Clear the interior; of an L, wall up the quadrant that is missing. Cells are [H * W, 3]."""
    first, last = rules.margin, rules.margin + rules.size
    for row in range(first, last):
        for column in range(first, last):
            cells[row * width + column, WHAT] = FLOOR
            cells[row * width + column, COLOUR] = 0
            cells[row * width + column, SIZE] = 0
    if rules.l_shape:
        corner, state = below(state, 4)
        missing = rules.size // 2
        top = first if corner < 2 else last - missing
        left = first if corner % 2 == 0 else last - missing
        for row in range(top, top + missing):
            cells[row * width + left : row * width + left + missing, WHAT] = WALL
    return state


@numba.njit(cache=True)
def _choose_places(
    cells: NDArray[np.uint8], width: int, count: int, state: np.uint64
) -> tuple[NDArray[np.int64], np.uint64]:
    """Choose `count` positions for objects and mark them in the cells."""
    order = _free_cells(cells)
    places, state = _place_in_turn(cells, width, count, order, True, state)
    if len(places) < count:
        cells[places, WHAT] = FLOOR
        places, state = _place_in_turn(cells, width, count, _free_cells(cells), False, state)
        if len(places) < count:
            raise ValueError("this room cannot hold so many objects")
    return places, state


@numba.njit(cache=True)
def _free_cells(cells: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Give the positions of the free cells, row by row."""
    return np.flatnonzero(cells[:, WHAT] == FLOOR)


@numba.njit(cache=True)
def _place_in_turn(
    cells: NDArray[np.uint8],
    width: int,
    count: int,
    order: NDArray[np.int64],
    shuffled: bool,
    state: np.uint64,
) -> tuple[NDArray[np.int64], np.uint64]:
    """Mark up to `count` cells, taken in order or shuffled, that may hold an object."""
    places = np.empty(count, np.int64)
    placed = 0
    flooded_by = np.full(len(cells), -1, np.int64)
    queue = np.empty(len(order), np.int64)
    for turn in range(len(order)):
        if placed == count:
            break
        if shuffled:
            other, state = below(state, len(order) - turn)
            order[turn], order[turn + other] = order[turn + other], order[turn]
        position = order[turn]
        cells[position, WHAT] = FIRST_SHAPE
        free = len(order) - placed - 1
        if _stays_whole(cells, width, position, free, flooded_by, queue, turn):
            places[placed] = position
            placed += 1
        else:
            cells[position, WHAT] = FLOOR
    return places[:placed], state


@numba.njit(cache=True)
def _stays_whole(
    cells: NDArray[np.uint8],
    width: int,
    position: int,
    free: int,
    flooded_by: NDArray[np.int64],
    queue: NDArray[np.int64],
    flood: int,
) -> bool:
    """Tell whether an object just put at `position` leaves its room in one piece.

    That is: it and its neighbouring objects each touch a free cell, and the `free` cells are
    connected. `flooded_by` remembers the last flood that reached a cell, so that it need not be
    cleared between floods.
    """
    start = _free_neighbour(cells, width, position)
    if start < 0:
        return False
    for step in (1, width, -1, -width):
        neighbour = position + step
        if cells[neighbour, WHAT] >= FIRST_SHAPE and _free_neighbour(cells, width, neighbour) < 0:
            return False
    queue[0] = start
    flooded_by[start] = flood
    head, tail = 0, 1
    while head < tail:
        for step in (1, width, -1, -width):
            neighbour = queue[head] + step
            if cells[neighbour, WHAT] == FLOOR and flooded_by[neighbour] != flood:
                flooded_by[neighbour] = flood
                queue[tail] = neighbour
                tail += 1
        head += 1
    return tail == free


@numba.njit(cache=True)
def _free_neighbour(cells: NDArray[np.uint8], width: int, position: int) -> int:
    """Give the position of a free cell beside this one, or -1."""
    for step in (1, width, -1, -width):
        if cells[position + step, WHAT] == FLOOR:
            return position + step
    return -1


@numba.njit(cache=True)
def _fill_places(
    world: World,
    room: int,
    cells: NDArray[np.uint8],
    width: int,
    places: NDArray[np.int64],
    sizes: int,
    absent: NDArray[np.bool_],
    state: np.uint64,
) -> np.uint64:
    """Put an object on every place, of uniform kind and of uniform size."""
    world.object_count[room] = len(places)
    for number, position in enumerate(places):
        shape, colour, state = draw_kind(absent, state)
        size, state = below(state, sizes)
        cells[position, WHAT] = FIRST_SHAPE + shape
        cells[position, COLOUR] = colour + 1
        cells[position, SIZE] = size + 1
        world.objects[room, number, ROW] = position // width
        world.objects[room, number, COLUMN] = position % width
        world.objects[room, number, OBJECT_SHAPE] = shape
        world.objects[room, number, OBJECT_COLOUR] = colour
        world.objects[room, number, OBJECT_SIZE] = size
    return state


@numba.njit(cache=True)
def draw_kind(absent: NDArray[np.bool_], state: np.uint64) -> tuple[np.int64, np.int64, np.uint64]:
    """Draw a shape and a colour, uniform among the combinations that are not absent."""
    while True:
        shape, state = below(state, absent.shape[0])
        colour, state = below(state, absent.shape[1])
        if not absent[shape, colour]:
            return shape, colour, state


@numba.njit(cache=True)
def _place_agent(
    world: World, room: int, cells: NDArray[np.uint8], width: int, state: np.uint64
) -> np.uint64:
    """Put the agent on a uniformly random free cell, facing a uniformly random direction."""
    free = _free_cells(cells)
    choice, state = below(state, len(free))
    direction, state = below(state, 4)
    world.agent[room, 0] = free[choice] // width
    world.agent[room, 1] = free[choice] % width
    world.agent[room, 2] = direction
    return state
