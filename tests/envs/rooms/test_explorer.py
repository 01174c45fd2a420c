from collections import deque

import numpy as np
import pytest

from groundling.envs.rooms.explorer import explorer_actions
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.envs.rooms.world import FLOOR, WHAT

from .reference import AHEAD, ReferenceRoom

HOUSE = {"layout": "l_shape", "size": 7, "objects": 6}
HOUSES = [
    HOUSE,
    {"layout": "two_rooms", "size": (3, 5), "objects": 4},
    {"layout": "four_rooms", "size": 3, "objects": 5, "doors": True},
    {"layout": "corridor", "corridor_rooms": 3, "size": 3, "objects": 4, "doors": True},
    {"layout": "four_rooms", "size": 3, "objects": 5, "doors": True, "task": "go_to"},
]


def steps_to_nearest(room: ReferenceRoom) -> int:
    """Give the length of a shortest path to a reward: the oracle, breadth first in Python.

    Which doors stand otherwise than now is part of the state.
    """
    goals = {room.target} if room.target else room.unreached
    start = room.row, room.column, room.direction, frozenset()
    distance, queue = {start: 0}, deque([start])
    while queue:
        row, column, direction, moved = pose = queue.popleft()
        ahead = row + AHEAD[direction][0], column + AHEAD[direction][1]
        if ahead in goals:
            return distance[pose] + 1
        following = [(row, column, (direction + turn) % 4, moved) for turn in (1, 3)]
        if (room.cells[ahead][WHAT] == FLOOR) != (ahead in moved):
            following.append((*ahead, direction, moved))
        if room.doors and room.is_door(ahead):
            following.append((row, column, direction, moved ^ {ahead}))
        for other in following:
            if other not in distance:
                distance[other] = distance[pose] + 1
                queue.append(other)
    raise AssertionError("nothing to reach")


@pytest.mark.parametrize("house", HOUSES)
def test_it_never_wastes_a_step(house):
    """Every action brings the nearest reward one step nearer, until it is there."""
    B, steps = 12, 40
    env = RoomsVectorEnv(B, episode_length=500, **house)
    env.reset(seed=0)
    rooms = [ReferenceRoom(env.world, room, doors=env.rooms.doors) for room in range(B)]
    due = [steps_to_nearest(room) for room in rooms]
    for _ in range(steps):
        actions = env.explorer_actions()
        _, rewards, terminations, *_ = env.step(actions)
        for room, reference in enumerate(rooms):
            if reference.over:
                continue
            reference.step(int(actions[room]))
            assert rewards[room] == (due[room] == 1)
            assert terminations[room] == reference.over
            if not reference.over:
                due[room] = steps_to_nearest(reference) if due[room] == 1 else due[room] - 1
                assert due[room] == steps_to_nearest(reference)


@pytest.mark.parametrize("layout", ["single", "l_shape", "two_rooms", "four_rooms", "corridor"])
def test_it_covers_every_layout(layout):
    """In the end it has reached everything and seen every cell on which an object stood."""
    house = {"layout": layout, "doors": layout in ("two_rooms", "four_rooms", "corridor")}
    env = RoomsVectorEnv(100, objects=(3, 5), view_size=5, episode_length=2000, **house)
    env.reset(seed=0)
    reached = np.zeros((100, 5), bool)
    for _ in range(400):
        env.step(env.explorer_actions())
        reached |= env.world.reached
    refreshed = np.arange(5) >= env.world.object_count[:, None]
    assert (reached | refreshed).sum() >= 400 - 100  # the last one refreshes all at once
    for room, count in enumerate(env.world.object_count):
        rows, columns = env.world.objects[room, :count, :2].T
        assert (env.world.seen_at[room, rows, columns] >= 0).all()


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
