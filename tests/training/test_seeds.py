"""Which rooms are met: none by two purposes or two runs, the same whatever the batch."""

import numpy as np
import pytest
import torch

from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.training.loop import Training
from groundling.training.seeds import PROTOCOL, PURPOSES, environment_seed

# So many different rooms that no two are equal by chance.
LARGE = {"size": 7, "objects": 8, "shapes": 24, "colours": 12, "sizes": 2, "episode_length": 4}
RUN_SEEDS = (0, 1, 2, 2**40, PROTOCOL)


def rooms_of(environment):
    """What stands where, and where the agent is: one entry per room."""
    world = environment.unwrapped.world
    return [
        world.cells[i].tobytes() + world.agent[i].tobytes() for i in range(environment.num_envs)
    ]


def walk(seed, num_envs, episodes, **options):
    """[episode][environment]: the rooms met; every step is the same action."""
    environment = RoomsVectorEnv(num_envs, **(LARGE | options))
    environment.reset(seed=seed)
    met = [rooms_of(environment)]
    while len(met) < episodes:
        *_, truncated, _ = environment.step(np.zeros(num_envs, np.int64))
        if truncated.all():
            met.append(rooms_of(environment))
    return met


def test_no_room_is_met_for_two_purposes_or_by_two_runs():
    seeds = [environment_seed(purpose) for purpose in PURPOSES]
    seeds += [environment_seed(purpose, run) for purpose in PURPOSES for run in RUN_SEEDS]
    met = [room for seed in seeds for episode in walk(seed, 8, 3) for room in episode]
    assert len(met) == len(seeds) * 24
    assert len(set(met)) == len(met)


def test_the_same_purpose_and_run_meet_the_same_rooms_again():
    assert walk(environment_seed("train", 1), 4, 3) == walk(environment_seed("train", 1), 4, 3)
    assert environment_seed("probe-test") == environment_seed("probe-test")


def test_seeds_are_what_an_environment_can_store_with_room_to_count_up():
    seeds = [environment_seed(purpose, run) for purpose in PURPOSES for run in range(200)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 - 10**6 for seed in seeds)
    gaps = np.diff(sorted(seeds))
    assert gaps.min() > 10**6  # environment i adds i: bases must lie far apart


@pytest.mark.parametrize("stagger", [False, True])
def test_episodes_are_the_same_whatever_the_number_of_environments(stagger):
    """Environment i of seed s is the environment 0 of seed s + i, in any batch."""
    seed = environment_seed("train", 3)
    many = rooms_by_episode(seed, 5, stagger)
    for number in (1, 2):
        assert rooms_by_episode(seed, number, stagger) == many[:number]
    assert rooms_by_episode(seed + 2, 1, stagger) == many[2:3]


def rooms_by_episode(seed, num_envs, stagger):
    """[environment][episode]: the rooms met in 12 steps, whenever episodes end."""
    environment = RoomsVectorEnv(num_envs, **LARGE, stagger=stagger)
    environment.reset(seed=seed)
    met = [[room] for room in rooms_of(environment)]
    for _ in range(12):
        *_, truncated, _ = environment.step(np.zeros(num_envs, np.int64))
        for i in np.flatnonzero(truncated):
            met[i].append(rooms_of(environment)[i])
    return met


def rooms_of_run(small_config, seed, num_envs):
    config = small_config(seed=seed, rooms=LARGE | {"view_size": 3}, env={"num_envs": num_envs})
    return rooms_of(Training(config, torch.device("cpu")).actor.environment)


def test_a_run_trains_in_the_rooms_of_its_seed(small_config):
    zero, one = (rooms_of_run(small_config, seed, 4) for seed in (0, 1))
    assert not set(zero) & set(one)
    assert rooms_of_run(small_config, 0, 4) == zero
    environment = RoomsVectorEnv(4, **LARGE | {"view_size": 3})
    environment.reset(seed=environment_seed("train", 0))
    assert rooms_of(environment) == zero
