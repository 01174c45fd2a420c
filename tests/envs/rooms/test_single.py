import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence

import groundling.envs  # noqa: F401  registers the environments
from groundling.envs.rooms.single import BATCH_RENDER_MODES, RoomsEnv
from groundling.envs.rooms.vector import RoomsVectorEnv

EXPLORE, GO_TO = "Groundling/Explore-v0", "Groundling/GoTo-v0"
HOUSE = {"layout": "l_shape", "size": 6, "objects": 4, "sizes": 2, "episode_length": 7}
MANSION = {"layout": "four_rooms", "doors": True, "objects": (3, 6), "wall_colours": True}


@pytest.mark.parametrize("house", [{}, HOUSE, {"compass": False, "stagger": True}, MANSION])
@pytest.mark.parametrize("render_mode", [None, *BATCH_RENDER_MODES])
def test_gymnasium_finds_nothing_to_warn_of(render_mode, house):
    check_env(gymnasium.make(EXPLORE, render_mode=render_mode, **house).unwrapped)


@pytest.mark.parametrize("layout", ["single", "l_shape", "two_rooms", "four_rooms", "corridor"])
def test_gymnasium_finds_nothing_to_warn_of_in_instructions(layout):
    check_env(gymnasium.make(GO_TO, layout=layout, episode_length=500).unwrapped)


@pytest.mark.parametrize(
    "house",
    [
        {"combinations": "all"},
        {"combinations": "familiar"},
        {"layout": "corridor", "doors": True, "size": (3, 4)},
        {"task": "go_to", "size": 3, "objects": 2, "episode_length": 20, "view_size": 3},
    ],
)
def test_single_and_vector_agree_step_for_step(house):
    house = HOUSE | {"stagger": True} | house
    vector = RoomsVectorEnv(3, **house)
    singles = [RoomsEnv(**house) for _ in range(3)]
    observations, _ = vector.reset(seed=5)
    expected = [single.reset(seed=5 + room)[0] for room, single in enumerate(singles)]
    generator = np.random.default_rng(0)
    for _ in range(50):
        for room in range(3):
            np.testing.assert_array_equal(observations["view"][room], expected[room]["view"])
            for name in ("direction", *({"instruction"} & observations.keys())):
                np.testing.assert_array_equal(observations[name][room], expected[room][name])
        actions = generator.integers(0, 4, 3)
        observations, rewards, terminations, truncations, info = vector.step(actions)
        for room, single in enumerate(singles):
            expected[room], reward, terminated, truncated, _ = single.step(actions[room])
            found = rewards[room], terminations[room], truncations[room]
            assert (reward, terminated, truncated) == found
            if terminated or truncated:
                assert data_equivalence(info["final_obs"][room], expected[room], exact=True)
                expected[room], _ = single.reset()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_every_vectorization_gives_the_same_trajectories(mode):
    native = gymnasium.make_vec(EXPLORE, num_envs=3, **HOUSE)
    other = gymnasium.make_vec(
        EXPLORE,
        num_envs=3,
        vectorization_mode=mode,
        vector_kwargs={"autoreset_mode": "SameStep"},
        **HOUSE,
    )
    assert isinstance(native, RoomsVectorEnv)
    assert native.single_observation_space == other.single_observation_space
    assert native.observation_space == other.observation_space
    assert native.action_space == other.action_space
    try:
        assert data_equivalence(native.reset(seed=9), other.reset(seed=9), exact=True)
        generator = np.random.default_rng(0)
        for _ in range(30):
            actions = generator.integers(0, 4, 3)
            ours, theirs = native.step(actions), other.step(actions)
            assert data_equivalence(ours[:4], theirs[:4], exact=True)
            assert_same_info(ours[4], theirs[4])
        assert data_equivalence(native.reset(), other.reset(), exact=True)
        mask = np.array([True, False, True])
        options = [{"reset_mask": mask.copy()} for _ in range(2)]
        assert data_equivalence(
            native.reset(options=options[0]), other.reset(options=options[1]), exact=True
        )
    finally:
        other.close()


def assert_same_info(ours: dict, theirs: dict) -> None:
    assert ours.keys() == theirs.keys()
    for key in ours:
        if key == "final_obs":
            assert ours[key].dtype == theirs[key].dtype == object
            assert data_equivalence(list(ours[key]), list(theirs[key]), exact=True)
        else:
            assert data_equivalence(ours[key], theirs[key], exact=True)


def test_a_step_needs_an_episode():
    env = RoomsEnv(episode_length=1)
    with pytest.raises(ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    *_, truncated, _ = env.step(0)
    assert truncated
    with pytest.raises(ResetNeeded):
        env.step(0)
    env.reset()
    env.step(0)


def test_an_errand_done_needs_another_episode():
    env = RoomsEnv(task="go_to")
    env.reset(seed=0)
    generator, terminated = np.random.default_rng(0), False
    while not terminated:
        *_, terminated, truncated, _ = env.step(generator.integers(0, 4))
        assert not truncated
    with pytest.raises(ResetNeeded):
        env.step(0)


def test_unseeded_first_episodes_differ():
    seeds = set()
    for _ in range(5):
        env = RoomsEnv()
        env.reset()
        seeds.add(int(env.world.seed[0]))
    assert len(seeds) == 5


def test_bad_options_are_refused_when_made():
    with pytest.raises(ValueError, match="objects=100, expected an integer from 1 to 8"):
        gymnasium.make(EXPLORE, objects=100)
    with pytest.raises(ValueError, match="view_size=4, expected an odd number"):
        gymnasium.make_vec(EXPLORE, num_envs=2, view_size=4)
    with pytest.raises(ValueError, match="render_mode='film', expected one of rgb_array, ansi, hu"):
        RoomsEnv(render_mode="film")
    env = RoomsEnv()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="an action is not in 0"):
        env.step(4)
