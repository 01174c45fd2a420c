"""What workers cost and bring: beside the in-process loop, from one to two, and for each unroll.

    python tests/perf/bench_workers.py [--preset know-small-none] [--rounds 5] [--updates 40]

Needs two cores and nothing beside it. In turns, round by round, so that whatever else the machine
does hits all of them; the figures are medians over rounds:

- frames per second of training on two cores: in this process (two threads), and with one worker;
- frames per second of one and of two workers that nobody learns from, one core each;
- what the way of an unroll from a worker to the learner takes: into shared memory, out of it, and
  into tensors. A learner has no time for more unrolls than that leaves.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from statistics import median

import torch

from groundling.training.cluster import cluster
from groundling.training.config import RolloutConfig, TrainConfig
from groundling.training.loop import Training
from groundling.training.presets import preset
from groundling.training.remote import put
from groundling.training.worker import to_arrays, to_tensors

CPU = torch.device("cpu")

Round = Callable[[], float]
"""Runs once, and returns frames per second."""


def with_workers(config: TrainConfig, workers: int) -> TrainConfig:
    """The same run, walked by so many workers."""
    return dataclasses.replace(config, rollout=RolloutConfig(workers=workers))


@contextmanager
def started(config: TrainConfig) -> Iterator[Training]:
    """A run that is ready, with whoever walks for it."""
    with closing(Training(config, CPU)) as training:
        training.start(show_progress=False)
        yield training


def learning(config: TrainConfig, updates: int) -> float:
    """Frames per second of acting and learning."""
    torch.set_num_threads(1 if config.rollout.workers else 2)
    with started(config) as training:
        return rate(training, updates, learn=True)


def walking(config: TrainConfig, updates: int) -> float:
    """Frames per second of workers alone."""
    torch.set_num_threads(1)
    with started(config) as training:
        return rate(training, updates * config.rollout.workers, learn=False)


def rate(training: Training, updates: int, *, learn: bool) -> float:
    """Frames per second over so many unrolls, after a few that are not timed."""
    config = training.config
    for number in range(-8, updates):
        if number == 0:
            begun = time.perf_counter()
        version = training.learner.updates
        unroll = training.actor.collect(config.learner.unroll_length, policy_version=version)
        if learn:
            training.learner.step(unroll)
    return updates * config.frames_per_update / (time.perf_counter() - begun)


def transport(config: TrainConfig, times: int = 200) -> float:
    """Seconds that one unroll spends on its way."""
    import ray

    torch.set_num_threads(1)
    with started(config) as training:
        unroll = training.actor.collect(config.learner.unroll_length)
    with cluster():
        taken = []
        for _ in range(times):
            begun = time.perf_counter()
            to_tensors(ray.get(put(to_arrays(unroll))), CPU)
            taken.append(time.perf_counter() - begun)
    return median(taken)


def main() -> None:
    """Prints the three comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="know-small-none")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=40)
    flags = parser.parse_args()
    config = preset(flags.preset)
    config = dataclasses.replace(config, probe=dataclasses.replace(config.probe, online=False))
    found: dict[str, list[float]] = {"in process": [], "one worker": [], "1": [], "2": []}
    with cluster():  # Started once; what begins inside uses it.
        for _ in range(flags.rounds):
            found["in process"].append(learning(config, flags.updates))
            found["one worker"].append(learning(with_workers(config, 1), flags.updates))
            for workers in (1, 2):
                found[str(workers)].append(walking(with_workers(config, workers), flags.updates))
    middle = {name: median(figures) for name, figures in found.items()}
    beside = median(b / a for a, b in zip(found["in process"], found["one worker"], strict=True))
    scaled = median(b / a for a, b in zip(found["1"], found["2"], strict=True))
    print(f"training in this process, 2 threads: {middle['in process']:,.0f} frames/s")
    print(
        f"training with one worker:            {middle['one worker']:,.0f} frames/s, × {beside:.2f}"
    )
    print(f"one worker alone:                    {middle['1']:,.0f} frames/s")
    print(f"two workers alone:                   {middle['2']:,.0f} frames/s, × {scaled:.2f}")
    seconds = transport(config)
    frames = config.frames_per_update / seconds
    print(f"an unroll on its way: {1e3 * seconds:.2f} ms, {frames:,.0f} frames/s at most")


if __name__ == "__main__":
    main()
