"""From observation spaces to features: the spaces are the agent's specification.

A Dict space (nested or not) is a flat mapping of leaves, and each leaf gets the sensor its space
asks for:

========================================  =====================================================
integer Box [V, W, C], small maxima       cells of categories: one embedding table per channel,
                                          shared by all cells, then a perceptron
Box [H, W, C] with a maximum of 255       image: convolutions
integer Box 1-D named `instruction`       words in order, pooled; they also gate the cells
integer Box 1-D, MultiDiscrete            tokens: one shared table, padding 0, flattened
Discrete                                  one embedding
any other Box, MultiBinary                numbers, flattened
========================================  =====================================================
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from groundling.agents.config import AgentConfig
from groundling.agents.layers import Derived, rectified
from groundling.agents.plugins import known_names, own_sensor
from groundling.envs.errors import UserError

Observation = dict[str, Tensor]
"""Leaves of an observation by name; a space that is no Dict has the single leaf "observation"."""

INSTRUCTION = "instruction"
"""Last part of the name of a leaf that tells the agent in words what to do."""

LARGEST_WORD = 65_535
"""An instruction has one embedding for each word: its space must say how many there are."""

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

    What an instruction says selects among the things seen: it gates every cell's embedding, so that
    "is this the thing?" is a product (gated attention, Chaplot et al. 2018, arXiv 1706.07230;
    feature-wise modulation, Perez et al. 2018, arXiv 1709.07871). One gate for all cells.

    Args:
        space: of the leaf.
        config: sizes.
        instructed: size of the instruction's features; 0 if there is none.
        perceptron: what reads the embeddings of all cells; one made here unless given.
    """

    def __init__(
        self,
        space: spaces.Box,
        config: AgentConfig,
        instructed: int = 0,
        perceptron: nn.Module | None = None,
    ) -> None:
        super().__init__()
        rows, columns, channels = space.shape
        highest = space.high.reshape(-1, channels).max(axis=0)
        self.categories = [int(high) + 1 for high in highest]
        self.embeddings = nn.ModuleList(
            nn.Embedding(number, config.embedding_size) for number in self.categories
        )
        width = channels * config.embedding_size
        self.perceptron = perceptron or rectified(rows * columns * width, config.sensor_size)
        # Of each number its category 0 among all that a view may hold, cell by cell.
        begins = np.cumsum([0, *self.categories])
        cells = np.arange(rows * columns)[:, None] * begins[-1]
        self.register_buffer("begins", torch.from_numpy(cells + begins[:-1]), persistent=False)
        self.folds = sum(self.categories) <= width
        self.folded = Derived()
        self.gate: nn.Linear | None = None
        if instructed:
            # No bias: where nothing is instructed every cell is read as it is.
            self.gate = nn.Linear(instructed, width, bias=False)
            nn.init.normal_(self.gate.weight, std=1 / math.sqrt(instructed))
        self.size = config.sensor_size

    def embed(self, cells: Tensor) -> Tensor:
        """[..., V, W, C] integers → [..., V, W, C · embedding_size]."""
        channels = cells.long().unbind(-1)
        return torch.cat(
            [table(channel) for table, channel in zip(self.embeddings, channels, strict=True)], -1
        )

    def gated(self, cells: Tensor, instruction: Tensor | None) -> Tensor:
        """The embeddings, and of them what an instruction, [..., instructed], selects."""
        embedded = self.embed(cells)
        if self.gate is None:
            return embedded
        return embedded * (1.0 + cast(Tensor, self.gate(instruction))[..., None, None, :])

    def forward(
        self, cells: Tensor, instruction: Tensor | None = None, location: Tensor | None = None
    ) -> Tensor:
        """Reads cells.

        Args:
            cells: [..., V, W, C] integers.
            instruction: [..., instructed]: what is instructed, if anything is.
            location: [..., 2]: where a glimpse of them was taken (`agents.glimpse`).

        Returns:
            [..., size].
        """
        if self.gate is None and self.folds:
            return self._read(cells)
        return cast(Tensor, self.perceptron(self.gated(cells, instruction).flatten(-3)))

    def _read(self, cells: Tensor) -> Tensor:
        """What the perceptron makes of the embeddings of all cells.

        Embeddings and the perceptron's first layer are both linear, and are multiplied with each
        other before a view is read: of a one-hot view. There are fewer categories than numbers in
        their embeddings, and nothing is gathered, nor are its gradients: with a 7 × 7 view a fifth
        of the time.
        """
        perceptron = cast(nn.Sequential, self.perceptron)
        dense = cast(nn.Linear, perceptron[0])
        tables = [cast(nn.Embedding, table).weight for table in self.embeddings]

        def fold() -> Tensor:
            names = torch.block_diag(*tables)
            weight: Tensor = dense.weight.unflatten(1, (-1, names.shape[1])) @ names.t()
            return weight.flatten(1)

        weight = cast(Tensor, self.folded(fold))
        seen = (cells.flatten(-3, -2).long() + cast(Tensor, self.begins)).flatten(-2)
        one_hot = weight.new_zeros(*seen.shape[:-1], weight.shape[1]).scatter_(-1, seen, 1.0)
        return cast(Tensor, perceptron[1:](F.linear(one_hot, weight, dense.bias)))


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


class Instruction(nn.Module):
    """Words in order, [..., L] integers with 0 = padding → [..., size].

    Each word and its place pass a rectified layer together, so that "red key" and "blue key, red
    box" differ; the mean over the words of whatever was said passes another.
    """

    def __init__(self, space: spaces.Box, config: AgentConfig) -> None:
        super().__init__()
        (length,) = space.shape
        lowest, highest = int(space.low.min()), int(space.high.max())
        if lowest < 0 or highest > LARGEST_WORD:
            raise UserError(
                f"observation {INSTRUCTION!r} holds {lowest} to {highest}; expected words of 0 "
                f"(padding) to at most {LARGEST_WORD}"
            )
        self.words = nn.Embedding(highest + 1, config.embedding_size)
        self.places = nn.Parameter(torch.randn(length, config.embedding_size))
        self.token = rectified(config.embedding_size, config.sensor_size)
        self.phrase = rectified(config.sensor_size, config.sensor_size)
        self.size = config.sensor_size

    def forward(self, tokens: Tensor) -> Tensor:
        """[..., L] integers → [..., size]; zeros where nothing is said."""
        # What is said stays the same for most of an episode: each phrase is read once.
        rows = tokens.reshape(-1, tokens.shape[-1])
        phrases, which = torch.unique(rows, dim=0, return_inverse=True)
        read: Tensor = self._read(phrases)[which]
        return read.view(*tokens.shape[:-1], self.size)

    def _read(self, tokens: Tensor) -> Tensor:
        """[N, L] integers → [N, size]."""
        said = (tokens != 0).unsqueeze(-1)
        # Two of them are summed: halved in variance, the sum is as large as either.
        embedded = (self.words(tokens.long()) + self.places) * math.sqrt(0.5)
        words = self.token(embedded) * said
        number = said.sum(-2)
        phrase = self.phrase(words.sum(-2) / number.clamp(min=1))
        return cast(Tensor, phrase * (number > 0))


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


LeafSensor = Cells | Image | Category | Tokens | Instruction | Numbers


def is_instruction(name: str, space: gymnasium.Space[Any]) -> bool:
    """Whether a leaf is words that tell the agent what to do: so named, and a list of tokens."""
    return (
        name.split("/")[-1] == INSTRUCTION
        and isinstance(space, spaces.Box)
        and len(space.shape) == 1
        and np.issubdtype(space.dtype, np.integer)
    )


def is_cells(space: gymnasium.Space[Any]) -> bool:
    """Whether a leaf is a grid of cells, each described by categories."""
    return isinstance(space, spaces.Box) and len(space.shape) == 3 and _is_categorical(space)


def is_image(space: gymnasium.Space[Any]) -> bool:
    """Whether a leaf is an image."""
    return isinstance(space, spaces.Box) and len(space.shape) == 3 and space.high.max() == 255


def _is_categorical(space: spaces.Box) -> bool:
    """Whether all numbers are integers from 0 to at most `LARGEST_CATEGORY`."""
    whole = np.issubdtype(space.dtype, np.integer)
    return bool(whole and space.low.min() >= 0 and space.high.max() <= LARGEST_CATEGORY)


def leaf_sensor(
    space: gymnasium.Space[Any], config: AgentConfig, name: str = "", instructed: int = 0
) -> LeafSensor:
    """The sensor that a leaf asks for (the table at the top of this file).

    Args:
        space: of the leaf.
        config: sizes.
        name: of the leaf.
        instructed: size of the instruction's features that gate cells; 0 if there is none.
    """
    if is_instruction(name, space):
        return Instruction(cast(spaces.Box, space), config)
    if isinstance(space, spaces.Discrete):
        return Category(space, config)
    if isinstance(space, spaces.MultiDiscrete):
        return Tokens(space.start, int(space.nvec.max()) - 1, config)
    if isinstance(space, spaces.MultiBinary):
        return Numbers(space.shape, config)
    assert isinstance(space, spaces.Box)
    if is_cells(space):
        return Cells(space, config, instructed)
    if is_image(space):
        return Image(space, config)
    if len(space.shape) == 1 and _is_categorical(space):
        return Tokens(np.zeros(space.shape, np.int64), int(space.high.max()), config)
    return Numbers(space.shape, config)


class Sensors(nn.Module):
    """All leaves of an observation, mixed: {name: [..., *leaf shape]} → [..., feature_size].

    Of an agent with attention also where it looks: what and where are each rectified, and together
    once more (Mnih et al. 2014, the glimpse network).

    Args:
        space: of a single environment's observations.
        config: sizes.
        glimpses: what makes the sensor of a part that is glimpsed, from the size of the features
            that an instruction has.

    Raises:
        UserError: for a space that no sensor reads, and if a sensor of the user's own
            (`AgentConfig.sensors`) cannot be had or does not do what it says.
    """

    def __init__(
        self,
        space: gymnasium.Space[Any],
        config: AgentConfig,
        glimpses: Mapping[str, Callable[[int], nn.Module]] | None = None,
    ) -> None:
        super().__init__()
        leaves = leaf_spaces(space)
        known_names("agent.sensors", config.sensors, leaves)
        # Side by side with their names: the name of a module may hold no dot, nor be "keys".
        self.names = tuple(leaves)
        self.instructions = tuple(name for name in leaves if is_instruction(name, leaves[name]))
        # What gates the cells is made before them.
        first = {name: _sensor(name, leaves[name], config) for name in self.instructions}
        instructed = sum(sensor.size for sensor in first.values())
        glimpses = glimpses or {}
        self.leaves = nn.ModuleList(
            first[name]
            if name in first
            else glimpses[name](instructed)
            if name in glimpses
            else _sensor(name, leaf, config, instructed)
            for name, leaf in leaves.items()
        )
        total = sum(cast(LeafSensor, sensor).size for sensor in self.leaves)
        self.where = rectified(2, config.sensor_size) if glimpses else None
        self.mix = rectified(total + (config.sensor_size if glimpses else 0), config.feature_size)

    def leaf(self, name: str) -> LeafSensor:
        """The sensor of one leaf (it may be of the user's own)."""
        return cast(LeafSensor, self.leaves[self.names.index(name)])

    def forward(self, observation: Observation, location: Tensor | None = None) -> Tensor:
        """What is seen, and where.

        Args:
            observation: {name: [..., *leaf shape]}.
            location: [..., 2]: coordinates, with attention; without, or to leave it unsaid: None.

        Returns:
            [..., feature_size].
        """
        said = {name: self.leaf(name)(observation[name]) for name in self.instructions}
        instruction = torch.cat(list(said.values()), -1) if said else None
        features = [
            said[name]
            if name in said
            else sensor(observation[name], instruction, location)
            if isinstance(sensor, Cells)
            else sensor(observation[name])
            for name, sensor in zip(self.names, self.leaves, strict=True)
        ]
        if self.where is not None:
            unsaid = features[0].new_zeros(*features[0].shape[:-1], self.where[0].out_features)
            features.append(unsaid if location is None else self.where(location))
        return cast(Tensor, self.mix(torch.cat(features, -1)))

    def without_instruction(self, observation: Observation) -> Observation:
        """The same observation with nothing instructed (padding)."""
        silent = {name: torch.zeros_like(observation[name]) for name in self.instructions}
        return observation | silent


def _sensor(
    name: str, space: gymnasium.Space[Any], config: AgentConfig, instructed: int = 0
) -> LeafSensor:
    if name in config.sensors:
        return cast(LeafSensor, own_sensor(name, space, config))
    return leaf_sensor(space, config, name, instructed)
