import numpy as np
import pytest

from groundling.envs.rooms.kernels import Sight, look_around, sight_of
from groundling.envs.rooms.layout import empty_world
from groundling.envs.rooms.options import MARGIN, RoomsOptions
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.envs.rooms.world import (
    COLUMN,
    DOORWAY,
    FLOOR,
    HIDDEN,
    NEVER,
    OBJECT_COLOUR,
    OBJECT_SHAPE,
    OBJECT_SIZE,
    ROW,
    SIZE,
    WALL,
    WHAT,
)

from .reference import ReferenceRoom

HOUSES = [
    {"size": 3, "objects": 1, "view_size": 3},
    {"size": 5, "objects": 3, "view_size": 5},
    {"size": 7, "objects": 16, "view_size": 15, "sizes": 2, "shapes": 24, "colours": 12},
    {"layout": "l_shape", "size": 6, "objects": 4, "view_size": 7, "sizes": 2},
    {"layout": "l_shape", "size": 11, "objects": 20, "view_size": 9},
    {"layout": "two_rooms", "size": (3, 4), "objects": (2, 4), "wall_colours": True},
    {"layout": "four_rooms", "size": 3, "objects": 5, "view_size": 7, "doors": True, "sizes": 2},
    {"layout": "corridor", "corridor_rooms": 3, "size": (3, 4), "objects": 4, "doors": True},
]


def purposeful(env: RoomsVectorEnv, generator: np.random.Generator) -> np.ndarray:
    """Random actions among those of the explorer, so that objects are reached and refreshed."""
    scripted = generator.random(env.num_envs) < 0.8
    return np.where(scripted, env.explorer_actions(), generator.integers(0, 4, env.num_envs))


@pytest.mark.parametrize("house", HOUSES)
def test_steps_and_views_agree_with_the_reference(house):
    B, steps = 50, 45
    env = RoomsVectorEnv(B, episode_length=steps + 1, **house)
    observation, _ = env.reset(seed=11)
    generator = np.random.default_rng(0)
    rooms = [ReferenceRoom(env.world, room, doors=env.rooms.doors) for room in range(B)]
    V, refreshed, closed = env.rooms.view_size, 0, env.world.cells.copy()
    for step in range(steps):
        views = np.stack([room.look(V) for room in rooms])
        np.testing.assert_array_equal(observation["view"], views, err_msg=f"step {step}")
        np.testing.assert_array_equal(observation["direction"], [r.direction for r in rooms])
        np.testing.assert_array_equal(env.world.seen_at, np.stack([r.seen_at for r in rooms]))
        actions = purposeful(env, generator)
        observation, rewards, terminations, truncations, _ = env.step(actions)
        expected = [room.step(int(action)) for room, action in zip(rooms, actions, strict=True)]
        np.testing.assert_array_equal(rewards, expected)
        assert not terminations.any()
        assert not truncations.any()
        np.testing.assert_array_equal(env.world.agent[:, :2], [(r.row, r.column) for r in rooms])
        np.testing.assert_array_equal(env.world.cells, np.stack([r.cells for r in rooms]))
        refreshed += sum(
            bool(e) and len(r.unreached) == len(r.objects)
            for e, r in zip(expected, rooms, strict=True)
        )
    if env.rooms.doors:
        assert (env.world.cells[..., WHAT] != closed[..., WHAT]).any(axis=(1, 2)).mean() > 0.5
    assert refreshed > 0 or env.rooms.most_objects_drawn > 10


def test_sight_among_random_walls_agrees_with_the_reference():
    B, options = 2000, RoomsOptions(size=7, view_size=9)
    world = empty_world(B, options)
    generator = np.random.default_rng(1)
    inside = slice(MARGIN, MARGIN + options.size)
    walls = generator.random((B, options.size, options.size)) < generator.uniform(0, 0.6, (B, 1, 1))
    world.cells[:, inside, inside, WHAT] = np.where(walls, WALL, FLOOR)
    world.agent[:, :2] = MARGIN + generator.integers(0, options.size, (B, 2))
    world.agent[:, 2] = generator.integers(0, 4, B)
    world.elapsed[:] = generator.integers(0, 100, B)
    views = np.full((B, 9, 9, 3), 77, np.uint8)
    look_around(tuple(world), tuple(sight_of(options)), views)
    rooms = [ReferenceRoom(world, room) for room in range(B)]
    np.testing.assert_array_equal(views, np.stack([room.look(9) for room in rooms]))
    np.testing.assert_array_equal(world.seen_at, np.stack([room.seen_at for room in rooms]))
    assert 0.1 < (views[..., WHAT] == HIDDEN).mean() < 0.9


def test_a_view_by_hand():
    """A wall right ahead hides what lies straight behind it and nothing beside it."""
    options = RoomsOptions(size=5, view_size=5)
    world = empty_world(1, options)
    inside = slice(MARGIN, MARGIN + options.size)
    world.cells[0, inside, inside, WHAT] = FLOOR
    top = MARGIN
    world.cells[0, top + 3, top + 2, WHAT] = WALL
    world.agent[0] = top + 4, top + 2, 3  # in the middle of the last row, facing north
    view = np.empty((1, 5, 5, 3), np.uint8)
    look_around(tuple(world), tuple(sight_of(options)), view)
    assert ["".join("?.#"[what] for what in row) for row in view[0, :, :, WHAT]] == [
        "..?..",
        "..?..",
        "..?..",
        "..#..",
        ".....",
    ]


def test_sight_comes_to_parents_first():
    for V in (3, 5, 9, 21):
        sight = sight_of(RoomsOptions(size=25, view_size=V))
        assert isinstance(sight, Sight)
        cells, parents = sight.order[:, 0], sight.order[:, 1:]
        assert (parents[1:] < np.arange(1, V * V)[:, None]).all()
        assert sorted(cells) == list(range(V * V))


def test_cells_and_list_of_objects_tell_the_same():
    env = RoomsVectorEnv(50, size=8, objects=12, sizes=2)
    env.reset(seed=0)
    for room in range(50):
        for thing in env.world.objects[room]:
            cell = env.world.cells[room, thing[ROW], thing[COLUMN]]
            codes = thing[OBJECT_SHAPE] + 3, thing[OBJECT_COLOUR] + 1, thing[OBJECT_SIZE] + 1
            assert tuple(cell) == codes
        assert (env.world.cells[room, :, :, WHAT] > WALL).sum() == 12


@pytest.mark.parametrize("actions", [[0, 4], [-1, 0]])
def test_an_unknown_action_is_refused_and_changes_nothing(actions):
    env = RoomsVectorEnv(2)
    env.reset(seed=0)
    before = env.get_state()
    with pytest.raises(ValueError, match="an action is not in 0"):
        env.step(np.array(actions))
    after = env.get_state()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_the_widest_view_along_a_corridor_agrees_with_the_reference():
    house = {"layout": "corridor", "corridor_rooms": 8, "size": 3, "objects": 10, "doors": True}
    env = RoomsVectorEnv(4, view_size=63, **house)
    env.reset(seed=0)
    cells, agent, generator = env.world.cells, env.world.agent, np.random.default_rng(0)
    doors = (cells[..., WHAT] == WALL) & (cells[..., SIZE] == DOORWAY)
    cells[..., WHAT][doors & (generator.random(doors.shape) < 0.5)] = FLOOR
    for _ in range(3):
        # Two look along the whole corridor, from its ends; two are anywhere.
        agent[:2] = (cells.shape[1] - 2, 1, 0), (cells.shape[1] - 2, 31, 2)
        for room in (2, 3):
            floor = np.argwhere(cells[room, ..., WHAT] == FLOOR)
            agent[room] = *generator.choice(floor), generator.integers(4)
        env.world.seen_at[:] = NEVER
        views = env.observe()["view"]
        rooms = [ReferenceRoom(env.world, room) for room in range(4)]
        np.testing.assert_array_equal(views, [room.look(63) for room in rooms])
        np.testing.assert_array_equal(env.world.seen_at, [room.seen_at for room in rooms])
        assert views[:2, 62 - 31, 31, WHAT].tolist() == [WALL, WALL]
