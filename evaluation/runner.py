"""Runs jobs behind Ray, as many at a time as there is room for."""

import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from groundling.envs.errors import UserError
from groundling.evaluation.jobs import Job, Setting, run_job
from groundling.training.cluster import cluster
from groundling.training.loop import stop_request
from groundling.training.progress import console, progress


@dataclass(frozen=True)
class Room:
    """What each job is given of a cluster."""

    cpus: float = 1.0
    """CPUs that are reserved; on this machine it is pinned to so many cores, to one at least."""
    gpus: float = 0.0
    """GPUs that are reserved, or a share of one."""
    at_once: int | None = None
    """Jobs at a time, instead of as many as there are CPUs for."""
    address: str = ""
    """The Ray cluster: auto, or HOST:PORT, whose machines share this one's files (empty: one is
    started on this machine, and stopped in the end)."""

    def __post_init__(self) -> None:
        if not self.cpus > 0:
            raise UserError(f"--cpus-per-run is {self.cpus:g}; expected a positive number")
        if not self.gpus >= 0:
            raise UserError(f"--gpus-per-run is {self.gpus:g}; expected 0 or more")

    @property
    def cores(self) -> int:
        """Cores of this machine for each job; 0 elsewhere."""
        return 0 if self.address else max(1, int(self.cpus))


class Outcome(NamedTuple):
    """What became of jobs."""

    stopped: bool
    """Somebody asked them to stop before all had come to their end."""
    failed: list[Job]
    """Jobs of which a command ended with an error."""


def run_jobs(jobs: Sequence[Job], room: Room | None = None) -> Outcome:
    """Runs what is not finished yet. Ray is not started if nothing is.

    Ctrl-C stops the running commands, of which training saves what it has, and starts no more.

    Args:
        jobs: in the order in which they are to be started; those that are done are left alone.
        room: what each is given.

    Raises:
        UserError: there is no such cluster, or never room for a single job.
    """
    waiting = [job for job in jobs if not job.done]
    if not waiting:
        return Outcome(False, [])
    room = room or Room()
    found = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}
    setting = Setting(Path.cwd(), found, room.cores)
    with ExitStack() as opened:
        asked_to_stop = opened.enter_context(stop_request())
        opened.enter_context(cluster(room.address))
        advance = opened.enter_context(progress("runs", len(jobs)))
        running = _submit(waiting, setting, room)
        failed: list[Job] = []
        stopping = False
        advance(len(jobs) - len(running))
        while running:
            for reference in _ready(running):
                job = running.pop(reference)
                if _failed(job, reference):
                    failed.append(job)
                if not stopping:
                    advance(len(jobs) - len(running), job.name)
            if asked_to_stop():
                stopping = True
                _cancel(running)  # Again, too: a job that is just beginning may not have heard it.
    return Outcome(stopping, failed)


def check_room(room: Room) -> None:
    """Raises UserError if no machine of the cluster that was joined has so much."""
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for flag, name, asked in (
        ("--cpus-per-run", "CPU", room.cpus),
        ("--gpus-per-run", "GPU", room.gpus),
    ):
        most = max(machine.get(name, 0.0) for machine in machines)
        if asked > most:
            raise UserError(f"{flag} is {asked:g}; expected at most the {most:g} of one machine")


def _submit(jobs: Sequence[Job], setting: Setting, room: Room) -> dict[Any, Job]:
    """Hands the jobs to Ray; by references to what becomes of them."""
    import ray

    check_room(room)
    cpus = room.cpus
    if room.at_once is not None:
        # Ray knows of ten-thousandths.
        cpus = math.floor(1e4 * ray.cluster_resources()["CPU"] / room.at_once) / 1e4
    task = ray.remote(run_job).options(num_cpus=cpus, num_gpus=room.gpus)
    return {task.remote(job, setting): job for job in jobs}


def _ready(running: dict[Any, Job]) -> list[Any]:
    """References to jobs that have ended; waits a little for one."""
    import ray

    return list(ray.wait(list(running), timeout=0.2)[0])


def _cancel(running: dict[Any, Job]) -> None:
    import ray

    for reference in running:
        ray.cancel(reference)


def _failed(job: Job, reference: Any) -> bool:
    """Whether a job that has ended failed; says so."""
    import ray

    try:
        command = ray.get(reference)
    except ray.exceptions.TaskCancelledError:
        return False
    except ray.exceptions.RayError as error:  # Of ours, or a full disk, or a machine that is gone.
        said = f"{type(error).__name__}: {error}"
        console.print(f"{job.name} failed: {said}", markup=False, highlight=False)
        return True
    if command is not None:
        told = f"{job.name}: `{command}` failed, see {job.log}"
        console.print(told, markup=False, highlight=False, soft_wrap=True)
    return command is not None
