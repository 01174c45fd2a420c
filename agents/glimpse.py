"""Glimpses: a few numbers of fixed amount, out of a grid or an image of any size.

Where a glimpse is centred is told in coordinates (row, column): (-1, -1) is the upper left corner
of the grid, (1, 1) the lower right one. Square patches lie at one centre, each twice as wide as the
one before, all averaged down to the width of the first (Mnih et al. 2014, arXiv 1406.6247, section
3.1): sharp where one looks, coarse around. What lies beyond the border is nothing, zeros.

What of a view a glimpse holds depends on no weights. It is cut out once, when a row is first read;
nothing else of the view goes any further.
"""

from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from groundling.agents.config import AgentConfig
from groundling.agents.layers import rectified
from groundling.agents.sensors import Cells

OUTSIDE = -1
"""In a glimpse of cells: this place lies beyond the border of the view."""


class Fovea:
    """Cuts glimpses out of grids [..., H, W, C].

    Args:
        height: H.
        width: W.
        size: places along the side of each patch of a glimpse.
        scales: number of patches; the k-th reads (size · 2^k)² places of the grid.
    """

    def __init__(self, height: int, width: int, size: int, scales: int) -> None:
        self.height, self.width, self.size, self.scales = height, width, size, scales
        blocks = [2**scale for scale in range(scales)]
        self.areas = [block**2 for block in blocks]
        """Places of the grid in one place of each patch."""
        # Of every place read its scale, and its row and column counted from its patch's corner. The
        # places that become one by averaging lie side by side.
        self.scale = torch.cat(
            [torch.full((size**2 * area,), k) for k, area in enumerate(self.areas)]
        )
        self.within = torch.cat([_places(size, block) for block in blocks])

    @property
    def read(self) -> int:
        """Places of the grid that a glimpse reads, overlaps counted twice."""
        return len(self.scale)

    def corners(self, coordinates: Tensor) -> Tensor:
        """Rows and columns of the patches' first places: [..., 2] → [..., scales, 2] int64."""
        sides = coordinates.new_tensor([self.height, self.width])
        centre = (coordinates + 1.0) / 2.0 * sides
        reach = coordinates.new_tensor([self.size * 2**k / 2.0 for k in range(self.scales)])
        return (centre.unsqueeze(-2) - reach.unsqueeze(-1) + 0.5).floor().long()

    def cells(self, grid: Tensor, coordinates: Tensor) -> Tensor:
        """Reads every place, without averaging.

        Args:
            grid: [..., H, W, C] integers up to 255.
            coordinates: [..., 2].

        Returns:
            [..., read, C] int16, OUTSIDE beyond the border.
        """
        leading = coordinates.shape[:-1]
        grid, coordinates = grid.reshape(-1, *grid.shape[-3:]), coordinates.reshape(-1, 2)
        scale, within = self.scale.to(grid.device), self.within.to(grid.device)
        row, column = (self.corners(coordinates)[:, scale] + within).unbind(-1)
        inside = (row >= 0) & (row < self.height) & (column >= 0) & (column < self.width)
        place = (row * self.width + column).masked_fill(~inside, 0)
        which = torch.arange(len(grid), device=grid.device).unsqueeze(-1)
        found = grid.flatten(1, 2)[which, place].short()
        found = found.masked_fill(~inside.unsqueeze(-1), OUTSIDE)
        return found.view(*leading, *found.shape[1:])

    def pixels(self, image: Tensor, coordinates: Tensor) -> Tensor:
        """Averages what each pixel of a patch covers.

        Args:
            image: [..., H, W, C] uint8.
            coordinates: [..., 2].

        Returns:
            [..., size, size, scales · C] uint8, the finest scale first; rounded.
        """
        leading, channels = coordinates.shape[:-1], image.shape[-1]
        image, coordinates = image.reshape(-1, *image.shape[-3:]), coordinates.reshape(-1, 2)
        # So wide a frame of nothing that no patch reaches over its edge: what is then copied are
        # whole windows, many times faster than pixel by pixel.
        frame = self.size * 2 ** (self.scales - 1)
        framed = F.pad(image, (0, 0, frame, frame, frame, frame))
        which = torch.arange(len(image), device=image.device)
        patches = []
        for scale, corner in enumerate(self.corners(coordinates).unbind(-2)):
            width = self.size * 2**scale
            row, column = (corner + frame).unbind(-1)
            patch = framed.unfold(1, width, 1).unfold(2, width, 1)[which, row, column].float()
            # A product with a matrix of shares: torch's own pooling takes five times as long.
            shares = torch.eye(self.size, device=image.device).repeat_interleave(2**scale, 0)
            shares = shares / 2**scale
            patches.append(((patch @ shares).mT @ shares).mT)  # [N, C, size, size]
        joined = torch.cat(patches, 1).movedim(1, -1).round().to(torch.uint8)
        return joined.view(*leading, self.size, self.size, self.scales * channels)

    def sensed(self, coordinates: Tensor) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which places of the grid the finest patch shows: [B, 2] → [B, H, W] bool."""
        corner = self.corners(coordinates.cpu())[:, 0]
        rows, columns = torch.arange(self.height), torch.arange(self.width)
        down, across = corner[:, :1], corner[:, 1:]
        in_rows = (rows >= down) & (rows < down + self.size)
        in_columns = (columns >= across) & (columns < across + self.size)
        return (in_rows.unsqueeze(-1) & in_columns.unsqueeze(-2)).numpy()


def _places(size: int, block: int) -> Tensor:
    """Rows and columns of a patch of size · block places a side, block by block: [places, 2]."""
    steps = torch.arange(size).unsqueeze(1) * block + torch.arange(block)  # [size, block]
    row = steps[:, None, :, None].expand(size, size, block, block)
    column = steps[None, :, None, :].expand(size, size, block, block)
    return torch.stack([row.flatten(), column.flatten()], dim=-1)


class CellsGlimpse(Cells):
    """A glimpse of cells, [..., read, C] int16 → [..., size].

    A coarse place is the average of its cells' embeddings; nothing beyond the border has any.

    Args:
        space: of the whole view.
        fovea: cuts out glimpses.
        config: sizes.
        instructed: size of the instruction's features; 0 if there is none.
    """

    def __init__(
        self, space: spaces.Box, fovea: Fovea, config: AgentConfig, instructed: int = 0
    ) -> None:
        # Never as large as the view, which may be large beyond what a perceptron could read.
        self.places = fovea.scales * fovea.size**2
        super().__init__(space, config, instructed, self.places)
        self.fovea = fovea

    def averaged(self, codes: Tensor, table: Tensor) -> Tensor:
        """Rows of a table, [n, D], averaged as the fovea does: [N, read] → [N, places, D]."""
        averages = []
        sizes = [self.fovea.size**2 * area for area in self.fovea.areas]
        for part, area in zip(codes.split(sizes, dim=-1), self.fovea.areas, strict=True):
            bags = part.reshape(-1, area)
            share = (bags != OUTSIDE).to(table.dtype) / area
            summed = F.embedding_bag(
                bags.clamp(min=0).long(), table, mode="sum", per_sample_weights=share
            )
            averages.append(summed.unflatten(0, (len(codes), -1)))
        return torch.cat(averages, dim=1)

    def embed(self, cells: Tensor) -> Tensor:
        """[..., read, C] → [..., scales · size, size, C · embedding_size]."""
        channels = cells.reshape(-1, *cells.shape[-2:]).unbind(-1)
        embedded = [
            self.averaged(channel, cast(Tensor, table.weight))
            for channel, table in zip(channels, self.embeddings, strict=True)
        ]
        joined = torch.cat(embedded, dim=-1)
        return joined.view(*cells.shape[:-2], -1, self.fovea.size, joined.shape[-1])


class ImageGlimpse(nn.Module):
    """A glimpse of an image, [..., size, size, scales · C] in [0, 255] → [..., sensor_size]."""

    def __init__(self, channels: int, fovea: Fovea, config: AgentConfig) -> None:
        super().__init__()
        self.shape = (fovea.size, fovea.size, fovea.scales * channels)
        self.perceptron = rectified(int(np.prod(self.shape)), config.sensor_size)
        self.size = config.sensor_size

    def forward(self, glimpse: Tensor) -> Tensor:
        """[..., size, size, scales · C] → [..., sensor_size]."""
        return cast(Tensor, self.perceptron(glimpse.flatten(-3).float() / 255.0))
