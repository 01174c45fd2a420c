"""What is where in a batch of worlds, for whoever asks a memory to draw a map of it."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

NEVER_SEEN = -1
"""In `Maps.age`: the cell was not sensed in this episode."""

OUTSIDE = -2
"""In `Maps.age`: there is no such cell."""

WALL, THING = 1, 2
"""In `Maps.kind`: a wall, and the first kind that is a thing."""

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


def around_agent(maps: Maps) -> Maps:
    """The same worlds as seen from where the agent is, looking up.

    Returns:
        Maps of (2 S - 1) × (2 S - 1) cells, where S is the longer side: the agent's cell is in the
        middle, what lies before it above. What is outside of the world is wall, of age OUTSIDE.
        Place and heading are still those in the world.
    """
    number, rows, columns = maps.kind.shape
    side = 2 * max(rows, columns) - 1
    where = cells_around(maps.place, maps.heading, rows, columns)

    def turned(values: NDArray[np.int64], outside: int) -> NDArray[np.int64]:
        around = np.full((number, side * side), outside)
        np.put_along_axis(around, where, values.reshape(number, -1), axis=1)
        return around.reshape(number, side, side)

    return maps._replace(
        kind=turned(maps.kind, WALL), colour=turned(maps.colour, 0), age=turned(maps.age, OUTSIDE)
    )


def cells_around(
    place: NDArray[np.int64], heading: NDArray[np.int64], rows: int, columns: int
) -> NDArray[np.int64]:
    """Where each cell of N worlds lies on the maps of `around_agent`, [N, rows · columns], counted
    row by row on either side."""
    row, column = np.divmod(place[:, None], columns)
    down, right = np.divmod(np.arange(rows * columns), columns)
    down, right = down - row, right - column
    # Ahead and to the right of who looks east, south, west, or north.
    ahead = np.choose(heading[:, None], [right, down, -right, -down])
    aside = np.choose(heading[:, None], [down, -right, -down, right])
    middle = max(rows, columns) - 1
    return np.asarray((middle - ahead) * (2 * middle + 1) + middle + aside)
