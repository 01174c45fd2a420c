"""Every control reads what its name says and nothing more."""

import dataclasses

import numpy as np
import torch
from gymnasium import spaces

from groundling.envs.questions import Questions
from groundling.evaluation.controls import (
    Row,
    answers_by_type,
    arbitrary_answers,
    lesson_of,
    majority_answers,
    reading_of,
    rows_of,
)
from groundling.evaluation.decoding import Nothing
from groundling.evaluation.examples import Examples, Memory
from groundling.evaluation.observed import ObservationCode
from groundling.evaluation.protocol import QUICK, ProbeSettings

S, N = 40, 400
CODE = ObservationCode(spaces.Discrete(9), spaces.Discrete(2))


def examples(seed: int = 0) -> Examples:
    draw = np.random.default_rng(seed)

    def ints(high: int, *shape: int) -> np.ndarray:
        return draw.integers(high, size=shape)

    questions = Questions(
        world=ints(S, N),
        type=ints(2, N),
        arguments=ints(3, N, 2),
        tokens=1 + ints(3, N, 12),
        answer=ints(4, N),
        answerable=ints(2, N) == 1,
        steps_since_seen=ints(9, N),
        held_out=ints(2, N) == 1,
    )
    memories = {
        name: Memory(torch.full((S, 6), float(place)), torch.full((S, 3), 10.0 + place))
        for place, name in enumerate(["agent", "untrained agent", "friend"])
    }
    memories["agent"] = Memory(torch.arange(S * 6.0).reshape(S, 6), memories["agent"].features)
    observed = torch.from_numpy(ints(3, S, 4, 2).astype(np.uint8))
    return Examples(questions, np.zeros((S, 2), np.int64), observed, None, memories)


def taken(row: Row) -> torch.Tensor:
    return reading_of(row, examples(), CODE, seed=0).take(torch.arange(S))


def row(name: str, settings: ProbeSettings | None = None) -> Row:
    rows = rows_of(settings or ProbeSettings(remembered=4), ["friend"], has_held_out=True)
    return next(row for row in rows if row.name == name)


def test_rows_read_what_their_names_say() -> None:
    data = examples()
    memories = data.memories
    for name, expected in {
        "agent": memories["agent"].belief,
        "agent, lstm": memories["agent"].belief,
        "agent's encoder": memories["agent"].features,
        "friend": memories["friend"].belief,
        "untrained agent": memories["untrained agent"].belief,
        "current observation": CODE.decode(data.observed[:, -1:]),
        "last 4 observations": CODE.decode(data.observed),
        "control task": memories["agent"].belief,
        "held-out combinations": memories["agent"].belief,
    }.items():
        assert torch.equal(taken(row(name)), expected), name


def test_the_question_alone_is_a_network_of_the_same_width_that_reads_nothing() -> None:
    alone = reading_of(row("question only"), examples(), CODE, seed=0)
    assert isinstance(alone, Nothing)
    assert alone.width == 6
    assert not alone.take(torch.arange(S)).any()


def test_shuffled_beliefs_are_the_same_beliefs_of_other_moments() -> None:
    shuffled, straight = taken(row("shuffled belief")), taken(row("agent"))
    assert torch.equal(shuffled.sort(0).values, straight.sort(0).values)
    assert (shuffled == straight).all(1).float().mean() < 0.2


def test_names_are_unique_and_decoders_share_the_budget() -> None:
    rows = rows_of(ProbeSettings(), ["friend"], has_held_out=True)
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    assert [row.name for row in rows_of(QUICK)] == ["agent", "untrained agent", "question only"]
    for decoder in ("linear", "lstm"):
        assert {row.name.split(",")[0] for row in rows if row.decoder == decoder} == {
            "agent",
            "untrained agent",
            "question only",
            "friend",
        }


def test_held_out_combinations_are_never_asked_about_in_their_lesson() -> None:
    data = examples()
    known = answers_by_type(data.questions)
    taught = lesson_of(row("held-out combinations"), data, known)
    assert not taught.held_out.any()
    assert len(taught) == (~data.questions.held_out).sum()
    assert len(lesson_of(row("agent"), data, known)) == N


def test_arbitrary_answers_recur_with_question_and_observation_and_tell_nothing_else() -> None:
    data = examples()
    known = answers_by_type(data.questions)
    given = arbitrary_answers(data, known)
    # The same question about the same observation, in other rooms and in another order.
    order = np.random.default_rng(1).permutation(N)
    again = dataclasses.replace(data, questions=data.questions[order])
    assert np.array_equal(arbitrary_answers(again, known), given[order])
    other_view = dataclasses.replace(data, observed=(data.observed + 1) % 3)
    assert (arbitrary_answers(other_view, known) != given).mean() > 0.5
    earlier = data.observed.clone()
    earlier[:, :-1] = 0
    assert np.array_equal(
        arbitrary_answers(dataclasses.replace(data, observed=earlier), known), given
    )
    for kind, words in known.items():
        shares = (
            np.bincount(given[data.questions.type == kind], minlength=4)
            / (data.questions.type == kind).sum()
        )
        assert np.isin(given[data.questions.type == kind], words).all()
        assert shares.max() < 0.4
    assert abs((given == data.questions.answer).mean() - 0.25) < 0.08


def test_the_majority_is_that_of_type_and_answerable_in_the_rooms_for_fitting() -> None:
    nothing = np.zeros(6, np.int64)
    questions = Questions(
        world=np.arange(6),
        type=np.array([0, 0, 0, 0, 1, 1]),
        arguments=np.zeros((6, 2), np.int64),
        tokens=np.zeros((6, 12), np.int64),
        answer=np.array([5, 5, 6, 7, 8, 8]),
        answerable=np.array([True, True, True, False, True, True]),
        steps_since_seen=nothing,
    )
    asked = questions[np.array([2, 3, 4])]
    assert majority_answers(questions, asked).tolist() == [5, 7, 8]
