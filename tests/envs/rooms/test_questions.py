"""How questions are drawn and worded, and that nothing is gained by reading them alone."""

import re
from collections import Counter, defaultdict
from itertools import product

import numpy as np
import pytest

from groundling.envs.questions import QUESTION_LENGTH, balance, concatenate
from groundling.envs.rooms.combinations import held_out
from groundling.envs.rooms.questions import (
    _choose,
    chances_of_answers,
    sample_questions,
    tally_answers,
)
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.envs.rooms.wording import ATTRIBUTE, EXISTENCE, QUESTION_TYPES
from groundling.envs.vocabulary import COLOURS, SHAPES, SIZES, VOCABULARY

from .handmade import make_preset, make_room, make_world
from .reading import read_things, spoken_of

PATTERNS = {
    "attribute_colour": r"what is the colour of the SHAPE \?",
    "attribute_shape": r"what shape is the COLOUR object \?",
    "existence": r"is there a SHAPE \?",
    "count_shape": r"how many SHAPE objects are there \?",
    "count_colour": r"how many COLOUR objects are there \?",
    "comparison_shape": r"are there more SHAPE than SHAPE objects \?",
    "comparison_colour": r"are there more COLOUR than COLOUR objects \?",
    "near_colour": r"what is the colour of the SHAPE near the SHAPE \?",
    "near_shape": r"what shape is the COLOUR object near the SHAPE \?",
    "attribute_size": r"how large is the SHAPE \?",
    "attribute_colour_sized": r"what is the colour of the SIZE SHAPE \?",
    "attribute_shape_sized": r"what shape is the SIZE COLOUR object \?",
    "existence_sized": r"is there a SIZE SHAPE \?",
    "count_size": r"how many SIZE objects are there \?",
}


def arguments_of(words):
    """The arguments of a question that names these words, of which a size goes with the next."""
    codes = [
        next(names.index(word) for names in (SHAPES, COLOURS, SIZES) if word in names)
        for word in words
    ]
    if words[0] in SIZES and len(words) == 2:
        return [codes[1] * len(SIZES) + codes[0], -1]
    return [*codes, -1][:2]


def test_every_type_is_asked_in_its_own_words_and_at_most_once_per_room():
    preset = make_preset(8, 6, 4, sizes=2)
    generator = np.random.default_rng(2)
    questions = sample_questions(make_world(generator, 400, 5, 5, preset), preset, generator)
    assert tuple(PATTERNS) == QUESTION_TYPES
    words = {"SHAPE": preset.shape_names, "COLOUR": preset.colour_names, "SIZE": SIZES}
    for number, pattern in enumerate(PATTERNS.values()):
        for name, choices in words.items():
            pattern = pattern.replace(name, f"({'|'.join(choices)})")
        asked = np.flatnonzero(questions.type == number)
        assert len(asked) > 200
        assert len(set(questions.world[asked])) == len(asked)
        for row in asked:
            match = re.fullmatch(pattern, questions.text(row))
            assert match, questions.text(row)
            assert questions.arguments[row].tolist() == arguments_of(match.groups())
            assert len(set(match.groups())) == len(match.groups())
    by_room_and_type = questions.world * len(PATTERNS) + questions.type
    assert np.all(np.diff(by_room_and_type) > 0)


def test_tokens_are_the_padded_ids_of_the_text():
    preset = make_preset(8, 6, 4, sizes=2)
    generator = np.random.default_rng(3)
    questions = sample_questions(make_world(generator, 50, 5, 5, preset), preset, generator)
    for row in range(len(questions)):
        encoded = VOCABULARY.encode(questions.text(row), QUESTION_LENGTH)
        assert questions.tokens[row].tolist() == encoded


def test_a_room_too_full_to_count_in_words_is_refused():
    preset = make_preset(4, 3, 21)
    world = make_world(np.random.default_rng(0), 2, 5, 5, preset)
    with pytest.raises(ValueError, match="up to 20 objects"):
        sample_questions(world, preset, np.random.default_rng(0))


def test_questions_follow_the_generator_and_change_nothing_else():
    preset = make_preset(8, 6, 4)
    world = make_world(np.random.default_rng(4), 100, 5, 5, preset)
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


PAPERS, SIZED = QUESTION_TYPES[:9], set(QUESTION_TYPES[9:])


@pytest.mark.parametrize(
    ("shapes", "colours", "sizes", "asked"),
    [
        (3, 2, 1, set(PAPERS)),
        (2, 2, 1, {name for name in PAPERS if not name.startswith("near")}),
        (3, 1, 1, {"attribute_shape", "existence", "count_shape", "comparison_shape"}),
        (1, 3, 1, {"attribute_colour", "count_colour", "comparison_colour"}),
        (1, 1, 1, set()),
        (3, 2, 2, set(QUESTION_TYPES)),
        (1, 1, 2, {"attribute_size", "existence_sized", "count_size"}),
    ],
)
def test_types_whose_answer_the_preset_gives_away_are_not_asked(shapes, colours, sizes, asked):
    generator = np.random.default_rng(7)
    types = []
    for objects in (1, 3):
        preset = make_preset(shapes, colours, objects, sizes)
        world = make_world(generator, 300, 3, 3, preset)
        types.append(sample_questions(world, preset, generator).type)
    assert {QUESTION_TYPES[number] for number in np.concatenate(types)} == asked


def test_what_is_asked_does_not_depend_on_sizes_or_on_how_many_objects_there_might_be():
    preset, generator = make_preset(5, 4, 4, sizes=2), np.random.default_rng(16)
    world = make_world(generator, 200, 4, 4, preset)
    others = (make_preset(5, 4, (1, 6), sizes=2), make_preset(5, 4, 4, sizes=1))
    told = [sample_questions(world, preset, np.random.default_rng(17))]
    for other in others:
        shrunk = world._replace(
            objects=world.objects * np.array([1, 1, 1, 1, len(other.size_names) - 1], np.uint8)
        )
        told.append(sample_questions(shrunk, other, np.random.default_rng(17)))
    papers = [questions[questions.type < 9] for questions in told]
    for questions in papers[1:]:
        for name in ("world", "type", "arguments", "tokens", "answer"):
            np.testing.assert_array_equal(getattr(questions, name), getattr(papers[0], name))
    assert papers[0].answerable.sum() > papers[1].answerable.sum() > 0


# ---------------------------------------------------------------------- held-out combinations


@pytest.mark.parametrize(("shapes", "colours"), [(5, 4), (8, 6), (3, 4), (4, 1)])
def test_held_out_is_what_is_said_of_objects_of_held_out_combinations(shapes, colours):
    preset = make_preset(shapes, colours, 4, sizes=2)
    generator = np.random.default_rng(13)
    world = make_world(generator, 1500, 4, 4, preset)
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


# ---------------------------------------------------------------------- nothing for a blind guess


@pytest.fixture(scope="module")
def many_questions():
    """Questions about 60,000 rooms of 3 to 5 objects, 5 shapes, 4 colours and 2 sizes, with their
    preset."""
    preset = make_preset(5, 4, (3, 5), sizes=2)
    generator = np.random.default_rng(10)
    world = make_world(generator, 60_000, 5, 5, preset)
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
    preset = make_preset(8, 6, 3)
    generator = np.random.default_rng(11)
    questions = sample_questions(make_world(generator, 20_000, 5, 5, preset), preset, generator)
    for name in ("existence", "comparison_shape", "comparison_colour"):
        answers = questions.answer[questions.type == QUESTION_TYPES.index(name)]
        assert len(answers) == 20_000
        yes = int(np.sum(answers == VOCABULARY.index("yes")))
        assert within_sampling_error(yes, 1 / 2, len(answers)), name


def test_a_room_without_the_wanted_answer_is_not_asked():
    preset = make_preset(2, 2, 2)
    room = [(3, 3, "key", "red", 1), (5, 5, "ball", "red", 1)]
    questions = sample_questions(make_room(room, copies=2000), preset, np.random.default_rng(0))
    # Every shape exists, so "no" cannot be given: half of the rooms stay silent.
    answers = questions.answer[questions.type == QUESTION_TYPES.index("existence")]
    assert set(answers.tolist()) == {VOCABULARY.index("yes")}
    assert within_sampling_error(len(answers), 1 / 2, 2000)


def test_arguments_are_asked_about_equally_often(many_questions):
    _, questions, _ = many_questions
    named = dict.fromkeys(QUESTION_TYPES, 5) | dict.fromkeys(
        ["attribute_shape", "count_colour", "comparison_colour", "near_shape"], 4
    )
    named |= {"attribute_colour_sized": 10, "existence_sized": 10}
    named |= {"attribute_shape_sized": 8, "count_size": 2}
    for number, name in enumerate(QUESTION_TYPES):
        first = questions.arguments[questions.type == number, 0]
        size = named[name]
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
    assert {number for number, _ in possible} == set(range(len(QUESTION_TYPES)))
    for (number, answerable, arguments), counts in groups.items():
        allowed = set(possible[number, answerable])
        if QUESTION_TYPES[number] == "near_shape":
            allowed.remove(VOCABULARY.index(preset.shape_names[arguments[1]]))
        total = counts.total()
        for answer in allowed:
            assert within_sampling_error(counts[answer], 1 / len(allowed), total)
        assert set(counts) <= allowed


def check_blind_guesses(balanced, generator, least):
    """What is learned from half of the questions alone does not help with the other half."""
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
                if tokens.tobytes() in table
            )
            choices = len(set(unseen.answer.tolist()))
            # What is near the only ball is no ball, which any reader of the question knows.
            chance = 1 / (choices - 1 if name == "near_shape" else choices)
            assert len(unseen) > least, name
            assert within_sampling_error(right, chance, len(unseen)), (name, answerable)


def test_the_best_guess_from_the_question_alone_is_near_chance(many_questions):
    _, questions, generator = many_questions
    check_blind_guesses(balance(questions, generator), generator, least=250)


@pytest.mark.parametrize(
    ("pause", "house"),
    [
        (4, {"layout": "single", "size": 6}),
        (4, {"layout": "l_shape", "size": (6, 8)}),
        (8, {"layout": "two_rooms", "size": 4, "doors": True}),
        (8, {"layout": "four_rooms", "size": (3, 5)}),
        (8, {"layout": "corridor", "size": 3, "corridor_rooms": 3, "doors": True}),
    ],
    ids=lambda value: value["layout"] if isinstance(value, dict) else "",
)
def test_in_every_layout_all_types_are_asked_and_a_blind_guess_gains_nothing(pause, house):
    env = RoomsVectorEnv(4000, **house, objects=(2, 4), shapes=4, colours=3, sizes=2)
    env.reset(seed=18)
    generator, asked = np.random.default_rng(18), []
    for moment in range(5):  # Every house is asked about once.
        for _ in range(pause):
            env.step(env.explorer_actions())
        questions = env.ask(generator)
        asked.append(questions[questions.world % 5 == moment])
    check_blind_guesses(balance(concatenate(asked), generator), generator, least=20)
