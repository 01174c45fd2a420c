"""How fast this machine is."""

import dataclasses
import time
from contextlib import closing
from typing import NamedTuple

import numpy as np
import torch

from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.training.config import TrainConfig
from groundling.training.loop import Training, computing
from groundling.training.progress import progress
from groundling.training.run import resolve_device

WARM_UP = 3
"""Updates before the clock starts: kernels are compiled, memory is taken."""


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


class Pace(NamedTuple):
    """How fast a run trains."""

    frames_per_second: float
    """Environment steps walked and learned from."""
    walking: float
    """Share of the time for the next unroll: walking, or waiting for workers."""
    updates: int
    """Of which this is the mean."""


def training_pace(config: TrainConfig, *, seconds: float = 10.0) -> Pace:
    """Frames per second of a run's own loop, which nothing is written of.

    Args:
        config: of the run; its frames are not the limit.
        seconds: of wall-clock time to measure for, after a warm-up of a few updates; at least one
            update is measured.

    Raises:
        UserError: something in the configuration cannot be done here.
    """
    device = resolve_device(config.device)

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    with (
        computing(config),
        closing(Training(config, device)) as training,
        progress("training to be timed", seconds) as advance,
    ):
        training.start(show_progress=False)
        for _ in range(WARM_UP):
            training.learn(training.collect())
        updates, walking, begun = 0, 0.0, clock()
        while (now := clock()) - begun < seconds or not updates:
            unroll = training.collect()
            walking += clock() - now
            training.learn(unroll)
            updates += 1
            advance(clock() - begun)
        taken = clock() - begun
    return Pace(updates * config.frames_per_update / taken, walking / taken, updates)
