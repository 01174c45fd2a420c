from collections import deque

import numpy as np
import pytest

from groundling.envs.rooms.explorer import explorer_actions
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.envs.rooms.world import FLOOR, WHAT

from .reference import AHEAD, ReferenceRoom

HOUSE = {"layout": "l_shape", "size": 7, "objects": 6}


def steps_to_nearest(room: ReferenceRoom) -> int:
    """Give the length of a shortest path to a reward: the oracle, breadth first in Python."""
    start = room.row, room.column, room.direction
    distance, queue = {start: 0}, deque([start])
    while queue:
        row, column, direction = pose = queue.popleft()
        ahead = row + AHEAD[direction][0], column + AHEAD[direction][1]
        if ahead in room.unreached:
            return distance[pose] + 1
        following = [(row, column, (direction + turn) % 4) for turn in (1, 3)]
        if room.cells[ahead][WHAT] == FLOOR:
            following.append((*ahead, direction))
        for other in following:
            if other not in distance:
                distance[other] = distance[pose] + 1
                queue.append(other)
    raise AssertionError("nothing to reach")


def test_it_never_wastes_a_step():
    """Every action brings the nearest reward one step nearer, until it is there."""
    B, steps = 40, 60
    env = RoomsVectorEnv(B, episode_length=steps + 1, **HOUSE)
    env.reset(seed=0)
    rooms = [ReferenceRoom(env.world, room) for room in range(B)]
    due = [steps_to_nearest(room) for room in rooms]
    for _ in range(steps):
        actions = env.explorer_actions()
        _, rewards, *_ = env.step(actions)
        for room, reference in enumerate(rooms):
            reference.step(int(actions[room]))
            assert rewards[room] == (due[room] == 1)
            due[room] = steps_to_nearest(reference) if due[room] == 1 else due[room] - 1
            assert due[room] == steps_to_nearest(reference)


def test_it_reaches_every_object():
    env = RoomsVectorEnv(100, episode_length=1000, **HOUSE)
    env.reset(seed=0)
    refreshed = np.zeros(100, bool)
    total = np.zeros(100)
    for _ in range(150):
        total += env.step(env.explorer_actions())[1]
        refreshed |= (total >= 6) & ~env.world.reached.all(axis=1)
    assert refreshed.all()


def test_it_earns_several_times_what_chance_earns():
    def mean_return(choose) -> float:
        env = RoomsVectorEnv(200)
        env.reset(seed=0)
        return float(np.mean(sum(env.step(choose(env))[1] for _ in range(64))))

    generator = np.random.default_rng(0)
    chance = mean_return(lambda env: generator.integers(0, 4, 200))
    assert mean_return(lambda env: env.explorer_actions()) > 5 * chance > 0


def test_with_nothing_to_reach_it_says_so():
    env = RoomsVectorEnv(2)
    env.reset(seed=0)
    env.world.reached[1] = True
    with pytest.raises(ValueError, match="no object is left to reach"):
        explorer_actions(env.world)
