"""Where an agent may look: the distribution its location policy draws from, and fixed paths.

A location is a decision like an action. In coordinates (row, column) the view reaches from -1 to 1
on both axes.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from groundling.agents.actions import (
    entropy_of_categories,
    log_probs_of_categories,
    sample_categories,
)
from groundling.agents.layers import Constant

GRID = 3
"""Rows and columns of the places that the fixed path of a fovea visits."""


class Locations(ABC):
    """All places to look at. The leading dimensions of all arguments are free."""

    outputs: int
    """Numbers the location policy gives for each row."""
    path: Constant
    """[n, *location shape]: the fixed path, which begins at the centre and begins anew after it."""

    @property
    def centre(self) -> Tensor:
        """[*location shape], on the CPU: where one looks first."""
        return self.path.on("cpu")[0]

    @abstractmethod
    def coordinates(self, locations: Tensor) -> Tensor:
        """[..., *location shape] → [..., 2] float32."""

    @abstractmethod
    def nearest(self, coordinates: Tensor) -> Tensor:
        """[..., 2] → [..., *location shape]: the location that looks there, or nearest to it."""

    @abstractmethod
    def sample(self, policy: Tensor, generator: torch.Generator) -> Tensor:
        """Draws locations, [..., *location shape], from a policy, [..., outputs]."""

    @abstractmethod
    def log_probs(self, policy: Tensor, locations: Tensor) -> Tensor:
        """log π(l), [...]; of a fovea a density."""

    @abstractmethod
    def entropy(self, policy: Tensor) -> Tensor:
        """Relative to looking anywhere (at all tiles alike; for a fovea, normally distributed
        around the centre), in nats up to a constant, [...]."""

    @abstractmethod
    def uniform(self, batch: int, generator: torch.Generator) -> Tensor:
        """Draws locations from the whole view alike, [batch, *location shape]."""

    def next_on_path(self, locations: Tensor) -> Tensor:
        """[B, *location shape]: of each location the one that follows on the fixed path."""
        path = self.path.on(locations.device)
        places = self.coordinates(path)
        here = torch.cdist(self.coordinates(locations), places).argmin(-1)
        return path[(here + 1) % len(path)]


class Tiles(Locations):
    """One of the tiles that the view is cut into, [...] int64, row by row from the upper left.

    Args:
        height: of the view.
        width: of the view.
        size: of a tile; those at the lower and right border may reach beyond it.
    """

    def __init__(self, height: int, width: int, size: int) -> None:
        self.rows, self.columns = -(-height // size), -(-width // size)
        self.outputs = self.rows * self.columns
        self.step = Constant(torch.tensor([2.0 * size / height, 2.0 * size / width]))
        middle = self.rows // 2 * self.columns + self.columns // 2
        self.path = Constant(torch.arange(self.outputs).roll(-middle))

    def coordinates(self, locations: Tensor) -> Tensor:
        """Of the tile's centre."""
        place = torch.stack([locations // self.columns, locations % self.columns], -1)
        return (place + 0.5) * self.step.on(locations.device) - 1.0

    def nearest(self, coordinates: Tensor) -> Tensor:
        """The tile that holds the place."""
        place = ((coordinates + 1.0) / self.step.on(coordinates.device)).floor().long()
        row, column = place.unbind(-1)
        row, column = row.clamp(0, self.rows - 1), column.clamp(0, self.columns - 1)
        return row * self.columns + column

    def sample(self, policy: Tensor, generator: torch.Generator) -> Tensor:
        """Of a softmax over tiles."""
        return sample_categories(policy, generator)[0]

    def log_probs(self, policy: Tensor, locations: Tensor) -> Tensor:
        """See `Locations.log_probs`."""
        return log_probs_of_categories(policy, locations)

    def entropy(self, policy: Tensor) -> Tensor:
        """See `Locations.entropy`."""
        return entropy_of_categories(policy)

    def uniform(self, batch: int, generator: torch.Generator) -> Tensor:
        """See `Locations.uniform`."""
        return torch.randint(self.outputs, (batch,), generator=generator, device=generator.device)


class Points(Locations):
    """A place on the continuous view, [..., 2] float32, drawn from a Gaussian of fixed width.

    The sample is stored and scored as it was drawn; only where it is turned into coordinates, to be
    looked at, it is clamped to the view (Mnih et al. 2014, section 3.1).

    Args:
        std: the Gaussian's, in coordinates.
    """

    outputs = 2

    def __init__(self, std: float) -> None:
        self.std = std
        thirds = (torch.arange(GRID) * 2.0 + 1.0) / GRID - 1.0
        places = torch.cartesian_prod(thirds, thirds)
        # From the middle once around it: no two places that follow each other lie far apart.
        self.path = Constant(places[torch.tensor([4, 1, 2, 5, 8, 7, 6, 3, 0])])

    def coordinates(self, locations: Tensor) -> Tensor:
        """Clamped to the view."""
        return locations.clamp(-1.0, 1.0)

    def nearest(self, coordinates: Tensor) -> Tensor:
        """The place itself."""
        return coordinates

    def sample(self, policy: Tensor, generator: torch.Generator) -> Tensor:
        """See `Locations.sample`."""
        noise = torch.randn(policy.shape, generator=generator, device=policy.device)
        return (torch.tanh(policy) + self.std * noise).detach()

    def log_probs(self, policy: Tensor, locations: Tensor) -> Tensor:
        """See `Locations.log_probs`; both axes together."""
        error = (locations - torch.tanh(policy)) / self.std
        constant = math.log(self.std) + 0.5 * math.log(2.0 * math.pi)
        return (-0.5 * error.square() - constant).sum(-1)

    def entropy(self, policy: Tensor) -> Tensor:
        """See `Locations.entropy`: minus the divergence from a standard normal.

        For as long as nothing is earned by looking, the gradient of REINFORCE is noise, which Adam
        makes as large as any other: it carried the Gaussian into a corner, there to stay.
        """
        return -torch.tanh(policy).square().sum(-1) / 2.0

    def uniform(self, batch: int, generator: torch.Generator) -> Tensor:
        """See `Locations.uniform`."""
        drawn = torch.rand(batch, 2, generator=generator, device=generator.device)
        return 2.0 * drawn - 1.0
