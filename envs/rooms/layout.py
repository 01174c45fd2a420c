"""Generation of houses: walls, objects, where the agent starts, and what it is told to do.

Everything is drawn from (seed, episode) alone. Objects are placed one at a time, on cells taken in
random order; a cell may hold an object if it is not beside a doorway, the free cells stay connected
and every object keeps a free neighbour. Random order can, rarely, leave a crowded house short of
objects. Then it is emptied and its cells are taken row by row, which always finds room for an
object in a third of them: a test places them in every house the options allow. So generation always
ends, and ends well. Where held-out combinations are absent, kinds are drawn until one is not of
them: at least half of all kinds are not, so more than 64 draws happen once in 2**64 objects. Where
one object is to be told from all others, theirs are drawn until they differ, likewise.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from groundling.envs.rooms.instructions import INSTRUCTION_LENGTH, instruct
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.plans import build_walls, close_doors, may_hold_object
from groundling.envs.rooms.rng import below, mix
from groundling.envs.rooms.rules import Rules, absent_kinds, rules_of, words_of
from groundling.envs.rooms.world import (
    CHANNELS,
    COLOUR,
    COLUMN,
    DOORWAY,
    FIRST_SHAPE,
    FLOOR,
    NEVER,
    NONE,
    OBJECT_COLOUR,
    OBJECT_SHAPE,
    OBJECT_SIZE,
    ROW,
    SIZE,
    WALL,
    WHAT,
    World,
)


def empty_world(num_rooms: int, options: RoomsOptions) -> World:
    """Give the arrays of `num_rooms` houses, all wall: `generate` has yet to build each."""
    rows, columns = options.grid_shape
    cells = np.zeros((num_rooms, rows, columns, CHANNELS), np.uint8)
    cells[..., WHAT] = WALL
    words = INSTRUCTION_LENGTH if options.task == "go_to" else 0
    return World(
        cells=cells,
        seen_at=np.full((num_rooms, rows, columns), NEVER, np.int16),
        objects=np.zeros((num_rooms, options.most_objects_drawn, 5), np.uint8),
        object_count=np.zeros(num_rooms, np.uint8),
        reached=np.zeros((num_rooms, options.most_objects_drawn), np.bool_),
        target=np.full(num_rooms, NONE, np.int8),
        instruction=np.zeros((num_rooms, words), np.uint8),
        agent=np.zeros((num_rooms, 3), np.int16),
        elapsed=np.zeros(num_rooms, np.int16),
        episode=np.zeros(num_rooms, np.int64),
        seed=np.zeros(num_rooms, np.int64),
    )


def built(options: RoomsOptions, seeds: NDArray[np.int64]) -> World:
    """Build the first house of each seed [B]."""
    world = empty_world(len(seeds), options)
    world.seed[:] = seeds
    rules, absent, words = rules_of(options), absent_kinds(options), words_of(options)
    for room in range(len(seeds)):
        generate(world, room, rules, absent, words)
    return world


@numba.njit(cache=True)
def generate(
    world: World, room: int, rules: Rules, absent: NDArray[np.bool_], words: NDArray[np.uint8]
) -> None:
    """Build house number `room` of the world as its seed and episode say, in place.

    `absent` is what `absent_kinds` gives, `words` what `words_of` does.
    """
    state = mix(world.seed[room], world.episode[room])
    width = world.cells.shape[2]
    cells = world.cells[room].reshape(-1, CHANNELS)
    state = build_walls(cells, width, rules, state)
    count = rules.fewest
    if rules.most > rules.fewest:
        more, state = below(state, rules.most - rules.fewest + 1)
        count += int(more)
    places, state = _choose_places(cells, width, count, state)
    state = _fill_places(world, room, cells, width, places, rules, absent, state)
    state = _place_agent(world, room, cells, width, state)
    if rules.go_to:
        state = instruct(world, room, rules, absent.shape[1], words, state)
    if rules.doors:
        close_doors(cells)
    world.seen_at[room] = NEVER
    world.reached[room] = False
    world.elapsed[room] = 0
    if rules.stagger and world.episode[room] == 0:
        phase, state = below(state, rules.episode_length)
        world.elapsed[room] = phase


@numba.njit(cache=True)
def _choose_places(
    cells: NDArray[np.uint8], width: int, count: int, state: np.uint64
) -> tuple[NDArray[np.int64], np.uint64]:
    """Choose `count` positions for objects and mark them in the cells."""
    order = _places_for_objects(cells, width)
    places, state = _place_in_turn(cells, width, count, order, True, state)
    if len(places) < count:
        cells[places, WHAT] = FLOOR
        order = _places_for_objects(cells, width)
        places, state = _place_in_turn(cells, width, count, order, False, state)
        if len(places) < count:
            raise ValueError("this house cannot hold so many objects")
    return places, state


@numba.njit(cache=True)
def _places_for_objects(cells: NDArray[np.uint8], width: int) -> NDArray[np.int64]:
    """Give the positions that may hold an object, row by row."""
    places = np.empty(len(cells), np.int64)
    count = 0
    for position in range(len(cells)):
        if cells[position, WHAT] == FLOOR and may_hold_object(cells, width, position):
            places[count] = position
            count += 1
    return places[:count]


@numba.njit(cache=True)
def _place_in_turn(
    cells: NDArray[np.uint8],
    width: int,
    count: int,
    order: NDArray[np.int64],
    shuffled: bool,
    state: np.uint64,
) -> tuple[NDArray[np.int64], np.uint64]:
    """Mark up to `count` cells, taken in order or shuffled, that can hold an object."""
    places = np.empty(count, np.int64)
    placed = 0
    flooded_by = np.full(len(cells), -1, np.int64)
    queue = np.empty(len(cells), np.int64)
    for turn in range(len(order)):
        if placed == count:
            break
        if shuffled:
            other, state = below(state, len(order) - turn)
            order[turn], order[turn + other] = order[turn + other], order[turn]
        position = order[turn]
        cells[position, WHAT] = FIRST_SHAPE
        if _stays_whole(cells, width, position, flooded_by, queue, turn):
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
    flooded_by: NDArray[np.int64],
    queue: NDArray[np.int64],
    flood: int,
) -> bool:
    """Tell whether an object just put at `position` leaves its room in one piece.

    That is: it and its neighbouring objects each touch a free cell, and the free cells, which were
    connected before, still are. Mostly a look at the cells around says so; else they are flooded
    from one beside `position`, until all others beside it are reached. `flooded_by` remembers the
    last flood that reached a cell, so that it need not be cleared between floods.
    """
    start = _free_neighbour(cells, width, position)
    if start < 0:
        return False
    for step in (1, width, -1, -width):
        neighbour = position + step
        if cells[neighbour, WHAT] >= FIRST_SHAPE and _free_neighbour(cells, width, neighbour) < 0:
            return False
    if _neighbours_are_joined(cells, width, position):
        return True
    queue[0] = start
    flooded_by[start] = flood
    head, tail, missing = 0, 1, -1
    for step in (1, width, -1, -width):
        missing += cells[position + step, WHAT] == FLOOR
    while head < tail and missing > 0:
        for step in (1, width, -1, -width):
            neighbour = queue[head] + step
            if cells[neighbour, WHAT] == FLOOR and flooded_by[neighbour] != flood:
                flooded_by[neighbour] = flood
                queue[tail] = neighbour
                tail += 1
                distance = abs(neighbour - position)
                missing -= (distance == 1) | (distance == width)
        head += 1
    return missing == 0


@numba.njit(cache=True, inline="always")
def _neighbours_are_joined(cells: NDArray[np.uint8], width: int, position: int) -> bool:
    """Tell whether the free cells beside this one are joined by the free cells at its corners: then
    whoever went through it can go around it."""
    free, joined = 0, 0
    ahead, right = 1, width
    for _ in range(4):
        if cells[position + ahead, WHAT] == FLOOR:
            free += 1
            at_corner = cells[position + ahead + right, WHAT] == FLOOR
            joined += at_corner and cells[position + right, WHAT] == FLOOR
        ahead, right = right, -ahead
    return joined >= free - 1


@numba.njit(cache=True, inline="always")
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
    rules: Rules,
    absent: NDArray[np.bool_],
    state: np.uint64,
) -> np.uint64:
    """Put an object on every place, of uniform kind and of uniform size.

    With an instruction to follow, one of them is the target, and no other one is like it.
    """
    objects = world.objects[room]
    objects[:] = 0
    world.object_count[room] = len(places)
    target = NONE
    if rules.go_to:
        drawn, state = below(state, len(places))
        target = int(drawn)
        state = _draw_object(objects[target], absent, rules.sizes, state)
    world.target[room] = target
    for number, position in enumerate(places):
        if number != target:
            state = _draw_object(objects[number], absent, rules.sizes, state)
            while target != NONE and _are_alike(objects[number], objects[target]):
                state = _draw_object(objects[number], absent, rules.sizes, state)
        objects[number, ROW] = position // width
        objects[number, COLUMN] = position % width
        cells[position, WHAT] = FIRST_SHAPE + objects[number, OBJECT_SHAPE]
        cells[position, COLOUR] = objects[number, OBJECT_COLOUR] + 1
        cells[position, SIZE] = objects[number, OBJECT_SIZE] + 1
    return state


@numba.njit(cache=True)
def _draw_object(
    item: NDArray[np.uint8], absent: NDArray[np.bool_], sizes: int, state: np.uint64
) -> np.uint64:
    """Make an object of uniform kind and of uniform size."""
    shape, colour, state = draw_kind(absent, state)
    size, state = below(state, sizes)
    item[OBJECT_SHAPE], item[OBJECT_COLOUR], item[OBJECT_SIZE] = shape, colour, size
    return state


@numba.njit(cache=True)
def _are_alike(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Tell whether two objects are of the same shape, colour and size."""
    return bool(
        one[OBJECT_SHAPE] == other[OBJECT_SHAPE]
        and one[OBJECT_COLOUR] == other[OBJECT_COLOUR]
        and one[OBJECT_SIZE] == other[OBJECT_SIZE]
    )


@numba.njit(cache=True)
def draw_kind(absent: NDArray[np.bool_], state: np.uint64) -> tuple[np.int64, np.int64, np.uint64]:
    """Draw a shape and a colour, uniform among the combinations that are not absent."""
    while True:
        shape, state = below(state, absent.shape[0])
        colour, state = below(state, absent.shape[1])
        if not absent[shape, colour]:
            return shape, colour, state


@numba.njit(cache=True)
def cells_to_start_from(cells: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Give the positions among cells [H * W, 3] where an agent may start: floor, no doorway."""
    places = np.empty(len(cells), np.int64)
    count = 0
    for position in range(len(cells)):
        places[count] = position
        count += (cells[position, WHAT] == FLOOR) & (cells[position, SIZE] != DOORWAY)
    return places[:count]


@numba.njit(cache=True)
def _place_agent(
    world: World, room: int, cells: NDArray[np.uint8], width: int, state: np.uint64
) -> np.uint64:
    """Put the agent on a uniformly random cell and let it face a uniformly random direction."""
    free = cells_to_start_from(cells)
    choice, state = below(state, len(free))
    direction, state = below(state, 4)
    world.agent[room, 0] = free[choice] // width
    world.agent[room, 1] = free[choice] % width
    world.agent[room, 2] = direction
    return state
