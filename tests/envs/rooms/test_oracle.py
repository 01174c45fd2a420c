"""The ideal observer against exact enumeration of worlds and questions, and blind guesses."""

import dataclasses
from collections import Counter, defaultdict
from functools import cache
from itertools import product

import numpy as np
import pytest
from scipy.special import comb

from groundling.envs.questions import RAREST, Questions, balance, concatenate
from groundling.envs.rooms.combinations import held_out
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.oracle import answer_priors, guess, posteriors
from groundling.envs.rooms.questions import language_in, sample_questions
from groundling.envs.rooms.typed import typed_question
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.envs.rooms.wording import QUESTION_TYPES
from groundling.envs.rooms.world import FIRST_SHAPE, NEVER, WHAT
from groundling.envs.vocabulary import SIZES, VOCABULARY

from .handmade import make_preset, make_room, make_world
from .reading import consistent_worlds, every_text, places_of, understand

TINY = {"size": 5, "shapes": 3, "colours": 2, "view_size": 3}


def sense_at_random(world, generator):
    """Have sensed a random share of every room, at any step of 50."""
    shape = world.seen_at.shape
    sensed = generator.random(shape) < generator.random((shape[0], 1, 1))
    world.seen_at[...] = np.where(sensed, generator.integers(0, 51, shape), NEVER)
    world.elapsed[...] = 50


def rooms_sensed_at_random(rooms, seed, **options):
    env = RoomsVectorEnv(rooms, **options)
    env.reset(seed=seed)
    sense_at_random(env.world, np.random.default_rng(seed))
    return env


def words_of(options):
    """[types, codes]: the word ids of answers."""
    return language_in(options).answers


# ---------------------------------------------------------------------- exact enumeration


def type_of(text, options):
    """What a text has in common with the others of its type: all words but the arguments."""
    names = dict.fromkeys(options.shape_names, "SHAPE")
    names |= dict.fromkeys(options.colour_names, "COLOUR") | dict.fromkeys(SIZES, "SIZE")
    return " ".join(names.get(word, word) for word in text.split())


def is_possible(things, options):
    """Whether a room may hold these things."""
    absent = held_out(len(options.shape_names), len(options.colour_names))
    kinds = [
        (options.shape_names.index(thing.shape), options.colour_names.index(thing.colour))
        for thing in things
    ]
    return options.combinations == "all" or not any(absent[kind] for kind in kinds)


def number_of_kinds(options):
    """How many combinations of shape, colour and size objects may have."""
    absent = held_out(len(options.shape_names), len(options.colour_names))
    missing = np.sum(absent) if options.combinations == "familiar" else 0
    return (absent.size - missing) * len(options.size_names)


def types_asked(options):
    """How many of the question types are asked: without sizes, the first nine."""
    return len(QUESTION_TYPES) if len(options.size_names) > 1 else 9


def exact_posteriors(world, room, options):
    """{text: {answer: P(answer | text, what was sensed)}} for all questions that could be asked."""
    texts = defaultdict(list)
    for text in every_text(options):
        texts[type_of(text, options)].append((text, understand(text)))
    weights = defaultdict(Counter)
    cells, kinds = len(places_of(world, room)), number_of_kinds(options)
    for things in consistent_worlds(world, room, options):
        if not is_possible(things, options):
            continue
        # All numbers of objects are alike, all ways to place so many, and all kinds of each.
        likelihood = 1 / comb(cells, len(things)) / kinds ** len(things)
        for same_type in texts.values():
            said = {text: answer_in(things) for text, answer_in in same_type}
            tally = Counter(answer for answer in said.values() if answer is not None)
            choices = 2 if {"yes", "no"} & tally.keys() else len(tally)
            for text, answer in said.items():
                if answer is not None:
                    weights[text][answer] += likelihood / choices / tally[answer]
    return {
        text: {answer: weight / counts.total() for answer, weight in counts.items()}
        for text, counts in weights.items()
    }


def varied_questions(world, options, least, generator):
    """Questions about rooms with few consistent worlds: each type is asked `least` times,
    answerable and not."""
    questions, met, chosen = sample_questions(world, options, generator), Counter(), []
    for room in np.flatnonzero(number_of_worlds(world, options) < 1000):
        asked = questions.world == room
        cases = list(zip(questions.type[asked], questions.answerable[asked], strict=True))
        if any(met[case] < least for case in cases):
            met.update(cases)
            chosen.append(room)
    for case in product(range(types_asked(options)), [False, True]):
        assert met[case] >= least, (case, met)
    return questions[np.isin(questions.world, chosen)]


def number_of_worlds(world, options):
    """[B]: how many worlds are consistent with what was sensed."""
    kinds = number_of_kinds(options)
    found = []
    for room in range(len(world.cells)):
        seen_at = world.seen_at[room]
        places = sum(seen_at[place] == NEVER for place in places_of(world, room))
        sensed = np.sum((world.cells[room, :, :, WHAT] >= FIRST_SHAPE) & (seen_at != NEVER))
        low, high = options.fewest_objects - sensed, options.most_objects_drawn - sensed
        hidden = np.arange(max(0, low), high + 1)
        found.append(np.sum(comb(places, hidden) * kinds**hidden))
    return np.array(found)


def compare_posteriors(seed, world, options, least):
    """Check posteriors in small rooms; give the questions and what is exactly so: [N, codes]."""
    generator = np.random.default_rng(seed)
    questions = varied_questions(world, options, least, generator)
    estimates = posteriors(world, options, questions, generator, 20_000)
    exact = {room: exact_posteriors(world, room, options) for room in set(questions.world)}
    expected = np.zeros(estimates.shape)
    for row, words in enumerate(words_of(options)[questions.type]):
        told = exact[questions.world[row]][questions.text(row)]
        expected[row] = [told.get(word, 0) for word in read(words)]
        np.testing.assert_allclose(
            estimates[row], expected[row], atol=0.04, err_msg=questions.text(row)
        )
    return questions, expected


def compare_with_enumeration(seed, rooms, least, **options):
    """Check posteriors and guesses in small random rooms."""
    env = rooms_sensed_at_random(rooms, seed, **TINY | options)
    questions, exact = compare_posteriors(seed, env.world, env.rooms, least)
    guesses = guess(env.world, env.rooms, questions, np.random.default_rng(seed), 40_000)
    words, priors, right = words_of(env.rooms), answer_priors(env.rooms), Counter()
    for row, number in enumerate(questions.type):
        ratio = np.where(priors[number] >= RAREST, exact[row] / priors[number].clip(1e-9), 0)
        second, first = np.argsort(ratio)[-2:]
        if not questions.answerable[row] and ratio[first] > 1.3 * ratio[second]:
            assert guesses[row] == words[number, first], (questions.text(row), ratio)
            right[bool(guesses[row] == questions.answer[row])] += 1
    assert min(right[True], right[False]) > 5


def read(words):
    """Give the words of ids, "" for no word."""
    return [VOCABULARY.decode([word]) for word in words]


def test_posteriors_and_guesses_are_those_of_enumeration():
    compare_with_enumeration(5, 2000, least=3, objects=3)


def test_posteriors_and_guesses_know_which_kinds_are_familiar():
    compare_with_enumeration(6, 2000, least=3, objects=2, layout="l_shape", combinations="familiar")


@pytest.mark.parametrize(
    ("preset", "height", "width", "doorways"),
    [
        (make_preset(3, 2, (1, 4)), 3, 4, False),
        (make_preset(3, 2, (2, 3), sizes=2), 3, 3, False),
        (make_preset(3, 2, (0, 3)), 3, 5, True),
    ],
)
def test_posteriors_know_how_many_objects_there_may_be_and_where(preset, height, width, doorways):
    generator = np.random.default_rng(8)
    world = make_world(generator, 1500, height, width, preset, 0.1, doorways)
    _, exact = compare_posteriors(8, world, preset, least=3)
    unsure = (exact > 0.1).sum(axis=1) > 1
    assert np.sum(unsure) > 30


def test_a_landmark_nobody_sensed_makes_larger_numbers_no_less_likely():
    # Far from the key the ball needs another key beside it, and so another object.
    preset = make_preset(3, 2, (2, 4))
    far = [(6, 4), (6, 5), (6, 6), (5, 6), (4, 6), (3, 6)]
    room = [(3, 3, "key", "red", 1), (3, 2, "ball", "green", None)]
    world = make_room(room, unsensed=far)
    question = typed_question(world, preset, "what is the colour of the key near the ball ?")
    estimate = posteriors(world, preset, question, np.random.default_rng(9), 100_000)[0, :2]
    told = exact_posteriors(world, 0, preset)[question.text(0)]
    assert 0.1 < told["green"] < 0.4
    np.testing.assert_allclose(estimate, [told["red"], told["green"]], atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("combinations", ["all", "familiar"])
def test_posteriors_and_guesses_are_those_of_enumeration_in_more_rooms(combinations):
    compare_with_enumeration(7, 5000, least=20, objects=3, colours=3, combinations=combinations)


# ---------------------------------------------------------------------- what must hold anywhere


@cache
def walked():
    """Unsettled and settled questions on the explorer's way, the guesses, and what was sampled."""
    env = RoomsVectorEnv(1000, size=5, objects=3, shapes=8, colours=6, sizes=2, view_size=3)
    env.reset(seed=1)
    generator = np.random.default_rng(0)
    moments = []
    for step in range(22):
        if step % 3 == 0:
            questions = env.ask(generator)
            estimates = posteriors(env.world, env.rooms, questions, generator, 64)
            moments.append((questions, estimates, env.guess(questions, generator)))
        env.step(env.explorer_actions())
    questions, estimates, guesses = zip(*moments, strict=True)
    numbered = dataclasses.replace(
        concatenate(questions), world=np.arange(sum(map(len, questions)))
    )
    return env.rooms, numbered, np.concatenate(estimates), np.concatenate(guesses)


def test_what_is_settled_is_found_out_by_imagining_worlds():
    options, questions, estimates, guesses = walked()
    settled = questions.answerable
    np.testing.assert_array_equal(guesses[settled], questions.answer[settled])
    words = words_of(options)[questions.type]
    right = np.where(words == questions.answer[:, None], estimates, 0).sum(axis=1)[settled]
    drawn = estimates.sum(axis=1)[settled] > 0
    np.testing.assert_allclose(right[drawn], 1)
    assert drawn.mean() > 0.999
    assert len(drawn) > 20_000
    assert np.mean(np.isclose(right, 1)) > 0.999
    unsettled = np.where(words == questions.answer[:, None], estimates, 0).sum(axis=1)[~settled]
    assert np.mean(unsettled) < 0.6


def test_guesses_are_better_than_the_majority_answer_and_best_where_something_can_be_known():
    _, questions, _, guesses = walked()
    balanced = balance(questions[~questions.answerable], np.random.default_rng(0))
    right = guesses[balanced.world] == balanced.answer
    # What the exact share of each group of answers would give, to about 0.03.
    least = {"existence": 0.56, "count": 0.54, "comparison": 0.68, "near": 0.24, "attribute": 0}
    for number, name in enumerate(QUESTION_TYPES):
        group = balanced.type == number
        majority = 1 / len(set(balanced.answer[group].tolist()))
        error = np.sqrt(majority * (1 - majority) / group.sum())
        assert group.sum() > 1000
        assert right[group].mean() > majority - 3 * error, name
        assert right[group].mean() > least[name.split("_")[0]], name


def test_answers_that_balancing_drops_are_never_guessed():
    options, questions, estimates, guesses = walked()
    unsettled = ~questions.answerable
    for number, name in enumerate(QUESTION_TYPES):
        group = unsettled & (questions.type == number)
        shares = np.bincount(questions.answer[group], minlength=len(VOCABULARY)) / group.sum()
        assert np.all(shares[guesses[group]] > RAREST * 0.9), name
    three = words_of(options)[QUESTION_TYPES.index("count_shape"), 3]
    thought_of = (questions.type == QUESTION_TYPES.index("count_shape")) & (estimates[:, 3] > 0)
    assert VOCABULARY.decode([three]) == "three"
    assert np.sum(thought_of & unsettled) > 100


def test_priors_are_the_shares_of_answers_to_what_is_not_answerable():
    options = RoomsOptions(layout="l_shape", objects=4, shapes=5, colours=4, sizes=2, view_size=3)
    env = rooms_sensed_at_random(30_000, 3, **vars(options))
    questions = env.ask(np.random.default_rng(0))
    questions = questions[~questions.answerable]
    priors, words = answer_priors(options), words_of(options)
    for number in range(len(QUESTION_TYPES)):
        answers = questions.answer[questions.type == number]
        shares = np.bincount(answers, minlength=len(VOCABULARY)) / len(answers)
        shares[0] = 0
        np.testing.assert_allclose(priors[number], shares[words[number]], atol=0.015)
    assert priors.sum(axis=1) == pytest.approx(1)
    assert priors[QUESTION_TYPES.index("existence"), 0] > 0.55


def test_without_a_sample_any_answer_is_as_good_that_is_not_too_rare():
    env = rooms_sensed_at_random(4000, 4, **TINY, sizes=2, objects=3)
    generator = np.random.default_rng(0)
    questions = env.ask(generator)
    guesses = guess(env.world, env.rooms, questions, generator, samples=0)
    priors, words = answer_priors(env.rooms), words_of(env.rooms)
    for number in range(len(QUESTION_TYPES)):
        group = (questions.type == number) & ~questions.answerable
        counts = np.bincount(guesses[group], minlength=len(VOCABULARY))
        frequent = words[number][priors[number] >= RAREST]
        expected = group.sum() / len(frequent)
        assert counts[frequent].sum() == group.sum() > 200
        assert np.all(np.abs(counts[frequent] - expected) < 5 * np.sqrt(expected))


def test_a_question_is_judged_by_itself_and_nothing_but_the_generator_changes():
    env = rooms_sensed_at_random(60, 5, **TINY, objects=3)
    before = env.get_state()
    questions = env.ask(np.random.default_rng(0))
    together = posteriors(env.world, env.rooms, questions, np.random.default_rng(1), 50)
    some = np.random.default_rng(2).permutation(len(questions))[:40]
    apart = posteriors(env.world, env.rooms, questions[some], np.random.default_rng(1), 50)
    np.testing.assert_array_equal(apart, together[some])
    other = posteriors(env.world, env.rooms, questions, np.random.default_rng(3), 50)
    assert not np.array_equal(other, together)
    for seeds in ((1, 1), (1, 2)):
        guesses = [env.guess(questions, np.random.default_rng(seed)) for seed in seeds]
        assert np.array_equal(*guesses) == (seeds == (1, 1))
    for name, array in env.get_state().items():
        np.testing.assert_array_equal(array, before[name])


def test_what_is_not_asked_of_these_rooms_is_refused():
    env = rooms_sensed_at_random(10, 6, **TINY, objects=3)
    generator = np.random.default_rng(0)
    questions = env.ask(generator)
    for world in (questions.world - 1, questions.world + 1):
        elsewhere: Questions = dataclasses.replace(questions, world=world, answerable=world < -1)
        with pytest.raises(ValueError, match="not about one of the 10 rooms"):
            env.guess(elsewhere, generator)
    other = rooms_sensed_at_random(10, 6, **TINY | {"shapes": ("vase", "bed", "cup")}, objects=3)
    questions = other.ask(generator)
    assert not questions.answerable.all()
    with pytest.raises(ValueError, match="not one that is asked of these rooms"):
        env.guess(questions, generator)
    assert len(env.guess(env.ask(generator)[:0], generator)) == 0
