"""Questions about MiniGrid worlds against a plain reading of what is there, and answerability
against every world that agrees with what was sensed."""

import itertools
import re

import numpy as np
import pytest

from groundling.envs.minigrid_questions import (
    COLOURS,
    KINDS,
    NEAR_DISTANCE,
    QUESTION_TYPES,
    TYPES,
    VOCABULARY,
    Scene,
    Thing,
    sample_questions,
)
from groundling.envs.questions import NOT_SEEN, QUESTION_LENGTH
from groundling.envs.vocabulary import ANSWERS, NUMBERS

HUES = ("red", "blue", "grey")
"""Enough colours to be in doubt about, even where one is ruled out."""
CONTENTS = [None, *itertools.product(KINDS, HUES)]


def the_only(things, asked):
    return asked(things[0]) if len(things) == 1 else None


def read(text, things):
    """The plain reading: the answer in a world of things (kind, colour, place), None where the
    question presupposes what is not so."""

    def called(name, among):
        return [thing for thing in among if name in thing[:2]]

    near = re.fullmatch(r"(.*) near the (\w+) (\w+) \?", text)
    if near:
        landmarks = [thing for thing in things if thing[:2] == (near[3], near[2])]
        if len(landmarks) != 1:
            return None
        (column, row) = landmarks[0][2]
        things = [
            thing
            for thing in things
            if thing is not landmarks[0]
            and abs(thing[2][0] - column) <= NEAR_DISTANCE
            and abs(thing[2][1] - row) <= NEAR_DISTANCE
        ]
        text = f"{near[1]} ?"
    if found := re.fullmatch(r"what is the colour of the (\w+) \?", text):
        return the_only(called(found[1], things), lambda thing: thing[1])
    if found := re.fullmatch(r"what shape is the (\w+) object \?", text):
        return the_only(called(found[1], things), lambda thing: thing[0])
    if found := re.fullmatch(r"is there a (\w+) (\w+) \?", text):
        return ANSWERS[any(thing[:2] == (found[2], found[1]) for thing in things)]
    found = re.fullmatch(r"how many (\w+) objects are there \?", text)
    return NUMBERS[len(called(found[1], things))]


def every_text():
    for kind in KINDS:
        yield f"how many {kind} objects are there ?"
        yield f"what is the colour of the {kind} ?"
    for colour in COLOURS:
        yield f"how many {colour} objects are there ?"
        yield f"what shape is the {colour} object ?"
    for kind, colour in itertools.product(KINDS, COLOURS):
        yield f"is there a {colour} {kind} ?"
        for other in KINDS:
            yield f"what is the colour of the {other} near the {colour} {kind} ?"
        for other in COLOURS:
            yield f"what shape is the {other} object near the {colour} {kind} ?"


def random_scene(generator, unsensed=2):
    """Some cells of a small grid, a few of them not sensed."""
    cells = [tuple(place) for place in np.ndindex(5, 3)]
    places = [cells[i] for i in generator.permutation(len(cells))[: 4 + unsensed]]
    hidden = places[:unsensed]
    things = []
    for place in places:
        content = CONTENTS[generator.integers(len(CONTENTS))]
        if content is not None and generator.random() < 0.8:
            age = None if place in hidden else int(generator.integers(9))
            things.append(Thing(*content, place, age))
    if generator.random() < 0.5:  # It carries a thing, perhaps above another one.
        things.append(Thing("ball", "grey", places[-1], 0))
    return Scene(things, hidden, 9)


def plainly(things):
    return [thing[:3] for thing in things]


def worlds_of(scene):
    """Every world that agrees with what was sensed."""
    sensed = plainly(thing for thing in scene.things if thing.age is not None)
    for contents in itertools.product(CONTENTS, repeat=len(scene.unsensed)):
        yield sensed + [
            (*content, place)
            for content, place in zip(contents, scene.unsensed, strict=True)
            if content is not None
        ]


def candidates_of(scene):
    return [one for question_type in TYPES for one in question_type.candidates(scene)]


def test_every_question_that_a_world_admits_is_found_and_answered_as_it_reads() -> None:
    generator = np.random.default_rng(1)
    for _ in range(60):
        scene = random_scene(generator)
        found = {one.text: one.answer for one in candidates_of(scene)}
        expected = {text: read(text, plainly(scene.things)) for text in every_text()}
        assert found == {text: answer for text, answer in expected.items() if answer is not None}
        assert len(found) == len(candidates_of(scene))


@pytest.mark.parametrize(("unsensed", "scenes"), [(0, 40), (1, 60), (2, 50), (3, 4)])
def test_answerable_is_what_all_consistent_worlds_agree_on(unsensed: int, scenes: int) -> None:
    generator = np.random.default_rng(unsensed)
    settled = 0
    for _ in range(scenes):
        scene = random_scene(generator, unsensed)
        worlds = list(worlds_of(scene))
        for one in candidates_of(scene):
            if set(one.text.split()) & set(COLOURS) - set(HUES):
                continue  # No world below has such a thing.
            answers = {read(one.text, world) for world in worlds} - {None}
            assert one.answer in answers
            assert (one.judge() is not None) == (len(answers) == 1), (one.text, scene)
            settled += len(answers) == 1
    assert settled > scenes


def test_a_landmark_can_be_deduced_without_being_seen() -> None:
    key, ball = Thing("key", "red", (0, 0), 4), Thing("ball", "blue", (1, 1), None)
    steps = {
        one.text: one.judge() for one in candidates_of(Scene([key, ball], [(1, 1), (9, 9)], 5))
    }
    text = "what is the colour of the key near the blue ball ?"
    assert steps[text] == 4  # The cell far away has no key near it, nor room for one.
    elsewhere = Scene([key, ball], [(1, 1), (9, 9), (9, 8)], 5)
    assert {one.text: one.judge() for one in candidates_of(elsewhere)}[text] is None


def test_steps_since_seen_are_of_the_stalest_thing_needed_and_of_the_freshest_for_a_yes() -> None:
    things = [
        Thing("key", "red", (0, 0), 3),
        Thing("key", "red", (4, 0), 7),
        Thing("ball", "blue", (1, 0), 5),
    ]
    steps = {one.text: one.judge() for one in candidates_of(Scene(things, [], 9))}
    assert steps["is there a red key ?"] == 3
    assert steps["how many key objects are there ?"] == 7
    assert steps["what is the colour of the ball ?"] == 5
    assert steps["what shape is the red object near the blue ball ?"] == 5
    for text in ("how many box objects are there ?", "is there a grey door ?"):
        assert steps[text] == NOT_SEEN


def test_every_question_fits_and_every_answer_is_a_word() -> None:
    for text in every_text():
        assert len(VOCABULARY.encode(text, QUESTION_LENGTH)) == QUESTION_LENGTH
    for word in (*KINDS, *COLOURS, *NUMBERS, *ANSWERS):
        assert VOCABULARY.index(word)


def test_what_is_drawn_is_told_as_it_is() -> None:
    generator = np.random.default_rng(3)
    scenes = [random_scene(generator) for _ in range(20)]
    questions = sample_questions(scenes, generator)
    assert questions.world.tolist() == sorted(questions.world.tolist())
    for i in range(len(questions)):
        scene = scenes[questions.world[i]]
        kind = TYPES[questions.type[i]]
        (one,) = [c for c in kind.candidates(scene) if c.text == questions.text(i, VOCABULARY)]
        assert questions.answer_text(i, VOCABULARY) == one.answer
        assert tuple(questions.arguments[i]) == one.arguments
        steps = one.judge()
        assert questions.answerable[i] == (steps is not None)
        assert questions.steps_since_seen[i] == (NOT_SEEN if steps is None else steps)
        assert questions.elapsed[i] == 9
    assert len(sample_questions([], generator)) == 0


def test_no_is_wanted_as_often_as_yes_and_other_answers_alike() -> None:
    generator = np.random.default_rng(4)
    things = [Thing("key", hue, (i, 0), 0) for i, hue in enumerate(COLOURS[:5])]
    things.append(Thing("box", "red", (5, 5), 0))
    questions = sample_questions([Scene(things, [], 0)] * 4000, generator)
    for kind, share in (("existence_key", 0.5), ("count_colour", 1 / 3)):
        words = questions.answer[questions.type == QUESTION_TYPES.index(kind)]
        _, number = np.unique(words, return_counts=True)
        assert len(number) == round(1 / share)
        assert number / len(words) == pytest.approx(share, abs=0.03)
    # There is no door: half of these questions want a yes, and are not asked.
    doors = int((questions.type == QUESTION_TYPES.index("existence_door")).sum())
    assert 1800 < doors < 2200


def test_more_things_than_there_are_words_for_are_not_counted() -> None:
    things = [Thing("key", "red", (i, 0), 0) for i in range(len(NUMBERS))]
    texts = {one.text for one in candidates_of(Scene(things, [], 0))}
    assert "how many ball objects are there ?" in texts
    assert "how many key objects are there ?" not in texts
