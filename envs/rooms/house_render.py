"""Pictures of a house with several agents: as of one with one, each agent in its colour.

What any of them sees now is bright.
"""

from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from groundling.envs.rooms.company import company_of
from groundling.envs.rooms.glyphs import RGB
from groundling.envs.rooms.house_options import HouseOptions
from groundling.envs.rooms.letters import describe_room
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.pixels import atlas_of, draw_views
from groundling.envs.rooms.render import OtherAgent, draw_room
from groundling.envs.rooms.sprites import agent_sprite
from groundling.envs.rooms.tiles import paste
from groundling.envs.rooms.world import FLOOR, World

AGENT_COLOURS: tuple[RGB, ...] = ((44, 46, 58), (196, 44, 96), (0, 118, 140), (214, 120, 0))
"""By the agent's number."""
TURNED = (3, 0, 1, 2)
"""How an agent is drawn, as headings go: looking up, right, down, left of who sees it."""


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


def house_as_observed(views: NDArray[np.uint8], options: HouseOptions) -> NDArray[np.uint8]:
    """Give views [N, V, V, 3] in codes as the options want them observed: so, or as new images."""
    return draw_views(views, house_atlas_of(options)) if options.view_pixels else views


@lru_cache(maxsize=16)
def house_atlas_of(options: HouseOptions) -> NDArray[np.uint8]:
    """Draw the tiles of `pixels.atlas_of`, and those of other agents as `house.py` writes them."""
    tiles, company, p = atlas_of(options), company_of(options), options.view_pixels
    agents = range(company.colour, company.colour + options.agents)
    sides = np.maximum(tiles.shape[:3], (company.what + 1, agents.stop, 1 + len(TURNED)))
    atlas = np.zeros((*sides, p, p, 3), np.uint8)
    atlas[tuple(slice(side) for side in tiles.shape[:3])] = tiles
    for (number, code), (turns, heading) in product(enumerate(agents), enumerate(TURNED)):
        tile = Image.fromarray(tiles[FLOOR, 0, 0])
        paste(tile, agent_sprite(heading, AGENT_COLOURS[number], p), 0, 0, p)
        atlas[company.what, code, 1 + turns] = np.array(tile)
    atlas.flags.writeable = False
    return atlas
