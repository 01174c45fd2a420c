"""Population-based training: what a member is, and what it takes over from another one.

Jaderberg et al. 2017 (arXiv 1711.09846); the agents of Jaderberg et al. 2019 (For the Win) were
trained so. All members train side by side; after every round the worst go on with the weights,
the optimiser and the hyperparameters of the best (exploit), the latter changed a little (explore).
Who does so is decided by Ray Tune (`training/tuned.py`), which is needed there and not here.

A member is a run directory like any other; `lineage.jsonl` in it has a row for each round.
"""

import dataclasses
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from groundling.envs.errors import UserError
from groundling.training.checkpoint import load_checkpoint, save_checkpoint
from groundling.training.config import TrainConfig, to_json
from groundling.training.errors import NonFiniteLoss
from groundling.training.loop import train
from groundling.training.metrics import Row, read_rows, write_row
from groundling.training.run import RunDirectory

Values = dict[str, float]
"""Hyperparameters by name."""

MUTABLE = (
    "learner.learning_rate",
    "learner.entropy_weight",
    "learner.baseline_weight",
    "learner.location_weight",
    "learner.location_entropy_weight",
    "learner.label_weight",
    "agent.prediction.weight",
    "agent.prediction.present_weight",
)
"""What may be explored. The weight of the policy gradient stays: the others are relative to it."""

SPREAD = 3.0
"""First values lie between a third of the preset's and three times that, evenly by logarithm."""

CHECKPOINT, FROM = "latest.pt", "member"
"""Files that are handed from one member to another: the checkpoint; whose it is."""


def hyperparameters(config: TrainConfig) -> Values:
    """Those of `MUTABLE` that do something in this configuration, by name."""
    values: Values = {}
    for name in MUTABLE:
        holder, field = _holder(config, name)
        values[name] = float(getattr(holder, field))
    if config.agent.attention == "none" or config.agent.glimpse.policy != "learned":
        del values["learner.location_weight"], values["learner.location_entropy_weight"]
    if config.agent.prediction.loss == "none":
        del values["agent.prediction.weight"], values["agent.prediction.present_weight"]
    return {name: value for name, value in values.items() if value}


def _holder(config: TrainConfig, name: str) -> tuple[object, str]:
    *path, field = name.split(".")
    holder: object = config
    for part in path:
        holder = getattr(holder, part)
    return holder, field


def with_hyperparameters(config: TrainConfig, values: Mapping[str, float]) -> TrainConfig:
    """The configuration with these values in their places."""

    def replaced(holder: object, path: Sequence[str], value: object) -> object:
        if not path:
            return value
        inner = replaced(getattr(holder, path[0]), path[1:], value)
        return dataclasses.replace(holder, **{path[0]: inner})  # type: ignore[type-var]

    for name, value in values.items():
        made = replaced(config, name.split("."), value)
        assert isinstance(made, TrainConfig)
        config = made
    return config


def chosen(config: TrainConfig, names: Sequence[str]) -> tuple[str, ...]:
    """The hyperparameters that are explored.

    Args:
        config: of the preset.
        names: as on the command line; none of them: all that do something.

    Raises:
        UserError: one does nothing here; names the nearest.
    """
    there = hyperparameters(config)
    for name in names:
        if name.replace("-", "_") not in there:
            near = get_close_matches(name.replace("-", "_"), there, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(
                f"--mutate has {name}, which is nothing that these runs learn with; {hint}expected "
                f"some of {', '.join(there)}"
            )
    return tuple(name.replace("-", "_") for name in names) or tuple(there)


@dataclass(frozen=True)
class Population:
    """What all members have in common."""

    config: TrainConfig
    """Of the preset; member i's has seed + i, and hyperparameters of its own."""
    directory: Path
    """Holds the members' run directories; absolute."""
    size: int
    """Members."""
    every: int
    """Frames of each member from one round to the next."""
    mutated: tuple[str, ...]
    """Names of the hyperparameters that are explored."""

    def __post_init__(self) -> None:
        row = self.config.log_every * self.config.frames_per_update
        if self.size < 2:
            raise UserError(f"--population is {self.size}; expected at least 2")
        if not row <= self.every < self.config.frames:
            raise UserError(
                f"--perturb-every is {self.every:,} frames; expected at least those of a row of "
                f"metrics ({row:,}: --log-every), and fewer than --frames "
                f"({self.config.frames:,})"
            )
        if self.config.rollout.workers:
            raise UserError(
                f"--workers is {self.config.rollout.workers}; expected 0 in a population"
            )

    @property
    def rounds(self) -> int:
        """How many there are; the last may be shorter."""
        return math.ceil(self.config.frames / self.every)

    @property
    def members(self) -> list["Member"]:
        """All of them, with the hyperparameters they have now."""
        return [Member(self, number) for number in range(self.size)]

    @property
    def rounds_lived(self) -> int:
        """Rounds that every member has come to the end of."""
        return min(len(member.lineage) for member in self.members)

    def first_values(self, number: int) -> Values:
        """The preset's for member 0, and drawn around them for the others."""
        values = hyperparameters(self.config)
        generator = random.Random(f"{self.config.seed} {number}")
        return {name: values[name] * (drawn(generator) if number else 1.0) for name in self.mutated}


def drawn(generator: random.Random) -> float:
    """A factor between 1 / `SPREAD` and `SPREAD`, evenly by logarithm."""
    return float(SPREAD ** generator.uniform(-1.0, 1.0))


class Member:
    """One run of a population.

    Args:
        population: it belongs to.
        number: from 0.
        values: its hyperparameters; None: those it has in its directory, or begins with.
    """

    def __init__(
        self, population: Population, number: int, values: Mapping[str, float] | None = None
    ) -> None:
        self.population = population
        self.number = number
        self.run = RunDirectory(population.directory / f"member-{number}")
        self.values = dict(values) if values is not None else self._own_values()
        self.parent = number
        """Whose weights the present round began with."""

    def _own_values(self) -> Values:
        if not self.run.config.exists():
            return self.population.first_values(self.number)
        there = hyperparameters(self.run.read_config())
        return {name: there[name] for name in self.population.mutated}

    @property
    def lineage(self) -> list[Row]:
        """A row for each round that it has come to the end of: round, frames, score (None:
        diverged), parent, and the hyperparameters."""
        return read_rows(self.run.path / "lineage.jsonl")

    def config(self, frames: int) -> TrainConfig:
        """Of its run, up to so many frames."""
        config = with_hyperparameters(self.population.config, self.values)
        return dataclasses.replace(config, seed=config.seed + self.number, frames=frames)

    def live(self, number: int) -> Row:
        """Trains to the end of a round, and writes it down; not again if it did so before.

        Args:
            number: of the round, from 0.

        Returns:
            The row of `lineage`.

        Raises:
            Interrupted: see `loop.train`.
        """
        if number < len(lineage := self.lineage):
            return lineage[number]  # The others were interrupted, and have to come so far first.
        begin = number * self.population.every
        frames = min(begin + self.population.every, self.population.config.frames)
        score: float | None
        try:
            train(self.config(frames), self.run.path, show_progress=False)
            score = self._score(begin)
        except NonFiniteLoss:
            score = None
        row: Row = {"round": number, "frames": frames, "score": score, "parent": self.parent}
        row.update(self.values)
        self.run.make(self.run.path)
        write_row(self.run.path / "lineage.jsonl", row)
        self.parent = self.number
        return row

    def _score(self, begin: int) -> float | None:
        """Mean return of the episodes that ended after so many frames; None if none did."""
        rows = [row for row in read_rows(self.run.metrics) if (row["frames"] or 0) > begin]
        earned = [
            (row["episode_return"], row["episodes"] or 0)
            for row in rows
            if row["episode_return"] is not None
        ]
        episodes = sum(number for _, number in earned)
        return sum(mean * number for mean, number in earned) / episodes if episodes else None

    def hand_on(self, directory: Path) -> None:
        """Leaves its checkpoint for others to take over; none, if it has not come so far."""
        (directory / FROM).write_text(str(self.number))
        if self.run.checkpoint.exists():
            (directory / CHECKPOINT).write_bytes(self.run.checkpoint.read_bytes())

    def take_over(self, directory: Path) -> None:
        """Goes on with another member's weights and optimiser, and with its own `values`.

        Environments and random draws stay its own. What it handed on itself it has already.
        """
        parent = int((directory / FROM).read_text())
        if parent == self.number or not (directory / CHECKPOINT).exists():
            return
        state = load_checkpoint(directory / CHECKPOINT)
        config = self.config(int(state["frames"]))
        if self.run.checkpoint.exists():
            own = load_checkpoint(self.run.checkpoint)
            learner = state["learner"] | {"generator": own["learner"]["generator"]}
            state = own | {"learner": learner, "frames": state["frames"]}
        save_checkpoint(self.run.checkpoint, state | {"config": to_json(config)})
        self.run.open_for(config)
        self.parent = parent
