"""Several agents in one house: compiled loops over a batch of houses.

The agents of a house act one after the other, and who begins rotates with the step and the episode.
Where an agent stands nobody else can walk, and no door can be closed. It hides nothing and is no
object. In the views of others it is a thing with a code of its own: as WHAT one past the last
shape, as COLOUR past the last colour by its number, as SIZE 1 + its heading relative to the view (1
it looks away, 2 to the right, 3 at the viewer, 4 to the left), so that views tell no compass.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from groundling.envs.rooms.company import (
    Company,
    Members,
    Results,
    begin_houses,
    company_of,
    is_taken,
)
from groundling.envs.rooms.house_options import HouseOptions
from groundling.envs.rooms.kernels import (
    ACTIONS,
    FORWARD,
    INTERACT,
    Arrays,
    Numbers,
    Sight,
    ahead_of,
    look,
    meet,
    sight_of,
    walk,
)
from groundling.envs.rooms.layout import empty_world
from groundling.envs.rooms.rules import Rules, absent_kinds, rules_of, words_of
from groundling.envs.rooms.sensing import note_sensed, noting_elsewhere, sensed_cells
from groundling.envs.rooms.world import COLOUR, HIDDEN, SIZE, WHAT, World


@numba.njit(cache=True)
def step_houses(
    arrays: Arrays,
    numbers: Numbers,
    tables: Arrays,
    shared: Numbers,
    membership: Arrays,
    actions: NDArray[np.int64],
    written: Arrays,
) -> None:
    """Take one step in every house, in place.

    `arrays`, `numbers`, `tables`, `shared`, `membership` and `written` are the fields of a World,
    of Rules, Sight, Company, Members and of zeroed Results. Actions [B] are 0 … 3, and anything of
    agents that are not in the house; raises ValueError, before anything has changed, if one is not.
    """
    members = Members(*membership)
    for row in range(len(actions)):
        if members.present[row] and (actions[row] < 0 or actions[row] >= ACTIONS):
            raise ValueError("an action is not in 0 … 3")
    world, rules, sight, company, results = (
        World(*arrays),
        Rules(*numbers),
        Sight(*tables),
        Company(*shared),
        Results(*written),
    )
    acting = members.present.copy()
    for first in range(0, len(actions), company.agents):
        _act_in_turn(world, rules, company, members, first, actions, results.rewards)
        _settle(world, rules, company, members, first, results)
    _look_where(world, sight, company, members, acting, results.views)


@numba.njit(cache=True)
def _act_in_turn(
    world: World,
    rules: Rules,
    company: Company,
    members: Members,
    first: int,
    actions: NDArray[np.int64],
    rewards: NDArray[np.float64],
) -> None:
    """Let the agents of the house whose rows begin at `first` act, and pay them."""
    rows = first + np.flatnonzero(members.present[first : first + company.agents])
    start = world.episode[first] + world.elapsed[first]
    for turn in range(len(rows)):
        row = rows[(start + turn) % len(rows)]
        if _act_among(world, rules, company, members, first, row, actions[row]) == 0:
            continue
        for other in rows:
            if other == row or company.cooperative:
                rewards[other] += 1
                members.paid[other] += 1


@numba.njit(cache=True)
def _act_among(
    world: World,
    rules: Rules,
    company: Company,
    members: Members,
    first: int,
    row: int,
    action: int,
) -> float:
    """Act unless somebody is in the way, and let the others' rows know; give the reward."""
    agent = world.agent[row]
    down, right = ahead_of(agent[0], agent[1], agent[2])
    if action in (FORWARD, INTERACT) and is_taken(world, company, members, first, down, right):
        return 0.0
    reward = 0.0
    if walk(world.agent, world.cells, row, rules.doors, action):
        reward, _ = meet(world, row, rules.go_to)
    if action == INTERACT or reward > 0:
        for other in range(first, first + company.agents):
            world.cells[other, down, right] = world.cells[row, down, right]
            world.reached[other] = world.reached[row]
    return reward


@numba.njit(cache=True)
def _settle(
    world: World, rules: Rules, company: Company, members: Members, first: int, results: Results
) -> None:
    """Count the step, and say for whom it was the last."""
    for row in range(first, first + company.agents):
        world.elapsed[row] += 1
        if members.present[row]:
            done = company.quota > 0 and members.paid[row] >= company.quota
            members.present[row] = not done
            results.terminations[row] = done
            results.truncations[row] = world.elapsed[row] >= rules.episode_length and not done


@numba.njit(cache=True)
def look_about(
    arrays: Arrays,
    tables: Arrays,
    shared: Numbers,
    membership: Arrays,
    views: NDArray[np.uint8],
) -> None:
    """Write what every agent in a house sees now into views [B, V, V, 3], and note it."""
    members = Members(*membership)
    _look_where(World(*arrays), Sight(*tables), Company(*shared), members, members.present, views)


@numba.njit(cache=True)
def _look_where(
    world: World,
    sight: Sight,
    company: Company,
    members: Members,
    chosen: NDArray[np.bool_],
    views: NDArray[np.uint8],
) -> None:
    """Write what the chosen [B] agents see."""
    rows = np.flatnonzero(chosen)
    look(world, sight, rows, views)
    for row in rows:
        _show_others(world, company, members, int(row), views[row])


@numba.njit(cache=True)
def _show_others(
    world: World, company: Company, members: Members, row: int, view: NDArray[np.uint8]
) -> None:
    """Draw the others in the house into what one agent sees [V, V, 3], where it sees the cell."""
    V = len(view)
    here, direction = world.agent[row], world.agent[row, 2]
    first = row - row % company.agents
    for other in range(first, first + company.agents):
        if other == row or not members.present[other]:
            continue
        there = world.agent[other]
        ahead, aside = _turned(there[0] - here[0], there[1] - here[1], direction)
        if 0 <= ahead < V and abs(aside) <= V // 2:
            cell = view[V - 1 - ahead, V // 2 + aside]
            if cell[WHAT] != HIDDEN:
                cell[WHAT] = company.what
                cell[COLOUR] = company.colour + other - first
                cell[SIZE] = 1 + (there[2] - direction) % 4


@numba.njit(cache=True)
def _turned(down: int, right: int, direction: int) -> tuple[int, int]:
    """Give how far ahead and how far to the right something is for who looks in a direction."""
    if direction == 0:
        return right, down
    if direction == 1:
        return down, -right
    if direction == 2:
        return -right, -down
    return -down, right


class Houses:
    """H houses with A agents each; row h · A + a is agent a of house h."""

    def __init__(self, number: int, options: HouseOptions) -> None:
        rows = number * options.agents
        self.options = options
        self.world = empty_world(rows, options)
        self.members = Members(np.zeros(rows, np.bool_), np.zeros(rows, np.int32))
        self._rules = tuple(rules_of(options))
        self._company = tuple(company_of(options))
        self._absent, self._words = absent_kinds(options), words_of(options)
        self._sight = tuple(sight_of(options))
        self.attended = False
        """See `AttendedSource`; so for `attend`."""
        self._arrays: Arrays = tuple(self.world)
        self._unnoted = noting_elsewhere(self.world)

    @property
    def _looking(self) -> Arrays:
        """The world's arrays for kernels that look; who attends says itself what counts."""
        return self._unnoted if self.attended else self._arrays

    def begin(self, chosen: NDArray[np.bool_]) -> None:
        """Build the chosen [H] houses as `world.seed` and `world.episode` of their first rows say.

        All agents are in, on cells of their own that are no doorways. The first one starts as the
        only agent of such a house would.
        """
        begin_houses(
            self._arrays,
            self._rules,
            self._absent,
            self._words,
            self._company,
            tuple(self.members),
            chosen,
        )

    def look(self) -> NDArray[np.uint8]:
        """Give what every agent in a house sees now, uint8 [B, V, V, 3], and note it."""
        views = self._empty_results().views
        look_about(self._looking, self._sight, self._company, tuple(self.members), views)
        return views

    def attend(self, sensed: NDArray[np.bool_]) -> None:
        """Note which cells of the present views the agents in a house sensed."""
        cells = sensed_cells(sensed, self.attended, len(self.world.agent), self.options)
        note_sensed(self._arrays, self._sight, self.look(), cells)

    def step(self, actions: NDArray[np.int64]) -> Results:
        """Take one step in every house: `step_houses`."""
        results = self._empty_results()
        step_houses(
            self._looking,
            self._rules,
            self._sight,
            self._company,
            tuple(self.members),
            actions,
            tuple(results),
        )
        return results

    def _empty_results(self) -> Results:
        rows, V = len(self.world.agent), self.options.view_size
        return Results(
            views=np.zeros((rows, V, V, 3), np.uint8),
            rewards=np.zeros(rows),
            terminations=np.zeros(rows, np.bool_),
            truncations=np.zeros(rows, np.bool_),
        )
