"""Walking through rooms without learning: one walker acts, any number of agents read along.

Several agents can so be taken through the very same rooms on the very same paths, and asked the
same questions.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from groundling.agents.agent import Agent, AgentOutput, Rows, sample_actions
from groundling.envs.errors import UserError
from groundling.training.actor import first_row, observe
from groundling.training.environments import Doorkeeper, Environment

Choose = Callable[[], NDArray[np.int64]]
"""Decides the next action of every environment, [B]."""


class Reader:
    """An agent that reads a walk and remembers it.

    Args:
        agent: frozen.
        batch: environments of the walk.
    """

    output: AgentOutput

    def __init__(self, agent: Agent, batch: int) -> None:
        self.agent = agent
        self.state = agent.initial_state(batch)

    @torch.no_grad()
    def read(self, row: Rows) -> None:
        """Reads one row ([B, …]); `output` and `state` are then those after it."""
        self.output, self.state = self.agent.step(row, self.state)


def by_agent(reader: Reader, generator: torch.Generator) -> Choose:
    """The reader's own policy, sampled."""

    def choose() -> NDArray[np.int64]:
        action, _ = sample_actions(reader.output.policy_logits, generator)
        return action.cpu().numpy() + reader.agent.first_action

    return choose


def at_random(environment: Environment, generator: np.random.Generator) -> Choose:
    """Uniformly random actions (Discrete action spaces)."""
    space: Any = environment.single_action_space

    def choose() -> NDArray[np.int64]:
        return generator.integers(space.start, space.start + space.n, size=environment.num_envs)

    return choose


def has_explorer(environment: Environment) -> bool:
    """Whether the environment has a scripted explorer."""
    return hasattr(environment.unwrapped, "explorer_actions")


def by_explorer(environment: Environment) -> Choose:
    """The scripted explorer, which knows the room and takes a shortest path to the next object.

    Raises:
        ValueError: the environment has no scripted explorer.
    """
    world: Any = environment.unwrapped
    if not has_explorer(environment):
        name = environment.spec.id if environment.spec else type(world).__name__
        raise UserError(f"{name} has no scripted explorer; expected one of groundling's rooms")
    return lambda: np.asarray(world.explorer_actions())


def walk(
    environment: Environment,
    *,
    seed: int,
    choose: Choose,
    readers: Sequence[Reader] = (),
    device: torch.device | str = "cpu",
) -> Iterator[Rows]:
    """Walks for ever; the caller stops when it has seen enough.

    Yields each row [B, …] after the readers have read it and before the next action is chosen, so
    that world, row and beliefs belong to the same moment.
    """
    device = torch.device(device)
    doorkeeper = Doorkeeper(environment, environment.spec.id if environment.spec else "")
    observation, _ = environment.reset(seed=seed)
    row = first_row(observe(observation, device), environment.num_envs, device)
    while True:
        doorkeeper.check(observation)
        for reader in readers:
            reader.read(row)
        yield row
        action = choose()
        observation, reward, terminated, truncated, _ = environment.step(action)
        row = Rows(
            observe(observation, device),
            torch.as_tensor(terminated | truncated, device=device),
            torch.as_tensor(action, device=device),
            torch.as_tensor(reward, dtype=torch.float32, device=device),
        )
