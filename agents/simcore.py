"""SimCore's head: generates the future view from the simulator's state (Gregor et al. 2019,
arXiv 1906.09237), each part of an observation by a likelihood that suits its space.

Every decoder gives a negative log-likelihood in nats per element, so that parts of different sizes
weigh alike.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import gymnasium
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from groundling.agents.config import AgentConfig
from groundling.agents.glimpse import OUTSIDE, CellsGlimpse, ImageGlimpse, Unbinding
from groundling.agents.layers import linear, rectified
from groundling.agents.sensors import (
    Category,
    Cells,
    Image,
    LeafSensor,
    Numbers,
    Observation,
    Sensors,
    Tokens,
    leaf_sensor,
    leaf_spaces,
)


class CellsDecoder(nn.Module):
    """A categorical per cell and channel, by the chain rule: what stands in a cell, and what colour
    and size it has given what it is.

    With `tied` a category's score is the product of what is generated for the cell with the very
    embedding by which the sensor reads that category: to predict an object is then to name it in
    the words the agent perceives in.

    The link between a thing and its colour is a matrix per state, generated once for all cells: it
    maps the thing's embedding to its colour's. An agent that has lost track of where the key lay,
    but not that the key was red, can still say so.
    """

    def __init__(
        self, sensor: Cells, shape: tuple[int, ...], config: AgentConfig, *, tied: bool = True
    ) -> None:
        super().__init__()
        rows, columns, channels = shape
        self.cells = rows * columns
        self.channels = channels
        self.size = config.embedding_size
        self.reaches_agent = config.prediction.reaches_agent
        categories = [cast(nn.Embedding, table).num_embeddings for table in sensor.embeddings]
        self.hidden = rectified(config.core_size, config.sensor_size)
        self.generate = self._generator(config.sensor_size)
        self.links = nn.ModuleList(
            linear(config.sensor_size, self.size**2) for _ in range(channels - 1)
        )
        self.biases = nn.ParameterList(torch.zeros(number) for number in categories)
        self.tables = (
            None
            if config.prediction.tied and tied
            else nn.ModuleList(nn.Embedding(number, self.size) for number in categories)
        )

    def _generator(self, inputs: int) -> nn.Module:
        """What makes all cells' scores of a hidden layer."""
        return linear(inputs, self.cells * self.channels * self.size)

    def _generated(self, hidden: Tensor, location: Tensor | None) -> Tensor:
        """[N, inputs] → [N, cells, channels, embedding_size]."""
        generated = cast(Tensor, self.generate(hidden))
        return cast(Tensor, generated.unflatten(-1, (self.cells, self.channels, self.size)))

    def log_probs(
        self,
        state: Tensor,
        sensor: Cells,
        kinds: Tensor | None = None,
        location: Tensor | None = None,
    ) -> list[Tensor]:
        """For each channel [N, cells, categories].

        Args:
            state: [N, core_size].
            sensor: whose embeddings name the categories.
            kinds: what the other channels are given, the first one of each cell: [N, cells] int64,
                or the shares of all kinds, [N, cells, kinds]; the likeliest unless told.
            location: [N, 2]: of a glimpse, coordinates; None: the centre.
        """
        names = self._names(sensor)
        hidden = self.hidden(state)
        first, *others = self._generated(hidden, location).unbind(-2)
        scored = [self._score(first, names[0], self.biases[0])]
        kinds = scored[0].argmax(-1) if kinds is None else kinds
        known = kinds @ names[0] if kinds.is_floating_point() else F.embedding(kinds, names[0])
        for part, link, name, bias in zip(
            others, self.links, names[1:], list(self.biases)[1:], strict=True
        ):
            matrix = link(hidden).unflatten(-1, (self.size, self.size))
            linked = torch.bmm(known, matrix) / math.sqrt(self.size)
            scored.append(self._score(part + linked, name, bias))
        return scored

    def _score(self, generated: Tensor, names: Tensor, bias: Tensor) -> Tensor:
        """[N, cells, size] → [N, cells, categories]: log-probabilities."""
        return torch.log_softmax(F.linear(generated, names / math.sqrt(self.size), bias), dim=-1)

    def _names(self, sensor: Cells) -> list[Tensor]:
        """For each channel the embeddings of its categories, [categories, embedding_size]."""
        tables = sensor.embeddings if self.tables is None else self.tables
        names = [cast(Tensor, table.weight) for table in tables]
        # Tied, they are the agent's own.
        leave_alone = self.tables is None and not self.reaches_agent
        return [name.detach() for name in names] if leave_alone else names

    def forward(self, state: Tensor, target: Tensor, sensor: Cells, weights: Tensor) -> Tensor:
        """Weighted mean over cells of the nats of all channels, [N].

        Args:
            state: [N, core_size].
            target: [N, V, W, C] integers.
            sensor: whose embeddings name the categories.
            weights: [kinds]: of a cell that holds this kind (first channel), see `kind_weights`.
        """
        cells = target.long().flatten(1, 2)
        kinds = cells[..., 0]
        nats = torch.zeros_like(kinds, dtype=state.dtype)
        predicted = self.log_probs(state, sensor, kinds)
        for channel, log_probs in zip(cells.unbind(-1), predicted, strict=True):
            nats = nats - log_probs.gather(-1, channel.unsqueeze(-1)).squeeze(-1)
        return (nats * weights[kinds]).mean(-1)

    def kind_counts(self, views: Tensor) -> Tensor:
        """How many cells hold each kind in views [..., V, W, C]: [kinds] int64."""
        return kind_counts(views[..., 0], len(self.biases[0]))


class GlimpseDecoder(CellsDecoder):
    """Categoricals of a glimpse, whose coarse places each hold many cells.

    A coarse place says how often it holds each category; its nats are those of a cell drawn from
    it. Of a sharp place that is the categorical of `CellsDecoder`. What lies beyond the border is
    nothing, and not predicted.

    A place is generated from where in the view it lies (`glimpse.Unbinding`): what stands there is
    the same, wherever in a glimpse it is seen.

    Args:
        sensor: of the glimpse.
        config: sizes and switches.
    """

    def __init__(self, sensor: CellsGlimpse, config: AgentConfig) -> None:
        channels = len(sensor.embeddings)
        self.fovea = sensor.fovea
        super().__init__(sensor, (sensor.fovea.places, 1, channels), config)
        self.sharp = sensor.fovea.size**2

    def _generator(self, inputs: int) -> nn.Module:
        return Unbinding(self.fovea, inputs, self.channels * self.size)

    def _generated(self, hidden: Tensor, location: Tensor | None) -> Tensor:
        generated = cast(Tensor, self.generate(hidden, location))
        return cast(Tensor, generated.unflatten(-1, (self.channels, self.size)))

    def forward(
        self,
        state: Tensor,
        target: Tensor,
        sensor: Cells,
        weights: Tensor,
        location: Tensor | None = None,
    ) -> Tensor:
        """Weighted mean over places of the nats of all channels, [N].

        Args:
            state: [N, core_size].
            target: [N, read, C] integers (`agents.glimpse`).
            sensor: of the glimpse.
            weights: [kinds], as in `CellsDecoder`.
            location: [N, 2]: coordinates of the glimpse; None: the centre.
        """
        assert isinstance(sensor, CellsGlimpse)
        shares: Sequence[Tensor] = sensor.shares(target).split(sensor.categories, dim=-1)
        nats = state.new_zeros(())
        predicted = self.log_probs(state, sensor, shares[0], location)
        for share, log_probs in zip(shares, predicted, strict=True):
            nats = nats - (share * log_probs).sum(-1)
        # The mean weight of the cells that there are: how few they are is in the nats.
        inside = shares[0].sum(-1)
        weight = (shares[0] @ weights) / inside.masked_fill(inside == 0, 1.0)
        return (nats * weight).mean(-1)

    def kind_counts(self, views: Tensor) -> Tensor:
        """See `CellsDecoder.kind_counts`; of the sharp places."""
        kinds = views[..., : self.sharp, 0]
        return kind_counts(kinds[kinds != OUTSIDE], len(self.biases[0]))


def kind_counts(kinds: Tensor, number: int) -> Tensor:
    """How often each of so many kinds is there, [number] int64, of [...] integers from 0 on."""
    return torch.bincount(kinds.flatten().long(), minlength=number)


def kind_weights(counts: Tensor, balance: float) -> Tensor:
    """How much a cell counts by the kind of thing it holds: rare kinds more, the commonest once.

    Args:
        counts: [number]: how often each kind is there.
        balance: weight = (largest frequency / frequency)^balance; 0 makes all alike.

    Returns:
        [number] float32, at least 1.
    """
    counts = counts.float().clamp(min=1.0)
    return (counts.max() / counts).pow(balance)


class CategoryDecoder(nn.Module):
    """A categorical: [N, core_size] and [N] integers → nats [N]."""

    def __init__(self, sensor: Category, config: AgentConfig) -> None:
        super().__init__()
        self.start = sensor.start
        self.score = nn.Linear(config.core_size, sensor.table.num_embeddings)

    def forward(self, state: Tensor, target: Tensor) -> Tensor:
        """Nats of the true category, [N]."""
        return F.cross_entropy(self.score(state), target.long() - self.start, reduction="none")


class TokensDecoder(nn.Module):
    """A categorical per token: [N, core_size] and [N, *shape] integers → mean nats [N]."""

    start: Tensor

    def __init__(self, sensor: Tokens, config: AgentConfig) -> None:
        super().__init__()
        self.register_buffer("start", sensor.start.clone(), persistent=False)
        self.words = sensor.table.num_embeddings
        self.score = nn.Linear(config.core_size, sensor.size // config.embedding_size * self.words)

    def forward(self, state: Tensor, target: Tensor) -> Tensor:
        """Mean nats of the true tokens, [N]."""
        logits = self.score(state).unflatten(-1, (-1, self.words)).movedim(-1, 1)
        tokens = (target.long() - self.start).flatten(1)
        return F.cross_entropy(logits, tokens, reduction="none").mean(-1)


class NumbersDecoder(nn.Module):
    """A Gaussian of learned width per number: [N, core_size] and [N, *shape] → mean nats [N]."""

    def __init__(self, shape: tuple[int, ...], config: AgentConfig) -> None:
        super().__init__()
        self.mean = nn.Linear(config.core_size, math.prod(shape))
        self.log_width = nn.Parameter(torch.zeros(math.prod(shape)))

    def forward(self, state: Tensor, target: Tensor) -> Tensor:
        """Mean nats of the true numbers, [N]."""
        mean: Tensor = self.mean(state)
        error = (target.float().reshape(mean.shape) - mean) / self.log_width.exp()
        return (0.5 * error.square() + self.log_width + 0.5 * math.log(2 * math.pi)).mean(-1)


class ImageDecoder(nn.Module):
    """A discretised logistic per value (Salimans et al. 2017, arXiv 1701.05517, one component):
    [N, core_size] and [N, H, W, C] in 0 … 255 → mean nats [N]."""

    def __init__(self, shape: tuple[int, ...], config: AgentConfig) -> None:
        super().__init__()
        self.height, self.width, self.channels = shape
        self.rows, self.columns = -(-self.height // 4), -(-self.width // 4)
        self.spread = nn.Linear(config.core_size, 32 * self.rows * self.columns)
        self.convolutions = nn.Sequential(
            nn.ReLU(),
            nn.ConvTranspose2d(32, 32, 4, 2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 2 * self.channels, 4, 2, padding=1),
        )

    def parameters_of_values(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-scale of each value, on a range of [-1, 1]: [N, H, W, C] each."""
        planes = self.spread(state).unflatten(-1, (32, self.rows, self.columns))
        drawn = self.convolutions(planes)[..., : self.height, : self.width].movedim(1, -1)
        mean, log_scale = drawn.chunk(2, dim=-1)
        return mean, log_scale.clamp(min=-7.0)

    def forward(self, state: Tensor, target: Tensor) -> Tensor:
        """Mean nats of the true values, [N]."""
        mean, log_scale = self.parameters_of_values(state)
        return -discretised_logistic(target, mean, log_scale).flatten(1).mean(-1)


def discretised_logistic(values: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log-probability in nats of integers 0 … 255 under a logistic whose mass is binned.

    The outermost bins take all that lies beyond them, so that the 256 probabilities add up to 1.

    Args:
        values: integers in 0 … 255, any shape.
        mean: of the logistic, where 0 … 255 is laid over -1 … 1; same shape.
        log_scale: likewise.
    """
    middle = values.to(mean.dtype) / 127.5 - 1.0
    inverse = torch.exp(-log_scale)
    upper = (middle + 1 / 255 - mean) * inverse
    lower = (middle - 1 / 255 - mean) * inverse
    # σ(u) - σ(l) = σ(u) · σ(-l) · (1 - exp(l - u)): nothing cancels, so that a value far out in a
    # tail still draws the prediction towards itself.
    share = torch.log(-torch.expm1(-2 / 255 * inverse))
    inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + share
    return torch.where(
        values == 0, F.logsigmoid(upper), torch.where(values == 255, F.logsigmoid(-lower), inside)
    )


class SimCoreHead(nn.Module):
    """Generates every part of an observation from a state of the simulator, or from the belief.

    But for the instruction: it is the same throughout an episode, so that to predict it is to copy
    it, and it says nothing of the world.

    Args:
        space: of a single environment's observations.
        sensors: the agent's; their embeddings name the categories (they stay the agent's own).
        config: sizes and switches.
    """

    def __init__(self, space: gymnasium.Space[Any], sensors: Sensors, config: AgentConfig) -> None:
        super().__init__()
        self.balance = config.prediction.balance
        leaves = leaf_spaces(space)
        self.names = tuple(name for name in leaves if name not in sensors.instructions)
        self.decoders = nn.ModuleList(
            _decoder(sensors.leaf(name), leaves[name], config) for name in self.names
        )

    def decoder(self, name: str) -> nn.Module | None:
        """What generates that part of an observation, if anything does."""
        return self.decoders[self.names.index(name)] if name in self.names else None

    def forward(
        self,
        state: Tensor,
        target: Observation,
        sensors: Sensors,
        weights: dict[str, Tensor],
        location: Tensor | None = None,
    ) -> Tensor:
        """Sum over parts of their mean nats, [N].

        Args:
            state: [N, core_size].
            target: {name: [N, *leaf shape]}: what was really seen.
            sensors: the agent's.
            weights: of cells by kind, for each part that is made of cells (`cell_weights`).
            location: [N, 2]: coordinates through which it was seen, with attention.
        """
        total = state.new_zeros(len(state))
        for name, decoder in zip(self.names, self.decoders, strict=True):
            if isinstance(decoder, CellsDecoder):
                cells = cast(Cells, sensors.leaf(name))
                where = (location,) if isinstance(decoder, GlimpseDecoder) else ()
                total = total + decoder(state, target[name], cells, weights[name], *where)
            else:
                total = total + decoder(state, target[name])
        return total

    def cell_weights(
        self,
        observation: Observation,
        absent: Tensor | None = None,
        *,
        total: Callable[[Tensor], Tensor] = lambda counts: counts,
    ) -> dict[str, Tensor]:
        """Weights of cells by kind, from how often each kind is in sight in an unroll (where
        `absent`, [T + 1, B] bool, is not set). For `total` see `Prediction.forward`."""
        present = {
            name: observation[name] if absent is None else observation[name][~absent]
            for name in self.names
        }
        return {
            name: kind_weights(total(decoder.kind_counts(present[name])), self.balance)
            for name, decoder in zip(self.names, self.decoders, strict=True)
            if isinstance(decoder, CellsDecoder)
        }


def _decoder(sensor: nn.Module, space: gymnasium.Space[Any], config: AgentConfig) -> nn.Module:
    shape = space.shape or ()
    if not isinstance(sensor, LeafSensor | ImageGlimpse):
        # What a sensor of the user's own reads is generated as if one of ours had read it. There
        # are no embeddings to be tied to.
        usual = leaf_sensor(space, config)
        if isinstance(usual, Cells):
            return CellsDecoder(usual, shape, config, tied=False)
        return _decoder(usual, space, config)
    if isinstance(sensor, CellsGlimpse) and not config.prediction.privileged:
        return GlimpseDecoder(sensor, config)
    if isinstance(sensor, ImageGlimpse):
        return ImageDecoder(shape if config.prediction.privileged else sensor.shape, config)
    if isinstance(sensor, Cells):
        return CellsDecoder(sensor, shape, config)
    if isinstance(sensor, Image):
        return ImageDecoder(shape, config)
    if isinstance(sensor, Category):
        return CategoryDecoder(sensor, config)
    if isinstance(sensor, Tokens):
        return TokensDecoder(sensor, config)
    assert isinstance(sensor, Numbers)
    assert isinstance(space, spaces.Box | spaces.MultiBinary)
    return NumbersDecoder(shape, config)
