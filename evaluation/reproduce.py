"""The study behind the README's table: many runs, one per core, each trained, evaluated and probed.

    python -m groundling.evaluation.reproduce [--quick] [--directory runs/know-small]

Every step is a `groundling` command in a process of its own, pinned to a core. A finished step is
skipped and a run that was interrupted resumes, so the same command goes on after anything. What was
measured is gathered in FAMILY.json, small enough to be kept with the code; `evaluation/summary.py`
makes its picture and tables.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, NamedTuple

import tyro

from groundling.evaluation.summary import summarise
from groundling.training.metrics import read_rows
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


SNAPSHOT_EVERY = 500_000
"""Frames between the snapshots of a run that is ended by the clock."""


@dataclass(frozen=True)
class Budget:
    """What every run of a study may use. None leaves it to the preset, or to the protocol."""

    frames: int | None = None
    """Frames of training."""
    minutes: float | None = None
    """Minutes of training, however many frames that is: equal time instead of equal frames."""
    at: int | None = None
    """Frames at which every run is probed as well, wherever it ends: equal frames beside equal
    time (with minutes: a multiple of 500,000)."""
    rooms: int | None = None
    """Rooms that probes are fitted on."""


class Step(NamedTuple):
    """A `groundling` command, and the file that shows it has been done."""

    command: tuple[str, ...]
    mark: Path


@dataclass(frozen=True)
class Job:
    """One run of the study."""

    variant: str
    seed: int
    directory: Path
    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        """As it appears in the progress display."""
        return f"{self.variant}-{self.seed}"


def plan(
    directory: Path,
    *,
    family: str = "know-small",
    seeds: dict[str, int] | None = None,
    budget: Budget | None = None,
) -> list[Job]:
    """All jobs, first seeds first, so that an early stop still leaves a comparison.

    Args:
        directory: of the study.
        family: of presets.
        seeds: how many of each variant; `FULL` unless given.
        budget: of training and probing; the preset's and the protocol's unless given.
    """
    seeds = FULL if seeds is None else seeds
    budget = budget or Budget()
    jobs: list[Job] = []
    for seed in range(max(seeds.values())):
        for variant, count in seeds.items():
            if seed < count:
                run = directory / f"{variant}-{seed}"
                # Controls hardly depend on the seed, and not on what was learned: one for all.
                steps = _steps(run, family, variant, seed, budget, controls=not jobs)
                jobs.append(Job(variant, seed, run, steps))
    return jobs


def _steps(
    run: Path, family: str, variant: str, seed: int, budget: Budget, *, controls: bool
) -> tuple[Step, ...]:
    """Train, evaluate, probe; then probe the run as it was when all runs had seen as much."""
    train = ["train", f"{family}-{variant}", "--run-dir", str(run), "--seed", str(seed)]
    probe = ["probe", str(run)]
    if budget.minutes is not None:
        # The clock ends the run; what it leaves behind every now and then can be compared at
        # equal frames.
        train += ["--max-minutes", str(budget.minutes), "--frames", str(10**9)]
        train += ["--snapshot-every", str(SNAPSHOT_EVERY)]
    else:
        if budget.frames is not None:
            train += ["--frames", str(budget.frames)]
        if budget.at is not None:
            train += ["--snapshot-every", str(budget.at)]
    if budget.rooms is not None:
        probe += ["--rooms", str(budget.rooms)]
    if not controls:
        probe += ["--no-controls"]
    directory = RunDirectory(run)
    steps = [
        Step(tuple(train), run / ".trained"),
        Step(("evaluate", str(run)), directory.evaluation / "returns.json"),
        Step(tuple(probe), directory.results()),
    ]
    if budget.at is not None:
        again = tuple(word for word in probe if word != "--no-controls")
        steps.append(
            Step(
                (*again, "--no-controls", "--frames", str(budget.at)), directory.results(budget.at)
            )
        )
    return tuple(steps)


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
    job.directory.parent.mkdir(parents=True, exist_ok=True)
    with (job.directory.parent / f"{job.name}.log").open("a") as log:
        for command, mark in job.steps:
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


def gather(jobs: Sequence[Job], file: Path, *, at: int | None = None) -> dict[str, Any]:
    """Collects what the finished runs measured into one small file.

    Args:
        jobs: of the study.
        file: to write.
        at: frames at which the runs were probed as well.

    Returns:
        {"measured", "runs": [{"variant", "seed", "frames", "seconds", "return", "rows", …}]}; where
        a run was probed `at` so many frames, "equal_frames" holds the same of that moment.
    """
    runs = []
    for job in jobs:
        run = RunDirectory(job.directory)
        if not run.results().exists():
            continue
        entry = {"variant": job.variant, "seed": job.seed} | _measured(run, None)
        returns = json.loads((run.evaluation / "returns.json").read_text())["returns"]
        entry["return"] = returns["agent"]["mean"]
        if at is not None and run.results(at).exists():
            entry["equal_frames"] = _measured(run, at) | {"return": _return_at(run, at)}
        runs.append(entry)
    results = {"measured": time.strftime("%Y-%m-%d"), "runs": runs}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(results, indent=1) + "\n")
    return results


def _measured(run: RunDirectory, frames: int | None) -> dict[str, Any]:
    """What probing found, in brief."""
    probe = json.loads(run.results(frames).read_text())
    return {
        name: probe[name] for name in ("frames", "seconds", "settings", "rows", "steps_since_seen")
    }


def _return_at(run: RunDirectory, frames: int, window: int = 200_000) -> float | None:
    """Mean return of the episodes that ended in the last `window` frames up to a moment, if any."""
    rows = [
        row
        for row in read_rows(run.metrics)
        if row["episodes"] and frames - window < (row["frames"] or 0) <= frames
    ]
    weights = [float(row["episodes"] or 0) for row in rows]
    returns = [float(row["episode_return"] or 0) for row in rows]
    return fmean(returns, weights) if rows else None


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
    budget: Annotated[Budget, tyro.conf.arg(name="")] = field(default_factory=Budget)
    """What every run may use."""
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
    jobs = plan(flags.directory, family=flags.family, seeds=seeds, budget=flags.budget)
    failed = run_study(jobs, workers=flags.workers)
    results = gather(jobs, flags.output / f"{flags.family}.json", at=flags.budget.at)
    if results["runs"]:
        print(summarise(results, flags.output / flags.family))
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
