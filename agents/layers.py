"""Layers that start with signals of the right size.

torch's own initial weights shrink what passes through a rectified layer to less than half. Three
such layers lie between a cell and the core: with them what an agent saw moved its fresh core by
0.08 (root mean square, at the gates), with these by 0.87, and the first million frames went into
making up the difference.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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


class Constant:
    """A tensor that never changes, on whichever device it is wanted: it is sent there once, where a
    copy at every call would have a GPU wait for the processor.

    Args:
        tensor: on the CPU.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._copies: dict[torch.device, Tensor] = {}

    def on(self, device: torch.device | str) -> Tensor:
        """The tensor there."""
        device = torch.device(device)
        if device not in self._copies:
            copy = self._tensor.to(device)
            self._copies[device] = self._copies.setdefault(copy.device, copy)
        return self._copies[device]


class _Product(torch.autograd.Function):
    """See `product`."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, unread: bool) -> Tensor:
        ctx.save_for_backward(features, weight)
        shape = (*features.shape[:-1], len(weight))
        if unread:
            return features.new_full((), math.nan).expand(shape)
        return _multiplied(features, weight, features.new_empty(shape))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        # This way round a product of many rows is an eighth faster.
        of_weight = (features.flatten(0, -2).t() @ grad.flatten(0, -2)).t()
        of_features = grad @ weight if ctx.needs_input_grad[0] else None
        return of_features, of_weight, None


def product(
    features: Tensor, weight: Tensor, *, unread: bool = False, out: Tensor | None = None
) -> Tensor:
    """A linear layer without a bias.

    Args:
        features: [..., F].
        weight: [O, F].
        unread: what comes of the outputs is known already: they are not computed (NaN, whoever
            reads them), but gradients flow back through them as ever.
        out: [..., O]: where the outputs go; without gradients only.

    Returns:
        [..., O].
    """
    if out is not None:
        assert not torch.is_grad_enabled(), "with gradients outputs go nowhere else"
        return _multiplied(features, weight, out)
    outputs: Tensor = _Product.apply(features, weight, unread)  # type: ignore[no-untyped-call]
    return outputs


def _multiplied(features: Tensor, weight: Tensor, out: Tensor) -> Tensor:
    torch.mm(features.flatten(0, -2), weight.t(), out=out.view(-1, len(weight)))
    return out


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
