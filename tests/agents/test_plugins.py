"""Sensors of a user's own: loaded by name, tried once, and refused in one line."""

import sys

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from groundling.agents.actions import make_actions
from groundling.agents.cells_decoder import CellsDecoder
from groundling.agents.config import AgentConfig, PredictionConfig
from groundling.agents.cores import CoreState
from groundling.agents.decoders import ImageDecoder
from groundling.agents.plugins import load_named
from groundling.agents.prediction import Prediction
from groundling.agents.sensors import Cells, Sensors
from groundling.envs.errors import UserError

VIEW = spaces.Box(0, np.full((3, 3, 2), 4, np.uint8), dtype=np.uint8)
SPACE = spaces.Dict(
    {
        "view": VIEW,
        "screen": spaces.Box(0, 255, (8, 8, 3), np.uint8),
        "heading": spaces.Discrete(4, start=3),
        "pose": spaces.Box(2.0, 5.0, (3,), np.float32),
        "held": spaces.MultiBinary(2),
        "words": spaces.MultiDiscrete([5, 6], start=[1, 2]),
        "instruction": spaces.Box(0, 9, (4,), np.int64),
    }
)

SOURCE = '''
import torch
from torch import nn
from groundling.agents.sensors import Cells

class Sums(nn.Module):
    """Works with any space."""
    def __init__(self, space, config):
        super().__init__()
        self.dimensions = len(space.shape)
        self.size = 3
        self.layer = nn.Linear(1, 3)
        self.lowest = space.low.min() if hasattr(space, "low") else 0
    def forward(self, values):
        assert (values >= float(self.lowest)).all()
        flat = values.float().reshape(*values.shape[:values.dim() - self.dimensions], -1)
        return self.layer(flat.sum(-1, keepdim=True))

class Redder(Cells):
    """One of ours, a little different."""

class TooWide(Sums):
    def forward(self, values):
        return torch.cat([super().forward(values)] * 2, -1)

class Whole(Sums):
    def forward(self, values):
        return super().forward(values).long()

class Absent(Sums):
    def forward(self, values):
        return None

class Sizeless(nn.Module):
    def __init__(self, space, config):
        super().__init__()

def plain(space, config):
    return "no module"

number = 3
'''


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """A module of a user's, somewhere on Python's path."""
    (tmp_path / "plugins_of_a_user.py").write_text(SOURCE)
    (tmp_path / "needy_plugins.py").write_text("import a_module_that_is_nowhere")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "plugins_of_a_user"
    for name in ("plugins_of_a_user", "needy_plugins"):
        sys.modules.pop(name, None)


def config(**sensors):
    return AgentConfig(core_size=8, feature_size=6, sensor_size=7, embedding_size=5,
                       sensors=sensors)  # fmt: skip


def seen(*leading):
    seeded = spaces.Dict(SPACE.spaces)
    seeded.seed(0)
    return {
        name: torch.from_numpy(
            np.stack([np.asarray(space.sample()) for _ in range(int(np.prod(leading)))])
        ).reshape(*leading, *space.shape)
        for name, space in seeded.items()
    }


@pytest.mark.parametrize("name", list(SPACE))
def test_a_sensor_of_ones_own_reads_any_part(plugins, name):
    torch.manual_seed(0)
    sensors = Sensors(SPACE, config(**{name: f"{plugins}:Sums"}))
    assert type(sensors.leaf(name)).__name__ == "Sums"
    observation = seen(4, 2)
    features = sensors(observation)
    assert features.shape == (4, 2, 6)
    features.sum().backward()
    assert sensors.leaf(name).layer.weight.grad is not None


def test_the_other_parts_are_read_as_ever(plugins):
    sensors = Sensors(SPACE, config(pose=f"{plugins}:Sums"))
    usual = Sensors(SPACE, config())
    for name in SPACE:
        assert (type(sensors.leaf(name)) is type(usual.leaf(name))) == (name != "pose")


@pytest.mark.parametrize("loss", ["simcore", "cpc"])
@pytest.mark.parametrize("name", ["view", "screen", "heading", "pose", "held", "words"])
def test_what_a_sensor_of_ones_own_reads_is_predicted_too(plugins, name, loss):
    agent = AgentConfig(
        core_size=8, feature_size=6, sensor_size=7, embedding_size=5,
        prediction=PredictionConfig(loss=loss, present_weight=0.3),
        sensors={name: f"{plugins}:Sums"},
    )  # fmt: skip
    sensors = Sensors(SPACE, agent)
    model = Prediction(SPACE, sensors, make_actions(spaces.Discrete(3)), agent)
    if loss == "simcore":
        # As our own sensor would have it, and untied: there are no embeddings of ours.
        usual = Prediction(SPACE, Sensors(SPACE, config()), make_actions(spaces.Discrete(3)), agent)
        decoder = model.head.decoder(name)
        assert type(decoder) is type(usual.head.decoder(name))
        assert not isinstance(decoder, CellsDecoder) or decoder.tables is not None
        assert (type(decoder) is ImageDecoder) == (name == "screen")
    observation = seen(5, 2)
    core = CoreState(torch.randn(5, 2, 8), torch.randn(5, 2, 8))
    output = model(
        core, sensors(observation), observation, torch.zeros(5, 2, dtype=torch.bool),
        torch.zeros(4, 2, dtype=torch.int64), sensors, limit=2, generator=torch.Generator(),
    )  # fmt: skip
    assert torch.isfinite(output.future + output.present)


def test_a_sensor_derived_from_ours_names_the_categories_that_are_predicted(plugins):
    agent = config(view=f"{plugins}:Redder")
    sensors = Sensors(SPACE, agent)
    assert isinstance(sensors.leaf("view"), Cells)
    assert sensors(seen(2)).shape == (2, 6)
    head = Prediction(
        SPACE, sensors, make_actions(spaces.Discrete(3)),
        AgentConfig(core_size=8, feature_size=6, sensor_size=7, embedding_size=5,
                    prediction=PredictionConfig(loss="simcore")),
    ).head  # fmt: skip
    assert head.decoder("view").tables is None


def test_a_trial_draws_no_random_number(plugins):
    torch.manual_seed(0)
    Sensors(SPACE, config(pose=f"{plugins}:Sums"))
    one = torch.rand(1)
    torch.manual_seed(0)
    Sensors(SPACE, config(pose=f"{plugins}:Sums"))
    assert torch.equal(one, torch.rand(1))


@pytest.mark.parametrize(
    ("sensors", "said"),
    [
        ({"veiw": "{}:Sums"}, "agent.sensors has 'veiw'; did you mean view?"),
        ({"smell": "{}:Sums"}, "agent.sensors has 'smell'; expected one of heading, held"),
        ({"view": "Sums"}, "agent.sensors view names 'Sums'; expected module:name"),
        ({"view": "{}:"}, "expected module:name"),
        ({"view": "no_such_module:Sums"}, "there is no module 'no_such_module'; expected an inst"),
        ({"view": "{}.more:Sums"}, "there is no module 'plugins_of_a_user.more'"),
        ({"view": "{}:Summs"}, "plugins_of_a_user has no 'Summs'; did you mean Sums?"),
        ({"view": "{}:number"}, "which is 3; expected a class"),
        ({"view": "{}:plain"}, "plugins_of_a_user:plain makes a str; expected a torch.nn.Module"),
        ({"view": "{}:Sizeless"}, "has size None; expected the number of outputs"),
        ({"view": "{}:TooWide"}, r"makes torch.float32 (2, 3, 6) of (2, 3, 3, 3, 2); expected f"),
        ({"view": "{}:Whole"}, r"makes torch.int64 (2, 3, 3) of"),
        ({"view": "{}:Absent"}, r"makes NoneType of (2, 3, 3, 3, 2); expected floats (2, 3, 3)"),
    ],
)
def test_mistakes_are_told_in_one_line(plugins, sensors, said):
    named = {name: reference.format(plugins) for name, reference in sensors.items()}
    with pytest.raises(UserError) as error:
        Sensors(SPACE, config(**named))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_a_module_lacks_itself_keeps_its_traceback(plugins):
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_nowhere"):
        load_named("agent.sensors view", "needy_plugins:Sums")


def test_what_is_loaded_is_what_stands_there():
    assert load_named("field", "torch.nn:Linear") is nn.Linear
