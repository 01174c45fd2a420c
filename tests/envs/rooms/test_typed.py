"""Typed questions against drawn ones: the same words mean the same."""

import re

import numpy as np
import pytest

from groundling.envs.rooms.questions import sample_questions
from groundling.envs.rooms.typed import typed_question
from groundling.envs.rooms.vector import RoomsVectorEnv

from .handmade import make_preset, make_room, make_world

PRESET = make_preset(4, 3, (4, 6), sizes=2)


def test_a_typed_question_is_judged_like_a_drawn_one() -> None:
    generator = np.random.default_rng(0)
    world = make_world(generator, 60, 4, 4, PRESET, walls=0.1)
    asked = [sample_questions(world, PRESET, generator) for _ in range(3)]
    met = set()
    for drawn in asked:
        for position in range(len(drawn)):
            typed = typed_question(world, PRESET, drawn.text(position))
            assert (np.diff(typed.world) > 0).all()  # At most once in a room.
            (here,) = np.flatnonzero(typed.world == drawn.world[position])
            one, other = drawn[np.array([position])], typed[np.array([here])]
            for name, values in vars(one).items():
                np.testing.assert_array_equal(values, getattr(other, name), err_msg=name)
            met.add((int(drawn.type[position]), bool(drawn.answerable[position])))
    assert len(met) == 28  # Every type, answerable and not.


def test_what_is_not_the_only_one_is_not_asked_about() -> None:
    keys = [(2, 2, "key", "red", 0), (2, 4, "key", "green", 0), (4, 4, "ball", "red", None)]
    world = make_room(keys)
    assert len(typed_question(world, PRESET, "what is the colour of the key ?")) == 0
    assert len(typed_question(world, PRESET, "what is the colour of the ball ?")) == 1
    assert typed_question(world, PRESET, "how many red objects are there ?").answer_text(0) == "two"


def test_small_slips_are_forgiven() -> None:
    world = make_room([(2, 2, "key", "red", 3)])
    typed = typed_question(world, PRESET, "What is the colour of the key?")
    assert typed.answer_text(0) == "red"
    assert typed.steps_since_seen[0] == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("is there a kea ?", "unknown word 'kea'; the nearest known word is 'key'"),
        ("is there a guitar ?", "is no question of these rooms; the nearest is 'is there a "),
        ("is there the key ?", "the nearest is 'is there a key ?'"),
        ("", "is no question"),
    ],
)
def test_what_cannot_be_asked_is_told(text: str, expected: str) -> None:
    world = make_room([(2, 2, "key", "red", 3)])
    with pytest.raises(ValueError, match=re.escape(expected)):
        typed_question(world, PRESET, text)


def test_the_rooms_environment_takes_typed_questions() -> None:
    environment = RoomsVectorEnv(2, size=4, objects=3, view_size=3)
    environment.reset(seed=0)
    typed = environment.typed_question("how many red objects are there ?")
    assert typed.world.tolist() == [0, 1]
    assert typed.text(0) == "how many red objects are there ?"
