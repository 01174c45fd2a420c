"""The questions that rooms admit against a plain reading of their words."""

import numpy as np
import pytest

from groundling.envs.rooms.questions import sample_questions
from groundling.envs.rooms.world import World

from .handmade import ask_everything, make_preset, make_room, make_world
from .reading import every_text, read_things, understand


@pytest.mark.parametrize(
    ("height", "width", "preset"),
    [
        (5, 5, make_preset(8, 6, 3)),
        (7, 7, make_preset(4, 3, 8, sizes=2)),
        (9, 6, make_preset(20, 10, 20)),
        (2, 3, make_preset(3, 2, 1, sizes=2)),
        (4, 5, make_preset(5, 4, (1, 6), sizes=2)),
    ],
)
def test_answers_agree_with_a_plain_reading_of_the_question(height, width, preset):
    generator = np.random.default_rng(1)
    world = make_world(generator, 600, height, width, preset)
    questions = sample_questions(world, preset, generator)
    for number in range(len(questions)):
        things = [thing for thing, _ in read_things(world, questions.world[number], preset)]
        text = questions.text(number)
        # An ambiguous question has the reference answer None.
        assert understand(text)(things) == questions.answer_text(number), (text, things)


@pytest.mark.parametrize("sizes", [1, 2])
def test_all_unambiguous_questions_about_a_room_can_be_asked_and_no_others(sizes):
    preset = make_preset(4, 3, 4, sizes)
    world = make_world(np.random.default_rng(12), 20, 3, 4, preset)
    for room in range(20):
        things = [thing for thing, _ in read_things(world, room, preset)]
        sensible = {text for text in every_text(preset) if understand(text)(things) is not None}
        copies = World(*(np.repeat(array[room : room + 1], 2000, axis=0) for array in world))
        assert set(ask_everything(copies, preset)) == sensible


def test_rows_of_objects_that_do_not_exist_are_not_read():
    preset = make_preset(4, 3, 2)
    world = make_room([(3, 3, "key", "red", 1), (3, 4, "ball", "blue", 2)], copies=300)
    longer = np.concatenate([world.objects, np.full((300, 3, 5), 1, np.uint8)], axis=1)
    padded = world._replace(objects=longer)
    assert ask_everything(padded, preset) == ask_everything(world, preset)
