"""Decoders find what is in a belief, find nothing where there is nothing, and all get alike."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from groundling.agents.probe import DecoderName
from groundling.envs.questions import Questions, balance, concatenate
from groundling.envs.rooms.options import MARGIN, RoomsOptions
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.envs.rooms.wording import QUESTION_TYPES
from groundling.envs.rooms.world import NEVER
from groundling.envs.vocabulary import VOCABULARY
from groundling.evaluation.decoding import (
    Fit,
    Lessons,
    Nothing,
    Reading,
    Vectors,
    scramble,
    updates_of,
)
from groundling.evaluation.protocol import ProbeSettings
from groundling.evaluation.statistics import bonferroni, clustered_interval

CPU = torch.device("cpu")
OBJECTS, SHAPES, COLOURS = 3, 3, 2
WIDTH = 9 * SHAPES * COLOURS
ASKED = QUESTION_TYPES[:9]
"""The types of a world in which all things are of one size."""


def rooms_of(rooms: int, seed: int, side: int) -> RoomsVectorEnv:
    options = RoomsOptions(size=side, objects=OBJECTS, shapes=SHAPES, colours=COLOURS, view_size=3)
    environment = RoomsVectorEnv(rooms, **dataclasses.asdict(options))
    environment.reset(seed=seed)
    return environment


def table_of(environment: RoomsVectorEnv, longest: int | None = None) -> torch.Tensor:
    """What stands in each cell, one-hot: [rooms, side² · kinds]. With `longest`, only what was
    sensed not more than so many steps ago."""
    side, margin = environment.rooms.size, MARGIN
    world, every = environment.world, np.arange(environment.num_envs)
    table = np.zeros((environment.num_envs, side, side, SHAPES * COLOURS), np.float32)
    for row, column, shape, colour, _ in world.objects.astype(np.int64).transpose(1, 2, 0):
        seen = world.seen_at[every, row, column]
        known = longest is None or (seen != NEVER) & (world.elapsed - seen <= longest)
        table[every, row - margin, column - margin, shape * COLOURS + colour] += known
    return torch.from_numpy(table.reshape(environment.num_envs, -1))


def known_rooms(seed: int, rooms: int, side: int = 3) -> tuple[Questions, torch.Tensor]:
    """Questions about rooms, and tables of them."""
    environment = rooms_of(rooms, seed, side)
    generator = np.random.default_rng(seed)
    questions = concatenate([environment.ask(generator) for _ in range(4)])
    return questions, table_of(environment)


def fitted(
    decoder: DecoderName,
    settings: ProbeSettings,
    parts: Sequence[tuple[Questions, torch.Tensor | None]],
) -> np.ndarray:
    """Fits to the first part, stops by the second; which questions of the third are answered
    right. A belief of None is nothing."""
    train, validation, test = (
        Lessons(questions, Nothing(WIDTH) if table is None else Vectors(table), CPU)
        for questions, table in parts
    )
    probe = Fit(train, validation, decoder, len(VOCABULARY), settings).run()
    return np.asarray(test.score(probe)[0] == parts[2][0].answer)


def by_type(questions: Questions, right: np.ndarray) -> dict[str, float]:
    return {name: float(right[questions.type == index].mean()) for index, name in enumerate(ASKED)}


LINEAR = ("attribute_colour", "attribute_shape", "existence")
"""Types whose answers are linear functions of a table."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("decoder", "side", "rooms", "settings"),
    [
        ("linear", 3, 4000, ProbeSettings(size=256)),
        ("lstm", 3, 8000, ProbeSettings(size=320, batch=16, learning_rates=(3e-3,))),
        # In a room of this size some objects are not near others.
        (
            "mlp",
            4,
            40_000,
            ProbeSettings(size=256, batch=64, passes=3, learning_rates=(3e-3,)),
        ),
    ],
)
def test_a_belief_that_is_the_world_answers_every_question(
    decoder: DecoderName, side: int, rooms: int, settings: ProbeSettings
) -> None:
    parts = [known_rooms(10**6 * i, n, side) for i, n in enumerate([rooms, 500, 2000])]
    for name, accuracy in by_type(parts[2][0], fitted(decoder, settings, parts)).items():
        assert accuracy >= 0.98 or (decoder == "linear" and name not in LINEAR), (name, accuracy)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["mlp", "lstm", "linear"])
def test_a_belief_that_is_noise_answers_as_the_question_alone_does(decoder: DecoderName) -> None:
    settings = ProbeSettings(passes=2, size=64, batch=4, learning_rates=(3e-3,))
    draws = np.random.default_rng(0)
    asked = [balance(known_rooms(10**6 * i, n)[0], draws) for i, n in enumerate([3000, 500, 2000])]
    draw = torch.Generator().manual_seed(0)
    noise = [torch.randn(int(one.world.max()) + 1, WIDTH, generator=draw) for one in asked]
    right = fitted(decoder, settings, list(zip(asked, noise, strict=True)))
    blind = fitted(decoder, settings, [(one, None) for one in asked])
    # Both are asked the same, so that what counts is how much oftener one of them is right: 0.5
    # is as often.
    oftener = (right.astype(np.float64) - blind + 1) / 2
    level = bonferroni(0.95, len(ASKED))
    for index, name in enumerate(ASKED):
        of_type = asked[2].type == index
        room = asked[2].world[of_type]
        found = clustered_interval(
            np.bincount(room, weights=oftener[of_type]), np.bincount(room), level
        )
        assert found.low <= 0.5 <= found.high, (name, found)


def walked(seed: int, rooms: int, longest: int) -> tuple[Questions, torch.Tensor]:
    """Questions asked on walks, and what is known of rooms by who forgets after `longest` steps."""
    environment = rooms_of(rooms, seed, side=5)
    generator = np.random.default_rng(seed)
    asked, tables = [], []
    for step in range(56):
        environment.step(environment.explorer_actions())
        if step % 7 == 6:
            questions = environment.ask(generator)
            moved = questions.world + len(tables) * rooms
            asked.append(dataclasses.replace(questions, world=moved))
            tables.append(table_of(environment, longest))
    questions = concatenate(asked)
    return questions[questions.answerable & (questions.type < 2)], torch.cat(tables)


@pytest.mark.slow
def test_knowledge_of_the_last_ten_steps_ends_after_ten_steps() -> None:
    parts = [walked(10**6 * i, n, longest=10) for i, n in enumerate([2000, 200, 1000])]
    settings = ProbeSettings(passes=2, size=128, learning_rates=(3e-3,))
    right = fitted("linear", settings, parts)
    age = parts[2][0].steps_since_seen
    by_age = [right[(age >= low) & (age <= high)].mean() for low, high in ((0, 5), (6, 10))]
    forgotten = right[age > 10].mean()
    assert min(by_age) > 0.95, by_age
    assert forgotten < 0.65, forgotten  # Of two colours or three shapes, or what is left.


def small(reading: Reading | None = None, rooms: int = 300) -> Lessons:
    questions, table = known_rooms(0, rooms)
    return Lessons(questions, reading or Vectors(table), CPU)


def test_every_batch_holds_all_questions_of_its_moments_and_no_others() -> None:
    questions, table = known_rooms(0, 50)
    lessons = Lessons(questions[np.arange(len(questions))[::-1].copy()], Vectors(table), CPU)

    class Spy:
        def __call__(self, belief, tokens, about, asked):  # type: ignore[no-untyped-def]
            self.seen = belief[about], tokens[asked]
            return torch.zeros(len(about), 2)

    spy = Spy()
    moments = torch.tensor([7, 3, 40])
    _, answers = lessons.ask(spy, moments)  # type: ignore[arg-type]
    beliefs, tokens = spy.seen
    found = sorted(
        (tuple(belief), tuple(words), answer)
        for belief, words, answer in zip(
            beliefs.tolist(), tokens.tolist(), answers.tolist(), strict=True
        )
    )
    asked_of = lessons.asked_of[moments].numpy()
    chosen = np.flatnonzero(np.isin(questions.world, asked_of))
    expected = sorted(
        (
            tuple(table[questions.world[i]].tolist()),
            tuple(questions.tokens[i].tolist()),
            int(questions.answer[i]),
        )
        for i in chosen
    )
    assert found == expected


def test_answers_come_in_the_order_of_the_questions() -> None:
    questions, table = known_rooms(0, 60)
    settings = ProbeSettings(passes=1, size=16, learning_rates=(1e-3,))
    lessons = Lessons(questions, Vectors(table), CPU)
    probe = Fit(lessons, lessons, "mlp", len(VOCABULARY), settings).run()
    words, log_right = lessons.score(probe)
    for i in (0, 17, len(questions) - 1):
        belief = table[questions.world[i]].unsqueeze(0)
        logits = probe(belief, torch.from_numpy(questions.tokens[i : i + 1])).detach()
        assert words[i] == logits.argmax()
        expected = logits.log_softmax(-1)[0, questions.answer[i]]
        assert log_right[i] == pytest.approx(float(expected), abs=1e-5)


def test_the_step_size_that_answers_the_validation_rooms_best_is_used() -> None:
    lessons = small(rooms=600)
    results = {}
    for rates in ((1e-6, 3e-3), (3e-3, 1e-6), (3e-3,), (1e-6,)):
        settings = ProbeSettings(passes=1, size=32, learning_rates=rates)
        probe = Fit(lessons, lessons, "linear", len(VOCABULARY), settings).run()
        results[rates] = lessons.score(probe)[1]
    assert np.array_equal(results[(1e-6, 3e-3)], results[(3e-3,)])
    assert np.array_equal(results[(3e-3, 1e-6)], results[(3e-3,)])
    assert not np.array_equal(results[(1e-6,)], results[(3e-3,)])


def test_the_pass_that_answers_the_validation_rooms_best_is_kept() -> None:
    """Validation by rooms whose answers contradict the lessons: the more is learned, the worse."""
    questions, table = known_rooms(0, 300)
    lessons = Lessons(questions, Vectors(table), CPU)
    wrong = dataclasses.replace(questions, answer=np.roll(questions.answer, 1))
    against = Lessons(wrong, Vectors(table), CPU)
    settings = ProbeSettings(passes=6, size=64, learning_rates=(1e-2,))
    updates = 0

    def count() -> None:
        nonlocal updates
        updates += 1

    Fit(lessons, against, "mlp", len(VOCABULARY), settings).run(count)
    assert updates < updates_of(lessons.moments, settings) / 2


@pytest.mark.parametrize("rates", [(1e-3,), (1e-3, 3e-3)])
def test_the_number_of_updates_is_known_before(rates: tuple[float, ...]) -> None:
    lessons = small(Nothing(4))
    settings = ProbeSettings(passes=1, size=8, learning_rates=rates)
    updates = 0

    def count() -> None:
        nonlocal updates
        updates += 1

    Fit(lessons, lessons, "linear", len(VOCABULARY), settings).run(count)
    assert updates == updates_of(lessons.moments, settings)


def test_equal_rows_have_equal_names_and_others_do_not() -> None:
    rows = np.random.default_rng(0).integers(0, 3, size=(2000, 6))
    names = scramble(rows)
    _, expected = np.unique(rows, axis=0, return_inverse=True)
    _, found = np.unique(names, return_inverse=True)
    pairs = set(zip(expected.ravel().tolist(), found.tolist(), strict=True))
    assert len(pairs) == len({pair[0] for pair in pairs}) == len({pair[1] for pair in pairs})
