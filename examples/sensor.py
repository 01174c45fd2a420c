"""A sensor of your own: how many cells of the view hold each kind of thing, but not where.

In this directory:

    groundling train demo --agent.sensors view sensor:Counts --run-dir runs/counts
"""

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from groundling.agents.config import AgentConfig


class Counts(nn.Module):
    """[..., V, V, C] integers, the first channel of which is the kind → [..., size]."""

    def __init__(self, space: spaces.Box, config: AgentConfig) -> None:
        super().__init__()
        self.kinds = int(space.high[..., 0].max()) + 1
        self.size = config.sensor_size
        self.layer = nn.Linear(self.kinds, self.size)

    def forward(self, view: Tensor) -> Tensor:
        """The leading dimensions, [T, B] or [B], are free."""
        counts = F.one_hot(view[..., 0].long(), self.kinds).sum((-3, -2))
        return torch.relu(self.layer(counts.float()))
