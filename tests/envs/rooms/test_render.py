import re

import numpy as np
import pytest

from groundling.envs.rooms.glyphs import GLYPHS, PALETTE, glyph
from groundling.envs.rooms.render import describe_room, draw_room
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.envs.rooms.world import COLUMN, OBJECT_COLOUR, ROW
from groundling.envs.vocabulary import COLOURS, SHAPES


def test_every_word_has_a_picture_of_its_own():
    assert set(GLYPHS) == set(SHAPES)
    assert set(PALETTE) == set(COLOURS)
    pictures = {(s, c): np.array(glyph(s, c, 24), int) for s in SHAPES for c in COLOURS}
    for shape in SHAPES:
        for other in SHAPES:
            difference = np.abs(pictures[shape, "red"] - pictures[other, "red"]).mean()
            assert shape == other or difference > 5, (shape, other)
        for colour in COLOURS:
            for other in COLOURS:
                difference = np.abs(pictures[shape, colour] - pictures[shape, other]).mean()
                assert colour == other or difference > 2, (shape, colour, other)


@pytest.mark.parametrize("tile", [8, 32, 45])
def test_a_picture_has_the_size_that_was_asked_for(tile):
    env = RoomsVectorEnv(1, layout="l_shape", size=6, objects=4, sizes=2)
    env.reset(seed=0)
    picture = draw_room(env.world, 0, env.rooms, tile=tile)
    assert picture.shape == (8 * tile, 8 * tile, 3)
    assert picture.dtype == np.uint8


def test_what_the_agent_sees_is_bright():
    env = RoomsVectorEnv(1, size=7)
    env.reset(seed=0)
    before = draw_room(env.world, 0, env.rooms).mean()
    env.world.seen_at[:] = env.world.elapsed[0]
    assert draw_room(env.world, 0, env.rooms).mean() > before + 10


def test_reached_objects_are_marked():
    env = RoomsVectorEnv(1)
    env.reset(seed=0)
    before = draw_room(env.world, 0, env.rooms)
    env.world.reached[0, 1] = True
    changed = (draw_room(env.world, 0, env.rooms) != before).any(axis=2).reshape(7, 40, 7, 40)
    thing = env.world.objects[0, 1].astype(int)
    assert np.argwhere(changed.any(axis=(1, 3))).tolist() == [[thing[ROW], thing[COLUMN]]]


def test_a_map_in_letters():
    env = RoomsVectorEnv(1, render_mode="ansi", size=4, objects=2, view_size=3)
    env.reset(seed=0)
    env.world.reached[0, 0] = True
    (text,) = env.render()
    assert text == describe_room(env.world, 0, env.rooms)
    name = env.rooms.colour_names[env.world.objects[0, 0, OBJECT_COLOUR]]
    assert f"38;2;{';'.join(map(str, PALETTE[name]))};" in text.splitlines()[6]
    lines = re.sub(r"\033\[[0-9;]*m", "", text).splitlines()
    assert [len(line) for line in lines[:6]] == [11] * 6
    assert lines[0] == lines[5] == "# # # # # #"
    picture = "".join(lines[:6])
    assert sum(picture.count(letter) for letter in ">v<^") == 1
    assert picture.count("a") == picture.count("b") == 1
    assert [line.split()[0] for line in lines[6:]] == ["a", "b"]
    assert lines[6].endswith("*")
    assert not lines[7].endswith("*")


def test_a_batch_is_drawn_room_by_room():
    env = RoomsVectorEnv(3, render_mode="rgb_array")
    env.reset(seed=0)
    pictures = env.render()
    assert isinstance(pictures, tuple)
    for room in range(3):
        np.testing.assert_array_equal(pictures[room], draw_room(env.world, room, env.rooms))
    assert RoomsVectorEnv(1).render() is None
