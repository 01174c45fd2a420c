"""What an agent may know of a room: whether what it has sensed settles a question.

Answerable means: the same answer in all worlds that agree with the cells sensed so far, hold as
many objects as such rooms may hold, and make the question's own presupposition true ("the key"
exists and is one). Such a world is any way to put unsensed objects, of any shape, colour and size,
into unsensed cells that may hold one: no wall, no doorway, no cell beside a doorway. Where the
number of objects is drawn, the agent knows from which range but not which number. From this
follows, family by family,

- attribute: the referent was sensed. Otherwise its property may be anything.
- existence: an instance was sensed, or no object can be left: every cell that may hold one was
  sensed, or as many objects as there may be.
- count: no object can be left. Otherwise an unsensed one may be of this kind or another.
- comparison: no choice of kinds for the objects that may be left can turn the lead around. This may
  be so before all of them were sensed.
- near: referent and landmark were sensed; a second candidate in an unsensed cell is ruled out by
  the presupposition. Rarely the referent alone is enough: when every cell left for the landmark
  gives the same answer, for instance because it is the last object to be found.

The fewest objects that a room may hold settle nothing: whoever may find more can always find them
of the kind that turns an answer around.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from groundling.envs.questions import NOT_SEEN
from groundling.envs.rooms.candidates import (
    ANSWER,
    FIRST,
    LANDMARK,
    REFERENT,
    SECOND,
    Contents,
)
from groundling.envs.rooms.near import is_near
from groundling.envs.rooms.plans import may_hold_object
from groundling.envs.rooms.wording import ATTRIBUTE, COUNT, EXISTENCE, NEAR, Form
from groundling.envs.rooms.world import CHANNELS, COLUMN, NEVER, ROW

# Columns of a judged question, after those of a candidate.
ASKED, ANSWERABLE, STEPS = range(5, 8)


class Knowledge(NamedTuple):
    """What was sensed of a room with N objects, and what may be there besides."""

    ages: NDArray[np.int64]
    """[N]: the steps since each object was sensed, or NEVER."""
    places: NDArray[np.int64]
    """[P, 2]: the cells where an unsensed object may stand, as rows and columns."""
    most_unsensed: int
    """How many unsensed objects there may be at most."""


@numba.njit(cache=True)
def know(
    cells: NDArray[np.uint8],
    seen_at: NDArray[np.int16],
    objects: NDArray[np.uint8],
    elapsed: int,
    most_objects: int,
) -> Knowledge:
    """Give what is known of one room that holds at most so many objects."""
    ages = np.empty(len(objects), np.int64)
    for item in range(len(objects)):
        last = seen_at[objects[item, ROW], objects[item, COLUMN]]
        ages[item] = NEVER if last == NEVER else elapsed - last
    places = np.argwhere(where_objects_may_stand(cells) & (seen_at == NEVER))
    most_unsensed = min(most_objects - np.sum(ages != NEVER), len(places))
    return Knowledge(ages, places, most_unsensed)


@numba.njit(cache=True)
def where_objects_may_stand(cells: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell of each cell [H, W] of a room whether an object may ever stand on it."""
    height, width = cells.shape[:2]
    flat = cells.reshape(-1, CHANNELS)
    possible = np.empty(len(flat), np.bool_)
    for position in range(len(flat)):
        possible[position] = may_hold_object(flat, width, position)
    return possible.reshape(height, width)


@numba.njit(cache=True)
def judge(
    form: Form, question: NDArray[np.int64], contents: Contents, known: Knowledge
) -> NDArray[np.int64]:
    """Give a candidate question of one room, judged: the columns ANSWER to STEPS."""
    answerable, steps = _judge(form, question, contents, known)
    judged = np.empty(8, np.int64)
    judged[:5] = question
    judged[ASKED] = True
    judged[ANSWERABLE] = answerable
    judged[STEPS] = steps if answerable else NOT_SEEN
    return judged


@numba.njit(cache=True)
def _judge(
    form: Form, question: NDArray[np.int64], contents: Contents, known: Knowledge
) -> tuple[bool, int]:
    """Decide whether a question is answerable and, if so, give its steps since seen.

    These are the age of the stalest object that the answer rests on; of the freshest where one
    instance is enough; of the sensed ones where a comparison is decided before all were sensed; of
    the referent alone where the landmark's place was deduced.
    """
    ages, unsensed = known.ages, known.most_unsensed
    if form.family == ATTRIBUTE:
        age = ages[question[REFERENT]]
        return age != NEVER, age
    if form.family == NEAR:
        return _judge_near(form, question, contents, known)
    kinds = contents.kinds[form.asked]
    first, freshest, stalest = _sensed(kinds, ages, question[FIRST])
    if form.family == EXISTENCE:
        return first > 0 or unsensed == 0, freshest
    if form.family == COUNT:
        return unsensed == 0, stalest
    second, _, stalest_second = _sensed(kinds, ages, question[SECOND])
    decided = first - second > unsensed or first + unsensed <= second
    return decided, max(stalest, stalest_second)


@numba.njit(cache=True)
def _sensed(kinds: NDArray[np.int64], ages: NDArray[np.int64], value: int) -> tuple[int, int, int]:
    """Count the sensed objects of a kind; give the age of the freshest and of the stalest."""
    count, freshest, stalest = 0, NOT_SEEN, NOT_SEEN
    for item in range(len(ages)):
        if kinds[item] == value and ages[item] != NEVER:
            freshest = ages[item] if count == 0 else min(freshest, ages[item])
            stalest = max(stalest, ages[item])
            count += 1
    return count, freshest, stalest


@numba.njit(cache=True)
def _judge_near(
    form: Form, question: NDArray[np.int64], contents: Contents, known: Knowledge
) -> tuple[bool, int]:
    """`_judge` for near questions. The deduction takes walls and doorways as known."""
    referent_age, landmark_age = known.ages[question[REFERENT]], known.ages[question[LANDMARK]]
    if referent_age == NEVER:
        return False, NOT_SEEN
    if landmark_age != NEVER:
        return True, max(referent_age, landmark_age)
    for place in range(len(known.places)):
        if not _agrees(place, form, question, contents, known):
            return False, NOT_SEEN
    return True, referent_age


@numba.njit(cache=True)
def _agrees(
    landmark: int, form: Form, question: NDArray[np.int64], contents: Contents, known: Knowledge
) -> bool:
    """Would an unsensed landmark in place number `landmark` allow only the true answer?

    With one sensed candidate near that place, its property is the answer. With more the
    presupposition fails. With none, the referent is an unsensed object too, which may have any
    property, provided that there may be one and that it has a place nearby.
    """
    row, column = known.places[landmark, ROW], known.places[landmark, COLUMN]
    candidates, agreeing = 0, 0
    for item in range(len(known.ages)):
        if known.ages[item] == NEVER or not is_near(contents.objects[item], row, column):
            continue
        if contents.kinds[form.asked, item] == question[FIRST]:
            candidates += 1
            agreeing += contents.kinds[form.told, item] == question[ANSWER]
    if candidates > 0:
        return candidates > 1 or agreeing == 1
    if known.most_unsensed < 2:
        return True
    for place in range(len(known.places)):
        if place != landmark and is_near(known.places[place], row, column):
            return False
    return True
