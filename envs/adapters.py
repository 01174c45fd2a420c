"""Anybody's environment as the trainer wants it: a vector environment that resets in the same step.

Where an environment needs a step of its own to reset, or an agent of several is out while others go
on, a row is *absent*: `info["absent"]` (bool [B], from reset and step) says that the observation
just given in it is filler. The action for such a row is ignored, and what follows from it is no
transition; the row at which it is there again is the first of an episode.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from numpy.typing import NDArray

from groundling.envs.asking import able_to_answer, source_of
from groundling.envs.errors import UserError
from groundling.envs.faults import GuardedEnv, GuardedVectorEnv, naming_faults
from groundling.envs.parallel import ParallelVectorEnv, agents_of, spec_named
from groundling.envs.registration import MINIGRID, find, is_ours

Environment = VectorEnv[Any, Any, Any]


def make_vector(name: str, num_envs: int, options: dict[str, Any]) -> Environment:
    """The vector form of anybody's environment, with SAME_STEP autoreset.

    An environment's own vector form is used if it has one, else as many single ones as asked for.
    Of an environment with several agents (a parallel one of PettingZoo) every agent is a row, and
    there are as many copies as it takes to have at least `num_envs` rows.

    Args:
        name: an id, see `registration.find`.
        num_envs: rows.
        options: keyword arguments for the environment.

    Raises:
        UserError: it is unknown, a keyword is wrong, or it cannot be made.
    """
    found = find(name)
    if isinstance(found, EnvSpec):
        if is_ours(name):
            return gymnasium.make_vec(found, num_envs=num_envs, **options)
        if has_vector_form(found):
            return same_step(GuardedVectorEnv(make_native(name, num_envs, options), name), name)
    first = make_single(name, options)
    is_single = isinstance(first, gymnasium.Env)
    kind: Any = CopiesVectorEnv if is_single else ParallelVectorEnv
    number = num_envs if is_single else math.ceil(num_envs / agents_of(first, name))
    copies = [first, *(make_single(name, options) for _ in range(number - 1))]
    with naming_faults(name, "make"):
        environment: Environment = able_to_answer(kind, source_of(first))(copies, name)
    environment.spec = found if isinstance(found, EnvSpec) else spec_named(name)
    return environment


def has_vector_form(spec: EnvSpec) -> bool:
    """Whether Gymnasium can make an environment's own vector form."""
    return spec.vector_entry_point is not None and not spec.additional_wrappers


def make_native(name: str, num_envs: int, options: dict[str, Any]) -> Environment:
    """An environment's own vector form, as it is; raises UserError."""
    spec = find(name)
    assert isinstance(spec, EnvSpec)
    with _making(name):
        return gymnasium.make_vec(spec, num_envs=num_envs, **options)


def make_single(name: str, options: dict[str, Any]) -> Any:
    """One copy: a Gymnasium environment, guarded unless it is ours, or a parallel one.

    Raises:
        UserError: it is unknown, a keyword is wrong, or it cannot be made.
    """
    found = find(name)
    if is_ours(name):
        return gymnasium.make(name, **options)
    with _making(name):
        # Gymnasium's checker would look at MiniGrid's missions, which never leave our wrapper.
        unchecked = True if _is_minigrid(found) else None
        made = (
            gymnasium.make(found, disable_env_checker=unchecked, **options)
            if isinstance(found, EnvSpec)
            else found(**options)
        )
    if isinstance(made, gymnasium.Env):
        return GuardedEnv(_sensible(made), name)
    if hasattr(made, "possible_agents"):
        return made
    raise UserError(
        f"env.id {name} makes a {type(made).__name__}; expected a Gymnasium environment, or a "
        "parallel one of PettingZoo with possible_agents"
    )


def _is_minigrid(found: Any) -> bool:
    return isinstance(found, EnvSpec) and found.id.startswith(MINIGRID)


def _sensible(made: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """An environment as an agent can sense it: the missions of MiniGrid and BabyAI are texts."""
    if not _is_minigrid(made.spec):
        return made
    from groundling.envs.minigrid import MinigridEnv  # of an optional package

    return MinigridEnv(made)


@contextmanager
def _making(name: str) -> Iterator[None]:
    with naming_faults(name, "make"):
        try:
            yield
        except TypeError as error:
            if "keyword argument" not in str(error) and "takes no arguments" not in str(error):
                raise
            raise UserError(f"env.options does not fit {name}: {error}") from error


class CopiesVectorEnv(SyncVectorEnv):
    """Single environments, one after the other, each reset in the step in which it ends.

    Raises RuntimeError if their spaces differ.
    """

    rows_per_source = 1

    def __init__(self, copies: list[gymnasium.Env[Any, Any]], name: str) -> None:
        del name  # Each copy knows it.

        def handing_over(copy: gymnasium.Env[Any, Any]) -> Any:
            return lambda: copy

        super().__init__(
            [handing_over(copy) for copy in copies], autoreset_mode=AutoresetMode.SAME_STEP
        )

    @property
    def sources(self) -> list[Any]:
        """What can be asked about each copy."""
        return [source_of(copy) for copy in self.envs]


def same_step(environment: Environment, name: str) -> Environment:
    """A vector environment of any autoreset mode in SAME_STEP mode; raises UserError for none."""
    mode = environment.metadata.get("autoreset_mode")
    if mode == AutoresetMode.SAME_STEP:
        return environment
    if mode == AutoresetMode.NEXT_STEP:
        return AbsentForAStep(environment)
    if mode == AutoresetMode.DISABLED:
        return ResetAtOnce(environment)
    environment.close()
    raise UserError(
        f"env.id {name} resets in mode {mode}; expected a vector environment whose "
        'metadata["autoreset_mode"] is a gymnasium.vector.AutoresetMode'
    )


class _SameStep(VectorWrapper[Any, Any, Any, Any, Any]):
    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self.metadata = env.metadata | {"autoreset_mode": AutoresetMode.SAME_STEP}


class AbsentForAStep(_SameStep):
    """A NEXT_STEP environment: the step that it takes to reset belongs to no episode.

    The final observation, which it gives as a row, goes to `info["final_obs"]`, and the row is
    absent until the observation of the reset.
    """

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._absent = np.zeros(env.num_envs, np.bool_)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """As the environment's, with nobody absent."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._absent[:] = False
        return observation, info | {"absent": self._absent.copy()}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """As the environment's, with `absent` and the final observations in info."""
        observation, reward, terminated, truncated, info = self.env.step(actions)
        # Whatever it says about the step in which it resets: no episode was under way.
        resetting = self._absent
        terminated, truncated = terminated & ~resetting, truncated & ~resetting
        self._absent = terminated | truncated
        info = info | {"absent": self._absent.copy()}
        info |= final_info(observation, terminated | truncated)
        return observation, np.where(resetting, 0.0, reward), terminated, truncated, info


class ResetAtOnce(_SameStep):
    """An environment that resets when it is told (DISABLED): it is told in the same step."""

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """As the environment's; where episodes ended, the observation is the next one's first."""
        observation, reward, terminated, truncated, info = self.env.step(actions)
        ended = terminated | truncated
        if ended.any():
            info = info | final_info(observation, ended)
            # Its own copies: nothing says that a reset may not write into what a step gave.
            reward, terminated, truncated = reward.copy(), terminated.copy(), truncated.copy()
            before = _rows_where(ended, observation, observation)
            fresh, told = self.env.reset(options={"reset_mask": ended.copy()})
            observation = _rows_where(ended, fresh, before)
            info = info | _told_where(ended, told, info)
        return observation, reward, terminated, truncated, info


def _told_where(
    chosen: NDArray[np.bool_], these: dict[str, Any], others: dict[str, Any]
) -> dict[str, Any]:
    """What both infos tell of every row: of the chosen rows by one, of all others by the other."""

    def rows(told: Any) -> bool:
        return isinstance(told, np.ndarray) and told.shape[:1] == chosen.shape

    both = [name for name in these if rows(these[name]) and rows(others.get(name))]
    return {name: _rows_where(chosen, these[name], others[name]) for name in both}


def final_info(observation: Any, ended: NDArray[np.bool_]) -> dict[str, Any]:
    """The rows in which an episode ended, in the form that SyncVectorEnv gives them."""
    if not ended.any():
        return {}
    final = np.full(len(ended), None, dtype=object)
    for row in map(int, np.flatnonzero(ended)):
        final[row] = _row(observation, row)
    return {"final_obs": final, "_final_obs": ended.copy()}


def _row(observation: Any, row: int) -> Any:
    if isinstance(observation, dict):
        return {name: _row(part, row) for name, part in observation.items()}
    return np.array(observation[row])


def _rows_where(chosen: NDArray[np.bool_], these: Any, others: Any) -> Any:
    """In new arrays: the chosen rows of one observation, all other rows of the other one."""
    if isinstance(these, dict):
        return {name: _rows_where(chosen, part, others[name]) for name, part in these.items()}
    mask = chosen.reshape(-1, *[1] * (np.ndim(these) - 1))
    return np.where(mask, these, others)
