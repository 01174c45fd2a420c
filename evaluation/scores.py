"""What answers are worth: right ones by question type, by age, by time, and in bits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundling.envs.questions import Questions
from groundling.evaluation.statistics import clustered_interval

AGES = (0, 1, 4, 8, 16)
"""Steps since seen at which a new group begins; 0 is in view."""

TIMES = (0, 8, 16, 32, 64, 128, 256)
"""Steps of the episode at which a new group begins."""


@dataclass(frozen=True)
class Answers:
    """How one row of the table answered N questions."""

    words: NDArray[np.int64]
    """[N]: word ids."""
    log_right: NDArray[np.float32] | None = None
    """[N]: the log-probability that was given to the right answer, in nats, where there is one."""


def score_types(
    questions: Questions,
    answers: Answers,
    types: Sequence[str],
    room: NDArray[np.int64],
    baseline: Answers | None = None,
) -> dict[str, dict[str, Any]]:
    """The scores of one row, by question type; types that were never asked are left out.

    Args:
        questions: N, with the true answers.
        answers: the row's.
        types: names of the question types.
        room: [N], which room each question is about.
        baseline: what the question alone gives away.

    Returns:
        For each type "answerable", the share of right answers among answerable questions, with its
        95 % "interval" (rooms are the independent units), the same "balanced" over answers, their
        number, the shares among "all" and among "unanswerable" questions, and, with a baseline,
        "bits": how much more of the answer was known than from the question alone (mean
        log-likelihood ratio; the usable information of Xu et al. 2020, arXiv 2002.10689).
    """
    right = answers.words == questions.answer
    table: dict[str, dict[str, Any]] = {}
    for index, name in enumerate(types):
        of_type = questions.type == index
        answerable, unanswerable = of_type & questions.answerable, of_type & ~questions.answerable
        if not answerable.any():
            continue
        table[name] = {
            "answerable": float(right[answerable].mean()),
            "interval": share_interval(right[answerable], room[answerable]),
            "balanced": balanced_accuracy(right[answerable], questions.answer[answerable]),
            "answerable_questions": int(answerable.sum()),
            "all": float(right[of_type].mean()),
            "all_questions": int(of_type.sum()),
        }
        if unanswerable.any():
            table[name]["unanswerable"] = float(right[unanswerable].mean())
            table[name]["unanswerable_interval"] = share_interval(
                right[unanswerable], room[unanswerable]
            )
        if (gained := _bits(answers, baseline)) is not None:
            table[name]["bits"] = float(gained[answerable].mean())
    return table


def _bits(answers: Answers, baseline: Answers | None) -> NDArray[np.float32] | None:
    """What was known of each right answer beyond what the baseline knew, [N] in bits."""
    if baseline is None or baseline.log_right is None or answers.log_right is None:
        return None
    return np.asarray((answers.log_right - baseline.log_right) / np.log(2))


def share_interval(right: NDArray[np.bool_], room: NDArray[np.int64]) -> list[float] | None:
    """95 % interval of the share of right ones, [N]; rooms [N] are the independent units. None if
    all are of one room."""
    rooms, which = np.unique(room, return_inverse=True)
    if len(rooms) < 2:
        return None
    found = clustered_interval(np.bincount(which, weights=right), np.bincount(which))
    return [found.low, found.high]


def balanced_accuracy(right: NDArray[np.bool_], answer: NDArray[np.int64]) -> float:
    """Mean, over the true answers, of the share of questions with this answer that are right."""
    _, which = np.unique(answer, return_inverse=True)
    return float((np.bincount(which, weights=right) / np.bincount(which)).mean())


def accuracy_by_age(
    questions: Questions, answers: Answers, types: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Share of right answers by how long ago what they rest on was last sensed.

    Returns:
        {type: {"0": …, "1-3": …, "4-7": …, "8-15": …, "16+": …}} over answerable questions that
        rest on a sensed object; groups and types without any are left out.
    """
    return _by_group(questions, answers, types, questions.steps_since_seen, AGES)


def accuracy_by_time(
    questions: Questions, answers: Answers, types: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Share of right answers among answerable questions by steps since the episode began, as
    `accuracy_by_age`; nothing where the source does not tell the time."""
    return _by_group(questions, answers, types, questions.elapsed, TIMES)


def _by_group(
    questions: Questions,
    answers: Answers,
    types: Sequence[str],
    steps: NDArray[np.int64],
    edges: Sequence[int],
) -> dict[str, dict[str, float]]:
    right = answers.words == questions.answer
    table: dict[str, dict[str, float]] = {}
    for index, name in enumerate(types):
        chosen = (questions.type == index) & questions.answerable
        for label, start, end in groups_of(edges):
            of_group = chosen & (steps >= start) & (steps < end)
            if of_group.any():
                table.setdefault(name, {})[label] = float(right[of_group].mean())
    return table


def groups_of(edges: Sequence[int]) -> Iterator[tuple[str, int, float]]:
    """Name, first step and the step after the last of each group of steps; the last has no end."""
    for start, end in zip(edges, [*edges[1:], np.inf], strict=True):
        if end == np.inf:
            yield f"{start}+", start, end
        else:
            yield str(start) if end == start + 1 else f"{start}-{int(end) - 1}", start, end


def right_by_room(
    questions: Questions,
    answers: Answers,
    types: Sequence[str],
    room: NDArray[np.int64],
    rooms: int,
) -> NDArray[np.int64]:
    """How many answerable questions of each type were answered right in each room, [rooms, types].

    `room` [N] is the number of each question's room, below `rooms`; some may have no question.
    """
    return _count(questions, answers.words == questions.answer, len(types), room, rooms)


def asked_by_room(
    questions: Questions, types: Sequence[str], room: NDArray[np.int64], rooms: int
) -> NDArray[np.int64]:
    """How many answerable questions of each type were asked in each room, [rooms, types]."""
    return _count(questions, np.ones(len(questions), np.bool_), len(types), room, rooms)


def _count(
    questions: Questions,
    counted: NDArray[np.bool_],
    types: int,
    room: NDArray[np.int64],
    rooms: int,
) -> NDArray[np.int64]:
    place = (room * types + questions.type)[counted & questions.answerable]
    return np.bincount(place, minlength=rooms * types).reshape(rooms, types)
