"""Decoders: each generates one part of an observation by a likelihood that suits its space.

Each gives a negative log-likelihood in nats per element, so that parts of different sizes weigh
alike. Those of cells are in `agents.cells_decoder`.
"""

import math
from typing import Any

import gymnasium
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from groundling.agents.cells_decoder import CellsDecoder, GlimpseDecoder
from groundling.agents.config import AgentConfig
from groundling.agents.glimpse import CellsGlimpse, ImageGlimpse
from groundling.agents.sensors import (
    Category,
    Cells,
    Image,
    LeafSensor,
    Numbers,
    Tokens,
    leaf_sensor,
)


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


def make_decoder(sensor: nn.Module, space: gymnasium.Space[Any], config: AgentConfig) -> nn.Module:
    """The decoder of a part of an observation, which generates what its sensor reads."""
    shape = space.shape or ()
    if not isinstance(sensor, LeafSensor | ImageGlimpse):
        # What a sensor of the user's own reads is generated as if one of ours had read it. There
        # are no embeddings to be tied to.
        usual = leaf_sensor(space, config)
        if isinstance(usual, Cells):
            return CellsDecoder(usual, shape, config, tied=False)
        return make_decoder(usual, space, config)
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
