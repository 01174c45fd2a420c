"""What "near" means, in questions as in instructions."""

import numba
import numpy as np
from numpy.typing import NDArray

from groundling.envs.rooms.world import COLUMN, ROW

NEAR_DISTANCE = 2
"""Objects at most this far apart, in the Chebyshev distance, are near each other."""


@numba.njit(cache=True)
def is_near(item: NDArray[np.uint8], row: int, column: int) -> bool:
    """Tell whether an object, or a place, is near a cell. Walls in between do not matter."""
    # Rows and columns of objects are unsigned: their differences must not be.
    down, right = np.int64(item[ROW]) - np.int64(row), np.int64(item[COLUMN]) - np.int64(column)
    return bool(max(abs(down), abs(right)) <= NEAR_DISTANCE)
