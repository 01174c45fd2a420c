"""The questions that a room admits: every unambiguous one of a type, with its true answer."""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from groundling.envs.questions import UNUSED
from groundling.envs.rooms.near import is_near
from groundling.envs.rooms.wording import (
    ATTRIBUTE,
    COLOUR,
    COLOUR_AND_SIZE,
    COMPARISON,
    COUNT,
    NEAR,
    SHAPE,
    SHAPE_AND_SIZE,
    SIZE,
    Form,
    is_asked,
)
from groundling.envs.rooms.world import COLUMN, OBJECT_COLOUR, OBJECT_SHAPE, OBJECT_SIZE, ROW

# Columns of a candidate question: the code of its answer, two arguments (values of properties),
# and the numbers of the objects it speaks of.
ANSWER, FIRST, SECOND, REFERENT, LANDMARK = range(5)


class Contents(NamedTuple):
    """The N objects of a room, and of what kinds they are."""

    objects: NDArray[np.uint8]
    """[N, 5]: rows of `World.objects`."""
    kinds: NDArray[np.int64]
    """[5, N]: each object's value of every property."""
    totals: NDArray[np.int64]
    """[5, V]: how many objects have each value of every property."""


@numba.njit(cache=True)
def read_contents(objects: NDArray[np.uint8], values: NDArray[np.int64]) -> Contents:
    """Give the contents of a room with these objects [N, 5]; `values` [5] as `values_of` says."""
    kinds = np.empty((len(values), len(objects)), np.int64)
    totals = np.zeros((len(values), values.max()), np.int64)
    sizes = values[SIZE]
    for item in range(len(objects)):
        shape, colour = (
            np.int64(objects[item, OBJECT_SHAPE]),
            np.int64(objects[item, OBJECT_COLOUR]),
        )
        size = np.int64(objects[item, OBJECT_SIZE])
        kinds[SHAPE, item] = shape
        kinds[COLOUR, item] = colour
        kinds[SIZE, item] = size
        kinds[SHAPE_AND_SIZE, item] = shape * sizes + size
        kinds[COLOUR_AND_SIZE, item] = colour * sizes + size
        for name in range(len(values)):
            totals[name, kinds[name, item]] += 1
    return Contents(objects, kinds, totals)


@numba.njit(cache=True)
def space_for_questions(values: NDArray[np.int64], objects: int) -> NDArray[np.int64]:
    """Give scratch space [_, 5] for all questions of one type that one room admits."""
    most = values.max()
    return np.empty((max(most * most, objects * objects), 5), np.int64)


@numba.njit(cache=True)
def list_questions(
    form: Form, contents: Contents, values: NDArray[np.int64], candidates: NDArray[np.int64]
) -> int:
    """List all unambiguous questions of a type about one room and give their number.

    The rows of `candidates` that are filled have the columns ANSWER to LANDMARK.
    """
    if not is_asked(form, values):
        return 0
    if form.family == ATTRIBUTE:
        return _list_attributes(form, contents, candidates)
    if form.family == NEAR:
        return _list_neighbours(form, contents, candidates)
    totals = contents.totals[form.asked, : values[form.asked]]
    if form.family == COMPARISON:
        return _list_comparisons(totals, candidates)
    for value in range(len(totals)):
        answer = totals[value] if form.family == COUNT else min(totals[value], 1)
        _write(candidates[value], answer, value, UNUSED, UNUSED, UNUSED)
    return len(totals)


@numba.njit(cache=True)
def _write(
    candidate: NDArray[np.int64], answer: int, first: int, second: int, referent: int, landmark: int
) -> None:
    """Fill one candidate question."""
    candidate[ANSWER] = answer
    candidate[FIRST] = first
    candidate[SECOND] = second
    candidate[REFERENT] = referent
    candidate[LANDMARK] = landmark


@numba.njit(cache=True)
def _list_attributes(form: Form, contents: Contents, candidates: NDArray[np.int64]) -> int:
    """List "what is the colour of the key ?" for every object that is the only one of its kind."""
    kinds, found = contents.kinds, 0
    for item in range(kinds.shape[1]):
        value = kinds[form.asked, item]
        if contents.totals[form.asked, value] == 1:
            _write(candidates[found], kinds[form.told, item], value, UNUSED, item, UNUSED)
            found += 1
    return found


@numba.njit(cache=True)
def _list_comparisons(totals: NDArray[np.int64], candidates: NDArray[np.int64]) -> int:
    """List "are there more key than ball objects ?" for every two kinds; a tie is a no."""
    found = 0
    for first in range(len(totals)):
        for second in range(len(totals)):
            if first != second:
                more = 1 if totals[first] > totals[second] else 0
                _write(candidates[found], more, first, second, UNUSED, UNUSED)
                found += 1
    return found


@numba.njit(cache=True)
def _list_neighbours(form: Form, contents: Contents, candidates: NDArray[np.int64]) -> int:
    """List "what is the colour of the key near the ball ?" for every landmark that is the only one
    of its shape and has exactly one object of the asked kind near it, itself not counted."""
    objects, kinds, found = contents.objects, contents.kinds, 0
    for landmark in range(len(objects)):
        if contents.totals[SHAPE, kinds[SHAPE, landmark]] > 1:
            continue
        row, column = objects[landmark, ROW], objects[landmark, COLUMN]
        for referent in range(len(objects)):
            if referent == landmark or not is_near(objects[referent], row, column):
                continue
            value = kinds[form.asked, referent]
            if _count_near(objects, kinds[form.asked], value, row, column, landmark) == 1:
                answer, second = kinds[form.told, referent], kinds[SHAPE, landmark]
                _write(candidates[found], answer, value, second, referent, landmark)
                found += 1
    return found


@numba.njit(cache=True)
def _count_near(
    objects: NDArray[np.uint8],
    kinds: NDArray[np.int64],
    value: int,
    row: int,
    column: int,
    landmark: int,
) -> int:
    """Count the objects of a kind near a cell, without the landmark."""
    count = 0
    for item in range(len(objects)):
        if item != landmark and kinds[item] == value and is_near(objects[item], row, column):
            count += 1
    return count
