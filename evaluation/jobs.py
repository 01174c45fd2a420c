"""Jobs: runs that are trained, evaluated and probed by `groundling` commands of their own.

What has its result is skipped and what was interrupted resumes, so the same jobs can be run again
after anything. Every command is a process, so that a crash, or a lack of memory, ends one run only.
`evaluation/runner.py` decides where and when. Imports nothing heavy: Ray's processes need no more.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from filelock import FileLock, Timeout

STOPPED = 130
"""Exit code of a command that Ctrl-C ended."""

SECONDS_BETWEEN_LOOKS = 0.2
"""At a command that runs; between two of them a request to stop is heard."""

CHILD = """
import ctypes, runpy, signal, sys
if sys.platform == "linux":
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
runpy.run_module("groundling", run_name="__main__", alter_sys=True)
"""
"""`python -m groundling`, which saves and ends when whoever started it is no more (on Linux)."""


class Command(NamedTuple):
    """A `groundling` command, and the file that shows it has been run."""

    words: tuple[str, ...]
    """After `groundling`."""
    result: Path
    """The file."""
    needs: Path | None = None
    """A file without which there is nothing to do, and the command is passed over."""

    @property
    def done(self) -> bool:
        """Whether the result is there, or what it needs is not."""
        return self.result.exists() or bool(self.needs and not self.needs.exists())


@dataclass(frozen=True)
class Job:
    """One run, from training to probing."""

    variant: str
    """What it has in common with its other seeds."""
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
    def log(self) -> Path:
        """Everything its commands print."""
        return self.directory.parent / f"{self.name}.log"

    @property
    def done(self) -> bool:
        """Whether no command is left to be run."""
        return all(command.done for command in self.commands)


class Setting(NamedTuple):
    """What a job's commands run in."""

    directory: Path
    """The current one."""
    environment: dict[str, str]
    """Ray's variables as they were before Ray was started: the others are those of the machine."""
    cores: int
    """Of this machine, that a job is pinned to as long as so many are free (0: it is not)."""


def run_job(job: Job, setting: Setting) -> str | None:
    """Runs the commands that have not left their result yet, one after the other.

    Args:
        job: its paths may be relative to the setting's directory.
        setting: see `Setting`.

    Returns:
        The command that failed, if one did; the ones after it were not run.

    Raises:
        KeyboardInterrupt: the job was stopped, and its command has ended.
    """
    with _interruptible(), chdir(setting.directory), _own_cores(setting.cores) as cores:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("a") as log:
            for command in job.commands:
                if command.done:
                    continue
                if _call(command.words, log, setting.environment, cores) != 0:
                    return f"groundling {' '.join(command.words)}"
                command.result.touch()
    return None


def _call(
    words: tuple[str, ...], log: IO[str], environment: dict[str, str], cores: set[int]
) -> int:
    """Runs a `groundling` command in a process of its own; returns its exit code."""
    machine = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    process = None
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, *words],
            stdout=log,
            stderr=log,
            env=machine | environment | {"OMP_NUM_THREADS": str(len(cores) or 1)},
            # Ctrl-C at a terminal is the runner's to pass on: a second one would keep a command
            # from saving.
            start_new_session=True,
        )
        if cores:
            os.sched_setaffinity(process.pid, cores)
        while True:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(SECONDS_BETWEEN_LOOKS)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Whoever stops it says so more than once.
        if process is not None:
            process.terminate()
            process.wait()
        raise


@contextmanager
def _interruptible() -> Iterator[None]:
    """While inside, the process can be interrupted: what a shell starts in the background ignores
    that, and so does all that comes of it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _own_cores(number: int) -> Iterator[set[int]]:
    """So many cores of this machine that no other job has; none, if there are not enough.

    The operating system gives them back with this process, however that ends.
    """
    if not number or not hasattr(os, "sched_getaffinity"):
        yield set()
        return
    locks = Path(tempfile.gettempdir()) / f"groundling-cores-{os.getuid()}"
    locks.mkdir(exist_ok=True)
    with ExitStack() as held:
        cores: set[int] = set()
        for core in sorted(os.sched_getaffinity(0)):
            if len(cores) < number:
                with suppress(Timeout):
                    held.enter_context(FileLock(locks / str(core)).acquire(blocking=False))
                    cores.add(core)
        yield cores if len(cores) == number else set()
