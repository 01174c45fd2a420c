"""The agent: sensors → core → heads, one forward path for acting and for learning."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import torch
from torch import Tensor, nn

from groundling.agents.actions import make_actions
from groundling.agents.attention import Attention
from groundling.agents.config import AgentConfig
from groundling.agents.cores import CoreState, LSTMCore
from groundling.agents.generators import initialised_by
from groundling.agents.layers import linear, rectified
from groundling.agents.prediction import Prediction
from groundling.agents.scan import Trace
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
    location: Tensor | None = None
    """[T, B, 2] float32: with attention, the coordinates through which the row is read; its
    observation then holds the glimpse (`Agent.see`)."""

    def map(self, function: Callable[[Tensor], Tensor]) -> "Rows":
        """Every tensor changed alike."""
        return join_rows([self], lambda parts: function(parts[0]))


def join_rows(rows: Sequence[Rows], how: Callable[[list[Tensor]], Tensor]) -> Rows:
    """One out of several: `how` makes one tensor of those that stand in the same place of each."""
    first = rows[0]
    return Rows(
        {name: how([one.observation[name] for one in rows]) for name in first.observation},
        how([one.is_first for one in rows]),
        how([one.previous_action for one in rows]),
        how([one.previous_reward for one in rows]),
        None
        if first.location is None
        else how([one.location for one in rows if one.location is not None]),
    )


class AgentOutput(NamedTuple):
    """What the agent makes of each row; leading dimensions as in `Rows`."""

    policy: Tensor
    """[T, B, outputs] float: what `Agent.actions` makes the distribution of; logits if the actions
    are Discrete."""
    baseline: Tensor
    """[T, B] float: the value of the row, in discounted reward."""
    core: CoreState
    """The state of the core after reading each row; not to be written to."""
    features: Tensor
    """[T, B, feature_size] float: what the sensors made of the observation."""
    location: Tensor | None = None
    """[T, B, outputs] float: what `Attention.locations` makes the distribution of the next location
    of; None without a location policy."""


class Acting(NamedTuple):
    """As much of an `AgentOutput` as it takes to act, of one row."""

    policy: Tensor
    """[B, outputs] float."""
    location: Tensor | None
    """[B, outputs] float; None without a location policy."""


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
        self.attention: Attention | None = None
        glimpses = {}
        if config.attention != "none":
            with initialised_by(seed, "location"):
                self.attention = attention = Attention(observation_space, config)
            glimpses[attention.part] = partial(attention.make_sensor, config)
        with initialised_by(seed, "sensors"):
            self.sensors = Sensors(observation_space, config, glimpses)
        flags = self.actions.width + 1 + (2 if self.attention else 0)
        with initialised_by(seed, "core"):
            self.core = LSTMCore(config.feature_size, flags, config.core_size)
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
                self.prediction = Prediction(
                    observation_space, self.sensors, self.actions, config, self.attention
                )

    def initial_state(self, batch: int) -> CoreState:
        """The core state before anything was seen, [batch, core_size] each."""
        return self.core.initial_state(batch)

    def see(self, row: Rows, location: Tensor | None = None) -> Rows:
        """A row ([B, …]) as the environment gives it, as the agent is to read it.

        Args:
            row: with whole observations.
            location: [B, 2]: coordinates of the glimpse (`attention.Gaze`); None without attention.
        """
        if self.attention is None:
            return row
        assert location is not None
        seen = self.attention.see(row.observation, location)
        return row._replace(observation=seen, location=location)

    def unroll(self, rows: Rows, state: CoreState, trace: Trace | None = None) -> AgentOutput:
        """Reads T rows of B environments, starting from `state` ([B, core_size] each).

        Args:
            rows: [T, B, …].
            state: of the core, before row 0.
            trace: where to note what the core computes of these rows (without gradients); or, when
                full, what it did compute of them, with these very weights: then it is not computed
                again, and gradients are what they would have been (once: see `Trace.lasts`).
        """
        core, features = self._read(rows, state, trace)
        return AgentOutput(
            self.policy(core.hidden),
            self.baseline(core.hidden).squeeze(-1),
            core,
            features,
            None if self.attention is None else self.attention(core.hidden),
        )

    def _read(self, rows: Rows, state: CoreState, trace: Trace | None) -> tuple[CoreState, Tensor]:
        """The states of the core after each row, and what the sensors made of it."""
        features = self.sensors(rows.observation, rows.location)
        # At the start of an episode nothing was done and nothing earned: a zero vector, not
        # action 0, and a zero reward.
        fresh = rows.is_first.unsqueeze(-1)
        action = self.actions.encode(rows.previous_action).to(features.dtype)
        reward = rows.previous_reward.unsqueeze(-1).to(features.dtype)
        flags = [action.masked_fill(fresh, 0.0), reward.masked_fill(fresh, 0.0)]
        if rows.location is not None:
            flags.append(rows.location.to(features.dtype))
        return self.core(features, torch.cat(flags, -1), rows.is_first, state, trace), features

    def act(
        self, row: Rows, state: CoreState, trace: Trace | None = None
    ) -> tuple[Acting, CoreState]:
        """As `step`, but without values.

        Args:
            row: [B, …].
            state: of the core, before it.
            trace: where to note what the core computes of this row (see `unroll`).

        Returns:
            What it takes to act, and the next state.
        """
        core, _ = self._read(row.map(lambda part: part.unsqueeze(0)), state, trace)
        after = CoreState(core.hidden[0], core.cell[0])
        location = None if self.attention is None else self.attention(after.hidden)
        return Acting(self.policy(after.hidden), location), after

    def step(self, row: Rows, state: CoreState) -> tuple[AgentOutput, CoreState]:
        """Reads one row ([B, …]): `unroll` with T = 1. Returns the output and the next state."""
        output = self.unroll(row.map(lambda part: part.unsqueeze(0)), state)
        next_state = CoreState(output.core.hidden[0], output.core.cell[0])
        location = None if output.location is None else output.location[0]
        return AgentOutput(
            output.policy[0], output.baseline[0], next_state, output.features[0], location
        ), next_state
