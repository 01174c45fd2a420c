"""The study behind the README's table: many runs, one per core, each trained, evaluated and probed.

    python -m groundling.evaluation.reproduce [--quick] [--directory runs/know-small]

Everything is a `groundling` command in a process of its own, pinned to a core. What has its result
is skipped and a run that was interrupted resumes, so the same command goes on after anything. What
was measured is gathered in FAMILY.json, small enough to be kept with the code;
`evaluation/summary.py` makes its picture and tables.
"""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Any, NamedTuple

import tyro

from groundling.envs.errors import UserError
from groundling.evaluation.summary import summarise
from groundling.training.loop import stop_request
from groundling.training.presets import FAMILIES
from groundling.training.progress import Advance, console, progress
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


STOPPED = 130
"""Exit code of a command that Ctrl-C ended, and of the study itself."""


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

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value is not None and not value > 0:
                raise UserError(f"--{name} is {value}; expected a positive number")
        if self.minutes is not None and self.frames is not None:
            raise UserError("--minutes and --frames are both given; expected one of them")
        if self.at is not None and self.minutes is not None and self.at % SNAPSHOT_EVERY:
            raise UserError(f"--at is {self.at}; expected a multiple of {SNAPSHOT_EVERY:,}")
        if self.at is not None and self.frames is not None and self.at > self.frames:
            raise UserError(f"--at is {self.at}; expected at most --frames, {self.frames}")


class Command(NamedTuple):
    """A `groundling` command, and the file that shows it has been run."""

    words: tuple[str, ...]
    """After `groundling`."""
    result: Path
    """The file."""


@dataclass(frozen=True)
class Job:
    """One run of the study."""

    variant: str
    """Of the family's presets."""
    seed: int
    """Of the run."""
    directory: Path
    """Of the run."""
    commands: tuple[Command, ...]
    """In the order in which they are run."""

    @property
    def name(self) -> str:
        """As it appears in the progress display."""
        return f"{self.variant}-{self.seed}"

    @property
    def done(self) -> bool:
        """Whether every command has left its result."""
        return all(command.result.exists() for command in self.commands)


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
                commands = _commands(run, family, variant, seed, budget, controls=not jobs)
                jobs.append(Job(variant, seed, run, commands))
    return jobs


def _commands(
    run: Path, family: str, variant: str, seed: int, budget: Budget, *, controls: bool
) -> tuple[Command, ...]:
    """Train, evaluate, probe; then probe the run as it was when all runs had seen as much."""
    train = ["train", f"{family}-{variant}", "--run-dir", str(run), "--seed", str(seed)]
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
    probe = ["probe", str(run)]
    if budget.rooms is not None:
        probe += ["--rooms", str(budget.rooms)]
    alone = [*probe, "--no-controls"]
    directory = RunDirectory(run)
    commands = [
        Command(tuple(train), run / ".trained"),
        Command(("evaluate", str(run), "--snapshots"), directory.evaluation / "returns.json"),
        Command(tuple(probe if controls else alone), directory.results()),
    ]
    if budget.at is not None:
        early = (*alone, "--frames", str(budget.at))
        commands.append(Command(early, directory.results(budget.at)))
    return tuple(commands)


class Study:
    """Runs jobs, several at a time, each on a core of its own.

    Args:
        jobs: in the order in which they are to be started; those that are done are left alone.
        workers: jobs at a time.
    """

    def __init__(self, jobs: Sequence[Job], *, workers: int) -> None:
        self.failed: list[Job] = []
        """Jobs of which a command ended with an error."""
        self._workers = workers
        self._jobs = len(jobs)
        self._done = sum(job.done for job in jobs)
        self._waiting = deque(job for job in jobs if not job.done)
        self._running: list[subprocess.Popen[bytes]] = []
        self._stopping = threading.Event()
        self._lock = threading.Lock()  # Held to change any of these.

    def run(self) -> bool:
        """Runs what is not finished yet; whether it was left to come to its end.

        Ctrl-C stops the running commands, of which training saves what it has, and starts no more.
        """
        processors: Sequence[int | None] = [None]
        if hasattr(os, "sched_getaffinity"):
            processors = sorted(os.sched_getaffinity(0))
        with stop_request() as asked_to_stop, progress("runs", self._jobs) as advance:
            advance(self._done)
            threads = [
                threading.Thread(target=self._work, args=(processor, advance))
                for processor in itertools.islice(itertools.cycle(processors), self._workers)
            ]
            for thread in threads:
                thread.start()
            # An interrupted `join` would take a thread that still waits for its command for ended
            # (python/cpython#90882): signals only leave a request, which is looked at here.
            while alive := [thread for thread in threads if thread.is_alive()]:
                alive[0].join(0.2)
                if asked_to_stop() and not self._stopping.is_set():
                    self._stop()
        return not self._stopping.is_set()

    def _stop(self) -> None:
        with self._lock:
            self._stopping.set()
            for process in self._running:
                process.terminate()

    def _work(self, processor: int | None, advance: Advance) -> None:
        while not self._stopping.is_set():
            with self._lock:
                if not self._waiting:
                    return
                job = self._waiting.popleft()
            try:
                succeeded = self._run_job(job, processor)
            except Exception:  # Of ours, or a full disk: the other jobs go on, the study fails.
                console.print_exception()
                succeeded = False
            with self._lock:
                if self._stopping.is_set():
                    return
                self._done += 1
                if not succeeded:
                    self.failed.append(job)
                advance(self._done, job.name)

    def _run_job(self, job: Job, processor: int | None) -> bool:
        """Runs the commands that have not left their result yet; whether all succeeded."""
        job.directory.parent.mkdir(parents=True, exist_ok=True)
        with (job.directory.parent / f"{job.name}.log").open("a") as log:
            for words, result in job.commands:
                if result.exists():
                    continue
                if self._call(words, processor, log) != 0:
                    if not self._stopping.is_set():
                        called = f"groundling {' '.join(words)}"
                        told = f"{job.name}: `{called}` failed, see {log.name}"
                        console.print(told, markup=False)
                    return False
                result.touch()
        return True

    def _call(self, words: tuple[str, ...], processor: int | None, log: IO[str]) -> int:
        """Runs a `groundling` command in a process of its own; returns its exit code."""
        with self._lock:
            if self._stopping.is_set():
                return STOPPED
            process = subprocess.Popen(
                [sys.executable, "-m", "groundling.cli", *words],
                stdout=log,
                stderr=log,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                # Ctrl-C at a terminal is ours to pass on: a second one would keep a command from
                # saving.
                start_new_session=True,
            )
            self._running.append(process)
        if processor is not None:
            os.sched_setaffinity(process.pid, {processor})
        code = process.wait()
        with self._lock:
            self._running.remove(process)
        return code


def gather(jobs: Sequence[Job], file: Path, *, at: int | None = None) -> dict[str, Any]:
    """Collects what the finished runs measured into one small file.

    Args:
        jobs: of the study.
        file: to write.
        at: frames at which the runs were probed as well.

    Returns:
        {"measured", "runs": [{"variant", "seed", "frames", "seconds", "return", "rows", …}]}; where
        a run was probed `at` so many frames, "equal_frames" holds the same of that moment.
        "returns" are those of its snapshots, by frames.
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
        if at is not None and run.results(at).exists():
            entry["equal_frames"] = _measured(run, at) | {"return": entry["returns"][str(at)]}
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

    def __post_init__(self) -> None:
        for flag, given, known in (
            ("--family", (self.family,), FAMILIES),
            ("--variants", self.variants, FULL),
        ):
            if unknown := [name for name in given if name not in known]:
                raise UserError(f"{flag} has {unknown[0]!r}; expected some of {', '.join(known)}")
        if self.workers < 1:
            raise UserError(f"--workers is {self.workers}; expected at least 1")


def main() -> None:
    """Runs the study and writes `FAMILY.json` with its pictures and tables."""
    try:
        _study(tyro.cli(StudyFlags, prog="python -m groundling.evaluation.reproduce"))
    except UserError as error:
        print(f"reproduce: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _study(flags: StudyFlags) -> None:
    _begin(flags)
    seeds = {name: 1 if flags.quick else FULL[name] for name in flags.variants}
    jobs = plan(flags.directory, family=flags.family, seeds=seeds, budget=flags.budget)
    study = Study(jobs, workers=flags.workers)
    finished = study.run()
    results = gather(jobs, flags.output / f"{flags.family}.json", at=flags.budget.at)
    if results["runs"]:
        print(summarise(results, flags.output / flags.family))
    if not finished:
        print("stopped; the same command goes on", file=sys.stderr)
        raise SystemExit(STOPPED)
    raise SystemExit(1 if study.failed else 0)


def _begin(flags: StudyFlags) -> None:
    """Writes down what every run of this directory may use, or refuses to mix it with other runs.

    Raises:
        UserError: the directory holds runs of another family, or with another budget, or cannot be
            written.
    """
    file = flags.directory / "study.json"
    given = {"family": flags.family} | dataclasses.asdict(flags.budget)
    if flags.budget.minutes is not None:
        del given["at"]  # May be asked for later, of the same runs: snapshots are kept anyway.
    try:
        flags.directory.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            if any(flags.directory.glob("*/config.json")):
                raise UserError(
                    f"--directory {flags.directory} holds runs that no study began; expected a "
                    "study's, or a new one"
                )
            write_text(file, json.dumps(given) + "\n")
        begun = json.loads(file.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(
            f"--directory {flags.directory} cannot be used ({error}); expected one you may write to"
        ) from error
    for name in given | begun:
        now, then = (values.get(name) for values in (given, begun))
        if now != then:
            raise UserError(
                f"--{name} is {'not given' if now is None else now}, but {flags.directory} was "
                f"begun {'without' if then is None else f'with {then}'}; expected the same, or "
                "another --directory"
            )


if __name__ == "__main__":
    main()
