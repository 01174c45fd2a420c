"""The run directory: everything a run leaves behind, and how to find it again."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from groundling.agents.agent import Agent
from groundling.envs.errors import UserError
from groundling.training.checkpoint import CheckpointError, load_checkpoint, package_versions
from groundling.training.config import TrainConfig, differences, from_json, to_json
from groundling.training.environments import make_environment


class RunDirectory:
    """Paths of a run. Opening one touches nothing."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoint = self.path / "checkpoints" / "latest.pt"
        self.probe = self.path / "probe"
        self.decoder = self.probe / "decoder.pt"
        self.evaluation = self.path / "evaluation"
        self.inspection = self.path / "inspection"
        self.media = self.path / "media"
        self.report = self.path / "report.html"
        self.lock = self.checkpoint.with_name("lock")

    def snapshot(self, frames: int) -> Path:
        """The checkpoint that was kept after so many frames (`TrainConfig.snapshot_every`)."""
        return self.checkpoint.with_name(f"frames-{frames}.pt")

    def snapshots(self) -> list[int]:
        """Frames of training after which a checkpoint was kept, ascending."""
        kept = self.checkpoint.parent.glob("frames-*.pt")
        names = [path.stem.removeprefix("frames-") for path in kept]
        return sorted(int(name) for name in names if name.isdecimal())

    def results(self, frames: int | None = None) -> Path:
        """What probing found: of the latest checkpoint, or of a snapshot."""
        return self.probe / ("results.json" if frames is None else f"results-{frames}.json")

    def picture(self, frames: int | None = None) -> Path:
        """`results`, drawn."""
        return self.results(frames).with_suffix(".png")

    def finding(self, part: str) -> Path:
        """What one part of an inspection found (`evaluation.finding`)."""
        return self.inspection / f"{part}.json"

    def by_room(self, frames: int | None = None) -> Path:
        """Right answers by room, beside `results`, for comparisons."""
        return self.probe / ("by-room.pt" if frames is None else f"by-room-{frames}.pt")

    def read_config(self) -> TrainConfig:
        """The configuration this run was made with.

        Raises:
            ValueError: this is no run directory, or its configuration is damaged.
        """
        try:
            values = json.loads(self.config.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(
                f"{self.path} is no run; expected a directory that `groundling train` made"
            ) from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{self.config} is damaged ({error}); expected JSON") from error
        try:
            config: TrainConfig = from_json(
                values.get("config", values) if isinstance(values, dict) else values
            )
        except UserError as error:
            raise UserError(f"{self.config}: {error}") from error
        return config

    def check(self, config: TrainConfig) -> None:
        """Looks whether a run of this configuration may live here. Touches nothing.

        Raises:
            ValueError: another configuration, or something else, lives here.
        """
        if self.config.exists():
            changed = differences(self.read_config(), config)
            if changed:
                raise UserError(
                    f"run-dir {self.path} was made with another configuration "
                    f"({'; '.join(changed[:3])}); expected the same, or another --run-dir"
                )
        elif any(file != self.lock for file in self.path.rglob("*") if not file.is_dir()):
            raise UserError(
                f"run-dir {self.path} holds other files; expected a new or an empty directory"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the directory, if it is not there, and keeps other training runs out of it.

        The operating system releases the lock with the process, however that ends. If nothing was
        written after all (`open_for`), nothing that was made here stays.

        Raises:
            ValueError: another process trains here, or the directory cannot be written.
        """
        lock, is_new = FileLock(self.lock), not self.path.exists()
        with self._writing():
            self.lock.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=False)
            except Timeout as error:
                raise UserError(
                    f"run-dir {self.path} is in use by another `groundling train`; expected it "
                    "to be over, or another --run-dir"
                ) from error
        try:
            yield
        finally:
            if not self.config.exists():
                self._withdraw(is_new)
            lock.release()

    def _withdraw(self, is_new: bool) -> None:
        """Removes the lock and the empty folders around it; the directory itself if it is new."""
        with suppress(OSError):  # Not where an open file cannot be removed, or others write, too.
            self.lock.unlink()
            self.lock.parent.rmdir()
            if is_new:
                self.path.rmdir()

    def open_for(self, config: TrainConfig) -> None:
        """Writes down what is run in the directory.

        Raises:
            ValueError: the directory cannot be written.
        """
        with self._writing():
            self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.config, json.dumps(self._about(config), indent=2) + "\n")

    def make(self, folder: Path) -> None:
        """Makes a folder of the run, if it is not there.

        Raises:
            ValueError: it cannot be made.
        """
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"run-dir {self.path} cannot be written ({error.strerror}); expected a directory "
                "you may write to"
            ) from error

    def _about(self, config: TrainConfig) -> dict[str, Any]:
        return {
            "config": to_json(config),
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "packages": package_versions(),
        }


def write_text(path: Path, text: str) -> None:
    """Writes a text file: see `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name and renames it: never half a file."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def load_agent(
    path: Path | str,
    *,
    device: str = "cpu",
    frames: int | None = None,
    untrained: bool = False,
) -> tuple[Agent, TrainConfig]:
    """The agent of a run directory, frozen and in evaluation mode, and its configuration.

    Args:
        path: the run directory.
        device: where its weights go.
        frames: the snapshot after so many frames instead of the latest checkpoint.
        untrained: the same agent as it was before its first update (a control).

    Raises:
        UserError: the directory is no run, or its checkpoint cannot be used.
    """
    run = RunDirectory(path)
    config = run.read_config()
    agent = make_agent(config, resolve_device(device))
    if not untrained:
        checkpoint = run.checkpoint if frames is None else run.snapshot(frames)
        if not checkpoint.exists():
            raise UserError(f"{checkpoint} is not there; expected a run that was trained so far")
        state = load_checkpoint(checkpoint)
        try:
            agent.load_state_dict(state["learner"]["agent"])
        except (RuntimeError, KeyError) as error:
            raise CheckpointError(
                f"checkpoint {checkpoint} does not fit the configuration beside it"
            ) from error
    return agent.requires_grad_(False).eval(), config


def make_agent(config: TrainConfig, device: torch.device) -> Agent:
    """A fresh agent for the spaces of the configured environment."""
    environment = make_environment(config.env, num_envs=1)
    try:
        return Agent(
            environment.single_observation_space,
            environment.single_action_space,
            config.agent,
            config.seed,
        ).to(device)
    finally:
        environment.close()


def resolve_device(name: str) -> torch.device:
    """The named device, if it is there.

    Raises:
        ValueError: names what is there instead.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        there = ["cpu"]
        there += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        there += ["mps"] if torch.backends.mps.is_available() else []
        raise UserError(
            f"device {name!r} is not there; expected one of {', '.join(there)}"
        ) from error
    return device
