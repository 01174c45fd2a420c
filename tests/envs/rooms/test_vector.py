import subprocess
import sys
from copy import deepcopy

import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode

from groundling.envs.questions import Oracle
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.envs.rooms.world import HIDDEN, NEVER, WHAT

HOUSE = {"layout": "l_shape", "size": 6, "objects": 4, "sizes": 2, "episode_length": 10}
ERRANDS = {"task": "go_to", "size": 4, "objects": 5, "view_size": 3, "episode_length": 34}


def walk(env: RoomsVectorEnv, steps: int, generator: np.random.Generator) -> list:
    """Take random steps and give everything that came back."""
    return [env.step(generator.integers(0, 4, env.num_envs)) for _ in range(steps)]


def test_spaces_are_exact():
    env = RoomsVectorEnv(5, **HOUSE)
    assert env.single_observation_space["view"].high[0, 0].tolist() == [10, 6, 2]
    assert env.single_action_space.n == 4
    observation, info = env.reset(seed=0)
    assert observation in env.observation_space
    assert info == {}
    assert observation["view"].dtype == np.uint8
    assert observation["direction"].dtype == np.int64


def test_without_a_compass_there_is_no_direction():
    env = RoomsVectorEnv(5, compass=False, episode_length=2)
    observation, _ = env.reset(seed=0)
    assert list(observation) == list(env.single_observation_space) == ["view"]
    *_, info = walk(env, 2, np.random.default_rng(0))[-1]
    assert list(info["final_obs"][0]) == ["view"]


@pytest.mark.parametrize("house", [HOUSE, ERRANDS])
def test_arrays_are_never_reused(house):
    env = RoomsVectorEnv(3, **house)
    env.reset(seed=0)
    first, second = walk(env, 2, np.random.default_rng(0))
    for one, other in zip(first[1:4], second[1:4], strict=True):
        assert not np.shares_memory(one, other)
    for key in first[0]:
        assert not np.shares_memory(first[0][key], second[0][key])
        for array in env.world:
            assert not np.shares_memory(first[0][key], array)


def test_final_observations_are_kept_and_the_next_episode_begins_in_the_same_step():
    B, length = 4, HOUSE["episode_length"]
    env = RoomsVectorEnv(B, **HOUSE)
    endless = RoomsVectorEnv(B, **HOUSE | {"episode_length": 1000})
    env.reset(seed=3)
    endless.reset(seed=3)
    generator = np.random.default_rng(0)
    for step in range(1, length + 1):
        actions = generator.integers(0, 4, B)
        observation, rewards, terminations, truncations, info = env.step(actions)
        expected, expected_rewards, *_ = endless.step(actions)
        np.testing.assert_array_equal(rewards, expected_rewards)
        assert not terminations.any()
        assert truncations.all() == truncations.any() == (step == length)
        if step < length:
            assert info == {}
            assert data_equivalence(observation, expected, exact=True)
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    for room in range(B):
        assert info["final_obs"][room]["view"].tolist() == expected["view"][room].tolist()
        assert info["final_obs"][room]["direction"] == expected["direction"][room]
        assert info["final_obs"][room] in env.single_observation_space
    first_of_next, _ = endless.reset()
    assert data_equivalence(observation, first_of_next, exact=True)
    assert env.world.elapsed.tolist() == [0] * B
    # What was seen in one episode is not known in the next.
    seen, shown = env.world.seen_at != NEVER, observation["view"][..., WHAT] != HIDDEN
    np.testing.assert_array_equal(seen.sum(axis=(1, 2)), shown.sum(axis=(1, 2)))
    kept = info["final_obs"][0]["view"].copy()
    walk(env, length, generator)
    np.testing.assert_array_equal(info["final_obs"][0]["view"], kept)


def test_final_observations_of_errands_stay_what_they_were():
    """Of every part of them, the instruction included, when the same rooms end again."""
    env = RoomsVectorEnv(20, **ERRANDS)
    env.reset(seed=0)
    generator = np.random.default_rng(0)
    kept = []
    for _ in range(150):
        told = env.world.instruction.copy()
        *_, terminations, _, info = env.step(generator.integers(0, 4, 20))
        for room in np.flatnonzero(terminations):
            final = info["final_obs"][room]
            np.testing.assert_array_equal(final["instruction"], told[room])
            kept.append((final, deepcopy(final)))
    assert len(kept) > 60
    for final, copied in kept:
        assert data_equivalence(final, copied)


def test_in_a_new_episode_nothing_was_reached_yet():
    env = RoomsVectorEnv(20, **HOUSE)
    env.reset(seed=0)
    for _ in range(HOUSE["episode_length"] - 1):
        env.step(env.explorer_actions())
    assert env.world.reached.any(axis=1).sum() > 10
    env.step(env.explorer_actions())
    assert not env.world.reached.any()


def test_episodes_depend_on_seed_and_number_alone():
    """Neither the size of the batch nor what was done in earlier episodes changes an episode."""
    many, one = RoomsVectorEnv(8, **HOUSE), RoomsVectorEnv(1, **HOUSE)
    many.reset(seed=40)
    one.reset(seed=45)
    generator = np.random.default_rng(0)
    for _ in range(5):
        np.testing.assert_array_equal(many.world.cells[5], one.world.cells[0])
        np.testing.assert_array_equal(many.world.agent[5], one.world.agent[0])
        walk(many, 10, generator)
        walk(one, 10, generator)
    np.testing.assert_array_equal(many.world.episode, 5)


def test_seeds_may_be_listed():
    env = RoomsVectorEnv(3, **HOUSE)
    env.reset(seed=[7, 7, 8])
    assert env.world.seed.tolist() == [7, 7, 8]
    np.testing.assert_array_equal(env.world.cells[0], env.world.cells[1])
    env.reset(seed=[None, 9, None])
    assert env.world.seed.tolist() == [7, 9, 8]
    assert env.world.episode.tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="2 seeds, expected 3"):
        env.reset(seed=[1, 2])


@pytest.mark.parametrize("seed", [[-1, 0], [2**63, 0]])
def test_a_seed_that_does_not_fit_is_refused(seed):
    with pytest.raises(ValueError, match=r"expected an integer from 0 to 2\*\*63 - 1"):
        RoomsVectorEnv(2).reset(seed=seed)


def test_without_a_seed_the_first_episodes_are_fresh_and_then_go_on():
    env, other = RoomsVectorEnv(3), RoomsVectorEnv(3)
    env.reset()
    other.reset()
    seeds = env.world.seed.copy()
    assert len({*seeds.tolist(), *other.world.seed.tolist()}) == 6
    env.reset()
    np.testing.assert_array_equal(env.world.seed, seeds)
    np.testing.assert_array_equal(env.world.episode, 1)


def test_a_mask_resets_only_its_rooms():
    env = RoomsVectorEnv(3, **HOUSE)
    env.reset(seed=0)
    last, *_ = walk(env, 4, np.random.default_rng(0))[-1]
    mask = np.array([False, True, False])
    options = {"reset_mask": mask}
    observation, _ = env.reset(options=options)
    assert env.world.episode.tolist() == [0, 1, 0]
    assert env.world.elapsed.tolist() == [4, 0, 4]
    np.testing.assert_array_equal(observation["view"][~mask], last["view"][~mask])
    assert list(options) == ["reset_mask"]
    with pytest.raises(ValueError, match="at least one true"):
        env.reset(options={"reset_mask": np.zeros(3, bool)})
    with pytest.raises(TypeError, match="expected a bool array"):
        env.reset(options={"reset_mask": [True, False, False]})


def test_a_state_resumes_exactly():
    env, other = RoomsVectorEnv(6, stagger=True, **HOUSE), RoomsVectorEnv(6, stagger=True, **HOUSE)
    env.reset(seed=1)
    for _ in range(7):
        env.step(env.explorer_actions())
    state = env.get_state()
    assert state["reached"].any(axis=1).sum() > 1  # or a lost `reached` would not be missed
    expected = [env.step(env.explorer_actions()) for _ in range(25)]
    other.reset(seed=99)
    other.set_state(state)
    for step in expected:
        assert data_equivalence(step[:4], other.step(other.explorer_actions())[:4], exact=True)
    assert data_equivalence(env.reset(), other.reset(), exact=True)
    other.set_state(state)
    assert data_equivalence(other.observe(), RoomsVectorEnv.observe(other), exact=True)


def test_a_state_of_other_rooms_is_refused_and_changes_nothing():
    env = RoomsVectorEnv(2)
    env.reset(seed=0)
    before = env.get_state()
    larger = RoomsVectorEnv(2, size=6)
    larger.reset(seed=0)
    with pytest.raises(ValueError, match=r"state\['cells'\] is uint8 \(2, 8, 8, 3\), expected"):
        env.set_state(larger.get_state())
    with pytest.raises(ValueError, match="state has"):
        env.set_state({})
    assert data_equivalence(before, env.get_state(), exact=True)


def test_staggered_first_episodes_end_at_different_steps_and_are_otherwise_the_same():
    B, length = 300, 20
    staggered = RoomsVectorEnv(B, stagger=True, episode_length=length)
    plain = RoomsVectorEnv(B, episode_length=length)
    staggered.reset(seed=0)
    plain.reset(seed=0)
    np.testing.assert_array_equal(staggered.world.cells, plain.world.cells)
    np.testing.assert_array_equal(staggered.world.agent, plain.world.agent)
    phases = staggered.world.elapsed.copy()
    assert set(phases.tolist()) == set(range(length))
    ends = np.stack(
        [truncations for _, _, _, truncations, _ in walk(staggered, 60, np.random.default_rng(0))]
    )
    for room in range(B):
        expected = range(length - phases[room] - 1, 60, length)
        assert np.flatnonzero(ends[:, room]).tolist() == list(expected)
    staggered.reset(seed=0)
    np.testing.assert_array_equal(staggered.world.elapsed, phases)
    staggered.reset()
    np.testing.assert_array_equal(staggered.world.elapsed, 0)


def test_bad_calls_are_refused():
    with pytest.raises(ValueError, match="num_envs=0, expected at least 1"):
        RoomsVectorEnv(0)
    with pytest.raises(ValueError, match="render_mode='human', expected one of rgb_array, ansi"):
        RoomsVectorEnv(1, render_mode="human")
    with pytest.raises(ValueError, match=r"actions are int64 \(3,\), expected integers \(2,\)"):
        RoomsVectorEnv(2).step(np.zeros(3, int))
    with pytest.raises(ValueError, match=r"actions are float64 \(2,\), expected integers"):
        RoomsVectorEnv(2).step(np.zeros(2))
    with pytest.raises(ValueError, match="did you mean objects"):
        RoomsVectorEnv(2, objekts=3)


def test_rooms_can_be_asked():
    env = RoomsVectorEnv(20)
    env.reset(seed=0)
    questions = env.ask(np.random.default_rng(0))
    assert len(questions.answer) > 20


def test_rooms_are_oracles():
    env = RoomsVectorEnv(20)
    env.reset(seed=0)
    assert isinstance(env, Oracle)
    generator = np.random.default_rng(0)
    questions = env.ask(generator)[20:]
    guesses = env.guess(questions, generator)
    settled = questions.answerable
    assert 0 < settled.sum() < len(questions)
    np.testing.assert_array_equal(guesses[settled], questions.answer[settled])
    assert (guesses != questions.answer).any()


def test_questions_tell_the_time_of_their_own_room():
    env = RoomsVectorEnv(40, stagger=True, episode_length=9)
    env.reset(seed=0)
    for _ in range(5):
        questions = env.ask(np.random.default_rng(0))
        np.testing.assert_array_equal(questions.elapsed, env.world.elapsed[questions.world])
        assert questions.elapsed.dtype == np.int64
        assert len(set(questions.elapsed.tolist())) == 9
        walk(env, 1, np.random.default_rng(0))


def test_compiling_leaves_nothing_to_compile() -> None:
    """In a fresh process, every kernel that a run, a question or the explorer needs is compiled."""
    code = """
from groundling.envs.rooms import (
    combinations, company, explorer, house, kernels, oracle, pixels, questions, sensing)
from groundling.envs.rooms.vector import compile_kernels
compile_kernels()
needed = (kernels.step_rooms, kernels.begin_rooms, kernels.look_around,
          questions._draw_questions, pixels.draw_views, sensing.note_sensed,
          company.begin_houses, house.look_about, house.step_houses,
          explorer._plan, oracle._weigh_answers, combinations._shuffled)
print([kernel.__name__ for kernel in needed if not kernel.signatures])
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
