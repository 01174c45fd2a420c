"""Questions about rooms read by their own words: the slow reference of answers and of knowledge.

`understand` turns a text into a plain Python function of a list of objects. It gives the true
answer; asked about every world an agent could still be in, it tells what is answerable.
"""

import re
from dataclasses import dataclass
from itertools import combinations, permutations, product

import numpy as np

from groundling.envs.rooms.world import COLOUR, DOORWAY, FIRST_SHAPE, FLOOR, NEVER, SIZE, WALL, WHAT
from groundling.envs.vocabulary import NUMBERS

HERE_AND_BESIDE = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))

KIND = r"(?:small |large )?\w+"


@dataclass(frozen=True)
class Thing:
    row: int
    column: int
    shape: str
    colour: str
    size: str


def read_things(world, room, preset):
    """List a room's objects as they stand in its cells, with whether each was sensed."""
    things = []
    for row, column in np.argwhere(world.cells[room, :, :, WHAT] >= FIRST_SHAPE):
        cell = world.cells[room, row, column].astype(int)
        shape = preset.shape_names[cell[WHAT] - FIRST_SHAPE]
        colour, size = preset.colour_names[cell[COLOUR] - 1], preset.size_names[cell[SIZE] - 1]
        thing = Thing(int(row), int(column), shape, colour, size)
        things.append((thing, world.seen_at[room, row, column] != NEVER))
    return things


def is_called(thing, words):
    return set(words.split()) <= {thing.shape, thing.colour, thing.size}


def near(one, other):
    return max(abs(one.row - other.row), abs(one.column - other.column)) <= 2


def the_only(things):
    return things[0] if len(things) == 1 else None


def understand(text):
    """Turn a question into a function: objects → answer, None if its presupposition fails."""

    def has(words):
        return lambda thing: is_called(thing, words)

    def count(things, words):
        return len(list(filter(has(words), things)))

    def find(things, words, beside=None):
        if beside is None:
            return the_only(list(filter(has(words), things)))
        landmark = the_only(list(filter(has(beside), things)))
        if landmark is None:
            return None
        others = [thing for thing in things if thing is not landmark and near(thing, landmark)]
        return the_only(list(filter(has(words), others)))

    def property_of(name, *words):
        def answer(things):
            found = find(things, *words)
            return None if found is None else getattr(found, name)

        return answer

    def yes_or_no(holds):
        return lambda things: "yes" if holds(things) else "no"

    readings = [
        (rf"what is the colour of the ({KIND}) \?", lambda a: property_of("colour", a)),
        (r"how large is the (\w+) \?", lambda a: property_of("size", a)),
        (rf"what shape is the ({KIND}) object \?", lambda a: property_of("shape", a)),
        (rf"is there a ({KIND}) \?", lambda a: yes_or_no(lambda things: count(things, a) > 0)),
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
    asks = "what is the colour of|what shape is|how large is"
    pattern = rf"(?:{asks}) the ({KIND})(?: object)?(?: near the (\w+))? \?"
    match = re.fullmatch(pattern, text)
    if match is None:
        return []
    words, beside = match.groups()
    having = [thing for thing in things if is_called(thing, words)]
    if beside is None:
        return [the_only(having)]
    landmark = the_only([thing for thing in things if thing.shape == beside])
    beside_it = [thing for thing in having if thing is not landmark and near(thing, landmark)]
    return [the_only(beside_it), landmark]


def places_of(world, room):
    """List the cells of a room where objects may stand, as rows and columns."""
    what, mark = world.cells[room, :, :, WHAT], world.cells[room, :, :, SIZE]

    def is_doorway(row, column):
        return what[row, column] in (FLOOR, WALL) and mark[row, column] == DOORWAY

    return [
        (row, column)
        for row, column in np.argwhere(what != WALL).tolist()
        if not any(is_doorway(row + down, column + right) for down, right in HERE_AND_BESIDE)
    ]


def consistent_worlds(world, room, preset):
    """Yield every list of objects that the agent could still take its room to hold."""
    sensed = [thing for thing, was_sensed in read_things(world, room, preset) if was_sensed]
    seen_at = world.seen_at[room]
    places = [place for place in places_of(world, room) if seen_at[place] == NEVER]
    kinds = list(product(preset.shape_names, preset.colour_names, preset.size_names))
    for number in range(preset.fewest_objects, preset.most_objects_drawn + 1):
        hidden = number - len(sensed)
        if hidden < 0:
            continue
        for chosen in combinations(places, hidden):
            for assigned in product(kinds, repeat=hidden):
                unsensed = [
                    Thing(*place, *kind) for place, kind in zip(chosen, assigned, strict=True)
                ]
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
    shapes, colours, sizes = preset.shape_names, preset.colour_names, preset.size_names
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
    if len(sizes) == 2:
        yield from every_text_with_sizes(shapes, colours, sizes)


def every_text_with_sizes(shapes, colours, sizes):
    for shape in shapes:
        yield f"how large is the {shape} ?"
    for size, shape in product(sizes, shapes):
        yield f"what is the colour of the {size} {shape} ?"
        yield f"is there a {size} {shape} ?"
    for size, colour in product(sizes, colours):
        yield f"what shape is the {size} {colour} object ?"
    for size in sizes:
        yield f"how many {size} objects are there ?"
