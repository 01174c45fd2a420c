"""Making the vector environment of a run, and checking what it says at the door."""

import dataclasses
import difflib
import importlib
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv

from groundling.agents.sensors import leaf_arrays, leaf_spaces
from groundling.envs.errors import UserError
from groundling.training.config import EnvironmentConfig

Environment = VectorEnv[Any, Any, Any]

MINIGRID = ("MiniGrid-", "BabyAI-")
"""Ids that begin so are of the optional package minigrid."""


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
        num_envs: instead of the configuration's own number.
        stagger: start first episodes at random phases (our own worlds only).
        render_mode: as Gymnasium's.

    Raises:
        ValueError: the id is unknown, a keyword is wrong, or the autoreset mode is another.
    """
    count = config.num_envs if num_envs is None else num_envs
    spec = _spec(config.id)
    options: dict[str, Any] = dict(config.options)
    if render_mode is not None:
        options["render_mode"] = render_mode
    if config.is_rooms:
        options |= dataclasses.asdict(config.rooms) | {"stagger": stagger}
    try:
        environment = _make(spec, config.id, count, options)
    except TypeError as error:
        if "keyword argument" not in str(error):
            raise
        raise UserError(f"env.options does not fit {config.id}: {error}") from error
    return environment


def _make(spec: EnvSpec, name: str, count: int, options: dict[str, Any]) -> Environment:
    """The environment's own vector form if it resets as the trainer wants, else many single ones.

    This is the one place that knows of other autoreset modes than SAME_STEP.
    """
    if name.rpartition(":")[2].startswith(MINIGRID):
        from groundling.envs.minigrid import MinigridVectorEnv  # an optional package

        return MinigridVectorEnv(name, count, options)
    if spec.vector_entry_point is not None:
        environment = gymnasium.make_vec(name, num_envs=count, **options)
        mode = environment.metadata.get("autoreset_mode")
        if mode == AutoresetMode.SAME_STEP:
            return environment
        environment.close()
        if spec.entry_point is None:
            raise UserError(
                f"env.id {name} resets in mode {mode}; expected a vector environment whose "
                "metadata says AutoresetMode.SAME_STEP"
            )
    return gymnasium.make_vec(
        name,
        num_envs=count,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        **options,
    )


def _spec(name: str) -> EnvSpec:
    module, _, known = name.rpartition(":")
    try:
        if module:
            importlib.import_module(module)
        if known.startswith(MINIGRID):
            importlib.import_module("groundling.envs.minigrid")
        return gymnasium.spec(known)
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        near = difflib.get_close_matches(name, gymnasium.registry.keys(), n=1)
        hint = f"; did you mean {near[0]}?" if near else "; expected a registered id or module:Id"
        raise UserError(f"env.id {name!r} is unknown{hint} ({error})") from error


class Doorkeeper:
    """Checks every observation and reward before it reaches an agent.

    A world that hands out NaN, or an observation outside its own space, would poison the weights
    silently; here it stops the run with a line that names the environment and the leaf.
    """

    def __init__(self, environment: Environment, name: str) -> None:
        self.name = name
        self.leaves = leaf_spaces(environment.single_observation_space)

    def check(self, observation: Any, reward: np.ndarray[Any, Any] | None = None) -> None:
        """Raises ValueError if a leaf does not fit its space, or a reward is not finite."""
        arrays = leaf_arrays(observation)
        for name, space in self.leaves.items():
            if name not in arrays:
                raise UserError(f"environment {self.name}: observation {name!r} is missing")
            fault = _fault(arrays[name], space)
            if fault:
                raise UserError(f"environment {self.name}: observation {name!r} {fault}")
        if reward is not None and not np.isfinite(reward).all():
            raise UserError(f"environment {self.name}: the reward is NaN or infinite")


def _fault(batch: np.ndarray[Any, Any], space: gymnasium.Space[Any]) -> str | None:
    """What is wrong with a batch of leaves, or None."""
    shape = space.shape or ()
    if batch.shape[1:] != shape:
        return f"has shape {batch.shape[1:]}; its space says {shape}"
    if np.issubdtype(batch.dtype, np.floating) and np.isnan(batch).any():
        return "is NaN"
    low, high = (np.broadcast_to(bound, batch.shape) for bound in _bounds(space))
    outside = (batch < low) | (batch > high)
    if outside.any():
        value, least, most = (array[outside][0] for array in (batch, low, high))
        return f"holds {value}; its space says {least} to {most}"
    return None


def _bounds(space: gymnasium.Space[Any]) -> tuple[Any, Any]:
    if isinstance(space, gymnasium.spaces.Box):
        return space.low, space.high
    if isinstance(space, gymnasium.spaces.Discrete):
        return space.start, space.start + space.n - 1
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    return 0, cast(Any, 1)
