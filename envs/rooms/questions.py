"""The nine types of question about a room (Das et al. 2020, section 4), their answers, and whether
what the agent has sensed settles them.

Two stages keep a learner that reads only questions from gaining by them: first an answer is drawn
among those that the room can give, then, uniformly, a question of the room with this answer. Yes
and no are wanted equally often, and a room that cannot give the wanted one is not asked. The shares
of the other answers still differ over many rooms; `groundling.envs.questions.balance` levels them.

Answerable means: the same answer in all worlds that agree with the cells sensed so far, hold the
same number of objects, and make the question's own presupposition true ("the key" exists and is
one). Such a world is any way to put the unsensed objects, of any shape and colour, into unsensed
cells that are no wall. From this follows, type by type,

- attribute: the referent was sensed. Otherwise its property may be anything.
- existence: an instance was sensed, or every object was.
- count: every object was sensed. Otherwise an unsensed one may be of this kind or another.
- comparison: no choice of kinds for the unsensed objects can turn the lead around. This may be so
  before all of them were sensed.
- near: referent and landmark were sensed; a second candidate in an unsensed cell is ruled out by
  the presupposition. Rarely the referent alone is enough: when every cell left for the landmark
  gives the same answer, for instance because it is the last object to be found.

Types whose answer the preset gives away are not asked: a property must have two values, and near
questions need three shapes, since what stands beside the only ball is never a ball.
"""

from typing import Protocol

import numba
import numpy as np
from numpy.typing import NDArray

from groundling.envs.questions import NOT_SEEN, UNUSED, Questions
from groundling.envs.rooms.combinations import held_out
from groundling.envs.rooms.near import is_near
from groundling.envs.rooms.rng import below, mix
from groundling.envs.rooms.wording import (
    ATTRIBUTE,
    COLOUR,
    COMPARISON,
    COUNT,
    EXISTENCE,
    NEAR,
    SHAPE,
    TYPES,
    language_of,
)
from groundling.envs.rooms.world import (
    COLUMN,
    NEVER,
    OBJECT_COLOUR,
    OBJECT_SHAPE,
    ROW,
    WALL,
    WHAT,
    World,
)
from groundling.envs.vocabulary import NUMBERS


class Preset(Protocol):
    """What must be known of a room's options to put its questions into words."""

    @property
    def shape_names(self) -> tuple[str, ...]:
        """The words of the preset's shapes, in the order of their codes."""

    @property
    def colour_names(self) -> tuple[str, ...]:
        """The words of the preset's colours, in the order of their codes."""


def sample_questions(world: World, options: Preset, generator: np.random.Generator) -> Questions:
    """Draw one question of every type about every room, where the room admits one of this type.

    `world` holds B rooms. The result has at most 9 B questions, ordered by room and then by type;
    their arguments are codes of shapes and colours, counted from 0. One number is taken from
    `generator`, and what is asked of a room depends on it, the room and its index in the batch.

    Raises ValueError if a room may hold more objects than there are number words.
    """
    if world.objects.shape[1] >= len(NUMBERS):
        raise ValueError(
            f"questions can count up to {len(NUMBERS) - 1} objects, "
            f"but the rooms have space for {world.objects.shape[1]}"
        )
    drawn = _draw_questions(
        world.cells,
        world.seen_at,
        world.objects,
        world.object_count,
        world.elapsed,
        np.array([(question_type.family, question_type.asked) for question_type in TYPES]),
        len(options.shape_names),
        len(options.colour_names),
        int(generator.integers(2**63)),
    )
    rooms, types = np.nonzero(drawn[:, :, ASKED])
    return as_questions(world, options, rooms, types, drawn[rooms, types])


def as_questions(
    world: World,
    options: Preset,
    rooms: NDArray[np.intp],
    types: NDArray[np.intp],
    drawn: NDArray[np.int64],
) -> Questions:
    """Put judged questions into words: of rooms [N] and types [N], as rows [N, 8] (columns ANSWER
    to STEPS)."""
    language = language_of(tuple(options.shape_names), tuple(options.colour_names))
    arguments = drawn[:, [FIRST, SECOND]]
    return Questions(
        world=rooms,
        type=types,
        arguments=arguments,
        tokens=language.tokens[types, arguments[:, 0], arguments[:, 1]],
        answer=language.answers[types, drawn[:, ANSWER]],
        answerable=drawn[:, ANSWERABLE].astype(np.bool_),
        steps_since_seen=drawn[:, STEPS],
        held_out=_about_held_out(world, options, rooms, drawn[:, [REFERENT, LANDMARK]]),
        elapsed=world.elapsed[rooms].astype(np.int64),
    )


def _about_held_out(
    world: World, options: Preset, rooms: NDArray[np.intp], things: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Tell [N] whether one of the things [N, 2] that a question speaks of is of a held-out
    combination. Things are numbers of a room's objects, or UNUSED."""
    table = held_out(len(options.shape_names), len(options.colour_names))
    things_are = world.objects[rooms[:, None], things]
    kept_back = table[things_are[..., OBJECT_SHAPE], things_are[..., OBJECT_COLOUR]]
    asked: NDArray[np.bool_] = (kept_back & (things != UNUSED)).any(axis=1)
    return asked


YES_OR_NO = (EXISTENCE, COMPARISON)
"""The families whose questions are answered by no or yes."""

# Columns of what `_draw_questions` gives, and (the first five) of a room's candidate questions.
ANSWER, FIRST, SECOND, REFERENT, LANDMARK, ASKED, ANSWERABLE, STEPS = range(8)


@numba.njit(cache=True)
def _draw_questions(
    cells: NDArray[np.uint8],
    seen_at: NDArray[np.int16],
    objects: NDArray[np.uint8],
    object_count: NDArray[np.uint8],
    elapsed: NDArray[np.int16],
    types: NDArray[np.int64],
    shapes: int,
    colours: int,
    seed: int,
) -> NDArray[np.int64]:
    """Draw a question of each (family, asked property) in `types` about each room: [B, types, 8].

    Every room and type has a random stream of its own.
    """
    drawn = np.zeros((len(cells), len(types), 8), np.int64)
    values = max(shapes, colours)
    candidates = space_for_questions(values, objects.shape[1])
    for room in range(len(cells)):
        present = objects[room, : object_count[room]]
        kinds, totals = read_kinds(present, values)
        ages = ages_of(present, seen_at[room], elapsed[room])
        for number in range(len(types)):
            family, asked = types[number, 0], types[number, 1]
            found = list_questions(
                family, asked, present, kinds, totals, shapes, colours, candidates
            )
            state = mix(mix(seed, room), number)
            chosen = _choose(candidates[:found, ANSWER], family, state)
            if chosen < 0:
                continue
            drawn[room, number] = judge(
                family, asked, candidates[chosen], cells[room], seen_at[room], present, kinds, ages
            )
    return drawn


@numba.njit(cache=True)
def judge(
    family: int,
    asked: int,
    question: NDArray[np.int64],
    cells: NDArray[np.uint8],
    seen_at: NDArray[np.int16],
    objects: NDArray[np.uint8],
    kinds: NDArray[np.int64],
    ages: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Give a candidate question of one room, judged: the columns ANSWER to STEPS."""
    answerable, steps = _judge(family, asked, question, cells, seen_at, objects, kinds, ages)
    judged = np.empty(8, np.int64)
    judged[:5] = question
    judged[ASKED] = True
    judged[ANSWERABLE] = answerable
    judged[STEPS] = steps if answerable else NOT_SEEN
    return judged


@numba.njit(cache=True)
def space_for_questions(values: int, objects: int) -> NDArray[np.int64]:
    """Give scratch space [_, 5] for all questions of one type that one room admits."""
    return np.empty((max(values * values, objects * objects), 5), np.int64)


@numba.njit(cache=True)
def read_kinds(
    objects: NDArray[np.uint8], values: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give each object's kinds [2, N] and how many there are of each kind [2, values]."""
    kinds = np.empty((2, len(objects)), np.int64)
    totals = np.zeros((2, values), np.int64)
    for item in range(len(objects)):
        kinds[SHAPE, item] = objects[item, OBJECT_SHAPE]
        kinds[COLOUR, item] = objects[item, OBJECT_COLOUR]
        totals[SHAPE, kinds[SHAPE, item]] += 1
        totals[COLOUR, kinds[COLOUR, item]] += 1
    return kinds, totals


@numba.njit(cache=True)
def ages_of(
    objects: NDArray[np.uint8], seen_at: NDArray[np.int16], elapsed: int
) -> NDArray[np.int64]:
    """Give each object's age [N]: the steps since it was sensed, or NEVER."""
    ages = np.empty(len(objects), np.int64)
    for item in range(len(objects)):
        last = seen_at[objects[item, ROW], objects[item, COLUMN]]
        ages[item] = NEVER if last == NEVER else elapsed - last
    return ages


@numba.njit(cache=True)
def unsensed_places(cells: NDArray[np.uint8], seen_at: NDArray[np.int16]) -> NDArray[np.int64]:
    """Give the cells [P, 2] where an unsensed object may stand, as rows and columns."""
    return np.argwhere((cells[:, :, WHAT] != WALL) & (seen_at == NEVER))


@numba.njit(cache=True)
def list_questions(
    family: int,
    asked: int,
    objects: NDArray[np.uint8],
    kinds: NDArray[np.int64],
    totals: NDArray[np.int64],
    shapes: int,
    colours: int,
    candidates: NDArray[np.int64],
) -> int:
    """List all unambiguous questions of a type about one room and give their number.

    `kinds` and `totals` are what `read_kinds` gives. The rows of `candidates` that are filled have
    the columns ANSWER to LANDMARK.
    """
    values = shapes if asked == SHAPE else colours
    others = colours if asked == SHAPE else shapes
    if family == ATTRIBUTE and others > 1:
        return _list_attributes(asked, kinds, totals, candidates)
    if family == NEAR and shapes > 2 and colours > 1:
        return _list_neighbours(asked, objects, kinds, totals, candidates)
    if family == COMPARISON and values > 1:
        return _list_comparisons(totals[asked, :values], candidates)
    if family in (EXISTENCE, COUNT) and values > 1:
        for value in range(values):
            total = totals[asked, value]
            answer = total if family == COUNT else min(total, 1)
            _write(candidates[value], answer, value, UNUSED, UNUSED, UNUSED)
        return values
    return 0


@numba.njit(cache=True)
def _write(
    candidate: NDArray[np.int64], answer: int, first: int, second: int, referent: int, landmark: int
) -> None:
    """Fill one candidate question: answer, two arguments, and the objects it speaks of."""
    candidate[ANSWER] = answer
    candidate[FIRST] = first
    candidate[SECOND] = second
    candidate[REFERENT] = referent
    candidate[LANDMARK] = landmark


@numba.njit(cache=True)
def _list_attributes(
    asked: int,
    kinds: NDArray[np.int64],
    totals: NDArray[np.int64],
    candidates: NDArray[np.int64],
) -> int:
    """List "what is the colour of the key ?" for every object that is the only one of its kind."""
    found = 0
    for item in range(kinds.shape[1]):
        value = kinds[asked, item]
        if totals[asked, value] == 1:
            _write(candidates[found], kinds[1 - asked, item], value, UNUSED, item, UNUSED)
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
def _list_neighbours(
    asked: int,
    objects: NDArray[np.uint8],
    kinds: NDArray[np.int64],
    totals: NDArray[np.int64],
    candidates: NDArray[np.int64],
) -> int:
    """List "what is the colour of the key near the ball ?" for every landmark that is the only one
    of its shape and has exactly one object of the asked kind near it, itself not counted."""
    found = 0
    for landmark in range(len(objects)):
        if totals[SHAPE, kinds[SHAPE, landmark]] != 1:
            continue
        row, column = objects[landmark, ROW], objects[landmark, COLUMN]
        for referent in range(len(objects)):
            if referent == landmark or not is_near(objects[referent], row, column):
                continue
            value = kinds[asked, referent]
            if _count_near(objects, kinds[asked], value, row, column, landmark) == 1:
                answer, second = kinds[1 - asked, referent], kinds[SHAPE, landmark]
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


@numba.njit(cache=True)
def _choose(answers: NDArray[np.int64], family: int, state: np.uint64) -> int:
    """Draw an answer, then a candidate with this answer; give its position, or -1 for none.

    Yes and no are drawn with equal chances even where the room admits only one of them: turning to
    the other one would make it the more frequent.
    """
    if len(answers) == 0:
        return -1
    tally = tally_answers(answers)
    if family in YES_OR_NO:
        wanted, state = below(state, 2)
    else:
        possible = np.flatnonzero(tally)
        position, state = below(state, len(possible))
        wanted = possible[position]
    if tally[wanted] == 0:
        return -1
    remaining, state = below(state, tally[wanted])
    for candidate in range(len(answers)):
        if answers[candidate] == wanted:
            if remaining == 0:
                return candidate
            remaining -= 1
    return -1


@numba.njit(cache=True)
def tally_answers(answers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count how often each answer occurs, by its code; no and yes have a place always."""
    tally = np.zeros(max(2, answers.max() + 1), np.int64)
    for answer in answers:
        tally[answer] += 1
    return tally


@numba.njit(cache=True)
def chances_of_answers(tally: NDArray[np.int64], family: int) -> NDArray[np.float64]:
    """Give the chance that `_choose` draws a question with each answer, by its code."""
    possible = tally > 0
    return possible / 2 if family in YES_OR_NO else possible / possible.sum()


@numba.njit(cache=True)
def _judge(
    family: int,
    asked: int,
    question: NDArray[np.int64],
    cells: NDArray[np.uint8],
    seen_at: NDArray[np.int16],
    objects: NDArray[np.uint8],
    kinds: NDArray[np.int64],
    ages: NDArray[np.int64],
) -> tuple[bool, int]:
    """Decide whether a question is answerable and, if so, give its steps since seen.

    These are the age of the stalest object that the answer rests on; of the freshest where one
    instance is enough; of the sensed ones where a comparison is decided before all were sensed; of
    the referent alone where the landmark's place was deduced.
    """
    if family == ATTRIBUTE:
        age = ages[question[REFERENT]]
        return age != NEVER, age
    if family == NEAR:
        return _judge_near(asked, question, cells, seen_at, objects, kinds, ages)
    unsensed = np.sum(ages == NEVER)
    first, freshest, stalest = _sensed(kinds[asked], ages, question[FIRST])
    if family == EXISTENCE:
        return first > 0 or unsensed == 0, freshest
    if family == COUNT:
        return unsensed == 0, stalest
    second, _, stalest_second = _sensed(kinds[asked], ages, question[SECOND])
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
    asked: int,
    question: NDArray[np.int64],
    cells: NDArray[np.uint8],
    seen_at: NDArray[np.int16],
    objects: NDArray[np.uint8],
    kinds: NDArray[np.int64],
    ages: NDArray[np.int64],
) -> tuple[bool, int]:
    """`_judge` for near questions. The deduction takes the walls as known."""
    referent_age, landmark_age = ages[question[REFERENT]], ages[question[LANDMARK]]
    if referent_age == NEVER:
        return False, NOT_SEEN
    if landmark_age != NEVER:
        return True, max(referent_age, landmark_age)
    places = unsensed_places(cells, seen_at)
    sensed = np.flatnonzero(ages != NEVER)
    for place in range(len(places)):
        if not _agrees(
            place, asked, question, places, objects[sensed], kinds[:, sensed], len(ages)
        ):
            return False, NOT_SEEN
    return True, referent_age


@numba.njit(cache=True)
def _agrees(
    landmark: int,
    asked: int,
    question: NDArray[np.int64],
    places: NDArray[np.int64],
    sensed: NDArray[np.uint8],
    kinds: NDArray[np.int64],
    object_count: int,
) -> bool:
    """Would an unsensed landmark in place number `landmark` allow only the true answer?

    With one sensed candidate near that place, its property is the answer. With more the
    presupposition fails. With none, the referent is an unsensed object too, which may have any
    property, provided that there is one and that it has a place nearby.
    """
    row, column = places[landmark, ROW], places[landmark, COLUMN]
    candidates, agreeing = 0, 0
    for item in range(len(sensed)):
        if kinds[asked, item] == question[FIRST] and is_near(sensed[item], row, column):
            candidates += 1
            agreeing += kinds[1 - asked, item] == question[ANSWER]
    if candidates > 0:
        return candidates > 1 or agreeing == 1
    if object_count - len(sensed) < 2:
        return True
    for place in range(len(places)):
        if place != landmark and is_near(places[place], row, column):
            return False
    return True
