"""How long it takes to begin, and how much memory the demo takes.

    python tests/perf/bench_start.py [--rounds 5] [--core 0] [--frames 100000]

Importing (0.3 s at most), the first step of `groundling train demo` after the command (5 s, with
compiled kernels in numba's cache), and the most memory of each of the demo's four commands (1 GiB),
with fewer frames than `make demo`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

IMPORT = "import time; s = time.perf_counter(); import groundling; print(time.perf_counter() - s)"

FIRST = """
import os, sys, time
from groundling.training.stepping import Stepper
step = Stepper.step
def stepped(*arguments):
    step(*arguments)
    print(time.time(), flush=True)
    os._exit(0)
Stepper.step = stepped
from groundling.cli import main
sys.argv[0] = "groundling"
main()
"""


def importing() -> float:
    """Seconds that `import groundling` takes."""
    return float(subprocess.check_output([sys.executable, "-c", IMPORT], text=True))


def first_step() -> float:
    """Seconds from the command to the first step of every environment."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", FIRST, "train", "demo", "--run-dir", f"{folder}/run"]
        started = time.time()
        told = subprocess.check_output(command, text=True)
    return float(told.split()[-1]) - started


def most_memory(*words: str) -> float:
    """MiB that a command of groundling holds at its peak; it must succeed."""
    command = [sys.executable, "-m", "groundling", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, words
    return used.ru_maxrss / 1024


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--core", type=int, default=0, help="the core everything runs on")
    parser.add_argument("--frames", type=int, default=100_000, help="of the demo's training")
    flags = parser.parse_args()
    os.sched_setaffinity(0, {flags.core})
    first_step()  # Kernels are compiled now.
    for name, measure, bar in (("import", importing, 0.3), ("first step", first_step, 5.0)):
        seconds = median(measure() for _ in range(flags.rounds))
        print(f"{name:<12}{seconds:>8.2f} s{bar:>8}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(folder) / "run")
        for words in (
            ("train", "demo", "--run-dir", run, "--frames", str(flags.frames)),
            ("evaluate", run),
            ("probe", run, "--quick"),
            ("report", run),
        ):
            print(f"{words[0]:<12}{most_memory(*words):>6.0f} MiB{1024:>8}", flush=True)


if __name__ == "__main__":
    main()
