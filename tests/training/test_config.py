"""Configurations: to JSON and back, and one clear line for whatever is wrong."""

import dataclasses
import json
import math

import pytest

from groundling.agents.config import AgentConfig
from groundling.envs.digits.options import DIGITS
from groundling.envs.errors import UserError
from groundling.envs.rooms.options import TASKS, RoomsOptions
from groundling.training.config import (
    MAY_CHANGE,
    EnvironmentConfig,
    LearnerConfig,
    OnlineProbeConfig,
    RolloutConfig,
    TrainConfig,
    differences,
    from_json,
    to_json,
)
from groundling.training.presets import PRESETS

UNUSUAL = TrainConfig(
    seed=2**40,
    save_every=0.5,
    track=("wandb", "tensorboard"),
    env=EnvironmentConfig(
        num_envs=3,
        rooms=RoomsOptions(layout="l_shape", size=7, shapes=("key", "vase"), colours=2, sizes=2),
    ),
    agent=AgentConfig(core_size=5),
    learner=LearnerConfig(discount=1.0, lambda_=0.0),
    probe=OnlineProbeConfig(decoder="mlp", answers_reach_agent=True),
    rollout=RolloutConfig(workers=2, device="cuda", num_gpus=0.25),
)
FOREIGN = TrainConfig(
    env=EnvironmentConfig(id="CartPole-v1", options={"a": 1, "b": 0.5, "c": "x", "d": True})
)
CONFIGS = {"default": TrainConfig(), "unusual": UNUSUAL, "foreign": FOREIGN} | {
    name: make() for name, make in PRESETS.items()
}


def through_json(config):
    return json.loads(json.dumps(to_json(config), allow_nan=False))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_configuration_comes_back_from_json_as_it_was(config):
    back = from_json(through_json(config))
    assert back == config
    assert hash(back.env.rooms.shapes) == hash(config.env.rooms.shapes)  # a tuple, not a list


@pytest.mark.parametrize("prefix", ["", "groundling:"])
def test_what_has_rooms_is_known_by_its_id(prefix):
    assert all(EnvironmentConfig(id=prefix + name).is_rooms for name in TASKS)
    digits = EnvironmentConfig(id=prefix + DIGITS, options={"canvas": 100})
    assert not digits.is_rooms
    assert digits.with_novel_combinations is None
    assert from_json({"env": to_json(TrainConfig(env=digits))["env"]}).env == digits


def test_id_and_rooms_agree_on_the_task():
    assert EnvironmentConfig(id="Groundling/GoTo-v0").rooms.task == "go_to"
    assert EnvironmentConfig(rooms=RoomsOptions(task="go_to")).id == "Groundling/GoTo-v0"
    by_module = EnvironmentConfig(id="groundling:Groundling/GoTo-v0", rooms=RoomsOptions(size=4))
    assert by_module.rooms == RoomsOptions(size=4, task="go_to")
    assert EnvironmentConfig().rooms.task == EnvironmentConfig(id="CartPole-v1").rooms.task
    assert from_json({"env": {"id": "Groundling/GoTo-v0"}}).env.rooms.task == "go_to"


def test_fields_left_out_keep_their_defaults():
    assert from_json({}) == TrainConfig()
    learner = LearnerConfig(discount=0.5)
    assert from_json({"learner": {"discount": 0.5}}) == TrainConfig(learner=learner)


def test_whole_numbers_will_do_where_a_number_is_asked_for():
    config = from_json({"save_every": 3, "learner": {"discount": 1}})
    assert type(config.save_every) is float
    assert config.learner.discount == 1.0


def test_a_configuration_cannot_be_changed_afterwards():
    for config in (TrainConfig(), EnvironmentConfig(), AgentConfig(), LearnerConfig()):
        name = dataclasses.fields(config)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, name, 1)


def complaint(values):
    """The one line with which a configuration is refused."""
    with pytest.raises(UserError) as refusal:
        from_json(values)
    message = str(refusal.value)
    assert "\n" not in message
    assert "expected" in message or "did you mean" in message
    return message


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"frame": 1}, "unknown field frame; did you mean frames?"),
        ({"learner": {"unroll_lenght": 3}}, "field learner.unroll_lenght; did you mean unroll_len"),
        ({"env": {"rooms": {"view": 3}}}, "unknown field env.rooms.view; did you mean view_size?"),
        ({"env": {"xyzzy": 3}}, "unknown field env.xyzzy; expected one of ['id', 'num_envs'"),
    ],
)
def test_an_unknown_field_is_named_with_the_nearest(values, expected):
    assert expected in complaint(values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], "the configuration is []; expected an object"),
        ({"env": 3}, "env is 3; expected an object"),
        ({"seed": 1.5}, "seed is 1.5; expected int"),
        ({"seed": True}, "seed is True; expected int"),
        ({"frames": "1000"}, "frames is '1000'; expected int"),
        ({"device": 0}, "device is 0; expected str"),
        ({"env": {"rooms": {"compass": 1}}}, "env.rooms.compass is 1; expected bool"),
        ({"learner": {"discount": "0.9"}}, "learner.discount is '0.9'; expected float"),
        ({"learner": {"discount": None}}, "learner.discount is None; expected float"),
        ({"probe": {"decoder": "gru"}}, "probe.decoder is 'gru'; expected one of lstm, mlp"),
        ({"track": "wandb"}, "track is 'wandb'; expected a list (each one of tensorboard, wandb)"),
        ({"track": ["disk"]}, "track is ('disk',); expected a list (each one of tensorboard,"),
        ({"env": {"rooms": {"shapes": 2.5}}}, "shapes is 2.5; expected int or a list (each str)"),
        ({"env": {"options": {"a": None}}}, "env.options a is None; expected bool or int"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_what_was_expected(values, expected):
    assert expected in complaint(values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"seed": -1}, "seed is -1; expected 0 or more"),
        ({"frames": 0}, "frames is 0; expected at least 1"),
        ({"log_every": 0}, "log-every is 0; expected at least 1"),
        ({"max_minutes": -1}, "max-minutes is -1.0; expected 0 or more"),
        ({"save_every": -1}, "save-every is -1.0; expected 0 or more seconds"),
        ({"env": {"num_envs": 0}}, "env.num-envs is 0; expected at least 1"),
        ({"env": {"options": {"size": 3}}}, "env.options has 'size'; expected --env.rooms.size"),
        ({"env": {"rooms": {"size": 40}}}, "size=40, expected an integer from 3 to 25"),
        ({"env": {"rooms": {"view_size": 4}}}, "view_size=4, expected an odd number"),
        ({"env": {"rooms": {"objects": 30}}}, "objects=30, expected an integer from 1 to 8 in 25"),
        ({"env": {"rooms": {"shapes": ["kye"]}}}, "shapes='kye', expected one of key,"),
        ({"agent": {"core_size": 0}}, "agent.core-size is 0; expected at least 1"),
        ({"learner": {"unroll_length": 0}}, "learner.unroll-length is 0; expected at least 1"),
        ({"learner": {"learning_rate": 0}}, "learner.learning-rate is 0.0; expected a positive"),
        ({"learner": {"learning_rate": math.nan}}, "learner.learning-rate is nan; expected a pos"),
        ({"learner": {"exploration": 1.1}}, "learner.exploration is 1.1; expected a number in"),
        ({"learner": {"discount": 1.5}}, "learner.discount is 1.5; expected a number in [0, 1]"),
        ({"learner": {"lambda_": -0.1}}, "learner.lambda is -0.1; expected a number in [0, 1]"),
        ({"learner": {"entropy_weight": -1}}, "learner.entropy-weight is -1.0; expected 0 or more"),
        ({"probe": {"every": 0}}, "probe.every is 0; expected at least 1"),
        ({"probe": {"max_gradient_norm": 0}}, "probe.max-gradient-norm is 0.0; expected a positiv"),
        ({"probe": {"answer_weight": -1}}, "probe.answer-weight is -1.0; expected 0 or more"),
        (
            {"learners": 0},
            "learners is 0; expected a number from 1 on that divides env.num-envs (16)",
        ),
        (
            {"learners": 3},
            "learners is 3; expected a number from 1 on that divides env.num-envs (16)",
        ),
        (
            {"learners": 16, "agent": {"prediction": {"loss": "simcore", "shuffled": True}}},
            "env.num-envs is 16; expected more than learners (16), as agent.prediction.shuffled",
        ),
        (
            {
                "env": {"num_envs": 1},
                "agent": {"prediction": {"loss": "simcore", "shuffled": True}},
            },
            "env.num-envs is 1; expected more than learners (1), as agent.prediction.shuffled",
        ),
        ({"rollout": {"workers": -1}}, "rollout.workers is -1; expected 0 or more"),
        ({"rollout": {"max_lag": -1}}, "rollout.max-lag is -1; expected 0 or more updates"),
        ({"rollout": {"max_failures": 0}}, "rollout.max-failures is 0; expected at least 1"),
        ({"rollout": {"stalled_after": 0}}, "rollout.stalled-after is 0.0; expected positive"),
        (
            {"rollout": {"ray_address": "auto"}},
            "rollout.ray-address is auto; expected workers to be 1 or more beside it",
        ),
        ({"rollout": {"device": "cuda"}}, "rollout.num-gpus is 0.0; expected more than 0 (such"),
        ({"rollout": {"num_gpus": 1}}, "rollout.num-gpus is 1.0; expected 0 beside rollout.devi"),
        (
            {"probe": {"online": False, "answers_reach_agent": True}},
            "probe.answers-reach-agent is True; expected probe.online True beside it",
        ),
    ],
)
def test_a_value_that_cannot_be_is_named_with_what_was_expected(values, expected):
    assert expected in complaint(values)


def test_what_a_resumed_run_may_set_anew_is_no_difference():
    anew = {
        "frames": 7,
        "max_minutes": 1.0,
        "threads": 2,
        "log_every": 3,
        "save_every": 1.0,
        "snapshot_every": 5,
        "track": ("wandb",),
    }
    rollout = {"workers": 1, "device": "cpu", "num_gpus": 0.0, "ray_address": "auto"}
    rollout |= {"max_failures": 1, "stalled_after": 1.0}
    assert {*anew, *(f"rollout.{name}" for name in rollout)} == MAY_CHANGE
    here = TrainConfig(rollout=RolloutConfig(workers=2, device="cuda", num_gpus=1.0))
    anew["rollout"] = dataclasses.replace(here.rollout, **rollout)
    assert differences(here, dataclasses.replace(here, **anew)) == []


def test_whatever_else_differs_is_listed_with_both_values():
    assert differences(UNUSUAL, UNUSUAL) == []
    wanted = dataclasses.replace(
        TrainConfig(), seed=1, learner=LearnerConfig(discount=0.5), agent=AgentConfig(core_size=2)
    )
    assert differences(TrainConfig(), wanted) == [
        "seed: 0 → 1",
        "agent.core_size: 256 → 2",
        "learner.discount: 0.97 → 0.5",
    ]
    other = dataclasses.replace(FOREIGN.env, options={"a": 2})
    (line,) = differences(FOREIGN, dataclasses.replace(FOREIGN, env=other))
    assert line.startswith("env.options: ")


def test_a_run_that_was_made_before_there_were_workers_goes_on_without():
    stored = through_json(TrainConfig())
    del stored["rollout"]
    assert differences(from_json(stored), TrainConfig()) == []
    wanted = TrainConfig(rollout=RolloutConfig(workers=1))
    assert differences(from_json(stored), wanted) == ["rollout.workers: 0 → 1"]


def test_every_field_decides_something_or_may_change():
    """A field that is added later is compared, too."""
    for field in dataclasses.fields(TrainConfig):
        if field.name in MAY_CHANGE or dataclasses.is_dataclass(getattr(TrainConfig(), field.name)):
            continue
        other = dataclasses.replace(TrainConfig())
        object.__setattr__(other, field.name, "other")
        assert differences(TrainConfig(), other), field.name


def test_an_earlier_configuration_has_one_learner():
    stored = through_json(TrainConfig())
    del stored["learners"]
    assert from_json(stored) == TrainConfig()
    assert differences(from_json(stored), TrainConfig(learners=2)) == ["learners: 1 → 2"]


def test_learners_may_be_on_a_cluster_without_workers():
    config = TrainConfig(learners=2, rollout=RolloutConfig(ray_address="auto"))
    assert from_json(through_json(config)) == config
