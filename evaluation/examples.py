"""The data of probing: agents taken through rooms they never met, and asked on the way.

What was collected is kept in the run directory under a name made of everything that decides it, so
that nothing is walked twice for the same weights and settings.
"""

import dataclasses
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from groundling.agents.agent import Agent, Rows
from groundling.agents.generators import named_generator, named_seed
from groundling.envs.errors import UserError
from groundling.envs.questions import Oracle, Questions, QuestionSource, balance, concatenate
from groundling.evaluation.observed import ObservationCode
from groundling.evaluation.protocol import ProbeSettings, digest, weights_digest
from groundling.evaluation.walks import (
    Choose,
    Reader,
    at_random,
    by_agent,
    by_explorer,
    walk,
)
from groundling.training.checkpoint import load_checkpoint, package_versions, save_checkpoint
from groundling.training.config import EnvironmentConfig
from groundling.training.environments import Environment, make_environment
from groundling.training.progress import Advance, progress
from groundling.training.seeds import Purpose, environment_seed


@dataclass(frozen=True)
class Memory:
    """What one agent made of S moments."""

    belief: Tensor
    """[S, belief size] float16: the state of its core."""
    features: Tensor
    """[S, feature size] float16: what its sensors made of the moment's observation alone."""


@dataclass(frozen=True)
class Examples:
    """Questions about S moments of rooms, and what there is to answer them from."""

    questions: Questions
    """N; `world` is the index into S."""
    rooms: NDArray[np.int64]
    """[S, 2]: seed of the environment and number of the episode. They decide the room."""
    observed: Tensor
    """[S, k, width]: the last k observations as the first agent saw them, the latest last (see
    `ObservationCode`)."""
    oracle: NDArray[np.int64] | None
    """[N]: what an ideal observer of the sensed cells answers, where that is known; None of rooms
    that nothing is scored on."""
    memories: Mapping[str, Memory] = field(default_factory=dict)
    """By agent."""


SCORED: tuple[Purpose, ...] = ("probe-test", "probe-novel")
"""Purposes of the rooms that tables are scored on."""

ROOMS_AT_ONCE = 512
"""Rooms that are walked through side by side."""


@dataclass(frozen=True)
class Walk:
    """Which rooms are walked through, how, and where the questions are kept."""

    environment: EnvironmentConfig
    purpose: Purpose
    """Decides the rooms; no two purposes share one."""
    rooms: int
    """How many distinct ones, at least."""
    settings: ProbeSettings
    """With a walker."""

    def name(self, walker: Agent) -> str:
        """A short name of everything that decides the questions."""
        content: dict[str, Any] = {
            "environment": dataclasses.asdict(dataclasses.replace(self.environment, num_envs=1)),
            "rooms": self.rooms,
            "remembered": self.settings.remembered,
            "packages": package_versions(),
        }
        if self._hangs_on(walker):
            content["leader"] = weights_digest(walker)
        return f"{self.purpose}-{digest(content | self.settings.asked)}"

    def _hangs_on(self, walker: Agent) -> bool:
        """Whether another agent would walk elsewhere, or sense something else."""
        return self.settings.walker == "agent" or walker.attention is not None


def collect_examples(
    agents: Mapping[str, Agent],
    walk: Walk,
    *,
    device: torch.device,
    kept: Path | None = None,
    shown: bool = True,
) -> Examples:
    """Takes all agents along the same walks and asks on the way.

    Args:
        agents: by name; the first one walks if the settings say so.
        walk: which rooms.
        device: of the agents.
        kept: the directory where collected data is looked for, and kept; None: nowhere.
        shown: whether to show progress.

    Returns:
        The examples; answers are balanced (see `envs.questions.balance`).
    """
    if kept is None:
        return _collect(agents, walk, device, shown)
    kept.mkdir(parents=True, exist_ok=True)
    name = walk.name(next(iter(agents.values())))
    questions = kept / f"{name}.pt"
    files = {who: kept / f"{name}-{weights_digest(agent)}.pt" for who, agent in agents.items()}
    missing = {who: agent for who, agent in agents.items() if not files[who].exists()}
    if missing or not questions.exists():
        # The walker leads the way even if what it remembers is known.
        first = next(iter(agents))
        collected = _collect({first: agents[first]} | missing, walk, device, shown)
        _save_examples(questions, collected)
        for who in missing:
            save_checkpoint(files[who], vars(collected.memories[who]))
    memories = {who: _load_memory(file) for who, file in files.items()}
    return dataclasses.replace(_load_examples(questions), memories=memories)


def _save_examples(file: Path, examples: Examples) -> None:
    save_checkpoint(
        file,
        {
            "questions": {name: _packed(array) for name, array in vars(examples.questions).items()},
            "rooms": torch.from_numpy(examples.rooms),
            "observed": examples.observed,
            "oracle": None if examples.oracle is None else torch.from_numpy(examples.oracle),
        },
    )


def _packed(array: NDArray[Any]) -> Tensor:
    """Integers in as few bytes as their values need: word ids are small."""
    if array.dtype == np.bool_ or not array.size:
        return torch.from_numpy(array)
    fitting = (
        kind
        for kind in (np.int8, np.int16, np.int32, np.int64)
        if np.iinfo(kind).min <= array.min() and array.max() <= np.iinfo(kind).max
    )
    return torch.from_numpy(array.astype(next(fitting)))


def _unpacked(array: Tensor) -> NDArray[Any]:
    return array.numpy() if array.dtype == torch.bool else array.numpy().astype(np.int64)


def _load_examples(file: Path) -> Examples:
    content = load_checkpoint(file)
    oracle = content["oracle"]
    return Examples(
        Questions(**{name: _unpacked(array) for name, array in content["questions"].items()}),
        content["rooms"].numpy(),
        content["observed"],
        None if oracle is None else oracle.numpy(),
    )


def _load_memory(file: Path) -> Memory:
    content = load_checkpoint(file)
    return Memory(content["belief"], content["features"])


def _collect(
    agents: Mapping[str, Agent], which: Walk, device: torch.device, shown: bool
) -> Examples:
    environment = make_environment(which.environment, num_envs=min(which.rooms, ROOMS_AT_ONCE))
    readers = {name: Reader(agent, environment.num_envs) for name, agent in agents.items()}
    settings, purpose = which.settings, which.purpose
    seed = environment_seed(purpose)
    steps = walk(
        environment,
        seed=seed,
        choose=_walker(environment, next(iter(readers.values())), which, device),
        readers=tuple(readers.values()),
        device=device,
    )
    interview = Interview(
        cast(QuestionSource, environment.unwrapped),
        readers,
        ObservationCode(
            environment.single_observation_space,
            environment.single_action_space,
            next(iter(agents.values())).attention,
        ),
        settings,
        seed=seed,
        generator=np.random.default_rng(named_seed(settings.seed, purpose)),
        consults_oracle=purpose in SCORED,
    )
    with progress(f"rooms for {purpose}", which.rooms, shown=shown) as advance:
        for row, wanted in through_rooms(steps, which.rooms, advance):
            interview.attend(row, wanted)
    environment.close()
    if not interview.asked:
        raise UserError(
            f"ask-every is {settings.ask_every}, so that no question was asked in {which.rooms} "
            "rooms; expected fewer steps than an episode has"
        )
    examples = interview.examples()
    if not len(examples.questions):
        raise UserError(
            f"in {which.rooms} rooms of {which.environment.id} no question had different answers; "
            "expected more rooms, or an environment in which there is more to know"
        )
    return examples


def _walker(environment: Environment, leader: Reader, which: Walk, device: torch.device) -> Choose:
    """Who chooses the path."""
    settings, name = which.settings, f"walk {which.purpose}"
    if settings.walker == "agent":
        return by_agent(leader, named_generator(settings.seed, name, device))
    if settings.walker == "random":
        return at_random(environment, np.random.default_rng(named_seed(settings.seed, name)))
    return by_explorer(environment)


def through_rooms(
    steps: Iterator[Rows], rooms: int, advance: Advance
) -> Iterator[tuple[Rows, NDArray[np.bool_]]]:
    """The rows of a walk until the first `rooms` rooms that were entered have been left.

    Beside each row stands which rooms are wanted, [B]: those that were entered when `rooms` had
    been are only walked through until the others are over. Counting rooms as they are left instead
    would favour those that are soon over.
    """
    entered = 0
    wanted = np.zeros((), np.bool_)
    for row in steps:
        starting = row.is_first.cpu().numpy()
        wanted = np.where(starting, entered < rooms, wanted)
        if not wanted.any():
            break
        entered += int(starting.sum()) if entered < rooms else 0
        advance(min(entered - int(wanted.sum()), rooms))
        yield row, wanted
    advance(rooms)


class Interview:
    """Follows a walk; at random moments, asks about every room and notes what there is to answer
    from.

    Args:
        source: of the questions.
        readers: agents that read the walk, by name; what the first one saw is kept.
        code: how that is kept.
        settings: how often to ask, and how many observations to keep.
        seed: of the first environment.
        generator: of moments and questions.
        consults_oracle: whether to note what an ideal observer answers, which takes a while.
    """

    def __init__(
        self,
        source: QuestionSource,
        readers: Mapping[str, Reader],
        code: ObservationCode,
        settings: ProbeSettings,
        *,
        seed: int,
        generator: np.random.Generator,
        consults_oracle: bool = False,
    ) -> None:
        self.oracle = source if consults_oracle and isinstance(source, Oracle) else None
        self.source, self.readers, self.code = source, readers, code
        self.leader = next(iter(readers.values()))
        self.every, self.generator, self.seed = settings.ask_every, generator, seed
        self.last: deque[Tensor] = deque(maxlen=settings.remembered)
        self.asked: list[Questions] = []
        self._episode: NDArray[np.int64] | None = None
        self._rooms: list[NDArray[np.int64]] = []
        self._observed: list[Tensor] = []
        self._oracle: list[NDArray[np.int64]] = []
        self._memories: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in readers}

    def attend(self, row: Rows, wanted: NDArray[np.bool_]) -> None:
        """Takes note of a row that the readers have just read, and perhaps asks about the rooms
        that are wanted, [B]."""
        self._look(row)
        if self.generator.random() < 1.0 / self.every:
            self._ask(wanted)

    def _look(self, row: Rows) -> None:
        is_first = row.is_first.cpu()
        begun = is_first.numpy().astype(np.int64)
        self._episode = begun - 1 if self._episode is None else self._episode + begun
        code = self.code.encode(self.leader.row).cpu()
        if not self.last:
            self.last.extend(torch.zeros_like(code) for _ in range(self.last.maxlen or 0))
        # Nothing of the room before is carried into the next one.
        for earlier in self.last:
            earlier[is_first] = 0
        self.last.append(code)

    def _ask(self, wanted: NDArray[np.bool_]) -> None:
        assert self._episode is not None
        questions = self.source.ask(self.generator)
        questions = questions[wanted[questions.world]]
        if self.oracle is not None:
            self._oracle.append(self.oracle.guess(questions, self.generator.spawn(1)[0]))
        batch = len(self._episode)
        moment = len(self.asked) * batch
        self.asked.append(dataclasses.replace(questions, world=questions.world + moment))
        self._rooms.append(np.stack([self.seed + np.arange(batch), self._episode], axis=1))
        self._observed.append(torch.stack(list(self.last), dim=1))
        for name, reader in self.readers.items():
            noted = (reader.state.belief.cpu().half(), reader.output.features.cpu().half())
            self._memories[name].append(noted)

    def examples(self) -> Examples:
        """What was asked, balanced, and what there is to answer it from."""
        questions = concatenate(self.asked)
        numbered = dataclasses.replace(questions, world=np.arange(len(questions)))
        positions = balance(numbered, self.generator).world
        return Examples(
            questions[positions],
            np.concatenate(self._rooms),
            torch.cat(self._observed),
            np.concatenate(self._oracle)[positions] if self._oracle else None,
            {
                name: Memory(*(torch.cat(parts) for parts in zip(*noted, strict=True)))
                for name, noted in self._memories.items()
            },
        )
