"""What is answerable, against enumeration of every world an agent could still be in."""

from collections import Counter

import numpy as np
import pytest

from groundling.envs.rooms.judging import where_objects_may_stand
from groundling.envs.rooms.questions import sample_questions
from groundling.envs.rooms.wording import QUESTION_TYPES

from .handmade import ask_everything, make_preset, make_room, make_world
from .reading import consistent_worlds, places_of, read_things, settled

HOUSES = (
    # height, width, preset, with doorways
    (1, 8, make_preset(3, 2, 3), False),
    (2, 5, make_preset(4, 2, 2), False),
    (2, 3, make_preset(2, 2, 3), False),
    (2, 4, make_preset(3, 2, (0, 2)), False),
    (1, 7, make_preset(3, 2, (1, 3)), False),
    (2, 4, make_preset(3, 2, 2, sizes=2), False),
    (1, 6, make_preset(3, 1, (1, 2), sizes=2), False),
    (3, 4, make_preset(3, 2, (1, 3)), True),
)


def compare_with_enumeration(seed, rooms, houses):
    """Check every question about small random rooms; count what was met, by type and verdict."""
    generator = np.random.default_rng(seed)
    met = Counter()
    for height, width, preset, doorways in houses:
        world = make_world(generator, rooms, height, width, preset, 0.2, doorways)
        questions = sample_questions(world, preset, generator)
        for room in range(rooms):
            worlds = list(consistent_worlds(world, room, preset))
            things = read_things(world, room, preset)
            for row in np.flatnonzero(questions.world == room):
                text, verdict = questions.text(row), bool(questions.answerable[row])
                assert settled(text, worlds) == verdict, (text, things)
                name = QUESTION_TYPES[questions.type[row]]
                met[name, verdict] += 1
                if verdict:
                    met.update(remarkable(text, name, things, preset))
    return met


def remarkable(text, name, things, preset):
    """What is not a matter of course about a question that is answerable."""
    sensed = [thing for thing, was_sensed in things if was_sensed]
    if name.startswith("near") and all(thing.shape != text.split()[-2] for thing in sensed):
        yield "near, deduced"
    if name.startswith("comparison") and len(sensed) < len(things):
        yield "comparison, early"
    if name.startswith("count") and len(things) < preset.most_objects_drawn:
        yield "count, no place left"


def check_enumeration_met_every_case(met, least):
    for name in QUESTION_TYPES:
        assert met[name, True] >= least, (name, met)
        assert met[name, False] >= least, (name, met)
    for case in ("near, deduced", "comparison, early", "count, no place left"):
        assert met[case] > 0, met


def test_answerable_is_what_enumerating_consistent_worlds_says():
    check_enumeration_met_every_case(compare_with_enumeration(8, 60, HOUSES), least=5)


@pytest.mark.slow
def test_answerable_is_what_enumerating_consistent_worlds_says_in_more_rooms():
    more = (
        (2, 5, make_preset(4, 2, 3), False),
        (1, 7, make_preset(3, 2, 4), False),
        (3, 3, make_preset(2, 3, 3), False),
        (2, 6, make_preset(5, 1, 3), False),
        (2, 5, make_preset(3, 2, (0, 3)), False),
        (2, 3, make_preset(3, 2, (1, 3), sizes=2), False),
        (4, 5, make_preset(3, 2, (2, 3)), True),
    )
    check_enumeration_met_every_case(compare_with_enumeration(9, 150, HOUSES + more), least=30)


def test_objects_stand_on_no_wall_in_no_doorway_and_beside_none():
    generator = np.random.default_rng(15)
    preset = make_preset(3, 2, (0, 4))
    world = make_world(generator, 50, 3, 5, preset, walls=0.1, doorways=True)
    for room in range(50):
        expected = np.zeros(world.seen_at.shape[1:], np.bool_)
        expected[tuple(np.array(places_of(world, room)).T)] = True
        np.testing.assert_array_equal(where_objects_may_stand(world.cells[room]), expected)


# ---------------------------------------------------------------------- steps since seen


def test_steps_since_seen_are_those_of_the_objects_needed():
    preset = make_preset(4, 3, 4)
    room = [
        (3, 3, "key", "red", 7),
        (3, 4, "ball", "green", 20),
        (6, 6, "box", "red", 3),
        (6, 3, "box", "blue", 30),
    ]
    said = ask_everything(make_room(room, copies=3000), preset)
    expected = {
        "what is the colour of the key ?": ("red", True, 7),
        "what shape is the green object ?": ("ball", True, 20),
        "is there a box ?": ("yes", True, 3),  # the freshest
        "is there a lamp ?": ("no", True, -1),
        "how many box objects are there ?": ("two", True, 30),  # the stalest
        "how many red objects are there ?": ("two", True, 7),
        "how many lamp objects are there ?": ("zero", True, -1),
        "are there more box than key objects ?": ("yes", True, 30),
        "are there more lamp than ball objects ?": ("no", True, 20),
        "are there more red than blue objects ?": ("yes", True, 30),
        "what is the colour of the key near the ball ?": ("red", True, 20),
        "what shape is the green object near the key ?": ("ball", True, 20),
    }
    assert {text: said[text] for text in expected} == expected
    # Ambiguous: two boxes, two red objects. Nothing is near: the boxes, the ball from afar.
    assert "what is the colour of the box ?" not in said
    assert "what shape is the red object ?" not in said
    assert not any("near the box" in text or "the box near" in text for text in said)


def test_a_question_that_cannot_be_answered_has_no_steps():
    preset = make_preset(4, 3, 4)
    room = [
        (3, 3, "key", "red", 7),
        (3, 4, "ball", "green", None),
        (6, 6, "box", "red", 3),
        (6, 3, "box", "blue", None),
    ]
    said = ask_everything(make_room(room, copies=3000), preset)
    expected = {
        "what is the colour of the key ?": ("red", True, 7),
        "what is the colour of the ball ?": ("green", False, -1),
        "is there a box ?": ("yes", True, 3),
        "is there a ball ?": ("yes", False, -1),
        "is there a lamp ?": ("no", False, -1),
        "how many key objects are there ?": ("one", False, -1),
        "are there more box than key objects ?": ("yes", False, -1),
        "what is the colour of the ball near the key ?": ("green", False, -1),
        "what shape is the green object near the key ?": ("ball", False, -1),
    }
    assert {text: said[text] for text in expected} == expected


def test_a_lead_that_cannot_be_caught_up_with_is_answered_early():
    preset = make_preset(4, 3, 3)
    room = [
        (3, 3, "key", "red", 7),
        (3, 6, "key", "green", 9),
        (6, 6, "box", "red", None),
    ]
    said = ask_everything(make_room(room, copies=3000), preset)
    assert said["are there more key than ball objects ?"] == ("yes", True, 9)
    assert said["are there more ball than key objects ?"] == ("no", True, 9)
    assert said["are there more key than box objects ?"] == ("yes", True, 9)
    assert said["are there more ball than lamp objects ?"] == ("no", False, -1)


RED_KEY, BALL = (3, 3, "key", "red", 7), (3, 2, "ball", "green", None)


@pytest.mark.parametrize(
    ("others", "unsensed", "answerable"),
    [
        # The ball is the last object: it stands where "the key near it" makes sense.
        ([], [], True),
        ([], [(6, 5), (6, 6)], True),
        # It may as well stand beside a key of another colour.
        ([(6, 6, "key", "blue", 1)], [(6, 5)], False),
        # Between two keys there would be no "the key", wherever else it stands the key is red.
        ([(3, 6, "key", "red", 1)], [(3, 5)], True),
        # Two objects are left. Far from the red key, they could be a ball and a key of any colour
        # if the places left allow them to be near each other.
        ([(6, 6, "lamp", "red", None)], [], True),
        ([(6, 6, "lamp", "red", None)], [(6, 5)], False),
    ],
)
def test_where_the_unsensed_landmark_must_stand_is_deduced(others, unsensed, answerable):
    preset = make_preset(4, 3, 2 + len(others))
    room = make_room([RED_KEY, BALL, *others], copies=3000, unsensed=unsensed)
    question = "what is the colour of the key near the ball ?"
    assert settled(question, consistent_worlds(room, 0, preset)) == answerable
    expected = ("red", answerable, 7 if answerable else -1)
    assert ask_everything(room, preset)[question] == expected


@pytest.mark.parametrize(
    ("objects", "unsensed", "answerable"),
    [
        ((1, 2), [], True),  # Every cell was sensed.
        ((1, 2), [(5, 5)], False),
        ((1, 1), [(5, 5)], True),
        ((2, 2), [(5, 5)], False),
    ],
)
def test_there_is_no_more_once_no_object_can_be_left(objects, unsensed, answerable):
    preset = make_preset(4, 3, objects)
    things = [(3, 3, "key", "red", 7), (6, 6, "ball", "blue", None)]
    room = make_room(things[: objects[0]], copies=1000, unsensed=unsensed)
    said = ask_everything(room, preset)
    assert said["is there a lamp ?"] == ("no", answerable, -1)
    assert said["how many red objects are there ?"] == ("one", answerable, 7 if answerable else -1)
    assert said["is there a key ?"] == ("yes", True, 7)


def test_a_lead_must_be_larger_than_the_most_objects_that_may_be_left():
    things = [(3, 3, "key", "red", 7), (3, 6, "key", "green", 9)]
    for most, unsensed, answerable in [
        (3, [(6, 5), (6, 6)], True),
        (4, [(6, 5), (6, 6)], False),
        (4, [(6, 6)], True),  # There is but one place left.
    ]:
        room = make_room(things, copies=2000, unsensed=unsensed)
        said = ask_everything(room, make_preset(4, 3, (1, most)))
        assert said["are there more key than ball objects ?"] == (
            "yes",
            answerable,
            9 if answerable else -1,
        )


def test_a_doorway_and_the_cells_beside_it_hide_nothing():
    preset = make_preset(4, 3, (1, 3))
    unsensed = [(5, 5), (5, 4), (4, 5), (6, 5), (5, 6)]
    for doorways, answerable in [([(5, 5)], True), ([], False)]:
        room = make_room([(3, 3, "key", "red", 7)], 1000, unsensed=unsensed, doorways=doorways)
        assert ask_everything(room, preset)["is there a lamp ?"] == ("no", answerable, -1)


def test_sizes_tell_objects_apart_and_are_told():
    preset = make_preset(4, 3, 4, sizes=2)
    room = [
        (3, 3, "key", "red", 7),
        (3, 6, "key", "green", 20, "large"),
        (6, 6, "box", "red", 3, "large"),
        (6, 3, "ball", "blue", None, "large"),
    ]
    said = ask_everything(make_room(room, copies=3000), preset)
    expected = {
        "how large is the box ?": ("large", True, 3),
        "how large is the ball ?": ("large", False, -1),
        "what is the colour of the small key ?": ("red", True, 7),
        "what is the colour of the large key ?": ("green", True, 20),
        "what is the colour of the large ball ?": ("blue", False, -1),
        "what shape is the small red object ?": ("key", True, 7),
        "what shape is the large red object ?": ("box", True, 3),
        "is there a small key ?": ("yes", True, 7),
        "is there a small box ?": ("no", False, -1),
        "how many large objects are there ?": ("three", False, -1),
    }
    assert {text: said[text] for text in expected} == expected
    assert not {"how large is the key ?", "what is the colour of the small box ?"} & set(said)
