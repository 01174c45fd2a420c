"""Walking through rooms without learning: one walker acts, any number of agents read along.

Several agents can so be taken through the very same rooms on the very same paths, and asked the
same questions.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from groundling.agents.actions import make_actions
from groundling.agents.agent import Agent, AgentOutput, Rows
from groundling.agents.generators import named_generator
from groundling.envs.errors import UserError
from groundling.training.environments import Environment
from groundling.training.looking import Looker
from groundling.training.stepping import Stepper

Choose = Callable[[], NDArray[Any]]
"""Decides the next action of every environment, [B, *space shape] as it takes it."""


class Reader:
    """An agent that reads a walk and remembers it.

    With attention its own location policy looks, and draws of a generator of its own.

    Args:
        agent: frozen.
        batch: environments of the walk.
        seed: of where it looks.
    """

    row: Rows
    """[B, …]: the last row, as the agent saw it."""
    output: AgentOutput

    def __init__(self, agent: Agent, batch: int, *, seed: int = 0) -> None:
        self.agent = agent
        self.state = agent.initial_state(batch)
        device = self.state.hidden.device
        self.looker = Looker(agent, batch, named_generator(seed, "locations", device))

    @torch.no_grad()
    def read(self, row: Rows, stepper: Stepper) -> None:
        """Reads one row ([B, …]); `row`, `output` and `state` are then those after it.

        Args:
            row: as the environment gave it.
            stepper: that told it.
        """
        self.row = self.looker.see(row)
        self.output, self.state = self.agent.step(self.row, self.state)
        self.looker.decide(self.output, stepper)


def by_agent(reader: Reader, generator: torch.Generator) -> Choose:
    """The reader's own policy, sampled."""

    def choose() -> NDArray[Any]:
        action, _ = reader.agent.actions.sample(reader.output.policy, generator)
        return reader.agent.actions.to_environment(action)

    return choose


def at_random(environment: Environment, generator: np.random.Generator) -> Choose:
    """Uniformly random actions (see `agents.actions` for numbers without bounds)."""
    actions = make_actions(environment.single_action_space)
    return lambda: actions.random(environment.num_envs, generator)


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


class Walk(Iterator[Rows]):
    """A walk without end; the caller stops when it has seen enough. See `walk`."""

    absent: NDArray[np.bool_]
    """[B]: nobody is in the row that was yielded last."""

    def __init__(
        self, stepper: Stepper, seed: int, choose: Choose, readers: Sequence[Reader]
    ) -> None:
        self.stepper = stepper
        self.seed = seed
        self.choose = choose
        self.readers = readers
        self.begun = False
        if readers:
            # What is sensed, and can so be known, is what the first one sensed.
            readers[0].looker.report_to(stepper.environment)

    def __next__(self) -> Rows:
        """The next row [B, …], after the readers have read it."""
        if not self.begun:
            row, self.begun = self.stepper.reset(self.seed), True
        else:
            choice = self.choose()
            action = self.stepper.actions.from_environment(choice, self.stepper.device)
            row, _ = self.stepper.step(choice, action)
        self.absent = self.stepper.absent
        for reader in self.readers:
            reader.read(row, self.stepper)
        return row


def walk(
    environment: Environment,
    *,
    seed: int,
    choose: Choose,
    readers: Sequence[Reader] = (),
    device: torch.device | str = "cpu",
) -> Walk:
    """Walks for ever.

    Each row [B, …] comes after the readers have read it and before the next action is chosen, so
    that world, row and beliefs belong to the same moment.
    """
    stepper = Stepper(
        environment, make_actions(environment.single_action_space), torch.device(device)
    )
    return Walk(stepper, seed, choose, readers)
