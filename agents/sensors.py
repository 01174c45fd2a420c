"""From observation spaces to features: the spaces are the agent's specification.

A Dict space (nested or not) is a flat mapping of leaves, and each leaf gets the sensor its space
asks for:

========================================  =====================================================
integer Box [V, W, C], small maxima       cells of categories: one embedding table per channel,
                                          shared by all cells, then a perceptron
Box [H, W, C] with a maximum of 255       image: convolutions
integer Box 1-D, MultiDiscrete            tokens: one shared table, padding 0, flattened
Discrete                                  one embedding
any other Box, MultiBinary                numbers, flattened
========================================  =====================================================
"""

import math
from typing import Any, cast

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from groundling.agents.config import AgentConfig
from groundling.agents.layers import rectified
from groundling.envs.errors import UserError

Observation = dict[str, Tensor]
"""Leaves of an observation by name; a space that is no Dict has the single leaf "observation"."""

LARGEST_CATEGORY = 254
"""An integer Box whose maxima lie above this is an image or a quantity, not a set of categories."""


def leaf_spaces(space: gymnasium.Space[Any], prefix: str = "") -> dict[str, gymnasium.Space[Any]]:
    """The leaves of an observation space by name; nested names are joined by a slash.

    Raises ValueError for a space that no sensor reads (Text, Graph, Sequence, …).
    """
    if not isinstance(space, spaces.Dict):
        return {"observation": _checked(space, "observation")}
    leaves: dict[str, gymnasium.Space[Any]] = {}
    for key, child in space.spaces.items():
        name = f"{prefix}{key}"
        if isinstance(child, spaces.Dict):
            leaves |= leaf_spaces(child, f"{name}/")
        else:
            leaves[name] = _checked(child, name)
    return leaves


def _checked(space: gymnasium.Space[Any], name: str) -> gymnasium.Space[Any]:
    known = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    if not isinstance(space, known):
        raise UserError(
            f"observation {name!r} is a {type(space).__name__} space; expected Box, Discrete, "
            "MultiDiscrete, MultiBinary or a Dict of these"
        )
    return space


def leaf_arrays(observation: Any) -> dict[str, np.ndarray[Any, Any]]:
    """An observation (array, or nested dict of arrays) as a flat mapping of leaves."""
    if not isinstance(observation, dict):
        return {"observation": np.asarray(observation)}
    leaves: dict[str, np.ndarray[Any, Any]] = {}
    for key, value in observation.items():
        if isinstance(value, dict):
            leaves |= {f"{key}/{name}": leaf for name, leaf in leaf_arrays(value).items()}
        else:
            leaves[key] = np.asarray(value)
    return leaves


class Cells(nn.Module):
    """A grid of cells, each described by categories: [..., V, W, C] integers → [..., size].

    The embedding of a channel is one table for all cells. A table per cell was tried: what an
    object is was still at chance when where it stands was long learned.
    """

    def __init__(self, space: spaces.Box, config: AgentConfig) -> None:
        super().__init__()
        rows, columns, channels = space.shape
        highest = space.high.reshape(-1, channels).max(axis=0)
        self.embeddings = nn.ModuleList(
            nn.Embedding(int(high) + 1, config.embedding_size) for high in highest
        )
        self.perceptron = rectified(
            rows * columns * channels * config.embedding_size, config.sensor_size
        )
        self.size = config.sensor_size

    def embed(self, cells: Tensor) -> Tensor:
        """[..., V, W, C] integers → [..., V, W, C · embedding_size]."""
        channels = cells.long().unbind(-1)
        return torch.cat(
            [table(channel) for table, channel in zip(self.embeddings, channels, strict=True)], -1
        )

    def forward(self, cells: Tensor) -> Tensor:
        """[..., V, W, C] integers → [..., size]."""
        return cast(Tensor, self.perceptron(self.embed(cells).flatten(-3)))


class Image(nn.Module):
    """An image, [..., H, W, C] with values up to 255 → [..., size] (IMPALA's shallow network)."""

    def __init__(self, space: spaces.Box, config: AgentConfig) -> None:
        super().__init__()
        height, width, channels = space.shape
        # Strides of 4 and 2 suit Atari-sized screens; a small picture would shrink to nothing.
        layers = [(16, 8, 4), (32, 4, 2)] if min(height, width) >= 36 else [(16, 3, 2), (32, 3, 1)]
        convolutions: list[nn.Module] = []
        for filters, kernel, stride in layers:
            convolution = nn.Conv2d(channels, filters, kernel, stride)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(cast(Tensor, convolution.bias))
            convolutions += [convolution, nn.ReLU()]
            channels = filters
            height, width = ((side - kernel) // stride + 1 for side in (height, width))
        if min(height, width) < 1:
            raise UserError(f"an image of shape {space.shape} is too small; expected at least 7x7")
        self.convolutions = nn.Sequential(*convolutions, nn.Flatten())
        self.perceptron = rectified(channels * height * width, config.sensor_size)
        self.size = config.sensor_size

    def forward(self, image: Tensor) -> Tensor:
        """[..., H, W, C] in [0, 255] → [..., size]."""
        pixels = image.flatten(0, -4).movedim(-1, -3).float() / 255.0
        features = self.perceptron(self.convolutions(pixels))
        return cast(Tensor, features.unflatten(0, image.shape[:-3]))


class Category(nn.Module):
    """One of n categories, [...] integers from `start` → [..., size]."""

    def __init__(self, space: spaces.Discrete, config: AgentConfig) -> None:
        super().__init__()
        self.start = int(space.start)
        self.table = nn.Embedding(int(space.n), config.embedding_size)
        self.size = config.embedding_size

    def forward(self, category: Tensor) -> Tensor:
        """[...] integers → [..., size]."""
        return cast(Tensor, self.table(category.long() - self.start))


class Tokens(nn.Module):
    """A fixed number of tokens, each counted from its `start` (the padding) up to at most
    `highest` above it: [..., *shape] integers → [..., tokens · embedding_size].
    """

    start: Tensor

    def __init__(self, start: np.ndarray[Any, Any], highest: int, config: AgentConfig) -> None:
        super().__init__()
        self.register_buffer("start", torch.as_tensor(start, dtype=torch.int64), persistent=False)
        self.table = nn.Embedding(highest + 1, config.embedding_size, padding_idx=0)
        self.size = start.size * config.embedding_size

    def forward(self, tokens: Tensor) -> Tensor:
        """[..., *shape] integers → [..., size]."""
        embedded = cast(Tensor, self.table(tokens.long() - self.start))
        return embedded.flatten(-1 - self.start.dim())


class Numbers(nn.Module):
    """Plain numbers of any shape, [..., *shape] → [..., size]."""

    def __init__(self, shape: tuple[int, ...], config: AgentConfig) -> None:
        super().__init__()
        self.dimensions = len(shape)
        self.perceptron = rectified(math.prod(shape), config.sensor_size)
        self.size = config.sensor_size

    def forward(self, numbers: Tensor) -> Tensor:
        """[..., *shape] → [..., size]."""
        values = numbers.float()
        flat = values.flatten(-self.dimensions) if self.dimensions else values.unsqueeze(-1)
        return cast(Tensor, self.perceptron(flat))


LeafSensor = Cells | Image | Category | Tokens | Numbers


def leaf_sensor(space: gymnasium.Space[Any], config: AgentConfig) -> LeafSensor:
    """The sensor that a leaf space asks for (the table at the top of this file)."""
    if isinstance(space, spaces.Discrete):
        return Category(space, config)
    if isinstance(space, spaces.MultiDiscrete):
        return Tokens(space.start, int(space.nvec.max()) - 1, config)
    if isinstance(space, spaces.MultiBinary):
        return Numbers(space.shape, config)
    assert isinstance(space, spaces.Box)
    is_integer = np.issubdtype(space.dtype, np.integer)
    highest = float(space.high.max()) if space.shape else float(space.high)
    is_categorical = is_integer and float(space.low.min()) >= 0 and highest <= LARGEST_CATEGORY
    if len(space.shape) == 3 and is_categorical:
        return Cells(space, config)
    if len(space.shape) == 3 and highest == 255:
        return Image(space, config)
    if len(space.shape) == 1 and is_categorical:
        return Tokens(np.zeros(space.shape, np.int64), int(highest), config)
    return Numbers(space.shape, config)


class Sensors(nn.Module):
    """All leaves of an observation, mixed: {name: [..., *leaf shape]} → [..., feature_size]."""

    def __init__(self, space: gymnasium.Space[Any], config: AgentConfig) -> None:
        super().__init__()
        leaves = leaf_spaces(space)
        # Side by side with their names: the name of a module may hold no dot, nor be "keys".
        self.names = tuple(leaves)
        self.leaves = nn.ModuleList(leaf_sensor(leaf, config) for leaf in leaves.values())
        total = sum(cast(LeafSensor, sensor).size for sensor in self.leaves)
        self.mix = rectified(total, config.feature_size)

    def leaf(self, name: str) -> LeafSensor:
        """The sensor of one leaf."""
        return cast(LeafSensor, self.leaves[self.names.index(name)])

    def forward(self, observation: Observation) -> Tensor:
        """{name: [..., *leaf shape]} → [..., feature_size]."""
        features = [
            sensor(observation[name]) for name, sensor in zip(self.names, self.leaves, strict=True)
        ]
        return cast(Tensor, self.mix(torch.cat(features, -1)))
