"""The loop: unrolls from an actor, or from workers; a learner, or several; a directory to come back
to."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import fmean

import torch

from groundling.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from groundling.training.config import TrainConfig, to_json
from groundling.training.distributed import Workers
from groundling.training.environments import make_environment
from groundling.training.errors import Interrupted
from groundling.training.learners import Learners
from groundling.training.metrics import (
    Measured,
    Row,
    Window,
    discard_after,
    make_trackers,
    write_row,
)
from groundling.training.peer import make_learner
from groundling.training.progress import console, progress
from groundling.training.rollouts import UnrollSource, make_actor
from groundling.training.run import RunDirectory, resolve_device
from groundling.training.unroll import Unroll


def train(config: TrainConfig, run_dir: Path | str, *, show_progress: bool = True) -> RunDirectory:
    """Trains an agent, or goes on where an earlier call with the same arguments stopped.

    Args:
        config: of the run.
        run_dir: made if it is not there.
        show_progress: a live display on stderr.

    Returns:
        The run directory, with `config.json`, `metrics.jsonl` and `checkpoints/latest.pt`.

    Raises:
        ValueError: something in the configuration cannot be done here.
        NonFiniteLoss: training diverged; the last checkpoint is good.
        LearnerLost: one of several learners died; the last checkpoint is good.
        Interrupted: by Ctrl-C or SIGTERM; the checkpoint is written.
    """
    device = resolve_device(config.device)
    with computing(config), closing(Training(config, device)) as training:
        run = RunDirectory(run_dir)
        # Whatever is wrong with an earlier run here is found before a byte of it is overwritten.
        run.check(config)
        with run.locked():
            if run.checkpoint.exists():
                training.resume(run)
            if training.done < 1.0:
                training.start(show_progress)
            run.open_for(config)
            discard_after(run.metrics, training.learner.updates)
            training.run(run, show_progress)
    return run


@contextmanager
def computing(config: TrainConfig) -> Iterator[None]:
    """While inside, torch computes with as many threads as configured, and numbers too small for a
    float32's full precision (below 10⁻³⁸) are 0: processors take many times as long for them, and
    gradients that fade away through many rows come to it."""
    threads, flushed = torch.get_num_threads(), not torch.tensor(1e-38).mul(0.1)
    torch.set_num_threads(config.threads)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushed)


class Training:
    """The parts of a run put together: environment, agent, actor and learners."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.config = config
        environment = make_environment(config.env, stagger=config.env.is_rooms)
        self.learner = make_learner(config, environment, device)
        agent, monitor = self.learner.agent, self.learner.monitor
        self.learners = Learners(config, self.learner)
        kind = Workers if config.rollout.workers else make_actor
        self.actor: UnrollSource = kind(config, environment, agent, asked=monitor is not None)
        self.seconds = 0.0

    @property
    def frames(self) -> int:
        """Environment steps learned from so far."""
        return self.learner.updates * self.config.frames_per_update

    @property
    def done(self) -> float:
        """How much of the run is over, from 0 to 1 (and a little beyond)."""
        limit = 60.0 * self.config.max_minutes
        return max(self.frames / self.config.frames, self.seconds / limit if limit else 0.0)

    def resume(self, run: RunDirectory) -> None:
        """Takes up the run's checkpoint."""
        state = load_checkpoint(run.checkpoint)
        try:
            self.learner.load_state_dict(state["learner"])
            self.actor.load_state_dict(state["actor"])
            self.seconds = state["seconds"]
            torch.set_rng_state(state["torch_rng"])
        except (KeyError, RuntimeError, TypeError) as error:
            raise CheckpointError(
                f"checkpoint {run.checkpoint} does not fit this configuration ({error})"
            ) from error

    def save(self, run: RunDirectory) -> None:
        """Writes the checkpoint: everything that the next update depends on."""
        save_checkpoint(
            run.checkpoint,
            {
                "config": to_json(self.config),
                "learner": self.learner.state_dict(),
                "actor": self.actor.state_dict(),
                "frames": self.frames,
                "seconds": self.seconds,
                "torch_rng": torch.get_rng_state(),
            },
        )

    def _snapshot(self, run: RunDirectory) -> None:
        """Keeps the agent as it is now, if it is time."""
        every, before = self.config.snapshot_every, self.frames - self.config.frames_per_update
        if every and self.frames // every > before // every:
            save_checkpoint(
                run.snapshot(self.frames // every * every),
                {
                    "config": to_json(self.config),
                    "learner": {"agent": self.learner.agent.state_dict()},
                    "frames": self.frames,
                    "seconds": self.seconds,
                },
            )

    def start(self, show_progress: bool) -> None:
        """Gets together whoever walks and learns; raises UserError if something for that is
        missing."""
        workers, learners = self.config.rollout.workers, self.config.learners
        with progress("starting learners", 1.0, shown=show_progress and learners > 1):
            self.learners.start()
        with progress("starting rollout workers", 1.0, shown=show_progress and workers > 0):
            self.actor.start()

    def run(self, run: RunDirectory, show_progress: bool) -> None:
        """Updates until the configured frames, or minutes, are reached."""
        trackers = make_trackers(self.config.track, run.path, to_json(self.config))
        window, saved = Window(), time.monotonic()
        label = f"training {run.path.name}"
        try:
            with (
                stop_request() as stop_requested,
                progress(label, 1.0, shown=show_progress) as advance,
            ):
                advance(self.done)
                while self.done < 1.0:
                    self._update(window)
                    self._snapshot(run)
                    if self.learner.updates % self.config.log_every == 0:
                        row = self._row(window)
                        write_row(run.metrics, row)
                        for tracker in trackers:
                            tracker.log(row)
                        advance(self.done, _note(row))
                    if stop_requested():
                        self.actor.settle()
                        self.save(run)
                        raise Interrupted(f"stopped at {self.frames:,} frames and saved")
                    if time.monotonic() - saved > self.config.save_every:
                        self.save(run)
                        saved = time.monotonic()
                self.actor.settle()
                self.save(run)
        finally:
            for tracker in trackers:
                tracker.close()

    def collect(self) -> Unroll:
        """The next unroll, with questions for the online probe if it is time."""
        updates, monitor = self.learner.updates, self.learner.monitor
        return self.actor.collect(
            self.config.learner.unroll_length,
            policy_version=updates,
            ask=monitor is not None and monitor.is_due(updates),
        )

    def learn(self, unroll: Unroll) -> list[dict[str, Measured]]:
        """Learns from it; what each learner measured, more of it before a row is written."""
        is_last_of_row = (self.learner.updates + 1) % self.config.log_every == 0
        return self.learners.step(unroll, inspect=is_last_of_row)

    def _update(self, window: Window) -> None:
        started = time.perf_counter()
        for measured in self.learn(self.collect()):
            window.add(measured)
        self.seconds += time.perf_counter() - started

    def _row(self, window: Window) -> Row:
        """One row of metrics: where the run is, what its episodes earned, what was measured."""
        episodes, self.actor.finished = self.actor.finished, []
        means = window.take()
        return {
            "updates": self.learner.updates,
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            "frames_per_second": self.frames / self.seconds,
            "episodes": len(episodes),
            "episode_return": fmean(e.episode_return for e in episodes) if episodes else None,
            "episode_length": fmean(e.length for e in episodes) if episodes else None,
            "weight_norm": self.learner.weight_norm(),
            **self.actor.accounts(),
            **means,
        }

    def close(self) -> None:
        """Gives back what the run held: its environments, its workers, its learners."""
        try:
            self.actor.close()
        finally:
            self.learners.close()


def _note(row: Row) -> str:
    earned = row["episode_return"]
    shown = "–" if earned is None else f"{earned:.2f}"
    return f"return {shown}  {row['frames_per_second']:,.0f} frames/s"


@contextmanager
def stop_request() -> Iterator["StopFlag"]:
    """Turns the first Ctrl-C (or SIGTERM, or hangup) into a request, granted when it suits.

    A second Ctrl-C interrupts at once, as usual. Outside the main thread signals stay as they are.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
        before[signal.SIGHUP] = signal.getsignal(signal.SIGHUP)

    def ask(number: int, frame: object) -> None:
        flag.asked = True
        console.print("stopping; once more to stop at once")
        for one, handler in before.items():
            signal.signal(one, handler)

    for number in before:
        signal.signal(number, ask)
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StopFlag:
    """Whether somebody asked to stop."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        """Whether somebody did."""
        return self.asked
