"""Whether a run bears that its rollout worker is killed, again and again. Linux.

    python tests/perf/soak_workers.py [--kills 30] [--frames 2400000] [--seeds 5] [--cores 0 1]

One run whose worker is killed outright so many times, at random moments, and five undisturbed
seeds of the same preset and frames; each with one worker on one core, as many at a time as there
are cores (half an hour for two). Then

- all runs have come to their end; in every row the steps used, dropped and lost are those taken;
- as many workers were replaced as were killed;
- what the disturbed run earns in the last tenth of its frames lies within the 95 % prediction
  interval for one more seed: mean ± t(4) · s · sqrt(1 + 1/5).

Everything is kept in `--directory`, and the same command goes on: what is finished stays, an
undisturbed run resumes, the disturbed one begins again. Exits with 1 if something failed.
"""

import argparse
import json
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
from processes import workers_of
from scipy import stats

from groundling.training.checkpoint import load_checkpoint
from groundling.training.metrics import read_rows
from groundling.training.run import RunDirectory, write_text

SUMS = ("steps_used", "steps_dropped", "steps_lost")


class Run:
    """One run of `groundling train`, with a worker whom somebody may be after.

    Args:
        run: where it lives.
        seed: of it.
        kills: of its worker.
        flags: of the command line.
    """

    def __init__(self, run: RunDirectory, seed: int, kills: int, flags: argparse.Namespace) -> None:
        self.run, self.seed, self.flags = run, seed, flags
        generator = random.Random(seed)
        # In frames: while nobody walks there are no further moments, so nobody fails in a row.
        moments = sorted(generator.uniform(0.02, 0.96) * flags.frames for _ in range(kills))
        self.moments = moments
        self.kills = kills
        self.killed: list[int] = []
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def frames(self) -> int:
        """Learned from so far."""
        rows = read_rows(self.run.metrics)
        return int(rows[-1]["frames"] or 0) if rows else 0

    @property
    def is_finished(self) -> bool:
        """Whether it came to its end."""
        if not self.notes.exists():
            return False
        return bool(load_checkpoint(self.run.checkpoint)["frames"] >= self.flags.frames)

    @property
    def notes(self) -> Path:
        """After how many frames somebody was killed; written when it is over."""
        return self.run.path / "killed.json"

    def go(self, cores: "queue.Queue[int]") -> None:
        """Runs, or goes on, on one of the cores."""
        if self.is_finished:
            return
        if self.kills:  # A checkpoint does not know of kills that came after it.
            shutil.rmtree(self.run.path, ignore_errors=True)
        every = str(max(1, self.flags.frames // 200_000))
        arguments = [self.flags.preset, "--seed", str(self.seed), "--run-dir", str(self.run.path)]
        arguments += ["--frames", str(self.flags.frames), "--workers", "1", "--log-every", every]
        arguments += ["--probe.online", "False"]
        core = cores.get()
        try:
            with open(f"{self.run.path}.log", "ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "groundling", "train", *arguments],
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Who stops us at a terminal does not stop it, too.
                )
                os.sched_setaffinity(self.process.pid, {core})
                self._pursue(self.process)
        finally:
            cores.put(core)

    def _pursue(self, process: "subprocess.Popen[bytes]") -> None:
        """Kills the worker whenever it is time, until the run is over."""
        before = 0
        while process.poll() is None:
            time.sleep(random.uniform(0.1, 1.0))  # in the middle of whatever it is doing
            frames = self.frames if self.moments else 0
            if not self.moments or frames < self.moments[0] or frames <= before:
                continue
            for worker in workers_of(process.pid)[:1]:
                os.kill(worker, signal.SIGKILL)
                self.killed.append(frames)
                self.moments.pop(0)
                before = frames
        if process.returncode:
            raise SystemExit(
                f"{self.run.path} ended with {process.returncode}: see {self.run.path}.log"
            )
        write_text(self.notes, json.dumps(self.killed))

    def stop(self) -> None:
        """Asks the run to save and stop."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait()

    def faults(self) -> list[str]:
        """What is wrong with the accounts of the finished run."""
        checkpoint, killed = (
            load_checkpoint(self.run.checkpoint),
            json.loads(self.notes.read_text()),
        )
        state, found = checkpoint["actor"] | {"frames": checkpoint["frames"]}, []
        for row in [*read_rows(self.run.metrics), state]:
            if row["steps_taken"] != sum(row[name] for name in SUMS):
                found.append(f"steps do not add up: {row}")
            if row["steps_used"] != row["frames"]:
                found.append(f"not every frame was used once: {row}")
        if not len(killed) == self.kills == state["workers_replaced"]:
            found.append(
                f"{len(killed)} of {self.kills} killed, {state['workers_replaced']} replaced"
            )
        return [f"{self.run.path}: {fault}" for fault in found]

    def earned(self) -> float:
        """Mean return of the episodes of the last tenth of its frames."""
        rows = [r for r in read_rows(self.run.metrics) if r["frames"] > 0.9 * self.flags.frames]
        rows = [row for row in rows if row["episodes"]]
        return float(
            np.average([r["episode_return"] for r in rows], weights=[r["episodes"] for r in rows])
        )


def bear_kills(flags: argparse.Namespace) -> list[str]:
    """Runs all that is missing, side by side; what failed, in words."""
    home = flags.directory
    disturbed = Run(RunDirectory(home / "disturbed"), flags.seeds, flags.kills, flags)
    runs = [disturbed]
    runs += [
        Run(RunDirectory(home / f"seed-{seed}"), seed, 0, flags) for seed in range(flags.seeds)
    ]
    cores: queue.Queue[int] = queue.Queue()
    for core in flags.cores:
        cores.put(core)
    with ThreadPoolExecutor(len(flags.cores)) as pool:
        going = [pool.submit(run.go, cores) for run in runs]
        try:
            tell(runs, going)
        except BaseException:
            for future in going:
                future.cancel()
            for run in runs:
                run.stop()
            raise
    for future in going:
        future.result()
    return compare(disturbed, runs[1:], home)


def tell(runs: list[Run], going: "list[Future[None]]") -> None:
    """Says how far the runs are, until they are over."""
    while wait(going, timeout=30).not_done:
        parts = [f"{run.run.path.name} {run.frames / run.flags.frames:.0%}" for run in runs]
        print(f"{', '.join(parts)}; {len(runs[0].killed)} killed", flush=True)


def compare(disturbed: Run, others: list[Run], home: Path) -> list[str]:
    """Holds the disturbed run against the others; what failed, in words."""
    faults = [fault for run in (disturbed, *others) for fault in run.faults()]
    returns = np.array([run.earned() for run in others])
    seeds = len(returns)
    reach = stats.t.ppf(0.975, seeds - 1) * returns.std(ddof=1) * np.sqrt(1 + 1 / seeds)
    low, high, earned = returns.mean() - reach, returns.mean() + reach, disturbed.earned()
    accounts = load_checkpoint(disturbed.run.checkpoint)["actor"]
    lost = accounts["steps_lost"] / accounts["steps_taken"]
    print(f"undisturbed: {', '.join(f'{one:.2f}' for one in returns)}")
    print(f"expected of one more: {low:.2f} to {high:.2f}")
    print(f"disturbed, {disturbed.kills} kills: {earned:.2f}; {lost:.2%} of its steps were lost")
    if not low <= earned <= high:
        faults.append(f"the disturbed run earns {earned:.2f}; expected {low:.2f} to {high:.2f}")
    found = {"returns": returns.tolist(), "interval": [low, high], "disturbed": earned}
    write_text(home / "kills.json", json.dumps(found | {"accounts": accounts, "faults": faults}))
    return faults


def main() -> None:
    """Runs all, and says what failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--frames", type=int, default=2_400_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--preset", default="know-small-none")
    parser.add_argument("--cores", type=int, nargs="+", default=sorted(os.sched_getaffinity(0)))
    parser.add_argument("--directory", type=Path, default=Path("runs/soak"))
    flags = parser.parse_args()
    flags.directory.mkdir(parents=True, exist_ok=True)
    try:
        faults = bear_kills(flags)
    except KeyboardInterrupt:
        raise SystemExit("stopped; the same command goes on") from None
    for fault in faults:
        print(f"✗ {fault}")
    print(f"{len(faults)} failed" if faults else "nothing failed")
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
