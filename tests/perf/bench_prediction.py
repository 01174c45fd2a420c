"""What prediction, and the online probe, add to the time of an update.

    python tests/perf/bench_prediction.py [--rounds 7] [--core 0]

All on one core, each in a process of its own, taking turns with the plain agent: each round times
updates of both, and the ratio is the median over rounds. Prediction is that of 6 starts × horizons
1 to 8, all of them at once. Two settings: 256 environments × 64 steps in four rooms with a 7 × 7
view, and `know-small`'s own.
"""

import argparse
import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from pairs import Work, paired

from groundling.agents.config import PredictionConfig
from groundling.envs.rooms.options import RoomsOptions
from groundling.training.config import TrainConfig
from groundling.training.loop import Training, computing
from groundling.training.memory import keep_freed_memory
from groundling.training.presets import preset
from groundling.training.run import resolve_device

HORIZONS = {"starts": 6, "horizons": 8, "first_limit": 8, "last_limit": 8}

ROOMS = RoomsOptions(
    layout="four_rooms", size=5, objects=8, doors=True, view_size=7, episode_length=128
)


def large() -> TrainConfig:
    """256 environments × 64 steps."""
    config = without_probe(preset("know-small-none"))
    return dataclasses.replace(
        config,
        env=dataclasses.replace(config.env, num_envs=256, rooms=ROOMS),
        learner=dataclasses.replace(config.learner, unroll_length=64),
    )


def without_probe(config: TrainConfig) -> TrainConfig:
    """Nothing is asked."""
    return dataclasses.replace(config, probe=dataclasses.replace(config.probe, online=False))


def predicting(config: TrainConfig, **prediction: Any) -> TrainConfig:
    """The same agent with a prediction."""
    agent = dataclasses.replace(config.agent, prediction=PredictionConfig(**prediction))
    return dataclasses.replace(config, agent=agent)


def updates(config: TrainConfig, number: int) -> Work:
    """So many updates of a run that is under way."""
    keep_freed_memory()  # As the command line does.
    ExitStack().enter_context(computing(config))  # Left when the process ends.
    training = Training(config, resolve_device("cpu"))

    def work() -> None:
        for _ in range(number):
            training.learn(training.collect())
        training.actor.finished.clear()

    return work


def comparisons() -> Iterator[tuple[str, TrainConfig, TrainConfig, int, float | None]]:
    """Name, plain run, the other run, updates in a round, bar."""
    small = without_probe(preset("know-small-none"))
    for setting, plain, number, bar in (
        ("large", large(), 1, 1.5),
        ("know-small", small, 40, None),
    ):
        for loss in ("simcore", "cpc"):
            other = predicting(plain, loss=loss, **HORIZONS)
            yield f"{setting}, {loss}", plain, other, number, bar
    yield "know-small, probe", small, preset("know-small-none"), 40, 1.05


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--core", type=int, default=0, help="the core everything runs on")
    flags = parser.parse_args()
    print(f"{'':<24}{'plain/s':>10}{'with/s':>10}{'ratio':>8}{'bar':>6}")
    for name, plain, other, number, bar in comparisons():
        makes = (partial(updates, config, number) for config in (plain, other))
        pair = paired(*makes, rounds=flags.rounds, core=flags.core)
        frames = number * plain.frames_per_update
        rates = f"{frames / pair.first:>10,.0f}{frames / pair.second:>10,.0f}"
        print(f"{name:<24}{rates}{pair.ratio:>8.2f}{bar or '':>6}", flush=True)


if __name__ == "__main__":
    main()
