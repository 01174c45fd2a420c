import re

import pytest

from groundling.envs.rooms.glyphs import PALETTE
from groundling.envs.rooms.letters import describe_room
from groundling.envs.rooms.render import OtherAgent
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.envs.rooms.world import FLOOR, NEVER, OBJECT_COLOUR, WALL, WHAT
from groundling.envs.vocabulary import VOCABULARY

LAYOUTS = ["single", "l_shape", "two_rooms", "four_rooms", "corridor"]


def plain(text):
    """The lines without colours, as a terminal that knows none shows them."""
    return re.sub(r"\033\[[0-9;]*m", "", text).splitlines()


def test_a_map_in_letters():
    env = RoomsVectorEnv(1, render_mode="ansi", size=4, objects=2, view_size=3)
    env.reset(seed=0)
    env.world.reached[0, 0] = True
    (text,) = env.render()
    assert text == describe_room(env.world, 0, env.rooms)
    name = env.rooms.colour_names[env.world.objects[0, 0, OBJECT_COLOUR]]
    assert f"38;2;{';'.join(map(str, PALETTE[name]))};" in text.splitlines()[6]
    lines = plain(text)
    assert [len(line) for line in lines[:6]] == [11] * 6
    assert lines[0] == lines[5] == "# # # # # #"
    picture = "".join(lines[:6])
    assert sum(picture.count(letter) for letter in ">v<^") == 1
    assert picture.count("a") == picture.count("b") == 1
    assert [line.split()[0] for line in lines[6:8]] == ["a", "b"]
    assert lines[6].endswith("*")
    assert not lines[7].endswith("*")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_letter_stands_where_it_should(layout):
    doors = layout not in ("single", "l_shape")
    env = RoomsVectorEnv(4, layout=layout, doors=doors, size=(3, 6), objects=(1, 2), view_size=3)
    env.reset(seed=0)
    for _ in range(20):
        env.step(env.explorer_actions())
    for room in range(4):
        rows, columns = env.rooms.grid_shape
        lines = plain(describe_room(env.world, room, env.rooms))
        cells, seen_at = env.world.cells[room, ..., WHAT], env.world.seen_at[room]
        objects = env.world.objects[room, : env.world.object_count[room], :2].tolist()
        for row in range(rows):
            for column in range(columns):
                letter = lines[row][2 * column]
                if [row, column] == env.world.agent[room, :2].tolist():
                    assert letter == ">v<^"[env.world.agent[room, 2]]
                elif [row, column] in objects:
                    assert letter == "ab"[objects.index([row, column])]
                elif cells[row, column] == WALL:
                    assert letter in "#+ "
                    assert letter != " " or seen_at[row, column] == NEVER
                elif letter != "'":
                    now = seen_at[row, column] == env.world.elapsed[room]
                    known = seen_at[row, column] != NEVER
                    assert letter == ("." if now else "," if known else " ")
        picture = "".join(lines[:rows])
        assert picture.count("+") + picture.count("'") <= env.rooms.doorways * doors


def test_doors_in_letters():
    env = RoomsVectorEnv(1, layout="four_rooms", doors=True)
    env.reset(seed=0)
    shut = plain(describe_room(env.world, 0, env.rooms))
    assert "".join(shut[:13]).count("+") == 4
    assert "+ closed door   ' open door" in shut[-1]
    cells = env.world.cells[0]
    closed = (cells[..., WHAT] == WALL) & (cells[..., 2] == 1)
    cells[closed, WHAT] = FLOOR
    assert "".join(plain(describe_room(env.world, 0, env.rooms))[:13]).count("'") == 4


def test_the_instruction_is_a_line_and_its_object_is_named():
    env = RoomsVectorEnv(1, task="go_to", sizes=2)
    env.reset(seed=0)
    lines = plain(describe_room(env.world, 0, env.rooms))
    assert lines[7] == f'"{VOCABULARY.decode(env.world.instruction[0].tolist())}"'
    meant = [line.endswith("(meant)") for line in lines[8:11]]
    assert meant.index(True) == env.world.target[0]
    assert sum(meant) == 1


def test_painted_walls_and_other_agents_are_coloured():
    env = RoomsVectorEnv(1, wall_colours=True)
    env.reset(seed=0)
    env.world.agent[0] = 1, 1, 0
    other = OtherAgent(row=3, column=2, heading=3, colour=(1, 2, 3))
    lines = describe_room(env.world, 0, env.rooms, [other]).splitlines()
    red, yellow = (";".join(map(str, PALETTE[name])) for name in ("red", "yellow"))
    assert lines[0].count(f"38;2;{red};") == 5
    assert f"38;2;{yellow};" in lines[1]
    assert re.search(r"38;2;1;2;3;[0-9;]*m\^", lines[3])
    assert plain("\n".join(lines))[3][4] == "^"
