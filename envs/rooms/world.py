"""The state of a batch of rooms, and the codes its cells are written in.

Everything the compiled kernels touch is one of these arrays; nothing else about a room exists.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Channels of a cell, and of the agent's view.
WHAT, COLOUR, SIZE = 0, 1, 2
CHANNELS = 3

# Codes of the WHAT channel. A shape s of the preset (counted from 0) is written FIRST_SHAPE + s.
# HIDDEN appears in views only: a cell behind a wall, of which the agent learns nothing.
HIDDEN, FLOOR, WALL, FIRST_SHAPE = 0, 1, 2, 3
# COLOUR and SIZE are 0 where a cell has none; colour c of the preset is written c + 1,
# size z is z + 1. A wall may have a colour, too.
# A doorway is marked in the third channel: floor where one walks through, wall where its door is
# closed. So whoever asks what can be walked on, or seen through, need not know of doors.
DOORWAY = 1

# Columns of `World.objects`.
ROW, COLUMN, OBJECT_SHAPE, OBJECT_COLOUR, OBJECT_SIZE = 0, 1, 2, 3, 4

NONE = -1
"""In `World.target`: no object is meant."""

NEVER = -1
"""In `World.seen_at`: this cell has not been sensed in this episode."""


class World(NamedTuple):
    """B houses of one or more rooms. H × W is the grid: the largest house and its outer walls."""

    cells: NDArray[np.uint8]
    """[B, H, W, 3]: what, colour, size."""
    seen_at: NDArray[np.int16]
    """[B, H, W]: the step of the episode at which the cell was last sensed, or NEVER."""
    objects: NDArray[np.uint8]
    """[B, N, 5]: row, column (in the grid), shape, colour, size (each counted from 0)."""
    object_count: NDArray[np.uint8]
    """[B]: the first object_count rows of `objects` exist."""
    reached: NDArray[np.bool_]
    """[B, N]: reached since the last refresh (explore)."""
    target: NDArray[np.int8]
    """[B]: number of the object to go to (go-to), or NONE."""
    instruction: NDArray[np.uint8]
    """[B, L]: the instruction's words, 0 = padding (go-to); L is 0 without a task that has one."""
    agent: NDArray[np.int16]
    """[B, 3]: row, column, direction (0 east, 1 south, 2 west, 3 north)."""
    elapsed: NDArray[np.int16]
    """[B]: steps taken in this episode; the current observation was sensed at this step."""
    episode: NDArray[np.int64]
    """[B]: index of the episode since the last seeding."""
    seed: NDArray[np.int64]
    """[B]: the environment's seed. With `episode` it determines the room."""
