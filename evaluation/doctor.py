"""What is installed, what the machine has, and what to fix."""

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import torch

REQUIRED = ("torch", "gymnasium", "numpy", "numba", "tyro", "rich", "matplotlib", "pillow")
EXTRAS = {"tensorboard": "tensorboard", "wandb": "wandb"}
SHARED_MEMORY_WANTED = 1 << 30


class Finding(NamedTuple):
    """One line of the examination; `advice` is empty where nothing needs to be done."""

    what: str
    found: str
    advice: str = ""


def examine() -> list[Finding]:
    """Looks at the installation and the machine. Changes nothing."""
    return [*_packages(), *_devices(), *_machine()]


def _packages() -> Iterator[Finding]:
    running = platform.python_version()
    yield Finding(
        "python", running, "" if sys.version_info >= (3, 11) else "install Python 3.11 or newer"
    )
    for name in REQUIRED:
        try:
            yield Finding(name, version(name))
        except PackageNotFoundError:
            yield Finding(name, "missing", f"pip install {name}")
    for name, extra in EXTRAS.items():
        there = importlib.util.find_spec(name) is not None
        yield Finding(
            f"{name} (extra)",
            version(name) if there else "not installed",
            "" if there else f"only for --track {name}: pip install 'groundling[{extra}]'",
        )


def _devices() -> Iterator[Finding]:
    count = torch.cuda.device_count()
    for index in range(count):
        yield Finding(f"cuda:{index}", torch.cuda.get_device_name(index))
    if not count:
        built = torch.version.cuda
        yield Finding(
            "cuda",
            "no GPU" if built else "this torch is built for CPU",
            "" if built or not shutil.which("nvidia-smi") else "install a CUDA build of torch",
        )
    if torch.backends.mps.is_available():
        yield Finding("mps", "available")


def _machine() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("cores", str(cores))
    threads = torch.get_num_threads()
    too_many = cores is not None and threads > cores
    yield Finding("torch threads", str(threads), f"set OMP_NUM_THREADS={cores}" if too_many else "")
    shared = Path("/dev/shm")
    if shared.exists():
        free = shutil.disk_usage(shared).free
        advice = "" if free >= SHARED_MEMORY_WANTED else "give /dev/shm at least 1 GiB"
        yield Finding("shared memory", f"{free / 2**30:.1f} GiB free", advice)
    cache = Path(os.environ.get("NUMBA_CACHE_DIR", Path(__file__).parent))
    writable = os.access(cache, os.W_OK)
    yield Finding(
        "kernel cache",
        "writable" if writable else "not writable",
        "" if writable else "set NUMBA_CACHE_DIR to a writable folder, or each start compiles anew",
    )
