"""Questions about rooms against the slow references of `reading.py`."""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest

from groundling.envs.questions import QUESTION_LENGTH, balance
from groundling.envs.rooms.combinations import held_out
from groundling.envs.rooms.questions import (
    _choose,
    chances_of_answers,
    sample_questions,
    tally_answers,
)
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.envs.rooms.wording import ATTRIBUTE, EXISTENCE, QUESTION_TYPES
from groundling.envs.rooms.world import (
    FIRST_SHAPE,
    FLOOR,
    NEVER,
    NONE,
    WALL,
    WHAT,
    World,
)
from groundling.envs.vocabulary import COLOURS, SHAPES, VOCABULARY

from .reading import consistent_worlds, every_text, read_things, settled, spoken_of, understand


@dataclass(frozen=True)
class Preset:
    shape_names: tuple[str, ...]
    colour_names: tuple[str, ...]


def make_preset(shapes, colours):
    return Preset(SHAPES[:shapes], COLOURS[:colours])


def make_world(generator, rooms, height, width, objects, preset, walls=0.0, margin=2):
    """Random rooms, each sensed to a random extent at random times of 50 steps."""
    shape = (rooms, height + 2 * margin, width + 2 * margin)
    inside = (slice(None), slice(margin, -margin), slice(margin, -margin))
    cells = np.zeros((*shape, 3), np.uint8)
    cells[..., WHAT] = WALL
    cells[inside][..., WHAT] = FLOOR
    # Objects take the first places of a random order, walls some of the last ones.
    order = np.argsort(generator.random((rooms, height * width)), axis=1)
    row, column = order // width + margin, order % width + margin
    room = np.arange(rooms)[:, None]
    wall = generator.random(order.shape) < walls
    wall[:, :objects] = False
    cells[room.repeat(order.shape[1], 1)[wall], row[wall], column[wall], WHAT] = WALL
    row, column = row[:, :objects], column[:, :objects]
    kinds = [
        generator.integers(0, len(preset.shape_names), row.shape),
        generator.integers(0, len(preset.colour_names), row.shape),
        generator.integers(0, 2, row.shape),
    ]
    listed = np.stack([row, column, *kinds], axis=-1).astype(np.uint8)
    cells[room, row, column] = listed[..., 2:] + np.array([FIRST_SHAPE, 1, 1], np.uint8)
    sensed = generator.random(shape) < generator.random((rooms, 1, 1))
    seen_at = np.where(sensed, generator.integers(0, 51, shape), NEVER)
    return World(
        cells=cells,
        seen_at=seen_at.astype(np.int16),
        objects=listed,
        object_count=np.full(rooms, objects, np.uint8),
        reached=np.zeros((rooms, objects), np.bool_),
        target=np.full(rooms, NONE, np.int8),
        instruction=np.zeros((rooms, 0), np.uint8),
        agent=np.zeros((rooms, 3), np.int16),
        elapsed=np.full(rooms, 50, np.int16),
        episode=np.zeros(rooms, np.int64),
        seed=np.arange(rooms, dtype=np.int64),
    )


def make_room(objects, preset, copies=1, elapsed=50, unsensed=(), size=9):
    """Copies of one room: objects are (row, column, shape, colour, steps since seen or None)."""
    cells = np.zeros((size, size, 3), np.uint8)
    cells[..., WHAT] = WALL
    cells[2:-2, 2:-2, WHAT] = FLOOR
    seen_at = np.full((size, size), elapsed, np.int16)
    listed = []
    for row, column, shape, colour, age in objects:
        kind = preset.shape_names.index(shape), preset.colour_names.index(colour), 0
        cells[row, column] = FIRST_SHAPE + kind[0], 1 + kind[1], 1 + kind[2]
        seen_at[row, column] = NEVER if age is None else elapsed - age
        listed.append((row, column, *kind))
    for cell in unsensed:
        seen_at[cell] = NEVER
    one = World(
        cells=cells,
        seen_at=seen_at,
        objects=np.array(listed, np.uint8).reshape(-1, 5),
        object_count=np.array(len(listed), np.uint8),
        reached=np.zeros(len(listed), np.bool_),
        target=np.array(NONE, np.int8),
        instruction=np.zeros(0, np.uint8),
        agent=np.zeros(3, np.int16),
        elapsed=np.array(elapsed, np.int16),
        episode=np.array(0),
        seed=np.array(0),
    )
    return World(*(np.repeat(array[None], copies, axis=0) for array in one))


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


# ---------------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("height", "width", "objects", "shapes", "colours"),
    [(5, 5, 3, 8, 6), (7, 7, 8, 4, 3), (9, 6, 20, 20, 10), (2, 3, 1, 3, 2)],
)
def test_answers_agree_with_a_plain_reading_of_the_question(
    height, width, objects, shapes, colours
):
    preset = make_preset(shapes, colours)
    generator = np.random.default_rng(1)
    world = make_world(generator, 600, height, width, objects, preset)
    questions = sample_questions(world, preset, generator)
    for number in range(len(questions)):
        things = [thing for thing, _ in read_things(world, questions.world[number], preset)]
        text = questions.text(number)
        # An ambiguous question has the reference answer None.
        assert understand(text)(things) == questions.answer_text(number), (text, things)


def test_all_unambiguous_questions_about_a_room_can_be_asked_and_no_others():
    preset = make_preset(4, 3)
    world = make_world(np.random.default_rng(12), 20, 3, 4, 4, preset)
    for room in range(20):
        things = [thing for thing, _ in read_things(world, room, preset)]
        sensible = {text for text in every_text(preset) if understand(text)(things) is not None}
        copies = World(*(np.repeat(array[room : room + 1], 2000, axis=0) for array in world))
        assert set(ask_everything(copies, preset)) == sensible


def test_every_type_is_asked_in_its_own_words_and_at_most_once_per_room():
    preset = make_preset(8, 6)
    generator = np.random.default_rng(2)
    questions = sample_questions(make_world(generator, 400, 5, 5, 4, preset), preset, generator)
    patterns = (
        r"what is the colour of the SHAPE \?",
        r"what shape is the COLOUR object \?",
        r"is there a SHAPE \?",
        r"how many SHAPE objects are there \?",
        r"how many COLOUR objects are there \?",
        r"are there more SHAPE than SHAPE objects \?",
        r"are there more COLOUR than COLOUR objects \?",
        r"what is the colour of the SHAPE near the SHAPE \?",
        r"what shape is the COLOUR object near the SHAPE \?",
    )
    assert len(patterns) == len(QUESTION_TYPES) == 9
    words = {"SHAPE": preset.shape_names, "COLOUR": preset.colour_names}
    for pattern, number in zip(patterns, range(9), strict=True):
        for name, choices in words.items():
            pattern = pattern.replace(name, f"({'|'.join(choices)})")
        asked = np.flatnonzero(questions.type == number)
        assert len(asked) > 200
        assert len(set(questions.world[asked])) == len(asked)
        for row in asked:
            match = re.fullmatch(pattern, questions.text(row))
            assert match, questions.text(row)
            # The arguments are the codes of the words named.
            codes = [(SHAPES.index(w) if w in SHAPES else COLOURS.index(w)) for w in match.groups()]
            assert questions.arguments[row].tolist() == [*codes, -1][:2]
            if len(codes) == 2:
                assert match[1] != match[2]
    by_room_and_type = questions.world * 9 + questions.type
    assert np.all(np.diff(by_room_and_type) > 0)


def test_tokens_are_the_padded_ids_of_the_text():
    preset = make_preset(8, 6)
    generator = np.random.default_rng(3)
    questions = sample_questions(make_world(generator, 50, 5, 5, 4, preset), preset, generator)
    for row in range(len(questions)):
        encoded = VOCABULARY.encode(questions.text(row), QUESTION_LENGTH)
        assert questions.tokens[row].tolist() == encoded


def test_rows_of_objects_that_do_not_exist_are_not_read():
    preset = make_preset(4, 3)
    world = make_room([(3, 3, "key", "red", 1), (3, 4, "ball", "blue", 2)], preset, copies=300)
    longer = np.concatenate([world.objects, np.full((300, 3, 5), 1, np.uint8)], axis=1)
    padded = world._replace(objects=longer)
    assert ask_everything(padded, preset) == ask_everything(world, preset)


def test_a_room_too_full_to_count_in_words_is_refused():
    preset = make_preset(4, 3)
    world = make_world(np.random.default_rng(0), 2, 5, 5, 21, preset)
    with pytest.raises(ValueError, match="up to 20 objects"):
        sample_questions(world, preset, np.random.default_rng(0))


def test_questions_follow_the_generator_and_change_nothing_else():
    preset = make_preset(8, 6)
    world = make_world(np.random.default_rng(4), 100, 5, 5, 4, preset)
    before = [array.copy() for array in world]
    generators = [np.random.default_rng(seed) for seed in (5, 5, 6)]
    one, same, other = (sample_questions(world, preset, generator) for generator in generators)
    for name, array in vars(one).items():
        np.testing.assert_array_equal(array, getattr(same, name))
    assert not np.array_equal(one.tokens, other.tokens)
    for array, copy in zip(world, before, strict=True):
        np.testing.assert_array_equal(array, copy)
    # Asking twice of one generator gives other questions.
    assert not np.array_equal(sample_questions(world, preset, generators[0]).tokens, one.tokens)


@pytest.mark.parametrize(
    ("shapes", "colours", "asked"),
    [
        (3, 2, set(QUESTION_TYPES)),
        (2, 2, {name for name in QUESTION_TYPES if not name.startswith("near")}),
        (3, 1, {"attribute_shape", "existence", "count_shape", "comparison_shape"}),
        (1, 3, {"attribute_colour", "count_colour", "comparison_colour"}),
        (1, 1, set()),
    ],
)
def test_types_whose_answer_the_preset_gives_away_are_not_asked(shapes, colours, asked):
    preset = make_preset(shapes, colours)
    generator = np.random.default_rng(7)
    worlds = [make_world(generator, 300, 3, 3, objects, preset) for objects in (1, 3)]
    types = [sample_questions(world, preset, generator).type for world in worlds]
    assert {QUESTION_TYPES[number] for number in np.concatenate(types)} == asked


# ---------------------------------------------------------------------- what is answerable


def compare_with_enumeration(seed, rooms, layouts):
    """Check every question about small random rooms; count what was met, by type and verdict."""
    generator = np.random.default_rng(seed)
    met = Counter()
    for height, width, objects, shapes, colours in layouts:
        preset = make_preset(shapes, colours)
        world = make_world(generator, rooms, height, width, objects, preset, walls=0.2)
        questions = sample_questions(world, preset, generator)
        for room in range(rooms):
            worlds = list(consistent_worlds(world, room, preset))
            sensed = {thing for thing, was_sensed in read_things(world, room, preset) if was_sensed}
            for row in np.flatnonzero(questions.world == room):
                text, verdict = questions.text(row), bool(questions.answerable[row])
                assert settled(text, worlds) == verdict, (text, read_things(world, room, preset))
                name = QUESTION_TYPES[questions.type[row]]
                met[name, verdict] += 1
                words = text.split()
                if verdict and name.startswith("near"):
                    met["near, deduced"] += all(thing.shape != words[-2] for thing in sensed)
                if verdict and name.startswith("comparison"):
                    met["comparison, early"] += len(sensed) < objects
    return met


def check_enumeration_met_every_case(met, least):
    for name in QUESTION_TYPES:
        assert met[name, True] >= least, (name, met)
        assert met[name, False] >= least, (name, met)
    assert met["near, deduced"] > 0
    assert met["comparison, early"] > 0


def test_answerable_is_what_enumerating_consistent_worlds_says():
    met = compare_with_enumeration(8, 60, [(1, 8, 3, 3, 2), (2, 5, 2, 4, 2), (2, 3, 3, 2, 2)])
    check_enumeration_met_every_case(met, least=5)


@pytest.mark.slow
def test_answerable_is_what_enumerating_consistent_worlds_says_in_more_rooms():
    layouts = [(1, 8, 3, 3, 2), (2, 5, 3, 4, 2), (1, 7, 4, 3, 2), (3, 3, 3, 2, 3), (2, 6, 3, 5, 1)]
    check_enumeration_met_every_case(compare_with_enumeration(9, 150, layouts), least=30)


# ---------------------------------------------------------------------- held-out combinations


@pytest.mark.parametrize(("shapes", "colours"), [(5, 4), (8, 6), (3, 4), (4, 1)])
def test_held_out_is_what_is_said_of_objects_of_held_out_combinations(shapes, colours):
    preset = make_preset(shapes, colours)
    generator = np.random.default_rng(13)
    world = make_world(generator, 1500, 4, 4, 4, preset)
    questions = sample_questions(world, preset, generator)
    table, met = held_out(shapes, colours), Counter()
    for number in range(len(questions)):
        things = [thing for thing, _ in read_things(world, questions.world[number], preset)]
        spoken = [
            table[preset.shape_names.index(thing.shape), preset.colour_names.index(thing.colour)]
            for thing in spoken_of(questions.text(number), things)
        ]
        assert questions.held_out[number] == any(spoken), (questions.text(number), things)
        met[tuple(map(bool, spoken))] += 1
    expected = set(product([False, True], repeat=2)) | {(False,), (True,), ()}
    if colours > 1:
        assert {spoken for spoken in expected if met[spoken] > 50} == expected
    else:
        assert not questions.held_out.any()


def test_no_question_about_familiar_rooms_is_held_out():
    rooms = {name: RoomsVectorEnv(500, combinations=name) for name in ("all", "familiar")}
    told = {}
    for name, env in rooms.items():
        env.reset(seed=0)
        told[name] = env.ask(np.random.default_rng(0)).held_out
    assert told["all"].any()
    assert not told["familiar"].any()


# ---------------------------------------------------------------------- steps since seen


def test_steps_since_seen_are_those_of_the_objects_needed():
    preset = make_preset(4, 3)
    room = [
        (3, 3, "key", "red", 7),
        (3, 4, "ball", "green", 20),
        (6, 6, "box", "red", 3),
        (6, 3, "box", "blue", 30),
    ]
    said = ask_everything(make_room(room, preset, copies=3000), preset)
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
    preset = make_preset(4, 3)
    room = [
        (3, 3, "key", "red", 7),
        (3, 4, "ball", "green", None),
        (6, 6, "box", "red", 3),
        (6, 3, "box", "blue", None),
    ]
    said = ask_everything(make_room(room, preset, copies=3000), preset)
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
    preset = make_preset(4, 3)
    room = [
        (3, 3, "key", "red", 7),
        (3, 6, "key", "green", 9),
        (6, 6, "box", "red", None),
    ]
    said = ask_everything(make_room(room, preset, copies=3000), preset)
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
    preset = make_preset(4, 3)
    room = make_room([RED_KEY, BALL, *others], preset, copies=3000, unsensed=unsensed)
    question = "what is the colour of the key near the ball ?"
    assert settled(question, consistent_worlds(room, 0, preset)) == answerable
    expected = ("red", answerable, 7 if answerable else -1)
    assert ask_everything(room, preset)[question] == expected


# ---------------------------------------------------------------------- nothing for a blind guess


@pytest.fixture(scope="module")
def many_questions():
    """Questions about 60,000 rooms of 4 objects, 5 shapes and 4 colours, with their preset."""
    preset = make_preset(5, 4)
    generator = np.random.default_rng(10)
    world = make_world(generator, 60_000, 5, 5, 4, preset)
    return preset, sample_questions(world, preset, generator), generator


def within_sampling_error(observed, expected, total):
    """Whether a binomial count is within 5 standard deviations of total × expected."""
    return abs(observed - total * expected) <= 5 * np.sqrt(total * expected * (1 - expected)) + 1


@pytest.mark.parametrize("family", [ATTRIBUTE, EXISTENCE])
@pytest.mark.parametrize("answers", [[0, 1, 1, 0, 0], [1, 1, 1], [4, 1, 4, 0]])
def test_questions_are_chosen_with_the_chances_that_are_told(family, answers):
    answers = np.array([min(answer, 1) if family == EXISTENCE else answer for answer in answers])
    states = np.random.default_rng(14).integers(0, 2**63, 20_000).astype(np.uint64)
    chosen = Counter(_choose(answers, family, state) for state in states)
    tally = tally_answers(answers)
    chances = chances_of_answers(tally, family)
    assert chances.sum() == (0.5 if family == EXISTENCE and answers.min() == 1 else 1)
    for number, answer in enumerate(answers):
        chance = chances[answer] / tally[answer]
        assert within_sampling_error(chosen[number], chance, len(states))


def test_yes_and_no_are_wanted_equally_often():
    # Rooms of 3 objects in 8 shapes and 6 colours always admit both answers.
    preset = make_preset(8, 6)
    generator = np.random.default_rng(11)
    questions = sample_questions(make_world(generator, 20_000, 5, 5, 3, preset), preset, generator)
    for name in ("existence", "comparison_shape", "comparison_colour"):
        answers = questions.answer[questions.type == QUESTION_TYPES.index(name)]
        assert len(answers) == 20_000
        yes = int(np.sum(answers == VOCABULARY.index("yes")))
        assert within_sampling_error(yes, 1 / 2, len(answers)), name


def test_a_room_without_the_wanted_answer_is_not_asked():
    preset = make_preset(2, 2)
    room = [(3, 3, "key", "red", 1), (5, 5, "ball", "red", 1)]
    questions = sample_questions(
        make_room(room, preset, copies=2000), preset, np.random.default_rng(0)
    )
    # Every shape exists, so "no" cannot be given: half of the rooms stay silent.
    answers = questions.answer[questions.type == QUESTION_TYPES.index("existence")]
    assert set(answers.tolist()) == {VOCABULARY.index("yes")}
    assert within_sampling_error(len(answers), 1 / 2, 2000)


def test_arguments_are_asked_about_equally_often(many_questions):
    preset, questions, _ = many_questions
    sizes = {"shape": len(preset.shape_names), "colour": len(preset.colour_names)}
    asked_first = dict.fromkeys(QUESTION_TYPES, "shape") | dict.fromkeys(
        ["attribute_shape", "count_colour", "comparison_colour", "near_shape"], "colour"
    )
    for number, name in enumerate(QUESTION_TYPES):
        first = questions.arguments[questions.type == number, 0]
        size = sizes[asked_first[name]]
        counts = np.bincount(first, minlength=size)
        assert len(counts) == size
        assert all(within_sampling_error(count, 1 / size, len(first)) for count in counts), name


def test_balanced_answers_are_flat_inside_every_argument_too(many_questions):
    preset, questions, generator = many_questions
    balanced = balance(questions, generator)
    groups = defaultdict(Counter)
    rows = zip(
        balanced.type.tolist(),
        balanced.answerable.tolist(),
        map(tuple, balanced.arguments.tolist()),
        balanced.answer.tolist(),
        strict=True,
    )
    possible = defaultdict(set)
    for number, answerable, arguments, answer in rows:
        groups[number, answerable, arguments][answer] += 1
        possible[number, answerable].add(answer)
    assert {number for number, _ in possible} == set(range(9))
    for (number, answerable, arguments), counts in groups.items():
        allowed = set(possible[number, answerable])
        if QUESTION_TYPES[number] == "near_shape":
            allowed.remove(VOCABULARY.index(preset.shape_names[arguments[1]]))
        total = counts.total()
        for answer in allowed:
            assert within_sampling_error(counts[answer], 1 / len(allowed), total)
        assert set(counts) <= allowed


def test_the_best_guess_from_the_question_alone_is_near_chance(many_questions):
    _, questions, generator = many_questions
    balanced = balance(questions, generator)
    training = generator.random(len(balanced)) < 0.5
    for number, name in enumerate(QUESTION_TYPES):
        for answerable in (False, True):
            group = (balanced.type == number) & (balanced.answerable == answerable)
            learned, unseen = balanced[group & training], balanced[group & ~training]
            table = defaultdict(Counter)
            for tokens, answer in zip(learned.tokens, learned.answer, strict=True):
                table[tokens.tobytes()][answer] += 1
            right = sum(
                table[tokens.tobytes()].most_common(1)[0][0] == answer
                for tokens, answer in zip(unseen.tokens, unseen.answer, strict=True)
            )
            choices = len(set(unseen.answer.tolist()))
            # What is near the only ball is no ball, which any reader of the question knows.
            chance = 1 / (choices - 1 if name == "near_shape" else choices)
            assert len(unseen) > 500
            assert within_sampling_error(right, chance, len(unseen)), (name, answerable)
