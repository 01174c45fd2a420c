"""Rows as an agent reads them: through the glimpse that it decided on, and noted as sensed.

An agent without attention reads rows as they are, and none of this does anything.
"""

from typing import Any

import torch
from torch import Tensor

from groundling.agents.agent import Acting, Agent, AgentOutput, Rows
from groundling.agents.attention import Decision, Gaze
from groundling.envs.questions import AttendedSource
from groundling.training.environments import Environment
from groundling.training.stepping import Stepper


class Looker:
    """Where one agent looks in a batch of environments.

    Args:
        agent: decides.
        batch: environments.
        generator: draws locations; on the agent's device. None only without attention.
    """

    def __init__(self, agent: Agent, batch: int, generator: torch.Generator | None) -> None:
        self.agent = agent
        self.source: AttendedSource | None = None
        self.gaze: Gaze | None = None
        if agent.attention is not None:
            assert generator is not None
            self.gaze = Gaze(agent.attention, batch, generator)

    def report_to(self, environment: Environment) -> None:
        """From its next reset on, the environment is told what the agent sensed of each row, and
        counts nothing else as sensed; if it can be told."""
        source = environment.unwrapped
        if self.gaze is not None and isinstance(source, AttendedSource):
            source.attended = True
            self.source = source

    def see(self, row: Rows) -> Rows:
        """A row [B, …] as the agent is to read it."""
        if self.gaze is None:
            return row
        coordinates = self.gaze.turn(row.is_first)
        if self.source is not None:
            self.source.attend(self.gaze.attention.fovea.sensed(coordinates))
        return self.agent.see(row, coordinates)

    def see_through(self, row: Rows, location: Tensor) -> Rows:
        """A row to the side, [n, …], through decided locations, [n, *location shape]."""
        assert self.gaze is not None
        return self.agent.see(row, self.gaze.locations.coordinates(location))

    def decide(self, output: Acting | AgentOutput, stepper: Stepper) -> Decision | None:
        """Decides where the next row is read, from what was made of this one; None without
        attention.

        Args:
            output: of the agent, [B, …].
            stepper: tells the oracle where there is to look.
        """
        if self.gaze is None:
            return None
        is_oracle = self.gaze.attention.config.policy == "oracle"
        return self.gaze.decide(output.location, stepper.target if is_oracle else None)

    def state_dict(self) -> dict[str, Any] | None:
        """What is decided, and the generator; None without attention."""
        if self.gaze is None:
            return None
        return {"decided": self.gaze.decided, "generator": self.gaze.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """The inverse of `state_dict`."""
        if self.gaze is not None:
            assert state is not None
            self.gaze.decided = state["decided"].to(self.gaze.decided.device)
            self.gaze.generator.set_state(state["generator"].cpu())
