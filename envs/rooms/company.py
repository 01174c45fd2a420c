"""Who is in a house with several agents, and where they start.

A world of H houses with A agents each has H · A rows, those of a house one after the other. A row
is a house as one agent knows it: its own place and what it has seen; walls, doors, objects and what
was reached are the same in all rows of a house. So whatever reads a world reads these rows, too.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from groundling.envs.rooms.house_options import HouseOptions
from groundling.envs.rooms.kernels import Arrays, Numbers
from groundling.envs.rooms.layout import cells_to_start_from, generate
from groundling.envs.rooms.rng import below, mix
from groundling.envs.rooms.rules import Rules
from groundling.envs.rooms.world import CHANNELS, FIRST_SHAPE, World

_PLACES = 1
"""Stream of the agents' places, beside the one that builds the house."""


class Company(NamedTuple):
    """Integers only: who shares a house, how, and how others look. Read beside Rules."""

    agents: int
    cooperative: int
    quota: int
    what: int
    """In views, WHAT of an agent."""
    colour: int
    """In views, COLOUR of the first agent of a house; the others' follow."""


class Members(NamedTuple):
    """Of every row, how its agent is doing."""

    present: NDArray[np.bool_]
    """[B]: it is in the house."""
    paid: NDArray[np.int32]
    """[B]: how often it was rewarded in this episode."""


class Results(NamedTuple):
    """What a step writes. Of agents that were not in the house: zeros."""

    views: NDArray[np.uint8]
    """[B, V, V, 3]: what every agent sees now, those that are just leaving included."""
    rewards: NDArray[np.float64]
    """[B]."""
    terminations: NDArray[np.bool_]
    """[B]: the agent has its quota, and leaves."""
    truncations: NDArray[np.bool_]
    """[B]: time is over, and the agent has not."""


def company_of(options: HouseOptions) -> Company:
    """Give the options that `Rules` leave out in the form the kernels read."""
    return Company(
        agents=options.agents,
        cooperative=int(options.mode == "cooperative"),
        quota=options.quota,
        what=FIRST_SHAPE + len(options.shape_names),
        colour=1 + len(options.colour_names),
    )


@numba.njit(cache=True)
def begin_houses(
    arrays: Arrays,
    numbers: Numbers,
    absent: NDArray[np.bool_],
    words: NDArray[np.uint8],
    shared: Numbers,
    membership: Arrays,
    chosen: NDArray[np.bool_],
) -> None:
    """Begin an episode in the chosen [H] houses, in place: see `Houses.begin`."""
    world, rules = World(*arrays), Rules(*numbers)
    company, members = Company(*shared), Members(*membership)
    for house in range(len(chosen)):
        if chosen[house]:
            first = house * company.agents
            generate(world, first, rules, absent, words)
            for other in range(first + 1, first + company.agents):
                _copy_row(world, first, other)
            _place_agents(world, company, members, first)


@numba.njit(cache=True)
def _copy_row(world: World, source: int, target: int) -> None:
    """Make one row of a world like another."""
    world.cells[target] = world.cells[source]
    world.seen_at[target] = world.seen_at[source]
    world.objects[target] = world.objects[source]
    world.object_count[target] = world.object_count[source]
    world.reached[target] = world.reached[source]
    world.target[target] = world.target[source]
    world.elapsed[target] = world.elapsed[source]
    world.episode[target] = world.episode[source]
    world.seed[target] = world.seed[source]


@numba.njit(cache=True)
def _place_agents(world: World, company: Company, members: Members, first: int) -> None:
    """Put all but the first agent on free cells of their own, and let everybody in."""
    cells = world.cells[first].reshape(-1, CHANNELS)
    width = world.cells.shape[2]
    free = cells_to_start_from(cells)
    state = mix(mix(world.seed[first], world.episode[first]), _PLACES)
    members.paid[first : first + company.agents] = 0
    members.present[first : first + company.agents] = False
    members.present[first] = True
    for row in range(first + 1, first + company.agents):
        choice, state = below(state, len(free))
        while is_taken(world, company, members, first, free[choice] // width, free[choice] % width):
            choice, state = below(state, len(free))
        direction, state = below(state, 4)
        world.agent[row, 0], world.agent[row, 1] = free[choice] // width, free[choice] % width
        world.agent[row, 2] = direction
        members.present[row] = True


@numba.njit(cache=True)
def is_taken(
    world: World, company: Company, members: Members, first: int, row: int, column: int
) -> bool:
    """Tell whether an agent stands on a cell of a house."""
    for other in range(first, first + company.agents):
        agent = world.agent[other]
        if members.present[other] and agent[0] == row and agent[1] == column:
            return True
    return False
