"""Instructions for going to an object, and the objects they mean.

    instruction → ("go to" | "find") NOUN ["near" NOUN]
    NOUN        → "the" [size] [colour] (shape | "object")

"the small red key", "the lamp near the blue box". A noun names at least one property; sizes are
spoken of where there are two. *Unambiguous by construction*: of the nouns that could be said of the
target only those are drawn that mean exactly one object. After "near" stands a noun that means one
object, the landmark, and before it one that means exactly one of the objects near that landmark (at
most two cells away, as in questions). Since no other object is of the target's shape, colour and
size, there is always something to say.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from groundling.envs.rooms.near import is_near
from groundling.envs.rooms.rng import below
from groundling.envs.rooms.rules import TEMPLATE, Rules
from groundling.envs.rooms.world import (
    COLUMN,
    NONE,
    OBJECT_COLOUR,
    OBJECT_SHAPE,
    OBJECT_SIZE,
    ROW,
    World,
)

INSTRUCTION_LENGTH = 11
"""Words of the longest: "go to the small red object near the large blue object"."""

# Which properties a noun names: bits of a number. Its shape not named, it is "object".
_SIZE, _COLOUR, _SHAPE = 1, 2, 4
_NOUNS = 8

_GO, _TO, _FIND, _THE, _NEAR, _OBJECT = range(len(TEMPLATE))


@numba.njit(cache=True)
def instruct(
    world: World, room: int, rules: Rules, colours: int, words: NDArray[np.uint8], state: np.uint64
) -> np.uint64:
    """Write an instruction that means the room's target.

    `colours` is how many the preset has; `words` is what `words_of` gives.
    """
    objects = world.objects[room, : world.object_count[room]]
    target = int(world.target[room])
    relation, state = below(state, 2)
    noun, landmark, landmark_noun = 0, NONE, 0
    if rules.relations and relation:
        noun, landmark, landmark_noun, state = _draw_relation(objects, target, rules.sizes, state)
    if landmark == NONE:
        noun, state = _draw_noun(objects, target, rules.sizes, state)
    verb, state = below(state, 2)
    text = world.instruction[room]
    text[:] = 0
    at = _say(text, 0, words, _GO if verb else _FIND)
    if verb:
        at = _say(text, at, words, _TO)
    at = _say_noun(text, at, words, noun, objects[target], rules.sizes, colours)
    if landmark != NONE:
        at = _say(text, at, words, _NEAR)
        _say_noun(text, at, words, landmark_noun, objects[landmark], rules.sizes, colours)
    if rules.shuffled:
        other, state = below(state, len(objects))
        world.target[room] = other
    return state


@numba.njit(cache=True)
def _fits(noun: int, item: NDArray[np.uint8], like: NDArray[np.uint8]) -> bool:
    """Tell whether a noun, as it is said of one object, is true of an item as well."""
    return bool(
        (not noun & _SIZE or item[OBJECT_SIZE] == like[OBJECT_SIZE])
        and (not noun & _COLOUR or item[OBJECT_COLOUR] == like[OBJECT_COLOUR])
        and (not noun & _SHAPE or item[OBJECT_SHAPE] == like[OBJECT_SHAPE])
    )


@numba.njit(cache=True)
def _can_be_said(noun: int, sizes: int) -> bool:
    """Something is named; sizes only where there are several, and not alone."""
    return bool(noun > _SIZE and (sizes > 1 or not noun & _SIZE))


@numba.njit(cache=True)
def _means_one(noun: int, objects: NDArray[np.uint8], target: int) -> bool:
    """Tell whether a noun said of the target is true of no other object."""
    for item in range(len(objects)):
        if item != target and _fits(noun, objects[item], objects[target]):
            return False
    return True


@numba.njit(cache=True)
def _means_one_near(noun: int, objects: NDArray[np.uint8], target: int, landmark: int) -> bool:
    """The same among the objects near a landmark, itself not counted."""
    row, column = objects[landmark, ROW], objects[landmark, COLUMN]
    for item in range(len(objects)):
        counted = item != target and item != landmark and is_near(objects[item], row, column)
        if counted and _fits(noun, objects[item], objects[target]):
            return False
    return True


@numba.njit(cache=True)
def _draw_noun(
    objects: NDArray[np.uint8], target: int, sizes: int, state: np.uint64
) -> tuple[int, np.uint64]:
    """Draw one of the nouns that mean the target alone."""
    drawn, seen = NONE, 0
    for noun in range(_NOUNS):
        if _can_be_said(noun, sizes) and _means_one(noun, objects, target):
            drawn, seen, state = _keep_one(drawn, noun, seen, state)
    return drawn, state


@numba.njit(cache=True)
def _draw_relation(
    objects: NDArray[np.uint8], target: int, sizes: int, state: np.uint64
) -> tuple[int, int, int, np.uint64]:
    """Draw a noun, a landmark, and the landmark's noun; the landmark is NONE if there is none."""
    drawn, seen = NONE, 0
    for landmark in range(len(objects)):
        row, column = objects[landmark, ROW], objects[landmark, COLUMN]
        if landmark == target or not is_near(objects[target], row, column):
            continue
        for noun in range(_NOUNS):
            if not _can_be_said(noun, sizes):
                continue
            if not _means_one_near(noun, objects, target, landmark):
                continue
            for beside in range(_NOUNS):
                if _can_be_said(beside, sizes) and _means_one(beside, objects, landmark):
                    code = (landmark * _NOUNS + noun) * _NOUNS + beside
                    drawn, seen, state = _keep_one(drawn, code, seen, state)
    if drawn == NONE:
        return 0, NONE, 0, state
    return drawn // _NOUNS % _NOUNS, drawn // (_NOUNS * _NOUNS), drawn % _NOUNS, state


@numba.njit(cache=True)
def _keep_one(
    drawn: int, candidate: int, seen: int, state: np.uint64
) -> tuple[int, int, np.uint64]:
    """Keep each of the candidates seen so far with the same chance (reservoir sampling)."""
    chance, state = below(state, seen + 1)
    return (candidate if chance == 0 else drawn), seen + 1, state


@numba.njit(cache=True)
def _say(text: NDArray[np.uint8], at: int, words: NDArray[np.uint8], word: int) -> int:
    """Write a word; give where the next one goes."""
    text[at] = words[word]
    return at + 1


@numba.njit(cache=True)
def _say_noun(
    text: NDArray[np.uint8],
    at: int,
    words: NDArray[np.uint8],
    noun: int,
    item: NDArray[np.uint8],
    sizes: int,
    colours: int,
) -> int:
    """Write "the", the properties that a noun names, and "object" if the shape is none of them."""
    first_size = len(TEMPLATE)
    first_colour = first_size + sizes
    first_shape = first_colour + colours
    at = _say(text, at, words, _THE)
    if noun & _SIZE:
        at = _say(text, at, words, first_size + item[OBJECT_SIZE])
    if noun & _COLOUR:
        at = _say(text, at, words, first_colour + item[OBJECT_COLOUR])
    if noun & _SHAPE:
        return _say(text, at, words, first_shape + item[OBJECT_SHAPE])
    return _say(text, at, words, _OBJECT)
