"""Held-out combinations: kinds of objects kept back to see whether knowledge carries over to them.

Which (shape, colour) combinations these are depends on the number of shapes and of colours alone:
not on a seed, nor on which words name them, so that all agents and probes keep back the same ones.
Either they are never asked about while a probe learns (`Questions.held_out` tells), or no room has
them at all (`RoomsOptions.combinations`).
"""

from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray

from groundling.envs.rooms.rng import below, mix

SPLIT = 1707
"""Seed of the split. Another one would make another benchmark."""

PERIOD = 4
"""One combination in so many is held out."""


@lru_cache(maxsize=16)
def held_out(shapes: int, colours: int) -> NDArray[np.bool_]:
    """Tell which combinations are held out: [shapes, colours], not to be written to.

    About a quarter of them: exactly so where one number is a multiple of four, elsewhere from a
    sixth (2 × 3) to three tenths (2 × 5). Every shape keeps at least half of the colours, every
    colour half of the shapes. With fewer than two shapes or colours nothing is held out.
    """
    if min(shapes, colours) < 2:
        table = np.zeros((shapes, colours), np.bool_)
    else:
        # Diagonals of a table whose rows and columns were shuffled: each line meets as few of them
        # as any other, one cell in four, and so at most half of its cells.
        diagonal = np.add.outer(_shuffled(shapes, 0, colours), _shuffled(colours, 1, shapes))
        table = diagonal % PERIOD == 0
    table.setflags(write=False)
    return table


@numba.njit(cache=True)
def _shuffled(number: int, side: int, others: int) -> NDArray[np.int64]:
    """Give 0 … number - 1 in an order that depends on the arguments alone, for ever: NumPy's
    generators do not promise as much."""
    state = mix(mix(mix(SPLIT, side), number), others)
    order = np.arange(number)
    for last in range(number - 1, 0, -1):
        other, state = below(state, last + 1)
        order[last], order[other] = order[other], order[last]
    return order
