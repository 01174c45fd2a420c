"""Several agents in one house: against a slow reference over random play, and by hand."""

import numpy as np
import pytest

from groundling.envs.rooms.explorer import explorer_actions
from groundling.envs.rooms.house import Houses
from groundling.envs.rooms.house_options import HouseOptions
from groundling.envs.rooms.world import COLOUR, DOORWAY, FLOOR, SIZE, WALL, WHAT

from .house_reference import ReferenceHouse

LEFT, RIGHT, FORWARD, INTERACT = range(4)
EAST, SOUTH, WEST, NORTH = range(4)
OF_ONE_HOUSE = ("cells", "objects", "object_count", "reached", "elapsed", "episode", "seed")


def begun(number: int, seed: int = 0, **options) -> Houses:
    """Some houses, each of its own seed and at a later episode than the one before."""
    houses = Houses(number, HouseOptions(**options))
    rows = np.arange(number) * houses.options.agents
    houses.world.seed[rows] = seed + np.arange(number)
    houses.world.episode[rows] = np.arange(number)
    houses.begin(np.ones(number, np.bool_))
    return houses


def one_house(*agents: tuple[int, int, int], **options) -> Houses:
    """One house of 5 × 5 cells with an object in its first corner, agents where they are put."""
    options = {"size": 5, "objects": 1, "view_size": 5} | options
    houses = begun(1, **options, agents=len(agents))
    place = houses.world.objects[0, 0, :2].copy()
    thing = houses.world.cells[0, place[0], place[1]].copy()
    houses.world.cells[:, place[0], place[1]] = FLOOR, 0, 0
    houses.world.cells[:, 1, 1] = thing
    houses.world.objects[:, 0, :2] = 1
    houses.world.agent[:] = agents
    return houses


def act(houses: Houses, *actions: int):
    return houses.step(np.array(actions, np.int64))


@pytest.mark.parametrize(
    ("house", "shared"),
    [
        ({"size": 3, "view_size": 3, "objects": 1}, {"agents": 4, "mode": "competitive"}),
        ({"size": 4, "objects": 2}, {"agents": 3, "mode": "cooperative"}),
        ({"size": 4, "objects": 4}, {"agents": 3, "mode": "competitive", "quota": 2}),
        ({"size": 5, "view_size": 7, "objects": 8}, {"agents": 2, "quota": 5}),
        ({"layout": "l_shape", "size": 4, "sizes": 2, "objects": 2}, {"agents": 1}),
        ({"layout": "two_rooms", "size": 3, "doors": True, "objects": 2}, {"agents": 4}),
        (
            {
                "layout": "corridor",
                "corridor_rooms": 2,
                "size": 3,
                "doors": True,
                "objects": (1, 3),
            },
            {"agents": 4, "mode": "competitive", "quota": 4},
        ),
    ],
)
def test_random_play_agrees_with_the_reference(house, shared):
    H, steps, A = 10, 60, shared["agents"]
    houses = begun(H, episode_length=steps - 5, **house, **shared)
    references = [ReferenceHouse(houses, number) for number in range(H)]
    views, members, generator = houses.look(), houses.members, np.random.default_rng(0)
    acting, others_seen, left = members.present.copy(), 0, 0
    for step in range(steps):
        for row in np.flatnonzero(acting):
            expected = references[row // A].look(row % A)
            np.testing.assert_array_equal(views[row], expected, err_msg=f"step {step} row {row}")
            seen_at = references[row // A].rooms[row % A].seen_at
            np.testing.assert_array_equal(houses.world.seen_at[row], seen_at)
        others_seen += (views[..., WHAT] == 3 + len(houses.options.shape_names)).sum()
        scripted = generator.random(H * A) < 0.6
        actions = np.where(
            scripted, explorer_actions(houses.world), generator.integers(0, 4, H * A)
        )
        acting = members.present.copy()
        views, *results = houses.step(actions)
        found = [one.step(actions[A * i : A * (i + 1)]) for i, one in enumerate(references)]
        for values, expected in zip(results, zip(*found, strict=True), strict=True):
            np.testing.assert_array_equal(values, np.concatenate(expected))
        places = [(*one.place(a), one.rooms[a].direction) for one in references for a in one.agents]
        np.testing.assert_array_equal(houses.world.agent, places)
        for number, one in enumerate(references):
            np.testing.assert_array_equal(houses.world.cells[number * A], one.rooms[0].cells)
        assert_shared(houses)
        left += results[1].sum()
    assert sum(one.bumps for one in references) > 0 or A == 1
    assert sum(one.held_doors for one in references) > 0 or not houses.options.doors
    assert others_seen > 100 or A == 1
    assert sum(one.refreshes for one in references) > 0 or houses.options.most_objects > 6
    assert (left > H) == (houses.options.quota > 0)


def assert_shared(houses: Houses) -> None:
    """All rows of a house tell the same of what is not an agent's own."""
    for name in OF_ONE_HOUSE:
        array = getattr(houses.world, name)
        rows = array.reshape(-1, houses.options.agents, *array.shape[1:])
        assert (rows == rows[:, :1]).all(), name


@pytest.mark.parametrize("doors", [False, True])
def test_agents_start_on_cells_of_their_own_and_the_first_where_it_would_alone(doors):
    house = {"layout": "two_rooms", "size": 3, "objects": 4, "doors": doors}
    houses = begun(500, agents=4, **house)
    alone = begun(500, agents=1, **house)
    np.testing.assert_array_equal(houses.world.agent[::4], alone.world.agent)
    assert_shared(houses)
    np.testing.assert_array_equal(houses.world.episode[::4], np.arange(500))
    cells = np.take_along_axis(
        houses.world.cells.reshape(2000, -1, 3),
        (houses.world.agent[:, 0].astype(int) * houses.world.cells.shape[2])[:, None, None]
        + houses.world.agent[:, 1, None, None],
        axis=1,
    )[:, 0]
    assert (cells[:, WHAT] == FLOOR).all()
    assert (cells[:, SIZE] != DOORWAY).all()
    for agents in houses.world.agent.reshape(500, 4, 3).tolist():
        assert len({(row, column) for row, column, _ in agents}) == 4
    assert len(np.unique(houses.world.agent[3::4], axis=0)) == 2 * 9 * 4


@pytest.mark.parametrize("layout", ["single", "l_shape", "two_rooms", "four_rooms", "corridor"])
def test_four_agents_find_room_in_the_most_crowded_house(layout):
    most = HouseOptions(layout=layout, size=3, objects=1).most_objects
    houses = begun(200, layout=layout, size=3, objects=most, agents=4)
    assert houses.members.present.all()


def test_agents_see_each_other_and_where_the_other_looks():
    houses = one_house(
        (4, 3, NORTH), (2, 3, WEST), (4, 4, NORTH), (4, 1, EAST), shapes=8, colours=6
    )
    north, west, _, east = houses.look()
    other = 11  # one past eight shapes
    assert north[2, 2].tolist() == [other, 8, 4]  # two ahead, looking left
    assert north[4, 3].tolist() == [other, 9, 1]  # to the right, looking the same way
    assert north[4, 0].tolist() == [other, 10, 2]  # two to the left, looking right
    assert (north[..., WHAT] == other).sum() == 3
    assert west[4, 0].tolist() == [other, 7, 2]
    assert west[2, 0].tolist() == [other, 10, 3]  # looking at it
    assert (west[..., WHAT] == other).sum() == 2  # one is behind it
    assert east[2, 2].tolist() == [other, 7, 4]
    assert east[1, 2].tolist() == [other, 9, 4]


def test_an_agent_behind_a_wall_is_not_seen_and_hides_nothing():
    houses = one_house((5, 3, NORTH), (3, 3, NORTH), (1, 3, SOUTH))
    assert houses.look()[0][[0, 2], 2, COLOUR].tolist() == [9, 8]
    houses.world.cells[:, 2, 3, WHAT] = WALL
    assert houses.look()[0][[0, 2], 2, WHAT].tolist() == [0, 11]


def test_nobody_walks_through_anybody():
    houses = one_house((3, 3, EAST), (3, 4, WEST))
    before = houses.world.agent.copy()
    for _ in range(2):
        results = act(houses, FORWARD, FORWARD)
        np.testing.assert_array_equal(houses.world.agent, before)
        assert not results.rewards.any()


def test_who_comes_first_gets_the_cell_and_turns_rotate():
    for episode in range(2):
        for step in range(3):
            houses = one_house((3, 2, EAST), (3, 4, WEST))
            houses.world.episode[:], houses.world.elapsed[:] = episode, step
            act(houses, FORWARD, FORWARD)
            first = (episode + step) % 2
            assert houses.world.agent[first, 1] == 3
            assert houses.world.agent[1 - first, 1] in (2, 4)


def test_one_who_follows_moves_up_only_if_the_other_moved_first():
    for step in range(4):
        houses = one_house((3, 2, EAST), (3, 3, EAST))
        houses.world.elapsed[:] = step
        act(houses, FORWARD, FORWARD)
        assert houses.world.agent[:, 1].tolist() == [2 + step % 2, 4]


def doorway(houses: Houses) -> tuple[int, int]:
    cells = houses.world.cells[0]
    row, column = np.argwhere((cells[..., WHAT] <= WALL) & (cells[..., SIZE] == DOORWAY))[0]
    return int(row), int(column)


def test_a_door_is_the_same_for_all_and_nobody_is_shut_in_it():
    houses = begun(1, layout="two_rooms", size=4, objects=1, doors=True, agents=2)
    row, column = doorway(houses)
    houses.world.agent[:] = (row, column - 1, EAST), (row, column + 1, WEST)
    closed, is_open = [WALL, 0, DOORWAY], [FLOOR, 0, DOORWAY]

    def door() -> list:
        assert_shared(houses)
        return houses.world.cells[0, row, column].tolist()

    assert door() == closed
    act(houses, FORWARD, FORWARD)
    assert houses.world.agent[:, 1].tolist() == [column - 1, column + 1]
    act(houses, INTERACT, LEFT)
    assert door() == is_open
    act(houses, LEFT, RIGHT)
    act(houses, RIGHT, FORWARD)
    assert houses.world.agent[1, 1] == column
    assert houses.look()[0][3, 2, COLOUR] == 8
    act(houses, INTERACT, LEFT)
    assert door() == is_open
    assert houses.world.agent[0, 1] == column - 1
    act(houses, RIGHT, LEFT)
    act(houses, LEFT, FORWARD)
    assert houses.look()[0][3, 2].tolist() == is_open
    act(houses, INTERACT, INTERACT)
    assert door() == closed


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("competitive", [[1, 0, 0], [0, 0, 0]]), ("cooperative", [[1, 1, 1], [0, 0, 0]])],
)
def test_the_first_visit_pays_the_visitor_or_everybody(mode, expected):
    visitor, watcher = (1, 2, WEST), (4, 4, NORTH)
    houses = one_house(visitor, (2, 1, NORTH), watcher, mode=mode)
    houses.world.objects[:, 0, :2], houses.world.object_count[:] = (1, 1), 1
    assert act(houses, FORWARD, RIGHT, LEFT).rewards.tolist() == expected[0]
    # The only object was refreshed at once: somebody else's visit is a first one again.
    assert act(houses, LEFT, LEFT, LEFT).rewards.tolist() == expected[1]
    again = [expected[0][0] - (mode == "competitive"), 1, expected[0][2]]
    assert act(houses, LEFT, FORWARD, LEFT).rewards.tolist() == again


def test_one_object_pays_once_though_two_come_at_once():
    for step in range(2):
        houses = begun(1, size=5, objects=2, agents=2, mode="competitive")
        houses.world.elapsed[:] = step
        row, column = houses.world.objects[0, 0, :2].tolist()
        houses.world.agent[:] = (row, column - 1, EAST), (row, column + 1, WEST)
        rewards = act(houses, FORWARD, FORWARD).rewards.tolist()
        assert rewards == [float(step == 0), float(step == 1)]
        assert act(houses, FORWARD, FORWARD).rewards.tolist() == [0, 0]


def test_who_has_its_quota_leaves_and_the_others_go_on():
    houses = one_house((1, 2, WEST), (1, 3, WEST), mode="competitive", quota=1, episode_length=4)
    results = act(houses, FORWARD, FORWARD)
    assert results.rewards.tolist() == [1, 0]
    assert results.terminations.tolist() == [True, False]
    assert not results.truncations.any()
    assert results.views[0].any()
    assert results.views[1][3, 2].tolist() == [FLOOR, 0, 0]  # nobody before it any more
    results = act(houses, -1, FORWARD)
    assert houses.world.agent[:, 1].tolist() == [2, 2]
    assert not results.views[0].any()
    results = act(houses, FORWARD, LEFT)
    assert results.rewards.tolist() == [0, 0]
    results = act(houses, FORWARD, LEFT)
    assert results.terminations.tolist() == [False, False]
    assert results.truncations.tolist() == [False, True]


def test_a_quota_that_is_reached_with_the_last_step_terminates():
    houses = one_house((1, 2, WEST), (4, 4, WEST), mode="competitive", quota=1, episode_length=1)
    results = act(houses, FORWARD, FORWARD)
    assert results.terminations.tolist() == [True, False]
    assert results.truncations.tolist() == [False, True]


@pytest.mark.parametrize("actions", [[4, 0], [0, -1]])
def test_an_unknown_action_is_refused_and_changes_nothing(actions):
    houses = begun(1)
    before = [array.copy() for array in houses.world]
    with pytest.raises(ValueError, match="an action is not in 0"):
        act(houses, *actions)
    assert all((old == new).all() for old, new in zip(before, houses.world, strict=True))


def test_only_the_chosen_houses_begin_anew():
    houses = begun(3, mode="competitive", quota=1)
    houses.members.present[:], houses.members.paid[:], houses.world.elapsed[:] = False, 7, 9
    houses.begin(np.array([False, True, False]))
    assert houses.members.present.tolist() == [False, False, True, True, False, False]
    assert houses.members.paid.tolist() == [7, 7, 0, 0, 7, 7]
    assert houses.world.elapsed.tolist() == [9, 9, 0, 0, 9, 9]
