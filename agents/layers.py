"""Layers that start with signals of the right size.

torch's own initial weights shrink what passes through a rectified layer to less than half. Three
such layers lie between a cell and the core: with them what an agent saw moved its fresh core by
0.08 (root mean square, at the gates), with these by 0.87, and the first million frames went into
making up the difference.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

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


class Derived(nn.Module):
    """What is made of weights: anew each time, but once while they are said not to change
    (`unchanging`). An agent that acts reads them at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.keeps = False
        self._made: Tensor | None = None

    def forward(self, make: Callable[[], Tensor]) -> Tensor:
        """What `make` makes, or has made before."""
        if not self.keeps or torch.is_grad_enabled():
            return make()
        if self._made is None:
            self._made = make()
        return self._made

    def keep(self, keeps: bool) -> None:
        """From now on, or no longer; nothing is kept yet, or any more."""
        self.keeps, self._made = keeps, None


@contextmanager
def unchanging(module: nn.Module) -> Iterator[None]:
    """While inside, the weights of a module do not change. (That they did could not be noticed:
    torch's fused optimisers leave no trace in a tensor's version.)"""
    derived = [one for one in module.modules() if isinstance(one, Derived)]
    for one in derived:
        one.keep(True)
    try:
        yield
    finally:
        for one in derived:
            one.keep(False)
