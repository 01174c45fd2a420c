"""Questions about rooms (after Das et al. 2020, section 4), drawn so that nothing is gained by
reading questions alone.

Two stages see to that: first an answer is drawn among those that the room can give, then,
uniformly, a question of the room with this answer (`candidates.py`). Yes and no are wanted equally
often, and a room that cannot give the wanted one is not asked. The shares of the other answers
still differ over many rooms; `groundling.envs.questions.balance` levels them. Whether what the
agent has sensed settles a question is judged afterwards (`judging.py`); it has no say in the
choice.
"""

from typing import Protocol

import numba
import numpy as np
from numpy.typing import NDArray

from groundling.envs.questions import UNUSED, Questions
from groundling.envs.rooms.candidates import (
    ANSWER,
    FIRST,
    LANDMARK,
    REFERENT,
    SECOND,
    list_questions,
    read_contents,
    space_for_questions,
)
from groundling.envs.rooms.combinations import held_out
from groundling.envs.rooms.judging import ANSWERABLE, ASKED, STEPS, judge, know
from groundling.envs.rooms.rng import below, mix
from groundling.envs.rooms.wording import (
    COMPARISON,
    EXISTENCE,
    FORMS,
    Form,
    Language,
    language_of,
    values_of,
)
from groundling.envs.rooms.world import OBJECT_COLOUR, OBJECT_SHAPE, World
from groundling.envs.vocabulary import NUMBERS


class Preset(Protocol):
    """What must be known of a room's options to ask about it."""

    @property
    def shape_names(self) -> tuple[str, ...]:
        """The words of the preset's shapes, in the order of their codes."""

    @property
    def colour_names(self) -> tuple[str, ...]:
        """The words of the preset's colours, in the order of their codes."""

    @property
    def size_names(self) -> tuple[str, ...]:
        """The words of the preset's sizes, in the order of their codes."""

    @property
    def most_objects_drawn(self) -> int:
        """The largest number of objects that a room may hold."""


def sample_questions(world: World, options: Preset, generator: np.random.Generator) -> Questions:
    """Draw one question of every type about every room, where the room admits one of this type.

    `world` holds B rooms. The result has at most 14 B questions, ordered by room and then by type.
    Their arguments are codes, counted from 0, of shapes, colours or sizes; of what is named with
    its size shape × sizes + size, or colour × sizes + size. One number is taken from `generator`,
    and what is asked of a room depends on it, the room and its index in the batch.

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
        FORMS,
        values_in(options),
        options.most_objects_drawn,
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
    language = language_in(options)
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


def language_in(options: Preset) -> Language:
    """Give every question and every answer of rooms with these options."""
    return language_of(
        tuple(options.shape_names), tuple(options.colour_names), tuple(options.size_names)
    )


def values_in(options: Preset) -> NDArray[np.int64]:
    """Give [5] how many values each property has in rooms with these options."""
    return values_of(options.shape_names, options.colour_names, options.size_names)


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


@numba.njit(cache=True)
def _draw_questions(
    cells: NDArray[np.uint8],
    seen_at: NDArray[np.int16],
    objects: NDArray[np.uint8],
    object_count: NDArray[np.uint8],
    elapsed: NDArray[np.int16],
    forms: NDArray[np.int64],
    values: NDArray[np.int64],
    most_objects: int,
    seed: int,
) -> NDArray[np.int64]:
    """Draw a question of each of the `forms` [types, 3] about each room: [B, types, 8].

    Every room and type has a random stream of its own.
    """
    drawn = np.zeros((len(cells), len(forms), 8), np.int64)
    candidates = space_for_questions(values, objects.shape[1])
    for room in range(len(cells)):
        present = objects[room, : object_count[room]]
        contents = read_contents(present, values)
        known = know(cells[room], seen_at[room], present, elapsed[room], most_objects)
        for number in range(len(forms)):
            form = Form(forms[number, 0], forms[number, 1], forms[number, 2])
            found = list_questions(form, contents, values, candidates)
            state = mix(mix(seed, room), number)
            chosen = _choose(candidates[:found, ANSWER], form.family, state)
            if chosen >= 0:
                drawn[room, number] = judge(form, candidates[chosen], contents, known)
    return drawn


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
