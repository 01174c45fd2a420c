"""Questions that somebody types: what they mean, and what is true of them in the rooms of now."""

from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from groundling.envs.questions import QUESTION_LENGTH, UNUSED, Questions, tokens_of
from groundling.envs.rooms.questions import (
    FIRST,
    SECOND,
    Preset,
    ages_of,
    as_questions,
    judge,
    list_questions,
    read_kinds,
    space_for_questions,
)
from groundling.envs.rooms.wording import COMPARISON, NEAR, TYPES, language_of
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
    known = language_of(tuple(options.shape_names), tuple(options.colour_names)).tokens
    meant = np.argwhere((known == tokens_of(text)).all(axis=-1) & known.any(axis=-1))
    if not len(meant):
        texts = [VOCABULARY.decode(one) for one in known.reshape(-1, QUESTION_LENGTH) if one.any()]
        nearest = get_close_matches(text.lower(), texts, n=1, cutoff=0.0)[0]
        raise ValueError(f"{text!r} is no question of these rooms; the nearest is {nearest!r}")
    number, first, second = (int(index) for index in meant[0])
    takes_two = TYPES[number].family in (COMPARISON, NEAR)
    return number, first, second if takes_two else UNUSED


def _judged(
    world: World, room: int, options: Preset, number: int, first: int, second: int
) -> list[NDArray[np.int64]]:
    """Give the question as one room admits it, judged: one row of it or none."""
    shapes, colours = len(options.shape_names), len(options.colour_names)
    family, asked = TYPES[number].family, TYPES[number].asked
    present = world.objects[room, : world.object_count[room]]
    kinds, totals = read_kinds(present, max(shapes, colours))
    candidates = space_for_questions(max(shapes, colours), world.objects.shape[1])
    found = list_questions(family, asked, present, kinds, totals, shapes, colours, candidates)
    cells, seen_at = world.cells[room], world.seen_at[room]
    ages = ages_of(present, seen_at, world.elapsed[room])
    return [
        judge(family, asked, one, cells, seen_at, present, kinds, ages)
        for one in candidates[:found]
        if one[FIRST] == first and one[SECOND] == second
    ]
