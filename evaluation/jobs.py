"""Jobs: commands of `groundling` in processes of their own, several jobs at a time, one per core.

What has its result is skipped and what was interrupted resumes, so the same jobs can be run again
after anything.
"""

import itertools
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from groundling.training.loop import stop_request
from groundling.training.progress import Advance, console, progress

STOPPED = 130
"""Exit code of a command that Ctrl-C ended."""


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
        """Whether no command is left to be run."""
        return all(command.done for command in self.commands)


class Runner:
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
            except Exception:  # Of ours, or a full disk: the other jobs go on.
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
            for command in job.commands:
                if command.done:
                    continue
                if self._call(command.words, processor, log) != 0:
                    if not self._stopping.is_set():
                        called = f"groundling {' '.join(command.words)}"
                        told = f"{job.name}: `{called}` failed, see {log.name}"
                        console.print(told, markup=False)
                    return False
                command.result.touch()
        return True

    def _call(self, words: tuple[str, ...], processor: int | None, log: IO[str]) -> int:
        """Runs a `groundling` command in a process of its own; returns its exit code."""
        with self._lock:
            if self._stopping.is_set():
                return STOPPED
            process = subprocess.Popen(
                [sys.executable, "-m", "groundling", *words],
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
