"""Anybody's environment trains without a line of code, or is refused in one line."""

import dataclasses
import math
import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from groundling.envs.errors import UserError
from groundling.envs.questions import QuestionSource
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.training.actor import observe
from groundling.training.checkpoint import load_checkpoint
from groundling.training.config import EnvironmentConfig
from groundling.training.environments import Doorkeeper, make_environment, suits_agent
from groundling.training.loop import train
from groundling.training.metrics import read_rows


def refusal(action):
    with pytest.raises(UserError) as refused:
        action()
    message = str(refused.value)
    assert "\n" not in message
    return message


def foreign(small_config, name, **options):
    """A few updates in somebody else's environment."""
    env = {"id": name, "options": options}
    return small_config(frames=45, env=env, probe={"online": False})


class Motley(gymnasium.Env):
    """Has every space the sensors know, in one nested Dict, and actions that start at -1."""

    observation_space = spaces.Dict(
        {
            "screen": spaces.Box(0, 255, (9, 9, 3), np.uint8),
            "cells": spaces.Box(0, 3, (3, 3, 2), np.int64),
            "body": spaces.Dict(
                {"speed": spaces.Box(-np.inf, np.inf, ()), "gear": spaces.Discrete(3, start=2)}
            ),
            "switches": spaces.MultiBinary(2),
            "hands": spaces.MultiDiscrete([2, 4]),
            "type": spaces.Box(0, 30, (4,), np.int64),
        }
    )
    action_space = spaces.Discrete(3, start=-1)

    def __init__(self, length=3):
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.count = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert action in (-1, 0, 1)
        self.count += 1
        over = self.count == self.length
        return self.observation_space.sample(), float(action), over, False, {"inner": {"a": 1}}


def test_our_own_rooms_come_as_one_batch_with_their_options(small_config):
    environment = make_environment(small_config(rooms={"view_size": 5}).env)
    assert isinstance(environment.unwrapped, RoomsVectorEnv)
    assert environment.num_envs == 3
    assert environment.single_observation_space["view"].shape == (5, 5, 3)
    assert make_environment(small_config().env, num_envs=7).num_envs == 7


def test_staggered_rooms_begin_at_different_phases(small_config):
    for stagger in (False, True):
        environment = make_environment(small_config().env, num_envs=20, stagger=stagger)
        environment.reset(seed=0)
        assert environment.unwrapped.world.elapsed.any() == stagger


def test_other_environments_are_made_to_reset_in_the_same_step():
    config = EnvironmentConfig(id="Acrobot-v1", num_envs=2, options={"max_episode_steps": 4})
    environment = make_environment(config)
    assert isinstance(environment.unwrapped, SyncVectorEnv)
    assert environment.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    environment.reset(seed=0)
    for step in range(1, 9):
        *_, truncated, info = environment.step(np.zeros(2, np.int64))
        assert truncated.tolist() == [step % 4 == 0] * 2
        assert ("final_obs" in info) == (step % 4 == 0)
    environment.close()


class House(VectorEnv):
    """Spaces and nothing else."""

    single_action_space = action_space = spaces.Discrete(2)

    def __init__(self, num_envs=1):
        self.num_envs = num_envs


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Groundling/Explor-v0", "did you mean Groundling/Explore-v0?"),
        ("CartPole-v11", "did you mean CartPole-v1?"),
        ("qqqqqqqqqqq", "expected a registered id or module:Id"),
        ("no_such_module:CartPole-v1", "No module named 'no_such_module'"),
    ],
)
def test_an_unknown_environment_is_named_with_the_nearest(name, expected):
    message = refusal(lambda: make_environment(EnvironmentConfig(id=name)))
    assert message.startswith(f"env.id {name!r} is unknown")
    assert expected in message


def test_a_module_before_the_id_is_imported_first(tmp_path, monkeypatch, register):
    """As Gymnasium does it: plug-ins register themselves when they are imported."""
    text = "import gymnasium\ngymnasium.register('Tests/Plug-v0', entry_point='plug:make')\n"
    text += "def make(**keywords):\n    return gymnasium.make('Acrobot-v1').unwrapped\n"
    (tmp_path / "plug.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        environment = make_environment(EnvironmentConfig(id="plug:Tests/Plug-v0", num_envs=2))
        assert environment.spec.id == "Tests/Plug-v0"
        environment.close()
    finally:
        gymnasium.registry.pop("Tests/Plug-v0", None)
        sys.modules.pop("plug", None)


def test_minigrid_and_babyai_come_with_instructions_and_answer_questions():
    config = EnvironmentConfig(id="BabyAI-GoToLocal-v0", num_envs=2)
    environment = make_environment(config)
    assert environment.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert environment.num_envs == 2
    assert environment.spec.id == "BabyAI-GoToLocal-v0"
    assert set(environment.single_observation_space) == {"view", "direction", "instruction"}
    assert isinstance(environment.unwrapped, QuestionSource)
    environment.reset(seed=0)
    assert len(environment.unwrapped.ask(np.random.default_rng(0)))
    with pytest.raises(UserError, match=r"did you mean BabyAI-GoToLocal-v0\?"):
        make_environment(dataclasses.replace(config, id="BabyAI-GoToLocl-v0"))


def test_a_keyword_that_an_environment_does_not_take_is_named():
    config = EnvironmentConfig(id="Acrobot-v1", options={"gravity": 1})
    message = refusal(lambda: make_environment(config))
    assert "env.options does not fit Acrobot-v1" in message
    assert "'gravity'" in message


def test_options_reach_an_environment_of_your_own(register):
    register("Tests/Motley-v0", Motley)
    config = EnvironmentConfig(id="Tests/Motley-v0", num_envs=1, options={"length": 2})
    environment = make_environment(config)
    environment.reset(seed=0)
    ends = [bool(environment.step(np.zeros(1, np.int64))[2][0]) for _ in range(4)]
    assert ends == [False, True, False, True]


SPACE = spaces.Dict(
    {
        "view": spaces.Box(
            0, np.broadcast_to(np.array([9, 2], np.uint8), (9, 9, 2)), dtype=np.uint8
        ),
        "dial": spaces.Box(1, 3, (2,), np.uint8),
        "speed": spaces.Box(-1.0, 1.0, (2,), np.float32),
        "gear": spaces.Discrete(3, start=2),
        "hands": spaces.MultiDiscrete([2, 4]),
        "switch": spaces.MultiBinary(2),
    }
)


def doorkeeper():
    environment = House(2)
    environment.single_observation_space = SPACE
    return Doorkeeper(environment, "Tests/House-v0")


def good():
    """Two environments' observations at the edges of their spaces."""
    return {
        "view": np.stack([SPACE["view"].low, SPACE["view"].high]),
        "dial": np.array([[1, 3], [2, 2]], np.uint8),
        "speed": np.array([[-1.0, 1.0], [0.0, 0.5]], np.float32),
        "gear": np.array([2, 4]),
        "hands": np.array([[0, 0], [1, 3]]),
        "switch": np.array([[0, 1], [1, 1]], np.int8),
    }


def test_what_lies_in_its_space_passes():
    doorkeeper().check(good(), np.array([0.0, -1e9]))


@pytest.mark.parametrize(
    ("leaf", "index", "value", "fault"),
    [
        ("speed", (1, 0), np.nan, "is NaN"),
        ("speed", (1, 0), 1.5, "holds 1.5; its space says -1.0 to 1.0"),
        ("speed", (1, 0), -np.inf, "holds -inf; its space says -1.0 to 1.0"),
        ("view", (1, 4, 4, 1), 3, "holds 3; its space says 0 to 2"),
        ("dial", (1, 0), 0, "holds 0; its space says 1 to 3"),
        ("gear", 0, 1, "holds 1; its space says 2 to 4"),
        ("gear", 1, 5, "holds 5; its space says 2 to 4"),
        ("hands", (1, 1), 4, "holds 4; its space says 0 to 3"),
        ("switch", (0, 0), 2, "holds 2; its space says 0 to 1"),
    ],
)
def test_what_lies_outside_is_named_with_environment_and_leaf(leaf, index, value, fault):
    observation = good()
    observation[leaf][index] = value
    message = refusal(lambda: doorkeeper().check(observation))
    assert message == f"environment Tests/House-v0: observation {leaf!r} {fault}"


def test_a_wrong_shape_is_named():
    observation = good() | {"speed": np.zeros((2, 3), np.float32)}
    message = refusal(lambda: doorkeeper().check(observation))
    assert "observation 'speed' has shape (3,); its space says (2,)" in message


@pytest.mark.parametrize(
    ("leaf", "dtype", "fault"),
    [
        ("gear", np.float32, "has dtype float32; its space says int64"),
        ("view", np.int64, "has dtype int64; its space says uint8"),
        ("speed", object, "has dtype object; its space says float32"),
    ],
)
def test_a_dtype_that_does_not_fit_is_named(leaf, dtype, fault):
    observation = good()
    observation[leaf] = observation[leaf].astype(dtype)
    message = refusal(lambda: doorkeeper().check(observation))
    assert message == f"environment Tests/House-v0: observation {leaf!r} {fault}"


def test_a_dtype_that_is_as_good_passes():
    observation = good()
    for leaf, dtype in (("speed", np.float64), ("gear", np.int8), ("switch", np.bool_)):
        observation[leaf] = observation[leaf].astype(dtype)
    doorkeeper().check(observation)


def test_what_an_agent_senses_and_does_is_told(register):
    register("Tests/Motley-v0", Motley)
    environment = make_environment(EnvironmentConfig(id="Tests/Motley-v0", num_envs=2))
    told = suits_agent(environment)
    assert "screen Box (9, 9, 3) uint8" in told
    assert "body/gear Discrete(3, start=2)" in told
    assert "does Discrete(3, start=-1)" in told


def test_a_missing_leaf_is_named():
    observation = good()
    del observation["gear"]
    assert "observation 'gear' is missing" in refusal(lambda: doorkeeper().check(observation))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_reward_that_is_not_finite_is_named(value):
    message = refusal(lambda: doorkeeper().check(good(), np.array([0.0, value])))
    assert message == "environment Tests/House-v0: the reward is NaN or infinite"


class Faulty(gymnasium.Env):
    """Fine for a while; then one thing is wrong."""

    observation_space = spaces.Dict({"speed": spaces.Box(-1.0, 1.0, (2,), np.float32)})
    action_space = spaces.Discrete(2)

    def __init__(self, fault, when=7):
        self.fault, self.when, self.steps = fault, when, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._observation(-self.steps % 2), {}

    def step(self, action):
        self.steps += 1
        wrong = self.steps == self.when
        value = {"nan": math.nan, "outside": 2.0}.get(self.fault, 0.5) if wrong else 0.5
        reward = math.nan if wrong and self.fault == "reward" else 0.0
        # The faulty observation is also the last of its episode, which is in no row.
        return self._observation(value), reward, False, self.steps % 7 == 0, {}

    def _observation(self, value):
        return {"speed": np.full(2, value, np.float32)}


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("nan", "observation 'speed' is NaN"),
        ("outside", "observation 'speed' holds 2.0; its space says -1.0 to 1.0"),
        ("reward", "the reward is NaN or infinite"),
    ],
)
@pytest.mark.parametrize("when", [6, 7])
def test_a_faulty_environment_stops_the_run_and_the_weights_stay(
    register, small_config, tmp_path, fault, expected, when
):
    register("Tests/Faulty-v0", Faulty, disable_env_checker=True)
    config = foreign(small_config, "Tests/Faulty-v0", fault=fault, when=when)
    message = refusal(lambda: train(config, tmp_path / "run", show_progress=False))
    assert message == f"environment Tests/Faulty-v0: {expected}"
    assert [row["updates"] for row in read_rows(tmp_path / "run" / "metrics.jsonl")] == [1]


@pytest.mark.parametrize("name", ["CartPole-v1", "FrozenLake-v1", "Tests/Motley-v0"])
def test_foreign_environments_train_without_a_line_of_code(register, small_config, tmp_path, name):
    register("Tests/Motley-v0", Motley)
    run = train(foreign(small_config, name), tmp_path / "run", show_progress=False)
    rows = read_rows(run.metrics)
    assert [row["updates"] for row in rows] == [1, 2, 3]
    assert all(math.isfinite(row["gradient_norm"]) for row in rows)
    assert sum(row["episodes"] for row in rows) > 0 or name != "Tests/Motley-v0"


def test_a_foreign_run_goes_on_with_fresh_episodes(small_config, tmp_path):
    """Somebody else's environment cannot be asked for its state; the agent's is kept."""
    config = foreign(small_config, "CartPole-v1")
    run = train(config, tmp_path / "run", show_progress=False)
    before = load_checkpoint(run.checkpoint)
    train(dataclasses.replace(config, frames=90), run.path, show_progress=False)
    after = load_checkpoint(run.checkpoint)
    assert (before["learner"]["updates"], after["learner"]["updates"]) == (3, 6)
    assert [row["updates"] for row in read_rows(run.metrics)] == [1, 2, 3, 4, 5, 6]
    assert not torch.equal(before["actor"]["generator"], after["actor"]["generator"])


def test_the_monitor_needs_an_environment_that_answers_questions(small_config, tmp_path):
    config = small_config(env={"id": "CartPole-v1"})
    message = refusal(lambda: train(config, tmp_path / "run", show_progress=False))
    assert "probe.online is True, but CartPole-v1 answers no questions" in message
    assert list(tmp_path.iterdir()) == []


class Unreadable(Motley):
    """Says something in free text."""

    observation_space = spaces.Dict({"fine": spaces.Discrete(2), "note": spaces.Text(5)})


class Unwieldy(Motley):
    """It is steered by a whole number."""

    action_space = spaces.Box(0, 9, (1,), np.int64)


def test_spaces_that_no_agent_reads_or_acts_in_are_refused_by_name(
    register, small_config, tmp_path
):
    register("Tests/Unreadable-v0", Unreadable)
    run = tmp_path / "run"
    config = foreign(small_config, "Tests/Unreadable-v0")
    assert "observation 'note' is a Text space" in refusal(lambda: train(config, run))
    register("Tests/Unwieldy-v0", Unwieldy)
    config = foreign(small_config, "Tests/Unwieldy-v0")
    assert "action space is Box of int64; expected Disc" in refusal(lambda: train(config, run))
    assert list(tmp_path.iterdir()) == []


def test_observations_become_tensors_leaf_by_leaf():
    observation = {"a": np.arange(3), "b": {"c": np.ones((3, 2), np.float32)}}
    tensors = observe(observation, torch.device("cpu"))
    assert tensors["a"].tolist() == [0, 1, 2]
    assert tensors["b/c"].shape == (3, 2)
