"""A house as a map in letters, for terminals."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from groundling.envs.rooms.glyphs import PALETTE, RGB
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.render import OtherAgent
from groundling.envs.rooms.tiles import never_visible
from groundling.envs.rooms.world import (
    COLOUR,
    DOORWAY,
    FLOOR,
    NEVER,
    NONE,
    SIZE,
    WALL,
    WHAT,
    World,
)
from groundling.envs.vocabulary import VOCABULARY

FACING = ">v<^"
"""An agent, by its heading."""
REACHED, MEANT = " *", " (meant)"
"""Beside an object: reached since the last refresh; the one that the instruction means."""


def describe_room(
    world: World,
    room: int,
    options: RoomsOptions,
    others: Sequence[OtherAgent] = (),
    colour: RGB | None = None,
) -> str:
    """Draw one house in letters, with ANSI escape sequences for colours that nothing hangs on.

    `>v<^` is the agent, as it looks (others are in their colours, and it itself is if it has one),
    `#` wall, `.` floor that is seen now, `,` floor that was seen earlier; `+` a closed door, `'` an
    open one. Objects are letters, explained below the map. The instruction, where there is one,
    stands between the two, the meaning of the signs at the end.
    """
    letters = _ground(world, room, options).astype(object)
    legend = []
    for number in range(world.object_count[room]):
        row, column, shape, dye, size = world.objects[room, number].tolist()
        words = (options.size_names[size], options.colour_names[dye], options.shape_names[shape])
        letter = _inked(chr(ord("a") + number), PALETTE[options.colour_names[dye]])
        letters[row, column] = letter
        notes = REACHED if world.reached[room, number] else ""
        notes += MEANT if number == world.target[room] != NONE else ""
        legend.append(f"{letter} {' '.join(words)}{notes}")
    for agent in others:
        letters[agent.row, agent.column] = _inked(FACING[agent.heading], agent.colour)
    row, column, heading = world.agent[room].tolist()
    letters[row, column] = _inked(FACING[heading], colour) if colour else FACING[heading]
    task = []
    if options.task == "go_to":
        task = [f'"{VOCABULARY.decode(world.instruction[room].tolist())}"']
    return "\n".join([" ".join(line) for line in letters] + task + legend + [_signs(options)])


def _ground(world: World, room: int, options: RoomsOptions) -> NDArray[np.object_]:
    """Give the letters of floor, walls and doors, [R, C], painted walls in their colours."""
    cells, seen_at = world.cells[room], world.seen_at[room]
    walls = cells[..., WHAT] == WALL
    floor = np.where(seen_at == NEVER, " ", np.where(seen_at == world.elapsed[room], ".", ","))
    letters = np.where(walls, "#", floor).astype(object)
    letters[never_visible(cells[..., WHAT])] = " "
    if options.doors:
        doorway = cells[..., SIZE] == DOORWAY
        letters[doorway & walls] = "+"
        letters[doorway & (cells[..., WHAT] == FLOOR)] = "'"
    for row, column in np.argwhere((letters == "#") & (cells[..., COLOUR] > 0)):
        name = options.colour_names[cells[row, column, COLOUR] - 1]
        letters[row, column] = _inked("#", PALETTE[name])
    return letters


def _signs(options: RoomsOptions) -> str:
    """Explain the signs that a map of such a house may hold."""
    signs = ["# wall", ". seen now", ", seen earlier"]
    if options.doors:
        signs += ["+ closed door", "' open door"]
    if options.task == "explore":
        signs.append("* reached")
    return "   ".join([*signs, f"{FACING} agent"])


def _inked(letter: str, colour: RGB) -> str:
    """A bold letter in a colour, on paper so that black can be read as well as white."""
    red, green, blue = colour
    brightness = 0.3 * red + 0.59 * green + 0.11 * blue
    paper = (52, 56, 68) if brightness > 130 else (236, 236, 240)
    return f"\033[1;38;2;{red};{green};{blue};48;2;{';'.join(map(str, paper))}m{letter}\033[0m"
