"""Instructions: words in order, a gate over the cells, and nothing to be predicted."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.nn import functional as F
from torch.testing import assert_close

from groundling.agents.actions import make_actions
from groundling.agents.config import AgentConfig, PredictionConfig
from groundling.agents.cores import CoreState
from groundling.agents.prediction import Prediction
from groundling.agents.sensors import Cells, Instruction, Sensors, Tokens, leaf_sensor
from groundling.envs.errors import UserError

CONFIG = AgentConfig(core_size=8, feature_size=6, sensor_size=16, embedding_size=8)
SIDE, COLOURS, WORDS = 3, 4, 9
VIEW = spaces.Box(0, np.full((SIDE, SIDE, 2), COLOURS, np.uint8), dtype=np.uint8)
SAID = spaces.Box(0, WORDS, (4,), np.int64)
SPACE = spaces.Dict({"instruction": SAID, "view": VIEW})


def made(kind, *arguments, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(*arguments)


def features_of(tokens, sensor=None):
    with torch.no_grad():
        return (sensor or made(Instruction, SAID, CONFIG))(torch.tensor(tokens))


def test_a_list_of_tokens_called_instruction_is_read_as_words():
    assert type(leaf_sensor(SAID, CONFIG, "instruction")) is Instruction
    assert type(leaf_sensor(SAID, CONFIG, "agent/instruction")) is Instruction
    assert type(leaf_sensor(SAID, CONFIG, "instruction/words")) is Tokens
    assert type(leaf_sensor(SAID, CONFIG)) is Tokens
    assert type(leaf_sensor(spaces.Discrete(4), CONFIG, "instruction")) is not Instruction
    many = spaces.Box(0, 5_000, (4,), np.int64)
    assert leaf_sensor(many, CONFIG, "instruction").words.num_embeddings == 5_001


@pytest.mark.parametrize(("low", "high"), [(-1, 9), (0, 70_000)])
def test_an_instruction_of_unknown_words_is_refused(low, high):
    with pytest.raises(UserError, match=f"holds {low} to {high}; expected words of 0"):
        leaf_sensor(spaces.Box(low, high, (4,), np.int64), CONFIG, "instruction")


def test_the_order_of_words_matters_and_their_number_does_not_outweigh_them():
    sensor = made(Instruction, SAID, CONFIG)
    one, other = features_of([[1, 2, 3, 0], [3, 2, 1, 0]], sensor)
    assert not torch.allclose(one, other)
    with torch.no_grad():
        sensor.places.zero_()
    once, repeated, other = features_of([[1, 0, 0, 0], [1, 1, 1, 1], [2, 0, 0, 0]], sensor)
    assert_close(once, repeated)
    assert not torch.allclose(once, other)


def test_padding_says_nothing():
    sensor = made(Instruction, SAID, CONFIG)
    with torch.no_grad():
        for layer in (sensor.token, sensor.phrase):
            layer[0].bias.fill_(0.5)
    assert not features_of([0, 0, 0, 0], sensor).any()
    before = features_of([5, 7, 0, 0], sensor)
    with torch.no_grad():
        sensor.places[2:] += 1.0
        sensor.words.weight[0] += 1.0
    assert torch.equal(features_of([5, 7, 0, 0], sensor), before)


def test_leading_dimensions_are_free():
    sensor = made(Instruction, SAID, CONFIG)
    tokens = torch.randint(WORDS + 1, (5, 3, 4), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = sensor(tokens)
        assert features.shape == (5, 3, sensor.size)
        assert_close(sensor(tokens[2, 1]), features[2, 1])


def test_one_gate_multiplies_every_cell_and_leaves_it_as_it_is_where_nothing_is_said():
    cells = made(Cells, VIEW, CONFIG, 16)
    view = torch.randint(
        COLOURS + 1, (2, SIDE, SIDE, 2), generator=torch.Generator().manual_seed(0)
    )
    said = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        gate = 1 + said @ cells.gate.weight.t()
        by_hand = cells.embed(view) * gate[:, None, None]
        assert_close(cells(view, said), cells.perceptron(by_hand.flatten(1)))
        plain = cells.perceptron(cells.embed(view).flatten(1))
        assert torch.equal(cells(view, torch.zeros(2, 16)), plain)


def test_without_an_instruction_there_is_no_gate():
    sensors = made(Sensors, spaces.Dict({"view": VIEW}), CONFIG)
    assert sensors.leaf("view").gate is None
    assert sensors.instructions == ()


def seen(number, generator):
    """Views of three things of different colours, and which of them the instruction names."""
    cells = torch.zeros(number, SIDE * SIDE, 2, dtype=torch.uint8)
    places = torch.rand(number, SIDE * SIDE, generator=generator).argsort(1)[:, :3]
    colours = torch.rand(number, COLOURS, generator=generator).argsort(1)[:, :3] + 1
    row = torch.arange(number)[:, None]
    cells[row, places, 0] = 1
    cells[row, places, 1] = colours.to(torch.uint8)
    said = torch.zeros(number, 4, dtype=torch.int64)
    said[:, 0], said[:, 1] = 9, colours[:, 0]
    view = cells.view(number, SIDE, SIDE, 2)
    return {"instruction": said, "view": view}, places[:, 0]


def test_an_instruction_selects_among_the_things_seen():
    """Where is the thing of that colour? Without a gate a guess among the three is soon the best
    there is, and for long."""
    generator = torch.Generator().manual_seed(0)
    config = AgentConfig(sensor_size=64, feature_size=64, embedding_size=8)
    sensors = made(Sensors, SPACE, config)
    where = made(torch.nn.Linear, 64, SIDE * SIDE)
    optimiser = torch.optim.Adam([*sensors.parameters(), *where.parameters()], lr=3e-3)
    for _ in range(150):
        observation, place = seen(128, generator)
        loss = F.cross_entropy(where(sensors(observation)), place)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        observation, place = seen(500, generator)
        found = where(sensors(observation)).argmax(-1) == place
    assert found.float().mean() > 0.9


T, B = 6, 3


def predicted(loss, tokens, space=SPACE, **switches):
    """A prediction of one and the same walk under some instruction, [T + 1, B, 4]."""
    switches = {"starts": 3, "horizons": 3, "present_weight": 0.3, "first_limit": 4} | switches
    prediction = PredictionConfig(loss=loss, **switches)
    config = AgentConfig(
        core_size=8, feature_size=6, sensor_size=16, embedding_size=8, prediction=prediction
    )
    sensors = made(Sensors, space, config)
    model = made(Prediction, space, sensors, make_actions(spaces.Discrete(3)), config)
    generator = torch.Generator().manual_seed(0)
    core = CoreState(*(torch.randn(T + 1, B, 8, generator=generator) for _ in range(2)))
    view = torch.randint(
        COLOURS + 1, (T + 1, B, SIDE, SIDE, 2), generator=generator, dtype=torch.uint8
    )
    observation = {"instruction": tokens, "view": view}
    output = model(
        core,
        sensors(observation),
        observation,
        torch.zeros(T + 1, B, dtype=torch.bool),
        torch.randint(3, (T, B), generator=generator),
        sensors,
        limit=4,
        generator=generator,
    )
    return output, sensors


def instructions(seed):
    """Another one for each environment, the same at every row."""
    said = torch.randint(1, WORDS + 1, (B, 4), generator=torch.Generator().manual_seed(seed))
    return said.expand(T + 1, B, 4)


@pytest.mark.parametrize(
    ("loss", "contrast"), [("simcore", "binary"), ("cpc", "binary"), ("cpc", "infonce")]
)
def test_what_is_to_be_predicted_does_not_depend_on_the_instruction(loss, contrast):
    one, other = (predicted(loss, instructions(s), contrast=contrast)[0] for s in (0, 1))
    assert one.present == other.present > 0
    assert one.future == other.future > 0


@pytest.mark.parametrize("loss", ["simcore", "cpc"])
def test_a_prediction_teaches_how_views_are_read_and_not_how_instructions_are(loss):
    output, sensors = predicted(loss, instructions(0))
    (output.present + output.future).backward()
    assert sensors.leaf("view").embeddings[0].weight.grad.any()
    for weight in sensors.leaf("instruction").parameters():
        assert weight.grad is None or not weight.grad.any()


def test_candidates_without_a_gradient_into_the_agent_have_none():
    output, sensors = predicted("cpc", instructions(0), reaches_agent=False)
    (output.present + output.future).backward()
    assert all(weight.grad is None for weight in sensors.parameters())
