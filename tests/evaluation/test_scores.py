"""Scores count what they say they count."""

import numpy as np
import pytest

from groundling.envs.questions import NOT_SEEN, Questions
from groundling.envs.rooms.wording import QUESTION_TYPES as TYPES
from groundling.evaluation.scores import (
    Answers,
    accuracy_by_age,
    accuracy_by_time,
    asked_by_room,
    balanced_accuracy,
    right_by_room,
    score_types,
)


def asked(**arrays: object) -> Questions:
    number = len(next(iter(arrays.values())))  # type: ignore[arg-type]
    nothing = np.zeros(number, np.int64)
    defaults = {
        "world": np.arange(number),
        "type": nothing,
        "arguments": np.zeros((number, 2), np.int64),
        "tokens": np.zeros((number, 12), np.int64),
        "answer": nothing + 1,
        "answerable": nothing == 0,
        "steps_since_seen": nothing,
    }
    return Questions(**(defaults | {name: np.array(value) for name, value in arrays.items()}))  # type: ignore[arg-type]


def words(*ids: int) -> Answers:
    return Answers(np.array(ids))


def test_right_answers_are_counted_and_the_unanswerable_kept_apart() -> None:
    questions = asked(type=[0, 0, 0, 2], answer=[5, 6, 7, 8], answerable=[True, True, False, True])
    table = score_types(questions, words(5, 0, 7, 8), TYPES, np.arange(4))
    assert set(table) == {TYPES[0], TYPES[2]}
    scores = table[TYPES[0]]
    assert scores["answerable"] == 0.5
    assert scores["answerable_questions"] == 2
    assert scores["unanswerable"] == 1.0
    assert scores["all"] == pytest.approx(2 / 3)
    assert "unanswerable" not in table[TYPES[2]]
    assert "bits" not in scores


def test_balanced_accuracy_counts_rare_answers_as_much_as_frequent_ones() -> None:
    right = np.array([True, True, True, False])
    assert balanced_accuracy(right, np.array([3, 3, 3, 9])) == 0.5


def test_bits_are_what_was_known_beyond_the_question() -> None:
    questions = asked(answer=[1, 2, 1], answerable=[True, True, False])
    given = np.zeros(3, np.int64)
    agent = Answers(given, np.log(np.array([0.5, 1.0, 1.0], np.float32)))
    alone = Answers(given, np.log(np.array([0.25, 0.25, 1e-9], np.float32)))
    table = score_types(questions, agent, TYPES, np.arange(3), alone)
    assert table[TYPES[0]]["bits"] == pytest.approx((1 + 2) / 2)


def test_questions_about_one_room_are_not_independent() -> None:
    """A hundred questions about ten rooms, all right or all wrong: ten rooms' worth of evidence."""
    room = np.repeat(np.arange(10), 10)
    given = Answers(np.where(room % 2 == 0, 1, 0))
    questions = asked(answer=np.ones(100, np.int64))
    joint = score_types(questions, given, TYPES, room)[TYPES[0]]["interval"]
    apart = score_types(questions, given, TYPES, np.arange(100))[TYPES[0]]["interval"]
    assert joint[1] - joint[0] > 2.5 * (apart[1] - apart[0])


def test_ages_group_what_rests_on_something_sensed() -> None:
    questions = asked(
        steps_since_seen=[0, 1, 3, 4, 40, NOT_SEEN, 3], answerable=[True] * 6 + [False]
    )
    table = accuracy_by_age(questions, words(1, 1, 0, 1, 0, 1, 1), TYPES)
    assert table == {TYPES[0]: {"0": 1.0, "1-3": 0.5, "4-7": 1.0, "16+": 0.0}}


def test_times_group_by_the_step_of_the_episode() -> None:
    questions = asked(elapsed=[0, 7, 8, 63, 500, -1], answerable=[True] * 6)
    table = accuracy_by_time(questions, words(1, 0, 1, 1, 0, 1), TYPES)
    assert table == {TYPES[0]: {"0-7": 0.5, "8-15": 1.0, "32-63": 1.0, "256+": 0.0}}
    assert accuracy_by_time(asked(elapsed=[-1]), words(1), TYPES) == {}


def test_rooms_are_counted_one_by_one() -> None:
    questions = asked(type=[0, 0, 1, 1], answerable=[True, True, True, False])
    room = np.array([0, 2, 2, 2])
    answers = words(1, 0, 1, 1)
    right = right_by_room(questions, answers, ["a", "b"], room, rooms=4)
    assert right.tolist() == [[1, 0], [0, 0], [0, 1], [0, 0]]
    asked_of = asked_by_room(questions, ["a", "b"], room, rooms=4)
    assert asked_of.tolist() == [[1, 0], [0, 0], [1, 1], [0, 0]]
