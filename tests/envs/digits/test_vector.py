from copy import deepcopy

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode

from groundling.envs.digits.vector import ClutteredDigitsVectorEnv

OPTIONS = {"canvas": 40, "glimpses": 3}


def walk(env, steps, generator):
    """Take random steps and give everything that came back."""
    return [env.step(generator.integers(0, 10, env.num_envs)) for _ in range(steps)]


def test_spaces_are_exact():
    env = ClutteredDigitsVectorEnv(5)
    assert env.single_observation_space.shape == (60, 60, 1)
    assert (env.single_observation_space.low == 0).all()
    assert (env.single_observation_space.high == 255).all()
    assert env.single_action_space.n == 10
    observation, info = env.reset(seed=0)
    assert observation in env.observation_space
    kinds = {name: (info[name].dtype, info[name].shape) for name in ("label", "target", "digit")}
    expected = {
        "label": (np.int64, (5,)),
        "target": (np.float32, (5, 2)),
        "digit": (np.int64, (5,)),
    }
    assert kinds == expected


def test_the_last_action_names_the_digit_and_earlier_ones_change_nothing():
    env = ClutteredDigitsVectorEnv(40, **OPTIONS)
    generator = np.random.default_rng(0)
    first, info = env.reset(seed=0)
    for _ in range(3):
        label = info["label"]
        for _ in range(2):
            # The label itself, where it is named too early.
            given = np.where(generator.random(40) < 0.5, label, generator.integers(0, 10, 40))
            observation, rewards, terminations, truncations, info = env.step(given)
            np.testing.assert_array_equal(observation, first)
            np.testing.assert_array_equal(info["label"], label)
            for nothing in (rewards, terminations, truncations):
                assert not nothing.any()
        last = np.where(generator.random(40) < 0.5, label, (label + 3) % 10)
        first, rewards, terminations, truncations, info = env.step(last)
        np.testing.assert_array_equal(rewards, last == label)
        assert set(rewards) == {0.0, 1.0}
        assert rewards.dtype == np.float64
        assert terminations.all()
        assert not truncations.any()
        assert (info["label"] != label).any()


def test_an_end_tells_how_it_was_and_the_next_episode_begins_in_the_same_step():
    env = ClutteredDigitsVectorEnv(4, **OPTIONS)
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    last, before = env.reset(seed=3)
    generator = np.random.default_rng(0)
    walk(env, 1, generator)
    env.reset(seed=[None, 4, None, None], options={"reset_mask": np.arange(4) == 1})
    walk(env, 1, generator)
    ((observation, _, terminations, _, info),) = walk(env, 1, generator)
    ended = np.array([True, False, True, True])
    for flags in (terminations, info["_final_obs"], info["_final_info"]):
        np.testing.assert_array_equal(flags, ended)
    for name in ("label", "target", "digit"):
        np.testing.assert_array_equal(info["final_info"][f"_{name}"], ended)
        np.testing.assert_array_equal(info["final_info"][name][ended], before[name][ended])
        np.testing.assert_array_equal(info[name][1], before[name][1])
    assert (info["digit"] != before["digit"]).tolist() == ended.tolist()
    for row in range(4):
        if ended[row]:
            np.testing.assert_array_equal(info["final_obs"][row], last[row])
            assert info["final_obs"][row] in env.single_observation_space
            assert (observation[row] != last[row]).any()
        else:
            assert info["final_obs"][row] is None
            np.testing.assert_array_equal(observation[row], last[row])
    kept, copied = info, deepcopy(info)
    walk(env, 6, generator)
    assert data_equivalence(list(kept.pop("final_obs")), list(copied.pop("final_obs")))
    assert data_equivalence(kept, copied, exact=True)


def test_arrays_are_never_reused():
    env = ClutteredDigitsVectorEnv(3, **OPTIONS)
    env.reset(seed=0)
    first, second = walk(env, 2, np.random.default_rng(0))
    for one, other in zip(first[:4], second[:4], strict=True):
        assert not np.shares_memory(one, other)
    for name, values in first[4].items():
        assert not np.shares_memory(values, second[4][name])
        for own in (env.canvases.pixels, env.canvases.digit, env.canvases.corner):
            assert not np.shares_memory(values, own)
    assert not np.shares_memory(first[0], env.canvases.pixels)


def test_episodes_depend_on_seed_and_number_alone():
    """Neither the size of the batch nor what was done in earlier episodes changes an episode."""
    many, one = ClutteredDigitsVectorEnv(8, **OPTIONS), ClutteredDigitsVectorEnv(1, **OPTIONS)
    observations, observation = many.reset(seed=40)[0], one.reset(seed=45)[0]
    generator = np.random.default_rng(0)
    for _ in range(5):
        np.testing.assert_array_equal(observations[5], observation[0])
        observations, observation = (walk(env, 3, generator)[-1][0] for env in (many, one))
    np.testing.assert_array_equal(many.canvases.episode, 5)
    again = ClutteredDigitsVectorEnv(2, **OPTIONS)
    shown, told = again.reset(seed=[45, 46])
    assert data_equivalence((shown, told), again.reset(seed=45), exact=True)


def test_without_a_seed_the_first_episodes_are_fresh_and_then_go_on():
    env, other = ClutteredDigitsVectorEnv(3), ClutteredDigitsVectorEnv(3)
    env.reset()
    other.reset()
    seeds = env.canvases.seed.copy()
    assert len({*seeds.tolist(), *other.canvases.seed.tolist()}) == 6
    env.reset()
    np.testing.assert_array_equal(env.canvases.seed, seeds)
    np.testing.assert_array_equal(env.canvases.episode, 1)


def test_a_mask_resets_only_its_rows():
    env = ClutteredDigitsVectorEnv(3, **OPTIONS)
    first, before = env.reset(seed=0)
    walk(env, 2, np.random.default_rng(0))
    mask = np.array([False, True, False])
    observation, info = env.reset(options={"reset_mask": mask})
    assert env.canvases.elapsed.tolist() == [2, 0, 2]
    assert env.canvases.episode.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(observation[~mask], first[~mask])
    assert (observation[1] != first[1]).any()
    assert info["_digit"].tolist() == mask.tolist()
    assert info["digit"][1] != before["digit"][1]
    assert info["digit"][0] == 0  # Nothing is told of it, as SyncVectorEnv tells nothing.


def test_a_state_resumes_exactly():
    env, other = ClutteredDigitsVectorEnv(6, **OPTIONS), ClutteredDigitsVectorEnv(6, **OPTIONS)
    env.reset(seed=1)
    walk(env, 2, np.random.default_rng(1))
    env.reset(options={"reset_mask": np.arange(6) < 3})
    state = env.get_state()
    expected = walk(env, 10, np.random.default_rng(2))
    other.set_state(state)
    np.testing.assert_array_equal(state["elapsed"], [0, 0, 0, 2, 2, 2])  # A copy; it stays so.
    assert data_equivalence(other.observe(), other.observe())
    for step, again in zip(expected, walk(other, 10, np.random.default_rng(2)), strict=True):
        assert data_equivalence(step[:4], again[:4], exact=True)
        assert data_equivalence(
            {name: step[4][name] for name in ("label", "target", "digit")},
            {name: again[4][name] for name in ("label", "target", "digit")},
            exact=True,
        )
    assert data_equivalence(env.reset(), other.reset(), exact=True)


def test_a_state_shows_at_once_what_was_shown():
    env, other = ClutteredDigitsVectorEnv(2), ClutteredDigitsVectorEnv(2)
    shown, _ = env.reset(seed=1)
    other.set_state(env.get_state())
    np.testing.assert_array_equal(other.observe(), shown)


def test_a_state_of_another_environment_is_refused_and_changes_nothing():
    env, larger = ClutteredDigitsVectorEnv(2), ClutteredDigitsVectorEnv(3)
    env.reset(seed=0)
    larger.reset(seed=5)
    before = env.get_state()
    with pytest.raises(ValueError, match=r"state\['seed'\] is int64 \(3,\), expected int64 \(2,\)"):
        env.set_state(larger.get_state())
    with pytest.raises(ValueError, match="state has"):
        env.set_state({})
    assert data_equivalence(before, env.get_state(), exact=True)


def test_bad_calls_are_refused():
    with pytest.raises(ValueError, match="num_envs=0, expected at least 1"):
        ClutteredDigitsVectorEnv(0)
    with pytest.raises(ValueError, match="render_mode='human', expected one of rgb_array"):
        ClutteredDigitsVectorEnv(1, render_mode="human")
    env = ClutteredDigitsVectorEnv(2)
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(2, int))
    env.reset(seed=0, options={"reset_mask": np.array([True, False])})
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(2, int))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"actions are int64 \(3,\), expected integers \(2,\)"):
        env.step(np.zeros(3, int))
    with pytest.raises(ValueError, match=r"actions are float64 \(2,\), expected integers"):
        env.step(np.zeros(2))
    for action in (-1, 10):
        with pytest.raises(ValueError, match="an action is not in 0 … 9"):
            env.step(np.array([0, action]))
    assert env.canvases.elapsed.tolist() == [0, 0]


def test_a_picture_of_each_canvas():
    env = ClutteredDigitsVectorEnv(2, render_mode="rgb_array")
    env.reset(seed=0)
    one, other = env.render()
    assert one.shape == other.shape == (480, 480, 3)
    assert (one != other).any()
    assert ClutteredDigitsVectorEnv(2).render() is None
