"""A scripted explorer: the shortest path to the nearest object not yet reached, in the true world.

It is the ceiling of the explore task's return that a greedy walker reaches who knows the room, and
the walk on which probes of different agents can be compared.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from groundling.envs.rooms.kernels import FORWARD, LEFT, RIGHT, ahead_of, object_at
from groundling.envs.rooms.world import FLOOR, WHAT, World


def explorer_actions(world: World) -> NDArray[np.int64]:
    """Give [B] the next action of a shortest path to the nearest object not yet reached.

    Nearest in actions, turns included. Of equally short paths one that begins with a left turn is
    taken first, then right, then forward. Raises ValueError if a room has no such object.
    """
    actions = np.empty(len(world.agent), np.int64)
    _plan(world, actions)
    return actions


@numba.njit(cache=True)
def _plan(world: World, actions: NDArray[np.int64]) -> None:
    """Write the next action of every room."""
    poses = world.cells.shape[1] * world.cells.shape[2] * 4
    first_action = np.empty(poses, np.int8)
    queue = np.empty(poses, np.int64)
    for room in range(len(actions)):
        actions[room] = _plan_room(world, room, first_action, queue)


@numba.njit(cache=True)
def _plan_room(
    world: World, room: int, first_action: NDArray[np.int8], queue: NDArray[np.int64]
) -> int:
    """Search breadth first over poses (cell, direction); give the first action of the path.

    `first_action` [H * W * 4] and `queue` of the same length are room for notes.
    """
    width = world.cells.shape[2]
    unknown, none = -2, -1
    first_action[:] = unknown
    row, column, direction = world.agent[room]
    queue[0] = (row * width + column) * 4 + direction
    first_action[queue[0]] = none
    head, tail = 0, 1
    while head < tail:
        pose = queue[head]
        head += 1
        cell, direction = pose // 4, pose % 4
        row, column = ahead_of(cell // width, cell % width, direction)
        if _is_goal(world, room, row, column):
            return FORWARD if first_action[pose] == none else first_action[pose]
        for action in (LEFT, RIGHT, FORWARD):
            if action == LEFT:
                following = cell * 4 + (direction + 3) % 4
            elif action == RIGHT:
                following = cell * 4 + (direction + 1) % 4
            elif world.cells[room, row, column, WHAT] == FLOOR:
                following = (row * width + column) * 4 + direction
            else:
                continue
            if first_action[following] == unknown:
                first = action if first_action[pose] == none else first_action[pose]
                first_action[following] = first
                queue[tail] = following
                tail += 1
    raise ValueError("no object is left to reach")


@numba.njit(cache=True)
def _is_goal(world: World, room: int, row: int, column: int) -> bool:
    """Tell whether an object not yet reached stands on a cell."""
    number = object_at(world, room, row, column)
    return number >= 0 and not world.reached[room, number]
