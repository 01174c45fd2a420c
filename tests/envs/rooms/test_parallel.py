"""The PettingZoo environment: PettingZoo's own checks, and what they leave out."""

import pickle
import warnings
from functools import partial

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import data_equivalence

from groundling.envs import groundling_house_v0
from groundling.envs.questions import Oracle, TypedQuestions
from groundling.envs.rooms.explorer import explorer_actions
from groundling.envs.rooms.parallel import HouseEnv
from groundling.envs.rooms.single import RoomsEnv
from groundling.envs.rooms.world import OBJECT_COLOUR, OBJECT_SHAPE, OBJECT_SIZE, WALL, WHAT

from .house_reference import ReferenceHouse

with warnings.catch_warnings():
    # They make environments of their own in a way that PettingZoo deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    from pettingzoo.test import (
        api_test,
        max_cycles_test,
        parallel_api_test,
        parallel_seed_test,
        render_test,
    )
    from pettingzoo.test.state_test import state_test

HOUSES = [
    {},
    {"agents": 1},
    {"agents": 4, "mode": "competitive", "quota": 1, "size": 3, "objects": 2, "compass": False},
    {"agents": 3, "layout": "four_rooms", "doors": True, "sizes": 2, "wall_colours": True},
]


@pytest.mark.parametrize("house", HOUSES)
def test_pettingzoo_finds_nothing_to_warn_of(house, capsys):
    parallel_api_test(HouseEnv(**house))
    assert "Passed" in capsys.readouterr().out


# PettingZoo would rather have arrays than a view with a direction. It wants nothing else.
@pytest.mark.filterwarnings("ignore:Observation is not a NumPy array")
@pytest.mark.filterwarnings("ignore:Observation space for each agent probably should be")
@pytest.mark.parametrize("house", HOUSES)
def test_the_house_of_turns_passes_pettingzoos_check(house, capsys):
    api_test(groundling_house_v0.env(**house), num_cycles=100)
    assert "Passed" in capsys.readouterr().out


def test_pettingzoos_other_checks_pass():
    max_cycles_test(groundling_house_v0)
    parallel_seed_test(HouseEnv)
    state_test(groundling_house_v0.env(agents=3), HouseEnv(agents=3, layout="two_rooms"))


def test_every_render_mode_passes_pettingzoos_check(monkeypatch):
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    render_test(partial(groundling_house_v0.env, agents=3, mode="competitive", quota=1))


def walk(env: HouseEnv, seed: int, steps: int) -> list:
    """All that an environment says on a random walk, episode after episode."""
    generator = np.random.default_rng(0)
    said = [env.reset(seed=seed)]
    for _ in range(steps):
        if not env.agents:
            said.append(env.reset())
        actions = generator.integers(0, 4, len(env.possible_agents))
        said.append(env.step({a: actions[env.possible_agents.index(a)] for a in env.agents}))
    return said


@pytest.mark.parametrize("house", HOUSES[2:])
def test_the_same_seed_and_actions_give_the_same_for_500_steps(house):
    one, same = (walk(HouseEnv(**house, episode_length=50), 7, 500) for _ in range(2))
    other = walk(HouseEnv(**house, episode_length=50), 8, 500)
    assert data_equivalence(one, same, exact=True)
    assert not data_equivalence(one, other, exact=True)
    assert not data_equivalence(one[0], other[0], exact=True)


@pytest.mark.parametrize(
    "house",
    [
        {"layout": "l_shape", "size": 6, "objects": 4, "sizes": 2},
        {"layout": "corridor", "doors": True, "size": (3, 4), "wall_colours": True},
    ],
)
def test_one_agent_lives_as_in_rooms_env(house):
    house |= {"episode_length": 40}
    alone, single = HouseEnv(agents=1, **house), RoomsEnv(**house)
    assert alone.observation_space("agent_0") == single.observation_space
    generator, earned = np.random.default_rng(0), 0.0
    seen = [alone.reset(seed=3)[0]["agent_0"], single.reset(seed=3)[0]]
    for _ in range(200):
        assert data_equivalence(*seen, exact=True)
        scripted = generator.random() < 0.6
        action = explorer_actions(single.world)[0] if scripted else generator.integers(0, 4)
        observed, rewards, terminated, truncated, _ = alone.step({"agent_0": action})
        found = observed["agent_0"], rewards["agent_0"], terminated["agent_0"], truncated["agent_0"]
        *expected, _ = single.step(action)
        assert found[1:] == tuple(expected[1:])
        seen, earned = [found[0], expected[0]], earned + found[1]
        if truncated["agent_0"]:
            seen = [alone.reset()[0]["agent_0"], single.reset()[0]]
    assert earned > 0


def test_agents_finish_at_different_times_and_nobody_comes_back():
    env = HouseEnv(agents=3, mode="competitive", quota=1, size=3, objects=3, episode_length=300)
    ends, generator = [], np.random.default_rng(0)
    for _ in range(20):
        env.reset(seed=None if ends else 0)
        assert env.agents == env.possible_agents == ["agent_0", "agent_1", "agent_2"]
        end = dict.fromkeys(env.agents, 0)
        while env.agents:
            before = env.agents
            *values, infos = env.step({agent: generator.integers(0, 4) for agent in before})
            assert all(set(value) == set(before) for value in (*values, infos))
            over = [agent for agent in before if values[2][agent] or values[3][agent]]
            assert env.agents == [agent for agent in before if agent not in over]
            for agent in before:
                end[agent] += 1
                assert values[2][agent] == (values[1][agent] == 1)
        ends.append(tuple(end.values()))
    assert sum(len(set(end)) == 3 for end in ends) > 10


def test_every_agent_is_given_what_it_sees_itself():
    env = HouseEnv(agents=3, mode="competitive", quota=1, size=4, objects=4, episode_length=20)
    generator = np.random.default_rng(0)
    for seed in (0, None, None, None):
        observations, _ = env.reset(seed=seed)
        reference = ReferenceHouse(env.houses, 0)
        while True:
            for agent, observation in observations.items():
                number = env.possible_agents.index(agent)
                np.testing.assert_array_equal(observation["view"], reference.look(number))
                assert observation["direction"] == reference.rooms[number].direction
            if not env.agents:
                break
            actions = {agent: generator.integers(0, 4) for agent in env.agents}
            observations, *_ = env.step(actions)
            reference.step([actions.get(agent, 0) for agent in env.possible_agents])


def test_episodes_follow_each_other_and_first_ones_differ():
    one, other = HouseEnv(), HouseEnv()
    one.reset(seed=4)
    first = one.world.cells[0].copy()
    one.reset()
    assert one.world.episode.tolist() == [1, 1]
    assert (one.world.cells[0] != first).any()
    other.reset()
    fresh = int(other.world.seed[0])
    another = HouseEnv()
    another.reset()
    assert fresh != int(another.world.seed[0])


def test_what_is_asked_of_a_house_in_the_wrong_way_is_refused():
    env = HouseEnv(agents=2, episode_length=1)
    with pytest.raises(ResetNeeded):
        env.step({"agent_0": 0, "agent_1": 0})
    with pytest.raises(ResetNeeded):
        HouseEnv(render_mode="ansi").render()
    env.reset(seed=0)
    for actions in ({"agent_0": 0}, {"agent_0": 0, "agent_1": 0, "agent_2": 0}, {}):
        with pytest.raises(ValueError, match="expected those of"):
            env.step(actions)
    with pytest.raises(ValueError, match="an action is not in 0"):
        env.step({"agent_0": 0, "agent_1": 4})
    with pytest.raises(TypeError):
        env.step({"agent_0": 0, "agent_1": 0.5})
    env.step({"agent_0": 0, "agent_1": 0})
    assert env.agents == []
    with pytest.raises(ResetNeeded):
        env.step({})
    with pytest.raises(ValueError, match="seed=-1, expected"):
        env.reset(seed=-1)
    with pytest.raises(ValueError, match="max_cycles=3, expected only one of it"):
        HouseEnv(max_cycles=3, episode_length=3)
    with pytest.raises(ValueError, match="render_mode='film'"):
        HouseEnv(render_mode="film")


def test_the_space_of_a_view_ends_with_the_last_agent():
    space = HouseEnv(agents=4, shapes=8, colours=6).observation_space("agent_2")
    assert space["view"].high[0, 0].tolist() == [11, 10, 4]
    assert HouseEnv(sizes=2).observation_space("agent_0")["view"].high[0, 0].tolist() == [11, 8, 4]


def test_the_state_tells_everything():
    env = HouseEnv(agents=2, size=4, objects=2, mode="competitive", quota=1)
    env.reset(seed=0)
    row, column = env.world.objects[0, 0, :2].tolist()
    env.world.agent[:] = (row, column - 1, 0), (row, column + 1, 1)
    expected = np.zeros((6, 6, 6), np.uint8)
    expected[..., WHAT] = WALL
    expected[1:-1, 1:-1, WHAT] = 1
    for thing in env.world.objects[0].tolist():
        codes = thing[OBJECT_SHAPE] + 3, thing[OBJECT_COLOUR] + 1, thing[OBJECT_SIZE] + 1
        expected[thing[0], thing[1], :3] = codes
    expected[row, column - 1, 4:] = 1, 1
    expected[row, column + 1, 4:] = 2, 2
    np.testing.assert_array_equal(env.state(), expected)
    env.step({"agent_0": 2, "agent_1": 0})
    expected[row, column, 3] = 1
    expected[row, column - 1, 4:] = 0  # It has its quota.
    expected[row, column + 1, 5] = 1
    np.testing.assert_array_equal(env.state(), expected)


def test_a_picture_shows_all_who_acted_and_what_anybody_sees():
    house = {"agents": 2, "layout": "two_rooms", "size": 3, "objects": 1, "view_size": 3}
    env = HouseEnv(render_mode="rgb_array", mode="competitive", quota=1, **house)
    alone = HouseEnv(render_mode="rgb_array", **(house | {"agents": 1}))
    assert HouseEnv().render() is None
    env.reset(seed=1)
    alone.reset(seed=1)
    ours, theirs = env.render(), alone.render()
    assert ours.shape == theirs.shape
    assert ours.dtype == np.uint8
    row, column = env.world.agent[1, :2] * (len(ours) // env.rooms.grid_shape[0])
    tile = slice(row, row + 40), slice(column, column + 40)
    assert (ours[tile] != theirs[tile]).any()
    assert ours.mean() > theirs.mean()  # More is bright.
    env.world.seen_at[1] = -1
    assert ours.mean() > env.render().mean()


def test_a_map_in_letters_shows_all_agents():
    env = HouseEnv(render_mode="ansi", agents=3, size=6)
    env.reset(seed=0)
    house = "".join(env.render().splitlines()[:8])
    assert sum(house.count(arrow) for arrow in "<>v^") == 3


def test_agents_can_be_asked_until_they_leave():
    env = HouseEnv(agents=3, mode="competitive", quota=1, size=4, objects=3)
    env.reset(seed=0)
    assert isinstance(env, Oracle)
    assert isinstance(env, TypedQuestions)
    generator = np.random.default_rng(0)
    for _ in range(10):
        questions = env.ask(generator)
        assert set(questions.world) == {0, 1, 2}
        guesses = env.guess(questions, generator)
        settled = questions.answerable
        np.testing.assert_array_equal(guesses[settled], questions.answer[settled])
    env.houses.members.present[1] = False
    assert set(env.ask(generator).world) == {0, 2}
    assert env.typed_question("how many red objects are there ?").world.tolist() == [0, 2]


def test_a_copy_goes_on_as_the_house_does():
    env = HouseEnv(agents=2)
    env.reset(seed=0)
    env.step({"agent_0": 2, "agent_1": 1})
    copy = pickle.loads(pickle.dumps(env))
    for _ in range(10):
        actions = {agent: env.action_space(agent).sample() for agent in env.agents}
        assert data_equivalence(env.step(actions), copy.step(actions), exact=True)
