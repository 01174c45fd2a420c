import importlib
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

import groundling.envs as envs
from groundling.envs.adapters import make_vector
from groundling.envs.digits.options import DIGITS
from groundling.envs.errors import UserError
from groundling.envs.registration import find, plug_ins, register_environments
from groundling.envs.rooms.options import TASKS

EXPLORE = "Groundling/Explore-v0"


def test_every_public_name_is_there():
    for name in envs.__all__:
        assert getattr(envs, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Rooms'"):
        envs.Rooms  # noqa: B018


def test_importing_registers_and_loads_no_compiler():
    code = (
        "import sys, groundling.envs, gymnasium;"
        f"assert {EXPLORE!r} in gymnasium.registry;"
        "heavy = {'numba', 'torch', 'PIL', 'sklearn', 'scipy'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "[]"


def test_gymnasium_can_be_told_where_to_look():
    code = f"import gymnasium; print(gymnasium.make('groundling.envs:{EXPLORE}').reset(seed=0)[1])"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "{}"


def test_registering_twice_is_harmless():
    register_environments()
    for name, task in TASKS.items():
        spec = gymnasium.spec(name)
        assert spec.max_episode_steps is None
        assert gymnasium.make(name).unwrapped.rooms.task == task
    assert gymnasium.spec(DIGITS).max_episode_steps is None


MODULE = """
import gymnasium
from gymnasium import spaces

class Still(gymnasium.Env):
    observation_space = action_space = spaces.Discrete(2)
    def __init__(self, length=5, render_mode=None):
        self.length = length
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = self.length
        return 0, {}
    def step(self, action):
        self.left -= 1
        return 0, 1.0, False, self.left == 0, {}

class Pair:
    possible_agents = ["ann", "bob"]
    space = spaces.Discrete(2)
    metadata = {}
    def observation_space(self, agent):
        return self.space
    action_space = observation_space
    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        return {agent: 0 for agent in self.agents}, {}
    def step(self, actions):
        nothing = dict.fromkeys(self.agents, False)
        return dict.fromkeys(self.agents, 0), dict.fromkeys(self.agents, 1), nothing, nothing, {}

number = 3

def parallel_env(length=5):
    return Pair()

def register():
    gymnasium.register("Plugged/Still-v0", entry_point=Still)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of somebody's, beside an installed distribution that says where it is."""
    (tmp_path / "somebodys.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    plug_ins.cache_clear()
    yield tmp_path
    plug_ins.cache_clear()
    sys.modules.pop("somebodys", None)
    gymnasium.registry.pop("Plugged/Still-v0", None)


def install(directory, value):
    about = directory / "somebodys-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[groundling.envs]\nstill = {value}\n")


def test_a_class_or_a_function_of_a_module_is_an_environment(module):
    environment = make_vector("somebodys:Still", 3, {"length": 2})
    environment.reset(seed=0)
    assert [environment.step(np.zeros(3, int))[3].tolist() for _ in range(2)] == [
        [False] * 3,
        [True] * 3,
    ]
    assert environment.spec.id == "somebodys:Still"
    environment = make_vector("somebodys:parallel_env", 3, {})
    assert environment.num_envs == 4
    environment.reset(seed=0)
    environment.step(np.zeros(4, int))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("somebodys:register", {}, "env.id somebodys:register makes a NoneType; expected a Gymn"),
        ("somebodys:Stil", {}, "env.id 'somebodys:Stil' is unknown"),
        ("somebodys:number", {}, "env.id 'somebodys:number' is unknown"),
        ("somebodys.more:Still", {}, "No module named 'somebodys.more'"),
        ("somebodys:Still", {"size": 3}, "env.options does not fit somebodys:Still: .*'size'"),
        ("pettingzoo:classic/rsp_v2", {}, r"did you mean pettingzoo:classic/rps-v2\?"),
    ],
)
def test_what_is_no_environment_is_refused_in_a_line(module, name, options, expected):
    with pytest.raises(UserError, match=expected):
        make_vector(name, 1, options)


def test_a_module_that_cannot_be_imported_is_named_with_its_fault(module):
    (module / "somebodys.py").write_text("import nowhere_to_be_found")
    with pytest.raises(UserError, match=r"raised ModuleNotFoundError in import: .*somebodys.py:1"):
        find("somebodys:Still")
    (module / "somebodys.py").write_text("1 / 0")
    importlib.invalidate_caches()
    with pytest.raises(UserError, match=r"somebodys:Still raised ZeroDivisionError in import"):
        find("somebodys:Still")


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "minigrid", None)
    with pytest.raises(UserError, match=r'pip install "groundling\[minigrid\]"'):
        find("minigrid:Anything-v0")


@pytest.mark.parametrize("name", ["classic/rps_v2", "classic/rps-v2"])
def test_an_id_of_pettingzoos_is_found_however_it_is_written(name):
    assert find(f"pettingzoo:{name}").args == ("parallel", name)


def test_what_a_module_registers_with_pettingzoo_is_found(module):
    with (module / "somebodys.py").open("a") as file:
        file.write("import pettingzoo\n")
        file.write("pettingzoo.register('parallel', 'somebodys/pair-v0', Pair)\n")
    try:
        # PettingZoo warns of what has not its base class.
        with pytest.warns(UserWarning, match="was expected to be an instance of ParallelEnv"):
            environment = make_vector("somebodys:somebodys/pair-v0", 4, {})
        environment.reset(seed=0)
        assert environment.step(np.zeros(4, int))[1].tolist() == [1.0] * 4
    finally:
        sys.modules["pettingzoo"].parallel_registry.pop("somebodys/pair-v0")


@pytest.mark.parametrize("value", ["somebodys:register", "somebodys_registering"])
def test_an_unknown_id_is_looked_for_among_the_installed_plug_ins(module, value):
    (module / "somebodys_registering.py").write_text("import somebodys\nsomebodys.register()\n")
    install(module, value)
    try:
        assert find("Plugged/Still-v0").id == "Plugged/Still-v0"
        assert [(one.name, one.ids) for one in plug_ins()] == [("still", ("Plugged/Still-v0",))]
    finally:
        sys.modules.pop("somebodys_registering", None)


def test_a_plug_in_that_cannot_be_loaded_is_told_beside_the_unknown_id(module):
    install(module, "somebodys:gone")
    with pytest.raises(UserError, match=r"'Plugged/Still-v0' is unknown.*; plug-in still raised"):
        find("Plugged/Still-v0")
    assert plug_ins()[0].fault.startswith("plug-in still raised AttributeError")
    assert find("CartPole-v1").id == "CartPole-v1"
