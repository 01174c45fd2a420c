"""Pictures of a house with several agents: as of one with one, each agent in its colour.

What any of them sees now is bright.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundling.envs.rooms.glyphs import RGB
from groundling.envs.rooms.letters import describe_room
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.render import OtherAgent, draw_room
from groundling.envs.rooms.world import World

AGENT_COLOURS: tuple[RGB, ...] = ((44, 46, 58), (196, 44, 96), (0, 118, 140), (214, 120, 0))
"""By the agent's number."""


def draw_house(world: World, agents: list[int], options: RoomsOptions) -> NDArray[np.uint8]:
    """Draw the house of some rows of a world: what their agents have seen, and themselves.

    Args:
        world: one house; row i is agent i's.
        agents: which of them, at least one.
        options: of the house.

    Gives uint8 [height, width, 3], red, green, blue.
    """
    return draw_room(_seen_by(world, agents), 0, options, **_figures(world, agents))


def describe_house(world: World, agents: list[int], options: RoomsOptions) -> str:
    """Draw the same in letters."""
    return describe_room(_seen_by(world, agents), 0, options, **_figures(world, agents))


def _seen_by(world: World, agents: list[int]) -> World:
    """Give one row, the first agent's, in which all of them have seen what one of them has."""
    together = World._make(array[agents[:1]] for array in world)
    together.seen_at[0] = world.seen_at[agents].max(axis=0)
    return together


def _figures(world: World, agents: list[int]) -> dict[str, Any]:
    """Give the agents as `draw_room` wants them: those after the first, and its colour."""
    places = world.agent[agents[1:]].tolist()
    colours = [AGENT_COLOURS[number] for number in agents[1:]]
    others = [
        OtherAgent(row, column, heading, colour)
        for (row, column, heading), colour in zip(places, colours, strict=True)
    ]
    return {"others": others, "colour": AGENT_COLOURS[agents[0]]}
