"""Transition, view and reward: compiled loops over a batch of rooms.

The view is a V × V square seen from above, turned so that the agent looks up from the middle of its
last row. A cell is seen when the straight line from the agent reaches it through cells that are no
wall (a closed door is one). That line passes the ring of cells one step nearer either through one
cell or between two, the cell's parents, so sight spreads outwards: a cell is seen if one of its
parents is seen and is no wall. Walls are seen themselves; objects hide nothing. Behind a wall cells
read 0, 0, 0.

Explore: stepping forward against an object not reached yet gives +1. When the last one has been
reached all count again, the last one too (the refresh of Das et al. 2020, section 3).

Go-to: stepping forward against any object ends the episode, with +1 if it is the one that was
meant.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from groundling.envs.rooms.layout import generate
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.plans import is_doorway
from groundling.envs.rooms.rules import Rules
from groundling.envs.rooms.world import (
    CHANNELS,
    COLOUR,
    COLUMN,
    FLOOR,
    HIDDEN,
    ROW,
    SIZE,
    WALL,
    WHAT,
    World,
)

LEFT, RIGHT, FORWARD, INTERACT = 0, 1, 2, 3
"""Actions. Interact opens or closes the door ahead; without one it does nothing."""
ACTIONS = 4

# An index that is unsigned: numba does not ask whether it counts from the end.
_at = np.uint64

# The fields of a World, Rules or Sight in a plain tuple. Kernels that Python calls take these:
# numba needs 2 µs longer to unpack a NamedTuple, which is a tenth of a step of 64 rooms.
Arrays = tuple[NDArray[Any], ...]
Numbers = tuple[int, ...]


def cells_in_view(world: World, options: RoomsOptions) -> NDArray[np.int64]:
    """Give [B, V * V]: which cell of the grid each view cell shows, counted row by row, or -1 where
    the view reaches beyond the grid."""
    V, (rows, columns) = options.view_size, world.cells.shape[1:3]
    ahead = V - 1 - np.repeat(np.arange(V), V)
    aside = np.tile(np.arange(V), V) - V // 2
    row, column, direction = world.agent.astype(np.int64).T[..., None]
    down = np.choose(direction, [aside, ahead, -aside, -ahead]) + row
    right = np.choose(direction, [ahead, -aside, -ahead, aside]) + column
    inside = (down >= 0) & (down < rows) & (right >= 0) & (right < columns)
    return np.where(inside, down * columns + right, -1)


class Sight(NamedTuple):
    """Tables of a V × V view. View cells are numbered row by row, row 0 the farthest."""

    order: NDArray[np.int64]
    """[V * V, 3]: a view cell and the rows of its two parents, nearer cells first; the agent's own
    is row 0."""
    offsets: NDArray[np.int64]
    """[4, V * V]: by direction and row of `order`, how far from the agent the view cell lies in
    the flat grid."""


def sight_of(options: RoomsOptions) -> Sight:
    """Build the tables for the options' view and grid."""
    V, width = options.view_size, options.grid_shape[1]
    ahead = V - 1 - np.repeat(np.arange(V), V)
    aside = np.tile(np.arange(V), V) - V // 2
    # Directions east, south, west, north: (rows, columns) of a step ahead and of one to the right.
    step_ahead = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
    step_right = np.roll(step_ahead, -1, axis=0)
    flat = np.array([width, 1])
    offsets = np.outer(step_ahead @ flat, ahead) + np.outer(step_right @ flat, aside)
    order = _order_of_sight(ahead, aside, V)
    return Sight(order, np.ascontiguousarray(offsets[:, order[:, 0]]))


def _order_of_sight(
    ahead: NDArray[np.int64], aside: NDArray[np.int64], V: int
) -> NDArray[np.int64]:
    """Give [V * V, 3]: each view cell after its parents, as `Sight.order` says."""
    distance = np.maximum(np.abs(ahead), np.abs(aside))
    nearer = np.maximum(distance - 1, 0)
    # Where the line from the agent crosses the nearer ring, in whole numbers: a multiple of 1 /
    # distance. On the dominant axis floor and ceiling agree; so they do for cells in line.
    scale = np.maximum(distance, 1)
    low_ahead, high_ahead = ahead * nearer // scale, -(-ahead * nearer // scale)
    low_aside, high_aside = aside * nearer // scale, -(-aside * nearer // scale)
    cell = np.arange(V * V)
    first = (V - 1 - low_ahead) * V + low_aside + V // 2
    second = (V - 1 - high_ahead) * V + high_aside + V // 2
    nearest_first = np.argsort(distance, kind="stable")
    turn = np.argsort(nearest_first)
    return np.stack([cell, turn[first], turn[second]], axis=1)[nearest_first]


class Outcome(NamedTuple):
    """What a step of B rooms writes."""

    views: NDArray[np.uint8]
    """[B, V, V, 3]: what every agent sees now."""
    rewards: NDArray[np.float64]
    """[B]."""
    terminations: NDArray[np.bool_]
    """[B]: the task is over."""
    truncations: NDArray[np.bool_]
    """[B]: time is over, and the task is not."""
    directions: NDArray[np.int64]
    """[B]: where every agent looks now."""
    final_views: NDArray[np.uint8]
    """[B, V, V, 3]: with autoreset, the last view of episodes that ended."""
    final_directions: NDArray[np.int64]
    """[B]: and where the agent looked."""
    final_instructions: NDArray[np.uint8]
    """[B, L]: and what it was told to do."""


@numba.njit(cache=True)
def step_rooms(
    arrays: Arrays,
    numbers: Numbers,
    absent: NDArray[np.bool_],
    words: NDArray[np.uint8],
    tables: Arrays,
    actions: NDArray[np.int64],
    autoreset: bool,
    written: Arrays,
) -> int:
    """Take one step in every room, in place, and give the number of episodes that ended.

    `arrays`, `numbers`, `tables` and `written` are the fields of a World, of Rules, of Sight and of
    an Outcome; `absent` and `words` are what `absent_kinds` and `words_of` give. Actions [B] are
    0 … 3; raises ValueError, before anything has changed, if one is not. With `autoreset` a room
    whose episode ended begins its next: then `views` has the new episode's first view.
    """
    for action in actions:
        if action < 0 or action >= ACTIONS:
            raise ValueError("an action is not in 0 … 3")
    world, rules, sight, outcome = (
        World(*arrays),
        Rules(*numbers),
        Sight(*tables),
        Outcome(*written),
    )
    _act(world, rules, actions, outcome)
    look(world, sight, np.arange(len(actions)), outcome.views)
    ended = _rooms_where_either(outcome.terminations, outcome.truncations)
    if autoreset and len(ended) > 0:
        for room in ended:
            outcome.final_views[room] = outcome.views[room]
            outcome.final_directions[room] = world.agent[room, 2]
            outcome.final_instructions[room] = world.instruction[room]
            world.episode[room] += 1
            generate(world, int(room), rules, absent, words)
        look(world, sight, ended, outcome.views)
    outcome.directions[:] = world.agent[:, 2]
    return len(ended)


@numba.njit(cache=True)
def _rooms_where_either(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Give the rooms where at least one of two flags [B] is set. (`flatnonzero` takes 1 µs.)"""
    rooms = np.empty(len(one), np.int64)
    count = 0
    for room in range(len(one)):
        rooms[count] = room
        count += one[room] | other[room]
    return rooms[:count]


@numba.njit(cache=True)
def begin_rooms(
    arrays: Arrays,
    numbers: Numbers,
    absent: NDArray[np.bool_],
    words: NDArray[np.uint8],
    chosen: NDArray[np.bool_],
) -> None:
    """Build the chosen [B] rooms as their seed and episode say, in place."""
    world, rules = World(*arrays), Rules(*numbers)
    for room in range(len(chosen)):
        if chosen[room]:
            generate(world, room, rules, absent, words)


@numba.njit(cache=True)
def look_around(arrays: Arrays, tables: Arrays, views: NDArray[np.uint8]) -> None:
    """Write what every agent sees now into views [B, V, V, 3], and note it in `seen_at`."""
    look(World(*arrays), Sight(*tables), np.arange(len(views)), views)


@numba.njit(cache=True)
def _act(world: World, rules: Rules, actions: NDArray[np.int64], outcome: Outcome) -> None:
    """Act in every room: write rewards, terminations and truncations."""
    # Handed over one by one: numba counts references to every array of a tuple that it hands over
    # or takes apart, which took three times as long as the act itself.
    agent, cells, elapsed = world.agent, world.cells, world.elapsed
    rewards, terminations = outcome.rewards, outcome.terminations
    truncations = outcome.truncations
    for room in range(len(actions)):
        rewards[room], terminations[room] = 0.0, False
        if walk(agent, cells, room, rules.doors, actions[room]):
            rewards[room], terminations[room] = meet(world, room, rules.go_to)
        elapsed[room] += 1
        truncations[room] = elapsed[room] >= rules.episode_length and not terminations[room]


@numba.njit(cache=True, inline="always")
def walk(
    agent: NDArray[np.int16], cells: NDArray[np.uint8], room: int, doors: int, action: int
) -> bool:
    """Turn, walk, or move a door; tell whether something stood in the way that is no wall."""
    # One course for all actions: which one it is cannot be foreseen, and a branch taken by mistake
    # costs as much as all of this.
    direction = (agent[room, 2] + (action == RIGHT) - (action == LEFT)) & 3
    agent[room, 2] = direction
    here, there = agent[room, 0], agent[room, 1]
    row, column = ahead_of(here, there, direction)
    what, size = cells[room, row, column, WHAT], cells[room, row, column, SIZE]
    walks = (action == FORWARD) & (what == FLOOR)
    agent[room, 0], agent[room, 1] = row if walks else here, column if walks else there
    if (action == INTERACT) & (doors != 0) & is_doorway(what, size):
        cells[room, row, column, WHAT] = WALL if what == FLOOR else FLOOR
    return bool((action == FORWARD) & (what > WALL))


@numba.njit(cache=True)
def meet(world: World, room: int, go_to: int) -> tuple[float, bool]:
    """Give what walking against the object ahead earns, and whether the task is over."""
    row, column = ahead_of(world.agent[room, 0], world.agent[room, 1], world.agent[room, 2])
    number = object_at(world, room, row, column)
    if go_to:
        return (1.0 if number == world.target[room] else 0.0), True
    return reach(world.reached[room, : world.object_count[room]], number), False


@numba.njit(cache=True, inline="always")
def ahead_of(row: int, column: int, direction: int) -> tuple[int, int]:
    """Give the row and column of the cell one step ahead."""
    down, right = (direction == 1) - (direction == 3), (direction == 0) - (direction == 2)
    return row + down, column + right


@numba.njit(cache=True)
def object_at(world: World, room: int, row: int, column: int) -> int:
    """Give the number of the object that stands on a cell, or -1."""
    for number in range(
        np.int64(world.object_count[room])
    ):  # numba would unify uint8 and -1 to float
        thing = world.objects[room, number]
        if thing[ROW] == row and thing[COLUMN] == column:
            return number
    return -1


@numba.njit(cache=True)
def reach(reached: NDArray[np.bool_], number: int) -> float:
    """Mark an object as reached, refresh if it was the last; give the reward."""
    if reached[number]:
        return 0.0
    reached[number] = True
    if np.all(reached):
        reached[:] = False
    return 1.0


@numba.njit(cache=True)
def look(world: World, sight: Sight, rooms: NDArray[np.int64], views: NDArray[np.uint8]) -> None:
    """Write what the agents of these rooms see into their views, and note it in `seen_at`."""
    # All arrays are read by one number: to find a cell by room, row and column takes longer than
    # what is done with it.
    cells, seen_at, flat_views = _flat(world.cells), _flat(world.seen_at), _flat(views)
    agent, elapsed = _flat(world.agent), world.elapsed
    order, offsets, area = _flat(sight.order), _flat(sight.offsets), len(sight.order)
    height, width = world.cells.shape[1:3]
    transparent = np.empty(area, np.uint8)  # seen, and seen through
    for room in rooms:
        row, column, direction = agent[3 * room], agent[3 * room + 1], agent[3 * room + 2]
        here, now = (room * height + row) * width + column, elapsed[room]
        first = room * area
        for byte in range(CHANNELS * first, CHANNELS * (first + area)):
            flat_views[_at(byte)] = HIDDEN
        transparent[0] = True  # the agent's own cell is its own parent
        for turn in range(area):
            one, other = order[_at(3 * turn + 1)], order[_at(3 * turn + 2)]
            if not (transparent[_at(one)] | transparent[_at(other)]):
                transparent[_at(turn)] = False
                continue
            position = here + offsets[_at(direction * area + turn)]
            source, sink = CHANNELS * position, CHANNELS * (first + order[_at(3 * turn)])
            what = cells[_at(source)]
            transparent[_at(turn)] = what != WALL
            flat_views[_at(sink)] = what
            flat_views[_at(sink + COLOUR)] = cells[_at(source + COLOUR)]
            flat_views[_at(sink + SIZE)] = cells[_at(source + SIZE)]
            seen_at[_at(position)] = now


@numba.njit(cache=True, inline="always")
def _flat(array: NDArray[Any]) -> NDArray[Any]:
    """Give the same memory as one row."""
    return array.reshape(-1)
