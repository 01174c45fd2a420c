"""Making the vector environment of a run, and checking what it says at the door."""

import dataclasses
from typing import Any, cast

import gymnasium
import numpy as np

from groundling.agents.agent import Agent
from groundling.agents.config import AgentConfig
from groundling.agents.sensors import leaf_arrays, leaf_spaces
from groundling.envs.adapters import Environment, make_vector
from groundling.envs.errors import UserError
from groundling.envs.faults import leaf_fault
from groundling.training.config import EnvironmentConfig

__all__ = ["Doorkeeper", "Environment", "make_environment", "suits_agent"]


def make_environment(
    config: EnvironmentConfig,
    *,
    num_envs: int | None = None,
    stagger: bool = False,
    render_mode: str | None = None,
) -> Environment:
    """The vector environment of a configuration, with SAME_STEP autoreset.

    Args:
        config: which world.
        num_envs: rows, instead of the configuration's own number; of an environment with several
            agents, as many as fill whole copies.
        stagger: start first episodes at random phases (our rooms only).
        render_mode: as Gymnasium's.

    Raises:
        UserError: the id is unknown, a keyword is wrong, the environment cannot be made, or its
            agents do not fill the configured number of rows.
    """
    rows = config.num_envs if num_envs is None else num_envs
    options: dict[str, Any] = dict(config.options)
    if render_mode is not None:
        options["render_mode"] = render_mode
    if config.is_rooms:
        options |= dataclasses.asdict(config.rooms) | {"stagger": stagger}
    environment = make_vector(config.id, rows, options)
    if num_envs is None and environment.num_envs != rows:
        # The frames of a run are counted in configured rows.
        agents = getattr(environment.unwrapped, "rows_per_source", 1)
        environment.close()
        raise UserError(
            f"env.num-envs is {rows}; expected a multiple of {agents}: each of the {agents} agents "
            f"of {config.id} is a row"
        )
    return environment


def suits_agent(environment: Environment, steps: int = 100) -> str:
    """What an agent senses and does there.

    Raises:
        UserError: an agent cannot read its observations or act there, or a step of a random walk
            brings what does not fit its spaces.
    """
    agent = Agent(
        environment.single_observation_space, environment.single_action_space, AgentConfig(), 0
    )
    name = environment.spec.id if environment.spec else "the environment"
    doorkeeper = Doorkeeper(environment, name)
    environment.action_space.seed(0)
    doorkeeper.check(environment.reset(seed=0)[0])
    for _ in range(steps):
        observation, reward, *_ = environment.step(environment.action_space.sample())
        doorkeeper.check(observation, reward)
    size = sum(weights.numel() for weights in agent.parameters())
    sensed = ", ".join(f"{leaf} {_shown(space)}" for leaf, space in doorkeeper.leaves.items())
    return f"senses {sensed}; does {_shown(environment.single_action_space)}; {size:,} weights"


def _shown(space: gymnasium.Space[Any]) -> str:
    """A space without the bounds of every number in it."""
    is_long = isinstance(space, gymnasium.spaces.Box)
    return f"Box {space.shape} {space.dtype}" if is_long else str(space)


class Doorkeeper:
    """Checks every observation and reward before it reaches an agent.

    A world that hands out NaN, or an observation outside its own space, would poison the weights
    silently; here it stops the run with a line that names the environment and the leaf.
    """

    def __init__(self, environment: Environment, name: str) -> None:
        self.name = name
        self.leaves = leaf_spaces(environment.single_observation_space)
        self.bounds = {leaf: _bounds(space) for leaf, space in self.leaves.items()}

    def check(self, observation: Any, reward: np.ndarray[Any, Any] | None = None) -> None:
        """Raises ValueError if a leaf does not fit its space, or a reward is not finite."""
        arrays = leaf_arrays(observation)
        for name, space in self.leaves.items():
            if name not in arrays:
                raise UserError(f"environment {self.name}: observation {name!r} is missing")
            batch = arrays[name]
            fault = leaf_fault(batch.shape[1:], batch.dtype, space)
            if fault := fault or _outside(batch, *self.bounds[name]):
                raise UserError(f"environment {self.name}: observation {name!r} {fault}")
        if reward is not None and not np.isfinite(reward).all():
            raise UserError(f"environment {self.name}: the reward is NaN or infinite")


def _outside(batch: np.ndarray[Any, Any], low: Any, high: Any) -> str | None:
    """What is wrong with the numbers of a leaf, [B, *shape], between bounds (see `_bounds`); or
    None."""
    # The least and the most of the batch first: of a large view that is one quick pass.
    fits = low is None or (batch.min(axis=0) >= low).all()
    if fits and (batch.max(axis=0) <= high).all():
        return None
    if np.issubdtype(batch.dtype, np.floating) and np.isnan(batch).any():
        return "is NaN"
    low = 0 if low is None else low
    outside = (batch < low) | (batch > high)
    value, least, most = (
        np.broadcast_to(one, batch.shape)[outside][0] for one in (batch, low, high)
    )
    return f"holds {value}; its space says {least} to {most}"


def _bounds(space: gymnasium.Space[Any]) -> tuple[Any, Any]:
    """The least and the most of a leaf's numbers, that broadcast to it. The least is None if it is
    0 and they have no sign: there is nothing to look for then."""
    if isinstance(space, gymnasium.spaces.Box):
        unsigned = space.dtype.kind == "u" and not space.low.any()
        return None if unsigned else space.low, space.high
    if isinstance(space, gymnasium.spaces.Discrete):
        return space.start, space.start + space.n - 1
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    return 0, cast(Any, 1)
