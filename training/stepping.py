"""An environment's steps told as rows: what is read, which row is a first one, and who is there.

A vector environment may say `info["absent"]`, bool [B], at `reset` and `step`: of such a row the
observation just given is filler (within its space), because nobody is there. It may be an agent
that is out while others go on, or an environment that needs a step to begin anew. Whatever is done
in such a row is ignored, and what comes of it is no transition. This is the only place that knows.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from groundling.agents.actions import Actions
from groundling.agents.agent import Rows
from groundling.agents.sensors import leaf_arrays
from groundling.envs.errors import UserError
from groundling.training.environments import Doorkeeper, Environment


class Outcome(NamedTuple):
    """What one step brought to whoever took it, [B] each."""

    reward: NDArray[Any]
    """Raw; 0 where nobody stepped."""
    terminated: NDArray[np.bool_]
    """The episode is over for good. So it is for who is no longer there and was not cut off."""
    truncated: NDArray[np.bool_]
    """The episode was cut off; an episode that is both over and out of time is over."""
    stepped: NDArray[np.bool_]
    """Somebody was there to step."""
    info: dict[str, Any]
    """The environment's."""


class Stepper:
    """Resets and steps a vector environment with SAME_STEP autoreset, and checks what it says.

    Args:
        environment: any.
        actions: its action space as a policy over it.
        device: where the rows are read.
    """

    absent: NDArray[np.bool_]
    """[B]: nobody is in the row that was told last."""

    def __init__(self, environment: Environment, actions: Actions, device: torch.device) -> None:
        self.environment = environment
        self.actions = actions
        self.device = device
        self.name = environment.spec.id if environment.spec else ""
        self.doorkeeper = Doorkeeper(environment, self.name)

    def reset(self, seed: int) -> Rows:
        """Begins an episode everywhere; the row [B] of its first observations."""
        observation, info = self.environment.reset(seed=seed)
        self.doorkeeper.check(observation)
        self.absent = self._absent(info)
        batch = self.environment.num_envs
        return Rows(
            observe(observation, self.device),
            torch.ones(batch, dtype=torch.bool, device=self.device),
            self.actions.nothing(batch, device=self.device),
            torch.zeros(batch, device=self.device),
        )

    def step(self, choice: NDArray[Any], action: Tensor) -> tuple[Rows, Outcome]:
        """Steps every environment.

        Args:
            choice: as the environment takes it.
            action: the same, as the agent knows it, [B, *action shape].

        Returns:
            The next row, [B], and what the step brought.
        """
        observation, reward, terminated, truncated, info = self.environment.step(choice)
        self.doorkeeper.check(observation, reward)
        before, self.absent = self.absent, self._absent(info)
        terminated = (terminated | (self.absent & ~truncated)) & ~before
        truncated = truncated & ~terminated & ~before
        reward = np.where(before, 0.0, reward)
        row = Rows(
            observe(observation, self.device),
            # While nobody is there nothing is remembered, and who comes back begins anew.
            torch.as_tensor(terminated | truncated | before, device=self.device),
            action,
            torch.as_tensor(reward, dtype=torch.float32, device=self.device),
        )
        return row, Outcome(reward, terminated, truncated, ~before, info)

    def _absent(self, info: dict[str, Any]) -> NDArray[np.bool_]:
        batch = self.environment.num_envs
        absent = np.array(info.get("absent", np.zeros(batch, np.bool_)))  # a copy, see `observe`
        if absent.shape != (batch,) or absent.dtype != np.bool_:
            raise UserError(
                f"environment {self.name}: info['absent'] is {absent.dtype} {absent.shape}; "
                f"expected bool ({batch},)"
            )
        return absent


def observe(observation: Any, device: torch.device) -> dict[str, Tensor]:
    """An environment's observation as tensors, leaf by leaf: {name: [B, *leaf shape]}."""
    return {
        # A copy: an environment may write its next observation into the same array.
        name: torch.tensor(leaf, device=device)
        for name, leaf in leaf_arrays(observation).items()
    }
