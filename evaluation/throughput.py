"""How fast this machine is."""

import dataclasses
import time

import numpy as np

from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.vector import RoomsVectorEnv


def environment_steps_per_second(
    rooms: RoomsOptions, *, num_envs: int, seconds: float = 3.0
) -> float:
    """Steps per second of the rooms under random actions, autoreset and observations included.

    Args:
        rooms: which world.
        num_envs: stepped together.
        seconds: of wall-clock time to measure for, after compilation.
    """
    environment = RoomsVectorEnv(num_envs, **dataclasses.asdict(rooms))
    actions = np.random.default_rng(0).integers(4, size=(256, num_envs))
    environment.reset(seed=0)
    environment.step(actions[0])
    steps = 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        for action in actions:
            environment.step(action)
        steps += actions.size
    return steps / (time.perf_counter() - started)
