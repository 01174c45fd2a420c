"""Layers that start with signals of the right size.

torch's own initial weights shrink what passes through a rectified layer to less than half. Three
such layers lie between a cell and the core: with them what an agent saw moved its fresh core by
0.08 (root mean square, at the gates), with these by 0.87, and the first million frames went into
making up the difference.
"""

import math

from torch import nn

RECTIFIED = math.sqrt(2.0)
"""The gain that makes up for the half of a signal that a ReLU cuts off (He et al. 2015)."""


def linear(inputs: int, outputs: int, *, gain: float = 1.0) -> nn.Linear:
    """A linear layer, no bias yet, whose outputs are `gain` times as large as its inputs.

    "Large" is the root mean square of a number.
    """
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=gain / math.sqrt(inputs))
    nn.init.zeros_(layer.bias)
    return layer


def rectified(inputs: int, outputs: int) -> nn.Sequential:
    """A linear layer and a ReLU, whose outputs are as large as its inputs."""
    return nn.Sequential(linear(inputs, outputs, gain=RECTIFIED), nn.ReLU())
