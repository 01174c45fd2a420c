"""Several agents in one house, under the names that PettingZoo's modules have.

Importing this registers `groundling/house-v0` with PettingZoo. `parallel_env(...)` is the house
itself (`rooms/parallel.py`); `raw_env(...)` is the same with agents that take turns, all of which
act before the house moves; `env(...)` checks actions as well. Keywords are those of `HouseEnv`.
"""

from typing import Any

from pettingzoo import parallel_registry, register
from pettingzoo.utils.conversions import parallel_to_aec
from pettingzoo.utils.env import AECEnv
from pettingzoo.utils.wrappers import AssertOutOfBoundsWrapper, OrderEnforcingWrapper

from groundling.envs.rooms.parallel import NAME
from groundling.envs.rooms.parallel import HouseEnv as parallel_env  # noqa: N813

__all__ = ["env", "parallel_env", "raw_env"]

ID = "groundling/house-v0"


def raw_env(**keywords: Any) -> AECEnv:
    """The house in which agents take turns."""
    return parallel_to_aec(parallel_env(**keywords))


def env(**keywords: Any) -> AECEnv:
    """The house in which agents take turns, with PettingZoo's usual checks."""
    return OrderEnforcingWrapper(AssertOutOfBoundsWrapper(raw_env(**keywords)))


if ID not in parallel_registry:
    register("parallel", ID, entry_point=f"groundling.envs.{NAME}:parallel_env")
    register("aec", ID, entry_point=f"groundling.envs.{NAME}:env")
