import pytest

from groundling.envs.errors import UserError
from groundling.envs.rooms.house_options import HouseOptions
from groundling.envs.rooms.options import RoomsOptions


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"agents": 0}, "agents=0, expected an integer from 1 to 4"),
        ({"agents": 5}, "agents=5, expected an integer from 1 to 4"),
        ({"agents": True}, "agents=True, expected an integer from 1 to 4"),
        ({"mode": "hostile"}, "mode='hostile', expected one of cooperative, competitive"),
        ({"quota": -1}, "quota=-1, expected an integer, 0 for none"),
        ({"quota": 1.5}, "quota=1.5, expected an integer, 0 for none"),
        ({"stagger": True}, "stagger=True, expected False"),
        ({"task": "go_to", "episode_length": 500}, "task='go_to', expected explore"),
        ({"size": 2}, "size=2, expected an integer from 3 to 25"),
        ({"agent": 2}, "unknown option 'agent', expected one of layout, .*did you mean agents"),
    ],
)
def test_a_wrong_option_is_named_in_one_line(options, line):
    with pytest.raises(UserError, match=line) as refused:
        HouseOptions.from_keywords(options)
    assert "\n" not in str(refused.value)


def test_a_house_of_several_agents_has_all_options_of_rooms():
    options = HouseOptions.from_keywords({"layout": "corridor", "size": [3, 4], "agents": 4})
    assert isinstance(options, RoomsOptions)
    assert options.grid_shape == (8, 21)
    assert options.size == (3, 4)
