"""The house under PettingZoo's names."""

import subprocess
import sys

import pettingzoo
from pettingzoo.utils.wrappers import AssertOutOfBoundsWrapper, OrderEnforcingWrapper

from groundling.envs import groundling_house_v0
from groundling.envs.rooms.parallel import HouseEnv


def test_the_module_has_the_usual_names():
    house = groundling_house_v0.parallel_env(agents=3)
    assert isinstance(house, HouseEnv)
    assert str(house) == house.metadata["name"] == "groundling_house_v0"
    turns = groundling_house_v0.raw_env(agents=3)
    assert isinstance(turns.unwrapped, HouseEnv)
    checked = groundling_house_v0.env(agents=3)
    assert isinstance(checked, OrderEnforcingWrapper)
    assert isinstance(checked.env, AssertOutOfBoundsWrapper)
    assert checked.metadata["is_parallelizable"]


def test_pettingzoo_makes_it_by_its_id():
    for name in ("groundling/house-v0", "groundling/house_v0", "groundling/house"):
        house = pettingzoo.make("parallel", name, agents=3, max_cycles=7)
        assert isinstance(house, HouseEnv)
        assert house.rooms.agents == 3
        assert house.rooms.episode_length == 7
    turns = pettingzoo.make("aec", "groundling/house-v0", quota=2)
    assert turns.unwrapped.rooms.quota == 2


def test_only_who_asks_for_it_imports_pettingzoo():
    code = "import sys, groundling, groundling.envs; print('pettingzoo' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"
