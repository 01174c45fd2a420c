import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence

import groundling.envs  # noqa: F401  registers the environments
from groundling.envs.digits.options import DIGITS
from groundling.envs.digits.single import ClutteredDigitsEnv
from groundling.envs.digits.vector import ClutteredDigitsVectorEnv

OPTIONS = {"canvas": 36, "glimpses": 3}


@pytest.mark.parametrize("render_mode", [None, "rgb_array"])
@pytest.mark.parametrize("options", [{}, {"canvas": 100, "split": "test", "glimpses": 1}])
def test_gymnasium_finds_nothing_to_warn_of(render_mode, options):
    check_env(gymnasium.make(DIGITS, render_mode=render_mode, **options).unwrapped)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_every_vectorization_gives_the_same_trajectories(mode):
    native = gymnasium.make_vec(DIGITS, num_envs=3, **OPTIONS)
    other = gymnasium.make_vec(
        DIGITS,
        num_envs=3,
        vectorization_mode=mode,
        vector_kwargs={"autoreset_mode": "SameStep"},
        **OPTIONS,
    )
    assert isinstance(native, ClutteredDigitsVectorEnv)
    assert native.single_observation_space == other.single_observation_space
    assert native.observation_space == other.observation_space
    assert native.action_space == other.action_space
    try:
        assert data_equivalence(native.reset(seed=9), other.reset(seed=9), exact=True)
        generator = np.random.default_rng(0)
        masks = [{"reset_mask": np.array([True, False, True])} for _ in range(2)]
        for step in range(12):
            if step == 4:
                told = native.reset(options=masks[0]), other.reset(options=masks[1])
                assert data_equivalence(*told, exact=True)
            actions = generator.integers(0, 10, 3)
            ours, theirs = native.step(actions), other.step(actions)
            assert data_equivalence(ours[:4], theirs[:4], exact=True)
            assert_same_info(ours[4], theirs[4])
    finally:
        other.close()


def assert_same_info(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key in ours:
        if key == "final_obs":
            assert ours[key].dtype == theirs[key].dtype == object
            assert data_equivalence(list(ours[key]), list(theirs[key]), exact=True)
        else:
            assert data_equivalence(ours[key], theirs[key], exact=True)


def test_a_step_needs_an_episode():
    env = ClutteredDigitsEnv(glimpses=2)
    with pytest.raises(ResetNeeded):
        env.step(0)
    _, info = env.reset(seed=0)
    assert env.step(info["label"])[1:4] == (0.0, False, False)
    assert env.step(info["label"])[1:4] == (1.0, True, False)
    with pytest.raises(ResetNeeded):
        env.step(0)
    env.reset()
    env.step(0)


def test_unseeded_first_episodes_differ():
    digits = {int(ClutteredDigitsEnv().reset()[1]["digit"]) for _ in range(5)}
    assert len(digits) > 1


def test_bad_calls_are_refused():
    with pytest.raises(ValueError, match="did you mean glimpses"):
        gymnasium.make(DIGITS, glimpse=3)
    with pytest.raises(ValueError, match="fold=7, expected an integer from 0 to 4"):
        gymnasium.make_vec(DIGITS, num_envs=2, fold=7)
    with pytest.raises(ValueError, match="render_mode='human', expected one of rgb_array"):
        ClutteredDigitsEnv(render_mode="human")
    env = ClutteredDigitsEnv()
    with pytest.raises(ValueError, match="seed=9223372036854775808, expected an integer from 0"):
        env.reset(seed=2**63)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="an action is not in 0"):
        env.step(10)
    with pytest.raises(TypeError):
        env.step(1.5)
