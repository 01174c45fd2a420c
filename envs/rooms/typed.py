"""Questions that somebody types: what they mean, and what is true of them in the rooms of now."""

from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from groundling.envs.questions import QUESTION_LENGTH, UNUSED, Questions, tokens_of
from groundling.envs.rooms.candidates import (
    FIRST,
    SECOND,
    list_questions,
    read_contents,
    space_for_questions,
)
from groundling.envs.rooms.judging import judge, know
from groundling.envs.rooms.questions import Preset, as_questions, language_in, values_in
from groundling.envs.rooms.wording import COMPARISON, NEAR, TYPES
from groundling.envs.rooms.world import World
from groundling.envs.vocabulary import VOCABULARY


def typed_question(world: World, options: Preset, text: str) -> Questions:
    """Put a question in words to B rooms: one of `Questions` for each room that admits it.

    A room does not admit a question whose presupposition fails in it: it has no "the key" where
    there are two. Capitals and missing blanks before the question mark are forgiven.

    Raises ValueError, saying what would be understood, if these rooms cannot be asked that.
    """
    number, first, second = _meaning(options, text)
    judged = [
        (room, row)
        for room in range(len(world.cells))
        for row in _judged(world, room, options, number, first, second)
    ]
    rooms = np.array([room for room, _ in judged], np.intp)
    rows = np.array([row for _, row in judged], np.int64).reshape(-1, 8)
    return as_questions(world, options, rooms, np.full(len(rooms), number, np.intp), rows)


def _meaning(options: Preset, text: str) -> tuple[int, int, int]:
    """Give the type of a question in words and its two arguments."""
    known = language_in(options).tokens
    meant = np.argwhere((known == tokens_of(text)).all(axis=-1) & known.any(axis=-1))
    if not len(meant):
        texts = [VOCABULARY.decode(one) for one in known.reshape(-1, QUESTION_LENGTH) if one.any()]
        nearest = get_close_matches(text.lower(), texts, n=1, cutoff=0.0)[0]
        raise ValueError(f"{text!r} is no question of these rooms; the nearest is {nearest!r}")
    number, first, second = (int(index) for index in meant[0])
    takes_two = TYPES[number].form.family in (COMPARISON, NEAR)
    return number, first, second if takes_two else UNUSED


def _judged(
    world: World, room: int, options: Preset, number: int, first: int, second: int
) -> list[NDArray[np.int64]]:
    """Give the question as one room admits it, judged: one row of it or none."""
    form, values, most_objects = TYPES[number].form, values_in(options), options.most_objects_drawn
    present = world.objects[room, : world.object_count[room]]
    contents = read_contents(present, values)
    known = know(world.cells[room], world.seen_at[room], present, world.elapsed[room], most_objects)
    candidates = space_for_questions(values, world.objects.shape[1])
    found = list_questions(form, contents, values, candidates)
    return [
        judge(form, one, contents, known)
        for one in candidates[:found]
        if one[FIRST] == first and one[SECOND] == second
    ]
