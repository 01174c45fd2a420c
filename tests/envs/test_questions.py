"""Records of questions keep their rows together, and balancing leaves nothing to a blind guess."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundling.envs.questions import (
    NOT_TOLD,
    QUESTION_LENGTH,
    Oracle,
    Questions,
    QuestionSource,
    balance,
    concatenate,
)
from groundling.envs.vocabulary import VOCABULARY


def make_questions(types, answerable, answers):
    """Questions whose `world` is their row, so that a row can be recognised afterwards."""
    number = len(types)
    tokens = VOCABULARY.encode("is there a key ?", QUESTION_LENGTH)
    return Questions(
        world=np.arange(number),
        type=np.array(types, np.int64),
        arguments=np.full((number, 2), -1),
        tokens=np.tile(np.array(tokens), (number, 1)),
        answer=np.array(answers, np.int64),
        answerable=np.array(answerable, np.bool_),
        steps_since_seen=np.arange(number) * 10,
        held_out=np.arange(number) % 2 == 1,
        elapsed=np.arange(number) * 100,
    )


def tally(questions):
    """{(type, answerable): {answer: how often}}."""
    groups = {}
    for row in zip(questions.type, questions.answerable, questions.answer, strict=True):
        groups.setdefault(row[:2], Counter())[row[2]] += 1
    return groups


def test_arrays_of_different_lengths_are_refused():
    questions = make_questions([0, 1], [True, True], [1, 2])
    with pytest.raises(ValueError, match="equally long"):
        Questions(**{**vars(questions), "answer": np.array([1])})


def test_a_source_need_not_know_of_combinations_and_time():
    told = vars(make_questions([0, 1, 2], [True, True, True], [1, 2, 3]))
    questions = Questions(**{name: told[name] for name in told if name not in NEWER})
    assert questions.held_out.tolist() == [False] * 3
    assert questions.held_out.dtype == np.bool_
    assert questions.elapsed.tolist() == [NOT_TOLD] * 3
    assert questions.elapsed.dtype == np.int64
    assert len(questions[:0].held_out) == len(questions[:0].elapsed) == 0
    with pytest.raises(ValueError, match="equally long"):
        Questions(**{**told, "elapsed": np.array([1])})


NEWER = ("held_out", "elapsed")


@pytest.mark.parametrize(
    "selection", [np.array([False, True, True]), np.array([1, 2]), slice(1, None)]
)
def test_selecting_keeps_every_column_of_a_row(selection):
    questions = make_questions([0, 1, 2], [True, False, True], [3, 4, 5])[selection]
    assert questions.world.tolist() == [1, 2]
    assert questions.type.tolist() == [1, 2]
    assert questions.answer.tolist() == [4, 5]
    assert questions.answerable.tolist() == [False, True]
    assert questions.steps_since_seen.tolist() == [10, 20]
    assert questions.held_out.tolist() == [True, False]
    assert questions.elapsed.tolist() == [100, 200]
    assert questions.tokens.shape == (2, QUESTION_LENGTH)
    assert questions.arguments.shape == (2, 2)


def test_concatenating_undoes_slicing():
    questions = make_questions([0, 1, 2], [True, False, True], [3, 4, 5])
    joined = concatenate([questions[:1], questions[1:1], questions[1:]])
    for name, array in vars(questions).items():
        np.testing.assert_array_equal(getattr(joined, name), array)


def test_questions_and_answers_can_be_read():
    questions = make_questions([0, 0], [True, True], VOCABULARY.encode("yes no", 2))
    assert questions.text(1) == "is there a key ?"
    assert [questions.answer_text(row) for row in range(2)] == ["yes", "no"]


def test_any_object_with_the_three_members_is_a_question_source():
    class Source:
        vocabulary = VOCABULARY
        question_types = ("existence",)

        def ask(self, generator):
            return make_questions([0], [True], [1])

    class Mute:
        vocabulary = VOCABULARY
        question_types = ("existence",)

    assert isinstance(Source(), QuestionSource)

    class Knowing(Source):
        def guess(self, questions, generator):
            return questions.answer

    assert not isinstance(Mute(), QuestionSource)

    class Guesser:
        guess = Knowing.guess

    assert isinstance(Knowing(), Oracle)
    assert not isinstance(Source(), Oracle)
    assert not isinstance(Guesser(), Oracle)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.integers(1, 4)), max_size=200),
    st.integers(0, 2**32),
)
def test_balancing_makes_answers_exactly_equally_frequent(rows, seed):
    types, answerable, answers = ([row[column] for row in rows] for column in range(3))
    questions = make_questions(types, answerable, answers)
    kept = balance(questions, np.random.default_rng(seed), rarest=0)
    before, after = tally(questions), tally(kept)
    assert set(after) == {group for group, counts in before.items() if len(counts) > 1}
    for group, counts in after.items():
        # No more is dropped than must be: every answer stays, as often as the rarest one.
        assert set(counts) == set(before[group])
        assert set(counts.values()) == {min(before[group].values())}
    assert np.all(np.diff(kept.world) > 0), "order changed, or a question was kept twice"
    np.testing.assert_array_equal(kept.answer, questions.answer[kept.world])


def test_answers_below_the_rarest_share_are_dropped_and_the_others_kept():
    answers = [1] * 60 + [2] * 39 + [3] * 1
    questions = make_questions([0] * 100, [True] * 100, answers)
    generator = np.random.default_rng(0)
    assert tally(balance(questions, generator, rarest=0.02)) == {(0, True): {1: 39, 2: 39}}
    assert tally(balance(questions, generator, rarest=0.01)) == {(0, True): {1: 1, 2: 1, 3: 1}}


def test_a_group_left_with_one_answer_is_dropped():
    questions = make_questions([0] * 100, [True] * 100, [1] * 99 + [2])
    assert len(balance(questions, np.random.default_rng(0), rarest=0.02)) == 0


def test_thinning_keeps_each_question_with_the_same_chance_and_follows_the_generator():
    questions = make_questions([0] * 40, [True] * 40, [1] * 30 + [2] * 10)
    generator = np.random.default_rng(0)
    kept = np.zeros(40)
    for _ in range(600):
        kept[balance(questions, generator).world] += 1
    assert np.all(kept[30:] == 600)
    # 600 draws of 1/3 each: the standard deviation is 11.5.
    assert np.all(np.abs(kept[:30] - 200) < 60)
    worlds = [balance(questions, np.random.default_rng(7)).world for _ in range(2)]
    np.testing.assert_array_equal(*worlds)


@pytest.mark.parametrize("rarest", [-0.1, 1.5, float("nan")])
def test_a_share_outside_zero_to_one_is_refused(rarest):
    questions = make_questions([0], [True], [1])
    with pytest.raises(ValueError, match="rarest"):
        balance(questions, np.random.default_rng(0), rarest=rarest)
