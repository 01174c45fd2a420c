"""What a run writes down about itself: `metrics.jsonl`, one JSON object per line."""

import json
import math
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from groundling.envs.errors import UserError


class Measured(NamedTuple):
    """A number and how many observations it is the mean of."""

    value: float
    weight: float = 1.0


class Window:
    """Weighted means of everything measured since the last row."""

    def __init__(self) -> None:
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._weights: defaultdict[str, float] = defaultdict(float)

    def add(self, measured: Mapping[str, Measured]) -> None:
        """Takes in one update's numbers."""
        for name, (value, weight) in measured.items():
            self._sums[name] += value * weight
            self._weights[name] += weight

    def take(self) -> dict[str, float]:
        """The means by name; the window is empty afterwards."""
        means = {name: self._sums[name] / self._weights[name] for name in self._sums}
        self._sums.clear()
        self._weights.clear()
        return means


Row = dict[str, float | int | None]


def write_row(path: Path, row: Row) -> None:
    """Appends one row. A number that JSON does not have (NaN, ∞) becomes null."""
    clean = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(clean) + "\n")


def read_rows(path: Path) -> list[Row]:
    """The rows in order; a last line that a kill cut short is left out. No file, no rows."""
    if not path.exists():
        return []
    rows: list[Row] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def discard_after(path: Path, updates: int) -> int:
    """Moves rows that lie past a checkpoint to `metrics.discarded.jsonl`; returns how many.

    A run that died after its last checkpoint walks those updates again, and must not count twice.
    """
    rows = read_rows(path)
    kept = [row for row in rows if (row["updates"] or 0) <= updates]
    late = [row for row in rows if (row["updates"] or 0) > updates]
    if late:
        with path.with_suffix(".discarded.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in late)
    if path.exists():
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        os.replace(temporary, path)
    return len(late)


class Tracker(Protocol):
    """Somewhere else the rows go."""

    def log(self, row: Row) -> None:
        """Takes one row of metrics."""

    def close(self) -> None:
        """Flushes what is left."""


class TensorBoard:
    """Rows as TensorBoard scalars (extra `tensorboard`)."""

    def __init__(self, directory: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(directory / "tensorboard"))

    def log(self, row: Row) -> None:
        """Takes one row of metrics."""
        for name, value in row.items():
            if value is not None:
                self._writer.add_scalar(name, value, row["frames"])

    def close(self) -> None:
        """Flushes what is left."""
        self._writer.close()


class WeightsAndBiases:
    """Rows to Weights & Biases (extra `wandb`)."""

    def __init__(self, directory: Path, config: dict[str, Any]) -> None:
        import wandb

        self._run = wandb.init(
            project="groundling", name=directory.name, dir=str(directory), config=config
        )

    def log(self, row: Row) -> None:
        """Takes one row of metrics."""
        self._run.log(row)

    def close(self) -> None:
        """Flushes what is left."""
        self._run.finish()


def make_trackers(names: tuple[str, ...], directory: Path, config: dict[str, Any]) -> list[Tracker]:
    """The trackers a configuration names.

    Raises:
        ValueError: the extra that a tracker needs is not installed.
    """
    trackers: list[Tracker] = []
    for name in names:
        try:
            trackers.append(
                TensorBoard(directory)
                if name == "tensorboard"
                else WeightsAndBiases(directory, config)
            )
        except ModuleNotFoundError as error:
            raise UserError(
                f"track {name} needs a package that is missing ({error.name}); "
                f"expected pip install 'groundling[{name}]' first"
            ) from error
    return trackers
