from collections import Counter
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundling.envs.rooms.combinations import held_out
from groundling.envs.rooms.layout import _place_in_turn, _places_for_objects, built, empty_world
from groundling.envs.rooms.options import (
    CELLS_PER_OBJECT,
    LARGEST_ROOM,
    RoomsOptions,
)
from groundling.envs.rooms.plans import build_walls
from groundling.envs.rooms.rules import absent_kinds, rules_of
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.envs.rooms.world import (
    COLOUR,
    COLUMN,
    DOORWAY,
    FIRST_SHAPE,
    FLOOR,
    OBJECT_COLOUR,
    OBJECT_SHAPE,
    ROW,
    SIZE,
    WALL,
    WHAT,
)

HOUSES = ["single", "l_shape", "two_rooms", "four_rooms", "corridor"]


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


def beside(row, column):
    return {(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)}


def assert_whole(world, room, options):
    """Everything can be walked to (through doors), and nothing stands in or before a doorway."""
    cells = world.cells[room]
    marked = (cells[:, :, WHAT] <= WALL) & (cells[:, :, SIZE] == DOORWAY)
    doorways = set(zip(*np.nonzero(marked), strict=True))
    assert len(doorways) == options.doorways
    assert (cells[marked][:, WHAT] == (WALL if options.doors else FLOOR)).all()
    free = set(zip(*np.nonzero(cells[:, :, WHAT] == FLOOR), strict=True)) | doorways
    agent = tuple(world.agent[room, :2])
    assert agent in free - doorways
    assert flood(free, agent) == free, "free cells fall apart"
    count = world.object_count[room]
    assert options.fewest_objects <= count <= options.most_objects_drawn
    things = {(int(thing[ROW]), int(thing[COLUMN])) for thing in world.objects[room, :count]}
    assert things == set(zip(*np.nonzero(cells[:, :, WHAT] >= FIRST_SHAPE), strict=True))
    assert len(things) == count
    for thing in things:
        assert beside(*thing) & free, "an object cannot be reached"
        assert not beside(*thing) & doorways, "an object stands before a doorway"
    edge = np.concatenate([cells[0], cells[-1], cells[:, 0], cells[:, -1]])
    assert (edge[:, WHAT] == WALL).all(), "the house is open"
    if options.size_range[0] == options.size_range[1]:
        hall = options.shape[1] if options.layout == "corridor" else 0
        assert len(free | things) == options.cells + options.doorways + hall


def measured(options, count, seed=0):
    world = built(options, np.arange(seed, seed + count))
    there = np.arange(world.objects.shape[1]) < world.object_count[:, None]
    kinds = world.objects[there][:, [OBJECT_SHAPE, OBJECT_COLOUR]]
    assert not absent_kinds(options)[tuple(kinds.T)].any(), "a held-out combination"
    for room in range(count):
        assert_whole(world, room, options)
    return world


@st.composite
def any_options(draw):
    layout = draw(st.sampled_from(HOUSES))
    largest = {"four_rooms": 12, "two_rooms": 17, "corridor": 7}.get(layout, LARGEST_ROOM)
    low = draw(st.integers(3, min(9, largest)) | st.integers(3, largest))
    size = draw(st.just(low) | st.just((low, draw(st.integers(low, largest)))))
    house = {
        "layout": layout,
        "size": size,
        "corridor_rooms": draw(st.integers(2, 5)),
        "doors": layout in HOUSES[2:] and draw(st.booleans()),
        "wall_colours": draw(st.booleans()),
        "combinations": draw(st.sampled_from(["all", "familiar"])),
        "view_size": 3,
    }
    most = RoomsOptions(objects=1, **house).most_objects
    objects = draw(st.just(most) | st.integers(1, most))
    fewest = draw(st.just(objects) | st.integers(1, objects))
    return RoomsOptions(objects=objects if fewest == objects else (fewest, objects), **house)


@settings(max_examples=200, deadline=None)
@given(options=any_options(), seed=st.integers(0, 2**62))
def test_houses_are_in_one_piece_whatever_the_options(options, seed):
    measured(options, 20, seed)


CROWDED = [
    RoomsOptions(size=3, objects=3, view_size=3),
    RoomsOptions(size=4, objects=5, view_size=3),
    RoomsOptions(size=5, objects=8, view_size=3),
    RoomsOptions(layout="l_shape", size=3, objects=2, view_size=3),
    RoomsOptions(layout="l_shape", size=5, objects=7, view_size=3),
    RoomsOptions(layout="two_rooms", size=(3, 5), objects=5, view_size=3),
    RoomsOptions(layout="four_rooms", size=3, objects=9, view_size=3, doors=True),
    RoomsOptions(layout="four_rooms", size=(4, 6), objects=18, view_size=3),
    RoomsOptions(layout="corridor", corridor_rooms=2, size=3, objects=5, view_size=3, doors=True),
    RoomsOptions(layout="corridor", corridor_rooms=6, size=(3, 4), objects=16, view_size=3),
]


@pytest.mark.parametrize("options", CROWDED)
def test_thousands_of_crowded_houses_are_in_one_piece(options):
    world = measured(options, 2000)
    counts = np.bincount(world.object_count)
    assert counts[options.fewest_objects] > 0
    assert counts[options.most_objects_drawn] > 0


def test_numbers_and_sizes_are_drawn_from_their_ranges():
    options = RoomsOptions(layout="two_rooms", size=(3, 5), objects=(2, 5))
    world = built(options, np.arange(4000))
    counts = np.bincount(world.object_count, minlength=6)
    assert counts[:2].sum() == 0
    assert counts[2:].min() > 850
    floor = (world.cells[..., WHAT] != WALL) & ~(
        (world.cells[..., WHAT] == FLOOR) & (world.cells[..., SIZE] == DOORWAY)
    )
    heights, widths = floor.any(axis=2).sum(axis=1), floor.any(axis=1).sum(axis=1)
    assert set(heights) == {3, 4, 5}
    assert set(widths) == {6, 7, 8, 9, 10}
    assert np.bincount(heights)[3:].min() > 1200  # height and widths are drawn uniformly
    assert 380 < np.bincount(widths)[10] < 510  # 1 / 9 of them


def test_doorways_are_anywhere_along_their_walls():
    world = built(RoomsOptions(layout="two_rooms", size=5, objects=1), np.arange(2000))
    _, rows, columns = np.nonzero((world.cells[..., WHAT] == FLOOR) & (world.cells[..., SIZE] == 1))
    assert set(columns) == {6}
    assert np.bincount(rows, minlength=6)[1:6].min() > 330
    assert np.bincount(rows)[1:6].sum() == 2000


def test_doorways_onto_a_corridor_are_anywhere_along_it():
    options = RoomsOptions(layout="corridor", corridor_rooms=2, size=3, objects=1, view_size=3)
    world = built(options, np.arange(1500))
    _, rows, columns = np.nonzero((world.cells[..., WHAT] == FLOOR) & (world.cells[..., SIZE] == 1))
    assert set(rows) == {4}
    assert np.bincount(columns)[[1, 2, 3, 5, 6, 7]].min() > 420
    assert len(columns) == 3000


def test_painted_walls_tell_the_sides_apart():
    """North, east, south and west: the preset's first four colours, wherever the house ends."""
    for options in (
        RoomsOptions(layout="four_rooms", size=(3, 5), objects=1, wall_colours=True),
        RoomsOptions(layout="corridor", size=3, objects=1, wall_colours=True),
    ):
        world = built(options, np.arange(50))
        for cells in world.cells:
            inside = np.argwhere((cells[:, :, WHAT] == FLOOR) & (cells[:, :, SIZE] != DOORWAY))
            (top, left), (bottom, right) = inside.min(0) - 1, inside.max(0) + 1
            assert (cells[top, left + 1 : right, COLOUR] == 1).all()
            assert (cells[top + 1 : bottom, right, COLOUR] == 2).all()
            assert (cells[bottom, left + 1 : right, COLOUR] == 3).all()
            assert (cells[top + 1 : bottom, left, COLOUR] == 4).all()
            walls = cells[:, :, WHAT] == WALL
            sides = 2 * (right - left - 1) + 2 * (bottom - top - 1)
            assert (cells[walls][:, COLOUR] > 0).sum() == sides


def test_a_house_takes_less_than_four_kibibytes():
    for options in (
        RoomsOptions(size=25, objects=20, task="go_to", episode_length=2000),
        RoomsOptions(layout="four_rooms", size=12, objects=20, doors=True),
        RoomsOptions(layout="two_rooms", size=17, objects=20),
        RoomsOptions(layout="corridor", corridor_rooms=8, size=7, objects=20),
    ):
        world = empty_world(8, options)
        assert sum(array.nbytes for array in world) / 8 < 4096, options


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


def every_plan(options, state_count):
    """Give the different empty houses that some random states lead to."""
    plans = {}
    for state in range(state_count):
        cells = empty_world(1, options).cells[0].reshape(-1, 3)
        build_walls(cells, options.grid_shape[1], rules_of(options), np.uint64(state))
        plans[cells.tobytes()] = cells
    return list(plans.values())


@pytest.mark.parametrize("layout", HOUSES)
def test_row_by_row_a_third_of_every_house_can_be_filled(layout):
    """The fallback that generation ends on holds for every floor plan there is."""
    for size in range(3, {"four_rooms": 12, "two_rooms": 17, "corridor": 7}.get(layout, 25) + 1):
        options = RoomsOptions(layout=layout, size=size, objects=1, view_size=3)
        plans = every_plan(options, 60)
        assert len(plans) == {"single": 1, "l_shape": 4}.get(layout, len(plans))
        beside_doors = options.doorways * (1 if layout == "corridor" else 2)
        count = (options.cells - beside_doors) // CELLS_PER_OBJECT
        for cells in plans:
            order = _places_for_objects(cells, options.grid_shape[1])
            places, _ = _place_in_turn(
                cells, options.grid_shape[1], count, order, False, np.uint64(0)
            )
            assert len(places) == count, (layout, size)


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
        ({}, "3e698c72f3e7c8f3"),
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
            "8c2acd100235d526",
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
            "ddfef8740515c251",
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
