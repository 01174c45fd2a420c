"""Observations as numbers for a decoder: the control that has eyes and no memory of its own."""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional as F

from groundling.agents.actions import Actions, make_actions
from groundling.agents.agent import Rows
from groundling.agents.sensors import LARGEST_CATEGORY, leaf_spaces


class ObservationCode:
    """How an observation and the action that led to it become numbers, and are kept small.

    Where all that is observed is categories, it is kept as one byte each and given to the decoder
    one-hot; a byte of 0 is nothing, a row of zeros. Otherwise everything is kept as half floats,
    images scaled to [0, 1].

    Args:
        observation_space: of a single environment.
        action_space: likewise.
    """

    def __init__(
        self, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
    ) -> None:
        self.leaves = leaf_spaces(observation_space)
        self.actions = make_actions(action_space)
        self.categories = _categories(self.leaves.values(), self.actions)

    def encode(self, row: Rows) -> Tensor:
        """[B, width] uint8 or float16 of a row [B, …]."""
        first = row.is_first.unsqueeze(-1)
        if self.categories is not None:
            parts = [
                row.observation[name].reshape(len(first), -1).long() - _lowest(space)
                for name, space in self.leaves.items()
            ]
            action = row.previous_action.reshape(len(first), -1).masked_fill(first, -1)
            return (torch.cat([*parts, action], dim=-1) + 1).to(torch.uint8)
        parts = [_numbers(row.observation[name], space) for name, space in self.leaves.items()]
        taken = self.actions.encode(row.previous_action).masked_fill(first, 0.0)
        return torch.cat([*parts, taken], dim=-1).half()

    def decode(self, codes: Tensor) -> Tensor:
        """Some encoded rows of each of N moments, [N, k, width], as float32 [N, W]."""
        flat = codes.flatten(1)
        if self.categories is None:
            return flat.float()
        sizes = torch.tensor(self.categories, device=codes.device)
        sizes = sizes.repeat(flat.shape[1] // len(sizes))
        begins = sizes.cumsum(0) - sizes
        width = int(sizes.sum())
        # Nothing goes into one more column, which is then left out.
        place = torch.where(flat > 0, begins + flat.long() - 1, width)
        return torch.zeros(len(flat), width + 1, device=codes.device).scatter_(1, place, 1.0)[
            :, :width
        ]


def _categories(leaves: Any, actions: Actions) -> list[int] | None:
    """How many values each number of an observation and of the action that led to it may take; None
    if some are no categories."""
    sizes: list[int] = []
    for space in leaves:
        if isinstance(space, spaces.Discrete):
            sizes.append(int(space.n))
        elif isinstance(space, spaces.MultiDiscrete):
            sizes += [int(size) for size in np.ravel(space.nvec)]
        elif isinstance(space, spaces.MultiBinary):
            sizes += [2] * int(np.prod(space.shape))
        elif _is_symbolic(space):
            sizes += [int(high) + 1 for high in np.ravel(space.high)]
        else:
            return None
    if actions.categories is None:
        return None
    sizes += actions.categories
    return sizes if max(sizes) <= LARGEST_CATEGORY + 1 else None


def _is_symbolic(space: spaces.Box) -> bool:
    whole = np.issubdtype(space.dtype, np.integer)
    return bool(whole and space.low.min() >= 0 and space.high.max() <= LARGEST_CATEGORY)


def _lowest(space: gymnasium.Space[Any]) -> int:
    return int(space.start) if isinstance(space, spaces.Discrete) else 0


def _numbers(leaf: Tensor, space: gymnasium.Space[Any]) -> Tensor:
    """[B, width] float of one leaf: one-hot, or scaled if it is an image."""
    if isinstance(space, spaces.Discrete):
        return F.one_hot(leaf.long() - int(space.start), int(space.n)).float()
    largest = float(np.max(space.high)) if isinstance(space, spaces.Box) else 1.0
    scale = largest if np.isfinite(largest) and largest > 1 else 1.0
    return leaf.reshape(len(leaf), -1).float() / scale
