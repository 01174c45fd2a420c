"""A parallel environment of PettingZoo as rows of a batch: one for each agent of each copy.

One network acts for all agents, each with a memory of its own. Nothing here imports PettingZoo:
its interface is enough.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from numpy.typing import NDArray

from groundling.envs import faults
from groundling.envs.asking import source_of
from groundling.envs.errors import UserError
from groundling.envs.faults import (
    check_number,
    check_observation,
    check_spaces,
    copied,
    naming_faults,
)


def spec_named(name: str) -> EnvSpec:
    """What the trainer calls an environment that Gymnasium has no id for."""
    spec = EnvSpec("Foreign-v0", entry_point=name)
    spec.id = name  # Not every name would pass for an id of Gymnasium's.
    return spec


def agents_of(environment: Any, name: str) -> int:
    """How many agents may take part; raises UserError if nobody does."""
    with naming_faults(name, "make"):
        number = len(environment.possible_agents)
    if number < 1:
        raise UserError(f"environment {name} has no possible_agents; expected at least one")
    return number


class _Outcome(NamedTuple):
    """What a step brought the agents that acted, and those who joined: values by agent."""

    observation: dict[Any, Any]
    reward: dict[Any, float]
    terminated: dict[Any, bool]
    truncated: dict[Any, bool]


class ParallelCopy:
    """One copy, and which of its agents are there.

    An agent whose episode is over is out until there is nobody left.

    Raises UserError if its agents have different spaces; any fault of the environment is one.
    """

    def __init__(self, environment: Any, name: str) -> None:
        self.environment = environment
        self.name = name
        self.agents = list(environment.possible_agents)
        self.spaces = self._common_spaces()
        self.present: list[Any] = []

    def _common_spaces(self) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
        """Of observations and actions, the same for all agents."""
        with naming_faults(self.name, "make"):
            seen = [self.environment.observation_space(agent) for agent in self.agents]
            acted = [self.environment.action_space(agent) for agent in self.agents]
        for what, all_of_them in (("observation", seen), ("action", acted)):
            for agent, space in zip(self.agents, all_of_them, strict=True):
                if space is not all_of_them[0] and space != all_of_them[0]:
                    raise UserError(
                        f"environment {self.name}: the {what} space of {agent} is {space}, that of "
                        f"{self.agents[0]} {all_of_them[0]}; expected the same for all agents"
                    )
        return seen[0], acted[0]

    def reset(self, seed: int | None = None) -> dict[Any, Any]:
        """Begin an episode: the first observations of those who are there."""
        with naming_faults(self.name, "reset", faults.RESET_SECONDS):
            result = self.environment.reset(seed=seed)
            self.present = list(self.environment.agents)
        check_spaces(self.name, self.spaces, self._common_spaces())
        observations, _ = faults.unpacked(self.name, "reset", result, faults.RESET)
        if not self.present:
            raise UserError(f"environment {self.name}: nobody is there after reset")
        return self._of("reset", "observation", observations, self.present)

    def step(self, actions: dict[Any, Any]) -> _Outcome:
        """Act with all who are there, and find out who is there afterwards."""
        with naming_faults(self.name, "step"):
            result = self.environment.step(actions)
            now = list(self.environment.agents)
        result = faults.unpacked(self.name, "step", result, faults.STEP)
        reward, terminated, truncated = (
            self._of("step", part, values, actions)
            for part, values in zip(faults.STEP[1:4], result[1:4], strict=True)
        )
        over = {agent for agent in actions if terminated[agent] or truncated[agent]}
        for agent in actions:
            if agent not in over and agent not in now:
                raise UserError(
                    f"environment {self.name}: {agent} is gone, neither terminated nor truncated"
                )
        self.present = [agent for agent in now if agent not in over]
        seen = self._of("step", "observation", result[0], {*actions, *self.present})
        return _Outcome(seen, reward, terminated, truncated)

    def _of(self, doing: str, part: str, values: Any, agents: Iterable[Any]) -> dict[Any, Any]:
        """The values of these agents, each checked."""
        for agent in agents:
            if agent not in self.agents:
                raise UserError(f"environment {self.name}: {agent} is none of its possible_agents")
            if not isinstance(values, dict) or agent not in values:
                raise UserError(f"environment {self.name}: {doing} gave {agent} no {part}")
            if part == "observation":
                check_observation(self.name, values[agent], self.spaces[0])
            else:
                check_number(self.name, part, values[agent])
        return {agent: values[agent] for agent in agents}


class ParallelVectorEnv(VectorEnv[Any, Any, Any]):
    """Copies of a parallel environment; row = copy · number of possible agents + agent.

    A copy without agents left is reset in the same step. An agent that is out while others go on is
    absent (see `adapters`), as is one that does not take part in an episode. Under `reset(seed=s)`
    copy i uses s + i. Who asks about worlds is a copy; its worlds are its agents' rows.
    """

    def __init__(self, copies: list[Any], name: str) -> None:
        self.copies = [ParallelCopy(one, name) for one in copies]
        self.rows_per_source = len(self.copies[0].agents)
        self.num_envs = len(copies) * self.rows_per_source
        self.single_observation_space, self.single_action_space = self.copies[0].spaces
        for copy in self.copies:
            check_spaces(name, self.copies[0].spaces, copy.spaces)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.metadata = dict(getattr(copies[0], "metadata", {}))
        self.metadata["autoreset_mode"] = AutoresetMode.SAME_STEP
        self.render_mode = getattr(copies[0], "render_mode", None)
        self._last: list[Any] = [None] * self.num_envs

    @property
    def sources(self) -> list[Any]:
        """What can be asked about each copy."""
        return [source_of(copy.environment) for copy in self.copies]

    def _rows(self, number: int) -> dict[Any, int]:
        """The rows of a copy's agents."""
        first = number * self.rows_per_source
        return {agent: first + i for i, agent in enumerate(self.copies[number].agents)}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in every copy; raises UserError for any fault of one."""
        for number in range(len(self.copies)):
            self._begin(number, None if seed is None else seed + number)
        return self._observation(), {"absent": self._absent()}

    def _begin(self, number: int, seed: int | None = None) -> None:
        observations = self.copies[number].reset(seed)
        somebodys = next(iter(observations.values()))
        for agent, row in self._rows(number).items():
            # Filler for who does not take part: within the space, whatever that is.
            self._last[row] = observations.get(agent, somebodys)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Act for every agent that is there; raises UserError for any fault of a copy."""
        chosen = list(iterate(self.action_space, actions))
        rewards = np.zeros(self.num_envs)
        terminated, truncated = np.zeros((2, self.num_envs), np.bool_)
        final = np.full(self.num_envs, None, dtype=object)
        for number, copy in enumerate(self.copies):
            rows = self._rows(number)
            outcome = copy.step({agent: chosen[rows[agent]] for agent in copy.present})
            for agent, observation in outcome.observation.items():
                self._last[rows[agent]] = observation
            for agent, reward in outcome.reward.items():
                row = rows[agent]
                rewards[row] = reward
                terminated[row] = outcome.terminated[agent]
                truncated[row] = outcome.truncated[agent]
                if terminated[row] or truncated[row]:
                    final[row] = copied(outcome.observation[agent])
            if not copy.present:
                self._begin(number)
        ended = terminated | truncated
        info: dict[str, Any] = {"absent": self._absent()}
        if ended.any():
            info |= {"final_obs": final, "_final_obs": ended}
        return self._observation(), rewards, terminated, truncated, info

    def _observation(self) -> Any:
        space = self.single_observation_space
        empty: Any = create_empty_array(space, self.num_envs)
        return concatenate(space, self._last, empty)

    def _absent(self) -> NDArray[np.bool_]:
        there = [agent in copy.present for copy in self.copies for agent in copy.agents]
        return ~np.array(there)

    def render(self) -> Any:
        """Give each row the picture of its copy."""
        pictures = [copy.environment.render() for copy in self.copies]
        return tuple(picture for picture in pictures for _ in range(self.rows_per_source))

    def close_extras(self, **_: Any) -> None:
        """Close every copy; raises UserError for any fault of one."""
        for copy in self.copies:
            with naming_faults(copy.name, "close"):
                copy.environment.close()
