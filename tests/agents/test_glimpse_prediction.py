"""The simulator of an agent with attention: told where it looks, it predicts what is seen there."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.testing import assert_close

from groundling.agents import prediction as prediction_module
from groundling.agents.agent import Agent, Rows
from groundling.agents.cells_decoder import CellsDecoder, GlimpseDecoder
from groundling.agents.config import AgentConfig, GlimpseConfig, PredictionConfig
from groundling.agents.decoders import ImageDecoder
from groundling.agents.simcore import SimCoreHead
from groundling.envs.errors import UserError

T, B, LIMIT = 7, 3, 3
HIGH = np.zeros((6, 5, 2), np.uint8) + np.array([5, 3], np.uint8)
CELLS = spaces.Box(0, HIGH, dtype=np.uint8)
IMAGE = spaces.Box(0, 255, (10, 9, 2), np.uint8)
KINDS = [
    pytest.param(attention, space, id=f"{attention}-{name}")
    for attention in ("tile", "foveal")
    for name, space in (("cells", CELLS), ("image", IMAGE))
]
ALL_KINDS = pytest.mark.parametrize(("attention", "space"), KINDS)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class World:
    """An unroll of random views seen through random places, by an agent that predicts."""

    def __init__(self, attention, space, *, loss="simcore", **switches):
        prediction = {"loss": loss, "present_weight": 0.3, "starts": 3, "horizons": 3}
        config = AgentConfig(
            core_size=8,
            feature_size=6,
            sensor_size=17,
            embedding_size=5,
            attention=attention,
            glimpse=GlimpseConfig(size=2, scales=2),
            prediction=PredictionConfig(**(prediction | switches)),
        )
        self.agent = Agent(space, spaces.Discrete(3), config, seed=0)
        random = np.random.default_rng(0)
        shape = (T + 1, B, *space.shape)
        whole = random.integers(0, space.high.astype(int) + 1, shape).astype(np.uint8)
        self.whole = torch.from_numpy(whole)
        is_first = torch.zeros(T + 1, B, dtype=torch.bool)
        is_first[4, 1] = is_first[2, 2] = True
        rows = Rows(
            {"observation": self.whole},
            is_first,
            torch.randint(3, (T + 1, B), generator=seeded(1)),
            torch.randn(T + 1, B, generator=seeded(2)),
        )
        where = torch.rand(T + 1, B, 2, generator=seeded(3)) * 2.0 - 1.0
        self.rows = self.agent.see(rows, where)
        self.output = self.agent.unroll(self.rows, self.agent.initial_state(B))

    def predict(self, location=None):
        return self.agent.prediction(
            self.output.core,
            self.output.features,
            self.rows.observation,
            self.rows.is_first,
            self.rows.previous_action[1:],
            self.agent.sensors,
            location=self.rows.location if location is None else location,
            limit=LIMIT,
            generator=seeded(5),
        )


@pytest.fixture
def recorded(monkeypatch):
    """Plan, and the states and targets that a head was handed."""
    found = {}
    draw, generate = prediction_module.plan_overshoot, SimCoreHead.forward

    def plan(*arguments, **keywords):
        found["plan"] = draw(*arguments, **keywords)
        return found["plan"]

    def forward(head, state, target, sensors, weights, location):
        found["states"], found["seen"] = state.detach(), target["observation"]
        found["location"] = location
        return generate(head, state, target, sensors, weights, location)

    monkeypatch.setattr(prediction_module, "plan_overshoot", plan)
    monkeypatch.setattr(SimCoreHead, "forward", forward)
    return found


@ALL_KINDS
@pytest.mark.parametrize("privileged", [False, True])
def test_what_is_predicted_of_a_row_is_its_glimpse_or_with_privilege_its_whole_view(
    recorded, attention, space, privileged
):
    world = World(attention, space, privileged=privileged)
    found = world.predict()
    assert torch.isfinite(found.present)
    assert torch.isfinite(found.future)
    seen = world.whole if privileged else world.rows.observation["observation"]
    rows = torch.cat([torch.arange(T + 1), recorded["plan"].targets.flatten()])
    # A glimpse is generated for where it was taken, not for where the last one was.
    assert_close(recorded["location"], world.rows.location[rows].flatten(0, 1))
    assert torch.equal(recorded["seen"], seen[rows].flatten(0, 1))
    decoder = world.agent.prediction.head.decoder("observation")
    if space is IMAGE:
        assert type(decoder) is ImageDecoder
        assert (decoder.height, decoder.width, decoder.channels) == tuple(seen.shape[2:])
    else:
        assert type(decoder) is (CellsDecoder if privileged else GlimpseDecoder)
        assert decoder.cells == (30 if privileged else world.agent.attention.fovea.scales * 4)


@ALL_KINDS
def test_the_simulator_is_told_at_each_step_where_the_next_row_is_read_and_no_further(
    recorded, attention, space
):
    """What was decided in row t is where row t + 1 was read."""
    world = World(attention, space)
    world.predict()
    plan, before = recorded["plan"], recorded["states"]
    here = (T + 1) * B
    touched = 0
    for row in range(T + 1):
        location = world.rows.location.clone()
        location[row, 1] = -location[row, 1] + 0.1
        world.predict(location)
        changed = (recorded["states"] != before).any(-1)
        assert not changed[:here].any()
        changed = changed[here:].view(*plan.targets.shape, B)
        fed = (plan.starts < row) & (row <= plan.targets)
        assert torch.equal(changed[..., 1], fed)
        assert not changed[..., [0, 2]].any()
        touched += int(fed.sum())
    assert touched > 5


@ALL_KINDS
def test_a_prediction_teaches_core_and_glimpse_network_and_not_where_to_look(attention, space):
    world = World(attention, space)
    found = world.predict()
    weights = dict(world.agent.named_parameters())
    for loss in (found.present, found.future):
        grads = torch.autograd.grad(
            loss, list(weights.values()), retain_graph=True, allow_unused=True
        )
        reached = {
            name
            for name, grad in zip(weights, grads, strict=True)
            if grad is not None and (grad != 0).any()
        }
        assert not any(name.startswith("attention.") for name in reached)
        assert {
            "core.from_hidden.weight",
            "sensors.where.0.weight",
            "sensors.mix.0.weight",
        } <= reached
        assert ("prediction.simulator.from_location.weight" in reached) == (loss is found.future)


@ALL_KINDS
@pytest.mark.parametrize("contrast", ["binary", "infonce"])
def test_what_is_told_from_others_does_not_hold_where_the_agent_looked(
    monkeypatch, attention, space, contrast
):
    world = World(attention, space, loss="cpc", contrast=contrast)
    keys = []
    working = prediction_module.candidates

    def candidates(*arguments):
        keys.append(working(*arguments))
        return keys[-1]

    monkeypatch.setattr(prediction_module, "candidates", candidates)
    found = world.predict()
    assert torch.isfinite(found.present)
    assert torch.isfinite(found.future)
    world.predict(world.rows.location.roll(1, 0))
    assert torch.equal(keys[0].keys, keys[1].keys)
    silent = world.agent.sensors(world.rows.observation, None)
    assert_close(keys[0].keys[keys[0].look], world.agent.prediction.head.key(silent.flatten(0, 1)))
    with_place = world.agent.sensors(world.rows.observation, world.rows.location)
    assert not torch.allclose(silent, with_place)


def test_whole_views_cannot_be_told_apart_by_who_has_no_sensor_for_them():
    with pytest.raises(UserError, match=r"agent.prediction.privileged is True; expected False"):
        World("tile", CELLS, loss="cpc", privileged=True)
