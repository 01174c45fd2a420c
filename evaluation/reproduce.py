"""The study behind the README's table: many runs, one per core, each trained, evaluated and probed.

    python -m groundling.evaluation.reproduce [--seeds N] [--directory runs/know-small]

Everything is a `groundling` command in a process of its own, pinned to a core (`evaluation/jobs`,
`evaluation/runner`). What has its result is skipped and a run that was interrupted resumes, so the
same command goes on after anything. What was measured is gathered in FAMILY.json, small enough to
be kept with the code; `evaluation/summary.py` makes its picture and tables.
"""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from groundling.envs.errors import UserError
from groundling.evaluation.jobs import STOPPED, Command, Job
from groundling.evaluation.runner import Room, run_jobs
from groundling.evaluation.studies import begin
from groundling.evaluation.summary import summarise
from groundling.training.presets import FAMILIES
from groundling.training.run import RunDirectory, write_text

FULL: dict[str, int] = {
    "simcore": 5,
    "none": 5,
    "present": 5,
    "weight-1": 3,
    "far-weight-1": 3,
    "both": 3,
    "both-weight-1": 3,
    "cpc": 3,
    "cpc-both": 3,
    "infonce": 3,
    "infonce-both": 3,
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
class Budget:
    """What every run of a study may use. None leaves it to the preset, or to the protocol."""

    frames: int | None = None
    """Frames of training."""
    minutes: float | None = None
    """Minutes of training, however many frames that is: equal time instead of equal frames."""
    rooms: int | None = None
    """Rooms that probes are fitted on."""
    snapshot_every: int = 500_000
    """Frames between two snapshots of a run."""

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value is not None and not value > 0:
                flag = name.replace("_", "-")
                raise UserError(f"--{flag} is {value}; expected a positive number")
        if self.minutes is not None and self.frames is not None:
            raise UserError("--minutes and --frames are both given; expected one of them")


def plan(
    directory: Path,
    *,
    family: str = "know-small",
    seeds: dict[str, int] | None = None,
    budget: Budget | None = None,
    at: Sequence[int] = (),
) -> list[Job]:
    """All jobs, first seeds first, so that an early stop still leaves a comparison.

    Args:
        directory: of the study.
        family: of presets.
        seeds: how many of each variant; `FULL` unless given.
        budget: of training and probing; the preset's and the protocol's unless given.
        at: frames at which every run that came so far is probed as well.
    """
    seeds = FULL if seeds is None else seeds
    budget = budget or Budget()
    jobs: list[Job] = []
    for seed in range(max(seeds.values())):
        for variant, count in seeds.items():
            if seed < count:
                run = directory / f"{variant}-{seed}"
                # Controls hardly depend on the seed, and not on what was learned: one for all.
                commands = _commands(run, family, variant, seed, budget, at, controls=not jobs)
                jobs.append(Job(variant, seed, run, commands))
    return jobs


def _commands(
    run: Path,
    family: str,
    variant: str,
    seed: int,
    budget: Budget,
    at: Sequence[int],
    *,
    controls: bool,
) -> tuple[Command, ...]:
    """Train, evaluate, probe; then probe the run as it was at earlier moments."""
    train = ["train", f"{family}-{variant}", "--run-dir", str(run), "--seed", str(seed)]
    if budget.minutes is not None:
        train += ["--max-minutes", str(budget.minutes), "--frames", str(10**9)]  # The clock ends.
    elif budget.frames is not None:
        train += ["--frames", str(budget.frames)]
    train += ["--snapshot-every", str(budget.snapshot_every)]
    probe = ["probe", str(run)]
    if budget.rooms is not None:
        probe += ["--rooms", str(budget.rooms)]
    # Nothing is kept: the rooms of a whole study would fill a disk.
    probe += ["--decoders", "mlp", "--no-keep"]
    alone = (*probe, "--controls", "none")
    directory = RunDirectory(run)
    return (
        Command(tuple(train), run / ".trained"),
        Command(("evaluate", str(run), "--snapshots"), directory.evaluation / "returns.json"),
        Command((*probe, "--controls", "few") if controls else alone, directory.results()),
        *(
            Command(
                (*alone, "--frames", str(frames)),
                directory.results(frames),
                needs=directory.snapshot(frames),
            )
            for frames in at
        ),
    )


def gather(jobs: Sequence[Job], file: Path, *, at: Sequence[int] = ()) -> dict[str, Any]:
    """Collects what the finished runs measured into one small file.

    Args:
        jobs: of the study.
        file: to write.
        at: frames at which the runs were probed as well.

    Returns:
        {"measured", "runs": [{"variant", "seed", "frames", "seconds", "return", "rows", …}]};
        "earlier" holds the same of the moments `at` which a run was probed as well, by frames, and
        "returns" the returns of its snapshots.
    """
    runs = []
    for job in jobs:
        run = RunDirectory(job.directory)
        if not run.results().exists():
            continue
        entry: dict[str, Any] = {"variant": job.variant, "seed": job.seed} | _measured(run, None)
        earned = json.loads((run.evaluation / "returns.json").read_text())
        entry["return"] = earned["returns"]["agent"]["mean"]
        entry["returns"] = {frames: score["mean"] for frames, score in earned["snapshots"].items()}
        entry["earlier"] = {
            str(frames): _measured(run, frames) | {"return": entry["returns"][str(frames)]}
            for frames in at
            if run.results(frames).exists()
        }
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


@dataclass(frozen=True)
class StudyFlags:
    """Trains, evaluates and probes every variant of a family; goes on where it stopped."""

    directory: Path = Path("runs/know-small")
    """Where the runs live."""
    family: str = "know-small"
    """Presets FAMILY-VARIANT are run."""
    seeds: int = max(FULL.values())
    """Most seeds of each variant."""
    variants: tuple[str, ...] = tuple(FULL)
    """Which variants."""
    budget: Annotated[Budget, tyro.conf.arg(name="")] = field(default_factory=Budget)
    """What every run may use."""
    at: tuple[int, ...] = ()
    """Frames at which every run that came so far is probed as well, for equal frames beside equal
    time and for the curve of learning. May be given later: snapshots are kept."""
    workers: int = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    """Runs at a time, each on a core of its own."""
    output: Path = Path("docs")
    """Where the small results, the plot and the table go."""

    def __post_init__(self) -> None:
        for flag, given, known in (
            ("--family", (self.family,), FAMILIES),
            ("--variants", self.variants, FULL),
        ):
            if unknown := [name for name in given if name not in known]:
                raise UserError(f"{flag} has {unknown[0]!r}; expected some of {', '.join(known)}")
        every = self.budget.snapshot_every
        if odd := [frames for frames in self.at if frames < 1 or frames % every]:
            raise UserError(f"--at has {odd[0]}; expected multiples of --snapshot-every, {every:,}")
        if (
            self.budget.frames is not None
            and (late := max(self.at, default=0)) > self.budget.frames
        ):
            raise UserError(f"--at has {late}; expected at most --frames, {self.budget.frames:,}")
        for flag, number in (("--seeds", self.seeds), ("--workers", self.workers)):
            if number < 1:
                raise UserError(f"{flag} is {number}; expected at least 1")


def main() -> None:
    """Runs the study and writes `FAMILY.json` with its pictures and tables."""
    try:
        _study(tyro.cli(StudyFlags, prog="python -m groundling.evaluation.reproduce"))
    except UserError as error:
        print(f"reproduce: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _study(flags: StudyFlags) -> None:
    given = {"family": flags.family} | dataclasses.asdict(flags.budget)
    begin(flags.directory, "study", given)
    seeds = {name: min(flags.seeds, FULL[name]) for name in flags.variants}
    jobs = plan(flags.directory, family=flags.family, seeds=seeds, budget=flags.budget, at=flags.at)
    outcome = run_jobs(jobs, Room(at_once=flags.workers))
    results = gather(jobs, flags.output / f"{flags.family}.json", at=flags.at)
    if results["runs"]:
        print(summarise(results, flags.output / flags.family))
    if outcome.stopped:
        print("stopped; the same command goes on", file=sys.stderr)
        raise SystemExit(STOPPED)
    raise SystemExit(1 if outcome.failed else 0)


if __name__ == "__main__":
    main()
