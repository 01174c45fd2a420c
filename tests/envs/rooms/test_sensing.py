"""What was sensed of a view, against a slow reference, and against all that was in sight."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from hypothesis import given, settings
from hypothesis import strategies as st

from groundling.envs.questions import AttendedSource
from groundling.envs.rooms.house import Houses
from groundling.envs.rooms.house_options import HouseOptions
from groundling.envs.rooms.parallel import HouseEnv
from groundling.envs.rooms.single import RoomsEnv
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.envs.rooms.world import NEVER

from .house_reference import ReferenceHouse
from .reference import ReferenceRoom

HOUSES = [
    {"size": 5, "objects": 3, "view_size": 5},
    {"layout": "l_shape", "size": 6, "objects": 4, "view_size": 7, "sizes": 2},
    {"layout": "four_rooms", "size": 3, "objects": (3, 5), "view_size": 7, "doors": True},
    {"task": "go_to", "size": 3, "objects": 2, "view_size": 3, "episode_length": 20},
    {"size": 4, "view_size": 5, "view_pixels": 4, "compass": False},
]
B = 4


def attending(house: dict, number: int = B, seed: int = 0) -> RoomsVectorEnv:
    """Rooms whose agents are about to say what they sensed of their first views."""
    env = RoomsVectorEnv(number, **{"episode_length": 11, "stagger": True} | house)
    env.attended = True
    env.reset(seed=seed)
    return env


def everything(env: RoomsVectorEnv) -> np.ndarray:
    return np.ones((env.num_envs, *env.single_observation_space["view"].shape[:2]), np.bool_)


def in_pixels(cells: np.ndarray, env: RoomsVectorEnv) -> np.ndarray:
    """A mask of cells [B, V, V] as one of the view as it is observed."""
    p = max(env.rooms.view_pixels, 1)
    return cells.repeat(p, axis=1).repeat(p, axis=2)


@settings(max_examples=25)
@given(st.sampled_from(HOUSES), st.integers(0, 10**6), st.sampled_from([0.05, 0.4, 0.9]))
def test_random_glimpses_agree_with_the_reference(house, seed, share):
    env, generator = attending(house, seed=seed), np.random.default_rng(seed)
    V, doors = env.rooms.view_size, env.rooms.doors
    rooms = [ReferenceRoom(env.world, room, doors=doors) for room in range(B)]
    for _ in range(16):
        cells = generator.random((B, V, V)) < share
        env.attend(in_pixels(cells, env))
        for room, sensed in zip(rooms, cells, strict=True):
            room.look(V, sensed)
        np.testing.assert_array_equal(env.world.seen_at, [room.seen_at for room in rooms])
        actions = generator.integers(0, 4, B)
        _, _, terminations, truncations, _ = env.step(actions)
        for room in range(B):
            rooms[room].step(int(actions[room]))
            if terminations[room] or truncations[room]:
                rooms[room] = ReferenceRoom(env.world, room, doors=doors)
    assert env.world.episode.any()


@pytest.mark.parametrize("house", HOUSES)
def test_who_senses_all_that_is_in_sight_knows_what_is_known_without_attention(house):
    env, plain = attending(house, 30), RoomsVectorEnv(30, **vars(attending(house).rooms))
    seen = plain.reset(seed=0)
    assert data_equivalence(env.reset(seed=0), seen, exact=True)
    generator, settled = np.random.default_rng(0), 0
    for step in range(40):
        env.attend(everything(env))
        assert data_equivalence(env.get_state(), plain.get_state(), exact=True)
        assert data_equivalence(env.draw_maps()._asdict(), plain.draw_maps()._asdict(), exact=True)
        if step % 8 == 0:
            ours, theirs = (one.ask(np.random.default_rng(step)) for one in (env, plain))
            assert data_equivalence(vars(ours), vars(theirs), exact=True)
            settled += ours.answerable.sum()
            guesses = [one.guess(ours, np.random.default_rng(1)) for one in (env, plain)]
            np.testing.assert_array_equal(*guesses)
        actions = generator.integers(0, 4, 30)
        assert data_equivalence(env.step(actions), plain.step(actions), exact=True)
    assert settled > 20


@pytest.mark.parametrize("attended_to", ["nothing", "no call"])
def test_who_senses_nothing_knows_nothing(attended_to):
    env = attending({"sizes": 2}, 40)
    generator = np.random.default_rng(0)
    names = np.array(env.question_types)
    for _ in range(30):
        if attended_to == "nothing":
            env.attend(~everything(env))
        env.observe()
        questions = env.ask(generator)
        about = np.char.startswith(names[questions.type], "attribute")
        assert about.sum() > 100
        assert not questions.answerable[about].any()
        assert (env.world.seen_at == NEVER).all()
        assert (env.draw_maps().age < 0).all()
        env.step(generator.integers(0, 4, 40))


def test_without_attention_all_in_sight_is_noted_at_once():
    env = RoomsVectorEnv(B)
    assert env.attended is False
    env.reset(seed=0)
    assert (env.world.seen_at == 0).any(axis=(1, 2)).all()


def test_calls_for_the_same_observation_add_up():
    env, once = attending(HOUSES[0]), attending(HOUSES[0])
    generator = np.random.default_rng(0)
    first, second = generator.random((2, B, 5, 5)) < 0.3
    env.attend(first)
    env.attend(second)
    once.attend(first | second)
    np.testing.assert_array_equal(env.world.seen_at, once.world.seen_at)


def test_what_is_not_sensed_again_keeps_its_age():
    env = attending({"stagger": False})
    env.attend(everything(env))
    before = env.world.seen_at.copy()
    env.step(np.zeros(B, np.int64))
    env.attend(~everything(env))
    np.testing.assert_array_equal(env.world.seen_at, before)
    only_itself = ~everything(env)
    only_itself[:, -1, env.rooms.view_size // 2] = True
    env.attend(only_itself)
    changed = np.argwhere(env.world.seen_at != before)
    np.testing.assert_array_equal(changed[:, 1:], env.world.agent[:, :2])
    assert (env.world.seen_at[env.world.seen_at != before] == 1).all()


def test_a_cell_counts_only_with_all_of_its_pixels():
    env = attending({"view_pixels": 4, "view_size": 3, "stagger": False})
    sensed = ~everything(env)
    sensed[:, 8:12, 4:8] = True  # The cell the agent is in.
    sensed[1, 11, 7] = False
    env.attend(sensed)
    for room in range(B):
        there = [] if room == 1 else [env.world.agent[room, :2].tolist()]
        assert np.argwhere(env.world.seen_at[room] != NEVER).tolist() == there


def test_rooms_that_are_reset_forget_and_the_others_do_not():
    env = attending({"episode_length": 100, "stagger": False})
    for _ in range(5):
        env.attend(everything(env))
        env.step(np.ones(B, np.int64))
    before, mask = env.world.seen_at.copy(), np.array([True, False, True, False])
    env.reset(options={"reset_mask": mask})
    assert (env.world.seen_at[mask] == NEVER).all()
    np.testing.assert_array_equal(env.world.seen_at[~mask], before[~mask])
    assert (before[~mask] == 4).any(axis=(1, 2)).all()


def test_a_state_resumes_with_what_was_sensed():
    env, other = attending(HOUSES[1]), attending(HOUSES[1], seed=9)
    generator = np.random.default_rng(0)

    def go_on(one: RoomsVectorEnv, glimpses: np.ndarray) -> dict:
        for glimpse in glimpses:
            one.attend(glimpse)
            one.step(one.explorer_actions())
        return one.get_state()

    glimpses = generator.random((2, 12, B, 7, 7)) < 0.2
    state = go_on(env, glimpses[0])
    assert (state["seen_at"] != NEVER).any()
    expected = go_on(env, glimpses[1])
    other.set_state(state)
    assert data_equivalence(go_on(other, glimpses[1]), expected, exact=True)


@pytest.mark.parametrize(
    ("sensed", "message"),
    [
        (np.ones((B, 5, 4), np.bool_), r"sensed is bool \(4, 5, 4\), expected bool \(4, 5, 5\)"),
        (np.ones((B + 1, 5, 5), np.bool_), r"sensed is bool \(5, 5, 5\), expected bool"),
        (np.ones((B, 25), np.bool_), r"sensed is bool \(4, 25\), expected bool"),
        (np.ones((B, 5, 5), np.uint8), r"sensed is uint8 \(4, 5, 5\), expected bool"),
        (True, r"sensed is True, expected bool \(4, 5, 5\)"),
    ],
)
def test_anything_but_a_mask_of_the_views_is_refused(sensed, message):
    env = attending({})
    with pytest.raises(ValueError, match=message):
        env.attend(sensed)
    assert (env.world.seen_at == NEVER).all()


def test_a_mask_of_images_has_their_size():
    env = attending({"view_pixels": 4})
    with pytest.raises(ValueError, match=r"expected bool \(4, 20, 20\)"):
        env.attend(np.ones((B, 5, 5), np.bool_))


@pytest.mark.parametrize("env", [RoomsVectorEnv(B), HouseEnv(agents=B)])
def test_nobody_attends_unless_it_was_announced(env):
    assert isinstance(env, AttendedSource)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"needs attended = True, set before reset\(\)"):
        env.attend(np.ones((B, 5, 5), np.bool_))


def test_a_single_room_that_cannot_be_asked_is_no_source():
    assert not isinstance(RoomsEnv(), AttendedSource)


@pytest.mark.parametrize("pixels", [0, 4])
def test_agents_of_a_house_know_what_each_of_them_sensed(pixels):
    H, A, V = 6, 3, 5
    options = HouseOptions(
        agents=A, size=4, objects=4, mode="competitive", quota=2, view_pixels=pixels
    )
    houses, p = Houses(H, options), max(pixels, 1)
    houses.world.seed[:] = np.arange(H * A)
    houses.attended = True
    houses.begin(np.ones(H, np.bool_))
    houses.look()
    references = [ReferenceHouse(houses, house) for house in range(H)]
    generator, left = np.random.default_rng(0), 0
    for _ in range(60):
        sensed = generator.random((H * A, V, V)) < 0.3
        houses.attend(sensed.repeat(p, axis=1).repeat(p, axis=2))
        for row, glimpse in enumerate(sensed):
            if row % A in references[row // A].present:
                references[row // A].rooms[row % A].look(V, glimpse)
        known = [room.seen_at for one in references for room in one.rooms]
        np.testing.assert_array_equal(houses.world.seen_at, known)
        actions = generator.integers(0, 4, H * A)
        houses.step(actions)
        for house, one in enumerate(references):
            one.step(actions[A * house : A * (house + 1)])
        left += (~houses.members.present).sum()
    assert left > 50


def test_agents_of_a_house_are_asked_about_what_they_sensed():
    env, plain = HouseEnv(agents=3), HouseEnv(agents=3)
    env.attended = True
    assert env.attended
    env.reset(seed=0)
    plain.reset(seed=0)
    sensed = np.zeros((3, 5, 5), np.bool_)
    sensed[1] = True
    for _ in range(6):
        env.attend(sensed)
        known = env.world.seen_at
        np.testing.assert_array_equal(known[1], plain.world.seen_at[1])
        assert (known[[0, 2]] == NEVER).all()
        for one in (env, plain):
            one.step(dict.fromkeys(one.agents, 1))
    questions = env.ask(np.random.default_rng(0))
    ages = questions.steps_since_seen
    assert (ages[questions.world != 1] < 0).all()
    assert (ages[questions.world == 1] >= 0).any()
    env.reset()
    assert (env.world.seen_at == NEVER).all()
