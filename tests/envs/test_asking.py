"""A single environment that can be asked makes a batch that can be asked."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from groundling.envs.adapters import CopiesVectorEnv
from groundling.envs.asking import able_to_answer, source_of
from groundling.envs.errors import UserError
from groundling.envs.parallel import ParallelVectorEnv
from groundling.envs.questions import (
    UNUSED,
    AttendedSource,
    Oracle,
    Questions,
    QuestionSource,
    TypedQuestions,
    tokens_of,
)
from groundling.envs.rooms.parallel import HouseEnv
from groundling.envs.vocabulary import NUMBERS, VOCABULARY


class Light(gymnasium.Env):
    """A number that nobody but who asks gets to see."""

    observation_space = spaces.Discrete(2)
    action_space = spaces.Discrete(2)
    vocabulary = VOCABULARY
    question_types = ("count",)

    def __init__(self, number=0, worlds=(0, 0)):
        self.number, self.worlds = number, worlds

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        self.number += int(action)
        return 0, 0.0, False, False, {}

    def ask(self, generator):
        count = len(self.worlds)
        answer = VOCABULARY.encode(NUMBERS[self.number], 1)[0]
        return Questions(
            world=np.array(self.worlds, np.int64),
            type=np.zeros(count, np.int64),
            arguments=np.full((count, 2), UNUSED),
            tokens=np.array([tokens_of("how many key ?")] * count),
            answer=np.full(count, answer),
            answerable=np.ones(count, np.bool_),
            steps_since_seen=np.full(count, 3),
        )


class Knowing(Light):
    """Understands what is typed, and knows what could be known."""

    def typed_question(self, text):
        if self.number == 1:
            return self.ask(None)[:0]
        return self.ask(None)[:1]

    def guess(self, questions, generator):
        assert not questions.world.any()
        return questions.answer + generator.integers(1)


def lights(kind, **options):
    copies = [kind(number, **options) for number in range(3)]
    vector = able_to_answer(CopiesVectorEnv, source_of(copies[0]))
    return vector([gymnasium.wrappers.TimeLimit(copy, 9) for copy in copies], "Tests/Light-v0")


def words(questions):
    return [questions.answer_text(row) for row in range(len(questions))]


def test_every_copy_is_asked_and_the_worlds_are_numbered():
    environment = lights(Light)
    assert isinstance(environment.unwrapped, QuestionSource)
    environment.reset(seed=0)
    environment.step(np.array([0, 1, 0]))
    questions = environment.unwrapped.ask(np.random.default_rng(0))
    assert questions.world.tolist() == [0, 0, 1, 1, 2, 2]
    assert words(questions) == ["zero"] * 2 + ["two"] * 4
    assert questions.steps_since_seen.tolist() == [3] * 6
    assert environment.vocabulary is VOCABULARY
    assert environment.question_types == ("count",)


def test_a_batch_can_do_what_its_copies_can_and_no_more():
    assert not isinstance(lights(Light), TypedQuestions)
    assert not isinstance(lights(Light), Oracle)
    plain = gymnasium.make("Acrobot-v1")
    assert source_of(plain) is None
    assert able_to_answer(CopiesVectorEnv, None) is CopiesVectorEnv
    knowing = lights(Knowing)
    assert isinstance(knowing, TypedQuestions)
    assert isinstance(knowing, Oracle)
    typed = knowing.typed_question("how many key ?")
    assert typed.world.tolist() == [0, 2]
    assert words(typed) == ["zero", "two"]
    guessed = knowing.guess(typed, np.random.default_rng(0))
    assert guessed.tolist() == typed.answer.tolist()


class Asker(gymnasium.Wrapper):
    """A wrapper around something that cannot be asked itself."""

    vocabulary = VOCABULARY
    question_types = ("existence",)

    def ask(self, generator):
        return Light().ask(generator)


def test_the_outermost_that_can_be_asked_is():
    inner = Light()
    assert source_of(gymnasium.wrappers.TimeLimit(inner, 3)) is inner
    asker = Asker(inner)
    assert source_of(gymnasium.wrappers.TimeLimit(asker, 3)) is asker


def test_a_single_environment_that_speaks_of_other_worlds_is_refused():
    environment = lights(Light, worlds=(0, 1))
    with pytest.raises(UserError, match="about worlds 0 to 1; expected 0 to 0"):
        environment.ask(np.random.default_rng(0))


class LitHouse:
    """Two agents, each with a world of their own to ask about."""

    possible_agents = agents = ["ann", "bob"]  # noqa: RUF012
    vocabulary = VOCABULARY
    question_types = ("count",)

    def __init__(self, number):
        self.light = Light(number, worlds=(1,))

    def observation_space(self, agent):
        return Light.observation_space

    def action_space(self, agent):
        return Light.action_space

    def ask(self, generator):
        return self.light.ask(generator)


def test_the_worlds_of_a_house_are_the_rows_of_its_agents():
    houses = [LitHouse(0), LitHouse(1)]
    environment = able_to_answer(ParallelVectorEnv, source_of(houses[0]))(houses, "tests:lit")
    assert isinstance(environment, QuestionSource)
    questions = environment.ask(np.random.default_rng(0))
    assert questions.world.tolist() == [1, 3]
    assert words(questions) == ["zero", "one"]


def test_what_every_row_sensed_is_told_to_its_copy():
    houses = [HouseEnv(agents=2, view_pixels=4) for _ in range(3)]
    environment = able_to_answer(ParallelVectorEnv, source_of(houses[0]))(houses, "tests:houses")
    assert isinstance(environment, AttendedSource)
    assert not isinstance(lights(Knowing), AttendedSource)
    assert environment.attended is False
    environment.attended = True
    assert environment.attended
    assert all(house.attended for house in houses)
    environment.reset(seed=0)
    sensed = np.zeros((6, 20, 20), np.bool_)
    sensed[[1, 2, 5]] = True
    environment.attend(sensed)
    known = np.concatenate([house.world.seen_at for house in houses])
    assert (known >= 0).any(axis=(1, 2)).tolist() == sensed.any(axis=(1, 2)).tolist()
    questions = environment.ask(np.random.default_rng(0))
    assert set(questions.world[questions.steps_since_seen >= 0]) == {1, 2, 5}
    for rows in (5, 7, 12):
        with pytest.raises(ValueError, match=f"sensed has {rows} rows, expected 6"):
            environment.attend(np.zeros((rows, 20, 20), np.bool_))
