"""Whether the memory of a run with workers, and of what lies between them, stays flat. Linux.

    python tests/perf/soak_memory.py [--minutes 30] [--workers 1] [--directory runs/soak]

The run is in this process. Its memory, that of its workers (neither with what they share) and the
bytes in the object store are noted every 10 s. Straight lines are fitted to what comes after 5
minutes (a third of the time, if that is less). Flat means that they rise by no more than 2 %, or
2 MB if that is more, and by no more than 20 MB. Writes memory.json and memory.png. Exits with 1 if
something is not flat.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from processes import number, workers_of

from groundling.evaluation.figures import png
from groundling.training.cluster import cluster
from groundling.training.config import RolloutConfig
from groundling.training.loop import train
from groundling.training.presets import preset
from groundling.training.run import write_bytes, write_text

MB = 1e6


@contextlib.contextmanager
def noting(samples: list[dict[str, float]], every: float) -> Iterator[None]:
    """While inside, notes memory in bytes every so many seconds."""
    import ray

    begun, over = time.monotonic(), threading.Event()

    def note() -> None:
        while not over.wait(every):
            there = ray.cluster_resources()["object_store_memory"]
            free = ray.available_resources().get("object_store_memory", 0.0)
            with contextlib.suppress(OSError):  # A process is over.
                samples.append(
                    {
                        "minutes": (time.monotonic() - begun) / 60,
                        "driver": own_memory(os.getpid()),
                        "workers": sum(map(own_memory, workers_of(os.getpid()))),
                        "object store": there - free,
                    }
                )

    thread = threading.Thread(target=note, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def own_memory(process: int) -> int:
    """Bytes in memory that a process does not share with others through the object store."""
    return 1024 * (number(process, "VmRSS") - number(process, "RssShmem"))


def watch(flags: argparse.Namespace) -> list[dict[str, float]]:
    """Trains for so many minutes; what was noted."""
    config = dataclasses.replace(
        preset(flags.preset),
        frames=10**12,
        max_minutes=flags.minutes,
        rollout=RolloutConfig(workers=flags.workers),
    )
    samples: list[dict[str, float]] = []
    shutil.rmtree(flags.directory / "memory", ignore_errors=True)
    with cluster(), noting(samples, min(10.0, 2 * flags.minutes)):
        train(config, flags.directory / "memory")
    return samples


def judge(samples: list[dict[str, float]], home: Path) -> list[str]:
    """Fits straight lines and draws; what is not flat."""
    samples = [sample for sample in samples if sample["workers"]]  # The last may be at the end.
    minutes = np.array([sample["minutes"] for sample in samples])
    late = minutes > min(5.0, minutes[-1] / 3)
    figure, faults = Figure((7, 3), layout="constrained"), []
    axes = figure.subplots()
    for name in ("driver", "workers", "object store"):
        values = np.array([sample[name] for sample in samples])
        slope, _ = np.polyfit(minutes[late], values[late], 1)
        growth, level = slope * np.ptp(minutes[late]), values[late].mean()
        print(
            f"{name}: {level / MB:.1f} MB, {growth / MB:+.2f} MB ({growth / level:+.2%}) in "
            f"{np.ptp(minutes[late]):.1f} minutes after the first {minutes[late][0]:.1f}"
        )
        if growth > min(max(0.02 * level, 2 * MB), 20 * MB):
            faults.append(name)
        axes.plot(minutes, values / MB, label=name)
    axes.set(xlabel="minutes", ylabel="MB", ylim=(0, None))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    write_bytes(home / "memory.png", png(figure))
    return faults


def main() -> None:
    """Trains, and says what was not flat."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--preset", default="know-small-none")
    parser.add_argument("--directory", type=Path, default=Path("runs/soak"))
    flags = parser.parse_args()
    flags.directory.mkdir(parents=True, exist_ok=True)
    samples = watch(flags)
    write_text(flags.directory / "memory.json", json.dumps(samples))
    faults = judge(samples, flags.directory)
    print("not flat: " + ", ".join(faults) if faults else "flat")
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
