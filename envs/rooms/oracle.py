"""What an ideal observer answers, who knows how rooms and questions are drawn and remembers every
cell that was sensed.

What was sensed may leave many worlds possible. The observer draws some of them (`imagining.py`).
The question is a clue too: a world counts as much as it is likely to draw this very question, first
the answer and then, uniformly, a question that has it (`questions.py`). That is

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

from groundling.envs.questions import RAREST, Questions
from groundling.envs.rooms.candidates import (
    ANSWER,
    FIRST,
    SECOND,
    list_questions,
    read_contents,
    space_for_questions,
)
from groundling.envs.rooms.imagining import chances_of_numbers, draw_number, imagine, named_unsensed
from groundling.envs.rooms.judging import know, where_objects_may_stand
from groundling.envs.rooms.layout import built
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.questions import (
    chances_of_answers,
    language_in,
    sample_questions,
    tally_answers,
    values_in,
)
from groundling.envs.rooms.rng import mix
from groundling.envs.rooms.rules import absent_kinds
from groundling.envs.rooms.wording import FORMS, Form, Language
from groundling.envs.rooms.world import NEVER, World
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
    guesses[unsettled] = language_in(options).answers[questions.type, chosen]
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
    _check(questions, world, language_in(options))
    weights = np.zeros((len(questions), language_in(options).answers.shape[1]))
    _weigh_answers(
        world,
        np.ascontiguousarray(questions.world),
        FORMS[questions.type],
        np.ascontiguousarray(questions.arguments),
        values_in(options),
        absent_kinds(options),
        (options.fewest_objects, options.most_objects_drawn),
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
    words = language_in(options).answers
    counts = (words != PADDING).astype(np.float64)  # one each, or a type never met would have none
    np.add.at(counts, questions.type, words[questions.type] == questions.answer[:, None])
    priors: NDArray[np.float64] = counts / counts.sum(axis=1, keepdims=True)
    return priors


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
    forms: NDArray[np.int64],
    arguments: NDArray[np.int64],
    values: NDArray[np.int64],
    absent: NDArray[np.bool_],
    numbers: tuple[int, int],
    samples: int,
    seed: int,
    weights: NDArray[np.float64],
) -> None:
    """Add to `weights` [N, codes] what `samples` consistent worlds say to each question.

    Rooms [N], forms [N, 3] and arguments [N, 2] are the questions'; `numbers` are the fewest and
    the most objects of a room. Every room, family and named property has a random stream of its
    own.
    """
    candidates = space_for_questions(values, numbers[1])
    for turn in range(len(rooms)):
        room, form = rooms[turn], Form(forms[turn, 0], forms[turn, 1], forms[turn, 2])
        present = world.objects[room, : world.object_count[room]]
        cells, seen_at = world.cells[room], world.seen_at[room]
        known = know(cells, seen_at, present, world.elapsed[room], numbers[1])
        sensed = read_contents(present[known.ages != NEVER], values)
        named = named_unsensed(form, arguments[turn], sensed)
        places = int(np.sum(where_objects_may_stand(cells)))
        chances = chances_of_numbers(len(sensed.objects), known, numbers[0], places, named)
        state = mix(mix(mix(seed, room), form.family), form.asked)
        for _ in range(samples):
            unsensed, state = draw_number(chances, state)
            objects, state = imagine(
                sensed.objects, unsensed, known.places, named, values, absent, state
            )
            found = list_questions(form, read_contents(objects, values), values, candidates)
            answer, weight = _weigh(candidates[:found], form.family, arguments[turn])
            weights[turn, answer] += weight


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
