"""Worlds that agree with what was sensed, drawn as often as they are likely.

Unsensed objects stand in any distinct unsensed cells that may hold one, and are of any kind that
the options allow. (Ignored is what says little about either: that generation keeps free cells
connected, and that nothing is like the object to go to.) Where the number of objects is drawn, how
many are left unsensed is drawn too. All numbers in the options' range are alike, and for a number n
all subsets of n of the cells that may hold objects. With s objects sensed, P such cells unsensed
and C in all, that makes

    P(u unsensed | sensed) ∝ C(P, u) / C(C, s + u),  for s + u in the range.

A question that names an object nobody sensed says that there is one. Worlds without it would not
draw the question, so that few of many samples would count. So the first unsensed object is made the
named one. If it exists once, a world is then drawn 1 / (u q) times as often as before: in one of u
orders it comes first, and its kind, of which a share q is so named, is given. To make up for this
numbers u are drawn u times as often, while q is the same for all. That it exists once is left to
chance.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from groundling.envs.questions import UNUSED
from groundling.envs.rooms.candidates import Contents
from groundling.envs.rooms.judging import Knowledge
from groundling.envs.rooms.layout import draw_kind
from groundling.envs.rooms.rng import Integer, below
from groundling.envs.rooms.wording import (
    ATTRIBUTE,
    COLOUR_AND_SIZE,
    NEAR,
    SHAPE,
    SHAPE_AND_SIZE,
    SIZE,
    Form,
)
from groundling.envs.rooms.world import COLUMN, OBJECT_COLOUR, OBJECT_SHAPE, OBJECT_SIZE, ROW

Kind = tuple[Integer, Integer, Integer]
"""Shape, colour, size."""

RESOLUTION = 2**32
"""Chances of numbers are told apart to this fraction."""


@numba.njit(cache=True)
def named_unsensed(form: Form, arguments: NDArray[np.int64], sensed: Contents) -> tuple[int, int]:
    """Give the property, and its value, of an object that the question says exists once.

    If it was sensed, or the question says nothing of the sort: UNUSED twice.
    """
    if form.family == ATTRIBUTE:
        name, value = form.asked, arguments[0]
    elif form.family == NEAR:
        name, value = SHAPE, arguments[1]
    else:
        return UNUSED, UNUSED
    return (UNUSED, UNUSED) if sensed.totals[name, value] > 0 else (name, value)


@numba.njit(cache=True)
def chances_of_numbers(
    sensed: int, known: Knowledge, fewest_objects: int, cells: int, named: tuple[int, int]
) -> NDArray[np.float64]:
    """Give the chance of drawing each number of unsensed objects, from 0 to the largest.

    `sensed` objects were; `cells` is how many cells may hold objects, sensed or not. With a named
    one number u is drawn u times as often.
    """
    chances = np.zeros(known.most_unsensed + 1)
    likelihood = 1.0  # of what was sensed, if there are `number` more; a ratio to the first one's
    for number in range(max(0, fewest_objects - sensed), len(chances)):
        chances[number] = likelihood if named[0] == UNUSED else likelihood * number
        total = sensed + number
        if total < cells:
            likelihood *= (
                (len(known.places) - number) / (number + 1) * (total + 1) / (cells - total)
            )
    shares: NDArray[np.float64] = chances / chances.sum()
    return shares


@numba.njit(cache=True)
def draw_number(chances: NDArray[np.float64], state: np.uint64) -> tuple[int, np.uint64]:
    """Draw a number with these chances. Where one is certain nothing is drawn."""
    if chances.max() == 1:
        return int(chances.argmax()), state
    point, state = below(state, RESOLUTION)
    number = np.searchsorted(np.cumsum(chances), (point + 0.5) / RESOLUTION)
    return min(int(number), len(chances) - 1), state


@numba.njit(cache=True)
def imagine(
    sensed: NDArray[np.uint8],
    unsensed: int,
    places: NDArray[np.int64],
    named: tuple[int, int],
    values: NDArray[np.int64],
    absent: NDArray[np.bool_],
    state: np.uint64,
) -> tuple[NDArray[np.uint8], np.uint64]:
    """Give the sensed objects and so many others of any kind in any of the places: [N, 5].

    The order of `places` changes. The first of the others is the named one, if there is one.
    """
    objects = np.empty((len(sensed) + unsensed, sensed.shape[1]), np.uint8)
    objects[: len(sensed)] = sensed
    for turn in range(unsensed):
        item = objects[len(sensed) + turn]
        other, state = below(state, len(places) - turn)
        for axis in (ROW, COLUMN):
            place = places[turn + other, axis]
            places[turn + other, axis] = places[turn, axis]
            places[turn, axis] = item[axis] = place
        kind, state = _draw_kind(values, absent, state)
        if turn == 0 and named[0] != UNUSED:
            kind, state = _draw_named(named, values, absent, state)
        item[OBJECT_SHAPE], item[OBJECT_COLOUR], item[OBJECT_SIZE] = kind
    return objects, state


@numba.njit(cache=True)
def _draw_kind(
    values: NDArray[np.int64], absent: NDArray[np.bool_], state: np.uint64
) -> tuple[Kind, np.uint64]:
    """Draw a shape, a colour and a size, uniform among those that the options allow."""
    shape, colour, state = draw_kind(absent, state)
    size: Integer = 0
    if values[SIZE] > 1:
        size, state = below(state, values[SIZE])
    return (shape, colour, size), state


@numba.njit(cache=True)
def _draw_named(
    named: tuple[int, int], values: NDArray[np.int64], absent: NDArray[np.bool_], state: np.uint64
) -> tuple[Kind, np.uint64]:
    """Draw a kind that has the named property."""
    kind, state = _draw_kind(values, absent, state)
    while _value_of(kind, named[0], values[SIZE]) != named[1]:
        kind, state = _draw_kind(values, absent, state)
    return kind, state


@numba.njit(cache=True)
def _value_of(kind: Kind, name: int, sizes: Integer) -> Integer:
    """Give the value of a kind's property."""
    shape, colour, size = kind
    if name == SHAPE_AND_SIZE:
        return shape * sizes + size
    if name == COLOUR_AND_SIZE:
        return colour * sizes + size
    return shape if name == SHAPE else colour
