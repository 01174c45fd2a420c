import numpy as np
import pytest

from groundling.envs.rooms.caption import wrapped
from groundling.envs.rooms.glyphs import COLOURLESS, PALETTE
from groundling.envs.rooms.render import (
    LARGEST_PICTURE,
    TILE,
    OtherAgent,
    draw_room,
    draw_scene,
    draw_view,
    tile_of,
)
from groundling.envs.rooms.tiles import EDGE_COLOUR, FLOOR_COLOURS, PAPER, WALL_COLOUR, draw_ground
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.envs.rooms.world import (
    COLOUR,
    COLUMN,
    DOORWAY,
    FLOOR,
    NEVER,
    ROW,
    SIZE,
    WALL,
    WHAT,
)

LAYOUTS = ["single", "l_shape", "two_rooms", "four_rooms", "corridor"]
HOUSE = {"layout": "two_rooms", "size": 4, "objects": 3, "episode_length": 200}


def changed_cells(before, after, tile=TILE):
    """The cells [row, column] in which two pictures differ."""
    changed = (before != after).any(axis=2)
    rows, columns = (side // tile for side in changed.shape)
    return np.argwhere(changed.reshape(rows, tile, columns, tile).any(axis=(1, 3))).tolist()


def lit(world):
    """The same world, all of it seen now."""
    world.seen_at[:] = world.elapsed[0]
    return world


@pytest.mark.parametrize("tile", [8, 32, 45])
def test_a_picture_has_the_size_that_was_asked_for(tile):
    env = RoomsVectorEnv(1, layout="l_shape", size=6, objects=4, sizes=2)
    env.reset(seed=0)
    picture = draw_room(env.world, 0, env.rooms, tile=tile)
    assert picture.shape == (8 * tile, 8 * tile, 3)
    assert picture.dtype == np.uint8


@pytest.mark.parametrize(
    "house", [{"layout": layout} for layout in LAYOUTS] + [{"layout": "four_rooms", "size": 11}]
)
def test_pictures_of_large_houses_have_small_cells(house):
    env = RoomsVectorEnv(1, render_mode="rgb_array", **house)
    env.reset(seed=0)
    (picture,) = env.render()
    assert max(picture.shape) <= LARGEST_PICTURE
    assert picture.shape[0] == env.rooms.grid_shape[0] * tile_of(env.rooms)


def test_what_was_seen_longer_ago_is_darker():
    env = RoomsVectorEnv(1, size=7)
    env.reset(seed=0)
    env.world.elapsed[:] = 5
    levels = []
    for seen_at in (5, 4, NEVER):
        env.world.seen_at[:] = seen_at
        levels.append(draw_room(env.world, 0, env.rooms).mean())
    assert levels[0] > levels[1] + 20 > levels[2] + 40


def test_a_line_runs_around_what_is_seen_now():
    env = RoomsVectorEnv(1, size=5)
    env.reset(seed=0)
    env.world.seen_at[:] = NEVER
    env.world.seen_at[0, 2:4, 1:4] = env.world.elapsed[0]
    picture = draw_room(env.world, 0, env.rooms, tile=32)
    edge = (picture == EDGE_COLOUR).all(axis=2)
    rows, columns = (np.flatnonzero(edge.any(axis=axis)) for axis in (1, 0))
    assert (rows.min(), rows.max()) == (2 * 32, 4 * 32 - 1)
    assert (columns.min(), columns.max()) == (32, 4 * 32 - 1)
    assert not edge[2 * 32 + 2 : 4 * 32 - 2, 32 + 2 : 4 * 32 - 2].any()


def test_reached_objects_are_marked():
    env = RoomsVectorEnv(1)
    env.reset(seed=0)
    before = draw_room(env.world, 0, env.rooms)
    env.world.reached[0, 1] = True
    thing = env.world.objects[0, 1].astype(int)
    after = draw_room(env.world, 0, env.rooms)
    assert changed_cells(before, after) == [[thing[ROW], thing[COLUMN]]]


def test_the_object_to_go_to_is_marked():
    env = RoomsVectorEnv(1, task="go_to")
    env.reset(seed=0)
    before = draw_room(env.world, 0, env.rooms)
    places = [env.world.objects[0, env.world.target[0], : COLUMN + 1].tolist()]
    env.world.target[0] = (env.world.target[0] + 1) % env.world.object_count[0]
    places.append(env.world.objects[0, env.world.target[0], : COLUMN + 1].tolist())
    after = draw_room(env.world, 0, env.rooms)
    assert changed_cells(before, after) == sorted(places)


def test_further_agents_are_drawn_where_they_stand():
    env = RoomsVectorEnv(1)
    env.reset(seed=0)
    lit(env.world)
    before = draw_room(env.world, 0, env.rooms)
    other = OtherAgent(row=2, column=3, heading=1, colour=(200, 40, 40))
    after = draw_room(env.world, 0, env.rooms, others=[other])
    assert changed_cells(before, after) == [[2, 3]]
    middle = after[2 * TILE + TILE // 2, 3 * TILE + TILE // 2]
    assert middle.tolist() == [200, 40, 40]
    turned = draw_room(env.world, 0, env.rooms, others=[other._replace(heading=3)])
    assert changed_cells(after, turned) == [[2, 3]]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_instruction_stands_under_a_picture_of_constant_size(layout):
    env = RoomsVectorEnv(
        40, task="go_to", layout=layout, sizes=2, size=5, objects=4, episode_length=400
    )
    env.reset(seed=0)
    pictures = [draw_scene(env.world, room, env.rooms) for room in range(40)]
    assert len({picture.shape for picture in pictures}) == 1
    house = env.rooms.grid_shape[0] * tile_of(env.rooms)
    captions = [picture[house:] for picture in pictures]
    texts = [tuple(env.world.instruction[room]) for room in range(40)]
    for room in range(1, 40):
        same = np.array_equal(captions[0], captions[room])
        assert same == (texts[0] == texts[room])
        ink = np.argwhere((captions[room] != PAPER).any(axis=2))
        assert ink[:, 0].max() < len(captions[room]) - 1, "the last line is cut off"
        assert ink[:, 1].max() < captions[room].shape[1] - 1, "a line is too long"


def test_no_instruction_takes_more_lines_than_the_longest():
    class Counting:
        def getlength(self, text):
            return len(text)

    longest, width = "go to the largest object near the largest object", 12
    lines = len(wrapped(longest, Counting(), width))
    for shorter in ("go to the red key near the largest object", "find the object near the key"):
        assert len(wrapped(shorter, Counting(), width)) <= lines
    assert all(len(line) <= width for line in wrapped(longest, Counting(), width))


def test_no_caption_without_an_instruction():
    env = RoomsVectorEnv(1)
    env.reset(seed=0)
    np.testing.assert_array_equal(
        draw_scene(env.world, 0, env.rooms), draw_room(env.world, 0, env.rooms)
    )


def test_a_door_looks_shut_or_open_or_missing():
    pictures = {}
    for doors in (False, True):
        env = RoomsVectorEnv(1, doors=doors, **HOUSE)
        env.reset(seed=0)
        cells = lit(env.world).cells[0]
        ((row, column),) = np.argwhere((cells[..., SIZE] == DOORWAY) & (cells[..., WHAT] <= WALL))
        for what in (WALL, FLOOR) if doors else (FLOOR,):
            cells[row, column, WHAT] = what
            pictures[doors, what] = draw_room(env.world, 0, env.rooms)
        cells[row, column, SIZE] = 0
        pictures[doors, "floor"] = draw_room(env.world, 0, env.rooms)
    kinds = [(True, WALL), (True, FLOOR), (False, FLOOR), (False, "floor")]
    for kind in kinds:
        for other in kinds:
            if kind != other:
                assert changed_cells(pictures[kind], pictures[other]) == [[row, column]]


def test_a_door_stands_across_the_way():
    env = RoomsVectorEnv(1, layout="four_rooms", doors=True, size=4, objects=2)
    env.reset(seed=0)
    cells = lit(env.world).cells[0]
    env.world.agent[0] = 1, 1, 0
    picture = draw_room(env.world, 0, env.rooms)
    doorways = np.argwhere((cells[..., SIZE] == DOORWAY) & (cells[..., WHAT] == WALL))
    assert len(doorways) == 4
    for row, column in doorways * TILE:
        door = picture[row : row + TILE, column : column + TILE].astype(int)
        middle = TILE // 2
        along = (
            np.abs(door[:, middle] - WALL_COLOUR).sum() - np.abs(door[middle] - WALL_COLOUR).sum()
        )
        walks_down = cells[row // TILE - 1, column // TILE, WHAT] != WALL
        assert (along < 0) == walks_down


@pytest.mark.parametrize("layout", LAYOUTS)
def test_wall_outside_of_the_house_is_blank(layout):
    env = RoomsVectorEnv(8, layout=layout, size=(3, 6), objects=1, render_mode="rgb_array")
    env.reset(seed=0)
    tile = tile_of(env.rooms)
    for room, picture in enumerate(env.render()):
        cells = picture.reshape(picture.shape[0] // tile, tile, -1, tile, 3)
        blank = (cells == PAPER).all(axis=(1, 3, 4))
        assert not blank[env.world.cells[room, ..., WHAT] != WALL].any()
        rows, columns = np.nonzero(env.world.cells[room, ..., WHAT] != WALL)
        house = np.zeros_like(blank)
        house[rows.min() - 1 : rows.max() + 2, columns.min() - 1 : columns.max() + 2] = True
        assert blank[~house].all()
        inside = ~blank[house]
        assert inside.all() or layout == "l_shape"


def test_nobody_ever_sees_what_is_left_blank():
    env = RoomsVectorEnv(16, layout="l_shape", size=7, view_size=7, episode_length=100)
    env.reset(seed=0)
    blank = np.zeros(env.world.seen_at.shape, bool)
    for room in range(16):
        picture = draw_room(env.world, room, env.rooms, tile=8)
        blank[room] = (picture[::8, ::8] == PAPER).all(axis=-1)
    assert blank.any()
    for _ in range(99):
        env.step(env.explorer_actions())
        assert (env.world.seen_at[blank] == NEVER).all()


def test_painted_walls_are_of_their_colours():
    env = RoomsVectorEnv(1, wall_colours=True, size=4)
    env.reset(seed=0)
    picture = draw_room(lit(env.world), 0, env.rooms, tile=16).astype(int)
    sides = picture[8, 48], picture[48, -8], picture[-8, 48], picture[48, 8]
    for name, side in zip(env.rooms.colour_names, sides, strict=False):
        nearest = min(PALETTE, key=lambda one: np.abs(side - PALETTE[one]).sum())
        assert nearest == name
    assert tuple(picture[8, 8]) == WALL_COLOUR


def test_what_is_imagined_can_be_drawn():
    env = RoomsVectorEnv(1, **HOUSE)
    generator = np.random.default_rng(0)
    high = env.single_observation_space["view"].high
    for _ in range(50):
        view = generator.integers(0, high + 1, high.shape)
        assert draw_view(view, env.rooms, 10).shape == (50, 50, 3)
    view[:] = FLOOR, 0, 0
    view[0, 0] = high[0, 0, WHAT], 0, 1
    thing = draw_view(view, env.rooms, 40)[:40, :40]
    assert (thing == COLOURLESS).all(axis=-1).any()


def test_walls_without_paint_are_plain_whatever_is_imagined():
    env = RoomsVectorEnv(1)
    cells = np.zeros((1, 2, 3), int)
    cells[0, 0] = WALL, 3, 0
    cells[0, 1, WHAT] = FLOOR
    ground = draw_ground(cells, env.rooms, 1)
    assert ground[0, 0].tolist() == list(WALL_COLOUR)
    assert ground[0, 1].tolist() == list(FLOOR_COLOURS[1])
    assert cells[0, 0, COLOUR] == 3


def test_a_batch_is_drawn_room_by_room():
    env = RoomsVectorEnv(3, render_mode="rgb_array")
    env.reset(seed=0)
    pictures = env.render()
    assert isinstance(pictures, tuple)
    for room in range(3):
        np.testing.assert_array_equal(pictures[room], draw_room(env.world, room, env.rooms))
    assert RoomsVectorEnv(1).render() is None
