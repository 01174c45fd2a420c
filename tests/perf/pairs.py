"""Two pieces of work that take turns on one core: whatever else the machine does hits both.

Each lives in a process of its own, as it would by itself, and rests while the other works.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from statistics import median
from typing import NamedTuple

Work = Callable[[], object]
Make = Callable[[], Work]
"""Gets ready; importable, as it is called in the new process."""


class Pair(NamedTuple):
    """How long two pieces of work take."""

    first: float
    """Median seconds of the first."""
    second: float
    """Median seconds of the second."""
    ratio: float
    """Median over rounds of the second's seconds over the first's."""


def paired(first: Make, second: Make, *, rounds: int, core: int) -> Pair:
    """Times both, one after the other, so many times, after one that is not timed."""
    with _contestant(first, core) as one, _contestant(second, core) as two:
        pairs = [(one(), two()) for _ in range(rounds + 1)][1:]
    return Pair(
        median(pair[0] for pair in pairs),
        median(pair[1] for pair in pairs),
        median(two / one for one, two in pairs),
    )


@contextmanager
def _contestant(make: Make, core: int) -> Iterator[Callable[[], float]]:
    """What has it work once, and returns how many seconds that took."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_live, args=(make, core, there))
    process.start()
    there.close()  # Who dies is then noticed: EOFError.
    assert here.recv() == "ready"

    def once() -> float:
        here.send("go")
        return float(here.recv())

    try:
        yield once
    finally:
        here.close()
        process.join()


def _live(make: Make, core: int, pipe: Connection) -> None:
    os.sched_setaffinity(0, {core})  # Before anybody starts a thread.
    import torch

    torch.set_num_threads(1)
    work = make()
    pipe.send("ready")
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        started = time.perf_counter()
        work()
        pipe.send(time.perf_counter() - started)
