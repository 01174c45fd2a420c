"""Questions about rooms read by their own words: the slow reference of answers and of knowledge.

`understand` turns a text into a plain Python function of a list of objects. It gives the true
answer; asked about every world an agent could still be in, it tells what is answerable.
"""

import re
from dataclasses import dataclass
from itertools import combinations, permutations, product

import numpy as np

from groundling.envs.rooms.world import COLOUR, FIRST_SHAPE, NEVER, SIZE, WALL, WHAT
from groundling.envs.vocabulary import NUMBERS


@dataclass(frozen=True)
class Thing:
    row: int
    column: int
    shape: str
    colour: str


def read_things(world, room, preset):
    """List a room's objects as they stand in its cells, with whether each was sensed."""
    things = []
    for row, column in np.argwhere(world.cells[room, :, :, WHAT] >= FIRST_SHAPE):
        cell = world.cells[room, row, column].astype(int)
        assert cell[SIZE] in (1, 2)
        shape = preset.shape_names[cell[WHAT] - FIRST_SHAPE]
        thing = Thing(int(row), int(column), shape, preset.colour_names[cell[COLOUR] - 1])
        things.append((thing, world.seen_at[room, row, column] != NEVER))
    return things


def near(one, other):
    return max(abs(one.row - other.row), abs(one.column - other.column)) <= 2


def the_only(things):
    return things[0] if len(things) == 1 else None


def understand(text):
    """Turn a question into a function: objects → answer, None if its presupposition fails."""

    def has(word):
        return lambda thing: word in (thing.shape, thing.colour)

    def count(things, word):
        return len(list(filter(has(word), things)))

    def find(things, word, beside=None):
        if beside is None:
            return the_only(list(filter(has(word), things)))
        landmark = the_only(list(filter(has(beside), things)))
        if landmark is None:
            return None
        others = [thing for thing in things if thing is not landmark and near(thing, landmark)]
        return the_only(list(filter(has(word), others)))

    def property_of(name, *words):
        def answer(things):
            found = find(things, *words)
            return None if found is None else getattr(found, name)

        return answer

    def yes_or_no(holds):
        return lambda things: "yes" if holds(things) else "no"

    readings = [
        (r"what is the colour of the (\w+) \?", lambda a: property_of("colour", a)),
        (r"what shape is the (\w+) object \?", lambda a: property_of("shape", a)),
        (r"is there a (\w+) \?", lambda a: yes_or_no(lambda things: count(things, a) > 0)),
        (
            r"how many (\w+) objects are there \?",
            lambda a: lambda things: NUMBERS[count(things, a)],
        ),
        (
            r"are there more (\w+) than (\w+) objects \?",
            lambda a, b: yes_or_no(lambda things: count(things, a) > count(things, b)),
        ),
        (
            r"what is the colour of the (\w+) near the (\w+) \?",
            lambda a, b: property_of("colour", a, b),
        ),
        (
            r"what shape is the (\w+) object near the (\w+) \?",
            lambda a, b: property_of("shape", a, b),
        ),
    ]
    matches = [(re.fullmatch(pattern, text), make) for pattern, make in readings]
    (matched, make) = the_only([pair for pair in matches if pair[0]])
    return make(*matched.groups())


def spoken_of(text, things):
    """Give the objects that a question names as the only ones of their kind."""
    pattern = r"what (?:is the colour of|shape is) the (\w+)(?: object)?(?: near the (\w+))? \?"
    match = re.fullmatch(pattern, text)
    if match is None:
        return []
    word, beside = match.groups()
    having = [thing for thing in things if word in (thing.shape, thing.colour)]
    if beside is None:
        return [the_only(having)]
    landmark = the_only([thing for thing in things if thing.shape == beside])
    beside_it = [thing for thing in having if thing is not landmark and near(thing, landmark)]
    return [the_only(beside_it), landmark]


def consistent_worlds(world, room, preset):
    """Yield every list of objects that the agent could still take its room to hold."""
    things = read_things(world, room, preset)
    sensed = [thing for thing, was_sensed in things if was_sensed]
    places = np.argwhere(
        (world.cells[room, :, :, WHAT] != WALL) & (world.seen_at[room] == NEVER)
    ).tolist()
    kinds = list(product(preset.shape_names, preset.colour_names))
    hidden = len(things) - len(sensed)
    for chosen in combinations(places, hidden):
        for assigned in product(kinds, repeat=hidden):
            unsensed = [Thing(*place, *kind) for place, kind in zip(chosen, assigned, strict=True)]
            yield sensed + unsensed


def settled(text, worlds):
    """Whether all worlds in which the question makes sense give it the same answer."""
    answer_in = understand(text)
    answers = set()
    for things in worlds:
        answers.add(answer_in(things))
        if len(answers - {None}) > 1:
            return False
    assert answers - {None}, "the true world is one of the consistent ones"
    return True


def every_text(preset):
    """Every question that can be put into words, sensible or not."""
    shapes, colours = preset.shape_names, preset.colour_names
    for shape in shapes:
        yield from (f"what is the colour of the {shape} ?", f"is there a {shape} ?")
    for colour in colours:
        yield f"what shape is the {colour} object ?"
    for kind in shapes + colours:
        yield f"how many {kind} objects are there ?"
    for first, second in [*permutations(shapes, 2), *permutations(colours, 2)]:
        yield f"are there more {first} than {second} objects ?"
    for shape, landmark in permutations(shapes, 2):
        yield f"what is the colour of the {shape} near the {landmark} ?"
    for colour, landmark in product(colours, shapes):
        yield f"what shape is the {colour} object near the {landmark} ?"
