from collections import Counter
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundling.envs.rooms.combinations import held_out
from groundling.envs.rooms.layout import (
    _build_walls,
    _free_cells,
    _place_in_turn,
    absent_kinds,
    empty_world,
    generate,
    rules_of,
)
from groundling.envs.rooms.options import CELLS_PER_OBJECT, LARGEST_ROOM, RoomsOptions
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.envs.rooms.world import COLUMN, FLOOR, OBJECT_COLOUR, OBJECT_SHAPE, ROW, WALL, WHAT


def flood(cells: set[tuple[int, int]], start: tuple[int, int]) -> set[tuple[int, int]]:
    """Give the cells that a walker can come to."""
    reached, front = {start}, [start]
    while front:
        row, column = front.pop()
        for place in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            if place in cells and place not in reached:
                reached.add(place)
                front.append(place)
    return reached


def assert_whole(world, room, options):
    what = world.cells[room, :, :, WHAT]
    free = set(zip(*np.nonzero(what == FLOOR), strict=True))
    agent = tuple(world.agent[room, :2])
    assert agent in free
    assert flood(free, agent) == free, "free cells fall apart"
    assert world.object_count[room] == options.objects
    for thing in world.objects[room]:
        row, column = int(thing[ROW]), int(thing[COLUMN])
        beside = {(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)}
        assert beside & free, "an object cannot be reached"
    assert len(free) + options.objects == options.cells
    assert (what == WALL).sum() == what.size - options.cells


@st.composite
def any_options(draw):
    layout = draw(st.sampled_from(["single", "l_shape"]))
    size = draw(st.integers(3, 9) | st.integers(3, LARGEST_ROOM))
    most = RoomsOptions(layout=layout, size=size, objects=1, view_size=3).most_objects
    objects = draw(st.just(most) | st.integers(1, most))
    combinations = draw(st.sampled_from(["all", "familiar"]))
    return RoomsOptions(
        layout=layout, size=size, objects=objects, combinations=combinations, view_size=3
    )


@settings(max_examples=150, deadline=None)
@given(options=any_options(), seed=st.integers(0, 2**62))
def test_rooms_are_in_one_piece_whatever_the_options(options, seed):
    world, rules, absent = empty_world(30, options), rules_of(options), absent_kinds(options)
    for room in range(30):
        world.seed[room] = seed + room
        generate(world, room, rules, absent)
        assert_whole(world, room, options)


@pytest.mark.parametrize(
    "options",
    [
        RoomsOptions(size=3, objects=3, view_size=3),
        RoomsOptions(size=4, objects=5, view_size=3),
        RoomsOptions(size=5, objects=8, view_size=3),
        RoomsOptions(layout="l_shape", size=3, objects=2, view_size=3),
        RoomsOptions(layout="l_shape", size=5, objects=7, view_size=3),
    ],
)
def test_thousands_of_crowded_rooms_are_in_one_piece(options):
    B = 2000
    world, rules, absent = empty_world(B, options), rules_of(options), absent_kinds(options)
    for room in range(B):
        world.seed[room] = room
        generate(world, room, rules, absent)
        assert_whole(world, room, options)


def test_a_room_in_which_random_order_got_stuck_is_filled_row_by_row():
    B = 40_000
    env = RoomsVectorEnv(B, layout="l_shape", size=6, objects=9, view_size=3)
    env.reset(seed=0)
    assert (env.world.object_count == 9).all()
    places = env.world.objects[:, :, ROW].astype(int) * 256 + env.world.objects[:, :, COLUMN]
    # Nine random places are in order once in 9! rooms, so hardly ever in this many.
    stuck = np.flatnonzero((np.diff(places, axis=1) > 0).all(axis=1))
    assert 0 < len(stuck) < 20
    for room in stuck:
        assert_whole(env.world, room, env.rooms)


@pytest.mark.parametrize("layout", ["single", "l_shape"])
def test_row_by_row_a_third_of_every_room_can_be_filled(layout):
    """The fallback that generation ends on holds for every floor plan there is."""
    for size in range(3, LARGEST_ROOM + 1):
        options = RoomsOptions(layout=layout, size=size, objects=1, view_size=3)
        width, plans = options.grid_size, set()
        for state in range(60):
            cells = empty_world(1, options).cells[0].reshape(-1, 3)
            _build_walls(cells, width, rules_of(options), np.uint64(state))
            plan = cells[:, WHAT].tobytes()
            if plan in plans:
                continue
            plans.add(plan)
            count = options.cells // CELLS_PER_OBJECT
            places, _ = _place_in_turn(
                cells, width, count, _free_cells(cells), False, np.uint64(state)
            )
            assert len(places) == count, (layout, size)
        assert len(plans) == (1 if layout == "single" else 4)


def test_shapes_and_colours_are_uniform_and_independent():
    env = RoomsVectorEnv(8000, objects=3, shapes=4, colours=3)
    env.reset(seed=0)
    kinds = env.world.objects.reshape(-1, 5)[:, [OBJECT_SHAPE, OBJECT_COLOUR]]
    counts = Counter(map(tuple, kinds.tolist()))
    assert len(counts) == 12
    expected = 24000 / 12
    chi_squared = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_squared < 31.3  # 0.999 quantile with 11 degrees of freedom


@pytest.mark.parametrize("shapes", [1, 2, 5])
def test_familiar_kinds_are_uniform_and_no_others_exist(shapes):
    env = RoomsVectorEnv(4000, shapes=shapes, colours=3, combinations="familiar", episode_length=1)
    env.reset(seed=0)
    first = env.world.objects.copy()
    env.step(np.zeros(4000, int))  # the next episode's rooms are built elsewhere
    kinds = np.concatenate([first, env.world.objects]).reshape(-1, 5)
    counts = np.zeros((shapes, 3))
    np.add.at(counts, (kinds[:, OBJECT_SHAPE], kinds[:, OBJECT_COLOUR]), 1)
    familiar = ~held_out(shapes, 3)
    assert not counts[~familiar].any()
    expected = 24000 / familiar.sum()
    chi_squared = ((counts[familiar] - expected) ** 2 / expected).sum()
    assert chi_squared < 34.5  # 0.999 quantile with 13 degrees of freedom, more than there are


@pytest.mark.parametrize(
    ("house", "digest"),
    [
        ({}, "a30164380c035db1"),
        (
            {
                "layout": "l_shape",
                "size": 11,
                "objects": 10,
                "shapes": 20,
                "colours": 10,
                "sizes": 2,
                "view_size": 7,
                "episode_length": 4,
            },
            "125b8a3e54cbb50e",
        ),
        (
            {
                "size": 3,
                "objects": 3,
                "shapes": 3,
                "colours": 2,
                "view_size": 3,
                "episode_length": 5,
                "stagger": True,
            },
            "d44b3011b0f3ed01",
        ),
    ],
)
def test_a_seed_means_the_room_that_it_always_meant(house, digest):
    """Or results would not be comparable any more with those of the versions before."""
    env = RoomsVectorEnv(50, **house)
    env.reset(seed=1234)
    history = sha256()
    for _ in range(12):
        for array in (env.world.cells, env.world.objects, env.world.agent, env.world.elapsed):
            history.update(array.astype("<i8").tobytes())
        env.step(env.explorer_actions())
    assert history.hexdigest().startswith(digest)


def test_the_agent_starts_anywhere_facing_anywhere():
    env = RoomsVectorEnv(20_000, size=3, objects=1, view_size=3)
    env.reset(seed=0)
    counts = Counter(map(tuple, env.world.agent.tolist()))
    assert len(counts) == 36
    assert max(counts.values()) < 1.3 * min(counts.values())


def test_neighbouring_seeds_and_episodes_share_nothing():
    """Seed s, episode k + 1 is not seed s + 1, episode k."""
    env = RoomsVectorEnv(1000, size=5, episode_length=1)
    env.reset(seed=0)
    rooms = set()
    for _ in range(4):
        rooms |= {
            cells.tobytes() + agent.tobytes()
            for cells, agent in zip(env.world.cells, env.world.agent, strict=True)
        }
        env.step(np.zeros(1000, int))
    assert len(rooms) == 4000
