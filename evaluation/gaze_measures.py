"""What an agent's looks were like, as numbers: where, how spread, how far from one to the next."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundling.agents.attention import Attention
from groundling.agents.locations import Tiles

Array = NDArray[np.float64]

MOST_BINS = 16
"""Along either side of the view: of a larger one several places are a bin."""


@dataclass(frozen=True)
class Looks:
    """What N looks of one agent were like; the first of each episode is left out."""

    location: Array
    """[N, 2]: coordinates (row, column)."""
    moved: Array
    """[N]: how far from the look before, in places of the view."""
    step: NDArray[np.int64]
    """[N]: of the episode, from 1 on."""
    sharp: Array
    """[H, W]: share of looks that showed a place sharply."""
    things: float | None
    """Share of what was seen sharply that were things; None outside of our rooms."""
    to_target: Array | None
    """[N]: how far from what there was to find, in places; None where nobody tells."""


@dataclass(frozen=True)
class Bins:
    """How the view is cut up to count where looks are centred.

    Args:
        height: places of the view.
        width: likewise.
        block: places along the side of a bin; those at the lower and right border may be smaller.
    """

    height: int
    width: int
    block: int

    @classmethod
    def of(cls, attention: Attention) -> "Bins":
        """A bin for each tile or, of a fovea, for each place, if they are not too many."""
        fovea = attention.fovea
        block = -(-max(fovea.height, fovea.width) // MOST_BINS)
        tiles = isinstance(attention.locations, Tiles)
        return cls(fovea.height, fovea.width, fovea.size if tiles else block)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of bins."""
        return -(-self.height // self.block), -(-self.width // self.block)

    def shares(self, location: Array) -> Array:
        """Of coordinates [N, 2] the share in each bin, adding up to 1."""
        places = (location + 1) / 2 * [self.height, self.width]
        row, column = np.floor(places / self.block).astype(np.int64).T
        rows, columns = self.shape
        row, column = row.clip(0, rows - 1), column.clip(0, columns - 1)
        counts = np.bincount(row * columns + column, minlength=rows * columns)
        return counts.reshape(self.shape) / len(location)


def entropy(shares: Array) -> float:
    """In bits."""
    some = shares[shares > 0]
    return float(-(some * np.log2(some)).sum()) + 0.0


def averaged(places: Array) -> Array:
    """A map of the view [H, W], of a large one in blocks: at most `MOST_BINS` along either side."""
    block = -(-max(places.shape) // MOST_BINS)
    rows, columns = (np.arange(side) // block for side in places.shape)
    total, number = np.zeros((2, rows[-1] + 1, columns[-1] + 1))
    where = np.broadcast_arrays(rows[:, None], columns)
    np.add.at(total, tuple(where), places)
    np.add.at(number, tuple(where), 1)
    return np.asarray(total / number)


def measure(looks: Looks, bins: Bins) -> dict[str, Any]:
    """What looks were like.

    Returns:
        "looks": shares by bin; "sharp": share of looks that show each place sharply, of a large
        view in blocks; "entropy" of the first in bits; "movement", mean, in places; both "by step"
        (from the second look on, as long as half the episodes last); "things" and "distance" (mean,
        to what there was to find, in places), or None.
    """
    number = np.bincount(looks.step)[1:]
    steps = 1 + np.flatnonzero(number >= number[0] / 2)
    each = [looks.step == step for step in steps]
    shares = bins.shares(looks.location)
    return {
        "looks": shares.tolist(),
        "sharp": averaged(looks.sharp).tolist(),
        "entropy": entropy(shares),
        "movement": float(looks.moved.mean()),
        "by step": {
            "step": steps.tolist(),
            "entropy": [entropy(bins.shares(looks.location[chosen])) for chosen in each],
            "movement": [float(looks.moved[chosen].mean()) for chosen in each],
        },
        "things": looks.things,
        "distance": None if looks.to_target is None else float(looks.to_target.mean()),
    }
