"""The agent: sensors → core → heads, one forward path for acting and for learning."""

from typing import Any, NamedTuple

import gymnasium
import torch
from torch import Tensor, nn

from groundling.agents.actions import make_actions
from groundling.agents.config import AgentConfig
from groundling.agents.cores import CoreState, LSTMCore
from groundling.agents.generators import initialised_by
from groundling.agents.layers import linear, rectified
from groundling.agents.prediction import Prediction
from groundling.agents.sensors import Observation, Sensors


class Rows(NamedTuple):
    """What the agent reads, time-major. Leading dimensions are [T, B], or [B] for a single step."""

    observation: Observation
    """Leaves by name, [T, B, *leaf shape]."""
    is_first: Tensor
    """[T, B] bool: this observation is the first of an episode."""
    previous_action: Tensor
    """[T, B, *action shape], int64 or, of a Box, float32: the action that led here as
    `agents.actions` knows it (whatever it was, if `is_first`)."""
    previous_reward: Tensor
    """[T, B] float32: the raw reward that came with this observation."""


class AgentOutput(NamedTuple):
    """What the agent makes of each row; leading dimensions as in `Rows`."""

    policy: Tensor
    """[T, B, outputs] float: what `Agent.actions` makes the distribution of; logits if the actions
    are Discrete."""
    baseline: Tensor
    """[T, B] float: the value of the row, in discounted reward."""
    core: CoreState
    """The state of the core after reading each row."""
    features: Tensor
    """[T, B, feature_size] float: what the sensors made of the observation."""


class Agent(nn.Module):
    """An actor-critic with an LSTM memory, built from an environment's spaces.

    Args:
        observation_space: of a single environment; see `agents.sensors` for what is understood.
        action_space: of a single environment; see `agents.actions` for what there is a policy for.
        config: sizes.
        seed: decides the initial weights; each module draws from a generator of its own.

    Raises:
        ValueError: for a space the agent cannot read or act in.
    """

    def __init__(
        self,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        config: AgentConfig,
        seed: int,
    ) -> None:
        super().__init__()
        self.actions = make_actions(action_space)
        with initialised_by(seed, "sensors"):
            self.sensors = Sensors(observation_space, config)
        with initialised_by(seed, "core"):
            self.core = LSTMCore(config.feature_size, self.actions.width + 1, config.core_size)
        with initialised_by(seed, "policy"):
            # Nearly uniform at first: no action is preferred before any was rewarded.
            self.policy = nn.Sequential(
                rectified(config.core_size, config.core_size),
                linear(config.core_size, self.actions.outputs, gain=0.01),
            )
        with initialised_by(seed, "baseline"):
            self.baseline = nn.Sequential(
                rectified(config.core_size, config.core_size), linear(config.core_size, 1)
            )
        self.prediction: Prediction | None = None
        if config.prediction.loss != "none":
            with initialised_by(seed, "prediction"):
                self.prediction = Prediction(observation_space, self.sensors, self.actions, config)

    def initial_state(self, batch: int) -> CoreState:
        """The core state before anything was seen, [batch, core_size] each."""
        return self.core.initial_state(batch)

    def unroll(self, rows: Rows, state: CoreState) -> AgentOutput:
        """Reads T rows of B environments, starting from `state` ([B, core_size] each)."""
        features = self.sensors(rows.observation)
        # At the start of an episode nothing was done and nothing earned: a zero vector, not
        # action 0, and a zero reward.
        fresh = rows.is_first.unsqueeze(-1)
        action = self.actions.encode(rows.previous_action).to(features.dtype)
        reward = rows.previous_reward.unsqueeze(-1).to(features.dtype)
        inputs = torch.cat(
            [features, action.masked_fill(fresh, 0.0), reward.masked_fill(fresh, 0.0)], dim=-1
        )
        core = self.core(inputs, rows.is_first, state)
        return AgentOutput(
            self.policy(core.hidden), self.baseline(core.hidden).squeeze(-1), core, features
        )

    def step(self, row: Rows, state: CoreState) -> tuple[AgentOutput, CoreState]:
        """Reads one row ([B, …]): `unroll` with T = 1. Returns the output and the next state."""
        rows = Rows(
            {name: leaf.unsqueeze(0) for name, leaf in row.observation.items()},
            *(part.unsqueeze(0) for part in row[1:]),
        )
        policy, baseline, core, features = self.unroll(rows, state)
        next_state = CoreState(core.hidden[0], core.cell[0])
        return AgentOutput(policy[0], baseline[0], next_state, features[0]), next_state
