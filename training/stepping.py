"""An environment's steps told as rows: what is read, which row is a first one, and who is there.

Of the row just given a vector environment may further say `info["target"]`, float [B, 2]: where
there is to look, in coordinates (`agents.glimpse`), and `info["label"]`, integers [B]: which action
of its action space is the right one.

A vector environment may say `info["absent"]`, bool [B], at `reset` and `step`: of such a row the
observation just given is filler (within its space), because nobody is there. It may be an agent
that is out while others go on, or an environment that needs a step to begin anew. Whatever is done
in such a row is ignored, and what comes of it is no transition. This is the only place that knows.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from groundling.agents.actions import Actions
from groundling.agents.agent import Rows
from groundling.agents.sensors import leaf_arrays
from groundling.envs.errors import UserError
from groundling.training.environments import Doorkeeper, Environment

TOLD = ("target", "_target", "label", "_label")
"""What is told beside a row, and of which environments."""


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
    info: dict[str, Any]
    """What the environment said beside that row."""

    def __init__(self, environment: Environment, actions: Actions, device: torch.device) -> None:
        self.environment = environment
        self.actions = actions
        self.device = device
        self.name = environment.spec.id if environment.spec else ""
        self.doorkeeper = Doorkeeper(environment, self.name)

    def reset(self, seed: int | list[int]) -> Rows:
        """Begins an episode everywhere, of a seed and those after it, or of as many seeds as there
        are environments; the row [B] of its first observations."""
        observation, info = self.environment.reset(seed=seed)  # type: ignore[arg-type]
        self.doorkeeper.check(observation)
        self._listen(info)
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
        before = self.absent
        self._listen(info)
        terminated = (terminated | (self.absent & ~truncated)) & ~before
        truncated = truncated & ~terminated & ~before
        reward = np.where(before, 0.0, reward)
        row = Rows(
            observe(observation, self.device),
            # While nobody is there nothing is remembered, and who comes back begins anew.
            sent(terminated | truncated | before, self.device),
            action,
            sent(reward.astype(np.float32), self.device),
        )
        return row, Outcome(reward, terminated, truncated, ~before, info)

    @property
    def target(self) -> Tensor | None:
        """[B, 2] float32: where there is to look in the row told last; None if nobody says."""
        target = self._told_of_all("target", "f", (self.environment.num_envs, 2))
        if target is None:
            return None
        if not np.isfinite(target).all():
            raise UserError(f"environment {self.name}: info['target'] is NaN or infinite")
        return torch.as_tensor(target, dtype=torch.float32, device=self.device)

    @property
    def label(self) -> Tensor | None:
        """[B] int64: the right action of the row told last, as the agent knows actions (which are
        Discrete); None if nobody says."""
        label = self._told_of_all("label", "iu", (self.environment.num_envs,))
        if label is None:
            return None
        space = self.environment.single_action_space
        assert isinstance(space, spaces.Discrete)
        outside = (label < space.start) | (label >= space.start + space.n)
        if (outside & ~self.absent).any():
            raise UserError(
                f"environment {self.name}: info['label'] holds {label[outside & ~self.absent][0]}; "
                f"expected one of the actions {space.start} to {space.start + space.n - 1}"
            )
        return self.actions.from_environment(np.where(outside, space.start, label), self.device)

    def state_dict(self) -> dict[str, Tensor]:
        """What was told beside the last row, as far as it is numbers."""
        told = {name: np.array(self.info[name]) for name in TOLD if name in self.info}
        return {
            name: torch.from_numpy(values)
            for name, values in told.items()
            if values.dtype.kind in "bif"
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        self.info = {name: values.numpy() for name, values in state.items()}

    def _listen(self, info: dict[str, Any]) -> None:
        self.info = info
        batch = self.environment.num_envs
        absent = self._told("absent", "b", (batch,))
        self.absent = np.zeros(batch, np.bool_) if absent is None else absent

    def _told_of_all(self, name: str, kinds: str, shape: tuple[int, ...]) -> NDArray[Any] | None:
        """As `_told`, with zeros in absent rows; told, it must be of every other one."""
        told = self._told(name, kinds, shape)
        if told is None:
            return None
        # Of environments that it steps one by one Gymnasium marks those that said something.
        spoke = np.asarray(self.info.get(f"_{name}", True))
        if not (spoke | self.absent).all():
            raise UserError(
                f"environment {self.name}: info[{name!r}] is missing in some rows; expected it at "
                "every reset and step"
            )
        told[self.absent] = 0
        return told

    def _told(self, name: str, kinds: str, shape: tuple[int, ...]) -> NDArray[Any] | None:
        """A copy (see `observe`) of what info says under a name, or None."""
        if name not in self.info:
            return None
        told = np.array(self.info[name])
        if told.shape != shape or told.dtype.kind not in kinds:
            expected = {"b": "bool", "f": "floats", "iu": "integers"}[kinds]
            raise UserError(
                f"environment {self.name}: info[{name!r}] is {told.dtype} {told.shape}; "
                f"expected {expected} {shape}"
            )
        return told


def sent(numbers: NDArray[Any], device: torch.device) -> Tensor:
    """Numbers that nobody writes to any more, on a device; a GPU fetches them when it comes to it,
    and nobody waits for that."""
    here = torch.from_numpy(numbers)
    if device.type != "cuda":
        return here.to(device)
    return here.pin_memory().to(device, non_blocking=True)


def observe(observation: Any, device: torch.device) -> dict[str, Tensor]:
    """An environment's observation as tensors, leaf by leaf: {name: [B, *leaf shape]}."""
    return {
        # A copy: an environment may write its next observation into the same array.
        name: sent(leaf.copy(), device)
        for name, leaf in leaf_arrays(observation).items()
    }
