"""Decoders that generate cells: a categorical per cell and channel (see `agents.simcore`)."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from groundling.agents.cells_nats import cells_nats
from groundling.agents.config import AgentConfig
from groundling.agents.glimpse import OUTSIDE, CellsGlimpse, Unbinding
from groundling.agents.layers import linear, rectified
from groundling.agents.sensors import Cells


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
        self.categories = categories
        self.folds = sum(categories) <= channels * self.size
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
        return [found.mT for found in self._log_probs(state, sensor, kinds, location)]

    def _log_probs(
        self, state: Tensor, sensor: Cells, kinds: Tensor | None, location: Tensor | None
    ) -> list[Tensor]:
        """As `log_probs`, but [N, categories, cells]: a sum over few categories that lie side by
        side takes several times as long."""
        names = self._names(sensor)
        hidden = self.hidden(state)
        generated = self._generated(hidden, location).unbind(-2)
        first, *others = (
            name @ part.mT + base.unsqueeze(-1)
            for name, part, base in zip(names, generated, self.biases, strict=True)
        )
        kinds = first.argmax(1) if kinds is None else kinds
        known = kinds @ names[0] if kinds.is_floating_point() else F.embedding(kinds, names[0])
        scores = [first]
        for own, link, name in zip(others, self.links, names[1:], strict=True):
            matrix = cast(Tensor, link(hidden)).unflatten(-1, (self.size, self.size))
            scores.append(own + name @ torch.bmm(known, matrix).mT)
        return [torch.log_softmax(score, 1) for score in scores]

    def _folded(self, sensor: Cells) -> tuple[Tensor, Tensor]:
        """Weight and bias that make all scores of a hidden layer, as `cells_nats` wants them.

        What generates and what names are multiplied with each other first: there are fewer
        categories than numbers in their embeddings.
        """
        names = self._names(sensor)
        above = [name[1:] - name[0] for name in names]
        generate = cast(nn.Linear, self.generate)
        parts = (self.cells, self.channels, self.size)
        generators = generate.weight.unflatten(0, parts).unbind(1)
        constants = generate.bias.unflatten(0, parts).unbind(1)
        weights, biases = [], []
        for name, weight, bias, base in zip(above, generators, constants, self.biases, strict=True):
            weights.append(torch.einsum("ke,xei->kxi", name, weight))
            biases.append(name @ bias.t() + (base[1:] - base[0]).unsqueeze(-1))
        for name, link in zip(above[1:], self.links, strict=True):
            # For each state a table of what speaks for which category, given each kind.
            weight = cast(Tensor, link.weight).unflatten(0, (self.size, self.size))
            bias = cast(Tensor, link.bias).view(self.size, self.size)
            weights.append(torch.einsum("ki,lj,ijh->lkh", names[0], name, weight))
            biases.append(name @ bias.t() @ names[0].t())
        return (
            torch.cat([weight.flatten(0, 1) for weight in weights]),
            torch.cat([bias.flatten() for bias in biases]),
        )

    def _names(self, sensor: Cells) -> list[Tensor]:
        """For each channel what names its categories, [categories, embedding_size]: embeddings, so
        small that a score is as large as what it is the product of."""
        tables = sensor.embeddings if self.tables is None else self.tables
        names = [cast(Tensor, table.weight) / math.sqrt(self.size) for table in tables]
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
        if self.folds:
            layer, cells = cast(nn.Linear, self.hidden[0]), target.flatten(1, 2)
            hidden, scores = (layer.weight, layer.bias), self._folded(sensor)
            return cells_nats(state, hidden, scores, cells, weights, self.categories)
        # Each channel by itself: what indexes step by step takes longer.
        channels = target.flatten(1, 2).movedim(-1, 0).contiguous().long()
        kinds = channels[0]
        nats = torch.zeros_like(kinds, dtype=state.dtype)
        predicted = self._log_probs(state, sensor, kinds, None)
        for channel, log_probs in zip(channels, predicted, strict=True):
            nats = nats - log_probs.gather(1, channel.unsqueeze(1)).squeeze(1)
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
        self.folds = False  # A place's codes stand between what generates and what names.
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
        predicted = self._log_probs(state, sensor, shares[0], location)
        for share, log_probs in zip(shares, predicted, strict=True):
            nats = nats - (share.mT * log_probs).sum(1)
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
