"""Observations as numbers for a decoder: the control that has eyes and no memory of its own.

Of an agent with attention it has the agent's eyes: the glimpse, and where that was taken.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional as F

from groundling.agents.actions import make_actions
from groundling.agents.agent import Rows
from groundling.agents.attention import Attention
from groundling.agents.glimpse import Fovea
from groundling.agents.sensors import LARGEST_CATEGORY, is_cells, leaf_spaces


class ObservationCode:
    """How an observation and the action that led to it become numbers, and are kept small.

    Where all that is observed is categories, it is kept as one byte each and given to the decoder
    one-hot; a byte of 0 is nothing, a row of zeros. Otherwise everything is kept as half floats,
    images scaled to [0, 1]. A coarse place of a glimpse of cells is given as the shares of what it
    holds, as the agent reads it; where the glimpse lies as the corners of its patches, in cells
    (beside half floats as its coordinates).

    Args:
        observation_space: of a single environment.
        action_space: likewise.
        attention: of the agent through whose eyes is looked, if it has one.
    """

    def __init__(
        self,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        attention: Attention | None = None,
    ) -> None:
        self.leaves = leaf_spaces(observation_space)
        self.actions = make_actions(action_space)
        self.attention = attention
        self.columns = self._all_columns()

    def _all_columns(self) -> "_Columns | None":
        """Of a whole row; None if something in it is no category."""
        parts = [self._columns_of(name) for name in self.leaves]
        if self.attention is not None:
            parts.append(_one_hot(_corners_of(self.attention.fovea)[1]))
        parts.append(_one_hot(self.actions.categories))
        known = [part for part in parts if part is not None]
        return _joined(known) if len(known) == len(parts) else None

    def _columns_of(self, name: str) -> "_Columns | None":
        """Of one leaf as it is read."""
        space = self.leaves[name]
        if self.attention is None or name != self.attention.part:
            return _one_hot(_sizes(space))
        if not is_cells(space):
            return None
        highest = np.reshape(self.attention.space.high, (-1, self.attention.channels)).max(0)
        sizes, fovea = [int(high) + 1 for high in highest], self.attention.fovea
        begins, taken = (part.flatten().tolist() for part in fovea.columns(sizes))
        return _Columns(begins, taken, fovea.places * sum(sizes))

    def encode(self, row: Rows) -> Tensor:
        """[B, width] uint8 or float16 of a row [B, …], as the agent sees it (`Reader.row`)."""
        first = row.is_first.unsqueeze(-1)
        if self.columns is not None:
            parts = [
                row.observation[name].reshape(len(first), -1).long() - _lowest(space)
                for name, space in self.leaves.items()
            ]
            if self.attention is not None:
                assert row.location is not None
                corners = self.attention.fovea.corners(row.location).cpu()
                low = torch.tensor(_corners_of(self.attention.fovea)[0])
                parts.append((corners.flatten(1) - low).to(first.device))
            action = row.previous_action.reshape(len(first), -1).masked_fill(first, -1)
            return (torch.cat([*parts, action], dim=-1) + 1).to(torch.uint8)
        parts = [self._numbers(name, row.observation[name]) for name in self.leaves]
        if row.location is not None:
            parts.append(row.location)
        taken = self.actions.encode(row.previous_action).masked_fill(first, 0.0)
        return torch.cat([*parts, taken], dim=-1).half()

    def _numbers(self, name: str, leaf: Tensor) -> Tensor:
        """[B, width] float of one leaf, where not everything is categories."""
        glimpsed = self.attention is not None and name == self.attention.part
        columns = self._columns_of(name) if glimpsed else None
        if columns is not None:
            return columns.decode(leaf.flatten(1) + 1)
        return _scaled(leaf, self.leaves[name])

    def decode(self, codes: Tensor) -> Tensor:
        """Some encoded rows of each of N moments, [N, k, width], as float32 [N, W]."""
        if self.columns is None:
            return codes.flatten(1).float()
        return self.columns.decode(codes.flatten(0, 1)).reshape(len(codes), -1)


class _Columns:
    """Which columns n categories may turn on.

    Args:
        begins: of each: the column of its category 0.
        weights: what it adds there.
        width: columns.
    """

    def __init__(self, begins: Sequence[int], weights: Sequence[float], width: int) -> None:
        self.begins, self.width = torch.tensor(begins, dtype=torch.int64), width
        self.weights = torch.tensor(weights, dtype=torch.float32)

    def decode(self, codes: Tensor) -> Tensor:
        """[N, n] integers, 0 for nothing and else 1 + the category → float32 [N, width]."""
        codes = codes.long()
        # Nothing goes into one more column, which is then left out.
        column = torch.where(codes > 0, self.begins.to(codes.device) + codes - 1, self.width)
        added = self.weights.to(codes.device).expand(codes.shape)
        empty = torch.zeros(len(codes), self.width + 1, device=codes.device)
        return empty.scatter_add_(1, column, added)[:, : self.width]


def _one_hot(sizes: Sequence[int] | None) -> _Columns | None:
    """Of numbers that may take so many values each; None if they are too many for a byte."""
    if sizes is None or max(sizes, default=0) > LARGEST_CATEGORY + 1:
        return None
    ends = np.cumsum(sizes, dtype=np.int64)
    return _Columns((ends - sizes).tolist(), [1.0] * len(sizes), int(sum(sizes)))


def _joined(parts: Sequence[_Columns]) -> _Columns:
    begins: list[int] = []
    width = 0
    for part in parts:
        begins += (part.begins + width).tolist()
        width += part.width
    return _Columns(begins, torch.cat([part.weights for part in parts]).tolist(), width)


def _corners_of(fovea: Fovea) -> tuple[list[int], list[int]]:
    """Of the patches' corners, row and column, patch by patch: the lowest, and how many there are.

    A tile at the border may begin a little further on than any patch of a fovea.
    """
    lowest, number = [], []
    for scale in range(fovea.scales):
        before = min(0, int(np.floor(0.5 - fovea.size * 2**scale / 2)))
        lowest += [before, before]
        number += [side - before + 1 for side in (fovea.height, fovea.width)]
    return lowest, number


def _sizes(space: gymnasium.Space[Any]) -> list[int] | None:
    """How many values each number of a leaf may take; None if they are no categories."""
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiDiscrete):
        return [int(size) for size in np.ravel(space.nvec)]
    if isinstance(space, spaces.MultiBinary):
        return [2] * int(np.prod(space.shape))
    assert isinstance(space, spaces.Box)
    return [int(high) + 1 for high in np.ravel(space.high)] if _is_symbolic(space) else None


def _is_symbolic(space: spaces.Box) -> bool:
    whole = np.issubdtype(space.dtype, np.integer)
    return bool(whole and space.low.min() >= 0 and space.high.max() <= LARGEST_CATEGORY)


def _lowest(space: gymnasium.Space[Any]) -> int:
    return int(space.start) if isinstance(space, spaces.Discrete) else 0


def _scaled(leaf: Tensor, space: gymnasium.Space[Any]) -> Tensor:
    """[B, width] float of one leaf: one-hot, or scaled if it is an image."""
    if isinstance(space, spaces.Discrete):
        return F.one_hot(leaf.long() - int(space.start), int(space.n)).float()
    largest = float(np.max(space.high)) if isinstance(space, spaces.Box) else 1.0
    scale = largest if np.isfinite(largest) and largest > 1 else 1.0
    return leaf.reshape(len(leaf), -1).float() / scale
