"""The data of probing: agents taken through rooms they never met, and asked on the way."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor

from groundling.agents.agent import Agent, Rows
from groundling.agents.generators import named_generator, named_seed
from groundling.agents.probe import DecoderName
from groundling.envs.errors import UserError
from groundling.envs.questions import Questions, QuestionSource, balance, concatenate
from groundling.evaluation.walks import Reader, by_agent, by_explorer, walk
from groundling.training.config import TrainConfig
from groundling.training.environments import make_environment
from groundling.training.progress import Advance, progress
from groundling.training.seeds import Purpose, environment_seed


@dataclass(frozen=True)
class ProbeSettings:
    """How a frozen agent is questioned. The defaults are the protocol; `--quick` is a look."""

    rooms: int = 30_000
    """Distinct rooms the decoder is fitted on."""
    validation_rooms: int = 2_000
    """Distinct rooms that decide which pass of the decoder is kept."""
    test_rooms: int = 5_000
    """Distinct rooms the table is scored on."""
    ask_every: int = 8
    """Steps between two moments of questions, on average."""
    walker: Literal["explorer", "agent"] = "explorer"
    """Who chooses the path: the scripted explorer (the same for all agents), or the agent."""
    decoder: DecoderName = "mlp"
    """A perceptron, or the LSTM of Das et al. 2020."""
    size: int = 512
    """Width of the decoder."""
    passes: int = 2
    """Passes over the questions, at the most; one that brings nothing is the last."""
    batch: int = 32
    """Moments per update of the decoder, each with all its questions."""
    learning_rate: float = 3e-3
    """Adam's step size at the first update; it falls to 0 along a cosine."""
    controls: bool = True
    """Whether the untrained agent and the question alone are asked too."""
    seed: int = 0
    """Of the decoder's weights and order of questions."""

    def __post_init__(self) -> None:
        for field in ("rooms", "validation_rooms", "test_rooms", "ask_every", "passes", "batch"):
            value = getattr(self, field)
            if value < 1:
                raise UserError(f"{field.replace('_', '-')} is {value}; expected at least 1")


QUICK = ProbeSettings(rooms=4_000, validation_rooms=500, test_rooms=2_000, passes=3)


@dataclass(frozen=True)
class Examples:
    """Questions with the beliefs they are asked of. N questions about S moments of rooms."""

    beliefs: Mapping[str, Tensor]
    """By agent, [S, belief size] float32, on the CPU."""
    questions: Questions
    """N; `world` is the index into S."""


ROOMS_AT_ONCE = 512
"""Rooms that are walked through side by side."""


def collect_examples(
    agents: Mapping[str, Agent],
    config: TrainConfig,
    purpose: Purpose,
    rooms: int,
    settings: ProbeSettings,
    *,
    device: torch.device,
    shown: bool = True,
) -> Examples:
    """Takes all agents along the same walks through `rooms` rooms and asks on the way.

    Args:
        agents: by name; the first one walks if the settings say so.
        config: of the run: which world.
        purpose: decides the rooms; no two purposes share one.
        rooms: how many distinct ones, at least.
        settings: walker and moments.
        device: of the agents.
        shown: whether to show progress.

    Returns:
        The examples; answers are balanced (see `envs.questions.balance`).
    """
    environment = make_environment(config.env, num_envs=min(rooms, ROOMS_AT_ONCE))
    readers = {name: Reader(agent, environment.num_envs) for name, agent in agents.items()}
    draws = named_generator(settings.seed, f"walk {purpose}", device)
    steps = walk(
        environment,
        seed=environment_seed(purpose),
        choose=(
            by_explorer(environment)
            if settings.walker == "explorer"
            else by_agent(next(iter(readers.values())), draws)
        ),
        readers=tuple(readers.values()),
        device=device,
    )
    generator = np.random.default_rng(named_seed(settings.seed, purpose))
    with progress(f"rooms for {purpose}", rooms, shown=shown) as advance:
        asked, beliefs = _ask_on_the_way(
            cast(QuestionSource, environment.unwrapped),
            _through_rooms(steps, rooms, advance),
            readers,
            every=settings.ask_every,
            generator=generator,
        )
    environment.close()
    if not asked:
        raise UserError(
            f"ask-every is {settings.ask_every}, so that no question was asked in {rooms} rooms; "
            "expected fewer steps than an episode has"
        )
    return Examples(
        {name: torch.cat(parts) for name, parts in beliefs.items()},
        balance(concatenate(asked), generator),
    )


def _through_rooms(steps: Iterator[Rows], rooms: int, advance: Advance) -> Iterator[Rows]:
    """The rows of a walk until `rooms` rooms have been entered and those before them left."""
    entered = 0
    for row in steps:
        starting = int(row.is_first.sum())
        # Rooms entered beyond the number wanted are not asked about: the last ones are whole.
        if starting and entered >= rooms:
            break
        entered += starting
        advance(entered - row.is_first.numel())
        yield row
    advance(rooms)


def _ask_on_the_way(
    source: QuestionSource,
    rows: Iterator[Rows],
    readers: Mapping[str, Reader],
    *,
    every: int,
    generator: np.random.Generator,
) -> tuple[list[Questions], dict[str, list[Tensor]]]:
    """Questions of random moments, and what each reader believed then.

    Returns:
        Questions, moment by moment, `world` counted on through all of them; beliefs by reader,
        [B, belief size] for each moment.
    """
    asked: list[Questions] = []
    beliefs: dict[str, list[Tensor]] = {name: [] for name in readers}
    for row in rows:
        if generator.random() < 1.0 / every:
            questions = source.ask(generator)
            moment = len(asked) * row.is_first.numel()
            asked.append(dataclasses.replace(questions, world=questions.world + moment))
            for name, reader in readers.items():
                beliefs[name].append(reader.state.belief.cpu())
    return asked, beliefs
