"""What is where in a batch of worlds, for whoever asks a memory to draw a map of it."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

NEVER_SEEN = -1
"""In `Maps.age`: the cell was not sensed in this episode."""

HEADINGS = 4
"""East, south, west, north."""


class Maps(NamedTuple):
    """B worlds of R × C cells. The cell the agent is in shows what lies under it."""

    kind: NDArray[np.int64]
    """[B, R, C]: 0 floor, 1 wall, from 2 on things."""
    colour: NDArray[np.int64]
    """[B, R, C]: of the thing, from 1 on; 0 where nothing stands."""
    age: NDArray[np.int64]
    """[B, R, C]: steps since the cell was sensed, or NEVER_SEEN."""
    place: NDArray[np.int64]
    """[B]: the agent's cell, counted row by row."""
    heading: NDArray[np.int64]
    """[B]: where it looks: 0 east, 1 south, 2 west, 3 north."""


@runtime_checkable
class MapSource(Protocol):
    """An environment whose present worlds can be drawn as maps of one size."""

    @property
    def map_codes(self) -> tuple[int, int]:
        """How many kinds and how many colours a map tells apart, "none" included."""

    def draw_maps(self) -> Maps:
        """Draw the worlds as they now stand, in new arrays."""
