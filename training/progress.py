"""How far, how fast, and how long still: one display for everything over two seconds."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console(stderr=True)
"""Everything a person reads while waiting goes to stderr; stdout is for results."""

SECONDS_BETWEEN_LINES = 15.0


class Advance(Protocol):
    """Tells the display how far the work has come."""

    def __call__(self, completed: float, note: str = "") -> None:
        """`completed` out of the total, and a few words."""


@contextmanager
def progress(description: str, total: float, *, shown: bool = True) -> Iterator[Advance]:
    """A live bar on a terminal, a line now and then elsewhere.

    Args:
        description: what is being done.
        total: in the unit that `completed` will be given in.
        shown: False is silence.
    """
    if not shown:
        yield lambda completed, note="": None
    elif console.is_terminal:
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        ) as display:
            task = display.add_task(description, total=total, note="")
            yield lambda completed, note="": display.update(task, completed=completed, note=note)
    else:
        yield _lines(description, total)


def _lines(description: str, total: float) -> Advance:
    """Plain lines for logs and pipes."""
    started = last = time.monotonic()
    first: float | None = None

    def advance(completed: float, note: str = "") -> None:
        nonlocal last, first
        completed = min(completed, total)  # The last update may go beyond what was asked for.
        now = time.monotonic()
        # A resumed run starts in the middle; only what was done since tells the speed.
        first = completed if first is None else first
        if now - last < SECONDS_BETWEEN_LINES and completed < total:
            return
        last = now
        done = completed - first
        left = (total - completed) * (now - started) / done if done > 0 else float("nan")
        print(
            f"{description}: {completed / total:4.0%}, {left:.0f} s left  {note}",
            file=sys.stderr,
            flush=True,
        )

    return advance
