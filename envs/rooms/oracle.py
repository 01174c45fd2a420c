"""What an ideal observer answers, who knows how rooms and questions are drawn and remembers every
cell that was sensed.

What was sensed may leave many worlds possible. The observer draws some of them: unsensed objects
stand in any distinct unsensed cells that are no wall, and are of any kind that the options allow.
(That generation keeps free cells connected is ignored: it says little about where objects are.) The
question is a clue too: a world counts as much as it is likely to draw this very question, first the
answer and then, uniformly, a question that has it (`questions.py`). That is

    P(answer | question, sensed) ∝ Σ over worlds P(question | world) [the answer in this world].

Answers are balanced before anybody is scored, so the best guess is not the most probable answer but
the one that the evidence favours most: P(answer | question, sensed) / P(answer | group). Groups are
those of `groundling.envs.questions.balance`: all unanswerable questions of a type, whatever their
arguments and however much had been sensed. The rarest answers, which it drops, are never guessed.
"""

from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray

from groundling.envs.questions import RAREST, UNUSED, Questions
from groundling.envs.rooms.layout import built, draw_kind
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.questions import (
    ANSWER,
    FIRST,
    SECOND,
    ages_of,
    chances_of_answers,
    list_questions,
    read_kinds,
    sample_questions,
    space_for_questions,
    tally_answers,
    unsensed_places,
)
from groundling.envs.rooms.rng import below, mix
from groundling.envs.rooms.rules import absent_kinds
from groundling.envs.rooms.wording import ATTRIBUTE, NEAR, SHAPE, TYPES, Language, language_of
from groundling.envs.rooms.world import (
    COLUMN,
    NEVER,
    OBJECT_COLOUR,
    OBJECT_SHAPE,
    ROW,
    World,
)
from groundling.envs.vocabulary import PADDING

PRIOR_ROOMS = 20_000
"""Rooms from which the shares of the answers are estimated, once for all rooms of a kind."""


def guess(
    world: World,
    options: RoomsOptions,
    questions: Questions,
    generator: np.random.Generator,
    samples: int = 256,
) -> NDArray[np.int64]:
    """Answer questions about the world as it now stands as an ideal observer would: word ids [N].

    Answerable questions get their true answer. The others get the answer with the largest ratio of
    posterior to prior, the posterior estimated from `samples` worlds for each question. Ties are
    broken uniformly; so, among all answers that are not too rare, is it when no sampled world would
    draw the question.

    Raises ValueError if these rooms could not have been asked one of the questions.
    """
    guesses = questions.answer.copy()
    unsettled = np.flatnonzero(~questions.answerable)
    questions = questions[unsettled]
    posterior = posteriors(world, options, questions, generator, samples)
    prior = answer_priors(options)[questions.type]
    frequent = prior >= RAREST
    ratio = np.full(prior.shape, -1.0)
    ratio[frequent] = posterior[frequent] / prior[frequent]
    best = ratio == ratio.max(axis=1, keepdims=True)
    chosen = np.where(best, generator.random(best.shape), -1).argmax(axis=1)
    guesses[unsettled] = _language(options).answers[questions.type, chosen]
    return guesses


def posteriors(
    world: World,
    options: RoomsOptions,
    questions: Questions,
    generator: np.random.Generator,
    samples: int,
) -> NDArray[np.float64]:
    """Estimate P(answer | question, what was sensed): [N, codes of answers].

    Rows add up to 1, or to 0 if none of the sampled worlds would draw the question. Neither the
    true answer nor whether it is settled is looked at.

    Raises ValueError if these rooms could not have been asked one of the questions.
    """
    _check(questions, world, _language(options))
    weights = np.zeros((len(questions), _language(options).answers.shape[1]))
    _weigh_answers(
        world,
        np.ascontiguousarray(questions.world),
        _TYPES[questions.type],
        np.ascontiguousarray(questions.arguments),
        absent_kinds(options),
        samples,
        int(generator.integers(2**63)),
        weights,
    )
    total = weights.sum(axis=1, keepdims=True)
    posterior: NDArray[np.float64] = weights / np.where(total > 0, total, 1)
    return posterior


@lru_cache(maxsize=16)
def answer_priors(options: RoomsOptions) -> NDArray[np.float64]:
    """Estimate P(answer | type, not answerable): [types, codes of answers].

    How much an agent has sensed when it is asked is its own affair; here every share of the cells
    is as likely as any other, and every cell as likely to be among them.
    """
    generator = np.random.default_rng(0)
    world = built(options, np.arange(PRIOR_ROOMS))
    share = generator.random((PRIOR_ROOMS, 1, 1))
    world.seen_at[generator.random(world.seen_at.shape) < share] = 0
    questions = sample_questions(world, options, generator)
    questions = questions[~questions.answerable]
    words = _language(options).answers
    counts = (words != PADDING).astype(np.float64)  # one each, or a type never met would have none
    np.add.at(counts, questions.type, words[questions.type] == questions.answer[:, None])
    priors: NDArray[np.float64] = counts / counts.sum(axis=1, keepdims=True)
    return priors


_TYPES = np.array([(question_type.family, question_type.asked) for question_type in TYPES])
"""[types, 2]: family and the property that the first argument names."""


def _language(options: RoomsOptions) -> Language:
    return language_of(options.shape_names, options.colour_names)


def _check(questions: Questions, world: World, language: Language) -> None:
    """Refuse questions that the kernels would follow out of their arrays."""
    if np.any((questions.world < 0) | (questions.world >= len(world.cells))):
        raise ValueError(f"a question is not about one of the {len(world.cells)} rooms")
    first, second = questions.arguments.T
    if not np.array_equal(language.tokens[questions.type, first, second], questions.tokens):
        raise ValueError("a question is not one that is asked of these rooms")


@numba.njit(cache=True)
def _weigh_answers(
    world: World,
    rooms: NDArray[np.int64],
    types: NDArray[np.int64],
    arguments: NDArray[np.int64],
    absent: NDArray[np.bool_],
    samples: int,
    seed: int,
    weights: NDArray[np.float64],
) -> None:
    """Add to `weights` [N, codes] what `samples` consistent worlds say to each question.

    Rooms [N], types (family and asked property) [N, 2] and arguments [N, 2] are the questions'.
    Every room and type has a random stream of its own.
    """
    candidates = space_for_questions(max(absent.shape), world.objects.shape[1])
    for number in range(len(rooms)):
        room, family, asked = rooms[number], types[number, 0], types[number, 1]
        objects = world.objects[room, : world.object_count[room]].copy()
        ages = ages_of(objects, world.seen_at[room], world.elapsed[room])
        hidden = np.flatnonzero(ages == NEVER)
        places = unsensed_places(world.cells[room], world.seen_at[room])
        named = _named_unsensed(family, asked, arguments[number], objects[ages != NEVER])
        state = mix(mix(mix(seed, room), family), asked)
        for _ in range(samples):
            state = _imagine(objects, hidden, places, named, absent, state)
            found = _list_about(objects, family, asked, absent, candidates)
            answer, weight = _weigh(candidates[:found], family, arguments[number])
            weights[number, answer] += weight


@numba.njit(cache=True)
def _named_unsensed(
    family: int, asked: int, arguments: NDArray[np.int64], sensed: NDArray[np.uint8]
) -> tuple[int, int]:
    """Give the property, and its value, of an object that the question says exists once.

    If it was sensed, or the question says nothing of the sort: UNUSED twice.
    """
    if family == ATTRIBUTE:
        name, value = asked, arguments[0]
    elif family == NEAR:
        name, value = SHAPE, arguments[1]
    else:
        return UNUSED, UNUSED
    for item in range(len(sensed)):
        if sensed[item, OBJECT_SHAPE if name == SHAPE else OBJECT_COLOUR] == value:
            return UNUSED, UNUSED
    return name, value


@numba.njit(cache=True)
def _imagine(
    objects: NDArray[np.uint8],
    hidden: NDArray[np.int64],
    places: NDArray[np.int64],
    named: tuple[int, int],
    absent: NDArray[np.bool_],
    state: np.uint64,
) -> np.uint64:
    """Put the hidden ones of the objects on any places and make them any kind, in place.

    The first of them is made the named one, if there is one: worlds without it would not draw the
    question, so that few of many samples would count. All worlds in which it exists once become
    more frequent by the same factor; that it exists once is left to chance.
    """
    for turn in range(len(hidden)):
        item = hidden[turn]
        other, state = below(state, len(places) - turn)
        for axis in (ROW, COLUMN):
            place = places[turn + other, axis]
            places[turn + other, axis] = places[turn, axis]
            places[turn, axis] = objects[item, axis] = place
        shape, colour, state = draw_kind(absent, state)
        if turn == 0 and named[0] != UNUSED:
            shape, colour, state = _draw_named(named, absent, state)
        objects[item, OBJECT_SHAPE] = shape
        objects[item, OBJECT_COLOUR] = colour
    return state


@numba.njit(cache=True)
def _draw_named(
    named: tuple[int, int], absent: NDArray[np.bool_], state: np.uint64
) -> tuple[np.int64, np.int64, np.uint64]:
    """Draw a shape and a colour, uniform among the combinations that the options allow and that
    have the named property."""
    shape, colour, state = draw_kind(absent, state)
    while (shape if named[0] == SHAPE else colour) != named[1]:
        shape, colour, state = draw_kind(absent, state)
    return shape, colour, state


@numba.njit(cache=True)
def _list_about(
    objects: NDArray[np.uint8],
    family: int,
    asked: int,
    absent: NDArray[np.bool_],
    candidates: NDArray[np.int64],
) -> int:
    """`list_questions` for objects alone."""
    shapes, colours = absent.shape
    kinds, totals = read_kinds(objects, max(shapes, colours))
    return list_questions(family, asked, objects, kinds, totals, shapes, colours, candidates)


@numba.njit(cache=True)
def _weigh(
    candidates: NDArray[np.int64], family: int, arguments: NDArray[np.int64]
) -> tuple[int, float]:
    """Give a world's answer to a question, and the chance that the world draws the question.

    Where the question makes no sense the chance is 0, and so is the answer.
    """
    for candidate in candidates:
        if candidate[FIRST] == arguments[0] and candidate[SECOND] == arguments[1]:
            answer, tally = candidate[ANSWER], tally_answers(candidates[:, ANSWER])
            return answer, chances_of_answers(tally, family)[answer] / tally[answer]
    return 0, 0.0
