"""The study behind the README's table: many runs, one per core, each trained, evaluated and probed.

    python -m groundling.evaluation.reproduce [--quick] [--directory runs/know-small]

Every step is a `groundling` command in a process of its own, pinned to a core. A finished step is
skipped and a run that was interrupted resumes, so the same command goes on after anything. What was
measured is gathered in `results.json`, small enough to be kept with the code.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import tyro
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from groundling.training.progress import console
from groundling.training.run import RunDirectory, write_text

FULL: dict[str, int] = {
    "simcore": 5,
    "none": 5,
    "present": 5,
    "cpc": 3,
    "future": 3,
    "cpc-future": 3,
    "infonce": 3,
    "one-step": 3,
    "fixed-horizon": 3,
    "uniform": 3,
    "untied": 3,
    "action-free": 3,
    "stopped": 3,
    "shuffled": 3,
    "answers": 3,
}
"""Seeds of each variant of a family of presets."""


@dataclass(frozen=True)
class Job:
    """One run of the study."""

    variant: str
    seed: int
    directory: Path
    commands: tuple[tuple[str, ...], ...]

    @property
    def name(self) -> str:
        """As it appears in the progress display."""
        return f"{self.variant}-{self.seed}"


def plan(
    directory: Path,
    *,
    family: str = "know-small",
    seeds: dict[str, int] | None = None,
    frames: int | None = None,
    rooms: int | None = None,
) -> list[Job]:
    """All jobs, first seeds first, so that an early stop still leaves a comparison.

    Args:
        directory: of the study.
        family: of presets.
        seeds: how many of each variant; `FULL` unless given.
        frames: to train for, instead of the preset's own.
        rooms: to fit probes on, instead of the protocol's.
    """
    seeds = FULL if seeds is None else seeds
    jobs = []
    for seed in range(max(seeds.values())):
        for variant, count in seeds.items():
            if seed < count:
                run = directory / f"{variant}-{seed}"
                jobs.append(
                    Job(variant, seed, run, _commands(run, family, variant, seed, frames, rooms))
                )
    return jobs


def _commands(
    run: Path, family: str, variant: str, seed: int, frames: int | None, rooms: int | None
) -> tuple[tuple[str, ...], ...]:
    train = ["train", f"{family}-{variant}", "--run-dir", str(run), "--seed", str(seed)]
    probe = ["probe", str(run)]
    if frames is not None:
        train += ["--frames", str(frames)]
    if rooms is not None:
        probe += ["--rooms", str(rooms)]
    if seed > 0:  # The controls hardly depend on the seed; the first one's stand for all.
        probe += ["--no-controls"]
    return tuple(train), ("evaluate", str(run)), tuple(probe)


def run_study(jobs: Sequence[Job], *, workers: int) -> list[Job]:
    """Runs what is not finished yet, `workers` jobs at a time; returns the jobs that failed."""
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    failed: list[Job] = []
    cores: Sequence[int | None] = [None]
    if hasattr(os, "sched_getaffinity"):
        cores = sorted(os.sched_getaffinity(0))

    def work(core: int | None) -> None:
        while True:
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                return
            started = time.monotonic()
            if not _run_job(job, core):
                failed.append(job)
            left = waiting.qsize()
            console.print(f"{job.name}: {time.monotonic() - started:.0f} s, {left} runs to start")

    threads = [
        threading.Thread(target=work, args=(cores[index % len(cores)],)) for index in range(workers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed


def _run_job(job: Job, core: int | None) -> bool:
    """Runs the steps of a job that have not left their result yet."""
    run = RunDirectory(job.directory)
    marks = (job.directory / ".trained", run.evaluation / "returns.json", run.results())
    job.directory.parent.mkdir(parents=True, exist_ok=True)
    with (job.directory.parent / f"{job.name}.log").open("a") as log:
        for command, mark in zip(job.commands, marks, strict=True):
            if mark.exists():
                continue
            call = [sys.executable, "-m", "groundling.cli", *command]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            process = subprocess.Popen(call, stdout=log, stderr=log, env=environment)
            if core is not None:
                os.sched_setaffinity(process.pid, {core})
            if process.wait() != 0:
                console.print(
                    f"{job.name}: `groundling {' '.join(command)}` failed, see {log.name}"
                )
                return False
            if not mark.exists():
                mark.touch()
    return True


def gather(jobs: Sequence[Job], file: Path) -> dict[str, Any]:
    """Collects what the finished runs measured into one small file.

    Returns:
        {"measured", "runs": [{"variant", "seed", "frames", "seconds", "return", "rows", …}]}.
    """
    runs = []
    for job in jobs:
        run = RunDirectory(job.directory)
        if not run.results().exists():
            continue
        probe = json.loads(run.results().read_text())
        returns = json.loads((run.evaluation / "returns.json").read_text())["returns"]
        runs.append(
            {
                "variant": job.variant,
                "seed": job.seed,
                "frames": probe["frames"],
                "seconds": probe["seconds"],
                "settings": probe["settings"],
                "return": returns["agent"]["mean"],
                "rows": probe["rows"],
            }
        )
    results = {"measured": time.strftime("%Y-%m-%d"), "runs": runs}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(results, indent=1) + "\n")
    return results


def draw(results: dict[str, Any], file: Path) -> None:
    """A picture of what each variant knows: every seed a dot, their mean a bar."""
    panels = ("attribute_colour", "attribute_shape", "existence", "count_shape")
    variants = list(dict.fromkeys(run["variant"] for run in results["runs"]))
    figure = Figure(figsize=(10.0, 0.6 + 0.3 * len(variants)), dpi=144, layout="constrained")
    for axes, kind in zip(figure.subplots(1, len(panels), sharey=True), panels, strict=True):
        for place, variant in enumerate(variants):
            scores = [
                run["rows"]["agent"][kind]["answerable"]
                for run in results["runs"]
                if run["variant"] == variant
            ]
            axes.barh(place, fmean(scores), color="#c7d6ea", height=0.7)
            axes.plot(scores, [place] * len(scores), "o", color="#2a6fbb", markersize=4)
        for name, style in (("untrained agent", "--"), ("question only", ":")):
            levels = [
                run["rows"][name][kind]["answerable"]
                for run in results["runs"]
                if name in run["rows"]
            ]
            if levels:
                axes.axvline(fmean(levels), color="#555555", linestyle=style, linewidth=1)
        axes.set_yticks(range(len(variants)), variants)
        axes.set_xlim(0, 1)
        axes.set_title(kind.replace("_", " "), fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    axes.invert_yaxis()
    file.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(str(file))


def table(results: dict[str, Any]) -> str:
    """Means over seeds as a Markdown table, with the standard deviation over seeds in brackets."""
    kinds = list(results["runs"][0]["rows"]["agent"])
    lines = [
        "| variant | seeds | return | "
        + " | ".join(kind.replace("_", " ") for kind in kinds)
        + " |",
        "|---" * (len(kinds) + 3) + "|",
    ]
    for variant in dict.fromkeys(run["variant"] for run in results["runs"]):
        runs = [run for run in results["runs"] if run["variant"] == variant]
        cells = [_mean_and_spread([run["return"] for run in runs], 1)]
        for kind in kinds:
            cells.append(
                _mean_and_spread([run["rows"]["agent"][kind]["answerable"] for run in runs], 2)
            )
        lines.append(f"| {variant} | {len(runs)} | " + " | ".join(cells) + " |")
    for name in ("untrained agent", "question only"):
        runs = [run for run in results["runs"] if name in run["rows"]]
        if runs:
            cells = [
                _mean_and_spread([run["rows"][name][kind]["answerable"] for run in runs], 2)
                for kind in kinds
            ]
            lines.append(f"| *{name}* | {len(runs)} | | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mean_and_spread(values: Sequence[float], digits: int) -> str:
    mean = f"{fmean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} (±{stdev(values):.{digits}f})"


@dataclass(frozen=True)
class StudyFlags:
    """Trains, evaluates and probes every variant of a family; goes on where it stopped."""

    directory: Path = Path("runs/know-small")
    """Where the runs live."""
    family: str = "know-small"
    """Presets FAMILY-VARIANT are run."""
    quick: bool = False
    """One seed of each variant."""
    variants: tuple[str, ...] = tuple(FULL)
    """Which variants."""
    frames: int | None = None
    """To train for, instead of the preset's own."""
    rooms: int | None = None
    """To fit probes on, instead of the protocol's."""
    workers: int = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    """Runs at a time, each on a core of its own."""
    output: Path = Path("docs")
    """Where the small results, the plot and the table go."""


def main() -> None:
    """Runs the study and writes `FAMILY.json`, `FAMILY.png` and `FAMILY.md`."""
    flags = tyro.cli(StudyFlags, prog="python -m groundling.evaluation.reproduce")
    unknown = [name for name in flags.variants if name not in FULL]
    if unknown:
        raise SystemExit(f"--variants has {unknown[0]!r}; expected some of {', '.join(FULL)}")
    seeds = {name: 1 if flags.quick else FULL[name] for name in flags.variants}
    jobs = plan(
        flags.directory, family=flags.family, seeds=seeds, frames=flags.frames, rooms=flags.rooms
    )
    failed = run_study(jobs, workers=flags.workers)
    results = gather(jobs, flags.output / f"{flags.family}.json")
    if results["runs"]:
        draw(results, flags.output / f"{flags.family}.png")
        write_text(flags.output / f"{flags.family}.md", table(results) + "\n")
        print(table(results))
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
