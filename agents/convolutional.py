"""Convolutional networks that see a whole image at once: what agents with a glimpse are held
against.

They are sensors of the kind a user brings along (`agents.plugins.own_sensor`):

    groundling train any --env.id Groundling/ClutteredDigits-v0 \
        --agent.sensors observation groundling.agents.convolutional:OneConvolution
"""

from itertools import pairwise
from typing import cast

import gymnasium
import torch
from gymnasium import spaces
from torch import Tensor, nn

from groundling.agents.config import AgentConfig
from groundling.agents.layers import rectified
from groundling.envs.errors import UserError


class Convolutional(nn.Module):
    """An image, [..., H, W, C] with values up to 255 → [..., size]: layers, then a dense one.

    Args:
        space: of the image.
        config: `sensor_size` is the size of the dense layer.
        layers: from [N, C, H, W] in [0, 1] to feature maps; their weights start anew.
        smallest: height and width from which on anything is left of an image.

    Raises:
        UserError: the space is no image, or one that is too small.
    """

    def __init__(
        self,
        space: gymnasium.Space[object],
        config: AgentConfig,
        *layers: nn.Module,
        smallest: int,
    ) -> None:
        super().__init__()
        shape = space.shape or ()
        if not isinstance(space, spaces.Box) or len(shape) != 3 or min(shape[:2]) < smallest:
            raise UserError(
                f"{type(self).__name__} reads images; expected a Box [H, W, C] of at least "
                f"{smallest} × {smallest}, not {type(space).__name__} {shape}"
            )
        self.layers = nn.Sequential(*layers, nn.Flatten())
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(cast(Tensor, layer.bias))
        height, width, channels = shape
        with torch.no_grad():
            (left,) = self.layers(torch.zeros(1, channels, height, width))
        self.dense = rectified(len(left), config.sensor_size)
        self.size = config.sensor_size

    def forward(self, image: Tensor) -> Tensor:
        """[..., H, W, C] in [0, 255] → [..., size], whatever the leading dimensions."""
        pixels = image.reshape(-1, *image.shape[-3:]).movedim(-1, -3).float() / 255.0
        features = cast(Tensor, self.dense(self.layers(pixels)))
        return features.view(*image.shape[:-3], self.size)


class OneConvolution(Convolutional):
    """The baseline of Mnih et al. 2014 (arXiv 1406.6247, section 4.1): one layer of 8 filters of
    10 × 10 with stride 5, and a dense one."""

    def __init__(self, space: spaces.Box, config: AgentConfig) -> None:
        super().__init__(
            space,
            config,
            nn.Conv2d(_channels(space), 8, 10, stride=5),
            nn.ReLU(),
            smallest=10,
        )


class PooledConvolutions(Convolutional):
    """Three layers of 3 × 3 filters (16, 32, 64), each halved by maxima, and a dense one.

    Maxima let a pattern count wherever it lies, which a digit anywhere among clutter takes.
    """

    def __init__(self, space: spaces.Box, config: AgentConfig) -> None:
        filters = (_channels(space), 16, 32, 64)
        layers = [
            layer
            for before, after in pairwise(filters)
            for layer in (nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        ]
        super().__init__(space, config, *layers, smallest=8)


def _channels(space: spaces.Box) -> int:
    """Of an image; of anything else, which is refused, one."""
    return space.shape[-1] if space.shape else 1
