"""A scripted explorer: the shortest path to what earns reward next, in the true world.

That is the nearest object not yet reached, or the one that the instruction means. Its return is the
ceiling of a greedy walker who knows the house, and its walk one on which probes of different agents
can be compared.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from groundling.envs.rooms.kernels import FORWARD, INTERACT, LEFT, RIGHT, ahead_of, object_at
from groundling.envs.rooms.world import DOORWAY, FLOOR, NONE, SIZE, WALL, WHAT, World


def explorer_actions(world: World) -> NDArray[np.int64]:
    """Give [B] the next action of a shortest path to the nearest object that earns reward.

    Nearest in actions, turns and the opening of doors included. Of equally short paths one that
    begins with a left turn is taken first, then right, then forward. Raises ValueError if a room
    has no such object.
    """
    actions = np.empty(len(world.agent), np.int64)
    _plan(world, actions)
    return actions


@numba.njit(cache=True)
def _plan(world: World, actions: NDArray[np.int64]) -> None:
    """Write the next action of every room."""
    poses = world.cells.shape[1] * world.cells.shape[2] * 8
    first_action = np.empty(poses, np.int8)
    queue = np.empty(poses, np.int64)
    for room in range(len(actions)):
        actions[room] = _plan_room(world, room, first_action, queue)


@numba.njit(cache=True)
def _plan_room(
    world: World, room: int, first_action: NDArray[np.int8], queue: NDArray[np.int64]
) -> int:
    """Search breadth first over poses; give the first action of the path.

    A pose is a cell, a direction, and whether the door ahead was opened on the way. (No shortest
    path opens a door and goes elsewhere first.) `first_action` [H * W * 8] and `queue` of the same
    length are room for notes.
    """
    width = world.cells.shape[2]
    unknown, none = -2, -1
    first_action[:] = unknown
    row, column, direction = world.agent[room]
    queue[0] = ((row * width + column) * 4 + direction) * 2
    first_action[queue[0]] = none
    head, tail = 0, 1
    while head < tail:
        pose = queue[head]
        head += 1
        cell, direction, opened = pose // 8, pose // 2 % 4, pose % 2
        row, column = ahead_of(cell // width, cell % width, direction)
        if _is_goal(world, room, row, column):
            return FORWARD if first_action[pose] == none else first_action[pose]
        ahead = world.cells[room, row, column]
        for action in (LEFT, RIGHT, FORWARD, INTERACT):
            if action == LEFT:
                following = (cell * 4 + (direction + 3) % 4) * 2
            elif action == RIGHT:
                following = (cell * 4 + (direction + 1) % 4) * 2
            elif action == FORWARD and (opened or ahead[WHAT] == FLOOR):
                following = ((row * width + column) * 4 + direction) * 2
            elif action == INTERACT and ahead[WHAT] == WALL and ahead[SIZE] == DOORWAY:
                following = pose | 1
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
    """Tell whether an object that earns reward stands on a cell."""
    number = object_at(world, room, row, column)
    if world.target[room] != NONE:
        return bool(number == world.target[room])
    return number >= 0 and not world.reached[room, number]
