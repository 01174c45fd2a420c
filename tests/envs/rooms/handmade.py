"""Rooms made by hand, or at random, for questions: sensed in part, with walls, with doorways."""

from dataclasses import dataclass

import numpy as np

from groundling.envs.rooms.layout import empty_world
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.questions import sample_questions
from groundling.envs.rooms.world import DOORWAY, FIRST_SHAPE, FLOOR, NEVER, SIZE, WALL, WHAT
from groundling.envs.vocabulary import COLOURS, SHAPES, SIZES


@dataclass(frozen=True)
class Preset:
    shape_names: tuple[str, ...]
    colour_names: tuple[str, ...]
    size_names: tuple[str, ...]
    fewest_objects: int
    most_objects_drawn: int
    combinations: str = "all"


def make_preset(shapes, colours, objects=3, sizes=1):
    """The first shapes and colours; `objects` is a number or a range."""
    low, high = objects if isinstance(objects, tuple) else (objects, objects)
    return Preset(SHAPES[:shapes], COLOURS[:colours], SIZES[:sizes], low, high)


def world_of(rooms, **arrays):
    """A world of these arrays; the others say nothing of interest."""
    return empty_world(rooms, RoomsOptions())._replace(**arrays)


def make_world(generator, rooms, height, width, preset, walls=0.0, doorways=False, margin=2):
    """Random rooms, each sensed to a random extent at random times of 50 steps.

    With doorways a wall with a doorway in it, open or closed, halves the rooms.
    """
    shape = (rooms, height + 2 * margin, width + 2 * margin)
    cells = np.zeros((*shape, 3), np.uint8)
    cells[..., WHAT] = WALL
    cells[:, margin:-margin, margin:-margin, WHAT] = FLOOR
    free = np.ones((rooms, height, width), np.bool_)
    if doorways:
        free &= _halve(generator, cells[:, margin:-margin, margin:-margin])
    free = free.reshape(rooms, -1)
    # Objects take the first places of a random order, walls some of the last ones.
    order = np.argsort(generator.random(free.shape) + ~free, axis=1)
    row, column = order // width + margin, order % width + margin
    room = np.arange(rooms)[:, None]
    low, most = preset.fewest_objects, preset.most_objects_drawn
    count = generator.integers(low, most + 1, rooms)
    wall = generator.random(order.shape) < walls
    wall &= (np.arange(order.shape[1]) >= count[:, None]) & free[room, order]
    cells[room.repeat(order.shape[1], 1)[wall], row[wall], column[wall], WHAT] = WALL
    row, column = row[:, :most], column[:, :most]
    names = (preset.shape_names, preset.colour_names, preset.size_names)
    kinds = [generator.integers(0, len(words), row.shape) for words in names]
    listed = np.stack([row, column, *kinds], axis=-1).astype(np.uint8)
    exists = np.arange(most) < count[:, None]
    there = room.repeat(most, 1)[exists], row[exists], column[exists]
    cells[there] = listed[exists][:, 2:] + np.array([FIRST_SHAPE, 1, 1], np.uint8)
    sensed = generator.random(shape) < generator.random((rooms, 1, 1))
    return world_of(
        rooms,
        cells=cells,
        seen_at=np.where(sensed, generator.integers(0, 51, shape), NEVER).astype(np.int16),
        objects=listed,
        object_count=count.astype(np.uint8),
        reached=np.zeros((rooms, most), np.bool_),
        elapsed=np.full(rooms, 50, np.int16),
    )


def _halve(generator, cells):
    """Put a wall with a doorway across rooms, in place; tell which cells may hold objects."""
    rooms, height, width, _ = cells.shape
    middle, room, at = width // 2, np.arange(rooms), generator.integers(0, height, rooms)
    closed = generator.random(rooms) < 0.5
    cells[:, :, middle, WHAT] = WALL
    cells[room, at, middle, WHAT] = np.where(closed, WALL, FLOOR)
    cells[room, at, middle, SIZE] = DOORWAY
    free = cells[..., WHAT] == FLOOR
    for column in (middle - 1, middle, middle + 1):
        free[room, at, column] = False
    return free


def make_room(objects, copies=1, elapsed=50, unsensed=(), doorways=(), size=9):
    """Copies of one room: objects are (row, column, shape, colour, steps since seen or None) and,
    where one is not small, its size."""
    cells = np.zeros((size, size, 3), np.uint8)
    cells[..., WHAT] = WALL
    cells[2:-2, 2:-2, WHAT] = FLOOR
    for cell in doorways:
        cells[cell][SIZE] = DOORWAY
    seen_at = np.full((size, size), elapsed, np.int16)
    listed = []
    for row, column, shape, colour, age, *large in objects:
        kind = SHAPES.index(shape), COLOURS.index(colour), len(large)
        cells[row, column] = FIRST_SHAPE + kind[0], 1 + kind[1], 1 + kind[2]
        seen_at[row, column] = NEVER if age is None else elapsed - age
        listed.append((row, column, *kind))
    for cell in unsensed:
        seen_at[cell] = NEVER
    return world_of(
        copies,
        cells=np.repeat(cells[None], copies, axis=0),
        seen_at=np.repeat(seen_at[None], copies, axis=0),
        objects=np.array([listed] * copies, np.uint8).reshape(copies, -1, 5),
        object_count=np.full(copies, len(listed), np.uint8),
        reached=np.zeros((copies, len(listed)), np.bool_),
        elapsed=np.full(copies, elapsed, np.int16),
    )


def ask_everything(world, preset):
    """{text: (answer, answerable, steps since seen)} over many copies of one room."""
    questions = sample_questions(world, preset, np.random.default_rng(0))
    columns = (questions.answer, questions.answerable, questions.steps_since_seen)
    rows = np.column_stack([questions.tokens, *columns])
    found = {}
    for number in np.unique(rows, axis=0, return_index=True)[1]:
        said = (
            questions.answer_text(number),
            bool(questions.answerable[number]),
            int(questions.steps_since_seen[number]),
        )
        assert found.setdefault(questions.text(number), said) == said
    return found
