"""How frames per second go with what one may want more of.

    python tests/perf/bench_growth.py [--rounds 3] [--cores 0 1] [--picture docs/growth.png]

Training in a room of 7 × 7 cells, otherwise know-small's, acting and learning together: more
environments, longer unrolls, a larger view, a wider core, more cores; of the plain agent, and of
those that predict. Points of one axis take turns, and the figures are medians over rounds. All but
the last axis have one core.
"""

import argparse
import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from matplotlib.figure import Figure

from groundling.evaluation.figures import png
from groundling.training.config import TrainConfig
from groundling.training.loop import Training
from groundling.training.memory import keep_freed_memory
from groundling.training.presets import preset
from groundling.training.run import write_bytes

AGENTS = {"none": "#6b6b6b", "simcore": "#2a6fbb", "cpc": "#c1553b"}
ENVIRONMENTS, SECONDS = 64, 1.0
"""Unless they are what varies; of one measurement, at least."""


def with_environments(config: TrainConfig, number: int) -> TrainConfig:
    """So many environments."""
    return dataclasses.replace(config, env=dataclasses.replace(config.env, num_envs=number))


def with_unroll(config: TrainConfig, steps: int) -> TrainConfig:
    """So many steps to an unroll."""
    return dataclasses.replace(
        config, learner=dataclasses.replace(config.learner, unroll_length=steps)
    )


def with_view(config: TrainConfig, side: int) -> TrainConfig:
    """A view of side × side cells."""
    rooms = dataclasses.replace(config.env.rooms, view_size=side)
    return dataclasses.replace(config, env=dataclasses.replace(config.env, rooms=rooms))


def with_core(config: TrainConfig, size: int) -> TrainConfig:
    """So many units in the core."""
    return dataclasses.replace(config, agent=dataclasses.replace(config.agent, core_size=size))


def with_threads(config: TrainConfig, number: int) -> TrainConfig:
    """So many threads, a core for each."""
    return dataclasses.replace(config, threads=number)


class Axis(NamedTuple):
    """Something that one may want more of."""

    change: Callable[[TrainConfig, int], TrainConfig]
    values: Sequence[int]


AXES = {
    "environments": Axis(with_environments, (4, 16, 64, 256, 1024)),
    "steps of an unroll": Axis(with_unroll, (8, 16, 32, 64, 128)),
    "side of the view": Axis(with_view, (3, 5, 7, 11, 15)),
    "units of the core": Axis(with_core, (64, 128, 256, 512, 1024)),
    "cores": Axis(with_threads, (1, 2)),
}


def base(agent: str) -> TrainConfig:
    """What all axes go out from."""
    config = with_environments(preset(f"know-small-{agent}"), ENVIRONMENTS)
    rooms = dataclasses.replace(config.env.rooms, size=7)  # The largest view is to fit in.
    config = dataclasses.replace(config, env=dataclasses.replace(config.env, rooms=rooms))
    return dataclasses.replace(config, probe=dataclasses.replace(config.probe, online=False))


def rate(training: Training, cores: Sequence[int]) -> float:
    """Frames per second of a few updates."""
    os.sched_setaffinity(0, set(cores[: training.config.threads]))
    torch.set_num_threads(training.config.threads)
    updates, begun = 0, time.perf_counter()
    while (taken := time.perf_counter() - begun) < SECONDS or not updates:
        training.learn(training.collect())
        updates += 1
    return updates * training.config.frames_per_update / taken


def measure(axis: Axis, agent: str, rounds: int, cores: Sequence[int]) -> list[float]:
    """Frames per second at each value."""
    configs = [axis.change(base(agent), value) for value in axis.values]
    runs = [Training(config, torch.device("cpu")) for config in configs]
    found = [[rate(one, cores) for one in runs] for _ in range(rounds + 1)][1:]
    for one in runs:
        one.close()
    return [median(column) for column in zip(*found, strict=True)]


def draw(found: dict[str, dict[str, list[float]]]) -> bytes:
    """A panel for each axis, a curve for each agent; as PNG."""
    figure = Figure(figsize=(11, 3.0), dpi=144, layout="constrained")
    panels = figure.subplots(1, len(AXES), sharey=True)
    for panel, (name, axis) in zip(panels, AXES.items(), strict=True):
        for agent, colour in AGENTS.items():
            panel.plot(axis.values, found[name][agent], "o-", color=colour, label=agent, ms=4)
        panel.set_xscale("log", base=2)
        panel.set_xticks(axis.values, [str(value) for value in axis.values])
        panel.minorticks_off()
        panel.set_xlabel(name)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_yscale("log")
    panels[0].set_ylabel("frames per second of training")
    panels[0].legend(frameon=False)
    return png(figure)


def main() -> None:
    """Measures, prints, and draws if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, nargs="+", default=sorted(os.sched_getaffinity(0)))
    parser.add_argument("--picture", type=Path)
    flags = parser.parse_args()
    keep_freed_memory()  # As the command line does, and `loop.computing`.
    torch.set_flush_denormal(True)
    found: dict[str, dict[str, list[float]]] = {}
    for name, axis in AXES.items():
        print(f"{name:<20}" + "".join(f"{value:>9}" for value in axis.values), flush=True)
        found[name] = {}
        for agent in AGENTS:
            found[name][agent] = measure(axis, agent, flags.rounds, flags.cores)
            print(f"{agent:<20}" + "".join(f"{one:>9,.0f}" for one in found[name][agent]))
    if flags.picture:
        write_bytes(flags.picture, draw(found))


if __name__ == "__main__":
    main()
