"""Glimpses: a few numbers of fixed amount, out of a grid or an image of any size.

Where a glimpse is centred is told in coordinates (row, column): (-1, -1) is the upper left corner
of the grid, (1, 1) the lower right one. Square patches lie at one centre, each twice as wide as the
one before, all averaged down to the width of the first (Mnih et al. 2014, arXiv 1406.6247, section
3.1): sharp where one looks, coarse around. What lies beyond the border is nothing, zeros.

What of a view a glimpse holds depends on no weights. It is cut out once, when a row is first read;
nothing else of the view goes any further.
"""

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from groundling.agents.config import AgentConfig
from groundling.agents.layers import RECTIFIED, Constant, linear, rectified
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
        blocks: list[int] = [2**scale for scale in range(scales)]
        self.areas = [block**2 for block in blocks]
        """Places of the grid in one place of each patch."""
        # Of every place read its scale, and its row and column counted from its patch's corner. The
        # places that become one by averaging lie side by side.
        scale = [torch.full((size**2 * area,), k) for k, area in enumerate(self.areas)]
        self.scale = Constant(torch.cat(scale))
        self.within = Constant(torch.cat([_places(size, block) for block in blocks]))
        self.sides = Constant(torch.tensor([height, width]))
        self.reach = Constant(torch.tensor([[size * block / 2.0] for block in blocks]))

    @property
    def places(self) -> int:
        """Places of a glimpse."""
        return self.scales * self.size**2

    @property
    def read(self) -> int:
        """Places of the grid that a glimpse reads, overlaps counted twice."""
        return self.size**2 * sum(self.areas)

    def columns(self, categories: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Columns for what a glimpse of cells holds: of each place the categories of all channels,
        one channel's after another's.

        Args:
            categories: how many each channel has.

        Returns:
            For every number read the column of its category 0, [read, C] int64, and how much of its
            place it takes, [read, C] float32.
        """
        areas = torch.tensor(self.areas).repeat_interleave(self.size**2)  # [places]
        place = torch.arange(self.places).repeat_interleave(areas).unsqueeze(-1)
        sizes = torch.tensor(categories)
        begins = place * sizes.sum() + sizes.cumsum(0) - sizes
        return begins, (1.0 / areas[place]).expand(begins.shape)

    def corners(self, coordinates: Tensor) -> Tensor:
        """Rows and columns of the patches' first places: [..., 2] → [..., scales, 2] int64."""
        sides, reach = (one.on(coordinates.device) for one in (self.sides, self.reach))
        centre = (coordinates + 1.0) / 2.0 * sides
        return (centre.unsqueeze(-2) - reach + 0.5).floor().long()

    def middles(self, coordinates: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and columns in the middle of the patches' places, those of the k-th scale counted on
        after those of the finer ones: [..., 2] → twice [..., scales, size] int64. (Where they lie
        beyond the border: the border's.)"""
        scale = torch.arange(self.scales, device=coordinates.device).unsqueeze(-1)
        block = 2**scale
        steps = torch.arange(self.size, device=coordinates.device) * block + block // 2
        row, column = (self.corners(coordinates).unsqueeze(-1) + steps.unsqueeze(-2)).unbind(-2)
        return (
            row.clamp(0, self.height - 1) + scale * self.height,
            column.clamp(0, self.width - 1) + scale * self.width,
        )

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
        scale, within = self.scale.on(grid.device), self.within.on(grid.device)
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
        embedded = space.shape[-1] * config.embedding_size
        super().__init__(space, config, instructed, Binding(fovea, embedded, config.sensor_size))
        self.fovea = fovea
        begins, taken = fovea.columns(self.categories)
        self.register_buffer("begins", begins, persistent=False)
        self.register_buffer("taken", taken, persistent=False)

    def shares(self, cells: Tensor) -> Tensor:
        """How much of each place each category takes: [..., read, C] → [..., places, categories].

        The categories of all channels, one channel's after another's. What lies beyond the border
        is of none.
        """
        leading, number = cells.shape[:-2], sum(self.categories)
        column = cast(Tensor, self.begins) + cells.clamp(min=0)
        taken = cast(Tensor, self.taken) * (cells != OUTSIDE)
        shares: Tensor = taken.new_zeros(*leading, self.fovea.places * number)
        shares.scatter_add_(-1, column.flatten(-2), taken.flatten(-2))
        return shares.view(*leading, self.fovea.places, number)

    def embed(self, cells: Tensor) -> Tensor:
        """[..., read, C] → [..., scales · size, size, C · embedding_size]."""
        tables = torch.block_diag(*(cast(nn.Embedding, table).weight for table in self.embeddings))
        embedded: Tensor = self.shares(cells) @ tables
        return embedded.view(*cells.shape[:-2], -1, self.fovea.size, embedded.shape[-1])

    def forward(
        self, cells: Tensor, instruction: Tensor | None = None, location: Tensor | None = None
    ) -> Tensor:
        """See `Cells.forward`; cells: [..., read, C] int16."""
        return cast(Tensor, self.perceptron(self.gated(cells, instruction), location))


class Binding(nn.Module):
    """Binds what each place of a glimpse holds, e, to where in the view it lies: by a product.

    h = relu(Σ over places (W e) ⊙ R[row] ⊙ C[column] + b): a layer over all of the view, its
    weights in three factors, of which no more is read than the glimpse covers. (What times where:
    Larochelle and Hinton 2010, a third-order Boltzmann machine of glimpses.) If what and where are
    only added to each other, the same thing looks different from everywhere.

    Args:
        fovea: cuts out glimpses.
        inputs: size of e.
        size: of h.
    """

    def __init__(self, fovea: Fovea, inputs: int, size: int) -> None:
        super().__init__()
        self.fovea = fovea
        self.what = linear(inputs, size, gain=RECTIFIED / math.sqrt(fovea.scales) / fovea.size)
        self.rows, self.columns = _codes(fovea, size)

    def forward(self, embedded: Tensor, location: Tensor | None) -> Tensor:
        """Reads a glimpse.

        Args:
            embedded: [..., scales · size, size, inputs]; zeros beyond the border.
            location: [..., 2]: coordinates; None to leave them unsaid, as if all lay in the centre.

        Returns:
            [..., size of h].
        """
        leading, fovea = embedded.shape[:-3], self.fovea
        if location is None:
            location = embedded.new_zeros(*leading, 2)
        row, column = fovea.middles(location.reshape(-1, 2))  # [N, scales, size] each
        places = embedded.reshape(*row.shape, fovea.size, embedded.shape[-1])
        what = F.linear(places, self.what.weight)
        across = (what * self.columns(column).unsqueeze(-3)).sum(-2)
        bound: Tensor = (across * self.rows(row)).sum((-3, -2)) + self.what.bias
        return bound.relu().view(*leading, -1)


class Unbinding(nn.Module):
    """Tells what each place of a glimpse holds, from where in the view it lies: the way back of
    `Binding`.

    e = V (h ⊙ R[row] ⊙ C[column]) + b: what stands at a place of the view comes of h in the same
    way, whatever place of a glimpse shows it.

    Args:
        fovea: cuts out glimpses.
        inputs: size of h.
        size: of e.
    """

    def __init__(self, fovea: Fovea, inputs: int, size: int) -> None:
        super().__init__()
        self.fovea = fovea
        self.rows, self.columns = _codes(fovea, inputs)
        self.what = linear(inputs, size)

    def forward(self, hidden: Tensor, location: Tensor | None) -> Tensor:
        """Tells of a glimpse.

        Args:
            hidden: [N, inputs].
            location: [N, 2]: coordinates; None to leave them unsaid, as if all lay in the centre.

        Returns:
            [N, places, size of e].
        """
        row, column = self.fovea.middles(hidden.new_zeros(1, 2) if location is None else location)
        down, across = self.rows(row).unsqueeze(-2), self.columns(column).unsqueeze(-3)
        bound = hidden[:, None, None, None] * down * across  # [N, scales, size, size, inputs]
        told: Tensor = self.what(bound.flatten(1, 3))
        return told


def _codes(fovea: Fovea, size: int) -> tuple[nn.Embedding, nn.Embedding]:
    """Of rows and of columns, of each scale."""
    codes = tuple(nn.Embedding(fovea.scales * side, size) for side in (fovea.height, fovea.width))
    for factor in codes:
        # Of variance 1, and so is the product, which has no heavy tails as that of normals has.
        nn.init.uniform_(factor.weight, -math.sqrt(3.0), math.sqrt(3.0))
    return codes[0], codes[1]


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
