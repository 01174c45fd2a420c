"""Processes of a run with workers, as Linux tells of them in /proc."""

import contextlib
import re
from pathlib import Path


def family(ancestor: int) -> set[int]:
    """Ids of a process and all that came of it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = number(int(entry.name), "PPid")
    found = {ancestor}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def number(process: int, field: str) -> int:
    """Of the kernel's status of a process."""
    found = re.search(rf"^{field}:\s+(\d+)", Path(f"/proc/{process}/status").read_text(), re.M)
    return int(found[1]) if found else 0


def workers_of(driver: int) -> list[int]:
    """Processes in which a run's environments walk."""
    found = []
    for process in family(driver):
        with contextlib.suppress(OSError):
            if b"ray::RolloutWorker" in Path(f"/proc/{process}/cmdline").read_bytes():
                found.append(process)
    return found
