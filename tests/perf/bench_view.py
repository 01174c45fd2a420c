"""What a larger view costs: seconds per frame of training, with a glimpse of it and with all of it.

    python tests/perf/bench_view.py [--rounds 5] [--core 0] [--picture docs/view-size.png]

The same house (a corridor of eight rooms), the same agent, by reward alone; acting and learning
together. All on one core, in one process, taking turns: each round times an update of every agent,
and the figures are medians over rounds, so that whatever else the machine does hits all of them.
"""

import argparse
import dataclasses
import os
import time
from pathlib import Path
from statistics import median

import torch
from matplotlib.figure import Figure

from groundling.evaluation.figures import png
from groundling.training.loop import Training
from groundling.training.presets import preset
from groundling.training.run import write_bytes

SIZES = (15, 23, 31, 47, 63)
AGENTS = {"foveal": "a glimpse of it", "full": "all of it"}


def training(name: str, view_size: int) -> Training:
    """Everything that trains one agent."""
    config = preset(f"look-{name}")
    rooms = dataclasses.replace(
        config.env.rooms, layout="corridor", corridor_rooms=8, size=3, view_size=view_size
    )
    env = dataclasses.replace(config.env, rooms=rooms)
    return Training(dataclasses.replace(config, env=env), torch.device("cpu"))


def update(one: Training) -> float:
    """Seconds per frame of one update."""
    started = time.perf_counter()
    unroll = one.actor.collect(one.config.learner.unroll_length)
    one.learner.step(unroll)
    return (time.perf_counter() - started) / one.config.frames_per_update


def measure(rounds: int) -> dict[str, list[float]]:
    """Median microseconds per frame of each agent, by view size."""
    runs = {(name, size): training(name, size) for name in AGENTS for size in SIZES}
    for one in runs.values():
        update(one)
    times = {key: [update(one)] for key, one in runs.items()}
    for _ in range(rounds - 1):
        for key, one in runs.items():
            times[key].append(update(one))
    return {name: [1e6 * median(times[name, size]) for size in SIZES] for name in AGENTS}


def draw(found: dict[str, list[float]]) -> bytes:
    """One curve for each agent, as PNG."""
    figure = Figure(figsize=(6.4, 3.6), dpi=144, layout="constrained")
    axes = figure.subplots()
    for (name, label), colour in zip(AGENTS.items(), ("#2a6fbb", "#c1553b"), strict=True):
        axes.plot(SIZES, found[name], "o-", color=colour, label=f"the agent reads {label}")
    axes.set_xticks(SIZES, [f"{size} × {size}" for size in SIZES])
    axes.set_yscale("log")
    axes.set_xlabel("cells of the view")
    axes.set_ylabel("µs per frame of training")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return png(figure)


def main() -> None:
    """Measures, prints, and draws if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--core", type=int)
    parser.add_argument("--picture", type=Path)
    flags = parser.parse_args()
    if flags.core is not None:
        os.sched_setaffinity(0, {flags.core})
    torch.set_num_threads(1)
    found = measure(flags.rounds)
    print("view size:  " + "".join(f"{size:>9}" for size in SIZES))
    for name, times in found.items():
        shown = "".join(f"{one:>9.0f}" for one in times)
        print(f"{name:<12}{shown}   µs per frame; × {times[-1] / times[0]:.2f}")
    if flags.picture:
        write_bytes(flags.picture, draw(found))


if __name__ == "__main__":
    main()
